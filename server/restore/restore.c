#include "server/restore/restore.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/restore/delta.h"
#include "server/restore/lost_runs.h"
#include "server/restore/slab_cache.h"

#define CACHE_DEFAULT (64 * HF_MIB)
#define WORKERS_MOST  64
#define REGION_BYTES  (1 * HF_MIB) // assembled, then written at once
#define LAST_FILE     "global/pg_control"

#define DEFAULT_FOLDER_MODE 0700

/* One file on its way.  Its leaves are written by any workers; whoever ends the last one checks the digest. */
struct planned_file {
    char *path;
    struct hf_manifest_file file; // name NULL; leaves in own memory
    uint64_t first_task;          // number of its first leaf among all
    int fd;                       // -1: not open
    bool compared;                // it was there: its pages are compared before they are written
    size_t leaves_left;
    uint8_t *tags; // of all its pages, while it is being written
    bool lossy;    // some are lost: there is no digest to hold it against
};

/* A pack that is not there as the log says: told as soon as a file is known that needs it. */
struct lost_pack {
    struct hf_id pack;
    bool is_map;
    char why[160]; // pack "7f3a" is missing
};

struct hf_restore_plan {
    struct hf_vault *vault; // borrowed from the caller
    struct hf_restore_options options;
    struct hf_backup *backup;
    size_t file_count, file_room;
    struct planned_file *files;
    size_t lost_count;
    struct lost_pack *lost; // sorted
    struct hf_restore_size size;

    /* While writing. */
    pthread_mutex_t lock;
    int target;
    size_t next_file;
    size_t next_leaf;
    size_t end_file; // files from here on wait for the second round
    bool failed;
    struct hf_error failure;
    struct hf_slab_cache *cache;
    uint64_t pages, pages_kept, removed;
    struct hf_lost_runs lost_runs;
    struct hf_delta *delta; // NULL: the target was empty
};

/* What a worker has for itself. */
struct desk {
    struct hf_slab_worker *worker;
    uint8_t *region;  // REGION_BYTES
    uint8_t *scratch; // HF_DELTA_SCRATCH; only onto an existing copy
    bool same[HF_LEAF_PAGES];
};

struct task {
    struct planned_file *file;
    size_t leaf;
};

static bool plan_packs(struct hf_restore_plan *plan, const struct hf_vault_state *state, struct hf_error *err);
static bool plan_files(struct hf_restore_plan *plan, struct hf_slab_worker *worker, struct hf_error *err);
static bool plan_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);
static bool plan_maps(struct hf_restore_plan *plan, struct hf_slab_worker *worker, struct hf_error *err);
static bool plan_map(struct hf_restore_plan *plan, struct hf_slab_worker *worker, const struct planned_file *planned,
                     struct hf_leaf *leaf, const struct lost_pack **ret_lost, struct hf_error *err);
static bool tell_lost_list(void *context, const char *folder, uint32_t files, const struct hf_error *why,
                           struct hf_error *err);
static const struct lost_pack *find_lost(const struct hf_restore_plan *plan, const struct hf_id *pack);
static int pack_against_lost(const void *pack, const void *lost);
static int control_file_last(const void *a, const void *b);
static bool open_target(struct hf_restore_plan *plan, const char *target, struct hf_error *err);
static bool make_folders(struct hf_restore_plan *plan, struct hf_error *err);
static bool make_folder(struct hf_restore_plan *plan, const char *path, uint32_t mode, struct hf_error *err);
static bool write_files(struct hf_restore_plan *plan, size_t from, size_t to, struct hf_error *err);
static void *write_work(void *context);
static bool take_task(struct hf_restore_plan *plan, struct task *ret, struct hf_error *err);
static bool create_file(struct hf_restore_plan *plan, struct planned_file *file, struct hf_error *err);
static uint32_t leaf_pages(const struct planned_file *file, size_t leaf);
static struct desk *make_desk(const struct hf_restore_plan *plan, struct hf_error *err);
static void desk_freep(struct desk **desk);
static bool write_leaf(struct hf_restore_plan *plan, struct desk *desk, const struct task *task, struct hf_error *err);
static bool compare_leaf(struct hf_restore_plan *plan, struct desk *desk, const struct task *task,
                         const struct hf_leaf *leaf, struct hf_error *err);
static uint32_t like_run(const bool *same, uint32_t most);
static bool read_again(const struct planned_file *file, uint64_t first_page, uint32_t pages, uint8_t *to,
                       struct hf_error *err);
static bool copy_pages(struct hf_restore_plan *plan, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
                       const struct hf_extent *extent, uint32_t skip, uint32_t count, uint8_t *to,
                       struct hf_error *err);
static bool lose_pages(struct hf_restore_plan *plan, struct planned_file *file, uint64_t first_page, uint32_t count,
                       const struct hf_error *why, struct hf_error *err);
static void fill_lost(uint8_t *to, size_t page_bytes, size_t length);
static bool lose_leaf(struct hf_restore_plan *plan, const struct task *task, uint8_t *region,
                      const struct hf_error *why, struct hf_error *err);
static bool tell_lost(struct hf_restore_plan *plan, struct hf_restore_outcome *outcome, struct hf_error *err);
static bool write_region(struct hf_restore_plan *plan, struct planned_file *file, uint64_t first_page, uint8_t *region,
                         size_t length, bool zeros, const bool *same, struct hf_error *err);
static bool write_differing(struct hf_restore_plan *plan, const struct planned_file *file, uint64_t first_page,
                            const uint8_t *region, size_t length, const bool *same, struct hf_error *err);
static bool end_task(struct hf_restore_plan *plan, struct planned_file *file, struct hf_error *err);
static bool check_digest(struct hf_restore_plan *plan, const struct planned_file *file, struct hf_error *err);
static bool sync_folders(struct hf_restore_plan *plan, struct hf_error *err);
static uint64_t page_count(const struct hf_manifest_file *file);

bool
hf_restore_plan(struct hf_vault *vault, const struct hf_id *backup, const struct hf_restore_options *options,
                struct hf_restore_plan **ret, struct hf_restore_size *ret_size, struct hf_error *err)
{
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = calloc(1, sizeof *plan);
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    const struct hf_vault_state *state;
    if (plan == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a restore");
    plan->vault = vault;
    plan->options = *options;
    plan->target = -1;
    pthread_mutex_init(&plan->lock, NULL);
    if (!hf_slab_worker_new(1, &worker, err) || !hf_backup_open(vault, backup, &plan->backup, err) ||
        !hf_vault_read(vault, NULL, NULL, &state, err) || !plan_packs(plan, state, err) ||
        !plan_files(plan, worker, err) || (options->lost == NULL && !plan_maps(plan, worker, err)))
        return false;
    plan->size.folders = hf_backup_root(plan->backup)->folder_count;
    if (options->total != NULL)
        atomic_store(options->total, plan->size.bytes);
    *ret_size = plan->size;
    *ret = HF_TAKE(plan);
    return true;
}

void
hf_restore_plan_freep(struct hf_restore_plan **plan)
{
    struct hf_restore_plan *gone = *plan;
    if (gone == NULL)
        return;
    for (size_t i = 0; i < gone->file_count; i++) {
        hf_closep(&gone->files[i].fd);
        free(gone->files[i].path);
        free((void *)(uintptr_t)gone->files[i].file.leaves);
        free(gone->files[i].tags);
    }
    free(gone->files);
    free(gone->lost);
    hf_delta_freep(&gone->delta);
    hf_closep(&gone->target);
    hf_slab_cache_freep(&gone->cache);
    hf_lost_runs_done(&gone->lost_runs);
    hf_backup_freep(&gone->backup);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
    *plan = NULL;
}

struct hf_backup *
hf_restore_plan_backup(struct hf_restore_plan *plan)
{
    return plan->backup;
}

const struct hf_manifest_file *
hf_restore_plan_file(const struct hf_restore_plan *plan, const char *path)
{
    const struct planned_file wanted = {.path = (char *)(uintptr_t)path};
    const struct planned_file *found =
        plan->file_count > 0 ? bsearch(&wanted, plan->files, plan->file_count, sizeof wanted, control_file_last) : NULL;
    return found != NULL ? &found->file : NULL;
}

bool
hf_restore_give(const struct hf_restore_plan *plan, int fd, const char *path, struct hf_error *err)
{
    return !plan->options.owner || fchown(fd, plan->options.uid, plan->options.gid) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to its owner", path);
}

bool
hf_restore_write(struct hf_restore_plan *plan, const char *target, struct hf_restore_outcome *ret, struct hf_error *err)
{
    const uint64_t started = hf_monotonic_ns();
    const size_t cache_bytes = plan->options.cache_bytes > 0 ? plan->options.cache_bytes : CACHE_DEFAULT;
    if (!open_target(plan, target, err))
        return false;

    /* pg_control goes last, when everything else is on the disk: without it no server starts on what is there. */
    const size_t last = plan->file_count > 0 && strcmp(plan->files[plan->file_count - 1].path, LAST_FILE) == 0
                            ? plan->file_count - 1
                            : plan->file_count;
    if (!hf_slab_cache_new(hf_backup_packs(plan->backup), cache_bytes, &plan->cache, err) || !make_folders(plan, err) ||
        !write_files(plan, 0, last, err) || (plan->options.sync && !sync_folders(plan, err)) ||
        (plan->options.finish != NULL && !plan->options.finish(plan->options.finish_context, target, err)) ||
        !write_files(plan, last, plan->file_count, err) || (plan->options.sync && !sync_folders(plan, err)) ||
        (plan->delta != NULL && !hf_delta_end(plan->delta, err))) {
        (void)!unlinkat(plan->target, LAST_FILE, 0); // begun, and then the disk was full or its sync failed
        if (err->system == ENOSPC || err->system == EDQUOT)
            hf_fail_hint(err, "Make room there, empty the folder and restore again; or restore to another disk.");
        return hf_fail_within(err, "restore to \"%s\"", target);
    }

    *ret = (struct hf_restore_outcome){.bytes = plan->size.bytes,
                                       .pages = plan->pages,
                                       .pages_kept = plan->pages_kept,
                                       .removed = plan->removed,
                                       .duration_ms = (hf_monotonic_ns() - started) / 1000000};
    hf_slab_cache_counts(plan->cache, &ret->slabs_opened, &ret->bytes_opened);
    return tell_lost(plan, ret, err);
}

/* A pack that is not there, or has another size than the log says, is noted; which files need it the maps say. */
static bool
plan_packs(struct hf_restore_plan *plan, const struct hf_vault_state *state, struct hf_error *err)
{
    const struct hf_manifest_root *root = hf_backup_root(plan->backup);
    const struct hf_id vault = hf_vault_id(plan->vault);
    plan->size.packs = root->summary_count;
    plan->lost = calloc(root->summary_count + 1, sizeof *plan->lost);
    if (plan->lost == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < root->summary_count; i++) {
        char name[HF_PACK_NAME_BYTES], text[HF_ID_TEXT_BYTES];
        const struct hf_id *id = &root->summary[i].pack;
        const struct hf_vault_pack *pack = hf_vault_state_pack(state, id);
        bool found;
        uint64_t size, expected;
        if (pack == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "the backup needs pack \"%s\", which the log does not know",
                           hf_id_format(id, text));
        if (!hf_backend_stat(hf_vault_backend(plan->vault),
                             hf_vault_state_place(state, &vault, pack, name, &expected, NULL), &found, &size, err))
            return false;
        if (found && size == expected)
            continue;
        struct lost_pack *lost = &plan->lost[plan->lost_count++];
        *lost = (struct lost_pack){.pack = *id, .is_map = pack->kind == HF_PACK_MAP};
        if (!found)
            snprintf(lost->why, sizeof lost->why, "pack \"%s\" is missing", hf_id_format(id, text));
        else
            snprintf(lost->why, sizeof lost->why, "pack \"%s\" has %llu bytes, the log says %llu",
                     hf_id_format(id, text), (unsigned long long)size, (unsigned long long)expected);
    }
    return true;
}

static bool
plan_files(struct hf_restore_plan *plan, struct hf_slab_worker *worker, struct hf_error *err)
{
    if (plan->options.lost != NULL) {
        if (!hf_backup_files_left(plan->backup, worker, plan_file, tell_lost_list, plan, err))
            return false;
        if (plan->file_count > 0)
            qsort(plan->files, plan->file_count, sizeof *plan->files, control_file_last);
        return true;
    }
    if (!hf_backup_files(plan->backup, worker, plan_file, plan, err)) {
        const struct lost_pack *lost = plan->lost;
        while (lost < plan->lost + plan->lost_count && !lost->is_map)
            lost++;
        if (lost < plan->lost + plan->lost_count) {
            err->kind = HF_ERR_CORRUPT;
            return hf_fail_within(err, "%s", lost->why);
        }
        return false;
    }
    if (plan->file_count != hf_backup_root(plan->backup)->file_count)
        return hf_fail(err, HF_ERR_CORRUPT, "the manifest lists %zu files, it counts %llu", plan->file_count,
                       (unsigned long long)hf_backup_root(plan->backup)->file_count);
    if (plan->file_count > 0)
        qsort(plan->files, plan->file_count, sizeof *plan->files, control_file_last);
    return true;
}

static bool
plan_file(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct hf_restore_plan *plan = context;
    if (plan->file_count == plan->file_room) {
        const size_t room = plan->file_room > 0 ? 2 * plan->file_room : 1024;
        struct planned_file *grown = realloc(plan->files, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of files");
        plan->files = grown;
        plan->file_room = room;
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
    struct planned_file *planned = &plan->files[plan->file_count++];
    *planned = (struct planned_file){.path = copy, .file = *file, .fd = -1};
    planned->file.name = NULL;
    planned->file.leaves = leaves;
    plan->size.files++;
    plan->size.bytes += file->size;
    return true;
}

/* Every leaf is read once now, so that a hole is found before the target is touched. */
static bool
plan_maps(struct hf_restore_plan *plan, struct hf_slab_worker *worker, struct hf_error *err)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    const struct planned_file *first = NULL;
    const struct lost_pack *needed = NULL;
    size_t others = 0;
    hf_leaf_init(&leaf, HF_PAGE_LOG2_LEAST);
    for (size_t i = 0; i < plan->file_count; i++) {
        const struct lost_pack *lost = NULL;
        if (!plan_map(plan, worker, &plan->files[i], &leaf, &lost, err))
            return hf_fail_within(err, "file \"%s\"", plan->files[i].path);
        if (lost != NULL && first != NULL) {
            others++;
        } else if (lost != NULL) {
            first = &plan->files[i];
            needed = lost;
        }
    }
    if (plan->lost_count == 0)
        return true;
    if (first == NULL)
        hf_fail(err, HF_ERR_CORRUPT, "%s", plan->lost[0].why);
    else if (others == 0)
        hf_fail(err, HF_ERR_CORRUPT, "%s: file \"%s\" cannot be restored", needed->why, first->path);
    else
        hf_fail(err, HF_ERR_CORRUPT, "%s: file \"%s\" and %zu more cannot be restored", needed->why, first->path,
                others);
    return hf_fail_hint(err, "Restore another backup.  The next backup stores again what is lost.");
}

/* *ret_lost: the first lost pack that the file needs, or as it was. */
static bool
plan_map(struct hf_restore_plan *plan, struct hf_slab_worker *worker, const struct planned_file *planned,
         struct hf_leaf *leaf, const struct lost_pack **ret_lost, struct hf_error *err)
{
    uint64_t pages = 0;
    for (size_t n = 0; n < planned->file.leaf_count; n++) {
        *ret_lost = find_lost(plan, &planned->file.leaves[n].pack);
        if (*ret_lost != NULL)
            return true;
        if (!hf_backup_leaf(plan->backup, worker, &planned->file.leaves[n], leaf, err))
            return false;
        if (leaf->page_log2 != planned->file.page_log2 ||
            (leaf->pages != HF_LEAF_PAGES && n + 1 < planned->file.leaf_count))
            return hf_fail(err, HF_ERR_CORRUPT, "its map does not fit");
        for (size_t i = 0; i < leaf->extent_count; i++) {
            const struct hf_extent *extent = &leaf->extents[i];
            if (extent->type == HF_EXTENT_LOST)
                return hf_fail(err, HF_ERR_CORRUPT, "%u of its pages are lost", extent->count);
            if (extent->type != HF_EXTENT_STORED)
                continue;
            *ret_lost = find_lost(plan, &leaf->packs[extent->pack]);
            if (*ret_lost != NULL)
                return true;
            plan->size.stored_pages += extent->count;
        }
        pages += leaf->pages;
    }
    return pages == page_count(&planned->file) ||
           hf_fail(err, HF_ERR_CORRUPT, "its map has %llu pages, its size is %llu", (unsigned long long)pages,
                   (unsigned long long)planned->file.size);
}

static bool
tell_lost_list(void *context, const char *folder, uint32_t files, const struct hf_error *why, struct hf_error *err)
{
    const struct hf_restore_plan *plan = context;
    const struct hf_lost lost = {.kind = HF_LOST_FILES, .path = folder, .files = files};
    (void)why;
    return plan->options.lost(plan->options.lost_context, &lost, err);
}

static const struct lost_pack *
find_lost(const struct hf_restore_plan *plan, const struct hf_id *pack)
{
    return plan->lost_count == 0 ? NULL
                                 : bsearch(pack, plan->lost, plan->lost_count, sizeof *plan->lost, pack_against_lost);
}

static int
pack_against_lost(const void *pack, const void *lost)
{
    return hf_id_compare(pack, &((const struct lost_pack *)lost)->pack);
}

static int
control_file_last(const void *a, const void *b)
{
    const struct planned_file *left = a, *right = b;
    const bool left_last = strcmp(left->path, LAST_FILE) == 0, right_last = strcmp(right->path, LAST_FILE) == 0;
    return left_last != right_last ? (int)left_last - (int)right_last : strcmp(left->path, right->path);
}

static bool
open_target(struct hf_restore_plan *plan, const char *target, struct hf_error *err)
{
    const struct hf_restore_existing *existing = plan->options.existing;
    bool empty = true;
    if (existing == NULL && (!hf_dir_make(target, 0700, err) || !hf_dir_is_empty(target, &empty, err)))
        return hf_fail_within(err, "restore to \"%s\"", target);
    if (!empty) {
        hf_fail(err, HF_ERR_CONFLICT, "folder \"%s\" is not empty", target);
        return hf_fail_hint(err, "Choose an empty folder, or one that does not exist yet; or, where a copy of the same "
                                 "database lies: --delta.");
    }
    plan->target = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (plan->target < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", target);
    return existing == NULL || (hf_delta_begin(existing, plan->backup, target, plan->target, &plan->delta, err) &&
                                hf_delta_sweep(plan->delta, plan, &plan->removed, err));
}

/* The manifest's folders are sorted: a parent comes before what is in it. */
static bool
make_folders(struct hf_restore_plan *plan, struct hf_error *err)
{
    const struct hf_manifest_root *root = hf_backup_root(plan->backup);
    for (size_t i = 0; i < root->folder_count; i++)
        if (!make_folder(plan, root->folders[i].path, root->folders[i].mode, err))
            return false;
    for (size_t i = 0; i < root->link_count; i++) // a tablespace that holds nothing
        if (!make_folder(plan, root->links[i].path, DEFAULT_FOLDER_MODE, err))
            return false;
    return true;
}

static bool
make_folder(struct hf_restore_plan *plan, const char *path, uint32_t mode, struct hf_error *err)
{
    const mode_t allowed = (mode & 0750) | 0700;
    if (path[0] == 0)
        return (fchmod(plan->target, allowed) == 0 &&
                (!plan->options.owner || fchown(plan->target, plan->options.uid, plan->options.gid) == 0)) ||
               hf_fail_errno(err, HF_ERR_NONE, "could not prepare the target folder");
    if (!hf_path_check(path, err))
        return false;

    /* Parents that the manifest does not list (a folder of folders only) are made on the way. */
    char part[HF_PATH_MOST + 1];
    for (const char *slash = strchr(path, '/');; slash = strchr(slash + 1, '/')) {
        const size_t length = slash == NULL ? strlen(path) : (size_t)(slash - path);
        memcpy(part, path, length);
        part[length] = 0;
        if (mkdirat(plan->target, part, allowed) == 0) {
            if (fchmodat(plan->target, part, allowed, 0) != 0 || // whatever our umask is
                (plan->options.owner &&
                 fchownat(plan->target, part, plan->options.uid, plan->options.gid, AT_SYMLINK_NOFOLLOW) != 0))
                return hf_fail_errno(err, HF_ERR_NONE, "could not prepare folder \"%s\"", part);
        } else if (errno != EEXIST) {
            return hf_fail_errno(err, HF_ERR_NONE, "could not make folder \"%s\"", part);
        }
        if (slash == NULL)
            return true;
    }
}

static bool
write_files(struct hf_restore_plan *plan, size_t from, size_t to, struct hf_error *err)
{
    pthread_t threads[WORKERS_MOST];
    unsigned wanted = plan->options.workers, started = 0;
    if (wanted == 0)
        wanted = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted > WORKERS_MOST)
        wanted = WORKERS_MOST;
    plan->next_file = from;
    plan->next_leaf = 0;
    plan->end_file = to;
    while (started < wanted && pthread_create(&threads[started], NULL, write_work, plan) == 0)
        started++;
    if (started == 0)
        write_work(plan);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    if (plan->failed)
        *err = plan->failure;
    return !plan->failed;
}

static void
fail(struct hf_restore_plan *plan, const struct hf_error *err)
{
    pthread_mutex_lock(&plan->lock);
    if (!plan->failed) {
        plan->failed = true;
        plan->failure = *err;
    }
    pthread_mutex_unlock(&plan->lock);
}

static void *
write_work(void *context)
{
    struct hf_restore_plan *plan = context;
    struct hf_error err = {0};
    _cleanup_(desk_freep) struct desk *desk = make_desk(plan, &err);
    if (desk == NULL) {
        fail(plan, &err);
        return NULL;
    }
    for (;;) {
        struct task task;
        if (plan->options.cancel != NULL && atomic_load(plan->options.cancel)) {
            hf_fail(&err, HF_ERR_CANCELLED, "the restore was cancelled");
            fail(plan, &err);
            return NULL;
        }
        if (!take_task(plan, &task, &err) ||
            (task.file != NULL && (!write_leaf(plan, desk, &task, &err) || !end_task(plan, task.file, &err)))) {
            if (task.file != NULL)
                hf_fail_within(&err, "file \"%s\"", task.file->path);
            fail(plan, &err);
            return NULL;
        }
        if (task.file == NULL)
            return NULL;
    }
}

static struct desk *
make_desk(const struct hf_restore_plan *plan, struct hf_error *err)
{
    _cleanup_(desk_freep) struct desk *desk = calloc(1, sizeof *desk);
    if (desk == NULL || (desk->region = malloc(REGION_BYTES)) == NULL ||
        (plan->delta != NULL && (desk->scratch = malloc(HF_DELTA_SCRATCH)) == NULL)) {
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a restore");
        return NULL;
    }
    return hf_slab_worker_new(1, &desk->worker, err) ? HF_TAKE(desk) : NULL;
}

static void
desk_freep(struct desk **desk)
{
    if (*desk == NULL)
        return;
    hf_slab_worker_freep(&(*desk)->worker);
    free((*desk)->region);
    free((*desk)->scratch);
    free(*desk);
    *desk = NULL;
}

/* The next leaf in order; file NULL: none is left.  The file is made when its first leaf is taken. */
static bool
take_task(struct hf_restore_plan *plan, struct task *ret, struct hf_error *err)
{
    *ret = (struct task){0};
    bool ok = true;
    pthread_mutex_lock(&plan->lock);
    if (!plan->failed && plan->next_file < plan->end_file) {
        struct planned_file *file = &plan->files[plan->next_file];
        *ret = (struct task){file, plan->next_leaf};
        if (plan->next_leaf == 0)
            ok = create_file(plan, file, err);
        if (++plan->next_leaf >= file->file.leaf_count) {
            plan->next_file++;
            plan->next_leaf = 0;
        }
    }
    pthread_mutex_unlock(&plan->lock);
    return ok;
}

static bool
create_file(struct hf_restore_plan *plan, struct planned_file *file, struct hf_error *err)
{
    const mode_t allowed = (file->file.mode & 0640) | 0600;
    if (plan->delta != NULL && !hf_delta_open_file(plan->delta, file->path, &file->fd, err))
        return false;
    file->compared = file->fd >= 0;
    if (!file->compared)
        file->fd = openat(plan->target, file->path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, allowed);
    if (file->fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make file \"%s\"", file->path);
    if (fchmod(file->fd, allowed) != 0 ||
        (plan->options.owner && fchown(file->fd, plan->options.uid, plan->options.gid) != 0) ||
        ((file->file.size > 0 || file->compared) && ftruncate(file->fd, (off_t)file->file.size) != 0))
        return hf_fail_errno(err, HF_ERR_NONE, "could not prepare file \"%s\"", file->path);
    file->leaves_left = file->file.leaf_count > 0 ? file->file.leaf_count : 1;
    file->tags = malloc(page_count(&file->file) * HF_TAG_BYTES + 1);
    return file->tags != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for page tags");
}

static bool
write_leaf(struct hf_restore_plan *plan, struct desk *desk, const struct task *task, struct hf_error *err)
{
    struct planned_file *file = task->file;
    uint8_t *region = desk->region;
    if (file->file.leaf_count == 0)
        return true;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    hf_leaf_init(&leaf, file->file.page_log2);
    struct hf_error why;
    if (!hf_backup_leaf(plan->backup, desk->worker, &file->file.leaves[task->leaf], &leaf, &why))
        return lose_leaf(plan, task, region, &why, err);
    if (leaf.page_log2 != file->file.page_log2 || leaf.pages != leaf_pages(file, task->leaf)) {
        hf_fail(&why, HF_ERR_CORRUPT, "its map does not fit");
        return lose_leaf(plan, task, region, &why, err);
    }
    if (!compare_leaf(plan, desk, task, &leaf, err))
        return false;

    const uint64_t leaf_start = (uint64_t)task->leaf * HF_LEAF_PAGES;
    const uint32_t region_pages = (uint32_t)(REGION_BYTES >> leaf.page_log2);
    uint32_t page = 0, in_region = 0;
    bool zeros = !file->compared;
    for (size_t i = 0; i < leaf.extent_count; i++) {
        const struct hf_extent *extent = &leaf.extents[i];
        for (uint32_t skip = 0; skip < extent->count;) {
            const uint32_t left = extent->count - skip, room = region_pages - in_region;
            const bool *same = desk->same + extent->start + skip;
            const uint32_t part = like_run(same, left < room ? left : room);
            uint8_t *to = region + ((size_t)in_region << leaf.page_log2);
            bool read = extent->type != HF_EXTENT_LOST;
            if (*same)
                read = read_again(file, leaf_start + extent->start + skip, part, to, &why);
            else if (extent->type == HF_EXTENT_ZEROS)
                memset(to, 0, (size_t)part << leaf.page_log2);
            else if (read)
                read = copy_pages(plan, desk->worker, &leaf, extent, skip, part, to, &why);
            else
                hf_fail(&why, HF_ERR_CORRUPT, "%u of its pages are lost", extent->count);
            if (!read && !lose_pages(plan, file, leaf_start + extent->start + skip, part, &why, err))
                return false;
            if (!read)
                fill_lost(to, (size_t)1 << leaf.page_log2, (size_t)part << leaf.page_log2);
            zeros = zeros && extent->type == HF_EXTENT_ZEROS;
            in_region += part;
            skip += part;
            if (in_region == region_pages || page + in_region == leaf.pages) {
                if (!write_region(plan, file, leaf_start + page, region, (size_t)in_region << leaf.page_log2, zeros,
                                  desk->same + page, err))
                    return false;
                page += in_region;
                in_region = 0;
                zeros = !file->compared;
            }
        }
    }
    return true;
}

/* Of a file that was not there nothing is the same. */
static bool
compare_leaf(struct hf_restore_plan *plan, struct desk *desk, const struct task *task, const struct hf_leaf *leaf,
             struct hf_error *err)
{
    const struct planned_file *file = task->file;
    memset(desk->same, 0, sizeof desk->same);
    return !file->compared ||
           hf_delta_compare(plan->delta, desk->worker, leaf, file->fd, (uint64_t)task->leaf * HF_LEAF_PAGES,
                            file->file.size, desk->scratch, desk->same, err);
}

/* How many pages from the first on have its fate: stay, or are written. */
static uint32_t
like_run(const bool *same, uint32_t most)
{
    uint32_t run = 1;
    while (run < most && same[run] == same[0])
        run++;
    return run;
}

/* What lies there and stays: for the digest and the page check, which see every page. */
static bool
read_again(const struct planned_file *file, uint64_t first_page, uint32_t pages, uint8_t *to, struct hf_error *err)
{
    const uint64_t at = first_page << file->file.page_log2, left = file->file.size - at;
    const uint64_t whole = (uint64_t)pages << file->file.page_log2;
    return hf_pread_all(file->fd, to, (size_t)(left < whole ? left : whole), at, file->path, err);
}

static bool
copy_pages(struct hf_restore_plan *plan, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
           const struct hf_extent *extent, uint32_t skip, uint32_t count, uint8_t *to, struct hf_error *err)
{
    const struct hf_cached_slab *slab;
    if (!hf_slab_cache_get(plan->cache, worker, &leaf->packs[extent->pack], extent->slab, &slab, err))
        return false;
    const uint32_t first = extent->first + skip;
    bool ok = first + count <= slab->pages->count ||
              hf_fail(err, HF_ERR_CORRUPT, "its map leads past the end of slab %u", extent->slab);
    if (ok) {
        const size_t from = slab->pages->offset[first], length = slab->pages->offset[first + count] - from;
        ok = length <= (size_t)count << leaf->page_log2 ||
             hf_fail(err, HF_ERR_CORRUPT, "slab %u holds larger pages than the map says", extent->slab);
        if (ok)
            memcpy(to, slab->plain.data + from, length);
    }
    hf_slab_cache_give_back(plan->cache, slab);
    return ok;
}

/* Only stored bytes can be lost: no memory and a full disk are none of that. */
static bool
lose_pages(struct hf_restore_plan *plan, struct planned_file *file, uint64_t first_page, uint32_t count,
           const struct hf_error *why, struct hf_error *err)
{
    const bool damage = why->kind == HF_ERR_CORRUPT || why->kind == HF_ERR_NOT_FOUND || why->kind == HF_ERR_UNAVAILABLE;
    if (plan->options.lost == NULL || !damage) {
        *err = *why;
        return false;
    }
    pthread_mutex_lock(&plan->lock);
    file->lossy = true;
    const bool ok = hf_lost_runs_add(&plan->lost_runs, (uint64_t)(file - plan->files), first_page, count, err);
    pthread_mutex_unlock(&plan->lock);
    return ok;
}

static void
fill_lost(uint8_t *to, size_t page_bytes, size_t length)
{
    static const char mark[] = HF_RESTORE_LOST_MARK;
    for (size_t page = 0; page < length; page += page_bytes)
        for (size_t at = 0; at < page_bytes; at++)
            to[page + at] = (uint8_t)mark[at % (sizeof mark - 1)];
}

/* Nobody knows where its pages lie: all of them are lost. */
static bool
lose_leaf(struct hf_restore_plan *plan, const struct task *task, uint8_t *region, const struct hf_error *why,
          struct hf_error *err)
{
    struct planned_file *file = task->file;
    const uint64_t first = (uint64_t)task->leaf * HF_LEAF_PAGES;
    const uint32_t pages = leaf_pages(file, task->leaf), most = (uint32_t)(REGION_BYTES >> file->file.page_log2);
    if (!lose_pages(plan, file, first, pages, why, err))
        return false;
    for (uint32_t page = 0, part; page < pages; page += part) {
        part = pages - page < most ? pages - page : most;
        fill_lost(region, (size_t)1 << file->file.page_log2, (size_t)part << file->file.page_log2);
        if (!write_region(plan, file, first + page, region, (size_t)part << file->file.page_log2, false, NULL, err))
            return false;
    }
    return true;
}

/* How many the leaf has by the size of the file. */
static uint32_t
leaf_pages(const struct planned_file *file, size_t leaf)
{
    const uint64_t pages = page_count(&file->file), first = (uint64_t)leaf * HF_LEAF_PAGES;
    const uint64_t left = pages > first ? pages - first : 0;
    return left < HF_LEAF_PAGES ? (uint32_t)left : HF_LEAF_PAGES;
}

static bool
tell_lost(struct hf_restore_plan *plan, struct hf_restore_outcome *outcome, struct hf_error *err)
{
    hf_lost_runs_settle(&plan->lost_runs);
    for (size_t i = 0; i < plan->lost_runs.count; i++) {
        const struct hf_lost_run *run = &plan->lost_runs.runs[i];
        const struct planned_file *file = &plan->files[run->file];
        const uint64_t from = run->first_page << file->file.page_log2;
        const uint64_t to = (run->first_page + run->pages) << file->file.page_log2;
        const struct hf_lost lost = {.kind = HF_LOST_PAGES,
                                     .path = file->path,
                                     .page_log2 = file->file.page_log2,
                                     .first_page = run->first_page,
                                     .pages = run->pages,
                                     .bytes = (to < file->file.size ? to : file->file.size) - from};
        outcome->pages_lost += run->pages;
        if (!plan->options.lost(plan->options.lost_context, &lost, err))
            return false;
    }
    return true;
}

/* length counts whole pages; the file's size says where the last one ends.  Zeros stay a hole. */
static bool
write_region(struct hf_restore_plan *plan, struct planned_file *file, uint64_t first_page, uint8_t *region,
             size_t length, bool zeros, const bool *same, struct hf_error *err)
{
    const uint64_t at = first_page << file->file.page_log2;
    if (at + length > file->file.size)
        length = (size_t)(file->file.size - at);
    const size_t page_bytes = (size_t)1 << file->file.page_log2;
    hf_page_tags(hf_backup_keys(plan->backup), region, length, file->file.page_log2,
                 file->tags + first_page * HF_TAG_BYTES);
    if (plan->options.page_check != NULL)
        plan->options.page_check(plan->options.context, file->path, file->file.size, first_page, region, length);
    if (file->compared && same != NULL) {
        if (!write_differing(plan, file, first_page, region, length, same, err))
            return false;
    } else if (!zeros && !hf_pwrite_all(file->fd, region, length, at, file->path, err)) {
        return false;
    }
    if (plan->options.done != NULL)
        atomic_fetch_add(plan->options.done, length);
    pthread_mutex_lock(&plan->lock);
    plan->pages += (length + page_bytes - 1) / page_bytes;
    pthread_mutex_unlock(&plan->lock);
    return true;
}

static bool
write_differing(struct hf_restore_plan *plan, const struct planned_file *file, uint64_t first_page,
                const uint8_t *region, size_t length, const bool *same, struct hf_error *err)
{
    const uint8_t log2 = file->file.page_log2;
    const uint32_t pages = (uint32_t)((length + ((size_t)1 << log2) - 1) >> log2);
    uint64_t kept = 0;
    for (uint32_t page = 0, run; page < pages; page += run) {
        run = like_run(same + page, pages - page);
        const size_t from = (size_t)page << log2, to = (size_t)(page + run) << log2;
        if (same[page])
            kept += run;
        else if (!hf_pwrite_all(file->fd, region + from, (to < length ? to : length) - from,
                                (first_page << log2) + from, file->path, err))
            return false;
    }
    pthread_mutex_lock(&plan->lock);
    plan->pages_kept += kept;
    pthread_mutex_unlock(&plan->lock);
    return true;
}

static bool
end_task(struct hf_restore_plan *plan, struct planned_file *file, struct hf_error *err)
{
    pthread_mutex_lock(&plan->lock);
    const bool last = --file->leaves_left == 0;
    pthread_mutex_unlock(&plan->lock);
    if (!last)
        return true;
    if (!file->lossy && !check_digest(plan, file, err))
        return false;
    free(file->tags);
    file->tags = NULL;
    const struct timespec times[2] = {
        {.tv_nsec = UTIME_OMIT},
        {.tv_sec = file->file.modified_at / 1000, .tv_nsec = file->file.modified_at % 1000 * 1000000}};
    if (file->file.modified_at > 0 && futimens(file->fd, times) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set its time");
    if (plan->options.sync && fdatasync(file->fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not sync it to the disk");
    hf_closep(&file->fd);
    file->fd = -1;
    return true;
}

static bool
check_digest(struct hf_restore_plan *plan, const struct planned_file *file, struct hf_error *err)
{
    _cleanup_(hf_file_digest_freep) struct hf_file_digest *digest = NULL;
    uint8_t sum[HF_FILE_DIGEST_BYTES];
    if (!hf_file_digest_new(hf_backup_keys(plan->backup), &digest, err))
        return false;
    hf_file_digest_add_many(digest, file->tags, page_count(&file->file));
    hf_file_digest_end(digest, file->file.size, sum);
    return sodium_memcmp(sum, file->file.digest, sizeof sum) == 0 ||
           hf_fail(err, HF_ERR_CORRUPT, "its content does not have the digest of the backup");
}

static bool
sync_folders(struct hf_restore_plan *plan, struct hf_error *err)
{
    const struct hf_manifest_root *root = hf_backup_root(plan->backup);
    for (size_t i = root->folder_count; i-- > 0;) {
        const char *path = root->folders[i].path[0] != 0 ? root->folders[i].path : ".";
        _cleanup_(hf_closep) int fd = openat(plan->target, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not sync folder \"%s\"", path);
    }
    return true;
}

static uint64_t
page_count(const struct hf_manifest_file *file)
{
    return (file->size + (((uint64_t)1 << file->page_log2) - 1)) >> file->page_log2;
}
