/*
 * binlog_receive.h - the receiver of binary logs: a replica that keeps what it is sent
 *
 * On each connect it goes on at the archive's own end, by GTID, never at the server's.  A new archive begins with the
 * oldest log that the server has.
 *
 *   events of a transaction ─▶ gathered ─ its end ─▶ writer ─ fdatasync ─▶ acknowledged, if the server waits for us
 *
 * What can be in the way, and what is done:
 *   the log behind our end was purged     a gap with its GTIDs is recorded, and it goes on with the oldest there is
 *   the server lost its logs (RESET MASTER, rebuilt under the same id)   likewise, in a new timeline
 *   the server lacks transactions that we have (failover to one that was behind, errant GTIDs)   CONFLICT, nothing
 *   stored
 *   the server says that it lost events (INCIDENT)   a gap
 *   a long transaction was cut off and is sent again   a new timeline that leaves the old one where it was whole
 */
#pragma once
#include "server/source/mariadb/binlog_session.h"
#include "server/source/stream.h"

/* hf_source_engine.stream, for a server of that dialect.  target->stream_slot names us among its replicas. */
HF_MUST_CHECK bool hf_binlog_receive(const struct hf_stream_receive *request, enum hf_gtid_flavor flavor,
                                     hf_binlog_connector *connect, struct hf_error *err);
