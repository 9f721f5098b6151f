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
 * An unknown bit, or any doubt about the bits, means refuse.  A program that lacks a collector bit
 * may still read.
 */
#pragma once
#include "base/secret.h"
#include "server/repository/backend.h"

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

/* CONFLICT when there is one already. */
HF_MUST_CHECK bool hf_superblock_create(struct hf_backend *backend, const struct hf_id *repository, int64_t now,
                                        const struct hf_secret *root_key, struct hf_error *err);
/* NOT_FOUND says that the folder is no repository, and how to make one.  CONFLICT: made by a newer version. */
HF_MUST_CHECK bool hf_superblock_read(struct hf_backend *backend, enum hf_access access, struct hf_superblock *ret,
                                      struct hf_error *err);
HF_MUST_CHECK bool hf_superblock_check(const struct hf_superblock *superblock, const struct hf_secret *root_key,
                                       struct hf_error *err);
