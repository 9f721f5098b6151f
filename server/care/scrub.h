/*
 * scrub.h - which packs are to be read again today
 *
 * Disks forget in silence.  A scrub reads every stored pack again within a window (30 days), a share of it a day, the
 * one that has waited longest first, and compares it with the log (check.h, level 1: no keys are needed).  This header
 * only chooses; who asks keeps the times, and hands them in.
 *
 *   a pass    begins at a moment and is complete when every pack was looked at since then
 *   a share   what is due of the pass by the end of the next interval: total * (now + every - begin) / window, less
 *             what was done; so what was missed while no daemon ran, or was cancelled, is caught up by the next share
 *
 * A pack that was never looked at comes first, whatever the share: it has just been written.  One that is known to be
 * damaged comes before all, so that its repair is seen.
 */
#pragma once
#include <stdlib.h>
#include "server/storage/format.h"

#define HF_SCRUB_NEVER   (-1)
#define HF_SCRUB_DAMAGED (-2)

struct hf_scrub_pack {
    struct hf_id vault, pack;
    uint64_t bytes;
    int64_t checked_at; // or one of the above
};
struct hf_scrub_share {
    int64_t pass_began_at, now, every_ms, window_ms;
    bool all; // every pack, whatever is due
};
/* Sorts the packs and returns how many of the first are to be looked at now; *ret_bytes is their sum. */
size_t hf_scrub_choose(struct hf_scrub_pack *packs, size_t count, const struct hf_scrub_share *share,
                       uint64_t *ret_bytes);
