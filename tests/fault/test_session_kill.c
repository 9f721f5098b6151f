/* Writers that are killed, stopped, doubled, and packs that change places: what was acknowledged stays, and says so. */
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
#include "base/time.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "tests/fault/backup_loop.h"

#define MODEL_BYTES     HF_MIB
#define KILLS           40
#define KILLS_A_CHECK   10
#define ALIVE_MOST_US   60000 // a backup of the model takes about a fifth of that
#define READER_MS       300000
#define NONCES_MOST     (64 * HF_MIB)
#define PACKS_IN_BACKUP 2

static const char *
key_file(const struct test_vault *vault)
{
    static char path[600];
    struct hf_error err;
    char text[128] = "holdfast-key-1 ";
    snprintf(path, sizeof path, "%s.key", vault->place);
    hf_hex_format(vault->credential.key.bytes, HF_KEY_BYTES, text + strlen(text));
    strcat(text, "\n");
    hf_assert_ok(hf_file_publish(path, text, strlen(text), 0600, HF_PUBLISH_REPLACE, &err), &err);
    return path;
}

/* The second reader fails when a key has sealed two slabs with one nonce, in packs or in what was left in staging. */
static void
assert_no_nonce_twice(const struct test_vault *vault)
{
    struct hf_error err;
    int status;
    char script[600];
    _cleanup_(hf_buf_done) struct hf_buf pairs = HF_BUF_INIT(NONCES_MOST);
    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(HF_MIB);
    const char *source = getenv("HOLDFAST_SOURCE");
    snprintf(script, sizeof script, "%s/tests/reader/holdfast_reader.py", source != NULL ? source : ".");
    const char *const argv[] = {"/usr/bin/python3", "-B",     script, vault->place, "--key-file",
                                key_file(vault),    "nonces", NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, READER_MS, &pairs, &errors, &status, &err), &err);
    if (status != 0)
        fail_msg("the second reader: %s", hf_buf_text(&errors));
    assert_true(pairs.length > 1000);
}

static void
assert_well(struct test_vault *vault)
{
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_check_options check = {.level = 2, .workers = 2};
    hf_assert_ok(hf_repository_check(vault->repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
}

static void
assert_collected(struct test_vault *vault)
{
    struct hf_error err;
    struct hf_collect_report collected;
    struct hf_check_report report;
    char staging[700], text[HF_ID_TEXT_BYTES];
    bool empty;
    hf_assert_ok(hf_repository_collect(vault->repository, &collected, &err), &err);
    assert_int_equal(collected.kept_open, 0);
    hf_assert_ok(hf_repository_check(vault->repository, &(struct hf_check_options){.level = 0}, &report, &err), &err);
    assert_int_equal(report.orphans, 0);
    snprintf(staging, sizeof staging, "%s/vaults/%s/staging", vault->place, hf_id_format(&vault->id, text));
    hf_assert_ok(hf_dir_is_empty(staging, &empty, &err), &err);
    assert_true(empty);
}

HF_TEST(a_writer_may_be_killed_at_any_moment)
{
    struct test_vault vault;
    const char *folder = hf_test_folder();
    size_t acknowledged = 0, kills = 0;
    const uint64_t end = hf_monotonic_ns() + backup_loop_seconds() * UINT64_C(1000000000);
    struct backup_loop loop = {.vault = &vault, .model_bytes = MODEL_BYTES, .child = -1, .told = -1};
    backup_loop_seed();
    test_vault_make(&vault, folder);
    while (kills < KILLS || hf_monotonic_ns() < end) {
        test_vault_close(&vault);
        backup_loop_start(&loop);
        usleep((useconds_t)(random() % ALIVE_MOST_US));
        acknowledged += backup_loop_kill(&loop);
        kills++;
        test_vault_reopen(&vault);
        backup_loop_assert(&loop, false, folder);
        if (kills % 2 == 0)
            backup_loop_go_on(&loop, folder); // after the others the next child has to
        if (kills % KILLS_A_CHECK == 0) {
            assert_no_nonce_twice(&vault);
            assert_well(&vault);
            assert_collected(&vault);
        }
    }
    print_message("# %zu kills, %zu backups acknowledged before, %zu in all\n", kills, acknowledged, loop.count);
    backup_loop_assert(&loop, true, folder);
    backup_loop_done(&loop);
    test_vault_done(&vault);
}

/* A child with a session half-way; it goes on, and commits, when `go_on` is told. */
struct half_way {
    pid_t pid;
    int ready, go_on; // our ends of two pipes
};

static _Noreturn void
back_up_in_two_steps(struct test_vault *vault, const struct model *model, int ready, int go_on)
{
    struct hf_error err = {0};
    struct hf_session *session;
    struct hf_session_outcome outcome = {0};
    struct hf_session_file *file;
    char word;
    bool ok = true;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_vault_reopen(vault);
    json_t *facts = json_object();
    const struct hf_session_options options = model_options(vault);
    ok = hf_session_begin(vault->vault, &options, &session, &err) &&
         model_hand_over_file(&model->files[0], model->files[0].size, session, &file, &err) &&
         hf_session_flush(session, &err) && write(ready, "r", 1) == 1 && read(go_on, &word, 1) == 1;
    for (size_t i = 1; ok && i < MODEL_FILES; i++)
        ok = model_hand_over_file(&model->files[i], model->files[i].size, session, &file, &err);
    ok = ok && hf_session_folder(session, "pg_wal", 0700, &err) &&
         hf_session_folder(session, "pg_wal/archive_status", 0700, &err) &&
         hf_session_link(session, "pg_tblspc/16400", "/srv/space", &err) &&
         hf_session_commit(&session, facts, &outcome, &err);
    (void)!write(ready, ok ? "c" : "f", 1);
    (void)!write(ready, ok ? (const void *)&outcome.backup : err.message, ok ? HF_ID_BYTES : strlen(err.message));
    _exit(0);
}

static struct half_way
start_half_way(struct test_vault *vault, const struct model *model)
{
    int ready[2], go_on[2];
    char word = 0;
    assert_true(pipe2(ready, O_CLOEXEC) == 0 && pipe2(go_on, O_CLOEXEC) == 0);
    fflush(NULL);
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        back_up_in_two_steps(vault, model, ready[1], go_on[0]);
    close(ready[1]);
    close(go_on[0]);
    assert_int_equal(read(ready[0], &word, 1), 1);
    assert_int_equal(word, 'r');
    return (struct half_way){pid, ready[0], go_on[1]};
}

/* 'c' and the backup's id in `text`, or 'f' and the message. */
static char
finish_half_way(struct half_way *writer, char *text, size_t room)
{
    char word = 0;
    size_t length = 0;
    ssize_t got;
    assert_int_equal(write(writer->go_on, "g", 1), 1);
    assert_int_equal(read(writer->ready, &word, 1), 1);
    while ((got = read(writer->ready, text + length, room - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    assert_int_equal(waitpid(writer->pid, NULL, 0), writer->pid);
    close(writer->ready);
    close(writer->go_on);
    return word;
}

HF_TEST(a_stopped_writer_keeps_its_lock_and_its_unfinished_pack_and_goes_on)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session_outcome outcome;
    struct hf_collect_report collected;
    char text[HF_ERROR_MESSAGE_BYTES];
    const char *folder = hf_test_folder();
    test_vault_make(&vault, folder);
    model_make(&model, MODEL_BYTES, 0);
    test_vault_close(&vault);
    struct half_way writer = start_half_way(&vault, &model);
    assert_int_equal(kill(writer.pid, SIGSTOP), 0);

    test_vault_reopen(&vault);
    const struct hf_session_options options = model_options(&vault);
    assert_false(model_back_up(&model, vault.vault, &options, &outcome, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "another process is writing a backup of \"clinic\"");
    hf_assert_ok(hf_repository_collect(vault.repository, &collected, &err), &err);
    assert_int_equal(collected.uploads, 0);
    assert_int_equal(collected.packs, 0);

    assert_int_equal(kill(writer.pid, SIGCONT), 0);
    assert_int_equal(finish_half_way(&writer, text, sizeof text), 'c');
    model_assert_restores(&model, vault.vault, (const struct hf_id *)text, folder);
    assert_well(&vault);
    assert_collected(&vault);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_killed_writers_session_is_aborted_by_the_next_one)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *known;
    const char *folder = hf_test_folder();
    test_vault_make(&vault, folder);
    model_make(&model, MODEL_BYTES, 0);
    test_vault_close(&vault);
    struct half_way writer = start_half_way(&vault, &model);
    assert_int_equal(kill(writer.pid, SIGKILL), 0);
    assert_int_equal(waitpid(writer.pid, NULL, 0), writer.pid);

    test_vault_reopen(&vault);
    const struct hf_session_options options = model_options(&vault);
    hf_assert_ok(model_back_up(&model, vault.vault, &options, &outcome, &err), &err);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    assert_int_equal(known->session_count, 2);
    assert_int_equal(known->sessions[0].state, HF_SESSION_ABORTED);
    assert_int_equal(known->sessions[1].state, HF_SESSION_COMMITTED);
    model_assert_restores(&model, vault.vault, &outcome.backup, folder);
    assert_collected(&vault);
    model_done(&model);
    test_vault_done(&vault);
}

/* No lock is shared between appliances: the log alone has to bring them into line. */
HF_TEST(two_appliances_that_write_at_once_both_commit_and_both_backups_restore)
{
    struct test_vault vault;
    struct model model, other;
    struct hf_error err;
    struct hf_session_outcome outcome;
    char text[HF_ERROR_MESSAGE_BYTES], cache[600];
    const char *folder = hf_test_folder();
    test_vault_make(&vault, folder);
    model_make(&model, MODEL_BYTES, 0);
    model_make(&other, MODEL_BYTES, 1);
    test_vault_close(&vault);
    struct half_way writer = start_half_way(&vault, &model);

    test_vault_reopen(&vault);
    struct hf_signing signing = vault.signing;
    signing.appliance = hf_id_new();
    snprintf(cache, sizeof cache, "%s/other-cache", folder);
    assert_int_equal(mkdir(cache, 0700), 0);
    struct hf_session_options options = model_options(&vault);
    options.signing = &signing;
    options.cache_folder = cache;
    hf_assert_ok(model_back_up(&other, vault.vault, &options, &outcome, &err), &err);

    assert_int_equal(finish_half_way(&writer, text, sizeof text), 'c');
    model_assert_restores(&model, vault.vault, (const struct hf_id *)text, folder);
    model_assert_restores(&other, vault.vault, &outcome.backup, folder);
    assert_well(&vault);
    model_done(&model);
    model_done(&other);
    test_vault_done(&vault);
}

HF_TEST(a_writer_whose_vault_was_taken_over_learns_it_and_leaves_nothing)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    const struct hf_vault_state *known;
    char text[HF_ERROR_MESSAGE_BYTES];
    const char *folder = hf_test_folder();
    test_vault_make(&vault, folder);
    model_make(&model, MODEL_BYTES, 0);
    test_vault_close(&vault);
    struct half_way writer = start_half_way(&vault, &model);

    test_vault_reopen(&vault);
    _cleanup_(hf_json_freep) json_t *epoch = json_pack("{s:i}", "epoch", 1);
    const struct hf_log_append entry = {HF_LOG_EPOCH, hf_time_now_ms(), 1, epoch, NULL};
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    hf_assert_ok(hf_vault_log_append(hf_vault_get_log(vault.vault), &entry, &vault.signing, &err), &err);

    assert_int_equal(finish_half_way(&writer, text, sizeof text), 'f');
    assert_string_equal(text, "COMMIT would not count: another appliance took the vault over");
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    assert_int_equal(known->backup_count, 0);
    struct hf_check_report report;
    hf_assert_ok(hf_repository_check(vault.repository, &(struct hf_check_options){.level = 0}, &report, &err), &err);
    assert_int_equal(report.orphans, 0);
    model_done(&model);
    test_vault_done(&vault);
}

static void
pack_paths(struct test_vault *vault, char paths[PACKS_IN_BACKUP][700], struct hf_id *ret_data)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    hf_assert_ok(hf_vault_read(vault->vault, NULL, NULL, &state, &err), &err);
    assert_int_equal(state->pack_count, PACKS_IN_BACKUP);
    for (size_t i = 0; i < PACKS_IN_BACKUP; i++) {
        char name[HF_PACK_NAME_BYTES];
        const bool is_map = state->packs[i].kind == HF_PACK_MAP;
        snprintf(paths[is_map], sizeof paths[0], "%.500s/%s", vault->place,
                 hf_pack_name(&vault->id, &state->packs[i].pack, name));
        if (!is_map)
            *ret_data = state->packs[i].pack;
    }
}

/* Both hold the same model, so that even the sizes are the same: 0 swaps the data packs, 1 the map packs. */
static void
swap_packs(size_t which, enum hf_error_kind *ret_kind, char *message)
{
    struct test_vault vaults[2];
    struct hf_session_outcome outcomes[2];
    struct model model;
    struct hf_error err;
    struct hf_id data[2];
    char paths[2][PACKS_IN_BACKUP][700], target[512], text[HF_ID_TEXT_BYTES];
    model_make(&model, MODEL_BYTES, 0);
    const char *folder = NULL;
    for (size_t i = 0; i < 2; i++) {
        folder = hf_test_folder();
        test_vault_make(&vaults[i], folder);
        const struct hf_session_options options = model_options(&vaults[i]);
        hf_assert_ok(model_back_up(&model, vaults[i].vault, &options, &outcomes[i], &err), &err);
        pack_paths(&vaults[i], paths[i], &data[i]);
    }
    assert_int_equal(renameat2(AT_FDCWD, paths[0][which], AT_FDCWD, paths[1][which], RENAME_EXCHANGE), 0);

    test_vault_reopen(&vaults[1]);
    struct hf_check_report report;
    hf_assert_ok(hf_repository_check(vaults[1].repository, &(struct hf_check_options){.level = 1}, &report, &err),
                 &err);
    assert_int_equal(report.damages, 1);
    hf_assert_ok(hf_repository_check(vaults[1].repository, &(struct hf_check_options){.level = 2}, &report, &err),
                 &err);
    assert_true(report.damages >= 1);

    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    snprintf(target, sizeof target, "%s/target", folder);
    assert_false(hf_restore_plan(vaults[1].vault, &outcomes[1].backup, &(struct hf_restore_options){.workers = 2},
                                 &plan, &size, &err) &&
                 hf_restore_write(plan, target, &outcome, &err));
    *ret_kind = err.kind;
    strcpy(message, err.message);
    if (which == 0)
        assert_non_null(strstr(message, hf_id_format(&data[1], text)));

    /* What was swapped away is stored again, and the new backup is whole. */
    const struct hf_session_options options = model_options(&vaults[1]);
    const struct hf_heal heal = {data[1], HF_HEAL_WHOLE_PACK};
    struct hf_session_options healing = options;
    healing.heal = &heal;
    healing.heal_count = 1;
    struct hf_session_outcome healed;
    hf_assert_ok(model_back_up(&model, vaults[1].vault, &healing, &healed, &err), &err);
    model_assert_restores(&model, vaults[1].vault, &healed.backup, folder);
    for (size_t i = 0; i < 2; i++)
        test_vault_done(&vaults[i]);
    model_done(&model);
}

HF_TEST(data_packs_swapped_between_repositories_are_noticed_and_named)
{
    enum hf_error_kind kind;
    char message[HF_ERROR_MESSAGE_BYTES];
    swap_packs(0, &kind, message);
    assert_int_equal(kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(message, "holds another pack's bytes"));
    assert_non_null(strstr(message, "file \""));
}

HF_TEST(map_packs_swapped_between_repositories_are_noticed_by_the_plan)
{
    enum hf_error_kind kind;
    char message[HF_ERROR_MESSAGE_BYTES];
    swap_packs(1, &kind, message);
    assert_int_equal(kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(message, "holds another pack's bytes"));
    assert_non_null(strstr(message, "the manifest of backup"));
}
