/*
 * exchange.h - one command of the replication protocol and its answers, a copy of any size among them
 *
 * A base backup is one command whose answer is the whole database.  libpq hands a copy over message by message, each in
 * memory of its own, copied twice on the way.  Where nothing encrypts the connection the answer is read here, straight
 * from the socket and through a buffer that stays in the processor's cache, which takes half the time; and a message
 * never has to fit into memory.  Everywhere else libpq reads.  Both give the same answers and the same errors.
 *
 * Messages of the server (PostgreSQL's documentation, "Message Formats", version 3.0): type, 1 byte; length, 4 bytes,
 * most significant first, counting itself; then `length - 4` bytes.  Taken are T, D, C (rows), H, d, c (a copy), E, N,
 * S, A and Z, which ends it.
 *
 * From begin to finish the connection is the exchange's; after a failure it is good for nothing but closing.
 */
#pragma once
#include "server/source/postgres/connection.h"

struct hf_exchange;

#define HF_EXCHANGE_MESSAGE_MOST (60 * HF_KIB) // of all but a copy's bytes
#define HF_EXCHANGE_WHOLE        4096          // a copy's message up to this length comes in one piece

struct hf_exchange_options {
    PGconn *conn;      // borrowed; with nothing under way
    int socket;        // read directly from here; -1: by libpq.  hf_exchange_socket() says which
    const char *doing; // completes "could not ..."; borrowed
    void *context;
    void (*notice)(void *context, const char *severity, const char *message); // of the server; or NULL
};

/* What `socket` has to be: -1 where the connection is encrypted. */
int hf_exchange_socket(const PGconn *conn);

/* Sends the command.  Owner of *ret: the caller, hf_exchange_freep(). */
HF_MUST_CHECK bool hf_exchange_begin(const struct hf_exchange_options *options, const char *command,
                                     const struct hf_postgres_patience *patience, struct hf_exchange **ret,
                                     struct hf_error *err);
void hf_exchange_freep(struct hf_exchange **exchange);

/*
 * The next answer: rows, a command's end, or the beginning of a copy (PQresultStatus).  Errors: what the server says.
 */
HF_MUST_CHECK bool hf_exchange_next(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                                    PGresult **ret, struct hf_error *err);

/* Bytes of a copy, borrowed until the next call. */
struct hf_exchange_piece {
    const uint8_t *data;
    size_t length; // 0: the copy has ended
    bool begins;   // a message of the server begins with it
    bool ends;     // and ends with it
};
HF_MUST_CHECK bool hf_exchange_copy(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                                    struct hf_exchange_piece *ret, struct hf_error *err);

/* Nothing but the end may come now; an error that came late is one. */
HF_MUST_CHECK bool hf_exchange_finish(struct hf_exchange *exchange, const struct hf_postgres_patience *patience,
                                      struct hf_error *err);
