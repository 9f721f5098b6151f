/*
 * query.h - asking a server that is hostile: bounded answers, the server's refusals as values
 *
 * The restored server is asked by another process, which has no keys (asker/asker.h); what reaches us is bytes: at most
 * so many rows and bytes (asker/wire.h), and nothing of it is believed beyond the question asked.
 */
#pragma once
#include "server/verify/asker/asker.h"

struct hf_query_target {
    struct hf_asker *asker; // who asks
    const char *folder;     // of the socket: for those who are told where it is
    unsigned port;
    const char *user;
    const char *options; // startup options: what roles and databases of the copy cannot override
};

/* What the server said when a statement failed. */
struct hf_query_refusal {
    char state[6];     // SQLSTATE; "" when the connection broke
    char message[400]; // its primary message, printable, cut
};

/* UNAVAILABLE with the server's words.  timeout_s: of connecting. */
HF_MUST_CHECK bool hf_query_connect(const struct hf_query_target *target, const char *database, int timeout_s,
                                    struct hf_asker_conn **ret, struct hf_error *err);
/* Whether it was a server that refused a connection, and not that none was there any more. */
bool hf_query_was_answered(const char *message);
/* Whether the words of a server that refuses tell of this host (locales, libraries, room), not of the data. */
bool hf_query_is_of_host(const char *message);

/* One row, as texts (NULL stays NULL), borrowed for the call.  Returning false stops reading. */
typedef bool hf_query_row(void *context, char *const *values, int count);

/*
 * Runs one statement.  False: the server refused it; *refusal says how.  Rows go to `row`, which may be
 * NULL.  parameters are texts.
 */
HF_MUST_CHECK bool hf_query_run(struct hf_asker_conn *conn, const char *sql, const char *const *parameters,
                                int parameter_count, hf_query_row *row, void *context,
                                struct hf_query_refusal *refusal);
/* One number or one text; false also when there is no row, or NULL (state "02000"). */
HF_MUST_CHECK bool hf_query_number(struct hf_asker_conn *conn, const char *sql, const char *const *parameters,
                                   int parameter_count, int64_t *ret, struct hf_query_refusal *refusal);
HF_MUST_CHECK bool hf_query_text(struct hf_asker_conn *conn, const char *sql, const char *const *parameters,
                                 int parameter_count, char *ret, size_t ret_bytes, struct hf_query_refusal *refusal);
