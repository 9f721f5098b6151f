#include "tests/support/test.h"

#include <signal.h>
#include <unistd.h>

#include "tests/verify/planted.h"

/*
 * Faults that the source had before the backup, with data checksums off: the backup copies them faithfully, so only
 * the proof can see them.  Each is planted alone, in a fresh copy of one database.
 */

#define BTREE_SPECIAL 16 // bytes at a page's end; u16 flags at 12 of them, 1: leaf

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
                    class_index = {.relation = "pg_class_oid_index"}, locked = {.relation = "locked_pkey"};
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
    struct place *const all[] = {&entry, &vacuumed, &plain, &bare, &letters, &swapped, &numbers, &class_index};
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
