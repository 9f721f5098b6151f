#include "tests/support/test.h"

#include "base/buf.h"

static bool memory_is_short;

void *__real_malloc(size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *old, size_t size);

void *
__wrap_malloc(size_t size)
{
    return memory_is_short ? NULL : __real_malloc(size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return memory_is_short ? NULL : __real_realloc(old, size);
}

HF_TEST(an_empty_buffer_is_empty_text)
{
    struct hf_buf buf = HF_BUF_INIT(10);
    assert_string_equal(hf_buf_text(&buf), "");
    hf_buf_clear(&buf);
    hf_buf_truncate(&buf, 0);
    hf_buf_done(&buf);
    hf_buf_done(&buf);
}

HF_TEST(what_is_added_is_there_with_a_zero_behind_it)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    for (int i = 0; i < 1000; i++) {
        hf_assert_ok(hf_buf_add(&buf, "abc", 3, &err), &err);
        assert_int_equal(buf.data[buf.length], 0);
    }
    assert_int_equal(buf.length, 3000);
    assert_memory_equal(buf.data + 2997, "abc", 4);

    hf_buf_clear(&buf);
    assert_string_equal(hf_buf_text(&buf), "");
    hf_assert_ok(hf_buf_printf(&buf, &err, "%s %d", "page", 7), &err);
    hf_assert_ok(hf_buf_add_text(&buf, "!", &err), &err);
    assert_string_equal(hf_buf_text(&buf), "page 7!");
    hf_buf_truncate(&buf, 4);
    assert_string_equal(hf_buf_text(&buf), "page");
    hf_assert_ok(hf_buf_add_zeros(&buf, 3, &err), &err);
    assert_memory_equal(buf.data, "page\0\0\0", 8);
}

HF_TEST(a_buffer_takes_exactly_its_limit_and_names_it_beyond)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(100);
    struct hf_error err;
    uint8_t bytes[101];
    memset(bytes, 'x', sizeof bytes);

    assert_false(hf_buf_add(&buf, bytes, 101, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_assert_ok(hf_buf_add(&buf, bytes, 100, &err), &err);
    assert_int_equal(buf.capacity, 101); // and the 0 behind them

    assert_false(hf_buf_put_u8(&buf, 1, &err));
    assert_string_equal(err.message, "buffer of 100 bytes cannot take 1 more: its limit is 100 bytes");
    assert_false(hf_buf_printf(&buf, &err, "%d", 5));
    assert_false(hf_buf_reserve(&buf, SIZE_MAX, &err));
    assert_int_equal(buf.length, 100);
    assert_memory_equal(buf.data, bytes, 100);
}

HF_TEST(a_string_goes_in_whole_or_not_at_all)
{
    struct hf_error err;
    for (size_t limit = 0; limit < 202; limit++) {
        _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(limit);
        uint8_t bytes[200] = {1};
        assert_false(hf_buf_put_string(&buf, bytes, sizeof bytes, &err));
        assert_int_equal(err.kind, HF_ERR_NO_SPACE);
        assert_int_equal(buf.length, 0);
        assert_false(hf_buf_put_string(&buf, bytes, SIZE_MAX, &err));
        assert_int_equal(buf.length, 0);
    }
}

HF_TEST(running_out_of_memory_is_an_error_that_adds_nothing)
{
    struct hf_error err;
    for (int secret = 0; secret < 2; secret++) {
        _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(HF_MIB);
        buf.secret = secret == 1;
        hf_assert_ok(hf_buf_add_text(&buf, "kept", &err), &err);

        memory_is_short = true;
        bool added = hf_buf_add_zeros(&buf, 1000, &err);
        memory_is_short = false;
        assert_false(added);
        assert_int_equal(err.kind, HF_ERR_NO_MEMORY);
        assert_string_equal(hf_buf_text(&buf), "kept");
    }
}

HF_TEST(clearing_a_secret_buffer_wipes_it)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT_SECRET(HF_KIB);
    struct hf_error err;
    hf_assert_ok(hf_buf_add_text(&buf, "correct horse", &err), &err);
    hf_buf_truncate(&buf, 7);
    assert_memory_equal(buf.data, "correct\0\0\0\0\0\0", 14);
    hf_buf_clear(&buf);
    for (size_t i = 0; i < buf.capacity; i++)
        assert_int_equal(buf.data[i], 0);
}

HF_TEST(buffers_swap_all_they_are)
{
    _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(10);
    _cleanup_(hf_buf_done) struct hf_buf b = HF_BUF_INIT_SECRET(20);
    struct hf_error err;
    hf_assert_ok(hf_buf_add_text(&a, "a", &err) && hf_buf_add_text(&b, "bb", &err), &err);
    hf_buf_swap(&a, &b);
    assert_string_equal(hf_buf_text(&a), "bb");
    assert_true(a.secret && a.limit == 20 && !b.secret && b.limit == 10);
}

HF_TEST(numbers_are_little_endian_and_come_back)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(100);
    struct hf_error err;
    hf_assert_ok(hf_buf_put_u8(&buf, 0x01, &err) && hf_buf_put_u16(&buf, 0x0302, &err) &&
                     hf_buf_put_u32(&buf, 0x07060504, &err) && hf_buf_put_u64(&buf, 0x0F0E0D0C0B0A0908, &err),
                 &err);
    for (size_t i = 0; i < 15; i++)
        assert_int_equal(buf.data[i], i + 1);

    struct hf_reader reader = HF_READER(buf.data, buf.length);
    assert_int_equal(hf_reader_u8(&reader), 0x01);
    assert_int_equal(hf_reader_u16(&reader), 0x0302);
    assert_int_equal(hf_reader_u32(&reader), 0x07060504);
    assert_false(hf_reader_finished(&reader));
    assert_true(hf_reader_u64(&reader) == 0x0F0E0D0C0B0A0908);
    assert_true(hf_reader_finished(&reader));

    uint8_t place[8];
    hf_put_u64(place, 0x1122334455667788);
    assert_true(hf_get_u64(place) == 0x1122334455667788);
    assert_int_equal(hf_get_u32(place), 0x55667788);
    assert_int_equal(hf_get_u16(place), 0x7788);
    hf_put_u16(place, 1);
    hf_put_u32(place + 2, 2);
    assert_memory_equal(place, "\x01\x00\x02\x00\x00\x00", 6);
}

HF_TEST(every_varint_has_one_spelling_and_comes_back)
{
    struct hf_error err;
    for (unsigned bit = 0; bit < 64; bit++)
        for (int near = -1; near <= 1; near++) {
            uint64_t value = (UINT64_C(1) << bit) + (uint64_t)near;
            _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(10);
            hf_assert_ok(hf_buf_put_varint(&buf, value, &err), &err);
            struct hf_reader reader = HF_READER(buf.data, buf.length);
            assert_true(hf_reader_varint(&reader) == value);
            assert_true(hf_reader_finished(&reader));
        }

    static const struct {
        uint8_t bytes[11];
        size_t length;
    } refused[] = {
        {{0x80, 0x00}, 2},                                                        // 0 in two bytes
        {{0xFF, 0x80, 0x00}, 3},                                                  // 127 in three
        {{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02}, 10},       // 65 bits
        {{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01}, 11}, // eleven bytes
        {{0x80}, 1},                                                              // cut off
        {{0}, 0},                                                                 // nothing
    };
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        struct hf_reader reader = HF_READER(refused[i].bytes, refused[i].length);
        assert_true(hf_reader_varint(&reader) == 0);
        assert_false(hf_reader_ok(&reader));
    }
}

HF_TEST(reading_past_the_end_fails_and_stays_failed)
{
    const uint8_t bytes[] = {1, 2, 3};
    struct hf_reader reader = HF_READER(bytes, 3);
    assert_int_equal(hf_reader_u32(&reader), 0);
    assert_int_equal(hf_reader_u8(&reader), 0);
    assert_null(hf_reader_bytes(&reader, 0));
    assert_false(hf_reader_ok(&reader));
    assert_false(hf_reader_finished(&reader));

    struct hf_reader longer = HF_READER(bytes, 3);
    assert_null(hf_reader_bytes(&longer, SIZE_MAX));
    struct hf_reader nothing = HF_READER(NULL, 0);
    assert_non_null(hf_reader_bytes(&nothing, 0));
    assert_true(hf_reader_finished(&nothing));
    hf_reader_refuse(&nothing);
    assert_false(hf_reader_finished(&nothing));
}

HF_TEST(a_string_longer_than_allowed_or_than_the_bytes_is_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(100);
    struct hf_error err;
    hf_assert_ok(hf_buf_put_string(&buf, "hello", 5, &err) && hf_buf_put_string(&buf, "", 0, &err), &err);

    size_t length;
    struct hf_reader reader = HF_READER(buf.data, buf.length);
    assert_memory_equal(hf_reader_string(&reader, 5, &length), "hello", 5);
    assert_int_equal(length, 5);
    assert_non_null(hf_reader_string(&reader, 5, &length));
    assert_int_equal(length, 0);
    assert_true(hf_reader_finished(&reader));

    struct hf_reader strict = HF_READER(buf.data, buf.length);
    assert_null(hf_reader_string(&strict, 4, &length));
    assert_int_equal(length, 0);
    assert_false(hf_reader_ok(&strict));

    struct hf_reader cut = HF_READER(buf.data, 5);
    assert_null(hf_reader_string(&cut, 100, &length));
    assert_false(hf_reader_ok(&cut));

    struct hf_reader number = HF_READER(buf.data, buf.length);
    assert_true(hf_reader_varint_max(&number, 4) == 0);
    assert_false(hf_reader_ok(&number));
}
