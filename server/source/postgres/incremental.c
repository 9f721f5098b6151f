#include "server/source/postgres/incremental.h"

#include <inttypes.h>

#include "server/source/postgres/page_check.h"

static uint32_t get_u32(const uint8_t *at);

bool
hf_incremental_begin(const uint8_t bytes[static HF_INCREMENTAL_FIXED], uint32_t segment_blocks, uint64_t file_bytes,
                     struct hf_incremental *ret, struct hf_error *err)
{
    struct hf_incremental head = {.count = get_u32(bytes + 4), .truncation = get_u32(bytes + 8)};
    const uint32_t most = segment_blocks < HF_INCREMENTAL_BLOCKS_MOST ? segment_blocks : HF_INCREMENTAL_BLOCKS_MOST;
    if (get_u32(bytes) != HF_INCREMENTAL_MAGIC)
        return hf_fail(err, HF_ERR_CORRUPT, "it does not begin as a file of changed blocks");
    if (head.count > most || head.truncation > most)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "it lists %" PRIu32 " blocks of %" PRIu32 ", %" PRIu32 " are the most in one file", head.count,
                       head.truncation, most);
    head.head_bytes = HF_INCREMENTAL_FIXED + 4 * (size_t)head.count;
    if (head.count > 0)
        head.head_bytes =
            (head.head_bytes + HF_POSTGRES_PAGE_BYTES - 1) / HF_POSTGRES_PAGE_BYTES * HF_POSTGRES_PAGE_BYTES;
    if (file_bytes != head.head_bytes + (uint64_t)head.count * HF_POSTGRES_PAGE_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "it has %" PRIu64 " bytes, which is not what %" PRIu32 " blocks take",
                       file_bytes, head.count);
    *ret = head;
    return true;
}

bool
hf_incremental_check(const uint8_t *bytes, uint32_t segment_blocks, struct hf_incremental *head, struct hf_error *err)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        const uint32_t number = hf_incremental_block(bytes, i);
        if (number < next || number >= segment_blocks)
            return hf_fail(err, HF_ERR_CORRUPT, "its block %" PRIu32 " is out of order, or behind the end of the file",
                           number);
        next = number + 1;
    }
    for (size_t at = HF_INCREMENTAL_FIXED + 4 * (size_t)head->count; at < head->head_bytes; at++)
        if (bytes[at] != 0)
            return hf_fail(err, HF_ERR_CORRUPT, "its head is not filled up with zeros");
    head->blocks = next > head->truncation ? next : head->truncation;
    return true;
}

uint32_t
hf_incremental_block(const uint8_t *bytes, uint32_t i)
{
    return get_u32(bytes + HF_INCREMENTAL_FIXED + 4 * (size_t)i);
}

static uint32_t
get_u32(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}
