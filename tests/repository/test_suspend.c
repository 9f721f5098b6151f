/* A session that was cut off by its source, and the next one, which stores only what was missing. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "tests/support/model.h"

#define SMALL (3 * HF_MIB)
#define LARGE (72 * HF_MIB) // its first file has more than one leaf

#define KILLS             12
#define SUSPEND_MOST_US   5000
#define READER_TIMEOUT_MS 120000

struct place {
    const char *folder;
    struct test_vault vault;
};

static void
place_make(struct place *place)
{
    place->folder = hf_test_folder();
    test_vault_make(&place->vault, place->folder);
}

static const char *
in_cache(struct place *place, const char *suffix)
{
    static char path[700];
    char text[HF_ID_TEXT_BYTES];
    snprintf(path, sizeof path, "%s/%s%s", place->vault.cache, hf_id_format(&place->vault.id, text), suffix);
    return path;
}

/* Begins a session and hands over the first `percent` of the model's bytes, in the middle of a file or not. */
static struct hf_session *
begin_part(struct place *place, const struct model *model, unsigned percent)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    size_t left = model_bytes(model) / 100 * percent;
    const struct hf_session_options options = model_options(&place->vault);
    hf_assert_ok(hf_session_begin(place->vault.vault, &options, &session, &err), &err);
    for (size_t i = 0; i < MODEL_FILES && left > 0; i++) {
        const size_t part = left < model->files[i].size ? left : model->files[i].size;
        hf_assert_ok(model_hand_over_file(&model->files[i], part, session, &file, &err), &err);
        left -= part;
    }
    hf_assert_ok(hf_session_flush(session, &err), &err);
    return session;
}

/* Returns how many pages it had stored. */
static uint64_t
cut_at(struct place *place, const struct model *model, unsigned percent)
{
    struct hf_session *session = begin_part(place, model, percent);
    const uint64_t stored = hf_session_counts(session)->pages_stored;
    assert_true(hf_session_suspend(&session, "source_failed"));
    assert_null(session);
    test_vault_reopen(&place->vault);
    return stored;
}

/* A whole backup, compared with the model; returns how many pages it stored because they were not stored before. */
static uint64_t
back_up(struct place *place, const struct model *model, struct hf_id *ret_backup)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    const struct hf_session_options options = model_options(&place->vault);
    hf_assert_ok(hf_session_begin(place->vault.vault, &options, &session, &err), &err);
    hf_assert_ok(model_hand_over(model, session, &err), &err);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    const struct hf_session_counts *counts = hf_session_counts(session);
    const uint64_t stored = counts->pages_stored - counts->pages_aged;
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    test_vault_reopen(&place->vault);
    model_assert_restores(model, place->vault.vault, &outcome.backup, place->folder);
    if (ret_backup != NULL)
        *ret_backup = outcome.backup;
    return stored;
}

/* What a backup of the model stores that builds on nothing. */
static uint64_t
pages_of(const struct model *model)
{
    struct place other;
    place_make(&other);
    const uint64_t stored = back_up(&other, model, NULL);
    test_vault_done(&other.vault);
    return stored;
}

static const struct hf_vault_state *
state_of(struct place *place)
{
    struct hf_error err;
    const struct hf_vault_state *known;
    hf_assert_ok(hf_vault_read(place->vault.vault, NULL, NULL, &known, &err), &err);
    return known;
}

static void
assert_sessions(struct place *place, const enum hf_session_state *states, size_t count)
{
    const struct hf_vault_state *known = state_of(place);
    assert_int_equal(known->session_count, count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(known->sessions[i].state, states[i]);
}
#define ASSERT_SESSIONS(place, ...)                                                                                    \
    assert_sessions(place, (const enum hf_session_state[]){__VA_ARGS__},                                               \
                    HF_LENGTH(((const enum hf_session_state[]){__VA_ARGS__})))

static void
print_damage(void *context, const struct hf_damage *damage)
{
    (void)context;
    print_message("# %s\n", damage->message);
}

/* No damage; after a collection nothing lies about, neither in the store nor in the cache folder. */
static void
assert_tidy(struct place *place)
{
    struct hf_error err;
    struct hf_check_report report;
    struct hf_collect_report collected;
    const struct hf_check_options check = {.level = 2, .workers = 2, .damage = print_damage};
    hf_assert_ok(hf_repository_check(place->vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    hf_assert_ok(hf_repository_collect(place->vault.repository, &collected, &err), &err);
    assert_int_equal(collected.kept_open, 0);
    hf_assert_ok(hf_repository_check(place->vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
    assert_int_not_equal(access(in_cache(place, ".partial"), F_OK), 0);
    assert_int_not_equal(access(in_cache(place, ".partial.json"), F_OK), 0);
}

static void
cut_and_go_on(unsigned percent)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, LARGE, 0);
    const uint64_t all = pages_of(&model);

    const uint64_t before = cut_at(&place, &model, percent);
    ASSERT_SESSIONS(&place, HF_SESSION_OPEN);
    assert_true(before > all * (percent - 10) / 100);
    const uint64_t after = back_up(&place, &model, NULL);
    assert_int_equal(before + after, all);

    ASSERT_SESSIONS(&place, HF_SESSION_ENDED, HF_SESSION_COMMITTED);
    const struct hf_vault_state *known = state_of(&place);
    assert_true(hf_id_equal(&known->sessions[1].builds_on, &known->sessions[0].session));
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(after_a_cut_at_50_percent_the_next_backup_stores_only_what_was_missing)
{
    cut_and_go_on(50);
}

HF_TEST(after_a_cut_at_90_percent_the_next_backup_stores_only_what_was_missing)
{
    cut_and_go_on(90);
}

/* The stretch in which the cut lies is compared with the earlier backup: what of it had changed is stored again. */
HF_TEST(a_cut_backup_that_has_a_parent_costs_at_most_one_stretch)
{
    struct place place;
    struct model first, second;
    place_make(&place);
    model_make(&first, LARGE, 0);
    model_make(&second, LARGE, 1);
    back_up(&place, &first, NULL);
    struct hf_session *whole = begin_part(&place, &second, 100);
    const uint64_t all = hf_session_counts(whole)->pages_stored;
    hf_session_abort(&whole, "measured");

    const uint64_t before = cut_at(&place, &second, 63); // a fifth into the second file, which has one stretch
    assert_true(before > 0);
    const uint64_t after = back_up(&place, &second, NULL);
    assert_true(before + after >= all);
    assert_true(before + after <= all + second.files[1].size / 8192 / 8); // about a tenth of its pages changed
    ASSERT_SESSIONS(&place, HF_SESSION_COMMITTED, HF_SESSION_ABORTED, HF_SESSION_ENDED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    assert_int_equal(back_up(&place, &second, NULL), 0); // and the backup that was put together is a parent like any
    model_done(&first);
    model_done(&second);
    test_vault_done(&place.vault);
}

/* Slabs that were taken over thin out and are stored again like others: their sizes are known. */
HF_TEST(what_was_taken_over_ages_like_everything_else)
{
    struct place place;
    struct model model;
    struct hf_error err;
    uint64_t aged = 0;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    place_make(&place);
    model_make(&model, SMALL, 0);
    const uint64_t taken_over = cut_at(&place, &model, 99);
    back_up(&place, &model, NULL);
    struct hf_session_options options = model_options(&place.vault);
    options.ageing_budget_percent = 100;
    for (unsigned generation = 1; generation <= 15; generation++) {
        struct hf_session *session;
        struct hf_session_outcome outcome;
        model_done(&model);
        model_make(&model, SMALL, generation);
        hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
        hf_assert_ok(model_hand_over(&model, session, &err), &err);
        hf_assert_ok(hf_session_flush(session, &err), &err);
        aged += hf_session_counts(session)->pages_aged;
        hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    }
    assert_true(aged > taken_over / 8); // a fifth of the pages never changed in so many generations
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(what_changed_since_the_cut_is_stored_and_the_backup_is_of_now)
{
    struct place place;
    struct model then, now;
    place_make(&place);
    model_make(&then, SMALL, 0);
    model_make(&now, SMALL, 5);
    cut_at(&place, &then, 80);
    back_up(&place, &now, NULL);
    assert_tidy(&place);
    model_done(&then);
    model_done(&now);
    test_vault_done(&place.vault);
}

/* All that was stored is of another content: none of its packs is taken over, and collection frees them. */
HF_TEST(packs_that_turn_out_to_be_of_no_use_are_freed)
{
    struct place place;
    struct model then, now;
    struct hf_error err;
    struct hf_collect_report collected;
    place_make(&place);
    model_make(&then, SMALL, 0);
    model_make(&now, SMALL, 0);
    for (size_t i = 0; i < MODEL_FILES; i++)
        for (size_t at = 0; at < now.files[i].size; at += 4096)
            now.files[i].bytes[at] ^= 0xff;
    cut_at(&place, &then, 90);
    back_up(&place, &now, NULL);
    hf_assert_ok(hf_repository_collect(place.vault.repository, &collected, &err), &err);
    assert_int_equal(collected.packs, 2); // data and maps of the first
    assert_tidy(&place);
    model_done(&then);
    model_done(&now);
    test_vault_done(&place.vault);
}

HF_TEST(collection_leaves_the_packs_of_a_suspended_session_alone)
{
    struct place place;
    struct model model;
    struct hf_error err;
    struct hf_collect_report collected;
    place_make(&place);
    model_make(&model, SMALL, 0);
    const uint64_t all = pages_of(&model), before = cut_at(&place, &model, 60);
    hf_assert_ok(hf_repository_collect(place.vault.repository, &collected, &err), &err);
    assert_int_equal(collected.packs, 0);
    assert_int_equal(collected.kept_open, 2);
    assert_int_equal(back_up(&place, &model, NULL), all - before);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(a_session_may_be_cut_off_again_and_again)
{
    struct place place;
    struct model model;
    uint64_t stored = 0;
    place_make(&place);
    model_make(&model, SMALL, 0);
    for (unsigned percent = 20; percent <= 80; percent += 20)
        stored += cut_at(&place, &model, percent);
    stored += back_up(&place, &model, NULL);
    assert_int_equal(stored, pages_of(&model));
    ASSERT_SESSIONS(&place, HF_SESSION_ENDED, HF_SESSION_ENDED, HF_SESSION_ENDED, HF_SESSION_ENDED,
                    HF_SESSION_COMMITTED);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(of_two_cuts_the_one_that_got_further_is_kept)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, SMALL, 0);
    const uint64_t all = pages_of(&model), before = cut_at(&place, &model, 80);
    struct hf_session *shorter = begin_part(&place, &model, 30);
    assert_false(hf_session_suspend(&shorter, "source_failed"));
    ASSERT_SESSIONS(&place, HF_SESSION_OPEN, HF_SESSION_ABORTED);
    assert_int_equal(back_up(&place, &model, NULL), all - before);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(a_session_that_builds_on_a_suspended_one_and_fails_leaves_it_to_the_next)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, SMALL, 0);
    const uint64_t all = pages_of(&model), before = cut_at(&place, &model, 80);
    struct hf_session *failing = begin_part(&place, &model, 90);
    hf_session_abort(&failing, "failed");
    assert_int_equal(back_up(&place, &model, NULL), all - before);
    ASSERT_SESSIONS(&place, HF_SESSION_ENDED, HF_SESSION_ABORTED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(a_session_that_had_stored_nothing_is_aborted)
{
    struct place place;
    struct hf_error err;
    struct hf_session *session;
    place_make(&place);
    const struct hf_session_options options = model_options(&place.vault);
    hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
    assert_false(hf_session_suspend(&session, "source_failed"));
    assert_null(session);
    ASSERT_SESSIONS(&place, HF_SESSION_ABORTED);
    assert_tidy(&place);
    test_vault_done(&place.vault);
}

HF_TEST(a_session_without_a_cache_folder_is_aborted)
{
    struct place place;
    struct model model;
    struct hf_error err;
    struct hf_session *session;
    place_make(&place);
    model_make(&model, SMALL, 0);
    struct hf_session_options options = model_options(&place.vault);
    options.cache_folder = NULL;
    hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
    hf_assert_ok(model_hand_over(&model, session, &err), &err);
    assert_false(hf_session_suspend(&session, "source_failed"));
    ASSERT_SESSIONS(&place, HF_SESSION_ABORTED);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

/* The note says that packs are there: they, and their names, must be durable before it is. */
static char note_to_come[700];
static unsigned barriers_before_note;

bool __real_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool __wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool
__wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err)
{
    barriers_before_note += note_to_come[0] != '\0' && access(note_to_come, F_OK) != 0;
    return __real_hf_backend_barrier(backend, err);
}

HF_TEST(what_is_left_is_durable_before_it_is_noted)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, SMALL, 0);
    snprintf(note_to_come, sizeof note_to_come, "%s", in_cache(&place, ".partial.json"));
    barriers_before_note = 0;
    cut_at(&place, &model, 80);
    assert_int_equal(barriers_before_note, 1);
    assert_int_equal(access(note_to_come, F_OK), 0);
    note_to_come[0] = '\0';
    model_done(&model);
    test_vault_done(&place.vault);
}

/* After each of these the suspended session is of no use: the next one aborts it and stores everything. */
static void
spoil(void (*how)(struct place *place))
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, SMALL, 0);
    cut_at(&place, &model, 80);
    how(&place);
    test_vault_reopen(&place.vault);
    assert_int_equal(back_up(&place, &model, NULL), pages_of(&model));
    ASSERT_SESSIONS(&place, HF_SESSION_ABORTED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

static void
lose_note(struct place *place)
{
    assert_int_equal(unlink(in_cache(place, ".partial.json")), 0);
}

static void
lose_tags(struct place *place)
{
    assert_int_equal(unlink(in_cache(place, ".partial")), 0);
}

static void
truncate_tags(struct place *place)
{
    assert_int_equal(truncate(in_cache(place, ".partial"), 1000), 0);
}

/* The text stays what it was but for one digit of a pack's hash. */
static void
alter_note(struct place *place)
{
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    const char *path = in_cache(place, ".partial.json");
    hf_assert_ok(hf_file_read(path, &text, &err), &err);
    char *row = strstr(hf_buf_text(&text), "\"packs\":[[\"");
    char *digit = strchr(row, ']') - 2;
    *digit = *digit == '0' ? '1' : '0';
    hf_assert_ok(hf_file_publish(path, text.data, text.length, 0600, HF_PUBLISH_REPLACE, &err), &err);
}

static void
garble_note(struct place *place)
{
    struct hf_error err;
    hf_assert_ok(hf_file_publish(in_cache(place, ".partial.json"), "{\"packs\":1}", 11, 0600, HF_PUBLISH_REPLACE, &err),
                 &err);
}

static bool
remove_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct place *place = context;
    return strstr(object->name, "/packs/") == NULL ||
           hf_backend_delete(hf_vault_backend(place->vault.vault), object->name, err);
}

static void
lose_packs(struct place *place)
{
    struct hf_error err;
    hf_assert_ok(hf_backend_list(hf_vault_backend(place->vault.vault), "vaults/", remove_object, place, &err), &err);
}

static bool
truncate_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    (void)err;
    struct place *place = context;
    char path[900];
    snprintf(path, sizeof path, "%s/%s", place->vault.place, object->name);
    return strstr(object->name, "/packs/") == NULL || truncate(path, (off_t)object->size - 1) == 0;
}

static void
truncate_packs(struct place *place)
{
    struct hf_error err;
    hf_assert_ok(hf_backend_list(hf_vault_backend(place->vault.vault), "vaults/", truncate_object, place, &err), &err);
}

HF_TEST(a_suspended_session_whose_note_is_lost_is_aborted)
{
    spoil(lose_note);
}

HF_TEST(a_suspended_session_whose_tags_are_lost_or_damaged_is_aborted)
{
    spoil(lose_tags);
    spoil(truncate_tags);
}

HF_TEST(a_suspended_session_whose_note_was_altered_is_aborted)
{
    spoil(alter_note);
    spoil(garble_note);
}

HF_TEST(a_suspended_session_whose_packs_are_missing_or_truncated_is_aborted)
{
    spoil(lose_packs);
    spoil(truncate_packs);
}

/* What was kept of the parent lies in the parent's packs, which only its own successor looks after. */
HF_TEST(a_suspended_session_is_aborted_when_another_backup_came_between)
{
    struct place place;
    struct model first, second;
    struct hf_error err;
    struct hf_session_outcome outcome;
    char cache[600];
    place_make(&place);
    model_make(&first, SMALL, 0);
    model_make(&second, SMALL, 1);
    back_up(&place, &first, NULL);
    cut_at(&place, &second, 80);
    struct hf_signing signing = place.vault.signing;
    signing.appliance = hf_id_new();
    snprintf(cache, sizeof cache, "%s/other-cache", place.folder);
    assert_int_equal(mkdir(cache, 0700), 0);
    struct hf_session_options options = model_options(&place.vault);
    options.signing = &signing;
    options.cache_folder = cache;
    hf_assert_ok(model_back_up(&first, place.vault.vault, &options, &outcome, &err), &err);

    test_vault_reopen(&place.vault);
    back_up(&place, &second, NULL);
    ASSERT_SESSIONS(&place, HF_SESSION_COMMITTED, HF_SESSION_ABORTED, HF_SESSION_COMMITTED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    model_done(&first);
    model_done(&second);
    test_vault_done(&place.vault);
}

/* The writer died between its COMMIT and the END of what it was built on: the files are as they were before. */
HF_TEST(what_was_built_on_gets_its_end_from_the_next_session_when_the_writer_died_before)
{
    struct place place;
    struct model model;
    struct hf_error err;
    char note[700], tags[700], kept_note[800], kept_tags[800];
    place_make(&place);
    model_make(&model, SMALL, 0);
    cut_at(&place, &model, 80);
    snprintf(note, sizeof note, "%s", in_cache(&place, ".partial.json"));
    snprintf(tags, sizeof tags, "%s", in_cache(&place, ".partial"));
    snprintf(kept_note, sizeof kept_note, "%s.kept", note);
    snprintf(kept_tags, sizeof kept_tags, "%s.kept", tags);
    assert_true(link(note, kept_note) == 0 && link(tags, kept_tags) == 0);
    back_up(&place, &model, NULL);

    /* The log without its last entry, END, and the files back in their places. */
    char entry[900], text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *known = state_of(&place);
    snprintf(entry, sizeof entry, "%s/vaults/%s/log/%016llx", place.vault.place, hf_id_format(&place.vault.id, text),
             (unsigned long long)known->head);
    assert_int_equal(unlink(entry), 0);
    assert_true(rename(kept_note, note) == 0 && rename(kept_tags, tags) == 0);
    test_vault_reopen(&place.vault);
    ASSERT_SESSIONS(&place, HF_SESSION_OPEN, HF_SESSION_COMMITTED);

    assert_int_equal(back_up(&place, &model, NULL), 0);
    ASSERT_SESSIONS(&place, HF_SESSION_ENDED, HF_SESSION_COMMITTED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    hf_assert_ok(hf_dir_sync(place.vault.cache, &err), &err);
    model_done(&model);
    test_vault_done(&place.vault);
}

static _Noreturn void
suspend_in_child(struct place *place, const struct model *model, int ready)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_vault_reopen(&place->vault);
    const struct hf_session_options options = model_options(&place->vault);
    if (!hf_session_begin(place->vault.vault, &options, &session, &err))
        _exit(1);
    for (size_t i = 0; i < 4; i++)
        if (!model_hand_over_file(&model->files[i], model->files[i].size, session, &file, &err))
            _exit(1);
    if (!hf_session_flush(session, &err) || write(ready, "r", 1) != 1)
        _exit(1);
    hf_session_suspend(&session, "source_failed");
    pause();
    _exit(0);
}

HF_TEST(a_writer_may_be_killed_while_it_suspends)
{
    struct place place;
    struct model model;
    struct hf_id backup;
    unsigned open = 0;
    place_make(&place);
    model_make(&model, SMALL, 0);
    for (unsigned i = 0; i < KILLS; i++) {
        int ready[2];
        char word;
        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        test_vault_close(&place.vault);
        fflush(NULL);
        const pid_t pid = fork();
        if (pid == 0)
            suspend_in_child(&place, &model, ready[1]);
        close(ready[1]);
        assert_int_equal(read(ready[0], &word, 1), 1);
        usleep(randombytes_uniform(SUSPEND_MOST_US));
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(ready[0]);

        test_vault_reopen(&place.vault);
        open += access(in_cache(&place, ".partial.json"), F_OK) == 0;
        if (i % 3 == 2) { // the others are built on, or aborted, by the next child
            back_up(&place, &model, &backup);
            assert_tidy(&place);
            model_done(&model);
            model_make(&model, SMALL, i);
        }
    }
    print_message("# %u of %u had left their note\n", open, KILLS);
    back_up(&place, &model, &backup);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

#define NOTE_EACH (4 * HF_MIB)

/* Hands over the first `percent` of a model, noting what it has every few megabytes, and is killed. */
static void
kill_at(struct place *place, const struct model *model, unsigned percent)
{
    int status;
    test_vault_close(&place->vault);
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        struct hf_error err;
        struct hf_session *session;
        struct hf_session_file *file;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        test_vault_reopen(&place->vault);
        struct hf_session_options options = model_options(&place->vault);
        options.note_bytes = NOTE_EACH;
        size_t left = model_bytes(model) / 100 * percent;
        if (!hf_session_begin(place->vault.vault, &options, &session, &err))
            _exit(1);
        for (size_t i = 0; i < MODEL_FILES && left > 0; i++) {
            const size_t part = left < model->files[i].size ? left : model->files[i].size;
            if (!model_hand_over_file(&model->files[i], part, session, &file, &err))
                _exit(1);
            left -= part;
        }
        if (!hf_session_flush(session, &err))
            _exit(1);
        kill(getpid(), SIGKILL);
        _exit(1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    test_vault_reopen(&place->vault);
}

HF_TEST(of_a_session_that_was_killed_the_next_one_stores_only_what_came_behind_its_last_note)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, LARGE, 0);
    const uint64_t whole = pages_of(&model);
    kill_at(&place, &model, 90);
    assert_int_equal(access(in_cache(&place, ".partial.json"), F_OK), 0);
    ASSERT_SESSIONS(&place, HF_SESSION_OPEN);
    const uint64_t again = back_up(&place, &model, NULL);
    print_message("# %llu of %llu pages were stored again\n", (unsigned long long)again, (unsigned long long)whole);
    assert_true(again < whole / 2); // the leaf of 4,096 pages that was being filled, and what came behind the note
    ASSERT_SESSIONS(&place, HF_SESSION_ENDED, HF_SESSION_COMMITTED);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(what_was_killed_again_and_again_comes_to_its_end)
{
    struct place place;
    struct model model;
    place_make(&place);
    model_make(&model, LARGE, 0);
    const uint64_t whole = pages_of(&model);
    const unsigned at[] = {30, 60, 20, 95, 90};
    for (size_t i = 0; i < HF_LENGTH(at); i++)
        kill_at(&place, &model, at[i]);
    assert_true(back_up(&place, &model, NULL) < whole / 3);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

HF_TEST(a_note_goes_with_the_session_that_wrote_it)
{
    struct place place;
    struct model model;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    place_make(&place);
    model_make(&model, LARGE, 0);
    for (unsigned i = 0; i < 2; i++) {
        struct hf_session_options options = model_options(&place.vault);
        options.note_bytes = NOTE_EACH;
        hf_assert_ok(hf_session_begin(place.vault.vault, &options, &session, &err), &err);
        hf_assert_ok(model_hand_over(&model, session, &err), &err);
        hf_assert_ok(hf_session_flush(session, &err), &err);
        assert_int_equal(access(in_cache(&place, ".partial.json"), F_OK), 0);
        if (i == 0)
            hf_session_abort(&session, "tested");
        else
            hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
        assert_int_not_equal(access(in_cache(&place, ".partial.json"), F_OK), 0);
        assert_int_not_equal(access(in_cache(&place, ".partial"), F_OK), 0);
        test_vault_reopen(&place.vault);
    }
    ASSERT_SESSIONS(&place, HF_SESSION_ABORTED, HF_SESSION_COMMITTED);
    model_assert_restores(&model, place.vault.vault, &outcome.backup, place.folder);
    assert_tidy(&place);
    model_done(&model);
    test_vault_done(&place.vault);
}

/* The second reader knows only the texts of the formats: what was put together must be in order for it as well. */
HF_TEST(the_second_reader_accepts_a_backup_that_was_put_together)
{
    struct place place;
    struct model model;
    struct hf_error err;
    int status;
    char script[600], key[600], text[128] = "holdfast-key-1 ";
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB);
    const char *source = getenv("HOLDFAST_SOURCE");
    place_make(&place);
    model_make(&model, SMALL, 0);
    cut_at(&place, &model, 50);
    cut_at(&place, &model, 80);
    back_up(&place, &model, NULL);

    snprintf(key, sizeof key, "%s/key", place.folder);
    hf_hex_format(place.vault.credential.key.bytes, HF_KEY_BYTES, text + strlen(text));
    strcat(text, "\n");
    hf_assert_ok(hf_file_publish(key, text, strlen(text), 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
    snprintf(script, sizeof script, "%s/tests/reader/holdfast_reader.py", source != NULL ? source : ".");
    const char *const argv[] = {"/usr/bin/python3", "-B", script, place.vault.place, "--key-file", key, "check", NULL};
    const struct hf_process_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = STDERR_FILENO};
    hf_assert_ok(hf_process_run(&options, NULL, 0, READER_TIMEOUT_MS, &output, NULL, &status, &err), &err);
    if (status != 0)
        fail_msg("the second reader: %s", hf_buf_text(&output));
    assert_non_null(strstr(hf_buf_text(&output), "no faults"));
    assert_non_null(strstr(hf_buf_text(&output), "1 backups"));
    model_done(&model);
    test_vault_done(&place.vault);
}
