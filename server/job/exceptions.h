/*
 * exceptions.h - what a person accepts of an attempt that did not pass, and until when
 *
 * Nobody's word makes a backup proven: its state stays what the attempt found.  An acceptance says that a named person
 * knows, why it is bearable, and when it is to be looked at again.  While it lasts the source is not red for this
 * attempt; when it has ended, or another attempt was made, it is red again.
 *
 * Two records are made, first the signed one: a document of kind "act" in the ledger (server/evidence/document.h:
 * accept_exception, withdraw_exception), which reports and auditors read; then a POLICY entry of the house vault, so
 * that whoever has the repository knows:
 *
 *   subject "exception", id: of the document
 *     backup, source, attempt (id of the attempt's evidence), checks [] (what is accepted), open [] (all that kept that
 *     attempt from passing), reason, person, accepted_at, until (both ms since 1970); withdrawn_at, withdrawn_by,
 *     withdrawn_reason, or null
 */
#pragma once
#include "base/json.h"
#include "server/job/daemon.h"

#define HF_RECORD_EXCEPTION    "exception"
#define HF_EXCEPTION_DAYS_MOST 366
#define HF_ACT_ACCEPT          "accept_exception"
#define HF_ACT_WITHDRAW        "withdraw_exception"

/*
 * Whether all that kept this attempt from passing is accepted now; then *ret is {until (the first of them to end),
 * person, reason, checks []}, else NULL.  `evidence`: of the attempt, in hex.  Owner of *ret: the caller.
 */
HF_MUST_CHECK bool hf_exceptions_cover(struct hf_daemon *daemon, const char *evidence, json_t **ret,
                                       struct hf_error *err);
