/* A second place: what is there is what the log says, whoever was killed, filled up or tampered with meanwhile. */
#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sodium.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "server/care/copy.h"
#include "server/care/rotation.h"
#include "server/repository/pack.h"
#include "tests/support/disk.h"
#include "tests/support/model.h"
#include "tests/support/sshd.h"

#define MODEL_BYTES (2 * HF_MIB)
#define BACKUPS     3
#define KILLS       25

/* What was done at the target, in order: 'f' an object finished, 'b' a barrier, 'e' a log entry. */
static struct {
    bool watched;
    size_t count;
    char steps[4096];
    struct original *collect_at_entry; // at the next log entry its whole store is moved into containers, once
    struct original *rotate_at;        // when an object of this kind is written, its root key is replaced, once
    const char *kind;
} journal;

static void collect_all(struct original *original);
static void replace_root_key(struct original *original);
static void append(struct original *original, enum hf_log_kind kind, json_t *part);

static void
note(char step)
{
    if (journal.watched && journal.count < sizeof journal.steps - 1)
        journal.steps[journal.count++] = step;
}

bool __real_hf_upload_finish(struct hf_upload **upload, struct hf_error *err);
bool __wrap_hf_upload_finish(struct hf_upload **upload, struct hf_error *err);
bool
__wrap_hf_upload_finish(struct hf_upload **upload, struct hf_error *err)
{
    note('f');
    return __real_hf_upload_finish(upload, err);
}

bool __real_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool __wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err);
bool
__wrap_hf_backend_barrier(struct hf_backend *backend, struct hf_error *err)
{
    note('b');
    return __real_hf_backend_barrier(backend, err);
}

bool __real_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                     struct hf_error *err);
bool __wrap_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                     struct hf_error *err);
bool
__wrap_hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                                struct hf_error *err)
{
    if (strstr(name, "/log/") != NULL)
        note('e');
    if (journal.rotate_at != NULL && strstr(name, journal.kind) != NULL) {
        struct original *original = journal.rotate_at;
        journal.rotate_at = NULL;
        replace_root_key(original);
    }
    if (journal.collect_at_entry != NULL) {
        struct original *original = journal.collect_at_entry;
        journal.collect_at_entry = NULL;
        collect_all(original);
    }
    return __real_hf_backend_put_exclusive(backend, name, data, length, err);
}

/* A repository with some backups, evidence beside them, and a place to copy to. */
struct original {
    struct test_vault vault;
    char folder[300], place[400];
    struct hf_id backups[BACKUPS];
    struct model models[BACKUPS];
};

/* What a run told of. */
struct told {
    int count;
    enum hf_copy_problem_kind kind; // of the last
    char object[256], message[512];
};

static void
put_file(const char *folder, const char *name, const void *bytes, size_t length)
{
    struct hf_error err;
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    hf_assert_ok(hf_file_publish(path, bytes, length, 0600, HF_PUBLISH_REPLACE, &err), &err);
}

static void
make_original(struct original *made)
{
    struct hf_error err;
    char path[600];
    snprintf(made->folder, sizeof made->folder, "%s", hf_test_folder());
    snprintf(made->place, sizeof made->place, "%s/copy", made->folder);
    test_vault_make(&made->vault, made->folder);
    for (unsigned i = 0; i < BACKUPS; i++) {
        struct hf_session_options options = model_options(&made->vault);
        struct hf_session_outcome outcome;
        model_make(&made->models[i], MODEL_BYTES, i);
        hf_assert_ok(model_back_up(&made->models[i], made->vault.vault, &options, &outcome, &err), &err);
        made->backups[i] = outcome.backup;
    }
    snprintf(path, sizeof path, "%s/evidence", made->vault.place);
    hf_assert_ok(hf_dir_make(path, 0700, &err), &err);
    put_file(path, "leaves", "first leaf. ", 12);
    put_file(path, "checkpoint", "1", 1);
    put_file(path, "pending", "half", 4);
    put_file(path, "00112233445566778899aabbccddeeff.json", "{}", 2);
}

static void
done_original(struct original *original)
{
    for (unsigned i = 0; i < BACKUPS; i++)
        model_done(&original->models[i]);
    test_vault_done(&original->vault);
}

static void
take_problem(void *context, const struct hf_copy_problem *problem)
{
    struct told *told = context;
    told->count++;
    told->kind = problem->kind;
    snprintf(told->object, sizeof told->object, "%s", problem->object);
    snprintf(told->message, sizeof told->message, "%s", problem->message);
}

/* By a process that was never given a key: the repository is opened and stays locked. */
static bool
copy_locked(const char *from, const char *to, struct hf_copy_options options, struct hf_copy_report *ret,
            struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *source = NULL;
    hf_assert_ok(hf_repository_open(from, HF_ACCESS_READ, &source, err), err);
    assert_null(hf_repository_root_key(source));
    options.now = options.now != 0 ? options.now : hf_time_now_ms();
    bool copied = hf_repository_copy(source, to, &options, ret, err);
    assert_null(hf_repository_root_key(source));
    return copied;
}

static struct hf_copy_report
copy_well(const struct original *original, struct hf_copy_options options, struct told *told)
{
    struct hf_error err;
    struct hf_copy_report report;
    options.problem = take_problem;
    options.context = told;
    *told = (struct told){0};
    hf_assert_ok(copy_locked(original->vault.place, original->place, options, &report, &err), &err);
    const struct hf_copy_report counts = report;
    hf_copy_report_done(&report);
    return counts;
}

static int
compare_places(const struct original *original)
{
    struct hf_error err;
    int status;
    _cleanup_(hf_buf_done) struct hf_buf said = HF_BUF_INIT(64 * HF_KIB);
    const char *const argv[] = {"diff",
                                "-rN",
                                "--no-dereference",
                                "-x",
                                "staging",
                                "-x",
                                "pending",
                                "-x",
                                "holdfast-copy",
                                original->vault.place,
                                original->place,
                                NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, &said, NULL, &status, &err), &err);
    if (status != 0)
        print_message("# %.*s\n", (int)strcspn(hf_buf_text(&said), "\n"), hf_buf_text(&said));
    return status;
}

static void
assert_sound(const struct original *original, const char *place)
{
    struct hf_error err;
    struct hf_slot_info slot;
    struct hf_check_report report;
    _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
    hf_assert_ok(hf_repository_open(place, HF_ACCESS_READ, &copy, &err), &err);
    hf_assert_ok(hf_repository_unlock(copy, &original->vault.credential, &slot, &err), &err);
    hf_assert_ok(hf_repository_check(copy, &(struct hf_check_options){.level = 2, .workers = 2}, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
    assert_int_equal(report.backups, BACKUPS);
}

/* The first object below that name, by path. */
static const char *
find_below(const char *place, const char *pattern, bool last)
{
    static char path[700];
    struct hf_error err;
    int status;
    _cleanup_(hf_buf_done) struct hf_buf said = HF_BUF_INIT(64 * HF_KIB);
    const char *const argv[] = {"find", place, "-type", "f", "-path", pattern, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, &said, NULL, &status, &err), &err);
    path[0] = '\0';
    char *rest = NULL;
    for (char *line = strtok_r((char *)said.data, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest))
        if (path[0] == '\0' || (strcmp(line, path) < 0) != last)
            snprintf(path, sizeof path, "%s", line);
    assert_true(path[0] != '\0');
    return path;
}

static void
flip(const char *path, long at)
{
    FILE *file;
    assert_int_equal(chmod(path, 0600), 0);
    assert_non_null(file = fopen(path, "r+be"));
    fseek(file, at, at < 0 ? SEEK_END : SEEK_SET);
    int byte = fgetc(file);
    fseek(file, -1, SEEK_CUR);
    fputc(byte ^ 0x40, file);
    fclose(file);
}

/* By the same passphrase. */
static void
replace_root_key(struct original *original)
{
    struct hf_error err;
    struct hf_repository *repository = original->vault.repository;
    const struct hf_id id = hf_repository_id(repository);
    const struct hf_slot_options options = {.name = "test",
                                            .generation = hf_repository_root_generation(repository) + 1};
    const struct hf_rotation_turn turn = {
        .credential = &original->vault.credential, .signing = &original->vault.signing, .now = 4};
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    struct hf_slot_info made;
    bool turned;
    hf_assert_ok(hf_secret_random(&root_key, HF_KEY_BYTES, &err), &err);
    hf_assert_ok(hf_slot_add(hf_repository_backend(repository), &id, &original->vault.credential, &options, &root_key,
                             4, &made, &err),
                 &err);
    hf_assert_ok(hf_rotation_make_turn(repository, &turn, &turned, &err), &err);
}

HF_TEST(a_copy_made_without_a_key_holds_every_object_and_restores_every_backup)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_slot_info slot;
    make_original(&original);
    struct hf_copy_report report =
        copy_well(&original, (struct hf_copy_options){.make = true, .read_back = true}, &told);
    assert_true(report.made);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);

    _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &copy, &err), &err);
    hf_assert_ok(hf_repository_unlock(copy, &original.vault.credential, &slot, &err), &err);
    hf_assert_ok(hf_vault_open(copy, &original.vault.id, &vault, &err), &err);
    for (unsigned i = 0; i < BACKUPS; i++)
        model_assert_restores(&original.models[i], vault, &original.backups[i], original.folder);

    // Again: everything is kept, by content and by size.
    for (int fast = 0; fast <= 1; fast++) {
        report = copy_well(&original, (struct hf_copy_options){.fast = fast}, &told);
        assert_int_equal(report.objects + report.entries + report.removed, 0);
        assert_true(report.kept > 0 && !report.made);
    }
    done_original(&original);
}

HF_TEST(a_share_of_what_lies_there_is_read_each_time_and_all_of_it_within_the_window)
{
    struct original original = {0};
    struct told told;
    make_original(&original);
    const uint64_t packs = copy_well(&original, (struct hf_copy_options){.make = true}, &told).objects;
    assert_true(packs > 0);
    struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){.now = 5}, &told);
    const uint64_t all = report.kept;
    assert_int_equal(report.compared, all);
    assert_int_equal(report.compared_bytes, report.kept_bytes);

    // Ten runs, each from where the one before ended, over the end of a window: every pack once.
    uint64_t seen = 0;
    struct hf_copy_options options = {.fast = true, .reread_window_ms = 1000, .reread_since = 700};
    for (int i = 0; i < 10; i++, options.reread_since = options.now) {
        options.now = options.reread_since + 100;
        report = copy_well(&original, options, &told);
        seen += report.compared;
        assert_int_equal(report.kept, all);
    }
    assert_int_equal(seen, all);

    // An altered byte is found and mended by one of them, and by the first of them that never ran before.
    for (int never = 0; never <= 1; never++) {
        int repaired = 0;
        flip(find_below(original.place, "*/packs/*", false), 300);
        for (int i = 0; i < (never ? 1 : 10); i++) {
            options.reread_since = never ? -1 : options.now;
            options.now += 100;
            repaired += (int)copy_well(&original, options, &told).repaired;
        }
        assert_int_equal(repaired, 1);
        assert_int_equal(compare_places(&original), 0);
    }
    done_original(&original);
}

HF_TEST(whatever_is_seen_of_a_rotation_that_runs_meanwhile_the_copy_opens)
{
    static const char *const kinds[] = {"keys/slot-", "keys/root-", "/keys-", "evidence/", "/log/"};
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        for (int fresh = 0; fresh <= 1; fresh++) {
            struct hf_error err;
            struct original original = {0};
            struct told told;
            struct hf_slot_info slot;
            make_original(&original);
            if (!fresh) { // an older state is there, so only what is new is written
                copy_well(&original, (struct hf_copy_options){.make = true}, &told);
                replace_root_key(&original);
                append(&original, HF_LOG_PRUNE,
                       json_pack("{s:[o], s:s}", "backups", hf_json_id_text(&original.backups[0]), "reason", "test"));
                put_file(original.vault.place, "evidence/00112233445566778899aabbccddee00.json", "{}", 2);
            }
            journal.kind = kinds[i];
            journal.rotate_at = &original;
            copy_well(&original, (struct hf_copy_options){.make = true}, &told);
            assert_null(journal.rotate_at);

            _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
            _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
            hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &copy, &err), &err);
            hf_assert_ok(hf_repository_unlock(copy, &original.vault.credential, &slot, &err), &err);
            hf_assert_ok(hf_vault_open(copy, &original.vault.id, &vault, &err), &err);
            model_assert_restores(&original.models[2], vault, &original.backups[2], original.folder);
            copy_well(&original, (struct hf_copy_options){0}, &told);
            assert_int_equal(compare_places(&original), 0); // what the rotation put out of use is gone there, too
            done_original(&original);
        }
    }
}

HF_TEST(nobody_writes_a_second_history_into_a_copy_until_it_is_promoted)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_slot_info slot;
    struct hf_session_outcome outcome;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    struct hf_repository *copy = NULL;
    for (enum hf_access access = HF_ACCESS_WRITE; access <= HF_ACCESS_REPAIR; access++) {
        assert_false(hf_repository_open(original.place, access, &copy, &err));
        assert_int_equal(err.kind, HF_ERR_CONFLICT);
        assert_non_null(strstr(err.message, "is a copy of a repository"));
        assert_non_null(strstr(err.hint, "holdfast repo promote"));
    }
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &copy, &err), &err);
    assert_false(hf_copy_promote(copy, &original.vault.signing, 1, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED); // locked
    hf_assert_ok(hf_repository_unlock(copy, &original.vault.credential, &slot, &err), &err);
    struct hf_signing stranger = original.vault.signing;
    stranger.public_key[0] ^= 1;
    assert_false(hf_copy_promote(copy, &stranger, 1, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    hf_assert_ok(hf_copy_promote(copy, &original.vault.signing, hf_time_now_ms(), &err), &err);
    assert_false(hf_copy_promote(copy, &original.vault.signing, 1, &err));
    hf_repository_freep(&copy);

    // Now it takes backups, and is no place for copies of its past.
    struct hf_copy_report report;
    assert_false(copy_locked(original.vault.place, original.place, (struct hf_copy_options){0}, &report, &err));
    assert_non_null(strstr(err.message, "a repository of its own"));
    struct model next;
    model_make(&next, MODEL_BYTES, BACKUPS);
    test_vault_close(&original.vault);
    snprintf(original.vault.place, sizeof original.vault.place, "%s", original.place);
    test_vault_reopen(&original.vault);
    struct hf_session_options options = model_options(&original.vault);
    hf_assert_ok(model_back_up(&next, original.vault.vault, &options, &outcome, &err), &err);
    model_assert_restores(&next, original.vault.vault, &outcome.backup, original.folder);
    model_done(&next);
    done_original(&original);
}

HF_TEST(whatever_is_damaged_in_the_copy_is_found_replaced_and_told)
{
    struct original original = {0};
    struct told told;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    const char *const objects[] = {"*/packs/*", "*/log/*", "*/keys/slot-*", "*/holdfast-repository"};
    for (size_t i = 0; i < HF_LENGTH(objects); i++) {
        for (int how = 0; how < 3; how++) {
            const char *path = find_below(original.place, objects[i], i == 1);
            if (how == 0)
                flip(path, -100);
            else if (how == 1)
                assert_int_equal(truncate(path, 20), 0);
            else
                assert_int_equal(unlink(path), 0);
            struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){0}, &told);
            const bool quiet = how == 2 && i != 0; // nothing says of a missing one that it was ever there
            if (!quiet && (report.repaired != 1 || told.kind != HF_COPY_REPAIRED || strstr(path, told.object) == NULL))
                fail_msg("%s, %d: %d told, \"%s\" %s", path, how, told.count, told.object, told.message);
            assert_int_equal(compare_places(&original), 0);
        }
    }
    // By size alone an altered byte is not seen, and a missing or shortened pack is.
    flip(find_below(original.place, "*/packs/*", false), 300);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){.fast = true}, &told).repaired, 0);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).repaired, 1);
    assert_int_equal(unlink(find_below(original.place, "*/packs/*", false)), 0);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){.fast = true}, &told).repaired, 1);
    // A hole in the middle of the log.
    assert_int_equal(unlink(find_below(original.place, "*/log/*2", false)), 0);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).repaired, 1);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);
    done_original(&original);
}

HF_TEST(what_proves_nothing_by_itself_and_differs_is_told_and_left_in_both_places)
{
    struct original original = {0};
    struct told told;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    const char *const objects[] = {"*/keys/root-*", "*/keys-00000001", "*/evidence/*.json", "*/evidence/leaves"};
    for (size_t i = 0; i < HF_LENGTH(objects); i++) {
        const char *path = find_below(original.place, objects[i], false);
        flip(path, 1);
        struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){0}, &told);
        assert_int_equal(report.differ, 1);
        assert_int_equal(told.kind, HF_COPY_DIFFERS);
        assert_non_null(strstr(path, told.object));
        assert_int_not_equal(compare_places(&original), 0);
        flip(path, 1);
        assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).differ, 0);
    }
    // The ledger grows, and the copy's follows.
    char path[600];
    snprintf(path, sizeof path, "%s/evidence", original.vault.place);
    put_file(path, "leaves", "first leaf. second leaf.", 24);
    put_file(path, "checkpoint", "2", 1);
    copy_well(&original, (struct hf_copy_options){.fast = true}, &told);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);

    // One that is shorter and yet not its beginning is another ledger: its checkpoint stays, too.
    snprintf(path, sizeof path, "%s/evidence", original.place);
    put_file(path, "leaves", "other leaf. ", 12);
    put_file(path, "checkpoint", "9", 1);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){.fast = true}, &told).differ, 1);
    assert_non_null(strstr(told.object, "evidence/leaves"));
    _cleanup_(hf_buf_done) struct hf_buf kept = HF_BUF_INIT(16);
    struct hf_error err;
    snprintf(path, sizeof path, "%s/evidence/checkpoint", original.place);
    hf_assert_ok(hf_file_read(path, &kept, &err), &err);
    assert_string_equal(hf_buf_text(&kept), "9");
    done_original(&original);
}

HF_TEST(a_damaged_pack_of_the_original_is_left_out_and_told_and_all_else_is_copied)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_copy_mark mark;
    bool found;
    make_original(&original);
    char *path = strdup(find_below(original.vault.place, "*/packs/*", false));
    flip(path, 300);
    struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    assert_int_equal(report.damaged, 1);
    assert_int_equal(told.kind, HF_COPY_SOURCE_DAMAGED);
    assert_non_null(strstr(path, told.object));
    _cleanup_(hf_backend_freep) struct hf_backend *there = NULL;
    hf_assert_ok(hf_backend_open(original.place, &there, &err), &err);
    hf_assert_ok(hf_copy_mark_read(there, &found, &mark, &err), &err);
    assert_true(found && mark.synced_at < 0); // not complete, and it does not say so

    flip(path, 300); // mended
    report = copy_well(&original, (struct hf_copy_options){0}, &told);
    assert_int_equal(report.damaged, 0);
    hf_assert_ok(hf_copy_mark_read(there, &found, &mark, &err), &err);
    assert_true(mark.synced_at > 0);
    assert_sound(&original, original.place);
    free(path);
    done_original(&original);
}

HF_TEST(a_place_that_is_not_an_older_state_of_the_original_is_refused_and_left_as_it_is)
{
    struct hf_error err;
    struct original original = {0}, other = {0};
    struct told told;
    struct hf_copy_report report;
    char place[500];
    make_original(&original);
    make_original(&other);
    const struct hf_copy_options make = {.make = true};

    // A folder with something else in it, the original itself, another repository's copy, no copy at all.
    snprintf(place, sizeof place, "%s/full", original.folder);
    hf_assert_ok(hf_dir_make(place, 0700, &err), &err);
    put_file(place, "letters", "x", 1);
    assert_false(copy_locked(original.vault.place, place, make, &report, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "neither empty nor a copy"));
    assert_false(copy_locked(original.vault.place, original.vault.place, make, &report, &err));
    assert_non_null(strstr(err.message, "a repository of its own"));
    copy_well(&other, make, &told);
    assert_false(copy_locked(original.vault.place, other.place, make, &report, &err));
    assert_non_null(strstr(err.message, "a copy of another repository"));
    snprintf(place, sizeof place, "%s/nothing", original.folder);
    hf_assert_ok(hf_dir_make(place, 0700, &err), &err);
    assert_false(copy_locked(original.vault.place, place, (struct hf_copy_options){0}, &report, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "is no copy"));

    // The original is put back to an older state: its last entry is gone.
    copy_well(&original, make, &told);
    char *last = strdup(find_below(original.vault.place, "*/log/*", true)), kept[800];
    snprintf(kept, sizeof kept, "%s/last", original.folder);
    assert_int_equal(rename(last, kept), 0);
    assert_false(copy_locked(original.vault.place, original.place, (struct hf_copy_options){0}, &report, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "the copy is ahead of its original"));
    assert_non_null(strstr(err.hint, "holdfast repo promote"));

    // And then it is written to: both go on from the same past.
    struct model next;
    struct hf_session_outcome outcome;
    model_make(&next, MODEL_BYTES, BACKUPS);
    test_vault_reopen(&original.vault);
    struct hf_session_options options = model_options(&original.vault);
    hf_assert_ok(model_back_up(&next, original.vault.vault, &options, &outcome, &err), &err);
    for (int fast = 0; fast <= 1; fast++) {
        assert_false(
            copy_locked(original.vault.place, original.place, (struct hf_copy_options){.fast = fast}, &report, &err));
        assert_int_equal(err.kind, HF_ERR_CONFLICT);
        assert_non_null(strstr(err.message, "both were written to"));
    }
    model_done(&next);
    free(last);
    done_original(&original);
    done_original(&other);
}

HF_TEST(a_copy_killed_at_any_moment_goes_on_until_it_is_the_same)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_copy_report report;
    make_original(&original);
    unsigned kills = 0;
    bool finished = false;
    srandom(1);
    for (unsigned run = 0; run < 3 * KILLS && !finished; run++) {
        pid_t child = fork();
        if (child == 0) {
            // The rate makes it last.
            bool ok =
                copy_locked(original.vault.place, original.place,
                            (struct hf_copy_options){.make = true, .read_back = true, .bytes_per_second = 16 * HF_MIB},
                            &report, &err);
            _exit(ok ? 0 : 1);
        }
        usleep((useconds_t)(random() % (10000 + 10000 * run)));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFSIGNALED(status))
            kills++;
        else
            assert_int_equal(WEXITSTATUS(status), 0);
        finished = kills >= KILLS || (WIFEXITED(status) && kills >= 3);

        // What is there names only what is there.
        _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
        struct hf_check_report checked;
        if (!hf_repository_open(original.place, HF_ACCESS_READ, &copy, &err))
            continue; // killed before its superblock
        hf_assert_ok(hf_repository_check(copy, &(struct hf_check_options){.level = 1, .workers = 1}, &checked, &err),
                     &err);
        assert_int_equal(checked.damages, 0);
        assert_false(hf_repository_open(original.place, HF_ACCESS_WRITE, &copy, &err));
    }
    copy_well(&original, (struct hf_copy_options){0}, &told);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);
    print_message("# killed %u times\n", kills);
    assert_true(kills > 0);
    done_original(&original);
}

HF_TEST(what_the_log_deleted_goes_from_the_copy_and_only_after_the_entry_is_there)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    // The first backup is given up: the packs that it alone brought, as the log's rules have it.
    const struct hf_vault_state *summed;
    char text[HF_ID_TEXT_BYTES], name[HF_PACK_NAME_BYTES];
    hf_assert_ok(hf_vault_read(original.vault.vault, NULL, NULL, &summed, &err), &err);
    struct hf_id gone = summed->packs[0].pack;
    for (size_t i = 0; i < summed->pack_count; i++)
        if (summed->packs[i].sequence == summed->backups[0].sequence)
            gone = summed->packs[i].pack;
    _cleanup_(hf_json_freep) json_t *prune =
        json_pack("{s:[s], s:s}", "backups", hf_id_format(&summed->backups[0].backup, text), "reason", "test");
    _cleanup_(hf_json_freep) json_t *packs =
        json_pack("{s:[s], s:s}", "packs", hf_id_format(&gone, text), "reason", "test");
    const enum hf_log_kind kinds[] = {HF_LOG_PRUNE, HF_LOG_CONDEMN, HF_LOG_DELETE};
    hf_pack_name(&original.vault.id, &gone, name);
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        const struct hf_log_append entry = {kinds[i], hf_time_now_ms(), HF_LOG_EPOCH_NOW, i == 0 ? prune : packs, NULL};
        hf_assert_ok(hf_vault_append(original.vault.vault, &entry, &original.vault.signing, NULL, NULL, &err), &err);
        if (kinds[i] != HF_LOG_DELETE)
            continue;
        hf_assert_ok(hf_backend_delete(hf_vault_backend(original.vault.vault), name, &err), &err);
    }
    struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){.fast = true}, &told);
    assert_int_equal(report.removed, 1);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);

    // And a fresh copy neither misses it nor stops at the entry that brought it.
    snprintf(original.place, sizeof original.place, "%s/fresh", original.folder);
    report = copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);
    done_original(&original);
}

/* The log's word that something is so, by the original's own signer. */
static void
append(struct original *original, enum hf_log_kind kind, json_t *part)
{
    struct hf_error err;
    const struct hf_log_append entry = {kind, hf_time_now_ms(), HF_LOG_EPOCH_NOW, part, NULL};
    hf_assert_ok(hf_vault_append(original->vault.vault, &entry, &original->vault.signing, NULL, NULL, &err), &err);
    json_decref(part);
}

/* Everything below 101 % live: all packs move, and the old objects go. */
static void
collect_all(struct original *original)
{
    struct hf_error err;
    struct hf_collect_report collected = {0};
    const struct hf_collect_options options = {.signing = &original->vault.signing,
                                               .cache_folder = original->vault.cache,
                                               .now = hf_time_now_ms(),
                                               .live_percent = 101};
    hf_assert_ok(hf_vault_collect(original->vault.vault, &options, &collected, &err), &err);
    assert_true(collected.containers > 0 && collected.moved > 0 && collected.packs > 0);
}

HF_TEST(a_collection_at_the_same_time_is_followed)
{
    struct original original = {0};
    struct told told;
    make_original(&original);
    journal.collect_at_entry = &original;
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    assert_null(journal.collect_at_entry);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);
    done_original(&original);
}

HF_TEST(objects_are_durable_before_the_entry_that_names_them_and_entries_wait_for_what_settles_their_packs)
{
    struct original original = {0};
    struct told told;
    make_original(&original);
    memset(&journal, 0, sizeof journal);
    journal.watched = true;
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    journal.watched = false;
    // LINEAGE, then for each backup INTENT, its packs, a barrier, COMMIT.
    const char *step = journal.steps;
    assert_int_equal(*step++, 'e');
    for (unsigned i = 0; i < BACKUPS; i++) {
        assert_int_equal(*step++, 'e');
        size_t packs = strspn(step, "f");
        assert_true(packs > 0);
        step += packs;
        assert_memory_equal(step, "be", 2);
        step += 2;
    }
    assert_int_equal(*step, '\0');

    // All of it moved: a fresh copy has the containers before the first COMMIT whose packs lie in them.
    collect_all(&original);
    snprintf(original.place, sizeof original.place, "%s/fresh", original.folder);
    memset(&journal, 0, sizeof journal);
    journal.watched = true;
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    journal.watched = false;
    assert_memory_equal(journal.steps, "eef", 3); // LINEAGE and the first INTENT wait for nothing
    step = journal.steps + 2 + strspn(journal.steps + 2, "f");
    assert_memory_equal(step, "be", 2);
    assert_null(strchr(step, 'f'));
    done_original(&original);
}

HF_TEST(packs_that_were_moved_into_containers_are_found_in_an_old_copy_and_in_a_fresh_one)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    collect_all(&original);
    struct hf_copy_report report = copy_well(&original, (struct hf_copy_options){.fast = true}, &told);
    assert_true(report.removed > 0);
    assert_int_equal(told.count, 0);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);

    snprintf(original.place, sizeof original.place, "%s/fresh", original.folder);
    report = copy_well(&original, (struct hf_copy_options){.make = true, .read_back = true}, &told);
    assert_int_equal(report.objects > 0 ? told.count : -1, 0);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, original.place);

    // A container that is damaged heals like a pack.
    struct hf_heal_report healed;
    flip(find_below(original.vault.place, "*/packs/*", false), 300);
    _cleanup_(hf_repository_freep) struct hf_repository *here = NULL, *there = NULL;
    hf_assert_ok(hf_repository_open(original.vault.place, HF_ACCESS_READ, &here, &err), &err);
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &there, &err), &err);
    const struct hf_heal_options how = {.problem = take_problem, .context = &told};
    hf_assert_ok(hf_repository_heal(here, there, &how, &healed, &err), &err);
    assert_true(healed.damaged == 1 && healed.healed == 1);
    assert_int_equal(compare_places(&original), 0);
    done_original(&original);
}

HF_TEST(keys_go_from_the_copy_when_the_log_puts_them_out_of_use_and_the_original_has_them_no_more)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_slot_info kept[HF_SLOTS_MOST], more;
    struct hf_credential second = {.kind = HF_SLOT_PASSPHRASE};
    size_t count;
    char text[HF_ID_TEXT_BYTES], slot[128], bundle[128];
    make_original(&original);
    const struct hf_id id = hf_repository_id(original.vault.repository);
    struct hf_backend *backend = hf_repository_backend(original.vault.repository);
    hf_assert_ok(hf_slot_list(backend, &id, kept, &count, &err), &err);
    hf_assert_ok(hf_secret_copy(&second.passphrase, "second", 6, &err), &err);
    const struct hf_slot_options least = {.name = "second",
                                          .argon2_operations = crypto_pwhash_OPSLIMIT_MIN,
                                          .argon2_memory_bytes = crypto_pwhash_MEMLIMIT_MIN};
    hf_assert_ok(
        hf_slot_add(backend, &id, &second, &least, hf_repository_root_key(original.vault.repository), 1, &more, &err),
        &err);
    snprintf(slot, sizeof slot, "keys/slot-%s", hf_id_format(&more.id, text));
    snprintf(bundle, sizeof bundle, "vaults/%s/keys-00000001", hf_id_format(&original.vault.id, text));
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);

    // A slot that merely vanished in the original stays; so does one that the log gave up and that is still there.
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_KIB);
    hf_assert_ok(hf_backend_get(backend, slot, &bytes, &err), &err);
    hf_assert_ok(hf_backend_delete(backend, slot, &err), &err);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).removed, 0);
    hf_assert_ok(hf_backend_put_exclusive(backend, slot, bytes.data, bytes.length, &err), &err);
    append(&original, HF_LOG_KEY, json_pack("{s:i, s:[s]}", "generation", 1, "slots", hf_id_format(&kept[0].id, text)));
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).removed, 0);
    hf_assert_ok(hf_backend_delete(backend, slot, &err), &err);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).removed, 1);
    assert_int_equal(compare_places(&original), 0);

    // The bundle of a vault goes with its SHRED.
    hf_assert_ok(hf_backend_delete(backend, bundle, &err), &err);
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).removed, 0);
    append(&original, HF_LOG_SHRED, json_pack("{s:i}", "generation", 1));
    assert_int_equal(copy_well(&original, (struct hf_copy_options){0}, &told).removed, 1);
    assert_int_equal(compare_places(&original), 0);
    hf_credential_done(&second);
    done_original(&original);
}

HF_TEST(a_full_disk_at_the_copy_is_told_leaves_nothing_half_named_and_is_gone_on_from)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_copy_report report;
    make_original(&original);
    hf_assert_ok(hf_dir_make(original.place, 0700, &err), &err);
    if (!test_disk_mount_small(original.place, 500 * HF_KIB)) {
        done_original(&original);
        HF_TEST_SKIP("no mounting here");
    }
    assert_false(
        copy_locked(original.vault.place, original.place, (struct hf_copy_options){.make = true}, &report, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, original.place));
    hf_copy_report_done(&report);
    _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
    struct hf_check_report checked;
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &copy, &err), &err);
    hf_assert_ok(hf_repository_check(copy, &(struct hf_check_options){.level = 1}, &checked, &err), &err);
    assert_int_equal(checked.damages, 0);
    test_disk_resize(original.place, 64 * HF_MIB);
    copy_well(&original, (struct hf_copy_options){0}, &told);
    assert_int_equal(compare_places(&original), 0);
    hf_repository_freep(&copy);
    test_disk_unmount(original.place);
    done_original(&original);
}

HF_TEST(a_cancelled_copy_stops_and_a_rate_is_kept)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_copy_report report;
    make_original(&original);
    const atomic_bool cancel = true;
    assert_false(copy_locked(original.vault.place, original.place,
                             (struct hf_copy_options){.make = true, .cancel = &cancel}, &report, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    hf_copy_report_done(&report);
    const uint64_t began = hf_monotonic_ns();
    report = copy_well(&original, (struct hf_copy_options){.make = true, .bytes_per_second = 8 * HF_MIB}, &told);
    const double seconds = (double)(hf_monotonic_ns() - began) / 1e9;
    const double rate = (double)report.bytes / seconds;
    assert_true(rate < 8.5 * HF_MIB);
    done_original(&original);
}

HF_TEST(over_ssh_it_is_the_same_copy_also_after_the_connection_was_cut)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_copy_report report;
    struct hf_test_sshd sshd;
    make_original(&original);
    hf_test_sshd_start(&sshd, original.folder, NULL);
    char place[600];
    snprintf(place, sizeof place, "%s", hf_test_sshd_place(&sshd, original.place));

    unsigned cuts = 0;
    for (unsigned run = 0; run < 3; run++) {
        pid_t child = fork();
        if (child == 0)
            _exit(copy_locked(original.vault.place, place,
                              (struct hf_copy_options){.make = true, .bytes_per_second = 2 * HF_MIB}, &report, &err)
                      ? 0
                  : err.kind == HF_ERR_UNAVAILABLE ? 1
                                                   : 2);
        usleep(500000 + 100000 * run);
        int status;
        if (run == 0)
            kill(child, SIGKILL);
        else
            hf_test_sshd_stop(&sshd);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (run > 0) {
            hf_test_sshd_resume(&sshd);
            assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
            cuts += WEXITSTATUS(status) == 1 ? 1 : 0;
        }
    }
    assert_true(cuts > 0);
    hf_assert_ok(copy_locked(original.vault.place, place, (struct hf_copy_options){.make = true, .read_back = true},
                             &report, &err),
                 &err);
    assert_int_equal(report.durability, HF_DURABLE_SYNCED);
    hf_copy_report_done(&report);
    assert_int_equal(compare_places(&original), 0);
    assert_sound(&original, place); // read through ssh, by two threads
    assert_int_equal(copy_well(&original, (struct hf_copy_options){.fast = true}, &told).objects, 0);

    // From it alone: the first place is lost.
    test_vault_close(&original.vault);
    hf_assert_ok(hf_dir_remove_tree(original.vault.place, &err), &err);
    _cleanup_(hf_repository_freep) struct hf_repository *copy = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    struct hf_slot_info slot;
    hf_assert_ok(hf_repository_open(place, HF_ACCESS_READ, &copy, &err), &err);
    hf_assert_ok(hf_repository_unlock(copy, &original.vault.credential, &slot, &err), &err);
    hf_assert_ok(hf_vault_open(copy, &original.vault.id, &vault, &err), &err);
    model_assert_restores(&original.models[BACKUPS - 1], vault, &original.backups[BACKUPS - 1], original.folder);
    hf_vault_freep(&vault);
    hf_repository_freep(&copy);
    hf_test_sshd_stop(&sshd);
    done_original(&original);
}

HF_TEST(the_second_place_heals_the_first)
{
    struct hf_error err;
    struct original original = {0};
    struct told told;
    struct hf_heal_report healed;
    make_original(&original);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    const struct {
        const char *objects;
        bool removed;
    } faults[] = {{"*/packs/*", false}, {"*/packs/*", true},      {"*/log/*3", false},
                  {"*/log/*3", true},   {"*/keys/slot-*", false}, {"*/keys-00000001", true}};
    for (size_t i = 0; i < HF_LENGTH(faults); i++) {
        char *path = strdup(find_below(original.vault.place, faults[i].objects, false));
        if (faults[i].removed)
            assert_int_equal(unlink(path), 0);
        else
            flip(path, 200);
        for (int dry = 1; dry >= 0; dry--) {
            _cleanup_(hf_repository_freep) struct hf_repository *here = NULL, *there = NULL;
            told = (struct told){0};
            hf_assert_ok(hf_repository_open(original.vault.place, HF_ACCESS_READ, &here, &err), &err);
            hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &there, &err), &err);
            const struct hf_heal_options options = {.dry_run = dry, .problem = take_problem, .context = &told};
            hf_assert_ok(hf_repository_heal(here, there, &options, &healed, &err), &err);
            if (healed.damaged != 1 || healed.healed != 1 || strstr(path, told.object) == NULL)
                fail_msg("%s: %d damaged, \"%s\" %s", path, (int)healed.damaged, told.object, told.message);
            assert_int_equal(compare_places(&original) != 0, dry);
        }
        free(path);
    }
    assert_sound(&original, original.vault.place);

    // What the second place has damaged, too, is told of and left.
    flip(find_below(original.vault.place, "*/packs/*", false), 200);
    flip(find_below(original.place, "*/packs/*", false), 300);
    _cleanup_(hf_repository_freep) struct hf_repository *here = NULL, *there = NULL;
    hf_assert_ok(hf_repository_open(original.vault.place, HF_ACCESS_READ, &here, &err), &err);
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &there, &err), &err);
    const struct hf_heal_options options = {.problem = take_problem, .context = &told};
    hf_assert_ok(hf_repository_heal(here, there, &options, &healed, &err), &err);
    assert_true(healed.damaged == 1 && healed.healed == 0);
    assert_int_equal(told.kind, HF_COPY_SOURCE_DAMAGED);
    done_original(&original);
}

HF_TEST(healing_takes_nothing_from_another_history_and_brings_no_shredded_key_back)
{
    struct hf_error err;
    struct original original = {0}, other = {0};
    struct told told;
    struct hf_heal_report healed;
    struct hf_session_outcome outcome;
    struct hf_repository *here, *there;
    const struct hf_heal_options options = {.problem = take_problem, .context = &told};
    make_original(&original);
    make_original(&other);
    copy_well(&original, (struct hf_copy_options){.make = true}, &told);
    hf_assert_ok(hf_repository_open(original.vault.place, HF_ACCESS_READ, &here, &err), &err);
    hf_assert_ok(hf_repository_open(other.vault.place, HF_ACCESS_READ, &there, &err), &err);
    assert_false(hf_repository_heal(here, there, &options, &healed, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "holds another repository"));
    hf_repository_freep(&there);

    // The keys are destroyed here; the copy still has them, as it was not told yet.
    const char *bundle = find_below(original.vault.place, "*/vaults/*/keys-00000001", false);
    assert_int_equal(unlink(bundle), 0);
    append(&original, HF_LOG_SHRED, json_pack("{s:i}", "generation", 1));
    hf_assert_ok(hf_repository_open(original.place, HF_ACCESS_READ, &there, &err), &err);
    hf_assert_ok(hf_repository_heal(here, there, &options, &healed, &err), &err);
    assert_int_equal(healed.damaged, 0);
    assert_int_not_equal(access(bundle, F_OK), 0);
    hf_repository_freep(&here);
    hf_repository_freep(&there);

    // Two histories: the last entry was lost here, and another one was written in its place.
    copy_well(&other, (struct hf_copy_options){.make = true}, &told);
    assert_int_equal(unlink(find_below(other.vault.place, "*/log/*", true)), 0);
    struct model next;
    model_make(&next, MODEL_BYTES, BACKUPS);
    test_vault_reopen(&other.vault);
    struct hf_session_options session = model_options(&other.vault);
    hf_assert_ok(model_back_up(&next, other.vault.vault, &session, &outcome, &err), &err);
    hf_assert_ok(hf_repository_open(other.vault.place, HF_ACCESS_READ, &here, &err), &err);
    hf_assert_ok(hf_repository_open(other.place, HF_ACCESS_READ, &there, &err), &err);
    assert_false(hf_repository_heal(here, there, &options, &healed, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "both were written to"));
    hf_repository_freep(&here);
    hf_repository_freep(&there);
    model_done(&next);
    done_original(&original);
    done_original(&other);
}
