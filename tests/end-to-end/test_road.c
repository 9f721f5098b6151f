#include "tests/support/test.h"

#include <unistd.h>

#include "base/file.h"
#include "server/care/check.h"
#include "server/job/session_sink.h"
#include "server/verify/verify.h"
#include "tests/support/cluster.h"
#include "tests/support/vault.h"

/* The road without daemon and command line: a real server, a session, a sandbox. */

static void
fill(PGconn *conn)
{
    hf_test_sql(conn, "CREATE TABLE patients (id int PRIMARY KEY, name text NOT NULL, born date, note text)");
    hf_test_sql(conn,
                "INSERT INTO patients SELECT i, md5(i::text), date '1940-01-01' + i % 25000, repeat(md5(i::text), 4) "
                "FROM generate_series(1, 20000) i");
    hf_test_sql(conn, "CREATE INDEX patients_name ON patients (name)");
    hf_test_sql(conn, "VACUUM ANALYZE patients");
    hf_test_sql(conn, "CHECKPOINT");
}

static struct hf_id
back_up(struct hf_test_cluster *cluster, struct test_vault *vault)
{
    struct hf_error err;
    struct hf_page_faults faults;
    struct hf_session *session;
    struct hf_session_sink *sink;
    struct hf_backup_facts facts;
    struct hf_session_outcome outcome;
    struct hf_source_progress progress = {0};
    hf_page_faults_init(&faults);
    hf_assert_ok(hf_session_sink_new(&hf_source_postgres, &faults, &sink, &err), &err);
    struct hf_session_options options = {
        .source = "clinic", .operation = "backup", .signing = &vault->signing, .cache_folder = vault->cache};
    hf_session_sink_options(sink, &options);
    hf_assert_ok(hf_session_begin(vault->vault, &options, &session, &err), &err);
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(cluster, NULL), .slot_tag = "test"};
    const struct hf_backup_request request = {.target = &target,
                                              .sink = hf_session_sink_of(sink, session),
                                              .faults = &faults,
                                              .progress = &progress,
                                              .label = "holdfast",
                                              .fast_checkpoint = true};
    hf_assert_ok(hf_source_postgres.backup(&request, &facts, &err), &err);
    _cleanup_(hf_json_freep) json_t *json = NULL;
    hf_assert_ok(hf_facts_to_json(&facts, &faults,
                                  &(struct hf_facts_extra){.engine = "postgresql", .superuser = "postgres"}, &json,
                                  &err),
                 &err);
    hf_assert_ok(hf_session_commit(&session, json, &outcome, &err), &err);
    hf_backup_facts_done(&facts);
    hf_session_sink_freep(&sink);
    hf_page_faults_done(&faults);
    return outcome.backup;
}

static void
verify(struct test_vault *vault, const struct hf_id *backup, struct hf_verify_outcome *outcome)
{
    struct hf_error err;
    char launcher[512];
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    if (access(launcher, X_OK) != 0)
        snprintf(launcher, sizeof launcher, "%s/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    const struct hf_verify_options options = {.scratch_folder = vault->cache,
                                              .scratch_memory_bytes = HF_GIB,
                                              .lowest = HF_SANDBOX_L2,
                                              .launcher = launcher,
                                              .host_uid = 1879100000,
                                              .host_gid = 1879100000,
                                              .jobs = 2};
    hf_assert_ok(hf_verify_run(vault->vault, backup, &options, outcome, &err), &err);
    for (size_t i = 0; i < outcome->report.count; i++)
        print_message("# %-22s %-16s %5llu ms %lld %s\n", outcome->report.checks[i].id,
                      hf_verdict_name(outcome->report.checks[i].verdict),
                      (unsigned long long)outcome->report.checks[i].duration_ms,
                      (long long)outcome->report.checks[i].examined, outcome->report.checks[i].reason);
    print_message("# %s: %s\n", hf_attempt_result_name(outcome->result), outcome->reason);
}

HF_TEST(a_real_backup_is_restored_started_and_proven)
{
    struct hf_verify_outcome outcome;
    struct test_vault vault;
    struct hf_error err;
    struct hf_test_cluster *cluster =
        hf_test_cluster_start(&(struct hf_test_cluster_options){.checksums = true, .locale = "en_US.UTF-8"});
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    fill(conn);
    test_vault_make(&vault, hf_test_folder());
    const struct hf_id first = back_up(cluster, &vault);
    hf_test_sql(conn, "UPDATE patients SET note = note || 'x' WHERE id % 100 = 0");
    const struct hf_id second = back_up(cluster, &vault);
    verify(&vault, &first, &outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);
    hf_verify_outcome_done(&outcome);
    verify(&vault, &second, &outcome);
    assert_int_equal(outcome.result, HF_ATTEMPT_PASSED);

    const struct hf_verify_subject subject = {.attempt = hf_id_new(),
                                              .appliance = hf_id_new(),
                                              .source_id = hf_id_new(),
                                              .vault = hf_vault_id(vault.vault),
                                              .backup = second,
                                              .source_name = "clinic",
                                              .identity = "7300000000000000001",
                                              .version = "0.1.0",
                                              .requested_by = "test",
                                              .key_slot = "test",
                                              .state_before = "unproven",
                                              .state_after = "proven",
                                              .log_sequence = 5,
                                              .logical_bytes = 1,
                                              .stored_bytes = 1,
                                              .lowest = HF_SANDBOX_L2};
    _cleanup_(hf_json_freep) json_t *content = NULL;
    hf_assert_ok(hf_verify_evidence(&outcome, &subject, &content, &err), &err);
    hf_verify_outcome_done(&outcome);

    struct hf_check_report report;
    hf_assert_ok(hf_repository_check(vault.repository, &(struct hf_check_options){.level = 2}, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    PQfinish(conn);
    test_vault_done(&vault);
}
