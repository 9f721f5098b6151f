#include "tests/support/test.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/id.h"
#include "base/secret.h"

static char path[128];

/* A file "key" of the given bytes and mode in a fresh folder. */
static const char *
key_file(const char *bytes, size_t length, mode_t mode)
{
    struct hf_error err;
    snprintf(path, sizeof path, "%s/key", hf_test_folder());
    hf_assert_ok(hf_file_publish(path, bytes, length, mode, HF_PUBLISH_EXCLUSIVE, &err), &err);
    return path;
}

HF_TEST(ids_are_all_different_and_none_is_nobody)
{
    struct hf_id ids[1000];
    for (size_t i = 0; i < HF_LENGTH(ids); i++)
        ids[i] = hf_id_new();
    qsort(ids, HF_LENGTH(ids), sizeof ids[0], hf_id_compare);
    for (size_t i = 0; i < HF_LENGTH(ids); i++) {
        assert_false(hf_id_is_none(&ids[i]));
        if (i > 0) {
            assert_false(hf_id_equal(&ids[i - 1], &ids[i]));
            assert_true(hf_id_compare(&ids[i - 1], &ids[i]) < 0);
        }
    }
    assert_true(hf_id_is_none(&HF_ID_NONE));
}

HF_TEST(an_id_is_32_lower_case_hex_digits_and_comes_back)
{
    struct hf_id id = {{0x00, 0x7f, 0x3a, 0xff}}, back;
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES];
    assert_string_equal(hf_id_format(&id, text), "007f3aff000000000000000000000000");
    hf_assert_ok(hf_id_parse(text, &back, &err), &err);
    assert_true(hf_id_equal(&id, &back));

    static const char *const refused[] = {
        "",
        "007f3aff00000000000000000000000",
        "007f3aff0000000000000000000000000",
        "007F3aff000000000000000000000000",
        "007g3aff000000000000000000000000",
        " 07f3aff000000000000000000000000",
    };
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        assert_false(hf_id_parse(refused[i], &back, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_true(hf_id_equal(&id, &back));
    }
    assert_string_equal(err.message, "id \" 07f3aff000000000000000000000000\" is not 32 lower-case hex digits");
}

HF_TEST(refused_hex_leaves_the_bytes_alone)
{
    uint8_t bytes[2] = {1, 2};
    struct hf_error err;
    assert_false(hf_hex_parse("ab0x", bytes, 2, &err));
    assert_memory_equal(bytes, "\x01\x02", 2);
    hf_assert_ok(hf_hex_parse("ab0f", bytes, 2, &err), &err);
    assert_memory_equal(bytes, "\xab\x0f", 2);
}

HF_TEST(a_secret_is_zeros_random_or_a_copy)
{
    _cleanup_(hf_secret_done) struct hf_secret zeros = {0}, one = {0}, other = {0}, copy = {0}, empty = {0};
    struct hf_error err;
    hf_assert_ok(hf_secret_init(&zeros, 32, &err), &err);
    for (size_t i = 0; i < 32; i++)
        assert_int_equal(zeros.bytes[i], 0);

    hf_assert_ok(hf_secret_random(&one, 32, &err) && hf_secret_random(&other, 32, &err), &err);
    assert_memory_not_equal(one.bytes, other.bytes, 32);
    hf_assert_ok(hf_secret_copy(&copy, one.bytes, one.length, &err), &err);
    assert_memory_equal(copy.bytes, one.bytes, 32);
    assert_ptr_not_equal(copy.bytes, one.bytes);

    hf_assert_ok(hf_secret_copy(&empty, "", 0, &err), &err);
    assert_null(empty.bytes);
    hf_secret_done(&copy);
    assert_null(copy.bytes);
    assert_int_equal(copy.length, 0);
}

HF_TEST(a_secret_file_is_read_whole_without_its_line_end_when_text)
{
    const struct {
        const char *stored, *read;
    } cases[] = {{"word\n", "word"},   {"word\r\n", "word"}, {"word", "word"}, {"word\n\n", "word\n"},
                 {"word\r", "word\r"}, {"\n", ""},           {"", ""}};
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        _cleanup_(hf_secret_done) struct hf_secret secret = {0};
        struct hf_error err;
        key_file(cases[i].stored, strlen(cases[i].stored), 0600);
        hf_assert_ok(hf_secret_read_file(&secret, path, 6, true, &err), &err);
        assert_int_equal(secret.length, strlen(cases[i].read));
        if (secret.length > 0)
            assert_memory_equal(secret.bytes, cases[i].read, secret.length);

        _cleanup_(hf_secret_done) struct hf_secret binary = {0};
        hf_assert_ok(hf_secret_read_file(&binary, path, 6, false, &err), &err);
        assert_int_equal(binary.length, strlen(cases[i].stored));
    }
}

HF_TEST(a_secret_file_that_others_can_read_is_refused_with_the_chmod_that_mends_it)
{
    const mode_t modes[] = {0640, 0604, 0620, 0601};
    for (size_t i = 0; i < HF_LENGTH(modes); i++) {
        _cleanup_(hf_secret_done) struct hf_secret secret = {0};
        struct hf_error err;
        char expected[256];
        assert_false(hf_secret_read_file(&secret, key_file("k", 1, modes[i]), 10, true, &err));
        assert_int_equal(err.kind, HF_ERR_DENIED);
        snprintf(expected, sizeof expected, "secret file \"%s\" has mode %04o: others can read or change it", path,
                 (unsigned)modes[i]);
        assert_string_equal(err.message, expected);
        snprintf(expected, sizeof expected, "Run: chmod 600 '%s'.", path);
        assert_string_equal(err.hint, expected);
        assert_null(secret.bytes);
    }
}

HF_TEST(a_secret_file_of_somebody_else_is_refused)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can give a file away");
    _cleanup_(hf_secret_done) struct hf_secret secret = {0};
    struct hf_error err;
    key_file("k", 1, 0600);
    assert_int_equal(chown(path, 12345, 0), 0);
    assert_false(hf_secret_read_file(&secret, path, 10, true, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "belongs to user 12345, not to us (0) or root"));
    assert_non_null(strstr(err.hint, "chown 0"));
}

HF_TEST(a_secret_file_that_is_missing_too_long_or_no_file_is_refused)
{
    _cleanup_(hf_secret_done) struct hf_secret secret = {0};
    struct hf_error err;
    assert_false(hf_secret_read_file(&secret, key_file("12345", 5, 0600), 4, false, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, "is longer than 4 bytes"));

    char link[160];
    snprintf(link, sizeof link, "%s.link", path);
    assert_int_equal(symlink(path, link), 0);
    assert_false(hf_secret_read_file(&secret, link, 10, false, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);

    snprintf(link, sizeof link, "%s.none", path);
    assert_false(hf_secret_read_file(&secret, link, 10, false, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

HF_TEST(after_setup_no_core_can_be_dumped)
{
    struct rlimit limit;
    struct hf_error err;
    hf_assert_ok(hf_secrets_setup(&err), &err);
    getrlimit(RLIMIT_CORE, &limit);
    assert_int_equal(limit.rlim_cur, 0);
    assert_int_equal(limit.rlim_max, 0);
#ifndef __SANITIZE_ADDRESS__
    assert_int_equal(prctl(PR_GET_DUMPABLE), 0);
#endif
}
