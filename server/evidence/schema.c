#include "server/evidence/schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/evidence/document.h"

#define MOST_PATH 256
#define PPM       1000000

enum field_type {
    TEXT,
    WORD,
    CHOICE,
    ID,
    HASH,
    TIME,
    NUMBER,
    SIGNED_NUMBER,
    PPM_NUMBER,
    BOOLEAN,
    OBJECT,
    LIST, // of objects
    WORDS,
};

struct shape;

struct field {
    const char *name;
    enum field_type type;
    bool may_be_unknown;
    bool later;                 // documents that were written before it was thought of do not have it
    const char *const *choices; // of a CHOICE; ends with NULL
    const struct shape *shape;  // of an OBJECT or of a LIST's objects
};

struct shape {
    const struct field *fields;
    size_t count;
};

/* A check under way: where it stands, and how it fails (USAGE for our own content, CORRUPT for what was read). */
struct place {
    enum hf_error_kind kind;
    const char *what;
    char path[MOST_PATH];
    struct hf_error *err;
};

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
SHAPE(verify_document);

static const struct field act_document_fields[] = {
    {"schema", CHOICE, .choices = schemas},
    {"head", OBJECT, .shape = &head_shape},
    {"people", OBJECT, .shape = &people_shape},
    {"act", OBJECT, .shape = &act_shape},
};
SHAPE(act_document);

static const struct field shred_document_fields[] = {
    {"schema", CHOICE, .choices = schemas},
    {"head", OBJECT, .shape = &head_shape},
    {"people", OBJECT, .shape = &people_shape},
    {"shred", OBJECT, .shape = &shred_shape},
};
SHAPE(shred_document);
// clang-format on

static bool check_object(struct place *place, const json_t *object, const struct shape *shape);
static bool refuse_stray(struct place *place, const json_t *object, const struct shape *shape, size_t nulls);
static bool check_unknown(struct place *place, const json_t *object, size_t nulls);
static bool check_field(struct place *place, const json_t *value, const struct field *field);
static bool check_string(struct place *place, const json_t *value, const struct field *field);
static bool check_list(struct place *place, const json_t *list, const struct field *field);
static bool check_number(struct place *place, const json_t *value, int64_t least, int64_t most);
static bool is_text(const char *text);
static bool is_word(const char *text);
static bool is_time(const char *text);
static bool check_shred(struct place *place, const json_t *content);
static bool check_sense(struct place *place, const json_t *content);
static bool check_checks(struct place *place, const json_t *checks, json_t *by_id);
static bool check_attempt(struct place *place, const json_t *content);
static bool check_state(struct place *place, const json_t *content);
static bool check_controls(struct place *place, const json_t *content, const json_t *by_id);
static bool check_targets(struct place *place, const json_t *content);
static bool check_target(struct place *place, const json_t *content, const char *target, const char *measured,
                         const char *met);
static size_t count_verdicts(const json_t *checks, const char *verdict, bool required_only);
static const char *text_of(const json_t *object, const char *member);
static size_t enter(struct place *place, const char *format, ...) HF_PRINTF(2, 3);
static bool refuse(struct place *place, const char *format, ...) HF_PRINTF(2, 3);

bool
hf_schema_check(const json_t *content, const char *what, enum hf_error_kind kind, struct hf_error *err)
{
    struct place place = {.kind = kind, .what = what, .err = err};
    const json_t *head_group = json_object_get(content, "head");
    const char *document_kind = json_string_value(json_object_get(head_group, "kind"));
    bool is_act = document_kind != NULL && strcmp(document_kind, "act") == 0;
    bool is_shred = document_kind != NULL && strcmp(document_kind, "shred") == 0;

    // Any other kind is refused by the table of a verify document, with the list of kinds there are.
    if (!check_object(&place, content,
                      is_act     ? &act_document_shape
                      : is_shred ? &shred_document_shape
                                 : &verify_document_shape))
        return false;
    return is_act || (is_shred ? check_shred(&place, content) : check_sense(&place, content));
}

uint32_t
hf_schema_next_character(const char **at)
{
    const uint8_t *bytes = (const uint8_t *)*at;
    size_t more = bytes[0] < 0x80 ? 0 : bytes[0] < 0xe0 ? 1 : bytes[0] < 0xf0 ? 2 : 3;
    uint32_t character = more == 0 ? bytes[0] : bytes[0] & (0x3fu >> more);

    for (size_t i = 1; i <= more; i++)
        character = character << 6 | (bytes[i] & 0x3f);
    *at += 1 + more;
    return character;
}

bool
hf_schema_is_printable(uint32_t character)
{
    static const struct {
        uint32_t first, last;
    } hidden[] = {{0x00, 0x1f},     {0x7f, 0x9f},     {0xad, 0xad},     {0x61c, 0x61c},   {0x200b, 0x200f},
                  {0x2028, 0x202e}, {0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xfff9, 0xfffb}, {0xe0000, 0xe007f}};

    for (size_t i = 0; i < HF_LENGTH(hidden); i++)
        if (character >= hidden[i].first && character <= hidden[i].last)
            return false;
    return true;
}

/* Recursion follows the tables above, four levels deep, not the input. */
static bool
check_object(struct place *place, const json_t *object, const struct shape *shape)
{
    size_t nulls = 0, known = 0;

    if (!json_is_object(object))
        return refuse(place, "is not an object");
    for (size_t i = 0; i < shape->count; i++) {
        const struct field *field = &shape->fields[i];
        const json_t *value = json_object_get(object, field->name);
        size_t before = enter(place, ".%s", field->name);

        if (value == NULL && !field->later)
            return refuse(place, "is missing");
        if (value == NULL) {
            place->path[before] = 0;
            continue;
        }
        known++;
        if (json_is_null(value) && !field->may_be_unknown)
            return refuse(place, "is null and may not be unknown");
        if (json_is_null(value))
            nulls++;
        else if (!check_field(place, value, field))
            return false;
        place->path[before] = 0;
    }
    if (nulls > 0 && !check_unknown(place, object, nulls))
        return false;
    known += nulls > 0;
    if (json_object_size(object) == known)
        return true;

    return refuse_stray(place, object, shape, nulls);
}

/* Names the first member that is in no row of the table. */
static bool
refuse_stray(struct place *place, const json_t *object, const struct shape *shape, size_t nulls)
{
    // jansson's iterators take a pointer that is not const, but change nothing.
    json_t *source = (json_t *)(uintptr_t)object;
    const char *name = NULL;

    for (void *at = json_object_iter(source); at != NULL; at = json_object_iter_next(source, at)) {
        size_t row = 0;
        name = json_object_iter_key(at);
        while (row < shape->count && strcmp(shape->fields[row].name, name) != 0)
            row++;
        if (row == shape->count && (strcmp(name, "unknown") != 0 || nulls == 0))
            break;
    }
    enter(place, ".%.64s", name != NULL && is_text(name) ? name : "?");
    return refuse(place, "is not a member of " HF_EVIDENCE_SCHEMA " there");
}

/* "unknown" gives a reason for each null member and for nothing else. */
static bool
check_unknown(struct place *place, const json_t *object, size_t nulls)
{
    static const struct field reason_field = {"unknown", TEXT};
    json_t *unknown = json_object_get(object, "unknown");
    size_t before = enter(place, ".unknown");
    const char *name;
    json_t *reason;

    if (!json_is_object(unknown))
        return refuse(place, "is missing: it says why members are null");
    json_object_foreach(unknown, name, reason)
    {
        size_t inside = enter(place, ".%.64s", is_text(name) ? name : "?");
        if (!json_is_null(json_object_get(object, name)))
            return refuse(place, "explains a member that is not null");
        if (!check_field(place, reason, &reason_field))
            return false;
        place->path[inside] = 0;
    }
    if (json_object_size(unknown) != nulls)
        return refuse(place, "leaves a null member without reason");
    place->path[before] = 0;
    return true;
}

static bool
check_field(struct place *place, const json_t *value, const struct field *field)
{
    switch (field->type) {
    case TEXT:
    case WORD:
    case CHOICE:
    case ID:
    case HASH:
    case TIME:
        return check_string(place, value, field);
    case NUMBER:
        return check_number(place, value, 0, HF_JSON_INTEGER_MOST);
    case SIGNED_NUMBER:
        return check_number(place, value, -HF_JSON_INTEGER_MOST, HF_JSON_INTEGER_MOST);
    case PPM_NUMBER:
        return check_number(place, value, 0, PPM);
    case BOOLEAN:
        return json_is_boolean(value) || refuse(place, "is not true or false");
    case OBJECT:
        return check_object(place, value, field->shape);
    case LIST:
    case WORDS:
        return check_list(place, value, field);
    }
    assert(false);
    return false;
}

static bool
check_string(struct place *place, const json_t *value, const struct field *field)
{
    uint8_t bytes[HF_SHA256_BYTES];
    const char *text = json_string_value(value);

    if (text == NULL || strlen(text) != json_string_length(value))
        return refuse(place, "is not a string");
    switch (field->type) {
    case TEXT:
        return is_text(text) || refuse(place, "is not a printable text of 1 to %d bytes", HF_EVIDENCE_MOST_TEXT);
    case WORD:
        return is_word(text) ||
               refuse(place, "is not a word of 1 to %d characters a-z 0-9 _ . -", HF_EVIDENCE_MOST_WORD);
    case ID:
        return hf_hex_parse(text, bytes, HF_ID_BYTES, NULL) || refuse(place, "is not an id of 32 hex digits");
    case HASH:
        return hf_hex_parse(text, bytes, HF_SHA256_BYTES, NULL) || refuse(place, "is not a hash of 64 hex digits");
    case TIME:
        return is_time(text) || refuse(place, "is not a time like \"2026-11-22T14:03:07.123Z\"");
    default:
        break;
    }

    assert(field->type == CHOICE);
    char list[160];
    size_t used = 0;
    for (const char *const *choice = field->choices; *choice != NULL; choice++) {
        if (strcmp(*choice, text) == 0)
            return true;
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", used > 0 ? ", " : "", *choice);
        assert(used < sizeof list);
    }
    return refuse(place, "is \"%.64s\" and not one of: %s", is_text(text) ? text : "?", list);
}

static bool
check_list(struct place *place, const json_t *list, const struct field *field)
{
    static const struct field word_field = {"word", WORD};

    if (!json_is_array(list))
        return refuse(place, "is not a list");
    if (json_array_size(list) > HF_EVIDENCE_MOST_LIST)
        return refuse(place, "has %zu entries, at most %d are allowed", json_array_size(list), HF_EVIDENCE_MOST_LIST);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        size_t before = enter(place, "[%zu]", i);
        if (!(field->type == WORDS ? check_field(place, entry, &word_field) : check_object(place, entry, field->shape)))
            return false;
        place->path[before] = 0;
    }
    return true;
}

static bool
check_number(struct place *place, const json_t *value, int64_t least, int64_t most)
{
    if (!json_is_integer(value))
        return refuse(place, "is not an integer");
    if (json_integer_value(value) < least || json_integer_value(value) > most)
        return refuse(place, "is %lld and not within %lld to %lld", (long long)json_integer_value(value),
                      (long long)least, (long long)most);
    return true;
}

static bool
is_text(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length > HF_EVIDENCE_MOST_TEXT)
        return false;
    while (*text != 0)
        if (!hf_schema_is_printable(hf_schema_next_character(&text)))
            return false;
    return true;
}

static bool
is_word(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length <= HF_EVIDENCE_MOST_WORD &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == length;
}

static bool
is_time(const char *text)
{
    char again[HF_TIME_TEXT_BYTES];
    int64_t ms;
    return hf_time_parse(text, &ms, NULL) && strcmp(hf_time_format(ms, again), text) == 0;
}

/* Rule 7: no certificate claims that nothing was ever beyond reach, nor that there never was a key. */
static bool
check_shred(struct place *place, const json_t *content)
{
    static const char *const lists[] = {"wraps", "beyond_reach"};
    const json_t *group = json_object_get(content, "shred");
    for (size_t i = 0; i < HF_LENGTH(lists); i++) {
        size_t before = enter(place, ".shred.%s", lists[i]);
        if (json_array_size(json_object_get(group, lists[i])) == 0)
            return refuse(place, "is empty");
        place->path[before] = 0;
    }
    return true;
}

/* The numbered rules of the header: a document that contradicts itself is refused, whoever signed it. */
static bool
check_sense(struct place *place, const json_t *content)
{
    _cleanup_(hf_json_freep) json_t *by_id = json_object(); // a stranger's document can name a check very often

    if (by_id == NULL)
        return hf_fail(place->err, HF_ERR_NO_MEMORY, "out of memory for %s", place->what);
    return check_checks(place, json_object_get(content, "checks"), by_id) && check_attempt(place, content) &&
           check_state(place, content) && check_controls(place, content, by_id) && check_targets(place, content);
}

/* Also gathers the checks under their ids. */
static bool
check_checks(struct place *place, const json_t *checks, json_t *by_id)
{
    for (size_t i = 0; i < json_array_size(checks); i++) {
        json_t *entry = json_array_get(checks, i);
        size_t before = enter(place, ".checks[%zu]", i);

        if (json_object_get(by_id, text_of(entry, "id")) != NULL) {
            enter(place, ".id");
            return refuse(place, "is \"%s\" like that of an earlier check", text_of(entry, "id"));
        }
        if (strcmp(text_of(entry, "verdict"), "passed") != 0 && json_is_null(json_object_get(entry, "reason"))) {
            enter(place, ".reason");
            return refuse(place, "is null although the check is %s", text_of(entry, "verdict"));
        }
        if (!hf_json_set(by_id, text_of(entry, "id"), json_incref(entry), place->err))
            return false;
        place->path[before] = 0;
    }
    return true;
}

static bool
check_attempt(struct place *place, const json_t *content)
{
    const json_t *checks = json_object_get(content, "checks");
    const json_t *group = json_object_get(content, "attempt");
    const char *result = text_of(group, "result");
    size_t failed = count_verdicts(checks, "failed", false);
    size_t required = count_verdicts(checks, NULL, true), required_passed = count_verdicts(checks, "passed", true);
    size_t before = enter(place, ".attempt.result");

    if (strcmp(result, "passed") == 0) {
        if (required == 0)
            return refuse(place, "is passed without any required check");
        if (required_passed < required)
            return refuse(place, "is passed but %zu of %zu required checks are not", required - required_passed,
                          required);
        if (failed > 0)
            return refuse(place, "is passed but %zu checks are failed", failed);
        if (json_is_null(json_object_get(content, "restore")) || json_is_null(json_object_get(content, "sandbox")))
            return refuse(place, "is passed without a restore in a sandbox");
    } else {
        if (strcmp(result, "failed") == 0 && failed == 0)
            return refuse(place, "is failed but no check is");
        if (json_is_null(json_object_get(group, "reason")))
            return refuse(place, "is %s without reason", result);
    }
    place->path[before] = 0;
    return true;
}

static bool
check_state(struct place *place, const json_t *content)
{
    const json_t *group = json_object_get(content, "backup");
    const char *result = text_of(json_object_get(content, "attempt"), "result");
    const char *old_state = text_of(group, "state_before"), *state = text_of(group, "state_after");
    bool fits;
    size_t before = enter(place, ".backup.state_after");

    if (strcmp(result, "passed") == 0)
        fits = strcmp(state, "proven") == 0;
    else if (strcmp(result, "failed") == 0)
        fits = strcmp(state, "failed") == 0 || strcmp(state, "damaged") == 0;
    else
        fits = strcmp(state, old_state) == 0;
    if (!fits)
        return refuse(place, "is %s after %s, which cannot follow from an attempt that is %s", state, old_state,
                      result);
    place->path[before] = 0;
    return true;
}

static bool
check_controls(struct place *place, const json_t *content, const json_t *by_id)
{
    const json_t *controls = json_object_get(content, "controls");

    for (size_t i = 0; i < json_array_size(controls); i++) {
        const json_t *entry = json_array_get(controls, i);
        const json_t *because = json_object_get(entry, "because");
        bool passed = strcmp(text_of(entry, "verdict"), "passed") == 0;
        size_t before = enter(place, ".controls[%zu].because", i);

        if (passed && json_array_size(because) == 0)
            return refuse(place, "is empty although the control is passed");
        for (size_t j = 0; j < json_array_size(because); j++) {
            const char *id = json_string_value(json_array_get(because, j));
            const json_t *reason = json_object_get(by_id, id);
            if (reason == NULL)
                return refuse(place, "names check \"%s\", which there is not", id);
            if (passed && strcmp(text_of(reason, "verdict"), "passed") != 0)
                return refuse(place, "names check \"%s\", which is not passed as the control is", id);
        }
        place->path[before] = 0;
    }
    return true;
}

static bool
check_targets(struct place *place, const json_t *content)
{
    return check_target(place, content, "rto_target_s", "time_to_recover_ms", "rto_target_met") &&
           check_target(place, content, "rpo_target_s", "data_loss_window_ms", "rpo_target_met");
}

static bool
check_target(struct place *place, const json_t *content, const char *target, const char *measured, const char *met)
{
    const json_t *group = json_object_get(content, "rto_rpo");
    const json_t *target_s = json_object_get(json_object_get(content, "policy"), target);
    const json_t *measured_ms = json_object_get(group, measured);
    const json_t *said = json_object_get(group, met);

    if (!json_is_boolean(said))
        return true;
    size_t before = enter(place, ".rto_rpo.%s", met);
    if (!json_is_integer(target_s) || !json_is_integer(measured_ms))
        return refuse(place, "is known although the target or what was measured is not");
    // In seconds, rounded up: a target times 1000 could be too large.
    int64_t needed_s = json_integer_value(measured_ms) / 1000 + (json_integer_value(measured_ms) % 1000 > 0);
    if (json_is_true(said) != (needed_s <= json_integer_value(target_s)))
        return refuse(place, "is %s, which does not follow from %lld ms against %lld s",
                      json_is_true(said) ? "true" : "false", (long long)json_integer_value(measured_ms),
                      (long long)json_integer_value(target_s));
    place->path[before] = 0;
    return true;
}

/* How many checks have that verdict, or any when it is NULL. */
static size_t
count_verdicts(const json_t *checks, const char *verdict, bool required_only)
{
    size_t count = 0;

    for (size_t i = 0; i < json_array_size(checks); i++) {
        const json_t *entry = json_array_get(checks, i);
        if (required_only && !json_is_true(json_object_get(entry, "required")))
            continue;
        count += verdict == NULL || strcmp(text_of(entry, "verdict"), verdict) == 0;
    }
    return count;
}

static const char *
text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

/* One step into the document for messages; returns where to cut the path when leaving.  A path too long is cut. */
static size_t
enter(struct place *place, const char *format, ...)
{
    size_t before = strlen(place->path);
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(place->path + before, sizeof place->path - before, format, arguments);
    va_end(arguments);
    return before;
}

static bool
refuse(struct place *place, const char *format, ...)
{
    char reason[HF_ERROR_MESSAGE_BYTES];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof reason, format, arguments);
    va_end(arguments);
    if (place->path[0] == 0)
        return hf_fail(place->err, place->kind, "%s %s", place->what, reason);
    return hf_fail(place->err, place->kind, "%s: \"%s\" %s", place->what, place->path + 1, reason);
}
