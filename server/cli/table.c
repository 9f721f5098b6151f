#include "server/cli/table.h"

#include <assert.h>
#include <string.h>

#include "base/text.h"

static bool add_cell(struct hf_table *table, const char *text, const char *colour, struct hf_error *err);
static size_t width_of(const char *text);
static void measure(const struct hf_table *table, size_t widths[static HF_TABLE_COLUMNS_MOST]);
static bool print_cell(const struct hf_table *table, size_t at, size_t width, bool colours, struct hf_buf *out,
                       struct hf_error *err);
static bool add_spaces(struct hf_buf *out, size_t count, struct hf_error *err);

bool
hf_table_begin(struct hf_table *table, const char *const *headings, struct hf_error *err)
{
    *table = (struct hf_table){0};
    while (headings[table->columns] != NULL) {
        assert(table->columns < HF_TABLE_COLUMNS_MOST);
        table->right[table->columns] = headings[table->columns][0] == '>';
        table->columns++;
    }
    for (size_t i = 0; i < table->columns; i++)
        if (!hf_table_add(table, headings[i] + (table->right[i] ? 1 : 0), NULL, err))
            return false;
    return true;
}

bool
hf_table_add(struct hf_table *table, const char *text, const char *colour, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_MIB);
    return hf_add_plain(&plain, text == NULL || text[0] == '\0' ? "-" : text, err) &&
           add_cell(table, hf_buf_text(&plain), colour, err);
}

bool
hf_table_print(const struct hf_table *table, bool colours, struct hf_buf *out, struct hf_error *err)
{
    size_t widths[HF_TABLE_COLUMNS_MOST] = {0};
    measure(table, widths);
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t column = i % table->columns;
        bool last = column + 1 == table->columns;
        // The last column of text is not filled up: a line ends with what it says.
        if (!print_cell(table, i, last && !table->right[column] ? 0 : widths[column], colours, out, err) ||
            !hf_buf_add_text(out, last ? "\n" : "  ", err))
            return false;
    }
    return true;
}

void
hf_table_done(struct hf_table *table)
{
    for (size_t i = 0; i < table->cell_count; i++)
        free(table->cells[i]);
    free(table->cells);
    free(table->colours);
}

bool
hf_add_plain(struct hf_buf *out, const char *text, struct hf_error *err)
{
    for (const uint8_t *at = (const uint8_t *)text; *at != '\0'; at++) {
        bool c1 = *at == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F;
        if (*at < 0x20 || *at == 0x7F || c1) {
            if (!hf_buf_add_text(out, "?", err))
                return false;
            at += c1 ? 1 : 0;
        } else if (!hf_buf_put_u8(out, *at, err)) {
            return false;
        }
    }
    return true;
}

static bool
add_cell(struct hf_table *table, const char *text, const char *colour, struct hf_error *err)
{
    char **cells = reallocarray(table->cells, table->cell_count + 1, sizeof *cells);
    if (cells != NULL)
        table->cells = cells;
    const char **colours = reallocarray(table->colours, table->cell_count + 1, sizeof *colours);
    if (colours != NULL)
        table->colours = colours;
    char *copy = strdup(text);
    if (cells == NULL || colours == NULL || copy == NULL) {
        free(copy);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a table");
    }
    cells[table->cell_count] = copy;
    colours[table->cell_count++] = colour;
    return true;
}

/* Characters, not bytes. */
static size_t
width_of(const char *text)
{
    size_t width = 0, left = strlen(text);
    while (left > 0) {
        size_t length = hf_utf8_length((const uint8_t *)text, left);
        length = length == 0 ? 1 : length;
        text += length;
        left -= length;
        width++;
    }
    return width;
}

static void
measure(const struct hf_table *table, size_t widths[static HF_TABLE_COLUMNS_MOST])
{
    for (size_t i = 0; i < table->cell_count; i++) {
        size_t width = width_of(table->cells[i]);
        if (width > widths[i % table->columns])
            widths[i % table->columns] = width;
    }
}

static bool
print_cell(const struct hf_table *table, size_t at, size_t width, bool colours, struct hf_buf *out,
           struct hf_error *err)
{
    const char *text = table->cells[at], *colour = colours ? table->colours[at] : NULL;
    size_t own = width_of(text), fill = own < width ? width - own : 0;
    bool right = table->right[at % table->columns];
    if (right && !add_spaces(out, fill, err))
        return false;
    if (colour != NULL ? !hf_buf_printf(out, err, "\033[%sm%s\033[0m", colour, text) : !hf_buf_add_text(out, text, err))
        return false;
    return right || add_spaces(out, fill, err);
}

static bool
add_spaces(struct hf_buf *out, size_t count, struct hf_error *err)
{
    return hf_buf_printf(out, err, "%*s", (int)count, "");
}
