#include "server/source/mariadb/binlog_serve.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

struct planning {
    const struct hf_binlog_target *target;
    struct hf_binlog_plan *plan;
    uint64_t group;    // where the transaction begins that is being read
    bool skip;         // the start has it
    bool file_skipped; // the target's file has transactions that the start has
    bool file_seen;
    bool renumbered;                       // a file of a lower number was met behind the start: the log was reset
    char start_file[HF_BINLOG_NAME_BYTES]; // the server's name for the place where the start ends
    uint64_t start_position;
    int64_t newest_skipped_ms; // commit time among what the start has, as far as it was read
    bool found;
};

static bool take(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);
static bool begin_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on);
static bool end_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on,
                      struct hf_error *err);
static bool skip_group(struct planning *planning, const struct hf_binlog_record *record);
static bool is_last(const struct hf_gtid_set *set, const struct hf_gtid *gtid);
static uint64_t end_in_file(const struct hf_binlog_record *record);
static bool ends_file_target(const struct hf_binlog_target *target, const struct hf_binlog_record *record);
static bool is_behind_file(struct planning *planning, const struct hf_binlog_record *record);
static bool comes_before(const char *file, const char *other);
static bool is_target(const struct planning *planning, const struct hf_binlog_walk *walk);
static bool refuse_before_start(const struct planning *planning, struct hf_error *err);
static bool refuse_file_before_start(const struct planning *planning, struct hf_error *err);
static bool settle_end(const struct planning *planning, struct hf_archive *archive, const struct hf_timeline_path *path,
                       const struct hf_window *window, const struct hf_window *next, struct hf_error *err);
static bool refuse_beyond(const struct planning *planning, const struct hf_window *next, const char *where,
                          struct hf_error *err);

bool
hf_binlog_plan_make(struct hf_archive *archive, const struct hf_timeline_path *path, const struct hf_gtid_set *start,
                    const struct hf_binlog_target *target, struct hf_binlog_plan *ret, struct hf_error *err)
{
    _cleanup_(hf_binlog_plan_done) struct hf_binlog_plan plan = {0};
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    struct planning planning = {.target = target, .plan = &plan};
    struct hf_window window, next;
    char text[HF_GTID_TEXT_BYTES];
    const bool wants_one = target->stop == HF_BINLOG_AFTER_GTID || target->stop == HF_BINLOG_BEFORE_GTID;
    const bool is_start = target->stop == HF_BINLOG_AFTER_GTID && is_last(start, &target->gtid);
    if (wants_one && !is_start && hf_gtid_set_contains(start, &target->gtid))
        return hf_fail(err, HF_ERR_USAGE, "transaction \"%s\" is in the backup already",
                       hf_gtid_format(&target->gtid, text)) ||
               hf_fail_hint(err, "Name an earlier backup.");
    if (!hf_binlog_find_start(archive, path, start, target->start_known_ms, &plan.from, &window, &next, err) ||
        !hf_gtid_set_copy(start, &plan.start, err) || !hf_gtid_set_copy(start, &plan.gtids, err) ||
        !hf_binlog_place_copy(&plan.from, &place, err))
        return false;
    snprintf(planning.start_file, sizeof planning.start_file, "%s", plan.from.file);
    planning.start_position = plan.from.file_position;
    planning.found = is_start;
    plan.to = !is_start && window.whole > plan.from.position ? window.whole : plan.from.position;
    if (!hf_binlog_scan(archive, path, &place, plan.to, take, &planning, err) || !refuse_before_start(&planning, err) ||
        (!planning.found && !settle_end(&planning, archive, path, &window, &next, err)))
        return false;
    plan.reaches_end = !planning.found;
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

static bool
take(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct planning *planning = context;
    const struct hf_binlog_step *step = record->step;
    if (step->begins && !begin_group(planning, record, ret_go_on))
        return true;
    return !step->ends || end_group(planning, record, ret_go_on, err);
}

/* False: this transaction is the one before which to stop. */
static bool
begin_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on)
{
    const struct hf_binlog_walk *walk = record->walk;
    planning->group = record->position;
    planning->skip = walk->has_gtid && hf_gtid_set_contains(&planning->plan->start, &walk->gtid);
    if (planning->target->stop != HF_BINLOG_BEFORE_GTID || !is_target(planning, walk))
        return true;
    planning->found = true;
    planning->plan->to = record->position;
    *ret_go_on = false;
    return false;
}

static bool
end_group(struct planning *planning, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct hf_binlog_plan *plan = planning->plan;
    const struct hf_binlog_target *target = planning->target;
    const uint64_t end = record->position + record->length;
    if (planning->skip)
        return skip_group(planning, record);
    const bool later = target->stop == HF_BINLOG_TO_TIME && record->step->commit_ms > target->time_ms;
    if (later || (target->stop == HF_BINLOG_TO_FILE && is_behind_file(planning, record))) {
        planning->found = true;
        plan->to = planning->group;
        *ret_go_on = false;
        return true;
    }
    plan->transactions++;
    plan->bytes += end - planning->group;
    plan->last_commit_ms = record->step->commit_ms;
    if (plan->first_commit_ms == 0)
        plan->first_commit_ms = record->step->commit_ms;
    plan->with_statements = plan->with_statements || record->walk->with_statements;
    if (record->walk->has_gtid && !hf_gtid_set_add(&plan->gtids, &record->walk->gtid, err))
        return false;
    if (target->stop == HF_BINLOG_AFTER_GTID ? is_target(planning, record->walk)
                                             : target->stop == HF_BINLOG_TO_FILE && ends_file_target(target, record)) {
        planning->found = true;
        plan->to = end;
        *ret_go_on = false;
    }
    return true;
}

/* The set has nothing behind it. */
static bool
is_last(const struct hf_gtid_set *set, const struct hf_gtid *gtid)
{
    if (set->count != 1 || set->flavor != HF_GTID_MARIADB || gtid->flavor != HF_GTID_MARIADB)
        return false;
    const struct hf_gtid *last = &set->parts[0].last;
    return last->domain == gtid->domain && last->server_id == gtid->server_id && last->sequence == gtid->sequence;
}

/* What the start has tells where it ends. */
static bool
skip_group(struct planning *planning, const struct hf_binlog_record *record)
{
    snprintf(planning->start_file, sizeof planning->start_file, "%s", record->before->file);
    planning->start_position = end_in_file(record);
    if (record->step->commit_ms > planning->newest_skipped_ms)
        planning->newest_skipped_ms = record->step->commit_ms;
    if (planning->target->stop == HF_BINLOG_TO_FILE && strcmp(record->before->file, planning->target->file) == 0)
        planning->file_skipped = true;
    return true;
}

/* The server's position behind the event, of which 32 bits are told. */
static uint64_t
end_in_file(const struct hf_binlog_record *record)
{
    const struct hf_binlog_place *before = record->before;
    uint64_t end = (before->file_position & ~(uint64_t)UINT32_MAX) | record->step->event.next;
    if (end < before->file_position)
        end += UINT64_C(1) << 32;
    return end;
}

static bool
ends_file_target(const struct hf_binlog_target *target, const struct hf_binlog_record *record)
{
    return strcmp(record->before->file, target->file) == 0 && end_in_file(record) == target->file_position;
}

/* Whether the transaction that ends here ends behind the file's position, or lies in a file behind it. */
static bool
is_behind_file(struct planning *planning, const struct hf_binlog_record *record)
{
    const bool same = strcmp(record->before->file, planning->target->file) == 0;
    if (same || strcmp(planning->start_file, planning->target->file) == 0)
        planning->file_seen = true;
    if (comes_before(record->before->file, planning->start_file))
        planning->renumbered = true;
    return planning->file_seen && (!same || end_in_file(record) > planning->target->file_position);
}

/* Files of one log are numbered: "binlog.000001". */
static bool
comes_before(const char *file, const char *other)
{
    const char *dot = strrchr(file, '.'), *other_dot = strrchr(other, '.');
    return dot != NULL && other_dot != NULL && dot - file == other_dot - other &&
           strncmp(file, other, (size_t)(dot - file)) == 0 &&
           strtoul(dot + 1, NULL, 10) < strtoul(other_dot + 1, NULL, 10);
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

/* A copy cannot be taken back to what was before it. */
static bool
refuse_before_start(const struct planning *planning, struct hf_error *err)
{
    const struct hf_binlog_target *target = planning->target;
    char target_time[HF_TIME_TEXT_BYTES], newest[HF_TIME_TEXT_BYTES];
    if (target->stop == HF_BINLOG_TO_TIME && planning->newest_skipped_ms > target->time_ms)
        return hf_fail(err, HF_ERR_USAGE, "the backup has a transaction of %s, behind %s",
                       hf_time_format(planning->newest_skipped_ms, newest),
                       hf_time_format(target->time_ms, target_time)) ||
               hf_fail_hint(err, "Name an earlier backup.");
    if (target->stop != HF_BINLOG_TO_FILE)
        return true;
    const bool same = strcmp(planning->start_file, target->file) == 0;
    if (same ? planning->start_position <= target->file_position : !planning->file_skipped)
        return true;
    return refuse_file_before_start(planning, err);
}

static bool
refuse_file_before_start(const struct planning *planning, struct hf_error *err)
{
    const struct hf_binlog_target *target = planning->target;
    return hf_fail(err, HF_ERR_USAGE, "the backup reaches to \"%.128s:%" PRIu64 "\", behind \"%.128s:%" PRIu64 "\"",
                   planning->start_file, planning->start_position, target->file, target->file_position) ||
           hf_fail_hint(err, "Name an earlier backup.");
}

/* The window ended, and the target was not passed. */
static bool
settle_end(const struct planning *planning, struct hf_archive *archive, const struct hf_timeline_path *path,
           const struct hf_window *window, const struct hf_window *next, struct hf_error *err)
{
    struct hf_binlog_plan *plan = planning->plan;
    _cleanup_(hf_buf_done) struct hf_buf end = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    _cleanup_(hf_buf_done) struct hf_buf mark = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    _cleanup_(hf_buf_done) struct hf_buf on = HF_BUF_INIT(HF_GTID_TEXT_MOST);
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    uint64_t at;
    bool known = false;
    char where[400];
    if (planning->target->stop == HF_BINLOG_TO_FILE && plan->transactions == 0 &&
        strcmp(planning->start_file, planning->target->file) == 0 &&
        planning->start_position == planning->target->file_position) // the start is the target
        return true;
    if (planning->target->stop == HF_BINLOG_TO_FILE && !planning->file_seen && !planning->renumbered &&
        comes_before(planning->target->file, planning->start_file))
        return refuse_file_before_start(planning, err);
    if (next->end != 0 && planning->target->stop == HF_BINLOG_TO_END && planning->target->up_to_gap) {
        plan->gap_from = window->end;
        plan->gap_to = next->start;
        return true;
    }
    if (next->end == 0 && planning->target->stop == HF_BINLOG_TO_END)
        return true;
    if (!hf_gtid_set_format(&plan->gtids, &end, err) ||
        (next->end != 0 && !hf_archive_mark(archive, path, next->start, &known, &at, &mark, err)) ||
        (known && at == next->start &&
         (!hf_binlog_place_parse(at, hf_buf_text(&mark), &place, err) || !hf_gtid_set_format(&place.gtids, &on, err))))
        return false;
    if (next->end == 0)
        snprintf(where, sizeof where, "the archive ends at \"%.160s\"", hf_buf_text(&end));
    else
        snprintf(where, sizeof where, "there is a gap from \"%.160s\" to \"%.160s\"", hf_buf_text(&end),
                 hf_buf_text(&on));
    if (planning->target->stop == HF_BINLOG_TO_END)
        return hf_fail(err, HF_ERR_CORRUPT, "behind the backup %s", where) ||
               hf_fail_hint(err, "Name a backup that was begun behind the gap, or a moment before it.");
    return refuse_beyond(planning, next, where, err);
}

static bool
refuse_beyond(const struct planning *planning, const struct hf_window *next, const char *where, struct hf_error *err)
{
    const struct hf_binlog_target *target = planning->target;
    const int64_t last_ms = planning->plan->last_commit_ms;
    char what[HF_BINLOG_NAME_BYTES + 64], text[HF_GTID_TEXT_BYTES], time[HF_TIME_TEXT_BYTES], last[HF_TIME_TEXT_BYTES];
    char behind[HF_TIME_TEXT_BYTES], nearest[128] = "";
    if (target->stop == HF_BINLOG_TO_TIME)
        snprintf(what, sizeof what, "no commit later than %s", hf_time_format(target->time_ms, time));
    else if (target->stop == HF_BINLOG_TO_FILE)
        snprintf(what, sizeof what, "nothing behind position %" PRIu64 " of \"%.128s\"", target->file_position,
                 target->file);
    else
        snprintf(what, sizeof what, "no transaction \"%s\"", hf_gtid_format(&target->gtid, text));
    if (last_ms != 0)
        hf_time_format(last_ms, last);
    hf_fail(err, HF_ERR_NOT_FOUND,
            "behind the backup the archive has %s: %s, and the newest commit before that is of %s", what, where,
            last_ms != 0 ? last : "no known time");
    if (next->first_time != 0)
        snprintf(nearest, sizeof nearest, " and, from a backup begun behind the gap, after %s",
                 hf_time_format(next->first_time, behind));
    if (last_ms == 0)
        return hf_fail_hint(err, "Nearest: the backup itself, without a moment.");
    return hf_fail_hint(err, "Nearest: before %s%s%s.", last, next->end == 0 ? ", or all there is with --latest" : "",
                        nearest);
}
