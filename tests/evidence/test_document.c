#include "tests/evidence/contents.h"

#include "server/evidence/document.h"

/* Sets the member at a path like "checks.0.verdict" to the value; NULL takes it away. */
static void
put(json_t *content, const char *path, json_t *value)
{
    char text[128], *rest = text;
    json_t *at = content;

    snprintf(text, sizeof text, "%s", path);
    for (char *dot = strchr(rest, '.'); dot != NULL; rest = dot + 1, dot = strchr(rest, '.')) {
        *dot = 0;
        at = json_is_array(at) ? json_array_get(at, (size_t)atoi(rest)) : json_object_get(at, rest);
        assert_non_null(at);
    }
    if (value == NULL)
        assert_int_equal(json_object_del(at, rest), 0);
    else if (json_is_array(at))
        assert_int_equal(json_array_set_new(at, (size_t)atoi(rest), value), 0);
    else
        assert_int_equal(json_object_set_new(at, rest, value), 0);
}

static json_t *
json(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(value);
    return value;
}

static void
assert_content_refused(json_t *content, const char *message)
{
    struct hf_error err;

    assert_false(hf_evidence_check_content(content, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, message);
    json_decref(content);
}

/* The content with one member changed. */
static json_t *
changed(const char *path, const char *value)
{
    json_t *content = test_content(TEST_VERIFY_CONTENT);
    put(content, path, value != NULL ? json(value) : NULL);
    return content;
}

static struct hf_buf
sealed(json_t *content, uint64_t index, struct hf_public_key *ret_key)
{
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    struct hf_id id;
    struct hf_error err;

    hf_assert_ok(hf_evidence_seal(content, signer, index, &bytes, &id, &err), &err);
    if (ret_key != NULL)
        *ret_key = *hf_signer_public_key(signer);
    hf_signer_close(signer);
    json_decref(content);
    return bytes;
}

static void
assert_bytes_refused(const void *bytes, size_t length, const char *part)
{
    struct hf_evidence evidence = {0};
    struct hf_error err;

    assert_false(hf_evidence_parse(bytes, length, "document", &evidence, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    if (strstr(err.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

HF_TEST(full_contents_of_both_kinds_are_taken)
{
    json_t *verify = test_content(TEST_VERIFY_CONTENT), *act = test_content(TEST_ACT_CONTENT);
    struct hf_error err;

    hf_assert_ok(hf_evidence_check_content(verify, &err), &err);
    hf_assert_ok(hf_evidence_check_content(act, &err), &err);
    json_decref(verify);
    json_decref(act);
}

/* Walks all objects of a value, and takes each member away in turn. */
static void
take_each_member_away(json_t *content, json_t *at, size_t *count)
{
    char names[32][64]; // first, since members that are put back come last
    size_t name_count = 0, i;
    struct hf_error err;
    const char *name;
    json_t *value;

    if (json_is_array(at)) {
        json_array_foreach(at, i, value) take_each_member_away(content, value, count);
        return;
    }
    json_object_foreach(at, name, value) snprintf(names[name_count++], sizeof names[0], "%s", name);
    for (i = 0; i < name_count; i++) {
        value = json_incref(json_object_get(at, names[i]));
        take_each_member_away(content, value, count);
        json_object_del(at, names[i]);
        if (hf_evidence_check_content(content, &err))
            fail_msg("\"%s\" is not missed", names[i]);
        json_object_set_new(at, names[i], value);
        (*count)++;
    }
}

HF_TEST(every_member_is_required)
{
    json_t *verify = test_content(TEST_VERIFY_CONTENT), *act = test_content(TEST_ACT_CONTENT);
    size_t count = 0;
    struct hf_error err;

    take_each_member_away(verify, verify, &count);
    take_each_member_away(act, act, &count);
    assert_true(count > 150);
    hf_assert_ok(hf_evidence_check_content(verify, &err), &err);
    json_decref(verify);
    json_decref(act);
    assert_content_refused(changed("backup.cipher", NULL), "evidence: \"backup.cipher\" is missing");
    assert_content_refused(changed("checks", NULL), "evidence: \"checks\" is missing");
}

static const struct {
    const char *name, *group;
} later_groups[] = {
    {"storage", "{\"type\":\"full\",\"parent_id\":null,\"files\":1200,\"bad_pages\":0,\"key_generation\":1,"
                "\"unknown\":{\"parent_id\":\"it was the first\"}}"},
    {"key", "{\"slot_id\":\"abababababababababababababababab\",\"slot_name\":\"hsm\",\"slot_kind\":\"command\","
            "\"chosen\":\"round_robin\",\"reachable\":2}"},
    {"host", "{\"name\":\"keeper\",\"system\":\"Linux 6.1\",\"machine\":\"x86_64\",\"processors\":2,"
             "\"memory_bytes\":8000000000}"},
    {"process", "{\"fingerprint\":\"7777777777777777777777777777777777777777777777777777777777777777\","
                "\"settings_sha256\":\"8888888888888888888888888888888888888888888888888888888888888888\","
                "\"software\":\"0.1.0\",\"engine\":\"15.14\",\"sandbox_engine\":\"15.14\",\"key_slots\":2,"
                "\"key_slots_sha256\":\"9999999999999999999999999999999999999999999999999999999999999999\","
                "\"unproven_since\":\"2026-11-20T00:00:00.000Z\",\"changed\":[\"settings\"],\"proven_since\":1}"},
    {"forecast", "{\"recovery_ms\":52000,\"attempts\":5,\"error_ppm\":80000,\"objective_ms\":3600000}"},
};

HF_TEST(groups_that_were_thought_of_later_may_be_missing_and_are_held_to_their_rules_when_there)
{
    json_t *all = test_content(TEST_VERIFY_CONTENT);
    size_t members = 0;
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(later_groups); i++) {
        json_t *content = changed(later_groups[i].name, later_groups[i].group);
        put(all, later_groups[i].name, json(later_groups[i].group));
        hf_assert_ok(hf_evidence_check_content(content, &err), &err);
        take_each_member_away(content, json_object_get(content, later_groups[i].name), &members);
        put(content, later_groups[i].name, json_null());
        assert_false(hf_evidence_check_content(content, &err)); // only what is unknown may be null, with its reason
        json_decref(content);
    }
    assert_true(members > 25);
    hf_assert_ok(hf_evidence_check_content(all, &err), &err);
    json_decref(all);
    assert_content_refused(changed("process", "{}"), "evidence: \"process.fingerprint\" is missing");
    json_t *act = test_content(TEST_ACT_CONTENT);
    put(act, "host", json(later_groups[2].group));
    assert_content_refused(act, "evidence: \"host\" is not a member of holdfast.evidence/v1 there");
}

/* Walks all objects of a value, and adds a member to each in turn. */
static void
add_a_member_everywhere(json_t *content, json_t *at, size_t *count)
{
    struct hf_error err;
    const char *name;
    json_t *value;
    size_t i;

    if (json_is_array(at)) {
        json_array_foreach(at, i, value) add_a_member_everywhere(content, value, count);
        return;
    }
    if (!json_is_object(at))
        return;
    json_object_set_new(at, "stowaway", json_string("x"));
    assert_false(hf_evidence_check_content(content, &err));
    assert_non_null(strstr(err.message, "stowaway"));
    json_object_del(at, "stowaway");
    (*count)++;
    json_object_foreach(at, name, value) add_a_member_everywhere(content, value, count);
}

HF_TEST(no_other_member_is_allowed_anywhere)
{
    json_t *verify = test_content(TEST_VERIFY_CONTENT), *act = test_content(TEST_ACT_CONTENT);
    size_t count = 0;

    add_a_member_everywhere(verify, verify, &count);
    add_a_member_everywhere(act, act, &count);
    assert_true(count > 30);
    json_decref(verify);
    json_decref(act);
    assert_content_refused(changed("note", "\"x\""),
                           "evidence: \"note\" is not a member of holdfast.evidence/v1 there");
    assert_content_refused(changed("seal", "{}"), "evidence: \"seal\" is not a member of holdfast.evidence/v1 there");
}

HF_TEST(types_ranges_and_words_are_held)
{
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"schema", "\"holdfast.evidence/v2\"",
         "evidence: \"schema\" is \"holdfast.evidence/v2\" and not one of: holdfast.evidence/v1"},
        {"head.kind", "\"audit\"", "evidence: \"head.kind\" is \"audit\" and not one of: verify, act, shred"},
        {"head.evidence_id", "\"0000000000000000000000000000000A\"",
         "evidence: \"head.evidence_id\" is not an id of 32 hex digits"},
        {"head.created_at", "\"2026-11-22T14:03:07Z\"",
         "evidence: \"head.created_at\" is not a time like \"2026-11-22T14:03:07.123Z\""},
        {"head.created_at", "1763820187123", "evidence: \"head.created_at\" is not a string"},
        {"policy.policy_sha256", "\"11\"", "evidence: \"policy.policy_sha256\" is not a hash of 64 hex digits"},
        {"policy.rpo_target_s", "-1", "evidence: \"policy.rpo_target_s\" is -1 and not within 0 to 9007199254740991"},
        {"policy.rpo_target_s", "9007199254740992",
         "evidence: \"policy.rpo_target_s\" is 9007199254740992 and not within 0 to 9007199254740991"},
        {"policy.rpo_target_s", "1.5", "evidence: \"policy.rpo_target_s\" is not an integer"},
        {"subject.engine", "\"oracle\"",
         "evidence: \"subject.engine\" is \"oracle\" and not one of: postgresql, mariadb, mysql"},
        {"subject.source_name", "\"\"", "evidence: \"subject.source_name\" is not a printable text of 1 to 1024 bytes"},
        {"subject.source_name", "\"a\\u0007b\"",
         "evidence: \"subject.source_name\" is not a printable text of 1 to 1024 bytes"},
        {"subject.source_name", "\"a\\u202eb\"",
         "evidence: \"subject.source_name\" is not a printable text of 1 to 1024 bytes"},
        {"subject.source_name", "\"a\\u0085b\"",
         "evidence: \"subject.source_name\" is not a printable text of 1 to 1024 bytes"},
        {"checks.0.id", "\"Page Checksums\"",
         "evidence: \"checks[0].id\" is not a word of 1 to 64 characters a-z 0-9 _ . -"},
        {"checks.0.coverage_ppm", "1000001",
         "evidence: \"checks[0].coverage_ppm\" is 1000001 and not within 0 to 1000000"},
        {"checks.0.required", "1", "evidence: \"checks[0].required\" is not true or false"},
        {"checks.1.verdict", "\"warn\"",
         "evidence: \"checks[1].verdict\" is \"warn\" and not one of: passed, failed, not_determinable, not_run"},
        {"checks.1.findings.0.block", "\"7\"", "evidence: \"checks[1].findings[0].block\" is not an integer"},
        {"checks", "{}", "evidence: \"checks\" is not a list"},
        {"attempt.result", "\"ok\"",
         "evidence: \"attempt.result\" is \"ok\" and not one of: passed, failed, inconclusive"},
        {"backup.state_after", "\"good\"",
         "evidence: \"backup.state_after\" is \"good\" and not one of: unproven, proven, failed, damaged"},
        {"sandbox", "[]", "evidence: \"sandbox\" is not an object"},
        {"sandbox.isolation.1", "7", "evidence: \"sandbox.isolation[1]\" is not a string"},
    };

    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_content_refused(changed(cases[i].path, cases[i].value), cases[i].message);
}

HF_TEST(a_list_has_a_limit)
{
    json_t *content = test_content(TEST_VERIFY_CONTENT), *isolation = json_array();

    for (size_t i = 0; i <= HF_EVIDENCE_MOST_LIST; i++)
        json_array_append_new(isolation, json_string("user"));
    put(content, "sandbox.isolation", isolation);
    assert_content_refused(content, "evidence: \"sandbox.isolation\" has 513 entries, at most 512 are allowed");
}

HF_TEST(what_is_unknown_is_null_with_a_reason_and_nothing_else_has_one)
{
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"backup.cipher", "null", "evidence: \"backup.cipher\" is null and may not be unknown"},
        {"backup.timeline", "null", "evidence: \"backup.unknown\" is missing: it says why members are null"},
        {"backup.unknown", "{\"timeline\":\"x\"}",
         "evidence: \"backup.unknown\" is not a member of holdfast.evidence/v1 there"},
        {"people.unknown.ticket", NULL, "evidence: \"people.unknown\" leaves a null member without reason"},
        {"people.unknown.ticket", "\"\"",
         "evidence: \"people.unknown.ticket\" is not a printable text of 1 to 1024 bytes"},
        {"people.unknown.requested_by", "\"x\"",
         "evidence: \"people.unknown.requested_by\" explains a member that is not null"},
        {"people.unknown.nobody", "\"x\"", "evidence: \"people.unknown.nobody\" explains a member that is not null"},
        {"stream", "null", "evidence: \"unknown\" is missing: it says why members are null"},
    };
    json_t *content = test_content(TEST_VERIFY_CONTENT);
    struct hf_error err;

    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_content_refused(changed(cases[i].path, cases[i].value), cases[i].message);

    hf_assert_ok(hf_evidence_set_unknown(content, "stream", "no stream is configured", &err), &err);
    hf_assert_ok(hf_evidence_set_unknown(content, "policy", "none was set", &err), &err);
    put(content, "rto_rpo.rto_target_met", json_true());
    assert_false(hf_evidence_check_content(content, &err)); // against which target?
    json_t *group = json_object_get(content, "rto_rpo");
    hf_assert_ok(hf_evidence_set_unknown(group, "rto_target_met", "no policy", &err), &err);
    hf_assert_ok(hf_evidence_set_unknown(group, "rpo_target_met", "no policy", &err), &err);
    hf_assert_ok(hf_evidence_check_content(content, &err), &err);
    json_decref(content);
}

HF_TEST(a_document_that_contradicts_itself_is_refused)
{
    static const struct {
        const char *path, *value, *message;
    } cases[] = {
        {"checks.1.id", "\"page_checksums\"",
         "evidence: \"checks[1].id\" is \"page_checksums\" like that of an earlier check"},
        {"checks.0.required", "false", "evidence: \"attempt.result\" is passed without any required check"},
        {"checks.1.required", "true", "evidence: \"attempt.result\" is passed but 1 of 2 required checks are not"},
        {"checks.1.verdict", "\"failed\"", "evidence: \"attempt.result\" is passed but 1 checks are failed"},
        {"checks", "[]", "evidence: \"attempt.result\" is passed without any required check"},
        {"attempt.result", "\"failed\"", "evidence: \"attempt.result\" is failed but no check is"},
        {"attempt.result", "\"inconclusive\"", "evidence: \"attempt.result\" is inconclusive without reason"},
        {"backup.state_after", "\"unproven\"",
         "evidence: \"backup.state_after\" is unproven after unproven, which cannot follow from an attempt that is "
         "passed"},
        {"controls.0.because", "[]", "evidence: \"controls[0].because\" is empty although the control is passed"},
        {"controls.0.because", "[\"nothing\"]",
         "evidence: \"controls[0].because\" names check \"nothing\", which there is not"},
        {"controls.0.because", "[\"page_checksums\",\"indexes\"]",
         "evidence: \"controls[0].because\" names check \"indexes\", which is not passed as the control is"},
        {"rto_rpo.rto_target_met", "false",
         "evidence: \"rto_rpo.rto_target_met\" is false, which does not follow from 41000 ms against 3600 s"},
        {"rto_rpo.data_loss_window_ms", "300001",
         "evidence: \"rto_rpo.rpo_target_met\" is true, which does not follow from 300001 ms against 300 s"},
    };

    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        assert_content_refused(changed(cases[i].path, cases[i].value), cases[i].message);

    json_t *content = changed("checks.1.reason", "null");
    put(content, "checks.1.unknown", json("{\"reason\":\"forgotten\"}"));
    assert_content_refused(content, "evidence: \"checks[1].reason\" is null although the check is not_determinable");
    content = changed("sandbox", "null");
    put(content, "unknown", json("{\"sandbox\":\"not used\"}"));
    assert_content_refused(content, "evidence: \"attempt.result\" is passed without a restore in a sandbox");
}

HF_TEST(a_target_is_met_to_the_millisecond)
{
    json_t *content = changed("rto_rpo.time_to_recover_ms", "3600000");
    struct hf_error err;

    hf_assert_ok(hf_evidence_check_content(content, &err), &err);
    json_decref(content);
    assert_content_refused(
        changed("rto_rpo.time_to_recover_ms", "3600001"),
        "evidence: \"rto_rpo.rto_target_met\" is true, which does not follow from 3600001 ms against "
        "3600 s");
}

/* The content of an attempt that ended so, before and after which the backup was in these states. */
static json_t *
attempt(const char *result, const char *before, const char *after)
{
    json_t *content = test_content(TEST_VERIFY_CONTENT);

    if (strcmp(result, "passed") != 0) {
        put(content, "attempt.reason", json_string("as a test"));
        put(content, "attempt.unknown", NULL);
        put(content, "controls", json("[]"));
    }
    if (strcmp(result, "failed") == 0) {
        put(content, "checks.0.verdict", json_string("failed"));
        put(content, "checks.0.reason", json_string("12 pages fail"));
        put(content, "checks.0.unknown", json("{\"detail_sha256\":\"nothing more\"}"));
    }
    put(content, "attempt.result", json_string(result));
    put(content, "backup.state_before", json_string(before));
    put(content, "backup.state_after", json_string(after));
    return content;
}

HF_TEST(only_the_transitions_of_the_design_can_be_stated)
{
    static const char *const results[] = {"passed", "failed", "inconclusive"};
    static const char *const states[] = {"unproven", "proven", "failed", "damaged"};
    struct hf_error err;

    for (size_t r = 0; r < HF_LENGTH(results); r++)
        for (size_t b = 0; b < HF_LENGTH(states); b++)
            for (size_t a = 0; a < HF_LENGTH(states); a++) {
                json_t *content = attempt(results[r], states[b], states[a]);
                bool expected = r == 0 ? a == 1 : r == 1 ? a >= 2 : a == b;
                if (hf_evidence_check_content(content, &err) != expected)
                    fail_msg("%s: %s to %s: %s", results[r], states[b], states[a], err.message);
                json_decref(content);
            }
}

HF_TEST(a_sealed_document_is_read_back_and_holds_under_its_key)
{
    struct hf_public_key key;
    struct hf_buf bytes = sealed(test_content(TEST_VERIFY_CONTENT), 41, &key);
    json_t *content = test_content(TEST_VERIFY_CONTENT);
    const struct hf_trust trust = {.keys = &key, .count = 1}, nobody = {0};
    struct hf_evidence evidence = {0};
    char text[HF_ID_TEXT_BYTES];
    struct hf_error err;

    hf_assert_ok(hf_evidence_parse(bytes.data, bytes.length, "document", &evidence, &err), &err);
    assert_true(json_equal(evidence.content, content));
    assert_string_equal(hf_id_format(&evidence.evidence_id, text), "00000000000000000000000000000001");
    assert_int_equal(evidence.index, 41);
    assert_string_equal(evidence.origin, TEST_KEY_NAME);
    hf_assert_ok(hf_evidence_check_seal(&evidence, "document", &trust, &err), &err);
    assert_false(hf_evidence_check_seal(&evidence, "document", &nobody, &err));
    assert_string_equal(err.message,
                        "document is sealed by key \"" TEST_KEY_NAME "\" (" TEST_KEY_ID "), which we were not given");
    hf_evidence_done(&evidence);
    json_decref(content);
    hf_buf_done(&bytes);
}

HF_TEST(a_seal_holds_for_no_other_signature_place_or_content_hash)
{
    struct hf_public_key key;
    struct hf_buf bytes = sealed(test_content(TEST_VERIFY_CONTENT), 41, &key);
    const struct hf_trust trust = {.keys = &key, .count = 1};
    struct hf_evidence evidence = {0};
    struct hf_error err;

    hf_assert_ok(hf_evidence_parse(bytes.data, bytes.length, "document", &evidence, &err), &err);
    uint8_t *const parts[] = {evidence.signature, evidence.content_sha256, (uint8_t *)&evidence.index};
    for (size_t i = 0; i < HF_LENGTH(parts); i++) {
        *parts[i] ^= 1;
        assert_false(hf_evidence_check_seal(&evidence, "document", &trust, &err));
        assert_string_equal(err.message, "document is not what key \"" TEST_KEY_NAME "\" signed");
        *parts[i] ^= 1;
    }
    hf_assert_ok(hf_evidence_check_seal(&evidence, "document", &trust, &err), &err);
    hf_evidence_done(&evidence);
    hf_buf_done(&bytes);
}

HF_TEST(the_same_content_gives_the_same_bytes_in_whatever_order_it_was_built)
{
    json_t *content = test_content(TEST_VERIFY_CONTENT), *turned = json_object();
    struct hf_buf a = sealed(json_incref(content), 0, NULL), b;
    const char *names[32];
    size_t count = 0;
    const char *name;
    json_t *value;

    json_object_foreach(content, name, value) names[count++] = name;
    while (count > 0) {
        count--;
        json_object_set(turned, names[count], json_object_get(content, names[count]));
    }
    b = sealed(turned, 0, NULL);
    assert_int_equal(a.length, b.length);
    assert_memory_equal(a.data, b.data, a.length);
    json_decref(content);
    hf_buf_done(&a);
    hf_buf_done(&b);
}

HF_TEST(a_content_that_breaks_a_rule_is_not_sealed)
{
    struct hf_signer *signer = test_signer(hf_test_folder());
    struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    json_t *content = changed("attempt.result", "\"inconclusive\"");
    struct hf_id id;
    struct hf_error err;

    assert_false(hf_evidence_seal(content, signer, 0, &bytes, &id, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_int_equal(bytes.length, 0);
    json_decref(content);
    hf_signer_close(signer);
}

HF_TEST(other_ways_of_writing_the_same_document_are_refused)
{
    struct hf_buf bytes = sealed(test_content(TEST_VERIFY_CONTENT), 0, NULL), other = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    json_t *document;

    hf_assert_ok(hf_buf_add(&other, bytes.data, bytes.length, &err), &err);
    hf_assert_ok(hf_buf_add_text(&other, "\n", &err), &err);
    assert_bytes_refused(other.data, other.length, "not in canonical form");

    hf_assert_ok(hf_json_parse(bytes.data, bytes.length, "document", &document, &err), &err);
    char *text = json_dumps(document, JSON_INDENT(1));
    assert_bytes_refused(text, strlen(text), "not in canonical form");
    free(text);
    text = json_dumps(document, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENSURE_ASCII);
    assert_bytes_refused(text, strlen(text), "not in canonical form");
    free(text);

    json_object_set_new(json_object_get(document, "seal"), "note", json_string("x"));
    text = json_dumps(document, JSON_SORT_KEYS | JSON_COMPACT);
    assert_bytes_refused(text, strlen(text), "not in canonical form");
    free(text);
    json_object_del(json_object_get(document, "seal"), "note");
    json_object_set_new(json_object_get(json_object_get(document, "seal"), "log"), "size", json_integer(7));
    text = json_dumps(document, JSON_SORT_KEYS | JSON_COMPACT);
    assert_bytes_refused(text, strlen(text), "not in canonical form");
    free(text);
    json_decref(document);
    hf_buf_done(&bytes);
    hf_buf_done(&other);
}

HF_TEST(a_document_of_another_shape_is_refused_by_name)
{
    assert_bytes_refused("", 0, "not valid JSON");
    assert_bytes_refused("[]", 2, "document is not a JSON object");
    assert_bytes_refused("{}", 2, "\"seal\" is missing");
    assert_bytes_refused("{\"a\":1,\"a\":1}", 13, "not valid JSON");
    assert_bytes_refused("{\"seal\":{\"log\":{}}}", 19, "\"origin\" is missing");
}

HF_TEST(an_altered_content_does_not_fit_its_sha256)
{
    struct hf_buf bytes = sealed(test_content(TEST_VERIFY_CONTENT), 0, NULL);
    char *at = strstr((char *)bytes.data, "aes-256-gcm");

    memcpy(at, "aes-128-gcm", 11);
    assert_bytes_refused(bytes.data, bytes.length, "does not fit its SHA-256");
    hf_buf_done(&bytes);
}

HF_TEST(a_document_that_is_too_long_is_refused_by_the_limit)
{
    struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES + 1);
    struct hf_error err;

    hf_assert_ok(hf_buf_add_zeros(&bytes, HF_EVIDENCE_MOST_BYTES + 1, &err), &err);
    assert_bytes_refused(bytes.data, bytes.length, "at most 4194304");
    hf_buf_done(&bytes);
}

HF_TEST(the_signed_bytes_are_those_the_header_names)
{
    struct hf_public_key key;
    struct hf_buf bytes = sealed(test_content(TEST_ACT_CONTENT), 5, &key), statement = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    json_t *document, *seal;
    uint8_t signature[HF_SIGNATURE_BYTES];

    hf_assert_ok(hf_json_parse(bytes.data, bytes.length, "document", &document, &err), &err);
    seal = json_object_get(document, "seal");
    hf_assert_ok(hf_json_bytes(seal, "signature", "seal", signature, sizeof signature, &err), &err);
    json_object_del(seal, "signature");
    hf_assert_ok(hf_buf_add(&statement, "holdfast.evidence/v1\0", 21, &err), &err);
    hf_assert_ok(hf_json_canonical(document, &statement, &err), &err);
    assert_true(hf_public_key_check(&key, statement.data, statement.length, signature));
    json_decref(document);
    hf_buf_done(&bytes);
    hf_buf_done(&statement);
}

HF_TEST(names_from_a_hostile_database_become_printable_texts)
{
    static const struct {
        const char *name;
        size_t length;
        const char *text;
    } cases[] = {
        {"patient", 7, "patient"},
        {"Müller", 7, "Müller"},
        {"a\nb", 3, "a\\u{a}b"},
        {"a\0b", 3,
         "a\xef\xbf\xbd"
         "b"},
        {"a\xff", 2, "a\xef\xbf\xbd"},
        {"x\xe2\x80\xaey", 5, "x\\u{202e}y"},
        {"\\u{202e}", 8, "\\u{5c}u{202e}"},
        {"", 0, "\\u{}"},
    };
    char longest[4000];

    for (size_t i = 0; i < HF_LENGTH(cases); i++) {
        json_t *name = hf_evidence_name(cases[i].name, cases[i].length);
        assert_string_equal(json_string_value(name), cases[i].text);
        json_decref(name);
    }
    memset(longest, '\n', sizeof longest);
    json_t *content = test_content(TEST_VERIFY_CONTENT);
    struct hf_error err;
    put(content, "subject.source_name", hf_evidence_name(longest, sizeof longest));
    hf_assert_ok(hf_evidence_check_content(content, &err), &err);
    const char *text = json_string_value(json_object_get(json_object_get(content, "subject"), "source_name"));
    assert_string_equal(text + strlen(text) - 8, "\\u{a}...");
    json_decref(content);
}

HF_TEST(times_are_written_as_they_are_read)
{
    json_t *time = hf_evidence_time(1795356187123);
    json_t *content = test_content(TEST_VERIFY_CONTENT);
    struct hf_error err;

    assert_string_equal(json_string_value(time), "2026-11-22T14:03:07.123Z");
    put(content, "head.created_at", time);
    hf_assert_ok(hf_evidence_check_content(content, &err), &err);
    json_decref(content);
}

#define ACCEPTANCE                                                                                                     \
    "{\"source_name\":\"clinic\",\"attempt\":\"00000000000000000000000000000001\",\"checks\":[\"references\"],"        \
    "\"until\":\"2027-01-31T23:59:59.000Z\"}"

HF_TEST(an_exception_is_accepted_with_a_reason_and_a_check_or_not_at_all)
{
    struct hf_error err;
    json_t *content = test_content(TEST_ACT_CONTENT), *acceptance = test_content(ACCEPTANCE);
    json_t *act = json_object_get(content, "act"), *people = json_object_get(content, "people");

    json_object_set(content, "acceptance", acceptance);
    assert_false(hf_evidence_check_content(content, &err)); // a review accepts nothing
    assert_non_null(strstr(err.message, "acceptance"));
    json_object_set_new(act, "act", json_string("accept_exception"));
    hf_assert_ok(hf_evidence_check_content(content, &err), &err);

    json_object_set_new(acceptance, "checks", json_array());
    assert_false(hf_evidence_check_content(content, &err));
    assert_non_null(strstr(err.message, "names no check"));
    json_object_set_new(acceptance, "checks", json_pack("[s]", "references"));

    hf_assert_ok(hf_evidence_set_unknown(people, "reason", "none was given", &err), &err);
    assert_false(hf_evidence_check_content(content, &err));
    assert_non_null(strstr(err.message, "people.reason"));
    json_object_set_new(people, "reason", json_string("known, and mended in January"));
    json_object_del(people, "unknown");
    hf_assert_ok(hf_evidence_check_content(content, &err), &err);

    json_object_del(content, "acceptance");
    assert_false(hf_evidence_check_content(content, &err));
    assert_non_null(strstr(err.message, "is missing although the act is accept_exception"));
    json_decref(acceptance);
    json_decref(content);
}
