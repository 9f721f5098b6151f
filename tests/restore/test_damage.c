/*
 * One stored slab after the other is damaged: what is said to be lost is what a restore cannot write, and nothing else.
 */
#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/care/lost.h"
#include "tests/support/model.h"

#define MODEL_BYTES (2 * HF_MIB)
#define RUNS_MOST   512
#define BACKUPS     3

/* What a visitor was told. */
struct told {
    size_t count;
    struct {
        enum hf_lost_kind kind;
        char path[128];
        uint64_t first_page, pages, bytes;
    } runs[RUNS_MOST];
    uint64_t files; // of lists that are lost
};

/* Three backups of a vault, each of a later generation. */
struct lineage {
    const char *folder;
    struct test_vault vault;
    struct model models[BACKUPS];
    struct hf_id backups[BACKUPS];
};

static bool
take(void *context, const struct hf_lost *lost, struct hf_error *err)
{
    struct told *told = context;
    (void)err;
    assert_true(told->count < RUNS_MOST);
    told->runs[told->count].kind = lost->kind;
    snprintf(told->runs[told->count].path, sizeof told->runs[0].path, "%s", lost->path);
    told->runs[told->count].first_page = lost->first_page;
    told->runs[told->count].pages = lost->pages;
    told->runs[told->count++].bytes = lost->bytes;
    told->files += lost->files;
    return true;
}

static void
make_lineage(struct lineage *made)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    made->folder = hf_test_folder();
    test_vault_make(&made->vault, made->folder);
    const struct hf_session_options options = model_options(&made->vault);
    for (unsigned i = 0; i < BACKUPS; i++) {
        model_make(&made->models[i], MODEL_BYTES, i);
        hf_assert_ok(model_back_up(&made->models[i], made->vault.vault, &options, &outcome, &err), &err);
        made->backups[i] = outcome.backup;
    }
}

static void
lineage_done(struct lineage *made)
{
    for (size_t i = 0; i < BACKUPS; i++)
        model_done(&made->models[i]);
    test_vault_done(&made->vault);
}

static void
flip(const struct test_vault *vault, const struct hf_id *pack, uint64_t at)
{
    char name[HF_PACK_NAME_BYTES], path[800];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", vault->place, hf_pack_name(&vault->id, pack, name));
    assert_int_equal(chmod(path, 0600), 0);
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x40;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

static const struct model_file *
model_file(const struct model *model, const char *path)
{
    for (size_t i = 0; i < MODEL_FILES; i++)
        if (strcmp(model->files[i].path, path) == 0)
            return &model->files[i];
    return NULL;
}

static bool
is_told(const struct told *told, const char *path, uint64_t page)
{
    for (size_t i = 0; i < told->count; i++)
        if (strcmp(told->runs[i].path, path) == 0 && page >= told->runs[i].first_page &&
            page - told->runs[i].first_page < told->runs[i].pages)
            return true;
    return false;
}

/* Every page that is not told is the model's; every one that is begins with the mark. */
static void
assert_folder(const struct model *model, const struct told *told, const char *folder)
{
    for (size_t i = 0; i < MODEL_FILES; i++) {
        struct hf_error err;
        char path[1000];
        const struct model_file *file = &model->files[i];
        _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(2 * MODEL_BYTES);
        snprintf(path, sizeof path, "%s/%s", folder, file->path);
        hf_assert_ok(hf_file_read(path, &content, &err), &err);
        assert_int_equal(content.length, file->size);
        const size_t page_bytes = (size_t)1 << file->page_log2;
        for (size_t at = 0; at < file->size; at += page_bytes) {
            const size_t length = file->size - at < page_bytes ? file->size - at : page_bytes;
            if (!is_told(told, file->path, at >> file->page_log2)) {
                assert_memory_equal(content.data + at, file->bytes + at, length);
                continue;
            }
            for (size_t n = 0; n < length; n++)
                assert_int_equal(content.data[at + n], HF_RESTORE_LOST_MARK[n % strlen(HF_RESTORE_LOST_MARK)]);
        }
    }
}

/* Restores what is left; false when not even the manifest's root reads. */
static bool
restore_what_is_left(const struct lineage *made, size_t number, struct told *told)
{
    struct hf_error err;
    char target[800];
    struct hf_restore_plan *plan = NULL;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    snprintf(target, sizeof target, "%s/left", made->folder);
    const struct hf_restore_options options = {.workers = 2, .lost = take, .lost_context = told};
    *told = (struct told){0};
    if (!hf_restore_plan(made->vault.vault, &made->backups[number], &options, &plan, &size, &err)) {
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        return false;
    }
    hf_assert_ok(hf_restore_write(plan, target, &outcome, &err), &err);
    hf_restore_plan_freep(&plan);
    uint64_t pages = 0;
    for (size_t i = 0; i < told->count; i++)
        pages += told->runs[i].kind == HF_LOST_PAGES ? told->runs[i].pages : 0;
    assert_int_equal(outcome.pages_lost, pages);
    if (told->files == 0)
        assert_folder(&made->models[number], told, target);
    hf_assert_ok(hf_dir_remove_tree(target, &err), &err);
    return true;
}

/* Without the option the plan, or at the latest the writing, fails and names the pack. */
static void
assert_refused(const struct lineage *made, size_t number, const struct hf_id *pack)
{
    struct hf_error err;
    char target[800], text[HF_ID_TEXT_BYTES];
    struct hf_restore_plan *plan = NULL;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    snprintf(target, sizeof target, "%s/refused", made->folder);
    const struct hf_restore_options options = {.workers = 2};
    assert_false(hf_restore_plan(made->vault.vault, &made->backups[number], &options, &plan, &size, &err) &&
                 hf_restore_write(plan, target, &outcome, &err));
    hf_restore_plan_freep(&plan);
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, hf_id_format(pack, text)));
    (void)!hf_dir_remove_tree(target, &err);
}

/* The manifest's order is by folder, a restore's by path: the pages are the same. */
static void
assert_same_pages(const struct told *a, const struct told *b)
{
    uint64_t of_a = 0, of_b = 0, bytes_a = 0, bytes_b = 0;
    assert_int_equal(a->files, b->files);
    for (size_t i = 0; i < a->count; i++) {
        of_a += a->runs[i].pages;
        bytes_a += a->runs[i].bytes;
        for (uint64_t page = 0; page < a->runs[i].pages; page++)
            assert_true(is_told(b, a->runs[i].path, a->runs[i].first_page + page));
    }
    for (size_t i = 0; i < b->count; i++) {
        of_b += b->runs[i].pages;
        bytes_b += b->runs[i].bytes;
    }
    assert_int_equal(of_a, of_b);
    assert_int_equal(bytes_a, bytes_b);
}

/* The slabs of a pack by its directory. */
static size_t
list_slabs(const struct lineage *made, const struct hf_id *pack, struct hf_slab_info **ret)
{
    struct hf_error err;
    size_t count;
    _cleanup_(hf_pack_reader_freep) struct hf_pack_reader *packs = NULL;
    hf_assert_ok(hf_vault_pack_reader(made->vault.vault, &packs, &err), &err);
    hf_assert_ok(hf_pack_reader_slabs(packs, pack, ret, &count, &err), &err);
    return count;
}

struct slab_told {
    size_t count;
    struct hf_lost_slab last;
};

static bool
take_slab(void *context, const struct hf_lost_slab *lost, const char *why, struct hf_error *err)
{
    struct slab_told *told = context;
    (void)err;
    assert_true(why[0] != '\0');
    told->count++;
    told->last = *lost;
    return true;
}

HF_TEST(for_every_slab_what_is_said_to_be_lost_is_what_cannot_be_restored)
{
    static struct told said, met;
    struct lineage made;
    struct hf_error err;
    const struct hf_vault_state *log;
    size_t slabs_damaged = 0, refused = 0, with_lists = 0;
    make_lineage(&made);
    hf_assert_ok(hf_vault_read(made.vault.vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++) {
        const struct hf_id pack = log->packs[i].pack;
        _cleanup_(hf_freep) struct hf_slab_info *slabs = NULL;
        const size_t count = list_slabs(&made, &pack, &slabs);
        for (uint32_t number = 0; number < count; number++, slabs_damaged++) {
            struct slab_told narrowed = {0};
            const uint64_t at = slabs[number].offset + HF_SLAB_HEADER + slabs[number].sealed_length / 2;
            flip(&made.vault, &pack, at);
            hf_assert_ok(hf_lost_slabs(made.vault.vault, &pack, NULL, take_slab, &narrowed, &err), &err);
            assert_int_equal(narrowed.count, 1);
            assert_int_equal(narrowed.last.slab, number);

            for (size_t backup = 0; backup < BACKUPS; backup++) {
                said = (struct told){0};
                hf_assert_ok(
                    hf_lost_pages(made.vault.vault, &made.backups[backup], &narrowed.last, 1, NULL, take, &said, &err),
                    &err);
                if (!restore_what_is_left(&made, backup, &met)) {
                    assert_int_equal(said.count, 1);
                    assert_int_equal(said.runs[0].kind, HF_LOST_BACKUP);
                    refused++;
                    continue;
                }
                assert_same_pages(&said, &met);
                if (log->packs[i].kind == HF_PACK_MAP) { // seen by itself: it does not read
                    said = (struct told){0};
                    hf_assert_ok(
                        hf_lost_pages(made.vault.vault, &made.backups[backup], NULL, 0, NULL, take, &said, &err), &err);
                    assert_same_pages(&said, &met);
                }
                with_lists += said.files > 0;
                if (said.count > 0)
                    assert_refused(&made, backup, &pack);
            }
            flip(&made.vault, &pack, at);
        }
    }
    print_message("# %zu slabs damaged one after the other; %zu times the manifest's root, %zu times a list of files\n",
                  slabs_damaged, refused, with_lists);
    assert_true(slabs_damaged > 10 && refused >= BACKUPS && with_lists > 0);
    lineage_done(&made);
}

HF_TEST(of_a_pack_that_is_gone_every_page_is_told_and_the_others_are_restored)
{
    static struct told said, met;
    struct lineage made;
    struct hf_error err;
    const struct hf_vault_state *log;
    make_lineage(&made);
    hf_assert_ok(hf_vault_read(made.vault.vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++) {
        if (log->packs[i].kind != HF_PACK_DATA)
            continue;
        struct slab_told narrowed = {0};
        char name[HF_PACK_NAME_BYTES], path[800], aside[800];
        const struct hf_id pack = log->packs[i].pack;
        snprintf(path, sizeof path, "%s/%s", made.vault.place, hf_pack_name(&made.vault.id, &pack, name));
        snprintf(aside, sizeof aside, "%s/aside", made.folder);
        assert_int_equal(rename(path, aside), 0);
        hf_assert_ok(hf_lost_slabs(made.vault.vault, &pack, NULL, take_slab, &narrowed, &err), &err);
        assert_int_equal(narrowed.count, 1);
        assert_int_equal(narrowed.last.slab, HF_LOST_WHOLE_PACK);
        for (size_t backup = 0; backup < BACKUPS; backup++) {
            said = (struct told){0};
            hf_assert_ok(
                hf_lost_pages(made.vault.vault, &made.backups[backup], &narrowed.last, 1, NULL, take, &said, &err),
                &err);
            assert_true(restore_what_is_left(&made, backup, &met));
            assert_same_pages(&said, &met);
        }
        assert_int_equal(rename(aside, path), 0);
    }
    lineage_done(&made);
}

HF_TEST(the_next_backup_is_whole_again_and_an_older_one_still_says_what_it_lacks)
{
    static struct told before, after;
    struct lineage made;
    struct model next;
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *log;
    make_lineage(&made);
    hf_assert_ok(hf_vault_read(made.vault.vault, NULL, NULL, &log, &err), &err);

    /* A slab of the first backup that the newest needs as well. */
    struct hf_heal lost = {.slab = 0};
    for (size_t i = 0; i < log->pack_count; i++)
        if (log->packs[i].kind == HF_PACK_DATA && hf_id_equal(&log->packs[i].session, &log->backups[0].session))
            lost.pack = log->packs[i].pack;
    flip(&made.vault, &lost.pack, HF_PACK_HEADER + HF_SLAB_HEADER + 9);
    const struct hf_lost_slab slab = {lost.pack, lost.slab};
    before = (struct told){0};
    hf_assert_ok(hf_lost_pages(made.vault.vault, &made.backups[2], &slab, 1, NULL, take, &before, &err), &err);
    assert_true(before.count > 0);

    model_make(&next, MODEL_BYTES, BACKUPS);
    struct hf_session_options options = model_options(&made.vault);
    options.heal = &lost;
    options.heal_count = 1;
    hf_assert_ok(model_back_up(&next, made.vault.vault, &options, &outcome, &err), &err);
    model_assert_restores(&next, made.vault.vault, &outcome.backup, made.folder);
    after = (struct told){0};
    hf_assert_ok(hf_lost_pages(made.vault.vault, &outcome.backup, &slab, 1, NULL, take, &after, &err), &err);
    assert_int_equal(after.count, 0);
    hf_assert_ok(hf_lost_pages(made.vault.vault, &made.backups[2], &slab, 1, NULL, take, &after, &err), &err);
    assert_same_pages(&before, &after);
    model_done(&next);
    lineage_done(&made);
}

HF_TEST(runs_of_lost_pages_count_bytes_as_far_as_the_file_reaches)
{
    static struct told said;
    struct lineage made;
    struct hf_error err;
    const struct hf_vault_state *log;
    struct hf_lost_slab slabs[64];
    size_t count = 0;
    make_lineage(&made);
    hf_assert_ok(hf_vault_read(made.vault.vault, NULL, NULL, &log, &err), &err);
    for (size_t i = 0; i < log->pack_count; i++)
        if (log->packs[i].kind == HF_PACK_DATA)
            slabs[count++] = (struct hf_lost_slab){log->packs[i].pack, HF_LOST_WHOLE_PACK};
    said = (struct told){0};
    hf_assert_ok(hf_lost_pages(made.vault.vault, &made.backups[2], slabs, count, NULL, take, &said, &err), &err);
    uint64_t bytes = 0;
    for (size_t i = 0; i < said.count; i++) {
        const struct model_file *file = model_file(&made.models[2], said.runs[i].path);
        assert_non_null(file);
        assert_true((said.runs[i].first_page << file->page_log2) + said.runs[i].bytes <= file->size);
        bytes += said.runs[i].bytes;
    }
    assert_true(bytes > 0 && bytes <= model_bytes(&made.models[2]));
    assert_true(is_told(&said, "PG_VERSION", 0));
    lineage_done(&made);
}
