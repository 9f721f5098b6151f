/*
 * key_turns.h - which key slot a verification goes through: each that opens unattended, by turns (promise 7)
 *
 * A slot that nobody tried for long is a slot that nobody knows to open.  So a verification unwraps through the slot
 * that has waited longest among those the settings can open without a person: that of `unlock`, and those of
 * key_commands.  A slot that does not open costs no proof: the verification goes on with the key of `unlock`, the
 * failure is on record as a failed drill, and the status says so until the slot opens again.
 *
 * The turn, in a worker's request:  {"slot", "own": bool, "chosen": "round_robin" | "settings" | "named", "reachable"}
 * What came of it, in its result:   key: {"slot_id", "slot_name", "slot_kind", "chosen", "reachable"}, and turn_failed:
 *                                   {"slot", "reason"} when the slot did not open
 */
#pragma once
#include "server/job/daemon.h"
#include "server/job/open_repository.h"

HF_MUST_CHECK bool hf_key_turn_choose(struct hf_daemon *daemon, bool named, json_t **ret, struct hf_error *err);

/* In the worker: opens through the slot of the turn; *ret_failed is null or says which did not open. */
HF_MUST_CHECK bool hf_key_turn_open(struct hf_worker *worker, const json_t *turn, struct hf_open_repository *ret,
                                    json_t **ret_failed, struct hf_error *err);
/* Puts "key", and "turn_failed" when there is one, into a result. */
HF_MUST_CHECK bool hf_key_turn_tell(const json_t *turn, const struct hf_slot_info *opened, json_t *failed,
                                    json_t *result, struct hf_error *err);
/* In conclude(): records a failed turn as a failed drill of the slot. */
HF_MUST_CHECK bool hf_key_turn_record(struct hf_daemon *daemon, const json_t *result, struct hf_error *err);
