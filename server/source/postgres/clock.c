#include "server/source/postgres/clock.h"

#include "base/time.h"

void
hf_server_clock_note(struct hf_server_clock *clock, uint64_t sent)
{
    const int64_t ahead_ms = (int64_t)sent / 1000 + HF_POSTGRES_EPOCH_MS - hf_time_now_ms();
    if (!clock->known || ahead_ms > clock->ahead_ms)
        *clock = (struct hf_server_clock){true, ahead_ms};
}
