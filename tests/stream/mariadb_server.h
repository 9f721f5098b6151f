/*
 * mariadb_server.h - a source of binary logs: a server of support/mariadb.h with a number and options of its own, which
 * can be stopped, killed and started again
 */
#pragma once
#include <stdint.h>
#include "server/source/source.h"
#include "tests/support/mariadb.h"

struct mariadb_server {
    struct hf_test_mariadb *server; // NULL: none was made
    char socket[96];                // the socket is also what target.conninfo says here
    char text[1024];                // the options, cut into words
    const char *words[40];
};

/* False when this host has no MariaDB. */
bool mariadb_here(void);
/* Makes and starts it, with words for its command line, separated by spaces.  It ends with the test's process. */
void mariadb_make(struct mariadb_server *server, uint32_t server_id, const char *options);
void mariadb_start(struct mariadb_server *server);
void mariadb_stop(struct mariadb_server *server); // in order
void mariadb_kill(struct mariadb_server *server); // as a crash; a server that is none is fine
MYSQL *mariadb_open(const struct mariadb_server *server);
/* NULL when it cannot be reached. */
MYSQL *mariadb_try_open(const struct mariadb_server *server);
void mariadb_sql(MYSQL *conn, const char *sql);
/* False when the server refuses or is gone. */
bool mariadb_try_sql(MYSQL *conn, const char *sql);
/* First cell of the last row, "" for none; in a ring of buffers. */
const char *mariadb_text(MYSQL *conn, const char *sql);
const char *mariadb_first(MYSQL *conn, const char *sql); // of the first row
/* The second cell of the first row: of SHOW ... LIKE. */
const char *mariadb_status(MYSQL *conn, const char *sql);
/* hf_binlog_connector: conninfo is a socket's path. */
bool mariadb_connector(const struct hf_source_target *target, MYSQL **ret, struct hf_error *err);
