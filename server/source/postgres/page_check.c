#include "server/source/postgres/page_check.h"

#include <string.h>

#define LANES          32
#define ROW_BYTES      (LANES * sizeof(uint32_t))
#define ROWS           (HF_POSTGRES_PAGE_BYTES / ROW_BYTES)
#define PRIME          UINT32_C(16777619)
#define CHECKSUM_WORD  2 // the word that holds the checksum, in its low half
#define LAYOUT_VERSION 4 // since PostgreSQL 8.3
#define FLAGS_KNOWN    UINT16_C(7)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "pages are read as the words of a little-endian server");

static const uint32_t lane_start[LANES] = {
    0x5b1f36e9, 0xb8525960, 0x02ab50aa, 0x1de66d2a, 0x79ff467a, 0x9bb9f8a3, 0x217e7cd2, 0x83e13d2c,
    0xf8d4474f, 0xe39eb970, 0x42c6ae16, 0x993216fa, 0x7b093b5d, 0x98daff3c, 0xf718902a, 0x0b1c9cdb,
    0xe58f764b, 0x187636bc, 0x5d7b3bb1, 0xe73de7de, 0x92bec979, 0xcca6c0b2, 0x304a0979, 0x85aa43d4,
    0x783125bb, 0x6ca8eaa2, 0xe407eac6, 0x4b5cfc3e, 0x9fbf8c76, 0x15ca20be, 0xf2ca9fd3, 0x959bd756,
};

static uint32_t sum_page(const uint8_t *page);
static uint32_t sum_page_plain(const uint8_t *page);
static bool header_is_sane(const uint8_t *page);
static bool is_zero(const uint8_t *data, size_t length);

uint16_t
hf_postgres_page_checksum(const uint8_t page[static HF_POSTGRES_PAGE_BYTES], uint32_t block)
{
    return (uint16_t)((sum_page(page) ^ block) % 65535 + 1);
}

enum hf_page_verdict
hf_postgres_page_verdict(const uint8_t page[static HF_POSTGRES_PAGE_BYTES], uint32_t block, uint64_t start_lsn,
                         bool checksums)
{
    if (hf_get_u16(page + 14) == 0 && is_zero(page, HF_POSTGRES_PAGE_BYTES))
        return HF_PAGE_NEW;

    // A page that claims to be new (upper = 0) and holds bytes has an insane header: lower is at least 24 in any other.
    bool good = header_is_sane(page);
    if (good && checksums)
        good = hf_get_u16(page + 8) == hf_postgres_page_checksum(page, block);
    if (good)
        return HF_PAGE_OK;
    return hf_postgres_page_lsn(page) >= start_lsn ? HF_PAGE_PENDING : HF_PAGE_BAD;
}

uint64_t
hf_postgres_page_lsn(const uint8_t page[static HF_POSTGRES_PAGE_BYTES])
{
    return (uint64_t)hf_get_u32(page) << 32 | hf_get_u32(page + 4);
}

void
hf_postgres_check_pages(struct hf_page_faults *faults, const struct hf_backup_file *file, uint64_t first_page,
                        const uint8_t *data, size_t length)
{
    if (file->kind != HF_BACKUP_FILE_RELATION)
        return;

    uint64_t start_lsn = atomic_load_explicit(&faults->start_lsn, memory_order_relaxed);
    size_t whole = length / HF_POSTGRES_PAGE_BYTES;
    atomic_fetch_add_explicit(&faults->pages, whole, memory_order_relaxed);

    for (size_t i = 0; i < whole; i++) {
        const uint8_t *page = data + i * HF_POSTGRES_PAGE_BYTES;
        uint32_t block = (uint32_t)(file->first_block + first_page + i);
        enum hf_page_verdict verdict = hf_postgres_page_verdict(page, block, start_lsn, file->checksums);
        if (verdict == HF_PAGE_BAD || verdict == HF_PAGE_PENDING)
            hf_page_faults_add(faults, file->path, block, hf_postgres_page_lsn(page), verdict);
    }

    if (length % HF_POSTGRES_PAGE_BYTES != 0)
        hf_page_faults_add(faults, file->path, (uint32_t)(file->first_block + first_page + whole), 0, HF_PAGE_PENDING);
}

/* The xor of all lanes.  Inlined into one function an instruction set, so that the compiler can use its vectors. */
static inline __attribute__((always_inline)) uint32_t
sum_rows(const uint8_t *page)
{
    uint32_t lanes[LANES], row[LANES];
    memcpy(lanes, lane_start, sizeof lanes);

    memcpy(row, page, ROW_BYTES);
    row[CHECKSUM_WORD] &= UINT32_C(0xffff0000);
    for (size_t at = 1;; at++) {
        for (size_t i = 0; i < LANES; i++) {
            uint32_t mixed = lanes[i] ^ row[i];
            lanes[i] = mixed * PRIME ^ (mixed >> 17);
        }
        if (at == ROWS)
            break;
        memcpy(row, page + at * ROW_BYTES, ROW_BYTES);
    }
    for (size_t round = 0; round < 2; round++)
        for (size_t i = 0; i < LANES; i++)
            lanes[i] = lanes[i] * PRIME ^ (lanes[i] >> 17);

    uint32_t sum = 0;
    for (size_t i = 0; i < LANES; i++)
        sum ^= lanes[i];
    return sum;
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static uint32_t
sum_page_avx2(const uint8_t *page)
{
    return sum_rows(page);
}

static uint32_t
sum_page(const uint8_t *page)
{
    return __builtin_cpu_supports("avx2") ? sum_page_avx2(page) : sum_page_plain(page);
}
#else
static uint32_t
sum_page(const uint8_t *page)
{
    return sum_page_plain(page);
}
#endif

static uint32_t
sum_page_plain(const uint8_t *page)
{
    return sum_rows(page);
}

/* What the server asks of a page before it uses it, and the layout's version. */
static bool
header_is_sane(const uint8_t *page)
{
    uint16_t flags = hf_get_u16(page + 10), lower = hf_get_u16(page + 12), upper = hf_get_u16(page + 14);
    uint16_t special = hf_get_u16(page + 16), size_version = hf_get_u16(page + 18);

    return (flags & ~FLAGS_KNOWN) == 0 && lower >= HF_POSTGRES_PAGE_HEADER_BYTES && lower <= upper &&
           upper <= special && special <= HF_POSTGRES_PAGE_BYTES && special % 8 == 0 &&
           size_version == (HF_POSTGRES_PAGE_BYTES | LAYOUT_VERSION);
}

static bool
is_zero(const uint8_t *data, size_t length)
{
    return length == 0 || (data[0] == 0 && memcmp(data, data + 1, length - 1) == 0);
}
