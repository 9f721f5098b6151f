#include "tests/stream/mariadb_server.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TEXTS     8
#define TEXT_SIZE 8192

static const char *cell(MYSQL *conn, const char *sql, unsigned column, bool first);

bool
mariadb_here(void)
{
    return access("/usr/sbin/mariadbd", X_OK) == 0;
}

void
mariadb_make(struct mariadb_server *server, uint32_t server_id, const char *options)
{
    size_t count = 0;
    *server = (struct mariadb_server){0};
    assert_true((size_t)snprintf(server->text, sizeof server->text,
                                 "--server-id=%u --binlog-format=ROW --log-bin=binlog %s", server_id,
                                 options) < sizeof server->text);
    for (char *rest = server->text, *word; (word = strsep(&rest, " ")) != NULL;) {
        assert_true(count + 1 < HF_LENGTH(server->words));
        if (*word != 0)
            server->words[count++] = word;
    }
    server->server = hf_test_mariadb_start(server->words);
    snprintf(server->socket, sizeof server->socket, "%s", server->server->socket);
}

void
mariadb_start(struct mariadb_server *server)
{
    hf_test_mariadb_resume(server->server);
}

void
mariadb_stop(struct mariadb_server *server)
{
    hf_test_mariadb_stop(server->server, SIGTERM);
}

void
mariadb_kill(struct mariadb_server *server)
{
    if (server->server != NULL)
        hf_test_mariadb_stop(server->server, SIGKILL);
}

MYSQL *
mariadb_open(const struct mariadb_server *server)
{
    return hf_test_mariadb_connect(server->socket);
}

MYSQL *
mariadb_try_open(const struct mariadb_server *server)
{
    return hf_test_mariadb_try_connect(server->socket);
}

void
mariadb_sql(MYSQL *conn, const char *sql)
{
    hf_test_mysql(conn, sql);
}

bool
mariadb_try_sql(MYSQL *conn, const char *sql)
{
    return hf_test_mysql_try(conn, sql);
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
    *ret = hf_test_mariadb_try_connect(target->conninfo);
    return *ret != NULL || hf_fail(err, HF_ERR_UNAVAILABLE, "could not reach the server");
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
    mysql_free_result(result);
    return text;
}
