/* Answers of a server, read straight from a socket: whole, in pieces, cut off, and lying. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "server/source/postgres/exchange.h"
#include "tests/support/test.h"

static const atomic_bool *cancelled;
static size_t recv_most = SIZE_MAX; // bytes of one read
static long allowed = -1;           // allocations until one fails; -1: none does
static char heard[200];

ssize_t __real_recv(int socket, void *buffer, size_t length, int flags);
ssize_t __wrap_recv(int socket, void *buffer, size_t length, int flags);
void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__wrap_calloc(size_t count, size_t size);

static void add_message(struct hf_buf *script, char type, const void *body, size_t length);
static void add_rows(struct hf_buf *script);
static void add_error(struct hf_buf *script, char type, const char *state, const char *words);
static bool begin(const struct hf_buf *script, struct hf_exchange **ret, struct hf_error *err);
static struct hf_postgres_patience patience(uint32_t silence_ms);
static void must_fail(const struct hf_buf *script, enum hf_error_kind kind, const char *message);
static void must_refuse(bool ok, const struct hf_error *err, enum hf_error_kind kind, const char *message);
static bool read_all(struct hf_exchange *exchange, struct hf_buf *copied, struct hf_error *err);
static void hear(void *context, const char *severity, const char *message);

HF_TEST(the_command_is_sent_and_rows_come_back)
{
    struct hf_buf script = HF_BUF_INIT(HF_MIB);
    struct hf_exchange *exchange;
    struct hf_error err;
    PGresult *rows, *end;
    const struct hf_postgres_patience waiting = patience(5000);

    add_error(&script, 'N', "01000", "take notice");
    add_message(&script, 'S', "a\0b", 4);
    add_rows(&script);
    add_message(&script, 'C', "SELECT", 7);
    add_message(&script, 'C', "DONE", 5);
    add_message(&script, 'Z', "I", 1);
    hf_assert_ok(begin(&script, &exchange, &err), &err);
    hf_assert_ok(hf_exchange_next(exchange, &waiting, &rows, &err), &err);
    assert_int_equal(PQresultStatus(rows), PGRES_TUPLES_OK);
    assert_int_equal(PQntuples(rows), 2);
    assert_string_equal(PQgetvalue(rows, 0, 0), "0/1000028");
    assert_true(PQgetisnull(rows, 0, 1));
    assert_string_equal(PQgetvalue(rows, 1, 1), "");
    assert_false(PQgetisnull(rows, 1, 1));
    hf_assert_ok(hf_exchange_next(exchange, &waiting, &end, &err), &err);
    assert_int_equal(PQresultStatus(end), PGRES_COMMAND_OK);
    hf_assert_ok(hf_exchange_finish(exchange, &waiting, &err), &err);
    assert_string_equal(heard, "WARNING: take notice");
    PQclear(rows);
    PQclear(end);
    hf_exchange_freep(&exchange);
    hf_buf_done(&script);
}

HF_TEST(small_messages_come_whole_and_large_ones_in_pieces_however_they_arrive)
{
    static const size_t lengths[] = {1, 5, 4096, 4097, 65536, 70000, 0, 3};
    static const size_t reads[] = {SIZE_MAX, 1, 7, 4099};
    static uint8_t body[70000];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t round = 0; round < HF_LENGTH(reads); round++) {
        struct hf_buf script = HF_BUF_INIT(HF_MIB);
        struct hf_exchange *exchange;
        struct hf_error err;
        PGresult *answer;
        const struct hf_postgres_patience waiting = patience(5000);

        recv_most = reads[round];
        add_message(&script, 'H', "\0\0", 3);
        for (size_t i = 0; i < HF_LENGTH(lengths); i++)
            add_message(&script, 'd', body, lengths[i]);
        add_message(&script, 'c', "", 0);
        add_message(&script, 'C', "DONE", 5);
        add_message(&script, 'Z', "I", 1);
        hf_assert_ok(begin(&script, &exchange, &err), &err);
        hf_assert_ok(hf_exchange_next(exchange, &waiting, &answer, &err), &err);
        assert_int_equal(PQresultStatus(answer), PGRES_COPY_OUT);
        PQclear(answer);
        for (size_t i = 0; i < HF_LENGTH(lengths); i++)
            for (size_t at = 0; at < lengths[i];) {
                struct hf_exchange_piece piece;
                hf_assert_ok(hf_exchange_copy(exchange, &waiting, &piece, &err), &err);
                assert_true(piece.length > 0 && piece.length <= lengths[i] - at);
                assert_memory_equal(piece.data, body + at, piece.length);
                assert_int_equal(piece.begins, at == 0);
                at += piece.length;
                assert_int_equal(piece.ends, at == lengths[i]);
                if (lengths[i] <= HF_EXCHANGE_WHOLE)
                    assert_int_equal(at, lengths[i]);
            }
        struct hf_exchange_piece piece;
        hf_assert_ok(hf_exchange_copy(exchange, &waiting, &piece, &err), &err);
        assert_int_equal(piece.length, 0);
        hf_assert_ok(hf_exchange_finish(exchange, &waiting, &err), &err);
        hf_exchange_freep(&exchange);
        hf_buf_done(&script);
    }
    recv_most = SIZE_MAX;
}

HF_TEST(an_error_in_a_copy_is_the_servers_own)
{
    struct hf_buf script = HF_BUF_INIT(HF_MIB);
    add_message(&script, 'H', "\0\0", 3);
    add_message(&script, 'd', "abc", 3);
    add_error(&script, 'E', "42501", "must be superuser or replication role to start walsender");
    must_fail(&script, HF_ERR_DENIED,
              "could not copy: must be superuser or replication role to start walsender (42501)");
}

HF_TEST(an_error_behind_everything_is_heard_at_the_end)
{
    struct hf_buf script = HF_BUF_INIT(HF_MIB);
    add_message(&script, 'H', "\0\0", 3);
    add_message(&script, 'c', "", 0);
    add_message(&script, 'C', "DONE", 5);
    add_error(&script, 'E', "57P01", "terminating connection");
    must_fail(&script, HF_ERR_UNAVAILABLE, "could not copy: terminating connection (57P01)");
}

HF_TEST(a_connection_that_ends_is_lost_wherever_it_ends)
{
    struct hf_buf script = HF_BUF_INIT(HF_MIB);
    add_message(&script, 'H', "\0\0", 3);
    add_message(&script, 'd', "abc", 3);
    add_message(&script, 'c', "", 0);
    add_message(&script, 'C', "DONE", 5);
    add_message(&script, 'Z', "I", 1);
    for (size_t length = 0; length < script.length; length++) {
        struct hf_buf cut = HF_BUF_INIT(HF_MIB);
        struct hf_error err;
        hf_assert_ok(hf_buf_add(&cut, script.data, length, &err), &err);
        must_fail(&cut, HF_ERR_UNAVAILABLE, "could not copy: the connection was lost");
    }
    hf_buf_done(&script);
}

HF_TEST(messages_that_make_no_sense_are_refused)
{
    static const struct {
        char type;
        const char *body;
        size_t length;
        const char *message;
    } rows[] = {
        {'?', "", 0, "kind 3f that makes no sense"},       {'d', "x", 1, "kind 64 that makes no sense"},
        {'T', "", 0, "kind 54 that makes no sense"},       {'T', "\0\0", 2, "kind 54 that makes no sense"},
        {'T', "\0\x41", 2, "kind 54 that makes no sense"}, {'D', "\0\1\0\0\0\0", 6, "kind 44 that makes no sense"},
        {'E', "Sx\0", 3, "kind 45 that makes no sense"},   {'E', "Sx\0C", 4, "kind 45 that makes no sense"}};
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        struct hf_buf script = HF_BUF_INIT(HF_MIB);
        add_message(&script, rows[i].type, rows[i].body, rows[i].length);
        must_fail(&script, HF_ERR_CORRUPT, rows[i].message);
    }
    static const struct {
        const char *body;
        size_t length;
    } values[] = {
        {"\0\1\0\0\0\0", 6}, {"\0\2\0\0\0\1", 6}, {"\0\2\0\0\0\0\0\0\0", 9}, {"\0\2\x7f\xff\xff\xff", 6}, {"", 0}};
    for (size_t i = 0; i < HF_LENGTH(values); i++) {
        struct hf_buf script = HF_BUF_INIT(HF_MIB);
        add_message(&script, 'T', "\0\2", 2);
        add_message(&script, 'D', values[i].body, values[i].length);
        must_fail(&script, HF_ERR_CORRUPT, "kind 44 that makes no sense");
    }
}

HF_TEST(lengths_are_judged_before_anything_is_read)
{
    static const struct {
        char header[6];
        const char *message;
    } rows[] = {{"C\0\0\0\3", "of the length 3"},
                {"C\x80\0\0\0", "of the length 2147483648"},
                {"C\0\1\0\0", "of 65532 bytes"},
                {"C\x7f\xff\xff\xff", "of 2147483643 bytes"}};
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        struct hf_buf script = HF_BUF_INIT(HF_MIB);
        struct hf_error err;
        hf_assert_ok(hf_buf_add(&script, rows[i].header, 5, &err), &err);
        must_fail(&script, HF_ERR_CORRUPT, rows[i].message);
    }
}

HF_TEST(silence_and_a_cancelled_wait_end_it)
{
    int ends[2];
    struct hf_exchange *exchange;
    struct hf_error err;
    PGresult *answer;
    static atomic_bool yes = true;
    const struct hf_postgres_patience waiting = patience(50);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    const struct hf_exchange_options options = {.socket = ends[0], .doing = "copy"};
    hf_assert_ok(hf_exchange_begin(&options, "COPY", &waiting, &exchange, &err), &err);
    char sent[16];
    assert_int_equal(read(ends[1], sent, sizeof sent), 10);
    assert_memory_equal(sent,
                        "Q\0\0\0\x09"
                        "COPY",
                        10);
    must_refuse(hf_exchange_next(exchange, &waiting, &answer, &err), &err, HF_ERR_UNAVAILABLE, "no answer for");
    cancelled = &yes;
    const struct hf_postgres_patience ended = patience(0);
    must_refuse(hf_exchange_next(exchange, &ended, &answer, &err), &err, HF_ERR_CANCELLED, "cancelled");
    cancelled = NULL;
    hf_exchange_freep(&exchange);
    close(ends[0]);
    close(ends[1]);
}

HF_TEST(the_end_of_memory_is_told)
{
    for (long least = 0; least < 2; least++) {
        struct hf_buf script = HF_BUF_INIT(HF_MIB);
        struct hf_exchange *exchange;
        struct hf_error err;
        int ends[2];
        const struct hf_postgres_patience waiting = patience(5000);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
        const struct hf_exchange_options options = {.socket = ends[0], .doing = "copy"};
        allowed = least;
        const bool ok = hf_exchange_begin(&options, "COPY", &waiting, &exchange, &err);
        allowed = -1;
        must_refuse(ok, &err, HF_ERR_NO_MEMORY, "out of memory");
        close(ends[0]);
        close(ends[1]);
        hf_buf_done(&script);
    }
}

ssize_t
__wrap_recv(int socket, void *buffer, size_t length, int flags)
{
    return __real_recv(socket, buffer, length < recv_most ? length : recv_most, flags);
}

void *
__wrap_malloc(size_t size)
{
    return allowed == 0 ? NULL : (allowed -= allowed > 0, __real_malloc(size));
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return allowed == 0 ? NULL : (allowed -= allowed > 0, __real_calloc(count, size));
}

static void
add_message(struct hf_buf *script, char type, const void *body, size_t length)
{
    struct hf_error err;
    const uint8_t header[5] = {(uint8_t)type, (uint8_t)((length + 4) >> 24), (uint8_t)((length + 4) >> 16),
                               (uint8_t)((length + 4) >> 8), (uint8_t)(length + 4)};
    hf_assert_ok(hf_buf_add(script, header, sizeof header, &err), &err);
    hf_assert_ok(hf_buf_add(script, body, length, &err), &err);
}

/* Two fields, two rows; a null and an empty text among them. */
static void
add_rows(struct hf_buf *script)
{
    add_message(script, 'T', "\0\2", 2);
    add_message(script, 'D',
                "\0\2\0\0\0\x09"
                "0/1000028"
                "\xff\xff\xff\xff",
                19);
    add_message(script, 'D',
                "\0\2\0\0\0\1"
                "1"
                "\0\0\0\0",
                11);
}

static void
add_error(struct hf_buf *script, char type, const char *state, const char *words)
{
    struct hf_error err;
    struct hf_buf body = HF_BUF_INIT(4096);
    hf_assert_ok(hf_buf_printf(&body, &err, "SWARNING%cC%s%cM%s%c%c", 0, state, 0, words, 0, 0), &err);
    add_message(script, type, body.data, body.length);
    hf_buf_done(&body);
}

/* The script lies in the socket, and behind it the connection ends. */
static bool
begin(const struct hf_buf *script, struct hf_exchange **ret, struct hf_error *err)
{
    static int ends[2] = {-1, -1};
    const struct hf_postgres_patience waiting = patience(5000);
    const int room = HF_MIB;
    if (ends[0] >= 0)
        close(ends[0]);
    if (ends[1] >= 0)
        close(ends[1]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    assert_int_equal(setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room), 0);
    if (script->length > 0)
        assert_int_equal(write(ends[1], script->data, script->length), script->length);
    shutdown(ends[1], SHUT_WR);
    heard[0] = 0;
    const struct hf_exchange_options options = {.socket = ends[0], .doing = "copy", .notice = hear};
    return hf_exchange_begin(&options, "COPY", &waiting, ret, err);
}

static struct hf_postgres_patience
patience(uint32_t silence_ms)
{
    return (struct hf_postgres_patience){.cancel = cancelled, .silence_ms = silence_ms};
}

/* Takes the script's memory. */
static void
must_fail(const struct hf_buf *script, enum hf_error_kind kind, const char *message)
{
    struct hf_exchange *exchange;
    struct hf_error err;
    struct hf_buf copied = HF_BUF_INIT(HF_MIB);
    hf_assert_ok(begin(script, &exchange, &err), &err);
    must_refuse(read_all(exchange, &copied, &err), &err, kind, message);
    hf_exchange_freep(&exchange);
    hf_buf_done(&copied);
    hf_buf_done((struct hf_buf *)(uintptr_t)script);
}

static void
must_refuse(bool ok, const struct hf_error *err, enum hf_error_kind kind, const char *message)
{
    assert_false(ok);
    assert_int_equal(err->kind, kind);
    if (strstr(err->message, message) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", err->message, message);
}

/* A copy, if it is one, to the end of everything. */
static bool
read_all(struct hf_exchange *exchange, struct hf_buf *copied, struct hf_error *err)
{
    const struct hf_postgres_patience waiting = patience(5000);
    PGresult *answer;
    if (!hf_exchange_next(exchange, &waiting, &answer, err))
        return false;
    const bool copy = PQresultStatus(answer) == PGRES_COPY_OUT;
    PQclear(answer);
    for (bool more = copy; more;) {
        struct hf_exchange_piece piece;
        if (!hf_exchange_copy(exchange, &waiting, &piece, err) || !hf_buf_add(copied, piece.data, piece.length, err))
            return false;
        more = piece.length > 0;
    }
    return hf_exchange_finish(exchange, &waiting, err);
}

static void
hear(void *context, const char *severity, const char *message)
{
    assert_null(context);
    snprintf(heard, sizeof heard, "%s: %s", severity, message);
}
