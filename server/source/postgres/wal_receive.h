/*
 * wal_receive.h - the log a base backup needs, received beside it
 *
 * A backup read from a running server is only whole with the log written meanwhile.  So before BASE_BACKUP
 * a second connection makes a temporary slot that keeps the log from then on, and from the backup's
 * start on a thread streams it: checked record by record, handed to the sink as whole segments.
 *
 *     open (slot) -> start (thread) -> finish (waits for the stop position) -> closep
 *
 * The slot is gone with its connection, so also when we are killed.  Keepalives are answered at once;
 * what is reported as flushed is what the caller says is on stable storage, and nothing without that.
 */
#pragma once
#include "server/source/source.h"
#include "server/source/postgres/clock.h"
#include "server/source/postgres/connection.h"

struct hf_wal_receiver_options {
    const struct hf_source_target *target;
    const struct hf_backup_sink *sink;
    struct hf_source_progress *progress;
    uint64_t system_identifier; // must be this one
    uint32_t segment_bytes;
    uint32_t silence_ms;
    const _Atomic uint64_t *stable; // see struct hf_backup_request; or NULL
};

struct hf_wal_received {
    uint64_t first_lsn; // start of the first segment
    uint64_t end_lsn;   // end of the last complete record
    uint64_t commits;
    int64_t last_commit_at;
    struct hf_server_clock clock;
    uint64_t segments, bytes;
    bool history_file; // of the timeline, where it is not the first
};

struct hf_wal_receiver;

/*
 * Connects and makes the slot.  Everything in `options` is borrowed until closep.
 * Errors: those of hf_postgres_connect; CONFLICT when no slot is free or it is another server; USAGE for wal_level.
 */
HF_MUST_CHECK bool hf_wal_receiver_open(const struct hf_wal_receiver_options *options, struct hf_wal_receiver **ret,
                                        struct hf_error *err);

/* Starts the thread at the start of the segment that holds `lsn`. */
HF_MUST_CHECK bool hf_wal_receiver_start(struct hf_wal_receiver *receiver, uint64_t lsn, uint32_t timeline,
                                         struct hf_error *err);

/* True once the thread has failed: the backup beside it looks at this while it waits. */
const atomic_bool *hf_wal_receiver_failed(const struct hf_wal_receiver *receiver);

/*
 * Waits until the log up to `stop_lsn` has come, at most wait_ms, hands the last segment (filled with zeros) to
 * the sink, ends the thread and drops the slot.
 * Errors: of the thread; UNAVAILABLE when the log did not come in time, or the timeline changed.
 */
HF_MUST_CHECK bool hf_wal_receiver_finish(struct hf_wal_receiver *receiver, uint64_t stop_lsn, uint32_t wait_ms,
                                          struct hf_wal_received *ret, struct hf_error *err);

/* Why the thread failed; NULL while it has not. */
const struct hf_error *hf_wal_receiver_error(struct hf_wal_receiver *receiver);

void hf_wal_receiver_closep(struct hf_wal_receiver **receiver);
