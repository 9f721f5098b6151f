/*
 * binlog_session.h - one connection as a replica: asks what the server is, registers, is sent events, acknowledges
 *
 * What a replica says before it is sent anything: how its server id is, from where (GTIDs: @slave_connect_state, or
 * COM_BINLOG_DUMP_GTID with a set; else file and position), that it can take every event as it is written (MariaDB:
 * @mariadb_slave_capability 4) with the checksums of the file, how often it wants a heartbeat, and, when the server is
 * a semi-synchronous source, that it acknowledges.
 *
 * Acknowledgement: a packet of its own, sequence number 0: EF, u64 position behind the event, name of the file.  Events
 * of such a source begin with EF and a flag: 1, it waits.
 *
 * For MySQL the same steps are made as its manual and client library tell; no server of MySQL was at hand to try them.
 */
#pragma once
#include "server/source/mariadb/binlog_archive.h"
#include "server/source/mariadb/packet.h"
#include "server/source/source.h"

/* Connects as the target says.  Owner of *ret: the caller. */
typedef bool hf_binlog_connector(const struct hf_source_target *target, MYSQL **ret, struct hf_error *err);

/*
 * What the server says of its log.  Asked with nothing that waits for the log's lock (SHOW BINARY LOGS, SHOW MASTER
 * STATUS): a semi-synchronous source can hold it while it waits for us, and each would wait for the other for ever.
 */
struct hf_binlog_server {
    uint32_t server_id;
    struct hf_gtid_set logged; // everything that was ever logged there: gtid_binlog_pos, gtid_executed
    bool semi_sync;            // it is a semi-synchronous source
    bool by_gtid;              // MySQL: gtid_mode is ON; MariaDB: always
    /* The oldest file that is there: its name, its format description, and what was logged before it. */
    char first_file[HF_BINLOG_NAME_BYTES];
    struct hf_buf first_format;
    struct hf_gtid_set oldest;
};

struct hf_binlog_session {
    enum hf_gtid_flavor flavor;
    const struct hf_source_target *target; // borrowed
    const atomic_bool *cancel;             // borrowed
    uint32_t replica_id;                   // ours
    MYSQL *conn;
    struct hf_packets packets; // once it dumps
    bool dumping, semi_sync;
};

/* Our server id: the same for a stream always, drawn from the name of its slot; above 2^30. */
uint32_t hf_binlog_replica_id(const char *slot);

/* Connects.  `session` is filled in by the caller up to replica_id. */
HF_MUST_CHECK bool hf_binlog_session_open(struct hf_binlog_session *session, hf_binlog_connector *connect,
                                          struct hf_error *err);
void hf_binlog_session_close(struct hf_binlog_session *session);
/*
 * Before the dump.  Errors: USAGE when log_bin is off; DENIED for a right that is missing, with the GRANT.
 * Owner of *ret: hf_binlog_server_done().
 */
HF_MUST_CHECK bool hf_binlog_server_ask(struct hf_binlog_session *session, struct hf_binlog_server *ret,
                                        struct hf_error *err);
/* What it has logged by now, alone. */
HF_MUST_CHECK bool hf_binlog_logged_ask(struct hf_binlog_session *session, struct hf_gtid_set *ret,
                                        struct hf_error *err);
/*
 * What this log holds before a position of one of its files, "" where it does not know.  MariaDB only.  Must not be
 * asked once the session dumps.
 */
HF_MUST_CHECK bool hf_binlog_gtids_before(struct hf_binlog_session *session, const char *file, uint64_t position,
                                          struct hf_gtid_set *ret, struct hf_error *err);
/*
 * Looks at the head of the oldest file, as a replica that asks for no file by name is sent it.  The session is of no
 * other use after it.
 */
HF_MUST_CHECK bool hf_binlog_server_probe(struct hf_binlog_session *session, struct hf_binlog_server *server,
                                          struct hf_error *err);
/* Whether a semi-synchronous source still waits; it gives up after its timeout, and begins again when we catch up. */
HF_MUST_CHECK bool hf_binlog_semi_sync_status(struct hf_binlog_session *session, bool *ret_on, struct hf_error *err);
void hf_binlog_server_done(struct hf_binlog_server *server);

/* From this place on; by GTID, or by its file and position.  *ret_checksums: events have them. */
HF_MUST_CHECK bool hf_binlog_session_dump(struct hf_binlog_session *session, const struct hf_binlog_server *server,
                                          const struct hf_binlog_place *from, bool *ret_checksums,
                                          struct hf_error *err);
/*
 * The next event, if it has come; borrowed until the next call.  *ret_wants_answer: the server waits for our
 * acknowledgement.  Errors, as the server's words tell: NOT_FOUND, the log behind our place is not there any more;
 * CONFLICT, the server does not have our place (it lacks transactions, or another replica has our id); UNAVAILABLE.
 */
HF_MUST_CHECK bool hf_binlog_session_next(struct hf_binlog_session *session, bool *ret_got, const uint8_t **ret_data,
                                          size_t *ret_length, bool *ret_wants_answer, struct hf_error *err);
/* Everything up to this position of this file is durable (promise 2). */
HF_MUST_CHECK bool hf_binlog_session_acknowledge(struct hf_binlog_session *session, const char *file, uint64_t position,
                                                 struct hf_error *err);
