#include "server/source/mariadb/words.h"

#include <stddef.h>
#include <string.h>

static bool take(struct hf_mariadb_words *words, const struct hf_word *word, const char *setting, struct hf_error *err);
static bool take_port(unsigned *port, const char *text);
static bool take_tls(enum hf_mariadb_tls *tls, const char *text);

bool
hf_mariadb_words_read(const char *setting, const char *text, struct hf_mariadb_words *ret, struct hf_error *err)
{
    struct hf_mariadb_words words = {.port = HF_MARIADB_PORT};
    const char *at = text;
    struct hf_word word;
    bool found = true;
    while (found) {
        if (!hf_words_next(text, &at, setting, &word, &found, err))
            return false;
        if (found && !take(&words, &word, setting, err))
            return false;
    }
    if ((words.host[0] == '\0') == (words.socket[0] == '\0'))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" must name a host or a socket, and not both", setting);
    if ((words.tls_cert[0] == '\0') != (words.tls_key[0] == '\0'))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" names only one of tls_cert and tls_key", setting);
    *ret = words;
    return true;
}

static bool
take(struct hf_mariadb_words *words, const struct hf_word *word, const char *setting, struct hf_error *err)
{
    const struct {
        const char *key;
        char *text;
        size_t size;
        bool is_path;
    } texts[] = {
        {"host", words->host, sizeof words->host, false},
        {"socket", words->socket, sizeof words->socket, true},
        {"user", words->user, sizeof words->user, false},
        {"tls_ca", words->tls_ca, sizeof words->tls_ca, true},
        {"tls_cert", words->tls_cert, sizeof words->tls_cert, true},
        {"tls_key", words->tls_key, sizeof words->tls_key, true},
    };
    for (size_t i = 0; i < HF_LENGTH(texts); i++) {
        if (strcmp(texts[i].key, word->key) != 0)
            continue;
        // A value that begins with a dash would be an option where the tool is called.
        if (word->value[0] == '\0' || word->value[0] == '-' || strlen(word->value) >= texts[i].size ||
            (texts[i].is_path && word->value[0] != '/'))
            return hf_fail(err, HF_ERR_USAGE, "\"%s\": \"%s\" is \"%.100s\", which is no %s", setting, word->key,
                           word->value, texts[i].is_path ? "absolute path" : "name");
        memcpy(texts[i].text, word->value, strlen(word->value) + 1);
        return true;
    }
    if (strcmp(word->key, "port") == 0)
        return take_port(&words->port, word->value) ||
               hf_fail(err, HF_ERR_USAGE, "\"%s\": \"port\" is \"%.100s\", which is not from 1 to 65535", setting,
                       word->value);
    if (strcmp(word->key, "tls") == 0)
        return take_tls(&words->tls, word->value) ||
               hf_fail(err, HF_ERR_USAGE, "\"%s\": \"tls\" is \"%.100s\"; it can be \"verify\", \"required\" or \"no\"",
                       setting, word->value);
    hf_fail(err, HF_ERR_USAGE, "\"%s\" has the word \"%s\", which is not known", setting, word->key);
    return hf_fail_hint(err, "There are host, port, socket, user, tls, tls_ca, tls_cert and tls_key.");
}

static bool
take_port(unsigned *port, const char *text)
{
    const size_t digits = strspn(text, "0123456789");
    unsigned value = 0;
    if (digits == 0 || digits > 5 || text[digits] != '\0')
        return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (unsigned)(text[i] - '0');
    *port = value;
    return value >= 1 && value <= 65535;
}

static bool
take_tls(enum hf_mariadb_tls *tls, const char *text)
{
    static const char *const names[] = {"verify", "required", "no"};
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        if (strcmp(names[i], text) == 0) {
            *tls = (enum hf_mariadb_tls)i;
            return true;
        }
    }
    return false;
}
