/*
 * schema_internal.h - what the tables of members, the walk over them and the numbered rules share
 *
 * schema_tables.c has the members of document.h, one a line; schema.c walks them; sense.c holds the numbered rules.
 */
#pragma once
#include "server/evidence/document.h"
#include "server/evidence/schema.h"

#define HF_SCHEMA_MOST_PATH 256

enum field_type {
    TEXT,
    WORD,
    CHOICE,
    ID,
    HASH,
    TIME,
    NUMBER,
    SIGNED_NUMBER,
    PPM_NUMBER,
    BOOLEAN,
    OBJECT,
    LIST, // of objects
    WORDS,
};

struct shape;

struct field {
    const char *name;
    enum field_type type;
    bool may_be_unknown;
    bool later;                 // documents that were written before it was thought of do not have it
    const char *const *choices; // of a CHOICE; ends with NULL
    const struct shape *shape;  // of an OBJECT or of a LIST's objects
};

struct shape {
    const struct field *fields;
    size_t count;
};

/* A check under way: where it stands, and how it fails (USAGE for our own content, CORRUPT for what was read). */
struct place {
    enum hf_error_kind kind;
    const char *what;
    char path[HF_SCHEMA_MOST_PATH];
    struct hf_error *err;
};

extern const struct shape hf_schema_verify, hf_schema_act, hf_schema_shred;

/* One step into the document for messages; returns where to cut the path when leaving.  A path too long is cut. */
size_t hf_schema_enter(struct place *place, const char *format, ...) HF_PRINTF(2, 3);
/* False: the document breaks a rule at this place. */
bool hf_schema_refuse(struct place *place, const char *format, ...) HF_PRINTF(2, 3);

/* The numbered rules of document.h, on a document whose members are all there and of their types. */
HF_MUST_CHECK bool hf_sense_of_attempt(struct place *place, const json_t *content);
HF_MUST_CHECK bool hf_sense_of_act(struct place *place, const json_t *content);
HF_MUST_CHECK bool hf_sense_of_shred(struct place *place, const json_t *content);
