/*
 * forecast.h - how long the next restore of a source will take, from what past ones took
 *
 * An attempt to prove a backup is a whole restore: so many bytes were written in so long, and then it took so long
 * until the database served.  The forecast is the bytes of the backup in question at the middle rate of the last
 * attempts, and the middle of what came after.  How good it is follows from making the same forecast for each of those
 * attempts out of the ones before it.
 *
 * On this machine, with its load: a restore elsewhere, or over a network, takes what it takes there.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <jansson.h>

#define HF_FORECAST_ATTEMPTS 10 // older ones say little about today

/* One attempt in which the database served. */
struct hf_recovery_sample {
    int64_t bytes;       // restored, above 0
    int64_t restore_ms;  // writing them
    int64_t recovery_ms; // from the request until it served; at least restore_ms
};

struct hf_forecast {
    int64_t recovery_ms;
    int64_t attempts;  // that it was made from
    int64_t error_ppm; // the middle one of the past forecasts' errors; -1: there was none yet
};

/* `samples` oldest first; the last HF_FORECAST_ATTEMPTS count.  False when there is none. */
bool hf_forecast_make(const struct hf_recovery_sample *samples, size_t count, int64_t bytes, struct hf_forecast *ret);

/* From a summary of report.h; false when it has not all three. */
bool hf_forecast_sample(const json_t *summary, struct hf_recovery_sample *ret);
