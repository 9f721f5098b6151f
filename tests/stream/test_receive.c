/* The receiver against a real server: what is in the archive is what the server wrote, and nothing is missing. */
#include "tests/stream/receiving.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/source/postgres/wal_format.h"

#define KILLS       20
#define LEDGER_MOST 200000

static atomic_bool sync_fails, sync_stalls;

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int
__wrap_fdatasync(int fd)
{
    while (atomic_load(&sync_stalls))
        usleep(1000);
    if (!atomic_load(&sync_fails))
        return __real_fdatasync(fd);
    errno = EIO;
    return -1;
}

struct collected {
    uint8_t *data;
    size_t length;
};

static bool
collect(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct collected *collected = context;
    (void)timeline, (void)position, (void)err;
    memcpy(collected->data + collected->length, data, length);
    collected->length += length;
    return true;
}

/* The newest window of the timeline's path. */
static struct hf_window
newest_window(struct hf_archive *archive, uint32_t timeline, size_t *ret_count)
{
    struct hf_error err;
    struct hf_timeline_path *path = malloc(sizeof *path);
    struct hf_window *windows;
    hf_assert_ok(hf_archive_path(archive, timeline, path, &err), &err);
    hf_assert_ok(hf_archive_windows(archive, path, &windows, ret_count, &err), &err);
    assert_true(*ret_count > 0);
    const struct hf_window newest = windows[*ret_count - 1];
    free(windows);
    free(path);
    return newest;
}

/* Compares the archive with the segments that the server still has; returns how many bytes were compared. */
static uint64_t
compare_with_server(struct hf_archive *archive, const struct hf_test_cluster *cluster, uint32_t timeline,
                    const struct hf_window *window)
{
    const uint32_t segment_bytes = 16 * HF_MIB;
    struct hf_error err;
    struct hf_timeline_path *path = malloc(sizeof *path);
    struct collected collected = {.data = malloc(segment_bytes)};
    uint64_t compared = 0;
    hf_assert_ok(hf_archive_path(archive, timeline, path, &err), &err);
    for (uint64_t at = window->start - window->start % segment_bytes; at < window->end; at += segment_bytes) {
        char name[HF_WAL_NAME_BYTES], file[200];
        const uint64_t from = at > window->start ? at : window->start;
        const uint64_t to = at + segment_bytes < window->end ? at + segment_bytes : window->end;
        _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(segment_bytes);
        snprintf(file, sizeof file, "%s/pg_wal/%s", cluster->data,
                 hf_wal_segment_name(hf_timeline_path_at(path, to - 1)->timeline, at, segment_bytes, name));
        if (access(file, R_OK) != 0)
            continue;
        hf_assert_ok(hf_file_read(file, &bytes, &err), &err);
        collected.length = 0;
        hf_assert_ok(hf_stream_read(archive, path, from, to, collect, &collected, &err), &err);
        assert_int_equal(collected.length, to - from);
        assert_memory_equal(collected.data, bytes.data + (from - at), collected.length);
        compared += collected.length;
    }
    free(collected.data);
    free(path);
    return compared;
}

static void
work(PGconn *conn, int rows)
{
    char sql[200];
    snprintf(sql, sizeof sql, "INSERT INTO note SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, %d) g", rows);
    hf_test_sql(conn, sql);
}

HF_TEST(what_the_server_writes_is_in_the_archive_byte_for_byte_and_goes_on_after_a_restart)
{
    struct test_vault vault;
    struct receiving receiving;
    size_t count;
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){0});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    test_vault_make(&vault, hf_test_folder());
    receiving_init(&receiving, &vault, cluster);
    hf_test_sql(conn, "CREATE TABLE note (id int, body text)");

    receiving_start(&receiving);
    for (int i = 0; i < 10; i++)
        work(conn, 2000);
    receiving_catch_up(&receiving, conn);
    receiving_stop(&receiving);
    assert_int_equal(receiving.why.kind, HF_ERR_CANCELLED);
    work(conn, 3000); // while nobody listens
    hf_test_sql(conn, "SELECT pg_switch_wal()");
    work(conn, 100);
    receiving_start(&receiving);
    receiving_catch_up(&receiving, conn);
    receiving_stop(&receiving);
    assert_int_equal(receiving.why.kind, HF_ERR_CANCELLED);

    struct hf_archive *archive = receiving_archive(&receiving);
    const struct hf_window window = newest_window(archive, 1, &count);
    assert_int_equal(count, 1);
    assert_true(window.commits >= 12);
    assert_true(window.last_time > hf_time_now_ms() - 60000 && window.last_time < hf_time_now_ms() + 60000);
    assert_true(compare_with_server(archive, cluster, 1, &window) > 8 * HF_MIB);
    assert_int_equal(atomic_load(&receiving.gaps), 0);
    hf_archive_freep(&archive);
    PQfinish(conn);
    test_vault_done(&vault);
}

/* A client that commits numbered rows, each only when the one before is acknowledged, and keeps their numbers. */
struct ledger {
    const struct hf_test_cluster *cluster;
    pthread_t thread;
    atomic_bool stop;
    atomic_int tried;
    bool acknowledged[LEDGER_MOST];
};

static void *
keep_ledger(void *context)
{
    struct ledger *ledger = context;
    char conninfo[512], sql[120];
    snprintf(conninfo, sizeof conninfo, "%s", hf_test_cluster_conninfo(ledger->cluster, NULL));
    PGconn *conn = NULL;
    for (int number = 0; number < LEDGER_MOST && !atomic_load(&ledger->stop);) {
        if (conn == NULL || PQstatus(conn) != CONNECTION_OK) {
            PQfinish(conn);
            conn = PQconnectdb(conninfo);
            usleep(10000);
            continue;
        }
        snprintf(sql, sizeof sql, "INSERT INTO ledger VALUES ('ledger entry %07d end')", number);
        PGresult *result = PQexec(conn, sql);
        // A warning would say that the commit was not waited for: then it is not acknowledged as we mean it.
        ledger->acknowledged[number] = PQresultStatus(result) == PGRES_COMMAND_OK;
        PQclear(result);
        atomic_store(&ledger->tried, ++number);
    }
    PQfinish(conn);
    return NULL;
}

static void
ignore_notices(void *context, const PGresult *result)
{
    (void)context, (void)result;
}

static pid_t
start_child(struct receiving *receiving)
{
    const pid_t child = fork();
    if (child != 0)
        return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_vault_reopen(receiving->vault);
    receiving->seal_ms = 300;
    receiving_run(receiving);
    _exit(0);
}

/* An entry may run over the end of a page: without the headers of pages it stands in one piece. */
static void
strip_page_headers(struct collected *log, uint64_t start)
{
    size_t kept = 0;
    for (size_t at = 0; at < log->length;) {
        const uint64_t position = start + at;
        const size_t left = HF_WAL_PAGE_BYTES - position % HF_WAL_PAGE_BYTES, rest = log->length - at;
        const size_t header = position % HF_WAL_PAGE_BYTES != 0 ? 0 : position % (16 * HF_MIB) == 0 ? 40 : 24;
        const size_t part = left < rest ? left : rest;
        if (part > header) {
            memmove(log->data + kept, log->data + at + header, part - header);
            kept += part - header;
        }
        at += part;
    }
    log->length = kept;
}

static size_t
count_missing(const struct ledger *ledger, const struct collected *log, size_t *ret_acknowledged)
{
    bool *found = calloc(LEDGER_MOST, 1);
    size_t missing = 0;
    for (const uint8_t *at = log->data; (at = memmem(at, (size_t)(log->data + log->length - at), "ledger entry ", 13));
         at++)
        if (memcmp(at + 20, " end", 4) == 0)
            found[atoi((const char *)at + 13)] = true;
    *ret_acknowledged = 0;
    for (int i = 0; i < atomic_load(&ledger->tried); i++) {
        *ret_acknowledged += ledger->acknowledged[i];
        missing += ledger->acknowledged[i] && !found[i];
    }
    free(found);
    return missing;
}

HF_TEST(no_acknowledged_commit_is_missing_however_receiver_and_server_are_killed)
{
    static const char *const settings[] = {"synchronous_standby_names = 'holdfast_stream'", "wal_sender_timeout = 5s",
                                           "full_page_writes = on", NULL};
    struct test_vault vault;
    struct receiving receiving;
    static struct ledger ledger;
    size_t count, acknowledged;
    struct hf_error err;
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = settings});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    PQsetNoticeReceiver(conn, ignore_notices, NULL);
    hf_test_sql(conn, "SET synchronous_commit = local; CREATE TABLE ledger (entry text)");
    test_vault_make(&vault, hf_test_folder());
    receiving_init(&receiving, &vault, cluster);
    PQfinish(conn);
    srandom(20261123);

    pid_t child = start_child(&receiving);
    ledger.cluster = cluster;
    assert_int_equal(pthread_create(&ledger.thread, NULL, keep_ledger, &ledger), 0);
    for (int i = 0; i < KILLS; i++) {
        usleep(300000 + (useconds_t)(random() % 700000));
        if (i % 4 == 3) {
            hf_test_cluster_stop(cluster, SIGKILL);
            hf_test_cluster_resume(cluster);
            continue;
        }
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        usleep((useconds_t)(random() % 100000));
        child = start_child(&receiving);
    }
    usleep(1000000);
    atomic_store(&ledger.stop, true);
    pthread_join(ledger.thread, NULL);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);

    struct hf_archive *archive = receiving_archive(&receiving);
    const struct hf_window window = newest_window(archive, 1, &count);
    struct collected log = {.data = malloc((size_t)(window.end - window.start))};
    struct hf_timeline_path *path = malloc(sizeof *path);
    hf_timeline_path_of_first(path);
    hf_assert_ok(hf_stream_read(archive, path, window.start, window.end, collect, &log, &err), &err);
    assert_int_equal(count, 1);
    assert_int_equal(compare_with_server(archive, cluster, 1, &window), window.end - window.start);
    strip_page_headers(&log, window.start);
    assert_int_equal(count_missing(&ledger, &log, &acknowledged), 0);
    print_message("# %zu commits acknowledged, %llu in the archive, over %d kills\n", acknowledged,
                  (unsigned long long)window.commits, KILLS);
    assert_true(acknowledged > 100);
    assert_true(window.commits >= acknowledged);
    free(log.data);
    free(path);
    hf_archive_freep(&archive);
    test_vault_done(&vault);
}

HF_TEST(what_the_disk_did_not_take_is_never_acknowledged_and_comes_again)
{
    static const char acknowledged[] =
        "SELECT coalesce(max(flush_lsn), '0/0') >= '%s'::pg_lsn FROM pg_stat_replication";
    struct test_vault vault;
    struct receiving receiving;
    size_t count;
    char sql[200], before[64], after[64];
    static const char *const settings[] = {"wal_sender_timeout = 1s", NULL}; // it asks for an answer after half of it
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = settings});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    test_vault_make(&vault, hf_test_folder());
    receiving_init(&receiving, &vault, cluster);
    hf_test_sql(conn, "CREATE TABLE note (id int, body text)");
    receiving.seal_bytes = 64 * HF_MIB;
    receiving.seal_ms = 60000;
    receiving_start(&receiving);
    work(conn, 100);
    snprintf(before, sizeof before, "%s", hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"));
    receiving_catch_up(&receiving, conn);
    snprintf(sql, sizeof sql, acknowledged, before);
    for (int i = 0; i < 100 && hf_test_sql_text(conn, sql)[0] != 't'; i++)
        usleep(20000);
    assert_string_equal(hf_test_sql_text(conn, sql), "t");

    // A disk that takes its time: the server hears from us, and nothing it could rely on.
    char walsender[32];
    snprintf(walsender, sizeof walsender, "%s", hf_test_sql_text(conn, "SELECT pid FROM pg_stat_replication"));
    atomic_store(&sync_stalls, true);
    work(conn, 100);
    snprintf(after, sizeof after, "%s", hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"));
    snprintf(sql, sizeof sql, acknowledged, after);
    for (int i = 0; i < 100; i++, usleep(20000))
        assert_string_equal(hf_test_sql_text(conn, sql), "f");
    assert_string_equal(hf_test_sql_text(conn, "SELECT pid FROM pg_stat_replication"), walsender);
    atomic_store(&sync_stalls, false);
    for (int i = 0; i < 100 && hf_test_sql_text(conn, sql)[0] != 't'; i++)
        usleep(20000);
    assert_string_equal(hf_test_sql_text(conn, sql), "t");

    atomic_store(&sync_fails, true);
    work(conn, 100);
    snprintf(after, sizeof after, "%s", hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"));
    snprintf(sql, sizeof sql, acknowledged, after);
    for (int i = 0; i < 50; i++, usleep(20000))
        assert_string_equal(hf_test_sql_text(conn, sql), "f");
    snprintf(sql, sizeof sql, "SELECT restart_lsn < '%s'::pg_lsn FROM pg_replication_slots", after);
    assert_string_equal(hf_test_sql_text(conn, sql), "t");
    receiving_stop(&receiving);
    assert_non_null(strstr(receiving.why.message, "could not sync journal"));

    atomic_store(&sync_fails, false);
    receiving_start(&receiving);
    receiving_catch_up(&receiving, conn);
    receiving_stop(&receiving);
    struct hf_archive *archive = receiving_archive(&receiving);
    const struct hf_window window = newest_window(archive, 1, &count);
    assert_int_equal(count, 1);
    assert_int_equal(compare_with_server(archive, cluster, 1, &window), window.end - window.start);
    hf_archive_freep(&archive);
    PQfinish(conn);
    test_vault_done(&vault);
}

/* A standby of the cluster, made from it, with another port. */
static struct hf_test_cluster
make_standby(const struct hf_test_cluster *primary, const char *slot)
{
    struct hf_test_cluster standby = *primary;
    char line[700];
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB), errors = HF_BUF_INIT(HF_MIB);
    standby.server = HF_PROCESS_NONE;
    snprintf(standby.data, sizeof standby.data, "%s/standby", primary->folder);
    snprintf(standby.log, sizeof standby.log, "%s/standby.log", primary->folder);
    standby.port = primary->port + 1;
    const char *const argv[] = {"pg_basebackup", "-D", standby.data, "-X", "stream", "-c", "fast", NULL};
    assert_int_equal(hf_test_cluster_run(primary, argv, &output, &errors), 0);
    snprintf(line, sizeof line, "port = %u\nprimary_conninfo = 'host=%s port=%u user=postgres'\n# %s", standby.port,
             primary->socket, primary->port, slot);
    hf_test_cluster_set(&standby, line);
    snprintf(line, sizeof line, "%s/standby.signal", standby.data);
    hf_assert_ok(hf_file_publish(line, "", 0, 0644, HF_PUBLISH_REPLACE, &err), &err);
    assert_int_equal(chown(line, hf_test_server_uid(), hf_test_server_gid()), 0);
    hf_test_cluster_resume(&standby);
    return standby;
}

HF_TEST(a_promotion_is_followed_in_the_middle_of_a_segment_and_the_old_primary_is_refused)
{
    struct test_vault vault;
    struct receiving receiving;
    size_t count;
    struct hf_error err;
    struct hf_test_cluster *primary = hf_test_cluster_start(&(struct hf_test_cluster_options){0});
    PGconn *conn = hf_test_cluster_connect(primary, NULL);
    test_vault_make(&vault, hf_test_folder());
    receiving_init(&receiving, &vault, primary);
    hf_test_sql(conn, "CREATE TABLE note (id int, body text)");
    struct hf_test_cluster standby = make_standby(primary, "");

    receiving_start(&receiving);
    work(conn, 3000);
    receiving_catch_up(&receiving, conn);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%s", hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"));
    PGconn *other = hf_test_cluster_connect(&standby, NULL);
    for (int i = 0; i < 200; i++) {
        char sql[120];
        snprintf(sql, sizeof sql, "SELECT pg_last_wal_replay_lsn() >= '%s'::pg_lsn", wanted);
        if (hf_test_sql_text(other, sql)[0] == 't')
            break;
        usleep(50000);
    }
    hf_test_sql(other, "SELECT pg_promote()");
    work(conn, 500); // on the old timeline, which nobody will follow
    receiving_catch_up(&receiving, conn);
    receiving_stop(&receiving);
    assert_int_equal(receiving.why.kind, HF_ERR_CANCELLED);

    receiving_point(&receiving, &standby);
    receiving_start(&receiving);
    work(other, 2000);
    receiving_catch_up(&receiving, other);
    receiving_stop(&receiving);
    assert_int_equal(receiving.why.kind, HF_ERR_CANCELLED);
    assert_int_equal(atomic_load(&receiving.gaps), 0);

    struct hf_archive *archive = receiving_archive(&receiving);
    const struct hf_window window = newest_window(archive, 2, &count);
    assert_int_equal(count, 1);
    assert_int_equal(window.timeline, 2);
    struct hf_timeline_path *path = malloc(sizeof *path);
    hf_assert_ok(hf_archive_path(archive, 2, path, &err), &err);
    assert_int_equal(path->count, 2);
    assert_true(path->steps[1].start % (16 * HF_MIB) != 0);
    assert_true(compare_with_server(archive, &standby, 2, &window) > HF_MIB);
    // The other branch is kept as well, with what nobody followed.
    const struct hf_window old = newest_window(archive, 1, &count);
    assert_true(old.end > path->steps[0].end);
    hf_archive_freep(&archive);

    receiving_point(&receiving, primary);
    receiving_start(&receiving);
    pthread_join(receiving.thread, NULL);
    assert_int_equal(receiving.why.kind, HF_ERR_CONFLICT);
    assert_string_equal(receiving.why.message, "the server is on timeline 1, the archive follows timeline 2 already");
    free(path);
    PQfinish(conn);
    PQfinish(other);
    hf_test_cluster_stop(&standby, SIGINT);
    test_vault_done(&vault);
}

HF_TEST(another_database_and_an_older_state_of_this_one_are_refused_and_nothing_is_stored)
{
    struct test_vault vault;
    struct receiving receiving;
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){0});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    test_vault_make(&vault, hf_test_folder());
    receiving_init(&receiving, &vault, cluster);
    hf_test_sql(conn, "CREATE TABLE note (id int, body text)");
    PQfinish(conn);

    // An older state: the data directory as it was is put back under the same server.
    hf_test_cluster_stop(cluster, SIGINT);
    char command[400];
    snprintf(command, sizeof command, "cp -a %s %s/before", cluster->data, cluster->folder);
    assert_int_equal(system(command), 0);
    hf_test_cluster_resume(cluster);
    conn = hf_test_cluster_connect(cluster, NULL);
    receiving_start(&receiving);
    work(conn, 3000);
    receiving_catch_up(&receiving, conn);
    receiving_stop(&receiving);
    PQfinish(conn);
    hf_test_cluster_stop(cluster, SIGINT);
    snprintf(command, sizeof command, "rm -rf %s && cp -a %s/before %s", cluster->data, cluster->folder, cluster->data);
    assert_int_equal(system(command), 0);
    hf_test_cluster_resume(cluster);

    receiving_start(&receiving);
    pthread_join(receiving.thread, NULL);
    assert_int_equal(receiving.why.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(receiving.why.message, "the archive is ahead of the server"));

    // It goes on and passes the place where the archive ends: its log is another one there.
    conn = hf_test_cluster_connect(cluster, NULL);
    work(conn, 5000);
    hf_test_sql(conn, "SELECT pg_switch_wal()");
    work(conn, 5000);
    receiving_start(&receiving);
    pthread_join(receiving.thread, NULL);
    assert_int_equal(receiving.why.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(receiving.why.message, "the server's log differs from the archive's at "));

    receiving.identity[0] ^= 1;
    receiving_start(&receiving);
    pthread_join(receiving.thread, NULL);
    assert_int_equal(receiving.why.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(receiving.why.message, "is now another database"));
    PQfinish(conn);
    test_vault_done(&vault);
}
