/*
 * asker.h - the process that asks a copy: without keys, without files, in a sandbox of its own
 *
 * The server of a restored copy is a stranger's (promise 8), and what it answers is parsed by libraries that had faults
 * before: libpq, Connector/C.  The worker of a verification holds the vault's keys.  So it never speaks with the copy:
 * `holdfast-ask` does, behind the walls that the copy itself has (sandbox.h), with a uid of its own where root or a
 * runner can give one, with nothing of the host in sight but the socket of the copy; what it hears reaches the worker
 * as the few frames of wire.h, bounded.
 *
 *     worker (keys) <-- wire.h --> holdfast-ask, one process a connection <-- libpq, Connector/C --> the copy's server
 *
 * Whoever takes it over can lie about the copy, as the copy itself can, and reach nothing else.
 */
#pragma once
#include "sandbox/sandbox.h"
#include "server/verify/asker/wire.h"

struct hf_asker;
struct hf_asker_conn; // one connection to the copy's server

/*
 * Starts it for a copy that was started with `like`: with that one's level, owner's group, runner and time; `socket` is
 * hf_sandbox_socket_path() of the copy.  To be called from the thread that lives as long as it, as hf_sandbox_start().
 * Errors: those of hf_sandbox_start(); NOT_FOUND when holdfast-ask is not installed.
 */
HF_MUST_CHECK bool hf_asker_start(const struct hf_sandbox_spec *like, const char *socket, struct hf_asker **ret,
                                  struct hf_error *err);
void hf_asker_freep(struct hf_asker **asker);
/* Ends it at once; from any thread.  Those who wait for its answers hear that it is gone. */
void hf_asker_kill(struct hf_asker *asker);
/* How it ended, or RUNNING; and its report, as hf_sandbox_report(). */
enum hf_sandbox_end hf_asker_end(struct hf_asker *asker);
HF_MUST_CHECK bool hf_asker_report(struct hf_asker *asker, json_t **ret, struct hf_error *err);

/*
 * Connections, each for one thread at a time.  False: the server refused, or nobody is there to ask (broken).
 * hf_asker_conn_freep accepts NULL.
 */
HF_MUST_CHECK bool hf_asker_connect_postgres(struct hf_asker *asker, const struct hf_ask_postgres *target,
                                             struct hf_asker_conn **ret, struct hf_ask_refusal *refusal);
HF_MUST_CHECK bool hf_asker_connect_mariadb(struct hf_asker *asker, uint64_t timeout_ms, struct hf_asker_conn **ret,
                                            struct hf_ask_refusal *refusal);
void hf_asker_conn_freep(struct hf_asker_conn **conn);
uint32_t hf_asker_conn_version(const struct hf_asker_conn *conn);
bool hf_asker_conn_is_open(const struct hf_asker_conn *conn); // false once an answer said that it is gone

/* One row, borrowed for the call.  Returning false: no further row is wanted; the answer is heard to its end. */
typedef bool hf_asker_row(void *context, const struct hf_ask_cells *cells);

/* Asks one statement; rows go to `row`, which may be NULL. */
HF_MUST_CHECK bool hf_asker_ask(struct hf_asker_conn *conn, const struct hf_ask_query *query, hf_asker_row *row,
                                void *context, struct hf_ask_refusal *refusal);
