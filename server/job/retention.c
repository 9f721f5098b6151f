#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/source_names.h"
#include "server/job/stream_place.h"
#include "server/retention/clock.h"
#include "server/retention/report.h"

#define FACT_MOST         HF_KIB
#define REMOVALS_FIRST    HF_RETENTION_BEYOND_RULES
#define STRETCHES_AT_ONCE 5000 // ids in one log entry

/* A source, what is known of its backups, and what a plan says of them. */
struct planning {
    struct hf_source_settings *source;
    struct hf_id vault; // none: there was no backup yet
    uint64_t head;      // last entry of its log
    int64_t newest_log_at;
    struct hf_retention_policy policy;
    struct hf_retention_limits limits;
    size_t count, room;
    struct hf_retention_backup *backups;
    struct hf_retention_decision *decisions;
    struct hf_retention_summary summary;
    size_t stretch_count;
    struct hf_retention_stretch *stretches;
    enum hf_stretch_reason *stretch_reasons;
    struct hf_stretch_plan stretch_plan;
    json_t *report;
};

static void collect_soon(struct hf_daemon *daemon);
static bool plan_source(struct hf_daemon *daemon, const char *name, bool replaced, struct planning *ret,
                        struct hf_error *err);
static void planning_done(struct planning *planning);
static void take_policy(struct planning *planning, bool replaced);
static bool gather(struct hf_daemon *daemon, struct planning *planning, struct hf_error *err);
static bool keep_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool gather_stretches(struct planning *planning, const struct hf_vault_state *state, struct hf_error *err);
static bool keep_head_time(void *context, const struct hf_vault_row *row, struct hf_error *err);
static void protect(struct planning *planning, const struct hf_vault_state *state);
static void place(struct planning *planning, const struct hf_vault_state *state);
static struct hf_retention_backup *find(struct planning *planning, const struct hf_id *id);
static bool add_plan(struct hf_daemon *daemon, const char *name, bool replaced, json_t *plans, struct hf_error *err);
static bool check_clock(struct hf_daemon *daemon, int64_t newest_log_at, bool is_right, struct hf_error *err);
static bool read_earlier(struct hf_daemon *daemon, struct hf_clock *ret, bool *ret_found, struct hf_error *err);
static bool keep_reading(struct hf_daemon *daemon, const struct hf_clock *clock, struct hf_error *err);
static bool check_plan(const struct planning *planning, const json_t *arguments, struct hf_error *err);
static bool describe_removals(const struct planning *planning, json_t **ret, struct hf_error *err);
static bool describe_stretches(const struct planning *planning, json_t *prunes, struct hf_error *err);
static bool write_prune(struct hf_daemon *daemon, const json_t *request, const struct hf_id *vault, int64_t head,
                        const json_t *prune, struct hf_error *err);

bool
hf_retention_answer_plan(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                         struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', false}, {"replaced", 'b', false}};
    _cleanup_(hf_json_freep) json_t *plans = json_array();
    _cleanup_(hf_source_names_done) struct hf_source_names names = {0};
    (void)ret_exit;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err))
        return false;
    const char *source = json_string_value(json_object_get(arguments, "source"));
    const bool replaced = json_is_true(json_object_get(arguments, "replaced"));
    if (source != NULL && !add_plan(daemon, source, replaced, plans, err))
        return false;
    if (source == NULL && !hf_catalog_sources(hf_daemon_catalog(daemon), hf_source_names_keep, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++)
        if (!add_plan(daemon, names.list[i], replaced, plans, err))
            return false;
    *ret_result = json_pack("{s:O}", "plans", plans);
    return true;
}

/* What the plan says, ready to be written: {source, vault, plan, head, prune [{reason, backups}], removed, stay}. */
bool
hf_retention_apply_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    static const struct hf_argument known[] = {{"source", 's', true},
                                               {"plan", 's', false},
                                               {"removing", 'i', false},
                                               {"replaced", 'b', false},
                                               {"clock_is_right", 'b', false}};
    const json_t *arguments = hf_job_arguments(job);
    _cleanup_(planning_done) struct planning planning = {0};
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !plan_source(daemon, hf_job_subject(job), json_is_true(json_object_get(arguments, "replaced")), &planning,
                     err) ||
        !check_plan(&planning, arguments, err))
        return false;
    if (planning.summary.removed + planning.stretch_plan.removed > 0 &&
        !check_clock(daemon, planning.newest_log_at, json_is_true(json_object_get(arguments, "clock_is_right")), err))
        return hf_fail_within(err, "nothing of source \"%s\" was removed", planning.source->name);
    if (!hf_id_is_none(&planning.vault))
        hf_job_set_vault(job, &planning.vault);
    return describe_removals(&planning, ret_request, err);
}

/*
 * Every entry must be the next one after what was planned with: what came into the log in between, a verdict that the
 * newest proven backup is damaged for one, may forbid what the plan allowed (promise 5).
 */
bool
hf_retention_apply_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                            struct hf_error *err)
{
    static const char what[] = "the plan";
    struct hf_id vault;
    int64_t head;
    json_t *prunes;
    size_t index;
    const json_t *prune;
    if (why != NULL)
        return true;
    if (!hf_json_array(*result, "prune", what, &prunes, err) ||
        (json_array_size(prunes) > 0 && (!hf_json_id(*result, "vault", what, &vault, err) ||
                                         !hf_json_integer(*result, "head", what, 1, HF_JSON_INTEGER_MOST, &head, err))))
        return false;
    json_array_foreach(prunes, index, prune)
    {
        if (!write_prune(daemon, *result, &vault, head + (int64_t)index, prune, err))
            return false;
    }
    json_object_del(*result, "prune");
    json_object_del(*result, "head");
    if (index == 0 || strcmp(hf_job_requested_by(job), HF_BY_SCHEDULE) != 0)
        return true;
    collect_soon(daemon);
    return true;
}

void
hf_retention_note_clock(struct hf_daemon *daemon)
{
    struct hf_clock clock, earlier;
    struct hf_error err;
    bool found;
    if (!hf_clock_read(&clock, &err) || !read_earlier(daemon, &earlier, &found, &err) ||
        (!(found && strcmp(earlier.boot, clock.boot) == 0) && !keep_reading(daemon, &clock, &err)))
        hf_log_warning(&err, "that the clock is set will not be noticed");
}

/* What was removed is removed, whether its space is freed now or the next time. */
static void
collect_soon(struct hf_daemon *daemon)
{
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *none = json_object();
    if (none == NULL || !hf_daemon_add_job(daemon, "repo gc", none, "after retention", NULL, &err))
        hf_log_warning(none == NULL ? NULL : &err, "the space of removed backups is not freed now");
}

static bool
plan_source(struct hf_daemon *daemon, const char *name, bool replaced, struct planning *ret, struct hf_error *err)
{
    if (!hf_daemon_source(daemon, name, &ret->source, err))
        return false;
    take_policy(ret, replaced);
    if (!gather(daemon, ret, err))
        return hf_fail_within(err, "could not look at the backups of source \"%s\"", name);
    ret->decisions = calloc(ret->count + 1, sizeof *ret->decisions);
    if (ret->decisions == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", ret->count);
    if (!hf_retention_plan(&ret->policy, ret->backups, ret->count, hf_daemon_now(daemon), ret->newest_log_at,
                           ret->decisions, &ret->summary, err))
        return hf_fail_within(err, "source \"%s\"", name);
    hf_retention_plan_stretches(&ret->policy, ret->source->retention.stream_within_ms, ret->backups, ret->decisions,
                                ret->count, &ret->summary, ret->stretches, ret->stretch_count, ret->stretch_reasons,
                                &ret->stretch_plan);
    const struct hf_retention_planned planned = {.source = name,
                                                 .vault = ret->vault,
                                                 .policy = &ret->policy,
                                                 .limits = &ret->limits,
                                                 .count = ret->count,
                                                 .backups = ret->backups,
                                                 .decisions = ret->decisions,
                                                 .summary = &ret->summary,
                                                 .stream_within_ms = ret->source->retention.stream_within_ms,
                                                 .stretch_count = ret->stretch_count,
                                                 .stretches = ret->stretches,
                                                 .stretch_reasons = ret->stretch_reasons,
                                                 .stretch_plan = &ret->stretch_plan};
    return hf_retention_report(&planned, &ret->report, err);
}

static void
planning_done(struct planning *planning)
{
    hf_source_settings_freep(&planning->source);
    free(planning->backups);
    free(planning->decisions);
    free(planning->stretches);
    free(planning->stretch_reasons);
    hf_json_freep(&planning->report);
}

static void
take_policy(struct planning *planning, bool replaced)
{
    const struct hf_source_settings *source = planning->source;
    planning->policy = (struct hf_retention_policy){
        .last = source->retention.last,
        .periods =
            {
                [HF_RETENTION_HOURLY] = source->retention.hourly,
                [HF_RETENTION_DAILY] = source->retention.daily,
                [HF_RETENTION_WEEKLY] = source->retention.weekly,
                [HF_RETENTION_MONTHLY] = source->retention.monthly,
                [HF_RETENTION_YEARLY] = source->retention.yearly,
            },
        .within_ms = source->retention.within_ms,
        .minimum = source->retention.minimum,
        .unproven_grace_ms = source->retention.unproven_grace_ms,
        .failed_grace_ms = source->retention.failed_grace_ms,
        .replaced = replaced,
    };
    planning->limits = (struct hf_retention_limits){.most_percent = source->retention.most_percent,
                                                    .most_at_once = source->retention.most_at_once};
}

/* The log is read first: what others wrote counts too. */
static bool
gather(struct hf_daemon *daemon, struct planning *planning, struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const struct hf_vault_state *state;
    if (!hf_catalog_source_vault(catalog, planning->source->name, &planning->vault, err))
        return false;
    if (hf_id_is_none(&planning->vault))
        return true;
    if (!hf_records_read_vault(daemon->records, &planning->vault, err) ||
        !hf_records_state(daemon->records, &planning->vault, &state, err) ||
        !hf_catalog_vaults(catalog, keep_head_time, planning, err) ||
        !hf_catalog_backups(catalog, planning->source->name, false, keep_backup, planning, err))
        return false;
    planning->head = state->head;
    protect(planning, state);
    place(planning, state);
    return gather_stretches(planning, state, err);
}

static bool
gather_stretches(struct planning *planning, const struct hf_vault_state *state, struct hf_error *err)
{
    planning->stretches = calloc(state->stretch_count + 1, sizeof *planning->stretches);
    planning->stretch_reasons = calloc(state->stretch_count + 1, sizeof *planning->stretch_reasons);
    if (planning->stretches == NULL || planning->stretch_reasons == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu stretches", state->stretch_count);
    for (size_t i = 0; i < state->stretch_count; i++) {
        const struct hf_vault_stretch *stretch = &state->stretches[i];
        if (stretch->pruned || stretch->source == NULL || strcmp(stretch->source, planning->source->name) != 0)
            continue;
        planning->stretches[planning->stretch_count++] =
            (struct hf_retention_stretch){.stretch = stretch->stretch,
                                          .sequence = stretch->sequence,
                                          .begin = stretch->start,
                                          .end = stretch->end,
                                          .committed_at = stretch->committed_at,
                                          .stored_bytes = stretch->stored_bytes,
                                          .history = stretch->history_count > 0};
    }
    return true;
}

static bool
keep_head_time(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    struct planning *planning = context;
    (void)err;
    if (hf_id_equal(&row->vault, &planning->vault))
        planning->newest_log_at = row->head_time;
    return true;
}

static bool
keep_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct planning *planning = context;
    if (!hf_id_equal(&row->vault, &planning->vault))
        return hf_fail(err, HF_ERR_CONFLICT, "its backups lie in more than one vault");
    if (planning->count == planning->room) {
        const size_t room = planning->room == 0 ? 64 : 2 * planning->room;
        struct hf_retention_backup *more = reallocarray(planning->backups, room, sizeof *more);
        if (more == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan of %zu backups", room);
        planning->backups = more;
        planning->room = room;
    }
    planning->backups[planning->count++] = (struct hf_retention_backup){.backup = row->backup,
                                                                        .sequence = row->sequence,
                                                                        .needs_log = HF_RETENTION_NO_NEED,
                                                                        .time = row->committed_at,
                                                                        .state = row->state,
                                                                        .state_since = row->state_since,
                                                                        .held_until = HF_RETENTION_NOT_SET,
                                                                        .locked_until = HF_RETENTION_NOT_SET};
    return true;
}

static void
protect(struct planning *planning, const struct hf_vault_state *state)
{
    struct hf_retention_backup *backup;
    for (size_t i = 0; i < planning->count; i++) {
        const struct hf_vault_backup *known = hf_vault_state_backup(state, &planning->backups[i].backup);
        const struct hf_vault_session *session = known == NULL ? NULL : hf_vault_state_session(state, &known->session);
        if (known != NULL)
            planning->backups[i].locked_until = known->locked_until;
        if (session != NULL)
            planning->backups[i].begun = session->sequence;
    }
    for (size_t i = 0; i < state->hold_count; i++)
        if ((backup = find(planning, &state->holds[i].backup)) != NULL && state->holds[i].until > backup->held_until)
            backup->held_until = state->holds[i].until;
    for (size_t i = 0; i < state->pin_count; i++)
        if ((backup = find(planning, &state->pins[i].backup)) != NULL)
            backup->pinned = true;
    for (size_t i = 0; i < state->session_count; i++)
        for (size_t at = 0; state->sessions[i].state == HF_SESSION_OPEN && at < state->sessions[i].parent_count; at++)
            if ((backup = find(planning, &state->sessions[i].parents[at])) != NULL)
                backup->in_session = true;
}

static void
place(struct planning *planning, const struct hf_vault_state *state)
{
    for (size_t i = 0; i < planning->count; i++) {
        struct hf_retention_backup *backup = &planning->backups[i];
        const struct hf_vault_backup *known = hf_vault_state_backup(state, &backup->backup);
        struct hf_stream_place found;
        if (known == NULL)
            continue;
        hf_stream_place_find(state, known, &found);
        backup->position = found.position;
        backup->needs_log = found.needs;
    }
}

static struct hf_retention_backup *
find(struct planning *planning, const struct hf_id *id)
{
    for (size_t i = 0; i < planning->count; i++)
        if (hf_id_equal(&planning->backups[i].backup, id))
            return &planning->backups[i];
    return NULL;
}

/* The report, and what would keep the plan from being carried out. */
static bool
add_plan(struct hf_daemon *daemon, const char *name, bool replaced, json_t *plans, struct hf_error *err)
{
    _cleanup_(planning_done) struct planning planning = {0};
    struct hf_error why;
    if (!plan_source(daemon, name, replaced, &planning, err))
        return false;
    const bool refused = planning.summary.removed + planning.stretch_plan.removed > 0 &&
                         !check_clock(daemon, planning.newest_log_at, false, &why);
    if (!hf_json_set(planning.report, "refused", refused ? json_string(why.message) : json_null(), err))
        return false;
    return json_array_append(plans, planning.report) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the plans");
}

static bool
check_clock(struct hf_daemon *daemon, int64_t newest_log_at, bool is_right, struct hf_error *err)
{
    struct hf_clock clock, earlier;
    bool found;
    if (!hf_clock_read(&clock, err))
        return false;
    if (is_right)
        return keep_reading(daemon, &clock, err);
    return read_earlier(daemon, &earlier, &found, err) &&
           hf_clock_check(&clock, found ? &earlier : NULL, newest_log_at, err);
}

static bool
read_earlier(struct hf_daemon *daemon, struct hf_clock *ret, bool *ret_found, struct hf_error *err)
{
    _cleanup_(hf_freep) char *text = NULL;
    _cleanup_(hf_json_freep) json_t *object = NULL;
    if (!hf_catalog_fact_get(hf_daemon_catalog(daemon), HF_FACT_CLOCK, &text, err))
        return false;
    *ret_found = text != NULL;
    return text == NULL || (hf_json_parse(text, strlen(text), "the earlier reading of the clock", &object, err) &&
                            hf_clock_from_json(object, ret, err));
}

static bool
keep_reading(struct hf_daemon *daemon, const struct hf_clock *clock, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *object = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(FACT_MOST);
    return hf_clock_to_json(clock, &object, err) && hf_json_canonical(object, &text, err) &&
           hf_catalog_fact_put(hf_daemon_catalog(daemon), HF_FACT_CLOCK, hf_buf_text(&text), err);
}

/* The plan is the one that was looked at, and not more goes than somebody meant. */
static bool
check_plan(const struct planning *planning, const json_t *arguments, struct hf_error *err)
{
    const char *name = planning->source->name;
    const char *meant = json_string_value(json_object_get(arguments, "plan"));
    const char *now = json_string_value(json_object_get(planning->report, "plan"));
    const json_t *removing = json_object_get(arguments, "removing");
    const struct hf_retention_summary *summary = &planning->summary;
    if (meant != NULL && strcmp(meant, now) != 0) {
        hf_fail(err, HF_ERR_CONFLICT, "the plan for source \"%s\" is not \"%.40s\" any more, it is \"%s\"", name, meant,
                now);
        return hf_fail_hint(err,
                            "Backups, their states, holds or settings have changed.  Look again: "
                            "\"holdfast retention plan %s\".",
                            name);
    }
    if (removing != NULL && json_integer_value(removing) != (json_int_t)summary->removed)
        return hf_fail(err, HF_ERR_CONFLICT, "the plan for source \"%s\" removes %zu backups and not %" PRId64, name,
                       summary->removed, (int64_t)json_integer_value(removing));
    if (removing == NULL && hf_retention_is_unusual(&planning->limits, summary)) {
        hf_fail(err, HF_ERR_CONFLICT,
                "%zu of %zu backups of source \"%s\" would go, %zu of its %zu proven ones: more than is usual",
                summary->removed, summary->backups, name, summary->proven_removed, summary->proven);
        return hf_fail_hint(err,
                            "Look at it with \"holdfast retention plan %s\"; if it is meant, say so: "
                            "\"holdfast retention apply %s --removing %zu\".",
                            name, name, summary->removed);
    }
    return true;
}

static bool
describe_removals(const struct planning *planning, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *prunes = json_array(), *removed = json_array();
    const struct hf_retention_summary *summary = &planning->summary;
    for (enum hf_retention_reason reason = REMOVALS_FIRST; reason < HF_RETENTION_REASONS; reason++) {
        _cleanup_(hf_json_freep) json_t *ids = json_array();
        const char *word = hf_retention_reason_name(reason);
        for (size_t i = 0; i < planning->count; i++) {
            if ((planning->decisions[i].reasons & (UINT32_C(1) << reason)) == 0)
                continue;
            const struct hf_id *id = &planning->backups[i].backup;
            if (json_array_append_new(ids, hf_json_id_text(id)) != 0 ||
                json_array_append_new(removed,
                                      json_pack("{s:o, s:s}", "backup", hf_json_id_text(id), "reason", word)) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
        }
        if (json_array_size(ids) > 0 &&
            json_array_append_new(prunes, json_pack("{s:s, s:O}", "reason", word, "backups", ids)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
    }
    if (!describe_stretches(planning, prunes, err))
        return false;
    *ret = json_pack("{s:s, s:o, s:O, s:I, s:O, s:O, s:I, s:I, s:I}", "source", planning->source->name, "vault",
                     hf_json_id_text(&planning->vault), "plan", json_object_get(planning->report, "plan"), "head",
                     (json_int_t)planning->head, "prune", prunes, "removed", removed, "stay",
                     (json_int_t)(summary->backups - summary->removed), "stretches_removed",
                     (json_int_t)planning->stretch_plan.removed, "stretches_removed_bytes",
                     (json_int_t)planning->stretch_plan.removed_bytes);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
}

/* Behind the backups: log without a backup before it is of no use, a backup without log is. */
static bool
describe_stretches(const struct planning *planning, json_t *prunes, struct hf_error *err)
{
    for (enum hf_stretch_reason reason = HF_STRETCH_BEFORE_BACKUPS; reason < HF_STRETCH_REASONS; reason++) {
        for (size_t at = 0; at < planning->stretch_count;) {
            _cleanup_(hf_json_freep) json_t *ids = json_array();
            for (; at < planning->stretch_count && json_array_size(ids) < STRETCHES_AT_ONCE; at++)
                if (planning->stretch_reasons[at] == reason &&
                    json_array_append_new(ids, hf_json_id_text(&planning->stretches[at].stretch)) != 0)
                    return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
            if (json_array_size(ids) > 0 &&
                json_array_append_new(
                    prunes, json_pack("{s:s, s:O}", "reason", hf_stretch_reason_name(reason), "stretches", ids)) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a plan");
        }
    }
    return true;
}

static bool
write_prune(struct hf_daemon *daemon, const json_t *request, const struct hf_id *vault, int64_t head,
            const json_t *prune, struct hf_error *err)
{
    const struct hf_record record = {.vault = *vault,
                                     .kind = HF_LOG_PRUNE,
                                     .time = hf_daemon_now(daemon),
                                     .public_part = prune,
                                     .after = (uint64_t)head};
    const char *source = json_string_value(json_object_get(request, "source"));
    const char *member = json_object_get(prune, "stretches") != NULL ? "stretches" : "backups";
    if (!hf_records_append(daemon->records, &record, err))
        return hf_fail_within(err, "could not remove %s of source \"%s\" (%s)", member, source,
                              json_string_value(json_object_get(prune, "reason")));
    hf_log_info("%zu %s of source \"%s\" are removed: %s", json_array_size(json_object_get(prune, member)), member,
                source, json_string_value(json_object_get(prune, "reason")));
    return true;
}
