/*
 * binlog_relay.h - the archived binary log as a relay log, for the applier of a restored server that talks to nobody
 *
 * A replica keeps what its source sent in relay logs, and its applier reads only those.  So a server in a sandbox that
 * has no network at all replays the archive when it finds it there: the events byte by byte, nothing turned into text,
 * and not one behind the target.  (binlog_serve.h is for replicas that can connect.)
 *
 *     <folder>/holdfast-relay.000001    0xfe "bin", the format description in force, then the plan's events
 *     <folder>/holdfast-relay.index     its name, in a line
 *
 * The server is told CHANGE MASTER TO ..., RELAY_LOG_FILE='holdfast-relay.000001', RELAY_LOG_POS=4 and START SLAVE
 * SQL_THREAD.  It has applied everything when its gtid_slave_pos has all of plan.gtids.
 */
#pragma once
#include "server/source/mariadb/binlog_serve.h"

#define HF_BINLOG_RELAY       "holdfast-relay"
#define HF_BINLOG_RELAY_FIRST HF_BINLOG_RELAY ".000001"
#define HF_BINLOG_RELAY_INDEX HF_BINLOG_RELAY ".index"

/*
 * Writes both files, which must not be there (CONFLICT); not synced: they are thrown away.  What start has of the plan
 * is left out.  Errors: those of the archive; NO_SPACE.
 */
HF_MUST_CHECK bool hf_binlog_write_relay(struct hf_archive *archive, const struct hf_timeline_path *path,
                                         const struct hf_binlog_plan *plan, const char *folder,
                                         const atomic_bool *cancel, uint64_t *ret_bytes, struct hf_error *err);
