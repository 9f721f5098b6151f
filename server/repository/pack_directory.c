#include "server/repository/pack_internal.h"

#include <string.h>

#define DIRECTORY_VERSION 1

/* Least bytes that one of these takes in the directory: what a count is checked against before memory is asked for. */
#define SLAB_ROW_LEAST 5
#define FILE_ROW_LEAST 3
#define PAGE_ROW       (HF_TAG_BYTES + 4)

static bool read_slabs(struct hf_reader *reader, struct hf_pack_directory *directory);
static bool read_files(struct hf_reader *reader, struct hf_pack_directory *directory);
static bool read_pages(struct hf_reader *reader, struct hf_pack_directory *directory);
static void *array(size_t count, size_t size);
static bool add_runs(struct hf_pack_directory *directory, size_t *room, const struct hf_page_run *runs, size_t count);

bool
hf_pack_directory_decode(const uint8_t *plain, size_t length, const char *pack_name, struct hf_pack_directory **ret,
                         struct hf_error *err)
{
    _cleanup_(hf_pack_directory_freep) struct hf_pack_directory *directory = calloc(1, sizeof *directory);
    if (directory == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the directory of pack \"%s\"", pack_name);

    struct hf_reader reader = HF_READER(plain, length);
    if (hf_reader_u32(&reader) != DIRECTORY_VERSION)
        hf_reader_refuse(&reader);
    if (!read_slabs(&reader, directory) || !read_files(&reader, directory) || !read_pages(&reader, directory))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the directory of pack \"%s\"", pack_name);
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the directory of pack \"%s\" does not read as one", pack_name);

    *ret = HF_TAKE(directory);
    return true;
}

void
hf_pack_directory_freep(struct hf_pack_directory **directory)
{
    struct hf_pack_directory *gone = *directory;
    if (gone == NULL)
        return;
    for (size_t i = 0; i < gone->file_count; i++)
        free(gone->files[i].path);
    free(gone->files);
    free(gone->slabs);
    free(gone->run_start);
    free(gone->runs);
    free(gone->page_start);
    free(gone->checks);
    free(gone);
    *directory = NULL;
}

/* These three return false only when memory is out; what is wrong with the bytes sticks to the reader. */
static bool
read_slabs(struct hf_reader *reader, struct hf_pack_directory *directory)
{
    const size_t count = hf_reader_varint_max(reader, HF_PACK_SLABS_MOST);
    if (!hf_reader_ok(reader) || count > (reader->length - reader->position) / SLAB_ROW_LEAST) {
        hf_reader_refuse(reader);
        return true;
    }
    directory->slabs = array(count, sizeof *directory->slabs);
    if (directory->slabs == NULL)
        return false;
    uint64_t end = HF_PACK_HEADER;
    for (size_t i = 0; i < count; i++) {
        struct hf_slab_info *slab = &directory->slabs[i];
        slab->number = (uint32_t)i;
        slab->offset = hf_reader_varint_max(reader, HF_PACK_MOST / 8) * 8;
        slab->plain_length = (uint32_t)hf_reader_varint_max(reader, HF_MANIFEST_OBJECT_MOST);
        slab->sealed_length = (uint32_t)hf_reader_varint_max(reader, HF_MANIFEST_OBJECT_MOST);
        slab->kind = (enum hf_slab_kind)hf_reader_u8(reader);
        slab->items = (uint32_t)hf_reader_varint_max(reader, UINT32_MAX);
        if ((slab->kind != HF_SLAB_PAGES && slab->kind != HF_SLAB_OBJECTS && slab->kind != HF_SLAB_STREAM) ||
            slab->offset < end || (slab->kind == HF_SLAB_PAGES && slab->items > HF_SLAB_PAGES_MOST))
            hf_reader_refuse(reader);
        end = slab->offset + hf_slab_stored_length(slab->sealed_length);
        if (!hf_reader_ok(reader))
            return true;
        if (slab->kind == HF_SLAB_PAGES)
            directory->page_count += slab->items;
    }
    directory->slab_count = count;
    return true;
}

static bool
read_files(struct hf_reader *reader, struct hf_pack_directory *directory)
{
    const size_t count = hf_reader_varint_max(reader, UINT32_MAX);
    if (!hf_reader_ok(reader) || count > (reader->length - reader->position) / FILE_ROW_LEAST) {
        hf_reader_refuse(reader);
        return true;
    }
    directory->files = array(count, sizeof *directory->files);
    if (directory->files == NULL)
        return false;
    for (size_t i = 0; i < count && hf_reader_ok(reader); i++) {
        struct hf_pack_file *file = &directory->files[i];
        file->ordinal = (uint32_t)hf_reader_varint_max(reader, UINT32_MAX);
        file->page_log2 = hf_reader_u8(reader);
        size_t length;
        const uint8_t *path = hf_reader_string(reader, HF_PATH_MOST, &length);
        if (path == NULL || memchr(path, 0, length) != NULL || file->page_log2 < HF_PAGE_LOG2_LEAST ||
            file->page_log2 > HF_PAGE_LOG2_MOST || (i > 0 && file->ordinal <= directory->files[i - 1].ordinal)) {
            hf_reader_refuse(reader);
            return true;
        }
        file->path = strndup((const char *)path, length);
        if (file->path == NULL)
            return false;
        directory->file_count = i + 1;
    }
    return true;
}

static bool
read_pages(struct hf_reader *reader, struct hf_pack_directory *directory)
{
    if (!hf_reader_ok(reader) || directory->page_count > (reader->length - reader->position) / PAGE_ROW) {
        hf_reader_refuse(reader);
        return true;
    }
    directory->checks = array(directory->page_count, sizeof *directory->checks);
    directory->run_start = array(directory->slab_count + 1, sizeof *directory->run_start);
    directory->page_start = array(directory->slab_count + 1, sizeof *directory->page_start);
    _cleanup_(hf_freep) struct hf_page_run *runs = array(HF_SLAB_PAGES_MOST, sizeof *runs);
    if (directory->checks == NULL || directory->run_start == NULL || directory->page_start == NULL || runs == NULL)
        return false;

    size_t pages_so_far = 0, room = 0;
    for (size_t i = 0; i < directory->slab_count; i++) {
        directory->run_start[i] = directory->run_count;
        directory->page_start[i] = pages_so_far;
        if (directory->slabs[i].kind != HF_SLAB_PAGES)
            continue;
        size_t list_length, count;
        uint32_t pages;
        uint64_t bytes;
        const uint8_t *list = hf_reader_string(reader, HF_SLAB_RAW_MOST, &list_length);
        if (list == NULL ||
            !hf_page_list_get(list, list_length, runs, HF_SLAB_PAGES_MOST, &count, &pages, &bytes, NULL) ||
            pages != directory->slabs[i].items) {
            hf_reader_refuse(reader);
            return true;
        }
        if (!add_runs(directory, &room, runs, count))
            return false;
        for (uint32_t page = 0; page < pages; page++) {
            const uint8_t *tag = hf_reader_bytes(reader, HF_TAG_BYTES);
            if (tag == NULL)
                return true;
            memcpy(directory->checks[pages_so_far].tag, tag, HF_TAG_BYTES);
            directory->checks[pages_so_far++].crc32c = hf_reader_u32(reader);
        }
    }
    directory->run_start[directory->slab_count] = directory->run_count;
    directory->page_start[directory->slab_count] = pages_so_far;
    return true;
}

static void *
array(size_t count, size_t size)
{
    return calloc(count > 0 ? count : 1, size);
}

static bool
add_runs(struct hf_pack_directory *directory, size_t *room, const struct hf_page_run *runs, size_t count)
{
    if (directory->run_count + count > *room) {
        const size_t wanted = 2 * (directory->run_count + count);
        struct hf_page_run *grown = realloc(directory->runs, wanted * sizeof *grown);
        if (grown == NULL)
            return false;
        directory->runs = grown;
        *room = wanted;
    }
    if (count > 0)
        memcpy(directory->runs + directory->run_count, runs, count * sizeof *runs);
    directory->run_count += count;
    return true;
}
