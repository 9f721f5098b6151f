#include "server/report/gather.h"

#include <string.h>

#include "base/time.h"

static bool take_document(void *context, const struct hf_evidence *evidence, struct hf_error *err);
static void take_problem(void *context, const char *problem);
static bool read_ledger(struct gathering *work, const struct hf_ledger_options *options, struct hf_error *err);
static bool take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool take_damage(void *context, const struct hf_damage_row *row, struct hf_error *err);
static bool take_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static json_t *keys_of(const struct hf_report_request *request);

bool
hf_report_gather(const struct hf_report_request *request, const struct hf_ledger_options *ledger,
                 struct hf_catalog *catalog, json_t **ret, struct hf_error *err)
{
    struct gathering work = {.request = request,
                             .catalog = catalog,
                             .summaries = json_array(),
                             .backups = json_array(),
                             .documents = json_object(),
                             .exceptions = json_array(),
                             .problems = json_array(),
                             .attempts = json_array()};
    char as_of[HF_TIME_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *model = json_object();
    bool ok = model != NULL && work.attempts != NULL && work.problems != NULL && work.documents != NULL &&
              work.backups != NULL && work.summaries != NULL && work.exceptions != NULL;
    if (!ok)
        hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    ok = ok && read_ledger(&work, ledger, err) &&
         hf_catalog_backups(catalog, request->source, true, take_backup, &work, err) &&
         hf_catalog_damages(catalog, take_damage, &work, err) &&
         hf_catalog_attempts(catalog, NULL, request->source, HF_REPORT_ROWS_MOST, take_attempt, &work, err) &&
         hf_json_set(model, "schema", json_string(HF_REPORT_SCHEMA), err) &&
         hf_json_set(model, "software", json_string(HF_VERSION), err) &&
         hf_json_set(model, "as_of", json_string(hf_time_format(request->as_of, as_of)), err) &&
         hf_json_set(model, "appliance",
                     json_pack("{s:s, s:s, s:O}", "id", hf_text_at(request->known, "appliance"), "name", work.origin,
                               "site",
                               hf_at(request->known, "site") != NULL ? hf_at(request->known, "site") : json_null()),
                     err) &&
         hf_json_set(model, "ledger", json_incref(work.ledger), err) &&
         hf_json_set(model, "keys", keys_of(request), err) &&
         (request->month != NULL ? hf_gather_month(&work, model, err) : hf_gather_backup(&work, model, err));
    json_decref(work.summaries);
    json_decref(work.backups);
    json_decref(work.documents);
    json_decref(work.exceptions);
    json_decref(work.problems);
    json_decref(work.attempts);
    json_decref(work.ledger);
    if (ok)
        *ret = HF_TAKE(model);
    return ok;
}

const json_t *
hf_gather_known(const struct gathering *work, const char *source)
{
    size_t index;
    json_t *row;
    json_array_foreach(hf_at(work->request->known, "sources"), index, row)
    {
        if (strcmp(hf_text_at(row, "name"), source) == 0)
            return row;
    }
    return json_null();
}

json_t *
hf_gather_time(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return ms < 0 ? json_null() : json_string(hf_time_format(ms, text));
}

json_t *
hf_gather_name(const char *text)
{
    return text == NULL || text[0] == '\0' ? json_null() : hf_evidence_name(text, strlen(text));
}

int64_t
hf_gather_ms(const json_t *object, const char *path)
{
    int64_t ms;
    const char *text = hf_text_at(object, path);
    return text[0] != '\0' && hf_time_parse(text, &ms, NULL) ? ms : -1;
}

/* Every document is verified, whatever the report is about: whether the ledger holds is part of it. */
static bool
read_ledger(struct gathering *work, const struct hf_ledger_options *options, struct hf_error *err)
{
    struct hf_ledger_report report;
    struct hf_error why = {0};
    char key[HF_KEY_ID_TEXT_BYTES];
    const bool whole = hf_ledger_walk(options, take_document, take_problem, work, &report, &why);
    if (!whole && why.kind == HF_ERR_NO_MEMORY) {
        *err = why;
        return false;
    }
    const bool none = !whole && why.kind == HF_ERR_NOT_FOUND && report.problems == 0;
    if (!whole && !none && json_array_size(work->problems) == 0)
        take_problem(work, why.message);
    snprintf(work->origin, sizeof work->origin, "%s", options->trust.keys[0].name);
    work->ledger = json_pack("{s:s, s:I, s:o, s:s, s:O}", "state",
                             whole  ? "whole"
                             : none ? "none"
                                    : "broken",
                             "entries", (json_int_t)report.entries, "root",
                             none ? json_null() : hf_json_hex(report.checkpoint.root.bytes, HF_SHA256_BYTES), "key_id",
                             hf_key_id_format(options->trust.keys[0].id, key), "problems", work->problems);
    return work->ledger != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
}

static bool
take_document(void *context, const struct hf_evidence *evidence, struct hf_error *err)
{
    struct gathering *work = context;
    const json_t *content = evidence->content;
    char id[HF_ID_TEXT_BYTES];
    const char *source = hf_text_at(content, "subject.source_name");
    if (strcmp(hf_text_at(content, "head.kind"), "verify") != 0) {
        work->acts += 1;
        return strcmp(hf_text_at(content, "head.kind"), "act") != 0 || hf_gather_exception(work, evidence, err);
    }
    if (work->request->source != NULL && strcmp(source, work->request->source) != 0)
        return true;
    if (json_array_size(work->summaries) >= HF_REPORT_ROWS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the report would look at more than %d attempts", HF_REPORT_ROWS_MOST);
    // The whole document only of the backup that the report is about.
    if (!hf_id_is_none(&work->request->backup) &&
        strcmp(hf_text_at(content, "backup.backup_id"), hf_id_format(&work->request->backup, id)) == 0 &&
        !hf_json_set(work->documents, hf_id_format(&evidence->evidence_id, id), json_deep_copy(content), err))
        return false;
    return json_array_append_new(work->summaries, hf_report_summary(evidence)) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
}

static void
take_problem(void *context, const char *problem)
{
    struct gathering *work = context;
    if (json_array_size(work->problems) < HF_EVIDENCE_MOST_LIST)
        json_array_append_new(work->problems, hf_evidence_name(problem, strlen(problem)));
}

static bool
take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct gathering *work = context;
    if (json_array_size(work->backups) >= HF_REPORT_ROWS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the report would look at more than %d backups", HF_REPORT_ROWS_MOST);
    json_t *backup = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:[], s:o, s:o}", "backup",
                               hf_json_id_text(&row->backup), "source", hf_gather_name(row->source), "version",
                               hf_gather_name(row->server_version), "started_at", hf_gather_time(row->started_at),
                               "ended_at", hf_gather_time(row->finished_at), "logical_bytes",
                               row->logical_bytes < 0 ? json_null() : json_integer(row->logical_bytes), "stored_bytes",
                               row->stored_bytes < 0 ? json_null() : json_integer(row->stored_bytes), "state",
                               row->shredded_at >= 0 ? "shredded" : hf_backup_state_name(row->state), "pruned_at",
                               hf_gather_time(row->pruned_at), "prune_reason", hf_gather_name(row->prune_reason),
                               "damages", "bad_pages", row->bad_pages < 0 ? json_null() : json_integer(row->bad_pages),
                               "state_since", hf_gather_time(row->state_since));
    return hf_words_add(work->backups, backup, err);
}

static bool
take_damage(void *context, const struct hf_damage_row *row, struct hf_error *err)
{
    struct gathering *work = context;
    char id[HF_ID_TEXT_BYTES];
    size_t index;
    json_t *backup;
    hf_id_format(&row->backup, id);
    json_array_foreach(work->backups, index, backup)
    {
        if (strcmp(hf_text_at(backup, "backup"), id) == 0)
            return hf_words_add(json_object_get(backup, "damages"),
                                json_pack("{s:o, s:o}", "reason", hf_gather_name(row->reason), "found_at",
                                          hf_gather_time(row->found_at)),
                                err);
    }
    return true;
}

static bool
take_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    struct gathering *work = context;
    return hf_words_add(work->attempts,
                        json_pack("{s:o, s:o, s:o, s:o}", "evidence",
                                  hf_id_is_none(&row->evidence) ? json_null() : hf_json_id_text(&row->evidence),
                                  "backup", hf_json_id_text(&row->backup), "source", hf_gather_name(row->source),
                                  "recorded_at", hf_gather_time(row->recorded_at)),
                        err);
}

static json_t *
keys_of(const struct hf_report_request *request)
{
    const json_t *keys = hf_at(request->known, "keys");
    return keys == NULL ? json_array() : json_deep_copy(keys);
}
