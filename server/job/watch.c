#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/schedule.h"
#include "server/job/second_places.h"

#define LOOK_EVERY_MS 60000 // at the latest: clocks are set, sources come and go

/* The sources as they stand when schedules are looked at. */
struct sources {
    struct hf_source_settings *list[HF_SETTINGS_SOURCES_MOST];
    size_t count;
};

static bool look(struct hf_daemon *daemon, int64_t *next_at, struct hf_error *err);
static bool keep_source(void *context, const struct hf_source_row *row, struct hf_error *err);
static void sources_freep(struct sources **sources);
static bool look_at_source(struct hf_daemon *daemon, const struct hf_source_settings *source, int64_t *next_at,
                           struct hf_error *err);
static bool look_at_stream(struct hf_daemon *daemon, const struct hf_source_settings *source, int64_t *next_at,
                           struct hf_error *err);
static bool keep_backup_time(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool keep_attempt_time(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool look_at_appliance(struct hf_daemon *daemon, int64_t *next_at, struct hf_error *err);
static bool look_at_kind(struct hf_daemon *daemon, const struct hf_schedule_entry *entry, int64_t *next_at,
                         struct hf_error *err);
static bool start(void *context, const char *source, const char *kind, struct hf_error *err);

void
hf_watch_schedules(struct hf_daemon *daemon)
{
    struct hf_error err;
    int64_t now = hf_daemon_now(daemon), next_at = now + LOOK_EVERY_MS;
    if (daemon->embedded || daemon->stopping || now < daemon->look_at)
        return;
    if (!look(daemon, &next_at, &err))
        hf_log_warning(&err, "schedules could not be looked at; trying again in %d s", LOOK_EVERY_MS / 1000);
    daemon->look_at = next_at;
}

bool
hf_backup_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                   struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
    struct hf_id backup;
    if (why != NULL)
        return true;
    if (!hf_json_id(*result, "backup", "the result", &backup, err) ||
        !hf_daemon_source(daemon, job->subject, &source, err))
        return false;
    if (!source->verify_after_backup)
        return true;
    _cleanup_(hf_json_freep) json_t *arguments =
        json_pack("{s:s, s:o}", "source", job->subject, "backup", hf_json_id_text(&backup));
    if (arguments == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    return hf_daemon_add_job(daemon, "verify", arguments, "after backup", NULL, err);
}

bool
hf_watch_anchor(struct hf_daemon *daemon, const char *source, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *arguments = json_pack("{s:s}", "source", source);
    if (arguments == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    return hf_daemon_add_job(daemon, "backup", arguments, "after a gap", NULL, err);
}

struct hf_job *
hf_stream_job(const struct hf_daemon *daemon, const char *source)
{
    for (size_t i = 0; i < daemon->job_count; i++)
        if (daemon->jobs[i]->kind->endless && strcmp(daemon->jobs[i]->subject, source) == 0)
            return daemon->jobs[i];
    return NULL;
}

static bool
look(struct hf_daemon *daemon, int64_t *next_at, struct hf_error *err)
{
    _cleanup_(sources_freep) struct sources *sources = calloc(1, sizeof *sources);
    if (sources == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the sources");
    if (!hf_catalog_sources(hf_daemon_catalog(daemon), keep_source, sources, err))
        return false;
    // A copy takes no backups until it is promoted.
    for (size_t i = 0; i < sources->count && !hf_records_read_only(daemon->records); i++)
        if (!look_at_source(daemon, sources->list[i], next_at, err))
            return hf_fail_within(err, "source \"%s\"", sources->list[i]->name);
    return look_at_appliance(daemon, next_at, err);
}

/* What is about no source. */
static bool
look_at_appliance(struct hf_daemon *daemon, int64_t *next_at, struct hf_error *err)
{
    const struct hf_settings *settings = daemon->settings;
    const struct hf_schedule_entry scrub = {
        .source = "", .kind = "repo scrub", .every_ms = settings->scrub.every_ms, .newest_at = -1};
    // A catalog that was just made, or was just opened, is not looked at for one interval.
    const struct hf_schedule_entry check = {.source = "",
                                            .kind = "catalog check",
                                            .every_ms = settings->catalog_check_every_ms,
                                            .newest_at = hf_daemon_now(daemon)};
    // All places in one job.
    struct hf_schedule_entry sync = {.source = "", .kind = "repo sync"};
    sync.every_ms = settings->second_place.at == NULL ? 0 : settings->second_place.sync_every_ms;
    return hf_second_places_tried_at(hf_daemon_catalog(daemon), settings, &sync.newest_at, err) &&
           look_at_kind(daemon, &scrub, next_at, err) && look_at_kind(daemon, &check, next_at, err) &&
           look_at_kind(daemon, &sync, next_at, err);
}

static bool
look_at_kind(struct hf_daemon *daemon, const struct hf_schedule_entry *entry, int64_t *next_at, struct hf_error *err)
{
    if (hf_jobs_kind(daemon, entry->kind) == NULL)
        return true; // a program that brings other kinds along
    return hf_schedule_look(hf_daemon_catalog(daemon), entry, hf_daemon_now(daemon), start, daemon, next_at, err);
}

static bool
keep_source(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct sources *sources = context;
    _cleanup_(hf_json_freep) json_t *settings = NULL;
    if (sources->count == HF_LENGTH(sources->list))
        return hf_fail(err, HF_ERR_NO_SPACE, "there are more than %zu sources", HF_LENGTH(sources->list));
    if (!hf_json_parse(row->settings, strlen(row->settings), "the recorded source", &settings, err) ||
        !hf_source_settings_from_json(row->name, settings, &sources->list[sources->count], err))
        return false;
    sources->count++;
    return true;
}

static void
sources_freep(struct sources **sources)
{
    for (size_t i = 0; *sources != NULL && i < (*sources)->count; i++)
        hf_source_settings_freep(&(*sources)->list[i]);
    free(*sources);
    *sources = NULL;
}

static bool
look_at_source(struct hf_daemon *daemon, const struct hf_source_settings *source, int64_t *next_at,
               struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    int64_t now = hf_daemon_now(daemon);
    bool found;
    struct hf_schedule_entry backup = {
        .source = source->name, .kind = "backup", .every_ms = source->backup_every_ms, .newest_at = -1};
    struct hf_schedule_entry verify = {
        .source = source->name, .kind = "verify", .every_ms = source->verify_every_ms, .newest_at = -1};
    if (!hf_catalog_newest_backup(catalog, source->name, NULL, &found, keep_backup_time, &backup.newest_at, err) ||
        !hf_catalog_attempts(catalog, NULL, source->name, 1, keep_attempt_time, &verify.newest_at, err))
        return false;
    if (!found)
        verify.every_ms = 0; // nothing to prove yet; its time is set when there is
    // Nothing is removed just because a daemon was started: the first time is one interval away.
    const struct hf_schedule_entry retention = {
        .source = source->name, .kind = "retention apply", .every_ms = source->retention_every_ms, .newest_at = now};
    return look_at_stream(daemon, source, next_at, err) &&
           hf_schedule_look(catalog, &backup, now, start, daemon, next_at, err) &&
           hf_schedule_look(catalog, &verify, now, start, daemon, next_at, err) &&
           hf_schedule_look(catalog, &retention, now, start, daemon, next_at, err);
}

/* Always one receiver, with a pause after one that ended; one whose stream is no longer wanted is stopped. */
static bool
look_at_stream(struct hf_daemon *daemon, const struct hf_source_settings *source, int64_t *next_at,
               struct hf_error *err)
{
    struct hf_job *job = hf_stream_job(daemon, source->name);
    const int64_t until = hf_stream_paused_until(daemon, source->name);
    if (!source->stream) {
        if (job != NULL)
            hf_jobs_cancel(daemon, job);
        return true;
    }
    if (job != NULL)
        return true;
    if (until > hf_daemon_now(daemon)) {
        *next_at = until < *next_at ? until : *next_at;
        return true;
    }
    return start(daemon, source->name, "stream", err);
}

static bool
keep_backup_time(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    *(int64_t *)context = row->started_at >= 0 ? row->started_at : row->committed_at;
    return true;
}

static bool
keep_attempt_time(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    (void)err;
    *(int64_t *)context = row->started_at >= 0 ? row->started_at : row->recorded_at;
    return true;
}

/* One that waits or runs already is the one that is due. */
static bool
start(void *context, const char *source, const char *kind, struct hf_error *err)
{
    struct hf_daemon *daemon = context;
    for (size_t i = 0; i < daemon->job_count; i++)
        if (strcmp(daemon->jobs[i]->kind->name, kind) == 0 && strcmp(daemon->jobs[i]->subject, source) == 0)
            return true;
    _cleanup_(hf_json_freep) json_t *arguments =
        source[0] != '\0' ? json_pack("{s:s}", "source", source) : json_object();
    if (arguments == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    return hf_daemon_add_job(daemon, kind, arguments, HF_BY_SCHEDULE, NULL, err);
}
