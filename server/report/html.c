#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "server/report/sheet.h"

/* Contrast of every pair of colours is 7:1 or better; what a tone means always stands in words beside it. */
static const char style[] =
    ":root{color-scheme:light}"
    "body{margin:0;background:#fff;color:#1a1a1a;font:16px/1.5 \"Liberation Sans\",Arial,Helvetica,sans-serif}"
    "main,footer{max-width:56rem;margin:0 auto;padding:0 1.5rem}"
    "main{padding-top:1.5rem}"
    "h1{font-size:1.6rem;line-height:1.25;margin:0 0 .25rem}"
    "h2{font-size:1.1rem;margin:1.75rem 0 .5rem;padding-bottom:.2rem;border-bottom:1px solid #767676}"
    ".below{margin:0 0 1rem;color:#404040}"
    ".band{border:2px solid #404040;border-left-width:.75rem;padding:.75rem 1rem;margin:1rem 0}"
    ".band p{margin:.25rem 0 0}.band .word{font-size:1.35rem;font-weight:bold;margin:0}"
    ".good{color:#0b4a22}.warn{color:#5c3a00}.bad{color:#8a0f0f}.quiet{color:#404040}"
    ".band.good{border-color:#0b4a22;background:#f2f8f3}.band.warn{border-color:#5c3a00;background:#fdf8ec}"
    ".band.bad{border-color:#8a0f0f;background:#fdf3f2}.band p.text{color:#1a1a1a}"
    "dl.figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.75rem;margin:1rem 0}"
    "dl.figures div{border:1px solid #767676;padding:.5rem .75rem}"
    "dl.figures dt{font-size:.85rem;color:#404040}dl.figures dd{margin:0}"
    "dl.figures .value{font-size:1.35rem;font-weight:bold}dl.figures .note{font-size:.85rem;color:#404040}"
    "table{border-collapse:collapse;width:100%;margin:.5rem 0;font-size:.9rem}"
    "caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}" // heard
    "thead th{overflow-wrap:normal;white-space:nowrap}"
    "th,td{text-align:left;vertical-align:top;padding:.25rem .75rem .25rem 0;border-bottom:1px solid #c8c8c8;"
    "overflow-wrap:anywhere}"
    "thead th{border-bottom:2px solid #404040}tbody th{font-weight:normal}.right{text-align:right;white-space:nowrap}"
    "table.days{table-layout:fixed;font-size:.75rem}table.days th,table.days td{text-align:center;padding:.2rem 0;"
    "border:1px solid #c8c8c8}table.days tbody th,table.days thead th:first-child{width:9rem;text-align:left;"
    "padding-left:.25rem}"
    "td.mark-good{background:#d9ecdd}td.mark-bad{background:#f6d4d2}td.mark-warn{background:#f6e6c4}"
    ".bar{background:#404040;height:.7rem;min-width:1px}td.track{width:55%;vertical-align:middle}thead "
    "td{border-bottom:2px solid #404040}"
    ".line{border-bottom:1px solid #1a1a1a;margin:2.25rem 0 0;padding:0}.lines p{margin:.1rem 0 0}"
    "footer{margin-top:2rem;padding-bottom:2rem;font-size:.85rem;color:#404040;overflow-wrap:anywhere}"
    ".scroll{overflow-x:auto}"
    "@media print{main,footer{max-width:none;padding:0}h2,.band,tr{break-inside:avoid}h2{break-after:avoid}"
    ".page{break-before:page}@page{margin:18mm}}";

static bool add_block(const json_t *block, bool *in_section, struct hf_buf *out, struct hf_error *err);
static bool add_figures(const json_t *block, struct hf_buf *out, struct hf_error *err);
static bool add_bars(const json_t *block, struct hf_buf *out, struct hf_error *err);
static bool add_table(const json_t *block, struct hf_buf *out, struct hf_error *err);
static bool add_days(const json_t *block, struct hf_buf *out, struct hf_error *err);
static bool add_items(const json_t *block, const char *before, const char *after, struct hf_buf *out,
                      struct hf_error *err);
static bool element(struct hf_buf *out, const char *open, const char *text, const char *close, struct hf_error *err);
static bool escape(struct hf_buf *out, const char *text, struct hf_error *err);
static const char *escape_of(char byte);

bool
hf_sheet_html(const json_t *sheet, struct hf_buf *out, struct hf_error *err)
{
    bool in_section = false;
    size_t index;
    json_t *block;
    if (!hf_buf_add_text(out,
                         "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                         "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
                         "'unsafe-inline'\">\n"
                         "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n",
                         err) ||
        !element(out, "<title>", hf_sheet_text(sheet, "title"), "</title>\n", err) ||
        !element(out, "<meta name=\"description\" content=\"", hf_sheet_text(sheet, "subject"), "\">\n", err) ||
        !element(out, "<style>", "", style, err) || !hf_buf_add_text(out, "</style>\n</head>\n<body>\n<main>\n", err))
        return false;
    json_array_foreach(json_object_get(sheet, "blocks"), index, block)
    {
        if (!add_block(block, &in_section, out, err))
            return false;
    }
    return hf_buf_add_text(out, in_section ? "</section>\n</main>\n" : "</main>\n", err) &&
           element(out, "<footer>\n<p>", hf_sheet_text(sheet, "footer"), "</p>\n</footer>\n</body>\n</html>\n", err);
}

static bool
add_block(const json_t *block, bool *in_section, struct hf_buf *out, struct hf_error *err)
{
    const char *type = hf_sheet_text(block, "type"), *text = hf_sheet_text(block, "text");
    const char *tone = hf_tone_name(hf_tone_of(block));
    if (strcmp(type, "title") == 0)
        return element(out, "<h1>", text, "</h1>\n", err) &&
               element(out, "<p class=\"below\">", hf_sheet_text(block, "below"), "</p>\n", err);
    if (strcmp(type, "band") == 0)
        return hf_buf_printf(out, err, "<div class=\"band %s\" role=\"note\" aria-label=\"Verdict\">\n", tone) &&
               hf_buf_printf(out, err, "<p class=\"word %s\">", tone) &&
               element(out, "", hf_sheet_text(block, "word"), "</p>\n", err) &&
               element(out, "<p class=\"text\">", text, "</p>\n</div>\n", err);
    if (strcmp(type, "heading") == 0) {
        const bool after = *in_section;
        *in_section = true;
        return hf_buf_add_text(out, after ? "</section>\n<section>\n" : "<section>\n", err) &&
               element(out, "<h2>", text, "</h2>\n", err);
    }
    if (strcmp(type, "text") == 0)
        return hf_buf_printf(out, err, "<p class=\"%s\">", tone) && element(out, "", text, "</p>\n", err);
    if (strcmp(type, "list") == 0)
        return hf_buf_add_text(out, "<ul>\n", err) && add_items(block, "<li>", "</li>\n", out, err) &&
               hf_buf_add_text(out, "</ul>\n", err);
    if (strcmp(type, "lines") == 0)
        return hf_buf_add_text(out, "<div class=\"lines\">\n", err) &&
               add_items(block, "<div class=\"line\"></div><p>", "</p>\n", out, err) &&
               hf_buf_add_text(out, "</div>\n", err);
    if (strcmp(type, "figures") == 0)
        return add_figures(block, out, err);
    if (strcmp(type, "bars") == 0)
        return add_bars(block, out, err);
    if (strcmp(type, "table") == 0)
        return add_table(block, out, err);
    if (strcmp(type, "days") == 0)
        return add_days(block, out, err);
    return hf_buf_add_text(out, "<div class=\"page\"></div>\n", err); // "break": where paper has a page's end
}

static bool
add_figures(const json_t *block, struct hf_buf *out, struct hf_error *err)
{
    size_t index;
    json_t *item;
    if (!hf_buf_add_text(out, "<dl class=\"figures\">\n", err))
        return false;
    json_array_foreach(json_object_get(block, "items"), index, item)
    {
        const char *tone = hf_tone_name(hf_tone_of(item));
        if (!element(out, "<div><dt>", hf_sheet_text(item, "label"), "</dt>", err) ||
            !hf_buf_printf(out, err, "<dd class=\"value %s\">", tone) ||
            !element(out, "", hf_sheet_text(item, "value"), "</dd>", err) ||
            !element(out, "<dd class=\"note\">", hf_sheet_text(item, "note"), "</dd></div>\n", err))
            return false;
    }
    return hf_buf_add_text(out, "</dl>\n", err);
}

static bool
add_bars(const json_t *block, struct hf_buf *out, struct hf_error *err)
{
    json_int_t most = 1;
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(block, "items"), index, item)
    {
        const json_int_t ms = json_integer_value(json_object_get(item, "ms"));
        most = ms > most ? ms : most;
    }
    if (!hf_buf_add_text(
            out,
            "<table class=\"bars\"><thead><tr><th scope=\"col\">Step</th><th scope=\"col\" class=\"right\">"
            "Took</th><td></td></tr></thead>\n<tbody>\n",
            err))
        return false;
    json_array_foreach(json_object_get(block, "items"), index, item)
    {
        const json_int_t ms = json_integer_value(json_object_get(item, "ms"));
        if (!element(out, "<tr><th scope=\"row\">", hf_sheet_text(item, "label"), "</th>", err) ||
            !element(out, "<td class=\"right\">", hf_sheet_text(item, "text"), "</td>", err) ||
            !hf_buf_printf(out, err,
                           "<td class=\"track\" aria-hidden=\"true\"><div class=\"bar\" style=\"width:%lld%%\"></div>"
                           "</td></tr>\n",
                           (long long)(ms * 100 / most)))
            return false;
    }
    return hf_buf_add_text(out, "</tbody></table>\n", err);
}

static bool
add_table(const json_t *block, struct hf_buf *out, struct hf_error *err)
{
    const json_t *columns = json_object_get(block, "columns");
    size_t index, at;
    json_t *column, *row, *cell;
    if (!element(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"",
                 hf_sheet_text(block, "caption"), "\"><table>", err) ||
        !element(out, "<caption>", hf_sheet_text(block, "caption"), "</caption>\n<thead><tr>", err))
        return false;
    json_array_foreach(columns, index, column)
    {
        const bool right = json_is_true(json_object_get(column, "right"));
        if (!element(out, right ? "<th scope=\"col\" class=\"right\">" : "<th scope=\"col\">",
                     hf_sheet_text(column, "title"), "</th>", err))
            return false;
    }
    if (!hf_buf_add_text(out, "</tr></thead>\n<tbody>\n", err))
        return false;
    json_array_foreach(json_object_get(block, "rows"), index, row)
    {
        if (!hf_buf_add_text(out, "<tr>", err))
            return false;
        json_array_foreach(row, at, cell)
        {
            const bool right = json_is_true(json_object_get(json_array_get(columns, at), "right"));
            const char *tone = hf_tone_name(hf_tone_of(cell));
            if (!hf_buf_printf(out, err, at == 0 ? "<th scope=\"row\" class=\"%s%s\">" : "<td class=\"%s%s\">", tone,
                               right ? " right" : "") ||
                !element(out, "", hf_cell_text(cell), at == 0 ? "</th>" : "</td>", err))
                return false;
        }
        if (!hf_buf_add_text(out, "</tr>\n", err))
            return false;
    }
    return hf_buf_add_text(out, "</tbody></table></div>\n", err);
}

static bool
add_days(const json_t *block, struct hf_buf *out, struct hf_error *err)
{
    size_t index, at;
    json_t *column, *row, *cell;
    if (!element(out, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"",
                 hf_sheet_text(block, "caption"), "\"><table class=\"days\">", err) ||
        !element(out, "<caption>", hf_sheet_text(block, "caption"), "</caption>\n<thead><tr><th scope=\"col\">Day</th>",
                 err))
        return false;
    json_array_foreach(json_object_get(block, "columns"), index, column)
    {
        if (!element(out, "<th scope=\"col\">", hf_cell_text(column), "</th>", err))
            return false;
    }
    if (!hf_buf_add_text(out, "</tr></thead>\n<tbody>\n", err))
        return false;
    json_array_foreach(json_object_get(block, "rows"), index, row)
    {
        if (!element(out, "<tr><th scope=\"row\">", hf_sheet_text(row, "label"), "</th>", err))
            return false;
        json_array_foreach(json_object_get(row, "cells"), at, cell)
        {
            if (!hf_buf_printf(out, err, "<td class=\"mark-%s\">", hf_tone_name(hf_tone_of(cell))) ||
                !element(out, "", hf_sheet_text(cell, "mark"), "</td>", err))
                return false;
        }
        if (!hf_buf_add_text(out, "</tr>\n", err))
            return false;
    }
    if (!hf_buf_add_text(out, "</tbody></table></div>\n<p class=\"quiet\">", err))
        return false;
    json_array_foreach(json_object_get(block, "legend"), index, row)
    {
        if (!element(out, index == 0 ? "<strong>" : "; <strong>", hf_sheet_text(row, "mark"), "</strong> ", err) ||
            !escape(out, hf_sheet_text(row, "text"), err))
            return false;
    }
    return hf_buf_add_text(out, "</p>\n", err);
}

static bool
add_items(const json_t *block, const char *before, const char *after, struct hf_buf *out, struct hf_error *err)
{
    size_t index;
    json_t *item;
    json_array_foreach(json_object_get(block, "items"), index, item)
    {
        if (!element(out, before, hf_cell_text(item), after, err))
            return false;
    }
    return true;
}

/* `open` and `close` are ours, `text` may be anybody's. */
static bool
element(struct hf_buf *out, const char *open, const char *text, const char *close, struct hf_error *err)
{
    return hf_buf_add_text(out, open, err) && escape(out, text, err) && hf_buf_add_text(out, close, err);
}

/*
 * Also in attributes, which we always quote.  Control characters mean nothing in HTML, and are shown as what they are.
 */
static bool
escape(struct hf_buf *out, const char *text, struct hf_error *err)
{
    size_t left = strlen(text);
    while (left > 0) {
        const size_t length = hf_utf8_length((const uint8_t *)text, left);
        const char *instead = length == 1 ? escape_of(*text) : length == 0 ? "\xEF\xBF\xBD" : NULL;
        if (instead != NULL ? !hf_buf_add_text(out, instead, err) : !hf_buf_add(out, text, length, err))
            return false;
        text += length == 0 ? 1 : length;
        left -= length == 0 ? 1 : length;
    }
    return true;
}

/* NULL: as it stands. */
static const char *
escape_of(char byte)
{
    switch (byte) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return (uint8_t)byte < 0x20 || byte == 0x7F ? "\xEF\xBF\xBD" : NULL;
    }
}
