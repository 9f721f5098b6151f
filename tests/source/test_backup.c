/* Backups of real clusters into a folder: what arrives is what was there, and a server starts from it. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "server/source/postgres/facts.h"
#include "server/source/postgres/leftovers.h"
#include "server/source/postgres/page_check.h"
#include "server/source/postgres/wal_format.h"
#include "tests/source/folder_sink.h"
#include "tests/support/cluster.h"

static const char *const quiet[] = {"autovacuum = off", NULL};

static void fill(struct hf_test_cluster *cluster);
static void must_verify(const struct hf_test_cluster *cluster, const struct hf_test_folder_sink *sink);
static void must_equal_data(const struct hf_test_cluster *cluster, const struct hf_test_folder_sink *sink);
static bool may_differ(const char *path);
static void must_equal_file(const char *left, const char *right, const char *path);
static size_t compare_folder(const char *left, const char *right, const char *path);
static void hand_over(const char *folder);
static struct hf_test_cluster *start_copy(const struct hf_test_cluster *cluster,
                                          const struct hf_test_folder_sink *sink);
static const struct hf_page_fault *fault_in(const struct hf_test_folder_sink *sink, const char *path);
static size_t slots_left(const struct hf_test_cluster *cluster);
static void put_relation(const struct hf_test_cluster *cluster, const char *name, uint32_t first_block, size_t pages,
                         uint32_t lsn_high, bool damage_last);

HF_TEST(an_idle_cluster_arrives_byte_for_byte)
{
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true, .settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    fill(cluster);
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    hf_test_cluster_stop(cluster, SIGKILL); // no shutdown checkpoint: the files stay as the backup saw them

    must_equal_data(cluster, sink);
    assert_true(facts.start_lsn < facts.stop_lsn && facts.stop_lsn <= facts.wal_end_lsn);
    assert_int_equal(facts.start_timeline, 1);
    assert_int_equal(facts.stop_timeline, 1);
    assert_int_equal(facts.server_version / 10000, 15);
    assert_true(facts.data_checksums);
    assert_false(facts.from_standby);
    assert_int_equal(facts.segment_blocks, 131072);
    assert_int_equal(facts.wal_segment_bytes, 16 * HF_MIB);
    assert_int_equal(facts.max_wal_senders, 10);
    assert_int_equal(facts.max_connections, 40);
    assert_int_equal(facts.control_version, 1300);
    assert_non_null(strstr(facts.backup_label, "LABEL: holdfast test\n"));
    assert_int_equal(facts.manifest_files, sink->files - sink->wal_files - 1);
    assert_int_equal(facts.files, sink->files);
    assert_true(facts.bytes_received > 20 * HF_MIB);
    assert_true(atomic_load(&sink->progress.total) > 20 * HF_MIB);
    assert_int_equal(sink->faults.bad + sink->faults.pending, 0);
    assert_true(atomic_load(&sink->faults.pages) > 2000);
    hf_postgres_facts_done(&facts);
}

HF_TEST(postgresqls_own_verifier_accepts_the_folder)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    fill(cluster);
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    must_verify(cluster, sink);
    assert_false(facts.data_checksums);
    hf_postgres_facts_done(&facts);
}

HF_TEST(an_encrypted_connection_brings_the_same)
{
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.tcp = true, .settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;
    char certificate[160], conninfo[400];

    hf_test_cluster_encrypt(cluster, certificate, sizeof certificate);
    fill(cluster);
    snprintf(conninfo, sizeof conninfo,
             "host=localhost hostaddr=127.0.0.1 port=%u user=postgres sslmode=verify-full sslrootcert=%s",
             cluster->port, certificate);
    hf_assert_ok(hf_test_take_backup(conninfo, 0, sink, &facts, &err), &err);
    hf_test_cluster_stop(cluster, SIGKILL);
    must_equal_data(cluster, sink);
    hf_postgres_facts_done(&facts);
}

HF_TEST(nothing_is_left_on_the_source)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    assert_int_equal(slots_left(cluster), 0); // at once: the slot was dropped before the backup returned
    hf_postgres_facts_done(&facts);
}

HF_TEST(a_copy_taken_under_load_recovers_to_its_end)
{
    const char *const small_wal[] = {"autovacuum_naptime = 1s", "max_wal_size = 64MB", "min_wal_size = 5MB", NULL};
    const char *const initdb[] = {"--wal-segsize=1", NULL};
    struct hf_test_cluster *cluster = hf_test_cluster_start(
        &(struct hf_test_cluster_options){.checksums = true, .settings = small_wal, .initdb = initdb});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    const char *const init[] = {"pgbench", "-i", "-s", "5", "-q", NULL};
    assert_int_equal(hf_test_cluster_run(cluster, init, NULL, NULL), 0);
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    hf_test_sql(conn,
                "CREATE TABLE ledger (n bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), pad text "
                "DEFAULT repeat('x', 500))");
    hf_test_sql(conn, "CREATE UNLOGGED TABLE scratch AS SELECT generate_series(1, 1000) AS n");

    // Rows keep coming while the backup runs, slowly enough to spread over many log segments.
    pid_t writer = fork();
    if (writer == 0) {
        PGconn *own = hf_test_cluster_connect(cluster, NULL);
        for (;;) {
            PQclear(PQexec(own, "INSERT INTO ledger SELECT FROM generate_series(1, 200)"));
            PQclear(PQexec(own, "UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid % 97 = random() * 97"));
        }
    }
    sink->slow_us = 500;
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    kill(writer, SIGKILL);
    PQfinish(conn);

    assert_true(sink->wal_files > 3);
    assert_int_equal(sink->most_open, 2);
    assert_int_equal(facts.wal_segment_bytes, HF_MIB);
    assert_true(facts.wal_commits > 10);
    assert_true(facts.wal_last_commit_at > facts.started_at - 60000 &&
                facts.wal_last_commit_at < facts.stopped_at + 60000);
    assert_int_equal(sink->faults.bad, 0);
    must_verify(cluster, sink);

    hf_postgres_facts_done(&facts);

    struct hf_test_cluster *copy = start_copy(cluster, sink);
    conn = hf_test_cluster_connect(copy, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM pgbench_accounts"), "500000");
    assert_string_equal(hf_test_sql_text(conn, "SELECT max(n) = count(*) OR max(n) > 200 FROM ledger"), "t");
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM scratch"), "0"); // unlogged: empty after recovery
    hf_test_sql(conn, "CREATE EXTENSION amcheck");
    hf_test_sql(conn, "SELECT bt_index_check(oid, true) FROM pg_class WHERE relkind = 'i' AND relam = 403 AND "
                      "relpersistence = 'p'");
    PQfinish(conn);
}

HF_TEST(tablespaces_with_odd_locations_arrive_whole)
{
    static const char *const odd[] = {"plain",   "with space",  "equals=sign", "double\"quote",
                                      "ünïcode", "back\\slash", "new\nline"};
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    struct hf_postgres_facts facts;
    struct hf_error err;
    char location[256], sql[1024];

    for (size_t i = 0; i < HF_LENGTH(odd); i++) {
        snprintf(location, sizeof location, "%s/%s", cluster->folder, odd[i]);
        assert_int_equal(mkdir(location, 0700), 0);
        assert_int_equal(chown(location, hf_test_server_uid(), hf_test_server_gid()), 0);
        char *quoted = PQescapeLiteral(conn, location, strlen(location));
        snprintf(sql, sizeof sql, "CREATE TABLESPACE space%zu LOCATION %s", i, quoted);
        PQfreemem(quoted);
        hf_test_sql(conn, sql);
        snprintf(sql, sizeof sql, "CREATE TABLE moved%zu TABLESPACE space%zu AS SELECT generate_series(1, 10000) AS n",
                 i, i);
        hf_test_sql(conn, sql);
    }
    hf_test_sql(conn, "CHECKPOINT");
    PQfinish(conn);

    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    assert_int_equal(sink->links, HF_LENGTH(odd));
    assert_int_equal(facts.tablespace_count, HF_LENGTH(odd));
    for (size_t i = 0; i < HF_LENGTH(odd); i++) {
        bool found = false;
        snprintf(location, sizeof location, "%s/%s", cluster->folder, odd[i]);
        for (size_t j = 0; j < facts.tablespace_count; j++)
            found = found || strcmp(facts.tablespaces[j].location, location) == 0;
        assert_true(found);
    }
    must_verify(cluster, sink);
    hf_test_cluster_stop(cluster, SIGKILL);
    must_equal_data(cluster, sink);
    hf_postgres_facts_done(&facts);
}

HF_TEST(a_standby_on_a_later_timeline_is_backed_up_with_its_history)
{
    struct hf_test_cluster *primary = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *first = hf_test_folder_sink_new(), *second = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    fill(primary);
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(primary, NULL), 0, first, &facts, &err), &err);
    uint64_t identifier = facts.system_identifier;
    hf_postgres_facts_done(&facts);
    struct hf_test_cluster *copy = start_copy(primary, first);
    hf_test_cluster_stop(copy, SIGINT);
    char path[160];
    snprintf(path, sizeof path, "%s/standby.signal", copy->data);
    hf_assert_ok(hf_file_publish(path, "", 0, 0644, HF_PUBLISH_REPLACE, &err), &err);
    hf_test_cluster_resume(copy);
    PGconn *conn = hf_test_cluster_connect(copy, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SELECT pg_is_in_recovery()"), "t");
    assert_string_equal(hf_test_sql_text(conn, "SELECT pg_promote()"), "t");
    hf_test_sql(conn, "CREATE TABLE after_promotion AS SELECT 1 AS n");
    hf_test_sql(conn, "CHECKPOINT");
    PQfinish(conn);

    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(copy, NULL), identifier, second, &facts, &err), &err);
    assert_true(facts.start_timeline > 1);
    snprintf(path, sizeof path, "pg_wal/%08X.history", facts.start_timeline);
    assert_non_null(hf_test_folder_sink_find(second, path));
    must_verify(copy, second);
    hf_postgres_facts_done(&facts);
}

HF_TEST(a_running_standby_is_a_source_too)
{
    struct hf_test_cluster *primary = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *first = hf_test_folder_sink_new(), *second = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;
    char path[160], line[512];

    fill(primary);
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(primary, NULL), 0, first, &facts, &err), &err);
    uint64_t identifier = facts.system_identifier;
    hf_postgres_facts_done(&facts);
    struct hf_test_cluster *standby = start_copy(primary, first);
    hf_test_cluster_stop(standby, SIGKILL);
    // Back to what the backup was: the first start has left recovery.
    hf_assert_ok(hf_dir_remove_tree(standby->data, &err), &err);
    struct hf_test_folder_sink *again = hf_test_folder_sink_new();
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(primary, NULL), 0, again, &facts, &err), &err);
    hf_postgres_facts_done(&facts);
    assert_int_equal(rename(again->folder, standby->data), 0);
    hand_over(standby->data);
    snprintf(path, sizeof path, "%s/standby.signal", standby->data);
    hf_assert_ok(hf_file_publish(path, "", 0, 0644, HF_PUBLISH_REPLACE, &err), &err);
    snprintf(line, sizeof line,
             "port = %u\nunix_socket_directories = '%s'\nprimary_conninfo = 'host=%s port=%u user=postgres'",
             standby->port, standby->socket, primary->socket, primary->port);
    hf_test_cluster_set(standby, line);
    hf_test_cluster_resume(standby);

    PGconn *conn = hf_test_cluster_connect(primary, NULL);
    hf_test_sql(conn, "CREATE TABLE streamed AS SELECT generate_series(1, 1000) AS n");
    hf_test_sql(conn, "CHECKPOINT");
    char lsn[64];
    snprintf(lsn, sizeof lsn, "%s", hf_test_sql_text(conn, "SELECT pg_current_wal_lsn()"));
    PGconn *there = hf_test_cluster_connect(standby, NULL);
    snprintf(line, sizeof line, "SELECT coalesce(pg_last_wal_replay_lsn() >= '%s', false)", lsn);
    for (int i = 0; i < 300 && strcmp(hf_test_sql_text(there, line), "t") != 0; i++)
        usleep(100000);

    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(standby, NULL), identifier, second, &facts, &err), &err);
    assert_true(facts.from_standby);
    must_verify(standby, second);
    hf_postgres_facts_done(&facts);
    PQfinish(conn);
    PQfinish(there);
}

HF_TEST(damaged_pages_are_named_and_the_backup_is_kept)
{
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true, .settings = quiet});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    fill(cluster);
    // Second segments of relations nobody refers to, so that the block number of their pages matters.
    put_relation(cluster, "base/1/99999.1", 131072, 5, 0, false);
    put_relation(cluster, "base/1/99998.2", 2 * 131072, 3, 0, true);
    // A page that says it was written long after the backup's end: that is damage too, and not to be repaired.
    put_relation(cluster, "base/1/99997", 0, 2, 0x7fffffff, true);

    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    assert_int_equal(sink->faults.bad, 2);
    assert_int_equal(sink->faults.pending, 0);
    const struct hf_page_fault *second = fault_in(sink, "base/1/99998.2"), *future = fault_in(sink, "base/1/99997");
    assert_int_equal(second->block, 2 * 131072 + 2);
    assert_int_equal(second->verdict, HF_PAGE_BAD);
    assert_int_equal(future->block, 1);
    assert_int_equal(future->lsn >> 32, 0x7fffffff);
    assert_int_equal(future->verdict, HF_PAGE_BAD);

    _cleanup_(hf_json_freep) json_t *stored = NULL;
    struct hf_backup_facts shared;
    hf_assert_ok(hf_postgres_facts_share(&facts, &shared, &err), &err);
    hf_assert_ok(
        hf_facts_to_json(&shared, &sink->faults, &(struct hf_facts_extra){.engine = "postgresql"}, &stored, &err),
        &err);
    hf_backup_facts_done(&shared);
    assert_int_equal(json_integer_value(json_object_get(stored, "bad_pages")), 2);
    json_t *fault = json_array_get(json_object_get(stored, "damaged"), 0);
    assert_string_equal(json_string_value(json_object_get(fault, "path")), sink->faults.items[0].path);
    assert_string_equal(json_string_value(json_object_get(fault, "verdict")), "bad");
    hf_postgres_facts_done(&facts);
}

HF_TEST(foreign_files_in_the_data_directory_are_taken_or_refused_by_name)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = quiet});
    struct hf_test_folder_sink *taken = hf_test_folder_sink_new(), *refused = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;
    char path[160];

    snprintf(path, sizeof path, "%s/caf\xe9 notes", cluster->data); // not UTF-8
    hf_assert_ok(hf_file_publish(path, "kept", 4, 0644, HF_PUBLISH_REPLACE, &err), &err);
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, taken, &facts, &err), &err);
    assert_int_equal(hf_test_folder_sink_find(taken, "caf\xe9 notes")->digest.size, 4);
    hf_postgres_facts_done(&facts);

    snprintf(path, sizeof path, "%s/line\nend", cluster->data);
    hf_assert_ok(hf_file_publish(path, "no", 2, 0644, HF_PUBLISH_REPLACE, &err), &err);
    assert_false(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, refused, &facts, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "line\nend"));
}

static void
fill(struct hf_test_cluster *cluster)
{
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    hf_test_sql(conn, "CREATE TABLE patient (id int PRIMARY KEY, name text, notes text)");
    hf_test_sql(
        conn, "INSERT INTO patient SELECT n, md5(n::text), repeat(md5(n::text), 20) FROM generate_series(1, 20000) n");
    hf_test_sql(conn, "CREATE INDEX ON patient (name)");
    hf_test_sql(conn, "CREATE UNLOGGED TABLE session AS SELECT generate_series(1, 5000) AS n");
    hf_test_sql(conn, "CREATE DATABASE \" #odd=[name\"");
    hf_test_sql(conn, "VACUUM FREEZE");
    hf_test_sql(conn, "CHECKPOINT");
    PQfinish(conn);
}

static void
must_verify(const struct hf_test_cluster *cluster, const struct hf_test_folder_sink *sink)
{
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB), errors = HF_BUF_INIT(HF_MIB);
    char folder[64];

    snprintf(folder, sizeof folder, "%.*s", (int)(strlen(sink->folder) - strlen("/backup")), sink->folder);
    hand_over(folder);
    const char *const argv[] = {"pg_verifybackup", sink->folder, NULL};
    int status = hf_test_cluster_run(cluster, argv, &output, &errors);
    if (status != 0)
        fail_msg("pg_verifybackup: %s%s", hf_buf_text(&output), hf_buf_text(&errors));
}

/* Everything in the data directory came, but what PostgreSQL leaves out; and came as it is. */
static void
must_equal_data(const struct hf_test_cluster *cluster, const struct hf_test_folder_sink *sink)
{
    assert_true(compare_folder(cluster->data, sink->folder, "") > 900);
}

static size_t
compare_folder(const char *left, const char *right, const char *path)
{
    char full[1024], deeper[2048], other[1024];
    size_t compared = 0;

    snprintf(full, sizeof full, "%s/%s", left, path);
    DIR *folder = opendir(full);
    assert_non_null(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(deeper, sizeof deeper, "%s%s%s", path, path[0] == '\0' ? "" : "/", entry->d_name);
        struct stat status;
        snprintf(full, sizeof full, "%s/%.900s", left, deeper);
        assert_int_equal(stat(full, &status), 0);
        if (strcmp(entry->d_name, "pgsql_tmp") == 0)
            continue;
        if (S_ISDIR(status.st_mode)) {
            snprintf(other, sizeof other, "%s/%.900s", right, deeper);
            if (access(other, F_OK) != 0)
                fail_msg("the folder \"%s\" did not come", deeper);
            compared += compare_folder(left, right, deeper);
        } else if (!may_differ(deeper)) {
            must_equal_file(left, right, deeper);
            compared++;
        }
    }
    closedir(folder);
    return compared;
}

/* What is not sent, or is written by the backup itself. */
static bool
may_differ(const char *path)
{
    static const char *const prefixes[] = {"pg_wal/",     "pg_replslot/",      "pg_dynshmem/", "pg_notify/",
                                           "pg_serial/",  "pg_snapshots/",     "pg_stat_tmp/", "pg_subtrans/",
                                           "postmaster.", "global/pg_control", "pg_stat/",     "pg_logical/"};
    for (size_t i = 0; i < HF_LENGTH(prefixes); i++)
        if (strncmp(path, prefixes[i], strlen(prefixes[i])) == 0)
            return true;
    return strstr(path, "pg_internal.init") != NULL;
}

/* Of an unlogged relation only the init fork comes. */
static void
must_equal_file(const char *left, const char *right, const char *path)
{
    _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(64 * HF_MIB), b = HF_BUF_INIT(64 * HF_MIB);
    char name[1024];
    struct hf_error err;

    snprintf(name, sizeof name, "%s/%.900s", left, path);
    hf_assert_ok(hf_file_read(name, &a, &err), &err);
    snprintf(name, sizeof name, "%s/%.*s_init", left, (int)strcspn(path, "_"), path);
    bool unlogged = strstr(path, "_init") == NULL && access(name, F_OK) == 0;
    snprintf(name, sizeof name, "%s/%.900s", right, path);
    if (unlogged) {
        assert_int_not_equal(access(name, F_OK), 0);
        return;
    }
    hf_assert_ok(hf_file_read(name, &b, &err), &err);
    if (a.length != b.length || memcmp(a.data, b.data, a.length) != 0)
        fail_msg("\"%s\" came out different", path);
}

/* The whole folder belongs to the server's account. */
static void
hand_over(const char *folder)
{
    char user[32];
    snprintf(user, sizeof user, "%u:%u", hf_test_server_uid(), hf_test_server_gid());
    const char *const argv[] = {"chown", "-R", "-h", user, folder, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
}

/* A cluster whose data is the backup, started and out of recovery. */
static struct hf_test_cluster *
start_copy(const struct hf_test_cluster *cluster, const struct hf_test_folder_sink *sink)
{
    struct hf_test_cluster *copy =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.version = cluster->version});
    struct hf_error err;
    char line[512];

    hf_test_cluster_stop(copy, SIGINT);
    hf_assert_ok(hf_dir_remove_tree(copy->data, &err), &err);
    assert_int_equal(rename(sink->folder, copy->data), 0);
    hand_over(copy->data);
    snprintf(line, sizeof line, "port = %u\nunix_socket_directories = '%s'", copy->port, copy->socket);
    hf_test_cluster_set(copy, line);
    hf_test_cluster_resume(copy);
    return copy;
}

static const struct hf_page_fault *
fault_in(const struct hf_test_folder_sink *sink, const char *path)
{
    for (size_t i = 0; i < sink->faults.count; i++)
        if (strcmp(sink->faults.items[i].path, path) == 0)
            return &sink->faults.items[i];
    fail_msg("no fault was found in \"%s\"", path);
    return NULL;
}

static size_t
slots_left(const struct hf_test_cluster *cluster)
{
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(cluster, NULL), .slot_tag = HF_TEST_SLOT_TAG};
    struct hf_leftovers leftovers;
    struct hf_error err;
    hf_assert_ok(hf_postgres_leftovers(&target, false, &leftovers, &err), &err);
    return leftovers.count;
}

/* A file of good pages, the last one altered behind its checksum when asked. */
static void
put_relation(const struct hf_test_cluster *cluster, const char *name, uint32_t first_block, size_t pages,
             uint32_t lsn_high, bool damage_last)
{
    static uint8_t bytes[16][HF_POSTGRES_PAGE_BYTES];
    char path[160];
    struct hf_error err;

    for (size_t i = 0; i < pages; i++) {
        memset(bytes[i], (int)(0x30 + i), sizeof bytes[i]);
        memset(bytes[i], 0, HF_POSTGRES_PAGE_HEADER_BYTES);
        hf_put_u32(bytes[i], lsn_high);
        hf_put_u32(bytes[i] + 4, 0x10);
        hf_put_u16(bytes[i] + 12, 24);
        hf_put_u16(bytes[i] + 14, 8192);
        hf_put_u16(bytes[i] + 16, 8192);
        hf_put_u16(bytes[i] + 18, 8192 | 4);
        hf_put_u16(bytes[i] + 8, hf_postgres_page_checksum(bytes[i], first_block + (uint32_t)i));
    }
    if (damage_last)
        bytes[pages - 1][5000] ^= 1;
    snprintf(path, sizeof path, "%s/%s", cluster->data, name);
    hf_assert_ok(hf_file_publish(path, bytes, pages * sizeof bytes[0], 0600, HF_PUBLISH_REPLACE, &err), &err);
    assert_int_equal(chown(path, hf_test_server_uid(), hf_test_server_gid()), 0);
}
