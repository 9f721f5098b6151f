/*
 * keys_internal.h - what slots.c and keys.c share, and what the tests look into
 */
#pragma once
#include "server/repository/keys.h"

/* A key slot as it lies on disk (keys.h), its fields checked and its secret still sealed. */
struct hf_slot {
    struct hf_slot_info info;
    uint64_t argon2_operations;
    uint64_t argon2_memory_bytes;
    const uint8_t *raw; // borrowed from the caller: HF_SLOT_BYTES
};

/*
 * Checks everything that needs no key: length, magic, version, checksum, repository, id, the fields of the
 * kind, zeros elsewhere.  `id` is the one in the object's name; `what` names it in messages.  CORRUPT.
 */
HF_MUST_CHECK bool hf_slot_parse(const uint8_t *raw, size_t length, const struct hf_id *repository,
                                 const struct hf_id *id, const char *what, struct hf_slot *ret, struct hf_error *err);

/* A name for people as it lies on disk: UTF-8 without control characters, 1 byte to size - 1, then NULs up to size. */
bool hf_key_name_valid(const char *name, size_t size);
