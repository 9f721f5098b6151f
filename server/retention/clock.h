/*
 * clock.h - whether the appliance's clock can be believed before something is removed
 *
 * Most of a plan does not look at the clock at all, and what does takes the earlier of clock and log (plan.h).  What is
 * left: a record that is written now carries this clock's time, and holds, locks and windows are judged by it later.
 * So nothing is removed while one of these can be seen:
 *
 *   behind   the clock is more than an hour behind the newest entry of the vault's log
 *   set      since an earlier reading in this run of the kernel, the clock moved more than an hour more or less than
 *            time went by (CLOCK_BOOTTIME, which goes on while the host sleeps and cannot be set)
 *   silent   the newest entry of the log is more than 31 days old: no backups came for so long, or the clock jumped
 *            ahead; either way not the moment to remove one
 *
 * What cannot be seen: a clock that was wrong from the start of the host on, and by less than 31 days ahead of the
 * log.  It ends holds and locks as much too early, and nothing else.
 */
#pragma once
#include "base/json.h"

#define HF_CLOCK_BEHIND_MS  INT64_C(3600000)
#define HF_CLOCK_SET_MS     INT64_C(3600000)
#define HF_CLOCK_SILENT_MS  (INT64_C(31) * 86400000)
#define HF_CLOCK_BOOT_BYTES 37

struct hf_clock {
    char boot[HF_CLOCK_BOOT_BYTES]; // id of this run of the kernel
    int64_t now;                    // ms since 1970
    int64_t uptime_ms;              // CLOCK_BOOTTIME
};

/* The clocks as they are.  UNAVAILABLE when the kernel does not tell its boot id. */
HF_MUST_CHECK bool hf_clock_read(struct hf_clock *ret, struct hf_error *err);
/* As an object, to be kept for the next time; reading gives CORRUPT for anything else. */
HF_MUST_CHECK bool hf_clock_to_json(const struct hf_clock *clock, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_clock_from_json(const json_t *object, struct hf_clock *ret, struct hf_error *err);

/* CONFLICT says what is wrong and what to do.  earlier: NULL when there is no reading. */
HF_MUST_CHECK bool hf_clock_check(const struct hf_clock *clock, const struct hf_clock *earlier, int64_t newest_log_at,
                                  struct hf_error *err);
