/*
 * schema.h - the rules of document.h as tables, and what walks them
 *
 * Internal to this folder: document.h says in words what the tables say here.
 */
#pragma once
#include "base/json.h"

/*
 * Whether a content keeps every rule.  `what` names the document; `kind` is how a breach is reported: USAGE for a
 * content of our own making, CORRUPT for one that was read.
 */
HF_MUST_CHECK bool hf_schema_check(const json_t *content, const char *what, enum hf_error_kind kind,
                                   struct hf_error *err);

/* The character at *at, which is valid UTF-8 and not at its end; steps beyond it. */
uint32_t hf_schema_next_character(const char **at);

/* Not: control characters, line and paragraph separators, and what makes text read in another order or vanish. */
bool hf_schema_is_printable(uint32_t character);
