#include "server/verify/report.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <assert.h>

#include "base/time.h"

static void settle(struct hf_verify_check *check, enum hf_verdict verdict);
static bool check_json(const struct hf_verify_check *check, json_t **ret, struct hf_error *err);
static json_t *coverage(const struct hf_verify_check *check);
static bool set_or_unknown(json_t *row, json_t *unknown, const char *member, json_t *value, const char *why,
                           struct hf_error *err);
static bool findings_json(const struct hf_verify_check *check, json_t *row, struct hf_error *err);
static json_t *printable(const char *text);

const char *
hf_verdict_name(enum hf_verdict verdict)
{
    static const char *const names[] = {
        [HF_VERDICT_NOT_RUN] = "not_run",
        [HF_VERDICT_PASSED] = "passed",
        [HF_VERDICT_FAILED] = "failed",
        [HF_VERDICT_NOT_DETERMINABLE] = "not_determinable",
    };
    return names[verdict];
}

const char *
hf_attempt_result_name(enum hf_attempt_result result)
{
    static const char *const names[] = {
        [HF_ATTEMPT_PASSED] = "passed",
        [HF_ATTEMPT_FAILED] = "failed",
        [HF_ATTEMPT_INCONCLUSIVE] = "inconclusive",
    };
    return names[result];
}

struct hf_verify_check *
hf_report_declare(struct hf_verify_report *report, const char *id, const char *title, bool required, const char *method)
{
    assert(report->count < HF_CHECKS_OF_ATTEMPT);
    struct hf_verify_check *check = &report->checks[report->count++];
    *check = (struct hf_verify_check){
        .id = id, .title = title, .required = required, .method = method, .examined = -1, .of = -1};
    snprintf(check->reason, sizeof check->reason, "the attempt ended before it");
    return check;
}

struct hf_verify_check *
hf_report_find(struct hf_verify_report *report, const char *id)
{
    for (size_t i = 0; i < report->count; i++)
        if (strcmp(report->checks[i].id, id) == 0)
            return &report->checks[i];
    assert(!"a check that was never declared");
    return NULL;
}

void
hf_check_begin(struct hf_verify_check *check)
{
    check->began_ns = hf_monotonic_ns();
}

/* What was found wrong, or settled before, is not talked away; what was found weighs more than what is not known. */
void
hf_check_pass(struct hf_verify_check *check, int64_t examined)
{
    check->examined = examined;
    if (check->verdict == HF_VERDICT_FAILED)
        return;
    const struct hf_finding *first = &check->findings[0];
    if (check->bad > 0 && check->finding_count == 0) {
        hf_check_fail(check, "%lld found", (long long)check->bad);
    } else if (check->bad > 0 && first->block >= 0) {
        hf_check_fail(check, "%lld found, the first: %s, block %lld", (long long)check->bad, first->object,
                      (long long)first->block);
    } else if (check->bad > 0) {
        hf_check_fail(check, "%lld found, the first: %s", (long long)check->bad, first->object);
    } else if (check->verdict != HF_VERDICT_NOT_DETERMINABLE) {
        check->reason[0] = 0;
        settle(check, HF_VERDICT_PASSED);
    }
}

void
hf_check_covers(struct hf_verify_check *check, int64_t of)
{
    check->of = of;
}

void
hf_check_fail(struct hf_verify_check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->reason, sizeof check->reason, format, arguments);
    va_end(arguments);
    settle(check, HF_VERDICT_FAILED);
}

void
hf_check_cannot_tell(struct hf_verify_check *check, const char *format, ...)
{
    if (check->verdict == HF_VERDICT_FAILED)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->reason, sizeof check->reason, format, arguments);
    va_end(arguments);
    settle(check, HF_VERDICT_NOT_DETERMINABLE);
}

void
hf_check_note(struct hf_verify_check *check, const char *format, ...)
{
    if (check->verdict != HF_VERDICT_PASSED)
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->reason, sizeof check->reason, format, arguments);
    va_end(arguments);
}

void
hf_check_found(struct hf_verify_check *check, const char *what, int64_t block, const char *format, ...)
{
    check->bad++;
    if (check->finding_count == HF_FINDINGS_MOST)
        return;
    struct hf_finding *finding = &check->findings[check->finding_count++];
    snprintf(finding->what, sizeof finding->what, "%s", what);
    finding->block = block;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->object, sizeof finding->object, format, arguments);
    va_end(arguments);
}

enum hf_attempt_result
hf_report_result(const struct hf_verify_report *report, char *reason, size_t reason_bytes)
{
    const struct hf_verify_check *failed = NULL, *open = NULL;
    size_t required = 0;
    for (size_t i = 0; i < report->count; i++) {
        const struct hf_verify_check *check = &report->checks[i];
        required += check->required;
        if (check->verdict == HF_VERDICT_FAILED && failed == NULL)
            failed = check;
        if (check->required && check->verdict != HF_VERDICT_PASSED &&
            (open == NULL || (open->verdict == HF_VERDICT_NOT_RUN && check->verdict != HF_VERDICT_NOT_RUN)))
            open = check;
    }
    reason[0] = 0;
    if (failed != NULL) {
        snprintf(reason, reason_bytes, "%s: %s", failed->title, failed->reason);
        return HF_ATTEMPT_FAILED;
    }
    if (open != NULL || required == 0) {
        snprintf(reason, reason_bytes, "%s: %s", open != NULL ? open->title : "no check",
                 open != NULL ? open->reason : "");
        return HF_ATTEMPT_INCONCLUSIVE;
    }
    return HF_ATTEMPT_PASSED;
}

bool
hf_report_json(const struct hf_verify_report *report, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < report->count; i++) {
        json_t *row;
        if (!check_json(&report->checks[i], &row, err))
            return false;
        if (json_array_append_new(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the checks");
    }
    *ret = HF_TAKE(list);
    return true;
}

static void
settle(struct hf_verify_check *check, enum hf_verdict verdict)
{
    check->verdict = verdict;
    if (check->began_ns > 0)
        check->duration_ms = (hf_monotonic_ns() - check->began_ns) / 1000000;
}

static bool
check_json(const struct hf_verify_check *check, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *row = json_object();
    _cleanup_(hf_json_freep) json_t *unknown = json_object();
    const bool ran = check->verdict != HF_VERDICT_NOT_RUN;
    const bool counted = check->examined >= 0;
    if (row == NULL || unknown == NULL || !hf_json_set(row, "id", json_string(check->id), err) ||
        !hf_json_set(row, "title", json_string(check->title), err) ||
        !hf_json_set(row, "verdict", json_string(hf_verdict_name(check->verdict)), err) ||
        !hf_json_set(row, "required", json_boolean(check->required), err) ||
        !hf_json_set(row, "method", json_string(check->method), err) ||
        !set_or_unknown(row, unknown, "reason", check->reason[0] != 0 ? printable(check->reason) : NULL, "it passed",
                        err) ||
        !set_or_unknown(row, unknown, "examined", counted ? json_integer(check->examined) : NULL, "nothing is counted",
                        err) ||
        !set_or_unknown(row, unknown, "bad", counted || check->bad > 0 ? json_integer(check->bad) : NULL,
                        "nothing is counted", err) ||
        !set_or_unknown(row, unknown, "duration_ms", ran ? json_integer((json_int_t)check->duration_ms) : NULL,
                        "it did not run", err) ||
        !set_or_unknown(row, unknown, "coverage_ppm", coverage(check),
                        ran ? "how many there are was not counted apart" : "it did not run", err) ||
        !set_or_unknown(row, unknown, "detail_sha256", NULL, "no detail is kept apart", err) ||
        !findings_json(check, row, err) || !hf_json_set(row, "unknown", HF_TAKE(unknown), err))
        return hf_fail_within(err, "check \"%s\"", check->id);
    *ret = HF_TAKE(row);
    return true;
}

/* NULL: not known. */
static json_t *
coverage(const struct hf_verify_check *check)
{
    if (check->verdict == HF_VERDICT_NOT_RUN || check->examined < 0 || check->of < 0)
        return NULL;
    if (check->examined >= check->of)
        return json_integer(1000000);
    return json_integer((json_int_t)((double)check->examined * 1e6 / (double)check->of));
}

static bool
set_or_unknown(json_t *row, json_t *unknown, const char *member, json_t *value, const char *why, struct hf_error *err)
{
    if (value != NULL)
        return hf_json_set(row, member, value, err);
    return hf_json_set(row, member, json_null(), err) && hf_json_set(unknown, member, json_string(why), err);
}

static bool
findings_json(const struct hf_verify_check *check, json_t *row, struct hf_error *err)
{
    json_t *list = json_array();
    if (!hf_json_set(row, "findings", list, err))
        return false;
    for (size_t i = 0; i < check->finding_count; i++) {
        const struct hf_finding *finding = &check->findings[i];
        _cleanup_(hf_json_freep) json_t *item = json_object();
        _cleanup_(hf_json_freep) json_t *unknown = json_object();
        if (item == NULL || unknown == NULL || !hf_json_set(item, "what", json_string(finding->what), err) ||
            !hf_json_set(item, "object", printable(finding->object), err) ||
            !set_or_unknown(item, unknown, "block", finding->block >= 0 ? json_integer(finding->block) : NULL,
                            "not one block", err) ||
            (json_object_size(unknown) > 0 && !hf_json_set(item, "unknown", HF_TAKE(unknown), err)) ||
            json_array_append(list, item) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a finding");
    }
    return true;
}

/* Reasons quote what the engine said: one line, nothing that drives a terminal, never empty. */
static json_t *
printable(const char *text)
{
    char clean[512];
    size_t length = 0;
    for (; *text != 0 && length + 1 < sizeof clean; text++)
        clean[length++] = (unsigned char)*text < 0x20 || *text == 0x7f ? ' ' : *text;
    if (length == 0)
        clean[length++] = '-';
    return hf_json_foreign_text(clean, length, 500);
}
