#include "server/evidence/document.h"

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/repository/pack.h"
#include "server/verify/engine.h"

/*
 * Which controls a passed attempt speaks to, and through which checks.  Shipped as data: no code decides.  Of checks
 * that the engine does not make nothing is said.
 */
static const struct {
    const char *framework, *ref;
    const char *because[6];
} controls[] = {
    {"HIPAA", "164.308(a)(7)(ii)(A)", {"packs", "slabs", "manifest", "page_checksums"}},
    {"HIPAA", "164.308(a)(7)(ii)(B)", {"start", "replay", "promote", "tables_read"}},
    {"HIPAA", "164.308(a)(7)(ii)(D)", {"start", "tables_read", "indexes"}},
    {"HIPAA", "164.312(c)(1)", {"slabs", "page_checksums_after", "heap", "indexes"}},
    {"SOC 2", "A1.2", {"packs", "slabs"}},
    {"SOC 2", "A1.3", {"start", "replay", "tables_read", "indexes"}},
    {"ISO 27001", "A.8.13", {"slabs", "start", "tables_read"}},
    {"NIST SP 800-53", "CP-9(1)", {"slabs", "start", "tables_read", "indexes"}},
    {"NIST SP 800-53", "CP-10", {"start", "replay", "promote"}},
};

static bool add_head(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
                     struct hf_error *err);
static bool add_subject(json_t *content, const struct hf_verify_subject *subject,
                        const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_backup(json_t *content, const struct hf_verify_subject *subject,
                       const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_stream(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_attempt(json_t *content, const struct hf_verify_subject *subject,
                        const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_restore(json_t *content, const struct hf_verify_subject *subject,
                        const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_caught_up(json_t *group, const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_figures(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_sandbox(json_t *content, const struct hf_verify_subject *subject,
                        const struct hf_verify_outcome *outcome, struct hf_error *err);
static bool add_people(json_t *content, const struct hf_verify_subject *subject, struct hf_error *err);
static bool add_controls(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err);
static enum hf_verdict control_verdict(const struct hf_verify_outcome *outcome, const char *const *because);
static const struct hf_verify_check *check_of(const struct hf_verify_outcome *outcome, const char *id);
static const char *cipher_of(unsigned suites);
static bool has_replayed(const struct hf_verify_outcome *outcome);
static bool set(json_t *object, const char *member, json_t *value, struct hf_error *err);
static bool set_known(json_t *object, const char *member, json_t *value, bool known, const char *why,
                      struct hf_error *err);
static json_t *name(const char *text);

bool
hf_verify_evidence(const struct hf_verify_outcome *outcome, const struct hf_verify_subject *subject, json_t **ret,
                   struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *content = json_object();
    json_t *checks;
    if (content == NULL || !set(content, "schema", json_string(HF_EVIDENCE_SCHEMA), err) ||
        !add_head(content, subject, outcome, err) ||
        !hf_evidence_set_unknown(content, "policy", "no policy is recorded for this source", err) ||
        !add_subject(content, subject, outcome, err) || !add_backup(content, subject, outcome, err) ||
        !add_stream(content, outcome, err) || !add_attempt(content, subject, outcome, err) ||
        !add_restore(content, subject, outcome, err) || !add_figures(content, outcome, err) ||
        !hf_report_json(&outcome->report, &checks, err) || !set(content, "checks", checks, err) ||
        !add_sandbox(content, subject, outcome, err) || !add_people(content, subject, err) ||
        !add_controls(content, outcome, err))
        return hf_fail_within(err, "the evidence of this attempt");
    if (!hf_evidence_check_content(content, err))
        return hf_fail_within(err, "the evidence of this attempt");
    *ret = HF_TAKE(content);
    return true;
}

static bool
add_head(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
         struct hf_error *err)
{
    json_t *head = json_object(), *software = json_object(), *clock = json_object();
    const struct hf_id id = hf_id_new();
    return set(content, "head", head, err) && set(head, "software", software, err) && set(head, "clock", clock, err) &&
           set(head, "evidence_id", hf_json_id_text(&id), err) && set(head, "kind", json_string("verify"), err) &&
           set(head, "appliance_id", hf_json_id_text(&subject->appliance), err) &&
           hf_evidence_set_unknown(head, "site", "no site is named in the settings", err) &&
           set(software, "version", json_string(subject->version), err) &&
           hf_evidence_set_unknown(software, "build", "not recorded", err) &&
           set(head, "created_at", hf_evidence_time(outcome->finished_at), err) &&
           hf_evidence_set_unknown(clock, "source", "not asked", err) &&
           hf_evidence_set_unknown(clock, "offset_ns", "not asked", err);
}

static bool
add_subject(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
            struct hf_error *err)
{
    json_t *group = json_object();
    if (!set(content, "subject", group, err) || !set(group, "source_id", hf_json_id_text(&subject->source_id), err) ||
        !set(group, "source_name", name(subject->source_name), err) ||
        !set(group, "engine", json_string(outcome->engine != NULL ? outcome->engine->name : subject->engine), err) ||
        !set(group, "version", name(outcome->facts.shared.server_version), err) ||
        !set(group, "lineage", name(subject->identity), err))
        return false;
    if (outcome->relations.database_count == 0)
        return hf_evidence_set_unknown(group, "databases", "the copy was not looked into", err);
    json_t *list = json_array();
    if (!set(group, "databases", list, err))
        return false;
    for (size_t i = 0; i < outcome->relations.database_count && i < HF_EVIDENCE_MOST_LIST; i++) {
        const struct hf_database_facts *facts = &outcome->relations.databases[i];
        _cleanup_(hf_json_freep) json_t *row = json_object();
        if (row == NULL || !set(row, "name", name(facts->name), err) ||
            !set(row, "bytes", json_integer((json_int_t)facts->bytes), err) ||
            !set(row, "tables", json_integer((json_int_t)facts->tables), err) ||
            !set(row, "rows", json_integer((json_int_t)facts->rows), err) || json_array_append(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    }
    return true;
}

static bool
add_backup(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
           struct hf_error *err)
{
    const struct hf_shared_facts *facts = &outcome->facts.shared;
    const char *unread = "the backup's facts do not tell it";
    const char *timeline = outcome->engine != NULL ? "this engine has no timelines" : unread;
    json_t *group = json_object();
    return set(content, "backup", group, err) && set(group, "backup_id", hf_json_id_text(&subject->backup), err) &&
           set(group, "vault_id", hf_json_id_text(&subject->vault), err) &&
           set(group, "log_sequence", json_integer((json_int_t)subject->log_sequence), err) &&
           set(group, "log_head", hf_json_hex(subject->log_head, sizeof subject->log_head), err) &&
           hf_evidence_set_unknown(group, "manifest_hash", "the log entry's hash covers the manifest", err) &&
           set(group, "started_at", hf_evidence_time(facts->started_at), err) &&
           set(group, "ended_at", hf_evidence_time(facts->finished_at), err) &&
           set_known(group, "start_position", name(facts->start_position), facts->start_position[0] != 0, unread,
                     err) &&
           set_known(group, "stop_position", name(facts->stop_position), facts->stop_position[0] != 0, unread, err) &&
           set_known(group, "timeline", json_integer(outcome->facts.timeline), outcome->facts.timeline != 0, timeline,
                     err) &&
           set(group, "bytes_logical", json_integer((json_int_t)subject->logical_bytes), err) &&
           set(group, "bytes_stored", json_integer((json_int_t)subject->stored_bytes), err) &&
           set(group, "cipher", json_string(cipher_of(outcome->suites)), err) &&
           set(group, "state_before", json_string(subject->state_before), err) &&
           set(group, "state_after", json_string(subject->state_after), err);
}

static bool
add_stream(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err)
{
    static const char on_record[] = "the log between these was never received, as the vault log says";
    const struct hf_verify_stream *stream = &outcome->stream;
    if (!stream->known)
        return hf_evidence_set_unknown(content, "stream", "no log that was archived behind the backup was replayed",
                                       err);
    json_t *group = json_object(), *gaps = json_array();
    if (!set(content, "stream", group, err) || !set(group, "gaps", gaps, err) ||
        !set(group, "from_position", name(stream->from_position), err) ||
        !set(group, "to_position", name(stream->to_position), err) ||
        !set(group, "bytes", json_integer((json_int_t)stream->bytes), err) ||
        !set_known(group, "newest_commit_at", hf_evidence_time(stream->newest_commit_at), stream->newest_commit_at > 0,
                   "no commit lies in it", err))
        return false;
    if (stream->gap_from[0] == 0)
        return true;
    _cleanup_(hf_json_freep) json_t *gap = json_object();
    return set(gap, "from_position", name(stream->gap_from), err) &&
           set(gap, "to_position", name(stream->gap_to), err) &&
           set(gap, "cause", json_string(stream->gap_recorded ? on_record : "the archive has no log between these"),
               err) &&
           (json_array_append(gaps, gap) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory"));
}

static bool
add_attempt(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
            struct hf_error *err)
{
    json_t *group = json_object();
    return set(content, "attempt", group, err) && set(group, "attempt_id", hf_json_id_text(&subject->attempt), err) &&
           set(group, "level", json_string("default"), err) &&
           set(group, "started_at", hf_evidence_time(outcome->started_at), err) &&
           set(group, "ended_at", hf_evidence_time(outcome->finished_at), err) &&
           set(group, "duration_ms", json_integer((json_int_t)outcome->duration_ms), err) &&
           set(group, "result", json_string(hf_attempt_result_name(outcome->result)), err) &&
           set_known(group, "reason", name(outcome->reason), outcome->reason[0] != 0, "it passed", err);
}

static bool
add_restore(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
            struct hf_error *err)
{
    if (outcome->bytes_restored == 0)
        return hf_evidence_set_unknown(content, "restore", "nothing was restored", err);
    char id[HF_ID_TEXT_BYTES];
    json_t *group = json_object(), *target = json_object(), *phases = json_array();
    if (!set(content, "restore", group, err) || !set(group, "target", target, err) ||
        !set(target, "kind", json_string("backup"), err) ||
        !set(target, "value", json_string(hf_id_format(&subject->backup, id)), err) ||
        !set(group, "key_slot", name(subject->key_slot), err) ||
        !set(group, "requested_at", hf_evidence_time(outcome->requested_at), err) ||
        !set(group, "bytes_restored", json_integer((json_int_t)outcome->bytes_restored), err) ||
        !set_known(group, "bytes_replayed", json_integer((json_int_t)outcome->facts.log_bytes), has_replayed(outcome),
                   "the log of the backup was not replayed to its end", err) ||
        !set_known(group, "engine_version", name(outcome->engine_version), outcome->engine_version[0] != 0,
                   "no server answered", err) ||
        !set_known(group, "engine_sha256", hf_json_hex(outcome->engine_sha256, sizeof outcome->engine_sha256),
                   outcome->engine_known, "no server's program was found, or it could not be read", err) ||
        !set_known(group, "engine_log_sha256", hf_json_hex(outcome->log_sha256, sizeof outcome->log_sha256),
                   outcome->log_known, "no server ran", err) ||
        !set(group, "phases", phases, err))
        return false;
    for (size_t i = 0; i < outcome->phase_count; i++) {
        _cleanup_(hf_json_freep) json_t *row = json_object();
        if (row == NULL || !set(row, "phase", json_string(outcome->phases[i].name), err) ||
            !set(row, "started_at", hf_evidence_time(outcome->phases[i].started_at), err) ||
            !set(row, "duration_ms", json_integer((json_int_t)outcome->phases[i].duration_ms), err) ||
            json_array_append(phases, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    }
    return true;
}

static bool
add_figures(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err)
{
    json_t *group = json_object();
    const int64_t own = outcome->facts.last_commit_at, streamed = outcome->stream.newest_commit_at;
    const int64_t commit = streamed > own ? streamed : own;
    return set(content, "rto_rpo", group, err) &&
           set_known(group, "time_to_recover_ms", json_integer(outcome->recovery_ms), outcome->recovery_ms >= 0,
                     "the copy was never open for writing", err) &&
           set_known(group, "time_to_validate_ms", json_integer((json_int_t)outcome->duration_ms),
                     outcome->result == HF_ATTEMPT_PASSED, "the attempt did not pass", err) &&
           set_known(group, "data_loss_window_ms", json_integer(outcome->caught_up.behind_ms),
                     outcome->caught_up.known && outcome->caught_up.behind_ms >= 0,
                     "the archive was not seen to reach the place where the source stood", err) &&
           set_known(group, "recovered_commit_at", commit > 0 ? hf_evidence_time(commit) : json_null(), commit > 0,
                     "no commit lies in the log that was replayed", err) &&
           hf_evidence_set_unknown(group, "rto_target_met", "no objective is recorded", err) &&
           hf_evidence_set_unknown(group, "rpo_target_met", "no objective is recorded", err) &&
           add_caught_up(group, outcome, err);
}

static bool
add_caught_up(json_t *group, const struct hf_verify_outcome *outcome, struct hf_error *err)
{
    const struct hf_verify_caught_up *caught_up = &outcome->caught_up;
    if (!caught_up->known)
        return hf_evidence_set_unknown(group, "caught_up", "the source was not asked where it stood", err);
    json_t *part = json_object();
    return set(group, "caught_up", part, err) &&
           set(part, "sampled_at", hf_evidence_time(caught_up->sampled_at), err) &&
           set(part, "source_position", name(caught_up->source_position), err) &&
           set(part, "bound_ms", json_integer((json_int_t)caught_up->bound_ms), err) &&
           set(part, "waited_ms", json_integer((json_int_t)caught_up->waited_ms), err) &&
           set(part, "reached", json_boolean(caught_up->reached), err);
}

static bool
add_sandbox(json_t *content, const struct hf_verify_subject *subject, const struct hf_verify_outcome *outcome,
            struct hf_error *err)
{
    const char *level = json_string_value(json_object_get(outcome->sandbox, "level"));
    const json_t *layers = json_object_get(outcome->sandbox, "layers"),
                 *limits = json_object_get(outcome->sandbox, "limits");
    if (outcome->sandbox == NULL || level == NULL || !json_is_array(layers))
        return hf_evidence_set_unknown(content, "sandbox", "no sandbox was made", err);
    json_t *group = json_object(), *scratch = json_object();
    const json_t *memory = json_object_get(limits, "memory_bytes"), *processes = json_object_get(limits, "processes"),
                 *wall = json_object_get(limits, "wall_ms");
    return set(content, "sandbox", group, err) && set(group, "scratch", scratch, err) &&
           set(group, "level", json_string(level), err) &&
           set(group, "minimum_level", json_string(hf_sandbox_level_name(subject->lowest)), err) &&
           set(group, "isolation", json_deep_copy(layers), err) && set(group, "network", json_string("none"), err) &&
           set(scratch, "kind", json_string(outcome->scratch), err) &&
           set(scratch, "limit_bytes", json_integer((json_int_t)outcome->scratch_bytes), err) &&
           set_known(group, "memory_limit_bytes", json_deep_copy(memory), json_is_integer(memory), "none", err) &&
           set_known(group, "process_limit", json_deep_copy(processes), json_is_integer(processes), "none", err) &&
           set_known(group, "time_limit_ms", json_deep_copy(wall), json_is_integer(wall), "none", err);
}

static bool
add_people(json_t *content, const struct hf_verify_subject *subject, struct hf_error *err)
{
    json_t *group = json_object();
    return set(content, "people", group, err) && set(group, "requested_by", name(subject->requested_by), err) &&
           hf_evidence_set_unknown(group, "reason", "not asked for", err) &&
           hf_evidence_set_unknown(group, "ticket", "not asked for", err) &&
           hf_evidence_set_unknown(group, "approved_by", "needs no approval", err);
}

static bool
add_controls(json_t *content, const struct hf_verify_outcome *outcome, struct hf_error *err)
{
    json_t *list = json_array();
    if (!set(content, "controls", list, err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(controls); i++) {
        _cleanup_(hf_json_freep) json_t *row = json_object();
        json_t *because = json_array();
        if (row == NULL || !set(row, "because", because, err) ||
            !set(row, "framework", json_string(controls[i].framework), err) ||
            !set(row, "ref", json_string(controls[i].ref), err) ||
            !set(row, "verdict", json_string(hf_verdict_name(control_verdict(outcome, controls[i].because))), err))
            return false;
        for (size_t n = 0; n < HF_LENGTH(controls[i].because) && controls[i].because[n] != NULL; n++)
            if (check_of(outcome, controls[i].because[n]) != NULL &&
                json_array_append_new(because, json_string(controls[i].because[n])) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
        if (json_array_append(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    }
    return true;
}

/* Failed if one failed; passed only if all passed, at least one; else the weakest of them. */
static enum hf_verdict
control_verdict(const struct hf_verify_outcome *outcome, const char *const *because)
{
    enum hf_verdict verdict = HF_VERDICT_PASSED;
    bool any = false;
    for (size_t n = 0; n < HF_LENGTH(controls[0].because) && because[n] != NULL; n++) {
        const struct hf_verify_check *check = check_of(outcome, because[n]);
        any = any || check != NULL;
        if (check == NULL || check->verdict == HF_VERDICT_PASSED)
            continue;
        if (check->verdict == HF_VERDICT_FAILED)
            return HF_VERDICT_FAILED;
        if (verdict != HF_VERDICT_NOT_RUN)
            verdict = check->verdict;
    }
    return any ? verdict : HF_VERDICT_NOT_RUN;
}

/* NULL when this attempt makes none of that name. */
static const struct hf_verify_check *
check_of(const struct hf_verify_outcome *outcome, const char *id)
{
    for (size_t i = 0; i < outcome->report.count; i++)
        if (strcmp(outcome->report.checks[i].id, id) == 0)
            return &outcome->report.checks[i];
    return NULL;
}

/* As the headers of the packs say that were opened; the keys were committed to in them. */
static const char *
cipher_of(unsigned suites)
{
    const bool aes = (suites & 1u << HF_SUITE_AES256_GCM) != 0, xchacha = (suites & 1u << HF_SUITE_XCHACHA20) != 0;
    return aes && xchacha ? "AES-256-GCM and XChaCha20-Poly1305"
           : aes          ? "AES-256-GCM"
           : xchacha      ? "XChaCha20-Poly1305"
                          : "not seen: no stored piece was opened";
}

static bool
has_replayed(const struct hf_verify_outcome *outcome)
{
    const struct hf_verify_check *check = check_of(outcome, "replay");
    return check != NULL && check->verdict == HF_VERDICT_PASSED;
}

static bool
set(json_t *object, const char *member, json_t *value, struct hf_error *err)
{
    return hf_json_set(object, member, value, err);
}

static bool
set_known(json_t *object, const char *member, json_t *value, bool known, const char *why, struct hf_error *err)
{
    if (known)
        return hf_json_set(object, member, value, err);
    hf_json_freep(&value);
    return hf_evidence_set_unknown(object, member, why, err);
}

static json_t *
name(const char *text)
{
    return hf_evidence_name(text[0] != 0 ? text : "-", text[0] != 0 ? strlen(text) : 1);
}
