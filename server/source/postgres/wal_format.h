/*
 * wal_format.h - PostgreSQL's write-ahead log: positions, file names, and a walk over its records
 *
 * A position (LSN, base/lsn.h) is a byte offset in one endless log.
 * The log lies in segments of 1 MiB to 1 GiB, named timeline, then high, then low part: 8 hex digits each.
 *
 * A segment is pages of 8192 bytes, little endian.  Each begins with a header, the first of a segment with
 * a long one:
 *
 *     0 u16 magic (by release)  2 u16 flags  4 u32 timeline  8 u64 position of this page
 *    16 u32 bytes of a record begun on an earlier page that still follow   20 four bytes of nothing
 *   (long:) 24 u64 system identifier  32 u32 segment bytes  36 u32 page bytes
 *     flags: 1 the page goes on with a record; 2 long header; 4 (unused); 8 the record that was begun on the
 *            page before was abandoned in a crash, a new one starts here
 *
 * Records begin at multiples of 8 and run on over page headers:
 *
 *     0 u32 total length   4 u32 transaction   8 u64 position of the record before   16 u8 info   17 u8 manager
 *    18 two bytes of nothing   20 u32 CRC-32C over bytes 24... and then 0..19
 *    24 block references, then 255 u8-length (or 254 u32-length) and the main data; 253 and 252 carry
 *       an origin (u16) and a top transaction (u32) before it.  A commit's and an abort's main data begins with
 *       its time; a restore point's is a time and 64 bytes of name.
 *
 * A length of 0 is the end of what was written; after a switch record the rest of the segment is empty.
 *
 * Source: PostgreSQL, src/include/access/xlog_internal.h, xlogrecord.h, xact.h and src/backend/access/transam/
 * xlogreader.c of the releases 13 to 18; checked against pg_waldump in the tests.
 */
#pragma once
#include "base/lsn.h"

#define HF_WAL_NAME_BYTES    25 // "000000010000000000000003" and its NUL
#define HF_WAL_PAGE_BYTES    8192
#define HF_WAL_RECORD_HEADER 24
#define HF_WAL_RECORD_MOST   (1020 * 1024 * 1024) // what the server itself allows
#define HF_WAL_SEGMENT_LEAST (1024 * 1024)
#define HF_WAL_SEGMENT_MOST  (1024 * 1024 * 1024)

/* A power of two within the limits above. */
bool hf_wal_segment_bytes_valid(uint64_t bytes);
/* The name of the segment that holds the byte at `lsn`; returns text. */
const char *hf_wal_segment_name(uint32_t timeline, uint64_t lsn, uint32_t segment_bytes,
                                char text[static HF_WAL_NAME_BYTES]);
/* The magic of a release's pages, by major version (13 to 18), or 0. */
uint16_t hf_wal_page_magic(uint32_t major_version);

struct hf_wal_origin {
    uint32_t major_version; // 13 to 18
    uint64_t system_identifier;
    uint32_t segment_bytes;
    uint32_t timeline; // no page may be of a later one
};

/* A moment in the log at which a recovery can stop. */
enum hf_wal_target_kind {
    HF_WAL_TO_THE_END,
    HF_WAL_TO_TIME,            // before the first commit or abort later than it
    HF_WAL_TO_POSITION,        // before the first record that begins at it or behind it
    HF_WAL_TO_TRANSACTION,     // behind its commit or abort, also of one that was prepared (wal_prepared.h)
    HF_WAL_BEFORE_TRANSACTION, // before its commit or abort; likewise
    HF_WAL_TO_RESTORE_POINT,   // behind the first one of that name
};
#define HF_WAL_POINT_BYTES 64 // longest name of a restore point, and its NUL

struct hf_wal_target {
    enum hf_wal_target_kind kind;
    int64_t time; // ms since 1970
    uint64_t position;
    uint32_t transaction;
    char point[HF_WAL_POINT_BYTES];
};

/* What a walk has seen.  Positions are 0 where nothing was seen. */
struct hf_wal_seen {
    uint64_t position;     // all bytes below it were fed
    uint64_t first_record; // where the first whole record begins
    uint64_t last_record;  // where the last whole record begins
    uint64_t end;          // just behind the last whole record, where the next may begin
    uint64_t records, commits, aborts;
    uint64_t abandoned;                      // records cut off by a crash of the source and declared void by it
    int64_t first_commit_at, last_commit_at; // oldest and newest time of a commit, ms since 1970
    uint32_t page_timeline;                  // of the newest page
    uint64_t stop, stop_end;                 // the record at which a recovery to the target stops; 0: not yet
};

/*
 * Walks over log bytes as they come, in pieces of any size, in constant memory.  Every page header, every
 * record's checksum and the chain of records are checked.
 */
struct hf_wal_walk;

/*
 * `start` is the first position that will be fed: the start of a page, with a record begun before it perhaps.
 * Errors: USAGE for a release or segment size that is not known, NO_MEMORY.
 */
HF_MUST_CHECK bool hf_wal_walk_new(const struct hf_wal_origin *origin, uint64_t start, struct hf_wal_walk **ret,
                                   struct hf_error *err);
void hf_wal_walk_freep(struct hf_wal_walk **walk);

/* The walk looks where a recovery would stop, as the server does; commits behind that place are not counted. */
void hf_wal_walk_look_for(struct hf_wal_walk *walk, const struct hf_wal_target *target);

/* Errors: CORRUPT, with the position; they stick: the walk cannot go on. */
HF_MUST_CHECK bool hf_wal_walk_feed(struct hf_wal_walk *walk, const uint8_t *data, size_t length, struct hf_error *err);

struct hf_wal_seen hf_wal_walk_seen(const struct hf_wal_walk *walk);
/* From here on commits and their first and last time are counted anew. */
void hf_wal_walk_forget_commits(struct hf_wal_walk *walk);
