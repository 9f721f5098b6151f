#include "tests/support/test.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "tests/verify/planted.h"

/*
 * What is wrong here, and not with the backup: the attempt is inconclusive with the reason, never failed and never
 * passed.
 */

#define NOBODY 65534

static struct planted planted;
static struct hf_id backup;
static bool begun;
static char path_of_number_index[64];

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE patients (id int PRIMARY KEY, name text)");
    hf_test_sql(conn,
                "INSERT INTO patients SELECT i, CASE WHEN i % 2 = 0 THEN md5(i::text) ELSE upper(md5(i::text)) END "
                "FROM generate_series(1, 2000) i");
    hf_test_sql(conn, "CREATE INDEX by_name ON patients (name)");
    snprintf(path_of_number_index, sizeof path_of_number_index, "%s",
             hf_test_sql_text(conn, "SELECT pg_relation_filepath('patients_pkey')"));
}

static void
begin(void)
{
    if (!begun) {
        planted_begin(&planted, &(struct hf_test_cluster_options){.locale = "en_US.UTF-8"}, fill);
        backup = planted_backup(&planted);
    }
    begun = true;
    planted.server_version = 0;
    planted_reset(&planted);
}

static void
run_sql(const char *sql)
{
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, sql);
    planted_stop(&planted, conn);
}

static void
assert_inconclusive(const struct hf_id *of, const struct hf_verify_options *options, const char *check,
                    const char *naming)
{
    struct hf_verify_outcome outcome;
    planted_verify(&planted, of, options, &outcome);
    const struct hf_verify_check *found = hf_report_find(&outcome.report, check);
    if (outcome.result != HF_ATTEMPT_INCONCLUSIVE || found->verdict != HF_VERDICT_NOT_DETERMINABLE ||
        strstr(found->reason, naming) == NULL || outcome.store_damaged) {
        planted_print(&outcome);
        fail_msg("%s does not say \"%s\"", check, naming);
    }
    hf_verify_outcome_done(&outcome);
}

HF_TEST(the_backup_is_sound)
{
    struct hf_verify_outcome outcome;
    begin();
    planted_verify(&planted, &backup, NULL, &outcome);
    if (outcome.result != HF_ATTEMPT_PASSED)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(too_little_room_for_the_copy_is_inconclusive)
{
    begin();
    char folder[512];
    struct hf_verify_options options = planted_options(&planted);
    snprintf(folder, sizeof folder, "%s/tiny", planted.cluster->folder);
    assert_int_equal(mkdir(folder, 0755), 0);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tiny", folder, "tmpfs", 0, "size=16m") != 0)
        HF_TEST_SKIP("this host lets us mount nothing");
    options.scratch_folder = folder;
    options.scratch_memory_bytes = 0;
    assert_inconclusive(&backup, &options, "room", "free");
    assert_int_equal(umount2(folder, MNT_DETACH), 0);
}

HF_TEST(no_server_of_that_version_is_inconclusive)
{
    begin();
    planted.server_version = 180002;
    const struct hf_id newer = planted_backup(&planted);
    const char *const nowhere[] = {"/nonexistent", NULL};
    struct hf_verify_options options = planted_options(&planted);
    options.packages = nowhere;
    assert_inconclusive(&newer, &options, "start", "18");
}

HF_TEST(a_missing_launcher_is_inconclusive)
{
    begin();
    struct hf_verify_options options = planted_options(&planted);
    options.launcher = "/nonexistent/holdfast-sandbox";
    assert_inconclusive(&backup, &options, "start", "/nonexistent/holdfast-sandbox");
}

HF_TEST(too_little_memory_for_the_copy_is_inconclusive)
{
    begin();
    struct hf_verify_outcome outcome;
    struct hf_verify_options options = planted_options(&planted);
    options.sandbox_memory_bytes = 24 * HF_MIB;
    planted_verify(&planted, &backup, &options, &outcome);
    if (outcome.result != HF_ATTEMPT_INCONCLUSIVE)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(too_little_time_is_inconclusive)
{
    begin();
    struct hf_verify_outcome outcome;
    struct hf_verify_options options = planted_options(&planted);
    options.phase_ms = 1;
    planted_verify(&planted, &backup, &options, &outcome);
    if (outcome.result != HF_ATTEMPT_INCONCLUSIVE)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE);
    hf_verify_outcome_done(&outcome);
}

/* An ordinary user cannot have the highest level: it needs root to begin with. */
static int
verify_as_nobody(void)
{
    struct hf_error err;
    struct hf_verify_outcome outcome;
    struct hf_verify_options options = planted_options(&planted);
    options.lowest = HF_SANDBOX_L3;
    if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
        return 1;
    if (!hf_verify_run(planted.vault.vault, &backup, &options, &outcome, &err)) {
        print_message("# %s\n", err.message);
        return 2;
    }
    print_message("# %s: %s\n", hf_attempt_result_name(outcome.result), outcome.reason);
    const struct hf_verify_check *start = hf_report_find(&outcome.report, "start");
    return outcome.result == HF_ATTEMPT_INCONCLUSIVE && start->verdict == HF_VERDICT_NOT_DETERMINABLE &&
                   strstr(start->reason, "L3") != NULL
               ? 0
               : 3;
}

HF_TEST(a_level_that_the_host_does_not_give_is_inconclusive)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can become an ordinary user");
    begin();
    char command[1800];
    snprintf(command, sizeof command, "chown -R %d '%s' '%s' && chmod 755 \"$(dirname '%s')\"", NOBODY,
             planted.vault.place, planted.vault.cache, planted.vault.place);
    assert_int_equal(system(command), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0)
        _exit(verify_as_nobody());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    snprintf(command, sizeof command, "chown -R 0 '%s' '%s'", planted.vault.place, planted.vault.cache);
    assert_int_equal(system(command), 0);
}

struct canceller {
    const char *wanted; // phase
    const char *_Atomic phase;
    atomic_bool cancel, over;
};

static void *
cancel_in_phase(void *context)
{
    struct canceller *canceller = context;
    while (!atomic_load(&canceller->over)) {
        const char *now = atomic_load(&canceller->phase);
        if (now != NULL && strcmp(now, canceller->wanted) == 0)
            atomic_store(&canceller->cancel, true);
        usleep(200);
    }
    return NULL;
}

HF_TEST(a_cancelled_attempt_says_so_in_every_phase_and_leaves_nothing)
{
    static const char *const phases[] = {"restore", "recover", "check", "check_files"};
    begin();
    for (size_t i = 0; i < HF_LENGTH(phases); i++) {
        struct hf_error err;
        struct hf_verify_outcome outcome;
        struct canceller canceller = {.wanted = phases[i]};
        struct hf_verify_options options = planted_options(&planted);
        pthread_t thread;
        options.scratch_memory_bytes = 0; // below the vault's cache: ours alone
        options.cancel = &canceller.cancel;
        options.phase = &canceller.phase;
        assert_int_equal(pthread_create(&thread, NULL, cancel_in_phase, &canceller), 0);
        const bool ended = hf_verify_run(planted.vault.vault, &backup, &options, &outcome, &err);
        atomic_store(&canceller.over, true);
        pthread_join(thread, NULL);
        print_message("# %s: %s\n", phases[i], ended ? hf_attempt_result_name(outcome.result) : err.message);
        assert_false(ended);
        assert_int_equal(err.kind, HF_ERR_CANCELLED);
    }
    char command[700];
    snprintf(command, sizeof command, "test -z \"$(ls '%s' | grep scratch)\"", planted.vault.cache);
    assert_int_equal(system(command), 0);
}

HF_TEST(another_version_of_the_collation_is_inconclusive)
{
    begin();
    run_sql("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres'");
    const struct hf_id other = planted_backup(&planted);
    assert_inconclusive(&other, NULL, "environment", "sorted by collation version 1.0, this host has");
}

HF_TEST(another_version_of_the_collation_does_not_hide_damage_of_what_does_not_depend_on_it)
{
    struct hf_verify_outcome outcome;
    begin();
    run_sql("UPDATE pg_database SET datcollversion = '1.0' WHERE datname = 'postgres'");
    planted_page(&planted, path_of_number_index, 1, planted_remove_entry, 30);
    const struct hf_id other = planted_backup(&planted);
    planted_verify(&planted, &other, NULL, &outcome);
    planted_expect(&outcome, "indexes", "damaged_index", "postgres.public.patients_pkey", 0);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_collation_of_one_column_that_this_host_has_in_another_version_is_inconclusive)
{
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "CREATE COLLATION ours (locale = 'en_US.UTF-8')");
    hf_test_sql(conn, "CREATE INDEX by_ours ON patients (name COLLATE ours)");
    hf_test_sql(conn, "UPDATE pg_collation SET collversion = '1.0' WHERE collname = 'ours'");
    planted_stop(&planted, conn);
    const struct hf_id other = planted_backup(&planted);
    assert_inconclusive(&other, NULL, "indexes", "postgres.public.by_ours: collation \"ours\" has version 1.0");
}

/* What an index is after the host's sorting changed: in the order of C, and called that of another collation. */
static void
make_disordered_index(const char *version)
{
    char sql[200];
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "CREATE COLLATION ours (locale = 'en_US.UTF-8')");
    hf_test_sql(conn, "CREATE INDEX disordered ON patients (name COLLATE \"C\")");
    hf_test_sql(conn, "UPDATE pg_index SET indcollation = (SELECT oid::text FROM pg_collation WHERE collname = 'ours')"
                      "::oidvector WHERE indexrelid = 'disordered'::regclass");
    hf_test_sql(conn, "UPDATE pg_attribute SET attcollation = (SELECT oid FROM pg_collation WHERE collname = 'ours') "
                      "WHERE attrelid = 'disordered'::regclass");
    snprintf(sql, sizeof sql, "UPDATE pg_collation SET collversion = %s WHERE collname = 'ours'", version);
    hf_test_sql(conn, sql);
    planted_stop(&planted, conn);
}

HF_TEST(an_index_in_the_order_of_another_version_of_its_collation_is_inconclusive)
{
    begin();
    make_disordered_index("'1.0'");
    const struct hf_id other = planted_backup(&planted);
    assert_inconclusive(&other, NULL, "indexes", "postgres.public.disordered: collation \"ours\" has version 1.0");
}

HF_TEST(the_same_index_is_damaged_when_the_versions_agree)
{
    struct hf_verify_outcome outcome;
    begin();
    make_disordered_index("collversion");
    const struct hf_id other = planted_backup(&planted);
    planted_verify(&planted, &other, NULL, &outcome);
    planted_expect(&outcome, "indexes", "damaged_index", "postgres.public.disordered", -1);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_locale_that_this_host_lacks_is_inconclusive)
{
    struct planted elsewhere;
    struct hf_verify_outcome outcome;
    planted_begin(&elsewhere, &(struct hf_test_cluster_options){.locale = "sv_SE.UTF-8"}, fill);
    const struct hf_id swedish = planted_backup(&elsewhere);
    planted_verify(&elsewhere, &swedish, NULL, &outcome);
    if (outcome.result != HF_ATTEMPT_INCONCLUSIVE)
        planted_print(&outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE);
    assert_true(planted_named(&outcome, "incompatible with operating system"));
    hf_verify_outcome_done(&outcome);
    planted_done(&elsewhere);
}

HF_TEST(a_library_that_this_host_lacks_is_inconclusive_and_names_the_index_that_needs_it)
{
    char command[700], sql[700];
    begin();
    snprintf(command, sizeof command,
             "cp /usr/lib/postgresql/15/lib/fuzzystrmatch.so '%s/vendor.so' && chmod 644 "
             "'%s/vendor.so'",
             planted.cluster->folder, planted.cluster->folder);
    if (system(command) != 0)
        HF_TEST_SKIP("this host has no fuzzystrmatch to lend");
    PGconn *conn = planted_start(&planted);
    snprintf(sql, sizeof sql,
             "CREATE FUNCTION sounds(text) RETURNS text AS '%s/vendor', 'soundex' LANGUAGE C IMMUTABLE",
             planted.cluster->folder);
    hf_test_sql(conn, sql);
    hf_test_sql(conn, "CREATE INDEX by_sound ON patients (sounds(name))");
    planted_stop(&planted, conn);
    const struct hf_id other = planted_backup(&planted);
    snprintf(command, sizeof command, "rm '%s/vendor.so'", planted.cluster->folder);
    assert_int_equal(system(command), 0);
    assert_inconclusive(&other, NULL, "indexes", "postgres.public.by_sound: could not access file");
    planted_done(&planted);
}
