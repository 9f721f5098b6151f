#include "server/stream/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/keys/derive.h"
#include "server/stream/journal_format.h"

#define DERIVED_FROM  8 // header bytes 8..91 go into the key
#define DERIVED_UP_TO 92

struct hf_journal {
    int fd;
    char *path;
    uint8_t header[HF_JOURNAL_HEADER];
    struct hf_secret key;
    _Atomic uint32_t appended; // frames; written by the thread that appends
    _Atomic uint32_t durable;  // frames; written by the thread that syncs
    _Atomic uint64_t bytes;
    atomic_bool failed;
    struct hf_buf sealed; // of the thread that appends
};

static bool make_header(struct hf_journal *journal, const struct hf_vault_keys *keys, struct hf_error *err);
static bool make_file(struct hf_journal *journal, const char *folder, uint64_t number, uint64_t room,
                      struct hf_error *err);
static bool seal_frame(struct hf_journal *journal, const struct hf_frame *frame, const void *data, size_t length,
                       struct hf_error *err);

bool
hf_journal_create(const char *folder, uint64_t number, const struct hf_vault_keys *keys, uint64_t room,
                  struct hf_journal **ret, struct hf_error *err)
{
    _cleanup_(hf_journal_freep) struct hf_journal *journal = calloc(1, sizeof *journal);
    if (journal == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a journal");
    journal->fd = -1;
    journal->sealed = HF_BUF_INIT(2 * HF_JOURNAL_PLAIN_MOST);
    if (!make_header(journal, keys, err) || !make_file(journal, folder, number, room, err))
        return hf_fail_within(err, "could not begin a journal");
    *ret = HF_TAKE(journal);
    return true;
}

bool
hf_journal_append(struct hf_journal *journal, const struct hf_frame *frame, const void *data, size_t length,
                  struct hf_error *err)
{
    if (atomic_load(&journal->failed))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "journal \"%s\" failed before", journal->path);
    if (!seal_frame(journal, frame, data, length, err))
        return false;
    const uint64_t at = HF_JOURNAL_HEADER + atomic_load(&journal->bytes);
    if (!hf_pwrite_all(journal->fd, journal->sealed.data, journal->sealed.length, at, journal->path, err)) {
        atomic_store(&journal->failed, true);
        return false;
    }
    atomic_fetch_add(&journal->bytes, journal->sealed.length);
    atomic_fetch_add(&journal->appended, 1);
    return true;
}

bool
hf_journal_sync(struct hf_journal *journal, struct hf_error *err)
{
    const uint32_t appended = atomic_load(&journal->appended);
    if (atomic_load(&journal->failed))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "journal \"%s\" failed before", journal->path);
    if (fdatasync(journal->fd) != 0) {
        hf_fail_errno(err, HF_ERR_NONE, "could not sync journal \"%s\"", journal->path);
        atomic_store(&journal->failed, true);
        return false;
    }
    atomic_store(&journal->durable, appended);
    return true;
}

uint64_t
hf_journal_bytes(const struct hf_journal *journal)
{
    return atomic_load(&journal->bytes);
}

const char *
hf_journal_path(const struct hf_journal *journal)
{
    return journal->path;
}

void
hf_journal_freep(struct hf_journal **journal)
{
    if (*journal == NULL)
        return;
    hf_closep(&(*journal)->fd);
    hf_secret_done(&(*journal)->key);
    hf_buf_done(&(*journal)->sealed);
    free((*journal)->path);
    free(*journal);
    *journal = NULL;
}

bool
journal_derive_key(const uint8_t header[static HF_JOURNAL_HEADER], const struct hf_vault_keys *keys,
                   struct hf_secret *ret, struct hf_error *err)
{
    const uint32_t epoch = hf_get_u32(header + AT_EPOCH);
    for (size_t i = 0; i < keys->epoch_count; i++) {
        if (keys->epochs[i].epoch != epoch)
            continue;
        if (!hf_secret_init(ret, HF_KEY_BYTES, err))
            return false;
        hf_derive(keys->epochs[i].data_secret.bytes, "holdfast journal", header + DERIVED_FROM,
                  DERIVED_UP_TO - DERIVED_FROM, ret->bytes);
        return true;
    }
    return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no data key of epoch %u", epoch);
}

void
journal_commitment(const struct hf_secret *key, uint8_t ret[static HF_KEY_BYTES])
{
    hf_derive(key->bytes, "holdfast commit", "", 0, ret);
}

void
journal_nonce(uint32_t number, uint8_t nonce[static 24])
{
    memset(nonce, 0, 24);
    hf_put_u32(nonce, number);
}

static bool
make_header(struct hf_journal *journal, const struct hf_vault_keys *keys, struct hf_error *err)
{
    const struct hf_id id = hf_id_new();
    uint8_t *header = journal->header;
    memcpy(header, JOURNAL_MAGIC, 8);
    hf_put_u16(header + AT_VERSION, JOURNAL_VERSION);
    header[AT_SUITE] = JOURNAL_SUITE;
    hf_put_u32(header + AT_EPOCH, keys->epochs[keys->epoch_count - 1].epoch);
    memcpy(header + AT_REPOSITORY, keys->repository.bytes, HF_ID_BYTES);
    memcpy(header + AT_VAULT, keys->vault.bytes, HF_ID_BYTES);
    memcpy(header + AT_JOURNAL, id.bytes, HF_ID_BYTES);
    hf_put_u64(header + AT_CREATED, (uint64_t)hf_time_now_ms());
    if (!journal_derive_key(header, keys, &journal->key, err))
        return false;
    journal_commitment(&journal->key, header + AT_COMMITMENT);
    hf_put_u32(header + AT_CRC, hf_crc32c(0, header, AT_CRC));
    return true;
}

/* Its room is reserved, so that a sync has no new size to write, and a full disk is noticed now. */
static bool
make_file(struct hf_journal *journal, const char *folder, uint64_t number, uint64_t room, struct hf_error *err)
{
    struct hf_id id;
    char text[HF_ID_TEXT_BYTES];
    memcpy(id.bytes, journal->header + AT_JOURNAL, HF_ID_BYTES);
    if (asprintf(&journal->path, "%s/%016llx-%s", folder, (unsigned long long)number, hf_id_format(&id, text)) < 0) {
        journal->path = NULL;
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    }
    journal->fd = open(journal->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (journal->fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "\"%s\"", journal->path);
    if (fallocate(journal->fd, 0, 0, (off_t)(HF_JOURNAL_HEADER + room)) != 0 && errno != EOPNOTSUPP) {
        hf_fail_errno(err, HF_ERR_NONE, "\"%s\"", journal->path);
        (void)!unlink(journal->path);
        return false;
    }
    if (!hf_pwrite_all(journal->fd, journal->header, HF_JOURNAL_HEADER, 0, journal->path, err))
        return false;
    if (fsync(journal->fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not sync \"%s\"", journal->path);
    return hf_dir_sync(folder, err);
}

static bool
seal_frame(struct hf_journal *journal, const struct hf_frame *frame, const void *data, size_t length,
           struct hf_error *err)
{
    const size_t plain_length = HF_JOURNAL_PREFIX + length;
    const uint64_t stored = journal_frame_stored(plain_length);
    const uint32_t number = atomic_load(&journal->appended);
    struct hf_buf *out = &journal->sealed;
    uint8_t prefix[HF_JOURNAL_PREFIX] = {0}, nonce[24], bound[HF_JOURNAL_HEADER + HF_JOURNAL_FRAME_HEADER];
    if (length > HF_JOURNAL_DATA_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a frame of %zu bytes is over the limit of %zu", length,
                       HF_JOURNAL_DATA_MOST);
    hf_buf_clear(out);
    if (!hf_buf_add_zeros(out, stored, err))
        return false;

    uint8_t *header = out->data, *body = out->data + HF_JOURNAL_FRAME_HEADER;
    memcpy(header, FRAME_MAGIC, 4);
    hf_put_u32(header + FRAME_AT_NUMBER, number);
    hf_put_u32(header + FRAME_AT_DURABLE, atomic_load(&journal->durable));
    hf_put_u32(header + FRAME_AT_LENGTH, (uint32_t)plain_length);
    hf_put_u32(header + FRAME_AT_CRC, hf_crc32c(0, header, FRAME_AT_CRC));

    prefix[0] = (uint8_t)frame->kind;
    hf_put_u32(prefix + 4, frame->timeline);
    hf_put_u64(prefix + 8, frame->position);
    hf_put_u64(prefix + 16, frame->whole);
    hf_put_u64(prefix + 24, (uint64_t)frame->first_time);
    hf_put_u64(prefix + 32, (uint64_t)frame->last_time);
    hf_put_u32(prefix + 40, frame->commits);
    memcpy(body, prefix, sizeof prefix);
    memcpy(body + sizeof prefix, data, length);

    memcpy(bound, journal->header, HF_JOURNAL_HEADER);
    memcpy(bound + HF_JOURNAL_HEADER, header, HF_JOURNAL_FRAME_HEADER);
    journal_nonce(number, nonce);
    crypto_aead_xchacha20poly1305_ietf_encrypt(body, NULL, body, plain_length, bound, sizeof bound, NULL, nonce,
                                               journal->key.bytes);
    return true;
}
