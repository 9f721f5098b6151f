/*
 * calendar.h - hours, days, weeks, months and years, as retention counts them
 *
 * In UTC and without leap seconds, so that the same moment lies in the same period on every host and on every day of
 * the year.  A week is ISO 8601's: it begins on Monday.
 */
#pragma once
#include "base/time.h"

enum hf_retention_period {
    HF_RETENTION_HOURLY,
    HF_RETENTION_DAILY,
    HF_RETENTION_WEEKLY,
    HF_RETENTION_MONTHLY,
    HF_RETENTION_YEARLY,
    HF_RETENTION_PERIODS,
};

/* The number of the period that a moment lies in: equal within one, one more in the next. */
int64_t hf_calendar_number(enum hf_retention_period period, int64_t ms);

/* Its name for people: "2026-11-23 17h", "2026-11-23", "2026-W48", "2026-11", "2026"; returns text. */
const char *hf_calendar_name(enum hf_retention_period period, int64_t ms, char text[static HF_TIME_TEXT_BYTES]);
