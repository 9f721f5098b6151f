/*
 * restore_work.h - what every worker that restores has in hand: the backup planned, the log behind it proven
 *
 *     open the repository -> the backup's facts -> plan its files -> prove the log up to the moment -> (the caller writes)
 *
 * With the caller's hf_restore_write() everything that the folder needs besides the backup goes in too, while it has no
 * global/pg_control yet: the configuration it lacks, the log, the target.
 */
#pragma once
#include "server/job/open_repository.h"
#include "server/job/restore_target.h"
#include "server/restore/configure.h"
#include "server/restore/engine.h"
#include "server/restore/restore.h"

struct hf_restore_work {
    struct hf_id backup, vault;
    const char *state; // of the backup; borrowed from the request
    struct hf_open_repository opened;
    struct hf_shared_facts shared;
    const struct hf_restore_engine *engine;
    struct hf_recovery_facts facts; // PostgreSQL's
    struct hf_restore_needs needs;
    struct hf_restore_target moment;
    struct hf_restore_plan *plan;
    struct hf_restore_size size;
    struct hf_archive *archive;
    struct hf_replay_options replaying;
    struct hf_replay *replay; // NULL: no moment was asked for
    uint64_t log_bytes;       // written
};

/*
 * Of the options `finish` is set here; the work must stay where it is until the plan is gone.  The phases go to the
 * relay.  Whatever fails, hf_restore_work_done() is the caller's.
 */
HF_MUST_CHECK bool hf_restore_work_begin(struct hf_worker *worker, const json_t *request,
                                         struct hf_restore_options *options, struct hf_progress_relay *relay,
                                         struct hf_restore_work *work, struct hf_error *err);
void hf_restore_work_done(struct hf_restore_work *work);

/* For an engine whose files have to be completed: stages, writes and completes them (engine.h).  Others are written as they are. */
HF_MUST_CHECK bool hf_restore_work_write(struct hf_worker *worker, struct hf_restore_work *work,
                                         const struct hf_restore_options *options, struct hf_progress_relay *relay,
                                         const char *target, struct hf_restore_outcome *ret, struct hf_error *err);

/* "recovery" of the answer, when a moment was asked for: the target, and what the copy comes to. */
HF_MUST_CHECK bool hf_restore_work_describe(const struct hf_restore_work *work, const json_t *request, json_t *result,
                                            struct hf_error *err);
