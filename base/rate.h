/*
 * rate.h - so many bytes a second, and no more: a token bucket
 *
 * The clock is handed in, and nothing here sleeps: hf_rate_take() says how long the caller has to wait.  What is taken
 * may exceed what is there; the next one then waits for the debt, so that over any time t no more than
 * rate * t + burst + one take go through.  Used by one thread.
 */
#pragma once
#include <stdint.h>

struct hf_rate {
    uint64_t per_second; // bytes; 0: no limit
    uint64_t burst;      // most that gathers while nobody takes
    int64_t tokens;      // bytes that may be taken at once; below 0: owed
    uint64_t at_ns;      // up to when tokens were handed out, monotonic
};

/* Starts with an empty bucket: a process that is started again and again gets no more than its rate. */
void hf_rate_init(struct hf_rate *rate, uint64_t bytes_per_second, uint64_t burst, uint64_t now_ns);
/* Takes `bytes` and returns the nanoseconds until they are paid for; 0: go on. */
uint64_t hf_rate_take(struct hf_rate *rate, uint64_t bytes, uint64_t now_ns);
