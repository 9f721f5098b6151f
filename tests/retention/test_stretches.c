/* Which parts of a stream follow the backups that stay. */
#include "server/retention/stretches.h"
#include "tests/support/test.h"

#define DAY  ((int64_t)24 * 60 * 60 * 1000)
#define MOST 16

struct bench {
    struct hf_retention_policy policy;
    int64_t within_ms;
    size_t backups, stretches;
    struct hf_retention_backup backup[MOST];
    struct hf_retention_decision decision[MOST];
    struct hf_retention_summary summary;
    struct hf_retention_stretch stretch[MOST];
    enum hf_stretch_reason reason[MOST];
    struct hf_stretch_plan plan;
};

/*
 * A log from left to right, a day and ten entries a letter: p, u, f are backups by their states, s is a stretch, h one
 * with a history file.  A position is its place in the log.
 */
static struct bench
bench_of(const char *log)
{
    struct bench bench = {.policy = {.last = 2, .minimum = 1}};
    for (uint64_t at = 1; log[at - 1] != 0; at++) {
        const char what = log[at - 1];
        if (what == 's' || what == 'h') {
            struct hf_retention_stretch *stretch = &bench.stretch[bench.stretches++];
            *stretch = (struct hf_retention_stretch){.sequence = at * 10,
                                                     .begin = at * 1000 - 1000,
                                                     .end = at * 1000,
                                                     .committed_at = (int64_t)at * DAY,
                                                     .stored_bytes = 100,
                                                     .history = what == 'h'};
            stretch->stretch.bytes[0] = (uint8_t)at;
            continue;
        }
        struct hf_retention_backup *backup = &bench.backup[bench.backups++];
        *backup = (struct hf_retention_backup){.sequence = at * 10,
                                               .begun = at * 10 - 5,
                                               .position = at * 1000 - 500,
                                               .needs_log = HF_RETENTION_NO_NEED,
                                               .time = (int64_t)at * DAY,
                                               .state_since = (int64_t)at * DAY,
                                               .held_until = HF_RETENTION_NOT_SET,
                                               .locked_until = HF_RETENTION_NOT_SET,
                                               .state = what == 'p'   ? HF_BACKUP_PROVEN
                                                        : what == 'f' ? HF_BACKUP_FAILED
                                                                      : HF_BACKUP_UNPROVEN};
        backup->backup.bytes[0] = (uint8_t)at;
    }
    return bench;
}

/* One letter a stretch, by its reason. */
static void
must_be(struct bench *bench, const char *wanted)
{
    static const char letters[] = {
        [HF_STRETCH_FOLLOWS] = 'k',      [HF_STRETCH_NEWEST] = 'n',         [HF_STRETCH_HISTORY] = 'h',
        [HF_STRETCH_NO_RULE] = 'r',      [HF_STRETCH_NOTHING_PROVEN] = 'u', [HF_STRETCH_BEFORE_BACKUPS] = '-',
        [HF_STRETCH_BEFORE_WINDOW] = 'w'};
    char got[MOST + 1] = "";
    struct hf_error err;
    size_t gone = 0;
    hf_assert_ok(hf_retention_plan(&bench->policy, bench->backup, bench->backups, 100 * DAY, 100 * DAY, bench->decision,
                                   &bench->summary, &err),
                 &err);
    hf_retention_plan_stretches(&bench->policy, bench->within_ms, bench->backup, bench->decision, bench->backups,
                                &bench->summary, bench->stretch, bench->stretches, bench->reason, &bench->plan);
    for (size_t i = 0; i < bench->stretches; i++) {
        got[i] = letters[bench->reason[i]];
        gone += hf_stretch_reason_removes(bench->reason[i]);
    }
    assert_string_equal(got, wanted);
    assert_int_equal(bench->plan.removed, gone);
    assert_int_equal(bench->plan.removed_bytes, 100 * gone);
}

HF_TEST(log_stays_from_the_oldest_backup_that_stays)
{
    struct bench bench = bench_of("sspsspspss");
    must_be(&bench, "----kkk");
    assert_int_equal(bench.plan.start, 1);
}

HF_TEST(without_a_rule_or_a_proven_backup_all_of_it_stays)
{
    struct bench bench = bench_of("sspsps");
    bench.policy.last = 0;
    must_be(&bench, "rrrr");
    bench = bench_of("ssususs");
    must_be(&bench, "uuuuu");
    bench = bench_of("");
    must_be(&bench, "");
}

HF_TEST(a_window_ends_at_the_newest_proven_backup)
{
    struct bench bench = bench_of("spspspspsu");
    bench.policy.last = 10;
    bench.within_ms = 3 * DAY;
    must_be(&bench, "wwkkk"); // proven on the days 2, 4, 6, 8: from day 4 any moment since day 5 is reached
    bench.within_ms = 4 * DAY;
    must_be(&bench, "wwkkk");
    bench.within_ms = 4 * DAY + 1;
    must_be(&bench, "wkkkk");
    bench.within_ms = 60 * DAY; // nothing is that old: the oldest that stays
    must_be(&bench, "-kkkk");
}

HF_TEST(a_window_alone_is_a_rule)
{
    struct bench bench = bench_of("spspsp");
    bench.policy.last = 0;
    bench.within_ms = DAY;
    must_be(&bench, "wwk");
}

HF_TEST(only_a_proven_backup_begins_a_window)
{
    struct bench bench = bench_of("spsfsps");
    bench.policy.last = 10;
    bench.policy.failed_grace_ms = 100 * DAY;
    bench.within_ms = 2 * DAY;
    must_be(&bench, "wkkk");
}

HF_TEST(what_holds_the_other_position_that_the_start_needs_stays)
{
    struct bench bench = bench_of("sssspspss");
    must_be(&bench, "----kkk");
    bench.backup[0].needs_log = 1000; // the first byte of the second stretch
    must_be(&bench, "-k--kkk");
    bench.backup[0].needs_log = 999; // the last one of the first
    must_be(&bench, "k---kkk");
    bench.backup[0].needs_log = 0;
    must_be(&bench, "k---kkk");
    bench.backup[0].needs_log = HF_RETENTION_NO_NEED;
    bench.backup[1].needs_log = 1000; // it is not the start
    must_be(&bench, "----kkk");
}

HF_TEST(what_a_backup_of_a_standby_that_is_behind_needs_stays)
{
    struct bench bench = bench_of("ssps");
    bench.backup[0].position = 1500; // the second stretch reaches behind it
    must_be(&bench, "-kk");
    bench.backup[0].position = 2000;
    must_be(&bench, "--k");
    bench.backup[0].position = 0; // not known
    must_be(&bench, "kkk");
}

HF_TEST(what_was_committed_while_the_backup_was_taken_stays)
{
    struct bench bench = bench_of("ssp");
    bench.stretch[1].sequence = 26; // its INTENT was entry 25
    must_be(&bench, "-k");
}

HF_TEST(histories_and_the_newest_stay)
{
    struct bench bench = bench_of("shsp");
    must_be(&bench, "-hn");
}

HF_TEST(the_report_tells_runs_newest_first)
{
    struct bench bench = bench_of("shsspss");
    struct hf_error err;
    json_t *report;
    must_be(&bench, "-h--kk");
    hf_assert_ok(
        hf_stretch_report(bench.backup, bench.stretch, bench.stretches, bench.reason, &bench.plan, 0, &report, &err),
        &err);
    const json_t *runs = json_object_get(report, "runs");
    assert_int_equal(json_array_size(runs), 4);
    static const struct {
        const char *reason, *sentence;
        json_int_t stretches;
    } wanted[] = {{"follows", "Stays: any moment since backup 05", 2},
                  {"before_backups", "Goes: it is older than backup 05", 2},
                  {"history", "Stays: it holds the history", 1},
                  {"before_backups", "Goes: it is older than backup 05", 1}};
    for (size_t i = 0; i < HF_LENGTH(wanted); i++) {
        const json_t *run = json_array_get(runs, i);
        assert_string_equal(json_string_value(json_object_get(run, "reason")), wanted[i].reason);
        assert_memory_equal(json_string_value(json_object_get(run, "sentence")), wanted[i].sentence,
                            strlen(wanted[i].sentence));
        assert_int_equal(json_integer_value(json_object_get(run, "stretches")), wanted[i].stretches);
        assert_int_equal(json_integer_value(json_object_get(run, "stored_bytes")), 100 * wanted[i].stretches);
    }
    assert_int_equal(json_integer_value(json_object_get(report, "go")), 3);
    assert_int_equal(json_integer_value(json_object_get(report, "stay")), 3);
    json_decref(report);
}
