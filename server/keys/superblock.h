/*
 * superblock.h - what this folder is, and which readers may touch it
 *
 * offset  bytes  meaning
 *      0      8  magic "HFREPO01"
 *      8      4  version: 1
 *     12      4  reserved
 *     16     16  repository id
 *     32      8  created at
 *     40      8  feature bits a reader must know
 *     48      8  feature bits a writer must know
 *     56      8  feature bits a collector must know (deleting, compacting)
 *     64      8  feature bits a repairer must know
 *     72     84  reserved
 *    156      4  CRC-32C of bytes 0..155
 *    160     32  H(root key; "holdfast superblock" || bytes 0..159): checked once the root key is at hand
 *
 * A newer version of the same length keeps the checksum where it is, so that damage is told from a newer format.
 * An unknown bit, or any doubt about the bits, means refuse.  A program that lacks a collector bit
 * may still read.
 *
 * A copy (copy.h) has the superblock of its original, byte for byte, and beside it the object "holdfast-copy".  While
 * that is there the place is only read, but for the one who copies: two histories under one repository id would be
 * worse than none.  hf_superblock_read() refuses every access but READ.  It is made before the superblock, and taken
 * away by promoting the copy (hf_copy_promote), for good.  It is a canonical JSON object of at most 4 KiB:
 *   made_at     when copying began there
 *   repository  the repository's id
 *   synced_at   when all that the original then had was there; null: never yet
 */
#pragma once
#include "base/secret.h"
#include "server/storage/backend.h"

#define HF_SUPERBLOCK_BYTES 192
#define HF_SUPERBLOCK_NAME  "holdfast-repository"

enum hf_access { HF_ACCESS_READ, HF_ACCESS_WRITE, HF_ACCESS_COLLECT, HF_ACCESS_REPAIR };

struct hf_superblock {
    struct hf_id repository;
    int64_t created_at;
    uint64_t features[4]; // by enum hf_access; this version knows none, so all are 0
    uint8_t mac[32];
    uint8_t raw[HF_SUPERBLOCK_BYTES];
};

#define HF_COPY_MARK_NAME "holdfast-copy"

struct hf_copy_mark {
    struct hf_id repository;
    int64_t made_at, synced_at; // the latter -1: never
};
/* *ret_found false: the place is no copy. */
HF_MUST_CHECK bool hf_copy_mark_read(struct hf_backend *backend, bool *ret_found, struct hf_copy_mark *ret,
                                     struct hf_error *err);
HF_MUST_CHECK bool hf_copy_mark_write(struct hf_backend *backend, const struct hf_copy_mark *mark,
                                      struct hf_error *err);

/* CONFLICT when there is one already. */
HF_MUST_CHECK bool hf_superblock_create(struct hf_backend *backend, const struct hf_id *repository, int64_t now,
                                        const struct hf_secret *root_key, struct hf_error *err);
/*
 * NOT_FOUND says that the folder is no repository, and how to make one.  CONFLICT: made by a newer version, or a copy
 * and access is not READ.
 */
HF_MUST_CHECK bool hf_superblock_read(struct hf_backend *backend, enum hf_access access, struct hf_superblock *ret,
                                      struct hf_error *err);
/* Whether the bytes are a superblock, undamaged, of this repository: what a copy is judged by. */
bool hf_superblock_sound(const void *bytes, size_t length, const struct hf_id *repository);
HF_MUST_CHECK bool hf_superblock_check(const struct hf_superblock *superblock, const struct hf_secret *root_key,
                                       struct hf_error *err);
