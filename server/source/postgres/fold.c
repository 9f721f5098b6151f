#include "server/source/postgres/fold.h"

#include <inttypes.h>
#include <string.h>

#include "base/digest.h"
#include "base/time.h"
#include "server/source/postgres/manifest.h"
#include "server/source/postgres/page_check.h"
#include "server/source/postgres/path.h"
#include "server/source/postgres/wal_format.h"

#define UPLOAD_PIECE  (64 * HF_KIB)
#define SUMMARIES_MS  (15 * 60 * 1000) // the server waits for its summarizer before it answers
#define MANIFEST_MOST HF_GIB

static const char doing[] = "hand over the manifest of the backup before";

struct hf_fold {
    const struct hf_backup_sink *sink; // borrowed
    struct hf_backup_file file;
    uint32_t segment_blocks;
    uint64_t sent_bytes, taken; // of what comes
    uint32_t crc32c;
    struct hf_incremental head;
    bool begun; // the head is known, and the file open in the sink:
    void *handle;
    struct hf_buf bytes;   // the head
    uint32_t next, number; // block of the whole file that comes next; how many of the listed ones came
    size_t in_block;       // bytes of the one that is coming
};

/* The manifest while it is written. */
struct writing {
    const struct hf_backup_sink *sink;
    struct hf_buf text;
    bool first;
};

static bool take_head(struct hf_fold *fold, const uint8_t **data, size_t *length, struct hf_error *err);
static bool take_blocks(struct hf_fold *fold, const uint8_t *data, size_t length, struct hf_error *err);
static bool fill_up_to(struct hf_fold *fold, uint32_t block, struct hf_error *err);
static bool put_zeros(struct hf_fold *fold, uint32_t blocks, struct hf_error *err);
static bool put_row(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err);
static bool put_ranges(const struct hf_backup_manifest_summary *summary, struct hf_buf *out, struct hf_error *err);
static bool put_object(const json_t *object, struct hf_buf *out, struct hf_error *err);
static bool put_digest(struct hf_buf *text, struct hf_error *err);

bool
hf_fold_plain_path(char *path)
{
    char *slash = strrchr(path, '/'), *name = slash != NULL ? slash + 1 : path;
    const size_t prefix = strlen(HF_INCREMENTAL_PREFIX);
    if (strncmp(name, HF_INCREMENTAL_PREFIX, prefix) != 0 || name[prefix] == '\0')
        return false;
    memmove(name, name + prefix, strlen(name + prefix) + 1);
    return true;
}

bool
hf_fold_upload(PGconn *conn, const struct hf_postgres_patience *patience, const void *manifest, size_t length,
               struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *copy = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *done = NULL;
    struct hf_postgres_patience longer = *patience;
    longer.silence_ms = SUMMARIES_MS;
    if (!hf_postgres_send(conn, doing, "UPLOAD_MANIFEST", err) ||
        !hf_postgres_next(conn, patience, doing, PGRES_COPY_IN, &copy, err))
        return false;
    for (size_t at = 0; at < length; at += UPLOAD_PIECE) {
        const size_t piece = length - at < UPLOAD_PIECE ? length - at : UPLOAD_PIECE;
        if (PQputCopyData(conn, (const char *)manifest + at, (int)piece) != 1)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection broke", doing);
    }
    if (PQputCopyEnd(conn, NULL) != 1 || PQflush(conn) != 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection broke", doing);
    return hf_postgres_next(conn, &longer, doing, PGRES_COMMAND_OK, &done, err) &&
           hf_postgres_finish(conn, patience, doing, err);
}

bool
hf_fold_new(const struct hf_backup_sink *sink, const struct hf_backup_file *file, uint32_t segment_blocks,
            uint64_t sent_bytes, struct hf_fold **ret, struct hf_error *err)
{
    if (sent_bytes < HF_INCREMENTAL_FIXED)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": its changed blocks end in their head", file->path);
    struct hf_fold *fold = calloc(1, sizeof *fold);
    if (fold == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for file \"%s\"", file->path);
    fold->sink = sink;
    fold->file = *file;
    fold->segment_blocks = segment_blocks;
    fold->sent_bytes = sent_bytes;
    fold->bytes = HF_BUF_INIT(HF_INCREMENTAL_FIXED + 4 * HF_INCREMENTAL_BLOCKS_MOST + HF_POSTGRES_PAGE_BYTES);
    *ret = fold;
    return true;
}

void
hf_fold_freep(struct hf_fold **fold)
{
    if (*fold == NULL)
        return;
    if ((*fold)->begun)
        (*fold)->sink->file_drop((*fold)->sink->context, (*fold)->handle);
    hf_buf_done(&(*fold)->bytes);
    free(*fold);
    *fold = NULL;
}

bool
hf_fold_feed(struct hf_fold *fold, const void *data, size_t length, struct hf_error *err)
{
    const uint8_t *at = data;
    fold->crc32c = hf_crc32c(fold->crc32c, data, length);
    fold->taken += length;
    if (fold->taken > fold->sent_bytes)
        return hf_fail(err, HF_ERR_CORRUPT, "more bytes came than were announced");
    while (!fold->begun && length > 0)
        if (!take_head(fold, &at, &length, err))
            return false;
    return length == 0 || take_blocks(fold, at, length, err);
}

bool
hf_fold_end(struct hf_fold *fold, uint32_t *ret_crc32c, struct hf_error *err)
{
    if (!fold->begun || fold->number != fold->head.count || fold->taken != fold->sent_bytes)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": its changed blocks end too early", fold->file.path);
    if (!fill_up_to(fold, fold->head.blocks, err))
        return false;
    fold->begun = false; // whatever comes of it, the sink has taken the handle back
    *ret_crc32c = fold->crc32c;
    return fold->sink->file_end(fold->sink->context, fold->handle, err);
}

uint32_t
hf_fold_block_count(const struct hf_fold *fold)
{
    return fold->head.count;
}

uint32_t
hf_fold_block(const struct hf_fold *fold, uint32_t i)
{
    return hf_incremental_block(fold->bytes.data, i);
}

bool
hf_fold_label(const char *text, struct hf_buf *out, struct hf_error *err)
{
    static const char word[] = "INCREMENTAL FROM ";
    bool any = false;
    for (const char *line = text; *line != '\0';) {
        const size_t length = strcspn(line, "\n") + (strchr(line, '\n') != NULL ? 1 : 0);
        if (strncmp(line, word, sizeof word - 1) == 0)
            any = true;
        else if (!hf_buf_add(out, line, length, err))
            return false;
        line += length;
    }
    return any || hf_fail(err, HF_ERR_CORRUPT, "\"backup_label\" does not say what the backup is built on");
}

/* In the server's own layout (manifest.h). */
bool
hf_fold_put_manifest(const struct hf_backup_sink *sink, const void *server_manifest, size_t length,
                     struct hf_error *err)
{
    struct writing writing = {.sink = sink, .text = HF_BUF_INIT(MANIFEST_MOST), .first = true};
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;
    struct hf_backup_manifest_summary summary;
    const char *system = strstr(server_manifest, "\"Files\""); // ends with NUL: the caller's buffer is text
    bool ok = system != NULL &&
              hf_buf_add(&writing.text, server_manifest, (size_t)(system - (const char *)server_manifest), err) &&
              hf_buf_add_text(&writing.text, "\"Files\": [", err) &&
              hf_backup_manifest_new(put_row, &writing, &manifest, err) &&
              hf_backup_manifest_feed(manifest, server_manifest, length, err) &&
              hf_backup_manifest_finish(manifest, &summary, err) &&
              hf_buf_add_text(&writing.text, "\n],\n\"WAL-Ranges\": [\n", err) &&
              put_ranges(&summary, &writing.text, err) && put_digest(&writing.text, err);
    if (ok) {
        const struct hf_backup_file file = {.path = "backup_manifest",
                                            .kind = HF_BACKUP_FILE_CAPTURED,
                                            .mode = 0600,
                                            .modified_at = hf_time_now_ms(),
                                            .size = writing.text.length,
                                            .page_bytes = HF_BACKUP_OTHER_PAGE};
        ok = hf_backup_sink_put(sink, &file, writing.text.data, writing.text.length, err);
    } else if (system == NULL) {
        hf_fail(err, HF_ERR_CORRUPT, "the server's manifest lists no files");
    }
    hf_buf_done(&writing.text);
    return ok;
}

/* First what tells the head's length, then the head. */
static bool
take_head(struct hf_fold *fold, const uint8_t **data, size_t *length, struct hf_error *err)
{
    const size_t wanted = fold->head.head_bytes > 0 ? fold->head.head_bytes : HF_INCREMENTAL_FIXED;
    const size_t missing = wanted - fold->bytes.length, part = *length < missing ? *length : missing;
    if (!hf_buf_add(&fold->bytes, *data, part, err))
        return false;
    *data += part;
    *length -= part;
    if (fold->bytes.length < wanted)
        return true;
    if (fold->head.head_bytes == 0) {
        if (!hf_incremental_begin(fold->bytes.data, fold->segment_blocks, fold->sent_bytes, &fold->head, err))
            return hf_fail_within(err, "\"%s\"", fold->file.path);
        if (fold->head.head_bytes > HF_INCREMENTAL_FIXED)
            return true;
    }
    if (!hf_incremental_check(fold->bytes.data, fold->segment_blocks, &fold->head, err))
        return hf_fail_within(err, "\"%s\"", fold->file.path);
    fold->file.size = (uint64_t)fold->head.blocks * HF_POSTGRES_PAGE_BYTES;
    fold->begun = fold->sink->file_begin(fold->sink->context, &fold->file, &fold->handle, err);
    return fold->begun;
}

static bool
take_blocks(struct hf_fold *fold, const uint8_t *data, size_t length, struct hf_error *err)
{
    while (length > 0) {
        if (fold->number == fold->head.count)
            return hf_fail(err, HF_ERR_CORRUPT, "\"%s\": more blocks came than it lists", fold->file.path);
        if (fold->in_block == 0 && !fill_up_to(fold, hf_incremental_block(fold->bytes.data, fold->number), err))
            return false;
        const size_t missing = HF_POSTGRES_PAGE_BYTES - fold->in_block, part = length < missing ? length : missing;
        if (!fold->sink->file_write(fold->sink->context, fold->handle, data, part, err))
            return false;
        data += part;
        length -= part;
        fold->in_block += part;
        if (fold->in_block == HF_POSTGRES_PAGE_BYTES) {
            fold->in_block = 0;
            fold->number++;
            fold->next++;
        }
    }
    return true;
}

/* Blocks that did not come: of the earlier backup as far as it has them and they were never cut off, else zeros. */
static bool
fill_up_to(struct hf_fold *fold, uint32_t block, struct hf_error *err)
{
    const struct hf_backup_sink *sink = fold->sink;
    const uint64_t there = sink->parent_pages(sink->context, fold->handle);
    const uint32_t limit = there < fold->head.truncation ? (uint32_t)there : fold->head.truncation;
    const uint32_t kept = fold->next < limit ? (block < limit ? block : limit) - fold->next : 0;
    if (fold->next < block && kept > 0 && !sink->file_keep(sink->context, fold->handle, kept, err))
        return false;
    if (fold->next < block && !put_zeros(fold, block - fold->next - kept, err))
        return false;
    fold->next = block;
    return true;
}

static bool
put_zeros(struct hf_fold *fold, uint32_t blocks, struct hf_error *err)
{
    static const uint8_t zeros[HF_POSTGRES_PAGE_BYTES];
    for (uint32_t i = 0; i < blocks; i++)
        if (!fold->sink->file_write(fold->sink->context, fold->handle, zeros, sizeof zeros, err))
            return false;
    return true;
}

static bool
put_row(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err)
{
    struct writing *writing = context;
    char path[HF_BACKUP_PATH_BYTES], checksum[2 * sizeof(uint32_t) + 1];
    struct hf_backup_digest digest;
    snprintf(path, sizeof path, "%s", file->path);
    hf_fold_plain_path(path);
    if (!writing->sink->digest_of(writing->sink->context, path, &digest, err))
        return hf_fail_within(err, "\"%s\"", path);
    for (size_t i = 0; i < sizeof digest.crc32c; i++) // in the server's order of bytes
        snprintf(checksum + 2 * i, 3, "%02x", digest.crc32c >> 8 * i & 0xff);
    json_t *name = json_string(path); // NULL: it is not UTF-8
    const char *member = name != NULL ? "Path" : "Encoded-Path";
    if (name == NULL)
        name = hf_json_hex((const uint8_t *)path, strlen(path));
    _cleanup_(hf_json_freep) json_t *row =
        json_pack("{s:o, s:I, s:s, s:s, s:s}", member, name, "Size", (json_int_t)digest.size, "Last-Modified",
                  file->modified, "Checksum-Algorithm", "CRC32C", "Checksum", checksum);
    const bool first = writing->first;
    writing->first = false;
    return hf_buf_add_text(&writing->text, first ? "\n" : ",\n", err) && put_object(row, &writing->text, err);
}

static bool
put_ranges(const struct hf_backup_manifest_summary *summary, struct hf_buf *out, struct hf_error *err)
{
    char start[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES];
    for (size_t i = 0; i < summary->range_count; i++) {
        const struct hf_backup_manifest_range *range = &summary->ranges[i];
        _cleanup_(hf_json_freep) json_t *row =
            json_pack("{s:I, s:s, s:s}", "Timeline", (json_int_t)range->timeline, "Start-LSN",
                      hf_lsn_format(range->start_lsn, start), "End-LSN", hf_lsn_format(range->end_lsn, end));
        if (!put_object(row, out, err) || !hf_buf_add_text(out, i + 1 < summary->range_count ? ",\n" : "\n", err))
            return false;
    }
    return true;
}

/* One line, as the server lays it out. */
static bool
put_object(const json_t *object, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_freep) char *text = object != NULL ? json_dumps(object, JSON_PRESERVE_ORDER) : NULL;
    const size_t length = text != NULL ? strlen(text) : 0;
    if (length < 2)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a manifest");
    return hf_buf_add_text(out, "{ ", err) && hf_buf_add(out, text + 1, length - 2, err) &&
           hf_buf_add_text(out, " }", err);
}

/* Over every line but the last. */
static bool
put_digest(struct hf_buf *text, struct hf_error *err)
{
    uint8_t sum[HF_SHA256_BYTES];
    if (!hf_buf_add_text(text, "],\n", err))
        return false;
    hf_sha256(text->data, text->length, sum);
    if (!hf_buf_add_text(text, "\"Manifest-Checksum\": \"", err))
        return false;
    for (size_t i = 0; i < sizeof sum; i++)
        if (!hf_buf_printf(text, err, "%02x", sum[i]))
            return false;
    return hf_buf_add_text(text, "\"}\n", err);
}
