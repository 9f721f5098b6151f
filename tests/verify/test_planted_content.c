#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/verify/planted.h"

/*
 * Faults of the source that leave every page sound in itself: what is wrong is how pages, files and rows fit together.
 * Data checksums are off, so that a planted page looks like one that the server wrote.
 */

#define VM_HEADER     24
#define MULTI_OFFSETS "pg_multixact/offsets/0000"
#define MULTI_MEMBERS "pg_multixact/members/0000"

static struct planted planted;
static bool begun;
static char path_of_twice[64], path_of_twice_index[64], path_of_loose[64], path_of_parent[64], path_of_parent_index[64],
    path_of_child[64], path_of_shared[64], path_of_unlogged[64], path_of_numbers[64], path_of_columns[64],
    path_of_toast[64];

static void
find_path(PGconn *conn, const char *relation, char path[static 64])
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT pg_relation_filepath(%s)", relation);
    snprintf(path, 64, "%s", hf_test_sql_text(conn, sql));
}

static void
fill(PGconn *conn)
{
    static const char *const statements[] = {
        "CREATE TABLE twice (id int PRIMARY KEY, note text)",
        "INSERT INTO twice SELECT i, 'n' || i FROM generate_series(1, 200) i",
        "CREATE TABLE loose (id int PRIMARY KEY, note text)",
        "INSERT INTO loose SELECT i, repeat('x', 50) FROM generate_series(1, 1000) i",
        "DELETE FROM loose WHERE id BETWEEN 40 AND 60",
        "CREATE TABLE parent (id int PRIMARY KEY)",
        "INSERT INTO parent SELECT generate_series(1, 100)",
        "CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent)",
        "INSERT INTO child (parent) SELECT i FROM generate_series(1, 100) i",
        "CREATE TABLE shared (id int PRIMARY KEY, note text)",
        "INSERT INTO shared SELECT i, 'n' FROM generate_series(1, 100) i",
        "CREATE UNLOGGED TABLE unlogged (id int)",
        "CREATE TABLE letters (id int, body text)",
        "ALTER TABLE letters ALTER body SET STORAGE external",
        "INSERT INTO letters SELECT i, repeat(md5(i::text), 500) FROM generate_series(1, 5) i",
        "CHECKPOINT",
    };
    for (size_t i = 0; i < HF_LENGTH(statements); i++)
        hf_test_sql(conn, statements[i]);
    find_path(conn, "'twice'", path_of_twice);
    find_path(conn, "'twice_pkey'", path_of_twice_index);
    find_path(conn, "'loose'", path_of_loose);
    find_path(conn, "'parent'", path_of_parent);
    find_path(conn, "'parent_pkey'", path_of_parent_index);
    find_path(conn, "'child'", path_of_child);
    find_path(conn, "'shared'", path_of_shared);
    find_path(conn, "'unlogged'", path_of_unlogged);
    find_path(conn, "'child_id_seq'", path_of_numbers);
    find_path(conn, "'pg_attribute'", path_of_columns);
    find_path(conn, "(SELECT reltoastrelid FROM pg_class WHERE relname = 'letters')", path_of_toast);
    planted_copy_file(&planted, path_of_parent, "older");
    planted_copy_file(&planted, path_of_parent_index, "older_index");
    planted_copy_file(&planted, path_of_numbers, "older_numbers");
    planted_copy_file(&planted, path_of_columns, "older_columns");
    planted_copy_file(&planted, path_of_toast, "older_toast");

    /* What came after the older copies. */
    hf_test_sql(conn, "INSERT INTO parent SELECT generate_series(101, 150)");
    hf_test_sql(conn, "INSERT INTO child (parent) SELECT i FROM generate_series(101, 150) i");
    hf_test_sql(conn, "INSERT INTO letters SELECT i, repeat(md5(i::text), 500) FROM generate_series(6, 7) i");
    hf_test_sql(conn, "CREATE TABLE newer (one int, two int, three int)");
    PGconn *other = hf_test_cluster_connect(planted.cluster, NULL);
    hf_test_sql(conn, "BEGIN");
    hf_test_sql(conn, "SELECT * FROM shared FOR SHARE");
    hf_test_sql(other, "BEGIN");
    hf_test_sql(other, "SELECT * FROM shared FOR SHARE");
    hf_test_sql(other, "COMMIT");
    hf_test_sql(conn, "COMMIT");
    PQfinish(other);
    hf_test_sql(conn, "SELECT count(*) FROM loose"); // sets the hint bits
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
assert_found(const char *check, const char *what, const char *object, int64_t block)
{
    struct hf_verify_outcome outcome;
    prove(&outcome);
    planted_expect(&outcome, check, what, object, block);
    assert_false(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
}

/* Nobody can tell: the attempt came to no verdict, or, where that check is not required, passed with the words said. */
static void
assert_not_told(const char *check, const char *words, enum hf_attempt_result result)
{
    struct hf_verify_outcome outcome;
    prove(&outcome);
    const struct hf_verify_check *found = hf_report_find(&outcome.report, check);
    if (outcome.result != result || found->verdict != HF_VERDICT_NOT_DETERMINABLE ||
        strstr(found->reason, words) == NULL) {
        planted_print(&outcome);
        fail_msg("check \"%s\" does not say \"%s\"", check, words);
    }
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_sound_database_is_proven_and_the_evidence_tells_how_much_of_it_was_looked_at)
{
    static const char *const whole[] = {"manifest",   "packs",     "slabs",          "tables_read",
                                        "heap",       "indexes",   "index_to_table", "unique_keys",
                                        "references", "sequences", "catalog"};
    struct hf_verify_outcome outcome;
    begin();
    prove(&outcome);
    if (outcome.result != HF_ATTEMPT_PASSED)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    for (size_t i = 0; i < HF_LENGTH(whole); i++) {
        const struct hf_verify_check *check = hf_report_find(&outcome.report, whole[i]);
        if (check->of <= 0 || check->examined != check->of)
            fail_msg("%s: %lld of %lld", whole[i], (long long)check->examined, (long long)check->of);
    }
    assert_true(hf_report_find(&outcome.report, "multixacts")->examined >= 100);
    assert_true(outcome.engine_known);
    assert_true(outcome.suites != 0);
    /* It keeps no checksums: nobody may say that they were looked at. */
    assert_non_null(strstr(hf_report_find(&outcome.report, "page_checksums")->title, "keeps no checksums"));
    hf_verify_outcome_done(&outcome);
}

HF_TEST(indexes_that_nothing_looks_into_are_told)
{
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "CREATE INDEX hashed ON twice USING hash (note)");
    hf_test_sql(conn, "CREATE INDEX by_block ON twice USING brin (id)");
    planted_stop(&planted, conn);
    assert_not_told("other_indexes", "no check looks into 2 indexes of other kinds, the first: postgres.public.",
                    HF_ATTEMPT_PASSED);
}

static void
mark_all_visible(uint8_t *page, uint64_t ignored)
{
    (void)ignored;
    page[VM_HEADER] |= 0x55; // the first four blocks
}

HF_TEST(a_visibility_map_that_says_more_than_the_pages_is_named)
{
    char map[80];
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "VACUUM loose");
    hf_test_sql(conn, "UPDATE loose SET note = 'later' WHERE id = 1");
    planted_stop(&planted, conn);
    snprintf(map, sizeof map, "%s_vm", path_of_loose);
    planted_page(&planted, map, 0, mark_all_visible, 0);
    assert_found("visible_blocks", "map_says_more", path_of_loose, 0);
}

static void
say_all_visible(uint8_t *page, uint64_t ignored)
{
    (void)ignored;
    page[10] |= 0x04;
}

HF_TEST(a_deleted_row_on_a_page_that_passes_for_all_visible_is_named)
{
    char map[80];
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "VACUUM loose");
    hf_test_sql(conn, "DELETE FROM loose WHERE id = 2");
    planted_stop(&planted, conn);
    snprintf(map, sizeof map, "%s_vm", path_of_loose);
    planted_page(&planted, map, 0, mark_all_visible, 0);
    planted_page(&planted, path_of_loose, 0, say_all_visible, 0);
    assert_found("visible_blocks", "deleted_row_marked_visible", path_of_loose, 0);
}

/*
 * Item `number` gets the integer key of the item before it: of a heap's row behind its header, of an entry behind its
 * own.
 */
static void
copy_key_of_row(uint8_t *page, uint64_t number)
{
    uint8_t *row = page + (hf_get_u32(page + 24 + 4 * (number - 1)) & 0x7fff);
    const uint8_t *before = page + (hf_get_u32(page + 24 + 4 * (number - 2)) & 0x7fff);
    memcpy(row + row[22], before + before[22], 4);
}

static void
copy_key_of_entry(uint8_t *page, uint64_t number)
{
    uint8_t *entry = page + (hf_get_u32(page + 24 + 4 * (number - 1)) & 0x7fff);
    const uint8_t *before = page + (hf_get_u32(page + 24 + 4 * (number - 2)) & 0x7fff);
    memcpy(entry + 8, before + 8, 4);
}

HF_TEST(a_primary_key_that_two_rows_have_is_named_although_the_index_agrees)
{
    begin();
    planted_page(&planted, path_of_twice, 0, copy_key_of_row, 20);
    planted_page(&planted, path_of_twice_index, 1, copy_key_of_entry, 20); // one leaf: it is the root
    assert_found("unique_keys", "duplicate_key", "postgres.public.twice (id): 1 keys", -1);
}

HF_TEST(an_older_copy_of_a_table_is_told_by_the_rows_that_lead_nowhere)
{
    begin();
    planted_copy_file(&planted, "older", path_of_parent);
    assert_not_told("references", "rows that lead nowhere by postgres.public.child.child_parent_fkey: 50;",
                    HF_ATTEMPT_INCONCLUSIVE);
}

HF_TEST(an_older_copy_of_a_table_and_of_its_index_is_told_by_the_rows_that_lead_nowhere)
{
    begin();
    planted_copy_file(&planted, "older", path_of_parent);
    planted_copy_file(&planted, "older_index", path_of_parent_index);
    assert_not_told("references", "rows that lead nowhere by postgres.public.child.child_parent_fkey: 50;",
                    HF_ATTEMPT_INCONCLUSIVE);
}

HF_TEST(an_older_copy_of_long_values_is_named_with_their_table)
{
    begin();
    planted_copy_file(&planted, "older_toast", path_of_toast);
    assert_found("heap", "unreadable_table", "postgres.public.letters: could not read block", -1);
}

HF_TEST(an_older_copy_of_a_sequence_is_told)
{
    begin();
    planted_copy_file(&planted, "older_numbers", path_of_numbers);
    assert_not_told("sequences", "sequence postgres.public.child_id_seq stands behind its column", HF_ATTEMPT_PASSED);
}

HF_TEST(an_older_copy_of_the_catalog_is_named)
{
    begin();
    planted_copy_file(&planted, "older_columns", path_of_columns);
    assert_found("catalog", "columns_missing", "postgres.newer", -1);
}

HF_TEST(a_lost_init_file_of_an_unlogged_table_is_named)
{
    char path[256];
    begin();
    snprintf(path, sizeof path, "%s/%s_init", planted.cluster->data, path_of_unlogged);
    assert_int_equal(unlink(path), 0);
    assert_found("catalog", "init_fork_missing", "postgres.public.unlogged", -1);
}

HF_TEST(a_zeroed_page_of_multixact_offsets_is_named_with_the_table_that_tells)
{
    begin();
    planted_page(&planted, MULTI_OFFSETS, 0, planted_zero_page, 0);
    assert_found("multixacts", "multixact_unknown", path_of_shared, 0);
}

HF_TEST(a_zeroed_page_of_multixact_members_is_named_with_the_table_that_tells)
{
    begin();
    planted_page(&planted, MULTI_MEMBERS, 0, planted_zero_page, 0);
    assert_found("multixacts", "multixact_unknown", "pg_multixact/members/0000", 0);
}

HF_TEST(a_lost_file_of_multixact_members_is_named)
{
    char path[256];
    struct hf_verify_outcome outcome;
    begin();
    snprintf(path, sizeof path, "%s/" MULTI_MEMBERS, planted.cluster->data);
    assert_int_equal(truncate(path, 0), 0);
    prove(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    assert_true(planted_named(&outcome, "pg_multixact/members/0000"));
    hf_verify_outcome_done(&outcome);
}

/* The server goes on from there, and gives numbers of transactions a second time. */
HF_TEST(a_control_file_of_an_earlier_moment_is_named_by_rows_of_transactions_to_come)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_copy_file(&planted, "global/pg_control", "older_control");
    PGconn *conn = planted_start(&planted);
    for (int i = 0; i < 50; i++)
        hf_test_sql(conn, "INSERT INTO twice SELECT max(id) + 1, 'later' FROM twice");
    hf_test_sql(conn, "SELECT count(*) FROM twice");
    planted_stop(&planted, conn);
    planted_copy_file(&planted, "older_control", "global/pg_control");
    prove(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    assert_true(planted_named(&outcome, "postgres.public.twice"));
    hf_verify_outcome_done(&outcome);
}
