#include "server/verify/asker/mariadb.h"

#include <errmsg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNECT_SECONDS_MOST 30

static void closep(MYSQL **conn);
static bool hand_row(MYSQL_RES *result, MYSQL_ROW values, hf_direct_row *row, void *context, uint64_t *bytes);
static void refuse(MYSQL *conn, struct hf_ask_refusal *refusal);
static void refuse_answer(struct hf_ask_refusal *refusal, const char *why);
static unsigned seconds_of(uint64_t timeout_ms);

bool
hf_connector_connect(const char *socket, uint64_t timeout_ms, MYSQL **ret, struct hf_ask_refusal *refusal)
{
    const unsigned seconds = seconds_of(timeout_ms);
    const unsigned connect_seconds = seconds < CONNECT_SECONDS_MOST ? seconds : CONNECT_SECONDS_MOST;
    const unsigned no_files = 0, protocol = MYSQL_PROTOCOL_SOCKET;
    const unsigned long packet = HF_CONNECTOR_PACKET_MOST;
    const my_bool no_reconnect = 0, no_reports = 0;
    _cleanup_(closep) MYSQL *conn = mysql_init(NULL);
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
    *ret = HF_TAKE(conn);
    return true;
}

bool
hf_connector_run(MYSQL *conn, const char *statement, hf_direct_row *row, void *context, struct hf_ask_refusal *refusal)
{
    uint64_t rows = 0, bytes = 0;
    bool fine = true;
    *refusal = (struct hf_ask_refusal){0};
    if (mysql_real_query(conn, statement, strlen(statement)) != 0) {
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
    for (MYSQL_ROW values; fine && (values = mysql_fetch_row(result)) != NULL;) {
        if (++rows > HF_ASK_ROWS_MOST || !hand_row(result, values, row, context, &bytes)) {
            refuse_answer(refusal, "the answer is longer than any answer to this question");
            fine = false;
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

static void
closep(MYSQL **conn)
{
    if (*conn != NULL)
        mysql_close(*conn);
    *conn = NULL;
}

static bool
hand_row(MYSQL_RES *result, MYSQL_ROW values, hf_direct_row *row, void *context, uint64_t *bytes)
{
    struct hf_ask_cells cells = {0};
    const unsigned columns = mysql_num_fields(result);
    const unsigned long *lengths = mysql_fetch_lengths(result);
    cells.count = columns < HF_ASK_CELLS_MOST ? columns : HF_ASK_CELLS_MOST;
    for (size_t i = 0; i < columns; i++) {
        *bytes += lengths[i];
        if (i >= cells.count)
            continue;
        cells.values[i] = values[i];
        cells.lengths[i] = lengths[i];
    }
    return *bytes <= HF_ASK_BYTES_MOST && row(context, &cells);
}

static void
refuse(MYSQL *conn, struct hf_ask_refusal *refusal)
{
    const char *message = mysql_error(conn);
    size_t length = 0;
    *refusal = (struct hf_ask_refusal){.code = mysql_errno(conn)};
    refusal->broken = refusal->code >= CR_MIN_ERROR && refusal->code <= CR_MAX_ERROR;
    refusal->over_time =
        refusal->code == CR_SERVER_LOST &&
        (strstr(message, "timed out") != NULL || strstr(message, "110") != NULL || strstr(message, " 11 ") != NULL);
    for (; *message != '\0' && length + 1 < sizeof refusal->message; message++)
        refusal->message[length++] = *message >= 0x20 && *message < 0x7f ? *message : '?';
    refusal->message[length] = '\0';
}

static void
refuse_answer(struct hf_ask_refusal *refusal, const char *why)
{
    *refusal = (struct hf_ask_refusal){.code = CR_UNKNOWN_ERROR, .broken = true};
    snprintf(refusal->message, sizeof refusal->message, "%s", why);
}

static unsigned
seconds_of(uint64_t timeout_ms)
{
    const uint64_t seconds = (timeout_ms + 999) / 1000;
    return seconds == 0 ? 1 : seconds > 1000000 ? 1000000 : (unsigned)seconds;
}
