#include "catalog/catalog.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/lsn.h"
#include "catalog/backup_state.h"
#include "catalog/statements.h"

#define TEXT_MOST HF_MIB // canonical JSON kept in one column

/* One entry on its way in. */
struct change {
    struct hf_catalog *catalog;           // borrowed
    const struct hf_catalog_entry *entry; // borrowed from the caller
    const json_t *said, *sealed;          // its parts; sealed may be NULL
    char what[96];                        // log entry 7 of vault "..."
};

typedef bool apply_function(const struct change *change, struct hf_error *err);

static apply_function apply_lineage, apply_intent, apply_commit, apply_end, apply_abort, apply_epoch, apply_pin,
    apply_unpin, apply_prune, apply_condemn, apply_delete, apply_relocate, apply_hold, apply_release, apply_lock,
    apply_key, apply_shred, apply_policy, apply_verdict, apply_gap, apply_nothing;

/* What each kind does: the list of server/repository/vault_log.h. */
static const struct {
    const char *kind;
    apply_function *apply;
} kinds[] = {
    {"LINEAGE", apply_lineage},    {"INTENT", apply_intent},   {"COMMIT", apply_commit},   {"END", apply_end},
    {"ABORT", apply_abort},        {"EPOCH", apply_epoch},     {"PIN", apply_pin},         {"UNPIN", apply_unpin},
    {"PRUNE", apply_prune},        {"CONDEMN", apply_condemn}, {"DELETE", apply_delete},   {"RELOCATE", apply_relocate},
    {"HOLD", apply_hold},          {"RELEASE", apply_release}, {"LOCK", apply_lock},       {"KEY", apply_key},
    {"SHRED", apply_shred},        {"POLICY", apply_policy},   {"VERDICT", apply_verdict}, {"GAP", apply_gap},
    {"CHECKPOINT", apply_nothing},
};

static bool is_news(const struct change *change, bool *ret_news, struct hf_error *err);
static bool apply_in_transaction(const struct change *change, apply_function *apply, struct hf_error *err);
static bool move_head(const struct change *change, struct hf_error *err);
static bool apply_stretch(const struct change *change, struct hf_error *err);
static bool add_stretch(const struct change *change, const struct hf_id *stretch, uint64_t stored_bytes,
                        struct hf_error *err);
static bool add_packs(const struct change *change, const struct hf_id *backup, uint64_t *ret_bytes,
                      struct hf_error *err);
static bool add_backup(const struct change *change, const struct hf_id *backup, const struct hf_id *session,
                       uint64_t stored_bytes, struct hf_error *err);
static bool end_session(const struct change *change, const char *state, const char *reason, struct hf_error *err);
static bool for_each_pack(const struct change *change, enum hf_sql statement, struct hf_error *err);
static bool add_hold(const struct change *change, const char *kind, struct hf_error *err);
static bool is_house(const struct change *change, bool *ret, struct hf_error *err);
static bool apply_source(const struct change *change, const struct hf_id *id, struct hf_error *err);
static bool add_attempt(const struct change *change, const struct hf_id *backup, const struct hf_id *attempt,
                        enum hf_backup_event event, const char *state, struct hf_error *err);
static bool add_damage(const struct change *change, const struct hf_id *backup, const struct hf_id *found,
                       struct hf_error *err);
static bool heal(const struct change *change, const struct hf_id *backup, struct hf_error *err);
static bool text_or_null(const struct change *change, const json_t *object, const char *member, const char **ret,
                         struct hf_error *err);
static bool bind_texts(const struct change *change, struct hf_statement *statement, const json_t *object,
                       const char *const (*members)[2], size_t count, struct hf_error *err);
static bool bind_integers(const struct change *change, struct hf_statement *statement, const json_t *object,
                          const char *const (*members)[2], size_t count, struct hf_error *err);
static bool id_at(const struct change *change, const json_t *array, size_t index, const char *member, struct hf_id *ret,
                  struct hf_error *err);

bool
hf_catalog_apply(struct hf_catalog *catalog, const struct hf_catalog_entry *entry, struct hf_error *err)
{
    char vault[HF_ID_TEXT_BYTES];
    bool news;
    struct change change = {
        .catalog = catalog, .entry = entry, .said = entry->public_part, .sealed = entry->sealed_part};
    snprintf(change.what, sizeof change.what, "log entry %" PRIu64 " of vault \"%s\"", entry->sequence,
             hf_id_format(&entry->vault, vault));

    if (!is_news(&change, &news, err))
        return false;
    if (!news)
        return true;
    for (size_t i = 0; i < HF_LENGTH(kinds); i++)
        if (strcmp(kinds[i].kind, entry->kind) == 0)
            return apply_in_transaction(&change, entry->counts ? kinds[i].apply : apply_nothing, err);
    hf_fail(err, HF_ERR_CONFLICT, "%s is of kind \"%.32s\", which this program does not know", change.what,
            entry->kind);
    return hf_fail_hint(err, "A newer Holdfast writes to this repository; use it here too.");
}

static bool
is_news(const struct change *change, bool *ret_news, struct hf_error *err)
{
    uint64_t head;
    uint8_t hash[HF_SHA256_BYTES];
    if (!hf_catalog_head(change->catalog, &change->entry->vault, &head, hash, err))
        return false;
    if (change->entry->sequence == head && memcmp(hash, change->entry->hash, sizeof hash) != 0) {
        hf_fail(err, HF_ERR_CONFLICT, "%s is not the one that the catalog knows", change->what);
        return hf_fail_hint(err, "The log was rewritten or another repository was put in its place.");
    }
    if (change->entry->sequence > head + 1)
        return hf_fail(err, HF_ERR_CONFLICT, "%s comes too early: the catalog knows the log up to entry %" PRIu64,
                       change->what, head);
    *ret_news = change->entry->sequence == head + 1;
    return true;
}

static bool
apply_in_transaction(const struct change *change, apply_function *apply, struct hf_error *err)
{
    if (!hf_catalog_execute(change->catalog, "BEGIN IMMEDIATE", err))
        return false;
    if (apply(change, err) && move_head(change, err) && hf_catalog_execute(change->catalog, "COMMIT", err))
        return true;
    if (sqlite3_get_autocommit(change->catalog->db) == 0)
        (void)!hf_catalog_execute(change->catalog, "ROLLBACK", NULL);
    return false;
}

static bool
move_head(const struct change *change, struct hf_error *err)
{
    char hash[2 * HF_SHA256_BYTES + 1];
    hf_hex_format(change->entry->hash, HF_SHA256_BYTES, hash);
    _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_HEAD_SET);
    hf_bind_id(&set, ":vault_id", &change->entry->vault);
    hf_bind_int(&set, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_text(&set, ":hash", hash);
    hf_bind_int(&set, ":time", change->entry->time);
    return hf_statement_run(&set, err);
}

static bool
apply_lineage(const struct change *change, struct hf_error *err)
{
    const char *engine, *lineage, *identity, *name;
    if (!hf_json_string(change->said, "engine", change->what, &engine, err) ||
        !hf_json_string(change->said, "lineage", change->what, &lineage, err) ||
        !text_or_null(change, change->sealed, "identity", &identity, err) ||
        !text_or_null(change, change->sealed, "name", &name, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_VAULT_ADD);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_text(&add, ":engine", engine);
    hf_bind_text(&add, ":lineage", lineage);
    hf_bind_text(&add, ":identity", identity);
    hf_bind_text(&add, ":name", name);
    hf_bind_int(&add, ":created_at", change->entry->time);
    return hf_statement_run(&add, err);
}

static bool
apply_intent(const struct change *change, struct hf_error *err)
{
    struct hf_id session;
    const char *operation;
    if (!hf_json_id(change->said, "session", change->what, &session, err) ||
        !hf_json_string(change->said, "operation", change->what, &operation, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_SESSION_ADD);
    hf_bind_id(&add, ":session_id", &session);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_id(&add, ":appliance", &change->entry->appliance);
    hf_bind_text(&add, ":operation", operation);
    hf_bind_int(&add, ":started_at", change->entry->time);
    return hf_statement_run(&add, err);
}

static bool
apply_commit(const struct change *change, struct hf_error *err)
{
    struct hf_id backup, session;
    uint64_t stored_bytes = 0;
    if (json_object_get(change->said, "stretch") != NULL)
        return apply_stretch(change, err);
    if (!hf_json_id(change->said, "session", change->what, &session, err) ||
        !hf_json_id(change->said, "backup", change->what, &backup, err))
        return false;
    return add_packs(change, &backup, &stored_bytes, err) && add_backup(change, &backup, &session, stored_bytes, err) &&
           end_session(change, "committed", NULL, err);
}

/* A part of a stream; its session stays open. */
static bool
apply_stretch(const struct change *change, struct hf_error *err)
{
    struct hf_id stretch;
    uint64_t stored_bytes = 0;
    return hf_json_id(change->said, "stretch", change->what, &stretch, err) &&
           add_packs(change, &stretch, &stored_bytes, err) && add_stretch(change, &stretch, stored_bytes, err);
}

static bool
add_stretch(const struct change *change, const struct hf_id *stretch, uint64_t stored_bytes, struct hf_error *err)
{
    static const char *const integers[][2] = {
        {"timeline", ":timeline"}, {"first_time", ":first_time"}, {"last_time", ":last_time"}, {"commits", ":commits"}};
    const json_t *stream = json_object_get(change->sealed, "stream");
    struct hf_id pack;
    const char *source;
    json_t *packs;
    uint64_t start, end;
    if (!text_or_null(change, change->sealed, "source", &source, err) ||
        !hf_json_array(change->said, "packs", change->what, &packs, err) ||
        !id_at(change, json_array_get(packs, 0), 0, "packs", &pack, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_STRETCH_ADD);
    hf_bind_id(&add, ":stretch_id", stretch);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_id(&add, ":pack_id", &pack);
    hf_bind_int(&add, ":stored_bytes", (int64_t)stored_bytes);
    hf_bind_int(&add, ":committed_at", change->entry->time);
    hf_bind_text(&add, ":source", source);
    if (stream != NULL) {
        const char *from, *to;
        if (!hf_json_string(stream, "start", change->what, &from, err) || !hf_lsn_parse(from, &start, err) ||
            !hf_json_string(stream, "end", change->what, &to, err) || !hf_lsn_parse(to, &end, err))
            return false;
        hf_bind_int(&add, ":start_position", (int64_t)start);
        hf_bind_int(&add, ":end_position", (int64_t)end);
    }
    return bind_integers(change, &add, stream, integers, HF_LENGTH(integers), err) && hf_statement_run(&add, err);
}

static bool
add_packs(const struct change *change, const struct hf_id *backup, uint64_t *ret_bytes, struct hf_error *err)
{
    json_t *packs;
    if (!hf_json_array(change->said, "packs", change->what, &packs, err))
        return false;
    for (size_t i = 0; i < json_array_size(packs); i++) {
        const json_t *row = json_array_get(packs, i);
        const json_t *kind = json_array_get(row, 1), *bytes = json_array_get(row, 2);
        const char *sha256 = json_string_value(json_array_get(row, 3));
        struct hf_id pack;
        if (!id_at(change, row, 0, "packs", &pack, err))
            return false;
        if (!json_is_integer(kind) || !json_is_integer(bytes) || json_integer_value(bytes) < 0 || sha256 == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"packs\" has a row that is not [id, kind, bytes, sha256]",
                           change->what);

        _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_PACK_ADD);
        hf_bind_id(&add, ":pack_id", &pack);
        hf_bind_id(&add, ":vault_id", &change->entry->vault);
        hf_bind_id(&add, ":backup_id", backup);
        hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
        hf_bind_int(&add, ":kind", json_integer_value(kind));
        hf_bind_int(&add, ":bytes", json_integer_value(bytes));
        hf_bind_text(&add, ":sha256", sha256);
        if (!hf_statement_run(&add, err))
            return false;
        *ret_bytes += (uint64_t)json_integer_value(bytes);
    }
    return true;
}

static bool
add_backup(const struct change *change, const struct hf_id *backup, const struct hf_id *session, uint64_t stored_bytes,
           struct hf_error *err)
{
    static const char *const texts[][2] = {
        {"start_lsn", ":start_lsn"}, {"stop_lsn", ":stop_lsn"}, {"server_version", ":server_version"}};
    static const char *const integers[][2] = {{"started_at", ":started_at"}, {"finished_at", ":finished_at"},
                                              {"timeline", ":timeline"},     {"logical_bytes", ":logical_bytes"},
                                              {"files", ":files"},           {"bad_pages", ":bad_pages"}};
    json_t *root;
    struct hf_id root_pack;
    int64_t slab, index;
    const char *parent, *source;
    const json_t *facts = json_object_get(change->sealed, "facts");
    if (!hf_json_object(change->said, "root", change->what, &root, err) ||
        !hf_json_id(root, "pack", change->what, &root_pack, err) ||
        !hf_json_integer(root, "slab", change->what, 0, UINT32_MAX, &slab, err) ||
        !hf_json_integer(root, "index", change->what, 0, UINT32_MAX, &index, err) ||
        !text_or_null(change, change->said, "parent", &parent, err) ||
        !text_or_null(change, change->sealed, "source", &source, err))
        return false;

    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_BACKUP_ADD);
    hf_bind_id(&add, ":backup_id", backup);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_id(&add, ":session_id", session);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_text(&add, ":parent_id", parent);
    hf_bind_text(&add, ":source", source);
    hf_bind_int(&add, ":stored_bytes", (int64_t)stored_bytes);
    hf_bind_int(&add, ":committed_at", change->entry->time);
    hf_bind_id(&add, ":root_pack", &root_pack);
    hf_bind_int(&add, ":root_slab", slab);
    hf_bind_int(&add, ":root_index", index);
    hf_bind_text(&add, ":state", hf_backup_state_name(HF_BACKUP_UNPROVEN));
    return bind_texts(change, &add, facts, texts, HF_LENGTH(texts), err) &&
           bind_integers(change, &add, facts, integers, HF_LENGTH(integers), err) && hf_statement_run(&add, err);
}

static bool
apply_end(const struct change *change, struct hf_error *err)
{
    return end_session(change, "ended", NULL, err);
}

static bool
apply_abort(const struct change *change, struct hf_error *err)
{
    const char *reason;
    return hf_json_string(change->said, "reason", change->what, &reason, err) &&
           end_session(change, "aborted", reason, err);
}

static bool
end_session(const struct change *change, const char *state, const char *reason, struct hf_error *err)
{
    struct hf_id session;
    if (!hf_json_id(change->said, "session", change->what, &session, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement end = hf_statement(change->catalog, HF_SQL_SESSION_END);
    hf_bind_id(&end, ":session_id", &session);
    hf_bind_id(&end, ":vault_id", &change->entry->vault);
    hf_bind_text(&end, ":state", state);
    hf_bind_int(&end, ":finished_at", change->entry->time);
    hf_bind_text(&end, ":reason", reason);
    return hf_statement_run(&end, err);
}

static bool
apply_epoch(const struct change *change, struct hf_error *err)
{
    int64_t epoch;
    if (!hf_json_integer(change->said, "epoch", change->what, 0, INT64_MAX, &epoch, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_VAULT_EPOCH);
    hf_bind_id(&set, ":vault_id", &change->entry->vault);
    hf_bind_int(&set, ":epoch", epoch);
    return hf_statement_run(&set, err);
}

static bool
apply_pin(const struct change *change, struct hf_error *err)
{
    struct hf_id backup;
    const char *reader;
    if (!hf_json_id(change->said, "backup", change->what, &backup, err) ||
        !hf_json_string(change->said, "reader", change->what, &reader, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_PIN_ADD);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_id(&add, ":backup_id", &backup);
    hf_bind_text(&add, ":reader", reader);
    hf_bind_int(&add, ":since", change->entry->time);
    return hf_statement_run(&add, err);
}

static bool
apply_unpin(const struct change *change, struct hf_error *err)
{
    struct hf_id backup;
    const char *reader;
    if (!hf_json_id(change->said, "backup", change->what, &backup, err) ||
        !hf_json_string(change->said, "reader", change->what, &reader, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement remove = hf_statement(change->catalog, HF_SQL_PIN_REMOVE);
    hf_bind_id(&remove, ":vault_id", &change->entry->vault);
    hf_bind_id(&remove, ":backup_id", &backup);
    hf_bind_text(&remove, ":reader", reader);
    return hf_statement_run(&remove, err);
}

static bool
apply_prune(const struct change *change, struct hf_error *err)
{
    json_t *pruned;
    const char *reason;
    const bool of_stream = json_object_get(change->said, "stretches") != NULL;
    const char *member = of_stream ? "stretches" : "backups";
    if (!hf_json_array(change->said, member, change->what, &pruned, err) ||
        !hf_json_string(change->said, "reason", change->what, &reason, err))
        return false;
    for (size_t i = 0; i < json_array_size(pruned); i++) {
        struct hf_id id;
        if (!id_at(change, pruned, i, member, &id, err))
            return false;
        _cleanup_(hf_statement_done) struct hf_statement prune =
            hf_statement(change->catalog, of_stream ? HF_SQL_STRETCH_PRUNE : HF_SQL_BACKUP_PRUNE);
        hf_bind_id(&prune, ":id", &id);
        hf_bind_id(&prune, ":vault_id", &change->entry->vault);
        hf_bind_int(&prune, ":pruned_at", change->entry->time);
        hf_bind_text(&prune, ":reason", reason);
        if (!hf_statement_run(&prune, err))
            return false;
    }
    return true;
}

static bool
apply_condemn(const struct change *change, struct hf_error *err)
{
    return for_each_pack(change, HF_SQL_PACK_CONDEMN, err);
}

static bool
apply_delete(const struct change *change, struct hf_error *err)
{
    return for_each_pack(change, HF_SQL_PACK_DELETE, err);
}

static bool
for_each_pack(const struct change *change, enum hf_sql statement, struct hf_error *err)
{
    json_t *packs;
    const char *reason;
    if (!hf_json_array(change->said, "packs", change->what, &packs, err) ||
        !hf_json_string(change->said, "reason", change->what, &reason, err))
        return false;
    for (size_t i = 0; i < json_array_size(packs); i++) {
        struct hf_id pack;
        if (!id_at(change, packs, i, "packs", &pack, err))
            return false;
        _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, statement);
        hf_bind_id(&set, ":pack_id", &pack);
        hf_bind_id(&set, ":vault_id", &change->entry->vault);
        hf_bind_int(&set, ":at", change->entry->time);
        hf_bind_text(&set, ":reason", reason);
        if (!hf_statement_run(&set, err))
            return false;
    }
    return true;
}

static bool
apply_relocate(const struct change *change, struct hf_error *err)
{
    json_t *packs;
    if (!hf_json_array(change->said, "packs", change->what, &packs, err))
        return false;
    for (size_t i = 0; i < json_array_size(packs); i++) {
        const json_t *row = json_array_get(packs, i);
        const char *object = json_string_value(json_array_get(row, 1));
        struct hf_id pack;
        if (!id_at(change, row, 0, "packs", &pack, err))
            return false;
        if (object == NULL)
            return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"packs\" has a row that is not [id, object]",
                           change->what);
        _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_PACK_RELOCATE);
        hf_bind_id(&set, ":pack_id", &pack);
        hf_bind_id(&set, ":vault_id", &change->entry->vault);
        hf_bind_text(&set, ":object", object);
        if (!hf_statement_run(&set, err))
            return false;
    }
    return true;
}

static bool
apply_hold(const struct change *change, struct hf_error *err)
{
    return add_hold(change, "hold", err);
}

static bool
apply_lock(const struct change *change, struct hf_error *err)
{
    return add_hold(change, "lock", err);
}

static bool
add_hold(const struct change *change, const char *kind, struct hf_error *err)
{
    static const char *const texts[][2] = {{"person", ":person"}, {"reason", ":reason"}};
    static const char *const integers[][2] = {{"until", ":until"}};
    struct hf_id backup;
    if (!hf_json_id(change->said, "backup", change->what, &backup, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_HOLD_ADD);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_id(&add, ":backup_id", &backup);
    hf_bind_text(&add, ":kind", kind);
    hf_bind_int(&add, ":since", change->entry->time);
    return bind_texts(change, &add, change->sealed, texts, HF_LENGTH(texts), err) &&
           bind_integers(change, &add, change->said, integers, HF_LENGTH(integers), err) && hf_statement_run(&add, err);
}

static bool
apply_release(const struct change *change, struct hf_error *err)
{
    static const char *const integers[][2] = {{"hold", ":hold"}};
    struct hf_id backup;
    if (!hf_json_id(change->said, "backup", change->what, &backup, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement release = hf_statement(change->catalog, HF_SQL_HOLD_RELEASE);
    hf_bind_id(&release, ":vault_id", &change->entry->vault);
    hf_bind_id(&release, ":backup_id", &backup);
    hf_bind_int(&release, ":released_at", change->entry->time);
    return bind_integers(change, &release, change->said, integers, HF_LENGTH(integers), err) &&
           hf_statement_run(&release, err);
}

static bool
apply_key(const struct change *change, struct hf_error *err)
{
    int64_t generation;
    if (!hf_json_integer(change->said, "generation", change->what, 1, UINT32_MAX, &generation, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_VAULT_KEY);
    hf_bind_id(&set, ":vault_id", &change->entry->vault);
    hf_bind_int(&set, ":generation", generation);
    return hf_statement_run(&set, err);
}

static bool
apply_shred(const struct change *change, struct hf_error *err)
{
    static const enum hf_sql forget[] = {HF_SQL_SHRED_BACKUPS, HF_SQL_SHRED_ATTEMPTS, HF_SQL_SHRED_DAMAGES,
                                         HF_SQL_SHRED_GAPS,    HF_SQL_SHRED_HOLDS,    HF_SQL_SHRED_POLICIES};
    _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_VAULT_SHRED);
    hf_bind_id(&set, ":vault_id", &change->entry->vault);
    hf_bind_int(&set, ":time", change->entry->time);
    if (!hf_statement_run(&set, err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(forget); i++) {
        _cleanup_(hf_statement_done) struct hf_statement clear = hf_statement(change->catalog, forget[i]);
        hf_bind_id(&clear, ":vault_id", &change->entry->vault);
        if (!hf_statement_run(&clear, err))
            return false;
    }
    return true;
}

static bool
apply_policy(const struct change *change, struct hf_error *err)
{
    const char *subject;
    struct hf_id id;
    bool house;
    if (!hf_json_string(change->said, "subject", change->what, &subject, err) ||
        !hf_json_id(change->said, "id", change->what, &id, err) || !is_house(change, &house, err))
        return false;
    if (house && change->sealed != NULL && strcmp(subject, "source") == 0)
        return apply_source(change, &id, err);

    _cleanup_(hf_buf_done) struct hf_buf record = HF_BUF_INIT(TEXT_MOST);
    if (change->sealed != NULL && !hf_json_canonical(change->sealed, &record, err))
        return hf_fail_within(err, "%s", change->what);
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(change->catalog, HF_SQL_POLICY_PUT);
    hf_bind_id(&put, ":vault_id", &change->entry->vault);
    hf_bind_text(&put, ":subject", subject);
    hf_bind_id(&put, ":policy_id", &id);
    hf_bind_text(&put, ":record", change->sealed == NULL ? NULL : hf_buf_text(&record));
    hf_bind_int(&put, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_int(&put, ":changed_at", change->entry->time);
    return hf_statement_run(&put, err);
}

static bool
is_house(const struct change *change, bool *ret, struct hf_error *err)
{
    bool known;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(change->catalog, HF_SQL_VAULT_GET);
    hf_bind_id(&get, ":vault_id", &change->entry->vault);
    if (!hf_statement_step(&get, &known, err))
        return false;
    *ret = known && strcmp(hf_column_text(&get, 1), "house") == 0;
    return true;
}

static bool
apply_source(const struct change *change, const struct hf_id *id, struct hf_error *err)
{
    const char *what, *name, *origin, *engine;
    json_t *settings;
    if (!hf_json_string(change->sealed, "change", change->what, &what, err))
        return false;
    if (strcmp(what, "remove") == 0) {
        _cleanup_(hf_statement_done) struct hf_statement remove = hf_statement(change->catalog, HF_SQL_SOURCE_REMOVE);
        hf_bind_id(&remove, ":source_id", id);
        hf_bind_int(&remove, ":time", change->entry->time);
        hf_bind_int(&remove, ":sequence", (int64_t)change->entry->sequence);
        return hf_statement_run(&remove, err);
    }
    if (strcmp(what, "set") != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: a source can be \"set\" and \"remove\"d, not \"%.32s\"", change->what,
                       what);

    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(TEXT_MOST);
    if (!hf_json_string(change->sealed, "name", change->what, &name, err) ||
        !hf_json_string(change->sealed, "origin", change->what, &origin, err) ||
        !hf_json_object(change->sealed, "settings", change->what, &settings, err) ||
        !hf_json_string(settings, "engine", change->what, &engine, err) || !hf_json_canonical(settings, &text, err))
        return false;
    _cleanup_(hf_statement_done) struct hf_statement put = hf_statement(change->catalog, HF_SQL_SOURCE_PUT);
    hf_bind_id(&put, ":source_id", id);
    hf_bind_text(&put, ":name", name);
    hf_bind_text(&put, ":engine", engine);
    hf_bind_text(&put, ":settings", hf_buf_text(&text));
    hf_bind_text(&put, ":origin", origin);
    hf_bind_int(&put, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_int(&put, ":time", change->entry->time);
    return hf_statement_run(&put, err);
}

static bool
apply_verdict(const struct change *change, struct hf_error *err)
{
    struct hf_id backup, attempt;
    const char *result, *name = NULL;
    enum hf_backup_event event;
    bool counts;
    if (!hf_json_id(change->said, "backup", change->what, &backup, err) ||
        !hf_json_id(change->said, "attempt", change->what, &attempt, err) ||
        !hf_json_string(change->said, "result", change->what, &result, err))
        return false;
    if (!hf_backup_event_parse(result, &event, err))
        return hf_fail_within(err, "%s", change->what);

    // A verdict on a backup that does not count is kept, and changes nothing.
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(change->catalog, HF_SQL_BACKUP_STATE);
    hf_bind_id(&get, ":backup_id", &backup);
    hf_bind_id(&get, ":vault_id", &change->entry->vault);
    if (!hf_statement_step(&get, &counts, err))
        return false;
    if (counts) {
        enum hf_backup_state before, after;
        if (!hf_backup_state_parse(hf_column_text(&get, 0), &before, err))
            return false;
        after = hf_backup_state_after(before, event);
        name = hf_backup_state_name(after);
        if (after != before) {
            _cleanup_(hf_statement_done) struct hf_statement set =
                hf_statement(change->catalog, HF_SQL_BACKUP_SET_STATE);
            hf_bind_id(&set, ":backup_id", &backup);
            hf_bind_text(&set, ":state", name);
            hf_bind_int(&set, ":since", change->entry->time);
            if (!hf_statement_run(&set, err))
                return false;
        }
    }

    if (event == HF_BACKUP_DAMAGE_FOUND)
        return add_damage(change, &backup, &attempt, err);
    if ((event == HF_BACKUP_HEALED || event == HF_BACKUP_PASSED) && !heal(change, &backup, err))
        return false;
    return event == HF_BACKUP_HEALED || add_attempt(change, &backup, &attempt, event, name, err);
}

static bool
add_attempt(const struct change *change, const struct hf_id *backup, const struct hf_id *attempt,
            enum hf_backup_event event, const char *state, struct hf_error *err)
{
    static const char *const texts[][2] = {{"level", ":level"},
                                           {"scratch", ":scratch"},
                                           {"slot", ":slot"},
                                           {"reason", ":reason"},
                                           {"evidence_id", ":evidence_id"}};
    static const char *const integers[][2] = {{"started_at", ":started_at"},
                                              {"finished_at", ":finished_at"},
                                              {"recovery_ms", ":recovery_ms"},
                                              {"validation_ms", ":validation_ms"},
                                              {"data_loss_ms", ":data_loss_ms"}};
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_ATTEMPT_ADD);
    hf_bind_id(&add, ":attempt_id", attempt);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_id(&add, ":backup_id", backup);
    hf_bind_text(&add, ":result", hf_backup_event_name(event));
    hf_bind_text(&add, ":state", state);
    hf_bind_int(&add, ":recorded_at", change->entry->time);
    return bind_texts(change, &add, change->sealed, texts, HF_LENGTH(texts), err) &&
           bind_integers(change, &add, change->sealed, integers, HF_LENGTH(integers), err) &&
           hf_statement_run(&add, err);
}

static bool
add_damage(const struct change *change, const struct hf_id *backup, const struct hf_id *found, struct hf_error *err)
{
    static const char *const texts[][2] = {{"reason", ":reason"}};
    _cleanup_(hf_buf_done) struct hf_buf list = HF_BUF_INIT(TEXT_MOST), pages = HF_BUF_INIT(TEXT_MOST);
    const json_t *packs = json_object_get(change->sealed, "packs"), *lost = json_object_get(change->sealed, "lost");
    if ((packs != NULL && !hf_json_canonical(packs, &list, err)) ||
        (lost != NULL && !hf_json_canonical(lost, &pages, err)))
        return hf_fail_within(err, "%s", change->what);
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_DAMAGE_ADD);
    hf_bind_id(&add, ":damage_id", found);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_id(&add, ":backup_id", backup);
    hf_bind_int(&add, ":found_at", change->entry->time);
    hf_bind_text(&add, ":packs", packs == NULL ? NULL : hf_buf_text(&list));
    hf_bind_text(&add, ":lost", lost == NULL ? NULL : hf_buf_text(&pages));
    return bind_texts(change, &add, change->sealed, texts, HF_LENGTH(texts), err) && hf_statement_run(&add, err);
}

static bool
heal(const struct change *change, const struct hf_id *backup, struct hf_error *err)
{
    _cleanup_(hf_statement_done) struct hf_statement set = hf_statement(change->catalog, HF_SQL_DAMAGE_HEAL);
    hf_bind_id(&set, ":backup_id", backup);
    hf_bind_id(&set, ":vault_id", &change->entry->vault);
    hf_bind_int(&set, ":healed_at", change->entry->time);
    return hf_statement_run(&set, err);
}

static bool
apply_gap(const struct change *change, struct hf_error *err)
{
    static const char *const texts[][2] = {{"from", ":from_position"}, {"to", ":to_position"}, {"cause", ":cause"}};
    static const char *const integers[][2] = {{"from_timeline", ":from_timeline"}, {"timeline", ":timeline"}};
    _cleanup_(hf_statement_done) struct hf_statement add = hf_statement(change->catalog, HF_SQL_GAP_ADD);
    hf_bind_id(&add, ":vault_id", &change->entry->vault);
    hf_bind_int(&add, ":sequence", (int64_t)change->entry->sequence);
    hf_bind_int(&add, ":noticed_at", change->entry->time);
    return bind_texts(change, &add, change->sealed, texts, HF_LENGTH(texts), err) &&
           bind_integers(change, &add, change->sealed, integers, HF_LENGTH(integers), err) &&
           hf_statement_run(&add, err);
}

/* A void entry, or a checkpoint, which repeats what the head says. */
static bool
apply_nothing(const struct change *change, struct hf_error *err)
{
    (void)change;
    (void)err;
    return true;
}

/* NULL when the object or the member is missing or null. */
static bool
text_or_null(const struct change *change, const json_t *object, const char *member, const char **ret,
             struct hf_error *err)
{
    const json_t *value = json_object_get(object, member);
    if (value != NULL && !json_is_null(value) && !json_is_string(value))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is not text", change->what, member);
    *ret = json_string_value(value);
    return true;
}

/* Pairs of member and parameter. */
static bool
bind_texts(const struct change *change, struct hf_statement *statement, const json_t *object,
           const char *const (*members)[2], size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const char *text;
        if (!text_or_null(change, object, members[i][0], &text, err))
            return false;
        hf_bind_text(statement, members[i][1], text);
    }
    return true;
}

static bool
bind_integers(const struct change *change, struct hf_statement *statement, const json_t *object,
              const char *const (*members)[2], size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, members[i][0]);
        if (value == NULL || json_is_null(value))
            hf_bind_null(statement, members[i][1]);
        else if (json_is_integer(value))
            hf_bind_int(statement, members[i][1], json_integer_value(value));
        else
            return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" is not an integer", change->what, members[i][0]);
    }
    return true;
}

static bool
id_at(const struct change *change, const json_t *array, size_t index, const char *member, struct hf_id *ret,
      struct hf_error *err)
{
    const char *text = json_string_value(json_array_get(array, index));
    if (text == NULL || !hf_id_parse(text, ret, NULL))
        return hf_fail(err, HF_ERR_CORRUPT, "%s: member \"%s\" has an entry that is not an id", change->what, member);
    return true;
}
