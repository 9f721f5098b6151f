#include "server/job/peer.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/lock.h"

bool
hf_peer_check(const struct hf_settings *settings, int fd, uid_t *ret_uid, struct hf_error *err)
{
    struct ucred peer;
    socklen_t length = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not tell who is connecting");
    if (peer.uid != geteuid() && peer.uid != 0 && !hf_peer_listed(settings->log_readers, peer.uid) &&
        !hf_peer_listed(settings->shred_confirmers, peer.uid))
        return hf_fail(err, HF_ERR_DENIED, "holdfastd serves user %u and root, not user %u", (unsigned)geteuid(),
                       (unsigned)peer.uid);
    *ret_uid = peer.uid;
    return true;
}

bool
hf_peer_listen(const struct hf_settings *settings, const char *path, int backlog, int *ret_fd, struct hf_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _Static_assert(sizeof address.sun_path == HF_SOCKET_BYTES, "lock.h says how long a socket's path may be");
    const size_t length = strlen(path);
    if (length >= sizeof address.sun_path)
        return hf_fail(err, HF_ERR_USAGE, "the path of the socket is longer than %zu bytes: \"%.200s\"",
                       sizeof address.sun_path - 1, path);
    memcpy(address.sun_path, path, length + 1); // gcc under the sanitizers takes the path for NULL in a "%s"

    struct stat status;
    if (lstat(path, &status) == 0) {
        if (!S_ISSOCK(status.st_mode))
            return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is there and is no socket", path);
        if (unlink(path) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove the old socket \"%s\"", path);
    }
    _cleanup_(hf_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // Who may connect besides us and root is looked at by his id: hf_peer_check().
    const bool others = settings->log_readers != NULL || settings->shred_confirmers != NULL;
    mode_t before = umask(others ? 0111 : 0177);
    bool bound = fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    int system = errno;
    umask(before);
    errno = system;
    if (!bound || listen(fd, backlog) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not listen on \"%s\"", path);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

bool
hf_peer_listed(const char *users, uid_t uid)
{
    for (const char *at = users; at != NULL && *at != '\0';) {
        char name[64], words[4096];
        struct passwd user, *found = NULL;
        const size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : 0), at);
        if (getpwnam_r(name, &user, words, sizeof words, &found) == 0 && found != NULL && user.pw_uid == uid)
            return true;
        at += length + (at[length] == ',');
    }
    return false;
}
