#include "server/care/scrub.h"

static int longest_first(const void *a, const void *b);

size_t
hf_scrub_choose(struct hf_scrub_pack *packs, size_t count, const struct hf_scrub_share *share, uint64_t *ret_bytes)
{
    uint64_t total = 0, done = 0, chosen_bytes = 0;
    if (count > 0)
        qsort(packs, count, sizeof *packs, longest_first);
    for (size_t i = 0; i < count; i++) {
        total += packs[i].bytes;
        done += packs[i].checked_at >= share->pass_began_at ? packs[i].bytes : 0;
    }
    const int64_t gone_ms = share->now + share->every_ms - share->pass_began_at;
    const bool everything = share->all || gone_ms >= share->window_ms;
    const uint64_t due =
        gone_ms <= 0 ? 0 : (uint64_t)((__uint128_t)total * (uint64_t)gone_ms / (uint64_t)share->window_ms);

    size_t chosen = 0;
    while (chosen < count) {
        const struct hf_scrub_pack *next = &packs[chosen];
        const bool waits = next->checked_at < share->pass_began_at;
        if (!share->all && next->checked_at >= 0 && (!waits || (!everything && done >= due)))
            break;
        done += waits ? next->bytes : 0;
        chosen_bytes += next->bytes;
        chosen++;
    }
    *ret_bytes = chosen_bytes;
    return chosen;
}

static int
longest_first(const void *a, const void *b)
{
    const struct hf_scrub_pack *left = a, *right = b;
    if (left->checked_at != right->checked_at)
        return left->checked_at < right->checked_at ? -1 : 1;
    return hf_id_compare(&left->pack, &right->pack);
}
