#include "server/job/stream_status.h"

#include <string.h>

#include "base/lsn.h"
#include "catalog/view.h"

#define BEHIND_MS 60000 // without having everything: then it is bad news

static bool add_window(void *context, const struct hf_window_row *row, struct hf_error *err);
static const char *name_state(struct hf_daemon *daemon, const struct hf_job *job, int64_t *ret_lag_ms);

bool
hf_stream_status(struct hf_daemon *daemon, const char *source, json_t **ret, bool *ret_bad_news, struct hf_error *err)
{
    struct hf_job *job = hf_stream_job(daemon, source);
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    _cleanup_(hf_json_freep) json_t *windows = json_array();
    struct hf_id vault;
    int64_t lag_ms = -1;
    if (windows == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream's status");
    if (!hf_daemon_source(daemon, source, &settings, err) ||
        !hf_catalog_source_vault(hf_daemon_catalog(daemon), source, &vault, err))
        return false;
    if (job != NULL && !hf_id_is_none(&job->rights.vault))
        vault = job->rights.vault;
    if (!hf_id_is_none(&vault) && !hf_catalog_windows(hf_daemon_catalog(daemon), &vault, add_window, windows, err))
        return false;
    if (!settings->stream && json_array_size(windows) == 0) {
        *ret = json_null();
        return true;
    }

    const char *state = settings->stream ? name_state(daemon, job, &lag_ms) : "off";
    const json_t *slot = job == NULL ? NULL : json_object_get(job->report, "slot");
    *ret_bad_news =
        settings->stream && (strcmp(state, "receiving") != 0 || json_is_true(json_object_get(slot, "alarm")));
    *ret = json_pack("{s:s, s:o, s:O?, s:O}", "state", state, "lag_ms", lag_ms < 0 ? json_null() : json_integer(lag_ms),
                     "now", job == NULL ? NULL : job->report, "windows", windows);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream's status");
}

/* Lag is the age of the newest moment of which we have everything; -1: not known. */
static const char *
name_state(struct hf_daemon *daemon, const struct hf_job *job, int64_t *ret_lag_ms)
{
    if (job == NULL)
        return "stopped";
    if (job->report == NULL)
        return "starting";
    const int64_t caught_up_at = json_integer_value(json_object_get(job->report, "caught_up_at"));
    if (caught_up_at > 0)
        *ret_lag_ms = hf_daemon_now(daemon) > caught_up_at ? hf_daemon_now(daemon) - caught_up_at : 0;
    if (!json_is_true(json_object_get(job->report, "connected")))
        return "disconnected";
    if (*ret_lag_ms < 0 || *ret_lag_ms > BEHIND_MS)
        return "behind";
    return json_integer_value(json_object_get(job->report, "semi_sync_lost_at")) > 0 ? "asynchronous" : "receiving";
}

static bool
add_window(void *context, const struct hf_window_row *row, struct hf_error *err)
{
    char start[HF_LSN_TEXT_BYTES], end[HF_LSN_TEXT_BYTES];
    json_t *window = json_pack("{s:s, s:s, s:I, s:o, s:o, s:I, s:I}", "start", hf_lsn_format(row->start, start), "end",
                               hf_lsn_format(row->end, end), "timeline", (json_int_t)row->timeline, "first_commit_at",
                               row->first_time == 0 ? json_null() : json_integer(row->first_time), "last_commit_at",
                               row->last_time == 0 ? json_null() : json_integer(row->last_time), "commits",
                               (json_int_t)row->commits, "stored_bytes", (json_int_t)row->stored_bytes);
    return json_array_append_new(context, window) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stream's status");
}
