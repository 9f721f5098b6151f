/* Whatever a tar holds, the sink sees whole files with clean names, each once, below folders that came before. */
#include <assert.h>
#include <string.h>

#include "server/source/postgres/path.h"
#include "server/source/postgres/tar.h"
#include "tests/fuzz/fuzz.h"

/* A sink that only counts, and the source of its bytes. */
struct run {
    const uint8_t *data;
    size_t size, at, piece;
    uint64_t files, folders, bytes, names; // `names` is a running sum
    uint64_t expected;                     // bytes of the open file still to come
    bool open;
};

static bool read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct run *run, struct hf_error *err);
static bool next(void *context, const uint8_t **ret_data, size_t *ret_length, struct hf_error *err);
static bool take_directory(void *context, const char *path, mode_t mode, struct hf_error *err);
static bool begin_file(void *context, const struct hf_backup_file *file, void **ret_handle, struct hf_error *err);
static bool write_file(void *context, void *handle, const uint8_t *data, size_t length, struct hf_error *err);
static bool end_file(void *context, void *handle, struct hf_error *err);
static void drop_file(void *context, void *handle);
static void note_name(struct run *run, const char *path);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, pieces;
    struct hf_error err_whole, err_pieces;

    bool ok = read_in_pieces(data, size, size, &whole, &err_whole);
    bool also = read_in_pieces(data, size, 100, &pieces, &err_pieces);
    assert(ok == also && whole.files == pieces.files && whole.folders == pieces.folders && whole.names == pieces.names);
    assert(!whole.open && !pieces.open);
    if (ok)
        assert(whole.bytes == pieces.bytes && whole.bytes <= size);
    else
        assert(err_whole.kind == HF_ERR_CORRUPT && err_pieces.kind == HF_ERR_CORRUPT);
    return 0;
}

static bool
read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct run *run, struct hf_error *err)
{
    _cleanup_(hf_inventory_freep) struct hf_inventory *inventory = NULL;
    _cleanup_(hf_tar_kept_done) struct hf_tar_kept kept;
    *run = (struct run){.data = data, .size = size, .piece = piece == 0 ? 1 : piece};
    const struct hf_backup_sink sink = {.context = run,
                                        .directory = take_directory,
                                        .file_begin = begin_file,
                                        .file_write = write_file,
                                        .file_end = end_file,
                                        .file_drop = drop_file};

    hf_tar_kept_init(&kept);
    bool made = hf_inventory_new(&inventory, err);
    assert(made);
    const struct hf_tar tar = {.prefix = "",
                               .sink = &sink,
                               .inventory = inventory,
                               .kept = &kept,
                               .segment_blocks = 131072,
                               .checksums = true};
    return hf_tar_receive(&tar, next, run, err);
}

static bool
next(void *context, const uint8_t **ret_data, size_t *ret_length, __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    *ret_data = run->data + run->at;
    *ret_length = run->size - run->at < run->piece ? run->size - run->at : run->piece;
    run->at += *ret_length;
    return true;
}

static bool
take_directory(void *context, const char *path, __attribute__((unused)) mode_t mode,
               __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    note_name(run, path);
    run->folders++;
    return true;
}

static bool
begin_file(void *context, const struct hf_backup_file *file, void **ret_handle,
           __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    assert(!run->open);
    note_name(run, file->path);
    run->open = true;
    run->expected = file->size;
    *ret_handle = run;
    return true;
}

static bool
write_file(void *context, void *handle, __attribute__((unused)) const uint8_t *data, size_t length,
           __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    assert(handle == run && run->open && length <= run->expected);
    run->expected -= length;
    run->bytes += length;
    return true;
}

static bool
end_file(void *context, __attribute__((unused)) void *handle, __attribute__((unused)) struct hf_error *err)
{
    struct run *run = context;
    assert(run->open && run->expected == 0);
    run->open = false;
    run->files++;
    return true;
}

static void
drop_file(void *context, __attribute__((unused)) void *handle)
{
    struct run *run = context;
    assert(run->open);
    run->open = false;
}

static void
note_name(struct run *run, const char *path)
{
    char again[HF_BACKUP_PATH_BYTES];
    bool clean = hf_postgres_path_clean("", path, again, NULL);

    assert(clean && strcmp(again, path) == 0);
    for (const char *c = path; *c != '\0'; c++)
        run->names = run->names * 31 + (uint8_t)*c;
}
