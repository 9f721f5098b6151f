#include "base/digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <string.h>

#include "base/buf.h"

#define POLYNOMIAL UINT32_C(0x82F63B78) // x^32 + ... + 1 of RFC 3720, reflected: bit 31 is x^0
#define ONE        UINT32_C(0x80000000) // the polynomial 1

/*
 * Bytes of each of the three lanes that run side by side.  One crc32 instruction takes three cycles but one can start
 * every cycle.  3 x 2720 leaves 32 bytes of a page of 8 KiB; the short lanes take what is left of other lengths.
 */
#define LONG_LANE  2720
#define SHORT_LANE 128

struct hf_sha256 {
    EVP_MD_CTX *context;
};

/* Appends a fixed number of zero bytes to a checksum: one look-up for each of its bytes. */
struct shift {
    uint64_t length; // bytes appended
    uint32_t table[4][256];
};

static uint32_t powers[64];     // powers[k] = x^(8 * 2^k) mod the polynomial: 2^k bytes further on
static uint32_t slices[8][256]; // slicing-by-8: a byte's effect, that many bytes further on
static struct shift long_lane = {.length = LONG_LANE}, short_lane = {.length = SHORT_LANE};
static struct shift usual[] = {{.length = 8192}, {.length = 16384}, {.length = 65536}}; // page sizes we combine
static uint32_t (*running_crc)(uint32_t state, const uint8_t *data, size_t length);

static EVP_MD *sha256_method;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void);
static const EVP_MD *sha256(void);
static uint32_t multiply(uint32_t a, uint32_t b);
static uint32_t power_of_length(uint64_t length);
static void fill_shift(struct shift *shift);
static uint32_t apply_shift(const struct shift *shift, uint32_t state);
static uint32_t crc_by_tables(uint32_t state, const uint8_t *data, size_t length);

bool
hf_sha256_new(struct hf_sha256 **ret, struct hf_error *err)
{
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = calloc(1, sizeof *running);
    if (running == NULL || (running->context = EVP_MD_CTX_new()) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a SHA-256");
    if (EVP_DigestInit_ex(running->context, sha256(), NULL) != 1)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not start a SHA-256 in OpenSSL");
    *ret = HF_TAKE(running);
    return true;
}

void
hf_sha256_add(struct hf_sha256 *running, const void *data, size_t length)
{
    int done = EVP_DigestUpdate(running->context, data, length);
    assert(done == 1); // neither allocates nor can refuse once it has started
}

void
hf_sha256_end(struct hf_sha256 *running, uint8_t digest[static HF_SHA256_BYTES])
{
    int done = EVP_DigestFinal_ex(running->context, digest, NULL);
    assert(done == 1);
    done = EVP_DigestInit_ex(running->context, NULL, NULL);
    assert(done == 1);
}

void
hf_sha256_freep(struct hf_sha256 **running)
{
    if (*running == NULL)
        return;
    EVP_MD_CTX_free((*running)->context);
    free(*running);
    *running = NULL;
}

void
hf_sha256(const void *data, size_t length, uint8_t digest[static HF_SHA256_BYTES])
{
    // Fails only without memory for a few hundred bytes; there is no digest to go on with then.
    if (EVP_Digest(data, length, digest, NULL, sha256(), NULL) != 1)
        abort();
}

uint32_t
hf_crc32c(uint32_t crc, const void *data, size_t length)
{
    return ~running_crc(~crc, data, length);
}

uint32_t
hf_crc32c_combine(uint32_t crc_a, uint32_t crc_b, uint64_t length_b)
{
    // The complements of start and end cancel out: only A's checksum has to be moved over B's length.
    for (size_t i = 0; i < HF_LENGTH(usual); i++)
        if (usual[i].length == length_b)
            return apply_shift(&usual[i], crc_a) ^ crc_b;
    return multiply(power_of_length(length_b), crc_a) ^ crc_b;
}

/* Fetched once: EVP_sha256() would look the method up again at every digest. */
static void
fetch_sha256(void)
{
    sha256_method = EVP_MD_fetch(NULL, "SHA256", NULL);
    if (sha256_method == NULL)
        abort(); // libcrypto without SHA-256 is a broken installation
}

static const EVP_MD *
sha256(void)
{
    pthread_once(&sha256_once, fetch_sha256);
    return sha256_method;
}

/* a * b modulo the polynomial; reflected, so that multiplying by x is a shift to the right. */
static uint32_t
multiply(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = ONE; bit != 0; bit >>= 1) {
        if ((a & bit) != 0)
            product ^= b;
        b = (b & 1) != 0 ? b >> 1 ^ POLYNOMIAL : b >> 1;
    }
    return product;
}

/* x^(8 * length): what a checksum is multiplied by when that many zero bytes follow. */
static uint32_t
power_of_length(uint64_t length)
{
    uint32_t power = ONE;
    for (unsigned k = 0; length != 0; k++, length >>= 1)
        if ((length & 1) != 0)
            power = multiply(powers[k], power);
    return power;
}

static void
fill_shift(struct shift *shift)
{
    uint32_t power = power_of_length(shift->length);
    for (unsigned byte = 0; byte < 4; byte++)
        for (uint32_t value = 0; value < 256; value++)
            shift->table[byte][value] = multiply(power, value << (8 * byte));
}

static uint32_t
apply_shift(const struct shift *shift, uint32_t state)
{
    return shift->table[0][state & 255] ^ shift->table[1][state >> 8 & 255] ^ shift->table[2][state >> 16 & 255] ^
           shift->table[3][state >> 24];
}

static uint32_t
crc_by_tables(uint32_t state, const uint8_t *data, size_t length)
{
    for (; length >= 8; data += 8, length -= 8) {
        uint64_t word = hf_get_u64(data) ^ state;
        state = 0;
        for (unsigned i = 0; i < 8; i++)
            state ^= slices[7 - i][word >> (8 * i) & 255];
    }
    for (; length > 0; data++, length--)
        state = state >> 8 ^ slices[0][(state ^ *data) & 255];
    return state;
}

#ifdef __x86_64__
#include <nmmintrin.h>

static uint32_t crc_by_instruction(uint32_t state, const uint8_t *data, size_t length);
static uint32_t crc_three_lanes(uint32_t state, const uint8_t *data, const struct shift *lane);

__attribute__((target("sse4.2"))) static uint32_t
crc_by_instruction(uint32_t state, const uint8_t *data, size_t length)
{
    for (; length >= 3 * LONG_LANE; data += 3 * LONG_LANE, length -= 3 * LONG_LANE)
        state = crc_three_lanes(state, data, &long_lane);
    for (; length >= 3 * SHORT_LANE; data += 3 * SHORT_LANE, length -= 3 * SHORT_LANE)
        state = crc_three_lanes(state, data, &short_lane);

    uint64_t wide = state;
    for (; length >= 8; data += 8, length -= 8)
        wide = _mm_crc32_u64(wide, hf_get_u64(data));
    state = (uint32_t)wide;
    for (; length > 0; data++, length--)
        state = _mm_crc32_u8(state, *data);
    return state;
}

__attribute__((target("sse4.2"))) static uint32_t
crc_three_lanes(uint32_t state, const uint8_t *data, const struct shift *lane)
{
    uint64_t first = state, second = 0, third = 0;
    const uint8_t *end = data + lane->length;
    size_t step = lane->length;
    for (; data < end; data += 8) {
        first = _mm_crc32_u64(first, hf_get_u64(data));
        second = _mm_crc32_u64(second, hf_get_u64(data + step));
        third = _mm_crc32_u64(third, hf_get_u64(data + 2 * step));
    }
    state = apply_shift(lane, (uint32_t)first) ^ (uint32_t)second;
    return apply_shift(lane, state) ^ (uint32_t)third;
}
#endif

/* Before main(), so that no call has to ask whether the tables are there. */
__attribute__((constructor)) static void
fill_tables(void)
{
    powers[0] = ONE >> 8; // x^8
    for (size_t k = 1; k < HF_LENGTH(powers); k++)
        powers[k] = multiply(powers[k - 1], powers[k - 1]);

    for (uint32_t byte = 0; byte < 256; byte++)
        for (size_t i = 0; i < HF_LENGTH(slices); i++)
            slices[i][byte] = multiply(power_of_length(i + 1), byte);

    fill_shift(&long_lane);
    fill_shift(&short_lane);
    for (size_t i = 0; i < HF_LENGTH(usual); i++)
        fill_shift(&usual[i]);

    running_crc = crc_by_tables;
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("sse4.2"))
        running_crc = crc_by_instruction;
#endif
}
