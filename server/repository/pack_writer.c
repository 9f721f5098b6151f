#include "server/repository/pack.h"

#include <string.h>

#include "server/repository/pack_internal.h"

#define DIRECTORY_VERSION 1
#define PUSH_EVERY        (8 * HF_MIB) // what may be on its way to the disk, twice

struct hf_pack_writer {
    struct hf_backend *backend;          // borrowed from the caller
    const struct hf_pack_cipher *cipher; // borrowed from the caller
    struct hf_upload *upload;
    struct hf_sha256 *sha256; // of everything appended
    uint64_t offset;          // bytes appended
    uint32_t slab_count;
    size_t file_count, file_room;
    struct hf_pack_file *files; // in the order they were told
    size_t path_bytes;
    struct hf_buf slabs; // two of the directory's parts, as they will stand in it
    struct hf_buf pages;
};

static bool append(struct hf_pack_writer *writer, const void *data, size_t length, struct hf_error *err);
static int by_ordinal(const void *a, const void *b);
static bool encode_directory(struct hf_pack_writer *writer, struct hf_buf *out, struct hf_error *err);
static void put_trailer(uint8_t trailer[static HF_PACK_TRAILER], uint64_t offset, uint64_t length, uint32_t slabs);

bool
hf_pack_writer_new(struct hf_backend *backend, const struct hf_pack_cipher *cipher, struct hf_pack_writer **ret,
                   struct hf_error *err)
{
    _cleanup_(hf_pack_writer_abortp) struct hf_pack_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack");
    writer->backend = backend;
    writer->cipher = cipher;
    writer->slabs = HF_BUF_INIT(HF_DIRECTORY_MOST);
    writer->pages = HF_BUF_INIT(HF_DIRECTORY_MOST);

    char name[HF_PACK_NAME_BYTES];
    const struct hf_pack_identity *identity = &writer->cipher->identity;
    hf_pack_name(&identity->vault, &identity->pack, name);
    if (!hf_sha256_new(&writer->sha256, err) || !hf_upload_begin(backend, name, 0, &writer->upload, err) ||
        !append(writer, writer->cipher->header, HF_PACK_HEADER, err))
        return false;
    *ret = HF_TAKE(writer);
    return true;
}

bool
hf_pack_writer_file(struct hf_pack_writer *writer, uint32_t ordinal, uint8_t page_log2, const char *path,
                    struct hf_error *err)
{
    if (writer->file_count == writer->file_room) {
        const size_t room = writer->file_room > 0 ? 2 * writer->file_room : 64;
        struct hf_pack_file *grown = realloc(writer->files, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's directory");
        writer->files = grown;
        writer->file_room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a pack's directory");
    writer->files[writer->file_count++] =
        (struct hf_pack_file){.ordinal = ordinal, .page_log2 = page_log2, .path = copy};
    writer->path_bytes += strlen(path) + 8;
    return true;
}

bool
hf_pack_writer_slab(struct hf_pack_writer *writer, const struct hf_slab_info *info, const uint8_t *stored,
                    size_t stored_length, const struct hf_page_run *runs, size_t run_count,
                    const struct hf_page_check *checks, struct hf_error *err)
{
    if (!hf_buf_put_varint(&writer->slabs, writer->offset / 8, err) ||
        !hf_buf_put_varint(&writer->slabs, info->plain_length, err) ||
        !hf_buf_put_varint(&writer->slabs, info->sealed_length, err) ||
        !hf_buf_put_u8(&writer->slabs, (uint8_t)info->kind, err) ||
        !hf_buf_put_varint(&writer->slabs, info->items, err))
        return false;
    if (info->kind == HF_SLAB_PAGES) {
        _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(HF_SLAB_RAW_MOST);
        if (!hf_page_list_put(runs, run_count, &list, err) ||
            !hf_buf_put_string(&writer->pages, list.data, list.length, err))
            return false;
        for (uint32_t i = 0; i < info->items; i++)
            if (!hf_buf_add(&writer->pages, checks[i].tag, HF_TAG_BYTES, err) ||
                !hf_buf_put_u32(&writer->pages, checks[i].crc32c, err))
                return false;
    }
    writer->slab_count++;
    return append(writer, stored, stored_length, err);
}

uint64_t
hf_pack_writer_bytes(const struct hf_pack_writer *writer)
{
    return writer->offset + writer->slabs.length + writer->path_bytes + writer->pages.length +
           hf_slab_stored_length(64) + HF_PACK_TRAILER;
}

bool
hf_pack_writer_finish(struct hf_pack_writer **writer, struct hf_slab_worker *worker, uint64_t *ret_bytes,
                      uint8_t ret_sha256[static HF_SHA256_BYTES], struct hf_error *err)
{
    _cleanup_(hf_pack_writer_abortp) struct hf_pack_writer *taken = HF_TAKE(*writer);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT(HF_DIRECTORY_MOST);
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(2 * HF_DIRECTORY_MOST);

    struct hf_slab_info info = {.number = HF_SLAB_DIRECTORY_NO, .kind = HF_SLAB_DIRECTORY, .items = taken->slab_count};
    if (!encode_directory(taken, &plain, err) ||
        !hf_slab_seal(worker, taken->cipher, &info, plain.data, plain.length, &sealed, err))
        return false;

    uint8_t trailer[HF_PACK_TRAILER];
    put_trailer(trailer, taken->offset, HF_SLAB_HEADER + (uint64_t)info.sealed_length + HF_AEAD_TAG_BYTES,
                taken->slab_count);
    if (!append(taken, sealed.data, sealed.length, err) || !append(taken, trailer, sizeof trailer, err))
        return false;

    *ret_bytes = taken->offset;
    hf_sha256_end(taken->sha256, ret_sha256);
    return hf_upload_finish(&taken->upload, err);
}

void
hf_pack_writer_abortp(struct hf_pack_writer **writer)
{
    struct hf_pack_writer *gone = *writer;
    if (gone == NULL)
        return;
    hf_upload_abortp(&gone->upload);
    hf_sha256_freep(&gone->sha256);
    hf_buf_done(&gone->slabs);
    for (size_t i = 0; i < gone->file_count; i++)
        free(gone->files[i].path);
    free(gone->files);
    hf_buf_done(&gone->pages);
    free(gone);
    *writer = NULL;
}

static bool
append(struct hf_pack_writer *writer, const void *data, size_t length, struct hf_error *err)
{
    hf_sha256_add(writer->sha256, data, length);
    if (!hf_upload_append(writer->upload, data, length, err))
        return false;
    if ((writer->offset + length) / PUSH_EVERY > writer->offset / PUSH_EVERY)
        hf_upload_push(writer->upload);
    writer->offset += length;
    return true;
}

static int
by_ordinal(const void *a, const void *b)
{
    const struct hf_pack_file *left = a, *right = b;
    return (left->ordinal > right->ordinal) - (left->ordinal < right->ordinal);
}

static bool
encode_directory(struct hf_pack_writer *writer, struct hf_buf *out, struct hf_error *err)
{
    if (writer->file_count > 0)
        qsort(writer->files, writer->file_count, sizeof *writer->files, by_ordinal);
    if (!hf_buf_put_u32(out, DIRECTORY_VERSION, err) || !hf_buf_put_varint(out, writer->slab_count, err) ||
        !hf_buf_add(out, writer->slabs.data, writer->slabs.length, err) ||
        !hf_buf_put_varint(out, writer->file_count, err))
        return false;
    for (size_t i = 0; i < writer->file_count; i++) {
        const struct hf_pack_file *file = &writer->files[i];
        if (!hf_buf_put_varint(out, file->ordinal, err) || !hf_buf_put_u8(out, file->page_log2, err) ||
            !hf_buf_put_string(out, file->path, strlen(file->path), err))
            return false;
    }
    return hf_buf_add(out, writer->pages.data, writer->pages.length, err);
}

static void
put_trailer(uint8_t trailer[static HF_PACK_TRAILER], uint64_t offset, uint64_t length, uint32_t slabs)
{
    memset(trailer, 0, HF_PACK_TRAILER);
    memcpy(trailer, "HFPEND01", 8);
    hf_put_u64(trailer + 8, offset);
    hf_put_u64(trailer + 16, length);
    hf_put_u32(trailer + 40, slabs);
    hf_put_u32(trailer + 60, hf_crc32c(0, trailer, 60));
}
