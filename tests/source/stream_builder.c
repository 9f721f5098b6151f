#include "tests/source/stream_builder.h"

#include <string.h>
#include <zlib.h>

#include "tests/support/test.h"

static void head(struct hf_buf *out, uint8_t flags, char type, const char *path);

void
hf_test_chunk_payload(struct hf_buf *out, uint8_t flags, const char *path, uint64_t offset, const void *data,
                      size_t length)
{
    struct hf_error err;
    head(out, flags, 'P', path);
    assert_true(hf_buf_put_u64(out, length, &err) && hf_buf_put_u64(out, offset, &err) &&
                hf_buf_put_u32(out, (uint32_t)crc32_z(0, data, length), &err) && hf_buf_add(out, data, length, &err));
}

void
hf_test_chunk_end(struct hf_buf *out, const char *path)
{
    head(out, 0, 'E', path);
}

void
hf_test_chunk_named(struct hf_buf *out, char type, const char *path)
{
    head(out, 0, type, path);
}

void
hf_test_chunk_rename(struct hf_buf *out, const char *path, const char *to)
{
    struct hf_error err;
    head(out, 0, 'R', path);
    assert_true(hf_buf_put_u32(out, (uint32_t)strlen(to), &err) && hf_buf_add_text(out, to, &err));
}

void
hf_test_chunk_sparse(struct hf_buf *out, const char *path, uint64_t offset, uint32_t hole, const void *data,
                     size_t length)
{
    struct hf_error err;
    uint8_t pair[8];
    for (int i = 0; i < 4; i++) {
        pair[i] = (uint8_t)(hole >> 8 * i);
        pair[4 + i] = (uint8_t)(length >> 8 * i);
    }
    head(out, 0, 'S', path);
    assert_true(hf_buf_put_u32(out, 1, &err) && hf_buf_put_u64(out, length, &err) &&
                hf_buf_put_u64(out, offset, &err) &&
                hf_buf_put_u32(out, (uint32_t)crc32_z(crc32_z(0, pair, 8), data, length), &err) &&
                hf_buf_add(out, pair, 8, &err) && hf_buf_add(out, data, length, &err));
}

void
hf_test_chunk_holes(struct hf_buf *out, const char *path, uint32_t pairs, uint32_t hole)
{
    struct hf_error err;
    head(out, 0, 'S', path);
    assert_true(hf_buf_put_u32(out, pairs, &err) && hf_buf_put_u64(out, 0, &err) && hf_buf_put_u64(out, 0, &err) &&
                hf_buf_put_u32(out, 0, &err));
    for (uint32_t i = 0; i < pairs; i++)
        assert_true(hf_buf_put_u32(out, hole, &err) && hf_buf_put_u32(out, 0, &err));
}

static void
head(struct hf_buf *out, uint8_t flags, char type, const char *path)
{
    struct hf_error err;
    assert_true(hf_buf_add_text(out, "XBSTCK01", &err) && hf_buf_put_u8(out, flags, &err) &&
                hf_buf_put_u8(out, (uint8_t)type, &err) && hf_buf_put_u32(out, (uint32_t)strlen(path), &err) &&
                hf_buf_add_text(out, path, &err));
}
