/*
 * words.h - "key=value key2='a b'": settings in one line, as libpq writes them
 *
 * White space stands between pairs and may stand around "="; a value with spaces stands in single quotes, \ escapes one
 * character.  (PostgreSQL 15 documentation, 34.1.1.1.)
 */
#pragma once
#include <stddef.h>
#include "base/error.h"

#define HF_WORD_KEY_BYTES   64
#define HF_WORD_VALUE_BYTES 1024

struct hf_word {
    char key[HF_WORD_KEY_BYTES];
    char value[HF_WORD_VALUE_BYTES]; // without quotes and escapes; cut at its length, which nobody's values reach
};

/*
 * Reads one pair and moves *at behind it; *ret_found false at the end.  `what` names the text in errors: USAGE, with
 * the place where it cannot be read.
 */
HF_MUST_CHECK bool hf_words_next(const char *text, const char **at, const char *what, struct hf_word *ret,
                                 bool *ret_found, struct hf_error *err);
