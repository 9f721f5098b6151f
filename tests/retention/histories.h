/*
 * histories.h - backups and policies made of a number, for tests of what holds for every plan
 */
#pragma once
#include "server/retention/plan.h"

#define HOUR INT64_C(3600000)
#define DAY  (24 * HOUR)

#define HISTORY_MOST 90

/* One source as a plan sees it. */
struct history {
    struct hf_retention_policy policy;
    size_t count;
    struct hf_retention_backup backups[HISTORY_MOST];
    int64_t now, newest_log_at;
};

/* Random numbers that are the same on every host (splitmix64). */
uint64_t next_random(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t most);

/* The same history for the same seed: clocks that jump, chains, holds, locks, sessions and every mixture of states. */
void make_history(uint64_t seed, struct history *ret);
