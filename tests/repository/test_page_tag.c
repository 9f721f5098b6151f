#include "tests/support/test.h"

#include <sodium.h>
#include <stdlib.h>

#include "server/repository/page_tag.h"

#define REGION    (512 * HF_KIB)
#define MOST_TAGS (REGION >> HF_PAGE_LOG2_LEAST)

static uint8_t key[16] = "a key for tags!";
static struct hf_vault_keys keys = {.tag_key = {.bytes = key, .length = sizeof key}};

/* Any bytes will do, as long as no page is like another one. */
static uint8_t *
make_region(void)
{
    static const uint8_t seed[randombytes_SEEDBYTES] = "pages";
    uint8_t *data = malloc(REGION);
    assert_non_null(data);
    randombytes_buf_deterministic(data, REGION, seed);
    return data;
}

HF_TEST(a_tag_is_siphash_of_libsodium_whatever_lies_beside_the_page)
{
    _cleanup_(hf_freep) uint8_t *data = make_region();
    static uint8_t tags[MOST_TAGS * HF_TAG_BYTES];
    const size_t cuts[] = {0, 1, 7, 8, 31, 255, 4095, 4096, 8191, 65535};
    for (unsigned log2 = HF_PAGE_LOG2_LEAST; log2 <= HF_PAGE_LOG2_MOST; log2++) {
        const size_t page_bytes = (size_t)1 << log2;
        for (size_t pages = 1; pages <= 20 && pages * page_bytes <= REGION; pages++) {
            for (size_t c = 0; c < HF_LENGTH(cuts) && cuts[c] < page_bytes; c++) {
                const size_t length = pages * page_bytes - cuts[c];
                memset(tags, 0, sizeof tags);
                hf_page_tags(&keys, data, length, log2, tags);
                for (size_t i = 0; i < pages; i++) {
                    uint8_t wanted[HF_TAG_BYTES];
                    const size_t left = length - i * page_bytes;
                    crypto_shorthash_siphashx24(wanted, data + i * page_bytes, left < page_bytes ? left : page_bytes,
                                                key);
                    assert_memory_equal(tags + i * HF_TAG_BYTES, wanted, HF_TAG_BYTES);
                }
                assert_int_equal(tags[pages * HF_TAG_BYTES], 0); // and not one more
            }
        }
    }
}

HF_TEST(every_bit_of_every_page_counts)
{
    _cleanup_(hf_freep) uint8_t *data = make_region();
    uint8_t before[8 * HF_TAG_BYTES], after[8 * HF_TAG_BYTES];
    hf_page_tags(&keys, data, 8 << 13, 13, before);
    for (size_t bit = 0; bit < 8 << 16; bit += 61) { // all lanes, all places in a word
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        hf_page_tags(&keys, data, 8 << 13, 13, after);
        data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        for (size_t page = 0; page < 8; page++)
            assert_int_equal(memcmp(before + page * HF_TAG_BYTES, after + page * HF_TAG_BYTES, HF_TAG_BYTES) != 0,
                             page == bit >> 16);
    }
}
