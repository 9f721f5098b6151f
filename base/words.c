#include "base/words.h"

#include <string.h>

#define SPACES " \t\n\r\f\v"

static const char *read_value(const char *at, char *ret, size_t size);

bool
hf_words_next(const char *text, const char **at, const char *what, struct hf_word *ret, bool *ret_found,
              struct hf_error *err)
{
    const char *key = *at + strspn(*at, SPACES);
    *ret_found = *key != '\0';
    if (!*ret_found) {
        *at = key;
        return true;
    }
    const size_t length = strcspn(key, "=" SPACES);
    const char *equals = key + length + strspn(key + length, SPACES);
    if (length == 0 || length >= HF_WORD_KEY_BYTES || *equals != '=')
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" cannot be read near byte %zu: a key, \"=\" and a value are expected",
                       what, (size_t)(key - text) + 1);
    memcpy(ret->key, key, length);
    ret->key[length] = '\0';
    const char *behind = read_value(equals + 1 + strspn(equals + 1, SPACES), ret->value, sizeof ret->value);
    if (behind == NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" ends inside of the value of \"%s\"", what, ret->key);
    *at = behind;
    return true;
}

/* Behind the value; NULL when a quote or an escape is left open. */
static const char *
read_value(const char *at, char *ret, size_t size)
{
    const bool quoted = *at == '\'';
    size_t length = 0;
    if (quoted)
        at++;
    for (; *at != '\0' && (quoted ? *at != '\'' : strchr(SPACES, *at) == NULL); at++) {
        if (*at == '\\' && *++at == '\0')
            return NULL;
        if (length + 1 < size)
            ret[length++] = *at;
    }
    ret[length] = '\0';
    if (quoted && *at == '\0')
        return NULL;
    return quoted ? at + 1 : at;
}
