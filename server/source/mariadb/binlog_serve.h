/*
 * binlog_serve.h - the archived binary log, served as a source serves its replicas
 *
 * A restored server replays the log with its own applier: it is told CHANGE MASTER, connects here, and gets the events
 * behind its own GTID position up to the target, no byte further.  So it stops exactly, and nothing is turned into
 * text.
 *
 *   plan   -> every byte of the range was read and every event checked; says what the copy must have at the end
 *   serve  -> handshake, the questions of a replica's I/O thread, COM_BINLOG_DUMP: events, then heartbeats until the
 *          end
 *
 * The replica asks over any stream socket that listens: TCP on the loopback of its own network namespace, since CHANGE
 * MASTER knows hosts and ports only.  For MariaDB: CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=...,
 * MASTER_USER= 'holdfast', MASTER_PASSWORD='...', MASTER_USE_GTID=slave_pos, after SET GLOBAL gtid_slave_pos to the
 * backup's position.  It is done when its gtid_slave_pos has all of plan.gtids.
 *
 * The password is checked (mysql_native_password); without one anybody who can connect gets the log.
 */
#pragma once
#include <stdatomic.h>
#include "base/secret.h"
#include "server/source/mariadb/binlog_archive.h"

enum hf_binlog_stop {
    HF_BINLOG_TO_END,     // of the archive's window
    HF_BINLOG_TO_TIME,    // all before the first transaction that committed later, as the log has them in order
    HF_BINLOG_AFTER_GTID, // this one is the last
    HF_BINLOG_BEFORE_GTID,
    HF_BINLOG_TO_FILE, // up to a position of a file of the server, as mysqlbinlog --stop-position: the first
                       // transaction that does not end at or before it is not served
};

struct hf_binlog_target {
    enum hf_binlog_stop stop;
    int64_t time_ms; // commit times are whole seconds in MariaDB: 12:00:05.900 takes in what committed in 12:00:05
    struct hf_gtid gtid;
    const char *file; // borrowed
    uint64_t file_position;
    int64_t start_known_ms; // when the copy was known to have its start, by the server's clock; 0: not known
    bool up_to_gap;         // to the end: what lies before a gap is taken, instead of refusing
};

/* Owner: the caller. */
struct hf_binlog_plan {
    struct hf_binlog_place from; // where reading begins, at or before the start
    struct hf_gtid_set start;    // transactions in it are not served
    uint64_t to;                 // position behind the last event that is served
    struct hf_gtid_set gtids;    // of a copy that applied all of it
    uint64_t transactions, bytes;
    int64_t first_commit_ms, last_commit_ms; // of those that are served; 0: none
    bool reaches_end;          // no transaction behind the target was seen: `to` is the end of the archive's window
    uint64_t gap_from, gap_to; // up_to_gap: why it ends there; 0: no gap
    bool with_statements;      // some changed data by statements: replayed they may do something else
};

/*
 * Reads the whole range and proves it (promise 4).  NOT_FOUND: the archive begins behind the start or ends before it,
 * or the target is not in it or not yet passed, with the nearest moments in the hint; USAGE: the target lies before the
 * start; CONFLICT: see hf_binlog_find_start(); CORRUPT: a gap in between or damaged bytes, named.
 */
HF_MUST_CHECK bool hf_binlog_plan_make(struct hf_archive *archive, const struct hf_timeline_path *path,
                                       const struct hf_gtid_set *start, const struct hf_binlog_target *target,
                                       struct hf_binlog_plan *ret, struct hf_error *err);
void hf_binlog_plan_done(struct hf_binlog_plan *plan);

/* Everything is borrowed.  Counts are written by the server's thread, read by any. */
struct hf_binlog_serving {
    struct hf_archive *archive; // of this thread alone while it serves
    const struct hf_timeline_path *path;
    const struct hf_binlog_plan *plan;
    const struct hf_secret *password; // NULL: none is asked for
    int listen_fd;
    uint32_t server_id; // ours, other than the replica's
    const atomic_bool *cancel;
    _Atomic uint64_t sent; // bytes of events; starts anew with each connection
    atomic_bool all_sent;  // the replica has been sent everything
};

/*
 * Serves replicas one after another until *cancel is set; true then.  A replica that leaves or asks for what it cannot
 * have is told so and may come again.  Errors: those of the archive, and of the listening socket.
 */
HF_MUST_CHECK bool hf_binlog_serve(struct hf_binlog_serving *serving, struct hf_error *err);

/* A socket that listens on 127.0.0.1 in the caller's network namespace, at a port that the system chose. */
HF_MUST_CHECK bool hf_binlog_listen(int *ret_fd, uint16_t *ret_port, struct hf_error *err);
