#include "server/repository/session_partial.h"

#include <errno.h>
#include <string.h>

#define WORKERS_FEW 2             // then the caller tags
#define TAG_AT_ONCE (64 * HF_KIB) // of bytes that are still in the nearer cache

/* The assembler's state of one open file. */
struct file_work {
    struct hf_leaf leaf;        // being built
    bool shared;                // so far exactly the parent's, page for page
    struct parent_leaf *parent; // of this stretch, or NULL
    size_t cursor;              // in the parent's extents: where `cursor_page` lies
    uint32_t cursor_page;       // first page of that extent
    uint8_t *tags;              // of the leaf so far
    size_t tags_room;           // pages
    struct hf_file_digest *digest;
    size_t cached_count, cached_room;
    struct hf_cached_leaf *cached; // for the tag cache
};

static void *worker_main(void *context);
static void *assembler_main(void *context);
static void tag_span(struct hf_session *session, struct hf_slab_worker *worker, struct span *span);
static void tag_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count);
static void tag_bytes(struct hf_session *session, struct span *span, uint32_t from, size_t length);
static void settle_span(struct span *span, struct hf_slab_worker *worker);
static bool take_parents_tags(struct hf_session *session, struct hf_slab_worker *worker, struct span *span,
                              uint32_t from, uint32_t count, struct hf_error *err);
static bool is_zero(const uint8_t *page, size_t length);
static bool assemble(struct hf_session *session, struct span *span, struct hf_error *err);
static bool begin_work(struct hf_session_file *file, struct hf_error *err);
static void end_work(struct hf_session_file *file);
static bool assemble_pages(struct hf_session *session, struct span *span, struct hf_error *err);
static bool keep_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count,
                       struct hf_error *err);
static bool keep_extent(struct hf_session *session, struct span *span, uint32_t from, uint32_t count,
                        const struct hf_extent *extent, uint32_t skip, struct hf_error *err);
static bool is_thin(struct hf_session *session, const struct hf_id *pack, uint32_t slab, uint32_t pages);
static bool store_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count,
                        struct hf_error *err);
static bool add_tags(struct file_work *work, const uint8_t *tags, uint32_t first, uint32_t count, struct hf_error *err);
static bool finish_leaf(struct hf_session *session, struct hf_session_file *file, struct hf_error *err);
static bool cache_leaf(struct hf_session *session, struct file_work *work, const struct hf_object_ref *ref,
                       struct hf_error *err);
static bool count_leaf(struct hf_session *session, const struct hf_leaf *leaf, struct hf_error *err);
static bool finish_file(struct hf_session *session, struct hf_session_file *file, struct hf_error *err);
static void give_back_span(struct hf_session *session, struct span *span);

bool
session_start_threads(struct hf_session *session, struct hf_error *err)
{
    void *(*mains[])(void *) = {assembler_main, session_writer_main};
    for (unsigned i = 0; i < session->options.workers + 2; i++) {
        const int failure = pthread_create(&session->threads[i], NULL, i < 2 ? mains[i] : worker_main, session);
        if (failure != 0) {
            errno = failure;
            return hf_fail_errno(err, HF_ERR_NONE, "could not start a worker thread");
        }
        session->thread_count++;
    }
    return true;
}

void
session_stop_threads(struct hf_session *session)
{
    pthread_mutex_lock(&session->lock);
    session->stopping = true;
    pthread_cond_broadcast(&session->work_ready);
    pthread_cond_broadcast(&session->span_done);
    pthread_cond_broadcast(&session->slab_done);
    pthread_cond_broadcast(&session->room);
    pthread_mutex_unlock(&session->lock);
    for (size_t i = 0; i < session->thread_count; i++)
        pthread_join(session->threads[i], NULL);
    session->thread_count = 0;

    for (size_t i = 0; i < session->span_count; i++)
        session_release_leaf(&session->all_spans[i].parent);
    for (size_t i = 0; i < session->file_count; i++)
        end_work(session->files[i]);
}

struct span *
session_take_span(struct hf_session *session)
{
    pthread_mutex_lock(&session->lock);
    while (session->free_spans == NULL && !session->failed && !session->stopping)
        pthread_cond_wait(&session->room, &session->lock);
    struct span *span = session->failed || session->stopping ? NULL : session->free_spans;
    if (span != NULL) {
        session->free_spans = span->next_free;
        span->next_in_order = span->next_work = NULL;
        span->done = span->last = span->keeps = span->settled = false;
        span->tagged = 0;
        memset(span->kept, false, sizeof span->kept);
        span->length = 0;
        span->pages = 0;
    }
    pthread_mutex_unlock(&session->lock);
    return span;
}

void
session_submit_span(struct hf_session *session, struct span *span)
{
    const size_t page = (size_t)1 << span->file->page_log2;
    span->pages = (uint32_t)((span->length + page - 1) >> span->file->page_log2);
    pthread_mutex_lock(&session->lock);
    if (session->last_span == NULL)
        session->first_span = span;
    else
        session->last_span->next_in_order = span;
    session->last_span = span;
    session->spans_in_flight++;
    if (span->tagged == span->pages) {
        span->done = true;
        if (session->first_span == span)
            pthread_cond_signal(&session->span_done);
        pthread_mutex_unlock(&session->lock);
        return;
    }
    if (session->last_span_work == NULL)
        session->span_work = span;
    else
        session->last_span_work->next_work = span;
    session->last_span_work = span;
    pthread_cond_signal(&session->work_ready);
    pthread_mutex_unlock(&session->lock);
}

bool
session_keep_unfinished(struct hf_session *session, struct hf_session_file *file, struct hf_error *err)
{
    struct file_work *work = file->work;
    if (work->leaf.pages > 0 && !finish_leaf(session, file, err))
        return false;
    const struct hf_cached_file cached = {.path = file->path,
                                          .page_log2 = file->page_log2,
                                          .size = file->size,
                                          .leaf_count = work->cached_count,
                                          .leaves = work->cached};
    struct hf_error why;
    if (session->cache != NULL && !hf_tag_cache_writer_file(session->cache, &cached, &why))
        session_drop_cache(session, &why);
    return true;
}

bool
session_finished_leaves(const struct hf_session_file *file, struct hf_cached_file *ret)
{
    const struct file_work *work = file->work;
    if (work == NULL || work->cached_count == 0)
        return false;
    *ret = (struct hf_cached_file){.path = file->path,
                                   .page_log2 = file->page_log2,
                                   .size = (uint64_t)work->cached_count * HF_LEAF_PAGES << file->page_log2,
                                   .leaf_count = work->cached_count,
                                   .leaves = work->cached};
    return true;
}

/* Sealing goes first: it frees memory that the assembler waits for. */
static void *
worker_main(void *context)
{
    struct hf_session *session = context;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    struct hf_error err;
    if (!hf_slab_worker_new(session->options.zstd_level, &worker, &err)) {
        session_fail(session, &err);
        return NULL;
    }

    pthread_mutex_lock(&session->lock);
    while (!session->stopping && !session->failed) {
        struct slab_job *job = session->slab_work;
        struct span *span = session->span_work;
        if (job != NULL) {
            session->slab_work = job->next_work;
            if (session->slab_work == NULL)
                session->last_slab_work = NULL;
            pthread_mutex_unlock(&session->lock);
            session_seal_job(session, worker, job);
            pthread_mutex_lock(&session->lock);
            job->done = true;
            if (session->first_slab == job)
                pthread_cond_signal(&session->slab_done);
        } else if (span != NULL) {
            session->span_work = span->next_work;
            if (session->span_work == NULL)
                session->last_span_work = NULL;
            pthread_mutex_unlock(&session->lock);
            tag_span(session, worker, span);
            pthread_mutex_lock(&session->lock);
            span->done = true;
            if (session->first_span == span)
                pthread_cond_signal(&session->span_done);
        } else {
            pthread_cond_wait(&session->work_ready, &session->lock);
        }
    }
    pthread_mutex_unlock(&session->lock);
    return NULL;
}

static void *
assembler_main(void *context)
{
    struct hf_session *session = context;
    struct hf_error err;
    pthread_mutex_lock(&session->lock);
    while (!session->stopping && !session->failed) {
        struct span *span = session->first_span;
        if (span == NULL || !span->done) {
            pthread_cond_wait(&session->span_done, &session->lock);
            continue;
        }
        session->first_span = span->next_in_order;
        if (session->first_span == NULL)
            session->last_span = NULL;
        pthread_mutex_unlock(&session->lock);
        if (!assemble(session, span, &err))
            session_fail(session, &err);
        else
            session_note_partial(session);
        give_back_span(session, span);
        pthread_mutex_lock(&session->lock);
    }
    pthread_mutex_unlock(&session->lock);
    return NULL;
}

static void
tag_span(struct hf_session *session, struct hf_slab_worker *worker, struct span *span)
{
    struct hf_error err;
    if (span->keeps)
        span->parent = session_parent_leaf(span->file, span->first_page, worker);
    for (uint32_t i = span->tagged, run; i < span->pages; i += run) {
        run = 1;
        while (i + run < span->pages && span->kept[i + run] == span->kept[i])
            run++;
        if (!span->kept[i])
            tag_pages(session, span, i, run);
        else if (!take_parents_tags(session, worker, span, i, run, &err))
            session_fail(session, &err);
    }
    settle_span(span, worker);
}

/* Compares it with what the parent has. */
static void
settle_span(struct span *span, struct hf_slab_worker *worker)
{
    const size_t page_bytes = (size_t)1 << span->file->page_log2;
    const uint32_t in_leaf = (uint32_t)(span->first_page % HF_LEAF_PAGES);
    if (span->parent == NULL && span->length > 0)
        span->parent = session_parent_leaf(span->file, span->first_page, worker);
    const struct parent_leaf *parent = span->parent != NULL && span->parent->usable ? span->parent : NULL;
    span->crc32c = 0;
    for (uint32_t i = 0; i < span->pages; i++) {
        const size_t length = i + 1 < span->pages ? page_bytes : span->length - (size_t)i * page_bytes;
        const uint8_t *tag = span->tags + (size_t)i * HF_TAG_BYTES;
        span->crc32c = i == 0 ? span->page_crc[i] : hf_crc32c_combine(span->crc32c, span->page_crc[i], length);
        span->same[i] = parent != NULL && in_leaf + i < parent->pages &&
                        memcmp(tag, parent->tags + (size_t)(in_leaf + i) * HF_TAG_BYTES, HF_TAG_BYTES) == 0;
        span->zero[i] = !span->same[i] && !span->kept[i] && is_zero(span->data + (size_t)i * page_bytes, length);
    }
    span->settled = true;
}

void
session_tag_arrived(struct hf_session *session, struct span *span)
{
    const uint8_t page_log2 = span->file->page_log2;
    const uint32_t whole = (uint32_t)(span->length >> page_log2) - span->tagged;
    const size_t arrived = (size_t)whole << page_log2;
    if (session->options.workers > WORKERS_FEW || span->keeps || whole == 0 ||
        (arrived < TAG_AT_ONCE && span->length < SPAN_BYTES))
        return;
    tag_bytes(session, span, span->tagged, arrived);
    span->tagged += whole;
}

/* Pages whose bytes came. */
static void
tag_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count)
{
    const size_t page_bytes = (size_t)1 << span->file->page_log2, start = (size_t)from * page_bytes;
    tag_bytes(session, span, from, from + count < span->pages ? count * page_bytes : span->length - start);
}

static void
tag_bytes(struct hf_session *session, struct span *span, uint32_t from, size_t length)
{
    const size_t page_bytes = (size_t)1 << span->file->page_log2, start = (size_t)from * page_bytes;
    if (session->options.page_check != NULL && span->file->check_context != NULL)
        session->options.page_check(session->options.page_check_context, span->file->check_context,
                                    span->first_page + from, span->data + start, length);
    hf_page_tags(hf_vault_keys(session->vault), span->data + start, length, span->file->page_log2,
                 span->tags + (size_t)from * HF_TAG_BYTES);
    for (size_t at = 0, i = from; at < length; at += page_bytes, i++)
        span->page_crc[i] = hf_crc32c(0, span->data + start + at, length - at < page_bytes ? length - at : page_bytes);
}

/* Pages that are taken unread.  The tag cache is not believed: the packs' directories say the same, or it is over. */
static bool
take_parents_tags(struct hf_session *session, struct hf_slab_worker *worker, struct span *span, uint32_t from,
                  uint32_t count, struct hf_error *err)
{
    const struct parent_leaf *parent = span->parent;
    const uint32_t in_leaf = (uint32_t)(span->first_page % HF_LEAF_PAGES) + from;
    struct hf_page_check checks[SPAN_PAGES];
    if (parent == NULL || !parent->usable || in_leaf + count > parent->pages)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "file \"%s\": what the backup before has of it cannot be read",
                       span->file->path);
    if (!hf_page_checks_get(session->page_checks, worker, &parent->map, in_leaf, count, 0, checks, err))
        return hf_fail_within(err, "file \"%s\"", span->file->path);
    for (uint32_t i = 0; i < count; i++) {
        if (memcmp(checks[i].tag, parent->tags + (size_t)(in_leaf + i) * HF_TAG_BYTES, HF_TAG_BYTES) != 0)
            return hf_fail(err, HF_ERR_CORRUPT, "file \"%s\": the tags at hand are not those of its packs",
                           span->file->path);
        memcpy(span->tags + (size_t)(from + i) * HF_TAG_BYTES, checks[i].tag, HF_TAG_BYTES);
        span->page_crc[from + i] = checks[i].crc32c;
    }
    atomic_fetch_add(&session->counts.pages_kept, count);
    return true;
}

static bool
is_zero(const uint8_t *page, size_t length)
{
    return page[0] == 0 && memcmp(page, page + 1, length - 1) == 0;
}

/* From here on: the assembler, one span after the other, in the order they were handed over. */
static bool
assemble(struct hf_session *session, struct span *span, struct hf_error *err)
{
    struct hf_session_file *file = span->file;
    if (file->work == NULL && !begin_work(file, err))
        return false;
    if (!span->settled)
        settle_span(span, session->caller_worker);
    if (span->length > 0) {
        if (!assemble_pages(session, span, err))
            return hf_fail_within(err, "file \"%s\"", file->path);
        hf_file_digest_add_many(file->work->digest, span->tags, span->pages);
        file->crc32c = file->size == 0 ? span->crc32c : hf_crc32c_combine(file->crc32c, span->crc32c, span->length);
        file->size += span->length;
        atomic_fetch_add(&session->counts.pages, span->pages);
    }
    return !span->last || finish_file(session, file, err);
}

static bool
begin_work(struct hf_session_file *file, struct hf_error *err)
{
    struct file_work *work = calloc(1, sizeof *work);
    if (work == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for file \"%s\"", file->path);
    file->work = work;
    hf_leaf_init(&work->leaf, file->page_log2);
    return hf_file_digest_new(hf_vault_keys(file->session->vault), &work->digest, err);
}

static void
end_work(struct hf_session_file *file)
{
    struct file_work *work = HF_TAKE(file->work);
    if (work != NULL) {
        hf_leaf_done(&work->leaf);
        session_release_leaf(&work->parent);
        hf_file_digest_freep(&work->digest);
        free(work->tags);
        free(work->cached);
        free(work);
    }
    session_release_leaf(&file->current);
}

/* A span lies within one leaf: 512 KiB divides every leaf. */
static bool
assemble_pages(struct hf_session *session, struct span *span, struct hf_error *err)
{
    struct file_work *work = span->file->work;
    if (work->leaf.pages == 0) {
        session_release_leaf(&work->parent);
        work->parent = HF_TAKE(span->parent);
        work->shared = work->parent != NULL && work->parent->usable;
        work->cursor = 0;
        work->cursor_page = 0;
    }
    if (!add_tags(work, span->tags, work->leaf.pages, span->pages, err))
        return false;
    if (work->parent == NULL || !work->parent->usable) /* the same stretch may have been read twice, once in vain */
        memset(span->same, 0, sizeof span->same);
    for (uint32_t i = 0; span->keeps && i < span->pages; i++)
        if (span->kept[i] && !span->same[i])
            return hf_fail(err, HF_ERR_UNAVAILABLE, "what the backup before has of it cannot be read");

    for (uint32_t i = 0; i < span->pages;) {
        uint32_t run = 1;
        while (i + run < span->pages && span->same[i + run] == span->same[i] && span->zero[i + run] == span->zero[i] &&
               span->kept[i + run] == span->kept[i])
            run++;
        bool ok;
        if (span->same[i]) {
            ok = keep_pages(session, span, i, run, err);
        } else if (span->zero[i]) {
            work->shared = false;
            atomic_fetch_add(&session->counts.pages_zero, run);
            ok = hf_leaf_add(&work->leaf, HF_EXTENT_ZEROS, run, NULL, 0, 0, err);
        } else {
            ok = store_pages(session, span, i, run, err);
        }
        if (!ok)
            return false;
        i += run;
    }
    return work->leaf.pages < HF_LEAF_PAGES || finish_leaf(session, span->file, err);
}

/* Pages as the parent has them: looked at extent by extent, since what is lost or thinly used is stored again. */
static bool
keep_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count, struct hf_error *err)
{
    struct file_work *work = span->file->work;
    const struct hf_leaf *map = &work->parent->map;
    while (count > 0) {
        const uint32_t page = work->leaf.pages;
        while (work->cursor_page + map->extents[work->cursor].count <= page) {
            work->cursor_page += map->extents[work->cursor].count;
            work->cursor++;
        }
        const struct hf_extent *extent = &map->extents[work->cursor];
        const uint32_t skip = page - work->cursor_page;
        const uint32_t left = extent->count - skip;
        const uint32_t part = count < left ? count : left;
        if (!keep_extent(session, span, from, part, extent, skip, err))
            return false;
        from += part;
        count -= part;
    }
    return true;
}

static bool
keep_extent(struct hf_session *session, struct span *span, uint32_t from, uint32_t count,
            const struct hf_extent *extent, uint32_t skip, struct hf_error *err)
{
    struct file_work *work = span->file->work;
    if (extent->type == HF_EXTENT_ZEROS) {
        atomic_fetch_add(&session->counts.pages_zero, count);
        return hf_leaf_add(&work->leaf, HF_EXTENT_ZEROS, count, NULL, 0, 0, err);
    }
    const struct hf_id *pack = extent->type == HF_EXTENT_STORED ? &work->parent->map.packs[extent->pack] : NULL;
    if (span->kept[from]) // there are no bytes to store again
        return pack != NULL
                   ? hf_leaf_add(&work->leaf, HF_EXTENT_STORED, count, pack, extent->slab, extent->first + skip, err)
                   : hf_fail(err, HF_ERR_CORRUPT, "%u of its pages are lost in the backup before", extent->count);
    if (pack == NULL || session_is_condemned(session, pack, extent->slab)) {
        atomic_fetch_add(&session->counts.pages_healed, count);
        return store_pages(session, span, from, count, err);
    }
    if (is_thin(session, pack, extent->slab, count)) {
        atomic_fetch_add(&session->counts.pages_aged, count);
        return store_pages(session, span, from, count, err);
    }
    return hf_leaf_add(&work->leaf, HF_EXTENT_STORED, count, pack, extent->slab, extent->first + skip, err);
}

static bool
is_thin(struct hf_session *session, const struct hf_id *pack, uint32_t slab, uint32_t pages)
{
    if (session->parent.census == NULL || session->ageing_budget < pages ||
        hf_census_live_percent(session->parent.census, pack, slab) >= session->options.ageing_percent)
        return false;
    session->ageing_budget -= pages;
    return true;
}

static bool
store_pages(struct hf_session *session, struct span *span, uint32_t from, uint32_t count, struct hf_error *err)
{
    const struct hf_session_file *file = span->file;
    struct file_work *work = file->work;
    const size_t page_bytes = (size_t)1 << file->page_log2;
    work->shared = false;
    for (uint32_t i = from; i < from + count; i++) {
        const size_t at = (size_t)i * page_bytes;
        const size_t length = i + 1 < span->pages ? page_bytes : span->length - at;
        struct hf_page_check check = {.crc32c = span->page_crc[i]};
        memcpy(check.tag, span->tags + (size_t)i * HF_TAG_BYTES, HF_TAG_BYTES);
        struct hf_id pack;
        uint32_t slab, index;
        if (!session_store_page(session, file, span->first_page + i, span->data + at, length, &check, &pack, &slab,
                                &index, err) ||
            !hf_leaf_add(&work->leaf, HF_EXTENT_STORED, 1, &pack, slab, index, err))
            return false;
    }
    atomic_fetch_add(&session->counts.pages_stored, count);
    return true;
}

static bool
add_tags(struct file_work *work, const uint8_t *tags, uint32_t first, uint32_t count, struct hf_error *err)
{
    if (first + count > work->tags_room) {
        size_t room = work->tags_room > 0 ? work->tags_room : 16;
        while (room < first + count)
            room *= 2;
        uint8_t *grown = realloc(work->tags, room * HF_TAG_BYTES);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
        work->tags = grown;
        work->tags_room = room;
    }
    memcpy(work->tags + (size_t)first * HF_TAG_BYTES, tags, (size_t)count * HF_TAG_BYTES);
    return true;
}

static bool
finish_leaf(struct hf_session *session, struct hf_session_file *file, struct hf_error *err)
{
    struct file_work *work = file->work;
    struct hf_object_ref ref;
    if (work->shared && work->leaf.pages == work->parent->pages) {
        ref = work->parent->ref;
    } else {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
        if (!hf_leaf_encode(&work->leaf, &bytes, err) ||
            !session_store_object(session, HF_OBJECT_LEAF, bytes.data, bytes.length, &ref, err))
            return false;
    }
    if (!session_count_live(session, &ref.pack, 1, err) || !count_leaf(session, &work->leaf, err))
        return false;

    struct hf_error why;
    if (session->cache != NULL && !cache_leaf(session, work, &ref, &why))
        session_drop_cache(session, &why);

    if (file->leaf_count == file->leaf_room) {
        const size_t room = file->leaf_room > 0 ? 2 * file->leaf_room : 1;
        struct hf_object_ref *grown = realloc(file->leaves, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a file's map");
        file->leaves = grown;
        file->leaf_room = room;
    }
    file->leaves[file->leaf_count++] = ref;
    hf_leaf_clear(&work->leaf);
    return true;
}

static bool
cache_leaf(struct hf_session *session, struct file_work *work, const struct hf_object_ref *ref, struct hf_error *err)
{
    struct hf_cached_leaf cached = {.pages = work->leaf.pages, .ref = *ref};
    if (work->cached_count == work->cached_room) {
        const size_t room = work->cached_room > 0 ? 2 * work->cached_room : 4;
        struct hf_cached_leaf *grown = realloc(work->cached, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
        work->cached = grown;
        work->cached_room = room;
    }
    if (!hf_tag_cache_writer_tags(session->cache, work->tags, work->leaf.pages, &cached.frame, err))
        return false;
    work->cached[work->cached_count++] = cached;
    return true;
}

/* What the leaf keeps alive: for the manifest's summary and for the next backup's ageing. */
static bool
count_leaf(struct hf_session *session, const struct hf_leaf *leaf, struct hf_error *err)
{
    for (size_t i = 0; i < leaf->extent_count; i++) {
        const struct hf_extent *extent = &leaf->extents[i];
        if (extent->type != HF_EXTENT_STORED)
            continue;
        const struct hf_id *pack = &leaf->packs[extent->pack];
        unsigned live, stored;
        hf_census_get(session->census, pack, extent->slab, &live, &stored);
        if (stored == 0 && session->parent.census != NULL)
            hf_census_get(session->parent.census, pack, extent->slab, &live, &stored);
        if (stored == 0 && session->partial.census != NULL)
            hf_census_get(session->partial.census, pack, extent->slab, &live, &stored);
        if (stored > 0 && !hf_census_set_stored(session->census, pack, extent->slab, stored, err))
            return false;
        if (!hf_census_add_live(session->census, pack, extent->slab, extent->count, err) ||
            !session_count_live(session, pack, extent->count, err))
            return false;
    }
    return true;
}

static bool
finish_file(struct hf_session *session, struct hf_session_file *file, struct hf_error *err)
{
    struct file_work *work = file->work;
    if (!session_keep_unfinished(session, file, err))
        return false;
    hf_file_digest_end(work->digest, file->size, file->digest);
    end_work(file);
    atomic_fetch_add(&session->counts.files, 1);

    pthread_mutex_lock(&session->lock);
    file->done = true;
    pthread_mutex_unlock(&session->lock);
    return true;
}

static void
give_back_span(struct hf_session *session, struct span *span)
{
    session_release_leaf(&span->parent);
    pthread_mutex_lock(&session->lock);
    span->next_free = session->free_spans;
    session->free_spans = span;
    session->spans_in_flight--;
    pthread_cond_broadcast(&session->room);
    pthread_mutex_unlock(&session->lock);
}
