#include "server/repository/check.h"

#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/repository/reader.h"

#define READ_BYTES   (1 * HF_MIB)
#define WORKERS_MOST 32

/* One check of one vault.  Workers share it; the damage visitor is called under the lock. */
struct check {
    const struct hf_check_options *options;
    struct hf_repository *repository;
    struct hf_id vault_id;
    struct hf_vault *vault;             // level 2
    const struct hf_vault_state *state; // of this vault
    struct hf_vault_state *own_state;   // levels 0 and 1
    struct hf_check_report *report;
    struct hf_pack_reader *packs; // level 2

    pthread_mutex_t lock;
    size_t next; // pack, then file, to be taken by a worker
    bool failed;
    struct hf_error failure;
    size_t wanted_count; // packs to look at
    const struct hf_vault_pack **wanted;

    struct hf_backup *backup; // whose files are being checked
    size_t file_count, file_room;
    struct checked_file *files;
    struct known_slab *slabs; // hash table: what the packs were seen to hold
    size_t slab_room, slab_used;
};

struct checked_file {
    char *path;
    struct hf_manifest_file file; // name and leaves: in own memory
};

/* The tags of a slab's pages as they were recomputed from its bytes. */
struct known_slab {
    struct hf_id pack;
    uint32_t number;
    uint32_t pages; // 0: empty row
    uint8_t *tags;
};

static bool check_vault(struct hf_repository *repository, const struct hf_id *vault,
                        const struct hf_check_options *options, struct hf_check_report *report, struct hf_error *err);
static bool read_state(struct check *check, struct hf_error *err);
static bool choose_packs(struct check *check, struct hf_error *err);
static void tell(struct check *check, enum hf_damage_kind kind, const struct hf_id *pack, uint32_t slab,
                 const struct hf_id *backup, const char *file, const char *message);
static bool run_workers(struct check *check, void *(*work)(void *), struct hf_error *err);
static bool cancelled(const struct check *check);
static void *pack_work(void *context);
static bool check_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
                       struct hf_error *err);
static bool hash_pack(struct check *check, const char *name, const struct hf_vault_pack *pack, bool *ret_same,
                      struct hf_error *err);
static bool open_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
                      struct hf_error *err);
static bool check_slab(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
                       const struct hf_pack_directory *directory, uint32_t number, struct hf_buf *plain,
                       struct hf_slab_pages **pages, struct hf_error *err);
static bool remember_slab(struct check *check, const struct hf_id *pack, uint32_t number, uint32_t pages, uint8_t *tags,
                          struct hf_error *err);
static const struct known_slab *find_slab(const struct check *check, const struct hf_id *pack, uint32_t number);
static size_t slab_slot(const struct known_slab *slabs, size_t room, const struct hf_id *pack, uint32_t number);
static bool check_backup(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err);
static bool take_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static void *file_work(void *context);
static bool check_file(struct check *check, struct hf_slab_worker *worker, const struct checked_file *checked,
                       struct hf_error *err);
static bool add_extent_tags(struct check *check, const struct hf_leaf *leaf, const struct hf_extent *extent,
                            uint32_t page, uint64_t tail_bytes, struct hf_file_digest *digest, struct hf_error *err);
static void free_files(struct check *check);
static bool count_orphan(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool is_damage(const struct hf_error *err);

const char *
hf_damage_kind_name(enum hf_damage_kind kind)
{
    static const char *const names[] = {
        [HF_DAMAGE_MISSING] = "missing", [HF_DAMAGE_SIZE] = "size", [HF_DAMAGE_ALTERED] = "altered",
        [HF_DAMAGE_LOG] = "log",         [HF_DAMAGE_MAP] = "map",   [HF_DAMAGE_UNREADABLE] = "unreadable",
    };
    return names[kind];
}

bool
hf_repository_check(struct hf_repository *repository, const struct hf_check_options *options,
                    struct hf_check_report *ret, struct hf_error *err)
{
    *ret = (struct hf_check_report){0};
    if (options->level < 0 || options->level > 2)
        return hf_fail(err, HF_ERR_USAGE, "check level %d is not 0, 1 or 2", options->level);
    if (options->level == 2 && hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "check level 2 opens every slab: it needs a key");
    if (options->vault != NULL)
        return check_vault(repository, options->vault, options, ret, err);

    struct hf_id *vaults;
    size_t count;
    if (!hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    _cleanup_(hf_freep) void *memory = vaults;
    for (size_t i = 0; i < count; i++)
        if (!check_vault(repository, &vaults[i], options, ret, err))
            return false;
    return true;
}

static bool
check_vault(struct hf_repository *repository, const struct hf_id *vault, const struct hf_check_options *options,
            struct hf_check_report *report, struct hf_error *err)
{
    struct check check = {.options = options, .repository = repository, .vault_id = *vault, .report = report};
    char prefix[64], text[HF_ID_TEXT_BYTES];
    pthread_mutex_init(&check.lock, NULL);
    report->vaults++;

    bool ok = true;
    if (!read_state(&check, err)) {
        ok = is_damage(err);
        if (ok)
            tell(&check, HF_DAMAGE_LOG, NULL, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
    } else {
        snprintf(prefix, sizeof prefix, "vaults/%s/packs/", hf_id_format(vault, text));
        ok = choose_packs(&check, err) && run_workers(&check, pack_work, err) &&
             hf_backend_list(hf_repository_backend(repository), prefix, count_orphan, &check, err);
        for (size_t i = 0; ok && i < check.state->backup_count; i++) {
            const struct hf_vault_backup *backup = &check.state->backups[i];
            if (backup->pruned || (options->backup != NULL && !hf_id_equal(options->backup, &backup->backup)))
                continue;
            report->backups++;
            ok = options->level < 2 || check_backup(&check, backup, err);
        }
    }

    free_files(&check);
    for (size_t i = 0; i < check.slab_room; i++)
        free(check.slabs[i].tags);
    free(check.slabs);
    free(check.wanted);
    hf_backup_freep(&check.backup);
    hf_pack_reader_freep(&check.packs);
    hf_vault_freep(&check.vault);
    hf_vault_state_freep(&check.own_state);
    pthread_mutex_destroy(&check.lock);
    return ok;
}

static bool
read_state(struct check *check, struct hf_error *err)
{
    if (check->options->level < 2) {
        if (!hf_vault_read_shut(check->repository, &check->vault_id, &check->own_state, err))
            return false;
        check->state = check->own_state;
    } else if (!hf_vault_open(check->repository, &check->vault_id, &check->vault, err) ||
               !hf_vault_read(check->vault, NULL, NULL, &check->state, err) ||
               !hf_pack_reader_new(hf_repository_backend(check->repository), hf_vault_keys(check->vault), &check->packs,
                                   err)) {
        return false;
    }
    check->report->log_entries += check->state->head;
    return true;
}

/* All that count, or those one backup's manifest lists. */
static bool
choose_packs(struct check *check, struct hf_error *err)
{
    check->wanted = calloc(check->state->pack_count + 1, sizeof(*check->wanted));
    if (check->wanted == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    struct hf_backup *backup = NULL;
    if (check->options->backup != NULL && check->options->level == 2 &&
        !hf_backup_open(check->vault, check->options->backup, &backup, err)) {
        if (!is_damage(err))
            return false;
        backup = NULL; // check_backup will tell of it; every pack is looked at meanwhile
    }
    for (size_t i = 0; i < check->state->pack_count; i++) {
        const struct hf_vault_pack *pack = &check->state->packs[i];
        bool wanted = backup == NULL;
        const struct hf_manifest_root *root = backup != NULL ? hf_backup_root(backup) : NULL;
        for (size_t row = 0; root != NULL && !wanted && row < root->summary_count; row++)
            wanted = hf_id_equal(&root->summary[row].pack, &pack->pack);
        if (!wanted)
            continue;
        check->wanted[check->wanted_count++] = pack;
        if (check->options->total != NULL)
            atomic_fetch_add(check->options->total, pack->bytes);
    }
    hf_backup_freep(&backup);
    return true;
}

static void
tell(struct check *check, enum hf_damage_kind kind, const struct hf_id *pack, uint32_t slab, const struct hf_id *backup,
     const char *file, const char *message)
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

static bool
run_workers(struct check *check, void *(*work)(void *), struct hf_error *err)
{
    pthread_t threads[WORKERS_MOST];
    unsigned wanted = check->options->workers, started = 0;
    if (wanted == 0)
        wanted = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted > WORKERS_MOST)
        wanted = WORKERS_MOST;
    check->next = 0;
    while (started < wanted && pthread_create(&threads[started], NULL, work, check) == 0)
        started++;
    if (started == 0)
        work(check); // no threads to be had: slower, but done
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (cancelled(check))
        return hf_fail(err, HF_ERR_CANCELLED, "the check was cancelled");
    if (check->failed)
        *err = check->failure;
    return !check->failed;
}

static bool
cancelled(const struct check *check)
{
    return check->options->cancel != NULL && atomic_load(check->options->cancel);
}

static void
fail(struct check *check, const struct hf_error *err)
{
    pthread_mutex_lock(&check->lock);
    if (!check->failed) {
        check->failed = true;
        check->failure = *err;
    }
    pthread_mutex_unlock(&check->lock);
}

static void *
pack_work(void *context)
{
    struct check *check = context;
    struct hf_error err;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    if (!hf_slab_worker_new(1, &worker, &err)) {
        fail(check, &err);
        return NULL;
    }
    while (!cancelled(check)) {
        pthread_mutex_lock(&check->lock);
        const struct hf_vault_pack *pack =
            !check->failed && check->next < check->wanted_count ? check->wanted[check->next++] : NULL;
        pthread_mutex_unlock(&check->lock);
        if (pack == NULL)
            return NULL;
        if (!check_pack(check, worker, pack, &err)) {
            fail(check, &err);
            return NULL;
        }
    }
    return NULL;
}

static bool
check_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES], message[HF_ERROR_MESSAGE_BYTES], text[HF_ID_TEXT_BYTES];
    bool found, same = true;
    uint64_t size;
    hf_pack_name(&check->vault_id, &pack->pack, name);
    hf_id_format(&pack->pack, text);
    if (!hf_backend_stat(hf_repository_backend(check->repository), name, &found, &size, err)) {
        tell(check, HF_DAMAGE_UNREADABLE, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
        return true;
    }
    pthread_mutex_lock(&check->lock);
    check->report->packs++;
    check->report->pack_bytes += found ? size : 0;
    pthread_mutex_unlock(&check->lock);
    if (!found) {
        snprintf(message, sizeof message, "pack \"%s\" is missing", text);
        tell(check, HF_DAMAGE_MISSING, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, message);
        return true;
    }
    if (size != pack->bytes) {
        snprintf(message, sizeof message, "pack \"%s\" has %llu bytes, the log says %llu", text,
                 (unsigned long long)size, (unsigned long long)pack->bytes);
        tell(check, HF_DAMAGE_SIZE, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, message);
    } else if (check->options->level >= 1) {
        if (!hash_pack(check, name, pack, &same, err)) {
            if (err->kind == HF_ERR_CANCELLED)
                return true;
            tell(check, HF_DAMAGE_UNREADABLE, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
        } else if (!same) {
            snprintf(message, sizeof message, "pack \"%s\" was altered: its hash is not the one in the log", text);
            tell(check, HF_DAMAGE_ALTERED, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, message);
        }
    }
    return check->options->level < 2 || open_pack(check, worker, pack, err);
}

static bool
hash_pack(struct check *check, const char *name, const struct hf_vault_pack *pack, bool *ret_same, struct hf_error *err)
{
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    _cleanup_(hf_buf_done) struct hf_buf piece = HF_BUF_INIT(READ_BYTES + 1);
    uint8_t digest[HF_SHA256_BYTES];
    if (!hf_sha256_new(&running, err) || !hf_buf_reserve(&piece, READ_BYTES, err))
        return false;
    for (uint64_t at = 0; at < pack->bytes; at += READ_BYTES) {
        const size_t length = pack->bytes - at < READ_BYTES ? (size_t)(pack->bytes - at) : READ_BYTES;
        if (cancelled(check))
            return hf_fail(err, HF_ERR_CANCELLED, "the check was cancelled");
        if (!hf_backend_get_range(hf_repository_backend(check->repository), name, at, piece.data, length, err))
            return false;
        hf_sha256_add(running, piece.data, length);
        if (check->options->done != NULL)
            atomic_fetch_add(check->options->done, length);
    }
    hf_sha256_end(running, digest);
    *ret_same = memcmp(digest, pack->sha256, sizeof digest) == 0;
    return true;
}

static bool
open_pack(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack, struct hf_error *err)
{
    _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = NULL;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST + HF_KIB);
    _cleanup_(hf_slab_pages_freep) struct hf_slab_pages *pages = NULL;
    if (!hf_pack_reader_directory(check->packs, worker, &pack->pack, &directory, err)) {
        if (!is_damage(err))
            return false;
        tell(check, HF_DAMAGE_ALTERED, &pack->pack, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
        return true;
    }
    for (uint32_t number = 0; number < directory->slab_count && !cancelled(check); number++)
        if (!check_slab(check, worker, pack, directory, number, &plain, &pages, err)) {
            if (!is_damage(err))
                return false;
            tell(check, HF_DAMAGE_ALTERED, &pack->pack, number, NULL, NULL, err->message);
        }
    return true;
}

static bool
check_slab(struct check *check, struct hf_slab_worker *worker, const struct hf_vault_pack *pack,
           const struct hf_pack_directory *directory, uint32_t number, struct hf_buf *plain,
           struct hf_slab_pages **pages, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    struct hf_slab_info info;
    if (!hf_pack_reader_slab(check->packs, worker, &pack->pack, number, &info, plain, err))
        return false;
    pthread_mutex_lock(&check->lock);
    check->report->slabs++;
    pthread_mutex_unlock(&check->lock);
    if (info.kind != HF_SLAB_PAGES)
        return true;

    hf_id_format(&pack->pack, text);
    const struct hf_page_run *runs = directory->runs + directory->run_start[number];
    const size_t run_count = directory->run_start[number + 1] - directory->run_start[number];
    const struct hf_page_check *checks = directory->checks + directory->page_start[number];
    if (!hf_slab_pages_read(plain->data, plain->length, pages, err))
        return hf_fail_within(err, "pack \"%s\", slab %u", text, number);
    if ((*pages)->run_count != run_count || (*pages)->count != info.items)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: page list and directory differ", text, number);
    for (size_t i = 0; i < run_count; i++) {
        const struct hf_page_run *a = &(*pages)->runs[i], *b = &runs[i];
        if (a->file != b->file || a->page_log2 != b->page_log2 || a->first_page != b->first_page ||
            a->count != b->count || a->short_by != b->short_by)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: page list and directory differ", text, number);
    }

    uint8_t *tags = malloc((size_t)(*pages)->count * HF_TAG_BYTES + 1);
    if (tags == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
    for (uint32_t i = 0; i < (*pages)->count; i++) {
        const uint8_t *page = plain->data + (*pages)->offset[i];
        const size_t length = (*pages)->offset[i + 1] - (*pages)->offset[i];
        hf_page_tag(hf_vault_keys(check->vault), page, length, tags + (size_t)i * HF_TAG_BYTES);
        if (memcmp(tags + (size_t)i * HF_TAG_BYTES, checks[i].tag, HF_TAG_BYTES) != 0 ||
            hf_crc32c(0, page, length) != checks[i].crc32c) {
            free(tags);
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\", slab %u: page %u has not the tag of the directory", text,
                           number, i);
        }
    }
    pthread_mutex_lock(&check->lock);
    check->report->pages += (*pages)->count;
    pthread_mutex_unlock(&check->lock);
    return remember_slab(check, &pack->pack, number, (*pages)->count, tags, err);
}

/* Takes the tags. */
static bool
remember_slab(struct check *check, const struct hf_id *pack, uint32_t number, uint32_t pages, uint8_t *tags,
              struct hf_error *err)
{
    bool ok = true;
    pthread_mutex_lock(&check->lock);
    if (2 * (check->slab_used + 1) > check->slab_room) {
        const size_t room = check->slab_room > 0 ? 2 * check->slab_room : 1024;
        struct known_slab *grown = calloc(room, sizeof *grown);
        ok = grown != NULL;
        for (size_t i = 0; ok && i < check->slab_room; i++)
            if (check->slabs[i].pages > 0)
                grown[slab_slot(grown, room, &check->slabs[i].pack, check->slabs[i].number)] = check->slabs[i];
        if (ok) {
            free(check->slabs);
            check->slabs = grown;
            check->slab_room = room;
        }
    }
    if (ok) {
        struct known_slab *row = &check->slabs[slab_slot(check->slabs, check->slab_room, pack, number)];
        free(row->tags);
        check->slab_used += row->pages == 0;
        *row = (struct known_slab){*pack, number, pages, tags};
    }
    pthread_mutex_unlock(&check->lock);
    if (!ok) {
        free(tags);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
    }
    return true;
}

static const struct known_slab *
find_slab(const struct check *check, const struct hf_id *pack, uint32_t number)
{
    if (check->slab_room == 0)
        return NULL;
    const struct known_slab *row = &check->slabs[slab_slot(check->slabs, check->slab_room, pack, number)];
    return row->pages > 0 ? row : NULL;
}

static size_t
slab_slot(const struct known_slab *slabs, size_t room, const struct hf_id *pack, uint32_t number)
{
    uint64_t start;
    memcpy(&start, pack->bytes, sizeof start);
    size_t slot = (start + number * UINT64_C(0x9e3779b97f4a7c15)) & (room - 1);
    while (slabs[slot].pages > 0 && (slabs[slot].number != number || !hf_id_equal(&slabs[slot].pack, pack)))
        slot = (slot + 1) & (room - 1);
    return slot;
}

static bool
check_backup(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err)
{
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    free_files(check);
    hf_backup_freep(&check->backup);
    if (!hf_slab_worker_new(1, &worker, err))
        return false;
    if (!hf_backup_open(check->vault, &backup->backup, &check->backup, err) ||
        !hf_backup_files(check->backup, worker, take_file, check, err)) {
        if (!is_damage(err))
            return false;
        tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL, err->message);
        if (check->backup == NULL)
            return true;
    } else if (hf_backup_root(check->backup)->file_count != check->file_count) {
        tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &backup->backup, NULL,
             "the manifest lists another number of files than it counts");
    }
    return run_workers(check, file_work, err);
}

static bool
take_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct check *check = context;
    if (check->file_count == check->file_room) {
        const size_t room = check->file_room > 0 ? 2 * check->file_room : 1024;
        struct checked_file *grown = realloc(check->files, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
        check->files = grown;
        check->file_room = room;
    }
    struct hf_object_ref *leaves = malloc((file->leaf_count + 1) * sizeof *leaves);
    char *copy = strdup(path);
    if (leaves == NULL || copy == NULL) {
        free(leaves);
        free(copy);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
    }
    if (file->leaf_count > 0)
        memcpy(leaves, file->leaves, file->leaf_count * sizeof *leaves);
    struct checked_file *checked = &check->files[check->file_count++];
    checked->path = copy;
    checked->file = *file;
    checked->file.name = NULL;
    checked->file.leaves = leaves;
    return true;
}

static void *
file_work(void *context)
{
    struct check *check = context;
    struct hf_error err;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    if (!hf_slab_worker_new(1, &worker, &err)) {
        fail(check, &err);
        return NULL;
    }
    while (!cancelled(check)) {
        pthread_mutex_lock(&check->lock);
        const struct checked_file *file =
            !check->failed && check->next < check->file_count ? &check->files[check->next++] : NULL;
        if (file != NULL)
            check->report->files++;
        pthread_mutex_unlock(&check->lock);
        if (file == NULL)
            return NULL;
        if (check_file(check, worker, file, &err))
            continue;
        if (!is_damage(&err)) {
            fail(check, &err);
            return NULL;
        }
        tell(check, HF_DAMAGE_MAP, NULL, HF_DAMAGE_NO_SLAB, &hf_backup_root(check->backup)->backup, file->path,
             err.message);
    }
    return NULL;
}

/* No page is read again: the tags were recomputed from the slabs, and the digest is over the tags. */
static bool
check_file(struct check *check, struct hf_slab_worker *worker, const struct checked_file *checked, struct hf_error *err)
{
    const struct hf_manifest_file *file = &checked->file;
    _cleanup_(hf_file_digest_freep) struct hf_file_digest *digest = NULL;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    uint8_t sum[HF_FILE_DIGEST_BYTES];
    const uint64_t tail_bytes = file->size & (((uint64_t)1 << file->page_log2) - 1);
    uint64_t pages = 0;
    hf_leaf_init(&leaf, file->page_log2);
    if (!hf_file_digest_new(hf_vault_keys(check->vault), &digest, err))
        return false;
    for (size_t i = 0; i < file->leaf_count; i++) {
        if (!hf_backup_leaf(check->backup, worker, &file->leaves[i], &leaf, err))
            return hf_fail_within(err, "file \"%s\"", checked->path);
        uint32_t page = 0;
        for (size_t extent = 0; extent < leaf.extent_count; extent++) {
            if (!add_extent_tags(check, &leaf, &leaf.extents[extent], page, i + 1 == file->leaf_count ? tail_bytes : 0,
                                 digest, err))
                return hf_fail_within(err, "file \"%s\", page %llu", checked->path, (unsigned long long)(pages + page));
            page += leaf.extents[extent].count;
        }
        pages += leaf.pages;
    }
    if (pages != (file->size + ((uint64_t)1 << file->page_log2) - 1) >> file->page_log2)
        return hf_fail(err, HF_ERR_CORRUPT, "file \"%s\": its map has %llu pages, its size is %llu", checked->path,
                       (unsigned long long)pages, (unsigned long long)file->size);
    hf_file_digest_end(digest, file->size, sum);
    return sodium_memcmp(sum, file->digest, sizeof sum) == 0 ||
           hf_fail(err, HF_ERR_CORRUPT, "file \"%s\" does not have the digest of the backup", checked->path);
}

static bool
add_extent_tags(struct check *check, const struct hf_leaf *leaf, const struct hf_extent *extent, uint32_t page,
                uint64_t tail_bytes, struct hf_file_digest *digest, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    if (extent->type == HF_EXTENT_LOST)
        return hf_fail(err, HF_ERR_CORRUPT, "%u pages are lost", extent->count);
    if (extent->type == HF_EXTENT_ZEROS) {
        static const uint8_t zeros[HF_PAGE_MOST];
        const size_t page_bytes = (size_t)1 << leaf->page_log2;
        uint8_t tag[HF_TAG_BYTES];
        hf_page_tag(hf_vault_keys(check->vault), zeros, page_bytes, tag);
        for (uint32_t i = 0; i < extent->count; i++) {
            if (tail_bytes > 0 && page + i + 1 == leaf->pages)
                hf_page_tag(hf_vault_keys(check->vault), zeros, tail_bytes, tag);
            hf_file_digest_add(digest, tag);
        }
        return true;
    }
    const struct hf_id *pack = &leaf->packs[extent->pack];
    pthread_mutex_lock(&check->lock);
    const struct known_slab *slab = find_slab(check, pack, extent->slab);
    pthread_mutex_unlock(&check->lock);
    if (slab == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "lies in pack \"%s\", slab %u, which is missing or damaged",
                       hf_id_format(pack, text), extent->slab);
    if (extent->first + extent->count > slab->pages)
        return hf_fail(err, HF_ERR_CORRUPT, "its map leads past the end of pack \"%s\", slab %u",
                       hf_id_format(pack, text), extent->slab);
    hf_file_digest_add_many(digest, slab->tags + (size_t)extent->first * HF_TAG_BYTES, extent->count);
    return true;
}

static void
free_files(struct check *check)
{
    for (size_t i = 0; i < check->file_count; i++) {
        free(check->files[i].path);
        free((void *)(uintptr_t)check->files[i].file.leaves);
    }
    free(check->files);
    check->files = NULL;
    check->file_count = check->file_room = 0;
}

static bool
count_orphan(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct check *check = context;
    struct hf_id pack;
    const char *slash = strrchr(object->name, '/');
    if (slash == NULL || !hf_id_parse(slash + 1, &pack, NULL) || hf_vault_state_pack(check->state, &pack) != NULL)
        return true;
    check->report->orphans++;
    check->report->orphan_bytes += object->size;
    return true;
}

/* What the stored bytes are to blame for; the rest (memory, cancelled) ends the check. */
static bool
is_damage(const struct hf_error *err)
{
    return err->kind == HF_ERR_CORRUPT || err->kind == HF_ERR_NOT_FOUND || err->kind == HF_ERR_UNAVAILABLE ||
           err->kind == HF_ERR_DENIED || err->kind == HF_ERR_CONFLICT;
}
