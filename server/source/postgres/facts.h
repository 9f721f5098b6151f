/*
 * facts.h - what is known of a finished backup of PostgreSQL, and what of it is stored
 *
 * The stored facts (server/source/facts.h) have these members of PostgreSQL's own; LSNs are texts as it writes them
 * ("0/2000028"):
 *   system_identifier (text: it does not fit all JSON readers), wal_first_lsn, wal_end_lsn, timeline, stop_timeline,
 *   wal_segment_bytes, block_bytes, segment_blocks, data_checksums, wal_commits, wal_last_commit_at, max_connections,
 *   max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact, tablespaces [{oid, location}],
 *   server_clock_ahead_ms (what the server's clock showed more than this host's, measured; not there: not known)
 */
#pragma once
#include "server/source/facts.h"
#include "server/source/postgres/clock.h"

struct hf_postgres_tablespace {
    uint32_t oid;
    char *location;
};

/* LSNs as numbers; times in ms since 1970, by our clock. */
struct hf_postgres_facts {
    uint64_t system_identifier;
    uint32_t server_version; // 150020
    char server_version_text[64];
    uint64_t start_lsn, stop_lsn;
    uint32_t start_timeline, stop_timeline;
    uint64_t wal_first_lsn;     // the WAL kept with the backup begins here (a segment's start)
    uint64_t wal_end_lsn;       // end of the last complete record in it; at or after stop_lsn
    uint64_t wal_commits;       // commit records in it
    int64_t wal_last_commit_at; // newest of these, by the source's clock; 0 when there is none
    struct hf_server_clock clock;
    uint32_t wal_segment_bytes, block_bytes, segment_blocks;
    bool data_checksums;
    bool from_standby;
    uint32_t control_version, catalog_version;
    /* A standby made from this backup needs at least these (from pg_control). */
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact;
    char *backup_label;
    struct hf_postgres_tablespace *tablespaces;
    size_t tablespace_count;
    int64_t started_at, stopped_at;
    uint64_t files;          // with those of pg_wal and backup_manifest
    uint64_t bytes_received; // over the network, WAL included
    uint64_t manifest_files; // compared with what came, by name, size and CRC-32C
    char *notices;           // warnings of the server, cut at 8 KiB, "" when it was silent
};

void hf_postgres_facts_done(struct hf_postgres_facts *facts);

/* As every engine tells it.  Owner of *ret: the caller, hf_backup_facts_done(). */
HF_MUST_CHECK bool hf_postgres_facts_share(const struct hf_postgres_facts *facts, struct hf_backup_facts *ret,
                                           struct hf_error *err);

/* The part of the stored facts that starting a copy needs. */
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
    int64_t wal_last_commit_at;    // 0: none
    int64_t server_clock_ahead_ms; // 0 also when it was not measured
    uint64_t bad_pages;
    char superuser[64]; // "" when not known
};
HF_MUST_CHECK bool hf_facts_from_json(const json_t *json, struct hf_recovery_facts *ret, struct hf_error *err);
/* A moment of this host's clock during the backup, as the server's clock showed it: targets are times of that clock. */
int64_t hf_facts_server_time(const struct hf_recovery_facts *facts, int64_t at);
