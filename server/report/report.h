/*
 * report.h - what the evidence says, for a reader who is no DBA: one model, and three ways to show it
 *
 *     ledger (verified document by document) + catalog + what the daemon knows -> model -> sheet -> HTML, PDF
 *                                                                                      \-> JSON
 *
 * A report never says more than the evidence: figures come from documents whose form, rules, seal, place in the ledger
 * and proof were checked while the report was made.  What the catalog says and no such document supports is counted as
 * not proven, and said.  A ledger that does not hold together is said first of all.
 *
 * The model, holdfast.report/v1; times are texts as in evidence (server/evidence/document.h), durations in ms:
 *
 *   schema, kind "backup" | "month", as_of, software
 *   appliance     {id, site | null, name (the ledger's)}
 *   ledger        {state "whole" | "broken" | "none", entries, root | null, key_id | null, problems [] text}
 *   kind "backup":
 *     backup      {backup, source, engine, version | null, started_at, ended_at, logical_bytes, stored_bytes, state,
 *                 pruned_at | null, prune_reason | null, damages [] {reason, found_at}}
 *     verdict     "recoverable" | "not_recoverable" | "damaged" | "not_determined" | "not_supported" (the newest
 *                 attempt's document is missing or not sound) | "not_tested"
 *     attempt     null or the newest one's summary, see below; document: its whole evidence
 *     earlier []  summaries of the others, newest first
 *     unsupported number: attempts the catalog knows and no verified document supports
 *     not_proven  [] text
 *     exceptions  [] that somebody accepted of the newest attempt, see below
 *     source      what the daemon knows of it, see below, or null
 *   kind "month":
 *     month, from, to, in_progress, source | null (of one only)
 *     days []     number
 *     sources []  {name, engine, known {...}, days [] "proven" | "failed" | "inconclusive" | "backup" | "none" |
 *                 "future", backups, proven, attempts, passed, failed [] summary (+ closed_by | null, exceptions []),
 *                 inconclusive [] likewise, unsupported, covered_days, past_days, recover {count, middle_ms, most_ms,
 *                 over}, loss {likewise}, forecast {recovery_ms, attempts, error_ppm} | null, gaps [] {from, to, cause,
 *                 noticed_at, bounded}, newest_proven_at | null, acts}
 *     controls [] {framework, ref, title, verdict "shown" | "partly" | "not_shown", says, silent}
 *   keys []       {name, kind, unattended, opened_at | null, due_at | null, overdue}
 *
 * An exception: {exception (id of its document), index, accepted_at, by, reason, backup, source, attempt, checks [],
 * until, state "in_force" | "expired" | "withdrawn", withdrawn_at | null, withdrawn_by | null, withdrawn_reason |
 * null}.  It changes no verdict and no count: it says who knows.
 *
 * A summary: {evidence, index, content_sha256, created_at, backup, source, engine, result, reason | null, state_after,
 * started_at, ended_at, duration_ms, requested_at | null, recover_ms | null, loss_ms | null, restored_bytes | null,
 * restore_ms | null, checks, passed, failed [] {id, title, reason, finding | null}, undetermined [] title, slot | null,
 * level | null, scratch | null, requested_by, software, cipher}.
 *
 * What the daemon knows of a source ("known"): {name, engine, tier | null, objective_recovery_ms | null,
 * objective_loss_ms | null, verify_every_ms | null, stream, process {unproven_since | null, changed [], proven_since}}.
 */
#pragma once
#include "catalog/view.h"
#include "server/evidence/ledger.h"
#include "server/report/sheet.h"

#define HF_REPORT_SCHEMA    "holdfast.report/v1"
#define HF_REPORT_MOST      (64 * HF_MIB) // bytes of one report
#define HF_REPORT_ROWS_MOST 100000        // backups and attempts looked at

struct hf_report_request {
    const char *source;  // NULL: all of them
    struct hf_id backup; // of this one; none: of a month
    const char *month;   // "2026-11"
    int64_t as_of;       // what is due, and which days have passed, as of then
    const json_t *known; // {"appliance", "site", "sources" [], "keys" []}: see above
};

/* Gathers the model.  Errors: NOT_FOUND for a backup there is not; USAGE for a month that is none. */
HF_MUST_CHECK bool hf_report_gather(const struct hf_report_request *request, const struct hf_ledger_options *ledger,
                                    struct hf_catalog *catalog, json_t **ret, struct hf_error *err);

enum hf_report_format { HF_REPORT_JSON, HF_REPORT_HTML, HF_REPORT_PDF };
HF_MUST_CHECK bool hf_report_format_parse(const char *name, enum hf_report_format *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_report_paper_parse(const char *name, enum hf_paper *ret, struct hf_error *err);

/* Adds the report's bytes: the same model gives the same bytes. */
HF_MUST_CHECK bool hf_report_render(const json_t *model, enum hf_report_format format, enum hf_paper paper,
                                    struct hf_buf *out, struct hf_error *err);

/* Whether a reader has to worry: not recoverable, not tested, a broken ledger, something open or overdue. */
bool hf_report_is_bad_news(const json_t *model);

/* "2026-11" as [from, to), UTC.  USAGE. */
HF_MUST_CHECK bool hf_report_month(const char *text, int64_t *ret_from, int64_t *ret_to, struct hf_error *err);

/*
 * The summary of a "verify" document: what the forecast and other rooms need of it too.  New, or NULL without memory.
 */
json_t *hf_report_summary(const struct hf_evidence *evidence);
