/*
 * wal_builder.h - log bytes as a server would write them, for tests that need them just so
 *
 * Written from the description in wal_format.h.
 */
#pragma once
#include "server/source/postgres/wal_format.h"
#include "tests/support/test.h"

#define HF_TEST_WAL_MOST (4 * 1024 * 1024)

struct hf_test_wal {
    struct hf_wal_origin origin;
    uint64_t start, previous; // position of data[0]; of the record before
    size_t length;
    uint8_t *data;
    size_t abandon_at; // the page header at this offset says the record before it was abandoned
};

/* Starts at a segment's start; data is freed with the process. */
void hf_test_wal_begin(struct hf_test_wal *wal, const struct hf_wal_origin *origin, uint64_t start);
/* Returns the record's position; hf_test_wal_end then gives where the next begins. */
uint64_t hf_test_wal_add(struct hf_test_wal *wal, uint8_t manager, uint8_t info, const void *body, size_t length);
uint64_t hf_test_wal_add_commit(struct hf_test_wal *wal, int64_t at_ms);
/* A switch, and zeros to the end of the segment. */
void hf_test_wal_add_switch(struct hf_test_wal *wal);
uint64_t hf_test_wal_end(const struct hf_test_wal *wal);
/* The page with a record that was begun and never finished: the next page says so. */
void hf_test_wal_add_abandoned(struct hf_test_wal *wal, size_t length);
