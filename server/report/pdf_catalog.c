#include "server/report/pdf_catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CATALOG_MOST 4096 // bytes of the catalog's dictionary, three references in cairo 1.16
#define TAIL_BYTES   4096 // the trailer stands within so many bytes before the end

static const char *find_last(const struct hf_buf *pdf, const char *words);
static bool number_behind(const char *at, const char *words, unsigned long *ret);

bool
hf_pdf_mark_tagged(struct hf_buf *pdf, struct hf_error *err)
{
    static const char more[] = "   /MarkInfo << /Marked true >>\n   /Lang (en)\n"
                               "   /ViewerPreferences << /DisplayDocTitle true >>\n>>\nendobj\n";
    unsigned long start, root, info, size;
    char words[64], catalog[CATALOG_MOST];
    const char *trailer = find_last(pdf, "trailer\n"), *pointer = find_last(pdf, "startxref\n");
    if (trailer == NULL || pointer == NULL || !number_behind(pointer, "startxref", &start) ||
        !number_behind(trailer, "/Root", &root) || !number_behind(trailer, "/Info", &info) ||
        !number_behind(trailer, "/Size", &size))
        return true;
    snprintf(words, sizeof words, "\n%lu 0 obj\n", root);
    const char *object = find_last(pdf, words);
    const char *end = object == NULL ? NULL : strstr(object, ">>\nendobj");
    if (object == NULL || end == NULL || (size_t)(end - object) >= sizeof catalog ||
        memmem(object, (size_t)(end - object), "/MarkInfo", 9) != NULL)
        return true;
    memcpy(catalog, object + 1, (size_t)(end - object - 1));
    catalog[end - object - 1] = '\0';

    const size_t at = pdf->length;
    if (!hf_buf_add_text(pdf, catalog, err) || !hf_buf_add_text(pdf, more, err))
        return false;
    const size_t table = pdf->length;
    return hf_buf_printf(pdf, err,
                         "xref\n%lu 1\n%010zu 00000 n \ntrailer\n<< /Size %lu\n   /Root %lu 0 R\n   /Info %lu 0 R\n   "
                         "/Prev %lu\n>>\nstartxref\n%zu\n%%%%EOF\n",
                         root, at, size, root, info, start, table);
}

/* In the whole file for an object, which lies where cairo put it; the last one counts. */
static const char *
find_last(const struct hf_buf *pdf, const char *words)
{
    const char *text = hf_buf_text(pdf), *found = NULL;
    const size_t length = strlen(words);
    for (size_t from = 0; from < pdf->length;) {
        const char *next = memmem(text + from, pdf->length - from, words, length);
        if (next == NULL)
            break;
        found = next;
        from = (size_t)(next - text) + 1;
    }
    return found;
}

/* The first number behind the words, in the trailer. */
static bool
number_behind(const char *at, const char *words, unsigned long *ret)
{
    const char *found = strstr(at, words);
    char *end;
    if (found == NULL || found - at > TAIL_BYTES)
        return false;
    *ret = strtoul(found + strlen(words), &end, 10);
    return end != found + strlen(words);
}
