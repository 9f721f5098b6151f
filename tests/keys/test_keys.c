#include "tests/support/test.h"

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/keys/envelope.h"
#include "server/keys/keys.h"

static const struct hf_id repository = {{0xaa, 1}}, other_repository = {{0xbb, 1}}, vault = {{0xcc, 1}},
                          other_vault = {{0xdd, 1}};
static const struct hf_slot_options cheap = {
    .name = "safe", .argon2_operations = crypto_pwhash_OPSLIMIT_MIN, .argon2_memory_bytes = crypto_pwhash_MEMLIMIT_MIN};

static struct hf_backend *
open_backend(const char *folder)
{
    struct hf_backend *backend;
    struct hf_error err;
    hf_assert_ok(hf_backend_open_local(folder, &backend, &err), &err);
    return backend;
}

/* 32 bytes of this value. */
static struct hf_secret
a_key(uint8_t value)
{
    struct hf_secret key;
    struct hf_error err;
    hf_assert_ok(hf_secret_init(&key, HF_KEY_BYTES, &err), &err);
    memset(key.bytes, value, key.length);
    return key;
}

static struct hf_credential
a_passphrase(const char *text)
{
    struct hf_credential credential = {.kind = HF_SLOT_PASSPHRASE};
    struct hf_error err;
    hf_assert_ok(hf_secret_copy(&credential.passphrase, text, strlen(text), &err), &err);
    return credential;
}

static struct hf_credential
a_credential(enum hf_slot_kind kind, uint8_t value)
{
    if (kind == HF_SLOT_PASSPHRASE)
        return a_passphrase(value == 1 ? "correct horse" : "battery staple");
    struct hf_credential credential = {.kind = kind, .key = a_key(value)};
    if (kind == HF_SLOT_RECIPIENT)
        crypto_scalarmult_base(credential.recipient, credential.key.bytes);
    return credential;
}

static struct hf_slot_info
add_slot(struct hf_backend *backend, const struct hf_credential *credential, const char *name)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_slot_options options = cheap;
    struct hf_slot_info info;
    struct hf_error err;
    options.name = name;
    hf_assert_ok(hf_slot_add(backend, &repository, credential, &options, &root_key, 1234, &info, &err), &err);
    return info;
}

/* True when the root key came out; its bytes are checked. */
static bool
opens(struct hf_backend *backend, const struct hf_credential *credential, struct hf_slot_info *ret,
      struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0}, expected = a_key(77);
    struct hf_slot_info info;
    if (!hf_slot_open(backend, &repository, credential, &root_key, &info, err)) {
        assert_null(root_key.bytes);
        return false;
    }
    assert_int_equal(root_key.length, HF_KEY_BYTES);
    assert_memory_equal(root_key.bytes, expected.bytes, HF_KEY_BYTES);
    if (ret != NULL)
        *ret = info;
    return true;
}

static const char *
slot_name(const struct hf_id *id)
{
    static char name[64];
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, sizeof name, "keys/slot-%s", hf_id_format(id, text));
    return name;
}

static void
read_object(struct hf_backend *backend, const char *name, struct hf_buf *bytes)
{
    struct hf_error err;
    hf_buf_clear(bytes);
    hf_assert_ok(hf_backend_get(backend, name, bytes, &err), &err);
}

/* Puts other bytes in the place of an object, or makes one, behind the backend's back. */
static void
plant(struct hf_backend *backend, const char *name, const void *bytes, size_t length)
{
    struct hf_error err;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", hf_backend_place(backend), name);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    hf_assert_ok(hf_dir_make(path, 0700, &err), &err);
    *slash = '/';
    hf_assert_ok(hf_file_publish(path, bytes, length, 0400, HF_PUBLISH_REPLACE, &err), &err);
}

static void
mend_checksum(uint8_t *slot)
{
    hf_put_u32(slot + 508, hf_crc32c(0, slot, 508));
}

HF_TEST(each_kind_of_slot_gives_the_root_key_back_and_says_which_it_was)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    struct hf_slot_info added[5], listed[HF_SLOTS_MOST];
    struct hf_error err;
    size_t count;
    for (enum hf_slot_kind kind = HF_SLOT_PASSPHRASE; kind <= HF_SLOT_COMMAND; kind++) {
        _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(kind, 1);
        added[kind] = add_slot(backend, &credential, "safe");
    }
    for (enum hf_slot_kind kind = HF_SLOT_PASSPHRASE; kind <= HF_SLOT_COMMAND; kind++) {
        _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(kind, 1);
        struct hf_slot_info info = {0};
        hf_assert_ok(opens(backend, &credential, &info, &err), &err);
        assert_int_equal(info.kind, kind);
        assert_string_equal(info.name, "safe");
        assert_int_equal(info.created_at, 1234);
        assert_true(hf_id_equal(&info.id, &added[kind].id));
    }
    hf_assert_ok(hf_slot_list(backend, &repository, listed, &count, &err), &err);
    assert_int_equal(count, 4);
    for (size_t i = 1; i < count; i++)
        assert_true(hf_id_compare(&listed[i - 1].id, &listed[i].id) < 0);
}

HF_TEST(a_recipient_slot_is_made_without_its_secret)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential holder = a_credential(HF_SLOT_RECIPIENT, 5);
    struct hf_credential only_public = {.kind = HF_SLOT_RECIPIENT};
    struct hf_error err;
    memcpy(only_public.recipient, holder.recipient, HF_PUBLIC_BYTES);
    add_slot(backend, &only_public, "escrow");
    hf_assert_ok(opens(backend, &holder, NULL, &err), &err);

    memset(only_public.recipient, 0, HF_PUBLIC_BYTES); // a point that gives everyone the same secret
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_slot_info info;
    assert_false(hf_slot_add(backend, &repository, &only_public, &cheap, &root_key, 1, &info, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(a_slot_is_byte_for_byte_what_the_header_says)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(HF_SLOT_KEY_FILE, 9);
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
    struct hf_slot_info info = add_slot(backend, &credential, "server");
    read_object(backend, slot_name(&info.id), &raw);
    const uint8_t *slot = raw.data;

    assert_int_equal(raw.length, 512);
    assert_memory_equal(slot, "HFSLOT01\x01\x00\x02\x00\x01\x00\x00\x00", 16);
    assert_memory_equal(slot + 16, repository.bytes, 16);
    assert_memory_equal(slot + 32, info.id.bytes, 16);
    assert_int_equal(hf_get_u64(slot + 48), 1234);
    assert_string_equal((const char *)slot + 56, "server");

    uint8_t expected[32], wrapping[32], opened[32], text[29] = "holdfast slot";
    crypto_generichash(expected, 32, (const uint8_t *)"holdfast key file", 17, credential.key.bytes, 32);
    assert_memory_equal(slot + 152, expected, 32);
    memcpy(text + 13, info.id.bytes, 16);
    crypto_generichash(wrapping, 32, text, 29, credential.key.bytes, 32);
    crypto_generichash(expected, 32, (const uint8_t *)"holdfast commit", 15, wrapping, 32);
    assert_memory_equal(slot + 368, expected, 32);
    assert_int_equal(
        crypto_aead_xchacha20poly1305_ietf_decrypt(opened, NULL, NULL, slot + 424, 48, slot, 400, slot + 400, wrapping),
        0);
    memset(expected, 77, 32);
    assert_memory_equal(opened, expected, 32);
    assert_int_equal(hf_get_u32(slot + 508), hf_crc32c(0, slot, 508));
}

HF_TEST(a_passphrase_slot_costs_something_when_nothing_is_asked_for)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential credential = a_passphrase("pw");
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
    const struct hf_slot_options options = {.name = "safe"};
    struct hf_slot_info info;
    struct hf_error err;
    hf_assert_ok(hf_slot_add(backend, &repository, &credential, &options, &root_key, 1, &info, &err), &err);
    read_object(backend, slot_name(&info.id), &raw);
    assert_int_equal(hf_get_u64(raw.data + 120), crypto_pwhash_OPSLIMIT_MODERATE);
    assert_int_equal(hf_get_u64(raw.data + 128), crypto_pwhash_MEMLIMIT_MODERATE);
}

HF_TEST(another_key_is_denied_and_no_slot_of_the_kind_is_not_found)
{
    static const char *const called[] = {NULL, "passphrase", "key file", "recipient's secret", "key command"};
    for (enum hf_slot_kind kind = HF_SLOT_PASSPHRASE; kind <= HF_SLOT_COMMAND; kind++) {
        _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
        _cleanup_(hf_credential_done) struct hf_credential right = a_credential(kind, 1), wrong = a_credential(kind, 2);
        struct hf_error err;
        char message[256];
        assert_false(opens(backend, &right, NULL, &err));
        assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
        snprintf(message, sizeof message, "has no key slot for a %s", called[kind]);
        assert_non_null(strstr(err.message, message));

        add_slot(backend, &right, "safe");
        assert_false(opens(backend, &wrong, NULL, &err));
        assert_int_equal(err.kind, HF_ERR_DENIED);
        snprintf(message, sizeof message, "wrong %s: none of the 1 key slots", called[kind]);
        assert_non_null(strstr(err.message, message));
    }
}

HF_TEST(a_flipped_byte_anywhere_never_opens_and_the_slot_is_named)
{
    for (enum hf_slot_kind kind = HF_SLOT_PASSPHRASE; kind <= HF_SLOT_COMMAND; kind++) {
        _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
        _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(kind, 1);
        _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
        struct hf_slot_info info = add_slot(backend, &credential, "safe"), infos[HF_SLOTS_MOST];
        size_t count;
        const char *name = slot_name(&info.id);
        read_object(backend, name, &raw);
        for (size_t at = 0; at < raw.length; at++) {
            struct hf_error err;
            raw.data[at] ^= (uint8_t)(1 << at % 8);
            plant(backend, name, raw.data, raw.length);
            assert_false(opens(backend, &credential, NULL, &err));
            assert_int_equal(err.kind, HF_ERR_CORRUPT);
            assert_non_null(strstr(err.message, name));
            assert_false(hf_slot_list(backend, &repository, infos, &count, &err));
            assert_int_equal(err.kind, HF_ERR_CORRUPT);
            assert_non_null(strstr(err.message, name));
            raw.data[at] ^= (uint8_t)(1 << at % 8);
        }
    }
}

HF_TEST(a_changed_byte_under_a_mended_checksum_never_opens)
{
    for (enum hf_slot_kind kind = HF_SLOT_PASSPHRASE; kind <= HF_SLOT_COMMAND; kind++) {
        _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
        _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(kind, 1);
        _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
        struct hf_slot_info info = add_slot(backend, &credential, "safe");
        read_object(backend, slot_name(&info.id), &raw);
        for (size_t at = 0; at < 508; at++) {
            struct hf_error err;
            raw.data[at] ^= 1;
            mend_checksum(raw.data);
            plant(backend, slot_name(&info.id), raw.data, raw.length);
            assert_false(opens(backend, &credential, NULL, &err));
            assert_true(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_DENIED || err.kind == HF_ERR_NOT_FOUND);
            if (at >= 400 && at < 472) // nonce, key or tag: the key is right, and this is known
                assert_int_equal(err.kind, HF_ERR_CORRUPT);
            raw.data[at] ^= 1;
        }
        mend_checksum(raw.data);
        plant(backend, slot_name(&info.id), raw.data, raw.length);
        assert_true(opens(backend, &credential, NULL, NULL));
    }
}

HF_TEST(a_slot_of_any_other_length_is_damaged)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(HF_SLOT_KEY_FILE, 1);
    struct hf_slot_info info = add_slot(backend, &credential, "safe");
    uint8_t raw[2 * HF_SLOT_BYTES] = {0};
    struct hf_error err;
    hf_assert_ok(hf_backend_get_range(backend, slot_name(&info.id), 0, raw, HF_SLOT_BYTES, &err), &err);
    const size_t lengths[] = {0, 1, 8, 511, 513, 1024};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++) {
        plant(backend, slot_name(&info.id), raw, lengths[i]);
        assert_false(opens(backend, &credential, NULL, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, slot_name(&info.id)));
    }
}

HF_TEST(a_slot_from_elsewhere_is_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(HF_SLOT_KEY_FILE, 1);
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    struct hf_slot_info info = add_slot(backend, &credential, "safe"), found;
    struct hf_error err;
    assert_false(hf_slot_open(backend, &other_repository, &credential, &root_key, &found, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "belongs to another repository"));

    read_object(backend, slot_name(&info.id), &raw);
    hf_assert_ok(hf_backend_delete(backend, slot_name(&info.id), &err), &err);
    plant(backend, slot_name(&vault), raw.data, raw.length);
    assert_false(opens(backend, &credential, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is another slot under this name"));
}

HF_TEST(a_damaged_slot_does_not_keep_another_from_opening)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential passphrase = a_passphrase("a"), wrong = a_passphrase("b"),
                                                       file = a_credential(HF_SLOT_KEY_FILE, 1);
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
    struct hf_error err;
    struct hf_slot_info damaged = add_slot(backend, &file, "server");
    add_slot(backend, &passphrase, "safe");
    read_object(backend, slot_name(&damaged.id), &raw);
    raw.data[430] ^= 1;
    plant(backend, slot_name(&damaged.id), raw.data, raw.length);

    hf_assert_ok(opens(backend, &passphrase, NULL, &err), &err);
    assert_false(opens(backend, &wrong, NULL, &err)); // the damaged one claims to be of another kind
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.hint, slot_name(&damaged.id)));
    assert_false(opens(backend, &file, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, slot_name(&damaged.id)));
    add_slot(backend, &file, "server again"); // and a new one can be made
    hf_assert_ok(opens(backend, &file, NULL, &err), &err);
}

HF_TEST(damage_is_told_though_an_intact_slot_of_the_kind_refuses)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential passphrase = a_passphrase("a"), other = a_passphrase("b");
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(HF_SLOT_BYTES);
    struct hf_error err;
    add_slot(backend, &other, "safe");
    struct hf_slot_info damaged = add_slot(backend, &passphrase, "owner");
    read_object(backend, slot_name(&damaged.id), &raw);
    raw.data[430] ^= 1;
    plant(backend, slot_name(&damaged.id), raw.data, raw.length);
    assert_false(opens(backend, &passphrase, NULL, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, slot_name(&damaged.id)));
}

HF_TEST(what_cannot_become_a_slot_is_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    char long_name[65], long_passphrase[4098];
    memset(long_name, 'n', 64);
    long_name[64] = '\0';
    memset(long_passphrase, 'p', 4097);
    long_passphrase[4097] = '\0';
    const struct {
        const char *passphrase, *name;
        uint64_t operations, memory;
    } cases[] = {
        {"", "safe", 0, 0},        {long_passphrase, "safe", 0, 0}, {"a", "", 1, 8192},
        {"a", long_name, 1, 8192}, {"a", "a\nb", 1, 8192},          {"a", "\xff\xfe", 1, 8192},
        {"a", "safe", 65, 8192},   {"a", "safe", 1, 4096},          {"a", "safe", 1, 5 * HF_GIB},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        _cleanup_(hf_credential_done) struct hf_credential credential = a_passphrase(cases[i].passphrase);
        const struct hf_slot_options options = {cases[i].name, cases[i].operations, cases[i].memory};
        struct hf_slot_info info;
        struct hf_error err;
        assert_false(hf_slot_add(backend, &repository, &credential, &options, &root_key, 1, &info, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
    struct hf_slot_info infos[HF_SLOTS_MOST];
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_slot_list(backend, &repository, infos, &count, &err), &err);
    assert_int_equal(count, 0);
}

HF_TEST(there_is_a_limit_on_slots)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_credential_done) struct hf_credential credential = a_credential(HF_SLOT_KEY_FILE, 1);
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_slot_info info;
    struct hf_error err;
    for (size_t i = 0; i < HF_SLOTS_MOST; i++)
        add_slot(backend, &credential, "safe");
    assert_false(hf_slot_add(backend, &repository, &credential, &cheap, &root_key, 1, &info, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_assert_ok(opens(backend, &credential, NULL, &err), &err);
}

HF_TEST(a_key_file_is_private_and_never_written_over)
{
    const char *folder = hf_test_folder();
    char path[256];
    struct stat status;
    struct hf_error err;
    _cleanup_(hf_credential_done) struct hf_credential made = {0}, again = {0}, read = {0};
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(1000);
    snprintf(path, sizeof path, "%s/holdfast.key", folder);
    hf_assert_ok(hf_key_file_create(path, &made, &err), &err);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
    assert_false(hf_key_file_create(path, &again, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);

    hf_assert_ok(hf_key_file_read(path, &read, &err), &err);
    assert_int_equal(read.kind, HF_SLOT_KEY_FILE);
    assert_int_equal(read.key.length, HF_KEY_BYTES);
    assert_memory_equal(read.key.bytes, made.key.bytes, HF_KEY_BYTES);
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    assert_int_equal(strncmp(hf_buf_text(&text), "holdfast-key-1 ", 15), 0);
    assert_int_equal(text.length, 15 + 64 + 1);

    assert_int_equal(chmod(path, 0640), 0);
    assert_false(hf_key_file_read(path, &again, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_null(again.key.bytes);
}

HF_TEST(a_recipients_secret_is_read_like_a_key_file_and_its_public_half_is_text)
{
    const char *folder = hf_test_folder();
    char path[256], text[HF_RECIPIENT_TEXT_BYTES];
    uint8_t parsed[HF_PUBLIC_BYTES];
    struct hf_error err;
    _cleanup_(hf_credential_done) struct hf_credential made = {0}, read = {0};
    snprintf(path, sizeof path, "%s/escrow.secret", folder);
    hf_assert_ok(hf_recipient_create(path, &made, &err), &err);
    hf_assert_ok(hf_key_file_read(path, &read, &err), &err);
    assert_int_equal(read.kind, HF_SLOT_RECIPIENT);
    assert_memory_equal(read.recipient, made.recipient, HF_PUBLIC_BYTES);
    assert_memory_equal(read.key.bytes, made.key.bytes, HF_KEY_BYTES);

    hf_recipient_format(made.recipient, text);
    hf_assert_ok(hf_recipient_parse(text, parsed, &err), &err);
    assert_memory_equal(parsed, made.recipient, HF_PUBLIC_BYTES);
    const char *const wrong[] = {"", "holdfast-recipient-1 ", "holdfast-recipient-1 ab", "holdfast-recipient-2 "};
    for (size_t i = 0; i < HF_LENGTH(wrong); i++) {
        assert_false(hf_recipient_parse(wrong[i], parsed, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
}

HF_TEST(what_is_no_key_file_is_refused_without_showing_it)
{
    const char *folder = hf_test_folder();
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    const char *const formats[] = {"",
                                   "\n",
                                   "%s",
                                   "holdfast-key-1 %s0\n",
                                   "holdfast-key-2 %s\n",
                                   "holdfast-key-1 %s\n\n",
                                   "holdfast-key-1  %s",
                                   "holdfast-key-1 %.63s",
                                   "holdfast-key-1 %.63sX",
                                   "Holdfast-key-1 %s"};
    for (size_t i = 0; i < HF_LENGTH(formats); i++) {
        char path[256], text[128];
        struct hf_error err;
        struct hf_credential credential = {0};
        snprintf(path, sizeof path, "%s/%zu", folder, i);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
        snprintf(text, sizeof text, formats[i], zeros);
#pragma GCC diagnostic pop
        hf_assert_ok(hf_file_publish(path, text, strlen(text), 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
        assert_false(hf_key_file_read(path, &credential, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_null(strstr(err.message, "0000"));
        assert_null(credential.key.bytes);
    }
}

/* An Ed25519 key that a test signs with. */
struct signer {
    uint8_t secret[64];
    bool lies;
    struct hf_signing signing;
};

static bool
sign(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
     struct hf_error *err)
{
    struct signer *signer = context;
    (void)err;
    crypto_sign_detached(signature, NULL, bytes, length, signer->secret);
    signature[0] ^= signer->lies;
    return true;
}

static void
make_signer(struct signer *signer, uint8_t value)
{
    uint8_t seed[32];
    memset(seed, value, sizeof seed);
    *signer = (struct signer){.signing = {.context = signer, .appliance = {{value}}, .sign = sign}};
    crypto_sign_seed_keypair(signer->signing.public_key, signer->secret, seed);
}

static void
add_signer(struct hf_backend *backend, struct hf_root_bundle *bundle, const struct signer *who, const struct signer *by)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_error err;
    hf_assert_ok(hf_root_bundle_add_signer(backend, &repository, &root_key, bundle, &who->signing, &by->signing,
                                           "appliance", 99, &err),
                 &err);
}

static bool
read_root(struct hf_backend *backend, const struct hf_id *of, uint8_t key, struct hf_root_bundle *ret,
          struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(key);
    return hf_root_bundle_read(backend, of, &root_key, ret, err);
}

HF_TEST(signers_are_listed_in_a_chain_that_begins_with_itself)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    struct signer a, b, c;
    struct hf_root_bundle bundle = {0}, read;
    struct hf_error err;
    make_signer(&a, 1);
    make_signer(&b, 2);
    make_signer(&c, 3);
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);

    add_signer(backend, &bundle, &a, &a);
    add_signer(backend, &bundle, &b, &a);
    assert_int_equal(bundle.generation, 2);
    hf_assert_ok(read_root(backend, &repository, 77, &read, &err), &err);
    assert_int_equal(read.generation, 2);
    assert_int_equal(read.signer_count, 2);
    assert_memory_equal(read.signers[1].public_key, b.signing.public_key, HF_PUBLIC_BYTES);
    assert_true(hf_id_equal(&read.signers[1].appliance, &b.signing.appliance));
    assert_string_equal(read.signers[1].name, "appliance");
    assert_int_equal(read.signers[1].added_at, 99);
    assert_true(hf_root_bundle_knows(&read, a.signing.public_key));
    assert_true(hf_root_bundle_knows(&read, b.signing.public_key));
    assert_false(hf_root_bundle_knows(&read, c.signing.public_key));
}

HF_TEST(a_signer_that_the_newest_does_not_confirm_is_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct signer a, b, c;
    struct hf_root_bundle bundle = {0};
    struct hf_error err;
    make_signer(&a, 1);
    make_signer(&b, 2);
    make_signer(&c, 3);
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &a.signing, &b.signing, "a", 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE); // the first signs itself
    add_signer(backend, &bundle, &a, &a);
    add_signer(backend, &bundle, &b, &a);
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &c.signing, &a.signing, "c", 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &c.signing, &c.signing, "c", 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &a.signing, &b.signing, "a", 1, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT); // known already
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &c.signing, &b.signing, "c\t", 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    b.lies = true;
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &bundle, &c.signing, &b.signing, "c", 1, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_int_equal(bundle.generation, 2);
    assert_int_equal(bundle.signer_count, 2);
    assert_true(read_root(backend, &repository, 77, &bundle, &err));
    assert_int_equal(bundle.generation, 2); // nothing was written
}

HF_TEST(of_two_that_add_a_signer_at_once_one_is_told)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct signer a, b, c;
    struct hf_root_bundle bundle = {0}, stale;
    struct hf_error err;
    make_signer(&a, 1);
    make_signer(&b, 2);
    make_signer(&c, 3);
    add_signer(backend, &bundle, &a, &a);
    stale = bundle;
    add_signer(backend, &bundle, &b, &a);
    assert_false(
        hf_root_bundle_add_signer(backend, &repository, &root_key, &stale, &c.signing, &a.signing, "c", 1, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_int_equal(stale.generation, 1);
}

HF_TEST(a_list_of_signers_that_is_old_foreign_or_damaged_is_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_buf_done) struct hf_buf first = HF_BUF_INIT(HF_MIB), second = HF_BUF_INIT(HF_MIB);
    struct signer a, b;
    struct hf_root_bundle bundle = {0}, read;
    struct hf_error err;
    make_signer(&a, 1);
    make_signer(&b, 2);
    add_signer(backend, &bundle, &a, &a);
    add_signer(backend, &bundle, &b, &a);
    read_object(backend, "keys/root-00000001", &first);
    read_object(backend, "keys/root-00000002", &second);

    assert_false(read_root(backend, &repository, 78, &read, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_false(read_root(backend, &other_repository, 77, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);

    plant(backend, "keys/root-00000002", first.data, first.length); // an older one in its place
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "key bundle \"keys/root-00000002\" is of generation 1, where 2 belongs");
    plant(backend, "keys/root-00000002", second.data, second.length);
    plant(backend, "keys/root-00000003", first.data, first.length); // or as if it were newer
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    hf_assert_ok(hf_backend_delete(backend, "keys/root-00000003", &err), &err);

    for (size_t at = 0; at < second.length; at++) { // and the first is never read instead
        second.data[at] ^= 0x40;
        plant(backend, "keys/root-00000002", second.data, second.length);
        assert_false(read_root(backend, &repository, 77, &read, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "keys/root-00000002"));
        second.data[at] ^= 0x40;
    }
    for (size_t length = 0; length < second.length; length += 13) {
        plant(backend, "keys/root-00000002", second.data, length);
        assert_false(read_root(backend, &repository, 77, &read, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
}

/* Seals these plain bytes as a root bundle of generation 1, as someone who has the root key can. */
static void
forge_root(struct hf_backend *backend, const struct hf_buf *plain)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(HF_MIB);
    const struct hf_envelope envelope = {HF_ENVELOPE_ROOT_BUNDLE, 1, repository, repository, NULL, 0};
    struct hf_error err;
    hf_assert_ok(hf_envelope_seal(&envelope, &root_key, plain->data, plain->length, &sealed, &err), &err);
    plant(backend, "keys/root-00000001", sealed.data, sealed.length);
}

HF_TEST(the_root_key_alone_does_not_make_a_signer)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder()),
                                                  *scratch = open_backend(hf_test_folder());
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(HF_MIB), plain = HF_BUF_INIT(HF_MIB);
    const struct hf_envelope envelope = {HF_ENVELOPE_ROOT_BUNDLE, 2, repository, repository, NULL, 0};
    struct signer a, b;
    struct hf_root_bundle bundle = {0}, read;
    struct hf_error err;
    make_signer(&a, 1);
    make_signer(&b, 2);
    add_signer(scratch, &bundle, &a, &a);
    add_signer(scratch, &bundle, &b, &a);
    read_object(scratch, "keys/root-00000002", &sealed);
    hf_assert_ok(hf_envelope_open(&envelope, &root_key, sealed.data, sealed.length, "x", &plain, &err), &err);
    assert_int_equal(plain.length, 8 + 2 * 192);
    forge_root(backend, &plain);
    hf_assert_ok(read_root(backend, &repository, 77, &read, &err), &err);

    for (size_t at = 0; at < plain.length; at++) { // any byte of the list, sealed again with the right key
        plain.data[at] ^= 0x20;
        forge_root(backend, &plain);
        assert_false(read_root(backend, &repository, 77, &read, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        plain.data[at] ^= 0x20;
    }
    hf_assert_ok(hf_buf_put_u8(&plain, 0, &err), &err);
    forge_root(backend, &plain);
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_string_equal(err.message, "key bundle \"keys/root-00000001\" has bytes after its end");
    plain.length -= 193; // the last signer is gone, and the count says two
    forge_root(backend, &plain);
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_string_equal(err.message, "key bundle \"keys/root-00000001\": signer 2 cannot be read");
    hf_assert_ok(hf_buf_reserve(&plain, 192, &err) && hf_buf_add(&plain, plain.data + 8, 192, &err), &err);
    forge_root(backend, &plain); // the first signer twice
    assert_false(read_root(backend, &repository, 77, &read, &err));
    assert_string_equal(err.message,
                        "key bundle \"keys/root-00000001\": signer 2 is not confirmed by the one before it");

    // What is signed, as the header says.
    uint8_t statement[15 + 16 + 128] = "holdfast signer";
    memcpy(statement + 15, repository.bytes, 16);
    memcpy(statement + 31, plain.data + 8, 128);
    assert_true(hf_signature_valid(a.signing.public_key, statement, sizeof statement, plain.data + 8 + 128));
}

static struct hf_vault_keys *
create_keys(struct hf_backend *backend, const struct hf_id *of)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_vault_keys *keys;
    struct hf_error err;
    hf_assert_ok(hf_vault_keys_create(backend, &repository, of, &root_key, 1234, &keys, &err), &err);
    return keys;
}

static bool
read_keys(struct hf_backend *backend, const struct hf_id *of, struct hf_vault_keys **ret, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    return hf_vault_keys_read(backend, &repository, of, &root_key, ret, err);
}

static const char *
bundle_name(const struct hf_id *of, unsigned generation)
{
    static char name[96];
    char text[HF_ID_TEXT_BYTES];
    snprintf(name, sizeof name, "vaults/%s/keys-%08x", hf_id_format(of, text), generation);
    return name;
}

static void
assert_same_keys(const struct hf_vault_keys *a, const struct hf_vault_keys *b)
{
    assert_true(hf_id_equal(&a->repository, &b->repository) && hf_id_equal(&a->vault, &b->vault));
    assert_int_equal(a->generation, b->generation);
    assert_int_equal(a->epoch_count, b->epoch_count);
    assert_memory_equal(a->map_key.bytes, b->map_key.bytes, 32);
    assert_memory_equal(a->record_key.bytes, b->record_key.bytes, 32);
    assert_memory_equal(a->digest_key.bytes, b->digest_key.bytes, 32);
    assert_memory_equal(a->tag_key.bytes, b->tag_key.bytes, 16);
    assert_int_equal(a->tag_key.length, 16);
    for (size_t i = 0; i < a->epoch_count; i++) {
        assert_int_equal(a->epochs[i].epoch, b->epochs[i].epoch);
        assert_int_equal(a->epochs[i].created_at, b->epochs[i].created_at);
        assert_memory_equal(a->epochs[i].data_secret.bytes, b->epochs[i].data_secret.bytes, 32);
        assert_memory_equal(a->epochs[i].data_public, b->epochs[i].data_public, 32);
    }
}

HF_TEST(the_keys_of_a_vault_are_read_as_they_were_drawn)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *made = create_keys(backend, &vault), *read = NULL,
                                                        *other = create_keys(backend, &other_vault);
    struct hf_error err;
    uint8_t public_key[32];
    hf_assert_ok(read_keys(backend, &vault, &read, &err), &err);
    assert_same_keys(made, read);
    assert_int_equal(made->generation, 1);
    assert_int_equal(made->epoch_count, 1);
    assert_int_equal(made->epochs[0].epoch, 1);
    assert_int_equal(made->epochs[0].created_at, 1234);
    crypto_scalarmult_base(public_key, made->epochs[0].data_secret.bytes);
    assert_memory_equal(made->epochs[0].data_public, public_key, 32);

    const uint8_t *const drawn[] = {made->map_key.bytes,
                                    made->record_key.bytes,
                                    made->digest_key.bytes,
                                    other->map_key.bytes,
                                    made->epochs[0].data_secret.bytes,
                                    other->record_key.bytes,
                                    other->digest_key.bytes};
    for (size_t i = 0; i < HF_LENGTH(drawn); i++)
        for (size_t j = 0; j < i; j++)
            assert_memory_not_equal(drawn[i], drawn[j], 32);
}

HF_TEST(a_vault_gets_its_keys_once)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *made = create_keys(backend, &vault), *again = NULL;
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    struct hf_error err;
    assert_non_null(made);
    assert_false(hf_vault_keys_create(backend, &repository, &vault, &root_key, 1, &again, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);

    // Also when its first generation has been deleted since.
    plant(backend, bundle_name(&vault, 5), "x", 1);
    hf_assert_ok(hf_backend_delete(backend, bundle_name(&vault, 1), &err), &err);
    assert_false(hf_vault_keys_create(backend, &repository, &vault, &root_key, 1, &again, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_null(again);
}

HF_TEST(keys_that_are_missing_swapped_old_or_damaged_are_refused)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *made = create_keys(backend, &vault), *read = NULL;
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77), other_key = a_key(78);
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    assert_non_null(made);
    read_object(backend, bundle_name(&vault, 1), &bytes);

    assert_false(read_keys(backend, &other_vault, &read, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    plant(backend, bundle_name(&other_vault, 1), bytes.data, bytes.length);
    assert_false(read_keys(backend, &other_vault, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "belongs to another vault"));
    assert_false(hf_vault_keys_read(backend, &other_repository, &vault, &root_key, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_false(hf_vault_keys_read(backend, &repository, &vault, &other_key, &read, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);

    plant(backend, bundle_name(&vault, 2), bytes.data, bytes.length);
    assert_false(read_keys(backend, &vault, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    hf_assert_ok(hf_backend_delete(backend, bundle_name(&vault, 2), &err), &err);

    for (size_t at = 0; at < bytes.length; at++) {
        bytes.data[at] ^= 2;
        plant(backend, bundle_name(&vault, 1), bytes.data, bytes.length);
        assert_false(read_keys(backend, &vault, &read, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        bytes.data[at] ^= 2;
    }
    _cleanup_(hf_buf_done) struct hf_buf huge = HF_BUF_INIT(HF_MIB);
    hf_assert_ok(hf_buf_add_zeros(&huge, 200000, &err), &err);
    plant(backend, bundle_name(&vault, 1), huge.data, huge.length);
    assert_false(read_keys(backend, &vault, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_null(read);
}

HF_TEST(keys_handed_to_a_child_arrive_whole_or_not_at_all)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *made = create_keys(backend, &vault), *taken = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT_SECRET(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_vault_keys_export(made, &bytes, &err), &err);
    hf_assert_ok(hf_vault_keys_import(bytes.data, bytes.length, &taken, &err), &err);
    assert_same_keys(made, taken);

    struct hf_vault_keys *none = NULL;
    for (size_t length = 0; length < bytes.length; length++) {
        assert_false(hf_vault_keys_import(bytes.data, length, &none, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
    // Version, count, reserved bytes, epoch, and a public half that does not fit its secret.
    const size_t telling[] = {36, 40, 43, 156, 172, 176, 188 + 31, 188 + 32};
    for (size_t i = 0; i < HF_LENGTH(telling); i++) {
        bytes.data[telling[i]] ^= 4;
        assert_false(hf_vault_keys_import(bytes.data, bytes.length, &none, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        bytes.data[telling[i]] ^= 4;
    }
    hf_assert_ok(hf_buf_put_u8(&bytes, 0, &err), &err);
    assert_false(hf_vault_keys_import(bytes.data, bytes.length, &none, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_null(none);
}

HF_TEST(of_several_generations_the_highest_counts)
{
    _cleanup_(hf_backend_freep) struct hf_backend *backend = open_backend(hf_test_folder());
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *made = create_keys(backend, &vault), *read = NULL;
    _cleanup_(hf_secret_done) struct hf_secret root_key = a_key(77);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(HF_MIB), sealed = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    uint8_t data_public[32];

    // Generation 12 has a second key epoch.
    hf_assert_ok(hf_vault_keys_export(made, &plain, &err), &err);
    hf_put_u32(plain.data + 36 + 4, 2);
    const uint32_t epoch = 2;
    crypto_scalarmult_base(data_public, root_key.bytes);
    hf_assert_ok(hf_buf_put_u32(&plain, epoch, &err) && hf_buf_put_u32(&plain, 0, &err) &&
                     hf_buf_put_u64(&plain, 5678, &err) && hf_buf_add(&plain, root_key.bytes, 32, &err) &&
                     hf_buf_add(&plain, data_public, 32, &err),
                 &err);
    const struct hf_envelope envelope = {HF_ENVELOPE_VAULT_BUNDLE, 12, repository, vault, NULL, 0};
    hf_assert_ok(hf_envelope_seal(&envelope, &root_key, plain.data + 36, plain.length - 36, &sealed, &err), &err);
    plant(backend, bundle_name(&vault, 12), sealed.data, sealed.length);

    hf_assert_ok(read_keys(backend, &vault, &read, &err), &err);
    assert_int_equal(read->generation, 12);
    assert_int_equal(read->epoch_count, 2);
    assert_int_equal(read->epochs[1].created_at, 5678);
    assert_memory_equal(read->map_key.bytes, made->map_key.bytes, 32);
}

HF_TEST(a_signature_is_valid_for_its_key_and_its_bytes_only)
{
    struct signer a, b;
    struct hf_error err;
    uint8_t signature[HF_SIGNATURE_BYTES];
    make_signer(&a, 1);
    make_signer(&b, 2);
    assert_true(sign(&a, "text", 4, signature, &err));
    assert_true(hf_signature_valid(a.signing.public_key, "text", 4, signature));
    assert_false(hf_signature_valid(b.signing.public_key, "text", 4, signature));
    assert_false(hf_signature_valid(a.signing.public_key, "texT", 4, signature));
    assert_false(hf_signature_valid(a.signing.public_key, "text", 3, signature));
    for (size_t bit = 0; bit < 8 * sizeof signature; bit++) {
        signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_false(hf_signature_valid(a.signing.public_key, "text", 4, signature));
        signature[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    const uint8_t nothing[HF_PUBLIC_BYTES] = {0};
    assert_false(hf_signature_valid(nothing, "text", 4, signature));
}
