#include "tests/support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "server/care/check.h"
#include "server/care/scrub.h"
#include "server/repository/pack.h"
#include "tests/support/model.h"

#define DAY    INT64_C(86400000)
#define WINDOW (30 * DAY)
#define PACKS  300

static void
make_packs(struct hf_scrub_pack *packs, size_t count, int64_t checked_at)
{
    for (size_t i = 0; i < count; i++)
        packs[i] = (struct hf_scrub_pack){.pack = hf_id_new(), .bytes = 1000, .checked_at = checked_at};
}

HF_TEST(a_pass_is_spread_over_its_window_and_complete_at_its_end)
{
    struct hf_scrub_pack packs[PACKS];
    struct hf_scrub_share share = {.pass_began_at = 100 * DAY, .every_ms = DAY, .window_ms = WINDOW};
    size_t least = PACKS, most = 0, looked_at = 0;
    make_packs(packs, PACKS, 99 * DAY);
    for (int64_t day = 0; day < 30; day++) {
        uint64_t bytes;
        share.now = share.pass_began_at + day * DAY;
        const size_t chosen = hf_scrub_choose(packs, PACKS, &share, &bytes);
        for (size_t i = 0; i < chosen; i++)
            packs[i].checked_at = share.now;
        least = chosen < least ? chosen : least;
        most = chosen > most ? chosen : most;
        looked_at += chosen;
    }
    assert_int_equal(looked_at, PACKS);
    assert_true(least >= PACKS / 30 - 4 && most <= PACKS / 30 + 4);
}

HF_TEST(what_was_missed_is_caught_up_by_the_next_share)
{
    struct hf_scrub_pack packs[PACKS];
    const struct hf_scrub_share late = {
        .pass_began_at = 100 * DAY, .now = 110 * DAY, .every_ms = DAY, .window_ms = WINDOW};
    const struct hf_scrub_share over = {
        .pass_began_at = 100 * DAY, .now = 200 * DAY, .every_ms = DAY, .window_ms = WINDOW};
    uint64_t bytes;
    make_packs(packs, PACKS, 99 * DAY);
    const size_t chosen = hf_scrub_choose(packs, PACKS, &late, &bytes);
    assert_true(chosen > PACKS * 11 / 30 - 3 && chosen < PACKS * 11 / 30 + 3);
    assert_int_equal(hf_scrub_choose(packs, PACKS, &over, &bytes), PACKS);
}

HF_TEST(the_one_that_has_waited_longest_comes_first_new_ones_before_it_and_damaged_ones_before_all)
{
    struct hf_scrub_pack packs[6];
    const int64_t times[] = {50 * DAY, HF_SCRUB_NEVER, 70 * DAY, 40 * DAY, HF_SCRUB_DAMAGED, 60 * DAY};
    const struct hf_scrub_share share = {
        .pass_began_at = 100 * DAY, .now = 100 * DAY, .every_ms = 1, .window_ms = WINDOW};
    uint64_t bytes;
    make_packs(packs, 6, 0);
    for (size_t i = 0; i < 6; i++)
        packs[i].checked_at = times[i];
    /* Nothing is due yet, and still the new one and the damaged one are looked at. */
    assert_int_equal(hf_scrub_choose(packs, 6, &share, &bytes), 2);
    for (size_t i = 1; i < 6; i++)
        assert_true(packs[i - 1].checked_at < packs[i].checked_at);
    const struct hf_scrub_share all = {.pass_began_at = 0, .now = 0, .every_ms = 0, .window_ms = WINDOW, .all = true};
    assert_int_equal(hf_scrub_choose(packs, 6, &all, &bytes), 6);
}

HF_TEST(nothing_is_read_twice_in_a_pass)
{
    struct hf_scrub_pack packs[PACKS];
    const struct hf_scrub_share share = {
        .pass_began_at = 100 * DAY, .now = 500 * DAY, .every_ms = DAY, .window_ms = WINDOW};
    uint64_t bytes;
    make_packs(packs, PACKS, 101 * DAY);
    assert_int_equal(hf_scrub_choose(packs, PACKS, &share, &bytes), 0);
    assert_int_equal(bytes, 0);
}

/* What a check of some packs did, in its order. */
struct seen {
    size_t judged, unsound, damages;
    uint64_t paced;
    struct hf_id order[64];
    atomic_bool cancel;
    size_t cancel_after;
};

static void
pace(void *context, uint64_t bytes)
{
    ((struct seen *)context)->paced += bytes;
}

static void
judged(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound)
{
    struct seen *seen = context;
    assert_false(hf_id_is_none(vault));
    seen->order[seen->judged++] = *pack;
    seen->unsound += !sound;
    if (seen->judged == seen->cancel_after)
        atomic_store(&seen->cancel, true);
}

static void
count_damage(void *context, const struct hf_damage *damage)
{
    assert_false(hf_id_is_none(&damage->pack));
    ((struct seen *)context)->damages++;
}

/* The packs of two backups, in another order than that of their ids. */
static size_t
some_packs(struct test_vault *vault, struct hf_id ids[static 64])
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *log;
    const struct hf_session_options options = model_options(vault);
    for (unsigned i = 0; i < 2; i++) {
        struct model model;
        model_make(&model, HF_MIB, i);
        hf_assert_ok(model_back_up(&model, vault->vault, &options, &outcome, &err), &err);
        model_done(&model);
    }
    hf_assert_ok(hf_vault_read(vault->vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++)
        ids[i] = log->packs[log->pack_count - 1 - i].pack;
    return log->pack_count;
}

static bool
check_some(struct test_vault *vault, const struct hf_id *packs, size_t count, struct seen *seen, struct hf_error *err)
{
    struct hf_check_report report;
    const struct hf_check_options options = {.level = 1,
                                             .vault = &vault->id,
                                             .packs = packs,
                                             .pack_count = count,
                                             .workers = 1,
                                             .cancel = &seen->cancel,
                                             .damage = count_damage,
                                             .context = seen,
                                             .pace = pace,
                                             .judged = judged};
    return hf_repository_check(vault->repository, &options, &report, err);
}

HF_TEST(packs_are_judged_in_the_order_asked_for_and_each_byte_is_paced)
{
    struct test_vault vault;
    struct hf_id ids[64];
    struct hf_error err;
    struct seen seen = {0};
    const struct hf_vault_state *log;
    uint64_t bytes = 0;
    test_vault_make(&vault, hf_test_folder());
    const size_t count = some_packs(&vault, ids);
    hf_assert_ok(check_some(&vault, ids, count, &seen, &err), &err);
    assert_int_equal(seen.judged, count);
    assert_int_equal(seen.unsound, 0);
    assert_memory_equal(seen.order, ids, count * sizeof *ids);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++)
        bytes += log->packs[i].bytes;
    assert_int_equal(seen.paced, bytes);
    test_vault_done(&vault);
}

HF_TEST(a_lost_pack_is_unsound_and_hides_no_other_and_one_that_is_no_longer_kept_is_left_out)
{
    struct test_vault vault;
    struct hf_id ids[64];
    struct hf_error err;
    struct seen seen = {0};
    char name[HF_PACK_NAME_BYTES];
    test_vault_make(&vault, hf_test_folder());
    const size_t count = some_packs(&vault, ids);
    hf_assert_ok(hf_backend_delete(hf_vault_backend(vault.vault), hf_pack_name(&vault.id, &ids[0], name), &err), &err);
    ids[count] = hf_id_new();
    hf_assert_ok(check_some(&vault, ids, count + 1, &seen, &err), &err);
    assert_int_equal(seen.judged, count);
    assert_int_equal(seen.unsound, 1);
    assert_int_equal(seen.damages, 1);
    test_vault_done(&vault);
}

HF_TEST(what_was_judged_before_a_cancel_stays_judged_and_nothing_else_is)
{
    struct test_vault vault;
    struct hf_id ids[64];
    struct hf_error err;
    struct seen seen = {.cancel_after = 2};
    test_vault_make(&vault, hf_test_folder());
    const size_t count = some_packs(&vault, ids);
    assert_true(count > 2);
    assert_false(check_some(&vault, ids, count, &seen, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    assert_int_equal(seen.judged, 2);
    test_vault_done(&vault);
}

HF_TEST(storage_that_went_away_is_no_damage)
{
    struct test_vault vault;
    struct hf_id ids[64];
    struct hf_error err;
    struct seen seen = {0};
    char from[600], to[600], packs_from[700], packs_to[700], text[HF_ID_TEXT_BYTES];
    test_vault_make(&vault, hf_test_folder());
    const size_t count = some_packs(&vault, ids);
    snprintf(from, sizeof from, "%s/" HF_SUPERBLOCK_NAME, vault.place);
    snprintf(to, sizeof to, "%s/aside", vault.place);
    snprintf(packs_from, sizeof packs_from, "%s/vaults/%s/packs", vault.place, hf_id_format(&vault.id, text));
    snprintf(packs_to, sizeof packs_to, "%s/packs-aside", vault.place);
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(rename(packs_from, packs_to), 0);
    assert_false(check_some(&vault, ids, count, &seen, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.message, "the repository went away during the check"));
    assert_int_equal(seen.damages, 0);
    test_vault_done(&vault);
}
