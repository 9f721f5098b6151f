#include "server/report/forecast.h"

#include <stdlib.h>

#define PPM 1000000.0

static double forecast(const struct hf_recovery_sample *samples, size_t count, int64_t bytes);
static double middle(double *values, size_t count);
static int compare(const void *a, const void *b);

bool
hf_forecast_make(const struct hf_recovery_sample *samples, size_t count, int64_t bytes, struct hf_forecast *ret)
{
    double errors[HF_FORECAST_ATTEMPTS];
    size_t error_count = 0;
    if (count == 0)
        return false;
    const size_t first = count > HF_FORECAST_ATTEMPTS ? count - HF_FORECAST_ATTEMPTS : 0;
    for (size_t i = first == 0 ? 1 : first; i < count; i++) {
        const double real = (double)samples[i].recovery_ms > 0 ? (double)samples[i].recovery_ms : 1;
        const double said = forecast(samples, i, samples[i].bytes);
        errors[error_count++] = (said > real ? said - real : real - said) / real;
    }
    *ret = (struct hf_forecast){
        .recovery_ms = (int64_t)(forecast(samples, count, bytes) + 0.5),
        .attempts = (int64_t)(count - first),
        .error_ppm = error_count == 0 ? -1 : (int64_t)(middle(errors, error_count) * PPM + 0.5),
    };
    return true;
}

bool
hf_forecast_sample(const json_t *summary, struct hf_recovery_sample *ret)
{
    const json_t *bytes = json_object_get(summary, "restored_bytes");
    const json_t *restore = json_object_get(summary, "restore_ms"), *recover = json_object_get(summary, "recover_ms");
    if (!json_is_integer(bytes) || !json_is_integer(restore) || !json_is_integer(recover))
        return false;
    *ret = (struct hf_recovery_sample){.bytes = json_integer_value(bytes),
                                       .restore_ms = json_integer_value(restore),
                                       .recovery_ms = json_integer_value(recover)};
    return ret->bytes > 0 && ret->recovery_ms >= ret->restore_ms;
}

/* From the last attempts before `count`. */
static double
forecast(const struct hf_recovery_sample *samples, size_t count, int64_t bytes)
{
    double ms_a_byte[HF_FORECAST_ATTEMPTS], rest[HF_FORECAST_ATTEMPTS];
    size_t used = 0;
    for (size_t i = count > HF_FORECAST_ATTEMPTS ? count - HF_FORECAST_ATTEMPTS : 0; i < count; i++, used++) {
        ms_a_byte[used] = (double)samples[i].restore_ms / (double)(samples[i].bytes > 0 ? samples[i].bytes : 1);
        rest[used] = (double)(samples[i].recovery_ms - samples[i].restore_ms);
    }
    return (double)bytes * middle(ms_a_byte, used) + middle(rest, used);
}

static double
middle(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

static int
compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}
