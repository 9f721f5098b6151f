/*
 * stream_receive.h - the log of a server as it is written, into the archive
 *
 * A permanent slot keeps what we have not got, so that the log waits for us.  We take up at the archive's own end,
 * never at the server's current position, and acknowledge a record when it is checked and on the disk.
 *
 *   connect ─ identify: the same system? ─ slot ─ history files ─ where does the archive end on this server's path?
 *      ▲         │ no: CONFLICT                                       │
 *      │         ▼                                                    ▼
 *      │       stop                       START_REPLICATION, a little before the end; what we have must be the same
 *      │                                                              │
 *      └── end of a timeline, on the same connection ◀── log ─▶ check ─▶ journal ─▶ durable ─▶ acknowledge
 *                                                        │
 *      the server has removed what comes next: GAP with exact bounds, then from where the server has it again; a
 *      slot that says to keep it all the same is made anew
 *
 * The archive is ahead of a primary on its own timeline: that server was put back to an older state.  Its log
 * differs from ours where both have it: the same.  Both are refused, nothing is stored.
 */
#pragma once
#include "server/source/stream.h"

/* struct hf_source_engine says what these do. */
HF_MUST_CHECK bool hf_postgres_stream(const struct hf_stream_receive *request, struct hf_error *err);
HF_MUST_CHECK bool hf_postgres_stream_kept(const struct hf_source_target *target, struct hf_stream_kept *ret,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_postgres_stream_release(const struct hf_source_target *target, bool *ret_dropped,
                                              struct hf_error *err);
