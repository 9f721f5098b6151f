/*
 * wire.h - how the command line, the daemon and its workers talk: one JSON object a line
 *
 * Between `holdfast` and holdfastd, over a Unix socket (mode 0600; the peer must be the same user or root).
 * The client sends requests, one at a time, and then only {"command": "cancel"} until the final event:
 *
 *     {"command": "backup", "arguments": {"source": "clinic"}}
 *     {"command": "backup", "arguments": {...}, "detach": true}   answers with the job's id and does not wait
 *
 * The daemon answers with events; the last one of a request is a "result" or an "error":
 *
 *     {"event": "job", "job": "<id>", "state": "queued"}          and again when it runs
 *     {"event": "progress", "phase": "copy", "done": 4096, "total": 8192}    bytes; total 0 while it is unknown
 *     {"event": "note", "level": "info" or "warning", "message": "..."}
 *     {"event": "result", "exit": 0, "result": {...}}             exit 3: the answer is bad news
 *     {"event": "error", "exit": 1, "kind": "no_space", "message": "...", "hint": "..."}    exit 2: kind "usage"
 *
 * A worker sends the same progress, note, result and error events to the daemon over a pipe, and one more, for the
 * daemon alone: {"event": "keep", "kept": {...}}, what its kind keeps at once (kinds.h).
 *
 * Text is UTF-8 without control characters inside a line.  Lines are at most HF_WIRE_REQUEST_MOST bytes towards the
 * daemon and HF_WIRE_EVENT_MOST bytes from it or from a worker; whoever sends more is cut off.
 */
#pragma once
#include "base/json.h"

#define HF_WIRE_REQUEST_MOST (64 * HF_KIB)
#define HF_WIRE_EVENT_MOST   (16 * HF_MIB)
#define HF_WIRE_BEHIND_MOST  (32 * HF_MIB) // of events that a client has not read yet
#define HF_WIRE_PHASE_BYTES  64

enum hf_exit { HF_EXIT_DONE = 0, HF_EXIT_FAILED = 1, HF_EXIT_USAGE = 2, HF_EXIT_BAD_NEWS = 3 };

/* The exit of an error: USAGE is 2, everything else 1. */
enum hf_exit hf_exit_of(const struct hf_error *err);

/* One end of a connection.  The descriptor is borrowed, except in _done. */
struct hf_wire {
    int fd;            // non-blocking where the owner polls
    struct hf_buf in;  // bytes read, not yet taken as lines
    size_t taken;      // of those
    struct hf_buf out; // bytes to be written
    size_t written;    // of those
    bool ended;        // the other side will send nothing more
};

/* Takes the descriptor. */
void hf_wire_init(struct hf_wire *wire, int fd, size_t most_in, size_t most_out);
void hf_wire_done(struct hf_wire *wire); // closes it

/* Reads what is there; the end is not an error.  Take every line with hf_wire_next() before reading again. */
HF_MUST_CHECK bool hf_wire_receive(struct hf_wire *wire, struct hf_error *err);
/*
 * Takes the next whole line as a JSON object; *ret is NULL when there is none yet.  CORRUPT: the line is no object,
 * or the stream ended inside of one.  NO_SPACE: it is too long.  After a failure the connection is of no more use.
 */
HF_MUST_CHECK bool hf_wire_next(struct hf_wire *wire, json_t **ret, struct hf_error *err);
/* Receives until there is a line: for blocking descriptors.  *ret is NULL at the end of the stream. */
HF_MUST_CHECK bool hf_wire_wait(struct hf_wire *wire, json_t **ret, struct hf_error *err);

/* Puts a line into `out`; hf_wire_flush writes as much as goes, and all of it on a blocking descriptor. */
HF_MUST_CHECK bool hf_wire_put(struct hf_wire *wire, const json_t *object, struct hf_error *err);
HF_MUST_CHECK bool hf_wire_flush(struct hf_wire *wire, struct hf_error *err);
bool hf_wire_has_output(const struct hf_wire *wire);

/* New event objects, for the caller to free; NULL when out of memory. */
json_t *hf_event_job(const struct hf_id *job, const char *state);
json_t *hf_event_progress(const char *phase, uint64_t done, uint64_t total);
json_t *hf_event_note(const char *level, const char *message);
json_t *hf_event_result(enum hf_exit code, json_t *result); // takes the result
json_t *hf_event_keep(json_t *kept);                        // takes what is kept
json_t *hf_event_error(const struct hf_error *err);

/* Reads an error event back: what the other process said, cut at our limits. */
void hf_event_read_error(const json_t *event, struct hf_error *ret);
