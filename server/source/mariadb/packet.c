#include "server/source/mariadb/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/time.h"

// Connector/C's own description of its connection, which says where TLS has its session.
#define HAVE_TLS 1
typedef unsigned char uchar; // as they call it
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <ma_pvio.h>
#pragma GCC diagnostic pop

#define READ_BYTES (128 * HF_KIB)
#define STEP_MS    200 // how soon a cancelled wait ends
#define TEXT_MOST  300 // of the server's words in an error

static bool read_more(struct hf_packets *packets, bool *ret_got, struct hf_error *err);
static bool fail_gone(const struct hf_packets *packets, const char *how, struct hf_error *err);
static bool send_bytes(struct hf_packets *packets, const uint8_t *data, size_t length, int64_t wait_ms,
                       const atomic_bool *cancel, struct hf_error *err);
static ssize_t write_some(struct hf_packets *packets, const uint8_t *data, size_t length);

bool
hf_packets_init(struct hf_packets *packets, int fd, const char *peer, struct hf_error *err)
{
    *packets = (struct hf_packets){
        .fd = fd, .peer = peer, .in = HF_BUF_INIT(2 * READ_BYTES), .message = HF_BUF_INIT((size_t)1 << 31)};
    const int flags = fcntl(fd, F_GETFL);
    return (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) ||
           hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not use the connection to %s", peer);
}

bool
hf_packets_take_over(struct hf_packets *packets, MYSQL *mysql, const char *peer, struct hf_error *err)
{
    const MARIADB_PVIO *link = mysql->net.pvio;
    if (link == NULL || !hf_packets_init(packets, (int)mysql_get_socket(mysql), peer, err))
        return link != NULL ? false : hf_fail(err, HF_ERR_UNAVAILABLE, "the connection to %s is gone", peer);
    packets->tls = link->ctls == NULL ? NULL : link->ctls->ssl;
    const size_t ahead = link->cache == NULL ? 0 : (size_t)(link->cache + link->cache_size - link->cache_pos);
    return ahead == 0 || hf_fail(err, HF_ERR_CORRUPT, "%s sent %zu bytes that nobody asked for", peer, ahead);
}

void
hf_packets_done(struct hf_packets *packets)
{
    hf_buf_done(&packets->in);
    hf_buf_done(&packets->message);
}

bool
hf_packets_next(struct hf_packets *packets, size_t most, bool *ret_got, const uint8_t **ret_data, size_t *ret_length,
                struct hf_error *err)
{
    *ret_got = false;
    if (!packets->partial)
        hf_buf_clear(&packets->message);
    for (;;) {
        const size_t left = packets->in.length - packets->used;
        const uint8_t *at = packets->in.data + packets->used;
        // What is there of the packet's body goes over at once: a packet is larger than what is read ahead.
        if (left >= HF_PACKET_HEADER) {
            const uint32_t length = at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16;
            if (packets->message.length + length > most)
                return hf_fail(err, HF_ERR_CORRUPT, "%s sent a message of more than %zu bytes", packets->peer, most);
            if (packets->any_sequence)
                packets->sequence = at[3];
            if (at[3] != packets->sequence)
                return hf_fail(err, HF_ERR_CORRUPT, "%s sent packet %u where %u was next", packets->peer, at[3],
                               packets->sequence);
            if (left - HF_PACKET_HEADER >= length) {
                if (!hf_buf_add(&packets->message, at + HF_PACKET_HEADER, length, err))
                    return false;
                packets->sequence++;
                packets->used += HF_PACKET_HEADER + length;
                packets->partial = length == HF_PACKET_MOST;
                if (packets->partial)
                    continue;
                *ret_got = true;
                *ret_data = packets->message.data;
                *ret_length = packets->message.length;
                return true;
            }
        }
        bool got;
        if (!read_more(packets, &got, err))
            return false;
        if (!got)
            return true;
    }
}

bool
hf_packets_await(struct hf_packets *packets, size_t most, int64_t wait_ms, const atomic_bool *cancel,
                 const uint8_t **ret_data, size_t *ret_length, struct hf_error *err)
{
    const uint64_t since = hf_monotonic_ns();
    for (;;) {
        struct pollfd one = {.fd = packets->fd, .events = POLLIN};
        bool got;
        if (!hf_packets_next(packets, most, &got, ret_data, ret_length, err))
            return false;
        if (got)
            return true;
        if (cancel != NULL && atomic_load(cancel))
            return hf_fail(err, HF_ERR_CANCELLED, "the conversation with %s was cancelled", packets->peer);
        if (hf_monotonic_ns() - since > (uint64_t)wait_ms * 1000000)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "%s was silent for %lld s", packets->peer,
                           (long long)wait_ms / 1000);
        if (poll(&one, 1, STEP_MS) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for %s", packets->peer);
    }
}

bool
hf_packets_send(struct hf_packets *packets, const void *head, size_t head_length, const void *data, size_t length,
                int64_t wait_ms, const atomic_bool *cancel, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(HF_PACKET_MOST + HF_PACKET_HEADER + 1);
    const size_t whole = head_length + length;
    for (size_t sent = 0;;) {
        const size_t part = whole - sent < HF_PACKET_MOST ? whole - sent : HF_PACKET_MOST;
        const uint8_t header[HF_PACKET_HEADER] = {(uint8_t)part, (uint8_t)(part >> 8), (uint8_t)(part >> 16),
                                                  packets->sequence++};
        const size_t from_head = sent >= head_length ? 0 : head_length - sent < part ? head_length - sent : part;
        hf_buf_clear(&out);
        if (!hf_buf_add(&out, header, sizeof header, err) ||
            (from_head > 0 && !hf_buf_add(&out, (const uint8_t *)head + sent, from_head, err)) ||
            (part > from_head &&
             !hf_buf_add(&out, (const uint8_t *)data + (sent + from_head - head_length), part - from_head, err)) ||
            !send_bytes(packets, out.data, out.length, wait_ms, cancel, err))
            return false;
        sent += part;
        if (part < HF_PACKET_MOST)
            return true;
    }
}

bool
hf_packets_fail(const uint8_t *data, size_t length, const char *doing, uint16_t *ret_code, struct hf_error *err)
{
    char text[TEXT_MOST + 1] = "";
    if (length < 3 || data[0] != 0xff)
        return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the answer is not one of the protocol", doing);
    const uint16_t code = hf_get_u16(data + 1);
    const size_t skip = length >= 9 && data[3] == '#' ? 9 : 3;
    const size_t part = length - skip < TEXT_MOST ? length - skip : TEXT_MOST;
    for (size_t i = 0; i < part; i++)
        text[i] = data[skip + i] < ' ' || data[skip + i] == 0x7f ? '?' : (char)data[skip + i];
    *ret_code = code;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: %s (error %u)", doing, text, code);
}

/* Without waiting. */
static bool
read_more(struct hf_packets *packets, bool *ret_got, struct hf_error *err)
{
    struct hf_buf *in = &packets->in;
    // Keeps what was read ahead at the front; a long packet makes the room grow to its length.
    if (packets->used > 0) {
        memmove(in->data, in->data + packets->used, in->length - packets->used);
        hf_buf_truncate(in, in->length - packets->used);
        packets->used = 0;
    }
    in->limit = (size_t)HF_PACKET_MOST + HF_PACKET_HEADER + 2 * READ_BYTES;
    if (!hf_buf_reserve(in, READ_BYTES, err))
        return false;
    ssize_t got;
    if (packets->tls != NULL) {
        ERR_clear_error();
        got = SSL_read(packets->tls, in->data + in->length, READ_BYTES);
        if (got <= 0) {
            const int why = SSL_get_error(packets->tls, (int)got);
            *ret_got = false;
            return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE || fail_gone(packets, "TLS", err);
        }
    } else {
        got = recv(packets->fd, in->data + in->length, READ_BYTES, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
            *ret_got = false;
            return true;
        }
        if (got <= 0)
            return fail_gone(packets, got == 0 ? NULL : strerrordesc_np(errno), err);
    }
    in->length += (size_t)got;
    *ret_got = true;
    return true;
}

static bool
fail_gone(const struct hf_packets *packets, const char *how, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_UNAVAILABLE, "%s closed the connection%s%s", packets->peer, how == NULL ? "" : ": ",
                   how == NULL ? "" : how);
}

static bool
send_bytes(struct hf_packets *packets, const uint8_t *data, size_t length, int64_t wait_ms, const atomic_bool *cancel,
           struct hf_error *err)
{
    uint64_t since = hf_monotonic_ns();
    while (length > 0) {
        const ssize_t sent = write_some(packets, data, length);
        if (sent > 0) {
            data += sent;
            length -= (size_t)sent;
            since = hf_monotonic_ns();
            continue;
        }
        if (sent < 0)
            return fail_gone(packets, NULL, err);
        if (cancel != NULL && atomic_load(cancel))
            return hf_fail(err, HF_ERR_CANCELLED, "the conversation with %s was cancelled", packets->peer);
        if (hf_monotonic_ns() - since > (uint64_t)wait_ms * 1000000)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "%s has not read for %lld s", packets->peer,
                           (long long)wait_ms / 1000);
        struct pollfd one = {.fd = packets->fd, .events = POLLOUT};
        if (poll(&one, 1, STEP_MS) < 0 && errno != EINTR)
            return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for %s", packets->peer);
    }
    return true;
}

/* 0: not now; below 0: never. */
static ssize_t
write_some(struct hf_packets *packets, const uint8_t *data, size_t length)
{
    if (packets->tls != NULL) {
        ERR_clear_error();
        SSL_set_mode(packets->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        const int sent = SSL_write(packets->tls, data, length < INT32_MAX ? (int)length : INT32_MAX);
        if (sent > 0)
            return sent;
        const int why = SSL_get_error(packets->tls, sent);
        return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? 0 : -1;
    }
    const ssize_t sent = send(packets->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent >= 0 ? sent : errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? 0 : -1;
}
