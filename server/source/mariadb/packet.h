/*
 * packet.h - packets of the client/server protocol of MySQL and MariaDB, over a socket of ours or one taken over
 *
 * Packet: u24 length, u8 sequence number, bytes.  A message of 2^24 - 1 bytes or more is sent as several packets of
 * which all but the last are that long; the last may be empty.
 *
 * Connector/C connects and proves who we are (every authentication plugin, TLS); from then on we read and write its
 * socket ourselves, through the same TLS session.  It cannot be left to do so: it acknowledges a semi-synchronous
 * transaction inside the call that fetches it, before anybody has made it durable, and it cannot be asked without
 * waiting whether something has come.
 */
#pragma once
#include <mysql.h>
#include <stdatomic.h>
#include "base/buf.h"

#define HF_PACKET_HEADER 4
#define HF_PACKET_MOST   0xffffffU

struct hf_packets {
    int fd;            // borrowed
    void *tls;         // SSL of OpenSSL, borrowed; NULL: plain
    const char *peer;  // borrowed; stands in messages
    uint8_t sequence;  // of the next packet, either way
    bool any_sequence; // a source that asks for acknowledgements counts anew behind each question
    struct hf_buf in;  // bytes read ahead: in.data[used, in.length)
    size_t used;
    struct hf_buf message; // of which parts have come already
    bool partial;          // the message goes on in the next packet
};

/* The socket becomes non-blocking. */
HF_MUST_CHECK bool hf_packets_init(struct hf_packets *packets, int fd, const char *peer, struct hf_error *err);
/* After the last answer of the last query: nothing may be under way.  The connection stays the caller's to close. */
HF_MUST_CHECK bool hf_packets_take_over(struct hf_packets *packets, MYSQL *mysql, const char *peer,
                                        struct hf_error *err);
void hf_packets_done(struct hf_packets *packets);

/*
 * The next message if all of it has come; *ret_got false: not yet.  The bytes are borrowed until the next call.
 * UNAVAILABLE when the peer has gone; CORRUPT for one above `most` bytes or out of sequence.
 */
HF_MUST_CHECK bool hf_packets_next(struct hf_packets *packets, size_t most, bool *ret_got, const uint8_t **ret_data,
                                   size_t *ret_length, struct hf_error *err);
/* Waits for it, at most so long.  CANCELLED once *cancel is set; UNAVAILABLE after the time. */
HF_MUST_CHECK bool hf_packets_await(struct hf_packets *packets, size_t most, int64_t wait_ms, const atomic_bool *cancel,
                                    const uint8_t **ret_data, size_t *ret_length, struct hf_error *err);
/* One message.  Waits while the peer does not read, at most so long. */
HF_MUST_CHECK bool hf_packets_send(struct hf_packets *packets, const void *head, size_t head_length, const void *data,
                                   size_t length, int64_t wait_ms, const atomic_bool *cancel, struct hf_error *err);
/* Bytes may be there that poll() does not know of: ask hf_packets_next() before waiting. */

/* An error that the server sent (0xff, u16 code, '#', SQLSTATE, text) in our words; other bytes are CORRUPT. */
bool hf_packets_fail(const uint8_t *data, size_t length, const char *doing, uint16_t *ret_code, struct hf_error *err);
