/*
 * query.h - asking a MariaDB server that is hostile: bounded answers, the server's refusals as values
 *
 * The restored server is asked by another process, which has no keys (asker/asker.h).  What reaches us is bytes: a row
 * and an answer have limits (asker/wire.h), a statement has a time, and nothing of an answer is believed beyond the
 * question asked.
 */
#pragma once
#include "server/verify/asker/asker.h"

/* What the server said when a statement failed. */
struct hf_mariadb_refusal {
    unsigned code;     // of the server, or of the library: 2000 and more
    bool broken;       // the connection is gone, or an answer was not one
    bool over_time;    // no answer within the time, which breaks the connection
    char message[256]; // printable, cut
};

/* timeout_ms is for connecting and for every wait for an answer. */
HF_MUST_CHECK bool hf_mariadb_connect(struct hf_asker *asker, uint64_t timeout_ms, struct hf_asker_conn **ret,
                                      struct hf_mariadb_refusal *refusal);

/* One row, as texts (NULL stays NULL), borrowed for the call.  Returning false stops reading. */
typedef bool hf_mariadb_row(void *context, char *const *values, const unsigned long *lengths, unsigned count);

/* Runs one statement.  False: the server refused it.  Rows go to `row`, which may be NULL. */
HF_MUST_CHECK bool hf_mariadb_run(struct hf_asker_conn *conn, const char *sql, hf_mariadb_row *row, void *context,
                                  struct hf_mariadb_refusal *refusal);
/* One number or one text; false also when there is no row, or NULL (code 0). */
HF_MUST_CHECK bool hf_mariadb_number(struct hf_asker_conn *conn, const char *sql, int64_t *ret,
                                     struct hf_mariadb_refusal *refusal);
HF_MUST_CHECK bool hf_mariadb_text(struct hf_asker_conn *conn, const char *sql, char *ret, size_t ret_bytes,
                                   struct hf_mariadb_refusal *refusal);
/* Adds a name in backticks, with those in it doubled: the only way a name of the copy gets into a statement. */
HF_MUST_CHECK bool hf_mariadb_add_name(struct hf_buf *sql, const char *name, struct hf_error *err);
