#include "server/source/mariadb/innodb.h"

#include <string.h>

#include "base/digest.h"

#define HEADER_TYPE         24
#define TYPE_FIRST_PAGE     8
#define FLAG_FULL_CRC32     0x10u
#define FLAG_COMPRESSED     0x8000u // of a type, full_crc32
#define COMPRESSED_UNIT     256
#define TYPE_PACKED         34354
#define TYPE_PACKED_SEALED  37401
#define MYSQL_PACKED        14
#define MYSQL_PACKED_SEALED 16
#define NO_CHECKSUM         0xdeadbeefu
#define TRAILER_BYTES       8
#define FOLD_FIRST          UINT32_C(1463735687)
#define FOLD_SECOND         UINT32_C(1653893711)

static bool is_zero(const uint8_t *data, size_t length);
static enum hf_page_verdict judge_unknown(const uint8_t *page, uint32_t number, uint32_t bytes);
static bool is_doublewrite(const struct hf_innodb_space *space, uint32_t number);
static enum hf_page_verdict judge_full(const struct hf_innodb_space *space, const uint8_t *page);
static enum hf_page_verdict judge_old(const struct hf_innodb_space *space, uint32_t number, const uint8_t *page);
static enum hf_page_verdict judge_compressed(const struct hf_innodb_space *space, const uint8_t *page);
static uint32_t sum_crc32(const uint8_t *page, uint32_t bytes);
static uint32_t sum_compressed(const uint8_t *page, uint32_t bytes);
static bool is_old_sum(const uint8_t *page, uint32_t bytes);
static uint32_t fold(const uint8_t *data, size_t length);
static uint16_t get_u16(const uint8_t *at);
static uint32_t get_u32(const uint8_t *at);
static uint64_t get_u64(const uint8_t *at);

bool
hf_innodb_space_read(const uint8_t *page, size_t length, struct hf_innodb_space *ret)
{
    if (length < HF_INNODB_HEADER_BYTES)
        return false;
    return get_u32(page + 4) == 0 && get_u16(page + HEADER_TYPE) == TYPE_FIRST_PAGE &&
           get_u32(page + 34) == get_u32(page + 38) && hf_innodb_space_of(get_u32(page + 34), get_u32(page + 54), ret);
}

bool
hf_innodb_space_of(uint32_t id, uint32_t flags, struct hf_innodb_space *ret)
{
    struct hf_innodb_space space = {.id = id, .flags = flags, .full_crc32 = (flags & FLAG_FULL_CRC32) != 0};
    const uint32_t size = space.full_crc32 ? flags & 15 : flags >> 6 & 15;
    const uint32_t packed = space.full_crc32 ? 0 : flags >> 1 & 15;
    if ((space.full_crc32 || size != 0) && (size < 3 || size > 7))
        return false;
    if (packed > 5)
        return false;
    space.page_bytes = size == 0 ? 16384 : UINT32_C(512) << size;
    space.compressed = packed != 0;
    if (space.compressed && UINT32_C(512) << packed > space.page_bytes)
        return false;
    if (space.compressed)
        space.page_bytes = UINT32_C(512) << packed;
    *ret = space;
    return true;
}

enum hf_page_verdict
hf_innodb_page_verdict(const struct hf_innodb_space *space, uint32_t number, const uint8_t *page)
{
    if (is_zero(page, space->page_bytes))
        return HF_PAGE_NEW;
    if (is_doublewrite(space, number))
        return HF_PAGE_UNJUDGED;
    // What a compressed or encrypted page of full_crc32 is made of begins before the place of the tablespace's id.
    const bool has_id =
        !space->full_crc32 || ((get_u16(page + HEADER_TYPE) & FLAG_COMPRESSED) == 0 && get_u32(page) == 0);
    if (get_u32(page + 4) != number || (has_id && get_u32(page + 34) != space->id))
        return HF_PAGE_BAD;
    if (space->full_crc32)
        return judge_full(space, page);
    return space->compressed ? judge_compressed(space, page) : judge_old(space, number, page);
}

uint64_t
hf_innodb_check_word(const struct hf_innodb_space *space)
{
    return (uint64_t)space->id << 32 | space->flags;
}

void
hf_innodb_check_pages(struct hf_page_faults *faults, const struct hf_backup_file *file, uint64_t first_page,
                      const uint8_t *data, size_t length)
{
    struct hf_innodb_space space = {0};
    if (file->kind != HF_BACKUP_FILE_RELATION)
        return;
    const bool known =
        file->checksums && hf_innodb_space_of((uint32_t)(file->check_word >> 32), (uint32_t)file->check_word, &space);
    if (!known)
        space.page_bytes = file->page_bytes;
    const size_t whole = length / space.page_bytes;
    const uint64_t first = file->first_block + first_page * file->page_bytes / space.page_bytes;
    atomic_fetch_add_explicit(&faults->pages, whole, memory_order_relaxed);
    for (size_t i = 0; i < whole; i++) {
        const uint8_t *page = data + i * space.page_bytes;
        const uint32_t number = (uint32_t)(first + i);
        const enum hf_page_verdict verdict =
            known ? hf_innodb_page_verdict(&space, number, page) : judge_unknown(page, number, space.page_bytes);
        if (verdict == HF_PAGE_BAD)
            hf_page_faults_add(faults, file->path, number, get_u64(page + 16), HF_PAGE_BAD);
        if (verdict == HF_PAGE_UNJUDGED)
            atomic_fetch_add_explicit(&faults->unjudged, 1, memory_order_relaxed);
    }
    if (length % space.page_bytes != 0)
        hf_page_faults_add(faults, file->path, (uint32_t)(first + whole), 0, HF_PAGE_BAD);
}

static bool
is_zero(const uint8_t *data, size_t length)
{
    return data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

/* A first page of zeros was never written: recovery makes it.  Any other one should have said what the others are. */
static enum hf_page_verdict
judge_unknown(const uint8_t *page, uint32_t number, uint32_t bytes)
{
    if (is_zero(page, bytes))
        return HF_PAGE_NEW;
    return number == 0 ? HF_PAGE_BAD : HF_PAGE_UNJUDGED;
}

/* An extent is 1 MiB, or 64 pages where these are larger than 16 KiB; below 16 KiB it is 1 MiB, too. */
static bool
is_doublewrite(const struct hf_innodb_space *space, uint32_t number)
{
    const uint32_t extent = space->page_bytes < 16384 ? (UINT32_C(1) << 20) / space->page_bytes : 64;
    return space->id == 0 && number >= extent && number < 3 * extent;
}

static enum hf_page_verdict
judge_full(const struct hf_innodb_space *space, const uint8_t *page)
{
    const uint32_t type = get_u16(page + HEADER_TYPE);
    uint32_t bytes = space->page_bytes;
    if ((type & FLAG_COMPRESSED) != 0) {
        bytes = (type & ~FLAG_COMPRESSED) * COMPRESSED_UNIT;
        if (bytes < COMPRESSED_UNIT || bytes > space->page_bytes)
            return HF_PAGE_BAD;
    }
    return hf_crc32c(0, page, bytes - 4) == get_u32(page + bytes - 4) ? HF_PAGE_OK : HF_PAGE_BAD;
}

static enum hf_page_verdict
judge_old(const struct hf_innodb_space *space, uint32_t number, const uint8_t *page)
{
    const uint32_t type = get_u16(page + HEADER_TYPE), bytes = space->page_bytes;
    if (type == TYPE_PACKED || type == TYPE_PACKED_SEALED || type == MYSQL_PACKED || type == MYSQL_PACKED_SEALED)
        return HF_PAGE_UNJUDGED;
    const uint32_t sum = sum_crc32(page, bytes);
    // The key version is there and the page's own sums are of what it was before it was encrypted.
    if (number != 0 && get_u32(page + 26) != 0 && get_u32(page + 30) == sum)
        return HF_PAGE_OK;
    const uint32_t front = get_u32(page), back = get_u32(page + bytes - TRAILER_BYTES);
    if (front == sum && back == sum)
        return get_u32(page + 20) == get_u32(page + bytes - 4) ? HF_PAGE_OK : HF_PAGE_BAD;
    if (front == NO_CHECKSUM && back == NO_CHECKSUM)
        return HF_PAGE_UNJUDGED;
    return is_old_sum(page, bytes) ? HF_PAGE_OK : HF_PAGE_BAD;
}

static enum hf_page_verdict
judge_compressed(const struct hf_innodb_space *space, const uint8_t *page)
{
    const uint32_t sum = sum_compressed(page, space->page_bytes), front = get_u32(page);
    if (front == sum || (get_u32(page + 26) != 0 && get_u32(page + 30) == sum))
        return HF_PAGE_OK;
    return front == NO_CHECKSUM ? HF_PAGE_UNJUDGED : HF_PAGE_BAD;
}

static uint32_t
sum_crc32(const uint8_t *page, uint32_t bytes)
{
    return hf_crc32c(0, page + 4, 22) ^ hf_crc32c(0, page + 38, bytes - 38 - TRAILER_BYTES);
}

static uint32_t
sum_compressed(const uint8_t *page, uint32_t bytes)
{
    return hf_crc32c(0, page + 4, 12) ^ hf_crc32c(0, page + 24, 2) ^ hf_crc32c(0, page + 34, bytes - 34);
}

/* The sums of "innodb": one in front, an older one behind, which could also be the LSN's low half. */
static bool
is_old_sum(const uint8_t *page, uint32_t bytes)
{
    const uint32_t back = get_u32(page + bytes - TRAILER_BYTES);
    if (get_u32(page) != fold(page + 4, 22) + fold(page + 38, bytes - 38 - TRAILER_BYTES))
        return false;
    return back == fold(page, 26) || back == get_u32(page + 20);
}

static uint32_t
fold(const uint8_t *data, size_t length)
{
    uint32_t folded = 0;
    for (size_t i = 0; i < length; i++)
        folded = ((((folded ^ data[i] ^ FOLD_SECOND) << 8) + folded) ^ FOLD_FIRST) + data[i];
    return folded;
}

static uint16_t
get_u16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static uint32_t
get_u32(const uint8_t *at)
{
    return (uint32_t)get_u16(at) << 16 | get_u16(at + 2);
}

static uint64_t
get_u64(const uint8_t *at)
{
    return (uint64_t)get_u32(at) << 32 | get_u32(at + 4);
}
