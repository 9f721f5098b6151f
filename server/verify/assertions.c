#include "server/verify/engine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"

/*
 * What the owner says must be true.  Numbers are compared and told; nothing else of an answer leaves this file, since
 * it could be a patient's.
 */

static bool settle(struct hf_attempt *attempt, const struct hf_assertion *assertion, struct hf_verify_check *check,
                   struct hf_error *err);
static bool understand(const struct hf_answer *answer, const struct hf_assertion *assertion, const char *whose,
                       struct hf_verify_check *check, double *ret);
static bool read_number(const char *text, double *ret);
static bool read_time(const char *text, double *ret);
static void compare(const struct hf_attempt *attempt, const struct hf_assertion *assertion,
                    struct hf_verify_check *check, double value, double wanted);

void
hf_assertions_declare(const struct hf_assertions *assertions, struct hf_verify_report *report)
{
    for (size_t i = 0; i < assertions->count; i++)
        hf_report_declare(report, assertions->items[i].check, "What the owner says of the data is true", true,
                          "owner_statement_read_only");
}

bool
hf_assertions_check(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct hf_assertions *assertions = attempt->options->assertions;
    for (size_t i = 0; assertions != NULL && i < assertions->count; i++) {
        const struct hf_assertion *assertion = &assertions->items[i];
        struct hf_verify_check *check = hf_attempt_check(attempt, assertion->check);
        hf_check_begin(check);
        if (!hf_attempt_goes_on(attempt, err) || !settle(attempt, assertion, check, err))
            return false;
    }
    return true;
}

static bool
settle(struct hf_attempt *attempt, const struct hf_assertion *assertion, struct hf_verify_check *check,
       struct hf_error *err)
{
    struct hf_answer answer = {0};
    double value, wanted = assertion->bound;
    if (attempt->engine->ask == NULL) {
        hf_check_cannot_tell(check, "copies of %s are not asked", attempt->engine->name);
        return true;
    }
    if (!attempt->engine->ask(attempt, assertion, false, &answer, err))
        return false;
    if (!understand(&answer, assertion, "the copy", check, &value))
        return true;
    if (assertion->rule == HF_ASSERT_AS_LIVE) {
        if (attempt->options->live == NULL) {
            hf_check_cannot_tell(check, "the source could not be asked: from here it is not reached");
            return true;
        }
        answer = (struct hf_answer){0};
        if (!attempt->engine->ask(attempt, assertion, true, &answer, err))
            return false;
        if (!understand(&answer, assertion, "the source", check, &wanted))
            return true;
    }
    compare(attempt, assertion, check, value, wanted);
    return true;
}

/* False: the check is settled. */
static bool
understand(const struct hf_answer *answer, const struct hf_assertion *assertion, const char *whose,
           struct hf_verify_check *check, double *ret)
{
    const bool is_time = assertion->rule == HF_ASSERT_NEWER_THAN;
    switch (answer->kind) {
    case HF_ANSWER_VALUE:
        if (is_time ? read_time(answer->text, ret) : read_number(answer->text, ret))
            return true;
        hf_check_cannot_tell(check, "%s answers no %s", whose, is_time ? "time with a zone" : "number or boolean");
        return false;
    case HF_ANSWER_NOTHING:
        hf_check_fail(check, "%s answers nothing: no row, or NULL", whose);
        return false;
    case HF_ANSWER_OTHER:
        hf_check_cannot_tell(check, "%s answers more than one short value", whose);
        return false;
    case HF_ANSWER_REFUSED:
        hf_check_cannot_tell(check, "%s does not answer the statement (%s)", whose, answer->state);
        return false;
    case HF_ANSWER_DAMAGE:
        hf_check_fail(check, "%s cannot read what the statement asks for (%s)", whose, answer->state);
        return false;
    }
    return false;
}

static bool
read_number(const char *text, double *ret)
{
    char *end;
    const bool yes = strcmp(text, "t") == 0 || strcmp(text, "true") == 0;
    if (yes || strcmp(text, "f") == 0 || strcmp(text, "false") == 0) {
        *ret = yes;
        return true;
    }
    if (text[0] == 0 || strspn(text, "+-0123456789.eE") != strlen(text))
        return false;
    *ret = strtod(text, &end);
    return *end == 0 && isfinite(*ret);
}

/* PostgreSQL leaves the minutes of a whole zone out: "+00". */
static bool
read_time(const char *text, double *ret)
{
    char whole[80];
    const size_t length = strlen(text);
    const bool bare = length > 3 && (text[length - 3] == '+' || text[length - 3] == '-');
    int64_t ms;
    snprintf(whole, sizeof whole, "%s%s", text, bare ? ":00" : "");
    if (!hf_time_parse(whole, &ms, NULL))
        return false;
    *ret = (double)ms;
    return true;
}

static void
compare(const struct hf_attempt *attempt, const struct hf_assertion *assertion, struct hf_verify_check *check,
        double value, double wanted)
{
    const struct hf_verify_outcome *outcome = attempt->outcome;
    const int64_t streamed = outcome->stream.newest_commit_at, ended = outcome->facts.shared.finished_at;
    const double newest = (double)(streamed > ended ? streamed : ended);
    const double room = assertion->relative ? fabs(wanted) * assertion->bound / 100 : assertion->bound;
    switch (assertion->rule) {
    case HF_ASSERT_IS:
        if (value != wanted)
            hf_check_fail(check, "the copy answers %.15g, which is not %.15g", value, wanted);
        break;
    case HF_ASSERT_AT_LEAST:
        if (value < wanted)
            hf_check_fail(check, "the copy answers %.15g, less than %.15g", value, wanted);
        break;
    case HF_ASSERT_AT_MOST:
        if (value > wanted)
            hf_check_fail(check, "the copy answers %.15g, more than %.15g", value, wanted);
        break;
    case HF_ASSERT_NEWER_THAN:
        if (newest - value > wanted)
            hf_check_fail(check, "the newest is %.0f s older than the newest commit, more than %.0f s",
                          (newest - value) / 1000, wanted / 1000);
        break;
    case HF_ASSERT_AS_LIVE:
        if (fabs(value - wanted) > room)
            hf_check_fail(check, "the copy answers %.15g, the source %.15g: they differ by more than %.15g", value,
                          wanted, room);
        break;
    }
    hf_check_pass(check, -1);
}
