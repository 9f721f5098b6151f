#include "tests/support/test.h"

#include "server/report/forecast.h"

HF_TEST(without_an_attempt_there_is_no_forecast)
{
    struct hf_forecast forecast;
    assert_false(hf_forecast_make(NULL, 0, 1000, &forecast));
}

HF_TEST(the_next_restore_takes_its_bytes_at_the_rate_of_the_last_and_what_comes_after)
{
    const struct hf_recovery_sample one = {.bytes = 1000, .restore_ms = 100, .recovery_ms = 150};
    struct hf_forecast forecast;
    assert_true(hf_forecast_make(&one, 1, 3000, &forecast));
    assert_int_equal(forecast.recovery_ms, 350);
    assert_int_equal(forecast.attempts, 1);
    assert_int_equal(forecast.error_ppm, -1); // nothing was ever forecast
}

HF_TEST(one_slow_attempt_among_several_changes_little)
{
    const struct hf_recovery_sample samples[] = {
        {1000, 100, 150}, {1000, 100, 150}, {1000, 9000, 20000}, {1000, 100, 150}, {1000, 100, 150}};
    struct hf_forecast forecast;
    assert_true(hf_forecast_make(samples, 5, 2000, &forecast));
    assert_int_equal(forecast.recovery_ms, 250);
}

HF_TEST(the_error_is_that_of_forecasts_made_from_what_was_known_before)
{
    const struct hf_recovery_sample samples[] = {{1000, 100, 100}, {1000, 200, 200}};
    struct hf_forecast forecast;
    assert_true(hf_forecast_make(samples, 2, 1000, &forecast));
    assert_int_equal(forecast.error_ppm, 500000); // 100 ms were said, 200 it was
    assert_int_equal(forecast.recovery_ms, 150);
}

HF_TEST(only_the_last_attempts_count)
{
    struct hf_recovery_sample samples[HF_FORECAST_ATTEMPTS + 5];
    struct hf_forecast forecast;
    for (size_t i = 0; i < HF_FORECAST_ATTEMPTS + 5; i++)
        samples[i] = (struct hf_recovery_sample){1000, i < 5 ? 100000 : 100, i < 5 ? 200000 : 100};
    assert_true(hf_forecast_make(samples, HF_FORECAST_ATTEMPTS + 5, 1000, &forecast));
    assert_int_equal(forecast.recovery_ms, 100);
    assert_int_equal(forecast.attempts, HF_FORECAST_ATTEMPTS);
}
