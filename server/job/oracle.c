#include "server/job/oracle.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/wire.h"

#define ENTRY_MAGIC   "HFLOG001"
#define ENTRY_VERSION 1
#define AT_VAULT      32

static bool check_header(const struct hf_oracle_rights *rights, struct hf_reader *header, uint16_t *ret_kind,
                         uint64_t *ret_sequence, struct hf_error *err);
static bool is_allowed(const struct hf_oracle_rights *rights, uint16_t kind);
static bool same(struct hf_reader *reader, const void *expected, size_t length);
static bool read_whole(int fd, void *data, size_t length, struct hf_error *err);

bool
hf_oracle_check_entry(struct hf_oracle_rights *rights, const uint8_t *bytes, size_t length, struct hf_error *err)
{
    struct hf_reader header = HF_READER(bytes, length);
    uint16_t kind;
    uint64_t sequence;
    if (!check_header(rights, &header, &kind, &sequence, err))
        return false;
    if (rights->every_vault && memcmp(bytes + AT_VAULT, rights->vault.bytes, HF_ID_BYTES) != 0) {
        memcpy(rights->vault.bytes, bytes + AT_VAULT, HF_ID_BYTES);
        rights->least_sequence = 1;
    }
    if (!is_allowed(rights, kind))
        return hf_fail(err, HF_ERR_DENIED, "this job may not write %s entries (kind %u)",
                       hf_log_kind_name((enum hf_log_kind)kind), (unsigned)kind);
    if (sequence < rights->least_sequence)
        return hf_fail(err, HF_ERR_DENIED, "log entry %" PRIu64 " is already written", sequence);
    rights->least_sequence = sequence;
    return true;
}

bool
hf_oracle_ask(int fd, enum hf_oracle_what what, const void *payload, size_t length, struct hf_buf *answer,
              struct hf_error *err)
{
    uint8_t header[HF_ORACLE_HEADER];
    hf_put_u32(header, (uint32_t)length);
    header[4] = (uint8_t)what;
    if (!hf_write_all(fd, header, sizeof header, "the daemon's socket", err) ||
        !hf_write_all(fd, payload, length, "the daemon's socket", err) || !read_whole(fd, header, sizeof header, err))
        return hf_fail_within(err, "could not ask the daemon");

    size_t size = hf_get_u32(header);
    hf_buf_clear(answer);
    if (!hf_buf_add_zeros(answer, size, err) || !read_whole(fd, answer->data, size, err))
        return hf_fail_within(err, "could not read the daemon's answer");
    if (header[4] == 1)
        return true;

    _cleanup_(hf_json_freep) json_t *why = NULL;
    if (!hf_json_parse(answer->data, size, "the daemon's answer", &why, err))
        return false;
    hf_event_read_error(why, err);
    return false;
}

/* The header of vault_log.h, field by field. */
static bool
check_header(const struct hf_oracle_rights *rights, struct hf_reader *header, uint16_t *ret_kind,
             uint64_t *ret_sequence, struct hf_error *err)
{
    static const uint8_t no_hash[HF_SHA256_BYTES];
    bool magic = same(header, ENTRY_MAGIC, strlen(ENTRY_MAGIC));
    uint16_t version = hf_reader_u16(header);
    *ret_kind = hf_reader_u16(header);
    uint32_t flags = hf_reader_u32(header);
    *ret_sequence = hf_reader_u64(header);
    int64_t time = (int64_t)hf_reader_u64(header);
    bool repository = same(header, rights->repository.bytes, HF_ID_BYTES);
    bool vault = same(header, rights->vault.bytes, HF_ID_BYTES) || rights->every_vault;
    bool appliance = same(header, rights->appliance.bytes, HF_ID_BYTES);
    (void)hf_reader_u64(header); // the epoch: an older one makes the entry void by itself
    const uint8_t *before = hf_reader_bytes(header, HF_SHA256_BYTES);
    bool signer = same(header, rights->public_key, HF_PUBLIC_BYTES);
    uint64_t public_length = hf_reader_u32(header), sealed_length = hf_reader_u32(header);

    if (!hf_reader_ok(header) || !magic || version != ENTRY_VERSION || flags != 0 || time < 0 || *ret_sequence == 0)
        return hf_fail(err, HF_ERR_DENIED, "these bytes are no log entry");
    if ((hf_id_is_none(&rights->vault) && !rights->every_vault) || !repository || !vault)
        return hf_fail(err, HF_ERR_DENIED, "the log entry is not of this job's vault");
    if (!appliance || !signer)
        return hf_fail(err, HF_ERR_DENIED, "the log entry names another appliance");
    if ((memcmp(before, no_hash, sizeof no_hash) == 0) != (*ret_sequence == 1))
        return hf_fail(err, HF_ERR_DENIED, "the log entry does not say what stands before it");
    if (public_length == 0 || header->position + public_length + sealed_length != header->length)
        return hf_fail(err, HF_ERR_DENIED, "the lengths in the log entry do not add up");
    return true;
}

static bool
is_allowed(const struct hf_oracle_rights *rights, uint16_t kind)
{
    for (size_t i = 0; i < rights->kind_count; i++)
        if ((uint16_t)rights->kinds[i] == kind)
            return true;
    return false;
}

static bool
same(struct hf_reader *reader, const void *expected, size_t length)
{
    const uint8_t *at = hf_reader_bytes(reader, length);
    return at != NULL && memcmp(at, expected, length) == 0;
}

static bool
read_whole(int fd, void *data, size_t length, struct hf_error *err)
{
    for (size_t done = 0; done < length;) {
        ssize_t got = read(fd, (uint8_t *)data + done, length - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read");
        if (got == 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the daemon is gone");
        done += (size_t)got;
    }
    return true;
}
