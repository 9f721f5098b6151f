#include "server/storage/local_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FOLDER_MODE  0700
#define FOLDERS_MOST ((size_t)1 << 20) // that names are put into through one tree

struct hf_tree_folder {
    char *path;    // beneath the root; "" for the root
    size_t parent; // its number
    bool dirty;    // names were put into it since its last sync
    bool rooted;   // its own name is durable, and those of all above
};

static bool make_folders(const struct hf_tree *tree, const char *path, struct hf_error *err);
static bool remember_folder(struct hf_tree *tree, const char *path, size_t *ret, struct hf_error *err);
static bool add_folder(struct hf_tree *tree, const char *path, size_t length, size_t parent, size_t *ret,
                       struct hf_error *err);
static bool sync_marked(struct hf_tree *tree, struct hf_error *err);
static bool sync_folder(struct hf_tree *tree, size_t folder, struct hf_error *err);
static struct hf_tree_folder folder_at(struct hf_tree *tree, size_t folder);
static bool sync_path(struct hf_tree *tree, const char *path, struct hf_error *err);

bool
hf_tree_open(struct hf_tree *tree, const char *place, struct hf_error *err)
{
    *tree = (struct hf_tree){.root = -1};
    pthread_mutex_init(&tree->syncing, NULL);
    pthread_mutex_init(&tree->lock, NULL);

    tree->root = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (tree->root < 0 && errno == ENOTDIR)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is not a folder, as a repository must be", place);
    if (tree->root < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open repository folder \"%s\"", place);

    tree->place = strdup(place);
    if (tree->place == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for repository \"%s\"", place);
    size_t root;
    if (!add_folder(tree, "", 0, 0, &root, err))
        return false;
    tree->folders[root].rooted = true; // whoever made the repository's folder answers for its name
    return true;
}

void
hf_tree_done(struct hf_tree *tree)
{
    for (size_t i = 0; i < tree->folder_count; i++)
        free(tree->folders[i].path);
    free(tree->folders);
    free(tree->place);
    hf_closep(&tree->root);
    pthread_mutex_destroy(&tree->lock);
    pthread_mutex_destroy(&tree->syncing);
}

int
hf_tree_at(const struct hf_tree *tree, const char *path, int flags)
{
    const struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC | O_NOFOLLOW),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, tree->root, path[0] == '\0' ? "." : path, &how, sizeof how);
}

bool
hf_tree_fail(const struct hf_tree *tree, const char *path, struct hf_error *err)
{
    switch (errno) {
    case ENOENT:
        return hf_fail(err, HF_ERR_NOT_FOUND, "repository \"%s\" has no \"%s\"", tree->place, path);
    case ELOOP:
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in repository \"%s\" is reached through a symbolic link", path,
                       tree->place);
    case ENOTDIR:
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in repository \"%s\" has a file where a folder belongs", path,
                       tree->place);
    case ENXIO: // a socket, or a FIFO without a reader
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in repository \"%s\" is not a regular file", path, tree->place);
    case EXDEV:
        hf_fail(err, HF_ERR_USAGE, "\"%s\" in repository \"%s\" lies on another file system", path, tree->place);
        return hf_fail_hint(err, "A repository is one file system: mount the disk at the repository's own folder.");
    default:
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\" in repository \"%s\"", path, tree->place);
    }
}

bool
hf_tree_open_folder(const struct hf_tree *tree, const char *path, bool make, int *ret_fd, struct hf_error *err)
{
    int fd = hf_tree_at(tree, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT && make) {
        if (!make_folders(tree, path, err))
            return false;
        fd = hf_tree_at(tree, path, O_RDONLY | O_DIRECTORY);
    }
    if (fd < 0)
        return hf_tree_fail(tree, path, err);
    *ret_fd = fd;
    return true;
}

bool
hf_tree_open_file(const struct hf_tree *tree, const char *path, int *ret_fd, struct stat *ret_status,
                  struct hf_error *err)
{
    // O_NONBLOCK: opening a FIFO that someone put here must not wait for its writer.
    _cleanup_(hf_closep) int fd = hf_tree_at(tree, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return hf_tree_fail(tree, path, err);
    if (fstat(fd, ret_status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not read \"%s\" in repository \"%s\"", path, tree->place);
    if (!S_ISREG(ret_status->st_mode))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in repository \"%s\" is not a regular file", path, tree->place);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

bool
hf_tree_open_target(struct hf_tree *tree, const char *path, size_t *ret_folder, int *ret_fd, struct hf_error *err)
{
    char folder[HF_PATH_BYTES];
    hf_tree_split(path, folder);
    return remember_folder(tree, folder, ret_folder, err) && hf_tree_open_folder(tree, folder, true, ret_fd, err);
}

void
hf_tree_mark(struct hf_tree *tree, size_t folder)
{
    pthread_mutex_lock(&tree->lock);
    tree->folders[folder].dirty = true;
    pthread_mutex_unlock(&tree->lock);
}

bool
hf_tree_sync_marked(struct hf_tree *tree, struct hf_error *err)
{
    pthread_mutex_lock(&tree->syncing);
    bool synced = sync_marked(tree, err);
    pthread_mutex_unlock(&tree->syncing);
    return synced;
}

bool
hf_tree_sync_folder(struct hf_tree *tree, size_t folder, struct hf_error *err)
{
    pthread_mutex_lock(&tree->syncing);
    bool synced = sync_folder(tree, folder, err);
    pthread_mutex_unlock(&tree->syncing);
    return synced;
}

const char *
hf_tree_split(const char *path, char folder[static HF_PATH_BYTES])
{
    const char *slash = strrchr(path, '/');
    snprintf(folder, HF_PATH_BYTES, "%.*s", slash == NULL ? 0 : (int)(slash - path), path);
    return slash == NULL ? path : slash + 1;
}

static bool
make_folders(const struct hf_tree *tree, const char *path, struct hf_error *err)
{
    char part[HF_PATH_BYTES], above[HF_PATH_BYTES];
    size_t length = strlen(path);
    for (size_t end = 1; end <= length; end++) {
        if (end < length && path[end] != '/')
            continue;
        snprintf(part, sizeof part, "%.*s", (int)end, path);
        const char *name = hf_tree_split(part, above);
        _cleanup_(hf_closep) int folder = hf_tree_at(tree, above, O_RDONLY | O_DIRECTORY);
        if (folder < 0)
            return hf_tree_fail(tree, above, err);
        if (mkdirat(folder, name, FOLDER_MODE) != 0 && errno != EEXIST)
            return hf_fail_errno(err, HF_ERR_NONE, "could not make folder \"%s\" in repository \"%s\"", part,
                                 tree->place);
    }
    return true;
}

/* Finds or adds a folder and all above it: made before it is needed, as marking it later must not fail. */
static bool
remember_folder(struct hf_tree *tree, const char *path, size_t *ret, struct hf_error *err)
{
    size_t parent = 0, length = strlen(path);
    bool added = true;
    pthread_mutex_lock(&tree->lock);
    for (size_t end = 1; end <= length && added; end++)
        if (end == length || path[end] == '/')
            added = add_folder(tree, path, end, parent, &parent, err);
    pthread_mutex_unlock(&tree->lock);
    if (added)
        *ret = parent;
    return added;
}

static bool
add_folder(struct hf_tree *tree, const char *path, size_t length, size_t parent, size_t *ret, struct hf_error *err)
{
    for (size_t i = 0; i < tree->folder_count; i++)
        if (strncmp(tree->folders[i].path, path, length) == 0 && tree->folders[i].path[length] == '\0') {
            *ret = i;
            return true;
        }
    if (tree->folder_count == FOLDERS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %zu folders were written to in repository \"%s\"", FOLDERS_MOST,
                       tree->place);

    if (tree->folder_count == tree->folder_capacity) {
        size_t capacity = tree->folder_capacity == 0 ? 16 : 2 * tree->folder_capacity;
        struct hf_tree_folder *more = reallocarray(tree->folders, capacity, sizeof *more);
        if (more == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the folders of \"%s\"", tree->place);
        tree->folders = more;
        tree->folder_capacity = capacity;
    }
    char *copy = strndup(path, length);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the folders of \"%s\"", tree->place);
    *ret = tree->folder_count++;
    tree->folders[*ret] = (struct hf_tree_folder){.path = copy, .parent = parent};
    return true;
}

static bool
sync_marked(struct hf_tree *tree, struct hf_error *err)
{
    if (tree->lost) {
        hf_fail(err, HF_ERR_UNAVAILABLE, "cannot tell whether what was written to \"%s\" will last: a sync failed",
                tree->place);
        return hf_fail_hint(err, "Look at the disk, then begin again.");
    }
    for (size_t i = 0;; i++) {
        pthread_mutex_lock(&tree->lock);
        bool there = i < tree->folder_count;
        bool dirty = there && tree->folders[i].dirty;
        if (dirty)
            tree->folders[i].dirty = false;
        pthread_mutex_unlock(&tree->lock);
        if (!there)
            return true;
        if (dirty && !sync_folder(tree, i, err))
            return false;
    }
}

/* The names in the folder; the first time also its own name and those above, as another process may have made them. */
static bool
sync_folder(struct hf_tree *tree, size_t folder, struct hf_error *err)
{
    size_t at = folder;
    for (;;) {
        struct hf_tree_folder seen = folder_at(tree, at);
        if (!sync_path(tree, seen.path, err)) {
            tree->lost = true;
            return false;
        }
        if (seen.rooted)
            break;
        at = seen.parent;
    }

    pthread_mutex_lock(&tree->lock);
    for (at = folder; !tree->folders[at].rooted; at = tree->folders[at].parent)
        tree->folders[at].rooted = true;
    pthread_mutex_unlock(&tree->lock);
    return true;
}

/* A copy, as the array may move; its text stays where it is. */
static struct hf_tree_folder
folder_at(struct hf_tree *tree, size_t folder)
{
    pthread_mutex_lock(&tree->lock);
    struct hf_tree_folder seen = tree->folders[folder];
    pthread_mutex_unlock(&tree->lock);
    return seen;
}

static bool
sync_path(struct hf_tree *tree, const char *path, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = hf_tree_at(tree, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return hf_tree_fail(tree, path, err);
    if (fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make the names in folder \"%s\" of \"%s\" durable", path,
                             tree->place);
    return true;
}
