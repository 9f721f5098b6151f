#include "server/job/wire.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIECE_BYTES (64 * HF_KIB)

static void drop_taken(struct hf_wire *wire);

enum hf_exit
hf_exit_of(const struct hf_error *err)
{
    return err->kind == HF_ERR_USAGE ? HF_EXIT_USAGE : HF_EXIT_FAILED;
}

void
hf_wire_init(struct hf_wire *wire, int fd, size_t most_in, size_t most_out)
{
    *wire = (struct hf_wire){.fd = fd, .in = HF_BUF_INIT(most_in + PIECE_BYTES), .out = HF_BUF_INIT(most_out)};
}

void
hf_wire_done(struct hf_wire *wire)
{
    if (wire->fd >= 0)
        close(wire->fd);
    wire->fd = -1;
    hf_buf_done(&wire->in);
    hf_buf_done(&wire->out);
}

bool
hf_wire_receive(struct hf_wire *wire, struct hf_error *err)
{
    uint8_t piece[PIECE_BYTES];
    drop_taken(wire);
    // The buffer has room for one longest line and a piece, and whole lines are taken before more is read.
    assert(wire->in.limit - wire->in.length >= PIECE_BYTES);
    ssize_t got;
    do
        got = read(wire->fd, piece, sizeof piece);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return true;
    if (got < 0 && errno != ECONNRESET) // a reset is an end
        return hf_fail_errno(err, HF_ERR_NONE, "could not read from the other process");
    if (got <= 0) {
        wire->ended = true;
        return true;
    }
    return hf_buf_add(&wire->in, piece, (size_t)got, err);
}

bool
hf_wire_next(struct hf_wire *wire, json_t **ret, struct hf_error *err)
{
    const uint8_t *begin = wire->in.data + wire->taken;
    size_t left = wire->in.length - wire->taken, most = wire->in.limit - PIECE_BYTES;
    const uint8_t *end = left == 0 ? NULL : memchr(begin, '\n', left);
    if ((end == NULL ? left : (size_t)(end - begin)) > most)
        return hf_fail(err, HF_ERR_NO_SPACE, "a line is longer than %zu bytes", most);
    if (end == NULL) {
        *ret = NULL;
        if (wire->ended && left > 0)
            return hf_fail(err, HF_ERR_CORRUPT, "the last line has no end");
        return true;
    }

    json_t *object = NULL;
    if (!hf_json_parse(begin, (size_t)(end - begin), "the message", &object, err))
        return false;
    if (!json_is_object(object)) {
        json_decref(object);
        return hf_fail(err, HF_ERR_CORRUPT, "the message is not a JSON object");
    }
    wire->taken += (size_t)(end - begin) + 1;
    *ret = object;
    return true;
}

bool
hf_wire_wait(struct hf_wire *wire, json_t **ret, struct hf_error *err)
{
    while (true) {
        if (!hf_wire_next(wire, ret, err))
            return false;
        if (*ret != NULL || wire->ended)
            return true;
        if (!hf_wire_receive(wire, err))
            return false;
    }
}

bool
hf_wire_put(struct hf_wire *wire, const json_t *object, struct hf_error *err)
{
    size_t before = wire->out.length;
    if (hf_json_canonical(object, &wire->out, err) && hf_buf_add_text(&wire->out, "\n", err))
        return true;
    hf_buf_truncate(&wire->out, before);
    return false;
}

bool
hf_wire_flush(struct hf_wire *wire, struct hf_error *err)
{
    while (wire->written < wire->out.length) {
        ssize_t put = write(wire->fd, wire->out.data + wire->written, wire->out.length - wire->written);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            return true;
        if (put < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not write to the other process");
        wire->written += (size_t)put;
    }
    hf_buf_clear(&wire->out);
    wire->written = 0;
    return true;
}

bool
hf_wire_has_output(const struct hf_wire *wire)
{
    return wire->written < wire->out.length;
}

json_t *
hf_event_job(const struct hf_id *job, const char *state)
{
    char text[HF_ID_TEXT_BYTES];
    return json_pack("{s:s, s:s, s:s}", "event", "job", "job", hf_id_format(job, text), "state", state);
}

json_t *
hf_event_progress(const char *phase, uint64_t done, uint64_t total)
{
    return json_pack("{s:s, s:s, s:I, s:I}", "event", "progress", "phase", phase, "done", (json_int_t)done, "total",
                     (json_int_t)total);
}

json_t *
hf_event_note(const char *level, const char *message)
{
    return json_pack("{s:s, s:s, s:o}", "event", "note", "level", level, "message",
                     hf_json_foreign_text(message, strlen(message), HF_ERROR_MESSAGE_BYTES));
}

json_t *
hf_event_result(enum hf_exit code, json_t *result)
{
    return json_pack("{s:s, s:i, s:o}", "event", "result", "exit", (int)code, "result", result);
}

json_t *
hf_event_keep(json_t *kept)
{
    return json_pack("{s:s, s:o}", "event", "keep", "kept", kept);
}

json_t *
hf_event_error(const struct hf_error *err)
{
    return json_pack("{s:s, s:i, s:s, s:o, s:o}", "event", "error", "exit", (int)hf_exit_of(err), "kind",
                     hf_error_kind_name(err->kind), "message",
                     hf_json_foreign_text(err->message, strlen(err->message), HF_ERROR_MESSAGE_BYTES), "hint",
                     hf_json_foreign_text(err->hint, strlen(err->hint), HF_ERROR_HINT_BYTES));
}

void
hf_event_read_error(const json_t *event, struct hf_error *ret)
{
    const char *kind = json_string_value(json_object_get(event, "kind"));
    const char *message = json_string_value(json_object_get(event, "message"));
    const char *hint = json_string_value(json_object_get(event, "hint"));
    enum hf_error_kind known = kind == NULL ? HF_ERR_NONE : hf_error_kind_from_name(kind);
    hf_fail(ret, known == HF_ERR_NONE ? HF_ERR_UNAVAILABLE : known, "%s",
            message == NULL || message[0] == '\0' ? "it failed without saying why" : message);
    if (hint != NULL && hint[0] != '\0')
        hf_fail_hint(ret, "%s", hint);
}

/* Moves the rest to the front once what was taken is most of it, so that each byte is moved seldom, or for room. */
static void
drop_taken(struct hf_wire *wire)
{
    if (wire->taken < wire->in.length / 2 && wire->in.limit - wire->in.length >= PIECE_BYTES)
        return;
    if (wire->taken == 0)
        return;
    memmove(wire->in.data, wire->in.data + wire->taken, wire->in.length - wire->taken);
    hf_buf_truncate(&wire->in, wire->in.length - wire->taken);
    wire->taken = 0;
}
