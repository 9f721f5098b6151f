#include "server/job/restore_work.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/uids.h"
#include "server/job/moments.h"
#include "server/job/restore_start.h"
#include "server/source/mariadb/corrections.h"

static bool find_start(struct hf_restore_work *work, const struct hf_restore_starts *starts,
                       const struct hf_restore_options *options, struct hf_progress_relay *relay, struct hf_error *err);
static bool may_be_older(const struct hf_restore_work *work, const struct hf_error *why);
static bool read_facts(struct hf_restore_work *work, const struct hf_vault_state *state, const struct hf_id *backup,
                       struct hf_error *err);
static bool write_rest(void *context, const char *target, struct hf_error *err);

bool
hf_restore_work_begin(struct hf_worker *worker, const json_t *request, struct hf_restore_options *options,
                      struct hf_progress_relay *relay, struct hf_restore_work *work, struct hf_error *err)
{
    struct hf_restore_starts starts;
    if (!hf_restore_starts_from_json(json_object_get(request, "starts"), &starts, err) ||
        !hf_json_id(request, "vault", "the request", &work->vault, err) ||
        !hf_json_string(request, "state", "the request", &work->state, err) ||
        !hf_restore_target_from_json(json_object_get(request, "target"), &work->moment, err))
        return false;
    options->finish = write_rest;
    options->finish_context = work;
    if (!hf_job_table_keys(json_object_get(request, "source"), &work->table_keys, err) ||
        !hf_open_repository(worker, &work->vault, &work->opened, err) ||
        !find_start(work, &starts, options, relay, err) ||
        !hf_restore_plan(work->opened.vault, &work->backup, options, &work->plan, &work->size, err))
        return false;
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
    char configuration[HF_RESTORE_BESIDE_BYTES];
    uid_t uid;
    _cleanup_(hf_closep) int uid_lock = -1; // let go after the sandbox is gone
    _cleanup_(hf_freep) char *folder = NULL;
    if (work->engine->complete == NULL)
        return hf_restore_write(work->plan, target, ret, err);
    hf_restore_configuration(target, configuration);
    if (access(configuration, F_OK) == 0)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\", where the source's configuration would go, exists",
                       configuration);
    struct hf_restore_completion completion = {
        .configuration = configuration,
        .target = target,
        .server_version = work->shared.server_version,
        .packages = (const char *const *)settings->sandbox.postgres_prefixes,
        .table_keys = work->table_keys == NULL ? NULL : hf_table_keys_text(work->table_keys),
        .memory_bytes = (uint64_t)settings->sandbox.memory,
        .phase_ms = (uint64_t)settings->sandbox.phase_ms,
        .owner_uid = options->owner ? options->uid : geteuid(),
        .owner_gid = options->owner ? options->gid : getegid(),
        .replay = work->proven ? work->moments->replay : NULL,
        .replay_context = work,
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
hf_restore_configuration(const char *target, char ret[static HF_RESTORE_BESIDE_BYTES])
{
    snprintf(ret, HF_RESTORE_BESIDE_BYTES, "%.4000s.configuration", target);
}

void
hf_restore_work_done(struct hf_restore_work *work)
{
    hf_table_keys_freep(&work->table_keys);
    if (work->moments != NULL)
        work->moments->done(work);
    hf_archive_freep(&work->archive);
    hf_restore_plan_freep(&work->plan);
    hf_open_repository_done(&work->opened);
}

bool
hf_restore_work_describe(const struct hf_restore_work *work, const json_t *request, json_t *result,
                         struct hf_error *err)
{
    if (!hf_json_set(result, "product", json_string(work->engine->product), err))
        return false;
    if (!work->proven)
        return true;
    _cleanup_(hf_json_freep) json_t *recovery = json_copy(json_object_get(request, "target"));
    if (recovery == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    return work->moments->describe(work, recovery, err) && hf_json_set(result, "recovery", HF_TAKE(recovery), err);
}

/* The only backup there is to choose; or, with a moment, the newest from which the log leads there. */
static bool
find_start(struct hf_restore_work *work, const struct hf_restore_starts *starts,
           const struct hf_restore_options *options, struct hf_progress_relay *relay, struct hf_error *err)
{
    const struct hf_vault_state *state;
    struct hf_error newest = {0};
    work->cancel = options->cancel;
    if (!hf_vault_read(work->opened.vault, NULL, NULL, &state, err))
        return false;
    if (!work->moment.wanted)
        return read_facts(work, state, &starts->backups[0], err);
    atomic_store(&relay->phase, "prove log");
    if (!hf_archive_open(work->opened.vault, NULL, &work->archive, err) ||
        !hf_vault_read(work->opened.vault, NULL, NULL, &state, err))
        return false;
    for (size_t i = 0; i < starts->count; i++) {
        struct hf_error why = {0};
        if (!read_facts(work, state, &starts->backups[i], err))
            return false;
        work->proven = work->moments->prove(work, options, &why);
        if (work->proven) {
            atomic_store(&relay->phase, "plan");
            return true;
        }
        if (i == 0 || why.kind == HF_ERR_CANCELLED || why.kind == HF_ERR_NO_MEMORY)
            newest = why;
        if (!may_be_older(work, &why))
            break;
    }
    if (err != NULL)
        *err = newest;
    return false;
}

/* An older one may lie on the path when a newer one does not, or end before the target when a newer one did not. */
static bool
may_be_older(const struct hf_restore_work *work, const struct hf_error *why)
{
    return why->kind == HF_ERR_CONFLICT || why->kind == HF_ERR_USAGE ||
           (why->kind == HF_ERR_NOT_FOUND && !work->moments->is_told(&work->moment));
}

/* Of an engine that knows moments, or of a backup that is restored as it is. */
static bool
read_facts(struct hf_restore_work *work, const struct hf_vault_state *state, const struct hf_id *backup,
           struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    work->backup = *backup;
    if (!hf_restore_start_facts(state, backup, &facts, err) || !hf_facts_read_shared(facts, &work->shared, err))
        return false;
    const struct hf_moments *moments;
    if (!hf_moments_find(work->shared.engine, &work->moment, &moments, err))
        return false;
    work->engine = hf_restore_engine_find(work->shared.engine);
    if (work->engine == NULL)
        return hf_fail(err, HF_ERR_USAGE, "backups of \"%.16s\" cannot be restored", work->shared.engine);
    if (work->moments != NULL)
        work->moments->done(work);
    work->moments = moments;
    return moments->read(work, facts, err);
}

/* A folder that was cut off before its log and its target were there would replay to a wrong moment. */
static bool
write_rest(void *context, const char *target, struct hf_error *err)
{
    struct hf_restore_work *work = context;
    if (work->engine->complete != NULL)
        return hf_corrections_apply(target, err); // the rest when all of it is there
    return hf_restore_configure(work->plan, target, &work->needs, err) &&
           (!work->proven || work->moments->write(work, target, err));
}
