/*
 * Copies whose own records of themselves are wrong, on purpose and with care: the control file, the label, the log, the
 * histories of timelines.  A real server is started on each in the sandbox.  It may refuse, crash, wait or come up; it
 * may not reach anything, outlast its time or leave anything behind.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/time.h"

#define WALL_MS       8000
#define CONTROL_CHECK 32 // checkPoint: the position of the last checkpoint
#define CONTROL_STATE 16
#define SEGMENT       (16 * HF_MIB)

enum outcome { MUST_END, MAY_LIVE };

static struct hf_test_cluster *crashed(void);
static const char *copy(bool standby);
static enum hf_sandbox_end run(const char *data, bool *ret_ready);
static void expect(const char *data, enum outcome outcome);
static void put(const char *data, const char *name, const void *bytes, size_t length);
static void change_control(const char *data, size_t offset, uint64_t value);
static void first_segment(const char *data, char path[static 200], uint8_t **ret);
static void put_segment(const char *path, uint8_t *bytes);

HF_TEST(a_copy_that_crashed_recovers_when_nothing_is_wrong_with_it)
{
    bool ready;
    (void)run(copy(false), &ready);
    assert_true(ready);
}

HF_TEST(case_65_a_control_file_that_is_empty_cut_random_or_gone_ends_the_server)
{
    static uint8_t noise[8192];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 167 + 13);
    const size_t lengths[] = {0, 100, sizeof noise};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++) {
        const char *data = copy(false);
        put(data, "global/pg_control", noise, lengths[i]);
        expect(data, MUST_END);
    }
}

HF_TEST(case_65_a_control_file_with_a_right_checksum_and_wild_positions_ends_the_server)
{
    static const uint64_t positions[] = {0, 1, UINT64_MAX, UINT64_C(0x7fffffff00000028), 40};
    for (size_t i = 0; i < HF_LENGTH(positions); i++) {
        const char *data = copy(false);
        change_control(data, CONTROL_CHECK, positions[i]);
        expect(data, MUST_END);
    }
    const char *data = copy(false);
    change_control(data, CONTROL_STATE, UINT64_C(0x7ffffffe));
    expect(data, MUST_END);
}

HF_TEST(case_65_a_label_that_points_anywhere_ends_the_server)
{
    static const char *const labels[] = {
        ("START WAL LOCATION: FFFFFFFF/FFFFFFFF (file 00000001FFFFFFFF000000FF)\nCHECKPOINT LOCATION: FFFFFFFF/28\n"
         "BACKUP METHOD: streamed\nBACKUP FROM: primary\nSTART TIMELINE: 1\n"),
        "START WAL LOCATION: 0/0 (file 000000010000000000000000)\nCHECKPOINT LOCATION: 0/0\nBACKUP METHOD: streamed\n",
        "START WAL LOCATION: 0/2000028 (file ../../../../etc/passwd)\nCHECKPOINT LOCATION: 0/2000060\n",
        "%n%s%n%s\n",
        "",
    };
    for (size_t i = 0; i < HF_LENGTH(labels); i++) {
        const char *data = copy(false);
        put(data, "backup_label", labels[i], strlen(labels[i]));
        expect(data, MUST_END);
    }
}

HF_TEST(case_65_a_map_of_tablespaces_that_asks_for_links_to_anywhere_does_not_last)
{
    static const char map[] = "1663 /\n16500 /etc\n../../x /run/socket\n16501 /settings\n";
    static const char label[] = "START WAL LOCATION: 0/1000028 (file 000000010000000000000001)\n"
                                "CHECKPOINT LOCATION: 0/1000060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n";
    const char *data = copy(false);
    put(data, "tablespace_map", map, sizeof map - 1);
    put(data, "backup_label", label, sizeof label - 1);
    expect(data, MAY_LIVE); // whatever links it makes, they are followed inside only
}

HF_TEST(case_65_log_that_is_zeros_noise_or_cut_does_not_bring_the_server_up)
{
    uint8_t *bytes;
    char path[200];
    for (unsigned kind = 0; kind < 3; kind++) {
        const char *data = copy(false);
        first_segment(data, path, &bytes);
        for (size_t i = 0; i < SEGMENT; i++)
            bytes[i] = kind == 0 ? 0 : (uint8_t)(i * 2654435761u >> 13);
        put_segment(path, bytes);
        if (kind == 2)
            assert_int_equal(truncate(path, 100), 0);
        expect(data, MUST_END);
    }
}

HF_TEST(case_65_records_with_wild_lengths_do_not_last)
{
    uint8_t *bytes;
    char path[200];
    static const uint32_t lengths[] = {0, 1, 24, 0x3fffffff, 0xffffffff};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++) {
        const char *data = copy(false);
        first_segment(data, path, &bytes);
        // Each place that could be the length of a record, in the pages behind the first hundred.
        for (size_t page = 100 * 8192; page + 8192 <= SEGMENT; page += 8192)
            for (size_t at = page + 24; at + 8 <= page + 8192; at += 512)
                hf_put_u32(bytes + at, lengths[i]);
        put_segment(path, bytes);
        expect(data, MAY_LIVE);
    }
}

HF_TEST(case_65_histories_of_timelines_with_forged_parents_do_not_last)
{
    static const char *const histories[] = {
        "1\t0/0\tforged\n",
        "1\tFFFFFFFF/FFFFFFFF\tforged\n",
        "9\t0/1000000\tlater than itself\n",
        "2\t0/1000000\titself\n",
        "\x1b[2J%n\n",
        "1\t0/1000000\n1\t0/900000\n1\t0/1\n",
    };
    for (size_t i = 0; i < HF_LENGTH(histories); i++) {
        const char *data = copy(true);
        put(data, "pg_wal/00000002.history", histories[i], strlen(histories[i]));
        expect(data, MAY_LIVE);
    }
    hf_test_nothing_is_left();
}

HF_TEST(case_65_pipes_where_files_are_expected_are_not_waited_for_without_end)
{
    static const char *const names[] = {"PG_VERSION", "global/pg_filenode.map", "pg_xact/0000", "postmaster.pid"};
    char path[200];
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        const char *data = copy(false);
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        (void)unlink(path);
        assert_int_equal(mkfifo(path, 0600), 0);
        if (geteuid() == 0)
            assert_int_equal(chown(path, hf_test_sandbox_uid(), hf_test_sandbox_gid()), 0);
        expect(data, MAY_LIVE); // a pipe that nobody writes to may be waited for; then time ends it
    }
    hf_test_nothing_is_left();
}

/* One that was cut off amid its work, so that it needs its log. */
static struct hf_test_cluster *
crashed(void)
{
    static struct hf_test_cluster *source;
    if (source != NULL)
        return source;
    source = hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true});
    PGconn *conn = hf_test_cluster_connect(source, NULL);
    hf_test_sql(conn, "CREATE TABLE patient AS SELECT i FROM generate_series(1, 50000) i");
    PQfinish(conn);
    hf_test_cluster_stop(source, SIGQUIT);
    return source;
}

static const char *
copy(bool standby)
{
    return hf_test_restore(crashed(), standby);
}

/* What lies in pg_wal first. */
static void
first_segment(const char *data, char path[static 200], uint8_t **ret)
{
    static uint8_t bytes[SEGMENT];
    snprintf(path, 200, "%s/pg_wal/000000010000000000000001", data);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, bytes, sizeof bytes) != sizeof bytes)
        fail_msg("no segment at %s", path);
    close(fd);
    *ret = bytes;
}

static void
put_segment(const char *path, uint8_t *bytes)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, bytes, SEGMENT) != SEGMENT)
        fail_msg("could not write %s", path);
    close(fd);
}

static void
put(const char *data, const char *name, const void *bytes, size_t length)
{
    char path[200];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/%s", data, name);
    hf_assert_ok(hf_file_publish(path, bytes, length, 0600, HF_PUBLISH_REPLACE, &err), &err);
    if (geteuid() == 0)
        assert_int_equal(chown(path, hf_test_sandbox_uid(), hf_test_sandbox_gid()), 0);
}

/* As somebody would who knows the format: the checksum is right again. */
static void
change_control(const char *data, size_t offset, uint64_t value)
{
    uint8_t bytes[8192];
    char path[200];
    snprintf(path, sizeof path, "%s/global/pg_control", data);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, bytes, sizeof bytes) != sizeof bytes)
        fail_msg("no control file at %s", path);
    close(fd);
    size_t check = 0;
    for (size_t at = 100; at < 512 && check == 0; at += 4)
        check = hf_crc32c(0, bytes, at) == hf_get_u32(bytes + at) ? at : 0;
    if (check == 0)
        fail_msg("the control file's checksum was not found");
    hf_put_u64(bytes + offset, value);
    hf_put_u32(bytes + check, hf_crc32c(0, bytes, check));
    put(data, "global/pg_control", bytes, sizeof bytes);
}

static enum hf_sandbox_end
run(const char *data, bool *ret_ready)
{
    const struct hf_postgres_settings settings = {.major = 15, .max_connections = 40};
    struct hf_sandbox_spec spec = hf_test_postgres_spec(data, &settings);
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    spec.limits.wall_ms = WALL_MS;
    const uint64_t began = hf_monotonic_ns();
    hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
    *ret_ready = hf_sandbox_wait_ready(sandbox, WALL_MS / 4);
    if (*ret_ready)
        hf_assert_ok(hf_sandbox_stop(sandbox, &end, &err), &err);
    else
        hf_assert_ok(hf_sandbox_wait_exit(sandbox, 4 * WALL_MS, &end, &err), &err);
    hf_sandbox_freep(&sandbox);
    assert_int_not_equal(end.end, HF_SANDBOX_RUNNING);
    assert_true(hf_monotonic_ns() - began < UINT64_C(4) * WALL_MS * 1000000);
    return end.end;
}

static void
expect(const char *data, enum outcome outcome)
{
    bool ready;
    const enum hf_sandbox_end end = run(data, &ready);
    if (outcome == MUST_END && (ready || end != HF_SANDBOX_EXITED))
        fail_msg("the server on %s did not end by itself: %s", data, ready ? "ready" : hf_sandbox_end_name(end));
}
