#include <ctype.h>
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/stream/journal_format.h"

#define WINDOW HF_MIB // read at once while an intact frame is looked for

struct journal_reader {
    int fd;
    const char *name; // borrowed
    uint8_t header[HF_JOURNAL_HEADER];
    struct hf_secret key;
    uint64_t size; // of the file, as it was when we began
    struct hf_buf stored, window;
};

/* One frame as it was found. */
struct found {
    uint64_t at;
    uint32_t number, durable, plain_length; // the plaintext lies in reader->stored, behind the frame's header
};

static bool open_header(struct journal_reader *reader, const struct hf_vault_keys *keys, bool *ret_begun,
                        struct hf_error *err);
static bool read_at(const struct journal_reader *reader, uint64_t at, void *data, size_t length, size_t *ret_got,
                    struct hf_error *err);
static bool try_frame(struct journal_reader *reader, uint64_t at, bool *ret_intact, struct found *ret,
                      struct hf_error *err);
static bool find_frame(struct journal_reader *reader, uint64_t from, bool *ret_found, struct found *ret,
                       struct hf_error *err);
static bool look_behind(struct journal_reader *reader, uint64_t at, uint32_t expected, bool *ret_damaged,
                        struct found *ret_next, bool *ret_any, struct hf_error *err);
static bool is_empty(const struct journal_reader *reader, uint64_t at);
static bool hand_over(struct journal_reader *reader, const struct found *found, hf_journal_visitor *visit,
                      void *context, struct hf_error *err);
static void reader_done(struct journal_reader *reader);

bool
hf_journal_read(const char *path, const struct hf_vault_keys *keys, hf_journal_visitor *visit, void *context,
                struct hf_journal_ending *ret, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    return hf_file_open(path, &fd, NULL, err) && hf_journal_read_fd(fd, path, keys, NULL, visit, context, ret, err);
}

bool
hf_journal_read_fd(int fd, const char *name, const struct hf_vault_keys *keys, const struct hf_journal_part *part,
                   hf_journal_visitor *visit, void *context, struct hf_journal_ending *ret, struct hf_error *err)
{
    _cleanup_(reader_done) struct journal_reader reader = {
        .fd = fd, .name = name, .stored = HF_BUF_INIT(2 * HF_JOURNAL_PLAIN_MOST), .window = HF_BUF_INIT(WINDOW)};
    struct hf_journal_ending ending = {0};
    struct stat status;
    bool begun;
    if (fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at journal \"%s\"", name);
    reader.size = (uint64_t)status.st_size;
    if (!open_header(&reader, keys, &begun, err))
        return false;

    const bool inside = part != NULL && part->at != 0;
    uint32_t expected = inside ? part->number : 0;
    for (uint64_t at = inside ? part->at : HF_JOURNAL_HEADER; begun;) {
        if (part != NULL && part->enough != NULL && *part->enough)
            break;
        struct found found;
        bool intact;
        if (!try_frame(&reader, at, &intact, &found, err))
            return false;
        if (!intact || found.number != expected) {
            struct found next = {0};
            bool damaged, any;
            if (!look_behind(&reader, at, expected, &damaged, &next, &any, err))
                return false;
            ending.torn = !damaged && (any || !is_empty(&reader, at));
            if (!damaged)
                break;
            // Whoever appends just now may have been between the two looks.
            if (!try_frame(&reader, at, &intact, &found, err))
                return false;
            if (!intact || found.number != expected) {
                if (ending.damaged == 0)
                    ending.first_damaged = expected;
                ending.damaged += next.number - expected;
                if (!try_frame(&reader, next.at, &intact, &found, err))
                    return false;
                if (!intact)
                    return hf_fail(err, HF_ERR_CORRUPT, "journal \"%s\" changes while it is read", name);
            }
        }
        if (!hand_over(&reader, &found, visit, context, err))
            return false;
        ending.frames++;
        expected = found.number + 1;
        at = found.at + journal_frame_stored(found.plain_length);
    }
    *ret = ending;
    return true;
}

bool
hf_journal_list(const char *folder, char ***ret_names, size_t *ret_count, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count, kept = 0;
    struct hf_error why = {0};
    if (!hf_dir_list(folder, HF_JOURNALS_MOST, &names, &count, &why)) {
        if (why.kind != HF_ERR_NOT_FOUND) {
            if (err != NULL)
                *err = why;
            return false;
        }
        names = calloc(1, sizeof *names);
        count = 0;
        if (names == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the journals of \"%s\"", folder);
    }
    for (size_t i = 0; i < count; i++) { // sorted by name: the number stands first
        if (hf_journal_number(names[i]) == 0)
            free(names[i]);
        else
            names[kept++] = names[i];
    }
    names[kept] = NULL;
    *ret_names = HF_TAKE(names);
    *ret_count = kept;
    return true;
}

uint64_t
hf_journal_number(const char *name)
{
    struct hf_id id;
    char digits[17];
    if (strlen(name) != HF_JOURNAL_NAME_BYTES - 1 || strspn(name, "0123456789abcdef") != 16 || name[16] != '-' ||
        !hf_id_parse(name + 17, &id, NULL))
        return 0;
    memcpy(digits, name, 16);
    digits[16] = '\0';
    return strtoull(digits, NULL, 16);
}

static bool
open_header(struct journal_reader *reader, const struct hf_vault_keys *keys, bool *ret_begun, struct hf_error *err)
{
    uint8_t *header = reader->header, expected[HF_KEY_BYTES];
    size_t got;
    if (!read_at(reader, 0, header, HF_JOURNAL_HEADER, &got, err))
        return false;
    *ret_begun = got == HF_JOURNAL_HEADER && !sodium_is_zero(header, HF_JOURNAL_HEADER);
    if (!*ret_begun)
        return true;
    if (memcmp(header, JOURNAL_MAGIC, 8) != 0 || hf_get_u32(header + AT_CRC) != hf_crc32c(0, header, AT_CRC))
        return hf_fail(err, HF_ERR_CORRUPT, "the header of journal \"%s\" is damaged", reader->name);
    if (hf_get_u16(header + AT_VERSION) != JOURNAL_VERSION || header[AT_SUITE] != JOURNAL_SUITE ||
        header[AT_SUITE + 1] != 0 || !sodium_is_zero(header + AT_RESERVED, AT_COMMITMENT - AT_RESERVED))
        return hf_fail(err, HF_ERR_CONFLICT, "journal \"%s\" uses a feature this program does not know", reader->name);
    if (memcmp(header + AT_REPOSITORY, keys->repository.bytes, HF_ID_BYTES) != 0 ||
        memcmp(header + AT_VAULT, keys->vault.bytes, HF_ID_BYTES) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "journal \"%s\" belongs to another vault or repository", reader->name);
    if (!journal_derive_key(header, keys, &reader->key, err))
        return hf_fail_within(err, "journal \"%s\"", reader->name);
    journal_commitment(&reader->key, expected);
    return sodium_memcmp(expected, header + AT_COMMITMENT, sizeof expected) == 0 ||
           hf_fail(err, HF_ERR_DENIED, "journal \"%s\" was sealed with another key, or its header was altered",
                   reader->name);
}

/* Up to `length` bytes; fewer at the end of the file. */
static bool
read_at(const struct journal_reader *reader, uint64_t at, void *data, size_t length, size_t *ret_got,
        struct hf_error *err)
{
    size_t done = 0;
    while (done < length) {
        const ssize_t got = pread(reader->fd, (uint8_t *)data + done, length - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read journal \"%s\"", reader->name);
        if (got == 0)
            break;
        done += (size_t)got;
    }
    *ret_got = done;
    return true;
}

/* Opens what begins at `at`, if it is a frame. */
static bool
try_frame(struct journal_reader *reader, uint64_t at, bool *ret_intact, struct found *ret, struct hf_error *err)
{
    uint8_t bound[HF_JOURNAL_HEADER + HF_JOURNAL_FRAME_HEADER], nonce[24];
    uint8_t *header = bound + HF_JOURNAL_HEADER;
    size_t got;
    *ret_intact = false;
    if (!read_at(reader, at, header, HF_JOURNAL_FRAME_HEADER, &got, err))
        return false;
    const uint32_t plain_length = hf_get_u32(header + FRAME_AT_LENGTH);
    if (got < HF_JOURNAL_FRAME_HEADER || memcmp(header, FRAME_MAGIC, 4) != 0 ||
        hf_get_u32(header + FRAME_AT_CRC) != hf_crc32c(0, header, FRAME_AT_CRC) || plain_length < HF_JOURNAL_PREFIX ||
        plain_length > HF_JOURNAL_PLAIN_MOST ||
        !sodium_is_zero(header + FRAME_AT_RESERVED, FRAME_AT_CRC - FRAME_AT_RESERVED))
        return true;

    hf_buf_clear(&reader->stored);
    if (!hf_buf_add_zeros(&reader->stored, plain_length + JOURNAL_TAG, err) ||
        !read_at(reader, at + HF_JOURNAL_FRAME_HEADER, reader->stored.data, plain_length + JOURNAL_TAG, &got, err))
        return false;
    *ret = (struct found){.at = at,
                          .number = hf_get_u32(header + FRAME_AT_NUMBER),
                          .durable = hf_get_u32(header + FRAME_AT_DURABLE),
                          .plain_length = plain_length};
    memcpy(bound, reader->header, HF_JOURNAL_HEADER);
    journal_nonce(ret->number, nonce);
    *ret_intact = got == plain_length + JOURNAL_TAG && ret->durable <= ret->number &&
                  crypto_aead_xchacha20poly1305_ietf_decrypt(reader->stored.data, NULL, NULL, reader->stored.data,
                                                             plain_length + JOURNAL_TAG, bound, sizeof bound, nonce,
                                                             reader->key.bytes) == 0;
    return true;
}

/* The first intact frame at `from` or behind. */
static bool
find_frame(struct journal_reader *reader, uint64_t from, bool *ret_found, struct found *ret, struct hf_error *err)
{
    *ret_found = false;
    hf_buf_clear(&reader->window);
    if (!hf_buf_add_zeros(&reader->window, WINDOW, err))
        return false;
    for (uint64_t at = from; at < reader->size; at += WINDOW) {
        size_t got;
        if (!read_at(reader, at, reader->window.data, WINDOW, &got, err))
            return false;
        for (size_t i = 0; i + 4 <= got; i += 8) {
            if (memcmp(reader->window.data + i, FRAME_MAGIC, 4) != 0)
                continue;
            if (!try_frame(reader, at + i, ret_found, ret, err))
                return false;
            if (*ret_found)
                return true;
        }
    }
    return true;
}

/*
 * Frame `expected` is not at `at`.  Was it durable?  Any intact frame behind may say so; the first of them is where
 * reading goes on.
 */
static bool
look_behind(struct journal_reader *reader, uint64_t at, uint32_t expected, bool *ret_damaged, struct found *ret_next,
            bool *ret_any, struct hf_error *err)
{
    struct found frame;
    bool found = true;
    *ret_damaged = *ret_any = false;
    for (uint64_t from = at + 8; found && !*ret_damaged; from = frame.at + journal_frame_stored(frame.plain_length)) {
        if (!find_frame(reader, from, &found, &frame, err))
            return false;
        if (!found || frame.number <= expected)
            break;
        if (!*ret_any)
            *ret_next = frame;
        *ret_any = true;
        *ret_damaged = frame.durable > expected;
    }
    return true;
}

/* Nothing was ever written there. */
static bool
is_empty(const struct journal_reader *reader, uint64_t at)
{
    uint8_t bytes[HF_JOURNAL_FRAME_HEADER];
    size_t got;
    return read_at(reader, at, bytes, sizeof bytes, &got, NULL) && sodium_is_zero(bytes, got);
}

static bool
hand_over(struct journal_reader *reader, const struct found *found, hf_journal_visitor *visit, void *context,
          struct hf_error *err)
{
    const uint8_t *plain = reader->stored.data;
    const struct hf_frame frame = {
        .kind = (enum hf_frame_kind)plain[0],
        .timeline = hf_get_u32(plain + 4),
        .position = hf_get_u64(plain + 8),
        .whole = hf_get_u64(plain + 16),
        .first_time = (int64_t)hf_get_u64(plain + 24),
        .last_time = (int64_t)hf_get_u64(plain + 32),
        .commits = hf_get_u32(plain + 40),
        .at = found->at,
        .number = found->number,
    };
    if (frame.kind < HF_FRAME_LOG || frame.kind > HF_FRAME_MARK || frame.timeline == 0)
        return hf_fail(err, HF_ERR_CONFLICT, "journal \"%s\", frame %u: this program does not know its kind",
                       reader->name, found->number);
    return visit(context, &frame, plain + HF_JOURNAL_PREFIX, found->plain_length - HF_JOURNAL_PREFIX, err);
}

static void
reader_done(struct journal_reader *reader)
{
    hf_secret_done(&reader->key);
    hf_buf_done(&reader->stored);
    hf_buf_done(&reader->window);
}
