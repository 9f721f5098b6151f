#include "server/source/postgres/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <string.h>

#include "server/source/postgres/control.h"
#include "server/source/postgres/page_check.h"
#include "server/source/postgres/path.h"

/* One tar being read. */
struct reading {
    const struct hf_tar *tar; // borrowed from the caller
    hf_tar_next_function *next;
    void *context;
    struct hf_error *err; // of the caller; filled already when `failed`
    bool failed;          // `next` failed: libarchive's own words say less
    bool ended;           // `next` has given its last bytes
};

static void close_archive(struct archive **archive);
static bool open_archive(struct reading *reading, struct archive **ret);
static la_ssize_t read_more(struct archive *archive, void *context, const void **ret_data);
static bool refuse_archive(const struct reading *reading, struct archive *archive);
static bool receive_entry(const struct reading *reading, struct archive *archive, struct archive_entry *entry);
static bool check_entry(struct archive *archive, struct archive_entry *entry, const char *path, struct hf_error *err);
static bool check_name_is_free(const char *path, struct hf_error *err);
static bool receive_folder(const struct hf_tar *tar, struct archive_entry *entry, const char *path,
                           struct hf_error *err);
static bool receive_file(const struct reading *reading, struct archive *archive, struct archive_entry *entry,
                         const char *path);
static struct hf_buf *kept_buffer(const struct hf_tar *tar, const char *path);
static bool receive_bytes(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file,
                          struct hf_buf *kept, void *handle);
static bool drain(struct reading *reading);

void
hf_tar_kept_init(struct hf_tar_kept *kept)
{
    kept->backup_label = HF_BUF_INIT(HF_TAR_LABEL_MOST);
    kept->control = HF_BUF_INIT(HF_POSTGRES_CONTROL_BYTES);
}

void
hf_tar_kept_done(struct hf_tar_kept *kept)
{
    hf_buf_done(&kept->backup_label);
    hf_buf_done(&kept->control);
}

bool
hf_tar_receive(const struct hf_tar *tar, hf_tar_next_function *next, void *context, struct hf_error *err)
{
    struct hf_error unheard;
    struct reading reading = {.tar = tar, .next = next, .context = context, .err = err == NULL ? &unheard : err};
    _cleanup_(close_archive) struct archive *archive = NULL;

    if (!open_archive(&reading, &archive))
        return false;

    for (;;) {
        struct archive_entry *entry;
        int result = archive_read_next_header(archive, &entry);
        if (result == ARCHIVE_EOF)
            break;
        if (result != ARCHIVE_OK)
            return refuse_archive(&reading, archive);
        if (!receive_entry(&reading, archive, entry))
            return false;
    }
    return drain(&reading);
}

static void
close_archive(struct archive **archive)
{
    if (*archive != NULL)
        archive_read_free(*archive);
    *archive = NULL;
}

static bool
open_archive(struct reading *reading, struct archive **ret)
{
    _cleanup_(close_archive) struct archive *archive = archive_read_new();
    if (archive == NULL)
        return hf_fail(reading->err, HF_ERR_NO_MEMORY, "out of memory for reading a tar");

    // Tar and nothing else: libarchive's other readers have had many faults.  "Empty" is a tablespace that went away.
    if (archive_read_support_format_tar(archive) != ARCHIVE_OK ||
        archive_read_support_format_empty(archive) != ARCHIVE_OK ||
        archive_read_open(archive, reading, NULL, read_more, NULL) != ARCHIVE_OK)
        return refuse_archive(reading, archive);
    *ret = HF_TAKE(archive);
    return true;
}

static la_ssize_t
read_more(struct archive *archive, void *context, const void **ret_data)
{
    struct reading *reading = context;
    const uint8_t *data = NULL;
    size_t length = 0;

    if (reading->ended)
        return 0;
    if (!reading->next(reading->context, &data, &length, reading->err)) {
        reading->failed = true;
        archive_set_error(archive, -1, "no more bytes");
        return ARCHIVE_FATAL;
    }
    reading->ended = length == 0;
    *ret_data = data;
    return (la_ssize_t)length;
}

static bool
refuse_archive(const struct reading *reading, struct archive *archive)
{
    if (reading->failed)
        return false;
    const char *why = archive_error_string(archive);
    return hf_fail(reading->err, HF_ERR_CORRUPT, "the tar of \"%s\" cannot be read: %s",
                   reading->tar->prefix[0] == '\0' ? "base" : reading->tar->prefix,
                   why == NULL ? "no reason given" : why);
}

static bool
receive_entry(const struct reading *reading, struct archive *archive, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    char path[HF_BACKUP_PATH_BYTES];

    if (name == NULL)
        return hf_fail(reading->err, HF_ERR_CORRUPT, "the server sent a file without a name");
    if (!hf_postgres_path_clean(reading->tar->prefix, name, path, reading->err) ||
        !check_entry(archive, entry, path, reading->err) || !check_name_is_free(path, reading->err))
        return false;
    return archive_entry_filetype(entry) == AE_IFDIR ? receive_folder(reading->tar, entry, path, reading->err)
                                                     : receive_file(reading, archive, entry, path);
}

static bool
check_entry(struct archive *archive, struct archive_entry *entry, const char *path, struct hf_error *err)
{
    if (archive_format(archive) != ARCHIVE_FORMAT_TAR_USTAR)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\" in %s, plain ustar was expected", path,
                       archive_format_name(archive));
    if (archive_entry_hardlink(entry) != NULL || archive_entry_symlink(entry) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\" as a link", path);
    mode_t type = archive_entry_filetype(entry);
    if (type != AE_IFREG && type != AE_IFDIR)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\", which is neither a file nor a folder", path);
    if (!archive_entry_size_is_set(entry) || archive_entry_size(entry) < 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\" without a size", path);
    return true;
}

/* Names that come another way. */
static bool
check_name_is_free(const char *path, struct hf_error *err)
{
    bool wal = strncmp(path, "pg_wal/", 7) == 0 && strcmp(path, "pg_wal/archive_status") != 0 &&
               strcmp(path, "pg_wal/summaries") != 0;
    bool manifest = strcmp(path, "backup_manifest") == 0;
    bool captured = strncmp(path, "holdfast_config", 15) == 0 && (path[15] == '/' || path[15] == '\0');

    if (!wal && !manifest && !captured)
        return true;
    return hf_fail(err, HF_ERR_CORRUPT, "the server sent \"%s\", which is no part of a base backup", path);
}

static bool
receive_folder(const struct hf_tar *tar, struct archive_entry *entry, const char *path, struct hf_error *err)
{
    return hf_inventory_add_folder(tar->inventory, path, err) &&
           tar->sink->directory(tar->sink->context, path, archive_entry_mode(entry) & 07777, err);
}

static bool
receive_file(const struct reading *reading, struct archive *archive, struct archive_entry *entry, const char *path)
{
    const struct hf_tar *tar = reading->tar;
    const struct hf_backup_sink *sink = tar->sink;
    uint32_t segment = 0;
    bool relation = hf_postgres_path_is_relation(path, tar->segment_blocks, &segment);
    const struct hf_backup_file file = {
        .path = path,
        .kind = relation ? HF_BACKUP_FILE_RELATION : HF_BACKUP_FILE_OTHER,
        .mode = archive_entry_mode(entry) & 07777,
        .modified_at = (int64_t)archive_entry_mtime(entry) * 1000,
        .size = (uint64_t)archive_entry_size(entry),
        .page_bytes = relation ? HF_POSTGRES_PAGE_BYTES : HF_BACKUP_OTHER_PAGE,
        .first_block = relation ? segment * tar->segment_blocks : 0,
        .checksums = relation && tar->checksums,
    };
    struct hf_buf *kept = kept_buffer(tar, path);
    void *handle;

    if (kept != NULL && file.size > kept->limit)
        return hf_fail(reading->err, HF_ERR_CORRUPT, "the server sent \"%s\" with %" PRIu64 " bytes, %zu are the most",
                       path, file.size, kept->limit);
    if (!hf_inventory_add_file(tar->inventory, path, reading->err) ||
        !sink->file_begin(sink->context, &file, &handle, reading->err))
        return false;
    if (!receive_bytes(reading, archive, &file, kept, handle)) {
        sink->file_drop(sink->context, handle);
        return false;
    }
    if (!sink->file_end(sink->context, handle, reading->err))
        return false;
    hf_inventory_finish_file(tar->inventory, file.size);
    return true;
}

static struct hf_buf *
kept_buffer(const struct hf_tar *tar, const char *path)
{
    if (strcmp(path, "backup_label") == 0)
        return &tar->kept->backup_label;
    if (strcmp(path, HF_POSTGRES_CONTROL_PATH) == 0)
        return &tar->kept->control;
    return NULL;
}

static bool
receive_bytes(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file,
              struct hf_buf *kept, void *handle)
{
    const struct hf_backup_sink *sink = reading->tar->sink;
    uint64_t received = 0;

    for (;;) {
        const void *data;
        size_t length;
        la_int64_t offset;
        int result = archive_read_data_block(archive, &data, &length, &offset);
        if (result == ARCHIVE_EOF)
            break;
        if (result != ARCHIVE_OK)
            return refuse_archive(reading, archive) ||
                   (reading->failed ? false : hf_fail_within(reading->err, "\"%s\"", file->path));
        if (length == 0)
            continue;
        // libarchive promises both, and has broken promises before: a sink must never get more than was announced.
        if ((uint64_t)offset != received || length > file->size - received)
            return hf_fail(reading->err, HF_ERR_CORRUPT, "the tar's bytes for \"%s\" are out of order", file->path);
        if (!sink->file_write(sink->context, handle, data, length, reading->err))
            return false;
        if (kept != NULL && !hf_buf_add(kept, data, length, reading->err))
            return false;
        received += length;
    }
    if (received != file->size)
        return hf_fail(reading->err, HF_ERR_CORRUPT, "\"%s\" ends after %" PRIu64 " of %" PRIu64 " bytes", file->path,
                       received, file->size);
    return true;
}

/* What the server pads its tar with. */
static bool
drain(struct reading *reading)
{
    while (!reading->ended) {
        const uint8_t *data;
        size_t length;
        if (!reading->next(reading->context, &data, &length, reading->err))
            return false;
        reading->ended = length == 0;
    }
    return true;
}
