#include "server/job/process.h"

#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "catalog/view.h"
#include "server/job/key_records.h"

/* What is known of a source. */
struct subject {
    struct hf_id id;
    json_t *settings;
    char engine[128]; // version
    bool found, has_engine;
};

/* Backups that count for a change. */
struct proofs {
    int64_t after, count;
};

static bool keep_subject(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool keep_engine(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool gather_parts(struct hf_daemon *daemon, const struct subject *subject, struct hf_process_state *state,
                         struct hf_error *err);
static bool hash_settings(const json_t *settings, json_t **ret, struct hf_error *err);
static bool says_what_is_wanted(const char *setting);
static bool hash_slots(struct hf_daemon *daemon, json_t **ret, int64_t *ret_count, struct hf_error *err);
static int compare_slots(const void *a, const void *b);
static bool hash_json(const json_t *value, uint8_t ret[static HF_SHA256_BYTES], struct hf_error *err);
static bool list_changes(const json_t *before, const json_t *now, json_t *changed, struct hf_error *err);
static bool record_change(struct hf_daemon *daemon, const struct subject *subject, const char *source,
                          const struct hf_process_state *state, json_t **record, struct hf_error *err);
static bool count_proofs(struct hf_daemon *daemon, const char *source, int64_t after, int64_t *ret,
                         struct hf_error *err);
static bool count_proof(void *context, const struct hf_backup_row *row, struct hf_error *err);
static int64_t time_of(const json_t *record, const char *member);

void
hf_process_state_done(struct hf_process_state *state)
{
    hf_json_freep(&state->parts);
    hf_json_freep(&state->changed);
}

bool
hf_process_look(struct hf_daemon *daemon, const char *source, struct hf_process_state *ret, struct hf_error *err)
{
    _cleanup_(hf_process_state_done) struct hf_process_state state = {.unproven_since = -1, .proven_since = -1};
    _cleanup_(hf_json_freep) json_t *settings = NULL, *records = NULL, *record = NULL;
    struct subject subject = {.found = false};
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    char id[HF_ID_TEXT_BYTES];
    bool found;
    if (!hf_catalog_source(catalog, source, &found, keep_subject, &subject, err))
        return false;
    settings = subject.settings;
    if (!found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no source \"%s\"", source);
    if (!hf_catalog_newest_backup(catalog, source, NULL, &found, keep_engine, &subject, err) ||
        !gather_parts(daemon, &subject, &state, err) || !hf_key_records_load(daemon, HF_RECORD_PROCESS, &records, err))
        return false;
    record = json_incref(json_object_get(records, hf_id_format(&subject.id, id)));
    if (hf_records_can_sign(hf_daemon_records(daemon)) &&
        !record_change(daemon, &subject, source, &state, &record, err))
        return false;

    state.changed = json_incref(json_object_get(record, "changed"));
    if (state.changed == NULL && (state.changed = json_array()) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for source \"%s\"", source);
    const int64_t since = time_of(record, "since");
    if (since >= 0) {
        if (!count_proofs(daemon, source, time_of(record, "changed_at"), &state.proven_since, err))
            return false;
        state.unproven_since = state.proven_since < HF_PROCESS_PROOFS ? since : -1;
    }
    *ret = state;
    state = (struct hf_process_state){.parts = NULL};
    return true;
}

bool
hf_process_json(const struct hf_process_state *state, json_t **ret, struct hf_error *err)
{
    char since[HF_TIME_TEXT_BYTES];
    *ret = json_pack(
        "{s:o, s:O, s:o, s:o, s:o, s:i}", "fingerprint", hf_json_hex(state->fingerprint, sizeof state->fingerprint),
        "parts", state->parts, "unproven_since",
        state->unproven_since < 0 ? json_null() : json_string(hf_time_format(state->unproven_since, since)), "changed",
        state->unproven_since < 0 ? json_array() : json_incref(state->changed), "proven_since",
        state->proven_since < 0 ? json_null() : json_integer(state->proven_since), "needed", HF_PROCESS_PROOFS);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

static bool
keep_subject(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct subject *subject = context;
    subject->id = row->source;
    return hf_json_parse(row->settings, strlen(row->settings), "the recorded source", &subject->settings, err);
}

static bool
keep_engine(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct subject *subject = context;
    (void)err;
    subject->has_engine = row->server_version != NULL;
    snprintf(subject->engine, sizeof subject->engine, "%s", subject->has_engine ? row->server_version : "");
    return true;
}

static bool
gather_parts(struct hf_daemon *daemon, const struct subject *subject, struct hf_process_state *state,
             struct hf_error *err)
{
    json_t *settings, *slots;
    state->parts = json_object();
    if (state->parts == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a fingerprint");
    return hash_settings(subject->settings, &settings, err) && hf_json_set(state->parts, "settings", settings, err) &&
           hash_slots(daemon, &slots, &state->key_slots, err) && hf_json_set(state->parts, "key_slots", slots, err) &&
           hf_json_set(state->parts, "software", json_string(HF_VERSION), err) &&
           hf_json_set(state->parts, "engine",
                       subject->has_engine
                           ? hf_json_foreign_text(subject->engine, strlen(subject->engine), sizeof subject->engine)
                           : json_null(),
                       err) &&
           hash_json(state->parts, state->fingerprint, err);
}

static bool
hash_settings(const json_t *settings, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *kept = json_object();
    uint8_t hash[HF_SHA256_BYTES];
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)settings, name, value)
    {
        if (!says_what_is_wanted(name) && !hf_json_set(kept, name, json_incref(value), err))
            return false;
    }
    if (kept == NULL || !hash_json(kept, hash, err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a fingerprint");
    *ret = hf_json_hex(hash, sizeof hash);
    return true;
}

static bool
says_what_is_wanted(const char *setting)
{
    static const char *const names[] = {"tier", "backup_every", "verify_every", "verify_after_backup"};
    if (strncmp(setting, "objective.", 10) == 0 || strncmp(setting, "retention", 9) == 0)
        return true;
    for (size_t i = 0; i < HF_LENGTH(names); i++)
        if (strcmp(setting, names[i]) == 0)
            return true;
    return false;
}

static bool
hash_slots(struct hf_daemon *daemon, json_t **ret, int64_t *ret_count, struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(hf_daemon_records(daemon));
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_MOST];
    uint8_t ids[HF_SLOTS_MOST * HF_ID_BYTES], hash[HF_SHA256_BYTES];
    size_t count;
    if (!hf_slot_list(hf_repository_backend(repository), &id, slots, &count, err))
        return false;
    qsort(slots, count, sizeof *slots, compare_slots);
    for (size_t i = 0; i < count; i++)
        memcpy(ids + i * HF_ID_BYTES, slots[i].id.bytes, HF_ID_BYTES);
    hf_sha256(ids, count * HF_ID_BYTES, hash);
    *ret = hf_json_hex(hash, sizeof hash);
    *ret_count = (int64_t)count;
    return true;
}

static int
compare_slots(const void *a, const void *b)
{
    const struct hf_slot_info *left = a, *right = b;
    return hf_id_compare(&left->id, &right->id);
}

static bool
hash_json(const json_t *value, uint8_t ret[static HF_SHA256_BYTES], struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    if (!hf_json_canonical(value, &text, err))
        return false;
    hf_sha256(text.data, text.length, ret);
    return true;
}

/* What becomes known for the first time has not changed. */
static bool
list_changes(const json_t *before, const json_t *now, json_t *changed, struct hf_error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)now, name, value)
    {
        const json_t *old = json_object_get(before, name);
        if (!json_is_string(old) || !json_is_string(value) || json_equal((json_t *)(uintptr_t)old, value))
            continue;
        if (json_array_append_new(changed, json_string(name)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    }
    return true;
}

/* A change that comes before the last one was proven adds to it: the source is unproven since the first of them. */
static bool
record_change(struct hf_daemon *daemon, const struct subject *subject, const char *source,
              const struct hf_process_state *state, json_t **record, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *changed = json_array(), *next = NULL;
    const json_t *parts = json_object_get(*record, "parts");
    const int64_t now = hf_daemon_now(daemon);
    int64_t since = time_of(*record, "since"), proven = 0;
    size_t index;
    json_t *word;
    if (changed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    if (*record != NULL && json_equal((json_t *)(uintptr_t)parts, state->parts))
        return true;
    if (*record != NULL && !list_changes(parts, state->parts, changed, err))
        return false;
    const bool is_change = json_array_size(changed) > 0;
    if (is_change && since >= 0 && !count_proofs(daemon, source, time_of(*record, "changed_at"), &proven, err))
        return false;
    if (is_change && (since < 0 || proven >= HF_PROCESS_PROOFS)) {
        since = now;
    } else {
        json_array_foreach(json_object_get(*record, "changed"), index, word)
        {
            bool again = false;
            for (size_t i = 0; i < json_array_size(changed); i++)
                again = again || json_equal(json_array_get(changed, i), word);
            if (!again && json_array_append(changed, word) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
        }
    }
    const int64_t at = is_change || *record == NULL ? now : time_of(*record, "changed_at");
    next = json_pack("{s:s, s:O, s:I, s:o, s:O}", "source", source, "parts", state->parts, "changed_at", (json_int_t)at,
                     "since", since < 0 ? json_null() : json_integer(since), "changed", changed);
    if (next == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    if (!hf_key_record_put(daemon, HF_RECORD_PROCESS, &subject->id, next, err))
        return false;
    json_decref(*record);
    *record = HF_TAKE(next);
    return true;
}

static bool
count_proofs(struct hf_daemon *daemon, const char *source, int64_t after, int64_t *ret, struct hf_error *err)
{
    struct proofs proofs = {.after = after};
    if (!hf_catalog_backups(hf_daemon_catalog(daemon), source, true, count_proof, &proofs, err))
        return false;
    *ret = proofs.count;
    return true;
}

static bool
count_proof(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct proofs *proofs = context;
    (void)err;
    proofs->count += row->started_at >= proofs->after && row->state == HF_BACKUP_PROVEN;
    return true;
}

/* -1 when there is none. */
static int64_t
time_of(const json_t *record, const char *member)
{
    const json_t *value = json_object_get(record, member);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}
