#include "server/job/moments.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "sandbox/tree.h"
#include "server/source/mariadb/binlog_relay.h"
#include "server/source/mariadb/facts.h"
#include "server/verify/mariadb/apply.h"

/* From the end of the backup to the moment. */
struct hf_binlog_way {
    struct hf_gtid_set start; // what the backup has
    bool has_start;           // false: the source kept no binary log
    struct hf_timeline_path path;
    struct hf_binlog_plan plan;
};

static bool takes(const struct hf_restore_target *target);
static bool is_told(const struct hf_restore_target *target);
static bool ended_before(const struct hf_restore_target *target, const json_t *json, bool *ret, int64_t *ret_ended_at,
                         struct hf_error *err);
static bool read_facts(struct hf_restore_work *work, const json_t *json, struct hf_error *err);
static bool prove(struct hf_restore_work *work, const struct hf_restore_options *options, struct hf_error *err);
static void done(struct hf_restore_work *work);
static bool replay(void *context, const struct hf_restore_completion *completion, const struct hf_sandbox_spec *spec,
                   const void *settings, struct hf_error *err);
static uint64_t log_bytes(const struct hf_restore_work *work);
static bool describe(const struct hf_restore_work *work, json_t *recovery, struct hf_error *err);

const struct hf_moments hf_moments_mariadb = {
    .engine = "mariadb",
    .options = "--at, --gtid, --before-gtid, --binlog-position or --latest",
    .takes = takes,
    .is_told = is_told,
    .ended_before = ended_before,
    .read = read_facts,
    .prove = prove,
    .done = done,
    .replay = replay,
    .log_bytes = log_bytes,
    .describe = describe,
};

/* Its copy has arrived when it is handed over: there is nothing left to be done at the target. */
static bool
takes(const struct hf_restore_target *target)
{
    return target->in_binlog && target->action == NULL;
}

static bool
is_told(const struct hf_restore_target *target)
{
    return target->stop == HF_BINLOG_TO_TIME || target->stop == HF_BINLOG_TO_END;
}

/* The server's clock is taken for ours; the plan holds the commit times of the log itself against the target. */
static bool
ended_before(const struct hf_restore_target *target, const json_t *json, bool *ret, int64_t *ret_ended_at,
             struct hf_error *err)
{
    struct hf_shared_facts facts;
    if (!hf_facts_read_shared(json, &facts, err))
        return false;
    *ret_ended_at = facts.finished_at;
    *ret = target->stop != HF_BINLOG_TO_TIME || facts.finished_at <= target->time_ms;
    return true;
}

static bool
read_facts(struct hf_restore_work *work, const json_t *json, struct hf_error *err)
{
    struct hf_mariadb_position position;
    struct hf_binlog_way *way = calloc(1, sizeof *way);
    work->binlog = way;
    if (way == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a way through the log");
    if (!hf_mariadb_facts_position(json, &position, err))
        return false;
    way->has_start = position.binlog_file != NULL;
    return hf_gtid_set_parse(HF_GTID_MARIADB, position.gtid, strlen(position.gtid), &way->start, err);
}

static bool
prove(struct hf_restore_work *work, const struct hf_restore_options *options, struct hf_error *err)
{
    const struct hf_restore_target *moment = &work->moment;
    struct hf_binlog_way *way = work->binlog;
    const uint32_t newest = hf_archive_newest_timeline(work->archive);
    const struct hf_binlog_target target = {.stop = moment->stop,
                                            .time_ms = moment->time_ms,
                                            .gtid = moment->gtid,
                                            .file = moment->file,
                                            .file_position = moment->file_position,
                                            .start_known_ms = work->shared.finished_at};
    char ended[HF_TIME_TEXT_BYTES], wanted[HF_TIME_TEXT_BYTES];
    (void)options;
    if (moment->stop == HF_BINLOG_TO_TIME && work->shared.finished_at > moment->time_ms)
        return hf_fail(err, HF_ERR_USAGE, "the backup ended at %s, behind %s",
                       hf_time_format(work->shared.finished_at, ended), hf_time_format(moment->time_ms, wanted)) ||
               hf_fail_hint(err, "Name an earlier backup.");
    if (!way->has_start)
        return hf_fail(err, HF_ERR_CONFLICT, "the source kept no binary log when the backup was taken") ||
               hf_fail_hint(err, "Restore the backup itself, without a moment.");
    if (newest == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive holds no log: nothing was streamed") ||
               hf_fail_hint(err, "Restore the backup itself: without a moment.");
    return hf_archive_path(work->archive, moment->timeline != 0 ? moment->timeline : newest, &way->path, err) &&
           hf_binlog_plan_make(work->archive, &way->path, &way->start, &target, &way->plan, err);
}

static void
done(struct hf_restore_work *work)
{
    if (work->binlog == NULL)
        return;
    hf_binlog_plan_done(&work->binlog->plan);
    hf_gtid_set_done(&work->binlog->start);
    free(work->binlog);
    work->binlog = NULL;
}

static bool
replay(void *context, const struct hf_restore_completion *completion, const struct hf_sandbox_spec *spec,
       const void *settings, struct hf_error *err)
{
    struct hf_restore_work *work = context;
    const struct hf_binlog_way *way = work->binlog;
    const char *folder = completion->folder;
    struct hf_mariadb_apply apply = {.start = &way->start,
                                     .wanted = &way->plan.gtids,
                                     .phase_ms = completion->phase_ms,
                                     .cancel = completion->cancel};
    return hf_binlog_write_relay(work->archive, &way->path, &way->plan, folder, completion->cancel, &work->log_bytes,
                                 err) &&
           (geteuid() != 0 || hf_tree_give(folder, spec->host_uid, spec->host_gid, err)) &&
           hf_mariadb_replay(folder, spec, settings, &apply, err) &&
           (geteuid() != 0 || hf_tree_give(folder, 0, 0, err));
}

/* Once as it came, and what it makes of the tables. */
static uint64_t
log_bytes(const struct hf_restore_work *work)
{
    return work->proven ? 2 * work->binlog->plan.bytes + HF_MIB : 0;
}

static bool
describe(const struct hf_restore_work *work, json_t *recovery, struct hf_error *err)
{
    const struct hf_binlog_plan *plan = &work->binlog->plan;
    const struct hf_timeline_path *path = &work->binlog->path;
    _cleanup_(hf_buf_done) struct hf_buf from = HF_BUF_INIT(HF_GTID_TEXT_MOST), to = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    char newest[HF_TIME_TEXT_BYTES];
    (void)json_object_del(recovery, "action");
    return hf_gtid_set_format(&plan->start, &from, err) && hf_gtid_set_format(&plan->gtids, &to, err) &&
           hf_json_set(recovery, "timeline", json_integer(path->steps[path->count - 1].timeline), err) &&
           hf_json_set(recovery, "from", json_string(hf_buf_text(&from)), err) &&
           hf_json_set(recovery, "to", json_string(hf_buf_text(&to)), err) &&
           hf_json_set(recovery, "transactions", json_integer((json_int_t)plan->transactions), err) &&
           hf_json_set(recovery, "log_bytes", json_integer((json_int_t)work->log_bytes), err) &&
           hf_json_set(recovery, "with_statements", json_boolean(plan->with_statements), err) &&
           hf_json_set(recovery, "newest_commit_at",
                       plan->last_commit_ms == 0 ? json_null()
                                                 : json_string(hf_time_format(plan->last_commit_ms, newest)),
                       err);
}
