#include "server/cli/client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/job/lock.h"
#include "server/job/log_socket.h"

#define TRIES        100 // a daemon that is just coming or going is asked again
#define TRY_AGAIN_MS 50
#define LOOK_MS      200 // how often it is looked whether the job shall end
#define READY_FD     3
#define LOG_NAME     "embedded.log"
#define LOG_MOST     (4 * HF_MIB)

/* How a try ended. */
enum reached { REACHED, NOBODY, FAILED };

static enum reached reach(const struct hf_settings *settings, int *ret_fd, struct hf_error *err);
static enum reached connect_to(const char *path, int *ret_fd, struct hf_error *err);
static bool start_embedded(const struct hf_settings *settings, struct hf_error *err);
static bool find_daemon(char program[static PATH_MAX], struct hf_error *err);
static bool choose_socket(const struct hf_settings *settings, char path[static HF_SOCKET_BYTES], struct hf_error *err);
static bool open_log(const struct hf_settings *settings, int *ret_fd, struct hf_error *err);
static bool hear_start(int fd, struct hf_error *err);
static bool converse(int fd, const json_t *request, const struct hf_client_watch *watch, bool *ret_silent,
                     json_t **ret_result, enum hf_exit *ret_exit, struct hf_error *err);
static bool wait_readable(struct hf_wire *wire, const struct hf_client_watch *watch, bool *cancelled,
                          struct hf_error *err);
static bool is_last(const json_t *event, bool *ret_failed);
static void hear_nothing(void *context, const json_t *event);
static bool never_ends(void *context);

bool
hf_client_ask(const struct hf_settings *settings, const char *command, const json_t *arguments, bool detach,
              const struct hf_client_watch *watch, json_t **ret_result, enum hf_exit *ret_exit, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *request =
        json_pack("{s:s, s:O, s:b}", "command", command, "arguments", arguments, "detach", (int)detach);
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the request");

    for (int tries = 0; tries < TRIES; tries++) {
        _cleanup_(hf_closep) int fd = -1;
        bool silent = true;
        enum reached reached = reach(settings, &fd, err);
        if (reached == FAILED || (reached == NOBODY && !start_embedded(settings, err)))
            return false;
        // A daemon that leaves just now closes without a word: the request was not heard, and is made again.
        if (reached == REACHED && converse(HF_TAKE_FD(fd), request, watch, &silent, ret_result, ret_exit, err))
            return true;
        if (!silent)
            return false;
        if (reached == REACHED)
            usleep(TRY_AGAIN_MS * 1000);
    }
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not reach holdfastd on \"%s\"", settings->socket);
}

bool
hf_client_ask_log(const struct hf_settings *settings, const json_t *arguments, bool *ret_answered, json_t **ret_result,
                  struct hf_error *err)
{
    static const struct hf_client_watch nobody = {.event = hear_nothing, .wants_end = never_ends};
    const char *source = json_string_value(json_object_get(arguments, "source"));
    _cleanup_(hf_json_freep) json_t *request =
        json_pack("{s:s, s:O, s:b}", "command", "log get", "arguments", arguments, "detach", 0);
    char path[HF_SOCKET_BYTES];
    struct hf_lock_holder holder;
    bool held = false, silent = true;
    enum hf_exit ignored;
    int fd = -1;
    *ret_answered = false;
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the request");
    enum reached reached = hf_log_socket(settings->socket, source, path) ? connect_to(path, &fd, err) : NOBODY;
    if (reached == NOBODY && hf_lock_look(settings->state, &held, &holder, err) && held && holder.embedded &&
        hf_log_socket(holder.socket, source, path))
        reached = connect_to(path, &fd, err);
    if (reached != REACHED)
        return true;
    *ret_answered = true;
    if (converse(fd, request, &nobody, &silent, ret_result, &ignored, err))
        return true;
    *ret_answered = !silent;
    return silent;
}

static enum reached
reach(const struct hf_settings *settings, int *ret_fd, struct hf_error *err)
{
    struct hf_lock_holder holder;
    bool held;
    enum reached reached = connect_to(settings->socket, ret_fd, err);
    if (reached != NOBODY)
        return reached;
    // Half-written only while a daemon starts: then there is somebody to wait for.
    if (!hf_lock_look(settings->state, &held, &holder, err))
        return err->kind == HF_ERR_CORRUPT ? NOBODY : FAILED;
    return held ? connect_to(holder.socket, ret_fd, err) : NOBODY;
}

static enum reached
connect_to(const char *path, int *ret_fd, struct hf_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        hf_fail(err, HF_ERR_USAGE, "the path of the socket is longer than %zu bytes: \"%s\"",
                sizeof address.sun_path - 1, path);
        return FAILED;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    _cleanup_(hf_closep) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
        *ret_fd = HF_TAKE_FD(fd);
        return REACHED;
    }
    if (fd >= 0 && (errno == ENOENT || errno == ECONNREFUSED || errno == ENOTDIR))
        return NOBODY;
    hf_fail_errno(err, HF_ERR_NONE, "could not reach holdfastd on \"%s\"", path);
    if (err->kind == HF_ERR_DENIED)
        hf_fail_hint(err, "It serves root and the user it runs as.");
    return FAILED;
}

/* True: there is a daemon now that can be asked, ours or that of somebody who was faster. */
static bool
start_embedded(const struct hf_settings *settings, struct hf_error *err)
{
    char program[PATH_MAX], socket[HF_SOCKET_BYTES], ready_fd[16];
    int ends[2];
    _cleanup_(hf_closep) int log = -1;
    if (!find_daemon(program, err) || !choose_socket(settings, socket, err) || !open_log(settings, &log, err))
        return false;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe");
    _cleanup_(hf_closep) int ready = ends[0];
    _cleanup_(hf_closep) int theirs = ends[1];

    const int passed[][2] = {{theirs, READY_FD}};
    snprintf(ready_fd, sizeof ready_fd, "%d", READY_FD);
    const char *const argv[] = {program, "--settings", settings->file, "--embedded", "--socket",
                                socket,  "--ready-fd", ready_fd,       NULL};
    const struct hf_process_options options = {
        .argv = argv,
        .environment = (const char *const *)environ, // HOME and libpq's variables are the owner's to set
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = log,
        .pass_fds = passed,
        .pass_fd_count = 1,
        .outlives_us = true,
    };
    struct hf_process process;
    if (!hf_process_start(&options, &process, err))
        return hf_fail_within(err, "could not start holdfastd");
    close(process.pidfd); // it leaves by itself
    hf_closep(&theirs);
    return hear_start(HF_TAKE_FD(ready), err);
}

/* Beside our own program, else where it is installed. */
static bool
find_daemon(char program[static PATH_MAX], struct hf_error *err)
{
    static const char *const places[] = {"/usr/sbin/holdfastd", "/usr/local/sbin/holdfastd"};
    char own[PATH_MAX - 16];
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    if (length > 0) {
        own[length] = '\0';
        *strrchr(own, '/') = '\0';
        snprintf(program, PATH_MAX, "%s/holdfastd", own);
        if (access(program, X_OK) == 0)
            return true;
    }
    for (size_t i = 0; i < HF_LENGTH(places); i++) {
        snprintf(program, PATH_MAX, "%s", places[i]);
        if (access(program, X_OK) == 0)
            return true;
    }
    return hf_fail(err, HF_ERR_NOT_FOUND, "holdfastd is neither beside this program nor in \"%s\"", places[0]);
}

static bool
choose_socket(const struct hf_settings *settings, char path[static HF_SOCKET_BYTES], struct hf_error *err)
{
    const struct hf_id id = hf_id_new();
    char text[HF_ID_TEXT_BYTES];
    int length = snprintf(path, HF_SOCKET_BYTES, "%s/embedded-%.8s.sock", settings->state, hf_id_format(&id, text));
    if (length < HF_SOCKET_BYTES)
        return true;
    return hf_fail(err, HF_ERR_USAGE, "the path of the state folder is too long for a socket in it: \"%s\"",
                   settings->state);
}

/* What an embedded daemon has to say to nobody in particular. */
static bool
open_log(const struct hf_settings *settings, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    struct stat status;
    _cleanup_(hf_freep) char *path = hf_path_join(settings->state, LOG_NAME);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the log");
    if (!hf_dir_make(settings->state, 0711, err))
        return false;
    fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (status.st_size > (off_t)LOG_MOST && ftruncate(fd, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not empty \"%s\"", path);
    *ret_fd = HF_TAKE_FD(fd);
    return true;
}

static bool
hear_start(int fd, struct hf_error *err)
{
    struct hf_wire wire;
    _cleanup_(hf_json_freep) json_t *event = NULL;
    hf_wire_init(&wire, fd, HF_WIRE_REQUEST_MOST, 0);
    bool heard = hf_wire_wait(&wire, &event, err);
    hf_wire_done(&wire);
    if (!heard)
        return hf_fail_within(err, "could not hear whether holdfastd started");
    if (event == NULL) {
        hf_fail(err, HF_ERR_UNAVAILABLE, "holdfastd ended while it started");
        return hf_fail_hint(err, "\"%s\" in the state folder may say why.", LOG_NAME);
    }
    const char *name = json_string_value(json_object_get(event, "event"));
    if (name != NULL && strcmp(name, "ready") == 0)
        return true;
    // Of two that start at once one gets the lock; "busy" says that it was not us.
    if (name != NULL && strcmp(name, "busy") == 0)
        return true;
    hf_event_read_error(event, err);
    return false;
}

static bool
converse(int fd, const json_t *request, const struct hf_client_watch *watch, bool *ret_silent, json_t **ret_result,
         enum hf_exit *ret_exit, struct hf_error *err)
{
    _cleanup_(hf_wire_done) struct hf_wire wire;
    bool cancelled = false;
    hf_wire_init(&wire, fd, HF_WIRE_EVENT_MOST, 2 * HF_WIRE_REQUEST_MOST);
    *ret_silent = false;
    if (!hf_wire_put(&wire, request, err))
        return hf_fail_within(err, "the request");
    *ret_silent = true;
    if (!hf_wire_flush(&wire, err))
        return false;

    while (true) {
        _cleanup_(hf_json_freep) json_t *event = NULL;
        bool failed;
        if (!hf_wire_next(&wire, &event, err))
            return hf_fail_within(err, "holdfastd answered something else than JSON");
        if (event == NULL && wire.ended)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "holdfastd ended before it answered");
        if (event == NULL) {
            if (!wait_readable(&wire, watch, &cancelled, err) || !hf_wire_receive(&wire, err))
                return false;
            continue;
        }
        *ret_silent = false;
        if (!is_last(event, &failed)) {
            watch->event(watch->context, event);
            continue;
        }
        if (failed) {
            hf_event_read_error(event, err);
            return false;
        }
        *ret_exit = (enum hf_exit)json_integer_value(json_object_get(event, "exit"));
        *ret_result = json_incref(json_object_get(event, "result"));
        return *ret_result != NULL || hf_fail(err, HF_ERR_CORRUPT, "holdfastd's answer has no result");
    }
}

/* Until there is something to read; sends the cancellation when it is wanted, once. */
static bool
wait_readable(struct hf_wire *wire, const struct hf_client_watch *watch, bool *cancelled, struct hf_error *err)
{
    while (true) {
        struct pollfd input = {.fd = wire->fd, .events = POLLIN};
        int ready = poll(&input, 1, LOOK_MS);
        if (ready < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_NONE, "could not wait for holdfastd");
        if (ready > 0)
            return true;
        if (*cancelled || !watch->wants_end(watch->context))
            continue;
        _cleanup_(hf_json_freep) json_t *request = json_pack("{s:s}", "command", "cancel");
        *cancelled = true;
        if (request == NULL || !hf_wire_put(wire, request, err) || !hf_wire_flush(wire, err))
            return false;
    }
}

static bool
is_last(const json_t *event, bool *ret_failed)
{
    const char *name = json_string_value(json_object_get(event, "event"));
    *ret_failed = name != NULL && strcmp(name, "error") == 0;
    return name == NULL || *ret_failed || strcmp(name, "result") == 0;
}

static void
hear_nothing(void *context, const json_t *event)
{
    (void)context, (void)event;
}

static bool
never_ends(void *context)
{
    (void)context;
    return false;
}
