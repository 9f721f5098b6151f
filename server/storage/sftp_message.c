#include "server/storage/sftp_message.h"

#define AT_ID       5
#define HEAD_BYTES  9
#define STATVFS_U64 11

#define HAS_SIZE     1u
#define HAS_OWNER    2u
#define HAS_MODE     4u
#define HAS_TIMES    8u
#define HAS_EXTENDED 0x80000000u
#define HAS_KNOWN    (HAS_SIZE | HAS_OWNER | HAS_MODE | HAS_TIMES | HAS_EXTENDED)

static uint32_t read_u32(struct hf_reader *reader);
static uint64_t read_u64(struct hf_reader *reader);
static const uint8_t *read_string(struct hf_reader *reader, size_t most, size_t *ret_length);
static void read_attributes(struct hf_reader *reader, struct hf_sftp_attributes *ret);
static void read_status(struct hf_reader *reader, struct hf_sftp_reply *ret);

static const struct {
    enum hf_sftp_extension extension;
    const char *name;
} extensions[] = {
    {HF_SFTP_FSYNC, "fsync@openssh.com"},
    {HF_SFTP_HARDLINK, "hardlink@openssh.com"},
    {HF_SFTP_POSIX_RENAME, "posix-rename@openssh.com"},
    {HF_SFTP_STATVFS, "statvfs@openssh.com"},
};

const char *
hf_sftp_extension_name(enum hf_sftp_extension extension)
{
    for (size_t i = 0; i < HF_LENGTH(extensions); i++)
        if (extensions[i].extension == extension)
            return extensions[i].name;
    return "";
}

bool
hf_sftp_reply_parse(const uint8_t *message, size_t length, struct hf_sftp_reply *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(message, length);
    struct hf_sftp_reply reply = {.type = (enum hf_sftp_type)hf_reader_u8(&reader)};
    reply.id = read_u32(&reader);
    switch (reply.type) {
    case HF_SFTP_STATUS:
        read_status(&reader, &reply);
        break;
    case HF_SFTP_HANDLE:
        reply.bytes = read_string(&reader, HF_SFTP_HANDLE_MOST, &reply.length);
        break;
    case HF_SFTP_DATA:
        reply.bytes = read_string(&reader, HF_SFTP_PIECE, &reply.length);
        break;
    case HF_SFTP_NAME:
        reply.name_count = read_u32(&reader);
        reply.length = length - reader.position;
        reply.bytes = hf_reader_bytes(&reader, reply.length);
        break;
    case HF_SFTP_ATTRS:
        read_attributes(&reader, &reply.attributes);
        break;
    case HF_SFTP_EXTENDED_REPLY:
        reply.length = length - reader.position;
        reply.bytes = hf_reader_bytes(&reader, reply.length);
        break;
    default:
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server sent a message of type %u", (unsigned)reply.type);
    }
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server sent a message of type %u that is not well formed",
                       (unsigned)reply.type);
    *ret = reply;
    return true;
}

bool
hf_sftp_version_parse(const uint8_t *message, size_t length, unsigned *ret_extensions, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(message, length);
    unsigned found = 0;
    uint8_t type = hf_reader_u8(&reader);
    uint32_t version = read_u32(&reader);
    if (!hf_reader_ok(&reader) || type != HF_SFTP_VERSION)
        return hf_fail(err, HF_ERR_CORRUPT, "what answered is no SFTP server");
    if (version != 3)
        return hf_fail(err, HF_ERR_USAGE, "the SFTP server speaks version %u, and only version 3 is understood",
                       version);

    for (unsigned pairs = 0; hf_reader_ok(&reader) && reader.position < length; pairs++) {
        size_t name_length, data_length;
        const uint8_t *name = read_string(&reader, HF_SFTP_PATH_MOST, &name_length);
        (void)read_string(&reader, HF_SFTP_PATH_MOST, &data_length);
        if (pairs == HF_SFTP_PAIRS_MOST)
            hf_reader_refuse(&reader);
        for (size_t i = 0; hf_reader_ok(&reader) && i < HF_LENGTH(extensions); i++)
            if (strlen(extensions[i].name) == name_length && memcmp(extensions[i].name, name, name_length) == 0)
                found |= extensions[i].extension;
    }
    if (!hf_reader_finished(&reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server's list of extensions is not well formed");
    *ret_extensions = found;
    return true;
}

bool
hf_sftp_name_next(struct hf_reader *reader, struct hf_sftp_name *ret, struct hf_error *err)
{
    size_t line_length;
    struct hf_sftp_name name = {0};
    name.name = read_string(reader, HF_SFTP_PATH_MOST, &name.length);
    (void)read_string(reader, HF_SFTP_PATH_MOST * 2, &line_length); // as ls prints it: for people
    read_attributes(reader, &name.attributes);
    if (!hf_reader_ok(reader))
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server sent a list of names that is not well formed");
    *ret = name;
    return true;
}

bool
hf_sftp_free_space(const struct hf_sftp_reply *reply, uint64_t *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(reply->bytes, reply->length);
    uint64_t numbers[STATVFS_U64];
    for (size_t i = 0; i < STATVFS_U64; i++)
        numbers[i] = read_u64(&reader);
    if (reply->type != HF_SFTP_EXTENDED_REPLY || !hf_reader_finished(&reader) ||
        __builtin_mul_overflow(numbers[1], numbers[4], ret))
        return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server's answer about free space is not well formed");
    return true;
}

bool
hf_sftp_put_head(struct hf_buf *request, enum hf_sftp_type type, struct hf_error *err)
{
    uint8_t head[HEAD_BYTES] = {0};
    head[4] = (uint8_t)type;
    return hf_buf_add(request, head, sizeof head, err);
}

bool
hf_sftp_put_u32(struct hf_buf *request, uint32_t value, struct hf_error *err)
{
    uint32_t big = htobe32(value);
    return hf_buf_add(request, &big, sizeof big, err);
}

bool
hf_sftp_put_u64(struct hf_buf *request, uint64_t value, struct hf_error *err)
{
    uint64_t big = htobe64(value);
    return hf_buf_add(request, &big, sizeof big, err);
}

bool
hf_sftp_put_string(struct hf_buf *request, const void *bytes, size_t length, struct hf_error *err)
{
    return hf_sftp_put_u32(request, (uint32_t)length, err) && hf_buf_add(request, bytes, length, err);
}

void
hf_sftp_seal_head(struct hf_buf *request, uint32_t id)
{
    uint32_t length = htobe32((uint32_t)(request->length - sizeof length)), big = htobe32(id);
    memcpy(request->data, &length, sizeof length);
    memcpy(request->data + AT_ID, &big, sizeof big);
}

uint32_t
hf_sftp_get_u32(const uint8_t *at)
{
    uint32_t big;
    memcpy(&big, at, sizeof big);
    return be32toh(big);
}

static uint32_t
read_u32(struct hf_reader *reader)
{
    const uint8_t *at = hf_reader_bytes(reader, 4);
    return at == NULL ? 0 : hf_sftp_get_u32(at);
}

static uint64_t
read_u64(struct hf_reader *reader)
{
    uint64_t high = read_u32(reader);
    return high << 32 | read_u32(reader);
}

static const uint8_t *
read_string(struct hf_reader *reader, size_t most, size_t *ret_length)
{
    uint32_t length = read_u32(reader);
    if (length > most)
        hf_reader_refuse(reader);
    *ret_length = hf_reader_ok(reader) ? length : 0;
    return hf_reader_bytes(reader, *ret_length);
}

static void
read_attributes(struct hf_reader *reader, struct hf_sftp_attributes *ret)
{
    uint32_t flags = read_u32(reader);
    *ret = (struct hf_sftp_attributes){
        .has_size = flags & HAS_SIZE, .has_mode = flags & HAS_MODE, .has_times = flags & HAS_TIMES};
    if ((flags & ~HAS_KNOWN) != 0)
        hf_reader_refuse(reader);
    if (ret->has_size)
        ret->size = read_u64(reader);
    if (flags & HAS_OWNER)
        (void)read_u64(reader);
    if (ret->has_mode)
        ret->mode = read_u32(reader);
    if (ret->has_times) {
        (void)read_u32(reader);
        ret->modified_at = read_u32(reader);
    }
    if (!(flags & HAS_EXTENDED))
        return;
    uint32_t pairs = read_u32(reader);
    if (pairs > HF_SFTP_PAIRS_MOST)
        hf_reader_refuse(reader);
    for (uint32_t i = 0; hf_reader_ok(reader) && i < 2 * pairs; i++) {
        size_t length;
        (void)read_string(reader, HF_SFTP_PATH_MOST, &length);
    }
}

static void
read_status(struct hf_reader *reader, struct hf_sftp_reply *ret)
{
    size_t language_length;
    ret->code = (enum hf_sftp_code)read_u32(reader);
    ret->bytes = read_string(reader, HF_SFTP_PATH_MOST, &ret->length);
    (void)read_string(reader, HF_SFTP_PATH_MOST, &language_length);
}
