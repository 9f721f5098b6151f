/*
 * stream_slot.h - the permanent slot that keeps the log for a stream
 *
 * It is made by the receiver and by nobody else, and only while a stream is configured; it is dropped with the
 * source (promise 12).
 */
#pragma once
#include "server/source/postgres/connection.h"

struct hf_slot_state {
    bool in_recovery; // the server is a standby
    bool exists;
    bool active;          // somebody reads it
    bool lost;            // the server has invalidated it: nobody can read it any more
    int64_t kept_bytes;   // from there to the server's end
    int64_t left_bytes;   // it may still grow by; -1: without limit
    uint64_t restart_lsn; // the log is kept from here on; 0: from nowhere yet
};

/* CONFLICT when a slot of that name is a logical or a temporary one. */
HF_MUST_CHECK bool hf_stream_slot_look(const struct hf_source_target *target, const char *slot,
                                       const struct hf_postgres_patience *patience, struct hf_slot_state *ret,
                                       struct hf_error *err);
/* Drops it, if it is there.  CONFLICT while somebody uses it. */
HF_MUST_CHECK bool hf_stream_slot_release(const struct hf_source_target *target, bool *ret_dropped,
                                          struct hf_error *err);
/* Over a replication connection; keeps the log from the last checkpoint on.  `replace` drops the lost one first. */
HF_MUST_CHECK bool hf_stream_slot_make(PGconn *conn, const char *slot, bool replace,
                                       const struct hf_postgres_patience *patience, struct hf_error *err);
