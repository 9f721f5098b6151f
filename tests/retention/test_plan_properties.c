/*
 * What holds for every plan, over ten thousand histories.  HOLDFAST_SEED chooses others; the seed of a
 * history that breaks a rule is printed.
 */
#include "tests/support/test.h"

#include <inttypes.h>
#include <time.h>

#include "tests/retention/histories.h"

#define HISTORIES 10000

/* A history and what was decided about it. */
struct planned {
    struct history history;
    struct hf_retention_decision decisions[HISTORY_MOST];
    struct hf_retention_summary summary;
};

typedef const char *rule(const struct planned *planned); // NULL, or what is broken

static uint64_t
first_seed(void)
{
    const char *given = getenv("HOLDFAST_SEED");
    return given == NULL ? UINT64_C(20261123) : strtoull(given, NULL, 10);
}

static void
plan(struct planned *planned)
{
    struct hf_error err;
    memset(planned->decisions, 0xee, sizeof planned->decisions);
    hf_assert_ok(hf_retention_plan(&planned->history.policy, planned->history.backups, planned->history.count,
                                   planned->history.now, planned->history.newest_log_at, planned->decisions,
                                   &planned->summary, &err),
                 &err);
}

static void
holds_for_every_history(rule *holds)
{
    struct planned *planned = malloc(sizeof *planned);
    assert_non_null(planned);
    const uint64_t seed = first_seed();
    print_message("# %d histories from seed %" PRIu64 "\n", HISTORIES, seed);
    for (uint64_t i = 0; i < HISTORIES; i++) {
        make_history(seed + i, &planned->history);
        plan(planned);
        const char *broken = holds(planned);
        if (broken != NULL)
            fail_msg("%s (HOLDFAST_SEED=%" PRIu64 ", %zu backups)", broken, seed + i, planned->history.count);
    }
    free(planned);
}

static const struct hf_retention_backup *
newest_proven(const struct history *history)
{
    const struct hf_retention_backup *newest = NULL;
    for (size_t i = 0; i < history->count; i++)
        if (history->backups[i].state == HF_BACKUP_PROVEN &&
            (newest == NULL || history->backups[i].sequence > newest->sequence))
            newest = &history->backups[i];
    return newest;
}

static bool
has(const struct hf_retention_decision *decision, enum hf_retention_reason reason)
{
    return (decision->reasons & (UINT32_C(1) << reason)) != 0;
}

/* The history without those that go. */
static void
carry_out(struct planned *planned)
{
    size_t kept = 0;
    for (size_t i = 0; i < planned->history.count; i++)
        if (planned->decisions[i].keep)
            planned->history.backups[kept++] = planned->history.backups[i];
    planned->history.count = kept;
}

static const char *
has_one_decision_and_its_reasons(const struct planned *planned)
{
    size_t removed = 0, proven_removed = 0, proven = 0;
    for (size_t i = 0; i < planned->history.count; i++) {
        const struct hf_retention_decision *decision = &planned->decisions[i];
        int reasons = 0;
        for (enum hf_retention_reason reason = 0; reason < HF_RETENTION_REASONS; reason++) {
            if (has(decision, reason) && hf_retention_reason_removes(reason) == decision->keep)
                return "a reason says the contrary of the decision";
            reasons += has(decision, reason) ? 1 : 0;
        }
        if (reasons == 0 || (!decision->keep && reasons != 1))
            return "a backup that stays has no reason, or one that goes has not exactly one";
        if (decision->reasons >> HF_RETENTION_REASONS != 0)
            return "there are reasons that do not exist";
        const bool counts = planned->history.backups[i].state == HF_BACKUP_PROVEN;
        proven += counts ? 1 : 0;
        removed += decision->keep ? 0 : 1;
        proven_removed += !decision->keep && counts ? 1 : 0;
    }
    if (planned->summary.removed != removed || planned->summary.proven_removed != proven_removed ||
        planned->summary.proven != proven || planned->summary.backups != planned->history.count)
        return "the summary does not add up";
    return NULL;
}

HF_TEST(every_backup_has_one_decision_and_its_reasons)
{
    holds_for_every_history(has_one_decision_and_its_reasons);
}

static const char *
keeps_the_last_proof(const struct planned *planned)
{
    const struct hf_retention_backup *proven = newest_proven(&planned->history);
    for (size_t i = 0; i < planned->history.count; i++) {
        if (planned->decisions[i].keep)
            continue;
        if (proven == NULL)
            return "something goes although nothing is proven";
        if (planned->history.backups[i].sequence >= proven->sequence)
            return "the newest proven backup goes, or one that is newer";
    }
    return NULL;
}

HF_TEST(the_newest_proven_backup_stays_and_so_does_everything_newer)
{
    holds_for_every_history(keeps_the_last_proof);
}

static const char *
keeps_what_is_named(const struct planned *planned)
{
    const int64_t moment =
        planned->history.now < planned->history.newest_log_at ? planned->history.now : planned->history.newest_log_at;
    for (size_t i = 0; i < planned->history.count; i++) {
        const struct hf_retention_backup *backup = &planned->history.backups[i];
        if (!planned->decisions[i].keep &&
            (backup->pinned || backup->in_session || backup->held_until > moment || backup->locked_until > moment))
            return "a backup goes that is held, locked, pinned or named by a session";
    }
    return NULL;
}

HF_TEST(nothing_held_locked_pinned_or_named_by_a_session_goes)
{
    holds_for_every_history(keeps_what_is_named);
}

static const char *
keeps_what_is_needed(const struct planned *planned)
{
    const struct history *history = &planned->history;
    for (size_t i = 0; i < history->count; i++)
        for (size_t at = 0; planned->decisions[i].keep && at < history->count; at++)
            if (hf_id_equal(&history->backups[i].needs, &history->backups[at].backup) && !planned->decisions[at].keep)
                return "a backup stays that needs one which goes";
    return NULL;
}

HF_TEST(what_a_backup_that_stays_needs_stays)
{
    holds_for_every_history(keeps_what_is_needed);
}

static const char *
keeps_the_minimum(const struct planned *planned)
{
    const size_t left = planned->summary.proven - planned->summary.proven_removed;
    const size_t wanted = (size_t)planned->history.policy.minimum;
    return left < wanted && left < planned->summary.proven ? "fewer proven backups stay than the minimum" : NULL;
}

HF_TEST(the_minimum_of_proven_backups_stays)
{
    holds_for_every_history(keeps_the_minimum);
}

/* Each rule, worked out once more in the simplest way there is. */
static const char *
satisfies_its_rules(const struct planned *planned)
{
    const struct history *history = &planned->history;
    const struct hf_retention_backup *proven = newest_proven(history);
    for (size_t i = 0; i < history->count; i++) {
        const struct hf_retention_backup *backup = &history->backups[i];
        size_t newer = 0, newer_in_period[HF_RETENTION_PERIODS] = {0}, newer_periods[HF_RETENTION_PERIODS] = {0};
        for (size_t at = 0; at < history->count; at++) {
            const struct hf_retention_backup *other = &history->backups[at];
            if (other->state != HF_BACKUP_PROVEN || other->sequence <= backup->sequence)
                continue;
            newer++;
            for (enum hf_retention_period period = 0; period < HF_RETENTION_PERIODS; period++) {
                const int64_t number = hf_calendar_number(period, other->time);
                bool newest_of_it = true;
                for (size_t third = 0; third < history->count; third++)
                    newest_of_it =
                        newest_of_it && !(history->backups[third].state == HF_BACKUP_PROVEN &&
                                          history->backups[third].sequence > other->sequence &&
                                          hf_calendar_number(period, history->backups[third].time) == number);
                newer_periods[period] += newest_of_it ? 1 : 0;
                newer_in_period[period] += number == hf_calendar_number(period, backup->time) ? 1 : 0;
            }
        }
        const bool counts = backup->state == HF_BACKUP_PROVEN;
        const bool rules = hf_retention_has_rule(&history->policy);
        bool wanted = counts && (int64_t)newer < history->policy.last;
        if (has(&planned->decisions[i], HF_RETENTION_LAST) != wanted)
            return "the rule about the last ones is not what it says";
        for (enum hf_retention_period period = 0; period < HF_RETENTION_PERIODS; period++) {
            wanted = counts && newer_in_period[period] == 0 &&
                     (int64_t)newer_periods[period] < history->policy.periods[period];
            if (has(&planned->decisions[i], HF_RETENTION_HOUR + (enum hf_retention_reason)period) != wanted)
                return "the rule about a period is not what it says";
        }
        const int64_t moment = history->now < history->newest_log_at ? history->now : history->newest_log_at;
        const int64_t end = proven == NULL || proven->time > moment ? moment : proven->time;
        wanted = counts && history->policy.within_ms > 0 && backup->time >= end - history->policy.within_ms;
        if (has(&planned->decisions[i], HF_RETENTION_WITHIN) != wanted)
            return "the rule about a time is not what it says";
        wanted =
            rules && backup->state == HF_BACKUP_UNPROVEN && backup->time >= end - history->policy.unproven_grace_ms;
        if (has(&planned->decisions[i], HF_RETENTION_UNPROVEN_GRACE) != wanted)
            return "the grace of unproven backups is not what it says";
        wanted = rules && !history->policy.replaced &&
                 (backup->state == HF_BACKUP_FAILED || backup->state == HF_BACKUP_DAMAGED) &&
                 backup->state_since >= end - history->policy.failed_grace_ms;
        if (has(&planned->decisions[i], HF_RETENTION_FAILED_GRACE) != wanted)
            return "the grace of failed backups is not what it says";
    }
    return NULL;
}

/* Fewer histories: it is cubic. */
HF_TEST(every_rule_keeps_just_what_it_says)
{
    struct planned *planned = malloc(sizeof *planned);
    assert_non_null(planned);
    for (uint64_t i = 0; i < HISTORIES; i++) {
        make_history(first_seed() + i, &planned->history);
        if (planned->history.count > 24)
            planned->history.count = 24;
        plan(planned);
        const char *broken = satisfies_its_rules(planned);
        if (broken != NULL)
            fail_msg("%s (HOLDFAST_SEED=%" PRIu64 ")", broken, first_seed() + i);
    }
    free(planned);
}

static const char *
goes_for_a_reason_that_is_true(const struct planned *planned)
{
    static const enum hf_retention_reason wanted[] = {
        [HF_BACKUP_UNPROVEN] = HF_RETENTION_UNPROVEN,
        [HF_BACKUP_PROVEN] = HF_RETENTION_BEYOND_RULES,
        [HF_BACKUP_FAILED] = HF_RETENTION_FAILED,
        [HF_BACKUP_DAMAGED] = HF_RETENTION_DAMAGED,
    };
    const bool rules = hf_retention_has_rule(&planned->history.policy);
    for (size_t i = 0; i < planned->history.count; i++) {
        const struct hf_retention_backup *backup = &planned->history.backups[i];
        const bool broken = backup->state == HF_BACKUP_FAILED || backup->state == HF_BACKUP_DAMAGED;
        if (planned->decisions[i].keep)
            continue;
        if (!has(&planned->decisions[i], wanted[backup->state]))
            return "a backup goes for a reason that is not its own";
        if (!rules && !(broken && planned->history.policy.replaced))
            return "a backup goes although its source has no rule";
    }
    return NULL;
}

HF_TEST(what_goes_goes_for_its_own_reason_and_by_a_rule)
{
    holds_for_every_history(goes_for_a_reason_that_is_true);
}

/* Taken over by the plan below: what it says of each backup must not depend on anything else. */
static const char *
compare(const struct planned *a, const struct planned *b, uint32_t ignored_reasons)
{
    for (size_t i = 0; i < a->history.count; i++)
        for (size_t at = 0; at < b->history.count; at++)
            if (hf_id_equal(&a->history.backups[i].backup, &b->history.backups[at].backup) &&
                (a->decisions[i].keep != b->decisions[at].keep ||
                 (a->decisions[i].reasons & ~ignored_reasons) != (b->decisions[at].reasons & ~ignored_reasons)))
                return "a backup is decided about in two ways";
    return NULL;
}

static const char *
says_the_same_again(const struct planned *planned)
{
    static struct planned again;
    again.history = planned->history;
    for (size_t i = 0; i < again.history.count; i++) // in the opposite order
        again.history.backups[i] = planned->history.backups[planned->history.count - 1 - i];
    plan(&again);
    return compare(planned, &again, 0);
}

HF_TEST(the_same_backups_in_another_order_are_decided_about_alike)
{
    holds_for_every_history(says_the_same_again);
}

static const char *
removes_nothing_more(const struct planned *planned)
{
    static struct planned again;
    again = *planned;
    carry_out(&again);
    plan(&again);
    return again.summary.removed > 0 ? "a second plan removes more than the first" : compare(planned, &again, 0);
}

HF_TEST(a_plan_that_was_carried_out_removes_nothing_more)
{
    holds_for_every_history(removes_nothing_more);
}

/* Without its chains: there an unproven backup can keep a proven one, by needing it. */
static const char *
is_the_same_without_those_that_do_not_count(const struct planned *planned)
{
    static struct planned with, without;
    with.history = planned->history;
    without.history = planned->history;
    without.history.count = 0;
    for (size_t i = 0; i < with.history.count; i++) {
        with.history.backups[i].needs = HF_ID_NONE;
        if (with.history.backups[i].state == HF_BACKUP_PROVEN)
            without.history.backups[without.history.count++] = with.history.backups[i];
    }
    plan(&with);
    plan(&without);
    return compare(&with, &without, 0);
}

HF_TEST(a_backup_that_is_not_proven_never_satisfies_a_rule)
{
    holds_for_every_history(is_the_same_without_those_that_do_not_count);
}

static const char *
does_not_follow_a_clock_that_is_ahead(const struct planned *planned)
{
    static struct planned ahead;
    ahead.history = planned->history;
    if (ahead.history.now < ahead.history.newest_log_at)
        return NULL;
    ahead.history.now += 4000 * DAY;
    plan(&ahead);
    return compare(planned, &ahead, 0);
}

HF_TEST(a_clock_that_jumps_ahead_removes_nothing_more)
{
    holds_for_every_history(does_not_follow_a_clock_that_is_ahead);
}

/* More protection never costs another backup its place. */
static const char *
holds_only_add(const struct planned *planned)
{
    static struct planned held;
    held.history = planned->history;
    for (size_t i = 0; i < held.history.count; i += 3)
        held.history.backups[i].held_until = HF_RETENTION_WITHOUT_END;
    plan(&held);
    const bool minimum = planned->history.policy.minimum > 0; // what is held may be what makes up the minimum
    for (size_t i = 0; i < held.history.count; i++)
        if (!held.decisions[i].keep && planned->decisions[i].keep &&
            !(minimum && has(&planned->decisions[i], HF_RETENTION_MINIMUM)) &&
            !(minimum && has(&planned->decisions[i], HF_RETENTION_NEEDED)))
            return "a hold on one backup removes another";
    return NULL;
}

HF_TEST(a_hold_on_one_backup_removes_no_other)
{
    holds_for_every_history(holds_only_add);
}

HF_TEST(ten_thousand_backups_are_planned_in_a_second)
{
    enum { COUNT = 10000 };
    struct hf_error err;
    uint64_t random = 5;
    struct hf_retention_backup *backups = calloc(COUNT, sizeof *backups);
    struct hf_retention_decision *decisions = calloc(COUNT, sizeof *decisions);
    struct hf_retention_summary summary;
    const struct hf_retention_policy policy = {
        .last = 10, .periods = {1000, 1000, 1000, 100, 10}, .within_ms = 30 * DAY, .minimum = 5};
    assert_true(backups != NULL && decisions != NULL);
    for (size_t i = 0; i < COUNT; i++) {
        backups[i] = (struct hf_retention_backup){.sequence = i + 1,
                                                  .time = (int64_t)i * HOUR,
                                                  .state = HF_BACKUP_PROVEN,
                                                  .held_until = HF_RETENTION_NOT_SET,
                                                  .locked_until = HF_RETENTION_NOT_SET};
        for (size_t at = 0; at < HF_ID_BYTES; at++)
            backups[i].backup.bytes[at] = (uint8_t)next_random(&random);
    }
    const clock_t began = clock();
    hf_assert_ok(hf_retention_plan(&policy, backups, COUNT, COUNT * HOUR, COUNT * HOUR, decisions, &summary, &err),
                 &err);
    assert_true(clock() - began < CLOCKS_PER_SEC);
    // 1000 hours, then the ends of the days before them: 417 days in all, of which the last 42 lie within the hours.
    assert_int_equal(summary.backups - summary.removed, 1000 + 417 - 42);
    free(backups);
    free(decisions);
}
