/*
 * gtid.h - which transactions: positions of MariaDB, sets of MySQL, in one type
 *
 * MariaDB names a transaction <domain>-<server id>-<sequence>.  Where a log stands is the last one of each domain,
 * "0-1-100,5-2-7", ordered by domain: a transaction is behind it when its sequence is not above its domain's.
 *
 * MySQL names it <uuid>:<number>.  Where a log stands is a set: "<uuid>:1-100:102,<uuid>:7", ordered by uuid.  On the
 * wire and in PREVIOUS_GTIDS: u64 count of uuids, each 16 bytes, u64 count of intervals, each u64 first, u64 one behind
 * the last.  Tagged GTIDs (MySQL 8.3) are refused by name.
 *
 * An empty set belongs to both.  Limits: HF_GTID_PARTS_MOST domains or intervals, HF_GTID_TEXT_MOST bytes of text.
 */
#pragma once
#include "base/buf.h"

#define HF_GTID_PARTS_MOST 65536
#define HF_GTID_TEXT_MOST  (1 * HF_MIB)
#define HF_GTID_TEXT_BYTES 64 // of one, with its NUL

enum hf_gtid_flavor { HF_GTID_MARIADB = 1, HF_GTID_MYSQL = 2 };

struct hf_gtid {
    enum hf_gtid_flavor flavor;
    uint32_t domain, server_id; // MariaDB
    uint8_t uuid[16];           // MySQL
    uint64_t sequence;          // from 1
};

/* MariaDB: one a domain, `last` is its newest.  MySQL: [first, last] of a uuid; those of a uuid do not touch. */
struct hf_gtid_part {
    struct hf_gtid last;
    uint64_t first;
};

/* Zeros are an empty set. */
struct hf_gtid_set {
    enum hf_gtid_flavor flavor;
    struct hf_gtid_part *parts; // ordered
    size_t count;
};

void hf_gtid_set_done(struct hf_gtid_set *set);
HF_MUST_CHECK bool hf_gtid_set_copy(const struct hf_gtid_set *from, struct hf_gtid_set *ret, struct hf_error *err);

/* One GTID, as people and servers write it.  USAGE with the text; so it is with sets. */
HF_MUST_CHECK bool hf_gtid_parse(enum hf_gtid_flavor flavor, const char *text, struct hf_gtid *ret,
                                 struct hf_error *err);
const char *hf_gtid_format(const struct hf_gtid *gtid, char text[static HF_GTID_TEXT_BYTES]); // returns text
HF_MUST_CHECK bool hf_gtid_set_parse(enum hf_gtid_flavor flavor, const char *text, size_t length,
                                     struct hf_gtid_set *ret, struct hf_error *err);
/* Adds the text to the buffer: what is parsed comes out the same, in order and without spaces. */
HF_MUST_CHECK bool hf_gtid_set_format(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err);

/* MySQL's form on the wire.  CORRUPT, also for tagged ones. */
HF_MUST_CHECK bool hf_gtid_set_decode(const uint8_t *data, size_t length, struct hf_gtid_set *ret,
                                      struct hf_error *err);
HF_MUST_CHECK bool hf_gtid_set_encode(const struct hf_gtid_set *set, struct hf_buf *out, struct hf_error *err);

/*
 * One more transaction was logged.  MariaDB: it becomes the last of its domain, whatever its sequence.  MySQL: it is
 * one of the set.  CONFLICT for one of the other flavor.
 */
HF_MUST_CHECK bool hf_gtid_set_add(struct hf_gtid_set *set, const struct hf_gtid *gtid, struct hf_error *err);
/* All of `more` as well; MariaDB: of a domain in both the higher one. */
HF_MUST_CHECK bool hf_gtid_set_union(struct hf_gtid_set *set, const struct hf_gtid_set *more, struct hf_error *err);

bool hf_gtid_set_contains(const struct hf_gtid_set *set, const struct hf_gtid *gtid);
/* All of `part` is in `set`. */
bool hf_gtid_set_contains_all(const struct hf_gtid_set *set, const struct hf_gtid_set *part);
bool hf_gtid_set_equal(const struct hf_gtid_set *a, const struct hf_gtid_set *b);
/* The last of a MariaDB domain; NULL when there is none. */
const struct hf_gtid *hf_gtid_set_domain(const struct hf_gtid_set *set, uint32_t domain);
