#include "server/repository/vault_state.h"

#include <string.h>

#include "server/repository/pack.h"

static bool apply_lineage(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool apply_intent(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool apply_close(struct hf_vault_state *state, const struct hf_log_entry *entry, enum hf_session_state to,
                        struct hf_error *err);
static bool apply_commit(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool read_backup(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err);
static bool read_sealed(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err);
static bool add_packs(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_vault_backup *backup,
                      struct hf_error *err);
static bool read_pack(const json_t *row, struct hf_vault_pack *ret, struct hf_error *err);
static bool apply_epoch(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool apply_prune(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool apply_delete(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static struct hf_vault_session *find_session(const struct hf_vault_state *state, const struct hf_id *session);
static bool copy_member(const json_t *object, const char *member, char **ret, struct hf_error *err);
static void *grow(void *array, size_t count, size_t size);

bool
vault_state_new(struct hf_vault_state **ret, struct hf_error *err)
{
    *ret = calloc(1, sizeof **ret);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
}

void
hf_vault_state_freep(struct hf_vault_state **state)
{
    if (*state == NULL)
        return;
    for (size_t i = 0; i < (*state)->backup_count; i++) {
        free((*state)->backups[i].source);
        free((*state)->backups[i].facts);
    }
    free((*state)->backups);
    free((*state)->sessions);
    free((*state)->packs);
    free((*state)->engine);
    free((*state)->identity);
    free((*state)->name);
    free(*state);
    *state = NULL;
}

const struct hf_vault_backup *
hf_vault_state_backup(const struct hf_vault_state *state, const struct hf_id *backup)
{
    for (size_t i = 0; i < state->backup_count; i++)
        if (hf_id_equal(&state->backups[i].backup, backup))
            return &state->backups[i];
    return NULL;
}

const struct hf_vault_pack *
hf_vault_state_pack(const struct hf_vault_state *state, const struct hf_id *pack)
{
    size_t low = 0, high = state->pack_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = hf_id_compare(&state->packs[middle].pack, pack);
        if (order == 0)
            return &state->packs[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

bool
vault_state_session_brought(const struct hf_vault_state *state, const struct hf_id *by, const struct hf_id *session)
{
    struct hf_id at = *by;
    /* A session is continued by a later one, so each step goes to an earlier row: no walk is longer than the list. */
    for (size_t steps = 0; steps <= state->session_count && !hf_id_is_none(&at); steps++) {
        if (hf_id_equal(&at, session))
            return true;
        const struct hf_vault_session *found = find_session(state, &at);
        at = found != NULL ? found->builds_on : HF_ID_NONE;
    }
    return false;
}

bool
vault_lineage_hash(const char *engine, const char *identity, char text[static 2 * HF_SHA256_BYTES + 1],
                   struct hf_error *err)
{
    uint8_t digest[HF_SHA256_BYTES];
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    if (!hf_sha256_new(&running, err))
        return false;
    hf_sha256_add(running, engine, strlen(engine) + 1);
    hf_sha256_add(running, identity, strlen(identity));
    hf_sha256_end(running, digest);
    hf_hex_format(digest, sizeof digest, text);
    return true;
}

bool
vault_state_apply(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    /* Void, for every reader, for ever.  (A COMMIT must moreover be of just this epoch: apply_commit.) */
    if (entry->epoch < state->epoch)
        return true;
    bool ok = true;
    switch (entry->kind) {
    case HF_LOG_LINEAGE:
        ok = apply_lineage(state, entry, err);
        break;
    case HF_LOG_INTENT:
        ok = apply_intent(state, entry, err);
        break;
    case HF_LOG_COMMIT:
        ok = apply_commit(state, entry, err);
        break;
    case HF_LOG_END:
        ok = apply_close(state, entry, HF_SESSION_ENDED, err);
        break;
    case HF_LOG_ABORT:
        ok = apply_close(state, entry, HF_SESSION_ABORTED, err);
        break;
    case HF_LOG_EPOCH:
        ok = apply_epoch(state, entry, err);
        break;
    case HF_LOG_PRUNE:
        ok = apply_prune(state, entry, err);
        break;
    case HF_LOG_DELETE:
        ok = apply_delete(state, entry, err);
        break;
    case HF_LOG_PIN:
    case HF_LOG_UNPIN:
    case HF_LOG_CONDEMN:
    case HF_LOG_RELOCATE:
    case HF_LOG_HOLD:
    case HF_LOG_RELEASE:
    case HF_LOG_LOCK:
    case HF_LOG_KEY:
    case HF_LOG_SHRED:
    case HF_LOG_POLICY:
    case HF_LOG_VERDICT:
    case HF_LOG_GAP:
    case HF_LOG_CHECKPOINT:
        break; // they say nothing about which bytes count
    }
    return ok || hf_fail_within(err, "log entry %llu", (unsigned long long)entry->sequence);
}

static bool
apply_lineage(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    const char *lineage;
    char hash[2 * HF_SHA256_BYTES + 1];
    if (state->engine != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "a second LINEAGE");
    _cleanup_(hf_freep) char *engine = NULL, *identity = NULL, *name = NULL;
    if (!copy_member(entry->public_part, "engine", &engine, err) ||
        !hf_json_string(entry->public_part, "lineage", "LINEAGE", &lineage, err) ||
        (entry->sealed_part != NULL &&
         (!copy_member(entry->sealed_part, "identity", &identity, err) ||
          !copy_member(entry->sealed_part, "name", &name, err) || !vault_lineage_hash(engine, identity, hash, err))))
        return false;
    if (entry->sealed_part != NULL && strcmp(lineage, hash) != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "its lineage is not the hash of engine and identity");
    state->engine = HF_TAKE(engine);
    state->identity = HF_TAKE(identity);
    state->name = HF_TAKE(name);
    return true;
}

static bool
apply_intent(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_vault_session session = {.state = HF_SESSION_OPEN,
                                       .sequence = entry->sequence,
                                       .started_at = entry->time,
                                       .appliance = entry->appliance};
    const json_t *builds_on = json_object_get(entry->public_part, "builds_on");
    if (!hf_json_id(entry->public_part, "session", "INTENT", &session.session, err) ||
        (builds_on != NULL && !json_is_null(builds_on) &&
         !hf_json_id(entry->public_part, "builds_on", "INTENT", &session.builds_on, err)))
        return false;
    if (find_session(state, &session.session) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "a second INTENT of one session");
    struct hf_vault_session *grown = grow(state->sessions, state->session_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for sessions");
    state->sessions = grown;
    state->sessions[state->session_count++] = session;
    return true;
}

static bool
apply_close(struct hf_vault_state *state, const struct hf_log_entry *entry, enum hf_session_state to,
            struct hf_error *err)
{
    struct hf_id id;
    if (!hf_json_id(entry->public_part, "session", hf_log_kind_name(entry->kind), &id, err))
        return false;
    struct hf_vault_session *session = find_session(state, &id);
    if (session != NULL && session->state == HF_SESSION_OPEN)
        session->state = to;
    return true;
}

static bool
apply_commit(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_vault_backup backup = {.committed_at = entry->time, .sequence = entry->sequence};
    if (!read_backup(entry, &backup, err))
        return false;
    struct hf_vault_session *session = find_session(state, &backup.session);
    if (session == NULL || session->state != HF_SESSION_OPEN || entry->epoch != state->epoch)
        return true; // void, for every reader, for ever
    if (hf_vault_state_backup(state, &backup.backup) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "a second COMMIT of one backup");

    struct hf_vault_backup *grown = grow(state->backups, state->backup_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for backups");
    state->backups = grown;
    if ((entry->sealed_part != NULL && !read_sealed(entry, &backup, err)) || !add_packs(state, entry, &backup, err)) {
        free(backup.source);
        free(backup.facts);
        return false;
    }
    session->state = HF_SESSION_COMMITTED;
    state->backups[state->backup_count++] = backup;
    return true;
}

static bool
read_backup(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err)
{
    json_t *root;
    int64_t slab, index;
    const json_t *parent = json_object_get(entry->public_part, "parent");
    if (!hf_json_id(entry->public_part, "session", "COMMIT", &ret->session, err) ||
        !hf_json_id(entry->public_part, "backup", "COMMIT", &ret->backup, err) ||
        !hf_json_object(entry->public_part, "root", "COMMIT", &root, err) ||
        !hf_json_id(root, "pack", "COMMIT", &ret->root_pack, err) ||
        !hf_json_integer(root, "slab", "COMMIT", 0, HF_PACK_SLABS_MOST, &slab, err) ||
        !hf_json_integer(root, "index", "COMMIT", 0, UINT32_MAX, &index, err))
        return false;
    ret->root_slab = (uint32_t)slab;
    ret->root_index = (uint32_t)index;
    return json_is_null(parent) || hf_json_id(entry->public_part, "parent", "COMMIT", &ret->parent, err);
}

static bool
read_sealed(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err)
{
    json_t *facts;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_FACTS_MOST);
    if (!copy_member(entry->sealed_part, "source", &ret->source, err) ||
        !hf_json_object(entry->sealed_part, "facts", "COMMIT", &facts, err) || !hf_json_canonical(facts, &text, err))
        return false;
    ret->facts = strdup(hf_buf_text(&text));
    return ret->facts != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a backup's facts");
}

static int
by_id(const void *a, const void *b)
{
    return hf_id_compare(&((const struct hf_vault_pack *)a)->pack, &((const struct hf_vault_pack *)b)->pack);
}

static bool
add_packs(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_vault_backup *backup,
          struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(entry->public_part, "packs", "COMMIT", &rows, err))
        return false;
    const size_t count = json_array_size(rows);
    struct hf_vault_pack *grown = realloc(state->packs, (state->pack_count + count + 1) * sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for packs");
    state->packs = grown;
    for (size_t i = 0; i < count; i++) {
        struct hf_vault_pack *pack = &state->packs[state->pack_count + i];
        *pack = (struct hf_vault_pack){.sequence = entry->sequence, .session = backup->session};
        if (!read_pack(json_array_get(rows, i), pack, err))
            return false;
        backup->stored_bytes += pack->bytes;
    }
    state->pack_count += count;
    if (state->pack_count > 0)
        qsort(state->packs, state->pack_count, sizeof *state->packs, by_id);
    for (size_t i = 1; i < state->pack_count; i++) {
        char text[HF_ID_TEXT_BYTES];
        if (hf_id_equal(&state->packs[i - 1].pack, &state->packs[i].pack))
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" was committed before",
                           hf_id_format(&state->packs[i].pack, text));
    }
    return true;
}

/* [id, kind, bytes, sha256] */
static bool
read_pack(const json_t *row, struct hf_vault_pack *ret, struct hf_error *err)
{
    const char *id = json_string_value(json_array_get(row, 0));
    const json_t *kind = json_array_get(row, 1), *bytes = json_array_get(row, 2);
    const char *hash = json_string_value(json_array_get(row, 3));
    if (json_array_size(row) != 4 || id == NULL || hash == NULL || !json_is_integer(kind) || !json_is_integer(bytes) ||
        json_integer_value(kind) < HF_PACK_DATA || json_integer_value(kind) > HF_PACK_RECORDS ||
        json_integer_value(bytes) < 0)
        return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a row of \"packs\" is not [id, kind, bytes, sha256]");
    ret->kind = (uint8_t)json_integer_value(kind);
    ret->bytes = (uint64_t)json_integer_value(bytes);
    return hf_id_parse(id, &ret->pack, err) && hf_hex_parse(hash, ret->sha256, sizeof ret->sha256, err);
}

static bool
apply_epoch(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    int64_t epoch;
    if (!hf_json_integer(entry->public_part, "epoch", "EPOCH", 1, INT64_MAX, &epoch, err))
        return false;
    if ((uint64_t)epoch > state->epoch)
        state->epoch = (uint64_t)epoch;
    return true;
}

static bool
apply_prune(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(entry->public_part, "backups", "PRUNE", &rows, err))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct hf_id id;
        const char *text = json_string_value(json_array_get(rows, i));
        if (text == NULL || !hf_id_parse(text, &id, err))
            return hf_fail(err, HF_ERR_CORRUPT, "PRUNE: a row of \"backups\" is no id");
        for (size_t backup = 0; backup < state->backup_count; backup++)
            if (hf_id_equal(&state->backups[backup].backup, &id))
                state->backups[backup].pruned = true;
    }
    return true;
}

static bool
apply_delete(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(entry->public_part, "packs", "DELETE", &rows, err))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct hf_id id;
        const char *text = json_string_value(json_array_get(rows, i));
        if (text == NULL || !hf_id_parse(text, &id, err))
            return hf_fail(err, HF_ERR_CORRUPT, "DELETE: a row of \"packs\" is no id");
        const struct hf_vault_pack *found = hf_vault_state_pack(state, &id);
        if (found == NULL)
            continue;
        const size_t at = (size_t)(found - state->packs);
        memmove(state->packs + at, state->packs + at + 1, (state->pack_count - at - 1) * sizeof *state->packs);
        state->pack_count--;
    }
    return true;
}

static struct hf_vault_session *
find_session(const struct hf_vault_state *state, const struct hf_id *session)
{
    for (size_t i = state->session_count; i-- > 0;)
        if (hf_id_equal(&state->sessions[i].session, session))
            return &state->sessions[i];
    return NULL;
}

static bool
copy_member(const json_t *object, const char *member, char **ret, struct hf_error *err)
{
    const char *text;
    if (!hf_json_string(object, member, "log entry", &text, err))
        return false;
    *ret = strdup(text);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
}

/* Room for one more, doubling at powers of two. */
static void *
grow(void *array, size_t count, size_t size)
{
    if (count > 0 && (count & (count - 1)) != 0)
        return array;
    return realloc(array, (count > 0 ? 2 * count : 1) * size);
}
