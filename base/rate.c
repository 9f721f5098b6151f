#include "base/rate.h"

#define SECOND_NS UINT64_C(1000000000)

void
hf_rate_init(struct hf_rate *rate, uint64_t bytes_per_second, uint64_t burst, uint64_t now_ns)
{
    *rate = (struct hf_rate){.per_second = bytes_per_second, .burst = burst, .at_ns = now_ns};
}

uint64_t
hf_rate_take(struct hf_rate *rate, uint64_t bytes, uint64_t now_ns)
{
    if (rate->per_second == 0)
        return 0;
    if (now_ns > rate->at_ns) {
        /* Whole bytes only; the time that makes no byte yet stays for the next call. */
        const __uint128_t earned = (__uint128_t)(now_ns - rate->at_ns) * rate->per_second / SECOND_NS;
        const uint64_t room = rate->burst - (uint64_t)rate->tokens; // tokens <= burst; a debt adds to the room
        if (earned >= room) {
            rate->tokens = (int64_t)rate->burst;
            rate->at_ns = now_ns;
        } else {
            rate->tokens += (int64_t)earned;
            rate->at_ns += (uint64_t)(earned * SECOND_NS / rate->per_second);
        }
    }
    rate->tokens -= (int64_t)bytes;
    if (rate->tokens >= 0)
        return 0;
    const __uint128_t debt = (__uint128_t)(uint64_t)-rate->tokens * SECOND_NS;
    const uint64_t paid_at = rate->at_ns + (uint64_t)((debt + rate->per_second - 1) / rate->per_second);
    return paid_at > now_ns ? paid_at - now_ns : 0;
}
