/*
 * A log entry that is accepted says what its bytes say: place, canonical JSON, hash, and no byte besides.  Each input
 * is put in the place it is read for and signed first, or no changed input would get past the signature.
 */
#include <assert.h>
#include <sodium.h>
#include <string.h>

#include "server/repository/log_entry.h"
#include "tests/fuzz/fuzz.h"

#define KEY_BYTE 5 // the corpus' sealed parts were sealed with a key of these

#define AT_REPOSITORY 32
#define AT_VAULT      48
#define AT_SIGNER     120
#define AT_PUBLIC     152

static void check_entry(const struct hf_log_entry *entry, const struct hf_log_position *before, const uint8_t *bytes,
                        size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hf_secret record_key; // for the whole run: guarded memory is slow to make
    static uint8_t public_key[HF_PUBLIC_BYTES], secret_key[64], seed[32];
    struct hf_error err;
    if (record_key.bytes == NULL) {
        bool made = hf_secret_init(&record_key, HF_KEY_BYTES, &err);
        assert(made);
        memset(record_key.bytes, KEY_BYTE, record_key.length);
        crypto_sign_seed_keypair(public_key, secret_key, seed);
    }

    struct hf_vault_log_options options = {.record_key = &record_key};
    struct hf_log_position before = {.sequence = 6};
    uint8_t *bytes = malloc(size + 1);
    assert(bytes != NULL);
    if (size > 0)
        memcpy(bytes, data, size);
    if (size >= HF_LOG_HEADER + HF_SIGNATURE_BYTES) {
        memcpy(options.repository.bytes, bytes + AT_REPOSITORY, HF_ID_BYTES);
        memcpy(options.vault.bytes, bytes + AT_VAULT, HF_ID_BYTES);
        memcpy(bytes + AT_SIGNER, public_key, HF_PUBLIC_BYTES);
        crypto_sign_detached(bytes + size - HF_SIGNATURE_BYTES, NULL, bytes, size - HF_SIGNATURE_BYTES, secret_key);
    }

    struct hf_log_entry entry = {0};
    if (hf_log_entry_open(&options, &before, bytes, size, &entry, &err))
        check_entry(&entry, &before, bytes, size);
    else
        assert(err.kind == HF_ERR_CORRUPT && entry.public_part == NULL && entry.sealed_part == NULL);
    hf_log_entry_done(&entry);
    free(bytes);
    return 0;
}

static void
check_entry(const struct hf_log_entry *entry, const struct hf_log_position *before, const uint8_t *bytes, size_t size)
{
    uint8_t hash[HF_SHA256_BYTES];
    hf_sha256(bytes, size, hash);
    assert(memcmp(entry->hash, hash, sizeof hash) == 0);
    assert(entry->sequence == before->sequence + 1);
    assert(strchr(hf_log_kind_name(entry->kind), ' ') == NULL);

    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    struct hf_error err;
    size_t public_length = hf_get_u32(bytes + AT_PUBLIC), sealed_length = hf_get_u32(bytes + AT_PUBLIC + 4);
    bool written = hf_json_canonical(entry->public_part, &again, &err);
    assert(written && again.length == public_length);
    assert(memcmp(again.data, bytes + HF_LOG_HEADER, public_length) == 0);
    assert(json_is_object(entry->public_part));
    assert((entry->sealed_part != NULL) == (sealed_length > 0));
    assert(HF_LOG_HEADER + public_length + sealed_length + HF_SIGNATURE_BYTES == size);
}
