#include "server/verify/asker/postgres.h"

#include <stdio.h>
#include <string.h>

static void keep_quiet(void *context, const PGresult *notice);
static void cancel(PGconn *conn);
static bool hand_rows(const PGresult *result, hf_direct_row *row, void *context, uint64_t *rows, uint64_t *bytes);
static void refuse(PGconn *conn, const PGresult *result, struct hf_ask_refusal *refusal);
static void refuse_answer(struct hf_ask_refusal *refusal, const char *why);
static void copy_printable(const char *from, char *to, size_t bytes);

bool
hf_libpq_connect(const struct hf_ask_postgres *target, const char *folder, PGconn **ret, struct hf_ask_refusal *refusal)
{
    char port[16], timeout[16];
    snprintf(port, sizeof port, "%u", target->port);
    snprintf(timeout, sizeof timeout, "%u", target->timeout_s);
    const char *const words[] = {
        "host",    "port",       "user",     "dbname",           "options",         "connect_timeout",
        "sslmode", "gssencmode", "passfile", "application_name", "client_encoding", NULL};
    const char *const values[] = {folder,    port,      target->user,     target->database,  target->options, timeout,
                                  "disable", "disable", "/dev/null/none", "holdfast_verify", "UTF8",          NULL};
    PGconn *conn = PQconnectdbParams(words, values, 0);
    if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
        refuse(conn, NULL, refusal);
        PQfinish(conn);
        return false;
    }
    PQsetNoticeReceiver(conn, keep_quiet, NULL);
    *ret = conn;
    return true;
}

bool
hf_libpq_run(PGconn *conn, const struct hf_ask_query *query, hf_direct_row *row, void *context,
             struct hf_ask_refusal *refusal)
{
    uint64_t rows = 0, bytes = 0;
    bool ok = true;
    *refusal = (struct hf_ask_refusal){0};
    if (PQsendQueryParams(conn, query->statement, (int)query->parameter_count, NULL, query->parameters, NULL, NULL,
                          0) != 1 ||
        PQsetSingleRowMode(conn) != 1) {
        refuse(conn, NULL, refusal);
        return false;
    }
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        const ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_SINGLE_TUPLE) {
            if (ok && !hand_rows(result, row, context, &rows, &bytes)) {
                refuse_answer(refusal, "it answers with more than any answer to this question has");
                cancel(conn);
                ok = false;
            }
        } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            // Nobody asked for it.  libpq would give the same result for ever, so the connection is given up as it is.
            refuse_answer(refusal, "it answers with a copy that nobody asked for");
            refusal->broken = true;
            PQclear(result);
            return false;
        } else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && ok) {
            refuse(conn, result, refusal);
            ok = false;
        }
    }
    refusal->broken = !ok && PQstatus(conn) != CONNECTION_OK; // known for sure only now
    return ok;
}

static void
keep_quiet(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

static void
cancel(PGconn *conn)
{
    PGcancel *request = PQgetCancel(conn);
    char ignored[256];
    if (request != NULL)
        PQcancel(request, ignored, sizeof ignored);
    PQfreeCancel(request);
}

static bool
hand_rows(const PGresult *result, hf_direct_row *row, void *context, uint64_t *rows, uint64_t *bytes)
{
    struct hf_ask_cells cells = {0};
    const int columns = PQnfields(result);
    cells.count = columns < HF_ASK_CELLS_MOST ? (size_t)columns : HF_ASK_CELLS_MOST;
    for (int i = 0; i < PQntuples(result); i++) {
        for (size_t column = 0; column < cells.count; column++) {
            const bool null = PQgetisnull(result, i, (int)column) != 0;
            cells.values[column] = null ? NULL : PQgetvalue(result, i, (int)column);
            cells.lengths[column] = null ? 0 : (size_t)PQgetlength(result, i, (int)column);
            *bytes += cells.lengths[column];
        }
        if (++*rows > HF_ASK_ROWS_MOST || *bytes > HF_ASK_BYTES_MOST || !row(context, &cells))
            return false;
    }
    return true;
}

static void
refuse(PGconn *conn, const PGresult *result, struct hf_ask_refusal *refusal)
{
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    *refusal = (struct hf_ask_refusal){.broken = PQstatus(conn) != CONNECTION_OK};
    if (state != NULL)
        snprintf(refusal->state, sizeof refusal->state, "%s", state);
    copy_printable(message != NULL ? message
                   : conn != NULL  ? PQerrorMessage(conn)
                                   : "out of memory for a connection",
                   refusal->message, sizeof refusal->message);
}

static void
refuse_answer(struct hf_ask_refusal *refusal, const char *why)
{
    *refusal = (struct hf_ask_refusal){0};
    snprintf(refusal->message, sizeof refusal->message, "%s", why);
}

/* One line, no control bytes, no trailing blanks. */
static void
copy_printable(const char *from, char *to, size_t bytes)
{
    size_t length = 0;
    for (; *from != 0 && length + 1 < bytes; from++)
        to[length++] = (unsigned char)*from < 0x20 || *from == 0x7f ? ' ' : *from;
    while (length > 0 && to[length - 1] == ' ')
        length--;
    to[length] = 0;
}
