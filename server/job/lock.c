#include "server/job/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"

#define CONTENT_MOST (4 * HF_KIB)

static bool open_file(const char *state, int flags, int *ret_fd, struct hf_error *err);
static bool read_holder(int fd, struct hf_lock_holder *ret, struct hf_error *err);
static bool write_holder(int fd, const struct hf_lock_holder *holder, struct hf_error *err);

bool
hf_lock_take(const char *state, const struct hf_lock_holder *holder, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    if (!open_file(state, O_RDWR | O_CREAT, &fd, err))
        return false;
    // A lock of the open file, not of the process: it can be looked at without being taken.
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
        struct hf_lock_holder other = {0};
        if (errno != EAGAIN && errno != EACCES)
            return hf_fail_errno(err, HF_ERR_NONE, "could not lock the state folder \"%s\"", state);
        (void)!read_holder(fd, &other, NULL);
        return hf_fail(err, HF_ERR_CONFLICT, "holdfastd runs already for \"%s\" (process %d, socket \"%s\")", state,
                       (int)other.pid, other.socket);
    }
    if (!write_holder(fd, holder, err))
        return false;
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

bool
hf_lock_look(const char *state, bool *ret_held, struct hf_lock_holder *ret, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    struct hf_error why;
    *ret_held = false;
    if (!open_file(state, O_RDONLY, &fd, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND) // no daemon has ever run here
            return true;
        if (err != NULL)
            *err = why;
        return false;
    }
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_GETLK, &whole) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at the lock of \"%s\"", state);
    if (whole.l_type == F_UNLCK)
        return true;
    if (!read_holder(fd, ret, err))
        return false;
    *ret_held = true;
    return true;
}

static bool
open_file(const char *state, int flags, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(state, HF_LOCK_NAME);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the lock");
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    *ret_fd = fd;
    return true;
}

static bool
read_holder(int fd, struct hf_lock_holder *ret, struct hf_error *err)
{
    static const char what[] = "the lock file of holdfastd";
    char text[CONTENT_MOST];
    _cleanup_(hf_json_freep) json_t *object = NULL;
    const char *socket;
    int64_t pid;
    ssize_t length = pread(fd, text, sizeof text, 0);
    if (length < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not read %s", what);
    if (!hf_json_parse(text, (size_t)length, what, &object, err) ||
        !hf_json_string(object, "socket", what, &socket, err) ||
        !hf_json_integer(object, "pid", what, 1, INT32_MAX, &pid, err) ||
        !hf_json_boolean(object, "embedded", what, &ret->embedded, err))
        return false;
    if (strlen(socket) >= sizeof ret->socket)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: the socket's path is too long", what);
    snprintf(ret->socket, sizeof ret->socket, "%s", socket);
    ret->pid = (pid_t)pid;
    return true;
}

static bool
write_holder(int fd, const struct hf_lock_holder *holder, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(CONTENT_MOST);
    _cleanup_(hf_json_freep) json_t *object = json_pack("{s:b, s:i, s:s}", "embedded", (int)holder->embedded, "pid",
                                                        (int)holder->pid, "socket", holder->socket);
    if (object == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the lock");
    if (!hf_json_canonical(object, &text, err))
        return false;
    if (ftruncate(fd, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write the lock file of holdfastd");
    return hf_pwrite_all(fd, text.data, text.length, 0, HF_LOCK_NAME, err);
}
