#include <sys/stat.h>
#include <unistd.h>

#include "tests/evidence/contents.h"

/* RFC 8032, section 7.1, test 1: the public key of the seed, and the signature of nothing. */
static const char rfc_public_key[] = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
static const char rfc_signature[] =
    "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e3970"
    "1cf9b46bd25bf5f0595bbe24655141438e7a100b";

static struct hf_public_key
test_key(void)
{
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_public_key key = *hf_signer_public_key(signer);
    hf_signer_close(signer);
    return key;
}

static void
assert_refused_key_file(const char *text, const char *part)
{
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_signer *signer = NULL;
    struct hf_error err;

    test_write(path, text, 0600);
    assert_false(hf_signer_open(path, &signer, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
    assert_null(signer);
}

HF_TEST(a_new_key_can_be_opened_and_its_file_is_for_its_owner_alone)
{
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_signer *signer = NULL;
    struct hf_error err;
    struct stat status;

    hf_assert_ok(hf_signer_create(path, "holdfast.example/a", &err), &err);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    hf_assert_ok(hf_signer_open(path, &signer, &err), &err);
    assert_string_equal(hf_signer_public_key(signer)->name, "holdfast.example/a");
    hf_signer_close(signer);
}

HF_TEST(two_new_keys_differ)
{
    const char *folder = hf_test_folder();
    struct hf_signer *a = NULL, *b = NULL;
    struct hf_error err;

    hf_assert_ok(hf_signer_create(test_path(folder, "a"), "n", &err), &err);
    hf_assert_ok(hf_signer_create(test_path(folder, "b"), "n", &err), &err);
    hf_assert_ok(hf_signer_open(test_path(folder, "a"), &a, &err), &err);
    hf_assert_ok(hf_signer_open(test_path(folder, "b"), &b, &err), &err);
    assert_memory_not_equal(hf_signer_public_key(a)->bytes, hf_signer_public_key(b)->bytes, HF_PUBLIC_KEY_BYTES);
    hf_signer_close(a);
    hf_signer_close(b);
}

HF_TEST(an_existing_key_is_never_replaced)
{
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_error err;

    hf_assert_ok(hf_signer_create(path, "a", &err), &err);
    struct hf_buf before = test_read(path);
    assert_false(hf_signer_create(path, "a", &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    struct hf_buf after = test_read(path);
    assert_string_equal(hf_buf_text(&before), hf_buf_text(&after));
    hf_buf_done(&before);
    hf_buf_done(&after);
}

HF_TEST(a_name_with_a_space_a_plus_or_nothing_in_it_is_refused)
{
    static const char *const names[] = {"", "a b", "a+b", "a\nb", "caf\xc3\xa9", "\x7f"};
    const char *path = test_path(hf_test_folder(), "key");
    char longest[HF_KEY_NAME_BYTES + 1];
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        assert_false(hf_signer_create(path, names[i], &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
    memset(longest, 'x', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    assert_false(hf_signer_create(path, longest, &err));
    longest[sizeof longest - 2] = 0;
    hf_assert_ok(hf_signer_create(path, longest, &err), &err);
    struct hf_signer *signer = NULL;
    hf_assert_ok(hf_signer_open(path, &signer, &err), &err);
    char text[HF_PUBLIC_KEY_TEXT_BYTES];
    struct hf_public_key key;
    hf_assert_ok(hf_public_key_parse(hf_public_key_format(hf_signer_public_key(signer), text), &key, &err), &err);
    hf_signer_close(signer);
}

HF_TEST(a_missing_key_is_not_found_and_the_hint_says_where_to_take_it_from)
{
    struct hf_signer *signer = NULL;
    struct hf_error err;

    assert_false(hf_signer_open(test_path(hf_test_folder(), "key"), &signer, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.hint, "copy of the state folder"));
}

HF_TEST(a_key_that_others_can_read_is_denied_with_the_chmod_that_mends_it)
{
    const char *path = test_path(hf_test_folder(), "key");
    struct hf_signer *signer = NULL;
    struct hf_error err;

    test_write(path, TEST_KEY_FILE, 0640);
    assert_false(hf_signer_open(path, &signer, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.hint, "chmod 600"));
}

HF_TEST(a_damaged_key_file_is_corrupt_and_says_what_is_wrong)
{
    assert_refused_key_file("", "first line");
    assert_refused_key_file("holdfast-signing-key/v2\n", "first line");
    assert_refused_key_file("holdfast-signing-key/v1\n", "needs the lines");
    assert_refused_key_file("holdfast-signing-key/v1\nname a b\nkey_id 00000000\nseed " TEST_KEY_SEED "\n", "name");
    assert_refused_key_file(TEST_KEY_FILE "\n", "needs the lines");
    assert_refused_key_file("holdfast-signing-key/v1\nname x\nkey_id " TEST_KEY_ID "\nseed " TEST_KEY_SEED "\n",
                            "its seed belongs to key id");
}

HF_TEST(no_changed_byte_and_no_truncation_of_the_key_file_is_taken)
{
    const char *path = test_path(hf_test_folder(), "key");
    char text[] = TEST_KEY_FILE;
    struct hf_signer *signer = NULL;
    struct hf_error err;

    for (size_t i = 0; i < sizeof text - 1; i++) {
        char kept = text[i];
        text[i] ^= 1;
        test_write(path, text, 0600);
        if (hf_signer_open(path, &signer, &err))
            fail_msg("a change at byte %zu was not noticed", i);
        text[i] = 0;
        test_write(path, text, 0600);
        if (hf_signer_open(path, &signer, &err))
            fail_msg("the end at byte %zu was not noticed", i);
        text[i] = kept;
    }
}

HF_TEST(keys_and_signatures_are_those_of_rfc_8032)
{
    struct hf_signer *signer = test_signer(hf_test_folder());
    uint8_t signature[HF_SIGNATURE_BYTES];
    char hex[2 * HF_SIGNATURE_BYTES + 1];
    struct hf_error err;

    hf_hex_format(hf_signer_public_key(signer)->bytes, HF_PUBLIC_KEY_BYTES, hex);
    assert_string_equal(hex, rfc_public_key);
    hf_assert_ok(hf_signer_sign(signer, "", 0, signature, &err), &err);
    hf_hex_format(signature, sizeof signature, hex);
    assert_string_equal(hex, rfc_signature);
    assert_true(hf_public_key_check(hf_signer_public_key(signer), "", 0, signature));
    assert_false(hf_public_key_check(hf_signer_public_key(signer), "x", 1, signature));
    signature[63] ^= 0x80;
    assert_false(hf_public_key_check(hf_signer_public_key(signer), "", 0, signature));
    hf_signer_close(signer);
}

HF_TEST(the_signer_fits_the_callback_that_lower_rooms_take)
{
    bool (*sign)(void *context, const void *bytes, size_t length, uint8_t signature[64], struct hf_error *err) =
        hf_signer_sign;
    struct hf_signer *signer = test_signer(hf_test_folder());
    uint8_t signature[HF_SIGNATURE_BYTES];
    struct hf_error err;

    hf_assert_ok(sign(signer, "entry", 5, signature, &err), &err);
    assert_true(hf_public_key_check(hf_signer_public_key(signer), "entry", 5, signature));
    hf_signer_close(signer);
}

HF_TEST(a_public_key_is_written_as_one_line_and_read_back_from_it)
{
    const char *path = test_path(hf_test_folder(), "public-key");
    struct hf_public_key key = test_key(), again;
    char text[HF_PUBLIC_KEY_TEXT_BYTES];
    struct hf_error err;

    assert_string_equal(hf_public_key_format(&key, text),
                        TEST_KEY_NAME "+" TEST_KEY_ID "+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea");
    hf_assert_ok(hf_public_key_parse(text, &again, &err), &err);
    assert_memory_equal(&again, &key, sizeof key);
    hf_assert_ok(hf_public_key_write_file(&key, path, &err), &err);
    hf_assert_ok(hf_public_key_read_file(path, &again, &err), &err);
    assert_memory_equal(&again, &key, sizeof key);
}

HF_TEST(a_public_key_in_any_other_form_is_refused_by_what_is_wrong_with_it)
{
    static const struct {
        const char *text, *part;
    } cases[] = {
        {"", "reads name+id+base64"},
        {"n+01020304", "reads name+id+base64"},
        {"a b+01020304+AAAA", "key's name"},
        {"n+01020304+A*==", "not base64"},
        {"n+01020304+AAAA", "not base64"},
        {TEST_KEY_NAME "+" TEST_KEY_ID "+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea", "type 4"},
        {TEST_KEY_NAME "+04C89145+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea", "altered"},
        {TEST_KEY_NAME "+14c89145+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea", "altered"},
        {TEST_KEY_NAME "+" TEST_KEY_ID "+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea ", "not base64"},
    };
    struct hf_public_key key;
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        assert_false(hf_public_key_parse(cases[i].text, &key, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        if (strstr(err.message, cases[i].part) == NULL)
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].part);
    }
}

HF_TEST(a_public_key_file_without_its_newline_or_with_more_is_corrupt)
{
    const char *path = test_path(hf_test_folder(), "public-key");
    struct hf_public_key key = test_key();
    char text[HF_PUBLIC_KEY_TEXT_BYTES], file[2 * HF_PUBLIC_KEY_TEXT_BYTES];
    struct hf_error err;

    hf_public_key_format(&key, text);
    test_write(path, text, 0644);
    assert_false(hf_public_key_read_file(path, &key, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    snprintf(file, sizeof file, "%s\n\n", text);
    test_write(path, file, 0644);
    assert_false(hf_public_key_read_file(path, &key, &err));
    test_write(path, "", 0644);
    assert_false(hf_public_key_read_file(path, &key, &err));
    assert_false(hf_public_key_read_file(test_path(hf_test_folder(), "none"), &key, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}
