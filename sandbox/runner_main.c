/*
 * holdfast-runner: root's part of a sandbox (runner.h).  One process listens, and each connection has a process of its
 * own, which holds the claim on the connection's uid and is the parent of what it launched.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "sandbox/launch.h"
#include "sandbox/runner.h"
#include "sandbox/tree.h"
#include "sandbox/uids.h"

#define CONNECTIONS_MOST 64
#define MOST_FDS         4
#define PROCESSES_MOST   8192
#define MEMORY_MOST      (UINT64_C(1) << 44)
#define WALL_MOST_MS     (UINT64_C(7) * 24 * 3600 * 1000)
#define END_TIMEOUT_MS   30000

/* Somebody stops the service: what is given away is brought back first. */
static volatile sig_atomic_t stopping;

/* One connection. */
struct service {
    int fd;
    struct ucred peer;
    uid_t uid;
    int claim;
    int given[HF_RUNNER_GIVEN_MOST]; // folders that are to come back
    size_t given_count;
    struct hf_process launcher; // NONE while nothing runs
    const char *program;
};

struct request {
    char what;
    int fds[MOST_FDS];
    size_t count;
};

static bool handle_stop(sigset_t *ret_waiting);
static int listen_at(const char *path, uid_t uid);
static void await_connections(int listener, const sigset_t *waiting, uid_t served, const char *program);
static void serve(int fd, const sigset_t *waiting, uid_t served, const char *program);
static bool hear(struct service *service, const sigset_t *waiting, struct request *ret);
static void close_request(struct request *request);
static bool act(struct service *service, const struct request *request, struct hf_error *err);
static bool give(struct service *service, int folder, struct hf_error *err);
static bool take(struct service *service, int folder, struct hf_error *err);
static bool launch(struct service *service, const struct request *request, struct hf_error *err);
static bool read_spec(int fd, struct hf_buf *out, struct hf_error *err);
static bool check_spec(const struct service *service, const struct hf_launch *launch, struct hf_error *err);
static bool check_channels(const int *fds, struct hf_error *err);
static void forget_launcher(struct service *service, int timeout_ms);
static void clean_up(struct service *service);
static void end_all_of(uid_t uid);

int
main(int argc, char **argv)
{
    char program[4096];
    if (argc != 4) {
        fprintf(stderr, "usage: holdfast-runner SOCKET USER LAUNCHER\n\n"
                        "Gives the sandboxes of that user's appliance uids of their own.  Must be started by root.\n");
        return 2;
    }
    const struct passwd *user = getpwnam(argv[2]);
    char *end;
    const unsigned long number = strtoul(argv[2], &end, 10);
    if (user == NULL && (*end != '\0' || number == 0 || number > UINT32_MAX - 1)) {
        fprintf(stderr, "holdfast-runner: there is no user \"%s\"\n", argv[2]);
        return 2;
    }
    if (geteuid() != 0 || setgroups(0, NULL) != 0 || realpath(argv[3], program) == NULL) {
        fprintf(stderr, "holdfast-runner: must be started by root, with the path of holdfast-sandbox\n");
        return 1;
    }
    const uid_t served = user != NULL ? user->pw_uid : (uid_t)number;
    const int listener = listen_at(argv[1], served);
    if (listener < 0) {
        fprintf(stderr, "holdfast-runner: cannot listen at \"%s\": %s\n", argv[1], strerror(errno));
        return 1;
    }
    sigset_t waiting;
    if (!handle_stop(&waiting)) {
        fprintf(stderr, "holdfast-runner: cannot handle signals: %s\n", strerror(errno));
        return 1;
    }
    await_connections(listener, &waiting, served, program);
    (void)unlink(argv[1]);
    return 0;
}

static void
note_stop(int ignored)
{
    (void)ignored;
    stopping = 1;
}

/* SIGTERM and SIGINT come only while we wait (ppoll), so that none is missed between a look and a wait. */
static bool
handle_stop(sigset_t *ret_waiting)
{
    const struct sigaction action = {.sa_handler = note_stop};
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGTERM);
    sigaddset(&held, SIGINT);
    return sigprocmask(SIG_BLOCK, &held, ret_waiting) == 0 && sigaction(SIGTERM, &action, NULL) == 0 &&
           sigaction(SIGINT, &action, NULL) == 0;
}

/* Until somebody stops the service, and every connection has brought back what it gave away. */
static void
await_connections(int listener, const sigset_t *waiting, uid_t served, const char *program)
{
    pid_t running[CONNECTIONS_MOST];
    unsigned count = 0;
    while (!stopping) {
        const struct timespec second = {.tv_sec = 1};
        struct pollfd ready = {.fd = listener, .events = POLLIN};
        for (unsigned i = 0; i < count;) {
            if (waitpid(running[i], NULL, WNOHANG) != 0)
                running[i] = running[--count];
            else
                i++;
        }
        // Nobody is heard while there are too many: their connections wait in the listener's queue.
        if (ppoll(&ready, count < CONNECTIONS_MOST ? 1 : 0, &second, waiting) <= 0)
            continue;
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            continue;
        const pid_t pid = fork();
        if (pid == 0) {
            close(listener);
            serve(fd, waiting, served, program);
            _exit(0);
        }
        if (pid > 0)
            running[count++] = pid;
        close(fd);
    }
    for (unsigned i = 0; i < count; i++)
        kill(running[i], SIGTERM);
    while (count > 0)
        (void)waitpid(running[--count], NULL, 0);
}

/* The socket is the user's, so that nobody else's request is even heard. */
static int
listen_at(const char *path, uid_t uid)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path));
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    (void)unlink(path);
    const mode_t mask = umask(0177);
    const bool fine = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                      chown(path, uid, (gid_t)-1) == 0 && listen(fd, 16) == 0;
    umask(mask);
    return fine ? fd : -1;
}

static void
serve(int fd, const sigset_t *waiting, uid_t served, const char *program)
{
    struct service service = {.fd = fd, .claim = -1, .launcher = HF_PROCESS_NONE, .program = program};
    struct hf_error claiming = {0};
    struct request request;
    socklen_t length = sizeof service.peer;
    // With the listener, whose place in the process tree is root's service manager's concern.
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &service.peer, &length) != 0 || service.peer.uid != served)
        return;
    signal(SIGPIPE, SIG_IGN);
    const bool claimed = hf_uid_claim(&service.uid, &service.claim, &claiming);
    while (hear(&service, waiting, &request)) {
        struct hf_error err = claiming;
        const bool fine = claimed && act(&service, &request, &err);
        close_request(&request);
        struct hf_runner_reply reply = {.kind = fine ? HF_ERR_NONE : (uint32_t)err.kind, .uid = service.uid};
        if (!fine)
            snprintf(reply.message, sizeof reply.message, "%.*s", HF_RUNNER_MESSAGE_BYTES - 1, err.message);
        if (send(fd, &reply, sizeof reply, MSG_NOSIGNAL) != (ssize_t)sizeof reply)
            break;
    }
    clean_up(&service);
}

/* False when the other side has gone, does not keep to the protocol, or the service stops: all end the connection. */
static bool
hear(struct service *service, const sigset_t *waiting, struct request *ret)
{
    struct pollfd ready = {.fd = service->fd, .events = POLLIN};
    union {
        char bytes[CMSG_SPACE(MOST_FDS * sizeof(int))];
        struct cmsghdr align;
    } beside;
    char packet[2];
    struct iovec place = {.iov_base = packet, .iov_len = sizeof packet};
    struct msghdr message = {
        .msg_iov = &place, .msg_iovlen = 1, .msg_control = beside.bytes, .msg_controllen = sizeof beside.bytes};
    *ret = (struct request){0};
    if (stopping || ppoll(&ready, 1, NULL, waiting) != 1)
        return false;
    const ssize_t got = recvmsg(service->fd, &message, MSG_CMSG_CLOEXEC);
    for (struct cmsghdr *part = CMSG_FIRSTHDR(&message); got >= 0 && part != NULL; part = CMSG_NXTHDR(&message, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && ret->count < MOST_FDS; i++)
            memcpy(&ret->fds[ret->count++], CMSG_DATA(part) + i * sizeof(int), sizeof(int));
    }
    if (got == 1 && (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0) {
        ret->what = packet[0];
        return true;
    }
    close_request(ret);
    return false;
}

static void
close_request(struct request *request)
{
    for (size_t i = 0; i < request->count; i++)
        close(request->fds[i]);
    request->count = 0;
}

/* The closed table. */
static bool
act(struct service *service, const struct request *request, struct hf_error *err)
{
    forget_launcher(service, 0);
    if (request->what == HF_RUNNER_ASK_UID && request->count == 0)
        return true;
    if (request->what == HF_RUNNER_GIVE && request->count == 1)
        return give(service, request->fds[0], err);
    if (request->what == HF_RUNNER_TAKE && request->count == 1)
        return take(service, request->fds[0], err);
    if (request->what == HF_RUNNER_LAUNCH && request->count == MOST_FDS)
        return launch(service, request, err);
    return hf_fail(err, HF_ERR_USAGE, "there is no such request");
}

static bool
give(struct service *service, int folder, struct hf_error *err)
{
    struct stat info;
    if (service->given_count == HF_RUNNER_GIVEN_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %d folders for one sandbox", HF_RUNNER_GIVEN_MOST);
    if (fstat(folder, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != service->peer.uid)
        return hf_fail(err, HF_ERR_DENIED, "that is no folder of uid %u", service->peer.uid);
    const int kept = fcntl(folder, F_DUPFD_CLOEXEC, 0);
    if (kept < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep the folder");
    service->given[service->given_count++] = kept; // from now on: half of it given away comes back too
    return hf_tree_pass(folder, service->peer.uid, service->uid, service->uid, false, err);
}

static bool
take(struct service *service, int folder, struct hf_error *err)
{
    struct stat info, known;
    if (service->launcher.pid != -1)
        forget_launcher(service, END_TIMEOUT_MS); // it has said that it ended; its process may need a moment
    if (service->launcher.pid != -1)
        return hf_fail(err, HF_ERR_CONFLICT, "the sandbox still runs");
    if (fstat(folder, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at the folder");
    for (size_t i = 0; i < service->given_count; i++) {
        if (fstat(service->given[i], &known) != 0 || known.st_dev != info.st_dev || known.st_ino != info.st_ino)
            continue;
        if (!hf_tree_pass(folder, service->uid, service->peer.uid, service->peer.gid, true, err))
            return false;
        close(service->given[i]);
        service->given[i] = service->given[--service->given_count];
        return true;
    }
    return hf_fail(err, HF_ERR_DENIED, "that folder was not given to this sandbox");
}

static bool
launch(struct service *service, const struct request *request, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_LAUNCH_MOST_BYTES);
    _cleanup_(hf_closep) int checked = -1;
    _cleanup_(hf_launch_done) struct hf_launch spec = {0};
    char uid[16], gid[16];
    if (service->launcher.pid != -1)
        return hf_fail(err, HF_ERR_CONFLICT, "a sandbox of this uid runs already");
    if (!check_channels(request->fds + 1, err) || !read_spec(request->fds[0], &text, err) ||
        !hf_launch_parse(text.data, text.length, &spec, err))
        return false;
    if (!check_spec(service, &spec, err))
        return false;

    // The bytes that were checked, where nobody can change them any more.
    checked = memfd_create("holdfast-runner-spec", MFD_CLOEXEC);
    if (checked < 0 || !hf_write_all(checked, text.data, text.length, "the sandbox spec", err) ||
        lseek(checked, 0, SEEK_SET) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not hand over the sandbox spec");
    snprintf(uid, sizeof uid, "%u", service->peer.uid);
    snprintf(gid, sizeof gid, "%u", service->peer.gid);
    const int pass[][2] = {
        {checked, HF_LAUNCH_SPEC_FD}, {request->fds[1], HF_LAUNCH_EVENTS_FD}, {request->fds[2], HF_LAUNCH_CONTROL_FD}};
    const char *const argv[] = {service->program, "--for", uid, gid, NULL};
    const struct hf_process_options options = {.argv = argv,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = request->fds[3],
                                               .pass_fds = pass,
                                               .pass_fd_count = HF_LENGTH(pass),
                                               .outlives_us = true}; // by as long as it takes to clean up
    return hf_process_start(&options, &service->launcher, err);
}

/*
 * Root reads what it is given and quotes it when it makes no sense: so only a plain file of ordinary size, since files
 * of the kernel (size 0) show root more than they show the user who opened them.
 */
static bool
read_spec(int fd, struct hf_buf *out, struct hf_error *err)
{
    char piece[4096];
    off_t at = 0;
    struct stat info;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size <= 0)
        return hf_fail(err, HF_ERR_DENIED, "the sandbox spec is no plain file");
    for (ssize_t got; (got = pread(fd, piece, sizeof piece, at)) != 0; at += got) {
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read the sandbox spec");
        if (!hf_buf_add(out, piece, (size_t)got, err))
            return hf_fail_within(err, "sandbox spec");
    }
    return true;
}

static bool
check_spec(const struct service *service, const struct hf_launch *spec, struct hf_error *err)
{
    const struct hf_launch_limits *limits = &spec->limits;
    if (spec->host_uid != service->uid || spec->host_gid != service->uid)
        return hf_fail(err, HF_ERR_DENIED, "this sandbox runs as uid %u and no other", service->uid);
    if (spec->lowest != HF_SANDBOX_L3 || spec->flat.program != NULL || spec->without != 0)
        return hf_fail(err, HF_ERR_DENIED, "a sandbox below level L3 is none of a runner's");
    if (spec->cgroup[0] != '\0' || spec->remove[0] != '\0')
        return hf_fail(err, HF_ERR_DENIED, "control groups and folders to remove are not for the client to name");
    if (limits->memory_bytes == 0 || limits->memory_bytes > MEMORY_MOST || limits->processes == 0 ||
        limits->processes > PROCESSES_MOST || limits->wall_ms == 0 || limits->wall_ms > WALL_MOST_MS)
        return hf_fail(err, HF_ERR_DENIED, "memory, processes and time of a sandbox must be limited");
    return true;
}

/* Root writes to them: into a pipe or a socket, where its rights mean nothing, and not into a file of the kernel's. */
static bool
check_channels(const int *fds, struct hf_error *err)
{
    for (size_t i = 0; i < MOST_FDS - 1; i++) {
        struct stat info;
        if (fstat(fds[i], &info) != 0 || (!S_ISFIFO(info.st_mode) && !S_ISSOCK(info.st_mode)))
            return hf_fail(err, HF_ERR_DENIED, "events, control and errors of a sandbox are pipes or sockets");
    }
    return true;
}

static void
forget_launcher(struct service *service, int timeout_ms)
{
    bool ended = true;
    int status;
    if (service->launcher.pid != -1)
        (void)!hf_process_wait(&service->launcher, timeout_ms, &ended, &status, NULL);
}

/* However it came to this, nothing runs any more when things go back. */
static void
clean_up(struct service *service)
{
    if (service->launcher.pid != -1) {
        hf_process_signal(&service->launcher, SIGTERM);
        forget_launcher(service, END_TIMEOUT_MS);
    }
    hf_process_kill(&service->launcher);
    if (service->claim >= 0)
        end_all_of(service->uid);
    for (size_t i = 0; i < service->given_count; i++) {
        (void)!hf_tree_pass(service->given[i], service->uid, service->peer.uid, service->peer.gid, true, NULL);
        close(service->given[i]);
    }
    hf_closep(&service->claim);
}

/* A setuid file that a sandbox left behind could have kept the uid alive on the host, until somebody else gets it. */
static void
end_all_of(uid_t uid)
{
    const pid_t child = fork();
    if (child == 0) {
        if (setresuid(uid, uid, uid) == 0)
            kill(-1, SIGKILL); // everything of this uid, and nothing else
        _exit(0);
    }
    if (child > 0)
        (void)waitpid(child, NULL, 0);
}
