#include "server/job/scrub_times.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/time.h"

#define PASS_BEGAN     "scrub pass began"
#define PASS_COMPLETED "scrub pass completed"

static bool read_moment(struct hf_catalog *catalog, const char *name, int64_t *ret, struct hf_error *err);
static bool write_moment(struct hf_catalog *catalog, const char *name, int64_t moment, struct hf_error *err);
static json_t *moment_text(int64_t moment);

bool
hf_scrub_times_read(struct hf_catalog *catalog, struct hf_scrub_times *ret, struct hf_error *err)
{
    return read_moment(catalog, PASS_BEGAN, &ret->pass_began_at, err) &&
           read_moment(catalog, PASS_COMPLETED, &ret->completed_at, err);
}

bool
hf_scrub_times_begin_pass(struct hf_catalog *catalog, int64_t now, struct hf_error *err)
{
    return write_moment(catalog, PASS_BEGAN, now, err);
}

bool
hf_scrub_times_end_pass(struct hf_catalog *catalog, int64_t now, bool *ret_complete, struct hf_error *err)
{
    struct hf_scrub_times times;
    struct hf_pack_check_sums sums;
    *ret_complete = false;
    if (!hf_scrub_times_read(catalog, &times, err) ||
        !hf_catalog_pack_check_sums(catalog, times.pass_began_at, &sums, err))
        return false;
    if (times.pass_began_at < 0 || (sums.packs > 0 && sums.oldest_at < times.pass_began_at))
        return true;
    *ret_complete = true;
    return write_moment(catalog, PASS_COMPLETED, now, err) && write_moment(catalog, PASS_BEGAN, now, err);
}

bool
hf_scrub_status(struct hf_catalog *catalog, const struct hf_settings *settings, int64_t now, json_t **ret,
                struct hf_error *err)
{
    struct hf_scrub_times times;
    struct hf_pack_check_sums sums;
    if (!hf_scrub_times_read(catalog, &times, err) ||
        !hf_catalog_pack_check_sums(catalog, times.pass_began_at, &sums, err))
        return false;
    const bool late = times.pass_began_at >= 0 && settings->scrub.every_ms > 0 && sums.packs > 0 &&
                      now - times.pass_began_at > settings->scrub.window_ms + settings->scrub.every_ms;
    *ret = json_pack("{s:o, s:o, s:I, s:I, s:I, s:I, s:o, s:I, s:b}", "completed_at", moment_text(times.completed_at),
                     "pass_began_at", moment_text(times.pass_began_at), "packs", (json_int_t)sums.packs, "bytes",
                     (json_int_t)sums.bytes, "bytes_done", (json_int_t)(times.pass_began_at < 0 ? 0 : sums.bytes_since),
                     "never_checked", (json_int_t)sums.never, "oldest_checked_at", moment_text(sums.oldest_at),
                     "unsound", (json_int_t)sums.unsound, "late", (int)late);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the state of the scrub");
}

static bool
read_moment(struct hf_catalog *catalog, const char *name, int64_t *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *text = NULL;
    if (!hf_catalog_fact_get(catalog, name, &text, err))
        return false;
    *ret = text != NULL ? strtoll(text, NULL, 10) : -1;
    return true;
}

static bool
write_moment(struct hf_catalog *catalog, const char *name, int64_t moment, struct hf_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRId64, moment);
    return hf_catalog_fact_put(catalog, name, text, err);
}

static json_t *
moment_text(int64_t moment)
{
    char text[HF_TIME_TEXT_BYTES];
    return moment < 0 ? json_null() : json_string(hf_time_format(moment, text));
}
