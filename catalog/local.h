/*
 * local.h - what this appliance keeps for itself: jobs, when things are due, small facts
 *
 * Lost with the catalog, and nobody is the poorer: no record of a backup, a proof or a decision is here.
 * Which states a job goes through is drawn in server/job/job_state.h; here they are words.
 */
#pragma once
#include "catalog/catalog.h"

struct hf_job_new {
    struct hf_id job;
    const char *kind, *subject;
    const char *arguments; // canonical JSON
    const char *requested_by;
    int64_t queued_at;
};
HF_MUST_CHECK bool hf_catalog_job_add(struct hf_catalog *catalog, const struct hf_job_new *job, struct hf_error *err);
/* *ret_changed false: it is not queued. */
HF_MUST_CHECK bool hf_catalog_job_start(struct hf_catalog *catalog, const struct hf_id *job, int64_t now,
                                        bool *ret_changed, struct hf_error *err);
/* `why` is NULL unless it failed.  *ret_changed false: it had ended before.  Its progress is forgotten. */
HF_MUST_CHECK bool hf_catalog_job_end(struct hf_catalog *catalog, const struct hf_id *job, const char *state,
                                      int exit_code, const struct hf_error *why, int64_t now, bool *ret_changed,
                                      struct hf_error *err);
/* Canonical JSON, in the place of what was asked for. */
HF_MUST_CHECK bool hf_catalog_job_arguments(struct hf_catalog *catalog, const struct hf_id *job, const char *arguments,
                                            struct hf_error *err);
/* At start: every job that is still queued or running was left by a daemon that is gone. */
HF_MUST_CHECK bool hf_catalog_jobs_lost(struct hf_catalog *catalog, int64_t now, int *ret_count, struct hf_error *err);
/* Forgets jobs that ended before. */
HF_MUST_CHECK bool hf_catalog_jobs_trim(struct hf_catalog *catalog, int64_t before, struct hf_error *err);

HF_MUST_CHECK bool hf_catalog_progress_put(struct hf_catalog *catalog, const struct hf_id *job, const char *phase,
                                           uint64_t done, uint64_t total, int64_t now, struct hf_error *err);

struct hf_job_row {
    struct hf_id job;
    const char *kind, *subject, *requested_by, *state;
    const char *arguments;                   // canonical JSON
    int64_t queued_at, started_at, ended_at; // -1: not yet
    int64_t exit_code;                       // -1: not yet
    const char *error_kind, *message, *hint; // NULL unless it failed
    const char *phase;                       // NULL unless it is running and has said so
    int64_t done, total;
};
typedef bool hf_job_row_visitor(void *context, const struct hf_job_row *row, struct hf_error *err);
/* Newest first, at most `most`; or one, when `job` is not NULL. */
HF_MUST_CHECK bool hf_catalog_jobs(struct hf_catalog *catalog, const struct hf_id *job, int64_t most,
                                   hf_job_row_visitor *visit, void *context, struct hf_error *err);

/* At start, before hf_catalog_jobs_lost(): the jobs that a daemon which is gone had under way, oldest first. */
HF_MUST_CHECK bool hf_catalog_jobs_running(struct hf_catalog *catalog, hf_job_row_visitor *visit, void *context,
                                           struct hf_error *err);

/* Of a kind and subject the last one that finished, or that the schedule asked for and that has ended. */
HF_MUST_CHECK bool hf_catalog_job_last(struct hf_catalog *catalog, const char *kind, const char *subject,
                                       bool *ret_found, hf_job_row_visitor *visit, void *context, struct hf_error *err);

/* When a source's job of a kind is due; *ret_found false: never yet. */
HF_MUST_CHECK bool hf_catalog_schedule_get(struct hf_catalog *catalog, const char *source, const char *kind,
                                           bool *ret_found, int64_t *ret_every_ms, int64_t *ret_next_at,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_schedule_put(struct hf_catalog *catalog, const char *source, const char *kind,
                                           int64_t every_ms, int64_t next_at, struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_schedule_remove(struct hf_catalog *catalog, const char *source, const char *kind,
                                              struct hf_error *err);

/* *ret is NULL when it was never set; free() it. */
HF_MUST_CHECK bool hf_catalog_fact_get(struct hf_catalog *catalog, const char *name, char **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_fact_put(struct hf_catalog *catalog, const char *name, const char *value,
                                       struct hf_error *err);

/* What was just seen of a pack's stored bytes. */
HF_MUST_CHECK bool hf_catalog_pack_check_put(struct hf_catalog *catalog, const struct hf_id *vault,
                                             const struct hf_id *pack, int64_t checked_at, bool sound,
                                             struct hf_error *err);
struct hf_pack_check_row {
    struct hf_id pack, vault;
    int64_t bytes, checked_at; // checked_at -1: never
    bool sound;
};
typedef bool hf_pack_check_visitor(void *context, const struct hf_pack_check_row *row, struct hf_error *err);
/* The packs that are kept, in the order in which they are to be looked at. */
HF_MUST_CHECK bool hf_catalog_pack_checks(struct hf_catalog *catalog, hf_pack_check_visitor *visit, void *context,
                                          struct hf_error *err);
struct hf_pack_check_sums {
    int64_t packs, bytes;
    int64_t never;       // of them: not looked at yet
    int64_t oldest_at;   // when the one was looked at that has waited longest; -1: never
    int64_t bytes_since; // looked at since the given moment
    int64_t unsound;     // that were not what the log says
};
HF_MUST_CHECK bool hf_catalog_pack_check_sums(struct hf_catalog *catalog, int64_t since, struct hf_pack_check_sums *ret,
                                              struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_pack_check_trim(struct hf_catalog *catalog, struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_fact_remove(struct hf_catalog *catalog, const char *name, struct hf_error *err);
