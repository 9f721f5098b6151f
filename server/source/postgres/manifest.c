#include "server/source/postgres/manifest.h"

#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "server/source/postgres/path.h"
#include "server/source/postgres/wal_format.h"

#define WHAT "the server's manifest"

enum expecting { VERSION_LINE, SYSTEM_LINE, FILES_LINE, FILE_LINE, RANGES_LINE, RANGE_LINE, CHECKSUM_LINE, THE_END };

struct hf_backup_manifest {
    hf_backup_manifest_file_function *on_file;
    void *context; // borrowed from the caller
    enum expecting expecting;
    bool list_ended; // the last object of a list had no comma
    struct hf_backup_manifest_summary summary;
    struct hf_buf line; // as far as it has come, without its end
    uint64_t lines;
    struct hf_sha256 *digest;
};

static bool take_line(struct hf_backup_manifest *manifest, struct hf_error *err);
static bool parse_line(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err);
static bool parse_version(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err);
static bool parse_system(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err);
static bool parse_file(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err);
static bool read_path(const json_t *object, char path[static HF_BACKUP_PATH_BYTES], struct hf_error *err);
static bool parse_range(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err);
static bool parse_object(struct hf_backup_manifest *manifest, const char *text, size_t length, json_t **ret,
                         struct hf_error *err);
static bool check_digest(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err);
static bool take_number(const char *text, const char *before, const char *behind, uint64_t *ret);
static bool expect(const char *text, const char *wanted, struct hf_error *err);

bool
hf_backup_manifest_new(hf_backup_manifest_file_function *on_file, void *context, struct hf_backup_manifest **ret,
                       struct hf_error *err)
{
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = calloc(1, sizeof *manifest);
    if (manifest == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for " WHAT);
    manifest->on_file = on_file;
    manifest->context = context;
    manifest->line = HF_BUF_INIT(HF_BACKUP_MANIFEST_LINE_MOST);
    if (!hf_sha256_new(&manifest->digest, err))
        return false;
    *ret = HF_TAKE(manifest);
    return true;
}

void
hf_backup_manifest_freep(struct hf_backup_manifest **manifest)
{
    if (*manifest == NULL)
        return;
    hf_buf_done(&(*manifest)->line);
    hf_sha256_freep(&(*manifest)->digest);
    free(*manifest);
    *manifest = NULL;
}

bool
hf_backup_manifest_feed(struct hf_backup_manifest *manifest, const void *data, size_t length, struct hf_error *err)
{
    const uint8_t *at = data, *end = at + length;

    while (at < end) {
        const uint8_t *line_end = memchr(at, '\n', (size_t)(end - at));
        const uint8_t *stop = line_end == NULL ? end : line_end;
        if (manifest->line.length + (size_t)(stop - at) > HF_BACKUP_MANIFEST_LINE_MOST)
            return hf_fail(err, HF_ERR_CORRUPT, WHAT ", line %" PRIu64 ": it is longer than %zu bytes",
                           manifest->lines + 1, HF_BACKUP_MANIFEST_LINE_MOST);
        if (!hf_buf_add(&manifest->line, at, (size_t)(stop - at), err))
            return false;
        if (line_end == NULL)
            return true;
        if (!take_line(manifest, err))
            return hf_fail_within(err, WHAT ", line %" PRIu64, manifest->lines);
        at = line_end + 1;
    }
    return true;
}

bool
hf_backup_manifest_finish(const struct hf_backup_manifest *manifest, struct hf_backup_manifest_summary *ret,
                          struct hf_error *err)
{
    if (manifest->expecting != THE_END || manifest->line.length > 0)
        return hf_fail(err, HF_ERR_CORRUPT, WHAT " ends too early, after line %" PRIu64, manifest->lines);
    *ret = manifest->summary;
    return true;
}

static bool
take_line(struct hf_backup_manifest *manifest, struct hf_error *err)
{
    const char *text = hf_buf_text(&manifest->line);
    size_t length = manifest->line.length;

    manifest->lines++;
    if (memchr(text, '\0', length) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "it holds a zero byte");
    if (!parse_line(manifest, text, length, err))
        return false;

    // The digest is over every line but the last, with their ends.
    hf_sha256_add(manifest->digest, text, length);
    hf_sha256_add(manifest->digest, "\n", 1);
    hf_buf_clear(&manifest->line);
    return true;
}

static bool
parse_line(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err)
{
    switch (manifest->expecting) {
    case VERSION_LINE:
        return parse_version(manifest, text, err);
    case SYSTEM_LINE:
        return parse_system(manifest, text, err);
    case FILES_LINE:
        manifest->expecting = FILE_LINE;
        manifest->list_ended = false;
        return expect(text, "\"Files\": [", err);
    case FILE_LINE:
        if (!manifest->list_ended)
            return parse_file(manifest, text, length, err);
        manifest->expecting = RANGES_LINE;
        return expect(text, "],", err);
    case RANGES_LINE:
        manifest->expecting = RANGE_LINE;
        manifest->list_ended = false;
        return expect(text, "\"WAL-Ranges\": [", err);
    case RANGE_LINE:
        if (!manifest->list_ended)
            return parse_range(manifest, text, length, err);
        manifest->expecting = CHECKSUM_LINE;
        return expect(text, "],", err);
    case CHECKSUM_LINE:
        manifest->expecting = THE_END;
        return check_digest(manifest, text, err);
    case THE_END:
        break;
    }
    return hf_fail(err, HF_ERR_CORRUPT, "there is more behind its end");
}

static bool
parse_version(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err)
{
    uint64_t version;

    if (!take_number(text, "{ \"PostgreSQL-Backup-Manifest-Version\": ", ",", &version))
        return hf_fail(err, HF_ERR_CORRUPT, "it does not begin with its version");
    if (version != 1 && version != 2)
        return hf_fail(err, HF_ERR_CORRUPT, "its version %" PRIu64 " is not known here", version);
    manifest->summary.version = (uint32_t)version;
    manifest->expecting = version == 1 ? FILES_LINE : SYSTEM_LINE;
    return true;
}

static bool
parse_system(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err)
{
    if (!take_number(text, "\"System-Identifier\": ", ",", &manifest->summary.system_identifier))
        return hf_fail(err, HF_ERR_CORRUPT, "the system identifier is missing");
    manifest->expecting = FILES_LINE;
    return true;
}

static bool
parse_file(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *object = NULL;
    char path[HF_BACKUP_PATH_BYTES];
    const char *algorithm;
    uint8_t checksum[sizeof(uint32_t)];
    int64_t size;

    if (!parse_object(manifest, text, length, &object, err) || !read_path(object, path, err) ||
        !hf_json_integer(object, "Size", WHAT, 0, INT64_MAX, &size, err) ||
        !hf_json_string(object, "Checksum-Algorithm", WHAT, &algorithm, err))
        return false;
    if (strcmp(algorithm, "CRC32C") != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" has a checksum of the kind \"%s\", CRC32C was asked for", path,
                       algorithm);
    if (!hf_json_bytes(object, "Checksum", WHAT, checksum, sizeof checksum, err))
        return false;

    manifest->summary.files++;
    const char *modified = json_string_value(json_object_get(object, "Last-Modified"));
    const struct hf_backup_manifest_file file = {path, (uint64_t)size, hf_get_u32(checksum),
                                                 modified != NULL ? modified : ""};
    return manifest->on_file(manifest->context, &file, err);
}

static bool
read_path(const json_t *object, char path[static HF_BACKUP_PATH_BYTES], struct hf_error *err)
{
    char decoded[HF_BACKUP_PATH_BYTES] = "";
    const char *name;

    if (json_object_get(object, "Path") != NULL) {
        if (json_object_get(object, "Encoded-Path") != NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "a file has two paths");
        if (!hf_json_string(object, "Path", WHAT, &name, err))
            return false;
    } else {
        if (!hf_json_string(object, "Encoded-Path", WHAT, &name, err))
            return false;
        size_t bytes = strlen(name) / 2;
        if (bytes >= sizeof decoded)
            return hf_fail(err, HF_ERR_CORRUPT, "a path is longer than %zu bytes", sizeof decoded - 1);
        if (!hf_hex_parse(name, (uint8_t *)decoded, bytes, NULL))
            return hf_fail(err, HF_ERR_CORRUPT, "a path is not in hex");
        if (strlen(decoded) != bytes)
            return hf_fail(err, HF_ERR_CORRUPT, "a path holds a zero byte");
        name = decoded;
    }

    if (!hf_postgres_path_clean("", name, path, err))
        return false;
    if (strcmp(path, name) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the path \"%s\" is not plain", name);
    return true;
}

static bool
parse_range(struct hf_backup_manifest *manifest, const char *text, size_t length, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *object = NULL;
    struct hf_backup_manifest_range range;
    const char *start, *end;
    int64_t timeline;

    if (!parse_object(manifest, text, length, &object, err) ||
        !hf_json_integer(object, "Timeline", WHAT, 1, UINT32_MAX, &timeline, err) ||
        !hf_json_string(object, "Start-LSN", WHAT, &start, err) ||
        !hf_json_string(object, "End-LSN", WHAT, &end, err) || !hf_lsn_parse(start, &range.start_lsn, err) ||
        !hf_lsn_parse(end, &range.end_lsn, err))
        return false;
    if (manifest->summary.range_count == HF_BACKUP_MANIFEST_RANGES_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "it has more than %d log ranges", HF_BACKUP_MANIFEST_RANGES_MOST);
    range.timeline = (uint32_t)timeline;
    manifest->summary.ranges[manifest->summary.range_count++] = range;
    return true;
}

/* One object of a list, with the comma that says another follows. */
static bool
parse_object(struct hf_backup_manifest *manifest, const char *text, size_t length, json_t **ret, struct hf_error *err)
{
    manifest->list_ended = length == 0 || text[length - 1] != ',';
    return hf_json_parse(text, manifest->list_ended ? length : length - 1, WHAT, ret, err);
}

static bool
check_digest(struct hf_backup_manifest *manifest, const char *text, struct hf_error *err)
{
    static const char before[] = "\"Manifest-Checksum\": \"", behind[] = "\"}";
    uint8_t actual[HF_SHA256_BYTES], promised[HF_SHA256_BYTES];
    char hex[2 * HF_SHA256_BYTES + 1];

    if (strlen(text) != strlen(before) + 2 * HF_SHA256_BYTES + strlen(behind) ||
        strncmp(text, before, strlen(before)) != 0 || strcmp(text + strlen(before) + 2 * HF_SHA256_BYTES, behind) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "its own checksum is missing");
    snprintf(hex, sizeof hex, "%.*s", 2 * HF_SHA256_BYTES, text + strlen(before));
    if (!hf_hex_parse(hex, promised, sizeof promised, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "its own checksum is not in hex");

    hf_sha256_end(manifest->digest, actual);
    if (memcmp(actual, promised, sizeof actual) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "its own checksum is wrong");
    return true;
}

static bool
take_number(const char *text, const char *before, const char *behind, uint64_t *ret)
{
    uint64_t value = 0;
    size_t digits;

    if (strncmp(text, before, strlen(before)) != 0)
        return false;
    text += strlen(before);
    digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 20 || strcmp(text + digits, behind) != 0)
        return false;
    for (size_t i = 0; i < digits; i++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(text[i] - '0'), &value))
            return false;
    *ret = value;
    return true;
}

static bool
expect(const char *text, const char *wanted, struct hf_error *err)
{
    if (strcmp(text, wanted) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "'%s' was expected", wanted);
    return true;
}
