/* A head that is accepted lists blocks in order that fit its file, and writes out to the very bytes it came from. */
#include <assert.h>
#include <string.h>

#include "server/source/postgres/incremental.h"
#include "server/source/postgres/page_check.h"
#include "tests/fuzz/fuzz.h"

#define SEGMENT_BLOCKS 131072

static void put_u32(uint8_t *at, uint32_t value);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_incremental head;
    struct hf_error err;
    if (size < HF_INCREMENTAL_FIXED)
        return 0;
    const uint32_t count =
        (uint32_t)data[4] | (uint32_t)data[5] << 8 | (uint32_t)data[6] << 16 | (uint32_t)data[7] << 24;
    const uint64_t file_bytes = size + (uint64_t)count * HF_POSTGRES_PAGE_BYTES;
    if (!hf_incremental_begin(data, SEGMENT_BLOCKS, file_bytes, &head, &err)) {
        assert(err.kind == HF_ERR_CORRUPT);
        return 0;
    }
    assert(head.head_bytes == size && head.count == count && head.count <= SEGMENT_BLOCKS);
    if (!hf_incremental_check(data, SEGMENT_BLOCKS, &head, &err)) {
        assert(err.kind == HF_ERR_CORRUPT);
        return 0;
    }
    assert(head.blocks <= SEGMENT_BLOCKS && head.blocks >= head.truncation && head.blocks >= head.count);
    uint8_t *again = calloc(1, size);
    assert(again != NULL);
    put_u32(again, HF_INCREMENTAL_MAGIC);
    put_u32(again + 4, head.count);
    put_u32(again + 8, head.truncation);
    for (uint32_t i = 0; i < head.count; i++) {
        assert(i == 0 || hf_incremental_block(data, i) > hf_incremental_block(data, i - 1));
        assert(hf_incremental_block(data, i) < head.blocks);
        put_u32(again + HF_INCREMENTAL_FIXED + 4 * (size_t)i, hf_incremental_block(data, i));
    }
    assert(memcmp(again, data, size) == 0);
    free(again);
    return 0;
}

static void
put_u32(uint8_t *at, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}
