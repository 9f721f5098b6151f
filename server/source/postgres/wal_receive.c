#include "server/source/postgres/wal_receive.h"

#include <assert.h>
#include <endian.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "server/source/postgres/wal_format.h"

#define REPLY_MS     10000 // at least so often: a third of the shortest wal_sender_timeout in use
#define GOODBYE_MS   5000  // for the server to end the stream; after that the connection just closes
#define HISTORY_MOST (1024 * 1024)

#define DATA_HEADER  25 // 'w', start, server's end, time
#define ALIVE_LENGTH 18 // 'k', server's end, time, answer wanted

static const char doing[] = "receive the log of the backup";

struct hf_wal_receiver {
    struct hf_wal_receiver_options options;
    PGconn *conn;
    char slot[64];

    pthread_t thread;
    bool running; // the thread was started and not joined
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ended;               // the thread has nothing left to do; under the lock
    atomic_bool abandon;      // closep: stop at once
    atomic_bool failed;       // the thread has ended with `error`
    _Atomic uint64_t stop_at; // 0 while unknown
    struct hf_error error;    // the thread's; read after `failed` or the join

    // The thread's own from here on.
    uint32_t timeline;
    uint64_t first, received; // log positions
    uint64_t replied_ns;
    struct hf_wal_walk *walk;
    void *segment; // the sink's handle of the open segment, or NULL
    uint64_t segments;
    bool history_file;
    struct hf_server_clock clock;
};

static bool make_slot(struct hf_wal_receiver *receiver, struct hf_error *err);
static void *run(void *argument);
static bool stream(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool store_history(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool begin_stream(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool is_covered(const struct hf_wal_receiver *receiver);
static bool take_message(struct hf_wal_receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err);
static bool take_log(struct hf_wal_receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err);
static bool write_log(struct hf_wal_receiver *receiver, const uint8_t *data, size_t length, struct hf_error *err);
static bool begin_segment(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool end_segment(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool fill_segment(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool reply(struct hf_wal_receiver *receiver, struct hf_error *err);
static bool fail_ended(const struct hf_wal_receiver *receiver, struct hf_error *err);
static void end_stream(struct hf_wal_receiver *receiver);
static bool wait_for_end(struct hf_wal_receiver *receiver, uint32_t wait_ms);
static uint64_t get_big(const uint8_t *at);
static void put_big(uint8_t *at, uint64_t value);
static struct hf_postgres_patience patience_of(const struct hf_wal_receiver *receiver);

bool
hf_wal_receiver_open(const struct hf_wal_receiver_options *options, struct hf_wal_receiver **ret, struct hf_error *err)
{
    _cleanup_(hf_wal_receiver_closep) struct hf_wal_receiver *receiver = calloc(1, sizeof *receiver);
    if (receiver == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for receiving the log");
    receiver->options = *options;
    pthread_mutex_init(&receiver->lock, NULL);
    pthread_cond_init(&receiver->changed, NULL);

    const struct hf_postgres_patience patience = patience_of(receiver);
    struct hf_postgres_identity identity;
    if (!hf_postgres_connect(options->target, HF_POSTGRES_BACKUP_WAL, &patience, &receiver->conn, err) ||
        !hf_postgres_identify(receiver->conn, options->target, &patience, &identity, err))
        return false;
    if (identity.system_identifier != options->system_identifier)
        return hf_fail(err, HF_ERR_CONFLICT, "two connections to \"%s\" reached two different databases",
                       options->target->name) ||
               hf_fail_hint(err, "Name one server in the connection string, and none that spreads connections.");
    if (!make_slot(receiver, err))
        return false;
    *ret = HF_TAKE(receiver);
    return true;
}

bool
hf_wal_receiver_start(struct hf_wal_receiver *receiver, uint64_t lsn, uint32_t timeline, struct hf_error *err)
{
    const struct hf_wal_origin origin = {.major_version = hf_postgres_major(receiver->conn),
                                         .system_identifier = receiver->options.system_identifier,
                                         .segment_bytes = receiver->options.segment_bytes,
                                         .timeline = timeline};
    receiver->timeline = timeline;
    receiver->first = lsn - lsn % receiver->options.segment_bytes;
    receiver->received = receiver->first;
    if (!hf_wal_walk_new(&origin, receiver->first, &receiver->walk, err))
        return false;

    int result = pthread_create(&receiver->thread, NULL, run, receiver);
    if (result != 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not start a thread for the log: %s", strerrordesc_np(result));
    receiver->running = true;
    return true;
}

const atomic_bool *
hf_wal_receiver_failed(const struct hf_wal_receiver *receiver)
{
    return &receiver->failed;
}

bool
hf_wal_receiver_finish(struct hf_wal_receiver *receiver, uint64_t stop_lsn, uint32_t wait_ms,
                       struct hf_wal_received *ret, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES];

    assert(receiver->running);
    atomic_store(&receiver->stop_at, stop_lsn);
    if (!wait_for_end(receiver, wait_ms))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the log up to %s, where the backup ends, did not come within %u s",
                       hf_lsn_format(stop_lsn, text), wait_ms / 1000) ||
               hf_fail_hint(err,
                            "A backup of a standby needs the primary to write log: SELECT pg_switch_wal(); there.");
    pthread_join(receiver->thread, NULL);
    receiver->running = false;
    if (atomic_load(&receiver->failed)) {
        if (err != NULL)
            *err = receiver->error;
        return false;
    }

    struct hf_wal_seen seen = hf_wal_walk_seen(receiver->walk);
    if (seen.end < stop_lsn)
        return hf_fail(err, HF_ERR_CORRUPT, "the log ends inside a record before %s, where the backup ends",
                       hf_lsn_format(stop_lsn, text));
    *ret = (struct hf_wal_received){
        .first_lsn = receiver->first,
        .end_lsn = seen.end,
        .commits = seen.commits,
        .last_commit_at = seen.last_commit_at,
        .segments = receiver->segments,
        .bytes = seen.position - receiver->first,
        .history_file = receiver->history_file,
        .clock = receiver->clock,
    };
    return true;
}

const struct hf_error *
hf_wal_receiver_error(struct hf_wal_receiver *receiver)
{
    return atomic_load(&receiver->failed) ? &receiver->error : NULL;
}

void
hf_wal_receiver_closep(struct hf_wal_receiver **pointer)
{
    struct hf_wal_receiver *receiver = *pointer;
    if (receiver == NULL)
        return;
    atomic_store(&receiver->abandon, true);
    if (receiver->running)
        pthread_join(receiver->thread, NULL);
    hf_postgres_closep(&receiver->conn);
    hf_wal_walk_freep(&receiver->walk);
    pthread_cond_destroy(&receiver->changed);
    pthread_mutex_destroy(&receiver->lock);
    free(receiver);
    *pointer = NULL;
}

/* Before the base backup begins, so that nothing it needs can be recycled. */
static bool
make_slot(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    static const char making[] = "make the temporary slot of the backup";
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    char command[160];

    snprintf(receiver->slot, sizeof receiver->slot, "holdfast_%s_backup_%d", receiver->options.target->slot_tag,
             PQbackendPID(receiver->conn));
    snprintf(command, sizeof command, "CREATE_REPLICATION_SLOT \"%s\" TEMPORARY PHYSICAL RESERVE_WAL", receiver->slot);
    return hf_postgres_send(receiver->conn, making, command, err) &&
           hf_postgres_next(receiver->conn, &patience, making, PGRES_TUPLES_OK, &row, err) &&
           hf_postgres_finish(receiver->conn, &patience, making, err);
}

static void *
run(void *argument)
{
    struct hf_wal_receiver *receiver = argument;

    bool ok = stream(receiver, &receiver->error);
    if (!ok && receiver->segment != NULL)
        receiver->options.sink->file_drop(receiver->options.sink->context, receiver->segment);
    receiver->segment = NULL;
    if (!ok)
        atomic_store(&receiver->failed, true);
    pthread_mutex_lock(&receiver->lock);
    receiver->ended = true;
    pthread_cond_signal(&receiver->changed);
    pthread_mutex_unlock(&receiver->lock);
    return NULL;
}

static bool
stream(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    // A quiet source with wal_sender_timeout = 0 says nothing for hours: that is no failure, and a dead link is noticed
    // by the kernel's own keepalives (see connection.c).
    struct hf_postgres_patience patience = patience_of(receiver);
    patience.silence_ms = 0;

    if (receiver->timeline > 1 && !store_history(receiver, err))
        return false;
    if (!begin_stream(receiver, err))
        return false;

    while (!is_covered(receiver)) {
        char *message;
        int length;
        if (!hf_postgres_copy_next(receiver->conn, &patience, doing, 200, &message, &length, err))
            return false;
        if (length == -1)
            return fail_ended(receiver, err);
        bool ok = length == 0 || take_message(receiver, (const uint8_t *)message, (size_t)length, err);
        PQfreemem(message);
        if (!ok)
            return false;
        if (hf_monotonic_ns() - receiver->replied_ns > REPLY_MS * UINT64_C(1000000) && !reply(receiver, err))
            return false;
    }
    if (!fill_segment(receiver, err))
        return false;
    end_stream(receiver);
    return true;
}

/* The file that says where this timeline left the one before: recovery on it needs it. */
static bool
store_history(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    static const char asking[] = "fetch the history of the timeline";
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    char command[64], expected[32], path[48];
    const char *name, *content;

    snprintf(command, sizeof command, "TIMELINE_HISTORY %u", receiver->timeline);
    snprintf(expected, sizeof expected, "%08X.history", receiver->timeline);
    if (!hf_postgres_send(receiver->conn, asking, command, err) ||
        !hf_postgres_next(receiver->conn, &patience, asking, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_finish(receiver->conn, &patience, asking, err) ||
        !hf_postgres_field(row, 0, 0, "history file's name", &name, err) ||
        !hf_postgres_field(row, 0, 1, "history file", &content, err))
        return false;
    if (strcmp(name, expected) != 0 || PQgetlength(row, 0, 1) > HISTORY_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "the server calls the history of timeline %u \"%.64s\"", receiver->timeline,
                       name);

    snprintf(path, sizeof path, "pg_wal/%s", expected);
    const struct hf_backup_file file = {.path = path,
                                        .kind = HF_BACKUP_FILE_WAL,
                                        .mode = 0600,
                                        .modified_at = hf_time_now_ms(),
                                        .size = (uint64_t)PQgetlength(row, 0, 1),
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    receiver->history_file = true;
    return hf_backup_sink_put(receiver->options.sink, &file, content, (size_t)PQgetlength(row, 0, 1), err);
}

static bool
begin_stream(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_postgres_clearp) PGresult *answer = NULL;
    char command[160], start[HF_LSN_TEXT_BYTES];

    snprintf(command, sizeof command, "START_REPLICATION SLOT \"%s\" PHYSICAL %s TIMELINE %u", receiver->slot,
             hf_lsn_format(receiver->first, start), receiver->timeline);
    receiver->replied_ns = hf_monotonic_ns();
    return hf_postgres_send(receiver->conn, doing, command, err) &&
           hf_postgres_next(receiver->conn, &patience, doing, PGRES_COPY_BOTH, &answer, err);
}

static bool
is_covered(const struct hf_wal_receiver *receiver)
{
    uint64_t stop = atomic_load(&receiver->stop_at);
    return stop != 0 && receiver->received >= stop;
}

static bool
take_message(struct hf_wal_receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err)
{
    if (message[0] == 'w' && length >= DATA_HEADER)
        return take_log(receiver, message, length, err);
    if (message[0] == 'k' && length == ALIVE_LENGTH) {
        hf_server_clock_note(&receiver->clock, get_big(message + 9));
        return message[ALIVE_LENGTH - 1] == 0 || reply(receiver, err);
    }
    return hf_fail(err, HF_ERR_CORRUPT, "the server sent a message of the kind %02x with %zu bytes in its log stream",
                   message[0], length);
}

static bool
take_log(struct hf_wal_receiver *receiver, const uint8_t *message, size_t length, struct hf_error *err)
{
    uint64_t start = get_big(message + 1);
    char text[HF_LSN_TEXT_BYTES], expected[HF_LSN_TEXT_BYTES];

    if (start != receiver->received)
        return hf_fail(err, HF_ERR_CORRUPT, "the server sent log from %s on, %s was next", hf_lsn_format(start, text),
                       hf_lsn_format(receiver->received, expected));
    hf_server_clock_note(&receiver->clock, get_big(message + 17));
    atomic_fetch_add_explicit(&receiver->options.progress->done, length - DATA_HEADER, memory_order_relaxed);
    return write_log(receiver, message + DATA_HEADER, length - DATA_HEADER, err);
}

/* To the walk, which checks it, and to the segments it belongs to. */
static bool
write_log(struct hf_wal_receiver *receiver, const uint8_t *data, size_t length, struct hf_error *err)
{
    const struct hf_backup_sink *sink = receiver->options.sink;

    if (!hf_wal_walk_feed(receiver->walk, data, length, err))
        return false;
    while (length > 0) {
        uint64_t in_segment = receiver->received % receiver->options.segment_bytes;
        size_t left = (size_t)(receiver->options.segment_bytes - in_segment);
        size_t part = length < left ? length : left;
        if (receiver->segment == NULL && !begin_segment(receiver, err))
            return false;
        if (!sink->file_write(sink->context, receiver->segment, data, part, err))
            return false;
        receiver->received += part;
        data += part;
        length -= part;
        if (part == left && !end_segment(receiver, err))
            return false;
    }
    return true;
}

static bool
begin_segment(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    char name[HF_WAL_NAME_BYTES], path[HF_WAL_NAME_BYTES + 8];

    hf_wal_segment_name(receiver->timeline, receiver->received, receiver->options.segment_bytes, name);
    snprintf(path, sizeof path, "pg_wal/%s", name);
    const struct hf_backup_file file = {.path = path,
                                        .kind = HF_BACKUP_FILE_WAL,
                                        .mode = 0600,
                                        .modified_at = hf_time_now_ms(),
                                        .size = receiver->options.segment_bytes,
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    return receiver->options.sink->file_begin(receiver->options.sink->context, &file, &receiver->segment, err);
}

static bool
end_segment(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    void *handle = receiver->segment;
    receiver->segment = NULL;
    receiver->segments++;
    return receiver->options.sink->file_end(receiver->options.sink->context, handle, err);
}

/* The last segment in full length: a server takes no other. */
static bool
fill_segment(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    static const uint8_t zeros[64 * 1024];
    const struct hf_backup_sink *sink = receiver->options.sink;

    if (receiver->segment == NULL)
        return true;
    uint64_t left = receiver->options.segment_bytes - receiver->received % receiver->options.segment_bytes;
    while (left > 0) {
        size_t part = left < sizeof zeros ? (size_t)left : sizeof zeros;
        if (!sink->file_write(sink->context, receiver->segment, zeros, part, err))
            return false;
        left -= part;
    }
    return end_segment(receiver, err);
}

/* How far we are: 'r', written, flushed, applied, time, no answer wanted. */
static bool
reply(struct hf_wal_receiver *receiver, struct hf_error *err)
{
    uint8_t message[34] = {'r'};
    uint64_t stable = receiver->options.stable == NULL ? 0 : atomic_load(receiver->options.stable);

    put_big(message + 1, receiver->received);
    put_big(message + 9, stable < receiver->received ? stable : receiver->received);
    put_big(message + 17, 0); // nothing is ever applied here
    put_big(message + 25, (uint64_t)(hf_time_now_ms() - HF_POSTGRES_EPOCH_MS) * 1000);
    receiver->replied_ns = hf_monotonic_ns();
    if (PQputCopyData(receiver->conn, (const char *)message, sizeof message) != 1 || PQflush(receiver->conn) < 0)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %.200s", doing,
                       PQerrorMessage(receiver->conn));
    return true;
}

/* The server ended the stream by itself: an error follows, or the timeline is over. */
static bool
fail_ended(const struct hf_wal_receiver *receiver, struct hf_error *err)
{
    const struct hf_postgres_patience patience = patience_of(receiver);
    _cleanup_(hf_postgres_clearp) PGresult *answer = NULL;
    char at[HF_LSN_TEXT_BYTES];

    // Our half of the copy is still open at the end of a timeline, and closed after an error.
    if (!hf_postgres_next(receiver->conn, &patience, doing, PGRES_COPY_IN, &answer, err))
        return false;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "the server left timeline %u at %s, in the middle of the backup",
                   receiver->timeline, hf_lsn_format(receiver->received, at)) ||
           hf_fail_hint(err, "A standby was promoted or followed one that was: take the backup again.");
}

/* Politely, so that the slot is gone when this returns; if the server does not answer, it is gone a little later. */
static void
end_stream(struct hf_wal_receiver *receiver)
{
    const struct hf_postgres_patience patience = {.cancel = &receiver->abandon, .silence_ms = GOODBYE_MS};
    struct hf_error unheard;
    char *message = NULL, command[96];
    int length = 0;

    if (PQputCopyEnd(receiver->conn, NULL) != 1 || PQflush(receiver->conn) < 0)
        return;
    while (length != -1) {
        if (!hf_postgres_copy_next(receiver->conn, &patience, doing, -1, &message, &length, &unheard))
            return;
        PQfreemem(message);
    }
    if (!hf_postgres_finish(receiver->conn, &patience, doing, &unheard))
        return;
    snprintf(command, sizeof command, "DROP_REPLICATION_SLOT \"%s\"", receiver->slot);
    if (hf_postgres_send(receiver->conn, doing, command, &unheard))
        (void)!hf_postgres_finish(receiver->conn, &patience, doing, &unheard);
}

/* False when the thread is still at work after that time. */
static bool
wait_for_end(struct hf_wal_receiver *receiver, uint32_t wait_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += wait_ms / 1000;
    until.tv_nsec += wait_ms % 1000 * 1000000L;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;

    int result = 0;
    pthread_mutex_lock(&receiver->lock);
    while (!receiver->ended && result == 0)
        result = pthread_cond_clockwait(&receiver->changed, &receiver->lock, CLOCK_MONOTONIC, &until);
    bool ended = receiver->ended;
    pthread_mutex_unlock(&receiver->lock);
    return ended;
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

/* For commands, which are answered. */
static struct hf_postgres_patience
patience_of(const struct hf_wal_receiver *receiver)
{
    return (struct hf_postgres_patience){.cancel = &receiver->options.progress->cancel,
                                         .other_ended = &receiver->abandon,
                                         .silence_ms = receiver->options.silence_ms};
}
