/*
 * json.h - jansson with limits, good errors and RFC 8785 text
 *
 * Numbers are integers only; a document with a real number is refused, because no two languages print
 * those alike.  Getters name the member and the document in their errors ("evidence: member
 * "backup_id" is missing").
 */
#pragma once
#include <jansson.h>
#include "base/buf.h"
#include "base/id.h"

#define HF_JSON_INTEGER_MOST ((INT64_C(1) << 53) - 1) // and as far below 0: what a double holds exactly

void hf_json_freep(json_t **value); // what _cleanup_() calls

/*
 * An object or an array; depth at most 32, duplicate members and NUL in strings refused.
 * CORRUPT with line and column, naming `what`.
 */
HF_MUST_CHECK bool hf_json_parse(const void *text, size_t length, const char *what, json_t **ret, struct hf_error *err);

/*
 * Canonical JSON (RFC 8785 for objects, arrays, strings, integers, booleans and null): one text for one value.
 * USAGE for a real number and for an integer beyond 2^53, which a reader in another language would round: identifiers
 * and positions of 64 bits go in as strings.  Nothing is added on failure.
 */
HF_MUST_CHECK bool hf_json_canonical(const json_t *value, struct hf_buf *out, struct hf_error *err);

/* Required members.  Strings are borrowed from the object.  CORRUPT when missing, of another type or out of range. */
HF_MUST_CHECK bool hf_json_string(const json_t *object, const char *member, const char *what, const char **ret,
                                  struct hf_error *err);
HF_MUST_CHECK bool hf_json_integer(const json_t *object, const char *member, const char *what, int64_t least,
                                   int64_t most, int64_t *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_json_boolean(const json_t *object, const char *member, const char *what, bool *ret,
                                   struct hf_error *err);
HF_MUST_CHECK bool hf_json_array(const json_t *object, const char *member, const char *what, json_t **ret,
                                 struct hf_error *err);
HF_MUST_CHECK bool hf_json_object(const json_t *object, const char *member, const char *what, json_t **ret,
                                  struct hf_error *err);
HF_MUST_CHECK bool hf_json_id(const json_t *object, const char *member, const char *what, struct hf_id *ret,
                              struct hf_error *err);
/* Hex of exactly `length` bytes. */
HF_MUST_CHECK bool hf_json_bytes(const json_t *object, const char *member, const char *what, uint8_t *ret,
                                 size_t length, struct hf_error *err);

/* Sets a member to a new value it takes over; false only when out of memory (a NULL value counts as that). */
HF_MUST_CHECK bool hf_json_set(json_t *object, const char *member, json_t *value, struct hf_error *err);
json_t *hf_json_hex(const uint8_t *bytes, size_t length); // a new string, or NULL
json_t *hf_json_id_text(const struct hf_id *id);          // a new string, or NULL
/* A new string of foreign text: invalid UTF-8 and NUL become U+FFFD, cut at `most` bytes.  NULL only without memory. */
json_t *hf_json_foreign_text(const char *text, size_t length, size_t most);
