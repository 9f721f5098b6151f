#include "server/repository/pack.h"

#include <openssl/evp.h>
#include <sodium.h>
#include <string.h>

#include "server/repository/pack_internal.h"

/* Offsets in the header, see pack.h. */
enum {
    AT_VERSION = 8,
    AT_KIND = 10,
    AT_SUITE = 11,
    AT_COMPRESSION = 12,
    AT_HASH = 13,
    AT_REPOSITORY = 16,
    AT_VAULT = 32,
    AT_PACK = 48,
    AT_SESSION = 64,
    AT_KEY_EPOCH = 80,
    AT_CREATED = 88,
    AT_PUBLIC = 96,
    AT_COMMITMENT = 128,
    AT_WRITER_EPOCH = 160,
    AT_RESERVED = 168,
    AT_CRC = 252,
};

#define FORMAT_VERSION   1
#define COMPRESSION_ZSTD 1
#define HASH_SHA256      1
#define DERIVED_FROM     8 // header bytes 8..127 go into the keys
#define DERIVED_UP_TO    128

static bool derive_keys(struct hf_pack_cipher *cipher, const struct hf_vault_keys *keys, struct hf_error *err);
static const struct hf_secret *wrapping_key(const struct hf_pack_identity *identity, const struct hf_vault_keys *keys,
                                            struct hf_error *err);
static void derive(const uint8_t *key, const char *label, const uint8_t *header, uint8_t *ret);
static void commitment(const uint8_t *key, uint8_t ret[static 32]);
static bool header_is_sound(const uint8_t *header, const char *name, struct hf_error *err);

enum hf_suite
hf_suite_best(void)
{
    return crypto_aead_aes256gcm_is_available() ? HF_SUITE_AES256_GCM : HF_SUITE_XCHACHA20;
}

const char *
hf_pack_name(const struct hf_id *vault, const struct hf_id *pack, char name[static HF_PACK_NAME_BYTES])
{
    char vault_text[HF_ID_TEXT_BYTES], pack_text[HF_ID_TEXT_BYTES];
    hf_id_format(vault, vault_text);
    hf_id_format(pack, pack_text);
    snprintf(name, HF_PACK_NAME_BYTES, "vaults/%s/packs/%.2s/%s", vault_text, pack_text, pack_text);
    return name;
}

bool
hf_pack_cipher_new(const struct hf_pack_identity *identity, const struct hf_vault_keys *keys,
                   struct hf_pack_cipher **ret, struct hf_error *err)
{
    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = calloc(1, sizeof *cipher);
    if (cipher == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's keys");
    cipher->identity = *identity;

    uint8_t *header = cipher->header;
    memcpy(header, "HFPACK01", 8);
    hf_put_u16(header + AT_VERSION, FORMAT_VERSION);
    header[AT_KIND] = (uint8_t)identity->kind;
    header[AT_SUITE] = (uint8_t)identity->suite;
    header[AT_COMPRESSION] = COMPRESSION_ZSTD;
    header[AT_HASH] = HASH_SHA256;
    memcpy(header + AT_REPOSITORY, identity->repository.bytes, HF_ID_BYTES);
    memcpy(header + AT_VAULT, identity->vault.bytes, HF_ID_BYTES);
    memcpy(header + AT_PACK, identity->pack.bytes, HF_ID_BYTES);
    memcpy(header + AT_SESSION, identity->session.bytes, HF_ID_BYTES);
    hf_put_u32(header + AT_KEY_EPOCH, identity->key_epoch);
    hf_put_u64(header + AT_CREATED, (uint64_t)identity->created_at);
    hf_put_u64(header + AT_WRITER_EPOCH, identity->writer_epoch);

    if (!derive_keys(cipher, keys, err))
        return false;
    commitment(cipher->secrets.bytes, header + AT_COMMITMENT);
    hf_put_u32(header + AT_CRC, hf_crc32c(0, header, AT_CRC));

    *ret = HF_TAKE(cipher);
    return true;
}

bool
hf_pack_cipher_from_header(const uint8_t header[static HF_PACK_HEADER], const struct hf_vault_keys *keys,
                           const struct hf_id *expected_pack, struct hf_pack_cipher **ret, struct hf_error *err)
{
    char name[HF_ID_TEXT_BYTES];
    hf_id_format(expected_pack, name);
    if (!header_is_sound(header, name, err))
        return false;
    if (memcmp(header + AT_PACK, expected_pack->bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" holds another pack's bytes", name);
    if (memcmp(header + AT_REPOSITORY, keys->repository.bytes, HF_ID_BYTES) != 0 ||
        memcmp(header + AT_VAULT, keys->vault.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" belongs to another vault or repository", name);

    _cleanup_(hf_pack_cipher_freep) struct hf_pack_cipher *cipher = calloc(1, sizeof *cipher);
    if (cipher == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's keys");
    memcpy(cipher->header, header, HF_PACK_HEADER);
    struct hf_pack_identity *identity = &cipher->identity;
    identity->kind = (enum hf_pack_kind)header[AT_KIND];
    identity->suite = (enum hf_suite)header[AT_SUITE];
    memcpy(identity->repository.bytes, header + AT_REPOSITORY, HF_ID_BYTES);
    memcpy(identity->vault.bytes, header + AT_VAULT, HF_ID_BYTES);
    memcpy(identity->pack.bytes, header + AT_PACK, HF_ID_BYTES);
    memcpy(identity->session.bytes, header + AT_SESSION, HF_ID_BYTES);
    identity->key_epoch = hf_get_u32(header + AT_KEY_EPOCH);
    identity->created_at = (int64_t)hf_get_u64(header + AT_CREATED);
    identity->writer_epoch = hf_get_u64(header + AT_WRITER_EPOCH);

    if (!derive_keys(cipher, keys, err))
        return hf_fail_within(err, "pack \"%s\"", name);
    uint8_t expected[32];
    commitment(cipher->secrets.bytes, expected);
    if (sodium_memcmp(expected, header + AT_COMMITMENT, sizeof expected) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" was sealed with another key, or its header was altered", name);

    *ret = HF_TAKE(cipher);
    return true;
}

void
hf_pack_cipher_freep(struct hf_pack_cipher **cipher)
{
    if (*cipher == NULL)
        return;
    hf_secret_done(&(*cipher)->secrets);
    free(*cipher);
    *cipher = NULL;
}

const uint8_t *
hf_pack_cipher_header(const struct hf_pack_cipher *cipher)
{
    return cipher->header;
}

const struct hf_pack_identity *
hf_pack_cipher_identity(const struct hf_pack_cipher *cipher)
{
    return &cipher->identity;
}

static bool
derive_keys(struct hf_pack_cipher *cipher, const struct hf_vault_keys *keys, struct hf_error *err)
{
    const struct hf_secret *wrapping = wrapping_key(&cipher->identity, keys, err);
    if (wrapping == NULL || !hf_secret_init(&cipher->secrets, 2 * HF_KEY_BYTES, err))
        return false;
    derive(wrapping->bytes, "holdfast pack", cipher->header, cipher->secrets.bytes);
    derive(keys->map_key.bytes, "holdfast directory", cipher->header, cipher->secrets.bytes + HF_KEY_BYTES);
    return true;
}

static const struct hf_secret *
wrapping_key(const struct hf_pack_identity *identity, const struct hf_vault_keys *keys, struct hf_error *err)
{
    if (identity->kind == HF_PACK_MAP)
        return &keys->map_key;
    for (size_t i = 0; i < keys->epoch_count; i++)
        if (keys->epochs[i].epoch == identity->key_epoch)
            return &keys->epochs[i].data_secret;
    hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no data key of epoch %u", identity->key_epoch);
    return NULL;
}

static void
derive(const uint8_t *key, const char *label, const uint8_t *header, uint8_t *ret)
{
    crypto_generichash_state state;
    crypto_generichash_init(&state, key, HF_KEY_BYTES, HF_KEY_BYTES);
    crypto_generichash_update(&state, (const uint8_t *)label, strlen(label));
    crypto_generichash_update(&state, header + DERIVED_FROM, DERIVED_UP_TO - DERIVED_FROM);
    crypto_generichash_final(&state, ret, HF_KEY_BYTES);
    sodium_memzero(&state, sizeof state);
}

static void
commitment(const uint8_t *key, uint8_t ret[static 32])
{
    static const char label[] = "holdfast commit";
    crypto_generichash(ret, 32, (const uint8_t *)label, strlen(label), key, HF_KEY_BYTES);
}

/* Everything that can be judged without a key.  Parity and a writer's public share are for later versions. */
static bool
header_is_sound(const uint8_t *header, const char *name, struct hf_error *err)
{
    if (memcmp(header, "HFPACK01", 8) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" does not begin as a pack does", name);
    if (hf_get_u32(header + AT_CRC) != hf_crc32c(0, header, AT_CRC))
        return hf_fail(err, HF_ERR_CORRUPT, "the header of pack \"%s\" fails its checksum", name);
    if (hf_get_u16(header + AT_VERSION) != FORMAT_VERSION)
        return hf_fail(err, HF_ERR_CONFLICT, "pack \"%s\" has format version %u, this program knows 1", name,
                       hf_get_u16(header + AT_VERSION));
    if (header[AT_KIND] < HF_PACK_DATA || header[AT_KIND] > HF_PACK_RECORDS || header[AT_SUITE] < HF_SUITE_AES256_GCM ||
        header[AT_SUITE] > HF_SUITE_XCHACHA20 || header[AT_COMPRESSION] != COMPRESSION_ZSTD ||
        header[AT_HASH] != HASH_SHA256)
        return hf_fail(err, HF_ERR_CONFLICT,
                       "pack \"%s\" uses a kind, cipher or compression this program does not know", name);
    if (!sodium_is_zero(header + 14, 2) || !sodium_is_zero(header + 84, 4) || !sodium_is_zero(header + AT_PUBLIC, 32) ||
        !sodium_is_zero(header + AT_RESERVED, AT_CRC - AT_RESERVED))
        return hf_fail(err, HF_ERR_CONFLICT, "pack \"%s\" uses a feature this program does not know", name);
    return true;
}
