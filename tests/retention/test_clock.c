#include "tests/support/test.h"

#include "server/retention/clock.h"

#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

#define BOOT    "11111111-2222-3333-4444-555555555555"
#define ANOTHER "99999999-2222-3333-4444-555555555555"
#define NOW     INT64_C(1795442400000) // 2026-11-23T14:00:00Z

static const struct hf_clock noon = {.boot = BOOT, .now = NOW, .uptime_ms = 50 * DAY};

static void
must_refuse(const struct hf_clock *clock, const struct hf_clock *earlier, int64_t newest_log_at, const char *message)
{
    struct hf_error err;
    assert_false(hf_clock_check(clock, earlier, newest_log_at, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, message);
    assert_non_null(strstr(err.hint, "--clock-is-right"));
}

HF_TEST(a_clock_that_agrees_with_the_log_is_believed)
{
    struct hf_error err;
    hf_assert_ok(hf_clock_check(&noon, NULL, NOW, &err), &err);
    hf_assert_ok(hf_clock_check(&noon, NULL, NOW + HOUR, &err), &err);
    hf_assert_ok(hf_clock_check(&noon, NULL, NOW - 31 * DAY, &err), &err);
}

HF_TEST(a_clock_more_than_an_hour_behind_the_log_is_refused)
{
    must_refuse(&noon, NULL, NOW + HOUR + 1,
                "the clock says 2026-11-23T14:00:00.000Z, and the newest entry of the log is of "
                "2026-11-23T15:00:00.001Z");
    must_refuse(&noon, NULL, INT64_MAX,
                "the clock says 2026-11-23T14:00:00.000Z, and the newest entry of the log is of "
                "9999-12-31T23:59:59.999Z");
}

HF_TEST(a_log_that_was_silent_for_a_month_is_refused)
{
    must_refuse(&noon, NULL, NOW - 31 * DAY - 1,
                "the clock says 2026-11-23T14:00:00.000Z, and the log has been silent since "
                "2026-10-23T13:59:59.999Z");
    must_refuse(&noon, NULL, INT64_MIN,
                "the clock says 2026-11-23T14:00:00.000Z, and the log has been silent since "
                "0000-01-01T00:00:00.000Z");
}

HF_TEST(a_clock_that_was_set_while_the_host_ran_is_refused)
{
    struct hf_error err;
    struct hf_clock later = {.boot = BOOT, .now = NOW + 3 * HOUR, .uptime_ms = 50 * DAY + 2 * HOUR};
    hf_assert_ok(hf_clock_check(&later, &noon, NOW, &err), &err);
    later.now++;
    must_refuse(&later, &noon, NOW,
                "the clock was set forward by 1 h 0 min since 2026-11-23T14:00:00.000Z, and says "
                "2026-11-23T17:00:00.001Z now");
    later.now = NOW + HOUR - 1;
    must_refuse(&later, &noon, NOW,
                "the clock was set back by 1 h 0 min since 2026-11-23T14:00:00.000Z, and says "
                "2026-11-23T14:59:59.999Z now");
    snprintf(later.boot, sizeof later.boot, "%s", ANOTHER); // another run of the kernel tells nothing
    hf_assert_ok(hf_clock_check(&later, &noon, NOW, &err), &err);
}

HF_TEST(a_reading_survives_its_text)
{
    struct hf_error err;
    struct hf_clock read, again;
    _cleanup_(hf_json_freep) json_t *kept = NULL;
    hf_assert_ok(hf_clock_read(&read, &err), &err);
    assert_int_equal(strlen(read.boot), 36);
    assert_true(read.now > INT64_C(1700000000000) && read.uptime_ms > 0);
    hf_assert_ok(hf_clock_to_json(&read, &kept, &err), &err);
    hf_assert_ok(hf_clock_from_json(kept, &again, &err), &err);
    assert_memory_equal(&read, &again, sizeof read);
    hf_assert_ok(hf_clock_check(&read, &again, read.now, &err), &err);

    json_object_set_new(kept, "boot", json_string("short"));
    assert_false(hf_clock_from_json(kept, &again, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    json_object_set_new(kept, "boot", json_string(BOOT));
    json_object_set_new(kept, "uptime_ms", json_integer(-1));
    assert_false(hf_clock_from_json(kept, &again, &err));
}
