#include "server/care/check.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/care/check_internal.h"
#include "server/repository/vault_state.h"

#define READ_BYTES   (1 * HF_MIB)
#define WORKERS_MOST 32

/* Bytes of a pack that belong to no slab: they must be zeros. */
struct gap {
    uint64_t from, to;
};

/* What one pack is judged by, as far as it could be read. */
struct opened_pack {
    struct hf_pack_directory *directory; // NULL: it does not read
    struct hf_error why;                 // then
    size_t gap_count;
    struct gap *gaps; // in order
};

static bool check_vault(struct check *check, struct hf_error *err);
static bool read_state(struct check *check, struct hf_error *err);
static bool choose_packs(struct check *check, struct hf_error *err);
static void choose_named(struct check *check);
static void *pack_work(void *context);
static void tell_judged(struct check *check, const struct checked_pack *checked);
static bool check_pack(struct check *check, struct hf_slab_worker *worker, struct checked_pack *checked,
                       struct hf_error *err);
static bool open_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
                      const char *name, struct opened_pack *ret, struct hf_error *err);
static bool find_gaps(struct check *check, const char *name, const struct hf_vault_pack *pack, struct opened_pack *ret,
                      struct hf_error *err);
static void close_pack(struct opened_pack *opened);
static bool check_whole(struct check *check, const char *name, struct checked_pack *checked,
                        const struct opened_pack *opened, struct hf_error *err);
static bool hash_pack(struct check *check, const char *name, const struct hf_vault_pack *pack,
                      const struct opened_pack *opened, bool *ret_same, bool *ret_zeros, struct hf_error *err);
static bool find_in_gaps(const struct opened_pack *opened, size_t *next, uint64_t at, const uint8_t *piece,
                         size_t length);
static bool check_inside(struct check *check, struct hf_slab_worker *worker, struct checked_pack *checked,
                         const struct opened_pack *opened, struct hf_error *err);
static enum hf_damage_kind damage_kind(const struct hf_error *err);
static bool check_header(struct check *check, const struct hf_vault_pack *pack, struct hf_error *err);
static const char *pack_kind_name(uint8_t kind);
static bool check_names(const struct hf_pack_directory *directory, const struct hf_vault_pack *pack,
                        struct hf_error *err);
static bool check_slab(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
                       const struct hf_pack_directory *directory, uint32_t number, struct hf_buf *plain,
                       struct hf_slab_pages **pages, struct hf_error *err);
static bool check_objects(const struct hf_buf *plain, const struct hf_slab_info *info, struct hf_error *err);
static bool check_pages(struct check *check, const struct hf_pack_directory *directory, const struct hf_slab_info *info,
                        const struct hf_buf *plain, struct hf_slab_pages **pages, struct hf_error *err);
static bool note_broken_slab(struct checked_pack *checked, uint32_t number, struct hf_error *err);
static bool count_orphan(void *context, const struct hf_object_info *object, struct hf_error *err);

const char *
hf_damage_kind_name(enum hf_damage_kind kind)
{
    static const char *const names[] = {
        [HF_DAMAGE_MISSING] = "missing", [HF_DAMAGE_SIZE] = "size", [HF_DAMAGE_ALTERED] = "altered",
        [HF_DAMAGE_LOG] = "log",         [HF_DAMAGE_MAP] = "map",   [HF_DAMAGE_UNREADABLE] = "unreadable",
        [HF_DAMAGE_KEYS] = "keys",
    };
    return names[kind];
}

bool
hf_repository_check(struct hf_repository *repository, const struct hf_check_options *options,
                    struct hf_check_report *ret, struct hf_error *err)
{
    *ret = (struct hf_check_report){0};
    struct check check = {
        .options = options, .repository = repository, .backend = hf_repository_backend(repository), .report = ret};
    if (options->level < 0 || options->level > 2)
        return hf_fail(err, HF_ERR_USAGE, "check level %d is not 0, 1 or 2", options->level);
    if (options->level == 2 && hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "check level 2 opens every slab: it needs a key");
    const struct hf_id house = hf_repository_id(repository);
    pthread_mutex_init(&check.lock, NULL);
    const bool looked =
        (options->vault != NULL && !hf_id_equal(options->vault, &house)) || check_keys_of_repository(&check, err);
    pthread_mutex_destroy(&check.lock);
    if (!looked)
        return false;
    if (options->vault != NULL) {
        check.vault_id = *options->vault;
        return check_vault(&check, err);
    }

    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (!hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct check one = check;
        one.vault_id = vaults[i];
        if (!check_vault(&one, err))
            return false;
    }
    return true;
}

bool
hf_vault_check(struct hf_vault *vault, const struct hf_check_options *options, struct hf_check_report *ret,
               struct hf_error *err)
{
    *ret = (struct hf_check_report){0};
    struct check check = {.options = options,
                          .backend = hf_vault_backend(vault),
                          .vault = vault,
                          .vault_id = hf_vault_id(vault),
                          .report = ret};
    if (options->level < 0 || options->level > 2)
        return hf_fail(err, HF_ERR_USAGE, "check level %d is not 0, 1 or 2", options->level);
    return check_vault(&check, err);
}

static bool
check_vault(struct check *check, struct hf_error *err)
{
    char prefix[64], text[HF_ID_TEXT_BYTES];
    pthread_mutex_init(&check->lock, NULL);
    check->report->vaults++;

    bool ok = check->repository == NULL || check_keys_of_vault(check, err);
    const bool reads = ok && read_state(check, err);
    if (ok && !reads) {
        ok = check_is_damage(err);
        if (ok)
            check_tell(check, HF_DAMAGE_LOG, NULL, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
    } else if (ok && !check->state->shredded) { // what is left of a shredded vault is noise, and may go at any time
        snprintf(prefix, sizeof prefix, "vaults/%s/packs/", hf_id_format(&check->vault_id, text));
        ok = choose_packs(check, err) && check_run_workers(check, pack_work, err) &&
             (check->options->level < 2 || check_containers(check, err)) &&
             (check->options->no_walk || hf_backend_list(check->backend, prefix, count_orphan, check, err));
        for (size_t i = 0; ok && check->options->packs == NULL && i < check->state->backup_count; i++) {
            const struct hf_vault_backup *backup = &check->state->backups[i];
            if (backup->pruned ||
                (check->options->backup != NULL && !hf_id_equal(check->options->backup, &backup->backup)))
                continue;
            check->report->backups++;
            ok = check->options->level < 2 || check_backup(check, backup, err);
        }
    }

    check_backup_done(check);
    for (size_t i = 0; i < check->wanted_count; i++)
        free(check->wanted[i].broken_slabs);
    free(check->wanted);
    free(check->used);
    free(check->containers);
    hf_pack_reader_freep(&check->packs);
    hf_vault_freep(&check->own_vault);
    hf_vault_state_freep(&check->own_state);
    pthread_mutex_destroy(&check->lock);
    return ok;
}

static bool
read_state(struct check *check, struct hf_error *err)
{
    const bool deep = check->options->level == 2;
    if (check->vault == NULL && deep) {
        if (!hf_vault_open_any(check->repository, &check->vault_id, &check->own_vault, err))
            return false;
        check->vault = check->own_vault;
    }
    if (check->vault == NULL) {
        if (!hf_vault_read_shut(check->repository, &check->vault_id, &check->own_state, err))
            return false;
        check->state = check->own_state;
    } else if (!hf_vault_read(check->vault, NULL, NULL, &check->state, err) ||
               (deep && !check->state->shredded && !hf_vault_pack_reader(check->vault, &check->packs, err))) {
        return false;
    }
    check->report->log_entries += check->state->head;
    return true;
}

/* All that count, or those one backup's manifest lists. */
static bool
choose_packs(struct check *check, struct hf_error *err)
{
    const size_t most = check->options->packs != NULL ? check->options->pack_count : check->state->pack_count;
    check->wanted = calloc(most + 1, sizeof(*check->wanted));
    if (check->wanted == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    if (check->options->packs != NULL) {
        choose_named(check);
        return true;
    }
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    if (check->options->backup != NULL && check->options->level == 2 &&
        !hf_backup_open(check->vault, check->options->backup, &backup, err)) {
        if (!check_is_damage(err))
            return false;
        backup = NULL; // check_backup will tell of it; every pack is looked at meanwhile
    }
    const struct hf_manifest_root *root = backup != NULL ? hf_backup_root(backup) : NULL;
    const struct hf_vault_backup *committed =
        root != NULL ? hf_vault_state_backup(check->state, check->options->backup) : NULL;
    for (size_t i = 0; i < check->state->pack_count; i++) {
        const struct hf_vault_pack *pack = &check->state->packs[i];
        /* The root stands in no summary, and may be all that its pack holds. */
        bool wanted = root == NULL || hf_id_equal(&committed->root_pack, &pack->pack);
        for (size_t row = 0; !wanted && row < root->summary_count; row++)
            wanted = hf_id_equal(&root->summary[row].pack, &pack->pack);
        if (!wanted)
            continue;
        check->wanted[check->wanted_count++].pack = pack;
        if (check->options->total != NULL)
            atomic_fetch_add(check->options->total, pack->bytes);
    }
    return true;
}

/* Those that were asked for by id; one that has been deleted since is none any more. */
static void
choose_named(struct check *check)
{
    for (size_t i = 0; i < check->options->pack_count; i++) {
        const struct hf_vault_pack *pack = hf_vault_state_pack(check->state, &check->options->packs[i]);
        if (pack == NULL)
            continue;
        check->wanted[check->wanted_count++].pack = pack;
        if (check->options->total != NULL)
            atomic_fetch_add(check->options->total, pack->bytes);
    }
}

void
check_tell(struct check *check, enum hf_damage_kind kind, const struct hf_id *pack, uint32_t slab,
           const struct hf_id *backup, const char *file, const char *message)
{
    const struct hf_damage damage = {.kind = kind,
                                     .vault = check->vault_id,
                                     .pack = pack != NULL ? *pack : HF_ID_NONE,
                                     .slab = slab,
                                     .backup = backup != NULL ? *backup : HF_ID_NONE,
                                     .file = file,
                                     .message = message};
    pthread_mutex_lock(&check->lock);
    check->report->damages++;
    if (check->options->damage != NULL)
        check->options->damage(check->options->context, &damage);
    pthread_mutex_unlock(&check->lock);
}

bool
check_is_damage(const struct hf_error *err)
{
    return err->kind == HF_ERR_CORRUPT || err->kind == HF_ERR_NOT_FOUND || err->kind == HF_ERR_UNAVAILABLE ||
           err->kind == HF_ERR_DENIED || err->kind == HF_ERR_CONFLICT;
}

bool
check_cancelled(const struct check *check)
{
    return check->options->cancel != NULL && atomic_load(check->options->cancel);
}

void
check_fail(struct check *check, const struct hf_error *err)
{
    pthread_mutex_lock(&check->lock);
    if (!check->failed) {
        check->failed = true;
        check->failure = *err;
    }
    pthread_mutex_unlock(&check->lock);
}

bool
check_storage(struct check *check, const struct hf_error *why, struct hf_error *err)
{
    struct hf_superblock superblock;
    if (hf_superblock_read(check->backend, HF_ACCESS_READ, &superblock, err))
        return true;
    if (why != NULL)
        *err = *why;
    err->kind = HF_ERR_UNAVAILABLE;
    return hf_fail_within(err, "the repository went away during the check");
}

bool
check_run_workers(struct check *check, void *(*work)(void *), struct hf_error *err)
{
    pthread_t threads[WORKERS_MOST];
    unsigned wanted = check->options->workers, started = 0;
    if (wanted == 0)
        wanted = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted > WORKERS_MOST)
        wanted = WORKERS_MOST;
    check->next = 0;
    while (wanted > 1 && started < wanted && pthread_create(&threads[started], NULL, work, check) == 0)
        started++;
    if (started == 0)
        work(check); // one is enough, or no threads are to be had: slower, but done
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (check_cancelled(check))
        return hf_fail(err, HF_ERR_CANCELLED, "the check was cancelled");
    if (check->failed)
        *err = check->failure;
    return !check->failed;
}

struct checked_pack *
check_find_pack(const struct check *check, const struct hf_id *pack)
{
    size_t low = 0, high = check->wanted_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = hf_id_compare(&check->wanted[middle].pack->pack, pack);
        if (order == 0)
            return &check->wanted[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static void *
pack_work(void *context)
{
    struct check *check = context;
    struct hf_error err;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    if (!hf_slab_worker_new(1, &worker, &err)) {
        check_fail(check, &err);
        return NULL;
    }
    while (!check_cancelled(check)) {
        pthread_mutex_lock(&check->lock);
        struct checked_pack *checked =
            !check->failed && check->next < check->wanted_count ? &check->wanted[check->next++] : NULL;
        pthread_mutex_unlock(&check->lock);
        if (checked == NULL)
            return NULL;
        if (!check_pack(check, worker, checked, &err)) {
            check_fail(check, &err);
            return NULL;
        }
        if (check->options->judged != NULL && !check_cancelled(check))
            tell_judged(check, checked);
    }
    return NULL;
}

void
check_tell_pack(struct check *check, struct checked_pack *checked, enum hf_damage_kind kind, uint32_t slab,
                const char *message)
{
    checked->told = true;
    check_tell(check, kind, &checked->pack->pack, slab, NULL, NULL, message);
}

static void
tell_judged(struct check *check, const struct checked_pack *checked)
{
    pthread_mutex_lock(&check->lock);
    check->options->judged(check->options->context, &check->vault_id, &checked->pack->pack, !checked->told);
    pthread_mutex_unlock(&check->lock);
}

static bool
check_pack(struct check *check, struct hf_slab_worker *worker, struct checked_pack *checked, struct hf_error *err)
{
    const struct hf_vault_pack *pack = checked->pack;
    char name[HF_PLACE_BYTES], message[HF_ERROR_MESSAGE_BYTES], text[HF_ID_TEXT_BYTES];
    bool found;
    uint64_t size, expected;
    hf_vault_state_place(check->state, &check->vault_id, pack, name, &expected, NULL);
    hf_id_format(&pack->pack, text);
    checked->broken = true; // until it has shown its directory
    if (!hf_backend_stat(check->backend, name, &found, &size, err)) {
        const struct hf_error why = *err;
        if (!check_storage(check, &why, err))
            return false;
        check_tell_pack(check, checked, HF_DAMAGE_UNREADABLE, HF_DAMAGE_NO_SLAB, why.message);
        return true;
    }
    pthread_mutex_lock(&check->lock);
    check->report->packs++;
    check->report->pack_bytes += found ? size : 0;
    pthread_mutex_unlock(&check->lock);
    if (!found) {
        snprintf(message, sizeof message, "pack \"%s\" is missing", text);
        if (!check_storage(check, NULL, err))
            return false;
        check_tell_pack(check, checked, HF_DAMAGE_MISSING, HF_DAMAGE_NO_SLAB, message);
        return true;
    }

    struct opened_pack opened = {0};
    bool ok = check->options->level < 2 || (open_pack(check, worker, pack, name, &opened, err) &&
                                            check_inside(check, worker, checked, &opened, err));
    if (ok && size != expected) {
        snprintf(message, sizeof message, "pack \"%s\" has %llu bytes, the log says %llu", text,
                 (unsigned long long)size, (unsigned long long)expected);
        check_tell_pack(check, checked, HF_DAMAGE_SIZE, HF_DAMAGE_NO_SLAB, message);
    } else if (ok && check->options->level >= 1 && pack->moved == 0) {
        ok = check_whole(check, name, checked, &opened, err);
    } else if (ok && check->options->level == 1) {
        ok = check_container(check, checked, err);
    }
    close_pack(&opened);
    return ok;
}

/* The directory, and where nothing may lie.  A pack that is damaged here is told of by the caller: *ret says why. */
static bool
open_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack, const char *name,
          struct opened_pack *ret, struct hf_error *err)
{
    if (!hf_pack_reader_directory(check->packs, worker, &pack->pack, &ret->directory, &ret->why)) {
        *err = ret->why;
        ret->directory = NULL;
        return check_is_damage(err);
    }
    return pack->moved != 0 || find_gaps(check, name, pack, ret, err);
}

static bool
find_gaps(struct check *check, const char *name, const struct hf_vault_pack *pack, struct opened_pack *ret,
          struct hf_error *err)
{
    uint8_t trailer[HF_PACK_TRAILER], header[HF_SLAB_HEADER];
    char text[HF_ID_TEXT_BYTES];
    const struct hf_pack_directory *directory = ret->directory;
    hf_id_format(&pack->pack, text);
    if (pack->bytes < HF_PACK_HEADER + HF_PACK_TRAILER ||
        !hf_backend_get_range(check->backend, name, pack->bytes - HF_PACK_TRAILER, trailer, sizeof trailer, err))
        return true; // of another size than the log says, which is told
    const uint64_t directory_at = hf_get_u64(trailer + 8), directory_length = hf_get_u64(trailer + 16);
    if (!hf_backend_get_range(check->backend, name, directory_at, header, sizeof header, err))
        return true;
    if (!sodium_is_zero(trailer + 24, 16) || !sodium_is_zero(trailer + 44, 16) ||
        directory_length != HF_SLAB_HEADER + (uint64_t)hf_get_u32(header + 12) + HF_AEAD_TAG_BYTES) {
        hf_fail(&ret->why, HF_ERR_CORRUPT, "the end of pack \"%s\" does not fit its directory", text);
        hf_pack_directory_freep(&ret->directory);
        return true;
    }

    ret->gaps = calloc(directory->slab_count + 2, sizeof *ret->gaps);
    if (ret->gaps == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's slab table");
    uint64_t end = HF_PACK_HEADER;
    for (size_t i = 0; i <= directory->slab_count; i++) {
        const bool last = i == directory->slab_count;
        const uint64_t next = last ? directory_at : directory->slabs[i].offset;
        if (next > end)
            ret->gaps[ret->gap_count++] = (struct gap){end, next};
        end = next + (last ? directory_length
                           : HF_SLAB_HEADER + (uint64_t)directory->slabs[i].sealed_length + HF_AEAD_TAG_BYTES);
    }
    if (pack->bytes - HF_PACK_TRAILER > end)
        ret->gaps[ret->gap_count++] = (struct gap){end, pack->bytes - HF_PACK_TRAILER};
    return true;
}

static void
close_pack(struct opened_pack *opened)
{
    hf_pack_directory_freep(&opened->directory);
    free(opened->gaps);
}

/* A hash that does not hold is told when nothing inside explains it: who heals then knows which slabs are meant. */
static bool
check_whole(struct check *check, const char *name, struct checked_pack *checked, const struct opened_pack *opened,
            struct hf_error *err)
{
    const struct hf_vault_pack *pack = checked->pack;
    char message[HF_ERROR_MESSAGE_BYTES], text[HF_ID_TEXT_BYTES];
    bool same, zeros;
    hf_id_format(&pack->pack, text);
    if (!hash_pack(check, name, pack, opened, &same, &zeros, err)) {
        if (err->kind == HF_ERR_CANCELLED)
            return true; // said at the end
        if (!check_is_damage(err))
            return false;
        check_tell_pack(check, checked, HF_DAMAGE_UNREADABLE, HF_DAMAGE_NO_SLAB, err->message);
        return true;
    }
    const bool explained = check->options->level == 2 && (checked->broken || checked->broken_slabs != NULL || !zeros);
    if (!same && !explained) {
        snprintf(message, sizeof message, "pack \"%s\" was altered: its hash is not the one in the log", text);
        check_tell_pack(check, checked, HF_DAMAGE_ALTERED, HF_DAMAGE_NO_SLAB, message);
    }
    if (!zeros) {
        snprintf(message, sizeof message, "pack \"%s\" holds bytes between its slabs", text);
        check_tell_pack(check, checked, HF_DAMAGE_ALTERED, HF_DAMAGE_NO_SLAB, message);
    }
    return true;
}

/* One pass over all bytes: the hash that the log has, and zeros between the slabs where they are known. */
static bool
hash_pack(struct check *check, const char *name, const struct hf_vault_pack *pack, const struct opened_pack *opened,
          bool *ret_same, bool *ret_zeros, struct hf_error *err)
{
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    _cleanup_(hf_buf_done) struct hf_buf piece = HF_BUF_INIT(READ_BYTES + 1);
    uint8_t digest[HF_SHA256_BYTES];
    size_t next_gap = 0;
    *ret_zeros = true;
    if (!hf_sha256_new(&running, err) || !hf_buf_reserve(&piece, READ_BYTES, err))
        return false;
    for (uint64_t at = 0; at < pack->bytes; at += READ_BYTES) {
        const size_t length = pack->bytes - at < READ_BYTES ? (size_t)(pack->bytes - at) : READ_BYTES;
        if (check_cancelled(check))
            return hf_fail(err, HF_ERR_CANCELLED, "the check was cancelled");
        if (check->options->pace != NULL)
            check->options->pace(check->options->context, length);
        if (!hf_backend_get_range(check->backend, name, at, piece.data, length, err))
            return false;
        hf_sha256_add(running, piece.data, length);
        *ret_zeros = !find_in_gaps(opened, &next_gap, at, piece.data, length) && *ret_zeros;
        if (check->options->done != NULL)
            atomic_fetch_add(check->options->done, length);
    }
    hf_sha256_end(running, digest);
    *ret_same = memcmp(digest, pack->sha256, sizeof digest) == 0;
    return true;
}

/* Whether a gap holds anything in these bytes of the pack; *next is the first gap that is not behind us. */
static bool
find_in_gaps(const struct opened_pack *opened, size_t *next, uint64_t at, const uint8_t *piece, size_t length)
{
    bool any = false;
    for (; *next < opened->gap_count && opened->gaps[*next].from < at + length; (*next)++) {
        const struct gap *gap = &opened->gaps[*next];
        const size_t from = gap->from > at ? (size_t)(gap->from - at) : 0;
        const size_t to = gap->to < at + length ? (size_t)(gap->to - at) : length;
        any = any || !sodium_is_zero(piece + from, to - from);
        if (gap->to > at + length)
            break; // it goes on in the next piece
    }
    return any;
}

/* Level 2: what the seals hold. */
static bool
check_inside(struct check *check, struct hf_slab_worker *worker, struct checked_pack *checked,
             const struct opened_pack *opened, struct hf_error *err)
{
    const struct hf_vault_pack *pack = checked->pack;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST + HF_KIB);
    _cleanup_(hf_slab_pages_freep) struct hf_slab_pages *pages = NULL;
    if (opened->directory == NULL) {
        check_tell_pack(check, checked, damage_kind(&opened->why), HF_DAMAGE_NO_SLAB, opened->why.message);
        return true;
    }
    if (!check_header(check, pack, err) || !check_names(opened->directory, pack, err)) {
        if (!check_is_damage(err))
            return false;
        check_tell_pack(check, checked, damage_kind(err), HF_DAMAGE_NO_SLAB, err->message);
    }
    checked->broken = false;
    checked->slab_count = opened->directory->slab_count;
    for (uint32_t number = 0; number < checked->slab_count && !check_cancelled(check); number++) {
        /* A slab that was left behind is none, and is told of by the file that needs it. */
        const bool is_there = opened->directory->slabs[number].offset != HF_SLAB_LEFT_BEHIND;
        if (!is_there && !note_broken_slab(checked, number, err))
            return false;
        if (!is_there || check_slab(check, worker, pack, opened->directory, number, &plain, &pages, err))
            continue;
        if (!check_is_damage(err))
            return false;
        check_tell_pack(check, checked, damage_kind(err), number, err->message);
        if (!note_broken_slab(checked, number, err))
            return false;
    }
    return true;
}

static enum hf_damage_kind
damage_kind(const struct hf_error *err)
{
    return err->kind == HF_ERR_UNAVAILABLE ? HF_DAMAGE_UNREADABLE : HF_DAMAGE_ALTERED;
}

/* Well sealed is not enough: the pack must be the one that its COMMIT means. */
static bool
check_header(struct check *check, const struct hf_vault_pack *pack, struct hf_error *err)
{
    uint8_t header[HF_PACK_HEADER];
    char text[HF_ID_TEXT_BYTES], session[HF_ID_TEXT_BYTES];
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = NULL;
    if (!hf_pack_reader_header(check->packs, &pack->pack, header, err) ||
        !hf_pack_cipher_from_header(header, hf_vault_keys(check->vault), &pack->pack, &cipher, err))
        return false;
    const struct hf_pack_identity *identity = hf_pack_cipher_identity(cipher);
    hf_id_format(&pack->pack, text);
    if (identity->kind != pack->kind)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is a %s pack, the log says %s", text,
                       pack_kind_name((uint8_t)identity->kind), pack_kind_name(pack->kind));
    return vault_state_session_brought(check->state, &pack->session, &identity->session) ||
           hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" is of session \"%s\", which did not commit it", text,
                   hf_id_format(&identity->session, session));
}

static const char *
pack_kind_name(uint8_t kind)
{
    static const char *const names[] = {
        [HF_PACK_DATA] = "data", [HF_PACK_MAP] = "map", [HF_PACK_STREAM] = "stream", [HF_PACK_RECORDS] = "records"};
    return kind >= HF_PACK_DATA && kind <= HF_PACK_RECORDS ? names[kind] : "unknown";
}

static int
by_ordinal(const void *a, const void *b)
{
    const struct hf_pack_file *left = a, *right = b;
    return (left->ordinal > right->ordinal) - (left->ordinal < right->ordinal);
}

/* The tag cache is rebuilt from these names: each run's file must be there, with pages of that size. */
static bool
check_names(const struct hf_pack_directory *directory, const struct hf_vault_pack *pack, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    hf_id_format(&pack->pack, text);
    for (size_t i = 0; i < directory->file_count; i++)
        if (!hf_path_check(directory->files[i].path, err))
            return hf_fail(err, HF_ERR_CORRUPT, "the directory of pack \"%s\" lists a file whose name cannot be", text);
    for (size_t i = 0; i < directory->run_count; i++) {
        const struct hf_pack_file wanted = {.ordinal = directory->runs[i].file};
        const struct hf_pack_file *file =
            directory->file_count == 0
                ? NULL
                : bsearch(&wanted, directory->files, directory->file_count, sizeof wanted, by_ordinal);
        if (file == NULL || file->page_log2 != directory->runs[i].page_log2)
            return hf_fail(err, HF_ERR_CORRUPT,
                           "the directory of pack \"%s\" has pages of a file that it does not list", text);
    }
    return true;
}

static bool
check_slab(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
           const struct hf_pack_directory *directory, uint32_t number, struct hf_buf *plain,
           struct hf_slab_pages **pages, struct hf_error *err)
{
    static const enum hf_slab_kind kinds[] = {
        [HF_PACK_DATA] = HF_SLAB_PAGES, [HF_PACK_MAP] = HF_SLAB_OBJECTS, [HF_PACK_STREAM] = HF_SLAB_STREAM};
    char text[HF_ID_TEXT_BYTES];
    struct hf_slab_info info;
    if (!hf_pack_reader_slab(check->packs, worker, &pack->pack, number, &info, plain, err))
        return false;
    pthread_mutex_lock(&check->lock);
    check->report->slabs++;
    pthread_mutex_unlock(&check->lock);

    hf_id_format(&pack->pack, text);
    if (pack->kind < HF_LENGTH(kinds) && info.kind != kinds[pack->kind])
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: a slab of kind %d in a %s pack", text, number,
                       (int)info.kind, pack_kind_name(pack->kind));
    const bool ok = info.kind == HF_SLAB_OBJECTS ? check_objects(plain, &info, err)
                    : info.kind == HF_SLAB_PAGES ? check_pages(check, directory, &info, plain, pages, err)
                                                 : true;
    return ok || hf_fail_within(err, "pack \"%s\", slab %u", text, number);
}

static bool
check_objects(const struct hf_buf *plain, const struct hf_slab_info *info, struct hf_error *err)
{
    struct hf_object *objects;
    size_t count;
    if (!hf_objects_split(plain->data, plain->length, info->items, &objects, &count, err))
        return false;
    free(objects);
    return count == info->items ||
           hf_fail(err, HF_ERR_CORRUPT, "it holds %zu objects, its header says %u", count, info->items);
}

static bool
check_pages(struct check *check, const struct hf_pack_directory *directory, const struct hf_slab_info *info,
            const struct hf_buf *plain, struct hf_slab_pages **pages, struct hf_error *err)
{
    const struct hf_page_run *runs = directory->runs + directory->run_start[info->number];
    const size_t run_count = directory->run_start[info->number + 1] - directory->run_start[info->number];
    const struct hf_page_check *checks = directory->checks + directory->page_start[info->number];
    if (!hf_slab_pages_read(plain->data, plain->length, pages, err))
        return false;
    bool same = (*pages)->run_count == run_count && (*pages)->count == info->items;
    for (size_t i = 0; same && i < run_count; i++) {
        const struct hf_page_run *a = &(*pages)->runs[i], *b = &runs[i];
        same = a->file == b->file && a->page_log2 == b->page_log2 && a->first_page == b->first_page &&
               a->count == b->count && a->short_by == b->short_by;
    }
    if (!same)
        return hf_fail(err, HF_ERR_CORRUPT, "page list and directory differ");

    uint8_t tags[HF_SLAB_PAGES_MOST * HF_TAG_BYTES];
    uint32_t first = 0;
    for (size_t i = 0; i < run_count; i++) {
        const uint32_t *offset = (*pages)->offset + first;
        hf_page_tags(hf_vault_keys(check->vault), plain->data + offset[0], offset[runs[i].count] - offset[0],
                     runs[i].page_log2, tags + (size_t)first * HF_TAG_BYTES);
        first += runs[i].count;
    }
    for (uint32_t i = 0; i < (*pages)->count; i++) {
        const uint8_t *page = plain->data + (*pages)->offset[i];
        const size_t length = (*pages)->offset[i + 1] - (*pages)->offset[i];
        if (memcmp(tags + (size_t)i * HF_TAG_BYTES, checks[i].tag, HF_TAG_BYTES) != 0 ||
            hf_crc32c(0, page, length) != checks[i].crc32c)
            return hf_fail(err, HF_ERR_CORRUPT, "page %u has not the tag of the directory", i);
    }
    pthread_mutex_lock(&check->lock);
    check->report->pages += (*pages)->count;
    pthread_mutex_unlock(&check->lock);
    return true;
}

static bool
note_broken_slab(struct checked_pack *checked, uint32_t number, struct hf_error *err)
{
    if (checked->broken_slabs == NULL)
        checked->broken_slabs = calloc(checked->slab_count / 8 + 1, 1);
    if (checked->broken_slabs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of damaged slabs");
    checked->broken_slabs[number / 8] |= (uint8_t)(1 << number % 8);
    return true;
}

static bool
count_orphan(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct check *check = context;
    struct hf_id pack;
    const char *slash = strrchr(object->name, '/');
    if (slash == NULL || !hf_id_parse(slash + 1, &pack, NULL) || check_is_used(check, &pack))
        return true;
    check->report->orphans++;
    check->report->orphan_bytes += object->size;
    return true;
}
