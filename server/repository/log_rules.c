#include "server/repository/log_rules.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/repository/vault_state.h"

/* One entry under judgement. */
struct trial {
    const struct hf_vault_state *state; // borrowed
    const struct hf_log_entry *entry;   // borrowed
    const char *what;                   // "PRUNE"
    struct log_ruling *ruling;
};

typedef bool rule(const struct trial *trial, struct hf_error *err);

static rule judge_nothing, judge_intent, judge_commit, judge_close, judge_epoch, judge_pin, judge_unpin, judge_prune,
    judge_condemn, judge_delete, judge_relocate, judge_keep, judge_release, judge_key, judge_shred;

/* The table of log_rules.h. */
static const struct {
    rule *judge;
    bool by_holder;
    bool not_shredded;
} rules[] = {
    [HF_LOG_LINEAGE] = {judge_nothing, false, false},
    [HF_LOG_INTENT] = {judge_intent, true, true},
    [HF_LOG_COMMIT] = {judge_commit, true, true},
    [HF_LOG_END] = {judge_close, false, false},
    [HF_LOG_ABORT] = {judge_close, false, false},
    [HF_LOG_EPOCH] = {judge_epoch, false, false},
    [HF_LOG_PIN] = {judge_pin, false, true},
    [HF_LOG_UNPIN] = {judge_unpin, false, false},
    [HF_LOG_PRUNE] = {judge_prune, true, false},
    [HF_LOG_CONDEMN] = {judge_condemn, true, false},
    [HF_LOG_DELETE] = {judge_delete, true, false},
    [HF_LOG_RELOCATE] = {judge_relocate, true, false},
    [HF_LOG_HOLD] = {judge_keep, false, true},
    [HF_LOG_RELEASE] = {judge_release, true, false},
    [HF_LOG_LOCK] = {judge_keep, false, true},
    [HF_LOG_KEY] = {judge_key, true, false},
    [HF_LOG_SHRED] = {judge_shred, true, false},
    [HF_LOG_POLICY] = {judge_nothing, false, false},
    [HF_LOG_VERDICT] = {judge_nothing, false, false},
    [HF_LOG_GAP] = {judge_nothing, false, false},
    [HF_LOG_CHECKPOINT] = {judge_nothing, false, false},
};

static void refuse(const struct trial *trial, const char *format, ...) HF_PRINTF(2, 3);
static bool is_open_session(const struct trial *trial, const struct hf_id *id,
                            const struct hf_vault_session **ret_session);
static bool by_owner_or_holder(const struct trial *trial, const struct hf_id *owner);
static bool is_kept_backup(const struct trial *trial, const struct hf_id *id);
static bool judge_pruning_stretches(const struct trial *trial, const struct hf_id *ids, size_t count,
                                    struct hf_error *err);
static void judge_pruning_one(const struct trial *trial, const struct hf_id *id);
static bool packs_of(const struct trial *trial, int column, struct hf_id **ret, size_t *ret_count,
                     struct hf_error *err);
static void judge_unique(const struct trial *trial, const struct hf_id *ids, size_t count);
static const struct hf_vault_backup *backup_of_commit(const struct hf_vault_state *state, uint64_t sequence);
static bool objects_match(const struct trial *trial, const struct hf_id *objects, size_t count,
                          const struct hf_id *used, size_t used_count);
static int by_id(const void *a, const void *b);

bool
log_rules_judge(const struct hf_vault_state *state, const struct hf_log_entry *entry, struct log_ruling *ret,
                struct hf_error *err)
{
    *ret = (struct log_ruling){.counts = true};
    const struct trial trial = {state, entry, hf_log_kind_name(entry->kind), ret};
    assert((size_t)entry->kind < HF_LENGTH(rules) && rules[entry->kind].judge != NULL);

    if (entry->epoch < state->epoch) {
        refuse(&trial, "another appliance took the vault over");
        return true;
    }
    if (entry->kind != HF_LOG_EPOCH && entry->epoch != state->epoch)
        refuse(&trial, "its writer epoch is %" PRIu64 ", the vault's is %" PRIu64, entry->epoch, state->epoch);
    if (rules[entry->kind].not_shredded && state->shredded)
        refuse(&trial, "the vault is shredded");
    if (rules[entry->kind].by_holder && !hf_id_is_none(&state->holder) &&
        !hf_id_equal(&state->holder, &entry->appliance)) {
        char text[HF_ID_TEXT_BYTES];
        refuse(&trial, "appliance \"%s\" took the vault over", hf_id_format(&state->holder, text));
    }
    return rules[entry->kind].judge(&trial, err);
}

bool
log_rules_ids(const json_t *object, const char *member, const char *what, int column, struct hf_id **ret,
              size_t *ret_count, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(object, member, what, &rows, err))
        return false;
    const size_t count = json_array_size(rows);
    _cleanup_(hf_freep) struct hf_id *ids = calloc(count + 1, sizeof *ids);
    if (ids == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(rows, i);
        const char *text = json_string_value(column < 0 ? row : json_array_get(row, (size_t)column));
        if (text == NULL || !hf_id_parse(text, &ids[i], NULL))
            return hf_fail(err, HF_ERR_CORRUPT, "%s: a row of \"%s\" is no id", what, member);
    }
    if (count > 0)
        qsort(ids, count, sizeof *ids, by_id);
    *ret = HF_TAKE(ids);
    *ret_count = count;
    return true;
}

bool
log_rules_release(const json_t *said, struct hf_id *ret_backup, uint64_t *ret_hold, struct hf_error *err)
{
    const json_t *named = json_object_get(said, "hold");
    int64_t hold = 0;
    if (!hf_json_id(said, "backup", "RELEASE", ret_backup, err) ||
        (named != NULL && !json_is_null(named) &&
         !hf_json_integer(said, "hold", "RELEASE", 1, HF_JSON_INTEGER_MOST, &hold, err)))
        return false;
    *ret_hold = (uint64_t)hold;
    return true;
}

bool
log_rules_releases(const struct hf_id *backup, uint64_t hold, const struct hf_vault_hold *of)
{
    return hf_id_equal(&of->backup, backup) && (hold == 0 || of->sequence == hold);
}

static bool
judge_nothing(const struct trial *trial, struct hf_error *err)
{
    (void)trial;
    (void)err;
    return true;
}

static bool
judge_intent(const struct trial *trial, struct hf_error *err)
{
    size_t count;
    struct hf_id session, builds_on;
    const char *operation;
    _cleanup_(hf_freep) struct hf_id *parents = NULL;
    const json_t *before = json_object_get(trial->entry->public_part, "builds_on");
    if (!hf_json_id(trial->entry->public_part, "session", trial->what, &session, err) ||
        !hf_json_string(trial->entry->public_part, "operation", trial->what, &operation, err) ||
        !log_rules_ids(trial->entry->public_part, "parents", trial->what, -1, &parents, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        (void)is_kept_backup(trial, &parents[i]);
    judge_unique(trial, parents, count);
    if (before == NULL || json_is_null(before))
        return true;
    const struct hf_vault_session *continued;
    if (!hf_json_id(trial->entry->public_part, "builds_on", trial->what, &builds_on, err))
        return false;
    if (is_open_session(trial, &builds_on, &continued) && !hf_id_equal(&continued->appliance, &trial->entry->appliance))
        refuse(trial, "the session it continues is another appliance's");
    return true;
}

static bool
judge_commit(const struct trial *trial, struct hf_error *err)
{
    struct hf_id id, parent = HF_ID_NONE;
    const struct hf_vault_session *session;
    const json_t *said = trial->entry->public_part, *from = json_object_get(said, "parent");
    const bool is_stretch = json_object_get(said, "stretch") != NULL;
    if (!hf_json_id(said, "session", trial->what, &id, err) ||
        (!is_stretch && !json_is_null(from) && !hf_json_id(said, "parent", trial->what, &parent, err)))
        return false;
    if (!is_open_session(trial, &id, &session))
        return true;
    if (session->collects)
        refuse(trial, "its session is a collection");
    if (session->is_stream != is_stretch)
        refuse(trial, session->is_stream ? "its session is a stream's" : "its session is no stream's");
    if (!hf_id_equal(&session->appliance, &trial->entry->appliance))
        refuse(trial, "its session is another appliance's");
    bool named = hf_id_is_none(&parent);
    for (size_t i = 0; i < session->parent_count && !named; i++)
        named = hf_id_equal(&session->parents[i], &parent);
    if (!named)
        refuse(trial, "its INTENT does not name its parent");
    return true;
}

static bool
judge_close(const struct trial *trial, struct hf_error *err)
{
    struct hf_id id;
    const struct hf_vault_session *session;
    if (!hf_json_id(trial->entry->public_part, "session", trial->what, &id, err))
        return false;
    if (!is_open_session(trial, &id, &session))
        return true;
    if (!by_owner_or_holder(trial, &session->appliance))
        refuse(trial, "the session is another appliance's");
    for (size_t i = 0; i < trial->state->session_count; i++)
        if (trial->state->sessions[i].state == HF_SESSION_OPEN &&
            hf_id_equal(&trial->state->sessions[i].builds_on, &id))
            refuse(trial, "an open session builds on it");
    return true;
}

static bool
judge_epoch(const struct trial *trial, struct hf_error *err)
{
    int64_t epoch;
    if (!hf_json_integer(trial->entry->public_part, "epoch", trial->what, 1, HF_JSON_INTEGER_MOST, &epoch, err))
        return false;
    if ((uint64_t)epoch <= trial->state->epoch)
        refuse(trial, "the vault has epoch %" PRIu64 " already", trial->state->epoch);
    if ((uint64_t)epoch != trial->entry->epoch)
        refuse(trial, "it was not written in its own epoch");
    return true;
}

static const struct hf_vault_pin *
find_pin(const struct hf_vault_state *state, const struct hf_id *reader, const struct hf_id *backup)
{
    for (size_t i = 0; i < state->pin_count; i++)
        if (hf_id_equal(&state->pins[i].reader, reader) && hf_id_equal(&state->pins[i].backup, backup))
            return &state->pins[i];
    return NULL;
}

static bool
judge_pin(const struct trial *trial, struct hf_error *err)
{
    struct hf_id reader, backup;
    if (!hf_json_id(trial->entry->public_part, "reader", trial->what, &reader, err) ||
        !hf_json_id(trial->entry->public_part, "backup", trial->what, &backup, err))
        return false;
    if (is_kept_backup(trial, &backup) && find_pin(trial->state, &reader, &backup) != NULL)
        refuse(trial, "the reader has pinned it before");
    return true;
}

static bool
judge_unpin(const struct trial *trial, struct hf_error *err)
{
    struct hf_id reader, backup;
    if (!hf_json_id(trial->entry->public_part, "reader", trial->what, &reader, err) ||
        !hf_json_id(trial->entry->public_part, "backup", trial->what, &backup, err))
        return false;
    const struct hf_vault_pin *pin = find_pin(trial->state, &reader, &backup);
    if (pin == NULL)
        refuse(trial, "there is no such pin");
    else if (!by_owner_or_holder(trial, &pin->appliance))
        refuse(trial, "the pin is another appliance's");
    return true;
}

static bool
judge_prune(const struct trial *trial, struct hf_error *err)
{
    size_t count;
    const char *reason;
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    const bool of_stream = json_object_get(trial->entry->public_part, "stretches") != NULL;
    if (!log_rules_ids(trial->entry->public_part, of_stream ? "stretches" : "backups", trial->what, -1, &ids, &count,
                       err) ||
        !hf_json_string(trial->entry->public_part, "reason", trial->what, &reason, err))
        return false;
    if (count == 0)
        refuse(trial, "it names nothing");
    judge_unique(trial, ids, count);
    for (size_t i = 0; !of_stream && i < count; i++)
        judge_pruning_one(trial, &ids[i]);
    return !of_stream || judge_pruning_stretches(trial, ids, count, err);
}

/* The ids are sorted, the stretches are not, and there may be very many of both. */
static bool
judge_pruning_stretches(const struct trial *trial, const struct hf_id *ids, size_t count, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state = trial->state;
    _cleanup_(hf_freep) bool *found = calloc(count + 1, sizeof *found);
    if (found == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of stretches");
    for (size_t i = 0; i < state->stretch_count; i++) {
        const struct hf_id *named = bsearch(&state->stretches[i].stretch, ids, count, sizeof *ids, hf_id_compare);
        if (named == NULL)
            continue;
        found[named - ids] = true;
        if (state->stretches[i].pruned)
            refuse(trial, "stretch \"%s\" is pruned", hf_id_format(named, text));
    }
    for (size_t i = 0; i < count; i++)
        if (!found[i])
            refuse(trial, "there is no stretch \"%s\"", hf_id_format(&ids[i], text));
    return true;
}

static void
judge_pruning_one(const struct trial *trial, const struct hf_id *id)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state = trial->state;
    if (!is_kept_backup(trial, id))
        return;
    hf_id_format(id, text);
    for (size_t i = 0; i < state->session_count; i++)
        for (size_t parent = 0; state->sessions[i].state == HF_SESSION_OPEN && parent < state->sessions[i].parent_count;
             parent++)
            if (hf_id_equal(&state->sessions[i].parents[parent], id))
                refuse(trial, "an open session builds on backup \"%s\"", text);
    for (size_t i = 0; i < state->pin_count; i++)
        if (hf_id_equal(&state->pins[i].backup, id))
            refuse(trial, "backup \"%s\" is pinned by a reader", text);
    if (hf_vault_state_held(state, id, trial->entry->time))
        refuse(trial, "backup \"%s\" is kept by a hold or a lock", text);
}

static bool
judge_condemn(const struct trial *trial, struct hf_error *err)
{
    size_t count;
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_freep) struct hf_id *packs = NULL;
    if (!packs_of(trial, -1, &packs, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct hf_vault_pack *pack = hf_vault_state_pack(trial->state, &packs[i]);
        hf_id_format(&packs[i], text);
        if (pack == NULL) {
            refuse(trial, "there is no pack \"%s\"", text);
            continue;
        }
        const struct hf_vault_backup *brought = backup_of_commit(trial->state, pack->sequence);
        const struct hf_vault_stretch *stretch = hf_vault_state_stretch(trial->state, pack->sequence);
        if (pack->condemned != 0)
            refuse(trial, "pack \"%s\" is condemned already", text);
        if (stretch != NULL ? !stretch->pruned : brought == NULL || !brought->pruned)
            refuse(trial, "the %s that brought pack \"%s\" is kept", stretch != NULL ? "stretch" : "backup", text);
    }
    return true;
}

static bool
judge_delete(const struct trial *trial, struct hf_error *err)
{
    size_t count;
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_freep) struct hf_id *packs = NULL;
    const uint64_t oldest = vault_state_oldest_open(trial->state);
    if (!packs_of(trial, -1, &packs, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct hf_vault_pack *pack = hf_vault_state_pack(trial->state, &packs[i]);
        hf_id_format(&packs[i], text);
        if (pack == NULL || pack->condemned == 0)
            refuse(trial, "pack \"%s\" is not condemned", text);
        else if (oldest < pack->condemned)
            refuse(trial, "a session or a reader from before pack \"%s\" was condemned is still there", text);
    }
    return true;
}

/* The packs of CONDEMN and DELETE, judged as far as they are judged alike. */
static bool
packs_of(const struct trial *trial, int column, struct hf_id **ret, size_t *ret_count, struct hf_error *err)
{
    const char *reason;
    if (!log_rules_ids(trial->entry->public_part, "packs", trial->what, column, ret, ret_count, err) ||
        (column < 0 && !hf_json_string(trial->entry->public_part, "reason", trial->what, &reason, err)))
        return false;
    if (*ret_count == 0)
        refuse(trial, "it names nothing");
    judge_unique(trial, *ret, *ret_count);
    return true;
}

static bool
judge_relocate(const struct trial *trial, struct hf_error *err)
{
    struct hf_id id;
    size_t count, object_count, target_count;
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_session *session;
    _cleanup_(hf_freep) struct hf_id *packs = NULL, *targets = NULL, *objects = NULL;
    if (!hf_json_id(trial->entry->public_part, "session", trial->what, &id, err) ||
        !packs_of(trial, 0, &packs, &count, err) ||
        !log_rules_ids(trial->entry->public_part, "packs", trial->what, 1, &targets, &target_count, err) ||
        !log_rules_ids(trial->entry->public_part, "objects", trial->what, 0, &objects, &object_count, err))
        return false;
    if (is_open_session(trial, &id, &session)) {
        if (!session->collects)
            refuse(trial, "its session is no collection");
        if (!hf_id_equal(&session->appliance, &trial->entry->appliance))
            refuse(trial, "its session is another appliance's");
    }
    for (size_t i = 0; i < count; i++) {
        const struct hf_vault_pack *pack = hf_vault_state_pack(trial->state, &packs[i]);
        hf_id_format(&packs[i], text);
        if (pack == NULL)
            refuse(trial, "there is no pack \"%s\"", text);
        else if (pack->condemned != 0)
            refuse(trial, "pack \"%s\" is condemned", text);
    }
    judge_unique(trial, objects, object_count);
    for (size_t i = 0; i < object_count; i++)
        if (hf_vault_state_object(trial->state, &objects[i]) != NULL ||
            hf_vault_state_pack(trial->state, &objects[i]) != NULL)
            refuse(trial, "object \"%s\" is not new", hf_id_format(&objects[i], text));
    if (!objects_match(trial, objects, object_count, targets, target_count))
        refuse(trial, "the objects it lists are not those its packs go to");
    return true;
}

/* Both sorted; `used` may name one several times. */
static bool
objects_match(const struct trial *trial, const struct hf_id *objects, size_t count, const struct hf_id *used,
              size_t used_count)
{
    (void)trial;
    size_t at = 0;
    for (size_t i = 0; i < used_count; i++) {
        if (i > 0 && hf_id_equal(&used[i], &used[i - 1]))
            continue;
        if (at == count || !hf_id_equal(&objects[at++], &used[i]))
            return false;
    }
    return at == count;
}

/* HOLD and LOCK. */
static bool
judge_keep(const struct trial *trial, struct hf_error *err)
{
    struct hf_id backup;
    int64_t until;
    const json_t *said = trial->entry->public_part, *end = json_object_get(said, "until");
    const bool open_end = trial->entry->kind == HF_LOG_HOLD && (end == NULL || json_is_null(end));
    if (!hf_json_id(said, "backup", trial->what, &backup, err) ||
        (!open_end && !hf_json_integer(said, "until", trial->what, 0, HF_JSON_INTEGER_MOST, &until, err)))
        return false;
    (void)is_kept_backup(trial, &backup);
    return true;
}

static bool
judge_release(const struct trial *trial, struct hf_error *err)
{
    struct hf_id backup;
    uint64_t hold;
    bool found = false;
    if (!log_rules_release(trial->entry->public_part, &backup, &hold, err))
        return false;
    for (size_t i = 0; i < trial->state->hold_count && !found; i++)
        found = log_rules_releases(&backup, hold, &trial->state->holds[i]);
    if (!found)
        refuse(trial, hold == 0 ? "the backup has no hold" : "the backup has no hold %" PRIu64, hold);
    return true;
}

static bool
judge_key(const struct trial *trial, struct hf_error *err)
{
    int64_t generation;
    if (!hf_json_integer(trial->entry->public_part, "generation", trial->what, 1, UINT32_MAX, &generation, err))
        return false;
    if ((uint64_t)generation <= trial->state->key_generation)
        refuse(trial, "the keys have generation %" PRIu32 " already", trial->state->key_generation);
    return true;
}

static bool
judge_shred(const struct trial *trial, struct hf_error *err)
{
    int64_t generation;
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state = trial->state;
    if (!hf_json_integer(trial->entry->public_part, "generation", trial->what, 1, UINT32_MAX, &generation, err))
        return false;
    for (size_t i = 0; i < state->session_count; i++)
        if (state->sessions[i].state == HF_SESSION_OPEN)
            refuse(trial, "a session is open");
    if (state->pin_count > 0)
        refuse(trial, "backup \"%s\" is pinned by a reader", hf_id_format(&state->pins[0].backup, text));
    for (size_t i = 0; i < state->backup_count; i++)
        if (!state->backups[i].pruned && hf_vault_state_held(state, &state->backups[i].backup, trial->entry->time))
            refuse(trial, "backup \"%s\" is kept by a hold or a lock", hf_id_format(&state->backups[i].backup, text));
    return true;
}

/* The first reason stands. */
static void
refuse(const struct trial *trial, const char *format, ...)
{
    if (!trial->ruling->counts)
        return;
    trial->ruling->counts = false;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(trial->ruling->why, sizeof trial->ruling->why, format, arguments);
    va_end(arguments);
}

static bool
is_open_session(const struct trial *trial, const struct hf_id *id, const struct hf_vault_session **ret_session)
{
    static const char *const closed[] = {[HF_SESSION_COMMITTED] = "has committed",
                                         [HF_SESSION_ENDED] = "has ended",
                                         [HF_SESSION_ABORTED] = "was aborted"};
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_session *session = hf_vault_state_session(trial->state, id);
    if (session == NULL)
        refuse(trial, "there is no session \"%s\"", hf_id_format(id, text));
    else if (session->state != HF_SESSION_OPEN)
        refuse(trial, "session \"%s\" %s", hf_id_format(id, text), closed[session->state]);
    if (session == NULL || session->state != HF_SESSION_OPEN)
        return false;
    *ret_session = session;
    return true;
}

static bool
by_owner_or_holder(const struct trial *trial, const struct hf_id *owner)
{
    return hf_id_equal(&trial->entry->appliance, owner) || hf_id_equal(&trial->entry->appliance, &trial->state->holder);
}

static bool
is_kept_backup(const struct trial *trial, const struct hf_id *id)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_backup *backup = hf_vault_state_backup(trial->state, id);
    if (backup == NULL)
        refuse(trial, "there is no backup \"%s\"", hf_id_format(id, text));
    else if (backup->pruned)
        refuse(trial, "backup \"%s\" is pruned", hf_id_format(id, text));
    return backup != NULL && !backup->pruned;
}

static void
judge_unique(const struct trial *trial, const struct hf_id *ids, size_t count)
{
    char text[HF_ID_TEXT_BYTES];
    for (size_t i = 1; i < count; i++)
        if (hf_id_equal(&ids[i], &ids[i - 1]))
            refuse(trial, "it names \"%s\" twice", hf_id_format(&ids[i], text));
}

static const struct hf_vault_backup *
backup_of_commit(const struct hf_vault_state *state, uint64_t sequence)
{
    size_t low = 0, high = state->backup_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (state->backups[middle].sequence == sequence)
            return &state->backups[middle];
        if (state->backups[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int
by_id(const void *a, const void *b)
{
    return hf_id_compare(a, b);
}
