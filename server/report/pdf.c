#include <cairo/cairo-pdf.h>
#include <pango/pangocairo.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/report/pdf_catalog.h"
#include "server/report/sheet.h"

/* Points, 72 to the inch. */
#define MARGIN_SIDE   50.0
#define MARGIN_TOP    44.0
#define MARGIN_BOTTOM 56.0 // the footer stands in it
#define FOOT_SIZE     7.2
#define TEXT_SIZE     9.2
#define SMALL_SIZE    8.2
#define COLUMN_GAP    8.0
#define DAYS_LABEL    92.0
#define BAR_LABEL     150.0
#define BAR_TIME      64.0
#define PAGES_MOST    400
#define FONT          "Liberation Sans,Arial,DejaVu Sans,sans-serif"

/* Smaller and smaller, until the sheet has as few pages as it wants; below that nobody could read it. */
static const double scales[] = {1.0, 0.96, 0.92, 0.88, 0.84, 0.8};

static const struct {
    double red, green, blue;
} inks[] = {[HF_TONE_PLAIN] = {0.10, 0.10, 0.10},
            [HF_TONE_GOOD] = {0.04, 0.29, 0.13},
            [HF_TONE_WARN] = {0.36, 0.23, 0.00},
            [HF_TONE_BAD] = {0.54, 0.06, 0.06},
            [HF_TONE_QUIET] = {0.28, 0.28, 0.28}},
  papers[] = {[HF_TONE_PLAIN] = {0.96, 0.96, 0.96},
              [HF_TONE_GOOD] = {0.93, 0.97, 0.94},
              [HF_TONE_WARN] = {0.99, 0.96, 0.89},
              [HF_TONE_BAD] = {0.99, 0.93, 0.92},
              [HF_TONE_QUIET] = {1.00, 1.00, 1.00}};

/* Where we are on which page, and how large everything is. */
struct pen {
    const json_t *sheet;
    cairo_t *cairo;
    PangoLayout *layout; // one for all texts
    double width, height;
    double scale;
    double y;
    unsigned page, pages; // pages: in all, as far as that is known
    bool begun;           // something stands on this page
};

struct type {
    double size;
    bool bold, right, centred;
    enum hf_tone tone;
};

static bool render(const json_t *sheet, enum hf_paper paper, double scale, unsigned pages, struct hf_buf *out,
                   unsigned *ret_pages, struct hf_error *err);
static cairo_status_t keep_bytes(void *context, const unsigned char *data, unsigned length);
static void describe(cairo_surface_t *surface, const json_t *sheet);
static double set(const struct pen *pen, const char *text, double width, const struct type *type);
static double put(struct pen *pen, const char *text, double x, double y, double width, const struct type *type,
                  const char *tag);
static void ink(const struct pen *pen, enum hf_tone tone);
static void rule(struct pen *pen, double x, double y, double width, double thick, double grey);
static void need(struct pen *pen, double height);
static void new_page(struct pen *pen);
static void end_page(struct pen *pen);
static double after_heading(const struct pen *pen, size_t index);
static void draw_block(struct pen *pen, const json_t *block, size_t index);
static void draw_title(struct pen *pen, const json_t *block);
static void draw_band(struct pen *pen, const json_t *block);
static void draw_heading(struct pen *pen, const json_t *block, size_t index);
static void draw_text(struct pen *pen, const json_t *block);
static void draw_list(struct pen *pen, const json_t *block);
static void draw_figures(struct pen *pen, const json_t *block);
static void draw_bars(struct pen *pen, const json_t *block);
static void draw_table(struct pen *pen, const json_t *block);
static double table_row(struct pen *pen, const json_t *columns, const json_t *row, bool head, bool draw);
static void draw_days(struct pen *pen, const json_t *block);
static void draw_lines(struct pen *pen, const json_t *block);
static double content_width(const struct pen *pen);

bool
hf_sheet_pdf(const json_t *sheet, enum hf_paper paper, struct hf_buf *out, unsigned *ret_pages, struct hf_error *err)
{
    const json_int_t wanted = json_integer_value(json_object_get(sheet, "pages"));
    double scale = scales[0];
    unsigned pages = 0;
    for (size_t i = 0; i < HF_LENGTH(scales); i++) {
        scale = scales[i];
        if (!render(sheet, paper, scale, 0, NULL, &pages, err))
            return false;
        if (wanted == 0 || pages <= (unsigned)wanted)
            break;
    }
    if (wanted > 0 && pages > (unsigned)wanted) { // then it may as well be read without effort
        scale = scales[1];
        if (!render(sheet, paper, scale, 0, NULL, &pages, err))
            return false;
    }
    return render(sheet, paper, scale, pages, out, ret_pages, err) && hf_pdf_mark_tagged(out, err);
}

/* Without `out` it only finds out how many pages there are. */
static bool
render(const json_t *sheet, enum hf_paper paper, double scale, unsigned pages, struct hf_buf *out, unsigned *ret_pages,
       struct hf_error *err)
{
    struct pen pen = {
        .sheet = sheet,
        .width = paper == HF_PAPER_A4 ? 595.276 : 612.0,
        .height = paper == HF_PAPER_A4 ? 841.89 : 792.0,
        .scale = scale,
        .page = 1,
        .pages = pages,
        .y = MARGIN_TOP,
    };
    size_t index;
    json_t *block;
    cairo_surface_t *surface =
        cairo_pdf_surface_create_for_stream(out == NULL ? NULL : keep_bytes, out, pen.width, pen.height);
    cairo_pdf_surface_restrict_to_version(surface, CAIRO_PDF_VERSION_1_5);
    describe(surface, sheet);
    pen.cairo = cairo_create(surface);
    pen.layout = pango_cairo_create_layout(pen.cairo);
    cairo_font_options_t *options = cairo_font_options_create();
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    pango_cairo_context_set_font_options(pango_layout_get_context(pen.layout), options);
    cairo_font_options_destroy(options);
    pango_context_set_round_glyph_positions(pango_layout_get_context(pen.layout), FALSE);

    cairo_tag_begin(pen.cairo, "Document", NULL);
    json_array_foreach(json_object_get(sheet, "blocks"), index, block)
    {
        if (pen.page < PAGES_MOST)
            draw_block(&pen, block, index);
    }
    end_page(&pen);
    cairo_tag_end(pen.cairo, "Document");
    g_object_unref(pen.layout);
    cairo_destroy(pen.cairo);
    cairo_surface_finish(surface);
    const cairo_status_t status = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS)
        return hf_fail(err, status == CAIRO_STATUS_NO_MEMORY ? HF_ERR_NO_MEMORY : HF_ERR_NO_SPACE,
                       "could not make the PDF: %s", cairo_status_to_string(status));
    if (pen.page == PAGES_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the report would have more than %d pages", PAGES_MOST);
    *ret_pages = pen.page;
    return true;
}

static cairo_status_t
keep_bytes(void *context, const unsigned char *data, unsigned length)
{
    return hf_buf_add(context, data, length, NULL) ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

/* The day of the facts, not of today: the same facts give the same bytes. */
static void
describe(cairo_surface_t *surface, const json_t *sheet)
{
    char date[HF_TIME_TEXT_BYTES];
    hf_time_format(json_integer_value(json_object_get(sheet, "date_ms")) / 1000 * 1000, date);
    strcpy(date + 19, "Z"); // whole seconds
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_TITLE, hf_sheet_text(sheet, "title"));
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_SUBJECT, hf_sheet_text(sheet, "subject"));
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_KEYWORDS, hf_sheet_text(sheet, "keywords"));
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_AUTHOR, "Holdfast");
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_CREATOR, "Holdfast " HF_VERSION);
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_CREATE_DATE, date);
    cairo_pdf_surface_set_metadata(surface, CAIRO_PDF_METADATA_MOD_DATE, date);
}

static double
content_width(const struct pen *pen)
{
    return pen->width - 2 * MARGIN_SIDE;
}

/* Makes the layout hold the text; its height. */
static double
set(const struct pen *pen, const char *text, double width, const struct type *type)
{
    PangoFontDescription *font = pango_font_description_from_string(FONT);
    int height;
    pango_font_description_set_absolute_size(font, type->size * pen->scale * PANGO_SCALE);
    pango_font_description_set_weight(font, type->bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
    pango_layout_set_font_description(pen->layout, font);
    pango_font_description_free(font);
    pango_layout_set_width(pen->layout, (int)(width * PANGO_SCALE));
    pango_layout_set_wrap(pen->layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_alignment(pen->layout, type->right     ? PANGO_ALIGN_RIGHT
                                            : type->centred ? PANGO_ALIGN_CENTER
                                                            : PANGO_ALIGN_LEFT);
    pango_layout_set_line_spacing(pen->layout, 1.08F);
    pango_layout_set_text(pen->layout, text, -1);
    pango_layout_get_size(pen->layout, NULL, &height);
    return (double)height / PANGO_SCALE;
}

static double
put(struct pen *pen, const char *text, double x, double y, double width, const struct type *type, const char *tag)
{
    const double height = set(pen, text, width, type);
    if (tag != NULL)
        cairo_tag_begin(pen->cairo, tag, NULL);
    ink(pen, type->tone);
    cairo_move_to(pen->cairo, x, y);
    pango_cairo_show_layout(pen->cairo, pen->layout);
    if (tag != NULL)
        cairo_tag_end(pen->cairo, tag);
    pen->begun = true;
    return height;
}

static void
ink(const struct pen *pen, enum hf_tone tone)
{
    cairo_set_source_rgb(pen->cairo, inks[tone].red, inks[tone].green, inks[tone].blue);
}

static void
rule(struct pen *pen, double x, double y, double width, double thick, double grey)
{
    cairo_set_source_rgb(pen->cairo, grey, grey, grey);
    cairo_rectangle(pen->cairo, x, y, width, thick);
    cairo_fill(pen->cairo);
}

/* What is that high stands together: on the next page when there is no room. */
static void
need(struct pen *pen, double height)
{
    if (pen->begun && pen->y + height > pen->height - MARGIN_BOTTOM)
        new_page(pen);
}

static void
new_page(struct pen *pen)
{
    end_page(pen);
    pen->page++;
    pen->y = MARGIN_TOP;
    pen->begun = false;
}

static void
end_page(struct pen *pen)
{
    char number[64];
    const double y = pen->height - MARGIN_BOTTOM + 16, scale = pen->scale;
    snprintf(number, sizeof number, "Page %u of %u", pen->page, pen->pages);
    pen->scale = 1.0; // the foot is the same on every sheet
    rule(pen, MARGIN_SIDE, y - 5, content_width(pen), 0.5, 0.45);
    put(pen, hf_sheet_text(pen->sheet, "footer"), MARGIN_SIDE, y, content_width(pen) - 70,
        &(struct type){.size = FOOT_SIZE, .tone = HF_TONE_QUIET}, "P");
    put(pen, number, pen->width - MARGIN_SIDE - 66, y, 66,
        &(struct type){.size = FOOT_SIZE, .tone = HF_TONE_QUIET, .right = true}, "P");
    pen->scale = scale;
    cairo_show_page(pen->cairo);
}

static void
draw_block(struct pen *pen, const json_t *block, size_t index)
{
    const char *type = hf_sheet_text(block, "type");
    if (strcmp(type, "title") == 0)
        draw_title(pen, block);
    else if (strcmp(type, "band") == 0)
        draw_band(pen, block);
    else if (strcmp(type, "heading") == 0)
        draw_heading(pen, block, index);
    else if (strcmp(type, "text") == 0)
        draw_text(pen, block);
    else if (strcmp(type, "list") == 0)
        draw_list(pen, block);
    else if (strcmp(type, "figures") == 0)
        draw_figures(pen, block);
    else if (strcmp(type, "bars") == 0)
        draw_bars(pen, block);
    else if (strcmp(type, "table") == 0)
        draw_table(pen, block);
    else if (strcmp(type, "days") == 0)
        draw_days(pen, block);
    else if (strcmp(type, "lines") == 0)
        draw_lines(pen, block);
    else if (strcmp(type, "break") == 0 && pen->begun)
        new_page(pen);
}

static void
draw_title(struct pen *pen, const json_t *block)
{
    pen->y += put(pen, hf_sheet_text(block, "text"), MARGIN_SIDE, pen->y, content_width(pen),
                  &(struct type){.size = 18, .bold = true}, "H1");
    pen->y += 2 * pen->scale;
    pen->y += put(pen, hf_sheet_text(block, "below"), MARGIN_SIDE, pen->y, content_width(pen),
                  &(struct type){.size = TEXT_SIZE, .tone = HF_TONE_QUIET}, "P");
    pen->y += 8 * pen->scale;
}

static void
draw_band(struct pen *pen, const json_t *block)
{
    const enum hf_tone tone = hf_tone_of(block);
    const struct type word = {.size = 15, .bold = true, .tone = tone}, text = {.size = TEXT_SIZE + 0.6};
    const double x = MARGIN_SIDE + 16, width = content_width(pen) - 26, pad = 7 * pen->scale;
    const double word_height = set(pen, hf_sheet_text(block, "word"), width, &word);
    const double height = word_height + set(pen, hf_sheet_text(block, "text"), width, &text) + 2 * pad + 2;
    need(pen, height);
    cairo_set_source_rgb(pen->cairo, papers[tone].red, papers[tone].green, papers[tone].blue);
    cairo_rectangle(pen->cairo, MARGIN_SIDE, pen->y, content_width(pen), height);
    cairo_fill(pen->cairo);
    ink(pen, tone);
    cairo_rectangle(pen->cairo, MARGIN_SIDE, pen->y, 6, height);
    cairo_fill(pen->cairo);
    cairo_set_line_width(pen->cairo, 0.8);
    cairo_rectangle(pen->cairo, MARGIN_SIDE + 0.4, pen->y + 0.4, content_width(pen) - 0.8, height - 0.8);
    cairo_stroke(pen->cairo);
    put(pen, hf_sheet_text(block, "word"), x, pen->y + pad, width, &word, "P");
    put(pen, hf_sheet_text(block, "text"), x, pen->y + pad + word_height + 2, width, &text, "P");
    pen->y += height + 8 * pen->scale;
}

/* A heading never stands alone at the foot of a page. */
static void
draw_heading(struct pen *pen, const json_t *block, size_t index)
{
    const struct type type = {.size = 11, .bold = true};
    const double height = set(pen, hf_sheet_text(block, "text"), content_width(pen), &type);
    if (pen->begun)
        pen->y += 5 * pen->scale;
    need(pen, height + 6 + after_heading(pen, index));
    pen->y += put(pen, hf_sheet_text(block, "text"), MARGIN_SIDE, pen->y, content_width(pen), &type, "H2");
    rule(pen, MARGIN_SIDE, pen->y + 1, content_width(pen), 0.5, 0.45);
    pen->y += 5 * pen->scale;
}

/* Room for what begins right behind it: all of a small block, the first rows of a large one. */
static double
after_heading(const struct pen *pen, size_t index)
{
    const json_t *next = json_array_get(json_object_get(pen->sheet, "blocks"), index + 1);
    const char *type = hf_sheet_text(next, "type");
    if (strcmp(type, "text") == 0)
        return set(pen, hf_sheet_text(next, "text"), content_width(pen), &(struct type){.size = TEXT_SIZE});
    return (strcmp(type, "lines") == 0 ? 60 : strcmp(type, "days") == 0 ? 70 : 44) * pen->scale;
}

static void
draw_text(struct pen *pen, const json_t *block)
{
    const struct type type = {.size = TEXT_SIZE, .tone = hf_tone_of(block)};
    need(pen, set(pen, hf_sheet_text(block, "text"), content_width(pen), &type));
    pen->y += put(pen, hf_sheet_text(block, "text"), MARGIN_SIDE, pen->y, content_width(pen), &type, "P");
    pen->y += 4 * pen->scale;
}

static void
draw_list(struct pen *pen, const json_t *block)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(block, "items"), index, item)
    {
        const struct type type = {.size = TEXT_SIZE, .tone = hf_tone_of(item)};
        const double width = content_width(pen) - 12;
        need(pen, set(pen, hf_cell_text(item), width, &type));
        cairo_tag_begin(pen->cairo, "L", NULL);
        cairo_tag_begin(pen->cairo, "LI", NULL);
        put(pen, "\xE2\x80\xA2", MARGIN_SIDE + 2, pen->y, 8, &(struct type){.size = TEXT_SIZE}, "Lbl");
        pen->y += put(pen, hf_cell_text(item), MARGIN_SIDE + 12, pen->y, width, &type, "LBody");
        cairo_tag_end(pen->cairo, "LI");
        cairo_tag_end(pen->cairo, "L");
        pen->y += 1.5 * pen->scale;
    }
    pen->y += 2.5 * pen->scale;
}

static void
draw_figures(struct pen *pen, const json_t *block)
{
    const json_t *items = json_object_get(block, "items");
    const size_t count = json_array_size(items);
    const double gap = 8, width = (content_width(pen) - gap * (double)(count - 1)) / (double)count, inner = width - 14;
    double most = 0;
    size_t index;
    json_t *item;
    const struct type label = {.size = SMALL_SIZE, .tone = HF_TONE_QUIET}, note = label;
    struct type value = {.size = 14, .bold = true};
    json_array_foreach(items, index, item)
    {
        const double height = set(pen, hf_sheet_text(item, "label"), inner, &label) +
                              set(pen, hf_sheet_text(item, "value"), inner, &value) +
                              set(pen, hf_sheet_text(item, "note"), inner, &note);
        most = height > most ? height : most;
    }
    const double height = most + 12 * pen->scale;
    need(pen, height);
    json_array_foreach(items, index, item)
    {
        const double x = MARGIN_SIDE + (double)index * (width + gap);
        double y = pen->y + 5 * pen->scale;
        cairo_set_source_rgb(pen->cairo, 0.45, 0.45, 0.45);
        cairo_set_line_width(pen->cairo, 0.6);
        cairo_rectangle(pen->cairo, x + 0.3, pen->y + 0.3, width - 0.6, height - 0.6);
        cairo_stroke(pen->cairo);
        value.tone = hf_tone_of(item);
        y += put(pen, hf_sheet_text(item, "label"), x + 7, y, inner, &label, "P");
        y += put(pen, hf_sheet_text(item, "value"), x + 7, y, inner, &value, "P");
        put(pen, hf_sheet_text(item, "note"), x + 7, y, inner, &note, "P");
    }
    pen->y += height + 6 * pen->scale;
}

static void
draw_bars(struct pen *pen, const json_t *block)
{
    const json_t *items = json_object_get(block, "items");
    const struct type label = {.size = SMALL_SIZE}, text = {.size = SMALL_SIZE, .right = true};
    const double x = MARGIN_SIDE + BAR_LABEL + BAR_TIME + 10, width = content_width(pen) - BAR_LABEL - BAR_TIME - 10;
    json_int_t most = 1;
    size_t index;
    json_t *item;
    json_array_foreach(items, index, item)
    {
        const json_int_t ms = json_integer_value(json_object_get(item, "ms"));
        most = ms > most ? ms : most;
    }
    json_array_foreach(items, index, item)
    {
        const double share = (double)json_integer_value(json_object_get(item, "ms")) / (double)most;
        const double height = set(pen, hf_sheet_text(item, "label"), BAR_LABEL, &label);
        need(pen, height);
        cairo_tag_begin(pen->cairo, "P", NULL);
        put(pen, hf_sheet_text(item, "label"), MARGIN_SIDE, pen->y, BAR_LABEL, &label, NULL);
        put(pen, hf_sheet_text(item, "text"), MARGIN_SIDE + BAR_LABEL, pen->y, BAR_TIME, &text, NULL);
        cairo_tag_end(pen->cairo, "P");
        rule(pen, x, pen->y + height * 0.2, width, height * 0.6, 0.93);
        rule(pen, x, pen->y + height * 0.2, width * share < 0.6 ? 0.6 : width * share, height * 0.6, 0.35);
        pen->y += height + 0.8 * pen->scale;
    }
    pen->y += 3 * pen->scale;
}

/* The head is repeated on every page the table goes on to. */
static void
draw_table(struct pen *pen, const json_t *block)
{
    const json_t *columns = json_object_get(block, "columns");
    size_t index;
    json_t *row;
    need(pen, table_row(pen, columns, columns, true, false) + 26 * pen->scale);
    cairo_tag_begin(pen->cairo, "Table", NULL);
    pen->y += table_row(pen, columns, columns, true, true);
    json_array_foreach(json_object_get(block, "rows"), index, row)
    {
        const double height = table_row(pen, columns, row, false, false);
        if (pen->y + height > pen->height - MARGIN_BOTTOM) {
            cairo_tag_end(pen->cairo, "Table");
            new_page(pen);
            cairo_tag_begin(pen->cairo, "Table", NULL);
            pen->y += table_row(pen, columns, columns, true, true);
        }
        pen->y += table_row(pen, columns, row, false, true);
    }
    cairo_tag_end(pen->cairo, "Table");
    pen->y += 5 * pen->scale;
}

/* A row, or its height alone. */
static double
table_row(struct pen *pen, const json_t *columns, const json_t *row, bool head, bool draw)
{
    double shares = 0, most = 0, x = MARGIN_SIDE;
    const double pad = 1.6 * pen->scale;
    size_t index;
    json_t *column;
    json_array_foreach(columns, index, column) shares += (double)json_integer_value(json_object_get(column, "share"));
    if (draw)
        cairo_tag_begin(pen->cairo, "TR", NULL);
    json_array_foreach(columns, index, column)
    {
        const json_t *cell = json_array_get(row, index);
        const char *text = head ? hf_sheet_text(cell, "title") : hf_cell_text(cell);
        const double width = content_width(pen) * (double)json_integer_value(json_object_get(column, "share")) / shares;
        const struct type type = {.size = SMALL_SIZE,
                                  .bold = head || hf_tone_of(cell) == HF_TONE_BAD,
                                  .right = json_is_true(json_object_get(column, "right")),
                                  .tone = head ? HF_TONE_PLAIN : hf_tone_of(cell)};
        const double inner = width - (index + 1 == json_array_size(columns) ? 0 : COLUMN_GAP);
        const double height = draw ? put(pen, text, x, pen->y + pad, inner, &type, head || index == 0 ? "TH" : "TD")
                                   : set(pen, text, inner, &type);
        most = height > most ? height : most;
        x += width;
    }
    if (draw) {
        cairo_tag_end(pen->cairo, "TR");
        rule(pen, MARGIN_SIDE, pen->y + most + 2 * pad - 0.3, content_width(pen), head ? 0.9 : 0.35, head ? 0.25 : 0.7);
    }
    return most + 2 * pad;
}

static void
draw_days(struct pen *pen, const json_t *block)
{
    const json_t *columns = json_object_get(block, "columns");
    const size_t count = json_array_size(columns);
    const double cell_width = (content_width(pen) - DAYS_LABEL) / (double)(count > 0 ? count : 1);
    const struct type head = {.size = 7, .centred = true, .tone = HF_TONE_QUIET}, label = {.size = SMALL_SIZE};
    const double height = 15 * pen->scale;
    size_t index, at;
    json_t *row, *cell;
    need(pen, 4 * height);
    cairo_tag_begin(pen->cairo, "Table", NULL);
    cairo_tag_begin(pen->cairo, "TR", NULL);
    put(pen, "Day", MARGIN_SIDE, pen->y, DAYS_LABEL, &(struct type){.size = 7, .tone = HF_TONE_QUIET}, "TH");
    json_array_foreach(columns, at, cell) put(
        pen, hf_cell_text(cell), MARGIN_SIDE + DAYS_LABEL + (double)at * cell_width, pen->y, cell_width, &head, "TH");
    cairo_tag_end(pen->cairo, "TR");
    pen->y += 11 * pen->scale;
    json_array_foreach(json_object_get(block, "rows"), index, row)
    {
        if (pen->y + height > pen->height - MARGIN_BOTTOM) {
            cairo_tag_end(pen->cairo, "Table");
            new_page(pen);
            cairo_tag_begin(pen->cairo, "Table", NULL);
        }
        cairo_tag_begin(pen->cairo, "TR", NULL);
        pango_layout_set_ellipsize(pen->layout, PANGO_ELLIPSIZE_END);
        pango_layout_set_height(pen->layout, -1);
        put(pen, hf_sheet_text(row, "label"), MARGIN_SIDE, pen->y + 2 * pen->scale, DAYS_LABEL - 6, &label, "TH");
        pango_layout_set_ellipsize(pen->layout, PANGO_ELLIPSIZE_NONE);
        json_array_foreach(json_object_get(row, "cells"), at, cell)
        {
            const enum hf_tone tone = hf_tone_of(cell);
            const double x = MARGIN_SIDE + DAYS_LABEL + (double)at * cell_width;
            const struct type mark = {.size = 8, .centred = true, .bold = tone == HF_TONE_BAD, .tone = tone};
            cairo_set_source_rgb(pen->cairo, papers[tone].red, papers[tone].green, papers[tone].blue);
            cairo_rectangle(pen->cairo, x, pen->y, cell_width, height);
            cairo_fill(pen->cairo);
            cairo_set_source_rgb(pen->cairo, 0.6, 0.6, 0.6);
            cairo_set_line_width(pen->cairo, 0.4);
            cairo_rectangle(pen->cairo, x, pen->y, cell_width, height);
            cairo_stroke(pen->cairo);
            put(pen, hf_sheet_text(cell, "mark"), x, pen->y + 2.2 * pen->scale, cell_width, &mark, "TD");
        }
        cairo_tag_end(pen->cairo, "TR");
        pen->y += height;
    }
    cairo_tag_end(pen->cairo, "Table");
    pen->y += 3 * pen->scale;

    _cleanup_(hf_buf_done) struct hf_buf legend = HF_BUF_INIT(8 * HF_KIB);
    json_array_foreach(json_object_get(block, "legend"), index, row)(void) !hf_buf_printf(
        &legend, NULL, "%s%s %s", index > 0 ? "   " : "", hf_sheet_text(row, "mark"), hf_sheet_text(row, "text"));
    const struct type type = {.size = SMALL_SIZE, .tone = HF_TONE_QUIET};
    need(pen, set(pen, hf_buf_text(&legend), content_width(pen), &type));
    pen->y += put(pen, hf_buf_text(&legend), MARGIN_SIDE, pen->y, content_width(pen), &type, "P") + 5 * pen->scale;
}

static void
draw_lines(struct pen *pen, const json_t *block)
{
    const json_t *items = json_object_get(block, "items");
    const size_t count = json_array_size(items);
    const double gap = 16, width = (content_width(pen) - gap * (double)(count - 1)) / (double)(count > 0 ? count : 1);
    const struct type type = {.size = SMALL_SIZE, .tone = HF_TONE_QUIET};
    size_t index;
    json_t *item;
    need(pen, 40 * pen->scale);
    pen->y += 22 * pen->scale;
    json_array_foreach(items, index, item)
    {
        const double x = MARGIN_SIDE + (double)index * (width + gap);
        rule(pen, x, pen->y, width, 0.6, 0.1);
        put(pen, hf_cell_text(item), x, pen->y + 2, width, &type, "P");
    }
    pen->y += 16 * pen->scale;
}
