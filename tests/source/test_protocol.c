/* The protocol of every release, and servers that lie. */
#include <sys/resource.h>

#include "base/digest.h"
#include "server/source/source.h"
#include "tests/source/fake_server.h"
#include "tests/source/folder_sink.h"
#include "tests/source/tar_builder.h"

static struct hf_test_fake fake;

static void must_refuse(enum hf_error_kind kind, const char *message);
static void begin_base(void);
static void alter_control(size_t at, uint64_t value);

HF_TEST(every_release_from_13_to_18_is_taken)
{
    for (unsigned version = 13; version <= 18; version++) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        struct hf_postgres_facts facts;
        struct hf_error err;

        hf_test_fake_fill(&fake, version);
        hf_assert_ok(hf_test_take_backup(hf_test_fake_start(&fake), HF_TEST_FAKE_SYSTEM, sink, &facts, &err), &err);
        assert_int_equal(facts.server_version / 10000, version);
        assert_int_equal(facts.control_version, version >= 18 ? 1800 : version == 17 ? 1700 : 1300);
        assert_int_equal(facts.manifest_files, 5);
        assert_int_equal(facts.tablespace_count, 1);
        assert_string_equal(facts.tablespaces[0].location, "/srv/space");
        assert_int_equal(sink->wal_files, 2);
        assert_int_equal(facts.wal_commits, 1);
        assert_int_equal(facts.wal_end_lsn, facts.stop_lsn);
        assert_non_null(hf_test_folder_sink_find(sink, "pg_tblspc/16400/PG_14_202107181/5/16500"));
        assert_int_equal(hf_test_folder_sink_find(sink, "backup_manifest")->digest.size, fake.manifest.length);
        // The last segment is whole, its end zeros.
        assert_int_equal(hf_test_folder_sink_find(sink, "pg_wal/000000010000000000000006")->digest.size, 1024 * 1024);
        hf_postgres_facts_done(&facts);
    }
}

HF_TEST(messages_of_any_size_make_the_same_backup)
{
    static const size_t pieces[] = {1, 511, 512, 65000};
    for (size_t i = 0; i < HF_LENGTH(pieces); i++) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        struct hf_postgres_facts facts;
        struct hf_error err;

        hf_test_fake_fill(&fake, i % 2 == 0 ? 15 : 14);
        fake.piece = pieces[i];
        hf_assert_ok(hf_test_take_backup(hf_test_fake_start(&fake), 0, sink, &facts, &err), &err);
        hf_postgres_facts_done(&facts);
    }
}

HF_TEST(only_what_is_on_stable_storage_is_reported_as_flushed)
{
    static const uint64_t said[] = {0, 0x4ff000, 0x500008};
    static const uint64_t reported[] = {0, 0x4ff000, 0x500000}; // never more than was received

    for (size_t i = 0; i < HF_LENGTH(said); i++) {
        struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
        const _Atomic uint64_t stable = said[i];
        hf_test_fake_fill(&fake, 15);
        const struct hf_source_target target = {
            .name = "clinic", .conninfo = hf_test_fake_start(&fake), .slot_tag = HF_TEST_SLOT_TAG};
        const struct hf_backup_request request = {.target = &target,
                                                  .sink = &sink->sink,
                                                  .faults = &sink->faults,
                                                  .progress = &sink->progress,
                                                  .label = "x",
                                                  .wal_wait_ms = 10000,
                                                  .wal_stable = i == 0 ? NULL : &stable};
        struct hf_postgres_facts facts;
        struct hf_error err;
        hf_assert_ok(hf_postgres_take_backup(&request, &facts, &err), &err);
        assert_int_equal(hf_test_fake_flushed(), reported[i]);
        hf_postgres_facts_done(&facts);
    }
}

HF_TEST(a_control_file_of_another_cluster_is_refused)
{
    alter_control(0, 4711);
    must_refuse(HF_ERR_CORRUPT, "\"global/pg_control\" is of the system 4711, the server is 7418237648237648234");
    static const size_t sizes[] = {216, 220, 224, 228, 252}; // blocks, segments, log blocks, log segments, checksums
    for (size_t i = 0; i < HF_LENGTH(sizes); i++) {
        alter_control(sizes[i], 0);
        must_refuse(HF_ERR_CORRUPT, "\"global/pg_control\" contradicts the server's settings");
    }
}

HF_TEST(a_manifest_of_another_cluster_is_refused)
{
    hf_test_fake_fill(&fake, 17);
    fake.manifest_system = 4711;
    hf_test_fake_remake_manifest(&fake);
    must_refuse(HF_ERR_CORRUPT, "the server's manifest is of the system 4711");
}

HF_TEST(releases_outside_are_refused)
{
    hf_test_fake_fill(&fake, 12);
    must_refuse(HF_ERR_USAGE, "\"clinic\" runs PostgreSQL 12.3, which is too old: 13 is the oldest supported");
    hf_test_fake_fill(&fake, 19);
    must_refuse(HF_ERR_USAGE, "which is newer than this Holdfast: it knows up to 18");
}

HF_TEST(an_error_behind_the_stop_row_fails_the_backup)
{
    hf_test_fake_fill(&fake, 15);
    fake.error_late = "XX001";
    must_refuse(HF_ERR_CORRUPT, "checksum verification failure during base backup (XX001)");
    hf_test_fake_fill(&fake, 14);
    fake.error_late = "XX001";
    must_refuse(HF_ERR_CORRUPT, "checksum verification failure during base backup (XX001)");
}

HF_TEST(an_error_in_the_middle_is_told_in_the_servers_words)
{
    hf_test_fake_fill(&fake, 15);
    fake.error_in_copy = "58030";
    must_refuse(HF_ERR_UNAVAILABLE, "could not read file \"base/5/1259\": Input/output error (58030)");
    hf_test_fake_fill(&fake, 13);
    fake.error_in_copy = "58030";
    must_refuse(HF_ERR_UNAVAILABLE, "could not read file \"base/5/1259\": Input/output error (58030)");
}

HF_TEST(two_servers_behind_one_name_are_noticed)
{
    hf_test_fake_fill(&fake, 15);
    fake.sysid_of_second = "4711";
    must_refuse(HF_ERR_CONFLICT, "two connections to \"clinic\" reached two different databases");
}

HF_TEST(parts_that_do_not_belong_together_are_refused)
{
    hf_test_fake_fill(&fake, 15);
    fake.start_lsn += 8; // the label says otherwise
    hf_test_fake_remake_manifest(&fake);
    must_refuse(HF_ERR_CORRUPT, "\"backup_label\" is of another backup");

    hf_test_fake_fill(&fake, 15);
    fake.stop_lsn -= 8; // the manifest says otherwise
    must_refuse(HF_ERR_CORRUPT, "the server's manifest is of another stretch of log than its answers");

    hf_test_fake_fill(&fake, 15);
    fake.stop_timeline = 2;
    must_refuse(HF_ERR_UNAVAILABLE, "the server went from timeline 1 to 2 during the backup");

    hf_test_fake_fill(&fake, 15);
    fake.stop_lsn = fake.start_lsn - 8;
    must_refuse(HF_ERR_CORRUPT, "the server says the backup ended before it started");
}

HF_TEST(what_the_manifest_and_the_tars_disagree_on_is_named)
{
    hf_test_fake_fill(&fake, 15);
    hf_buf_truncate(&fake.base, fake.base.length - 1024);
    hf_test_tar_add_file(&fake.base, "extra", "x", 1); // after the manifest was made
    hf_test_tar_end(&fake.base);
    must_refuse(HF_ERR_CORRUPT, "the server sent \"extra\", which its manifest does not name");

    hf_test_fake_fill(&fake, 15);
    hf_buf_clear(&fake.base);
    hf_test_tar_end(&fake.base);
    must_refuse(HF_ERR_CORRUPT, "the server's manifest names \"backup_label\", which it did not send");

    hf_test_fake_fill(&fake, 15);
    fake.no_manifest = true;
    must_refuse(HF_ERR_CORRUPT, "the server sent no manifest");
}

HF_TEST(a_backup_without_label_or_control_file_is_none)
{
    begin_base();
    hf_test_tar_add_file(&fake.base, "PG_VERSION", "15\n", 3);
    hf_test_tar_end(&fake.base);
    hf_test_fake_remake_manifest(&fake);
    must_refuse(HF_ERR_CORRUPT, "the server sent no \"backup_label\"");

    hf_test_fake_fill(&fake, 15);
    char *control = memmem(fake.base.data, fake.base.length, "global/pg_control", 17);
    memcpy(control, "global/pg_c0ntrol", 17);
    // The header's own sum: 'o' gave way to '0'.
    unsigned sum = (unsigned)strtoul(control + 148, NULL, 8) - 'o' + '0';
    snprintf(control + 148, 7, "%06o", sum);
    hf_test_fake_remake_manifest(&fake);
    must_refuse(HF_ERR_CORRUPT, "the server sent no \"global/pg_control\"");
}

HF_TEST(hostile_tar_members_are_refused_by_name_and_nothing_is_written)
{
    static const struct {
        struct hf_test_tar_member member;
        const char *message;
    } hostile[] = {
        {{.name = "../outside", .type = '0'}, "\"../outside\", which leads out of its folder"},
        {{.name = "/etc/cron.d/x", .type = '0'}, "which leads out of its folder"},
        {{.name = "link", .type = '2', .link = "/etc"}, "\"link\" as a link"},
        {{.name = "hard", .type = '1', .link = "backup_label"}, "\"hard\" as a link"},
        {{.name = "device", .type = '3'}, "which is neither a file nor a folder"},
        {{.name = "fifo", .type = '6'}, "which is neither a file nor a folder"},
        {{.name = "nowhere/file", .type = '0'}, "\"nowhere/file\" without its folder"},
        {{.name = "pg_wal/000000010000000000000005", .type = '0'}, "which is no part of a base backup"},
        {{.name = "backup_manifest", .type = '0'}, "which is no part of a base backup"},
        {{.name = "holdfast_config", .type = '5'}, "which is no part of a base backup"},
        {{.name = "gnu", .type = '0', .magic = "ustar  \0"}, "plain ustar was expected"},
        {{.name = "old", .type = '0', .magic = "\0\0\0\0\0\0\0\0"}, "plain ustar was expected"},
        {{.name = "long", .type = '0', .data = "x", .length = 1, .claimed = 100000},
         "cannot be read: Truncated tar archive"},
        {{.name = "backup_label", .type = '0', .data = "x", .length = 1, .claimed = 70000}, "65536 are the most"},
    };
    for (size_t i = 0; i < HF_LENGTH(hostile); i++) {
        begin_base();
        hf_test_tar_add(&fake.base, &hostile[i].member);
        must_refuse(HF_ERR_CORRUPT, hostile[i].message);
    }
    begin_base();
    hf_test_tar_add_file(&fake.base, "twice", "x", 1);
    hf_test_tar_add_file(&fake.base, "twice", "x", 1);
    must_refuse(HF_ERR_CORRUPT, "the server sent \"twice\" twice");
    begin_base();
    hf_test_tar_add_file(&fake.base, "parent", "x", 1);
    hf_test_tar_add_file(&fake.base, "parent/child", "x", 1);
    must_refuse(HF_ERR_CORRUPT, "the server sent \"parent/child\" without its folder");
    begin_base();
    hf_test_tar_add_folder(&fake.base, "pg_tblspc");
    hf_test_tar_add_folder(&fake.base, "pg_tblspc/16400");
    must_refuse(HF_ERR_CORRUPT, "the server sent \"pg_tblspc/16400\" twice");
}

HF_TEST(copy_messages_out_of_order_are_refused)
{
    hf_test_fake_fill(&fake, 15);
    fake.odd_message = 'z';
    must_refuse(HF_ERR_CORRUPT, "the server sent a message of the kind 7a in its backup");
    hf_test_fake_fill(&fake, 15);
    fake.bytes_before = true;
    must_refuse(HF_ERR_CORRUPT, "the server sent bytes that belong to no file");
    hf_test_fake_fill(&fake, 15);
    fake.second_manifest = true;
    must_refuse(HF_ERR_CORRUPT, "the server sent more behind its manifest");
    hf_test_fake_fill(&fake, 15);
    fake.tar_name = "16401.tar";
    must_refuse(HF_ERR_CORRUPT, "the server sent the tar \"16401.tar\", \"base.tar\" was next");
    hf_test_fake_fill(&fake, 15);
    fake.odd_message = 'n'; // a second announcement, without a name
    must_refuse(HF_ERR_CORRUPT, "the server announced a tar without a proper name");
    hf_test_fake_fill(&fake, 15);
    fake.odd_message = 'm'; // the manifest in place of the tar's bytes
    must_refuse(HF_ERR_CORRUPT, "the server's manifest");
}

HF_TEST(log_that_jumps_is_damaged_or_ends_is_refused)
{
    hf_test_fake_fill(&fake, 15);
    fake.wal_jump = 8;
    must_refuse(HF_ERR_CORRUPT, "the server sent log from 0/50C358 on, 0/50C350 was next");
    hf_test_fake_fill(&fake, 15);
    fake.wal_jump = (uint64_t)-8;
    must_refuse(HF_ERR_CORRUPT, "the server sent log from 0/50C348 on, 0/50C350 was next");
    hf_test_fake_fill(&fake, 15);
    fake.wal.data[70000] ^= 1;
    must_refuse(HF_ERR_CORRUPT, "a record fails its checksum");
    hf_test_fake_fill(&fake, 15);
    fake.wal.length -= 1000;
    fake.wal_ends = true;
    must_refuse(HF_ERR_UNAVAILABLE, "the server left timeline 1 at");
}

HF_TEST(log_that_stops_inside_a_record_is_no_end)
{
    hf_test_fake_fill(&fake, 15);
    fake.stop_lsn -= 8; // inside the last record: nothing before it is its end
    hf_test_fake_remake_manifest(&fake);
    fake.wal.length -= 8;
    must_refuse(HF_ERR_CORRUPT, "the log ends inside a record before");
}

HF_TEST(floods_and_absurd_lengths_stay_within_bounds)
{
    hf_test_fake_fill(&fake, 15);
    fake.notices = 200000;
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;
    hf_assert_ok(hf_test_take_backup(hf_test_fake_start(&fake), 0, sink, &facts, &err), &err);
    assert_true(strlen(facts.notices) <= 8192);
    assert_non_null(strstr(facts.notices, "WARNING: take notice\n"));
    hf_postgres_facts_done(&facts);

    // A length that may be right is not believed either: what follows is read as it comes, and is no tar.
    static const struct {
        uint32_t length;
        const char *message;
    } absurd[] = {{3, "a message of the length 3"},
                  {0x7fffffff, "the tar of \"base\" cannot be read"},
                  {0xffffffff, "a message of the length 4294967295"}};
    for (size_t i = 0; i < HF_LENGTH(absurd); i++) {
        hf_test_fake_fill(&fake, 15);
        fake.absurd_length = absurd[i].length;
        must_refuse(HF_ERR_CORRUPT, absurd[i].message);
    }
}

/* One number of pg_control changed, with a right checksum. */
static void
alter_control(size_t at, uint64_t value)
{
    hf_test_fake_fill(&fake, 15);
    uint8_t *control = memmem(fake.base.data, fake.base.length, "global/pg_control", 17);
    control += 512;
    if (at == 0)
        hf_put_u64(control, value);
    else
        hf_put_u32(control + at, (uint32_t)value);
    hf_put_u32(control + 288, hf_crc32c(0, control, 288));
    hf_test_fake_remake_manifest(&fake);
}

static void
must_refuse(enum hf_error_kind kind, const char *message)
{
    struct hf_test_folder_sink *sink = hf_test_folder_sink_new();
    struct hf_postgres_facts facts;
    struct hf_error err;

    if (hf_test_take_backup(hf_test_fake_start(&fake), 0, sink, &facts, &err))
        fail_msg("\"%s\" was expected, and it was taken", message);
    if (err.kind != kind || strstr(err.message, message) == NULL)
        fail_msg("%s: \"%s\" instead of \"%s\"", hf_error_kind_name(err.kind), err.message, message);
    assert_int_equal(sink->open_now, 0);
}

/* A base tar with nothing in it yet; the manifest no longer fits it. */
static void
begin_base(void)
{
    hf_test_fake_fill(&fake, 15);
    hf_buf_clear(&fake.base);
}
