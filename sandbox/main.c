/*
 * holdfast-sandbox - starts one sandbox, watches over it, cleans up after it
 *
 * Started by sandbox.c with the spec on descriptor 3, events going out on 4 (JSON, one a line, see launch.h) and
 * orders coming in on 5: each byte is a signal for the engine, and their end means that the caller is gone or has
 * had enough.  The engine's own outputs go to descriptor 2.  `holdfast-sandbox --self-test` is what a probe runs
 * inside.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/cage.h"
#include "sandbox/cgroup.h"
#include "sandbox/confine.h"
#include "sandbox/selftest.h"
#include "sandbox/tree.h"
#include "base/file.h"
#include "base/time.h"

#define TICK_MS          50 // how often limits that nobody tells us about are looked at
#define DISK_CHECK_TICKS 5
#define DISK_STEPS       16 // measured again when this part of the limit may have been written

/* On whose behalf we were started by the runner; 0: by our own caller. */
struct hf_client {
    uid_t uid;
    gid_t gid;
};

struct run {
    struct hf_client client;
    struct hf_launch launch;
    struct hf_cgroup cgroup;
    struct hf_cage cage;
    enum hf_sandbox_level level;
    json_t *layers, *missing; // reached, and {layer, why}
    char filter[HF_CONFINE_HASH_BYTES];
    int signals;
    char watched[32]; // how we name the watched folder when it was opened for a client
    uint64_t began_ns, started_ns;
    uint64_t disk_free; // of the watched file system when it was last measured
    unsigned ticks;
    bool exited;
    int status;                     // of the engine, when exited
    const char *killed_by;          // "" while nothing did
    uint64_t oom_kills, peak_bytes; // of the memory group, when it is gone
};

static bool parse_client(char **argv, struct hf_client *ret);
static bool check_descriptors(void);
static bool setup(struct run *run, struct hf_error *err);
static bool read_spec(struct hf_launch *ret, struct hf_error *err);
static bool check_uid(struct hf_launch *launch, struct hf_error *err);
static bool hold_watched(struct run *run, struct hf_error *err);
static const char *watched(const struct run *run);
static bool climb_down(struct run *run, struct hf_error *err);
static bool may_try(const struct run *run, enum hf_sandbox_level level);
static bool try_level(struct run *run, enum hf_sandbox_level level, bool *ret_forbidden, struct hf_error *err);
static void take_missing(struct run *run, const char *text);
static bool add_missing(struct run *run, const char *layer, const char *why);
static void add_limits(struct run *run);
static bool send_started(struct run *run, struct hf_error *err);
static bool supervise(struct run *run, struct hf_error *err);
static void obey(struct run *run);
static bool hear(struct run *run, bool *ret_over, struct hf_error *err);
static void check_limits(struct run *run);
static bool disk_is_over(struct run *run);
static void tear_down(struct run *run);
static bool send_ended(struct run *run, uint64_t teardown_us, struct hf_error *err);
static void send_failed(const struct hf_error *failure);
static bool send_event(json_t *event, struct hf_error *err);

int
main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--self-test") == 0)
        return hf_self_test();
    const bool for_client = argc == 4 && strcmp(argv[1], "--for") == 0; // by holdfast-runner
    if ((argc != 1 && !for_client) || !check_descriptors()) {
        fprintf(stderr, "holdfast-sandbox is started by Holdfast, with its orders on descriptors 3, 4 and 5.\n");
        return 2;
    }

    struct hf_error err = {0};
    struct hf_client client = {0};
    if (for_client && !parse_client(argv, &client)) {
        fprintf(stderr, "holdfast-sandbox: \"%s\" and \"%s\" are no ids of an ordinary user\n", argv[2], argv[3]);
        return 2;
    }
    struct run run = {
        .client = client, .cage = HF_CAGE_NONE, .signals = -1, .began_ns = hf_monotonic_ns(), .killed_by = ""};
    if (!setup(&run, &err) || !climb_down(&run, &err)) {
        tear_down(&run);
        send_failed(&err);
        return 1;
    }
    bool fine = send_started(&run, &err) && supervise(&run, &err);
    uint64_t kill_ns = hf_monotonic_ns();
    tear_down(&run);
    fine = fine && send_ended(&run, (hf_monotonic_ns() - kill_ns) / 1000, &err);
    if (!fine)
        send_failed(&err);
    return fine ? 0 : 1;
}

static bool
parse_client(char **argv, struct hf_client *ret)
{
    char *end_of_uid, *end_of_gid;
    const unsigned long uid = strtoul(argv[2], &end_of_uid, 10), gid = strtoul(argv[3], &end_of_gid, 10);
    *ret = (struct hf_client){.uid = (uid_t)uid, .gid = (gid_t)gid};
    return geteuid() == 0 && *end_of_uid == '\0' && *end_of_gid == '\0' && uid != 0 && uid < UINT32_MAX &&
           gid < UINT32_MAX;
}

static bool
check_descriptors(void)
{
    for (int fd = HF_LAUNCH_SPEC_FD; fd <= HF_LAUNCH_CONTROL_FD; fd++) {
        if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
            return false;
    }
    return true;
}

static bool
setup(struct run *run, struct hf_error *err)
{
    sigset_t handled;
    sigemptyset(&handled);
    sigaddset(&handled, SIGTERM);
    sigaddset(&handled, SIGINT);
    sigaddset(&handled, SIGHUP);
    signal(SIGPIPE, SIG_IGN);
    (void)syscall(SYS_close_range, HF_LAUNCH_CONTROL_FD + 1u, ~0u, 0u);
    // SIGTERM and not SIGKILL when the caller dies: control groups and folders are still to be removed.
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || sigprocmask(SIG_BLOCK, &handled, NULL) != 0 ||
        (run->signals = signalfd(-1, &handled, SFD_CLOEXEC)) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set the launcher up");
    run->layers = json_array();
    run->missing = json_array();
    if (run->layers == NULL || run->missing == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the launcher");

    if (!read_spec(&run->launch, err) || !check_uid(&run->launch, err))
        return false;
    run->launch.client_uid = run->client.uid;
    run->launch.client_gid = run->client.gid;
    if (!hold_watched(run, err))
        return false;
    if ((run->launch.without & HF_WITHOUT_CGROUP) != 0) {
        static const char why[] = "left out on request";
        memcpy(run->cgroup.memory.why, why, sizeof why);
        memcpy(run->cgroup.processes.why, why, sizeof why);
    } else {
        hf_cgroup_make(run->launch.cgroup, &run->launch.limits, &run->cgroup);
    }
    return true;
}

static bool
read_spec(struct hf_launch *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_LAUNCH_MOST_BYTES);
    char piece[4096];
    ssize_t got;
    while ((got = read(HF_LAUNCH_SPEC_FD, piece, sizeof piece)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read the sandbox spec");
        if (!hf_buf_add(&text, piece, (size_t)got, err))
            return hf_fail_within(err, "sandbox spec");
    }
    close(HF_LAUNCH_SPEC_FD);
    return hf_launch_parse(text.data, text.length, ret, err);
}

static bool
check_uid(struct hf_launch *launch, struct hf_error *err)
{
    if (geteuid() != 0) {
        if (launch->host_uid != geteuid() || launch->host_gid != getegid())
            return hf_fail(err, HF_ERR_USAGE, "uid %u cannot run a sandbox as uid %u: only root can", geteuid(),
                           launch->host_uid);
        return true;
    }
    if (launch->host_uid == 0 || launch->host_gid == 0)
        return hf_fail(err, HF_ERR_USAGE, "a sandbox cannot run as root: choose another host_uid and host_gid");
    if (setgroups(0, NULL) != 0) // inside a user namespace root's groups could not be given up any more
        return hf_fail_errno(err, HF_ERR_NONE, "could not give up root's groups");
    return true;
}

/*
 * Root would measure whatever folder a client names, and so tell its size by ending the sandbox or not: only one that
 * was given to this sandbox, and that very one, whatever its name leads to later.
 */
static bool
hold_watched(struct run *run, struct hf_error *err)
{
    struct stat info;
    if (run->client.uid == 0 || run->launch.watched[0] == '\0')
        return true;
    const int fd = open(run->launch.watched, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0 || info.st_uid != run->launch.host_uid)
        return hf_fail(err, HF_ERR_DENIED, "\"%s\" is no folder of this sandbox", run->launch.watched);
    snprintf(run->watched, sizeof run->watched, "/proc/self/fd/%d/.", fd); // open until we end
    return true;
}

static const char *
watched(const struct run *run)
{
    return run->watched[0] != '\0' ? run->watched : run->launch.watched;
}

/* The strongest level first; a lower one only where the host forbids the higher and the caller allows the lower. */
static bool
climb_down(struct run *run, struct hf_error *err)
{
    const enum hf_sandbox_level rungs[] = {HF_SANDBOX_L3, HF_SANDBOX_L3R, HF_SANDBOX_L2, HF_SANDBOX_L1};
    struct hf_error reason = {0};
    for (size_t i = 0; i < HF_LENGTH(rungs); i++) {
        bool forbidden = false;
        struct hf_error why = {0};
        if (!may_try(run, rungs[i]))
            continue;
        json_array_clear(run->layers);
        json_array_clear(run->missing);
        if (try_level(run, rungs[i], &forbidden, &why))
            return true;
        if (!forbidden) {
            *err = why;
            return false;
        }
        if (reason.kind == HF_ERR_NONE)
            reason = why;
    }
    const char *why = reason.kind == HF_ERR_NONE ? "nothing was left to try" : reason.message;
    hf_fail(err, HF_ERR_DENIED, "no sandbox of level %s or better on this host: %s",
            hf_sandbox_level_name(run->launch.lowest), why);
    return hf_fail_hint(err,
                        "Allow user namespaces (sysctl user.max_user_namespaces; on Ubuntu also "
                        "kernel.apparmor_restrict_unprivileged_userns or the profile for holdfast-sandbox), run as "
                        "root, or accept a lower level for this source.");
}

static bool
may_try(const struct run *run, enum hf_sandbox_level level)
{
    const struct hf_launch *launch = &run->launch;
    bool root = geteuid() == 0;
    if (level < launch->lowest)
        return false;
    switch (level) {
    case HF_SANDBOX_L3:
        return root && (launch->without & (HF_WITHOUT_USER_NAMESPACE | HF_WITHOUT_NAMESPACES)) == 0;
    case HF_SANDBOX_L3R:
        return root && (launch->without & HF_WITHOUT_NAMESPACES) == 0;
    case HF_SANDBOX_L2:
        return !root && (launch->without & (HF_WITHOUT_USER_NAMESPACE | HF_WITHOUT_NAMESPACES)) == 0;
    case HF_SANDBOX_L1:
        return launch->flat.program != NULL;
    case HF_SANDBOX_L0:
        break;
    }
    return false;
}

static bool
try_level(struct run *run, enum hf_sandbox_level level, bool *ret_forbidden, struct hf_error *err)
{
    run->level = level;
    if (!hf_cage_start(&run->launch, level, &run->cgroup, &run->cage, ret_forbidden, err))
        return false;
    for (;;) {
        struct hf_note note;
        if (!hf_cage_next(&run->cage, &note, err))
            break;
        if (note.kind == HF_NOTE_STARTED) {
            snprintf(run->filter, sizeof run->filter, "%.*s", HF_CONFINE_HASH_BYTES - 1, note.text);
            return true;
        }
        if (note.kind == HF_NOTE_REACHED)
            json_array_append_new(run->layers, json_string(note.text));
        else if (note.kind == HF_NOTE_MISSING)
            take_missing(run, note.text);
        if (note.kind == HF_NOTE_FAILED) {
            hf_fail(err, (enum hf_error_kind)note.value, "%s", note.text);
            err->system = (int)note.system;
            *ret_forbidden = note.forbidden != 0;
            break;
        }
        if (note.kind == HF_NOTE_END || note.kind == HF_NOTE_EXIT) {
            hf_fail(err, HF_ERR_UNAVAILABLE, "the sandbox's init ended before it had started anything");
            break;
        }
    }
    hf_cage_destroy(&run->cage, level);
    return false;
}

static void
take_missing(struct run *run, const char *text)
{
    size_t length = strnlen(text, HF_NOTE_TEXT_BYTES / 2);
    (void)add_missing(run, text, text + length + 1);
}

static bool
add_missing(struct run *run, const char *layer, const char *why)
{
    return json_array_append_new(run->missing, json_pack("{s:s, s:s}", "layer", layer, "why", why)) == 0;
}

/* The layers that are ours to hold and not init's. */
static void
add_limits(struct run *run)
{
    const struct hf_launch_limits *limits = &run->launch.limits;
    const struct {
        const char *layer;
        bool asked, held;
        const char *why;
    } rows[] = {
        {"own_uid", true, geteuid() == 0, "only root can give it another uid"},
        {"memory_limit", limits->memory_bytes != 0, run->cgroup.memory.version != 0, run->cgroup.memory.why},
        {"process_limit", limits->processes != 0, run->cgroup.processes.version != 0 || run->level == HF_SANDBOX_L2,
         run->cgroup.processes.why},
        {"disk_limit", limits->disk_bytes != 0 && run->launch.watched[0] != '\0', true, ""},
        {"wall_limit", limits->wall_ms != 0, true, ""},
    };
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        if (rows[i].asked && rows[i].held)
            json_array_append_new(run->layers, json_string(rows[i].layer));
        else
            (void)add_missing(run, rows[i].layer, rows[i].asked ? rows[i].why : "no limit was asked for");
    }
}

static bool
send_started(struct run *run, struct hf_error *err)
{
    struct utsname host;
    if (uname(&host) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not read the kernel's release");
    run->started_ns = hf_monotonic_ns();
    add_limits(run);
    struct statvfs disk;
    if (run->launch.watched[0] != '\0' && statvfs(watched(run), &disk) == 0)
        run->disk_free = (uint64_t)disk.f_bfree * disk.f_frsize;
    json_int_t create_us = (json_int_t)((run->started_ns - run->began_ns) / 1000);
    return send_event(json_pack("{s:s, s:s, s:O, s:O, s:s, s:s, s:i, s:s, s:i, s:i, s:I}", "event", "started", "level",
                                hf_sandbox_level_name(run->level), "layers", run->layers, "missing", run->missing,
                                "kernel", host.release, "machine", host.machine, "landlock_version",
                                (int)hf_confine_landlock_version(), "seccomp_sha256", run->filter,
                                "memory_cgroup_version", run->cgroup.memory.version, "pid", (int)run->cage.pid,
                                "create_us", create_us),
                      err);
}

static bool
supervise(struct run *run, struct hf_error *err)
{
    for (bool over = false; !over && run->killed_by[0] == '\0';) {
        struct pollfd ready[] = {{.fd = run->cage.notes, .events = POLLIN},
                                 {.fd = HF_LAUNCH_CONTROL_FD, .events = POLLIN},
                                 {.fd = run->signals, .events = POLLIN}};
        if (poll(ready, HF_LENGTH(ready), TICK_MS) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not watch the sandbox");
        if (ready[0].revents != 0 && !hear(run, &over, err))
            return false;
        if (over)
            break;
        if (ready[1].revents != 0)
            obey(run);
        if (ready[2].revents != 0)
            run->killed_by = "caller";
        check_limits(run);
    }
    return true;
}

static void
obey(struct run *run)
{
    uint8_t order;
    ssize_t got = read(HF_LAUNCH_CONTROL_FD, &order, 1);
    if (got == 1)
        (void)hf_cage_order(&run->cage, order); // an engine that has ended needs none
    else if (got == 0 || errno != EINTR)
        run->killed_by = "caller";
}

static bool
hear(struct run *run, bool *ret_over, struct hf_error *err)
{
    struct hf_note note;
    if (!hf_cage_next(&run->cage, &note, err))
        return false;
    if (note.kind == HF_NOTE_EXIT) {
        run->exited = true;
        run->status = note.value;
    }
    *ret_over = note.kind == HF_NOTE_EXIT || note.kind == HF_NOTE_END;
    return true;
}

static void
check_limits(struct run *run)
{
    const struct hf_launch_limits *limits = &run->launch.limits;
    if (run->killed_by[0] != '\0')
        return;
    if (limits->wall_ms != 0 && hf_monotonic_ns() - run->started_ns > limits->wall_ms * 1000000)
        run->killed_by = "wall";
    else if (hf_cgroup_oom_kills(&run->cgroup) != 0)
        run->killed_by = "memory"; // the kernel took one process: the rest is no sane database any more
    else if (limits->disk_bytes != 0 && ++run->ticks % DISK_CHECK_TICKS == 0 && disk_is_over(run))
        run->killed_by = "disk";
}

/* Walking a folder costs; asking the file system does not, and tells when a walk could find anything new. */
static bool
disk_is_over(struct run *run)
{
    struct statvfs disk;
    uint64_t used;
    if (run->launch.watched[0] == '\0' || statvfs(watched(run), &disk) != 0)
        return false;
    uint64_t now = (uint64_t)disk.f_bfree * disk.f_frsize;
    if (now + run->launch.limits.disk_bytes / DISK_STEPS >= run->disk_free && now != 0)
        return false;
    run->disk_free = now;
    struct hf_error err;
    if (!hf_tree_measure(watched(run), &used, &err))
        return err.kind == HF_ERR_NO_SPACE;
    return used > run->launch.limits.disk_bytes;
}

/* When this returns no process, mount, group or folder of the sandbox is left. */
static void
tear_down(struct run *run)
{
    hf_cage_destroy(&run->cage, run->level);
    run->oom_kills = hf_cgroup_oom_kills(&run->cgroup);
    run->peak_bytes = hf_cgroup_peak_bytes(&run->cgroup);
    if (run->killed_by[0] == '\0' && run->oom_kills != 0)
        run->killed_by = "memory";
    hf_cgroup_remove(&run->cgroup);
    if (run->launch.remove != NULL && run->launch.remove[0] != '\0')
        (void)!hf_dir_remove_tree(run->launch.remove, NULL); // the caller looks again
}

static bool
send_ended(struct run *run, uint64_t teardown_us, struct hf_error *err)
{
    bool signalled = !run->exited || WIFSIGNALED(run->status);
    int signal = !run->exited ? SIGKILL : signalled ? WTERMSIG(run->status) : 0;
    json_t *event = json_pack("{s:s, s:i, s:i, s:s, s:I, s:I, s:I}", "event", "ended", "exit_code",
                              signalled ? -1 : WEXITSTATUS(run->status), "signal", signal, "killed_by", run->killed_by,
                              "oom_kills", (json_int_t)run->oom_kills, "memory_peak_bytes", (json_int_t)run->peak_bytes,
                              "teardown_us", (json_int_t)teardown_us);
    return send_event(event, err);
}

/* Messages are cut by the byte and may end in half a letter. */
static void
send_failed(const struct hf_error *failure)
{
    json_t *message = hf_json_foreign_text(failure->message, strlen(failure->message), HF_ERROR_MESSAGE_BYTES);
    (void)!send_event(json_pack("{s:s, s:s, s:i, s:o, s:s}", "event", "failed", "kind",
                                hf_error_kind_name(failure->kind), "system", failure->system, "message", message,
                                "hint", failure->hint),
                      NULL);
}

static bool
send_event(json_t *event, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *owned = event;
    _cleanup_(hf_buf_done) struct hf_buf line = HF_BUF_INIT(HF_LAUNCH_MOST_EVENT_BYTES);
    if (owned == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an event");
    return hf_json_canonical(owned, &line, err) && hf_buf_put_u8(&line, '\n', err) &&
           hf_write_all(HF_LAUNCH_EVENTS_FD, line.data, line.length, "the caller's pipe", err);
}
