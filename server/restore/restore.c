#include "server/restore/restore_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

#define CACHE_DEFAULT (64 * HF_MIB)
#define WORKERS_MOST  64
#define REGION_BYTES  (1 * HF_MIB) // assembled, then written at once

#define DEFAULT_FOLDER_MODE 0700

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

static bool open_target(struct hf_restore_plan *plan, const char *target, struct hf_error *err);
static bool make_folders(struct hf_restore_plan *plan, struct hf_error *err);
static bool make_moved(struct hf_restore_plan *plan, const struct hf_manifest_root *root, struct hf_error *err);
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

static bool
open_target(struct hf_restore_plan *plan, const char *target, struct hf_error *err)
{
    const struct hf_restore_existing *existing = plan->options.existing;
    bool empty = true;
    if (!hf_tablespaces_check(hf_backup_root(plan->backup), target, plan->options.moves, plan->options.move_count, err))
        return false;
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
    if (!make_moved(plan, root, err))
        return false;
    for (size_t i = 0; i < root->folder_count; i++)
        if (!make_folder(plan, root->folders[i].path, root->folders[i].mode, err))
            return false;
    for (size_t i = 0; i < root->link_count; i++) // a tablespace that holds nothing
        if (!make_folder(plan, root->links[i].path, DEFAULT_FOLDER_MODE, err))
            return false;
    return true;
}

/* The links to tablespaces elsewhere: what the manifest has below them is then written through them. */
static bool
make_moved(struct hf_restore_plan *plan, const struct hf_manifest_root *root, struct hf_error *err)
{
    const uid_t uid = plan->options.owner ? plan->options.uid : (uid_t)-1;
    if (plan->options.move_count > 0 && !make_folder(plan, "pg_tblspc", DEFAULT_FOLDER_MODE, err))
        return false;
    for (size_t i = 0; i < root->link_count; i++) {
        const struct hf_tablespace_move *move =
            hf_tablespaces_find(root, root->links[i].path, plan->options.moves, plan->options.move_count);
        if (move != NULL && !hf_tablespaces_link(plan->target, root->links[i].path, move, uid, plan->options.gid, err))
            return false;
    }
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
    file->tags = malloc(restore_page_count(&file->file) * HF_TAG_BYTES + 1);
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
    const uint64_t pages = restore_page_count(&file->file), first = (uint64_t)leaf * HF_LEAF_PAGES;
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
    hf_file_digest_add_many(digest, file->tags, restore_page_count(&file->file));
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
        const bool moved = hf_tablespaces_find(root, path, plan->options.moves, plan->options.move_count) != NULL;
        _cleanup_(hf_closep) int fd =
            openat(plan->target, path, O_RDONLY | O_DIRECTORY | (moved ? 0 : O_NOFOLLOW) | O_CLOEXEC);
        if (fd < 0 || fsync(fd) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not sync folder \"%s\"", path);
    }
    return true;
}
