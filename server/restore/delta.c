#include "server/restore/delta.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "server/repository/page_checks.h"

#define LAST_FILE    "global/pg_control"
#define KEPT_ALWAYS  "lost+found" // of a file system's top
#define REGION_BYTES (1 * HF_MIB)
#define MARK_MOST    512

struct hf_delta {
    struct hf_backup *backup; // borrowed
    char *target;
    int folder; // borrowed
    int mark;   // locked
    struct hf_page_checks *checks;
};

/* Folders that are still to be looked through, relative to the target. */
struct folders {
    size_t count, room;
    char **paths;
};

static bool take_mark(struct hf_delta *delta, const struct hf_restore_existing *existing, struct hf_error *err);
static bool sweep_folder(struct hf_delta *delta, const struct hf_restore_plan *plan, const char *path,
                         struct folders *below, uint64_t *removed, struct hf_error *err);
static bool is_folder_of(const struct hf_backup *backup, const char *path);
static bool remove_entry(struct hf_delta *delta, const char *path, bool is_folder, struct hf_error *err);
static bool push(struct folders *folders, const char *path, struct hf_error *err);
static void folders_done(struct folders *folders);

bool
hf_delta_begin(const struct hf_restore_existing *existing, struct hf_backup *backup, const char *target, int folder,
               struct hf_delta **ret, struct hf_error *err)
{
    _cleanup_(hf_delta_freep) struct hf_delta *delta = calloc(1, sizeof *delta);
    if (delta == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a restore");
    delta->mark = -1;
    delta->backup = backup;
    delta->folder = folder;
    delta->target = strdup(target);
    if (delta->target == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a restore");
    if (!hf_page_checks_new(hf_backup_packs(backup), hf_backup_keys(backup), &delta->checks, err) ||
        !take_mark(delta, existing, err))
        return false;

    /* From here on no server starts on it. */
    if (unlinkat(folder, LAST_FILE, 0) != 0 && errno != ENOENT && errno != ENOTDIR)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", LAST_FILE);
    _cleanup_(hf_closep) int global = openat(folder, "global", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (global >= 0 && fsync(global) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write the folder \"global\"");
    *ret = HF_TAKE(delta);
    return true;
}

void
hf_delta_freep(struct hf_delta **delta)
{
    struct hf_delta *gone = *delta;
    if (gone == NULL)
        return;
    hf_page_checks_freep(&gone->checks);
    hf_closep(&gone->mark);
    free(gone->target);
    free(gone);
    *delta = NULL;
}

bool
hf_delta_sweep(struct hf_delta *delta, const struct hf_restore_plan *plan, uint64_t *ret_removed, struct hf_error *err)
{
    _cleanup_(folders_done) struct folders folders = {0};
    *ret_removed = 0;
    if (!push(&folders, "", err))
        return false;
    while (folders.count > 0) {
        _cleanup_(hf_freep) char *path = folders.paths[--folders.count];
        if (!sweep_folder(delta, plan, path, &folders, ret_removed, err))
            return false;
    }
    return true;
}

bool
hf_delta_open_file(struct hf_delta *delta, const char *path, int *ret, struct hf_error *err)
{
    struct stat status;
    *ret = -1;
    _cleanup_(hf_closep) int fd = openat(delta->folder, path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT || hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
    // Another name of the same file may be another copy's.
    if (S_ISREG(status.st_mode) && status.st_nlink == 1) {
        *ret = HF_TAKE_FD(fd);
        return true;
    }
    return unlinkat(delta->folder, path, 0) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
}

bool
hf_delta_compare(struct hf_delta *delta, struct hf_slab_worker *worker, const struct hf_leaf *leaf, int fd,
                 uint64_t first_page, uint64_t file_bytes, uint8_t *scratch, bool *same, struct hf_error *err)
{
    const uint64_t start = first_page << leaf->page_log2, left = file_bytes - start;
    const size_t page_bytes = (size_t)1 << leaf->page_log2;
    const uint64_t whole = (uint64_t)leaf->pages << leaf->page_log2, length = left < whole ? left : whole;
    uint8_t *there = scratch + REGION_BYTES;
    struct hf_page_check *expected = (struct hf_page_check *)(there + HF_LEAF_PAGES * HF_TAG_BYTES);
    if (!hf_page_checks_get(delta->checks, worker, leaf, 0, leaf->pages, (size_t)(length % page_bytes), expected, err))
        return false;
    for (uint64_t at = 0; at < length; at += REGION_BYTES) {
        const size_t part = length - at < REGION_BYTES ? (size_t)(length - at) : REGION_BYTES;
        if (!hf_pread_all(fd, scratch, part, start + at, "the file that is there", err))
            return false;
        hf_page_tags(hf_backup_keys(delta->backup), scratch, part, leaf->page_log2,
                     there + (at >> leaf->page_log2) * HF_TAG_BYTES);
    }
    for (uint32_t i = 0; i < leaf->pages; i++)
        same[i] = sodium_memcmp(expected[i].tag, there + (size_t)i * HF_TAG_BYTES, HF_TAG_BYTES) == 0;
    return true;
}

bool
hf_delta_end(struct hf_delta *delta, struct hf_error *err)
{
    return (unlinkat(delta->folder, HF_DELTA_MARK, 0) == 0 && fsync(delta->folder) == 0) ||
           hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", HF_DELTA_MARK);
}

/* One that is there already holds what we would write, or the folder is another database's. */
static bool
take_mark(struct hf_delta *delta, const struct hf_restore_existing *existing, struct hf_error *err)
{
    char wanted[MARK_MOST], found[MARK_MOST];
    const int length = snprintf(wanted, sizeof wanted,
                                "A restore onto this folder by Holdfast was not finished: no server starts on it.  "
                                "Run the restore again.\nidentity %s\n",
                                existing->identity);
    if (length < 0 || (size_t)length >= sizeof wanted)
        return hf_fail(err, HF_ERR_USAGE, "the identity of the database is too long");
    delta->mark = openat(delta->folder, HF_DELTA_MARK, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    const bool repeated = delta->mark >= 0;
    if (!repeated && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", HF_DELTA_MARK);
    if (!existing->examine(existing->context, delta->target, repeated, existing->identity, err))
        return false;
    if (!repeated)
        delta->mark = openat(delta->folder, HF_DELTA_MARK, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (delta->mark < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", HF_DELTA_MARK);
    if (flock(delta->mark, LOCK_EX | LOCK_NB) != 0)
        return hf_fail(err, HF_ERR_CONFLICT, "another restore is at work on \"%s\"", delta->target);
    if (repeated) {
        const ssize_t got = pread(delta->mark, found, sizeof found, 0);
        if (got == length && memcmp(found, wanted, (size_t)length) == 0)
            return true;
        // One that was cut off before it was written whole comes before anything was taken away: pg_control tells.
        if (!existing->examine(existing->context, delta->target, false, existing->identity, err))
            return false;
        if (ftruncate(delta->mark, 0) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", HF_DELTA_MARK);
    }
    return hf_pwrite_all(delta->mark, wanted, (size_t)length, 0, HF_DELTA_MARK, err) &&
           ((fsync(delta->mark) == 0 && fsync(delta->folder) == 0) ||
            hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", HF_DELTA_MARK));
}

static bool
sweep_folder(struct hf_delta *delta, const struct hf_restore_plan *plan, const char *path, struct folders *below,
             uint64_t *removed, struct hf_error *err)
{
    char full[HF_PATH_MOST + 1];
    struct stat status;
    int fd = openat(delta->folder, path[0] != '\0' ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    if (folder == NULL) {
        hf_fail_errno(err, HF_ERR_NONE, "could not look through \"%s\"", path);
        hf_closep(&fd);
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (errno = 0, entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const int length = snprintf(full, sizeof full, "%s%s%s", path, path[0] != '\0' ? "/" : "", entry->d_name);
        if (length < 0 || (size_t)length >= sizeof full)
            ok = hf_fail(err, HF_ERR_USAGE, "a path in the folder is longer than %d bytes", HF_PATH_MOST);
        else if (strcmp(full, HF_DELTA_MARK) == 0 || strcmp(full, KEPT_ALWAYS) == 0)
            continue;
        else if (fstatat(delta->folder, full, &status, AT_SYMLINK_NOFOLLOW) != 0)
            ok = hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", full);
        else if (S_ISDIR(status.st_mode) && is_folder_of(delta->backup, full))
            ok = push(below, full, err);
        else if (!S_ISREG(status.st_mode) || hf_restore_plan_file(plan, full) == NULL) {
            ok = remove_entry(delta, full, S_ISDIR(status.st_mode), err);
            *removed += ok ? 1 : 0;
        }
    }
    if (ok && errno != 0)
        ok = hf_fail_errno(err, HF_ERR_NONE, "could not look through \"%s\"", path);
    closedir(folder);
    return ok;
}

static int
folder_against(const void *path, const void *folder)
{
    return strcmp(path, ((const struct hf_manifest_folder *)folder)->path);
}

static int
link_against(const void *path, const void *link)
{
    return strcmp(path, ((const struct hf_manifest_link *)link)->path);
}

/* Links of tablespaces are folders in a restored copy. */
static bool
is_folder_of(const struct hf_backup *backup, const char *path)
{
    const struct hf_manifest_root *root = hf_backup_root(backup);
    return (root->folder_count > 0 &&
            bsearch(path, root->folders, root->folder_count, sizeof *root->folders, folder_against) != NULL) ||
           (root->link_count > 0 &&
            bsearch(path, root->links, root->link_count, sizeof *root->links, link_against) != NULL);
}

static bool
remove_entry(struct hf_delta *delta, const char *path, bool is_folder, struct hf_error *err)
{
    if (!is_folder)
        return unlinkat(delta->folder, path, 0) == 0 ||
               hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    _cleanup_(hf_freep) char *full = hf_path_join(delta->target, path);
    return full != NULL ? hf_dir_remove_tree(full, err) : hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

static bool
push(struct folders *folders, const char *path, struct hf_error *err)
{
    if (folders->count == folders->room) {
        const size_t room = folders->room > 0 ? 2 * folders->room : 64;
        char **grown = realloc(folders->paths, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of folders");
        folders->paths = grown;
        folders->room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of folders");
    folders->paths[folders->count++] = copy;
    return true;
}

static void
folders_done(struct folders *folders)
{
    for (size_t i = 0; i < folders->count; i++)
        free(folders->paths[i]);
    free(folders->paths);
}
