/*
 * apply.h - a restored MariaDB replays the archived binary log with its own applier, and stops exactly
 *
 * The log lies in its data directory as a relay log (server/source/mariadb/binlog_relay.h), so it talks to nobody and
 * runs at every level of the sandbox.  Its GTID position is set before anything is written; the applier keeps it in the
 * same transactions as the data, so that position and data agree whenever it is stopped.
 */
#pragma once
#include <stdatomic.h>
#include "sandbox/engine_mariadb.h"
#include "server/source/mariadb/binlog_relay.h"
#include "server/verify/mariadb/query.h"

struct hf_mariadb_apply {
    struct hf_asker_conn *conn;       // to a server that was started with settings.applies_relay_log
    const struct hf_gtid_set *start;  // what the copy has
    const struct hf_gtid_set *wanted; // what it has at the end, exactly
    uint64_t phase_ms;                // for all of it
    const atomic_bool *cancel;        // or NULL
};

/*
 * Errors: CORRUPT with the number of the server's error when it cannot apply a transaction, or ends at another
 * position; UNAVAILABLE when it went away or the time was up; CANCELLED.
 */
HF_MUST_CHECK bool hf_mariadb_apply(const struct hf_mariadb_apply *apply, struct hf_error *err);

/* Removes what lies in the folder for a replay, of which no server runs there. */
HF_MUST_CHECK bool hf_mariadb_apply_clean(const char *data, struct hf_error *err);

/* The GTID position of a backup by mariadb-backup, from its xtrabackup_binlog_info; NOT_FOUND: it has none. */
HF_MUST_CHECK bool hf_mariadb_backup_gtids(const char *data, struct hf_gtid_set *ret, struct hf_error *err);

/*
 * The whole of it on a prepared folder, which belongs to the spec's uid: the server is started in a sandbox, applies,
 * and is shut down in order; what it kept for the purpose is removed.  Of the spec engine, settings and data are set
 * here.
 */
HF_MUST_CHECK bool hf_mariadb_replay(const char *data, const struct hf_sandbox_spec *spec,
                                     const struct hf_mariadb_settings *settings, struct hf_mariadb_apply *apply,
                                     struct hf_error *err);
