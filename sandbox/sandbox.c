#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "sandbox/build.h"
#include "sandbox/selftest_engine.h"
#include "base/file.h"
#include "base/time.h"

#define START_TIMEOUT_MS 60000 // a host under heavy load; making a sandbox takes milliseconds
#define STOP_TIMEOUT_MS  30000
#define PROBE_TIMEOUT_MS 60000
#define MOST_LOG_BYTES   (256 * HF_MIB)
#define FOLDER_NAME      "holdfast-sandbox-XXXXXX"

static const struct hf_sandbox_limits default_limits = {
    .memory_bytes = 1024 * HF_MIB,
    .processes = 256,
    .open_files = 1024,
    .log_bytes = 16 * HF_MIB,
    .wall_ms = 3600 * 1000,
    .temporary_bytes = 256 * HF_MIB,
};

static const struct hf_sandbox_places inside = {
    .data = "/data", .socket = "/run/socket", .memory = "/tmp", .settings = HF_SANDBOX_SETTINGS};

static const char *const end_names[] = {"running",     "exited",    "stopped",  "over_wall",
                                        "over_memory", "over_disk", "over_log", "broken"};

static bool check_spec(const struct hf_sandbox_spec *spec, struct hf_error *err);
static bool check_owner(const struct hf_sandbox_spec *spec, uid_t uid, struct hf_error *err);
static struct hf_sandbox_limits fill_limits(const struct hf_sandbox_limits *asked);
static bool make_sandbox(const struct hf_sandbox_spec *spec, struct hf_sandbox **ret, struct hf_error *err);
static bool make_folder(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_error *err);
static bool make_subfolder(struct hf_sandbox *sandbox, const char *name, mode_t mode, uid_t uid, gid_t gid,
                           struct hf_error *err);
static bool write_launch(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_buf *out,
                         struct hf_error *err);
static bool add_places(const struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec,
                       struct hf_sandbox_root *root, struct hf_error *err);
static bool make_command(const struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, bool flat,
                         struct hf_sandbox_command *ret, struct hf_error *err);
static bool give_away(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_error *err);
static bool take_back(struct hf_sandbox *sandbox);
static bool spawn(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, const struct hf_buf *launch,
                  struct hf_error *err);
static bool find_launcher(const char *asked, char path[static PATH_MAX], struct hf_error *err);
static bool await_start(struct hf_sandbox *sandbox, struct hf_error *err);

static bool find_in_log(const struct hf_sandbox *sandbox, const char *text, uint64_t *scanned, size_t *ret_begin,
                        size_t *ret_end);
static bool wait_for_news(struct hf_sandbox *sandbox, uint64_t deadline_ns);
static uint64_t deadline_after(int timeout_ms);
static void end_sandbox(struct hf_sandbox *sandbox);
static void judge_exit(const struct hf_sandbox *sandbox, struct hf_sandbox_exit *ret);
static bool parse_attempts(const struct hf_buf *log, json_t *report, bool *ret_holds, struct hf_error *err);

const char *
hf_sandbox_end_name(enum hf_sandbox_end end)
{
    return end_names[end];
}

bool
hf_sandbox_start(const struct hf_sandbox_spec *spec, struct hf_sandbox **ret, struct hf_error *err)
{
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    _cleanup_(hf_buf_done) struct hf_buf launch = HF_BUF_INIT(HF_LAUNCH_MOST_BYTES);
    if (!check_spec(spec, err) || !make_sandbox(spec, &sandbox, err) || !make_folder(sandbox, spec, err) ||
        !write_launch(sandbox, spec, &launch, err) || !give_away(sandbox, spec, err) ||
        !spawn(sandbox, spec, &launch, err) || !await_start(sandbox, err))
        return false;
    *ret = HF_TAKE(sandbox);
    return true;
}

void
hf_sandbox_freep(struct hf_sandbox **sandbox)
{
    struct hf_sandbox *gone = *sandbox;
    if (gone == NULL)
        return;
    end_sandbox(gone);
    hf_closep(&gone->control);
    hf_closep(&gone->events);
    hf_closep(&gone->outputs);
    hf_buf_done(&gone->log);
    hf_buf_done(&gone->event);
    json_decref(gone->started);
    json_decref(gone->ended);
    pthread_cond_destroy(&gone->news);
    pthread_mutex_destroy(&gone->lock);
    free(gone);
    *sandbox = NULL;
}

const char *
hf_sandbox_socket_path(const struct hf_sandbox *sandbox)
{
    return sandbox->socket;
}

bool
hf_sandbox_wait_ready(struct hf_sandbox *sandbox, int timeout_ms)
{
    uint64_t deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&sandbox->lock);
    while (!sandbox->ready && !sandbox->gone && wait_for_news(sandbox, deadline))
        ;
    bool ready = sandbox->ready && !sandbox->gone;
    pthread_mutex_unlock(&sandbox->lock);
    return ready;
}

bool
hf_sandbox_wait_exit(struct hf_sandbox *sandbox, int timeout_ms, struct hf_sandbox_exit *ret, struct hf_error *err)
{
    uint64_t deadline = deadline_after(timeout_ms);
    pthread_mutex_lock(&sandbox->lock);
    while (!sandbox->gone && wait_for_news(sandbox, deadline))
        ;
    judge_exit(sandbox, ret);
    if (ret->end == HF_SANDBOX_BROKEN && sandbox->failure.kind != HF_ERR_NONE && err != NULL)
        *err = sandbox->failure;
    bool fine = ret->end != HF_SANDBOX_BROKEN || sandbox->failure.kind == HF_ERR_NONE;
    pthread_mutex_unlock(&sandbox->lock);
    return fine;
}

bool
hf_sandbox_log_wait(struct hf_sandbox *sandbox, const char *text, uint64_t *position, int timeout_ms,
                    struct hf_buf *found, bool *ret, struct hf_error *err)
{
    uint64_t deadline = deadline_after(timeout_ms), scanned = *position;
    size_t begin = 0, end = 0;
    bool fine = true, hit = false;
    pthread_mutex_lock(&sandbox->lock);
    for (;;) {
        hit = find_in_log(sandbox, text, &scanned, &begin, &end);
        if (hit || sandbox->gone || !wait_for_news(sandbox, deadline))
            break;
    }
    if (hit && found != NULL)
        fine = hf_buf_add(found, sandbox->log.data + begin, end - begin, err);
    if (hit && fine)
        *position = end + 1 < sandbox->log.length ? end + 1 : sandbox->log.length;
    pthread_mutex_unlock(&sandbox->lock);
    if (fine)
        *ret = hit;
    return fine;
}

bool
hf_sandbox_log_copy(struct hf_sandbox *sandbox, struct hf_buf *out, struct hf_error *err)
{
    pthread_mutex_lock(&sandbox->lock);
    bool fine = hf_buf_add(out, hf_buf_text(&sandbox->log), sandbox->log.length, err);
    pthread_mutex_unlock(&sandbox->lock);
    return fine;
}

bool
hf_sandbox_signal(struct hf_sandbox *sandbox, int signal, struct hf_error *err)
{
    uint8_t order = (uint8_t)signal;
    if (signal <= 0 || signal >= NSIG)
        return hf_fail(err, HF_ERR_USAGE, "there is no signal %d", signal);
    pthread_mutex_lock(&sandbox->lock);
    // A socket, so that a launcher that has just gone gives an error instead of SIGPIPE.
    bool sent = sandbox->control >= 0 && send(sandbox->control, &order, 1, MSG_NOSIGNAL) == 1;
    pthread_mutex_unlock(&sandbox->lock);
    if (!sent)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the sandbox has ended");
    return true;
}

bool
hf_sandbox_stop(struct hf_sandbox *sandbox, struct hf_sandbox_exit *ret, struct hf_error *err)
{
    end_sandbox(sandbox);
    return hf_sandbox_wait_exit(sandbox, 0, ret, err);
}

bool
hf_sandbox_report(struct hf_sandbox *sandbox, json_t **ret, struct hf_error *err)
{
    struct hf_sandbox_exit end;
    const struct hf_sandbox_limits *limits = &sandbox->limits;
    pthread_mutex_lock(&sandbox->lock);
    _cleanup_(hf_json_freep) json_t *report = json_copy(sandbox->started);
    json_int_t create_us = (json_int_t)((sandbox->started_ns - sandbox->began_ns) / 1000);
    bool fine =
        hf_json_set(report, "create_us", json_integer(create_us), err) &&
        hf_json_set(report, "engine", json_string(sandbox->engine->name), err) &&
        hf_json_set(report, "log_bytes", json_integer((json_int_t)sandbox->log.length), err) &&
        hf_json_set(report, "limits",
                    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "memory_bytes", (json_int_t)limits->memory_bytes,
                              "processes", (json_int_t)limits->processes, "open_files", (json_int_t)limits->open_files,
                              "disk_bytes", (json_int_t)limits->disk_bytes, "log_bytes", (json_int_t)limits->log_bytes,
                              "wall_ms", (json_int_t)limits->wall_ms, "temporary_bytes",
                              (json_int_t)limits->temporary_bytes),
                    err);
    judge_exit(sandbox, &end);
    if (fine && sandbox->ended != NULL && json_object_update(report, sandbox->ended) != 0)
        fine = hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report of a sandbox");
    pthread_mutex_unlock(&sandbox->lock);
    if (!fine || !hf_json_set(report, "end", json_string(end_names[end.end]), err))
        return false;
    json_object_del(report, "event");
    json_object_del(report, "killed_by"); // "end" says it
    json_object_del(report, "pid");
    *ret = HF_TAKE(report);
    return true;
}

bool
hf_sandbox_probe(const struct hf_sandbox_spec *spec, json_t **ret_report, bool *ret_holds, struct hf_error *err)
{
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    _cleanup_(hf_json_freep) json_t *report = NULL;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    char launcher[PATH_MAX];
    struct hf_sandbox_exit end;
    if (!find_launcher(spec->launcher, launcher, err))
        return false;
    const struct hf_sandbox_spec probe = {
        .engine = &hf_engine_selftest,
        .settings = launcher,
        .folder = spec->folder,
        .launcher = launcher,
        .limits = {.memory_bytes = 128 * HF_MIB,
                   .processes = 16,
                   .log_bytes = 512 * HF_KIB,
                   .wall_ms = PROBE_TIMEOUT_MS,
                   .temporary_bytes = HF_MIB},
        .lowest = spec->lowest,
        .host_uid = spec->host_uid,
        .host_gid = spec->host_gid,
        .runner = spec->runner,
        .cgroup = spec->cgroup,
        .without = spec->without,
    };
    if (!hf_sandbox_start(&probe, &sandbox, err) || !hf_sandbox_wait_exit(sandbox, PROBE_TIMEOUT_MS, &end, err) ||
        !hf_sandbox_stop(sandbox, &end, err) || !hf_sandbox_log_copy(sandbox, &log, err) ||
        !hf_sandbox_report(sandbox, &report, err))
        return false;
    if (!parse_attempts(&log, report, ret_holds, err))
        return hf_fail_within(err, "the self-test of the sandbox");
    *ret_report = HF_TAKE(report);
    return true;
}

static bool
check_spec(const struct hf_sandbox_spec *spec, struct hf_error *err)
{
    bool root = geteuid() == 0;
    if (root && (spec->host_uid == 0 || spec->host_gid == 0))
        return hf_fail(err, HF_ERR_USAGE, "a sandbox cannot run as root: choose another host_uid and host_gid");
    if (spec->limits.log_bytes > MOST_LOG_BYTES)
        return hf_fail(err, HF_ERR_USAGE, "a log of %llu bytes is over the limit of %llu",
                       (unsigned long long)spec->limits.log_bytes, (unsigned long long)MOST_LOG_BYTES);
    return spec->data == NULL || check_owner(spec, root ? spec->host_uid : geteuid(), err);
}

/* Servers look at this themselves, but say it in words that help nobody outside. */
static bool
check_owner(const struct hf_sandbox_spec *spec, uid_t uid, struct hf_error *err)
{
    struct stat info;
    if (lstat(spec->data, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", spec->data);
    if (!S_ISDIR(info.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is no folder", spec->data);
    if (info.st_uid != uid) {
        hf_fail(err, HF_ERR_USAGE, "\"%s\" belongs to uid %u, the sandbox runs as uid %u", spec->data, info.st_uid,
                uid);
        return hf_fail_hint(err, "Give the folder and all in it to uid %u first.", uid);
    }
    return true;
}

static struct hf_sandbox_limits
fill_limits(const struct hf_sandbox_limits *asked)
{
    struct hf_sandbox_limits limits = *asked;
    limits.memory_bytes = asked->memory_bytes == 0 ? default_limits.memory_bytes : asked->memory_bytes;
    limits.processes = asked->processes == 0 ? default_limits.processes : asked->processes;
    limits.open_files = asked->open_files == 0 ? default_limits.open_files : asked->open_files;
    limits.log_bytes = asked->log_bytes == 0 ? default_limits.log_bytes : asked->log_bytes;
    limits.wall_ms = asked->wall_ms == 0 ? default_limits.wall_ms : asked->wall_ms;
    limits.temporary_bytes = asked->temporary_bytes == 0 ? default_limits.temporary_bytes : asked->temporary_bytes;
    return limits;
}

static bool
make_sandbox(const struct hf_sandbox_spec *spec, struct hf_sandbox **ret, struct hf_error *err)
{
    struct hf_sandbox *sandbox = calloc(1, sizeof *sandbox);
    pthread_condattr_t monotonic;
    if (sandbox == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a sandbox");
    sandbox->engine = spec->engine;
    sandbox->on_line = spec->on_line;
    sandbox->context = spec->context;
    sandbox->limits = fill_limits(&spec->limits);
    sandbox->launcher = HF_PROCESS_NONE;
    sandbox->control = sandbox->events = sandbox->outputs = -1;
    sandbox->log = HF_BUF_INIT(sandbox->limits.log_bytes);
    sandbox->event = HF_BUF_INIT(HF_LAUNCH_MOST_EVENT_BYTES);
    sandbox->began_ns = hf_monotonic_ns();
    pthread_mutex_init(&sandbox->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&sandbox->news, &monotonic);
    pthread_condattr_destroy(&monotonic);
    *ret = sandbox;
    return true;
}

static bool
make_folder(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_error *err)
{
    static const char *const parents[] = {"/run", "/dev/shm", "/tmp"};
    bool root = geteuid() == 0;
    uid_t uid = root ? spec->host_uid : geteuid();
    gid_t gid = root ? spec->host_gid : getegid();
    const mode_t open_to_find = spec->runner == NULL ? 0711 : 0700; // a runner's launcher looks with our rights
    const char *parent = spec->folder;
    for (size_t i = 0; parent == NULL && i < HF_LENGTH(parents); i++) {
        if (access(parents[i], W_OK) == 0)
            parent = parents[i];
    }
    if (parent == NULL)
        return hf_fail(err, HF_ERR_DENIED,
                       "there is no folder for the sandbox's socket: /run, /dev/shm and /tmp are closed");

    struct sockaddr_un address;
    char path[PATH_MAX];
    const char *name = spec->engine->socket_name == NULL ? "" : spec->engine->socket_name;
    snprintf(path, sizeof path, "%s/" FOLDER_NAME, parent);
    if (strlen(path) + strlen("/socket") + strlen(name) >= sizeof address.sun_path)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is too long a name for a folder that holds a socket", parent);
    if (mkdtemp(path) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a folder in \"%s\"", parent);
    memcpy(sandbox->folder, path, sizeof path);
    snprintf(sandbox->socket, sizeof sandbox->socket, "%.*s/socket", (int)sizeof address.sun_path, path);
    if (chmod(path, open_to_find) != 0) // its uid has to find the way to the socket where mounts are made by path
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the folder \"%s\" to the sandbox", path);
    // With root a group that nobody else is in lets another sandbox of ours in (spec.host_gid).
    const mode_t of_socket = spec->runner != NULL ? 0711 : root ? 0710 : 0700;
    return make_subfolder(sandbox, "socket", of_socket, uid, gid, err) &&
           make_subfolder(sandbox, "settings", 0755, geteuid(), getegid(), err) &&
           (spec->lowest != HF_SANDBOX_L1 || make_subfolder(sandbox, "memory", 0700, uid, gid, err));
}

static bool
make_subfolder(struct hf_sandbox *sandbox, const char *name, mode_t mode, uid_t uid, gid_t gid, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(sandbox->folder, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a folder");
    if (mkdir(path, 0700) != 0 || chmod(path, mode) != 0 || (uid != geteuid() && chown(path, uid, gid) != 0))
        return hf_fail_errno(err, HF_ERR_NONE, "could not make the folder \"%s\"", path);
    return true;
}

static bool
write_launch(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_sandbox_root_done) struct hf_sandbox_root root = {0};
    _cleanup_(hf_sandbox_command_done) struct hf_sandbox_command command = {0}, flat = {0};
    _cleanup_(hf_freep) char *settings = hf_path_join(sandbox->folder, "settings");
    bool as_root = geteuid() == 0;
    if (settings == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a sandbox");
    if (!hf_sandbox_root_init(&root, settings, err) || !spec->engine->list(spec->settings, &root, err) ||
        !add_places(sandbox, spec, &root, err) || !make_command(sandbox, spec, false, &command, err))
        return false;
    if (spec->lowest == HF_SANDBOX_L1 && !make_command(sandbox, spec, true, &flat, err))
        return false;

    // Everything here is borrowed: nothing of it is freed through this struct.
    char none[] = "", data[PATH_MAX] = "", group[PATH_MAX] = "";
    if (spec->data != NULL && realpath(spec->data, data) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not find \"%s\"", spec->data);
    snprintf(group, sizeof group, "%s", spec->cgroup == NULL ? none : spec->cgroup);
    const struct hf_launch launch = {
        .lowest = spec->runner != NULL            ? HF_SANDBOX_L3
                  : spec->lowest == HF_SANDBOX_L0 ? HF_SANDBOX_L2
                                                  : spec->lowest,
        .host_uid = as_root                ? spec->host_uid
                    : spec->runner != NULL ? hf_runner_uid(spec->runner)
                                           : geteuid(),
        .host_gid = as_root                ? spec->host_gid
                    : spec->runner != NULL ? hf_runner_uid(spec->runner)
                                           : getegid(),
        .without = spec->without,
        .entries = root.entries,
        .entry_count = root.count,
        .command = command.command,
        .flat = flat.command,
        .limits = {.memory_bytes = sandbox->limits.memory_bytes,
                   .processes = sandbox->limits.processes,
                   .open_files = sandbox->limits.open_files,
                   .disk_bytes = sandbox->limits.disk_bytes,
                   .wall_ms = sandbox->limits.wall_ms},
        .loopback = spec->loopback,
        .inet = spec->inet,
        .cgroup = group,
        .watched = data,
        .remove = spec->runner != NULL ? none : sandbox->folder,
    };
    return hf_launch_write(&launch, out, err);
}

static bool
add_places(const struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_sandbox_root *root,
           struct hf_error *err)
{
    if (!hf_sandbox_root_add(root, HF_LAUNCH_WRITE, sandbox->socket, inside.socket, err) ||
        !hf_sandbox_root_add(root, HF_LAUNCH_READ, root->settings_folder, inside.settings, err) ||
        !hf_sandbox_root_add_memory(root, inside.memory, sandbox->limits.temporary_bytes, err) ||
        !hf_sandbox_root_add_memory(root, "/dev/shm", sandbox->limits.temporary_bytes, err))
        return false;
    return spec->data == NULL || hf_sandbox_root_add(root, HF_LAUNCH_WRITE, spec->data, inside.data, err);
}

static bool
make_command(const struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, bool flat,
             struct hf_sandbox_command *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *memory = hf_path_join(sandbox->folder, "memory");
    _cleanup_(hf_freep) char *settings = hf_path_join(sandbox->folder, "settings");
    if (memory == NULL || settings == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a command");
    const struct hf_sandbox_places outside = {
        .data = spec->data, .socket = sandbox->socket, .memory = memory, .settings = settings, .flat = true};
    const struct hf_sandbox_places *places = flat ? &outside : &inside;
    const char *directory = spec->data == NULL ? places->memory : places->data;
    if (!hf_sandbox_command_init(ret, directory, err) || !spec->engine->command(spec->settings, places, ret, err))
        return false;
    return flat || hf_sandbox_command_variable(ret, err, "LD_LIBRARY_PATH=/lib");
}

/* To the uid that a runner has for it; end_sandbox() takes it back. */
static bool
give_away(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, struct hf_error *err)
{
    if (spec->runner == NULL)
        return true;
    if (geteuid() == 0 || spec->without != 0 || spec->cgroup != NULL)
        return hf_fail(err, HF_ERR_USAGE, "a runner is for an ordinary user, and leaves nothing out");
    if (spec->data != NULL && (sandbox->given_data = strdup(spec->data)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a sandbox");
    sandbox->runner = spec->runner;
    return hf_runner_give(spec->runner, sandbox->socket, err) &&
           (spec->data == NULL || hf_runner_give(spec->runner, spec->data, err));
}

static bool
spawn(struct hf_sandbox *sandbox, const struct hf_sandbox_spec *spec, const struct hf_buf *launch, struct hf_error *err)
{
    char program[PATH_MAX];
    _cleanup_(hf_closep) int spec_fd = memfd_create("holdfast-sandbox-spec", MFD_CLOEXEC);
    int control[2] = {-1, -1}, events[2] = {-1, -1}, outputs[2] = {-1, -1};
    if (!find_launcher(spec->launcher, program, err))
        return false;
    // The spec goes into memory and not through a pipe: nobody waits for the other.
    if (spec_fd < 0 || !hf_write_all(spec_fd, launch->data, launch->length, "the sandbox spec", err) ||
        lseek(spec_fd, 0, SEEK_SET) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not hand over the sandbox spec");

    bool fine = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) == 0 && pipe2(events, O_CLOEXEC) == 0 &&
                pipe2(outputs, O_CLOEXEC) == 0;
    if (fine && spec->runner != NULL) {
        fine = hf_runner_launch(spec->runner, spec_fd, events[1], control[1], outputs[1], err);
    } else if (fine) {
        const int pass[][2] = {
            {spec_fd, HF_LAUNCH_SPEC_FD}, {events[1], HF_LAUNCH_EVENTS_FD}, {control[1], HF_LAUNCH_CONTROL_FD}};
        const char *const argv[] = {program, NULL};
        const struct hf_process_options options = {
            .argv = argv,
            .stdin_fd = -1,
            .stdout_fd = -1,
            .stderr_fd = outputs[1],
            .pass_fds = pass,
            .pass_fd_count = HF_LENGTH(pass),
            .outlives_us = true, // by as long as it takes to clean up; it looks after its own end
        };
        fine = hf_process_start(&options, &sandbox->launcher, err);
    } else {
        hf_fail_errno(err, HF_ERR_NONE, "could not make pipes to the sandbox");
    }
    hf_closep(&control[1]);
    hf_closep(&events[1]);
    hf_closep(&outputs[1]);
    sandbox->control = control[0];
    sandbox->events = events[0];
    sandbox->outputs = outputs[0];
    if (!fine)
        return false;
    (void)fcntl(sandbox->events, F_SETFL, O_NONBLOCK);
    (void)fcntl(sandbox->outputs, F_SETFL, O_NONBLOCK);
    if (pthread_create(&sandbox->reader, NULL, sandbox_read_everything, sandbox) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "could not start a thread for the sandbox");
    sandbox->reading = true;
    return true;
}

/*
 * Beside our own program; in its room of a build folder, seen from the top or from another room; where it is installed.
 */
static bool
find_launcher(const char *asked, char path[static PATH_MAX], struct hf_error *err)
{
    static const char *const places[] = {"holdfast-sandbox", "sandbox/holdfast-sandbox", "../sandbox/holdfast-sandbox"};
    char own[PATH_MAX - 32];
    if (asked != NULL) {
        if (realpath(asked, path) == NULL)
            return hf_fail_errno(err, HF_ERR_NONE, "could not find the sandbox launcher \"%s\"", asked);
        return true;
    }
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    own[length < 0 ? 0 : length] = '\0';
    char *name = strrchr(own, '/');
    for (size_t i = 0; name != NULL && i < HF_LENGTH(places); i++) {
        char candidate[PATH_MAX];
        snprintf(candidate, sizeof candidate, "%.*s/%s", (int)(name - own), own, places[i]);
        if (realpath(candidate, path) != NULL && access(path, X_OK) == 0)
            return true;
    }
    if (realpath(HF_SANDBOX_INSTALLED, path) != NULL)
        return true;
    return hf_fail(err, HF_ERR_NOT_FOUND, "the program holdfast-sandbox is neither beside \"%s\" nor at \"%s\"", own,
                   HF_SANDBOX_INSTALLED);
}

static bool
await_start(struct hf_sandbox *sandbox, struct hf_error *err)
{
    uint64_t deadline = deadline_after(START_TIMEOUT_MS);
    bool fine = true;
    pthread_mutex_lock(&sandbox->lock);
    while (sandbox->started == NULL && !sandbox->gone && wait_for_news(sandbox, deadline))
        ;
    if (sandbox->started == NULL && sandbox->failure.kind != HF_ERR_NONE) {
        if (err != NULL)
            *err = sandbox->failure;
        fine = false;
    } else if (sandbox->started == NULL && sandbox->gone) {
        fine = hf_fail(err, HF_ERR_UNAVAILABLE, "holdfast-sandbox ended without a word");
    } else if (sandbox->started == NULL) {
        fine = hf_fail(err, HF_ERR_UNAVAILABLE, "holdfast-sandbox made no sandbox within %d ms", START_TIMEOUT_MS);
    }
    pthread_mutex_unlock(&sandbox->lock);
    return fine;
}

/* Looks from *scanned on, which moves to the beginning of the first line that was not seen whole. */
static bool
find_in_log(const struct hf_sandbox *sandbox, const char *text, uint64_t *scanned, size_t *ret_begin, size_t *ret_end)
{
    const char *log = hf_buf_text(&sandbox->log);
    size_t end = sandbox->line_begin; // all before it are whole lines
    if (*scanned >= end)
        return false;
    const char *hit = memmem(log + *scanned, end - *scanned, text, strlen(text));
    if (hit == NULL) {
        *scanned = end;
        return false;
    }
    size_t at = (size_t)(hit - log);
    const char *before = memrchr(log + *scanned, '\n', at - *scanned);
    const char *after = memchr(hit, '\n', end - at);
    *ret_begin = before == NULL ? *scanned : (size_t)(before - log) + 1;
    *ret_end = after == NULL ? end : (size_t)(after - log);
    return true;
}

/* With the lock held; false when the time has come. */
static bool
wait_for_news(struct hf_sandbox *sandbox, uint64_t deadline_ns)
{
    if (deadline_ns == UINT64_MAX) {
        pthread_cond_wait(&sandbox->news, &sandbox->lock);
        return true;
    }
    const struct timespec until = {.tv_sec = (time_t)(deadline_ns / 1000000000),
                                   .tv_nsec = (long)(deadline_ns % 1000000000)};
    return pthread_cond_timedwait(&sandbox->news, &sandbox->lock, &until) == 0;
}

static uint64_t
deadline_after(int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : hf_monotonic_ns() + (uint64_t)timeout_ms * 1000000;
}

/* Asks the launcher to end everything and waits for it; kills it when it does not, and its init dies with it. */
static void
end_sandbox(struct hf_sandbox *sandbox)
{
    uint64_t deadline = deadline_after(STOP_TIMEOUT_MS);
    pthread_mutex_lock(&sandbox->lock);
    hf_closep(&sandbox->control);
    while (sandbox->reading && !sandbox->gone && wait_for_news(sandbox, deadline))
        ;
    pthread_mutex_unlock(&sandbox->lock);

    bool ended = false;
    int status;
    if (sandbox->launcher.pid != -1 &&
        (!hf_process_wait(&sandbox->launcher, sandbox->reading ? 1000 : STOP_TIMEOUT_MS, &ended, &status, NULL) ||
         !ended))
        hf_process_kill(&sandbox->launcher);
    sandbox->launcher = HF_PROCESS_NONE;
    if (sandbox->reading)
        pthread_join(sandbox->reader, NULL);
    sandbox->reading = false;
    (void)!take_back(sandbox); // what did not come back now does when the runner's connection ends
    if (sandbox->folder[0] != '\0')
        (void)!hf_dir_remove_tree(sandbox->folder, NULL); // the launcher did, unless it was killed
}

static bool
take_back(struct hf_sandbox *sandbox)
{
    if (sandbox->runner == NULL)
        return true;
    bool fine = hf_runner_take(sandbox->runner, sandbox->socket, NULL);
    if (sandbox->given_data != NULL)
        fine = hf_runner_take(sandbox->runner, sandbox->given_data, NULL) && fine;
    sandbox->runner = NULL;
    free(sandbox->given_data);
    sandbox->given_data = NULL;
    return fine;
}

static void
judge_exit(const struct hf_sandbox *sandbox, struct hf_sandbox_exit *ret)
{
    static const struct {
        const char *killed_by;
        enum hf_sandbox_end end;
    } reasons[] = {{"", HF_SANDBOX_EXITED},
                   {"caller", HF_SANDBOX_STOPPED},
                   {"wall", HF_SANDBOX_OVER_WALL},
                   {"memory", HF_SANDBOX_OVER_MEMORY},
                   {"disk", HF_SANDBOX_OVER_DISK}};
    *ret = (struct hf_sandbox_exit){.end = sandbox->gone ? HF_SANDBOX_BROKEN : HF_SANDBOX_RUNNING, .exit_code = -1};
    if (!sandbox->gone || sandbox->ended == NULL)
        return;
    const char *killed_by = json_string_value(json_object_get(sandbox->ended, "killed_by"));
    for (size_t i = 0; killed_by != NULL && i < HF_LENGTH(reasons); i++) {
        if (strcmp(killed_by, reasons[i].killed_by) == 0)
            ret->end = reasons[i].end;
    }
    if (sandbox->over_log)
        ret->end = HF_SANDBOX_OVER_LOG;
    ret->exit_code = (int)json_integer_value(json_object_get(sandbox->ended, "exit_code"));
    ret->signal = (int)json_integer_value(json_object_get(sandbox->ended, "signal"));
}

/* `refused mount: Operation not permitted`, `ALLOWED mount`, and at last `done 53`. */
static bool
parse_attempts(const struct hf_buf *log, json_t *report, bool *ret_holds, struct hf_error *err)
{
    _cleanup_(hf_freep) char *text = strdup(hf_buf_text(log));
    json_t *attempts = json_array();
    size_t done = 0, allowed = 0;
    if (!hf_json_set(report, "attempts", attempts, err))
        return false;
    char *rest = text;
    for (char *line; rest != NULL && (line = strsep(&rest, "\n")) != NULL;) {
        bool refused = strncmp(line, "refused ", 8) == 0, let = strncmp(line, "ALLOWED ", 8) == 0;
        if (strncmp(line, "done ", 5) == 0)
            done = strtoul(line + 5, NULL, 10);
        if (!refused && !let)
            continue;
        char *name = line + 8, *how = strchr(name, ':');
        if (how != NULL)
            *how++ = '\0';
        allowed += let;
        json_array_append_new(attempts, json_pack("{s:s, s:b, s:s}", "name", name, "refused", refused, "how",
                                                  how == NULL ? "" : how + strspn(how, " ")));
    }
    if (done == 0 || json_array_size(attempts) != done)
        return hf_fail(err, HF_ERR_CORRUPT, "it did not finish: %zu attempts of %zu came back: %.100s",
                       json_array_size(attempts), done, hf_buf_text(log));
    *ret_holds = allowed == 0;
    return true;
}
