#include <stdio.h>
#include <string.h>

#include "catalog/view.h"
#include "server/job/abilities.h"
#include "server/job/daemon_internal.h"

/* The sources that will be looked at, while their list is made. */
struct gathering {
    struct hf_daemon *daemon;
    json_t *names;
};

static bool keep_name(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool examine(struct hf_worker *worker, const json_t *described, json_t **ret, enum hf_check_verdict *worst,
                    struct hf_error *err);
static bool examine_appliance(struct hf_worker *worker, json_t **ret, enum hf_check_verdict *worst,
                              struct hf_error *err);
static void note_unreachable(struct hf_checks *checks, const struct hf_error *why);
static bool add_checks(json_t *list, const struct hf_checks *checks, struct hf_error *err);

bool
hf_doctor_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}};
    _cleanup_(hf_json_freep) json_t *names = json_array(), *sources = json_array();
    struct gathering gathering = {daemon, names};
    if (!hf_arguments_check(job->arguments, known, HF_LENGTH(known), err))
        return false;
    if (job->subject[0] == '\0' && !hf_catalog_sources(hf_daemon_catalog(daemon), keep_name, &gathering, err))
        return false;
    if (job->subject[0] != '\0' && json_array_append_new(names, json_string(job->subject)) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");

    for (size_t i = 0; i < json_array_size(names); i++) {
        json_t *described = NULL;
        if (!hf_daemon_describe_source(daemon, json_string_value(json_array_get(names, i)), &described, err))
            return false;
        if (json_array_append_new(sources, described) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
    }
    *ret_request = json_pack("{s:O}", "sources", sources);
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
}

bool
hf_doctor_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    json_t *sources;
    if (!hf_json_array(request, "sources", "the request", &sources, err))
        return false;
    for (size_t i = 0; i < json_array_size(sources) + 1; i++) { // the last one is the appliance itself
        enum hf_check_verdict worst;
        json_t *examined = NULL;
        if (!hf_worker_go_on(worker, err))
            return false;
        hf_worker_progress(worker, "examine", 0, 0);
        if (i < json_array_size(sources) ? !examine(worker, json_array_get(sources, i), &examined, &worst, err)
                                         : !examine_appliance(worker, &examined, &worst, err))
            return false;
        if (json_array_append_new(list, examined) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
        if (worst == HF_CHECK_FAILED)
            hf_worker_bad_news(worker);
    }
    *ret_result = json_pack("{s:O}", "sources", list);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
}

static bool
keep_name(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct gathering *gathering = context;
    return json_array_append_new(gathering->names, json_string(row->name)) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
}

/* What keeps us from asking at all is the first finding, so that one source never hides the others. */
static bool
examine(struct hf_worker *worker, const json_t *described, json_t **ret, enum hf_check_verdict *worst,
        struct hf_error *err)
{
    struct hf_source_identity identity;
    _cleanup_(hf_worker_source_done) struct hf_worker_source source = {0};
    _cleanup_(hf_freep) struct hf_checks *checks = calloc(1, sizeof *checks);
    _cleanup_(hf_json_freep) json_t *list = json_array();
    struct hf_error why;
    if (checks == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
    if (!hf_worker_source_open(described, &source, &why))
        note_unreachable(checks, &why);
    else if (!source.engine->doctor(&source.target, &hf_abilities, checks, &why))
        note_unreachable(checks, &why);
    else if (source.engine->identify(&source.target, &identity, &why)) // why it cannot is among the findings
        hf_abilities_check_binaries(hf_worker_settings(worker), source.engine->name, identity.server_version, checks);

    *worst = hf_checks_worst(checks);
    if (!add_checks(list, checks, err))
        return false;
    *ret = json_pack("{s:O, s:s, s:O}", "name", json_object_get(described, "name"), "worst",
                     hf_check_verdict_name(*worst), "checks", list);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
}

static bool
examine_appliance(struct hf_worker *worker, json_t **ret, enum hf_check_verdict *worst, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_checks *checks = calloc(1, sizeof *checks);
    _cleanup_(hf_json_freep) json_t *list = json_array();
    if (checks == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
    hf_abilities_check_appliance(worker, checks);
    *worst = hf_checks_worst(checks);
    if (!add_checks(list, checks, err))
        return false;
    *ret =
        json_pack("{s:s, s:s, s:O}", "name", "this appliance", "worst", hf_check_verdict_name(*worst), "checks", list);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
}

static void
note_unreachable(struct hf_checks *checks, const struct hf_error *why)
{
    struct hf_check *check = &checks->items[0];
    *check =
        (struct hf_check){.id = "settings", .title = "the source's settings can be used", .verdict = HF_CHECK_FAILED};
    snprintf(check->detail, sizeof check->detail, "%s", why->message);
    snprintf(check->remedy, sizeof check->remedy, "%s", why->hint);
    checks->count = 1;
}

static bool
add_checks(json_t *list, const struct hf_checks *checks, struct hf_error *err)
{
    for (size_t i = 0; i < checks->count; i++) {
        const struct hf_check *check = &checks->items[i];
        json_t *entry =
            json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", check->id, "title", check->title, "verdict",
                      hf_check_verdict_name(check->verdict), "detail",
                      hf_json_foreign_text(check->detail, strlen(check->detail), sizeof check->detail), "remedy",
                      hf_json_foreign_text(check->remedy, strlen(check->remedy), sizeof check->remedy));
        if (json_array_append_new(list, entry) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the doctor");
    }
    return true;
}
