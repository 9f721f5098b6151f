/*
 * id.h - names that never collide: 128 random bits
 *
 * The same id stands in log, evidence, catalog and API, written as 32 lower-case hex digits.
 */
#pragma once
#include "base/error.h"

#define HF_ID_BYTES      16
#define HF_ID_TEXT_BYTES 33

struct hf_id {
    uint8_t bytes[HF_ID_BYTES];
};

#define HF_ID_NONE ((struct hf_id){{0}}) // no object has it

struct hf_id hf_id_new(void);
bool hf_id_equal(const struct hf_id *a, const struct hf_id *b);
bool hf_id_is_none(const struct hf_id *id);
/* Orders ids by their bytes, for qsort and bsearch. */
int hf_id_compare(const void *a, const void *b);
const char *hf_id_format(const struct hf_id *id, char text[static HF_ID_TEXT_BYTES]); // returns text
HF_MUST_CHECK bool hf_id_parse(const char *text, struct hf_id *ret, struct hf_error *err);

/* Any bytes as lower-case hex (2 * length + 1 chars), and back (exactly length bytes). */
void hf_hex_format(const uint8_t *bytes, size_t length, char *text);
HF_MUST_CHECK bool hf_hex_parse(const char *text, uint8_t *bytes, size_t length, struct hf_error *err);
