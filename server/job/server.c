#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "server/job/daemon_internal.h"
#include "server/job/peer.h"

#define PROGRESS_BEHIND_MOST (256 * HF_KIB) // a client that is further behind misses progress, and nothing else

static void refuse_connection(int fd, const struct hf_error *why);
static void take_request(struct hf_daemon *daemon, struct hf_client *client, const json_t *request);
static bool may_ask(const struct hf_daemon *daemon, uid_t uid, const char *command);
static bool read_request(const json_t *request, const char **ret_command, const json_t **ret_arguments,
                         bool *ret_detach, struct hf_error *err);
static bool serve(struct hf_daemon *daemon, struct hf_client *client, const char *command, const json_t *arguments,
                  bool detach, struct hf_error *err);
static bool watch_job(struct hf_daemon *daemon, struct hf_client *client, const json_t *arguments, bool *ret_waits,
                      struct hf_error *err);
static bool queue_job(struct hf_daemon *daemon, struct hf_client *client, const char *command, const json_t *arguments,
                      bool detach, struct hf_error *err);
static void send_event(struct hf_client *client, json_t *event);
static void send_error(struct hf_client *client, const struct hf_error *err);
static void lose_client(struct hf_daemon *daemon, struct hf_client *client);

/* We hold the lock of the state folder, so a socket that lies there is a dead daemon's. */
bool
hf_server_listen(struct hf_daemon *daemon, struct hf_error *err)
{
    return hf_peer_listen(daemon->settings, daemon->socket, HF_CLIENTS_MOST, &daemon->listen_fd, err);
}

void
hf_server_accept(struct hf_daemon *daemon)
{
    struct hf_error err;
    uid_t uid;
    _cleanup_(hf_closep) int fd = accept4(daemon->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return; // gone again
    struct hf_client *client = NULL;
    if (!hf_peer_check(daemon->settings, fd, &uid, &err)) {
        refuse_connection(fd, &err);
        return;
    }
    if (daemon->client_count < HF_CLIENTS_MOST)
        client = calloc(1, sizeof *client);
    if (client == NULL) {
        hf_fail(&err, HF_ERR_UNAVAILABLE, "%d clients are connected already", HF_CLIENTS_MOST);
        refuse_connection(fd, &err);
        return;
    }
    client->uid = uid;
    hf_wire_init(&client->wire, HF_TAKE_FD(fd), HF_WIRE_REQUEST_MOST, HF_WIRE_BEHIND_MOST);
    daemon->clients[daemon->client_count++] = client;
}

void
hf_server_hear(struct hf_daemon *daemon, struct hf_client *client)
{
    struct hf_error err;
    if (!hf_wire_receive(&client->wire, &err)) {
        send_error(client, &err);
        client->leaving = true;
    }
    while (!client->leaving) {
        _cleanup_(hf_json_freep) json_t *request = NULL;
        if (!hf_wire_next(&client->wire, &request, &err)) {
            err.kind = HF_ERR_USAGE;
            send_error(client, &err);
            client->leaving = true;
            break;
        }
        if (request == NULL)
            break;
        take_request(daemon, client, request);
    }
    if (client->wire.ended)
        client->leaving = true;
    if (client->leaving)
        lose_client(daemon, client);
    hf_server_flush(daemon, client);
}

void
hf_server_flush(struct hf_daemon *daemon, struct hf_client *client)
{
    if (hf_wire_flush(&client->wire, NULL))
        return;
    hf_buf_clear(&client->wire.out); // nobody reads it any more
    client->wire.written = 0;
    client->leaving = true;
    lose_client(daemon, client);
}

void
hf_server_tell(struct hf_daemon *daemon, const struct hf_job *job, json_t *event)
{
    _cleanup_(hf_json_freep) json_t *told = event;
    const char *name = json_string_value(json_object_get(told, "event"));
    bool progress = name != NULL && strcmp(name, "progress") == 0;
    for (size_t i = 0; i < daemon->client_count; i++) {
        struct hf_client *client = daemon->clients[i];
        if (client->job != job || told == NULL)
            continue;
        if (progress && client->wire.out.length - client->wire.written > PROGRESS_BEHIND_MOST)
            continue;
        send_event(client, json_incref(told));
    }
}

void
hf_server_tell_end(struct hf_daemon *daemon, const struct hf_job *job, json_t *event)
{
    hf_server_tell(daemon, job, event);
    for (size_t i = 0; i < daemon->client_count; i++)
        if (daemon->clients[i]->job == job)
            daemon->clients[i]->job = NULL;
}

void
hf_server_sweep(struct hf_daemon *daemon)
{
    size_t kept = 0;
    for (size_t i = 0; i < daemon->client_count; i++)
        if (daemon->clients[i]->leaving)
            lose_client(daemon, daemon->clients[i]);
    for (size_t i = 0; i < daemon->client_count; i++) {
        struct hf_client *client = daemon->clients[i];
        if (client->leaving && !hf_wire_has_output(&client->wire)) {
            hf_wire_done(&client->wire);
            free(client);
        } else {
            daemon->clients[kept++] = client;
        }
    }
    daemon->client_count = kept;
}

void
hf_server_close(struct hf_daemon *daemon)
{
    for (size_t i = 0; i < daemon->client_count; i++) {
        hf_wire_done(&daemon->clients[i]->wire);
        free(daemon->clients[i]);
    }
    daemon->client_count = 0;
    if (daemon->listen_fd >= 0)
        unlink(daemon->socket);
    hf_closep(&daemon->listen_fd);
}

/* One line into an empty socket: it fits, or the peer has gone. */
static void
refuse_connection(int fd, const struct hf_error *why)
{
    struct hf_wire wire;
    hf_wire_init(&wire, fd, 0, HF_WIRE_REQUEST_MOST);
    _cleanup_(hf_json_freep) json_t *event = hf_event_error(why);
    if (event != NULL && hf_wire_put(&wire, event, NULL))
        (void)!hf_wire_flush(&wire, NULL);
    hf_buf_done(&wire.out);
    hf_log_warning(why, "a connection was refused");
}

static void
take_request(struct hf_daemon *daemon, struct hf_client *client, const json_t *request)
{
    const char *command;
    const json_t *arguments;
    bool detach;
    struct hf_error err;
    if (!read_request(request, &command, &arguments, &detach, &err)) {
        send_error(client, &err);
        client->leaving = true;
        return;
    }
    if (client->job != NULL) {
        if (strcmp(command, "cancel") == 0) {
            hf_jobs_cancel(daemon, client->job);
            return;
        }
        hf_fail(&err, HF_ERR_USAGE, "while a job runs, only \"cancel\" is heard");
        send_error(client, &err);
        client->leaving = true;
        return;
    }
    if (client->uid != geteuid() && client->uid != 0 && (!may_ask(daemon, client->uid, command) || detach)) {
        hf_fail(&err, HF_ERR_DENIED, "user %u may get log with \"wal-get\" and nothing else", (unsigned)client->uid);
        if (!hf_peer_listed(daemon->settings->log_readers, client->uid))
            hf_fail(&err, HF_ERR_DENIED, "user %u may confirm a \"vault shred\" and nothing else",
                    (unsigned)client->uid);
        send_error(client, &err);
        return;
    }
    if (!serve(daemon, client, command, arguments, detach, &err))
        send_error(client, &err);
}

/* Of those who are neither ourselves nor root. */
static bool
may_ask(const struct hf_daemon *daemon, uid_t uid, const char *command)
{
    return (strcmp(command, "log get") == 0 && hf_peer_listed(daemon->settings->log_readers, uid)) ||
           (strcmp(command, "vault shred") == 0 && hf_peer_listed(daemon->settings->shred_confirmers, uid));
}

static bool
read_request(const json_t *request, const char **ret_command, const json_t **ret_arguments, bool *ret_detach,
             struct hf_error *err)
{
    static const struct hf_argument members[] = {
        {"command", 's', true}, {"arguments", 'o', false}, {"detach", 'b', false}};
    static json_t *none;
    if (!hf_arguments_check(request, members, HF_LENGTH(members), err))
        return false;
    if (none == NULL && (none = json_object()) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    const json_t *arguments = json_object_get(request, "arguments");
    *ret_command = json_string_value(json_object_get(request, "command"));
    *ret_arguments = arguments == NULL ? none : arguments;
    *ret_detach = json_is_true(json_object_get(request, "detach"));
    return true;
}

static bool
serve(struct hf_daemon *daemon, struct hf_client *client, const char *command, const json_t *arguments, bool detach,
      struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *result = NULL;
    enum hf_exit code = HF_EXIT_DONE;
    bool found, waits;
    if (strcmp(command, "cancel") == 0)
        return hf_fail(err, HF_ERR_USAGE, "there is no job to cancel: it has ended, or \"job cancel\" is meant");
    if (strcmp(command, "job watch") == 0) {
        if (!watch_job(daemon, client, arguments, &waits, err) || waits)
            return waits;
        return hf_fail(err, HF_ERR_NOT_FOUND, "that job has ended or was never there");
    }
    snprintf(daemon->asker, sizeof daemon->asker, "uid %u", (unsigned)client->uid);
    if (!hf_commands_answer(daemon, command, arguments, &found, &result, &code, err))
        return false;
    if (!found)
        return queue_job(daemon, client, command, arguments, detach, err);
    send_event(client, hf_event_result(code, HF_TAKE(result)));
    return true;
}

/* Another client's job, or one's own after coming back: seen, not owned. */
static bool
watch_job(struct hf_daemon *daemon, struct hf_client *client, const json_t *arguments, bool *ret_waits,
          struct hf_error *err)
{
    static const struct hf_argument known[] = {{"job", 's', true}};
    struct hf_id id;
    *ret_waits = false;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !hf_id_parse(json_string_value(json_object_get(arguments, "job")), &id, err))
        return false;
    struct hf_job *job = hf_jobs_find(daemon, &id);
    if (job == NULL)
        return true;
    client->job = job;
    client->owns_job = false;
    send_event(client, hf_event_job(&job->id, hf_job_state_name(job->state)));
    *ret_waits = true;
    return true;
}

static bool
queue_job(struct hf_daemon *daemon, struct hf_client *client, const char *command, const json_t *arguments, bool detach,
          struct hf_error *err)
{
    char requested_by[HF_REQUESTED_BY_BYTES];
    struct hf_job *job;
    snprintf(requested_by, sizeof requested_by, "uid %u", (unsigned)client->uid);
    const struct hf_job_wish wish = {
        .kind = command, .arguments = arguments, .requested_by = requested_by, .asker = (int64_t)client->uid};
    if (!hf_jobs_add(daemon, &wish, &job, err))
        return false;
    hf_log_info("job %s \"%s\" was asked for by %s", job->kind->name, job->subject, requested_by);
    if (detach) {
        send_event(client, hf_event_result(HF_EXIT_DONE, json_pack("{s:o}", "job", hf_json_id_text(&job->id))));
        return true;
    }
    client->job = job;
    client->owns_job = true;
    send_event(client, hf_event_job(&job->id, hf_job_state_name(HF_JOB_QUEUED)));
    return true;
}

/* A client that does not read what it asked for is cut off. */
static void
send_event(struct hf_client *client, json_t *event)
{
    _cleanup_(hf_json_freep) json_t *sent = event;
    struct hf_error err;
    if (sent != NULL && hf_wire_put(&client->wire, sent, &err))
        return;
    if (sent == NULL)
        hf_fail(&err, HF_ERR_NO_MEMORY, "out of memory for an event");
    hf_log_warning(&err, "a client was cut off");
    hf_buf_clear(&client->wire.out);
    client->wire.written = 0;
    client->leaving = true;
}

static void
send_error(struct hf_client *client, const struct hf_error *err)
{
    send_event(client, hf_event_error(err));
}

/* Nobody waits for an interactive job any more: it ends. */
static void
lose_client(struct hf_daemon *daemon, struct hf_client *client)
{
    struct hf_job *job = client->job;
    bool owned = client->owns_job;
    client->job = NULL;
    client->owns_job = false;
    if (job != NULL && owned) {
        hf_log_info("who asked for job %s \"%s\" has gone: it is cancelled", job->kind->name, job->subject);
        hf_jobs_cancel(daemon, job);
    }
}
