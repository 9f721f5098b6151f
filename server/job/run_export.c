#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/evidence/export.h"
#include "server/job/daemon_internal.h"
#include "server/job/evidence.h"

#define DAY_MS (INT64_C(24) * 3600 * 1000)

static bool read_day(const char *text, bool is_end, int64_t *ret, struct hf_error *err);

bool
hf_export_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"from", 's', true}, {"to", 's', true}, {"output", 's', true}};
    const json_t *arguments = hf_job_arguments(job);
    json_t *trusted;
    int64_t from, to;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !read_day(json_string_value(json_object_get(arguments, "from")), false, &from, err) ||
        !read_day(json_string_value(json_object_get(arguments, "to")), true, &to, err))
        return false;
    if (from >= to)
        return hf_fail(err, HF_ERR_USAGE, "\"to\" lies before \"from\"");
    if (!hf_evidence_trusted_json(daemon, &trusted, err))
        return false;
    *ret_request = json_pack("{s:I, s:I, s:O, s:o}", "from", (json_int_t)from, "to", (json_int_t)to, "output",
                             json_object_get(arguments, "output"), "keys", trusted);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_export_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_freep) char *folder = NULL;
    struct hf_export_report report;
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    size_t key_count;
    const char *output;
    int64_t from, to;
    if (!hf_json_integer(request, "from", "the request", INT64_MIN, INT64_MAX, &from, err) ||
        !hf_json_integer(request, "to", "the request", INT64_MIN, INT64_MAX, &to, err) ||
        !hf_json_string(request, "output", "the request", &output, err) ||
        !hf_evidence_trusted_parse(json_object_get(request, "keys"), keys, &key_count, err) ||
        !hf_evidence_folder(hf_worker_settings(worker), &folder, err))
        return false;
    hf_worker_progress(worker, "export", 0, 0);
    const struct hf_ledger_options options = {.folder = folder, .trust = {.keys = keys, .count = key_count}};
    if (!hf_evidence_export(&options, from, to, output, &report, err))
        return false;
    *ret_result = json_pack("{s:s, s:I, s:I, s:I}", "output", output, "documents", (json_int_t)report.count, "first",
                            (json_int_t)report.first, "entries", (json_int_t)report.entries);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

/* The key never leaves the daemon. */
bool
hf_export_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                   struct hf_error *err)
{
    const char *output = json_string_value(json_object_get(hf_job_arguments(job), "output"));
    (void)result;
    return why != NULL || hf_evidence_export_sign(output, hf_records_signer(hf_daemon_records(daemon)), err);
}

/* A day such as 2026-11-23, which as an end is meant whole; or a moment. */
static bool
read_day(const char *text, bool is_end, int64_t *ret, struct hf_error *err)
{
    char moment[HF_TIME_TEXT_BYTES];
    if (strlen(text) != 10)
        return hf_time_parse(text, ret, err);
    snprintf(moment, sizeof moment, "%sT00:00:00Z", text);
    if (!hf_time_parse(moment, ret, err))
        return false;
    *ret += is_end ? DAY_MS : 0;
    return true;
}
