/*
 * time.h - moments in UTC, durations by the monotonic clock
 *
 * A moment is milliseconds since 1970 in UTC (`started_at`), a duration comes from
 * hf_monotonic_ns().  Code whose behaviour depends on the time of day takes it as a parameter.
 */
#pragma once
#include "base/error.h"

#define HF_TIME_TEXT_BYTES 32

int64_t hf_time_now_ms(void);
uint64_t hf_monotonic_ns(void);

/* "2026-11-22T14:03:07.123Z" (RFC 3339); returns text. */
const char *hf_time_format(int64_t ms, char text[static HF_TIME_TEXT_BYTES]);
/* RFC 3339 with a zone ("Z" or "+01:00", "T" or a space); strict.  USAGE names the text and the form. */
HF_MUST_CHECK bool hf_time_parse(const char *text, int64_t *ret_ms, struct hf_error *err);

/* For people: "3 min 20 s", "2 h 5 min", "850 ms"; and "1.2 GiB".  They return text. */
const char *hf_duration_format(uint64_t ms, char text[static HF_TIME_TEXT_BYTES]);
const char *hf_bytes_format(uint64_t bytes, char text[static HF_TIME_TEXT_BYTES]);
