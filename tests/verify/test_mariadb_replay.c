/* A backup of MariaDB and the archived binary log behind it: the copy stops exactly where it is told to. */
#include "tests/support/test.h"

#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/tree.h"
#include "server/restore/engine.h"
#include "server/verify/mariadb/apply.h"
#include "tests/stream/binlog_receiving.h"
#include "tests/support/mariadb.h"

#define SANDBOX_UID 1879104998
#define MOMENTS     6

static struct mariadb_server source;
static struct test_vault vault;
static struct binlog_receiving receiving;
static char backup[300];

/* What the source held when each of these transactions was its last. */
static struct {
    char gtid[64], checksum[64];
} moments[MOMENTS];

static void begin(void);
static const char *checksum_of(MYSQL *conn);
static void restored(char data[static 300]);
static bool replay(const char *data, const struct hf_binlog_target *target, struct hf_error *err);
static void expect(const char *data, const char *checksum);

HF_TEST(a_copy_holds_what_the_source_held_when_the_named_transaction_was_its_last)
{
    begin();
    for (size_t i = 0; i < MOMENTS; i += 2) {
        struct hf_binlog_target target = {.stop = HF_BINLOG_AFTER_GTID};
        struct hf_error err;
        char data[300];
        hf_assert_ok(hf_gtid_parse(HF_GTID_MARIADB, moments[i].gtid, &target.gtid, &err), &err);
        restored(data);
        hf_assert_ok(replay(data, &target, &err), &err);
        expect(data, moments[i].checksum);
    }
}

HF_TEST(a_copy_replays_the_log_to_its_end_accounts_and_all)
{
    struct hf_error err;
    char data[300], path[400];
    begin();
    restored(data);
    hf_assert_ok(replay(data, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &err), &err);
    expect(data, moments[MOMENTS - 1].checksum);
    snprintf(path, sizeof path, "%s/" HF_BINLOG_RELAY_FIRST, data);
    assert_int_not_equal(access(path, F_OK), 0);
}

HF_TEST(a_copy_that_is_not_the_one_the_log_goes_on_from_fails_and_says_no_row)
{
    struct hf_error err;
    char data[300], path[400];
    begin();
    restored(data);
    snprintf(path, sizeof path, "%s/clinic/visit.ibd", data);
    assert_int_equal(unlink(path), 0);
    assert_false(replay(data, &(struct hf_binlog_target){.stop = HF_BINLOG_TO_END}, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "the copy could not replay the binary log: error "));
}

static void
begin(void)
{
    char sql[300];
    if (source.server != NULL)
        return;
    mariadb_make(&source, 11, "--max-binlog-size=65536 --sync-binlog=0 --binlog-format=ROW");
    test_vault_make(&vault, hf_test_folder());
    MYSQL *conn = mariadb_open(&source);
    mariadb_sql(conn, "CREATE DATABASE clinic");
    mariadb_sql(conn, "CREATE TABLE clinic.visit (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(300))");
    mariadb_sql(conn, "INSERT INTO clinic.visit (note) VALUES ('before the backup')");
    binlog_receiving_init(&receiving, &vault, &source);
    binlog_receiving_start(&receiving);
    binlog_receiving_catch_up(&receiving, conn);
    snprintf(backup, sizeof backup, "%s/backup", hf_test_folder());
    hf_test_mariadb_backup(source.server, backup);

    mariadb_sql(conn, "CREATE USER doctor@localhost IDENTIFIED BY 'secret'");
    for (size_t i = 0; i < MOMENTS; i++) {
        for (int n = 0; n < 40; n++) {
            snprintf(sql, sizeof sql, "INSERT INTO clinic.visit (note) VALUES (REPEAT('%zu', 250))", i);
            mariadb_sql(conn, sql);
        }
        mariadb_sql(conn, "UPDATE clinic.visit SET note = CONCAT(note, '!') WHERE id % 7 = 0");
        snprintf(moments[i].gtid, sizeof moments[i].gtid, "%s", mariadb_text(conn, "SELECT @@last_gtid"));
        snprintf(moments[i].checksum, sizeof moments[i].checksum, "%s", checksum_of(conn));
    }
    binlog_receiving_catch_up(&receiving, conn);
    binlog_receiving_stop(&receiving);
    mysql_close(conn);
}

static const char *
checksum_of(MYSQL *conn)
{
    return mariadb_status(conn, "CHECKSUM TABLE clinic.visit EXTENDED");
}

/* As after `holdfast restore`. */
static void
restored(char data[static 300])
{
    static char launcher[512];
    char configuration[320];
    int status;
    struct hf_error err;
    _cleanup_(hf_freep) char *folder = NULL;
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    snprintf(data, 300, "%s/restored", hf_test_folder());
    snprintf(configuration, sizeof configuration, "%s.configuration", data);
    hf_assert_ok(hf_restore_stage(data, &folder, &err), &err);
    const char *const copy[] = {"/bin/cp", "-r", backup, folder, NULL};
    const struct hf_process_options options = {.argv = copy, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
    const struct hf_restore_completion completion = {.folder = folder,
                                                     .configuration = configuration,
                                                     .target = data,
                                                     .server_version = "10.11.19-MariaDB",
                                                     .launcher = launcher,
                                                     .lowest = HF_SANDBOX_L2,
                                                     .phase_ms = 60000,
                                                     .host_uid = SANDBOX_UID,
                                                     .host_gid = SANDBOX_UID,
                                                     .owner_uid = geteuid(),
                                                     .owner_gid = getegid()};
    hf_assert_ok(hf_restore_finish_staged(&hf_restore_mariadb, &completion, &err), &err);
}

static bool
replay(const char *data, const struct hf_binlog_target *target, struct hf_error *err)
{
    static struct hf_timeline_path path;
    char launcher[512];
    uint64_t bytes;
    struct hf_gtid_set start = {0};
    struct hf_binlog_plan plan;
    struct hf_archive *archive = binlog_archive(&receiving, &path);
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    hf_assert_ok(hf_mariadb_backup_gtids(data, &start, err), err);
    hf_assert_ok(hf_binlog_plan_make(archive, &path, &start, target, &plan, err), err);
    hf_assert_ok(hf_binlog_write_relay(archive, &path, &plan, data, NULL, &bytes, err), err);
    assert_true(bytes > 1000);
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, SANDBOX_UID, SANDBOX_UID, err), err);
    const struct hf_sandbox_spec spec = {
        .launcher = launcher, .lowest = HF_SANDBOX_L2, .host_uid = SANDBOX_UID, .host_gid = SANDBOX_UID};
    const struct hf_mariadb_settings settings = {.series = "10.11", .durable = true};
    struct hf_mariadb_apply apply = {.start = &start, .wanted = &plan.gtids, .phase_ms = 60000};
    const bool ok = hf_mariadb_replay(data, &spec, &settings, &apply, err);
    hf_binlog_plan_done(&plan);
    hf_gtid_set_done(&start);
    hf_archive_freep(&archive);
    return ok;
}

static void
expect(const char *data, const char *checksum)
{
    struct hf_test_mariadb *copy = hf_test_mariadb_open(data);
    MYSQL *conn = hf_test_mariadb_connect(copy->socket);
    assert_string_equal(checksum_of(conn), checksum);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM mysql.user WHERE User = 'doctor'"), "1");
    mysql_close(conn);
    hf_test_mariadb_stop(copy, SIGKILL);
}
