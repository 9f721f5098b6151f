#include "server/job/kinds.h"

#include <pthread.h>
#include <string.h>

#include "server/job/damage.h"
#include "server/job/daemon_internal.h"
#include "server/job/open_repository.h"

/* What a check tells, and which of the packs of which a damage is known it found whole. */
struct checking {
    struct hf_damages damages;
    const json_t *known;
    pthread_mutex_t lock; // several workers judge
    json_t *sound;
    bool out_of_memory;
};

static void checking_done(struct checking *checking);
static void take_damage(void *context, const struct hf_damage *damage);
static void take_judgement(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound);

/* {level, known}: the known damages, so that the check can say of which packs there is none any more. */
bool
hf_check_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument arguments[] = {{"level", 'i', false}};
    const json_t *level = json_object_get(hf_job_arguments(job), "level");
    json_t *packs;
    if (!hf_arguments_check(hf_job_arguments(job), arguments, HF_LENGTH(arguments), err) ||
        !hf_damage_known_packs(daemon, &packs, err))
        return false;
    *ret_request = json_pack("{s:O*, s:o}", "level", level, "known", packs);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    _cleanup_(checking_done) struct checking checking = {
        .known = json_object_get(request, "known"), .lock = PTHREAD_MUTEX_INITIALIZER, .sound = json_array()};
    struct hf_damages *damages = &checking.damages;
    struct hf_check_report report;
    int64_t level = 1;
    json_t *affected;
    if (result == NULL || checking.sound == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_damages_init(damages, err) || !hf_json_set(result, "damages", json_incref(damages->rows), err))
        return false;
    if (json_object_get(request, "level") != NULL &&
        !hf_json_integer(request, "level", "the request", 0, 2, &level, err))
        return hf_fail(err, HF_ERR_USAGE, "the check level is 0, 1 or 2");

    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    atomic_store(&relay.phase, "check");
    const struct hf_check_options options = {.level = (int)level,
                                             .workers = (unsigned)hf_worker_settings(worker)->workers,
                                             .cancel = hf_worker_cancel(worker),
                                             .damage = take_damage,
                                             .judged = level >= 1 ? take_judgement : NULL, // 0 reads no pack
                                             .context = &checking,
                                             .done = &relay.done,
                                             .total = &relay.total};
    if (!hf_open_repository(worker, NULL, &opened, err) ||
        !hf_repository_check(opened.repository, &options, &report, err) ||
        !hf_damages_affected(damages, opened.repository, hf_worker_cancel(worker), &affected, err) ||
        !hf_json_set(result, "affected", affected, err) || !hf_json_set(result, "level", json_integer(level), err) ||
        !hf_json_set(result, "vaults", json_integer((json_int_t)report.vaults), err) ||
        !hf_json_set(result, "log_entries", json_integer((json_int_t)report.log_entries), err) ||
        !hf_json_set(result, "backups", json_integer((json_int_t)report.backups), err) ||
        !hf_json_set(result, "packs", json_integer((json_int_t)report.packs), err) ||
        !hf_json_set(result, "pack_bytes", json_integer((json_int_t)report.pack_bytes), err) ||
        !hf_json_set(result, "slabs", json_integer((json_int_t)report.slabs), err) ||
        !hf_json_set(result, "pages", json_integer((json_int_t)report.pages), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)report.files), err) ||
        !hf_json_set(result, "orphans", json_integer((json_int_t)report.orphans), err) ||
        !hf_json_set(result, "orphan_bytes", json_integer((json_int_t)report.orphan_bytes), err) ||
        !hf_json_set(result, "damage_count", json_integer((json_int_t)report.damages), err))
        return false;
    if (checking.out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_set(result, "sound", json_incref(checking.sound), err))
        return false;
    if (report.damages > 0)
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

static void
checking_done(struct checking *checking)
{
    hf_damages_done(&checking->damages);
    hf_json_freep(&checking->sound);
}

static void
take_damage(void *context, const struct hf_damage *damage)
{
    struct checking *checking = context;
    hf_damages_take(&checking->damages, damage);
}

static void
take_judgement(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound)
{
    struct checking *checking = context;
    char text[HF_ID_TEXT_BYTES];
    size_t index;
    const json_t *row;
    (void)vault;
    hf_id_format(pack, text);
    pthread_mutex_lock(&checking->lock);
    json_array_foreach(checking->known, index, row)
    {
        if (sound && json_is_string(row) && strcmp(json_string_value(row), text) == 0 &&
            json_array_append_new(checking->sound, json_string(text)) != 0)
            checking->out_of_memory = true;
    }
    pthread_mutex_unlock(&checking->lock);
}

/*
 * Each backup that needs a damaged object becomes "damaged": from now on, wherever it is shown.  One of which all that was
 * damaged is whole again is "healed".
 */
bool
hf_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                  struct hf_error *err)
{
    (void)job;
    (void)why;
    if (*result == NULL)
        return true;
    json_t *affected, *row, *sound;
    size_t index;
    if (!hf_json_array(*result, "affected", "the result", &affected, err) ||
        !hf_json_array(*result, "sound", "the result", &sound, err))
        return false;
    json_array_foreach(affected, index, row)
    {
        if (!hf_damage_record(daemon, row, "found by repo check", err))
            return false;
    }
    return hf_damage_record_healed(daemon, sound, affected, err);
}
