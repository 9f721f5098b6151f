#include "tests/support/test.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/records.h"
#include "tests/job/bench.h"

/* Lets somebody else be faster: before the next append, `faster` appends an entry of its own. */
static struct hf_records *faster;
static int appends;

bool __real_hf_vault_log_append(struct hf_vault_log *log, const struct hf_log_append *append,
                                const struct hf_signing *signing, struct hf_error *err);
bool __wrap_hf_vault_log_append(struct hf_vault_log *log, const struct hf_log_append *append,
                                const struct hf_signing *signing, struct hf_error *err);
static void say(struct hf_records *records, const char *word);

bool
__wrap_hf_vault_log_append(struct hf_vault_log *log, const struct hf_log_append *append,
                           const struct hf_signing *signing, struct hf_error *err)
{
    struct hf_records *other = faster;
    faster = NULL;
    appends++;
    if (other != NULL)
        say(other, "faster");
    return __real_hf_vault_log_append(log, append, signing, err);
}

static struct hf_records *
must_open(const struct hf_settings *settings)
{
    struct hf_records *records = NULL;
    struct hf_error err;
    hf_assert_ok(hf_records_open(settings, 1000, &records, &err), &err);
    return records;
}

/* A POLICY entry of the house vault. */
static void
say(struct hf_records *records, const char *word)
{
    struct hf_error err;
    const struct hf_id id = hf_id_new();
    _cleanup_(hf_json_freep) json_t *public_part =
        json_pack("{s:s, s:o}", "subject", "account", "id", hf_json_id_text(&id));
    _cleanup_(hf_json_freep) json_t *sealed_part = json_pack("{s:s}", "word", word);
    const struct hf_record record = {.vault = hf_repository_id(hf_records_repository(records)),
                                     .kind = HF_LOG_POLICY,
                                     .time = 7,
                                     .public_part = public_part,
                                     .sealed_part = sealed_part};
    hf_assert_ok(hf_records_append(records, &record, &err), &err);
}

static uint64_t
head_of(struct hf_records *records)
{
    uint64_t head;
    uint8_t hash[HF_SHA256_BYTES];
    struct hf_error err;
    const struct hf_id house = hf_repository_id(hf_records_repository(records));
    hf_assert_ok(hf_catalog_head(hf_records_catalog(records), &house, &head, hash, &err), &err);
    return head;
}

static void
catalog_path(const struct job_bench *bench, char path[static 256])
{
    snprintf(path, 256, "%s/%s", bench->state, HF_STATE_CATALOG);
}

HF_TEST(a_state_folder_is_of_one_repository)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    _cleanup_(job_bench_done) struct job_bench other;
    job_bench_make(&bench, NULL);
    job_bench_make(&other, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_settings_freep) struct hf_settings *others = job_bench_settings(&other);
    struct hf_records *records = must_open(settings);
    char from[256], to[256];
    struct hf_error err;
    hf_records_freep(&records);
    records = must_open(settings); // a second time it is the same one
    hf_records_freep(&records);

    catalog_path(&bench, from);
    catalog_path(&other, to);
    assert_int_equal(rename(from, to), 0);
    assert_false(hf_records_open(others, 1000, &records, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "is in use for another repository"));
    assert_non_null(strstr(err.hint, "state:"));
    assert_int_equal(unlink(to), 0);
    records = must_open(others);
    hf_records_freep(&records);
}

HF_TEST(what_is_appended_is_in_log_and_catalog)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *records = must_open(settings);
    _cleanup_(hf_buf_done) struct hf_buf dump = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    assert_null(hf_records_set_aside(records));
    assert_string_equal(hf_records_slot(records)->name, "server");
    say(records, "hello");
    assert_int_equal(head_of(records), 2);
    hf_assert_ok(hf_catalog_dump(hf_records_catalog(records), &dump, &err), &err);
    assert_non_null(strstr(hf_buf_text(&dump), "{\\\"word\\\":\\\"hello\\\"}"));
}

/* The settings of a second one at the same repository: its own catalog, the same key. */
static struct hf_settings *
beside(const struct job_bench *bench)
{
    char path[512], other[300];
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf key = HF_BUF_INIT(HF_KIB);
    snprintf(other, sizeof other, "%s/other", bench->folder);
    hf_assert_ok(hf_dir_make(other, 0700, &err), &err);
    snprintf(path, sizeof path, "%s/%s", bench->state, HF_STATE_SIGNING_KEY);
    hf_assert_ok(hf_file_read(path, &key, &err), &err);
    snprintf(path, sizeof path, "%s/%s", other, HF_STATE_SIGNING_KEY);
    hf_assert_ok(hf_file_publish(path, key.data, key.length, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
    struct hf_settings *settings = job_bench_settings(bench);
    free(settings->state);
    settings->state = strdup(other);
    return settings;
}

HF_TEST(two_who_append_by_turns_see_each_others_entries)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *one = must_open(settings);
    struct hf_error err;
    _cleanup_(hf_settings_freep) struct hf_settings *second = beside(&bench);
    _cleanup_(hf_records_freep) struct hf_records *two = must_open(second);

    for (int i = 0; i < 5; i++) {
        say(one, "one");
        say(two, "two");
    }
    faster = two; // between the reading and the writing of the next one
    appends = 0;
    say(one, "slower");
    assert_int_equal(appends, 3); // the first try of one, that of the other, the second try
    hf_assert_ok(hf_records_read(two, &err), &err);
    assert_int_equal(head_of(one), 13);
    assert_int_equal(head_of(two), 13);
    struct hf_catalog_difference difference;
    hf_assert_ok(hf_catalog_compare(hf_records_catalog(one), hf_records_catalog(two), &difference, &err), &err);
    assert_int_equal(difference.rows, 0);
}

/* An entry that may only come right after one. */
static bool
say_after(struct hf_records *records, uint64_t after, struct hf_error *err)
{
    const struct hf_id id = hf_id_new();
    _cleanup_(hf_json_freep) json_t *public_part =
        json_pack("{s:s, s:o}", "subject", "account", "id", hf_json_id_text(&id));
    _cleanup_(hf_json_freep) json_t *sealed_part = json_pack("{s:s}", "word", "planned");
    const struct hf_record record = {.vault = hf_repository_id(hf_records_repository(records)),
                                     .kind = HF_LOG_POLICY,
                                     .time = 7,
                                     .public_part = public_part,
                                     .sealed_part = sealed_part,
                                     .after = after};
    return hf_records_append(records, &record, err);
}

HF_TEST(what_was_planned_with_an_older_log_is_not_written)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *records = must_open(settings);
    _cleanup_(hf_settings_freep) struct hf_settings *second = beside(&bench);
    _cleanup_(hf_records_freep) struct hf_records *two = must_open(second);
    struct hf_error err;
    const uint64_t head = head_of(records);
    hf_assert_ok(say_after(records, head, &err), &err);
    assert_int_equal(head_of(records), head + 1);
    assert_false(say_after(records, head, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, "the log has gone on from entry 1 to 2");

    faster = two; // somebody writes between our look and our entry: a verdict, for one
    assert_false(say_after(records, head + 1, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_int_equal(head_of(records), head + 2); // theirs, and not ours
}

static void
copy_tree(const char *from, const char *to)
{
    char command[600];
    snprintf(command, sizeof command, "cp -a %s %s", from, to);
    assert_int_equal(system(command), 0);
}

HF_TEST(an_older_repository_is_refused_by_vault_and_the_way_out_is_told)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    struct hf_records *records = must_open(settings);
    char older[300], path[256];
    struct hf_error err;
    say(records, "kept");
    snprintf(older, sizeof older, "%s/older", bench.folder);
    copy_tree(bench.repository, older);
    say(records, "seen");
    hf_records_freep(&records);
    hf_assert_ok(hf_dir_remove_tree(bench.repository, &err), &err);
    copy_tree(older, bench.repository);

    assert_false(hf_records_open(settings, 1000, &records, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "could not read the log of vault \""));
    assert_non_null(strstr(err.hint, "This appliance has seen a newer log."));
    assert_null(records);

    // Without the catalog nobody remembers: the owner said so by moving it away.
    catalog_path(&bench, path);
    assert_int_equal(unlink(path), 0);
    records = must_open(settings);
    assert_int_equal(head_of(records), 2);
    hf_records_freep(&records);
}

HF_TEST(a_damaged_catalog_is_set_aside_and_made_again_from_the_repository)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    struct hf_records *records = must_open(settings);
    char path[256], garbage[9000];
    for (int i = 0; i < 20; i++)
        say(records, "word");
    hf_records_freep(&records);
    catalog_path(&bench, path);
    int fd = open(path, O_WRONLY);
    memset(garbage, 0x5A, sizeof garbage);
    assert_int_equal(pwrite(fd, garbage, sizeof garbage, 4096), sizeof garbage);
    close(fd);

    records = must_open(settings);
    assert_non_null(strstr(hf_records_set_aside(records), "catalog.db.damaged-1970-01-01T00:00:01.000Z"));
    assert_int_equal(head_of(records), 21);
    hf_records_freep(&records);
}

HF_TEST(a_catalog_found_damaged_while_it_is_in_use_is_made_again_and_the_fact_says_so)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *records = must_open(settings);
    _cleanup_(hf_freep) char *fact = NULL;
    struct hf_rebuild_report report;
    struct hf_error err, damage;
    say(records, "word");
    hf_assert_ok(hf_catalog_fact_get(hf_records_catalog(records), HF_FACT_CATALOG_DAMAGED, &fact, &err), &err);
    assert_null(fact);
    hf_fail(&damage, HF_ERR_CORRUPT, "a page is not what it was");
    hf_assert_ok(hf_records_remake_catalog(records, &damage, 2000, &err), &err);
    assert_int_equal(head_of(records), 2);
    say(records, "more");
    assert_int_equal(head_of(records), 3);
    hf_assert_ok(hf_records_rebuild(records, &report, &err), &err);
    assert_int_equal(report.differences, 0);
    hf_assert_ok(hf_catalog_fact_get(hf_records_catalog(records), HF_FACT_CATALOG_DAMAGED, &fact, &err), &err);
    assert_non_null(fact);
    assert_non_null(strstr(fact, "\"at\":\"1970-01-01T00:00:02.000Z\""));
    assert_non_null(strstr(fact, "catalog.db.damaged-1970-01-01T00:00:02.000Z"));
}

HF_TEST(a_second_catalog_is_filled_as_far_as_the_first_had_read_the_logs)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *records = must_open(settings);
    struct hf_catalog *live = NULL, *scratch = NULL;
    struct hf_rebuild_report report = {0};
    struct hf_catalog_difference difference;
    struct hf_error err;
    char path[256], scratch_path[300];
    say(records, "seen");
    catalog_path(&bench, path);
    snprintf(scratch_path, sizeof scratch_path, "%s.check", path);
    hf_assert_ok(hf_catalog_open(path, HF_CATALOG_READ, &live, &err), &err);
    hf_assert_ok(hf_catalog_snapshot(live, &err), &err);
    say(records, "later");
    hf_assert_ok(hf_catalog_open(scratch_path, HF_CATALOG_SCRATCH, &scratch, &err), &err);
    hf_assert_ok(hf_records_fill_catalog(hf_records_repository(records), live, scratch, &report, &err), &err);
    assert_int_equal(report.vaults, 1);
    assert_int_equal(report.entries, 2);
    hf_assert_ok(hf_catalog_compare(live, scratch, &difference, &err), &err);
    assert_int_equal(difference.rows, 0);
    hf_assert_ok(hf_catalog_compare(hf_records_catalog(records), scratch, &difference, &err), &err);
    assert_true(difference.rows > 0);
    hf_catalog_freep(&scratch);
    hf_catalog_freep(&live);
}

HF_TEST(a_rebuild_of_an_equal_catalog_changes_nothing)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    _cleanup_(hf_records_freep) struct hf_records *records = must_open(settings);
    struct hf_rebuild_report report;
    struct hf_error err;
    char path[256];
    say(records, "word");
    hf_assert_ok(hf_records_rebuild(records, &report, &err), &err);
    assert_int_equal(report.vaults, 1);
    assert_int_equal(report.entries, 2);
    assert_int_equal(report.differences, 0);
    catalog_path(&bench, path);
    strcat(path, ".rebuild");
    assert_int_equal(access(path, F_OK), -1);
    say(records, "more");
    assert_int_equal(head_of(records), 3);
}

HF_TEST(a_key_that_is_not_among_the_signers_is_refused)
{
    _cleanup_(job_bench_done) struct job_bench bench;
    job_bench_make(&bench, NULL);
    _cleanup_(hf_settings_freep) struct hf_settings *settings = job_bench_settings(&bench);
    struct hf_records *records = NULL;
    struct hf_error err;
    char path[256];
    snprintf(path, sizeof path, "%s/%s", bench.state, HF_STATE_SIGNING_KEY);
    assert_int_equal(unlink(path), 0);
    hf_assert_ok(hf_signer_create(path, "stranger", &err), &err);
    assert_false(hf_records_open(settings, 1000, &records, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "is not one of the repository's signers"));
}
