#include "server/job/known.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/evidence.h"
#include "server/job/key_records.h"
#include "server/job/process.h"
#include "server/report/report.h"

#define ATTEMPTS_LOOKED_AT 1000 // for the last time a slot opened
#define EVIDENCE_READ      (HF_FORECAST_ATTEMPTS + 1)

/* The sources, while they are listed. */
struct listing {
    struct hf_daemon *daemon;
    json_t *list;
};

/* The last time an attempt went through a slot. */
struct opened {
    const char *slot;
    int64_t at;
};

/* Evidence of past attempts, newest first. */
struct past {
    struct hf_id evidence[EVIDENCE_READ];
    size_t count;
};

static bool add_source(void *context, const struct hf_source_row *row, struct hf_error *err);
static json_t *positive(int64_t number);
static bool keep_opened(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool keep_evidence(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool read_sample(struct hf_ledger *ledger, const char *folder, const struct hf_id *id,
                        const struct hf_trust *trust, struct hf_recovery_sample *ret);
static json_t *time_or_null(int64_t ms);

bool
hf_known_sources(struct hf_daemon *daemon, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    struct listing listing = {daemon, list};
    if (list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the sources");
    if (!hf_catalog_sources(hf_daemon_catalog(daemon), add_source, &listing, err))
        return false;
    *ret = HF_TAKE(list);
    return true;
}

bool
hf_known_keys(struct hf_daemon *daemon, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array(), *records = NULL;
    struct hf_repository *repository = hf_records_repository(hf_daemon_records(daemon));
    const struct hf_id id = hf_repository_id(repository);
    const int64_t every = hf_daemon_settings(daemon)->key_drill_every_ms;
    struct hf_slot_info slots[HF_SLOTS_MOST];
    size_t count;
    if (list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the key slots");
    if (!hf_slot_list(hf_repository_backend(repository), &id, slots, &count, err) ||
        !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char text[HF_ID_TEXT_BYTES];
        struct opened opened = {.slot = slots[i].name, .at = -1};
        const json_t *record = json_object_get(records, hf_id_format(&slots[i].id, text));
        const json_t *drilled = json_object_get(record, "drilled_at");
        if (!hf_catalog_attempts(hf_daemon_catalog(daemon), NULL, NULL, ATTEMPTS_LOOKED_AT, keep_opened, &opened, err))
            return false;
        if (json_is_integer(drilled) && json_integer_value(drilled) > opened.at)
            opened.at = json_integer_value(drilled);
        const int64_t from = opened.at >= 0 ? opened.at : slots[i].created_at, due = from + every;
        const json_t *drill = json_object_get(record, "drill");
        const char *result = json_string_value(json_object_get(drill, "result"));
        const bool failed = result != NULL && strcmp(result, "failed") == 0 &&
                            json_integer_value(json_object_get(drill, "at")) > opened.at;
        json_t *key = json_pack(
            "{s:s, s:s, s:b, s:o, s:o, s:b, s:O?}", "name", slots[i].name, "kind", hf_slot_kind_name(slots[i].kind),
            "unattended", (int)hf_keys_open_unattended(daemon, &slots[i]), "opened_at", time_or_null(opened.at),
            "due_at", time_or_null(every > 0 ? due : -1), "overdue", (int)(every > 0 && hf_daemon_now(daemon) > due),
            "failed", failed ? json_object_get(drill, "reason") : NULL);
        if (json_array_append_new(list, key) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the key slots");
    }
    *ret = HF_TAKE(list);
    return true;
}

bool
hf_known_all(struct hf_daemon *daemon, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *sources = NULL, *keys = NULL;
    const char *site = hf_daemon_settings(daemon)->evidence.site;
    if (!hf_known_sources(daemon, &sources, err) || !hf_known_keys(daemon, &keys, err))
        return false;
    *ret = json_pack("{s:o, s:s?, s:O, s:O}", "appliance",
                     hf_json_id_text(&hf_records_signing(hf_daemon_records(daemon))->appliance), "site", site,
                     "sources", sources, "keys", keys);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_known_forecast(struct hf_daemon *daemon, const char *source, int64_t bytes, bool *ret_known, struct hf_forecast *ret,
                  struct hf_error *err)
{
    _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
    _cleanup_(hf_freep) char *folder = NULL;
    struct past past = {.count = 0};
    struct hf_recovery_sample samples[EVIDENCE_READ];
    struct hf_error why;
    size_t count = 0;
    *ret_known = false;
    if (bytes <= 0 || hf_records_signer(hf_daemon_records(daemon)) == NULL)
        return true;
    if (!hf_catalog_attempts(hf_daemon_catalog(daemon), NULL, source, EVIDENCE_READ * 4, keep_evidence, &past, err) ||
        !hf_evidence_folder(hf_daemon_settings(daemon), &folder, err))
        return false;
    if (past.count == 0 || !hf_evidence_open_ledger(daemon, false, &ledger, &why))
        return true; // a ledger that cannot be opened is an alarm of its own
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    size_t key_count;
    if (!hf_evidence_trusted(daemon, keys, &key_count, err))
        return false;
    const struct hf_trust trust = {.keys = keys, .count = key_count};
    for (size_t i = past.count; i > 0; i--) // oldest first
        if (read_sample(ledger, folder, &past.evidence[i - 1], &trust, &samples[count]))
            count++;
    *ret_known = hf_forecast_make(samples, count, bytes, ret);
    return true;
}

static bool
add_source(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct listing *listing = context;
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    _cleanup_(hf_process_state_done) struct hf_process_state state = {.parts = NULL};
    _cleanup_(hf_json_freep) json_t *recorded = NULL, *process = NULL;
    if (!hf_json_parse(row->settings, strlen(row->settings), "the recorded source", &recorded, err) ||
        !hf_source_settings_from_json(row->name, recorded, &settings, err) ||
        !hf_process_look(listing->daemon, row->name, &state, err) || !hf_process_json(&state, &process, err))
        return false;
    json_t *source =
        json_pack("{s:s, s:s, s:s?, s:o, s:o, s:o, s:b, s:O}", "name", row->name, "engine", row->engine, "tier",
                  settings->tier, "objective_recovery_ms", positive(settings->objective.recovery_ms),
                  "objective_loss_ms", positive(settings->objective.data_loss_ms), "verify_every_ms",
                  positive(settings->verify_every_ms), "stream", (int)settings->stream, "process", process);
    return json_array_append_new(listing->list, source) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the sources");
}

static json_t *
positive(int64_t number)
{
    return number > 0 ? json_integer(number) : json_null();
}

/* Newest first: the first one that fits is the newest. */
static bool
keep_opened(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    struct opened *opened = context;
    (void)err;
    if (opened->at < 0 && row->slot != NULL && strcmp(row->slot, opened->slot) == 0)
        opened->at = row->started_at >= 0 ? row->started_at : row->recorded_at;
    return true;
}

/* Of attempts in which the database served: only those have a time. */
static bool
keep_evidence(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    struct past *past = context;
    (void)err;
    if (past->count < EVIDENCE_READ && row->recovery_ms >= 0 && !hf_id_is_none(&row->evidence))
        past->evidence[past->count++] = row->evidence;
    return true;
}

/* Only from a document whose seal holds and whose leaf is in the ledger; any other is passed over. */
static bool
read_sample(struct hf_ledger *ledger, const char *folder, const struct hf_id *id, const struct hf_trust *trust,
            struct hf_recovery_sample *ret)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    char text[HF_ID_TEXT_BYTES], path[4096];
    struct hf_receipt entry;
    struct hf_hash leaf;
    struct hf_error ignored;
    snprintf(path, sizeof path, "%s/%s.json", folder, hf_id_format(id, text));
    if (!hf_file_read(path, &bytes, &ignored) ||
        !hf_evidence_parse(bytes.data, bytes.length, "evidence", &evidence, &ignored) ||
        !hf_evidence_check_seal(&evidence, "evidence", trust, &ignored) ||
        !hf_ledger_entry(ledger, evidence.index, &entry, &ignored) ||
        !hf_merkle_leaf(bytes.data, bytes.length, &leaf, &ignored) || !hf_hash_equal(&leaf, &entry.leaf))
        return false;
    _cleanup_(hf_json_freep) json_t *summary = hf_report_summary(&evidence);
    return summary != NULL && hf_forecast_sample(summary, ret);
}

static json_t *
time_or_null(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return ms < 0 ? json_null() : json_string(hf_time_format(ms, text));
}
