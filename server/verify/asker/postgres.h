/*
 * postgres.h - for holdfast-ask alone: libpq, and a server that is hostile
 *
 * Nothing of an answer is believed beyond the question asked: rows and bytes are counted, notices are dropped, a copy that
 * nobody asked for ends the connection.
 */
#pragma once
#include <libpq-fe.h>
#include "server/verify/asker/wire.h"

/* One row, borrowed for the call.  False: it could not be handed on, which ends the question. */
typedef bool hf_direct_row(void *context, const struct hf_ask_cells *cells);

HF_MUST_CHECK bool hf_libpq_connect(const struct hf_ask_postgres *target, const char *folder, PGconn **ret,
                                    struct hf_ask_refusal *refusal);
HF_MUST_CHECK bool hf_libpq_run(PGconn *conn, const struct hf_ask_query *query, hf_direct_row *row, void *context,
                                struct hf_ask_refusal *refusal);
