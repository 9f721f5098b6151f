#include "base/id.h"

#include <sodium.h>
#include <string.h>

static int digit_value(char digit);

struct hf_id
hf_id_new(void)
{
    struct hf_id id;
    randombytes_buf(id.bytes, sizeof id.bytes);
    return id;
}

bool
hf_id_equal(const struct hf_id *a, const struct hf_id *b)
{
    return memcmp(a->bytes, b->bytes, HF_ID_BYTES) == 0;
}

bool
hf_id_is_none(const struct hf_id *id)
{
    return hf_id_equal(id, &HF_ID_NONE);
}

int
hf_id_compare(const void *a, const void *b)
{
    return memcmp(((const struct hf_id *)a)->bytes, ((const struct hf_id *)b)->bytes, HF_ID_BYTES);
}

const char *
hf_id_format(const struct hf_id *id, char text[static HF_ID_TEXT_BYTES])
{
    hf_hex_format(id->bytes, HF_ID_BYTES, text);
    return text;
}

bool
hf_id_parse(const char *text, struct hf_id *ret, struct hf_error *err)
{
    struct hf_id id;
    if (!hf_hex_parse(text, id.bytes, HF_ID_BYTES, NULL))
        return hf_fail(err, HF_ERR_USAGE, "id \"%.64s\" is not 32 lower-case hex digits", text);
    *ret = id;
    return true;
}

void
hf_hex_format(const uint8_t *bytes, size_t length, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < length; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * length] = '\0';
}

bool
hf_hex_parse(const char *text, uint8_t *bytes, size_t length, struct hf_error *err)
{
    // All of the text is judged before any byte is written: a refused text leaves the bytes alone.
    size_t digits = 0;
    while (digits < 2 * length && digit_value(text[digits]) >= 0)
        digits++;
    if (digits < 2 * length || text[digits] != '\0')
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not %zu lower-case hex digits", text, 2 * length);

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(digit_value(text[2 * i]) << 4 | digit_value(text[2 * i + 1]));
    return true;
}

static int
digit_value(char digit)
{
    if (digit >= '0' && digit <= '9')
        return digit - '0';
    if (digit >= 'a' && digit <= 'f')
        return digit - 'a' + 10;
    return -1;
}
