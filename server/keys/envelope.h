/*
 * envelope.h - small secrets at rest: one sealed shape for bundles and records
 *
 * offset  bytes  meaning
 *      0      8  magic "HFSEAL01"
 *      8      2  kind: 1 root bundle, 2 vault bundle, 3 log record, 4 tag cache header,
 *                5 signing key in a recovery kit (server/job/sealed_signer.h)
 *     10      2  version: 1
 *     12      4  generation (0 where there is none)
 *     16     16  repository id
 *     32     16  object id: the vault id, or the repository id for the root bundle
 *     48     32  key commitment: H(seal key; "holdfast commit")
 *     80     24  nonce, random
 *    104      8  length of the plaintext
 *    112      n  ciphertext, then 16 bytes of tag
 *
 * Cipher: XChaCha20-Poly1305 (IETF).  Seal key = H(wrapping key; "holdfast seal" || bytes 8..47).
 * Associated data: bytes 0..111 || the caller's context bytes (for a log record: the entry's header).
 * The commitment tells a wrong key (DENIED) from damaged bytes (CORRUPT).
 */
#pragma once
#include "base/secret.h"
#include "server/storage/format.h"

#define HF_ENVELOPE_HEADER 112
#define HF_ENVELOPE_EXTRA  (HF_ENVELOPE_HEADER + HF_AEAD_TAG_BYTES)

enum hf_envelope_kind {
    HF_ENVELOPE_ROOT_BUNDLE = 1,
    HF_ENVELOPE_VAULT_BUNDLE = 2,
    HF_ENVELOPE_LOG_RECORD = 3,
    HF_ENVELOPE_TAG_CACHE = 4,
    HF_ENVELOPE_SIGNING_KEY = 5,
};

struct hf_envelope {
    enum hf_envelope_kind kind;
    uint32_t generation;
    struct hf_id repository, object;
    const void *context; // borrowed from the caller; may be NULL
    size_t context_length;
};

/* Adds the sealed bytes to `out`. */
HF_MUST_CHECK bool hf_envelope_seal(const struct hf_envelope *envelope, const struct hf_secret *key, const void *plain,
                                    size_t length, struct hf_buf *out, struct hf_error *err);
/*
 * Opens into `plain` (born secret by the caller where it holds keys).  Kind, ids and generation must
 * be the expected ones.  DENIED: made with another key.  CORRUPT: damaged, swapped or truncated;
 * `what` names it in the message.
 */
HF_MUST_CHECK bool hf_envelope_open(const struct hf_envelope *expected, const struct hf_secret *key, const void *sealed,
                                    size_t length, const char *what, struct hf_buf *plain, struct hf_error *err);
