#include "tests/support/test.h"

#include <pthread.h>

#include "base/digest.c" // the source itself, to reach the road of hosts without the instruction
#include "base/id.h"

static uint8_t bytes[300000];

/* xorshift64*: the same bytes in every run. */
__attribute__((constructor)) static void
fill_bytes(void)
{
    uint64_t state = 42;
    for (size_t i = 0; i < sizeof bytes; i++) {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes[i] = (uint8_t)(state * UINT64_C(2685821657736338717) >> 56);
    }
}

/* The definition, bit by bit: what the fast ones are held against. */
static uint32_t
crc_by_definition(uint32_t crc, const uint8_t *data, size_t length)
{
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (UINT32_C(0x82F63B78) & -(crc & 1));
    }
    return ~crc;
}

static void
assert_sha256(const char *text, const char *expected)
{
    uint8_t digest[HF_SHA256_BYTES];
    char hex[2 * HF_SHA256_BYTES + 1];
    hf_sha256(text, strlen(text), digest);
    hf_hex_format(digest, sizeof digest, hex);
    assert_string_equal(hex, expected);
}

HF_TEST(sha256_gives_the_known_answers)
{
    // FIPS 180-4 examples
    assert_sha256("", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    assert_sha256("abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

HF_TEST(a_running_sha256_does_not_depend_on_the_pieces_and_starts_anew_at_its_end)
{
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    struct hf_error err;
    uint8_t whole[HF_SHA256_BYTES], pieces[HF_SHA256_BYTES];
    hf_assert_ok(hf_sha256_new(&running, &err), &err);
    hf_sha256(bytes, 10000, whole);

    const size_t steps[] = {1, 7, 64, 4096, 10000};
    for (size_t i = 0; i < HF_LENGTH(steps); i++) {
        for (size_t at = 0; at < 10000; at += steps[i])
            hf_sha256_add(running, bytes + at, steps[i] < 10000 - at ? steps[i] : 10000 - at);
        hf_sha256_end(running, pieces);
        assert_memory_equal(pieces, whole, sizeof whole);
    }
}

HF_TEST(crc32c_gives_the_known_answers)
{
    uint8_t pattern[32];
    assert_int_equal(hf_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(hf_crc32c(0, NULL, 0), 0);

    // RFC 3720 B.4
    memset(pattern, 0, sizeof pattern);
    assert_int_equal(hf_crc32c(0, pattern, 32), 0x8a9136aa);
    memset(pattern, 0xFF, sizeof pattern);
    assert_int_equal(hf_crc32c(0, pattern, 32), 0x62a8ab43);
    for (uint8_t i = 0; i < 32; i++)
        pattern[i] = i;
    assert_int_equal(hf_crc32c(0, pattern, 32), 0x46dd794e);
}

HF_TEST(crc32c_is_its_definition_at_every_length_and_alignment)
{
    for (size_t length = 0; length < 1200; length++)
        assert_int_equal(hf_crc32c(0, bytes + length % 17, length), crc_by_definition(0, bytes + length % 17, length));

    const size_t lengths[] = {8159, 8160, 8161, 8192, 16384, 16383, 65536, 65537, 299983};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++)
        for (size_t offset = 0; offset < 17; offset++)
            assert_int_equal(hf_crc32c(7, bytes + offset, lengths[i]),
                             crc_by_definition(7, bytes + offset, lengths[i]));
}

HF_TEST(crc32c_is_its_definition_on_hosts_without_the_instruction)
{
    for (size_t length = 0; length < 1200; length++)
        assert_int_equal(~crc_by_tables(~5u, bytes + length % 17, length),
                         crc_by_definition(5, bytes + length % 17, length));
}

HF_TEST(crc32c_goes_on_where_it_stopped)
{
    uint32_t whole = hf_crc32c(0, bytes, 20000);
    for (size_t cut = 0; cut <= 20000; cut += 37)
        assert_int_equal(hf_crc32c(hf_crc32c(0, bytes, cut), bytes + cut, 20000 - cut), whole);
}

HF_TEST(checksums_combine_without_reading_a_byte_again)
{
    const size_t lengths[] = {0, 1, 2, 7, 8, 511, 4096, 8191, 8192, 8193, 16384, 65536, 65537, 200000};
    for (size_t a = 0; a < HF_LENGTH(lengths); a++)
        for (size_t b = 0; b < HF_LENGTH(lengths); b++) {
            size_t total = lengths[a] + lengths[b];
            if (total > sizeof bytes)
                continue;
            uint32_t first = hf_crc32c(0, bytes, lengths[a]);
            uint32_t second = hf_crc32c(0, bytes + lengths[a], lengths[b]);
            assert_int_equal(hf_crc32c_combine(first, second, lengths[b]), hf_crc32c(0, bytes, total));
        }
}

HF_TEST(combining_works_for_lengths_no_memory_holds)
{
    // `zeros` is the checksum of 2^k zero bytes; adding as many again must be the same as adding the halves.
    uint32_t zeros = hf_crc32c(0, "", 1);
    for (unsigned k = 0; k < 63; k++) {
        uint64_t length = UINT64_C(1) << k;
        uint32_t twice = hf_crc32c_combine(zeros, zeros, length);
        uint32_t whole = hf_crc32c_combine(0x12345678, twice, 2 * length);
        uint32_t halves = hf_crc32c_combine(hf_crc32c_combine(0x12345678, zeros, length), zeros, length);
        assert_int_equal(whole, halves);
        zeros = twice;
    }

    // (A B) C and A (B C) are the same text, whatever the lengths.
    uint64_t b = UINT64_C(0x0123456789ABCDEF), c = UINT64_C(0x00FEDCBA98765432);
    uint32_t left = hf_crc32c_combine(hf_crc32c_combine(0x11111111, 0x22222222, b), 0x33333333, c);
    uint32_t right = hf_crc32c_combine(0x11111111, hf_crc32c_combine(0x22222222, 0x33333333, c), b + c);
    assert_int_equal(left, right);
}

static void *
digest_in_a_thread(void *result)
{
    bool *same = result;
    uint32_t whole = hf_crc32c(0, bytes, 16384 + 8192);
    for (int i = 0; i < 200; i++) {
        uint8_t digest[HF_SHA256_BYTES], again[HF_SHA256_BYTES];
        hf_sha256(bytes, 100, digest);
        hf_sha256(bytes, 100, again);
        *same = *same && memcmp(digest, again, sizeof digest) == 0 &&
                hf_crc32c_combine(hf_crc32c(0, bytes, 16384), hf_crc32c(0, bytes + 16384, 8192), 8192) == whole;
    }
    return NULL;
}

HF_TEST(threads_may_digest_side_by_side)
{
    pthread_t threads[4];
    bool same[4] = {true, true, true, true};
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, digest_in_a_thread, &same[i]), 0);
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_true(same[i]);
    }
}
