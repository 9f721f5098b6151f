#include "catalog/statements.h"

#include <assert.h>
#include <string.h>

static int parameter(struct hf_statement *statement, const char *name);
static void note(struct hf_statement *statement, int code);

struct hf_statement
hf_statement(struct hf_catalog *catalog, enum hf_sql which)
{
    struct hf_statement statement = {.catalog = catalog};
    sqlite3_stmt **kept = &catalog->statements[which];
    if (*kept == NULL)
        statement.failed =
            sqlite3_prepare_v3(catalog->db, hf_sql_texts[which], -1, SQLITE_PREPARE_PERSISTENT, kept, NULL);
    statement.stmt = *kept;
    return statement;
}

void
hf_statement_done(struct hf_statement *statement)
{
    if (statement->stmt == NULL)
        return;
    sqlite3_reset(statement->stmt);
    sqlite3_clear_bindings(statement->stmt);
    statement->stmt = NULL;
}

void
hf_bind_text(struct hf_statement *statement, const char *name, const char *text)
{
    if (statement->failed != SQLITE_OK)
        return;
    int at = parameter(statement, name);
    note(statement, text == NULL ? sqlite3_bind_null(statement->stmt, at)
                                 : sqlite3_bind_text(statement->stmt, at, text, -1, SQLITE_STATIC));
}

void
hf_bind_int(struct hf_statement *statement, const char *name, int64_t value)
{
    if (statement->failed == SQLITE_OK)
        note(statement, sqlite3_bind_int64(statement->stmt, parameter(statement, name), value));
}

void
hf_bind_null(struct hf_statement *statement, const char *name)
{
    if (statement->failed == SQLITE_OK)
        note(statement, sqlite3_bind_null(statement->stmt, parameter(statement, name)));
}

void
hf_bind_id(struct hf_statement *statement, const char *name, const struct hf_id *id)
{
    char text[HF_ID_TEXT_BYTES];
    if (statement->failed != SQLITE_OK)
        return;
    hf_id_format(id, text);
    note(statement, sqlite3_bind_text(statement->stmt, parameter(statement, name), text, -1, SQLITE_TRANSIENT));
}

bool
hf_statement_step(struct hf_statement *statement, bool *ret_row, struct hf_error *err)
{
    int code = statement->failed;
    if (code == SQLITE_OK)
        code = sqlite3_step(statement->stmt);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        statement->failed = code;
        return hf_catalog_fail(statement->catalog, code, "could not ask", err);
    }
    *ret_row = code == SQLITE_ROW;
    return true;
}

bool
hf_statement_run(struct hf_statement *statement, struct hf_error *err)
{
    bool row;
    if (!hf_statement_step(statement, &row, err))
        return false;
    assert(!row);
    return true;
}

bool
hf_statement_change(struct hf_statement *statement, int *ret_changed, struct hf_error *err)
{
    if (!hf_statement_run(statement, err))
        return false;
    *ret_changed = sqlite3_changes(statement->catalog->db);
    return true;
}

const char *
hf_column_text(struct hf_statement *statement, int column)
{
    return (const char *)sqlite3_column_text(statement->stmt, column);
}

int64_t
hf_column_int(struct hf_statement *statement, int column, int64_t otherwise)
{
    if (sqlite3_column_type(statement->stmt, column) == SQLITE_NULL)
        return otherwise;
    return sqlite3_column_int64(statement->stmt, column);
}

bool
hf_column_id(struct hf_statement *statement, int column, struct hf_id *ret, struct hf_error *err)
{
    const char *text = hf_column_text(statement, column);
    if (text == NULL) {
        *ret = HF_ID_NONE;
        return true;
    }
    return hf_id_parse(text, ret, err) || hf_fail_within(err, "catalog \"%s\"", statement->catalog->path);
}

bool
hf_catalog_execute(struct hf_catalog *catalog, const char *fixed_sql, struct hf_error *err)
{
    int code = sqlite3_exec(catalog->db, fixed_sql, NULL, NULL, NULL);
    return code == SQLITE_OK || hf_catalog_fail(catalog, code, "could not change", err);
}

bool
hf_catalog_fail(struct hf_catalog *catalog, int code, const char *doing, struct hf_error *err)
{
    enum hf_error_kind kind = HF_ERR_UNAVAILABLE;
    switch (code & 0xFF) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        kind = HF_ERR_CORRUPT;
        break;
    case SQLITE_FULL:
        kind = HF_ERR_NO_SPACE;
        break;
    case SQLITE_NOMEM:
        kind = HF_ERR_NO_MEMORY;
        break;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        kind = HF_ERR_DENIED;
        break;
    case SQLITE_CONSTRAINT:
        kind = HF_ERR_CONFLICT;
        break;
    default:
        break;
    }
    // The connection's message names table and column where the code alone does not.
    const char *detail = catalog->db == NULL ? sqlite3_errstr(code) : sqlite3_errmsg(catalog->db);
    return hf_fail(err, kind, "%s the catalog \"%s\": %.200s", doing, catalog->path, detail);
}

static int
parameter(struct hf_statement *statement, const char *name)
{
    int at = sqlite3_bind_parameter_index(statement->stmt, name);
    assert(at > 0);
    return at;
}

static void
note(struct hf_statement *statement, int code)
{
    if (statement->failed == SQLITE_OK && code != SQLITE_OK)
        statement->failed = code;
}
