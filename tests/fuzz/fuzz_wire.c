/* Lines give the same objects and the same refusal, however the stream that carries them is cut. */
#include <assert.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "server/job/wire.h"
#include "tests/fuzz/fuzz.h"

#define LINE_MOST 512
#define SIZE_MOST 60000 // what a pipe holds

static void read_all(const uint8_t *data, size_t size, size_t step, struct hf_buf *heard);
static bool hear(struct hf_wire *wire, struct hf_buf *heard);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_buf_done) struct hf_buf whole = HF_BUF_INIT(HF_MIB), pieces = HF_BUF_INIT(HF_MIB);
    if (size > SIZE_MOST)
        return 0;
    read_all(data, size, SIZE_MOST, &whole);
    read_all(data, size, 7, &pieces);
    assert(strcmp(hf_buf_text(&whole), hf_buf_text(&pieces)) == 0);
    return 0;
}

/* Adds each object in canonical form, and the message of the refusal or "end". */
static void
read_all(const uint8_t *data, size_t size, size_t step, struct hf_buf *heard)
{
    int ends[2];
    int made = pipe2(ends, O_NONBLOCK | O_CLOEXEC);
    assert(made == 0);
    struct hf_wire wire;
    hf_wire_init(&wire, ends[0], LINE_MOST, 0);
    bool going = true;
    for (size_t at = 0; at < size && going; at += step) {
        size_t piece = size - at < step ? size - at : step;
        ssize_t put = write(ends[1], data + at, piece);
        assert(put == (ssize_t)piece);
        going = hear(&wire, heard);
    }
    close(ends[1]);
    while (going && !wire.ended)
        going = hear(&wire, heard);
    hf_wire_done(&wire);
}

static bool
hear(struct hf_wire *wire, struct hf_buf *heard)
{
    struct hf_error err;
    bool received = hf_wire_receive(wire, &err);
    assert(received);
    while (true) {
        _cleanup_(hf_json_freep) json_t *object = NULL;
        if (!hf_wire_next(wire, &object, &err)) {
            assert(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_NO_SPACE);
            // A line that is too long is refused as soon as that is seen, a broken one when its end is.
            bool added = hf_buf_add_text(heard, "refused\n", &err);
            assert(added);
            return false;
        }
        if (object == NULL)
            return true;
        bool added = hf_json_canonical(object, heard, &err) && hf_buf_add_text(heard, "\n", &err);
        assert(added);
    }
}
