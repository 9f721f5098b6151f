#include "server/report/report.h"

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/report/words.h"

static bool make_sheet(const json_t *model, json_t **ret, struct hf_error *err);

bool
hf_report_format_parse(const char *name, enum hf_report_format *ret, struct hf_error *err)
{
    static const char *const names[] = {"json", "html", "pdf"};
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum hf_report_format)i;
            return true;
        }
    }
    return hf_fail(err, HF_ERR_USAGE, "a report is pdf, html or json, not \"%.32s\"", name);
}

bool
hf_report_paper_parse(const char *name, enum hf_paper *ret, struct hf_error *err)
{
    const bool letter = strcmp(name, "letter") == 0;
    if (!letter && strcmp(name, "a4") != 0)
        return hf_fail(err, HF_ERR_USAGE, "paper is a4 or letter, not \"%.32s\"", name);
    *ret = letter ? HF_PAPER_LETTER : HF_PAPER_A4;
    return true;
}

bool
hf_report_render(const json_t *model, enum hf_report_format format, enum hf_paper paper, struct hf_buf *out,
                 struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *sheet = NULL;
    unsigned pages;
    if (format == HF_REPORT_JSON)
        return hf_json_canonical(model, out, err) && hf_buf_add_text(out, "\n", err);
    if (!make_sheet(model, &sheet, err))
        return false;
    return format == HF_REPORT_HTML ? hf_sheet_html(sheet, out, err) : hf_sheet_pdf(sheet, paper, out, &pages, err);
}

bool
hf_report_is_bad_news(const json_t *model)
{
    size_t index;
    json_t *row;
    if (strcmp(hf_text_at(model, "ledger.state"), "whole") != 0)
        return true;
    if (strcmp(hf_text_at(model, "kind"), "backup") == 0)
        return strcmp(hf_text_at(model, "verdict"), "recoverable") != 0;
    json_array_foreach(hf_at(model, "sources"), index, row)
    {
        if (hf_words_source_is_bad(row))
            return true;
    }
    json_array_foreach(hf_at(model, "keys"), index, row)
    {
        if (json_is_true(hf_at(row, "overdue")))
            return true;
    }
    return json_array_size(hf_at(model, "sources")) == 0;
}

bool
hf_report_month(const char *text, int64_t *ret_from, int64_t *ret_to, struct hf_error *err)
{
    int year, month, used = 0;
    char from[HF_TIME_TEXT_BYTES], to[HF_TIME_TEXT_BYTES];
    if (strlen(text) != 7 || sscanf(text, "%4d-%2d%n", &year, &month, &used) != 2 || used != 7 || year < 1970 ||
        month < 1 || month > 12)
        return hf_fail(err, HF_ERR_USAGE, "\"%.32s\" is not a month such as 2026-11", text);
    snprintf(from, sizeof from, "%04d-%02d-01T00:00:00Z", year, month);
    snprintf(to, sizeof to, "%04d-%02d-01T00:00:00Z", month == 12 ? year + 1 : year, month == 12 ? 1 : month + 1);
    return hf_time_parse(from, ret_from, err) && hf_time_parse(to, ret_to, err);
}

static bool
make_sheet(const json_t *model, json_t **ret, struct hf_error *err)
{
    int64_t date = 0;
    if (!(strcmp(hf_text_at(model, "kind"), "month") == 0 ? hf_words_month(model, ret, err)
                                                          : hf_words_backup(model, ret, err)))
        return false;
    const char *as_of = hf_text_at(model, "as_of");
    return (as_of[0] == '\0' || hf_time_parse(as_of, &date, err)) &&
           hf_json_set(*ret, "date_ms", json_integer(date), err);
}
