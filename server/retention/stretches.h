/*
 * stretches.h - which parts of a source's stream stay, which go, and why
 *
 * A pure function, like plan.h, and decided after it: log is of use from a backup on.  What was committed to the vault
 * log before a backup's session began is older than that backup, and what ends where the backup starts is not needed to
 * go on from it; a backup of a standby that was behind passes only one of the two.  No time decides anything.
 *
 *   The *start* is a backup: without a window the oldest one that stays; with a window (`stream_within`) the newest
 *   proven one that stays and was taken at least that long before the newest proven backup, else the oldest one that
 *   stays.
 *
 *   Stays: what was committed after the start's session began, or ends behind the position where the start begins; all
 *            of it, while that position is not known
 *          what holds the other position that the start needs, if it does: a binary log's events are read by a format
 *            description that was stored long before them
 *          the newest one: there the receiver goes on
 *          what holds a timeline's history: without it no later log could be followed
 *          everything, when the source has no rule by which anything goes, or no backup that is proven
 *   Goes:  everything else
 */
#pragma once
#include "base/json.h"
#include "server/retention/plan.h"

struct hf_retention_stretch {
    struct hf_id stretch;
    uint64_t sequence; // of its COMMIT
    uint64_t begin;    // position of its first byte
    uint64_t end;      // and just behind its last
    int64_t committed_at;
    uint64_t stored_bytes;
    bool history;
};

enum hf_stretch_reason {
    HF_STRETCH_FOLLOWS, // the start
    HF_STRETCH_NEWEST,
    HF_STRETCH_HISTORY,
    HF_STRETCH_NO_RULE,
    HF_STRETCH_NOTHING_PROVEN,
    /* The only reasons to go. */
    HF_STRETCH_BEFORE_BACKUPS,
    HF_STRETCH_BEFORE_WINDOW,
    HF_STRETCH_REASONS,
};
/* "before_window": in JSON, in PRUNE entries and in the catalog. */
const char *hf_stretch_reason_name(enum hf_stretch_reason reason);
bool hf_stretch_reason_removes(enum hf_stretch_reason reason);

struct hf_stretch_plan {
    size_t start;            // index of the backup, or HF_RETENTION_NONE
    bool start_is_of_window; // else it is the oldest that stays
    size_t removed;
    uint64_t removed_bytes;
};

/*
 * Decides about `count` stretches of a source, in any order; reasons[i] is about stretches[i].  Backups, decisions and
 * summary are those of hf_retention_plan().  within_ms: 0 for no window.
 */
void hf_retention_plan_stretches(const struct hf_retention_policy *policy, int64_t within_ms,
                                 const struct hf_retention_backup *backups,
                                 const struct hf_retention_decision *decisions, size_t backup_count,
                                 const struct hf_retention_summary *summary,
                                 const struct hf_retention_stretch *stretches, size_t count,
                                 enum hf_stretch_reason *reasons, struct hf_stretch_plan *ret);

/*
 * Adds to a plan's report "stream": null without stretches, else {"start": backup or null, "stay", "go", "go_bytes",
 * "runs": [{"first_at", "last_at", "stretches", "stored_bytes", "keep", "reason", "sentence"}, ...]}, a run being
 * stretches that follow each other in the log and are decided about alike, newest first.
 */
HF_MUST_CHECK bool hf_stretch_report(const struct hf_retention_backup *backups,
                                     const struct hf_retention_stretch *stretches, size_t count,
                                     const enum hf_stretch_reason *reasons, const struct hf_stretch_plan *plan,
                                     int64_t within_ms, json_t **ret, struct hf_error *err);
