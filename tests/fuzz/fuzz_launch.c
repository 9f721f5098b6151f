/* A sandbox spec that is accepted can be written, and what was written reads back as the same text. */
#include <assert.h>
#include <string.h>

#include "sandbox/launch.h"
#include "tests/fuzz/fuzz.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_(hf_launch_done) struct hf_launch launch = {0}, again = {0};
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_LAUNCH_MOST_BYTES);
    _cleanup_(hf_buf_done) struct hf_buf twice = HF_BUF_INIT(4 * HF_LAUNCH_MOST_BYTES);
    struct hf_error err;

    if (!hf_launch_parse(data, size, &launch, &err)) {
        assert(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_USAGE || err.kind == HF_ERR_NO_SPACE);
        return 0;
    }
    assert(launch.command.arguments[0] != NULL && launch.lowest > HF_SANDBOX_L0);
    for (size_t i = 0; i < launch.entry_count; i++)
        assert(hf_launch_path_is_plain(launch.entries[i].to));
    if (!hf_launch_write(&launch, &text, &err)) {
        assert(err.kind == HF_ERR_USAGE); // a number too large for canonical JSON
        return 0;
    }
    bool read = hf_launch_parse(text.data, text.length, &again, &err);
    bool written = read && hf_launch_write(&again, &twice, &err);
    assert(written && twice.length == text.length && memcmp(twice.data, text.data, text.length) == 0);
    return 0;
}
