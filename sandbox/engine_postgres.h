/*
 * engine_postgres.h - PostgreSQL 13 to 18 as an engine of the sandbox
 *
 * The copy brings settings with it: postgresql.auto.conf in the data directory, settings of roles and databases in its
 * tables.  They name libraries to load and commands to run.  So our files replace its files, our command line beats
 * what is left of them, and the options of each connection beat what its roles and databases say.  Precedence, weakest
 * first: file, command line, database, role, connection.
 *
 * WAL comes without restore_command, for which a shell would be needed: standby mode reads what lies in pg_wal, or what
 * an upstream behind a Unix socket sends.
 */
#pragma once
#include "sandbox/sandbox.h"

#define HF_POSTGRES_LEAST 13
#define HF_POSTGRES_MOST  18
#define HF_POSTGRES_PORT  5432 // in the socket's name; there is no TCP

enum hf_postgres_target { // where recovery stops
    HF_POSTGRES_TO_END,   // nowhere: follows until it is promoted
    HF_POSTGRES_TO_IMMEDIATE,
    HF_POSTGRES_TO_TIME, // value: "2026-11-22 14:03:07.123+00"
    HF_POSTGRES_TO_LSN,  // "0/16B3748"
    HF_POSTGRES_TO_XID,
    HF_POSTGRES_TO_NAME, // of a restore point
};

enum hf_postgres_action { HF_POSTGRES_PAUSE, HF_POSTGRES_PROMOTE, HF_POSTGRES_SHUTDOWN }; // when it gets there

/* A folder outside of the data directory, such as a tablespace's; the copy's links must point at `inside`. */
struct hf_postgres_folder {
    const char *outside;
    const char *inside;
};

/* 0 and NULL mean the default that stands behind. */
struct hf_postgres_settings {
    unsigned major;
    const char *packages; // folder that holds unpacked packages, or trees named by their version; NULL: the host's /
    const char *locales;  // compiled locales besides the host's; NULL: none
    const struct hf_postgres_folder *folders;
    size_t folder_count;

    // At least what pg_control says of the primary, or hot standby refuses.
    unsigned max_connections;           // 100
    unsigned max_worker_processes;      // 8
    unsigned max_wal_senders;           // 10
    unsigned max_prepared_transactions; // 0
    unsigned max_locks_per_transaction; // 64
    uint64_t wal_segment_bytes;         // 16 MiB

    uint64_t shared_buffers_bytes; // 64 MiB
    bool durable;                  // wait for the disk; off for a copy that is thrown away
    const char *preload;           // shared_preload_libraries that the copy cannot start without; NULL: none

    enum hf_postgres_target target;
    const char *target_value;
    bool target_exclusive; // stop before it
    const char *timeline;  // "latest", "current" or a number; NULL: "latest"
    enum hf_postgres_action action;

    const char *upstream;      // host folder with the socket of an upstream; NULL: only what is in pg_wal
    unsigned upstream_port;    // in that socket's name; 5432
    const char *upstream_user; // "holdfast"

    const char *const *more; // "name=value", after all of ours; ends with NULL; NULL: none
};

/* Its settings are a struct hf_postgres_settings.  NOT_FOUND names the package when the version is not on this host. */
extern const struct hf_sandbox_engine hf_engine_postgres;

/*
 * Makes a restored data directory ready for its start, before it is given to the sandbox's uid: signal files of ours
 * only, an empty postgresql.auto.conf, no slots, no stale pid file.  backup_label and tablespace_map stay.
 */
HF_MUST_CHECK bool hf_postgres_prepare(const char *data, bool standby, struct hf_error *err);

/* Whether a server of that version is there; *ret_program (may be NULL) is its path, to be freed. */
HF_MUST_CHECK bool hf_postgres_find(unsigned major, const char *packages, char **ret_program, struct hf_error *err);
/*
 * Where it is: on this host (*ret_packages is NULL then), else in the first of `prefixes` that has it (borrowed from
 * there; the list ends with NULL and may be NULL).  The error speaks of the host.
 */
HF_MUST_CHECK bool hf_postgres_find_among(unsigned major, const char *const *prefixes, const char **ret_packages,
                                          struct hf_error *err);

/*
 * The "options" of every connection to a server in the sandbox: what roles and databases of the copy cannot override.
 * Nothing is preloaded, no event trigger fires, search_path is pg_catalog, a statement ends after an hour.
 */
const char *hf_postgres_connection_options(unsigned major);
