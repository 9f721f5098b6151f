#include "tests/support/test.h"

#include <unistd.h>

#include "tests/verify/planted.h"

/*
 * Faults that the source had before the backup, with data checksums off: the backup copies them faithfully, so only
 * the proof can see them.  Each fault hits a table of its own.
 */

#define ROWS_A_PAGE 50 // about: rows of 140 bytes

static struct planted planted;
static bool begun;

/* Where things lie in the pristine copy. */
static char path_of_entry[64], path_of_vacuumed[64], path_of_plain[64], path_of_bare[64], path_of_cut[64],
    path_of_cut_vacuumed[64], path_of_cut_bare[64], path_of_nonsense[64], path_of_toast[64], path_of_swapped[64],
    path_of_older[64], path_of_sequence[64], path_of_class_index[64], path_of_unhinted[64];
static int64_t oid_of_victim;

static void
find_path(PGconn *conn, const char *relation, char path[static 64])
{
    char sql[200];
    snprintf(sql, sizeof sql, "SELECT pg_relation_filepath('%s')", relation);
    snprintf(path, 64, "%s", hf_test_sql_text(conn, sql));
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
    make_table(conn, "cut", " PRIMARY KEY");
    make_table(conn, "cut_vacuumed", " PRIMARY KEY");
    make_table(conn, "cut_bare", "");
    make_table(conn, "nonsense", "");
    make_table(conn, "swapped", " PRIMARY KEY");
    make_table(conn, "untouched", " PRIMARY KEY");
    make_table(conn, "victim", " PRIMARY KEY");
    hf_test_sql(conn, "VACUUM vacuumed, bare, cut_vacuumed, cut_bare");
    hf_test_sql(conn, "CREATE TABLE letters (id int, body text)");
    hf_test_sql(conn, "ALTER TABLE letters ALTER body SET STORAGE external");
    hf_test_sql(conn, "INSERT INTO letters SELECT i, repeat(md5(i::text), 500) FROM generate_series(1, 5) i");
    hf_test_sql(conn, "CREATE SEQUENCE numbers");
    hf_test_sql(conn, "SELECT nextval('numbers')");

    find_path(conn, "entry_pkey", path_of_entry);
    find_path(conn, "vacuumed", path_of_vacuumed);
    find_path(conn, "plain", path_of_plain);
    find_path(conn, "bare", path_of_bare);
    find_path(conn, "cut", path_of_cut);
    find_path(conn, "cut_vacuumed", path_of_cut_vacuumed);
    find_path(conn, "cut_bare", path_of_cut_bare);
    find_path(conn, "nonsense", path_of_nonsense);
    find_path(conn, "swapped_pkey", path_of_swapped);
    find_path(conn, "numbers", path_of_sequence);
    find_path(conn, "pg_class_oid_index", path_of_class_index);
    snprintf(
        path_of_toast, sizeof path_of_toast, "%s",
        hf_test_sql_text(conn, "SELECT pg_relation_filepath(reltoastrelid) FROM pg_class WHERE relname = 'letters'"));

    /* An older copy of an index: kept beside it, before more rows came. */
    hf_test_sql(conn, "CHECKPOINT");
    snprintf(path_of_older, sizeof path_of_older, "older");
    planted_copy_file(&planted, path_of_swapped, path_of_older);
    hf_test_sql(conn, "INSERT INTO swapped SELECT i, 'x' FROM generate_series(1001, 1100) i");
    hf_test_sql(conn, "CREATE TABLE unhinted (id int, note text)");
    hf_test_sql(conn, "INSERT INTO unhinted SELECT i, 'never read' FROM generate_series(1, 1000) i");
    find_path(conn, "unhinted", path_of_unhinted);
    oid_of_victim = strtoll(hf_test_sql_text(conn, "SELECT 'victim'::regclass::oid"), NULL, 10);
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
set_nonsense_xmin(uint8_t *page, uint64_t number)
{
    const uint32_t pointer = hf_get_u32(page + 24 + 4 * (number - 1));
    uint8_t *row = page + (pointer & 0x7fff);
    hf_put_u32(row, 0x7ffffff0);
    hf_put_u16(row + 20, hf_get_u16(row + 20) & (uint16_t)~0x0300); // and no hint about it
}

HF_TEST(a_sound_database_is_proven)
{
    struct hf_verify_outcome outcome;
    begin();
    const struct hf_id backup = planted_backup(&planted);
    planted_verify(&planted, &backup, NULL, &outcome);
    if (outcome.result != HF_ATTEMPT_PASSED)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(explore)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_page(&planted, path_of_entry, 1, planted_remove_entry, 20);
    planted_page(&planted, path_of_vacuumed, 3, planted_zero_page, 0);
    planted_page(&planted, path_of_plain, 4, planted_zero_page, 0);
    planted_page(&planted, path_of_bare, 5, planted_zero_page, 0);
    planted_truncate(&planted, path_of_cut, planted_pages(&planted, path_of_cut) - 2);
    planted_truncate(&planted, path_of_cut_vacuumed, planted_pages(&planted, path_of_cut_vacuumed) - 2);
    planted_truncate(&planted, path_of_cut_bare, planted_pages(&planted, path_of_cut_bare) - 2);
    planted_page(&planted, path_of_nonsense, 2, set_nonsense_xmin, 7);
    planted_page(&planted, path_of_toast, 1, planted_unlink_item, 2);
    planted_copy_file(&planted, path_of_older, path_of_swapped);
    planted_page(&planted, path_of_sequence, 0, planted_zero_page, 0);
    const struct hf_id backup = planted_backup(&planted);
    planted_verify(&planted, &backup, NULL, &outcome);
    planted_print(&outcome);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(explore_commit_log)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_page(&planted, "pg_xact/0000", 0, planted_zero_page, 0);
    const struct hf_id backup = planted_backup(&planted);
    planted_verify(&planted, &backup, NULL, &outcome);
    planted_print(&outcome);
    hf_verify_outcome_done(&outcome);
}
