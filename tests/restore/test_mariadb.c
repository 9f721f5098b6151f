#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/tree.h"
#include "server/restore/engine.h"
#include "tests/support/mariadb.h"

/* One server, filled and backed up once; each test completes a fresh copy of what a restore would have written. */
#define SANDBOX_UID 1879104999

static struct hf_test_mariadb *source;
static char backup[128];
static const char *const tables[] = {"clinic.patient",   "clinic.visit",      "clinic.old_note",
                                     "clinic.aria_note", "mysql.global_priv", "mysql.proc"};

static void begin(void);
static void staged(const char *target);
static struct hf_restore_completion completion_of(const char *target, char folder[static 256],
                                                  char configuration[static 256]);
static const char *checksum(MYSQL *conn, const char *table, char text[static 64]);
static bool exists(const char *folder, const char *name);
static void run(const char *const *argv);

HF_TEST(a_restored_folder_starts_with_plain_mariadbd_and_holds_what_the_source_holds)
{
    char target[128], folder[256], configuration[256], mine[64], theirs[64];
    struct hf_error err;
    struct stat info;
    begin();
    const char *top = hf_test_folder();
    assert_int_equal(chmod(top, 0777), 0);
    snprintf(target, sizeof target, "%s/restored", top);
    staged(target);
    const struct hf_restore_completion completion = completion_of(target, folder, configuration);
    hf_assert_ok(hf_restore_finish_staged(&hf_restore_mariadb, &completion, &err), &err);
    assert_false(exists(target, HF_RESTORE_UNFINISHED));
    assert_false(exists(target, "backup-my.cnf"));
    assert_false(exists(target, "holdfast_config"));
    assert_true(exists(target, "xtrabackup_binlog_info"));
    assert_true(exists(configuration, "my.cnf"));
    assert_true(exists(configuration, "holdfast_config/my.cnf"));
    assert_int_equal(stat(target, &info), 0);
    assert_int_equal(info.st_uid, hf_test_mariadb_uid());

    MYSQL *here = hf_test_mariadb_connect(hf_test_mariadb_open(target)->socket);
    MYSQL *there = hf_test_mariadb_connect(source->socket);
    for (size_t i = 0; i < HF_LENGTH(tables); i++)
        assert_string_equal(checksum(here, tables[i], mine), checksum(there, tables[i], theirs));
    assert_string_equal(hf_test_mysql_text(here, "SELECT COUNT(*) FROM clinic.names"), "900");
    assert_string_equal(hf_test_mysql_text(here, "SELECT GROUP_CONCAT(SCHEMA_NAME ORDER BY 1) FROM "
                                                 "information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE '%holdfast%'"),
                        "");
    mysql_close(here);
    mysql_close(there);
}

HF_TEST(a_log_that_was_cut_leaves_nothing_that_a_server_would_start_on)
{
    char target[128], folder[256], configuration[256], path[300];
    struct hf_error err;
    struct stat info;
    begin();
    snprintf(target, sizeof target, "%s/restored", hf_test_folder());
    staged(target);
    const struct hf_restore_completion completion = completion_of(target, folder, configuration);
    snprintf(path, sizeof path, "%s/ib_logfile0", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, 12288 + (info.st_size - 12288) / 2), 0);
    assert_false(hf_restore_finish_staged(&hf_restore_mariadb, &completion, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    // Which of the two it says depends on where the cut falls: the tool notices some, we the others.
    assert_true(strcmp(err.message, "the log of the backup ends before the backup does") == 0 ||
                strstr(err.message,
                       "the log of the backup cannot be applied: [ERROR] InnoDB: Missing FILE_CHECKPOINT") != NULL);
    assert_true(exists(target, HF_RESTORE_UNFINISHED));
    assert_false(exists(target, "ib_logfile0"));
    assert_false(exists(target, "ibdata1"));
}

HF_TEST(a_folder_that_is_not_empty_is_not_touched)
{
    struct hf_error err;
    char path[128];
    char *folder = NULL;
    const char *target = hf_test_folder();
    snprintf(path, sizeof path, "%s/mine", target);
    hf_assert_ok(hf_file_publish(path, "x", 1, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
    assert_false(hf_restore_stage(target, &folder, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_null(folder);
    assert_false(exists(target, HF_RESTORE_UNFINISHED));
}

HF_TEST(a_version_that_this_host_lacks_is_named_before_anything_is_written)
{
    struct hf_error err;
    const struct hf_restore_completion completion = {.server_version = "11.8.1-MariaDB"};
    assert_false(hf_restore_mariadb.able(&completion, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "MariaDB 11.8 is not on this host"));
    assert_non_null(strstr(err.hint, "mariadb-server"));
}

static void
begin(void)
{
    static const char *const statements[] = {
        "CREATE DATABASE clinic",
        "USE clinic",
        "CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(50), KEY by_name (name)) ENGINE=InnoDB",
        "INSERT INTO patient SELECT seq, CONCAT('zoe', seq) FROM seq_1_to_900",
        "CREATE TABLE visit (id INT PRIMARY KEY, note LONGTEXT) ENGINE=InnoDB ROW_FORMAT=COMPRESSED",
        "INSERT INTO visit SELECT seq, REPEAT(CONCAT('seen ', seq), 2000) FROM seq_1_to_100",
        "CREATE TABLE old_note (id INT PRIMARY KEY, note VARCHAR(60), KEY by_note (note)) ENGINE=MyISAM",
        "INSERT INTO old_note SELECT seq, CONCAT('note number ', seq) FROM seq_1_to_300",
        "CREATE TABLE aria_note (id INT PRIMARY KEY, note VARCHAR(60), KEY by_note (note)) ENGINE=Aria",
        "INSERT INTO aria_note SELECT seq, CONCAT('note number ', seq) FROM seq_1_to_300",
        "CREATE VIEW names AS SELECT name FROM patient",
        "CREATE PROCEDURE nothing() SELECT 1",
        "CREATE USER 'doctor'@'localhost' IDENTIFIED BY 'secret'",
    };
    if (source != NULL)
        return;
    source = hf_test_mariadb_start(NULL);
    MYSQL *conn = hf_test_mariadb_connect(source->socket);
    for (size_t i = 0; i < HF_LENGTH(statements); i++)
        hf_test_mysql(conn, statements[i]);
    mysql_close(conn);
    snprintf(backup, sizeof backup, "%s/backup", hf_test_folder());
    hf_test_mariadb_backup(source, backup);
}

/* As after hf_restore_write(): the files as they were stored, with the source's configuration. */
static void
staged(const char *target)
{
    struct hf_error err;
    char path[256];
    _cleanup_(hf_freep) char *folder = NULL;
    hf_assert_ok(hf_restore_stage(target, &folder, &err), &err);
    const char *const copy[] = {"/bin/cp", "-r", backup, folder, NULL};
    run(copy);
    snprintf(path, sizeof path, "%s/holdfast_config", folder);
    hf_assert_ok(hf_dir_make(path, 0700, &err), &err);
    snprintf(path, sizeof path, "%s/holdfast_config/my.cnf", folder);
    hf_assert_ok(hf_file_publish(path, "[mariadbd]\n", 11, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
}

static struct hf_restore_completion
completion_of(const char *target, char folder[static 256], char configuration[static 256])
{
    static char launcher[512];
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    snprintf(folder, 256, "%s/" HF_RESTORE_UNFINISHED, target);
    snprintf(configuration, 256, "%s.configuration", target);
    return (struct hf_restore_completion){.folder = folder,
                                          .configuration = configuration,
                                          .target = target,
                                          .server_version = "10.11.19-MariaDB-log",
                                          .launcher = launcher,
                                          .lowest = HF_SANDBOX_L2,
                                          .phase_ms = 60000,
                                          .host_uid = SANDBOX_UID,
                                          .host_gid = SANDBOX_UID,
                                          .owner_uid = hf_test_mariadb_uid(),
                                          .owner_gid = hf_test_mariadb_gid()};
}

static const char *
checksum(MYSQL *conn, const char *table, char text[static 64])
{
    char sql[128];
    snprintf(sql, sizeof sql, "CHECKSUM TABLE %s EXTENDED", table);
    if (mysql_query(conn, sql) != 0)
        fail_msg("%s: %s", sql, mysql_error(conn));
    MYSQL_RES *result = mysql_store_result(conn);
    const MYSQL_ROW row = mysql_fetch_row(result);
    assert_non_null(row);
    assert_non_null(row[1]);
    snprintf(text, 64, "%s %s", table, row[1]);
    mysql_free_result(result);
    return text;
}

static bool
exists(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void
run(const char *const *argv)
{
    int status;
    struct hf_error err;
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
}
