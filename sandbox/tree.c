#include "sandbox/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 512 // what st_blocks counts in, whatever the file system uses

/* One file or folder below the top; false ends the walk, with the error filled. */
typedef bool visit_function(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err);

struct owner {
    uid_t from; // of hf_tree_pass
    uid_t uid;
    gid_t gid;
};

static bool walk(const char *path, visit_function *visit, void *context, struct hf_error *err);
static bool walk_below(DIR *top, const struct stat *top_info, visit_function *visit, void *context, bool *ret_lifted,
                       struct hf_error *err);
static bool go_below(DIR **open_folders, size_t *depth, const char *name, bool *ret_lifted, struct hf_error *err);
static bool lift(DIR *top, DIR *folder, const char *name, struct hf_error *err);
static bool open_top(const char *path, DIR **ret, struct stat *info, struct hf_error *err);
static DIR *open_below(DIR *folder, const char *name);
static bool add_blocks(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err);
static bool pass_on(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err);
static bool change_owner(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err);

bool
hf_tree_measure(const char *path, uint64_t *ret_bytes, struct hf_error *err)
{
    uint64_t bytes = 0;
    if (!walk(path, add_blocks, &bytes, err))
        return false;
    *ret_bytes = bytes;
    return true;
}

bool
hf_tree_give(const char *path, uid_t uid, gid_t gid, struct hf_error *err)
{
    struct owner owner = {.uid = uid, .gid = gid};
    if (!walk(path, change_owner, &owner, err))
        return false;
    if (fchownat(AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to uid %u", path, uid);
    return true;
}

bool
hf_tree_pass(int folder, uid_t from, uid_t uid, gid_t gid, bool is_thrown_away, struct hf_error *err)
{
    struct owner owner = {.from = from, .uid = uid, .gid = gid};
    struct stat info;
    const int fd = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *top = fd < 0 || fstat(fd, &info) != 0 ? NULL : fdopendir(fd);
    if (top == NULL) {
        hf_fail_errno(err, HF_ERR_NONE, "could not open the folder that changes hands");
        if (fd >= 0)
            close(fd);
        return false;
    }
    // Each walk brings what lies too deep up to the top, where the next one finds it.
    bool again = true, fine = true;
    while (fine && again) {
        again = false;
        rewinddir(top);
        fine = walk_below(top, &info, pass_on, &owner, is_thrown_away ? &again : NULL, err);
    }
    closedir(top);
    return fine && pass_on(&owner, folder, "", &info, err);
}

/* Keeps one open folder for each level instead of calling itself: depth is the stranger's to choose. */
static bool
walk(const char *path, visit_function *visit, void *context, struct hf_error *err)
{
    struct stat info;
    DIR *top;
    if (!open_top(path, &top, &info, err))
        return false;
    const bool fine = walk_below(top, &info, visit, context, NULL, err);
    closedir(top);
    return fine || hf_fail_within(err, "folder \"%s\"", path);
}

/* Where there is a ret_lifted, folders that are too deep are lifted to the top and not an error. */
static bool
walk_below(DIR *top, const struct stat *top_info, visit_function *visit, void *context, bool *ret_lifted,
           struct hf_error *err)
{
    DIR *open_folders[HF_TREE_MOST_DEPTH] = {top};
    size_t depth = 1;
    bool fine = true;
    while (fine && depth > 0) {
        struct stat info;
        DIR *folder = open_folders[depth - 1];
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            if (--depth > 0)
                closedir(folder);
            continue;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(folder), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0 || info.st_dev != top_info->st_dev)
            continue;
        fine = visit(context, dirfd(folder), entry->d_name, &info, err) &&
               (!S_ISDIR(info.st_mode) || go_below(open_folders, &depth, entry->d_name, ret_lifted, err));
    }
    while (depth > 1)
        closedir(open_folders[--depth]);
    return fine;
}

static bool
go_below(DIR **open_folders, size_t *depth, const char *name, bool *ret_lifted, struct hf_error *err)
{
    DIR *folder = open_folders[*depth - 1];
    if (*depth == HF_TREE_MOST_DEPTH && ret_lifted != NULL) {
        *ret_lifted = true;
        return lift(open_folders[0], folder, name, err);
    }
    if (*depth == HF_TREE_MOST_DEPTH)
        return hf_fail(err, HF_ERR_NO_SPACE, "it holds folders more than %d deep", HF_TREE_MOST_DEPTH);
    DIR *below = open_below(folder, name);
    if (below != NULL)
        open_folders[(*depth)++] = below;
    else if (errno == EACCES) // its owner took the right away, to keep what is in it from being seen
        return hf_fail(err, HF_ERR_NO_SPACE, "it holds a folder that nobody may look into");
    return true;
}

static bool
lift(DIR *top, DIR *folder, const char *name, struct hf_error *err)
{
    static unsigned count;
    char lifted[32];
    do {
        snprintf(lifted, sizeof lifted, "lifted-%u", count++);
    } while (renameat2(dirfd(folder), name, dirfd(top), lifted, RENAME_NOREPLACE) != 0 && errno == EEXIST);
    struct stat info;
    return fstatat(dirfd(top), lifted, &info, AT_SYMLINK_NOFOLLOW) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not lift the folder \"%s\"", name);
}

static bool
open_top(const char *path, DIR **ret, struct stat *info, struct hf_error *err)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, info) == 0 && (*ret = fdopendir(fd)) != NULL)
        return true;
    hf_fail_errno(err, HF_ERR_NONE, "could not open the folder \"%s\"", path);
    if (fd >= 0)
        close(fd);
    return false;
}

static DIR *
open_below(DIR *folder, const char *name)
{
    int fd = openat(dirfd(folder), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *below = fd < 0 ? NULL : fdopendir(fd);
    if (below == NULL && fd >= 0)
        close(fd);
    return below;
}

static bool
add_blocks(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err)
{
    (void)folder;
    (void)name;
    (void)err;
    *(uint64_t *)context += (uint64_t)info->st_blocks * BLOCK_BYTES;
    return true;
}

/* What is looked at and what changes hands is the same thing, also when its name has been taken by another. */
static bool
pass_on(void *context, int folder, const char *name, const struct stat *ignored, struct hf_error *err)
{
    const struct owner *owner = context;
    struct stat info;
    (void)ignored;
    const int fd = name[0] == '\0' ? dup(folder) : openat(folder, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    bool fine = fd >= 0 && fstat(fd, &info) == 0 &&
                (info.st_uid != owner->from || fchownat(fd, "", owner->uid, owner->gid, AT_EMPTY_PATH) == 0);
    if (!fine)
        hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to uid %u", name, owner->uid);
    if (fd >= 0)
        close(fd);
    return fine;
}

static bool
change_owner(void *context, int folder, const char *name, const struct stat *info, struct hf_error *err)
{
    const struct owner *owner = context;
    if (info->st_uid == owner->uid && info->st_gid == owner->gid)
        return true;
    if (fchownat(folder, name, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to uid %u", name, owner->uid);
    return true;
}
