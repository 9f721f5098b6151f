#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/digest.h"
#include "server/storage/format.h"
#include "server/keys/superblock.h"

static const struct hf_id repository = {{0xab, 1, 2, 3}};

static struct hf_secret
a_key(uint8_t value)
{
    struct hf_secret key;
    struct hf_error err;
    hf_assert_ok(hf_secret_init(&key, HF_KEY_BYTES, &err), &err);
    memset(key.bytes, value, key.length);
    return key;
}

/* A repository made with key 1, and its superblock's bytes. */
static struct hf_backend *
make(const char *folder, uint8_t raw[static HF_SUPERBLOCK_BYTES])
{
    struct hf_backend *backend;
    struct hf_error err;
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    hf_assert_ok(hf_backend_open_local(folder, &backend, &err), &err);
    hf_assert_ok(hf_superblock_create(backend, &repository, 1234, &key, &err), &err);
    hf_assert_ok(hf_backend_get_range(backend, HF_SUPERBLOCK_NAME, 0, raw, HF_SUPERBLOCK_BYTES, &err), &err);
    return backend;
}

static void
replace(const char *folder, const uint8_t *raw, size_t length)
{
    char path[256];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/%s", folder, HF_SUPERBLOCK_NAME);
    hf_assert_ok(hf_file_publish(path, raw, length, 0400, HF_PUBLISH_REPLACE, &err), &err);
}

static void
fix_checksum(uint8_t raw[static HF_SUPERBLOCK_BYTES])
{
    hf_put_u32(raw + 156, hf_crc32c(0, raw, 156));
}

HF_TEST(what_was_created_is_read_and_confirmed_by_the_root_key)
{
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(hf_test_folder(), raw);
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1), other = a_key(2);
    struct hf_superblock superblock;
    struct hf_error err;

    for (enum hf_access access = HF_ACCESS_READ; access <= HF_ACCESS_REPAIR; access++)
        hf_assert_ok(hf_superblock_read(backend, access, &superblock, &err), &err);
    assert_true(hf_id_equal(&superblock.repository, &repository));
    assert_int_equal(superblock.created_at, 1234);
    hf_assert_ok(hf_superblock_check(&superblock, &key, &err), &err);
    assert_false(hf_superblock_check(&superblock, &other, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(
        err.message,
        "superblock of repository ab010203000000000000000000000000 was altered: the root key does not confirm it");
}

HF_TEST(a_repository_is_not_made_twice)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES], after[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(2);
    struct hf_id id = hf_id_new();
    struct hf_error err;
    assert_false(hf_superblock_create(backend, &id, 1, &key, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "is a repository already"));
    hf_assert_ok(hf_backend_get_range(backend, HF_SUPERBLOCK_NAME, 0, after, sizeof after, &err), &err);
    assert_memory_equal(after, raw, sizeof raw);
}

HF_TEST(an_empty_folder_is_refused_and_stays_empty_since_the_disk_may_be_away)
{
    const char *folder = hf_test_folder();
    _cleanup_(hf_backend_freep) struct hf_backend *backend = NULL;
    struct hf_superblock superblock;
    struct hf_error err;
    bool empty;
    hf_assert_ok(hf_backend_open_local(folder, &backend, &err), &err);
    assert_false(hf_superblock_read(backend, HF_ACCESS_WRITE, &superblock, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "is no repository"));
    assert_string_equal(err.hint, "If a disk is mounted there, mount it. To make a new one: holdfast repo init.");
    hf_assert_ok(hf_dir_is_empty(folder, &empty, &err), &err);
    assert_true(empty);
}

HF_TEST(every_flipped_bit_is_refused)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    for (size_t bit = 0; bit < 8 * sizeof raw; bit++) {
        struct hf_superblock superblock;
        struct hf_error err;
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
        replace(folder, raw, sizeof raw);
        assert_false(hf_superblock_read(backend, HF_ACCESS_READ, &superblock, &err) &&
                     hf_superblock_check(&superblock, &key, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT); // also in the version: a newer one's checksum would hold
        raw[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

HF_TEST(every_byte_changed_by_someone_who_mends_the_checksum_is_refused_with_the_key)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    _cleanup_(hf_secret_done) struct hf_secret key = a_key(1);
    for (size_t at = 0; at < 156; at++) {
        struct hf_superblock superblock;
        struct hf_error err;
        uint8_t changed[HF_SUPERBLOCK_BYTES];
        memcpy(changed, raw, sizeof raw);
        changed[at] ^= 0x10;
        fix_checksum(changed);
        replace(folder, changed, sizeof changed);
        assert_false(hf_superblock_read(backend, HF_ACCESS_READ, &superblock, &err) &&
                     hf_superblock_check(&superblock, &key, &err));
    }
}

HF_TEST(reserved_bytes_in_use_are_refused_before_any_key_is_at_hand)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    for (size_t at = 12; at < 156; at = at == 15 ? 72 : at + 1) {
        struct hf_superblock superblock;
        struct hf_error err;
        uint8_t changed[HF_SUPERBLOCK_BYTES];
        memcpy(changed, raw, sizeof raw);
        changed[at] = 1;
        fix_checksum(changed);
        replace(folder, changed, sizeof changed);
        assert_false(hf_superblock_read(backend, HF_ACCESS_READ, &superblock, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, "reserved bytes are in use"));
    }
}

HF_TEST(any_other_length_is_refused)
{
    const char *folder = hf_test_folder();
    uint8_t raw[8192] = {0};
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    const size_t lengths[] = {0, 1, 11, 12, 191, 193, 4096, 4097, 8192};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++) {
        struct hf_superblock superblock;
        struct hf_error err;
        replace(folder, raw, lengths[i]);
        assert_false(hf_superblock_read(backend, HF_ACCESS_READ, &superblock, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, folder));
    }
}

HF_TEST(an_unknown_feature_shuts_out_whoever_must_know_it)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    for (size_t feature = 0; feature < 4; feature++) {
        uint8_t changed[HF_SUPERBLOCK_BYTES];
        memcpy(changed, raw, sizeof raw);
        hf_put_u64(changed + 40 + 8 * feature, UINT64_C(1) << 63);
        fix_checksum(changed);
        replace(folder, changed, sizeof changed);
        for (size_t access = 0; access < 4; access++) {
            struct hf_superblock superblock;
            struct hf_error err;
            bool allowed = hf_superblock_read(backend, (enum hf_access)access, &superblock, &err);
            assert_int_equal(allowed, access < feature);
            if (!allowed)
                assert_int_equal(err.kind, HF_ERR_CONFLICT);
        }
    }
}

HF_TEST(a_newer_format_is_named)
{
    const char *folder = hf_test_folder();
    uint8_t raw[HF_SUPERBLOCK_BYTES];
    _cleanup_(hf_backend_freep) struct hf_backend *backend = make(folder, raw);
    struct hf_superblock superblock;
    struct hf_error err;
    hf_put_u32(raw + 8, 2);
    replace(folder, raw, 100);
    assert_false(hf_superblock_read(backend, HF_ACCESS_READ, &superblock, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "has format 2, and this program knows only 1"));
}
