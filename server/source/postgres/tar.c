#include "server/source/postgres/tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
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

/* What takes a file's bytes. */
typedef bool feed_function(void *context, const void *data, size_t length, struct hf_error *err);
static feed_function feed_fold, feed_buffer, feed_sink;
static bool receive_changed(const struct reading *reading, struct archive *archive, struct archive_entry *entry,
                            const char *path, const char *plain);
static bool receive_map(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file,
                        const char *path, uint64_t bytes);
static bool is_main_fork(const char *path);
static bool receive_label(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file);
static bool read_bytes(const struct reading *reading, struct archive *archive, const char *path, uint64_t size,
                       feed_function *feed, void *context);

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
    char plain[HF_BACKUP_PATH_BYTES];
    void *handle;

    snprintf(plain, sizeof plain, "%s", path);
    if (tar->vm != NULL && hf_fold_plain_path(plain))
        return receive_changed(reading, archive, entry, path, plain);
    if (tar->vm != NULL && kept == &tar->kept->backup_label)
        return receive_label(reading, archive, &file);

    if (tar->vm != NULL && relation && is_main_fork(path) &&
        !hf_fold_vm_note(tar->vm, path, file.first_block, tar->segment_blocks, reading->err))
        return false;
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

/* A relation of which only changed blocks come: what is stored is the whole of it. */
static bool
receive_changed(const struct reading *reading, struct archive *archive, struct archive_entry *entry, const char *path,
                const char *plain)
{
    const struct hf_tar *tar = reading->tar;
    const uint64_t bytes = (uint64_t)archive_entry_size(entry);
    _cleanup_(hf_fold_freep) struct hf_fold *fold = NULL;
    uint32_t segment = 0, crc32c;
    if (!hf_postgres_path_is_relation(plain, tar->segment_blocks, &segment))
        return hf_fail(reading->err, HF_ERR_CORRUPT, "the server sent changed blocks of \"%s\", which is no relation",
                       plain);
    const struct hf_backup_file file = {.path = plain,
                                        .kind = HF_BACKUP_FILE_RELATION,
                                        .mode = archive_entry_mode(entry) & 07777,
                                        .modified_at = (int64_t)archive_entry_mtime(entry) * 1000,
                                        .page_bytes = HF_POSTGRES_PAGE_BYTES,
                                        .first_block = segment * tar->segment_blocks,
                                        .checksums = tar->checksums};
    if (hf_fold_vm_is_map(plain))
        return receive_map(reading, archive, &file, path, bytes);
    if (!hf_inventory_add_file(tar->inventory, path, reading->err) ||
        !hf_fold_new(tar->sink, &file, tar->segment_blocks, bytes, &fold, reading->err) ||
        !read_bytes(reading, archive, path, bytes, feed_fold, fold) || !hf_fold_end(fold, &crc32c, reading->err))
        return false;
    hf_inventory_finish_changed_file(tar->inventory, bytes, crc32c);
    for (uint32_t i = 0; is_main_fork(plain) && i < hf_fold_block_count(fold); i++)
        if (!hf_fold_vm_note(tar->vm, plain, file.first_block + (uint64_t)hf_fold_block(fold, i), 1, reading->err))
            return false;
    return true;
}

/* A visibility map: it waits for what is said of its heap. */
static bool
receive_map(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file, const char *path,
            uint64_t bytes)
{
    const struct hf_tar *tar = reading->tar;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_GIB);
    if (!hf_inventory_add_file(tar->inventory, path, reading->err) ||
        !read_bytes(reading, archive, path, bytes, feed_buffer, &text))
        return false;
    hf_inventory_finish_changed_file(tar->inventory, bytes, hf_crc32c(0, text.data, text.length));
    return hf_fold_vm_take(tar->vm, file, &text, reading->err);
}

/* A relation's path names its main fork when there is no other one's name in it. */
static bool
is_main_fork(const char *path)
{
    return strchr(strrchr(path, '/') + 1, '_') == NULL;
}

static bool
feed_fold(void *context, const void *data, size_t length, struct hf_error *err)
{
    return hf_fold_feed(context, data, length, err);
}

/* It says that no server may start from it, which is no longer true of what is stored. */
static bool
receive_label(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file)
{
    const struct hf_tar *tar = reading->tar;
    struct hf_buf *label = &tar->kept->backup_label;
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_TAR_LABEL_MOST);
    struct hf_backup_file stored = *file;
    if (file->size > label->limit)
        return hf_fail(reading->err, HF_ERR_CORRUPT, "the server sent \"%s\" with %" PRIu64 " bytes, %zu are the most",
                       file->path, file->size, label->limit);
    if (!hf_inventory_add_file(tar->inventory, file->path, reading->err) ||
        !read_bytes(reading, archive, file->path, file->size, feed_buffer, label))
        return false;
    hf_inventory_finish_changed_file(tar->inventory, file->size, hf_crc32c(0, label->data, label->length));
    if (!hf_fold_label(hf_buf_text(label), &plain, reading->err))
        return false;
    hf_buf_clear(label);
    stored.size = plain.length;
    return hf_buf_add(label, plain.data, plain.length, reading->err) &&
           hf_backup_sink_put(tar->sink, &stored, plain.data, plain.length, reading->err);
}

static bool
feed_buffer(void *context, const void *data, size_t length, struct hf_error *err)
{
    return hf_buf_add(context, data, length, err);
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

/* Where the bytes of a plain file go. */
struct plain_file {
    const struct hf_backup_sink *sink;
    void *handle;
    struct hf_buf *kept; // or NULL
};

static bool
feed_sink(void *context, const void *data, size_t length, struct hf_error *err)
{
    const struct plain_file *file = context;
    return file->sink->file_write(file->sink->context, file->handle, data, length, err) &&
           (file->kept == NULL || hf_buf_add(file->kept, data, length, err));
}

static bool
receive_bytes(const struct reading *reading, struct archive *archive, const struct hf_backup_file *file,
              struct hf_buf *kept, void *handle)
{
    struct plain_file plain = {reading->tar->sink, handle, kept};
    return read_bytes(reading, archive, file->path, file->size, feed_sink, &plain);
}

static bool
read_bytes(const struct reading *reading, struct archive *archive, const char *path, uint64_t size, feed_function *feed,
           void *context)
{
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
                   (reading->failed ? false : hf_fail_within(reading->err, "\"%s\"", path));
        if (length == 0)
            continue;
        // libarchive promises both, and has broken promises before: a sink must never get more than was announced.
        if ((uint64_t)offset != received || length > size - received)
            return hf_fail(reading->err, HF_ERR_CORRUPT, "the tar's bytes for \"%s\" are out of order", path);
        if (!feed(context, data, length, reading->err))
            return false;
        received += length;
    }
    if (received != size)
        return hf_fail(reading->err, HF_ERR_CORRUPT, "\"%s\" ends after %" PRIu64 " of %" PRIu64 " bytes", path,
                       received, size);
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
