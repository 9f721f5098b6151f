/*
 * kinds.h - the kinds of jobs: one row each, and what a row's functions may use
 *
 * A job is one request that takes time.  Three functions of its kind see it, in this order:
 *
 *   prepare   in the daemon, when the job starts: checks the arguments, gathers what the worker will need into
 *             the request.  Quick, no foreign bytes.  May be NULL: the request is the arguments.
 *   run       in a worker process of its own (worker.h): does the work, meets the foreign bytes, reports.
 *   conclude  in the daemon, after the worker ended and the logs were read: writes the records (verdicts, evidence),
 *             starts what follows.  Also called when it failed or was cancelled.  May be NULL.
 *
 * A kind without `run` needs no worker: what prepare() gives is the result that conclude() gets, in the daemon. 
 * That is
 * for what is quick, meets no foreign bytes, and is to be found among the jobs all the same.
 *
 * A kind's name is also the name of its command (wire.h).
 */
#pragma once
#include "server/job/daemon.h"
#include "server/job/worker.h"

/* What a worker of the kind is handed (worker.h), besides its request. */
enum hf_job_needs {
    HF_JOB_NEEDS_NOTHING = 0,
    HF_JOB_NEEDS_VAULT = 1 << 0,      // the keys of the vault that prepare() chose: hf_job_set_vault()
    HF_JOB_NEEDS_LINEAGE = 1 << 1,    // may ask for the keys of the vault of the database that it reaches
    HF_JOB_NEEDS_CREDENTIAL = 1 << 2, // the key of a slot: it unwraps as a restore on an empty machine would
    HF_JOB_NEEDS_EVERY_LOG = 1 << 3,  // may write to the log of any vault
    HF_JOB_NEEDS_SIGNER = 1 << 4,     // ends in records, so a machine that has no signing key does not begin it
};

#define HF_JOB_SIGNS_MOST 8

struct hf_job_kind {
    const char *name;
    bool of_source;       // the argument "source" names what it is about; else it is about the appliance
    bool source_optional; // without that argument it is about the appliance
    bool endless;         // runs as long as nobody stops it; of one source only one at a time
    unsigned needs;       // of enum hf_job_needs
    bool sandboxed;       // runs a copy in a sandbox: takes a place of that budget (order.h), none of jobs_at_once
    bool background;      // takes no place of jobs_at_once, and keeps out of everybody's way by itself
    bool often;           // asked for by programs again and again: not noted among the jobs
    enum hf_log_kind signs[HF_JOB_SIGNS_MOST]; // log entries its worker may write; 0 ends the list
    const char *apart;                         // never runs beside a job of this kind; NULL: none
    bool (*prepare)(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
    bool (*run)(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
    /* In the daemon, for each hf_worker_keep() of the worker: notes what may not be lost with it.  May be NULL. */
    bool (*keep)(struct hf_daemon *daemon, struct hf_job *job, const json_t *kept, struct hf_error *err);
    /*
     * *result is what run() returned, and may be changed: it is what the client gets; NULL when the job did
     * not get that far, and then `why` says why.  Failing here fails the job.
     */
    bool (*conclude)(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                     struct hf_error *err);
};

/* The table of holdfastd; another main (of a test) can hand over its own. */
extern const struct hf_job_kind hf_job_kinds[];
extern const size_t hf_job_kind_count;

/* The run functions, and what goes with them, each in run_<name>.c. */
bool hf_doctor_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_doctor_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_backup_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_backup_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
/* The verification that follows a backup, where the source wants it (watch.c). */
bool hf_backup_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                        struct hf_error *err);
bool hf_verify_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_verify_job_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_verify_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                        struct hf_error *err);
bool hf_restore_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_restore_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
/* A restore into a sandbox, to be looked into; and one from which a part is handed out. */
bool hf_inspect_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_inspect_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_dump_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_dump_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_check_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                       struct hf_error *err);
bool hf_scrub_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_scrub_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_scrub_keep(struct hf_daemon *daemon, struct hf_job *job, const json_t *kept, struct hf_error *err);
bool hf_scrub_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                       struct hf_error *err);
/* Takes back the pins of jobs that are no more. */
bool hf_gc_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_gc_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
/* retention.c, holds.c */
bool hf_retention_apply_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request,
                                struct hf_error *err);
bool hf_retention_apply_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result,
                                 const struct hf_error *why, struct hf_error *err);
/* catalog_check.c */
bool hf_catalog_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_catalog_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result,
                               const struct hf_error *why, struct hf_error *err);
bool hf_lock_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_lock_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_lock_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                      struct hf_error *err);
/* The second place.  Without keys; hf_copy_run does both. */
bool hf_copy_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_sync_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_copy_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_copy_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                      struct hf_error *err);
bool hf_heal_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_heal_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_heal_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                      struct hf_error *err);
/* Receiving a source's log as it is written; and taking its slot back. */
bool hf_stream_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_stream_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_stream_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                        struct hf_error *err);
/*
 * A file of the archive for a server in recovery, into a folder of who asked; behind it the worker that stays
 * (log_socket.h).
 */
bool hf_log_get_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_log_get_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_log_get_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                         struct hf_error *err);
bool hf_log_serve_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_log_serve_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_stream_release_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
/* A report, from the evidence and the catalog; it holds no key. */
bool hf_report_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_report_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
/* A bundle of evidence for an auditor; the daemon signs it. */
bool hf_export_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err);
bool hf_export_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err);
bool hf_export_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                        struct hf_error *err);
