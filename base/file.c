#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/id.h"

#define UNFINISHED_NAME_BYTES (sizeof HF_UNFINISHED_PREFIX + HF_ID_TEXT_BYTES)

/* One publication on its way; all names are relative to the folder. */
struct publication {
    const char *path; // for messages
    const char *name; // the last part of path
    int folder;
    char written[UNFINISHED_NAME_BYTES]; // the new bytes, or "" when there is nothing of that name
    char kept[UNFINISHED_NAME_BYTES];    // a second name of the old file, or ""
};

static bool split_path(const char *path, char **ret_folder, const char **ret_name, struct hf_error *err);
static bool write_unfinished(struct publication *file, const void *data, size_t length, mode_t mode,
                             struct hf_error *err);
static bool fill_and_sync(int fd, const void *data, size_t length, mode_t mode, const char *path, struct hf_error *err);
static bool publish_exclusive(struct publication *file, struct hf_error *err);
static bool publish_replacing(struct publication *file, struct hf_error *err);
static bool keep_old(struct publication *file, struct hf_error *err);
static void name_unfinished(char name[static UNFINISHED_NAME_BYTES]);
static void drop_unfinished(struct publication *file, char name[static UNFINISHED_NAME_BYTES]);
static bool make_one(const char *path, mode_t mode, struct hf_error *err);
static bool sync_parent(const char *path, struct hf_error *err);
static bool is_dot_name(const char *name);
static int compare_names(const void *a, const void *b);
static void closedirp(DIR **stream);
static void take_rights(int at, const char *name);
static bool open_folder(int at, const char *name, const char *path, DIR **ret, struct hf_error *err);
static bool empty_folder(DIR *top, const char *path, struct hf_error *err);
static bool remove_entry(DIR *top, const char *name, const char *path, struct hf_error *err);
static bool flatten_folder(DIR *top, const char *name, const char *path, struct hf_error *err);
static bool same_mount(int a, int b, bool *ret_same);

void
hf_closep(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

bool
hf_write_all(int fd, const void *data, size_t length, const char *name, struct hf_error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t put = write(fd, (const uint8_t *)data + done, length - done);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", name);
        if (put == 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not write \"%s\": it takes no more bytes", name);
        done += (size_t)put;
    }
    return true;
}

bool
hf_pwrite_all(int fd, const void *data, size_t length, uint64_t offset, const char *name, struct hf_error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t put = pwrite(fd, (const uint8_t *)data + done, length - done, (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", name);
        if (put == 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not write \"%s\": it takes no more bytes", name);
        done += (size_t)put;
    }
    return true;
}

bool
hf_pread_all(int fd, void *data, size_t length, uint64_t offset, const char *name, struct hf_error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = pread(fd, (uint8_t *)data + done, length - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read \"%s\"", name);
        if (got == 0)
            return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" ends at byte %llu, %llu were expected", name,
                           (unsigned long long)(offset + done), (unsigned long long)(offset + length));
        done += (size_t)got;
    }
    return true;
}

bool
hf_file_open(const char *path, int *ret_fd, struct stat *ret_status, struct hf_error *err)
{
    // Looked at before it is opened: opening a device or a FIFO already does something to it.
    struct stat status;
    if (lstat(path, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (!S_ISREG(status.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is not a regular file", path);

    // And again afterwards, as someone may have put another in its place between the two.
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (!S_ISREG(status.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is not a regular file", path);

    if (ret_status != NULL)
        *ret_status = status;
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

bool
hf_file_read(const char *path, struct hf_buf *buf, struct hf_error *err)
{
    struct stat status;
    _cleanup_(hf_closep) int fd = -1;
    if (!hf_file_open(path, &fd, &status, err))
        return false;

    size_t before = buf->length, room = buf->limit - before;
    if ((uint64_t)status.st_size > room)
        return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" is longer than %zu bytes", path, room);
    if (!hf_buf_reserve(buf, (size_t)status.st_size, err))
        return hf_fail_within(err, "could not read \"%s\"", path);

    // To its end and not to st_size: it may be growing, and files of /proc have no size.
    for (;;) {
        uint8_t piece[16 * HF_KIB];
        ssize_t got = read(fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            return hf_buf_add(buf, "", 0, err); // text even when empty

        bool added = false;
        if (got < 0)
            hf_fail_errno(err, HF_ERR_NONE, "could not read \"%s\"", path);
        else if ((size_t)got > buf->limit - buf->length)
            hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" is longer than %zu bytes", path, room);
        else
            added = hf_buf_add(buf, piece, (size_t)got, err);

        if (buf->secret)
            explicit_bzero(piece, sizeof piece);
        if (!added) {
            hf_buf_truncate(buf, before);
            return false;
        }
    }
}

bool
hf_file_publish(const char *path, const void *data, size_t length, mode_t mode, enum hf_publish_how how,
                struct hf_error *err)
{
    struct publication file = {.path = path};
    _cleanup_(hf_freep) char *folder_path = NULL;
    if (!split_path(path, &folder_path, &file.name, err))
        return false;

    _cleanup_(hf_closep) int folder = open(folder_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", folder_path);
    file.folder = folder;

    bool published = write_unfinished(&file, data, length, mode, err) &&
                     (how == HF_PUBLISH_EXCLUSIVE ? publish_exclusive(&file, err) : publish_replacing(&file, err));
    drop_unfinished(&file, file.kept);
    drop_unfinished(&file, file.written);
    return published;
}

bool
hf_dir_make(const char *path, mode_t mode, struct hf_error *err)
{
    size_t length = strlen(path);
    if (length == 0 || length >= PATH_MAX)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" cannot be the path of a folder", path);

    char part[PATH_MAX];
    memcpy(part, path, length + 1);
    for (size_t i = 1; i < length; i++) {
        if (path[i] != '/' || path[i - 1] == '/')
            continue;
        part[i] = '\0';
        if (!make_one(part, mode, err))
            return false;
        part[i] = '/';
    }
    return make_one(part, mode, err);
}

bool
hf_dir_sync(const char *path, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", path);
    if (fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make folder \"%s\" durable", path);
    return true;
}

bool
hf_dir_is_empty(const char *path, bool *ret_empty, struct hf_error *err)
{
    _cleanup_(closedirp) DIR *stream = opendir(path);
    if (stream == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", path);

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\"", path);
        if (entry != NULL && is_dot_name(entry->d_name))
            continue;
        *ret_empty = entry == NULL;
        return true;
    }
}

bool
hf_dir_list(const char *path, size_t most, char ***ret_names, size_t *ret_count, struct hf_error *err)
{
    _cleanup_(closedirp) DIR *stream = opendir(path);
    if (stream == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", path);

    _cleanup_(hf_strv_freep) char **names = calloc(1, sizeof *names);
    if (names == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);
    size_t count = 0, capacity = 1; // capacity counts the NULL at the end

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(stream);
        if (entry == NULL && errno != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\"", path);
        if (entry == NULL)
            break;
        if (is_dot_name(entry->d_name))
            continue;
        if (count == most)
            return hf_fail(err, HF_ERR_NO_SPACE, "folder \"%s\" holds more than %zu names", path, most);

        if (count + 1 == capacity) {
            char **more = reallocarray(names, capacity * 2, sizeof *names);
            if (more == NULL)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);
            names = more;
            capacity *= 2;
        }
        names[count] = strdup(entry->d_name);
        if (names[count] == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the names in folder \"%s\"", path);
        names[++count] = NULL;
    }

    qsort(names, count, sizeof *names, compare_names);
    *ret_names = HF_TAKE(names);
    *ret_count = count;
    return true;
}

bool
hf_dir_remove_tree(const char *path, struct hf_error *err)
{
    struct stat status;
    if (lstat(path, &status) != 0 && errno == ENOENT)
        return true;

    _cleanup_(closedirp) DIR *top = NULL;
    if (!open_folder(AT_FDCWD, path, path, &top, err) || !empty_folder(top, path, err))
        return false;
    if (rmdir(path) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove folder \"%s\"", path);
    return true;
}

bool
hf_disk_free(const char *path, uint64_t *ret_bytes, struct hf_error *err)
{
    struct statvfs disk;
    if (statvfs(path, &disk) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not ask for the free space at \"%s\"", path);
    *ret_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return true;
}

void
hf_strv_freep(char ***names)
{
    if (*names == NULL)
        return;
    for (char **name = *names; *name != NULL; name++)
        free(*name);
    free(*names);
    *names = NULL;
}

char *
hf_path_join(const char *folder, const char *name)
{
    char *path = NULL;
    size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    return asprintf(&path, "%s%s%s", folder, slash, name) < 0 ? NULL : path;
}

static bool
split_path(const char *path, char **ret_folder, const char **ret_name, struct hf_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? path : slash + 1;
    if (name[0] == '\0' || is_dot_name(name))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" cannot be the path of a file", path);

    char *folder = slash == NULL ? strdup(".") : slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the path \"%s\"", path);
    *ret_folder = folder;
    *ret_name = name;
    return true;
}

static bool
write_unfinished(struct publication *file, const void *data, size_t length, mode_t mode, struct hf_error *err)
{
    char name[UNFINISHED_NAME_BYTES];
    name_unfinished(name);
    _cleanup_(hf_closep) int fd =
        openat(file->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not create \"%s\"", file->path);

    memcpy(file->written, name, sizeof name);
    return fill_and_sync(fd, data, length, mode, file->path, err);
}

/* After a failed fsync the kernel may have dropped the dirty pages, so the file is given up and never synced again. */
static bool
fill_and_sync(int fd, const void *data, size_t length, mode_t mode, const char *path, struct hf_error *err)
{
    if (!hf_write_all(fd, data, length, path, err))
        return false;
    if (fchmod(fd, mode) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set the mode of \"%s\"", path);
    if (fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\" durable", path);
    return true;
}

/* link() and not renameat2(RENAME_NOREPLACE): it is as exclusive, and NFS has it. */
static bool
publish_exclusive(struct publication *file, struct hf_error *err)
{
    if (linkat(file->folder, file->written, file->folder, file->name, 0) != 0) {
        if (errno == EEXIST)
            return hf_fail_errno(err, HF_ERR_CONFLICT, "cannot create \"%s\"", file->path);
        return hf_fail_errno(err, HF_ERR_NONE, "could not create \"%s\"", file->path);
    }

    drop_unfinished(file, file->written);
    if (fsync(file->folder) != 0) {
        hf_fail_errno(err, HF_ERR_NONE, "could not make the name of \"%s\" durable", file->path);
        unlinkat(file->folder, file->name, 0);
        return false;
    }
    return true;
}

static bool
publish_replacing(struct publication *file, struct hf_error *err)
{
    if (!keep_old(file, err))
        return false;
    if (renameat(file->folder, file->written, file->folder, file->name) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not replace \"%s\"", file->path);
    file->written[0] = '\0';

    if (fsync(file->folder) == 0)
        return true;

    hf_fail_errno(err, HF_ERR_NONE, "could not make the name of \"%s\" durable", file->path);
    if (file->kept[0] == '\0')
        unlinkat(file->folder, file->name, 0);
    else if (renameat(file->folder, file->kept, file->folder, file->name) == 0)
        file->kept[0] = '\0';
    return false;
}

/* A second name for the file that gives way, so that it can come back when the folder cannot be synced. */
static bool
keep_old(struct publication *file, struct hf_error *err)
{
    struct stat old;
    if (fstatat(file->folder, file->name, &old, AT_SYMLINK_NOFOLLOW) != 0) {
        if (errno == ENOENT)
            return true;
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", file->path);
    }
    if (!S_ISREG(old.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is not a regular file", file->path);

    char name[UNFINISHED_NAME_BYTES];
    name_unfinished(name);
    if (linkat(file->folder, file->name, file->folder, name, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep the old \"%s\" until the new one is durable",
                             file->path);
    memcpy(file->kept, name, sizeof name);
    return true;
}

static void
name_unfinished(char name[static UNFINISHED_NAME_BYTES])
{
    struct hf_id id = hf_id_new();
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, UNFINISHED_NAME_BYTES, "%s%s", HF_UNFINISHED_PREFIX, hf_id_format(&id, text));
}

static void
drop_unfinished(struct publication *file, char name[static UNFINISHED_NAME_BYTES])
{
    if (name[0] != '\0')
        unlinkat(file->folder, name, 0);
    name[0] = '\0';
}

static bool
make_one(const char *path, mode_t mode, struct hf_error *err)
{
    if (mkdir(path, mode) == 0)
        return sync_parent(path, err);
    if (errno != EEXIST)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make folder \"%s\"", path);

    struct stat status;
    if (stat(path, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
    if (!S_ISDIR(status.st_mode))
        return hf_fail(err, HF_ERR_CONFLICT, "cannot make folder \"%s\": a file of that name exists", path);
    return true;
}

static bool
sync_parent(const char *path, struct hf_error *err)
{
    _cleanup_(hf_freep) char *parent = hf_path_join(path, "..");
    if (parent == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the path \"%s\"", path);
    return hf_dir_sync(parent, err);
}

static bool
is_dot_name(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void
closedirp(DIR **stream)
{
    if (*stream != NULL)
        closedir(*stream);
    *stream = NULL;
}

/*
 * Whoever made the tree may have taken its owner's rights away.  Only for an ordinary user, and only to folders of his
 * own; where it fails, what follows says why.
 */
static void
take_rights(int at, const char *name)
{
    struct stat status;
    char self[32];
    if (geteuid() == 0)
        return;
    _cleanup_(hf_closep) int fd = openat(at, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_uid != geteuid() || (status.st_mode & 0700) == 0700)
        return;
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd); // fchmod does not take O_PATH
    (void)!chmod(self, 0700);
}

static bool
open_folder(int at, const char *name, const char *path, DIR **ret, struct hf_error *err)
{
    take_rights(at, name);
    _cleanup_(hf_closep) int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\" to remove \"%s\"", name, path);
    DIR *stream = fdopendir(fd);
    if (stream == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\" to remove \"%s\"", name, path);
    fd = -1;
    *ret = stream;
    return true;
}

/* Each pass removes the files and brings the next level of folders up; the last pass finds nothing. */
static bool
empty_folder(DIR *top, const char *path, struct hf_error *err)
{
    for (bool found = true; found;) {
        found = false;
        rewinddir(top);
        for (;;) {
            errno = 0;
            const struct dirent *entry = readdir(top);
            if (entry == NULL && errno != 0)
                return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\"", path);
            if (entry == NULL)
                break;
            if (is_dot_name(entry->d_name))
                continue;
            if (!remove_entry(top, entry->d_name, path, err))
                return false;
            found = true;
        }
    }
    return true;
}

static bool
remove_entry(DIR *top, const char *name, const char *path, struct hf_error *err)
{
    if (unlinkat(dirfd(top), name, 0) == 0 || errno == ENOENT)
        return true;
    if (errno != EISDIR)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\" in \"%s\"", name, path);

    if (!flatten_folder(top, name, path, err))
        return false;
    // Not empty: readdir() may skip names while others go, and the next pass finds those.
    if (unlinkat(dirfd(top), name, AT_REMOVEDIR) != 0 && errno != ENOENT && errno != ENOTEMPTY)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove folder \"%s\" in \"%s\"", name, path);
    return true;
}

/* Empties one folder of the top: files go, folders move up beside it, however deep the tree is. */
static bool
flatten_folder(DIR *top, const char *name, const char *path, struct hf_error *err)
{
    _cleanup_(closedirp) DIR *folder = NULL;
    if (!open_folder(dirfd(top), name, path, &folder, err))
        return false;

    bool same;
    if (!same_mount(dirfd(top), dirfd(folder), &same))
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at folder \"%s\" in \"%s\"", name, path);
    if (!same)
        return hf_fail(err, HF_ERR_CONFLICT, "cannot remove \"%s\" in \"%s\": a file system is mounted there", name,
                       path);

    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL && errno != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read folder \"%s\" in \"%s\"", name, path);
        if (entry == NULL)
            return true;
        if (is_dot_name(entry->d_name) || unlinkat(dirfd(folder), entry->d_name, 0) == 0 || errno == ENOENT)
            continue;

        char moved[UNFINISHED_NAME_BYTES];
        name_unfinished(moved);
        const bool is_folder = errno == EISDIR;
        if (is_folder)
            take_rights(dirfd(folder), entry->d_name); // its ".." changes
        if (!is_folder || renameat(dirfd(folder), entry->d_name, dirfd(top), moved) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\" in \"%s\"", entry->d_name, path);
    }
}

/* Two folders of one mount; a bind mount of the same disk has the same device, but not the same mount. */
static bool
same_mount(int a, int b, bool *ret_same)
{
    struct statx first, second;
    if (statx(a, "", AT_EMPTY_PATH, STATX_MNT_ID, &first) != 0 ||
        statx(b, "", AT_EMPTY_PATH, STATX_MNT_ID, &second) != 0)
        return false;
    *ret_same = first.stx_dev_major == second.stx_dev_major && first.stx_dev_minor == second.stx_dev_minor &&
                first.stx_mnt_id == second.stx_mnt_id;
    return true;
}
