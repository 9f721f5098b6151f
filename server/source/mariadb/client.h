/*
 * client.h - talking to a MariaDB or MySQL server with Connector/C: connections, answers, errors that say what to do
 *
 * No call waits for ever: connecting, reading and writing have their limits.  Files of this host are never sent
 * (LOCAL INFILE is off), option files are not read, and a plugin for a way to log in is loaded only from the library's
 * own folder.
 */
#pragma once
#include <mysql.h>
#include "server/source/mariadb/flavour.h"
#include "server/source/mariadb/words.h"
#include "server/source/source.h"

#define HF_MARIADB_CELL_MOST (1024 * 1024) // bytes of one value that we read
#define HF_MARIADB_ROWS_MOST 100000

/*
 * As the target says, and checks that it is a server of that flavour and of a release we know.
 * Owner of *ret: the caller, hf_mariadb_client_closep.
 * Errors: USAGE (words, other server, too old), DENIED (password, account, TLS), CONFLICT (all connections taken),
 * UNAVAILABLE.
 */
HF_MUST_CHECK bool hf_mariadb_client_connect(const struct hf_flavour *flavour, const struct hf_source_target *target,
                                             MYSQL **ret, struct hf_error *err);
void hf_mariadb_client_closep(MYSQL **conn);
void hf_mariadb_rows_freep(MYSQL_RES **result);

uint32_t hf_mariadb_version(MYSQL *conn); // 101119, 80036

/* Runs one statement that gives rows, and fetches them all.  `doing` completes "could not ..." in the message. */
HF_MUST_CHECK bool hf_mariadb_query(MYSQL *conn, const char *doing, const char *sql, MYSQL_RES **ret,
                                    struct hf_error *err);
/* The first cell of the first row, cut at `size`; "" for NULL or no row. */
HF_MUST_CHECK bool hf_mariadb_ask(MYSQL *conn, const char *doing, const char *sql, char *ret, size_t size,
                                  struct hf_error *err);
/* A global variable; *ret_known false, and "", when this server has none of that name ([a-z_]). */
HF_MUST_CHECK bool hf_mariadb_variable(MYSQL *conn, const char *name, char *ret, size_t size, bool *ret_known,
                                       struct hf_error *err);

/* What the last failure of the connection means, as an error of ours.  Returns false. */
bool hf_mariadb_fail(MYSQL *conn, const char *doing, struct hf_error *err);
/* The account as the server knows it: 'holdfast'@'%'. */
HF_MUST_CHECK bool hf_mariadb_account(MYSQL *conn, char *ret, size_t size, struct hf_error *err);
