#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/evidence/verify.h"
#include "server/job/daemon_internal.h"
#include "server/job/evidence.h"
#include "server/job/known.h"
#include "server/report/report.h"

static bool keep_id(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool choose(struct hf_daemon *daemon, const struct hf_job *job, json_t *request, struct hf_error *err);
static bool open_catalog(struct hf_worker *worker, struct hf_catalog **ret, struct hf_error *err);
static const char *text_of(const json_t *object, const char *member, const char *missing);

bool
hf_report_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}, {"backup", 's', false}, {"month", 's', false},
                                               {"format", 's', false}, {"paper", 's', false},  {"as_of", 's', false},
                                               {"output", 's', true}};
    _cleanup_(hf_json_freep) json_t *request = NULL, *facts = NULL, *trusted = NULL;
    const json_t *arguments = hf_job_arguments(job);
    enum hf_report_format format;
    enum hf_paper paper;
    int64_t as_of = hf_daemon_now(daemon) / 1000 * 1000;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    const char *moment = text_of(arguments, "as_of", NULL);
    if (!hf_report_format_parse(text_of(arguments, "format", "pdf"), &format, err) ||
        !hf_report_paper_parse(text_of(arguments, "paper", "a4"), &paper, err) ||
        (moment != NULL && !hf_time_parse(moment, &as_of, err)))
        return false;
    if (!hf_evidence_trusted_json(daemon, &trusted, err) || !hf_known_all(daemon, &facts, err))
        return false;
    request =
        json_pack("{s:O, s:I, s:i, s:i, s:s, s:O, s:s?, s:n, s:n}", "known", facts, "as_of", (json_int_t)as_of,
                  "format", (int)format, "paper", (int)paper, "output", text_of(arguments, "output", ""), "keys",
                  trusted, "source", hf_job_subject(job)[0] == '\0' ? NULL : hf_job_subject(job), "backup", "month");
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (!choose(daemon, job, request, err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

bool
hf_report_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = NULL;
    _cleanup_(hf_json_freep) json_t *model = NULL;
    _cleanup_(hf_buf_done) struct hf_buf bytes = HF_BUF_INIT(HF_REPORT_MOST);
    _cleanup_(hf_freep) char *folder = NULL;
    struct hf_report_request wanted = {.source = text_of(request, "source", NULL),
                                       .month = text_of(request, "month", NULL)};
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    size_t key_count;
    const char *backup = text_of(request, "backup", NULL), *output;
    int64_t format, paper;
    json_t *known;
    if (!hf_json_object(request, "known", "the request", &known, err) ||
        !hf_json_integer(request, "as_of", "the request", 0, INT64_MAX, &wanted.as_of, err) ||
        !hf_json_integer(request, "format", "the request", HF_REPORT_JSON, HF_REPORT_PDF, &format, err) ||
        !hf_json_integer(request, "paper", "the request", HF_PAPER_A4, HF_PAPER_LETTER, &paper, err) ||
        !hf_json_string(request, "output", "the request", &output, err) ||
        !hf_evidence_trusted_parse(json_object_get(request, "keys"), keys, &key_count, err) ||
        (backup != NULL && !hf_id_parse(backup, &wanted.backup, err)) ||
        !hf_evidence_folder(hf_worker_settings(worker), &folder, err) || !open_catalog(worker, &catalog, err))
        return false;
    wanted.known = known;
    const struct hf_ledger_options ledger = {.folder = folder, .trust = {.keys = keys, .count = key_count}};
    hf_worker_progress(worker, "verify", 0, 0);
    if (!hf_report_gather(&wanted, &ledger, catalog, &model, err))
        return false;
    hf_worker_progress(worker, "write", 0, 0);
    if (!hf_report_render(model, (enum hf_report_format)format, (enum hf_paper)paper, &bytes, err) ||
        !hf_file_publish(output, bytes.data, bytes.length, 0640, HF_PUBLISH_REPLACE, err))
        return false;
    const bool bad = hf_report_is_bad_news(model);
    if (bad)
        hf_worker_bad_news(worker);
    *ret_result = json_pack("{s:s, s:I, s:O, s:O?, s:b, s:O}", "output", output, "bytes", (json_int_t)bytes.length,
                            "kind", json_object_get(model, "kind"), "verdict", json_object_get(model, "verdict"),
                            "bad_news", (int)bad, "ledger", json_object_get(json_object_get(model, "ledger"), "state"));
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

/* A backup that was named, or a month; without both the newest backup of a source, or this month for all of them. */
static bool
choose(struct hf_daemon *daemon, const struct hf_job *job, json_t *request, struct hf_error *err)
{
    const char *backup = text_of(hf_job_arguments(job), "backup", NULL);
    const char *month = text_of(hf_job_arguments(job), "month", NULL);
    struct hf_id id;
    char now[HF_TIME_TEXT_BYTES];
    int64_t from, to;
    bool found = false;
    if (backup != NULL && month != NULL)
        return hf_fail(err, HF_ERR_USAGE, "a report is of a backup or of a month, not of both");
    if (month != NULL)
        return hf_report_month(month, &from, &to, err) && hf_json_set(request, "month", json_string(month), err);
    if (backup != NULL)
        return hf_id_parse(backup, &id, err) && hf_json_set(request, "backup", json_string(backup), err);
    if (hf_job_subject(job)[0] == '\0') {
        hf_time_format(json_integer_value(json_object_get(request, "as_of")), now);
        return hf_json_set(request, "month", json_stringn(now, 7), err);
    }
    if (!hf_catalog_newest_backup(hf_daemon_catalog(daemon), hf_job_subject(job), NULL, &found, keep_id, &id, err))
        return false;
    if (!found) {
        hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no backup", hf_job_subject(job));
        return hf_fail_hint(err, "A month can be reported all the same: --month 2026-11.");
    }
    return hf_json_set(request, "backup", hf_json_id_text(&id), err);
}

static bool
keep_id(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    *(struct hf_id *)context = row->backup;
    return true;
}

/* As it is now, whatever is written meanwhile. */
static bool
open_catalog(struct hf_worker *worker, struct hf_catalog **ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(hf_worker_settings(worker)->state, HF_STATE_CATALOG);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    return hf_catalog_open(path, HF_CATALOG_READ, ret, err) && hf_catalog_snapshot(*ret, err);
}

static const char *
text_of(const json_t *object, const char *member, const char *missing)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? missing : text;
}
