/*
 * statements.h - running the statements of statements.sql by name
 *
 * Only catalog/ includes this.  A statement is prepared once a connection and kept.  Using one:
 *
 *     _cleanup_(hf_statement_done) struct hf_statement statement = hf_statement(catalog, HF_SQL_BACKUP_GET);
 *     hf_bind_id(&statement, ":backup_id", id);
 *     if (!hf_statement_step(&statement, &found, err)) ...
 *
 * Binding cannot be checked one by one without drowning the reader, so a failure sticks to the statement
 * and the next step reports it; a parameter that the statement does not have is our own mistake: an assert.
 */
#pragma once
#include <sqlite3.h>
#include "base/id.h"
#include "catalog/catalog.h"
#include "catalog/statements_made.h"

enum hf_catalog_mark { HF_CATALOG_DERIVED, HF_CATALOG_RECORDED, HF_CATALOG_LOCAL };

/* One table of schema.sql; the texts are made from its columns and its primary key. */
struct hf_catalog_table {
    const char *name;
    enum hf_catalog_mark mark;
    const char *dump; // every row, in the order of the key
    const char *copy; // every row of the same table of the database attached as "old"
};

extern const struct hf_catalog_table hf_catalog_tables[];
extern const size_t hf_catalog_table_count;
extern const char *const hf_catalog_migrations[];
extern const size_t hf_catalog_migration_count;

struct hf_catalog {
    sqlite3 *db;
    char *path;
    bool writer;
    sqlite3_stmt *statements[HF_SQL_COUNT];
};

struct hf_statement {
    struct hf_catalog *catalog; // borrowed
    sqlite3_stmt *stmt;         // the catalog's; NULL when it could not be prepared
    int failed;                 // SQLite's code of the first failure
};

struct hf_statement hf_statement(struct hf_catalog *catalog, enum hf_sql which);
void hf_statement_done(struct hf_statement *statement); // resets and unbinds; what _cleanup_() calls

/* NULL binds NULL.  Texts are borrowed until the statement is done. */
void hf_bind_text(struct hf_statement *statement, const char *name, const char *text);
void hf_bind_int(struct hf_statement *statement, const char *name, int64_t value);
void hf_bind_null(struct hf_statement *statement, const char *name);
void hf_bind_id(struct hf_statement *statement, const char *name, const struct hf_id *id);

/* To the next row; *ret_row false at the end.  hf_statement_run is for statements without rows. */
HF_MUST_CHECK bool hf_statement_step(struct hf_statement *statement, bool *ret_row, struct hf_error *err);
HF_MUST_CHECK bool hf_statement_run(struct hf_statement *statement, struct hf_error *err);
/* Runs it and says how many rows changed. */
HF_MUST_CHECK bool hf_statement_change(struct hf_statement *statement, int *ret_changed, struct hf_error *err);

/* Columns of the row; text is borrowed until the next step, NULL for NULL; integers are `otherwise` for NULL. */
const char *hf_column_text(struct hf_statement *statement, int column);
int64_t hf_column_int(struct hf_statement *statement, int column, int64_t otherwise);
/* None for NULL. */
HF_MUST_CHECK bool hf_column_id(struct hf_statement *statement, int column, struct hf_id *ret, struct hf_error *err);

HF_MUST_CHECK bool hf_catalog_execute(struct hf_catalog *catalog, const char *fixed_sql, struct hf_error *err);
/* Turns SQLite's code into ours and names the file. */
bool hf_catalog_fail(struct hf_catalog *catalog, int code, const char *doing, struct hf_error *err);
