#include "server/verify/mariadb/innodb_page.h"

#include <endian.h>
#include <string.h>

#include "base/digest.h"

#define AT_NUMBER      4
#define AT_LSN         16
#define AT_TYPE        24
#define AT_KEY_VERSION 26
#define AT_KEY_CRC     30 // checksum of an encrypted page, before full_crc32
#define AT_SPACE       34
#define AT_DATA        38
#define AT_FLAGS       54
#define TRAILER_BYTES  8

#define FLAG_FULL_CRC32       (UINT32_C(1) << 4)
#define FLAG_COMPRESSED_PAGES (UINT32_C(1) << 16)
#define TYPE_COMPRESSED       0x8000 // with full_crc32; the low bits say how many 256 bytes of it there are
#define TYPE_OLD_COMPRESSED   34354
#define TYPE_OLD_ENCRYPTED    37401 // compressed, then encrypted
#define MAGIC_NO_CHECKSUM     0xDEADBEEF

static uint16_t get_u16(const uint8_t *at);
static uint32_t get_u32(const uint8_t *at);
static bool is_zero(const uint8_t *page, size_t length);
static enum hf_innodb_verdict check_full(const struct hf_innodb_space *space, const uint8_t *page);
static enum hf_innodb_verdict check_old(const struct hf_innodb_space *space, const uint8_t *page);

bool
hf_innodb_space_parse(const uint8_t *start, size_t length, struct hf_innodb_space *ret)
{
    if (length < HF_INNODB_FLAGS_END)
        return false;
    const uint32_t flags = get_u32(start + AT_FLAGS);
    const bool full = (flags & FLAG_FULL_CRC32) != 0;
    const uint32_t shift = full ? flags & 15 : flags >> 6 & 15, rows = full ? 0 : flags >> 1 & 15;
    struct hf_innodb_space space = {.full_crc32 = full,
                                    .compressed_rows = rows != 0,
                                    .compressed_pages =
                                        full ? (flags >> 5 & 7) != 0 : (flags & FLAG_COMPRESSED_PAGES) != 0};
    if (shift > 7 || (full && shift < 3) || rows > 5)
        return false;
    space.page_bytes = rows != 0 ? UINT32_C(512) << rows : shift == 0 ? 16384 : UINT32_C(512) << shift;
    *ret = space;
    return true;
}

enum hf_innodb_verdict
hf_innodb_page_check(const struct hf_innodb_space *space, const uint8_t *page, uint64_t number)
{
    if (is_zero(page, space->page_bytes))
        return HF_INNODB_EMPTY;
    if (get_u32(page + AT_NUMBER) != (uint32_t)number)
        return HF_INNODB_BAD;
    return space->full_crc32 ? check_full(space, page) : check_old(space, page);
}

/* A compressed page ends before the file's page does; the rest is a hole. */
static enum hf_innodb_verdict
check_full(const struct hf_innodb_space *space, const uint8_t *page)
{
    const uint16_t type = get_u16(page + AT_TYPE);
    size_t length = space->page_bytes;
    if (space->compressed_pages && (type & TYPE_COMPRESSED) != 0) {
        length = (size_t)(type & ~TYPE_COMPRESSED) << 8;
        if (length <= AT_DATA + 4 || length > space->page_bytes)
            return HF_INNODB_BAD;
    }
    return hf_crc32c(0, page, length - 4) == get_u32(page + length - 4) ? HF_INNODB_OK : HF_INNODB_BAD;
}

static enum hf_innodb_verdict
check_old(const struct hf_innodb_space *space, const uint8_t *page)
{
    const size_t length = space->page_bytes;
    const uint16_t type = get_u16(page + AT_TYPE);
    const uint32_t stored = get_u32(page);
    if (space->compressed_rows) {
        const uint32_t crc = hf_crc32c(0, page + AT_NUMBER, AT_LSN - AT_NUMBER) ^ hf_crc32c(0, page + AT_TYPE, 2) ^
                             hf_crc32c(0, page + AT_SPACE, length - AT_SPACE);
        return crc == stored ? HF_INNODB_OK : HF_INNODB_BAD;
    }
    if (type == TYPE_OLD_COMPRESSED || type == TYPE_OLD_ENCRYPTED || stored == MAGIC_NO_CHECKSUM)
        return HF_INNODB_UNJUDGED;
    const uint32_t crc = hf_crc32c(0, page + AT_NUMBER, AT_KEY_VERSION - AT_NUMBER) ^
                         hf_crc32c(0, page + AT_DATA, length - TRAILER_BYTES - AT_DATA);
    if (crc == stored)
        return HF_INNODB_OK;
    if (get_u32(page + AT_KEY_VERSION) != 0)
        return crc == get_u32(page + AT_KEY_CRC) ? HF_INNODB_OK : HF_INNODB_BAD;
    return HF_INNODB_BAD;
}

static bool
is_zero(const uint8_t *page, size_t length)
{
    return page[0] == 0 && memcmp(page, page + 1, length - 1) == 0;
}

static uint16_t
get_u16(const uint8_t *at)
{
    uint16_t big;
    memcpy(&big, at, sizeof big);
    return be16toh(big);
}

static uint32_t
get_u32(const uint8_t *at)
{
    uint32_t big;
    memcpy(&big, at, sizeof big);
    return be32toh(big);
}
