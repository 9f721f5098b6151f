#include "server/repository/page_tag.h"

#include <sodium.h>
#include <string.h>

#define LANES     4 // 64-bit words of a vector
#define PAGES     8 // two vectors wide: one of them alone would wait for its own sums
#define KEY_WORDS 2

/* Word i belongs to the page in lane i. */
typedef uint64_t lanes __attribute__((vector_size(LANES * sizeof(uint64_t))));

/* Four hashes at once: the four words of SipHash's state, each for four pages. */
struct state {
    lanes v0, v1, v2, v3;
};

static bool tag_eight(const uint8_t *key, const uint8_t *data, size_t page_bytes, uint8_t *tags);

void
hf_page_tag(const struct hf_vault_keys *keys, const uint8_t *page, size_t length, uint8_t tag[static HF_TAG_BYTES])
{
    _Static_assert(HF_TAG_BYTES == crypto_shorthash_siphashx24_BYTES, "a tag is what SipHash-2-4-128 gives");
    crypto_shorthash_siphashx24(tag, page, length, keys->tag_key.bytes);
}

void
hf_page_tags(const struct hf_vault_keys *keys, const uint8_t *data, size_t length, unsigned page_log2, uint8_t *tags)
{
    const size_t page_bytes = (size_t)1 << page_log2;
    while (length >= PAGES * page_bytes && tag_eight(keys->tag_key.bytes, data, page_bytes, tags)) {
        data += PAGES * page_bytes;
        length -= PAGES * page_bytes;
        tags += PAGES * HF_TAG_BYTES;
    }
    while (length > 0) {
        const size_t part = length < page_bytes ? length : page_bytes;
        hf_page_tag(keys, data, part, tags);
        data += part;
        length -= part;
        tags += HF_TAG_BYTES;
    }
}

#if defined(__x86_64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define WITH_AVX2    __attribute__((target("avx2")))
#define ALWAYS       static inline __attribute__((always_inline, target("avx2")))
#define ROTATE(v, n) ((v) << (n) | (v) >> (64 - (n)))

/* By whole halves and by bytes: one shuffle, where shifts would take three instructions. */
#define ROTATE_32(v) ((lanes)__builtin_shufflevector((halves)(v), (halves)(v), 1, 0, 3, 2, 5, 4, 7, 6))
#define ROTATE_16(v)                                                                                                   \
    ((lanes)__builtin_shufflevector((quarters)(v), (quarters)(v), 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14))
typedef uint32_t halves __attribute__((vector_size(LANES * sizeof(uint64_t))));
typedef uint16_t quarters __attribute__((vector_size(LANES * sizeof(uint64_t))));

ALWAYS void
round_of(struct state *s)
{
    s->v0 += s->v1;
    s->v1 = ROTATE(s->v1, 13);
    s->v1 ^= s->v0;
    s->v0 = ROTATE_32(s->v0);
    s->v2 += s->v3;
    s->v3 = ROTATE_16(s->v3);
    s->v3 ^= s->v2;
    s->v0 += s->v3;
    s->v3 = ROTATE(s->v3, 21);
    s->v3 ^= s->v0;
    s->v2 += s->v1;
    s->v1 = ROTATE(s->v1, 17);
    s->v1 ^= s->v2;
    s->v2 = ROTATE_32(s->v2);
}

ALWAYS void
take_word(struct state *s, lanes word)
{
    s->v3 ^= word;
    round_of(s);
    round_of(s);
    s->v0 ^= word;
}

ALWAYS lanes
load(const uint8_t *from)
{
    lanes words;
    memcpy(&words, from, sizeof words);
    return words;
}

/* Four words of four pages, turned so that each vector holds one word of each page. */
struct words {
    lanes word[LANES];
};

ALWAYS struct words
load_words(const uint8_t *first_page, size_t page_bytes)
{
    const lanes a = load(first_page), b = load(first_page + page_bytes);
    const lanes c = load(first_page + 2 * page_bytes), d = load(first_page + 3 * page_bytes);
    const lanes ab_even = __builtin_shufflevector(a, b, 0, 4, 2, 6), ab_odd = __builtin_shufflevector(a, b, 1, 5, 3, 7);
    const lanes cd_even = __builtin_shufflevector(c, d, 0, 4, 2, 6), cd_odd = __builtin_shufflevector(c, d, 1, 5, 3, 7);
    return (struct words){
        {__builtin_shufflevector(ab_even, cd_even, 0, 1, 4, 5), __builtin_shufflevector(ab_odd, cd_odd, 0, 1, 4, 5),
         __builtin_shufflevector(ab_even, cd_even, 2, 3, 6, 7), __builtin_shufflevector(ab_odd, cd_odd, 2, 3, 6, 7)}};
}

ALWAYS struct state
begin(const uint64_t key[static KEY_WORDS])
{
    const lanes zeros = {0};
    return (struct state){
        .v0 = zeros + (key[0] ^ UINT64_C(0x736f6d6570736575)), // "somepseudorandomlygeneratedbytes"
        .v1 = zeros + (key[1] ^ UINT64_C(0x646f72616e646f6d) ^ 0xee),
        .v2 = zeros + (key[0] ^ UINT64_C(0x6c7967656e657261)),
        .v3 = zeros + (key[1] ^ UINT64_C(0x7465646279746573)),
    };
}

/* The last word says the length, modulo 256: 0, since pages are multiples of that. */
ALWAYS void
end(struct state *s, uint8_t *tags)
{
    const lanes zeros = {0};
    take_word(s, zeros);
    s->v2 ^= 0xee;
    for (int i = 0; i < 4; i++)
        round_of(s);
    const lanes low = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    s->v1 ^= 0xdd;
    for (int i = 0; i < 4; i++)
        round_of(s);
    const lanes high = s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
    for (size_t lane = 0; lane < LANES; lane++) {
        memcpy(tags + lane * HF_TAG_BYTES, &(uint64_t){low[lane]}, sizeof(uint64_t));
        memcpy(tags + lane * HF_TAG_BYTES + sizeof(uint64_t), &(uint64_t){high[lane]}, sizeof(uint64_t));
    }
}

WITH_AVX2 static void
tag_eight_avx2(const uint8_t *key, const uint8_t *data, size_t page_bytes, uint8_t *tags)
{
    uint64_t words[KEY_WORDS];
    memcpy(words, key, sizeof words);
    struct state first = begin(words), second = first;
    for (size_t at = 0; at < page_bytes; at += sizeof(lanes)) {
        const struct words a = load_words(data + at, page_bytes);
        const struct words b = load_words(data + LANES * page_bytes + at, page_bytes);
        for (int i = 0; i < LANES; i++) {
            take_word(&first, a.word[i]);
            take_word(&second, b.word[i]);
        }
    }
    end(&first, tags);
    end(&second, tags + LANES * HF_TAG_BYTES);
    sodium_memzero(words, sizeof words);
}

/* False where the processor cannot. */
static bool
tag_eight(const uint8_t *key, const uint8_t *data, size_t page_bytes, uint8_t *tags)
{
    if (!__builtin_cpu_supports("avx2"))
        return false;
    tag_eight_avx2(key, data, page_bytes, tags);
    return true;
}

#else

static bool
tag_eight(const uint8_t *key, const uint8_t *data, size_t page_bytes, uint8_t *tags)
{
    (void)key, (void)data, (void)page_bytes, (void)tags;
    return false;
}

#endif
