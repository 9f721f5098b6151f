#include "server/verify/mariadb/archive.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/source/mariadb/binlog_relay.h"
#include "server/source/mariadb/facts.h"
#include "server/verify/mariadb/apply.h"
#include "server/verify/mariadb/live.h"

#define OWN_END_MS 60000 // for the receiver to come where the backup ended, where no bound is set
#define REFRESH_MS 500

struct hf_binlog_copy {
    struct hf_attempt *attempt; // borrowed
    struct hf_verify_check *check, *caught_up;
    struct hf_archive *archive;
    struct hf_timeline_path path;
    struct hf_gtid_set start; // what the backup has
    int64_t start_known_ms;
    struct hf_binlog_plan plan; // from `start`, or from where the piece before ended
    bool planned;               // else there is nothing to replay, and the check says why
    bool placed;                // and lies in the folder
    struct hf_gtid_set wanted;  // where the source stood
    bool cut_off;               // by a gap that is on record: it cannot follow the source
};

static bool wait_for_start(struct hf_binlog_copy *copy, struct hf_error *err);
static bool make_plan(struct hf_binlog_copy *copy, const struct hf_gtid_set *start, int64_t known_ms,
                      struct hf_binlog_plan *ret, struct hf_error *err);
static bool settle_plan(struct hf_binlog_copy *copy, const struct hf_error *failure, struct hf_error *err);
static bool lay_down(struct hf_binlog_copy *copy, struct hf_verify_check *check, struct hf_error *err);
static bool give(const struct hf_binlog_copy *copy, const char *name, struct hf_error *err);
static bool apply(struct hf_binlog_copy *copy, struct hf_verify_check *check, struct hf_asker_conn *conn,
                  struct hf_error *err);
static bool is_recorded(const struct hf_binlog_copy *copy, bool *ret, struct hf_error *err);
static bool judge_archive(struct hf_binlog_copy *copy, struct hf_error *err);
static bool tell_stream(struct hf_binlog_copy *copy, struct hf_error *err);
static bool put_gtids(const struct hf_gtid_set *set, char ret[static HF_SOURCE_POSITION_BYTES], struct hf_error *err);
static bool wait_for_wanted(struct hf_binlog_copy *copy, bool *ret_more, struct hf_error *err);
static bool tell(struct hf_verify_check *check, const struct hf_error *failure, const char *before,
                 struct hf_error *err);
static uint64_t now_ms(void);

bool
hf_binlog_copy_begin(struct hf_attempt *attempt, const json_t *facts, struct hf_binlog_copy **ret, struct hf_error *err)
{
    _cleanup_(hf_binlog_copy_freep) struct hf_binlog_copy *copy = calloc(1, sizeof *copy);
    struct hf_mariadb_position position;
    struct hf_shared_facts shared;
    struct hf_error failure;
    *ret = NULL;
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the log behind a backup");
    copy->attempt = attempt;
    copy->check = hf_attempt_check(attempt, "archive");
    copy->caught_up = hf_attempt_check(attempt, "caught_up");
    copy->check->required = attempt->options->streamed;
    copy->caught_up->required = attempt->options->streamed && attempt->options->catch_up_ms > 0;
    if (!hf_mariadb_facts_position(facts, &position, err) || !hf_facts_read_shared(facts, &shared, err) ||
        !hf_gtid_set_parse(HF_GTID_MARIADB, position.gtid, strlen(position.gtid), &copy->start, err))
        return false;
    copy->start_known_ms = shared.finished_at;
    if (!attempt->options->streamed)
        hf_check_cannot_tell(copy->caught_up, "no log of this source is received as it is written");
    else if (!copy->caught_up->required)
        hf_check_cannot_tell(copy->caught_up, "the source is set up not to be caught up with");
    if (!hf_archive_open(attempt->vault, NULL, &copy->archive, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        copy->check->required = true; // there is something, and it does not read
        hf_check_fail(copy->check, "%s", failure.message);
        return true;
    }
    if (!attempt->options->streamed && hf_archive_newest_timeline(copy->archive) == 0) {
        hf_check_cannot_tell(copy->check, "no log of this source was ever received as it was written");
        return true;
    }
    if (position.binlog_file == NULL) {
        hf_check_cannot_tell(copy->check, "the source kept no binary log when the backup was taken");
        return true;
    }
    *ret = HF_TAKE(copy);
    return true;
}

void
hf_binlog_copy_freep(struct hf_binlog_copy **copy)
{
    if (*copy == NULL)
        return;
    hf_binlog_plan_done(&(*copy)->plan);
    hf_gtid_set_done(&(*copy)->start);
    hf_gtid_set_done(&(*copy)->wanted);
    hf_archive_freep(&(*copy)->archive);
    free(*copy);
    *copy = NULL;
}

/* The log itself, and what it makes of the tables; more than to twice their size is not foreseen. */
uint64_t
hf_binlog_copy_room(struct hf_binlog_copy *copy, uint64_t bytes)
{
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    const uint32_t newest = hf_archive_newest_timeline(copy->archive);
    struct hf_window window, next;
    struct hf_error ignored;
    uint64_t log = 0;
    if (newest != 0 && hf_archive_path(copy->archive, newest, &copy->path, &ignored) &&
        hf_binlog_find_start(copy->archive, &copy->path, &copy->start, copy->start_known_ms, &place, &window, &next,
                             &ignored) &&
        window.whole > place.position)
        log = window.whole - place.position;
    return log + (log < bytes ? log : bytes);
}

bool
hf_binlog_copy_place(struct hf_binlog_copy *copy, struct hf_error *err)
{
    hf_check_begin(copy->check);
    return wait_for_start(copy, err) && (!copy->planned || lay_down(copy, copy->check, err));
}

bool
hf_binlog_copy_is_placed(const struct hf_binlog_copy *copy)
{
    return copy->placed;
}

bool
hf_binlog_copy_replay(struct hf_binlog_copy *copy, struct hf_asker_conn *conn, struct hf_error *err)
{
    if (!copy->planned || copy->check->verdict != HF_VERDICT_NOT_RUN)
        return true;
    if (!apply(copy, copy->check, conn, err))
        return false;
    return copy->attempt->over || judge_archive(copy, err);
}

bool
hf_binlog_copy_sample(struct hf_binlog_copy *copy, bool *ret_more, struct hf_error *err)
{
    struct hf_verify_check *check = copy->caught_up;
    struct hf_verify_caught_up *outcome = &copy->attempt->outcome->caught_up;
    struct hf_error failure;
    *ret_more = false;
    if (!check->required)
        return true;
    hf_check_begin(check);
    if (copy->cut_off) {
        check->required = false;
        hf_check_cannot_tell(check, "a gap of the archive, on record, lies between the copy and where the source is");
        return true;
    }
    if (copy->check->verdict != HF_VERDICT_PASSED) {
        hf_check_cannot_tell(check, "the archived log could not be replayed to its end: %.300s", copy->check->reason);
        return true;
    }
    if (copy->attempt->options->live == NULL) {
        hf_check_cannot_tell(check, "the source could not be asked where it stands: from here it is not reached");
        return true;
    }
    if (!hf_mariadb_live_gtids(copy->attempt->options->live, &copy->wanted, &failure))
        return tell(check, &failure, "the source could not be asked where it stands", err);
    *outcome = (struct hf_verify_caught_up){.known = true,
                                            .sampled_at = hf_time_now_ms(),
                                            .bound_ms = copy->attempt->options->catch_up_ms,
                                            .behind_ms = -1};
    return put_gtids(&copy->wanted, outcome->source_position, err) && wait_for_wanted(copy, ret_more, err);
}

bool
hf_binlog_copy_place_more(struct hf_binlog_copy *copy, struct hf_error *err)
{
    return hf_mariadb_apply_clean(copy->attempt->data, err) && lay_down(copy, copy->caught_up, err) &&
           (geteuid() != 0 || (give(copy, HF_BINLOG_RELAY_FIRST, err) && give(copy, HF_BINLOG_RELAY_INDEX, err)));
}

bool
hf_binlog_copy_replay_more(struct hf_binlog_copy *copy, struct hf_asker_conn *conn, struct hf_error *err)
{
    struct hf_verify_caught_up *outcome = &copy->attempt->outcome->caught_up;
    if (!apply(copy, copy->caught_up, conn, err) || !tell_stream(copy, err))
        return false;
    if (copy->attempt->over)
        return true;
    outcome->reached = true;
    hf_check_pass(copy->caught_up, -1);
    return true;
}

/* A receiver seals what it has, and a backup can be faster than it. */
static bool
wait_for_start(struct hf_binlog_copy *copy, struct hf_error *err)
{
    const struct hf_verify_options *options = copy->attempt->options;
    const uint64_t bound_ms = !options->streamed ? 0 : options->catch_up_ms > 0 ? options->catch_up_ms : OWN_END_MS;
    const uint64_t began_ms = now_ms();
    struct hf_error failure;
    hf_attempt_phase(copy->attempt, "prove_log");
    for (;;) {
        copy->planned = make_plan(copy, &copy->start, copy->start_known_ms, &copy->plan, &failure);
        if (copy->planned || failure.kind != HF_ERR_NOT_FOUND || now_ms() - began_ms >= bound_ms)
            break;
        if (!hf_attempt_goes_on(copy->attempt, err))
            return false;
        usleep(REFRESH_MS * 1000);
        if (!hf_archive_refresh(copy->archive, &failure))
            break;
    }
    hf_attempt_phase(copy->attempt, "recover");
    return copy->planned || settle_plan(copy, &failure, err);
}

static bool
make_plan(struct hf_binlog_copy *copy, const struct hf_gtid_set *start, int64_t known_ms, struct hf_binlog_plan *ret,
          struct hf_error *err)
{
    const struct hf_binlog_target target = {.stop = HF_BINLOG_TO_END, .start_known_ms = known_ms, .up_to_gap = true};
    const uint32_t newest = hf_archive_newest_timeline(copy->archive);
    if (newest == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive is empty");
    return hf_archive_path(copy->archive, newest, &copy->path, err) &&
           hf_binlog_plan_make(copy->archive, &copy->path, start, &target, ret, err);
}

/* The copy is proven without what is behind it; this check says what is the matter with that. */
static bool
settle_plan(struct hf_binlog_copy *copy, const struct hf_error *failure, struct hf_error *err)
{
    if (failure->kind != HF_ERR_CORRUPT)
        return tell(copy->check, failure, NULL, err);
    copy->check->required = true;
    copy->attempt->outcome->store_damaged = true;
    hf_check_found(copy->check, "archived_log_damaged", -1, "%.250s", failure->message);
    hf_check_fail(copy->check, "%s", failure->message);
    return true;
}

/* What was proven and does not read any more was lost in the meantime. */
static bool
lay_down(struct hf_binlog_copy *copy, struct hf_verify_check *check, struct hf_error *err)
{
    struct hf_error failure;
    uint64_t bytes;
    copy->placed = hf_binlog_write_relay(copy->archive, &copy->path, &copy->plan, copy->attempt->data,
                                         copy->attempt->options->cancel, &bytes, &failure);
    if (copy->placed)
        return true;
    copy->planned = false;
    if (failure.kind != HF_ERR_CORRUPT && failure.kind != HF_ERR_NOT_FOUND) // the scratch, and not the store
        return tell(check, &failure, NULL, err);
    copy->attempt->outcome->store_damaged = true;
    hf_check_fail(check, "%s", failure.message);
    return true;
}

/* To the copy's server, which does not run now. */
static bool
give(const struct hf_binlog_copy *copy, const char *name, struct hf_error *err)
{
    const struct hf_verify_options *options = copy->attempt->options;
    _cleanup_(hf_freep) char *path = hf_path_join(copy->attempt->data, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return !copy->placed || lchown(path, options->host_uid, options->host_gid) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to the sandbox", path);
}

static bool
apply(struct hf_binlog_copy *copy, struct hf_verify_check *check, struct hf_asker_conn *conn, struct hf_error *err)
{
    struct hf_attempt *attempt = copy->attempt;
    struct hf_error failure;
    const struct hf_mariadb_apply replaying = {.conn = conn,
                                               .start = &copy->plan.start,
                                               .wanted = &copy->plan.gtids,
                                               .phase_ms = attempt->phase_ms,
                                               .cancel = attempt->options->cancel};
    hf_attempt_phase(attempt, "replay_log");
    if (hf_mariadb_apply(&replaying, &failure))
        return true;
    if (hf_attempt_is_fatal(&failure)) {
        *err = failure;
        return false;
    }
    attempt->over = true;
    check->required = true;
    if (failure.kind == HF_ERR_CORRUPT) {
        hf_check_found(check, "log_not_applied", -1, "%.250s", failure.message);
        hf_check_fail(check, "%s", failure.message);
    } else {
        hf_attempt_judge_end(attempt, check);
    }
    return true;
}

static bool
judge_archive(struct hf_binlog_copy *copy, struct hf_error *err)
{
    const struct hf_binlog_plan *plan = &copy->plan;
    char end[HF_SOURCE_POSITION_BYTES];
    struct hf_error failure;
    if (!tell_stream(copy, err) || !put_gtids(&plan->gtids, end, err))
        return false;
    copy->check->required = true; // a source that is streamed no more has its proof all the same
    if (plan->gap_to != 0 && !is_recorded(copy, &copy->cut_off, &failure))
        return tell(copy->check, &failure, NULL, err);
    if (plan->gap_to != 0 && !copy->cut_off) {
        copy->attempt->outcome->store_damaged = true;
        hf_check_found(copy->check, "archived_log_missing", -1, "%s", end);
        hf_check_fail(copy->check, "the binary log behind \"%s\" is missing in the archive, and no gap is on record",
                      end);
        return true;
    }
    hf_check_pass(copy->check, (int64_t)plan->transactions);
    return true;
}

/* Whether the place where the proof had to stop is one that the vault log knows of. */
static bool
is_recorded(const struct hf_binlog_copy *copy, bool *ret, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(copy->attempt->vault, NULL, NULL, &state, err))
        return false;
    *ret = false;
    for (size_t i = 0; i < state->gap_count; i++)
        *ret = *ret || (state->gaps[i].from <= copy->plan.gap_from && state->gaps[i].to >= copy->plan.gap_to);
    return true;
}

/* Counts go on from piece to piece. */
static bool
tell_stream(struct hf_binlog_copy *copy, struct hf_error *err)
{
    const struct hf_binlog_plan *plan = &copy->plan;
    struct hf_verify_stream *stream = &copy->attempt->outcome->stream;
    stream->known = true;
    stream->bytes += plan->bytes;
    stream->commits += plan->transactions;
    if (plan->last_commit_ms != 0)
        stream->newest_commit_at = plan->last_commit_ms;
    if (!put_gtids(&copy->start, stream->from_position, err) || !put_gtids(&plan->gtids, stream->to_position, err))
        return false;
    if (plan->gap_to == 0)
        return true;
    snprintf(stream->gap_from, sizeof stream->gap_from, "%s", stream->to_position);
    snprintf(stream->gap_to, sizeof stream->gap_to, "behind it");
    return true;
}

/* As long a part as the evidence has room for. */
static bool
put_gtids(const struct hf_gtid_set *set, char ret[static HF_SOURCE_POSITION_BYTES], struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    if (!hf_gtid_set_format(set, &text, err))
        return false;
    snprintf(ret, HF_SOURCE_POSITION_BYTES, "%.*s%s", HF_SOURCE_POSITION_BYTES - 4, hf_buf_text(&text),
             text.length > HF_SOURCE_POSITION_BYTES - 4 ? "..." : "");
    return true;
}

/* Until the archive has what the source had; then the copy has it already, or the next piece is planned. */
static bool
wait_for_wanted(struct hf_binlog_copy *copy, bool *ret_more, struct hf_error *err)
{
    struct hf_verify_caught_up *outcome = &copy->attempt->outcome->caught_up;
    const uint64_t began_ms = now_ms();
    struct hf_error failure = {0};
    char end[HF_SOURCE_POSITION_BYTES];
    hf_attempt_phase(copy->attempt, HF_VERIFY_CATCH_UP);
    while (!hf_gtid_set_contains_all(&copy->plan.gtids, &copy->wanted)) {
        struct hf_binlog_plan further = {0};
        if (!hf_attempt_goes_on(copy->attempt, err))
            return false;
        if (!hf_archive_refresh(copy->archive, &failure) ||
            !make_plan(copy, &copy->plan.gtids, hf_time_now_ms(), &further, &failure))
            return tell(copy->caught_up, &failure, NULL, err);
        outcome->waited_ms = now_ms() - began_ms;
        *ret_more = hf_gtid_set_contains_all(&further.gtids, &copy->wanted);
        if (*ret_more) {
            hf_binlog_plan_done(&copy->plan);
            copy->plan = further;
            outcome->behind_ms = (int64_t)outcome->waited_ms;
            return true;
        }
        const bool told = put_gtids(&further.gtids, end, err);
        hf_binlog_plan_done(&further);
        if (!told)
            return false;
        if (outcome->waited_ms >= outcome->bound_ms) {
            hf_check_cannot_tell(copy->caught_up,
                                 "the source stood at \"%s\"; after %" PRIu64 " s the archive ends at \"%s\"",
                                 outcome->source_position, outcome->waited_ms / 1000, end);
            return true;
        }
        usleep(REFRESH_MS * 1000);
    }
    outcome->reached = true;
    outcome->behind_ms = 0;
    hf_check_pass(copy->caught_up, -1);
    return true;
}

/* What could not be told, unless it ends the attempt. */
static bool
tell(struct hf_verify_check *check, const struct hf_error *failure, const char *before, struct hf_error *err)
{
    if (hf_attempt_is_fatal(failure)) {
        *err = *failure;
        return false;
    }
    hf_check_cannot_tell(check, "%s%s%.350s", before != NULL ? before : "", before != NULL ? ": " : "",
                         failure->message);
    return true;
}

static uint64_t
now_ms(void)
{
    return hf_monotonic_ns() / 1000000;
}
