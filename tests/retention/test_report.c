#include "tests/support/test.h"

#include "server/retention/report.h"

#define DAY INT64_C(86400000)
#define NOW INT64_C(1795442400000) // 2026-11-23T14:00:00Z

/* Three proven backups, of which a rule keeps two. */
struct bench {
    const char *source;
    struct hf_retention_policy policy;
    struct hf_retention_limits limits;
    struct hf_retention_backup backups[3];
    struct hf_retention_decision decisions[3];
    struct hf_retention_summary summary;
    int64_t now;
};

static struct bench
three(void)
{
    struct bench bench = {
        .source = "clinic", .policy.last = 2, .limits = {.most_percent = 30, .most_at_once = 20}, .now = NOW};
    for (size_t i = 0; i < HF_LENGTH(bench.backups); i++) {
        bench.backups[i] = (struct hf_retention_backup){.sequence = i + 1,
                                                        .time = NOW - (int64_t)(2 - i) * DAY,
                                                        .state = HF_BACKUP_PROVEN,
                                                        .held_until = HF_RETENTION_NOT_SET,
                                                        .locked_until = HF_RETENTION_NOT_SET};
        bench.backups[i].backup.bytes[15] = (uint8_t)(i + 1);
    }
    return bench;
}

static json_t *
report(struct bench *bench)
{
    const struct hf_retention_planned planned = {.source = bench->source,
                                                 .vault.bytes[0] = 0xab,
                                                 .policy = &bench->policy,
                                                 .limits = &bench->limits,
                                                 .count = HF_LENGTH(bench->backups),
                                                 .backups = bench->backups,
                                                 .decisions = bench->decisions,
                                                 .summary = &bench->summary};
    json_t *document = NULL;
    struct hf_error err;
    hf_assert_ok(hf_retention_plan(&bench->policy, bench->backups, HF_LENGTH(bench->backups), bench->now, NOW,
                                   bench->decisions, &bench->summary, &err),
                 &err);
    hf_assert_ok(hf_retention_report(&planned, &document, &err), &err);
    return document;
}

static void
name_of(struct bench *bench, char text[static HF_RETENTION_PLAN_BYTES])
{
    _cleanup_(hf_json_freep) json_t *document = report(bench);
    snprintf(text, HF_RETENTION_PLAN_BYTES, "%s", json_string_value(json_object_get(document, "plan")));
}

HF_TEST(a_report_says_all_of_a_plan)
{
    struct bench bench = three();
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *document = report(&bench);
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    char wanted[HF_RETENTION_PLAN_BYTES];
    snprintf(wanted, sizeof wanted, "%s", json_string_value(json_object_get(document, "plan")));
    json_object_set_new(document, "plan", json_string("name"));
    hf_assert_ok(hf_json_canonical(document, &text, &err), &err);
    assert_string_equal(
        hf_buf_text(&text),
        "{\"backups\":[{\"backup\":\"00000000000000000000000000000003\",\"keep\":true,"
        "\"reasons\":[\"newest_proven\",\"last\"],"
        "\"sentence\":\"Stays: it is the newest proven backup; it is number 1 of the last 2.\","
        "\"state\":\"proven\",\"taken_at\":\"2026-11-23T14:00:00.000Z\"},"
        "{\"backup\":\"00000000000000000000000000000002\",\"keep\":true,\"reasons\":[\"last\"],"
        "\"sentence\":\"Stays: it is number 2 of the last 2.\",\"state\":\"proven\","
        "\"taken_at\":\"2026-11-22T14:00:00.000Z\"},"
        "{\"backup\":\"00000000000000000000000000000001\",\"keep\":false,\"reasons\":[\"beyond_rules\"],"
        "\"sentence\":\"Goes: it is proven, and no rule keeps it.\",\"state\":\"proven\","
        "\"taken_at\":\"2026-11-21T14:00:00.000Z\"}],"
        "\"go\":1,\"moment\":\"2026-11-23T14:00:00.000Z\",\"newest_proven\":\"00000000000000000000000000000003\","
        "\"plan\":\"name\",\"proven\":3,\"proven_go\":1,"
        "\"rules\":{\"daily\":0,\"failed_grace_ms\":0,\"hourly\":0,\"last\":2,\"minimum\":0,\"monthly\":0,"
        "\"replaced\":false,\"stream_within_ms\":0,\"unproven_grace_ms\":0,\"weekly\":0,\"within_ms\":0,\"yearly\":0},"
        "\"source\":\"clinic\",\"stay\":2,\"stream\":null,\"unusual\":false,\"vault\":"
        "\"ab000000000000000000000000000000\"}");
    assert_int_equal(strlen(wanted), 32);
}

HF_TEST(the_name_of_a_plan_stays_as_long_as_nothing_else_would_be_done)
{
    struct bench bench = three();
    char first[HF_RETENTION_PLAN_BYTES], again[HF_RETENTION_PLAN_BYTES];
    name_of(&bench, first);
    bench.now += 3600000; // time goes by
    name_of(&bench, again);
    assert_string_equal(again, first);
    const struct hf_retention_backup kept = bench.backups[0]; // the order is nobody's business
    bench.backups[0] = bench.backups[2];
    bench.backups[2] = kept;
    name_of(&bench, again);
    assert_string_equal(again, first);
}

HF_TEST(the_name_of_a_plan_changes_with_its_source_a_state_a_rule_a_hold_or_a_backup)
{
    char first[HF_RETENTION_PLAN_BYTES], other[HF_RETENTION_PLAN_BYTES];
    struct bench bench = three();
    name_of(&bench, first);

    bench = three();
    bench.backups[1].state = HF_BACKUP_DAMAGED;
    name_of(&bench, other);
    assert_string_not_equal(other, first);

    bench = three(); // the state alone: the decision and its reasons are the same
    bench.backups[0].held_until = HF_RETENTION_WITHOUT_END;
    bench.backups[0].state = HF_BACKUP_FAILED;
    name_of(&bench, first);
    bench.backups[0].state = HF_BACKUP_DAMAGED;
    name_of(&bench, other);
    assert_string_not_equal(other, first);

    bench = three();
    name_of(&bench, first);
    bench.source = "lab";
    name_of(&bench, other);
    assert_string_not_equal(other, first);

    bench = three();
    bench.policy.minimum = 1; // changes no decision today
    name_of(&bench, other);
    assert_string_not_equal(other, first);

    bench = three();
    bench.backups[2].held_until = HF_RETENTION_WITHOUT_END; // stays anyway, but for one more reason
    name_of(&bench, other);
    assert_string_not_equal(other, first);

    bench = three();
    bench.backups[0].backup.bytes[3] ^= 1;
    name_of(&bench, other);
    assert_string_not_equal(other, first);
}

HF_TEST(a_report_without_a_proven_backup_says_none)
{
    struct bench bench = three();
    for (size_t i = 0; i < HF_LENGTH(bench.backups); i++)
        bench.backups[i].state = HF_BACKUP_UNPROVEN;
    _cleanup_(hf_json_freep) json_t *document = report(&bench);
    assert_true(json_is_null(json_object_get(document, "newest_proven")));
    assert_int_equal(json_integer_value(json_object_get(document, "go")), 0);
}
