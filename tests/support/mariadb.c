#include "tests/support/mariadb.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/tree.h"

#define MOST_SERVERS    64
#define MOST_ARGUMENTS  48
#define TIMEOUT_MS      60000
#define TOOL_TIMEOUT_MS 120000
#define ANSWER_SECONDS  30
#define SCRIPTS         "/usr/share/mysql/"

static struct hf_test_mariadb *servers[MOST_SERVERS];
static size_t server_count;
static pid_t owner;

static struct hf_test_mariadb *new_server(void);
static void stop_all(void);
static void make_system_tables(const struct hf_test_mariadb *server);
static void add_script(struct hf_buf *text, const char *name);
static void give(const char *path, mode_t mode);
static void run_server(struct hf_test_mariadb *server);
static void show_log(const struct hf_test_mariadb *server);

struct hf_test_mariadb *
hf_test_mariadb_start(const char *const *more)
{
    struct hf_test_mariadb *server = new_server();
    server->more = more;
    snprintf(server->data, sizeof server->data, "%s/data", server->folder);
    if (mkdir(server->data, 0700) != 0)
        fail_msg("no folder for data: %s", strerror(errno));
    give(server->data, 0700);
    make_system_tables(server);
    run_server(server);
    return server;
}

struct hf_test_mariadb *
hf_test_mariadb_open(const char *data)
{
    struct hf_test_mariadb *server = new_server();
    struct hf_error err;
    char above[sizeof server->data];
    server->is_copy = true;
    assert_true((size_t)snprintf(server->data, sizeof server->data, "%s", data) < sizeof server->data);
    snprintf(above, sizeof above, "%s", data);
    *strrchr(above, '/') = 0;
    assert_int_equal(chmod(above, 0755), 0);
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, hf_test_mariadb_uid(), hf_test_mariadb_gid(), &err), &err);
    run_server(server);
    return server;
}

void
hf_test_mariadb_stop(struct hf_test_mariadb *server, int signal)
{
    bool ended = false;
    int status;
    struct hf_error err;
    if (server->server.pid == -1)
        return;
    hf_process_signal(&server->server, signal);
    hf_assert_ok(hf_process_wait(&server->server, TIMEOUT_MS, &ended, &status, &err), &err);
    if (!ended)
        hf_process_kill(&server->server);
    server->server = HF_PROCESS_NONE;
    if (!ended)
        fail_msg("the server in %s did not stop", server->folder);
}

void
hf_test_mariadb_resume(struct hf_test_mariadb *server)
{
    run_server(server);
}

MYSQL *
hf_test_mariadb_connect(const char *socket)
{
    MYSQL *conn = hf_test_mariadb_try_connect(socket);
    if (conn == NULL)
        fail_msg("could not connect to %s", socket);
    return conn;
}

MYSQL *
hf_test_mariadb_try_connect(const char *socket)
{
    const unsigned seconds = ANSWER_SECONDS;
    MYSQL *conn = mysql_init(NULL);
    if (conn == NULL)
        fail_msg("out of memory for a connection");
    mysql_options(conn, MYSQL_OPT_READ_TIMEOUT, &seconds);
    if (mysql_real_connect(conn, NULL, "root", "", NULL, 0, socket, 0) != NULL)
        return conn;
    mysql_close(conn);
    return NULL;
}

void
hf_test_mysql(MYSQL *conn, const char *sql)
{
    if (!hf_test_mysql_try(conn, sql))
        fail_msg("%.200s: %s", sql, mysql_error(conn));
}

bool
hf_test_mysql_try(MYSQL *conn, const char *sql)
{
    if (mysql_query(conn, sql) != 0)
        return false;
    mysql_free_result(mysql_store_result(conn));
    return mysql_errno(conn) == 0;
}

const char *
hf_test_mysql_text(MYSQL *conn, const char *sql)
{
    static char cell[4096];
    if (mysql_query(conn, sql) != 0)
        fail_msg("%s: %s", sql, mysql_error(conn));
    MYSQL_RES *result = mysql_store_result(conn);
    const MYSQL_ROW row = result == NULL ? NULL : mysql_fetch_row(result);
    snprintf(cell, sizeof cell, "%s", row == NULL || row[0] == NULL ? "" : row[0]);
    const bool fine = row != NULL;
    mysql_free_result(result);
    if (!fine)
        fail_msg("%s: no row came back: %s", sql, mysql_error(conn));
    return cell;
}

void
hf_test_mariadb_backup(const struct hf_test_mariadb *server, const char *target)
{
    char to[256], data[128], socket[128];
    int status;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(4 * HF_MIB);
    snprintf(to, sizeof to, "--target-dir=%s", target);
    snprintf(data, sizeof data, "--datadir=%s", server->data);
    snprintf(socket, sizeof socket, "--socket=%s", server->socket);
    const char *const argv[] = {
        "/usr/bin/mariadb-backup", "--no-defaults", "--backup", to, data, socket, "--user=root", NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, TOOL_TIMEOUT_MS, NULL, &log, &status, &err), &err);
    if (status != 0)
        fail_msg("mariadb-backup: %s", hf_buf_text(&log));
}

uid_t
hf_test_mariadb_uid(void)
{
    const struct passwd *account = geteuid() == 0 ? getpwnam("mysql") : NULL;
    if (geteuid() == 0 && account == NULL)
        fail_msg("this host has no user mysql");
    return account == NULL ? geteuid() : account->pw_uid;
}

gid_t
hf_test_mariadb_gid(void)
{
    const struct passwd *account = geteuid() == 0 ? getpwnam("mysql") : NULL;
    return account == NULL ? getegid() : account->pw_gid;
}

/* With a folder for its socket and its words. */
static struct hf_test_mariadb *
new_server(void)
{
    if (owner == 0) {
        owner = getpid();
        atexit(stop_all);
    }
    if (server_count == MOST_SERVERS)
        fail_msg("more than %d servers in one test program", MOST_SERVERS);
    struct hf_test_mariadb *server = calloc(1, sizeof *server);
    if (server == NULL)
        fail_msg("out of memory for a server");
    servers[server_count++] = server;
    server->server = HF_PROCESS_NONE;
    snprintf(server->folder, sizeof server->folder, "%s", hf_test_folder());
    snprintf(server->socket, sizeof server->socket, "%s/m.sock", server->folder);
    snprintf(server->log, sizeof server->log, "%s/server.log", server->folder);
    give(server->folder, 0755);
    return server;
}

/* Before the test's folders go; a child of the test that exits leaves the servers alone. */
static void
stop_all(void)
{
    if (getpid() != owner)
        return;
    for (size_t i = 0; i < server_count; i++) {
        hf_process_kill(&servers[i]->server);
        free(servers[i]);
    }
    server_count = 0;
}

static void
make_system_tables(const struct hf_test_mariadb *server)
{
    char data[128];
    int status;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_MIB);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(4 * HF_MIB);
    hf_assert_ok(hf_buf_add_text(&text,
                                 "CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
                                 "SET @skip_auth_anonymous=1;\nSET @current_hostname='localhost';\n",
                                 &err),
                 &err);
    add_script(&text, SCRIPTS "mysql_system_tables.sql");
    add_script(&text, SCRIPTS "mysql_system_tables_data.sql");
    snprintf(data, sizeof data, "--datadir=%s", server->data);
    const char *const argv[] = {"/usr/sbin/mariadbd",
                                "--no-defaults",
                                "--bootstrap",
                                data,
                                "--innodb-log-file-size=8M",
                                "--innodb-flush-method=nosync",
                                "--innodb-buffer-pool-size=16M",
                                "--performance-schema=0",
                                "--skip-log-bin",
                                NULL};
    const struct hf_process_options options = {.argv = argv,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .become = geteuid() == 0,
                                               .uid = hf_test_mariadb_uid(),
                                               .gid = hf_test_mariadb_gid()};
    hf_assert_ok(hf_process_run(&options, hf_buf_text(&text), text.length, TIMEOUT_MS, NULL, &log, &status, &err),
                 &err);
    if (status != 0)
        fail_msg("system tables: %s", hf_buf_text(&log));
}

static void
add_script(struct hf_buf *text, const char *name)
{
    struct hf_error err;
    hf_assert_ok(hf_file_read(name, text, &err), &err);
}

static void
give(const char *path, mode_t mode)
{
    if (chmod(path, mode) != 0 || (geteuid() == 0 && chown(path, hf_test_mariadb_uid(), hf_test_mariadb_gid()) != 0))
        fail_msg("could not give %s away: %s", path, strerror(errno));
}

static void
run_server(struct hf_test_mariadb *server)
{
    char data[128], socket[128], pid[128];
    static const char *const of_a_source[] = {"--log-bin=bin", "--server-id=7", "--innodb-log-file-size=8M",
                                              "--innodb-flush-log-at-trx-commit=2", NULL};
    const char *argv[MOST_ARGUMENTS] = {"/usr/sbin/mariadbd",
                                        "--no-defaults",
                                        "--skip-networking",
                                        data,
                                        socket,
                                        pid,
                                        "--innodb-buffer-pool-size=16M",
                                        "--innodb-flush-method=nosync",
                                        "--performance-schema=0"};
    size_t count = 0;
    struct hf_error err;
    snprintf(data, sizeof data, "--datadir=%s", server->data);
    snprintf(socket, sizeof socket, "--socket=%s", server->socket);
    snprintf(pid, sizeof pid, "--pid-file=%s/pid", server->folder);
    while (argv[count] != NULL)
        count++;
    for (size_t i = 0; !server->is_copy && of_a_source[i] != NULL; i++)
        argv[count++] = of_a_source[i];
    for (size_t i = 0; server->more != NULL && server->more[i] != NULL && count + 1 < MOST_ARGUMENTS; i++)
        argv[count++] = server->more[i];
    _cleanup_(hf_closep) int log = open(server->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0)
        fail_msg("no log for the server: %s", strerror(errno));
    const struct hf_process_options options = {.argv = argv,
                                               .stdin_fd = -1,
                                               .stdout_fd = log,
                                               .stderr_fd = log,
                                               .become = geteuid() == 0,
                                               .uid = hf_test_mariadb_uid(),
                                               .gid = hf_test_mariadb_gid()};
    hf_assert_ok(hf_process_start(&options, &server->server, &err), &err);
    for (int waited_ms = 0; waited_ms < TIMEOUT_MS; waited_ms += 50) {
        bool ended;
        int status;
        MYSQL *conn = hf_test_mariadb_try_connect(server->socket);
        if (conn != NULL) {
            mysql_close(conn);
            return;
        }
        hf_assert_ok(hf_process_wait(&server->server, 50, &ended, &status, &err), &err);
        if (ended) {
            server->server = HF_PROCESS_NONE;
            show_log(server);
            fail_msg("the server in %s ended", server->folder);
        }
    }
    show_log(server);
    fail_msg("the server in %s takes no connections", server->folder);
}

static void
show_log(const struct hf_test_mariadb *server)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_MIB);
    struct hf_error err;
    if (hf_file_read(server->log, &text, &err))
        print_message("# %s\n", hf_buf_text(&text));
}
