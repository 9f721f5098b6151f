/*
 * Any bytes can be sealed and come back; any bytes taken for an envelope open to what seals again to as many
 * bytes, or leave nothing behind.
 */
#include <assert.h>
#include <string.h>

#include "server/keys/envelope.h"
#include "tests/fuzz/fuzz.h"

#define KEY_BYTE 5 // the corpus was sealed with a key of these

static void open_input(const struct hf_secret *key, const uint8_t *data, size_t size);
static void seal_input(const struct hf_secret *key, const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hf_secret key; // for the whole run: guarded memory is slow to make
    struct hf_error err;
    if (key.bytes == NULL) {
        bool made = hf_secret_init(&key, HF_KEY_BYTES, &err);
        assert(made);
        memset(key.bytes, KEY_BYTE, key.length);
    }
    open_input(&key, data, size);
    seal_input(&key, data, size);
    return 0;
}

/* What is expected is what the bytes themselves claim: their ids are no secret. */
static void
open_input(const struct hf_secret *key, const uint8_t *data, size_t size)
{
    struct hf_envelope expected = {.kind = HF_ENVELOPE_LOG_RECORD};
    if (size >= HF_ENVELOPE_HEADER) {
        expected.kind = (enum hf_envelope_kind)hf_get_u16(data + 8);
        expected.generation = hf_get_u32(data + 12);
        memcpy(expected.repository.bytes, data + 16, HF_ID_BYTES);
        memcpy(expected.object.bytes, data + 32, HF_ID_BYTES);
    }
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_LOG_ENTRY_MOST), again = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    struct hf_error err;
    if (!hf_envelope_open(&expected, key, data, size, "input", &plain, &err)) {
        assert(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_DENIED);
        assert(plain.length == 0);
        return;
    }
    bool sealed = hf_envelope_seal(&expected, key, plain.data, plain.length, &again, &err);
    assert(sealed && again.length == size && memcmp(again.data, data, 80) == 0);
}

static void
seal_input(const struct hf_secret *key, const uint8_t *data, size_t size)
{
    const struct hf_envelope envelope = {
        .kind = HF_ENVELOPE_TAG_CACHE, .context = data, .context_length = size < 40 ? size : 40};
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(HF_LOG_ENTRY_MOST),
                                         plain = HF_BUF_INIT(HF_LOG_ENTRY_MOST);
    struct hf_error err;
    bool done = hf_envelope_seal(&envelope, key, data, size, &sealed, &err) &&
                hf_envelope_open(&envelope, key, sealed.data, sealed.length, "input", &plain, &err);
    assert(done && plain.length == size && (size == 0 || memcmp(plain.data, data, size) == 0));

    sealed.data[hf_get_u64(sealed.data + 80) % sealed.length] ^= 1; // the nonce chooses which
    assert(!hf_envelope_open(&envelope, key, sealed.data, sealed.length, "input", &plain, &err));
    assert(err.kind == HF_ERR_CORRUPT && plain.length == size);
}
