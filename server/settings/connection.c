#include "server/settings/connection.h"

#include <string.h>

#include "base/words.h"

bool
hf_connection_check(const char *setting, const char *text, struct hf_error *err)
{
    if (strncmp(text, "postgresql://", 13) == 0 || strncmp(text, "postgres://", 11) == 0 ||
        strncmp(text, "mysql://", 8) == 0) {
        hf_fail(err, HF_ERR_USAGE, "\"%s\" is an address with \"://\", which may hold a password", setting);
        return hf_fail_hint(err, "Write it as key=value pairs, such as \"host=db.example user=holdfast\".");
    }

    const char *at = text;
    struct hf_word word;
    bool found;
    for (;;) {
        if (!hf_words_next(text, &at, setting, &word, &found, err))
            return false;
        if (!found)
            return true;
        if (strcmp(word.key, "password") == 0 || strcmp(word.key, "sslpassword") == 0) {
            hf_fail(err, HF_ERR_USAGE, "\"%s\" holds a password (\"%s\")", setting, word.key);
            return hf_fail_hint(err, "Put it alone into a file of mode 0600 and name that in \"password_file\"; "
                                     "libpq's \"passfile\" works as well.");
        }
    }
}
