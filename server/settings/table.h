/*
 * table.h - the one table of settings, and what its columns mean
 *
 * Parser, checks, reference text and the options of `holdfast source add` are made from these rows: a new setting
 * is a new row and a new member of the struct it fills.
 */
#pragma once
#include "server/settings/settings.h"

enum hf_setting_type {
    HF_SETTING_TEXT,     // char *
    HF_SETTING_LINES,    // char *, may have several lines
    HF_SETTING_PATH,     // char *, absolute
    HF_SETTING_PATHS,    // char **, ends with NULL
    HF_SETTING_PLACE,    // char *, an absolute path or ssh://...
    HF_SETTING_PLACES,   // char **, ends with NULL
    HF_SETTING_RUN,      // char **, ends with NULL: a program, an absolute path, and its arguments
    HF_SETTING_WORD,     // const char *, one of `words`
    HF_SETTING_BOOLEAN,  // bool: yes, no, true, false
    HF_SETTING_COUNT,    // int64_t
    HF_SETTING_SIZE,     // int64_t, bytes: 512, 64KiB, 2GiB
    HF_SETTING_DURATION, // int64_t, milliseconds: 30s, 15m, 6h, 1d
};

enum hf_setting_of { HF_SETTING_OF_APPLIANCE, HF_SETTING_OF_SOURCE, HF_SETTING_OF_KEY_COMMAND };

struct hf_setting {
    enum hf_setting_of of;
    const char *name; // "scratch.folder"; of a source without "sources.<name>.", of a key command likewise
    enum hf_setting_type type;
    size_t offset; // in struct hf_settings, struct hf_source_settings or struct hf_key_command
    bool required;
    bool can_be_off;          // the word "off" means 0
    const char *fallback;     // as it would stand in the file; NULL: unset, or see computed
    const char *computed;     // says what the default is when the program works it out
    int64_t least, most;      // COUNT, SIZE, DURATION
    const char *const *words; // WORD; ends with NULL
    const char *unit;         // of a COUNT
    const char *sentence;
};

/* All rows, in the order of the reference. */
const struct hf_setting *hf_settings_table(size_t *ret_count);
/* NULL when there is none. */
const struct hf_setting *hf_setting_find(enum hf_setting_of of, const char *name);

/*
 * Sets the member of `target` (the struct that the row belongs to) from text, replacing what was there; a
 * list gets one more entry.  Errors: USAGE, naming the setting, the value and what it may be.
 */
HF_MUST_CHECK bool hf_setting_set(const struct hf_setting *setting, void *target, const char *text,
                                  struct hf_error *err);
/* Fills `target` with every default that is not computed. */
HF_MUST_CHECK bool hf_setting_set_defaults(enum hf_setting_of of, void *target, struct hf_error *err);
/* Every required row is set, or USAGE names the first that is not. */
HF_MUST_CHECK bool hf_setting_check_required(enum hf_setting_of of, const void *target, struct hf_error *err);
/* The member as text that hf_setting_set would take; adds nothing when it is unset.  Not for lists. */
HF_MUST_CHECK bool hf_setting_print(const struct hf_setting *setting, const void *target, struct hf_buf *out,
                                    struct hf_error *err);
/* Frees what the rows own in `target`, not target itself. */
void hf_setting_release(enum hf_setting_of of, void *target);

/* Whether it is a list: PATHS, PLACES. */
bool hf_setting_is_list(enum hf_setting_type type);
/* "a size such as 64KiB" */
const char *hf_setting_type_words(enum hf_setting_type type);
