#include "server/report/sheet.h"

static const char *const tones[] = {"plain", "good", "warn", "bad", "quiet"};

enum hf_tone
hf_tone_of(const json_t *object)
{
    const char *name = hf_sheet_text(object, "tone");
    for (size_t i = 0; i < HF_LENGTH(tones); i++)
        if (strcmp(tones[i], name) == 0)
            return (enum hf_tone)i;
    return HF_TONE_PLAIN;
}

const char *
hf_tone_name(enum hf_tone tone)
{
    return tones[tone];
}

const char *
hf_cell_text(const json_t *cell)
{
    return json_is_string(cell) ? json_string_value(cell) : hf_sheet_text(cell, "text");
}

const char *
hf_sheet_text(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "" : text;
}
