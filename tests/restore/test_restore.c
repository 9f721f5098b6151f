#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/restore/configure.h"
#include "tests/support/disk.h"
#include "tests/support/model.h"

#define SMALL   (3 * HF_MIB)
#define CHURNED (8 * HF_MIB)
#define LARGE   (72 * HF_MIB) // its first file has more than one leaf

/* A repository with one backup of a model. */
struct stored {
    struct test_vault vault;
    struct model model;
    struct hf_id backup;
    char target[512];
};

static void
store(struct stored *stored, size_t bytes)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    const char *folder = hf_test_folder();
    test_vault_make(&stored->vault, folder);
    model_make(&stored->model, bytes, 0);
    const struct hf_session_options options = model_options(&stored->vault);
    hf_assert_ok(model_back_up(&stored->model, stored->vault.vault, &options, &outcome, &err), &err);
    stored->backup = outcome.backup;
    snprintf(stored->target, sizeof stored->target, "%s/target", folder);
}

static void
stored_done(struct stored *stored)
{
    model_done(&stored->model);
    test_vault_done(&stored->vault);
}

static bool
restore_with(struct stored *stored, const struct hf_restore_options *options, struct hf_restore_outcome *ret,
             struct hf_error *err)
{
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    struct hf_restore_size size;
    return hf_restore_plan(stored->vault.vault, &stored->backup, options, &plan, &size, err) &&
           hf_restore_write(plan, stored->target, ret, err);
}

static bool
restore(struct stored *stored, struct hf_error *err)
{
    struct hf_restore_outcome outcome;
    return restore_with(stored, &(struct hf_restore_options){.workers = 2, .sync = true}, &outcome, err);
}

/* What the visitor below finds: where the first stored page of a file lies. */
struct place {
    struct hf_backup *backup;
    struct hf_slab_worker *worker;
    struct hf_id data_pack, map_pack;
    uint32_t slab;
    uint64_t offset; // of that slab in its pack
};

static bool
find_place(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    (void)path;
    struct place *place = context;
    _cleanup_(hf_leaf_done) struct hf_leaf leaf;
    struct hf_slab_info *slabs;
    size_t count;
    hf_leaf_init(&leaf, file->page_log2);
    if (!hf_backup_leaf(place->backup, place->worker, &file->leaves[0], &leaf, err))
        return false;
    assert_int_equal(leaf.extents[0].type, HF_EXTENT_STORED);
    place->map_pack = file->leaves[0].pack;
    place->data_pack = leaf.packs[leaf.extents[0].pack];
    place->slab = leaf.extents[0].slab;
    if (!hf_pack_reader_slabs(hf_backup_packs(place->backup), &place->data_pack, &slabs, &count, err))
        return false;
    place->offset = slabs[place->slab].offset;
    free(slabs);
    return true;
}

static struct place
place_of(struct stored *stored, const char *path)
{
    struct hf_error err;
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    hf_assert_ok(hf_slab_worker_new(1, &worker, &err), &err);
    hf_assert_ok(hf_backup_open(stored->vault.vault, &stored->backup, &backup, &err), &err);
    struct place place = {.backup = backup, .worker = worker};
    hf_assert_ok(hf_backup_find(backup, worker, path, find_place, &place, &err), &err);
    return place;
}

static const char *
pack_path(const struct stored *stored, const struct hf_id *pack)
{
    static char path[700];
    char name[HF_PACK_NAME_BYTES];
    const struct hf_id vault = hf_vault_id(stored->vault.vault);
    snprintf(path, sizeof path, "%s/%s", stored->vault.place, hf_pack_name(&vault, pack, name));
    return path;
}

static bool
exists(const struct stored *stored, const char *name)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", stored->target, name);
    return access(path, F_OK) == 0;
}

static void
put_file(const char *folder, const char *name, const char *text)
{
    struct hf_error err;
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    hf_assert_ok(hf_file_publish(path, text, strlen(text), 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
}

static void
assert_file(const char *folder, const char *name, const char *text)
{
    struct hf_error err;
    char path[700];
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(HF_MIB);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    hf_assert_ok(hf_file_read(path, &content, &err), &err);
    assert_string_equal(hf_buf_text(&content), text);
}

static void assert_message(const struct hf_error *err, const char *format, ...) HF_PRINTF(2, 3);

static void
assert_message(const struct hf_error *err, const char *format, ...)
{
    char expected[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(expected, sizeof expected, format, arguments);
    va_end(arguments);
    assert_string_equal(err->message, expected);
}

HF_TEST(a_restore_is_the_backup_byte_for_byte)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    _Atomic uint64_t done = 0, total = 0;
    store(&stored, LARGE);
    const mode_t before = umask(077); // what the modes become is not the umask's business
    const struct hf_restore_options options = {.workers = 2, .sync = true, .done = &done, .total = &total};
    hf_assert_ok(restore_with(&stored, &options, &outcome, &err), &err);
    umask(before);

    model_assert_folder(&stored.model, stored.target);
    assert_int_equal(outcome.bytes, model_bytes(&stored.model));
    assert_int_equal(done, outcome.bytes);
    assert_int_equal(total, outcome.bytes);
    struct stat status;
    char path[700];
    snprintf(path, sizeof path, "%s/pg_wal", stored.target);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0750);
    stored_done(&stored);
}

HF_TEST(any_number_of_workers_and_the_smallest_cache_write_the_same)
{
    static const unsigned workers[] = {1, 2, 7, 64};
    struct stored stored;
    struct hf_error err;
    store(&stored, LARGE);
    for (size_t i = 0; i < HF_LENGTH(workers); i++) {
        struct hf_restore_outcome outcome;
        const struct hf_restore_options options = {.workers = workers[i], .cache_bytes = 1};
        hf_assert_ok(restore_with(&stored, &options, &outcome, &err), &err);
        model_assert_folder(&stored.model, stored.target);
        hf_assert_ok(hf_dir_remove_tree(stored.target, &err), &err);
    }
    stored_done(&stored);
}

HF_TEST(each_slab_of_a_first_backup_is_opened_about_once)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    store(&stored, LARGE);
    hf_assert_ok(restore_with(&stored, &(struct hf_restore_options){.workers = 2}, &outcome, &err), &err);
    assert_true(outcome.bytes_opened < outcome.bytes * 11 / 10);
    stored_done(&stored);
}

/* What a restore opens, in times of what it writes, after many backups of which each changed a tenth of the pages. */
static double
opened_after_churn(unsigned ageing_percent, unsigned rounds, double *ret_stored)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    uint64_t stored_bytes = 0;
    store(&stored, CHURNED);
    struct hf_session_options options = model_options(&stored.vault);
    options.ageing_percent = ageing_percent;
    for (unsigned round = 1; round <= rounds; round++) {
        struct hf_session_outcome backup;
        model_done(&stored.model);
        model_make(&stored.model, CHURNED, round);
        hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &backup, &err), &err);
        stored.backup = backup.backup;
        stored_bytes += backup.stored_bytes;
    }
    hf_assert_ok(restore_with(&stored, &(struct hf_restore_options){.workers = 2}, &outcome, &err), &err);
    model_assert_folder(&stored.model, stored.target);
    *ret_stored = (double)stored_bytes / (double)rounds / (double)CHURNED;
    stored_done(&stored);
    return (double)outcome.bytes_opened / (double)outcome.bytes;
}

HF_TEST(a_restore_stays_near_after_many_backups_since_thin_slabs_are_stored_again)
{
    double plain_stored, aged_stored;
    const double plain = opened_after_churn(1, 40, &plain_stored), aged = opened_after_churn(0, 40, &aged_stored);
    print_message("# opened %.2f x without ageing, %.2f x with; each backup stores %.3f x and %.3f x\n", plain, aged,
                  plain_stored, aged_stored);
    assert_true(aged < 2);
    assert_true(aged < plain);
}

HF_TEST(zeros_become_holes)
{
    struct stored stored;
    struct hf_error err;
    struct stat status;
    char path[700];
    store(&stored, SMALL);
    free(stored.model.files[1].bytes);
    stored.model.files[1].size = 8 * HF_MIB + 5;
    stored.model.files[1].bytes = calloc(1, stored.model.files[1].size);
    struct hf_session_outcome outcome;
    const struct hf_session_options options = model_options(&stored.vault);
    hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &outcome, &err), &err);
    stored.backup = outcome.backup;

    hf_assert_ok(restore(&stored, &err), &err);
    model_assert_folder(&stored.model, stored.target);
    snprintf(path, sizeof path, "%s/%s", stored.target, stored.model.files[1].path);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_blocks, 0);
    stored_done(&stored);
}

HF_TEST(an_empty_folder_is_a_target_and_keeps_its_place)
{
    struct stored stored;
    struct hf_error err;
    store(&stored, SMALL);
    assert_int_equal(mkdir(stored.target, 0755), 0);
    hf_assert_ok(restore(&stored, &err), &err);
    model_assert_folder(&stored.model, stored.target);
    stored_done(&stored);
}

HF_TEST(a_folder_that_holds_anything_is_refused_and_left_as_it_was)
{
    struct stored stored;
    struct hf_error err;
    struct stat before, after;
    store(&stored, SMALL);
    assert_int_equal(mkdir(stored.target, 0755), 0);
    put_file(stored.target, ".hidden", "precious");
    assert_int_equal(stat(stored.target, &before), 0);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_message(&err, "folder \"%s\" is not empty", stored.target);
    assert_string_equal(err.hint,
                        "Choose an empty folder, or one that does not exist yet; or, where a copy of the same "
                        "database lies: --delta.");
    assert_int_equal(stat(stored.target, &after), 0);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
    assert_file(stored.target, ".hidden", "precious");
    assert_false(exists(&stored, "PG_VERSION"));
    stored_done(&stored);
}

HF_TEST(a_file_is_refused_as_a_target_and_left_as_it_was)
{
    struct stored stored;
    struct hf_error err;
    store(&stored, SMALL);
    char *slash = strrchr(stored.target, '/');
    *slash = '\0';
    put_file(stored.target, "target", "precious");
    *slash = '/';

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_message(&err, "restore to \"%s\": cannot make folder \"%s\": a file of that name exists", stored.target,
                   stored.target);
    *slash = '\0';
    assert_file(stored.target, "target", "precious");
    *slash = '/';
    stored_done(&stored);
}

HF_TEST(a_full_disk_says_so_and_leaves_nothing_that_starts)
{
    struct stored stored;
    struct hf_error err;
    store(&stored, SMALL);
    assert_int_equal(mkdir(stored.target, 0755), 0);
    if (!test_disk_mount_small(stored.target, HF_MIB)) {
        stored_done(&stored);
        HF_TEST_SKIP("this host lets us mount nothing");
    }
    char expected[700];
    snprintf(expected, sizeof expected, "restore to \"%s\": ", stored.target);

    /* From room for hardly a page to room for all but the last. */
    for (size_t room = 64 * HF_KIB;; room += 256 * HF_KIB) {
        test_disk_unmount(stored.target);
        assert_true(test_disk_mount_small(stored.target, room));
        if (restore(&stored, &err))
            break;
        assert_int_equal(err.kind, HF_ERR_NO_SPACE);
        assert_true(strncmp(err.message, expected, strlen(expected)) == 0);
        assert_non_null(strstr(err.message, "No space left on device"));
        assert_string_equal(err.hint,
                            "Make room there, empty the folder and restore again; or restore to another disk.");
        assert_false(exists(&stored, "global/pg_control"));
        assert_true(room < 2 * SMALL);
    }
    model_assert_folder(&stored.model, stored.target);
    test_disk_unmount(stored.target);
    stored_done(&stored);
}

HF_TEST(a_last_file_that_does_not_fit_is_taken_away_again)
{
    struct stored stored;
    struct hf_error err;
    store(&stored, SMALL);
    assert_int_equal(mkdir(stored.target, 0755), 0);
    bool met = false;
    size_t room = model_bytes(&stored.model); // and folders, inodes: so much is not enough
    if (!test_disk_mount_small(stored.target, room)) {
        stored_done(&stored);
        HF_TEST_SKIP("this host lets us mount nothing");
    }
    for (room -= SMALL / 2;; room += 4096) {
        test_disk_unmount(stored.target);
        assert_true(test_disk_mount_small(stored.target, room));
        if (restore(&stored, &err))
            break;
        assert_int_equal(err.kind, HF_ERR_NO_SPACE);
        assert_false(exists(&stored, "global/pg_control"));
        met = met || strstr(err.message, "file \"global/pg_control\"") != NULL;
    }
    assert_true(met);
    test_disk_unmount(stored.target);
    stored_done(&stored);
}

HF_TEST(a_missing_pack_is_found_before_the_target_is_touched)
{
    struct stored stored;
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES];
    store(&stored, SMALL);
    const struct place place = place_of(&stored, "base/5/16384");
    assert_int_equal(unlink(pack_path(&stored, &place.data_pack)), 0);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_message(&err, "pack \"%s\" is missing: file \"PG_VERSION\" and %d more cannot be restored",
                   hf_id_format(&place.data_pack, text), MODEL_FILES - 2); // the empty one could be
    assert_string_equal(err.hint, "Restore another backup.  The next backup stores again what is lost.");
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

HF_TEST(a_pack_that_only_one_file_needs_takes_only_that_file_with_it)
{
    struct stored stored;
    struct hf_error err;
    struct hf_session_outcome outcome;
    char text[HF_ID_TEXT_BYTES];
    store(&stored, SMALL);
    stored.model.files[5].bytes[0] ^= 1;
    const struct hf_session_options options = model_options(&stored.vault);
    hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &outcome, &err), &err);
    stored.backup = outcome.backup;
    const struct place place = place_of(&stored, "PG_VERSION");
    assert_int_equal(unlink(pack_path(&stored, &place.data_pack)), 0);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_message(&err, "pack \"%s\" is missing: file \"PG_VERSION\" cannot be restored",
                   hf_id_format(&place.data_pack, text));
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

HF_TEST(a_truncated_pack_is_found_before_the_target_is_touched)
{
    struct stored stored;
    struct hf_error err;
    struct stat status;
    char expected[256], text[HF_ID_TEXT_BYTES];
    store(&stored, SMALL);
    const struct place place = place_of(&stored, "base/5/16384");
    const char *path = pack_path(&stored, &place.data_pack);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(truncate(path, status.st_size - 1), 0);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    snprintf(expected, sizeof expected, "pack \"%s\" has %jd bytes, the log says %jd: file ",
             hf_id_format(&place.data_pack, text), (intmax_t)status.st_size - 1, (intmax_t)status.st_size);
    assert_memory_equal(err.message, expected, strlen(expected));
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

/* One pack holds the manifest's root, its pages and the leaves: without it there is no list of files at all. */
HF_TEST(a_missing_map_pack_is_found_before_the_target_is_touched)
{
    struct stored stored;
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES];
    store(&stored, SMALL);
    const struct place place = place_of(&stored, "base/5/16384");
    assert_int_equal(unlink(pack_path(&stored, &place.map_pack)), 0);
    test_vault_reopen(&stored.vault);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the manifest of backup \""));
    assert_non_null(strstr(err.message, hf_id_format(&place.map_pack, text)));
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

/* The second backup shares leaves and manifest pages with the first: its own map pack is there. */
HF_TEST(a_missing_map_pack_of_an_earlier_backup_is_named_with_what_it_held)
{
    struct stored stored;
    struct hf_error err;
    struct hf_session_outcome outcome;
    char text[HF_ID_TEXT_BYTES], expected[128];
    store(&stored, SMALL);
    const struct hf_session_options options = model_options(&stored.vault);
    hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &outcome, &err), &err);
    stored.backup = outcome.backup;
    const struct place place = place_of(&stored, "base/5/16384");
    assert_int_equal(unlink(pack_path(&stored, &place.map_pack)), 0);
    test_vault_reopen(&stored.vault);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    snprintf(expected, sizeof expected,
             "pack \"%s\" is missing: the list of files in folder \"\": ", hf_id_format(&place.map_pack, text));
    assert_memory_equal(err.message, expected, strlen(expected));
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

HF_TEST(a_flipped_byte_is_corrupt_and_pack_slab_and_file_are_named)
{
    struct stored stored;
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES], slab[32];
    store(&stored, SMALL);
    const struct place place = place_of(&stored, "base/5/16385");
    uint8_t byte;
    _cleanup_(hf_closep) int fd = -1;
    assert_int_equal(chmod(pack_path(&stored, &place.data_pack), 0600), 0);
    fd = open(pack_path(&stored, &place.data_pack), O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)place.offset + 500), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)place.offset + 500), 1);

    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    snprintf(slab, sizeof slab, "slab %u", place.slab);
    assert_non_null(strstr(err.message, hf_id_format(&place.data_pack, text)));
    assert_non_null(strstr(err.message, slab));
    assert_non_null(strstr(err.message, "file \"base/5/1638"));
    assert_false(exists(&stored, "global/pg_control"));
    stored_done(&stored);
}

/* While set, sessions write digests that are not their files'. */
static bool digests_lie;

void __real_hf_file_digest_end(struct hf_file_digest *digest, uint64_t size, uint8_t ret[static HF_FILE_DIGEST_BYTES]);
void __wrap_hf_file_digest_end(struct hf_file_digest *digest, uint64_t size, uint8_t ret[static HF_FILE_DIGEST_BYTES]);
void
__wrap_hf_file_digest_end(struct hf_file_digest *digest, uint64_t size, uint8_t ret[static HF_FILE_DIGEST_BYTES])
{
    __real_hf_file_digest_end(digest, size, ret);
    ret[0] ^= digests_lie;
}

/* The seals of the slabs hold, but maps and pages do not make the file that was backed up. */
HF_TEST(a_file_that_does_not_have_its_digest_is_corrupt)
{
    struct stored stored;
    struct hf_error err;
    digests_lie = true;
    store(&stored, SMALL);
    digests_lie = false;
    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, ": its content does not have the digest of the backup"));
    assert_non_null(strstr(err.message, "file \""));
    assert_false(exists(&stored, "global/pg_control"));
    stored_done(&stored);
}

/* Cancels when the first megabyte has been written. */
static void
cancel_now(void *context, const char *path, uint64_t file_size, uint64_t first_page, const uint8_t *pages,
           size_t length)
{
    (void)path, (void)file_size, (void)first_page, (void)pages, (void)length;
    atomic_store((atomic_bool *)context, true);
}

HF_TEST(a_cancelled_restore_stops_and_leaves_nothing_that_starts)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    atomic_bool cancel = false;
    _Atomic uint64_t done = 0;
    store(&stored, LARGE);
    const struct hf_restore_options options = {
        .workers = 2, .cancel = &cancel, .done = &done, .page_check = cancel_now, .context = &cancel};
    assert_false(restore_with(&stored, &options, &outcome, &err));
    assert_int_equal(err.kind, HF_ERR_CANCELLED);
    assert_message(&err, "restore to \"%s\": the restore was cancelled", stored.target);
    assert_true(done > 0 && done < model_bytes(&stored.model));
    assert_false(exists(&stored, "global/pg_control"));
    stored_done(&stored);
}

/* Counts the bytes that pass, and that they are whole pages in their places. */
struct seen {
    const struct model *model;
    _Atomic uint64_t bytes;
};

static void
see_pages(void *context, const char *path, uint64_t file_size, uint64_t first_page, const uint8_t *pages, size_t length)
{
    struct seen *seen = context;
    for (size_t i = 0; i < MODEL_FILES; i++) {
        const struct model_file *file = &seen->model->files[i];
        if (strcmp(file->path, path) == 0 && file->size == file_size &&
            memcmp(file->bytes + (first_page << file->page_log2), pages, length) == 0)
            atomic_fetch_add(&seen->bytes, length);
    }
}

HF_TEST(a_page_check_sees_every_page_once_at_its_place)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    store(&stored, SMALL);
    struct seen seen = {.model = &stored.model};
    const struct hf_restore_options options = {.workers = 2, .page_check = see_pages, .context = &seen};
    hf_assert_ok(restore_with(&stored, &options, &outcome, &err), &err);
    assert_int_equal(seen.bytes, model_bytes(&stored.model));
    stored_done(&stored);
}

HF_TEST(everything_is_given_to_the_owner_that_was_asked_for)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_outcome outcome;
    static const char *const names[] = {"", "base/5", "base/5/16384", "pg_wal", "pg_tblspc/16400", "global/pg_control"};
    if (geteuid() != 0)
        HF_TEST_SKIP("only root gives files away");
    store(&stored, SMALL);
    const struct hf_restore_options options = {.workers = 2, .owner = true, .uid = 4711, .gid = 4712};
    hf_assert_ok(restore_with(&stored, &options, &outcome, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        struct stat status;
        char path[700];
        snprintf(path, sizeof path, "%s/%s", stored.target, names[i]);
        assert_int_equal(lstat(path, &status), 0);
        assert_int_equal(status.st_uid, 4711);
        assert_int_equal(status.st_gid, 4712);
    }
    stored_done(&stored);
}

HF_TEST(the_link_of_a_tablespace_that_holds_nothing_becomes_a_folder_too)
{
    struct test_vault vault;
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome outcome;
    struct stat status;
    char path[700];
    _cleanup_(hf_json_freep) json_t *facts = json_object();
    const char *folder = hf_test_folder();
    test_vault_make(&vault, folder);
    const struct hf_session_options options = model_options(&vault);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    hf_assert_ok(hf_session_link(session, "pg_tblspc/16500", "/srv/empty", &err), &err);
    hf_assert_ok(hf_session_commit(&session, facts, &outcome, &err), &err);

    struct stored stored = {.vault = vault, .backup = outcome.backup};
    snprintf(stored.target, sizeof stored.target, "%s/target", folder);
    hf_assert_ok(restore(&stored, &err), &err);
    snprintf(path, sizeof path, "%s/pg_tblspc/16500", stored.target);
    assert_int_equal(lstat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    test_vault_done(&stored.vault);
}

HF_TEST(the_plan_knows_sizes_and_files)
{
    struct stored stored;
    struct hf_error err;
    struct hf_restore_size size;
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    store(&stored, SMALL);
    hf_assert_ok(hf_restore_plan(stored.vault.vault, &stored.backup, &(struct hf_restore_options){.workers = 2}, &plan,
                                 &size, &err),
                 &err);
    assert_int_equal(size.files, MODEL_FILES);
    assert_int_equal(size.bytes, model_bytes(&stored.model));
    assert_int_equal(size.packs, 2);
    for (size_t i = 0; i < MODEL_FILES; i++) {
        const struct hf_manifest_file *file = hf_restore_plan_file(plan, stored.model.files[i].path);
        assert_non_null(file);
        assert_int_equal(file->size, stored.model.files[i].size);
    }
    assert_null(hf_restore_plan_file(plan, "base/5"));
    assert_int_not_equal(access(stored.target, F_OK), 0);
    stored_done(&stored);
}

HF_TEST(a_backup_that_is_not_there_is_not_found)
{
    struct stored stored;
    struct hf_error err;
    char text[HF_ID_TEXT_BYTES];
    store(&stored, SMALL);
    stored.backup = hf_id_new();
    assert_false(restore(&stored, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_message(&err, "the vault has no backup \"%s\"", hf_id_format(&stored.backup, text));
    stored_done(&stored);
}

/* What a finish() meets; `fails` when it is to fail. */
struct finishing {
    bool called, fails, had_control;
};

static bool
finish_folder(void *context, const char *target, struct hf_error *err)
{
    struct finishing *finishing = context;
    char path[700];
    snprintf(path, sizeof path, "%s/global/pg_control", target);
    finishing->called = true;
    finishing->had_control = access(path, F_OK) == 0;
    return !finishing->fails || hf_fail(err, HF_ERR_NO_SPACE, "no room for the rest");
}

HF_TEST(what_a_folder_needs_besides_is_there_before_a_server_can_start_on_it)
{
    struct stored stored;
    struct hf_restore_outcome outcome;
    struct hf_error err;
    struct finishing finishing = {.fails = false};
    const struct hf_restore_options options = {.workers = 2, .finish = finish_folder, .finish_context = &finishing};
    store(&stored, SMALL);
    hf_assert_ok(restore_with(&stored, &options, &outcome, &err), &err);
    assert_true(finishing.called && !finishing.had_control);
    assert_true(exists(&stored, "global/pg_control"));
    stored_done(&stored);
}

HF_TEST(a_folder_whose_rest_could_not_be_written_is_none_a_server_starts_on)
{
    struct stored stored;
    struct hf_restore_outcome outcome;
    struct hf_error err;
    struct finishing finishing = {.fails = true};
    const struct hf_restore_options options = {.workers = 2, .finish = finish_folder, .finish_context = &finishing};
    store(&stored, SMALL);
    assert_false(restore_with(&stored, &options, &outcome, &err));
    assert_non_null(strstr(err.message, "no room for the rest"));
    assert_false(exists(&stored, "global/pg_control"));
    stored_done(&stored);
}

static const struct hf_restore_needs needs = {150018, 123, 17, 11, 5, 77};

static void
configure(struct stored *stored)
{
    struct hf_error err;
    _cleanup_(hf_restore_plan_freep) struct hf_restore_plan *plan = NULL;
    struct hf_restore_size size;
    struct hf_restore_outcome outcome;
    const struct hf_restore_options options = {.workers = 2};
    hf_assert_ok(hf_restore_plan(stored->vault.vault, &stored->backup, &options, &plan, &size, &err), &err);
    hf_assert_ok(hf_restore_write(plan, stored->target, &outcome, &err), &err);
    hf_assert_ok(hf_restore_configure(plan, stored->target, &needs, &err), &err);
}

HF_TEST(missing_configuration_is_written_and_the_tablespace_map_goes)
{
    struct stored stored;
    struct hf_error err;
    char path[700];
    _cleanup_(hf_buf_done) struct hf_buf settings = HF_BUF_INIT(64 * HF_KIB);
    store(&stored, SMALL);
    configure(&stored);

    snprintf(path, sizeof path, "%s/postgresql.conf", stored.target);
    hf_assert_ok(hf_file_read(path, &settings, &err), &err);
    static const char *const lines[] = {"\nlisten_addresses = ''\n",         "\narchive_mode = off\n",
                                        "\nmax_connections = 123\n",         "\nmax_worker_processes = 17\n",
                                        "\nmax_wal_senders = 11\n",          "\nmax_prepared_transactions = 5\n",
                                        "\nmax_locks_per_transaction = 77\n"};
    for (size_t i = 0; i < HF_LENGTH(lines); i++)
        assert_non_null(strstr(hf_buf_text(&settings), lines[i]));
    assert_file(stored.target, "pg_hba.conf",
                "# Written by Holdfast: the backup held no pg_hba.conf.\nlocal all all peer\n");
    assert_true(exists(&stored, "pg_ident.conf"));
    assert_false(exists(&stored, "tablespace_map"));
    stored_done(&stored);
}

HF_TEST(an_empty_tablespace_map_stays_since_the_servers_manifest_lists_it)
{
    struct stored stored;
    struct hf_error err;
    struct hf_session_outcome outcome;
    store(&stored, SMALL);
    stored.model.files[6].size = 0;
    const struct hf_session_options options = model_options(&stored.vault);
    hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &outcome, &err), &err);
    stored.backup = outcome.backup;
    configure(&stored);
    assert_true(exists(&stored, "tablespace_map"));
    stored_done(&stored);
}

HF_TEST(configuration_that_came_with_the_backup_is_kept)
{
    struct stored stored;
    struct hf_error err;
    struct hf_session_outcome outcome;
    store(&stored, SMALL);
    static const struct {
        size_t file;
        const char *path, *text;
    } own[] = {{4, "pg_hba.conf", "# theirs\n"}, {5, "postgresql.conf", "port = 4711\n"}};
    for (size_t i = 0; i < HF_LENGTH(own); i++) {
        struct model_file *file = &stored.model.files[own[i].file];
        file->path = own[i].path;
        file->size = strlen(own[i].text);
        free(file->bytes);
        file->bytes = (uint8_t *)strdup(own[i].text);
    }
    const struct hf_session_options options = model_options(&stored.vault);
    hf_assert_ok(model_back_up(&stored.model, stored.vault.vault, &options, &outcome, &err), &err);
    stored.backup = outcome.backup;
    configure(&stored);
    assert_file(stored.target, "pg_hba.conf", "# theirs\n");
    assert_file(stored.target, "postgresql.conf", "port = 4711\n");
    stored_done(&stored);
}
