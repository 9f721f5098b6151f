/*
 * planted.h - a database that is damaged on purpose, backed up and verified
 *
 * One cluster is made and filled once, then stopped; each fault is planted in a fresh copy of its files:
 *
 *     planted_begin(&planted, &options, fill);       // fill gets a connection
 *     planted_reset(&planted);                       // the files as they were after fill
 *     planted_page(&planted, path, 3, zero_page);    // the fault, while no server runs
 *     backup = planted_backup(&planted);             // the server starts, is backed up, stops
 *     planted_verify(&planted, &backup, NULL, &outcome);
 *     planted_expect(&outcome, "heap", "damaged_row", "postgres.public.patients", 3);
 */
#pragma once
#include "server/verify/verify.h"
#include "tests/support/cluster.h"
#include "tests/support/vault.h"

struct planted {
    struct hf_test_cluster *cluster;
    struct test_vault vault;
    char pristine[128];      // copy of the data directory, server stopped
    unsigned server_version; // what the backup's facts shall say, 0: the truth
};

typedef void planted_fill(PGconn *conn);

void planted_begin(struct planted *planted, const struct hf_test_cluster_options *options, planted_fill *fill);
void planted_done(struct planted *planted);
void planted_reset(struct planted *planted);

#define PLANTED_PAGE 8192
/* Changes one page of a file below the data directory in place. */
typedef void planted_change(uint8_t *page, uint64_t number);
void planted_page(struct planted *planted, const char *path, uint64_t page, planted_change *change, uint64_t number);
void planted_zero_page(uint8_t *page, uint64_t ignored);
void planted_flip_byte(uint8_t *page, uint64_t offset);
/* Line pointer `number` (from 1) is as if it had never been there: the index entry or row is gone. */
void planted_unlink_item(uint8_t *page, uint64_t number);  // a heap's: the pointer becomes unused
void planted_remove_entry(uint8_t *page, uint64_t number); // a btree's: the pointers behind it move up
void planted_truncate(struct planted *planted, const char *path, uint64_t pages);
void planted_copy_file(struct planted *planted, const char *from, const char *to); // paths below the data directory
uint64_t planted_pages(struct planted *planted, const char *path);

/* The server runs on what is there; planted_stop() when done. */
PGconn *planted_start(struct planted *planted);
void planted_stop(struct planted *planted, PGconn *conn);
struct hf_id planted_backup(struct planted *planted);
/* With damages that an earlier verification found. */
struct hf_id planted_backup_heal(struct planted *planted, const struct hf_verify_outcome *damages);
struct hf_verify_options planted_options(struct planted *planted);
void planted_verify(struct planted *planted, const struct hf_id *backup, const struct hf_verify_options *options,
                    struct hf_verify_outcome *ret);

/* The attempt failed, and this finding is in that check; block -1: any.  Fails the test with all findings else. */
void planted_expect(const struct hf_verify_outcome *outcome, const char *check, const char *what, const char *object,
                    int64_t block);
/* Whether any finding or reason of any check names this object. */
bool planted_named(const struct hf_verify_outcome *outcome, const char *object);
void planted_print(const struct hf_verify_outcome *outcome);
