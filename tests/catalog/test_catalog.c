#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "catalog/local.h"
#include "catalog/statements.h"
#include "catalog/view.h"
#include "tests/catalog/synthetic_log.h"

#define DUMP_MOST (64 * HF_MIB)

static const char *
fresh_path(void)
{
    static char paths[64][128];
    static size_t used;
    char *path = paths[used++];
    snprintf(path, sizeof paths[0], "%s/catalog.db", hf_test_folder());
    return path;
}

static struct hf_catalog *
must_open(const char *path, enum hf_catalog_how how)
{
    struct hf_catalog *catalog = NULL;
    struct hf_error err;
    hf_assert_ok(hf_catalog_open(path, how, &catalog, &err), &err);
    return catalog;
}

static void
apply_to(struct hf_catalog *catalog, unsigned vault, uint64_t first, uint64_t last)
{
    struct hf_error err;
    for (uint64_t n = first; n <= last; n++) {
        _cleanup_(synthetic_done) struct hf_catalog_entry entry = synthetic_entry(vault, n);
        hf_assert_ok(hf_catalog_apply(catalog, &entry, &err), &err);
    }
}

static uint64_t
head_of(struct hf_catalog *catalog, unsigned vault)
{
    uint64_t head;
    uint8_t hash[HF_SHA256_BYTES];
    struct hf_error err;
    struct hf_id id = synthetic_id(vault, "vault", 0);
    hf_assert_ok(hf_catalog_head(catalog, &id, &head, hash, &err), &err);
    return head;
}

static void
must_be_equal(struct hf_catalog *a, struct hf_catalog *b)
{
    struct hf_catalog_difference difference;
    struct hf_error err;
    hf_assert_ok(hf_catalog_compare(a, b, &difference, &err), &err);
    assert_string_equal(difference.first, "");
    assert_int_equal(difference.rows, 0);
}

static bool
count_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)row;
    (void)err;
    ++*(uint64_t *)context;
    return true;
}

HF_TEST(a_new_catalog_is_private_empty_and_knows_no_head)
{
    const char *path = fresh_path();
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
    _cleanup_(hf_buf_done) struct hf_buf dump = HF_BUF_INIT(DUMP_MOST);
    struct hf_error err;
    struct stat status;

    assert_int_equal(head_of(catalog, 1), 0);
    hf_assert_ok(hf_catalog_dump(catalog, &dump, &err), &err);
    assert_int_equal(dump.length, 0);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
}

HF_TEST(the_writer_waits_for_the_disk_and_trusts_nothing_it_reads)
{
    static const struct {
        const char *pragma, *value;
    } expected[] = {{"PRAGMA synchronous", "2"},
                    {"PRAGMA journal_mode", "wal"},
                    {"PRAGMA foreign_keys", "1"},
                    {"PRAGMA mmap_size", "0"},
                    {"PRAGMA trusted_schema", "0"}};
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(fresh_path(), HF_CATALOG_WRITE);
    for (size_t i = 0; i < HF_LENGTH(expected); i++) {
        sqlite3_stmt *read;
        assert_int_equal(sqlite3_prepare_v2(catalog->db, expected[i].pragma, -1, &read, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(read), SQLITE_ROW);
        assert_string_equal((const char *)sqlite3_column_text(read, 0), expected[i].value);
        sqlite3_finalize(read);
    }
}

HF_TEST(the_migrations_lead_to_the_shape_that_schema_sql_describes)
{
    static const char objects[] = "SELECT group_concat(what, x'0a') FROM (SELECT type || ' ' || name || ' ' || sql AS "
                                  "what FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY type, name)";
    const char *path = fresh_path(), *source = getenv("HOLDFAST_SOURCE");
    char schema_path[512], *shapes[2] = {NULL, NULL};
    struct hf_error err;
    if (source == NULL)
        HF_TEST_SKIP("HOLDFAST_SOURCE does not say where the sources are");

    struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
    hf_catalog_freep(&catalog);
    _cleanup_(hf_buf_done) struct hf_buf schema = HF_BUF_INIT(HF_MIB);
    snprintf(schema_path, sizeof schema_path, "%s/catalog/schema.sql", source);
    hf_assert_ok(hf_file_read(schema_path, &schema, &err), &err);

    for (int i = 0; i < 2; i++) {
        sqlite3 *db;
        sqlite3_stmt *read;
        assert_int_equal(sqlite3_open(i == 0 ? path : ":memory:", &db), SQLITE_OK);
        if (i == 1)
            assert_int_equal(sqlite3_exec(db, hf_buf_text(&schema), NULL, NULL, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_prepare_v2(db, objects, -1, &read, NULL), SQLITE_OK);
        assert_int_equal(sqlite3_step(read), SQLITE_ROW);
        const char *text = (const char *)sqlite3_column_text(read, 0);
        char *out = shapes[i] = calloc(1, strlen(text) + 1);
        for (bool comment = false; *text != '\0'; text++) { // without comments and spaces
            comment = (comment && *text != '\n') || (text[0] == '-' && text[1] == '-');
            if (!comment && strchr(" \n", *text) == NULL)
                *out++ = *text;
        }
        sqlite3_finalize(read);
        sqlite3_close(db);
    }
    assert_string_equal(shapes[0], shapes[1]);
    assert_non_null(strstr(shapes[0], "CREATETABLEbackup("));
    free(shapes[0]);
    free(shapes[1]);
}

HF_TEST(what_is_applied_is_there_after_opening_again)
{
    const char *path = fresh_path();
    struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
    apply_to(catalog, 1, 1, 25);
    hf_catalog_freep(&catalog);

    catalog = must_open(path, HF_CATALOG_WRITE);
    assert_int_equal(head_of(catalog, 1), 25);
    apply_to(catalog, 1, 26, 51);
    assert_int_equal(head_of(catalog, 1), 51);
    hf_catalog_freep(&catalog);
}

HF_TEST(applying_an_entry_again_changes_nothing)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *once = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    _cleanup_(hf_catalog_freep) struct hf_catalog *often = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    apply_to(once, 1, 1, 41);
    for (uint64_t n = 1; n <= 41; n++) {
        apply_to(often, 1, n, n);
        apply_to(often, 1, n, n);
        apply_to(often, 1, 1, n);
    }
    must_be_equal(once, often);
}

HF_TEST(a_rebuild_from_the_log_alone_is_equal_row_for_row)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *lived = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    _cleanup_(hf_catalog_freep) struct hf_catalog *rebuilt = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    _cleanup_(hf_buf_done) struct hf_buf a = HF_BUF_INIT(DUMP_MOST), b = HF_BUF_INIT(DUMP_MOST);
    struct hf_error err;

    // It lived with the vaults' entries mixed, the rebuild reads one vault after the other.
    for (uint64_t n = 1; n <= 101; n++)
        for (unsigned vault = 1; vault <= 3; vault++)
            apply_to(lived, vault, n, n);
    for (unsigned vault = 3; vault >= 1; vault--)
        apply_to(rebuilt, vault, 1, 101);

    must_be_equal(lived, rebuilt);
    hf_assert_ok(hf_catalog_dump(lived, &a, &err), &err);
    hf_assert_ok(hf_catalog_dump(rebuilt, &b, &err), &err);
    assert_true(a.length > 10000);
    assert_string_equal(hf_buf_text(&a), hf_buf_text(&b));
}

HF_TEST(the_comparison_finds_one_row_that_differs)
{
    const char *path = fresh_path();
    struct hf_catalog *a = must_open(path, HF_CATALOG_WRITE);
    _cleanup_(hf_catalog_freep) struct hf_catalog *b = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    struct hf_catalog_difference difference;
    struct hf_error err;
    apply_to(a, 1, 1, 21);
    apply_to(b, 1, 1, 21);
    hf_catalog_freep(&a);

    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "UPDATE backup SET logical_bytes = 1 WHERE sequence = 3", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);

    a = must_open(path, HF_CATALOG_WRITE);
    hf_assert_ok(hf_catalog_compare(a, b, &difference, &err), &err);
    assert_int_equal(difference.rows, 2); // one on each side
    assert_non_null(strstr(difference.first, "backup [["));
    hf_assert_ok(hf_catalog_compare(b, a, &difference, &err), &err);
    assert_int_equal(difference.rows, 2);
    hf_catalog_freep(&a);
}

HF_TEST(a_missing_row_counts_as_one_difference)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *a = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    _cleanup_(hf_catalog_freep) struct hf_catalog *b = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    struct hf_catalog_difference difference;
    struct hf_error err;
    apply_to(a, 1, 1, 1);
    hf_assert_ok(hf_catalog_compare(a, b, &difference, &err), &err);
    assert_int_equal(difference.rows, 2); // the vault and its head
    assert_true(strncmp(difference.first, "vault [[", 8) == 0);
}

/* The child applies the log and says how far it came only after an entry was applied. */
static void
apply_until_killed(const char *path, int said, uint64_t last)
{
    struct hf_catalog *catalog = NULL;
    if (!hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, NULL))
        _exit(2);
    uint64_t head = head_of(catalog, 1);
    for (uint64_t n = head + 1; n <= last; n++) {
        struct hf_catalog_entry entry = synthetic_entry(1, n);
        if (!hf_catalog_apply(catalog, &entry, NULL) || write(said, &n, sizeof n) != sizeof n)
            _exit(3);
        synthetic_done(&entry);
    }
    _exit(0);
}

HF_TEST(kill_9_at_any_moment_loses_nothing_that_was_acknowledged)
{
    const uint64_t last = 1601; // enough that a fast host is killed a few times too
    const char *path = fresh_path();
    uint64_t head = 0, acknowledged = 0;
    unsigned kills = 0;

    for (unsigned attempt = 0; head < last && attempt < 800; attempt++) {
        int said[2], status;
        assert_int_equal(pipe2(said, O_CLOEXEC), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            apply_until_killed(path, said[1], last);
        close(said[1]);
        usleep(3000 + 1700 * (attempt % 23));
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        kills += WIFSIGNALED(status) ? 1 : 0;
        for (uint64_t n; read(said[0], &n, sizeof n) == sizeof n;)
            acknowledged = n;
        close(said[0]);

        _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
        uint64_t backups = 0;
        struct hf_error err;
        head = head_of(catalog, 1);
        assert_true(head >= acknowledged);
        hf_assert_ok(hf_catalog_backups(catalog, NULL, true, count_backup, &backups, &err), &err);
        assert_int_equal(backups, head < 3 ? 0 : (head - 3) / SYNTHETIC_ROUND + 1);
    }
    assert_int_equal(head, last);
    assert_true(kills > 3);

    _cleanup_(hf_catalog_freep) struct hf_catalog *survivor = must_open(path, HF_CATALOG_WRITE);
    _cleanup_(hf_catalog_freep) struct hf_catalog *straight = must_open(fresh_path(), HF_CATALOG_SCRATCH);
    apply_to(straight, 1, 1, last);
    must_be_equal(survivor, straight);
}

static void
overwrite(const char *path, off_t offset, const char *bytes, size_t length)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, bytes, length, offset), length);
    close(fd);
}

HF_TEST(a_damaged_file_is_noticed_set_aside_and_made_again)
{
    const char *path = fresh_path();
    struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
    apply_to(catalog, 1, 1, 201);
    hf_catalog_freep(&catalog);

    char garbage[3000];
    memset(garbage, 0xA5, sizeof garbage);
    overwrite(path, 3 * 4096 + 8, garbage, sizeof garbage);
    struct hf_error err;
    assert_false(hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "/catalog.db\" is damaged: "));
    assert_null(catalog);

    _cleanup_(hf_freep) char *aside = NULL;
    hf_assert_ok(hf_catalog_set_aside(path, 0, &aside, &err), &err);
    assert_non_null(strstr(aside, "/catalog.db.damaged-1970-01-01T00:00:00.000Z"));
    assert_int_equal(access(aside, F_OK), 0);
    assert_int_equal(access(path, F_OK), -1);

    catalog = must_open(path, HF_CATALOG_WRITE);
    assert_int_equal(head_of(catalog, 1), 0);
    apply_to(catalog, 1, 1, 201);
    hf_catalog_freep(&catalog);
}

HF_TEST(a_file_that_is_no_database_or_no_catalog_is_corrupt)
{
    struct hf_catalog *catalog = NULL;
    struct hf_error err;
    const char *path = fresh_path();
    static const char text[] = "this was never a database, however long one looks at it, and it is long enough to be "
                               "read as a header of one hundred bytes";
    hf_assert_ok(hf_file_publish(path, text, sizeof text, 0600, HF_PUBLISH_REPLACE, &err), &err);
    assert_false(hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);

    sqlite3 *db;
    path = fresh_path();
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "CREATE TABLE recipe (name TEXT)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_false(hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is a database and no catalog"));
}

HF_TEST(a_catalog_of_a_newer_version_is_left_alone)
{
    const char *path = fresh_path();
    struct hf_catalog *catalog = must_open(path, HF_CATALOG_WRITE);
    struct hf_error err;
    hf_catalog_freep(&catalog);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    assert_false(hf_catalog_open(path, HF_CATALOG_WRITE, &catalog, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "has version 99; this program knows "));
}

HF_TEST(a_reader_sees_what_was_committed_and_cannot_write)
{
    const char *path = fresh_path();
    struct hf_catalog *reader = NULL;
    struct hf_error err;
    assert_false(hf_catalog_open(path, HF_CATALOG_READ, &reader, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_int_equal(access(path, F_OK), -1);

    _cleanup_(hf_catalog_freep) struct hf_catalog *writer = must_open(path, HF_CATALOG_WRITE);
    apply_to(writer, 1, 1, 11);
    reader = must_open(path, HF_CATALOG_READ);
    assert_int_equal(head_of(reader, 1), 11);
    apply_to(writer, 1, 12, 13);
    assert_int_equal(head_of(reader, 1), 13);

    _cleanup_(synthetic_done) struct hf_catalog_entry entry = synthetic_entry(1, 14);
    assert_false(hf_catalog_apply(reader, &entry, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    hf_catalog_freep(&reader);
}

HF_TEST(a_scratch_catalog_takes_the_place_of_the_live_one_with_its_local_tables)
{
    const char *path = fresh_path();
    char scratch_path[160];
    struct hf_error err;
    snprintf(scratch_path, sizeof scratch_path, "%s.rebuild", path);
    struct hf_catalog *live = must_open(path, HF_CATALOG_WRITE);
    apply_to(live, 1, 1, 11);
    hf_assert_ok(hf_catalog_fact_put(live, "colour", "green", &err), &err);
    hf_assert_ok(hf_catalog_schedule_put(live, "clinic", "backup", 1000, 5000, &err), &err);

    struct hf_catalog *scratch = must_open(scratch_path, HF_CATALOG_SCRATCH);
    apply_to(scratch, 1, 1, 21);
    hf_assert_ok(hf_catalog_copy_local(scratch, path, &err), &err);
    hf_catalog_freep(&scratch);
    hf_catalog_freep(&live);
    hf_assert_ok(hf_catalog_replace(path, scratch_path, &err), &err);
    assert_int_equal(access(scratch_path, F_OK), -1);

    live = must_open(path, HF_CATALOG_WRITE);
    _cleanup_(hf_freep) char *colour = NULL;
    bool found;
    int64_t every, next;
    assert_int_equal(head_of(live, 1), 21);
    hf_assert_ok(hf_catalog_fact_get(live, "colour", &colour, &err), &err);
    assert_string_equal(colour, "green");
    hf_assert_ok(hf_catalog_schedule_get(live, "clinic", "backup", &found, &every, &next, &err), &err);
    assert_true(found && every == 1000 && next == 5000);
    hf_catalog_freep(&live);

    hf_assert_ok(hf_catalog_remove(path, &err), &err);
    assert_int_equal(access(path, F_OK), -1);
    hf_assert_ok(hf_catalog_remove(path, &err), &err);
}

static bool
keep_job(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    (void)err;
    snprintf(context, 256, "%s %s %s by %s, exit %d, %s: %s, %s %d/%d", row->kind, row->subject, row->state,
             row->requested_by, (int)row->exit_code, row->error_kind == NULL ? "-" : row->error_kind,
             row->message == NULL ? "-" : row->message, row->phase == NULL ? "-" : row->phase, (int)row->done,
             (int)row->total);
    return true;
}

static bool
keep_who(void *context, const struct hf_job_row *row, struct hf_error *err)
{
    (void)err;
    snprintf(context, 256, "%d by %s", (int)row->queued_at, row->requested_by);
    return true;
}

HF_TEST(a_job_is_added_started_ended_once_and_lost_when_its_daemon_is_gone)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(fresh_path(), HF_CATALOG_WRITE);
    struct hf_job_new job = {.job = hf_id_new(),
                             .kind = "backup",
                             .subject = "clinic",
                             .arguments = "{}",
                             .requested_by = "uid 0",
                             .queued_at = 100};
    struct hf_error err, why;
    char text[256];
    bool changed;
    int count;

    hf_assert_ok(hf_catalog_job_add(catalog, &job, &err), &err);
    hf_assert_ok(hf_catalog_jobs(catalog, &job.job, 1, keep_job, text, &err), &err);
    assert_string_equal(text, "backup clinic queued by uid 0, exit -1, -: -, - 0/0");
    hf_assert_ok(hf_catalog_job_start(catalog, &job.job, 200, &changed, &err), &err);
    assert_true(changed);
    hf_assert_ok(hf_catalog_job_start(catalog, &job.job, 200, &changed, &err), &err);
    assert_false(changed);
    hf_assert_ok(hf_catalog_progress_put(catalog, &job.job, "copy", 5, 10, 250, &err), &err);
    hf_assert_ok(hf_catalog_jobs(catalog, &job.job, 1, keep_job, text, &err), &err);
    assert_string_equal(text, "backup clinic running by uid 0, exit -1, -: -, copy 5/10");

    hf_fail(&why, HF_ERR_NO_SPACE, "the disk is full");
    hf_assert_ok(hf_catalog_job_end(catalog, &job.job, "failed", 1, &why, 300, &changed, &err), &err);
    assert_true(changed);
    hf_assert_ok(hf_catalog_job_end(catalog, &job.job, "finished", 0, NULL, 301, &changed, &err), &err);
    assert_false(changed);
    hf_assert_ok(hf_catalog_jobs(catalog, NULL, 10, keep_job, text, &err), &err);
    assert_string_equal(text, "backup clinic failed by uid 0, exit 1, no_space: the disk is full, - 0/0");

    job.job = hf_id_new();
    job.queued_at = 400;
    hf_assert_ok(hf_catalog_job_add(catalog, &job, &err), &err);
    hf_assert_ok(hf_catalog_jobs_lost(catalog, 500, &count, &err), &err);
    assert_int_equal(count, 1);
    hf_assert_ok(hf_catalog_jobs(catalog, NULL, 1, keep_job, text, &err), &err);
    assert_string_equal(text, "backup clinic lost by uid 0, exit -1, -: -, - 0/0");

    hf_assert_ok(hf_catalog_jobs_trim(catalog, 500, &err), &err);
    text[0] = '\0';
    hf_assert_ok(hf_catalog_jobs(catalog, NULL, 1, keep_job, text, &err), &err);
    assert_non_null(strstr(text, "lost"));
    hf_assert_ok(hf_catalog_jobs_trim(catalog, 501, &err), &err);
    text[0] = '\0';
    hf_assert_ok(hf_catalog_jobs(catalog, NULL, 1, keep_job, text, &err), &err);
    assert_string_equal(text, "");
}

HF_TEST(the_last_job_of_a_kind_is_one_that_finished_or_that_nobody_asked_for)
{
    static const struct {
        const char *kind, *subject, *requested_by, *state; // state NULL: still queued
        const char *last;                                  // of "retention apply" of "clinic", after it
    } rows[] = {
        {"backup", "clinic", "schedule", "finished", ""},
        {"retention apply", "lab", "schedule", "finished", ""},
        {"retention apply", "clinic", "uid 1000", "failed", ""},
        {"retention apply", "clinic", "schedule", NULL, ""},
        {"retention apply", "clinic", "schedule", "failed", "4 by schedule"},
        {"retention apply", "clinic", "uid 1000", "failed", "4 by schedule"},
        {"retention apply", "clinic", "uid 1000", "finished", "6 by uid 1000"},
        {"retention apply", "clinic", "schedule", "lost", "7 by schedule"},
    };
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(fresh_path(), HF_CATALOG_WRITE);
    struct hf_error err, why;
    char text[256];
    bool changed, found;
    hf_fail(&why, HF_ERR_CONFLICT, "too much");
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        const struct hf_job_new job = {.job = hf_id_new(),
                                       .kind = rows[i].kind,
                                       .subject = rows[i].subject,
                                       .arguments = "{}",
                                       .requested_by = rows[i].requested_by,
                                       .queued_at = (int64_t)i};
        hf_assert_ok(hf_catalog_job_add(catalog, &job, &err), &err);
        if (rows[i].state != NULL)
            hf_assert_ok(
                hf_catalog_job_end(catalog, &job.job, rows[i].state, 0, &why, (int64_t)(100 + i), &changed, &err),
                &err);
        text[0] = '\0';
        hf_assert_ok(hf_catalog_job_last(catalog, "retention apply", "clinic", &found, keep_who, text, &err), &err);
        assert_int_equal(found, rows[i].last[0] != '\0');
        assert_string_equal(text, rows[i].last);
    }
}

HF_TEST(a_fact_that_was_removed_is_gone)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = must_open(fresh_path(), HF_CATALOG_WRITE);
    struct hf_error err;
    char *value = NULL;
    hf_assert_ok(hf_catalog_fact_put(catalog, "colour", "green", &err), &err);
    hf_assert_ok(hf_catalog_fact_put(catalog, "shape", "round", &err), &err);
    hf_assert_ok(hf_catalog_fact_remove(catalog, "colour", &err), &err);
    hf_assert_ok(hf_catalog_fact_remove(catalog, "colour", &err), &err);
    hf_assert_ok(hf_catalog_fact_get(catalog, "colour", &value, &err), &err);
    assert_null(value);
    hf_assert_ok(hf_catalog_fact_get(catalog, "shape", &value, &err), &err);
    assert_string_equal(value, "round");
    free(value);
}

HF_TEST(a_snapshot_does_not_see_what_is_written_after_it)
{
    const char *path = fresh_path();
    struct hf_error err;
    _cleanup_(hf_catalog_freep) struct hf_catalog *writer = must_open(path, HF_CATALOG_WRITE);
    apply_to(writer, 1, 1, 11);
    _cleanup_(hf_catalog_freep) struct hf_catalog *reader = must_open(path, HF_CATALOG_READ);
    hf_assert_ok(hf_catalog_snapshot(reader, &err), &err);
    apply_to(writer, 1, 12, 15);
    assert_int_equal(head_of(reader, 1), 11);
    assert_int_equal(head_of(writer, 1), 15);
}
