/*
 * buf.h - bytes that grow, born with a ceiling; and a reader that cannot run past the end
 *
 * Whatever a peer, a file or a user can make large has a limit, and the error names it.  A buffer is
 * born with its limit: `_cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(64 * HF_KIB)`.
 * Numbers on disk and on our wires are little endian; a varint is LEB128 (7 bits a byte, low first,
 * at most 10 bytes, shortest form only).
 */
#pragma once
#include <endian.h>
#include <string.h>
#include "base/error.h"

/* data[length] is always readable and 0 once anything was added, so that text can be used in place. */
struct hf_buf {
    uint8_t *data;
    size_t length;   // bytes in use
    size_t capacity; // bytes allocated, or 0
    size_t limit;    // most bytes it may ever hold
    bool secret;     // wiped whenever memory is given back
};

#define HF_BUF_INIT(most)        ((struct hf_buf){.limit = (most)})
#define HF_BUF_INIT_SECRET(most) ((struct hf_buf){.limit = (most), .secret = true})

void hf_buf_done(struct hf_buf *buf);                    // frees; the buffer can be used again, empty
void hf_buf_clear(struct hf_buf *buf);                   // forgets the bytes, keeps the memory
void hf_buf_truncate(struct hf_buf *buf, size_t length); // forgets the bytes from `length` on
void hf_buf_swap(struct hf_buf *a, struct hf_buf *b);

/* Errors of all that add: NO_SPACE past the limit (named in bytes), NO_MEMORY; nothing is added then. */
HF_MUST_CHECK bool hf_buf_reserve(struct hf_buf *buf, size_t more, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_add(struct hf_buf *buf, const void *data, size_t length, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_add_zeros(struct hf_buf *buf, size_t length, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_add_text(struct hf_buf *buf, const char *text, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_printf(struct hf_buf *buf, struct hf_error *err, const char *format, ...) HF_PRINTF(3, 4);
HF_MUST_CHECK bool hf_buf_put_u8(struct hf_buf *buf, uint8_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_put_u16(struct hf_buf *buf, uint16_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_put_u32(struct hf_buf *buf, uint32_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_put_u64(struct hf_buf *buf, uint64_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_buf_put_varint(struct hf_buf *buf, uint64_t value, struct hf_error *err);
/* varint length, then the bytes */
HF_MUST_CHECK bool hf_buf_put_string(struct hf_buf *buf, const void *data, size_t length, struct hf_error *err);

/* The bytes as text: "" while nothing was added. */
const char *hf_buf_text(const struct hf_buf *buf);

/*
 * Reads numbers off the front of borrowed bytes.  Failure sticks: reading past the end, a varint that
 * is too long, or hf_reader_refuse() make every later read return 0 or NULL, so that a parser checks
 * once, with hf_reader_ok(), before it believes anything.
 */
struct hf_reader {
    const uint8_t *data; // borrowed from the caller
    size_t length;
    size_t position;
    bool failed;
};

#define HF_READER(bytes, size) ((struct hf_reader){.data = (bytes), .length = (size)})

uint8_t hf_reader_u8(struct hf_reader *reader);
uint16_t hf_reader_u16(struct hf_reader *reader);
uint32_t hf_reader_u32(struct hf_reader *reader);
uint64_t hf_reader_u64(struct hf_reader *reader);
uint64_t hf_reader_varint(struct hf_reader *reader);
/* A varint that must be at most `most`. */
uint64_t hf_reader_varint_max(struct hf_reader *reader, uint64_t most);
/* A pointer to the next bytes, or NULL (and failed) when there are fewer. */
const uint8_t *hf_reader_bytes(struct hf_reader *reader, size_t length);
/* A string as hf_buf_put_string wrote it, at most `most` bytes; not NUL-terminated. */
const uint8_t *hf_reader_string(struct hf_reader *reader, size_t most, size_t *ret_length);
void hf_reader_refuse(struct hf_reader *reader);
bool hf_reader_ok(const struct hf_reader *reader);
/* ok, and every byte was read */
bool hf_reader_finished(const struct hf_reader *reader);

/* Little-endian numbers in place; inline, as checksums live on them. */
static inline uint16_t
hf_get_u16(const uint8_t *at)
{
    uint16_t little;
    memcpy(&little, at, sizeof little);
    return le16toh(little);
}

static inline uint32_t
hf_get_u32(const uint8_t *at)
{
    uint32_t little;
    memcpy(&little, at, sizeof little);
    return le32toh(little);
}

static inline uint64_t
hf_get_u64(const uint8_t *at)
{
    uint64_t little;
    memcpy(&little, at, sizeof little);
    return le64toh(little);
}

static inline void
hf_put_u16(uint8_t *at, uint16_t value)
{
    uint16_t little = htole16(value);
    memcpy(at, &little, sizeof little);
}

static inline void
hf_put_u32(uint8_t *at, uint32_t value)
{
    uint32_t little = htole32(value);
    memcpy(at, &little, sizeof little);
}

static inline void
hf_put_u64(uint8_t *at, uint64_t value)
{
    uint64_t little = htole64(value);
    memcpy(at, &little, sizeof little);
}
