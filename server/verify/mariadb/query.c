#include "server/verify/mariadb/query.h"

#include <errmsg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_SECONDS_MOST 30

struct first_cell {
    char *text;
    size_t bytes;
    bool found;
};

static bool take_first(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static void refuse(MYSQL *conn, struct hf_mariadb_refusal *refusal);
static void refuse_answer(struct hf_mariadb_refusal *refusal, const char *why);
static unsigned seconds_of(uint64_t timeout_ms);

bool
hf_mariadb_connect(const char *socket, uint64_t timeout_ms, MYSQL **ret, struct hf_mariadb_refusal *refusal)
{
    const unsigned seconds = seconds_of(timeout_ms);
    const unsigned connect_seconds = seconds < CONNECT_SECONDS_MOST ? seconds : CONNECT_SECONDS_MOST;
    const unsigned no_files = 0, protocol = MYSQL_PROTOCOL_SOCKET;
    const unsigned long packet = HF_MARIADB_PACKET_MOST;
    const my_bool no_reconnect = 0, no_reports = 0;
    _cleanup_(hf_mariadb_closep) MYSQL *conn = mysql_init(NULL);
    if (conn == NULL || mysql_options(conn, MYSQL_OPT_LOCAL_INFILE, &no_files) != 0 ||
        mysql_options(conn, MYSQL_OPT_PROTOCOL, &protocol) != 0 ||
        mysql_options(conn, MYSQL_OPT_RECONNECT, &no_reconnect) != 0 ||
        mysql_options(conn, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet) != 0 ||
        mysql_options(conn, MYSQL_OPT_CONNECT_TIMEOUT, &connect_seconds) != 0 ||
        mysql_options(conn, MYSQL_OPT_READ_TIMEOUT, &seconds) != 0 ||
        mysql_options(conn, MYSQL_OPT_WRITE_TIMEOUT, &connect_seconds) != 0 ||
        mysql_options(conn, MYSQL_REPORT_DATA_TRUNCATION, &no_reports) != 0 ||
        mysql_options(conn, MYSQL_SET_CHARSET_NAME, "utf8mb4") != 0) {
        refuse_answer(refusal, "out of memory for a connection");
        return false;
    }
    if (mysql_real_connect(conn, NULL, "holdfast", "", NULL, 0, socket, 0) == NULL) {
        refuse(conn, refusal);
        return false;
    }
    if (!hf_mariadb_run(conn,
                        "SET SESSION sql_mode='', SESSION sql_quote_show_create=1, SESSION foreign_key_checks=0, "
                        "SESSION autocommit=1, SESSION optimizer_use_condition_selectivity=1",
                        NULL, NULL, refusal))
        return false;
    *ret = HF_TAKE(conn);
    return true;
}

void
hf_mariadb_closep(MYSQL **conn)
{
    if (*conn != NULL)
        mysql_close(*conn);
    *conn = NULL;
}

bool
hf_mariadb_run(MYSQL *conn, const char *sql, hf_mariadb_row *row, void *context, struct hf_mariadb_refusal *refusal)
{
    uint64_t rows = 0, bytes = 0;
    bool fine = true;
    *refusal = (struct hf_mariadb_refusal){0};
    if (mysql_real_query(conn, sql, strlen(sql)) != 0) {
        refuse(conn, refusal);
        return false;
    }
    MYSQL_RES *result = mysql_use_result(conn);
    if (result == NULL) {
        if (mysql_errno(conn) == 0)
            return true;
        refuse(conn, refusal);
        return false;
    }
    const unsigned count = mysql_num_fields(result);
    for (MYSQL_ROW values; fine && (values = mysql_fetch_row(result)) != NULL;) {
        const unsigned long *lengths = mysql_fetch_lengths(result);
        for (unsigned i = 0; i < count; i++)
            bytes += lengths[i];
        if (++rows > HF_MARIADB_ROWS_MOST || bytes > HF_MARIADB_BYTES_MOST) {
            refuse_answer(refusal, "the answer is longer than any answer to this question");
            fine = false;
        } else if (row != NULL && !row(context, values, lengths, count)) {
            break;
        }
    }
    if (fine && mysql_errno(conn) != 0) {
        refuse(conn, refusal);
        fine = false;
    }
    if (refusal->broken)
        (void)shutdown(mysql_get_socket(conn), SHUT_RDWR); // freeing the answer would read the rest of it first
    mysql_free_result(result);
    return fine;
}

bool
hf_mariadb_number(MYSQL *conn, const char *sql, int64_t *ret, struct hf_mariadb_refusal *refusal)
{
    char text[32], *end;
    if (!hf_mariadb_text(conn, sql, text, sizeof text, refusal))
        return false;
    const long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0')
        return false;
    *ret = value;
    return true;
}

bool
hf_mariadb_text(MYSQL *conn, const char *sql, char *ret, size_t ret_bytes, struct hf_mariadb_refusal *refusal)
{
    struct first_cell cell = {.text = ret, .bytes = ret_bytes};
    return hf_mariadb_run(conn, sql, take_first, &cell, refusal) && cell.found;
}

bool
hf_mariadb_add_name(struct hf_buf *sql, const char *name, struct hf_error *err)
{
    if (!hf_buf_add_text(sql, "`", err))
        return false;
    for (; *name != '\0'; name++) {
        if ((*name == '`' && !hf_buf_add_text(sql, "`", err)) || !hf_buf_add(sql, name, 1, err))
            return false;
    }
    return hf_buf_add_text(sql, "`", err);
}

static bool
take_first(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct first_cell *cell = context;
    if (count > 0 && values[0] != NULL && lengths[0] < cell->bytes && !cell->found) {
        memcpy(cell->text, values[0], lengths[0]);
        cell->text[lengths[0]] = '\0';
        cell->found = true;
    }
    return true;
}

static void
refuse(MYSQL *conn, struct hf_mariadb_refusal *refusal)
{
    const char *message = mysql_error(conn);
    size_t length = 0;
    *refusal = (struct hf_mariadb_refusal){.code = mysql_errno(conn)};
    refusal->broken = refusal->code >= CR_MIN_ERROR && refusal->code <= CR_MAX_ERROR;
    refusal->over_time =
        refusal->code == CR_SERVER_LOST &&
        (strstr(message, "timed out") != NULL || strstr(message, "110") != NULL || strstr(message, " 11 ") != NULL);
    for (; *message != '\0' && length + 1 < sizeof refusal->message; message++)
        refusal->message[length++] = *message >= 0x20 && *message < 0x7f ? *message : '?';
    refusal->message[length] = '\0';
}

static void
refuse_answer(struct hf_mariadb_refusal *refusal, const char *why)
{
    *refusal = (struct hf_mariadb_refusal){.code = CR_UNKNOWN_ERROR, .broken = true};
    snprintf(refusal->message, sizeof refusal->message, "%s", why);
}

static unsigned
seconds_of(uint64_t timeout_ms)
{
    const uint64_t seconds = (timeout_ms + 999) / 1000;
    return seconds == 0 ? 1 : seconds > 1000000 ? 1000000 : (unsigned)seconds;
}
