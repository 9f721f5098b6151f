/*
 * plan.h - which backups of a source stay, which go, and why
 *
 * A pure function: the policy and what the log says of each backup go in, one decision a backup comes out, with every
 * reason for it.  Nothing is read, written or asked of a clock here, so the same answer is given to whoever asks again.
 *
 * Which of two backups is newer is told by their places in the vault log, never by a time.  A backup *counts* when it
 * is proven: an unproven, failed or damaged one never satisfies a rule.
 *
 *   Stays, whatever the policy says (promise 5):
 *     the newest proven backup, and all that is newer than it; without a proven backup everything stays
 *     what a hold, a lock, a reader's pin or an open session names
 *     what a backup that stays needs (`needs`: nothing today, as every backup has complete maps)
 *   Stays by the rules, of those that count:
 *     last       the newest so many
 *     hourly ... yearly   the newest one of each of the newest so many hours, days, weeks, months, years with a backup
 *     within     all taken within that time before the newest proven one
 *     minimum    where less would be left, the newest ones, until that many stay
 *   Stays for a while, of those that do not count:
 *     unproven_grace   unproven, until a proven backup is that much younger
 *     failed_grace     failed or damaged, until a proven backup was taken that long after it became known
 *   Everything else goes.  A source without any rule keeps everything.
 *
 * About time.  Rules that count do not look at a clock at all.  Windows end at the newest proven backup, so that
 * nothing ages away while backups do not come in or are not proven.  Holds and locks end when both the clock and the
 * newest entry of the log are past their end.  So a clock that jumps ahead removes nothing by itself; what can still be
 * told about a wrong clock is in clock.h.
 *
 * The parts of a stream are decided about behind it: stretches.h.
 */
#pragma once
#include "base/id.h"
#include "catalog/backup_state.h"
#include "server/retention/calendar.h"

#define HF_RETENTION_WITHOUT_END INT64_MAX
#define HF_RETENTION_NOT_SET     INT64_MIN
#define HF_RETENTION_NO_NEED     UINT64_MAX

/* 0 turns a rule off. */
struct hf_retention_policy {
    int64_t last;
    int64_t periods[HF_RETENTION_PERIODS];
    int64_t within_ms;
    int64_t minimum;
    int64_t unproven_grace_ms, failed_grace_ms;
    /* A person's word: what is failed or damaged and older than the newest proven one goes now, rules or not. */
    bool replaced;
};

/* What is known of one backup that was not pruned. */
struct hf_retention_backup {
    struct hf_id backup;
    struct hf_id needs; // a backup without which this one cannot be read; none: it stands alone
    uint64_t sequence;  // of its COMMIT: larger is newer
    uint64_t begun;     // of its session's INTENT
    uint64_t position;  // in its source's stream, from which it is followed; 0: not known
    uint64_t needs_log; // another position in it that must stay for that; or HF_RETENTION_NO_NEED
    int64_t time;       // of its COMMIT
    enum hf_backup_state state;
    int64_t state_since;
    int64_t held_until, locked_until; // NOT_SET, WITHOUT_END or a moment
    bool pinned, in_session;
};

/* In the order in which they are told. */
enum hf_retention_reason {
    HF_RETENTION_NEWEST_PROVEN,
    HF_RETENTION_NEWER,
    HF_RETENTION_NOTHING_PROVEN,
    HF_RETENTION_HELD,
    HF_RETENTION_LOCKED,
    HF_RETENTION_PINNED,
    HF_RETENTION_IN_SESSION,
    HF_RETENTION_NO_RULE,
    HF_RETENTION_LAST,
    HF_RETENTION_HOUR, // these five in the order of enum hf_retention_period
    HF_RETENTION_DAY,
    HF_RETENTION_WEEK,
    HF_RETENTION_MONTH,
    HF_RETENTION_YEAR,
    HF_RETENTION_WITHIN,
    HF_RETENTION_MINIMUM,
    HF_RETENTION_UNPROVEN_GRACE,
    HF_RETENTION_FAILED_GRACE,
    HF_RETENTION_NEEDED,
    /* The only reasons to go; one each. */
    HF_RETENTION_BEYOND_RULES,
    HF_RETENTION_UNPROVEN,
    HF_RETENTION_FAILED,
    HF_RETENTION_DAMAGED,
    HF_RETENTION_REASONS,
};

/* "newest_proven": in JSON, in PRUNE entries and in the catalog. */
const char *hf_retention_reason_name(enum hf_retention_reason reason);
bool hf_retention_reason_removes(enum hf_retention_reason reason);

struct hf_retention_decision {
    bool keep;
    uint32_t reasons; // 1 << enum hf_retention_reason
    /* Which one it is by a rule that counts, from 1: of LAST, then of each period; 0: not by this rule. */
    uint32_t last_place, period_places[HF_RETENTION_PERIODS];
};

struct hf_retention_summary {
    int64_t moment;       // that holds and locks were judged by: the earlier of clock and newest log entry
    size_t newest_proven; // index, or HF_RETENTION_NONE
    size_t backups, proven;
    size_t removed, proven_removed;
};
#define HF_RETENTION_NONE SIZE_MAX

/*
 * Decides about `count` backups of one source, in any order; decisions[i] is about backups[i].  now: the appliance's
 * clock; newest_log_at: time of the vault log's last entry.  Errors: USAGE when a backup or a place in the log comes
 * twice, NO_MEMORY.
 */
HF_MUST_CHECK bool hf_retention_plan(const struct hf_retention_policy *policy,
                                     const struct hf_retention_backup *backups, size_t count, int64_t now,
                                     int64_t newest_log_at, struct hf_retention_decision *decisions,
                                     struct hf_retention_summary *ret, struct hf_error *err);

/* Whether the policy has a rule by which a backup that counts can go. */
bool hf_retention_has_rule(const struct hf_retention_policy *policy);

/* How much may go without a person saying the number. */
struct hf_retention_limits {
    int64_t most_percent; // of the backups that count
    int64_t most_at_once; // backups, counting or not
};
/* One backup is never unusual: a source with three of them could never lose the oldest otherwise. */
bool hf_retention_is_unusual(const struct hf_retention_limits *limits, const struct hf_retention_summary *summary);
