/*
 * A MariaDB that was made hostile while it ran, backed up by its own tool, prepared and started in the sandbox.  On the
 * source the attacks work; in the sandbox they reach nothing, and the copy serves its rows.
 */
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "tests/support/mariadb.h"
#include "sandbox/engine_mariadb.h"
#include "sandbox/tree.h"
#include "base/file.h"

/* Where attacks aim: open to everybody, so that only the sandbox keeps them away. */
static char aim[128], plugins[128], elsewhere[128];
static char data[160];
static int decoy = -1;

static struct hf_sandbox *start_copy(void);
static void make_hostile_copy(void);
static void make_server_hostile(MYSQL *conn);
static void try_statement(MYSQL *conn, const char *sql);
static void copy_file(const char *from, const char *to, mode_t mode);
static void prepare(const struct hf_mariadb_settings *settings);
static struct hf_sandbox_spec spec_of(const struct hf_sandbox_engine *engine,
                                      const struct hf_mariadb_settings *settings);
static MYSQL *connect_to(const struct hf_sandbox *sandbox);
static unsigned files_in(const char *folder);
static unsigned short open_decoy(void);
static bool was_called(void);

static struct hf_mariadb_layout layout;

HF_TEST(cases_68_to_71_a_hostile_copy_is_served_and_reaches_nothing)
{
    make_hostile_copy();
    const unsigned aimed = files_in(aim), away = files_in(elsewhere);
    (void)was_called();
    struct hf_sandbox *sandbox = start_copy();
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.patient"), "500");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM mysql.plugin WHERE name = 'evil'"), "1");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM mysql.func WHERE name = 'evil'"), "1");
    mysql_close(conn);
    hf_sandbox_freep(&sandbox);

    char mark[200];
    snprintf(mark, sizeof mark, "%s/evil-was-here", data);
    assert_int_equal(access(mark, F_OK), -1); // the library did not even run its constructor
    assert_int_equal(files_in(aim), aimed);
    assert_int_equal(files_in(elsewhere), away);
    assert_false(was_called());
    hf_test_nothing_is_left();
}

HF_TEST(case_68_what_its_rows_ask_to_be_loaded_is_not_loaded_when_asked_for_again)
{
    make_hostile_copy();
    struct hf_sandbox *sandbox = start_copy();
    MYSQL *conn = connect_to(sandbox);
    static const char *const refused[] = {"INSTALL SONAME 'evil'",
                                          "INSTALL PLUGIN evil SONAME 'evil.so'",
                                          "CREATE FUNCTION evil2 RETURNS INTEGER SONAME 'evil.so'",
                                          "CREATE FUNCTION evil2 RETURNS INTEGER SONAME '../data/evil.so'",
                                          "SELECT evil()",
                                          "SELECT 1 INTO OUTFILE '/tmp/x'",
                                          "LOAD DATA INFILE '/etc/passwd' INTO TABLE clinic.lines",
                                          "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE clinic.lines"};
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        if (mysql_query(conn, refused[i]) == 0)
            fail_msg("%s: it worked", refused[i]);
    }
    assert_string_equal(hf_test_mysql_text(conn, "SELECT LOAD_FILE('/etc/passwd') IS NULL"), "1");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@event_scheduler"), "DISABLED");
    mysql_close(conn);
    hf_sandbox_freep(&sandbox);
    char mark[200];
    snprintf(mark, sizeof mark, "%s/evil-was-here", data);
    assert_int_equal(access(mark, F_OK), -1);
}

HF_TEST(case_69_a_file_that_says_that_its_table_lies_elsewhere_leads_nowhere)
{
    make_hostile_copy();
    struct hf_error err;
    char path[256], text[160];
    snprintf(path, sizeof path, "%s/clinic/patient.isl", data);
    snprintf(text, sizeof text, "%s/clinic/patient.ibd", elsewhere);
    hf_assert_ok(hf_file_publish(path, text, strlen(text), 0644, HF_PUBLISH_REPLACE, &err), &err);
    if (geteuid() == 0)
        assert_int_equal(chown(path, hf_test_sandbox_uid(), hf_test_sandbox_gid()), 0);
    const unsigned away = files_in(elsewhere);
    struct hf_sandbox *sandbox = start_copy();
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.patient"), "500");
    mysql_close(conn);
    hf_sandbox_freep(&sandbox);
    assert_int_equal(files_in(elsewhere), away);
}

HF_TEST(cases_70_and_71_files_of_options_and_of_variables_in_the_copy_are_not_read)
{
    make_hostile_copy();
    static const char *const names[] = {"my.cnf", ".my.cnf", "mysqld-auto.cnf", "mariadb.cnf", "auto.cnf"};
    struct hf_error err;
    char path[256], text[800];
    snprintf(text, sizeof text,
             "[mysqld]\nplugin_dir=/data\nplugin_load_add=evil.so\ninit_file=/data/init.sql\n"
             "general_log=1\ngeneral_log_file=%s/general\nevent_scheduler=ON\nsecure_file_priv=\n",
             aim);
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        hf_assert_ok(hf_file_publish(path, text, strlen(text), 0644, HF_PUBLISH_REPLACE, &err), &err);
    }
    snprintf(path, sizeof path, "%s/init.sql", data);
    static const char init[] = "DELETE FROM clinic.patient;\n";
    hf_assert_ok(hf_file_publish(path, init, sizeof init - 1, 0644, HF_PUBLISH_REPLACE, &err), &err);
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, hf_test_sandbox_uid(), hf_test_sandbox_gid(), &err), &err);
    struct hf_sandbox *sandbox = start_copy();
    MYSQL *conn = connect_to(sandbox);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM clinic.patient"), "500");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@general_log"), "0");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@init_file IS NULL OR @@init_file = ''"), "1");
    assert_string_equal(hf_test_mysql_text(conn, "SELECT @@event_scheduler"), "DISABLED");
    mysql_close(conn);
    hf_sandbox_freep(&sandbox);
}

HF_TEST(cases_31_to_39_bombs_that_a_query_sets_off_end_at_a_limit)
{
    static const struct {
        const char *sql;
        enum hf_sandbox_end end;
    } bombs[] = {
        {"SELECT SLEEP(600)", HF_SANDBOX_OVER_WALL},
        {"CREATE TABLE clinic.filled (t LONGTEXT) ENGINE=MyISAM SELECT REPEAT('x', 500000) AS t FROM "
         "clinic.seq_1_to_100000",
         HF_SANDBOX_OVER_DISK},
    };
    for (size_t i = 0; i < HF_LENGTH(bombs); i++) {
        make_hostile_copy();
        const struct hf_mariadb_settings settings = {
            .series = "10.11", .layout = layout, .buffer_pool_bytes = 16 * HF_MIB};
        struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb, &settings);
        struct hf_sandbox_exit end;
        struct hf_error err;
        spec.limits.wall_ms = i == 0 ? 3000 : 30000;
        spec.limits.disk_bytes = 256 * HF_MIB;
        struct hf_sandbox *sandbox = hf_test_sandbox_start(&spec);
        MYSQL *conn = connect_to(sandbox);
        assert_int_not_equal(mysql_query(conn, bombs[i].sql), 0);
        mysql_close(conn);
        hf_assert_ok(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), &err);
        if (end.end != bombs[i].end)
            fail_msg("%s: %s", bombs[i].sql, hf_sandbox_end_name(end.end));
        hf_sandbox_freep(&sandbox);
    }
    hf_test_nothing_is_left();
}

/* The copy is made anew each time, from one backup. */
static void
make_hostile_copy(void)
{
    static char backup[128];
    char path[256];
    struct hf_error err;
    int status;
    if (backup[0] == '\0') {
        char from[4200], to[200];
        snprintf(aim, sizeof aim, "%s", hf_test_folder());
        snprintf(plugins, sizeof plugins, "%s", hf_test_folder());
        snprintf(elsewhere, sizeof elsewhere, "%s", hf_test_folder());
        const char *const open[] = {aim, plugins, elsewhere};
        for (size_t i = 0; i < HF_LENGTH(open); i++)
            assert_int_equal(chmod(open[i], 0777), 0);
        snprintf(from, sizeof from, "%s/tests/libescape-evil.so", getenv("HOLDFAST_BUILD"));
        snprintf(to, sizeof to, "%s/evil.so", plugins);
        copy_file(from, to, 0755);

        char option[160];
        snprintf(option, sizeof option, "--plugin-dir=%s", plugins);
        const char *const more[] = {option, "--event-scheduler=ON", "--secure-file-priv=", NULL};
        struct hf_test_mariadb *server = hf_test_mariadb_start(more);
        MYSQL *conn = hf_test_mariadb_connect(server->socket);
        make_server_hostile(conn);
        mysql_close(conn);
        snprintf(path, sizeof path, "%s/evil-was-here", server->data);
        if (access(path, F_OK) != 0)
            fail_msg("the source did not load the library");
        if (files_in(aim) == 0)
            fail_msg("the source's event wrote nothing");
        snprintf(backup, sizeof backup, "%s/backup", hf_test_folder());
        hf_test_mariadb_backup(server, backup);
        hf_test_mariadb_stop(server, SIGKILL);
    }
    const char *folder = hf_test_folder();
    assert_int_equal(chmod(folder, 0711), 0);
    snprintf(data, sizeof data, "%s/data", folder);
    const char *const argv[] = {"/bin/cp", "-a", backup, data, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    snprintf(path, sizeof path, "%s/evil.so", plugins);
    char hidden[256];
    snprintf(hidden, sizeof hidden, "%s/evil.so", data);
    copy_file(path, hidden, 0755);
    hf_assert_ok(hf_mariadb_read_layout(data, &layout, &err), &err);
    hf_assert_ok(hf_mariadb_make_ready(data, &layout, &err), &err);
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, hf_test_sandbox_uid(), hf_test_sandbox_gid(), &err), &err);
    const struct hf_mariadb_settings settings = {.series = "10.11", .layout = layout, .buffer_pool_bytes = 16 * HF_MIB};
    prepare(&settings);
}

/* Everything that a row or a definition can ask for; the event shows that the source does as it is told. */
static void
make_server_hostile(MYSQL *conn)
{
    char sql[600];
    hf_test_mysql(conn, "CREATE DATABASE clinic");
    hf_test_mysql(conn, "USE clinic");
    hf_test_mysql(conn, "CREATE TABLE clinic.patient (id INT PRIMARY KEY, name VARCHAR(50), KEY (name))");
    hf_test_mysql(conn, "INSERT INTO clinic.patient SELECT seq, CONCAT('zoe', seq) FROM seq_1_to_500");
    hf_test_mysql(conn, "CREATE TABLE clinic.lines (line TEXT)");
    try_statement(conn, "INSTALL SONAME 'evil'"); // refused as no plugin, after its constructor ran
    hf_test_mysql(conn, "INSERT INTO mysql.plugin (name, dl) VALUES ('evil', 'evil.so')");
    hf_test_mysql(conn, "INSERT INTO mysql.func (name, ret, dl, type) VALUES ('evil', 2, 'evil.so', 'function')");
    snprintf(sql, sizeof sql,
             "CREATE EVENT clinic.writes ON SCHEDULE EVERY 1 SECOND DO BEGIN SET @n = UUID(); "
             "SELECT 'owned' INTO OUTFILE '%s/by-event'; END",
             aim);
    hf_test_mysql(conn, sql);
    snprintf(sql, sizeof sql, "CREATE TABLE clinic.far (id INT PRIMARY KEY) DATA DIRECTORY='%s'", elsewhere);
    hf_test_mysql(conn, sql);
    hf_test_mysql(conn, "INSERT INTO clinic.far VALUES (1)");
    snprintf(sql, sizeof sql,
             "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%u, MASTER_USER='x', MASTER_PASSWORD='x', "
             "MASTER_CONNECT_RETRY=1",
             open_decoy());
    hf_test_mysql(conn, sql);
    hf_test_mysql(conn, "START SLAVE");
    bool called = false;
    for (int waited_ms = 0; waited_ms < 20000 && !(called && files_in(aim) > 0); waited_ms += 50) {
        called = was_called() || called;
        poll(NULL, 0, 50);
    }
    if (!called)
        fail_msg("the source did not dial");
}

static void
try_statement(MYSQL *conn, const char *sql)
{
    if (mysql_query(conn, sql) == 0)
        fail_msg("%s: it worked, and was to be refused", sql);
}

static void
copy_file(const char *from, const char *to, mode_t mode)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(4 * HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_file_read(from, &bytes, &err), &err);
    hf_assert_ok(hf_file_publish(to, bytes.data, bytes.length, mode, HF_PUBLISH_REPLACE, &err), &err);
}

static void
prepare(const struct hf_mariadb_settings *settings)
{
    const struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb_prepare, settings);
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 60000, &end, &err), &err);
    hf_sandbox_freep(&sandbox);
    assert_int_equal(end.exit_code, 0);
}

static struct hf_sandbox *
start_copy(void)
{
    const struct hf_mariadb_settings settings = {.series = "10.11", .layout = layout, .buffer_pool_bytes = 16 * HF_MIB};
    const struct hf_sandbox_spec spec = spec_of(&hf_engine_mariadb, &settings);
    return hf_test_sandbox_start(&spec);
}

static struct hf_sandbox_spec
spec_of(const struct hf_sandbox_engine *engine, const struct hf_mariadb_settings *settings)
{
    return (struct hf_sandbox_spec){.engine = engine,
                                    .settings = settings,
                                    .data = data,
                                    .folder = hf_test_run_folder(),
                                    .host_uid = hf_test_sandbox_uid(),
                                    .host_gid = hf_test_sandbox_gid()};
}

static MYSQL *
connect_to(const struct hf_sandbox *sandbox)
{
    static char socket_path[160];
    snprintf(socket_path, sizeof socket_path, "%s/" HF_MARIADB_SOCKET, hf_sandbox_socket_path(sandbox));
    return hf_test_mariadb_connect(socket_path);
}

static unsigned
files_in(const char *folder)
{
    unsigned count = 0;
    DIR *dir = opendir(folder);
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        closedir(dir);
    return count > 2 ? count - 2 : 0;
}

static unsigned short
open_decoy(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    decoy = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (decoy < 0 || bind(decoy, (struct sockaddr *)&address, sizeof address) != 0 || listen(decoy, 16) != 0 ||
        getsockname(decoy, (struct sockaddr *)&address, &length) != 0)
        fail_msg("no decoy to dial");
    return ntohs(address.sin_port);
}

/* Since it was last asked. */
static bool
was_called(void)
{
    bool called = false;
    for (int fd; (fd = accept4(decoy, NULL, NULL, SOCK_CLOEXEC)) >= 0; called = true)
        close(fd);
    return called;
}
