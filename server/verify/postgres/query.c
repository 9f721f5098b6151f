#include "server/verify/postgres/query.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of hf_query_run: what a row of the asker's is turned into. */
struct handing {
    hf_query_row *row;
    void *context;
};

static bool hand(void *context, const struct hf_ask_cells *cells);

bool
hf_query_connect(const struct hf_query_target *target, const char *database, int timeout_s, struct hf_asker_conn **ret,
                 struct hf_error *err)
{
    const struct hf_ask_postgres wanted = {.port = target->port,
                                           .timeout_s = (uint32_t)timeout_s,
                                           .user = target->user,
                                           .database = database,
                                           .options = target->options};
    struct hf_ask_refusal refusal;
    if (hf_asker_connect_postgres(target->asker, &wanted, ret, &refusal))
        return true;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not connect to database \"%s\" of the copy: %.300s", database,
                   refusal.message);
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
hf_query_run(struct hf_asker_conn *conn, const char *sql, const char *const *parameters, int parameter_count,
             hf_query_row *row, void *context, struct hf_query_refusal *refusal)
{
    struct hf_ask_query query = {.statement = sql, .parameter_count = (size_t)parameter_count};
    struct handing handing = {.row = row, .context = context};
    struct hf_ask_refusal why;
    assert(parameter_count <= HF_ASK_PARAMETERS_MOST);
    for (int i = 0; i < parameter_count; i++)
        query.parameters[i] = parameters[i];
    const bool ok = hf_asker_ask(conn, &query, row != NULL ? hand : NULL, &handing, &why);
    *refusal = (struct hf_query_refusal){0};
    if (ok)
        return true;
    memcpy(refusal->state, why.state, sizeof refusal->state);
    snprintf(refusal->message, sizeof refusal->message, "%s", why.message);
    return false;
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
hf_query_text(struct hf_asker_conn *conn, const char *sql, const char *const *parameters, int parameter_count,
              char *ret, size_t ret_bytes, struct hf_query_refusal *refusal)
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
hf_query_number(struct hf_asker_conn *conn, const char *sql, const char *const *parameters, int parameter_count,
                int64_t *ret, struct hf_query_refusal *refusal)
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

static bool
hand(void *context, const struct hf_ask_cells *cells)
{
    const struct handing *handing = context;
    char *values[HF_ASK_CELLS_MOST];
    for (size_t i = 0; i < cells->count; i++)
        values[i] = (char *)(uintptr_t)cells->values[i]; // as texts: PostgreSQL has no zero in one
    return handing->row(handing->context, values, (int)cells->count);
}
