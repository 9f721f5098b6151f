#include "tests/support/test.h"

#include "base/time.h"
#include "server/retention/report.h"
#include "tests/retention/histories.h"

#define MOST 32

/* Backups of one source, oldest first, one letter each: p proven, u unproven, f failed, d damaged. */
struct bench {
    struct hf_retention_policy policy;
    size_t count;
    struct hf_retention_backup backups[MOST];
    struct hf_retention_decision decisions[MOST];
    struct hf_retention_summary summary;
    int64_t now, newest_log_at;
};

static int64_t
moment(const char *text)
{
    struct hf_error err;
    int64_t ms;
    hf_assert_ok(hf_time_parse(text, &ms, &err), &err);
    return ms;
}

/* A day between two of them; the last one was just taken. */
static struct bench
days(const char *states)
{
    struct bench bench = {.count = strlen(states)};
    const int64_t first = moment("2026-11-01T12:00:00Z");
    for (size_t i = 0; i < bench.count; i++) {
        bench.backups[i] = (struct hf_retention_backup){.sequence = 10 + i,
                                                        .time = first + (int64_t)i * DAY,
                                                        .state_since = first + (int64_t)i * DAY,
                                                        .state = states[i] == 'p'   ? HF_BACKUP_PROVEN
                                                                 : states[i] == 'f' ? HF_BACKUP_FAILED
                                                                 : states[i] == 'd' ? HF_BACKUP_DAMAGED
                                                                                    : HF_BACKUP_UNPROVEN,
                                                        .held_until = HF_RETENTION_NOT_SET,
                                                        .locked_until = HF_RETENTION_NOT_SET};
        bench.backups[i].backup.bytes[0] = (uint8_t)(i + 1);
        bench.now = bench.newest_log_at = bench.backups[i].time;
    }
    return bench;
}

static void
plan(struct bench *bench)
{
    struct hf_error err;
    hf_assert_ok(hf_retention_plan(&bench->policy, bench->backups, bench->count, bench->now, bench->newest_log_at,
                                   bench->decisions, &bench->summary, &err),
                 &err);
}

/* One letter a backup: k stays, - goes. */
static void
assert_decisions(struct bench *bench, const char *wanted)
{
    char got[MOST + 1] = "";
    plan(bench);
    for (size_t i = 0; i < bench->count; i++)
        got[i] = bench->decisions[i].keep ? 'k' : '-';
    assert_string_equal(got, wanted);
}

static void
assert_sentence(const struct bench *bench, size_t index, const char *wanted)
{
    _cleanup_(hf_buf_done) struct hf_buf sentence = HF_BUF_INIT(4 * HF_KIB);
    const struct hf_retention_limits limits = {.most_percent = 30, .most_at_once = 20};
    const struct hf_retention_planned planned = {.source = "clinic",
                                                 .policy = &bench->policy,
                                                 .limits = &limits,
                                                 .count = bench->count,
                                                 .backups = bench->backups,
                                                 .decisions = bench->decisions,
                                                 .summary = &bench->summary};
    struct hf_error err;
    hf_assert_ok(hf_retention_explain(&planned, index, &sentence, &err), &err);
    assert_string_equal(hf_buf_text(&sentence), wanted);
}

HF_TEST(without_any_rule_everything_stays)
{
    struct bench bench = days("pufdpp");
    bench.policy.minimum = 1;
    assert_decisions(&bench, "kkkkkk");
    assert_sentence(&bench, 0, "Stays: the source has no rule by which backups go.");
}

HF_TEST(without_a_proven_backup_everything_stays)
{
    struct bench bench = days("ufduuu");
    bench.policy.last = 1;
    assert_decisions(&bench, "kkkkkk");
    assert_sentence(&bench, 1, "Stays: no backup of this source is proven.");
}

HF_TEST(the_last_ones_are_counted_among_the_proven)
{
    struct bench bench = days("ppupfpd");
    bench.policy.last = 2;
    assert_decisions(&bench, "---k-kk");
    assert_sentence(&bench, 0, "Goes: it is proven, and no rule keeps it.");
    assert_sentence(&bench, 2, "Goes: it was never proven, and a proven one is more than 0 ms younger.");
    assert_sentence(&bench, 3, "Stays: it is number 2 of the last 2.");
    assert_sentence(&bench, 4, "Goes: it failed, and a newer one is proven.");
    assert_sentence(&bench, 5, "Stays: it is the newest proven backup; it is number 1 of the last 2.");
    assert_sentence(&bench, 6,
                    "Stays: it is newer than the newest proven backup; it is damaged, until a proven one was "
                    "taken 0 ms after that was found.");
}

HF_TEST(the_newest_one_of_each_day_stays)
{
    struct bench bench = days("pppp");
    bench.policy.periods[HF_RETENTION_DAILY] = 2;
    bench.backups[2].time -= 2 * HOUR; // 10:00 and
    bench.backups[3].time -= DAY;      // 12:00 of one day
    assert_decisions(&bench, "-k-k");
    assert_sentence(&bench, 1, "Stays: it is the newest proven one of 2026-11-02 (daily, 2 of 2).");
}

HF_TEST(weeks_begin_on_monday_and_months_end_where_they_end)
{
    // 2026-11-01 is a Sunday: the first backup is alone in its week.
    struct bench bench = days("pppppppppp");
    bench.policy.periods[HF_RETENTION_WEEKLY] = 9;
    assert_decisions(&bench, "k------k-k");
    assert_sentence(&bench, 0, "Stays: it is the newest proven one of 2026-W44 (weekly, 3 of 9).");

    bench.policy.periods[HF_RETENTION_WEEKLY] = 0;
    bench.policy.periods[HF_RETENTION_MONTHLY] = 2;
    bench.backups[0].time -= 13 * HOUR; // 23:00 of October 31st
    assert_decisions(&bench, "k--------k");
    bench.policy.periods[HF_RETENTION_MONTHLY] = 0;
    bench.policy.periods[HF_RETENTION_YEARLY] = 2;
    assert_decisions(&bench, "---------k");
}

HF_TEST(a_window_ends_at_the_newest_proven_backup_and_not_at_the_clock)
{
    struct bench bench = days("pppppp");
    bench.policy.within_ms = 2 * DAY;
    assert_decisions(&bench, "---kkk");
    bench.now += 1000 * DAY;
    bench.newest_log_at += 1000 * DAY;
    assert_decisions(&bench, "---kkk");
    assert_sentence(&bench, 3, "Stays: it was taken within 2 d 0 h before the newest proven one.");
}

HF_TEST(the_minimum_fills_up_with_the_newest)
{
    struct bench bench = days("pppppp");
    bench.policy.periods[HF_RETENTION_MONTHLY] = 5;
    bench.policy.minimum = 3;
    assert_decisions(&bench, "---kkk");
    assert_sentence(&bench, 4, "Stays: at least 3 proven ones stay.");
}

HF_TEST(what_is_held_counts_towards_the_minimum)
{
    struct bench bench = days("pppppp");
    bench.policy.last = 1;
    bench.policy.minimum = 2;
    bench.backups[0].held_until = HF_RETENTION_WITHOUT_END;
    assert_decisions(&bench, "k----k");
    assert_sentence(&bench, 0, "Stays: it is held.");
}

HF_TEST(a_hold_ends_when_both_the_clock_and_the_log_are_past_it)
{
    struct bench bench = days("pp");
    bench.policy.last = 1;
    bench.backups[0].held_until = bench.now + DAY;
    bench.now += 2 * DAY;
    assert_decisions(&bench, "kk");
    assert_sentence(&bench, 0, "Stays: it is held until 2026-11-03T12:00:00.000Z.");
    bench.newest_log_at = bench.now;
    assert_decisions(&bench, "-k");
    bench.now -= 2 * DAY;
    assert_decisions(&bench, "kk");
}

HF_TEST(a_lock_a_pin_and_a_session_keep_what_they_name)
{
    struct bench bench = days("ppppp");
    bench.policy.last = 1;
    bench.backups[0].locked_until = bench.now + 1;
    bench.backups[1].pinned = true;
    bench.backups[2].in_session = true;
    bench.backups[3].locked_until = bench.now; // ends now
    assert_decisions(&bench, "kkk-k");
    assert_sentence(&bench, 0, "Stays: it is locked until 2026-11-05T12:00:00.001Z.");
    assert_sentence(&bench, 1, "Stays: it is being read.");
    assert_sentence(&bench, 2, "Stays: a backup that is being taken builds on it.");
}

HF_TEST(an_unproven_backup_has_its_time_to_be_proven)
{
    struct bench bench = days("upppppp");
    bench.policy.last = 9;
    bench.policy.unproven_grace_ms = 6 * DAY;
    assert_decisions(&bench, "kkkkkkk");
    assert_sentence(&bench, 0, "Stays: it may still be proven, until a proven one is 6 d 0 h younger.");
    bench.policy.unproven_grace_ms = 6 * DAY - 1;
    assert_decisions(&bench, "-kkkkkk");
    bench.backups[6].state = HF_BACKUP_UNPROVEN; // the newest proven one is now a day older
    assert_decisions(&bench, "kkkkkkk");
}

HF_TEST(a_damaged_backup_stays_for_a_while_after_that_was_found)
{
    struct bench bench = days("dpppppp");
    bench.policy.last = 9;
    bench.policy.failed_grace_ms = 2 * DAY;
    assert_decisions(&bench, "-kkkkkk");
    assert_sentence(&bench, 0, "Goes: it is damaged, and a newer one is proven.");
    bench.backups[0].state_since = bench.backups[5].time;
    assert_decisions(&bench, "kkkkkkk");
    assert_sentence(&bench, 0, "Stays: it is damaged, until a proven one was taken 2 d 0 h after that was found.");
}

HF_TEST(what_a_newer_proven_one_replaced_goes_when_a_person_says_so)
{
    struct bench bench = days("dfpuppd");
    bench.policy.replaced = true;
    assert_decisions(&bench, "--kkkkk");
    bench.policy.last = 9;
    bench.policy.failed_grace_ms = bench.policy.unproven_grace_ms = 90 * DAY;
    assert_decisions(&bench, "--kkkkk");
    bench.backups[0].held_until = HF_RETENTION_WITHOUT_END;
    assert_decisions(&bench, "k-kkkkk");
}

HF_TEST(a_chain_stays_together)
{
    struct bench bench = days("pppppp");
    bench.policy.last = 1;
    bench.backups[5].needs = bench.backups[3].backup;
    bench.backups[3].needs = bench.backups[0].backup;
    bench.backups[2].needs = bench.backups[1].backup;
    assert_decisions(&bench, "k--k-k");
    assert_sentence(&bench, 3, "Stays: a backup that stays needs it.");
}

HF_TEST(a_chain_that_leads_to_newer_backups_stays_together_too)
{
    struct bench bench = days("pppppp");
    bench.policy.last = 1;
    bench.backups[0].held_until = HF_RETENTION_WITHOUT_END;
    for (size_t i = 0; i < 4; i++)
        bench.backups[i].needs = bench.backups[i + 1].backup;
    assert_decisions(&bench, "kkkkkk");
    bench.backups[3].needs = bench.backups[0].backup; // in a circle
    assert_decisions(&bench, "kkkk-k");
}

HF_TEST(what_is_needed_counts_towards_the_minimum)
{
    struct bench bench = days("pppppp");
    bench.policy.last = 1;
    bench.policy.minimum = 2;
    bench.backups[5].needs = bench.backups[0].backup;
    assert_decisions(&bench, "k----k");
}

HF_TEST(the_order_is_that_of_the_log_and_not_that_of_the_times)
{
    struct bench bench = days("pppp");
    bench.policy.last = 2;
    bench.backups[0].time += 500 * DAY;
    bench.backups[3].time -= 500 * DAY;
    assert_decisions(&bench, "--kk");
}

HF_TEST(two_backups_at_one_place_of_the_log_are_refused)
{
    struct bench bench = days("pp");
    struct hf_error err;
    bench.backups[1].sequence = bench.backups[0].sequence;
    assert_false(hf_retention_plan(&bench.policy, bench.backups, bench.count, bench.now, bench.newest_log_at,
                                   bench.decisions, &bench.summary, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "two backups have the place 10 in the log");

    bench.backups[1] = bench.backups[0];
    bench.backups[1].sequence++;
    assert_false(hf_retention_plan(&bench.policy, bench.backups, bench.count, bench.now, bench.newest_log_at,
                                   bench.decisions, &bench.summary, &err));
    assert_string_equal(err.message, "backup \"01000000000000000000000000000000\" comes twice");
}

HF_TEST(much_at_once_is_unusual_and_one_never_is)
{
    const struct hf_retention_limits limits = {.most_percent = 30, .most_at_once = 4};
    const struct {
        struct hf_retention_summary summary;
        bool unusual;
    } cases[] = {
        {{.backups = 2, .proven = 2, .removed = 1, .proven_removed = 1}, false},
        {{.backups = 10, .proven = 10, .removed = 3, .proven_removed = 3}, false},
        {{.backups = 10, .proven = 9, .removed = 3, .proven_removed = 3}, true},
        {{.backups = 20, .proven = 4, .removed = 4, .proven_removed = 1}, false},
        {{.backups = 20, .proven = 4, .removed = 3, .proven_removed = 2}, true},
        {{.backups = 100, .proven = 100, .removed = 5, .proven_removed = 5}, true},
        {{.backups = 100, .proven = 1, .removed = 5, .proven_removed = 0}, true},
        {{.backups = 10, .proven = 2, .removed = 3, .proven_removed = 1}, false},
        {{.backups = 2, .proven = 2, .removed = 2, .proven_removed = 2}, true},
        {{.backups = 0}, false},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_int_equal(hf_retention_is_unusual(&limits, &cases[i].summary), cases[i].unusual);
}
