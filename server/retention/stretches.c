#include "server/retention/stretches.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/time.h"

static const char *const names[HF_STRETCH_REASONS] = {
    [HF_STRETCH_FOLLOWS] = "follows",
    [HF_STRETCH_NEWEST] = "newest",
    [HF_STRETCH_HISTORY] = "history",
    [HF_STRETCH_NO_RULE] = "no_rule",
    [HF_STRETCH_NOTHING_PROVEN] = "nothing_proven",
    [HF_STRETCH_BEFORE_BACKUPS] = "before_backups",
    [HF_STRETCH_BEFORE_WINDOW] = "before_window",
};

static size_t find_start(int64_t within_ms, const struct hf_retention_backup *backups,
                         const struct hf_retention_decision *decisions, size_t count,
                         const struct hf_retention_summary *summary, bool *ret_of_window);
static enum hf_stretch_reason judge(const struct hf_retention_stretch *stretch, uint64_t newest,
                                    const struct hf_retention_backup *start, bool of_window);
static int by_sequence(const void *a, const void *b, void *stretches);
static bool explain(enum hf_stretch_reason reason, const struct hf_retention_backup *start, int64_t within_ms,
                    struct hf_buf *out, struct hf_error *err);

const char *
hf_stretch_reason_name(enum hf_stretch_reason reason)
{
    return names[reason];
}

bool
hf_stretch_reason_removes(enum hf_stretch_reason reason)
{
    return reason >= HF_STRETCH_BEFORE_BACKUPS;
}

void
hf_retention_plan_stretches(const struct hf_retention_policy *policy, int64_t within_ms,
                            const struct hf_retention_backup *backups, const struct hf_retention_decision *decisions,
                            size_t backup_count, const struct hf_retention_summary *summary,
                            const struct hf_retention_stretch *stretches, size_t count, enum hf_stretch_reason *reasons,
                            struct hf_stretch_plan *ret)
{
    uint64_t newest = 0;
    const bool has_rule = within_ms > 0 || hf_retention_has_rule(policy);
    *ret = (struct hf_stretch_plan){.start = HF_RETENTION_NONE};
    if (has_rule && summary->newest_proven != HF_RETENTION_NONE)
        ret->start = find_start(within_ms, backups, decisions, backup_count, summary, &ret->start_is_of_window);
    for (size_t i = 0; i < count; i++)
        newest = stretches[i].sequence > newest ? stretches[i].sequence : newest;
    for (size_t i = 0; i < count; i++) {
        reasons[i] = !has_rule ? HF_STRETCH_NO_RULE
                     : ret->start == HF_RETENTION_NONE
                         ? HF_STRETCH_NOTHING_PROVEN
                         : judge(&stretches[i], newest, &backups[ret->start], ret->start_is_of_window);
        if (hf_stretch_reason_removes(reasons[i])) {
            ret->removed++;
            ret->removed_bytes += stretches[i].stored_bytes;
        }
    }
}

bool
hf_stretch_report(const struct hf_retention_backup *backups, const struct hf_retention_stretch *stretches, size_t count,
                  const enum hf_stretch_reason *reasons, const struct hf_stretch_plan *plan, int64_t within_ms,
                  json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_freep) size_t *order = calloc(count + 1, sizeof *order);
    _cleanup_(hf_json_freep) json_t *runs = json_array();
    const struct hf_retention_backup *start =
        count == 0 || plan->start == HF_RETENTION_NONE ? NULL : &backups[plan->start];
    if (order == NULL || runs == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu stretches", count);
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof *order, by_sequence, (void *)(uintptr_t)stretches);
    for (size_t at = 0, next; at < count; at = next) {
        const enum hf_stretch_reason reason = reasons[order[at]];
        uint64_t bytes = 0;
        char first[HF_TIME_TEXT_BYTES], last[HF_TIME_TEXT_BYTES];
        _cleanup_(hf_buf_done) struct hf_buf sentence = HF_BUF_INIT(HF_KIB);
        for (next = at; next < count && reasons[order[next]] == reason; next++)
            bytes += stretches[order[next]].stored_bytes;
        if (!explain(reason, start, within_ms, &sentence, err))
            return false;
        json_t *row =
            json_pack("{s:s, s:s, s:I, s:I, s:b, s:s, s:s}", "first_at",
                      hf_time_format(stretches[order[next - 1]].committed_at, first), "last_at",
                      hf_time_format(stretches[order[at]].committed_at, last), "stretches", (json_int_t)(next - at),
                      "stored_bytes", (json_int_t)bytes, "keep", (int)!hf_stretch_reason_removes(reason), "reason",
                      hf_stretch_reason_name(reason), "sentence", hf_buf_text(&sentence));
        if (row == NULL || json_array_append_new(runs, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu stretches", count);
    }
    *ret = count == 0 ? json_null()
                      : json_pack("{s:o, s:I, s:I, s:I, s:O}", "start",
                                  start == NULL ? json_null() : hf_json_id_text(&start->backup), "stay",
                                  (json_int_t)(count - plan->removed), "go", (json_int_t)plan->removed, "go_bytes",
                                  (json_int_t)plan->removed_bytes, "runs", runs);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu stretches", count);
}

static size_t
find_start(int64_t within_ms, const struct hf_retention_backup *backups, const struct hf_retention_decision *decisions,
           size_t count, const struct hf_retention_summary *summary, bool *ret_of_window)
{
    const int64_t newest_proven_at = backups[summary->newest_proven].time;
    size_t oldest = HF_RETENTION_NONE, before = HF_RETENTION_NONE;
    for (size_t i = 0; i < count; i++) {
        if (!decisions[i].keep)
            continue;
        if (oldest == HF_RETENTION_NONE || backups[i].begun < backups[oldest].begun)
            oldest = i;
        if (within_ms > 0 && backups[i].state == HF_BACKUP_PROVEN && newest_proven_at - backups[i].time >= within_ms &&
            (before == HF_RETENTION_NONE || backups[i].begun > backups[before].begun))
            before = i;
    }
    *ret_of_window = before != HF_RETENTION_NONE;
    return before != HF_RETENTION_NONE ? before : oldest;
}

static enum hf_stretch_reason
judge(const struct hf_retention_stretch *stretch, uint64_t newest, const struct hf_retention_backup *start,
      bool of_window)
{
    if (stretch->sequence > start->begun || start->position == 0 || stretch->end > start->position)
        return HF_STRETCH_FOLLOWS;
    if (start->needs_log != HF_RETENTION_NO_NEED && stretch->begin <= start->needs_log &&
        start->needs_log < stretch->end)
        return HF_STRETCH_FOLLOWS;
    if (stretch->sequence == newest)
        return HF_STRETCH_NEWEST;
    if (stretch->history)
        return HF_STRETCH_HISTORY;
    return of_window ? HF_STRETCH_BEFORE_WINDOW : HF_STRETCH_BEFORE_BACKUPS;
}

/* Newest first. */
static int
by_sequence(const void *a, const void *b, void *stretches)
{
    const struct hf_retention_stretch *all = stretches;
    const uint64_t left = all[*(const size_t *)a].sequence, right = all[*(const size_t *)b].sequence;
    return left < right ? 1 : left > right ? -1 : 0;
}

static bool
explain(enum hf_stretch_reason reason, const struct hf_retention_backup *start, int64_t within_ms, struct hf_buf *out,
        struct hf_error *err)
{
    char id[HF_ID_TEXT_BYTES] = "", text[HF_TIME_TEXT_BYTES];
    if (start != NULL)
        hf_id_format(&start->backup, id);
    switch (reason) {
    case HF_STRETCH_FOLLOWS:
        return hf_buf_printf(out, err, "Stays: any moment since backup %s can be restored with it.", id);
    case HF_STRETCH_NEWEST:
        return hf_buf_add_text(out, "Stays: it is the newest, where the receiver goes on.", err);
    case HF_STRETCH_HISTORY:
        return hf_buf_add_text(out, "Stays: it holds the history of a timeline, which later log needs.", err);
    case HF_STRETCH_NO_RULE:
        return hf_buf_add_text(out, "Stays: the source has no rule by which anything goes.", err);
    case HF_STRETCH_NOTHING_PROVEN:
        return hf_buf_add_text(out, "Stays: no backup of this source is proven.", err);
    case HF_STRETCH_BEFORE_BACKUPS:
        return hf_buf_printf(out, err, "Goes: it is older than backup %s, the oldest that stays.", id);
    case HF_STRETCH_BEFORE_WINDOW:
        return hf_buf_printf(out, err,
                             "Goes: it is older than backup %s, from which any moment of the last %s is reached.", id,
                             hf_duration_format((uint64_t)within_ms, text));
    case HF_STRETCH_REASONS:
        break;
    }
    abort();
}
