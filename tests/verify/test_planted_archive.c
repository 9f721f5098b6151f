#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/repository/pack.h"
#include "server/stream/journal.h"
#include "tests/stream/receiving.h"
#include "tests/verify/planted.h"

/*
 * The log behind a backup: replayed to the end of the archive, then on to where the source stands.  What is wrong with
 * it turns the verdict and is named.
 */

#define SOME_COMMITS 40
#define BOUND_MS     20000

static struct planted planted;
static struct test_vault receivers; // the same repository, opened once more: a receiver is another process
static struct receiving receiving;
static struct hf_id early, backup, stray; // from before the stream; inside it; on a branch that was left
static char kept[600]; // copy of the repository with the archive of one timeline, nobody at work in it
static char left[128]; // copy of the data directory from before `stray`
static int number;     // commits of the ledger
static bool begun;

static void
run(const char *const *argv)
{
    assert_int_equal(hf_test_cluster_run(planted.cluster, argv, NULL, NULL), 0);
}

static void
copy(const char *from, const char *to)
{
    const char *const remove[] = {"/bin/rm", "-rf", to, NULL}, *const make[] = {"/bin/cp", "-a", from, to, NULL};
    run(remove);
    run(make);
}

/* The repository belongs to us and not to the server's user. */
static void
copy_store(const char *from, const char *to)
{
    char command[1500];
    snprintf(command, sizeof command, "rm -rf '%s' && cp -a '%s' '%s'", to, from, to);
    assert_int_equal(system(command), 0);
}

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE patients (id int PRIMARY KEY, name text)");
    hf_test_sql(conn, "INSERT INTO patients SELECT i, md5(i::text) FROM generate_series(1, 2000) i");
    hf_test_sql(conn, "CREATE TABLE ledger (number int PRIMARY KEY, padding text)");
    hf_test_sql(conn, "ALTER TABLE ledger ALTER padding SET STORAGE external"); // or it would shrink to nothing
}

static void
commit(PGconn *conn, int count, unsigned padding)
{
    char sql[128];
    for (int i = 0; i < count; i++) {
        number++;
        snprintf(sql, sizeof sql, "INSERT INTO ledger VALUES (%d, repeat(md5('%d'), %u))", number, number, padding);
        hf_test_sql(conn, sql);
    }
}

static void
receive(PGconn *conn)
{
    receiving_start(&receiving);
    receiving_catch_up(&receiving, conn);
}

/* One backup, and behind it more log than is placed at once, in packs. */
static void
begin(void)
{
    static const char *const small[] = {"--wal-segsize=1", NULL};
    static const char *const settings[] = {"wal_keep_size=0", "min_wal_size=2MB", "max_wal_size=64MB", NULL};
    if (!begun) {
        planted_begin(&planted, &(struct hf_test_cluster_options){.initdb = small, .settings = settings}, fill);
        receivers = planted.vault;
        receivers.repository = NULL;
        receivers.vault = NULL;
        early = planted_backup(&planted);
        PGconn *conn = planted_start(&planted);
        hf_test_sql(conn, "CREATE TABLE before_the_stream ()");
        hf_test_sql(conn, "SELECT pg_switch_wal()");
        hf_test_sql(conn, "CREATE TABLE at_the_stream ()");
        hf_test_sql(conn, "CHECKPOINT"); // the slot begins behind it
        receiving_init(&receiving, &receivers, planted.cluster);
        receive(conn);
        backup = planted_backup(&planted);
        PQfinish(conn);
        conn = planted_start(&planted);
        commit(conn, SOME_COMMITS, 40000);
        hf_test_sql(conn, "SELECT pg_switch_wal()");
        commit(conn, SOME_COMMITS, 10);
        receiving_catch_up(&receiving, conn);
        receiving_stop(&receiving);
        planted_stop(&planted, conn);
        snprintf(kept, sizeof kept, "%s.kept", planted.vault.place);
        snprintf(left, sizeof left, "%s.left", planted.cluster->data);
        copy_store(planted.vault.place, kept);
        copy(planted.cluster->data, left);
    }
    begun = true;
    hf_test_cluster_stop(planted.cluster, SIGINT);
    receiving_stop(&receiving);
    copy_store(kept, planted.vault.place);
    test_vault_reopen(&planted.vault);
    copy(left, planted.cluster->data);
}

static struct hf_verify_options
streamed_options(void)
{
    struct hf_verify_options options = planted_options(&planted);
    options.streamed = true;
    return options;
}

static const struct hf_verify_check *
check_of(const struct hf_verify_outcome *outcome, const char *id)
{
    return hf_report_find((struct hf_verify_report *)(uintptr_t)&outcome->report, id);
}

static void
expect(const struct hf_verify_outcome *outcome, enum hf_attempt_result result, const char *id, enum hf_verdict verdict,
       const char *naming)
{
    const struct hf_verify_check *check = check_of(outcome, id);
    if (outcome->result == result && check->verdict == verdict && strstr(check->reason, naming) != NULL)
        return;
    planted_print(outcome);
    fail_msg("%s is not %s with \"%s\"", id, hf_verdict_name(verdict), naming);
}

static void
stand_by_and_promote(void)
{
    char path[256];
    snprintf(path, sizeof path, "%s/standby.signal", planted.cluster->data);
    const char *const argv[] = {"/usr/bin/touch", path, NULL};
    run(argv);
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "SELECT pg_promote()");
    PQfinish(conn);
}

/* A pack of the last stretch but `from_end`. */
static void
pack_of_stretch(size_t from_end, char path[static 700])
{
    struct hf_error err;
    const struct hf_vault_state *state;
    char name[HF_ID_TEXT_BYTES], command[900];
    hf_assert_ok(hf_vault_read(planted.vault.vault, NULL, NULL, &state, &err), &err);
    assert_true(state->stretch_count > from_end + 2);
    hf_id_format(&state->stretches[state->stretch_count - 1 - from_end].pack, name);
    snprintf(command, sizeof command, "find '%s' -name '*%s*' -type f", planted.vault.place, name);
    FILE *found = popen(command, "r");
    assert_non_null(found);
    assert_non_null(fgets(path, 700, found));
    path[strcspn(path, "\n")] = 0;
    pclose(found);
}

static void
flip(const char *path, off_t at)
{
    uint8_t byte;
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static void
wait_for_acknowledgement(PGconn *conn)
{
    const uint64_t since = hf_monotonic_ns();
    while (strcmp(hf_test_sql_text(conn, "SELECT coalesce(max(flush_lsn) >= pg_current_wal_flush_lsn(), false) FROM "
                                         "pg_stat_replication WHERE application_name = 'holdfast_stream'"),
                  "t") != 0) {
        if (hf_monotonic_ns() - since > UINT64_C(60000000000))
            fail_msg("the receiver does not come");
        usleep(20000);
    }
}

static pid_t
receive_in_a_process_of_its_own(PGconn *conn)
{
    atomic_store(&receiving.cancel, false);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        test_vault_reopen(&receivers);
        receiving_run(&receiving);
        _exit(0);
    }
    wait_for_acknowledgement(conn);
    return child;
}

static void
end_process(pid_t child)
{
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
}

static struct hf_source_target
live_target(void)
{
    return (struct hf_source_target){.name = "clinic",
                                     .conninfo = hf_test_cluster_conninfo(planted.cluster, NULL),
                                     .slot_tag = "test",
                                     .identity = receiving.identity};
}

HF_TEST(the_archive_is_replayed_to_its_end_and_its_commits_are_counted)
{
    struct hf_verify_outcome outcome;
    begin();
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_PASSED, "");
    assert_int_equal(check_of(&outcome, "archive")->examined, 2 * SOME_COMMITS);
    assert_true(outcome.stream.known);
    assert_true(outcome.stream.bytes > 40 * HF_MIB);
    assert_true(outcome.stream.newest_commit_at > outcome.facts.last_commit_at);
    assert_int_equal(outcome.relations.databases[0].rows > 0, 1);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_source_without_a_stream_has_checks_that_say_so_and_need_not_pass)
{
    struct hf_verify_outcome outcome;
    begin();
    struct hf_verify_options options = planted_options(&planted);
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "no log of this source is received");
    assert_false(check_of(&outcome, "caught_up")->required);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(the_copy_follows_a_promotion_in_the_middle_of_a_segment)
{
    struct hf_verify_outcome outcome;
    begin();
    stand_by_and_promote();
    PGconn *conn = hf_test_cluster_connect(planted.cluster, NULL);
    commit(conn, 7, 10);
    receive(conn);
    receiving_stop(&receiving);
    PQfinish(conn);
    test_vault_reopen(&planted.vault);
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_PASSED, "");
    assert_int_equal(check_of(&outcome, "archive")->examined, 2 * SOME_COMMITS + 7);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_pack_of_a_stretch_that_is_gone_is_named)
{
    struct hf_verify_outcome outcome;
    char path[700];
    begin();
    pack_of_stretch(1, path);
    assert_int_equal(unlink(path), 0);
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_FAILED, "archive", HF_VERDICT_FAILED, strrchr(path, '/') + 1);
    assert_true(outcome.store_damaged);
    assert_int_equal(check_of(&outcome, "indexes")->verdict, HF_VERDICT_PASSED); // the backup itself was looked at
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_flipped_byte_in_a_pack_of_a_stretch_is_found)
{
    struct hf_verify_outcome outcome;
    struct stat status;
    char path[700];
    begin();
    pack_of_stretch(1, path);
    assert_int_equal(stat(path, &status), 0);
    flip(path, status.st_size / 3);
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_FAILED, "archive", HF_VERDICT_FAILED, "pack");
    assert_true(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
}

/* A receiver that is killed leaves its journal; a frame in the middle of it was acknowledged. */
HF_TEST(a_flipped_frame_of_a_journal_is_a_hole_that_is_named)
{
    struct hf_verify_outcome outcome;
    struct hf_error err;
    _cleanup_(hf_freep) char *folder = NULL;
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    begin();
    receiving.seal_bytes = 64 * HF_MIB;
    receiving.seal_ms = 600000;
    PGconn *conn = planted_start(&planted);
    const pid_t child = receive_in_a_process_of_its_own(conn);
    for (int i = 0; i < 60; i++)
        commit(conn, 1, 400);
    wait_for_acknowledgement(conn);
    end_process(child);
    planted_stop(&planted, conn);

    test_vault_reopen(&planted.vault);
    hf_assert_ok(hf_journal_folder(planted.vault.vault, &folder, &err), &err);
    hf_assert_ok(hf_journal_list(folder, &names, &count, &err), &err);
    assert_int_equal(count, 1);
    _cleanup_(hf_freep) char *path = hf_path_join(folder, names[0]);
    flip(path, 100000);
    receiving.seal_bytes = 0;
    receiving.seal_ms = 0;
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_FAILED, "archive", HF_VERDICT_FAILED, "is missing in the archive");
    assert_true(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
}

/* As a receiver records it that comes back after the server has recycled log: a gap, and what comes behind it. */
HF_TEST(a_gap_on_record_bounds_the_window_and_not_the_backup)
{
    struct hf_verify_outcome outcome;
    struct hf_error err;
    struct hf_stream_writer *writer;
    struct hf_archive *archive;
    struct hf_timeline_path path;
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    char to[HF_LSN_TEXT_BYTES];
    static const uint8_t page[8192];
    begin();
    hf_assert_ok(hf_archive_open(planted.vault.vault, NULL, &archive, &err), &err);
    hf_timeline_path_of_first(&path);
    hf_assert_ok(hf_archive_windows(archive, &path, &windows, &count, &err), &err);
    assert_int_equal(count, 1);
    hf_archive_freep(&archive);
    const struct hf_vault_gap gap = {
        .from_timeline = 1, .timeline = 1, .from = windows[0].end, .to = (windows[0].end / HF_MIB + 3) * HF_MIB};
    const struct hf_frame frame = {
        .kind = HF_FRAME_LOG, .timeline = 1, .position = gap.to, .whole = gap.to + sizeof page};
    const struct hf_stream_options writing = {
        .vault = planted.vault.vault, .source = "clinic", .signing = &planted.vault.signing};
    hf_assert_ok(hf_stream_writer_open(&writing, &writer, &err), &err);
    hf_assert_ok(hf_stream_writer_gap(writer, &gap, "the server had recycled the log", &err), &err);
    hf_assert_ok(hf_stream_writer_append(writer, &frame, page, sizeof page, &err), &err);
    hf_assert_ok(hf_stream_writer_close(&writer, &err), &err);

    struct hf_verify_options options = streamed_options();
    options.catch_up_ms = BOUND_MS;
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_PASSED, "");
    expect(&outcome, HF_ATTEMPT_PASSED, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "a gap of the archive, on record");
    assert_false(outcome.store_damaged);
    assert_true(outcome.stream.gap_recorded && outcome.stream.commits > SOME_COMMITS);
    assert_string_equal(outcome.stream.to_position, hf_lsn_format(windows[0].whole, to)); // where the window ends
    assert_string_equal(outcome.stream.gap_from, hf_lsn_format(gap.from, to));
    assert_string_equal(outcome.stream.gap_to, hf_lsn_format(gap.to, to));
    hf_verify_outcome_done(&outcome);
}

/* Its slot was dropped, and the server has recycled what was written while it was taken. */
HF_TEST(a_backup_whose_own_log_ends_in_a_gap_on_record_is_proven_without_the_log_behind_it)
{
    struct hf_verify_outcome outcome;
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots");
    PQfinish(conn);
    const struct hf_id later = planted_backup(&planted);
    conn = planted_start(&planted);
    for (int i = 0; i < 40; i++) {
        commit(conn, 1, 10);
        hf_test_sql(conn, "SELECT pg_switch_wal()");
    }
    hf_test_sql(conn, "CHECKPOINT");
    hf_test_sql(conn, "CHECKPOINT");
    const int gaps = atomic_load(&receiving.gaps);
    receive(conn);
    receiving_stop(&receiving);
    planted_stop(&planted, conn);
    assert_int_equal(atomic_load(&receiving.gaps), gaps + 1);
    test_vault_reopen(&planted.vault);
    struct hf_verify_options options = streamed_options();
    options.catch_up_ms = BOUND_MS;
    planted_verify(&planted, &later, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_NOT_DETERMINABLE, "own log ends in a gap");
    assert_false(outcome.store_damaged || outcome.stream.known);
    hf_verify_outcome_done(&outcome);
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_PASSED, "");
    assert_true(outcome.stream.gap_recorded);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(an_archive_that_begins_behind_the_backup_says_nothing_against_it)
{
    struct hf_verify_outcome outcome;
    begin();
    struct hf_verify_options options = streamed_options();
    options.catch_up_ms = BOUND_MS;
    planted_verify(&planted, &early, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_PASSED, "archive", HF_VERDICT_NOT_DETERMINABLE, "the archive begins at");
    expect(&outcome, HF_ATTEMPT_PASSED, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "on record");
    assert_false(outcome.store_damaged);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_backup_of_a_branch_that_the_archive_has_left_is_not_proven_with_it)
{
    struct hf_verify_outcome outcome;
    begin();
    PGconn *conn = planted_start(&planted);
    commit(conn, 20, 400);
    PQfinish(conn);
    stray = planted_backup(&planted);
    copy(left, planted.cluster->data);
    stand_by_and_promote();
    conn = hf_test_cluster_connect(planted.cluster, NULL);
    commit(conn, 60, 4000);
    receive(conn);
    receiving_stop(&receiving);
    PQfinish(conn);
    test_vault_reopen(&planted.vault);
    const struct hf_verify_options options = streamed_options();
    planted_verify(&planted, &stray, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_INCONCLUSIVE, "archive", HF_VERDICT_NOT_DETERMINABLE, "not on the way to timeline 2");
    assert_int_equal(check_of(&outcome, "tables_read")->verdict, HF_VERDICT_PASSED);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(log_that_is_not_there_yet_is_waited_for_and_then_named)
{
    struct hf_verify_outcome outcome;
    begin();
    PGconn *conn = planted_start(&planted);
    commit(conn, 20, 400);
    PQfinish(conn);
    const struct hf_id later = planted_backup(&planted); // nobody receives
    struct hf_verify_options options = streamed_options();
    options.catch_up_ms = 1500;
    planted_verify(&planted, &later, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_INCONCLUSIVE, "archive", HF_VERDICT_NOT_DETERMINABLE, "nothing came while");
    expect(&outcome, HF_ATTEMPT_INCONCLUSIVE, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "could not be replayed");
    hf_verify_outcome_done(&outcome);
}

/* Commits go on in a process of their own while the verification runs. */
HF_TEST(the_copy_follows_the_stream_to_where_the_source_stood)
{
    struct hf_verify_outcome outcome;
    begin();
    PGconn *conn = planted_start(&planted);
    const pid_t receiver = receive_in_a_process_of_its_own(conn);
    const pid_t writer = fork();
    assert_true(writer >= 0);
    if (writer == 0) {
        PGconn *own = hf_test_cluster_connect(planted.cluster, NULL);
        for (;; usleep(2000))
            commit(own, 1, 20);
    }
    const struct hf_source_target live = live_target();
    struct hf_verify_options options = streamed_options();
    options.live = &live;
    options.catch_up_ms = BOUND_MS;
    planted_verify(&planted, &backup, &options, &outcome);
    end_process(writer);
    end_process(receiver);
    expect(&outcome, HF_ATTEMPT_PASSED, "caught_up", HF_VERDICT_PASSED, "");
    assert_true(check_of(&outcome, "caught_up")->required);
    assert_true(outcome.caught_up.known && outcome.caught_up.reached && outcome.caught_up.behind_ms >= 0);
    assert_true(outcome.caught_up.waited_ms <= BOUND_MS);
    planted_stop(&planted, conn);
    hf_verify_outcome_done(&outcome);
}

HF_TEST(a_copy_that_does_not_get_there_in_time_is_no_proof)
{
    struct hf_verify_outcome outcome;
    begin();
    PGconn *conn = planted_start(&planted);
    commit(conn, 5, 10); // nobody receives
    const struct hf_source_target live = live_target();
    struct hf_verify_options options = streamed_options();
    options.live = &live;
    options.catch_up_ms = 1500;
    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_INCONCLUSIVE, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "the source stood at");
    assert_int_equal(check_of(&outcome, "archive")->verdict, HF_VERDICT_PASSED);
    assert_false(outcome.caught_up.reached);
    /* A restore in earnest does not follow the source: the time for that is none of recovery. */
    assert_true(outcome.recovery_ms > 0 && outcome.caught_up.waited_ms >= 1500);
    assert_true((uint64_t)outcome.recovery_ms + outcome.caught_up.waited_ms <= outcome.duration_ms);
    hf_verify_outcome_done(&outcome);
    planted_stop(&planted, conn);

    planted_verify(&planted, &backup, &options, &outcome);
    expect(&outcome, HF_ATTEMPT_INCONCLUSIVE, "caught_up", HF_VERDICT_NOT_DETERMINABLE, "could not be asked");
    hf_verify_outcome_done(&outcome);
}
