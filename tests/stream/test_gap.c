/* Log that the server has removed: however slot, log, receiver and server go, it ends in a gap with exact bounds. */
#include "tests/stream/receiving.h"

#include <endian.h>
#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

#define SLOT    "holdfast_test_stream"
#define SEGMENT (16 * HF_MIB)
#define WAIT_S  60

static const char gone[] = "the replication slot was gone, and the server had recycled the log";

struct scene {
    struct test_vault vault;
    struct receiving receiving;
    struct hf_test_cluster *cluster;
    PGconn *conn;
};

static void
scene_make(struct scene *scene, const char *setting)
{
    const char *const settings[] = {"wal_keep_size = 0", "min_wal_size = 32MB", "shared_buffers = 16MB", setting, NULL};
    *scene = (struct scene){0};
    scene->cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = settings});
    scene->conn = hf_test_cluster_connect(scene->cluster, NULL);
    test_vault_make(&scene->vault, hf_test_folder());
    receiving_init(&scene->receiving, &scene->vault, scene->cluster);
    hf_test_sql(scene->conn, "CREATE TABLE note (id int, body text)");
    receiving_start(&scene->receiving);
    hf_test_sql(scene->conn, "INSERT INTO note SELECT g, repeat(md5(g::text), 8) FROM generate_series(1, 3000) g");
    receiving_catch_up(&scene->receiving, scene->conn);
}

static void
scene_done(struct scene *scene)
{
    receiving_stop(&scene->receiving);
    PQfinish(scene->conn);
    hf_test_cluster_stop(scene->cluster, SIGINT);
    test_vault_done(&scene->vault);
}

static uint64_t
lsn_of(PGconn *conn, const char *sql)
{
    struct hf_error err;
    uint64_t lsn;
    hf_assert_ok(hf_lsn_parse(hf_test_sql_text(conn, sql), &lsn, &err), &err);
    return lsn;
}

static void
drop_slot(PGconn *conn)
{
    for (int tries = 0;; tries++) { // whoever read it may be noticed to be gone a moment later
        PGresult *result = PQexec(conn, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots "
                                        "WHERE active_pid IS NOT NULL");
        PQclear(result);
        result = PQexec(conn, "SELECT pg_drop_replication_slot('" SLOT "')");
        const bool dropped = PQresultStatus(result) == PGRES_TUPLES_OK;
        PQclear(result);
        if (dropped)
            return;
        assert_true(tries < 6000);
        usleep(WAIT_S * 1000000 / 6000);
    }
}

/* Writes and checks, until the segment of `at` is gone. */
static void
recycle(const struct hf_test_cluster *cluster, PGconn *conn, unsigned timeline, uint64_t at)
{
    char file[300];
    snprintf(file, sizeof file, "%s/pg_wal/%08X%08X%08X", cluster->data, timeline, (unsigned)(at >> 32),
             (unsigned)((at & UINT32_MAX) / SEGMENT));
    for (int tries = 0; access(file, F_OK) == 0; tries++) {
        assert_true(tries < 50);
        hf_test_sql(conn, "INSERT INTO note VALUES (0, 'more')");
        hf_test_sql(conn, "SELECT pg_switch_wal()");
        hf_test_sql(conn, "INSERT INTO note VALUES (0, 'more')");
        hf_test_sql(conn, "CHECKPOINT");
    }
}

/* Where the archive ends on the way to a timeline; *ret_count: of windows. */
static struct hf_window
window_of(struct scene *scene, uint32_t timeline, size_t number, size_t *ret_count)
{
    struct hf_error err;
    struct hf_timeline_path *path = malloc(sizeof *path);
    struct hf_window *windows;
    struct hf_archive *archive = receiving_archive(&scene->receiving);
    hf_assert_ok(hf_archive_path(archive, timeline, path, &err), &err);
    hf_assert_ok(hf_archive_windows(archive, path, &windows, ret_count, &err), &err);
    assert_true(*ret_count > number);
    const struct hf_window window = windows[number];
    free(windows);
    free(path);
    hf_archive_freep(&archive);
    return window;
}

/* The log is received again, and the one gap says what lies between the two windows. */
static void
must_have_one_gap(struct scene *scene, PGconn *conn, uint32_t timeline, uint64_t from, const char *cause)
{
    const struct hf_vault_state *known;
    struct hf_error err;
    size_t count;
    hf_test_sql(conn, "INSERT INTO note VALUES (0, 'behind the gap')");
    receiving_catch_up(&scene->receiving, conn);
    receiving_stop(&scene->receiving);
    const struct hf_window before = window_of(scene, timeline, 0, &count),
                           after = window_of(scene, timeline, 1, &count);
    assert_int_equal(count, 2);
    hf_assert_ok(hf_vault_read(scene->vault.vault, NULL, NULL, &known, &err), &err);
    assert_int_equal(known->gap_count, 1);
    const struct hf_vault_gap *gap = &known->gaps[0];
    assert_true(gap->from == before.end && gap->from == from && gap->to == after.start && gap->to > gap->from);
    assert_int_equal(gap->timeline, timeline);
    assert_int_equal(gap->from_timeline, 1);
    bool told = false;
    for (size_t i = 0; i < HF_LENGTH(scene->receiving.said); i++)
        told = told || strstr(scene->receiving.said[i], cause) != NULL;
    if (!told)
        fail_msg("the gap was told otherwise: %s | %s | %s", scene->receiving.said[0], scene->receiving.said[1],
                 scene->receiving.said[2]);
}

HF_TEST(a_slot_dropped_while_nobody_received_is_a_gap_up_to_where_the_log_begins_again)
{
    struct scene scene;
    size_t count;
    scene_make(&scene, NULL);
    receiving_stop(&scene.receiving);
    const uint64_t end = window_of(&scene, 1, 0, &count).end;
    drop_slot(scene.conn);
    recycle(scene.cluster, scene.conn, 1, end);
    receiving_start(&scene.receiving);
    must_have_one_gap(&scene, scene.conn, 1, end, gone);
    scene_done(&scene);
}

HF_TEST(a_slot_dropped_under_a_receiver_that_comes_again_is_a_gap_only_where_log_is_missing)
{
    struct scene scene;
    size_t count;
    scene_make(&scene, NULL);
    for (int round = 0; round < 5; round++) {
        drop_slot(scene.conn); // it comes back in between, or does not
        hf_test_sql(scene.conn, "INSERT INTO note SELECT g, 'x' FROM generate_series(1, 1000) g");
        hf_test_sql(scene.conn, "SELECT pg_switch_wal()");
        hf_test_sql(scene.conn, "CHECKPOINT");
        receiving_catch_up(&scene.receiving, scene.conn);
    }
    receiving_stop(&scene.receiving);
    struct hf_error err;
    const struct hf_vault_state *known;
    (void)window_of(&scene, 1, 0, &count);
    hf_assert_ok(hf_vault_read(scene.vault.vault, NULL, NULL, &known, &err), &err);
    assert_int_equal(known->gap_count, count - 1);
    for (size_t i = 0; i + 1 < count; i++) {
        const struct hf_vault_gap gap = known->gaps[i];
        assert_int_equal(gap.from, window_of(&scene, 1, i, &count).end);
        assert_int_equal(gap.to, window_of(&scene, 1, i + 1, &count).start);
        hf_assert_ok(hf_vault_read(scene.vault.vault, NULL, NULL, &known, &err), &err);
    }
    scene_done(&scene);
}

HF_TEST(a_slot_that_the_server_has_invalidated_is_a_gap_that_says_so)
{
    struct scene scene;
    size_t count;
    scene_make(&scene, "max_slot_wal_keep_size = 16MB");
    receiving_stop(&scene.receiving);
    const uint64_t end = window_of(&scene, 1, 0, &count).end;
    recycle(scene.cluster, scene.conn, 1, end);
    receiving_start(&scene.receiving);
    must_have_one_gap(&scene, scene.conn, 1, end, "max_slot_wal_keep_size");
    scene_done(&scene);
}

static void
put_big(char *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof value);
}

/* What our own first answer does when the server reads it before it has looked for the file. */
static void
move_slot_back(const struct hf_test_cluster *cluster, PGconn *conn, uint64_t to)
{
    char message[34] = {'r'}, command[200];
    PGconn *stream = PQconnectdb(hf_test_cluster_conninfo(cluster, "replication=true"));
    assert_int_equal(PQstatus(stream), CONNECTION_OK);
    snprintf(command, sizeof command, "START_REPLICATION SLOT \"" SLOT "\" PHYSICAL %s TIMELINE 1",
             hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"));
    PGresult *result = PQexec(stream, command);
    assert_int_equal(PQresultStatus(result), PGRES_COPY_BOTH);
    PQclear(result);
    put_big(message + 1, to);
    put_big(message + 9, to);
    assert_int_equal(PQputCopyData(stream, message, sizeof message), 1);
    assert_int_equal(PQflush(stream), 0);
    static const char where[] = "SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '" SLOT "'";
    for (uint64_t since = hf_monotonic_ns(); lsn_of(conn, where) != to; usleep(10000))
        assert_true(hf_monotonic_ns() - since < WAIT_S * UINT64_C(1000000000));
    PQfinish(stream);
}

HF_TEST(a_slot_that_names_log_which_is_not_there_is_made_anew_and_the_hole_is_a_gap)
{
    struct scene scene;
    size_t count;
    scene_make(&scene, NULL);
    receiving_stop(&scene.receiving);
    const uint64_t end = window_of(&scene, 1, 0, &count).end;
    drop_slot(scene.conn);
    recycle(scene.cluster, scene.conn, 1, end);
    hf_test_sql(scene.conn, "SELECT pg_create_physical_replication_slot('" SLOT "', true)");
    move_slot_back(scene.cluster, scene.conn, end);
    PQfinish(scene.conn); // a server that was started anew calls it a good one
    hf_test_cluster_stop(scene.cluster, SIGINT);
    hf_test_cluster_resume(scene.cluster);
    scene.conn = hf_test_cluster_connect(scene.cluster, NULL);
    assert_string_not_equal(hf_test_sql_text(scene.conn, "SELECT wal_status FROM pg_replication_slots"), "lost");
    receiving_start(&scene.receiving);
    must_have_one_gap(&scene, scene.conn, 1, end, "the server had removed log that its slot should have kept");
    scene_done(&scene);
}

HF_TEST(a_hole_that_reaches_over_a_promotion_is_one_gap_from_one_timeline_to_the_next)
{
    struct scene scene;
    size_t count;
    char line[300];
    struct hf_error err;
    scene_make(&scene, NULL);
    receiving_stop(&scene.receiving);
    const uint64_t end = window_of(&scene, 1, 0, &count).end;
    drop_slot(scene.conn);
    // Promoted in its own place: a standby of nobody.
    PQfinish(scene.conn);
    hf_test_cluster_stop(scene.cluster, SIGINT);
    snprintf(line, sizeof line, "%s/standby.signal", scene.cluster->data);
    hf_assert_ok(hf_file_publish(line, "", 0, 0644, HF_PUBLISH_REPLACE, &err), &err);
    assert_int_equal(chown(line, hf_test_server_uid(), hf_test_server_gid()), 0);
    hf_test_cluster_resume(scene.cluster);
    scene.conn = hf_test_cluster_connect(scene.cluster, NULL);
    hf_test_sql(scene.conn, "SELECT pg_promote()");
    assert_string_equal(hf_test_sql_text(scene.conn, "SELECT pg_is_in_recovery()"), "f");
    recycle(scene.cluster, scene.conn, 1, end);
    recycle(scene.cluster, scene.conn, 2, lsn_of(scene.conn, "SELECT pg_current_wal_flush_lsn()"));
    receiving_start(&scene.receiving);
    must_have_one_gap(&scene, scene.conn, 2, end, gone);
    scene_done(&scene);
}
