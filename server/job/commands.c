#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/exceptions.h"
#include "server/job/scrub_times.h"
#include "server/job/second_places.h"
#include "server/job/stream_status.h"

#define JOBS_SHOWN_MOST     200
#define ATTEMPTS_SHOWN_MOST 1000

static hf_command_function answer_status, answer_backups, answer_source_add, answer_source_remove, answer_source_list,
    answer_job_list, answer_job_cancel, answer_evidence_list, answer_catalog_rebuild, answer_repo_promote,
    answer_version;

/* What is answered at once; everything else is a kind of job (kinds.c). */
static const struct {
    const char *name;
    hf_command_function *answer;
} commands[] = {
    {"status", answer_status},
    {"backups", answer_backups},
    {"source add", answer_source_add},
    {"source remove", answer_source_remove},
    {"source list", answer_source_list},
    {"job list", answer_job_list},
    {"job cancel", answer_job_cancel},
    {"evidence list", answer_evidence_list},
    {"catalog rebuild", answer_catalog_rebuild},
    {"retention plan", hf_retention_answer_plan},
    {"catalog acknowledge", hf_alarms_answer_acknowledge},
    {"hold add", hf_holds_answer_add},
    {"hold release", hf_holds_answer_release},
    {"hold list", hf_holds_answer_list},
    {"exception accept", hf_exceptions_answer_accept},
    {"exception withdraw", hf_exceptions_answer_withdraw},
    {"exception list", hf_exceptions_answer_list},
    {"repo promote", answer_repo_promote},
    {"vault takeover", hf_takeover_answer},
    {"version", answer_version},
    {"key list", hf_keys_list},
    {"key added", hf_keys_added}, // added, drilled and settle: what `holdfast key` asks for on its way
    {"key remove", hf_keys_remove},
    {"key drilled", hf_keys_drilled},
    {"key rotate", hf_keys_rotate},
    {"key settle", hf_keys_settle},
    {"key recovery-kit", hf_keys_recovery_kit},
    {"vault list", hf_vaults_list},
    {"vault shred", hf_vaults_shred},
};

/* What is known of one source, while its line of the status is made. */
struct health {
    json_t *newest, *proven, *attempt; // NULL for none
    json_t *accepted;  // what a person accepts of the last attempt, when that is all of it; NULL: nobody does
    bool inconclusive; // the last attempt on the newest backup
};

static bool add_source_status(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool gather_health(struct hf_daemon *daemon, const char *source, struct health *health, struct hf_error *err);
static void health_done(struct health *health);
static const char *name_health(const struct health *health);
static bool keep_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool keep_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static json_t *next_time(struct hf_daemon *daemon, const char *source, const char *kind);
static json_t *repository_status(struct hf_daemon *daemon, struct hf_error *err);
static bool add_vault_bytes(void *context, const struct hf_vault_row *row, struct hf_error *err);
static bool add_shredded(void *context, const struct hf_vault_row *row, struct hf_error *err);
static bool add_damage(void *context, const struct hf_damage_row *row, struct hf_error *err);
static bool add_gap(void *context, const struct hf_gap_row *row, struct hf_error *err);
static bool add_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool add_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool add_job(void *context, const struct hf_job_row *row, struct hf_error *err);
static bool add_open_job(void *context, const struct hf_job_row *row, struct hf_error *err);
static json_t *backup_json(const struct hf_backup_row *row);
static json_t *attempt_json(const struct hf_attempt_row *row);
static json_t *time_or_null(int64_t ms);
static json_t *number_or_null(int64_t number);
static json_t *id_or_null(const struct hf_id *id);
static bool append(json_t *array, json_t *value, struct hf_error *err);
static bool has_type(const json_t *value, char type);

bool
hf_commands_answer(struct hf_daemon *daemon, const char *command, const json_t *arguments, bool *ret_found,
                   json_t **ret_result, enum hf_exit *ret_exit, struct hf_error *err)
{
    *ret_found = false;
    for (size_t i = 0; i < HF_LENGTH(commands); i++) {
        if (strcmp(commands[i].name, command) != 0)
            continue;
        *ret_found = true;
        *ret_exit = HF_EXIT_DONE;
        if (!commands[i].answer(daemon, arguments, ret_result, ret_exit, err))
            return false;
        return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
    }
    return true;
}

bool
hf_arguments_check(const json_t *arguments, const struct hf_argument *known, size_t count, struct hf_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)arguments, name, value)
    {
        size_t i = 0;
        while (i < count && strcmp(known[i].name, name) != 0)
            i++;
        if (i == count)
            return hf_fail(err, HF_ERR_USAGE, "there is no argument \"%.64s\" here", name);
        if (!has_type(value, known[i].type))
            return hf_fail(err, HF_ERR_USAGE, "argument \"%s\" is of the wrong type", name);
    }
    for (size_t i = 0; i < count; i++)
        if (known[i].required && json_object_get(arguments, known[i].name) == NULL)
            return hf_fail(err, HF_ERR_USAGE, "argument \"%s\" is missing", known[i].name);
    return true;
}

/*
 * One line a source, and what else must not be overlooked.  Bad news: a source whose newest backup is not proven, or
 * whose log should be received and is not; a gap that no proven backup was begun behind.
 */
struct status {
    struct hf_daemon *daemon;
    json_t *sources;
    bool bad_news;
};

static bool
answer_status(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
              struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *sources = json_array(), *damages = json_array(), *gaps = json_array();
    _cleanup_(hf_json_freep) json_t *jobs = json_array(), *repository = NULL, *scrub = NULL, *copies = NULL;
    _cleanup_(hf_json_freep) json_t *shredded = json_array();
    bool bad_copies;
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    struct status status = {.daemon = daemon, .sources = sources};
    if (!hf_arguments_check(arguments, NULL, 0, err) || !hf_catalog_sources(catalog, add_source_status, &status, err) ||
        !hf_catalog_damages(catalog, add_damage, damages, err) || !hf_catalog_gaps(catalog, NULL, add_gap, gaps, err) ||
        !hf_catalog_jobs(catalog, NULL, JOBS_SHOWN_MOST, add_open_job, jobs, err) ||
        !hf_catalog_vaults(catalog, add_shredded, shredded, err) ||
        (repository = repository_status(daemon, err)) == NULL ||
        !hf_scrub_status(catalog, daemon->settings, hf_daemon_now(daemon), &scrub, err) ||
        !hf_json_set(scrub, "next_at", next_time(daemon, "", "repo scrub"), err) ||
        !hf_second_places_status(catalog, daemon->settings, hf_daemon_now(daemon), &copies, &bad_copies, err))
        return false;
    const json_t *gap;
    size_t index;
    json_array_foreach(gaps, index, gap)
    {
        if (!json_is_true(json_object_get(gap, "anchored")))
            status.bad_news = true;
    }
    if (status.bad_news || bad_copies || json_array_size(damages) > 0)
        *ret_exit = HF_EXIT_BAD_NEWS;
    *ret_result = json_pack(
        "{s:o, s:o, s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:b, s:s?}", "time", time_or_null(hf_daemon_now(daemon)),
        "appliance", id_or_null(&hf_records_signing(daemon->records)->appliance), "repository", repository, "sources",
        sources, "damages", damages, "gaps", gaps, "jobs", jobs, "scrub", scrub, "second_places", copies, "shredded",
        shredded, "embedded", (int)daemon->embedded, "catalog_set_aside", hf_records_set_aside(daemon->records));
    if (*ret_result == NULL)
        return true; // who called says so
    return hf_alarms_add(daemon, *ret_result, ret_exit, err);
}

static bool
answer_backups(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}, {"all", 'b', false}};
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *exists = NULL;
    _cleanup_(hf_json_freep) json_t *list = json_array();
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    const char *source = json_string_value(json_object_get(arguments, "source"));
    if (!hf_catalog_backups(hf_daemon_catalog(daemon), source, json_is_true(json_object_get(arguments, "all")),
                            add_backup, list, err))
        return false;
    // Backups outlive their source; but a name that never had any is a slip.
    if (source != NULL && json_array_size(list) == 0 && !hf_daemon_source(daemon, source, &exists, err))
        return false;
    *ret_result = json_pack("{s:O}", "backups", list);
    return true;
}

static bool
answer_source_add(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                  struct hf_error *err)
{
    (void)ret_exit;
    return hf_sources_add(daemon, arguments, ret_result, err);
}

static bool
answer_source_remove(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                     struct hf_error *err)
{
    (void)ret_exit;
    return hf_sources_remove(daemon, arguments, ret_result, err);
}

static bool
answer_source_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                   struct hf_error *err)
{
    (void)ret_exit;
    return hf_sources_list(daemon, arguments, ret_result, err);
}

static bool
answer_job_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    (void)ret_exit;
    if (!hf_arguments_check(arguments, NULL, 0, err) ||
        !hf_catalog_jobs(hf_daemon_catalog(daemon), NULL, JOBS_SHOWN_MOST, add_job, list, err))
        return false;
    *ret_result = json_pack("{s:O}", "jobs", list);
    return true;
}

static bool
answer_job_cancel(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                  struct hf_error *err)
{
    static const struct hf_argument known[] = {{"job", 's', true}};
    struct hf_id id;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    const char *text = json_string_value(json_object_get(arguments, "job"));
    if (!hf_id_parse(text, &id, NULL))
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not the id of a job", text);
    struct hf_job *job = hf_jobs_find(daemon, &id);
    if (job == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "job \"%s\" has ended or was never there", text);
    hf_jobs_cancel(daemon, job);
    *ret_result = json_pack("{s:s}", "job", text);
    return true;
}

static bool
answer_evidence_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                     struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}};
    _cleanup_(hf_json_freep) json_t *list = json_array();
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !hf_catalog_attempts(hf_daemon_catalog(daemon), NULL, json_string_value(json_object_get(arguments, "source")),
                             ATTEMPTS_SHOWN_MOST, add_attempt, list, err))
        return false;
    *ret_result = json_pack("{s:O, s:s}", "attempts", list, "repository", daemon->settings->repository);
    return true;
}

static bool
answer_catalog_rebuild(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                       struct hf_error *err)
{
    struct hf_rebuild_report report;
    if (!hf_arguments_check(arguments, NULL, 0, err) || !hf_records_rebuild(daemon->records, &report, err))
        return false;
    if (!hf_catalog_fact_remove(hf_daemon_catalog(daemon), HF_FACT_CATALOG_DIFFERENCES, err))
        return false;
    if (report.differences > 0)
        *ret_exit = HF_EXIT_BAD_NEWS;
    *ret_result = json_pack("{s:I, s:I, s:I, s:s, s:b}", "vaults", (json_int_t)report.vaults, "entries",
                            (json_int_t)report.entries, "differences", (json_int_t)report.differences, "first",
                            report.first, "replaced", (int)(report.differences > 0));
    return true;
}

static bool
answer_repo_promote(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                    struct hf_error *err)
{
    static const struct hf_argument known[] = {{"kit", 's', false}};
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !hf_records_promote(daemon->records, json_string_value(json_object_get(arguments, "kit")),
                            hf_daemon_now(daemon), err))
        return false;
    *ret_result = json_pack("{s:s}", "place", daemon->settings->repository);
    return true;
}

static bool
answer_version(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    (void)ret_exit;
    if (!hf_arguments_check(arguments, NULL, 0, err))
        return false;
    *ret_result =
        json_pack("{s:s, s:i, s:b}", "version", HF_VERSION, "pid", (int)getpid(), "embedded", (int)daemon->embedded);
    return true;
}

static bool
add_source_status(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct status *status = context;
    _cleanup_(health_done) struct health health = {0};
    struct hf_source_counts counts;
    if (!gather_health(status->daemon, row->name, &health, err) ||
        !hf_catalog_source_counts(hf_daemon_catalog(status->daemon), row->name, &counts, err))
        return false;
    json_t *stream = NULL;
    bool stream_is_bad = false;
    const char *name = name_health(&health);
    if (!hf_stream_status(status->daemon, row->name, &stream, &stream_is_bad, err))
        return false;
    const bool borne = health.accepted != NULL && strcmp(name, "damaged") != 0; // what is lost cannot be borne with
    if ((strcmp(name, "proven") != 0 && !borne) || stream_is_bad)
        status->bad_news = true;
    return append(status->sources,
                  json_pack("{s:s, s:s, s:s, s:s, s:O?, s:O?, s:O?, s:O?, s:I, s:I, s:o, s:o, s:o, s:o}", "name",
                            row->name, "engine", row->engine, "origin", row->origin, "health", name, "newest_backup",
                            health.newest, "newest_proven", health.proven, "last_attempt", health.attempt, "accepted",
                            health.accepted, "backups", (json_int_t)counts.backups, "stored_bytes",
                            (json_int_t)counts.stored_bytes, "next_backup_at",
                            next_time(status->daemon, row->name, "backup"), "next_verify_at",
                            next_time(status->daemon, row->name, "verify"), "next_retention_at",
                            next_time(status->daemon, row->name, "retention apply"), "stream", stream),
                  err);
}

static bool
gather_health(struct hf_daemon *daemon, const char *source, struct health *health, struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    bool found;
    if (!hf_catalog_newest_backup(catalog, source, NULL, &found, keep_backup, &health->newest, err) ||
        !hf_catalog_newest_backup(catalog, source, &proven, &found, keep_backup, &health->proven, err) ||
        !hf_catalog_attempts(catalog, NULL, source, 1, keep_attempt, &health->attempt, err))
        return false;

    const char *newest = json_string_value(json_object_get(health->newest, "backup"));
    const char *tried = json_string_value(json_object_get(health->attempt, "backup"));
    const char *result = json_string_value(json_object_get(health->attempt, "result"));
    const bool of_newest = newest != NULL && tried != NULL && strcmp(newest, tried) == 0;
    const char *evidence = json_string_value(json_object_get(health->attempt, "evidence"));
    if (of_newest && evidence != NULL && strcmp(result, "passed") != 0 &&
        !hf_exceptions_cover(daemon, evidence, &health->accepted, err))
        return false;
    health->inconclusive =
        newest != NULL && tried != NULL && strcmp(newest, tried) == 0 && strcmp(result, "inconclusive") == 0;
    return true;
}

static void
health_done(struct health *health)
{
    hf_json_freep(&health->newest);
    hf_json_freep(&health->proven);
    hf_json_freep(&health->attempt);
    hf_json_freep(&health->accepted);
}

/* An attempt that could not tell turns the source red, whatever was known before (promise 1). */
static const char *
name_health(const struct health *health)
{
    if (health->newest == NULL)
        return "none";
    const char *state = json_string_value(json_object_get(health->newest, "state"));
    bool worse = strcmp(state, "failed") == 0 || strcmp(state, "damaged") == 0;
    return health->inconclusive && !worse ? "inconclusive" : state;
}

static bool
keep_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    json_t *kept = backup_json(row);
    *(json_t **)context = kept;
    return kept != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup");
}

static bool
keep_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    json_t *kept = attempt_json(row);
    *(json_t **)context = kept;
    return kept != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an attempt");
}

/* Null when nothing is due by itself: an embedded daemon starts nothing. */
static json_t *
next_time(struct hf_daemon *daemon, const char *source, const char *kind)
{
    bool found;
    int64_t every_ms, next_at;
    if (daemon->embedded ||
        !hf_catalog_schedule_get(hf_daemon_catalog(daemon), source, kind, &found, &every_ms, &next_at, NULL) || !found)
        return json_null();
    return time_or_null(next_at);
}

static json_t *
repository_status(struct hf_daemon *daemon, struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(daemon->records);
    const struct hf_id id = hf_repository_id(repository);
    uint64_t free_bytes;
    int64_t bytes = 0;
    if (!hf_catalog_vaults(hf_daemon_catalog(daemon), add_vault_bytes, &bytes, err) ||
        !hf_backend_free_space(hf_repository_backend(repository), &free_bytes, err))
        return NULL;
    json_t *status = json_pack("{s:s, s:o, s:s, s:I, s:o, s:b}", "place", daemon->settings->repository, "repository",
                               hf_json_id_text(&id), "slot", hf_records_slot(daemon->records)->name, "stored_bytes",
                               (json_int_t)bytes, "free_bytes",
                               free_bytes > INT64_MAX ? json_null() : json_integer((json_int_t)free_bytes), "copy",
                               (int)hf_records_read_only(daemon->records));
    if (status == NULL)
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the status");
    return status;
}

static bool
add_vault_bytes(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    (void)err;
    *(int64_t *)context += row->bytes;
    return true;
}

static bool
add_shredded(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    return row->shredded_at < 0 || append(context,
                                          json_pack("{s:o, s:o}", "vault", id_or_null(&row->vault), "shredded_at",
                                                    time_or_null(row->shredded_at)),
                                          err);
}

static bool
add_damage(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *lost = NULL;
    if (row->lost != NULL && !hf_json_parse(row->lost, strlen(row->lost), "a damage", &lost, err))
        return false;
    return append(context,
                  json_pack("{s:o, s:o, s:s?, s:s?, s:o, s:O?}", "damage", id_or_null(&row->damage), "backup",
                            id_or_null(&row->backup), "source", row->source, "reason", row->reason, "found_at",
                            time_or_null(row->found_at), "lost", lost),
                  err);
}

static bool
add_gap(void *context, const struct hf_gap_row *row, struct hf_error *err)
{
    return append(context,
                  json_pack("{s:o, s:s?, s:s?, s:s?, s:o, s:b}", "vault", id_or_null(&row->vault), "from", row->from,
                            "to", row->to, "cause", row->cause, "noticed_at", time_or_null(row->noticed_at), "anchored",
                            (int)row->anchored),
                  err);
}

static bool
add_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    return append(context, backup_json(row), err);
}

static bool
add_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    return append(context, attempt_json(row), err);
}

static bool
add_job(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    return append(context,
                  json_pack("{s:o, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:s?, s:s?, s:s?, s:s?, s:I, s:I}", "job",
                            id_or_null(&row->job), "kind", row->kind, "subject", row->subject, "requested_by",
                            row->requested_by, "state", row->state, "queued_at", time_or_null(row->queued_at),
                            "started_at", time_or_null(row->started_at), "ended_at", time_or_null(row->ended_at),
                            "exit", number_or_null(row->exit_code), "error_kind", row->error_kind, "message",
                            row->message, "hint", row->hint, "phase", row->phase, "done", (json_int_t)row->done,
                            "total", (json_int_t)row->total),
                  err);
}

static bool
add_open_job(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    return row->ended_at >= 0 || add_job(context, row, err);
}

static json_t *
backup_json(const struct hf_backup_row *row)
{
    return json_pack(
        "{s:o, s:s?, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:s?, s:s?, s:o, s:s?, s:o, s:o, s:o, s:o, s:o, s:s?}",
        "backup", id_or_null(&row->backup), "source", row->source, "vault", id_or_null(&row->vault), "parent",
        id_or_null(&row->parent), "state", row->shredded_at >= 0 ? "shredded" : hf_backup_state_name(row->state),
        "state_since", time_or_null(row->state_since), "started_at", time_or_null(row->started_at), "finished_at",
        time_or_null(row->finished_at), "committed_at", time_or_null(row->committed_at), "start_lsn", row->start_lsn,
        "stop_lsn", row->stop_lsn, "timeline", number_or_null(row->timeline), "server_version", row->server_version,
        "logical_bytes", number_or_null(row->logical_bytes), "stored_bytes", number_or_null(row->stored_bytes), "files",
        number_or_null(row->files), "bad_pages", number_or_null(row->bad_pages), "pruned_at",
        time_or_null(row->pruned_at), "prune_reason", row->prune_reason);
}

static json_t *
attempt_json(const struct hf_attempt_row *row)
{
    return json_pack("{s:o, s:o, s:s?, s:s, s:s?, s:o, s:o, s:o, s:s?, s:s?, s:s?, s:s?, s:o, s:o, s:o, s:o}",
                     "attempt", id_or_null(&row->attempt), "backup", id_or_null(&row->backup), "source", row->source,
                     "result", row->result, "state", row->state, "recorded_at", time_or_null(row->recorded_at),
                     "started_at", time_or_null(row->started_at), "finished_at", time_or_null(row->finished_at),
                     "level", row->level, "scratch", row->scratch, "slot", row->slot, "reason", row->reason,
                     "recovery_ms", number_or_null(row->recovery_ms), "validation_ms",
                     number_or_null(row->validation_ms), "data_loss_ms", number_or_null(row->data_loss_ms), "evidence",
                     id_or_null(&row->evidence));
}

static json_t *
time_or_null(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return ms < 0 ? json_null() : json_string(hf_time_format(ms, text));
}

static json_t *
number_or_null(int64_t number)
{
    return number < 0 ? json_null() : json_integer(number);
}

static json_t *
id_or_null(const struct hf_id *id)
{
    return hf_id_is_none(id) ? json_null() : hf_json_id_text(id);
}

static bool
append(json_t *array, json_t *value, struct hf_error *err)
{
    return json_array_append_new(array, value) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
has_type(const json_t *value, char type)
{
    switch (type) {
    case 's':
        return json_is_string(value);
    case 'b':
        return json_is_boolean(value);
    case 'i':
        return json_is_integer(value);
    case 'o':
        return json_is_object(value);
    default:
        abort();
    }
}
