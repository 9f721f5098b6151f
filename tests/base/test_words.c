#include "tests/support/test.h"

#include "base/words.h"

static bool read_all(const char *text, char *ret, size_t size, struct hf_error *err);

HF_TEST(pairs_are_read_with_quotes_and_escapes_undone)
{
    char read[512];
    struct hf_error err;
    hf_assert_ok(read_all(" host = db.example user='a b' x= y=it\\'s z='q\\'\\\\' ", read, sizeof read, &err), &err);
    assert_string_equal(read, "host|db.example;user|a b;x|y=it's;z|q'\\;");
    hf_assert_ok(read_all("  ", read, sizeof read, &err), &err);
    assert_string_equal(read, "");
}

HF_TEST(what_is_no_pair_is_refused_with_its_place)
{
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"host", "\"words\" cannot be read near byte 1: a key, \"=\" and a value are expected"},
        {"host=a b", "\"words\" cannot be read near byte 8: a key, \"=\" and a value are expected"},
        {"=x", "\"words\" cannot be read near byte 1: a key, \"=\" and a value are expected"},
        {"host='a", "\"words\" ends inside of the value of \"host\""},
        {"host=a\\", "\"words\" ends inside of the value of \"host\""},
    };
    char read[512];
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        assert_false(read_all(bad[i].text, read, sizeof read, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, bad[i].message);
    }
}

HF_TEST(a_key_of_64_letters_is_refused_and_a_long_value_is_cut)
{
    char text[HF_WORD_VALUE_BYTES + 200] = "", read[512];
    const char *at = text;
    struct hf_word word;
    bool found;
    struct hf_error err;
    memset(text, 'k', HF_WORD_KEY_BYTES);
    strcat(text, "=v");
    assert_false(read_all(text, read, sizeof read, &err));
    memset(text, 'v', sizeof text - 1);
    memcpy(text, "k=", 2);
    hf_assert_ok(hf_words_next(text, &at, "words", &word, &found, &err), &err);
    assert_true(found);
    assert_int_equal(strlen(word.value), HF_WORD_VALUE_BYTES - 1);
    assert_string_equal(at, "");
}

static bool
read_all(const char *text, char *ret, size_t size, struct hf_error *err)
{
    const char *at = text;
    struct hf_word word;
    bool found;
    ret[0] = '\0';
    for (;;) {
        if (!hf_words_next(text, &at, "words", &word, &found, err))
            return false;
        if (!found)
            return true;
        snprintf(ret + strlen(ret), size - strlen(ret), "%s|%s;", word.key, word.value);
    }
}
