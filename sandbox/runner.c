#include "sandbox/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"

#define MOST_FDS 4

struct hf_runner {
    int fd;
    uid_t uid;
    char socket[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
};

static bool ask(struct hf_runner *runner, char what, const int *fds, size_t count, struct hf_error *err);
static bool ask_about_folder(struct hf_runner *runner, char what, const char *folder, struct hf_error *err);

bool
hf_runner_open(const char *socket_path, struct hf_runner **ret, struct hf_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    _cleanup_(hf_runner_freep) struct hf_runner *runner = calloc(1, sizeof *runner);
    if (runner == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a runner");
    runner->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (runner->fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a socket");
    if (strlen(socket_path) >= sizeof address.sun_path)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is too long a name for a socket", socket_path);
    memcpy(address.sun_path, socket_path, strlen(socket_path));
    memcpy(runner->socket, address.sun_path, sizeof runner->socket);
    if (connect(runner->fd, (struct sockaddr *)&address, sizeof address) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not reach the runner at \"%s\"", socket_path);
    if (!ask(runner, HF_RUNNER_ASK_UID, NULL, 0, err))
        return false;
    *ret = HF_TAKE(runner);
    return true;
}

void
hf_runner_freep(struct hf_runner **runner)
{
    if (*runner == NULL)
        return;
    hf_closep(&(*runner)->fd);
    free(*runner);
    *runner = NULL;
}

uid_t
hf_runner_uid(const struct hf_runner *runner)
{
    return runner->uid;
}

const char *
hf_runner_socket(const struct hf_runner *runner)
{
    return runner->socket;
}

bool
hf_runner_give(struct hf_runner *runner, const char *folder, struct hf_error *err)
{
    return ask_about_folder(runner, HF_RUNNER_GIVE, folder, err);
}

bool
hf_runner_take(struct hf_runner *runner, const char *folder, struct hf_error *err)
{
    return ask_about_folder(runner, HF_RUNNER_TAKE, folder, err);
}

bool
hf_runner_launch(struct hf_runner *runner, int spec, int events, int control, int errors, struct hf_error *err)
{
    const int fds[] = {spec, events, control, errors};
    return ask(runner, HF_RUNNER_LAUNCH, fds, HF_LENGTH(fds), err);
}

/* A folder that was given away does not open for reading any more: O_PATH names it all the same. */
static bool
ask_about_folder(struct hf_runner *runner, char what, const char *folder, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = open(folder, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the folder \"%s\"", folder);
    return ask(runner, what, &fd, 1, err);
}

static bool
ask(struct hf_runner *runner, char what, const int *fds, size_t count, struct hf_error *err)
{
    union {
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
        struct cmsghdr align;
    } beside = {0};
    struct iovec packet = {.iov_base = &what, .iov_len = 1};
    struct msghdr message = {.msg_iov = &packet, .msg_iovlen = 1};
    struct hf_runner_reply reply;
    if (count > 0) {
        message.msg_control = beside.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        *rights = (struct cmsghdr){
            .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(count * sizeof(int))};
        memcpy(CMSG_DATA(rights), fds, count * sizeof(int));
    }
    ssize_t got = -1;
    if (sendmsg(runner->fd, &message, MSG_NOSIGNAL) == 1)
        while ((got = recv(runner->fd, &reply, sizeof reply, 0)) < 0 && errno == EINTR)
            ;
    if (got == 0)
        return hf_fail(err, HF_ERR_DENIED, "the runner of sandboxes does not serve this user");
    if (got != (ssize_t)sizeof reply)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not speak with the runner of sandboxes");
    reply.message[sizeof reply.message - 1] = '\0';
    runner->uid = reply.uid;
    if (reply.kind != HF_ERR_NONE)
        return hf_fail(err, (enum hf_error_kind)reply.kind, "the runner of sandboxes refused: %s", reply.message);
    return true;
}
