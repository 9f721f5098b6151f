#include "server/source/mariadb/binlog_receive.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/lsn.h"
#include "base/time.h"

#define GATHER_MOST      HF_MIB // of a transaction in memory; a longer one enters the archive in parts
#define FLUSH_BYTES      (256 * HF_KIB)
#define EVENTS_AT_ONCE   1024 // before we look at what else there is to do
#define STEP_MS          200
#define REPORT_MS        1000
#define MARK_MS          1000
#define SILENCE_MS       30000 // a heartbeat comes every second
#define SENTENCE_BYTES   512
#define GTIDS_IN_MESSAGE 160

struct receiver {
    const struct hf_stream_receive *request;
    hf_binlog_connector *connect;
    struct hf_binlog_session session, side; // side: for questions while the other one dumps
    struct hf_binlog_server server;
    struct hf_archive *archive; // borrowed from the writer, between connections only
    struct hf_timeline_path *path;
    uint32_t timeline;
    struct hf_binlog_place place; // the end of the last whole transaction that was taken
    bool has_place;

    // Of one connection:
    struct hf_binlog_walk walk;
    bool fresh;                      // no transaction has come yet
    struct hf_buf format;            // the format description in force in the archive; empty: none
    char file[HF_BINLOG_NAME_BYTES]; // of the server, as its artificial ROTATE said
    struct hf_buf gather;            // events that are not with the writer yet
    uint64_t gather_at;              // their position
    uint64_t whole;                  // just behind the last whole transaction
    int64_t first_ms, last_ms;
    uint32_t commits;
    bool wants_answer; // the server waits: for
    uint64_t answer_at, answer_position;
    char answer_file[HF_BINLOG_NAME_BYTES];

    struct hf_stream_report report;
    struct hf_gtid_set logged; // by the server, as it said last
    int64_t logged_at;
    uint64_t reported_ns, marked_ns, heard_ns;
    bool incident, statements_told;
    char received_text[HF_STREAM_POSITION_BYTES], durable_text[HF_STREAM_POSITION_BYTES],
        server_text[HF_STREAM_POSITION_BYTES];
};

static bool find_place(struct receiver *receiver, struct hf_error *err);
static bool ask_server(struct receiver *receiver, struct hf_error *err);
static bool check_server(struct receiver *receiver, bool *ret_lost, struct hf_error *err);
static bool was_reset(const struct receiver *receiver);
static bool fail_ahead(const struct receiver *receiver, const char *cause, struct hf_error *err);
static bool begin_anew(struct receiver *receiver, struct hf_error *err);
static bool skip_lost(struct receiver *receiver, const char *cause, bool new_timeline, struct hf_error *err);
static bool branch_off(struct receiver *receiver, uint64_t at, const char *reason, struct hf_error *err);
static bool load_format(struct receiver *receiver, struct hf_error *err);
static bool stream(struct receiver *receiver, struct hf_error *err);
static void owe_answer(struct receiver *receiver);
static bool drain(struct receiver *receiver, struct hf_error *err);
static bool take_event(struct receiver *receiver, const uint8_t *data, size_t length, bool wants_answer,
                       struct hf_error *err);
static bool take_rotate(struct receiver *receiver, const struct hf_binlog_event *event, struct hf_error *err);
static bool take_format(struct receiver *receiver, const uint8_t *data, size_t length, struct hf_error *err);
static bool same_format(const struct hf_buf *ours, const uint8_t *data, size_t length);
static bool judge_gtid(struct receiver *receiver, struct hf_error *err);
static bool gather(struct receiver *receiver, const struct hf_binlog_step *step, const uint8_t *data, size_t length,
                   struct hf_error *err);
static bool flush(struct receiver *receiver, struct hf_error *err);
static bool mark(struct receiver *receiver, bool now, struct hf_error *err);
static bool answer(struct receiver *receiver, struct hf_error *err);
static bool wait_for_news(struct receiver *receiver, struct hf_error *err);
static bool look_after(struct receiver *receiver, struct hf_error *err);
static void look_at_server(struct receiver *receiver);
static void look_at_semi_sync(struct receiver *receiver);
static void tell_report(struct receiver *receiver, bool now);
static void put_set(const struct hf_gtid_set *set, char *text, size_t size);
static void end_connection(struct receiver *receiver);
static void receiver_done(struct receiver *receiver);

bool
hf_binlog_receive(const struct hf_stream_receive *request, enum hf_gtid_flavor flavor, hf_binlog_connector *connect,
                  struct hf_error *err)
{
    _cleanup_(receiver_done) struct receiver receiver = {.request = request,
                                                         .connect = connect,
                                                         .format = HF_BUF_INIT(HF_BINLOG_FORMAT_MOST),
                                                         .gather = HF_BUF_INIT(HF_BINLOG_EVENT_MOST + GATHER_MOST)};
    const struct hf_binlog_session session = {.flavor = flavor,
                                              .target = request->target,
                                              .cancel = request->cancel,
                                              .replica_id = hf_binlog_replica_id(request->target->stream_slot)};
    receiver.session = receiver.side = session;
    receiver.path = malloc(sizeof *receiver.path);
    if (receiver.path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for receiving the binary log");
    if (!hf_binlog_session_open(&receiver.side, connect, err))
        return false;
    for (;;) {
        const char *cause = NULL;
        bool lost = false;
        struct hf_error why = {0};
        if (!ask_server(&receiver, err) || !find_place(&receiver, err) || !check_server(&receiver, &lost, err))
            return false;
        if (lost) {
            if (!skip_lost(&receiver, "the server's binary logs were reset", true, err))
                return false;
            continue;
        }
        if (stream(&receiver, &why)) // the server told that events are lost
            cause = "the server lost events of its binary log";
        else if (why.kind == HF_ERR_NOT_FOUND)
            cause = "the server had purged its binary logs";
        else {
            if (err != NULL)
                *err = why;
            return false;
        }
        if (!skip_lost(&receiver, cause, false, err))
            return false;
    }
}

/* Its oldest file with a connection of its own, then the one that is to stay. */
static bool
ask_server(struct receiver *receiver, struct hf_error *err)
{
    struct hf_binlog_session probe = receiver->session;
    end_connection(receiver);
    if (!hf_binlog_session_open(&receiver->session, receiver->connect, err) ||
        !hf_binlog_server_ask(&receiver->session, &receiver->server, err))
        return false;
    probe.conn = NULL;
    const bool ok = hf_binlog_session_open(&probe, receiver->connect, err) &&
                    hf_binlog_server_probe(&probe, &receiver->server, err);
    hf_binlog_session_close(&probe);
    return ok;
}

/* The archive's end.  What it holds of a transaction that never ended is left behind in a timeline of its own. */
static bool
find_place(struct receiver *receiver, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    bool found;
    uint64_t resume;
    if (!hf_stream_writer_archive(receiver->request->writer, &receiver->archive, err))
        return false;
    const uint32_t newest = hf_archive_newest_timeline(receiver->archive);
    receiver->timeline = newest == 0 ? 1 : newest;
    if (!hf_archive_path(receiver->archive, receiver->timeline, receiver->path, err) ||
        !hf_archive_resume(receiver->archive, receiver->path, &found, &resume, err) ||
        !hf_archive_windows(receiver->archive, receiver->path, &windows, &count, err))
        return false;
    hf_buf_clear(&receiver->format);
    const struct hf_window *last = count > 0 ? &windows[count - 1] : NULL;
    if (last != NULL && resume == last->end) {
        if (!hf_binlog_find_end(receiver->archive, receiver->path, last->whole, &found, &receiver->place, err))
            return false;
        if (!found)
            return hf_fail(err, HF_ERR_CORRUPT, "the archived binary log has no mark that says which GTIDs it has");
        receiver->has_place = true;
        return (receiver->place.position == last->end ||
                branch_off(receiver, receiver->place.position, "a transaction was cut off", err)) &&
               load_format(receiver, err);
    }
    // Nothing is there, or nothing since the last gap.
    receiver->place.position = resume;
    if (!found)
        receiver->place.position = 0;
    return (receiver->has_place && receiver->place.position == resume && found) || begin_anew(receiver, err);
}

/* From the oldest log that the server has. */
static bool
begin_anew(struct receiver *receiver, struct hf_error *err)
{
    struct hf_binlog_place *place = &receiver->place;
    char text[SENTENCE_BYTES], gtids[GTIDS_IN_MESSAGE];
    hf_gtid_set_done(&place->gtids);
    if (!hf_gtid_set_copy(&receiver->server.oldest, &place->gtids, err))
        return false;
    place->flavor = receiver->session.flavor;
    place->format = HF_BINLOG_NO_FORMAT;
    place->server_id = receiver->server.server_id;
    place->file_position = 4;
    snprintf(place->file, sizeof place->file, "%s", receiver->server.first_file);
    receiver->has_place = true;
    put_set(&place->gtids, gtids, sizeof gtids);
    snprintf(text, sizeof text, "the archive of the binary log begins with \"%.128s\", behind \"%s\"", place->file,
             gtids);
    receiver->request->tell(receiver->request->context, false, text);
    return true;
}

/* Whether the server has what we have: else it is not the one that wrote it, or it has forgotten. */
static bool
check_server(struct receiver *receiver, bool *ret_lost, struct hf_error *err)
{
    *ret_lost = was_reset(receiver);
    return *ret_lost || hf_gtid_set_contains_all(&receiver->server.logged, &receiver->place.gtids) ||
           fail_ahead(receiver, "it lacks some of them", err);
}

/*
 * All files of the server are younger than the one we received last, and none of what we have was logged before them:
 * somebody has reset them.  Its GTIDs alone do not tell: they may have grown past ours again.
 */
static bool
was_reset(const struct receiver *receiver)
{
    const struct hf_binlog_place *place = &receiver->place;
    const struct hf_buf *first = &receiver->server.first_format, *ours = &receiver->format;
    return place->server_id == receiver->server.server_id && first->length > 0 && ours->length > 0 &&
           !same_format(ours, first->data, first->length) && hf_get_u32(first->data) >= hf_get_u32(ours->data) &&
           !hf_gtid_set_contains_all(&receiver->server.oldest, &place->gtids);
}

static bool
fail_ahead(const struct receiver *receiver, const char *cause, struct hf_error *err)
{
    char ours[GTIDS_IN_MESSAGE], theirs[GTIDS_IN_MESSAGE];
    put_set(&receiver->place.gtids, ours, sizeof ours);
    put_set(&receiver->server.logged, theirs, sizeof theirs);
    return hf_fail(err, HF_ERR_CONFLICT,
                   "the archive has transactions up to \"%s\", the server (id %u) is at \"%s\": %s", ours,
                   receiver->server.server_id, theirs, cause) ||
           hf_fail_hint(err, "This server was not the primary that wrote them, or it lost transactions that it had "
                             "acknowledged. Nothing was stored. Name the present primary, or add this one as a new "
                             "source.");
}

/* What lies between our end and the oldest log of the server will never come. */
static bool
skip_lost(struct receiver *receiver, const char *cause, bool new_timeline, struct hf_error *err)
{
    char ours[GTIDS_IN_MESSAGE], theirs[GTIDS_IN_MESSAGE], text[SENTENCE_BYTES];
    const struct hf_gtid_set *next = receiver->incident ? &receiver->server.logged : &receiver->server.oldest;
    const uint64_t from = receiver->place.position;
    struct hf_vault_gap gap = {.from_timeline = receiver->timeline,
                               .from = from,
                               .to = (from / HF_BINLOG_AFTER_GAP + 1) * HF_BINLOG_AFTER_GAP};
    put_set(&receiver->place.gtids, ours, sizeof ours);
    put_set(next, theirs, sizeof theirs);
    snprintf(text, sizeof text, "%s: transactions behind \"%s\" up to \"%s\" are missing", cause, ours, theirs);
    if (new_timeline && !branch_off(receiver, from, cause, err))
        return false;
    gap.timeline = receiver->timeline;
    if (!hf_stream_writer_gap(receiver->request->writer, &gap, text, err))
        return false;
    receiver->request->tell(receiver->request->context, true, text);
    receiver->place.position = gap.to;
    receiver->incident = false;
    return begin_anew(receiver, err);
}

/* A new timeline that begins at `at`; its history file says where it came from. */
static bool
branch_off(struct receiver *receiver, uint64_t at, const char *reason, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_TIMELINE_FILE_MOST);
    char position[HF_LSN_TEXT_BYTES];
    struct hf_archive *archive;
    if (receiver->timeline > 1 && !hf_archive_history(receiver->archive, receiver->timeline, &text, err))
        return false;
    if (!hf_buf_printf(&text, err, "%u\t%s\t%s\n", receiver->timeline, hf_lsn_format(at, position), reason) ||
        !hf_stream_writer_history(receiver->request->writer, receiver->timeline + 1, at, text.data, text.length, err) ||
        !hf_stream_writer_archive(receiver->request->writer, &archive, err) ||
        !hf_archive_path(archive, receiver->timeline + 1, receiver->path, err))
        return false;
    receiver->archive = archive;
    receiver->timeline++;
    char sentence[SENTENCE_BYTES];
    snprintf(sentence, sizeof sentence, "timeline %u of the binary log begins: %s", receiver->timeline, reason);
    receiver->request->tell(receiver->request->context, false, sentence);
    return true;
}

static bool
load_format(struct receiver *receiver, struct hf_error *err)
{
    uint64_t at;
    return receiver->place.format == HF_BINLOG_NO_FORMAT ||
           hf_binlog_format_at(receiver->archive, receiver->path, &receiver->place, &receiver->format, &at, err);
}

/* Until it fails; true when the server told that events are lost. */
static bool
stream(struct receiver *receiver, struct hf_error *err)
{
    bool checksums;
    owe_answer(receiver);
    if (!hf_binlog_session_dump(&receiver->session, &receiver->server, &receiver->place, &checksums, err))
        return false;
    hf_binlog_walk_begin(&receiver->walk, checksums);
    receiver->fresh = true;
    receiver->commits = 0;
    receiver->first_ms = receiver->last_ms = 0;
    hf_buf_clear(&receiver->gather);
    receiver->gather_at = receiver->whole = receiver->place.position;
    receiver->heard_ns = hf_monotonic_ns();
    receiver->file[0] = 0;
    receiver->report.server_timeline = receiver->timeline;
    if (!mark(receiver, true, err))
        return false;
    while (drain(receiver, err)) {
        if (receiver->incident)
            return true;
        if (!look_after(receiver, err) || !answer(receiver, err) || !wait_for_news(receiver, err))
            return false;
    }
    // What was gathered whole is kept: the server need not send it again.
    struct hf_error unheard;
    if (receiver->walk.state == HF_BINLOG_OUTSIDE)
        (void)!flush(receiver, &unheard);
    return err->kind == HF_ERR_CONFLICT && strstr(err->message, "binlog") != NULL
               ? fail_ahead(receiver, "it does not have the last of them", err)
               : false;
}

/*
 * A receiver that ends between the disk and its answer leaves a source that waits for what it does not send again: its
 * commits would stand still until its timeout.  So what we have is acknowledged once more, where the server itself says
 * that just this lies before our place in its files: names and numbers come again when a log is reset.
 */
static void
owe_answer(struct receiver *receiver)
{
    _cleanup_(hf_gtid_set_done) struct hf_gtid_set before = {0};
    struct hf_error unheard;
    const struct hf_binlog_place *place = &receiver->place;
    receiver->wants_answer =
        receiver->server.semi_sync && receiver->session.flavor == HF_GTID_MARIADB && place->file[0] != 0 &&
        place->gtids.count > 0 &&
        hf_binlog_gtids_before(&receiver->session, place->file, place->file_position, &before, &unheard) &&
        hf_gtid_set_equal(&place->gtids, &before);
    receiver->answer_at = 0; // it is in the archive
    receiver->answer_position = place->file_position;
    snprintf(receiver->answer_file, sizeof receiver->answer_file, "%s", place->file);
}

/* All that has come, and into the writer what is whole. */
static bool
drain(struct receiver *receiver, struct hf_error *err)
{
    for (int taken = 0; taken < EVENTS_AT_ONCE && !receiver->incident; taken++) {
        const uint8_t *data;
        size_t length;
        bool got, wants_answer = false;
        if (!hf_binlog_session_next(&receiver->session, &got, &data, &length, &wants_answer, err))
            return false;
        if (!got)
            break;
        receiver->heard_ns = hf_monotonic_ns();
        if (!take_event(receiver, data, length, wants_answer, err))
            return false;
        const bool outside = receiver->walk.state == HF_BINLOG_OUTSIDE;
        if (receiver->gather.length > (outside ? FLUSH_BYTES : GATHER_MOST) && !flush(receiver, err))
            return false;
    }
    return receiver->walk.state != HF_BINLOG_OUTSIDE || flush(receiver, err);
}

static bool
take_event(struct receiver *receiver, const uint8_t *data, size_t length, bool wants_answer, struct hf_error *err)
{
    struct hf_binlog_step step;
    const uint64_t at = receiver->gather_at + receiver->gather.length;
    if (!hf_binlog_walk_event(&receiver->walk, data, length, at, &step, err))
        return hf_fail_within(err, "the binary log as the server sends it (\"%.128s\")", receiver->file);
    const struct hf_binlog_event *event = &step.event;
    const bool artificial = (event->flags & HF_BINLOG_ARTIFICIAL) != 0 || event->next == 0;
    switch (event->type) {
    case HF_BINLOG_HEARTBEAT:
    case HF_BINLOG_HEARTBEAT_V2:
    case HF_BINLOG_ENCRYPTION: // the server decrypts what it sends
        return true;
    case HF_BINLOG_INCIDENT:
        receiver->incident = true;
        return true;
    case HF_BINLOG_FORMAT:
        return take_format(receiver, data, length, err);
    case HF_BINLOG_ROTATE:
        if (artificial)
            return take_rotate(receiver, event, err);
        break;
    default:
        break;
    }
    if (!step.group && (artificial || receiver->fresh)) // of the head of a file of which we have more already
        return true;
    if (step.begins && !judge_gtid(receiver, err))
        return false;
    if (!gather(receiver, &step, data, length, err))
        return false;
    if (wants_answer) {
        receiver->wants_answer = true;
        receiver->answer_at = receiver->whole;
        receiver->answer_position = receiver->place.file_position;
        snprintf(receiver->answer_file, sizeof receiver->answer_file, "%s", receiver->file);
    }
    return true;
}

/* An artificial one says which file comes, and where in it. */
static bool
take_rotate(struct receiver *receiver, const struct hf_binlog_event *event, struct hf_error *err)
{
    uint64_t position;
    if (!hf_binlog_rotate_read(event, receiver->gather_at, &position, receiver->file, err))
        return false;
    const bool outside = receiver->walk.state == HF_BINLOG_OUTSIDE;
    if (strcmp(receiver->file, receiver->place.file) == 0)
        return true;
    // The server went on in another file without saying so in the one before: it crashed, or is another one.  Whoever
    // reads the archive sees nothing of it but what is marked here.
    if (outside && !flush(receiver, err))
        return false;
    snprintf(receiver->place.file, sizeof receiver->place.file, "%s", receiver->file);
    receiver->place.file_position = position;
    return !outside || mark(receiver, true, err);
}

/* Stored when it is another one than in force: at the head of each file of the server, and behind a gap. */
static bool
take_format(struct receiver *receiver, const uint8_t *data, size_t length, struct hf_error *err)
{
    if (same_format(&receiver->format, data, length))
        return true;
    const uint64_t at = receiver->gather_at + receiver->gather.length;
    hf_buf_clear(&receiver->format);
    if (!hf_buf_add(&receiver->format, data, length, err) || !hf_buf_add(&receiver->gather, data, length, err))
        return false;
    receiver->place.format = at;
    receiver->place.server_id = receiver->server.server_id;
    receiver->place.position = receiver->whole = at + length;
    return true;
}

/* What a server changes when it sends one from the middle of a file does not count: next, flags, created at, CRC. */
static bool
same_format(const struct hf_buf *ours, const uint8_t *data, size_t length)
{
    const size_t created = HF_BINLOG_HEADER + 2 + HF_BINLOG_VERSION_TEXT - 1;
    return ours->length == length && length > created + 8 && memcmp(ours->data, data, 13) == 0 &&
           memcmp(ours->data + HF_BINLOG_HEADER, data + HF_BINLOG_HEADER, created - HF_BINLOG_HEADER) == 0 &&
           memcmp(ours->data + created + 4, data + created + 4, length - created - 8) == 0;
}

/* What we have cannot come again, and GTIDs that count down could not be found again. */
static bool
judge_gtid(struct receiver *receiver, struct hf_error *err)
{
    char text[HF_GTID_TEXT_BYTES], ours[GTIDS_IN_MESSAGE];
    if (!receiver->walk.has_gtid || !hf_gtid_set_contains(&receiver->place.gtids, &receiver->walk.gtid))
        return true;
    put_set(&receiver->place.gtids, ours, sizeof ours);
    return hf_fail(err, HF_ERR_CONFLICT, "the server sent transaction \"%s\" behind \"%s\"",
                   hf_gtid_format(&receiver->walk.gtid, text), ours) ||
           hf_fail_hint(err, "Numbers within a GTID domain must only go up for a log that is found by GTID: set "
                             "gtid_strict_mode=ON, and give each server that is written to a gtid_domain_id of its "
                             "own.");
}

static bool
gather(struct receiver *receiver, const struct hf_binlog_step *step, const uint8_t *data, size_t length,
       struct hf_error *err)
{
    if (!hf_buf_add(&receiver->gather, data, length, err))
        return false;
    const uint64_t end = receiver->gather_at + receiver->gather.length;
    if (!hf_binlog_place_follow(&receiver->place, &receiver->walk, step, end, err))
        return false;
    if (receiver->walk.state == HF_BINLOG_OUTSIDE)
        receiver->whole = end;
    if (!step->ends)
        return true;
    receiver->fresh = false;
    receiver->commits++;
    receiver->last_ms = step->commit_ms > receiver->last_ms ? step->commit_ms : receiver->last_ms;
    if (receiver->first_ms == 0 || step->commit_ms < receiver->first_ms)
        receiver->first_ms = step->commit_ms;
    if (receiver->walk.with_statements && !receiver->statements_told) {
        receiver->statements_told = true;
        receiver->request->tell(receiver->request->context, false,
                                "the server logs statements: a replay may differ from what was (binlog_format=ROW "
                                "is exact)");
    }
    return true;
}

static bool
flush(struct receiver *receiver, struct hf_error *err)
{
    const size_t length = receiver->gather.length;
    if (length == 0)
        return true;
    const struct hf_frame frame = {.kind = HF_FRAME_LOG,
                                   .timeline = receiver->timeline,
                                   .position = receiver->gather_at,
                                   .whole = receiver->whole,
                                   .first_time = receiver->first_ms,
                                   .last_time = receiver->last_ms,
                                   .commits = receiver->commits};
    if (!hf_stream_writer_append(receiver->request->writer, &frame, receiver->gather.data, length, err))
        return false;
    receiver->gather_at += length;
    hf_buf_clear(&receiver->gather);
    if (receiver->gather.capacity > 16 * GATHER_MOST)
        hf_buf_done(&receiver->gather); // a huge event's memory goes back
    receiver->commits = 0;
    receiver->first_ms = receiver->last_ms = 0;
    return mark(receiver, false, err);
}

/* Only between transactions, and where the place is: all that came is with the writer. */
static bool
mark(struct receiver *receiver, bool now, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    if (receiver->place.position != receiver->gather_at || receiver->gather.length > 0 ||
        (!now && hf_monotonic_ns() - receiver->marked_ns < MARK_MS * UINT64_C(1000000)))
        return true;
    receiver->marked_ns = hf_monotonic_ns();
    return hf_binlog_place_format(&receiver->place, &text, err) &&
           hf_stream_writer_mark(receiver->request->writer, receiver->timeline, receiver->place.position,
                                 hf_buf_text(&text), err);
}

/* Only what is on the disk (promise 2), and not before the server has begun to send: then it listens. */
static bool
answer(struct receiver *receiver, struct hf_error *err)
{
    struct hf_stream_positions positions;
    hf_stream_writer_positions(receiver->request->writer, &positions);
    if (!receiver->wants_answer || receiver->file[0] == 0 || positions.durable_whole < receiver->answer_at)
        return true;
    receiver->wants_answer = false;
    return hf_binlog_session_acknowledge(&receiver->session, receiver->answer_file, receiver->answer_position, err);
}

static bool
wait_for_news(struct receiver *receiver, struct hf_error *err)
{
    struct pollfd both[2] = {{.fd = receiver->session.packets.fd, .events = POLLIN},
                             {.fd = hf_stream_writer_event(receiver->request->writer), .events = POLLIN}};
    uint64_t rung;
    if (atomic_load(receiver->request->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "receiving the binary log was cancelled");
    if (hf_monotonic_ns() - receiver->heard_ns > SILENCE_MS * UINT64_C(1000000))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the server was silent for %d s", SILENCE_MS / 1000);
    if (poll(both, HF_LENGTH(both), STEP_MS) < 0 && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for the server");
    if (both[1].revents != 0 && read(both[1].fd, &rung, sizeof rung) < 0 && errno != EAGAIN && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for the disk");
    return true;
}

static bool
look_after(struct receiver *receiver, struct hf_error *err)
{
    if (!hf_stream_writer_tick(receiver->request->writer, err))
        return false;
    tell_report(receiver, false);
    return true;
}

static void
tell_report(struct receiver *receiver, bool now)
{
    struct hf_stream_report *report = &receiver->report;
    hf_stream_writer_positions(receiver->request->writer, &report->positions);
    if (!now && hf_monotonic_ns() - receiver->reported_ns < REPORT_MS * UINT64_C(1000000))
        return;
    receiver->reported_ns = hf_monotonic_ns();
    look_at_server(receiver);
    look_at_semi_sync(receiver);
    put_set(&receiver->place.gtids, receiver->received_text, sizeof receiver->received_text);
    put_set(&receiver->logged, receiver->server_text, sizeof receiver->server_text);
    // Nothing has come in this connection that is not durable: then the archive has all of `place`.
    const bool durable = receiver->gather.length == 0 && (report->positions.received == 0 ||
                                                          report->positions.durable_whole >= receiver->place.position);
    if (durable) {
        memcpy(receiver->durable_text, receiver->received_text, sizeof receiver->durable_text);
        if (receiver->logged_at != 0 && hf_gtid_set_contains_all(&receiver->place.gtids, &receiver->logged))
            report->caught_up_at = receiver->logged_at;
    }
    report->received_text = receiver->received_text;
    report->durable_text = receiver->durable_text;
    report->server_text = receiver->server_text;
    receiver->request->report(receiver->request->context, report);
}

/* What it has logged by now; a question that fails is asked again, by the next connection at the latest. */
static void
look_at_server(struct receiver *receiver)
{
    struct hf_gtid_set logged = {0};
    struct hf_error unheard;
    const int64_t now = hf_time_now_ms();
    if (receiver->side.conn == NULL && !hf_binlog_session_open(&receiver->side, receiver->connect, &unheard))
        return;
    if (!hf_binlog_logged_ask(&receiver->side, &logged, &unheard)) {
        hf_binlog_session_close(&receiver->side);
        return;
    }
    hf_gtid_set_done(&receiver->logged);
    receiver->logged = logged;
    receiver->logged_at = now;
}

/* A source that waited in vain goes on without waiting, and says so nowhere else. */
static void
look_at_semi_sync(struct receiver *receiver)
{
    struct hf_stream_report *report = &receiver->report;
    struct hf_error unheard;
    bool on;
    report->semi_sync = receiver->session.semi_sync ? HF_SEMI_SYNC_ON : HF_SEMI_SYNC_OFF;
    if (!receiver->session.semi_sync || receiver->side.conn == NULL ||
        !hf_binlog_semi_sync_status(&receiver->side, &on, &unheard))
        return;
    if (on)
        report->semi_sync_lost_at = 0;
    else if (report->semi_sync_lost_at == 0) {
        report->semi_sync_lost_at = hf_time_now_ms();
        receiver->request->tell(receiver->request->context, false,
                                "the server has stopped waiting for acknowledgements: commits are not safe here when "
                                "it says so");
    }
    if (!on)
        report->semi_sync = HF_SEMI_SYNC_LOST;
}

/* Cut with an ellipsis when it is too long for a message. */
static void
put_set(const struct hf_gtid_set *set, char *text, size_t size)
{
    _cleanup_(hf_buf_done) struct hf_buf whole = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    struct hf_error unheard;
    text[0] = 0;
    if (!hf_gtid_set_format(set, &whole, &unheard))
        return;
    if (whole.length < size)
        memcpy(text, hf_buf_text(&whole), whole.length + 1);
    else
        snprintf(text, size, "%.*s...", (int)(size - 4), hf_buf_text(&whole));
}

static void
end_connection(struct receiver *receiver)
{
    hf_binlog_session_close(&receiver->session);
    hf_binlog_server_done(&receiver->server);
}

static void
receiver_done(struct receiver *receiver)
{
    end_connection(receiver);
    hf_binlog_session_close(&receiver->side);
    hf_binlog_place_done(&receiver->place);
    hf_gtid_set_done(&receiver->logged);
    hf_buf_done(&receiver->format);
    hf_buf_done(&receiver->gather);
    free(receiver->path);
}
