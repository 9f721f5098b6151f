#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zstd.h>

#include "base/file.h"
#include "server/keys/envelope.h"
#include "server/keys/keys.h"
#include "server/repository/tag_cache.h"

#define FRAMES_START 200 // what the header file says: 4 + 112 + 68 + 16

static char path[128], unfinished[136];
static const char *folder;
static struct hf_vault_keys keys, other_keys;
static struct hf_id backup, other_backup;
static unsigned fault_at; // the call that fails, counted from 1; 0: none
static bool fault_happened;
static const char *calls[2]; // the last ones that reach the disk

static bool
fails(const char *call, int number)
{
    if (strstr(call, "alloc") == NULL) {
        calls[0] = calls[1];
        calls[1] = call;
    }
    if (fault_at == 0 || --fault_at != 0)
        return false;
    fault_happened = true;
    errno = number;
    return true;
}

#define WRAP(type, name, failure, number, parameters, arguments)                                                       \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails(#name, number) ? failure : __real_##name arguments;                                               \
    }

WRAP(void *, malloc, NULL, ENOMEM, (size_t size), (size))
WRAP(void *, calloc, NULL, ENOMEM, (size_t count, size_t size), (count, size))
WRAP(void *, realloc, NULL, ENOMEM, (void *old, size_t size), (old, size))
WRAP(ssize_t, pwrite64, -1, ENOSPC, (int fd, const void *data, size_t length, off_t at), (fd, data, length, at))
WRAP(int, fdatasync, -1, EIO, (int fd), (fd))
WRAP(int, rename, -1, EIO, (const char *old, const char *new), (old, new))

static void
make_keys(struct hf_vault_keys *made)
{
    struct hf_error err;
    hf_secret_done(&made->record_key);
    *made = (struct hf_vault_keys){.repository = hf_id_new(), .vault = hf_id_new()};
    hf_assert_ok(hf_secret_random(&made->record_key, HF_KEY_BYTES, &err), &err);
}

/* A fresh folder, fresh keys and two backups. */
static void
begin(void)
{
    folder = hf_test_folder();
    snprintf(path, sizeof path, "%s/vault.tags", folder);
    snprintf(unfinished, sizeof unfinished, "%s.new", path);
    make_keys(&keys);
    make_keys(&other_keys);
    backup = hf_id_new();
    other_backup = hf_id_new();
}

/* The tags of a leaf, which tell file, leaf and page. */
static void
tags_of(unsigned file, size_t leaf, uint32_t pages, uint8_t *tags)
{
    for (uint32_t page = 0; page < pages; page++) {
        memset(tags + (size_t)page * HF_TAG_BYTES, (int)file, HF_TAG_BYTES);
        hf_put_u32(tags + (size_t)page * HF_TAG_BYTES, page);
        hf_put_u32(tags + (size_t)page * HF_TAG_BYTES + 4, (uint32_t)leaf);
    }
}

static struct hf_object_ref
ref_of(unsigned file, size_t leaf)
{
    struct hf_object_ref ref = {.slab = file * 3, .index = (uint32_t)leaf};
    memset(ref.pack.bytes, (int)file + 1, HF_ID_BYTES);
    return ref;
}

static const char *
name_of(unsigned file)
{
    static char name[32];
    snprintf(name, sizeof name, "base/%u/%u", file % 7, file);
    return name;
}

/* File n has n * 1000 pages and a bit. */
static uint64_t
size_of(unsigned file)
{
    return file == 0 ? 0 : ((uint64_t)file * 1000 - 1) * 8192 + file;
}

static bool
add_file(struct hf_tag_cache_writer *writer, unsigned file, struct hf_error *err)
{
    static uint8_t tags[HF_LEAF_PAGES * HF_TAG_BYTES];
    struct hf_cached_leaf leaves[16];
    size_t count = 0;
    for (uint64_t left = file * 1000; left > 0; count++) {
        struct hf_cached_leaf *leaf = &leaves[count];
        *leaf = (struct hf_cached_leaf){.pages = left < HF_LEAF_PAGES ? (uint32_t)left : HF_LEAF_PAGES,
                                        .ref = ref_of(file, count)};
        tags_of(file, count, leaf->pages, tags);
        if (!hf_tag_cache_writer_tags(writer, tags, leaf->pages, &leaf->frame, err))
            return false;
        left -= leaf->pages;
    }
    const struct hf_cached_file told = {
        .path = name_of(file), .page_log2 = 13, .size = size_of(file), .leaf_count = count, .leaves = leaves};
    return hf_tag_cache_writer_file(writer, &told, err);
}

/* A whole cache with files first .. last, told backwards, and a census of one slab. */
static bool
write_cache(const struct hf_id *of, unsigned first, unsigned last, struct hf_error *err)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    const struct hf_object_ref ref = ref_of(first, 0);
    if (!hf_tag_cache_writer_new(path, &keys, of, &writer, err) || !hf_census_new(&census, err) ||
        !hf_census_set_stored(census, &ref.pack, 2, 32, err) || !hf_census_add_live(census, &ref.pack, 2, 16, err))
        return false;
    for (unsigned file = last + 1; file-- > first;)
        if (!add_file(writer, file, err))
            return false;
    return hf_tag_cache_writer_finish(&writer, census, err);
}

/* Every file and tag is as write_cache() told it. */
static void
assert_cache(const struct hf_id *of, unsigned first, unsigned last)
{
    static uint8_t tags[HF_LEAF_PAGES * HF_TAG_BYTES], expected[HF_LEAF_PAGES * HF_TAG_BYTES];
    _cleanup_(hf_tag_cache_freep) struct hf_tag_cache *cache = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    hf_assert_ok(hf_tag_cache_open(path, &keys, of, &cache, &err), &err);
    for (unsigned n = first; n <= last; n++) {
        const struct hf_cached_file *file = hf_tag_cache_find(cache, name_of(n));
        assert_non_null(file);
        assert_string_equal(file->path, name_of(n));
        assert_int_equal(file->page_log2, 13);
        assert_true(file->size == size_of(n));
        for (size_t i = 0; i < file->leaf_count; i++) {
            const struct hf_object_ref ref = ref_of(n, i);
            assert_true(hf_object_ref_equal(&file->leaves[i].ref, &ref));
            hf_assert_ok(hf_tag_cache_tags(cache, &file->leaves[i], tags, &err), &err);
            tags_of(n, i, file->leaves[i].pages, expected);
            assert_memory_equal(tags, expected, file->leaves[i].pages * HF_TAG_BYTES);
        }
    }
    assert_null(hf_tag_cache_find(cache, "base"));
    assert_null(hf_tag_cache_find(cache, "base/0/00"));
    assert_null(hf_tag_cache_find(cache, name_of(last + 1)));

    const struct hf_object_ref ref = ref_of(first, 0);
    census = hf_tag_cache_take_census(cache);
    assert_non_null(census);
    assert_int_equal(hf_census_live_percent(census, &ref.pack, 2), 50);
    assert_null(hf_tag_cache_take_census(cache));
}

static void
read_whole(struct hf_buf *bytes)
{
    struct hf_error err;
    hf_buf_clear(bytes);
    hf_assert_ok(hf_file_read(path, bytes, &err), &err);
}

static void
put_whole(const uint8_t *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_TRUNC);
    struct hf_error err;
    assert_true(fd >= 0);
    hf_assert_ok(hf_write_all(fd, bytes, length, path, &err), &err);
    close(fd);
}

static void
assert_folder_has(size_t expected)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_dir_list(folder, 100, &names, &count, &err), &err);
    assert_int_equal(count, expected);
}

HF_TEST(tags_files_and_census_come_back)
{
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 0, 20, &err), &err);
    assert_cache(&backup, 0, 20);
    assert_folder_has(1);

    hf_assert_ok(write_cache(&other_backup, 3, 9, &err), &err); // the next backup's takes its place
    assert_cache(&other_backup, 3, 9);
    assert_folder_has(1);
}

HF_TEST(a_cache_gets_its_name_only_after_its_bytes_are_on_the_disk)
{
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 0, 3, &err), &err);
    assert_string_equal(calls[0], "fdatasync");
    assert_string_equal(calls[1], "rename");
}

HF_TEST(a_cache_of_no_files_is_a_cache)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    _cleanup_(hf_tag_cache_freep) struct hf_tag_cache *cache = NULL;
    struct hf_error err;
    begin();
    hf_assert_ok(hf_census_new(&census, &err), &err);
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &backup, &writer, &err), &err);
    hf_assert_ok(hf_tag_cache_writer_finish(&writer, census, &err), &err);
    assert_null(writer);
    hf_assert_ok(hf_tag_cache_open(path, &keys, &backup, &cache, &err), &err);
    assert_null(hf_tag_cache_find(cache, "base/1"));
}

HF_TEST(the_files_of_a_cache_are_for_nobody_else)
{
    struct stat status;
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 1, 2, &err), &err);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

HF_TEST(nothing_of_a_cache_is_to_be_read_in_its_file)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 1, 5, &err), &err);
    read_whole(&bytes);
    assert_int_equal(hf_get_u32(bytes.data), FRAMES_START - 4);
    assert_null(memmem(bytes.data, bytes.length, "base/", 5));
    assert_null(memmem(bytes.data, bytes.length, "\3\3\3\3\3\3\3\3", 8)); // file 3's tags, file 2's pack
    assert_null(memmem(bytes.data, bytes.length, keys.record_key.bytes, HF_KEY_BYTES));
    assert_null(memmem(bytes.data, bytes.length, backup.bytes, HF_ID_BYTES));
}

HF_TEST(a_cache_exists_only_once_it_is_finished)
{
    struct hf_tag_cache_writer *writer = NULL;
    struct hf_tag_cache *cache = NULL;
    struct hf_error err;
    begin();
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &backup, &writer, &err), &err);
    hf_assert_ok(add_file(writer, 5, &err), &err);
    assert_false(hf_tag_cache_open(path, &keys, &backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_int_equal(rename(unfinished, path), 0);
    assert_false(hf_tag_cache_open(path, &keys, &backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    char expected[256];
    snprintf(expected, sizeof expected, "tag cache \"%s\" is damaged: it was never completed", path);
    assert_string_equal(err.message, expected);
    assert_int_equal(rename(path, unfinished), 0);

    hf_tag_cache_writer_freep(&writer);
    assert_null(writer);
    assert_folder_has(0);
    assert_null(cache);
}

/* Writes files for ever, telling after each. */
static void
write_until_killed(int told)
{
    struct hf_tag_cache_writer *writer = NULL;
    struct hf_error err;
    if (!hf_tag_cache_writer_new(path, &keys, &other_backup, &writer, &err))
        _exit(1);
    for (unsigned file = 0;; file = (file + 1) % 50)
        if (!add_file(writer, file, &err) || write(told, "x", 1) != 1)
            _exit(1);
}

static void
kill_a_writer_after(unsigned files)
{
    int told[2], status;
    assert_int_equal(pipe(told), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        write_until_killed(told[1]);
    close(told[1]);
    for (unsigned i = 0; i < files; i++) {
        char byte;
        assert_int_equal(read(told[0], &byte, 1), 1);
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    close(told[0]);
}

HF_TEST(a_writer_that_is_killed_leaves_no_cache_and_the_next_one_does_not_mind)
{
    struct hf_tag_cache *cache = NULL;
    struct hf_error err;
    begin();
    kill_a_writer_after(1);
    assert_false(hf_tag_cache_open(path, &keys, &other_backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);

    hf_assert_ok(write_cache(&backup, 0, 6, &err), &err);
    assert_folder_has(1);
    kill_a_writer_after(45);
    assert_folder_has(2);
    assert_cache(&backup, 0, 6); // the one from before
    hf_assert_ok(write_cache(&other_backup, 2, 3, &err), &err);
    assert_cache(&other_backup, 2, 3);
    assert_folder_has(1);
}

HF_TEST(a_leftover_is_replaced_and_never_written_through)
{
    struct hf_error err;
    struct stat status;
    char elsewhere[160];
    begin();
    snprintf(elsewhere, sizeof elsewhere, "%s/elsewhere", folder);
    int fd = open(elsewhere, O_CREAT | O_WRONLY, 0600);
    close(fd);
    assert_int_equal(symlink(elsewhere, unfinished), 0);
    hf_assert_ok(write_cache(&backup, 1, 1, &err), &err);
    assert_cache(&backup, 1, 1);
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    assert_int_equal(stat(elsewhere, &status), 0);
    assert_int_equal(status.st_size, 0);
}

/* Opens the cache that stands there and reads all tags: false when any of it is refused as damaged. */
static bool
whole_cache_is_accepted(unsigned first, unsigned last)
{
    static uint8_t tags[HF_LEAF_PAGES * HF_TAG_BYTES];
    _cleanup_(hf_tag_cache_freep) struct hf_tag_cache *cache = NULL;
    struct hf_error err = {0};
    if (!hf_tag_cache_open(path, &keys, &backup, &cache, &err)) {
        assert_true(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_DENIED);
        assert_non_null(strstr(err.message, path));
        return false;
    }
    for (unsigned n = first; n <= last; n++) {
        const struct hf_cached_file *file = hf_tag_cache_find(cache, name_of(n));
        assert_non_null(file);
        for (size_t i = 0; i < file->leaf_count; i++)
            if (!hf_tag_cache_tags(cache, &file->leaves[i], tags, &err)) {
                assert_int_equal(err.kind, HF_ERR_CORRUPT);
                assert_non_null(strstr(err.message, path));
                return false;
            }
    }
    return true;
}

/* A cache small enough to try every byte: a file of one page and one of three. */
static void
write_small_cache(void)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    uint8_t tags[3 * HF_TAG_BYTES];
    tags_of(1, 0, 3, tags);
    hf_assert_ok(hf_census_new(&census, &err), &err);
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &backup, &writer, &err), &err);
    for (unsigned n = 1; n <= 2; n++) {
        struct hf_cached_leaf leaf = {.pages = 3, .ref = ref_of(n, 0)};
        const struct hf_cached_file file = {
            .path = name_of(n), .page_log2 = 13, .size = 3 * 8192, .leaf_count = 1, .leaves = &leaf};
        hf_assert_ok(hf_tag_cache_writer_tags(writer, tags, 3, &leaf.frame, &err), &err);
        hf_assert_ok(hf_tag_cache_writer_file(writer, &file, &err), &err);
        hf_assert_ok(hf_census_add_live(census, &leaf.ref.pack, 0, 3, &err), &err);
    }
    hf_assert_ok(hf_tag_cache_writer_finish(&writer, census, &err), &err);
}

HF_TEST(a_cache_with_any_byte_changed_is_refused_when_opened_or_when_the_tags_are_read)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    begin();
    write_small_cache();
    assert_true(whole_cache_is_accepted(1, 2));
    read_whole(&bytes);
    for (size_t at = 0; at < bytes.length; at++) {
        const uint8_t before = bytes.data[at];
        for (unsigned bit = 0; bit < 8; bit++) {
            bytes.data[at] = before ^ (uint8_t)(1 << bit);
            put_whole(bytes.data, bytes.length);
            assert_false(whole_cache_is_accepted(1, 2));
        }
        bytes.data[at] = before;
    }
    put_whole(bytes.data, bytes.length);
    assert_true(whole_cache_is_accepted(1, 2));
}

HF_TEST(a_cache_that_is_cut_or_has_more_bytes_is_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    begin();
    write_small_cache();
    read_whole(&bytes);
    for (size_t length = 0; length < bytes.length; length++) {
        put_whole(bytes.data, length);
        assert_false(whole_cache_is_accepted(1, 2));
    }
    hf_assert_ok(hf_buf_add_zeros(&bytes, 1, &err), &err);
    put_whole(bytes.data, bytes.length);
    assert_false(whole_cache_is_accepted(1, 2));
}

/* Both frames hold the same tags; sealed for their places, they cannot be exchanged. */
HF_TEST(a_frame_in_the_place_of_another_is_refused)
{
    enum { FRAME = 4 + 3 * HF_TAG_BYTES + 16 };
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    begin();
    write_small_cache();
    read_whole(&bytes);
    assert_memory_not_equal(bytes.data + FRAMES_START, bytes.data + FRAMES_START + FRAME, FRAME);
    memcpy(bytes.data + FRAMES_START, bytes.data + FRAMES_START + FRAME, FRAME);
    put_whole(bytes.data, bytes.length);
    assert_false(whole_cache_is_accepted(1, 2));
}

/* The frames and the index of one cache under the head of another of the same backup. */
HF_TEST(a_head_does_not_open_the_frames_of_another_cache)
{
    _cleanup_(hf_buf_done) struct hf_buf first = HF_BUF_INIT(HF_MIB), second = HF_BUF_INIT(HF_MIB);
    begin();
    write_small_cache();
    read_whole(&first);
    write_small_cache();
    read_whole(&second);
    assert_int_equal(first.length, second.length);
    memcpy(second.data, first.data, FRAMES_START);
    put_whole(second.data, second.length);
    assert_false(whole_cache_is_accepted(1, 2));
}

/*
 * What the header file says, once more: opens the head of the small cache and its index, which comes
 * back decompressed; or seals other index bytes in its place.
 */
static struct hf_envelope
head_envelope(void)
{
    return (struct hf_envelope){.kind = HF_ENVELOPE_TAG_CACHE, .repository = keys.repository, .object = keys.vault};
}

static void
open_index(const struct hf_buf *cache, struct hf_buf *head, struct hf_buf *index)
{
    const struct hf_envelope envelope = head_envelope();
    uint8_t nonce[24] = {0};
    struct hf_error err;
    hf_assert_ok(hf_envelope_open(&envelope, &keys.record_key, cache->data + 4, FRAMES_START - 4, "head", head, &err),
                 &err);
    assert_int_equal(head->length, 68);
    assert_int_equal(hf_get_u32(head->data), 1);
    assert_memory_equal(head->data + 36, backup.bytes, HF_ID_BYTES);
    const uint64_t offset = hf_get_u64(head->data + 52), length = hf_get_u64(head->data + 60);
    assert_int_equal(offset + length, cache->length);

    _cleanup_(hf_freep) uint8_t *packed = malloc(length);
    unsigned long long packed_length;
    assert_int_equal(hf_get_u32(cache->data + offset), length - 20);
    hf_put_u64(nonce, offset);
    assert_int_equal(crypto_aead_xchacha20poly1305_ietf_decrypt(packed, &packed_length, NULL, cache->data + offset + 4,
                                                                length - 4, backup.bytes, HF_ID_BYTES, nonce,
                                                                head->data + 4),
                     0);
    hf_assert_ok(hf_buf_reserve(index, 4096, &err), &err);
    index->length = ZSTD_decompress(index->data, 4096, packed, packed_length);
    assert_false(ZSTD_isError(index->length));
}

static void
put_index(const struct hf_buf *cache, const struct hf_buf *head, const uint8_t *index, size_t length, size_t behind)
{
    static uint8_t packed[8192];
    _cleanup_(hf_buf_done) struct hf_buf file = HF_BUF_INIT(HF_MIB), new_head = HF_BUF_INIT(HF_KIB);
    const struct hf_envelope envelope = head_envelope();
    const uint64_t offset = hf_get_u64(head->data + 52);
    uint8_t nonce[24] = {0};
    unsigned long long sealed;
    struct hf_error err;
    const size_t packed_length = ZSTD_compress(packed, sizeof packed, index, length, 1) + behind;

    hf_put_u64(nonce, offset);
    hf_assert_ok(hf_buf_add(&new_head, head->data, 60, &err) && hf_buf_put_u64(&new_head, packed_length + 20, &err) &&
                     hf_buf_put_u32(&file, FRAMES_START - 4, &err) &&
                     hf_envelope_seal(&envelope, &keys.record_key, new_head.data, new_head.length, &file, &err) &&
                     hf_buf_add(&file, cache->data + FRAMES_START, offset - FRAMES_START, &err) &&
                     hf_buf_put_u32(&file, (uint32_t)packed_length, &err) &&
                     hf_buf_reserve(&file, packed_length + 16, &err),
                 &err);
    crypto_aead_xchacha20poly1305_ietf_encrypt(file.data + file.length, &sealed, packed, packed_length, backup.bytes,
                                               HF_ID_BYTES, NULL, nonce, head->data + 4);
    file.length += sealed;
    put_whole(file.data, file.length);
}

HF_TEST(an_index_has_the_bytes_that_the_header_file_describes)
{
    _cleanup_(hf_buf_done) struct hf_buf cache = HF_BUF_INIT(HF_MIB), head = HF_BUF_INIT(HF_KIB);
    _cleanup_(hf_buf_done) struct hf_buf index = HF_BUF_INIT(HF_MIB);
    begin();
    write_small_cache();
    read_whole(&cache);
    open_index(&cache, &head, &index);
    static const uint8_t expected[] = {
        2,                                                                                       // files
        8,    'b', 'a', 's', 'e', '/', '1', '/', '1', 13, 0x80, 0xc0, 1, 1,                      // path, size, leaves
        0xc8, 1,   48,  2,   2,   2,   2,   2,   2,   2,  2,    2,    2, 2, 2, 2, 2, 2, 2, 3, 0, // frame, length, leaf
        8,    'b', 'a', 's', 'e', '/', '2', '/', '2', 13, 0x80, 0xc0, 1, 1,                      //
        0x8c, 2,   48,  3,   3,   3,   3,   3,   3,   3,  3,    3,    3, 3, 3, 3, 3, 3, 3, 6, 0, //
        2,                                                                                       // census
        2,    2,   2,   2,   2,   2,   2,   2,   2,   2,  2,    2,    2, 2, 2, 2, 1, 3, 0,       //
        3,    3,   3,   3,   3,   3,   3,   3,   3,   3,  3,    3,    3, 3, 3, 3, 1, 3, 0,       //
    };
    assert_int_equal(index.length, sizeof expected);
    assert_memory_equal(index.data, expected, sizeof expected);
}

/* Whoever holds the key is still not believed: an index is read like any other bytes from outside. */
HF_TEST(an_index_that_was_sealed_with_nonsense_in_it_is_refused_or_read_safely)
{
    _cleanup_(hf_buf_done) struct hf_buf cache = HF_BUF_INIT(HF_MIB), head = HF_BUF_INIT(HF_KIB);
    _cleanup_(hf_buf_done) struct hf_buf index = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    size_t accepted = 0;
    begin();
    write_small_cache();
    read_whole(&cache);
    open_index(&cache, &head, &index);
    put_index(&cache, &head, index.data, index.length, 0);
    assert_true(whole_cache_is_accepted(1, 2));

    for (size_t at = 0; at < index.length; at++) {
        put_index(&cache, &head, index.data, at, 0);
        assert_false(whole_cache_is_accepted(1, 2));
        const uint8_t before = index.data[at];
        for (unsigned change = 1; change < 256; change += change < 8 ? 1 : 31) {
            struct hf_tag_cache *opened = NULL;
            index.data[at] = before ^ (uint8_t)change;
            put_index(&cache, &head, index.data, index.length, 0);
            if (hf_tag_cache_open(path, &keys, &backup, &opened, &err))
                accepted++;
            else
                assert_int_equal(err.kind, HF_ERR_CORRUPT);
            hf_tag_cache_freep(&opened);
        }
        index.data[at] = before;
    }
    assert_true(accepted > 0);

    put_index(&cache, &head, index.data, index.length, 1);
    assert_false(whole_cache_is_accepted(1, 2)); // a byte behind the compressed index
    hf_assert_ok(hf_buf_add_zeros(&index, 1, &err), &err);
    put_index(&cache, &head, index.data, index.length, 0);
    assert_false(whole_cache_is_accepted(1, 2)); // and one behind the census
    hf_buf_truncate(&index, index.length - 1);
    index.data[7] = '2';
    index.data[9] = '2';
    put_index(&cache, &head, index.data, index.length, 0);
    assert_false(whole_cache_is_accepted(2, 2)); // "base/2/2" twice
    index.data[7] = '3';
    put_index(&cache, &head, index.data, index.length, 0);
    assert_false(whole_cache_is_accepted(2, 2)); // "base/3/2" before "base/2/2"
}

HF_TEST(a_cache_opens_only_for_its_backup_vault_and_key)
{
    struct hf_tag_cache *cache = NULL;
    struct hf_error err;
    char expected[256], theirs[HF_ID_TEXT_BYTES], ours[HF_ID_TEXT_BYTES];
    begin();
    write_small_cache();

    assert_false(hf_tag_cache_open(path, &keys, &other_backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    snprintf(expected, sizeof expected, "tag cache \"%s\" is of backup %s, not of %s", path,
             hf_id_format(&backup, theirs), hf_id_format(&other_backup, ours));
    assert_string_equal(err.message, expected);

    struct hf_vault_keys mixed = keys;
    mixed.record_key = other_keys.record_key;
    assert_false(hf_tag_cache_open(path, &mixed, &backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    mixed = keys;
    mixed.vault = other_keys.vault;
    assert_false(hf_tag_cache_open(path, &mixed, &backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    mixed = keys;
    mixed.repository = other_keys.repository;
    assert_false(hf_tag_cache_open(path, &mixed, &backup, &cache, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_null(cache);
}

HF_TEST(a_path_that_is_told_twice_makes_no_cache)
{
    struct hf_tag_cache_writer *writer = NULL;
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 0, 3, &err), &err);
    hf_assert_ok(hf_census_new(&census, &err), &err);
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &other_backup, &writer, &err), &err);
    hf_assert_ok(add_file(writer, 2, &err), &err);
    hf_assert_ok(add_file(writer, 1, &err), &err);
    hf_assert_ok(add_file(writer, 2, &err), &err);
    assert_false(hf_tag_cache_writer_finish(&writer, census, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "file \"base/2/2\" stands in the backup twice");
    assert_null(writer);
    assert_cache(&backup, 0, 3);
    assert_folder_has(1);
}

HF_TEST(a_file_whose_leaves_do_not_add_up_is_refused_by_name)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    static const uint8_t tags[3 * HF_TAG_BYTES];
    struct hf_error err;
    uint64_t frame;
    begin();
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &backup, &writer, &err), &err);
    assert_false(hf_tag_cache_writer_tags(writer, tags, 0, &frame, &err));
    assert_string_equal(err.message, "a tag cache takes the tags of 1 to 4096 pages at once, not of 0");
    assert_false(hf_tag_cache_writer_tags(writer, tags, HF_LEAF_PAGES + 1, &frame, &err));
    hf_assert_ok(hf_tag_cache_writer_tags(writer, tags, 3, &frame, &err), &err);
    assert_int_equal(frame, FRAMES_START);

    struct {
        struct hf_cached_leaf leaf;
        size_t leaf_count;
        uint64_t size;
        uint8_t page_log2;
        const char *message;
    } cases[] = {
        {{frame, 3, ref_of(1, 0)}, 0, 3 * 8192, 13, "its leaves do not match its size"},
        {{frame, 3, ref_of(1, 0)}, 1, 3 * 8192 + 1, 13, "its leaves do not match its size"},
        {{frame, 3, ref_of(1, 0)}, 1, 2 * 8192, 13, "its leaves do not match its size"},
        {{frame, 3, ref_of(1, 0)}, 1, 0, 13, "its leaves do not match its size"},
        {{frame, 3, ref_of(1, 0)}, 1, 3 * 8192, 11, "no page size is like this"},
        {{frame - 1, 3, ref_of(1, 0)}, 1, 3 * 8192, 13, "the frame of a leaf is not in it"},
        {{frame + 1, 3, ref_of(1, 0)}, 1, 3 * 8192, 13, "the frame of a leaf is not in it"},
        {{frame, 4, ref_of(1, 0)}, 1, 4 * 8192, 13, "the frame of a leaf is not in it"},
        {{UINT64_MAX, 3, ref_of(1, 0)}, 1, 3 * 8192, 13, "the frame of a leaf is not in it"},
        {{frame, 3, {.slab = HF_PACK_SLABS_MOST}}, 1, 3 * 8192, 13, "the slab of a leaf is out of range"},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        char expected[256];
        const struct hf_cached_file file = {.path = "base/1/2",
                                            .page_log2 = cases[i].page_log2,
                                            .size = cases[i].size,
                                            .leaf_count = cases[i].leaf_count,
                                            .leaves = &cases[i].leaf};
        assert_false(hf_tag_cache_writer_file(writer, &file, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        snprintf(expected, sizeof expected, "file \"base/1/2\" cannot stand in a tag cache: %s", cases[i].message);
        assert_string_equal(err.message, expected);
    }
    assert_false(hf_tag_cache_writer_file(writer, &(struct hf_cached_file){.path = "a/../b", .page_log2 = 13}, &err));
    assert_string_equal(err.message, "path \"a/../b\" cannot stand in a backup: a name in it is \".\" or \"..\"");
}

HF_TEST(every_failure_on_the_way_leaves_the_cache_that_was_there)
{
    struct hf_error err;
    begin();
    hf_assert_ok(write_cache(&backup, 1, 3, &err), &err);
    for (unsigned call = 1;; call++) {
        err = (struct hf_error){0};
        fault_at = call;
        fault_happened = false;
        const bool ok = write_cache(&other_backup, 1, 18, &err);
        fault_at = 0;
        if (ok && !fault_happened)
            break; // all calls have had their turn
        assert_false(ok);
        assert_true(err.kind == HF_ERR_NO_MEMORY || err.kind == HF_ERR_NO_SPACE || err.kind == HF_ERR_UNAVAILABLE);
        assert_cache(&backup, 1, 3);
        assert_folder_has(1);
    }
    assert_cache(&other_backup, 1, 18);

    for (unsigned call = 1;; call++) {
        _cleanup_(hf_tag_cache_freep) struct hf_tag_cache *cache = NULL;
        fault_at = call;
        fault_happened = false;
        const bool ok = hf_tag_cache_open(path, &keys, &other_backup, &cache, &err);
        fault_at = 0;
        if (ok && !fault_happened)
            break;
        assert_false(ok);
        assert_int_equal(err.kind, HF_ERR_NO_MEMORY);
        assert_null(cache);
    }
}

/* After a disk that was full, the same bytes are written to the same place: nothing is sealed twice. */
HF_TEST(a_writer_goes_on_after_a_full_disk)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = NULL;
    static uint8_t tags[HF_LEAF_PAGES * HF_TAG_BYTES];
    uint64_t frame = 0, before = 0;
    struct hf_error err;
    begin();
    hf_assert_ok(hf_tag_cache_writer_new(path, &keys, &backup, &writer, &err), &err);
    bool ok = true;
    for (unsigned i = 0; ok; i++) {
        before = frame;
        ok = hf_tag_cache_writer_tags(writer, tags, HF_LEAF_PAGES, &frame, &err);
        if (i == 3) // the first write of frames, which is the next call
            fault_at = 1;
    }
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_int_equal(frame, before);
    hf_assert_ok(hf_tag_cache_writer_tags(writer, tags, 1000, &frame, &err), &err);
    assert_int_equal(frame, before + 4 + HF_LEAF_PAGES * HF_TAG_BYTES + 16);
}

HF_TEST(only_a_regular_file_is_opened)
{
    struct hf_tag_cache *cache = NULL;
    struct hf_error err;
    begin();
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(hf_tag_cache_open(path, &keys, &backup, &cache, &err));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink("/dev/zero", path), 0);
    assert_false(hf_tag_cache_open(path, &keys, &backup, &cache, &err));
    assert_null(cache);
}
