#include "server/source/postgres/stream_receive.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "server/source/postgres/clock.h"
#include "server/source/postgres/hosts.h"
#include "server/source/postgres/stream_slot.h"
#include "server/source/postgres/wal_format.h"

#define REPLY_MS         10000 // at least so often: a third of the shortest wal_sender_timeout in use
#define REPORT_MS        1000
#define LOOK_AGAIN_MS    30000 // commits on a primary may wait for us while a standby serves
#define RELEASE_TRIES    150   // STEP_MS apart
#define CLOCK_MS         60000 // how long the quickest message counts
#define STEP_MS          200   // how soon a cancelled wait ends, and how often the journal's age is looked at
#define SILENCE_MS       60000
#define HISTORY_MOST     HF_TIMELINE_FILE_MOST
#define OVERLAP_MOST     (64 * HF_KIB) // received once more and compared
#define MESSAGES_AT_ONCE 256           // before we look at what else there is to do

#define DATA_HEADER  25 // 'w', start, server's end, time
#define ALIVE_LENGTH 18 // 'k', server's end, time, answer wanted
#define REPLY_LENGTH 34 // 'r', written, flushed, applied, time, answer wanted

#define STATE_NO_FILE "58P01" // SQLSTATE of "requested WAL segment ... has already been removed"

static const char doing[] = "receive the log";

struct receiver {
    const struct hf_stream_receive *request;
    struct hf_postgres_hosts hosts;
    struct hf_source_target target; // the request's, with the one node that serves
    PGconn *conn;
    uint32_t segment_bytes;
    struct hf_postgres_identity server;
    struct hf_slot_state slot;
    uint64_t unguarded;         // no slot kept the log below this when we came; 0: one kept all of it
    bool slot_was_lost;         // since it was there and had lost its log; else it was gone
    struct hf_archive *archive; // borrowed from the writer, between streams only
    struct hf_timeline_path *path;

    // Of one stream:
    uint32_t timeline;
    uint64_t end;  // what we have: from here on it is new
    uint64_t next; // what the server sends next, below `end` at first
    uint64_t whole;
    struct hf_buf known; // our bytes [end - known.length, end)
    struct hf_wal_walk *walk;
    uint64_t synced_before, whole_before; // as the stream began
    bool looking_again;                   // the stream was ended by us: perhaps the primary is back
    uint64_t chosen_ns;                   // when the node was chosen
    bool letting_go;                      // the stream was ended by us: the slot keeps too much
    bool missing;                         // the stream failed since the server has removed what comes next
    uint64_t doubted; // what comes next is missing although the slot is said to keep it: seen once at this place

    struct hf_server_clock clock; // since clock_since_ns; a clock that is set is noticed after CLOCK_MS
    uint64_t clock_since_ns;

    struct hf_stream_report report;
    uint64_t began_at; // where the archive ended when the last stream began
    uint64_t replied_ns, reported_ns, acknowledged;
};

static bool choose_node(struct receiver *receiver, struct hf_error *err);
static bool try_node(struct receiver *receiver, size_t host, struct hf_error *err);
static void drop_other_slots(struct receiver *receiver, const struct hf_postgres_node *nodes, size_t chosen);
static bool connect_and_identify(struct receiver *receiver, struct hf_error *err);
static bool make_slot(struct receiver *receiver, struct hf_error *err);
static bool fetch_histories(struct receiver *receiver, struct hf_error *err);
static bool fetch_history(struct receiver *receiver, uint32_t timeline, struct hf_error *err);
static bool find_start(struct receiver *receiver, struct hf_error *err);
static bool check_ahead(struct receiver *receiver, bool found, struct hf_error *err);
static bool seed(struct receiver *receiver, struct hf_error *err);
static bool feed_known(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                       struct hf_error *err);
static bool stream(struct receiver *receiver, struct hf_error *err);
static bool take_result(struct receiver *receiver, bool began, bool *ret_copy, struct hf_error *err);
static bool drain(struct receiver *receiver, bool *ret_ended, struct hf_error *err);
static bool take_message(struct receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err);
static bool take_log(struct receiver *receiver, uint64_t start, const uint8_t *data, size_t length,
                     struct hf_error *err);
static bool compare_known(const struct receiver *receiver, uint64_t start, const uint8_t *data, size_t length,
                          struct hf_error *err);
static bool look_after(struct receiver *receiver, bool *ret_leave, struct hf_error *err);
static uint64_t flushed(struct receiver *receiver);
static bool reply(struct receiver *receiver, bool wants_answer, struct hf_error *err);
static bool wait_for_news(struct receiver *receiver, struct hf_error *err);
static void tell_report(struct receiver *receiver, bool now);
static void report_clock(struct receiver *receiver);
static bool let_go(struct receiver *receiver, struct hf_error *err);
static bool remake_slot(struct receiver *receiver, struct hf_error *err);
static bool record_gap(struct receiver *receiver, const struct hf_error *why, struct hf_error *err);
static const char *gap_cause(const struct receiver *receiver);
static bool find_gap(struct receiver *receiver, struct hf_vault_gap *ret, struct hf_error *err);
static bool write_gap(struct receiver *receiver, const struct hf_vault_gap *gap, const char *cause,
                      struct hf_error *err);
static void receiver_done(struct receiver *receiver);
static uint64_t get_big(const uint8_t *at);
static void put_big(uint8_t *at, uint64_t value);
static struct hf_postgres_patience patience_of(const struct receiver *receiver);

bool
hf_postgres_stream(const struct hf_stream_receive *request, struct hf_error *err)
{
    _cleanup_(receiver_done) struct receiver receiver = {.request = request, .known = HF_BUF_INIT(2 * OVERLAP_MOST)};
    receiver.path = malloc(sizeof *receiver.path);
    if (receiver.path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for receiving the log");
    receiver.target = *request->target;
    if (!hf_postgres_hosts_of(request->target, &receiver.hosts, err) || !choose_node(&receiver, err))
        return false;
    for (;;) {
        struct hf_error why = {0};
        if (!fetch_histories(&receiver, err) || !find_start(&receiver, err) || !seed(&receiver, err))
            return false;
        receiver.missing = receiver.letting_go = receiver.looking_again = false;
        if (stream(&receiver, &why)) // to the end of a timeline
            continue;
        if (receiver.looking_again) {
            if (!choose_node(&receiver, err))
                return false;
            continue;
        }
        if (receiver.letting_go) {
            if (!let_go(&receiver, err))
                return false;
            continue;
        }
        if (!receiver.missing) {
            if (err != NULL)
                *err = why;
            return false;
        }
        if (!record_gap(&receiver, &why, err))
            return false;
    }
}

/*
 * The best node of those that follow the archive.  One that was left behind, or belongs to another system, is passed
 * over, and never gets a slot.
 */
static bool
choose_node(struct receiver *receiver, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    struct hf_postgres_node nodes[HF_POSTGRES_HOSTS_MOST];
    struct hf_error said = {0};
    bool refused = false, away = false;
    receiver->chosen_ns = hf_monotonic_ns();
    if (receiver->hosts.count == 1)
        return try_node(receiver, 0, err);
    hf_postgres_hosts_look(&receiver->hosts, receiver->request->target, &patience, nodes);
    for (size_t i = 0; i < receiver->hosts.count; i++) {
        struct hf_error why = nodes[i].why;
        if (nodes[i].reached && try_node(receiver, nodes[i].host, &why)) {
            drop_other_slots(receiver, nodes, i);
            return true;
        }
        // A node of the cluster that may not serve tells more than one that is away.
        if (said.kind == HF_ERR_NONE || (nodes[i].reached && !refused))
            said = why;
        refused = refused || nodes[i].reached;
        away = away || why.kind == HF_ERR_UNAVAILABLE;
        if (why.kind == HF_ERR_CANCELLED)
            break;
    }
    // One that may come back is worth waiting for, whatever the others are.
    if (away && said.kind == HF_ERR_CONFLICT)
        said.kind = HF_ERR_UNAVAILABLE;
    if (err != NULL)
        *err = said;
    return false;
}

static bool
try_node(struct receiver *receiver, size_t host, struct hf_error *err)
{
    receiver->target.conninfo = receiver->hosts.conninfo[host];
    return connect_and_identify(receiver, err) && fetch_histories(receiver, err) && find_start(receiver, err) &&
           make_slot(receiver, err);
}

/* Of nodes that served before: nobody reads them any more (promise 12). */
static void
drop_other_slots(struct receiver *receiver, const struct hf_postgres_node *nodes, size_t chosen)
{
    for (size_t i = 0; i < receiver->hosts.count; i++) {
        struct hf_source_target other = *receiver->request->target;
        struct hf_error unheard;
        bool dropped;
        other.conninfo = receiver->hosts.conninfo[nodes[i].host];
        if (i != chosen && nodes[i].has_slot && !nodes[i].slot_active)
            (void)!hf_stream_slot_release(&other, &dropped, &unheard);
    }
}

static bool
connect_and_identify(struct receiver *receiver, struct hf_error *err)
{
    const struct hf_source_target *target = &receiver->target;
    const struct hf_postgres_patience patience = patience_of(receiver);
    uint64_t segment_bytes;
    hf_postgres_closep(&receiver->conn);
    if (!hf_postgres_connect(target, HF_POSTGRES_STREAM, &patience, &receiver->conn, err) ||
        !hf_postgres_identify(receiver->conn, target, &patience, &receiver->server, err) ||
        !hf_postgres_show_bytes(receiver->conn, &patience, "wal_segment_size", &segment_bytes, err) ||
        !hf_stream_slot_look(target, receiver->target.stream_slot, &patience, &receiver->slot, err))
        return false;
    if (!hf_wal_segment_bytes_valid(segment_bytes))
        return hf_fail(err, HF_ERR_CORRUPT, "the server's log segments cannot have %" PRIu64 " bytes", segment_bytes);
    receiver->segment_bytes = (uint32_t)segment_bytes;
    receiver->report.from_standby = receiver->slot.in_recovery;
    return true;
}

/* Only on a node that was found to be the right one. */
static bool
make_slot(struct receiver *receiver, struct hf_error *err)
{
    const struct hf_source_target *target = &receiver->target;
    const struct hf_postgres_patience patience = patience_of(receiver);
    char sentence[256];
    if (receiver->slot.exists && !receiver->slot.lost)
        return true;
    if (!hf_stream_slot_make(receiver->conn, receiver->target.stream_slot, receiver->slot.lost, &patience, err))
        return false;
    snprintf(sentence, sizeof sentence, "replication slot \"%s\" %s on the server and was made",
             receiver->target.stream_slot, receiver->slot.lost ? "had lost its log" : "was not there");
    receiver->request->tell(receiver->request->context, false, sentence);
    if (receiver->unguarded <= receiver->end) // else it is still the same hole
        receiver->slot_was_lost = receiver->slot.lost;
    if (!hf_stream_slot_look(target, receiver->target.stream_slot, &patience, &receiver->slot, err))
        return false;
    receiver->unguarded = receiver->slot.restart_lsn;
    return true;
}

/* Every history file on the server's path, durable before any of its log. */
static bool
fetch_histories(struct receiver *receiver, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    const uint32_t newest = hf_stream_writer_archive(receiver->request->writer, &receiver->archive, err)
                                ? hf_archive_newest_timeline(receiver->archive)
                                : UINT32_MAX;
    if (newest == UINT32_MAX ||
        !hf_postgres_identify(receiver->conn, &receiver->target, &patience, &receiver->server, err))
        return false;
    receiver->report.server_timeline = receiver->server.timeline;
    receiver->report.server_end = receiver->server.flushed_lsn;
    if (newest > receiver->server.timeline)
        return hf_fail(err, HF_ERR_CONFLICT, "the server is on timeline %u, the archive follows timeline %u already",
                       receiver->server.timeline, newest) ||
               hf_fail_hint(err,
                            "This server was the primary before another was promoted. Name the present primary, or "
                            "all nodes of the cluster, in the connection string. Nothing was stored.");
    if (receiver->server.timeline > 1 && !hf_archive_has_history(receiver->archive, receiver->server.timeline) &&
        !fetch_history(receiver, receiver->server.timeline, err))
        return false;
    if (!hf_stream_writer_archive(receiver->request->writer, &receiver->archive, err) ||
        !hf_archive_path(receiver->archive, receiver->server.timeline, receiver->path, err))
        return false;
    for (size_t i = 0; i < receiver->path->count; i++) {
        const uint32_t timeline = receiver->path->steps[i].timeline;
        if (timeline > 1 && !hf_archive_has_history(receiver->archive, timeline) &&
            !fetch_history(receiver, timeline, err))
            return false;
    }
    return true;
}

static bool
fetch_history(struct receiver *receiver, uint32_t timeline, struct hf_error *err)
{
    static const char asking[] = "fetch the history of a timeline";
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    _cleanup_(hf_freep) struct hf_timeline_path *path = malloc(sizeof *path);
    char command[64], expected[HF_TIMELINE_NAME_BYTES];
    const char *name, *content;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the history of a timeline");
    snprintf(command, sizeof command, "TIMELINE_HISTORY %u", timeline);
    if (!hf_postgres_send(receiver->conn, asking, command, err) ||
        !hf_postgres_next(receiver->conn, &patience, asking, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_finish(receiver->conn, &patience, asking, err) ||
        !hf_postgres_field(row, 0, 0, "history file's name", &name, err) ||
        !hf_postgres_field(row, 0, 1, "history file", &content, err))
        return false;
    const size_t length = (size_t)PQgetlength(row, 0, 1);
    if (strcmp(name, hf_timeline_file_name(timeline, expected)) != 0 || length > HISTORY_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "the server calls the history of timeline %u \"%.64s\"", timeline, name);
    return hf_timeline_path_parse(timeline, content, length, path, err) &&
           hf_stream_writer_history(receiver->request->writer, timeline, path->steps[path->count - 1].start, content,
                                    length, err);
}

/* At the archive's own end on this server's path; a new archive begins where the slot does. */
static bool
find_start(struct receiver *receiver, struct hf_error *err)
{
    bool found;
    if (!hf_stream_writer_archive(receiver->request->writer, &receiver->archive, err) ||
        !hf_archive_resume(receiver->archive, receiver->path, &found, &receiver->end, err))
        return false;
    if (!found) {
        const uint64_t from =
            receiver->slot.restart_lsn != 0 ? receiver->slot.restart_lsn : receiver->server.flushed_lsn;
        receiver->end = from - from % receiver->segment_bytes;
    }
    receiver->timeline = hf_timeline_path_at(receiver->path, receiver->end)->timeline;
    return check_ahead(receiver, found, err);
}

static bool
check_ahead(struct receiver *receiver, bool found, struct hf_error *err)
{
    char ours[HF_LSN_TEXT_BYTES], theirs[HF_LSN_TEXT_BYTES];
    if (!found || receiver->timeline != receiver->server.timeline || receiver->end <= receiver->server.flushed_lsn)
        return true;
    hf_lsn_format(receiver->end, ours);
    hf_lsn_format(receiver->server.flushed_lsn, theirs);
    if (receiver->slot.in_recovery)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the standby is at %s and the archive at %s: waiting until it is there",
                       theirs, ours);
    return hf_fail(err, HF_ERR_CONFLICT,
                   "the archive is ahead of the server: it holds the log up to %s, the server is "
                   "at %s on the same timeline %u",
                   ours, theirs, receiver->timeline) ||
           hf_fail_hint(err, "The server has lost log that it had acknowledged, or was put back to an older state "
                             "without a new timeline. Nothing was stored. Recover it from this archive, or add it as a "
                             "new source.");
}

/* The walk gets what we have of the segment, so that it can judge the very next byte; the last of it is kept. */
static bool
seed(struct receiver *receiver, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    uint64_t from = receiver->end > 0 ? receiver->end - 1 : 0;
    from -= from % receiver->segment_bytes;
    const struct hf_wal_origin origin = {.major_version = hf_postgres_major(receiver->conn),
                                         .system_identifier = receiver->server.system_identifier,
                                         .segment_bytes = receiver->segment_bytes,
                                         .timeline = receiver->timeline};
    if (!hf_archive_windows(receiver->archive, receiver->path, &windows, &count, err))
        return false;
    const struct hf_window *window = NULL;
    for (size_t i = 0; i < count; i++)
        if (windows[i].start < receiver->end && receiver->end <= windows[i].end)
            window = &windows[i];
    if (window == NULL)
        from = receiver->end;      // nothing of it is here
    else if (window->start > from) // the segment's beginning was lost: from the first whole page on
        from = (window->start + HF_WAL_PAGE_BYTES - 1) / HF_WAL_PAGE_BYTES * HF_WAL_PAGE_BYTES;
    if (from > receiver->end)
        from = receiver->end - receiver->end % HF_WAL_PAGE_BYTES;

    hf_buf_clear(&receiver->known);
    hf_wal_walk_freep(&receiver->walk);
    if (!hf_wal_walk_new(&origin, from, &receiver->walk, err) ||
        (window != NULL && from >= window->start &&
         !hf_stream_read(receiver->archive, receiver->path, from, receiver->end, feed_known, receiver, err)))
        return hf_fail_within(err, "could not go on where the archive ends");
    if (receiver->end % receiver->segment_bytes == 0)
        hf_buf_clear(&receiver->known); // the segment before may be gone, and belong to another timeline
    receiver->next = receiver->end - receiver->known.length;
    if (window != NULL && from < window->start) // its page began before the window: that part comes again
        receiver->next = from;
    hf_wal_walk_forget_commits(receiver->walk);
    const uint64_t whole = hf_wal_walk_seen(receiver->walk).end;
    receiver->whole = whole < receiver->end ? whole : receiver->end;
    return true;
}

static bool
feed_known(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
           struct hf_error *err)
{
    struct receiver *receiver = context;
    (void)timeline;
    if (!hf_wal_walk_feed(receiver->walk, data, length, err))
        return false;
    const uint64_t keep_from = receiver->end > OVERLAP_MOST ? receiver->end - OVERLAP_MOST : 0;
    const uint64_t end = position + length;
    if (end <= keep_from)
        return true;
    const size_t part = end - keep_from < length ? (size_t)(end - keep_from) : length;
    return hf_buf_add(&receiver->known, data + length - part, part, err);
}

/* True at the end of a timeline. */
static bool
stream(struct receiver *receiver, struct hf_error *err)
{
    char command[256], start[HF_LSN_TEXT_BYTES];
    bool copy, ended = false, leave = false;
    snprintf(command, sizeof command, "START_REPLICATION SLOT \"%s\" PHYSICAL %s TIMELINE %u",
             receiver->target.stream_slot, hf_lsn_format(receiver->next, start), receiver->timeline);
    if (!hf_postgres_send(receiver->conn, doing, command, err) || !take_result(receiver, true, &copy, err))
        return false;
    struct hf_stream_positions positions;
    hf_stream_writer_positions(receiver->request->writer, &positions);
    receiver->synced_before = positions.synced;
    receiver->whole_before = receiver->whole;
    receiver->began_at = receiver->end;
    receiver->acknowledged = 0;
    while (copy && !ended) {
        if (!drain(receiver, &ended, err) || (!ended && !look_after(receiver, &leave, err)))
            return false;
        if (leave) {
            (void)!PQputCopyEnd(receiver->conn, NULL);
            (void)!PQflush(receiver->conn);
            return hf_fail(err, HF_ERR_CANCELLED, "receiving was cancelled");
        }
        if (!ended && !wait_for_news(receiver, err))
            return false;
    }
    // What came last is acknowledged by what the next stream says first.
    return hf_stream_writer_sync(receiver->request->writer, err) && take_result(receiver, !copy, &copy, err);
}

/*
 * What the server says at the beginning of a stream (copy both, or the end of the timeline at once) and at its end.
 * A missing segment is told in either place.
 */
static bool
take_result(struct receiver *receiver, bool began, bool *ret_copy, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    for (;;) {
        _cleanup_(hf_postgres_clearp) PGresult *result = NULL;
        while (PQisBusy(receiver->conn)) {
            struct pollfd socket = {.fd = PQsocket(receiver->conn), .events = POLLIN};
            if (patience.cancel != NULL && atomic_load(patience.cancel))
                return hf_fail(err, HF_ERR_CANCELLED, "receiving was cancelled");
            if (poll(&socket, 1, STEP_MS) > 0 && !PQconsumeInput(receiver->conn))
                return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %.200s", doing,
                               PQerrorMessage(receiver->conn));
        }
        result = PQgetResult(receiver->conn);
        const ExecStatusType status = PQresultStatus(result);
        if (result != NULL && status == PGRES_FATAL_ERROR) {
            const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            receiver->missing = state != NULL && strcmp(state, STATE_NO_FILE) == 0;
            return hf_postgres_fail_result(receiver->conn, result, doing, err);
        }
        if (result == NULL || status == PGRES_COMMAND_OK) {
            if (!began)
                return hf_fail(err, HF_ERR_UNAVAILABLE, "the server ended the stream: it is shutting down");
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server answered nothing", doing);
        }
        if (status == PGRES_COPY_BOTH && began) {
            *ret_copy = true;
            return true;
        }
        if (status == PGRES_COPY_IN) { // it has ended its half at the end of the timeline
            if (PQputCopyEnd(receiver->conn, NULL) != 1 || PQflush(receiver->conn) < 0)
                return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost", doing);
            continue;
        }
        if (status != PGRES_TUPLES_OK)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server answered %s", doing, PQresStatus(status));
        *ret_copy = false;
        return hf_postgres_finish(receiver->conn, &patience, doing, err);
    }
}

/* Takes what lies in the connection. */
static bool
drain(struct receiver *receiver, bool *ret_ended, struct hf_error *err)
{
    for (int i = 0; i < MESSAGES_AT_ONCE; i++) {
        char *message = NULL;
        const int length = PQgetCopyData(receiver->conn, &message, 1);
        if (length == 0)
            return true;
        if (length == -1) {
            *ret_ended = true;
            return true;
        }
        if (length < 0)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %.200s", doing,
                           PQerrorMessage(receiver->conn));
        const bool ok = take_message(receiver, (const uint8_t *)message, (size_t)length, err);
        PQfreemem(message);
        if (!ok)
            return false;
    }
    return true;
}

static bool
take_message(struct receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err)
{
    if (message[0] == 'w' && length >= DATA_HEADER) {
        receiver->report.server_end = get_big(message + 9);
        hf_server_clock_note(&receiver->clock, get_big(message + 17));
        return take_log(receiver, get_big(message + 1), message + DATA_HEADER, length - DATA_HEADER, err);
    }
    if (message[0] == 'k' && length == ALIVE_LENGTH) {
        receiver->report.server_end = get_big(message + 1);
        hf_server_clock_note(&receiver->clock, get_big(message + 9));
        return message[ALIVE_LENGTH - 1] == 0 || reply(receiver, false, err);
    }
    return hf_fail(err, HF_ERR_CORRUPT, "the server sent a message of the kind %02x with %zu bytes in its log stream",
                   message[0], length);
}

/* Compared as far as we have it, checked behind, and only then written down. */
static bool
take_log(struct receiver *receiver, uint64_t start, const uint8_t *data, size_t length, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES], expected[HF_LSN_TEXT_BYTES];
    if (start != receiver->next)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent log from %s on, %s was next", hf_lsn_format(start, text),
                       hf_lsn_format(receiver->next, expected));
    receiver->next += length;
    if (start < receiver->end) {
        const size_t part = length < receiver->end - start ? length : (size_t)(receiver->end - start);
        const uint64_t known_from = receiver->end - receiver->known.length;
        if (start >= known_from ? !compare_known(receiver, start, data, part, err)
                                : !hf_wal_walk_feed(receiver->walk, data, part, err))
            return false;
        start += part;
        data += part;
        length -= part;
    }
    if (length == 0)
        return true;

    if (!hf_wal_walk_feed(receiver->walk, data, length, err))
        return hf_fail_hint(err, "What came before is kept. The server's log tells more; if its disk is damaged, fail "
                                 "over before it is needed.");
    const struct hf_wal_seen seen = hf_wal_walk_seen(receiver->walk);
    const uint64_t end = start + length, whole = seen.end < end ? seen.end : end;
    receiver->whole = whole > receiver->whole ? whole : receiver->whole;
    receiver->end = end;
    const struct hf_frame frame = {.kind = HF_FRAME_LOG,
                                   .timeline = receiver->timeline,
                                   .position = start,
                                   .whole = receiver->whole,
                                   .first_time = seen.first_commit_at,
                                   .last_time = seen.last_commit_at,
                                   .commits = (uint32_t)seen.commits};
    hf_wal_walk_forget_commits(receiver->walk);
    hf_buf_clear(&receiver->known);
    return hf_stream_writer_append(receiver->request->writer, &frame, data, length, err);
}

static bool
compare_known(const struct receiver *receiver, uint64_t start, const uint8_t *data, size_t length, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES];
    const uint8_t *known = receiver->known.data + (start - (receiver->end - receiver->known.length));
    for (size_t i = 0; i < length; i++)
        if (data[i] != known[i])
            return hf_fail(err, HF_ERR_CONFLICT, "the server's log differs from the archive's at %s on timeline %u",
                           hf_lsn_format(start + i, text), receiver->timeline) ||
                   hf_fail_hint(err, "The server was put back to an older state without a new timeline. Nothing was "
                                     "stored. Recover it from this archive, or add it as a new source.");
    return true;
}

/* Between messages: acknowledge, tell, close what is full or old. */
static bool
look_after(struct receiver *receiver, bool *ret_leave, struct hf_error *err)
{
    const uint64_t now = hf_monotonic_ns();
    uint64_t rings;
    while (read(hf_stream_writer_event(receiver->request->writer), &rings, sizeof rings) > 0)
        continue;
    if (!hf_stream_writer_tick(receiver->request->writer, err))
        return false;
    if (receiver->request->let_go != NULL && atomic_load(&receiver->request->let_go->asked)) {
        receiver->letting_go = true;
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the slot keeps more log on the server than it may");
    }
    if (receiver->hosts.count > 1 && receiver->slot.in_recovery &&
        now - receiver->chosen_ns > LOOK_AGAIN_MS * UINT64_C(1000000)) {
        receiver->looking_again = true;
        return hf_fail(err, HF_ERR_UNAVAILABLE, "a standby serves: looking for the primary");
    }
    *ret_leave = receiver->request->cancel != NULL && atomic_load(receiver->request->cancel);
    if (*ret_leave && !hf_stream_writer_sync(receiver->request->writer, err))
        return false;
    tell_report(receiver, false);
    const bool late = now - receiver->replied_ns > REPLY_MS * UINT64_C(1000000);
    if (receiver->acknowledged != flushed(receiver) || late)
        return reply(receiver, late, err);
    return true;
}

/* The end of the last whole record that is on the disk. */
static uint64_t
flushed(struct receiver *receiver)
{
    struct hf_stream_positions *positions = &receiver->report.positions;
    hf_stream_writer_positions(receiver->request->writer, positions);
    return positions->synced > receiver->synced_before ? positions->durable_whole : receiver->whole_before;
}

static bool
reply(struct receiver *receiver, bool wants_answer, struct hf_error *err)
{
    uint8_t message[REPLY_LENGTH] = {'r'};
    const uint64_t stable = flushed(receiver);
    put_big(message + 1, receiver->end);
    put_big(message + 9, stable);
    put_big(message + 17, 0); // nothing is ever applied here
    put_big(message + 25, (uint64_t)(hf_time_now_ms() - HF_POSTGRES_EPOCH_MS) * 1000);
    message[REPLY_LENGTH - 1] = wants_answer ? 1 : 0;
    receiver->replied_ns = hf_monotonic_ns();
    receiver->acknowledged = stable;
    if (PQputCopyData(receiver->conn, (const char *)message, sizeof message) != 1 || PQflush(receiver->conn) < 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %.200s", doing,
                       PQerrorMessage(receiver->conn));
    return true;
}

static bool
wait_for_news(struct receiver *receiver, struct hf_error *err)
{
    struct pollfd fds[] = {{.fd = PQsocket(receiver->conn), .events = POLLIN},
                           {.fd = hf_stream_writer_event(receiver->request->writer), .events = POLLIN}};
    if (poll(fds, HF_LENGTH(fds), STEP_MS) < 0 && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_NONE, "could not wait for the server");
    if (fds[0].revents != 0 && !PQconsumeInput(receiver->conn))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %.200s", doing,
                       PQerrorMessage(receiver->conn));
    return true;
}

static void
tell_report(struct receiver *receiver, bool now)
{
    struct hf_stream_report *report = &receiver->report;
    struct hf_stream_positions *positions = &report->positions;
    (void)flushed(receiver);        // refreshes the positions
    if (positions->received == 0) { // nothing has come since we began: all there is was there
        positions->received = positions->durable = receiver->end;
        positions->durable_whole = receiver->whole_before;
    }
    if (positions->sealed == 0)
        positions->sealed = receiver->began_at;
    const uint64_t durable = positions->durable;
    if (durable >= report->server_end)
        report->caught_up_at = hf_time_now_ms();
    if (!now && hf_monotonic_ns() - receiver->reported_ns < REPORT_MS * UINT64_C(1000000))
        return;
    report_clock(receiver);
    receiver->reported_ns = hf_monotonic_ns();
    receiver->request->report(receiver->request->context, report);
}

static void
report_clock(struct receiver *receiver)
{
    struct hf_stream_report *report = &receiver->report;
    if (receiver->clock.known) {
        report->clock_known = true;
        report->server_clock_ahead_ms = receiver->clock.ahead_ms;
    }
    if (hf_monotonic_ns() - receiver->clock_since_ns > CLOCK_MS * UINT64_C(1000000)) {
        receiver->clock = (struct hf_server_clock){0};
        receiver->clock_since_ns = hf_monotonic_ns();
    }
}

/* The slot is made anew where the server stands; what lies between our end and it is given up, for good. */
static bool
let_go(struct receiver *receiver, struct hf_error *err)
{
    struct hf_stream_let_go *asked = receiver->request->let_go;
    struct hf_vault_gap gap;
    hf_postgres_closep(&receiver->conn); // so that nobody reads the slot
    if (!hf_stream_writer_sync(receiver->request->writer, err) || !remake_slot(receiver, err) ||
        !hf_stream_writer_archive(receiver->request->writer, &receiver->archive, err) || !find_gap(receiver, &gap, err))
        return false;
    if (gap.to > gap.from && !write_gap(receiver, &gap, asked->why, err))
        return false;
    atomic_store(&asked->asked, false);
    return connect_and_identify(receiver, err) && make_slot(receiver, err);
}

/* The server notices a moment late that we have gone. */
static bool
remake_slot(struct receiver *receiver, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    const struct hf_source_target *target = &receiver->target;
    struct hf_error why;
    bool dropped;
    for (int tries = 0; !hf_stream_slot_release(target, &dropped, &why); tries++) {
        if (why.kind != HF_ERR_CONFLICT || tries == RELEASE_TRIES) {
            if (err != NULL)
                *err = why;
            return false;
        }
        if (patience.cancel != NULL && atomic_load(patience.cancel))
            return hf_fail(err, HF_ERR_CANCELLED, "receiving was cancelled");
        usleep(STEP_MS * 1000);
    }
    return hf_postgres_connect(target, HF_POSTGRES_STREAM, &patience, &receiver->conn, err) &&
           hf_stream_slot_make(receiver->conn, target->stream_slot, false, &patience, err);
}

/*
 * From our end up to where the slot has the log, or up to what we have behind the hole.
 *
 * A slot can name log that is not there: one that was made behind a hole goes back to our end with our first answer,
 * when the server takes it before it has looked for the file; and which segments it has removed a server forgets when
 * it is started anew, so that it calls such a slot a good one.  When a second try says the same, the slot is made anew,
 * which the server does where its log begins.
 */
static bool
record_gap(struct receiver *receiver, const struct hf_error *why, struct hf_error *err)
{
    struct hf_vault_gap gap;
    if (!hf_stream_writer_sync(receiver->request->writer, err) || !connect_and_identify(receiver, err) ||
        !fetch_histories(receiver, err) || !make_slot(receiver, err) || !find_gap(receiver, &gap, err))
        return false;
    if (gap.to <= gap.from && receiver->doubted != gap.from) {
        receiver->doubted = gap.from;
        return true;
    }
    const char *cause = gap_cause(receiver);
    if (gap.to <= gap.from) {
        hf_postgres_closep(&receiver->conn);
        if (!remake_slot(receiver, err) || !connect_and_identify(receiver, err) || !find_gap(receiver, &gap, err))
            return false;
    }
    if (gap.to <= gap.from) {
        if (err != NULL)
            *err = *why;
        return hf_fail_hint(err, "The slot says that this log is kept. The server's disk and log tell more.");
    }
    return write_gap(receiver, &gap, cause, err);
}

static const char *
gap_cause(const struct receiver *receiver)
{
    if (receiver->end >= receiver->unguarded)
        return "the server had removed log that its slot should have kept";
    if (receiver->slot_was_lost)
        return "the slot was invalidated: it held more log than max_slot_wal_keep_size";
    const char *released = receiver->request->released;
    return released != NULL && *released != '\0' ? released
                                                 : "the replication slot was gone, and the server had recycled the log";
}

static bool
find_gap(struct receiver *receiver, struct hf_vault_gap *ret, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    if (!hf_stream_slot_look(&receiver->target, receiver->target.stream_slot, &patience, &receiver->slot, err) ||
        !hf_archive_windows(receiver->archive, receiver->path, &windows, &count, err))
        return false;
    struct hf_vault_gap gap = {.from_timeline = receiver->timeline, .from = receiver->end};
    gap.to = receiver->slot.restart_lsn - receiver->slot.restart_lsn % receiver->segment_bytes;
    for (size_t i = 0; i < count; i++)
        if (windows[i].start > gap.from && windows[i].start < gap.to)
            gap.to = windows[i].start;
    gap.timeline = hf_timeline_path_at(receiver->path, gap.to)->timeline;
    *ret = gap;
    return true;
}

static bool
write_gap(struct receiver *receiver, const struct hf_vault_gap *gap, const char *cause, struct hf_error *err)
{
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES], sentence[512];
    if (!hf_stream_writer_gap(receiver->request->writer, gap, cause, err))
        return false;
    snprintf(sentence, sizeof sentence, "the log from %s to %s is missing for good: %s", hf_lsn_format(gap->from, from),
             hf_lsn_format(gap->to, to), cause);
    receiver->request->tell(receiver->request->context, true, sentence);
    tell_report(receiver, true);
    return true;
}

static void
receiver_done(struct receiver *receiver)
{
    hf_postgres_hosts_done(&receiver->hosts);
    hf_postgres_closep(&receiver->conn);
    hf_wal_walk_freep(&receiver->walk);
    hf_buf_done(&receiver->known);
    free(receiver->path);
}

static uint64_t
get_big(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return be64toh(value);
}

static void
put_big(uint8_t *at, uint64_t value)
{
    value = htobe64(value);
    memcpy(at, &value, sizeof value);
}

static struct hf_postgres_patience
patience_of(const struct receiver *receiver)
{
    return (struct hf_postgres_patience){.cancel = receiver->request->cancel, .silence_ms = SILENCE_MS};
}
