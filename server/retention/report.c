#include "server/retention/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"

#define SENTENCE_MOST (4 * HF_KIB)
#define DIGEST_MOST   (64 * HF_MIB)
#define NAME_BYTES    16

static const char *const period_names[HF_RETENTION_PERIODS] = {"hourly", "daily", "weekly", "monthly", "yearly"};

static json_t *rules_json(const struct hf_retention_planned *planned);
static json_t *going_stretches(const struct hf_retention_planned *planned);
static bool newest_first(const struct hf_retention_planned *planned, size_t **ret, struct hf_error *err);
static int compare_ages(const void *a, const void *b, void *backups);
static json_t *reasons_json(const struct hf_retention_decision *decision);
static json_t *backup_json(const struct hf_retention_planned *planned, size_t index, struct hf_error *err);
static bool name_plan(const struct hf_retention_planned *planned, const json_t *rules, const size_t *order,
                      char ret[static HF_RETENTION_PLAN_BYTES], struct hf_error *err);
static bool explain_reason(const struct hf_retention_planned *planned, size_t index, enum hf_retention_reason reason,
                           struct hf_buf *out, struct hf_error *err);
static bool explain_rule(const struct hf_retention_planned *planned, size_t index, enum hf_retention_reason reason,
                         struct hf_buf *out, struct hf_error *err);
static bool add_end(struct hf_buf *out, const char *what, int64_t until, struct hf_error *err);
static json_t *time_json(int64_t ms);

bool
hf_retention_report(const struct hf_retention_planned *planned, json_t **ret, struct hf_error *err)
{
    const struct hf_retention_summary *summary = planned->summary;
    _cleanup_(hf_json_freep) json_t *rules = rules_json(planned), *backups = json_array(), *stream = NULL;
    _cleanup_(hf_freep) size_t *order = NULL;
    char name[HF_RETENTION_PLAN_BYTES];
    if (rules == NULL || backups == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
    if (!newest_first(planned, &order, err) || !name_plan(planned, rules, order, name, err) ||
        !hf_stretch_report(planned->backups, planned->stretches, planned->stretch_count, planned->stretch_reasons,
                           planned->stretch_plan, planned->stream_within_ms, &stream, err))
        return false;
    for (size_t i = 0; i < planned->count; i++) {
        json_t *row = backup_json(planned, order[i], err);
        if (row == NULL || json_array_append_new(backups, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", planned->count);
    }
    const bool proven = summary->newest_proven != HF_RETENTION_NONE;
    *ret = json_pack(
        "{s:s, s:o, s:s, s:o, s:o, s:O, s:I, s:I, s:I, s:I, s:b, s:O, s:O}", "source", planned->source, "vault",
        hf_json_id_text(&planned->vault), "plan", name, "moment", time_json(summary->moment), "newest_proven",
        proven ? hf_json_id_text(&planned->backups[summary->newest_proven].backup) : json_null(), "rules", rules,
        "stay", (json_int_t)(summary->backups - summary->removed), "go", (json_int_t)summary->removed, "proven",
        (json_int_t)summary->proven, "proven_go", (json_int_t)summary->proven_removed, "unusual",
        (int)hf_retention_is_unusual(planned->limits, summary), "stream", stream, "backups", backups);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
}

bool
hf_retention_explain(const struct hf_retention_planned *planned, size_t index, struct hf_buf *out, struct hf_error *err)
{
    const struct hf_retention_decision *decision = &planned->decisions[index];
    const char *before = decision->keep ? "Stays: " : "Goes: ";
    for (enum hf_retention_reason reason = 0; reason < HF_RETENTION_REASONS; reason++) {
        if ((decision->reasons & (UINT32_C(1) << reason)) == 0)
            continue;
        if (!hf_buf_add_text(out, before, err) || !explain_reason(planned, index, reason, out, err))
            return false;
        before = "; ";
    }
    return hf_buf_add_text(out, ".", err);
}

static json_t *
rules_json(const struct hf_retention_planned *planned)
{
    const struct hf_retention_policy *policy = planned->policy;
    _cleanup_(hf_json_freep) json_t *rules = json_object();
    struct hf_error ignored;
    bool done = rules != NULL && hf_json_set(rules, "last", json_integer(policy->last), &ignored) &&
                hf_json_set(rules, "within_ms", json_integer(policy->within_ms), &ignored) &&
                hf_json_set(rules, "stream_within_ms", json_integer(planned->stream_within_ms), &ignored) &&
                hf_json_set(rules, "minimum", json_integer(policy->minimum), &ignored) &&
                hf_json_set(rules, "unproven_grace_ms", json_integer(policy->unproven_grace_ms), &ignored) &&
                hf_json_set(rules, "failed_grace_ms", json_integer(policy->failed_grace_ms), &ignored) &&
                hf_json_set(rules, "replaced", json_boolean(policy->replaced), &ignored);
    for (size_t i = 0; done && i < HF_RETENTION_PERIODS; i++)
        done = hf_json_set(rules, period_names[i], json_integer(policy->periods[i]), &ignored);
    return done ? HF_TAKE(rules) : NULL;
}

static bool
newest_first(const struct hf_retention_planned *planned, size_t **ret, struct hf_error *err)
{
    size_t *order = calloc(planned->count + 1, sizeof *order);
    if (order == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", planned->count);
    for (size_t i = 0; i < planned->count; i++)
        order[i] = i;
    qsort_r(order, planned->count, sizeof *order, compare_ages, (void *)(uintptr_t)planned->backups);
    *ret = order;
    return true;
}

static int
compare_ages(const void *a, const void *b, void *backups)
{
    const struct hf_retention_backup *all = backups;
    const uint64_t left = all[*(const size_t *)a].sequence, right = all[*(const size_t *)b].sequence;
    return left < right ? 1 : left > right ? -1 : 0;
}

static json_t *
reasons_json(const struct hf_retention_decision *decision)
{
    _cleanup_(hf_json_freep) json_t *reasons = json_array();
    for (enum hf_retention_reason reason = 0; reason < HF_RETENTION_REASONS; reason++)
        if ((decision->reasons & (UINT32_C(1) << reason)) != 0 &&
            json_array_append_new(reasons, json_string(hf_retention_reason_name(reason))) != 0)
            return NULL;
    return HF_TAKE(reasons);
}

static json_t *
backup_json(const struct hf_retention_planned *planned, size_t index, struct hf_error *err)
{
    const struct hf_retention_backup *backup = &planned->backups[index];
    _cleanup_(hf_buf_done) struct hf_buf sentence = HF_BUF_INIT(SENTENCE_MOST);
    if (!hf_retention_explain(planned, index, &sentence, err))
        return NULL;
    return json_pack("{s:o, s:o, s:s, s:b, s:o, s:s}", "backup", hf_json_id_text(&backup->backup), "taken_at",
                     time_json(backup->time), "state", hf_backup_state_name(backup->state), "keep",
                     (int)planned->decisions[index].keep, "reasons", reasons_json(&planned->decisions[index]),
                     "sentence", hf_buf_text(&sentence));
}

static bool
name_plan(const struct hf_retention_planned *planned, const json_t *rules, const size_t *order,
          char ret[static HF_RETENTION_PLAN_BYTES], struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(DIGEST_MOST);
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    uint8_t digest[HF_SHA256_BYTES];
    for (size_t i = 0; i < planned->count; i++) {
        const struct hf_retention_backup *backup = &planned->backups[order[i]];
        const struct hf_retention_decision *decision = &planned->decisions[order[i]];
        if (json_array_append_new(rows, json_pack("[o, s, b, o]", hf_json_id_text(&backup->backup),
                                                  hf_backup_state_name(backup->state), (int)decision->keep,
                                                  reasons_json(decision))) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", planned->count);
    }
    _cleanup_(hf_json_freep) json_t *whole = json_pack(
        "[s, o, O, O, o]", planned->source, hf_json_id_text(&planned->vault), rules, rows, going_stretches(planned));
    if (whole == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", planned->count);
    if (!hf_json_canonical(whole, &text, err))
        return false;
    hf_sha256(text.data, text.length, digest);
    hf_hex_format(digest, NAME_BYTES, ret);
    return true;
}

static json_t *
going_stretches(const struct hf_retention_planned *planned)
{
    _cleanup_(hf_json_freep) json_t *ids = json_array();
    for (size_t i = 0; i < planned->stretch_count; i++)
        if (hf_stretch_reason_removes(planned->stretch_reasons[i]) &&
            json_array_append_new(ids, hf_json_id_text(&planned->stretches[i].stretch)) != 0)
            return NULL;
    return HF_TAKE(ids);
}

static bool
explain_reason(const struct hf_retention_planned *planned, size_t index, enum hf_retention_reason reason,
               struct hf_buf *out, struct hf_error *err)
{
    const struct hf_retention_policy *policy = planned->policy;
    const struct hf_retention_backup *backup = &planned->backups[index];
    char text[HF_TIME_TEXT_BYTES];
    switch (reason) {
    case HF_RETENTION_NEWEST_PROVEN:
        return hf_buf_add_text(out, "it is the newest proven backup", err);
    case HF_RETENTION_NEWER:
        return hf_buf_add_text(out, "it is newer than the newest proven backup", err);
    case HF_RETENTION_NOTHING_PROVEN:
        return hf_buf_add_text(out, "no backup of this source is proven", err);
    case HF_RETENTION_HELD:
        return add_end(out, "it is held", backup->held_until, err);
    case HF_RETENTION_LOCKED:
        return add_end(out, "it is locked", backup->locked_until, err);
    case HF_RETENTION_PINNED:
        return hf_buf_add_text(out, "it is being read", err);
    case HF_RETENTION_IN_SESSION:
        return hf_buf_add_text(out, "a backup that is being taken builds on it", err);
    case HF_RETENTION_NO_RULE:
        return hf_buf_add_text(out, "the source has no rule by which backups go", err);
    case HF_RETENTION_MINIMUM:
        return hf_buf_printf(out, err, "at least %" PRId64 " proven ones stay", policy->minimum);
    case HF_RETENTION_UNPROVEN_GRACE:
        return hf_buf_printf(out, err, "it may still be proven, until a proven one is %s younger",
                             hf_duration_format((uint64_t)policy->unproven_grace_ms, text));
    case HF_RETENTION_FAILED_GRACE:
        return hf_buf_printf(out, err, "it is %s, until a proven one was taken %s after that was found",
                             hf_backup_state_name(backup->state),
                             hf_duration_format((uint64_t)policy->failed_grace_ms, text));
    case HF_RETENTION_NEEDED:
        return hf_buf_add_text(out, "a backup that stays needs it", err);
    case HF_RETENTION_BEYOND_RULES:
        return hf_buf_add_text(out, "it is proven, and no rule keeps it", err);
    case HF_RETENTION_UNPROVEN:
        return hf_buf_printf(out, err, "it was never proven, and a proven one is more than %s younger",
                             hf_duration_format((uint64_t)policy->unproven_grace_ms, text));
    case HF_RETENTION_FAILED:
        return hf_buf_add_text(out, "it failed, and a newer one is proven", err);
    case HF_RETENTION_DAMAGED:
        return hf_buf_add_text(out, "it is damaged, and a newer one is proven", err);
    default:
        return explain_rule(planned, index, reason, out, err);
    }
}

static bool
explain_rule(const struct hf_retention_planned *planned, size_t index, enum hf_retention_reason reason,
             struct hf_buf *out, struct hf_error *err)
{
    const struct hf_retention_policy *policy = planned->policy;
    const struct hf_retention_decision *decision = &planned->decisions[index];
    char text[HF_TIME_TEXT_BYTES];
    if (reason == HF_RETENTION_LAST)
        return hf_buf_printf(out, err, "it is number %u of the last %" PRId64, decision->last_place, policy->last);
    if (reason == HF_RETENTION_WITHIN)
        return hf_buf_printf(out, err, "it was taken within %s before the newest proven one",
                             hf_duration_format((uint64_t)policy->within_ms, text));
    const enum hf_retention_period period = (enum hf_retention_period)(reason - HF_RETENTION_HOUR);
    return hf_buf_printf(out, err, "it is the newest proven one of %s (%s, %u of %" PRId64 ")",
                         hf_calendar_name(period, planned->backups[index].time, text), period_names[period],
                         decision->period_places[period], policy->periods[period]);
}

static bool
add_end(struct hf_buf *out, const char *what, int64_t until, struct hf_error *err)
{
    char text[HF_TIME_TEXT_BYTES];
    if (until == HF_RETENTION_WITHOUT_END)
        return hf_buf_add_text(out, what, err);
    return hf_buf_printf(out, err, "%s until %s", what, hf_time_format(until, text));
}

static json_t *
time_json(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_string(hf_time_format(ms, text));
}
