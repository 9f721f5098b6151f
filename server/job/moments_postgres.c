#include "server/job/moments.h"

#include "base/lsn.h"
#include "base/time.h"

static bool takes(const struct hf_restore_target *target);
static bool is_told(const struct hf_restore_target *target);
static bool ended_before(const struct hf_restore_target *target, const json_t *json, bool *ret, int64_t *ret_ended_at,
                         struct hf_error *err);
static bool read_facts(struct hf_restore_work *work, const json_t *json, struct hf_error *err);
static bool prove(struct hf_restore_work *work, const struct hf_restore_options *options, struct hf_error *err);
static void done(struct hf_restore_work *work);
static bool write_log(struct hf_restore_work *work, const char *folder, struct hf_error *err);
static uint64_t log_bytes(const struct hf_restore_work *work);
static bool describe(const struct hf_restore_work *work, json_t *recovery, struct hf_error *err);

const struct hf_moments hf_moments_postgres = {
    .engine = "postgresql",
    .options = "--at, --lsn, --xid, --before-xid, --restore-point or --latest",
    .takes = takes,
    .is_told = is_told,
    .ended_before = ended_before,
    .read = read_facts,
    .prove = prove,
    .done = done,
    .write = write_log,
    .log_bytes = log_bytes,
    .describe = describe,
};

static bool
takes(const struct hf_restore_target *target)
{
    return target->in_wal;
}

static bool
is_told(const struct hf_restore_target *target)
{
    return target->log.kind == HF_WAL_TO_TIME || target->log.kind == HF_WAL_TO_POSITION ||
           target->log.kind == HF_WAL_TO_THE_END;
}

static bool
ended_before(const struct hf_restore_target *target, const json_t *json, bool *ret, int64_t *ret_ended_at,
             struct hf_error *err)
{
    struct hf_recovery_facts facts;
    if (!hf_facts_from_json(json, &facts, err))
        return false;
    *ret_ended_at = hf_facts_server_time(&facts, facts.finished_at);
    *ret = target->log.kind == HF_WAL_TO_TIME       ? *ret_ended_at <= target->log.time
           : target->log.kind == HF_WAL_TO_POSITION ? facts.stop_lsn <= target->log.position
                                                    : true;
    return true;
}

static bool
read_facts(struct hf_restore_work *work, const json_t *json, struct hf_error *err)
{
    struct hf_recovery_facts *facts = &work->facts;
    if (!hf_facts_from_json(json, facts, err))
        return false;
    work->needs =
        (struct hf_restore_needs){facts->server_version_num, facts->max_connections,    facts->max_worker_processes,
                                  facts->max_wal_senders,    facts->max_prepared_xacts, facts->max_locks_per_xact};
    return true;
}

static bool
prove(struct hf_restore_work *work, const struct hf_restore_options *options, struct hf_error *err)
{
    const uint64_t searched_from = work->replaying.search_end;
    work->replaying =
        (struct hf_replay_options){.archive = work->archive,
                                   .facts = &work->facts,
                                   .target = work->moment.log,
                                   .timeline = work->moment.timeline,
                                   .search_end = searched_from,
                                   .action = work->moment.action != NULL ? work->moment.action : "promote",
                                   .owner = options->owner,
                                   .uid = options->uid,
                                   .gid = options->gid,
                                   .cancel = options->cancel};
    if (hf_replay_prove(&work->replaying, &work->replay, err))
        return true;
    if (err->kind != HF_ERR_CONFLICT && !is_told(&work->moment)) // behind it this one has looked in vain
        work->replaying.search_end = work->facts.stop_lsn;
    return false;
}

static void
done(struct hf_restore_work *work)
{
    hf_replay_freep(&work->replay);
}

static bool
write_log(struct hf_restore_work *work, const char *folder, struct hf_error *err)
{
    return hf_replay_write(work->replay, folder, &work->log_bytes, err);
}

/* Whole segments, in pg_wal; the last one is filled with zeros. */
static uint64_t
log_bytes(const struct hf_restore_work *work)
{
    if (!work->proven)
        return 0;
    const struct hf_replay_facts proven = hf_replay_proven(work->replay);
    return proven.to - proven.from + 2 * (uint64_t)work->facts.wal_segment_bytes;
}

static bool
describe(const struct hf_restore_work *work, json_t *recovery, struct hf_error *err)
{
    const struct hf_replay_facts proven = hf_replay_proven(work->replay);
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES], newest[HF_TIME_TEXT_BYTES];
    return hf_json_set(recovery, "action", json_string(work->replaying.action), err) &&
           hf_json_set(recovery, "timeline", json_integer(proven.timeline), err) &&
           hf_json_set(recovery, "from", json_string(hf_lsn_format(work->facts.start_lsn, from)), err) &&
           hf_json_set(recovery, "to", json_string(hf_lsn_format(proven.to, to)), err) &&
           hf_json_set(recovery, "log_bytes", json_integer((json_int_t)work->log_bytes), err) &&
           hf_json_set(recovery, "newest_commit_at",
                       proven.last_commit_at == 0 ? json_null()
                                                  : json_string(hf_time_format(proven.last_commit_at, newest)),
                       err);
}
