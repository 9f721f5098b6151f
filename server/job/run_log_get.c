#include "server/job/kinds.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/log_ahead.h"
#include "server/job/log_place.h"
#include "server/job/log_serve.h"

bool
hf_log_get_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {
        {"source", 's', false}, {"file", 's', true}, {"to", 's', true}, {"prefetch", 'i', false}};
    char name[HF_JOB_SUBJECT_BYTES];
    struct hf_id vault;
    int64_t ahead = HF_LOG_GET_AHEAD;
    const json_t *arguments = hf_job_arguments(job);
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    if (json_object_get(arguments, "prefetch") != NULL &&
        !hf_json_integer(arguments, "prefetch", "the request", 0, HF_LOG_AHEAD_SEGMENTS_MOST, &ahead, err))
        return false;
    snprintf(name, sizeof name, "%s", hf_job_subject(job));
    if (name[0] == '\0' && !hf_log_serve_only(daemon, name, err))
        return false;
    if (!hf_catalog_source_vault(hf_daemon_catalog(daemon), name, &vault, err))
        return false;
    if (hf_id_is_none(&vault))
        return hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no log here yet", name);
    hf_job_set_vault(job, &vault);
    *ret_request = json_pack("{s:O, s:O, s:s, s:I}", "file", json_object_get(arguments, "file"), "to",
                             json_object_get(arguments, "to"), "source", name, "asker", (json_int_t)hf_job_asker(job));
    return *ret_request != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_log_get_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    static const char what[] = "the request";
    static const struct hf_log_put how = {.durable = true};
    _cleanup_(hf_archive_freep) struct hf_archive *archive = NULL;
    _cleanup_(hf_log_place_done) struct hf_log_place place = HF_LOG_PLACE_NONE;
    struct hf_vault *vault;
    struct hf_archive_file file;
    enum hf_archive_answer answer;
    uint32_t segment_bytes = HF_MIB;
    const char *name, *to, *source, *put_name;
    int64_t asker;
    if (!hf_json_string(request, "file", what, &name, err) || !hf_json_string(request, "to", what, &to, err) ||
        !hf_json_string(request, "source", what, &source, err) ||
        !hf_json_integer(request, "asker", what, -1, UINT32_MAX, &asker, err) ||
        !hf_archive_file_parse(name, segment_bytes, &file, err) ||
        !hf_log_place_open(to, asker, &place, &put_name, err) || !hf_worker_vault(worker, &vault, err) ||
        !hf_archive_open(vault, NULL, &archive, err) ||
        (!file.history && (!hf_archive_segment_bytes(archive, &segment_bytes, err) ||
                           !hf_archive_file_parse(name, segment_bytes, &file, err))) ||
        !hf_log_place_put(&place, archive, &file, segment_bytes, put_name, &how, &answer, err))
        return hf_fail_within(err, "could not get \"%.64s\" from the archive",
                              json_string_value(json_object_get(request, "file")));
    *ret_result = json_pack("{s:s, s:b, s:b, s:s}", "file", name, "found", (int)(answer != HF_ARCHIVE_BEYOND), "whole",
                            (int)(answer == HF_ARCHIVE_WHOLE), "source", source);
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

/* Who asked once will ask again: the next answers come from a worker that stays. */
bool
hf_log_get_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                    struct hf_error *err)
{
    const char *source;
    struct hf_error failure;
    const json_t *ahead = json_object_get(hf_job_arguments(job), "prefetch");
    if (why != NULL || (ahead != NULL && json_integer_value(ahead) == 0))
        return true;
    if (!hf_json_string(*result, "source", "the result", &source, err))
        return false;
    if (!hf_log_serve_begin(daemon, source, &failure))
        hf_log_warning(&failure, "the log of \"%s\" is served file by file", source);
    return true;
}
