#include "server/verify/asker/wire.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#define HEAD_BYTES     5
#define NO_TEXT        UINT32_MAX
#define FLAG_BROKEN    1
#define FLAG_OVER_TIME 2

static bool put_text(const char *text, size_t length, struct hf_buf *out, struct hf_error *err);
static bool put_word(const char *text, struct hf_buf *out, struct hf_error *err);
static const char *take_text(struct hf_reader *reader, size_t most, size_t *ret_length);
static const char *take_word(struct hf_reader *reader, size_t most);
static bool settle(const struct hf_reader *reader, const char *what, struct hf_error *err);
static bool send_all(int fd, const uint8_t *data, size_t length, struct hf_error *err);
static bool receive_all(int fd, uint8_t *data, size_t length, struct hf_error *err);

bool
hf_ask_write_postgres(const struct hf_ask_postgres *from, struct hf_buf *out, struct hf_error *err)
{
    return hf_buf_put_u32(out, from->port, err) && hf_buf_put_u32(out, from->timeout_s, err) &&
           put_word(from->user, out, err) && put_word(from->database, out, err) && put_word(from->options, out, err);
}

bool
hf_ask_read_postgres(const struct hf_buf *body, struct hf_ask_postgres *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    ret->port = hf_reader_u32(&reader);
    ret->timeout_s = hf_reader_u32(&reader);
    ret->user = take_word(&reader, HF_ASK_WORD_MOST);
    ret->database = take_word(&reader, HF_ASK_WORD_MOST);
    ret->options = take_word(&reader, HF_ASK_WORD_MOST);
    if (ret->user == NULL || ret->database == NULL || ret->options == NULL)
        hf_reader_refuse(&reader);
    return settle(&reader, "connection to PostgreSQL", err);
}

bool
hf_ask_write_mariadb(uint64_t timeout_ms, struct hf_buf *out, struct hf_error *err)
{
    return hf_buf_put_u64(out, timeout_ms, err);
}

bool
hf_ask_read_mariadb(const struct hf_buf *body, uint64_t *ret_timeout_ms, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    *ret_timeout_ms = hf_reader_u64(&reader);
    return settle(&reader, "connection to MariaDB", err);
}

bool
hf_ask_write_query(const struct hf_ask_query *from, struct hf_buf *out, struct hf_error *err)
{
    if (from->parameter_count > HF_ASK_PARAMETERS_MOST)
        return hf_fail(err, HF_ERR_USAGE, "more than %d parameters for a statement", HF_ASK_PARAMETERS_MOST);
    if (!hf_buf_put_u16(out, (uint16_t)from->parameter_count, err) || !put_word(from->statement, out, err))
        return false;
    for (size_t i = 0; i < from->parameter_count; i++)
        if (!put_word(from->parameters[i], out, err))
            return false;
    return true;
}

bool
hf_ask_read_query(const struct hf_buf *body, struct hf_ask_query *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    ret->parameter_count = hf_reader_u16(&reader);
    if (ret->parameter_count > HF_ASK_PARAMETERS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "a statement with more than %d parameters", HF_ASK_PARAMETERS_MOST);
    ret->statement = take_word(&reader, HF_ASK_STATEMENT_MOST);
    for (size_t i = 0; i < ret->parameter_count; i++)
        ret->parameters[i] = take_word(&reader, HF_ASK_STATEMENT_MOST);
    if (ret->statement == NULL)
        hf_reader_refuse(&reader);
    return settle(&reader, "statement", err);
}

bool
hf_ask_write_connected(uint32_t version, struct hf_buf *out, struct hf_error *err)
{
    return hf_buf_put_u32(out, version, err);
}

bool
hf_ask_read_connected(const struct hf_buf *body, uint32_t *ret_version, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    *ret_version = hf_reader_u32(&reader);
    return settle(&reader, "version", err);
}

bool
hf_ask_write_row(const struct hf_ask_cells *from, struct hf_buf *out, struct hf_error *err)
{
    if (from->count > HF_ASK_CELLS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a row of more than %d cells", HF_ASK_CELLS_MOST);
    if (!hf_buf_put_u16(out, (uint16_t)from->count, err))
        return false;
    for (size_t i = 0; i < from->count; i++)
        if (!put_text(from->values[i], from->lengths[i], out, err))
            return false;
    return true;
}

bool
hf_ask_read_row(const struct hf_buf *body, struct hf_ask_cells *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    ret->count = hf_reader_u16(&reader);
    if (ret->count > HF_ASK_CELLS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "a row of more than %d cells", HF_ASK_CELLS_MOST);
    for (size_t i = 0; i < ret->count; i++)
        ret->values[i] = take_text(&reader, HF_ASK_FRAME_MOST, &ret->lengths[i]);
    return settle(&reader, "row", err);
}

bool
hf_ask_write_refusal(const struct hf_ask_refusal *from, struct hf_buf *out, struct hf_error *err)
{
    const unsigned flags = (from->broken ? FLAG_BROKEN : 0) | (from->over_time ? FLAG_OVER_TIME : 0);
    return hf_buf_put_u32(out, from->code, err) && hf_buf_put_u8(out, (uint8_t)flags, err) &&
           put_word(from->state, out, err) && put_word(from->message, out, err);
}

bool
hf_ask_read_refusal(const struct hf_buf *body, struct hf_ask_refusal *ret, struct hf_error *err)
{
    struct hf_reader reader = HF_READER(body->data, body->length);
    ret->code = hf_reader_u32(&reader);
    const uint8_t flags = hf_reader_u8(&reader);
    const char *state = take_word(&reader, sizeof ret->state - 1);
    const char *message = take_word(&reader, sizeof ret->message - 1);
    if ((flags & ~(FLAG_BROKEN | FLAG_OVER_TIME)) != 0 || state == NULL || message == NULL)
        hf_reader_refuse(&reader);
    if (!settle(&reader, "refusal", err))
        return false;
    ret->broken = (flags & FLAG_BROKEN) != 0;
    ret->over_time = (flags & FLAG_OVER_TIME) != 0;
    snprintf(ret->state, sizeof ret->state, "%s", state);
    snprintf(ret->message, sizeof ret->message, "%s", message);
    return true;
}

bool
hf_ask_send(int fd, enum hf_ask_kind kind, const struct hf_buf *body, struct hf_error *err)
{
    uint8_t head[HEAD_BYTES] = {(uint8_t)kind};
    hf_put_u32(head + 1, (uint32_t)body->length);
    return send_all(fd, head, sizeof head, err) && send_all(fd, body->data, body->length, err);
}

bool
hf_ask_receive(int fd, struct hf_buf *body, uint8_t *ret_kind, struct hf_error *err)
{
    uint8_t head[HEAD_BYTES];
    hf_buf_clear(body);
    if (!receive_all(fd, head, sizeof head, err))
        return false;
    const uint32_t length = hf_get_u32(head + 1);
    if (length > HF_ASK_FRAME_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "a frame of %u bytes is over the limit of %zu", length, HF_ASK_FRAME_MOST);
    if (!hf_buf_add_zeros(body, length, err) || !receive_all(fd, body->data, length, err))
        return false;
    *ret_kind = head[0];
    return true;
}

static bool
put_text(const char *text, size_t length, struct hf_buf *out, struct hf_error *err)
{
    if (text == NULL)
        return hf_buf_put_u32(out, NO_TEXT, err);
    if (length > HF_ASK_FRAME_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a text of %zu bytes is over the limit of %zu", length, HF_ASK_FRAME_MOST);
    return hf_buf_put_u32(out, (uint32_t)length, err) && hf_buf_add(out, text, length, err) &&
           hf_buf_put_u8(out, 0, err);
}

static bool
put_word(const char *text, struct hf_buf *out, struct hf_error *err)
{
    return put_text(text, text != NULL ? strlen(text) : 0, out, err);
}

static const char *
take_text(struct hf_reader *reader, size_t most, size_t *ret_length)
{
    const uint32_t length = hf_reader_u32(reader);
    *ret_length = 0;
    if (length == NO_TEXT || !hf_reader_ok(reader))
        return NULL;
    if (length > most) {
        hf_reader_refuse(reader);
        return NULL;
    }
    const uint8_t *bytes = hf_reader_bytes(reader, (size_t)length + 1);
    if (bytes == NULL || bytes[length] != 0) {
        hf_reader_refuse(reader);
        return NULL;
    }
    *ret_length = length;
    return (const char *)bytes;
}

static const char *
take_word(struct hf_reader *reader, size_t most)
{
    size_t length;
    const char *text = take_text(reader, most, &length);
    if (text != NULL && strlen(text) != length)
        hf_reader_refuse(reader);
    return text;
}

static bool
settle(const struct hf_reader *reader, const char *what, struct hf_error *err)
{
    return hf_reader_finished(reader) || hf_fail(err, HF_ERR_CORRUPT, "a %s that does not keep to its format", what);
}

static bool
send_all(int fd, const uint8_t *data, size_t length, struct hf_error *err)
{
    for (size_t sent = 0; sent < length;) {
        const ssize_t now = send(fd, data + sent, length - sent, MSG_NOSIGNAL);
        if (now < 0 && errno == EINTR)
            continue;
        if (now <= 0)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not speak with the process that asks the copy");
        sent += (size_t)now;
    }
    return true;
}

static bool
receive_all(int fd, uint8_t *data, size_t length, struct hf_error *err)
{
    for (size_t received = 0; received < length;) {
        const ssize_t now = recv(fd, data + received, length - received, 0);
        if (now < 0 && errno == EINTR)
            continue;
        if (now == 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the process that asks the copy has hung up");
        if (now < 0)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not hear the process that asks the copy");
        received += (size_t)now;
    }
    return true;
}
