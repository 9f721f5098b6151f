#include "server/report/gather.h"

#include <string.h>

#include "base/time.h"

static json_t *find(const struct gathering *work, const char *exception);
static const char *state_of(const json_t *exception, int64_t as_of);

/* In the order of the ledger: what withdraws comes behind what it withdraws. */
bool
hf_gather_exception(struct gathering *work, const struct hf_evidence *evidence, struct hf_error *err)
{
    const json_t *content = evidence->content, *acceptance = hf_at(content, "acceptance");
    json_t *withdrawn = find(work, hf_text_at(content, "act.refers_to"));
    if (!json_is_object(acceptance))
        return true;
    if (strcmp(hf_text_at(content, "act.act"), "withdraw_exception") == 0)
        return withdrawn == NULL ||
               (hf_json_set(withdrawn, "withdrawn_at", json_incref(hf_own(content, "head.created_at")), err) &&
                hf_json_set(withdrawn, "withdrawn_by", json_incref(hf_own(content, "people.requested_by")), err) &&
                hf_json_set(withdrawn, "withdrawn_reason", json_incref(hf_own(content, "people.reason")), err));
    if (json_array_size(work->exceptions) >= HF_REPORT_ROWS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the report would look at more than %d exceptions", HF_REPORT_ROWS_MOST);
    return hf_words_add(work->exceptions,
                        json_pack("{s:o, s:I, s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:n, s:n, s:n}", "exception",
                                  hf_json_id_text(&evidence->evidence_id), "index", (json_int_t)evidence->index,
                                  "accepted_at", hf_at(content, "head.created_at"), "by",
                                  hf_at(content, "people.requested_by"), "reason", hf_at(content, "people.reason"),
                                  "backup", hf_at(content, "act.object"), "source", hf_at(acceptance, "source_name"),
                                  "attempt", hf_at(acceptance, "attempt"), "checks", hf_at(acceptance, "checks"),
                                  "until", hf_at(acceptance, "until"), "withdrawn_at", "withdrawn_by",
                                  "withdrawn_reason"),
                        err);
}

bool
hf_gather_exceptions_of(const struct gathering *work, const char *attempt, int64_t as_of, json_t **ret,
                        struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    size_t index;
    json_t *exception;
    as_of += 999; // of a report it is a whole second: what was done within it counts
    json_array_foreach(work->exceptions, index, exception)
    {
        if (strcmp(hf_text_at(exception, "attempt"), attempt) != 0 || hf_gather_ms(exception, "accepted_at") > as_of)
            continue;
        json_t *copy = json_deep_copy(exception);
        if (!hf_words_add(list, copy, err) || !hf_json_set(copy, "state", json_string(state_of(exception, as_of)), err))
            return false;
    }
    *ret = HF_TAKE(list);
    return true;
}

static json_t *
find(const struct gathering *work, const char *exception)
{
    size_t index;
    json_t *row;
    json_array_foreach(work->exceptions, index, row)
    {
        if (strcmp(hf_text_at(row, "exception"), exception) == 0)
            return row;
    }
    return NULL;
}

static const char *
state_of(const json_t *exception, int64_t as_of)
{
    const int64_t withdrawn = hf_gather_ms(exception, "withdrawn_at");
    if (withdrawn >= 0 && withdrawn <= as_of)
        return "withdrawn";
    return hf_gather_ms(exception, "until") < as_of ? "expired" : "in_force";
}
