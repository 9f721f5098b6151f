#include "tests/support/test.h"

#include "catalog/local.h"
#include "server/job/schedule.h"

#define HOUR INT64_C(3600000)

/* A catalog, a clock, and what was started. */
struct bench {
    struct hf_catalog *catalog;
    char path[128];
    int started;
    bool refuses;
};

static void
begin(struct bench *bench)
{
    struct hf_error err;
    *bench = (struct bench){0};
    snprintf(bench->path, sizeof bench->path, "%s/catalog.db", hf_test_folder());
    hf_assert_ok(hf_catalog_open(bench->path, HF_CATALOG_WRITE, &bench->catalog, &err), &err);
}

static void
end(struct bench *bench)
{
    hf_catalog_freep(&bench->catalog);
}

static bool
start(void *context, const char *source, const char *kind, struct hf_error *err)
{
    struct bench *bench = context;
    assert_string_equal(source, "clinic");
    assert_string_equal(kind, "backup");
    if (bench->refuses)
        return hf_fail(err, HF_ERR_NO_SPACE, "too many jobs");
    bench->started++;
    return true;
}

/* When it is due next. */
static int64_t
look(struct bench *bench, int64_t every_ms, int64_t newest_at, int64_t now)
{
    struct hf_error err;
    int64_t next = INT64_MAX;
    const struct hf_schedule_entry entry = {
        .source = "clinic", .kind = "backup", .every_ms = every_ms, .newest_at = newest_at};
    hf_assert_ok(hf_schedule_look(bench->catalog, &entry, now, start, bench, &next, &err), &err);
    return next;
}

HF_TEST(a_source_without_a_backup_gets_one_at_once_and_then_at_each_interval)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    assert_int_equal(look(&bench, 6 * HOUR, -1, 1000), 1000 + 6 * HOUR);
    assert_int_equal(bench.started, 1);
    assert_int_equal(look(&bench, 6 * HOUR, 1000, 2000), 1000 + 6 * HOUR);
    assert_int_equal(look(&bench, 6 * HOUR, 1000, 999 + 6 * HOUR), 1000 + 6 * HOUR);
    assert_int_equal(bench.started, 1);
    assert_int_equal(look(&bench, 6 * HOUR, 1000, 1000 + 6 * HOUR), 1000 + 12 * HOUR);
    assert_int_equal(bench.started, 2);
}

HF_TEST(a_late_look_does_not_shift_the_times_that_follow)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    look(&bench, HOUR, -1, 0);
    assert_int_equal(look(&bench, HOUR, 0, HOUR + 1234), 2 * HOUR);
    assert_int_equal(look(&bench, HOUR, HOUR, 2 * HOUR + 99), 3 * HOUR);
    assert_int_equal(bench.started, 3);
}

HF_TEST(what_was_missed_starts_once_and_the_times_survive_a_restart)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    begin(&bench);
    look(&bench, HOUR, -1, 0);
    hf_catalog_freep(&bench.catalog);
    hf_assert_ok(hf_catalog_open(bench.path, HF_CATALOG_WRITE, &bench.catalog, &err), &err);
    assert_int_equal(look(&bench, HOUR, 0, 7 * HOUR + 5), 8 * HOUR);
    assert_int_equal(bench.started, 2);
    assert_int_equal(look(&bench, HOUR, 7 * HOUR, 7 * HOUR + 6), 8 * HOUR);
    assert_int_equal(bench.started, 2);
}

HF_TEST(a_source_that_has_a_backup_waits_for_one_interval)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    assert_int_equal(look(&bench, 6 * HOUR, 2 * HOUR, 3 * HOUR), 8 * HOUR);
    assert_int_equal(bench.started, 0);
    assert_int_equal(look(&bench, 6 * HOUR, 2 * HOUR, 8 * HOUR), 14 * HOUR);
    assert_int_equal(bench.started, 1);
}

HF_TEST(a_changed_interval_counts_from_the_newest_one)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    assert_int_equal(look(&bench, 24 * HOUR, 0, HOUR), 24 * HOUR);
    assert_int_equal(look(&bench, 2 * HOUR, 0, HOUR), 2 * HOUR);
    assert_int_equal(look(&bench, 24 * HOUR, 0, HOUR), 24 * HOUR);
    assert_int_equal(bench.started, 0);
}

HF_TEST(an_interval_that_is_off_starts_nothing_and_is_forgotten)
{
    _cleanup_(end) struct bench bench;
    bool known;
    int64_t every, next;
    struct hf_error err;
    begin(&bench);
    look(&bench, HOUR, 0, 1);
    assert_int_equal(look(&bench, 0, 0, 99 * HOUR), INT64_MAX);
    assert_int_equal(bench.started, 0);
    hf_assert_ok(hf_catalog_schedule_get(bench.catalog, "clinic", "backup", &known, &every, &next, &err), &err);
    assert_false(known);
}

HF_TEST(what_could_not_be_started_stays_due)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    int64_t next = INT64_MAX;
    const struct hf_schedule_entry entry = {.source = "clinic", .kind = "backup", .every_ms = HOUR, .newest_at = -1};
    begin(&bench);
    bench.refuses = true;
    assert_false(hf_schedule_look(bench.catalog, &entry, 5, start, &bench, &next, &err));
    assert_string_equal(err.message, "too many jobs");
    bench.refuses = false;
    look(&bench, HOUR, -1, 6);
    assert_int_equal(bench.started, 1);
}

HF_TEST(the_next_multiple_lies_after_now_whatever_the_numbers)
{
    for (int64_t due = -50; due <= 50; due += 7) {
        for (int64_t every = 1; every <= 40; every += 3) {
            for (int64_t now = -60; now <= 200; now += 11) {
                int64_t next = hf_schedule_after(due, every, now);
                assert_true(next > now);
                assert_int_equal((next - due) % every, 0);
                assert_true(next == due || next - every <= now);
            }
        }
    }
}
