#include "tests/retention/histories.h"

#include <string.h>

static int64_t random_end(uint64_t *state, int64_t now);
static int64_t random_rule(uint64_t *state, uint64_t most);

uint64_t
next_random(uint64_t *state)
{
    uint64_t word = *state += UINT64_C(0x9e3779b97f4a7c15);
    word = (word ^ (word >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ (word >> 27)) * UINT64_C(0x94d049bb133111eb);
    return word ^ (word >> 31);
}

uint64_t
random_below(uint64_t *state, uint64_t most)
{
    return next_random(state) % most;
}

void
make_history(uint64_t seed, struct history *ret)
{
    // Mostly proven, mostly unproven, or anything.
    static const uint64_t proven_percents[] = {100, 90, 60, 20, 0};
    static const int64_t steps[] = {HOUR / 6, HOUR, 6 * HOUR, DAY, 3 * DAY, 20 * DAY};
    uint64_t state = seed;
    const uint64_t proven_percent = proven_percents[random_below(&state, HF_LENGTH(proven_percents))];
    const int64_t step = steps[random_below(&state, HF_LENGTH(steps))];
    int64_t time = INT64_C(1790000000000) + (int64_t)random_below(&state, 1000) * DAY;
    uint64_t sequence = random_below(&state, 5) + 1;

    *ret = (struct history){.count = random_below(&state, HISTORY_MOST + 1)};
    ret->policy.last = random_rule(&state, 10);
    for (size_t i = 0; i < HF_RETENTION_PERIODS; i++)
        ret->policy.periods[i] = random_rule(&state, 12);
    ret->policy.within_ms = random_rule(&state, 40) * DAY;
    ret->policy.minimum = random_rule(&state, 8);
    ret->policy.unproven_grace_ms = random_rule(&state, 30) * DAY;
    ret->policy.failed_grace_ms = random_rule(&state, 30) * DAY;
    ret->policy.replaced = random_below(&state, 10) == 0;

    for (size_t i = 0; i < ret->count; i++) {
        struct hf_retention_backup *backup = &ret->backups[i];
        time += (int64_t)random_below(&state, (uint64_t)step * 2);
        if (random_below(&state, 40) == 0) // somebody set the clock
            time += ((int64_t)random_below(&state, 800) - 400) * DAY;
        sequence += random_below(&state, 6) + 1;
        *backup = (struct hf_retention_backup){.sequence = sequence, .time = time, .state_since = time};
        for (size_t at = 0; at < sizeof backup->backup.bytes; at++)
            backup->backup.bytes[at] = (uint8_t)next_random(&state);
        backup->state = random_below(&state, 100) < proven_percent ? HF_BACKUP_PROVEN
                                                                   : (enum hf_backup_state)random_below(&state, 4);
        backup->state_since += (int64_t)random_below(&state, 20 * (uint64_t)DAY);
        if (i > 0 && random_below(&state, 8) == 0)
            backup->needs = ret->backups[random_below(&state, i)].backup;
        else if (random_below(&state, 50) == 0)
            memset(backup->needs.bytes, 7, sizeof backup->needs.bytes); // pruned long ago
        backup->pinned = random_below(&state, 30) == 0;
        backup->in_session = random_below(&state, 30) == 0;
    }
    ret->newest_log_at = time + (int64_t)random_below(&state, 3 * (uint64_t)DAY);
    ret->now = ret->newest_log_at + (int64_t)random_below(&state, 10 * (uint64_t)DAY) - 2 * DAY;
    for (size_t i = 0; i < ret->count; i++) {
        ret->backups[i].held_until = random_end(&state, ret->now);
        ret->backups[i].locked_until = random_end(&state, ret->now);
    }
    for (size_t i = ret->count; i > 1; i--) { // in any order
        const size_t other = random_below(&state, i);
        const struct hf_retention_backup kept = ret->backups[other];
        ret->backups[other] = ret->backups[i - 1];
        ret->backups[i - 1] = kept;
    }
}

static int64_t
random_end(uint64_t *state, int64_t now)
{
    const uint64_t kind = random_below(state, 40);
    return kind == 0   ? HF_RETENTION_WITHOUT_END
           : kind == 1 ? now + (int64_t)random_below(state, 60 * (uint64_t)DAY) - 30 * DAY
                       : HF_RETENTION_NOT_SET;
}

static int64_t
random_rule(uint64_t *state, uint64_t most)
{
    return random_below(state, 3) == 0 ? 0 : (int64_t)random_below(state, most) + 1;
}
