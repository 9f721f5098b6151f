#include "tests/support/test.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/verify/planted.h"

/*
 * More faults that the source had before the backup: its commit log, which says which transactions count, with data
 * checksums off; and, with checksums on, a page that they tell of.
 */

#define XIDS_A_LOG_FILE (32 * 32768)
#define LOG_FILE_BYTES  (32 * PLANTED_PAGE)
#define CHECKED_PAGE    2
#define CHECKED_OFFSET  5000

static struct planted planted;
static bool begun;
static char path_of_later[64], path_of_checked[64];

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE earlier (id int PRIMARY KEY)");
    hf_test_sql(conn, "INSERT INTO earlier SELECT generate_series(1, 1000)");
    hf_test_sql(conn, "SELECT count(*) FROM earlier"); // sets the hint bits
    hf_test_sql(conn, "CREATE TABLE later (id int)");
    snprintf(path_of_later, sizeof path_of_later, "%s", hf_test_sql_text(conn, "SELECT pg_relation_filepath('later')"));
}

static void
begin(void)
{
    if (!begun)
        planted_begin(&planted, &(struct hf_test_cluster_options){.checksums = false}, fill);
    begun = true;
    planted_reset(&planted);
}

static void
prove(struct hf_verify_outcome *outcome)
{
    const struct hf_id backup = planted_backup(&planted);
    planted_verify(&planted, &backup, NULL, outcome);
}

static void
assert_proven(void)
{
    struct hf_verify_outcome outcome;
    prove(&outcome);
    if (outcome.result != HF_ATTEMPT_PASSED)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
}

/* Backs up what is there and expects this finding. */
static void
assert_found(const char *check, const char *what, const char *object, int64_t block)
{
    struct hf_verify_outcome outcome;
    prove(&outcome);
    planted_expect(&outcome, check, what, object, block);
    assert_false(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
}

/* Moves on to the second file of the commit log, so that the first is all of the past; every transaction committed. */
static void
move_transactions_on(void)
{
    char path[256], next[32];
    uint8_t *committed = malloc(LOG_FILE_BYTES);
    struct hf_error err;
    assert_non_null(committed);
    snprintf(path, sizeof path, "%s/pg_xact/0000", planted.cluster->data);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, committed, PLANTED_PAGE, 0), PLANTED_PAGE);
    memset(committed + PLANTED_PAGE, 0x55, LOG_FILE_BYTES - PLANTED_PAGE);
    for (size_t i = 180; i < PLANTED_PAGE; i++) // from transaction 720 on
        committed[i] |= committed[i] == 0 ? 0x55 : 0;
    hf_assert_ok(hf_pwrite_all(fd, committed, LOG_FILE_BYTES, 0, path, &err), &err);
    close(fd);
    snprintf(path, sizeof path, "%s/pg_xact/0001", planted.cluster->data);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    memset(committed, 0, PLANTED_PAGE);
    hf_assert_ok(hf_pwrite_all(fd, committed, PLANTED_PAGE, 0, path, &err), &err);
    assert_int_equal(fchown(fd, hf_test_server_uid(), hf_test_server_gid()), 0);
    close(fd);
    free(committed);
    snprintf(next, sizeof next, "%d", XIDS_A_LOG_FILE + 10);
    const char *const argv[] = {"pg_resetwal", "-x", next, planted.cluster->data, NULL};
    assert_int_equal(hf_test_cluster_run(planted.cluster, argv, NULL, NULL), 0);
}

/* Transactions whose rows were read (and so marked) or not. */
static void
add_later_rows(bool read)
{
    PGconn *conn = planted_start(&planted);
    for (int i = 0; i < 50; i++)
        hf_test_sql(conn, "INSERT INTO later VALUES (1)");
    if (read)
        hf_test_sql(conn, "SELECT count(*) FROM later");
    hf_test_sql(conn, "CHECKPOINT");
    planted_stop(&planted, conn);
}

HF_TEST(a_commit_log_of_two_files_is_no_fault)
{
    begin();
    move_transactions_on();
    add_later_rows(false);
    assert_proven();
}

HF_TEST(a_zeroed_page_of_the_commit_log_is_named_with_a_table_that_tells)
{
    begin();
    planted_page(&planted, "pg_xact/0000", 0, planted_zero_page, 0);
    assert_found("commit_log", "commit_log_disagrees", "pg_xact/0000", -1);
}

HF_TEST(a_newer_page_of_the_commit_log_that_was_zeroed_is_named_with_the_table_that_tells)
{
    begin();
    move_transactions_on();
    add_later_rows(true);
    planted_page(&planted, "pg_xact/0001", 0, planted_zero_page, 0);
    assert_found("commit_log", "commit_log_disagrees", path_of_later, 0);
}

HF_TEST(a_zeroed_page_of_the_commit_log_of_which_no_row_tells_is_not_passed_over)
{
    struct hf_verify_outcome outcome;
    begin();
    move_transactions_on();
    add_later_rows(false);
    planted_page(&planted, "pg_xact/0001", 0, planted_zero_page, 0);
    prove(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE); // a crash could have left it so
    assert_true(planted_named(&outcome, "pg_xact/0001, page 0 says nothing of any of its transactions"));
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_lost_file_of_the_commit_log_is_named)
{
    char path[256];
    begin();
    move_transactions_on();
    snprintf(path, sizeof path, "%s/pg_xact/0000", planted.cluster->data);
    assert_int_equal(unlink(path), 0);
    struct hf_verify_outcome outcome;
    prove(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED); // it lets nobody in any more, and says why
    assert_true(planted_named(&outcome, "Could not open file \"pg_xact/0000\""));
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_lost_file_of_the_commit_log_is_named_also_when_the_catalog_needs_it_no_more)
{
    char path[256];
    begin();
    move_transactions_on();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "VACUUM FREEZE pg_database, pg_authid, pg_class, pg_attribute, pg_type, pg_index, pg_depend, "
                      "pg_namespace, pg_proc, pg_rewrite, pg_constraint, pg_sequence, pg_attrdef, pg_shdepend");
    planted_stop(&planted, conn);
    snprintf(path, sizeof path, "%s/pg_xact/0000", planted.cluster->data);
    assert_int_equal(unlink(path), 0);
    assert_found("commit_log", "commit_log_missing", "pg_xact/0000", 0);
}

static void
fill_checked(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE checked (id int PRIMARY KEY, note text)");
    hf_test_sql(conn, "INSERT INTO checked SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 1000) i");
    snprintf(path_of_checked, sizeof path_of_checked, "%s",
             hf_test_sql_text(conn, "SELECT pg_relation_filepath('checked')"));
}

HF_TEST(with_checksums_a_page_that_was_damaged_before_the_backup_is_counted_and_named)
{
    struct planted checked;
    struct hf_verify_outcome outcome;
    planted_begin(&checked, &(struct hf_test_cluster_options){.checksums = true}, fill_checked);
    planted_page(&checked, path_of_checked, CHECKED_PAGE, planted_flip_byte, CHECKED_OFFSET);
    const struct hf_id backup = planted_backup(&checked);
    planted_verify(&checked, &backup, NULL, &outcome);
    assert_int_equal(outcome.facts.shared.bad_pages, 1);
    planted_expect(&outcome, "page_checksums", "bad_page", path_of_checked, CHECKED_PAGE);
    assert_false(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
    planted_done(&checked);
    planted_done(&planted);
}
