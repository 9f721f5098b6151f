/*
 * lsn.h - a position in a log: a byte offset in one endless file
 *
 * Written as PostgreSQL writes it, "16/B374D848": the high and the low half in hex.
 */
#pragma once
#include <stdint.h>
#include "base/error.h"

#define HF_LSN_TEXT_BYTES 24

const char *hf_lsn_format(uint64_t lsn, char text[static HF_LSN_TEXT_BYTES]); // returns text
/* Strict: 1 to 8 hex digits, a slash, 1 to 8 hex digits.  CORRUPT names the text. */
HF_MUST_CHECK bool hf_lsn_parse(const char *text, uint64_t *ret, struct hf_error *err);
