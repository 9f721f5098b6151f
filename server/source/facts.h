/*
 * facts.h - what a backup's COMMIT and manifest keep of it, as JSON
 *
 * One object.  LSNs are texts as PostgreSQL writes them ("0/2000028"), times are milliseconds since 1970.
 *   engine, system_identifier (text: it does not fit all JSON readers), server_version ("15.20"), server_version_num,
 *   start_lsn, stop_lsn, wal_first_lsn, wal_end_lsn, timeline, stop_timeline, wal_segment_bytes, block_bytes,
 *   segment_blocks, data_checksums, from_standby, wal_commits, wal_last_commit_at, max_connections,
 *   max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact, started_at, finished_at, files,
 *   logical_bytes, bad_pages, pending_pages, damaged [{path, block, verdict}] (the first 100 of them),
 *   tablespaces [{oid, location}], superuser (name of the role with oid 10, or null), notices
 */
#pragma once
#include "server/source/source.h"

#define HF_FACTS_DAMAGED_MOST 100

struct hf_facts_extra {
    const char *superuser; // borrowed; NULL: not known
    uint64_t logical_bytes;
};

HF_MUST_CHECK bool hf_facts_to_json(const struct hf_backup_facts *facts, const struct hf_page_faults *faults,
                                    const struct hf_facts_extra *extra, json_t **ret, struct hf_error *err);

/* The part of it that starting a copy needs.  Owner: the caller, hf_recovery_facts_done(). */
struct hf_recovery_facts {
    uint64_t system_identifier;
    uint32_t server_version_num; // 150020; its major version is this / 10000
    char server_version[64];
    uint64_t start_lsn, stop_lsn, wal_end_lsn;
    uint32_t timeline, stop_timeline;
    uint32_t wal_segment_bytes, block_bytes, segment_blocks;
    bool data_checksums;
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact;
    int64_t started_at, finished_at;
    int64_t wal_last_commit_at; // 0: none
    uint64_t bad_pages;
    char superuser[64]; // "" when not known
};
HF_MUST_CHECK bool hf_facts_from_json(const json_t *json, struct hf_recovery_facts *ret, struct hf_error *err);
