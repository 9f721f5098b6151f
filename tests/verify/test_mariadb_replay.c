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

static bool answers(const char *socket);
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

static bool
answers(const char *socket)
{
    MYSQL *conn = mysql_init(NULL);
    const bool there = mysql_real_connect(conn, NULL, "root", "", NULL, 0, socket, 0) != NULL;
    mysql_close(conn);
    return there;
}

static void
begin(void)
{
    char sql[300], to[320], datadir[320], socket[320];
    int status;
    struct hf_error err;
    if (source.pid != 0)
        return;
    mariadb_make(&source, hf_test_folder(), 11, "--max-binlog-size=65536 --sync-binlog=0 --binlog-format=ROW");
    test_vault_make(&vault, hf_test_folder());
    MYSQL *conn = mariadb_open(&source);
    mariadb_sql(conn, "CREATE DATABASE clinic");
    mariadb_sql(conn, "CREATE TABLE clinic.visit (id INT PRIMARY KEY AUTO_INCREMENT, note VARCHAR(300))");
    mariadb_sql(conn, "INSERT INTO clinic.visit (note) VALUES ('before the backup')");
    binlog_receiving_init(&receiving, &vault, &source);
    binlog_receiving_start(&receiving);
    binlog_receiving_catch_up(&receiving, conn);
    snprintf(backup, sizeof backup, "%s/backup", hf_test_folder());
    snprintf(to, sizeof to, "--target-dir=%s", backup);
    snprintf(datadir, sizeof datadir, "--datadir=%s/data", source.folder);
    snprintf(socket, sizeof socket, "--socket=%s", source.socket);
    const char *const argv[] = {
        "/usr/bin/mariadb-backup", "--no-defaults", "--backup", to, datadir, socket, "--user=root", NULL};
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(4 * HF_MIB);
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 120000, NULL, &log, &status, &err), &err);
    if (status != 0)
        fail_msg("mariadb-backup: %s", hf_buf_text(&log));

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
    struct hf_error err;
    char to[320], socket[100], at[120];
    if (geteuid() == 0)
        hf_assert_ok(hf_tree_give(data, hf_test_mariadb_uid(), hf_test_mariadb_gid(), &err), &err);
    const char *folder = hf_test_folder();
    assert_int_equal(chmod(folder, 0777), 0);
    snprintf(to, sizeof to, "--datadir=%s", data);
    snprintf(at, sizeof at, "%s/s", folder);
    snprintf(socket, sizeof socket, "--socket=%.80s", at);
    char *parent = strdup(data);
    *strrchr(parent, '/') = '\0';
    assert_int_equal(chmod(parent, 0755), 0);
    free(parent);
    const char *const argv[] = {"/usr/sbin/mariadbd",
                                "--no-defaults",
                                to,
                                socket,
                                "--skip-networking",
                                "--innodb-buffer-pool-size=16M",
                                "--pid-file=pid",
                                NULL};
    const struct hf_process_options options = {.argv = argv,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .become = geteuid() == 0,
                                               .uid = hf_test_mariadb_uid(),
                                               .gid = hf_test_mariadb_gid()};
    _cleanup_(hf_process_kill) struct hf_process server = HF_PROCESS_NONE;
    hf_assert_ok(hf_process_start(&options, &server, &err), &err);
    for (int i = 0; i < 1200 && !answers(at); i++) {
        bool ended;
        int status;
        hf_assert_ok(hf_process_wait(&server, 50, &ended, &status, &err), &err);
        assert_false(ended);
    }
    MYSQL *conn = hf_test_mariadb_connect(at);
    assert_string_equal(checksum_of(conn), checksum);
    assert_string_equal(hf_test_mysql_text(conn, "SELECT COUNT(*) FROM mysql.user WHERE User = 'doctor'"), "1");
    mysql_close(conn);
}
