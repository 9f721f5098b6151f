/*
 * assertion.h - what the owner of a database says must be true of every copy of it
 *
 * One a line, in the source's setting "assertions":
 *
 *     <name> [in <database>] <rule>: <one statement of SQL>
 *
 * name: [a-z0-9_]{1,40}, once; database: when it is left out PostgreSQL's "postgres", and none with MariaDB, where
 * statements name it: clinic.visit.  The statement answers one row of one column: a number, a boolean (1 or 0) or a
 * time with its zone (MariaDB's times have none: CONCAT(MAX(at), 'Z'), the session is in UTC).  Rules:
 *
 *     is <number>                    at least <number>                 at most <number>
 *     newer than <duration>          a time, counted back from the newest commit that the copy has: 90s, 15m, 6h, 1d
 *     as live [within <number>[%]]   as the same statement on the source itself, now
 *
 * PostgreSQL: names of tables without a schema are looked for in "public".
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "base/error.h"

#define HF_ASSERTIONS_MOST       24
#define HF_ASSERTION_SQL_BYTES   2048
#define HF_ASSERTION_CHECK_BYTES 48

enum hf_assertion_rule {
    HF_ASSERT_IS,
    HF_ASSERT_AT_LEAST,
    HF_ASSERT_AT_MOST,
    HF_ASSERT_NEWER_THAN,
    HF_ASSERT_AS_LIVE,
};

struct hf_assertion {
    char check[HF_ASSERTION_CHECK_BYTES]; // "assert_<name>": the check's id
    char database[64];                    // "": the engine's usual one
    enum hf_assertion_rule rule;
    double bound;  // the number; ms; the tolerance
    bool relative; // the tolerance is in percent
    char sql[HF_ASSERTION_SQL_BYTES];
};

struct hf_assertions {
    size_t count;
    struct hf_assertion items[HF_ASSERTIONS_MOST];
};

/* text NULL: none.  USAGE names the line. */
HF_MUST_CHECK bool hf_assertions_parse(const char *text, struct hf_assertions *ret, struct hf_error *err);
