/*
 * near_names.h - "did you mean": the names that are nearest to one that is not there
 */
#pragma once
#include <stddef.h>

#define HF_NEAR_NAMES_MOST 3
#define HF_NEAR_NAME_BYTES 130 // schema, dot, table, NUL: a longer one is no candidate
struct hf_near_names {
    const char *wanted; // borrowed
    size_t count;
    struct {
        size_t edits;
        char name[HF_NEAR_NAME_BYTES];
    } nearest[HF_NEAR_NAMES_MOST];
};

/* Considers one name that is there: kept if it is among the nearest by edits (letters changed, added or left out). */
void hf_near_names_consider(struct hf_near_names *names, const char *name);
/* "\"a\", \"b\"", or "" when nothing is near: more than a quarter of its letters differ. */
const char *hf_near_names_text(const struct hf_near_names *names, char *text, size_t bytes);
