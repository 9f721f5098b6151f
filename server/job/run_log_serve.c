#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/log_ahead.h"
#include "server/job/log_serve.h"
#include "server/job/log_socket.h"
#include "server/job/peer.h"

#define SOCKETS_MOST 2

struct asker {
    struct hf_wire wire;
    uid_t uid;
    uint64_t until_ns; // by then it has asked, and has read its answer
    bool leaving;      // closed once its answer is written
};

struct serving {
    struct hf_worker *worker;
    const char *source; // borrowed from the request
    struct hf_log_ahead *ahead;
    int listen_fds[SOCKETS_MOST];
    char paths[SOCKETS_MOST][HF_SOCKET_BYTES];
    size_t socket_count;
    struct asker *askers[HF_LOG_SERVE_CLIENTS_MOST];
    size_t asker_count;
};

static bool listen_all(struct serving *serving, const json_t *sockets, struct hf_error *err);
static bool serve(struct serving *serving, struct hf_error *err);
static bool wait_for_askers(struct serving *serving, uint64_t until_ns, bool *ret_any, struct hf_error *err);
static void accept_asker(struct serving *serving, int listen_fd);
static void hear(struct serving *serving, struct asker *asker);
static bool answer(struct serving *serving, const struct asker *asker, const json_t *request, json_t **ret,
                   struct hf_error *err);
static void tell(struct asker *asker, json_t *event);
static void sweep(struct serving *serving);
static void free_asker(struct asker *asker);
static void serving_done(struct serving *serving);

bool
hf_log_serve_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', true}};
    char only[HF_JOB_SUBJECT_BYTES], path[HF_SOCKET_BYTES];
    struct hf_id vault;
    struct hf_error ignored;
    if (!hf_arguments_check(hf_job_arguments(job), known, HF_LENGTH(known), err) ||
        !hf_catalog_source_vault(hf_daemon_catalog(daemon), hf_job_subject(job), &vault, err))
        return false;
    if (hf_id_is_none(&vault))
        return hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no log here yet", hf_job_subject(job));
    hf_job_set_vault(job, &vault);
    if (!hf_log_socket(daemon->socket, hf_job_subject(job), path))
        return hf_fail(err, HF_ERR_USAGE, "the path of a socket beside \"%s\" is too long", daemon->socket);
    *ret_request = json_pack("{s:s, s:[s]}", "source", hf_job_subject(job), "sockets", path);
    if (*ret_request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (hf_log_serve_only(daemon, only, &ignored) && strcmp(only, hf_job_subject(job)) == 0 &&
        hf_log_socket(daemon->socket, NULL, path))
        (void)json_array_append_new(json_object_get(*ret_request, "sockets"), json_string(path));
    return true;
}

bool
hf_log_serve_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    static const char what[] = "the request";
    _cleanup_(serving_done) struct serving serving = {.worker = worker};
    struct hf_vault *vault;
    json_t *sockets;
    sigset_t terminate;
    (void)ret_result;
    // Heard only where we wait for it; the thread that reads ahead is born deaf to it.
    sigemptyset(&terminate);
    sigaddset(&terminate, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &terminate, NULL);
    return hf_json_string(request, "source", what, &serving.source, err) &&
           hf_json_array(request, "sockets", what, &sockets, err) && hf_worker_vault(worker, &vault, err) &&
           hf_log_ahead_start(vault, &serving.ahead, err) && listen_all(&serving, sockets, err) && serve(&serving, err);
}

static bool
listen_all(struct serving *serving, const json_t *sockets, struct hf_error *err)
{
    for (size_t i = 0; i < json_array_size(sockets) && i < SOCKETS_MOST; i++) {
        const char *path = json_string_value(json_array_get(sockets, i));
        if (path == NULL || strlen(path) >= HF_SOCKET_BYTES)
            return hf_fail(err, HF_ERR_CORRUPT, "the request names no socket");
        if (!hf_peer_listen(hf_worker_settings(serving->worker), path, HF_LOG_SERVE_CLIENTS_MOST,
                            &serving->listen_fds[i], err))
            return false;
        snprintf(serving->paths[i], sizeof serving->paths[i], "%s", path);
        serving->socket_count++;
    }
    return true;
}

/* Until nobody has asked for a while. */
static bool
serve(struct serving *serving, struct hf_error *err)
{
    uint64_t idle_at = hf_monotonic_ns() + HF_LOG_SERVE_IDLE_MS * UINT64_C(1000000);
    bool any = true;
    while (serving->asker_count > 0 || hf_monotonic_ns() < idle_at) {
        if (!hf_worker_go_on(serving->worker, err) || !wait_for_askers(serving, idle_at, &any, err))
            return false;
        if (any)
            idle_at = hf_monotonic_ns() + HF_LOG_SERVE_IDLE_MS * UINT64_C(1000000);
    }
    return true;
}

static bool
wait_for_askers(struct serving *serving, uint64_t until_ns, bool *ret_any, struct hf_error *err)
{
    struct pollfd fds[SOCKETS_MOST + HF_LOG_SERVE_CLIENTS_MOST];
    const size_t known = serving->asker_count;
    size_t count = 0;
    for (size_t i = 0; i < serving->socket_count; i++)
        fds[count++] =
            (struct pollfd){.fd = known < HF_LOG_SERVE_CLIENTS_MOST ? serving->listen_fds[i] : -1, .events = POLLIN};
    for (size_t i = 0; i < known; i++) {
        const struct asker *asker = serving->askers[i];
        fds[count++] = (struct pollfd){.fd = asker->wire.fd, .events = asker->leaving ? POLLOUT : POLLIN};
        until_ns = asker->until_ns < until_ns ? asker->until_ns : until_ns;
    }
    const uint64_t now = hf_monotonic_ns();
    const struct timespec left = {.tv_sec = until_ns > now ? (time_t)((until_ns - now) / 1000000000) : 0,
                                  .tv_nsec = until_ns > now ? (long)((until_ns - now) % 1000000000) : 0};
    sigset_t none;
    sigemptyset(&none);
    const int ready = ppoll(fds, count, &left, &none);
    if (ready < 0 && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_NONE, "could not wait for who asks for log");
    *ret_any = ready > 0;
    for (size_t i = 0; ready > 0 && i < known; i++)
        if (fds[serving->socket_count + i].revents != 0)
            hear(serving, serving->askers[i]);
    for (size_t i = 0; ready > 0 && i < serving->socket_count; i++)
        if (fds[i].revents != 0)
            accept_asker(serving, serving->listen_fds[i]);
    sweep(serving);
    return true;
}

static void
accept_asker(struct serving *serving, int listen_fd)
{
    struct hf_error why;
    uid_t uid;
    _cleanup_(hf_closep) int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || serving->asker_count == HF_LOG_SERVE_CLIENTS_MOST)
        return; // gone again; or it asks the daemon
    struct asker *asker = calloc(1, sizeof *asker);
    if (asker == NULL)
        return;
    asker->until_ns = hf_monotonic_ns() + HF_LOG_SERVE_REQUEST_MS * UINT64_C(1000000);
    const bool served = hf_peer_check(hf_worker_settings(serving->worker), fd, &uid, &why);
    hf_wire_init(&asker->wire, HF_TAKE_FD(fd), HF_WIRE_REQUEST_MOST, HF_WIRE_REQUEST_MOST);
    asker->uid = served ? uid : (uid_t)-1;
    serving->askers[serving->asker_count++] = asker;
    if (!served)
        tell(asker, hf_event_error(&why));
}

static void
hear(struct serving *serving, struct asker *asker)
{
    _cleanup_(hf_json_freep) json_t *request = NULL;
    json_t *result = NULL;
    struct hf_error err;
    if (asker->leaving) {
        if (!hf_wire_flush(&asker->wire, NULL))
            asker->until_ns = 0;
        return;
    }
    if (!hf_wire_receive(&asker->wire, &err) || !hf_wire_next(&asker->wire, &request, &err)) {
        tell(asker, hf_event_error(&err));
        return;
    }
    if (request == NULL) {
        if (asker->wire.ended)
            asker->until_ns = 0;
        return;
    }
    const char *wanted = json_string_value(json_object_get(json_object_get(request, "arguments"), "source"));
    if (wanted != NULL && strcmp(wanted, serving->source) != 0)
        asker->until_ns = 0; // its name has our socket's number: the daemon knows it
    else if (answer(serving, asker, request, &result, &err))
        tell(asker, hf_event_result(HF_EXIT_DONE, result));
    else
        tell(asker, hf_event_error(&err));
}

/* The closed table: one row. */
static bool
answer(struct serving *serving, const struct asker *asker, const json_t *request, json_t **ret, struct hf_error *err)
{
    static const struct hf_argument members[] = {
        {"command", 's', true}, {"arguments", 'o', true}, {"detach", 'b', false}};
    static const struct hf_argument known[] = {
        {"source", 's', false}, {"file", 's', true}, {"to", 's', true}, {"prefetch", 'i', false}};
    enum hf_archive_answer got;
    int64_t segments = HF_LOG_GET_AHEAD;
    const json_t *arguments = json_object_get(request, "arguments");
    if (!hf_arguments_check(request, members, HF_LENGTH(members), err) ||
        !hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    if (strcmp(json_string_value(json_object_get(request, "command")), "log get") != 0)
        return hf_fail(err, HF_ERR_DENIED, "who serves log answers \"log get\" and nothing else");
    if (json_object_get(arguments, "prefetch") != NULL &&
        !hf_json_integer(arguments, "prefetch", "the request", 0, HF_LOG_AHEAD_SEGMENTS_MOST, &segments, err))
        return false;
    const struct hf_log_wish wish = {.file = json_string_value(json_object_get(arguments, "file")),
                                     .to = json_string_value(json_object_get(arguments, "to")),
                                     .asker = (int64_t)asker->uid,
                                     .segments = segments};
    if (!hf_log_ahead_get(serving->ahead, &wish, &got, err))
        return false;
    *ret = json_pack("{s:s, s:b, s:b, s:s}", "file", wish.file, "found", (int)(got != HF_ARCHIVE_BEYOND), "whole",
                     (int)(got == HF_ARCHIVE_WHOLE), "source", serving->source);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

/* Takes the event.  Its one answer; whoever is left without it asks the daemon. */
static void
tell(struct asker *asker, json_t *event)
{
    _cleanup_(hf_json_freep) json_t *told = event;
    asker->leaving = true;
    if (told == NULL || !hf_wire_put(&asker->wire, told, NULL) || !hf_wire_flush(&asker->wire, NULL))
        asker->until_ns = 0;
}

static void
sweep(struct serving *serving)
{
    const uint64_t now = hf_monotonic_ns();
    size_t kept = 0;
    for (size_t i = 0; i < serving->asker_count; i++) {
        struct asker *asker = serving->askers[i];
        if (asker->until_ns <= now || (asker->leaving && !hf_wire_has_output(&asker->wire)))
            free_asker(asker);
        else
            serving->askers[kept++] = asker;
    }
    serving->asker_count = kept;
}

static void
free_asker(struct asker *asker)
{
    hf_wire_done(&asker->wire);
    free(asker);
}

/* First nobody can come any more; who came and was not heard is left without a word. */
static void
serving_done(struct serving *serving)
{
    for (size_t i = 0; i < serving->socket_count; i++) {
        unlink(serving->paths[i]);
        close(serving->listen_fds[i]);
    }
    for (size_t i = 0; i < serving->asker_count; i++)
        free_asker(serving->askers[i]);
    hf_log_ahead_stopp(&serving->ahead);
}
