/*
 * evidence.h - how the daemon enters evidence: the ledger beside the repository, and its witness elsewhere
 *
 * Every document goes through hf_evidence_enter(): it is in the ledger when that returns.  Then the witness of the
 * settings (evidence.witness) is shown the new checkpoint.  A witness that cannot be written, or knows another history,
 * stops no evidence: the status says so for as long as it lasts (hf_evidence_look).
 */
#pragma once
#include "server/evidence/ledger.h"
#include "server/job/daemon.h"

/* Where the ledger of these settings lies; free() it. */
HF_MUST_CHECK bool hf_evidence_folder(const struct hf_settings *settings, char **ret, struct hf_error *err);
/* The daemon's ledger, made at the first use; a reader's ledger is not made: NOT_FOUND.  Owner: the caller. */
HF_MUST_CHECK bool hf_evidence_open_ledger(struct hf_daemon *daemon, bool write, struct hf_ledger **ret,
                                           struct hf_error *err);
/*
 * Whose seals count: our own key, and those that the repository's list of signers (server/keys/keys.h) says sealed
 * under the same name; each was signed by the one before it.  Own key first.  Errors: DENIED without a signing key.
 */
HF_MUST_CHECK bool hf_evidence_trusted(struct hf_daemon *daemon, struct hf_public_key keys[static HF_TRUST_MOST_KEYS],
                                       size_t *ret_count, struct hf_error *err);
/* The same, as a list of public lines (sign.h) for a worker, and back. */
HF_MUST_CHECK bool hf_evidence_trusted_json(struct hf_daemon *daemon, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_evidence_trusted_parse(const json_t *list, struct hf_public_key keys[static HF_TRUST_MOST_KEYS],
                                             size_t *ret_count, struct hf_error *err);
/* A document of the ledger, its seal and its place checked.  Owner: the caller, hf_evidence_done(). */
HF_MUST_CHECK bool hf_evidence_read_entry(struct hf_daemon *daemon, const struct hf_id *id, struct hf_evidence *ret,
                                          struct hf_error *err);
/* Seals a content, enters it, and shows the witness the new checkpoint. */
HF_MUST_CHECK bool hf_evidence_enter(struct hf_daemon *daemon, json_t *content, struct hf_receipt *ret,
                                     struct hf_error *err);
/* Whether the ledger holds together and its witness agrees; true when nothing was entered yet. */
HF_MUST_CHECK bool hf_evidence_look(struct hf_daemon *daemon, struct hf_error *err);
