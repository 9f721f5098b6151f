/* Whatever a server answers to a command: pieces lie within what it sent, and it ends in an end or in an error. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/source/postgres/exchange.h"
#include "tests/fuzz/fuzz.h"

#define INPUT_MOST (100 * HF_KIB) // what lies in a socket without a reader

static bool read_all(struct hf_exchange *exchange, size_t size, struct hf_error *err);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct hf_postgres_patience patience = {.silence_ms = 1000};
    struct hf_exchange *exchange;
    struct hf_error err;
    int ends[2];
    if (size > INPUT_MOST)
        return 0;
    assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    assert(size == 0 || write(ends[1], data, size) == (ssize_t)size);
    shutdown(ends[1], SHUT_WR);
    const struct hf_exchange_options options = {.socket = ends[0], .doing = "read"};
    assert(hf_exchange_begin(&options, "COPY", &patience, &exchange, &err));
    if (!read_all(exchange, size, &err))
        assert(err.kind != HF_ERR_NONE && err.message[0] != 0);
    hf_exchange_freep(&exchange);
    close(ends[0]);
    close(ends[1]);
    return 0;
}

static bool
read_all(struct hf_exchange *exchange, size_t size, struct hf_error *err)
{
    const struct hf_postgres_patience patience = {.silence_ms = 1000};
    size_t copied = 0;
    for (size_t answers = 0; answers < 8; answers++) {
        PGresult *answer;
        if (!hf_exchange_next(exchange, &patience, &answer, err))
            return false;
        const bool copy = PQresultStatus(answer) == PGRES_COPY_OUT;
        PQclear(answer);
        for (bool more = copy; more;) {
            struct hf_exchange_piece piece;
            if (!hf_exchange_copy(exchange, &patience, &piece, err))
                return false;
            copied += piece.length;
            assert(copied <= size);
            more = piece.length > 0;
        }
    }
    return hf_exchange_finish(exchange, &patience, err);
}
