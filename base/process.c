#include "base/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

#define USUAL_PATH   "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define STANDARD_FDS 3
#define PIECE_BYTES  (64 * HF_KIB)

/* What the child was doing when it failed; the parent makes words of it. */
enum child_step { STEP_DESCRIPTORS, STEP_DIRECTORY, STEP_BECOME, STEP_SIGNALS, STEP_EXECUTE };

/* What a child that could not execute its program says through a pipe; at most PIPE_BUF, so it comes whole. */
struct child_failure {
    enum child_step step;
    int system;
};

/* All that the child needs, ready before fork(): afterwards it may not allocate. */
struct child_plan {
    const struct hf_process_options *options;
    const char *program; // a path
    const char *const *environment;
    int report_fd;
    pid_t parent;
    size_t fd_count;
    struct {
        int ours, theirs;
    } fds[STANDARD_FDS + HF_PROCESS_MOST_FDS];
};

/* The ends of the pipes that we hold while a program runs, or -1. */
struct run {
    int input_fd, output_fd, errors_fd;
    const uint8_t *input;
    size_t input_left;
    uint64_t deadline_ns; // 0: none
};

static bool find_program(const char *name, char program[static PATH_MAX], struct hf_error *err);
static bool plan_descriptors(struct child_plan *plan, int null_fd, struct hf_error *err);
static pid_t fork_quietly(const struct child_plan *plan);
__attribute__((noreturn)) static void become_program(const struct child_plan *plan);
__attribute__((noreturn)) static void give_up(const struct child_plan *plan, enum child_step step);
static bool arrange_descriptors(const struct child_plan *plan, int *ret_report_fd);
static bool become_user(uid_t uid, gid_t gid);
static bool reset_signals(void);
static bool await_execution(int report_fd, pid_t pid, const struct hf_process_options *options, struct hf_error *err);
static void reap(pid_t pid);
static uint64_t deadline_after(int timeout_ms);
static int time_left_ms(uint64_t deadline_ns);
static bool open_streams(struct hf_process_options *theirs, int ends[static STANDARD_FDS], struct run *run,
                         bool with_input, bool with_output, bool with_errors, struct hf_error *err);
static bool open_stream(int direction, int *ret_ours, int *ret_theirs, struct hf_error *err);
static void close_streams(struct run *run);
static bool serve_streams(struct run *run, struct hf_process *process, struct hf_buf *output, struct hf_buf *errors,
                          bool *ret_in_time, struct hf_error *err);
static void feed(struct run *run);
static bool collect(int *fd, struct hf_buf *buf, struct hf_error *err);

bool
hf_process_start(const struct hf_process_options *options, struct hf_process *ret, struct hf_error *err)
{
    static const char *const lang = "LANG=C.UTF-8", *const zone = "TZ=UTC";
    char program[PATH_MAX], path[PATH_MAX];
    if (!find_program(options->argv[0], program, err))
        return false;

    const char *our_path = getenv("PATH");
    snprintf(path, sizeof path, "PATH=%s", our_path != NULL ? our_path : USUAL_PATH);
    const char *const usual[] = {path, lang, zone, NULL};

    _cleanup_(hf_closep) int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"/dev/null\"");
    int report[2];
    if (pipe2(report, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe to start \"%s\"", options->argv[0]);
    _cleanup_(hf_closep) int report_read = report[0];
    _cleanup_(hf_closep) int report_write = report[1];

    struct child_plan plan = {.options = options,
                              .program = program,
                              .environment = options->environment != NULL ? options->environment : usual,
                              .report_fd = report_write,
                              .parent = getpid()};
    if (!plan_descriptors(&plan, null_fd, err))
        return false;

    pid_t pid = fork_quietly(&plan);
    if (pid < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not start \"%s\"", options->argv[0]);
    hf_closep(&report_write);
    if (!await_execution(report_read, pid, options, err))
        return false;

    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0) {
        hf_fail_errno(err, HF_ERR_NONE, "could not watch \"%s\"", options->argv[0]);
        kill(pid, SIGKILL);
        reap(pid);
        return false;
    }
    *ret = (struct hf_process){.pid = pid, .pidfd = pidfd};
    return true;
}

bool
hf_process_signal(const struct hf_process *process, int signal)
{
    return process->pidfd >= 0 && pidfd_send_signal(process->pidfd, signal, NULL, 0) == 0;
}

bool
hf_process_wait(struct hf_process *process, int timeout_ms, bool *ret_ended, int *ret_status, struct hf_error *err)
{
    if (process->pidfd < 0)
        return hf_fail(err, HF_ERR_USAGE, "cannot wait for a process that was not started or has ended");

    uint64_t deadline = deadline_after(timeout_ms);
    struct pollfd watched = {.fd = process->pidfd, .events = POLLIN};
    int ready;
    do
        ready = poll(&watched, 1, time_left_ms(deadline));
    while (ready < 0 && errno == EINTR);
    if (ready < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not watch process %d", (int)process->pid);
    if (ready == 0) {
        *ret_ended = false;
        return true;
    }

    int status;
    while (waitpid(process->pid, &status, 0) < 0)
        if (errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not learn how process %d ended", (int)process->pid);
    close(process->pidfd);
    *process = HF_PROCESS_NONE;
    *ret_ended = true;
    *ret_status = status;
    return true;
}

void
hf_process_kill(struct hf_process *process)
{
    if (process->pidfd < 0)
        return;
    pidfd_send_signal(process->pidfd, SIGKILL, NULL, 0);
    reap(process->pid);
    close(process->pidfd);
    *process = HF_PROCESS_NONE;
}

bool
hf_process_run(const struct hf_process_options *options, const void *input, size_t input_length, int timeout_ms,
               struct hf_buf *output, struct hf_buf *errors, int *ret_status, struct hf_error *err)
{
    struct hf_process_options theirs = *options;
    _cleanup_(close_streams) struct run run = {.input_fd = -1,
                                               .output_fd = -1,
                                               .errors_fd = -1,
                                               .input = input,
                                               .input_left = input_length,
                                               .deadline_ns = deadline_after(timeout_ms)};
    int ends[STANDARD_FDS] = {-1, -1, -1};
    _cleanup_(hf_process_kill) struct hf_process process = HF_PROCESS_NONE;

    bool started = open_streams(&theirs, ends, &run, input != NULL, output != NULL, errors != NULL, err) &&
                   hf_process_start(&theirs, &process, err);
    for (size_t i = 0; i < STANDARD_FDS; i++)
        hf_closep(&ends[i]);
    if (!started)
        return false;

    bool in_time, ended = false;
    if (!serve_streams(&run, &process, output, errors, &in_time, err))
        return hf_fail_within(err, "could not talk to \"%s\"", options->argv[0]);
    if (in_time && !hf_process_wait(&process, time_left_ms(run.deadline_ns), &ended, ret_status, err))
        return false;
    if (!ended)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" did not end within %d ms and was killed", options->argv[0],
                       timeout_ms);
    return true;
}

/* Looked up before fork(), as a shell would: the first executable file of that name in PATH. */
static bool
find_program(const char *name, char program[static PATH_MAX], struct hf_error *err)
{
    if (strchr(name, '/') != NULL) {
        if ((size_t)snprintf(program, PATH_MAX, "%s", name) >= PATH_MAX)
            return hf_fail(err, HF_ERR_USAGE, "the path \"%.64s...\" is too long", name);
        return true;
    }

    const char *path = getenv("PATH");
    for (const char *at = path != NULL ? path : USUAL_PATH; *at != '\0';) {
        size_t length = strcspn(at, ":");
        struct stat status;
        if (length > 0 && (size_t)snprintf(program, PATH_MAX, "%.*s/%s", (int)length, at, name) < PATH_MAX &&
            stat(program, &status) == 0 && S_ISREG(status.st_mode) && access(program, X_OK) == 0)
            return true;
        at += length;
        if (*at == ':')
            at++;
    }
    return hf_fail(err, HF_ERR_NOT_FOUND, "could not find the program \"%s\" in PATH", name);
}

static bool
plan_descriptors(struct child_plan *plan, int null_fd, struct hf_error *err)
{
    const struct hf_process_options *options = plan->options;
    const int standard[STANDARD_FDS] = {options->stdin_fd, options->stdout_fd, options->stderr_fd};
    if (options->pass_fd_count > HF_PROCESS_MOST_FDS)
        return hf_fail(err, HF_ERR_USAGE, "cannot pass %zu descriptors to \"%s\": at most %d", options->pass_fd_count,
                       options->argv[0], HF_PROCESS_MOST_FDS);

    for (int i = 0; i < STANDARD_FDS; i++) {
        plan->fds[plan->fd_count].ours = standard[i] >= 0 ? standard[i] : null_fd;
        plan->fds[plan->fd_count++].theirs = i;
    }
    for (size_t i = 0; i < options->pass_fd_count; i++) {
        assert(options->pass_fds[i][0] >= 0 && options->pass_fds[i][1] >= STANDARD_FDS);
        plan->fds[plan->fd_count].ours = options->pass_fds[i][0];
        plan->fds[plan->fd_count++].theirs = options->pass_fds[i][1];
    }
    return true;
}

/* With all signals blocked, so that no handler of ours ever runs in the child. */
static pid_t
fork_quietly(const struct child_plan *plan)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);

    pid_t pid = fork();
    if (pid == 0)
        become_program(plan);

    int system = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = system;
    return pid;
}

/* The child.  Other threads of ours may have held any lock at fork(): only system calls from here on. */
static void
become_program(const struct child_plan *plan)
{
    const struct hf_process_options *options = plan->options;
    struct child_plan child = *plan;
    if (!arrange_descriptors(plan, &child.report_fd))
        give_up(&child, STEP_DESCRIPTORS);
    if (options->directory != NULL && chdir(options->directory) != 0)
        give_up(&child, STEP_DIRECTORY);
    if (options->become && !become_user(options->uid, options->gid))
        give_up(&child, STEP_BECOME);

    // After the change of user, which would clear it.
    if (!options->outlives_us) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
            give_up(&child, STEP_SIGNALS);
        if (getppid() != plan->parent) // it died before it could take us along
            _exit(127);
    } else {
        setsid();
    }
    if (!reset_signals())
        give_up(&child, STEP_SIGNALS);

    execve(child.program, (char *const *)(uintptr_t)options->argv, (char *const *)(uintptr_t)child.environment);
    give_up(&child, STEP_EXECUTE);
}

static void
give_up(const struct child_plan *plan, enum child_step step)
{
    const struct child_failure failure = {.step = step, .system = errno};
    ssize_t written = write(plan->report_fd, &failure, sizeof failure);
    _exit(written == (ssize_t)sizeof failure ? 127 : 126);
}

/* All move above the highest number asked for first, so that no move overwrites one that is still needed. */
static bool
arrange_descriptors(const struct child_plan *plan, int *ret_report_fd)
{
    int above = STANDARD_FDS, moved[STANDARD_FDS + HF_PROCESS_MOST_FDS];
    for (size_t i = 0; i < plan->fd_count; i++)
        if (plan->fds[i].theirs >= above)
            above = plan->fds[i].theirs + 1;

    int report_fd = fcntl(plan->report_fd, F_DUPFD_CLOEXEC, above);
    if (report_fd < 0)
        return false;
    *ret_report_fd = report_fd;
    for (size_t i = 0; i < plan->fd_count; i++)
        if ((moved[i] = fcntl(plan->fds[i].ours, F_DUPFD_CLOEXEC, above)) < 0)
            return false;

    if (close_range(STANDARD_FDS, ~0u, CLOSE_RANGE_CLOEXEC) != 0)
        return false;
    for (size_t i = 0; i < plan->fd_count; i++)
        if (dup2(moved[i], plan->fds[i].theirs) < 0)
            return false;
    return true;
}

/* Bare system calls: glibc's functions would look for other threads to change as well. */
static bool
become_user(uid_t uid, gid_t gid)
{
    return syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, gid, gid, gid) == 0 &&
           syscall(SYS_setresuid, uid, uid, uid) == 0;
}

static bool
reset_signals(void)
{
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++)
        sigaction(number, &usual, NULL); // KILL, STOP and glibc's own two refuse, and keep their default

    sigset_t none;
    sigemptyset(&none);
    return sigprocmask(SIG_SETMASK, &none, NULL) == 0;
}

/* The pipe closes by itself when the program starts, and carries a failure when it does not. */
static bool
await_execution(int report_fd, pid_t pid, const struct hf_process_options *options, struct hf_error *err)
{
    struct child_failure failure;
    ssize_t got;
    do
        got = read(report_fd, &failure, sizeof failure);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return true;

    int system = got == (ssize_t)sizeof failure ? failure.system : errno;
    kill(pid, SIGKILL); // it has ended, unless our read failed
    reap(pid);
    errno = system;
    if (got != (ssize_t)sizeof failure)
        return hf_fail_errno(err, HF_ERR_NONE, "could not start \"%s\"", options->argv[0]);

    switch (failure.step) {
    case STEP_DIRECTORY:
        return hf_fail_errno(err, HF_ERR_NONE, "could not start \"%s\" in folder \"%s\"", options->argv[0],
                             options->directory);
    case STEP_BECOME:
        return hf_fail_errno(err, HF_ERR_NONE, "could not start \"%s\" as user %u", options->argv[0],
                             (unsigned)options->uid);
    case STEP_DESCRIPTORS:
        return hf_fail_errno(err, HF_ERR_NONE, "could not pass descriptors to \"%s\"", options->argv[0]);
    case STEP_SIGNALS:
        return hf_fail_errno(err, HF_ERR_NONE, "could not arrange the signals of \"%s\"", options->argv[0]);
    case STEP_EXECUTE:
        break;
    }
    return hf_fail_errno(err, HF_ERR_NONE, "could not start \"%s\"", options->argv[0]);
}

static void
reap(pid_t pid)
{
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
}

static uint64_t
deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? 0 : hf_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
}

/* For poll(): rounded up, so that it does not spin through the last millisecond. */
static int
time_left_ms(uint64_t deadline_ns)
{
    if (deadline_ns == 0)
        return -1;
    uint64_t now = hf_monotonic_ns();
    return now >= deadline_ns ? 0 : (int)((deadline_ns - now + 999999) / 1000000);
}

static bool
open_streams(struct hf_process_options *theirs, int ends[static STANDARD_FDS], struct run *run, bool with_input,
             bool with_output, bool with_errors, struct hf_error *err)
{
    if (with_input && !open_stream(STDIN_FILENO, &run->input_fd, &ends[0], err))
        return false;
    if (with_output && !open_stream(STDOUT_FILENO, &run->output_fd, &ends[1], err))
        return false;
    if (with_errors && !open_stream(STDERR_FILENO, &run->errors_fd, &ends[2], err))
        return false;

    theirs->stdin_fd = with_input ? ends[0] : theirs->stdin_fd;
    theirs->stdout_fd = with_output ? ends[1] : theirs->stdout_fd;
    theirs->stderr_fd = with_errors ? ends[2] : theirs->stderr_fd;
    return true;
}

/* Only our end does not block. */
static bool
open_stream(int direction, int *ret_ours, int *ret_theirs, struct hf_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");

    bool to_child = direction == STDIN_FILENO;
    *ret_ours = to_child ? ends[1] : ends[0];
    *ret_theirs = to_child ? ends[0] : ends[1];
    if (fcntl(*ret_ours, F_SETFL, O_NONBLOCK) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");
    return true;
}

static void
close_streams(struct run *run)
{
    hf_closep(&run->input_fd);
    hf_closep(&run->output_fd);
    hf_closep(&run->errors_fd);
}

/*
 * Until the program has ended and what it had written by then is read.  It is not enough to wait for the ends of the
 * pipes: a grandchild may hold them open for ever.
 */
static bool
serve_streams(struct run *run, struct hf_process *process, struct hf_buf *output, struct hf_buf *errors,
              bool *ret_in_time, struct hf_error *err)
{
    for (bool ended = false; !ended;) {
        if (run->input_left == 0)
            hf_closep(&run->input_fd);
        struct pollfd watched[] = {
            {.fd = process->pidfd, .events = POLLIN},
            {.fd = run->input_fd, .events = POLLOUT}, // poll() passes over -1
            {.fd = run->output_fd, .events = POLLIN},
            {.fd = run->errors_fd, .events = POLLIN},
        };
        int ready = poll(watched, HF_LENGTH(watched), time_left_ms(run->deadline_ns));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not watch its pipes");
        if (ready == 0) {
            *ret_in_time = false;
            return true;
        }

        ended = watched[0].revents != 0;
        if (watched[1].revents != 0)
            feed(run);
        if (!collect(&run->output_fd, output, err) || !collect(&run->errors_fd, errors, err))
            return false;
    }
    *ret_in_time = true;
    return true;
}

/* SIGPIPE would end us when the program stops reading; it is held back for the one write and thrown away. */
static void
feed(struct run *run)
{
    sigset_t pipe_only, before, pending;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe_only, &before);

    ssize_t put = write(run->input_fd, run->input, run->input_left);
    if (put > 0) {
        run->input += put;
        run->input_left -= (size_t)put;
    } else if (put < 0 && errno != EAGAIN && errno != EINTR) {
        bool ours = errno == EPIPE && !sigismember(&pending, SIGPIPE);
        const struct timespec now = {0};
        if (ours)
            sigtimedwait(&pipe_only, NULL, &now);
        hf_closep(&run->input_fd); // it does not want the rest: its exit status will say whether that is bad
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Reads what is there; what is over the buffer's limit is dropped, so that the program never waits for us. */
static bool
collect(int *fd, struct hf_buf *buf, struct hf_error *err)
{
    uint8_t piece[PIECE_BYTES];
    while (*fd >= 0) {
        ssize_t got = read(*fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return true;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read its output");
        if (got == 0) {
            hf_closep(fd);
            return true;
        }
        size_t room = buf->limit - buf->length;
        if (!hf_buf_add(buf, piece, (size_t)got < room ? (size_t)got : room, err))
            return false;
        // One piece for each poll(): an endless writer must meet the deadline.
        if ((size_t)got == sizeof piece)
            return true;
    }
    return true;
}
