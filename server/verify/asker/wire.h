/*
 * wire.h - what a worker and the process that asks a copy say to each other
 *
 * The worker holds the vault's keys; what the copy answers is a stranger's.  So another process reads those answers
 * (asker.h), and hands on what stands here and nothing else.  One connection between them is one connection to the
 * copy's server.
 *
 *     worker                asker
 *     POSTGRES or MARIADB ->          once, first
 *                         <- CONNECTED, or REFUSED, and then it hangs up
 *     QUERY               ->
 *                         <- ROW, ROW, ..., then DONE or REFUSED
 *
 * A frame is
 *
 *     offset  bytes  what
 *          0      1  kind, a letter
 *          1      4  length of the body, at most HF_ASK_FRAME_MOST
 *          5      -  body
 *
 * Numbers are little endian.  A text is its length (4 bytes; 0xffffffff: NULL, and nothing follows), its bytes, and a
 * zero that is not counted; where it is no cell of a row it has no zero inside.  Bodies:
 *
 *     POSTGRES   port (4), timeout in seconds (4), text user, text database, text options
 *     MARIADB    timeout in milliseconds (8)
 *     QUERY      number of parameters (2), text statement, text for each parameter (MariaDB takes none)
 *     CONNECTED  version as the library of the server tells it (4)
 *     ROW        number of cells (2), text for each
 *     DONE       nothing
 *     REFUSED    number of the error (4), flags (1; 1: the connection is gone, 2: there was no answer in time),
 *                text state (SQLSTATE, at most 5 bytes), text message (at most HF_ASK_MESSAGE_MOST bytes)
 *
 * Both sides count: an answer has at most HF_ASK_ROWS_MOST rows of at most HF_ASK_BYTES_MOST bytes altogether.
 */
#pragma once
#include "base/buf.h"

#define HF_ASK_FRAME_MOST      (16 * HF_MIB)
#define HF_ASK_STATEMENT_MOST  (8 * HF_MIB)
#define HF_ASK_WORD_MOST       (4 * HF_KIB) // user, database, options
#define HF_ASK_CELLS_MOST      64
#define HF_ASK_PARAMETERS_MOST 8
#define HF_ASK_MESSAGE_MOST    399
#define HF_ASK_ROWS_MOST       1000000
#define HF_ASK_BYTES_MOST      (64 * HF_MIB)

#define HF_ASK_CODE_LOST 2013 // of an error that nobody numbered: what Connector/C says when a server is gone

enum hf_ask_kind {
    HF_ASK_POSTGRES = 'P',
    HF_ASK_MARIADB = 'M',
    HF_ASK_QUERY = 'Q',
    HF_ASK_CONNECTED = 'K',
    HF_ASK_ROW = 'R',
    HF_ASK_DONE = 'D',
    HF_ASK_REFUSED = 'E',
};

/* Texts are borrowed: from the caller, or from the frame they were read from. */
struct hf_ask_postgres {
    uint32_t port, timeout_s;
    const char *user, *database, *options;
};

struct hf_ask_query {
    const char *statement;
    const char *parameters[HF_ASK_PARAMETERS_MOST];
    size_t parameter_count;
};

struct hf_ask_cells {
    size_t count;
    const char *values[HF_ASK_CELLS_MOST]; // NULL for NULL
    size_t lengths[HF_ASK_CELLS_MOST];
};

struct hf_ask_refusal {
    uint32_t code;
    bool broken, over_time;
    char state[6];
    char message[HF_ASK_MESSAGE_MOST + 1];
};

/* Body by body; those that write add to an empty buffer, those that read take all of it or say CORRUPT. */
HF_MUST_CHECK bool hf_ask_write_postgres(const struct hf_ask_postgres *from, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_postgres(const struct hf_buf *body, struct hf_ask_postgres *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_write_mariadb(uint64_t timeout_ms, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_mariadb(const struct hf_buf *body, uint64_t *ret_timeout_ms, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_write_query(const struct hf_ask_query *from, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_query(const struct hf_buf *body, struct hf_ask_query *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_write_connected(uint32_t version, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_connected(const struct hf_buf *body, uint32_t *ret_version, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_write_row(const struct hf_ask_cells *from, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_row(const struct hf_buf *body, struct hf_ask_cells *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_write_refusal(const struct hf_ask_refusal *from, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_ask_read_refusal(const struct hf_buf *body, struct hf_ask_refusal *ret, struct hf_error *err);

/* UNAVAILABLE when the other side is gone. */
HF_MUST_CHECK bool hf_ask_send(int fd, enum hf_ask_kind kind, const struct hf_buf *body, struct hf_error *err);
/* The next frame, into `body`, which is cleared first and whose limit is HF_ASK_FRAME_MOST.  CORRUPT: too long. */
HF_MUST_CHECK bool hf_ask_receive(int fd, struct hf_buf *body, uint8_t *ret_kind, struct hf_error *err);
