/*
 * mariadb_server.h - a real MariaDB server in a throw-away folder, on a socket of its own, without a port
 */
#pragma once
#include <mysql.h>
#include <stdint.h>
#include <sys/types.h>
#include "server/source/source.h"

struct mariadb_server {
    char folder[200], socket[256]; // the socket is also what target.conninfo says here
    uint32_t server_id;
    char options[1024]; // words for its command line, separated by spaces
    pid_t pid;
};

/* False when this host has no MariaDB. */
bool mariadb_here(void);
/* Makes the data folder and starts it.  It is killed when the test's process ends. */
void mariadb_make(struct mariadb_server *server, const char *folder, uint32_t server_id, const char *options);
void mariadb_start(struct mariadb_server *server);
void mariadb_stop(struct mariadb_server *server); // in order
void mariadb_kill(struct mariadb_server *server); // as a crash
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
