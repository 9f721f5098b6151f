/*
 * restore_start.h - the backup from which a restore to a moment starts
 *
 * Of a time or a position a backup's facts tell whether it ended before; whether the way to a transaction or a restore
 * point leads from it, only the log tells.  So the daemon holds all that could be it, newest first, and the worker
 * takes the first from which the log, read and walked over, comes to the target (restore_work.h).
 */
#pragma once
#include "base/json.h"
#include "server/job/daemon_internal.h"
#include "server/job/restore_target.h"

#define HF_RESTORE_STARTS_MOST HF_JOB_PINS_MOST

/* Of one vault, newest first. */
struct hf_restore_starts {
    struct hf_id vault;
    size_t count;
    struct hf_id backups[HF_RESTORE_STARTS_MOST];
};

/* The proven ones of a source; NOT_FOUND, with the nearest moment, when there is none before the target. */
HF_MUST_CHECK bool hf_restore_starts_find(struct hf_daemon *daemon, const char *source,
                                          const struct hf_restore_target *target, struct hf_restore_starts *ret,
                                          struct hf_error *err);
/* The request's member "starts": a list of ids. */
HF_MUST_CHECK bool hf_restore_starts_to_json(const struct hf_restore_starts *starts, json_t **ret,
                                             struct hf_error *err);
HF_MUST_CHECK bool hf_restore_starts_from_json(const json_t *json, struct hf_restore_starts *ret, struct hf_error *err);

/* What the COMMIT keeps of a backup; the caller's to free.  NOT_FOUND when the vault has no such backup. */
HF_MUST_CHECK bool hf_restore_start_facts(const struct hf_vault_state *state, const struct hf_id *backup, json_t **ret,
                                          struct hf_error *err);
