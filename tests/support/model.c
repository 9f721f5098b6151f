#include "tests/support/model.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/support/test.h"

#define PAGE        8192
#define PIECE       32749 // no multiple of anything
#define MODIFIED_AT 1700000000123
#define LINK        "pg_tblspc/16400"

static void fill_page(uint8_t *page, size_t length, size_t file, size_t number, unsigned generation);
static unsigned last_change(size_t file, size_t page, unsigned generation);
static int count_entry(const char *path, const struct stat *status, int type, struct FTW *place);

void
model_make(struct model *made, size_t bytes, unsigned generation)
{
    const struct model_file files[MODEL_FILES] = {
        {"base/5/16384", HF_FILE_RELATION, 13, 0600, MODIFIED_AT, bytes / 2 & ~(size_t)(PAGE - 1), NULL},
        {"base/5/16385", HF_FILE_RELATION, 13, 0640, MODIFIED_AT + 1, (bytes / 4 & ~(size_t)(PAGE - 1)) + 4711, NULL},
        {"base/5/16386", HF_FILE_RELATION, 13, 0600, MODIFIED_AT, 0, NULL},
        {LINK "/PG_15_202209061/5/16401", HF_FILE_RELATION, 13, 06666, MODIFIED_AT, bytes / 8 & ~(size_t)(PAGE - 1),
         NULL},
        {"pg_xact/0000", HF_FILE_OTHER, 16, 0600, MODIFIED_AT, 70001, NULL},
        {"PG_VERSION", HF_FILE_OTHER, 16, 04755, MODIFIED_AT, 3, NULL},
        {"tablespace_map", HF_FILE_OTHER, 16, 0600, 0, 33, NULL},
        {"global/pg_control", HF_FILE_OTHER, 16, 0600, MODIFIED_AT, PAGE, NULL},
    };
    for (size_t i = 0; i < MODEL_FILES; i++) {
        struct model_file *file = &made->files[i];
        *file = files[i];
        file->bytes = malloc(file->size + 1);
        assert_non_null(file->bytes);
        for (size_t at = 0; at < file->size; at += PAGE)
            fill_page(file->bytes + at, file->size - at < PAGE ? file->size - at : PAGE, i, at / PAGE,
                      last_change(i, at / PAGE, generation));
    }
}

void
model_done(struct model *model)
{
    for (size_t i = 0; i < MODEL_FILES; i++)
        free(model->files[i].bytes);
}

size_t
model_bytes(const struct model *model)
{
    size_t bytes = 0;
    for (size_t i = 0; i < MODEL_FILES; i++)
        bytes += model->files[i].size;
    return bytes;
}

struct hf_session_options
model_options(struct test_vault *vault)
{
    return (struct hf_session_options){.source = "clinic",
                                       .operation = "backup",
                                       .signing = &vault->signing,
                                       .cache_folder = vault->cache,
                                       .workers = 2};
}

bool
model_hand_over(const struct model *model, struct hf_session *session, struct hf_error *err)
{
    for (size_t i = 0; i < MODEL_FILES; i++) {
        struct hf_session_file *file;
        if (!model_hand_over_file(&model->files[i], model->files[i].size, session, &file, err))
            return false;
    }
    return hf_session_folder(session, "", 0700, err) && hf_session_folder(session, "pg_wal", 0750, err) &&
           hf_session_folder(session, "pg_wal/archive_status", 0700, err) &&
           hf_session_link(session, LINK, "/srv/space", err);
}

bool
model_hand_over_file(const struct model_file *from, size_t length, struct hf_session *session,
                     struct hf_session_file **ret, struct hf_error *err)
{
    const struct hf_session_file_info info = {.path = from->path,
                                              .kind = from->kind,
                                              .page_log2 = from->page_log2,
                                              .mode = from->mode,
                                              .modified_at = from->modified_at};
    if (!hf_session_file_begin(session, &info, ret, err))
        return false;
    for (size_t at = 0; at < length; at += PIECE)
        if (!hf_session_file_write(*ret, from->bytes + at, length - at < PIECE ? length - at : PIECE, err))
            return false;
    return length < from->size || hf_session_file_end(ret, err);
}

bool
model_back_up(const struct model *model, struct hf_vault *vault, const struct hf_session_options *options,
              struct hf_session_outcome *ret, struct hf_error *err)
{
    _cleanup_(hf_session_freep) struct hf_session *session = NULL;
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    return hf_session_begin(vault, options, &session, err) && model_hand_over(model, session, err) &&
           hf_session_commit(&session, facts, ret, err);
}

/* What the walk below has met; nftw() has no room for a context. */
static size_t files_met, others_met;

void
model_assert_folder(const struct model *model, const char *folder)
{
    char path[512];
    struct stat status;
    for (size_t i = 0; i < MODEL_FILES; i++) {
        const struct model_file *file = &model->files[i];
        struct hf_error err;
        _cleanup_(hf_closep) int fd = -1;
        _cleanup_(hf_freep) uint8_t *bytes = malloc(file->size + 1);
        assert_non_null(bytes);
        snprintf(path, sizeof path, "%s/%s", folder, file->path);
        hf_assert_ok(hf_file_open(path, &fd, &status, &err), &err);
        assert_int_equal(status.st_size, file->size);
        hf_assert_ok(hf_pread_all(fd, bytes, file->size, 0, path, &err), &err);
        if (memcmp(bytes, file->bytes, file->size) != 0)
            fail_msg("\"%s\" does not hold what was backed up", path);
        assert_int_equal(status.st_mode & 07777, (file->mode & 0640) | 0600);
        if (file->modified_at > 0)
            assert_int_equal(status.st_mtim.tv_sec * 1000 + status.st_mtim.tv_nsec / 1000000, file->modified_at);
    }
    snprintf(path, sizeof path, "%s/" LINK, folder);
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    snprintf(path, sizeof path, "%s/pg_wal/archive_status", folder);
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));

    files_met = others_met = 0;
    assert_int_equal(nftw(folder, count_entry, 16, FTW_PHYS), 0);
    assert_int_equal(files_met, MODEL_FILES);
    assert_int_equal(others_met, 0);
}

void
model_assert_restores(const struct model *model, struct hf_vault *vault, const struct hf_id *backup,
                      const char *scratch)
{
    char target[512], text[HF_ID_TEXT_BYTES];
    struct hf_error err;
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    const struct hf_restore_options options = {.workers = 2, .cache_bytes = 16 * HF_MIB};
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    snprintf(target, sizeof target, "%s/restored-%s", scratch, hf_id_format(backup, text));
    hf_assert_ok(hf_restore_plan(vault, backup, &options, &plan, &size, &err), &err);
    hf_assert_ok(hf_restore_write(plan, target, &outcome, &err), &err);
    assert_int_equal(size.bytes, model_bytes(model));
    model_assert_folder(model, target);
    hf_assert_ok(hf_dir_remove_tree(target, &err), &err);
}

/* Half noise, half text, as tables are; a run of pages in the second file was never used. */
static void
fill_page(uint8_t *page, size_t length, size_t file, size_t number, unsigned generation)
{
    if (file == 1 && number % 64 >= 40) {
        memset(page, 0, length);
        return;
    }
    uint8_t seed[randombytes_SEEDBYTES] = {(uint8_t)file};
    memcpy(seed + 1, &number, sizeof number);
    memcpy(seed + 1 + sizeof number, &generation, sizeof generation);
    randombytes_buf_deterministic(page, length, seed);
    memset(page + length / 2, 'a' + (int)(number % 26), length - length / 2);
}

/* The newest generation up to `generation` in which the page changed. */
static unsigned
last_change(size_t file, size_t page, unsigned generation)
{
    /* By chance, but the same in every process: a multiplicative hash of all three. */
    while (generation > 0 &&
           ((page * UINT64_C(0x9e3779b97f4a7c15) + file * 31 + generation) * UINT64_C(0xbf58476d1ce4e5b9) >> 32) % 10 !=
               0)
        generation--;
    return generation;
}

static int
count_entry(const char *path, const struct stat *status, int type, struct FTW *place)
{
    (void)path, (void)type, (void)place;
    files_met += S_ISREG(status->st_mode);
    others_met += !S_ISREG(status->st_mode) && !S_ISDIR(status->st_mode);
    return 0;
}
