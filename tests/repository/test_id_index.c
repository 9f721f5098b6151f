#include "tests/support/test.h"

#include "server/repository/id_index.h"

#define MANY 5000

static struct hf_id ids[MANY];

/* Ids that differ in few bits, as an adversary or a counter would make them. */
static void
number_ids(void)
{
    memset(ids, 0, sizeof ids);
    for (size_t i = 0; i < MANY; i++) {
        ids[i].bytes[15] = (uint8_t)i;
        ids[i].bytes[14] = (uint8_t)(i >> 8);
    }
}

HF_TEST(every_id_is_found_at_its_place_and_no_other_is)
{
    _cleanup_(hf_id_index_done) struct hf_id_index index = {0};
    struct hf_error err;
    number_ids();

    for (size_t count = 0; count < MANY; count++) {
        assert_true(hf_id_index_find(&index, ids, count, &ids[count]) == HF_ID_INDEX_NONE);
        hf_assert_ok(hf_id_index_add(&index, ids, count, &err), &err);
        assert_int_equal(hf_id_index_find(&index, ids, count + 1, &ids[count]), count);
        assert_int_equal(hf_id_index_find(&index, ids, count + 1, &ids[count / 2]), count / 2);
    }
    for (size_t i = 0; i < MANY; i++)
        assert_int_equal(hf_id_index_find(&index, ids, MANY, &ids[i]), i);
}

HF_TEST(an_array_that_starts_again_has_forgotten_its_old_ids)
{
    _cleanup_(hf_id_index_done) struct hf_id_index index = {0};
    struct hf_error err;
    number_ids();

    for (size_t most = 1; most < 200; most += 13) {
        for (size_t count = 0; count < most; count++)
            hf_assert_ok(hf_id_index_add(&index, ids + most, count, &err), &err);
        for (size_t i = 0; i < most; i++) {
            assert_int_equal(hf_id_index_find(&index, ids + most, most, &ids[most + i]), i);
            assert_true(hf_id_index_find(&index, ids + most, most, &ids[i]) == HF_ID_INDEX_NONE);
        }
    }
}

HF_TEST(an_id_that_stands_twice_is_noticed_wherever_it_stands)
{
    struct hf_error err;
    for (size_t count = 2; count < 40; count++) {
        for (size_t twin = 1; twin < count; twin++) {
            _cleanup_(hf_id_index_done) struct hf_id_index index = {0};
            bool distinct = true;
            number_ids();
            ids[twin] = ids[twin / 2];
            hf_assert_ok(hf_id_index_fill(&index, ids, count, &distinct, &err), &err);
            assert_false(distinct);
        }
        _cleanup_(hf_id_index_done) struct hf_id_index index = {0};
        bool distinct = false;
        number_ids();
        hf_assert_ok(hf_id_index_fill(&index, ids, count, &distinct, &err), &err);
        assert_true(distinct);
    }
}
