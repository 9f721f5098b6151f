#include "tests/support/test.h"

#include <time.h>

#include "server/retention/calendar.h"

#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

/* Two moments lie in one period just when the C library gives that period one name. */
static void
compare_with_names(enum hf_retention_period period, int64_t step)
{
    char before[HF_TIME_TEXT_BYTES] = "", name[HF_TIME_TEXT_BYTES];
    int64_t first = -3000 * DAY, number_before = hf_calendar_number(period, first - step);
    hf_calendar_name(period, first - step, before);
    for (int64_t at = first; at < 40000 * DAY; at += step) {
        const int64_t number = hf_calendar_number(period, at);
        hf_calendar_name(period, at, name);
        assert_int_equal(strcmp(name, before) == 0, number == number_before);
        assert_true(number == number_before || number == number_before + 1);
        snprintf(before, sizeof before, "%s", name);
        number_before = number;
    }
}

HF_TEST(periods_are_those_of_the_calendar_from_1961_to_2079)
{
    compare_with_names(HF_RETENTION_DAILY, DAY / 2);
    compare_with_names(HF_RETENTION_WEEKLY, DAY);
    compare_with_names(HF_RETENTION_MONTHLY, DAY);
    compare_with_names(HF_RETENTION_YEARLY, DAY);
}

HF_TEST(a_period_begins_at_its_first_millisecond)
{
    const int64_t monday = INT64_C(1795392000000); // 2026-11-23T00:00:00Z
    for (enum hf_retention_period period = 0; period <= HF_RETENTION_WEEKLY; period++) {
        assert_int_equal(hf_calendar_number(period, monday), hf_calendar_number(period, monday + 1));
        assert_int_equal(hf_calendar_number(period, monday), hf_calendar_number(period, monday - 1) + 1);
    }
    assert_int_equal(hf_calendar_number(HF_RETENTION_HOURLY, -1), -1);
    assert_int_equal(hf_calendar_number(HF_RETENTION_HOURLY, 0), 0);
    assert_int_equal(hf_calendar_number(HF_RETENTION_HOURLY, HOUR - 1), 0);
}

HF_TEST(the_zone_of_the_host_changes_nothing)
{
    char text[HF_TIME_TEXT_BYTES];
    setenv("TZ", "Pacific/Kiritimati", 1); // 14 hours ahead
    tzset();
    assert_string_equal(hf_calendar_name(HF_RETENTION_HOURLY, 23 * HOUR, text), "1970-01-01 23h");
    assert_string_equal(hf_calendar_name(HF_RETENTION_WEEKLY, INT64_C(1798761600000), text), "2026-W53");
    assert_string_equal(hf_calendar_name(HF_RETENTION_YEARLY, INT64_C(1798761600000), text), "2027");
    assert_string_equal(hf_calendar_name(HF_RETENTION_MONTHLY, INT64_C(1798761600000) - 1, text), "2026-12");
    unsetenv("TZ");
    tzset();
}
