#include "tests/source/wal_builder.h"

#include "base/buf.h"
#include "base/digest.h"
#include "tests/source/keep.h"

static void put(struct hf_test_wal *wal, const uint8_t *bytes, size_t length);
static void put_page_header(struct hf_test_wal *wal, size_t rest);

void
hf_test_wal_begin(struct hf_test_wal *wal, const struct hf_wal_origin *origin, uint64_t start)
{
    *wal = (struct hf_test_wal){.origin = *origin, .start = start, .abandon_at = SIZE_MAX};
    wal->data = hf_test_keep(HF_TEST_WAL_MOST);
    wal->previous = start > 0 ? start - 8 : 0;
}

uint64_t
hf_test_wal_add(struct hf_test_wal *wal, uint8_t manager, uint8_t info, const void *body, size_t length)
{
    uint8_t *record = calloc(1, HF_WAL_RECORD_HEADER + length);
    if (record == NULL)
        fail_msg("out of memory");
    if (wal->length % HF_WAL_PAGE_BYTES == 0)
        put_page_header(wal, 0);
    uint64_t position = wal->start + wal->length;

    hf_put_u32(record, (uint32_t)(HF_WAL_RECORD_HEADER + length));
    hf_put_u32(record + 4, 733);
    hf_put_u64(record + 8, wal->previous);
    record[16] = info;
    record[17] = manager;
    memcpy(record + HF_WAL_RECORD_HEADER, body, length);
    hf_put_u32(record + 20, hf_crc32c(hf_crc32c(0, record + HF_WAL_RECORD_HEADER, length), record, 20));
    put(wal, record, HF_WAL_RECORD_HEADER + length);
    wal->length = (wal->length + 7) / 8 * 8;
    wal->previous = position;
    free(record);
    return position;
}

uint64_t
hf_test_wal_add_commit(struct hf_test_wal *wal, int64_t at_ms)
{
    uint8_t body[2 + 8 + 4] = {255, 12};
    hf_put_u64(body + 2, (uint64_t)((at_ms - INT64_C(946684800000)) * 1000));
    return hf_test_wal_add(wal, 1, 0x80, body, sizeof body);
}

void
hf_test_wal_add_switch(struct hf_test_wal *wal)
{
    hf_test_wal_add(wal, 0, 0x40, "", 0);
    wal->length = (wal->length + wal->origin.segment_bytes - 1) / wal->origin.segment_bytes * wal->origin.segment_bytes;
    assert_true(wal->length <= HF_TEST_WAL_MOST);
}

uint64_t
hf_test_wal_end(const struct hf_test_wal *wal)
{
    return wal->start + wal->length;
}

void
hf_test_wal_add_abandoned(struct hf_test_wal *wal, size_t length)
{
    size_t left = HF_WAL_PAGE_BYTES - wal->length % HF_WAL_PAGE_BYTES;
    uint64_t previous = wal->previous;
    uint8_t *body = calloc(1, length);

    assert_true(body != NULL && left < HF_WAL_PAGE_BYTES && length > left);
    size_t at = wal->length + left;
    hf_test_wal_add(wal, 10, 0, body, length);
    memset(wal->data + at, 0, wal->length - at); // what never reached the disk
    wal->length = at;
    wal->abandon_at = at;
    wal->previous = previous;
    free(body);
}

/* Over page ends, each with the header that says how much still follows. */
static void
put(struct hf_test_wal *wal, const uint8_t *bytes, size_t length)
{
    while (length > 0) {
        if (wal->length % HF_WAL_PAGE_BYTES == 0)
            put_page_header(wal, length);
        size_t left = HF_WAL_PAGE_BYTES - wal->length % HF_WAL_PAGE_BYTES;
        size_t part = length < left ? length : left;
        assert_true(wal->length + part <= HF_TEST_WAL_MOST);
        memcpy(wal->data + wal->length, bytes, part);
        wal->length += part;
        bytes += part;
        length -= part;
    }
}

static void
put_page_header(struct hf_test_wal *wal, size_t rest)
{
    uint8_t *at = wal->data + wal->length;
    bool is_long = (wal->start + wal->length) % wal->origin.segment_bytes == 0;

    hf_put_u16(at, hf_wal_page_magic(wal->origin.major_version));
    hf_put_u16(at + 2, (uint16_t)((rest > 0 ? 1 : 0) | (is_long ? 2 : 0) | (wal->length == wal->abandon_at ? 8 : 0)));
    hf_put_u32(at + 4, wal->origin.timeline);
    hf_put_u64(at + 8, wal->start + wal->length);
    hf_put_u32(at + 16, (uint32_t)rest);
    if (is_long) {
        hf_put_u64(at + 24, wal->origin.system_identifier);
        hf_put_u32(at + 32, wal->origin.segment_bytes);
        hf_put_u32(at + 36, HF_WAL_PAGE_BYTES);
    }
    wal->length += is_long ? 40 : 24;
}
