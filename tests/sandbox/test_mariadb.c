#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "tests/support/mariadb.h"
#include "sandbox/build.h"
#include "sandbox/engine_mariadb.h"
#include "sandbox/tree.h"
#include "base/file.h"

/* One backup for all tests: tables of three engines, a view, a sequence, a procedure, an event. */
static const char *clinic(void);
static const char *copy_clinic(struct hf_mariadb_layout *layout);
static struct hf_sandbox_spec spec_of(const struct hf_sandbox_engine *engine, const char *data,
                                      const struct hf_mariadb_settings *settings);
static void prepare(const char *data, const struct hf_mariadb_settings *settings);
static void prepare_at(struct hf_sandbox_spec *spec);
static MYSQL *connect_to(const struct hf_sandbox *sandbox);
static struct hf_mariadb_settings plain(const struct hf_mariadb_layout *layout);
static bool has_argument(const struct hf_sandbox_command *command, const char *argument);
static struct hf_error refused(const char *text);
static void give_away(const char *data);
static void put(const char *data, const char *name, const char *text);
static unsigned failure_of(MYSQL *conn, const char *sql);

HF_TEST(a_backup_is_prepared_and_served_in_the_sandbox)
{
    struct hf_mariadb_layout layout;
    const char *data = copy_clinic(&layout);
    const struct hf_mariadb_settings settings = plain(&layout);
    struct hf_error err;
    struct hf_sandbox_exit end;
    prepare(data, &settings);
    const struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb, data, &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.patient"), "1000");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.aria_visit"), "100");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.myisam_visit"), "100");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.names"), "1000");
    mysql_close(conn);

    hf_assert_ok(hf_sandbox_signal(sandbox, SIGTERM, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 60000, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_EXITED);
    assert_int_equal(end.exit_code, 0);
}

HF_TEST(the_copy_runs_no_event_no_replica_no_library_and_reads_no_file)
{
    struct hf_mariadb_layout layout;
    const char *data = copy_clinic(&layout);
    const struct hf_mariadb_settings settings = plain(&layout);
    prepare(data, &settings);
    const struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb, data, &settings);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@event_scheduler"), "DISABLED");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@local_infile"), "0");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@log_bin"), "0");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@skip_networking"), "1");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@myisam_recover_options"), "OFF");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@aria_recover_options"), "OFF");
    assert_true(failure_of(conn, "INSTALL SONAME 'server_audit'") != 0);
    assert_true(failure_of(conn, "CREATE FUNCTION evil RETURNS INTEGER SONAME 'evil.so'") != 0);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT LOAD_FILE('/etc/passwd') IS NULL"), "1");
    assert_true(failure_of(conn, "SELECT 1 INTO OUTFILE '/tmp/out'") != 0);
    mysql_close(conn);
}

HF_TEST(options_that_came_with_the_copy_are_not_obeyed)
{
    struct hf_mariadb_layout layout;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(64 * HF_KIB);
    char path[160];
    const char *data = copy_clinic(&layout);
    snprintf(path, sizeof path, "%s/backup-my.cnf", data);
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    hf_assert_ok(hf_buf_add_text(&text,
                                 "plugin_load=evil.so\nplugin_dir=/data\ninnodb_data_home_dir=/etc\n"
                                 "innodb_undo_directory=/etc\naria_log_dir_path=/etc\n!includedir /etc\n",
                                 &err),
                 &err);
    hf_assert_ok(hf_file_publish(path, hf_buf_text(&text), text.length, 0600, HF_PUBLISH_REPLACE, &err), &err);
    put(data, "my.cnf", "[mysqld]\nplugin_load=evil.so\n");
    put(data, "master.info", "33\nbin.000001\n4\n192.0.2.1\nroot\nsecret\n3306\n");
    hf_assert_ok(hf_mariadb_read_layout(data, &layout, &err), &err);
    hf_assert_ok(hf_mariadb_make_ready(data, &layout, &err), &err);
    give_away(data);
    hf_buf_clear(&text);
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    assert_null(strstr(hf_buf_text(&text), "plugin"));
    assert_null(strstr(hf_buf_text(&text), "/etc"));
    snprintf(path, sizeof path, "%s/master.info", data);
    assert_int_equal(access(path, F_OK), -1);
    const struct hf_mariadb_settings settings = plain(&layout);
    prepare(data, &settings);
}

HF_TEST(without_namespaces_both_steps_run_at_L1)
{
    struct hf_mariadb_layout layout;
    const char *data = copy_clinic(&layout);
    const struct hf_mariadb_settings settings = plain(&layout);
    struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb_prepare, data, &settings);
    spec.without = HF_WITHOUT_NAMESPACES;
    spec.lowest = HF_SANDBOX_L1;
    prepare_at(&spec);
    spec.engine = &hf_engine_mariadb;
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.patient"), "1000");
    assert_true(failure_of(conn, "INSTALL SONAME 'server_audit'") != 0);
    mysql_close(conn);
}

/* The tool itself says "completed OK!" here. */
HF_TEST(a_redo_log_that_was_cut_shows_in_how_far_the_prepare_step_got)
{
    uint64_t last, reached = 0;
    struct hf_mariadb_layout layout;
    const char *data = copy_clinic(&layout);
    const struct hf_mariadb_settings settings = plain(&layout);
    char path[160];
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(16 * HF_MIB);
    snprintf(path, sizeof path, "%s/ib_logfile0", data);
    assert_int_equal(truncate(path, 12288 + 512), 0);
    const struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb_prepare, data, &settings);
    hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 60000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_copy(sandbox, &log, &err), &err);
    hf_assert_ok(hf_mariadb_read_last_lsn(data, &last, &err), &err);
    if (hf_mariadb_prepare_succeeded(hf_buf_text(&log))) { // it says so, unless the cut took its first records along
        assert_true(hf_mariadb_prepare_reached(hf_buf_text(&log), &reached));
        assert_true(reached < last);
    }
    hf_sandbox_freep(&sandbox);
}

HF_TEST(a_layout_survives_being_written_and_read_again)
{
    static const char text[] = "[mysqld]\n# a comment=1\ninnodb_page_size=4096\ninnodb_log_file_size=8388608\n"
                               "innodb_data_file_path=a:10M;b:12M:autoextend:max:2G\ninnodb_undo_tablespaces=3\n"
                               "innodb_checksum_algorithm=strict_crc32\nplugin_load=evil\n";
    struct hf_mariadb_layout layout, again;
    struct hf_error err;
    const char *folder = hf_test_folder();
    hf_assert_ok(hf_mariadb_parse_layout(text, sizeof text - 1, &layout, &err), &err);
    assert_int_equal(layout.page_bytes, 4096);
    assert_int_equal(layout.undo_tablespaces, 3);
    assert_int_equal(layout.log_file_bytes, 8388608);
    assert_string_equal(layout.data_file_path, "a:10M;b:12M:autoextend:max:2G");
    assert_string_equal(layout.checksum_algorithm, "strict_crc32");
    assert_string_equal(layout.key_plugin, "another"); // it is named to nobody, and loaded never
    hf_assert_ok(hf_mariadb_make_ready(folder, &layout, &err), &err);
    hf_assert_ok(hf_mariadb_read_layout(folder, &again, &err), &err);
    memset(layout.key_plugin, 0, sizeof layout.key_plugin);
    assert_memory_equal(&layout, &again, sizeof layout);
}

HF_TEST(values_that_reach_outside_of_the_folder_are_refused_by_line)
{
    assert_string_equal(refused("innodb_data_file_path=/etc/passwd:10M\n").message,
                        "line 1 of \"backup-my.cnf\" has a value that \"innodb_data_file_path\" cannot have");
    assert_int_equal(refused("\ninnodb_data_file_path=../x:10M\n").kind, HF_ERR_CORRUPT);
    assert_string_equal(refused("#\n\ninnodb_data_file_path=sda:10Mnewraw\n").message,
                        "line 3 of \"backup-my.cnf\" has a value that \"innodb_data_file_path\" cannot have");
    assert_int_equal(refused("innodb_data_file_path=a:0\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_data_file_path=a:10M:autoextend:max:\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_data_file_path=a:10M;\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_page_size=5000\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_page_size=131072\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_undo_tablespaces=128\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_log_file_size=1\n").kind, HF_ERR_CORRUPT);
    assert_int_equal(refused("innodb_checksum_algorithm=crc32 --plugin-load=x\n").kind, HF_ERR_CORRUPT);
}

HF_TEST(a_series_that_is_not_installed_is_named_with_its_package)
{
    struct hf_mariadb_programs programs;
    struct hf_error err;
    char series[16];
    assert_false(hf_mariadb_find("11.4", NULL, &programs, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(
        strstr(err.message, "MariaDB 11.4 is not on this host: \"/usr/sbin/mariadbd\" is of version 10.11"));
    assert_non_null(strstr(err.hint, "mariadb-server"));
    assert_false(hf_mariadb_find("10.11", hf_test_folder(), &programs, &err));
    assert_non_null(strstr(err.message, "MariaDB 10.11 is not on this host: there is no"));
    assert_true(hf_mariadb_series("10.11.19-MariaDB-0+deb12u1-log", series));
    assert_string_equal(series, "10.11");
    assert_false(hf_mariadb_series("10.11", series));
    assert_false(hf_mariadb_series("MariaDB", series));
}

HF_TEST(an_owner_who_wants_durable_files_gets_them_written_through)
{
    const struct hf_sandbox_places places = {
        .data = "/data", .socket = "/run/socket", .memory = "/tmp", .settings = "/s"};
    struct hf_error err;
    for (int durable = 0; durable < 2; durable++) {
        _cleanup_(hf_sandbox_command_done) struct hf_sandbox_command command = {0};
        const struct hf_mariadb_settings settings = {.series = "10.11", .durable = durable == 1};
        hf_assert_ok(hf_sandbox_command_init(&command, "/data", &err), &err);
        hf_assert_ok(hf_engine_mariadb.command(&settings, &places, &command, &err), &err);
        assert_true(has_argument(&command, "--innodb-flush-method=fsync") == (durable == 1));
        assert_true(has_argument(&command, "--innodb-doublewrite=ON") == (durable == 1));
        assert_false(has_argument(&command, "--relay-log=holdfast-relay"));
        assert_string_equal(command.command.arguments[1], "--no-defaults");
    }
}

static const char *
clinic(void)
{
    static char backup[128];
    if (backup[0] != '\0')
        return backup;
    struct hf_test_mariadb *server = hf_test_mariadb_start(NULL);
    MYSQL *conn = hf_test_mariadb_connect(server->socket);
    hf_test_mysql(conn, "CREATE DATABASE clinic");
    hf_test_mysql(conn, "CREATE DATABASE test");
    hf_test_mysql(conn, "USE clinic");
    hf_test_mysql(conn, "CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(50), KEY (name)) ENGINE=InnoDB");
    hf_test_mysql(conn, "INSERT INTO patient SELECT seq, CONCAT('zoe', seq) FROM seq_1_to_1000");
    hf_test_mysql(conn, "CREATE TABLE aria_visit (id INT PRIMARY KEY, note TEXT) ENGINE=Aria");
    hf_test_mysql(conn, "INSERT INTO aria_visit SELECT seq, 'seen' FROM seq_1_to_100");
    hf_test_mysql(conn, "CREATE TABLE myisam_visit (id INT PRIMARY KEY, note TEXT) ENGINE=MyISAM");
    hf_test_mysql(conn, "INSERT INTO myisam_visit SELECT seq, 'seen' FROM seq_1_to_100");
    hf_test_mysql(conn, "CREATE VIEW names AS SELECT name FROM patient");
    hf_test_mysql(conn, "CREATE EVENT forget ON SCHEDULE EVERY 1 SECOND DO DELETE FROM patient");
    mysql_close(conn);
    snprintf(backup, sizeof backup, "%s/backup", hf_test_folder());
    hf_test_mariadb_backup(server, backup);
    hf_test_mariadb_stop(server, SIGKILL);
    return backup;
}

static const char *
copy_clinic(struct hf_mariadb_layout *layout)
{
    static char path[96];
    int status;
    struct hf_error err;
    const char *folder = hf_test_folder(), *backup = clinic();
    if (chmod(folder, 0711) != 0) // at level L1 the sandbox's uid walks there
        fail_msg("no folder for a copy: %s", strerror(errno));
    snprintf(path, sizeof path, "%s/data", folder);
    const char *const argv[] = {"/bin/cp", "-a", backup, path, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    hf_assert_ok(hf_mariadb_read_layout(path, layout, &err), &err);
    hf_assert_ok(hf_mariadb_make_ready(path, layout, &err), &err);
    give_away(path);
    return path;
}

static void
give_away(const char *data)
{
    struct hf_error err;
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, hf_test_sandbox_uid(), hf_test_sandbox_gid(), &err), &err);
}

static void
put(const char *data, const char *name, const char *text)
{
    struct hf_error err;
    char path[200];
    snprintf(path, sizeof path, "%s/%s", data, name);
    hf_assert_ok(hf_file_publish(path, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
}

static struct hf_mariadb_settings
plain(const struct hf_mariadb_layout *layout)
{
    return (struct hf_mariadb_settings){.series = "10.11", .layout = *layout, .buffer_pool_bytes = 16 * HF_MIB};
}

static struct hf_sandbox_spec
spec_of(const struct hf_sandbox_engine *engine, const char *data, const struct hf_mariadb_settings *settings)
{
    return (struct hf_sandbox_spec){.engine = engine,
                                    .settings = settings,
                                    .data = data,
                                    .folder = hf_test_run_folder(),
                                    .host_uid = hf_test_sandbox_uid(),
                                    .host_gid = hf_test_sandbox_gid()};
}

static void
prepare(const char *data, const struct hf_mariadb_settings *settings)
{
    struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb_prepare, data, settings);
    prepare_at(&spec);
}

static void
prepare_at(struct hf_sandbox_spec *spec)
{
    uint64_t last, reached = 0;
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(16 * HF_MIB);
    hf_assert_ok(hf_sandbox_start(spec, &sandbox, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 60000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_copy(sandbox, &log, &err), &err);
    hf_sandbox_freep(&sandbox);
    if (end.exit_code != 0 || !hf_mariadb_prepare_succeeded(hf_buf_text(&log)))
        fail_msg("prepare: exit %d signal %d: %s", end.exit_code, end.signal,
                 hf_buf_text(&log) + (log.length > 700 ? log.length - 700 : 0));
    hf_assert_ok(hf_mariadb_read_last_lsn(spec->data, &last, &err), &err);
    assert_true(hf_mariadb_prepare_reached(hf_buf_text(&log), &reached));
    assert_int_equal(reached, last);
}

static MYSQL *
connect_to(const struct hf_sandbox *sandbox)
{
    static char socket[160];
    snprintf(socket, sizeof socket, "%s/" HF_MARIADB_SOCKET, hf_sandbox_socket_path(sandbox));
    return hf_test_mariadb_connect(socket);
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

static struct hf_error
refused(const char *text)
{
    struct hf_mariadb_layout layout;
    struct hf_error err = {0};
    assert_false(hf_mariadb_parse_layout(text, strlen(text), &layout, &err));
    return err;
}

static unsigned
failure_of(MYSQL *conn, const char *sql)
{
    if (mysql_query(conn, sql) == 0)
        fail_msg("%s: it worked", sql);
    return mysql_errno(conn);
}
