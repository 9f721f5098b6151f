#include "tests/support/test.h"

#include "server/source/mariadb/infos.h"
#include "server/source/mariadb/mbstream.h"
#include "tests/source/stream_builder.h"

/* What a stream did, as one line of text. */
static char told[4096];

static uint64_t counted_holes;

static bool read_stream(const struct hf_buf *bytes, size_t piece, bool sparse, struct hf_error *err);
static void must_refuse(const struct hf_buf *bytes, const char *message);
static void tell(const char *format, ...) HF_PRINTF(1, 2);

HF_TEST(files_come_out_as_they_went_in_however_the_stream_is_cut)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_test_chunk_payload(&bytes, 0, "./clinic/a.ibd", 0, "0123", 4);
    hf_test_chunk_payload(&bytes, 0, "ib_logfile0", 0, "redo", 4); // two are open at a time
    hf_test_chunk_payload(&bytes, 0, "clinic/a.ibd", 4, "45", 2);
    hf_test_chunk_end(&bytes, "clinic/a.ibd");
    hf_test_chunk_end(&bytes, "mysql/slow_log.CSV"); // an empty one
    hf_test_chunk_end(&bytes, "ib_logfile0");
    for (size_t piece = 1; piece <= bytes.length; piece += 7) {
        hf_assert_ok(read_stream(&bytes, piece, false, &err), &err);
        assert_string_equal(told, "+clinic/a.ibd +ib_logfile0 -clinic/a.ibd:012345 +mysql/slow_log.CSV "
                                  "-mysql/slow_log.CSV: -ib_logfile0:redo =3");
    }
}

HF_TEST(what_the_tool_takes_back_at_its_end_is_told_in_order)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_test_chunk_end(&bytes, "clinic/a.MAD");
    hf_test_chunk_end(&bytes, "clinic/b.frm");
    hf_test_chunk_rename(&bytes, "clinic/a.MAD", "clinic/c.MAD");
    hf_test_chunk_named(&bytes, 'D', "clinic/b.frm");
    hf_test_chunk_payload(&bytes, 2, "clinic/c.MAD", 0, "x", 1); // anew
    hf_test_chunk_end(&bytes, "clinic/c.MAD");
    hf_test_chunk_end(&bytes, "clinic/b.frm"); // its name was free
    hf_test_chunk_rename(&bytes, "never/came", "comes/later");
    hf_test_chunk_payload(&bytes, 2, "comes/later", 0, "y", 1);
    hf_test_chunk_end(&bytes, "comes/later");
    hf_test_chunk_named(&bytes, 'D', "never/came");
    hf_assert_ok(read_stream(&bytes, 3, false, &err), &err);
    assert_string_equal(told, "+clinic/a.MAD -clinic/a.MAD: +clinic/b.frm -clinic/b.frm: clinic/a.MAD>clinic/c.MAD "
                              "!clinic/b.frm ++clinic/c.MAD -clinic/c.MAD:x ++clinic/b.frm -clinic/b.frm: "
                              "++comes/later -comes/later:y =3");
}

HF_TEST(a_file_that_was_renamed_before_it_came_must_come)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_test_chunk_rename(&bytes, "clinic/a.MAD", "clinic/b.MAD");
    assert_false(read_stream(&bytes, 5, false, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_string_equal(err.message, "file \"clinic/b.MAD\" is not in the backup: its table was renamed before the "
                                     "backup tool had copied it");
    hf_test_chunk_rename(&bytes, "clinic/b.MAD", "clinic/c.MAD");
    assert_false(read_stream(&bytes, 5, false, &err));
    assert_non_null(strstr(err.message, "\"clinic/c.MAD\""));
    hf_test_chunk_named(&bytes, 'D', "clinic/c.MAD"); // dropped after all
    hf_assert_ok(read_stream(&bytes, 5, false, &err), &err);
}

HF_TEST(holes_of_xbstream_become_zeros_and_are_part_of_the_checksum)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_test_chunk_payload(&bytes, 0, "a.ibd", 0, "ab", 2);
    hf_test_chunk_sparse(&bytes, "a.ibd", 2, 3, "cd", 2);
    hf_test_chunk_payload(&bytes, 0, "a.ibd", 7, "e", 1);
    hf_test_chunk_end(&bytes, "a.ibd");
    hf_assert_ok(read_stream(&bytes, 5, true, &err), &err);
    assert_string_equal(told, "+a.ibd -a.ibd:ab...cde =1");
    bytes.data[14 + 5 + 20 + 2 + 14 + 5 + 24] ^= 1; // the hole's length
    assert_false(read_stream(&bytes, 5, true, &err));
    assert_non_null(strstr(err.message, "has the checksum"));
}

HF_TEST(a_file_larger_than_any_table_can_be_is_refused_before_its_zeros_are_written)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    counted_holes = 0;
    hf_test_chunk_holes(&bytes, "a.ibd", HF_MBSTREAM_FILE_MOST / UINT32_MAX + 1, UINT32_MAX);
    assert_false(read_stream(&bytes, bytes.length, true, &err));
    assert_non_null(strstr(err.message, "file \"a.ibd\" has more than 281474976710656 bytes"));
    assert_true(counted_holes <= HF_MBSTREAM_FILE_MOST && counted_holes > HF_MBSTREAM_FILE_MOST - UINT32_MAX);
}

HF_TEST(every_broken_rule_is_refused_with_its_place)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    hf_test_chunk_payload(&bytes, 0, "a", 2, "x", 1);
    must_refuse(&bytes, "byte 36: a chunk of file \"a\" begins at byte 2, it has 1");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    must_refuse(&bytes, "begins at byte 0, it has 1");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    must_refuse(&bytes, "the stream of files ends within file \"a\"");
    hf_buf_truncate(&bytes, bytes.length - 1);
    must_refuse(&bytes, "the stream of files ends within a chunk, at byte 35");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "xy", 2);
    bytes.data[bytes.length - 1] ^= 1;
    must_refuse(&bytes, "a chunk of file \"a\" has the checksum");
    hf_buf_clear(&bytes);
    hf_test_chunk_end(&bytes, "a");
    hf_test_chunk_end(&bytes, "./a");
    must_refuse(&bytes, "byte 15: file \"a\" comes a second time");
    hf_buf_clear(&bytes);
    hf_test_chunk_named(&bytes, 'X', "a");
    must_refuse(&bytes, "a chunk has the unknown type 0x58");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 4, "a", 0, "x", 1);
    must_refuse(&bytes, "a chunk has the unknown flags 0x04");
    bytes.data[0] = 'Y';
    must_refuse(&bytes, "byte 0: a chunk does not begin with \"XBSTCK01\"");
    hf_buf_clear(&bytes);
    hf_test_chunk_end(&bytes, "a");
    hf_test_chunk_end(&bytes, "b");
    hf_test_chunk_rename(&bytes, "a", "b");
    must_refuse(&bytes, "file \"a\" is renamed to \"b\", which is there already");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    hf_test_chunk_named(&bytes, 'D', "a");
    must_refuse(&bytes, "file \"a\" is removed before it has ended");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    hf_test_chunk_rename(&bytes, "a", "c");
    must_refuse(&bytes, "file \"a\" is renamed before it has ended");
}

HF_TEST(limits_are_kept)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_MIB);
    char path[32], long_path[HF_MBSTREAM_PATH_MOST + 2];
    for (int i = 0; i < HF_MBSTREAM_OPEN_MOST + 1; i++) {
        snprintf(path, sizeof path, "%d", i);
        hf_test_chunk_payload(&bytes, 0, path, 0, "x", 1);
    }
    must_refuse(&bytes, "more than 16 files are open at a time");
    hf_buf_clear(&bytes);
    memset(long_path, 'p', sizeof long_path - 1);
    long_path[sizeof long_path - 1] = '\0';
    hf_test_chunk_end(&bytes, long_path);
    must_refuse(&bytes, "a path has 512 bytes, more than 511");
    hf_buf_clear(&bytes);
    hf_test_chunk_payload(&bytes, 0, "a", 0, "x", 1);
    bytes.data[15 + 4] = 1; // 4 GiB
    must_refuse(&bytes, "bytes, more than 67108864");
}

HF_TEST(no_name_leads_out_of_the_folder_or_to_what_is_ours)
{
    static const char *const bad[] = {"/etc/passwd",
                                      "../x",
                                      "a/../b",
                                      "a/..",
                                      "..",
                                      ".",
                                      "./",
                                      "",
                                      "a//b",
                                      "a/",
                                      "a\\b",
                                      "a\nb",
                                      "a/./b",
                                      "holdfast_config",
                                      "holdfast_config/x",
                                      "./holdfast_config/x",
                                      "1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17"};
    static const char *const good[][2] = {{"./a", "a"},
                                          {"././a/b", "a/b"},
                                          {"..a/b..", "..a/b.."},
                                          {".a", ".a"},
                                          {"holdfast_configs", "holdfast_configs"}};
    char clean[HF_MBSTREAM_PATH_MOST + 1];
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        if (hf_mbstream_clean(bad[i], strlen(bad[i]), clean, &err))
            fail_msg("\"%s\" was taken as \"%s\"", bad[i], clean);
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
    for (size_t i = 0; i < HF_LENGTH(good); i++) {
        hf_assert_ok(hf_mbstream_clean(good[i][0], strlen(good[i][0]), clean, &err), &err);
        assert_string_equal(clean, good[i][1]);
    }
}

HF_TEST(the_tools_own_files_are_read_with_limits)
{
    static const char info[] = "uuid = 5d\ntool_version = 10.11.19-MariaDB\nserver_version = 10.11.19-MariaDB-log\n"
                               "binlog_pos = filename 'b'\npartial = N\nincremental = N\ncompressed = N\n";
    static const char points[] = "backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 47992203\nlast_lsn = 47996833\n";
    static const char binlog[] = "bin.000001\t41994206\t0-1-24,1-2-3\n", mysql[] = "b.2\t7\taaaa:1-5,\nbbbb:1\n";
    _cleanup_(hf_infos_done) struct hf_infos infos;
    struct hf_error err;
    hf_infos_init(&infos);
    hf_assert_ok(hf_infos_read(&infos, HF_INFO_INFO, info, strlen(info), &err), &err);
    hf_assert_ok(hf_infos_read(&infos, HF_INFO_CHECKPOINTS, points, strlen(points), &err), &err);
    hf_assert_ok(hf_infos_read(&infos, HF_INFO_BINLOG, binlog, strlen(binlog), &err), &err);
    assert_string_equal(infos.server_version, "10.11.19-MariaDB-log");
    assert_int_equal(infos.from_lsn, 47992203);
    assert_int_equal(infos.last_lsn, 47996833);
    assert_string_equal(infos.binlog_file, "bin.000001");
    assert_int_equal(infos.binlog_position, 41994206);
    assert_string_equal(hf_buf_text(&infos.gtid), "0-1-24,1-2-3");
    hf_assert_ok(hf_infos_read(&infos, HF_INFO_BINLOG, mysql, strlen(mysql), &err), &err);
    assert_string_equal(hf_buf_text(&infos.gtid), "aaaa:1-5,bbbb:1");
    assert_int_equal(hf_info_of("mariadb_backup_binlog_info"), HF_INFO_BINLOG);
    assert_int_equal(hf_info_of("clinic/xtrabackup_info"), HF_INFO_NONE);

    static const struct {
        enum hf_info which;
        const char *text, *message;
    } bad[] = {
        {HF_INFO_INFO, "incremental = Y\n", "\"incremental\" is not \"N\": that is no whole backup"},
        {HF_INFO_INFO, "compressed = compressed\n", "\"compressed\" is not \"N\""},
        {HF_INFO_INFO, "tool_version = a b\n", "is no text of at most"},
        {HF_INFO_CHECKPOINTS, "backup_type = incremental\n", "is not \"full-backuped\""},
        {HF_INFO_CHECKPOINTS, "last_lsn = 99999999999999999999\n", "\"last_lsn\" is no number"},
        {HF_INFO_CHECKPOINTS, "to_lsn = 9\nlast_lsn = 8\n", "does not say up to where"},
        {HF_INFO_BINLOG, "no tab here\n", "is no file and position"},
        {HF_INFO_BINLOG, "b.1\t12x\n", "\"position\" is no number"},
        {HF_INFO_BINLOG, "b.1\t12\t0-1-\x01\n", "has GTIDs that are none"},
    };
    for (size_t i = 0; i < HF_LENGTH(bad); i++) {
        _cleanup_(hf_infos_done) struct hf_infos other;
        hf_infos_init(&other);
        assert_false(hf_infos_read(&other, bad[i].which, bad[i].text, strlen(bad[i].text), &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        if (strstr(err.message, bad[i].message) == NULL)
            fail_msg("%s: %s", bad[i].text, err.message);
    }
}

/* A file of the stream while it is open. */
struct open_file {
    char path[64], bytes[64];
    size_t length;
};

static struct open_file files[16]; // of one stream
static size_t file_count;

static bool
begin(void *context, const char *path, bool again, void **ret_file, struct hf_error *err)
{
    (void)context;
    (void)err;
    assert_true(file_count < HF_LENGTH(files));
    struct open_file *file = &files[file_count++];
    *file = (struct open_file){0};
    snprintf(file->path, sizeof file->path, "%s", path);
    tell("%s%s ", again ? "++" : "+", path);
    *ret_file = file;
    return true;
}

static bool
take(void *context, void *opened, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct open_file *file = opened;
    (void)context;
    (void)err;
    memcpy(file->bytes + file->length, data, length);
    file->length += length;
    return true;
}

static bool
hole(void *context, void *opened, uint64_t length, struct hf_error *err)
{
    counted_holes += length;
    return length > 10 || take(context, opened, (const uint8_t *)"..........", (size_t)length, err);
}

static bool
end(void *context, void *opened, struct hf_error *err)
{
    struct open_file *file = opened;
    (void)context;
    (void)err;
    tell("-%s:%s ", file->path, file->bytes);
    return true;
}

static bool
renamed(void *context, const char *from, const char *to, struct hf_error *err)
{
    (void)context;
    (void)err;
    tell("%s>%s ", from, to);
    return true;
}

static bool
removed(void *context, const char *path, struct hf_error *err)
{
    (void)context;
    (void)err;
    tell("!%s ", path);
    return true;
}

static bool
read_stream(const struct hf_buf *bytes, size_t piece, bool sparse, struct hf_error *err)
{
    const struct hf_mbstream_events events = {
        .begin = begin, .data = take, .hole = hole, .end = end, .renamed = renamed, .removed = removed};
    _cleanup_(hf_mbstream_freep) struct hf_mbstream *stream = NULL;
    told[0] = '\0';
    file_count = 0;
    hf_assert_ok(hf_mbstream_new(&events, sparse, &stream, err), err);
    for (size_t at = 0; at < bytes->length; at += piece)
        if (!hf_mbstream_feed(stream, bytes->data + at, at + piece > bytes->length ? bytes->length - at : piece, err))
            return false;
    if (!hf_mbstream_end(stream, err))
        return false;
    tell("=%d", (int)hf_mbstream_files(stream));
    return true;
}

static void
must_refuse(const struct hf_buf *bytes, const char *message)
{
    struct hf_error err;
    assert_false(read_stream(bytes, bytes->length, false, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, message) == NULL)
        fail_msg("%s, and not: %s", err.message, message);
}

static void
tell(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(told + strlen(told), sizeof told - strlen(told), format, arguments);
    va_end(arguments);
}
