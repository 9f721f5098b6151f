#include "server/verify/mariadb/live.h"

#include <stdio.h>
#include <string.h>

#include "server/source/mariadb/client.h"

#define GTIDS_BYTES (64 * HF_KIB)

static bool put(MYSQL *conn, const char *sql, struct hf_answer *ret, struct hf_error *err);
static void keep(MYSQL_RES *rows, struct hf_answer *ret);

bool
hf_mariadb_live_gtids(const struct hf_source_target *live, struct hf_gtid_set *ret, struct hf_error *err)
{
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = NULL;
    _cleanup_(hf_freep) char *text = malloc(GTIDS_BYTES);
    if (text == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a GTID position");
    if (!hf_mariadb_client_connect(&hf_flavour_mariadb, live, &conn, err) ||
        !hf_mariadb_ask(conn, "ask for the GTIDs of its binary log", "SELECT @@global.gtid_binlog_pos", text,
                        GTIDS_BYTES, err))
        return false;
    return hf_gtid_set_parse(HF_GTID_MARIADB, text, strlen(text), ret, err);
}

bool
hf_mariadb_ask_live(const struct hf_source_target *live, const struct hf_assertion *assertion, struct hf_answer *ret,
                    struct hf_error *err)
{
    struct hf_error failure = {0};
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = NULL;
    if (hf_mariadb_client_connect(&hf_flavour_mariadb, live, &conn, &failure) &&
        (assertion->database[0] == 0 || mysql_select_db(conn, assertion->database) == 0 ||
         hf_mariadb_fail(conn, "use the database", &failure)) &&
        put(conn, assertion->sql, ret, &failure))
        return true;
    if (failure.kind == HF_ERR_NO_MEMORY || failure.kind == HF_ERR_CANCELLED) {
        *err = failure;
        return false;
    }
    *ret = (struct hf_answer){.kind = HF_ANSWER_REFUSED};
    snprintf(ret->state, sizeof ret->state, "%s",
             failure.kind == HF_ERR_DENIED        ? "our account may not read it"
             : failure.kind == HF_ERR_UNAVAILABLE ? "it is not there"
                                                  : "it was refused");
    return true;
}

static bool
put(MYSQL *conn, const char *sql, struct hf_answer *ret, struct hf_error *err)
{
    static const char limits[] = "SET SESSION max_statement_time = 60, SESSION time_zone = '+00:00', "
                                 "SESSION sql_select_limit = 2, SESSION tx_read_only = 1";
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *rows = NULL;
    if (mysql_query(conn, limits) != 0)
        return hf_mariadb_fail(conn, "set limits", err);
    if (!hf_mariadb_query(conn, "ask what the owner asks", sql, &rows, err))
        return false;
    keep(rows, ret);
    return true;
}

static void
keep(MYSQL_RES *rows, struct hf_answer *ret)
{
    MYSQL_ROW row = mysql_fetch_row(rows);
    *ret = (struct hf_answer){.kind = HF_ANSWER_OTHER};
    if (row == NULL) {
        ret->kind = HF_ANSWER_NOTHING;
    } else if (mysql_num_fields(rows) == 1 && mysql_num_rows(rows) == 1) {
        if (row[0] == NULL) {
            ret->kind = HF_ANSWER_NOTHING;
        } else if (strlen(row[0]) < sizeof ret->text) {
            ret->kind = HF_ANSWER_VALUE;
            snprintf(ret->text, sizeof ret->text, "%s", row[0]);
        }
    }
}
