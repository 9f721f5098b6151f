#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/time.h"
#include "server/care/collect_internal.h"

#define DEFAULT_PERCENT 60
#define READ_BYTES      (1 * HF_MIB)
#define TRAILER_SLABS   40 // offset of the count in a pack's trailer

/* A pack in the object it lies in. */
struct resident {
    struct hf_id object; // first, for sorting
    struct hf_id pack;
    uint64_t sequence; // of its COMMIT
};

/* Where the parts of one pack lie in its object: from the container's index, or found by walking the pack. */
struct parts {
    uint64_t header_offset, directory_offset, directory_length;
    uint32_t slab_count;
    size_t count; // of slabs that are there
    struct hf_container_slab *slabs;
};

struct mover {
    struct collection *collection;
    struct hf_backend *backend;
    struct hf_id vault, session;
    uint64_t epoch;
    uint64_t marked_at;                 // head of the log before the maps were read
    struct hf_container_writer *writer; // NULL: none begun
    struct hf_id object;                // that it writes
    json_t *packs;                      // [[id, object], ...] of it
    size_t source_count;                // objects that it took from
    struct hf_id *sources;
    struct hf_buf piece;
};

static bool is_retained(struct mover *mover, const struct hf_id *object, bool *ret, struct hf_error *err);
static bool note_source(struct mover *mover, const struct hf_id *object, struct hf_error *err);
static bool take_locks_along(struct mover *mover, struct hf_error *err);
static unsigned percent_of(const struct mover *mover);
static bool list_residents(const struct hf_vault_state *state, struct resident **ret, size_t *ret_count,
                           struct hf_error *err);
static bool move_object(struct mover *mover, const struct resident *residents, size_t count, struct hf_error *err);
static bool note_damage(struct mover *mover, const struct resident *resident, struct hf_error *err);
static bool is_worth_a_look(struct mover *mover, const struct resident *residents, size_t count, bool *ret,
                            struct hf_error *err);
static bool find_parts(struct mover *mover, const struct resident *residents, size_t count, uint64_t bytes,
                       struct parts *parts, struct hf_error *err);
static bool walk_pack(struct mover *mover, const char *name, uint64_t bytes, struct parts *ret, struct hf_error *err);
static bool copy_parts(const struct hf_container_member *member, struct parts *ret, struct hf_error *err);
static bool is_thin(struct mover *mover, const struct resident *residents, size_t count, const struct parts *parts,
                    uint64_t bytes, bool *ret, struct hf_error *err);
static bool hash_object(struct mover *mover, const char *name, uint64_t bytes, const uint8_t *sha256, bool *ret_same,
                        struct hf_error *err);
static bool copy_pack(struct mover *mover, const struct hf_id *object, const struct hf_id *pack,
                      const struct parts *parts, struct hf_error *err);
static bool begin_container(struct mover *mover, struct hf_error *err);
static bool finish_container(struct mover *mover, struct hf_error *err);
static bool begin_session(struct mover *mover, struct hf_error *err);
static void end_session(struct mover *mover, bool well);
static bool fetch(struct mover *mover, const char *name, uint64_t offset, uint64_t length, struct hf_error *err);
static void free_parts(struct parts *parts, size_t count);
static int by_object(const void *a, const void *b);

bool
collect_move(struct collection *collection, struct hf_error *err)
{
    const struct hf_vault_state *state;
    _cleanup_(hf_freep) struct resident *residents = NULL;
    size_t count;
    struct mover mover = {.collection = collection,
                          .backend = hf_vault_backend(collection->vault),
                          .vault = hf_vault_id(collection->vault),
                          .piece = HF_BUF_INIT(HF_DIRECTORY_MOST + HF_KIB)};
    if (!hf_vault_read(collection->vault, NULL, NULL, &state, err))
        return false;
    mover.marked_at = state->head;
    if (!mark_slabs(collection->vault, state, collection->options->cancel, &collection->mark, err))
        return false;
    if (!collection->mark.whole)
        return true;
    if (!hf_vault_read(collection->vault, NULL, NULL, &state, err) || !list_residents(state, &residents, &count, err))
        return false;

    if (collection->options->phase != NULL)
        atomic_store(collection->options->phase, "move");
    bool ok = true;
    for (size_t at = 0, end; ok && at < count; at = end) {
        for (end = at + 1; end < count && hf_id_equal(&residents[end].object, &residents[at].object);)
            end++;
        ok = collect_go_on(collection, err) && move_object(&mover, residents + at, end - at, err);
    }
    ok = ok && finish_container(&mover, err);
    hf_container_writer_abortp(&mover.writer);
    hf_json_freep(&mover.packs);
    free(mover.sources);
    hf_buf_done(&mover.piece);
    end_session(&mover, ok);
    return ok;
}

/* Packs that somebody needs, by object; objects in no order, a pack's neighbours in that of their commits. */
static bool
list_residents(const struct hf_vault_state *state, struct resident **ret, size_t *ret_count, struct hf_error *err)
{
    struct resident *rows = calloc(state->pack_count + 1, sizeof *rows);
    if (rows == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    *ret_count = 0;
    for (size_t i = 0; i < state->pack_count; i++)
        if (state->packs[i].condemned == 0 && state->packs[i].kind != HF_PACK_STREAM) // those are whole or not at all
            rows[(*ret_count)++] =
                (struct resident){state->packs[i].object, state->packs[i].pack, state->packs[i].sequence};
    qsort(rows, *ret_count, sizeof *rows, by_object);
    *ret = rows;
    return true;
}

/* One object with the packs that still count on it. */
static bool
move_object(struct mover *mover, const struct resident *residents, size_t count, struct hf_error *err)
{
    struct hf_collect_report *report = mover->collection->report;
    const struct hf_vault_state *state;
    char name[HF_PLACE_BYTES];
    uint64_t bytes;
    const uint8_t *sha256;
    uint8_t hash[HF_SHA256_BYTES];
    bool thin;
    bool retained;
    if (!is_worth_a_look(mover, residents, count, &thin, err))
        return false;
    if (!thin)
        return true;
    if (!is_retained(mover, &residents[0].object, &retained, err))
        return false;
    if (retained) // it would go on lying there: moved, it takes its room twice
        return true;
    if (!hf_vault_read(mover->collection->vault, NULL, NULL, &state, err))
        return false;
    const struct hf_vault_pack *first = hf_vault_state_pack(state, &residents[0].pack);
    if (first == NULL || !hf_id_equal(&first->object, &residents[0].object) || first->moved > mover->marked_at)
        return true; // somebody else has moved it, and may have left behind what we took for live
    hf_vault_state_place(state, &mover->vault, first, name, &bytes, &sha256);
    memcpy(hash, sha256, sizeof hash);

    struct parts *parts = calloc(count, sizeof *parts);
    if (parts == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for moving packs");
    struct hf_error why = {0};
    bool same = false;
    bool ok = find_parts(mover, residents, count, bytes, parts, &why) &&
              is_thin(mover, residents, count, parts, bytes, &thin, &why) &&
              (!thin || hash_object(mover, name, bytes, hash, &same, &why));
    const bool damaged = (!ok && (why.kind == HF_ERR_CORRUPT || why.kind == HF_ERR_NOT_FOUND)) || (ok && thin && !same);
    if (damaged) { // check tells of it, and the next backup heals it; copying would only hide it
        ok = note_damage(mover, residents, &why);
    } else if (ok && thin) {
        for (size_t i = 0; ok && i < count; i++)
            ok = copy_pack(mover, &residents[i].object, &residents[i].pack, &parts[i], &why);
        report->moved += ok ? count : 0;
        report->moved_bytes += ok ? bytes : 0;
    }
    free_parts(parts, count);
    if (!ok && why.kind == HF_ERR_NOT_FOUND)
        return hf_fail(err, HF_ERR_CONFLICT, "another appliance collects in this vault too");
    if (!ok && err != NULL)
        *err = why;
    return ok;
}

/* Unless somebody else has moved it meanwhile: then it is not ours to judge any more. */
static bool
note_damage(struct mover *mover, const struct resident *resident, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(mover->collection->vault, NULL, NULL, &state, err))
        return false;
    const struct hf_vault_pack *pack = hf_vault_state_pack(state, &resident->pack);
    if (pack != NULL && hf_id_equal(&pack->object, &resident->object))
        mover->collection->report->damaged++;
    return true;
}

static bool
is_retained(struct mover *mover, const struct hf_id *object, bool *ret, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    int64_t until;
    hf_pack_name(&mover->vault, object, name);
    if (!hf_backend_retained_until(mover->backend, name, &until, err))
        return false;
    *ret = until > hf_time_now_ms(); // by the storage's clock, which keeps its locks, and not the log's
    return true;
}

static bool
note_source(struct mover *mover, const struct hf_id *object, struct hf_error *err)
{
    if (mover->source_count > 0 && hf_id_equal(&mover->sources[mover->source_count - 1], object))
        return true; // they come object by object
    struct hf_id *grown = reallocarray(mover->sources, mover->source_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for moving packs");
    mover->sources = grown;
    mover->sources[mover->source_count++] = *object;
    return true;
}

/*
 * Somebody may lock a backup while its packs are on their way: he locked the objects in which they lay when he read the
 * log.  After the RELOCATE nobody new does, and those objects are still there, since his pin is older.
 */
static bool
take_locks_along(struct mover *mover, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    int64_t latest = HF_RETAINED_NEVER, until;
    for (size_t i = 0; i < mover->source_count; i++) {
        hf_pack_name(&mover->vault, &mover->sources[i], name);
        if (!hf_backend_retained_until(mover->backend, name, &until, err))
            return false;
        latest = until > latest ? until : latest;
    }
    mover->source_count = 0;
    return latest <= hf_time_now_ms() ||
           hf_backend_retain_until(mover->backend, hf_pack_name(&mover->vault, &mover->object, name), latest, err);
}

static unsigned
percent_of(const struct mover *mover)
{
    const unsigned percent = mover->collection->options->live_percent;
    return percent != 0 ? percent : DEFAULT_PERCENT;
}

/* By the counts of slabs alone, which cost one small read a pack. */
static bool
is_worth_a_look(struct mover *mover, const struct resident *residents, size_t count, bool *ret, struct hf_error *err)
{
    const struct marked_pack *marked = mark_find(&mover->collection->mark, &residents[0].pack);
    *ret = true;
    if (count != 1 || !hf_id_equal(&residents[0].object, &residents[0].pack))
        return true; // a container's index costs one read too
    if (marked == NULL) {
        *ret = false; // it came after we looked
        return true;
    }
    char name[HF_PACK_NAME_BYTES];
    uint8_t trailer[HF_PACK_TRAILER];
    bool found;
    uint64_t size;
    struct hf_error why = {0};
    hf_pack_name(&mover->vault, &residents[0].pack, name);
    if (!hf_backend_stat(mover->backend, name, &found, &size, err))
        return false;
    if (!found || size < HF_PACK_HEADER + HF_PACK_TRAILER) {
        *ret = false;
        return note_damage(mover, residents, err);
    }
    if (!hf_backend_get_range(mover->backend, name, size - HF_PACK_TRAILER, trailer, sizeof trailer, &why)) {
        if (why.kind != HF_ERR_NOT_FOUND) {
            if (err != NULL)
                *err = why;
            return false;
        }
        *ret = false;
        return note_damage(mover, residents, err);
    }
    /* Slabs are about equal in size: a third more of them than the wanted share are too many. */
    *ret = (uint64_t)marked->live_count * 300 < (uint64_t)hf_get_u32(trailer + TRAILER_SLABS) * 4 * percent_of(mover);
    return true;
}

static bool
find_parts(struct mover *mover, const struct resident *residents, size_t count, uint64_t bytes, struct parts *parts,
           struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES];
    if (count == 1 && hf_id_equal(&residents[0].object, &residents[0].pack))
        return walk_pack(mover, hf_pack_name(&mover->vault, &residents[0].pack, name), bytes, &parts[0], err);

    _cleanup_(hf_container_freep) struct hf_container *container = NULL;
    if (!hf_container_read(mover->backend, &hf_vault_keys(mover->collection->vault)->repository, &mover->vault,
                           &residents[0].object, &container, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct hf_container_member *member = hf_container_find(container, &residents[i].pack);
        if (member == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "container \"%s\" does not hold a pack that the log says it does",
                           hf_id_format(&residents[i].object, text));
        if (!copy_parts(member, &parts[i], err))
            return false;
    }
    return true;
}

/* Slab headers are public: no key is needed to see where each slab lies. */
static bool
walk_pack(struct mover *mover, const char *name, uint64_t bytes, struct parts *ret, struct hf_error *err)
{
    uint8_t trailer[HF_PACK_TRAILER], header[HF_SLAB_HEADER];
    if (bytes < HF_PACK_HEADER + HF_PACK_TRAILER ||
        !hf_backend_get_range(mover->backend, name, bytes - HF_PACK_TRAILER, trailer, sizeof trailer, err))
        return false;
    ret->directory_offset = hf_get_u64(trailer + 8);
    ret->directory_length = hf_get_u64(trailer + 16);
    ret->slab_count = hf_get_u32(trailer + TRAILER_SLABS);
    if (hf_get_u32(trailer + 60) != hf_crc32c(0, trailer, 60) || ret->slab_count > HF_PACK_SLABS_MOST ||
        ret->directory_length > HF_DIRECTORY_MOST || ret->directory_offset > bytes - HF_PACK_TRAILER)
        return hf_fail(err, HF_ERR_CORRUPT, "the end of \"%s\" is damaged or cut off", name);
    ret->slabs = calloc((size_t)ret->slab_count + 1, sizeof *ret->slabs);
    if (ret->slabs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slabs");

    for (uint64_t at = HF_PACK_HEADER; at < ret->directory_offset && ret->count < ret->slab_count;) {
        if (!hf_backend_get_range(mover->backend, name, at, header, sizeof header, err))
            return false;
        if (hf_get_u64(header) == 0) { // a gap
            at += 8;
            continue;
        }
        const uint64_t length = HF_SLAB_HEADER + (uint64_t)hf_get_u32(header + 12) + HF_AEAD_TAG_BYTES;
        if (memcmp(header, "HFSL", 4) != 0 || hf_get_u32(header + 28) != hf_crc32c(0, header, 28) ||
            hf_get_u32(header + 4) != ret->count || length > ret->directory_offset - at)
            return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" has no slab %zu at byte %llu", name, ret->count,
                           (unsigned long long)at);
        ret->slabs[ret->count++] = (struct hf_container_slab){hf_get_u32(header + 4), (uint32_t)length, at};
        at = (at + length + 7) & ~UINT64_C(7);
    }
    return ret->count == ret->slab_count ||
           hf_fail(err, HF_ERR_CORRUPT, "\"%s\" has %zu slabs, its end counts %u", name, ret->count, ret->slab_count);
}

static bool
copy_parts(const struct hf_container_member *member, struct parts *ret, struct hf_error *err)
{
    *ret = (struct parts){.header_offset = member->header_offset,
                          .directory_offset = member->directory_offset,
                          .directory_length = member->directory_length,
                          .slab_count = member->slab_count,
                          .count = member->live_count,
                          .slabs = calloc(member->live_count + 1, sizeof *ret->slabs)};
    if (ret->slabs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slabs");
    if (member->live_count > 0)
        memcpy(ret->slabs, member->live, member->live_count * sizeof *ret->slabs);
    return true;
}

/* Whether what is live, headers and directories included, is less than the wanted share of the object's bytes. */
static bool
is_thin(struct mover *mover, const struct resident *residents, size_t count, const struct parts *parts, uint64_t bytes,
        bool *ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    uint64_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        const struct marked_pack *marked = mark_find(&mover->collection->mark, &residents[i].pack);
        uint32_t live = 0;
        if (marked == NULL) { // it came after we looked
            *ret = false;
            return true;
        }
        kept += HF_PACK_HEADER + parts[i].directory_length;
        for (size_t slab = 0; slab < parts[i].count; slab++) {
            if (!mark_is_live(marked, parts[i].slabs[slab].number))
                continue;
            kept += parts[i].slabs[slab].length;
            live++;
        }
        if (live != marked->live_count)
            return hf_fail(err, HF_ERR_CORRUPT, "maps lead to slabs of pack \"%s\" that it does not have",
                           hf_id_format(&residents[i].pack, text));
    }
    *ret = kept * 100 < bytes * percent_of(mover);
    return true;
}

/* Without the data key this is how damage is found before it is copied. */
static bool
hash_object(struct mover *mover, const char *name, uint64_t bytes, const uint8_t *sha256, bool *ret_same,
            struct hf_error *err)
{
    bool found;
    uint64_t size;
    uint8_t digest[HF_SHA256_BYTES];
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    if (!hf_backend_stat(mover->backend, name, &found, &size, err) || !hf_sha256_new(&running, err))
        return false;
    *ret_same = false;
    if (!found || size != bytes)
        return true;
    if (mover->collection->options->total != NULL)
        atomic_fetch_add(mover->collection->options->total, bytes);
    for (uint64_t at = 0; at < bytes; at += READ_BYTES) {
        const uint64_t length = bytes - at < READ_BYTES ? bytes - at : READ_BYTES;
        if (!collect_go_on(mover->collection, err) || !fetch(mover, name, at, length, err))
            return false;
        hf_sha256_add(running, mover->piece.data, length);
        if (mover->collection->options->done != NULL)
            atomic_fetch_add(mover->collection->options->done, length);
    }
    hf_sha256_end(running, digest);
    *ret_same = memcmp(digest, sha256, sizeof digest) == 0;
    return true;
}

static bool
copy_pack(struct mover *mover, const struct hf_id *object, const struct hf_id *pack, const struct parts *parts,
          struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    const uint64_t most = mover->collection->options->container_bytes != 0 ? mover->collection->options->container_bytes
                                                                           : HF_CONTAINER_TARGET;
    const struct marked_pack *marked = mark_find(&mover->collection->mark, pack);
    hf_pack_name(&mover->vault, object, name);
    if (mover->writer == NULL && !begin_container(mover, err))
        return false;
    if (!fetch(mover, name, parts->header_offset, HF_PACK_HEADER, err) ||
        !hf_container_writer_pack(mover->writer, pack, mover->piece.data, err))
        return false;
    for (size_t i = 0; i < parts->count; i++) {
        const struct hf_container_slab *slab = &parts->slabs[i];
        if (mark_is_live(marked, slab->number) &&
            (!fetch(mover, name, slab->offset, slab->length, err) ||
             !hf_container_writer_slab(mover->writer, slab->number, mover->piece.data, slab->length, err)))
            return false;
    }
    if (!fetch(mover, name, parts->directory_offset, parts->directory_length, err) ||
        !hf_container_writer_directory(mover->writer, parts->slab_count, mover->piece.data, parts->directory_length,
                                       err))
        return false;
    if (!note_source(mover, object, err))
        return false;
    json_t *row = json_pack("[o, o]", hf_json_id_text(pack), hf_json_id_text(&mover->object));
    if (row == NULL || json_array_append_new(mover->packs, row) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return hf_container_writer_bytes(mover->writer) < most || finish_container(mover, err);
}

static bool
begin_container(struct mover *mover, struct hf_error *err)
{
    if (hf_id_is_none(&mover->session) && !begin_session(mover, err))
        return false;
    mover->object = hf_id_new();
    mover->packs = json_array();
    if (mover->packs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_container_identity identity = {.repository = hf_vault_keys(mover->collection->vault)->repository,
                                                   .vault = mover->vault,
                                                   .object = mover->object,
                                                   .session = mover->session,
                                                   .writer_epoch = mover->epoch,
                                                   .created_at = mover->collection->options->now};
    return hf_container_writer_new(mover->backend, &identity, &mover->writer, err);
}

/* Its bytes, then its name, then the entry from which on it is read. */
static bool
finish_container(struct mover *mover, struct hf_error *err)
{
    uint64_t bytes;
    uint8_t sha256[HF_SHA256_BYTES];
    if (mover->writer == NULL)
        return true;
    if (!hf_container_writer_finish(&mover->writer, &bytes, sha256, err) || !hf_backend_barrier(mover->backend, err))
        return false;
    json_t *part =
        json_pack("{s:o, s:O, s:[[o, I, o]]}", "session", hf_json_id_text(&mover->session), "packs", mover->packs,
                  "objects", hf_json_id_text(&mover->object), (json_int_t)bytes, hf_json_hex(sha256, sizeof sha256));
    hf_json_freep(&mover->packs);
    if (!collect_append(mover->collection, HF_LOG_RELOCATE, part, err) || !take_locks_along(mover, err))
        return false;
    mover->collection->report->containers++;
    mover->collection->report->container_bytes += bytes;
    return true;
}

static bool
begin_session(struct mover *mover, struct hf_error *err)
{
    const struct hf_vault_state *state;
    const struct hf_id session = hf_id_new();
    if (!collect_append(mover->collection, HF_LOG_INTENT,
                        json_pack("{s:o, s:[], s:n, s:s}", "session", hf_json_id_text(&session), "parents", "builds_on",
                                  "operation", "collect"),
                        err) ||
        !hf_vault_read(mover->collection->vault, NULL, NULL, &state, err))
        return false;
    mover->session = session;
    mover->epoch = state->epoch;
    return true;
}

/* What cannot be said the next collection says. */
static void
end_session(struct mover *mover, bool well)
{
    struct hf_error ignored;
    if (hf_id_is_none(&mover->session))
        return;
    json_t *part = well ? json_pack("{s:o}", "session", hf_json_id_text(&mover->session))
                        : json_pack("{s:o, s:s}", "session", hf_json_id_text(&mover->session), "reason", "failed");
    (void)!collect_append(mover->collection, well ? HF_LOG_END : HF_LOG_ABORT, part, &ignored);
}

/* Into mover->piece. */
static bool
fetch(struct mover *mover, const char *name, uint64_t offset, uint64_t length, struct hf_error *err)
{
    hf_buf_clear(&mover->piece);
    return hf_buf_reserve(&mover->piece, length, err) &&
           hf_backend_get_range(mover->backend, name, offset, mover->piece.data, length, err);
}

static void
free_parts(struct parts *parts, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(parts[i].slabs);
    free(parts);
}

static int
by_object(const void *a, const void *b)
{
    const struct resident *left = a, *right = b;
    const int order = hf_id_compare(&left->object, &right->object);
    return order != 0 ? order : (left->sequence > right->sequence) - (left->sequence < right->sequence);
}
