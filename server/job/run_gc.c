#include "server/job/kinds.h"

#include "base/file.h"
#include "base/time.h"
#include "server/care/collect.h"
#include "server/job/daemon_internal.h"
#include "server/job/open_repository.h"
#include "server/job/records.h"

static bool collect_all(struct hf_worker *worker, struct hf_open_repository *opened, struct hf_progress_relay *relay,
                        json_t *left_alone, struct hf_collect_report *report, struct hf_error *err);
static bool is_shredded(struct hf_repository *repository, const struct hf_id *vault, bool *ret, struct hf_error *err);
static bool add_report(json_t *result, const struct hf_collect_report *report, struct hf_error *err);

bool
hf_gc_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    if (!hf_records_may_write(hf_daemon_records(daemon), err) || !hf_pins_tidy(daemon, err))
        return false;
    *ret_request = json_incref((json_t *)(uintptr_t)hf_job_arguments(job));
    return true;
}

bool
hf_gc_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    json_t *left_alone = json_array();
    struct hf_collect_report report = {0};
    (void)request;
    if (result == NULL || !hf_json_set(result, "left_alone", left_alone, err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    hf_worker_progress(worker, "collect", 0, 0);
    if (!hf_open_repository(worker, NULL, &opened, err) ||
        !hf_backend_sweep(hf_repository_backend(opened.repository), &report.uploads, &report.upload_bytes, err))
        return false;

    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    if (!collect_all(worker, &opened, &relay, left_alone, &report, err) || !add_report(result, &report, err))
        return false;
    if (json_array_size(left_alone) > 0 || report.damaged > 0)
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

static bool
collect_all(struct hf_worker *worker, struct hf_open_repository *opened, struct hf_progress_relay *relay,
            json_t *left_alone, struct hf_collect_report *report, struct hf_error *err)
{
    _cleanup_(hf_freep) char *cache = hf_path_join(hf_worker_settings(worker)->state, HF_STATE_CACHE);
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (cache == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    const struct hf_collect_options options = {.signing = hf_worker_signing(worker),
                                               .cache_folder = cache,
                                               .now = hf_time_now_ms(),
                                               .cancel = hf_worker_cancel(worker),
                                               .done = &relay->done,
                                               .total = &relay->total,
                                               .phase = &relay->phase};
    if (!hf_repository_vaults(opened->repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char text[HF_ID_TEXT_BYTES];
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        bool shredded;
        report->unreadable[0] = 0;
        if (!is_shredded(opened->repository, &vaults[i], &shredded, err))
            return false;
        if (shredded) { // its keys are gone, and with them what a manifest says
            if (!hf_vault_collect_shredded(opened->repository, &vaults[i], report, err))
                return false;
            continue;
        }
        if (!hf_vault_open(opened->repository, &vaults[i], &vault, err) ||
            !hf_vault_collect(vault, &options, report, err))
            return hf_fail_within(err, "vault \"%s\"", hf_id_format(&vaults[i], text));
        if (report->unreadable[0] == 0)
            continue;
        json_t *row = json_pack("{s:o, s:s}", "vault", hf_json_id_text(&vaults[i]), "message", report->unreadable);
        if (row == NULL || json_array_append_new(left_alone, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    }
    return true;
}

static bool
is_shredded(struct hf_repository *repository, const struct hf_id *vault, bool *ret, struct hf_error *err)
{
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    if (!hf_vault_read_shut(repository, vault, &state, err))
        return false;
    *ret = state->shredded;
    return true;
}

static bool
add_report(json_t *result, const struct hf_collect_report *report, struct hf_error *err)
{
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        {"packs_removed", report->packs},
        {"bytes_removed", report->pack_bytes + report->upload_bytes},
        {"uploads_removed", report->uploads},
        {"packs_of_open_sessions", report->kept_open},
        {"sessions_aborted", report->sessions_aborted},
        {"packs_condemned", report->condemned},
        {"packs_deleted", report->deleted},
        {"packs_moved", report->moved},
        {"containers_written", report->containers},
        {"bytes_written", report->container_bytes},
        {"objects_waiting", report->waiting},
        {"bytes_waiting", report->waiting_bytes},
        {"objects_locked", report->locked},
        {"bytes_locked", report->locked_bytes},
        {"objects_damaged", report->damaged},
    };
    for (size_t i = 0; i < HF_LENGTH(rows); i++)
        if (!hf_json_set(result, rows[i].name, json_integer((json_int_t)rows[i].value), err))
            return false;
    return true;
}
