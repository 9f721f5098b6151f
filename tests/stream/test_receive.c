/* The receiver against a real server: what is in the archive is what the server wrote, and nothing is missing. */
#include "tests/stream/receiving.h"

#include <signal.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/source/postgres/wal_format.h"

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
                 hf_wal_segment_name(hf_timeline_path_at(path, at)->timeline, at, segment_bytes, name));
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
