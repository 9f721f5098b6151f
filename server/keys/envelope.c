#include "server/keys/envelope.h"

#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "server/keys/derive.h"

#define MAGIC      "HFSEAL01"
#define VERSION    1
#define PLAIN_MOST HF_LOG_ENTRY_MOST

#define AT_KIND       8
#define AT_VERSION    10
#define AT_GENERATION 12
#define AT_REPOSITORY 16
#define AT_OBJECT     32
#define AT_COMMITMENT 48
#define AT_NONCE      80
#define AT_LENGTH     104

#define DERIVED_FROM 8
#define DERIVED_UPTO 48

_Static_assert(AT_LENGTH + 8 == HF_ENVELOPE_HEADER, "the header's fields fill it");
_Static_assert(AT_LENGTH - AT_NONCE == crypto_aead_xchacha20poly1305_ietf_NPUBBYTES, "the nonce fits its field");
_Static_assert(HF_AEAD_TAG_BYTES == crypto_aead_xchacha20poly1305_ietf_ABYTES, "the tag fits its field");

static bool check_header(const struct hf_envelope *expected, const uint8_t *sealed, size_t length, const char *what,
                         struct hf_error *err);
static bool derive_seal_key(const struct hf_secret *key, const uint8_t header[static HF_ENVELOPE_HEADER],
                            struct hf_secret *ret, uint8_t commitment[static HF_KEY_BYTES], struct hf_error *err);
static bool join_associated(const struct hf_envelope *envelope, const uint8_t header[static HF_ENVELOPE_HEADER],
                            struct hf_buf *ret, struct hf_error *err);

bool
hf_envelope_seal(const struct hf_envelope *envelope, const struct hf_secret *key, const void *plain, size_t length,
                 struct hf_buf *out, struct hf_error *err)
{
    if (length > PLAIN_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "%zu bytes are more than the %zu that can be sealed at once", length,
                       PLAIN_MOST);

    uint8_t header[HF_ENVELOPE_HEADER] = MAGIC;
    hf_put_u16(header + AT_KIND, (uint16_t)envelope->kind);
    hf_put_u16(header + AT_VERSION, VERSION);
    hf_put_u32(header + AT_GENERATION, envelope->generation);
    memcpy(header + AT_REPOSITORY, envelope->repository.bytes, HF_ID_BYTES);
    memcpy(header + AT_OBJECT, envelope->object.bytes, HF_ID_BYTES);
    randombytes_buf(header + AT_NONCE, AT_LENGTH - AT_NONCE);
    hf_put_u64(header + AT_LENGTH, length);

    _cleanup_(hf_secret_done) struct hf_secret seal_key = {0};
    _cleanup_(hf_buf_done) struct hf_buf associated = HF_BUF_INIT(HF_ENVELOPE_HEADER + envelope->context_length);
    if (!derive_seal_key(key, header, &seal_key, header + AT_COMMITMENT, err) ||
        !join_associated(envelope, header, &associated, err) || !hf_buf_reserve(out, HF_ENVELOPE_EXTRA + length, err))
        return false;

    uint8_t *at = out->data + out->length;
    memcpy(at, header, sizeof header);
    crypto_aead_xchacha20poly1305_ietf_encrypt(at + HF_ENVELOPE_HEADER, NULL, plain, length, associated.data,
                                               associated.length, NULL, header + AT_NONCE, seal_key.bytes);
    out->length += HF_ENVELOPE_EXTRA + length;
    out->data[out->length] = 0;
    return true;
}

bool
hf_envelope_open(const struct hf_envelope *expected, const struct hf_secret *key, const void *sealed, size_t length,
                 const char *what, struct hf_buf *plain, struct hf_error *err)
{
    if (!check_header(expected, sealed, length, what, err))
        return false;

    // Opened as if the commitment were right, also where it is not: so that one flipped bit in it does not
    // pass for a wrong key.
    uint8_t header[HF_ENVELOPE_HEADER];
    memcpy(header, sealed, sizeof header);
    _cleanup_(hf_secret_done) struct hf_secret seal_key = {0};
    _cleanup_(hf_buf_done) struct hf_buf associated = HF_BUF_INIT(HF_ENVELOPE_HEADER + expected->context_length);
    if (!derive_seal_key(key, header, &seal_key, header + AT_COMMITMENT, err) ||
        !join_associated(expected, header, &associated, err) || !hf_buf_reserve(plain, length - HF_ENVELOPE_EXTRA, err))
        return false;

    bool committed = sodium_memcmp(header, sealed, sizeof header) == 0;
    uint8_t *at = plain->data + plain->length;
    bool opened = crypto_aead_xchacha20poly1305_ietf_decrypt(
                      at, NULL, NULL, (const uint8_t *)sealed + HF_ENVELOPE_HEADER, length - HF_ENVELOPE_HEADER,
                      associated.data, associated.length, header + AT_NONCE, seal_key.bytes) == 0;
    if (opened && committed) {
        plain->length += length - HF_ENVELOPE_EXTRA;
        plain->data[plain->length] = 0;
        return true;
    }
    if (opened)
        sodium_memzero(at, length - HF_ENVELOPE_EXTRA);
    if (!opened && !committed)
        return hf_fail(err, HF_ERR_DENIED, "%s was sealed with another key", what);
    return hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: its seal is broken", what);
}

static bool
check_header(const struct hf_envelope *expected, const uint8_t *sealed, size_t length, const char *what,
             struct hf_error *err)
{
    if (length < HF_ENVELOPE_EXTRA)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is cut off after %zu bytes", what, length);
    if (memcmp(sealed, MAGIC, AT_KIND) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is not a sealed object", what);
    if (hf_get_u16(sealed + AT_VERSION) != VERSION)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has version %u, which this program does not know", what,
                       hf_get_u16(sealed + AT_VERSION));
    if (hf_get_u16(sealed + AT_KIND) != expected->kind)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is a sealed object of another kind", what);
    if (memcmp(sealed + AT_REPOSITORY, expected->repository.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s belongs to another repository", what);
    if (memcmp(sealed + AT_OBJECT, expected->object.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s belongs to another vault", what);
    if (hf_get_u32(sealed + AT_GENERATION) != expected->generation)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is of generation %u, where %u belongs", what,
                       hf_get_u32(sealed + AT_GENERATION), expected->generation);
    if (hf_get_u64(sealed + AT_LENGTH) != length - HF_ENVELOPE_EXTRA)
        return hf_fail(err, HF_ERR_CORRUPT, "%s has %zu bytes, which is not what it says", what, length);
    return true;
}

/* Bound to kind, version, generation and both ids: none of them can be exchanged under one key. */
static bool
derive_seal_key(const struct hf_secret *key, const uint8_t header[static HF_ENVELOPE_HEADER], struct hf_secret *ret,
                uint8_t commitment[static HF_KEY_BYTES], struct hf_error *err)
{
    assert(key->length == HF_KEY_BYTES);
    if (!hf_secret_init(ret, HF_KEY_BYTES, err))
        return false;
    hf_derive(key->bytes, "holdfast seal", header + DERIVED_FROM, DERIVED_UPTO - DERIVED_FROM, ret->bytes);
    hf_derive(ret->bytes, "holdfast commit", NULL, 0, commitment);
    return true;
}

static bool
join_associated(const struct hf_envelope *envelope, const uint8_t header[static HF_ENVELOPE_HEADER], struct hf_buf *ret,
                struct hf_error *err)
{
    return hf_buf_add(ret, header, HF_ENVELOPE_HEADER, err) &&
           hf_buf_add(ret, envelope->context, envelope->context_length, err);
}
