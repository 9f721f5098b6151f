#include "server/storage/backend.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/time.h"
#include "server/storage/staging.h"

/*
 * A lock is a file, locks/<name of the object>, of one line: "holdfast-lock-1 <milliseconds since 1970>".
 * A file and not an extended attribute, since copies of the repository keep it and every file system has it.
 */
#define LOCK_WORD       "holdfast-lock-1 "
#define LOCK_BYTES_MOST 64

struct local {
    struct hf_backend base;
    struct hf_tree tree;
};

struct local_upload {
    struct hf_upload base;
    struct hf_staged staged;
    int target;        // the folder it will lie in
    size_t folder;     // that folder's number in the tree
    uint64_t reserved; // bytes of disk taken ahead
    uint64_t written;  // bytes appended
    uint64_t pushed;   // of those, handed to the disk
    uint64_t dropped;  // of those, known to have left, and forgotten by the page cache
    int lost;          // errno of a push: the kernel reports it once, so the upload must remember
};

static void local_close(struct hf_backend *backend);
static enum hf_durability local_durability(const struct hf_backend *backend);
static bool local_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err);
static bool local_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                               struct hf_error *err);
static bool local_upload_append(struct hf_upload *upload, const void *data, size_t length, struct hf_error *err);
static void local_upload_push(struct hf_upload *upload);
static bool local_upload_finish(struct hf_upload *upload, struct hf_error *err);
static void local_upload_abort(struct hf_upload *upload);
static bool local_barrier(struct hf_backend *backend, struct hf_error *err);
static bool local_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                struct hf_error *err);
static bool local_replace(struct hf_backend *backend, const char *name, const void *data, size_t length,
                          struct hf_error *err);
static bool local_get(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err);
static bool local_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                            struct hf_error *err);
static bool local_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                       struct hf_error *err);
static bool local_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context,
                       struct hf_error *err);
static bool local_delete(struct hf_backend *backend, const char *name, struct hf_error *err);
static bool local_destroy(struct hf_backend *backend, const char *name, struct hf_error *err);
static bool local_retain_until(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err);
static bool local_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until,
                                 struct hf_error *err);
static bool local_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err);
static bool local_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err);

static const struct hf_backend_kind local_kind = {
    .close = local_close,
    .durability = local_durability,
    .probe = local_probe,
    .upload_begin = local_upload_begin,
    .upload_append = local_upload_append,
    .upload_push = local_upload_push,
    .upload_finish = local_upload_finish,
    .upload_abort = local_upload_abort,
    .barrier = local_barrier,
    .put_exclusive = local_put_exclusive,
    .replace = local_replace,
    .get = local_get,
    .get_range = local_get_range,
    .stat = local_stat,
    .list = local_list,
    .remove = local_delete,
    .destroy = local_destroy,
    .retain_until = local_retain_until,
    .retained_until = local_retained_until,
    .sweep = local_sweep,
    .free_space = local_free_space,
};

static struct local *local_of(struct hf_backend *backend);
static void local_freep(struct local **local);
static bool reserve(const struct local *local, struct local_upload *upload, uint64_t expected, struct hf_error *err);
static bool finish(struct local_upload *upload, struct hf_error *err);
static bool publish(const struct local *local, struct hf_staged *staged, int target, const char *name,
                    struct hf_error *err);
static bool lock_locks(const struct local *local, int *ret_fd, struct hf_error *err);
static bool read_lock(struct local *local, const char *name, bool *ret_found, int64_t *ret_until, struct hf_error *err);
static bool write_lock(struct local *local, const char *name, int64_t until, struct hf_error *err);
static bool put_over(struct local *local, const char *path, const void *data, size_t length, struct hf_error *err);
static bool unlink_durably(struct local *local, const char *path, struct hf_error *err);
static void overwrite(int fd);

bool
hf_backend_open_local(const char *path, struct hf_backend **ret, struct hf_error *err)
{
    _cleanup_(local_freep) struct local *local = calloc(1, sizeof *local);
    if (local == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for repository \"%s\"", path);
    if (!hf_tree_open(&local->tree, path, err))
        return false;
    local->base = (struct hf_backend){.kind = &local_kind, .place = local->tree.place};

    *ret = &HF_TAKE(local)->base;
    return true;
}

static void
local_close(struct hf_backend *backend)
{
    struct local *local = local_of(backend);
    local_freep(&local);
}

static enum hf_durability
local_durability(const struct hf_backend *backend)
{
    (void)backend;
    return HF_DURABLE_SYNCED;
}

static bool
local_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err)
{
    struct hf_backend_report report = {.locks = HF_IMMUTABLE_ADVISORY};
    if (!hf_staging_probe(&local_of(backend)->tree, &report, err))
        return hf_fail_within(err, "could not try what repository \"%s\" can do", backend->place);
    *ret = report;
    return true;
}

static bool
local_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                   struct hf_error *err)
{
    struct local *local = local_of(backend);
    struct local_upload *upload = calloc(1, sizeof *upload);
    if (upload == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for writing \"%s\"", name);
    upload->base.backend = backend;
    snprintf(upload->base.name, sizeof upload->base.name, "%s", name);
    upload->staged = HF_STAGED_NONE;
    upload->target = -1;
    _cleanup_(hf_upload_abortp) struct hf_upload *guard = &upload->base;

    // Under its own last part, so that a pack id is never begun twice: its nonces must not be used again.
    const char *slash = strrchr(name, '/');
    if (!hf_tree_open_target(&local->tree, name, &upload->folder, &upload->target, err) ||
        !hf_staged_open(&local->tree, name, slash == NULL ? name : slash + 1, &upload->staged, err) ||
        !reserve(local, upload, expected, err))
        return false;

    *ret = HF_TAKE(guard);
    return true;
}

static bool
local_upload_append(struct hf_upload *base, const void *data, size_t length, struct hf_error *err)
{
    struct local_upload *upload = (struct local_upload *)base;
    if (!hf_write_all(upload->staged.fd, data, length, base->name, err))
        return false;
    upload->written += length;
    return true;
}

/*
 * Starts the newest stretch on its way and waits for the one before: little is left for the sync at the end,
 * and a large backup does not push everything else out of memory.  A failure shows here or in the
 * sync, never in both.
 */
static void
local_upload_push(struct hf_upload *base)
{
    struct local_upload *upload = (struct local_upload *)base;
    const int fd = upload->staged.fd;
    const off_t before = (off_t)(upload->pushed - upload->dropped);
    if (upload->pushed == upload->written || upload->lost != 0)
        return;
    if (sync_file_range(fd, (off_t)upload->pushed, (off_t)(upload->written - upload->pushed), SYNC_FILE_RANGE_WRITE) !=
            0 ||
        (before > 0 &&
         sync_file_range(fd, (off_t)upload->dropped, before,
                         SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER) != 0)) {
        upload->lost = errno == ENOSYS || errno == EINVAL || errno == ESPIPE ? 0 : errno;
        return;
    }
    (void)posix_fadvise(fd, (off_t)upload->dropped, before, POSIX_FADV_DONTNEED);
    upload->dropped = upload->pushed;
    upload->pushed = upload->written;
}

static bool
local_upload_finish(struct hf_upload *base, struct hf_error *err)
{
    bool finished = finish((struct local_upload *)base, err);
    local_upload_abort(base); // frees it; what was published is no longer staged
    return finished;
}

static void
local_upload_abort(struct hf_upload *base)
{
    struct local_upload *upload = (struct local_upload *)base;
    hf_staged_done(&upload->staged);
    hf_closep(&upload->target);
    free(upload);
}

static bool
local_barrier(struct hf_backend *backend, struct hf_error *err)
{
    return hf_tree_sync_marked(&local_of(backend)->tree, err);
}

static bool
local_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length, struct hf_error *err)
{
    struct local *local = local_of(backend);
    size_t folder;
    _cleanup_(hf_closep) int target = -1;
    _cleanup_(hf_staged_done) struct hf_staged staged = HF_STAGED_NONE;
    if (!hf_tree_open_target(&local->tree, name, &folder, &target, err) ||
        !hf_staged_open(&local->tree, name, NULL, &staged, err) || !hf_write_all(staged.fd, data, length, name, err) ||
        !hf_staged_seal(&staged, name, err) || !publish(local, &staged, target, name, err))
        return false;

    // It has its name, and others may have read it: it stays, whatever the sync says.
    return hf_tree_sync_folder(&local->tree, folder, err) ||
           hf_fail_within(err, "\"%s\" was written, but may not last", name);
}

static bool
local_replace(struct hf_backend *backend, const char *name, const void *data, size_t length, struct hf_error *err)
{
    return put_over(local_of(backend), name, data, length, err);
}

static bool
local_get(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    struct stat status;
    if (!hf_tree_open_file(&local_of(backend)->tree, name, &fd, &status, err))
        return false;

    size_t room = buf->limit - buf->length;
    if ((uint64_t)status.st_size > room)
        return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" has %jd bytes, more than the %zu it may have", name,
                       (intmax_t)status.st_size, room);
    if (!hf_buf_reserve(buf, (size_t)status.st_size, err))
        return hf_fail_within(err, "could not read \"%s\"", name);
    if (!hf_pread_all(fd, buf->data + buf->length, (size_t)status.st_size, 0, name, err))
        return false;
    buf->length += (size_t)status.st_size;
    buf->data[buf->length] = 0;
    return true;
}

static bool
local_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    struct stat status;
    if (!hf_tree_open_file(&local_of(backend)->tree, name, &fd, &status, err))
        return false;
    if (offset > (uint64_t)status.st_size || length > (uint64_t)status.st_size - offset)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "\"%s\" ends at byte %jd, and %zu bytes from byte %" PRIu64 " were asked for", name,
                       (intmax_t)status.st_size, length, offset);
    return hf_pread_all(fd, data, length, offset, name, err);
}

static bool
local_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    struct stat status;
    struct hf_error problem;
    bool found = hf_tree_open_file(&local_of(backend)->tree, name, &fd, &status, &problem);
    if (!found && problem.kind != HF_ERR_NOT_FOUND) {
        if (err != NULL)
            *err = problem;
        return false;
    }
    *ret_found = found;
    *ret_size = found ? (uint64_t)status.st_size : 0;
    return true;
}

static bool
local_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context,
           struct hf_error *err)
{
    return hf_tree_list(&local_of(backend)->tree, prefix, visit, context, err);
}

static bool
local_delete(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    struct local *local = local_of(backend);
    _cleanup_(hf_closep) int guard = -1;
    bool locked;
    int64_t until;
    if (!lock_locks(local, &guard, err) || !read_lock(local, name, &locked, &until, err))
        return false;

    char text[HF_TIME_TEXT_BYTES];
    if (locked && until > hf_time_now_ms())
        return hf_fail(err, HF_ERR_DENIED, "\"%s\" is locked until %s", name, hf_time_format(until, text));
    if (!unlink_durably(local, name, err))
        return false;

    // The lock that ended goes after its object, never before.
    char lock[HF_PATH_BYTES];
    snprintf(lock, sizeof lock, HF_LOCKS_FOLDER "/%s", name);
    return !locked || unlink_durably(local, lock, err);
}

/*
 * The name goes first and the bytes after it, through the descriptor: whoever dies in between leaves no object that
 * looks damaged.
 */
static bool
local_destroy(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    char above[HF_PATH_BYTES];
    const char *file = hf_tree_split(name, above);
    _cleanup_(hf_closep) int folder = hf_tree_at(&local_of(backend)->tree, above, O_RDONLY | O_DIRECTORY);
    _cleanup_(hf_closep) int fd =
        folder < 0 ? -1 : openat(folder, file, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (!local_delete(backend, name, err))
        return false;
    if (fd >= 0)
        overwrite(fd);
    return true;
}

static bool
local_retain_until(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err)
{
    struct local *local = local_of(backend);
    _cleanup_(hf_closep) int guard = -1, fd = -1;
    struct stat status;
    bool locked;
    int64_t before;
    if (!lock_locks(local, &guard, err) || !hf_tree_open_file(&local->tree, name, &fd, &status, err) ||
        !read_lock(local, name, &locked, &before, err))
        return false;
    return (locked && before >= until) || write_lock(local, name, until, err);
}

static bool
local_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until, struct hf_error *err)
{
    struct local *local = local_of(backend);
    _cleanup_(hf_closep) int guard = -1;
    bool locked;
    int64_t until;
    if (!lock_locks(local, &guard, err) || !read_lock(local, name, &locked, &until, err))
        return false;
    *ret_until = locked ? until : HF_RETAINED_NEVER;
    return true;
}

static bool
local_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err)
{
    return hf_staged_sweep(&local_of(backend)->tree, ret_objects, ret_bytes, err);
}

static bool
local_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err)
{
    struct statvfs disk;
    if (fstatvfs(local_of(backend)->tree.root, &disk) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not ask for the free space at \"%s\"", backend->place);
    *ret_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return true;
}

static struct local *
local_of(struct hf_backend *backend)
{
    assert(backend->kind == &local_kind);
    return (struct local *)backend;
}

static void
local_freep(struct local **local)
{
    if (*local == NULL)
        return;
    hf_tree_done(&(*local)->tree);
    free(*local);
    *local = NULL;
}

static bool
reserve(const struct local *local, struct local_upload *upload, uint64_t expected, struct hf_error *err)
{
    if (expected == 0)
        return true;
    if (expected > INT64_MAX)
        return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" cannot have %" PRIu64 " bytes", upload->base.name, expected);

    int reserved;
    do
        reserved = fallocate(upload->staged.fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)expected);
    while (reserved != 0 && errno == EINTR);
    if (reserved == 0) {
        upload->reserved = expected;
        return true;
    }
    if (errno != EOPNOTSUPP)
        return hf_fail_errno(err, HF_ERR_NONE, "could not reserve %" PRIu64 " bytes for \"%s\"", expected,
                             upload->base.name);

    // A file system that cannot reserve is at least asked.
    struct statvfs disk;
    if (fstatvfs(local->tree.root, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < expected)
        return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" needs %" PRIu64 " bytes, and \"%s\" has %" PRIu64 " left",
                       upload->base.name, expected, local->tree.place, (uint64_t)disk.f_bavail * disk.f_frsize);
    return true;
}

static bool
finish(struct local_upload *upload, struct hf_error *err)
{
    if (upload->lost != 0) {
        errno = upload->lost;
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\" to the disk", upload->base.name);
    }
    struct local *local = local_of(upload->base.backend);
    const char *name = upload->base.name;

    // Room that was reserved and not used goes back, also where it lies beyond the file's end.
    if (upload->reserved > upload->written && ftruncate(upload->staged.fd, (off_t)upload->written) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give back room reserved for \"%s\"", name);
    if (!hf_staged_seal(&upload->staged, name, err))
        return false;
    (void)posix_fadvise(upload->staged.fd, 0, 0, POSIX_FADV_DONTNEED); // durable: others need the memory more
    if (!publish(local, &upload->staged, upload->target, name, err))
        return false;
    hf_tree_mark(&local->tree, upload->folder);
    return true;
}

static bool
publish(const struct local *local, struct hf_staged *staged, int target, const char *name, struct hf_error *err)
{
    const char *slash = strrchr(name, '/');
    switch (hf_staged_publish(staged, target, slash == NULL ? name : slash + 1)) {
    case HF_STAGED_PUBLISHED:
        return true;
    case HF_STAGED_TAKEN:
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" exists already in repository \"%s\"", name, local->tree.place);
    case HF_STAGED_FAILED:
        break;
    }
    return hf_fail_errno(err, HF_ERR_NONE, "could not move \"%s\" to its place", name);
}

/* One process at a time reads or changes locks, and deletes what they guard: flock() on the root folder. */
static bool
lock_locks(const struct local *local, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = openat(local->tree.root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int locked = -1;
    if (fd >= 0)
        do
            locked = flock(fd, LOCK_EX);
        while (locked != 0 && errno == EINTR);
    if (locked != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not lock repository \"%s\"", local->tree.place);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

/* A lock that cannot be read is an error, and so the object stays. */
static bool
read_lock(struct local *local, const char *name, bool *ret_found, int64_t *ret_until, struct hf_error *err)
{
    char path[HF_PATH_BYTES];
    snprintf(path, sizeof path, HF_LOCKS_FOLDER "/%s", name);
    bool found;
    uint64_t size;
    if (!local_stat(&local->base, path, &found, &size, err))
        return false;
    *ret_found = found;
    *ret_until = 0;
    if (!found)
        return true;

    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(LOCK_BYTES_MOST);
    if (size > LOCK_BYTES_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not a lock", path);
    if (!local_get(&local->base, path, &text, err))
        return false;

    char again[LOCK_BYTES_MOST + 1];
    const char *digits = hf_buf_text(&text);
    if (strncmp(digits, LOCK_WORD, strlen(LOCK_WORD)) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not a lock", path);
    int64_t until = strtoll(digits + strlen(LOCK_WORD), NULL, 10);
    snprintf(again, sizeof again, LOCK_WORD "%" PRId64 "\n", until); // one text for one moment
    if (text.length != strlen(again) || memcmp(again, text.data, text.length) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not a lock", path);
    *ret_until = until;
    return true;
}

static bool
write_lock(struct local *local, const char *name, int64_t until, struct hf_error *err)
{
    char path[HF_PATH_BYTES], text[LOCK_BYTES_MOST + 1];
    snprintf(path, sizeof path, HF_LOCKS_FOLDER "/%s", name);
    int length = snprintf(text, sizeof text, LOCK_WORD "%" PRId64 "\n", until);
    return put_over(local, path, text, (size_t)length, err);
}

static bool
put_over(struct local *local, const char *path, const void *data, size_t length, struct hf_error *err)
{
    size_t folder;
    const char *slash = strrchr(path, '/');
    _cleanup_(hf_closep) int target = -1;
    _cleanup_(hf_staged_done) struct hf_staged staged = HF_STAGED_NONE;
    if (!hf_tree_open_target(&local->tree, path, &folder, &target, err) ||
        !hf_staged_open(&local->tree, path, NULL, &staged, err) || !hf_write_all(staged.fd, data, length, path, err) ||
        !hf_staged_seal(&staged, path, err))
        return false;
    if (!hf_staged_replace(&staged, target, slash == NULL ? path : slash + 1))
        return hf_fail_errno(err, HF_ERR_NONE, "could not move \"%s\" to its place", path);
    return hf_tree_sync_folder(&local->tree, folder, err);
}

/* Syncs even when the name is gone: whoever removed it may have died before it could. */
static bool
unlink_durably(struct local *local, const char *path, struct hf_error *err)
{
    char above[HF_PATH_BYTES];
    const char *name = hf_tree_split(path, above);
    _cleanup_(hf_closep) int folder = hf_tree_at(&local->tree, above, O_RDONLY | O_DIRECTORY);
    if (folder < 0 && errno == ENOENT)
        return true;
    if (folder < 0)
        return hf_tree_fail(&local->tree, above, err);
    if (unlinkat(folder, name, 0) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not delete \"%s\" from repository \"%s\"", path,
                             local->tree.place);
    if (fsync(folder) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make the deletion of \"%s\" durable", path);
    return true;
}

/* Only small objects are destroyed: keys.  As far as it goes: the storage may have put a copy elsewhere long ago. */
static void
overwrite(int fd)
{
    uint8_t noise[4 * HF_KIB];
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode))
        return;
    for (uint64_t at = 0; at < (uint64_t)status.st_size; at += sizeof noise) {
        uint64_t left = (uint64_t)status.st_size - at;
        randombytes_buf(noise, sizeof noise);
        if (!hf_pwrite_all(fd, noise, left < sizeof noise ? (size_t)left : sizeof noise, at, "destroyed keys", NULL))
            return;
    }
    (void)fdatasync(fd);
}
