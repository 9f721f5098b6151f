/* Whatever a stream holds, files have clean names, begin and end in turn, and how it is cut makes no difference. */
#include <assert.h>
#include <string.h>

#include "base/digest.h"
#include "server/source/mariadb/mbstream.h"
#include "tests/fuzz/fuzz.h"

/* What a reading came to. */
struct run {
    uint64_t open, ended, changes, bytes, holes;
    uint32_t names, data; // running sums
};

static bool read_in_pieces(const uint8_t *data, size_t size, size_t piece, bool sparse, struct run *run,
                           struct hf_error *err);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (int sparse = 0; sparse < 2; sparse++) {
        struct run whole, pieces;
        struct hf_error why, also;
        const bool good = read_in_pieces(data, size, size, sparse, &whole, &why);
        const bool again = read_in_pieces(data, size, 13, sparse, &pieces, &also);
        assert(good == again && whole.names == pieces.names && whole.ended == pieces.ended);
        assert(whole.bytes == pieces.bytes || !good);
        assert(!good || (whole.open == 0 && whole.data == pieces.data && whole.bytes <= size));
        assert(good || why.kind == HF_ERR_CORRUPT || why.kind == HF_ERR_UNAVAILABLE);
    }
    return 0;
}

static void
note_name(struct run *run, const char *path)
{
    assert(path[0] != '\0' && path[0] != '/' && strlen(path) <= HF_MBSTREAM_PATH_MOST);
    assert(strcmp(path, "..") != 0 && strncmp(path, "../", 3) != 0 && strstr(path, "/../") == NULL);
    run->names = hf_crc32c(run->names, path, strlen(path) + 1);
}

static bool
begin(void *context, const char *path, bool again, void **ret_file, struct hf_error *err)
{
    struct run *run = context;
    (void)again;
    (void)err;
    note_name(run, path);
    run->open++;
    *ret_file = run;
    return true;
}

static bool
take(void *context, void *file, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct run *run = context;
    (void)err;
    assert(file == context && length > 0 && run->open > 0);
    run->bytes += length;
    run->data = hf_crc32c(run->data, data, length);
    return true;
}

static bool
hole(void *context, void *file, uint64_t length, struct hf_error *err)
{
    struct run *run = context;
    (void)err;
    assert(file == context && length > 0);
    run->holes += length;
    return true;
}

static bool
end(void *context, void *file, struct hf_error *err)
{
    struct run *run = context;
    (void)file;
    (void)err;
    assert(run->open > 0);
    run->open--;
    run->ended++;
    return true;
}

static bool
renamed(void *context, const char *from, const char *to, struct hf_error *err)
{
    (void)err;
    note_name(context, from);
    note_name(context, to);
    return true;
}

static bool
removed(void *context, const char *path, struct hf_error *err)
{
    (void)err;
    note_name(context, path);
    return true;
}

static bool
read_in_pieces(const uint8_t *data, size_t size, size_t piece, bool sparse, struct run *run, struct hf_error *err)
{
    const struct hf_mbstream_events events = {
        .context = run, .begin = begin, .data = take, .hole = hole, .end = end, .renamed = renamed, .removed = removed};
    _cleanup_(hf_mbstream_freep) struct hf_mbstream *stream = NULL;
    *run = (struct run){0};
    bool good = hf_mbstream_new(&events, sparse, &stream, err);
    assert(good);
    for (size_t at = 0; good && at < size; at += piece)
        good = hf_mbstream_feed(stream, data + at, at + piece > size ? size - at : piece, err);
    return good && hf_mbstream_end(stream, err);
}
