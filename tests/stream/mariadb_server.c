#include "tests/stream/mariadb_server.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <fcntl.h>
#include <unistd.h>

#include "tests/support/test.h"

#define SERVER    "/usr/sbin/mariadbd"
#define INSTALL   "/usr/bin/mariadb-install-db"
#define WAIT_MS   60000
#define WORDS     64
#define TEXTS     8
#define TEXT_SIZE 8192

static void run(const char *const *words, const char *log);
static MYSQL *open_connection(const char *socket, struct hf_error *err);

bool
mariadb_here(void)
{
    return access(SERVER, X_OK) == 0 && access(INSTALL, X_OK) == 0;
}

void
mariadb_make(struct mariadb_server *server, const char *folder, uint32_t server_id, const char *options)
{
    char datadir[256], log[256];
    *server = (struct mariadb_server){.server_id = server_id};
    assert_true((size_t)snprintf(server->folder, sizeof server->folder, "%s/m%u", folder, server_id) <
                sizeof server->folder);
    snprintf(server->options, sizeof server->options, "%s", options);
    snprintf(server->socket, sizeof server->socket, "%s/socket", server->folder);
    snprintf(datadir, sizeof datadir, "--datadir=%s/data", server->folder);
    snprintf(log, sizeof log, "%s/install.log", server->folder);
    assert_int_equal(mkdir(server->folder, 0700), 0);
    run((const char *[]){INSTALL, "--no-defaults", datadir, "--user=root", "--skip-test-db",
                         "--auth-root-authentication-method=normal", "--innodb-log-file-size=8M", "--skip-log-bin",
                         NULL},
        log);
    mariadb_start(server);
}

void
mariadb_start(struct mariadb_server *server)
{
    char datadir[256], socket[300], pid_file[256], id[32], log[256], binlog[256], options[1024];
    const char *words[WORDS] = {SERVER,
                                "--no-defaults",
                                "--user=root",
                                "--skip-networking",
                                "--skip-name-resolve",
                                "--innodb-buffer-pool-size=16M",
                                "--innodb-log-file-size=8M",
                                "--key-buffer-size=1M",
                                "--performance-schema=OFF",
                                "--binlog-format=ROW",
                                "--plugin-load-add=auth_socket",
                                "--innodb-fast-shutdown=1"};
    size_t count = 12;
    snprintf(datadir, sizeof datadir, "--datadir=%s/data", server->folder);
    snprintf(socket, sizeof socket, "--socket=%s", server->socket);
    snprintf(pid_file, sizeof pid_file, "--pid-file=%s/pid", server->folder);
    snprintf(id, sizeof id, "--server-id=%u", server->server_id);
    snprintf(log, sizeof log, "%s/server.log", server->folder);
    snprintf(binlog, sizeof binlog, "--log-bin=%s/binlog", server->folder);
    snprintf(options, sizeof options, "%s", server->options);
    words[count++] = datadir, words[count++] = socket, words[count++] = pid_file, words[count++] = id;
    words[count++] = binlog;
    for (char *rest = options, *word; (word = strsep(&rest, " ")) != NULL && count < WORDS - 1;)
        if (*word != 0)
            words[count++] = word;
    fflush(NULL);
    server->pid = fork();
    assert_true(server->pid >= 0);
    if (server->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), in = open("/dev/null", O_RDONLY);
        dup2(in, 0), dup2(out, 1), dup2(out, 2);
        closefrom(3);
        execv(words[0], (char *const *)words);
        _exit(127);
    }
    for (int waited = 0; waited < WAIT_MS; waited += 20) {
        MYSQL *conn = mariadb_try_open(server);
        if (conn != NULL) {
            mysql_close(conn);
            return;
        }
        if (waitpid(server->pid, NULL, WNOHANG) == server->pid) {
            server->pid = 0;
            fail_msg("the server ended at once: see %s", log);
        }
        usleep(20000);
    }
    fail_msg("the server did not start: see %s", log);
}

void
mariadb_stop(struct mariadb_server *server)
{
    kill(server->pid, SIGTERM);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

void
mariadb_kill(struct mariadb_server *server)
{
    if (server->pid == 0)
        return;
    kill(server->pid, SIGKILL);
    waitpid(server->pid, NULL, 0);
    server->pid = 0;
}

MYSQL *
mariadb_open(const struct mariadb_server *server)
{
    struct hf_error err;
    MYSQL *conn = open_connection(server->socket, &err);
    if (conn == NULL)
        fail_msg("%s", err.message);
    return conn;
}

MYSQL *
mariadb_try_open(const struct mariadb_server *server)
{
    struct hf_error unheard;
    return open_connection(server->socket, &unheard);
}

void
mariadb_sql(MYSQL *conn, const char *sql)
{
    if (!mariadb_try_sql(conn, sql))
        fail_msg("%.100s: %s", sql, mysql_error(conn));
}

bool
mariadb_try_sql(MYSQL *conn, const char *sql)
{
    if (mysql_query(conn, sql) != 0)
        return false;
    MYSQL_RES *result = mysql_store_result(conn);
    if (result != NULL)
        mysql_free_result(result);
    return mysql_errno(conn) == 0;
}

static const char *
cell(MYSQL *conn, const char *sql, unsigned column, bool first)
{
    static char texts[TEXTS][TEXT_SIZE];
    static unsigned next;
    char *text = texts[next++ % TEXTS];
    text[0] = 0;
    if (mysql_query(conn, sql) != 0)
        fail_msg("%.100s: %s", sql, mysql_error(conn));
    MYSQL_RES *result = mysql_store_result(conn);
    for (MYSQL_ROW row; result != NULL && (row = mysql_fetch_row(result)) != NULL;)
        if (!first || text[0] == 0)
            snprintf(text, TEXT_SIZE, "%s", row[column] == NULL ? "" : row[column]);
    if (result != NULL)
        mysql_free_result(result);
    return text;
}

const char *
mariadb_text(MYSQL *conn, const char *sql)
{
    return cell(conn, sql, 0, false);
}

const char *
mariadb_first(MYSQL *conn, const char *sql)
{
    return cell(conn, sql, 0, true);
}

const char *
mariadb_status(MYSQL *conn, const char *sql)
{
    return cell(conn, sql, 1, false);
}

bool
mariadb_connector(const struct hf_source_target *target, MYSQL **ret, struct hf_error *err)
{
    *ret = open_connection(target->conninfo, err);
    return *ret != NULL;
}

static MYSQL *
open_connection(const char *socket, struct hf_error *err)
{
    const unsigned seconds = 30;
    MYSQL *conn = mysql_init(NULL);
    mysql_options(conn, MYSQL_OPT_READ_TIMEOUT, &seconds);
    if (mysql_real_connect(conn, NULL, "root", "", NULL, 0, socket, 0) != NULL)
        return conn;
    (void)hf_fail(err, HF_ERR_UNAVAILABLE, "could not reach the server: %s", mysql_error(conn));
    mysql_close(conn);
    return NULL;
}

static void
run(const char *const *words, const char *log)
{
    fflush(NULL);
    const pid_t pid = fork();
    int status;
    if (pid == 0) {
        const int out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600), in = open("/dev/null", O_RDONLY);
        dup2(in, 0), dup2(out, 1), dup2(out, 2);
        execv(words[0], (char *const *)words);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (status != 0)
        fail_msg("\"%s\" failed: see %s", words[0], log);
}
