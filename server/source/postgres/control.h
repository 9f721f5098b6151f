/*
 * control.h - global/pg_control, the page a cluster keeps about itself
 *
 * Little endian, laid out as the C structure on 64-bit hosts; versions 1300 (PostgreSQL 13-16), 1700 and
 * 1800 differ only behind offset 256:
 *
 *     0 u64 system identifier   8 u32 version   12 u32 catalog version   16 u32 state   24 i64 time
 *    32 u64 checkpoint LSN     40 its redo LSN  48 u32 timeline
 *   136 u64 minimum recovery point   144 u32 its timeline   172 u32 wal_level
 *   180 u32 max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact
 *   216 u32 block bytes   220 u32 blocks of a relation segment   224 u32 WAL block bytes   228 u32 WAL segment bytes
 *   252 u32 checksum version (0: no page checksums)
 *   288 u32 CRC-32C of all before it (292 in version 1800, which has one byte more at 256)
 *
 * Source: PostgreSQL, src/include/catalog/pg_control.h of the releases 13 to 18.
 */
#pragma once
#include <stdint.h>
#include "base/error.h"

#define HF_POSTGRES_CONTROL_PATH  "global/pg_control"
#define HF_POSTGRES_CONTROL_BYTES 8192

struct hf_postgres_control {
    uint64_t system_identifier;
    uint32_t version, catalog_version, state;
    uint64_t checkpoint_lsn, redo_lsn;
    uint32_t timeline;
    uint64_t min_recovery_lsn;
    uint32_t wal_level;
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact;
    uint32_t block_bytes, segment_blocks, wal_block_bytes, wal_segment_bytes;
    uint32_t checksum_version;
};

/* Errors: CORRUPT for its CRC or size, USAGE for a version we do not know; *ret is then left alone. */
HF_MUST_CHECK bool hf_postgres_control_parse(const uint8_t *data, size_t length, struct hf_postgres_control *ret,
                                             struct hf_error *err);
