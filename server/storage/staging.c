#include "server/storage/staging.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#define STAGING_FOLDER "staging"
#define OBJECT_MODE    0400
#define MOST_TRIES     16 // against a sweeper that takes the file between its creation and its lock

enum swept { SWEPT_REMOVED, SWEPT_KEPT, SWEPT_FAILED };

static void staging_folder(const char *object, char folder[static HF_PATH_BYTES]);
static int create_locked(int folder, const char *name);
static bool lock_fully(int fd);
static bool lacks_noreplace(int system);
static bool sweep_folder(const struct hf_tree *tree, const char *path, uint64_t *objects, uint64_t *bytes,
                         struct hf_error *err);
static void closedirp(DIR **stream);
static enum swept sweep_one(int folder, const char *name, uint64_t *bytes);
static bool is_name_of(int folder, const char *name, int fd, struct stat *ret);

bool
hf_staged_open(const struct hf_tree *tree, const char *object, const char *name, struct hf_staged *ret,
               struct hf_error *err)
{
    char path[HF_PATH_BYTES], unique[HF_ID_TEXT_BYTES];
    staging_folder(object, path);
    if (name == NULL) {
        struct hf_id id = hf_id_new();
        name = hf_id_format(&id, unique);
    }

    _cleanup_(hf_staged_done) struct hf_staged staged = HF_STAGED_NONE;
    if (!hf_tree_open_folder(tree, path, true, &staged.folder, err))
        return false;
    for (int tries = 0; tries < MOST_TRIES && staged.fd < 0; tries++) {
        _cleanup_(hf_closep) int fd = create_locked(staged.folder, name);
        if (fd < 0 && errno == EEXIST) {
            hf_fail(err, HF_ERR_CONFLICT, "\"%s/%s\" is being written, or was when a process died", path, name);
            return hf_fail_hint(err, "What dead processes left is removed when the next backup begins.");
        }
        if (fd < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not create \"%s/%s\" in repository \"%s\"", path, name,
                                 tree->place);
        struct stat status;
        if (fstat(fd, &status) != 0) {
            hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s/%s\" in repository \"%s\"", path, name,
                          tree->place);
            unlinkat(staged.folder, name, 0); // nobody else would before the next sweep
            return false;
        }
        if (status.st_nlink > 0)
            staged.fd = HF_TAKE_FD(fd);
    }
    if (staged.fd < 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE,
                       "could not create \"%s/%s\" in repository \"%s\": it is swept each time", path, name,
                       tree->place);

    snprintf(staged.name, sizeof staged.name, "%s", name);
    *ret = staged;
    staged = HF_STAGED_NONE;
    return true;
}

bool
hf_staged_seal(struct hf_staged *staged, const char *object, struct hf_error *err)
{
    if (fchmod(staged->fd, OBJECT_MODE) != 0 || fdatasync(staged->fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\" durable", object);
    return true;
}

enum hf_staged_outcome
hf_staged_publish(struct hf_staged *staged, int target, const char *name)
{
    bool moved = renameat2(staged->folder, staged->name, target, name, RENAME_NOREPLACE) == 0;
    if (!moved && lacks_noreplace(errno)) {
        // A second name does the same in two steps; dying in between leaves a staged name, which a sweep removes.
        moved = linkat(staged->folder, staged->name, target, name, 0) == 0;
        if (moved)
            unlinkat(staged->folder, staged->name, 0);
    }
    if (!moved)
        return errno == EEXIST ? HF_STAGED_TAKEN : HF_STAGED_FAILED;
    staged->name[0] = '\0';
    return HF_STAGED_PUBLISHED;
}

bool
hf_staged_replace(struct hf_staged *staged, int target, const char *name)
{
    if (renameat(staged->folder, staged->name, target, name) != 0)
        return false;
    staged->name[0] = '\0';
    return true;
}

void
hf_staged_done(struct hf_staged *staged)
{
    // While we still hold the lock: afterwards the name may be somebody else's.
    if (staged->name[0] != '\0')
        unlinkat(staged->folder, staged->name, 0);
    hf_closep(&staged->fd);
    hf_closep(&staged->folder);
    *staged = HF_STAGED_NONE;
}

bool
hf_staged_sweep(const struct hf_tree *tree, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err)
{
    uint64_t objects = 0, bytes = 0;
    if (!sweep_folder(tree, STAGING_FOLDER, &objects, &bytes, err))
        return false;

    _cleanup_(hf_strv_freep) char **vaults = NULL;
    _cleanup_(hf_closep) int folder = hf_tree_at(tree, "vaults", O_RDONLY | O_DIRECTORY);
    if (folder < 0 && errno != ENOENT)
        return hf_tree_fail(tree, "vaults", err);
    if (folder >= 0 && !hf_tree_names(folder, "vaults/", &vaults, err))
        return false;
    for (size_t i = 0; vaults != NULL && vaults[i] != NULL; i++) {
        char object[HF_PATH_BYTES], path[HF_PATH_BYTES];
        if ((size_t)snprintf(object, sizeof object, "vaults/%s", vaults[i]) >= HF_OBJECT_NAME_BYTES)
            continue; // too long to hold an object
        staging_folder(object, path);
        if (object[strlen(object) - 1] == '/' && !sweep_folder(tree, path, &objects, &bytes, err))
            return false;
    }
    *ret_objects = objects;
    *ret_bytes = bytes;
    return true;
}

static void
staging_folder(const char *object, char folder[static HF_PATH_BYTES])
{
    const char *slash = strncmp(object, "vaults/", 7) == 0 ? strchr(object + 7, '/') : NULL;
    if (slash == NULL)
        snprintf(folder, HF_PATH_BYTES, STAGING_FOLDER);
    else
        snprintf(folder, HF_PATH_BYTES, "%.*s/" STAGING_FOLDER, (int)(slash - object), object);
}

static int
create_locked(int folder, const char *name)
{
    _cleanup_(hf_closep) int fd = openat(folder, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0 || !lock_fully(fd))
        return -1;
    return HF_TAKE_FD(fd);
}

/* Waits: only a sweeper can hold it, and it lets go at once. */
static bool
lock_fully(int fd)
{
    int locked;
    do
        locked = flock(fd, LOCK_EX);
    while (locked != 0 && errno == EINTR);
    return locked == 0;
}

/* What file systems without RENAME_NOREPLACE answer (NFS, some FUSE). */
static bool
lacks_noreplace(int system)
{
    return system == EINVAL || system == ENOSYS || system == EOPNOTSUPP;
}

static bool
sweep_folder(const struct hf_tree *tree, const char *path, uint64_t *objects, uint64_t *bytes, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = hf_tree_at(tree, path, O_RDONLY | O_DIRECTORY);
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0)
        return hf_tree_fail(tree, path, err);
    _cleanup_(closedirp) DIR *stream = fdopendir(fd);
    if (stream == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", path);
    fd = -1; // the stream owns it now

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\"", path);
        if (entry == NULL)
            return true;
        uint64_t freed = 0;
        switch (sweep_one(dirfd(stream), entry->d_name, &freed)) {
        case SWEPT_REMOVED:
            *objects += 1;
            *bytes += freed;
            break;
        case SWEPT_KEPT:
            break;
        case SWEPT_FAILED:
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s/%s\"", path, entry->d_name);
        }
    }
}

static void
closedirp(DIR **stream)
{
    if (*stream != NULL)
        closedir(*stream);
    *stream = NULL;
}

static enum swept
sweep_one(int folder, const char *name, uint64_t *bytes)
{
    struct stat status;
    if (fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode))
        return SWEPT_KEPT;

    // For writing, since NFS gives exclusive locks on nothing else; but a file that is nearly published has lost its
    // write bit.  O_NONBLOCK in case it became a FIFO.
    _cleanup_(hf_closep) int fd = openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == EACCES)
        fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? SWEPT_KEPT : SWEPT_FAILED;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK ? SWEPT_KEPT : SWEPT_FAILED;

    // Locked, but is it still the file of this name?  Its writer may have published it just now.
    if (!is_name_of(folder, name, fd, &status))
        return SWEPT_KEPT;
    if (unlinkat(folder, name, 0) != 0)
        return errno == ENOENT ? SWEPT_KEPT : SWEPT_FAILED;
    *bytes = status.st_nlink > 1 ? 0 : (uint64_t)status.st_blocks * 512; // room reserved ahead counts as well
    return SWEPT_REMOVED;
}

static bool
is_name_of(int folder, const char *name, int fd, struct stat *ret)
{
    struct stat named;
    return fstat(fd, ret) == 0 && fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           named.st_dev == ret->st_dev && named.st_ino == ret->st_ino;
}
