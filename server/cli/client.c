#include "server/cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/job/lock.h"
#include "server/settings/settings.h"

#define POLL_MS        200
#define STARTS_MOST    50 // looks at a lock whose holder has not said who it is yet, or has just left
#define START_PAUSE_US 100000
#define READY_FD       3

static volatile sig_atomic_t interrupts;

static void count_interrupt(int number);
static bool connect_daemon(const char *settings_option, int *ret_fd, struct hf_error *err);
static bool start_embedded(const struct hf_settings *settings, char *socket, size_t socket_bytes, struct hf_error *err);
static bool wait_ready(int fd, char *socket, size_t socket_bytes, struct hf_error *err);
static bool connect_socket(const char *path, int *ret_fd, struct hf_error *err);
static bool converse(struct hf_wire *wire, hf_client_watch *watch, void *context, struct hf_client_answer *ret,
                     struct hf_error *err);
static bool take_event(json_t *event, hf_client_watch *watch, void *context, struct hf_client_answer *ret,
                       bool *ret_final);
static bool ask_to_stop(struct hf_wire *wire, int *asked, struct hf_error *err);

bool
hf_client_ask(const char *settings, const char *command, const json_t *arguments, hf_client_watch *watch, void *context,
              struct hf_client_answer *ret, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    _cleanup_(hf_json_freep) json_t *request = json_pack("{s:s, s:O}", "command", command, "arguments", arguments);
    *ret = (struct hf_client_answer){.exit = HF_EXIT_FAILED};
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (!connect_daemon(settings, &fd, err))
        return false;

    const struct sigaction on_interrupt = {.sa_handler = count_interrupt};
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &on_interrupt, NULL);
    sigaction(SIGTERM, &on_interrupt, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
    struct hf_wire wire;
    hf_wire_init(&wire, HF_TAKE_FD(fd), HF_WIRE_EVENT_MOST, HF_WIRE_REQUEST_MOST);
    const bool ok =
        hf_wire_put(&wire, request, err) && hf_wire_flush(&wire, err) && converse(&wire, watch, context, ret, err);
    hf_wire_done(&wire);
    return ok;
}

void
hf_client_answer_done(struct hf_client_answer *answer)
{
    hf_json_freep(&answer->result);
    answer->result = NULL;
}

char *
hf_client_program_folder(void)
{
    char path[4096];
    const ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0)
        return strdup("/usr/bin");
    path[length] = 0;
    *strrchr(path, '/') = 0;
    return strdup(path[0] != 0 ? path : "/");
}

static void
count_interrupt(int number)
{
    (void)number;
    interrupts++;
}

/* An embedded daemon may leave between our look and our knock: then look again. */
static bool
connect_daemon(const char *settings_option, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    if (!hf_settings_path(settings_option, &path, err) || !hf_settings_load(path, &settings, err)) {
        if (err->kind == HF_ERR_NOT_FOUND)
            return hf_fail_hint(err, "Make a repository and its settings first: holdfast init.");
        return false;
    }
    for (int look = 0; look < STARTS_MOST; look++) {
        bool held;
        struct hf_lock_holder holder;
        struct hf_error why;
        if (!hf_lock_look(settings->state, &held, &holder, &why)) {
            if (why.kind != HF_ERR_CORRUPT) {
                *err = why;
                return false;
            }
            usleep(START_PAUSE_US);
            continue;
        }
        if (!held && !start_embedded(settings, holder.socket, sizeof holder.socket, err)) {
            if (err->kind != HF_ERR_CONFLICT)
                return false;
            usleep(START_PAUSE_US); // somebody else was quicker
            continue;
        }
        if (connect_socket(holder.socket, ret_fd, err))
            return true;
        usleep(START_PAUSE_US);
    }
    return hf_fail_within(err, "could not reach holdfastd");
}

static bool
start_embedded(const struct hf_settings *settings, char *socket, size_t socket_bytes, struct hf_error *err)
{
    char program[4200], log_path[4200], own_socket[HF_SOCKET_BYTES], fd_text[16];
    _cleanup_(hf_freep) char *folder = hf_client_program_folder();
    int ready[2];
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    snprintf(program, sizeof program, "%s/holdfastd", folder);
    if (access(program, X_OK) != 0)
        snprintf(program, sizeof program, "holdfastd");
    if (snprintf(own_socket, sizeof own_socket, "%s/embedded-%d.sock", settings->state, (int)getpid()) >=
        (int)sizeof own_socket)
        return hf_fail(err, HF_ERR_USAGE, "the path of the state folder \"%s\" is too long for a socket in it",
                       settings->state);
    if (!hf_dir_make(settings->state, 0711, err))
        return hf_fail_within(err, "could not make the state folder");

    snprintf(log_path, sizeof log_path, "%s/holdfastd.log", settings->state);
    _cleanup_(hf_closep) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (log_fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", log_path);
    if (pipe2(ready, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");
    _cleanup_(hf_closep) int read_end = ready[0];
    _cleanup_(hf_closep) int write_end = ready[1];
    snprintf(fd_text, sizeof fd_text, "%d", READY_FD);
    const char *const arguments[] = {program,    "--settings", settings->file, "--embedded", "--socket",
                                     own_socket, "--ready-fd", fd_text,        NULL};
    const int passed[1][2] = {{write_end, READY_FD}};
    const struct hf_process_options options = {.argv = arguments,
                                               .stdin_fd = -1,
                                               .stdout_fd = log_fd,
                                               .stderr_fd = log_fd,
                                               .pass_fds = passed,
                                               .pass_fd_count = 1,
                                               .outlives_us = true};
    struct hf_process process = HF_PROCESS_NONE;
    if (!hf_process_start(&options, &process, err))
        return hf_fail_within(err, "could not start holdfastd");
    hf_closep(&process.pidfd); // it goes its own way
    hf_closep(&write_end);
    write_end = -1;
    return wait_ready(read_end, socket, socket_bytes, err);
}

/* One line: {"event": "ready", "socket": ...} or an error. */
static bool
wait_ready(int fd, char *socket, size_t socket_bytes, struct hf_error *err)
{
    struct hf_wire wire;
    _cleanup_(hf_json_freep) json_t *event = NULL;
    hf_wire_init(&wire, fcntl(fd, F_DUPFD_CLOEXEC, 0), HF_WIRE_REQUEST_MOST, HF_WIRE_REQUEST_MOST);
    bool ok = hf_wire_wait(&wire, &event, err);
    if (ok && event == NULL)
        ok = hf_fail(err, HF_ERR_UNAVAILABLE, "holdfastd left before it was ready");
    const char *place = json_string_value(json_object_get(event, "socket"));
    if (ok && place == NULL) {
        hf_event_read_error(event, err);
        ok = false;
    }
    if (ok)
        snprintf(socket, socket_bytes, "%s", place);
    hf_wire_done(&wire);
    return ok;
}

static bool
connect_socket(const char *path, int *ret_fd, struct hf_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return hf_fail(err, HF_ERR_USAGE, "the path of the socket is too long: \"%s\"", path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    _cleanup_(hf_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not connect to \"%s\"", path);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

static bool
converse(struct hf_wire *wire, hf_client_watch *watch, void *context, struct hf_client_answer *ret,
         struct hf_error *err)
{
    int asked = 0;
    for (;;) {
        _cleanup_(hf_json_freep) json_t *event = NULL;
        bool final = false;
        if (!hf_wire_next(wire, &event, err))
            return false;
        if (event != NULL) {
            if (!take_event(event, watch, context, ret, &final))
                return hf_fail(err, HF_ERR_CORRUPT, "holdfastd answers what nobody understands");
            if (final)
                return true;
            continue;
        }
        if (wire->ended)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "holdfastd went away before it answered");
        struct pollfd wait = {.fd = wire->fd, .events = POLLIN};
        const int ready = poll(&wait, 1, POLL_MS);
        if (ready < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not wait for holdfastd");
        if (!ask_to_stop(wire, &asked, err) || (ready > 0 && !hf_wire_receive(wire, err)))
            return false;
    }
}

static bool
take_event(json_t *event, hf_client_watch *watch, void *context, struct hf_client_answer *ret, bool *ret_final)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    if (name == NULL)
        return false;
    if (strcmp(name, "result") != 0 && strcmp(name, "error") != 0) {
        if (watch != NULL)
            watch(context, event);
        return true;
    }
    *ret_final = true;
    ret->exit = (enum hf_exit)json_integer_value(json_object_get(event, "exit"));
    if (strcmp(name, "error") == 0)
        hf_event_read_error(event, &ret->error);
    else
        ret->result = json_incref(json_object_get(event, "result"));
    return true;
}

static bool
ask_to_stop(struct hf_wire *wire, int *asked, struct hf_error *err)
{
    if (interrupts <= *asked)
        return true;
    if (*asked > 0)
        return hf_fail(err, HF_ERR_CANCELLED, "left without waiting; the job is being stopped");
    *asked = interrupts;
    _cleanup_(hf_json_freep) json_t *cancel = json_pack("{s:s}", "command", "cancel");
    return cancel == NULL || (hf_wire_put(wire, cancel, err) && hf_wire_flush(wire, err));
}
