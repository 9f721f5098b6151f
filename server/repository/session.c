#include "server/repository/session.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/repository/session_partial.h"

#define DEFAULT_MEMORY        (64 * HF_MIB)
#define DEFAULT_AGEING        40
#define DEFAULT_AGEING_BUDGET 10
#define DEFAULT_LEVEL         1
#define WORKERS_MOST          64
#define SPANS_LEAST           8
#define SLABS_LEAST           6
#define FILES_MOST            (UINT32_MAX - 1)
#define SLAB_PLAIN_ROOM       (LIST_ROOM + HF_SLAB_PAGES_BYTES + HF_PAGE_MOST)
#define SLAB_ROWS             HF_SLAB_PAGES_MOST
#define LOG_ROOM              (64 * HF_KIB) // ABORT takes a block, COMMIT about 120 bytes a pack

static void take_options(struct hf_session *session, const struct hf_session_options *options);
static bool begin(struct hf_session *session, struct hf_error *err);
static bool read_and_build(struct hf_session *session, struct hf_error *err);
static bool lock_vault(struct hf_session *session, struct hf_error *err);
static bool reserve_log_room(struct hf_session *session, struct hf_error *err);
static bool write_intent(struct hf_session *session, struct hf_error *err);
static bool write_abort(struct hf_session *session, const struct hf_id *which, const char *reason);
static bool is_aborted(struct hf_session *session);
static void open_cache(struct hf_session *session);
static bool create_cache(struct hf_session *session, struct hf_error *err);
static bool make_room(struct hf_session *session, struct hf_error *err);
static bool grow_files(struct hf_session *session, struct hf_error *err);
static bool index_files(struct hf_session *session, struct hf_error *err);
static int by_file_path(const void *a, const void *b);
static bool fill_span(struct hf_session_file *file, struct hf_error *err);
static void explain(const struct hf_session *session, struct hf_error *err);
static void remove_packs(struct hf_session *session);
static void destroy(struct hf_session *session);

bool
hf_session_begin(struct hf_vault *vault, const struct hf_session_options *options, struct hf_session **ret,
                 struct hf_error *err)
{
    struct hf_session *session = calloc(1, sizeof *session);
    if (session == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup session");
    session->vault = vault;
    session->vault_lock = -1;
    session->id = hf_id_new();
    session->backup = hf_id_new();
    session->started_at = hf_time_now_ms();
    session->gather.bodies = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    pthread_mutex_init(&session->lock, NULL);
    pthread_cond_init(&session->work_ready, NULL);
    pthread_cond_init(&session->span_done, NULL);
    pthread_cond_init(&session->slab_done, NULL);
    pthread_cond_init(&session->room, NULL);
    take_options(session, options);

    struct hf_error failure = {0};
    if (!begin(session, &failure)) {
        hf_session_abort(&session, "could_not_begin");
        if (err != NULL)
            *err = failure;
        return false;
    }
    *ret = session;
    return true;
}

struct hf_id
hf_session_id(const struct hf_session *session)
{
    return session->id;
}

struct hf_id
hf_session_backup_id(const struct hf_session *session)
{
    return session->backup;
}

struct hf_id
hf_session_parent(const struct hf_session *session, const char **ret_why)
{
    if (ret_why != NULL)
        *ret_why = session->why;
    return session->parent.cache != NULL ? session->parent.backup : HF_ID_NONE;
}

const struct hf_session_counts *
hf_session_counts(const struct hf_session *session)
{
    return &session->counts;
}

bool
hf_session_file_begin(struct hf_session *session, const struct hf_session_file_info *info, struct hf_session_file **ret,
                      struct hf_error *err)
{
    if (!session_check(session, err) || !hf_path_check(info->path, err))
        return false;
    struct hf_session_file *file = calloc(1, sizeof *file);
    if (file == NULL || (file->path = strdup(info->path)) == NULL) {
        free(file);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for file \"%s\"", info->path);
    }
    pthread_mutex_init(&file->leaf_lock, NULL);
    file->session = session;
    file->kind = info->kind;
    file->page_log2 = info->page_log2;
    file->mode = info->mode;
    file->modified_at = info->modified_at;
    file->check_context = info->check_context;
    session_find_parent_file(session, file);

    pthread_mutex_lock(&session->lock);
    const bool ok = grow_files(session, err);
    if (ok) {
        file->ordinal = (uint32_t)session->file_count;
        session->files[session->file_count++] = file;
        session->open_files++;
    }
    pthread_mutex_unlock(&session->lock);
    if (!ok) {
        pthread_mutex_destroy(&file->leaf_lock);
        free(file->path);
        free(file);
        return false;
    }
    *ret = file;
    return true;
}

bool
hf_session_file_write(struct hf_session_file *file, const void *data, size_t length, struct hf_error *err)
{
    struct hf_session *session = file->session;
    const uint8_t *from = data;
    while (length > 0) {
        if (file->filling == NULL && !fill_span(file, err))
            return false;
        struct span *span = file->filling;
        const size_t room = SPAN_BYTES - span->length;
        const size_t part = length < room ? length : room;
        memcpy(span->data + span->length, from, part);
        span->length += part;
        from += part;
        length -= part;
        atomic_fetch_add(&session->counts.bytes_taken, part);
        session_tag_arrived(session, span);
        if (span->length == SPAN_BYTES) {
            file->next_page += SPAN_BYTES >> file->page_log2;
            file->filling = NULL;
            session_submit_span(session, span);
        }
    }
    return true;
}

uint64_t
hf_session_file_parent_pages(const struct hf_session_file *file)
{
    return file->parent != NULL ? file->parent->size >> file->page_log2 : 0;
}

bool
hf_session_file_keep(struct hf_session_file *file, uint64_t pages, struct hf_error *err)
{
    struct hf_session *session = file->session;
    const size_t page_bytes = (size_t)1 << file->page_log2;
    const char *why;
    if (!hf_session_can_keep(session, &why))
        return hf_fail(err, HF_ERR_CONFLICT, "no page of \"%s\" can be taken from the backup before: %s", file->path,
                       why);
    while (pages > 0) {
        if (file->filling == NULL && !fill_span(file, err))
            return false;
        struct span *span = file->filling;
        const uint64_t page = file->next_page + (span->length >> file->page_log2);
        if (span->length % page_bytes != 0 || page + pages > hf_session_file_parent_pages(file))
            return hf_fail(err, HF_ERR_CORRUPT, "the backup before has no page %llu of \"%s\"",
                           (unsigned long long)(page + pages - 1), file->path);
        const uint64_t room = (SPAN_BYTES - span->length) >> file->page_log2, part = pages < room ? pages : room;
        memset(span->kept + (span->length >> file->page_log2), true, part);
        span->keeps = true;
        span->length += part << file->page_log2;
        pages -= part;
        if (span->length == SPAN_BYTES) {
            file->next_page += SPAN_BYTES >> file->page_log2;
            file->filling = NULL;
            session_submit_span(session, span);
        }
    }
    return true;
}

bool
hf_session_can_keep(const struct hf_session *session, const char **ret_why)
{
    *ret_why = session->page_checks == NULL     ? session->why
               : session->heal_count > 0        ? "stored pages are lost or damaged"
               : session->partial.cache != NULL ? "a backup that was cut off is built on"
                                                : "";
    return (*ret_why)[0] == '\0';
}

bool
hf_session_file_end(struct hf_session_file **file, struct hf_error *err)
{
    struct hf_session_file *taken = HF_TAKE(*file);
    if (taken->filling == NULL && !fill_span(taken, err))
        return false;
    struct span *span = HF_TAKE(taken->filling);
    span->last = true;
    session_submit_span(taken->session, span);
    pthread_mutex_lock(&taken->session->lock);
    taken->session->open_files--;
    pthread_mutex_unlock(&taken->session->lock);
    return true;
}

bool
hf_session_folder(struct hf_session *session, const char *path, uint32_t mode, struct hf_error *err)
{
    if (path[0] != 0 && !hf_path_check(path, err))
        return false;
    if (session->folder_count == HF_FOLDERS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a backup holds at most %u folders", HF_FOLDERS_MOST);
    if (session->folder_count == session->folder_room) {
        const size_t room = session->folder_room > 0 ? 2 * session->folder_room : 64;
        struct hf_manifest_folder *grown = realloc(session->folders, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for folder \"%s\"", path);
        session->folders = grown;
        session->folder_room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for folder \"%s\"", path);
    session->folders[session->folder_count++] = (struct hf_manifest_folder){.path = copy, .mode = mode & 07777};
    return true;
}

bool
hf_session_link(struct hf_session *session, const char *path, const char *target, struct hf_error *err)
{
    if (!hf_path_check(path, err))
        return false;
    if (session->link_count == HF_LINKS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a backup holds at most %u links", HF_LINKS_MOST);
    if (session->link_count == session->link_room) {
        const size_t room = session->link_room > 0 ? 2 * session->link_room : 8;
        struct hf_manifest_link *grown = realloc(session->links, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for link \"%s\"", path);
        session->links = grown;
        session->link_room = room;
    }
    char *path_copy = strdup(path), *target_copy = strdup(target);
    if (path_copy == NULL || target_copy == NULL) {
        free(path_copy);
        free(target_copy);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for link \"%s\"", path);
    }
    session->links[session->link_count++] = (struct hf_manifest_link){path_copy, target_copy};
    return true;
}

bool
hf_session_flush(struct hf_session *session, struct hf_error *err)
{
    pthread_mutex_lock(&session->lock);
    while (session->spans_in_flight > 0 && !session->failed)
        pthread_cond_wait(&session->room, &session->lock);
    pthread_mutex_unlock(&session->lock);
    return session_check(session, err);
}

bool
hf_session_file_find(struct hf_session *session, const char *path, struct hf_session_file_result *ret,
                     struct hf_error *err)
{
    bool found = false;
    pthread_mutex_lock(&session->lock);
    const bool ok = index_files(session, err);
    if (ok) {
        const struct hf_session_file wanted = {.path = (char *)(uintptr_t)path}, *key = &wanted;
        struct hf_session_file **row =
            bsearch(&key, session->by_path, session->by_path_count, sizeof *row, by_file_path);
        if (row != NULL && (*row)->done) {
            *ret = (struct hf_session_file_result){.size = (*row)->size, .crc32c = (*row)->crc32c};
            memcpy(ret->digest, (*row)->digest, sizeof ret->digest);
            found = true;
        }
    }
    pthread_mutex_unlock(&session->lock);
    if (!ok)
        return false;
    return found || hf_fail(err, HF_ERR_NOT_FOUND, "the session has no finished file \"%s\"", path);
}

bool
hf_session_commit(struct hf_session **session, const json_t *facts, struct hf_session_outcome *ret,
                  struct hf_error *err)
{
    struct hf_session *taken = HF_TAKE(*session);
    struct hf_error failure = {0};
    _cleanup_(hf_buf_done) struct hf_buf facts_text = HF_BUF_INIT(HF_FACTS_MOST);
    if (!hf_json_canonical(facts, &facts_text, &failure) || !hf_session_flush(taken, &failure) ||
        !session_publish(taken, hf_buf_text(&facts_text), facts, ret, &failure)) {
        explain(taken, &failure);
        hf_session_abort(&taken, "failed");
        if (err != NULL)
            *err = failure;
        return false;
    }

    session_stop_threads(taken);
    session_end_partial(taken);
    if (taken->cache != NULL && !hf_tag_cache_writer_finish(&taken->cache, taken->census, &failure))
        session_drop_cache(taken, &failure);
    memcpy(ret->no_tags, taken->no_tags, sizeof ret->no_tags);
    destroy(taken);
    return true;
}

void
hf_session_abort(struct hf_session **session, const char *reason)
{
    struct hf_session *taken = HF_TAKE(*session);
    if (taken == NULL)
        return;
    session_stop_threads(taken);
    session_open_pack_freep(&taken->data_pack);
    session_open_pack_freep(&taken->map_pack);
    for (size_t i = 0; i < taken->slab_count; i++)
        if (taken->all_slabs[i].finish)
            session_open_pack_freep(&taken->all_slabs[i].pack);
    session_forget_note(taken); // of packs that go
    /* Nobody but our COMMIT can refer to the packs.  They go first: on a full disk that makes the room for ABORT. */
    if (!taken->commit_tried)
        remove_packs(taken);
    hf_upload_abortp(&taken->log_room);
    if (taken->intent_written && write_abort(taken, &taken->id, reason) && taken->commit_tried && is_aborted(taken))
        remove_packs(taken);
    destroy(taken);
}

bool
hf_session_suspend(struct hf_session **session, const char *reason)
{
    struct hf_error ignored;
    struct hf_session *taken = HF_TAKE(*session);
    if (taken == NULL)
        return false;
    if (!hf_session_flush(taken, &ignored) || !session_leave_partial(taken, &ignored)) {
        hf_session_abort(&taken, reason);
        return false;
    }
    session_stop_threads(taken);
    destroy(taken);
    return true;
}

void
hf_session_freep(struct hf_session **session)
{
    hf_session_abort(session, "unfinished");
}

void
session_fail(struct hf_session *session, const struct hf_error *err)
{
    pthread_mutex_lock(&session->lock);
    if (!session->failed) {
        session->failed = true;
        session->failure = *err;
        explain(session, &session->failure);
    }
    pthread_cond_broadcast(&session->work_ready);
    pthread_cond_broadcast(&session->span_done);
    pthread_cond_broadcast(&session->slab_done);
    pthread_cond_broadcast(&session->room);
    pthread_mutex_unlock(&session->lock);
}

bool
session_append(struct hf_session *session, const struct hf_log_append *entry, struct hf_error *err)
{
    return hf_vault_append(session->vault, entry, session->options.signing, NULL, NULL, err);
}

bool
session_cache_path(const struct hf_session *session, const char *suffix, char **ret, struct hf_error *err)
{
    char vault_text[HF_ID_TEXT_BYTES], name[HF_ID_TEXT_BYTES + 16];
    const struct hf_id vault = hf_vault_id(session->vault);
    snprintf(name, sizeof name, "%s%s", hf_id_format(&vault, vault_text), suffix);
    *ret = hf_path_join(session->options.cache_folder, name);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

void
session_drop_cache(struct hf_session *session, const struct hf_error *why)
{
    hf_tag_cache_writer_freep(&session->cache);
    snprintf(session->no_tags, sizeof session->no_tags, "%.*s", (int)sizeof session->no_tags - 1, why->message);
}

bool
session_check(struct hf_session *session, struct hf_error *err)
{
    if (session->options.cancel != NULL && atomic_load(session->options.cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the backup was cancelled");
    pthread_mutex_lock(&session->lock);
    const bool failed = session->failed;
    if (failed && err != NULL)
        *err = session->failure;
    pthread_mutex_unlock(&session->lock);
    return !failed;
}

static void
take_options(struct hf_session *session, const struct hf_session_options *options)
{
    session->options = *options;
    struct hf_session_options *set = &session->options;
    if (set->workers == 0) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);
        set->workers = processors > 2 ? (unsigned)processors : 2;
    }
    if (set->workers > WORKERS_MOST)
        set->workers = WORKERS_MOST;
    if (set->zstd_level == 0)
        set->zstd_level = DEFAULT_LEVEL;
    if (set->memory_bytes == 0)
        set->memory_bytes = DEFAULT_MEMORY;
    if (set->ageing_percent == 0)
        set->ageing_percent = DEFAULT_AGEING;
    if (set->ageing_budget_percent == 0)
        set->ageing_budget_percent = DEFAULT_AGEING_BUDGET;
}

static bool
begin(struct hf_session *session, struct hf_error *err)
{
    if ((session->source = strdup(session->options.source)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup session");
    if (!lock_vault(session, err))
        return false;
    if (!read_and_build(session, err)) {
        explain(session, err);
        return false;
    }
    if (session->parent_root != NULL && session->parent.cache != NULL)
        session->ageing_budget =
            session->parent_root->logical_bytes / (8 * HF_KIB) * session->options.ageing_budget_percent / 100;
    return true;
}

static bool
read_and_build(struct hf_session *session, struct hf_error *err)
{
    struct hf_vault *vault = session->vault;
    const struct hf_vault_state *state;
    if (!hf_vault_read(vault, NULL, NULL, &state, err) ||
        !hf_slab_worker_new(DEFAULT_LEVEL, &session->caller_worker, err) ||
        !hf_vault_pack_reader(vault, &session->packs, err) ||
        !hf_object_reader_new(session->packs, &session->objects, err) || !session_open_parents(session, state, err) ||
        !session_open_partial(session, state, err) || !session_end_leftovers(session, state, err) ||
        !hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    session->epoch = state->epoch;
    if (!hf_census_new(&session->census, err) || !reserve_log_room(session, err) || !write_intent(session, err))
        return false;
    open_cache(session);
    return make_room(session, err) && session_start_threads(session, err);
}

static bool
lock_vault(struct hf_session *session, struct hf_error *err)
{
    if (session->options.cache_folder == NULL)
        return true;
    _cleanup_(hf_freep) char *path = NULL;
    if (!session_cache_path(session, ".lock", &path, err))
        return false;
    session->vault_lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (session->vault_lock < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open lock \"%s\"", path);
    if (flock(session->vault_lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno != EWOULDBLOCK)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take lock \"%s\"", path);
    hf_fail(err, HF_ERR_CONFLICT, "another process is writing a backup of \"%s\"", session->source);
    return hf_fail_hint(err, "Wait until it has finished, or cancel it: holdfast job list.");
}

/* An upload that is never finished: the backend takes the room, and gives it back whatever becomes of us. */
static bool
reserve_log_room(struct hf_session *session, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES], vault_text[HF_ID_TEXT_BYTES], session_text[HF_ID_TEXT_BYTES];
    const struct hf_id vault = hf_vault_id(session->vault);
    snprintf(name, sizeof name, "vaults/%s/log/%s", hf_id_format(&vault, vault_text),
             hf_id_format(&session->id, session_text));
    return hf_upload_begin(hf_vault_backend(session->vault), name, LOG_ROOM, &session->log_room, err);
}

static bool
write_intent(struct hf_session *session, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *entry = json_object();
    json_t *parents = json_array();
    if (entry == NULL || !hf_json_set(entry, "parents", parents, err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    if (session->parent.cache != NULL && json_array_append_new(parents, hf_json_id_text(&session->parent.backup)) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    if (!hf_json_set(entry, "session", hf_json_id_text(&session->id), err) ||
        !hf_json_set(entry, "builds_on",
                     session->partial.cache != NULL ? hf_json_id_text(&session->builds_on) : json_null(), err) ||
        !hf_json_set(entry, "operation", json_string(session->options.operation), err) ||
        !session_append(session,
                        &(struct hf_log_append){HF_LOG_INTENT, session->started_at, session->epoch, entry, NULL}, err))
        return false;
    session->intent_written = true;
    return true;
}

/* As good as can be done: when it fails the next session writes it. */
static bool
write_abort(struct hf_session *session, const struct hf_id *which, const char *reason)
{
    struct hf_error ignored;
    _cleanup_(hf_json_freep) json_t *entry = json_object();
    return entry != NULL && hf_json_set(entry, "session", hf_json_id_text(which), &ignored) &&
           hf_json_set(entry, "reason", json_string(reason), &ignored) &&
           session_append(session, &(struct hf_log_append){HF_LOG_ABORT, hf_time_now_ms(), session->epoch, entry, NULL},
                          &ignored);
}

/* A COMMIT whose sync failed may stand in the log all the same: then its packs stay. */
static bool
is_aborted(struct hf_session *session)
{
    struct hf_error ignored;
    const struct hf_vault_state *state;
    if (!hf_vault_read(session->vault, NULL, NULL, &state, &ignored))
        return false;
    const struct hf_vault_session *known = hf_vault_state_session(state, &session->id);
    return known != NULL && known->state == HF_SESSION_ABORTED;
}

static void
open_cache(struct hf_session *session)
{
    struct hf_error why;
    if (session->options.cache_folder != NULL && !create_cache(session, &why))
        session_drop_cache(session, &why);
}

static bool
create_cache(struct hf_session *session, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    return session_cache_path(session, ".tags", &path, err) &&
           hf_tag_cache_writer_new(path, hf_vault_keys(session->vault), &session->backup, &session->cache, err);
}

/* Half of the memory for spans, half for slabs; enough of each that no thread waits for ever. */
static bool
make_room(struct hf_session *session, struct hf_error *err)
{
    const size_t slab_bytes =
        2 * SLAB_PLAIN_ROOM + SLAB_ROWS * (sizeof(struct hf_page_run) + sizeof(struct hf_page_check));
    const size_t spans = session->options.memory_bytes / 2 / SPAN_BYTES;
    const size_t slabs = session->options.memory_bytes / 2 / slab_bytes;
    session->all_spans = calloc(spans > SPANS_LEAST ? spans : SPANS_LEAST, sizeof *session->all_spans);
    session->all_slabs = calloc(slabs > SLABS_LEAST ? slabs : SLABS_LEAST, sizeof *session->all_slabs);
    if (session->all_spans != NULL)
        session->span_count = spans > SPANS_LEAST ? spans : SPANS_LEAST;
    if (session->all_slabs != NULL)
        session->slab_count = slabs > SLABS_LEAST ? slabs : SLABS_LEAST;
    bool ok = session->all_spans != NULL && session->all_slabs != NULL;
    for (size_t i = 0; ok && i < session->span_count; i++) {
        struct span *span = &session->all_spans[i];
        ok = (span->data = malloc(SPAN_BYTES)) != NULL;
        span->next_free = session->free_spans;
        session->free_spans = span;
    }
    for (size_t i = 0; ok && i < session->slab_count; i++) {
        struct slab_job *job = &session->all_slabs[i];
        job->sealed = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST + HF_MIB);
        job->plain_room = SLAB_PLAIN_ROOM;
        ok = (job->plain = malloc(SLAB_PLAIN_ROOM)) != NULL &&
             (job->runs = calloc(SLAB_ROWS, sizeof *job->runs)) != NULL &&
             (job->checks = calloc(SLAB_ROWS, sizeof *job->checks)) != NULL;
        job->next_free = session->free_slabs;
        session->free_slabs = job;
    }
    return ok || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the pages in flight");
}

static bool
grow_files(struct hf_session *session, struct hf_error *err)
{
    if (session->file_count == FILES_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a backup holds at most %u files", FILES_MOST);
    if (session->open_files == session->span_count)
        return hf_fail(err, HF_ERR_NO_SPACE, "at most %zu files can be written at once", session->span_count);
    if (session->file_count < session->file_room)
        return true;
    const size_t room = session->file_room > 0 ? 2 * session->file_room : 256;
    struct hf_session_file **grown = realloc(session->files, room * sizeof(*grown));
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
    session->files = grown;
    session->file_room = room;
    return true;
}

/* Sorted anew only when files have come since. */
static bool
index_files(struct hf_session *session, struct hf_error *err)
{
    if (session->by_path != NULL && session->by_path_count == session->file_count)
        return true;
    struct hf_session_file **grown = realloc(session->by_path, (session->file_count + 1) * sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
    session->by_path = grown;
    session->by_path_count = session->file_count;
    if (session->file_count > 0)
        memcpy(grown, session->files, session->file_count * sizeof *grown);
    qsort(grown, session->file_count, sizeof *grown, by_file_path);
    return true;
}

static int
by_file_path(const void *a, const void *b)
{
    const struct hf_session_file *left = *(const struct hf_session_file *const *)a;
    const struct hf_session_file *right = *(const struct hf_session_file *const *)b;
    return strcmp(left->path, right->path);
}

static bool
fill_span(struct hf_session_file *file, struct hf_error *err)
{
    struct hf_session *session = file->session;
    if (!session_check(session, err))
        return false;
    struct span *span = session_take_span(session);
    if (span == NULL)
        return session_check(session, err) && hf_fail(err, HF_ERR_CANCELLED, "the backup is being stopped");
    span->file = file;
    span->first_page = file->next_page;
    file->filling = span;
    return true;
}

/* A full disk is what a person has to do something about. */
static void
explain(const struct hf_session *session, struct hf_error *err)
{
    const char *place = hf_backend_place(hf_vault_backend(session->vault));
    if ((err->system != ENOSPC && err->system != EDQUOT) || err->hint[0] != 0)
        return;
    hf_fail_within(err, "repository \"%s\" is full", place);
    hf_fail_hint(err, "Free space there or shorten the retention, then take the backup again: what this one had "
                      "written is removed, and earlier backups are untouched.");
}

static void
remove_packs(struct hf_session *session)
{
    struct hf_error ignored;
    const struct hf_id vault = hf_vault_id(session->vault);
    for (size_t i = 0; i < session->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES];
        (void)!hf_backend_delete(hf_vault_backend(session->vault),
                                 hf_pack_name(&vault, &session->finished[i].pack, name), &ignored);
    }
}

static void
destroy(struct hf_session *session)
{
    hf_tag_cache_writer_freep(&session->cache);
    hf_upload_abortp(&session->log_room);
    for (size_t i = 0; i < session->file_count; i++) {
        pthread_mutex_destroy(&session->files[i]->leaf_lock);
        free(session->files[i]->path);
        free(session->files[i]->leaves);
        free(session->files[i]);
    }
    free(session->files);
    free(session->by_path);
    for (size_t i = 0; i < session->span_count; i++)
        free(session->all_spans[i].data);
    free(session->all_spans);
    for (size_t i = 0; i < session->slab_count; i++) {
        free(session->all_slabs[i].plain);
        free(session->all_slabs[i].runs);
        free(session->all_slabs[i].checks);
        hf_buf_done(&session->all_slabs[i].sealed);
    }
    free(session->all_slabs);
    for (size_t i = 0; i < session->folder_count; i++) {
        free(session->folders[i].path);
        free(session->folders[i].pages);
    }
    free(session->folders);
    for (size_t i = 0; i < session->link_count; i++) {
        free(session->links[i].path);
        free(session->links[i].target);
    }
    free(session->links);
    hf_buf_done(&session->gather.bodies);
    free(session->gather.kinds);
    free(session->gather.lengths);
    free(session->live);
    free(session->heal);
    free(session->finished);
    hf_census_freep(&session->census);
    session_parent_done(&session->parent);
    session_parent_done(&session->partial);
    free(session->adopted);
    hf_manifest_root_freep(&session->parent_root);
    hf_object_reader_freep(&session->objects);
    hf_page_checks_freep(&session->page_checks);
    hf_pack_reader_freep(&session->packs);
    hf_slab_worker_freep(&session->caller_worker);
    pthread_mutex_destroy(&session->lock);
    pthread_cond_destroy(&session->work_ready);
    pthread_cond_destroy(&session->span_done);
    pthread_cond_destroy(&session->slab_done);
    pthread_cond_destroy(&session->room);
    hf_closep(&session->vault_lock);
    free(session->source);
    free(session);
}
