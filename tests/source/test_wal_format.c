/* The walk over log records: real log against pg_waldump, built log for what a server seldom writes. */
#include <dirent.h>
#include <signal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "server/source/postgres/wal_format.h"
#include "tests/source/wal_builder.h"
#include "tests/support/cluster.h"

static const struct hf_wal_origin origin = {
    .major_version = 15, .system_identifier = 7418237648237648234, .segment_bytes = 1024 * 1024, .timeline = 3};

static const int64_t noon = INT64_C(1795348800000); // 2026-11-22 12:00 UTC

static bool walk_over(const struct hf_wal_origin *from, uint64_t start, const uint8_t *data, size_t length, size_t step,
                      struct hf_wal_seen *ret, struct hf_error *err);
static void build_all_kinds(struct hf_test_wal *wal);
static void must_refuse(struct hf_test_wal *wal, size_t at, const void *bytes, size_t length, const char *message);
static struct hf_wal_seen look_for(const struct hf_test_wal *wal, const struct hf_wal_target *target);
static size_t count_text(const char *text, const char *word);

HF_TEST(real_log_is_walked_as_pg_waldump_walks_it)
{
    const char *const settings[] = {"max_prepared_transactions = 5", "autovacuum = off", "wal_keep_size = 1GB", NULL};
    struct hf_test_cluster *cluster = hf_test_cluster_start(&(struct hf_test_cluster_options){.settings = settings});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(256 * HF_MIB), dump = HF_BUF_INIT(256 * HF_MIB),
                                         errors = HF_BUF_INIT(HF_MIB);
    struct hf_wal_seen seen;
    struct hf_error err;
    char path[200], folder[160], lsn[HF_LSN_TEXT_BYTES];

    uint64_t system = strtoull(hf_test_sql_text(conn, "SELECT system_identifier FROM pg_control_system()"), NULL, 10);
    hf_test_sql(conn, "CREATE TABLE t AS SELECT n, repeat('x', 3000) FROM generate_series(1, 2000) n");
    hf_test_sql(conn, "SELECT pg_switch_wal()");
    hf_test_sql(conn, "BEGIN; INSERT INTO t SELECT 1; PREPARE TRANSACTION 'two'");
    hf_test_sql(conn, "COMMIT PREPARED 'two'");
    hf_test_sql(conn, "BEGIN; INSERT INTO t SELECT 1; ROLLBACK");
    hf_test_sql(conn, "SELECT pg_logical_emit_message(false, 'big', repeat('y', 100000))");
    hf_test_sql(conn, "UPDATE t SET n = n + 1");
    PQfinish(conn);
    hf_test_cluster_stop(cluster, SIGINT);

    for (unsigned number = 1;; number++) {
        char name[HF_WAL_NAME_BYTES];
        snprintf(path, sizeof path, "%s/pg_wal/%s", cluster->data,
                 hf_wal_segment_name(1, number * UINT64_C(16777216), 16777216, name));
        if (access(path, F_OK) != 0)
            break;
        hf_assert_ok(hf_file_read(path, &log, &err), &err);
    }
    snprintf(folder, sizeof folder, "%s/pg_wal", cluster->data);
    const char *const argv[] = {"pg_waldump", "-p", folder, "-s", "0/1000028", NULL};
    // Its exit status is 1: it runs until it finds no record.
    hf_test_cluster_run(cluster, argv, &dump, &errors);

    const struct hf_wal_origin here = {15, system, 16777216, 1};
    hf_assert_ok(walk_over(&here, 16777216, log.data, log.length, 100003, &seen, &err), &err);
    const char *text = hf_buf_text(&dump);
    assert_int_equal(seen.records, count_text(text, "rmgr: "));
    assert_int_equal(seen.commits, count_text(text, "desc: COMMIT"));
    assert_true(seen.records > 10000);
    assert_int_equal(seen.aborts, count_text(text, "desc: ABORT "));
    assert_int_equal(seen.first_record, 0x1000028);
    snprintf(path, sizeof path, "lsn: %X/%08X, prev", (unsigned)(seen.last_record >> 32), (unsigned)seen.last_record);
    const char *last = text;
    for (const char *line = text; (line = strstr(line, "lsn: ")) != NULL; line++)
        last = line;
    if (strncmp(last, path, strlen(path)) != 0)
        fail_msg("the last record is at %s, pg_waldump has %.40s", hf_lsn_format(seen.last_record, lsn), last);
}

HF_TEST(a_walk_does_not_depend_on_how_it_is_fed)
{
    static const size_t steps[] = {1, 3, 8, 24, 8191, 8192, 65536, 10000000};
    struct hf_test_wal wal;
    struct hf_wal_seen whole, pieces;
    struct hf_error err;

    build_all_kinds(&wal);
    hf_assert_ok(walk_over(&origin, wal.start, wal.data, wal.length, wal.length, &whole, &err), &err);
    assert_int_equal(whole.commits, 3);
    assert_int_equal(whole.aborts, 1);
    assert_int_equal(whole.abandoned, 1);
    assert_int_equal(whole.first_commit_at, noon - 5000);
    assert_int_equal(whole.last_commit_at, noon + 1234);
    assert_int_equal(whole.position, hf_test_wal_end(&wal));
    assert_int_equal(whole.end, hf_test_wal_end(&wal));
    assert_int_equal(whole.last_record, wal.previous);
    assert_int_equal(whole.page_timeline, 3);
    for (size_t i = 0; i < HF_LENGTH(steps); i++) {
        hf_assert_ok(walk_over(&origin, wal.start, wal.data, wal.length, steps[i], &pieces, &err), &err);
        assert_memory_equal(&pieces, &whole, sizeof whole);
    }
}

HF_TEST(the_end_is_that_of_the_last_whole_record)
{
    struct hf_test_wal wal;
    struct hf_wal_seen seen;
    struct hf_error err;
    uint8_t body[5000] = {0};

    hf_test_wal_begin(&wal, &origin, 7 * 1024 * 1024);
    hf_test_wal_add_commit(&wal, noon);
    uint64_t end = hf_test_wal_end(&wal);
    uint64_t second = hf_test_wal_add(&wal, 10, 0, body, sizeof body);
    for (size_t length = (size_t)(second - wal.start); length < wal.length - 8; length += 37) {
        hf_assert_ok(walk_over(&origin, wal.start, wal.data, length, length, &seen, &err), &err);
        assert_int_equal(seen.end, end);
        assert_int_equal(seen.records, 1);
    }
    hf_assert_ok(walk_over(&origin, wal.start, wal.data, wal.length, wal.length, &seen, &err), &err);
    assert_int_equal(seen.end, hf_test_wal_end(&wal));
}

HF_TEST(zeros_after_the_last_record_are_its_end_and_anything_else_is_damage)
{
    struct hf_test_wal wal;
    struct hf_wal_seen seen;
    struct hf_error err;

    hf_test_wal_begin(&wal, &origin, 0x700000);
    hf_test_wal_add_commit(&wal, noon);
    uint64_t end = hf_test_wal_end(&wal);
    hf_assert_ok(walk_over(&origin, wal.start, wal.data, origin.segment_bytes, 1000, &seen, &err), &err);
    assert_int_equal(seen.end, end);
    wal.data[origin.segment_bytes - 1] = 1;
    assert_false(walk_over(&origin, wal.start, wal.data, origin.segment_bytes, 1000, &seen, &err));
    assert_string_equal(err.message, "the log is damaged at 0/7FFFFF: there are bytes behind its end");
}

HF_TEST(every_kind_of_damage_is_named_with_its_place)
{
    struct hf_test_wal wal;
    uint8_t byte, word[4], position[8];
    size_t second_page = HF_WAL_PAGE_BYTES;

    build_all_kinds(&wal);
    byte = 0x11;
    must_refuse(&wal, 0, &byte, 1, "its page has the magic d111 instead of d110");
    must_refuse(&wal, second_page, &byte, 1, "its page has the magic d111");
    byte = 0x10;
    must_refuse(&wal, second_page + 2, &byte, 1, "its page has the flags 0010");
    byte = 3;
    must_refuse(&wal, second_page + 2, &byte, 1, "its page has the flags 0003"); // a long header inside a segment
    hf_put_u32(word, 4);
    must_refuse(&wal, 4, word, 4, "its page is of timeline 4, not within 0 to 3");
    hf_put_u32(word, 2);
    must_refuse(&wal, second_page + 4, word, 4, "its page is of timeline 2, not within 3 to 3");
    hf_put_u64(position, 4711);
    must_refuse(&wal, second_page + 8, position, 8, "its page says it is at 0/1267");
    must_refuse(&wal, 24, position, 8, "it belongs to the system 4711 and not to 7418237648237648234");
    hf_put_u32(word, 16777216);
    must_refuse(&wal, 32, word, 4, "its segments have 16777216 bytes and its pages 8192");
    hf_put_u32(word, 23);
    must_refuse(&wal, 40, word, 4, "a record has 23 bytes");
    hf_put_u32(word, HF_WAL_RECORD_MOST + 1);
    must_refuse(&wal, 40, word, 4, "a record has 1069547521 bytes");
    byte = 9;
    must_refuse(&wal, 40 + 17, &byte, 1, "a record fails its checksum");
    must_refuse(&wal, 40 + 24 + 3, &byte, 1, "a record fails its checksum");
    hf_put_u64(position, wal.start + 48);
    must_refuse(&wal, 40 + 8, position, 8, "a record says the one before is at");
    hf_put_u32(word, 1);
    must_refuse(&wal, second_page + 16, word, 4, "its page goes on with 1 bytes of a record instead of");
    byte = 0;
    must_refuse(&wal, second_page + 2, &byte, 1, "its page goes on with"); // continues, and says it does not
}

HF_TEST(the_chain_of_records_must_hold)
{
    struct hf_test_wal wal;

    hf_test_wal_begin(&wal, &origin, 0x700000);
    hf_test_wal_add_commit(&wal, noon);
    wal.previous -= 8; // the next record, whole and with a right checksum, points elsewhere
    hf_test_wal_add_commit(&wal, noon);
    must_refuse(&wal, 0, wal.data, 1, "a record says the one before is at 0/700020, which is at 0/700028");
}

HF_TEST(a_walk_starts_at_a_page_of_a_known_release)
{
    struct hf_wal_walk *walk = NULL;
    struct hf_wal_origin other = origin;
    struct hf_error err;

    assert_false(hf_wal_walk_new(&origin, 4096, &walk, &err));
    assert_string_equal(err.message, "0/1000 is not the start of a log page");
    other.major_version = 12;
    assert_false(hf_wal_walk_new(&other, 0, &walk, &err));
    other.major_version = 19;
    assert_false(hf_wal_walk_new(&other, 0, &walk, &err));
    assert_string_equal(err.message, "the log of PostgreSQL 19 is not known here");
    other = origin;
    other.segment_bytes = 12345;
    assert_false(hf_wal_walk_new(&other, 0, &walk, &err));
    assert_null(walk);
}

HF_TEST(a_walk_sees_where_a_recovery_stops_and_counts_no_commit_behind)
{
    struct hf_test_wal wal;
    struct hf_wal_seen seen;
    uint8_t point[2 + 8 + HF_WAL_POINT_BYTES] = {255, 8 + HF_WAL_POINT_BYTES, 0, 0, 0, 0, 0, 0, 0, 0, 'p', 'a', 'y'};

    hf_test_wal_begin(&wal, &origin, 0x700000);
    const uint64_t first = hf_test_wal_add_commit(&wal, noon);
    const uint64_t named = hf_test_wal_add(&wal, 0, 0x70, point, sizeof point);
    const uint64_t second = hf_test_wal_add_commit(&wal, noon + 1);
    const uint64_t end = hf_test_wal_end(&wal);

    seen = look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_TIME, .time = noon});
    assert_int_equal(seen.stop, second);
    assert_int_equal(seen.stop_end, end);
    assert_int_equal(seen.commits, 1);
    assert_int_equal(seen.last_commit_at, noon);
    seen = look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_TIME, .time = noon - 1});
    assert_int_equal(seen.stop, first);
    assert_int_equal(seen.commits, 0);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_TIME, .time = noon + 1}).stop, 0);

    seen = look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_POSITION, .position = first + 1});
    assert_int_equal(seen.stop, named);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_POSITION, .position = second}).stop,
                     second);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_POSITION, .position = second + 1}).stop,
                     0);

    seen = look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_TRANSACTION, .transaction = 733});
    assert_int_equal(seen.stop, first);
    assert_int_equal(seen.commits, 1);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_TRANSACTION, .transaction = 734}).stop,
                     0);

    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_RESTORE_POINT, .point = "pay"}).stop,
                     named);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_RESTORE_POINT, .point = "pa"}).stop, 0);
    assert_int_equal(look_for(&wal, &(struct hf_wal_target){.kind = HF_WAL_TO_THE_END}).stop, 0);
}

static struct hf_wal_seen
look_for(const struct hf_test_wal *wal, const struct hf_wal_target *target)
{
    _cleanup_(hf_wal_walk_freep) struct hf_wal_walk *walk = NULL;
    struct hf_error err;
    hf_assert_ok(hf_wal_walk_new(&origin, wal->start, &walk, &err), &err);
    hf_wal_walk_look_for(walk, target);
    hf_assert_ok(hf_wal_walk_feed(walk, wal->data, wal->length, &err), &err);
    return hf_wal_walk_seen(walk);
}

static bool
walk_over(const struct hf_wal_origin *from, uint64_t start, const uint8_t *data, size_t length, size_t step,
          struct hf_wal_seen *ret, struct hf_error *err)
{
    _cleanup_(hf_wal_walk_freep) struct hf_wal_walk *walk = NULL;

    if (!hf_wal_walk_new(from, start, &walk, err))
        return false;
    for (size_t at = 0; at < length; at += step)
        if (!hf_wal_walk_feed(walk, data + at, length - at < step ? length - at : step, err)) {
            assert_false(hf_wal_walk_feed(walk, data, 1, NULL)); // it stays refused
            return false;
        }
    *ret = hf_wal_walk_seen(walk);
    return true;
}

/* Split headers, records over many pages, an abandoned one, a switch, and commits of several forms. */
static void
build_all_kinds(struct hf_test_wal *wal)
{
    static uint8_t body[100000];
    uint8_t commit[3 + 5 + 5 + 8] = {253, 7, 0, 252, 1, 2, 3, 4, 254, 8, 0, 0, 0};

    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 7);
    hf_test_wal_begin(wal, &origin, 0x700000);
    hf_test_wal_add(wal, 10, 0, body, 20000);
    // Up to 8 bytes before a page's end, so that the next header is split there.
    while (wal->length % HF_WAL_PAGE_BYTES != HF_WAL_PAGE_BYTES - 8) {
        size_t left = HF_WAL_PAGE_BYTES - 8 - wal->length % HF_WAL_PAGE_BYTES;
        hf_test_wal_add(wal, 10, 0, body, left >= 48 ? left - 24 : left + 8);
    }
    hf_test_wal_add_commit(wal, noon);
    hf_test_wal_add(wal, 1, 0x20, body, 30); // an abort
    hf_test_wal_add_abandoned(wal, 9000);
    hf_put_u64(commit + 13, (uint64_t)((noon + 1234 - INT64_C(946684800000)) * 1000));
    hf_test_wal_add(wal, 1, 0x30, commit, sizeof commit);
    hf_test_wal_add_switch(wal);
    hf_test_wal_add(wal, 10, 0, body, sizeof body);
    hf_test_wal_add_commit(wal, noon - 5000);
}

static void
must_refuse(struct hf_test_wal *wal, size_t at, const void *bytes, size_t length, const char *message)
{
    uint8_t kept[16];
    struct hf_wal_seen seen;
    struct hf_error err;

    memcpy(kept, wal->data + at, length);
    memcpy(wal->data + at, bytes, length);
    if (walk_over(&origin, wal->start, wal->data, wal->length, 777, &seen, &err))
        fail_msg("\"%s\" was not noticed", message);
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", err.message, message);
    memcpy(wal->data + at, kept, length);
}

static size_t
count_text(const char *text, const char *word)
{
    size_t count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at++)
        count++;
    return count;
}
