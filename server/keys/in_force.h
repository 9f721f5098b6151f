/*
 * in_force.h - which generation of the root key opens the repository now
 *
 * A root key is replaced by rotation (rotation.h).  Which one is in force is said by the object with the highest
 * number; while there is none it is generation 1, and the superblock's own code confirms it.
 *
 * Object: keys/in-force-<generation>, 128 bytes
 * offset  bytes  meaning
 *      0      8  magic "HFROOT01"
 *      8      4  version: 1
 *     12      4  generation of the root key, from 2
 *     16     16  repository id
 *     32      8  in force since
 *     40     24  reserved
 *     64     32  H(root key; "holdfast in force" || bytes 0..63 || the superblock's bytes 0..159)
 *     96     28  reserved
 *    124      4  CRC-32C of bytes 0..123
 *
 * Key slots of this generation open the repository.  Those above belong to a rotation that has not come into force,
 * those below are what is left of one that has: neither opens anything.
 */
#pragma once
#include "server/keys/superblock.h"

#define HF_IN_FORCE_BYTES  128
#define HF_IN_FORCE_PREFIX "keys/in-force-"

/* By the names alone: 1 when there is no such object. */
HF_MUST_CHECK bool hf_in_force_find(struct hf_backend *backend, uint32_t *ret_generation, struct hf_error *err);
/* CONFLICT: another rotation was first.  From its return on the new root key counts. */
HF_MUST_CHECK bool hf_in_force_create(struct hf_backend *backend, const struct hf_superblock *superblock,
                                      uint32_t generation, const struct hf_secret *root_key, int64_t now,
                                      struct hf_error *err);
/* That this is the root key of that generation: by the superblock for generation 1, else by the object.  CORRUPT. */
HF_MUST_CHECK bool hf_in_force_check(struct hf_backend *backend, const struct hf_superblock *superblock,
                                     uint32_t generation, const struct hf_secret *root_key, struct hf_error *err);
/* Removes those of the generations before `generation`. */
HF_MUST_CHECK bool hf_in_force_remove_older(struct hf_backend *backend, uint32_t generation, struct hf_error *err);
