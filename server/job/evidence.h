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
/* Seals a content, enters it, and shows the witness the new checkpoint. */
HF_MUST_CHECK bool hf_evidence_enter(struct hf_daemon *daemon, json_t *content, struct hf_receipt *ret,
                                     struct hf_error *err);
/* Whether the ledger holds together and its witness agrees; true when nothing was entered yet. */
HF_MUST_CHECK bool hf_evidence_look(struct hf_daemon *daemon, struct hf_error *err);
