/*
 * replay.c - feeds a corpus to a fuzz target, as an ordinary test
 *
 * Each file of the folder is fed as it is, cut at every length, and changed in a few thousand ways
 * that are the same in every run.  Speaks TAP; a target that finds its property broken aborts, and
 * the input stands in the last line before that.
 *
 *     fuzz_leaf corpus/leaf        the whole folder
 *     fuzz_leaf corpus/leaf/name   one input, as it is
 */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/secret.h"
#include "tests/fuzz/fuzz.h"

#define MOST_INPUTS  4096
#define MOST_BYTES   (4 * HF_MIB)
#define MOST_CUTS    2000 // of the shorter prefixes
#define CHANGED_RUNS 4000

static int replay_folder(const char *folder);
static bool replay_input(const char *path, bool change, struct hf_error *err);
static void feed_changed(const struct hf_buf *input);
static size_t change_a_little(uint8_t *bytes, size_t length);
static void feed(const uint8_t *bytes, size_t length);
static size_t below(size_t limit);

static uint64_t random_state;

int
main(int argc, char **argv)
{
    struct stat status;
    struct hf_error err;
    if (argc != 2 || stat(argv[1], &status) < 0) {
        fprintf(stderr, "usage: %s folder|input\n", argv[0]);
        return 2;
    }
    if (!hf_secrets_setup(&err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    if (S_ISDIR(status.st_mode))
        return replay_folder(argv[1]);
    if (!replay_input(argv[1], false, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    return 0;
}

static int
replay_folder(const char *folder)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    struct hf_error err;
    size_t count;
    int worst = 0;

    if (!hf_dir_list(folder, MOST_INPUTS, &names, &count, &err)) {
        printf("Bail out! %s\n", err.message);
        return 1;
    }
    if (count == 0) {
        printf("Bail out! there is no input in \"%s\"\n", folder);
        return 1;
    }
    printf("1..%zu\n", count);
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_freep) char *path = hf_path_join(folder, names[i]);
        printf("# %s\n", names[i]);
        fflush(stdout);
        bool ok = path != NULL && replay_input(path, true, &err);
        printf("%s %zu - %s\n", ok ? "ok" : "not ok", i + 1, names[i]);
        if (!ok) {
            printf("# %s\n", path == NULL ? "out of memory" : err.message);
            worst = 1;
        }
    }
    return worst;
}

static bool
replay_input(const char *path, bool change, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf input = HF_BUF_INIT(MOST_BYTES);
    if (!hf_file_read(path, &input, err))
        return false;
    feed(input.data, input.length);
    if (change)
        feed_changed(&input);
    return true;
}

static void
feed_changed(const struct hf_buf *input)
{
    for (size_t length = 0; length < input->length && length < MOST_CUTS; length++)
        feed(input->data, length);

    uint8_t *bytes = malloc(input->length + 64);
    if (bytes == NULL)
        abort();
    random_state = 0x9e3779b97f4a7c15;
    for (unsigned run = 0; run < CHANGED_RUNS; run++) {
        size_t length = input->length;
        if (length > 0)
            memcpy(bytes, input->data, length);
        for (size_t changes = 1 + below(4); changes > 0; changes--)
            length = change_a_little(bytes, length);
        feed(bytes, length);
    }
    free(bytes);
}

/* One bit, one byte, one number at its limit, or bytes taken out, put in or repeated.  Adds at most 16 bytes. */
static size_t
change_a_little(uint8_t *bytes, size_t length)
{
    static const uint8_t telling[] = {0, 1, 2, 0x7f, 0x80, 0xff};
    const size_t at = below(length + 1);
    const size_t span = 1 + below(16);
    switch (below(6)) {
    case 0:
        if (at < length)
            bytes[at] ^= (uint8_t)(1 << below(8));
        return length;
    case 1:
        if (at < length)
            bytes[at] = (uint8_t)below(256);
        return length;
    case 2:
        if (at < length)
            bytes[at] = telling[below(sizeof telling)];
        return length;
    case 3:
        if (span > length - at)
            return at;
        memmove(bytes + at, bytes + at + span, length - at - span);
        return length - span;
    case 4:
        memmove(bytes + at + span, bytes + at, length - at);
        memset(bytes + at, telling[below(sizeof telling)], span);
        return length + span;
    default:
        if (span > length - at)
            return length;
        memmove(bytes + below(length - span + 1), bytes + at, span);
        return length;
    }
}

/* From memory of exactly this length, so that a read past the end is seen. */
static void
feed(const uint8_t *bytes, size_t length)
{
    uint8_t *copy = malloc(length == 0 ? 1 : length);
    if (copy == NULL)
        abort();
    if (length > 0)
        memcpy(copy, bytes, length);
    (void)LLVMFuzzerTestOneInput(copy, length);
    free(copy);
}

static size_t
below(size_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (size_t)(random_state >> 32) % limit;
}
