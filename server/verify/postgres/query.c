#include "server/verify/postgres/query.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define COLUMNS_MOST 64

static void keep_quiet(void *context, const PGresult *notice);
static void take_refusal(PGconn *conn, const PGresult *result, struct hf_query_refusal *refusal);
static void copy_printable(const char *from, char *to, size_t bytes);
static bool hand_rows(const PGresult *result, hf_query_row *row, void *context, uint64_t *rows, uint64_t *bytes);

bool
hf_query_connect(const struct hf_query_target *target, const char *database, int timeout_s, PGconn **ret,
                 struct hf_error *err)
{
    char port[16], timeout[16], message[300];
    snprintf(port, sizeof port, "%u", target->port);
    snprintf(timeout, sizeof timeout, "%d", timeout_s);
    const char *const words[] = {
        "host",    "port",       "user",     "dbname",           "options",         "connect_timeout",
        "sslmode", "gssencmode", "passfile", "application_name", "client_encoding", NULL};
    const char *const values[] = {target->folder, port,      target->user, database,         target->options,
                                  timeout,        "disable", "disable",    "/dev/null/none", "holdfast_verify",
                                  "UTF8",         NULL};
    PGconn *conn = PQconnectdbParams(words, values, 0);
    if (conn == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a connection");
    if (PQstatus(conn) != CONNECTION_OK) {
        copy_printable(PQerrorMessage(conn), message, sizeof message);
        PQfinish(conn);
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not connect to database \"%s\" of the copy: %s", database,
                       message);
    }
    PQsetNoticeReceiver(conn, keep_quiet, NULL);
    *ret = conn;
    return true;
}

void
hf_query_closep(PGconn **conn)
{
    if (*conn != NULL)
        PQfinish(*conn);
    *conn = NULL;
}

bool
hf_query_was_answered(const char *message)
{
    return strstr(message, "FATAL:") != NULL; // lc_messages is ours
}

bool
hf_query_is_of_host(const char *message)
{
    static const char *const words[] = {
        "could not access file", // a library: of a file of the data it says "could not open file"
        "could not load library",
        "could not find function",
        "incompatible with server",           // a library of another version
        "incompatible with operating system", // a locale
        "is not supported by this host",
        "No space left",
        "Cannot allocate memory",
        "out of memory",
        "could not resize shared memory",
        "could not map anonymous shared memory",
        "Input/output error",
        "too many clients",
    };
    for (size_t i = 0; i < HF_LENGTH(words); i++)
        if (strstr(message, words[i]) != NULL)
            return true;
    return false;
}

bool
hf_query_run(PGconn *conn, const char *sql, const char *const *parameters, int parameter_count, hf_query_row *row,
             void *context, struct hf_query_refusal *refusal)
{
    uint64_t rows = 0, bytes = 0;
    bool ok = true, more = true;
    *refusal = (struct hf_query_refusal){0};
    if (PQsendQueryParams(conn, sql, parameter_count, NULL, parameters, NULL, NULL, 0) != 1 ||
        PQsetSingleRowMode(conn) != 1) {
        take_refusal(conn, NULL, refusal);
        return false;
    }
    for (PGresult *result; (result = PQgetResult(conn)) != NULL; PQclear(result)) {
        const ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_SINGLE_TUPLE) {
            if (more && row != NULL)
                more = hand_rows(result, row, context, &rows, &bytes);
            if (rows > HF_QUERY_ROWS_MOST || bytes > HF_QUERY_BYTES_MOST) {
                ok = false;
                snprintf(refusal->message, sizeof refusal->message, "it answers with more than %d rows or %zu bytes",
                         HF_QUERY_ROWS_MOST, HF_QUERY_BYTES_MOST);
                PGcancel *cancel = PQgetCancel(conn);
                char ignored[256];
                if (cancel != NULL)
                    PQcancel(cancel, ignored, sizeof ignored);
                PQfreeCancel(cancel);
                rows = bytes = 0;
                more = false;
            }
        } else if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH) {
            // Nobody asked for it.  libpq would give the same result for ever, so the connection is given up as it is.
            snprintf(refusal->message, sizeof refusal->message, "it answers with a copy that nobody asked for");
            PQclear(result);
            return false;
        } else if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK && ok) {
            take_refusal(conn, result, refusal);
            ok = false;
        }
    }
    return ok;
}

struct first_value {
    char *text;
    size_t bytes;
    bool found;
};

static bool
take_first(void *context, char *const *values, int count)
{
    struct first_value *first = context;
    if (count > 0 && values[0] != NULL && !first->found) {
        snprintf(first->text, first->bytes, "%s", values[0]);
        first->found = true;
    }
    return false;
}

bool
hf_query_text(PGconn *conn, const char *sql, const char *const *parameters, int parameter_count, char *ret,
              size_t ret_bytes, struct hf_query_refusal *refusal)
{
    struct first_value first = {ret, ret_bytes, false};
    if (!hf_query_run(conn, sql, parameters, parameter_count, take_first, &first, refusal))
        return false;
    if (!first.found) {
        memcpy(refusal->state, "02000", 6);
        snprintf(refusal->message, sizeof refusal->message, "no row");
    }
    return first.found;
}

bool
hf_query_number(PGconn *conn, const char *sql, const char *const *parameters, int parameter_count, int64_t *ret,
                struct hf_query_refusal *refusal)
{
    char text[32], *end;
    if (!hf_query_text(conn, sql, parameters, parameter_count, text, sizeof text, refusal))
        return false;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno != 0 || *text == 0 || *end != 0) {
        memcpy(refusal->state, "22P02", 6);
        snprintf(refusal->message, sizeof refusal->message, "\"%s\" is no number", text);
        return false;
    }
    *ret = value;
    return true;
}

static void
keep_quiet(void *context, const PGresult *notice)
{
    (void)context;
    (void)notice;
}

static void
take_refusal(PGconn *conn, const PGresult *result, struct hf_query_refusal *refusal)
{
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    const char *message = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
    if (state != NULL)
        snprintf(refusal->state, sizeof refusal->state, "%s", state);
    copy_printable(message != NULL ? message : PQerrorMessage(conn), refusal->message, sizeof refusal->message);
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

static bool
hand_rows(const PGresult *result, hf_query_row *row, void *context, uint64_t *rows, uint64_t *bytes)
{
    char *values[COLUMNS_MOST];
    const int columns = PQnfields(result) < COLUMNS_MOST ? PQnfields(result) : COLUMNS_MOST;
    for (int i = 0; i < PQntuples(result); i++) {
        for (int column = 0; column < columns; column++) {
            values[column] = PQgetisnull(result, i, column) ? NULL : PQgetvalue(result, i, column);
            *bytes += (uint64_t)PQgetlength(result, i, column);
        }
        (*rows)++;
        if (!row(context, values, columns))
            return false;
    }
    return true;
}
