#include "server/job/kinds.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/lsn.h"
#include "base/time.h"
#include "server/job/daemon_internal.h"
#include "server/job/slot_watch.h"

#define RETRY_LEAST_MS   1000 // between two connections that failed, doubling up to the other
#define RETRY_MOST_MS    30000
#define STEP_US          100000
#define RESTART_LEAST_MS 1000 // between two workers; commits may be waiting for us
#define RESTART_MOST_MS  300000
#define RELEASE_TRIES    60 // a second apart: the server notices late that a reader is gone

/* What a receiver has in hand. */
struct receiving {
    struct hf_worker *worker;
    struct hf_worker_source source;
    struct hf_source_target target;
    struct hf_stream_writer *writer;
    struct hf_source_identity identity;
    struct hf_stream_report report; // the last one; its texts are those:
    char received[HF_STREAM_POSITION_BYTES], durable[HF_STREAM_POSITION_BYTES], server[HF_STREAM_POSITION_BYTES];
    uint64_t first; // position at which this worker began; 0: not yet
    int64_t gaps;
    bool reported; // by the connection that is, or was
    struct hf_slot_watch *watch;
    char released[HF_STREAM_WHY_BYTES]; // why we released the slot while nothing was received; or ""
};

static bool open_stream(struct receiving *receiving, const json_t *request, struct hf_error *err);
static bool receive(struct receiving *receiving, struct hf_error *err);
static void guard_server(struct receiving *receiving);
static bool wait_before_retry(struct receiving *receiving, int64_t ms, struct hf_error *err);
static void keep_report(void *context, const struct hf_stream_report *report);
static void tell(void *context, bool gap, const char *sentence);
static void send_state(struct receiving *receiving, const struct hf_error *problem);
static void keep_text(const char **text, char kept[static HF_STREAM_POSITION_BYTES]);
static json_t *place_or_null(const char *text, uint64_t position);
static json_t *describe_slot(struct hf_slot_watch *watch);
static json_t *position_or_null(uint64_t position);
static struct hf_stream_pause *pause_of(struct hf_daemon *daemon, const char *source);

bool
hf_stream_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', true}};
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
    json_t *described;
    if (!hf_arguments_check(job->arguments, known, HF_LENGTH(known), err) ||
        !hf_daemon_source(daemon, job->subject, &source, err))
        return false;
    if (!source->stream)
        return hf_fail(err, HF_ERR_USAGE, "source \"%s\" has no stream", job->subject) ||
               hf_fail_hint(err, "Set \"stream: yes\" for it: a replication slot is then made on its server.");
    if (!hf_daemon_describe_source(daemon, job->subject, &described, err))
        return false;
    *ret_request = json_pack("{s:o}", "source", described);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream");
}

bool
hf_stream_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct receiving receiving = {.worker = worker};
    (void)ret_result;
    hf_worker_progress(worker, "connect", 0, 0);
    struct hf_error why = {0};
    if (open_stream(&receiving, request, &why))
        (void)!receive(&receiving, &why); // it only ever ends with an error
    if (why.kind != HF_ERR_CANCELLED) {
        send_state(&receiving, &why);
        guard_server(&receiving);
    }
    hf_slot_watch_stopp(&receiving.watch);
    struct hf_error closing;
    if (receiving.writer != NULL && !hf_stream_writer_close(&receiving.writer, &closing) &&
        why.kind == HF_ERR_CANCELLED)
        why = closing;
    hf_worker_source_done(&receiving.source);
    *err = why;
    return false;
}

/* When the next worker may begin. */
bool
hf_stream_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                   struct hf_error *err)
{
    struct hf_stream_pause *pause = pause_of(daemon, job->subject);
    (void)result, (void)why;
    if (pause == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream");
    const int64_t now = hf_daemon_now(daemon);
    if (json_integer_value(json_object_get(job->report, "caught_up_at")) > 0) // it had done its work
        pause->ms = 0;
    pause->ms = pause->ms == 0 ? RESTART_LEAST_MS : 2 * pause->ms < RESTART_MOST_MS ? 2 * pause->ms : RESTART_MOST_MS;
    pause->until = now + pause->ms;
    daemon->look_at = 0;
    return true;
}

int64_t
hf_stream_paused_until(struct hf_daemon *daemon, const char *source)
{
    const struct hf_stream_pause *pause = pause_of(daemon, source);
    return pause == NULL ? 0 : pause->until;
}

/* Of a source that is not there any more: its description is among the arguments. */
bool
hf_stream_release_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_worker_source_done) struct hf_worker_source source = {0};
    json_t *described;
    bool dropped;
    if (!hf_json_object(request, "described", "the request", &described, err) ||
        !hf_worker_source_open(described, &source, err))
        return false;
    if (source.target.stream_slot == NULL)
        return hf_fail(err, HF_ERR_USAGE, "source \"%s\" has no stream", source.target.name);
    hf_worker_progress(worker, "release", 0, 0);
    for (int tries = 1; !source.engine->stream_release(&source.target, &dropped, err); tries++) {
        if (err->kind != HF_ERR_CONFLICT || tries == RELEASE_TRIES)
            return hf_fail_hint(err,
                                "The slot keeps log on the server until it is dropped there: "
                                "SELECT pg_drop_replication_slot('%s');",
                                source.target.stream_slot);
        sleep(1);
        if (!hf_worker_go_on(worker, err))
            return false;
    }
    *ret_result = json_pack("{s:s, s:s, s:b}", "source", source.target.name, "slot", source.target.stream_slot,
                            "dropped", (int)dropped);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
open_stream(struct receiving *receiving, const json_t *request, struct hf_error *err)
{
    struct hf_worker *worker = receiving->worker;
    struct hf_vault *vault;
    json_t *described;
    if (!hf_json_object(request, "source", "the request", &described, err) ||
        !hf_worker_source_open(described, &receiving->source, err))
        return false;
    receiving->target = receiving->source.target;
    if (receiving->source.engine->stream == NULL)
        return hf_fail(err, HF_ERR_USAGE, "streams of engine \"%s\" are not known", receiving->source.engine->name);
    if (!hf_slot_watch_start(&receiving->source, &receiving->watch, err))
        return false;
    for (int64_t ms = RETRY_LEAST_MS;
         !receiving->source.engine->identify(&receiving->source.target, &receiving->identity, err); ms = 2 * ms) {
        if (err->kind != HF_ERR_UNAVAILABLE ||
            !wait_before_retry(receiving, ms < RETRY_MOST_MS ? ms : RETRY_MOST_MS, err))
            return false;
    }
    if (!hf_worker_vault_of(worker, receiving->source.engine->name, receiving->identity.text, &vault, err))
        return false;
    receiving->target.identity = receiving->identity.text;
    const struct hf_stream_options options = {.vault = vault,
                                              .source = receiving->target.name,
                                              .signing = hf_worker_signing(worker),
                                              .zstd_level = (int)hf_worker_settings(worker)->compression_level};
    return hf_stream_writer_open(&options, &receiving->writer, err);
}

/* A server that is away comes back; everything else is for a person, or for a new process. */
static bool
receive(struct receiving *receiving, struct hf_error *err)
{
    struct hf_stream_receive request = {.target = &receiving->target,
                                        .let_go = hf_slot_watch_let_go(receiving->watch),
                                        .writer = receiving->writer,
                                        .cancel = hf_worker_cancel(receiving->worker),
                                        .context = receiving,
                                        .report = keep_report,
                                        .tell = tell};
    int64_t pause_ms = RETRY_LEAST_MS;
    for (;;) {
        struct hf_error unheard;
        receiving->reported = false;
        request.released = receiving->released[0] != '\0' ? receiving->released : NULL;
        if (receiving->source.engine->stream(&request, err) || err->kind != HF_ERR_UNAVAILABLE ||
            !hf_stream_writer_tick(receiving->writer, &unheard))
            return false;
        if (receiving->reported) // it was connected: a server that was restarted, whose commits may wait for us
            pause_ms = RETRY_LEAST_MS;
        if (!wait_before_retry(receiving, pause_ms, err))
            return false;
        pause_ms = 2 * pause_ms < RETRY_MOST_MS ? 2 * pause_ms : RETRY_MOST_MS;
    }
}

/* While nothing is received, the slot is released by us when it keeps too much; what is missing then is found later. */
static void
guard_server(struct receiving *receiving)
{
    char why[HF_STREAM_WHY_BYTES];
    struct hf_error err;
    bool dropped;
    if (receiving->target.stream_slot == NULL || !hf_slot_watch_is_over(receiving->watch, why))
        return;
    if (!receiving->source.engine->stream_release(&receiving->target, &dropped, &err)) {
        hf_worker_note(receiving->worker, HF_LOG_WARNING, "the slot keeps too much and could not be released: %s",
                       err.message);
        return;
    }
    if (!dropped)
        return;
    snprintf(receiving->released, sizeof receiving->released, "%s", why);
    hf_worker_note(receiving->worker, HF_LOG_WARNING, "%s", why);
}

/* CANCELLED when somebody asked us to stop meanwhile. */
static bool
wait_before_retry(struct receiving *receiving, int64_t ms, struct hf_error *err)
{
    hf_worker_note(receiving->worker, HF_LOG_WARNING, "%s; trying again in %lld s", err->message, (long long)ms / 1000);
    send_state(receiving, err);
    guard_server(receiving);
    for (const uint64_t since = hf_monotonic_ns(); hf_monotonic_ns() - since < (uint64_t)ms * 1000000;) {
        struct hf_error unheard;
        if (!hf_worker_go_on(receiving->worker, err))
            return false;
        if (receiving->writer != NULL && !hf_stream_writer_tick(receiving->writer, &unheard))
            return true; // the next attempt tells
        usleep(STEP_US);
    }
    return true;
}

static void
keep_report(void *context, const struct hf_stream_report *report)
{
    struct receiving *receiving = context;
    receiving->report = *report;
    keep_text(&receiving->report.received_text, receiving->received);
    keep_text(&receiving->report.durable_text, receiving->durable);
    keep_text(&receiving->report.server_text, receiving->server);
    receiving->reported = true;
    const uint64_t end = report->positions.received;
    if (receiving->first == 0)
        receiving->first = end;
    hf_worker_progress(receiving->worker, "receive", end > receiving->first ? end - receiving->first : 0, 0);
    send_state(receiving, NULL);
}

static void
tell(void *context, bool gap, const char *sentence)
{
    struct receiving *receiving = context;
    hf_worker_note(receiving->worker, gap ? HF_LOG_WARNING : HF_LOG_INFO, "%s", sentence);
    receiving->gaps += gap;
    if (!gap)
        return;
    receiving->released[0] = '\0'; // the cause of this one
    send_state(receiving, NULL);
}

static void
send_state(struct receiving *receiving, const struct hf_error *problem)
{
    static const char *const semi_sync_names[] = {[HF_SEMI_SYNC_UNKNOWN] = NULL,
                                                  [HF_SEMI_SYNC_OFF] = "off",
                                                  [HF_SEMI_SYNC_ON] = "on",
                                                  [HF_SEMI_SYNC_LOST] = "lost"};
    const struct hf_stream_report *report = &receiving->report;
    const struct hf_stream_positions *positions = &report->positions;
    const uint64_t behind = report->server_end > positions->durable && positions->durable != 0
                                ? report->server_end - positions->durable
                                : 0;
    hf_worker_report(
        receiving->worker,
        json_pack(
            "{s:b, s:o?, s:I, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:o, s:s?, s:I, s:o}", "connected",
            problem == NULL, "problem",
            problem == NULL ? NULL
                            : hf_json_foreign_text(problem->message, strlen(problem->message), HF_ERROR_MESSAGE_BYTES),
            "timeline", (json_int_t)report->server_timeline, "received",
            place_or_null(report->received_text, positions->received), "durable",
            place_or_null(report->durable_text, positions->durable), "sealed", position_or_null(positions->sealed),
            "server_end", place_or_null(report->server_text, report->server_end), "lag_bytes", (json_int_t)behind,
            "caught_up_at", (json_int_t)report->caught_up_at, "newest_commit_at", (json_int_t)positions->newest_time,
            "journal_bytes", (json_int_t)positions->journal_bytes, "sequence", (json_int_t)positions->sequence, "gaps",
            (json_int_t)receiving->gaps, "from_standby", (int)report->from_standby, "server_clock_ahead_ms",
            report->clock_known ? json_integer(report->server_clock_ahead_ms) : json_null(), "semi_sync",
            semi_sync_names[report->semi_sync], "semi_sync_lost_at", (json_int_t)report->semi_sync_lost_at, "slot",
            describe_slot(receiving->watch)));
}

/* The engine's buffer does not outlive the engine's call. */
static void
keep_text(const char **text, char kept[static HF_STREAM_POSITION_BYTES])
{
    if (*text == NULL)
        return;
    snprintf(kept, HF_STREAM_POSITION_BYTES, "%s", *text);
    *text = kept;
}

/* In the engine's words, if it has any: they are GTIDs, "" before the first. */
static json_t *
place_or_null(const char *text, uint64_t position)
{
    return text == NULL ? position_or_null(position) : *text == 0 ? json_null() : json_string(text);
}

/* {kept_bytes, left_bytes (null: without limit), alarm, measured_at}; null while it was not measured. */
static json_t *
describe_slot(struct hf_slot_watch *watch)
{
    const struct hf_slot_measure measure = hf_slot_watch_measure(watch);
    if (!measure.known)
        return json_null();
    return json_pack("{s:I, s:o, s:b, s:I}", "kept_bytes", (json_int_t)measure.kept.bytes, "left_bytes",
                     measure.kept.left < 0 ? json_null() : json_integer(measure.kept.left), "alarm", (int)measure.alarm,
                     "measured_at", (json_int_t)measure.measured_at);
}

static json_t *
position_or_null(uint64_t position)
{
    char text[HF_LSN_TEXT_BYTES];
    return position == 0 ? json_null() : json_string(hf_lsn_format(position, text));
}

/* Of a source, made when there is none yet; NULL without memory. */
static struct hf_stream_pause *
pause_of(struct hf_daemon *daemon, const char *source)
{
    for (size_t i = 0; i < daemon->pause_count; i++)
        if (strcmp(daemon->pauses[i].source, source) == 0)
            return &daemon->pauses[i];
    struct hf_stream_pause *grown = reallocarray(daemon->pauses, daemon->pause_count + 1, sizeof *grown);
    if (grown == NULL)
        return NULL;
    daemon->pauses = grown;
    struct hf_stream_pause *made = &grown[daemon->pause_count++];
    *made = (struct hf_stream_pause){0};
    snprintf(made->source, sizeof made->source, "%s", source);
    return made;
}
