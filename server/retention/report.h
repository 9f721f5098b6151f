/*
 * report.h - a plan in words: JSON for programs, a sentence a backup for people, and the name of the whole plan
 *
 * The document:
 *   {"source", "vault", "plan": 32 hex digits, "moment", "newest_proven": id or null, "rules": {...},
 *    "stay", "go", "proven", "proven_go": counts, "unusual": boolean,
 *    "stream": see stretches.h,
 *    "backups": [{"backup", "taken_at", "state", "keep": boolean, "reasons": [words of plan.h], "sentence"}, ...]}
 * with the newest backup first.  "plan" names what would be done: the first 16 bytes of SHA-256 over the canonical
 * JSON of [source, vault, rules, [[backup, state, keep, reasons], ...], [stretches that go]].  It is another one as
 * soon as any backup comes, changes its state or is decided about differently, and the same as long as none does,
 * whatever the time is.
 */
#pragma once
#include "base/json.h"
#include "server/retention/stretches.h"

#define HF_RETENTION_PLAN_BYTES 33 // its name as text

/* Everything that was planned with; all of it borrowed. */
struct hf_retention_planned {
    const char *source;
    struct hf_id vault;
    const struct hf_retention_policy *policy;
    const struct hf_retention_limits *limits;
    size_t count;
    const struct hf_retention_backup *backups;
    const struct hf_retention_decision *decisions;
    const struct hf_retention_summary *summary;
    int64_t stream_within_ms;
    size_t stretch_count;
    const struct hf_retention_stretch *stretches;
    const enum hf_stretch_reason *stretch_reasons;
    const struct hf_stretch_plan *stretch_plan;
};

HF_MUST_CHECK bool hf_retention_report(const struct hf_retention_planned *planned, json_t **ret, struct hf_error *err);

/* Adds "Stays: it is the newest proven backup." or "Goes: it is proven, and no rule keeps it." */
HF_MUST_CHECK bool hf_retention_explain(const struct hf_retention_planned *planned, size_t index, struct hf_buf *out,
                                        struct hf_error *err);
