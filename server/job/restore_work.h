/*
 * restore_work.h - what every worker that restores has in hand: the backup planned, the log behind it proven
 *
 *     open the repository -> the backup's facts -> plan its files -> prove the log up to the moment -> (the caller
 *     writes)
 *
 * With the caller's hf_restore_write() everything that the folder needs besides the backup goes in too, while it has no
 * global/pg_control yet: the configuration it lacks, the log, the target.
 */
#pragma once
#include "server/job/open_repository.h"
#include "server/job/restore_target.h"
#include "server/job/table_keys.h"
#include "server/restore/configure.h"
#include "server/restore/engine.h"
#include "server/restore/restore.h"

struct hf_moments;    // moments.h
struct hf_binlog_way; // moments_mariadb.c

struct hf_restore_work {
    struct hf_id backup, vault;
    const char *state; // of the backup; borrowed from the request
    struct hf_open_repository opened;
    struct hf_shared_facts shared;
    const struct hf_restore_engine *engine;
    const struct hf_moments *moments;
    struct hf_table_keys *table_keys; // of the source's encrypted tables; NULL: none are known
    struct hf_restore_target moment;
    bool proven; // the way to the moment is; false when none was asked for
    struct hf_restore_plan *plan;
    struct hf_restore_size size;
    struct hf_archive *archive; // NULL: no moment was asked for

    // PostgreSQL's
    struct hf_recovery_facts facts;
    struct hf_restore_needs needs;
    struct hf_replay_options replaying;
    struct hf_replay *replay;

    struct hf_binlog_way *binlog; // MariaDB's
    const atomic_bool *cancel;
    uint64_t log_bytes; // written
};

/*
 * Of the options `finish` is set here; the work must stay where it is until the plan is gone.  The phases go to the
 * relay.  Whatever fails, hf_restore_work_done() is the caller's.
 */
HF_MUST_CHECK bool hf_restore_work_begin(struct hf_worker *worker, const json_t *request,
                                         struct hf_restore_options *options, struct hf_progress_relay *relay,
                                         struct hf_restore_work *work, struct hf_error *err);
void hf_restore_work_done(struct hf_restore_work *work);

/*
 * For an engine whose files have to be completed: stages, writes and completes them (engine.h).  Others are written as
 * they are.
 */
HF_MUST_CHECK bool hf_restore_work_write(struct hf_worker *worker, struct hf_restore_work *work,
                                         const struct hf_restore_options *options, struct hf_progress_relay *relay,
                                         const char *target, struct hf_restore_outcome *ret, struct hf_error *err);

/* Beside a target whose files had to be completed: the source's configuration, and an option file of ours. */
#define HF_RESTORE_BESIDE_BYTES 4200
void hf_restore_configuration(const char *target, char ret[static HF_RESTORE_BESIDE_BYTES]);

/* "product" of the answer; and "recovery", when a moment was asked for: the target, and what the copy comes to. */
HF_MUST_CHECK bool hf_restore_work_describe(const struct hf_restore_work *work, const json_t *request, json_t *result,
                                            struct hf_error *err);
