/* The server's manifest: one real layout, and every way to bend it. */
#include "base/digest.h"
#include "base/id.h"
#include "server/source/postgres/manifest.h"
#include "tests/support/test.h"

static const char first_version[] =
    "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n"
    "\"Files\": [\n"
    "{ \"Path\": \"backup_label\", \"Size\": 225, \"Last-Modified\": \"2026-11-22 14:03:07 GMT\", "
    "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"78563412\" },\n"
    "{ \"Encoded-Path\": \"636166e9\", \"Size\": 0, \"Last-Modified\": \"2026-11-22 14:03:07 GMT\", "
    "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\" },\n"
    "{ \"Path\": \"base/5/1259\", \"Size\": 9663676416, \"Last-Modified\": \"2026-11-22 14:03:07 GMT\", "
    "\"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"ffffffff\" }\n"
    "],\n"
    "\"WAL-Ranges\": [\n"
    "{ \"Timeline\": 1, \"Start-LSN\": \"0/2000028\", \"End-LSN\": \"0/2000100\" }\n"
    "],\n";

/* What came out of one reading. */
struct seen {
    char names[512]; // "path:size:crc " each
    struct hf_backup_manifest_summary summary;
    size_t refuse_at; // the callback refuses the file with this number, from 1; 0: none
    size_t files;
};

static bool read_all(const char *text, size_t length, size_t step, struct seen *seen, struct hf_error *err);
static bool note(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err);
static const char *sealed(const char *body);
static void must_refuse(const char *from, const char *to, const char *message);

HF_TEST(a_manifest_is_read_the_same_however_it_is_cut)
{
    static const size_t steps[] = {1, 2, 7, 100, 100000};
    const char *text = sealed(first_version);
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(steps); i++) {
        struct seen seen = {.files = 0};
        hf_assert_ok(read_all(text, strlen(text), steps[i], &seen, &err), &err);
        assert_string_equal(seen.names,
                            "backup_label:225:12345678 caf\xe9:0:00000000 base/5/1259:9663676416:ffffffff ");
        assert_int_equal(seen.summary.version, 1);
        assert_int_equal(seen.summary.files, 3);
        assert_int_equal(seen.summary.range_count, 1);
        assert_int_equal(seen.summary.ranges[0].timeline, 1);
        assert_int_equal(seen.summary.ranges[0].start_lsn, 0x2000028);
        assert_int_equal(seen.summary.ranges[0].end_lsn, 0x2000100);
    }
}

HF_TEST(the_second_version_names_its_system)
{
    char body[4096];
    struct seen seen = {.files = 0};
    struct hf_error err;

    snprintf(body, sizeof body,
             "{ \"PostgreSQL-Backup-Manifest-Version\": 2,\n\"System-Identifier\": 18446744073709551615,\n%s",
             strchr(first_version, '\n') + 1);
    const char *text = sealed(body);
    hf_assert_ok(read_all(text, strlen(text), 4096, &seen, &err), &err);
    assert_true(seen.summary.system_identifier == UINT64_MAX);
    assert_int_equal(seen.summary.version, 2);
}

HF_TEST(every_changed_byte_is_refused)
{
    const char *text = sealed(first_version);
    size_t length = strlen(text);
    char changed[4096];
    struct hf_error err;

    for (size_t at = 0; at < length; at++)
        for (unsigned bit = 0; bit < 8; bit += 3) {
            struct seen seen = {.files = 0};
            memcpy(changed, text, length + 1);
            changed[at] = (char)(changed[at] ^ (1 << bit));
            if (read_all(changed, length, 4096, &seen, &err))
                fail_msg("byte %zu, bit %u changed and nobody noticed", at, bit);
            assert_int_equal(err.kind, HF_ERR_CORRUPT);
        }
}

HF_TEST(every_cut_is_refused)
{
    const char *text = sealed(first_version);
    struct hf_error err;

    for (size_t length = 0; length < strlen(text); length++) {
        struct seen seen = {.files = 0};
        assert_false(read_all(text, length, 4096, &seen, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
    }
}

HF_TEST(lines_that_do_not_belong_are_refused_with_their_number)
{
    // Each is sealed anew, so that the checksum is right and only the reading can refuse.
    must_refuse("Version\": 1", "Version\": 3", "line 1: its version 3 is not known here");
    must_refuse("\"Files\": [", "\"File\": [", "line 2: '\"Files\": [' was expected");
    must_refuse("base/5/1259", "base/../1259", "line 5: the server sent the name \"base/../1259\"");
    must_refuse("base/5/1259", "/etc/passwd", "line 5");
    must_refuse("base/5/1259", "./base", "line 5: the path \"./base\" is not plain");
    must_refuse("\"636166e9\"", "\"636166e\"", "line 4: a path is not in hex");
    must_refuse("\"636166e9\"", "\"63610066\"", "line 4: a path holds a zero byte");
    must_refuse("\"Encoded-Path\": \"636166e9\"", "\"Path\": \"a\", \"Encoded-Path\": \"61\"",
                "line 4: a file has two paths");
    must_refuse("\"Size\": 225", "\"Size\": -1", "line 3");
    must_refuse("\"Size\": 225", "\"Size\": 1.5", "line 3");
    must_refuse("\"Size\": 225", "\"Size\": \"225\"", "line 3");
    must_refuse("CRC32C\", \"Checksum\": \"7856", "NONE\", \"Checksum\": \"7856",
                "has a checksum of the kind \"NONE\"");
    must_refuse("\"78563412\"", "\"785634\"", "line 3");
    must_refuse("78563412\" },", "78563412\" }", "line 4: '],' was expected");
    must_refuse("ffffffff\" }\n", "ffffffff\" },\n", "line 6");
    must_refuse("\"0/2000028\"", "\"0:2000028\"", "line 8");
    must_refuse("\"Timeline\": 1", "\"Timeline\": 0", "line 8");
    must_refuse("\"Size\": 225", "\"Size\": 225, \"Size\": 226", "line 3");
}

HF_TEST(its_own_checksum_must_be_right_and_last)
{
    char text[9000];
    struct hf_error err;
    struct seen seen = {.files = 0};

    snprintf(text, sizeof text, "%s", sealed(first_version));
    size_t length = strlen(text);
    text[length - 5] = text[length - 5] == '0' ? '1' : '0';
    assert_false(read_all(text, length, 4096, &seen, &err));
    assert_string_equal(err.message, "the server's manifest, line 10: its own checksum is wrong");

    seen = (struct seen){.files = 0};
    snprintf(text, sizeof text, "%s{}\n", sealed(first_version));
    assert_false(read_all(text, strlen(text), 4096, &seen, &err));
    assert_string_equal(err.message, "the server's manifest, line 11: there is more behind its end");
}

HF_TEST(bytes_behind_the_end_are_refused_also_without_a_line_end)
{
    char text[9000];
    struct seen seen = {.files = 0};
    struct hf_error err;

    snprintf(text, sizeof text, "%s ", sealed(first_version));
    assert_false(read_all(text, strlen(text), 4096, &seen, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
}

HF_TEST(an_endless_line_is_refused_at_its_limit)
{
    _cleanup_(hf_freep) char *text = malloc(HF_BACKUP_MANIFEST_LINE_MOST + 1);
    struct seen seen = {.files = 0};
    struct hf_error err;

    assert_non_null(text);
    memset(text, 'x', HF_BACKUP_MANIFEST_LINE_MOST + 1);
    assert_false(read_all(text, HF_BACKUP_MANIFEST_LINE_MOST + 1, 1000, &seen, &err));
    assert_string_equal(err.message, "the server's manifest, line 1: it is longer than 16384 bytes");
}

HF_TEST(a_refusing_reader_stops_it)
{
    const char *text = sealed(first_version);
    struct seen seen = {.refuse_at = 2};
    struct hf_error err;

    assert_false(read_all(text, strlen(text), 4096, &seen, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_int_equal(seen.files, 2);
}

static bool
read_all(const char *text, size_t length, size_t step, struct seen *seen, struct hf_error *err)
{
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;

    if (!hf_backup_manifest_new(note, seen, &manifest, err))
        return false;
    for (size_t at = 0; at < length; at += step)
        if (!hf_backup_manifest_feed(manifest, text + at, length - at < step ? length - at : step, err))
            return false;
    return hf_backup_manifest_finish(manifest, &seen->summary, err);
}

static bool
note(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err)
{
    struct seen *seen = context;
    size_t length = strlen(seen->names);

    if (++seen->files == seen->refuse_at)
        return hf_fail(err, HF_ERR_CONFLICT, "enough");
    snprintf(seen->names + length, sizeof seen->names - length, "%s:%llu:%08x ", file->path,
             (unsigned long long)file->size, file->crc32c);
    return true;
}

/* The body with the last line that a server would write. */
static const char *
sealed(const char *body)
{
    static char text[8192];
    uint8_t digest[HF_SHA256_BYTES];
    char hex[2 * HF_SHA256_BYTES + 1];

    hf_sha256(body, strlen(body), digest);
    hf_hex_format(digest, sizeof digest, hex);
    snprintf(text, sizeof text, "%s\"Manifest-Checksum\": \"%s\"}\n", body, hex);
    return text;
}

static void
must_refuse(const char *from, const char *to, const char *message)
{
    char body[4096];
    struct seen seen = {.files = 0};
    struct hf_error err;

    const char *at = strstr(first_version, from);
    assert_non_null(at);
    snprintf(body, sizeof body, "%.*s%s%s", (int)(at - first_version), first_version, to, at + strlen(from));
    const char *text = sealed(body);
    if (read_all(text, strlen(text), 4096, &seen, &err))
        fail_msg("\"%s\" was taken", to);
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, message) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", err.message, message);
}
