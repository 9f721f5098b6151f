/*
 * sftp_message.h - the messages of SFTP version 3, as far as we use them (private to the sftp client)
 *
 * Source: draft-ietf-secsh-filexfer-02, and "PROTOCOL" of OpenSSH for the extensions.  Numbers are big endian here, as
 * nowhere else in Holdfast; a string is a u32 length and its bytes.
 *
 * Every message: u32 length of what follows, u8 type, and, but for the first two, u32 request id; then:
 *   to the server                                        from it
 *     1 INIT      u32 version 3                            2 VERSION    u32 version, then pairs of strings: extension,
 *                 data
 *     3 OPEN      string path, u32 flags, attributes     101 STATUS     u32 code, string message, string language
 *     4 CLOSE     string handle                          102 HANDLE     string handle, at most 256 bytes
 *     5 READ      string handle, u64 offset, u32 length  103 DATA       string data
 *     6 WRITE     string handle, u64 offset, string data 104 NAME       u32 count, then string name, string line,
 *                 attributes
 *     7 LSTAT     string path                            105 ATTRS      attributes
 *     8 FSTAT     string handle                          201 EXTENDED_REPLY  as the extension says
 *    11 OPENDIR   string path
 *    12 READDIR   string handle
 *    13 REMOVE    string path
 *    14 MKDIR     string path, attributes
 *   200 EXTENDED  string extension, then:
 *       fsync@openssh.com         string handle
 *       hardlink@openssh.com      string old path, string new path; fails when the new one exists
 *       posix-rename@openssh.com  string old path, string new path; an older file gives way
 *       statvfs@openssh.com       string path; answer: 11 u64, of which [1] is the unit and [4] what we may still store
 * Attributes: u32 flags; then, where its bit is set: 1 u64 size, 2 u32 uid u32 gid, 4 u32 mode, 8 u32 read at u32
 * modified at (seconds since 1970), 0x80000000 u32 count and so many pairs of strings.  Flags of OPEN: 1 read, 2 write,
 * 8 create, 32 exclusively.  Codes: 0 ok, 1 end of file, 2 no such file, 3 permission denied, 4 failure, 8 unsupported.
 */
#pragma once
#include "base/buf.h"

#define HF_SFTP_PACKET_MOST (256 * HF_KIB) // longer ones OpenSSH does not send either
#define HF_SFTP_PIECE       (32 * HF_KIB)  // of one READ or WRITE: what every server must take
#define HF_SFTP_HANDLE_MOST 256
#define HF_SFTP_PATH_MOST   2048
#define HF_SFTP_PAIRS_MOST  64 // extensions, or extended attributes

enum hf_sftp_type {
    HF_SFTP_INIT = 1,
    HF_SFTP_VERSION = 2,
    HF_SFTP_OPEN = 3,
    HF_SFTP_CLOSE = 4,
    HF_SFTP_READ = 5,
    HF_SFTP_WRITE = 6,
    HF_SFTP_LSTAT = 7,
    HF_SFTP_FSTAT = 8,
    HF_SFTP_OPENDIR = 11,
    HF_SFTP_READDIR = 12,
    HF_SFTP_REMOVE = 13,
    HF_SFTP_MKDIR = 14,
    HF_SFTP_STATUS = 101,
    HF_SFTP_HANDLE = 102,
    HF_SFTP_DATA = 103,
    HF_SFTP_NAME = 104,
    HF_SFTP_ATTRS = 105,
    HF_SFTP_EXTENDED = 200,
    HF_SFTP_EXTENDED_REPLY = 201,
};

enum hf_sftp_code {
    HF_SFTP_OK = 0,
    HF_SFTP_END_OF_FILE = 1,
    HF_SFTP_NO_SUCH_FILE = 2,
    HF_SFTP_PERMISSION_DENIED = 3,
    HF_SFTP_FAILURE = 4,
    HF_SFTP_UNSUPPORTED = 8,
};

/* Bits: what the server's VERSION names. */
enum hf_sftp_extension {
    HF_SFTP_FSYNC = 1,
    HF_SFTP_HARDLINK = 2,
    HF_SFTP_POSIX_RENAME = 4,
    HF_SFTP_STATVFS = 8,
};
const char *hf_sftp_extension_name(enum hf_sftp_extension extension); // "fsync@openssh.com"

#define HF_SFTP_READ_ONLY 1u
#define HF_SFTP_CREATE    (2u | 8u | 32u) // write, create, exclusively

struct hf_sftp_attributes {
    bool has_size, has_mode, has_times;
    uint64_t size;
    uint32_t mode;
    uint32_t modified_at; // seconds since 1970
};

/* One reply, taken apart.  What is pointed to lies in the message. */
struct hf_sftp_reply {
    enum hf_sftp_type type;
    uint32_t id;
    enum hf_sftp_code code;               // STATUS
    const uint8_t *bytes;                 // HANDLE: the handle; DATA: the data; STATUS: the message; NAME,
    size_t length;                        // EXTENDED_REPLY: all the rest
    uint32_t name_count;                  // NAME
    struct hf_sftp_attributes attributes; // ATTRS
};

struct hf_sftp_name {
    const uint8_t *name;
    size_t length;
    struct hf_sftp_attributes attributes;
};

/* A whole message without its length.  CORRUPT says what is wrong with it. */
HF_MUST_CHECK bool hf_sftp_reply_parse(const uint8_t *message, size_t length, struct hf_sftp_reply *ret,
                                       struct hf_error *err);
/* The same for the server's VERSION: which of the extensions above it has. */
HF_MUST_CHECK bool hf_sftp_version_parse(const uint8_t *message, size_t length, unsigned *ret_extensions,
                                         struct hf_error *err);
/* The next name of a NAME: call it name_count times with a reader over reply.bytes.  CORRUPT. */
HF_MUST_CHECK bool hf_sftp_name_next(struct hf_reader *reader, struct hf_sftp_name *ret, struct hf_error *err);
/* The free bytes of a statvfs@openssh.com answer.  CORRUPT. */
HF_MUST_CHECK bool hf_sftp_free_space(const struct hf_sftp_reply *reply, uint64_t *ret, struct hf_error *err);

/* A request begins with its length and its id, both filled in when it is sent, and goes on with the members. */
HF_MUST_CHECK bool hf_sftp_put_head(struct hf_buf *request, enum hf_sftp_type type, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_put_u32(struct hf_buf *request, uint32_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_put_u64(struct hf_buf *request, uint64_t value, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_put_string(struct hf_buf *request, const void *bytes, size_t length, struct hf_error *err);
void hf_sftp_seal_head(struct hf_buf *request, uint32_t id);
uint32_t hf_sftp_get_u32(const uint8_t *at);
