#include "server/retention/calendar.h"

#include <assert.h>
#include <time.h>

#define HOUR_MS  INT64_C(3600000)
#define DAY_MS   (24 * HOUR_MS)
#define MONDAY_0 3 // 1970-01-01 was a Thursday: the Monday before it is day -3

static int64_t floor_divide(int64_t number, int64_t by);
static struct tm calendar_of(int64_t ms);

int64_t
hf_calendar_number(enum hf_retention_period period, int64_t ms)
{
    const struct tm utc = calendar_of(ms);
    switch (period) {
    case HF_RETENTION_HOURLY:
        return floor_divide(ms, HOUR_MS);
    case HF_RETENTION_DAILY:
        return floor_divide(ms, DAY_MS);
    case HF_RETENTION_WEEKLY:
        return floor_divide(floor_divide(ms, DAY_MS) + MONDAY_0, 7);
    case HF_RETENTION_MONTHLY:
        return (int64_t)utc.tm_year * 12 + utc.tm_mon;
    case HF_RETENTION_YEARLY:
        return utc.tm_year;
    case HF_RETENTION_PERIODS:
        break;
    }
    abort();
}

const char *
hf_calendar_name(enum hf_retention_period period, int64_t ms, char text[static HF_TIME_TEXT_BYTES])
{
    const struct tm utc = calendar_of(ms);
    size_t length = 0;
    switch (period) {
    case HF_RETENTION_HOURLY:
        length = strftime(text, HF_TIME_TEXT_BYTES, "%Y-%m-%d %Hh", &utc);
        break;
    case HF_RETENTION_DAILY:
        length = strftime(text, HF_TIME_TEXT_BYTES, "%Y-%m-%d", &utc);
        break;
    case HF_RETENTION_WEEKLY:
        length = strftime(text, HF_TIME_TEXT_BYTES, "%G-W%V", &utc);
        break;
    case HF_RETENTION_MONTHLY:
        length = strftime(text, HF_TIME_TEXT_BYTES, "%Y-%m", &utc);
        break;
    case HF_RETENTION_YEARLY:
        length = strftime(text, HF_TIME_TEXT_BYTES, "%Y", &utc);
        break;
    case HF_RETENTION_PERIODS:
        break;
    }
    assert(length > 0); // a year has at most 10 digits
    return text;
}

/* Rounded down, before 1970 too. */
static int64_t
floor_divide(int64_t number, int64_t by)
{
    return number / by - (number % by < 0 ? 1 : 0);
}

static struct tm
calendar_of(int64_t ms)
{
    struct tm utc = {0};
    const time_t seconds = (time_t)floor_divide(ms, 1000);
    gmtime_r(&seconds, &utc);
    return utc;
}
