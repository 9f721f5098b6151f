/*
 * fake_server.h - the replication protocol of any release, honest or not, from a script
 *
 * For the releases that are not installed here (13 and 14 send one COPY a tar), and for what no server
 * sends.  Written from PostgreSQL's documentation, "Message Formats" and "Streaming Replication Protocol".
 * It serves a tiny cluster: one tablespace, a few files, a stretch of log.
 */
#pragma once
#include "base/buf.h"
#include "tests/source/wal_builder.h"

#define HF_TEST_FAKE_SYSTEM UINT64_C(7418237648237648234)

/* Made honest by hf_test_fake_fill; a test then changes what it wants to. */
struct hf_test_fake {
    unsigned version;                         // major
    uint64_t manifest_system;                 // in the manifest, since 17
    const char *sysid_of_second;              // what the second connection says it is; NULL: the same
    struct hf_buf tablespace, base, manifest; // the bytes sent
    struct hf_test_wal wal;
    uint64_t start_lsn, stop_lsn;
    uint32_t timeline, stop_timeline;
    const char *label_lsn;     // in backup_label; NULL: of start_lsn
    const char *location;      // of the tablespace
    const char *tar_name;      // of the base's tar (15 and later)
    const char *error_late;    // an ERROR behind the stop row, by its SQLSTATE; or NULL
    const char *error_in_copy; // an ERROR in the middle of the base's tar; or NULL
    char odd_message;          // a message of this kind in the copy; 0: none
    bool no_manifest;
    bool second_manifest;   // announced behind the first (15 and later)
    bool bytes_before;      // bytes before the first tar is announced
    size_t notices;         // so many before the copy
    uint32_t absurd_length; // a message with this length in the copy; 0: none
    uint64_t wal_jump;      // added to the position of the second piece of log
    bool wal_ends;          // the server ends the log stream by itself: another timeline
    size_t piece;           // bytes of one message
};

/* The members that came, for the manifest: filled by hf_test_fake_fill. */
void hf_test_fake_fill(struct hf_test_fake *fake, unsigned version);
/* Builds the manifest anew from the tars as they are now. */
void hf_test_fake_remake_manifest(struct hf_test_fake *fake);
/* What the client last reported as flushed, of all fake servers; UINT64_MAX while it has reported nothing. */
uint64_t hf_test_fake_flushed(void);
/* Serves it until the program ends; returns the connection string. */
const char *hf_test_fake_start(const struct hf_test_fake *fake);
