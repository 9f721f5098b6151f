#include "base/time.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

// 0000-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z: what four digits of a year can say
#define FIRST_MS INT64_C(-62167219200000)
#define LAST_MS  INT64_C(253402300799999)

static bool take_digits(const char **text, size_t count, int *ret);
static bool take_char(const char **text, char wanted);
static bool take_fraction(const char **text, int *ret_ms);
static bool take_zone(const char **text, int *ret_minutes);
static int days_in_month(int year, int month);

int64_t
hf_time_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t
hf_monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

const char *
hf_time_format(int64_t ms, char text[static HF_TIME_TEXT_BYTES])
{
    if (ms < FIRST_MS)
        ms = FIRST_MS;
    if (ms > LAST_MS)
        ms = LAST_MS;

    int64_t milliseconds = ms % 1000;
    if (milliseconds < 0)
        milliseconds += 1000;

    struct tm utc;
    time_t seconds = (time_t)((ms - milliseconds) / 1000);
    gmtime_r(&seconds, &utc);
    // The remainders tell the compiler what the calendar guarantees: the text fits.
    snprintf(text, HF_TIME_TEXT_BYTES, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", (unsigned)(utc.tm_year + 1900) % 10000,
             (unsigned)(utc.tm_mon + 1) % 100, (unsigned)utc.tm_mday % 100, (unsigned)utc.tm_hour % 100,
             (unsigned)utc.tm_min % 100, (unsigned)utc.tm_sec % 100, (unsigned)milliseconds % 1000);
    return text;
}

bool
hf_time_parse(const char *text, int64_t *ret_ms, struct hf_error *err)
{
    const char *at = text;
    int year, month, day, hour, minute, second, milliseconds, zone_minutes;

    bool formed = take_digits(&at, 4, &year) && take_char(&at, '-') && take_digits(&at, 2, &month) &&
                  take_char(&at, '-') && take_digits(&at, 2, &day) && (take_char(&at, 'T') || take_char(&at, ' ')) &&
                  take_digits(&at, 2, &hour) && take_char(&at, ':') && take_digits(&at, 2, &minute) &&
                  take_char(&at, ':') && take_digits(&at, 2, &second) && take_fraction(&at, &milliseconds) &&
                  take_zone(&at, &zone_minutes) && *at == '\0';
    if (!formed) {
        hf_fail(err, HF_ERR_USAGE,
                "time \"%.64s\" is not of the form 2026-11-22T14:03:07Z or 2026-11-22 14:03:07+01:00", text);
        return hf_fail_hint(err, "Give date, time and zone, as RFC 3339 has them.");
    }
    if (month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 || minute > 59 ||
        second > 59)
        return hf_fail(err, HF_ERR_USAGE, "time \"%.64s\" does not exist", text);

    struct tm utc = {.tm_year = year - 1900,
                     .tm_mon = month - 1,
                     .tm_mday = day,
                     .tm_hour = hour,
                     .tm_min = minute,
                     .tm_sec = second};
    *ret_ms = ((int64_t)timegm(&utc) - zone_minutes * 60) * 1000 + milliseconds;
    return true;
}

const char *
hf_duration_format(uint64_t ms, char text[static HF_TIME_TEXT_BYTES])
{
    uint64_t seconds = ms / 1000, minutes = seconds / 60, hours = minutes / 60, days = hours / 24;

    if (ms < 1000)
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " ms", ms);
    else if (seconds < 10)
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 ".%" PRIu64 " s", seconds, ms % 1000 / 100);
    else if (minutes == 0)
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " s", seconds);
    else if (hours == 0)
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " min %" PRIu64 " s", minutes, seconds % 60);
    else if (days == 0)
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " h %" PRIu64 " min", hours, minutes % 60);
    else
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " d %" PRIu64 " h", days, hours % 24);
    return text;
}

const char *
hf_bytes_format(uint64_t bytes, char text[static HF_TIME_TEXT_BYTES])
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(text, HF_TIME_TEXT_BYTES, "%" PRIu64 " B", bytes);
        return text;
    }

    size_t unit = 0;
    double value = (double)bytes / 1024;
    while (value >= 1023.95 && unit + 1 < HF_LENGTH(units)) { // what "%.1f" would print as 1024.0
        value /= 1024;
        unit++;
    }
    snprintf(text, HF_TIME_TEXT_BYTES, "%.1f %s", value, units[unit]);
    return text;
}

static bool
take_digits(const char **text, size_t count, int *ret)
{
    int value = 0;
    for (size_t i = 0; i < count; i++) {
        char digit = (*text)[i];
        if (digit < '0' || digit > '9')
            return false;
        value = value * 10 + (digit - '0');
    }
    *text += count;
    *ret = value;
    return true;
}

static bool
take_char(const char **text, char wanted)
{
    if (**text != wanted)
        return false;
    (*text)++;
    return true;
}

/* Nothing, or a point and 1 to 9 digits, of which the first three count. */
static bool
take_fraction(const char **text, int *ret_ms)
{
    *ret_ms = 0;
    if (!take_char(text, '.'))
        return true;

    size_t count = 0;
    for (int worth = 100, digit; take_digits(text, 1, &digit); worth /= 10, count++)
        *ret_ms += digit * worth;
    return count >= 1 && count <= 9;
}

static bool
take_zone(const char **text, int *ret_minutes)
{
    int hours, minutes;
    *ret_minutes = 0;
    if (take_char(text, 'Z'))
        return true;

    bool west = **text == '-';
    if (!take_char(text, '+') && !take_char(text, '-'))
        return false;
    if (!take_digits(text, 2, &hours) || !take_char(text, ':') || !take_digits(text, 2, &minutes))
        return false;
    if (hours > 23 || minutes > 59)
        return false;
    *ret_minutes = (hours * 60 + minutes) * (west ? -1 : 1);
    return true;
}

static int
days_in_month(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return month == 2 && leap ? 29 : days[month - 1];
}
