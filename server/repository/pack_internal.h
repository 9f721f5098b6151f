/*
 * pack_internal.h - what the files behind pack.h share
 */
#pragma once
#include "server/repository/pack.h"

struct hf_pack_cipher {
    uint8_t header[HF_PACK_HEADER];
    struct hf_pack_identity identity;
    struct hf_secret secrets; // the pack key, then the directory key
};

/* A slab's stored bytes: header, ciphertext and tag, padded to 8. */
static inline size_t
hf_slab_stored_length(size_t sealed_length)
{
    return (HF_SLAB_HEADER + sealed_length + HF_AEAD_TAG_BYTES + 7) & ~(size_t)7;
}

/* Decodes a directory's plaintext.  CORRUPT names the pack. */
HF_MUST_CHECK bool hf_pack_directory_decode(const uint8_t *plain, size_t length, const char *pack_name,
                                            struct hf_pack_directory **ret, struct hf_error *err);

/* A worker's buffer for stored bytes on their way in; its content lasts until the next call that reads. */
struct hf_buf *hf_slab_worker_input(struct hf_slab_worker *worker);
