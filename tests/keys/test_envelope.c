#include "tests/support/test.h"

#include <sodium.h>

#include "server/keys/envelope.h"

static const char context[] = "the entry's header";
static const char secret[] = "mrn 000123";

static struct hf_envelope
an_envelope(void)
{
    return (struct hf_envelope){.kind = HF_ENVELOPE_LOG_RECORD,
                                .generation = 7,
                                .repository = {{1}},
                                .object = {{2}},
                                .context = context,
                                .context_length = sizeof context};
}

/* 32 bytes of this value. */
static struct hf_secret
a_key(uint8_t value)
{
    struct hf_secret key;
    struct hf_error err;
    hf_assert_ok(hf_secret_init(&key, HF_KEY_BYTES, &err), &err);
    memset(key.bytes, value, key.length);
    return key;
}

static void
seal(const struct hf_envelope *envelope, const struct hf_secret *key, struct hf_buf *out)
{
    struct hf_error err;
    hf_assert_ok(hf_envelope_seal(envelope, key, secret, sizeof secret, out, &err), &err);
}

/* Must fail, as this kind, and add nothing. */
static void
assert_refused(const struct hf_envelope *expected, const struct hf_secret *key, const uint8_t *sealed, size_t length,
               enum hf_error_kind kind, const char *message)
{
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(1000);
    struct hf_error err;
    assert_false(hf_envelope_open(expected, key, sealed, length, "the record", &plain, &err));
    assert_int_equal(err.kind, kind);
    assert_int_equal(plain.length, 0);
    if (message != NULL)
        assert_string_equal(err.message, message);
    assert_int_equal(strncmp(err.message, "the record ", 11), 0);
}

HF_TEST(what_was_sealed_opens_again)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000), plain = HF_BUF_INIT_SECRET(1000);
    struct hf_error err;
    hf_assert_ok(hf_buf_add_text(&sealed, "before", &err), &err);
    seal(&envelope, &key, &sealed);
    assert_int_equal(sealed.length, 6 + HF_ENVELOPE_EXTRA + sizeof secret);
    assert_memory_equal(sealed.data + 6, "HFSEAL01\x03\x00\x01\x00\x07\x00\x00\x00\x01", 17);
    assert_null(memmem(sealed.data, sealed.length, secret, sizeof secret - 1));

    hf_assert_ok(hf_buf_add_text(&plain, "kept ", &err), &err);
    hf_assert_ok(hf_envelope_open(&envelope, &key, sealed.data + 6, sealed.length - 6, "x", &plain, &err), &err);
    assert_string_equal(hf_buf_text(&plain), "kept mrn 000123");
}

HF_TEST(an_envelope_is_byte_for_byte_what_the_header_says)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000);
    seal(&envelope, &key, &sealed);
    uint8_t labelled[53] = "holdfast seal", seal_key[32], commitment[32], associated[112 + sizeof context];
    memcpy(labelled + 13, sealed.data + 8, 40);
    crypto_generichash(seal_key, 32, labelled, sizeof labelled, key.bytes, 32);
    crypto_generichash(commitment, 32, (const uint8_t *)"holdfast commit", 15, seal_key, 32);
    assert_memory_equal(sealed.data + 48, commitment, 32);
    assert_int_equal(hf_get_u64(sealed.data + 104), sizeof secret);

    char plain[sizeof secret];
    memcpy(associated, sealed.data, 112);
    memcpy(associated + 112, context, sizeof context);
    assert_int_equal(crypto_aead_xchacha20poly1305_ietf_decrypt((uint8_t *)plain, NULL, NULL, sealed.data + 112,
                                                                sizeof secret + 16, associated, sizeof associated,
                                                                sealed.data + 80, seal_key),
                     0);
    assert_string_equal(plain, secret);
}

HF_TEST(nothing_can_be_sealed_and_opened_as_well)
{
    const struct hf_envelope envelope = {.kind = HF_ENVELOPE_TAG_CACHE};
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(HF_ENVELOPE_EXTRA), plain = HF_BUF_INIT(0);
    struct hf_error err;
    hf_assert_ok(hf_envelope_seal(&envelope, &key, NULL, 0, &sealed, &err), &err);
    hf_assert_ok(hf_envelope_open(&envelope, &key, sealed.data, sealed.length, "x", &plain, &err), &err);
    assert_int_equal(plain.length, 0);
}

HF_TEST(sealing_the_same_twice_gives_different_bytes)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(1000), b = HF_BUF_INIT(1000);
    seal(&envelope, &key, &a);
    seal(&envelope, &key, &b);
    assert_memory_not_equal(a.data + 80, b.data + 80, 24); // the nonce
    assert_memory_not_equal(a.data + 112, b.data + 112, sizeof secret);
    assert_memory_equal(a.data + 48, b.data + 48, 32); // the commitment is the key's
}

HF_TEST(every_flipped_bit_is_damage_and_never_a_wrong_key)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000);
    seal(&envelope, &key, &sealed);
    for (size_t bit = 0; bit < 8 * sealed.length; bit++) {
        sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT, NULL);
        sealed.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

HF_TEST(cut_off_or_longer_is_damage)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000);
    struct hf_error err;
    seal(&envelope, &key, &sealed);
    size_t length = sealed.length;
    for (size_t cut = 0; cut < length; cut++)
        assert_refused(&envelope, &key, sealed.data, cut, HF_ERR_CORRUPT, NULL);
    hf_assert_ok(hf_buf_put_u8(&sealed, 0, &err), &err);
    assert_refused(&envelope, &key, sealed.data, length + 1, HF_ERR_CORRUPT,
                   "the record has 140 bytes, which is not what it says");
}

HF_TEST(another_key_is_denied)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1), other = a_key(2);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000);
    seal(&envelope, &key, &sealed);
    assert_refused(&envelope, &other, sealed.data, sealed.length, HF_ERR_DENIED,
                   "the record was sealed with another key");
}

HF_TEST(what_belongs_elsewhere_is_refused_by_what_differs)
{
    struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000);
    seal(&envelope, &key, &sealed);

    envelope.kind = HF_ENVELOPE_VAULT_BUNDLE;
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record is a sealed object of another kind");
    envelope = an_envelope();
    envelope.generation = 8;
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record is of generation 7, where 8 belongs");
    envelope = an_envelope();
    envelope.repository.bytes[15] = 1;
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record belongs to another repository");
    envelope = an_envelope();
    envelope.object.bytes[15] = 1;
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT, "the record belongs to another vault");
    envelope = an_envelope();
    envelope.context = "the entry's headeR";
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record is damaged: its seal is broken");
    envelope.context_length = 0;
    assert_refused(&envelope, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record is damaged: its seal is broken");
}

HF_TEST(a_header_written_over_does_not_move_a_seal_to_another_place)
{
    /* An attacker who can write makes the header say what the reader expects. */
    struct hf_envelope envelope = an_envelope(), other = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(1000), genuine = HF_BUF_INIT(1000);
    other.object.bytes[0] = 9;
    seal(&envelope, &key, &sealed);
    seal(&other, &key, &genuine);
    memcpy(sealed.data + 8, genuine.data + 8, 72); // with the other's commitment
    assert_refused(&other, &key, sealed.data, sealed.length, HF_ERR_CORRUPT,
                   "the record is damaged: its seal is broken");
}

HF_TEST(limits_are_named)
{
    const struct hf_envelope envelope = an_envelope();
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    _cleanup_(hf_buf_done) struct hf_buf little = HF_BUF_INIT(HF_ENVELOPE_EXTRA), sealed = HF_BUF_INIT(1000),
                                         plain = HF_BUF_INIT(sizeof secret - 1);
    struct hf_error err;
    assert_false(hf_envelope_seal(&envelope, &key, secret, sizeof secret, &little, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_int_equal(little.length, 0);
    assert_false(hf_envelope_seal(&envelope, &key, secret, HF_LOG_ENTRY_MOST + 1, &little, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    seal(&envelope, &key, &sealed);
    assert_false(hf_envelope_open(&envelope, &key, sealed.data, sealed.length, "x", &plain, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
}
