/*
 * daemon.h - holdfastd: the one process that writes the catalog, hears clients, and starts workers
 *
 * One thread, one poll loop: clients (server.c), jobs and their workers (jobs.c), schedules (schedule.c).  Nothing in
 * it waits for anyone; what takes time is a job.  This header is what the functions of a job kind and the commands
 * may use; main() is daemon_main.c.
 *
 *     holdfastd                     the service: listens on settings' `socket`, runs schedules
 *     holdfastd --embedded ...      started by `holdfast` when no service runs: a private socket, no schedules,
 *                                   leaves when it has had no client and no job for two seconds
 *     holdfastd --worker            a job (worker.h)
 * Only one runs for a state folder: lock.h.
 */
#pragma once
#include "server/job/job_state.h"
#include "server/job/records.h"
#include "server/job/wire.h"

#define HF_DAEMON_IDLE_MS    2000              // an embedded daemon leaves after that
#define HF_JOB_GRACE_MS      30000             // between SIGTERM and SIGKILL
#define HF_JOB_KEEP_MS       (90LL * 86400000) // ended jobs are listed that long
#define HF_JOB_SUBJECT_BYTES HF_SOURCE_NAME_BYTES
#define HF_JOBS_QUEUED_MOST  1000
#define HF_CLIENTS_MOST      64

struct hf_job_kind;
struct hf_daemon;
struct hf_job;

/* What an executable brings along: holdfastd its table of kinds, a test one of its own. */
struct hf_daemon_program {
    const struct hf_job_kind *kinds;
    size_t kind_count;
};

const struct hf_settings *hf_daemon_settings(const struct hf_daemon *daemon);
struct hf_records *hf_daemon_records(struct hf_daemon *daemon);
struct hf_catalog *hf_daemon_catalog(struct hf_daemon *daemon);
int64_t hf_daemon_now(const struct hf_daemon *daemon);

/* A source as recorded.  NOT_FOUND names it.  Owner: the caller. */
HF_MUST_CHECK bool hf_daemon_source(struct hf_daemon *daemon, const char *name, struct hf_source_settings **ret,
                                    struct hf_error *err);
/*
 * A source for a worker's request: {"name", "settings" {...}, "slot_tag", "vault" id or null, "identity" text or
 * null}: hf_worker_source_open() reads it.  The vault is that of its newest backup.
 */
HF_MUST_CHECK bool hf_daemon_describe_source(struct hf_daemon *daemon, const char *name, json_t **ret,
                                             struct hf_error *err);

/* Queues a job as a command of a client would.  *ret_job may be NULL.  Errors: USAGE, NOT_FOUND, NO_SPACE. */
HF_MUST_CHECK bool hf_daemon_add_job(struct hf_daemon *daemon, const char *kind, const json_t *arguments,
                                     const char *requested_by, struct hf_id *ret_job, struct hf_error *err);

/* About a job, in its kind's functions. */
struct hf_id hf_job_id(const struct hf_job *job);
const char *hf_job_subject(const struct hf_job *job); // the source, or ""
const json_t *hf_job_arguments(const struct hf_job *job);
int64_t hf_job_asker(const struct hf_job *job);            // the user who asked, or -1: the daemon itself
const char *hf_job_requested_by(const struct hf_job *job); // "uid 1000", "schedule", "after backup"
int64_t hf_job_started_at(const struct hf_job *job);
/* The vault whose keys the worker gets and whose log it may write to; in prepare(). */
void hf_job_set_vault(struct hf_job *job, const struct hf_id *vault);
/*
 * Holds a backup against collection until the job has ended, with a PIN in its vault's log whose reader is the job; in
 * prepare(), at most HF_JOB_PINS_MOST of one vault.  CONFLICT: the backup is given up already.
 */
#define HF_JOB_PINS_MOST 16
HF_MUST_CHECK bool hf_job_pin(struct hf_daemon *daemon, struct hf_job *job, const struct hf_id *vault,
                              const struct hf_id *backup, struct hf_error *err);
/* None until prepare() set it or the worker asked for it. */
struct hf_id hf_job_vault(const struct hf_job *job);
/* The answer is bad news (exit 3); in conclude(). */
void hf_job_bad_news(struct hf_job *job);

/* The process: parses its arguments, returns the exit status. */
int hf_daemon_main(int argc, char **argv, const struct hf_daemon_program *program);
