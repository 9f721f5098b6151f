#include "server/report/gather.h"

#include <stdarg.h>
#include <string.h>

static json_t *as_of(const json_t *backup, const json_t *attempt, const json_t *exceptions);
static bool find_backup(struct gathering *work, const char *id, json_t **ret, struct hf_error *err);
static bool add_attempts(struct gathering *work, const char *id, json_t *model, struct hf_error *err);
static const char *verdict_of(const struct gathering *work, const json_t *backup, const json_t *attempt);
static bool is_newest(const struct gathering *work, const json_t *attempt);
static bool add_not_proven(const json_t *attempt, json_t *model, struct hf_error *err);
static bool is_undetermined(const json_t *document, const char *id);
static bool add_checks_not_proven(const json_t *document, json_t *list, bool *ret_asserted, struct hf_error *err);
static bool add_reason(json_t *list, const json_t *document, const char *group, const char *member, const char *before,
                       struct hf_error *err);
static bool add_sentence(json_t *list, struct hf_error *err, const char *format, ...) HF_PRINTF(3, 4);

bool
hf_gather_backup(struct gathering *work, json_t *model, struct hf_error *err)
{
    char id[HF_ID_TEXT_BYTES];
    json_t *backup;
    hf_id_format(&work->request->backup, id);
    if (!find_backup(work, id, &backup, err) || !hf_json_set(model, "kind", json_string("backup"), err) ||
        !hf_json_set(model, "backup", backup, err) || !add_attempts(work, id, model, err))
        return false;
    const json_t *attempt = hf_at(model, "attempt");
    json_t *exceptions;
    if (!hf_gather_exceptions_of(work, hf_text_at(attempt, "evidence"), work->request->as_of, &exceptions, err) ||
        !hf_json_set(model, "exceptions", exceptions, err))
        return false;
    return hf_json_set(model, "as_of", as_of(backup, attempt, exceptions), err) &&
           hf_json_set(model, "verdict", json_string(verdict_of(work, backup, attempt)), err) &&
           hf_json_set(model, "source", json_deep_copy(hf_gather_known(work, hf_text_at(backup, "source"))), err) &&
           add_not_proven(attempt, model, err);
}

/* The newest date of what is told, so that the same facts give the same report. */
static json_t *
as_of(const json_t *backup, const json_t *attempt, const json_t *exceptions)
{
    const char *newest = json_is_object(attempt) ? hf_text_at(attempt, "created_at") : hf_text_at(backup, "ended_at");
    size_t index;
    json_t *exception;
    json_array_foreach((json_t *)(uintptr_t)exceptions, index, exception)
    {
        const char *state = hf_text_at(exception, "state");
        const char *date = hf_text_at(exception, strcmp(state, "expired") == 0     ? "until"
                                                 : strcmp(state, "withdrawn") == 0 ? "withdrawn_at"
                                                                                   : "accepted_at");
        if (strcmp(date, newest) > 0) // times have one form, whose order is that of its letters
            newest = date;
    }
    return newest[0] == '\0' ? json_null() : json_string(newest);
}

static bool
find_backup(struct gathering *work, const char *id, json_t **ret, struct hf_error *err)
{
    size_t index;
    json_t *backup;
    json_array_foreach(work->backups, index, backup)
    {
        if (strcmp(hf_text_at(backup, "backup"), id) != 0)
            continue;
        const json_t *known = hf_gather_known(work, hf_text_at(backup, "source"));
        *ret = json_deep_copy(backup);
        return *ret != NULL &&
               hf_json_set(*ret, "engine",
                           json_is_object(known) ? json_string(hf_text_at(known, "engine")) : json_null(), err);
    }
    return hf_fail(err, HF_ERR_NOT_FOUND, "there is no backup \"%s\"", id);
}

/* The newest in the ledger counts, the others are listed; what only the catalog knows is counted. */
static bool
add_attempts(struct gathering *work, const char *id, json_t *model, struct hf_error *err)
{
    json_t *earlier = json_array(), *newest = NULL, *summary, *attempt;
    json_int_t of_catalog = 0, verified = 0;
    size_t index;
    json_array_foreach(work->summaries, index, summary)
    {
        if (strcmp(hf_text_at(summary, "backup"), id) != 0)
            continue;
        verified++;
        if (newest != NULL && json_array_insert(earlier, 0, newest) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
        newest = summary;
    }
    json_array_foreach(work->attempts, index, attempt) of_catalog += strcmp(hf_text_at(attempt, "backup"), id) == 0;
    json_t *shown = newest == NULL ? json_null() : json_deep_copy(newest);
    return hf_json_set(model, "earlier", earlier, err) && hf_json_set(model, "attempt", shown, err) &&
           (newest == NULL ||
            hf_json_set(shown, "document",
                        json_incref(json_object_get(work->documents, hf_text_at(newest, "evidence"))), err)) &&
           hf_json_set(model, "unsupported", json_integer(of_catalog > verified ? of_catalog - verified : 0), err);
}

/* What is worst counts: damage that was found later, then what the newest attempt says. */
static const char *
verdict_of(const struct gathering *work, const json_t *backup, const json_t *attempt)
{
    const char *state = hf_text_at(backup, "state"), *result = hf_text_at(attempt, "result");
    if (strcmp(state, "damaged") == 0 || strcmp(state, "shredded") == 0)
        return "damaged";
    if (!json_is_object(attempt))
        return "not_tested";
    if (!is_newest(work, attempt))
        return "not_supported";
    if (strcmp(result, "failed") == 0)
        return strcmp(hf_text_at(attempt, "state_after"), "damaged") == 0 ? "damaged" : "not_recoverable";
    return strcmp(result, "passed") == 0 ? "recoverable" : "not_determined";
}

/* The document of a newer attempt may be gone because of what it said. */
static bool
is_newest(const struct gathering *work, const json_t *attempt)
{
    size_t index;
    json_t *known;
    json_array_foreach(work->attempts, index, known)
    {
        if (strcmp(hf_text_at(known, "backup"), hf_text_at(attempt, "backup")) == 0)
            return strcmp(hf_text_at(known, "evidence"), hf_text_at(attempt, "evidence")) == 0;
    }
    return false;
}

static bool
add_not_proven(const json_t *attempt, json_t *model, struct hf_error *err)
{
    const json_t *document = hf_at(attempt, "document");
    json_t *list = json_array();
    bool asserted = false;
    if (!hf_json_set(model, "not_proven", list, err))
        return false;
    if (!json_is_object(document))
        return add_sentence(list, err, "Anything: no attempt to restore this backup is on record with sound evidence.");
    if (!add_checks_not_proven(document, list, &asserted, err) ||
        (!is_undetermined(document, "archive") &&
         !add_reason(list, document, "", "stream", "What was written after the backup ended", err)) ||
        (!is_undetermined(document, "caught_up") &&
         !add_reason(list, document, "rto_rpo", "caught_up",
                     "That the copy follows the live server to its newest commit", err)))
        return false;
    if (!asserted && !add_sentence(list, err,
                                   "That the entries themselves are right: the checks find damage and loss, not wrong "
                                   "values. No assertion of the owner's about the content was evaluated."))
        return false;
    return add_sentence(list, err,
                        "That a recovery elsewhere takes the same time: it was measured on this appliance, with its "
                        "disks and its load.");
}

/* Then its own reason stands in the list already. */
static bool
is_undetermined(const json_t *document, const char *id)
{
    size_t index;
    json_t *check;
    json_array_foreach(hf_at(document, "checks"), index, check)
    {
        if (strcmp(hf_text_at(check, "id"), id) == 0)
            return strcmp(hf_text_at(check, "verdict"), "not_determinable") == 0;
    }
    return false;
}

static bool
add_checks_not_proven(const json_t *document, json_t *list, bool *ret_asserted, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf not_run = HF_BUF_INIT(64 * HF_KIB);
    size_t index;
    json_t *check;
    json_array_foreach(hf_at(document, "checks"), index, check)
    {
        const char *verdict = hf_text_at(check, "verdict");
        if (strncmp(hf_text_at(check, "id"), "assert", 6) == 0)
            *ret_asserted = true;
        if (strcmp(verdict, "not_determinable") == 0 &&
            !add_sentence(list, err, "%s: could not be determined, %s.", hf_text_at(check, "title"),
                          hf_text_at(check, "reason")))
            return false;
        if (strcmp(verdict, "not_run") == 0 &&
            !hf_buf_printf(&not_run, err, "%s%s", not_run.length > 0 ? "; " : "", hf_text_at(check, "title")))
            return false;
    }
    return not_run.length == 0 || add_sentence(list, err, "What the attempt did not reach. %s.", hf_buf_text(&not_run));
}

/* A member that is unknown, with the document's own reason. */
static bool
add_reason(json_t *list, const json_t *document, const char *group, const char *member, const char *before,
           struct hf_error *err)
{
    const json_t *object = group[0] == '\0' ? document : hf_at(document, group);
    if (!json_is_null(json_object_get(object, member)))
        return true;
    return add_sentence(list, err, "%s: %s.", before, hf_text_at(json_object_get(object, "unknown"), member));
}

static bool
add_sentence(json_t *list, struct hf_error *err, const char *format, ...)
{
    char text[4 * HF_KIB];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return hf_words_add(list, hf_evidence_name(text, strlen(text)), err);
}
