#include "tests/support/test.h"

#include "tests/verify/planted.h"

/* What the owner says of the data: true, false, or not to be told; and nothing of a row in the report. */

static struct planted planted;
static struct hf_id backup;
static bool begun;

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE patients (id int PRIMARY KEY, name text, seen timestamptz)");
    hf_test_sql(
        conn, "INSERT INTO patients SELECT i, 'Doe-' || i, now() - interval '2 hours' FROM generate_series(1, 200) i");
}

static void
begin(void)
{
    if (!begun) {
        planted_begin(&planted, &(struct hf_test_cluster_options){0}, fill);
        backup = planted_backup(&planted);
    }
    begun = true;
}

static void
expect(const struct hf_verify_outcome *outcome, const char *id, enum hf_verdict verdict, const char *naming)
{
    const struct hf_verify_check *check = hf_report_find((struct hf_verify_report *)(uintptr_t)&outcome->report, id);
    if (check->verdict == verdict && strstr(check->reason, naming) != NULL && strstr(check->reason, "Doe") == NULL)
        return;
    planted_print(outcome);
    fail_msg("%s is not %s with \"%s\"", id, hf_verdict_name(verdict), naming);
}

static void
verify(const char *text, const struct hf_source_target *live, struct hf_assertions *assertions,
       struct hf_verify_outcome *ret)
{
    struct hf_error err;
    struct hf_verify_options options = planted_options(&planted);
    hf_assert_ok(hf_assertions_parse(text, assertions, &err), &err);
    options.assertions = assertions;
    options.live = live;
    planted_verify(&planted, &backup, &options, ret);
}

HF_TEST(assertions_that_hold_are_checks_that_pass)
{
    struct hf_verify_outcome outcome;
    struct hf_assertions assertions;
    begin();
    PGconn *conn = planted_start(&planted);
    hf_test_sql(conn, "INSERT INTO patients VALUES (201, 'Doe-201', now())");
    const struct hf_source_target live = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(planted.cluster, NULL), .slot_tag = "test"};
    verify("all is 200: SELECT count(*) FROM patients\n"
           "some in postgres at least 200: SELECT count(*) FROM patients\n"
           "few at most 200: SELECT count(*) FROM patients\n"
           "named is 1: SELECT bool_and(name LIKE 'Doe-%') FROM patients\n"
           "seen newer than 3h: SELECT max(seen) FROM patients\n"
           "near as live within 1%: SELECT count(*) FROM patients",
           &live, &assertions, &outcome);
    for (size_t i = 0; i < assertions.count; i++)
        expect(&outcome, assertions.items[i].check, HF_VERDICT_PASSED, "");
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
    planted_stop(&planted, conn);
}

HF_TEST(assertions_that_do_not_hold_fail_and_tell_numbers_alone)
{
    struct hf_verify_outcome outcome;
    struct hf_assertions assertions;
    begin();
    PGconn *conn = planted_start(&planted);
    const struct hf_source_target live = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(planted.cluster, NULL), .slot_tag = "test"};
    verify("all is 199: SELECT count(*) FROM patients\n"
           "some at least 201: SELECT count(*) FROM patients\n"
           "few at most 199: SELECT count(*) FROM patients\n"
           "seen newer than 1h: SELECT max(seen) FROM patients\n"
           "none is 0: SELECT sum(id) FROM patients WHERE id < 0\n"
           "exact as live: SELECT count(*) FROM patients",
           &live, &assertions, &outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_FAILED);
    expect(&outcome, "assert_all", HF_VERDICT_FAILED, "the copy answers 200, which is not 199");
    expect(&outcome, "assert_some", HF_VERDICT_FAILED, "200, less than 201");
    expect(&outcome, "assert_few", HF_VERDICT_FAILED, "200, more than 199");
    expect(&outcome, "assert_seen", HF_VERDICT_FAILED, "older than the newest commit");
    expect(&outcome, "assert_none", HF_VERDICT_FAILED, "no row, or NULL");
    expect(&outcome, "assert_exact", HF_VERDICT_FAILED, "the copy answers 200, the source 201");
    hf_verify_outcome_done(&outcome);
    planted_stop(&planted, conn);
}

HF_TEST(what_cannot_be_asked_leaves_the_attempt_open_and_no_row_leaves_the_copy)
{
    struct hf_verify_outcome outcome;
    struct hf_assertions assertions;
    begin();
    verify("typo is 1: SELECT count(*) FROM patient\n"
           "name is 1: SELECT name FROM patients WHERE id = 7\n"
           "cast is 1: SELECT name::int FROM patients WHERE id = 7\n"
           "rows is 1: SELECT id FROM patients\n"
           "write is 1: INSERT INTO patients VALUES (999, 'Doe', now()) RETURNING 1\n"
           "two is 1: SELECT 1; SELECT 1\n"
           "nowhere in nowhere is 1: SELECT 1\n"
           "live as live: SELECT 1",
           NULL, &assertions, &outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_INCONCLUSIVE);
    expect(&outcome, "assert_typo", HF_VERDICT_NOT_DETERMINABLE, "SQLSTATE 42P01");
    expect(&outcome, "assert_name", HF_VERDICT_NOT_DETERMINABLE, "no number or boolean");
    expect(&outcome, "assert_cast", HF_VERDICT_NOT_DETERMINABLE, "SQLSTATE 22P02");
    expect(&outcome, "assert_rows", HF_VERDICT_NOT_DETERMINABLE, "more than one short value");
    expect(&outcome, "assert_write", HF_VERDICT_NOT_DETERMINABLE, "SQLSTATE 25006");
    expect(&outcome, "assert_two", HF_VERDICT_NOT_DETERMINABLE, "SQLSTATE 42601");
    expect(&outcome, "assert_nowhere", HF_VERDICT_NOT_DETERMINABLE, "no connection to its database");
    expect(&outcome, "assert_live", HF_VERDICT_NOT_DETERMINABLE, "could not be asked");
    hf_verify_outcome_done(&outcome);
}
