#include "server/retention/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/time.h"

#define BOOT_ID   "/proc/sys/kernel/random/boot_id"
#define TIME_MOST HF_JSON_INTEGER_MOST

static int64_t difference(int64_t a, int64_t b);
static bool fail_hint(struct hf_error *err);

bool
hf_clock_read(struct hf_clock *ret, struct hf_error *err)
{
    struct timespec up;
    FILE *file = fopen(BOOT_ID, "re");
    char line[HF_CLOCK_BOOT_BYTES] = "";
    const bool got = file != NULL && fgets(line, sizeof line, file) != NULL && strlen(line) == sizeof line - 1;
    if (file != NULL)
        fclose(file);
    if (!got || clock_gettime(CLOCK_BOOTTIME, &up) != 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not read \"%s\"", BOOT_ID);
    *ret = (struct hf_clock){.now = hf_time_now_ms(), .uptime_ms = up.tv_sec * INT64_C(1000) + up.tv_nsec / 1000000};
    memcpy(ret->boot, line, sizeof ret->boot);
    return true;
}

bool
hf_clock_to_json(const struct hf_clock *clock, json_t **ret, struct hf_error *err)
{
    *ret = json_pack("{s:s, s:I, s:I}", "boot", clock->boot, "now", (json_int_t)clock->now, "uptime_ms",
                     (json_int_t)clock->uptime_ms);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the clock");
}

bool
hf_clock_from_json(const json_t *object, struct hf_clock *ret, struct hf_error *err)
{
    static const char what[] = "the earlier reading of the clock";
    struct hf_clock clock = {.boot = ""};
    const char *boot;
    if (!hf_json_string(object, "boot", what, &boot, err) ||
        !hf_json_integer(object, "now", what, -TIME_MOST, TIME_MOST, &clock.now, err) ||
        !hf_json_integer(object, "uptime_ms", what, 0, TIME_MOST, &clock.uptime_ms, err))
        return false;
    if (strlen(boot) != sizeof clock.boot - 1)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"boot\" is no boot id", what);
    memcpy(clock.boot, boot, sizeof clock.boot);
    *ret = clock;
    return true;
}

bool
hf_clock_check(const struct hf_clock *clock, const struct hf_clock *earlier, int64_t newest_log_at,
               struct hf_error *err)
{
    char now[HF_TIME_TEXT_BYTES], then[HF_TIME_TEXT_BYTES], by[HF_TIME_TEXT_BYTES];
    hf_time_format(clock->now, now);
    if (difference(newest_log_at, clock->now) > HF_CLOCK_BEHIND_MS) {
        hf_fail(err, HF_ERR_CONFLICT, "the clock says %s, and the newest entry of the log is of %s", now,
                hf_time_format(newest_log_at, then));
        return fail_hint(err);
    }
    if (earlier != NULL && strcmp(earlier->boot, clock->boot) == 0) {
        const int64_t moved = difference(clock->now, earlier->now) - (clock->uptime_ms - earlier->uptime_ms);
        if (moved > HF_CLOCK_SET_MS || moved < -HF_CLOCK_SET_MS) {
            hf_fail(err, HF_ERR_CONFLICT, "the clock was set %s by %s since %s, and says %s now",
                    moved > 0 ? "forward" : "back", hf_duration_format((uint64_t)(moved > 0 ? moved : -moved), by),
                    hf_time_format(earlier->now, then), now);
            return fail_hint(err);
        }
    }
    if (difference(clock->now, newest_log_at) > HF_CLOCK_SILENT_MS) {
        hf_fail(err, HF_ERR_CONFLICT, "the clock says %s, and the log has been silent since %s", now,
                hf_time_format(newest_log_at, then));
        return fail_hint(err);
    }
    return true;
}

/* a - b, at most 2^62 either way: a log may say any number. */
static int64_t
difference(int64_t a, int64_t b)
{
    const int64_t most = INT64_MAX / 2;
    int64_t between;
    if (__builtin_sub_overflow(a, b, &between))
        return a > b ? most : -most;
    return between > most ? most : between < -most ? -most : between;
}

static bool
fail_hint(struct hf_error *err)
{
    return hf_fail_hint(err, "Nothing is removed by a clock that may be wrong.  Set it right; when it is, say so with "
                             "--clock-is-right.");
}
