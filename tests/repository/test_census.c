#include "tests/support/test.h"

#include "server/repository/census_internal.h"

static struct hf_id packs[600];

static void
number_packs(void)
{
    memset(packs, 0, sizeof packs);
    for (size_t i = 0; i < HF_LENGTH(packs); i++) {
        packs[i].bytes[0] = (uint8_t)(i * 37); // not in the order of their numbers
        packs[i].bytes[1] = (uint8_t)(i >> 8);
        packs[i].bytes[2] = (uint8_t)i;
    }
}

static void
assert_counts(const struct hf_census *census, const struct hf_id *pack, uint32_t slab, unsigned live, unsigned stored)
{
    unsigned got_live, got_stored;
    hf_census_get(census, pack, slab, &got_live, &got_stored);
    assert_int_equal(got_live, live);
    assert_int_equal(got_stored, stored);
}

static bool
into_buffer(void *context, const uint8_t *bytes, size_t length, struct hf_error *err)
{
    return hf_buf_add(context, bytes, length, err);
}

HF_TEST(a_slab_is_as_live_as_its_pages_are)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    number_packs();
    hf_assert_ok(hf_census_new(&census, &err), &err);

    assert_counts(census, &packs[0], 0, 0, 0);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 0), 100);
    hf_assert_ok(hf_census_set_stored(census, &packs[0], 7, 32, &err), &err);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 7), 0);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 7, 5, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 7, 8, &err), &err);
    assert_counts(census, &packs[0], 7, 13, 32);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 7), 40);
    assert_counts(census, &packs[0], 6, 0, 0);
    assert_counts(census, &packs[0], 8, 0, 0);
    assert_counts(census, &packs[1], 7, 0, 0);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 6), 100);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 8), 100);

    hf_assert_ok(hf_census_add_live(census, &packs[0], 7, 30, &err), &err); // files that share pages
    assert_int_equal(hf_census_live_percent(census, &packs[0], 7), 100);
}

HF_TEST(counts_stick_at_255_and_are_then_taken_for_all_live)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    number_packs();
    hf_assert_ok(hf_census_new(&census, &err), &err);

    hf_assert_ok(hf_census_set_stored(census, &packs[0], 0, 254, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 0, 127, &err), &err);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 0), 50);
    hf_assert_ok(hf_census_set_stored(census, &packs[0], 1, 255, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 1, 1, &err), &err);
    assert_counts(census, &packs[0], 1, 1, 255);
    assert_int_equal(hf_census_live_percent(census, &packs[0], 1), 100);
    hf_assert_ok(hf_census_set_stored(census, &packs[0], 2, 4096, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 2, 254, &err), &err);
    assert_counts(census, &packs[0], 2, 254, 255);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 2, UINT32_MAX, &err), &err);
    assert_counts(census, &packs[0], 2, 255, 255);
}

HF_TEST(a_slab_that_no_pack_can_have_is_refused)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    struct hf_error err;
    memset(packs, 0xcd, sizeof packs);
    hf_assert_ok(hf_census_new(&census, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], HF_PACK_SLABS_MOST - 1, 1, &err), &err);
    assert_counts(census, &packs[0], HF_PACK_SLABS_MOST - 1, 1, 0);
    assert_false(hf_census_add_live(census, &packs[0], HF_PACK_SLABS_MOST, 1, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message,
                        "pack \"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd\" cannot have a slab 1048576, the limit is "
                        "1048576 slabs");
}

HF_TEST(a_census_comes_back_without_the_packs_that_nothing_lives_in)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL, *back = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB), again = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    number_packs();
    hf_assert_ok(hf_census_new(&census, &err), &err);
    for (uint32_t i = 0; i < HF_LENGTH(packs); i++) {
        for (uint32_t slab = 0; slab <= i % 100; slab++)
            hf_assert_ok(hf_census_set_stored(census, &packs[i], slab, i % 70 + slab, &err), &err);
        if (i % 3 != 0)
            hf_assert_ok(hf_census_add_live(census, &packs[i], i % 100, 1 + i % 7, &err), &err);
    }

    hf_assert_ok(hf_census_encode(census, into_buffer, &bytes, &err), &err);
    struct hf_reader reader = HF_READER(bytes.data, bytes.length);
    hf_assert_ok(hf_census_decode(&reader, &back, &err), &err);
    assert_true(hf_reader_finished(&reader));
    for (uint32_t i = 0; i < HF_LENGTH(packs); i++)
        for (uint32_t slab = 0; slab <= i % 100; slab++) {
            if (i % 3 != 0)
                assert_counts(back, &packs[i], slab, slab == i % 100 ? 1 + i % 7 : 0, i % 70 + slab);
            else
                assert_counts(back, &packs[i], slab, 0, 0);
        }
    hf_assert_ok(hf_census_encode(back, into_buffer, &again, &err), &err);
    assert_int_equal(again.length, bytes.length);
    assert_memory_equal(again.data, bytes.data, bytes.length);

    hf_assert_ok(hf_census_add_live(back, &packs[1], 5, 1, &err), &err); // and goes on
    assert_counts(back, &packs[1], 5, 1, 0);
}

HF_TEST(a_census_has_the_bytes_that_the_header_file_describes)
{
    _cleanup_(hf_census_freep) struct hf_census *census = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    memset(&packs[0], 0xbb, HF_ID_BYTES);
    memset(&packs[1], 0xaa, HF_ID_BYTES);
    hf_assert_ok(hf_census_new(&census, &err), &err);
    hf_assert_ok(hf_census_set_stored(census, &packs[0], 2, 32, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[0], 0, 300, &err), &err);
    hf_assert_ok(hf_census_add_live(census, &packs[1], 0, 1, &err), &err);
    hf_assert_ok(hf_census_encode(census, into_buffer, &bytes, &err), &err);

    static const uint8_t expected[] = {2,    0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa,
                                       0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 0xaa, 1,    1,    0,    0xbb, 0xbb,
                                       0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb, 0xbb,
                                       0xbb, 0xbb, 0xbb, 3,    255,  0,    0,    0,    0,    32};
    assert_int_equal(bytes.length, sizeof expected);
    assert_memory_equal(bytes.data, expected, sizeof expected);
}

HF_TEST(a_census_that_is_cut_or_out_of_order_is_refused)
{
    static const uint8_t twice[] = {2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1,
                                    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1};
    struct hf_census *census = NULL;
    struct hf_error err;
    for (size_t length = 0; length < sizeof twice; length++) {
        struct hf_reader reader = HF_READER(twice, length);
        assert_false(hf_census_decode(&reader, &census, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_string_equal(err.message, "the census of slabs is cut off");
    }
    struct hf_reader reader = HF_READER(twice, sizeof twice);
    assert_false(hf_census_decode(&reader, &census, &err));
    assert_string_equal(err.message, "the census of slabs is not sorted by pack");
    assert_null(census);
}
