/* Names, pg_control, backup_label and positions: the small things a server sends. */
#include "base/buf.h"
#include "base/digest.h"
#include "server/source/postgres/connection.h"
#include "server/source/postgres/control.h"
#include "server/source/postgres/inventory.h"
#include "server/source/postgres/label.h"
#include "server/source/postgres/path.h"
#include "server/source/postgres/wal_format.h"
#include "tests/support/test.h"

static const char label_text[] = "START WAL LOCATION: 16/B3000028 (file 0000000200000016000000B3)\n"
                                 "CHECKPOINT LOCATION: 16/B3000060\n"
                                 "BACKUP METHOD: streamed\n"
                                 "BACKUP FROM: standby\n"
                                 "START TIME: 2026-11-22 14:03:07 UTC\n"
                                 "LABEL: nightly\n"
                                 "START TIMELINE: 2\n";

static bool tell_digest(void *context, const char *path, struct hf_backup_digest *ret, struct hf_error *err);
static void make_control(uint8_t *control, uint32_t version, size_t crc_at);

HF_TEST(plain_names_come_through_with_their_prefix)
{
    static const struct {
        const char *prefix, *name, *clean;
    } names[] = {
        {"", "base/5/1259", "base/5/1259"},
        {"", "./pg_wal/archive_status/", "pg_wal/archive_status"},
        {"", "base/", "base"},
        {"pg_tblspc/16400", "PG_15_202209061/5/1", "pg_tblspc/16400/PG_15_202209061/5/1"},
        {"", "caf\xe9", "caf\xe9"},
        {"", "..hidden", "..hidden"},
        {"", "a b", "a b"},
    };
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        char path[HF_BACKUP_PATH_BYTES];
        struct hf_error err;
        hf_assert_ok(hf_postgres_path_clean(names[i].prefix, names[i].name, path, &err), &err);
        assert_string_equal(path, names[i].clean);
    }
}

HF_TEST(names_that_lead_astray_are_refused)
{
    static const char *const names[] = {
        "",     "/",     "./", "/etc/passwd", "..",    "../x", "a/../b", "a/..",  "./../x",
        "a//b", "a/./b", ".",  "a\nb",        "a\x7f", "\x01", "a\\b",   "././a", "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p/q"};
    char path[HF_BACKUP_PATH_BYTES] = "untouched", longest[2000];
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        assert_false(hf_postgres_path_clean("", names[i], path, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_string_equal(path, "untouched");
    }
    memset(longest, 'a', sizeof longest);
    longest[256] = '\0';
    assert_false(hf_postgres_path_clean("", longest, path, &err)); // one part of 256 bytes
    longest[255] = '\0';
    assert_true(hf_postgres_path_clean("", longest, path, &err));
    for (size_t i = 0; i < 1999; i++)
        longest[i] = i % 200 == 199 ? '/' : 'a';
    longest[1024] = '\0';
    assert_true(hf_postgres_path_clean("", longest, path, &err));
    longest[1024] = 'a';
    longest[1025] = '\0';
    assert_false(hf_postgres_path_clean("", longest, path, &err));
}

HF_TEST(relations_are_told_from_other_files_by_their_names)
{
    static const struct {
        const char *path;
        bool relation;
        uint32_t segment;
    } files[] = {
        {"base/5/1259", true, 0},
        {"base/5/1259.1", true, 1},
        {"base/5/1259_fsm", true, 0},
        {"base/5/1259_vm.3", true, 3},
        {"base/5/1259_init", true, 0},
        {"global/1262", true, 0},
        {"pg_tblspc/16400/PG_15_202209061/5/77.12", true, 12},
        {"global/pg_control", false, 0},
        {"global/pg_filenode.map", false, 0},
        {"base/5/PG_VERSION", false, 0},
        {"base/5/t3_16384", false, 0},
        {"base/5/1259.0", false, 0},
        {"base/5/1259.", false, 0},
        {"base/5/1259.01", false, 0},
        {"base/5/1259_fsm_vm", false, 0},
        {"base/5/01259", false, 0},
        {"base/5/1259.32768", false, 0}, // 32768 x 131072 blocks are more than there can be
        {"base/5/4294967296", false, 0},
        {"base/5", false, 0},
        {"base/x/1259", false, 0},
        {"pg_tblspc/16400/5/77", false, 0},
        {"pg_tblspc/16400/PG_15_202209061/77", false, 0},
        {"pg_xact/0000", false, 0},
        {"1259", false, 0},
    };
    for (size_t i = 0; i < HF_LENGTH(files); i++) {
        uint32_t segment = 0;
        if (hf_postgres_path_is_relation(files[i].path, 131072, &segment) != files[i].relation)
            fail_msg("\"%s\" was taken for the wrong kind", files[i].path);
        assert_int_equal(segment, files[i].segment);
    }
}

HF_TEST(positions_are_read_strictly)
{
    static const char *const wrong[] = {"",    "/",    "1",    "1/",   "/1",          "1/2/3",
                                        "g/1", " 1/2", "1/2 ", "-1/2", "123456789/0", "0/123456789"};
    char text[HF_LSN_TEXT_BYTES];
    uint64_t lsn;
    struct hf_error err;

    hf_assert_ok(hf_lsn_parse("16/B374D848", &lsn, &err), &err);
    assert_int_equal(lsn, 0x16b374d848);
    assert_string_equal(hf_lsn_format(lsn, text), "16/B374D848");
    hf_assert_ok(hf_lsn_parse("FFFFFFFF/ffffffff", &lsn, &err), &err);
    assert_true(lsn == UINT64_MAX);
    for (size_t i = 0; i < HF_LENGTH(wrong); i++)
        assert_false(hf_lsn_parse(wrong[i], &lsn, &err));
}

HF_TEST(segments_are_named_in_hex_for_every_size)
{
    char name[HF_WAL_NAME_BYTES];

    assert_string_equal(hf_wal_segment_name(1, 0x3000028, 16 << 20, name), "000000010000000000000003");
    assert_string_equal(hf_wal_segment_name(10, 0x16b374d848, 16 << 20, name), "0000000A00000016000000B3");
    assert_string_equal(hf_wal_segment_name(1, 0x16b374d848, 1 << 20, name), "000000010000001600000B37");
    assert_string_equal(hf_wal_segment_name(1, 0x1640000000, 1 << 30, name), "000000010000001600000001");
    assert_true(hf_wal_segment_bytes_valid(1 << 20) && hf_wal_segment_bytes_valid(1 << 30));
    assert_false(hf_wal_segment_bytes_valid(1 << 19) || hf_wal_segment_bytes_valid(3 << 20) ||
                 hf_wal_segment_bytes_valid(UINT64_C(1) << 31));
}

HF_TEST(pg_control_is_read_in_all_its_versions)
{
    static const struct {
        uint32_t version;
        size_t crc_at;
    } layouts[] = {{1300, 288}, {1700, 288}, {1800, 292}};
    uint8_t control[HF_POSTGRES_CONTROL_BYTES];
    struct hf_postgres_control read;
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(layouts); i++) {
        make_control(control, layouts[i].version, layouts[i].crc_at);
        hf_assert_ok(hf_postgres_control_parse(control, sizeof control, &read, &err), &err);
        assert_int_equal(read.system_identifier, 7418237648237648234);
        assert_int_equal(read.max_locks_per_xact, 64);
        assert_int_equal(read.segment_blocks, 131072);
        // Every byte under the checksum counts.
        for (size_t at = 0; at < layouts[i].crc_at + 4; at++) {
            control[at] ^= 1;
            assert_false(hf_postgres_control_parse(control, sizeof control, &read, &err));
            control[at] ^= 1;
        }
    }
    assert_false(hf_postgres_control_parse(control, sizeof control - 1, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    make_control(control, 1201, 288);
    assert_false(hf_postgres_control_parse(control, sizeof control, &read, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, "\"global/pg_control\" has version 1201, which is not known here");
}

HF_TEST(a_label_is_read_and_an_incremental_one_refused)
{
    struct hf_postgres_label label;
    struct hf_error err;
    char text[1024];

    hf_assert_ok(hf_postgres_label_parse(label_text, &label, &err), &err);
    assert_int_equal(label.start_lsn, 0x16b3000028);
    assert_int_equal(label.checkpoint_lsn, 0x16b3000060);
    assert_int_equal(label.timeline, 2);
    assert_true(label.from_standby);

    snprintf(text, sizeof text, "%sINCREMENTAL FROM LSN: 16/A0000028\n", label_text);
    assert_false(hf_postgres_label_parse(text, &label, &err));
    assert_non_null(strstr(err.message, "incremental"));

    // Without any one of the lines that matter it is refused by the name of that line.
    static const char *const needed[] = {"START WAL LOCATION", "CHECKPOINT LOCATION", "BACKUP METHOD", "BACKUP FROM",
                                         "START TIMELINE"};
    for (size_t i = 0; i < HF_LENGTH(needed); i++) {
        snprintf(text, sizeof text, "%s", label_text);
        *strstr(text, needed[i]) = '?';
        assert_false(hf_postgres_label_parse(text, &label, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_non_null(strstr(err.message, needed[i]));
    }
}

HF_TEST(roles_are_quoted_only_where_they_must_be)
{
    char text[32];

    assert_string_equal(hf_postgres_quote_name("backup_1", text, sizeof text), "backup_1");
    assert_string_equal(hf_postgres_quote_name("Back Up", text, sizeof text), "\"Back Up\"");
    assert_string_equal(hf_postgres_quote_name("a\"b", text, sizeof text), "\"a\"\"b\"");
    assert_string_equal(hf_postgres_quote_name("1st", text, sizeof text), "\"1st\"");
    assert_string_equal(hf_postgres_quote_name("", text, sizeof text), "\"\"");
    char small[8];
    hf_postgres_quote_name("Abcdefghijkl\"\"\"", small, sizeof small);
    assert_true(strlen(small) < sizeof small);
}

HF_TEST(an_inventory_holds_the_manifest_and_the_files_against_each_other)
{
    _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = NULL;
    struct hf_error err;
    char path[64];

    hf_assert_ok(hf_inventory_new(&inventory, &err), &err);
    hf_assert_ok(hf_inventory_add_folder(inventory, "base", &err), &err);
    for (unsigned i = 0; i < 20000; i++) { // past several growths of its table
        snprintf(path, sizeof path, "base/%u", i);
        hf_assert_ok(hf_inventory_add_file(inventory, path, &err), &err);
        hf_inventory_finish_file(inventory, i);
    }
    assert_int_equal(hf_inventory_files(inventory), 20000);
    assert_false(hf_inventory_add_file(inventory, "base/19999", &err));
    assert_string_equal(err.message, "the server sent \"base/19999\" twice");
    assert_false(hf_inventory_add_folder(inventory, "base", &err));
    assert_false(hf_inventory_add_file(inventory, "global/1", &err));
    assert_string_equal(err.message, "the server sent \"global/1\" without its folder");
    assert_false(hf_inventory_add_file(inventory, "base/1/2", &err)); // below a file

    hf_assert_ok(hf_inventory_promise(inventory, "base/7", 7, 0, &err), &err);
    assert_false(hf_inventory_promise(inventory, "base/7", 7, 0, &err));
    assert_string_equal(err.message, "the server's manifest names \"base/7\" twice");
    assert_false(hf_inventory_promise(inventory, "base/8", 9, 0, &err));
    assert_string_equal(err.message, "\"base/8\" arrived with 8 bytes, the server's manifest says 9");
    assert_false(hf_inventory_promise(inventory, "base", 0, 0, &err));
    assert_false(hf_inventory_promise(inventory, "base/20000", 0, 0, &err));
    assert_string_equal(err.message, "the server's manifest names \"base/20000\", which it did not send");
}

HF_TEST(a_sink_that_kept_something_else_is_found_out)
{
    static const struct {
        struct hf_backup_digest digest;
        const char *message;
    } kept[] = {
        {{7, 0x1234}, ""},
        {{6, 0x1234}, "\"label\" was stored with 6 bytes instead of 7"},
        {{7, 0x1235}, "\"label\" arrived with the checksum 00001235, the server's manifest says 00001234"},
        {{8, 0}, "\"label\": it is nowhere"},
    };
    for (size_t i = 0; i < HF_LENGTH(kept); i++) {
        _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = NULL;
        struct hf_backup_digest digest = kept[i].digest;
        const struct hf_backup_sink sink = {.context = &digest, .digest_of = tell_digest};
        struct hf_error err = {.kind = HF_ERR_NONE};

        hf_assert_ok(hf_inventory_new(&inventory, &err), &err);
        hf_assert_ok(hf_inventory_add_file(inventory, "label", &err), &err);
        hf_inventory_finish_file(inventory, 7);
        hf_assert_ok(hf_inventory_promise(inventory, "label", 7, 0x1234, &err), &err);
        assert_int_equal(hf_inventory_compare(inventory, &sink, &err), i == 0);
        assert_string_equal(err.message, kept[i].message);
    }
}

/* What the context says; 8 bytes stand for a file it never had. */
static bool
tell_digest(void *context, __attribute__((unused)) const char *path, struct hf_backup_digest *ret, struct hf_error *err)
{
    *ret = *(const struct hf_backup_digest *)context;
    return ret->size != 8 || hf_fail(err, HF_ERR_NOT_FOUND, "it is nowhere");
}

static void
make_control(uint8_t *control, uint32_t version, size_t crc_at)
{
    memset(control, 0, HF_POSTGRES_CONTROL_BYTES);
    hf_put_u64(control, 7418237648237648234);
    hf_put_u32(control + 8, version);
    hf_put_u32(control + 196, 64);
    hf_put_u32(control + 220, 131072);
    hf_put_u32(control + crc_at, hf_crc32c(0, control, crc_at));
}
