/* Binary logs of a real MariaDB server: received, acknowledged, found again, served to a copy that stops exactly. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/stream/binlog_receiving.h"
#include "tests/support/test.h"

#define SMALL "--max-binlog-size=65536 --sync-binlog=0 --innodb-flush-log-at-trx-commit=2"

static struct mariadb_server source, copy;
static struct test_vault vault;
static struct binlog_receiving receiving;
static MYSQL *conn;
static bool ready;

/* One source for all tests of the file; each goes on where the one before left it. */
static void
begin(void)
{
    if (ready)
        return;
    assert_null(source.server); // the first test failed half way
    if (!mariadb_here())
        HF_TEST_SKIP("this host has no MariaDB server");
    mariadb_make(&source, 11, SMALL);
    mariadb_make(&copy, 21, "--skip-log-bin --sync-binlog=0 --innodb-flush-log-at-trx-commit=0");
    test_vault_make(&vault, hf_test_folder());
    conn = mariadb_open(&source);
    mariadb_sql(conn, "CREATE DATABASE clinic");
    mariadb_sql(conn, "CREATE TABLE clinic.visit (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(300)) ENGINE=InnoDB");
    binlog_receiving_init(&receiving, &vault, &source);
    ready = true;
}

static void
write_visits(int count, const char *note)
{
    char sql[512];
    for (int i = 0; i < count; i++) {
        snprintf(sql, sizeof sql, "INSERT INTO clinic.visit (note) VALUES (CONCAT('%s', REPEAT('x', 200)))", note);
        mariadb_sql(conn, sql);
    }
}

static long
visits_of(const struct mariadb_server *server)
{
    MYSQL *one = mariadb_open(server);
    const long count = atol(mariadb_text(one, "SELECT COUNT(*) FROM clinic.visit"));
    mysql_close(one);
    return count;
}

static const char *
checksum_of(const struct mariadb_server *server)
{
    MYSQL *one = mariadb_open(server);
    const char *text = mariadb_status(one, "CHECKSUM TABLE clinic.visit");
    mysql_close(one);
    return text;
}

HF_TEST(what_the_server_logs_is_received_across_rotations_and_a_copy_replays_it_to_the_end)
{
    struct hf_binlog_plan plan;
    begin();
    write_visits(200, "first");
    binlog_receiving_start(&receiving);
    write_visits(500, "second");
    binlog_receiving_catch_up(&receiving, conn);
    binlog_receiving_stop(&receiving);
    assert_int_equal(receiving.why.kind, HF_ERR_CANCELLED);
    assert_int_equal(receiving.gaps, 0);
    binlog_replay(&receiving, &copy, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    assert_int_equal(plan.transactions, 702);
    assert_true(plan.reaches_end);
    hf_binlog_plan_done(&plan);
    assert_int_equal(visits_of(&copy), 700);
    assert_string_equal(checksum_of(&copy), checksum_of(&source));
}

HF_TEST(a_receiver_that_comes_back_goes_on_at_its_own_end_and_stores_nothing_twice)
{
    struct hf_binlog_plan plan;
    begin();
    write_visits(50, "while nobody receives");
    binlog_receiving_start(&receiving);
    binlog_receiving_catch_up(&receiving, conn);
    binlog_receiving_stop(&receiving);
    binlog_replay(&receiving, &copy, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    assert_int_equal(plan.transactions, 50); // the copy has the rest
    hf_binlog_plan_done(&plan);
    assert_string_equal(checksum_of(&copy), checksum_of(&source));
}

HF_TEST(a_copy_stops_behind_the_transaction_that_was_named_and_before_the_next)
{
    struct hf_binlog_plan plan;
    struct hf_binlog_target target = {.stop = HF_BINLOG_AFTER_GTID};
    struct hf_error err;
    begin();
    binlog_receiving_start(&receiving);
    write_visits(10, "before");
    hf_assert_ok(hf_gtid_parse(HF_GTID_MARIADB, mariadb_text(conn, "SELECT @@last_gtid"), &target.gtid, &err), &err);
    const long wanted = visits_of(&source);
    write_visits(10, "after");
    binlog_receiving_catch_up(&receiving, conn);
    binlog_receiving_stop(&receiving);
    binlog_replay(&receiving, &copy, &target, &plan);
    hf_binlog_plan_done(&plan);
    assert_int_equal(visits_of(&copy), wanted);

    target.stop = HF_BINLOG_BEFORE_GTID;
    target.gtid.sequence += 5;
    binlog_replay(&receiving, &copy, &target, &plan);
    hf_binlog_plan_done(&plan);
    assert_int_equal(visits_of(&copy), wanted + 4);
    binlog_replay(&receiving, &copy, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    hf_binlog_plan_done(&plan);
    assert_string_equal(checksum_of(&copy), checksum_of(&source));
}
