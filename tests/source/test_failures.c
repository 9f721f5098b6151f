/* What goes wrong with a source, what we say about it, and what is left behind: nothing. */
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/postgres/leftovers.h"
#include "server/source/postgres/page_check.h"
#include "tests/source/folder_sink.h"
#include "tests/source/proxy.h"
#include "tests/support/cluster.h"

static struct hf_test_cluster *cluster; // one for the tests that leave it as it was
static struct hf_test_cluster *dying;   // the one a sink's hook kills

static struct hf_test_cluster *common_cluster(void);
static void must_fail(const char *conninfo, uint64_t identifier, struct hf_test_folder_sink *sink,
                      enum hf_error_kind kind, const char *message, const char *hint);
static void must_leave_nothing(const struct hf_test_cluster *source);
static void kill_server(void);
static void quiesce(struct hf_test_cluster *source);

HF_TEST(a_wrong_password_is_called_one)
{
    struct hf_test_cluster *locked = hf_test_cluster_start(
        &(struct hf_test_cluster_options){.tcp = true,
                                          .password = "right",
                                          .hba = "local all all scram-sha-256\nlocal replication all scram-sha-256\n"
                                                 "host replication all 127.0.0.1/32 scram-sha-256\n"});
    char conninfo[256];

    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=postgres password=wrong", locked->port);
    must_fail(conninfo, 0, NULL, HF_ERR_DENIED, "password authentication failed",
              "ALTER ROLE postgres PASSWORD '...';");
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=postgres passfile=/dev/null", locked->port);
    must_fail(conninfo, 0, NULL, HF_ERR_DENIED, "the server asks for a password and none was given", "passfile");

    // The same server, the right password, handed in from a secret.
    struct hf_secret password = {0};
    struct hf_error err;
    hf_assert_ok(hf_secret_copy(&password, "right", 5, &err), &err);
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = conninfo, .slot_tag = HF_TEST_SLOT_TAG, .password = &password};
    const struct hf_backup_request request = {.target = &target,
                                              .sink = &sink->sink,
                                              .faults = &sink->faults,
                                              .progress = &sink->progress,
                                              .label = "x",
                                              .fast_checkpoint = true};
    struct hf_postgres_facts facts;
    hf_assert_ok(hf_postgres_take_backup(&request, &facts, &err), &err);
    hf_postgres_facts_done(&facts);
    hf_secret_done(&password);
}

HF_TEST(an_expired_password_is_among_the_reasons_given)
{
    struct hf_test_cluster *locked = hf_test_cluster_start(&(struct hf_test_cluster_options){
        .tcp = true, .hba = "local all all trust\nhost replication all 127.0.0.1/32 scram-sha-256\n"});
    PGconn *conn = hf_test_cluster_connect(locked, NULL);
    hf_test_sql(conn, "CREATE ROLE keeper LOGIN REPLICATION PASSWORD 'right' VALID UNTIL '2020-01-01'");
    PQfinish(conn);
    char conninfo[256];
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=keeper password=right", locked->port);
    must_fail(conninfo, 0, NULL, HF_ERR_DENIED, "password authentication failed",
              "it has not expired: SELECT rolvaliduntil FROM pg_roles WHERE rolname = 'keeper'");
}

HF_TEST(a_role_without_replication_gets_the_statement_that_mends_it)
{
    struct hf_test_cluster *source = common_cluster();
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    hf_test_sql(conn, "CREATE ROLE \"Back Up\" LOGIN");
    PQfinish(conn);
    char conninfo[256];
    snprintf(conninfo, sizeof conninfo, "host=%s port=%u user='Back Up'", source->socket, source->port);
    must_fail(conninfo, 0, NULL, HF_ERR_DENIED, "must be superuser or replication role",
              "Run on the source: ALTER ROLE \"Back Up\" REPLICATION;");
}

HF_TEST(a_missing_access_line_is_spelled_out)
{
    struct hf_test_cluster *source = hf_test_cluster_start(&(struct hf_test_cluster_options){
        .tcp = true, .hba = "local all all trust\nhost all all 127.0.0.1/32 trust\n"});
    char conninfo[256];
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=postgres", source->port);
    must_fail(conninfo, 0, NULL, HF_ERR_DENIED, "pg_hba.conf",
              "Add this line to pg_hba.conf on the source and run SELECT pg_reload_conf(): host replication postgres "
              "127.0.0.1/32 scram-sha-256");
    must_fail(hf_test_cluster_conninfo(source, NULL), 0, NULL, HF_ERR_DENIED, "pg_hba.conf",
              "local replication postgres scram-sha-256");
}

HF_TEST(wal_level_minimal_is_named_as_the_cause)
{
    const char *const minimal[] = {"wal_level = minimal", "max_wal_senders = 0", NULL};
    struct hf_test_cluster *source = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = minimal});
    must_fail(hf_test_cluster_conninfo(source, NULL), 0, NULL, HF_ERR_DENIED, "max_wal_senders",
              "Set wal_level = replica and max_wal_senders = 10 in postgresql.conf on the source and restart it.");
}

HF_TEST(taken_wal_senders_and_slots_are_told_apart)
{
    const char *const one_sender[] = {"max_wal_senders = 1", "max_replication_slots = 0", NULL};
    struct hf_test_cluster *source = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = one_sender});
    const char *conninfo = hf_test_cluster_conninfo(source, NULL);

    // The base backup's connection takes the only one.
    must_fail(conninfo, 0, NULL, HF_ERR_CONFLICT, "max_wal_senders", "Raise max_wal_senders by 2");
    hf_test_cluster_stop(source, SIGINT);
    hf_test_cluster_set(source, "max_wal_senders = 5");
    hf_test_cluster_resume(source);
    must_fail(conninfo, 0, NULL, HF_ERR_CONFLICT, "all replication slots are in use", "Raise max_replication_slots");
    hf_test_cluster_stop(source, SIGINT);
    hf_test_cluster_set(source, "max_replication_slots = 1");
    hf_test_cluster_resume(source);
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('theirs')");
    must_fail(conninfo, 0, NULL, HF_ERR_CONFLICT, "all replication slots are in use", "drop a slot nobody uses");
    PQfinish(conn);
}

HF_TEST(another_database_at_the_same_address_is_refused_before_a_byte)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    must_fail(hf_test_cluster_conninfo(common_cluster(), NULL), 4711, sink, HF_ERR_CONFLICT, "is now another database",
              "holdfast source add");
    assert_int_equal(sink->files + sink->directories, 0);
}

HF_TEST(a_server_that_is_away_is_unavailable)
{
    must_fail("host=/nowhere port=1 user=postgres", 0, NULL, HF_ERR_UNAVAILABLE, "could not connect to \"clinic\"", "");
    must_fail("host=", 0, NULL, HF_ERR_UNAVAILABLE, "could not connect to \"clinic\"", "");
    must_fail("no such keyword", 0, NULL, HF_ERR_USAGE, "the connection string of \"clinic\" cannot be read", "");
}

HF_TEST(a_cut_anywhere_in_the_base_backup_fails_it_and_leaves_no_slot)
{
    static const uint64_t cuts[] = {1, 200, 900, 1500, 5000, 100000, 3000001, 12000000, 20000000};
    struct hf_test_cluster *source = common_cluster();

    for (size_t i = 0; i < HF_LENGTH(cuts); i++) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        const char *conninfo = hf_test_proxy_start(
            source,
            &(struct hf_test_proxy_options){.mishap = HF_TEST_MISHAP_CUT, .connection = 0, .after_bytes = cuts[i]});
        must_fail(conninfo, 0, sink, HF_ERR_UNAVAILABLE, NULL, "");
        assert_false(sink->flushed);
        assert_int_equal(sink->open_now, 0); // an open file was dropped, not ended
    }
    must_leave_nothing(source);
}

HF_TEST(a_cut_in_the_log_beside_it_fails_the_backup_too)
{
    static const uint64_t cuts[] = {1, 300, 700, 1200, 9000};
    struct hf_test_cluster *source = common_cluster();

    for (size_t i = 0; i < HF_LENGTH(cuts); i++) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        const char *conninfo = hf_test_proxy_start(
            source,
            &(struct hf_test_proxy_options){.mishap = HF_TEST_MISHAP_CUT, .connection = 1, .after_bytes = cuts[i]});
        must_fail(conninfo, 0, sink, HF_ERR_UNAVAILABLE, NULL, "");
        assert_int_equal(sink->open_now, 0);
    }
    must_leave_nothing(source);
}

HF_TEST(a_link_that_falls_silent_is_given_up)
{
    struct hf_test_cluster *source = common_cluster();
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    const char *conninfo = hf_test_proxy_start(
        source, &(struct hf_test_proxy_options){.mishap = HF_TEST_MISHAP_SILENT, .after_bytes = 5000000});
    const struct hf_source_target target = {.name = "clinic", .conninfo = conninfo, .slot_tag = HF_TEST_SLOT_TAG};
    const struct hf_backup_request request = {.target = &target,
                                              .sink = &sink->sink,
                                              .faults = &sink->faults,
                                              .progress = &sink->progress,
                                              .label = "x",
                                              .fast_checkpoint = true,
                                              .silence_ms = 1500};
    struct hf_postgres_facts facts;
    struct hf_error err;
    assert_false(hf_postgres_take_backup(&request, &facts, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "no answer for 1"));
}

HF_TEST(a_killed_server_fails_the_backup_and_keeps_no_slot)
{
    dying = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = NULL});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    quiesce(dying);
    sink->at_bytes = kill_server;
    sink->at_bytes_count = 10000000;
    must_fail(hf_test_cluster_conninfo(dying, NULL), 0, sink, HF_ERR_UNAVAILABLE, NULL, "");
    hf_test_cluster_resume(dying);
    must_leave_nothing(dying);
}

HF_TEST(a_killed_backup_leaves_no_slot)
{
    struct hf_test_cluster *source = common_cluster();
    pid_t child = fork();
    if (child == 0) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        struct hf_postgres_facts facts;
        sink->slow_us = 20000;
        (void)!hf_test_take_backup(hf_test_cluster_conninfo(source, NULL), 0, sink, &facts, NULL);
        _exit(0);
    }
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    int tries = 0;
    while (strcmp(hf_test_sql_text(conn, "SELECT count(*) FROM pg_replication_slots"), "1") != 0 && tries++ < 200)
        usleep(50000);
    assert_true(tries < 200);
    kill(child, SIGKILL);
    PQfinish(conn);
    must_leave_nothing(source);
}

HF_TEST(a_cancelled_backup_says_so_and_soon)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    sink->cancel_after = 5000000;
    must_fail(hf_test_cluster_conninfo(common_cluster(), NULL), 0, sink, HF_ERR_CANCELLED, "cancelled", "");
    assert_true(sink->bytes < 8000000);
    must_leave_nothing(common_cluster());
}

HF_TEST(a_full_sink_ends_the_backup_with_its_own_words)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    sink->fail_after = 7000000;
    must_fail(hf_test_cluster_conninfo(common_cluster(), NULL), 0, sink, HF_ERR_NO_SPACE,
              "backup of \"clinic\": the sink is full", "");
    assert_int_equal(sink->open_now, 0);
    must_leave_nothing(common_cluster());
}

HF_TEST(a_byte_altered_on_its_way_is_found_by_the_manifest)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    char expected[1100];

    sink->alter_at = 9000000;
    struct hf_postgres_facts facts;
    struct hf_error err;
    assert_false(hf_test_take_backup(hf_test_cluster_conninfo(common_cluster(), NULL), 0, sink, &facts, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "arrived with the checksum"));
    // It names a file that did arrive.
    const char *open = strstr(err.message, ": \"");
    assert_non_null(open);
    snprintf(expected, sizeof expected, "%.*s", (int)strcspn(open + 3, "\""), open + 3);
    assert_non_null(hf_test_folder_sink_find(sink, expected));
}

HF_TEST(an_unreadable_file_of_the_source_is_named_by_the_server)
{
    struct hf_test_cluster *source = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = NULL});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    char path[160];
    struct hf_error err;

    snprintf(path, sizeof path, "%s/locked", source->data);
    hf_assert_ok(hf_file_publish(path, "x", 1, 0000, HF_PUBLISH_REPLACE, &err), &err);
    must_fail(hf_test_cluster_conninfo(source, NULL), 0, sink, HF_ERR_DENIED,
              "could not open file \"./locked\": Permission denied", "");
}

HF_TEST(only_our_own_slots_are_dropped)
{
    struct hf_test_cluster *source = common_cluster();
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(source, NULL), .slot_tag = HF_TEST_SLOT_TAG};
    struct hf_leftovers leftovers;
    struct hf_error err;

    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('holdfast_t1_stream', true)");
    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('holdfast_t12_stream', true)");
    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('holdfastt1')");
    hf_assert_ok(hf_postgres_leftovers(&target, false, &leftovers, &err), &err);
    assert_int_equal(leftovers.count, 2);
    assert_int_equal(leftovers.ours, 1);
    hf_assert_ok(hf_postgres_leftovers(&target, true, &leftovers, &err), &err);
    assert_int_equal(leftovers.ours, 0);
    assert_string_equal(hf_test_sql_text(conn, "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM "
                                               "pg_replication_slots"),
                        "holdfast_t12_stream holdfastt1");
    hf_test_sql(conn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    PQfinish(conn);
}

HF_TEST(labels_and_tags_that_would_need_quoting_are_refused)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_source_target target = {.name = "clinic", .conninfo = "host=/nowhere", .slot_tag = HF_TEST_SLOT_TAG};
    struct hf_backup_request request = {
        .target = &target, .sink = &sink->sink, .faults = &sink->faults, .progress = &sink->progress, .label = "it's"};
    struct hf_postgres_facts facts;
    struct hf_error err;
    assert_false(hf_postgres_take_backup(&request, &facts, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_non_null(strstr(err.message, "label \"it's\""));
    request.label = "fine";
    target.slot_tag = "Upper";
    assert_false(hf_postgres_take_backup(&request, &facts, &err));
    assert_non_null(strstr(err.message, "slot tag \"Upper\""));
}

static struct hf_test_cluster *
common_cluster(void)
{
    if (cluster == NULL) {
        cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = NULL});
        quiesce(cluster);
    }
    return cluster;
}

static void
must_fail(const char *conninfo, uint64_t identifier, struct hf_test_folder_sink *sink, enum hf_error_kind kind,
          const char *message, const char *hint)
{
    struct hf_postgres_facts facts;
    struct hf_error err;

    if (sink == NULL)
        sink = hf_test_folder_sink_new();
    assert_false(hf_test_take_backup(conninfo, identifier, sink, &facts, &err));
    if (err.kind != kind || (message != NULL && strstr(err.message, message) == NULL) || strstr(err.hint, hint) == NULL)
        fail_msg("kind %s: %s\nhint: %s", hf_error_kind_name(err.kind), err.message, err.hint);
    assert_non_null(strstr(err.message, "backup of \"clinic\": "));
}

/* The server notices a lost connection a moment later. */
static void
must_leave_nothing(const struct hf_test_cluster *source)
{
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    int tries = 0;
    while (strcmp(hf_test_sql_text(conn, "SELECT count(*) FROM pg_replication_slots"), "0") != 0 && tries++ < 100)
        usleep(100000);
    assert_true(tries < 100);
    PQfinish(conn);
}

static void
kill_server(void)
{
    hf_test_cluster_stop(dying, SIGKILL);
}

static void
quiesce(struct hf_test_cluster *source)
{
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    hf_test_sql(conn, "CREATE TABLE patient AS SELECT n, repeat(md5(n::text), 10) FROM generate_series(1, 20000) n");
    hf_test_sql(conn, "CHECKPOINT");
    PQfinish(conn);
}
