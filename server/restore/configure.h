/*
 * configure.h - what a restored PostgreSQL directory needs to start on another host
 *
 * The data directory of many installations holds no configuration.  Restore puts a minimal working one in
 * where it is missing (sockets only, trust for nobody: the owner of the directory alone), never over a file that
 * came with the backup; what the source had lies beside it in holdfast_config/.  Tablespaces are folders inside
 * the directory, so a map that would make links to their old places goes (an empty one stays: the server's
 * manifest lists it).  Servers of August 2022 and later take folders in pg_tblspc for damage unless they are told
 * otherwise: then postgresql.auto.conf gets "allow_in_place_tablespaces = on", its one change.  A standby's backup
 * loses its standby.signal: a copy follows nobody.
 */
#pragma once
#include "server/restore/restore.h"

/* At least what the source had, or recovery of a copy that was a primary's refuses to go on. */
struct hf_restore_needs {
    uint32_t server_version_num; // 150020
    uint32_t max_connections, max_worker_processes, max_wal_senders, max_prepared_xacts, max_locks_per_xact;
};
HF_MUST_CHECK bool hf_restore_configure(struct hf_restore_plan *plan, const char *target,
                                        const struct hf_restore_needs *needs, struct hf_error *err);
