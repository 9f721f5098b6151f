/*
 * words.h - the models in words: a sheet for each kind, and what both need for it
 *
 * Internal to this folder.
 */
#pragma once
#include "server/report/report.h"

HF_MUST_CHECK bool hf_words_backup(const json_t *model, json_t **ret_sheet, struct hf_error *err);
HF_MUST_CHECK bool hf_words_month(const json_t *model, json_t **ret_sheet, struct hf_error *err);

/* Whether a source of a month's model needs attention. */
bool hf_words_source_is_bad(const json_t *source);

/* Blocks of sheet.h, added at the end; each takes over the JSON that it is handed. */
HF_MUST_CHECK bool hf_words_add(json_t *blocks, json_t *block, struct hf_error *err);
HF_MUST_CHECK bool hf_words_heading(json_t *blocks, const char *text, struct hf_error *err);
HF_MUST_CHECK bool hf_words_text(json_t *blocks, const char *tone, struct hf_error *err, const char *format, ...)
    HF_PRINTF(4, 5);
/* A row of a table: texts, then NULL; a text that begins with "\1<tone>\1" has that tone. */
HF_MUST_CHECK bool hf_words_row(json_t *rows, struct hf_error *err, ...);

/* "accepted by anna until 31 January 2027, 23:59 UTC: ..."; returns text.  An exception of report.h. */
#define HF_WORDS_EXCEPTION_BYTES 1024
const char *hf_words_exception(const json_t *exception, char text[static HF_WORDS_EXCEPTION_BYTES]);

/* The part of the ledger that every report begins and ends with. */
HF_MUST_CHECK bool hf_words_ledger_first(json_t *blocks, const json_t *model, struct hf_error *err);
HF_MUST_CHECK bool hf_words_sign_off(json_t *blocks, struct hf_error *err);
json_t *hf_words_footer(const json_t *model); // a text, or NULL

#define HF_WORDS_BYTES 64

/* They return text: "23 November 2026, 20:14 UTC", "23 Nov 2026", "2 h 5 min", "2.1 GiB", "1,234,567"; "-" for null. */
const char *hf_words_time(const json_t *time, char text[static HF_WORDS_BYTES]);
const char *hf_words_day(const json_t *time, char text[static HF_WORDS_BYTES]);
const char *hf_words_moment(const json_t *time, char text[static HF_WORDS_BYTES]); // "23 Nov 20:14"
const char *hf_words_span(const json_t *ms, char text[static HF_WORDS_BYTES]);
const char *hf_words_bytes(const json_t *bytes, char text[static HF_WORDS_BYTES]);
const char *hf_words_number(const json_t *number, char text[static HF_WORDS_BYTES]);
const char *hf_words_short(const char *id, char text[static HF_WORDS_BYTES]); // the first 8 digits of an id

const json_t *hf_at(const json_t *object, const char *path); // "ledger.state"; NULL when it is not there
json_t *hf_own(const json_t *object, const char *path);      // the same, to be kept with json_incref()
int64_t hf_number_at(const json_t *object, const char *path, int64_t missing);
const char *hf_text_at(const json_t *object, const char *path); // "" when missing
