#include "tests/support/test.h"

#include <sys/stat.h>

#include "base/file.h"
#include "server/source/mariadb/table_keys.h"

static const char *put(const char *name, const void *bytes, size_t length);

HF_TEST(keys_are_read_by_line_and_what_is_none_is_named_by_its_line)
{
    static const struct {
        const char *text, *says; // NULL: fine
    } cases[] = {
        {"1;abababababababababababababababab\n", NULL},
        {"# ours\n\n1;ABABABABABABABABABABABABABABABABABABABABABABABAB # old\r\n"
         "4294967295;abababababababababababababababababababababababababababababababab",
         NULL},
        {"", "holds no keys of tables"},
        {"# nothing\n", "holds no keys of tables"},
        {"1;abab\n", "line 1 of"},
        {"1;abababababababababababababababab\n0;abababababababababababababababab\n", "line 2 of"},
        {"4294967296;abababababababababababababababab\n", "line 1 of"},
        {"1;abababababababababababababababag\n", "line 1 of"},
        {"abababababababababababababababab\n", "line 1 of"},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        _cleanup_(hf_table_keys_freep) struct hf_table_keys *keys = NULL;
        struct hf_error err;
        const char *path = put("keys", cases[i].text, strlen(cases[i].text));
        if (cases[i].says == NULL) {
            hf_assert_ok(hf_table_keys_read(path, NULL, &keys, &err), &err);
            assert_string_equal(hf_table_keys_text(keys), cases[i].text);
            continue;
        }
        assert_false(hf_table_keys_read(path, NULL, &keys, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_non_null(strstr(err.message, cases[i].says));
        assert_null(strstr(err.message, "abab")); // no key in a message
    }
}

/* Made by: openssl enc -aes-256-cbc -md sha1 -pass pass:open -S 0102030405060708, with its salt in front. */
HF_TEST(a_sealed_file_opens_with_its_password_alone)
{
    static const uint8_t sealed[] = {'S',  'a',  'l',  't',  'e',  'd',  '_',  '_',  1,    2,    3,    4,    5,
                                     6,    7,    8,    0x95, 0x87, 0x36, 0x53, 0x6a, 0xfa, 0x2e, 0x2c, 0x74, 0x5e,
                                     0xd0, 0x50, 0xbd, 0x30, 0xb4, 0x18, 0xe3, 0xc3, 0x61, 0xc0, 0x5d, 0x59, 0x1e,
                                     0x63, 0x04, 0x76, 0x2c, 0x42, 0xf0, 0xab, 0xd0, 0x9c, 0x03, 0x02, 0xfd, 0x82,
                                     0xaf, 0x97, 0xc4, 0x25, 0x18, 0xa7, 0xc9, 0x68, 0x61, 0x8a, 0xb9, 0x2e};
    _cleanup_(hf_table_keys_freep) struct hf_table_keys *keys = NULL;
    struct hf_error err;
    const char *path = put("keys.enc", sealed, sizeof sealed);
    assert_false(hf_table_keys_read(path, NULL, &keys, &err));
    assert_non_null(strstr(err.hint, "table_keys_password"));
    assert_false(hf_table_keys_read(path, put("wrong", "shut", 4), &keys, &err));
    assert_non_null(strstr(err.message, "does not open the keys"));
    hf_assert_ok(hf_table_keys_read(path, put("right", "open\n", 5), &keys, &err), &err);
    assert_string_equal(hf_table_keys_text(keys), "1;abababababababababababababababab\n");
}

HF_TEST(a_tablespace_says_how_it_is_encrypted_behind_its_extents)
{
    static const uint8_t start[] = {0x73, 0x0e, 0x0c, 0x52, 0x45, 0x74, 1, 16};
    static uint8_t page[16384];
    struct hf_table_crypt crypt;
    assert_false(hf_table_crypt_read(page, sizeof page, &crypt));
    memcpy(page + 10428, start, sizeof start);
    page[10428 + 8] = 77;
    page[10428 + 31] = 2;
    assert_true(hf_table_crypt_read(page, sizeof page, &crypt));
    assert_int_equal(crypt.key_id, 2);
    assert_int_equal(crypt.vector[0], 77);
    page[10428 + 6] = 0;
    assert_false(hf_table_crypt_read(page, sizeof page, &crypt)); // it is not
    memcpy(page + sizeof page - sizeof start, start, sizeof start);
    page[10428] = 0;
    assert_false(hf_table_crypt_read(page, sizeof page, &crypt)); // it ends with the page
}

static const char *
put(const char *name, const void *bytes, size_t length)
{
    static char paths[4][300];
    static size_t next;
    char *path = paths[next++ % HF_LENGTH(paths)];
    struct hf_error err;
    snprintf(path, sizeof paths[0], "%s/%s", hf_test_folder(), name);
    hf_assert_ok(hf_file_publish(path, bytes, length, 0600, HF_PUBLISH_REPLACE, &err), &err);
    return path;
}
