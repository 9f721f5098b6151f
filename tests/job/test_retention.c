/*
 * The daemon's side of retention, holds, locks and alarms, on a log whose entries a test writes: no daemon runs.
 */
#include "tests/support/test.h"

#include "base/time.h"
#include "catalog/local.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "tests/job/bench.h"

#define DAY          INT64_C(86400000)
#define BACKUPS_MOST 16

/* An appliance with one vault, and the backups in it, oldest first. */
struct bench {
    struct job_bench files;
    struct hf_settings *settings;
    struct hf_daemon daemon;
    struct hf_id vault;
    size_t count;
    struct hf_id backups[BACKUPS_MOST];
};

static struct hf_source_settings *
clinic(struct bench *bench)
{
    return bench->settings->sources[0];
}

static void
begin(struct bench *bench)
{
    struct hf_error err;
    struct hf_vault *vault;
    bool made;
    *bench = (struct bench){.count = 0};
    job_bench_make(&bench->files, NULL);
    bench->settings = job_bench_settings(&bench->files);
    clinic(bench)->retention.last = 1;
    clinic(bench)->retention.failed_grace_ms = clinic(bench)->retention.unproven_grace_ms = 0;
    clinic(bench)->retention.most_percent = 100;
    bench->daemon = (struct hf_daemon){.settings = bench->settings, .asker = "uid 0"};
    hf_assert_ok(hf_records_open(bench->settings, 1000, &bench->daemon.records, &err), &err);
    hf_assert_ok(hf_sources_follow_file(&bench->daemon, &err), &err);
    hf_assert_ok(hf_records_vault_of(bench->daemon.records, "postgresql", "7", "clinic", hf_time_now_ms() - 300 * DAY,
                                     &made, &vault, &err),
                 &err);
    bench->vault = hf_vault_id(vault);
}

static void
end(struct bench *bench)
{
    hf_records_freep(&bench->daemon.records);
    hf_settings_freep(&bench->settings);
    job_bench_done(&bench->files);
}

/* Takes both parts. */
static void
write_entry(struct bench *bench, enum hf_log_kind kind, int64_t time, json_t *public_part, json_t *sealed_part)
{
    struct hf_error err;
    const struct hf_record record = {
        .vault = bench->vault, .kind = kind, .time = time, .public_part = public_part, .sealed_part = sealed_part};
    assert_non_null(public_part);
    hf_assert_ok(hf_records_append(bench->daemon.records, &record, &err), &err);
    json_decref(public_part);
    json_decref(sealed_part);
}

/* A session that builds on a backup, or on none. */
static struct hf_id
open_session(struct bench *bench, const struct hf_id *parent, int64_t time)
{
    const struct hf_id session = hf_id_new();
    json_t *parents = json_array();
    if (parent != NULL)
        json_array_append_new(parents, hf_json_id_text(parent));
    write_entry(bench, HF_LOG_INTENT, time,
                json_pack("{s:o, s:s, s:o, s:n}", "session", hf_json_id_text(&session), "operation", "backup",
                          "parents", parents, "builds_on"),
                NULL);
    return session;
}

static void
take_of(struct bench *bench, const char *source, int64_t days_ago)
{
    const int64_t time = hf_time_now_ms() - days_ago * DAY;
    const struct hf_id session = open_session(bench, NULL, time), backup = hf_id_new(), pack = hf_id_new();
    write_entry(bench, HF_LOG_COMMIT, time,
                json_pack("{s:o, s:o, s:n, s:{s:o, s:i, s:i}, s:[], s:[]}", "session", hf_json_id_text(&session),
                          "backup", hf_json_id_text(&backup), "parent", "root", "pack", hf_json_id_text(&pack), "slab",
                          0, "index", 0, "packs", "dropped"),
                json_pack("{s:s, s:{}}", "source", source, "facts"));
    bench->backups[bench->count++] = backup;
}

static void
take(struct bench *bench, int64_t days_ago)
{
    take_of(bench, "clinic", days_ago);
}

static void
judge_at(struct bench *bench, size_t index, const char *result, const char *state, int64_t time)
{
    const struct hf_id attempt = hf_id_new();
    const bool damaged = strcmp(result, "damaged") == 0;
    write_entry(bench, HF_LOG_VERDICT, time,
                json_pack("{s:o, s:o, s:s, s:s}", "backup", hf_json_id_text(&bench->backups[index]), "attempt",
                          hf_json_id_text(&attempt), "result", result, "state", state),
                damaged ? json_pack("{s:[], s:s}", "packs", "reason", "a test") : json_object());
}

static void
judge(struct bench *bench, size_t index, const char *result, const char *state)
{
    judge_at(bench, index, result, state, hf_time_now_ms());
}

/* Three proven backups, of which the policy keeps the newest. */
static void
three_proven(struct bench *bench)
{
    begin(bench);
    for (int64_t i = 3; i > 0; i--)
        take(bench, i);
    for (size_t i = 0; i < 3; i++)
        judge(bench, i, "passed", "proven");
}

static bool
add_letter(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    char *letters = context;
    (void)err;
    const char letter = row->pruned_at < 0 ? 'k' : row->prune_reason[0];
    memmove(letters + 1, letters, strlen(letters) + 1); // they come newest first
    letters[0] = letter;
    return true;
}

/* One letter a backup of the source: k is kept, else the first one of why it went. */
static void
assert_backups(struct bench *bench, const char *wanted)
{
    char letters[BACKUPS_MOST + 1] = "";
    struct hf_error err;
    hf_assert_ok(hf_catalog_backups(hf_daemon_catalog(&bench->daemon), "clinic", true, add_letter, letters, &err),
                 &err);
    assert_string_equal(letters, wanted);
}

static struct hf_job
job_of(const char *kind, json_t *arguments)
{
    struct hf_job job = {.arguments = arguments, .requested_by = "uid 0", .subject = "clinic"};
    for (size_t i = 0; i < hf_job_kind_count; i++)
        if (strcmp(hf_job_kinds[i].name, kind) == 0)
            job.kind = &hf_job_kinds[i];
    assert_non_null(job.kind);
    return job;
}

static bool
prepare(struct bench *bench, json_t *arguments, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *asked = arguments;
    json_object_set_new(asked, "source", json_string("clinic"));
    struct hf_job job = job_of("retention apply", asked);
    return hf_retention_apply_prepare(&bench->daemon, &job, ret, err);
}

static bool
conclude(struct bench *bench, json_t **result, struct hf_error *err)
{
    struct hf_job job = job_of("retention apply", NULL);
    return hf_retention_apply_conclude(&bench->daemon, &job, result, NULL, err);
}

static void
must_refuse(struct bench *bench, json_t *arguments, const char *message)
{
    struct hf_error err;
    json_t *request = NULL;
    assert_false(prepare(bench, arguments, &request, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, message));
    assert_null(request);
}

static void
must_apply(struct bench *bench)
{
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    hf_assert_ok(prepare(bench, json_object(), &request, &err), &err);
    hf_assert_ok(conclude(bench, &request, &err), &err);
    assert_null(json_object_get(request, "prune"));
}

HF_TEST(what_was_planned_is_written_with_its_reasons)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    begin(&bench);
    for (int64_t i = 9; i > 4; i--)
        take(&bench, i);
    judge(&bench, 0, "passed", "proven");
    judge_at(&bench, 1, "failed", "failed", hf_time_now_ms() - DAY);
    judge_at(&bench, 2, "damaged", "damaged", hf_time_now_ms() - DAY);
    take(&bench, 0); // after all that was found
    judge(&bench, 4, "passed", "proven");
    judge(&bench, 5, "passed", "proven");
    hf_assert_ok(prepare(&bench, json_object(), &request, &err), &err);
    assert_backups(&bench, "kkkkkk");
    hf_assert_ok(conclude(&bench, &request, &err), &err);
    assert_backups(&bench, "bfdubk"); // beyond the rules, failed, damaged, unproven, beyond the rules
    assert_int_equal(json_array_size(json_object_get(request, "removed")), 5);
    assert_int_equal(json_integer_value(json_object_get(request, "stay")), 1);
    must_apply(&bench);
    assert_backups(&bench, "bfdubk");
}

HF_TEST(a_verdict_that_comes_between_the_plan_and_its_entries_stops_it)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    three_proven(&bench);
    hf_assert_ok(prepare(&bench, json_object(), &request, &err), &err);
    judge(&bench, 2, "damaged", "damaged");
    assert_false(conclude(&bench, &request, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message,
                           "could not remove backups of source \"clinic\" (beyond_rules): the log has gone "
                           "on from entry"));
    assert_backups(&bench, "kkk");
    must_apply(&bench); // the second one is the newest proven one now
    assert_backups(&bench, "bkk");
}

HF_TEST(a_session_and_a_reader_keep_what_they_name_until_they_are_gone)
{
    _cleanup_(end) struct bench bench;
    const struct hf_id reader = hf_id_new();
    three_proven(&bench);
    const struct hf_id session = open_session(&bench, &bench.backups[0], hf_time_now_ms());
    write_entry(
        &bench, HF_LOG_PIN, hf_time_now_ms(),
        json_pack("{s:o, s:o}", "reader", hf_json_id_text(&reader), "backup", hf_json_id_text(&bench.backups[1])),
        NULL);
    must_apply(&bench);
    assert_backups(&bench, "kkk");
    write_entry(&bench, HF_LOG_ABORT, hf_time_now_ms(),
                json_pack("{s:o, s:s}", "session", hf_json_id_text(&session), "reason", "test"), NULL);
    must_apply(&bench);
    assert_backups(&bench, "bkk");
    write_entry(
        &bench, HF_LOG_UNPIN, hf_time_now_ms(),
        json_pack("{s:o, s:o}", "reader", hf_json_id_text(&reader), "backup", hf_json_id_text(&bench.backups[1])),
        NULL);
    must_apply(&bench);
    assert_backups(&bench, "bbk");
}

static json_t *
ask(struct bench *bench, hf_command_function *command, json_t *arguments)
{
    _cleanup_(hf_json_freep) json_t *asked = arguments;
    struct hf_error err;
    enum hf_exit code = HF_EXIT_DONE;
    json_t *result = NULL;
    hf_assert_ok(command(&bench->daemon, asked, &result, &code, &err), &err);
    assert_int_equal(code, HF_EXIT_DONE);
    return result;
}

static json_t *
about(const struct hf_id *backup, const char *until)
{
    json_t *arguments = json_pack("{s:o, s:s}", "backup", hf_json_id_text(backup), "reason", "a case");
    if (until != NULL)
        json_object_set_new(arguments, "until", json_string(until));
    return arguments;
}

HF_TEST(of_several_holds_of_one_backup_one_is_named_to_end_and_each_keeps_it)
{
    _cleanup_(end) struct bench bench;
    char soon[HF_TIME_TEXT_BYTES];
    three_proven(&bench);
    hf_time_format(hf_time_now_ms() + 60000, soon);
    json_decref(ask(&bench, hf_holds_answer_add, about(&bench.backups[0], NULL)));
    json_decref(ask(&bench, hf_holds_answer_add, about(&bench.backups[0], soon)));
    _cleanup_(hf_json_freep) json_t *list = ask(&bench, hf_holds_answer_list, json_object());
    assert_int_equal(json_array_size(json_object_get(list, "holds")), 2);
    _cleanup_(hf_json_freep) json_t *none = ask(&bench, hf_holds_answer_list, json_pack("{s:s}", "source", "lab"));
    assert_int_equal(json_array_size(json_object_get(none, "holds")), 0);
    must_apply(&bench);
    assert_backups(&bench, "kbk");

    enum hf_exit code;
    struct hf_error err;
    json_t *result = NULL;
    _cleanup_(hf_json_freep) json_t *which = about(&bench.backups[0], NULL);
    assert_false(hf_holds_answer_release(&bench.daemon, which, &result, &code, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "has 2 holds"));
    json_object_set_new(which, "hold", json_integer(1)); // a LINEAGE is no hold
    assert_false(hf_holds_answer_release(&bench.daemon, which, &result, &code, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "has no hold 1"));
    json_object_set_new(which, "all", json_true());
    assert_false(hf_holds_answer_release(&bench.daemon, which, &result, &code, &err));
    assert_string_equal(err.message, "either one hold is named, or all are meant");

    json_t *named = json_object_get(json_array_get(json_object_get(list, "holds"), 1), "number");
    json_t *one = about(&bench.backups[0], NULL);
    json_object_set(one, "hold", named);
    _cleanup_(hf_json_freep) json_t *released = ask(&bench, hf_holds_answer_release, one);
    assert_int_equal(json_integer_value(json_object_get(released, "left")), 1);
    must_apply(&bench);
    assert_backups(&bench, "kbk");
    json_decref(ask(&bench, hf_holds_answer_release, about(&bench.backups[0], NULL))); // the only one: no name needed
    must_apply(&bench);
    assert_backups(&bench, "bbk");
}

HF_TEST(all_holds_of_a_backup_end_together_when_all_are_meant)
{
    _cleanup_(end) struct bench bench;
    three_proven(&bench);
    json_decref(ask(&bench, hf_holds_answer_add, about(&bench.backups[0], NULL)));
    json_decref(ask(&bench, hf_holds_answer_add, about(&bench.backups[0], NULL)));
    json_t *all = about(&bench.backups[0], NULL);
    json_object_set_new(all, "all", json_true());
    _cleanup_(hf_json_freep) json_t *released = ask(&bench, hf_holds_answer_release, all);
    assert_int_equal(json_integer_value(json_object_get(released, "released")), 2);
    must_apply(&bench);
    assert_backups(&bench, "bbk");
}

HF_TEST(a_hold_that_has_ended_takes_nothing_from_one_that_lasts)
{
    _cleanup_(end) struct bench bench;
    const int64_t now = hf_time_now_ms();
    three_proven(&bench);
    json_decref(ask(&bench, hf_holds_answer_add, about(&bench.backups[0], NULL)));
    for (size_t i = 0; i < 2; i++)
        write_entry(
            &bench, HF_LOG_HOLD, now - DAY,
            json_pack("{s:o, s:I}", "backup", hf_json_id_text(&bench.backups[i]), "until", (json_int_t)(now - DAY / 2)),
            json_pack("{s:s, s:s}", "reason", "yesterday", "person", "ada"));
    take(&bench, 0);
    _cleanup_(hf_json_freep) json_t *list = ask(&bench, hf_holds_answer_list, json_object());
    assert_int_equal(json_array_size(json_object_get(list, "holds")), 1);
    must_apply(&bench);
    assert_backups(&bench, "kbkk");
}

HF_TEST(a_hold_without_a_reason_or_a_backup_is_refused)
{
    static char novel[502];
    static const struct {
        const char *reason, *until, *message;
    } cases[] = {
        {"", NULL, "the reason is empty"},
        {"  ", NULL, "the reason is empty"},
        {"a\nb", NULL, "the reason contains a control character"},
        {"a\x7f", NULL, "the reason contains a control character"},
        {novel, NULL, "the reason is longer than 500 bytes"},
        {"a case", "2021-01-31T10:00:00Z",
         "2021-01-31T10:00:00.000Z is past: a hold ends in the future, or when it is released"},
    };
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    enum hf_exit code;
    json_t *result = NULL;
    memset(novel, 'x', sizeof novel - 1);
    three_proven(&bench);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        _cleanup_(hf_json_freep) json_t *asked = about(&bench.backups[0], cases[i].until);
        json_object_set_new(asked, "reason", json_string(cases[i].reason));
        assert_false(hf_holds_answer_add(&bench.daemon, asked, &result, &code, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, cases[i].message);
    }
    must_apply(&bench);
    _cleanup_(hf_json_freep) json_t *gone = about(&bench.backups[0], NULL);
    assert_false(hf_holds_answer_add(&bench.daemon, gone, &result, &code, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "was removed at"));
    const struct hf_id unknown = hf_id_new();
    _cleanup_(hf_json_freep) json_t *never = about(&unknown, NULL);
    assert_false(hf_holds_answer_release(&bench.daemon, never, &result, &code, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

HF_TEST(a_lock_is_written_when_its_packs_are_locked_and_crumbs_are_not)
{
    static const struct {
        const char *change;
        size_t listed;
    } cases[] = {{"too_little", 0}, {"new", 1}, {"extended", 1}};
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    three_proven(&bench);
    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        const int64_t until = hf_time_now_ms() + (int64_t)(i + 1) * DAY;
        _cleanup_(hf_json_freep) json_t *result =
            json_pack("{s:o, s:s, s:I}", "backup", hf_json_id_text(&bench.backups[0]), "change", cases[i].change,
                      "until_ms", (json_int_t)until);
        struct hf_job job = job_of("lock", NULL);
        hf_assert_ok(hf_lock_conclude(&bench.daemon, &job, &result, NULL, &err), &err);
        _cleanup_(hf_json_freep) json_t *list = ask(&bench, hf_holds_answer_list, json_object());
        const json_t *holds = json_object_get(list, "holds");
        assert_int_equal(json_array_size(holds), cases[i].listed);
        if (cases[i].listed > 0) {
            char wanted[HF_TIME_TEXT_BYTES];
            assert_string_equal(json_string_value(json_object_get(json_array_get(holds, 0), "until")),
                                hf_time_format(until, wanted));
        }
    }
    must_apply(&bench);
    assert_backups(&bench, "kbk");
}

HF_TEST(only_the_plan_that_was_meant_is_carried_out_and_only_as_much_as_was_meant)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    three_proven(&bench);
    clinic(&bench)->retention.most_percent = 50;
    hf_assert_ok(hf_sources_follow_file(&bench.daemon, &err), &err);
    must_refuse(&bench, json_pack("{s:s}", "plan", "00000000000000000000000000000000"),
                "the plan for source \"clinic\" is not \"00000000000000000000000000000000\" any more, it is \"");
    must_refuse(&bench, json_pack("{s:i}", "removing", 1),
                "the plan for source \"clinic\" removes 2 backups and not 1");
    must_refuse(&bench, json_object(),
                "2 of 3 backups of source \"clinic\" would go, 2 of its 3 proven ones: more than is usual");
    hf_assert_ok(prepare(&bench, json_pack("{s:i}", "removing", 2), &request, &err), &err);
    assert_backups(&bench, "kkk");
}

HF_TEST(a_log_from_the_future_removes_nothing_until_a_person_says_that_the_clock_is_right)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    three_proven(&bench);
    take(&bench, -2); // the clock was two days ahead
    must_refuse(&bench, json_object(), "nothing of source \"clinic\" was removed: the clock says");
    hf_assert_ok(prepare(&bench, json_pack("{s:b}", "clock_is_right", 1), &request, &err), &err);
    hf_assert_ok(conclude(&bench, &request, &err), &err);
    assert_backups(&bench, "bbkk");
}

HF_TEST(a_clock_that_was_set_is_noticed_until_a_person_says_that_it_is_right)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    _cleanup_(hf_freep) char *text = NULL;
    _cleanup_(hf_buf_done) struct hf_buf changed = HF_BUF_INIT(HF_KIB);
    struct hf_catalog *catalog;
    three_proven(&bench);
    catalog = hf_daemon_catalog(&bench.daemon);
    hf_retention_note_clock(&bench.daemon);
    hf_assert_ok(hf_catalog_fact_get(catalog, HF_FACT_CLOCK, &text, &err), &err);
    _cleanup_(hf_json_freep) json_t *fact = NULL;
    hf_assert_ok(hf_json_parse(text, strlen(text), "the fact", &fact, &err), &err);
    json_object_set_new(fact, "now", json_integer(json_integer_value(json_object_get(fact, "now")) - 2 * DAY - 60000));
    hf_assert_ok(hf_json_canonical(fact, &changed, &err), &err);
    hf_assert_ok(hf_catalog_fact_put(catalog, HF_FACT_CLOCK, hf_buf_text(&changed), &err), &err);

    hf_retention_note_clock(&bench.daemon); // a daemon that starts again forgets nothing
    must_refuse(&bench, json_object(), "the clock was set forward by 2 d 0 h since");
    hf_assert_ok(prepare(&bench, json_pack("{s:b}", "clock_is_right", 1), &request, &err), &err);
    hf_json_freep(&request);
    hf_assert_ok(prepare(&bench, json_object(), &request, &err), &err);
}

HF_TEST(each_source_of_a_vault_is_planned_by_itself)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    for (int64_t i = 6; i > 0; i--)
        take_of(&bench, i % 2 == 0 ? "clinic" : "lab", i);
    for (size_t i = 0; i < bench.count; i++)
        judge(&bench, i, "passed", "proven");
    must_apply(&bench);
    assert_backups(&bench, "bbk");
    _cleanup_(hf_json_freep) json_t *answer = ask(&bench, hf_retention_answer_plan, json_object());
    const json_t *plans = json_object_get(answer, "plans");
    assert_int_equal(json_array_size(plans), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(plans, 1), "source")), "lab");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(plans, 1), "stay")), 3); // it has no rules
}

HF_TEST(a_source_without_a_backup_has_an_empty_plan)
{
    _cleanup_(end) struct bench bench;
    begin(&bench);
    must_apply(&bench);
    _cleanup_(hf_json_freep) json_t *answer =
        ask(&bench, hf_retention_answer_plan, json_pack("{s:s}", "source", "clinic"));
    const json_t *plan = json_array_get(json_object_get(answer, "plans"), 0);
    assert_int_equal(json_integer_value(json_object_get(plan, "stay")), 0);
    assert_int_equal(json_array_size(json_object_get(plan, "backups")), 0);
}

HF_TEST(persons_have_the_name_that_the_system_gives_them)
{
    char name[HF_PERSON_BYTES];
    assert_string_equal(hf_person_name("uid 0", name), "root");
    assert_string_equal(hf_person_name("uid 3999999999", name), "uid 3999999999");
    assert_string_equal(hf_person_name("schedule", name), "schedule");
}

static void
put_fact(struct bench *bench, const char *name, json_t *value)
{
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *fact = value;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(4 * HF_KIB);
    hf_assert_ok(hf_json_canonical(fact, &text, &err), &err);
    hf_assert_ok(hf_catalog_fact_put(hf_daemon_catalog(&bench->daemon), name, hf_buf_text(&text), &err), &err);
}

/* How many alarms there are, and what the first is about. */
static size_t
count_alarms(struct bench *bench, char what[static 64])
{
    struct hf_error err;
    enum hf_exit code = HF_EXIT_DONE;
    _cleanup_(hf_json_freep) json_t *status = json_pack("{s:[], s:[]}", "sources", "damages");
    hf_assert_ok(hf_alarms_add(&bench->daemon, status, &code, &err), &err);
    const json_t *alarms = json_object_get(status, "alarms");
    assert_int_equal(code, json_array_size(alarms) > 0 ? HF_EXIT_BAD_NEWS : HF_EXIT_DONE);
    const char *first = json_string_value(json_object_get(json_array_get(alarms, 0), "what"));
    snprintf(what, 64, "%s", first == NULL ? "" : first);
    return json_array_size(alarms);
}

HF_TEST(a_damaged_catalog_is_told_for_fourteen_days_or_until_it_is_acknowledged)
{
    _cleanup_(end) struct bench bench;
    char what[64], when[HF_TIME_TEXT_BYTES];
    begin(&bench);
    assert_int_equal(count_alarms(&bench, what), 0);
    put_fact(&bench, HF_FACT_CATALOG_DAMAGED,
             json_pack("{s:s, s:s}", "at", hf_time_format(hf_time_now_ms() - 14 * DAY + 60000, when), "name", "/x"));
    assert_int_equal(count_alarms(&bench, what), 1);
    assert_string_equal(what, "catalog damaged");
    json_decref(ask(&bench, hf_alarms_answer_acknowledge, json_object()));
    assert_int_equal(count_alarms(&bench, what), 0);
    put_fact(&bench, HF_FACT_CATALOG_DAMAGED,
             json_pack("{s:s, s:s}", "at", hf_time_format(hf_time_now_ms() - 14 * DAY - 60000, when), "name", "/x"));
    assert_int_equal(count_alarms(&bench, what), 0);
    put_fact(
        &bench, HF_FACT_CATALOG_DIFFERENCES,
        json_pack("{s:s, s:i, s:s}", "at", hf_time_format(hf_time_now_ms(), when), "differences", 2, "first", "x"));
    assert_int_equal(count_alarms(&bench, what), 1);
    assert_string_equal(what, "catalog differs");
}

HF_TEST(what_mends_a_damage_depends_on_what_came_after_it)
{
    _cleanup_(end) struct bench bench;
    struct hf_error err;
    enum hf_exit code;
    static const char *const wanted[] = {"holdfast backup clinic", "holdfast verify clinic",
                                         "holdfast retention apply clinic --replaced"};
    begin(&bench);
    take(&bench, 3);
    judge(&bench, 0, "damaged", "damaged");
    for (size_t i = 0; i < HF_LENGTH(wanted); i++) {
        if (i == 1)
            take(&bench, 0);
        if (i == 2)
            judge(&bench, 1, "passed", "proven");
        _cleanup_(hf_json_freep) json_t *status = json_pack("{s:[], s:[{s:o, s:s}]}", "sources", "damages", "backup",
                                                            hf_json_id_text(&bench.backups[0]), "source", "clinic");
        hf_assert_ok(hf_alarms_add(&bench.daemon, status, &code, &err), &err);
        assert_string_equal(
            json_string_value(json_object_get(json_array_get(json_object_get(status, "damages"), 0), "remedy")),
            wanted[i]);
    }
}
