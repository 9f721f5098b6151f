/*
 * mariadb.h - a real MariaDB server for one test, in its own folder, gone when the test program ends
 *
 * It runs as the user `mysql` when the test runs as root, else as ourselves, listens on a socket in its own folder
 * only, writes a binary log, and does not wait for the disk.  Its system tables are made by the server's own scripts,
 * without help and sys, which take seconds.  Whatever goes wrong here fails the test that called.
 *
 *     struct hf_test_mariadb *server = hf_test_mariadb_start(NULL);
 *     MYSQL *conn = hf_test_mariadb_connect(server->socket);
 *     hf_test_mysql(conn, "CREATE DATABASE clinic");
 */
#pragma once
#include <mysql.h>
#include <sys/types.h>
#include "tests/support/test.h"
#include "base/process.h"

struct hf_test_mariadb {
    char folder[64];          // of the test: holds all below
    char data[96];            // the data directory
    char socket[96];          // the socket itself
    char log[96];             // what the server wrote to stderr
    struct hf_process server; // NONE while stopped
    const char *const *more;  // borrowed from the caller of start
    bool is_copy;             // made by open: nothing but what a server needs
};

/* Made, started, and taking connections; `more` are arguments of the server, may be NULL, else ends with NULL. */
struct hf_test_mariadb *hf_test_mariadb_start(const char *const *more);
/* SIGTERM: shuts down; SIGKILL: crashes.  Stopped already is fine. */
void hf_test_mariadb_stop(struct hf_test_mariadb *server, int signal);
void hf_test_mariadb_resume(struct hf_test_mariadb *server);

/* A connection as root over a server's socket, which waits 30 s for an answer.  mysql_close() it. */
MYSQL *hf_test_mariadb_connect(const char *socket);
MYSQL *hf_test_mariadb_try_connect(const char *socket); // NULL when it cannot be reached
void hf_test_mysql(MYSQL *conn, const char *sql);       // must succeed; answers are thrown away
bool hf_test_mysql_try(MYSQL *conn, const char *sql);   // false: the server refuses or is gone
/* First cell of the answer; good until the next call; "" for NULL. */
const char *hf_test_mysql_text(MYSQL *conn, const char *sql);

/* mariadb-backup --backup into <target>, which belongs to us then. */
void hf_test_mariadb_backup(const struct hf_test_mariadb *server, const char *target);

/*
 * A plain server over a data directory that was restored, and may stand anywhere in the test's folders: it takes it
 * over, for its account, together with the way there.  Without a binary log.  It is stopped and resumed like any other.
 */
struct hf_test_mariadb *hf_test_mariadb_open(const char *data);

/* The account of servers that are not in a sandbox. */
uid_t hf_test_mariadb_uid(void);
gid_t hf_test_mariadb_gid(void);
