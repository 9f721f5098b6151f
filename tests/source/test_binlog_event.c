/* Events and GTIDs: logs that servers of many versions recorded, logs built by the documented formats, damage. */
#include <dirent.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/mariadb/event.h"
#include "tests/support/test.h"

#define RECORDED   "/usr/share/mysql/mysql-test/"
#define VERSION_AT 21 // of the server, in a log's first event

struct seen {
    unsigned events, begun, ended;
    bool whole; // to the last byte
    struct hf_binlog_walk walk;
    struct hf_error err;
    struct hf_gtid_set before, logged;
};

static void
walk_bytes(const uint8_t *data, size_t length, struct seen *seen)
{
    *seen = (struct seen){.whole = true};
    hf_binlog_walk_begin(&seen->walk, false);
    for (size_t at = 0; at < length;) {
        const size_t one = length - at < HF_BINLOG_HEADER ? 0 : hf_binlog_event_length(data + at);
        struct hf_binlog_step step;
        if (one == 0 || one > length - at) {
            seen->whole = false;
            (void)hf_fail(&seen->err, HF_ERR_CORRUPT, "cut off at %zu", at);
            return;
        }
        if (!hf_binlog_walk_event(&seen->walk, data + at, one, at, &step, &seen->err)) {
            seen->whole = false;
            return;
        }
        if (step.event.type == HF_BINLOG_GTID_LIST || step.event.type == HF_BINLOG_MYSQL_PREVIOUS)
            hf_assert_ok(hf_binlog_before_read(&step.event, at, &seen->before, &seen->err), &seen->err);
        if (step.ends && seen->walk.has_gtid)
            hf_assert_ok(hf_gtid_set_add(&seen->logged, &seen->walk.gtid, &seen->err), &seen->err);
        seen->events++;
        seen->begun += step.begins;
        seen->ended += step.ends;
        at += one;
    }
}

static void
seen_done(struct seen *seen)
{
    hf_gtid_set_done(&seen->before);
    hf_gtid_set_done(&seen->logged);
}

static void
read_log(const char *path, size_t skip, struct hf_buf *bytes)
{
    struct hf_error err;
    *bytes = HF_BUF_INIT(4 * HF_MIB);
    hf_assert_ok(hf_file_read(path, bytes, &err), &err);
    assert_true(bytes->length >= skip);
    memmove(bytes->data, bytes->data + skip, bytes->length - skip);
    hf_buf_truncate(bytes, bytes->length - skip);
}

static const char *
text_of(const struct hf_gtid_set *set)
{
    static char text[4][4096];
    static unsigned next;
    struct hf_buf out = HF_BUF_INIT(4096);
    struct hf_error err;
    char *ret = text[next++ % 4];
    hf_assert_ok(hf_gtid_set_format(set, &out, &err), &err);
    snprintf(ret, sizeof text[0], "%s", hf_buf_text(&out));
    hf_buf_done(&out);
    return ret;
}

static struct hf_gtid_set
set_of(enum hf_gtid_flavor flavor, const char *text)
{
    struct hf_gtid_set set = {0};
    struct hf_error err;
    hf_assert_ok(hf_gtid_set_parse(flavor, text, strlen(text), &set, &err), &err);
    return set;
}

static struct hf_gtid
gtid_of(enum hf_gtid_flavor flavor, const char *text)
{
    struct hf_gtid gtid;
    struct hf_error err;
    hf_assert_ok(hf_gtid_parse(flavor, text, &gtid, &err), &err);
    return gtid;
}

HF_TEST(logs_that_servers_from_5_0_to_8_0_recorded_are_read_to_their_end_with_every_transaction)
{
    static const struct {
        const char *path, *server;
        unsigned events, transactions;
        const char *last;
    } logs[] = {
        {"std_data/binlog_transaction.000001", "5.0.86-debug-log", 20, 9, ""},
        {"std_data/mariadb-5.5-binlog.000001", "5.5.36-MariaDB-debug-log", 13, 4, ""},
        {"std_data/mdev29078-mysql-bin.000001", "10.3.35-MariaDB-debug-log", 12, 3, "0-1-3"},
        {"std_data/mdev6020-mysql-bin.000001", "10.0.11-MariaDB-debug-log", 7754, 1381, "0-1-1381"},
        {"std_data/mdev35643_mysql_80_binlog.000001", "8.0.40-debug", 40, 9, ""},
        {"std_data/rpl/mysql-5.7.11-stm-temporal-round-binlog.000001", "5.7.11-debug-log", 8, 1, ""},
        {"std_data/rpl/mysql-8.0.13-stm-temporal-round-binlog.000001", "8.0.13-debug", 13, 2, ""},
        {"suite/binlog/std_data/ver_trunk_row_v2.001", "5.6.4-m7-debug-log", 40, 12, ""},
        {"suite/binlog/std_data/ver_5_1_23.001", "5.1.23-rc-debug-log", 24, 8, ""},
    };
    if (access(RECORDED, R_OK) != 0)
        HF_TEST_SKIP("this host has no recorded logs (mariadb-test-data)");
    for (size_t i = 0; i < HF_LENGTH(logs); i++) {
        char path[256];
        struct hf_buf bytes;
        struct seen seen;
        snprintf(path, sizeof path, RECORDED "%s", logs[i].path);
        read_log(path, 4, &bytes);
        walk_bytes(bytes.data, bytes.length, &seen);
        if (!seen.whole)
            fail_msg("%s: %s", logs[i].path, seen.err.message);
        assert_string_equal(seen.walk.format.server, logs[i].server);
        assert_int_equal(seen.events, logs[i].events);
        assert_int_equal(seen.ended, logs[i].transactions);
        assert_int_equal(seen.begun, seen.ended);
        assert_string_equal(text_of(&seen.logged), logs[i].last);
        seen_done(&seen);
        hf_buf_done(&bytes);
    }
}

HF_TEST(damaged_and_forged_logs_are_refused_by_position)
{
    static const struct {
        const char *path, *words;
    } logs[] = {
        {"std_data/mdev-39404-binlog.000001", "the event at 252 (type 162, 401 bytes) fails its checksum"},
        {"std_data/trunc_binlog.000001", "the binary log at 0 is of a server before MySQL 5.0"},
        {"std_data/bug11747416_32228_binlog.000001", "cut off at 312"},
        {"suite/binlog/std_data/binlog_old_version_4_1.000001", "the binary log at 0 is of a server before MySQL 5.0"},
    };
    if (access(RECORDED, R_OK) != 0)
        HF_TEST_SKIP("this host has no recorded logs (mariadb-test-data)");
    for (size_t i = 0; i < HF_LENGTH(logs); i++) {
        char path[256];
        struct hf_buf bytes;
        struct seen seen;
        snprintf(path, sizeof path, RECORDED "%s", logs[i].path);
        read_log(path, 4, &bytes);
        walk_bytes(bytes.data, bytes.length, &seen);
        assert_false(seen.whole);
        assert_string_equal(seen.err.message, logs[i].words);
        assert_int_equal(seen.err.kind, HF_ERR_CORRUPT);
        seen_done(&seen);
        hf_buf_done(&bytes);
    }
}

static void
read_seed(const char *name, struct hf_buf *bytes)
{
    char path[512];
    snprintf(path, sizeof path, "%s/tests/fuzz/corpus/binlog/%s", getenv("HOLDFAST_SOURCE"), name);
    read_log(path, 0, bytes);
}

HF_TEST(every_flipped_bit_of_a_log_with_checksums_is_found)
{
    struct hf_buf bytes;
    read_seed("mariadb-10.11-second-file", &bytes);
    for (size_t at = 0; at < bytes.length; at++) {
        struct seen seen;
        if (at >= VERSION_AT && at < VERSION_AT + 5) // the number decides whether there are checksums at all
            continue;
        const uint8_t was = bytes.data[at];
        bytes.data[at] ^= (uint8_t)(1 << at % 8);
        walk_bytes(bytes.data, bytes.length, &seen);
        if (seen.whole)
            fail_msg("the bit flipped in byte %zu was not found", at);
        bytes.data[at] = was;
        seen_done(&seen);
    }
    hf_buf_done(&bytes);
}

HF_TEST(two_domains_statements_savepoints_and_xa_are_told_apart)
{
    struct hf_buf bytes;
    struct seen seen;
    read_seed("mariadb-10.11-domains-and-xa", &bytes);
    walk_bytes(bytes.data, bytes.length, &seen);
    assert_true(seen.whole);
    assert_int_equal(seen.ended, 8);
    assert_true(seen.walk.with_statements);
    assert_string_equal(text_of(&seen.logged), "0-7-4,5-7-4");
    seen_done(&seen);
    hf_buf_done(&bytes);
    read_seed("mariadb-10.11-second-file", &bytes);
    walk_bytes(bytes.data, bytes.length, &seen);
    assert_string_equal(text_of(&seen.before), "0-7-4,5-7-4");
    seen_done(&seen);
    hf_buf_done(&bytes);
}

HF_TEST(transactions_of_mysql_8_have_their_sets_and_the_microseconds_of_their_commits)
{
    struct hf_buf bytes;
    struct seen seen;
    read_seed("mysql-8.0-built", &bytes);
    walk_bytes(bytes.data, bytes.length, &seen);
    assert_true(seen.whole);
    assert_int_equal(seen.ended, 4); // one of them anonymous
    assert_string_equal(text_of(&seen.before), "00010203-0405-0607-0809-0a0b0c0d0e0f:1-4:7-8");
    assert_string_equal(text_of(&seen.logged), "00010203-0405-0607-0809-0a0b0c0d0e0f:9-11");
    seen_done(&seen);
    hf_buf_done(&bytes);
}

HF_TEST(positions_of_mariadb_keep_the_last_of_each_domain)
{
    struct hf_error err;
    struct hf_gtid_set set = set_of(HF_GTID_MARIADB, " 5-2-7, 0-1-100 ");
    assert_string_equal(text_of(&set), "0-1-100,5-2-7");
    const struct hf_gtid next = gtid_of(HF_GTID_MARIADB, "0-9-101"), other = gtid_of(HF_GTID_MARIADB, "7-1-1");
    assert_false(hf_gtid_set_contains(&set, &next));
    hf_assert_ok(hf_gtid_set_add(&set, &next, &err), &err);
    assert_true(hf_gtid_set_contains(&set, &next));
    assert_false(hf_gtid_set_contains(&set, &other));
    struct hf_gtid_set lower = set_of(HF_GTID_MARIADB, "0-1-50");
    assert_true(hf_gtid_set_contains_all(&set, &lower));
    assert_false(hf_gtid_set_contains_all(&lower, &set));
    hf_assert_ok(hf_gtid_set_union(&lower, &set, &err), &err);
    assert_true(hf_gtid_set_equal(&lower, &set));
    hf_gtid_set_done(&set);
    hf_gtid_set_done(&lower);
}

HF_TEST(sets_of_mysql_melt_intervals_that_touch)
{
    static const char uuid[] = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    struct hf_error err;
    char text[256];
    snprintf(text, sizeof text, "%s:1-3:9:5-6", uuid);
    struct hf_gtid_set set = set_of(HF_GTID_MYSQL, text), part;
    snprintf(text, sizeof text, "%s:4", uuid);
    const struct hf_gtid four = gtid_of(HF_GTID_MYSQL, text);
    assert_false(hf_gtid_set_contains(&set, &four));
    snprintf(text, sizeof text, "%s:2-4", uuid);
    part = set_of(HF_GTID_MYSQL, text);
    assert_false(hf_gtid_set_contains_all(&set, &part));
    hf_assert_ok(hf_gtid_set_add(&set, &four, &err), &err);
    assert_true(hf_gtid_set_contains_all(&set, &part));
    snprintf(text, sizeof text, "%s:1-6:9", uuid);
    assert_string_equal(text_of(&set), text);
    hf_gtid_set_done(&set);
    hf_gtid_set_done(&part);
}

HF_TEST(what_is_no_gtid_is_refused_with_its_text)
{
    static const char *const wrong[] = {"0-1", "0-1-", "a-1-2", "4294967296-1-1", "0-1-1,0-1-2", "0-1-1,", "0-1-1 x"};
    struct hf_gtid_set set;
    struct hf_gtid gtid;
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(wrong); i++) {
        assert_false(hf_gtid_set_parse(HF_GTID_MARIADB, wrong[i], strlen(wrong[i]), &set, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
    assert_false(hf_gtid_parse(HF_GTID_MARIADB, "0-1-x", &gtid, &err));
    assert_string_equal(err.message, "\"0-1-x\" is no GTID of MariaDB");
    assert_false(hf_gtid_parse(HF_GTID_MYSQL, "3e11fa47-71ca-11e1-9e33-c80aa9429562:0", &gtid, &err));
    assert_false(hf_gtid_set_parse(HF_GTID_MYSQL, "3e11fa47-71ca-11e1-9e33-c80aa9429562:tag:1", 42, &set, &err));
}
