#include "server/verify/postgres/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "server/source/postgres/connection.h"

#define WINDOW_BYTES  (256 * HF_MIB) // log that lies ahead of the copy
#define PIECE_BYTES   (32 * HF_MIB)  // that are placed at once
#define KEPT_BYTES    HF_GIB         // log that the copy keeps behind it until its next restart point
#define OWN_END_MS    60000          // for the receiver to come where the backup ended, where no bound is set
#define STANDSTILL_MS 30000          // replay that does not move for so long has stopped
#define LOOK_EVERY_US 50000
#define REFRESH_MS    500
#define SILENCE_MS    30000
#define PAGE_HEADER   40 // a server that stands at the end of a page may say that it stands behind the next header

struct hf_copy_log {
    struct hf_attempt *attempt;            // borrowed
    const struct hf_recovery_facts *facts; // borrowed
    struct hf_verify_check *check, *caught_up;
    struct hf_archive *archive;
    struct hf_replay_options options;
    struct hf_replay *replay; // NULL: there is nothing to replay, and the check says why
    bool cut_off;             // a gap on record lies between the copy and the newest log: it cannot follow the source
    struct hf_replay_facts proven;
    struct hf_replay_feed *feed;
    uint64_t fed;
    char timeline[16]; // "": the newest
};

static bool wait_for_own_end(struct hf_copy_log *log, bool *ret_waited, struct hf_error *err);
static bool reaches_own_end(struct hf_copy_log *log, char *ret_end, struct hf_error *err);
static bool prove(struct hf_copy_log *log, struct hf_error *err);
static bool prove_on(struct hf_copy_log *log, uint32_t timeline, struct hf_error *err);
static bool settle_proof(struct hf_copy_log *log, const struct hf_error *failure, struct hf_error *err);
static bool settle_hole(struct hf_copy_log *log, bool *ret_settled, struct hf_error *err);
static void tell_stream(struct hf_copy_log *log);
static bool feed_to(struct hf_copy_log *log, uint64_t until, struct hf_verify_check *check, bool *ret_goes_on,
                    struct hf_error *err);
static bool ask_position(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_verify_check *check,
                         uint64_t *ret);
static void judge_archive(struct hf_copy_log *log, uint64_t reached);
static bool sample_source(struct hf_copy_log *log, uint64_t *ret, struct hf_error *err);
static bool chase(struct hf_copy_log *log, struct hf_asker_conn *conn, uint64_t wanted, struct hf_error *err);
static uint64_t now_ms(void);

bool
hf_copy_log_begin(struct hf_attempt *attempt, const struct hf_recovery_facts *facts, struct hf_copy_log **ret,
                  struct hf_error *err)
{
    _cleanup_(hf_copy_log_freep) struct hf_copy_log *log = calloc(1, sizeof *log);
    struct hf_error failure;
    if (log == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the log behind a backup");
    *log = (struct hf_copy_log){.attempt = attempt,
                                .facts = facts,
                                .check = hf_attempt_check(attempt, "archive"),
                                .caught_up = hf_attempt_check(attempt, "caught_up")};
    log->check->required = attempt->options->streamed;
    log->caught_up->required = attempt->options->streamed && attempt->options->catch_up_ms > 0;
    if (!attempt->options->streamed)
        hf_check_cannot_tell(log->caught_up, "no log of this source is received as it is written");
    else if (!log->caught_up->required)
        hf_check_cannot_tell(log->caught_up, "the source is set up not to be caught up with");
    if (!hf_archive_open(attempt->vault, NULL, &log->archive, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        log->check->required = true; // there is something, and it does not read
        hf_check_fail(log->check, "%s", failure.message);
        *ret = NULL;
        return true;
    }
    if (!attempt->options->streamed && hf_archive_newest_timeline(log->archive) == 0) {
        hf_check_cannot_tell(log->check, "no log of this source was ever received as it was written");
        *ret = NULL;
        return true;
    }
    *ret = HF_TAKE(log);
    return true;
}

void
hf_copy_log_freep(struct hf_copy_log **log)
{
    if (*log == NULL)
        return;
    hf_replay_feed_freep(&(*log)->feed);
    hf_replay_freep(&(*log)->replay);
    hf_archive_freep(&(*log)->archive);
    free(*log);
    *log = NULL;
}

/* Tables can grow by what is replayed; more than to twice their size is not foreseen. */
uint64_t
hf_copy_log_room(const struct hf_copy_log *log, uint64_t bytes)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    struct hf_timeline_path path;
    size_t count;
    uint64_t most = 0;
    if (hf_archive_path(log->archive, hf_archive_newest_timeline(log->archive), &path, NULL) &&
        hf_archive_windows(log->archive, &path, &windows, &count, NULL))
        for (size_t i = 0; i < count; i++)
            if (windows[i].end > log->facts->wal_end_lsn)
                most += windows[i].end - log->facts->wal_end_lsn;
    const uint64_t kept = most < WINDOW_BYTES + KEPT_BYTES ? most : WINDOW_BYTES + KEPT_BYTES;
    return (most < bytes ? most : bytes) + kept + 4 * (uint64_t)log->facts->wal_segment_bytes;
}

bool
hf_copy_log_place(struct hf_copy_log *log, struct hf_error *err)
{
    bool goes_on, waited;
    hf_check_begin(log->check);
    if (!wait_for_own_end(log, &waited, err))
        return false;
    if (waited)
        hf_attempt_phase(log->attempt, "recover");
    if (log->check->verdict == HF_VERDICT_NOT_RUN && !prove(log, err))
        return false;
    if (log->replay == NULL)
        return true;
    log->proven = hf_replay_proven(log->replay);
    return hf_replay_feed_open(log->replay, log->attempt->data, &log->feed, err) &&
           feed_to(log, log->proven.own_end + PIECE_BYTES, log->check, &goes_on, err);
}

const char *
hf_copy_log_timeline(const struct hf_copy_log *log)
{
    return log->timeline[0] != 0 ? log->timeline : NULL;
}

uint64_t
hf_copy_log_own_end(const struct hf_copy_log *log)
{
    return log->replay != NULL ? log->proven.own_end : log->facts->wal_end_lsn;
}

bool
hf_copy_log_replay(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_error *err)
{
    char reached[HF_LSN_TEXT_BYTES], wanted[HF_LSN_TEXT_BYTES];
    uint64_t at = 0, last = 0, moved_ms = now_ms();
    bool goes_on = true;
    if (log->replay == NULL)
        return true;
    for (;;) {
        if (!hf_attempt_goes_on(log->attempt, err))
            return false;
        if (!ask_position(log, conn, log->check, &at))
            return true;
        const uint64_t ahead = at + WINDOW_BYTES < log->fed + PIECE_BYTES ? at + WINDOW_BYTES : log->fed + PIECE_BYTES;
        if (log->fed < log->proven.to && ahead > log->fed && !feed_to(log, ahead, log->check, &goes_on, err))
            return false;
        if (!goes_on)
            return true;
        if (log->fed >= log->proven.to && at >= log->proven.end)
            break;
        if (at > last) {
            last = at;
            moved_ms = now_ms();
        }
        if (now_ms() - moved_ms > STANDSTILL_MS) {
            hf_lsn_format(at, reached);
            hf_check_found(log->check, "log_ends_early", -1, "%s", reached);
            hf_check_fail(log->check, "replay stopped at %s, the archive reaches to %s", reached,
                          hf_lsn_format(log->proven.end, wanted));
            log->attempt->over = true;
            return true;
        }
        usleep(LOOK_EVERY_US);
    }
    judge_archive(log, at);
    return true;
}

bool
hf_copy_log_follow(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_error *err)
{
    struct hf_verify_check *check = log->caught_up;
    uint64_t wanted;
    if (!check->required)
        return true;
    hf_check_begin(check);
    if (log->cut_off) { // the window ends there, and not the backup's worth
        check->required = false;
        hf_check_cannot_tell(check, "a gap of the archive, on record, lies between the copy and where the source is");
        return true;
    }
    if (log->replay == NULL || log->check->verdict != HF_VERDICT_PASSED) {
        hf_check_cannot_tell(check, "the archived log could not be replayed to its end: %.300s", log->check->reason);
        return true;
    }
    if (log->attempt->options->live == NULL) {
        hf_check_cannot_tell(check, "the source could not be asked where it stands: from here it is not reached");
        return true;
    }
    struct hf_error failure;
    if (!sample_source(log, &wanted, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        hf_check_cannot_tell(check, "the source could not be asked where it stands: %.350s", failure.message);
        return true;
    }
    return chase(log, conn, wanted, err);
}

/* A receiver seals what it has, and a backup can be faster than it. */
static bool
wait_for_own_end(struct hf_copy_log *log, bool *ret_waited, struct hf_error *err)
{
    const uint64_t asked_ms = log->attempt->options->catch_up_ms;
    const uint64_t bound_ms = !log->attempt->options->streamed ? 0 : asked_ms > 0 ? asked_ms : OWN_END_MS;
    const uint64_t began_ms = now_ms();
    char end[HF_LSN_TEXT_BYTES] = "", own[HF_LSN_TEXT_BYTES];
    struct hf_error failure;
    *ret_waited = false;
    while (!reaches_own_end(log, end, &failure)) {
        if (failure.kind != HF_ERR_NOT_FOUND)
            return settle_proof(log, &failure, err);
        if (!*ret_waited && bound_ms > 0)
            hf_attempt_phase(log->attempt, HF_VERIFY_WAIT);
        *ret_waited = bound_ms > 0;
        if (!hf_attempt_goes_on(log->attempt, err))
            return false;
        if (now_ms() - began_ms >= bound_ms) {
            hf_check_cannot_tell(log->check, "the archive %s%s, before the end of the backup's own log at %s%s",
                                 end[0] != 0 ? "ends at " : "is empty", end,
                                 hf_lsn_format(log->facts->wal_end_lsn, own),
                                 bound_ms > 0 ? ", and nothing came while it was waited for" : "");
            return true;
        }
        usleep(REFRESH_MS * 1000);
        if (!hf_archive_refresh(log->archive, &failure))
            return settle_proof(log, &failure, err);
    }
    return true;
}

/* NOT_FOUND: not yet.  A backup that is not on the way to the newest timeline waits for nothing: prove() tells why. */
static bool
reaches_own_end(struct hf_copy_log *log, char *ret_end, struct hf_error *err)
{
    const uint32_t newest = hf_archive_newest_timeline(log->archive);
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    struct hf_timeline_path path;
    size_t count;
    if (newest == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive is empty");
    if (!hf_archive_path(log->archive, newest, &path, err) ||
        !hf_archive_windows(log->archive, &path, &windows, &count, err))
        return false;
    const struct hf_timeline_step *step = hf_timeline_path_find(&path, log->facts->stop_timeline);
    if (step == NULL || log->facts->stop_lsn > step->end)
        return true;
    const uint64_t end = count > 0 ? windows[count - 1].end : 0;
    hf_lsn_format(end, ret_end);
    return end >= (log->facts->wal_end_lsn < step->end ? log->facts->wal_end_lsn : step->end) ||
           hf_fail(err, HF_ERR_NOT_FOUND, "the archive ends before the backup");
}

/* Along the newest timeline that the backup lies on. */
static bool
prove(struct hf_copy_log *log, struct hf_error *err)
{
    const uint32_t newest = hf_archive_newest_timeline(log->archive);
    struct hf_error failure = {0}, first = {0};
    hf_attempt_phase(log->attempt, "prove_log");
    for (uint32_t timeline = newest; timeline >= log->facts->stop_timeline; timeline--) {
        if (prove_on(log, timeline, &failure)) {
            if (timeline != newest)
                snprintf(log->timeline, sizeof log->timeline, "%" PRIu32, timeline);
            hf_attempt_phase(log->attempt, "recover");
            return true;
        }
        if (timeline == newest)
            first = failure;
        if (failure.kind != HF_ERR_CONFLICT && !(failure.kind == HF_ERR_NOT_FOUND && timeline != newest))
            break;
    }
    hf_attempt_phase(log->attempt, "recover");
    bool settled = false;
    if (failure.kind == HF_ERR_CORRUPT && !settle_hole(log, &settled, &first))
        return settle_proof(log, &first, err);
    if (settled)
        return true;
    return settle_proof(log, failure.kind == HF_ERR_CORRUPT || hf_attempt_is_fatal(&failure) ? &failure : &first, err);
}

static bool
prove_on(struct hf_copy_log *log, uint32_t timeline, struct hf_error *err)
{
    const struct hf_attempt *attempt = log->attempt;
    log->options = (struct hf_replay_options){.archive = log->archive,
                                              .facts = log->facts,
                                              .target = {.kind = HF_WAL_TO_THE_END},
                                              .timeline = timeline,
                                              .action = "promote",
                                              .owner = geteuid() == 0,
                                              .uid = attempt->options->host_uid,
                                              .gid = attempt->options->host_gid,
                                              .shared = attempt->options->runner != NULL,
                                              .up_to_gap = true,
                                              .cancel = attempt->options->cancel};
    return hf_replay_prove(&log->options, &log->replay, err);
}

/* The copy is proven without what is behind it; this check says what is the matter with that. */
static bool
settle_proof(struct hf_copy_log *log, const struct hf_error *failure, struct hf_error *err)
{
    if (hf_attempt_is_fatal(failure)) {
        *err = *failure;
        return false;
    }
    if (failure->kind == HF_ERR_CORRUPT) {
        log->check->required = true;
        log->attempt->outcome->store_damaged = true;
        hf_check_found(log->check, "archived_log_damaged", -1, "%.250s", failure->message);
        hf_check_fail(log->check, "%s", failure->message);
    } else {
        hf_check_cannot_tell(log->check, "%s", failure->message);
    }
    return true;
}

/* The backup's own log ends where the archive is known to have none: it is proven, and nothing behind it can be. */
static bool
settle_hole(struct hf_copy_log *log, bool *ret_settled, struct hf_error *err)
{
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES];
    struct hf_replay_hole hole;
    bool found;
    if (!hf_replay_find_hole(&log->options, &found, &hole, err))
        return false;
    *ret_settled = found && hole.recorded;
    if (!*ret_settled)
        return true;
    log->check->required = false;
    log->cut_off = true;
    hf_lsn_format(hole.to, to);
    if (hole.from == 0)
        hf_check_cannot_tell(log->check, "the archive begins at %s, behind the end of the backup's own log", to);
    else
        hf_check_cannot_tell(log->check, "the backup's own log ends in a gap of the archive from %s to %s, on record",
                             hf_lsn_format(hole.from, from), to);
    return true;
}

static void
tell_stream(struct hf_copy_log *log)
{
    struct hf_verify_stream *stream = &log->attempt->outcome->stream;
    const struct hf_replay_facts proven = hf_replay_proven(log->replay);
    char text[HF_LSN_TEXT_BYTES];
    stream->known = true;
    stream->bytes = proven.to - proven.own_end;
    stream->commits = proven.commits;
    stream->newest_commit_at = proven.last_commit_at;
    snprintf(stream->from_position, sizeof stream->from_position, "%s", hf_lsn_format(proven.own_end, text));
    snprintf(stream->to_position, sizeof stream->to_position, "%s", hf_lsn_format(proven.end, text));
    if (proven.gap_to == 0)
        return;
    stream->gap_recorded = proven.gap_recorded;
    snprintf(stream->gap_from, sizeof stream->gap_from, "%s", hf_lsn_format(proven.gap_from, text));
    snprintf(stream->gap_to, sizeof stream->gap_to, "%s", hf_lsn_format(proven.gap_to, text));
}

/* What was proven and does not read any more was lost in the meantime. */
static bool
feed_to(struct hf_copy_log *log, uint64_t until, struct hf_verify_check *check, bool *ret_goes_on, struct hf_error *err)
{
    struct hf_error failure;
    *ret_goes_on = hf_replay_feed(log->feed, until, &log->fed, &failure);
    if (*ret_goes_on)
        return true;
    if (hf_attempt_is_fatal(&failure)) {
        *err = failure;
        return false;
    }
    log->attempt->over = true;
    if (failure.kind != HF_ERR_CORRUPT && failure.kind != HF_ERR_NOT_FOUND) { // the scratch, and not the store
        hf_check_cannot_tell(check, "%s", failure.message);
        return true;
    }
    log->attempt->outcome->store_damaged = true;
    hf_check_fail(check, "%s", failure.message);
    return true;
}

/* False: the copy does not answer any more, and the check says so. */
static bool
ask_position(struct hf_copy_log *log, struct hf_asker_conn *conn, struct hf_verify_check *check, uint64_t *ret)
{
    char text[32];
    struct hf_query_refusal refusal;
    if (hf_query_text(conn, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text", NULL, 0, text, sizeof text,
                      &refusal) &&
        hf_lsn_parse(text, ret, NULL))
        return true;
    hf_attempt_judge_end(log->attempt, check);
    log->attempt->over = true;
    return false;
}

static void
judge_archive(struct hf_copy_log *log, uint64_t reached)
{
    char at[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES], next[HF_LSN_TEXT_BYTES];
    tell_stream(log);
    hf_lsn_format(reached, at);
    hf_lsn_format(log->proven.end, end);
    if (reached > log->proven.end + PAGE_HEADER) {
        hf_check_found(log->check, "log_goes_on", -1, "%s", at);
        hf_check_fail(log->check, "the copy replayed to %s, the archive ends at %s", at, end);
        return;
    }
    log->cut_off = log->proven.gap_to != 0 && log->proven.gap_recorded;
    if (log->proven.gap_to != 0 && !log->proven.gap_recorded) {
        hf_lsn_format(log->proven.gap_to, next);
        hf_lsn_format(log->proven.gap_from, end);
        log->check->required = true;
        log->attempt->outcome->store_damaged = true;
        hf_check_found(log->check, "archived_log_missing", -1, "%s", end);
        hf_check_fail(log->check, "the log from %s to %s is missing in the archive, and no gap is on record", end,
                      next);
        return;
    }
    log->check->required = true; // a source that is streamed no more has its proof all the same
    hf_check_pass(log->check, (int64_t)log->proven.commits);
}

static bool
sample_source(struct hf_copy_log *log, uint64_t *ret, struct hf_error *err)
{
    const struct hf_postgres_patience patience = {.cancel = log->attempt->options->cancel, .silence_ms = SILENCE_MS};
    struct hf_verify_caught_up *outcome = &log->attempt->outcome->caught_up;
    struct hf_postgres_identity identity;
    char text[HF_LSN_TEXT_BYTES];
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    if (!hf_postgres_connect(log->attempt->options->live, HF_POSTGRES_BACKUP, &patience, &conn, err) ||
        !hf_postgres_identify(conn, log->attempt->options->live, &patience, &identity, err))
        return false;
    *ret = identity.flushed_lsn;
    *outcome = (struct hf_verify_caught_up){
        .known = true, .sampled_at = hf_time_now_ms(), .bound_ms = log->attempt->options->catch_up_ms, .behind_ms = -1};
    snprintf(outcome->source_position, sizeof outcome->source_position, "%s", hf_lsn_format(*ret, text));
    return true;
}

static bool
chase(struct hf_copy_log *log, struct hf_asker_conn *conn, uint64_t wanted, struct hf_error *err)
{
    struct hf_verify_caught_up *outcome = &log->attempt->outcome->caught_up;
    struct hf_verify_check *check = log->caught_up;
    const uint64_t began_ms = now_ms();
    uint64_t at = log->proven.to, last = at, end = at, moved_ms = now_ms();
    char reached[HF_LSN_TEXT_BYTES], archived[HF_LSN_TEXT_BYTES];
    struct hf_error failure;
    bool goes_on;
    hf_attempt_phase(log->attempt, HF_VERIFY_CATCH_UP);
    for (;;) {
        if (!hf_attempt_goes_on(log->attempt, err))
            return false;
        if (!hf_replay_follow(log->replay, at, &end, &failure)) {
            if (hf_attempt_is_fatal(&failure)) {
                *err = failure;
                return false;
            }
            hf_check_cannot_tell(check, "%s", failure.message);
            return true;
        }
        outcome->waited_ms = now_ms() - began_ms;
        if (end >= wanted && outcome->behind_ms < 0)
            outcome->behind_ms = (int64_t)outcome->waited_ms;
        if (!feed_to(log, at + WINDOW_BYTES, check, &goes_on, err))
            return false;
        if (!goes_on || !ask_position(log, conn, check, &at))
            return true;
        outcome->reached = at >= wanted;
        if (outcome->reached) {
            tell_stream(log);
            hf_check_pass(check, -1);
            return true;
        }
        if (at > last || log->fed <= at) {
            last = at;
            moved_ms = now_ms();
        }
        if (now_ms() - moved_ms > STANDSTILL_MS) {
            hf_lsn_format(at, reached);
            hf_check_found(check, "log_ends_early", -1, "%s", reached);
            hf_check_fail(check, "replay stopped at %s, the log that was given to it reaches to %s", reached,
                          hf_lsn_format(log->fed, archived));
            log->attempt->over = true;
            return true;
        }
        if (outcome->waited_ms >= outcome->bound_ms)
            break;
        usleep(REFRESH_MS * 1000);
    }
    hf_lsn_format(at, reached);
    hf_check_cannot_tell(check,
                         "the source stood at %s; after %" PRIu64 " s the archive ends at %s and the copy is at %s",
                         outcome->source_position, outcome->waited_ms / 1000, hf_lsn_format(end, archived), reached);
    return true;
}

static uint64_t
now_ms(void)
{
    return hf_monotonic_ns() / 1000000;
}
