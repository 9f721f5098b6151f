/*
 * cluster.h - a real PostgreSQL cluster for one test, in its own folder, gone when the test program ends
 *
 * The server runs as the user `postgres` when the test runs as root (PostgreSQL refuses uid 0), else as
 * ourselves.  It listens on a socket in its own folder and, when asked, on a free TCP port of 127.0.0.1.
 * It is ready for backups: wal_level=replica, ten WAL senders, ten slots.  It does not wait for the disk
 * (fsync=off) unless a setting says otherwise.  Whatever goes wrong here fails the test that called.
 *
 *     struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true});
 *     PGconn *conn = hf_test_cluster_connect(cluster, NULL);
 *     hf_test_sql(conn, "CREATE TABLE patient (id int PRIMARY KEY)");
 */
#pragma once
#include <libpq-fe.h>
#include <sys/types.h>
#include "tests/support/test.h"
#include "base/process.h"

struct hf_test_cluster_options {
    unsigned version;            // major version, 0 for 15
    const char *locale;          // NULL: C.UTF-8; one that the host lacks is compiled for the test
    bool checksums;              // data checksums
    bool tcp;                    // also 127.0.0.1, at cluster->port
    const char *password;        // of the superuser `postgres`; NULL for none
    const char *hba;             // the whole pg_hba.conf; NULL: everyone is trusted, replication too
    const char *const *settings; // more lines of postgresql.conf, later wins; ends with NULL; may be NULL
    const char *const *initdb;   // more arguments of initdb; ends with NULL; may be NULL
};

struct hf_test_cluster {
    char folder[64];  // of the test: holds all below
    char data[96];    // the data directory
    char socket[64];  // the folder of the socket: what libpq calls the host
    char log[96];     // what the server wrote to stderr
    char locales[96]; // LOCPATH of the server, or ""
    char bin[64];     // the folder of initdb, postgres, pg_basebackup
    unsigned port;    // in the socket's name, and on 127.0.0.1 when asked
    unsigned version;
    char password[64];        // "" for none
    struct hf_process server; // NONE while stopped
};

/* Made, started, and taking connections.  Owner: this module; stopped and removed when the program ends. */
struct hf_test_cluster *hf_test_cluster_start(const struct hf_test_cluster_options *options);

/*
 * SIGINT: disconnects and writes a checkpoint; SIGQUIT: crashes politely; SIGKILL: crashes.  Stopped already is fine.
 */
void hf_test_cluster_stop(struct hf_test_cluster *cluster, int signal);
void hf_test_cluster_resume(struct hf_test_cluster *cluster); // starts it again after a stop
/* Adds one line to postgresql.conf; takes effect at the next start or reload. */
void hf_test_cluster_set(struct hf_test_cluster *cluster, const char *line);
void hf_test_cluster_reload(struct hf_test_cluster *cluster); // SIGHUP

/*
 * Encrypts from now on, with a certificate for "localhost" that it signed itself, whose path is put into `certificate`.
 */
void hf_test_cluster_encrypt(struct hf_test_cluster *cluster, char *certificate, size_t size);

/* A connection as `postgres` over the socket; database NULL for "postgres".  PQfinish() it. */
PGconn *hf_test_cluster_connect(const struct hf_test_cluster *cluster, const char *database);
/* The connection as text for code under test: host, port, user, dbname, password; more is put behind (may be NULL). */
const char *hf_test_cluster_conninfo(const struct hf_test_cluster *cluster, const char *more);

void hf_test_sql(PGconn *conn, const char *sql); // must succeed; answers are thrown away
const char *hf_test_sql_text(PGconn *conn,
                             const char *sql); // first cell of the answer; good until the next call; "" for NULL

/*
 * Runs one of PostgreSQL's programs as the server's user and returns its exit status; argv[0] is a bare
 * name such as "pg_basebackup".  PGHOST, PGPORT, PGUSER, PGDATABASE and PGPASSWORD name the cluster.
 */
int hf_test_cluster_run(const struct hf_test_cluster *cluster, const char *const *argv, struct hf_buf *output,
                        struct hf_buf *errors);

/* The account the servers of tests run as: `postgres`, or ourselves when not root. */
uid_t hf_test_server_uid(void);
gid_t hf_test_server_gid(void);
