/* What is remembered of a copy, and what the status makes of it. */
#include "tests/support/test.h"

#include "server/job/second_places.h"

#define HOUR INT64_C(3600000)
#define NOON (INT64_C(20000) * 24 * HOUR)

static char *places[] = {"/second", "ssh://host/third", NULL};
static struct hf_settings settings = {.second_place = {.at = places, .oldest_ms = 2 * HOUR}};

static struct hf_catalog *
open_catalog(void)
{
    struct hf_error err;
    struct hf_catalog *catalog;
    char path[300];
    snprintf(path, sizeof path, "%s/catalog.db", hf_test_folder());
    hf_assert_ok(hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, &err), &err);
    return catalog;
}

/* One entry of a vault's log, so that there is something to be behind of. */
static void
add_entry(struct hf_catalog *catalog, const struct hf_id *vault, uint64_t sequence)
{
    struct hf_error err;
    char hash[65];
    memset(hash, 'a', 64);
    hash[64] = '\0';
    _cleanup_(hf_json_freep) json_t *part = sequence == 1
                                                ? json_pack("{s:s, s:s}", "engine", "house", "lineage", hash)
                                                : json_pack("{s:i, s:s}", "sequence", (int)sequence - 1, "head", hash);
    struct hf_catalog_entry entry = {.vault = *vault,
                                     .sequence = sequence,
                                     .kind = sequence == 1 ? "LINEAGE" : "CHECKPOINT",
                                     .time = NOON,
                                     .appliance = hf_id_new(),
                                     .counts = true,
                                     .public_part = part};
    hf_assert_ok(hf_catalog_apply(catalog, &entry, &err), &err);
}

static void
keep(struct hf_catalog *catalog, const char *place, const struct hf_id *vault, int sequence, bool complete, int64_t now)
{
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *row =
        json_pack("{s:{s:i}, s:s, s:i, s:b}", "heads", hf_id_format(vault, text), sequence, "durability", "synced",
                  "problem_count", complete ? 0 : 1, "complete", (int)complete);
    hf_assert_ok(hf_second_place_keep(catalog, place, row, NULL, now, &err), &err);
}

static void
assert_states(struct hf_catalog *catalog, int64_t now, const char *first, int behind, const char *second, bool bad)
{
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *list = NULL;
    bool found;
    hf_assert_ok(hf_second_places_status(catalog, &settings, now, &list, &found, &err), &err);
    const json_t *row = json_array_get(list, 0);
    assert_string_equal(json_string_value(json_object_get(row, "state")), first);
    assert_int_equal(json_integer_value(json_object_get(row, "behind")), behind);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "state")), second);
    assert_int_equal(found, bad);
}

HF_TEST(a_copy_is_bad_news_while_it_was_never_whole_when_its_last_run_failed_and_when_it_is_too_old)
{
    struct hf_error err, why;
    const struct hf_id vault = hf_id_new();
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = open_catalog();
    int64_t tried;
    add_entry(catalog, &vault, 1);
    add_entry(catalog, &vault, 2);
    hf_assert_ok(hf_second_places_tried_at(catalog, &settings, &tried, &err), &err);
    assert_int_equal(tried, -1);
    assert_states(catalog, NOON, "never", 2, "never", true);

    keep(catalog, places[0], &vault, 1, false, NOON); // it left something out
    assert_states(catalog, NOON, "never", 1, "never", true);
    keep(catalog, places[0], &vault, 2, true, NOON);
    keep(catalog, places[1], &vault, 2, true, NOON + HOUR);
    hf_assert_ok(hf_second_places_tried_at(catalog, &settings, &tried, &err), &err);
    assert_int_equal(tried, NOON + HOUR);
    assert_states(catalog, NOON + HOUR, "current", 0, "current", false);
    // Nothing has happened since; but nobody has seen it since, either.
    assert_states(catalog, NOON + 24 * HOUR, "late", 0, "late", true);

    add_entry(catalog, &vault, 3);
    assert_states(catalog, NOON + 2 * HOUR, "current", 1, "current", false);
    assert_states(catalog, NOON + 2 * HOUR + 1, "late", 1, "current", true);
    settings.second_place.oldest_ms = 0; // off
    assert_states(catalog, NOON + 240 * HOUR, "current", 1, "current", false);
    settings.second_place.oldest_ms = 2 * HOUR;

    // A run that fails leaves what was known, and is told of until one succeeds.
    hf_fail(&why, HF_ERR_UNAVAILABLE, "the host does not answer");
    hf_assert_ok(hf_second_place_keep(catalog, places[0], NULL, &why, NOON + 2 * HOUR, &err), &err);
    assert_states(catalog, NOON + 2 * HOUR, "failed", 1, "current", true);
    keep(catalog, places[0], &vault, 3, true, NOON + 2 * HOUR);
    keep(catalog, places[1], &vault, 3, true, NOON + 2 * HOUR);
    assert_states(catalog, NOON + 2 * HOUR, "current", 0, "current", false);
}

HF_TEST(without_a_second_place_there_is_nothing_to_tell)
{
    struct hf_error err;
    const struct hf_settings none = {0};
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = open_catalog();
    _cleanup_(hf_json_freep) json_t *list = NULL;
    bool bad;
    hf_assert_ok(hf_second_places_status(catalog, &none, NOON, &list, &bad, &err), &err);
    assert_int_equal(json_array_size(list), 0);
    assert_false(bad);
}
