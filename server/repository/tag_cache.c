#include "server/repository/tag_cache.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zstd.h>

#include "base/file.h"
#include "server/keys/envelope.h"
#include "server/keys/keys.h"
#include "server/repository/census_internal.h"
#include "server/repository/codec.h"

#define CACHE_VERSION    1
#define HEAD_PLAIN       68 // version, cache key, backup id, offset and length of the index frame
#define HEAD_SEALED      (HEAD_PLAIN + HF_ENVELOPE_EXTRA)
#define FRAMES_START     (4 + HEAD_SEALED)
#define FRAME_LENGTH     4
#define FRAME_EXTRA      (FRAME_LENGTH + HF_AEAD_TAG_BYTES)
#define FRAME_NONCE      crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define FLUSH_BYTES      (256 * HF_KIB) // frames gathered before a write
#define INDEX_ZSTD_LEVEL 1
#define FILE_LEAST_BYTES 5  // a path of one byte, no leaf
#define LEAF_LEAST_BYTES 20 // frame, length, pack, slab, index

_Static_assert(crypto_aead_xchacha20poly1305_ietf_KEYBYTES == HF_KEY_BYTES, "the cache key is a key of the cipher");
_Static_assert(crypto_aead_xchacha20poly1305_ietf_ABYTES == HF_AEAD_TAG_BYTES, "a frame ends with the cipher's tag");

/* A file that was told to the writer: where it stands in `entries`. */
struct told_file {
    size_t path; // text, then a NUL
    size_t body; // its entry in the index, from behind the path
    size_t end;
};

struct hf_tag_cache_writer {
    char *path, *temporary;
    int fd;                           // of the temporary file
    const struct hf_vault_keys *keys; // borrowed from the caller
    struct hf_id backup;
    struct hf_secret key;
    uint64_t written;      // bytes of the file so far
    struct hf_buf pending; // sealed frames that come behind them
    struct hf_buf entries;
    size_t file_count, file_room;
    struct told_file *files;
};

struct hf_tag_cache {
    char *path;
    int fd;
    struct hf_id backup;
    struct hf_secret key;
    uint64_t index_offset, index_length;
    size_t file_count;
    struct hf_cached_file *files; // sorted by path
    void *memory;                 // files, their leaves and paths lie in it
    struct hf_census *census;     // until it is taken
};

/* The index frame being made: compressed piece by piece, so that the index is never in memory as plain bytes. */
struct index_maker {
    ZSTD_CCtx *compressor;
    struct hf_buf frame;
};

/* Where the next leaves and paths of the index go. */
struct index_memory {
    struct hf_cached_leaf *leaves;
    char *paths;
};

static bool create_temporary(struct hf_tag_cache_writer *writer, struct hf_error *err);
static bool write_head(struct hf_tag_cache_writer *writer, uint64_t index_offset, uint64_t index_length,
                       struct hf_error *err);
static struct hf_envelope head_envelope(const struct hf_vault_keys *keys);
static bool flush(struct hf_tag_cache_writer *writer, struct hf_error *err);
static void seal_frame(uint8_t *frame, const uint8_t *plain, size_t length, const struct hf_secret *key,
                       const struct hf_id *backup, uint64_t offset);
static void frame_nonce(uint64_t offset, uint8_t nonce[static FRAME_NONCE]);
static bool copy_told(const struct hf_tag_cache_writer *writer, const struct told_file *told,
                      struct hf_tag_cache_writer *copy, struct hf_error *err);
static bool copy_file(const struct hf_tag_cache_writer *writer, const struct hf_cached_file *file,
                      struct hf_tag_cache_writer *copy, struct hf_error *err);
static bool parse_leaf(struct hf_reader *reader, struct hf_cached_leaf *leaf);
static const char *file_fault(const struct hf_cached_file *file, uint64_t frames_end);
static bool put_entry(struct hf_buf *entries, const struct hf_cached_file *file, size_t *ret_body,
                      struct hf_error *err);
static bool make_index(struct hf_tag_cache_writer *writer, const struct hf_census *census, struct index_maker *maker,
                       struct hf_error *err);
static void index_maker_done(struct index_maker *maker);
static bool squeeze_files(struct hf_tag_cache_writer *writer, struct index_maker *maker, struct hf_error *err);
static int by_path(const void *a, const void *b, void *entries);
static bool squeeze(void *context, const uint8_t *bytes, size_t length, struct hf_error *err);
static bool squeeze_as(struct index_maker *maker, const uint8_t *bytes, size_t length, ZSTD_EndDirective how,
                       struct hf_error *err);
static bool read_head(struct hf_tag_cache *cache, const struct hf_vault_keys *keys, struct hf_error *err);
static bool read_index(struct hf_tag_cache *cache, uint64_t file_size, struct hf_error *err);
static bool open_frame(const struct hf_tag_cache *cache, const uint8_t *frame, size_t length, uint64_t offset,
                       uint8_t *plain);
static bool expand(const uint8_t *bytes, size_t length, struct hf_buf *plain, struct hf_error *err);
static bool parse_index(struct hf_tag_cache *cache, struct hf_reader *reader, struct hf_error *err);
static bool measure_files(struct hf_reader ahead, size_t count, size_t *ret_leaves, size_t *ret_path_bytes);
static bool parse_file(struct hf_tag_cache *cache, struct hf_reader *reader, struct index_memory *memory,
                       struct hf_cached_file *file);
static bool damaged(const struct hf_tag_cache *cache, const char *why, struct hf_error *err);
static int path_against_file(const void *path, const void *file);

bool
hf_tag_cache_writer_new(const char *path, const struct hf_vault_keys *keys, const struct hf_id *backup,
                        struct hf_tag_cache_writer **ret, struct hf_error *err)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    writer->fd = -1;
    writer->keys = keys;
    writer->backup = *backup;
    writer->pending = HF_BUF_INIT(FLUSH_BYTES + FRAME_EXTRA + HF_LEAF_PAGES * HF_TAG_BYTES);
    writer->entries = HF_BUF_INIT(HF_TAG_CACHE_INDEX_MOST);
    writer->path = strdup(path);
    if (writer->path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    if (!hf_secret_random(&writer->key, HF_KEY_BYTES, err) || !create_temporary(writer, err) ||
        !write_head(writer, 0, 0, err))
        return false;
    writer->written = FRAMES_START;
    *ret = HF_TAKE(writer);
    return true;
}

void
hf_tag_cache_writer_freep(struct hf_tag_cache_writer **writer)
{
    struct hf_tag_cache_writer *gone = HF_TAKE(*writer);
    if (gone == NULL)
        return;
    if (gone->fd >= 0) {
        (void)unlink(gone->temporary); // what stays is replaced by the next writer
        hf_closep(&gone->fd);
    }
    hf_secret_done(&gone->key);
    hf_buf_done(&gone->pending);
    hf_buf_done(&gone->entries);
    free(gone->files);
    free(gone->temporary);
    free(gone->path);
    free(gone);
}

bool
hf_tag_cache_writer_aim(struct hf_tag_cache_writer *writer, const char *path, struct hf_error *err)
{
    char *copy = strdup(path);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    free(writer->path);
    writer->path = copy;
    return true;
}

/* A frame is sealed once, for the place it then takes: what is pending is written there however often that fails. */
bool
hf_tag_cache_writer_tags(struct hf_tag_cache_writer *writer, const uint8_t *tags, uint32_t pages, uint64_t *ret_frame,
                         struct hf_error *err)
{
    if (pages == 0 || pages > HF_LEAF_PAGES)
        return hf_fail(err, HF_ERR_USAGE, "a tag cache takes the tags of 1 to %d pages at once, not of %u",
                       HF_LEAF_PAGES, pages);
    const size_t length = (size_t)pages * HF_TAG_BYTES;
    if (writer->pending.length >= FLUSH_BYTES && !flush(writer, err))
        return false;
    if (!hf_buf_reserve(&writer->pending, FRAME_EXTRA + length, err))
        return false;

    const uint64_t offset = writer->written + writer->pending.length;
    seal_frame(writer->pending.data + writer->pending.length, tags, length, &writer->key, &writer->backup, offset);
    writer->pending.length += FRAME_EXTRA + length;
    writer->pending.data[writer->pending.length] = 0;
    *ret_frame = offset;
    return true;
}

bool
hf_tag_cache_writer_file(struct hf_tag_cache_writer *writer, const struct hf_cached_file *file, struct hf_error *err)
{
    const char *fault = file_fault(file, writer->written + writer->pending.length);
    if (!hf_path_check(file->path, err))
        return false;
    if (fault != NULL)
        return hf_fail(err, HF_ERR_USAGE, "file \"%.200s\" cannot stand in a tag cache: %s", file->path, fault);

    if (writer->file_count == writer->file_room) {
        const size_t room = writer->file_room == 0 ? 64 : 2 * writer->file_room;
        struct told_file *files = realloc(writer->files, room * sizeof files[0]);
        if (files == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache of %zu files", room);
        writer->files = files;
        writer->file_room = room;
    }
    struct told_file told = {.path = writer->entries.length};
    if (!put_entry(&writer->entries, file, &told.body, err)) {
        hf_buf_truncate(&writer->entries, told.path);
        return false;
    }
    told.end = writer->entries.length;
    writer->files[writer->file_count++] = told;
    return true;
}

/*
 * The folder is not synced: after a power cut either cache may have the name, and both say of which
 * backup they are.
 */
bool
hf_tag_cache_writer_finish(struct hf_tag_cache_writer **writer, const struct hf_census *census, struct hf_error *err)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *mine = HF_TAKE(*writer);
    _cleanup_(index_maker_done) struct index_maker maker = {.frame = HF_BUF_INIT(UINT32_MAX)};

    if (!flush(mine, err) || !make_index(mine, census, &maker, err) ||
        !hf_pwrite_all(mine->fd, maker.frame.data, maker.frame.length, mine->written, mine->temporary, err) ||
        !write_head(mine, mine->written, maker.frame.length, err))
        return false;
    if (fdatasync(mine->fd) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not sync tag cache \"%s\"", mine->temporary);
    if (rename(mine->temporary, mine->path) < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not put tag cache \"%s\" in its place", mine->path);
    hf_closep(&mine->fd); // the temporary name is gone
    return true;
}

bool
hf_tag_cache_writer_copy(struct hf_tag_cache_writer *writer, const char *path, const struct hf_cached_file *more,
                         size_t more_count, const struct hf_census *census, struct hf_error *err)
{
    _cleanup_(hf_tag_cache_writer_freep) struct hf_tag_cache_writer *copy = NULL;
    if (!flush(writer, err) || !hf_tag_cache_writer_new(path, writer->keys, &writer->backup, &copy, err))
        return false;
    for (size_t i = 0; i < writer->file_count; i++)
        if (!copy_told(writer, &writer->files[i], copy, err))
            return false;
    for (size_t i = 0; i < more_count; i++)
        if (!copy_file(writer, &more[i], copy, err))
            return false;
    return hf_tag_cache_writer_finish(&copy, census, err);
}

bool
hf_tag_cache_open(const char *path, const struct hf_vault_keys *keys, const struct hf_id *backup,
                  struct hf_tag_cache **ret, struct hf_error *err)
{
    char theirs[HF_ID_TEXT_BYTES], ours[HF_ID_TEXT_BYTES];
    struct stat status;
    _cleanup_(hf_tag_cache_freep) struct hf_tag_cache *cache = calloc(1, sizeof *cache);
    if (cache == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    cache->fd = -1;
    cache->path = strdup(path);
    if (cache->path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");

    if (!hf_file_open(path, &cache->fd, &status, err) || !read_head(cache, keys, err))
        return false;
    if (!hf_id_equal(&cache->backup, backup))
        return hf_fail(err, HF_ERR_CONFLICT, "tag cache \"%s\" is of backup %s, not of %s", path,
                       hf_id_format(&cache->backup, theirs), hf_id_format(backup, ours));
    if (!read_index(cache, (uint64_t)status.st_size, err))
        return false;
    *ret = HF_TAKE(cache);
    return true;
}

void
hf_tag_cache_freep(struct hf_tag_cache **cache)
{
    struct hf_tag_cache *gone = HF_TAKE(*cache);
    if (gone == NULL)
        return;
    hf_closep(&gone->fd);
    hf_secret_done(&gone->key);
    hf_census_freep(&gone->census);
    free(gone->memory);
    free(gone->path);
    free(gone);
}

const struct hf_cached_file *
hf_tag_cache_find(const struct hf_tag_cache *cache, const char *path)
{
    return bsearch(path, cache->files, cache->file_count, sizeof cache->files[0], path_against_file);
}

bool
hf_tag_cache_tags(const struct hf_tag_cache *cache, const struct hf_cached_leaf *leaf, uint8_t *tags,
                  struct hf_error *err)
{
    const size_t length = FRAME_EXTRA + (size_t)leaf->pages * HF_TAG_BYTES;
    _cleanup_(hf_freep) uint8_t *frame = malloc(length);
    if (frame == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the tags of %u pages", leaf->pages);
    if (!hf_pread_all(cache->fd, frame, length, leaf->frame, cache->path, err))
        return false;
    if (!open_frame(cache, frame, length, leaf->frame, tags))
        return hf_fail(err, HF_ERR_CORRUPT, "tag cache \"%s\" is damaged: the frame at byte %" PRIu64 " was altered",
                       cache->path, leaf->frame);
    return true;
}

struct hf_census *
hf_tag_cache_take_census(struct hf_tag_cache *cache)
{
    return HF_TAKE(cache->census);
}

/* Never through a link, and never into a file that somebody has open: a leftover is unlinked, not reused. */
static bool
create_temporary(struct hf_tag_cache_writer *writer, struct hf_error *err)
{
    if (asprintf(&writer->temporary, "%s.new", writer->path) < 0) {
        writer->temporary = NULL;
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    }
    if (unlink(writer->temporary) < 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove the unfinished tag cache \"%s\"", writer->temporary);
    writer->fd = open(writer->temporary, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (writer->fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not create tag cache \"%s\"", writer->temporary);
    return true;
}

static bool
write_head(struct hf_tag_cache_writer *writer, uint64_t index_offset, uint64_t index_length, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(HEAD_PLAIN);
    _cleanup_(hf_buf_done) struct hf_buf head = HF_BUF_INIT(FRAMES_START);
    const struct hf_envelope envelope = head_envelope(writer->keys);

    if (!hf_buf_put_u32(&plain, CACHE_VERSION, err) ||
        !hf_buf_add(&plain, writer->key.bytes, writer->key.length, err) ||
        !hf_buf_add(&plain, writer->backup.bytes, HF_ID_BYTES, err) || !hf_buf_put_u64(&plain, index_offset, err) ||
        !hf_buf_put_u64(&plain, index_length, err) || !hf_buf_put_u32(&head, HEAD_SEALED, err) ||
        !hf_envelope_seal(&envelope, &writer->keys->record_key, plain.data, plain.length, &head, err))
        return false;
    assert(head.length == FRAMES_START);
    return hf_pwrite_all(writer->fd, head.data, head.length, 0, writer->temporary, err);
}

static struct hf_envelope
head_envelope(const struct hf_vault_keys *keys)
{
    return (struct hf_envelope){.kind = HF_ENVELOPE_TAG_CACHE, .repository = keys->repository, .object = keys->vault};
}

static bool
flush(struct hf_tag_cache_writer *writer, struct hf_error *err)
{
    if (!hf_pwrite_all(writer->fd, writer->pending.data, writer->pending.length, writer->written, writer->temporary,
                       err))
        return false;
    writer->written += writer->pending.length;
    hf_buf_clear(&writer->pending);
    return true;
}

/* `frame` has room for FRAME_EXTRA more than the plaintext, which may already stand where the ciphertext goes. */
static void
seal_frame(uint8_t *frame, const uint8_t *plain, size_t length, const struct hf_secret *key, const struct hf_id *backup,
           uint64_t offset)
{
    uint8_t nonce[FRAME_NONCE];
    uint8_t *sealed = frame + FRAME_LENGTH;

    hf_put_u32(frame, (uint32_t)length);
    frame_nonce(offset, nonce);
    (void)crypto_aead_xchacha20poly1305_ietf_encrypt_detached(sealed, sealed + length, NULL, plain, length,
                                                              backup->bytes, HF_ID_BYTES, NULL, nonce, key->bytes);
}

static void
frame_nonce(uint64_t offset, uint8_t nonce[static FRAME_NONCE])
{
    memset(nonce, 0, FRAME_NONCE);
    hf_put_u64(nonce, offset);
}

/* What keeps a file's leaves from being those of its size, with their frames before `frames_end`; or NULL. */
static const char *
file_fault(const struct hf_cached_file *file, uint64_t frames_end)
{
    if (file->page_log2 < HF_PAGE_LOG2_LEAST || file->page_log2 > HF_PAGE_LOG2_MOST)
        return "no page size is like this";
    if (file->leaf_count != hf_leaves_of(file->size, file->page_log2))
        return "its leaves do not match its size";

    uint64_t pages_left = hf_pages_of(file->size, file->page_log2);
    for (size_t i = 0; i < file->leaf_count; i++) {
        const struct hf_cached_leaf *leaf = &file->leaves[i];
        if (leaf->pages != (pages_left < HF_LEAF_PAGES ? pages_left : HF_LEAF_PAGES))
            return "its leaves do not match its size";
        pages_left -= leaf->pages;
        if (leaf->frame < FRAMES_START || leaf->frame > frames_end ||
            FRAME_EXTRA + (uint64_t)leaf->pages * HF_TAG_BYTES > frames_end - leaf->frame)
            return "the frame of a leaf is not in it";
        if (leaf->ref.slab >= HF_PACK_SLABS_MOST)
            return "the slab of a leaf is out of range";
    }
    return NULL;
}

static bool
put_entry(struct hf_buf *entries, const struct hf_cached_file *file, size_t *ret_body, struct hf_error *err)
{
    if (!hf_buf_add(entries, file->path, strlen(file->path) + 1, err))
        return false;
    *ret_body = entries->length;
    if (!hf_buf_put_u8(entries, file->page_log2, err) || !hf_buf_put_varint(entries, file->size, err) ||
        !hf_buf_put_varint(entries, file->leaf_count, err))
        return false;
    for (size_t i = 0; i < file->leaf_count; i++) {
        const struct hf_cached_leaf *leaf = &file->leaves[i];
        if (!hf_buf_put_varint(entries, leaf->frame, err) ||
            !hf_buf_put_varint(entries, (uint64_t)leaf->pages * HF_TAG_BYTES, err) ||
            !hf_buf_add(entries, leaf->ref.pack.bytes, HF_ID_BYTES, err) ||
            !hf_buf_put_varint(entries, leaf->ref.slab, err) || !hf_buf_put_varint(entries, leaf->ref.index, err))
            return false;
    }
    return true;
}

/* As put_entry() wrote it. */
static bool
copy_told(const struct hf_tag_cache_writer *writer, const struct told_file *told, struct hf_tag_cache_writer *copy,
          struct hf_error *err)
{
    struct hf_reader reader = HF_READER(writer->entries.data + told->body, told->end - told->body);
    struct hf_cached_file file = {.path = (const char *)writer->entries.data + told->path,
                                  .page_log2 = hf_reader_u8(&reader),
                                  .size = hf_reader_varint(&reader),
                                  .leaf_count = (size_t)hf_reader_varint(&reader)};
    _cleanup_(hf_freep) struct hf_cached_leaf *leaves = calloc(file.leaf_count + 1, sizeof *leaves);
    if (leaves == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    for (size_t i = 0; i < file.leaf_count; i++)
        if (!parse_leaf(&reader, &leaves[i]))
            return hf_fail(err, HF_ERR_CORRUPT, "an entry of a tag cache cannot be read");
    file.leaves = leaves;
    return copy_file(writer, &file, copy, err);
}

/* Its tags are sealed anew: a frame's nonce is its place, and two files must not share key and nonce. */
static bool
copy_file(const struct hf_tag_cache_writer *writer, const struct hf_cached_file *file, struct hf_tag_cache_writer *copy,
          struct hf_error *err)
{
    const struct hf_tag_cache view = {
        .path = writer->temporary, .fd = writer->fd, .backup = writer->backup, .key = writer->key};
    struct hf_cached_file copied = *file;
    _cleanup_(hf_freep) struct hf_cached_leaf *leaves = calloc(file->leaf_count + 1, sizeof *leaves);
    _cleanup_(hf_freep) uint8_t *tags = malloc((size_t)HF_LEAF_PAGES * HF_TAG_BYTES);
    if (leaves == NULL || tags == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a tag cache");
    for (size_t i = 0; i < file->leaf_count; i++) {
        leaves[i] = file->leaves[i];
        if (!hf_tag_cache_tags(&view, &file->leaves[i], tags, err) ||
            !hf_tag_cache_writer_tags(copy, tags, leaves[i].pages, &leaves[i].frame, err))
            return false;
    }
    copied.leaves = leaves;
    return hf_tag_cache_writer_file(copy, &copied, err);
}

/* The whole index frame, sealed for the place behind what is written. */
static bool
make_index(struct hf_tag_cache_writer *writer, const struct hf_census *census, struct index_maker *maker,
           struct hf_error *err)
{
    maker->compressor = ZSTD_createCCtx();
    if (maker->compressor == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the index of a tag cache");
    size_t code = ZSTD_CCtx_setParameter(maker->compressor, ZSTD_c_compressionLevel, INDEX_ZSTD_LEVEL);
    assert(!ZSTD_isError(code));

    if (!hf_buf_add_zeros(&maker->frame, FRAME_LENGTH, err) || !squeeze_files(writer, maker, err) ||
        !hf_census_encode(census, squeeze, maker, err) || !squeeze_as(maker, NULL, 0, ZSTD_e_end, err) ||
        !hf_buf_add_zeros(&maker->frame, HF_AEAD_TAG_BYTES, err))
        return false;
    seal_frame(maker->frame.data, maker->frame.data + FRAME_LENGTH, maker->frame.length - FRAME_EXTRA, &writer->key,
               &writer->backup, writer->written);
    return true;
}

static void
index_maker_done(struct index_maker *maker)
{
    ZSTD_freeCCtx(maker->compressor);
    hf_buf_done(&maker->frame);
}

static bool
squeeze_files(struct hf_tag_cache_writer *writer, struct index_maker *maker, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf number = HF_BUF_INIT(16);
    const uint8_t *entries = writer->entries.data;

    if (writer->file_count > 0)
        qsort_r(writer->files, writer->file_count, sizeof writer->files[0], by_path, writer->entries.data);
    if (!hf_buf_put_varint(&number, writer->file_count, err) || !squeeze(maker, number.data, number.length, err))
        return false;
    for (size_t i = 0; i < writer->file_count; i++) {
        const struct told_file *file = &writer->files[i];
        const char *path = (const char *)entries + file->path;
        if (i > 0 && strcmp((const char *)entries + writer->files[i - 1].path, path) == 0)
            return hf_fail(err, HF_ERR_CONFLICT, "file \"%.200s\" stands in the backup twice", path);
        hf_buf_clear(&number);
        if (!hf_buf_put_varint(&number, strlen(path), err) || !squeeze(maker, number.data, number.length, err) ||
            !squeeze(maker, (const uint8_t *)path, strlen(path), err) ||
            !squeeze(maker, entries + file->body, file->end - file->body, err))
            return false;
    }
    return true;
}

static int
by_path(const void *a, const void *b, void *entries)
{
    const struct told_file *left = a, *right = b;
    return strcmp((const char *)entries + left->path, (const char *)entries + right->path);
}

/* A hf_census_sink, too. */
static bool
squeeze(void *context, const uint8_t *bytes, size_t length, struct hf_error *err)
{
    return squeeze_as(context, bytes, length, ZSTD_e_continue, err);
}

static bool
squeeze_as(struct index_maker *maker, const uint8_t *bytes, size_t length, ZSTD_EndDirective how, struct hf_error *err)
{
    ZSTD_inBuffer in = {.src = bytes, .size = length};
    size_t left;
    do {
        if (!hf_buf_reserve(&maker->frame, ZSTD_CStreamOutSize(), err))
            return false;
        ZSTD_outBuffer out = {.dst = maker->frame.data + maker->frame.length, .size = ZSTD_CStreamOutSize()};
        left = ZSTD_compressStream2(maker->compressor, &out, &in, how);
        if (ZSTD_isError(left))
            return hf_fail(err, HF_ERR_NO_MEMORY, "could not compress the index of a tag cache: %s",
                           ZSTD_getErrorName(left));
        maker->frame.length += out.pos;
    } while (in.pos < in.size || (how == ZSTD_e_end && left > 0));
    return true;
}

static bool
read_head(struct hf_tag_cache *cache, const struct hf_vault_keys *keys, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(HEAD_PLAIN);
    uint8_t head[FRAMES_START];
    char what[256];
    const struct hf_envelope envelope = head_envelope(keys);

    if (!hf_pread_all(cache->fd, head, sizeof head, 0, cache->path, err))
        return false;
    if (hf_get_u32(head) != HEAD_SEALED)
        return damaged(cache, "it does not begin like one", err);
    snprintf(what, sizeof what, "tag cache \"%.200s\"", cache->path);
    if (!hf_envelope_open(&envelope, &keys->record_key, head + FRAME_LENGTH, HEAD_SEALED, what, &plain, err))
        return false;

    struct hf_reader reader = HF_READER(plain.data, plain.length);
    const uint32_t version = hf_reader_u32(&reader);
    const uint8_t *key = hf_reader_bytes(&reader, HF_KEY_BYTES);
    const uint8_t *backup = hf_reader_bytes(&reader, HF_ID_BYTES);
    cache->index_offset = hf_reader_u64(&reader);
    cache->index_length = hf_reader_u64(&reader);
    if (!hf_reader_finished(&reader) || version != CACHE_VERSION)
        return damaged(cache, "its head is not of version 1", err);
    memcpy(cache->backup.bytes, backup, HF_ID_BYTES);
    return hf_secret_copy(&cache->key, key, HF_KEY_BYTES, err);
}

static bool
read_index(struct hf_tag_cache *cache, uint64_t file_size, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_TAG_CACHE_INDEX_MOST);
    const uint64_t offset = cache->index_offset, length = cache->index_length;

    if (offset == 0)
        return damaged(cache, "it was never completed", err);
    if (offset < FRAMES_START || offset > file_size || length != file_size - offset || length < FRAME_EXTRA ||
        length > FRAME_EXTRA + ZSTD_compressBound(HF_TAG_CACHE_INDEX_MOST))
        return damaged(cache, "its index is not where its head says", err);

    _cleanup_(hf_freep) uint8_t *frame = malloc((size_t)length);
    if (frame == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the index of tag cache \"%s\"", cache->path);
    if (!hf_pread_all(cache->fd, frame, (size_t)length, offset, cache->path, err))
        return false;
    uint8_t *sealed = frame + FRAME_LENGTH;
    if (!open_frame(cache, frame, (size_t)length, offset, sealed))
        return damaged(cache, "its index was altered", err);
    if (!expand(sealed, (size_t)length - FRAME_EXTRA, &plain, err))
        return hf_fail_within(err, "tag cache \"%s\"", cache->path);
    hf_freep(&frame);
    frame = NULL;

    struct hf_reader reader = HF_READER(plain.data, plain.length);
    return parse_index(cache, &reader, err);
}

/* Opens a whole frame; `plain` may be where its ciphertext stands. */
static bool
open_frame(const struct hf_tag_cache *cache, const uint8_t *frame, size_t length, uint64_t offset, uint8_t *plain)
{
    uint8_t nonce[FRAME_NONCE];
    const uint8_t *sealed = frame + FRAME_LENGTH;
    const size_t plain_length = length - FRAME_EXTRA;

    frame_nonce(offset, nonce);
    return hf_get_u32(frame) == plain_length && crypto_aead_xchacha20poly1305_ietf_decrypt_detached(
                                                    plain, NULL, sealed, plain_length, sealed + plain_length,
                                                    cache->backup.bytes, HF_ID_BYTES, nonce, cache->key.bytes) == 0;
}

static bool
expand(const uint8_t *bytes, size_t length, struct hf_buf *plain, struct hf_error *err)
{
    ZSTD_DCtx *decompressor = ZSTD_createDCtx();
    if (decompressor == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an index");

    ZSTD_inBuffer in = {.src = bytes, .size = length};
    size_t left = 1;
    bool ok = true;
    while (ok && left > 0) {
        ok = hf_buf_reserve(plain, ZSTD_DStreamOutSize(), err);
        if (!ok)
            break;
        ZSTD_outBuffer out = {.dst = plain->data + plain->length, .size = ZSTD_DStreamOutSize()};
        const size_t before = in.pos;
        left = ZSTD_decompressStream(decompressor, &out, &in);
        plain->length += ZSTD_isError(left) ? 0 : out.pos;
        if (ZSTD_isError(left) || (left > 0 && out.pos == 0 && in.pos == before))
            ok = hf_fail(err, HF_ERR_CORRUPT, "the index does not decompress");
    }
    ZSTD_freeDCtx(decompressor);
    if (ok && in.pos != in.size)
        return hf_fail(err, HF_ERR_CORRUPT, "bytes follow the index");
    return ok;
}

static bool
parse_index(struct hf_tag_cache *cache, struct hf_reader *reader, struct hf_error *err)
{
    size_t leaves, path_bytes;
    const uint64_t count = hf_reader_varint(reader);
    if (!hf_reader_ok(reader) || count > (reader->length - reader->position) / FILE_LEAST_BYTES ||
        !measure_files(*reader, (size_t)count, &leaves, &path_bytes))
        return damaged(cache, "its index is cut off", err);

    const size_t files_bytes = (size_t)count * sizeof cache->files[0];
    const size_t leaves_bytes = leaves * sizeof(struct hf_cached_leaf);
    cache->memory = malloc(files_bytes + leaves_bytes + path_bytes + 1);
    if (cache->memory == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the %" PRIu64 " files of tag cache \"%s\"", count,
                       cache->path);
    cache->files = cache->memory;
    struct index_memory memory = {.leaves = (void *)((uint8_t *)cache->memory + files_bytes),
                                  .paths = (char *)cache->memory + files_bytes + leaves_bytes};
    for (size_t i = 0; i < count; i++) {
        if (!parse_file(cache, reader, &memory, &cache->files[i]))
            return damaged(cache, "a file in its index is none", err);
        if (i > 0 && strcmp(cache->files[i - 1].path, cache->files[i].path) >= 0)
            return damaged(cache, "its index is not sorted by path", err);
    }
    cache->file_count = (size_t)count;

    if (!hf_census_decode(reader, &cache->census, err))
        return hf_fail_within(err, "tag cache \"%s\" is damaged", cache->path);
    if (!hf_reader_finished(reader))
        return damaged(cache, "bytes follow its census", err);
    return true;
}

/* Goes through the files once to learn how much memory their leaves and paths take. */
static bool
measure_files(struct hf_reader ahead, size_t count, size_t *ret_leaves, size_t *ret_path_bytes)
{
    *ret_leaves = *ret_path_bytes = 0;
    for (size_t i = 0; i < count && hf_reader_ok(&ahead); i++) {
        size_t length;
        (void)hf_reader_string(&ahead, HF_PATH_MOST, &length);
        (void)hf_reader_u8(&ahead);
        (void)hf_reader_varint(&ahead);
        const uint64_t leaves = hf_reader_varint_max(&ahead, (ahead.length - ahead.position) / LEAF_LEAST_BYTES);
        for (uint64_t n = 0; n < leaves && hf_reader_ok(&ahead); n++) {
            (void)hf_reader_varint(&ahead);
            (void)hf_reader_varint(&ahead);
            (void)hf_reader_bytes(&ahead, HF_ID_BYTES);
            (void)hf_reader_varint(&ahead);
            (void)hf_reader_varint(&ahead);
        }
        *ret_path_bytes += length + 1;
        *ret_leaves += (size_t)leaves;
    }
    return hf_reader_ok(&ahead);
}

static bool
parse_file(struct hf_tag_cache *cache, struct hf_reader *reader, struct index_memory *memory,
           struct hf_cached_file *file)
{
    size_t length;
    const uint8_t *path = hf_reader_string(reader, HF_PATH_MOST, &length);
    if (path == NULL || memchr(path, '\0', length) != NULL)
        return false;
    memcpy(memory->paths, path, length); // measure_files() left room
    memory->paths[length] = '\0';
    file->path = memory->paths;
    memory->paths += length + 1;
    file->page_log2 = hf_reader_u8(reader);
    file->size = hf_reader_varint(reader);
    file->leaf_count = (size_t)hf_reader_varint(reader);
    file->leaves = memory->leaves;
    for (size_t i = 0; i < file->leaf_count; i++)
        if (!parse_leaf(reader, memory->leaves++))
            return false;
    return hf_reader_ok(reader) && hf_path_check(file->path, NULL) && file_fault(file, cache->index_offset) == NULL;
}

static bool
parse_leaf(struct hf_reader *reader, struct hf_cached_leaf *leaf)
{
    leaf->frame = hf_reader_varint(reader);
    const uint64_t tags_length = hf_reader_varint_max(reader, HF_LEAF_PAGES * HF_TAG_BYTES);
    const uint8_t *pack = hf_reader_bytes(reader, HF_ID_BYTES);
    leaf->ref.slab = (uint32_t)hf_reader_varint_max(reader, UINT32_MAX);
    leaf->ref.index = (uint32_t)hf_reader_varint_max(reader, UINT32_MAX);
    if (!hf_reader_ok(reader) || tags_length % HF_TAG_BYTES != 0)
        return false;
    leaf->pages = (uint32_t)(tags_length / HF_TAG_BYTES);
    memcpy(leaf->ref.pack.bytes, pack, HF_ID_BYTES);
    return true;
}

static bool
damaged(const struct hf_tag_cache *cache, const char *why, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_CORRUPT, "tag cache \"%s\" is damaged: %s", cache->path, why);
}

static int
path_against_file(const void *path, const void *file)
{
    return strcmp(path, ((const struct hf_cached_file *)file)->path);
}
