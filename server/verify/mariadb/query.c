#include "server/verify/mariadb/query.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct first_cell {
    char *text;
    size_t bytes;
    bool found;
};

/* Of hf_mariadb_run: what a row of the asker's is turned into. */
struct handing {
    hf_mariadb_row *row;
    void *context;
};

static bool take_first(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static bool hand(void *context, const struct hf_ask_cells *cells);
static void take_refusal(const struct hf_ask_refusal *why, struct hf_mariadb_refusal *refusal);

bool
hf_mariadb_connect(struct hf_asker *asker, uint64_t timeout_ms, struct hf_asker_conn **ret,
                   struct hf_mariadb_refusal *refusal)
{
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    struct hf_ask_refusal why;
    if (!hf_asker_connect_mariadb(asker, timeout_ms, &conn, &why)) {
        take_refusal(&why, refusal);
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

bool
hf_mariadb_run(struct hf_asker_conn *conn, const char *sql, hf_mariadb_row *row, void *context,
               struct hf_mariadb_refusal *refusal)
{
    const struct hf_ask_query query = {.statement = sql};
    struct handing handing = {.row = row, .context = context};
    struct hf_ask_refusal why;
    *refusal = (struct hf_mariadb_refusal){0};
    if (hf_asker_ask(conn, &query, row != NULL ? hand : NULL, &handing, &why))
        return true;
    take_refusal(&why, refusal);
    return false;
}

bool
hf_mariadb_number(struct hf_asker_conn *conn, const char *sql, int64_t *ret, struct hf_mariadb_refusal *refusal)
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
hf_mariadb_text(struct hf_asker_conn *conn, const char *sql, char *ret, size_t ret_bytes,
                struct hf_mariadb_refusal *refusal)
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

static bool
hand(void *context, const struct hf_ask_cells *cells)
{
    const struct handing *handing = context;
    char *values[HF_ASK_CELLS_MOST];
    unsigned long lengths[HF_ASK_CELLS_MOST];
    for (size_t i = 0; i < cells->count; i++) {
        values[i] = (char *)(uintptr_t)cells->values[i];
        lengths[i] = cells->lengths[i];
    }
    return handing->row(handing->context, values, lengths, (unsigned)cells->count);
}

static void
take_refusal(const struct hf_ask_refusal *why, struct hf_mariadb_refusal *refusal)
{
    *refusal = (struct hf_mariadb_refusal){.code = why->code, .broken = why->broken, .over_time = why->over_time};
    snprintf(refusal->message, sizeof refusal->message, "%.255s", why->message);
}
