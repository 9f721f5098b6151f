#include "server/stream/writer.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "server/stream/seal.h"

#define SEAL_BYTES   (64 * HF_MIB)
#define SEAL_MS      60000
#define CLOSED_MOST  64 // journals that wait to be sealed
#define SEAL_TRIES   3
#define SEAL_WAIT_MS 2000 // between the tries

/* A journal that nobody writes any more, and where the stream stood at its end. */
struct closed {
    char *path;
    uint64_t end;
};

struct hf_stream_writer {
    struct hf_stream_options options;
    char *folder;
    int lock_fd;
    int event_fd;
    struct stream_sealer sealer; // of the sealing thread, or of the caller while nothing waits to be sealed
    struct hf_archive *archive;

    struct hf_journal *journal; // the receiver makes and closes it; the syncing thread borrows it while `syncing`
    uint64_t journal_since_ns;
    uint64_t next_number;
    struct hf_frame mark; // the last one; kind 0: none
    char *mark_text;

    pthread_t syncer, sealing;
    bool has_syncer, has_sealing;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t changed;
    bool stop, syncing;
    uint64_t appended, synced; // frames
    uint64_t received_whole;
    struct hf_stream_positions positions;
    struct closed closed[CLOSED_MOST];
    size_t closed_count;
    bool failed;
    struct hf_error failure;
};

static bool open_folder(struct hf_stream_writer *writer, struct hf_error *err);
static bool recover(struct hf_stream_writer *writer, struct hf_error *err);
static bool start_threads(struct hf_stream_writer *writer, struct hf_error *err);
static bool append(struct hf_stream_writer *writer, const struct hf_frame *frame, const uint8_t *data, size_t length,
                   struct hf_error *err);
static bool open_journal(struct hf_stream_writer *writer, struct hf_error *err);
static bool close_journal(struct hf_stream_writer *writer, struct hf_error *err);
static void *run_syncer(void *context);
static void *run_sealing(void *context);
static bool seal_one(struct hf_stream_writer *writer, const char *path, struct hf_error *err);
static void wait_ms(struct hf_stream_writer *writer, int64_t ms);
static bool check(struct hf_stream_writer *writer, struct hf_error *err);
static void fail(struct hf_stream_writer *writer, const struct hf_error *why);
static void ring(struct hf_stream_writer *writer);

bool
hf_stream_writer_open(const struct hf_stream_options *options, struct hf_stream_writer **ret, struct hf_error *err)
{
    _cleanup_(hf_stream_writer_freep) struct hf_stream_writer *writer = calloc(1, sizeof *writer);
    if (writer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream");
    writer->options = *options;
    writer->lock_fd = writer->event_fd = -1;
    pthread_mutex_init(&writer->lock, NULL);
    pthread_cond_init(&writer->changed, NULL);
    if (writer->options.seal_bytes == 0)
        writer->options.seal_bytes = SEAL_BYTES;
    if (writer->options.seal_ms == 0)
        writer->options.seal_ms = SEAL_MS;
    writer->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->event_fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make an event");
    if (!sealer_init(&writer->sealer, options, err) || !open_folder(writer, err) || !recover(writer, err) ||
        !hf_archive_open(options->vault, writer->folder, &writer->archive, err) || !start_threads(writer, err))
        return hf_fail_within(err, "could not go on with the stream of \"%s\"", options->source);
    *ret = HF_TAKE(writer);
    return true;
}

bool
hf_stream_writer_archive(struct hf_stream_writer *writer, struct hf_archive **ret, struct hf_error *err)
{
    if (!hf_stream_writer_seal(writer, err) || !hf_archive_refresh(writer->archive, err))
        return false;
    *ret = writer->archive;
    return true;
}

bool
hf_stream_writer_append(struct hf_stream_writer *writer, const struct hf_frame *frame, const uint8_t *data,
                        size_t length, struct hf_error *err)
{
    struct hf_frame piece = *frame;
    while (length > 0) {
        const size_t part = length < HF_JOURNAL_DATA_MOST ? length : HF_JOURNAL_DATA_MOST;
        if (!append(writer, &piece, data, part, err))
            return false;
        piece.position += part;
        piece.commits = 0; // told once
        piece.first_time = piece.last_time = 0;
        data += part;
        length -= part;
    }
    return writer->journal == NULL || hf_journal_bytes(writer->journal) < writer->options.seal_bytes ||
           close_journal(writer, err);
}

bool
hf_stream_writer_history(struct hf_stream_writer *writer, uint32_t timeline, uint64_t position, const void *data,
                         size_t length, struct hf_error *err)
{
    const struct hf_frame frame = {
        .kind = HF_FRAME_HISTORY, .timeline = timeline, .position = position, .whole = position};
    if (length > HF_TIMELINE_FILE_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the history of timeline %u is longer than %zu bytes", timeline,
                       HF_TIMELINE_FILE_MOST);
    return append(writer, &frame, data, length, err) && hf_stream_writer_sync(writer, err);
}

bool
hf_stream_writer_mark(struct hf_stream_writer *writer, uint32_t timeline, uint64_t position, const char *text,
                      struct hf_error *err)
{
    const struct hf_frame frame = {
        .kind = HF_FRAME_MARK, .timeline = timeline, .position = position, .whole = position};
    if (strlen(text) > HF_JOURNAL_MARK_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "a mark of the stream is longer than %zu bytes", HF_JOURNAL_MARK_MOST);
    char *copy = strdup(text);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a mark of the stream");
    free(writer->mark_text);
    writer->mark_text = copy;
    writer->mark = frame;
    // With no journal open it waits for the log that comes: a stream that brings nothing writes nothing.
    return writer->journal == NULL || append(writer, &frame, (const uint8_t *)text, strlen(text), err);
}

bool
hf_stream_writer_sync(struct hf_stream_writer *writer, struct hf_error *err)
{
    pthread_mutex_lock(&writer->lock);
    while (!writer->failed && writer->synced < writer->appended)
        pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
    return check(writer, err);
}

bool
hf_stream_writer_tick(struct hf_stream_writer *writer, struct hf_error *err)
{
    if (!check(writer, err))
        return false;
    const int64_t age_ms = (int64_t)((hf_monotonic_ns() - writer->journal_since_ns) / 1000000);
    return writer->journal == NULL || age_ms < writer->options.seal_ms || close_journal(writer, err);
}

bool
hf_stream_writer_seal(struct hf_stream_writer *writer, struct hf_error *err)
{
    if (!close_journal(writer, err))
        return false;
    pthread_mutex_lock(&writer->lock);
    while (!writer->failed && writer->closed_count > 0)
        pthread_cond_wait(&writer->changed, &writer->lock);
    pthread_mutex_unlock(&writer->lock);
    return check(writer, err);
}

bool
hf_stream_writer_gap(struct hf_stream_writer *writer, const struct hf_vault_gap *gap, const char *cause,
                     struct hf_error *err)
{
    if (!hf_stream_writer_seal(writer, err) || !sealer_gap(&writer->sealer, gap, cause, err))
        return false;
    pthread_mutex_lock(&writer->lock);
    writer->positions.sequence = writer->sealer.sequence;
    pthread_mutex_unlock(&writer->lock);
    return hf_archive_refresh(writer->archive, err);
}

void
hf_stream_writer_positions(struct hf_stream_writer *writer, struct hf_stream_positions *ret)
{
    pthread_mutex_lock(&writer->lock);
    *ret = writer->positions;
    pthread_mutex_unlock(&writer->lock);
}

int
hf_stream_writer_event(const struct hf_stream_writer *writer)
{
    return writer->event_fd;
}

bool
hf_stream_writer_close(struct hf_stream_writer **writer, struct hf_error *err)
{
    _cleanup_(hf_stream_writer_freep) struct hf_stream_writer *taken = HF_TAKE(*writer);
    return hf_stream_writer_seal(taken, err) && sealer_end(&taken->sealer, err);
}

void
hf_stream_writer_freep(struct hf_stream_writer **pointer)
{
    struct hf_stream_writer *writer = *pointer;
    if (writer == NULL)
        return;
    pthread_mutex_lock(&writer->lock);
    writer->stop = true;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    if (writer->has_syncer)
        pthread_join(writer->syncer, NULL);
    if (writer->has_sealing)
        pthread_join(writer->sealing, NULL);
    hf_journal_freep(&writer->journal);
    for (size_t i = 0; i < writer->closed_count; i++)
        free(writer->closed[i].path);
    hf_archive_freep(&writer->archive);
    sealer_done(&writer->sealer);
    hf_closep(&writer->event_fd);
    hf_closep(&writer->lock_fd);
    pthread_cond_destroy(&writer->changed);
    pthread_mutex_destroy(&writer->lock);
    free(writer->folder);
    free(writer->mark_text);
    free(writer);
    *pointer = NULL;
}

/* The lock dies with its process. */
static bool
open_folder(struct hf_stream_writer *writer, struct hf_error *err)
{
    const struct hf_stream_options *options = &writer->options;
    _cleanup_(hf_freep) char *path = NULL;
    if (options->journal_folder == NULL ? !hf_journal_folder(options->vault, &writer->folder, err)
                                        : (writer->folder = strdup(options->journal_folder)) == NULL)
        return options->journal_folder == NULL ? false : hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_make(writer->folder, 0700, err))
        return false;
    if ((path = hf_path_join(writer->folder, "lock")) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    writer->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (writer->lock_fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (flock(writer->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno != EWOULDBLOCK)
        return hf_fail_errno(err, HF_ERR_NONE, "could not take lock \"%s\"", path);
    return hf_fail(err, HF_ERR_CONFLICT, "another process receives this stream");
}

static bool
recover(struct hf_stream_writer *writer, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (!hf_journal_list(writer->folder, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_freep) char *path = hf_path_join(writer->folder, names[i]), *aside = NULL;
        struct hf_error why = {0};
        if (path == NULL || asprintf(&aside, "%s.damaged", path) < 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (sealer_journal(&writer->sealer, path, &why))
            continue;
        if (why.kind != HF_ERR_CORRUPT || rename(path, aside) != 0) {
            if (err != NULL)
                *err = why;
            return false;
        }
        hf_log_warning(&why, "a journal cannot be read and is put aside as \"%s\"; what it held is asked for again",
                       aside);
    }
    writer->next_number = count == 0 ? 1 : hf_journal_number(names[count - 1]) + 1;
    return true;
}

static bool
start_threads(struct hf_stream_writer *writer, struct hf_error *err)
{
    int result = pthread_create(&writer->syncer, NULL, run_syncer, writer);
    writer->has_syncer = result == 0;
    if (result == 0) {
        result = pthread_create(&writer->sealing, NULL, run_sealing, writer);
        writer->has_sealing = result == 0;
    }
    return result == 0 ||
           hf_fail(err, HF_ERR_UNAVAILABLE, "could not start a thread for the stream: %s", strerrordesc_np(result));
}

static bool
append(struct hf_stream_writer *writer, const struct hf_frame *frame, const uint8_t *data, size_t length,
       struct hf_error *err)
{
    if (!check(writer, err) || (writer->journal == NULL && !open_journal(writer, err)))
        return false;
    if (!hf_journal_append(writer->journal, frame, data, length, err)) {
        const struct hf_error why = err != NULL ? *err : (struct hf_error){.kind = HF_ERR_UNAVAILABLE};
        fail(writer, &why);
        return false;
    }
    pthread_mutex_lock(&writer->lock);
    writer->appended++;
    writer->positions.journal_bytes += length;
    if (frame->kind == HF_FRAME_LOG) {
        writer->positions.timeline = frame->timeline;
        writer->positions.received = frame->position + length;
        writer->received_whole = frame->whole;
    }
    if (frame->last_time > writer->positions.newest_time)
        writer->positions.newest_time = frame->last_time;
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
    return true;
}

static bool
open_journal(struct hf_stream_writer *writer, struct hf_error *err)
{
    struct hf_journal *made;
    if (!hf_journal_create(writer->folder, writer->next_number, hf_vault_keys(writer->options.vault),
                           writer->options.seal_bytes + HF_JOURNAL_PLAIN_MOST, &made, err))
        return false;
    writer->next_number++;
    writer->journal_since_ns = hf_monotonic_ns();
    pthread_mutex_lock(&writer->lock);
    writer->journal = made;
    pthread_mutex_unlock(&writer->lock);
    return writer->mark.kind == 0 ||
           append(writer, &writer->mark, (const uint8_t *)writer->mark_text, strlen(writer->mark_text), err);
}

/* The last bytes go to the disk, and the file to the thread that seals. */
static bool
close_journal(struct hf_stream_writer *writer, struct hf_error *err)
{
    if (writer->journal == NULL)
        return check(writer, err);
    char *path = strdup(hf_journal_path(writer->journal));
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    pthread_mutex_lock(&writer->lock);
    while (!writer->failed &&
           (writer->synced < writer->appended || writer->syncing || writer->closed_count == CLOSED_MOST))
        pthread_cond_wait(&writer->changed, &writer->lock);
    const bool ok = !writer->failed;
    if (ok) {
        hf_journal_freep(&writer->journal);
        writer->closed[writer->closed_count++] = (struct closed){path, writer->positions.received};
        pthread_cond_broadcast(&writer->changed);
    }
    pthread_mutex_unlock(&writer->lock);
    if (!ok)
        free(path);
    return check(writer, err);
}

/* One sync for all that came while the last one ran. */
static void *
run_syncer(void *context)
{
    struct hf_stream_writer *writer = context;
    pthread_mutex_lock(&writer->lock);
    while (!writer->stop && !writer->failed) {
        if (writer->synced == writer->appended) {
            pthread_cond_wait(&writer->changed, &writer->lock);
            continue;
        }
        const uint64_t appended = writer->appended, received = writer->positions.received;
        const uint64_t whole = writer->received_whole;
        struct hf_error why = {0};
        writer->syncing = true;
        pthread_mutex_unlock(&writer->lock);
        const bool ok = hf_journal_sync(writer->journal, &why);
        pthread_mutex_lock(&writer->lock);
        writer->syncing = false;
        if (ok) {
            writer->synced = appended;
            writer->positions.durable = received;
            writer->positions.durable_whole = whole;
            writer->positions.synced = appended;
        } else if (!writer->failed) {
            writer->failed = true;
            writer->failure = why;
        }
        pthread_cond_broadcast(&writer->changed);
        ring(writer);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

static void *
run_sealing(void *context)
{
    struct hf_stream_writer *writer = context;
    pthread_mutex_lock(&writer->lock);
    while (!writer->stop && !writer->failed) {
        if (writer->closed_count == 0) {
            pthread_cond_wait(&writer->changed, &writer->lock);
            continue;
        }
        const struct closed next = writer->closed[0];
        struct hf_error why = {0};
        pthread_mutex_unlock(&writer->lock);
        const bool ok = seal_one(writer, next.path, &why);
        pthread_mutex_lock(&writer->lock);
        if (ok) {
            free(next.path);
            memmove(writer->closed, writer->closed + 1, --writer->closed_count * sizeof *writer->closed);
            writer->positions.sealed = next.end;
            writer->positions.sequence = writer->sealer.sequence;
            if (writer->closed_count == 0 && writer->journal == NULL)
                writer->positions.journal_bytes = 0;
        } else if (!writer->failed) {
            writer->failed = true;
            writer->failure = why;
        }
        pthread_cond_broadcast(&writer->changed);
        ring(writer);
    }
    pthread_mutex_unlock(&writer->lock);
    return NULL;
}

/* A full disk or an absent daemon may come back; meanwhile receiving goes on. */
static bool
seal_one(struct hf_stream_writer *writer, const char *path, struct hf_error *err)
{
    for (int tries = 1;; tries++) {
        if (sealer_journal(&writer->sealer, path, err))
            return true;
        if (tries == SEAL_TRIES || (err->kind != HF_ERR_UNAVAILABLE && err->kind != HF_ERR_NO_SPACE))
            return false;
        hf_log_warning(err, "trying again in %d ms", SEAL_WAIT_MS);
        wait_ms(writer, SEAL_WAIT_MS);
    }
}

static void
wait_ms(struct hf_stream_writer *writer, int64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += ms % 1000 * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&writer->lock);
    while (!writer->stop && !writer->failed)
        if (pthread_cond_clockwait(&writer->changed, &writer->lock, CLOCK_MONOTONIC, &until) != 0)
            break;
    pthread_mutex_unlock(&writer->lock);
}

static bool
check(struct hf_stream_writer *writer, struct hf_error *err)
{
    pthread_mutex_lock(&writer->lock);
    const bool failed = writer->failed;
    if (failed && err != NULL)
        *err = writer->failure;
    pthread_mutex_unlock(&writer->lock);
    return !failed;
}

static void
fail(struct hf_stream_writer *writer, const struct hf_error *why)
{
    pthread_mutex_lock(&writer->lock);
    if (!writer->failed) {
        writer->failed = true;
        writer->failure = *why;
    }
    pthread_cond_broadcast(&writer->changed);
    pthread_mutex_unlock(&writer->lock);
}

static void
ring(struct hf_stream_writer *writer)
{
    const uint64_t one = 1;
    (void)!write(writer->event_fd, &one, sizeof one);
}
