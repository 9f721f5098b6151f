#include "server/source/postgres/replay.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

#define SETTINGS_MOST (64 * HF_KIB)
#define COPY_BYTES    (64 * HF_KIB)

struct hf_replay {
    const struct hf_replay_options *options; // borrowed
    struct hf_timeline_path path;
    struct hf_replay_facts facts;
};

/* Feeds the archive's bytes to a walk, until it has seen the target. */
struct proof {
    const struct hf_replay_options *options;
    struct hf_wal_walk *walk;
    uint64_t backup_end;
    bool behind;          // the walk has passed it
    uint64_t own_commits; // before it
    bool over;
};

/* The segment file that is being written. */
struct segments {
    const struct hf_replay *replay;
    int folder; // pg_wal
    int fd;     // -1: none
    char name[HF_WAL_NAME_BYTES];
    uint32_t timeline;
    uint64_t number, written;
    bool sync;
};

struct hf_replay_feed {
    struct hf_replay *replay; // borrowed
    struct segments segments;
    uint64_t fed;
    uint32_t timeline; // of the path whose history files are there
};

static bool begins_before(const struct hf_replay_options *options, struct hf_error *err);
static bool find_path(struct hf_replay *replay, struct hf_error *err);
static bool find_window(struct hf_replay *replay, struct hf_window *ret, struct hf_window *ret_next,
                        struct hf_error *err);
static bool goes_on(const struct hf_window *window, uint64_t own_end);
static uint64_t first_page(const struct hf_window *window);
static bool walk_to_target(struct hf_replay *replay, const struct hf_window *window, struct hf_wal_seen *ret,
                           struct hf_error *err);
static bool feed(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                 struct hf_error *err);
static bool judge(struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next,
                  const struct hf_wal_seen *seen, struct hf_error *err);
static void note_gap(struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next);
static bool refuse_gap(const struct hf_window *window, const struct hf_window *next, const struct hf_wal_seen *seen,
                       struct hf_error *err);
static bool refuse_beyond(const struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next,
                          const struct hf_wal_seen *seen, struct hf_error *err);
static bool put_log(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length,
                    struct hf_error *err);
static bool open_segment(struct segments *segments, uint32_t timeline, uint64_t position, struct hf_error *err);
static bool copy_beginning(struct segments *segments, uint64_t position, struct hf_error *err);
static bool close_segment(struct segments *segments, struct hf_error *err);
static void segments_done(struct segments *segments);
static bool give(const struct hf_replay *replay, int fd, const char *name, struct hf_error *err);
static bool put_histories(const struct hf_replay *replay, int folder, struct hf_error *err);
static bool put_file(const struct hf_replay *replay, int folder, const char *name, int flags, const struct hf_buf *text,
                     struct hf_error *err);
static bool put_settings(const struct hf_replay *replay, int folder, struct hf_error *err);
static bool is_exclusive(const struct hf_wal_target *target);
static bool add_target(const struct hf_replay *replay, struct hf_buf *out, struct hf_error *err);
static bool add_quoted(struct hf_buf *out, const char *text, struct hf_error *err);

bool
hf_replay_prove(const struct hf_replay_options *options, struct hf_replay **ret, struct hf_error *err)
{
    _cleanup_(hf_replay_freep) struct hf_replay *replay = calloc(1, sizeof *replay);
    struct hf_window window, next;
    struct hf_wal_seen seen;
    if (replay == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    replay->options = options;
    if (!hf_wal_segment_bytes_valid(options->facts->wal_segment_bytes))
        return hf_fail(err, HF_ERR_CORRUPT, "the backup says that a log segment has %u bytes",
                       options->facts->wal_segment_bytes);
    if (!begins_before(options, err) || !find_path(replay, err) || !find_window(replay, &window, &next, err) ||
        !walk_to_target(replay, &window, &seen, err) || !judge(replay, &window, &next, &seen, err))
        return false;
    *ret = HF_TAKE(replay);
    return true;
}

void
hf_replay_freep(struct hf_replay **replay)
{
    free(*replay);
    *replay = NULL;
}

struct hf_replay_facts
hf_replay_proven(const struct hf_replay *replay)
{
    return replay->facts;
}

bool
hf_replay_find_hole(const struct hf_replay_options *options, bool *ret_found, struct hf_replay_hole *ret,
                    struct hf_error *err)
{
    _cleanup_(hf_replay_freep) struct hf_replay *replay = calloc(1, sizeof *replay);
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    struct hf_replay_hole hole = {0};
    size_t count;
    if (replay == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    replay->options = options;
    if (!find_path(replay, err) || !hf_archive_windows(options->archive, &replay->path, &windows, &count, err))
        return false;
    *ret_found = false;
    for (size_t i = 0; i < count && hole.to == 0; i++) {
        if (goes_on(&windows[i], replay->facts.own_end))
            return true;
        if (windows[i].end < replay->facts.own_end)
            hole.from = windows[i].end;
        else
            hole.to = windows[i].start;
    }
    if (hole.to == 0) // the archive ends there
        return true;
    hole.recorded = hole.from == 0 || hf_archive_given_up(options->archive, &replay->path, hole.from) >= hole.to;
    *ret_found = true;
    *ret = hole;
    return true;
}

/* Called while nothing can start on the folder yet: see replay.h. */
bool
hf_replay_write(struct hf_replay *replay, const char *folder, uint64_t *ret_log_bytes, struct hf_error *err)
{
    const struct hf_replay_options *options = replay->options;
    const uint64_t from = replay->facts.own_end / HF_WAL_PAGE_BYTES * HF_WAL_PAGE_BYTES;
    _cleanup_(segments_done) struct segments segments = {.replay = replay, .folder = -1, .fd = -1, .sync = true};
    _cleanup_(hf_closep) int top = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", folder);
    segments.folder = openat(top, "pg_wal", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (segments.folder < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s/pg_wal\"", folder);
    if (from < replay->facts.to &&
        !hf_stream_read(options->archive, &replay->path, from, replay->facts.to, put_log, &segments, err))
        return false;
    if (!close_segment(&segments, err) || !put_histories(replay, segments.folder, err))
        return false;
    if (fsync(segments.folder) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s/pg_wal\"", folder);
    if (!put_settings(replay, top, err))
        return false;
    *ret_log_bytes = segments.written;
    return true;
}

bool
hf_replay_follow(struct hf_replay *replay, uint64_t at, uint64_t *ret_end, struct hf_error *err)
{
    struct hf_archive *archive = replay->options->archive;
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    struct hf_timeline_path path;
    char text[HF_LSN_TEXT_BYTES];
    size_t count;
    if (!hf_archive_refresh(archive, err))
        return false;
    const uint32_t newest = hf_archive_newest_timeline(archive);
    if (newest > replay->facts.timeline) {
        if (!hf_archive_path(archive, newest, &path, err))
            return false;
        const struct hf_timeline_step *step = hf_timeline_path_find(&path, replay->facts.timeline);
        if (step == NULL || at > step->end)
            return hf_fail(err, HF_ERR_CONFLICT, "timeline %u left timeline %u before %s, which the copy has replayed",
                           newest, replay->facts.timeline, hf_lsn_format(at, text));
        replay->path = path;
        replay->facts.timeline = newest;
    }
    if (!hf_archive_windows(archive, &replay->path, &windows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (windows[i].start <= replay->facts.to && windows[i].whole > replay->facts.to)
            replay->facts.to = replay->facts.end = windows[i].whole;
    *ret_end = replay->facts.to;
    return true;
}

bool
hf_replay_feed_open(struct hf_replay *replay, const char *folder, struct hf_replay_feed **ret, struct hf_error *err)
{
    _cleanup_(hf_replay_feed_freep) struct hf_replay_feed *feed = calloc(1, sizeof *feed);
    if (feed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    *feed = (struct hf_replay_feed){.replay = replay,
                                    .segments = {.replay = replay, .folder = -1, .fd = -1},
                                    .fed = replay->facts.own_end / HF_WAL_PAGE_BYTES * HF_WAL_PAGE_BYTES};
    _cleanup_(hf_closep) int top = open(folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (top >= 0)
        feed->segments.folder = openat(top, "pg_wal", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (feed->segments.folder < 0 || (replay->options->shared && fchmod(feed->segments.folder, 0777) != 0))
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s/pg_wal\"", folder);
    *ret = HF_TAKE(feed);
    return true;
}

void
hf_replay_feed_freep(struct hf_replay_feed **feed)
{
    if (*feed == NULL)
        return;
    segments_done(&(*feed)->segments);
    free(*feed);
    *feed = NULL;
}

bool
hf_replay_feed(struct hf_replay_feed *feed, uint64_t until, uint64_t *ret_fed, struct hf_error *err)
{
    struct hf_replay *replay = feed->replay;
    until = until < replay->facts.to ? until : replay->facts.to;
    if (feed->timeline != replay->facts.timeline && !put_histories(replay, feed->segments.folder, err))
        return false;
    feed->timeline = replay->facts.timeline;
    if (feed->fed < until) {
        if (!hf_stream_read(replay->options->archive, &replay->path, feed->fed, until, put_log, &feed->segments, err))
            return false;
        feed->fed = until;
    }
    *ret_fed = feed->fed;
    return true;
}

/* The log tells no commits before the backup began: one later than the target would be in the copy unseen. */
static bool
begins_before(const struct hf_replay_options *options, struct hf_error *err)
{
    char target[HF_TIME_TEXT_BYTES], end[HF_TIME_TEXT_BYTES];
    const int64_t finished_at = hf_facts_server_time(options->facts, options->facts->finished_at);
    if (options->target.kind != HF_WAL_TO_TIME || options->target.time >= finished_at)
        return true;
    hf_fail(err, HF_ERR_USAGE, "the backup ended at %s, behind %s", hf_time_format(finished_at, end),
            hf_time_format(options->target.time, target));
    return hf_fail_hint(err, "Name an earlier backup.");
}

static bool
find_path(struct hf_replay *replay, struct hf_error *err)
{
    const struct hf_recovery_facts *backup = replay->options->facts;
    const uint32_t newest = hf_archive_newest_timeline(replay->options->archive);
    const uint32_t timeline = replay->options->timeline != 0 ? replay->options->timeline : newest;
    char stop[HF_LSN_TEXT_BYTES];
    if (newest == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive holds no log: nothing was streamed") ||
               hf_fail_hint(err, "Restore the backup itself: without a moment.");
    if (!hf_archive_path(replay->options->archive, timeline, &replay->path, err))
        return false;
    const struct hf_timeline_step *step = hf_timeline_path_find(&replay->path, backup->stop_timeline);
    if (step == NULL || backup->stop_lsn > step->end)
        return hf_fail(err, HF_ERR_CONFLICT,
                       "the backup ended at %s of timeline %u, which is not on the way to timeline %u",
                       hf_lsn_format(backup->stop_lsn, stop), backup->stop_timeline, timeline) ||
               hf_fail_hint(err, "Name an earlier backup, or another timeline.");
    replay->facts.timeline = timeline;
    // What a backup has behind the place where its timeline was left is of another branch.
    replay->facts.own_end = backup->wal_end_lsn < step->end ? backup->wal_end_lsn : step->end;
    return true;
}

/* The window that goes on where the backup's own log ends, and the one behind it (empty: there is none). */
static bool
find_window(struct hf_replay *replay, struct hf_window *ret, struct hf_window *ret_next, struct hf_error *err)
{
    const struct hf_recovery_facts *backup = replay->options->facts;
    const uint64_t start = backup->start_lsn / backup->wal_segment_bytes * backup->wal_segment_bytes;
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    char text[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES];
    if (!hf_archive_windows(replay->options->archive, &replay->path, &windows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const uint64_t first = first_page(&windows[i]);
        if (!goes_on(&windows[i], replay->facts.own_end))
            continue;
        replay->facts.from = first > start ? first : start;
        *ret = windows[i];
        *ret_next = i + 1 < count ? windows[i + 1] : (struct hf_window){0};
        return true;
    }
    hf_lsn_format(replay->facts.own_end, text);
    if (count == 0 || windows[count - 1].end < replay->facts.own_end)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive ends at %s, before the end of the backup's own log at %s",
                       hf_lsn_format(count == 0 ? 0 : windows[count - 1].end, end), text) ||
               hf_fail_hint(err, "Restore the backup itself, without a moment, or name an earlier backup.");
    return hf_fail(err, HF_ERR_CORRUPT, "the archive has a gap at %s, where the backup's own log ends", text) ||
           hf_fail_hint(err, "Name another backup: one that was begun in a window of the stream.");
}

/* Whether the log goes on in this window where a backup's own log ends: walked over from the start of a page. */
static bool
goes_on(const struct hf_window *window, uint64_t own_end)
{
    return first_page(window) <= own_end / HF_WAL_PAGE_BYTES * HF_WAL_PAGE_BYTES && window->end >= own_end;
}

static uint64_t
first_page(const struct hf_window *window)
{
    return (window->start + HF_WAL_PAGE_BYTES - 1) / HF_WAL_PAGE_BYTES * HF_WAL_PAGE_BYTES;
}

static bool
walk_to_target(struct hf_replay *replay, const struct hf_window *window, struct hf_wal_seen *ret, struct hf_error *err)
{
    const struct hf_replay_options *options = replay->options;
    const struct hf_wal_origin origin = {options->facts->server_version_num / 10000, options->facts->system_identifier,
                                         options->facts->wal_segment_bytes, replay->facts.timeline};
    _cleanup_(hf_wal_walk_freep) struct hf_wal_walk *walk = NULL;
    struct hf_error why = {0};
    if (!hf_wal_walk_new(&origin, replay->facts.from, &walk, err))
        return false;
    hf_wal_walk_look_for(walk, &options->target);
    struct proof proof = {.options = options, .walk = walk, .backup_end = replay->facts.own_end};
    uint64_t end = window->end;
    if (options->search_end > replay->facts.from && options->search_end < end)
        end = options->search_end;
    if (!hf_stream_read(options->archive, &replay->path, replay->facts.from, end, feed, &proof, &why) && !proof.over) {
        if (why.kind == HF_ERR_NOT_FOUND) // the archive's lists have it
            why.kind = HF_ERR_CORRUPT;
        *err = why;
        return hf_fail_within(err, "the log behind the backup is not whole");
    }
    *ret = hf_wal_walk_seen(walk);
    replay->facts.commits = proof.behind ? ret->commits - proof.own_commits : 0;
    return true;
}

/* Ends the reading by failing once the target was seen. */
static bool
feed(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct proof *proof = context;
    size_t own = 0;
    (void)timeline;
    if (proof->options->cancel != NULL && atomic_load(proof->options->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the restore was stopped");
    if (position < proof->backup_end) {
        own = proof->backup_end - position < length ? (size_t)(proof->backup_end - position) : length;
        if (!hf_wal_walk_feed(proof->walk, data, own, err))
            return false;
        proof->own_commits = hf_wal_walk_seen(proof->walk).commits;
    }
    proof->behind = position + length >= proof->backup_end;
    if (!hf_wal_walk_feed(proof->walk, data + own, length - own, err))
        return false;
    proof->over = hf_wal_walk_seen(proof->walk).stop != 0;
    return !proof->over;
}

/* Where does the recovery end, and may it end there? */
static bool
judge(struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next,
      const struct hf_wal_seen *seen, struct hf_error *err)
{
    const struct hf_wal_target *target = &replay->options->target;
    char stop[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES];
    const uint64_t backup = replay->options->facts->stop_lsn;
    const bool whole = target->kind == HF_WAL_TO_THE_END ||
                       (target->kind == HF_WAL_TO_POSITION && seen->stop == 0 && target->position <= seen->end);
    if (seen->stop == 0 && !whole)
        return refuse_beyond(replay, window, next, seen, err);
    if (target->kind == HF_WAL_TO_THE_END && replay->options->up_to_gap)
        note_gap(replay, window, next);
    else if (target->kind == HF_WAL_TO_THE_END && next->end != 0)
        return refuse_gap(window, next, seen, err);
    const uint64_t at = seen->stop != 0 ? seen->stop : seen->end;
    if (at < backup)
        return hf_fail(err, HF_ERR_USAGE, "recovery would stop at %s, before the end of the backup at %s",
                       hf_lsn_format(at, stop), hf_lsn_format(backup, end)) ||
               hf_fail_hint(err, "Name an earlier backup.");
    replay->facts.to = replay->facts.end = seen->stop != 0 ? seen->stop_end : seen->end;
    replay->facts.to_the_end = seen->stop == 0;
    replay->facts.last_commit_at = seen->last_commit_at;
    // A switch makes the rest of its segment void: up to where there are bytes is enough.
    replay->facts.to = replay->facts.to < window->end ? replay->facts.to : window->end;
    return true;
}

/* Also one behind which nothing has come yet. */
static void
note_gap(struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next)
{
    const uint64_t given_up = hf_archive_given_up(replay->options->archive, &replay->path, window->end);
    if (next->end == 0 && given_up == window->end)
        return;
    replay->facts.gap_from = window->end;
    replay->facts.gap_to = next->end != 0 ? next->start : given_up;
    replay->facts.gap_recorded = given_up >= replay->facts.gap_to;
}

static bool
refuse_gap(const struct hf_window *window, const struct hf_window *next, const struct hf_wal_seen *seen,
           struct hf_error *err)
{
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES], last[HF_TIME_TEXT_BYTES], first[HF_TIME_TEXT_BYTES];
    char before[96] = "the backup itself, without a moment", behind[64] = "";
    hf_fail(err, HF_ERR_CORRUPT, "the archive has a gap from %s to %s behind the backup",
            hf_lsn_format(window->end, from), hf_lsn_format(next->start, to));
    if (seen->last_commit_at != 0)
        snprintf(before, sizeof before, "up to %s", hf_time_format(seen->last_commit_at, last));
    if (next->first_time != 0)
        snprintf(behind, sizeof behind, ", after %s", hf_time_format(next->first_time, first));
    return hf_fail_hint(err, "Nearest: %s; or from a backup that was begun behind the gap%s.", before, behind);
}

static bool
refuse_beyond(const struct hf_replay *replay, const struct hf_window *window, const struct hf_window *next,
              const struct hf_wal_seen *seen, struct hf_error *err)
{
    const struct hf_wal_target *target = &replay->options->target;
    char end[HF_LSN_TEXT_BYTES], start[HF_LSN_TEXT_BYTES], last[HF_TIME_TEXT_BYTES], behind[HF_TIME_TEXT_BYTES];
    char where[96], what[128], nearest[128] = "";
    hf_lsn_format(window->end, end);
    hf_time_format(seen->last_commit_at, last);
    if (next->end != 0)
        snprintf(where, sizeof where, "there is a gap from %s to %s", end, hf_lsn_format(next->start, start));
    else
        snprintf(where, sizeof where, "the archive ends at %s", end);
    if (target->kind == HF_WAL_TO_TIME)
        snprintf(what, sizeof what, "no commit later than %s", hf_time_format(target->time, behind));
    else if (target->kind == HF_WAL_TO_TRANSACTION || target->kind == HF_WAL_BEFORE_TRANSACTION)
        snprintf(what, sizeof what, "no end of transaction %u", target->transaction);
    else if (target->kind == HF_WAL_TO_RESTORE_POINT)
        snprintf(what, sizeof what, "no restore point \"%s\"", target->point);
    else
        snprintf(what, sizeof what, "nothing of %s", hf_lsn_format(target->position, start));
    hf_fail(err, HF_ERR_NOT_FOUND,
            "behind the backup the archive has %s: %s, and the newest commit before that is of %s", what, where,
            seen->last_commit_at == 0 ? "no known time" : last);
    if (next->first_time != 0)
        snprintf(nearest, sizeof nearest, " and, from a backup begun behind the gap, after %s",
                 hf_time_format(next->first_time, behind));
    if (seen->last_commit_at == 0)
        return hf_fail_hint(err, "Nearest: the backup itself, without a moment.");
    return hf_fail_hint(err, "Nearest: before %s%s%s.", last, next->end == 0 ? ", or all there is with --latest" : "",
                        nearest);
}

static bool
put_log(void *context, uint32_t timeline, uint64_t position, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct segments *segments = context;
    const struct hf_replay_options *options = segments->replay->options;
    const uint64_t bytes = options->facts->wal_segment_bytes;
    if (options->cancel != NULL && atomic_load(options->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the restore was stopped");
    while (length > 0) {
        const uint64_t within = position % bytes;
        const size_t part = length < bytes - within ? length : (size_t)(bytes - within);
        if ((segments->fd < 0 || segments->timeline != timeline || segments->number != position / bytes) &&
            !open_segment(segments, timeline, position, err))
            return false;
        if (!hf_pwrite_all(segments->fd, data, part, within, segments->name, err))
            return false;
        data += part;
        length -= part;
        position += part;
        segments->written += part;
    }
    return true;
}

/* One that came with the backup is gone on with; a new one is all zeros. */
static bool
open_segment(struct segments *segments, uint32_t timeline, uint64_t position, struct hf_error *err)
{
    const uint32_t bytes = segments->replay->options->facts->wal_segment_bytes;
    struct stat status;
    if (!close_segment(segments, err))
        return false;
    hf_wal_segment_name(timeline, position, bytes, segments->name);
    segments->timeline = timeline;
    segments->number = position / bytes;
    segments->fd =
        openat(segments->folder, segments->name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
    if (segments->fd < 0 || fstat(segments->fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"pg_wal/%s\"", segments->name);
    if (!S_ISREG(status.st_mode) || status.st_nlink > 1)
        return hf_fail(err, HF_ERR_CORRUPT, "\"pg_wal/%s\" of the copy is no plain file", segments->name);
    const bool is_new = status.st_size == 0;
    if (status.st_size != (off_t)bytes && ftruncate(segments->fd, (off_t)bytes) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make room in \"pg_wal/%s\"", segments->name);
    return give(segments->replay, segments->fd, segments->name, err) &&
           (!is_new || position % bytes == 0 || copy_beginning(segments, position, err));
}

/* From the segment of the timeline before: it was written just now, or came with the backup. */
static bool
copy_beginning(struct segments *segments, uint64_t position, struct hf_error *err)
{
    const uint32_t bytes = segments->replay->options->facts->wal_segment_bytes;
    const struct hf_timeline_step *before = hf_timeline_path_at(&segments->replay->path, position - 1);
    char name[HF_WAL_NAME_BYTES];
    hf_wal_segment_name(before->timeline, position - 1, bytes, name);
    _cleanup_(hf_closep) int fd = openat(segments->folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    _cleanup_(hf_freep) uint8_t *copy = malloc(COPY_BYTES);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a part of the log");
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"pg_wal/%s\", with which \"%s\" begins", name,
                             segments->name);
    for (uint64_t at = 0; at < position % bytes;) {
        const uint64_t left = position % bytes - at;
        const size_t part = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
        if (!hf_pread_all(fd, copy, part, at, name, err) ||
            !hf_pwrite_all(segments->fd, copy, part, at, segments->name, err))
            return false;
        at += part;
    }
    return true;
}

static bool
close_segment(struct segments *segments, struct hf_error *err)
{
    if (segments->fd < 0)
        return true;
    if (segments->sync && fsync(segments->fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"pg_wal/%s\"", segments->name);
    hf_closep(&segments->fd);
    segments->fd = -1;
    return true;
}

static void
segments_done(struct segments *segments)
{
    hf_closep(&segments->fd);
    hf_closep(&segments->folder);
}

static bool
give(const struct hf_replay *replay, int fd, const char *name, struct hf_error *err)
{
    const struct hf_replay_options *options = replay->options;
    if (options->shared && fchmod(fd, 0666) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\" to the copy", name);
    return !options->owner || fchown(fd, options->uid, options->gid) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to its owner", name);
}

/* The server asks for those of all timelines on the way; the first has none. */
static bool
put_histories(const struct hf_replay *replay, int folder, struct hf_error *err)
{
    char name[HF_TIMELINE_NAME_BYTES];
    for (size_t i = 0; i < replay->path.count; i++) {
        const uint32_t timeline = replay->path.steps[i].timeline;
        _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_TIMELINE_FILE_MOST);
        if (timeline == 1)
            continue;
        if (!hf_archive_has_history(replay->options->archive, timeline) && timeline != replay->facts.timeline)
            continue; // the newest one's file says all that recovery reads
        if (!hf_archive_history(replay->options->archive, timeline, &text, err) ||
            !put_file(replay, folder, hf_timeline_file_name(timeline, name), O_TRUNC, &text, err))
            return false;
    }
    return true;
}

static bool
put_file(const struct hf_replay *replay, int folder, const char *name, int flags, const struct hf_buf *text,
         struct hf_error *err)
{
    _cleanup_(hf_closep) int fd =
        openat(folder, name, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", name);
    return hf_write_all(fd, text->data, text->length, name, err) && give(replay, fd, name, err) &&
           (fsync(fd) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", name));
}

/*
 * Behind all that the source has set: the last of several settings of one name counts.  The server refuses two targets,
 * also while it reads the file, so the others are emptied before ours is named.
 */
static bool
put_settings(const struct hf_replay *replay, int folder, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(SETTINGS_MOST);
    _cleanup_(hf_buf_done) struct hf_buf none = HF_BUF_INIT(1);
    if (!hf_buf_printf(&text, err,
                       "\n# Written by Holdfast: a restore to a moment.  All log that it needs lies in pg_wal.\n"
                       "archive_mode = off\n"
                       "restore_command = 'exit 1'\n"
                       "recovery_end_command = ''\n"
                       "archive_cleanup_command = ''\n"
                       "recovery_target_timeline = '%u'\n"
                       "recovery_target = ''\n"
                       "recovery_target_name = ''\n"
                       "recovery_target_time = ''\n"
                       "recovery_target_xid = ''\n"
                       "recovery_target_lsn = ''\n"
                       "recovery_target_inclusive = %s\n"
                       "recovery_target_action = %s\n",
                       replay->facts.timeline, is_exclusive(&replay->options->target) ? "off" : "on",
                       replay->options->action) ||
        !add_target(replay, &text, err) || !put_file(replay, folder, "postgresql.auto.conf", O_APPEND, &text, err))
        return false;
    // Of a backup that was taken from a standby: it would win over recovery.signal, and never stop.
    if (unlinkat(folder, "standby.signal", 0) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"standby.signal\"");
    if (!put_file(replay, folder, "recovery.signal", O_TRUNC, &none, err))
        return false;
    return fsync(folder) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not write the restored folder");
}

/* Recovery stops before the record that it names. */
static bool
is_exclusive(const struct hf_wal_target *target)
{
    return target->kind == HF_WAL_TO_POSITION || target->kind == HF_WAL_BEFORE_TRANSACTION;
}

static bool
add_target(const struct hf_replay *replay, struct hf_buf *out, struct hf_error *err)
{
    const struct hf_wal_target *target = &replay->options->target;
    char text[HF_TIME_TEXT_BYTES];
    if (replay->facts.to_the_end)
        return true;
    switch (target->kind) {
    case HF_WAL_TO_THE_END:
        return true;
    case HF_WAL_TO_TIME:
        // The zone as a number: of the "Z" the server knows nothing yet when it reads its settings.
        hf_time_format(target->time, text);
        return hf_buf_printf(out, err, "recovery_target_time = '%.*s+00'\n", (int)strlen(text) - 1, text);
    case HF_WAL_TO_POSITION:
        return hf_buf_printf(out, err, "recovery_target_lsn = '%s'\n", hf_lsn_format(target->position, text));
    case HF_WAL_TO_TRANSACTION:
    case HF_WAL_BEFORE_TRANSACTION:
        return hf_buf_printf(out, err, "recovery_target_xid = '%u'\n", target->transaction);
    case HF_WAL_TO_RESTORE_POINT:
        return hf_buf_add_text(out, "recovery_target_name = '", err) && add_quoted(out, target->point, err) &&
               hf_buf_add_text(out, "'\n", err);
    }
    return hf_fail(err, HF_ERR_USAGE, "a target of no known kind");
}

/* As the server's reader of settings undoes it. */
static bool
add_quoted(struct hf_buf *out, const char *text, struct hf_error *err)
{
    for (const char *at = text; *at != '\0'; at++)
        if (((*at == '\'' || *at == '\\') && !hf_buf_put_u8(out, (uint8_t)*at, err)) ||
            !hf_buf_put_u8(out, (uint8_t)*at, err))
            return false;
    return true;
}
