/*
 * sheet.h - a report as it is laid out: one list of blocks, which html.c and pdf.c show alike
 *
 * The words are chosen once (words_backup.c, words_month.c), so that no two formats say different things.  A sheet is a
 * JSON object that lives for one report and never leaves the process:
 *
 *   title, subject, keywords   texts, for the document's own description
 *   date_ms                    number: the day the document bears
 *   footer                     text at the foot of every page
 *   pages                      number: the text is set smaller, down to a limit, to fit that many; 0: it does not
 *                              matter
 *   blocks []                  each with a "type":
 *     title    text, below
 *     band     tone, word, text                       the verdict, in a frame
 *     heading  text
 *     text     text; tone?
 *     list     items [] text
 *     figures  items [] {label, value, note, tone}    at most four, side by side
 *     bars     items [] {label, ms, text}             how long each took
 *     table    columns [] {title, share, right?}; rows [] [cell, ...]; caption; share: part of the width
 *     days     columns [] text; rows [] {label, cells [] {mark, tone}}; legend [] {mark, text}; caption
 *     lines    items [] text                          to be filled in by hand
 *     break                                           what follows begins a page
 *
 * A cell is a text or {text, tone}.  tone: plain, good, warn, bad, quiet.  A tone only repeats what the words say:
 * nothing is told by colour alone.
 *
 * All texts may hold words of strangers: the formats escape them.
 */
#pragma once
#include "base/json.h"

enum hf_tone { HF_TONE_PLAIN, HF_TONE_GOOD, HF_TONE_WARN, HF_TONE_BAD, HF_TONE_QUIET };
enum hf_tone hf_tone_of(const json_t *object); // by its member "tone"; PLAIN when there is none
const char *hf_tone_name(enum hf_tone tone);

/* The text of a cell, of whichever form. */
const char *hf_cell_text(const json_t *cell);

enum hf_paper { HF_PAPER_A4, HF_PAPER_LETTER };

/* Members as texts; "" when missing. */
const char *hf_sheet_text(const json_t *object, const char *member);

/* Adds one HTML document that needs nothing else: no script, no font, no picture, no address. */
HF_MUST_CHECK bool hf_sheet_html(const json_t *sheet, struct hf_buf *out, struct hf_error *err);
/* Adds a tagged PDF; the same sheet gives the same bytes with the same fonts and libraries. */
HF_MUST_CHECK bool hf_sheet_pdf(const json_t *sheet, enum hf_paper paper, struct hf_buf *out, unsigned *ret_pages,
                                struct hf_error *err);
