#include "server/job/worker.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/job/kinds.h"
#include "server/job/oracle.h"
#include "server/storage/ssh_place.h"

#define REQUEST_MOST     (4 * HF_MIB) // the settings' text and the request
#define SECRETS_MOST     (4 * HF_MIB)
#define PASSWORD_MOST    1024
#define PROGRESS_EACH_NS UINT64_C(200000000)

struct hf_worker {
    const struct hf_job_kind *kind; // borrowed from the program's table
    struct hf_settings *settings;
    json_t *request;
    pthread_mutex_t lock; // around the events: a relay and the job itself speak
    struct hf_wire events;
    char phase[HF_WIRE_PHASE_BYTES];
    uint64_t progress_ns; // when the last progress went out
    bool bad_news;
    struct hf_vault_keys *keys; // taken by the vault
    struct hf_root_bundle signers;
    bool has_signers;
    struct hf_credential credential;
    bool has_credential;
    struct hf_signing signing;
    struct hf_vault *vault;
};

static atomic_bool cancelled; // set by the handler of SIGTERM; one job a process

static bool set_up(struct hf_worker *worker, const struct hf_job_kind *kinds, size_t kind_count, struct hf_error *err);
static bool read_request(struct hf_worker *worker, const struct hf_job_kind *kinds, size_t kind_count,
                         struct hf_error *err);
static bool read_signing(struct hf_worker *worker, const json_t *document, struct hf_error *err);
static bool read_secrets(struct hf_worker *worker, struct hf_error *err);
static bool take_secret(struct hf_worker *worker, uint8_t what, const uint8_t *bytes, size_t length,
                        struct hf_error *err);
static bool read_to_end(int fd, struct hf_buf *buf, const char *what, struct hf_error *err);
static void on_terminate(int signal);
static void send_event(struct hf_worker *worker, json_t *event);
static void tear_down(struct hf_worker *worker);
static bool open_vault(struct hf_worker *worker, struct hf_vault_keys *keys, struct hf_error *err);
static bool ask_for_signature(void *context, const void *bytes, size_t length,
                              uint8_t signature[static HF_SIGNATURE_BYTES], struct hf_error *err);

int
hf_worker_main(const struct hf_job_kind *kinds, size_t kind_count)
{
    _cleanup_(tear_down) struct hf_worker worker = {.events.fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
    _cleanup_(hf_json_freep) json_t *result = NULL;
    struct hf_error err;

    hf_wire_init(&worker.events, HF_WORKER_EVENTS_FD, 0, HF_WIRE_EVENT_MOST);
    if (set_up(&worker, kinds, kind_count, &err) && worker.kind->run(&worker, worker.request, &result, &err)) {
        if (result == NULL)
            result = json_object();
        send_event(&worker, hf_event_result(worker.bad_news ? HF_EXIT_BAD_NEWS : HF_EXIT_DONE, HF_TAKE(result)));
        return 0;
    }
    send_event(&worker, hf_event_error(&err));
    return 1;
}

const struct hf_settings *
hf_worker_settings(const struct hf_worker *worker)
{
    return worker->settings;
}

const atomic_bool *
hf_worker_cancel(const struct hf_worker *worker)
{
    (void)worker;
    return &cancelled;
}

bool
hf_worker_go_on(const struct hf_worker *worker, struct hf_error *err)
{
    return !atomic_load(hf_worker_cancel(worker)) || hf_fail(err, HF_ERR_CANCELLED, "the job was cancelled");
}

void
hf_worker_progress(struct hf_worker *worker, const char *phase, uint64_t done, uint64_t total)
{
    uint64_t now = hf_monotonic_ns();
    pthread_mutex_lock(&worker->lock);
    bool silent = strcmp(phase, worker->phase) == 0 && now - worker->progress_ns < PROGRESS_EACH_NS;
    if (!silent) {
        snprintf(worker->phase, sizeof worker->phase, "%s", phase);
        worker->progress_ns = now;
    }
    pthread_mutex_unlock(&worker->lock);
    if (!silent)
        send_event(worker, hf_event_progress(phase, done, total));
}

void
hf_worker_note(struct hf_worker *worker, enum hf_log_level level, const char *format, ...)
{
    char message[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    send_event(worker, hf_event_note(level <= HF_LOG_WARNING ? "warning" : "info", message));
}

void
hf_worker_keep(struct hf_worker *worker, json_t *kept)
{
    send_event(worker, hf_event_keep(kept));
}

void
hf_worker_report(struct hf_worker *worker, json_t *state)
{
    if (state != NULL)
        send_event(worker, json_pack("{s:s, s:o}", "event", "state", "state", state));
}

void
hf_worker_bad_news(struct hf_worker *worker)
{
    worker->bad_news = true;
}

bool
hf_worker_vault(struct hf_worker *worker, struct hf_vault **ret, struct hf_error *err)
{
    if (worker->vault == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "this job was not given the keys of a vault");
    *ret = worker->vault;
    return true;
}

bool
hf_worker_vault_of(struct hf_worker *worker, const char *engine, const char *identity, struct hf_vault **ret,
                   struct hf_error *err)
{
    if (worker->vault == NULL) {
        _cleanup_(hf_buf_done) struct hf_buf question = HF_BUF_INIT(HF_WIRE_REQUEST_MOST);
        _cleanup_(hf_buf_done) struct hf_buf keys = HF_BUF_INIT_SECRET(SECRETS_MOST);
        _cleanup_(hf_json_freep) json_t *asked = json_pack("{s:s, s:s}", "engine", engine, "identity", identity);
        struct hf_vault_keys *imported = NULL;
        if (asked == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a question");
        if (!hf_json_canonical(asked, &question, err) ||
            !hf_oracle_ask(HF_WORKER_ORACLE_FD, HF_ORACLE_VAULT, question.data, question.length, &keys, err) ||
            !hf_vault_keys_import(keys.data, keys.length, &imported, err) || !open_vault(worker, imported, err))
            return false;
    }
    *ret = worker->vault;
    return true;
}

const struct hf_credential *
hf_worker_credential(const struct hf_worker *worker)
{
    return worker->has_credential ? &worker->credential : NULL;
}

const struct hf_signing *
hf_worker_signing(const struct hf_worker *worker)
{
    return &worker->signing;
}

bool
hf_worker_source_open(const json_t *described, struct hf_worker_source *ret, struct hf_error *err)
{
    _cleanup_(hf_worker_source_done) struct hf_worker_source source = {0};
    const char *name, *slot_tag;
    json_t *settings;
    if (!hf_json_string(described, "name", "the source", &name, err) ||
        !hf_json_string(described, "slot_tag", "the source", &slot_tag, err) ||
        !hf_json_object(described, "settings", "the source", &settings, err) ||
        !hf_source_settings_from_json(name, settings, &source.settings, err))
        return false;
    if ((source.engine = hf_source_engine_find(source.settings->engine)) == NULL)
        return hf_fail(err, HF_ERR_USAGE, "there is no engine \"%s\"", source.settings->engine);
    if (source.settings->password_file != NULL &&
        !hf_secret_read_file(&source.password, source.settings->password_file, PASSWORD_MOST, true, err))
        return hf_fail_within(err, "could not read the password of source \"%s\"", name);

    snprintf(source.slot_tag, sizeof source.slot_tag, "%s", slot_tag);
    hf_stream_slot_name(source.slot_tag, source.stream_slot);
    if (source.settings->stream_slot != NULL) {
        if (!hf_stream_check_slot(source.settings->stream_slot, err))
            return false;
        snprintf(source.stream_slot, sizeof source.stream_slot, "%s", source.settings->stream_slot);
    }
    source.target = (struct hf_source_target){.name = source.settings->name,
                                              .conninfo = source.settings->connection,
                                              .tool = source.settings->backup_tool,
                                              .tool_host = source.settings->ssh,
                                              .tool_conninfo = source.settings->tool_connection,
                                              .table_keys = source.settings->table_keys,
                                              .table_keys_password = source.settings->table_keys_password,
                                              .longest_outage_ms = source.settings->longest_outage_ms};
    const char *identity = json_string_value(json_object_get(described, "identity"));
    snprintf(source.identity, sizeof source.identity, "%s", identity == NULL ? "" : identity);
    *ret = source;
    source = (struct hf_worker_source){0};
    ret->target.slot_tag = ret->slot_tag;
    ret->target.identity = ret->identity[0] == '\0' ? NULL : ret->identity;
    if (ret->settings->stream)
        ret->target.stream_slot = ret->stream_slot;
    ret->target.password = ret->password.bytes == NULL ? NULL : &ret->password;
    return true;
}

void
hf_worker_source_done(struct hf_worker_source *source)
{
    hf_source_settings_freep(&source->settings);
    hf_secret_done(&source->password);
}

static bool
set_up(struct hf_worker *worker, const struct hf_job_kind *kinds, size_t kind_count, struct hf_error *err)
{
    // A group of its own, so that the daemon can end whatever the job has started; SIGPIPE is told by write().
    const struct sigaction terminate = {.sa_handler = on_terminate}, ignore = {.sa_handler = SIG_IGN};
    if (setpgid(0, 0) != 0 || sigaction(SIGTERM, &terminate, NULL) != 0 || sigaction(SIGPIPE, &ignore, NULL) != 0 ||
        sigaction(SIGINT, &ignore, NULL) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set the worker up");
    return read_request(worker, kinds, kind_count, err) && read_secrets(worker, err);
}

static bool
read_request(struct hf_worker *worker, const struct hf_job_kind *kinds, size_t kind_count, struct hf_error *err)
{
    static const char what[] = "the job's request";
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(REQUEST_MOST);
    _cleanup_(hf_json_freep) json_t *document = NULL;
    const char *kind, *file, *settings;
    json_t *request;
    if (!read_to_end(HF_WORKER_REQUEST_FD, &text, what, err) ||
        !hf_json_parse(text.data, text.length, what, &document, err) ||
        !hf_json_string(document, "kind", what, &kind, err) ||
        !hf_json_string(document, "settings_file", what, &file, err) ||
        !hf_json_string(document, "settings_text", what, &settings, err) ||
        !hf_json_object(document, "request", what, &request, err) || !read_signing(worker, document, err) ||
        !hf_settings_parse(file, settings, strlen(settings), &worker->settings, err))
        return false;
    const struct hf_ssh_options ssh = {worker->settings->ssh.identity_file, worker->settings->ssh.known_hosts};
    if (!hf_ssh_use(&ssh, err))
        return false;

    for (size_t i = 0; i < kind_count; i++)
        if (strcmp(kinds[i].name, kind) == 0)
            worker->kind = &kinds[i];
    if (worker->kind == NULL)
        return hf_fail(err, HF_ERR_USAGE, "there is no kind of job \"%s\"", kind);
    worker->request = json_incref(request);
    return true;
}

static bool
read_signing(struct hf_worker *worker, const json_t *document, struct hf_error *err)
{
    static const char what[] = "the job's request";
    worker->signing = (struct hf_signing){.context = worker, .sign = ask_for_signature};
    return hf_json_id(document, "appliance", what, &worker->signing.appliance, err) &&
           hf_json_bytes(document, "public_key", what, worker->signing.public_key, HF_PUBLIC_BYTES, err);
}

static bool
read_secrets(struct hf_worker *worker, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf secrets = HF_BUF_INIT_SECRET(SECRETS_MOST);
    if (!read_to_end(HF_WORKER_SECRETS_FD, &secrets, "the job's secrets", err))
        return false;
    struct hf_reader reader = HF_READER(secrets.data, secrets.length);
    while (reader.position < reader.length) {
        uint8_t what = hf_reader_u8(&reader);
        size_t length = hf_reader_u32(&reader);
        const uint8_t *bytes = hf_reader_bytes(&reader, length);
        if (bytes == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "the job's secrets end too early");
        if (!take_secret(worker, what, bytes, length, err))
            return false;
    }
    return worker->keys == NULL || open_vault(worker, HF_TAKE(worker->keys), err);
}

static bool
take_secret(struct hf_worker *worker, uint8_t what, const uint8_t *bytes, size_t length, struct hf_error *err)
{
    switch (what) {
    case HF_WORKER_VAULT_KEYS:
        return hf_vault_keys_import(bytes, length, &worker->keys, err);
    case HF_WORKER_SIGNERS:
        if (length != sizeof worker->signers)
            break;
        memcpy(&worker->signers, bytes, length);
        worker->has_signers = true;
        return true;
    case HF_WORKER_CREDENTIAL:
        if (length < 1)
            break;
        worker->credential.kind = (enum hf_slot_kind)bytes[0];
        worker->has_credential = true;
        return hf_secret_copy(bytes[0] == HF_SLOT_PASSPHRASE ? &worker->credential.passphrase : &worker->credential.key,
                              bytes + 1, length - 1, err);
    default:
        break;
    }
    return hf_fail(err, HF_ERR_CORRUPT, "the job's secrets cannot be read");
}

static bool
read_to_end(int fd, struct hf_buf *buf, const char *what, struct hf_error *err)
{
    while (true) {
        uint8_t piece[4096];
        ssize_t got = read(fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read %s", what);
        if (got == 0)
            break;
        bool added = hf_buf_add(buf, piece, (size_t)got, err);
        explicit_bzero(piece, sizeof piece);
        if (!added)
            return hf_fail_within(err, "%s", what);
    }
    close(fd);
    return true;
}

static void
on_terminate(int signal)
{
    (void)signal;
    atomic_store(&cancelled, true);
}

/* Without the daemon there is nobody to work for. */
static void
send_event(struct hf_worker *worker, json_t *event)
{
    _cleanup_(hf_json_freep) json_t *sent = event;
    struct hf_error err;
    pthread_mutex_lock(&worker->lock);
    if (sent == NULL || !hf_wire_put(&worker->events, sent, &err) || !hf_wire_flush(&worker->events, &err))
        _exit(1);
    pthread_mutex_unlock(&worker->lock);
}

static void
tear_down(struct hf_worker *worker)
{
    hf_vault_freep(&worker->vault);
    hf_vault_keys_freep(&worker->keys);
    hf_credential_done(&worker->credential);
    hf_settings_freep(&worker->settings);
    hf_json_freep(&worker->request);
    hf_wire_done(&worker->events);
}

/* Takes the keys. */
static bool
open_vault(struct hf_worker *worker, struct hf_vault_keys *keys, struct hf_error *err)
{
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *taken = keys;
    if (!worker->has_signers)
        return hf_fail(err, HF_ERR_CORRUPT, "the job was given keys without signers");
    return hf_vault_open_with_keys(worker->settings->repository, HF_TAKE(taken), &worker->signers, &worker->vault, err);
}

static bool
ask_for_signature(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
                  struct hf_error *err)
{
    (void)context;
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_WIRE_REQUEST_MOST);
    if (!hf_oracle_ask(HF_WORKER_ORACLE_FD, HF_ORACLE_SIGN, bytes, length, &answer, err))
        return hf_fail_within(err, "could not have a log entry signed");
    if (answer.length != HF_SIGNATURE_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "the daemon's signature has %zu bytes", answer.length);
    memcpy(signature, answer.data, HF_SIGNATURE_BYTES);
    return true;
}
