#include "base/lsn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *
hf_lsn_format(uint64_t lsn, char text[static HF_LSN_TEXT_BYTES])
{
    snprintf(text, HF_LSN_TEXT_BYTES, "%X/%X", (unsigned)(lsn >> 32), (unsigned)lsn);
    return text;
}

bool
hf_lsn_parse(const char *text, uint64_t *ret, struct hf_error *err)
{
    uint64_t half[2] = {0, 0};
    const char *at = text;

    for (size_t i = 0; i < 2; i++) {
        size_t digits = strspn(at, "0123456789abcdefABCDEF");
        if (digits < 1 || digits > 8 || at[digits] != (i == 0 ? '/' : '\0'))
            return hf_fail(err, HF_ERR_CORRUPT, "\"%.64s\" is no position in the log", text);
        half[i] = strtoull(at, NULL, 16);
        at += digits + 1;
    }
    *ret = half[0] << 32 | half[1];
    return true;
}
