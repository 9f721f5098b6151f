/*
 * vault_state.h - what a vault's log adds up to
 *
 * Sessions move INTENT -> open -> committed (COMMIT) | ended (END) | aborted (ABORT); nothing leaves the last three.
 * Entries that the rules (log_rules.h) call void leave no trace here.
 * A stream's session is never "committed": each COMMIT adds a stretch and leaves it open.
 */
#pragma once
#include "server/repository/repository.h"

HF_MUST_CHECK bool vault_state_new(struct hf_vault_state **ret, struct hf_error *err);
/* Whether `session` is `by`, or one that it continues (INTENT's builds_on): whose packs `by` may commit. */
bool vault_state_session_brought(const struct hf_vault_state *state, const struct hf_id *by,
                                 const struct hf_id *session);
/* What LINEAGE says of engine and identity, in hex. */
HF_MUST_CHECK bool vault_lineage_hash(const char *engine, const char *identity,
                                      char text[static 2 * HF_SHA256_BYTES + 1], struct hf_error *err);
/*
 * Judges the next entry and, when it counts, applies it.  CORRUPT when its parts do not have the shape of their kind,
 * or a second one says what only one can; the state is then of no use any more.  After NO_MEMORY it is as it was: the
 * entry can come again.
 */
HF_MUST_CHECK bool vault_state_apply(struct hf_vault_state *state, const struct hf_log_entry *entry, bool *ret_counts,
                                     struct hf_error *err);
/*
 * The place of the oldest INTENT or PIN that is still open, UINT64_MAX without one: what was let go of behind it may
 * still be in use.  A stream's INTENT is none of them: it takes nothing over from anybody, and lasts for months.
 */
uint64_t vault_state_oldest_open(const struct hf_vault_state *state);
