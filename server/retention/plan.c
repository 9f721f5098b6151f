#include "server/retention/plan.h"

#include <string.h>

#define BIT(reason) (UINT32_C(1) << (reason))

_Static_assert(HF_RETENTION_REASONS <= 32, "reasons are bits of one word");
_Static_assert(HF_RETENTION_YEAR - HF_RETENTION_HOUR == HF_RETENTION_YEARLY - HF_RETENTION_HOURLY,
               "a reason for each period, in the same order");

/* What the steps of one plan share. */
struct plan {
    const struct hf_retention_policy *policy;
    const struct hf_retention_backup *backups;
    size_t count;
    struct hf_retention_decision *decisions;
    size_t *newest_first; // indices
    size_t *by_id;        // indices, sorted by id
    int64_t *numbers;     // of the periods that one rule has chosen so far
    size_t newest_proven; // index, or HF_RETENTION_NONE
    int64_t moment;
    int64_t reference; // where windows end: the newest proven backup's time, or the moment when that is earlier
};

static const char *const names[HF_RETENTION_REASONS] = {
    [HF_RETENTION_NEWEST_PROVEN] = "newest_proven",
    [HF_RETENTION_NEWER] = "newer_than_proven",
    [HF_RETENTION_NOTHING_PROVEN] = "nothing_proven",
    [HF_RETENTION_HELD] = "held",
    [HF_RETENTION_LOCKED] = "locked",
    [HF_RETENTION_PINNED] = "pinned",
    [HF_RETENTION_IN_SESSION] = "session",
    [HF_RETENTION_NO_RULE] = "no_rule",
    [HF_RETENTION_LAST] = "last",
    [HF_RETENTION_HOUR] = "hourly",
    [HF_RETENTION_DAY] = "daily",
    [HF_RETENTION_WEEK] = "weekly",
    [HF_RETENTION_MONTH] = "monthly",
    [HF_RETENTION_YEAR] = "yearly",
    [HF_RETENTION_WITHIN] = "within",
    [HF_RETENTION_MINIMUM] = "minimum",
    [HF_RETENTION_UNPROVEN_GRACE] = "unproven_grace",
    [HF_RETENTION_FAILED_GRACE] = "failed_grace",
    [HF_RETENTION_NEEDED] = "needed",
    [HF_RETENTION_BEYOND_RULES] = "beyond_rules",
    [HF_RETENTION_UNPROVEN] = "unproven",
    [HF_RETENTION_FAILED] = "failed",
    [HF_RETENTION_DAMAGED] = "damaged",
};

static bool order_by_id(struct plan *plan, struct hf_error *err);
static int compare_ids(const void *a, const void *b, void *backups);
static bool order_by_age(struct plan *plan, struct hf_error *err);
static int compare_ages(const void *a, const void *b, void *backups);
static void find_newest_proven(struct plan *plan);
static void keep_what_is_protected(struct plan *plan);
static void keep_the_last(struct plan *plan);
static void keep_one_a_period(struct plan *plan, enum hf_retention_period period);
static void keep_within(struct plan *plan);
static void keep_for_a_while(struct plan *plan);
static void keep_what_is_needed(struct plan *plan);
static size_t find(const struct plan *plan, const struct hf_id *id);
static void keep_the_minimum(struct plan *plan);
static void remove_the_rest(struct plan *plan);
static void keep(struct plan *plan, size_t index, enum hf_retention_reason reason);
static bool counts(const struct plan *plan, size_t index);
static bool ended(const struct plan *plan, int64_t until);
static bool is_older_than(int64_t time, int64_t age_ms, int64_t reference);

const char *
hf_retention_reason_name(enum hf_retention_reason reason)
{
    return names[reason];
}

bool
hf_retention_reason_removes(enum hf_retention_reason reason)
{
    return reason >= HF_RETENTION_BEYOND_RULES;
}

bool
hf_retention_plan(const struct hf_retention_policy *policy, const struct hf_retention_backup *backups, size_t count,
                  int64_t now, int64_t newest_log_at, struct hf_retention_decision *decisions,
                  struct hf_retention_summary *ret, struct hf_error *err)
{
    struct plan plan = {
        .policy = policy,
        .backups = backups,
        .count = count,
        .decisions = decisions,
        .moment = now < newest_log_at ? now : newest_log_at,
    };
    _cleanup_(hf_freep) size_t *newest_first = calloc(count + 1, sizeof *newest_first);
    _cleanup_(hf_freep) size_t *by_id = calloc(count + 1, sizeof *by_id);
    _cleanup_(hf_freep) int64_t *numbers = calloc(count + 1, sizeof *numbers);
    if (newest_first == NULL || by_id == NULL || numbers == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", count);
    plan.newest_first = newest_first;
    plan.by_id = by_id;
    plan.numbers = numbers;
    if (!order_by_id(&plan, err) || !order_by_age(&plan, err))
        return false;

    memset(decisions, 0, count * sizeof *decisions);
    find_newest_proven(&plan);
    keep_what_is_protected(&plan);
    keep_the_last(&plan);
    for (enum hf_retention_period period = 0; period < HF_RETENTION_PERIODS; period++)
        keep_one_a_period(&plan, period);
    keep_within(&plan);
    keep_for_a_while(&plan);
    keep_what_is_needed(&plan); // it may count, and the minimum is reached without more
    keep_the_minimum(&plan);
    keep_what_is_needed(&plan);
    remove_the_rest(&plan);

    *ret = (struct hf_retention_summary){.moment = plan.moment, .newest_proven = plan.newest_proven, .backups = count};
    for (size_t i = 0; i < count; i++) {
        ret->proven += counts(&plan, i) ? 1 : 0;
        ret->removed += decisions[i].keep ? 0 : 1;
        ret->proven_removed += !decisions[i].keep && counts(&plan, i) ? 1 : 0;
    }
    return true;
}

bool
hf_retention_has_rule(const struct hf_retention_policy *policy)
{
    bool any = policy->last > 0 || policy->within_ms > 0;
    for (size_t i = 0; i < HF_RETENTION_PERIODS; i++)
        any = any || policy->periods[i] > 0;
    return any;
}

bool
hf_retention_is_unusual(const struct hf_retention_limits *limits, const struct hf_retention_summary *summary)
{
    if (summary->removed <= 1)
        return false;
    return summary->removed > (size_t)limits->most_at_once ||
           (summary->proven_removed > 1 &&
            summary->proven_removed * 100 > summary->proven * (size_t)limits->most_percent);
}

static bool
order_by_id(struct plan *plan, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    for (size_t i = 0; i < plan->count; i++)
        plan->by_id[i] = i;
    qsort_r(plan->by_id, plan->count, sizeof *plan->by_id, compare_ids, (void *)(uintptr_t)plan->backups);
    for (size_t i = 1; i < plan->count; i++)
        if (compare_ids(&plan->by_id[i - 1], &plan->by_id[i], (void *)(uintptr_t)plan->backups) == 0)
            return hf_fail(err, HF_ERR_USAGE, "backup \"%s\" comes twice",
                           hf_id_format(&plan->backups[plan->by_id[i]].backup, text));
    return true;
}

static int
compare_ids(const void *a, const void *b, void *backups)
{
    const struct hf_retention_backup *all = backups;
    return hf_id_compare(&all[*(const size_t *)a].backup, &all[*(const size_t *)b].backup);
}

static bool
order_by_age(struct plan *plan, struct hf_error *err)
{
    for (size_t i = 0; i < plan->count; i++)
        plan->newest_first[i] = i;
    qsort_r(plan->newest_first, plan->count, sizeof *plan->newest_first, compare_ages,
            (void *)(uintptr_t)plan->backups);
    for (size_t i = 1; i < plan->count; i++)
        if (plan->backups[plan->newest_first[i - 1]].sequence == plan->backups[plan->newest_first[i]].sequence)
            return hf_fail(err, HF_ERR_USAGE, "two backups have the place %llu in the log",
                           (unsigned long long)plan->backups[plan->newest_first[i]].sequence);
    return true;
}

static int
compare_ages(const void *a, const void *b, void *backups)
{
    const struct hf_retention_backup *all = backups;
    const uint64_t left = all[*(const size_t *)a].sequence, right = all[*(const size_t *)b].sequence;
    return left < right ? 1 : left > right ? -1 : 0;
}

static void
find_newest_proven(struct plan *plan)
{
    plan->newest_proven = HF_RETENTION_NONE;
    plan->reference = plan->moment;
    for (size_t i = 0; i < plan->count; i++) {
        const size_t at = plan->newest_first[i];
        if (!counts(plan, at))
            continue;
        plan->newest_proven = at;
        if (plan->backups[at].time < plan->reference)
            plan->reference = plan->backups[at].time;
        return;
    }
}

/* Promise 5, and nothing of it is a setting. */
static void
keep_what_is_protected(struct plan *plan)
{
    for (size_t i = 0; i < plan->count; i++) {
        const struct hf_retention_backup *backup = &plan->backups[i];
        if (plan->newest_proven == HF_RETENTION_NONE)
            keep(plan, i, HF_RETENTION_NOTHING_PROVEN);
        else if (i == plan->newest_proven)
            keep(plan, i, HF_RETENTION_NEWEST_PROVEN);
        else if (backup->sequence > plan->backups[plan->newest_proven].sequence)
            keep(plan, i, HF_RETENTION_NEWER);
        if (!ended(plan, backup->held_until))
            keep(plan, i, HF_RETENTION_HELD);
        if (!ended(plan, backup->locked_until))
            keep(plan, i, HF_RETENTION_LOCKED);
        if (backup->pinned)
            keep(plan, i, HF_RETENTION_PINNED);
        if (backup->in_session)
            keep(plan, i, HF_RETENTION_IN_SESSION);
    }
}

static void
keep_the_last(struct plan *plan)
{
    uint32_t place = 0;
    for (size_t i = 0; i < plan->count && place < plan->policy->last; i++) {
        const size_t at = plan->newest_first[i];
        if (!counts(plan, at))
            continue;
        plan->decisions[at].last_place = ++place;
        keep(plan, at, HF_RETENTION_LAST);
    }
}

/*
 * The newest of each period: it will still be the newest of its period when others of it are gone, so that a second
 * plan removes nothing more.  Times may go back in the log (a clock was set): a period that was seen is known again.
 */
static void
keep_one_a_period(struct plan *plan, enum hf_retention_period period)
{
    uint32_t place = 0;
    for (size_t i = 0; i < plan->count && place < plan->policy->periods[period]; i++) {
        const size_t at = plan->newest_first[i];
        const int64_t number = hf_calendar_number(period, plan->backups[at].time);
        bool seen = !counts(plan, at);
        for (uint32_t chosen = place; !seen && chosen > 0; chosen--)
            seen = plan->numbers[chosen - 1] == number;
        if (seen)
            continue;
        plan->numbers[place] = number;
        plan->decisions[at].period_places[period] = ++place;
        keep(plan, at, HF_RETENTION_HOUR + (enum hf_retention_reason)period);
    }
}

static void
keep_within(struct plan *plan)
{
    for (size_t i = 0; plan->policy->within_ms > 0 && i < plan->count; i++)
        if (counts(plan, i) && !is_older_than(plan->backups[i].time, plan->policy->within_ms, plan->reference))
            keep(plan, i, HF_RETENTION_WITHIN);
}

/* Those that do not count.  Without a rule everything stays, but for what a person wants gone. */
static void
keep_for_a_while(struct plan *plan)
{
    const struct hf_retention_policy *policy = plan->policy;
    for (size_t i = 0; i < plan->count; i++) {
        const struct hf_retention_backup *backup = &plan->backups[i];
        const bool broken = backup->state == HF_BACKUP_FAILED || backup->state == HF_BACKUP_DAMAGED;
        if (broken && policy->replaced)
            continue;
        if (!hf_retention_has_rule(policy))
            keep(plan, i, HF_RETENTION_NO_RULE);
        else if (broken && !is_older_than(backup->state_since, policy->failed_grace_ms, plan->reference))
            keep(plan, i, HF_RETENTION_FAILED_GRACE);
        else if (backup->state == HF_BACKUP_UNPROVEN &&
                 !is_older_than(backup->time, policy->unproven_grace_ms, plan->reference))
            keep(plan, i, HF_RETENTION_UNPROVEN_GRACE);
    }
}

/* A backup needs older ones, so that one walk from the newest on is enough; but what a log says need not be so. */
static void
keep_what_is_needed(struct plan *plan)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (size_t i = 0; i < plan->count; i++) {
            const size_t at = plan->newest_first[i], needed = find(plan, &plan->backups[at].needs);
            if (!plan->decisions[at].keep || needed == HF_RETENTION_NONE)
                continue;
            changed = changed || !plan->decisions[needed].keep;
            keep(plan, needed, HF_RETENTION_NEEDED);
        }
    }
}

static size_t
find(const struct plan *plan, const struct hf_id *id)
{
    size_t low = 0, high = plan->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = hf_id_compare(&plan->backups[plan->by_id[middle]].backup, id);
        if (order == 0)
            return plan->by_id[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return HF_RETENTION_NONE;
}

static void
keep_the_minimum(struct plan *plan)
{
    int64_t left = 0;
    for (size_t i = 0; i < plan->count; i++)
        left += plan->decisions[i].keep && counts(plan, i) ? 1 : 0;
    for (size_t i = 0; i < plan->count && left < plan->policy->minimum; i++) {
        const size_t at = plan->newest_first[i];
        if (plan->decisions[at].keep || !counts(plan, at))
            continue;
        keep(plan, at, HF_RETENTION_MINIMUM);
        left++;
    }
}

static void
remove_the_rest(struct plan *plan)
{
    static const enum hf_retention_reason reasons[] = {
        [HF_BACKUP_UNPROVEN] = HF_RETENTION_UNPROVEN,
        [HF_BACKUP_PROVEN] = HF_RETENTION_BEYOND_RULES,
        [HF_BACKUP_FAILED] = HF_RETENTION_FAILED,
        [HF_BACKUP_DAMAGED] = HF_RETENTION_DAMAGED,
    };
    for (size_t i = 0; i < plan->count; i++)
        if (!plan->decisions[i].keep)
            plan->decisions[i].reasons = BIT(reasons[plan->backups[i].state]);
}

static void
keep(struct plan *plan, size_t index, enum hf_retention_reason reason)
{
    plan->decisions[index].keep = true;
    plan->decisions[index].reasons |= BIT(reason);
}

static bool
counts(const struct plan *plan, size_t index)
{
    return plan->backups[index].state == HF_BACKUP_PROVEN;
}

/* NOT_SET is before every moment, WITHOUT_END after. */
static bool
ended(const struct plan *plan, int64_t until)
{
    return until <= plan->moment;
}

/* Without overflow, whatever stands in a log. */
static bool
is_older_than(int64_t time, int64_t age_ms, int64_t reference)
{
    int64_t border;
    return !__builtin_sub_overflow(reference, age_ms, &border) && time < border;
}
