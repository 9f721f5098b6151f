#include "tests/support/test.h"

#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "server/repository/reader.h"
#include "server/repository/session.h"
#include "tests/support/vault.h"

/* The database the sessions back up: a handful of files whose pages the tests change. */
#define MODEL_FILES 6
#define PAGE        8192

struct model_file {
    const char *path;
    uint8_t page_log2;
    size_t size;
    uint8_t *bytes;
};
struct model {
    struct model_file files[MODEL_FILES];
};

static const size_t first_sizes[MODEL_FILES] = {40 * HF_MIB, 3 * HF_MIB, 8192, 0, 70001, 64 * HF_KIB};
static const char *const paths[MODEL_FILES] = {"base/5/16384", "base/5/16385", "base/5/16386",
                                               "base/5/empty", "pg_xact/0000", "postgresql.auto.conf"};

static void
fill(uint8_t *bytes, size_t length)
{
    /* Half noise, half text, as tables are. */
    randombytes_buf(bytes, length);
    for (size_t at = 0; at + PAGE <= length; at += PAGE)
        memset(bytes + at + PAGE / 2, 'a' + (int)(at / PAGE % 26), PAGE / 2);
}

static void
model_make(struct model *model)
{
    for (size_t i = 0; i < MODEL_FILES; i++) {
        struct model_file *file = &model->files[i];
        *file = (struct model_file){paths[i], i < 4 ? 13 : 16, first_sizes[i], malloc(first_sizes[i] + 1)};
        fill(file->bytes, file->size);
    }
    memset(model->files[1].bytes + 10 * PAGE, 0, 50 * PAGE); // never-used pages
}

static void
model_done(struct model *model)
{
    for (size_t i = 0; i < MODEL_FILES; i++)
        free(model->files[i].bytes);
}

static void
change_pages(struct model *model, size_t file, size_t count)
{
    const size_t pages = model->files[file].size / PAGE;
    for (size_t i = 0; i < count; i++)
        randombytes_buf(model->files[file].bytes + i * (pages / count) * PAGE + 100, 64);
}

/* In turns few workers, where the caller tags pages, and many, where they do: nobody may see from a backup which. */
static struct hf_session_options
options_for(struct test_vault *vault)
{
    static unsigned turn;
    return (struct hf_session_options){.source = "clinic",
                                       .operation = "backup",
                                       .signing = &vault->signing,
                                       .cache_folder = vault->cache,
                                       .workers = turn++ % 2 == 0 ? 2 : 4};
}

static void
hand_over(struct hf_session *session, const struct model *model)
{
    struct hf_error err;
    for (size_t i = 0; i < MODEL_FILES; i++) {
        const struct model_file *from = &model->files[i];
        const struct hf_session_file_info info = {.path = from->path,
                                                  .kind = i < 4 ? HF_FILE_RELATION : HF_FILE_OTHER,
                                                  .page_log2 = from->page_log2,
                                                  .mode = 0600,
                                                  .modified_at = 1700000000000};
        struct hf_session_file *file;
        hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
        for (size_t at = 0; at < from->size;) {
            const size_t part = from->size - at < 32749 ? from->size - at : 32749; // no multiple of anything
            hf_assert_ok(hf_session_file_write(file, from->bytes + at, part, &err), &err);
            at += part;
        }
        hf_assert_ok(hf_session_file_end(&file, &err), &err);
    }
    hf_assert_ok(hf_session_folder(session, "pg_wal", 0700, &err), &err);
}

static struct hf_session_outcome
back_up_with(struct test_vault *vault, const struct model *model, const struct hf_session_options *options)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_begin(vault->vault, options, &session, &err), &err);
    hand_over(session, model);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    assert_null(session);
    return outcome;
}

static struct hf_session_outcome
back_up(struct test_vault *vault, const struct model *model)
{
    const struct hf_session_options options = options_for(vault);
    return back_up_with(vault, model, &options);
}

static void
assert_backup_is(struct test_vault *vault, const struct hf_id *id, const struct model *model)
{
    struct hf_error err;
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(64 * HF_MIB);
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_backup_open(vault->vault, id, &backup, &err), &err);
    assert_int_equal(hf_backup_root(backup)->file_count, MODEL_FILES);
    for (size_t i = 0; i < MODEL_FILES; i++) {
        hf_assert_ok(hf_backup_read_file(backup, worker, model->files[i].path, &content, &err), &err);
        assert_int_equal(content.length, model->files[i].size);
        if (content.length > 0)
            assert_memory_equal(content.data, model->files[i].bytes, content.length);
    }
}

static struct hf_check_report
check(struct test_vault *vault, int level)
{
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_check_options options = {.level = level, .workers = 2};
    hf_assert_ok(hf_repository_check(vault->repository, &options, &report, &err), &err);
    return report;
}

static void
remove_tag_cache(struct test_vault *vault)
{
    char command_path[600], text[HF_ID_TEXT_BYTES];
    const struct hf_id id = hf_vault_id(vault->vault);
    snprintf(command_path, sizeof command_path, "%s/%s.tags", vault->cache, hf_id_format(&id, text));
    assert_int_equal(unlink(command_path), 0);
}

HF_TEST(a_backup_reads_back_byte_for_byte)
{
    struct test_vault vault;
    struct model model;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);

    const struct hf_session_outcome outcome = back_up(&vault, &model);
    assert_backup_is(&vault, &outcome.backup, &model);
    const struct hf_check_report report = check(&vault, 2);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
    assert_int_equal(report.files, MODEL_FILES);

    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(the_next_backup_stores_only_the_pages_that_changed_and_both_read_back)
{
    struct test_vault vault;
    struct model model, before;
    struct hf_error err;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    const struct hf_session_outcome first = back_up(&vault, &model);
    before = model;
    for (size_t i = 0; i < MODEL_FILES; i++) {
        before.files[i].bytes = malloc(model.files[i].size + 1);
        memcpy(before.files[i].bytes, model.files[i].bytes, model.files[i].size);
    }

    change_pages(&model, 0, 100);
    test_vault_reopen(&vault);
    const struct hf_session_options options = options_for(&vault);
    struct hf_session *session;
    struct hf_session_outcome second;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    hand_over(session, &model);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    const uint64_t stored = hf_session_counts(session)->pages_stored;
    hf_assert_ok(hf_session_commit(&session, facts, &second, &err), &err);

    assert_int_equal(stored, 100);
    assert_true(second.stored_bytes < 100 * PAGE + 64 * HF_KIB);
    assert_backup_is(&vault, &second.backup, &model);
    assert_backup_is(&vault, &first.backup, &before);
    assert_int_equal(check(&vault, 2).damages, 0);

    model_done(&before);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_backup_of_what_did_not_change_stores_no_page)
{
    struct test_vault vault;
    struct model model;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    const struct hf_session_outcome second = back_up(&vault, &model);
    assert_int_equal(second.data_packs, 0);
    assert_true(second.stored_bytes < 8 * HF_KIB);
    assert_backup_is(&vault, &second.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

/*
 * Of the first file: pages that came and pages that are kept, by turns, both across the ends of what is tagged at once.
 */
static struct hf_session_outcome
back_up_keeping(struct test_vault *vault, const struct model *model, const struct hf_session_options *options)
{
    static const uint64_t parts[] = {3, 1, 10, 40, 1, 200, 70, 5};
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    struct hf_session_outcome outcome;
    const char *why;
    const struct model_file *from = &model->files[0];
    const uint64_t pages = from->size / PAGE;
    const struct hf_session_file_info info = {
        .path = from->path, .kind = HF_FILE_RELATION, .page_log2 = from->page_log2, .mode = 0600};
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_begin(vault->vault, options, &session, &err), &err);
    assert_true(hf_session_can_keep(session, &why));
    hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
    assert_int_equal(hf_session_file_parent_pages(file), pages);
    uint64_t kept = 0;
    for (uint64_t page = 0, turn = 0; page < pages; turn++) {
        const uint64_t wanted = parts[turn % HF_LENGTH(parts)], part = wanted < pages - page ? wanted : pages - page;
        if (turn % 2 == 0)
            hf_assert_ok(hf_session_file_write(file, from->bytes + page * PAGE, part * PAGE, &err), &err);
        else
            hf_assert_ok(hf_session_file_keep(file, part, &err), &err);
        kept += turn % 2 == 0 ? 0 : part;
        page += part;
    }
    hf_assert_ok(hf_session_file_end(&file, &err), &err);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    assert_int_equal(hf_session_counts(session)->pages_kept, kept);
    assert_int_equal(hf_session_counts(session)->pages_stored, 0);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    return outcome;
}

HF_TEST(pages_that_are_kept_unread_and_pages_that_came_make_one_file)
{
    struct test_vault vault;
    struct model model;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    assert_int_equal(model.files[0].size % PAGE, 0);
    back_up(&vault, &model);
    for (unsigned workers = 2; workers <= 3; workers++) {
        struct hf_error err;
        _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
        _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
        _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(64 * HF_MIB);
        struct hf_session_options options = options_for(&vault);
        options.workers = workers;
        const struct hf_session_outcome outcome = back_up_keeping(&vault, &model, &options);
        hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
        hf_assert_ok(hf_backup_open(vault.vault, &outcome.backup, &backup, &err), &err);
        hf_assert_ok(hf_backup_read_file(backup, worker, model.files[0].path, &content, &err), &err);
        assert_int_equal(content.length, model.files[0].size);
        assert_memory_equal(content.data, model.files[0].bytes, content.length);
    }
    assert_int_equal(check(&vault, 2).damages, 0);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_lost_tag_cache_is_made_anew_from_the_packs)
{
    struct test_vault vault;
    struct model model;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    change_pages(&model, 0, 10);
    back_up(&vault, &model);
    remove_tag_cache(&vault);
    const struct hf_session_outcome third = back_up(&vault, &model);
    assert_int_equal(third.data_packs, 0);
    assert_backup_is(&vault, &third.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(files_that_grow_shrink_come_and_go_are_followed)
{
    struct test_vault vault;
    struct model model;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);

    struct model_file *grown = &model.files[1], *shrunk = &model.files[0], *renamed = &model.files[2];
    grown->bytes = realloc(grown->bytes, grown->size + 40 * HF_MIB);
    fill(grown->bytes + grown->size, 40 * HF_MIB);
    grown->size += 40 * HF_MIB - 100; // a short tail in the second leaf
    shrunk->size = 33 * HF_MIB + 17;
    renamed->path = "base/5/20000";
    const struct hf_session_outcome second = back_up(&vault, &model);
    assert_backup_is(&vault, &second.backup, &model);
    assert_int_equal(check(&vault, 2).damages, 0);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_lost_pack_is_healed_by_the_next_backup)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    const struct hf_vault_state *known;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    for (size_t i = 0; i < known->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES], path[700];
        const struct hf_id id = hf_vault_id(vault.vault);
        if (known->packs[i].kind != HF_PACK_DATA)
            continue;
        snprintf(path, sizeof path, "%s/%s", vault.place, hf_pack_name(&id, &known->packs[i].pack, name));
        assert_int_equal(unlink(path), 0);
    }
    assert_true(check(&vault, 0).damages > 0);
    const struct hf_session_outcome second = back_up(&vault, &model);
    assert_true(second.data_packs > 0);
    assert_backup_is(&vault, &second.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

/* A sector that cannot be read under a pack's name must not keep all later backups from being taken. */
static char unreadable[HF_PACK_NAME_BYTES];

bool __real_hf_backend_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                            struct hf_error *err);
bool __wrap_hf_backend_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                            struct hf_error *err);
bool
__wrap_hf_backend_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                       struct hf_error *err)
{
    if (strcmp(name, unreadable) == 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not look at \"%s\"", name);
    return __real_hf_backend_stat(backend, name, ret_found, ret_size, err);
}

HF_TEST(a_pack_that_cannot_be_looked_at_is_healed_by_the_next_backup)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    const struct hf_vault_state *known;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    for (size_t i = 0; i < known->pack_count; i++)
        if (known->packs[i].kind == HF_PACK_DATA)
            hf_pack_name(&vault.id, &known->packs[i].pack, unreadable);
    const struct hf_session_outcome second = back_up(&vault, &model);
    unreadable[0] = '\0';
    assert_int_equal(second.data_packs, 1);
    assert_backup_is(&vault, &second.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_lost_map_pack_makes_the_next_backup_store_everything)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    const struct hf_vault_state *known;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    for (size_t i = 0; i < known->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES], path[700];
        const struct hf_id id = hf_vault_id(vault.vault);
        if (known->packs[i].kind != HF_PACK_MAP)
            continue;
        snprintf(path, sizeof path, "%s/%s", vault.place, hf_pack_name(&id, &known->packs[i].pack, name));
        assert_int_equal(unlink(path), 0);
    }
    test_vault_reopen(&vault);
    const struct hf_session_outcome second = back_up(&vault, &model);
    assert_true(second.data_packs > 0);
    assert_backup_is(&vault, &second.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_damaged_slab_that_was_told_of_is_healed_and_only_its_pages_are_stored)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    const struct hf_vault_state *known;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &known, &err), &err);
    struct hf_heal heal = {.slab = 3};
    for (size_t i = 0; i < known->pack_count; i++)
        if (known->packs[i].kind == HF_PACK_DATA)
            heal.pack = known->packs[i].pack;

    struct hf_session_options options = options_for(&vault);
    options.heal = &heal;
    options.heal_count = 1;
    struct hf_session *session;
    struct hf_session_outcome second;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    hand_over(session, &model);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    assert_int_equal(hf_session_counts(session)->pages_stored, 32);
    assert_int_equal(hf_session_counts(session)->pages_healed, 32);
    hf_assert_ok(hf_session_commit(&session, facts, &second, &err), &err);
    assert_backup_is(&vault, &second.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

/* How near restores stay by that is measured in tests/restore. */
HF_TEST(pages_in_thinly_used_slabs_are_stored_again)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    uint64_t aged = 0;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    back_up(&vault, &model);
    struct hf_session_options options = options_for(&vault);
    options.ageing_budget_percent = 100;
    for (int round = 0; round < 20; round++) {
        const size_t pages = model.files[0].size / PAGE;
        for (size_t i = 0; i < pages / 10; i++)
            randombytes_buf(model.files[0].bytes + randombytes_uniform((uint32_t)pages) * (size_t)PAGE, 64);
        struct hf_session *session;
        struct hf_session_outcome outcome;
        hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
        hand_over(session, &model);
        hf_assert_ok(hf_session_flush(session, &err), &err);
        aged += hf_session_counts(session)->pages_aged;
        hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
        assert_backup_is(&vault, &outcome.backup, &model);
    }
    assert_true(aged > model.files[0].size / PAGE / 2); // about all of them, once
    model_done(&model);
    test_vault_done(&vault);
}

/* More files than there are spans would all wait for one, for ever. */
HF_TEST(so_many_open_files_that_no_span_would_be_left_are_refused)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *files[9];
    char path[32];
    test_vault_make(&vault, hf_test_folder());
    struct hf_session_options options = options_for(&vault);
    options.memory_bytes = 1; // eight spans
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    for (size_t i = 0; i < 8; i++) {
        snprintf(path, sizeof path, "file-%zu", i);
        const struct hf_session_file_info info = {.path = path, .kind = HF_FILE_OTHER, .page_log2 = 16};
        hf_assert_ok(hf_session_file_begin(session, &info, &files[i], &err), &err);
        hf_assert_ok(hf_session_file_write(files[i], "x", 1, &err), &err);
    }
    const struct hf_session_file_info ninth = {.path = "file-8", .kind = HF_FILE_OTHER, .page_log2 = 16};
    assert_false(hf_session_file_begin(session, &ninth, &files[8], &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_string_equal(err.message, "at most 8 files can be written at once");
    hf_assert_ok(hf_session_file_end(&files[0], &err), &err);
    hf_assert_ok(hf_session_file_begin(session, &ninth, &files[8], &err), &err);
    hf_assert_ok(hf_session_file_write(files[8], "x", 1, &err), &err);
    hf_session_freep(&session);
    test_vault_done(&vault);
}

/* Without a lock nobody knows whether the other one lives. */
HF_TEST(a_session_without_a_cache_folder_ends_nobody_elses)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    struct hf_session_options options = options_for(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    hand_over(session, &model);
    options.cache_folder = NULL;
    const struct hf_session_outcome other = back_up_with(&vault, &model, &options);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);
    assert_backup_is(&vault, &outcome.backup, &model);
    assert_backup_is(&vault, &other.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(an_aborted_session_leaves_no_backup_and_no_pack)
{
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session *session;
    test_vault_make(&vault, hf_test_folder());
    model_make(&model);
    const struct hf_session_options options = options_for(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    hand_over(session, &model);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    hf_session_abort(&session, "tested");

    const struct hf_check_report report = check(&vault, 2);
    assert_int_equal(report.backups, 0);
    assert_int_equal(report.orphans, 0);
    assert_int_equal(report.damages, 0);
    const struct hf_session_outcome outcome = back_up(&vault, &model);
    assert_backup_is(&vault, &outcome.backup, &model);
    model_done(&model);
    test_vault_done(&vault);
}

HF_TEST(a_cancelled_session_says_so)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    atomic_bool cancel = false;
    test_vault_make(&vault, hf_test_folder());
    struct hf_session_options options = options_for(&vault);
    options.cancel = &cancel;
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    const struct hf_session_file_info info = {.path = "base/1", .kind = HF_FILE_RELATION, .page_log2 = 13};
    hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
    atomic_store(&cancel, true);
    assert_false(hf_session_file_write(file, "x", 1, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    assert_string_equal(err.message, "the backup was cancelled");
    hf_session_freep(&session);
    test_vault_done(&vault);
}

HF_TEST(two_sessions_of_one_vault_at_once_are_refused)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session, *second;
    test_vault_make(&vault, hf_test_folder());
    const struct hf_session_options options = options_for(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    assert_false(hf_session_begin(vault.vault, &options, &second, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "another process is writing a backup of \"clinic\"");
    hf_session_freep(&session);
    test_vault_done(&vault);
}

HF_TEST(every_folder_that_something_lies_in_is_listed_with_the_mode_that_was_told)
{
    static const struct {
        const char *path;
        uint32_t mode;
    } expected[] = {{"", 0700},  {"a", 0700}, {"a-b", 0755}, {"a/b", 0750},  {"a/b/c", 0700},
                    {"l", 0700}, {"x", 0700}, {"x/y", 0700}, {"x/y/z", 0700}};
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    struct hf_session_outcome outcome;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    static const char *const files[] = {"a/b/c/file", "x/y/z/file"};
    test_vault_make(&vault, hf_test_folder());
    const struct hf_session_options options = options_for(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(files); i++) {
        const struct hf_session_file_info info = {.path = files[i], .kind = HF_FILE_OTHER, .page_log2 = 16};
        hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
        hf_assert_ok(hf_session_file_end(&file, &err), &err);
    }
    hf_assert_ok(hf_session_link(session, "l/link", "/srv", &err), &err);
    hf_assert_ok(hf_session_folder(session, "a/b", 0750, &err), &err);
    hf_assert_ok(hf_session_folder(session, "a-b", 0755, &err), &err);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);

    hf_assert_ok(hf_backup_open(vault.vault, &outcome.backup, &backup, &err), &err);
    const struct hf_manifest_root *root = hf_backup_root(backup);
    assert_int_equal(root->folder_count, HF_LENGTH(expected));
    for (size_t i = 0; i < HF_LENGTH(expected); i++) {
        assert_string_equal(root->folders[i].path, expected[i].path);
        assert_int_equal(root->folders[i].mode, expected[i].mode);
    }
    hf_backup_freep(&backup);
    test_vault_done(&vault);
}

HF_TEST(a_path_that_leads_out_of_the_backup_is_refused)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    static const char *const bad[] = {"", "/etc/passwd", "../x", "a/../b", "a//b", "a/", "./a", "a\nb"};
    test_vault_make(&vault, hf_test_folder());
    const struct hf_session_options options = options_for(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        const struct hf_session_file_info info = {.path = bad[i], .kind = HF_FILE_OTHER, .page_log2 = 16};
        assert_false(hf_session_file_begin(session, &info, &file, &err));
    }
    hf_session_freep(&session);
    test_vault_done(&vault);
}

static bool
sign_with(void *context, const void *bytes, size_t length, uint8_t signature[static HF_SIGNATURE_BYTES],
          struct hf_error *err)
{
    (void)err;
    return crypto_sign_detached(signature, NULL, bytes, length, context) == 0;
}

HF_TEST(a_vault_that_is_open_learns_of_signers_that_are_added)
{
    struct test_vault vault;
    struct hf_error err;
    const struct hf_vault_state *log;
    uint8_t secret[crypto_sign_SECRETKEYBYTES];
    struct hf_signing added = {.context = secret, .appliance = hf_id_new(), .sign = sign_with};
    _cleanup_(hf_json_freep) json_t *said = json_pack("{s:i, s:s}", "sequence", 1, "head", "0");
    const struct hf_log_append entry = {HF_LOG_CHECKPOINT, 5, HF_LOG_EPOCH_NOW, said, NULL};
    crypto_sign_keypair(added.public_key, secret);
    test_vault_make(&vault, hf_test_folder());
    assert_false(hf_vault_append(vault.vault, &entry, &added, NULL, NULL, &err));

    struct hf_root_bundle bundle = *hf_repository_signers(vault.repository);
    const struct hf_id id = hf_repository_id(vault.repository);
    hf_assert_ok(hf_root_bundle_add_signer(hf_repository_backend(vault.repository), &id,
                                           hf_repository_root_key(vault.repository), &bundle, &added, &vault.signing,
                                           "second", 3, &err),
                 &err);
    hf_assert_ok(hf_repository_reload_signers(vault.repository, &err), &err);
    hf_assert_ok(hf_vault_append(vault.vault, &entry, &added, NULL, NULL, &err), &err);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &log, &err), &err);
    test_vault_done(&vault);
}
