#include "server/evidence/sign.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/id.h"
#include "base/secret.h"

#define SIGNER_MAGIC    UINT64_C(0x5e1f5167e4e45167)
#define FILE_HEAD       "holdfast-signing-key/v1"
#define MOST_FILE_BYTES 512 // the longest possible file has 249
#define ED25519         0x01
#define KEY_TEXT_BYTES  (1 + HF_PUBLIC_KEY_BYTES) // what the base64 holds
#define BASE64_BYTES    sodium_base64_ENCODED_LEN(KEY_TEXT_BYTES, sodium_base64_VARIANT_ORIGINAL) // with the 0

_Static_assert(HF_SIGNATURE_BYTES == crypto_sign_BYTES, "RFC 8032");
_Static_assert(HF_PUBLIC_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "RFC 8032");

struct hf_signer {
    uint64_t magic;          // travels through a void *
    struct hf_secret secret; // libsodium's form: seed, then public key
    struct hf_public_key key;
};

static bool check_name(const char *name, enum hf_error_kind kind, struct hf_error *err);
static bool write_secret_file(const char *path, const struct hf_public_key *key, const struct hf_secret *seed,
                              struct hf_error *err);
static bool parse_secret_file(const char *path, const struct hf_secret *text, struct hf_signer *signer,
                              struct hf_error *err);
static bool take_line(const char **at, const char *end, const char *label, char *value, size_t size);
static void compute_id(struct hf_public_key *key);

bool
hf_signer_create(const char *path, const char *name, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret seed = {0}, secret = {0};
    struct hf_public_key key = {0};

    if (!check_name(name, HF_ERR_USAGE, err))
        return false;
    if (!hf_secret_random(&seed, crypto_sign_SEEDBYTES, err) ||
        !hf_secret_init(&secret, crypto_sign_SECRETKEYBYTES, err))
        return false;

    strcpy(key.name, name);
    crypto_sign_seed_keypair(key.bytes, secret.bytes, seed.bytes);
    compute_id(&key);
    return write_secret_file(path, &key, &seed, err);
}

bool
hf_signer_open(const char *path, struct hf_signer **ret, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret text = {0};
    struct hf_error why = {0};

    if (!hf_secret_read_file(&text, path, MOST_FILE_BYTES, false, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND)
            (void)hf_fail_hint(&why,
                               "The signing key is made once, when the appliance is set up. Put the file back from "
                               "your copy of the state folder; a new key would be unknown to those who hold the "
                               "public one.");
        if (err != NULL)
            *err = why;
        return hf_fail_within(err, "could not open the signing key");
    }

    _cleanup_(hf_signer_closep) struct hf_signer *signer = calloc(1, sizeof *signer);
    if (signer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the signing key");
    signer->magic = SIGNER_MAGIC;
    if (!parse_secret_file(path, &text, signer, err))
        return false;

    *ret = HF_TAKE(signer);
    return true;
}

void
hf_signer_close(struct hf_signer *signer)
{
    if (signer == NULL)
        return;
    hf_secret_done(&signer->secret);
    signer->magic = 0;
    free(signer);
}

void
hf_signer_closep(struct hf_signer **signer)
{
    hf_signer_close(*signer);
}

const struct hf_public_key *
hf_signer_public_key(const struct hf_signer *signer)
{
    return &signer->key;
}

bool
hf_signer_sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
               struct hf_error *err)
{
    struct hf_signer *signer = context;
    assert(signer != NULL && signer->magic == SIGNER_MAGIC);

    uint8_t made[HF_SIGNATURE_BYTES];
    crypto_sign_detached(made, NULL, bytes, length, signer->secret.bytes);
    if (!hf_public_key_check(&signer->key, bytes, length, made))
        return hf_fail(err, HF_ERR_CORRUPT, "a signature by key \"%s\" does not hold: this machine computes wrongly",
                       signer->key.name);
    memcpy(signature, made, sizeof made);
    return true;
}

bool
hf_public_key_check(const struct hf_public_key *key, const void *bytes, size_t length,
                    const uint8_t signature[static HF_SIGNATURE_BYTES])
{
    return crypto_sign_verify_detached(signature, bytes, length, key->bytes) == 0;
}

const char *
hf_public_key_format(const struct hf_public_key *key, char text[static HF_PUBLIC_KEY_TEXT_BYTES])
{
    uint8_t typed[KEY_TEXT_BYTES] = {ED25519};
    char base64[BASE64_BYTES], id[HF_KEY_ID_TEXT_BYTES];

    memcpy(typed + 1, key->bytes, sizeof key->bytes);
    sodium_bin2base64(base64, sizeof base64, typed, sizeof typed, sodium_base64_VARIANT_ORIGINAL);
    snprintf(text, HF_PUBLIC_KEY_TEXT_BYTES, "%s+%s+%s", key->name, hf_key_id_format(key->id, id), base64);
    return text;
}

const char *
hf_key_id_format(const uint8_t id[static HF_KEY_ID_BYTES], char text[static HF_KEY_ID_TEXT_BYTES])
{
    hf_hex_format(id, HF_KEY_ID_BYTES, text);
    return text;
}

bool
hf_public_key_make(const char *name, const uint8_t bytes[static HF_PUBLIC_KEY_BYTES], struct hf_public_key *ret)
{
    struct hf_public_key key;
    struct hf_error ignored;
    if (!check_name(name, HF_ERR_USAGE, &ignored))
        return false;
    snprintf(key.name, sizeof key.name, "%s", name);
    memcpy(key.bytes, bytes, sizeof key.bytes);
    compute_id(&key);
    *ret = key;
    return true;
}

bool
hf_public_key_parse(const char *text, struct hf_public_key *ret, struct hf_error *err)
{
    struct hf_public_key key = {0};
    uint8_t typed[KEY_TEXT_BYTES];
    char again[HF_PUBLIC_KEY_TEXT_BYTES];
    size_t length = 0;

    const char *first_plus = strchr(text, '+');
    const char *second_plus = first_plus != NULL ? strchr(first_plus + 1, '+') : NULL;
    if (second_plus == NULL || (size_t)(first_plus - text) >= sizeof key.name)
        return hf_fail(err, HF_ERR_USAGE, "a public key reads name+id+base64, this one does not");
    memcpy(key.name, text, (size_t)(first_plus - text));
    if (!check_name(key.name, HF_ERR_USAGE, err))
        return false;

    if (sodium_base642bin(typed, sizeof typed, second_plus + 1, strlen(second_plus + 1), NULL, &length, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        length != sizeof typed)
        return hf_fail(err, HF_ERR_USAGE, "public key \"%s\" is not base64 of %d bytes", key.name, KEY_TEXT_BYTES);
    if (typed[0] != ED25519)
        return hf_fail(err, HF_ERR_USAGE, "public key \"%s\" is of type %u, only Ed25519 (1) is known", key.name,
                       typed[0]);
    memcpy(key.bytes, typed + 1, sizeof key.bytes);
    compute_id(&key);

    // One text for one key: this catches a wrong id, upper-case hex and base64 written another way.
    if (strcmp(hf_public_key_format(&key, again), text) != 0)
        return hf_fail(err, HF_ERR_USAGE, "public key \"%s\" does not fit its id: it was altered", key.name);
    *ret = key;
    return true;
}

bool
hf_public_key_read_file(const char *path, struct hf_public_key *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_PUBLIC_KEY_TEXT_BYTES);

    if (!hf_file_read(path, &text, err))
        return hf_fail_within(err, "could not read a public key");
    if (text.length == 0 || memchr(text.data, '\n', text.length) != text.data + text.length - 1 ||
        memchr(text.data, 0, text.length) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "public key file \"%s\" is not one line and its newline", path);

    text.data[text.length - 1] = 0;
    if (!hf_public_key_parse(hf_buf_text(&text), ret, err)) {
        if (err != NULL)
            err->kind = HF_ERR_CORRUPT;
        return hf_fail_within(err, "\"%s\"", path);
    }
    return true;
}

bool
hf_public_key_write_file(const struct hf_public_key *key, const char *path, struct hf_error *err)
{
    char text[HF_PUBLIC_KEY_TEXT_BYTES], line[HF_PUBLIC_KEY_TEXT_BYTES + 1];

    int length = snprintf(line, sizeof line, "%s\n", hf_public_key_format(key, text));
    return hf_file_publish(path, line, (size_t)length, 0644, HF_PUBLISH_REPLACE, err);
}

static bool
check_name(const char *name, enum hf_error_kind kind, struct hf_error *err)
{
    size_t length = strlen(name);
    bool fine = length > 0 && length < HF_KEY_NAME_BYTES;

    for (size_t i = 0; fine && i < length; i++)
        fine = name[i] > 0x20 && name[i] < 0x7f && name[i] != '+';
    if (!fine)
        return hf_fail(err, kind, "a key's name has 1 to %d visible ASCII characters and no \"+\", this one does not",
                       HF_KEY_NAME_BYTES - 1);
    return true;
}

static bool
write_secret_file(const char *path, const struct hf_public_key *key, const struct hf_secret *seed, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT_SECRET(MOST_FILE_BYTES);
    _cleanup_(hf_secret_done) struct hf_secret hex = {0};
    char id[HF_KEY_ID_TEXT_BYTES];

    if (!hf_secret_init(&hex, 2 * seed->length + 1, err))
        return false;
    hf_hex_format(seed->bytes, seed->length, (char *)hex.bytes);
    if (!hf_buf_reserve(&text, MOST_FILE_BYTES, err) ||
        !hf_buf_printf(&text, err, FILE_HEAD "\nname %s\nkey_id %s\nseed ", key->name, hf_key_id_format(key->id, id)) ||
        !hf_buf_add(&text, hex.bytes, 2 * seed->length, err) || !hf_buf_add_text(&text, "\n", err))
        return false;
    if (!hf_file_publish(path, text.data, text.length, 0600, HF_PUBLISH_EXCLUSIVE, err))
        return hf_fail_within(err, "could not keep the new signing key");
    return true;
}

static bool
parse_secret_file(const char *path, const struct hf_secret *text, struct hf_signer *signer, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret seed = {0}, hex = {0};
    const char *at = text->length > 0 ? (const char *)text->bytes : "", *end = at + text->length;
    char head[sizeof FILE_HEAD], id[HF_KEY_ID_TEXT_BYTES], expected[HF_KEY_ID_TEXT_BYTES];

    if (!hf_secret_init(&seed, crypto_sign_SEEDBYTES, err) ||
        !hf_secret_init(&hex, 2 * crypto_sign_SEEDBYTES + 1, err) ||
        !hf_secret_init(&signer->secret, crypto_sign_SECRETKEYBYTES, err))
        return false;

    if (!take_line(&at, end, "", head, sizeof head) || strcmp(head, FILE_HEAD) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is not a signing key: its first line is not \"" FILE_HEAD "\"",
                       path);
    if (!take_line(&at, end, "name ", signer->key.name, sizeof signer->key.name) ||
        !take_line(&at, end, "key_id ", id, sizeof id) ||
        !take_line(&at, end, "seed ", (char *)hex.bytes, hex.length) || at != end ||
        !hf_hex_parse((const char *)hex.bytes, seed.bytes, seed.length, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "signing key \"%s\" is damaged: it needs the lines name, key_id and seed",
                       path);
    if (!check_name(signer->key.name, HF_ERR_CORRUPT, err))
        return hf_fail_within(err, "signing key \"%s\"", path);

    crypto_sign_seed_keypair(signer->key.bytes, signer->secret.bytes, seed.bytes);
    compute_id(&signer->key);
    if (strcmp(id, hf_key_id_format(signer->key.id, expected)) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "signing key \"%s\" is damaged: its seed belongs to key id %s, not %s",
                       path, expected, id);
    return true;
}

/* The rest of a line that begins with the label, into value; false when it begins otherwise, is too long or unended. */
static bool
take_line(const char **at, const char *end, const char *label, char *value, size_t size)
{
    size_t skip = strlen(label);
    const char *newline = *at == end ? NULL : memchr(*at, '\n', (size_t)(end - *at));

    if (newline == NULL || (size_t)(newline - *at) < skip || memcmp(*at, label, skip) != 0)
        return false;
    size_t length = (size_t)(newline - *at) - skip;
    if (length >= size || memchr(*at + skip, 0, length) != NULL)
        return false;
    memcpy(value, *at + skip, length);
    value[length] = 0;
    *at = newline + 1;
    return true;
}

static void
compute_id(struct hf_public_key *key)
{
    uint8_t named[HF_KEY_NAME_BYTES + 2 + HF_PUBLIC_KEY_BYTES], digest[HF_SHA256_BYTES];
    size_t length = strlen(key->name);

    memcpy(named, key->name, length);
    named[length++] = '\n';
    named[length++] = ED25519;
    memcpy(named + length, key->bytes, sizeof key->bytes);
    hf_sha256(named, length + sizeof key->bytes, digest);
    memcpy(key->id, digest, sizeof key->id);
}
