/*
 * incremental.h - the head of a file that holds only a relation's changed blocks (PostgreSQL 17 and later)
 *
 * In an incremental base backup "base/5/INCREMENTAL.1259" stands for "base/5/1259".  Numbers are in the server's byte
 * order; only little-endian servers are known here:
 *
 *     0 u32 magic 0xd3ae1f0d   4 u32 count of blocks   8 u32 truncation length, in blocks
 *    12 u32 numbers of these blocks, counted from the start of this file of the relation, ascending
 *    then, only if there are blocks, zeros up to a multiple of 8192; then the blocks, 8192 bytes each, in that order
 *
 * The whole file has max(truncation length, highest number + 1) blocks.  One that is not listed is the earlier
 * backup's, if it lies below the truncation length and the earlier backup has it; else it is zeros.
 *
 * Source: PostgreSQL, src/backend/backup/basebackup.c (sendFile), src/bin/pg_combinebackup/reconstruct.c.
 */
#pragma once
#include "base/buf.h"

#define HF_INCREMENTAL_MAGIC       0xd3ae1f0du
#define HF_INCREMENTAL_FIXED       12
#define HF_INCREMENTAL_BLOCKS_MOST (1u << 20) // of one file: a server built with segments of 8 GiB
#define HF_INCREMENTAL_PREFIX      "INCREMENTAL."

struct hf_incremental {
    uint32_t count, truncation;
    size_t head_bytes; // numbers and padding included
    uint32_t blocks;   // of the whole file
};

/*
 * From the first HF_INCREMENTAL_FIXED bytes: how long the head is.  `segment_blocks`: the most that one file of a
 * relation has; `file_bytes`: of the incremental file.  `ret->blocks` comes with the numbers.
 */
HF_MUST_CHECK bool hf_incremental_begin(const uint8_t bytes[static HF_INCREMENTAL_FIXED], uint32_t segment_blocks,
                                        uint64_t file_bytes, struct hf_incremental *ret, struct hf_error *err);
/* The whole head, head->head_bytes of it: checks numbers and padding, and fills in head->blocks. */
HF_MUST_CHECK bool hf_incremental_check(const uint8_t *bytes, uint32_t segment_blocks, struct hf_incremental *head,
                                        struct hf_error *err);
/* Number i of a head that was checked. */
uint32_t hf_incremental_block(const uint8_t *bytes, uint32_t i);
