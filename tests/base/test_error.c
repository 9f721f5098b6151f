#include "tests/support/test.h"

#include <errno.h>

#include "base/text.h"

HF_TEST(failing_fills_kind_and_message_and_returns_false)
{
    struct hf_error err;
    assert_false(hf_fail(&err, HF_ERR_CORRUPT, "pack \"%s\" is torn at byte %d", "7f3a", 12));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_int_equal(err.system, 0);
    assert_string_equal(err.message, "pack \"7f3a\" is torn at byte 12");
    assert_string_equal(err.hint, "");
}

HF_TEST(an_errno_gives_the_reason_and_chooses_the_kind)
{
    const struct {
        int system;
        enum hf_error_kind kind;
    } cases[] = {{ENOSPC, HF_ERR_NO_SPACE},  {EDQUOT, HF_ERR_NO_SPACE}, {ENOENT, HF_ERR_NOT_FOUND},
                 {EEXIST, HF_ERR_CONFLICT},  {EACCES, HF_ERR_DENIED},   {EPERM, HF_ERR_DENIED},
                 {ENOMEM, HF_ERR_NO_MEMORY}, {EIO, HF_ERR_UNAVAILABLE}};
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_error err;
        errno = cases[i].system;
        assert_false(hf_fail_errno(&err, HF_ERR_NONE, "could not write"));
        assert_int_equal(err.kind, cases[i].kind);
        assert_int_equal(err.system, cases[i].system);
    }

    struct hf_error err;
    errno = ENOSPC;
    hf_fail_errno(&err, HF_ERR_CORRUPT, "could not write pack \"%s\"", "7f3a");
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "could not write pack \"7f3a\": No space left on device");
}

HF_TEST(context_goes_in_front_and_keeps_kind_errno_and_hint)
{
    struct hf_error err;
    errno = EACCES;
    hf_fail_errno(&err, HF_ERR_NONE, "could not open \"key\"");
    hf_fail_hint(&err, "Run chmod.");
    assert_false(hf_fail_within(&err, "vault \"%s\"", "clinic"));

    assert_string_equal(err.message, "vault \"clinic\": could not open \"key\": Permission denied");
    assert_string_equal(err.hint, "Run chmod.");
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_int_equal(err.system, EACCES);
}

HF_TEST(a_second_hint_follows_the_first)
{
    struct hf_error err;
    hf_fail(&err, HF_ERR_USAGE, "no");
    hf_fail_hint(&err, "Do this.");
    hf_fail_hint(&err, "Then %s.", "that");
    assert_string_equal(err.hint, "Do this. Then that.");
}

HF_TEST(an_error_may_be_made_of_its_own_message)
{
    struct hf_error err;
    hf_fail(&err, HF_ERR_USAGE, "inner");
    hf_fail(&err, HF_ERR_CORRUPT, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
    hf_fail_within(&err, "%s", err.message);
    assert_string_equal(err.message, "outer: inner: outer: inner");
}

HF_TEST(nobody_has_to_want_the_error)
{
    assert_false(hf_fail(NULL, HF_ERR_USAGE, "x"));
    assert_false(hf_fail_errno(NULL, HF_ERR_NONE, "x"));
    assert_false(hf_fail_within(NULL, "x"));
    assert_false(hf_fail_hint(NULL, "x"));
}

static void
assert_whole_characters(const char *text)
{
    size_t length = strlen(text);
    assert_in_range(length, HF_ERROR_MESSAGE_BYTES - 4, HF_ERROR_MESSAGE_BYTES - 1);
    for (size_t at = 0, bytes; at < length; at += bytes) {
        bytes = hf_utf8_length((const uint8_t *)text + at, length - at);
        assert_int_not_equal(bytes, 0);
    }
}

HF_TEST(a_message_that_is_too_long_is_cut_between_characters)
{
    char text[HF_ERROR_MESSAGE_BYTES + 8];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', sizeof text);
        memcpy(text + HF_ERROR_MESSAGE_BYTES - 1 - shift, "\xF0\x9F\x90\x98", 4); // one character of four bytes
        text[sizeof text - 1] = '\0';

        struct hf_error err;
        hf_fail(&err, HF_ERR_USAGE, "%s", text);
        assert_int_equal(strlen(err.message), HF_ERROR_MESSAGE_BYTES - 1 - shift);
        assert_memory_equal(err.message, text, strlen(err.message));
        errno = EIO;
        hf_fail_errno(&err, HF_ERR_NONE, "%s", text);
        assert_whole_characters(err.message);
        hf_fail_within(&err, "vault");
        assert_whole_characters(err.message);
    }
}

HF_TEST(kinds_have_names_both_ways)
{
    for (int kind = HF_ERR_NONE; kind <= HF_ERR_CANCELLED; kind++)
        assert_int_equal(hf_error_kind_from_name(hf_error_kind_name((enum hf_error_kind)kind)), kind);
    assert_string_equal(hf_error_kind_name(HF_ERR_NO_SPACE), "no_space");
    assert_int_equal(hf_error_kind_from_name("no such kind"), HF_ERR_NONE);
}
