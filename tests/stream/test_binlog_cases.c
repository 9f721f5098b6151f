/* What can happen to a server and its binary logs while we receive them: each is followed, or told and refused. */
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "tests/stream/binlog_receiving.h"
#include "tests/support/test.h"

#define SMALL "--max-binlog-size=65536 --sync-binlog=0 --innodb-flush-log-at-trx-commit=2 --max-allowed-packet=128M"
#define FAST  "--sync-binlog=0 --innodb-flush-log-at-trx-commit=0 --max-allowed-packet=128M"

static atomic_bool hold; // every fdatasync waits as long as it is set
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

int
__wrap_fdatasync(int fd)
{
    while (atomic_load(&hold))
        usleep(1000);
    return __real_fdatasync(fd);
}

struct case_of {
    struct mariadb_server source, copy;
    struct test_vault vault;
    struct binlog_receiving receiving;
    MYSQL *conn;
};

static unsigned next_id = 100;

static void
begin(struct case_of *c, const char *options)
{
    if (!mariadb_here())
        HF_TEST_SKIP("this host has no MariaDB server");
    memset(c, 0, sizeof *c);
    mariadb_make(&c->source, next_id++, options);
    test_vault_make(&c->vault, hf_test_folder());
    c->conn = mariadb_open(&c->source);
    mariadb_sql(c->conn, "CREATE DATABASE clinic");
    mariadb_sql(c->conn, "CREATE TABLE clinic.visit (id INT PRIMARY KEY AUTO_INCREMENT, note LONGBLOB) ENGINE=InnoDB");
    binlog_receiving_init(&c->receiving, &c->vault, &c->source);
}

static void
end(struct case_of *c)
{
    mysql_close(c->conn);
    mariadb_kill(&c->source);
    mariadb_kill(&c->copy);
    test_vault_done(&c->vault);
}

static void
write_visits(MYSQL *conn, int count)
{
    for (int i = 0; i < count; i++)
        mariadb_sql(conn, "INSERT INTO clinic.visit (note) VALUES (REPEAT(MD5(RAND()), 10))");
}

static void
catch_up(struct case_of *c)
{
    binlog_receiving_start(&c->receiving);
    binlog_receiving_catch_up(&c->receiving, c->conn);
    binlog_receiving_stop(&c->receiving);
    assert_int_equal(c->receiving.why.kind, HF_ERR_CANCELLED);
}

/* Everything that was ever received, in a new server, is what the source has. */
static void
copy_equals_source(struct case_of *c)
{
    struct hf_binlog_plan plan;
    char ours[64];
    mariadb_make(&c->copy, next_id++, "--skip-log-bin " FAST);
    binlog_replay(&c->receiving, &c->copy, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    hf_binlog_plan_done(&plan);
    MYSQL *copy = mariadb_open(&c->copy);
    snprintf(ours, sizeof ours, "%s", mariadb_status(copy, "CHECKSUM TABLE clinic.visit"));
    assert_string_equal(ours, mariadb_status(c->conn, "CHECKSUM TABLE clinic.visit"));
    mysql_close(copy);
}

static size_t
windows_of(struct case_of *c, struct hf_window *first)
{
    static struct hf_timeline_path path;
    struct hf_archive *archive = binlog_archive(&c->receiving, &path);
    struct hf_window *windows;
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_archive_windows(archive, &path, &windows, &count, &err), &err);
    *first = windows[0];
    free(windows);
    hf_archive_freep(&archive);
    return count;
}

HF_TEST(a_server_that_crashed_and_one_that_was_restarted_are_followed_into_their_next_files)
{
    struct case_of c;
    struct hf_window window;
    begin(&c, SMALL);
    binlog_receiving_start(&c.receiving);
    for (int i = 0; i < 4; i++) {
        write_visits(c.conn, 30);
        binlog_receiving_catch_up(&c.receiving, c.conn);
        mysql_close(c.conn);
        if (i % 2 == 0)
            mariadb_stop(&c.source);
        else
            mariadb_kill(&c.source);
        mariadb_start(&c.source);
        c.conn = mariadb_open(&c.source);
    }
    write_visits(c.conn, 10);
    binlog_receiving_catch_up(&c.receiving, c.conn);
    binlog_receiving_stop(&c.receiving);
    assert_int_equal(c.receiving.gaps, 0);
    assert_int_equal(windows_of(&c, &window), 1);
    assert_int_equal(window.commits, 132);
    copy_equals_source(&c);
    end(&c);
}

HF_TEST(purged_logs_are_a_gap_with_the_transactions_that_are_missing)
{
    struct case_of c;
    struct hf_window window;
    struct hf_error err;
    begin(&c, SMALL);
    write_visits(c.conn, 20);
    catch_up(&c);
    char had[64], lost[64], words[256];
    snprintf(had, sizeof had, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    write_visits(c.conn, 20);
    mariadb_sql(c.conn, "FLUSH BINARY LOGS");
    // A log that a replica still reads is not purged, and a server notices late that its replica is gone.
    while (
        atoi(mariadb_text(c.conn, "SELECT COUNT(*) FROM information_schema.processlist WHERE command LIKE 'Binlog%'")))
        usleep(20000);
    snprintf(lost, sizeof lost, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    snprintf(words, sizeof words, "PURGE BINARY LOGS TO '%s'", mariadb_text(c.conn, "SHOW MASTER STATUS"));
    char newest[64], oldest[64];
    snprintf(newest, sizeof newest, "%s", mariadb_text(c.conn, "SHOW MASTER STATUS"));
    do { // one that recovery may still need is kept for a moment
        mariadb_sql(c.conn, words);
        usleep(20000);
        snprintf(oldest, sizeof oldest, "%s", mariadb_first(c.conn, "SHOW BINARY LOGS"));
    } while (strcmp(oldest, newest) != 0);
    write_visits(c.conn, 20);
    catch_up(&c);
    assert_int_equal(c.receiving.gaps, 1);
    snprintf(words, sizeof words,
             "the server had purged its binary logs: transactions behind \"%s\" up to \"%s\" are missing", had, lost);
    if (!binlog_receiving_said(&c.receiving, words))
        fail_msg("it said: %s", c.receiving.said);
    assert_int_equal(windows_of(&c, &window), 2);

    // Whoever stands before the gap cannot pass it; behind it the log can be used.
    static struct hf_timeline_path path;
    struct hf_archive *archive = binlog_archive(&c.receiving, &path);
    struct hf_binlog_plan plan;
    struct hf_gtid_set start = {0};
    struct hf_binlog_target target = {.stop = HF_BINLOG_AFTER_GTID};
    hf_assert_ok(hf_gtid_parse(HF_GTID_MARIADB, mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"), &target.gtid, &err),
                 &err);
    assert_false(hf_binlog_plan_make(archive, &path, &start, &target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    hf_assert_ok(hf_gtid_set_parse(HF_GTID_MARIADB, lost, strlen(lost), &start, &err), &err);
    hf_assert_ok(hf_binlog_plan_make(archive, &path, &start, &target, &plan, &err), &err);
    assert_int_equal(plan.transactions, 20);
    hf_binlog_plan_done(&plan);
    hf_gtid_set_done(&start);
    hf_archive_freep(&archive);

    // A receiver that comes back finds its place behind the gap.
    write_visits(c.conn, 5);
    catch_up(&c);
    assert_int_equal(windows_of(&c, &window), 2);
    end(&c);
}

HF_TEST(reset_logs_begin_a_timeline_and_what_lies_between_is_a_gap)
{
    struct case_of c;
    struct hf_window window;
    begin(&c, SMALL);
    write_visits(c.conn, 400);
    catch_up(&c);
    mariadb_sql(c.conn, "RESET MASTER");
    write_visits(c.conn, 7);
    catch_up(&c);
    assert_int_equal(c.receiving.gaps, 1);
    assert_true(binlog_receiving_said(&c.receiving, "timeline 2 of the binary log begins"));
    assert_true(binlog_receiving_said(&c.receiving, "the server's binary logs were reset"));
    assert_int_equal(windows_of(&c, &window), 2);
    write_visits(c.conn, 7);
    catch_up(&c);
    assert_int_equal(windows_of(&c, &window), 2);
    end(&c);
}

/* A plan for a copy that has these transactions; what it was refused with lies in *err. */
static bool
plan_from(struct case_of *c, const char *gtids, struct hf_binlog_target target, struct hf_binlog_plan *ret,
          struct hf_error *err)
{
    static struct hf_timeline_path path;
    struct hf_archive *archive = binlog_archive(&c->receiving, &path);
    struct hf_gtid_set start = {0};
    hf_assert_ok(hf_gtid_set_parse(HF_GTID_MARIADB, gtids, strlen(gtids), &start, err), err);
    const bool ok = hf_binlog_plan_make(archive, &path, &start, &target, ret, err);
    hf_gtid_set_done(&start);
    hf_archive_freep(&archive);
    return ok;
}

HF_TEST(a_copy_from_before_a_reset_is_not_taken_for_one_from_behind_it)
{
    struct case_of c;
    struct hf_binlog_plan plan;
    struct hf_error err;
    char early[64];
    const struct hf_binlog_target end_of_it = {.stop = HF_BINLOG_TO_END};
    begin(&c, SMALL);
    write_visits(c.conn, 10);
    snprintf(early, sizeof early, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    write_visits(c.conn, 10);
    catch_up(&c);
    const int64_t made_ms = hf_time_now_ms();
    while (hf_time_now_ms() / 1000 <= made_ms / 1000) // a log is told from a later one by the second it was made in
        usleep(20000);
    mariadb_sql(c.conn, "RESET MASTER");
    write_visits(c.conn, 7); // fewer than the copy has
    catch_up(&c);
    assert_false(plan_from(&c, early, end_of_it, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "behind the backup there is a gap"));

    const int64_t before_ms = hf_time_now_ms();
    while (hf_time_now_ms() / 1000 <= before_ms / 1000 + 1) // the log tells seconds
        usleep(50000);
    write_visits(c.conn, 20); // now the copy's numbers have come again
    catch_up(&c);
    assert_false(plan_from(&c, early, end_of_it, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_false(plan_from(&c, early, (struct hf_binlog_target){.stop = HF_BINLOG_TO_END, .start_known_ms = before_ms},
                           &plan, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT); // the one before the reset, which has a gap behind it
    hf_assert_ok(plan_from(&c, early,
                           (struct hf_binlog_target){.stop = HF_BINLOG_TO_END, .start_known_ms = hf_time_now_ms()},
                           &plan, &err),
                 &err);
    assert_int_equal(plan.transactions, 27 - 12);
    hf_binlog_plan_done(&plan);
    end(&c);
}

HF_TEST(a_moment_before_what_the_copy_has_or_behind_the_archive_is_refused_with_the_nearest)
{
    struct case_of c;
    struct hf_binlog_plan plan;
    struct hf_error err;
    char first[64], file[64], second[64], third[64];
    unsigned long at[2];
    begin(&c, SMALL);
    write_visits(c.conn, 3);
    snprintf(first, sizeof first, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    at[0] = strtoul(mariadb_status(c.conn, "SHOW MASTER STATUS"), NULL, 10);
    snprintf(file, sizeof file, "%s", mariadb_text(c.conn, "SHOW MASTER STATUS"));
    write_visits(c.conn, 1);
    snprintf(second, sizeof second, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    at[1] = strtoul(mariadb_status(c.conn, "SHOW MASTER STATUS"), NULL, 10);
    catch_up(&c);

    struct hf_binlog_target target = {.stop = HF_BINLOG_TO_FILE, .file = file, .file_position = at[0]};
    assert_false(plan_from(&c, second, target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.hint, "Name an earlier backup.");
    hf_assert_ok(plan_from(&c, first, target, &plan, &err), &err);
    assert_int_equal(plan.transactions, 0);
    hf_binlog_plan_done(&plan);
    target.file_position = at[1];
    hf_assert_ok(plan_from(&c, first, target, &plan, &err), &err);
    assert_int_equal(plan.transactions, 1);
    hf_binlog_plan_done(&plan);
    target.file_position = at[1] + 1;
    assert_false(plan_from(&c, first, target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.hint, "Nearest: before "));

    target = (struct hf_binlog_target){.stop = HF_BINLOG_TO_TIME, .time_ms = 1000};
    assert_false(plan_from(&c, second, target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    target.time_ms = hf_time_now_ms() + 3600000;
    assert_false(plan_from(&c, first, target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.hint, "or all there is with --latest"));

    target = (struct hf_binlog_target){.stop = HF_BINLOG_AFTER_GTID};
    hf_assert_ok(hf_gtid_parse(HF_GTID_MARIADB, first, &target.gtid, &err), &err);
    assert_false(plan_from(&c, second, target, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    hf_assert_ok(plan_from(&c, first, target, &plan, &err), &err); // it is the copy itself
    assert_int_equal(plan.transactions, 0);
    hf_binlog_plan_done(&plan);

    snprintf(third, sizeof third, "0-%u-999", (unsigned)strtoul(strchr(second, '-') + 1, NULL, 10));
    assert_false(plan_from(&c, third, (struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "ends before"));

    mariadb_sql(c.conn, "FLUSH BINARY LOGS");
    write_visits(c.conn, 1);
    snprintf(third, sizeof third, "%s", mariadb_text(c.conn, "SELECT @@gtid_binlog_pos"));
    write_visits(c.conn, 1);
    catch_up(&c);
    target = (struct hf_binlog_target){.stop = HF_BINLOG_TO_FILE, .file = file, .file_position = at[0]};
    assert_false(plan_from(&c, third, target, &plan, &err)); // in a file that the copy has all of
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.hint, "Name an earlier backup.");
    end(&c);
}

HF_TEST(rows_of_more_than_16_mib_and_long_transactions_arrive_whole)
{
    struct case_of c;
    begin(&c, SMALL);
    binlog_receiving_start(&c.receiving);
    mariadb_sql(c.conn, "INSERT INTO clinic.visit (note) VALUES (REPEAT('0123456789abcdef', 1250000))");
    mariadb_sql(c.conn, "INSERT INTO clinic.visit (note) VALUES (REPEAT('x', 16777215 - 60))");
    mariadb_sql(c.conn, "BEGIN");
    write_visits(c.conn, 6000);
    mariadb_sql(c.conn, "COMMIT");
    binlog_receiving_catch_up(&c.receiving, c.conn);
    binlog_receiving_stop(&c.receiving);
    copy_equals_source(&c);
    end(&c);
}

HF_TEST(encrypted_logs_come_decrypted_and_two_domains_are_kept_apart)
{
    struct case_of c;
    char keys[300], options[900];
    const char *folder = hf_test_folder();
    assert_int_equal(chmod(folder, 0755), 0); // the server has an account of its own
    snprintf(keys, sizeof keys, "%s/keys", folder);
    FILE *file = fopen(keys, "w");
    assert_non_null(file);
    fputs("1;00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n", file);
    fclose(file);
    snprintf(options, sizeof options,
             SMALL " --plugin-load-add=file_key_management --file-key-management-filename=%s --encrypt-binlog=ON "
                   "--binlog-checksum=NONE",
             keys);
    if (access("/usr/lib/mysql/plugin/file_key_management.so", R_OK) != 0)
        HF_TEST_SKIP("this host has no key management plugin");
    begin(&c, options);
    binlog_receiving_start(&c.receiving);
    for (int i = 0; i < 40; i++) {
        mariadb_sql(c.conn, i % 2 == 0 ? "SET gtid_domain_id=3" : "SET gtid_domain_id=0");
        write_visits(c.conn, 5);
        if (i == 20)
            mariadb_sql(c.conn, "SET GLOBAL binlog_checksum=CRC32");
    }
    binlog_receiving_catch_up(&c.receiving, c.conn);
    binlog_receiving_stop(&c.receiving);
    copy_equals_source(&c);
    end(&c);
}

HF_TEST(a_promoted_replica_is_followed_and_a_server_that_lacks_transactions_is_refused)
{
    struct case_of c;
    struct mariadb_server other;
    struct hf_window window;
    struct hf_binlog_plan plan;
    begin(&c, SMALL);
    write_visits(c.conn, 60);
    catch_up(&c);
    // The other one gets its data from our archive, with the same names for its own files, and is written to then.
    mariadb_make(&other, next_id++, SMALL " --log-slave-updates");
    binlog_replay(&c.receiving, &other, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &plan);
    hf_binlog_plan_done(&plan);
    MYSQL *first = c.conn;
    c.conn = mariadb_open(&other);
    write_visits(c.conn, 30);
    snprintf(c.receiving.socket, sizeof c.receiving.socket, "%s", other.socket);
    catch_up(&c);
    assert_int_equal(c.receiving.gaps, 0);
    assert_int_equal(windows_of(&c, &window), 1);
    assert_int_equal(window.commits, 92);
    copy_equals_source(&c);

    // Back to the first, which never got what the other one wrote.
    snprintf(c.receiving.socket, sizeof c.receiving.socket, "%s", c.source.socket);
    write_visits(first, 3);
    binlog_receiving_start(&c.receiving);
    binlog_receiving_wait(&c.receiving);
    assert_int_equal(c.receiving.why.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(c.receiving.why.message, "the archive has transactions up to"));
    assert_non_null(strstr(c.receiving.why.hint, "Name the present primary"));
    mysql_close(first);
    mariadb_kill(&other);
    end(&c);
}

HF_TEST(a_source_that_gave_up_waiting_for_us_is_noticed)
{
    struct case_of c;
    begin(&c, SMALL " --rpl-semi-sync-master-enabled=ON --rpl-semi-sync-master-timeout=300 "
                    "--rpl-semi-sync-master-wait-no-slave=ON");
    binlog_receiving_start(&c.receiving);
    write_visits(c.conn, 5);
    binlog_receiving_catch_up(&c.receiving, c.conn);
    const int64_t since = hf_time_now_ms();
    while (c.receiving.semi_sync != HF_SEMI_SYNC_ON && hf_time_now_ms() - since < 60000) {
        write_visits(c.conn, 1);
        usleep(20000);
    }
    assert_int_equal(c.receiving.semi_sync, HF_SEMI_SYNC_ON);
    while (atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")) < 10 &&
           hf_time_now_ms() - since < 60000)
        write_visits(c.conn, 1);
    assert_true(atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")) >= 10);
    mariadb_sql(c.conn, "SET GLOBAL rpl_semi_sync_master_enabled=OFF"); // what a timeout does to its status
    while (c.receiving.semi_sync != HF_SEMI_SYNC_LOST && hf_time_now_ms() - since < 60000)
        usleep(20000);
    assert_int_equal(c.receiving.semi_sync, HF_SEMI_SYNC_LOST);
    assert_true(c.receiving.semi_sync_lost_at >= since);
    mariadb_sql(c.conn, "SET GLOBAL rpl_semi_sync_master_enabled=ON");
    while (c.receiving.semi_sync != HF_SEMI_SYNC_ON && hf_time_now_ms() - since < 60000) {
        write_visits(c.conn, 1);
        usleep(20000);
    }
    assert_int_equal(c.receiving.semi_sync_lost_at, 0);
    binlog_receiving_stop(&c.receiving);
    end(&c);
}

HF_TEST(a_server_without_a_binary_log_is_refused_with_the_setting)
{
    struct case_of c;
    begin(&c, SMALL " --skip-log-bin");
    binlog_receiving_start(&c.receiving);
    binlog_receiving_wait(&c.receiving);
    assert_int_equal(c.receiving.why.kind, HF_ERR_USAGE);
    assert_string_equal(c.receiving.why.message, "the server writes no binary log (log_bin is off)");
    end(&c);
}

struct waiting_commit {
    MYSQL *conn;
    pthread_t thread;
    atomic_bool done;
};

static void *
commit_one(void *context)
{
    struct waiting_commit *commit = context;
    mariadb_sql(commit->conn, "INSERT INTO clinic.visit (note) VALUES ('on the disk?')");
    atomic_store(&commit->done, true);
    return NULL;
}

HF_TEST(a_commit_waits_until_its_bytes_are_on_our_disk)
{
    struct case_of c;
    begin(&c, SMALL " --rpl-semi-sync-master-enabled=ON --rpl-semi-sync-master-timeout=600000 "
                    "--rpl-semi-sync-master-wait-point=AFTER_SYNC --rpl-semi-sync-master-wait-no-slave=OFF");
    binlog_receiving_start(&c.receiving);
    write_visits(c.conn, 5);
    binlog_receiving_catch_up(&c.receiving, c.conn);
    while (strcmp(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_clients'"), "1") != 0)
        usleep(10000);
    write_visits(c.conn, 1);
    struct waiting_commit commit = {.conn = mariadb_open(&c.source)};
    const int before = atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'"));
    atomic_store(&hold, true);
    assert_int_equal(pthread_create(&commit.thread, NULL, commit_one, &commit), 0);
    // The event has been sent, and more than once the time that an answer takes has gone by.
    while (atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_wait_sessions'")) == 0)
        usleep(10000);
    usleep(700000);
    assert_false(atomic_load(&commit.done));
    assert_int_equal(atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")), before);
    atomic_store(&hold, false);
    pthread_join(commit.thread, NULL);
    assert_true(atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_yes_tx'")) > before);
    mysql_close(commit.conn);
    binlog_receiving_stop(&c.receiving);
    end(&c);
}

/* A receiver that knew nothing of waiting stands for one that died between the disk and its answer. */
HF_TEST(a_commit_that_we_have_and_never_acknowledged_is_acknowledged_by_the_next_connection)
{
    struct case_of c;
    begin(&c, SMALL " --rpl-semi-sync-master-timeout=600000 --rpl-semi-sync-master-wait-no-slave=ON");
    binlog_receiving_start(&c.receiving);
    write_visits(c.conn, 5);
    binlog_receiving_catch_up(&c.receiving, c.conn);
    mariadb_sql(c.conn, "SET GLOBAL rpl_semi_sync_master_enabled=ON");
    struct waiting_commit commit = {.conn = mariadb_open(&c.source)};
    assert_int_equal(pthread_create(&commit.thread, NULL, commit_one, &commit), 0);
    while (atoi(mariadb_status(c.conn, "SHOW STATUS LIKE 'Rpl_semi_sync_master_wait_sessions'")) == 0)
        usleep(10000);
    binlog_receiving_catch_up(&c.receiving, c.conn);
    binlog_receiving_stop(&c.receiving);
    assert_false(atomic_load(&commit.done));

    const int64_t since = hf_time_now_ms();
    binlog_receiving_start(&c.receiving);
    while (!atomic_load(&commit.done) && hf_time_now_ms() - since < 20000)
        usleep(10000);
    assert_true(atomic_load(&commit.done));
    pthread_join(commit.thread, NULL);
    mysql_close(commit.conn);
    binlog_receiving_stop(&c.receiving);
    end(&c);
}
