/*
 * table.h - aligned columns, and text of strangers made fit for a terminal
 */
#pragma once
#include "base/json.h"

#define HF_TABLE_COLUMNS_MOST 12

struct hf_table {
    size_t columns;
    size_t cell_count;
    char **cells;                      // row by row
    const char **colours;              // of each cell, or NULL
    bool right[HF_TABLE_COLUMNS_MOST]; // aligned to the right: numbers
};

/* Begins with the row of headings, ended by NULL; a heading that begins with ">" is aligned to the right. */
HF_MUST_CHECK bool hf_table_begin(struct hf_table *table, const char *const *headings, struct hf_error *err);
/* One cell after the other, row by row; NULL stands as "-".  colour: an SGR sequence such as "32", or NULL. */
HF_MUST_CHECK bool hf_table_add(struct hf_table *table, const char *text, const char *colour, struct hf_error *err);
HF_MUST_CHECK bool hf_table_print(const struct hf_table *table, bool colours, struct hf_buf *out, struct hf_error *err);
void hf_table_done(struct hf_table *table);

/* Adds text with control characters left out: nobody else drives this terminal. */
HF_MUST_CHECK bool hf_add_plain(struct hf_buf *out, const char *text, struct hf_error *err);
