#include "sandbox/cage.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/confine.h"
#include "sandbox/root.h"
#include "base/file.h"
#include "base/time.h"

/* Whom the engine believes to be: any number but 0, which PostgreSQL refuses. */
#define INSIDE_ID 999

#define OOM_SCORE      "800" // a host short of memory takes a sandbox before anything else
#define GRACE_MS       10000 // without a pid namespace: how long killing may take
#define MOST_PROC_TEXT (64 * HF_KIB)

/* What init is born with. */
struct init {
    const struct hf_launch *launch;
    enum hf_sandbox_level level;
    struct hf_root root;
    uid_t uid; // as seen inside
    gid_t gid;
    pid_t launcher; // as seen on the host
    int gate;       // one byte: maps and groups are in place
    int notes;      // our end
    int orders;     // our end
    int program;    // descriptor of the engine's executable
    unsigned landlock_version;
    char filter[HF_CONFINE_HASH_BYTES]; // digest of the call filter
    pid_t engine;
};

struct pipes {
    int gate[2], notes[2], orders[2];
};

static bool open_root(struct init *init, bool *ret_forbidden, struct hf_error *err);
static bool make_pipes(struct pipes *pipes, struct hf_error *err);
static void close_pipes(struct pipes *pipes);
static pid_t clone_init(enum hf_sandbox_level level, int *ret_pidfd);
static bool settle(const struct hf_launch *launch, enum hf_sandbox_level level, pid_t pid, struct hf_error *err);
static bool write_proc(pid_t pid, const char *file, const char *text, struct hf_error *err);
static bool errno_forbids(int system);

static _Noreturn void init_main(struct init *init);
static bool take_uid(struct init *init, struct hf_error *err);
static bool enter_namespaces(struct init *init, struct hf_error *err);
static bool raise_loopback(struct hf_error *err);
static bool become_host_uid(const struct init *init, struct hf_error *err);
static bool follow_launcher(const struct init *init, struct hf_error *err);
static bool confine(struct init *init, struct hf_error *err);
static void note_layers(const struct init *init);
static bool start_engine(struct init *init, struct hf_error *err);
static _Noreturn void engine_main(struct init *init, int failure);
static bool prepare_engine(struct init *init, struct hf_error *err);
static _Noreturn void watch(struct init *init, int children);
static void reap(struct init *init);
static void obey(struct init *init);
static _Noreturn void leave(struct init *init);
static void kill_children(void);
static void note(const struct init *init, enum hf_note_kind kind, int value, const char *text);
static void note_missing(const struct init *init, const char *layer, const char *why);
static void note_failure(const struct init *init, const struct hf_error *err, bool forbidden);
static bool has_namespaces(enum hf_sandbox_level level);
static bool has_user_namespace(enum hf_sandbox_level level);

bool
hf_cage_start(const struct hf_launch *launch, enum hf_sandbox_level level, struct hf_cgroup *cgroup,
              struct hf_cage *ret, bool *ret_forbidden, struct hf_error *err)
{
    *ret = HF_CAGE_NONE;
    *ret_forbidden = false;
    struct init init = {.launch = launch, .level = level, .launcher = getpid(), .program = -1, .engine = -1};
    init.uid = has_user_namespace(level) ? INSIDE_ID : launch->host_uid;
    init.gid = has_user_namespace(level) ? INSIDE_ID : launch->host_gid;
    if (level == HF_SANDBOX_L3 && !open_root(&init, ret_forbidden, err))
        return false;

    struct pipes pipes;
    if (!make_pipes(&pipes, err)) {
        hf_root_done(&init.root);
        return false;
    }
    int pidfd = -1;
    hf_cgroup_enter(cgroup);
    pid_t pid = clone_init(level, &pidfd);
    if (pid == 0) {
        close(pipes.gate[1]);
        close(pipes.notes[0]);
        close(pipes.orders[1]);
        close(HF_LAUNCH_EVENTS_FD);
        close(HF_LAUNCH_CONTROL_FD);
        init.gate = pipes.gate[0];
        init.notes = pipes.notes[1];
        init.orders = pipes.orders[0];
        init_main(&init);
    }
    int reason = errno;
    hf_cgroup_leave(cgroup);
    hf_root_done(&init.root);
    if (pid < 0) {
        close_pipes(&pipes);
        errno = reason;
        *ret_forbidden = errno_forbids(reason);
        return hf_fail_errno(err, HF_ERR_NONE, "could not make namespaces for level %s", hf_sandbox_level_name(level));
    }

    *ret = (struct hf_cage){
        .pid = pid, .pidfd = pidfd, .notes = HF_TAKE_FD(pipes.notes[0]), .orders = HF_TAKE_FD(pipes.orders[1])};
    bool fine = settle(launch, level, pid, err);
    *ret_forbidden = !fine;
    if (fine)
        hf_cgroup_add(cgroup, pid);
    fine = fine && hf_write_all(pipes.gate[1], "g", 1, "the sandbox's gate", err);
    close_pipes(&pipes);
    if (!fine)
        hf_cage_destroy(ret, level);
    return fine;
}

bool
hf_cage_next(struct hf_cage *cage, struct hf_note *ret, struct hf_error *err)
{
    ssize_t got;
    do {
        got = read(cage->notes, ret, sizeof *ret);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not hear from the sandbox's init");
    if (got == 0) {
        *ret = (struct hf_note){.kind = HF_NOTE_END};
        return true;
    }
    if (got != (ssize_t)sizeof *ret || ret->kind > HF_NOTE_END)
        return hf_fail(err, HF_ERR_CORRUPT, "the sandbox's init sent half a note");
    ret->text[sizeof ret->text - 1] = '\0';
    return true;
}

bool
hf_cage_order(struct hf_cage *cage, int signal)
{
    uint8_t order = (uint8_t)signal;
    return write(cage->orders, &order, 1) == 1;
}

void
hf_cage_destroy(struct hf_cage *cage, enum hf_sandbox_level level)
{
    hf_closep(&cage->orders);
    if (cage->pid > 0) {
        // Without a pid namespace init must do the killing itself, so it is given time.
        struct pollfd gone = {.fd = cage->pidfd, .events = POLLIN};
        if (has_namespaces(level) || poll(&gone, 1, GRACE_MS) != 1)
            syscall(SYS_pidfd_send_signal, cage->pidfd, SIGKILL, NULL, 0);
        while (waitpid(cage->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    hf_closep(&cage->pidfd);
    hf_closep(&cage->notes);
    *cage = HF_CAGE_NONE;
}

/* By root, who reaches everything.  Plain places are of no use in another mount namespace: init opens those itself. */
static bool
open_root(struct init *init, bool *ret_forbidden, struct hf_error *err)
{
    bool fine = hf_root_open(init->launch, &init->root, err);
    *ret_forbidden = !fine && errno_forbids(err->system) && err->system != EACCES;
    if (!fine || !init->root.detached)
        hf_root_done(&init->root);
    return fine;
}

static bool
make_pipes(struct pipes *pipes, struct hf_error *err)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}};
    if (pipe2(pipes->gate, O_CLOEXEC) == 0 && pipe2(pipes->notes, O_CLOEXEC) == 0 &&
        pipe2(pipes->orders, O_CLOEXEC) == 0)
        return true;
    int reason = errno;
    close_pipes(pipes);
    errno = reason;
    return hf_fail_errno(err, HF_ERR_NONE, "could not make pipes to the sandbox's init");
}

static void
close_pipes(struct pipes *pipes)
{
    for (int i = 0; i < 2; i++) {
        hf_closep(&pipes->gate[i]);
        hf_closep(&pipes->notes[i]);
        hf_closep(&pipes->orders[i]);
    }
}

/* clone and not clone3: the older call is there wherever the newer one is, and some hosts filter the newer one. */
static pid_t
clone_init(enum hf_sandbox_level level, int *ret_pidfd)
{
    unsigned long flags = CLONE_PIDFD | SIGCHLD;
    if (has_namespaces(level))
        flags |= CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    if (has_user_namespace(level))
        flags |= CLONE_NEWUSER;
    return (pid_t)syscall(SYS_clone, flags, NULL, ret_pidfd, NULL, 0);
}

static bool
settle(const struct hf_launch *launch, enum hf_sandbox_level level, pid_t pid, struct hf_error *err)
{
    char map[64];
    (void)write_proc(pid, "oom_score_adj", OOM_SCORE, NULL);
    if (!has_user_namespace(level))
        return true;
    snprintf(map, sizeof map, "%d %u 1\n", INSIDE_ID, launch->host_gid);
    if (!write_proc(pid, "setgroups", "deny", err) || !write_proc(pid, "gid_map", map, err))
        return false;
    snprintf(map, sizeof map, "%d %u 1\n", INSIDE_ID, launch->host_uid);
    return write_proc(pid, "uid_map", map, err);
}

static bool
write_proc(pid_t pid, const char *file, const char *text, struct hf_error *err)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        return hf_fail_errno(err, HF_ERR_NONE, "could not write the sandbox's %s", file);
    return true;
}

static bool
errno_forbids(int system)
{
    return system == EPERM || system == EACCES || system == ENOSYS || system == EINVAL || system == ENOSPC ||
           system == EUSERS;
}

/* From here on: inside. */
static _Noreturn void
init_main(struct init *init)
{
    struct hf_error err = {0};
    char byte;
    if (read(init->gate, &byte, 1) != 1)
        _exit(1); // the launcher changed its mind
    close(init->gate);
    setsid();
    umask(022); // the root's folders are for another uid to walk through

    // Up to here a refusal means that the host does not allow this level.
    if (!take_uid(init, &err) || (has_namespaces(init->level) && !enter_namespaces(init, &err))) {
        note_failure(init, &err, errno_forbids(err.system));
        _exit(1);
    }
    umask(077);
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    int children = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
    if (children < 0 || !become_host_uid(init, &err) || !follow_launcher(init, &err) || !confine(init, &err) ||
        !start_engine(init, &err)) {
        note_failure(init, &err, false);
        kill_children();
        _exit(1);
    }
    watch(init, children);
}

/*
 * First of all: files made before would belong to nobody.  No uid 0 is mapped, so capabilities over the new
 * namespaces survive the change.
 */
static bool
take_uid(struct init *init, struct hf_error *err)
{
    if (!has_user_namespace(init->level))
        return true;
    if (setresgid(init->gid, init->gid, init->gid) != 0 || setresuid(init->uid, init->uid, init->uid) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take the sandbox's uid");
    return true;
}

static bool
enter_namespaces(struct init *init, struct hf_error *err)
{
    if (sethostname("sandbox", 7) != 0 || setdomainname("", 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not name the sandbox's host");
    if (init->launch->loopback && !raise_loopback(err))
        return false;
    if (init->root.sources == NULL && !hf_root_open(init->launch, &init->root, err))
        return false;
    bool fine = hf_root_enter(&init->root, init->uid, init->gid, err);
    hf_root_done(&init->root);
    return fine;
}

static bool
raise_loopback(struct hf_error *err)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    _cleanup_(hf_closep) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not bring the sandbox's loopback up");
    return true;
}

/* Where no user namespace made the change: root steps down now that everything is mounted. */
static bool
become_host_uid(const struct init *init, struct hf_error *err)
{
    if (has_user_namespace(init->level))
        return hf_confine_bounding_set(err);
    if (geteuid() != 0)
        return true; // L1 of an ordinary user: nothing to give up
    if (!hf_confine_bounding_set(err))
        return false;
    if (setgroups(0, NULL) != 0 || setresgid(init->gid, init->gid, init->gid) != 0 ||
        setresuid(init->uid, init->uid, init->uid) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take uid %u for the sandbox", init->uid);
    return true;
}

/* After the last change of uid, which would clear it.  The launcher may be gone already: then the pipe has ended. */
static bool
follow_launcher(const struct init *init, struct hf_error *err)
{
    struct pollfd orders = {.fd = init->orders, .events = POLLIN};
    // Without a pid namespace init must outlive the launcher for a moment, to kill what it started.
    if (has_namespaces(init->level) && prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not tie the sandbox to its launcher");
    if (!has_namespaces(init->level) && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not adopt the sandbox's orphans");
    if (poll(&orders, 1, 0) == 1 && (orders.revents & POLLHUP) != 0)
        return hf_fail(err, HF_ERR_CANCELLED, "the launcher is gone");
    return true;
}

static bool
confine(struct init *init, struct hf_error *err)
{
    const struct hf_launch *launch = init->launch;
    const struct hf_launch_command *command = has_namespaces(init->level) ? &launch->command : &launch->flat;
    unsigned open_files;
    init->landlock_version = (launch->without & HF_WITHOUT_LANDLOCK) != 0 ? 0 : hf_confine_landlock_version();
    if (init->landlock_version == 0 && !has_namespaces(init->level))
        return hf_fail(err, HF_ERR_DENIED, "this host has neither namespaces nor Landlock: that is no sandbox");
    return hf_confine_limits(launch, has_user_namespace(init->level), &open_files, err) &&
           hf_confine_open_program(command->program, open_files, &init->program, err) && hf_confine_capabilities(err) &&
           hf_confine_seccomp(init->program, launch->inet, init->filter, err);
}

static void
note_layers(const struct init *init)
{
    static const char *const namespaces[] = {"mount_namespace", "pid_namespace", "network_namespace",
                                             "ipc_namespace",   "uts_namespace", "cgroup_namespace",
                                             "private_root"};
    static const char *const always[] = {"capabilities_dropped", "no_new_privileges", "resource_limits", "seccomp"};
    if (has_user_namespace(init->level))
        note(init, HF_NOTE_REACHED, 0, "user_namespace");
    else
        note_missing(init, "user_namespace", "the host does not allow one");
    for (size_t i = 0; i < HF_LENGTH(namespaces); i++) {
        if (has_namespaces(init->level))
            note(init, HF_NOTE_REACHED, 0, namespaces[i]);
        else
            note_missing(init, namespaces[i], "the host does not allow one");
    }
    for (size_t i = 0; i < HF_LENGTH(always); i++)
        note(init, HF_NOTE_REACHED, 0, always[i]);
    if (init->landlock_version != 0)
        note(init, HF_NOTE_REACHED, (int)init->landlock_version, "landlock");
    else
        note_missing(init, "landlock", "the kernel has none");
}

/* The pipe closes on exec: its end is the good news. */
static bool
start_engine(struct init *init, struct hf_error *err)
{
    int failure[2];
    struct hf_note why;
    if (pipe2(failure, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe to the engine");
    init->engine = fork();
    if (init->engine == 0) {
        close(failure[0]);
        engine_main(init, failure[1]);
    }
    close(failure[1]);
    if (init->engine < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not fork the engine");
    ssize_t got = read(failure[0], &why, sizeof why);
    close(failure[0]);
    close(init->program);
    if (got == (ssize_t)sizeof why) {
        why.text[sizeof why.text - 1] = '\0';
        hf_fail(err, (enum hf_error_kind)why.value, "%s", why.text);
        err->system = (int)why.system;
        return false;
    }
    note_layers(init);
    note(init, HF_NOTE_STARTED, (int)init->engine, init->filter);
    return true;
}

static _Noreturn void
engine_main(struct init *init, int failure)
{
    struct hf_error err = {0};
    const struct hf_launch_command *command =
        has_namespaces(init->level) ? &init->launch->command : &init->launch->flat;
    if (prepare_engine(init, &err)) {
        syscall(SYS_execveat, init->program, "", command->arguments, command->environment, AT_EMPTY_PATH);
        hf_fail_errno(&err, HF_ERR_NONE, "could not execute \"%s\"", command->program);
    }
    struct hf_note why = {.kind = HF_NOTE_FAILED, .value = (int)err.kind, .system = (uint32_t)err.system};
    snprintf(why.text, sizeof why.text, "%.*s", HF_NOTE_TEXT_BYTES - 1, err.message);
    (void)!write(failure, &why, sizeof why);
    _exit(127);
}

static bool
prepare_engine(struct init *init, struct hf_error *err)
{
    const struct hf_launch_command *command =
        has_namespaces(init->level) ? &init->launch->command : &init->launch->flat;
    int nothing[2]; // an input that has ended: no device node is needed for that
    sigset_t none;
    sigemptyset(&none);
    if (pipe2(nothing, O_CLOEXEC) != 0 || dup2(nothing[0], 0) < 0 || dup2(2, 1) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set up the engine's descriptors");
    // Everything else closes on exec, whatever we were started with.
    if (syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */) != 0) {
        for (int fd = 3; fd <= HF_LAUNCH_MOST_FILES; fd++)
            (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || chdir(command->directory) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set up the engine's process");
    if (init->landlock_version != 0 &&
        !hf_confine_landlock(init->launch, !has_namespaces(init->level), init->landlock_version, err))
        return false;
    for (int signal = 1; signal < NSIG; signal++) {
        if (signal != SIGKILL && signal != SIGSTOP)
            (void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    }
    sigprocmask(SIG_SETMASK, &none, NULL);
    return true;
}

static _Noreturn void
watch(struct init *init, int children)
{
    for (;;) {
        struct pollfd ready[] = {{.fd = init->orders, .events = POLLIN}, {.fd = children, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0 && errno != EINTR)
            leave(init);
        if (ready[1].revents != 0) {
            struct signalfd_siginfo info;
            while (read(children, &info, sizeof info) > 0)
                ;
            reap(init);
        }
        if ((ready[0].revents & POLLIN) != 0)
            obey(init);
        else if (ready[0].revents != 0)
            leave(init);
    }
}

static void
reap(struct init *init)
{
    pid_t pid;
    int status;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == init->engine) {
            note(init, HF_NOTE_EXIT, status, "");
            leave(init); // whatever it left behind has lost its reason to be
        }
    }
}

static void
obey(struct init *init)
{
    uint8_t order;
    if (read(init->orders, &order, 1) != 1)
        leave(init);
    if (order != 0 && order < NSIG)
        kill(init->engine, order);
}

static _Noreturn void
leave(struct init *init)
{
    if (!has_namespaces(init->level))
        kill_children(); // in a pid namespace the kernel does this, and misses nobody
    _exit(0);
}

/* As the adopter of orphans we see every descendant as a child sooner or later; until there is none. */
static void
kill_children(void)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    uint64_t end = hf_monotonic_ns() + (uint64_t)GRACE_MS * 1000000;
    do {
        char list[4096] = "";
        _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t got = fd < 0 ? 0 : read(fd, list, sizeof list - 1);
        list[got < 0 ? 0 : got] = '\0';
        for (char *at = list, *after; (void)0, *at != '\0'; at = after) {
            long pid = strtol(at, &after, 10);
            if (after == at)
                break;
            if (pid > 1 && !(got == (ssize_t)sizeof list - 1 && *after == '\0')) // the last number may be cut in two
                kill((pid_t)pid, SIGKILL);
        }
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    } while (waitpid(-1, NULL, WNOHANG) == 0 && hf_monotonic_ns() < end && poll(NULL, 0, 1) == 0);
}

static void
note(const struct init *init, enum hf_note_kind kind, int value, const char *text)
{
    struct hf_note message = {.kind = (uint32_t)kind, .value = value};
    snprintf(message.text, sizeof message.text, "%s", text);
    (void)!write(init->notes, &message, sizeof message);
}

static void
note_missing(const struct init *init, const char *layer, const char *why)
{
    struct hf_note message = {.kind = HF_NOTE_MISSING};
    size_t length = strlen(layer) + 1;
    memcpy(message.text, layer, length);
    snprintf(message.text + length, sizeof message.text - length, "%s", why);
    (void)!write(init->notes, &message, sizeof message);
}

static void
note_failure(const struct init *init, const struct hf_error *err, bool forbidden)
{
    struct hf_note message = {
        .kind = HF_NOTE_FAILED, .value = (int)err->kind, .system = (uint32_t)err->system, .forbidden = forbidden};
    snprintf(message.text, sizeof message.text, "%.*s", HF_NOTE_TEXT_BYTES - 1, err->message);
    (void)!write(init->notes, &message, sizeof message);
}

static bool
has_namespaces(enum hf_sandbox_level level)
{
    return level >= HF_SANDBOX_L2;
}

static bool
has_user_namespace(enum hf_sandbox_level level)
{
    return level == HF_SANDBOX_L2 || level == HF_SANDBOX_L3;
}
