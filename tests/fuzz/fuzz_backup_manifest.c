/* What is read of a server's manifest does not depend on how its bytes come, and its names are clean. */
#include <assert.h>
#include <string.h>

#include "server/source/postgres/manifest.h"
#include "server/source/postgres/path.h"
#include "tests/fuzz/fuzz.h"

/* A running sum of all that the reader was told. */
struct told {
    uint64_t files, sum;
};

static bool read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct told *told,
                           struct hf_backup_manifest_summary *ret, struct hf_error *err);
static bool note(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_backup_manifest_summary whole = {0}, pieces = {0};
    struct told told_whole = {0}, told_pieces = {0};
    struct hf_error err_whole, err_pieces;

    bool ok = read_in_pieces(data, size, size + 1, &told_whole, &whole, &err_whole);
    bool also = read_in_pieces(data, size, 7, &told_pieces, &pieces, &err_pieces);
    assert(ok == also && told_whole.files == told_pieces.files && told_whole.sum == told_pieces.sum);
    if (!ok) {
        assert(err_whole.kind == HF_ERR_CORRUPT && strcmp(err_whole.message, err_pieces.message) == 0);
        return 0;
    }
    assert(whole.files == told_whole.files && memcmp(&whole, &pieces, sizeof whole) == 0);
    assert(whole.version == 1 || whole.version == 2);
    return 0;
}

static bool
read_in_pieces(const uint8_t *data, size_t size, size_t piece, struct told *told,
               struct hf_backup_manifest_summary *ret, struct hf_error *err)
{
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;

    if (!hf_backup_manifest_new(note, told, &manifest, err))
        return false;
    for (size_t at = 0; at < size; at += piece)
        if (!hf_backup_manifest_feed(manifest, data + at, size - at < piece ? size - at : piece, err))
            return false;
    return hf_backup_manifest_finish(manifest, ret, err);
}

static bool
note(void *context, const struct hf_backup_manifest_file *file, struct hf_error *err)
{
    struct told *told = context;
    char again[HF_BACKUP_PATH_BYTES];

    bool clean = hf_postgres_path_clean("", file->path, again, err);
    assert(clean && strcmp(again, file->path) == 0);
    told->files++;
    told->sum = told->sum * 31 + file->size + file->crc32c + strlen(file->path);
    return true;
}
