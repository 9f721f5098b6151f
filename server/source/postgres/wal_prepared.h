/*
 * wal_prepared.h - which transaction a COMMIT PREPARED or ROLLBACK PREPARED ends
 *
 * Such a record is written by another session than the transaction's, and its header names none, or another one.  The
 * number stands in the main data (little endian), behind lists that can be longer than what a walk keeps of a record:
 *
 *     i64 time   u32 flags, where bit 0x80 of the record's info is set; then, in this order, what the flags say:
 *     0x001 u32 database, u32 tablespace          0x002 u32 n, n x u32 subtransactions
 *     0x004 u32 n, n x 12 bytes: dropped files    0x100 (15 and later) u32 n, n x 12 bytes (18: 16): dropped statistics
 *     0x008 u32 n, n x 16 bytes: invalidations    0x010 u32: the transaction
 *
 * Source: PostgreSQL, src/include/access/xact.h and src/backend/access/rmgrdesc/xactdesc.c of the releases 13 to 18;
 * checked against real log of each in the tests.
 */
#pragma once
#include "server/source/postgres/wal_format.h"

/* Takes a record's body as it comes; nothing of it is kept. */
struct hf_wal_prepared {
    uint32_t major_version;
    enum { HF_PREPARED_HEADER, HF_PREPARED_FLAGS, HF_PREPARED_LIST, HF_PREPARED_NUMBER, HF_PREPARED_OVER } reading;
    bool has_flags;
    unsigned part;     // of the list above: what is next
    uint64_t fed, at;  // bytes; where the next value begins
    size_t width, had; // of that value
    uint8_t value[4];
    uint32_t flags;
    uint32_t transaction; // 0: not found
};

void hf_wal_prepared_begin(struct hf_wal_prepared *prepared, uint32_t major_version, uint8_t info);
void hf_wal_prepared_feed(struct hf_wal_prepared *prepared, const uint8_t *data, size_t length);
