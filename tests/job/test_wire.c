#include "tests/support/test.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/wire.h"

#define LINE_MOST 1000

/* Two ends of a connection; bytes are written into `other`. */
struct bench {
    struct hf_wire wire;
    int other;
};

static void
begin(struct bench *bench)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
    hf_wire_init(&bench->wire, ends[0], LINE_MOST, LINE_MOST);
    bench->other = ends[1];
}

static void
end(struct bench *bench)
{
    hf_wire_done(&bench->wire);
    hf_closep(&bench->other);
}

static void
feed(struct bench *bench, const char *text, size_t length)
{
    struct hf_error err;
    hf_assert_ok(hf_write_all(bench->other, text, length, "the other end", &err), &err);
}

static json_t *
next(struct bench *bench)
{
    struct hf_error err;
    json_t *object = NULL;
    hf_assert_ok(hf_wire_receive(&bench->wire, &err), &err);
    hf_assert_ok(hf_wire_next(&bench->wire, &object, &err), &err);
    return object;
}

HF_TEST(lines_arrive_whole_however_they_are_cut)
{
    static const char text[] = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";
    for (size_t step = 1; step < sizeof text; step++) {
        _cleanup_(end) struct bench bench;
        int seen = 0;
        begin(&bench);
        for (size_t at = 0; at < sizeof text - 1; at += step) {
            size_t left = sizeof text - 1 - at;
            feed(&bench, text + at, left < step ? left : step);
            for (json_t *object = next(&bench); object != NULL; object = next(&bench)) {
                assert_int_equal(json_integer_value(json_object_get(object, "a")), ++seen);
                json_decref(object);
            }
        }
        assert_int_equal(seen, 3);
    }
}

HF_TEST(a_line_of_the_greatest_length_passes_and_a_longer_one_does_not)
{
    char line[200000];
    for (int longer = 0; longer < 2; longer++) {
        _cleanup_(end) struct bench bench;
        struct hf_error err;
        json_t *object = NULL;
        begin(&bench);
        size_t length = longer ? sizeof line : LINE_MOST + 1; // the line end is not counted
        memset(line, ' ', length);
        line[0] = '{';
        line[length - 2] = '}';
        line[length - 1] = longer ? ' ' : '\n';
        fcntl(bench.other, F_SETFL, O_NONBLOCK);
        bool refused = false;
        for (size_t sent = 0; sent < length && !refused;) {
            ssize_t put = write(bench.other, line + sent, length - sent);
            sent += put > 0 ? (size_t)put : 0;
            hf_assert_ok(hf_wire_receive(&bench.wire, &err), &err);
            if (longer)
                refused = !hf_wire_next(&bench.wire, &object, &err);
        }
        if (!longer) {
            hf_assert_ok(hf_wire_next(&bench.wire, &object, &err), &err);
            assert_non_null(object);
            json_decref(object);
        } else {
            assert_true(refused);
            assert_int_equal(err.kind, HF_ERR_NO_SPACE);
            assert_string_equal(err.message, "a line is longer than 1000 bytes");
        }
    }
}

HF_TEST(one_byte_too_many_is_refused_with_and_without_the_line_end)
{
    char line[LINE_MOST + 2];
    for (int ended = 0; ended < 2; ended++) {
        _cleanup_(end) struct bench bench;
        struct hf_error err;
        json_t *object = NULL;
        begin(&bench);
        memset(line, ' ', sizeof line);
        line[0] = '{';
        line[LINE_MOST] = '}';
        line[LINE_MOST + 1] = '\n';
        feed(&bench, line, ended ? sizeof line : sizeof line - 1);
        hf_assert_ok(hf_wire_receive(&bench.wire, &err), &err);
        assert_false(hf_wire_next(&bench.wire, &object, &err));
        assert_string_equal(err.message, "a line is longer than 1000 bytes");
    }
}

HF_TEST(many_lines_in_a_row_never_look_too_long)
{
    _cleanup_(end) struct bench bench;
    char line[600];
    begin(&bench);
    memset(line, ' ', sizeof line);
    line[0] = '{';
    line[sizeof line - 2] = '}';
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < 1000; i++) {
        feed(&bench, line, sizeof line);
        feed(&bench, "{", 1); // the beginning of the next one is always there already
        json_t *object = next(&bench);
        assert_non_null(object);
        json_decref(object);
        feed(&bench, "}\n", 2);
        object = next(&bench);
        assert_non_null(object);
        json_decref(object);
    }
}

HF_TEST(what_is_no_object_is_corrupt)
{
    static const char *const texts[] = {"x\n", "[]\n", "1\n", "\n", "{\"a\":1.5}\n", "{\"a\":1,\"a\":2}\n", "{}{}\n"};
    for (size_t i = 0; i < HF_LENGTH(texts); i++) {
        _cleanup_(end) struct bench bench;
        struct hf_error err;
        json_t *object = NULL;
        begin(&bench);
        feed(&bench, texts[i], strlen(texts[i]));
        hf_assert_ok(hf_wire_receive(&bench.wire, &err), &err);
        assert_false(hf_wire_next(&bench.wire, &object, &err));
        assert_int_equal(err.kind, HF_ERR_CORRUPT);
        assert_null(object);
    }
}

HF_TEST(a_last_line_without_an_end_is_corrupt_and_a_clean_end_is_not)
{
    for (int i = 0; i < 2; i++) {
        _cleanup_(end) struct bench bench;
        struct hf_error err;
        json_t *object = NULL;
        begin(&bench);
        if (i == 1)
            feed(&bench, "{\"a\"", 4);
        hf_closep(&bench.other);
        while (!bench.wire.ended)
            hf_assert_ok(hf_wire_receive(&bench.wire, &err), &err);
        assert_int_equal(hf_wire_next(&bench.wire, &object, &err), i == 0);
        if (i == 1)
            assert_string_equal(err.message, "the last line has no end");
    }
}

HF_TEST(an_error_survives_the_way_to_the_other_process)
{
    struct hf_error sent, read;
    hf_fail(&sent, HF_ERR_NO_SPACE, "could not write \"a\nb\"");
    hf_fail_hint(&sent, "Make room.");
    _cleanup_(hf_json_freep) json_t *event = hf_event_error(&sent);
    hf_event_read_error(event, &read);
    assert_int_equal(read.kind, HF_ERR_NO_SPACE);
    assert_string_equal(read.message, "could not write \"a\nb\"");
    assert_string_equal(read.hint, "Make room.");

    _cleanup_(hf_json_freep) json_t *empty = json_object();
    hf_event_read_error(empty, &read);
    assert_int_equal(read.kind, HF_ERR_UNAVAILABLE);
    assert_string_equal(read.message, "it failed without saying why");
}

HF_TEST(what_does_not_fit_the_output_is_refused_whole)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    char text[LINE_MOST + 1];
    begin(&bench);
    memset(text, 'x', LINE_MOST);
    text[LINE_MOST] = '\0';
    _cleanup_(hf_json_freep) json_t *large = json_pack("{s:s}", "a", text), *small = json_pack("{s:i}", "a", 1);
    hf_assert_ok(hf_wire_put(&bench.wire, small, &err), &err);
    assert_false(hf_wire_put(&bench.wire, large, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    hf_assert_ok(hf_wire_flush(&bench.wire, &err), &err);
    assert_false(hf_wire_has_output(&bench.wire));
    char got[64];
    assert_int_equal(read(bench.other, got, sizeof got), 8);
    assert_memory_equal(got, "{\"a\":1}\n", 8);
}
