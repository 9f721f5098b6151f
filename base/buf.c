#include "base/buf.h"

#include <assert.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>

#define FIRST_CAPACITY    64
#define MOST_VARINT_BYTES 10

static bool grow(struct hf_buf *buf, size_t capacity, struct hf_error *err);
static size_t encode_varint(uint64_t value, uint8_t bytes[static MOST_VARINT_BYTES]);

void
hf_buf_done(struct hf_buf *buf)
{
    if (buf->secret && buf->data != NULL)
        sodium_memzero(buf->data, buf->capacity);
    free(buf->data);
    buf->data = NULL;
    buf->length = buf->capacity = 0;
}

void
hf_buf_clear(struct hf_buf *buf)
{
    if (buf->data == NULL)
        return;
    if (buf->secret)
        sodium_memzero(buf->data, buf->capacity);
    buf->length = 0;
    buf->data[0] = 0;
}

void
hf_buf_truncate(struct hf_buf *buf, size_t length)
{
    if (buf->data == NULL || length >= buf->length)
        return;
    if (buf->secret)
        sodium_memzero(buf->data + length, buf->length - length);
    buf->length = length;
    buf->data[length] = 0;
}

void
hf_buf_swap(struct hf_buf *a, struct hf_buf *b)
{
    struct hf_buf kept = *a;
    *a = *b;
    *b = kept;
}

bool
hf_buf_reserve(struct hf_buf *buf, size_t more, struct hf_error *err)
{
    assert(buf->length <= buf->limit && buf->limit < SIZE_MAX / 2);
    if (more > buf->limit - buf->length)
        return hf_fail(err, HF_ERR_NO_SPACE, "buffer of %zu bytes cannot take %zu more: its limit is %zu bytes",
                       buf->length, more, buf->limit);

    size_t needed = buf->length + more + 1; // and the 0 behind the last byte
    if (needed <= buf->capacity)
        return true;

    size_t capacity = buf->capacity < FIRST_CAPACITY ? FIRST_CAPACITY : buf->capacity * 2;
    if (capacity > buf->limit + 1)
        capacity = buf->limit + 1;
    return grow(buf, capacity < needed ? needed : capacity, err);
}

bool
hf_buf_add(struct hf_buf *buf, const void *data, size_t length, struct hf_error *err)
{
    if (!hf_buf_reserve(buf, length, err))
        return false;
    if (length > 0)
        memcpy(buf->data + buf->length, data, length);
    buf->length += length;
    buf->data[buf->length] = 0;
    return true;
}

bool
hf_buf_add_zeros(struct hf_buf *buf, size_t length, struct hf_error *err)
{
    if (!hf_buf_reserve(buf, length, err))
        return false;
    memset(buf->data + buf->length, 0, length + 1);
    buf->length += length;
    return true;
}

bool
hf_buf_add_text(struct hf_buf *buf, const char *text, struct hf_error *err)
{
    return hf_buf_add(buf, text, strlen(text), err);
}

bool
hf_buf_printf(struct hf_buf *buf, struct hf_error *err, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(wanted >= 0);

    if (!hf_buf_reserve(buf, (size_t)wanted, err))
        return false;

    va_start(arguments, format);
    vsnprintf((char *)buf->data + buf->length, (size_t)wanted + 1, format, arguments);
    va_end(arguments);
    buf->length += (size_t)wanted;
    return true;
}

bool
hf_buf_put_u8(struct hf_buf *buf, uint8_t value, struct hf_error *err)
{
    return hf_buf_add(buf, &value, sizeof value, err);
}

bool
hf_buf_put_u16(struct hf_buf *buf, uint16_t value, struct hf_error *err)
{
    uint16_t little = htole16(value);
    return hf_buf_add(buf, &little, sizeof little, err);
}

bool
hf_buf_put_u32(struct hf_buf *buf, uint32_t value, struct hf_error *err)
{
    uint32_t little = htole32(value);
    return hf_buf_add(buf, &little, sizeof little, err);
}

bool
hf_buf_put_u64(struct hf_buf *buf, uint64_t value, struct hf_error *err)
{
    uint64_t little = htole64(value);
    return hf_buf_add(buf, &little, sizeof little, err);
}

bool
hf_buf_put_varint(struct hf_buf *buf, uint64_t value, struct hf_error *err)
{
    uint8_t bytes[MOST_VARINT_BYTES];
    return hf_buf_add(buf, bytes, encode_varint(value, bytes), err);
}

bool
hf_buf_put_string(struct hf_buf *buf, const void *data, size_t length, struct hf_error *err)
{
    uint8_t head[MOST_VARINT_BYTES];
    size_t head_length = encode_varint(length, head);
    if (length > SIZE_MAX / 2)
        return hf_fail(err, HF_ERR_NO_SPACE, "a string of %zu bytes is longer than memory", length);

    // Room for both first: a length without its bytes must not stay behind.
    return hf_buf_reserve(buf, head_length + length, err) && hf_buf_add(buf, head, head_length, err) &&
           hf_buf_add(buf, data, length, err);
}

const char *
hf_buf_text(const struct hf_buf *buf)
{
    return buf->data == NULL ? "" : (const char *)buf->data;
}

uint8_t
hf_reader_u8(struct hf_reader *reader)
{
    const uint8_t *at = hf_reader_bytes(reader, 1);
    return at == NULL ? 0 : *at;
}

uint16_t
hf_reader_u16(struct hf_reader *reader)
{
    const uint8_t *at = hf_reader_bytes(reader, 2);
    return at == NULL ? 0 : hf_get_u16(at);
}

uint32_t
hf_reader_u32(struct hf_reader *reader)
{
    const uint8_t *at = hf_reader_bytes(reader, 4);
    return at == NULL ? 0 : hf_get_u32(at);
}

uint64_t
hf_reader_u64(struct hf_reader *reader)
{
    const uint8_t *at = hf_reader_bytes(reader, 8);
    return at == NULL ? 0 : hf_get_u64(at);
}

uint64_t
hf_reader_varint(struct hf_reader *reader)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < MOST_VARINT_BYTES; i++) {
        uint8_t byte = hf_reader_u8(reader);
        if (reader->failed)
            return 0;
        if (i == MOST_VARINT_BYTES - 1 && byte > 1)
            break; // the tenth byte holds bit 63 alone
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            if (byte == 0 && i > 0)
                break; // a shorter form exists: one number has one spelling
            return value;
        }
    }
    hf_reader_refuse(reader);
    return 0;
}

uint64_t
hf_reader_varint_max(struct hf_reader *reader, uint64_t most)
{
    uint64_t value = hf_reader_varint(reader);
    if (value <= most)
        return value;
    hf_reader_refuse(reader);
    return 0;
}

const uint8_t *
hf_reader_bytes(struct hf_reader *reader, size_t length)
{
    static const uint8_t nothing;
    if (reader->failed || length > reader->length - reader->position) {
        reader->failed = true;
        return NULL;
    }
    if (length == 0)
        return reader->data == NULL ? &nothing : reader->data + reader->position;

    const uint8_t *at = reader->data + reader->position;
    reader->position += length;
    return at;
}

const uint8_t *
hf_reader_string(struct hf_reader *reader, size_t most, size_t *ret_length)
{
    size_t length = (size_t)hf_reader_varint_max(reader, most);
    const uint8_t *at = hf_reader_bytes(reader, length);
    *ret_length = at == NULL ? 0 : length;
    return at;
}

void
hf_reader_refuse(struct hf_reader *reader)
{
    reader->failed = true;
}

bool
hf_reader_ok(const struct hf_reader *reader)
{
    return !reader->failed;
}

bool
hf_reader_finished(const struct hf_reader *reader)
{
    return !reader->failed && reader->position == reader->length;
}

/* Not realloc() for secrets: it may leave a copy of the old bytes behind, unwiped. */
static bool
grow(struct hf_buf *buf, size_t capacity, struct hf_error *err)
{
    uint8_t *data = buf->secret ? malloc(capacity) : realloc(buf->data, capacity);
    if (data == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a buffer of %zu bytes", capacity);

    if (buf->secret && buf->data != NULL) {
        memcpy(data, buf->data, buf->length);
        sodium_memzero(buf->data, buf->capacity);
        free(buf->data);
    }
    buf->data = data;
    buf->capacity = capacity;
    buf->data[buf->length] = 0;
    return true;
}

static size_t
encode_varint(uint64_t value, uint8_t bytes[static MOST_VARINT_BYTES])
{
    size_t length = 0;
    while (value >= 0x80) {
        bytes[length++] = (uint8_t)value | 0x80;
        value >>= 7;
    }
    bytes[length++] = (uint8_t)value;
    return length;
}
