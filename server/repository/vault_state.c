#include "server/repository/vault_state.h"

#include <string.h>

#include "base/lsn.h"
#include "server/repository/log_rules.h"
#include "server/repository/pack.h"

#define HISTORIES_MOST 1024 // in one stretch

typedef bool apply_function(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);

static apply_function apply_lineage, apply_intent, apply_close, apply_commit, apply_epoch, apply_pin, apply_unpin,
    apply_prune, apply_condemn, apply_delete, apply_relocate, apply_hold, apply_release, apply_lock, apply_key,
    apply_shred, apply_stretch, apply_gap, apply_nothing;

static apply_function *const kinds[] = {
    [HF_LOG_LINEAGE] = apply_lineage, [HF_LOG_INTENT] = apply_intent,   [HF_LOG_COMMIT] = apply_commit,
    [HF_LOG_END] = apply_close,       [HF_LOG_ABORT] = apply_close,     [HF_LOG_EPOCH] = apply_epoch,
    [HF_LOG_PIN] = apply_pin,         [HF_LOG_UNPIN] = apply_unpin,     [HF_LOG_PRUNE] = apply_prune,
    [HF_LOG_CONDEMN] = apply_condemn, [HF_LOG_DELETE] = apply_delete,   [HF_LOG_RELOCATE] = apply_relocate,
    [HF_LOG_HOLD] = apply_hold,       [HF_LOG_RELEASE] = apply_release, [HF_LOG_LOCK] = apply_lock,
    [HF_LOG_KEY] = apply_key,         [HF_LOG_SHRED] = apply_shred,     [HF_LOG_POLICY] = apply_nothing,
    [HF_LOG_VERDICT] = apply_nothing, [HF_LOG_GAP] = apply_gap,         [HF_LOG_CHECKPOINT] = apply_nothing,
};

static bool read_backup(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err);
static bool read_sealed(const struct hf_log_entry *entry, struct hf_vault_backup *ret, struct hf_error *err);
static bool add_packs(struct hf_vault_state *state, const struct hf_log_entry *entry, const struct hf_id *session,
                      uint64_t *ret_bytes, struct hf_error *err);
static bool insert_pack(struct hf_vault_state *state, const struct hf_vault_pack *pack, struct hf_error *err);
static bool read_pack(const json_t *row, struct hf_vault_pack *ret, struct hf_error *err);
static bool add_objects(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err);
static bool read_object(const json_t *row, struct hf_vault_object *ret, struct hf_error *err);
static void *find_id(void *rows, size_t count, size_t size, const struct hf_id *id);
static bool read_stretch(const struct hf_log_entry *entry, struct hf_vault_stretch *ret, struct hf_error *err);
static bool read_range(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err);
static bool read_histories(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err);
static bool read_marks(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err);
static void stretch_done(struct hf_vault_stretch *stretch);
static bool read_lsn(const json_t *object, const char *member, const char *what, uint64_t *ret, struct hf_error *err);
static bool read_timeline(const json_t *object, const char *member, const char *what, uint32_t *ret,
                          struct hf_error *err);
static struct hf_vault_session *find_session(const struct hf_vault_state *state, const struct hf_id *session);
static struct hf_vault_backup *find_backup(const struct hf_vault_state *state, const struct hf_id *backup);
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
    for (size_t i = 0; i < (*state)->session_count; i++)
        free((*state)->sessions[i].parents);
    free((*state)->backups);
    for (size_t i = 0; i < (*state)->stretch_count; i++)
        stretch_done(&(*state)->stretches[i]);
    free((*state)->stretches);
    free((*state)->gaps);
    free((*state)->sessions);
    free((*state)->packs);
    free((*state)->objects);
    free((*state)->pins);
    free((*state)->holds);
    free((*state)->engine);
    free((*state)->identity);
    free((*state)->name);
    free(*state);
    *state = NULL;
}

const struct hf_vault_backup *
hf_vault_state_backup(const struct hf_vault_state *state, const struct hf_id *backup)
{
    return find_backup(state, backup);
}

const struct hf_vault_stretch *
hf_vault_state_stretch(const struct hf_vault_state *state, uint64_t sequence)
{
    size_t low = 0, high = state->stretch_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (state->stretches[middle].sequence == sequence)
            return &state->stretches[middle];
        if (state->stretches[middle].sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct hf_vault_session *
hf_vault_state_session(const struct hf_vault_state *state, const struct hf_id *session)
{
    return find_session(state, session);
}

const struct hf_vault_pack *
hf_vault_state_pack(const struct hf_vault_state *state, const struct hf_id *pack)
{
    return find_id(state->packs, state->pack_count, sizeof *state->packs, pack);
}

const struct hf_vault_object *
hf_vault_state_object(const struct hf_vault_state *state, const struct hf_id *object)
{
    return find_id(state->objects, state->object_count, sizeof *state->objects, object);
}

bool
hf_vault_state_held(const struct hf_vault_state *state, const struct hf_id *backup, int64_t at)
{
    const struct hf_vault_backup *found = find_backup(state, backup);
    if (found != NULL && found->locked_until > at)
        return true;
    for (size_t i = 0; i < state->hold_count; i++)
        if (hf_id_equal(&state->holds[i].backup, backup) && state->holds[i].until > at)
            return true;
    return false;
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
vault_state_apply(struct hf_vault_state *state, const struct hf_log_entry *entry, bool *ret_counts,
                  struct hf_error *err)
{
    struct log_ruling ruling;
    if (!log_rules_judge(state, entry, &ruling, err) || (ruling.counts && !kinds[entry->kind](state, entry, err)))
        return hf_fail_within(err, "log entry %llu", (unsigned long long)entry->sequence);
    *ret_counts = ruling.counts;
    return true;
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
    const char *operation;
    const json_t *builds_on = json_object_get(entry->public_part, "builds_on");
    _cleanup_(hf_freep) struct hf_id *parents = NULL;
    if (!hf_json_id(entry->public_part, "session", "INTENT", &session.session, err) ||
        !hf_json_string(entry->public_part, "operation", "INTENT", &operation, err) ||
        !log_rules_ids(entry->public_part, "parents", "INTENT", -1, &parents, &session.parent_count, err) ||
        (builds_on != NULL && !json_is_null(builds_on) &&
         !hf_json_id(entry->public_part, "builds_on", "INTENT", &session.builds_on, err)))
        return false;
    if (find_session(state, &session.session) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "a second INTENT of one session");
    struct hf_vault_session *grown = grow(state->sessions, state->session_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for sessions");
    session.collects = strcmp(operation, "collect") == 0;
    session.is_stream = strcmp(operation, "stream") == 0;
    session.parents = HF_TAKE(parents);
    state->sessions = grown;
    state->sessions[state->session_count++] = session;
    return true;
}

static bool
apply_close(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_id id;
    if (!hf_json_id(entry->public_part, "session", hf_log_kind_name(entry->kind), &id, err))
        return false;
    find_session(state, &id)->state = entry->kind == HF_LOG_END ? HF_SESSION_ENDED : HF_SESSION_ABORTED;
    return true;
}

static bool
apply_commit(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    if (json_object_get(entry->public_part, "stretch") != NULL)
        return apply_stretch(state, entry, err);
    struct hf_vault_backup backup = {
        .committed_at = entry->time, .sequence = entry->sequence, .locked_until = INT64_MIN};
    if (!read_backup(entry, &backup, err))
        return false;
    if (hf_vault_state_backup(state, &backup.backup) != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "a second COMMIT of one backup");

    struct hf_vault_backup *grown = grow(state->backups, state->backup_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for backups");
    state->backups = grown;
    if ((entry->sealed_part != NULL && !read_sealed(entry, &backup, err)) ||
        !add_packs(state, entry, &backup.session, &backup.stored_bytes, err)) {
        free(backup.source);
        free(backup.facts);
        return false;
    }
    find_session(state, &backup.session)->state = HF_SESSION_COMMITTED;
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

static bool
add_packs(struct hf_vault_state *state, const struct hf_log_entry *entry, const struct hf_id *session,
          uint64_t *ret_bytes, struct hf_error *err)
{
    uint64_t bytes = 0;
    json_t *rows;
    if (!hf_json_array(entry->public_part, "packs", "COMMIT", &rows, err))
        return false;
    const size_t count = json_array_size(rows);
    if (state->pack_count + count > state->pack_room) {
        const size_t room = 2 * (state->pack_count + count);
        struct hf_vault_pack *grown = realloc(state->packs, room * sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for packs");
        state->packs = grown;
        state->pack_room = room;
    }
    for (size_t i = 0; i < count; i++) {
        struct hf_vault_pack pack = {.sequence = entry->sequence, .session = *session};
        if (!read_pack(json_array_get(rows, i), &pack, err))
            return false;
        pack.object = pack.pack;
        if (!insert_pack(state, &pack, err))
            return false;
        bytes += pack.bytes;
    }
    *ret_bytes = bytes;
    return true;
}

/* There is room.  A stream brings tens of thousands of them, one by one: sorting each time would take minutes. */
static bool
insert_pack(struct hf_vault_state *state, const struct hf_vault_pack *pack, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    size_t low = 0, high = state->pack_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = hf_id_compare(&state->packs[middle].pack, &pack->pack);
        if (order == 0)
            return hf_fail(err, HF_ERR_CORRUPT, "pack \"%s\" was committed before", hf_id_format(&pack->pack, text));
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    memmove(state->packs + low + 1, state->packs + low, (state->pack_count - low) * sizeof *state->packs);
    state->packs[low] = *pack;
    state->pack_count++;
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
apply_stretch(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    _cleanup_(stretch_done) struct hf_vault_stretch stretch = {.committed_at = entry->time,
                                                               .sequence = entry->sequence};
    if (!read_stretch(entry, &stretch, err))
        return false;
    struct hf_vault_stretch *grown = grow(state->stretches, state->stretch_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for stretches");
    state->stretches = grown;
    if (!add_packs(state, entry, &stretch.session, &stretch.stored_bytes, err))
        return false;
    state->stretches[state->stretch_count++] = stretch;
    stretch = (struct hf_vault_stretch){0};
    return true;
}

static bool
read_stretch(const struct hf_log_entry *entry, struct hf_vault_stretch *ret, struct hf_error *err)
{
    json_t *packs, *stream;
    struct hf_vault_pack pack = {0};
    if (!hf_json_id(entry->public_part, "session", "COMMIT", &ret->session, err) ||
        !hf_json_id(entry->public_part, "stretch", "COMMIT", &ret->stretch, err) ||
        !hf_json_array(entry->public_part, "packs", "COMMIT", &packs, err) ||
        !read_pack(json_array_get(packs, 0), &pack, err))
        return false;
    if (json_array_size(packs) != 1 || pack.kind != HF_PACK_STREAM)
        return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a stretch is one pack of kind stream");
    ret->pack = pack.pack;
    memcpy(ret->sha256, pack.sha256, sizeof ret->sha256);
    return entry->sealed_part == NULL ||
           (copy_member(entry->sealed_part, "source", &ret->source, err) &&
            hf_json_object(entry->sealed_part, "stream", "COMMIT", &stream, err) && read_range(stream, ret, err) &&
            read_histories(stream, ret, err) && read_marks(stream, ret, err));
}

static bool
read_range(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err)
{
    static const char what[] = "COMMIT";
    int64_t commits;
    if (!read_timeline(stream, "timeline", what, &ret->timeline, err) ||
        !read_lsn(stream, "start", what, &ret->start, err) || !read_lsn(stream, "end", what, &ret->end, err) ||
        !read_lsn(stream, "whole", what, &ret->whole, err) ||
        !hf_json_integer(stream, "first_time", what, INT64_MIN, INT64_MAX, &ret->first_time, err) ||
        !hf_json_integer(stream, "last_time", what, INT64_MIN, INT64_MAX, &ret->last_time, err) ||
        !hf_json_integer(stream, "commits", what, 0, INT64_MAX, &commits, err) ||
        !hf_json_bytes(stream, "previous", what, ret->previous, sizeof ret->previous, err))
        return false;
    ret->commits = (uint64_t)commits;
    return ret->start <= ret->end || hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a stretch ends before it starts");
}

static bool
read_histories(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(stream, "histories", "COMMIT", &rows, err))
        return false;
    if (json_array_size(rows) > HISTORIES_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a stretch with more than %d history files", HISTORIES_MOST);
    ret->histories = calloc(json_array_size(rows) + 1, sizeof *ret->histories);
    if (ret->histories == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch");
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_int_t timeline = json_integer_value(json_array_get(rows, i));
        if (timeline < 1 || timeline > UINT32_MAX)
            return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a row of \"histories\" is no timeline");
        ret->histories[ret->history_count++] = (uint32_t)timeline;
    }
    return true;
}

/* Only some engines leave any. */
static bool
read_marks(const json_t *stream, struct hf_vault_stretch *ret, struct hf_error *err)
{
    json_t *rows;
    if (json_object_get(stream, "marks") == NULL)
        return true;
    if (!hf_json_array(stream, "marks", "COMMIT", &rows, err))
        return false;
    if (json_array_size(rows) < 1 || json_array_size(rows) > HF_LENGTH(ret->marks))
        return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a stretch with %zu marks", json_array_size(rows));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *position = json_string_value(json_array_get(json_array_get(rows, i), 0));
        const char *text = json_string_value(json_array_get(json_array_get(rows, i), 1));
        struct hf_vault_mark *mark = &ret->marks[i];
        if (position == NULL || text == NULL || !hf_lsn_parse(position, &mark->position, NULL) ||
            mark->position > ret->end || (i > 0 && mark->position < ret->marks[0].position))
            return hf_fail(err, HF_ERR_CORRUPT, "COMMIT: a row of \"marks\" is not [position, text]");
        mark->text = strdup(text);
        if (mark->text == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a stretch");
        ret->mark_count++;
    }
    return true;
}

static void
stretch_done(struct hf_vault_stretch *stretch)
{
    free(stretch->source);
    free(stretch->histories);
    for (size_t i = 0; i < HF_LENGTH(stretch->marks); i++)
        free(stretch->marks[i].text);
}

/* Without keys nothing is known of it but that there is one. */
static bool
apply_gap(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_vault_gap gap = {.sequence = entry->sequence, .noticed_at = entry->time};
    if (entry->sealed_part == NULL)
        return true;
    if (!read_timeline(entry->sealed_part, "from_timeline", "GAP", &gap.from_timeline, err) ||
        !read_timeline(entry->sealed_part, "timeline", "GAP", &gap.timeline, err) ||
        !read_lsn(entry->sealed_part, "from", "GAP", &gap.from, err) ||
        !read_lsn(entry->sealed_part, "to", "GAP", &gap.to, err))
        return false;
    struct hf_vault_gap *grown = grow(state->gaps, state->gap_count, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for gaps");
    state->gaps = grown;
    state->gaps[state->gap_count++] = gap;
    return true;
}

static bool
read_lsn(const json_t *object, const char *member, const char *what, uint64_t *ret, struct hf_error *err)
{
    const char *text;
    return hf_json_string(object, member, what, &text, err) &&
           (hf_lsn_parse(text, ret, err) || hf_fail_within(err, "%s", what));
}

static bool
read_timeline(const json_t *object, const char *member, const char *what, uint32_t *ret, struct hf_error *err)
{
    int64_t timeline;
    if (!hf_json_integer(object, member, what, 1, UINT32_MAX, &timeline, err))
        return false;
    *ret = (uint32_t)timeline;
    return true;
}

static bool
apply_epoch(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    int64_t epoch;
    if (!hf_json_integer(entry->public_part, "epoch", "EPOCH", 1, HF_JSON_INTEGER_MOST, &epoch, err))
        return false;
    state->epoch = (uint64_t)epoch;
    state->holder = entry->appliance;
    return true;
}

static bool
apply_pin(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_vault_pin pin = {.appliance = entry->appliance, .sequence = entry->sequence, .since = entry->time};
    if (!hf_json_id(entry->public_part, "reader", "PIN", &pin.reader, err) ||
        !hf_json_id(entry->public_part, "backup", "PIN", &pin.backup, err))
        return false;
    struct hf_vault_pin *grown = reallocarray(state->pins, state->pin_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for pins");
    state->pins = grown;
    state->pins[state->pin_count++] = pin;
    return true;
}

static bool
apply_unpin(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_id reader, backup;
    size_t kept = 0;
    if (!hf_json_id(entry->public_part, "reader", "UNPIN", &reader, err) ||
        !hf_json_id(entry->public_part, "backup", "UNPIN", &backup, err))
        return false;
    for (size_t i = 0; i < state->pin_count; i++)
        if (!hf_id_equal(&state->pins[i].reader, &reader) || !hf_id_equal(&state->pins[i].backup, &backup))
            state->pins[kept++] = state->pins[i];
    state->pin_count = kept;
    return true;
}

static bool
apply_prune(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    size_t count;
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    if (json_object_get(entry->public_part, "stretches") != NULL) {
        if (!log_rules_ids(entry->public_part, "stretches", "PRUNE", -1, &ids, &count, err))
            return false;
        for (size_t i = 0; i < state->stretch_count; i++)
            if (bsearch(&state->stretches[i].stretch, ids, count, sizeof *ids, hf_id_compare) != NULL)
                state->stretches[i].pruned = true;
        return true;
    }
    if (!log_rules_ids(entry->public_part, "backups", "PRUNE", -1, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        find_backup(state, &ids[i])->pruned = true;
    return true;
}

static bool
apply_condemn(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    size_t count;
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    if (!log_rules_ids(entry->public_part, "packs", "CONDEMN", -1, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        ((struct hf_vault_pack *)find_id(state->packs, state->pack_count, sizeof *state->packs, &ids[i]))->condemned =
            entry->sequence;
    return true;
}

static bool
apply_delete(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    size_t count, kept = 0, at = 0;
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    if (!log_rules_ids(entry->public_part, "packs", "DELETE", -1, &ids, &count, err))
        return false;
    for (size_t i = 0; i < state->pack_count; i++) { // both are sorted
        if (at < count && hf_id_equal(&ids[at], &state->packs[i].pack))
            at++;
        else
            state->packs[kept++] = state->packs[i];
    }
    state->pack_count = kept;
    return true;
}

static bool
apply_relocate(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(entry->public_part, "packs", "RELOCATE", &rows, err) || !add_objects(state, entry, err))
        return false;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        struct hf_id id, object;
        const json_t *row = json_array_get(rows, i);
        if (!hf_id_parse(json_string_value(json_array_get(row, 0)), &id, err) ||
            !hf_id_parse(json_string_value(json_array_get(row, 1)), &object, err))
            return false;
        struct hf_vault_pack *pack = find_id(state->packs, state->pack_count, sizeof *state->packs, &id);
        struct hf_vault_object *from =
            find_id(state->objects, state->object_count, sizeof *state->objects, &pack->object);
        if (from != NULL)
            from->left = entry->sequence;
        pack->object = object;
        pack->moved = entry->sequence;
    }
    return true;
}

static int
by_object(const void *a, const void *b)
{
    return hf_id_compare(&((const struct hf_vault_object *)a)->object, &((const struct hf_vault_object *)b)->object);
}

static bool
add_objects(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    json_t *rows;
    if (!hf_json_array(entry->public_part, "objects", "RELOCATE", &rows, err))
        return false;
    const size_t count = json_array_size(rows);
    struct hf_vault_object *grown = reallocarray(state->objects, state->object_count + count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for containers");
    state->objects = grown;
    for (size_t i = 0; i < count; i++) {
        struct hf_vault_object *object = &state->objects[state->object_count + i];
        *object = (struct hf_vault_object){.sequence = entry->sequence};
        if (!read_object(json_array_get(rows, i), object, err))
            return false;
    }
    state->object_count += count;
    qsort(state->objects, state->object_count, sizeof *state->objects, by_object);
    return true;
}

/* [id, bytes, sha256] */
static bool
read_object(const json_t *row, struct hf_vault_object *ret, struct hf_error *err)
{
    const char *id = json_string_value(json_array_get(row, 0));
    const json_t *bytes = json_array_get(row, 1);
    const char *hash = json_string_value(json_array_get(row, 2));
    if (json_array_size(row) != 3 || id == NULL || hash == NULL || !json_is_integer(bytes) ||
        json_integer_value(bytes) < 0)
        return hf_fail(err, HF_ERR_CORRUPT, "RELOCATE: a row of \"objects\" is not [id, bytes, sha256]");
    ret->bytes = (uint64_t)json_integer_value(bytes);
    return hf_id_parse(id, &ret->object, err) && hf_hex_parse(hash, ret->sha256, sizeof ret->sha256, err);
}

static bool
apply_hold(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_vault_hold hold = {.sequence = entry->sequence, .until = INT64_MAX};
    const json_t *until = json_object_get(entry->public_part, "until");
    if (!hf_json_id(entry->public_part, "backup", "HOLD", &hold.backup, err))
        return false;
    if (json_is_integer(until))
        hold.until = json_integer_value(until);
    struct hf_vault_hold *grown = reallocarray(state->holds, state->hold_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for holds");
    state->holds = grown;
    state->holds[state->hold_count++] = hold;
    return true;
}

static bool
apply_release(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_id backup;
    uint64_t hold;
    size_t kept = 0;
    if (!log_rules_release(entry->public_part, &backup, &hold, err))
        return false;
    for (size_t i = 0; i < state->hold_count; i++)
        if (!log_rules_releases(&backup, hold, &state->holds[i]))
            state->holds[kept++] = state->holds[i];
    state->hold_count = kept;
    return true;
}

/* A lock is extended and never shortened. */
static bool
apply_lock(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct hf_id id;
    int64_t until;
    if (!hf_json_id(entry->public_part, "backup", "LOCK", &id, err) ||
        !hf_json_integer(entry->public_part, "until", "LOCK", 0, HF_JSON_INTEGER_MOST, &until, err))
        return false;
    struct hf_vault_backup *backup = find_backup(state, &id);
    if (until > backup->locked_until)
        backup->locked_until = until;
    return true;
}

static bool
apply_key(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    int64_t generation;
    if (!hf_json_integer(entry->public_part, "generation", "KEY", 1, UINT32_MAX, &generation, err))
        return false;
    state->key_generation = (uint32_t)generation;
    return true;
}

static bool
apply_shred(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    (void)entry;
    (void)err;
    state->shredded = true;
    return true;
}

/* These say nothing about which bytes count. */
static bool
apply_nothing(struct hf_vault_state *state, const struct hf_log_entry *entry, struct hf_error *err)
{
    (void)state;
    (void)entry;
    (void)err;
    return true;
}

/* In rows sorted by the id they begin with. */
static void *
find_id(void *rows, size_t count, size_t size, const struct hf_id *id)
{
    return count > 0 ? bsearch(id, rows, count, size, hf_id_compare) : NULL;
}

static struct hf_vault_session *
find_session(const struct hf_vault_state *state, const struct hf_id *session)
{
    for (size_t i = state->session_count; i-- > 0;)
        if (hf_id_equal(&state->sessions[i].session, session))
            return &state->sessions[i];
    return NULL;
}

static struct hf_vault_backup *
find_backup(const struct hf_vault_state *state, const struct hf_id *backup)
{
    for (size_t i = state->backup_count; i-- > 0;)
        if (hf_id_equal(&state->backups[i].backup, backup))
            return &state->backups[i];
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

uint64_t
vault_state_oldest_open(const struct hf_vault_state *state)
{
    uint64_t oldest = UINT64_MAX;
    for (size_t i = 0; i < state->session_count; i++)
        if (state->sessions[i].state == HF_SESSION_OPEN && !state->sessions[i].is_stream &&
            state->sessions[i].sequence < oldest)
            oldest = state->sessions[i].sequence;
    for (size_t i = 0; i < state->pin_count; i++)
        if (state->pins[i].sequence < oldest)
            oldest = state->pins[i].sequence;
    return oldest;
}
