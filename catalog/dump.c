#include <stdio.h>
#include <string.h>

#include "catalog/catalog.h"
#include "catalog/statements.h"

#define LINE_MOST (2 * HF_MIB)

/* Walks all rows of all derived and recorded tables. */
struct walk {
    struct hf_catalog *catalog; // borrowed
    size_t table;               // the one that `rows` belongs to, or the next to begin
    sqlite3_stmt *rows;
    struct hf_buf line; // the row the walk stands on; empty at the end
};

static void walk_done(struct walk *walk);
static bool walk_next(struct walk *walk, struct hf_error *err);
static bool add_row(struct walk *walk, struct hf_error *err);
static int compare_places(const struct walk *a, const struct walk *b);
static void note_difference(struct hf_catalog_difference *difference, const struct walk *walk);

bool
hf_catalog_dump(struct hf_catalog *catalog, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(walk_done) struct walk walk = {.catalog = catalog, .line = HF_BUF_INIT(LINE_MOST)};
    while (walk_next(&walk, err)) {
        if (walk.line.length == 0)
            return true;
        if (!hf_buf_add(out, walk.line.data, walk.line.length, err) || !hf_buf_add_text(out, "\n", err))
            return false;
    }
    return false;
}

bool
hf_catalog_compare(struct hf_catalog *a, struct hf_catalog *b, struct hf_catalog_difference *ret, struct hf_error *err)
{
    _cleanup_(walk_done) struct walk left = {.catalog = a, .line = HF_BUF_INIT(LINE_MOST)};
    _cleanup_(walk_done) struct walk right = {.catalog = b, .line = HF_BUF_INIT(LINE_MOST)};
    struct hf_catalog_difference difference = {0};

    if (!walk_next(&left, err) || !walk_next(&right, err))
        return false;
    while (left.line.length > 0 || right.line.length > 0) {
        int order = compare_places(&left, &right);
        if (order != 0)
            note_difference(&difference, order < 0 ? &left : &right);
        if (order <= 0 && !walk_next(&left, err))
            return false;
        if (order >= 0 && !walk_next(&right, err))
            return false;
    }
    *ret = difference;
    return true;
}

static void
walk_done(struct walk *walk)
{
    sqlite3_finalize(walk->rows);
    hf_buf_done(&walk->line);
}

static bool
walk_next(struct walk *walk, struct hf_error *err)
{
    hf_buf_clear(&walk->line);
    while (walk->table < hf_catalog_table_count) {
        const struct hf_catalog_table *table = &hf_catalog_tables[walk->table];
        int code = SQLITE_DONE;
        if (table->mark != HF_CATALOG_LOCAL) {
            if (walk->rows == NULL)
                code = sqlite3_prepare_v2(walk->catalog->db, table->dump, -1, &walk->rows, NULL);
            if (walk->rows != NULL)
                code = sqlite3_step(walk->rows);
        }
        if (code == SQLITE_ROW)
            return add_row(walk, err);
        if (code != SQLITE_DONE)
            return hf_catalog_fail(walk->catalog, code, "could not read", err);
        sqlite3_finalize(walk->rows);
        walk->rows = NULL;
        walk->table++;
    }
    return true;
}

/* The columns in their order, as a JSON array of [name, value]: an object would sort the key columns away. */
static bool
add_row(struct walk *walk, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *row = json_array();
    for (int i = 0; i < sqlite3_column_count(walk->rows); i++) {
        int type = sqlite3_column_type(walk->rows, i);
        json_t *value = type == SQLITE_NULL      ? json_null()
                        : type == SQLITE_INTEGER ? json_integer(sqlite3_column_int64(walk->rows, i))
                                                 : json_string((const char *)sqlite3_column_text(walk->rows, i));
        if (json_array_append_new(row, json_pack("[s, o]", sqlite3_column_name(walk->rows, i), value)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a row of the catalog");
    }
    return hf_buf_printf(&walk->line, err, "%s ", hf_catalog_tables[walk->table].name) &&
           hf_json_canonical(row, &walk->line, err);
}

/*
 * Which of the two stands further ahead.  Rows that differ in anything but the key are two differences, since
 * the order of their lines decides which side moves on; that the counts may be twice as high is fine.
 */
static int
compare_places(const struct walk *a, const struct walk *b)
{
    if (a->line.length == 0 || b->line.length == 0)
        return a->line.length > 0 ? -1 : b->line.length > 0 ? 1 : 0;
    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    return strcmp(hf_buf_text(&a->line), hf_buf_text(&b->line));
}

static void
note_difference(struct hf_catalog_difference *difference, const struct walk *walk)
{
    if (difference->rows++ == 0)
        snprintf(difference->first, sizeof difference->first, "%s", hf_buf_text(&walk->line));
}
