#include "server/job/restore_work.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/uids.h"
#include "server/job/restore_start.h"
#include "server/source/mariadb/corrections.h"

static bool find_start(struct hf_restore_work *work, const struct hf_restore_starts *starts,
                       const struct hf_restore_options *options, struct hf_progress_relay *relay, struct hf_error *err);
static bool read_engine(struct hf_restore_work *work, const struct hf_vault_state *state, struct hf_error *err);
static bool write_rest(void *context, const char *target, struct hf_error *err);

bool
hf_restore_work_begin(struct hf_worker *worker, const json_t *request, struct hf_restore_options *options,
                      struct hf_progress_relay *relay, struct hf_restore_work *work, struct hf_error *err)
{
    const struct hf_recovery_facts *facts = &work->facts;
    struct hf_restore_starts starts;
    if (!hf_restore_starts_from_json(json_object_get(request, "starts"), &starts, err) ||
        !hf_json_id(request, "vault", "the request", &work->vault, err) ||
        !hf_json_string(request, "state", "the request", &work->state, err) ||
        !hf_restore_target_from_json(json_object_get(request, "target"), &work->moment, err))
        return false;
    options->finish = write_rest;
    options->finish_context = work;
    if (!hf_open_repository(worker, &work->vault, &work->opened, err) ||
        !find_start(work, &starts, options, relay, err) ||
        !hf_restore_plan(work->opened.vault, &work->backup, options, &work->plan, &work->size, err))
        return false;
    work->needs =
        (struct hf_restore_needs){facts->server_version_num, facts->max_connections,    facts->max_worker_processes,
                                  facts->max_wal_senders,    facts->max_prepared_xacts, facts->max_locks_per_xact};
    if (strcmp(work->state, "proven") != 0)
        hf_worker_note(worker, HF_LOG_WARNING, "this backup is %s: nobody has seen it start", work->state);
    return true;
}

bool
hf_restore_work_write(struct hf_worker *worker, struct hf_restore_work *work, const struct hf_restore_options *options,
                      struct hf_progress_relay *relay, const char *target, struct hf_restore_outcome *ret,
                      struct hf_error *err)
{
    const struct hf_settings *settings = hf_worker_settings(worker);
    char configuration[4200];
    uid_t uid;
    _cleanup_(hf_closep) int uid_lock = -1; // let go after the sandbox is gone
    _cleanup_(hf_freep) char *folder = NULL;
    if (work->engine->complete == NULL)
        return hf_restore_write(work->plan, target, ret, err);
    snprintf(configuration, sizeof configuration, "%.4000s.configuration", target);
    if (access(configuration, F_OK) == 0)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\", where the source's configuration would go, exists",
                       configuration);
    struct hf_restore_completion completion = {
        .configuration = configuration,
        .target = target,
        .server_version = work->shared.server_version,
        .packages = (const char *const *)settings->sandbox.postgres_prefixes,
        .memory_bytes = (uint64_t)settings->sandbox.memory,
        .phase_ms = (uint64_t)settings->sandbox.phase_ms,
        .owner_uid = options->owner ? options->uid : geteuid(),
        .owner_gid = options->owner ? options->gid : getegid(),
        .cancel = options->cancel,
    };
    if (!hf_sandbox_level_parse(settings->sandbox.lowest_level, &completion.lowest, err) ||
        !hf_uid_claim(&uid, &uid_lock, err))
        return false;
    completion.host_uid = completion.host_gid = uid;
    if (!work->engine->able(&completion, err) || !hf_restore_stage(target, &folder, err) ||
        !hf_restore_write(work->plan, folder, ret, err))
        return false;
    atomic_store(&relay->phase, "complete");
    completion.folder = folder;
    return hf_restore_finish_staged(work->engine, &completion, err);
}

void
hf_restore_work_done(struct hf_restore_work *work)
{
    hf_replay_freep(&work->replay);
    hf_archive_freep(&work->archive);
    hf_restore_plan_freep(&work->plan);
    hf_open_repository_done(&work->opened);
}

bool
hf_restore_work_describe(const struct hf_restore_work *work, const json_t *request, json_t *result,
                         struct hf_error *err)
{
    if (work->replay == NULL)
        return true;
    const struct hf_replay_facts proven = hf_replay_proven(work->replay);
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES], newest[HF_TIME_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *recovery = json_copy(json_object_get(request, "target"));
    if (recovery == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    return hf_json_set(recovery, "timeline", json_integer(proven.timeline), err) &&
           hf_json_set(recovery, "from", json_string(hf_lsn_format(work->facts.start_lsn, from)), err) &&
           hf_json_set(recovery, "to", json_string(hf_lsn_format(proven.to, to)), err) &&
           hf_json_set(recovery, "log_bytes", json_integer((json_int_t)work->log_bytes), err) &&
           hf_json_set(recovery, "newest_commit_at",
                       proven.last_commit_at == 0 ? json_null()
                                                  : json_string(hf_time_format(proven.last_commit_at, newest)),
                       err) &&
           hf_json_set(result, "recovery", HF_TAKE(recovery), err);
}

/* The only backup there is to choose; or, with a moment, the newest from which the log leads there. */
static bool
find_start(struct hf_restore_work *work, const struct hf_restore_starts *starts,
           const struct hf_restore_options *options, struct hf_progress_relay *relay, struct hf_error *err)
{
    const struct hf_vault_state *state;
    if (!hf_vault_read(work->opened.vault, NULL, NULL, &state, err))
        return false;
    if (!work->moment.wanted) {
        work->backup = starts->backups[0];
        return read_engine(work, state, err) &&
               (work->engine->complete != NULL || hf_restore_start_facts(state, &work->backup, &work->facts, err));
    }
    atomic_store(&relay->phase, "prove log");
    if (!hf_archive_open(work->opened.vault, NULL, &work->archive, err) ||
        !hf_vault_read(work->opened.vault, NULL, NULL, &state, err))
        return false;
    work->replaying = (struct hf_replay_options){.archive = work->archive,
                                                 .facts = &work->facts,
                                                 .target = work->moment.log,
                                                 .timeline = work->moment.timeline,
                                                 .action = work->moment.action,
                                                 .owner = options->owner,
                                                 .uid = options->uid,
                                                 .gid = options->gid,
                                                 .cancel = options->cancel};
    if (!hf_restore_starts_prove(starts, state, &work->replaying, &work->facts, &work->backup, &work->replay, err))
        return false;
    atomic_store(&relay->phase, "plan");
    return read_engine(work, state, err);
}

static bool
read_engine(struct hf_restore_work *work, const struct hf_vault_state *state, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    const struct hf_vault_backup *found = hf_vault_state_backup(state, &work->backup);
    if (found == NULL || found->facts == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(&work->backup, text));
    if (!hf_json_parse(found->facts, strlen(found->facts), "the backup's facts", &facts, err) ||
        !hf_facts_read_shared(facts, &work->shared, err))
        return false;
    work->engine = hf_restore_engine_find(work->shared.engine);
    return work->engine != NULL ||
           hf_fail(err, HF_ERR_USAGE, "backups of \"%.16s\" cannot be restored", work->shared.engine);
}

/* A folder that was cut off before its log and its target were there would replay to a wrong moment. */
static bool
write_rest(void *context, const char *target, struct hf_error *err)
{
    struct hf_restore_work *work = context;
    if (work->engine->complete != NULL)
        return hf_corrections_apply(target, err); // the rest when all of it is there
    return hf_restore_configure(work->plan, target, &work->needs, err) &&
           (work->replay == NULL || hf_replay_write(work->replay, target, &work->log_bytes, err));
}
