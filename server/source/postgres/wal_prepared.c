#include "server/source/postgres/wal_prepared.h"

#include "base/buf.h"

#define HAS_FLAGS UINT8_C(0x80)

/* The kinds of parts that a record's body has before its main data: see wal_format.h. */
#define DATA_SHORT      255
#define DATA_LONG       254
#define ORIGIN          253
#define TOP_TRANSACTION 252

#define TIME_BYTES 8

static const struct part {
    uint32_t flag;
    enum { FIXED, LIST, NUMBER } shape;
    uint32_t bytes, bytes_18; // of it, or of one of the list; the second from release 18 on
} parts[] = {
    {0x001, FIXED, 8, 8},  {0x002, LIST, 4, 4},   {0x004, LIST, 12, 12},
    {0x100, LIST, 12, 16}, {0x008, LIST, 16, 16}, {0x010, NUMBER, 4, 4},
};

static void take_value(struct hf_wal_prepared *prepared);
static void take_header(struct hf_wal_prepared *prepared, uint8_t kind);
static void next_part(struct hf_wal_prepared *prepared);
static void want(struct hf_wal_prepared *prepared, uint64_t at, size_t width);

void
hf_wal_prepared_begin(struct hf_wal_prepared *prepared, uint32_t major_version, uint8_t info)
{
    *prepared = (struct hf_wal_prepared){
        .major_version = major_version, .reading = HF_PREPARED_HEADER, .has_flags = (info & HAS_FLAGS) != 0};
    want(prepared, 0, 1);
}

void
hf_wal_prepared_feed(struct hf_wal_prepared *prepared, const uint8_t *data, size_t length)
{
    while (length > 0 && prepared->reading != HF_PREPARED_OVER) {
        if (prepared->fed < prepared->at) {
            const uint64_t most = prepared->at - prepared->fed;
            const size_t passed = length < most ? length : (size_t)most;
            prepared->fed += passed;
            data += passed;
            length -= passed;
            continue;
        }
        prepared->value[prepared->had++] = *data++;
        prepared->fed++;
        prepared->at++;
        length--;
        if (prepared->had == prepared->width)
            take_value(prepared);
    }
}

/* prepared->at is just behind it. */
static void
take_value(struct hf_wal_prepared *prepared)
{
    const struct part *part = &parts[prepared->part < HF_LENGTH(parts) ? prepared->part : 0];
    const uint32_t value = prepared->width == 1 ? prepared->value[0] : hf_get_u32(prepared->value);
    switch (prepared->reading) {
    case HF_PREPARED_HEADER:
        take_header(prepared, (uint8_t)value);
        return;
    case HF_PREPARED_FLAGS:
        prepared->flags = value;
        next_part(prepared);
        return;
    case HF_PREPARED_LIST:
        prepared->at += (uint64_t)value * (prepared->major_version >= 18 ? part->bytes_18 : part->bytes);
        prepared->part++;
        next_part(prepared);
        return;
    case HF_PREPARED_NUMBER:
        prepared->transaction = value;
        prepared->reading = HF_PREPARED_OVER;
        return;
    case HF_PREPARED_OVER:
        return;
    }
}

static void
take_header(struct hf_wal_prepared *prepared, uint8_t kind)
{
    if (kind == ORIGIN)
        want(prepared, prepared->at + 2, 1);
    else if (kind == TOP_TRANSACTION)
        want(prepared, prepared->at + 4, 1);
    else if ((kind == DATA_SHORT || kind == DATA_LONG) && prepared->has_flags) {
        prepared->reading = HF_PREPARED_FLAGS;
        want(prepared, prepared->at + (kind == DATA_SHORT ? 1 : 4) + TIME_BYTES, 4);
    } else
        prepared->reading = HF_PREPARED_OVER;
}

/* The next one of those that are there. */
static void
next_part(struct hf_wal_prepared *prepared)
{
    for (; prepared->part < HF_LENGTH(parts); prepared->part++) {
        const struct part *part = &parts[prepared->part];
        if ((prepared->flags & part->flag) == 0)
            continue;
        if (part->shape == FIXED) {
            prepared->at += part->bytes;
            continue;
        }
        prepared->reading = part->shape == LIST ? HF_PREPARED_LIST : HF_PREPARED_NUMBER;
        want(prepared, prepared->at, 4);
        return;
    }
    prepared->reading = HF_PREPARED_OVER;
}

static void
want(struct hf_wal_prepared *prepared, uint64_t at, size_t width)
{
    prepared->at = at;
    prepared->width = width;
    prepared->had = 0;
}
