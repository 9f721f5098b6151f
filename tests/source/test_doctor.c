/* The doctor's findings on real clusters, and what capturing the environment brings. */
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/source.h"
#include "tests/source/folder_sink.h"
#include "tests/support/cluster.h"

static struct hf_checks checks; // of the test's last examination

static void examine(const char *conninfo, const char *identity, const struct hf_appliance_abilities *abilities);
static void must_find(const char *id, enum hf_check_verdict verdict, const char *detail, const char *remedy);
static bool has_all_but_hstore(void *context, uint32_t major_version, const char *extension);
static bool has_no_locale(void *context, const char *provider, const char *locale);
static json_t *capture(const char *conninfo, const struct hf_backup_sink *sink);
static const json_t *row_with(const json_t *list, const char *member, const char *value);
static const char *text_of(const json_t *object, const char *member);

HF_TEST(a_well_kept_source_passes)
{
    const char *const good[] = {"max_slot_wal_keep_size = 1GB", "fsync = on", NULL};
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true, .settings = good});

    examine(hf_test_cluster_conninfo(cluster, NULL), NULL, NULL);
    for (size_t i = 0; i < checks.count; i++) {
        if (checks.items[i].verdict != HF_CHECK_OK)
            fail_msg("%s: %s", checks.items[i].id, checks.items[i].detail);
        assert_string_equal(checks.items[i].remedy, "");
        assert_true(checks.items[i].detail[0] != '\0');
    }
    assert_int_equal(checks.count, 22);
    assert_int_equal(hf_checks_worst(&checks), HF_CHECK_OK);
    must_find("connection", HF_CHECK_OK, "PostgreSQL 15.", "");
}

HF_TEST(each_neglected_precondition_is_named_with_its_remedy)
{
    const char *const bad[] = {"max_wal_senders = 1", "max_replication_slots = 1", "full_page_writes = off", NULL};
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = bad});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('holdfast_t1_stream', true)");
    hf_test_sql(conn, "CREATE EXTENSION hstore");

    const struct hf_appliance_abilities abilities = {.has_extension = has_all_but_hstore, .has_locale = has_no_locale};
    examine(hf_test_cluster_conninfo(cluster, "password=needless"), "4711", &abilities);
    must_find("password_place", HF_CHECK_WARNING, "holds the password", "passfile=");
    must_find("wal_senders", HF_CHECK_FAILED, "0 of 1 WAL senders are taken, a backup needs 2", "max_wal_senders = 4");
    must_find("replication_slots", HF_CHECK_FAILED, "1 of 1 replication slots exist", "max_replication_slots = 4");
    must_find("slot_wal_limit", HF_CHECK_WARNING, "max_slot_wal_keep_size is -1", "SELECT pg_reload_conf();");
    must_find("leftover_slots", HF_CHECK_WARNING, "\"holdfast_t1_stream\" keeps",
              "SELECT pg_drop_replication_slot('holdfast_t1_stream');");
    must_find("full_page_writes", HF_CHECK_WARNING, "full_page_writes is off", "full_page_writes = on");
    must_find("fsync", HF_CHECK_WARNING, "fsync is off", "fsync = on");
    must_find("data_checksums", HF_CHECK_WARNING, "data_checksums is off", "pg_checksums --enable");
    must_find("extensions", HF_CHECK_WARNING, "missing here: hstore (postgres)", "Install");
    must_find("locales", HF_CHECK_WARNING, "missing here: C.UTF-8", "Generate");
    must_find("system_identifier", HF_CHECK_FAILED, "it was 4711", "holdfast source add");
    assert_int_equal(hf_checks_worst(&checks), HF_CHECK_FAILED);
    hf_test_sql(conn, "SELECT pg_drop_replication_slot('holdfast_t1_stream')");
    PQfinish(conn);
}

HF_TEST(a_source_without_log_for_backups_fails_on_the_level)
{
    const char *const minimal[] = {"wal_level = minimal", "max_wal_senders = 0", NULL};
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = minimal});
    examine(hf_test_cluster_conninfo(cluster, NULL), NULL, NULL);
    must_find("wal_level", HF_CHECK_FAILED, "wal_level is minimal", "wal_level = replica");
    must_find("wal_senders", HF_CHECK_FAILED, "0 of 0", "restart it");
    must_find("replication_connection", HF_CHECK_FAILED, "max_wal_senders", "wal_level = replica");
    assert_null(hf_checks_find(&checks, "system_identifier")); // could not be asked
}

HF_TEST(a_plain_role_is_told_every_right_it_lacks)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.tcp = true});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    char conninfo[256], grant[1024];

    hf_test_sql(conn, "CREATE ROLE \"Keeper\" LOGIN");
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=Keeper dbname=postgres", cluster->port);
    examine(conninfo, NULL, NULL);
    must_find("replication_right", HF_CHECK_FAILED, "no REPLICATION", "ALTER ROLE \"Keeper\" REPLICATION;");
    must_find("replication_connection", HF_CHECK_FAILED, "replication role", "ALTER ROLE \"Keeper\" REPLICATION;");
    must_find("settings_visible", HF_CHECK_WARNING, "hidden", "GRANT pg_read_all_settings TO \"Keeper\";");
    must_find("access_rules_visible", HF_CHECK_WARNING, "hidden", "GRANT EXECUTE ON FUNCTION pg_hba_file_rules()");
    must_find("config_files_readable", HF_CHECK_WARNING, "may not read", "GRANT pg_read_server_files TO \"Keeper\";");
    must_find("tls", HF_CHECK_WARNING, "not encrypted", "sslmode=verify-full");

    // The remedies are exact: run as they stand, they mend what they are for.
    static const char *const ids[] = {"replication_right", "settings_visible", "access_rules_visible",
                                      "config_files_readable"};
    for (size_t i = 0; i < HF_LENGTH(ids); i++) {
        const char *remedy = strstr(hf_checks_find(&checks, ids[i])->remedy, ": ") + 2;
        snprintf(grant, sizeof grant, "%.*s", (int)(strrchr(remedy, ';') + 1 - remedy), remedy);
        hf_test_sql(conn, grant);
    }
    examine(conninfo, NULL, NULL);
    for (size_t i = 0; i < HF_LENGTH(ids); i++)
        must_find(ids[i], HF_CHECK_OK, "", "");
    must_find("replication_connection", HF_CHECK_OK, "on timeline 1", "");

    // And then the whole environment can be captured by that role.
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    _cleanup_(hf_json_freep) json_t *environment = capture(conninfo, &sink->sink);
    assert_int_equal(json_array_size(json_object_get(environment, "files")), 3);
    PQfinish(conn);
}

HF_TEST(a_missing_access_line_for_replication_is_found)
{
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.hba = "local all all trust\n"});
    examine(hf_test_cluster_conninfo(cluster, NULL), NULL, NULL);
    must_find("replication_connection", HF_CHECK_FAILED, "pg_hba.conf", "local replication postgres scram-sha-256");
}

HF_TEST(encryption_counts_only_with_a_checked_name)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.tcp = true});
    char conninfo[400], certificate[160];

    hf_test_cluster_encrypt(cluster, certificate, sizeof certificate);
    snprintf(conninfo, sizeof conninfo, "host=127.0.0.1 port=%u user=postgres", cluster->port);
    examine(conninfo, NULL, NULL);
    must_find("tls", HF_CHECK_WARNING, "the server's name is not checked: sslmode is prefer", "sslmode=verify-full");

    snprintf(conninfo, sizeof conninfo,
             "host=localhost hostaddr=127.0.0.1 port=%u user=postgres sslmode=verify-full sslrootcert=%s",
             cluster->port, certificate);
    examine(conninfo, NULL, NULL);
    must_find("tls", HF_CHECK_OK, "TLSv1", "");

    snprintf(conninfo, sizeof conninfo,
             "host=elsewhere hostaddr=127.0.0.1 port=%u user=postgres sslmode=verify-full sslrootcert=%s",
             cluster->port, certificate);
    examine(conninfo, NULL, NULL);
    must_find("connection", HF_CHECK_FAILED, "does not match host name \"elsewhere\"", "sslrootcert=");
}

HF_TEST(a_source_that_is_away_is_one_failed_check)
{
    struct hf_error err;
    const struct hf_source_target target = {.name = "clinic", .conninfo = "a b", .slot_tag = HF_TEST_SLOT_TAG};

    examine("host=/nowhere user=postgres", 0, NULL);
    assert_int_equal(checks.count, 1);
    must_find("connection", HF_CHECK_FAILED, "could not connect to \"clinic\"", "");
    assert_false(hf_source_postgres.doctor(&target, NULL, &checks, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(the_environment_holds_what_a_restore_must_know)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    struct hf_error err;
    char path[200];

    hf_test_cluster_set(cluster, "work_mem = 7MB # a comment that only the file has");
    hf_test_cluster_reload(cluster);
    hf_test_sql(conn, "CREATE DATABASE \"Clinic = [1]\" TEMPLATE template0");
    hf_test_sql(conn, "CREATE EXTENSION hstore");
    hf_test_sql(conn, "CREATE TABLE t (name text COLLATE \"C\")");
    hf_test_sql(conn, "SELECT pg_create_physical_replication_slot('theirs')");

    _cleanup_(hf_json_freep) json_t *environment = capture(hf_test_cluster_conninfo(cluster, NULL), &sink->sink);
    const json_t *server = json_object_get(environment, "server");
    assert_non_null(strstr(text_of(server, "version"), "PostgreSQL 15."));
    assert_string_equal(text_of(server, "system_identifier"),
                        hf_test_sql_text(conn, "SELECT system_identifier FROM pg_control_system()"));
    assert_true(json_is_false(json_object_get(server, "in_recovery")));
    assert_true(json_array_size(json_object_get(environment, "settings")) > 300);
    const json_t *senders = row_with(json_object_get(environment, "settings"), "name", "max_wal_senders");
    assert_string_equal(text_of(senders, "setting"), "10");
    assert_string_equal(text_of(senders, "source"), "configuration file");
    assert_non_null(strstr(text_of(senders, "sourcefile"), "postgresql.conf"));
    assert_string_equal(text_of(row_with(json_object_get(environment, "hba_rules"), "type", "local"), "auth_method"),
                        "trust");
    assert_non_null(row_with(json_object_get(environment, "file_settings"), "name", "work_mem"));
    const json_t *clinic = row_with(json_object_get(environment, "databases"), "datname", "Clinic = [1]");
    assert_string_equal(text_of(clinic, "encoding"), "UTF8");
    assert_true(json_integer_value(json_object_get(clinic, "size")) > 1000000);
    assert_non_null(row_with(json_object_get(environment, "slots"), "slot_name", "theirs"));
    assert_non_null(row_with(json_object_get(environment, "tablespaces"), "spcname", "pg_default"));
    assert_true(json_integer_value(json_object_get(json_object_get(environment, "roles"), "superusers")) >= 1);

    const json_t *per_database = json_object_get(environment, "per_database");
    const json_t *postgres = row_with(per_database, "database", "postgres");
    assert_non_null(row_with(per_database, "database", "Clinic = [1]"));
    assert_null(row_with(per_database, "database", "template0")); // takes no connections
    const json_t *hstore = row_with(json_object_get(postgres, "extensions"), "extname", "hstore");
    assert_non_null(strstr(text_of(hstore, "libraries"), "hstore"));
    assert_non_null(row_with(json_object_get(postgres, "collations"), "collname", "C"));
    for (size_t i = 0; i < json_array_size(json_object_get(environment, "denied")); i++)
        print_message("# denied: %s\n", text_of(json_array_get(json_object_get(environment, "denied"), i), "why"));
    assert_int_equal(json_array_size(json_object_get(environment, "denied")), 0);

    _cleanup_(hf_buf_done) struct hf_buf kept = HF_BUF_INIT(HF_MIB);
    assert_int_equal(json_array_size(json_object_get(environment, "files")), 3);
    assert_non_null(row_with(json_object_get(environment, "files"), "stored_as", "holdfast_config/pg_hba.conf"));
    snprintf(path, sizeof path, "%s/holdfast_config/postgresql.conf", sink->folder);
    hf_assert_ok(hf_file_read(path, &kept, &err), &err);
    assert_non_null(strstr(hf_buf_text(&kept), "# a comment that only the file has"));

    // A backup into the same sink goes on from there.
    struct hf_postgres_facts facts;
    hf_assert_ok(hf_test_take_backup(hf_test_cluster_conninfo(cluster, NULL), 0, sink, &facts, &err), &err);
    hf_postgres_facts_done(&facts);
    hf_test_sql(conn, "SELECT pg_drop_replication_slot('theirs')");
    PQfinish(conn);
}

HF_TEST(what_the_role_may_not_see_is_named)
{
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true});
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    char conninfo[256];

    hf_test_sql(conn, "CREATE ROLE keeper LOGIN REPLICATION");
    hf_test_sql(conn, "CREATE DATABASE closed");
    hf_test_sql(conn, "REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
    snprintf(conninfo, sizeof conninfo, "host=%s port=%u user=keeper dbname=postgres", cluster->socket, cluster->port);
    _cleanup_(hf_json_freep) json_t *environment = capture(conninfo, &sink->sink);
    const json_t *denied = json_object_get(environment, "denied");
    assert_non_null(strstr(text_of(row_with(denied, "what", "hba_rules"), "why"), "permission denied"));
    assert_non_null(strstr(text_of(row_with(denied, "what", "file_settings"), "why"), "permission denied"));
    assert_non_null(strstr(text_of(row_with(denied, "what", "closed"), "why"), "permission denied for database"));
    assert_non_null(strstr(text_of(row_with(denied, "what", "files"), "why"), "pg_read_all_settings"));
    assert_true(json_array_size(json_object_get(environment, "settings")) > 300);
    assert_int_equal(sink->files, 0);
    PQfinish(conn);
}

static void
examine(const char *conninfo, const char *identity, const struct hf_appliance_abilities *abilities)
{
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = conninfo, .slot_tag = HF_TEST_SLOT_TAG, .identity = identity};
    struct hf_error err;
    hf_assert_ok(hf_source_postgres.doctor(&target, abilities, &checks, &err), &err);
}

static void
must_find(const char *id, enum hf_check_verdict verdict, const char *detail, const char *remedy)
{
    const struct hf_check *check = hf_checks_find(&checks, id);
    if (check == NULL)
        fail_msg("there is no check \"%s\"", id);
    else if (check->verdict != verdict || strstr(check->detail, detail) == NULL ||
             strstr(check->remedy, remedy) == NULL)
        fail_msg("%s is %s: %s\nremedy: %s", id, hf_check_verdict_name(check->verdict), check->detail, check->remedy);
}

static bool
has_all_but_hstore(__attribute__((unused)) void *context, uint32_t major_version, const char *extension)
{
    assert_int_equal(major_version, 15);
    return strcmp(extension, "hstore") != 0;
}

static bool
has_no_locale(__attribute__((unused)) void *context, const char *provider, const char *locale)
{
    assert_string_equal(provider, "c");
    return locale == NULL;
}

static json_t *
capture(const char *conninfo, const struct hf_backup_sink *sink)
{
    const struct hf_source_target target = {.name = "clinic", .conninfo = conninfo, .slot_tag = HF_TEST_SLOT_TAG};
    json_t *environment = NULL;
    struct hf_error err;
    hf_assert_ok(hf_source_postgres.capture_environment(&target, sink, &environment, &err), &err);
    return environment;
}

static const json_t *
row_with(const json_t *list, const char *member, const char *value)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(text_of(json_array_get(list, i), member), value) == 0)
            return json_array_get(list, i);
    return NULL;
}

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "" : text;
}
