/*
 * sftp_client.h - one connection to an SFTP server, through the OpenSSH client
 *
 * ssh runs as a child without a shell; we speak SFTP (sftp_message.h) over its input and output.  Requests go out in
 * rounds: all of a round are on their way before the first answer is waited for, so that a far server costs one
 * journey a round and not one a request.
 *
 * A connection is used by one thread at a time.  Once it has broken (ssh ended, nothing moved for two minutes, or the
 * server sent what it must not) every call fails until a new one is made; nothing is known then of the requests under
 * way.  ssh has no death signal: our end of its pipe closes when we die, however that happens, and then it leaves.
 */
#pragma once
#include "server/storage/sftp_message.h"
#include "server/storage/ssh_place.h"

#define HF_SFTP_ROUND_MOST  64     // requests of one round
#define HF_SFTP_PATIENCE_MS 120000 // without a byte in either direction
#define HF_SFTP_SAID_MOST   (16 * HF_KIB)

struct hf_sftp;

/* Errors say which of the many things in between it was: USAGE, DENIED, UNAVAILABLE, with what to do. */
HF_MUST_CHECK bool hf_sftp_connect(const struct hf_ssh_place *place, const char *name, struct hf_sftp **ret,
                                   struct hf_error *err);
void hf_sftp_freep(struct hf_sftp **client);
bool hf_sftp_broken(const struct hf_sftp *client);         // also NULL
unsigned hf_sftp_extensions(const struct hf_sftp *client); // bits of enum hf_sftp_extension

/* One request and, after the round, its answer. */
struct hf_sftp_ask {
    struct hf_buf request; // begun with hf_sftp_put_head()
    struct hf_buf message; // the answer's bytes
    struct hf_sftp_reply reply;
    uint32_t id;
    bool answered;
};
struct hf_sftp_round {
    size_t count;
    struct hf_sftp_ask asks[HF_SFTP_ROUND_MOST];
};
/* A new request of the round; NULL: out of memory.  Never more than HF_SFTP_ROUND_MOST. */
struct hf_sftp_ask *hf_sftp_ask(struct hf_sftp_round *round, enum hf_sftp_type type, struct hf_error *err);
void hf_sftp_round_done(struct hf_sftp_round *round); // empty again; keeps no memory
/* True when each was answered, with whatever code.  False: the connection is broken. */
HF_MUST_CHECK bool hf_sftp_go(struct hf_sftp *client, struct hf_sftp_round *round, struct hf_error *err);

/* Rounds of one. */
struct hf_sftp_handle {
    size_t length;
    uint8_t bytes[HF_SFTP_HANDLE_MOST];
};
/*
 * Each is true when the server answered; what it answered is in *ret_code, and the rest only when that is OK.
 */
HF_MUST_CHECK bool hf_sftp_open(struct hf_sftp *client, const char *path, uint32_t flags, struct hf_sftp_handle *ret,
                                enum hf_sftp_code *ret_code, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_open_folder(struct hf_sftp *client, const char *path, struct hf_sftp_handle *ret,
                                       enum hf_sftp_code *ret_code, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_close(struct hf_sftp *client, const struct hf_sftp_handle *handle,
                                 enum hf_sftp_code *ret_code, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_sync(struct hf_sftp *client, const struct hf_sftp_handle *handle,
                                enum hf_sftp_code *ret_code, struct hf_error *err);
/* Exactly these bytes, in rounds of pieces.  The first code that is not OK. */
HF_MUST_CHECK bool hf_sftp_write(struct hf_sftp *client, const struct hf_sftp_handle *handle, uint64_t offset,
                                 const uint8_t *data, size_t length, enum hf_sftp_code *ret_code, struct hf_error *err);
/* Exactly `length` bytes; END_OF_FILE when there are fewer. */
HF_MUST_CHECK bool hf_sftp_read(struct hf_sftp *client, const struct hf_sftp_handle *handle, uint64_t offset,
                                uint8_t *data, size_t length, enum hf_sftp_code *ret_code, struct hf_error *err);
/* Follows no link. */
HF_MUST_CHECK bool hf_sftp_stat(struct hf_sftp *client, const char *path, struct hf_sftp_attributes *ret,
                                enum hf_sftp_code *ret_code, struct hf_error *err);
/* REMOVE, or MKDIR with mode 0700. */
HF_MUST_CHECK bool hf_sftp_remove(struct hf_sftp *client, const char *path, enum hf_sftp_code *ret_code,
                                  struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_mkdir(struct hf_sftp *client, const char *path, enum hf_sftp_code *ret_code,
                                 struct hf_error *err);
/* By HF_SFTP_HARDLINK or HF_SFTP_POSIX_RENAME. */
HF_MUST_CHECK bool hf_sftp_move(struct hf_sftp *client, enum hf_sftp_extension how, const char *from, const char *to,
                                enum hf_sftp_code *ret_code, struct hf_error *err);
HF_MUST_CHECK bool hf_sftp_statvfs(struct hf_sftp *client, const char *path, uint64_t *ret_free,
                                   enum hf_sftp_code *ret_code, struct hf_error *err);

typedef bool hf_sftp_name_visitor(void *context, const struct hf_sftp_name *name, struct hf_error *err);
/* Every name in an open folder but "." and "..". */
HF_MUST_CHECK bool hf_sftp_read_folder(struct hf_sftp *client, const struct hf_sftp_handle *handle,
                                       hf_sftp_name_visitor *visit, void *context, enum hf_sftp_code *ret_code,
                                       struct hf_error *err);
