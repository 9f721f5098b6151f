#include "server/storage/sftp_client.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"

#define IN_BYTES  (2 * (HF_SFTP_PACKET_MOST + 4))
#define OUT_BYTES (HF_SFTP_ROUND_MOST * (HF_SFTP_PIECE + HF_KIB))
#define ASK_BYTES (HF_SFTP_PIECE + 2 * HF_SFTP_PATH_MOST)
#define LEAVE_MS  2000

struct hf_sftp {
    struct hf_process ssh;
    char name[HF_SSH_PATH_BYTES + 512]; // of the place, for messages
    int link;                           // its input and output
    int errors;                         // what it says to people
    bool broken;
    struct hf_error why; // then
    unsigned extensions;
    uint32_t last_id;
    struct hf_buf out, said;
    size_t sent; // of out
    size_t in_start, in_end;
    uint8_t in[IN_BYTES];
};

static bool start(struct hf_sftp *client, const struct hf_ssh_place *place, struct hf_error *err);
static bool greet(struct hf_sftp *client, struct hf_error *err);
static bool check_extensions(const struct hf_sftp *client, struct hf_error *err);
static bool move_bytes(struct hf_sftp *client, struct hf_error *err);
static bool send_some(struct hf_sftp *client, struct hf_error *err);
static bool receive_some(struct hf_sftp *client, struct hf_error *err);
static void hear_errors(struct hf_sftp *client);
static bool next_message(struct hf_sftp *client, const uint8_t **ret, size_t *ret_length, struct hf_error *err);
static bool give_answer(struct hf_sftp_round *round, const uint8_t *message, size_t length, struct hf_error *err);
static bool explain_end(struct hf_sftp *client, struct hf_error *err);
static bool give_up(struct hf_sftp *client, struct hf_error *err);
static struct hf_sftp_round *begin_one(enum hf_sftp_type type, struct hf_error *err);
static void round_freep(struct hf_sftp_round **round);
static bool put_text(struct hf_sftp_round *round, const char *text, struct hf_error *err);
static bool put_handle(struct hf_sftp_ask *ask, const struct hf_sftp_handle *handle, struct hf_error *err);
static bool ask_for_code(struct hf_sftp *client, struct hf_sftp_round *round, enum hf_sftp_code *ret_code,
                         struct hf_error *err);
static bool ask_for_handle(struct hf_sftp *client, struct hf_sftp_round *round, struct hf_sftp_handle *ret,
                           enum hf_sftp_code *ret_code, struct hf_error *err);
static bool refuse_type(struct hf_sftp *client, const struct hf_sftp_reply *reply, struct hf_error *err);

bool
hf_sftp_connect(const struct hf_ssh_place *place, const char *name, struct hf_sftp **ret, struct hf_error *err)
{
    _cleanup_(hf_sftp_freep) struct hf_sftp *client = calloc(1, sizeof *client);
    if (client == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a connection to \"%s\"", name);
    client->ssh = HF_PROCESS_NONE;
    client->link = client->errors = -1;
    client->out = HF_BUF_INIT(OUT_BYTES);
    client->said = HF_BUF_INIT(HF_SFTP_SAID_MOST);
    snprintf(client->name, sizeof client->name, "%s", name);
    if (!start(client, place, err) || !greet(client, err) || !check_extensions(client, err))
        return false;
    *ret = HF_TAKE(client);
    return true;
}

void
hf_sftp_freep(struct hf_sftp **client)
{
    if (*client == NULL)
        return;
    bool ended;
    int status;
    struct hf_error ignored;
    hf_closep(&(*client)->link); // what makes ssh leave
    if ((*client)->ssh.pid > 0 && !(*client)->broken)
        (void)!hf_process_wait(&(*client)->ssh, LEAVE_MS, &ended, &status, &ignored);
    hf_process_kill(&(*client)->ssh);
    hf_closep(&(*client)->errors);
    hf_buf_done(&(*client)->out);
    hf_buf_done(&(*client)->said);
    free(*client);
    *client = NULL;
}

bool
hf_sftp_broken(const struct hf_sftp *client)
{
    return client == NULL || client->broken;
}

unsigned
hf_sftp_extensions(const struct hf_sftp *client)
{
    return client->extensions;
}

struct hf_sftp_ask *
hf_sftp_ask(struct hf_sftp_round *round, enum hf_sftp_type type, struct hf_error *err)
{
    struct hf_sftp_ask *ask = &round->asks[round->count];
    *ask = (struct hf_sftp_ask){.request = HF_BUF_INIT(ASK_BYTES), .message = HF_BUF_INIT(HF_SFTP_PACKET_MOST)};
    if (!hf_sftp_put_head(&ask->request, type, err))
        return NULL;
    round->count++;
    return ask;
}

void
hf_sftp_round_done(struct hf_sftp_round *round)
{
    for (size_t i = 0; i < round->count; i++) {
        hf_buf_done(&round->asks[i].request);
        hf_buf_done(&round->asks[i].message);
    }
    round->count = 0;
}

bool
hf_sftp_go(struct hf_sftp *client, struct hf_sftp_round *round, struct hf_error *err)
{
    if (client->broken) {
        if (err != NULL)
            *err = client->why;
        return false;
    }
    for (size_t i = 0; i < round->count; i++) {
        struct hf_sftp_ask *ask = &round->asks[i];
        ask->id = ++client->last_id;
        hf_sftp_seal_head(&ask->request, ask->id);
        if (!hf_buf_add(&client->out, ask->request.data, ask->request.length, err))
            return give_up(client, err); // a part of the round may be on its way
    }
    for (size_t answered = 0; answered < round->count;) {
        const uint8_t *message;
        size_t length;
        struct hf_error problem;
        if (!next_message(client, &message, &length, &problem) ||
            (message != NULL && !give_answer(round, message, length, &problem)) ||
            (message == NULL && !move_bytes(client, &problem))) {
            if (err != NULL)
                *err = problem;
            client->why = problem;
            return give_up(client, err);
        }
        answered += message != NULL ? 1 : 0;
    }
    return true;
}

bool
hf_sftp_open(struct hf_sftp *client, const char *path, uint32_t flags, struct hf_sftp_handle *ret,
             enum hf_sftp_code *ret_code, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_OPEN, err);
    const uint32_t with_mode = 4, mode = 0600;
    return round != NULL && put_text(round, path, err) && hf_sftp_put_u32(&round->asks[0].request, flags, err) &&
           (flags == HF_SFTP_READ_ONLY ? hf_sftp_put_u32(&round->asks[0].request, 0, err)
                                       : hf_sftp_put_u32(&round->asks[0].request, with_mode, err) &&
                                             hf_sftp_put_u32(&round->asks[0].request, mode, err)) &&
           ask_for_handle(client, round, ret, ret_code, err);
}

bool
hf_sftp_open_folder(struct hf_sftp *client, const char *path, struct hf_sftp_handle *ret, enum hf_sftp_code *ret_code,
                    struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_OPENDIR, err);
    return round != NULL && put_text(round, path, err) && ask_for_handle(client, round, ret, ret_code, err);
}

bool
hf_sftp_close(struct hf_sftp *client, const struct hf_sftp_handle *handle, enum hf_sftp_code *ret_code,
              struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_CLOSE, err);
    return round != NULL && put_handle(&round->asks[0], handle, err) && ask_for_code(client, round, ret_code, err);
}

bool
hf_sftp_sync(struct hf_sftp *client, const struct hf_sftp_handle *handle, enum hf_sftp_code *ret_code,
             struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_EXTENDED, err);
    return round != NULL && put_text(round, hf_sftp_extension_name(HF_SFTP_FSYNC), err) &&
           put_handle(&round->asks[0], handle, err) && ask_for_code(client, round, ret_code, err);
}

bool
hf_sftp_write(struct hf_sftp *client, const struct hf_sftp_handle *handle, uint64_t offset, const uint8_t *data,
              size_t length, enum hf_sftp_code *ret_code, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = calloc(1, sizeof *round);
    if (round == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for writing");
    *ret_code = HF_SFTP_OK;
    for (size_t at = 0; at < length && *ret_code == HF_SFTP_OK;) {
        for (hf_sftp_round_done(round); at < length && round->count < HF_SFTP_ROUND_MOST;) {
            const size_t piece = length - at < HF_SFTP_PIECE ? length - at : HF_SFTP_PIECE;
            struct hf_sftp_ask *ask = hf_sftp_ask(round, HF_SFTP_WRITE, err);
            if (ask == NULL || !put_handle(ask, handle, err) || !hf_sftp_put_u64(&ask->request, offset + at, err) ||
                !hf_sftp_put_string(&ask->request, data + at, piece, err))
                return false;
            at += piece;
        }
        if (!hf_sftp_go(client, round, err))
            return false;
        for (size_t i = 0; i < round->count; i++) {
            if (round->asks[i].reply.type != HF_SFTP_STATUS)
                return refuse_type(client, &round->asks[i].reply, err);
            if (*ret_code == HF_SFTP_OK)
                *ret_code = round->asks[i].reply.code;
        }
    }
    return true;
}

bool
hf_sftp_read(struct hf_sftp *client, const struct hf_sftp_handle *handle, uint64_t offset, uint8_t *data, size_t length,
             enum hf_sftp_code *ret_code, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = calloc(1, sizeof *round);
    if (round == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for reading");
    *ret_code = HF_SFTP_OK;
    for (size_t have = 0; have < length;) {
        hf_sftp_round_done(round);
        for (size_t at = have; at < length && round->count < HF_SFTP_ROUND_MOST; at += HF_SFTP_PIECE) {
            const size_t piece = length - at < HF_SFTP_PIECE ? length - at : HF_SFTP_PIECE;
            struct hf_sftp_ask *ask = hf_sftp_ask(round, HF_SFTP_READ, err);
            if (ask == NULL || !put_handle(ask, handle, err) || !hf_sftp_put_u64(&ask->request, offset + at, err) ||
                !hf_sftp_put_u32(&ask->request, (uint32_t)piece, err))
                return false;
        }
        if (!hf_sftp_go(client, round, err))
            return false;
        // A server may give less than was asked for: what lies behind such a hole is asked for again.
        bool whole = true;
        for (size_t i = 0; i < round->count && whole; i++) {
            const struct hf_sftp_reply *reply = &round->asks[i].reply;
            const size_t piece = length - have < HF_SFTP_PIECE ? length - have : HF_SFTP_PIECE;
            if (reply->type == HF_SFTP_STATUS && reply->code != HF_SFTP_OK) {
                *ret_code = reply->code;
                return true;
            }
            if (reply->type != HF_SFTP_DATA || reply->length == 0 || reply->length > piece)
                return refuse_type(client, reply, err);
            memcpy(data + have, reply->bytes, reply->length);
            have += reply->length;
            whole = reply->length == piece;
        }
    }
    return true;
}

bool
hf_sftp_stat(struct hf_sftp *client, const char *path, struct hf_sftp_attributes *ret, enum hf_sftp_code *ret_code,
             struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_LSTAT, err);
    if (round == NULL || !put_text(round, path, err) || !hf_sftp_go(client, round, err))
        return false;
    const struct hf_sftp_reply *reply = &round->asks[0].reply;
    if (reply->type == HF_SFTP_STATUS && reply->code != HF_SFTP_OK) {
        *ret_code = reply->code;
        return true;
    }
    if (reply->type != HF_SFTP_ATTRS || !reply->attributes.has_size || !reply->attributes.has_mode)
        return refuse_type(client, reply, err);
    *ret_code = HF_SFTP_OK;
    *ret = reply->attributes;
    return true;
}

bool
hf_sftp_remove(struct hf_sftp *client, const char *path, enum hf_sftp_code *ret_code, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_REMOVE, err);
    return round != NULL && put_text(round, path, err) && ask_for_code(client, round, ret_code, err);
}

bool
hf_sftp_mkdir(struct hf_sftp *client, const char *path, enum hf_sftp_code *ret_code, struct hf_error *err)
{
    const uint32_t with_mode = 4, mode = 0700;
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_MKDIR, err);
    return round != NULL && put_text(round, path, err) && hf_sftp_put_u32(&round->asks[0].request, with_mode, err) &&
           hf_sftp_put_u32(&round->asks[0].request, mode, err) && ask_for_code(client, round, ret_code, err);
}

bool
hf_sftp_move(struct hf_sftp *client, enum hf_sftp_extension how, const char *from, const char *to,
             enum hf_sftp_code *ret_code, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_EXTENDED, err);
    return round != NULL && put_text(round, hf_sftp_extension_name(how), err) && put_text(round, from, err) &&
           put_text(round, to, err) && ask_for_code(client, round, ret_code, err);
}

bool
hf_sftp_statvfs(struct hf_sftp *client, const char *path, uint64_t *ret_free, enum hf_sftp_code *ret_code,
                struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_EXTENDED, err);
    if (round == NULL || !put_text(round, hf_sftp_extension_name(HF_SFTP_STATVFS), err) ||
        !put_text(round, path, err) || !hf_sftp_go(client, round, err))
        return false;
    const struct hf_sftp_reply *reply = &round->asks[0].reply;
    *ret_code = reply->type == HF_SFTP_STATUS ? reply->code : HF_SFTP_OK;
    return *ret_code != HF_SFTP_OK || hf_sftp_free_space(reply, ret_free, err);
}

bool
hf_sftp_read_folder(struct hf_sftp *client, const struct hf_sftp_handle *handle, hf_sftp_name_visitor *visit,
                    void *context, enum hf_sftp_code *ret_code, struct hf_error *err)
{
    for (;;) {
        _cleanup_(round_freep) struct hf_sftp_round *round = begin_one(HF_SFTP_READDIR, err);
        if (round == NULL || !put_handle(&round->asks[0], handle, err) || !hf_sftp_go(client, round, err))
            return false;
        const struct hf_sftp_reply *reply = &round->asks[0].reply;
        if (reply->type == HF_SFTP_STATUS && reply->code != HF_SFTP_OK) {
            *ret_code = reply->code == HF_SFTP_END_OF_FILE ? HF_SFTP_OK : reply->code;
            return true;
        }
        if (reply->type != HF_SFTP_NAME || reply->name_count == 0) // none for ever would be a loop
            return refuse_type(client, reply, err);
        struct hf_reader reader = HF_READER(reply->bytes, reply->length);
        for (uint32_t i = 0; i < reply->name_count; i++) {
            struct hf_sftp_name name;
            if (!hf_sftp_name_next(&reader, &name, err))
                return false;
            if (name.length <= 2 && memcmp(name.name, "..", name.length) == 0)
                continue;
            if (!visit(context, &name, err))
                return false;
        }
    }
}

static bool
start(struct hf_sftp *client, const struct hf_ssh_place *place, struct hf_error *err)
{
    struct hf_ssh_command command;
    _cleanup_(hf_closep) int theirs = -1, errors = -1;
    int ends[2];
    // A socket pair and not pipes: a peer that has gone gives EPIPE then, and no signal.
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe to ssh");
    client->link = ends[0];
    theirs = ends[1];
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe to ssh");
    client->errors = ends[0];
    errors = ends[1];
    if (fcntl(client->link, F_SETFL, O_NONBLOCK) != 0 || fcntl(errors, F_SETFL, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a pipe to ssh");

    hf_ssh_command(place, &command);
    const struct hf_process_options options = {
        .argv = command.argv, .stdin_fd = theirs, .stdout_fd = theirs, .stderr_fd = errors, .outlives_us = true};
    return hf_process_start(&options, &client->ssh, err) || hf_fail_within(err, "could not reach \"%s\"", client->name);
}

static bool
greet(struct hf_sftp *client, struct hf_error *err)
{
    const uint8_t *message = NULL;
    size_t length;
    const uint8_t hello[] = {0, 0, 0, 5, HF_SFTP_INIT, 0, 0, 0, 3};
    if (!hf_buf_add(&client->out, hello, sizeof hello, err))
        return false;
    while (message == NULL)
        if (!next_message(client, &message, &length, err) || (message == NULL && !move_bytes(client, err)))
            return give_up(client, err);
    return hf_sftp_version_parse(message, length, &client->extensions, err) ||
           hf_fail_within(err, "could not use \"%s\"", client->name);
}

static bool
check_extensions(const struct hf_sftp *client, struct hf_error *err)
{
    static const enum hf_sftp_extension needed[] = {HF_SFTP_FSYNC, HF_SFTP_HARDLINK, HF_SFTP_POSIX_RENAME};
    for (size_t i = 0; i < HF_LENGTH(needed); i++) {
        if (client->extensions & needed[i])
            continue;
        hf_fail(err, HF_ERR_USAGE, "the SFTP server of \"%s\" lacks %s", client->name,
                hf_sftp_extension_name(needed[i]));
        return hf_fail_hint(err, "Without it nothing can be kept safely there. Use the SFTP server of OpenSSH.");
    }
    return true;
}

/* Waits until some bytes have moved in either direction. */
static bool
move_bytes(struct hf_sftp *client, struct hf_error *err)
{
    for (;;) {
        const bool more = client->sent < client->out.length;
        struct pollfd ready[] = {{client->link, (short)(POLLIN | (more ? POLLOUT : 0)), 0},
                                 {client->errors, POLLIN, 0}};
        int found = poll(ready, 2, HF_SFTP_PATIENCE_MS);
        if (found < 0 && errno == EINTR)
            continue;
        if (found < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not wait for \"%s\"", client->name);
        if (found == 0) {
            hf_fail(err, HF_ERR_UNAVAILABLE, "\"%s\" has not answered for %d s", client->name,
                    HF_SFTP_PATIENCE_MS / 1000);
            return hf_fail_hint(err, "What was finished is kept; the next run goes on from there.");
        }
        if (ready[1].revents != 0)
            hear_errors(client);
        if (ready[0].revents & POLLIN)
            return receive_some(client, err);
        if (ready[0].revents & (POLLHUP | POLLERR))
            return explain_end(client, err);
        if (ready[0].revents & POLLOUT)
            return send_some(client, err);
    }
}

static bool
send_some(struct hf_sftp *client, struct hf_error *err)
{
    ssize_t count =
        send(client->link, client->out.data + client->sent, client->out.length - client->sent, MSG_NOSIGNAL);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (count < 0)
        return explain_end(client, err);
    client->sent += (size_t)count;
    if (client->sent == client->out.length) {
        hf_buf_clear(&client->out);
        client->sent = 0;
    }
    return true;
}

static bool
receive_some(struct hf_sftp *client, struct hf_error *err)
{
    if (client->in_start > 0) {
        memmove(client->in, client->in + client->in_start, client->in_end - client->in_start);
        client->in_end -= client->in_start;
        client->in_start = 0;
    }
    ssize_t count = recv(client->link, client->in + client->in_end, sizeof client->in - client->in_end, 0);
    if (count < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (count <= 0)
        return explain_end(client, err);
    client->in_end += (size_t)count;
    return true;
}

/* What is too much is read and forgotten: the newest lines say most. */
static void
hear_errors(struct hf_sftp *client)
{
    char piece[1024];
    ssize_t count = read(client->errors, piece, sizeof piece);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)) {
        hf_closep(&client->errors);
        return;
    }
    if (count < 0)
        return;
    if (client->said.length + (size_t)count > HF_SFTP_SAID_MOST)
        hf_buf_clear(&client->said);
    (void)!hf_buf_add(&client->said, piece, (size_t)count, NULL);
}

/* NULL: not whole yet.  The message stays where it is until the next one is asked for. */
static bool
next_message(struct hf_sftp *client, const uint8_t **ret, size_t *ret_length, struct hf_error *err)
{
    const size_t have = client->in_end - client->in_start;
    *ret = NULL;
    if (have < 4)
        return true;
    const uint32_t length = hf_sftp_get_u32(client->in + client->in_start);
    if (length == 0 || length > HF_SFTP_PACKET_MOST) {
        hf_fail(err, HF_ERR_CORRUPT, "\"%s\" sent a message of %u bytes, and the most is %zu", client->name, length,
                HF_SFTP_PACKET_MOST);
        return hf_fail_hint(err, "Often a login script there prints something: it must be silent without a terminal.");
    }
    if (have < 4 + (size_t)length)
        return true;
    *ret = client->in + client->in_start + 4;
    *ret_length = length;
    client->in_start += 4 + (size_t)length;
    return true;
}

static bool
give_answer(struct hf_sftp_round *round, const uint8_t *message, size_t length, struct hf_error *err)
{
    struct hf_sftp_reply reply;
    if (!hf_sftp_reply_parse(message, length, &reply, err))
        return false;
    for (size_t i = 0; i < round->count; i++) {
        struct hf_sftp_ask *ask = &round->asks[i];
        if (ask->id != reply.id || ask->answered)
            continue;
        ask->answered = true;
        return hf_buf_add(&ask->message, message, length, err) &&
               hf_sftp_reply_parse(ask->message.data, ask->message.length, &ask->reply, err);
    }
    return hf_fail(err, HF_ERR_CORRUPT, "the SFTP server answered request %u, which is not under way", reply.id);
}

/* ssh has gone, or is going: its last words say why. */
static bool
explain_end(struct hf_sftp *client, struct hf_error *err)
{
    bool ended;
    int status;
    struct hf_error ignored;
    if (client->ssh.pid > 0)
        (void)!hf_process_wait(&client->ssh, LEAVE_MS, &ended, &status, &ignored);
    for (int tries = 0; client->errors >= 0 && tries < 64; tries++) {
        struct pollfd ready = {client->errors, POLLIN, 0};
        if (poll(&ready, 1, 0) <= 0)
            break;
        hear_errors(client);
    }
    return hf_ssh_explain(client->name, hf_buf_text(&client->said), err);
}

static bool
give_up(struct hf_sftp *client, struct hf_error *err)
{
    client->broken = true;
    if (err != NULL)
        client->why = *err;
    hf_closep(&client->link);
    return false;
}

static struct hf_sftp_round *
begin_one(enum hf_sftp_type type, struct hf_error *err)
{
    _cleanup_(round_freep) struct hf_sftp_round *round = calloc(1, sizeof *round);
    if (round == NULL) {
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
        return NULL;
    }
    return hf_sftp_ask(round, type, err) != NULL ? HF_TAKE(round) : NULL;
}

static void
round_freep(struct hf_sftp_round **round)
{
    if (*round != NULL)
        hf_sftp_round_done(*round);
    free(*round);
    *round = NULL;
}

static bool
put_text(struct hf_sftp_round *round, const char *text, struct hf_error *err)
{
    return hf_sftp_put_string(&round->asks[0].request, text, strlen(text), err);
}

static bool
put_handle(struct hf_sftp_ask *ask, const struct hf_sftp_handle *handle, struct hf_error *err)
{
    return hf_sftp_put_string(&ask->request, handle->bytes, handle->length, err);
}

static bool
ask_for_code(struct hf_sftp *client, struct hf_sftp_round *round, enum hf_sftp_code *ret_code, struct hf_error *err)
{
    if (!hf_sftp_go(client, round, err))
        return false;
    if (round->asks[0].reply.type != HF_SFTP_STATUS)
        return refuse_type(client, &round->asks[0].reply, err);
    *ret_code = round->asks[0].reply.code;
    return true;
}

static bool
ask_for_handle(struct hf_sftp *client, struct hf_sftp_round *round, struct hf_sftp_handle *ret,
               enum hf_sftp_code *ret_code, struct hf_error *err)
{
    if (!hf_sftp_go(client, round, err))
        return false;
    const struct hf_sftp_reply *reply = &round->asks[0].reply;
    if (reply->type == HF_SFTP_STATUS && reply->code != HF_SFTP_OK) {
        *ret_code = reply->code;
        return true;
    }
    if (reply->type != HF_SFTP_HANDLE)
        return refuse_type(client, reply, err);
    *ret_code = HF_SFTP_OK;
    ret->length = reply->length;
    memcpy(ret->bytes, reply->bytes, reply->length);
    return true;
}

static bool
refuse_type(struct hf_sftp *client, const struct hf_sftp_reply *reply, struct hf_error *err)
{
    hf_fail(err, HF_ERR_CORRUPT, "\"%s\" answered with a message of type %u, which does not fit the request",
            client->name, (unsigned)reply->type);
    return give_up(client, err);
}
