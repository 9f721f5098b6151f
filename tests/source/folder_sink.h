/*
 * folder_sink.h - a backup sink that is a folder, and holds callers to the contract of source.h
 *
 * Files land where their paths say, tablespaces in <folder>-tablespaces/<oid> behind a link, so that
 * pg_verifybackup and a server can use the result.  Whole pages go to the engine's check as they come.
 * Every promise of the contract that a caller could break is asserted here.
 */
#pragma once
#include "server/source/postgres/base_backup.h"
#include "tests/support/test.h"

struct hf_test_folder_sink {
    struct hf_backup_sink sink; // hand out &sink
    char folder[128];
    struct hf_page_faults faults;
    struct hf_source_progress progress;

    /* Knobs. */
    uint64_t fail_after;    // bytes; the write that passes them fails with NO_SPACE; 0: never
    uint64_t alter_at;      // the byte with this number (from 1) over all is stored flipped; 0: none
    unsigned slow_us;       // each write takes this long
    uint64_t cancel_after;  // bytes; the backup is cancelled; 0: never
    void (*at_bytes)(void); // called once, when `at_bytes_count` bytes have come
    uint64_t at_bytes_count;

    /* What was seen. */
    pthread_mutex_t lock;
    uint64_t bytes;
    size_t files, relations, wal_files, directories, links, open_now, most_open, dropped;
    bool flushed;
    struct hf_test_sunk *ended;
    size_t ended_count;
    char last_path[HF_BACKUP_PATH_BYTES];
};

/* One file that ended. */
struct hf_test_sunk {
    char *path;
    struct hf_backup_digest digest;
    enum hf_backup_file_kind kind;
};

/* In a fresh folder. */
struct hf_test_folder_sink *hf_test_folder_sink_new(void);
/* NULL when the file did not end. */
const struct hf_test_sunk *hf_test_folder_sink_find(const struct hf_test_folder_sink *sink, const char *path);

/* A backup of "clinic" into the sink, with a fast checkpoint and short waits; `identifier` 0 for first contact. */
bool hf_test_take_backup(const char *conninfo, uint64_t identifier, struct hf_test_folder_sink *sink,
                         struct hf_postgres_facts *ret, struct hf_error *err);
#define HF_TEST_SLOT_TAG "t1"
