/*
 * event.h - events of binary logs, version 4, of MariaDB and MySQL
 *
 * A file of a binary log is 4 bytes FE 'b' 'i' 'n', then events; on the wire they come without the 4 bytes.  Numbers
 * are little endian.
 *
 * Event
 *      0      4  time, seconds since 1970 (0: artificial)
 *      4      1  type
 *      5      4  id of the server that first wrote it
 *      9      4  length of the whole event
 *     13      4  position of the next event in its file, modulo 2^32 (0: artificial, or part of a cache)
 *     17      2  flags: 1 the file is in use (first event only; left out of the CRC), 0x20 artificial, 0x80 ignorable
 *     19      -  body
 *   last 4       CRC-32 (zlib's) of everything before, when the format says so
 *
 * The first event of a file is its format description:
 *     19      2  version: 4
 *     21     50  version of the server, NUL padded
 *     71      4  created at, seconds (0: the server had been running)
 *     75      1  length of an event's header: 19
 *     76      -  for each type, from 1, the length of its fixed part
 *   last 5     1  checksum algorithm: 0 none, 1 CRC-32 (since MariaDB 5.3 and MySQL 5.6.1, and with it always:)
 *   last 4     4  CRC-32
 *
 * Bodies that are read: ROTATE (u64 position, name of the next file), QUERY (fixed part u32 thread, u32 seconds, u8
 * length of the schema's name, u16 error, u16 length of status variables; these, the schema's name, NUL, statement),
 * XID, GTID of MariaDB (u64 sequence, u32 domain, u8 flags: 1 standalone; ...), its GTID_LIST (u32: 28 bits count, 4
 * bits flags; each u32 domain, u32 server, u64 sequence), GTID_LOG and ANONYMOUS_GTID of MySQL (u8 flags, uuid, u64
 * number; since 8.0.1 u8 2, two u64, 7 bytes: microseconds of the commit), PREVIOUS_GTIDS (gtid.h).
 * Everything else is stepped over by its length, rows included.
 *
 * Errors are CORRUPT and name the place that the caller gave.
 */
#pragma once
#include "server/source/mariadb/gtid.h"

#define HF_BINLOG_MAGIC        "\xfe\x62\x69\x6e"
#define HF_BINLOG_HEADER       19
#define HF_BINLOG_EVENT_MOST   ((size_t)1 << 30) // a server's own limit of max_allowed_packet
#define HF_BINLOG_FORMAT_MOST  (4 * HF_KIB)      // bytes of a format description
#define HF_BINLOG_NAME_BYTES   513               // of a file's name, with its NUL
#define HF_BINLOG_VERSION_TEXT 51

enum hf_binlog_type {
    HF_BINLOG_START_V3 = 1,
    HF_BINLOG_QUERY = 2,
    HF_BINLOG_STOP = 3,
    HF_BINLOG_ROTATE = 4,
    HF_BINLOG_INTVAR = 5,
    HF_BINLOG_RAND = 13,
    HF_BINLOG_USER_VAR = 14,
    HF_BINLOG_FORMAT = 15,
    HF_BINLOG_XID = 16,
    HF_BINLOG_BEGIN_LOAD = 17,
    HF_BINLOG_EXECUTE_LOAD = 18,
    HF_BINLOG_TABLE_MAP = 19,
    HF_BINLOG_ROWS_FIRST = 20, // PRE_GA, v1 and v2 with others in between: rows_or_part() of the .c
    HF_BINLOG_INCIDENT = 26,
    HF_BINLOG_HEARTBEAT = 27,
    HF_BINLOG_ROWS_QUERY = 29,
    HF_BINLOG_MYSQL_GTID = 33,
    HF_BINLOG_MYSQL_ANONYMOUS = 34,
    HF_BINLOG_MYSQL_PREVIOUS = 35,
    HF_BINLOG_XA_PREPARE = 38,
    HF_BINLOG_MYSQL_PAYLOAD = 40,
    HF_BINLOG_HEARTBEAT_V2 = 41,
    HF_BINLOG_MYSQL_TAGGED = 42,
    HF_BINLOG_ANNOTATE = 160,
    HF_BINLOG_CHECKPOINT = 161,
    HF_BINLOG_GTID = 162,
    HF_BINLOG_GTID_LIST = 163,
    HF_BINLOG_ENCRYPTION = 164,
    HF_BINLOG_QUERY_COMPRESSED = 165,
    HF_BINLOG_ROWS_COMPRESSED_LAST = 171,
};

#define HF_BINLOG_IN_USE     0x01
#define HF_BINLOG_ARTIFICIAL 0x20

/* How the events of a file are read. */
struct hf_binlog_format {
    bool known; // a format description was read
    bool mariadb;
    bool checksums;
    uint32_t created; // 0: the server had been running
    uint8_t fixed[256];
    char server[HF_BINLOG_VERSION_TEXT];
};

/* Pointers into the caller's bytes. */
struct hf_binlog_event {
    uint32_t time, server_id, next;
    uint32_t length;
    uint16_t flags;
    uint8_t type;
    const uint8_t *body;
    size_t body_length; // without CRC
};

/* The length that an event's header says; 0 when none can have it. */
size_t hf_binlog_event_length(const uint8_t header[static HF_BINLOG_HEADER]);
/* Exactly one event, its CRC proven when the format says that there is one.  `place` stands in messages. */
HF_MUST_CHECK bool hf_binlog_event_read(const struct hf_binlog_format *format, const uint8_t *data, size_t length,
                                        uint64_t place, struct hf_binlog_event *ret, struct hf_error *err);
/* Of a format description.  CORRUPT also for logs of before MySQL 5.0. */
HF_MUST_CHECK bool hf_binlog_format_read(const struct hf_binlog_event *event, uint64_t place,
                                         struct hf_binlog_format *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_binlog_rotate_read(const struct hf_binlog_event *event, uint64_t place, uint64_t *ret_position,
                                         char name[static HF_BINLOG_NAME_BYTES], struct hf_error *err);
/* Of GTID_LIST or PREVIOUS_GTIDS: all that was logged before this file. */
HF_MUST_CHECK bool hf_binlog_before_read(const struct hf_binlog_event *event, uint64_t place, struct hf_gtid_set *ret,
                                         struct hf_error *err);
/* Puts the right CRC behind an event that the caller made or changed; length is the whole event's, CRC included. */
void hf_binlog_event_seal(uint8_t *data, size_t length);

/* ------------------------------------------------------------------------------------------ transactions */

/*
 * Follows events and says where transactions begin and end.  A transaction is a GTID event (or, in logs without,
 * BEGIN or a statement alone) and all up to its XID, COMMIT, ROLLBACK, XA PREPARE or, when it stands alone, its one
 * statement; a compressed payload of MySQL is all of it.
 *
 *   outside ── GTID ──▶ begun ── BEGIN, rows ──▶ inside ── XID, COMMIT ──▶ outside
 *                          └──── a statement that stands alone, payload ────▶ outside
 */
struct hf_binlog_walk {
    struct hf_binlog_format format;
    enum { HF_BINLOG_OUTSIDE, HF_BINLOG_BEGUN, HF_BINLOG_INSIDE } state;
    bool standalone;
    bool has_gtid;        // of the transaction that is or was last
    struct hf_gtid gtid;  // of it
    int64_t gtid_ms;      // commit time that its GTID event tells, 0: none
    bool with_statements; // one changed data by its statement: it may do something else when it is replayed
};

/* What one event meant. */
struct hf_binlog_step {
    struct hf_binlog_event event;
    bool group;        // it is part of a transaction
    bool begins, ends; // it is the first, the last of one; both for a statement alone without GTID
    int64_t commit_ms; // of a transaction that ends
};

/* At the beginning of a stream; events before its format description have CRCs or not. */
void hf_binlog_walk_begin(struct hf_binlog_walk *walk, bool checksums);
/* Exactly one event.  A format description is taken over.  CORRUPT for one that cannot be where it is. */
HF_MUST_CHECK bool hf_binlog_walk_event(struct hf_binlog_walk *walk, const uint8_t *data, size_t length, uint64_t place,
                                        struct hf_binlog_step *ret, struct hf_error *err);
