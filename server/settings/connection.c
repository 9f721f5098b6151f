#include "server/settings/connection.h"

#include <string.h>

#define SPACES   " \t\n\r\f\v"
#define KEY_MOST 63

static const char *skip_value(const char *at);

bool
hf_connection_check(const char *text, struct hf_error *err)
{
    if (strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0) {
        hf_fail(err, HF_ERR_USAGE, "\"connection\" is an address with \"://\", which may hold a password");
        return hf_fail_hint(err, "Write it as key=value pairs, such as \"host=db.example user=holdfast\".");
    }

    const char *at = text + strspn(text, SPACES);
    while (*at != '\0') {
        char key[KEY_MOST + 1];
        size_t length = strcspn(at, "=" SPACES);
        const char *equals = at + length + strspn(at + length, SPACES);
        if (length == 0 || length > KEY_MOST || *equals != '=')
            return hf_fail(err, HF_ERR_USAGE,
                           "\"connection\" cannot be read near byte %zu: a key, \"=\" and a value "
                           "are expected",
                           (size_t)(at - text) + 1);
        memcpy(key, at, length);
        key[length] = '\0';
        if (strcmp(key, "password") == 0 || strcmp(key, "sslpassword") == 0) {
            hf_fail(err, HF_ERR_USAGE, "\"connection\" holds a password (\"%s\")", key);
            return hf_fail_hint(err, "Put it alone into a file of mode 0600 and name that in \"password_file\"; "
                                     "libpq's \"passfile\" works as well.");
        }
        at = skip_value(equals + 1 + strspn(equals + 1, SPACES));
        if (at == NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"connection\" ends inside of the value of \"%s\"", key);
        at += strspn(at, SPACES);
    }
    return true;
}

/* Behind the value; NULL when a quote or an escape is left open. */
static const char *
skip_value(const char *at)
{
    bool quoted = *at == '\'';
    if (quoted)
        at++;
    while (*at != '\0' && (quoted ? *at != '\'' : strchr(SPACES, *at) == NULL)) {
        if (*at == '\\' && *++at == '\0')
            return NULL;
        at++;
    }
    if (quoted && *at == '\0')
        return NULL;
    return quoted ? at + 1 : at;
}
