/*
 * manifest.h - the server's own list of what a base backup holds, read as it streams in
 *
 * The text is JSON, but always in one layout, one object a line; its last line holds the SHA-256 of all
 * lines before it.  So it is read line by line, in constant memory, and a line that is not where the
 * layout has it is refused:
 *
 *     { "PostgreSQL-Backup-Manifest-Version": 1,       (2 since PostgreSQL 17, and then the next line too)
 *     "System-Identifier": 7418237648237648234,
 *     "Files": [
 *     { "Path": "base/5/1259", "Size": 8192, "Last-Modified": "...", "Checksum-Algorithm": "CRC32C", "Checksum": "..."
 *     },
 *     ...                                              ("Encoded-Path", in hex, for a name that is not UTF-8)
 *     ],
 *     "WAL-Ranges": [
 *     { "Timeline": 1, "Start-LSN": "0/2000028", "End-LSN": "0/2000100" }
 *     ],
 *     "Manifest-Checksum": "..."}
 *
 * A checksum is the CRC-32C's four bytes in the server's memory order, in hex.
 * Source: PostgreSQL, src/backend/backup/backup_manifest.c; its documentation, "Backup Manifest Format".
 */
#pragma once
#include "server/source/source.h"

#define HF_BACKUP_MANIFEST_LINE_MOST   (16 * HF_KIB)
#define HF_BACKUP_MANIFEST_RANGES_MOST 64

struct hf_backup_manifest_file {
    const char *path; // clean
    uint64_t size;
    uint32_t crc32c;
    const char *modified; // when, in the server's words; "" when it does not say
};

struct hf_backup_manifest_range {
    uint32_t timeline;
    uint64_t start_lsn, end_lsn;
};

struct hf_backup_manifest_summary {
    uint32_t version;
    uint64_t system_identifier; // 0 in version 1, which has none
    uint64_t files;
    struct hf_backup_manifest_range ranges[HF_BACKUP_MANIFEST_RANGES_MOST];
    size_t range_count;
};

/* Called for each file named, in order; returns false with an error to stop. */
typedef bool hf_backup_manifest_file_function(void *context, const struct hf_backup_manifest_file *file,
                                              struct hf_error *err);

struct hf_backup_manifest;

HF_MUST_CHECK bool hf_backup_manifest_new(hf_backup_manifest_file_function *on_file, void *context,
                                          struct hf_backup_manifest **ret, struct hf_error *err);
void hf_backup_manifest_freep(struct hf_backup_manifest **manifest);

/* Errors: CORRUPT with the line's number, and those of on_file. */
HF_MUST_CHECK bool hf_backup_manifest_feed(struct hf_backup_manifest *manifest, const void *data, size_t length,
                                           struct hf_error *err);

/* After the last byte.  CORRUPT when lines are missing.  That the SHA-256 was right is checked by then. */
HF_MUST_CHECK bool hf_backup_manifest_finish(const struct hf_backup_manifest *manifest,
                                             struct hf_backup_manifest_summary *ret, struct hf_error *err);
