#include "server/evidence/schema_internal.h"

#include <string.h>

static bool check_checks(struct place *place, const json_t *checks, json_t *by_id);
static bool check_attempt(struct place *place, const json_t *content);
static bool check_state(struct place *place, const json_t *content);
static bool check_controls(struct place *place, const json_t *content, const json_t *by_id);
static bool check_targets(struct place *place, const json_t *content);
static bool check_target(struct place *place, const json_t *content, const char *target, const char *measured,
                         const char *met);
static size_t count_verdicts(const json_t *checks, const char *verdict, bool required_only);
static const char *text_of(const json_t *object, const char *member);

/* Rule 8: somebody's word without a reason is nobody's. */
bool
hf_sense_of_act(struct place *place, const json_t *content)
{
    const json_t *acceptance = json_object_get(content, "acceptance");
    const char *act = text_of(json_object_get(content, "act"), "act");
    const bool is_one = strcmp(act, "accept_exception") == 0 || strcmp(act, "withdraw_exception") == 0;
    size_t before = hf_schema_enter(place, ".acceptance");
    if (is_one != (acceptance != NULL))
        return hf_schema_refuse(place, is_one ? "is missing although the act is %s" : "is there although the act is %s",
                                act);
    if (is_one && json_array_size(json_object_get(acceptance, "checks")) == 0)
        return hf_schema_refuse(place, "names no check");
    place->path[before] = 0;
    before = hf_schema_enter(place, ".people.reason");
    if (is_one && !json_is_string(json_object_get(json_object_get(content, "people"), "reason")))
        return hf_schema_refuse(place, "is null although an exception is accepted or withdrawn");
    place->path[before] = 0;
    return true;
}

/* Rule 7: no certificate claims that nothing was ever beyond reach, nor that there never was a key. */
bool
hf_sense_of_shred(struct place *place, const json_t *content)
{
    static const char *const lists[] = {"wraps", "beyond_reach"};
    const json_t *group = json_object_get(content, "shred");
    for (size_t i = 0; i < HF_LENGTH(lists); i++) {
        size_t before = hf_schema_enter(place, ".shred.%s", lists[i]);
        if (json_array_size(json_object_get(group, lists[i])) == 0)
            return hf_schema_refuse(place, "is empty");
        place->path[before] = 0;
    }
    return true;
}

/* The numbered rules of the header: a document that contradicts itself is refused, whoever signed it. */
bool
hf_sense_of_attempt(struct place *place, const json_t *content)
{
    _cleanup_(hf_json_freep) json_t *by_id = json_object(); // a stranger's document can name a check very often

    if (by_id == NULL)
        return hf_fail(place->err, HF_ERR_NO_MEMORY, "out of memory for %s", place->what);
    return check_checks(place, json_object_get(content, "checks"), by_id) && check_attempt(place, content) &&
           check_state(place, content) && check_controls(place, content, by_id) && check_targets(place, content);
}

/* Also gathers the checks under their ids. */
static bool
check_checks(struct place *place, const json_t *checks, json_t *by_id)
{
    for (size_t i = 0; i < json_array_size(checks); i++) {
        json_t *entry = json_array_get(checks, i);
        size_t before = hf_schema_enter(place, ".checks[%zu]", i);

        if (json_object_get(by_id, text_of(entry, "id")) != NULL) {
            hf_schema_enter(place, ".id");
            return hf_schema_refuse(place, "is \"%s\" like that of an earlier check", text_of(entry, "id"));
        }
        if (strcmp(text_of(entry, "verdict"), "passed") != 0 && json_is_null(json_object_get(entry, "reason"))) {
            hf_schema_enter(place, ".reason");
            return hf_schema_refuse(place, "is null although the check is %s", text_of(entry, "verdict"));
        }
        if (!hf_json_set(by_id, text_of(entry, "id"), json_incref(entry), place->err))
            return false;
        place->path[before] = 0;
    }
    return true;
}

static bool
check_attempt(struct place *place, const json_t *content)
{
    const json_t *checks = json_object_get(content, "checks");
    const json_t *group = json_object_get(content, "attempt");
    const char *result = text_of(group, "result");
    size_t failed = count_verdicts(checks, "failed", false);
    size_t required = count_verdicts(checks, NULL, true), required_passed = count_verdicts(checks, "passed", true);
    size_t before = hf_schema_enter(place, ".attempt.result");

    if (strcmp(result, "passed") == 0) {
        if (required == 0)
            return hf_schema_refuse(place, "is passed without any required check");
        if (required_passed < required)
            return hf_schema_refuse(place, "is passed but %zu of %zu required checks are not",
                                    required - required_passed, required);
        if (failed > 0)
            return hf_schema_refuse(place, "is passed but %zu checks are failed", failed);
        if (json_is_null(json_object_get(content, "restore")) || json_is_null(json_object_get(content, "sandbox")))
            return hf_schema_refuse(place, "is passed without a restore in a sandbox");
    } else {
        if (strcmp(result, "failed") == 0 && failed == 0)
            return hf_schema_refuse(place, "is failed but no check is");
        if (json_is_null(json_object_get(group, "reason")))
            return hf_schema_refuse(place, "is %s without reason", result);
    }
    place->path[before] = 0;
    return true;
}

static bool
check_state(struct place *place, const json_t *content)
{
    const json_t *group = json_object_get(content, "backup");
    const char *result = text_of(json_object_get(content, "attempt"), "result");
    const char *old_state = text_of(group, "state_before"), *state = text_of(group, "state_after");
    bool fits;
    size_t before = hf_schema_enter(place, ".backup.state_after");

    if (strcmp(result, "passed") == 0)
        fits = strcmp(state, "proven") == 0;
    else if (strcmp(result, "failed") == 0)
        fits = strcmp(state, "failed") == 0 || strcmp(state, "damaged") == 0;
    else
        fits = strcmp(state, old_state) == 0;
    if (!fits)
        return hf_schema_refuse(place, "is %s after %s, which cannot follow from an attempt that is %s", state,
                                old_state, result);
    place->path[before] = 0;
    return true;
}

static bool
check_controls(struct place *place, const json_t *content, const json_t *by_id)
{
    const json_t *controls = json_object_get(content, "controls");

    for (size_t i = 0; i < json_array_size(controls); i++) {
        const json_t *entry = json_array_get(controls, i);
        const json_t *because = json_object_get(entry, "because");
        bool passed = strcmp(text_of(entry, "verdict"), "passed") == 0;
        size_t before = hf_schema_enter(place, ".controls[%zu].because", i);

        if (passed && json_array_size(because) == 0)
            return hf_schema_refuse(place, "is empty although the control is passed");
        for (size_t j = 0; j < json_array_size(because); j++) {
            const char *id = json_string_value(json_array_get(because, j));
            const json_t *reason = json_object_get(by_id, id);
            if (reason == NULL)
                return hf_schema_refuse(place, "names check \"%s\", which there is not", id);
            if (passed && strcmp(text_of(reason, "verdict"), "passed") != 0)
                return hf_schema_refuse(place, "names check \"%s\", which is not passed as the control is", id);
        }
        place->path[before] = 0;
    }
    return true;
}

static bool
check_targets(struct place *place, const json_t *content)
{
    return check_target(place, content, "rto_target_s", "time_to_recover_ms", "rto_target_met") &&
           check_target(place, content, "rpo_target_s", "data_loss_window_ms", "rpo_target_met");
}

static bool
check_target(struct place *place, const json_t *content, const char *target, const char *measured, const char *met)
{
    const json_t *group = json_object_get(content, "rto_rpo");
    const json_t *target_s = json_object_get(json_object_get(content, "policy"), target);
    const json_t *measured_ms = json_object_get(group, measured);
    const json_t *said = json_object_get(group, met);

    if (!json_is_boolean(said))
        return true;
    size_t before = hf_schema_enter(place, ".rto_rpo.%s", met);
    if (!json_is_integer(target_s) || !json_is_integer(measured_ms))
        return hf_schema_refuse(place, "is known although the target or what was measured is not");
    // In seconds, rounded up: a target times 1000 could be too large.
    int64_t needed_s = json_integer_value(measured_ms) / 1000 + (json_integer_value(measured_ms) % 1000 > 0);
    if (json_is_true(said) != (needed_s <= json_integer_value(target_s)))
        return hf_schema_refuse(place, "is %s, which does not follow from %lld ms against %lld s",
                                json_is_true(said) ? "true" : "false", (long long)json_integer_value(measured_ms),
                                (long long)json_integer_value(target_s));
    place->path[before] = 0;
    return true;
}

/* How many checks have that verdict, or any when it is NULL. */
static size_t
count_verdicts(const json_t *checks, const char *verdict, bool required_only)
{
    size_t count = 0;

    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *entry = json_array_get(checks, i);
        if (required_only && !json_is_true(json_object_get(entry, "required")))
            continue;
        count += verdict == NULL || strcmp(text_of(entry, "verdict"), verdict) == 0;
    }
    return count;
}

static const char *
text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}
