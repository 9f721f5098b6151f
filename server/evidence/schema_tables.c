#include "server/evidence/schema_internal.h"

#define SHAPE(name)        static const struct shape name##_shape = {name##_fields, HF_LENGTH(name##_fields)}
#define CHOICES(name, ...) static const char *const name[] = {__VA_ARGS__, NULL}
#define UNKNOWN_ALLOWED    true

CHOICES(schemas, HF_EVIDENCE_SCHEMA);
CHOICES(kinds, "verify", "act", "shred");
CHOICES(engines, "postgresql", "mariadb", "mysql");
CHOICES(states, "unproven", "proven", "failed", "damaged");
CHOICES(results, "passed", "failed", "inconclusive");
CHOICES(verdicts, "passed", "failed", "not_determinable", "not_run");
CHOICES(targets, "latest", "time", "lsn", "xid", "name", "gtid", "transaction", "backup");
CHOICES(networks, "none", "relay");
CHOICES(scratches, "memory", "encrypted", "plain");
CHOICES(outcomes, "done", "refused", "failed");
CHOICES(backup_types, "full", "incremental");
CHOICES(choosers, "round_robin", "settings", "named", "none");

// clang-format off: one member a line, as in the table of document.h
static const struct field software_fields[] = {
    {"version", TEXT},
    {"build", TEXT, UNKNOWN_ALLOWED},
};
SHAPE(software);

static const struct field clock_fields[] = {
    {"source", TEXT, UNKNOWN_ALLOWED},
    {"offset_ns", SIGNED_NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(clock);

static const struct field head_fields[] = {
    {"evidence_id", ID},
    {"kind", CHOICE, .choices = kinds},
    {"appliance_id", ID},
    {"site", TEXT, UNKNOWN_ALLOWED},
    {"software", OBJECT, .shape = &software_shape},
    {"created_at", TIME},
    {"clock", OBJECT, .shape = &clock_shape},
};
SHAPE(head);

static const struct field policy_fields[] = {
    {"policy_id", ID},
    {"policy_sha256", HASH},
    {"tier", TEXT, UNKNOWN_ALLOWED},
    {"rpo_target_s", NUMBER, UNKNOWN_ALLOWED},
    {"rto_target_s", NUMBER, UNKNOWN_ALLOWED},
    {"retention", TEXT, UNKNOWN_ALLOWED},
    {"approved_by", TEXT, UNKNOWN_ALLOWED},
    {"approved_at", TIME, UNKNOWN_ALLOWED},
};
SHAPE(policy);

static const struct field database_fields[] = {
    {"name", TEXT},
    {"bytes", NUMBER, UNKNOWN_ALLOWED},
    {"tables", NUMBER, UNKNOWN_ALLOWED},
    {"rows", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(database);

static const struct field subject_fields[] = {
    {"source_id", ID}, {"source_name", TEXT}, {"engine", CHOICE, .choices = engines},
    {"version", TEXT}, {"lineage", TEXT},     {"databases", LIST, UNKNOWN_ALLOWED, .shape = &database_shape},
};
SHAPE(subject);

static const struct field backup_fields[] = {
    {"backup_id", ID},
    {"vault_id", ID},
    {"log_sequence", NUMBER},
    {"log_head", HASH},
    {"manifest_hash", HASH, UNKNOWN_ALLOWED},
    {"started_at", TIME},
    {"ended_at", TIME},
    {"start_position", TEXT, UNKNOWN_ALLOWED},
    {"stop_position", TEXT, UNKNOWN_ALLOWED},
    {"timeline", NUMBER, UNKNOWN_ALLOWED},
    {"bytes_logical", NUMBER, UNKNOWN_ALLOWED},
    {"bytes_stored", NUMBER, UNKNOWN_ALLOWED},
    {"cipher", TEXT},
    {"state_before", CHOICE, .choices = states},
    {"state_after", CHOICE, .choices = states},
};
SHAPE(backup);

static const struct field gap_fields[] = {
    {"from_position", TEXT},
    {"to_position", TEXT, UNKNOWN_ALLOWED},
    {"cause", TEXT},
};
SHAPE(gap);

static const struct field stream_fields[] = {
    {"from_position", TEXT},
    {"to_position", TEXT},
    {"bytes", NUMBER, UNKNOWN_ALLOWED},
    {"newest_commit_at", TIME, UNKNOWN_ALLOWED},
    {"gaps", LIST, .shape = &gap_shape},
};
SHAPE(stream);

static const struct field attempt_fields[] = {
    {"attempt_id", ID},
    {"level", WORD},
    {"started_at", TIME},
    {"ended_at", TIME},
    {"duration_ms", NUMBER},
    {"result", CHOICE, .choices = results},
    {"reason", TEXT, UNKNOWN_ALLOWED},
};
SHAPE(attempt);

static const struct field target_fields[] = {
    {"kind", CHOICE, .choices = targets},
    {"value", TEXT, UNKNOWN_ALLOWED},
};
SHAPE(target);

static const struct field phase_fields[] = {
    {"phase", WORD},
    {"started_at", TIME},
    {"duration_ms", NUMBER},
};
SHAPE(phase);

static const struct field restore_fields[] = {
    {"target", OBJECT, .shape = &target_shape},
    {"key_slot", TEXT, UNKNOWN_ALLOWED},
    {"requested_at", TIME},
    {"bytes_restored", NUMBER, UNKNOWN_ALLOWED},
    {"bytes_replayed", NUMBER, UNKNOWN_ALLOWED},
    {"engine_version", TEXT, UNKNOWN_ALLOWED},
    {"engine_sha256", HASH, UNKNOWN_ALLOWED},
    {"engine_log_sha256", HASH, UNKNOWN_ALLOWED},
    {"phases", LIST, .shape = &phase_shape},
};
SHAPE(restore);

static const struct field caught_up_fields[] = {
    {"sampled_at", TIME}, {"source_position", TEXT}, {"bound_ms", NUMBER}, {"waited_ms", NUMBER}, {"reached", BOOLEAN},
};
SHAPE(caught_up);

static const struct field rto_rpo_fields[] = {
    {"time_to_recover_ms", NUMBER, UNKNOWN_ALLOWED},
    {"time_to_validate_ms", NUMBER, UNKNOWN_ALLOWED},
    {"data_loss_window_ms", NUMBER, UNKNOWN_ALLOWED},
    {"recovered_commit_at", TIME, UNKNOWN_ALLOWED},
    {"rto_target_met", BOOLEAN, UNKNOWN_ALLOWED},
    {"rpo_target_met", BOOLEAN, UNKNOWN_ALLOWED},
    {"caught_up", OBJECT, UNKNOWN_ALLOWED, .shape = &caught_up_shape},
};
SHAPE(rto_rpo);

static const struct field finding_fields[] = {
    {"what", WORD},
    {"object", TEXT},
    {"block", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(finding);

static const struct field check_fields[] = {
    {"id", WORD},
    {"title", TEXT},
    {"verdict", CHOICE, .choices = verdicts},
    {"required", BOOLEAN},
    {"reason", TEXT, UNKNOWN_ALLOWED},
    {"examined", NUMBER, UNKNOWN_ALLOWED},
    {"bad", NUMBER, UNKNOWN_ALLOWED},
    {"duration_ms", NUMBER, UNKNOWN_ALLOWED},
    {"method", TEXT, UNKNOWN_ALLOWED},
    {"coverage_ppm", PPM_NUMBER, UNKNOWN_ALLOWED},
    {"detail_sha256", HASH, UNKNOWN_ALLOWED},
    {"findings", LIST, .shape = &finding_shape},
};
SHAPE(check);

static const struct field scratch_fields[] = {
    {"kind", CHOICE, .choices = scratches},
    {"limit_bytes", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(scratch);

static const struct field sandbox_fields[] = {
    {"level", TEXT},
    {"minimum_level", TEXT},
    {"isolation", WORDS},
    {"network", CHOICE, .choices = networks},
    {"scratch", OBJECT, .shape = &scratch_shape},
    {"memory_limit_bytes", NUMBER, UNKNOWN_ALLOWED},
    {"process_limit", NUMBER, UNKNOWN_ALLOWED},
    {"time_limit_ms", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(sandbox);

static const struct field people_fields[] = {
    {"requested_by", TEXT},
    {"reason", TEXT, UNKNOWN_ALLOWED},
    {"ticket", TEXT, UNKNOWN_ALLOWED},
    {"approved_by", TEXT, UNKNOWN_ALLOWED},
};
SHAPE(people);

static const struct field control_fields[] = {
    {"framework", TEXT},
    {"ref", TEXT},
    {"verdict", CHOICE, .choices = verdicts},
    {"because", WORDS},
};
SHAPE(control);

static const struct field act_fields[] = {
    {"act", WORD},
    {"object_kind", WORD},
    {"object", TEXT},
    {"outcome", CHOICE, .choices = outcomes},
    {"refers_to", ID, UNKNOWN_ALLOWED},
    {"detail", TEXT, UNKNOWN_ALLOWED},
};
SHAPE(act);

static const struct field acceptance_fields[] = {
    {"source_name", TEXT},
    {"attempt", ID},
    {"checks", WORDS},
    {"until", TIME},
};
SHAPE(acceptance);

static const struct field wrap_fields[] = {
    {"slot_id", ID},      {"name", TEXT},
    {"kind", WORD},       {"root_generation", NUMBER},
    {"created_at", TIME}, {"removed_at", TIME, UNKNOWN_ALLOWED},
};
SHAPE(wrap);

static const struct field kit_fields[] = {
    {"kit_id", ID},
    {"issued_at", TIME},
    {"root_generation", NUMBER},
    {"slots", TEXT},
};
SHAPE(kit);

static const struct field reach_fields[] = {
    {"what", WORD},
    {"sentence", TEXT},
};
SHAPE(reach);

static const struct field shred_fields[] = {
    {"vault_id", ID},
    {"vault_name", TEXT, UNKNOWN_ALLOWED},
    {"engine", TEXT},
    {"lineage", TEXT, UNKNOWN_ALLOWED},
    {"shredded_at", TIME},
    {"log_sequence", NUMBER},
    {"log_head", HASH},
    {"backups", NUMBER},
    {"bytes_stored", NUMBER},
    {"root_generation", NUMBER},
    {"wraps", LIST, .shape = &wrap_shape},
    {"kits", LIST, .shape = &kit_shape},
    {"beyond_reach", LIST, .shape = &reach_shape},
};
SHAPE(shred);

static const struct field storage_fields[] = {
    {"type", CHOICE, .choices = backup_types},   {"parent_id", ID, UNKNOWN_ALLOWED},
    {"files", NUMBER, UNKNOWN_ALLOWED},          {"bad_pages", NUMBER, UNKNOWN_ALLOWED},
    {"key_generation", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(storage);

static const struct field key_fields[] = {
    {"slot_id", ID, UNKNOWN_ALLOWED},
    {"slot_name", TEXT, UNKNOWN_ALLOWED},
    {"slot_kind", WORD, UNKNOWN_ALLOWED},
    {"chosen", CHOICE, .choices = choosers},
    {"reachable", NUMBER},
};
SHAPE(key);

static const struct field host_fields[] = {
    {"name", TEXT, UNKNOWN_ALLOWED},           {"system", TEXT, UNKNOWN_ALLOWED},
    {"machine", TEXT, UNKNOWN_ALLOWED},        {"processors", NUMBER, UNKNOWN_ALLOWED},
    {"memory_bytes", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(host);

static const struct field process_fields[] = {
    {"fingerprint", HASH},
    {"settings_sha256", HASH},
    {"software", TEXT},
    {"engine", TEXT, UNKNOWN_ALLOWED},
    {"sandbox_engine", TEXT, UNKNOWN_ALLOWED},
    {"key_slots", NUMBER},
    {"key_slots_sha256", HASH},
    {"unproven_since", TIME, UNKNOWN_ALLOWED},
    {"changed", WORDS},
    {"proven_since", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(process);

static const struct field forecast_fields[] = {
    {"recovery_ms", NUMBER},
    {"attempts", NUMBER},
    {"error_ppm", NUMBER, UNKNOWN_ALLOWED},
    {"objective_ms", NUMBER, UNKNOWN_ALLOWED},
};
SHAPE(forecast);

static const struct field verify_document_fields[] = {
    {"schema", CHOICE, .choices = schemas},
    {"head", OBJECT, .shape = &head_shape},
    {"policy", OBJECT, UNKNOWN_ALLOWED, .shape = &policy_shape},
    {"subject", OBJECT, .shape = &subject_shape},
    {"backup", OBJECT, .shape = &backup_shape},
    {"stream", OBJECT, UNKNOWN_ALLOWED, .shape = &stream_shape},
    {"attempt", OBJECT, .shape = &attempt_shape},
    {"restore", OBJECT, UNKNOWN_ALLOWED, .shape = &restore_shape},
    {"rto_rpo", OBJECT, UNKNOWN_ALLOWED, .shape = &rto_rpo_shape},
    {"checks", LIST, .shape = &check_shape},
    {"sandbox", OBJECT, UNKNOWN_ALLOWED, .shape = &sandbox_shape},
    {"people", OBJECT, .shape = &people_shape},
    {"controls", LIST, .shape = &control_shape},
    {"storage", OBJECT, .later = true, .shape = &storage_shape},
    {"key", OBJECT, .later = true, .shape = &key_shape},
    {"host", OBJECT, .later = true, .shape = &host_shape},
    {"process", OBJECT, .later = true, .shape = &process_shape},
    {"forecast", OBJECT, UNKNOWN_ALLOWED, .later = true, .shape = &forecast_shape},
};
const struct shape hf_schema_verify = {verify_document_fields, HF_LENGTH(verify_document_fields)};

static const struct field act_document_fields[] = {
    {"schema", CHOICE, .choices = schemas},
    {"head", OBJECT, .shape = &head_shape},
    {"people", OBJECT, .shape = &people_shape},
    {"act", OBJECT, .shape = &act_shape},
    {"acceptance", OBJECT, .later = true, .shape = &acceptance_shape},
};
const struct shape hf_schema_act = {act_document_fields, HF_LENGTH(act_document_fields)};

static const struct field shred_document_fields[] = {
    {"schema", CHOICE, .choices = schemas},
    {"head", OBJECT, .shape = &head_shape},
    {"people", OBJECT, .shape = &people_shape},
    {"shred", OBJECT, .shape = &shred_shape},
};
const struct shape hf_schema_shred = {shred_document_fields, HF_LENGTH(shred_document_fields)};
// clang-format on
