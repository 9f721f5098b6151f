#include "server/repository/session_internal.h"

#include <string.h>

/* One slab in so many is opened again before it counts, unless all are: a faulty compressor or memory shows early. */
#define PROVE_ONE_IN     16
#define OBJECTS_SLAB     (256 * HF_KIB)
#define OBJECTS_PER_SLAB 8192
#define LIVE_ROOM_FIRST  256

static bool take_job(struct hf_session *session, struct slab_job **ret, struct hf_error *err);
static void dispatch(struct hf_session *session, struct slab_job *job, bool needs_work);
static bool close_pages(struct hf_session *session, struct hf_error *err);
static bool close_objects(struct hf_session *session, struct hf_error *err);
static bool open_pack(struct hf_session *session, enum hf_pack_kind kind, struct open_pack **ret, struct hf_error *err);
static bool finish_pack(struct hf_session *session, struct open_pack **pack, struct hf_error *err);
static bool add_run(struct slab_job *job, uint32_t file, uint8_t page_log2, uint64_t page, uint32_t short_by);
static bool write_job(struct hf_session *session, struct hf_slab_worker *worker, struct slab_job *job,
                      struct hf_error *err);
static bool tell_files(struct hf_session *session, struct slab_job *job, struct hf_error *err);
static bool record_pack(struct hf_session *session, struct open_pack *pack, uint64_t bytes, const uint8_t *sha256,
                        struct hf_error *err);
static void give_back_job(struct hf_session *session, struct slab_job *job);
static size_t live_slot(const struct live_pack *table, size_t room, const struct hf_id *pack);

bool
session_store_page(struct hf_session *session, const struct hf_session_file *file, uint64_t page, const uint8_t *data,
                   size_t length, const struct hf_page_check *check, struct hf_id *ret_pack, uint32_t *ret_slab,
                   uint32_t *ret_index, struct hf_error *err)
{
    const uint32_t short_by = (uint32_t)(((size_t)1 << file->page_log2) - length);
    struct slab_job *job = session->pages;
    if (job != NULL &&
        (job->end - job->start + length > HF_SLAB_PAGES_BYTES || job->info.items == HF_SLAB_PAGES_MOST)) {
        if (!close_pages(session, err))
            return false;
        job = NULL;
    }
    if (job == NULL) {
        if (session->data_pack == NULL && !open_pack(session, HF_PACK_DATA, &session->data_pack, err))
            return false;
        if (!take_job(session, &job, err))
            return false;
        job->pack = session->data_pack;
        job->info = (struct hf_slab_info){.number = session->data_pack->next_slab++, .kind = HF_SLAB_PAGES};
        job->start = job->end = LIST_ROOM;
        session->pages = job;
    }

    *ret_pack = job->pack->identity.pack;
    *ret_slab = job->info.number;
    *ret_index = job->info.items;
    if (!add_run(job, file->ordinal, file->page_log2, page, short_by))
        return hf_fail(err, HF_ERR_NO_SPACE, "too many stretches of pages in one slab");
    memcpy(job->plain + job->end, data, length);
    job->end += length;
    job->checks[job->info.items++] = *check;
    return true;
}

bool
session_store_object(struct hf_session *session, enum hf_object_kind kind, const uint8_t *bytes, size_t length,
                     struct hf_object_ref *ret, struct hf_error *err)
{
    struct object_gather *gather = &session->gather;
    if (gather->count > 0 && (gather->bodies.length + length > OBJECTS_SLAB || gather->count == OBJECTS_PER_SLAB) &&
        !close_objects(session, err))
        return false;
    if (session->map_pack == NULL && !open_pack(session, HF_PACK_MAP, &session->map_pack, err))
        return false;
    if (gather->count == gather->room) {
        const size_t room = gather->room > 0 ? 2 * gather->room : 64;
        uint8_t *kinds = realloc(gather->kinds, room);
        if (kinds != NULL)
            gather->kinds = kinds;
        size_t *lengths = realloc(gather->lengths, room * sizeof *lengths);
        if (lengths != NULL)
            gather->lengths = lengths;
        if (kinds == NULL || lengths == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for map objects");
        gather->room = room;
    }
    *ret =
        (struct hf_object_ref){session->map_pack->identity.pack, session->map_pack->next_slab, (uint32_t)gather->count};
    gather->kinds[gather->count] = (uint8_t)kind;
    gather->lengths[gather->count++] = length;
    return hf_buf_add(&gather->bodies, bytes, length, err);
}

bool
session_close_packs(struct hf_session *session, struct hf_error *err)
{
    if ((session->pages != NULL && !close_pages(session, err)) ||
        (session->gather.count > 0 && !close_objects(session, err)) ||
        (session->data_pack != NULL && !finish_pack(session, &session->data_pack, err)) ||
        (session->map_pack != NULL && !finish_pack(session, &session->map_pack, err)))
        return false;

    pthread_mutex_lock(&session->lock);
    while (session->slabs_in_flight > 0 && !session->failed)
        pthread_cond_wait(&session->room, &session->lock);
    pthread_mutex_unlock(&session->lock);
    return session_check(session, err);
}

/* An open hash table with linear probing: one row a pack. */
bool
session_count_live(struct hf_session *session, const struct hf_id *pack, uint64_t live, struct hf_error *err)
{
    if (2 * (session->live_count + 1) > session->live_room) {
        const size_t room = session->live_room > 0 ? 2 * session->live_room : LIVE_ROOM_FIRST;
        struct live_pack *grown = calloc(room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the summary of packs");
        for (size_t i = 0; i < session->live_room; i++)
            if (session->live[i].live > 0)
                grown[live_slot(grown, room, &session->live[i].pack)] = session->live[i];
        free(session->live);
        session->live = grown;
        session->live_room = room;
    }
    struct live_pack *row = &session->live[live_slot(session->live, session->live_room, pack)];
    if (row->live == 0) {
        row->pack = *pack;
        session->live_count++;
    }
    row->live += live;
    return true;
}

bool
session_is_live(const struct hf_session *session, const struct hf_id *pack)
{
    return session->live_room > 0 && session->live[live_slot(session->live, session->live_room, pack)].live > 0;
}

void
session_seal_job(struct hf_session *session, struct hf_slab_worker *worker, struct slab_job *job)
{
    struct hf_error err;
    const uint8_t *plain = job->plain + job->start;
    const size_t length = job->end - job->start;
    if (!hf_slab_seal(worker, job->pack->cipher, &job->info, plain, length, &job->sealed, &err) ||
        ((session->options.prove_slabs || job->info.number % PROVE_ONE_IN == 0) &&
         !hf_slab_prove(worker, job->pack->cipher, &job->info, job->sealed.data, job->sealed.length, plain, length,
                        &err)))
        session_fail(session, &err);
}

/* Writes slabs in the order they were gathered, and ends packs: the only thread that waits for the disk. */
void *
session_writer_main(void *context)
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
        struct slab_job *job = session->first_slab;
        if (job == NULL || !job->done) {
            pthread_cond_wait(&session->slab_done, &session->lock);
            continue;
        }
        session->first_slab = job->next_in_order;
        if (session->first_slab == NULL)
            session->last_slab = NULL;
        pthread_mutex_unlock(&session->lock);
        if (!write_job(session, worker, job, &err))
            session_fail(session, &err);
        give_back_job(session, job);
        pthread_mutex_lock(&session->lock);
    }
    pthread_mutex_unlock(&session->lock);
    return NULL;
}

void
session_open_pack_freep(struct open_pack **pack)
{
    struct open_pack *gone = HF_TAKE(*pack);
    if (gone == NULL)
        return;
    hf_pack_writer_abortp(&gone->writer);
    hf_pack_cipher_freep(&gone->cipher);
    free(gone);
}

static bool
take_job(struct hf_session *session, struct slab_job **ret, struct hf_error *err)
{
    pthread_mutex_lock(&session->lock);
    while (session->free_slabs == NULL && !session->failed && !session->stopping)
        pthread_cond_wait(&session->room, &session->lock);
    struct slab_job *job = session->failed || session->stopping ? NULL : session->free_slabs;
    if (job != NULL)
        session->free_slabs = job->next_free;
    pthread_mutex_unlock(&session->lock);
    if (job == NULL)
        return session_check(session, err) && hf_fail(err, HF_ERR_CANCELLED, "the backup is being stopped");
    job->next_in_order = job->next_work = NULL;
    job->done = job->finish = false;
    job->run_count = 0;
    job->start = job->end = 0;
    *ret = job;
    return true;
}

static void
dispatch(struct hf_session *session, struct slab_job *job, bool needs_work)
{
    pthread_mutex_lock(&session->lock);
    job->done = !needs_work;
    if (session->last_slab == NULL)
        session->first_slab = job;
    else
        session->last_slab->next_in_order = job;
    session->last_slab = job;
    session->slabs_in_flight++;
    if (needs_work) {
        if (session->last_slab_work == NULL)
            session->slab_work = job;
        else
            session->last_slab_work->next_work = job;
        session->last_slab_work = job;
        pthread_cond_signal(&session->work_ready);
    } else {
        pthread_cond_signal(&session->slab_done);
    }
    pthread_mutex_unlock(&session->lock);
}

static bool
close_pages(struct hf_session *session, struct hf_error *err)
{
    struct slab_job *job = HF_TAKE(session->pages);
    _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(LIST_ROOM - 4);
    if (!hf_page_list_put(job->runs, job->run_count, &list, err))
        return false;
    memcpy(job->plain + LIST_ROOM - list.length, list.data, list.length);
    job->start = LIST_ROOM - list.length - 4;
    hf_put_u32(job->plain + job->start, (uint32_t)list.length);

    struct open_pack *pack = job->pack;
    if (!hf_census_set_stored(session->census, &pack->identity.pack, job->info.number, job->info.items, err))
        return false;
    dispatch(session, job, true);
    return atomic_load(&pack->stored) < HF_PACK_TARGET || finish_pack(session, &session->data_pack, err);
}

static bool
close_objects(struct hf_session *session, struct hf_error *err)
{
    struct object_gather *gather = &session->gather;
    struct slab_job *job;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    if (!hf_objects_join(gather->kinds, gather->lengths, gather->count, gather->bodies.data, gather->bodies.length,
                         &plain, err) ||
        !take_job(session, &job, err))
        return false;
    if (plain.length > job->plain_room) {
        uint8_t *grown = realloc(job->plain, plain.length);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for map objects");
        job->plain = grown;
        job->plain_room = plain.length;
    }
    memcpy(job->plain, plain.data, plain.length);
    job->start = 0;
    job->end = plain.length;
    job->pack = session->map_pack;
    job->info = (struct hf_slab_info){
        .number = session->map_pack->next_slab++, .kind = HF_SLAB_OBJECTS, .items = (uint32_t)gather->count};
    hf_buf_clear(&gather->bodies);
    gather->count = 0;
    struct open_pack *pack = job->pack;
    dispatch(session, job, true);
    return atomic_load(&pack->stored) < HF_PACK_TARGET || finish_pack(session, &session->map_pack, err);
}

static bool
open_pack(struct hf_session *session, enum hf_pack_kind kind, struct open_pack **ret, struct hf_error *err)
{
    const struct hf_vault_keys *keys = hf_vault_keys(session->vault);
    _cleanup_(session_open_pack_freep) struct open_pack *pack = calloc(1, sizeof *pack);
    if (pack == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack");
    pack->identity = (struct hf_pack_identity){.kind = kind,
                                               .suite = hf_suite_best(),
                                               .repository = keys->repository,
                                               .vault = keys->vault,
                                               .pack = hf_id_new(),
                                               .session = session->id,
                                               .key_epoch = keys->epochs[keys->epoch_count - 1].epoch,
                                               .writer_epoch = session->epoch,
                                               .created_at = session->started_at};
    pack->serial = ++session->pack_serial;
    if (!hf_pack_cipher_new(&pack->identity, keys, &pack->cipher, err))
        return false;
    *ret = HF_TAKE(pack);
    return true;
}

static bool
finish_pack(struct hf_session *session, struct open_pack **pack, struct hf_error *err)
{
    struct slab_job *job;
    if (!take_job(session, &job, err))
        return false;
    job->finish = true;
    job->pack = HF_TAKE(*pack);
    dispatch(session, job, false);
    return true;
}

static bool
add_run(struct slab_job *job, uint32_t file, uint8_t page_log2, uint64_t page, uint32_t short_by)
{
    struct hf_page_run *last = job->run_count > 0 ? &job->runs[job->run_count - 1] : NULL;
    if (last != NULL && last->file == file && last->short_by == 0 && last->first_page + last->count == page) {
        last->count++;
        last->short_by = short_by;
        return true;
    }
    if (job->run_count == HF_SLAB_PAGES_MOST)
        return false;
    job->runs[job->run_count++] = (struct hf_page_run){file, page_log2, page, 1, short_by};
    return true;
}

static bool
write_job(struct hf_session *session, struct hf_slab_worker *worker, struct slab_job *job, struct hf_error *err)
{
    struct open_pack *pack = job->pack;
    if (pack->writer == NULL && !hf_pack_writer_new(hf_vault_backend(session->vault), pack->cipher, &pack->writer, err))
        return false;
    if (job->finish) {
        _cleanup_(session_open_pack_freep) struct open_pack *finished = HF_TAKE(job->pack);
        uint64_t bytes;
        uint8_t sha256[HF_SHA256_BYTES];
        return hf_pack_writer_finish(&finished->writer, worker, &bytes, sha256, err) &&
               record_pack(session, finished, bytes, sha256, err);
    }
    if (job->info.kind == HF_SLAB_PAGES && !tell_files(session, job, err))
        return false;
    if (!hf_pack_writer_slab(pack->writer, &job->info, job->sealed.data, job->sealed.length, job->runs, job->run_count,
                             job->checks, err))
        return false;
    atomic_store(&pack->stored, hf_pack_writer_bytes(pack->writer));
    atomic_fetch_add(&session->counts.stored_bytes, job->sealed.length);
    return true;
}

/* The directory names each file of which the pack holds a page. */
static bool
tell_files(struct hf_session *session, struct slab_job *job, struct hf_error *err)
{
    for (size_t i = 0; i < job->run_count; i++) {
        pthread_mutex_lock(&session->lock);
        struct hf_session_file *file = session->files[job->runs[i].file];
        pthread_mutex_unlock(&session->lock);
        if (file->told_pack == job->pack->serial)
            continue;
        if (!hf_pack_writer_file(job->pack->writer, file->ordinal, file->page_log2, file->path, err))
            return false;
        file->told_pack = job->pack->serial;
    }
    return true;
}

static bool
record_pack(struct hf_session *session, struct open_pack *pack, uint64_t bytes, const uint8_t *sha256,
            struct hf_error *err)
{
    pthread_mutex_lock(&session->lock);
    bool ok = true;
    if (session->pack_count == session->pack_room) {
        const size_t room = session->pack_room > 0 ? 2 * session->pack_room : 16;
        struct session_pack *grown = realloc(session->finished, room * sizeof *grown);
        if (grown != NULL) {
            session->finished = grown;
            session->pack_room = room;
        } else {
            ok = hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
        }
    }
    if (ok) {
        struct session_pack *row = &session->finished[session->pack_count++];
        *row = (struct session_pack){.pack = pack->identity.pack, .kind = pack->identity.kind, .bytes = bytes};
        memcpy(row->sha256, sha256, sizeof row->sha256);
    }
    pthread_mutex_unlock(&session->lock);
    return ok;
}

static void
give_back_job(struct hf_session *session, struct slab_job *job)
{
    pthread_mutex_lock(&session->lock);
    job->next_free = session->free_slabs;
    session->free_slabs = job;
    session->slabs_in_flight--;
    pthread_cond_broadcast(&session->room);
    pthread_mutex_unlock(&session->lock);
}

static size_t
live_slot(const struct live_pack *table, size_t room, const struct hf_id *pack)
{
    uint64_t start;
    memcpy(&start, pack->bytes, sizeof start);
    size_t slot = start & (room - 1);
    while (table[slot].live > 0 && !hf_id_equal(&table[slot].pack, pack))
        slot = (slot + 1) & (room - 1);
    return slot;
}
