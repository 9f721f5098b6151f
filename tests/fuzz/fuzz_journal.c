/*
 * Whatever stands behind a journal's header: reading ends, and hands over nothing that was not sealed by us.  A journal
 * is written once with a fixed key; the input is put over its bytes, so that some frames stay intact.
 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "server/stream/journal.h"
#include "server/stream/timeline.h"
#include "tests/fuzz/fuzz.h"

#define FRAMES 8
#define BYTES  200

static struct hf_vault_keys keys;
static struct hf_key_epoch epoch;
static uint8_t whole[8192];
static size_t whole_length;

static bool
check_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    (void)context, (void)err;
    assert(frame->kind == HF_FRAME_LOG && length == BYTES && frame->position % BYTES == 0);
    for (size_t i = 0; i < length; i++)
        assert(data[i] == (uint8_t)(frame->position / BYTES));
    return true;
}

static void
set_up(void)
{
    struct hf_error err;
    struct hf_journal *journal;
    uint8_t data[BYTES];
    char folder[] = "/tmp/hf-fuzz-journal-XXXXXX";
    epoch = (struct hf_key_epoch){.epoch = 1};
    keys = (struct hf_vault_keys){.epoch_count = 1, .epochs = &epoch};
    assert(hf_secret_init(&epoch.data_secret, HF_KEY_BYTES, &err) && mkdtemp(folder) != NULL);
    assert(hf_journal_create(folder, 1, &keys, 4096, &journal, &err));
    for (unsigned i = 0; i < FRAMES; i++) {
        const struct hf_frame frame = {.kind = HF_FRAME_LOG, .timeline = 1, .position = (uint64_t)i * BYTES};
        memset(data, (int)i, sizeof data);
        assert(hf_journal_append(journal, &frame, data, sizeof data, &err) && hf_journal_sync(journal, &err));
    }
    FILE *file = fopen(hf_journal_path(journal), "rb");
    whole_length = fread(whole, 1, sizeof whole, file);
    fclose(file);
    unlink(hf_journal_path(journal));
    rmdir(folder);
    hf_journal_freep(&journal);
}

/* The first two bytes say where the rest is put. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct hf_timeline_path path;
    struct hf_journal_ending ending;
    struct hf_error err;
    uint8_t bytes[sizeof whole];
    if (whole_length == 0)
        set_up();
    memcpy(bytes, whole, whole_length);
    const size_t at = size < 2 ? 0 : hf_get_u16(data) % whole_length;
    const size_t length = size < 2 ? 0 : size - 2 < whole_length - at ? size - 2 : whole_length - at;
    memcpy(bytes + at, data + (size < 2 ? 0 : 2), length);

    const int fd = memfd_create("journal", MFD_CLOEXEC);
    assert(fd >= 0 && write(fd, bytes, whole_length) == (ssize_t)whole_length);
    if (hf_journal_read_fd(fd, "journal", &keys, NULL, check_frame, NULL, &ending, &err))
        assert(ending.frames + ending.damaged <= FRAMES);
    close(fd);

    if (hf_timeline_path_parse(100, data, size, &path, &err)) {
        assert(path.count >= 1 && path.steps[path.count - 1].timeline == 100);
        for (size_t i = 1; i < path.count; i++)
            assert(path.steps[i].start == path.steps[i - 1].end && path.steps[i].timeline > path.steps[i - 1].timeline);
    }
    return 0;
}
