#include "server/restore/restore_internal.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

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
hf_restore_plan_is_moved(const struct hf_restore_plan *plan, const char *path)
{
    return hf_tablespaces_find(hf_backup_root(plan->backup), path, plan->options.moves, plan->options.move_count) !=
           NULL;
}

bool
hf_restore_give(const struct hf_restore_plan *plan, int fd, const char *path, struct hf_error *err)
{
    return !plan->options.owner || fchown(fd, plan->options.uid, plan->options.gid) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to its owner", path);
}

uint64_t
restore_page_count(const struct hf_manifest_file *file)
{
    return (file->size + (((uint64_t)1 << file->page_log2) - 1)) >> file->page_log2;
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
    return pages == restore_page_count(&planned->file) ||
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
