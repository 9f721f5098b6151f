#include "server/job/kinds.h"

#include "server/job/damage.h"
#include "server/job/open_repository.h"

bool
hf_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    _cleanup_(hf_damages_done) struct hf_damages damages = {0};
    struct hf_check_report report;
    int64_t level = 1;
    json_t *affected;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_damages_init(&damages, err) || !hf_json_set(result, "damages", json_incref(damages.rows), err))
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
                                             .damage = hf_damages_take,
                                             .context = &damages,
                                             .done = &relay.done,
                                             .total = &relay.total};
    if (!hf_open_repository(worker, NULL, &opened, err) ||
        !hf_repository_check(opened.repository, &options, &report, err) ||
        !hf_damages_affected(&damages, opened.repository, hf_worker_cancel(worker), &affected, err) ||
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
    if (report.damages > 0)
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

/* Each backup that needs a damaged object becomes "damaged": from now on, wherever it is shown. */
bool
hf_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                  struct hf_error *err)
{
    (void)job;
    (void)why;
    if (*result == NULL)
        return true;
    json_t *affected, *row;
    size_t index;
    if (!hf_json_array(*result, "affected", "the result", &affected, err))
        return false;
    json_array_foreach(affected, index, row)
    {
        if (!hf_damage_record(daemon, row, "found by repo check", err))
            return false;
    }
    return true;
}
