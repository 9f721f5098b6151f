#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/verify/planted.h"

/*
 * Faults that the source had before the backup, with data checksums off: the backup copies them faithfully, so only
 * the proof can see them.  Each is planted alone, in a fresh copy of one database.
 */

#define XIDS_A_LOG_FILE (32 * 32768)
#define LOG_FILE_BYTES  (32 * PLANTED_PAGE)
#define BTREE_SPECIAL   16 // bytes at a page's end; u16 flags at 12 of them, 1: leaf
#define CHECKED_PAGE    2
#define CHECKED_OFFSET  5000

static struct planted planted;
static bool begun;

/* Where things lie in the pristine copy. */
struct place {
    const char *relation;
    char path[64];
};
static struct place entry = {.relation = "entry_pkey"}, vacuumed = {.relation = "vacuumed"},
                    plain = {.relation = "plain"}, bare = {.relation = "bare"}, letters = {.relation = "letters"},
                    toast, swapped = {.relation = "swapped_pkey"}, numbers = {.relation = "numbers"},
                    class_index = {.relation = "pg_class_oid_index"}, later = {.relation = "later"},
                    locked = {.relation = "locked_pkey"};
static uint32_t oid_of_victim;

static void
find_place(PGconn *conn, struct place *place)
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT pg_relation_filepath('%s')", place->relation);
    snprintf(place->path, sizeof place->path, "%s", hf_test_sql_text(conn, sql));
}

static void
make_table(PGconn *conn, const char *name, const char *key)
{
    char sql[400];
    snprintf(sql, sizeof sql, "CREATE TABLE %s (id int%s, note text NOT NULL)", name, key);
    hf_test_sql(conn, sql);
    snprintf(sql, sizeof sql, "INSERT INTO %s SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 1000) i", name);
    hf_test_sql(conn, sql);
    snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", name); // sets the hint bits
    hf_test_sql(conn, sql);
}

static void
fill(PGconn *conn)
{
    make_table(conn, "entry", " PRIMARY KEY");
    make_table(conn, "vacuumed", " PRIMARY KEY");
    make_table(conn, "plain", " PRIMARY KEY");
    make_table(conn, "bare", "");
    make_table(conn, "swapped", " PRIMARY KEY");
    make_table(conn, "victim", " PRIMARY KEY");
    hf_test_sql(conn, "VACUUM vacuumed, bare");
    hf_test_sql(conn, "CREATE TABLE letters (id int, body text)");
    hf_test_sql(conn, "ALTER TABLE letters ALTER body SET STORAGE external");
    hf_test_sql(conn, "INSERT INTO letters SELECT i, repeat(md5(i::text), 500) FROM generate_series(1, 5) i");
    hf_test_sql(conn, "CREATE SEQUENCE numbers");
    hf_test_sql(conn, "SELECT nextval('numbers')");
    hf_test_sql(conn, "CREATE TABLE later (id int)");
    struct place *const all[] = {&entry, &vacuumed, &plain, &bare, &letters, &swapped, &numbers, &class_index, &later};
    for (size_t i = 0; i < HF_LENGTH(all); i++)
        find_place(conn, all[i]);
    snprintf(
        toast.path, sizeof toast.path, "%s",
        hf_test_sql_text(conn, "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'letters'"));
    oid_of_victim = (uint32_t)strtoul(hf_test_sql_text(conn, "SELECT 'victim'::regclass::oid"), NULL, 10);

    hf_test_sql(conn, "CREATE DATABASE locked");
    PGconn *other = hf_test_cluster_connect(planted.cluster, "locked");
    make_table(other, "locked", " PRIMARY KEY");
    find_place(other, &locked);
    PQfinish(other);
    hf_test_sql(conn, "ALTER DATABASE locked ALLOW_CONNECTIONS false");

    /* An older copy of an index, from before more rows came. */
    hf_test_sql(conn, "CHECKPOINT");
    planted_copy_file(&planted, swapped.path, "older");
    hf_test_sql(conn, "INSERT INTO swapped SELECT i, 'x' FROM generate_series(1001, 1100) i");
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

HF_TEST(a_sound_database_is_proven)
{
    begin();
    assert_proven();
}

HF_TEST(what_is_odd_but_sound_is_no_fault)
{
    static const char *const odd[] = {
        "CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY)",
        "INSERT INTO unlogged SELECT generate_series(1, 100)",
        "CREATE SEQUENCE never_asked",
        "CREATE MATERIALIZED VIEW never_filled AS SELECT * FROM plain WITH NO DATA",
        "CREATE MATERIALIZED VIEW filled AS SELECT * FROM plain",
        "CREATE TABLE parted (id int, day date) PARTITION BY RANGE (id)",
        "CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000)",
        "CREATE INDEX ON parted (day)",
        "INSERT INTO parted SELECT i, '2020-01-01' FROM generate_series(1, 500) i",
        "CREATE TABLE empty (id int PRIMARY KEY)",
        "CREATE INDEX partial ON plain (id) WHERE id > 500",
        "CREATE INDEX hashed ON plain USING hash (id)",
        "CREATE INDEX brin ON plain USING brin (id)",
        "CREATE TABLE words (w tsvector, p point, t text)",
        "INSERT INTO words SELECT to_tsvector('a' || i), point(i, i), 'w' || i FROM generate_series(1, 200) i",
        "CREATE INDEX gin ON words USING gin (w)",
        "CREATE INDEX gist ON words USING gist (p)",
        /* A function that leaves out schemas works where its maker's search path holds. */
        "CREATE FUNCTION helper(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT upper($1)'",
        "CREATE FUNCTION folded(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS 'BEGIN RETURN helper($1); END'",
        "CREATE INDEX by_function ON words (folded(t))",
        "ALTER TABLE words DROP COLUMN p",
        "ALTER TABLE words ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY nobody ON words USING (false)",
        "DELETE FROM plain WHERE id % 3 = 0",
        "UPDATE plain SET note = 'short' WHERE id % 7 = 0",
        "BEGIN; INSERT INTO plain SELECT generate_series(2001, 2100), 'gone'; ROLLBACK",
        "BEGIN; SELECT * FROM plain FOR SHARE; SAVEPOINT a; UPDATE plain SET note = 'b' WHERE id = 1; COMMIT",
        "SELECT lo_from_bytea(0, 'large object')",
        "BEGIN; DECLARE c CURSOR FOR SELECT * FROM plain; COMMIT",
        "TRUNCATE swapped",
        "VACUUM plain",
    };
    begin();
    hf_test_cluster_set(planted.cluster, "max_prepared_transactions = 5");
    PGconn *conn = planted_start(&planted);
    for (size_t i = 0; i < HF_LENGTH(odd); i++)
        hf_test_sql(conn, odd[i]);
    /* Both an index that was never finished and a transaction that nobody ended. */
    PQclear(PQexec(conn, "CREATE UNIQUE INDEX CONCURRENTLY unfinished ON parted_1 (day)"));
    assert_string_equal(hf_test_sql_text(conn, "SELECT count(*) FROM pg_index WHERE NOT indisvalid"), "1");
    hf_test_sql(conn, "BEGIN; INSERT INTO plain VALUES (5000, 'prepared'); PREPARE TRANSACTION 'p'");
    PQfinish(conn);
    assert_proven();
}

HF_TEST(a_crash_in_the_middle_of_many_subtransactions_is_no_fault)
{
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "BEGIN");
    for (int i = 0; i < 100; i++)
        hf_test_sql(conn, "SAVEPOINT s; INSERT INTO plain VALUES (9000 + (random() * 1e8)::int, 'lost')");
    hf_test_sql(conn, "CHECKPOINT");
    hf_test_cluster_stop(planted.cluster, SIGQUIT);
    PQfinish(conn);
    assert_proven();
}

HF_TEST(an_index_entry_that_is_gone_is_named)
{
    begin();
    planted_page(&planted, entry.path, 1, planted_remove_entry, 20);
    assert_found("indexes", "damaged_index", "postgres.public.entry_pkey", 0);
}

HF_TEST(a_zeroed_page_of_a_vacuumed_table_is_named)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_page(&planted, vacuumed.path, 3, planted_zero_page, 0);
    prove(&outcome);
    planted_expect(&outcome, "zero_blocks", "zeroed_block", "postgres.public.vacuumed", 3);
    planted_expect(&outcome, "index_to_table", "rows_missing_in_table", "postgres.public.vacuumed", -1);
    planted_expect(&outcome, "visible_blocks", "zeroed_block", vacuumed.path, 3);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_zeroed_page_of_a_table_that_was_never_vacuumed_is_named)
{
    begin();
    planted_page(&planted, plain.path, 4, planted_zero_page, 0);
    assert_found("zero_blocks", "zeroed_block", "postgres.public.plain", 4);
}

HF_TEST(a_zeroed_page_of_a_vacuumed_table_without_any_index_is_named)
{
    begin();
    planted_page(&planted, bare.path, 5, planted_zero_page, 0);
    assert_found("visible_blocks", "zeroed_block", bare.path, 5);
}

HF_TEST(a_table_that_was_cut_off_is_named)
{
    begin();
    const uint64_t pages = planted_pages(&planted, plain.path);
    planted_truncate(&planted, plain.path, pages - 2);
    assert_found("index_to_table", "unreadable_through_index", "postgres.public.plain", (int64_t)pages - 2);
}

HF_TEST(a_vacuumed_table_that_was_cut_off_is_named)
{
    struct hf_verify_outcome outcome;
    begin();
    const uint64_t pages = planted_pages(&planted, vacuumed.path);
    planted_truncate(&planted, vacuumed.path, pages - 2);
    prove(&outcome);
    planted_expect(&outcome, "index_to_table", "rows_missing_in_table", "postgres.public.vacuumed", -1);
    planted_expect(&outcome, "visible_blocks", "missing_block", vacuumed.path, (int64_t)pages - 2);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_vacuumed_table_without_any_index_that_was_cut_off_is_named)
{
    begin();
    planted_truncate(&planted, bare.path, 2);
    assert_found("visible_blocks", "missing_block", bare.path, 2);
}

HF_TEST(a_table_whose_file_is_gone_is_named)
{
    char path[256];
    begin();
    snprintf(path, sizeof path, "%s/%s", planted.cluster->data, plain.path);
    assert_int_equal(unlink(path), 0);
    assert_found("tables_read", "unreadable_table", "postgres.public.plain", -1);
}

static void
set_nonsense_xmin(uint8_t *page, uint64_t number)
{
    uint8_t *row = page + (hf_get_u32(page + 24 + 4 * (number - 1)) & 0x7fff);
    hf_put_u32(row, 0x7ffffff0);
    hf_put_u16(row + 20, hf_get_u16(row + 20) & (uint16_t)~0x0300); // and no hint about it
}

HF_TEST(a_row_of_a_transaction_that_cannot_be_is_named)
{
    begin();
    planted_page(&planted, bare.path, 2, set_nonsense_xmin, 7);
    assert_found("heap", "damaged_row", "postgres.public.bare: xmin 2147483632", 2);
}

HF_TEST(a_lost_piece_of_a_long_value_is_named_with_its_table)
{
    begin();
    planted_page(&planted, toast.path, 1, planted_unlink_item, 2);
    assert_found("heap", "damaged_row", "postgres.public.letters: toast value", 0);
}

HF_TEST(an_index_in_an_older_copy_is_named)
{
    begin();
    planted_copy_file(&planted, "older", swapped.path);
    assert_found("indexes", "damaged_index", "postgres.public.swapped_pkey", -1);
}

/* The leaf entry of pg_class_oid_index for this oid: header 8 bytes, then the key. */
static void
remove_oid(uint8_t *page, uint64_t oid)
{
    const uint8_t *special = page + PLANTED_PAGE - BTREE_SPECIAL;
    const uint64_t items = (hf_get_u16(page + 12) - 24u) / 4;
    if ((hf_get_u16(special + 12) & 1) == 0)
        return;
    for (uint64_t i = 1; i <= items; i++)
        if (hf_get_u32(page + (hf_get_u32(page + 24 + 4 * (i - 1)) & 0x7fff) + 8) == oid &&
            hf_get_u32(special + 4) == 0) { // the rightmost leaf has no high key: newest oids lie there
            planted_remove_entry(page, i);
            return;
        }
}

HF_TEST(a_damaged_index_of_the_catalog_is_named)
{
    begin();
    for (uint64_t page = 1; page < planted_pages(&planted, class_index.path); page++)
        planted_page(&planted, class_index.path, page, remove_oid, oid_of_victim);
    assert_found("indexes", "damaged_index", "postgres.pg_catalog.pg_class_oid_index", -1);
}

HF_TEST(a_zeroed_sequence_is_named)
{
    begin();
    planted_page(&planted, numbers.path, 0, planted_zero_page, 0);
    assert_found("tables_read", "unreadable_sequence", "postgres.public.numbers", -1);
}

HF_TEST(a_database_that_nobody_may_connect_to_is_looked_into)
{
    begin();
    planted_page(&planted, locked.path, 1, planted_remove_entry, 9);
    assert_found("indexes", "damaged_index", "locked.public.locked_pkey", -1);
}

HF_TEST(one_fault_does_not_hide_another)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_page(&planted, entry.path, 1, planted_remove_entry, 20);
    planted_page(&planted, plain.path, 4, planted_zero_page, 0);
    planted_page(&planted, bare.path, 5, planted_zero_page, 0);
    planted_page(&planted, numbers.path, 0, planted_zero_page, 0);
    planted_page(&planted, toast.path, 1, planted_unlink_item, 2);
    prove(&outcome);
    planted_expect(&outcome, "indexes", "damaged_index", "postgres.public.entry_pkey", 0);
    planted_expect(&outcome, "zero_blocks", "zeroed_block", "postgres.public.plain", 4);
    planted_expect(&outcome, "visible_blocks", "zeroed_block", bare.path, 5);
    planted_expect(&outcome, "tables_read", "unreadable_sequence", "postgres.public.numbers", -1);
    planted_expect(&outcome, "heap", "damaged_row", "postgres.public.letters", 0);
    assert_false(planted_named(&outcome, "vacuumed"));
    assert_false(planted_named(&outcome, "swapped"));
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
    assert_found("commit_log", "commit_log_disagrees", later.path, 0);
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
    make_table(conn, "checked", " PRIMARY KEY");
    hf_test_sql(conn, "VACUUM checked");
    plain.relation = "checked";
    find_place(conn, &plain);
}

HF_TEST(with_checksums_a_page_that_was_damaged_before_the_backup_is_counted_and_named)
{
    struct planted checked;
    struct hf_verify_outcome outcome;
    planted_begin(&checked, &(struct hf_test_cluster_options){.checksums = true}, fill_checked);
    planted_page(&checked, plain.path, CHECKED_PAGE, planted_flip_byte, CHECKED_OFFSET);
    const struct hf_id backup = planted_backup(&checked);
    planted_verify(&checked, &backup, NULL, &outcome);
    assert_int_equal(outcome.facts.bad_pages, 1);
    planted_expect(&outcome, "page_checksums", "bad_page", plain.path, CHECKED_PAGE);
    assert_false(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
    planted_done(&checked);
    planted_done(&planted);
}
