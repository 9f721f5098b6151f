/*
 * query.h - asking a MariaDB server that is hostile: bounded answers, the server's refusals as values
 *
 * The restored server answers over a socket in the sandbox's folder.  What it sends is bytes: a packet, a row and an
 * answer have limits, a statement has a time, no file of ours is ever sent to it, and nothing of an answer is believed
 * beyond the question asked.
 */
#pragma once
#include <mysql.h>
#include "base/buf.h"

#define HF_MARIADB_ROWS_MOST   1000000
#define HF_MARIADB_BYTES_MOST  (64 * HF_MIB) // of an answer
#define HF_MARIADB_PACKET_MOST (16 * HF_MIB)

/* What the server said when a statement failed. */
struct hf_mariadb_refusal {
    unsigned code;     // of the server, or of the library: 2000 and more
    bool broken;       // the connection is gone, or an answer was not one
    bool over_time;    // no answer within the time, which breaks the connection
    char message[256]; // printable, cut
};

/* Over the socket of a server in the sandbox; timeout_ms is for connecting and for every wait for an answer. */
HF_MUST_CHECK bool hf_mariadb_connect(const char *socket, uint64_t timeout_ms, MYSQL **ret,
                                      struct hf_mariadb_refusal *refusal);
void hf_mariadb_closep(MYSQL **conn);

/* One row, as texts (NULL stays NULL), borrowed for the call.  Returning false stops reading. */
typedef bool hf_mariadb_row(void *context, char *const *values, const unsigned long *lengths, unsigned count);

/* Runs one statement.  False: the server refused it.  Rows go to `row`, which may be NULL. */
HF_MUST_CHECK bool hf_mariadb_run(MYSQL *conn, const char *sql, hf_mariadb_row *row, void *context,
                                  struct hf_mariadb_refusal *refusal);
/* One number or one text; false also when there is no row, or NULL (code 0). */
HF_MUST_CHECK bool hf_mariadb_number(MYSQL *conn, const char *sql, int64_t *ret, struct hf_mariadb_refusal *refusal);
HF_MUST_CHECK bool hf_mariadb_text(MYSQL *conn, const char *sql, char *ret, size_t ret_bytes,
                                   struct hf_mariadb_refusal *refusal);
/* Adds a name in backticks, with those in it doubled: the only way a name of the copy gets into a statement. */
HF_MUST_CHECK bool hf_mariadb_add_name(struct hf_buf *sql, const char *name, struct hf_error *err);
