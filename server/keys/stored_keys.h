/*
 * stored_keys.h - slots and bundles as they lie in the repository, for who judges them (server/care/check_keys.c) or
 * puts others in their place (server/care/rotation.h)
 */
#pragma once
#include "server/keys/envelope.h"
#include "server/keys/generations.h"
#include "server/keys/keys.h"

#define HF_ROOT_BUNDLE_PREFIX "keys/root-"

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

void hf_vault_bundle_prefix(const struct hf_id *vault, char prefix[static HF_GENERATION_NAME_BYTES]);

/*
 * A bundle as such: the envelope says its kind, repository and object.  rewrap() seals what the newest one that the old
 * key opens holds as a further generation under the new key, and proves it; prove() reads a generation back and
 * compares; newest() says which generation counts for this key.
 */
HF_MUST_CHECK bool hf_bundle_rewrap(struct hf_backend *backend, const char *prefix, const struct hf_envelope *of,
                                    const struct hf_secret *old_key, const struct hf_secret *new_key,
                                    struct hf_error *err);
HF_MUST_CHECK bool hf_bundle_prove(struct hf_backend *backend, const char *prefix, const struct hf_envelope *envelope,
                                   const struct hf_secret *root_key, const struct hf_buf *expected,
                                   struct hf_error *err);
HF_MUST_CHECK bool hf_bundle_newest(struct hf_backend *backend, const char *prefix, const struct hf_envelope *of,
                                    const struct hf_secret *root_key, uint32_t *ret_generation, struct hf_error *err);
