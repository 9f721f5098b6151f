#include "tests/support/test.h"

#include "server/source/facts.h"

static json_t *make(struct hf_page_faults *faults);

HF_TEST(what_every_engine_tells_survives_being_stored)
{
    struct hf_page_faults faults;
    struct hf_shared_facts read;
    struct hf_error err;
    hf_page_faults_init(&faults);
    hf_page_faults_add(&faults, "clinic/patient.ibd", 7, 0, HF_PAGE_BAD);
    atomic_fetch_add(&faults.unjudged, 3);
    _cleanup_(hf_json_freep) json_t *json = make(&faults);
    hf_page_faults_done(&faults);

    hf_assert_ok(hf_facts_read_shared(json, &read, &err), &err);
    assert_string_equal(read.engine, "mariadb");
    assert_string_equal(read.identity, "fXdYp7ZWAMMBm0PUMZFJoAcM0o0=");
    assert_string_equal(read.server_version, "10.11.19-MariaDB");
    assert_int_equal(read.server_version_num, 101119);
    assert_string_equal(read.start_position, "47219");
    assert_string_equal(read.stop_position, "48000");
    assert_true(read.from_standby);
    assert_int_equal(read.started_at, 5);
    assert_int_equal(read.finished_at, 9);
    assert_int_equal(read.files, 12);
    assert_int_equal(read.logical_bytes, 4096);
    assert_int_equal(read.bad_pages, 1);
    assert_int_equal(read.pending_pages, 0);
    assert_int_equal(read.unjudged_pages, 3);
}

HF_TEST(an_engine_adds_members_and_replaces_none)
{
    struct hf_page_faults faults;
    hf_page_faults_init(&faults);
    _cleanup_(hf_json_freep) json_t *json = make(&faults);
    hf_page_faults_done(&faults);
    assert_string_equal(json_string_value(json_object_get(json, "gtid")), "0-1-100");
    assert_string_equal(json_string_value(json_object_get(json, "engine")), "mariadb");
}

HF_TEST(facts_from_before_there_were_two_engines_are_read)
{
    struct hf_page_faults faults;
    struct hf_shared_facts read;
    struct hf_error err;
    hf_page_faults_init(&faults);
    _cleanup_(hf_json_freep) json_t *json = make(&faults);
    hf_page_faults_done(&faults);
    json_object_del(json, "identity");
    json_object_del(json, "unjudged_pages");
    hf_assert_ok(hf_facts_read_shared(json, &read, &err), &err);
    assert_string_equal(read.identity, "");

    json_object_set_new(json, "server_version_num", json_integer(INT64_C(1) << 40));
    assert_false(hf_facts_read_shared(json, &read, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
}

static json_t *
make(struct hf_page_faults *faults)
{
    struct hf_error err;
    json_t *json;
    struct hf_backup_facts facts = {.identity = "fXdYp7ZWAMMBm0PUMZFJoAcM0o0=",
                                    .server_version = 101119,
                                    .server_version_text = "10.11.19-MariaDB",
                                    .start_position = "47219",
                                    .stop_position = "48000",
                                    .from_standby = true,
                                    .started_at = 5,
                                    .stopped_at = 9,
                                    .files = 12,
                                    .own = json_pack("{s:s, s:s}", "gtid", "0-1-100", "engine", "other")};
    const struct hf_facts_extra extra = {.engine = "mariadb", .logical_bytes = 4096};
    hf_assert_ok(hf_facts_to_json(&facts, faults, &extra, &json, &err), &err);
    hf_backup_facts_done(&facts);
    return json;
}
