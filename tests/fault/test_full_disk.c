/* A disk that fills up in the middle of a backup, at one place after the other: the repository's, then the cache's. */
#include "tests/support/test.h"

#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "tests/support/collecting.h"
#include "tests/support/disk.h"
#include "tests/support/model.h"

#define MODEL_BYTES (12 * HF_MIB)
#define EVER_SINCE  200 // generations later every page has changed
#define PLENTY      (64 * HF_MIB)
#define BLOCK       ((size_t)4096)
#define ROOM_BLOCKS 8

/* What a failed session may leave in the repository: its INTENT and ABORT, each a block and a name. */
#define ENTRIES_BYTES (32 * HF_KIB)

/* A repository in its own small file system, with one backup. */
struct small {
    const char *folder; // scratch, elsewhere
    char disk[64];
    struct test_vault vault;
    struct model before, after;
    struct hf_id first;
    size_t stored_bytes; // of a backup that shares nothing with the first
};

static uint64_t
used_bytes(const char *disk)
{
    struct statvfs status;
    assert_int_equal(statvfs(disk, &status), 0);
    return (uint64_t)(status.f_blocks - status.f_bfree) * status.f_frsize;
}

/* Block by block at both ends, where it is the log's turn, and every MiB between. */
static size_t
next_room(size_t room, size_t stored_bytes)
{
    const size_t last = (stored_bytes - ROOM_BLOCKS * BLOCK) & ~(BLOCK - 1);
    if (room < ROOM_BLOCKS * BLOCK || room >= last)
        return room + BLOCK;
    const size_t next = (room / HF_MIB + 1) * HF_MIB;
    return next < last ? next : last;
}

static bool
small_make(struct small *small)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    small->folder = hf_test_folder();
    snprintf(small->disk, sizeof small->disk, "%s/disk", small->folder);
    assert_int_equal(mkdir(small->disk, 0700), 0);
    if (!test_disk_mount_small(small->disk, PLENTY))
        return false;
    test_vault_make(&small->vault, small->disk);
    snprintf(small->vault.cache, sizeof small->vault.cache, "%s/cache", small->folder);
    assert_int_equal(mkdir(small->vault.cache, 0700), 0);
    model_make(&small->before, MODEL_BYTES, 0);
    model_make(&small->after, MODEL_BYTES, EVER_SINCE);
    const struct hf_session_options options = model_options(&small->vault);
    hf_assert_ok(model_back_up(&small->before, small->vault.vault, &options, &outcome, &err), &err);
    small->first = outcome.backup;
    small->stored_bytes = outcome.stored_bytes;
    return true;
}

static void
small_done(struct small *small)
{
    model_done(&small->before);
    model_done(&small->after);
    test_vault_done(&small->vault);
    test_disk_unmount(small->disk);
}

HF_TEST(a_full_repository_aborts_the_backup_frees_its_packs_and_says_what_to_do)
{
    struct small small;
    struct hf_error err;
    struct hf_session_outcome outcome;
    char expected[700];
    size_t failed = 0;
    if (!small_make(&small))
        HF_TEST_SKIP("this host lets us mount nothing");
    snprintf(expected, sizeof expected, "repository \"%s\" is full: could not ", small.vault.place);

    for (size_t room = 0;; room = next_room(room, small.stored_bytes)) {
        const uint64_t used = used_bytes(small.disk);
        test_disk_resize(small.disk, used + room);
        test_vault_reopen(&small.vault);
        const struct hf_session_options options = model_options(&small.vault);
        const bool ok = model_back_up(&small.after, small.vault.vault, &options, &outcome, &err);
        if (ok)
            break;
        print_message("# %zu bytes left: %s\n", room, err.message);
        assert_int_equal(err.kind, HF_ERR_NO_SPACE);
        assert_true(strncmp(err.message, expected, strlen(expected)) == 0);
        assert_string_equal(err.hint,
                            "Free space there or shorten the retention, then take the backup again: what this "
                            "one had written is removed, and earlier backups are untouched.");
        assert_true(used_bytes(small.disk) <= used + ENTRIES_BYTES);
        model_assert_restores(&small.before, small.vault.vault, &small.first, small.folder);
        failed++;
    }
    assert_true(failed > 2 * ROOM_BLOCKS + 2);

    model_assert_restores(&small.after, small.vault.vault, &outcome.backup, small.folder);
    model_assert_restores(&small.before, small.vault.vault, &small.first, small.folder);
    test_disk_resize(small.disk, PLENTY);
    struct hf_check_report report;
    const struct hf_check_options check = {.level = 2, .workers = 2};
    hf_assert_ok(hf_repository_check(small.vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
    small_done(&small);
}

/*
 * Pruning and collecting, with so much room left.  What must be true after each failure: it says that the disk is full, nearly
 * nothing of it stays behind, and what is kept restores.
 */
HF_TEST(pruning_and_collecting_on_a_full_disk_fail_clearly_lose_nothing_and_go_on_when_there_is_room)
{
    struct small small;
    struct hf_error err;
    struct hf_session_outcome outcome;
    struct hf_collect_report report;
    size_t refused_prunes = 0, failed = 0;
    bool pruned = false, freed = false, done = false;
    if (!small_make(&small))
        HF_TEST_SKIP("this host lets us mount nothing");
    struct hf_session_options options = model_options(&small.vault);
    options.ageing_percent = 1;
    // Half of the first backup's pages live on in the second: its packs are worth moving.
    memcpy(small.after.files[0].bytes, small.before.files[0].bytes, small.before.files[0].size / 2);
    hf_assert_ok(model_back_up(&small.after, small.vault.vault, &options, &outcome, &err), &err);

    for (size_t room = 0; !done; room += room < ROOM_BLOCKS * BLOCK ? BLOCK : HF_MIB) {
        test_disk_resize(small.disk, used_bytes(small.disk) + room);
        const uint64_t used = used_bytes(small.disk);
        test_vault_reopen(&small.vault);
        const struct hf_collect_options how = collecting_options(&small.vault);
        const bool tried = pruned;
        pruned = pruned || collecting_prune(&small.vault, &small.first, &err);
        done = pruned && collecting_run(&small.vault, &how, &report, &err);
        if (!done) {
            print_message("# %zu bytes left, %s: %s\n", room, pruned ? "collecting" : "pruning", err.message);
            assert_int_equal(err.kind, HF_ERR_NO_SPACE);
            assert_non_null(strstr(err.message, "No space left on device"));
            assert_true(!pruned || strstr(err.hint, "run it again; what it has freed stays free") != NULL);
            assert_true(used_bytes(small.disk) <= used + ENTRIES_BYTES);
        }
        refused_prunes += !pruned;
        failed += tried && !done;
        freed = freed || used_bytes(small.disk) < used;
        model_assert_restores(&small.after, small.vault.vault, &outcome.backup, small.folder);
        assert_true(room < PLENTY);
    }
    assert_true(refused_prunes > 0 && failed > 0 && freed);
    assert_true(report.containers > 0);

    test_disk_resize(small.disk, PLENTY);
    test_vault_reopen(&small.vault);
    const struct hf_collect_options how = collecting_options(&small.vault);
    hf_assert_ok(collecting_run(&small.vault, &how, &report, &err), &err);
    collecting_assert_whole(&small.vault, 0);
    model_assert_restores(&small.after, small.vault.vault, &outcome.backup, small.folder);
    small_done(&small);
}

HF_TEST(the_next_backup_works_as_soon_as_there_is_room)
{
    struct small small;
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *known;
    if (!small_make(&small))
        HF_TEST_SKIP("this host lets us mount nothing");
    test_disk_resize(small.disk, used_bytes(small.disk) + HF_MIB);
    const struct hf_session_options options = model_options(&small.vault);
    assert_false(model_back_up(&small.after, small.vault.vault, &options, &outcome, &err));
    test_disk_resize(small.disk, PLENTY);
    hf_assert_ok(model_back_up(&small.after, small.vault.vault, &options, &outcome, &err), &err);
    model_assert_restores(&small.after, small.vault.vault, &outcome.backup, small.folder);
    hf_assert_ok(hf_vault_read(small.vault.vault, NULL, NULL, &known, &err), &err);
    assert_int_equal(known->session_count, 3);
    assert_int_equal(known->sessions[1].state, HF_SESSION_ABORTED);
    small_done(&small);
}

/* How many pages the next backup of the same content stores: all of them when it knows of no parent. */
static uint64_t
pages_stored_again(struct test_vault *vault, const struct model *model)
{
    struct hf_error err;
    struct hf_session *session;
    const struct hf_session_options options = model_options(vault);
    hf_assert_ok(hf_session_begin(vault->vault, &options, &session, &err), &err);
    hf_assert_ok(model_hand_over(model, session, &err), &err);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    const uint64_t stored = hf_session_counts(session)->pages_stored;
    hf_session_abort(&session, "tested");
    return stored;
}

/* Tags are written when many have come together: so that a small backup meets it, the writer itself fails here. */
static bool tags_fail, files_fail;

bool __real_hf_tag_cache_writer_tags(struct hf_tag_cache_writer *writer, const uint8_t *tags, uint32_t pages,
                                     uint64_t *ret_frame, struct hf_error *err);
bool __wrap_hf_tag_cache_writer_tags(struct hf_tag_cache_writer *writer, const uint8_t *tags, uint32_t pages,
                                     uint64_t *ret_frame, struct hf_error *err);
bool
__wrap_hf_tag_cache_writer_tags(struct hf_tag_cache_writer *writer, const uint8_t *tags, uint32_t pages,
                                uint64_t *ret_frame, struct hf_error *err)
{
    return tags_fail ? hf_fail(err, HF_ERR_NO_SPACE, "the tags do not fit")
                     : __real_hf_tag_cache_writer_tags(writer, tags, pages, ret_frame, err);
}

bool __real_hf_tag_cache_writer_file(struct hf_tag_cache_writer *writer, const struct hf_cached_file *file,
                                     struct hf_error *err);
bool __wrap_hf_tag_cache_writer_file(struct hf_tag_cache_writer *writer, const struct hf_cached_file *file,
                                     struct hf_error *err);
bool
__wrap_hf_tag_cache_writer_file(struct hf_tag_cache_writer *writer, const struct hf_cached_file *file,
                                struct hf_error *err)
{
    return files_fail ? hf_fail(err, HF_ERR_NO_SPACE, "the files do not fit")
                      : __real_hf_tag_cache_writer_file(writer, file, err);
}

HF_TEST(tags_that_cannot_be_written_in_the_middle_cost_the_cache_and_not_the_backup)
{
    const char *folder = hf_test_folder();
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session_outcome outcome;
    test_vault_make(&vault, folder);
    model_make(&model, MODEL_BYTES, 0);
    const struct hf_session_options options = model_options(&vault);
    for (int round = 0; round < 2; round++) {
        tags_fail = round == 0;
        files_fail = round == 1;
        hf_assert_ok(model_back_up(&model, vault.vault, &options, &outcome, &err), &err);
        assert_string_equal(outcome.no_tags, round == 0 ? "the tags do not fit" : "the files do not fit");
        tags_fail = files_fail = false;
        model_assert_restores(&model, vault.vault, &outcome.backup, folder);
        assert_int_equal(pages_stored_again(&vault, &model), 0); // made anew from the packs
    }
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_full_cache_folder_costs_the_cache_and_not_the_backup)
{
    const char *folder = hf_test_folder();
    struct test_vault vault;
    struct model before, after;
    struct hf_error err;
    struct hf_session_outcome outcome;
    size_t lost = 0;
    test_vault_make(&vault, folder);
    model_make(&before, MODEL_BYTES, 0);
    model_make(&after, MODEL_BYTES, 1);
    if (!test_disk_mount_small(vault.cache, PLENTY))
        HF_TEST_SKIP("this host lets us mount nothing");
    const struct hf_session_options options = model_options(&vault);
    hf_assert_ok(model_back_up(&before, vault.vault, &options, &outcome, &err), &err);
    assert_string_equal(outcome.no_tags, "");

    for (size_t room = 0;; room += 4096) {
        test_disk_resize(vault.cache, used_bytes(vault.cache) + room);
        hf_assert_ok(model_back_up(&after, vault.vault, &options, &outcome, &err), &err);
        model_assert_restores(&after, vault.vault, &outcome.backup, folder);
        if (outcome.no_tags[0] == '\0')
            break;
        assert_non_null(strstr(outcome.no_tags, "No space left on device"));
        lost++;
        test_disk_resize(vault.cache, PLENTY);
        assert_int_equal(pages_stored_again(&vault, &after), 0); // made anew from the packs
    }
    assert_true(lost >= 2);
    assert_int_equal(pages_stored_again(&vault, &after), 0);
    test_disk_unmount(vault.cache);
    model_done(&before);
    model_done(&after);
    test_vault_done(&vault);
}
