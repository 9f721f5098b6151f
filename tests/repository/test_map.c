#include "tests/support/test.h"

#include "server/repository/map.h"

#define ROUNDS 400

/* What a leaf stands for: one row a page. */
struct model_page {
    enum hf_extent_type type;
    uint32_t pack, slab, index; // STORED; pack: index in `packs`
};

struct model {
    uint32_t pages;
    struct model_page page[HF_LEAF_PAGES];
};

static struct hf_id packs[HF_LEAF_PAGES];
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
static uint32_t
below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 32) % limit;
}

static void
begin_round(uint64_t seed)
{
    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < HF_LENGTH(packs); i++) {
        memset(packs[i].bytes, (int)(seed & 0x7f), HF_ID_BYTES);
        packs[i].bytes[0] = (uint8_t)i;
        packs[i].bytes[7] = (uint8_t)(i >> 8);
    }
}

/* A run of random kind and place, often one that goes on from the last stored page. */
static void
model_add_run(struct model *model, uint32_t most_packs, struct hf_leaf *leaf)
{
    static const enum hf_extent_type types[] = {HF_EXTENT_ZEROS, HF_EXTENT_STORED, HF_EXTENT_STORED, HF_EXTENT_STORED,
                                                HF_EXTENT_LOST};
    static struct model_page last;
    struct hf_error err;
    struct model_page page = {.type = types[below(HF_LENGTH(types))]};
    if (page.type == HF_EXTENT_STORED) {
        if (model->pages > 0 && below(2) == 0 && last.type == HF_EXTENT_STORED && last.index + 1 < HF_SLAB_PAGES_MOST) {
            page = last;
            page.index++;
        } else {
            page.pack = below(most_packs);
            page.slab = below(4) == 0 ? below(HF_PACK_SLABS_MOST) : below(5);
            page.index = below(3) == 0 ? below(HF_SLAB_PAGES_MOST) : below(40);
        }
    }

    uint32_t most = HF_LEAF_PAGES - model->pages;
    if (page.type == HF_EXTENT_STORED && most > HF_SLAB_PAGES_MOST - page.index)
        most = HF_SLAB_PAGES_MOST - page.index;
    const uint32_t count = 1 + below(below(4) == 0 ? most : (most < 3 ? most : 3));
    hf_assert_ok(hf_leaf_add(leaf, page.type, count, page.type == HF_EXTENT_STORED ? &packs[page.pack] : NULL,
                             page.slab, page.index, &err),
                 &err);
    for (uint32_t i = 0; i < count; i++) {
        model->page[model->pages++] = page;
        if (page.type == HF_EXTENT_STORED) {
            last = page;
            page.index++;
        }
    }
}

static void
fill(struct model *model, struct hf_leaf *leaf)
{
    const uint32_t pages = below(4) == 0 ? HF_LEAF_PAGES : below(200);
    const uint32_t most_packs = below(3) == 0 ? HF_LEAF_PAGES : 1 + below(20);
    while (model->pages < pages)
        model_add_run(model, most_packs, leaf);
}

static void
assert_leaf_is(const struct hf_leaf *leaf, const struct model *model)
{
    assert_int_equal(leaf->pages, model->pages);
    for (uint32_t i = 0; i < model->pages; i++) {
        const struct hf_id *pack = NULL;
        uint32_t slab = 0, index = 0;
        assert_int_equal(hf_leaf_find(leaf, i, &pack, &slab, &index), model->page[i].type);
        if (model->page[i].type != HF_EXTENT_STORED)
            continue;
        assert_memory_equal(pack->bytes, packs[model->page[i].pack].bytes, HF_ID_BYTES);
        assert_int_equal(slab, model->page[i].slab);
        assert_int_equal(index, model->page[i].index);
    }
}

static void
assert_decodes_to_same_bytes(const struct hf_buf *bytes, struct hf_leaf *into)
{
    _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;
    hf_assert_ok(hf_leaf_decode(bytes->data, bytes->length, "leaf", into, &err), &err);
    hf_assert_ok(hf_leaf_encode(into, &again, &err), &err);
    assert_int_equal(again.length, bytes->length);
    assert_memory_equal(again.data, bytes->data, bytes->length);
}

HF_TEST(every_page_is_found_where_it_was_put_before_and_after_storage)
{
    static struct model model;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, back = {0};
    struct hf_error err;
    hf_leaf_init(&leaf, 13);
    hf_leaf_init(&back, 12);

    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
        begin_round(seed);
        model.pages = 0;
        hf_leaf_clear(&leaf);
        fill(&model, &leaf);
        assert_leaf_is(&leaf, &model);

        hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);
        assert_decodes_to_same_bytes(&bytes, &back);
        assert_int_equal(back.page_log2, 13);
        assert_int_equal(back.extent_count, leaf.extent_count);
        assert_leaf_is(&back, &model);
    }
}

/* One map has one spelling: how the pages came in does not show in the bytes. */
HF_TEST(a_leaf_added_page_by_page_has_the_bytes_of_one_added_in_runs)
{
    static struct model model;
    _cleanup_(hf_leaf_done) struct hf_leaf runs = {0}, pages = {0};
    struct hf_error err;
    hf_leaf_init(&runs, 13);
    hf_leaf_init(&pages, 13);

    for (uint64_t seed = 1; seed <= ROUNDS / 4; seed++) {
        _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(HF_LEAF_MOST), b = HF_BUF_INIT(HF_LEAF_MOST);
        begin_round(seed);
        model.pages = 0;
        hf_leaf_clear(&runs);
        hf_leaf_clear(&pages);
        fill(&model, &runs);
        for (uint32_t i = 0; i < model.pages; i++) {
            const struct model_page *page = &model.page[i];
            hf_assert_ok(hf_leaf_add(&pages, page->type, 1, page->type == HF_EXTENT_STORED ? &packs[page->pack] : NULL,
                                     page->slab, page->index, &err),
                         &err);
        }
        hf_assert_ok(hf_leaf_encode(&runs, &a, &err), &err);
        hf_assert_ok(hf_leaf_encode(&pages, &b, &err), &err);
        assert_int_equal(a.length, b.length);
        assert_memory_equal(a.data, b.data, a.length);
    }
}

HF_TEST(pages_taken_from_another_leaf_lie_where_they_lay_there)
{
    static struct model from_model, model;
    _cleanup_(hf_leaf_done) struct hf_leaf from = {0}, leaf = {0};
    struct hf_error err;
    hf_leaf_init(&from, 14);
    hf_leaf_init(&leaf, 14);

    for (uint64_t seed = 1; seed <= ROUNDS; seed++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
        begin_round(seed);
        from_model.pages = model.pages = 0;
        hf_leaf_clear(&from);
        hf_leaf_clear(&leaf);
        fill(&from_model, &from);
        for (unsigned turn = 0; turn < 50 && model.pages < HF_LEAF_PAGES; turn++) {
            uint32_t first = below(from.pages + 1), count = below(from.pages - first + 1);
            if (count > HF_LEAF_PAGES - model.pages)
                count = HF_LEAF_PAGES - model.pages;
            hf_assert_ok(hf_leaf_add_from(&leaf, &from, first, count, &err), &err);
            memcpy(&model.page[model.pages], &from_model.page[first], count * sizeof model.page[0]);
            model.pages += count;
        }
        assert_leaf_is(&leaf, &model);
        hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);
        assert_decodes_to_same_bytes(&bytes, &leaf);
    }
}

HF_TEST(a_leaf_has_the_bytes_that_its_header_file_describes)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;
    struct hf_id a, b;
    memset(a.bytes, 0xaa, HF_ID_BYTES);
    memset(b.bytes, 0xbb, HF_ID_BYTES);
    hf_leaf_init(&leaf, 13);

    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 3, &a, 5, 7, &err), &err);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 2, &a, 5, 10, &err), &err); // one with the extent before
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_ZEROS, 100, NULL, 0, 0, &err), &err);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &a, 5, 12, &err), &err); // goes on behind the zeros
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &b, 2, 0, &err), &err);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_LOST, 1, NULL, 0, 0, &err), &err);
    hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);

    static const uint8_t expected[] = {
        1,          13, // head
        2,          0xaa, 0xaa,   0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
        0xaa, // packs
        0xbb,       0xbb, 0xbb,   0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb,
        5,                        // extents
        5 << 2 | 2, 0,    5 << 1, // 5 pages of pack 0, slab 0 + 5
        7,                        // from page 7 of it
        0x90,       0x03,         // 100 << 2 | 0
        1 << 2 | 1,               // 1 page, goes on
        1 << 2 | 2, 1,    5,      // 1 page of pack 1, slab 5 - 3
        0,                        // its first
        1 << 2 | 3,               // 1 page, lost
    };
    assert_int_equal(bytes.length, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
}

HF_TEST(the_next_page_of_another_slab_or_pack_does_not_go_on)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, back = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    static const struct model model = {4,
                                       {{HF_EXTENT_STORED, 1, 5, 7},
                                        {HF_EXTENT_STORED, 1, 6, 8},
                                        {HF_EXTENT_STORED, 2, 6, 9},
                                        {HF_EXTENT_STORED, 2, 6, 11}}};
    struct hf_error err;
    begin_round(1);
    hf_leaf_init(&leaf, 13);
    hf_leaf_init(&back, 13);
    for (uint32_t i = 0; i < model.pages; i++)
        hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &packs[model.page[i].pack], model.page[i].slab,
                                 model.page[i].index, &err),
                     &err);
    assert_int_equal(leaf.extent_count, 4);
    assert_leaf_is(&leaf, &model);
    hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);
    assert_decodes_to_same_bytes(&bytes, &back);
    assert_leaf_is(&back, &model);
}

HF_TEST(a_leaf_at_all_limits_is_stored_and_comes_back)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, back = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;
    begin_round(1);
    hf_leaf_init(&leaf, HF_PAGE_LOG2_MOST);
    hf_leaf_init(&back, HF_PAGE_LOG2_LEAST);

    for (uint32_t i = 0; i < HF_LEAF_PAGES; i++)
        hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &packs[i], i % 2 == 0 ? HF_PACK_SLABS_MOST - 1 : 0,
                                 HF_SLAB_PAGES_MOST - 1, &err),
                     &err);
    assert_int_equal(leaf.extent_count, HF_LEAF_PAGES);
    assert_int_equal(leaf.pack_count, HF_LEAF_PAGES);
    hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);
    assert_decodes_to_same_bytes(&bytes, &back);
    assert_int_equal(back.pack_count, HF_LEAF_PAGES);

    assert_false(hf_leaf_add(&leaf, HF_EXTENT_ZEROS, 1, NULL, 0, 0, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "a map leaf of 4096 pages cannot take 1 more, the limit is 4096");
}

HF_TEST(an_empty_leaf_is_a_leaf)
{
    static const uint8_t empty[] = {1, 13, 0, 0};
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;
    hf_leaf_init(&leaf, 13);
    hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);
    assert_int_equal(bytes.length, sizeof empty);
    assert_memory_equal(bytes.data, empty, sizeof empty);
    assert_decodes_to_same_bytes(&bytes, &leaf);
}

HF_TEST(a_place_that_no_page_can_have_is_refused_by_name_and_leaves_the_leaf_alone)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, other = {0};
    struct hf_error err;
    struct hf_id pack;
    memset(pack.bytes, 0xab, HF_ID_BYTES);
    hf_leaf_init(&leaf, 13);
    hf_leaf_init(&other, 14);
    hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_ZEROS, 10, NULL, 0, 0, &err), &err);

    assert_false(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &pack, HF_PACK_SLABS_MOST, 0, &err));
    assert_string_equal(err.message,
                        "pack \"abababababababababababababababab\" cannot have a slab 1048576, the limit is "
                        "1048576 slabs");
    assert_false(hf_leaf_add(&leaf, HF_EXTENT_STORED, 2, &pack, 3, HF_SLAB_PAGES_MOST - 1, &err));
    assert_string_equal(err.message,
                        "pack \"abababababababababababababababab\", slab 3, cannot have pages 4095 to 4097, "
                        "the limit is 4096 pages");
    assert_false(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &pack, 3, UINT32_MAX, &err));
    assert_false(hf_leaf_add_from(&leaf, &other, 0, 0, &err));
    assert_string_equal(err.message, "a map leaf of 8192-byte pages cannot take pages of 16384 bytes");
    hf_leaf_init(&other, 13);
    assert_false(hf_leaf_add_from(&other, &leaf, 4, 7, &err));
    assert_string_equal(err.message, "a map leaf of 10 pages has no pages 4 to 11");
    assert_false(hf_leaf_add_from(&other, &leaf, UINT32_MAX, 1, &err));
    hf_assert_ok(hf_leaf_add(&other, HF_EXTENT_LOST, HF_LEAF_PAGES - 9, NULL, 0, 0, &err), &err);
    assert_false(hf_leaf_add_from(&other, &leaf, 0, 10, &err));
    assert_string_equal(err.message, "a map leaf of 4087 pages cannot take 10 more, the limit is 4096");
    assert_int_equal(other.pages, HF_LEAF_PAGES - 9);
    assert_int_equal(leaf.pages, 10);
    assert_int_equal(leaf.extent_count, 1);
    assert_int_equal(leaf.pack_count, 0);
}

/* A pack of 16 equal bytes, as it stands in a leaf's table. */
#define PACK_A "AAAAAAAAAAAAAAAA"
#define PACK_B "BBBBBBBBBBBBBBBB"

HF_TEST(a_leaf_with_another_spelling_is_refused_with_the_reason)
{
    static const struct {
        const char *bytes;
        size_t length;
        const char *message;
    } cases[] = {
#define CASE(text, why) {text, sizeof text - 1, "leaf 3 of \"base/1/2\" is damaged at byte " why}
        CASE("", "0: it is not a map leaf of version 1"),
        CASE("\2\15\0\0", "1: it is not a map leaf of version 1"),
        CASE("\1\13\0\0", "2: no page size is like this"),
        CASE("\1\21\0\0", "2: no page size is like this"),
        CASE("\1\15", "2: the table of packs is cut off"),
        CASE("\1\15\1AAAA", "3: the table of packs is cut off"),
        CASE("\1\15\201\40", "4: the table of packs is cut off"),  // 4097 packs
        CASE("\1\15\200\0\0", "4: the table of packs is cut off"), // 0, in two bytes
        CASE("\1\15\0", "3: the extents are cut off"),
        CASE("\1\15\0\2\4", "4: the extents are cut off"),
        CASE("\1\15\0\1\0", "5: the extents do not add up to a leaf"),           // no page
        CASE("\1\15\0\1\204\200\1", "7: the extents do not add up to a leaf"),   // 4097 pages
        CASE("\1\15\0\2\200\200\1\7", "8: the extents do not add up to a leaf"), // 4096, and 1 more
        CASE("\1\15\0\1\204", "5: an extent is cut off"),
        CASE("\1\15\0\2\4\4", "6: two extents of one kind should be one"),
        CASE("\1\15\0\2\7\7", "6: two extents of one kind should be one"),
        CASE("\1\15\0\1\5", "5: the first stored extent says that it goes on"),
        CASE("\1\15\0\2\4\5", "6: the first stored extent says that it goes on"),
        CASE("\1\15\1" PACK_A "\2\6\0\0\0\5", "25: an extent only goes on, it should be one with the extent before"),
        CASE("\1\15\1" PACK_A "\2\6\0\0\0\6\0\0\1", "28: an extent that goes on is written out"),
        CASE("\1\15\1" PACK_A "\3\6\0\0\0\4\6\0\0\1", "29: an extent that goes on is written out"),
        CASE("\1\15\1" PACK_A "\0", "20: a pack in its table is never used"),
        CASE("\1\15\2" PACK_A PACK_B "\1\6\0\0\0", "40: a pack in its table is never used"),
        CASE("\1\15\2" PACK_A PACK_B "\2\6\1\0\0\6\0\0\0",
             "40: the packs do not stand in the order of their first use"),
        CASE("\1\15\1" PACK_A "\1\6\1\0\0", "24: the packs do not stand in the order of their first use"),
        CASE("\1\15\2" PACK_A PACK_A "\2\6\0\0\0\6\1\0\0", "35: a pack stands in its table twice"),
        CASE("\1\15\1" PACK_A "\1\6\0\1\0", "24: a slab number is out of range"),               // -1
        CASE("\1\15\1" PACK_A "\1\6\0\200\200\200\1\0", "27: a slab number is out of range"),   // 1048576
        CASE("\1\15\1" PACK_A "\1\6\0\0\200\40", "25: a slab does not have so many pages"),     // page 4096
        CASE("\1\15\1" PACK_A "\1\12\0\0\377\37", "25: a slab does not have so many pages"),    // 2 from page 4095
        CASE("\1\15\1" PACK_A "\3\6\0\0\377\37\4\5", "27: a slab does not have so many pages"), // goes on past it
        CASE("\1\15\1" PACK_A "\1\6\0\0", "23: an extent is cut off"),
        CASE("\1\15\0\0\0", "4: bytes follow the last extent"),
#undef CASE
    };
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    struct hf_error err;
    hf_leaf_init(&leaf, 13);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        leaf.pages = 1; // what was there before does not stay
        assert_false(
            hf_leaf_decode((const uint8_t *)cases[i].bytes, cases[i].length, "leaf 3 of \"base/1/2\"", &leaf, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_string_equal(err.message, cases[i].message);
        assert_int_equal(leaf.pages, 0);
        assert_int_equal(leaf.extent_count, 0);
        assert_int_equal(leaf.pack_count, 0);
    }
}

HF_TEST(a_leaf_over_its_limit_is_refused_unread)
{
    static uint8_t bytes[256 * 1024 + 1] = {1, 13};
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    struct hf_error err;
    hf_leaf_init(&leaf, 13);
    assert_false(hf_leaf_decode(bytes, sizeof bytes, "leaf", &leaf, &err));
    assert_string_equal(err.message, "leaf is damaged: it has 262145 bytes, a leaf has at most 262144");
}

/* What parses survives a round trip: no byte can be changed without being noticed here or meaning something else. */
HF_TEST(a_leaf_with_any_byte_changed_or_cut_is_refused_or_is_another_leaf)
{
    static struct model model;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, back = {0};
    struct hf_error err;
    hf_leaf_init(&leaf, 13);
    hf_leaf_init(&back, 13);
    size_t accepted = 0, refused = 0;

    for (uint64_t seed = 1; seed <= 12; seed++) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
        begin_round(seed);
        model.pages = 0;
        hf_leaf_clear(&leaf);
        for (unsigned run = 0; run < 25 && model.pages < HF_LEAF_PAGES; run++)
            model_add_run(&model, 12, &leaf);
        hf_assert_ok(hf_leaf_encode(&leaf, &bytes, &err), &err);

        for (size_t at = 0; at < bytes.length; at++) {
            assert_false(hf_leaf_decode(bytes.data, at, "leaf", &back, &err));
            const uint8_t before = bytes.data[at];
            for (unsigned change = 1; change < 256; change++) {
                bytes.data[at] = before ^ (uint8_t)change;
                if (hf_leaf_decode(bytes.data, bytes.length, "leaf", &back, &err)) {
                    assert_decodes_to_same_bytes(&bytes, &back);
                    accepted++;
                } else {
                    assert_int_equal(err.kind, HF_ERR_CORRUPT);
                    refused++;
                }
            }
            bytes.data[at] = before;
        }
    }
    assert_true(accepted > 1000 && refused > 1000);
}

HF_TEST(out_of_memory_is_reported_and_the_leaf_stays_whole)
{
    static struct model model;
    _cleanup_(hf_leaf_done) struct hf_leaf source = {0};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_LEAF_MOST);
    struct hf_error err;
    begin_round(7);
    hf_leaf_init(&source, 13);
    model.pages = 0;
    while (model.pages < 300)
        model_add_run(&model, 100, &source);
    hf_assert_ok(hf_leaf_encode(&source, &bytes, &err), &err);

    bool ok = false;
    for (unsigned call = 1; !ok; call++) {
        _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0}, copy = {0};
        _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_LEAF_MOST);
        hf_leaf_init(&leaf, 13);
        hf_leaf_init(&copy, 13);
        err.kind = HF_ERR_NONE;
        calls_until_failure = call;
        ok = hf_leaf_decode(bytes.data, bytes.length, "leaf", &leaf, &err) &&
             hf_leaf_add_from(&copy, &leaf, 0, leaf.pages, &err) && hf_leaf_encode(&copy, &again, &err);
        calls_until_failure = 0;
        assert_int_equal(err.kind, ok ? HF_ERR_NONE : HF_ERR_NO_MEMORY);
        assert_int_equal(again.length, ok ? bytes.length : 0);

        /* Whatever got in is a whole leaf: it can be stored and read. */
        _cleanup_(hf_buf_done) struct hf_buf part = HF_BUF_INIT(HF_LEAF_MOST);
        hf_assert_ok(hf_leaf_encode(&copy, &part, &err), &err);
        assert_decodes_to_same_bytes(&part, &leaf);
    }
}

HF_TEST(a_leaf_that_does_not_fit_its_buffer_adds_nothing)
{
    _cleanup_(hf_leaf_done) struct hf_leaf leaf = {0};
    struct hf_error err;
    begin_round(3);
    hf_leaf_init(&leaf, 13);
    for (uint32_t i = 0; i < 300; i++)
        hf_assert_ok(hf_leaf_add(&leaf, HF_EXTENT_STORED, 1, &packs[i % 10], i, 0, &err), &err);
    for (size_t limit = 5; limit < 600; limit += 7) {
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(limit);
        hf_assert_ok(hf_buf_add(&bytes, "kept", 4, &err), &err);
        assert_false(hf_leaf_encode(&leaf, &bytes, &err));
        assert_int_equal(err.kind, HF_ERR_NO_SPACE);
        assert_string_equal(hf_buf_text(&bytes), "kept");
    }
}

HF_TEST(object_refs_are_equal_when_pack_slab_and_index_are)
{
    begin_round(1);
    const struct hf_object_ref ref = {packs[0], 1, 2};
    assert_true(hf_object_ref_equal(&ref, &(struct hf_object_ref){packs[0], 1, 2}));
    assert_false(hf_object_ref_equal(&ref, &(struct hf_object_ref){packs[1], 1, 2}));
    assert_false(hf_object_ref_equal(&ref, &(struct hf_object_ref){packs[0], 2, 2}));
    assert_false(hf_object_ref_equal(&ref, &(struct hf_object_ref){packs[0], 1, 1}));
}

HF_TEST(objects_of_a_slab_come_apart_as_they_were_joined)
{
    static const uint8_t kinds[] = {HF_OBJECT_LEAF, HF_OBJECT_MANIFEST_ROOT, HF_OBJECT_MANIFEST_PAGE, HF_OBJECT_LEAF};
    static const size_t lengths[] = {3, 0, 200, 1};
    static uint8_t bodies[204];
    _cleanup_(hf_buf_done) struct hf_buf slab = HF_BUF_INIT(HF_MIB);
    _cleanup_(hf_freep) struct hf_object *objects = NULL;
    struct hf_error err;
    size_t count;
    for (size_t i = 0; i < sizeof bodies; i++)
        bodies[i] = (uint8_t)(i * 7);

    hf_assert_ok(hf_objects_join(kinds, lengths, 4, bodies, sizeof bodies, &slab, &err), &err);
    hf_assert_ok(hf_objects_split(slab.data, slab.length, 4, &objects, &count, &err), &err);
    assert_int_equal(count, 4);
    const uint8_t *body = bodies;
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(objects[i].kind, kinds[i]);
        assert_int_equal(objects[i].length, lengths[i]);
        assert_memory_equal(objects[i].bytes, body, lengths[i]);
        body += lengths[i];
    }

    struct hf_object *none = NULL;
    assert_false(hf_objects_split(slab.data, slab.length, 3, &none, &count, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "map slab is damaged: it has 4 objects, the limit is 3");
    assert_null(none);
}

HF_TEST(a_count_of_objects_that_its_bytes_cannot_hold_asks_for_no_memory)
{
    static const uint8_t many[] = {0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 1, 0};
    struct hf_object *objects = NULL;
    struct hf_error err;
    size_t count;
    assert_false(hf_objects_split(many, sizeof many, SIZE_MAX, &objects, &count, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "map slab is damaged: the table of its objects is cut off");
}

HF_TEST(a_table_of_objects_with_any_byte_changed_or_cut_is_refused_or_joins_to_the_same_bytes)
{
    static const uint8_t kinds[] = {1, 2, 3, 1};
    static const size_t lengths[] = {3, 130, 7, 0};
    static uint8_t bodies[140];
    _cleanup_(hf_buf_done) struct hf_buf slab = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_objects_join(kinds, lengths, 4, bodies, sizeof bodies, &slab, &err), &err);

    for (size_t at = 0; at < slab.length; at++) {
        const uint8_t before = slab.data[at];
        for (unsigned change = 0; change < 256; change++) {
            _cleanup_(hf_freep) struct hf_object *objects = NULL;
            size_t count;
            slab.data[at] = before ^ (uint8_t)change;
            if (!hf_objects_split(slab.data, slab.length, SIZE_MAX, &objects, &count, &err)) {
                assert_int_equal(err.kind, HF_ERR_CORRUPT);
                continue;
            }
            _cleanup_(hf_buf_done) struct hf_buf again = HF_BUF_INIT(HF_MIB);
            uint8_t their_kinds[128];
            size_t their_lengths[128], total = 0;
            assert_true(count <= HF_LENGTH(their_kinds));
            for (size_t i = 0; i < count; i++) {
                their_kinds[i] = (uint8_t)objects[i].kind;
                their_lengths[i] = objects[i].length;
                total += objects[i].length;
            }
            hf_assert_ok(hf_objects_join(their_kinds, their_lengths, count, slab.data + slab.length - total, total,
                                         &again, &err),
                         &err);
            assert_int_equal(again.length, slab.length);
            assert_memory_equal(again.data, slab.data, slab.length);
        }
        slab.data[at] = before;

        struct hf_object *objects = NULL;
        size_t count;
        assert_false(hf_objects_split(slab.data, at, SIZE_MAX, &objects, &count, &err));
    }
}
