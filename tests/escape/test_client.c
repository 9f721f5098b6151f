/*
 * A server that was taken over answers what it likes.  Whatever comes, asking it ends: with a refusal or with rows
 * within their limits, soon, and without the memory it would like to be given.  The process that asks is the real one.
 */
#include <pthread.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/sandbox/restored.h"
#include "tests/support/test.h"
#include "base/buf.h"
#include "base/time.h"
#include "server/verify/postgres/query.h"

#define PORT        5432
#define SOON_NS     (UINT64_C(20) * 1000000000)
#define MEMORY_MOST (512 * 1024) // in KiB: what asking may cost at most; libpq keeps a message several times

/* It answers the first connection; then it is gone. */
struct server {
    char folder[64];
    int listener;
    pthread_t thread;
    struct hf_asker *asker; // asks it
    const struct hf_buf *greeting, *answer;
    uint64_t repeat; // of the answer; then the connection is closed
};

struct answer {
    bool ok;
    uint64_t rows;
    struct hf_query_refusal refusal;
};

static void message(struct hf_buf *out, char type, const void *body, size_t length);
static void big_endian(struct hf_buf *out, uint32_t value, unsigned bytes);
static void greet(struct hf_buf *out);
static void describe(struct hf_buf *out, uint16_t columns);
static struct answer ask(const struct hf_buf *answer, uint64_t repeat);
static void assert_refused(const struct hf_buf *answer, uint64_t repeat, const char *word);
static void start(struct server *server);
static void finish(struct server *server);
static void *serve(void *context);
static bool send_all(int fd, const struct hf_buf *bytes);
static bool take_row(void *context, char *const *values, int count);

static const char done[] = {'S', 'E', 'L', 'E', 'C', 'T', ' ', '1', 0};

HF_TEST(case_76_an_honest_answer_is_taken)
{
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
    describe(&answer, 1);
    message(&answer, 'D', (const uint8_t[]){0, 1, 0, 0, 0, 1, '7'}, 7);
    message(&answer, 'C', done, sizeof done);
    message(&answer, 'Z', "I", 1);
    struct answer got = ask(&answer, 1);
    assert_true(got.ok);
    assert_int_equal(got.rows, 1);
}

HF_TEST(case_76_more_fields_than_were_announced_are_refused)
{
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
    describe(&answer, 1);
    message(&answer, 'D', (const uint8_t[]){0xff, 0xff, 0, 0, 0, 1, '7'}, 7);
    assert_refused(&answer, 1, "unexpected field count");
}

HF_TEST(case_76_a_field_longer_than_its_message_is_refused)
{
    static const uint8_t lengths[][4] = {{0, 0, 0, 9}, {0x7f, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++) {
        _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
        uint8_t row[7] = {0, 1, 0, 0, 0, 0, '7'};
        memcpy(row + 2, lengths[i], 4);
        describe(&answer, 1);
        message(&answer, 'D', row, sizeof row);
        if ((lengths[i][0] & 0x80) != 0) { // a negative length is NULL, and what is behind it too much
            message(&answer, 'C', done, sizeof done);
            message(&answer, 'Z', "I", 1);
        }
        struct answer got = ask(&answer, 1);
        assert_true(!got.ok || got.rows <= 1);
    }
}

HF_TEST(case_76_a_message_of_absurd_length_is_refused_before_it_is_read)
{
    static const uint32_t lengths[] = {0, 3, 0x7fffffff, 0xffffffff};
    static const char types[] = {'D', 'T', 'E', 'N', 'C', 'Z', 'S', 'A', '?'};
    for (size_t i = 0; i < HF_LENGTH(lengths); i++)
        for (size_t type = 0; type < sizeof types; type++) {
            _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
            hf_assert_ok(hf_buf_put_u8(&answer, (uint8_t)types[type], NULL), &(struct hf_error){0});
            big_endian(&answer, lengths[i], 4);
            hf_assert_ok(hf_buf_add_zeros(&answer, 64, NULL), &(struct hf_error){0});
            assert_false(ask(&answer, 1).ok);
        }
}

HF_TEST(case_76_columns_without_end_cost_nothing)
{
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(4 * HF_MIB);
    describe(&answer, 0x7fff);
    _cleanup_(hf_buf_done) struct hf_buf row = HF_BUF_INIT(HF_MIB);
    big_endian(&row, 0x7fff, 2);
    for (unsigned i = 0; i < 0x7fff; i++)
        big_endian(&row, 0xffffffff, 4); // NULL
    message(&answer, 'D', row.data, row.length);
    message(&answer, 'C', done, sizeof done);
    message(&answer, 'Z', "I", 1);
    (void)ask(&answer, 1);
}

HF_TEST(case_76_rows_without_end_are_cut_off_at_their_limit)
{
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(4 * HF_MIB);
    for (unsigned i = 0; i < 10000; i++)
        message(&answer, 'D', (const uint8_t[]){0, 1, 0, 0, 0, 1, '7'}, 7);
    _cleanup_(hf_buf_done) struct hf_buf all = HF_BUF_INIT(4 * HF_MIB);
    describe(&all, 1);
    hf_assert_ok(hf_buf_add(&all, answer.data, answer.length, NULL), &(struct hf_error){0});
    /* The description comes again and again, which is a mistake of its own; each is a fresh beginning or an error. */
    struct answer got = ask(&all, 500);
    assert_false(got.ok);
    assert_true(got.rows <= HF_ASK_ROWS_MOST + 1);
}

HF_TEST(case_76_an_answer_that_is_a_copy_ends_the_question)
{
    static const char kinds[] = {'G', 'H', 'W'};
    for (size_t i = 0; i < sizeof kinds; i++) {
        _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
        message(&answer, kinds[i], (const uint8_t[]){0, 0, 0}, 3);
        assert_refused(&answer, 1, "copy");
    }
}

HF_TEST(case_76_notices_and_settings_without_end_end_with_the_connection)
{
    static const char notice[] = "SNOTICE\0C00000\0Mdrip\0";
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_MIB);
    for (unsigned i = 0; i < 1000; i++) {
        message(&answer, 'N', notice, sizeof notice);
        message(&answer, 'S', "a\0b", 4);
        message(&answer, 'A', "\0\0\0\1channel\0payload", 20);
    }
    assert_refused(&answer, 200, "closed the connection");
}

HF_TEST(case_76_an_error_of_many_megabytes_is_cut)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(32 * HF_MIB);
    _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(64 * HF_MIB);
    hf_assert_ok(hf_buf_add(&text, "SERROR\0CXX000\0M", 15, NULL), &(struct hf_error){0});
    for (size_t i = 0; i < 16 * HF_MIB / 8; i++)
        hf_assert_ok(hf_buf_add(&text, "\x1b[2J%n\r\n", 8, NULL), &(struct hf_error){0});
    hf_assert_ok(hf_buf_add_zeros(&text, 2, NULL), &(struct hf_error){0});
    message(&answer, 'E', text.data, text.length);
    message(&answer, 'Z', "I", 1);
    struct answer got = ask(&answer, 1);
    assert_false(got.ok);
    assert_string_equal(got.refusal.state, "XX000");
    for (const char *at = got.refusal.message; *at != '\0'; at++)
        assert_true((unsigned char)*at >= 0x20);
}

HF_TEST(case_76_an_error_without_an_end_or_without_fields_is_refused)
{
    static const struct {
        const char *body;
        size_t length;
    } bodies[] = {{"SERROR", 6}, {"\0", 1}, {"", 0}, {"Mx\0C123456789012\0\0", 18}, {"MMMM\0\0", 6}};
    for (size_t i = 0; i < HF_LENGTH(bodies); i++) {
        _cleanup_(hf_buf_done) struct hf_buf answer = HF_BUF_INIT(HF_KIB);
        message(&answer, 'E', bodies[i].body, bodies[i].length);
        message(&answer, 'Z', "I", 1);
        struct answer got = ask(&answer, 1);
        assert_false(got.ok);
        assert_true(strlen(got.refusal.state) < sizeof got.refusal.state);
    }
}

HF_TEST(case_76_a_greeting_that_never_ends_is_given_up)
{
    static const char *const greetings[] = {
        "R\0\0\0\10\0\0\0\5", "R\0\0\0\10\0\0\0\7", "R\0\0\0\10\0\0\0\12", "N", "v", "E"};
    for (size_t i = 0; i < HF_LENGTH(greetings); i++) {
        _cleanup_(hf_buf_done) struct hf_buf greeting = HF_BUF_INIT(HF_KIB);
        hf_assert_ok(hf_buf_add(&greeting, greetings[i], greetings[i][0] == 'R' ? 9 : 1, NULL), &(struct hf_error){0});
        hf_assert_ok(hf_buf_add_zeros(&greeting, 100, NULL), &(struct hf_error){0});
        struct server server = {.greeting = &greeting};
        start(&server);
        const struct hf_query_target target = {
            .asker = server.asker, .folder = server.folder, .port = PORT, .user = "postgres", .options = ""};
        _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
        struct hf_error err;
        const uint64_t began = hf_monotonic_ns();
        assert_false(hf_query_connect(&target, "postgres", 2, &conn, &err));
        assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
        assert_true(hf_monotonic_ns() - began < SOON_NS);
        finish(&server);
    }
}

static void
message(struct hf_buf *out, char type, const void *body, size_t length)
{
    struct hf_error err;
    hf_assert_ok(hf_buf_put_u8(out, (uint8_t)type, &err), &err);
    big_endian(out, (uint32_t)length + 4, 4);
    hf_assert_ok(hf_buf_add(out, body, length, &err), &err);
}

static void
big_endian(struct hf_buf *out, uint32_t value, unsigned bytes)
{
    struct hf_error err;
    for (unsigned i = bytes; i > 0; i--)
        hf_assert_ok(hf_buf_put_u8(out, (uint8_t)(value >> 8 * (i - 1)), &err), &err);
}

/* Authentication done, ready for questions. */
static void
greet(struct hf_buf *out)
{
    message(out, 'R', "\0\0\0\0", 4);
    message(out, 'S', "server_version\00015.0", 20);
    message(out, 'Z', "I", 1);
}

/* Parsed, bound, and this is what the rows look like. */
static void
describe(struct hf_buf *out, uint16_t columns)
{
    _cleanup_(hf_buf_done) struct hf_buf body = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    message(out, '1', "", 0);
    message(out, '2', "", 0);
    big_endian(&body, columns, 2);
    for (unsigned i = 0; i < columns; i++) {
        hf_assert_ok(hf_buf_add(&body, "c", 2, &err), &err);
        hf_assert_ok(hf_buf_add(&body, "\0\0\0\0\0\0\0\0\0\x17\0\4\xff\xff\xff\xff\0\0", 18, &err), &err);
    }
    message(out, 'T', body.data, body.length);
}

static struct answer
ask(const struct hf_buf *bytes, uint64_t repeat)
{
    _cleanup_(hf_buf_done) struct hf_buf greeting = HF_BUF_INIT(HF_KIB);
    greet(&greeting);
    struct server server = {.greeting = &greeting, .answer = bytes, .repeat = repeat};
    start(&server);
    const struct hf_query_target target = {
        .asker = server.asker, .folder = server.folder, .port = PORT, .user = "postgres", .options = ""};
    struct hf_asker_conn *conn = NULL;
    struct hf_error err;
    struct answer answer = {0};
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const uint64_t began = hf_monotonic_ns();
    hf_assert_ok(hf_query_connect(&target, "postgres", 10, &conn, &err), &err);
    answer.ok = hf_query_run(conn, "SELECT 1", NULL, 0, take_row, &answer.rows, &answer.refusal);
    hf_asker_conn_freep(&conn);
    getrusage(RUSAGE_SELF, &after);
    assert_true(hf_monotonic_ns() - began < SOON_NS);
    assert_true(after.ru_maxrss - before.ru_maxrss < MEMORY_MOST);
    finish(&server);
    return answer;
}

static void
assert_refused(const struct hf_buf *bytes, uint64_t repeat, const char *word)
{
    const struct answer answer = ask(bytes, repeat);
    assert_false(answer.ok);
    if (strstr(answer.refusal.message, word) == NULL)
        fail_msg("it says \"%s\" and not \"%s\"", answer.refusal.message, word);
}

static void
start(struct server *server)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(server->folder, sizeof server->folder, "%s", hf_test_folder());
    snprintf(address.sun_path, sizeof address.sun_path, "%s/.s.PGSQL.%d", server->folder, PORT);
    const struct hf_sandbox_spec copy = {.folder = hf_test_run_folder(),
                                         .host_uid = hf_test_sandbox_uid(),
                                         .host_gid = hf_test_sandbox_gid(),
                                         .limits = {.wall_ms = 120000}};
    struct hf_error err;
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0 || bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        chmod(server->folder, 0711) != 0 || chmod(address.sun_path, 0777) != 0 || listen(server->listener, 1) != 0)
        fail_msg("no server to ask");
    hf_assert_ok(hf_asker_start(&copy, server->folder, &server->asker, &err), &err);
    if (pthread_create(&server->thread, NULL, serve, server) != 0)
        fail_msg("no server to ask");
}

static void
finish(struct server *server)
{
    pthread_join(server->thread, NULL);
    close(server->listener);
    hf_asker_freep(&server->asker);
}

static void *
serve(void *context)
{
    const struct server *server = context;
    uint8_t question[4096];
    const int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC);
    bool fine = fd >= 0 && read(fd, question, sizeof question) > 0 && send_all(fd, server->greeting);
    if (fine && server->answer != NULL && read(fd, question, sizeof question) > 0) {
        for (uint64_t i = 0; fine && i < server->repeat; i++)
            fine = send_all(fd, server->answer);
    }
    if (fine && server->answer == NULL)
        (void)!read(fd, question, sizeof question); // until the client has had enough
    close(fd);
    return NULL;
}

static bool
send_all(int fd, const struct hf_buf *bytes)
{
    for (size_t sent = 0; sent < bytes->length;) {
        const ssize_t now = send(fd, bytes->data + sent, bytes->length - sent, MSG_NOSIGNAL);
        if (now <= 0)
            return false;
        sent += (size_t)now;
    }
    return true;
}

static bool
take_row(void *context, char *const *values, int count)
{
    (void)values;
    (void)count;
    ++*(uint64_t *)context;
    return true;
}
