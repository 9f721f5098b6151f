/*
 * journal_format.h - what writing and reading a journal share: the offsets of journal.h, and the key
 */
#pragma once
#include "server/stream/journal.h"

#define JOURNAL_MAGIC   "HFJRNL01"
#define FRAME_MAGIC     "HFJF"
#define JOURNAL_VERSION 1
#define JOURNAL_SUITE   2
#define JOURNAL_TAG     16

enum {
    AT_VERSION = 8,
    AT_SUITE = 10,
    AT_EPOCH = 12,
    AT_REPOSITORY = 16,
    AT_VAULT = 32,
    AT_JOURNAL = 48,
    AT_CREATED = 64,
    AT_RESERVED = 72,
    AT_COMMITMENT = 92,
    AT_CRC = 124,

    FRAME_AT_NUMBER = 4,
    FRAME_AT_DURABLE = 8,
    FRAME_AT_LENGTH = 12,
    FRAME_AT_RESERVED = 16,
    FRAME_AT_CRC = 28,
};

/* Bytes that a frame takes in the file. */
static inline uint64_t
journal_frame_stored(size_t plain_length)
{
    return (HF_JOURNAL_FRAME_HEADER + plain_length + JOURNAL_TAG + 7) & ~(uint64_t)7;
}

/* The key that this header's journal is sealed with.  NOT_FOUND: the vault has no data key of that epoch. */
HF_MUST_CHECK bool journal_derive_key(const uint8_t header[static HF_JOURNAL_HEADER], const struct hf_vault_keys *keys,
                                      struct hf_secret *ret, struct hf_error *err);
void journal_commitment(const struct hf_secret *key, uint8_t ret[static HF_KEY_BYTES]);
void journal_nonce(uint32_t number, uint8_t nonce[static 24]);
