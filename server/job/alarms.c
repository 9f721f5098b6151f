#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/evidence.h"
#include "server/job/known.h"
#include "server/job/process.h"

#define CATALOG_ALARM_MS (INT64_C(14) * 86400000) // that a damaged catalog was replaced is told so long

/* One job that is due by itself, and what to do when it fails. */
struct last_job {
    bool failed;
    char message[HF_ERROR_MESSAGE_BYTES], hint[HF_ERROR_HINT_BYTES];
};

static bool add_failed_job(struct hf_daemon *daemon, const char *kind, const char *subject, json_t *alarms,
                           struct hf_error *err);
static bool keep_last_job(void *context, const struct hf_job_row *row, struct hf_error *err);
static bool add_catalog_damage(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err);
static bool add_catalog_differences(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err);
static bool add_missing_signer(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err);
static bool add_keys(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err);
static bool add_figures(struct hf_daemon *daemon, json_t *status, json_t *alarms, struct hf_error *err);
static bool add_figures_of(struct hf_daemon *daemon, const json_t *known, json_t *row, json_t *alarms,
                           struct hf_error *err);
static bool add_objective(const char *what, const char *source, const char *words, const json_t *measured,
                          const json_t *objective, json_t *alarms, struct hf_error *err);
static bool add_evidence(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err);
static bool read_fact(struct hf_daemon *daemon, const char *name, json_t **ret, struct hf_error *err);
static bool add(json_t *alarms, const char *what, const char *source, const char *message, const char *remedy,
                struct hf_error *err);
static bool add_source_remedy(json_t *source, struct hf_error *err);
static bool add_damage_remedy(struct hf_daemon *daemon, json_t *damage, struct hf_error *err);
static bool keep_sequence(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool set_remedy(json_t *object, const char *before, const char *source, const char *after, struct hf_error *err);

bool
hf_alarms_add(struct hf_daemon *daemon, json_t *status, enum hf_exit *ret_exit, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *alarms = json_array();
    json_t *row;
    size_t index;
    if (alarms == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the status");
    json_array_foreach(json_object_get(status, "sources"), index, row)
    {
        const char *name = json_string_value(json_object_get(row, "name"));
        if (!add_source_remedy(row, err) || !add_failed_job(daemon, "retention apply", name, alarms, err))
            return false;
    }
    json_array_foreach(json_object_get(status, "damages"), index, row)
    {
        if (!add_damage_remedy(daemon, row, err))
            return false;
    }
    if (!add_failed_job(daemon, "catalog check", "", alarms, err) || !add_catalog_damage(daemon, alarms, err) ||
        !add_catalog_differences(daemon, alarms, err) || !add_missing_signer(daemon, alarms, err) ||
        !add_evidence(daemon, alarms, err) || !add_keys(daemon, alarms, err) ||
        !add_figures(daemon, status, alarms, err))
        return false;
    if (json_array_size(alarms) > 0)
        *ret_exit = HF_EXIT_BAD_NEWS;
    return hf_json_set(status, "alarms", json_incref(alarms), err);
}

bool
hf_alarms_answer_acknowledge(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                             enum hf_exit *ret_exit, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, NULL, 0, err) || !read_fact(daemon, HF_FACT_CATALOG_DAMAGED, &fact, err))
        return false;
    if (fact == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no damaged catalog to be acknowledged");
    if (!hf_catalog_fact_remove(hf_daemon_catalog(daemon), HF_FACT_CATALOG_DAMAGED, err))
        return false;
    *ret_result = json_incref(fact);
    return true;
}

static bool
add_failed_job(struct hf_daemon *daemon, const char *kind, const char *subject, json_t *alarms, struct hf_error *err)
{
    struct last_job last = {.failed = false};
    char remedy[HF_ERROR_HINT_BYTES + 128];
    bool found;
    if (!hf_catalog_job_last(hf_daemon_catalog(daemon), kind, subject, &found, keep_last_job, &last, err))
        return false;
    if (!last.failed)
        return true;
    snprintf(remedy, sizeof remedy, "%s", last.hint[0] == '\0' ? "\"holdfast job list\" shows when." : last.hint);
    return add(alarms, kind, subject[0] == '\0' ? NULL : subject, last.message, remedy, err);
}

static bool
keep_last_job(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    struct last_job *last = context;
    (void)err;
    last->failed = strcmp(row->state, "finished") != 0 && strcmp(row->state, "cancelled") != 0;
    snprintf(last->message, sizeof last->message, "%s",
             row->message == NULL ? "it was under way when holdfastd was killed" : row->message);
    snprintf(last->hint, sizeof last->hint, "%s", row->hint == NULL ? "" : row->hint);
    return true;
}

/* Until somebody has seen it, or for a while: what was local to the catalog is lost, and the disk may be failing. */
static bool
add_catalog_damage(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err)
{
    static const char what[] = "the fact about the catalog";
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    char message[HF_ERROR_MESSAGE_BYTES];
    const char *at, *name;
    int64_t since;
    if (!read_fact(daemon, HF_FACT_CATALOG_DAMAGED, &fact, err))
        return false;
    if (fact == NULL)
        return true;
    if (!hf_json_string(fact, "at", what, &at, err) || !hf_json_string(fact, "name", what, &name, err) ||
        !hf_time_parse(at, &since, err))
        return false;
    if (hf_daemon_now(daemon) - since > CATALOG_ALARM_MS)
        return hf_catalog_fact_remove(hf_daemon_catalog(daemon), HF_FACT_CATALOG_DAMAGED, err);
    snprintf(message, sizeof message,
             "the catalog was damaged and was made again from the repository at %.24s; the damaged one is \"%.300s\"",
             at, name);
    return add(alarms, "catalog damaged", NULL, message,
               "Look after the disk of the state folder; then \"holdfast catalog acknowledge\".", err);
}

static bool
add_catalog_differences(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err)
{
    static const char what[] = "the fact about the catalog";
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    char message[HF_ERROR_MESSAGE_BYTES];
    const char *at, *first;
    int64_t differences;
    if (!read_fact(daemon, HF_FACT_CATALOG_DIFFERENCES, &fact, err))
        return false;
    if (fact == NULL)
        return true;
    if (!hf_json_string(fact, "at", what, &at, err) || !hf_json_string(fact, "first", what, &first, err) ||
        !hf_json_integer(fact, "differences", what, 1, INT64_MAX, &differences, err))
        return false;
    snprintf(message, sizeof message, "the catalog was not as the repository says in %lld rows at %.24s, one is %.300s",
             (long long)differences, at, first);
    return add(alarms, "catalog differs", NULL, message, "\"holdfast catalog rebuild\" makes it again.", err);
}

/* NULL when there is none. */
static bool
read_fact(struct hf_daemon *daemon, const char *name, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *text = NULL;
    *ret = NULL;
    return hf_catalog_fact_get(hf_daemon_catalog(daemon), name, &text, err) &&
           (text == NULL || hf_json_parse(text, strlen(text), "a local fact", ret, err));
}

/* On an empty machine that is as it should be; on one that backs up it is not. */
static bool
add_missing_signer(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err)
{
    return hf_records_can_sign(daemon->records) || hf_records_read_only(daemon->records) ||
           add(alarms, "signing_key", NULL, "there is no signing key: this machine restores, and records nothing",
               "Bring \"" HF_STATE_SIGNING_KEY "\" from the state folder of the appliance that backs up.", err);
}

/* A ledger that its witness contradicts is worse than one without a witness. */
static bool
add_evidence(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err)
{
    struct hf_error why = {0};
    if (hf_evidence_look(daemon, &why))
        return true;
    const bool disagrees = why.kind == HF_ERR_CORRUPT;
    return add(alarms, "evidence", NULL, why.message,
               disagrees
                   ? "Keep ledger and witness as they are, and find out who changed one of them."
                   : "Make ledger and witness readable and writable again; what the witness missed is added then.",
               err);
}

/* Slots whose drill is overdue, and those that did not open when they were tried. */
static bool
add_keys(struct hf_daemon *daemon, json_t *alarms, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *keys = NULL;
    size_t index;
    json_t *key;
    if (!hf_known_keys(daemon, &keys, err))
        return false;
    json_array_foreach(keys, index, key)
    {
        const char *name = json_string_value(json_object_get(key, "name")),
                   *opened = json_string_value(json_object_get(key, "opened_at")),
                   *due = json_string_value(json_object_get(key, "due_at")),
                   *failed = json_string_value(json_object_get(key, "failed"));
        char message[HF_ERROR_MESSAGE_BYTES], remedy[HF_ERROR_HINT_BYTES];
        snprintf(remedy, sizeof remedy, "holdfast key drill %.64s", name);
        if (failed != NULL) {
            snprintf(message, sizeof message, "key slot \"%.64s\" did not open: %.300s", name, failed);
            if (!add(alarms, "key slot", NULL, message, remedy, err))
                return false;
        } else if (json_is_true(json_object_get(key, "overdue"))) {
            snprintf(message, sizeof message, "the drill of key slot \"%.64s\" is overdue since %.24s; it was %s%.24s",
                     name, due, opened == NULL ? "never seen to open" : "last opened ", opened == NULL ? "" : opened);
            if (!add(alarms, "key drill", NULL, message, remedy, err))
                return false;
        }
    }
    return true;
}

/* Changes that are not proven yet, and figures against the owner's objectives; each source gains its figures too. */
static bool
add_figures(struct hf_daemon *daemon, json_t *status, json_t *alarms, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *known = NULL;
    size_t index;
    json_t *row, *facts;
    if (!hf_known_sources(daemon, &known, err))
        return false;
    json_array_foreach(json_object_get(status, "sources"), index, row)
    {
        size_t at;
        json_array_foreach(known, at, facts)
        {
            if (json_equal(json_object_get(facts, "name"), json_object_get(row, "name")) &&
                !add_figures_of(daemon, facts, row, alarms, err))
                return false;
        }
    }
    return true;
}

static bool
add_figures_of(struct hf_daemon *daemon, const json_t *known, json_t *row, json_t *alarms, struct hf_error *err)
{
    const char *name = json_string_value(json_object_get(row, "name"));
    const json_t *process = json_object_get(known, "process"), *attempt = json_object_get(row, "last_attempt");
    const char *since = json_string_value(json_object_get(process, "unproven_since"));
    const json_t *bytes = json_object_get(json_object_get(row, "newest_backup"), "logical_bytes");
    const json_t *recovery_aim = json_object_get(known, "objective_recovery_ms"),
                 *loss_aim = json_object_get(known, "objective_loss_ms");
    char message[HF_ERROR_MESSAGE_BYTES], remedy[HF_SOURCE_NAME_BYTES + 32], changed[256] = "";
    struct hf_forecast forecast;
    bool is_known;
    size_t index;
    json_t *word;
    if (!hf_known_forecast(daemon, name, json_integer_value(bytes), &is_known, &forecast, err))
        return false;
    json_t *next = is_known ? json_pack("{s:I, s:I, s:o}", "recovery_ms", (json_int_t)forecast.recovery_ms, "attempts",
                                        (json_int_t)forecast.attempts, "error_ppm",
                                        forecast.error_ppm < 0 ? json_null() : json_integer(forecast.error_ppm))
                            : json_null();
    if (!hf_json_set(row, "forecast", next, err) ||
        !hf_json_set(row, "process", json_incref((json_t *)(uintptr_t)process), err) ||
        !hf_json_set(row, "objective_recovery_ms", json_incref((json_t *)(uintptr_t)recovery_aim), err) ||
        !hf_json_set(row, "objective_loss_ms", json_incref((json_t *)(uintptr_t)loss_aim), err) ||
        !add_objective("recovery time", name, "the last recovery took", json_object_get(attempt, "recovery_ms"),
                       recovery_aim, alarms, err) ||
        !add_objective("data loss", name, "the last proven copy would have lost",
                       json_object_get(attempt, "data_loss_ms"), loss_aim, alarms, err) ||
        !add_objective("recovery forecast", name, "the next restore is forecast to take",
                       json_object_get(next, "recovery_ms"), recovery_aim, alarms, err))
        return false;
    if (since == NULL)
        return true;
    json_array_foreach(json_object_get(process, "changed"), index, word)
        snprintf(changed + strlen(changed), sizeof changed - strlen(changed), "%s%.32s", index > 0 ? ", " : "",
                 json_string_value(word));
    snprintf(message, sizeof message,
             "unproven since the change of %.24s (%s): %lld of %d backups made after it are proven", since, changed,
             (long long)json_integer_value(json_object_get(process, "proven_since")), HF_PROCESS_PROOFS);
    snprintf(remedy, sizeof remedy, "holdfast backup %s", name);
    return add(alarms, "unproven since", name, message, remedy, err);
}

static bool
add_objective(const char *what, const char *source, const char *words, const json_t *measured, const json_t *objective,
              json_t *alarms, struct hf_error *err)
{
    char message[HF_ERROR_MESSAGE_BYTES], took[HF_TIME_TEXT_BYTES], aim[HF_TIME_TEXT_BYTES];
    if (!json_is_integer(measured) || !json_is_integer(objective) ||
        json_integer_value(measured) <= json_integer_value(objective))
        return true;
    snprintf(message, sizeof message, "%s %s, the objective is %s", words,
             hf_duration_format((uint64_t)json_integer_value(measured), took),
             hf_duration_format((uint64_t)json_integer_value(objective), aim));
    return add(alarms, what, source, message, "\"holdfast report\" shows where the time goes.", err);
}

static bool
add(json_t *alarms, const char *what, const char *source, const char *message, const char *remedy, struct hf_error *err)
{
    json_t *alarm =
        json_pack("{s:s, s:s?, s:s, s:s}", "what", what, "source", source, "message", message, "remedy", remedy);
    return json_array_append_new(alarms, alarm) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the status");
}

/* The command after which the source is well, when all goes well. */
static bool
add_source_remedy(json_t *source, struct hf_error *err)
{
    const char *name = json_string_value(json_object_get(source, "name"));
    const char *health = json_string_value(json_object_get(source, "health"));
    if (strcmp(health, "proven") == 0)
        return hf_json_set(source, "remedy", json_null(), err);
    const bool tried = strcmp(health, "unproven") == 0 || strcmp(health, "inconclusive") == 0;
    return set_remedy(source, tried ? "holdfast verify " : "holdfast backup ", name, "", err);
}

/* A newer proven backup has replaced it; or the newer one is still to be proven; or there is none. */
static bool
add_damage_remedy(struct hf_daemon *daemon, json_t *damage, struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const enum hf_backup_state state = HF_BACKUP_PROVEN;
    const char *source = json_string_value(json_object_get(damage, "source"));
    struct hf_id id;
    uint64_t own = 0, newest = 0, proven = 0;
    bool found;
    if (source == NULL)
        return hf_json_set(damage, "remedy", json_null(), err);
    if (!hf_json_id(damage, "backup", "the status", &id, err) ||
        !hf_catalog_backup(catalog, &id, &found, keep_sequence, &own, err) ||
        !hf_catalog_newest_backup(catalog, source, NULL, &found, keep_sequence, &newest, err) ||
        !hf_catalog_newest_backup(catalog, source, &state, &found, keep_sequence, &proven, err))
        return false;
    if (proven > own)
        return set_remedy(damage, "holdfast retention apply ", source, " --replaced", err);
    return set_remedy(damage, newest > own ? "holdfast verify " : "holdfast backup ", source, "", err);
}

static bool
keep_sequence(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    *(uint64_t *)context = row->sequence;
    return true;
}

static bool
set_remedy(json_t *object, const char *before, const char *source, const char *after, struct hf_error *err)
{
    char remedy[HF_SOURCE_NAME_BYTES + 64];
    snprintf(remedy, sizeof remedy, "%s%s%s", before, source, after);
    return hf_json_set(object, "remedy", json_string(remedy), err);
}
