/*
 * A page that carries the checksum its file announces is taken for whole, and with any one bit changed it is not.
 * The input is the start of page 0, which says what pages are, and then a page; the checksum is put in here.
 */
#include <assert.h>
#include <endian.h>
#include <string.h>

#include "base/digest.h"
#include "server/verify/mariadb/innodb_page.h"
#include "tests/fuzz/fuzz.h"

static void put(uint8_t *at, uint32_t value);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t page[HF_INNODB_PAGE_MOST];
    struct hf_innodb_space space;
    if (size <= HF_INNODB_FLAGS_END || !hf_innodb_space_parse(data, size, &space))
        return 0;
    assert(space.page_bytes >= 1024 && space.page_bytes <= HF_INNODB_PAGE_MOST);
    const size_t bytes = size - HF_INNODB_FLAGS_END;
    memset(page, 0, sizeof page);
    memcpy(page, data + HF_INNODB_FLAGS_END, bytes < space.page_bytes ? bytes : space.page_bytes);
    put(page + 4, 7);
    page[24] &= 0x7f; // not a compressed page
    page[24] |= 0x01; // and none of the old forms that have no checksum: their types are even there
    page[25] = 0xbf;
    memset(page + 26, 0, 8);
    const size_t end = space.page_bytes;
    if (space.full_crc32)
        put(page + end - 4, hf_crc32c(0, page, end - 4));
    else if (space.compressed_rows)
        put(page, hf_crc32c(0, page + 4, 12) ^ hf_crc32c(0, page + 24, 2) ^ hf_crc32c(0, page + 34, end - 34));
    else
        put(page, hf_crc32c(0, page + 4, 22) ^ hf_crc32c(0, page + 38, end - 8 - 38));
    const enum hf_innodb_verdict verdict = hf_innodb_page_check(&space, page, 7);
    assert(verdict == HF_INNODB_OK || verdict == HF_INNODB_UNJUDGED);
    assert(hf_innodb_page_check(&space, page, 8) == HF_INNODB_BAD);
    page[40 + bytes % 100] ^= 1;
    assert(verdict == HF_INNODB_UNJUDGED || hf_innodb_page_check(&space, page, 7) == HF_INNODB_BAD);
    return 0;
}

static void
put(uint8_t *at, uint32_t value)
{
    const uint32_t big = htobe32(value);
    memcpy(at, &big, sizeof big);
}
