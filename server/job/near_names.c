#include "server/job/near_names.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

static size_t edits_between(const char *a, const char *b);
static size_t least(size_t a, size_t b, size_t c);

void
hf_near_names_consider(struct hf_near_names *names, const char *name)
{
    if (strlen(name) >= HF_NEAR_NAME_BYTES || strlen(names->wanted) >= HF_NEAR_NAME_BYTES)
        return;
    const size_t edits = edits_between(names->wanted, name), letters = strlen(names->wanted);
    // A name that the wanted one is a part of is near, however long the rest is.
    const int contains = letters > 2 && strcasestr(name, names->wanted) != NULL;
    if (!contains && edits > letters / 4 + 1)
        return;
    size_t at = 0;
    while (at < names->count && names->nearest[at].edits <= edits)
        at++;
    if (at == HF_NEAR_NAMES_MOST)
        return;
    if (names->count < HF_NEAR_NAMES_MOST)
        names->count++;
    memmove(&names->nearest[at + 1], &names->nearest[at], (names->count - 1 - at) * sizeof names->nearest[0]);
    names->nearest[at].edits = edits;
    snprintf(names->nearest[at].name, HF_NEAR_NAME_BYTES, "%s", name);
}

const char *
hf_near_names_text(const struct hf_near_names *names, char *text, size_t bytes)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < names->count; i++) {
        const int printed = snprintf(text + used, bytes - used, "%s\"%s\"", i > 0 ? ", " : "", names->nearest[i].name);
        if (printed < 0 || (size_t)printed >= bytes - used) {
            text[used] = '\0';
            break;
        }
        used += (size_t)printed;
    }
    return text;
}

/* Levenshtein's distance, with one row of the table; upper and lower case are the same letter. */
static size_t
edits_between(const char *a, const char *b)
{
    size_t row[HF_NEAR_NAME_BYTES];
    const size_t length = strlen(b);
    for (size_t i = 0; i <= length; i++)
        row[i] = i;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t before = row[0];
        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            const size_t same = before + (strncasecmp(&a[i - 1], &b[j - 1], 1) != 0);
            before = row[j];
            row[j] = least(row[j] + 1, row[j - 1] + 1, same);
        }
    }
    return row[length];
}

static size_t
least(size_t a, size_t b, size_t c)
{
    const size_t smaller = a < b ? a : b;
    return smaller < c ? smaller : c;
}
