/*
 * attempt_facts.h - what only the daemon knows of an attempt, put into its evidence before it is sealed
 *
 * The worker says what it saw of the backup; it meets hostile bytes, and is not asked for more.  The owner's
 * objectives, how the copy was unwrapped, the host, the way backups are made (process.h) and the forecast are the
 * daemon's.
 */
#pragma once
#include "server/job/daemon.h"

/*
 * Completes the content of a "verify" document; `result` is the job's, for its member "key" (key_turns.h), and gains
 * "data_loss_ms" and "forecast_ms" where they are known.
 */
HF_MUST_CHECK bool hf_attempt_complete(struct hf_daemon *daemon, const char *source, json_t *content, json_t *result,
                                       struct hf_error *err);

/* A new head for a document of kind "act" that is made now: who we are, which program, what the clock is worth. */
HF_MUST_CHECK bool hf_act_head(struct hf_daemon *daemon, const struct hf_id *evidence, json_t **ret,
                               struct hf_error *err);
