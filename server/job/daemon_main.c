#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/local.h"
#include "server/job/daemon_internal.h"
#include "server/storage/ssh_place.h"

/* What the command line says. */
struct options {
    const char *settings;
    const char *socket; // of an embedded daemon
    bool embedded, worker, help, version;
    int ready_fd; // -1: nobody waits for us
};

static bool parse_options(int argc, char **argv, struct options *ret);
static bool run(struct hf_daemon *daemon, const struct options *options, bool *ret_busy, struct hf_error *err);
static bool load_settings(struct hf_daemon *daemon, const struct options *options, struct hf_error *err);
static bool prepare_state(const struct hf_daemon *daemon, struct hf_error *err);
static bool take_lock(struct hf_daemon *daemon, bool *ret_busy, struct hf_error *err);
static bool take_signals(struct hf_daemon *daemon, struct hf_error *err);
static bool clear_up(struct hf_daemon *daemon, struct hf_error *err);
static void tell_starter(const struct options *options, json_t *event);
static void close_daemon(struct hf_daemon *daemon);

int
hf_daemon_main(int argc, char **argv, const struct hf_daemon_program *program)
{
    struct options options;
    struct hf_error err;
    if (!parse_options(argc, argv, &options)) {
        fprintf(stderr, "usage: holdfastd [--settings FILE]\n");
        return HF_EXIT_USAGE;
    }
    if (options.help || options.version) {
        printf("%s", options.version ? "holdfastd " HF_VERSION "\n"
                                     : "usage: holdfastd [--settings FILE]\n\n"
                                       "Runs the appliance: schedules, jobs, and the socket that holdfast talks to.\n");
        return HF_EXIT_DONE;
    }
    hf_log_setup(options.worker ? "holdfastd-worker" : "holdfastd", HF_LOG_INFO);
    if (!hf_secrets_setup(&err)) {
        hf_log_error(&err, "could not start");
        return HF_EXIT_FAILED;
    }
    if (options.worker)
        return hf_worker_main(program->kinds, program->kind_count);

    _cleanup_(close_daemon) struct hf_daemon daemon = {
        .program = program, .embedded = options.embedded, .lock_fd = -1, .signal_fd = -1, .listen_fd = -1};
    bool busy = false;
    if (run(&daemon, &options, &busy, &err))
        return HF_EXIT_DONE;
    hf_log_error(&err, "holdfastd ends");
    tell_starter(&options, busy ? json_pack("{s:s}", "event", "busy") : hf_event_error(&err));
    return hf_exit_of(&err);
}

const struct hf_settings *
hf_daemon_settings(const struct hf_daemon *daemon)
{
    return daemon->settings;
}

struct hf_records *
hf_daemon_records(struct hf_daemon *daemon)
{
    return daemon->records;
}

struct hf_catalog *
hf_daemon_catalog(struct hf_daemon *daemon)
{
    return hf_records_catalog(daemon->records);
}

int64_t
hf_daemon_now(const struct hf_daemon *daemon)
{
    (void)daemon;
    return hf_time_now_ms();
}

bool
hf_daemon_add_job(struct hf_daemon *daemon, const char *kind, const json_t *arguments, const char *requested_by,
                  struct hf_id *ret_job, struct hf_error *err)
{
    struct hf_job *job;
    const struct hf_job_wish wish = {.kind = kind, .arguments = arguments, .requested_by = requested_by, .asker = -1};
    if (!hf_jobs_add(daemon, &wish, &job, err))
        return false;
    hf_log_info("job %s \"%s\" was asked for by %s", job->kind->name, job->subject, requested_by);
    if (ret_job != NULL)
        *ret_job = job->id;
    return true;
}

static bool
parse_options(int argc, char **argv, struct options *ret)
{
    enum { SETTINGS = 256, EMBEDDED, SOCKET, READY_FD, WORKER, HELP, VERSION };
    static const struct option known[] = {
        {"settings", required_argument, NULL, SETTINGS}, {"embedded", no_argument, NULL, EMBEDDED},
        {"socket", required_argument, NULL, SOCKET},     {"ready-fd", required_argument, NULL, READY_FD},
        {"worker", no_argument, NULL, WORKER},           {"help", no_argument, NULL, HELP},
        {"version", no_argument, NULL, VERSION},         {NULL, 0, NULL, 0}};
    *ret = (struct options){.ready_fd = -1};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (option) {
        case SETTINGS:
            ret->settings = optarg;
            break;
        case EMBEDDED:
            ret->embedded = true;
            break;
        case SOCKET:
            ret->socket = optarg;
            break;
        case READY_FD:
            ret->ready_fd = atoi(optarg);
            break;
        case WORKER:
            ret->worker = true;
            break;
        case HELP:
            ret->help = true;
            break;
        case VERSION:
            ret->version = true;
            break;
        default:
            return false;
        }
    }
    return optind == argc && ret->embedded == (ret->socket != NULL);
}

static bool
run(struct hf_daemon *daemon, const struct options *options, bool *ret_busy, struct hf_error *err)
{
    umask(0022); // every file is made with the mode it needs
    if (!load_settings(daemon, options, err) || !prepare_state(daemon, err) || !take_lock(daemon, ret_busy, err) ||
        !take_signals(daemon, err) ||
        !hf_records_open(daemon->settings, hf_daemon_now(daemon), &daemon->records, err) || !clear_up(daemon, err) ||
        (hf_records_can_sign(daemon->records) && !hf_sources_follow_file(daemon, err)) ||
        !hf_vaults_finish(daemon, err) || !hf_server_listen(daemon, err))
        return false;
    hf_retention_note_clock(daemon);
    hf_log_info("ready on \"%s\"", daemon->socket);
    tell_starter(options, json_pack("{s:s, s:s}", "event", "ready", "socket", daemon->socket));
    return hf_daemon_loop(daemon, err);
}

static bool
load_settings(struct hf_daemon *daemon, const struct options *options, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    if (!hf_settings_path(options->settings, &path, err) || !hf_settings_load(path, &daemon->settings, err))
        return false;
    const struct hf_ssh_options ssh = {daemon->settings->ssh.identity_file, daemon->settings->ssh.known_hosts};
    if (!hf_ssh_use(&ssh, err))
        return false;
    const char *socket = options->embedded ? options->socket : daemon->settings->socket;
    if (strlen(socket) >= sizeof daemon->socket)
        return hf_fail(err, HF_ERR_USAGE, "the path of the socket is longer than %zu bytes: \"%s\"",
                       sizeof daemon->socket - 1, socket);
    snprintf(daemon->socket, sizeof daemon->socket, "%s", socket);
    return true;
}

static bool
prepare_state(const struct hf_daemon *daemon, struct hf_error *err)
{
    _cleanup_(hf_freep) char *cache = hf_path_join(daemon->settings->state, HF_STATE_CACHE);
    if (cache == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the state folder");
    // Others may pass through to the scratch of a sandbox that runs as another user, and see nothing on the way.
    return (hf_dir_make(daemon->settings->state, 0711, err) && hf_dir_make(cache, 0700, err)) ||
           hf_fail_within(err, "could not make the state folder");
}

static bool
take_lock(struct hf_daemon *daemon, bool *ret_busy, struct hf_error *err)
{
    struct hf_lock_holder holder = {.embedded = daemon->embedded, .pid = getpid()};
    snprintf(holder.socket, sizeof holder.socket, "%s", daemon->socket);
    if (hf_lock_take(daemon->settings->state, &holder, &daemon->lock_fd, err))
        return true;
    *ret_busy = err->kind == HF_ERR_CONFLICT;
    return false;
}

static bool
take_signals(struct hf_daemon *daemon, struct hf_error *err)
{
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    if (sigaction(SIGPIPE, &ignore, NULL) != 0 || sigaction(SIGHUP, &ignore, NULL) != 0 ||
        sigprocmask(SIG_BLOCK, &ours, NULL) != 0 ||
        (daemon->signal_fd = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take signals over");
    return true;
}

/* What a daemon that was killed left behind: jobs that nobody runs any more. */
static bool
clear_up(struct hf_daemon *daemon, struct hf_error *err)
{
    return hf_jobs_clear_up(daemon, err) &&
           hf_catalog_jobs_trim(hf_daemon_catalog(daemon), hf_daemon_now(daemon) - HF_JOB_KEEP_MS, err);
}

/* One line to whoever started us; takes the event. */
static void
tell_starter(const struct options *options, json_t *event)
{
    _cleanup_(hf_json_freep) json_t *told = event;
    struct hf_wire wire;
    if (options->ready_fd < 0 || told == NULL)
        return;
    hf_wire_init(&wire, options->ready_fd, 0, HF_WIRE_REQUEST_MOST);
    if (hf_wire_put(&wire, told, NULL))
        (void)!hf_wire_flush(&wire, NULL);
    hf_wire_done(&wire);
}

static void
close_daemon(struct hf_daemon *daemon)
{
    hf_server_close(daemon);
    hf_jobs_free_all(daemon);
    hf_records_freep(&daemon->records);
    hf_settings_freep(&daemon->settings);
    hf_closep(&daemon->signal_fd);
    hf_closep(&daemon->lock_fd);
}
