/*
 * A reply of an SFTP server that is accepted lies within its bytes, down to the last name of a list, and its numbers
 * are those that stand there.  The first byte of the input chooses between VERSION and the replies.
 */
#include <assert.h>
#include <string.h>

#include "server/storage/sftp_message.h"
#include "tests/fuzz/fuzz.h"

static void check_version(const uint8_t *data, size_t size);
static void check_reply(const struct hf_sftp_reply *reply, const uint8_t *data, size_t size);
static void check_names(const struct hf_sftp_reply *reply);
static bool lies_within(const uint8_t *part, size_t length, const uint8_t *whole, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hf_error err;
    struct hf_sftp_reply reply;
    // In memory of exactly that size: reading past it would be noticed.
    uint8_t *bytes = calloc(1, size == 0 ? 1 : size);
    assert(bytes != NULL);
    if (size > 0)
        memcpy(bytes, data, size);
    if (size > 0 && bytes[0] == HF_SFTP_VERSION)
        check_version(bytes, size);
    if (hf_sftp_reply_parse(bytes, size, &reply, &err))
        check_reply(&reply, bytes, size);
    else
        assert(err.kind == HF_ERR_CORRUPT);
    free(bytes);
    return 0;
}

static void
check_version(const uint8_t *data, size_t size)
{
    struct hf_error err;
    unsigned extensions;
    if (!hf_sftp_version_parse(data, size, &extensions, &err)) {
        assert(err.kind == HF_ERR_CORRUPT || err.kind == HF_ERR_USAGE);
        return;
    }
    assert(hf_sftp_get_u32(data + 1) == 3);
    for (unsigned bit = HF_SFTP_FSYNC; bit <= HF_SFTP_STATVFS; bit *= 2) {
        const char *name = hf_sftp_extension_name((enum hf_sftp_extension)bit);
        assert((extensions & bit) == 0 || memmem(data, size, name, strlen(name)) != NULL);
    }
}

static void
check_reply(const struct hf_sftp_reply *reply, const uint8_t *data, size_t size)
{
    uint64_t space;
    struct hf_error err;
    assert(size >= 5 && data[0] == reply->type && hf_sftp_get_u32(data + 1) == reply->id);
    assert(reply->bytes == NULL || lies_within(reply->bytes, reply->length, data, size));
    switch (reply->type) {
    case HF_SFTP_HANDLE:
        assert(reply->length <= HF_SFTP_HANDLE_MOST && reply->length == size - 9);
        break;
    case HF_SFTP_DATA:
        assert(reply->length <= HF_SFTP_PIECE && reply->length == size - 9);
        break;
    case HF_SFTP_STATUS:
        assert((uint32_t)reply->code == hf_sftp_get_u32(data + 5));
        break;
    case HF_SFTP_NAME:
        check_names(reply);
        break;
    case HF_SFTP_EXTENDED_REPLY:
        if (hf_sftp_free_space(reply, &space, &err))
            assert(reply->length == 88);
        else
            assert(err.kind == HF_ERR_CORRUPT);
        break;
    default:
        assert(reply->type == HF_SFTP_ATTRS);
    }
}

/* As many as there are bytes for: a count that lies ends in a refusal and not in a long walk. */
static void
check_names(const struct hf_sftp_reply *reply)
{
    struct hf_error err;
    struct hf_reader reader = HF_READER(reply->bytes, reply->length);
    for (uint32_t i = 0; i < reply->name_count; i++) {
        struct hf_sftp_name name;
        const size_t before = reader.position;
        if (!hf_sftp_name_next(&reader, &name, &err)) {
            assert(err.kind == HF_ERR_CORRUPT);
            return;
        }
        assert(reader.position >= before + 12);
        assert(name.length <= HF_SFTP_PATH_MOST && lies_within(name.name, name.length, reply->bytes, reply->length));
    }
}

static bool
lies_within(const uint8_t *part, size_t length, const uint8_t *whole, size_t size)
{
    return part >= whole && part <= whole + size && length <= (size_t)(whole + size - part);
}
