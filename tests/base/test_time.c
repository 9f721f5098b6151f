#include "tests/support/test.h"

#include <time.h>

#include "base/time.h"

HF_TEST(a_moment_reads_as_rfc_3339_in_utc)
{
    const struct {
        int64_t ms;
        const char *text;
    } cases[] = {
        {0, "1970-01-01T00:00:00.000Z"},
        {INT64_C(1795356187123), "2026-11-22T14:03:07.123Z"},
        {-1, "1969-12-31T23:59:59.999Z"},
        {-1000, "1969-12-31T23:59:59.000Z"},
        {INT64_C(951782400000), "2000-02-29T00:00:00.000Z"},
        {INT64_C(253402300799999), "9999-12-31T23:59:59.999Z"},
        {INT64_MAX, "9999-12-31T23:59:59.999Z"},
        {INT64_MIN, "0000-01-01T00:00:00.000Z"},
    };
    char text[HF_TIME_TEXT_BYTES];
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_string_equal(hf_time_format(cases[i].ms, text), cases[i].text);
}

HF_TEST(what_was_formatted_parses_to_the_same_moment)
{
    char text[HF_TIME_TEXT_BYTES];
    struct hf_error err;
    int64_t moment = INT64_C(-62167219200000); // the year 0
    for (; moment <= INT64_C(253402300799999); moment += INT64_C(864000000) * 97 + 12345) {
        int64_t parsed;
        hf_assert_ok(hf_time_parse(hf_time_format(moment, text), &parsed, &err), &err);
        assert_true(parsed == moment);
    }
}

HF_TEST(zones_spaces_and_fractions_are_understood)
{
    const struct {
        const char *text;
        int64_t ms;
    } cases[] = {
        {"2026-11-22T14:03:07Z", INT64_C(1795356187000)},
        {"2026-11-22 14:03:07Z", INT64_C(1795356187000)},
        {"2026-11-22T15:03:07+01:00", INT64_C(1795356187000)},
        {"2026-11-22T08:33:07-05:30", INT64_C(1795356187000)},
        {"2026-11-22T14:03:07.1Z", INT64_C(1795356187100)},
        {"2026-11-22T14:03:07.123456789Z", INT64_C(1795356187123)},
        {"2024-02-29T00:00:00Z", INT64_C(1709164800000)},
        {"2000-02-29T00:00:00Z", INT64_C(951782400000)},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        int64_t ms;
        struct hf_error err;
        hf_assert_ok(hf_time_parse(cases[i].text, &ms, &err), &err);
        assert_true(ms == cases[i].ms);
    }
}

HF_TEST(anything_else_is_refused_by_name)
{
    static const char *const refused[] = {
        "",
        "now",
        "2026-11-22",
        "2026-11-22T14:03:07",
        "2026-11-22T14:03Z",
        "2026-11-22t14:03:07Z",
        "2026-11-22T14:03:07z",
        "2026-11-22T14:03:07ZZ",
        "2026-11-22T14:03:07 Z",
        "2026-11-22T14:03:07.Z",
        "2026-11-22T14:03:07.1234567890Z",
        "2026-11-22T14:03:07+0100",
        "2026-11-22T14:03:07+24:00",
        "2026-11-22T14:03:07+01:60",
        "2026-1-22T14:03:07Z",
        " 2026-11-22T14:03:07Z",
        "+026-11-22T14:03:07Z",
        "2026-11-22T14:03:0",
    };
    static const char *const absent[] = {
        "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:60Z",
    };
    int64_t ms = 42;
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        assert_false(hf_time_parse(refused[i], &ms, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_non_null(strstr(err.message, "is not of the form 2026-11-22T14:03:07Z"));
    }
    for (size_t i = 0; i < HF_LENGTH(absent); i++) {
        char expected[64];
        snprintf(expected, sizeof expected, "time \"%s\" does not exist", absent[i]);
        assert_false(hf_time_parse(absent[i], &ms, &err));
        assert_string_equal(err.message, expected);
    }
    assert_true(ms == 42);
}

HF_TEST(the_zone_of_the_host_changes_nothing)
{
    char text[HF_TIME_TEXT_BYTES];
    struct hf_error err;
    int64_t ms;
    setenv("TZ", "Asia/Kolkata", 1);
    tzset();
    hf_assert_ok(hf_time_parse("2026-11-22T14:03:07Z", &ms, &err), &err);
    assert_string_equal(hf_time_format(ms, text), "2026-11-22T14:03:07.000Z");
    unsetenv("TZ");
    tzset();
}

HF_TEST(durations_read_as_people_say_them)
{
    const struct {
        uint64_t ms;
        const char *text;
    } cases[] = {
        {0, "0 ms"},
        {850, "850 ms"},
        {999, "999 ms"},
        {1000, "1.0 s"},
        {9999, "9.9 s"},
        {10000, "10 s"},
        {59999, "59 s"},
        {200000, "3 min 20 s"},
        {60000, "1 min 0 s"},
        {3599999, "59 min 59 s"},
        {7500000, "2 h 5 min"},
        {86400000, "1 d 0 h"},
        {273600000, "3 d 4 h"},
        {UINT64_MAX, "213503982334 d 14 h"},
    };
    char text[HF_TIME_TEXT_BYTES];
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_string_equal(hf_duration_format(cases[i].ms, text), cases[i].text);
}

HF_TEST(byte_counts_never_show_1024_of_a_unit)
{
    const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {
        {0, "0 B"},           {1023, "1023 B"},        {1024, "1.0 KiB"},        {1288490189, "1.2 GiB"},
        {1048575, "1.0 MiB"}, {1048524, "1023.9 KiB"}, {UINT64_MAX, "16.0 EiB"},
    };
    char text[HF_TIME_TEXT_BYTES];
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_string_equal(hf_bytes_format(cases[i].bytes, text), cases[i].text);
}

HF_TEST(clocks_run_forward)
{
    uint64_t before = hf_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = hf_monotonic_ns();
        assert_true(now >= before);
        before = now;
    }
    assert_in_range(hf_time_now_ms() / 1000, time(NULL) - 1, time(NULL) + 1);
}
