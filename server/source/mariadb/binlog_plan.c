#include "server/source/mariadb/binlog_serve.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/text.h"
#include "base/time.h"

struct planning {
    const struct hf_binlog_target *target;
    struct hf_binlog_plan *plan;
    uint64_t group; // where the transaction begins that is being read
    bool skip;      // the start has it
    bool statements_before;
    bool file_seen;
    bool found;
};

static bool find_window(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position,
                        uint64_t *ret_whole, struct hf_error *err);
static bool take(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);
static bool begin_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on,
                        struct hf_error *err);
static bool end_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on,
                      struct hf_error *err);
static bool is_behind_file(struct planning *planning, const struct hf_binlog_record *record);
static bool is_target(const struct planning *planning, const struct hf_binlog_walk *walk);
static bool fail_not_reached(const struct hf_binlog_target *target, const struct hf_binlog_plan *plan,
                             struct hf_error *err);

bool
hf_binlog_plan_make(struct hf_archive *archive, const struct hf_timeline_path *path, const struct hf_gtid_set *start,
                    const struct hf_binlog_target *target, struct hf_binlog_plan *ret, struct hf_error *err)
{
    _cleanup_(hf_binlog_plan_done) struct hf_binlog_plan plan = {0};
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    struct planning planning = {.target = target, .plan = &plan};
    uint64_t whole;
    char text[HF_GTID_TEXT_BYTES];
    const bool wants_one = target->stop == HF_BINLOG_AFTER_GTID || target->stop == HF_BINLOG_BEFORE_GTID;
    if (wants_one && hf_gtid_set_contains(start, &target->gtid))
        return hf_fail(err, HF_ERR_NOT_FOUND, "transaction \"%s\" is in the backup already",
                       hf_gtid_format(&target->gtid, text)) ||
               hf_fail_hint(err, "Restore from an older backup.");
    if (!hf_binlog_find_start(archive, path, start, &plan.from, err) || !hf_gtid_set_copy(start, &plan.start, err) ||
        !hf_gtid_set_copy(start, &plan.gtids, err) || !hf_binlog_place_copy(&plan.from, &place, err) ||
        !find_window(archive, path, plan.from.position, &whole, err))
        return false;
    plan.to = whole;
    if (!hf_binlog_scan(archive, path, &place, whole, take, &planning, err))
        return false;
    plan.reaches_end = !planning.found;
    if (!planning.found && target->stop != HF_BINLOG_TO_END && target->stop != HF_BINLOG_TO_TIME)
        return fail_not_reached(target, &plan, err);
    *ret = plan;
    plan = (struct hf_binlog_plan){0};
    return true;
}

void
hf_binlog_plan_done(struct hf_binlog_plan *plan)
{
    hf_binlog_place_done(&plan->from);
    hf_gtid_set_done(&plan->start);
    hf_gtid_set_done(&plan->gtids);
}

/* Log behind a gap is of no use to who stands before it. */
static bool
find_window(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position, uint64_t *ret_whole,
            struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    if (!hf_archive_windows(archive, path, &windows, &count, err))
        return false;
    *ret_whole = position;
    for (size_t i = 0; i < count; i++)
        if (windows[i].start <= position && position <= windows[i].end && windows[i].whole > *ret_whole)
            *ret_whole = windows[i].whole;
    return true;
}

static bool
take(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct planning *planning = context;
    const struct hf_binlog_step *step = record->step;
    if (step->begins && !begin_group(planning, record, ret_go_on, err))
        return false;
    return !*ret_go_on || !step->ends || end_group(planning, record, ret_go_on, err);
}

static bool
begin_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    const struct hf_binlog_walk *walk = record->walk;
    (void)err;
    planning->group = record->position;
    planning->skip = walk->has_gtid && hf_gtid_set_contains(&planning->plan->start, &walk->gtid);
    planning->statements_before = walk->with_statements;
    if (planning->target->stop == HF_BINLOG_BEFORE_GTID && is_target(planning, walk)) {
        planning->found = true;
        planning->plan->to = record->position;
        *ret_go_on = false;
    }
    return true;
}

static bool
end_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct hf_binlog_plan *plan = planning->plan;
    const struct hf_binlog_target *target = planning->target;
    const uint64_t end = record->position + record->length;
    const bool later =
        !planning->skip && target->stop == HF_BINLOG_TO_TIME && record->step->commit_ms > target->time_ms;
    if (later || (target->stop == HF_BINLOG_TO_FILE && is_behind_file(planning, record))) {
        planning->found = true;
        plan->to = planning->group;
        *ret_go_on = false;
        return true;
    }
    if (!planning->skip) {
        plan->transactions++;
        plan->bytes += end - planning->group;
        plan->last_commit_ms = record->step->commit_ms;
        if (plan->first_commit_ms == 0)
            plan->first_commit_ms = record->step->commit_ms;
        plan->with_statements = plan->with_statements || record->walk->with_statements;
        if (record->walk->has_gtid && !hf_gtid_set_add(&plan->gtids, &record->walk->gtid, err))
            return false;
    }
    if (target->stop == HF_BINLOG_AFTER_GTID && is_target(planning, record->walk)) {
        planning->found = true;
        plan->to = end;
        *ret_go_on = false;
    }
    return true;
}

/* Whether the transaction that ends here ends behind the file's position, or lies in a file behind it. */
static bool
is_behind_file(struct planning *planning, const struct hf_binlog_record *record)
{
    const struct hf_binlog_place *before = record->before;
    const bool same = strcmp(before->file, planning->target->file) == 0;
    const uint32_t next = record->step->event.next;
    uint64_t end = (before->file_position & ~(uint64_t)UINT32_MAX) | next;
    if (end < before->file_position)
        end += UINT64_C(1) << 32;
    if (same)
        planning->file_seen = true;
    return planning->file_seen && (!same || end > planning->target->file_position);
}

static bool
is_target(const struct planning *planning, const struct hf_binlog_walk *walk)
{
    const struct hf_gtid *wanted = &planning->target->gtid;
    if (!walk->has_gtid || walk->gtid.flavor != wanted->flavor || walk->gtid.sequence != wanted->sequence)
        return false;
    return wanted->flavor == HF_GTID_MARIADB
               ? walk->gtid.domain == wanted->domain && walk->gtid.server_id == wanted->server_id
               : memcmp(walk->gtid.uuid, wanted->uuid, sizeof wanted->uuid) == 0;
}

static bool
fail_not_reached(const struct hf_binlog_target *target, const struct hf_binlog_plan *plan, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf end = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    char text[HF_GTID_TEXT_BYTES];
    if (!hf_gtid_set_format(&plan->gtids, &end, err))
        return false;
    if (target->stop == HF_BINLOG_TO_FILE)
        return hf_fail(err, HF_ERR_NOT_FOUND,
                       "the archived binary log has nothing behind \"%.128s\", position %" PRIu64
                       "; it ends at \"%.160s\"",
                       target->file, target->file_position, hf_buf_text(&end));
    return hf_fail(err, HF_ERR_NOT_FOUND,
                   "transaction \"%s\" is not in the archived binary log, which ends at \"%.160s\"",
                   hf_gtid_format(&target->gtid, text), hf_buf_text(&end));
}
