#include "tests/support/test.h"

#include <inttypes.h>
#include <sodium.h>

#include "server/keys/keys.h"
#include "server/repository/manifest.h"

#define ROUNDS 60

static struct hf_id packs[40];
static uint64_t random_state;
static unsigned calls_until_failure; // of malloc, calloc and realloc; 0: they work

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static bool
memory_fails_now(void)
{
    return calls_until_failure > 0 && --calls_until_failure == 0;
}

void *
__wrap_malloc(size_t size)
{
    return memory_fails_now() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return memory_fails_now() ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
    return memory_fails_now() ? NULL : __real_realloc(old, size);
}

/* xorshift64: the same numbers in every run. */
static uint64_t
below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static void
begin_round(uint64_t seed)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < HF_LENGTH(packs); i++) {
        memset(packs[i].bytes, (int)i, HF_ID_BYTES);
        packs[i].bytes[15] = (uint8_t)seed;
    }
}

static struct hf_object_ref
random_ref(void)
{
    return (struct hf_object_ref){packs[below(HF_LENGTH(packs))], (uint32_t)below(HF_PACK_SLABS_MOST),
                                  (uint32_t)below(below(9) == 0 ? UINT32_MAX : 300)};
}

/* A page of random files, in memory that the next call uses again. */
struct sample_page {
    size_t count;
    struct hf_manifest_file files[HF_MANIFEST_PAGE_FILES];
    char names[HF_MANIFEST_PAGE_FILES][24];
    struct hf_object_ref leaves[4 * HF_MANIFEST_PAGE_FILES];
};

static const struct sample_page *
random_page(size_t count)
{
    static struct sample_page page;
    size_t leaves = 0;
    page.count = count;
    for (size_t i = 0; i < count; i++) {
        struct hf_manifest_file *file = &page.files[i];
        snprintf(page.names[i], sizeof page.names[i], "%05zu.%" PRIu64, i * 17, below(1000));
        *file = (struct hf_manifest_file){.name = page.names[i],
                                          .kind = (enum hf_file_kind)(1 + below(4)),
                                          .page_log2 = (uint8_t)(12 + below(5)),
                                          .mode = (uint32_t)below(010000),
                                          .modified_at = (int64_t)below(UINT64_MAX),
                                          .crc32c = (uint32_t)below(UINT32_MAX),
                                          .leaf_count = below(4),
                                          .leaves = &page.leaves[leaves]};
        const uint64_t leaf_bytes = (uint64_t)HF_LEAF_PAGES << file->page_log2;
        if (file->leaf_count > 0)
            file->size = (file->leaf_count - 1) * leaf_bytes + 1 + below(leaf_bytes);
        for (size_t n = 0; n < sizeof file->digest; n++)
            file->digest[n] = (uint8_t)below(256);
        for (size_t n = 0; n < file->leaf_count; n++)
            page.leaves[leaves++] = random_ref();
    }
    return &page;
}

static void
assert_files_equal(const struct hf_manifest_file *a, const struct hf_manifest_file *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->page_log2, b->page_log2);
    assert_int_equal(a->mode, b->mode);
    assert_true(a->modified_at == b->modified_at);
    assert_true(a->size == b->size);
    assert_int_equal(a->crc32c, b->crc32c);
    assert_memory_equal(a->digest, b->digest, sizeof a->digest);
    assert_int_equal(a->leaf_count, b->leaf_count);
    for (size_t i = 0; i < a->leaf_count; i++)
        assert_true(hf_object_ref_equal(&a->leaves[i], &b->leaves[i]));
}

/* What parses survives a round trip; anything else is refused as damaged, with the object's name in front. */
static bool
page_is_refused_or_round_trips(const uint8_t *bytes, size_t length)
{
    _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_error err;
    if (!hf_manifest_page_decode(bytes, length, &page, &err)) {
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_memory_equal(err.message, "manifest page is damaged at byte ", 33);
        assert_null(page);
        return false;
    }
    hf_assert_ok(hf_manifest_page_encode(page->files, page->file_count, &again, &err), &err);
    assert_int_equal(again.length, length);
    assert_memory_equal(again.data, bytes, length);
    return true;
}

static bool
root_is_refused_or_round_trips(const uint8_t *bytes, size_t length)
{
    _cleanup_(hf_manifest_root_freep) struct hf_manifest_root *root = NULL;
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
    struct hf_error err;
    if (!hf_manifest_root_decode(bytes, length, &root, &err)) {
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_memory_equal(err.message, "manifest root is damaged at byte ", 33);
        assert_null(root);
        return false;
    }
    hf_assert_ok(hf_manifest_root_encode(root, &again, &err), &err);
    assert_int_equal(again.length, length);
    assert_memory_equal(again.data, bytes, length);
    return true;
}

/* A root whose parts all come from literals and static memory. */
static struct hf_manifest_page_ref sample_pages[3];
static struct hf_manifest_folder sample_folders[] = {
    {.path = (char *)"", .mode = 0700, .page_count = 1, .pages = &sample_pages[0]},
    {.path = (char *)"base", .mode = 0750},
    {.path = (char *)"base/1", .mode = 0, .page_count = 2, .pages = &sample_pages[1]},
};
static struct hf_manifest_link sample_links[] = {
    {.path = (char *)"pg_tblspc/16400", .target = (char *)"/srv/fast disk"},
    {.path = (char *)"pg_wal", .target = (char *)"../wal"},
};
static struct hf_manifest_summary sample_summary[3];

static struct hf_manifest_root
sample_root(void)
{
    begin_round(1);
    for (size_t i = 0; i < HF_LENGTH(sample_pages); i++)
        sample_pages[i] = (struct hf_manifest_page_ref){.ref = {packs[3 - i % 2], (uint32_t)i, 300}, .files = 1};
    sample_pages[2].files = HF_MANIFEST_PAGE_FILES;
    sample_summary[0] = (struct hf_manifest_summary){packs[2], 2}; // a map pack that pages lie in
    sample_summary[1] = (struct hf_manifest_summary){packs[5], UINT64_MAX};
    sample_summary[2] = (struct hf_manifest_summary){packs[9], 1};
    return (struct hf_manifest_root){.backup = packs[10],
                                     .vault = packs[11],
                                     .session = packs[12],
                                     .started_at = 1700000000000,
                                     .finished_at = INT64_MAX,
                                     .file_count = 514,
                                     .logical_bytes = UINT64_MAX,
                                     .facts = (char *)"{\"engine\":\"postgres\"}",
                                     .folder_count = HF_LENGTH(sample_folders),
                                     .folders = sample_folders,
                                     .link_count = HF_LENGTH(sample_links),
                                     .links = sample_links,
                                     .summary_count = HF_LENGTH(sample_summary),
                                     .summary = sample_summary};
}

HF_TEST(files_of_a_page_come_back_as_they_were)
{
    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *back = NULL;
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
        struct hf_error err;
        begin_round(seed);
        const struct sample_page *page = random_page(seed == 1 ? HF_MANIFEST_PAGE_FILES : below(40));
        hf_assert_ok(hf_manifest_page_encode(page->files, page->count, &bytes, &err), &err);
        hf_assert_ok(hf_manifest_page_decode(bytes.data, bytes.length, &back, &err), &err);
        assert_int_equal(back->file_count, page->count);
        for (size_t i = 0; i < page->count; i++)
            assert_files_equal(&back->files[i], &page->files[i]);
        assert_true(page_is_refused_or_round_trips(bytes.data, bytes.length));
    }
}

HF_TEST(a_page_has_the_bytes_that_its_header_file_describes)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    begin_round(5);
    const struct hf_object_ref leaves[] = {{packs[7], 300, 1}, {packs[4], 0, 0}, {packs[7], 1, 2}};
    const struct hf_manifest_file files[] = {
        {.name = "16384",
         .kind = HF_FILE_RELATION,
         .page_log2 = 13,
         .mode = 0600,
         .modified_at = -2,
         .size = UINT64_C(2) * 4096 * 8192 + 1,
         .crc32c = 0x04030201,
         .leaf_count = 3,
         .leaves = leaves},
        {.name = "b", .kind = HF_FILE_OTHER, .page_log2 = 16},
    };
    hf_assert_ok(hf_manifest_page_encode(files, 2, &bytes, &err), &err);

    static const uint8_t expected[] = {
        1,                                                                     // version
        2,                                                                     // packs
        7,    7,    7,    7,    7,   7,   7, 7,  7,    7,    7, 7, 7, 7, 7, 5, //
        4,    4,    4,    4,    4,   4,   4, 4,  4,    4,    4, 4, 4, 4, 4, 5, //
        2,                                                                     // files
        5,    '1',  '6',  '3',  '8', '4', 1, 13, 0x80, 0x03, 3, // name, kind, page size, mode, modified at
        0x81, 0x80, 0x80, 0x20, 1,   2,   3, 4,                 // size, CRC-32C
        0,    0,    0,    0,    0,   0,   0, 0,  0,    0,    0, 0, 0, 0, 0, 0, // digest
        0,    0,    0,    0,    0,   0,   0, 0,  0,    0,    0, 0, 0, 0, 0, 0, //
        3,    0,    0xac, 0x02, 1,   1,   0, 0,  0,    1,    2,                // leaves
        1,    'b',  2,    16,   0,   0,   0, 0,  0,    0,    0,                //
        0,    0,    0,    0,    0,   0,   0, 0,  0,    0,    0, 0, 0, 0, 0, 0, //
        0,    0,    0,    0,    0,   0,   0, 0,  0,    0,    0, 0, 0, 0, 0, 0, //
        0,
    };
    assert_int_equal(bytes.length, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
}

HF_TEST(a_page_with_any_byte_changed_or_cut_is_refused_or_is_another_page)
{
    size_t accepted = 0;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MANIFEST_OBJECT_MOST);
        struct hf_error err;
        begin_round(seed);
        const struct sample_page *page = random_page(4);
        hf_assert_ok(hf_manifest_page_encode(page->files, page->count, &bytes, &err), &err);
        for (size_t at = 0; at < bytes.length; at++) {
            assert_false(page_is_refused_or_round_trips(bytes.data, at));
            const uint8_t before = bytes.data[at];
            for (unsigned change = 1; change < 256; change++) {
                bytes.data[at] = before ^ (uint8_t)change;
                accepted += page_is_refused_or_round_trips(bytes.data, bytes.length);
            }
            bytes.data[at] = before;
        }
    }
    assert_true(accepted > 1000);
}

HF_TEST(a_file_that_cannot_stand_in_a_page_is_refused_by_name_and_nothing_is_added)
{
    static const struct hf_object_ref far = {.slab = HF_PACK_SLABS_MOST};
    static const struct {
        struct hf_manifest_file file;
        const char *message;
    } cases[] = {
#define FILE_NAMED(text) .name = (text), .kind = HF_FILE_OTHER, .page_log2 = 13
        {{FILE_NAMED("")}, "file \"\" cannot stand in a manifest: a name in it is empty"},
        {{FILE_NAMED(".")}, "file \".\" cannot stand in a manifest: a name in it is \".\" or \"..\""},
        {{FILE_NAMED("..")}, "file \"..\" cannot stand in a manifest: a name in it is \".\" or \"..\""},
        {{FILE_NAMED("a/b")}, "file \"a/b\" cannot stand in a manifest: a name in it has a slash"},
        {{FILE_NAMED("a\nb")}, "file \"a\nb\" cannot stand in a manifest: a name in it has a control byte"},
        {{FILE_NAMED("a\177")}, "file \"a\177\" cannot stand in a manifest: a name in it has a control byte"},
        {{FILE_NAMED("f"), .mode = 0100600},
         "file \"f\" cannot stand in a manifest: mode 100600 is more than permissions"},
        {{FILE_NAMED("f"), .size = 1}, "file \"f\" cannot stand in a manifest: 0 map leaves for 1 bytes, 1 are needed"},
        {{FILE_NAMED("f"), .size = 1, .leaf_count = 1, .leaves = &far},
         "file \"f\": pack \"00000000000000000000000000000000\" cannot have a slab 1048576, the limit is 1048576 "
         "slabs"},
#undef FILE_NAMED
    };
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_buf_add(&bytes, "kept", 4, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        assert_false(hf_manifest_page_encode(&cases[i].file, 1, &bytes, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, cases[i].message);
    }

    begin_round(1);
    struct sample_page *page = (struct sample_page *)(uintptr_t)random_page(3);
    page->files[2].name = page->files[1].name;
    assert_false(hf_manifest_page_encode(page->files, 3, &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_memory_equal(err.message, "files are out of order in a manifest page: \"00017.", 50);

    static struct hf_manifest_file many[HF_MANIFEST_PAGE_FILES + 1];
    assert_false(hf_manifest_page_encode(many, HF_LENGTH(many), &bytes, &err));
    assert_string_equal(err.message, "a manifest page cannot hold 513 files, the limit is 512");
    assert_string_equal(hf_buf_text(&bytes), "kept");
}

#define PACK_A  "AAAAAAAAAAAAAAAA"
#define PACK_B  "BBBBBBBBBBBBBBBB"
#define ZEROS32 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
#define REST    "\0\0\0\0" ZEROS32 // CRC-32C and digest

HF_TEST(a_page_with_another_spelling_is_refused_with_the_reason)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *message;
    } cases[] = {
#define CASE(text, why) {text, sizeof text - 1, "manifest page is damaged at byte " why}
        CASE("", "0: it is not of version 1"),
        CASE("\2\0\0", "1: it is not of version 1"),
        CASE("\1", "1: it is cut off before its packs end"),
        CASE("\1\1AAAA", "2: it is cut off before its packs end"),
        CASE("\1\377\377\377\377\377\377\377\377\377\1", "11: it is cut off before its packs end"),
        CASE("\1\2" PACK_A PACK_A "\0", "34: a pack stands in its table twice"),
        CASE("\1\1" PACK_A "\0", "19: a pack in its table is never used"),
        CASE("\1\0\1", "3: it is cut off before its files end"),
        CASE("\1\0\1\1f\2\15\0\0\0" REST, "3: it is cut off before its files end"),
        CASE("\1\0\0\0", "3: bytes follow its end"),
        CASE("\1\0\1\1/\2\15\0\0\0" REST "\0", "47: the name of a file is no name"),
        CASE("\1\0\1\1\0\2\15\0\0\0" REST "\0", "47: the name of a file is no name"),
        CASE("\1\0\1\2..\2\15\0\0\0" REST "\0", "48: the name of a file is no name"),
        CASE("\1\0\1\1f\0\15\0\0\0" REST "\0", "47: there is no kind 0 of files"),
        CASE("\1\0\1\1f\5\15\0\0\0" REST "\0", "47: there is no kind 5 of files"),
        CASE("\1\0\1\1f\2\13\0\0\0" REST "\0", "47: no page size is like this"),
        CASE("\1\0\1\1f\2\21\0\0\0" REST "\0", "47: no page size is like this"),
        CASE("\1\0\1\1f\2\15\200\40\0\0" REST "\0", "9: a number of a file is out of range"), // mode 010000
        CASE("\1\0\1\1f\2\15\0\0\1" REST "\0", "47: the leaves of a file do not match its size"),
        CASE("\1\1" PACK_A "\1\1f\2\15\0\0\0" REST "\1\0\0\0", "63: the leaves of a file do not match its size"),
        CASE("\1\0\1\1f\2\15\0\0\1" REST "\1\0\0\0",
             "48: a place in a pack is none, or the packs are not in the order of their first use"),
        CASE("\1\2" PACK_A PACK_B "\1\1f\2\15\0\0\1" REST "\1\1\0\0",
             "80: a place in a pack is none, or the packs are not in the order of their first use"),
        CASE("\1\1" PACK_A "\1\1f\2\15\0\0\1" REST "\1\0\200\200\100\0", // slab 1048576
             "67: a place in a pack is none, or the packs are not in the order of their first use"),
        CASE("\1\1" PACK_A "\1\1f\2\15\0\0\1" REST "\1\0\0\200\200\200\200\20", // index 4294967296
             "70: a place in a pack is none, or the packs are not in the order of their first use"),
        CASE("\1\0\2\1f\2\15\0\0\0" REST "\0\1f\2\15\0\0\0" REST "\0", "91: its files are not sorted by name"),
        CASE("\1\0\2\1g\2\15\0\0\0" REST "\0\1f\2\15\0\0\0" REST "\0", "91: its files are not sorted by name"),
#undef CASE
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_manifest_page *page = NULL;
        struct hf_error err;
        assert_false(hf_manifest_page_decode((const uint8_t *)cases[i].bytes, cases[i].length, &page, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_string_equal(err.message, cases[i].message);
        assert_null(page);
    }
}

HF_TEST(a_page_of_more_than_512_files_is_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_manifest_page *page = NULL;
    struct hf_error err;
    hf_assert_ok(hf_buf_add(&bytes, "\1\0\201\4", 4, &err), &err); // 513
    hf_assert_ok(hf_buf_add_zeros(&bytes, 600 * 50, &err), &err);
    assert_false(hf_manifest_page_decode(bytes.data, bytes.length, &page, &err));
    assert_string_equal(err.message, "manifest page is damaged at byte 4: it has 513 files, the limit is 512");
}

HF_TEST(a_root_comes_back_as_it_was)
{
    const struct hf_manifest_root root = sample_root();
    _cleanup_(hf_manifest_root_freep) struct hf_manifest_root *back = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;

    hf_assert_ok(hf_manifest_root_encode(&root, &bytes, &err), &err);
    assert_true(root_is_refused_or_round_trips(bytes.data, bytes.length));
    hf_assert_ok(hf_manifest_root_decode(bytes.data, bytes.length, &back, &err), &err);
    assert_memory_equal(&back->backup, &root.backup, HF_ID_BYTES);
    assert_memory_equal(&back->vault, &root.vault, HF_ID_BYTES);
    assert_memory_equal(&back->session, &root.session, HF_ID_BYTES);
    assert_true(hf_id_is_none(&back->parent));
    assert_true(back->started_at == root.started_at && back->finished_at == root.finished_at);
    assert_true(back->file_count == root.file_count && back->logical_bytes == root.logical_bytes);
    assert_string_equal(back->facts, root.facts);
    assert_int_equal(back->folder_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(back->folders[i].path, sample_folders[i].path);
        assert_int_equal(back->folders[i].mode, sample_folders[i].mode);
        assert_int_equal(back->folders[i].page_count, sample_folders[i].page_count);
        for (size_t n = 0; n < sample_folders[i].page_count; n++) {
            assert_true(hf_object_ref_equal(&back->folders[i].pages[n].ref, &sample_folders[i].pages[n].ref));
            assert_int_equal(back->folders[i].pages[n].files, sample_folders[i].pages[n].files);
        }
    }
    assert_int_equal(back->link_count, 2);
    assert_string_equal(back->links[0].path, "pg_tblspc/16400");
    assert_string_equal(back->links[0].target, "/srv/fast disk");
    assert_string_equal(back->links[1].target, "../wal");
    assert_int_equal(back->summary_count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_memory_equal(&back->summary[i].pack, &sample_summary[i].pack, HF_ID_BYTES);
        assert_true(back->summary[i].live == sample_summary[i].live);
    }
}

HF_TEST(a_root_has_the_bytes_that_its_header_file_describes)
{
    struct hf_manifest_root root = sample_root();
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    memset(sample_pages[0].digest, 0xd1, 32);
    sample_pages[0].ref = (struct hf_object_ref){packs[3], 2, 1};
    root.parent = packs[13];
    root.started_at = 127;
    root.finished_at = 128;
    root.file_count = 1;
    root.logical_bytes = 300;
    root.facts = (char *)"{}";
    root.folder_count = 2;
    root.link_count = 1;
    root.links = &sample_links[1];
    root.summary_count = 1;
    root.summary = &sample_summary[2];
    hf_assert_ok(hf_manifest_root_encode(&root, &bytes, &err), &err);

#define ID(n) n, n, n, n, n, n, n, n, n, n, n, n, n, n, n, 1
    static const uint8_t expected[] = {
        1,    ID(10), ID(11), ID(12), ID(13), 127,  0x80, 1,    1,    0xac, 2,    2,    '{',  '}',  2,    ID(3), ID(9),
        2,    0,      0xc0,   3,      1,      0,    2,    1,    1,    0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1,  0xd1,
        0xd1, 0xd1,   0xd1,   0xd1,   0xd1,   0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1, 0xd1,  0xd1,
        0xd1, 0xd1,   0xd1,   0xd1,   0xd1,   0xd1, 0xd1, 4,    'b',  'a',  's',  'e',  0xe8, 3,    0,    1,     6,
        'p',  'g',    '_',    'w',    'a',    'l',  6,    '.',  '.',  '/',  'w',  'a',  'l',  1,    1,    1,
    };
#undef ID
    assert_int_equal(bytes.length, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
}

HF_TEST(a_root_with_any_byte_changed_or_cut_is_refused_or_is_another_root)
{
    const struct hf_manifest_root root = sample_root();
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    size_t accepted = 0;
    hf_assert_ok(hf_manifest_root_encode(&root, &bytes, &err), &err);
    for (size_t at = 0; at < bytes.length; at++) {
        assert_false(root_is_refused_or_round_trips(bytes.data, at));
        const uint8_t before = bytes.data[at];
        for (unsigned change = 1; change < 256; change++) {
            bytes.data[at] = before ^ (uint8_t)change;
            accepted += root_is_refused_or_round_trips(bytes.data, bytes.length);
        }
        bytes.data[at] = before;
    }
    assert_true(accepted > 1000);
}

/* One change to the sample, and what the encoder says to it. */
HF_TEST(a_root_that_does_not_add_up_is_refused_with_the_reason)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    struct hf_manifest_root root;
    struct hf_manifest_folder folders[3];
    struct hf_manifest_link links[2];
#define REFUSED(change, text)                                                                                          \
    do {                                                                                                               \
        root = sample_root();                                                                                          \
        memcpy(folders, sample_folders, sizeof folders);                                                               \
        memcpy(links, sample_links, sizeof links);                                                                     \
        root.folders = folders;                                                                                        \
        root.links = links;                                                                                            \
        change;                                                                                                        \
        assert_false(hf_manifest_root_encode(&root, &bytes, &err));                                                    \
        assert_string_equal(err.message, text);                                                                        \
        assert_int_equal(bytes.length, 0);                                                                             \
    } while (0)

    REFUSED(root.folder_count = 0, "a manifest needs the top folder, first of all");
    REFUSED(folders[0].path = (char *)"a", "a manifest needs the top folder, first of all");
    REFUSED(folders[1].path = (char *)"base/1", "folders are out of order in a manifest: \"base/1\"");
    REFUSED(folders[1].path = (char *)"c", "folders are out of order in a manifest: \"base/1\"");
    REFUSED(folders[1].path = (char *)"/base", "path \"/base\" cannot stand in a backup: a name in it is empty");
    REFUSED(folders[1].mode = 040700, "folder \"base\": mode 40700 is more than permissions");
    REFUSED(root.file_count = 513, "a manifest of 513 files has pages for 514");
    REFUSED(sample_pages[2].files = 513, "folder \"base/1\": a page of 513 files");
    REFUSED(sample_pages[2].files = 0, "folder \"base/1\": a page of 0 files");
    REFUSED(links[1].path = (char *)"pg_tblspc/16400", "links are out of order in a manifest: \"pg_tblspc/16400\"");
    REFUSED(links[0].path = (char *)"a/../b",
            "path \"a/../b\" cannot stand in a backup: a name in it is \".\" or \"..\"");
    REFUSED(links[0].target = (char *)"", "link \"pg_tblspc/16400\": a target of 0 bytes, 1 to 4096 are allowed");
    REFUSED(sample_summary[1].live = 0, "the summary of a manifest has a pack of which nothing is live: "
                                        "\"05050505050505050505050505050501\"");
    REFUSED(sample_summary[1].pack = packs[2], "the summary of a manifest is out of order: pack "
                                               "\"02020202020202020202020202020201\"");
    REFUSED(root.started_at = -1, "a manifest cannot have a time before 1970");
#undef REFUSED
}

HF_TEST(what_is_over_a_limit_of_the_format_is_refused_with_the_limit)
{
    enum { FACTS = 16 * 1024 * 1024, OBJECT = 64 * 1024 * 1024, LINKS = 6200 };
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(2 * OBJECT);
    _cleanup_(hf_freep) char *text = calloc(1, OBJECT + 1);
    _cleanup_(hf_freep) struct hf_manifest_folder *folders = calloc(HF_FOLDERS_MOST + 1, sizeof *folders);
    _cleanup_(hf_freep) struct hf_manifest_link *links = calloc(HF_LINKS_MOST + 1, sizeof *links);
    _cleanup_(hf_freep) char *paths = malloc((size_t)LINKS * (HF_PATH_MOST + 1));
    assert_true(text != NULL && folders != NULL && links != NULL && paths != NULL);
    struct hf_manifest_root root = sample_root();
    struct hf_error err;

    folders[0].path = (char *)"";
    root.folders = folders;
    root.folder_count = HF_FOLDERS_MOST + 1;
    assert_false(hf_manifest_root_encode(&root, &bytes, &err));
    assert_string_equal(err.message, "a backup of 1048577 folders is over the limit of 1048576");
    root.folder_count = 1;
    root.file_count = 0;
    root.links = links;
    root.link_count = HF_LINKS_MOST + 1;
    assert_false(hf_manifest_root_encode(&root, &bytes, &err));
    assert_string_equal(err.message, "a backup of 65537 links is over the limit of 65536");

    /* Paths and targets of 4,096 bytes each, and facts of 16 MiB: each allowed, together too much. */
    memset(text, 'x', FACTS + 1);
    root.facts = text;
    root.link_count = 0;
    assert_false(hf_manifest_root_encode(&root, &bytes, &err));
    assert_string_equal(err.message, "the facts of a backup are 16777217 bytes long, the limit is 16777216");
    text[FACTS] = '\0';
    root.link_count = LINKS;
    for (size_t i = 0; i < LINKS; i++) {
        links[i].path = links[i].target = paths + i * (HF_PATH_MOST + 1);
        for (size_t n = 0; n < HF_PATH_MOST; n++)
            links[i].path[n] = n % 100 == 99 ? '/' : 'x';
        snprintf(links[i].path, 8, "%07zu", i);
        links[i].path[7] = 'x';
        links[i].path[HF_PATH_MOST] = '\0';
    }
    assert_false(hf_manifest_root_encode(&root, &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_memory_equal(err.message, "a manifest object of ", 21);
    assert_non_null(strstr(err.message, " bytes is over the limit of 67108864"));
    assert_int_equal(bytes.length, 0);

    struct hf_manifest_page *page = NULL;
    assert_false(hf_manifest_page_decode((const uint8_t *)text, OBJECT + 1, &page, &err));
    assert_string_equal(err.message,
                        "manifest page is damaged at byte 0: it has 67108865 bytes, the limit is 67108864");
}

HF_TEST(a_root_with_another_spelling_is_refused_with_the_reason)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *message;
    } cases[] = {
#define IDS             ZEROS32 ZEROS32
#define CASE(text, why) {"\1" IDS text, sizeof IDS text, "manifest root is damaged at byte " why}
#define TOP             "\1\0\0\0" // one folder: the top, without files
        CASE("\0\0\0\0\0\0\0\0\0", "72: it has no top folder"),
        CASE("\0\0\0\0\0\0\1\1a\0\0\0\0", "76: it has no top folder"),
        CASE("\0\0\0\0\1\0\0" TOP "\0\0", "71: a text is cut off, too long, or has a NUL in it"),
        CASE("\0\0\0\0\0\0\2\0\0\0\0\0\0\0\0", "78: the path of a folder is no path"),
        CASE("\0\0\0\0\0\0\3\0\0\0\1b\0\0\1a\0\0\0\0", "83: its folders are not sorted by path"),
        CASE("\0\0\0\0\0\0\2\0\0\0\3a/.\0\0\0\0", "81: the path of a folder is no path"),
        CASE("\0\0\1\0\0\0" TOP "\0\0", "75: it has pages for 0 files, not for 1"),
        CASE("\0\0\0\0\0\0\3\0\0\0\1b\0\0\1b\0\0\0\0", "83: its folders are not sorted by path"),
        CASE("\0\0\0\0\0\0" TOP "\2\1b\1x\1b\1x\0", "84: its links are not sorted by path"),
        CASE("\0\0\0\0\0\1" PACK_A "\1\0\0\1\0\0\0\0" ZEROS32 "\0\0", "127: a page lists no files, or too many"),
        CASE("\0\0\0\0\0\1" PACK_A "\1\0\0\1\0\0\0\201\4" ZEROS32 "\0\0", // 513
             "96: a page lists no files, or too many"),
        CASE("\0\0\0\0\0\0" TOP "\2\1b\1x\1a\1x\0", "84: its links are not sorted by path"),
        CASE("\0\0\0\0\0\0" TOP "\1\2b/\1x\0", "81: the path or the target of a link is none"),
        CASE("\0\0\0\0\0\0" TOP "\1\2bb\0\0", "80: the path or the target of a link is none"),
        CASE("\0\0\0\0\0\1" PACK_A TOP "\0\1\0\0", "95: nothing is live of a pack in its summary"),
        CASE("\0\0\0\0\0\2" PACK_B PACK_A TOP "\0\2\0\1\1\1", "112: its summary is not sorted by pack"),
        CASE("\0\0\0\0\0\2" PACK_A PACK_B TOP "\0\2\0\1\0\1", "112: its summary is not sorted by pack"),
        CASE("\0\0\0\0\0\2" PACK_A PACK_B TOP "\0\2\1\1\0\1",
             "110: a place in a pack is none, or the packs are not in the order of their first use"),
        CASE("\0\0\0\0\0\2" PACK_A PACK_B TOP "\0\1\0\1", "111: a pack in its table is never used"),
        CASE("\0\0\0\0\0\0\201\200\100" TOP "\0\0", "74: it is cut off before its folders end"),
        CASE("\0\0\0\0\0\0" TOP "\0\0\0", "77: bytes follow its end"),
#undef CASE
#undef TOP
#undef IDS
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        struct hf_manifest_root *root = NULL;
        struct hf_error err;
        assert_false(hf_manifest_root_decode((const uint8_t *)cases[i].bytes, cases[i].length, &root, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_string_equal(err.message, cases[i].message);
        assert_null(root);
    }
}

HF_TEST(out_of_memory_is_reported_and_nothing_leaks)
{
    const struct hf_manifest_root root = sample_root();
    const struct sample_page *page = random_page(30);
    struct hf_error err;
    bool ok = false;
    for (unsigned call = 1; !ok; call++) {
        _cleanup_(hf_manifest_root_freep) struct hf_manifest_root *root_back = NULL;
        _cleanup_(hf_manifest_page_freep) struct hf_manifest_page *page_back = NULL;
        _cleanup_(hf_buf_done) struct hf_buf root_bytes = HF_BUF_INIT(HF_MIB), page_bytes = HF_BUF_INIT(HF_MIB);
        err.kind = HF_ERR_NONE;
        calls_until_failure = call;
        ok = hf_manifest_root_encode(&root, &root_bytes, &err) &&
             hf_manifest_root_decode(root_bytes.data, root_bytes.length, &root_back, &err) &&
             hf_manifest_page_encode(page->files, page->count, &page_bytes, &err) &&
             hf_manifest_page_decode(page_bytes.data, page_bytes.length, &page_back, &err);
        calls_until_failure = 0;
        assert_int_equal(err.kind, ok ? HF_ERR_NONE : HF_ERR_NO_MEMORY);
        assert_true(ok || page_back == NULL);
    }
}

HF_TEST(the_digest_of_a_page_is_keyed_and_begins_with_its_label)
{
    static uint8_t key[HF_KEY_BYTES] = "the key of this test is 32 bytes";
    static const uint8_t labelled[] = "holdfast manifest pagethe page";
    const struct hf_vault_keys keys = {.digest_key = {.bytes = key, .length = sizeof key}};
    uint8_t digest[HF_FILE_DIGEST_BYTES], expected[HF_FILE_DIGEST_BYTES];
    hf_manifest_page_digest(&keys, labelled + 22, 8, digest);
    assert_int_equal(crypto_generichash(expected, sizeof expected, labelled, sizeof labelled - 1, key, sizeof key), 0);
    assert_memory_equal(digest, expected, sizeof digest);
}

HF_TEST(a_path_that_cannot_stand_in_a_backup_is_refused_by_name)
{
    static char component[256 + 1], path[HF_PATH_MOST + 2];
    struct hf_error err;
    hf_assert_ok(hf_path_check("base/1/16384_fsm", &err), &err);
    hf_assert_ok(hf_path_check("a b/..c/d..", &err), &err);
    hf_assert_ok(hf_path_check("\xc3\xa4\xff", &err), &err); // names are bytes
    memset(component, 'x', 255);
    hf_assert_ok(hf_path_check(component, &err), &err);
    for (size_t i = 0; i < HF_PATH_MOST; i++)
        path[i] = i % 2 == 0 ? 'x' : '/';
    path[HF_PATH_MOST - 1] = 'y';
    hf_assert_ok(hf_path_check(path, &err), &err);

    static const char *const bad[][2] = {
        {"", "it is empty"},
        {"/a", "a name in it is empty"},
        {"a/", "a name in it is empty"},
        {"a//b", "a name in it is empty"},
        {".", "a name in it is \".\" or \"..\""},
        {"a/..", "a name in it is \".\" or \"..\""},
        {"../a", "a name in it is \".\" or \"..\""},
        {"a/\033[2J", "a name in it has a control byte"},
        {"a\177", "a name in it has a control byte"},
    };
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        char expected[128];
        snprintf(expected, sizeof expected, "path \"%s\" cannot stand in a backup: %s", bad[i][0], bad[i][1]);
        assert_false(hf_path_check(bad[i][0], &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, expected);
    }
    component[255] = 'x';
    assert_false(hf_path_check(component, &err));
    assert_non_null(strstr(err.message, ": a name in it is longer than 255 bytes"));
    path[HF_PATH_MOST] = 'y';
    assert_false(hf_path_check(path, &err));
    assert_non_null(strstr(err.message, ": it is longer than 4096 bytes"));
}
