/*
 * connection.h - talking to a PostgreSQL server: connections, answers, and errors that say what to do
 *
 * No call here blocks for ever: everything waits in short steps, looks at a cancel flag in between, and
 * gives up after a silence.  A server's refusal becomes an error whose hint is the exact statement, line
 * or setting that mends it.
 */
#pragma once
#include <libpq-fe.h>
#include "server/source/source.h"

#define HF_POSTGRES_OLDEST 13
#define HF_POSTGRES_NEWEST 18

#define HF_POSTGRES_STREAM_NAME "holdfast_stream" // application_name of the stream, for synchronous_standby_names

enum hf_postgres_use {
    HF_POSTGRES_SQL,        // statements
    HF_POSTGRES_BACKUP,     // replication protocol: BASE_BACKUP
    HF_POSTGRES_BACKUP_WAL, // replication protocol: the log of a backup; never counts as a synchronous standby
    HF_POSTGRES_STREAM, // replication protocol: the archive's log, as HF_POSTGRES_STREAM_NAME if nothing else is said
};

/* How long to wait, and who may end it. */
struct hf_postgres_patience {
    const atomic_bool *cancel;      // a person; or NULL
    const atomic_bool *other_ended; // our other thread has failed: no use going on; or NULL
    uint32_t silence_ms;            // without a byte from the server; 0: for ever
};

/* CANCELLED when somebody wants an end, UNAVAILABLE when the server has been silent for too long. */
HF_MUST_CHECK bool hf_postgres_go_on(const struct hf_postgres_patience *patience, uint64_t silent_since_ns,
                                     const char *doing, struct hf_error *err);
/* Waits a short while for the socket (poll's events), and asks the above first. */
HF_MUST_CHECK bool hf_postgres_wait(int socket, short events, const struct hf_postgres_patience *patience,
                                    uint64_t silent_since_ns, const char *doing, struct hf_error *err);

/*
 * Connects and checks that the release is one we know.  Passwords come from target->password, else from
 * wherever libpq finds them (passfile, service, connection string, environment).
 * Owner of *ret: the caller, until hf_postgres_closep.
 * Errors: USAGE (connection string, too old, too new), DENIED (password, missing right, pg_hba.conf), CONFLICT (all
 * connections taken), UNAVAILABLE, CANCELLED.
 */
HF_MUST_CHECK bool hf_postgres_connect(const struct hf_source_target *target, enum hf_postgres_use use,
                                       const struct hf_postgres_patience *patience, PGconn **ret, struct hf_error *err);
/* The same, to another database of that server. */
HF_MUST_CHECK bool hf_postgres_connect_database(const struct hf_source_target *target, const char *database,
                                                const struct hf_postgres_patience *patience, PGconn **ret,
                                                struct hf_error *err);
void hf_postgres_closep(PGconn **conn);
void hf_postgres_clearp(PGresult **result);

uint32_t hf_postgres_major(const PGconn *conn);

/*
 * Runs one statement and returns its rows.  `doing` completes "could not ..." in the message.
 * Values are text; parameters too, NULL allowed.
 */
HF_MUST_CHECK bool hf_postgres_query(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                                     const char *sql, const char *const *values, int value_count, PGresult **ret,
                                     struct hf_error *err);
/* For the replication protocol, which knows no parameters: sends the command; answers come from hf_postgres_next. */
HF_MUST_CHECK bool hf_postgres_send(PGconn *conn, const char *doing, const char *command, struct hf_error *err);
/* The next answer, which must have the status `wanted`. */
HF_MUST_CHECK bool hf_postgres_next(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                                    ExecStatusType wanted, PGresult **ret, struct hf_error *err);
/* The next answer, whatever it is but an error. */
HF_MUST_CHECK bool hf_postgres_next_any(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                                        PGresult **ret, struct hf_error *err);
/* The end of a command: no further answer, or an error that came late. */
HF_MUST_CHECK bool hf_postgres_finish(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                                      struct hf_error *err);

/* What a result with an error says, as an error of ours.  Returns false. */
bool hf_postgres_fail_result(PGconn *conn, const PGresult *result, const char *doing, struct hf_error *err);
/* The same of its parts: SQLSTATE, message, and the server's hint or NULL. */
bool hf_postgres_fail_refused(PGconn *conn, const char *state, const char *words, const char *more, const char *doing,
                              struct hf_error *err);

/*
 * The next message of a COPY from the server.  *ret_length is -1 at its end, and *ret is NULL then.
 * With wait_ms >= 0 the call returns after that time with *ret NULL and *ret_length 0 when nothing came.
 * Owner of *ret: the caller, PQfreemem().
 */
HF_MUST_CHECK bool hf_postgres_copy_next(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                                         int wait_ms, char **ret, int *ret_length, struct hf_error *err);

struct hf_postgres_identity {
    uint64_t system_identifier;
    uint32_t timeline;
    uint64_t flushed_lsn;
};

/* Over the replication protocol.  CONFLICT when it is not the system that the target names. */
HF_MUST_CHECK bool hf_postgres_identify(PGconn *conn, const struct hf_source_target *target,
                                        const struct hf_postgres_patience *patience, struct hf_postgres_identity *ret,
                                        struct hf_error *err);

/* SHOW over the replication protocol: a setting as text, or as a number of bytes ("16MB"). */
HF_MUST_CHECK bool hf_postgres_show(PGconn *conn, const struct hf_postgres_patience *patience, const char *setting,
                                    char *ret, size_t size, struct hf_error *err);
HF_MUST_CHECK bool hf_postgres_show_bytes(PGconn *conn, const struct hf_postgres_patience *patience,
                                          const char *setting, uint64_t *ret, struct hf_error *err);

/* Fields of an answer, checked.  CORRUPT names `what`. */
HF_MUST_CHECK bool hf_postgres_field(const PGresult *result, int row, int column, const char *what, const char **ret,
                                     struct hf_error *err);
HF_MUST_CHECK bool hf_postgres_field_number(const PGresult *result, int row, int column, const char *what,
                                            uint64_t most, uint64_t *ret, struct hf_error *err);

/* Decimal digits and nothing else, at most `most`. */
bool hf_postgres_parse_number(const char *text, uint64_t most, uint64_t *ret);

/* A role or database as it stands in SQL and pg_hba.conf: quoted where it must be.  Cut at `size`. */
const char *hf_postgres_quote_name(const char *name, char *text, size_t size);

/* USAGE when a label holds anything but [A-Za-z0-9 ._:-], is empty or too long: it goes into a command as it is. */
HF_MUST_CHECK bool hf_postgres_check_label(const char *label, size_t most, struct hf_error *err);
/* USAGE when it is not [a-z0-9_]{1,32}. */
HF_MUST_CHECK bool hf_postgres_check_slot_tag(const char *tag, struct hf_error *err);
