#include "server/job/exceptions.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/attempt_facts.h"
#include "server/job/daemon_internal.h"
#include "server/job/evidence.h"
#include "server/job/key_records.h"

#define DAY_MS      INT64_C(86400000)
#define REASON_MOST 500 // bytes
#define WORDS_MOST  400

/* The newest attempt on a backup. */
struct subject {
    struct hf_id backup, evidence;
    char source[HF_SOURCE_NAME_BYTES], result[16];
    bool found;
};

static bool find_subject(struct hf_daemon *daemon, const json_t *arguments, struct subject *ret, struct hf_error *err);
static bool keep_subject(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool read_open_checks(struct hf_daemon *daemon, const struct subject *subject, json_t **ret,
                             struct hf_error *err);
static bool choose_checks(const char *wanted, const json_t *open, json_t **ret, struct hf_error *err);
static bool read_reason(const json_t *arguments, const char **ret, struct hf_error *err);
static bool read_until(struct hf_daemon *daemon, const char *text, int64_t *ret, struct hf_error *err);
static bool enter_act(struct hf_daemon *daemon, const char *act, const json_t *record, const char *person,
                      const char *reason, const char *refers_to, struct hf_id *ret, struct hf_error *err);
static bool describe(struct hf_daemon *daemon, const char *id, const json_t *record, json_t **ret,
                     struct hf_error *err);
static const char *state_of(struct hf_daemon *daemon, const json_t *record);
static bool lists(const json_t *list, const char *word);
static const char *text_at(const json_t *object, const char *member);
static json_t *time_json(const json_t *ms);

bool
hf_exceptions_answer_accept(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                            enum hf_exit *ret_exit, struct hf_error *err)
{
    static const struct hf_argument known[] = {
        {"backup", 's', true}, {"reason", 's', true}, {"until", 's', true}, {"check", 's', false}};
    _cleanup_(hf_json_freep) json_t *open = NULL, *checks = NULL, *record = NULL;
    struct subject subject = {.found = false};
    struct hf_id id;
    char person[HF_PERSON_BYTES], text[HF_ID_TEXT_BYTES];
    const char *reason;
    int64_t until;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !read_reason(arguments, &reason, err) ||
        !read_until(daemon, text_at(arguments, "until"), &until, err) ||
        !find_subject(daemon, arguments, &subject, err) || !read_open_checks(daemon, &subject, &open, err) ||
        !choose_checks(text_at(arguments, "check"), open, &checks, err))
        return false;
    hf_person_name(daemon->asker, person);
    record = json_pack("{s:o, s:s, s:o, s:O, s:O, s:s, s:s, s:I, s:I, s:n, s:n, s:n}", "backup",
                       hf_json_id_text(&subject.backup), "source", subject.source, "attempt",
                       hf_json_id_text(&subject.evidence), "checks", checks, "open", open, "reason", reason, "person",
                       person, "accepted_at", (json_int_t)hf_daemon_now(daemon), "until", (json_int_t)until,
                       "withdrawn_at", "withdrawn_by", "withdrawn_reason");
    if (record == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
    return enter_act(daemon, HF_ACT_ACCEPT, record, person, reason, text_at(record, "attempt"), &id, err) &&
           hf_key_record_put(daemon, HF_RECORD_EXCEPTION, &id, record, err) &&
           describe(daemon, hf_id_format(&id, text), record, ret_result, err);
}

bool
hf_exceptions_answer_withdraw(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                              enum hf_exit *ret_exit, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"exception", 's', true}, {"reason", 's', true}};
    _cleanup_(hf_json_freep) json_t *all = NULL;
    struct hf_id id, document;
    char person[HF_PERSON_BYTES], text[HF_ID_TEXT_BYTES];
    const char *reason;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !read_reason(arguments, &reason, err) ||
        !hf_id_parse(text_at(arguments, "exception"), &id, err) ||
        !hf_key_records_load(daemon, HF_RECORD_EXCEPTION, &all, err))
        return false;
    json_t *record = json_object_get(all, hf_id_format(&id, text));
    if (record == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no exception \"%s\"", text);
    if (!json_is_null(json_object_get(record, "withdrawn_at")))
        return hf_fail(err, HF_ERR_CONFLICT, "exception \"%s\" was withdrawn already", text);
    hf_person_name(daemon->asker, person);
    return hf_json_set(record, "withdrawn_at", json_integer(hf_daemon_now(daemon)), err) &&
           hf_json_set(record, "withdrawn_by", json_string(person), err) &&
           hf_json_set(record, "withdrawn_reason", json_string(reason), err) &&
           enter_act(daemon, HF_ACT_WITHDRAW, record, person, reason, text, &document, err) &&
           hf_key_record_put(daemon, HF_RECORD_EXCEPTION, &id, record, err) &&
           describe(daemon, text, record, ret_result, err);
}

bool
hf_exceptions_answer_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                          enum hf_exit *ret_exit, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}};
    _cleanup_(hf_json_freep) json_t *all = NULL, *list = json_array();
    const char *source, *id;
    json_t *record, *row;
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !hf_key_records_load(daemon, HF_RECORD_EXCEPTION, &all, err))
        return false;
    source = json_string_value(json_object_get(arguments, "source"));
    json_object_foreach(all, id, record)
    {
        if (source != NULL && strcmp(source, text_at(record, "source")) != 0)
            continue;
        if (!describe(daemon, id, record, &row, err))
            return false;
        if (json_array_append_new(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for exceptions");
    }
    *ret_result = json_pack("{s:O}", "exceptions", list);
    return true;
}

bool
hf_exceptions_cover(struct hf_daemon *daemon, const char *evidence, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *all = NULL, *accepted = json_array();
    const json_t *open = NULL, *first = NULL;
    const char *id;
    json_t *record, *check;
    size_t index;
    *ret = NULL;
    if (accepted == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for exceptions");
    if (!hf_key_records_load(daemon, HF_RECORD_EXCEPTION, &all, err))
        return false;
    json_object_foreach(all, id, record)
    {
        if (strcmp(text_at(record, "attempt"), evidence) != 0 || strcmp(state_of(daemon, record), "in force") != 0)
            continue;
        open = json_object_get(record, "open");
        if (first == NULL ||
            json_integer_value(json_object_get(record, "until")) < json_integer_value(json_object_get(first, "until")))
            first = record;
        if (json_array_extend(accepted, json_object_get(record, "checks")) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for exceptions");
    }
    if (first == NULL)
        return true;
    json_array_foreach((json_t *)(uintptr_t)open, index, check)
    {
        if (!lists(accepted, json_string_value(check)))
            return true;
    }
    *ret = json_pack("{s:o, s:O, s:O, s:O}", "until", time_json(json_object_get(first, "until")), "person",
                     json_object_get(first, "person"), "reason", json_object_get(first, "reason"), "checks", accepted);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for exceptions");
}

static bool
find_subject(struct hf_daemon *daemon, const json_t *arguments, struct subject *ret, struct hf_error *err)
{
    const char *text = text_at(arguments, "backup");
    if (!hf_id_parse(text, &ret->backup, err) ||
        !hf_catalog_attempts(hf_daemon_catalog(daemon), &ret->backup, NULL, 1, keep_subject, ret, err))
        return false;
    if (!ret->found || hf_id_is_none(&ret->evidence))
        return hf_fail(err, HF_ERR_NOT_FOUND, "no attempt on backup \"%s\" is on record with evidence", text);
    if (ret->source[0] == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "backup \"%s\" does not count any more", text);
    if (strcmp(ret->result, "passed") == 0)
        return hf_fail(err, HF_ERR_USAGE, "the newest attempt on backup \"%s\" passed: there is nothing to accept",
                       text);
    return true;
}

static bool
keep_subject(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    struct subject *subject = context;
    (void)err;
    subject->evidence = row->evidence;
    subject->found = true;
    snprintf(subject->source, sizeof subject->source, "%s", row->source == NULL ? "" : row->source);
    snprintf(subject->result, sizeof subject->result, "%s", row->result);
    return true;
}

/* What kept it from passing, by its own signed words: a failed check, and a required one that is not passed. */
static bool
read_open_checks(struct hf_daemon *daemon, const struct subject *subject, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_evidence_done) struct hf_evidence evidence = {0};
    _cleanup_(hf_json_freep) json_t *open = json_array();
    json_t *check;
    size_t index;
    if (open == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
    if (!hf_evidence_read_entry(daemon, &subject->evidence, &evidence, err))
        return false;
    json_array_foreach(json_object_get(evidence.content, "checks"), index, check)
    {
        const char *verdict = text_at(check, "verdict");
        const bool required = json_is_true(json_object_get(check, "required"));
        if ((strcmp(verdict, "failed") == 0 || (required && strcmp(verdict, "passed") != 0)) &&
            json_array_append(open, json_object_get(check, "id")) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
    }
    *ret = HF_TAKE(open);
    return true;
}

/* One that was named, which has to be open; or all of them. */
static bool
choose_checks(const char *wanted, const json_t *open, json_t **ret, struct hf_error *err)
{
    char words[WORDS_MOST] = "";
    size_t index;
    json_t *check;
    if (wanted[0] == 0)
        *ret = json_deep_copy(open);
    else if (lists(open, wanted))
        *ret = json_pack("[s]", wanted);
    else {
        json_array_foreach((json_t *)(uintptr_t)open, index, check)
            snprintf(words + strlen(words), sizeof words - strlen(words), "%s%s", index > 0 ? ", " : "",
                     json_string_value(check));
        return hf_fail(err, HF_ERR_NOT_FOUND, "check \"%.64s\" did not keep the attempt from passing; these did: %s",
                       wanted, words);
    }
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
}

static bool
read_reason(const json_t *arguments, const char **ret, struct hf_error *err)
{
    *ret = text_at(arguments, "reason");
    if ((*ret)[0] == 0)
        return hf_fail(err, HF_ERR_USAGE, "the reason is empty: it is what an auditor will read");
    if (strlen(*ret) > REASON_MOST)
        return hf_fail(err, HF_ERR_USAGE, "the reason has %zu bytes, at most %d are kept", strlen(*ret), REASON_MOST);
    return true;
}

static bool
read_until(struct hf_daemon *daemon, const char *text, int64_t *ret, struct hf_error *err)
{
    char moment[HF_TIME_TEXT_BYTES];
    const int64_t now = hf_daemon_now(daemon);
    if (strlen(text) == 10) { // a day is meant whole
        snprintf(moment, sizeof moment, "%sT23:59:59Z", text);
        text = moment;
    }
    if (!hf_time_parse(text, ret, err))
        return false;
    if (*ret <= now)
        return hf_fail(err, HF_ERR_USAGE, "%s is past: an exception ends in the future", text);
    if (*ret - now > HF_EXCEPTION_DAYS_MOST * DAY_MS)
        return hf_fail(err, HF_ERR_USAGE, "%s is more than %d days away: accept it again when it has ended", text,
                       HF_EXCEPTION_DAYS_MOST);
    return true;
}

static bool
enter_act(struct hf_daemon *daemon, const char *act, const json_t *record, const char *person, const char *reason,
          const char *refers_to, struct hf_id *ret, struct hf_error *err)
{
    struct hf_receipt receipt;
    _cleanup_(hf_json_freep) json_t *content = NULL;
    const struct hf_id id = hf_id_new();
    json_t *head, *people = json_pack("{s:o, s:o}", "requested_by", hf_evidence_name(person, strlen(person)), "reason",
                                      hf_evidence_name(reason, strlen(reason)));
    json_t *what = json_pack("{s:s, s:s, s:O, s:s, s:s}", "act", act, "object_kind", "backup", "object",
                             json_object_get(record, "backup"), "outcome", "done", "refers_to", refers_to);
    json_t *acceptance = json_pack("{s:O, s:O, s:O, s:o}", "source_name", json_object_get(record, "source"), "attempt",
                                   json_object_get(record, "attempt"), "checks", json_object_get(record, "checks"),
                                   "until", hf_evidence_time(json_integer_value(json_object_get(record, "until"))));
    if (!hf_act_head(daemon, &id, &head, err))
        return false;
    content = json_pack("{s:s, s:o, s:o, s:o, s:o}", "schema", HF_EVIDENCE_SCHEMA, "head", head, "people", people,
                        "act", what, "acceptance", acceptance);
    if (content == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
    *ret = id;
    return hf_evidence_set_unknown(people, "ticket", "not asked for", err) &&
           hf_evidence_set_unknown(people, "approved_by", "the appliance has no accounts of several people", err) &&
           hf_evidence_set_unknown(what, "detail", "the reason says it", err) &&
           hf_evidence_enter(daemon, content, &receipt, err);
}

static bool
describe(struct hf_daemon *daemon, const char *id, const json_t *record, json_t **ret, struct hf_error *err)
{
    *ret = json_pack("{s:s, s:O, s:O, s:O, s:O, s:O, s:O, s:o, s:o, s:s, s:o, s:O, s:O}", "exception", id, "backup",
                     json_object_get(record, "backup"), "source", json_object_get(record, "source"), "attempt",
                     json_object_get(record, "attempt"), "checks", json_object_get(record, "checks"), "person",
                     json_object_get(record, "person"), "reason", json_object_get(record, "reason"), "accepted_at",
                     time_json(json_object_get(record, "accepted_at")), "until",
                     time_json(json_object_get(record, "until")), "state", state_of(daemon, record), "withdrawn_at",
                     time_json(json_object_get(record, "withdrawn_at")), "withdrawn_by",
                     json_object_get(record, "withdrawn_by"), "withdrawn_reason",
                     json_object_get(record, "withdrawn_reason"));
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an exception");
}

static const char *
state_of(struct hf_daemon *daemon, const json_t *record)
{
    if (!json_is_null(json_object_get(record, "withdrawn_at")))
        return "withdrawn";
    return json_integer_value(json_object_get(record, "until")) < hf_daemon_now(daemon) ? "expired" : "in force";
}

static bool
lists(const json_t *list, const char *word)
{
    size_t index;
    json_t *item;
    json_array_foreach((json_t *)(uintptr_t)list, index, item)
    {
        if (strcmp(json_string_value(item), word) == 0)
            return true;
    }
    return false;
}

/* "" when it is not there. */
static const char *
text_at(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "" : text;
}

static json_t *
time_json(const json_t *ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_is_integer(ms) ? json_string(hf_time_format(json_integer_value(ms), text)) : json_null();
}
