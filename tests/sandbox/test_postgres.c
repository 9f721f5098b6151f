#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "sandbox/build.h"
#include "base/file.h"
#include "base/time.h"

/* One cluster for all tests: en_US.UTF-8, a few tables, stopped cleanly. */
static struct hf_test_cluster *source;

static const char *fake_packages(unsigned major);
static bool has_argument(const struct hf_sandbox_command *command, const char *argument);
static struct hf_test_cluster *clinic(void);
static struct hf_sandbox *start_clinic(const struct hf_postgres_settings *settings);
static const char *failure_of(PGconn *conn, const char *sql);
static struct hf_postgres_settings plain(void);

HF_TEST(a_restored_cluster_starts_in_the_sandbox_and_answers_over_its_socket)
{
    const struct hf_postgres_settings settings = plain();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start_clinic(&settings);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM public.patient"), "1000");
    assert_string_equal(hf_test_sql_text(conn, "SELECT name FROM public.patient ORDER BY name LIMIT 1"), "Ada");
    assert_string_equal(hf_test_sql_text(conn, "SHOW lc_collate"), "en_US.UTF-8");
    PQfinish(conn);
}

HF_TEST(it_stops_cleanly_when_asked_to_and_says_how_it_ended)
{
    const struct hf_postgres_settings settings = plain();
    struct hf_error err;
    struct hf_sandbox_exit end;
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start_clinic(&settings);
    hf_assert_ok(hf_sandbox_signal(sandbox, SIGINT, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_EXITED);
    assert_int_equal(end.exit_code, 0);
    uint64_t position = 0;
    bool found;
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "database system is shut down", &position, 0, NULL, &found, &err), &err);
    assert_true(found);
}

HF_TEST(no_program_can_be_run_by_a_query)
{
    const struct hf_postgres_settings settings = plain();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start_clinic(&settings);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    hf_test_sql(conn, "CREATE TEMP TABLE out_of_here (line text)");
    assert_non_null(strstr(failure_of(conn, "COPY out_of_here FROM PROGRAM 'id'"), "could not execute command"));
    assert_non_null(strstr(failure_of(conn, "COPY out_of_here TO PROGRAM 'cat'"), "could not execute command"));
    assert_string_equal(hf_test_sql_text(conn, "SELECT 1"), "1");
    PQfinish(conn);
}

HF_TEST(a_library_in_the_data_directory_cannot_be_loaded)
{
    const struct hf_postgres_settings settings = plain();
    const char *data = hf_test_restore(clinic(), false);
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    char target[160];
    snprintf(target, sizeof target, "%s/evil.so", data);
    const char *const argv[] = {"/bin/cp", "/usr/lib/postgresql/15/lib/pgcrypto.so", target, NULL};
    const struct hf_process_options copy = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&copy, NULL, 0, 10000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(target, 0755), 0);

    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    const char *load = "CREATE FUNCTION evil() RETURNS bytea LANGUAGE c AS '/data/evil.so', 'pg_digest'";
    assert_non_null(strstr(failure_of(conn, load), "could not load library \"/data/evil.so\""));
    // The same library where the distributor put it is fine: it is the place that is not.
    hf_test_sql(conn, "LOAD 'pgcrypto'");
    PQfinish(conn);
}

HF_TEST(the_copy_cannot_see_the_host_or_another_folder_than_its_own)
{
    const struct hf_postgres_settings settings = plain();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start_clinic(&settings);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_non_null(strstr(failure_of(conn, "SELECT pg_read_file('/etc/passwd')"), "No such file"));
    assert_non_null(strstr(failure_of(conn, "SELECT pg_read_file('/proc/self/status')"), "No such file"));
    assert_non_null(strstr(failure_of(conn, "SELECT pg_read_file('/data/../../etc/shadow')"), "No such file"));
    assert_non_null(strstr(failure_of(conn, "COPY (SELECT 1) TO '/usr/lib/evil'"), "Read-only file system"));
    assert_non_null(strstr(failure_of(conn, "COPY (SELECT 1) TO '/settings/pg_hba.conf'"), "Read-only file system"));
    PQfinish(conn);
}

HF_TEST(nothing_listens_on_the_network_whatever_the_copy_says)
{
    static const char *const more[] = {"listen_addresses=*", NULL};
    struct hf_postgres_settings settings = plain();
    settings.more = more;
    const char *data = hf_test_restore(clinic(), false);
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    uint64_t position = 0;
    bool found = false;
    hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "could not create any TCP/IP sockets", &position, 0, NULL, &found, &err),
                 &err);
    assert_true(found);
    assert_int_equal(end.end, HF_SANDBOX_EXITED);
    hf_sandbox_freep(&sandbox);
}

HF_TEST(settings_that_came_with_the_copy_have_no_effect)
{
    const struct hf_postgres_settings settings = plain();
    struct hf_error err;
    const char *data = hf_test_restore(clinic(), false);
    char path[160];
    static const char sabotage[] = "archive_mode = on\narchive_command = 'touch /tmp/owned'\nshared_buffers = '64GB'\n"
                                   "shared_preload_libraries = 'evil'\nlisten_addresses = '*'\nno_such_setting = 1\n"
                                   "zero_damaged_pages = on\nrecovery_target_lsn = '0/1'\n";
    snprintf(path, sizeof path, "%s/postgresql.auto.conf", data);
    hf_assert_ok(hf_file_publish(path, sabotage, sizeof sabotage - 1, 0600, HF_PUBLISH_REPLACE, &err), &err);
    snprintf(path, sizeof path, "%s/recovery.signal", data);
    hf_assert_ok(hf_file_publish(path, "", 0, 0600, HF_PUBLISH_REPLACE, &err), &err);
    hf_assert_ok(hf_postgres_prepare(data, false, &err), &err);
    if (geteuid() == 0) {
        snprintf(path, sizeof path, "/bin/chown -R %u:%u %s", hf_test_sandbox_uid(), hf_test_sandbox_gid(), data);
        assert_int_equal(system(path), 0);
    }
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SHOW archive_mode"), "off");
    assert_string_equal(hf_test_sql_text(conn, "SHOW listen_addresses"), "");
    assert_string_equal(hf_test_sql_text(conn, "SHOW zero_damaged_pages"), "off");
    assert_string_equal(hf_test_sql_text(conn, "SHOW autovacuum"), "off");
    PQfinish(conn);
}

HF_TEST(what_roles_and_databases_set_does_not_reach_our_connections)
{
    const struct hf_postgres_settings settings = plain();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start_clinic(&settings);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    hf_test_sql(conn, "ALTER ROLE postgres SET session_preload_libraries = 'evil'");
    hf_test_sql(conn, "ALTER DATABASE postgres SET zero_damaged_pages = on");
    hf_test_sql(conn, "ALTER ROLE postgres IN DATABASE postgres SET search_path = public");
    PQfinish(conn);
    conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SHOW session_preload_libraries"), "");
    assert_string_equal(hf_test_sql_text(conn, "SHOW zero_damaged_pages"), "off");
    assert_string_equal(hf_test_sql_text(conn, "SHOW search_path"), "pg_catalog");
    PQfinish(conn);
}

HF_TEST(a_standby_without_an_upstream_replays_what_lies_in_pg_wal_and_is_promoted)
{
    struct hf_postgres_settings settings = plain();
    struct hf_error err;
    const char *data = hf_test_restore(clinic(), true);
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    uint64_t position = 0;
    bool found;
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "entering standby mode", &position, 1000, NULL, &found, &err), &err);
    assert_true(found);
    hf_assert_ok(
        hf_sandbox_log_wait(sandbox, "waiting for WAL to become available", &position, 20000, NULL, &found, &err),
        &err);
    assert_true(found);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SELECT pg_is_in_recovery()"), "t");
    assert_string_equal(hf_test_sql_text(conn, "SELECT pg_promote()"), "t");
    assert_string_equal(hf_test_sql_text(conn, "SELECT pg_is_in_recovery()"), "f");
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM public.patient"), "1000");
    PQfinish(conn);
}

HF_TEST(a_standby_follows_an_upstream_behind_a_unix_socket)
{
    struct hf_test_cluster *primary = hf_test_cluster_start(&(struct hf_test_cluster_options){0});
    PGconn *conn = hf_test_cluster_connect(primary, NULL);
    hf_test_sql(conn, "CREATE TABLE visit (id int)");
    char base[96], label[112];
    snprintf(base, sizeof base, "%s/base", primary->folder);
    const char *const argv[] = {"pg_basebackup", "-D", base, "-X", "stream", "-c", "fast", NULL};
    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(64 * HF_KIB);
    if (hf_test_cluster_run(primary, argv, NULL, &errors) != 0)
        fail_msg("pg_basebackup: %s", hf_buf_text(&errors));
    snprintf(label, sizeof label, "%s/backup_label", base);
    assert_int_equal(access(label, F_OK), 0);

    struct hf_test_cluster copied = *primary;
    snprintf(copied.data, sizeof copied.data, "%s", base);
    struct hf_postgres_settings settings = plain();
    settings.upstream = primary->socket;
    settings.upstream_port = primary->port;
    settings.upstream_user = "postgres";
    settings.max_connections = 40;
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(hf_test_restore(&copied, true), &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    PGconn *copy = hf_test_sandbox_connect(sandbox, NULL);
    hf_test_sql(conn, "INSERT INTO visit SELECT generate_series(1, 5000)");
    const char *count = "";
    for (int i = 0; i < 200 && strcmp(count, "5000") != 0; i++) {
        poll(NULL, 0, 50);
        count = hf_test_sql_text(copy, "SELECT count(*) FROM public.visit");
    }
    assert_string_equal(count, "5000");
    PQfinish(copy);
    PQfinish(conn);
}

HF_TEST(recovery_stops_at_a_target_and_refuses_a_target_without_its_value)
{
    struct hf_postgres_settings settings = plain();
    settings.target = HF_POSTGRES_TO_IMMEDIATE;
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(hf_test_restore(clinic(), true), &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SHOW recovery_target"), "immediate");
    PQfinish(conn);

    struct hf_error err;
    struct hf_sandbox *none = NULL;
    settings.target = HF_POSTGRES_TO_TIME;
    assert_false(hf_sandbox_start(&spec, &none, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_null(none);
}

HF_TEST(a_version_that_is_not_installed_is_named_with_its_package)
{
    struct hf_error err;
    assert_false(hf_postgres_find(16, NULL, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_string_equal(err.message,
                        "PostgreSQL 16 is not on this host: there is no \"/usr/lib/postgresql/16/bin/postgres\"");
    assert_non_null(strstr(err.hint, "postgresql-16"));
    assert_false(hf_postgres_find(12, NULL, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(settings_are_forced_only_where_the_version_knows_them)
{
    static const struct {
        const char *setting;
        unsigned from, until;
    } rows[] = {{"promote_trigger_file=", 13, 15},
                {"stats_temp_directory=pg_stat_tmp", 13, 14},
                {"archive_library=", 15, 18},
                {"event_triggers=off", 17, 18},
                {"sync_replication_slots=off", 17, 18},
                {"io_method=worker", 18, 18},
                {"jit=off", 13, 18},
                {"restore_command=", 13, 18},
                {"recovery_target_lsn=", 13, 18},
                {"primary_conninfo=", 13, 18}};
    const struct hf_sandbox_places places = {
        .data = "/data", .socket = "/run/socket", .memory = "/tmp", .settings = "/s"};
    struct hf_error err;
    for (unsigned major = HF_POSTGRES_LEAST; major <= HF_POSTGRES_MOST; major++) {
        _cleanup_(hf_sandbox_command_done) struct hf_sandbox_command command = {0};
        const struct hf_postgres_settings settings = {.major = major, .packages = fake_packages(major)};
        hf_assert_ok(hf_sandbox_command_init(&command, "/data", &err), &err);
        hf_assert_ok(hf_engine_postgres.command(&settings, &places, &command, &err), &err);
        for (size_t i = 0; i < HF_LENGTH(rows); i++) {
            bool known = major >= rows[i].from && major <= rows[i].until;
            if (has_argument(&command, rows[i].setting) != known)
                fail_msg("%s on version %u", rows[i].setting, major);
        }
        assert_true((strstr(hf_postgres_connection_options(major), "event_triggers=off") != NULL) == (major >= 17));
    }
}

HF_TEST(segments_larger_than_the_usual_get_larger_wal_sizes)
{
    const struct hf_sandbox_places places = {
        .data = "/data", .socket = "/run/socket", .memory = "/tmp", .settings = "/s"};
    _cleanup_(hf_sandbox_command_done) struct hf_sandbox_command command = {0};
    const struct hf_postgres_settings settings = {.major = 15, .wal_segment_bytes = HF_GIB};
    struct hf_error err;
    hf_assert_ok(hf_sandbox_command_init(&command, "/data", &err), &err);
    hf_assert_ok(hf_engine_postgres.command(&settings, &places, &command, &err), &err);
    assert_true(has_argument(&command, "min_wal_size=2048MB"));
    assert_true(has_argument(&command, "max_wal_size=4096MB"));
}

HF_TEST(without_namespaces_it_runs_at_L1_where_the_caller_allows_that)
{
    const struct hf_postgres_settings settings = plain();
    struct hf_sandbox_spec spec = hf_test_postgres_spec(hf_test_restore(clinic(), false), &settings);
    spec.without = HF_WITHOUT_NAMESPACES;
    spec.lowest = HF_SANDBOX_L1;
    struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM public.patient"), "1000");
    assert_non_null(strstr(failure_of(conn, "SELECT pg_read_file('/etc/passwd')"), "Permission denied"));
    assert_non_null(strstr(failure_of(conn, "COPY (SELECT 1) TO PROGRAM 'cat'"), "could not execute command"));
    PQfinish(conn);
    hf_sandbox_freep(&sandbox);
    hf_test_nothing_is_left();
}

HF_TEST(killing_the_caller_while_a_query_runs_leaves_nothing)
{
    const struct hf_postgres_settings settings = plain();
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(hf_test_restore(clinic(), false), &settings);
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct hf_sandbox *sandbox = NULL;
        if (!hf_sandbox_start(&spec, &sandbox, NULL) || !hf_sandbox_wait_ready(sandbox, 60000))
            _exit(1);
        PGconn *conn = hf_test_sandbox_connect(sandbox, NULL);
        if (PQsendQuery(conn, "SELECT pg_sleep(600)") != 1)
            _exit(1);
        (void)!write(ready[1], "r", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    if (geteuid() == 0)
        assert_true(hf_test_processes_of(hf_test_sandbox_uid()) >= 3);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    hf_test_nothing_is_left();
}

HF_TEST(fifty_runs_in_a_row_leave_nothing_behind)
{
    const struct hf_postgres_settings settings = plain();
    const char *data = hf_test_restore(clinic(), false);
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    uint64_t create_us = 0, teardown_us = 0, worst_us = 0;
    for (int i = 0; i < 50; i++) {
        struct hf_sandbox *sandbox = NULL;
        struct hf_sandbox_exit end;
        struct hf_error err;
        json_t *report;
        hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
        hf_assert_ok(hf_sandbox_stop(sandbox, &end, &err), &err);
        assert_int_equal(end.end, HF_SANDBOX_STOPPED);
        hf_assert_ok(hf_sandbox_report(sandbox, &report, &err), &err);
        uint64_t create = (uint64_t)json_integer_value(json_object_get(report, "create_us"));
        uint64_t teardown = (uint64_t)json_integer_value(json_object_get(report, "teardown_us"));
        create_us += create;
        teardown_us += teardown;
        worst_us = create + teardown > worst_us ? create + teardown : worst_us;
        json_decref(report);
        hf_sandbox_freep(&sandbox);
    }
    print_message("# create %.1f ms, tear down %.1f ms on average; worst together %.1f ms\n", (double)create_us / 50e3,
                  (double)teardown_us / 50e3, (double)worst_us / 1e3);
    hf_test_nothing_is_left();
}

/* A folder in which a package of that version seems to have been unpacked. */
static const char *
fake_packages(unsigned major)
{
    static char root[96];
    char path[160], program[192];
    struct hf_error err;
    snprintf(root, sizeof root, "%s", hf_test_folder());
    snprintf(path, sizeof path, "%s/usr/lib/postgresql/%u/bin", root, major);
    snprintf(program, sizeof program, "%s/postgres", path);
    hf_assert_ok(hf_dir_make(path, 0755, &err), &err);
    hf_assert_ok(hf_file_publish(program, "", 0, 0755, HF_PUBLISH_EXCLUSIVE, &err), &err);
    return root;
}

static bool
has_argument(const struct hf_sandbox_command *command, const char *argument)
{
    for (size_t i = 0; i < command->argument_count; i++) {
        if (strcmp(command->command.arguments[i], argument) == 0)
            return true;
    }
    return false;
}

static struct hf_test_cluster *
clinic(void)
{
    if (source != NULL)
        return source;
    source = hf_test_cluster_start(&(struct hf_test_cluster_options){.locale = "en_US.UTF-8", .checksums = true});
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    hf_test_sql(conn, "CREATE TABLE patient (id int PRIMARY KEY, name text)");
    hf_test_sql(conn, "INSERT INTO patient SELECT i, 'zoe' || i FROM generate_series(2, 1000) i");
    hf_test_sql(conn, "INSERT INTO patient VALUES (1, 'Ada')");
    hf_test_sql(conn, "CREATE INDEX ON patient (name)");
    PQfinish(conn);
    hf_test_cluster_stop(source, SIGINT);
    return source;
}

static struct hf_postgres_settings
plain(void)
{
    return (struct hf_postgres_settings){.major = 15, .locales = clinic()->locales};
}

static struct hf_sandbox *
start_clinic(const struct hf_postgres_settings *settings)
{
    const struct hf_sandbox_spec spec = hf_test_postgres_spec(hf_test_restore(clinic(), false), settings);
    return hf_test_sandbox_start(&spec);
}

static const char *
failure_of(PGconn *conn, const char *sql)
{
    PGresult *result = PQexec(conn, sql);
    bool failed = PQresultStatus(result) == PGRES_FATAL_ERROR;
    PQclear(result);
    if (!failed)
        fail_msg("%s: it worked", sql);
    return PQerrorMessage(conn);
}
