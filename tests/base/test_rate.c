#include "tests/support/test.h"

#include "base/rate.h"

#define SECOND  UINT64_C(1000000000)
#define MIB     UINT64_C(1048576)
#define STARTED (7 * SECOND)

HF_TEST(without_a_limit_nobody_waits)
{
    struct hf_rate rate;
    hf_rate_init(&rate, 0, 0, STARTED);
    for (int i = 0; i < 100; i++)
        assert_int_equal(hf_rate_take(&rate, 1000 * MIB, STARTED), 0);
}

HF_TEST(the_first_piece_waits_as_long_as_it_takes_to_earn_it)
{
    struct hf_rate rate;
    hf_rate_init(&rate, 10 * MIB, 2 * MIB, STARTED);
    assert_int_equal(hf_rate_take(&rate, MIB, STARTED), SECOND / 10);
    assert_int_equal(hf_rate_take(&rate, MIB, STARTED + SECOND / 10), SECOND / 10);
}

HF_TEST(what_gathers_while_nobody_takes_is_the_burst_and_no_more)
{
    struct hf_rate rate;
    hf_rate_init(&rate, 10 * MIB, 2 * MIB, STARTED);
    const uint64_t later = STARTED + 1000 * SECOND;
    assert_int_equal(hf_rate_take(&rate, MIB, later), 0);
    assert_int_equal(hf_rate_take(&rate, MIB, later), 0);
    assert_int_equal(hf_rate_take(&rate, MIB, later), SECOND / 10);
}

HF_TEST(over_any_time_no_more_goes_through_than_the_rate_the_burst_and_one_piece)
{
    static const uint64_t rates[] = {1, 3, 999, 65536, 7 * MIB + 13, 3000 * MIB};
    static const uint64_t pieces[] = {1, 17, 4096, MIB};
    for (size_t r = 0; r < HF_LENGTH(rates); r++)
        for (size_t p = 0; p < HF_LENGTH(pieces); p++) {
            struct hf_rate rate;
            const uint64_t burst = rates[r] / 4;
            uint64_t now = STARTED, taken = 0;
            hf_rate_init(&rate, rates[r], burst, now);
            for (int i = 0; i < 2000; i++) {
                const uint64_t wait = hf_rate_take(&rate, pieces[p], now);
                taken += pieces[p];
                now += wait + (i % 7 == 0 ? 1234567u * (unsigned)(i % 5) : 0); // now and then it comes late
                const __uint128_t most = (__uint128_t)(now - STARTED) * rates[r] / SECOND + burst + 1;
                assert_true((__uint128_t)taken <= most);
            }
            /* And no less: who always waits as told gets the rate. */
            uint64_t began = now, got = 0;
            hf_rate_init(&rate, rates[r], 0, now);
            for (int i = 0; i < 1000; i++) {
                now += hf_rate_take(&rate, pieces[p], now);
                got += pieces[p];
            }
            assert_true((__uint128_t)(now - began) * rates[r] <=
                        (__uint128_t)(got + 2) * SECOND + 1000 * (__uint128_t)rates[r]);
        }
}

HF_TEST(a_clock_that_stands_still_or_goes_back_earns_nothing)
{
    struct hf_rate rate;
    hf_rate_init(&rate, MIB, MIB, STARTED);
    assert_int_equal(hf_rate_take(&rate, MIB, STARTED), SECOND);
    assert_int_equal(hf_rate_take(&rate, MIB, STARTED), 2 * SECOND);
    assert_int_equal(hf_rate_take(&rate, MIB, STARTED - SECOND), 4 * SECOND);
}

HF_TEST(asking_often_costs_nothing)
{
    struct hf_rate rate;
    hf_rate_init(&rate, 1000, 1000000, STARTED);
    for (uint64_t now = STARTED; now < STARTED + 10 * SECOND; now += 700000)
        assert_int_equal(hf_rate_take(&rate, 0, now), 0);
    assert_int_equal(hf_rate_take(&rate, 10000, STARTED + 10 * SECOND), 0);
    assert_int_equal(hf_rate_take(&rate, 1, STARTED + 10 * SECOND), SECOND / 1000);
}
