/*
 * Years of backups in a minute: a tenth of the pages, by chance, changes between one backup and the next; the newest
 * three are kept, and every tenth time there is a collection.  What is held and what a restore has to open stay
 * bounded.
 *
 * An ordinary run does a few backups of a small database; CAMPAIGN_SECONDS makes it a hundred of a larger one
 * (tests/campaign churn).
 */
#include "tests/support/test.h"

#include "server/repository/session.h"
#include "server/restore/restore.h"
#include "tests/support/collecting.h"

#define PAGE          (8 * HF_KIB)
#define KEPT          3
#define COLLECT_EVERY 10
#define CHURN_PERCENT 10

/* What the issue asks for, in hundredths. */
#define OPENED_MOST 200 // plaintext opened for a restore, of the database's bytes
#define HELD_MOST   220 // bytes of all objects, of what the kept backups need

struct churn {
    struct test_vault vault;
    size_t pages;
    uint32_t *versions;   // of each page
    uint32_t *kept[KEPT]; // versions in the kept backups, the newest first
    struct hf_id backups[KEPT];
    uint64_t chance, full_bytes;
};

static uint64_t
draw(struct churn *churn)
{
    churn->chance ^= churn->chance << 13;
    churn->chance ^= churn->chance >> 7;
    churn->chance ^= churn->chance << 17;
    return churn->chance;
}

/* Half of it by chance, half of it words: it compresses to about half, as rows do. */
static void
fill_page(uint8_t *page, size_t number, uint32_t version)
{
    uint64_t at = ((uint64_t)version << 32 | number) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (size_t i = 0; i < PAGE; i += 16) {
        at ^= at << 13;
        at ^= at >> 7;
        at ^= at << 17;
        hf_put_u64(page + i, at);
        memcpy(page + i + 8, "patient ", 8);
    }
}

static void
back_up(struct churn *churn)
{
    static uint8_t page[PAGE];
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    struct hf_session_outcome outcome;
    const struct hf_session_file_info info = {
        .path = "base/1", .kind = HF_FILE_RELATION, .page_log2 = 13, .mode = 0600};
    const struct hf_session_options options = {.source = "clinic",
                                               .operation = "backup",
                                               .signing = &churn->vault.signing,
                                               .cache_folder = churn->vault.cache,
                                               .workers = 2};
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_begin(churn->vault.vault, &options, &session, &err), &err);
    hf_assert_ok(hf_session_folder(session, "", 0700, &err), &err);
    hf_assert_ok(hf_session_folder(session, "base", 0700, &err), &err);
    hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
    for (size_t i = 0; i < churn->pages; i++) {
        fill_page(page, i, churn->versions[i]);
        hf_assert_ok(hf_session_file_write(file, page, PAGE, &err), &err);
    }
    hf_assert_ok(hf_session_file_end(&file, &err), &err);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    if (churn->full_bytes == 0)
        churn->full_bytes = outcome.stored_bytes;

    const struct hf_id oldest = churn->backups[KEPT - 1];
    uint32_t *room = churn->kept[KEPT - 1];
    for (size_t i = KEPT - 1; i > 0; i--) {
        churn->backups[i] = churn->backups[i - 1];
        churn->kept[i] = churn->kept[i - 1];
    }
    churn->backups[0] = outcome.backup;
    churn->kept[0] = room;
    memcpy(room, churn->versions, churn->pages * sizeof *room);
    if (!hf_id_is_none(&oldest))
        hf_assert_ok(collecting_prune(&churn->vault, &oldest, &err), &err);
}

static void
change(struct churn *churn)
{
    for (size_t i = 0; i < churn->pages * CHURN_PERCENT / 100; i++)
        churn->versions[draw(churn) % churn->pages]++;
}

static bool
add_size(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    *(uint64_t *)context += strstr(object->name, "/packs/") != NULL ? object->size : 0;
    return true;
}

/* What the kept backups need, as if it were stored once and tightly: pages they share count once. */
static uint64_t
live_bytes(const struct churn *churn)
{
    uint64_t pages = 0;
    for (size_t i = 0; i < churn->pages; i++)
        for (size_t at = 0; at < KEPT; at++)
            pages += at == 0 || churn->kept[at][i] != churn->kept[at - 1][i];
    return churn->full_bytes * pages / churn->pages;
}

static uint64_t
opened_bytes(struct churn *churn, const char *target)
{
    struct hf_error err;
    struct hf_restore_plan *plan;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    const struct hf_restore_options options = {.workers = 2};
    hf_assert_ok(hf_restore_plan(churn->vault.vault, &churn->backups[0], &options, &plan, &size, &err), &err);
    hf_assert_ok(hf_restore_write(plan, target, &outcome, &err), &err);
    hf_restore_plan_freep(&plan);
    assert_int_equal(outcome.bytes, churn->pages * PAGE);
    return outcome.bytes_opened;
}

HF_TEST(what_is_held_and_what_a_restore_opens_stay_bounded_however_many_backups_there_were)
{
    struct hf_error err;
    const bool campaign = getenv("CAMPAIGN_SECONDS") != NULL;
    const unsigned backups = campaign ? 100 : 30;
    struct churn churn = {.pages = campaign ? 8192 : 1024, .chance = 88172645463325252u};
    struct hf_collect_report report, sum = {0};
    char target[600];
    test_vault_make(&churn.vault, hf_test_folder());
    assert_non_null(churn.versions = calloc(churn.pages, sizeof *churn.versions));
    for (size_t i = 0; i < KEPT; i++)
        assert_non_null(churn.kept[i] = calloc(churn.pages, sizeof *churn.versions));

    uint64_t worst_held = 0;
    for (unsigned n = 1; n <= backups; n++) {
        back_up(&churn);
        change(&churn);
        if (n % COLLECT_EVERY != 0)
            continue;
        struct hf_collect_options options = collecting_options(&churn.vault);
        options.container_bytes = 0;
        uint64_t held = 0;
        hf_assert_ok(collecting_run(&churn.vault, &options, &report, &err), &err);
        hf_assert_ok(hf_backend_list(hf_vault_backend(churn.vault.vault), "vaults/", add_size, &held, &err), &err);
        sum.moved += report.moved;
        sum.container_bytes += report.container_bytes;
        const uint64_t share = held * 100 / live_bytes(&churn);
        worst_held = n > KEPT && share > worst_held ? share : worst_held;
        print_message("# after %u backups: held %llu %% of what is live, %llu %% of one full backup\n", n,
                      (unsigned long long)share, (unsigned long long)(held * 100 / churn.full_bytes));
    }
    snprintf(target, sizeof target, "%s/restored", hf_test_folder());
    const uint64_t opened = opened_bytes(&churn, target) * 100 / (churn.pages * PAGE);
    print_message(
        "# %u backups of %zu MiB, %d %% changed each, %d kept: a restore opens %llu %% of the database, held at "
        "most %llu %% of what is live (after collection); %llu packs were moved\n",
        backups, churn.pages * PAGE / HF_MIB, CHURN_PERCENT, KEPT, (unsigned long long)opened,
        (unsigned long long)worst_held, (unsigned long long)sum.moved);
    collecting_assert_whole(&churn.vault, 0);
    assert_true(opened <= OPENED_MOST);
    assert_true(worst_held <= HELD_MOST);
    for (size_t i = 0; i < KEPT; i++)
        free(churn.kept[i]);
    free(churn.versions);
    test_vault_done(&churn.vault);
}
