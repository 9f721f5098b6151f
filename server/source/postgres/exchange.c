#include "server/source/postgres/exchange.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>

#include "base/time.h"

#define HEADER_BYTES 5
#define BUFFER_BYTES (64 * HF_KIB) // more would be read from memory again instead of from the cache
#define NAP_NS       20000
#define NAP_SLACK_NS 1000 // the kernel's own would make three and a half naps of one
#define NAPS_MOST    3
#define FIELDS_MOST  64
#define ROWS_MOST    20000

struct hf_exchange {
    struct hf_exchange_options options;
    char *message;      // libpq's, of a copy: until the next is asked for
    uint8_t *buffer;    // direct
    size_t at, end;     // of what lies in it
    uint64_t copy_left; // bytes of the copy's current message that were not handed over
    bool copying;
    size_t rows;
};

/* One message, borrowed from the buffer until more is read into it. */
struct message {
    char type;
    const uint8_t *body;
    size_t length;
};

static bool send_command(struct hf_exchange *exchange, const char *command, const struct hf_postgres_patience *patience,
                         struct hf_error *err);
static bool copy_by_libpq(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                          struct hf_exchange_piece *ret, struct hf_error *err);
static bool copy_directly(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                          struct hf_exchange_piece *ret, struct hf_error *err);
static bool next_message(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, struct message *ret,
                         struct hf_error *err);
static bool peek_header(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, char *ret_type,
                        size_t *ret_length, struct hf_error *err);
static bool have(struct hf_exchange *exchange, size_t count, const struct hf_postgres_patience *patience,
                 struct hf_error *err);
static bool take_aside(struct hf_exchange *exchange, const struct message *message, bool *ret_taken,
                       struct hf_error *err);
static void hear_notice(const struct hf_exchange *exchange, const struct message *message);
static void hear_notice_of_libpq(void *context, const PGresult *result);
static bool fail_refused(const struct hf_exchange *exchange, const struct message *message, struct hf_error *err);
static const char *field_of(const struct message *message, char kind);
static bool begin_rows(struct hf_exchange *exchange, const struct message *message, PGresult **ret,
                       struct hf_error *err);
static bool add_row(struct hf_exchange *exchange, const struct message *message, PGresult *rows, struct hf_error *err);
static bool make_result(ExecStatusType status, PGresult **ret, struct hf_error *err);
static bool fail_malformed(const struct hf_exchange *exchange, const struct message *message, struct hf_error *err);

int
hf_exchange_socket(const PGconn *conn)
{
    // Encrypted by either way, the bytes on the socket are not the messages.
    return PQsslInUse((PGconn *)(uintptr_t)conn) || PQgssEncInUse((PGconn *)(uintptr_t)conn) ? -1 : PQsocket(conn);
}

bool
hf_exchange_begin(const struct hf_exchange_options *options, const char *command,
                  const struct hf_postgres_patience *patience, struct hf_exchange **ret, struct hf_error *err)
{
    _cleanup_(hf_exchange_freep) struct hf_exchange *exchange = calloc(1, sizeof *exchange);
    if (exchange == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exchange with the server");
    exchange->options = *options;
    if (options->socket < 0) {
        PQsetNoticeReceiver(options->conn, hear_notice_of_libpq, exchange);
        if (!hf_postgres_send(options->conn, options->doing, command, err))
            return false;
    } else {
        (void)prctl(PR_SET_TIMERSLACK, NAP_SLACK_NS); // of this thread; refused, naps are longer
        exchange->buffer = malloc(BUFFER_BYTES);
        if (exchange->buffer == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exchange with the server");
        if (!send_command(exchange, command, patience, err))
            return false;
    }
    *ret = HF_TAKE(exchange);
    return true;
}

void
hf_exchange_freep(struct hf_exchange **exchange)
{
    if (*exchange == NULL)
        return;
    if ((*exchange)->options.socket < 0)
        PQsetNoticeReceiver((*exchange)->options.conn, hear_notice_of_libpq, NULL);
    PQfreemem((*exchange)->message);
    free((*exchange)->buffer);
    free(*exchange);
    *exchange = NULL;
}

bool
hf_exchange_next(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, PGresult **ret,
                 struct hf_error *err)
{
    if (exchange->options.socket < 0)
        return hf_postgres_next_any(exchange->options.conn, patience, exchange->options.doing, ret, err);

    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    for (;;) {
        struct message message;
        bool aside;
        if (!next_message(exchange, patience, &message, err) || !take_aside(exchange, &message, &aside, err))
            return false;
        if (aside)
            continue;
        switch (message.type) {
        case 'T':
            if (!begin_rows(exchange, &message, &rows, err))
                return false;
            break;
        case 'D':
            if (!add_row(exchange, &message, rows, err))
                return false;
            break;
        case 'C':
            if (rows == NULL)
                return make_result(PGRES_COMMAND_OK, ret, err);
            *ret = HF_TAKE(rows);
            return true;
        case 'H':
            exchange->copying = true;
            return make_result(PGRES_COPY_OUT, ret, err);
        case 'Z':
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server's answer ended too early",
                           exchange->options.doing);
        default:
            return fail_malformed(exchange, &message, err);
        }
    }
}

bool
hf_exchange_copy(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                 struct hf_exchange_piece *ret, struct hf_error *err)
{
    return exchange->options.socket < 0 ? copy_by_libpq(exchange, patience, ret, err)
                                        : copy_directly(exchange, patience, ret, err);
}

bool
hf_exchange_finish(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, struct hf_error *err)
{
    if (exchange->options.socket < 0)
        return hf_postgres_finish(exchange->options.conn, patience, exchange->options.doing, err);
    for (;;) {
        struct message message;
        bool aside;
        if (!next_message(exchange, patience, &message, err) || !take_aside(exchange, &message, &aside, err))
            return false;
        if (message.type == 'Z')
            return true;
        if (message.type == 'H')
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server began another copy",
                           exchange->options.doing);
        if (!aside && strchr("TDC", message.type) == NULL)
            return fail_malformed(exchange, &message, err);
    }
}

/* The socket never blocks: libpq has made it so. */
static bool
send_command(struct hf_exchange *exchange, const char *command, const struct hf_postgres_patience *patience,
             struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_EXCHANGE_MESSAGE_MOST);
    const size_t length = strlen(command) + 1;
    uint8_t header[HEADER_BYTES] = {'Q'};
    for (unsigned i = 0; i < 4; i++)
        header[1 + i] = (uint8_t)((length + 4) >> (24 - 8 * i));
    if (!hf_buf_add(&bytes, header, sizeof header, err) || !hf_buf_add(&bytes, command, length, err))
        return false;

    const uint64_t since = hf_monotonic_ns();
    for (size_t sent = 0; sent < bytes.length;) {
        const ssize_t count =
            send(exchange->options.socket, bytes.data + sent, bytes.length - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (count > 0)
            sent += (size_t)count;
        else if (errno != EAGAIN && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost",
                                 exchange->options.doing);
        else if (!hf_postgres_wait(exchange->options.socket, POLLOUT, patience, since, exchange->options.doing, err))
            return false;
    }
    return true;
}

static bool
copy_by_libpq(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, struct hf_exchange_piece *ret,
              struct hf_error *err)
{
    int length;
    PQfreemem(exchange->message);
    exchange->message = NULL;
    if (!hf_postgres_copy_next(exchange->options.conn, patience, exchange->options.doing, -1, &exchange->message,
                               &length, err))
        return false;
    *ret = (struct hf_exchange_piece){.data = (const uint8_t *)exchange->message,
                                      .length = length < 0 ? 0 : (size_t)length,
                                      .begins = true,
                                      .ends = true};
    return true;
}

static bool
copy_directly(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, struct hf_exchange_piece *ret,
              struct hf_error *err)
{
    *ret = (struct hf_exchange_piece){0};
    while (exchange->copy_left == 0) {
        struct message message;
        size_t length;
        char type;
        bool aside;
        if (!exchange->copying)
            return true;
        if (!peek_header(exchange, patience, &type, &length, err))
            return false;
        if (type == 'd') {
            if (!have(exchange, HEADER_BYTES + (length <= HF_EXCHANGE_WHOLE ? length : 1), patience, err))
                return false;
            exchange->at += HEADER_BYTES;
            exchange->copy_left = length;
            ret->begins = true;
            continue;
        }
        if (!next_message(exchange, patience, &message, err) || !take_aside(exchange, &message, &aside, err))
            return false;
        if (!aside && type != 'c')
            return fail_malformed(exchange, &message, err);
        exchange->copying = aside;
    }

    if (!have(exchange, 1, patience, err))
        return false;
    const size_t there = exchange->end - exchange->at;
    ret->data = exchange->buffer + exchange->at;
    ret->length = there < exchange->copy_left ? there : (size_t)exchange->copy_left;
    exchange->at += ret->length;
    exchange->copy_left -= ret->length;
    ret->ends = exchange->copy_left == 0;
    return true;
}

static bool
next_message(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, struct message *ret,
             struct hf_error *err)
{
    if (!peek_header(exchange, patience, &ret->type, &ret->length, err))
        return false;
    if (ret->length > HF_EXCHANGE_MESSAGE_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the server sent a message of %zu bytes",
                       exchange->options.doing, ret->length);
    if (!have(exchange, HEADER_BYTES + ret->length, patience, err))
        return false;
    ret->body = exchange->buffer + exchange->at + HEADER_BYTES;
    exchange->at += HEADER_BYTES + ret->length;
    return true;
}

/* The header stays in the buffer. */
static bool
peek_header(struct hf_exchange *exchange, const struct hf_postgres_patience *patience, char *ret_type,
            size_t *ret_length, struct hf_error *err)
{
    if (!have(exchange, HEADER_BYTES, patience, err))
        return false;
    const uint8_t *header = exchange->buffer + exchange->at;
    const uint32_t length =
        (uint32_t)header[1] << 24 | (uint32_t)header[2] << 16 | (uint32_t)header[3] << 8 | header[4];
    if (length < 4 || length > INT32_MAX)
        return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the server sent a message of the length %u",
                       exchange->options.doing, length);
    *ret_type = (char)header[0];
    *ret_length = length - 4;
    return true;
}

/* Reads until so many bytes lie in the buffer, and then as many more as there are. */
static bool
have(struct hf_exchange *exchange, size_t count, const struct hf_postgres_patience *patience, struct hf_error *err)
{
    if (exchange->end - exchange->at >= count)
        return true;
    memmove(exchange->buffer, exchange->buffer + exchange->at, exchange->end - exchange->at);
    exchange->end -= exchange->at;
    exchange->at = 0;
    uint64_t since = hf_monotonic_ns();
    unsigned naps = 0;
    while (exchange->end < count) {
        const ssize_t got = recv(exchange->options.socket, exchange->buffer + exchange->end,
                                 BUFFER_BYTES - exchange->end, MSG_DONTWAIT);
        if (got == 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE,
                           "could not %s: the connection was lost: the server closed the connection unexpectedly",
                           exchange->options.doing);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost",
                                 exchange->options.doing);
        if (got > 0) {
            exchange->end += (size_t)got;
            since = hf_monotonic_ns();
            naps = 0;
        } else if (exchange->copying && naps < NAPS_MOST) {
            // The server writes 8 KiB at a time.  To be woken for each would cost both sides more than the bytes do.
            naps++;
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
        } else if (!hf_postgres_wait(exchange->options.socket, POLLIN, patience, since, exchange->options.doing, err)) {
            return false;
        }
    }
    return hf_postgres_go_on(patience, since, exchange->options.doing, err);
}

/* What a server may say at any time.  An error is one of these, and ends everything. */
static bool
take_aside(struct hf_exchange *exchange, const struct message *message, bool *ret_taken, struct hf_error *err)
{
    *ret_taken = message->type == 'N' || message->type == 'S' || message->type == 'A';
    if (message->type == 'N')
        hear_notice(exchange, message);
    return message->type != 'E' || fail_refused(exchange, message, err);
}

static void
hear_notice(const struct hf_exchange *exchange, const struct message *message)
{
    const char *severity = field_of(message, 'S'), *words = field_of(message, 'M');
    if (exchange->options.notice != NULL && severity != NULL && words != NULL)
        exchange->options.notice(exchange->options.context, severity, words);
}

static void
hear_notice_of_libpq(void *context, const PGresult *result)
{
    const struct hf_exchange *exchange = context;
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY);
    const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    if (exchange != NULL && exchange->options.notice != NULL && severity != NULL && words != NULL)
        exchange->options.notice(exchange->options.context, severity, words);
}

static bool
fail_refused(const struct hf_exchange *exchange, const struct message *message, struct hf_error *err)
{
    const char *state = field_of(message, 'C'), *words = field_of(message, 'M'), *more = field_of(message, 'H');
    if (state == NULL || words == NULL)
        return fail_malformed(exchange, message, err);
    return hf_postgres_fail_refused(exchange->options.conn, state, words, more, exchange->options.doing, err);
}

/* Of an error or a notice: fields of a byte and a text with its NUL, ended by a NUL.  NULL when it has none such. */
static const char *
field_of(const struct message *message, char kind)
{
    const char *at = (const char *)message->body, *end = at + message->length;
    while (at < end && *at != '\0') {
        const char *text = at + 1, *stop = memchr(text, '\0', (size_t)(end - text));
        if (stop == NULL)
            return NULL;
        if (*at == kind)
            return text;
        at = stop + 1;
    }
    return NULL;
}

/* The names of the fields are not kept: nobody asks for them. */
static bool
begin_rows(struct hf_exchange *exchange, const struct message *message, PGresult **ret, struct hf_error *err)
{
    const unsigned count = message->length < 2 ? 0 : (unsigned)message->body[0] << 8 | message->body[1];
    PGresAttDesc fields[FIELDS_MOST] = {0};
    if (*ret != NULL || count == 0 || count > FIELDS_MOST)
        return fail_malformed(exchange, message, err);
    for (unsigned i = 0; i < count; i++)
        fields[i].name = (char *)(uintptr_t) "";
    exchange->rows = 0;
    if (!make_result(PGRES_TUPLES_OK, ret, err))
        return false;
    return PQsetResultAttrs(*ret, (int)count, fields) || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
add_row(struct hf_exchange *exchange, const struct message *message, PGresult *rows, struct hf_error *err)
{
    const uint8_t *at = message->body, *end = at + message->length;
    if (rows == NULL || exchange->rows == ROWS_MOST || message->length < 2 || (at[0] << 8 | at[1]) != PQnfields(rows))
        return fail_malformed(exchange, message, err);
    at += 2;
    for (int field = 0; field < PQnfields(rows); field++) {
        if (end - at < 4)
            return fail_malformed(exchange, message, err);
        const uint32_t length = (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
        const bool null = length == UINT32_MAX;
        at += 4;
        if (!null && length > (size_t)(end - at))
            return fail_malformed(exchange, message, err);
        if (!PQsetvalue(rows, (int)exchange->rows, field, null ? NULL : (char *)(uintptr_t)at, null ? -1 : (int)length))
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
        at += null ? 0 : length;
    }
    exchange->rows++;
    return true;
}

static bool
make_result(ExecStatusType status, PGresult **ret, struct hf_error *err)
{
    *ret = PQmakeEmptyPGresult(NULL, status);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
fail_malformed(const struct hf_exchange *exchange, const struct message *message, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the server sent a message of the kind %02x that makes no sense",
                   exchange->options.doing, (uint8_t)message->type);
}
