#include "sandbox/sandbox_internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

static bool take_outputs(struct hf_sandbox *sandbox);
static void take_bytes(struct hf_sandbox *sandbox, const char *bytes, size_t length);
static void end_line(struct hf_sandbox *sandbox);
static bool take_events(struct hf_sandbox *sandbox);
static void take_event(struct hf_sandbox *sandbox, const char *text, size_t length);
static void take_failure(struct hf_sandbox *sandbox, const json_t *event);

void *
sandbox_read_everything(void *argument)
{
    struct hf_sandbox *sandbox = argument;
    bool events = true, outputs = true;
    while (events || outputs) {
        struct pollfd ready[] = {{.fd = events ? sandbox->events : -1, .events = POLLIN},
                                 {.fd = outputs ? sandbox->outputs : -1, .events = POLLIN}};
        if (poll(ready, 2, -1) < 0 && errno != EINTR)
            break;
        if (ready[1].revents != 0)
            outputs = take_outputs(sandbox);
        if (ready[0].revents != 0)
            events = take_events(sandbox);
    }
    pthread_mutex_lock(&sandbox->lock);
    if (sandbox->log.length > sandbox->line_begin)
        end_line(sandbox);
    sandbox->gone = true;
    pthread_cond_broadcast(&sandbox->news);
    pthread_mutex_unlock(&sandbox->lock);
    return NULL;
}

static bool
take_outputs(struct hf_sandbox *sandbox)
{
    char bytes[16384];
    ssize_t got = read(sandbox->outputs, bytes, sizeof bytes);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    pthread_mutex_lock(&sandbox->lock);
    take_bytes(sandbox, bytes, (size_t)got);
    pthread_cond_broadcast(&sandbox->news);
    pthread_mutex_unlock(&sandbox->lock);
    return true;
}

/* What comes after the limit is read and dropped: the killer must not be kept waiting by a full pipe. */
static void
take_bytes(struct hf_sandbox *sandbox, const char *bytes, size_t length)
{
    for (size_t i = 0; i < length && !sandbox->over_log; i++) {
        char byte = bytes[i] == '\0' ? '?' : bytes[i];
        if (!hf_buf_add(&sandbox->log, &byte, 1, NULL)) {
            sandbox->over_log = true;
            hf_closep(&sandbox->control);
            return;
        }
        if (byte == '\n' || sandbox->log.length - sandbox->line_begin == HF_SANDBOX_LINE_BYTES)
            end_line(sandbox);
    }
}

static void
end_line(struct hf_sandbox *sandbox)
{
    char line[HF_SANDBOX_LINE_BYTES + 1];
    size_t length = sandbox->log.length - sandbox->line_begin;
    memcpy(line, sandbox->log.data + sandbox->line_begin, length);
    if (length > 0 && line[length - 1] == '\n')
        length--;
    line[length] = '\0';
    sandbox->line_begin = sandbox->log.length;
    if (sandbox->engine->judge(line) == HF_SANDBOX_READY)
        sandbox->ready = true;
    if (sandbox->on_line != NULL) {
        pthread_mutex_unlock(&sandbox->lock); // it may call us back
        sandbox->on_line(sandbox->context, line);
        pthread_mutex_lock(&sandbox->lock);
    }
}

static bool
take_events(struct hf_sandbox *sandbox)
{
    char bytes[4096];
    ssize_t got = read(sandbox->events, bytes, sizeof bytes);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    pthread_mutex_lock(&sandbox->lock);
    for (ssize_t i = 0; i < got; i++) {
        if (bytes[i] == '\n') {
            take_event(sandbox, hf_buf_text(&sandbox->event), sandbox->event.length);
            hf_buf_clear(&sandbox->event);
        } else if (!hf_buf_add(&sandbox->event, &bytes[i], 1, &sandbox->failure)) {
            hf_fail_within(&sandbox->failure, "event of holdfast-sandbox");
        }
    }
    pthread_cond_broadcast(&sandbox->news);
    pthread_mutex_unlock(&sandbox->lock);
    return true;
}

static void
take_event(struct hf_sandbox *sandbox, const char *text, size_t length)
{
    _cleanup_(hf_json_freep) json_t *event = NULL;
    const char *name;
    if (!hf_json_parse(text, length, "event of holdfast-sandbox", &event, &sandbox->failure) ||
        !hf_json_string(event, "event", "event of holdfast-sandbox", &name, &sandbox->failure))
        return;
    if (strcmp(name, "started") == 0 && sandbox->started == NULL) {
        sandbox->started_ns = hf_monotonic_ns();
        sandbox->started = HF_TAKE(event);
    } else if (strcmp(name, "ended") == 0 && sandbox->ended == NULL) {
        sandbox->ended = HF_TAKE(event);
    } else if (strcmp(name, "failed") == 0) {
        take_failure(sandbox, event);
    } else {
        hf_fail(&sandbox->failure, HF_ERR_CORRUPT, "holdfast-sandbox sent the event \"%.32s\" out of turn", name);
    }
}

static void
take_failure(struct hf_sandbox *sandbox, const json_t *event)
{
    const char *kind, *message, *hint;
    static const char what[] = "event of holdfast-sandbox";
    int64_t system;
    struct hf_error *failure = &sandbox->failure;
    if (!hf_json_string(event, "kind", what, &kind, failure) ||
        !hf_json_string(event, "message", what, &message, failure) ||
        !hf_json_string(event, "hint", what, &hint, failure) ||
        !hf_json_integer(event, "system", what, 0, INT_MAX, &system, failure))
        return;
    enum hf_error_kind known = hf_error_kind_from_name(kind);
    hf_fail(failure, known == HF_ERR_NONE ? HF_ERR_UNAVAILABLE : known, "%s", message);
    failure->system = (int)system;
    if (hint[0] != '\0')
        hf_fail_hint(failure, "%s", hint);
}
