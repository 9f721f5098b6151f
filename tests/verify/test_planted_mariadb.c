#include "tests/support/test.h"

#include <endian.h>
#include <fcntl.h>
#include <fts.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/time.h"
#include "server/repository/session.h"
#include "server/source/facts.h"
#include "server/verify/verify.h"
#include "tests/support/mariadb.h"
#include "tests/support/vault.h"

/*
 * Damage in a backup of a real MariaDB.  One server is filled and backed up once; each fault is planted in a copy of
 * the backup's files before they are sealed, with checksums that hold where the engine has any.
 */

#define SANDBOX_UID 1879100000
#define PAGE        16384

static struct test_vault vault;
static char backup_folder[128], older_folder[128], planted_folder[128];
static struct hf_verify_outcome outcome;

static void begin(void);
static void fill(MYSQL *conn);
static void run(const char *const *argv);
static const char *planted(const char *name);
static void replace(const char *name, const char *with);
static struct hf_id seal(const char *version);
static void seal_file(struct hf_session *session, const FTSENT *entry, const char *path);
static void verify(const char *version);
static void verify_backup(const struct hf_id *backup);
static void expect(const char *check, const char *what, const char *object);
static void show(void);
static const struct hf_verify_check *check_of(const char *id);
static uint64_t leaf_of_second_index(const char *path, uint8_t page[static PAGE]);
static void write_page(const char *path, uint64_t number, uint8_t page[static PAGE]);
static void flip(const char *path, uint64_t at);
static void pack_path(const struct hf_id *backup, char *path, size_t size);

HF_TEST(a_backup_of_mariadb_is_proven)
{
    begin();
    verify(NULL);
    if (outcome.result != HF_ATTEMPT_PASSED)
        show();
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    assert_int_equal(check_of("tables_read")->verdict, HF_VERDICT_PASSED);
    assert_true(check_of("tables_read")->examined > 30);
    assert_true(check_of("indexes")->examined == check_of("tables_read")->examined);
    assert_int_equal(check_of("references")->examined, 1);
    assert_int_equal(check_of("binlog_position")->verdict, HF_VERDICT_PASSED);
    assert_true(check_of("page_checksums")->examined > 500);
    assert_true(strncmp(outcome.engine_version, "10.11.", 6) == 0);
    bool found = false;
    for (size_t i = 0; i < outcome.relations.database_count; i++) {
        const struct hf_database_facts *database = &outcome.relations.databases[i];
        if (strcmp(database->name, "clinic") != 0)
            continue;
        found = true;
        assert_int_equal(database->tables, 5); // one of them a sequence
        assert_int_equal(database->rows, 1000 + 400 + 300 + 300 + 1);
    }
    assert_true(found);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(an_index_that_lacks_an_entry_is_named_although_its_checksum_holds)
{
    static uint8_t page[PAGE];
    begin();
    const char *path = planted("clinic/patient.ibd");
    const uint64_t number = leaf_of_second_index(path, page);
    const size_t first = 99 + be16toh(*(const uint16_t *)(const void *)(page + 97)); // behind the infimum record
    page[first - 5] |= 0x20;                                                         // deleted
    write_page(path, number, page);
    verify(NULL);
    expect("indexes", "index_entries_differ", "clinic.patient.by_name");
}

HF_TEST(a_page_whose_checksum_fails_is_named_with_its_block)
{
    begin();
    flip(planted("clinic/patient.ibd"), 4 * PAGE + 5000);
    verify(NULL);
    expect("page_checksums", "damaged_page", "clinic/patient.ibd");
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_table_file_that_was_dropped_is_named)
{
    begin();
    assert_int_equal(unlink(planted("clinic/patient.ibd")), 0);
    verify(NULL);
    expect("files_complete", "data_missing", "clinic/patient.ibd");
}

HF_TEST(a_definition_that_was_lost_is_named)
{
    begin();
    assert_int_equal(unlink(planted("clinic/visit.frm")), 0);
    verify(NULL);
    expect("files_complete", "definition_missing", "clinic/visit.ibd");
}

HF_TEST(a_redo_log_that_ends_early_is_never_a_pass)
{
    begin();
    const char *path = planted("ib_logfile0");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(truncate(path, 12288 + (info.st_size - 12288) / 2), 0);
    verify(NULL);
    // Where the cut falls decides who notices: the tool, or the comparison of where it ends.
    if (strstr(check_of("replay")->reason, "Missing FILE_CHECKPOINT") == NULL)
        expect("replay", "log_ends_early", "ib_logfile0");
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    assert_int_equal(check_of("replay")->verdict, HF_VERDICT_FAILED);
    assert_int_equal(check_of("tables_read")->verdict, HF_VERDICT_NOT_RUN);
}

HF_TEST(a_table_that_is_older_than_its_neighbours_shows_in_the_rows_that_refer_to_it)
{
    begin();
    replace("clinic/patient.ibd", older_folder);
    verify(NULL);
    assert_int_not_equal(outcome.result, HF_ATTEMPT_PASSED);
    assert_int_equal(check_of("references")->verdict, HF_VERDICT_NOT_DETERMINABLE);
    assert_non_null(strstr(check_of("references")->reason, "clinic.visit_of"));
    assert_non_null(strstr(outcome.reason, "clinic.visit_of"));
    hf_verify_outcome_done(&outcome);
}

HF_TEST(damaged_indexes_of_MyISAM_and_Aria_are_named_and_not_mended)
{
    begin();
    flip(planted("clinic/old_note.MYI"), 2048 + 600);
    flip(planted("clinic/aria_note.MAI"), 8192 + 300);
    verify(NULL);
    expect("indexes", "table_damaged", "clinic.old_note");
    expect("indexes", "table_damaged", "clinic.aria_note");
}

HF_TEST(rows_of_MyISAM_that_were_cut_off_are_named)
{
    begin();
    assert_int_equal(truncate(planted("clinic/old_note.MYD"), 700), 0);
    verify(NULL);
    expect("indexes", "table_damaged", "clinic.old_note");
}

HF_TEST(a_backup_without_what_its_tool_wrote_beside_it_is_no_backup)
{
    begin();
    assert_int_equal(unlink(planted("xtrabackup_checkpoints")), 0);
    verify(NULL);
    expect("files_complete", "file_missing", "xtrabackup_checkpoints");
    assert_int_equal(check_of("replay")->verdict, HF_VERDICT_FAILED);
}

HF_TEST(a_host_without_that_series_of_MariaDB_proves_nothing)
{
    begin();
    verify("11.4.2-MariaDB-log");
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE);
    assert_non_null(strstr(outcome.reason, "MariaDB 11.4 is not on this host"));
    assert_int_equal(check_of("start")->verdict, HF_VERDICT_NOT_DETERMINABLE);
    assert_int_equal(check_of("tables_read")->verdict, HF_VERDICT_NOT_RUN);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_flipped_byte_and_a_missing_pack_are_damage_of_the_store)
{
    char path[700];
    struct stat info;
    begin();
    test_vault_done(&vault);
    test_vault_make(&vault, hf_test_folder()); // in which this backup alone uses every piece
    const struct hf_id backup = seal(NULL);
    pack_path(&backup, path, sizeof path);
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(stat(path, &info), 0);
    flip(path, (uint64_t)info.st_size / 2);
    verify_backup(&backup);
    assert_true(outcome.store_damaged);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    assert_int_equal(check_of("slabs")->verdict, HF_VERDICT_FAILED);
    hf_verify_outcome_done(&outcome);

    assert_int_equal(unlink(path), 0);
    verify_backup(&backup);
    assert_true(outcome.store_damaged);
    assert_int_equal(check_of("packs")->verdict, HF_VERDICT_FAILED);
    hf_verify_outcome_done(&outcome);
}

/*
 * The copy of the backup that the next fault is planted in is fresh; so is the vault, or equal pages would be shared.
 */
static void
begin(void)
{
    struct hf_error err;
    if (backup_folder[0] == '\0') {
        struct hf_test_mariadb *server = hf_test_mariadb_start(NULL);
        MYSQL *conn = hf_test_mariadb_connect(server->socket);
        fill(conn);
        mysql_close(conn);
        hf_test_mariadb_stop(server, SIGTERM);
        hf_test_mariadb_resume(server);
        snprintf(older_folder, sizeof older_folder, "%s/older", hf_test_folder());
        hf_test_mariadb_backup(server, older_folder);
        conn = hf_test_mariadb_connect(server->socket);
        hf_test_mysql(conn, "USE clinic");
        hf_test_mysql(conn, "INSERT INTO clinic.patient SELECT seq, CONCAT('zoe', seq) FROM seq_901_to_1000");
        hf_test_mysql(conn, "INSERT INTO clinic.visit SELECT seq, 600 + seq FROM seq_301_to_400");
        mysql_close(conn);
        hf_test_mariadb_stop(server, SIGTERM);
        hf_test_mariadb_resume(server);
        conn = hf_test_mariadb_connect(server->socket);
        for (int i = 0; i < 50; i++)
            hf_test_mysql(conn, "UPDATE clinic.visit SET patient = 1 WHERE id = 1");
        mysql_close(conn);
        snprintf(backup_folder, sizeof backup_folder, "%s/backup", hf_test_folder());
        hf_test_mariadb_backup(server, backup_folder);
        hf_test_mariadb_stop(server, SIGKILL);
        snprintf(planted_folder, sizeof planted_folder, "%s/planted", hf_test_folder());
        test_vault_make(&vault, hf_test_folder());
    }
    const char *const copy[] = {"/bin/cp", "-a", backup_folder, planted_folder, NULL};
    hf_assert_ok(hf_dir_remove_tree(planted_folder, &err), &err);
    run(copy);
}

static void
fill(MYSQL *conn)
{
    static const char *const statements[] = {
        "CREATE DATABASE clinic",
        "USE clinic",
        "CREATE TABLE patient (id INT PRIMARY KEY, name VARCHAR(50), KEY by_name (name)) ENGINE=InnoDB",
        "INSERT INTO patient SELECT seq, CONCAT('zoe', seq) FROM seq_1_to_900",
        ("CREATE TABLE visit (id INT PRIMARY KEY, patient INT, CONSTRAINT visit_of FOREIGN KEY (patient) REFERENCES "
         "patient (id)) ENGINE=InnoDB"),
        "INSERT INTO visit SELECT seq, seq FROM seq_1_to_300",
        "CREATE TABLE old_note (id INT PRIMARY KEY, note VARCHAR(60), KEY by_note (note)) ENGINE=MyISAM",
        "INSERT INTO old_note SELECT seq, CONCAT('note number ', seq) FROM seq_1_to_300",
        "CREATE TABLE aria_note (id INT PRIMARY KEY, note VARCHAR(60), KEY by_note (note)) ENGINE=Aria",
        "INSERT INTO aria_note SELECT seq, CONCAT('note number ', seq) FROM seq_1_to_300",
        "CREATE VIEW names AS SELECT name FROM patient",
        "CREATE SEQUENCE numbers",
        "CREATE PROCEDURE nothing() SELECT 1",
        "CREATE TRIGGER louder BEFORE INSERT ON patient FOR EACH ROW SET NEW.name = UPPER(NEW.name)",
        "CREATE EVENT forget ON SCHEDULE EVERY 1 DAY DO DELETE FROM clinic.patient",
    };
    for (size_t i = 0; i < HF_LENGTH(statements); i++)
        hf_test_mysql(conn, statements[i]);
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

static const char *
planted(const char *name)
{
    static char paths[2][256];
    static unsigned next;
    snprintf(paths[++next % 2], sizeof paths[0], "%s/%s", planted_folder, name);
    return paths[next % 2];
}

static void
replace(const char *name, const char *with)
{
    char from[256];
    snprintf(from, sizeof from, "%s/%s", with, name);
    const char *const copy[] = {"/bin/cp", "-a", from, planted(name), NULL};
    run(copy);
}

/* As a backup would: every file of the folder, sealed with the facts that a MariaDB's backup has. */
static struct hf_id
seal(const char *version)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_outcome sealed;
    struct hf_page_faults faults;
    const struct hf_session_options options = {
        .source = "clinic", .operation = "backup", .signing = &vault.signing, .cache_folder = vault.cache};
    struct hf_backup_facts facts = {.server_version = 101119,
                                    .files = 1,
                                    .started_at = hf_time_now_ms(),
                                    .stopped_at = hf_time_now_ms(),
                                    .identity = "mariadb:test"};
    char *const paths[] = {planted_folder, NULL};
    snprintf(facts.server_version_text, sizeof facts.server_version_text, "%s",
             version == NULL ? "10.11.19-MariaDB-log" : version);
    snprintf(facts.start_position, sizeof facts.start_position, "0-7-1");
    snprintf(facts.stop_position, sizeof facts.stop_position, "0-7-1");
    facts.own = json_pack("{s:s, s:n}", "gtid", "", "binlog_file");
    hf_page_faults_init(&faults);
    hf_assert_ok(hf_session_begin(vault.vault, &options, &session, &err), &err);
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    assert_non_null(walk);
    for (const FTSENT *entry; (entry = fts_read(walk)) != NULL;) {
        const char *path = entry->fts_level == 0 ? "" : entry->fts_path + strlen(planted_folder) + 1;
        if (entry->fts_info == FTS_D)
            hf_assert_ok(hf_session_folder(session, path, 0700, &err), &err);
        else if (entry->fts_info == FTS_F)
            seal_file(session, entry, path);
    }
    fts_close(walk);
    _cleanup_(hf_json_freep) json_t *json = NULL;
    hf_assert_ok(hf_facts_to_json(&facts, &faults, &(struct hf_facts_extra){.engine = "mariadb", .superuser = "root"},
                                  &json, &err),
                 &err);
    hf_assert_ok(hf_session_commit(&session, json, &sealed, &err), &err);
    hf_page_faults_done(&faults);
    json_decref(facts.own);
    return sealed.backup;
}

static void
seal_file(struct hf_session *session, const FTSENT *entry, const char *path)
{
    struct hf_error err;
    struct hf_session_file *file;
    const size_t length = strlen(path);
    const bool pages = length > 4 && strcmp(path + length - 4, ".ibd") == 0;
    const struct hf_session_file_info info = {
        .path = path, .kind = HF_FILE_OTHER, .page_log2 = pages ? 14 : 16, .mode = 0640};
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(256 * HF_MIB);
    hf_assert_ok(hf_file_read(entry->fts_path, &bytes, &err), &err);
    hf_assert_ok(hf_session_file_begin(session, &info, &file, &err), &err);
    hf_assert_ok(hf_session_file_write(file, hf_buf_text(&bytes), bytes.length, &err), &err);
    hf_assert_ok(hf_session_file_end(&file, &err), &err);
}

static void
verify(const char *version)
{
    const struct hf_id backup = seal(version);
    verify_backup(&backup);
}

static void
verify_backup(const struct hf_id *backup)
{
    char launcher[512];
    struct hf_error err;
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    const struct hf_verify_options options = {.scratch_folder = vault.cache,
                                              .scratch_memory_bytes = 2 * HF_GIB,
                                              .lowest = HF_SANDBOX_L2,
                                              .launcher = launcher,
                                              .host_uid = SANDBOX_UID,
                                              .host_gid = SANDBOX_UID,
                                              .jobs = 2};
    hf_assert_ok(hf_verify_run(vault.vault, backup, &options, &outcome, &err), &err);
    print_message("# %s: %s\n", hf_attempt_result_name(outcome.result), outcome.reason);
}

static void
expect(const char *check, const char *what, const char *object)
{
    const struct hf_verify_check *found = check_of(check);
    bool fine = false;
    for (size_t i = 0; i < found->finding_count; i++)
        fine =
            fine || (strcmp(found->findings[i].what, what) == 0 && strstr(found->findings[i].object, object) != NULL);
    if (fine && found->verdict == HF_VERDICT_FAILED && outcome.result == HF_ATTEMPT_FAILED && !outcome.store_damaged)
        return;
    show();
    fail_msg("%s is not failed with %s of \"%s\"", check, what, object);
}

static void
show(void)
{
    for (size_t i = 0; i < outcome.report.count; i++) {
        const struct hf_verify_check *check = &outcome.report.checks[i];
        print_message("# %-20s %-16s %lld %s\n", check->id, hf_verdict_name(check->verdict), (long long)check->examined,
                      check->reason);
        for (size_t n = 0; n < check->finding_count; n++)
            print_message("#     %s: %s, block %lld\n", check->findings[n].what, check->findings[n].object,
                          (long long)check->findings[n].block);
    }
}

static const struct hf_verify_check *
check_of(const char *id)
{
    return hf_report_find(&outcome.report, id);
}

/* The first leaf page (type 17855, level 0) of the index with the highest id: the one that was made last. */
static uint64_t
leaf_of_second_index(const char *path, uint8_t page[static PAGE])
{
    static uint8_t each[PAGE];
    uint64_t found = 0, highest = 0;
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    for (uint64_t number = 3; pread(fd, each, PAGE, (off_t)(number * PAGE)) == PAGE; number++) {
        uint64_t id;
        memcpy(&id, each + 66, sizeof id);
        id = be64toh(id);
        if (each[24] == 0x45 && each[25] == 0xbf && each[64] == 0 && each[65] == 0 && id > highest) {
            highest = id;
            found = number;
            memcpy(page, each, PAGE);
        }
    }
    assert_true(found > 0);
    return found;
}

/* With the checksum that MariaDB would give it (full_crc32). */
static void
write_page(const char *path, uint64_t number, uint8_t page[static PAGE])
{
    const uint32_t crc = htobe32(hf_crc32c(0, page, PAGE - 4));
    memcpy(page + PAGE - 4, &crc, sizeof crc);
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, page, PAGE, (off_t)(number * PAGE)), PAGE);
}

static void
flip(const char *path, uint64_t at)
{
    uint8_t byte;
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 0x55;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
}

static void
pack_path(const struct hf_id *backup, char *path, size_t size)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    char name[HF_PACK_NAME_BYTES];
    const struct hf_id id = hf_vault_id(vault.vault);
    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &state, &err), &err);
    const struct hf_vault_pack *largest = NULL; // whose middle is no directory
    for (size_t i = 0; i < state->pack_count; i++)
        if (state->packs[i].kind == HF_PACK_DATA && (largest == NULL || state->packs[i].bytes > largest->bytes))
            largest = &state->packs[i];
    assert_non_null(largest);
    snprintf(path, size, "%s/%s", vault.place, hf_pack_name(&id, &largest->pack, name));
    (void)backup;
}
