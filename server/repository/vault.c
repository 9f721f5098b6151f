#include "server/repository/repository.h"

#include <string.h>

#include "server/repository/log_rules.h"
#include "server/repository/pack.h"
#include "server/keys/stored_keys.h"
#include "server/keys/superblock.h"
#include "server/repository/vault_state.h"

#define APPEND_TRIES 1000 // other writers that were faster, one after the other

struct hf_vault {
    struct hf_backend *backend; // owned only when own_backend
    bool own_backend;
    struct hf_root_bundle *own_signers;
    struct hf_id repository, id;
    struct hf_vault_keys *keys; // NULL: opened shut
    struct hf_vault_log_options log_options;
    struct hf_vault_log *log;
    struct hf_vault_state *state;
};

static bool open_log(struct hf_vault *vault, const struct hf_root_bundle *signers, struct hf_error *err);
static bool write_lineage(struct hf_vault *vault, const struct hf_vault_new *how, struct hf_error *err);
static bool match_lineage(void *context, const struct hf_log_entry *entry, struct hf_error *err);
static bool is_alive(struct hf_repository *repository, const struct hf_id *vault, bool *ret, struct hf_error *err);
static bool check_generation(struct hf_vault *vault, struct hf_error *err);

struct reading {
    struct hf_vault_state *state;
    hf_log_visitor *visit;
    void *context;
};
static bool take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err);
static hf_pack_moves_reader read_moves;
static bool list_moves(const struct hf_vault_state *state, struct hf_pack_move **ret, size_t *ret_count,
                       struct hf_error *err);

bool
hf_vault_create(struct hf_repository *repository, const struct hf_vault_new *how, struct hf_vault **ret,
                struct hf_error *err)
{
    const struct hf_id repository_id = hf_repository_id(repository);
    const struct hf_id id = strcmp(how->engine, "house") == 0 ? repository_id : hf_id_new();
    _cleanup_(hf_vault_freep) struct hf_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
    if (hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    vault->backend = hf_repository_backend(repository);
    if (!hf_vault_keys_create(vault->backend, &repository_id, &id, hf_repository_root_key(repository), how->now,
                              &vault->keys, err) ||
        !open_log(vault, hf_repository_signers(repository), err) || !write_lineage(vault, how, err))
        return hf_fail_within(err, "a vault for \"%s\"", how->name);
    *ret = HF_TAKE(vault);
    return true;
}

struct lineage_search {
    char hash[2 * HF_SHA256_BYTES + 1];
    bool matches;
};

bool
hf_vault_find(struct hf_repository *repository, const char *engine, const char *identity, bool *ret_found,
              struct hf_id *ret_vault, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    struct lineage_search search = {.matches = false};
    if (!vault_lineage_hash(engine, identity, search.hash, err) || !hf_repository_vaults(repository, &ids, &count, err))
        return false;
    *ret_found = false;
    for (size_t i = 0; i < count && !*ret_found; i++) {
        _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = NULL;
        const struct hf_vault_log_options options = {.backend = hf_repository_backend(repository),
                                                     .repository = hf_repository_id(repository),
                                                     .vault = ids[i],
                                                     .signers = hf_repository_signers(repository)};
        struct hf_error stop = {0};
        if (!hf_vault_log_open(&options, &log, err))
            return false;
        search.matches = false;
        /* The first entry says it: match_lineage ends the walk there. */
        if (!hf_vault_log_read(log, match_lineage, &search, &stop) && stop.kind != HF_ERR_CANCELLED) {
            *err = stop;
            return false;
        }
        *ret_found = search.matches;
        *ret_vault = ids[i];
        if (search.matches && !is_alive(repository, &ids[i], ret_found, err))
            return false;
    }
    return true;
}

bool
hf_vault_open(struct hf_repository *repository, const struct hf_id *id, struct hf_vault **ret, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_id repository_id = hf_repository_id(repository);
    _cleanup_(hf_vault_freep) struct hf_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
    if (hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    vault->backend = hf_repository_backend(repository);
    if (!hf_vault_keys_read(vault->backend, &repository_id, id, hf_repository_root_key(repository), &vault->keys,
                            err) ||
        !open_log(vault, hf_repository_signers(repository), err))
        return hf_fail_within(err, "vault \"%s\"", hf_id_format(id, text));
    *ret = HF_TAKE(vault);
    return true;
}

bool
hf_vault_open_shut(struct hf_repository *repository, const struct hf_id *id, struct hf_vault **ret,
                   struct hf_error *err)
{
    _cleanup_(hf_vault_freep) struct hf_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
    vault->backend = hf_repository_backend(repository);
    vault->repository = hf_repository_id(repository);
    vault->id = *id;
    if (!open_log(vault, hf_repository_signers(repository), err))
        return false;
    *ret = HF_TAKE(vault);
    return true;
}

bool
hf_vault_open_any(struct hf_repository *repository, const struct hf_id *id, struct hf_vault **ret, struct hf_error *err)
{
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    struct hf_error problem;
    if (hf_vault_open(repository, id, ret, &problem))
        return true;
    if (problem.kind == HF_ERR_NOT_FOUND && hf_vault_read_shut(repository, id, &state, NULL) && state->shredded)
        return hf_vault_open_shut(repository, id, ret, err);
    if (err != NULL)
        *err = problem;
    return false;
}

bool
hf_vault_open_with_keys(const char *place, struct hf_vault_keys *keys, const struct hf_root_bundle *signers,
                        struct hf_vault **ret, struct hf_error *err)
{
    _cleanup_(hf_vault_keys_freep) struct hf_vault_keys *taken = keys;
    struct hf_superblock superblock;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = calloc(1, sizeof *vault);
    if (vault == NULL || (vault->own_signers = malloc(sizeof *signers)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a vault");
    *vault->own_signers = *signers;
    vault->own_backend = true;
    vault->keys = HF_TAKE(taken);
    if (!hf_backend_open(place, &vault->backend, err) ||
        !hf_superblock_read(vault->backend, HF_ACCESS_WRITE, &superblock, err))
        return hf_fail_within(err, "repository \"%s\"", place);
    if (!hf_id_equal(&superblock.repository, &vault->keys->repository))
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is not the repository these keys belong to", place);
    if (!open_log(vault, vault->own_signers, err))
        return false;
    *ret = HF_TAKE(vault);
    return true;
}

void
hf_vault_freep(struct hf_vault **vault)
{
    if (*vault == NULL)
        return;
    hf_vault_state_freep(&(*vault)->state);
    hf_vault_log_freep(&(*vault)->log);
    hf_vault_keys_freep(&(*vault)->keys);
    if ((*vault)->own_backend)
        hf_backend_freep(&(*vault)->backend);
    free((*vault)->own_signers);
    free(*vault);
    *vault = NULL;
}

struct hf_id
hf_vault_id(const struct hf_vault *vault)
{
    return vault->id;
}

struct hf_backend *
hf_vault_backend(struct hf_vault *vault)
{
    return vault->backend;
}

const struct hf_vault_keys *
hf_vault_keys(const struct hf_vault *vault)
{
    return vault->keys;
}

struct hf_vault_log *
hf_vault_get_log(struct hf_vault *vault)
{
    return vault->log;
}

bool
hf_vault_read(struct hf_vault *vault, hf_log_visitor *visit, void *context, const struct hf_vault_state **ret,
              struct hf_error *err)
{
    struct reading reading = {vault->state, visit, context};
    if (!hf_vault_log_read(vault->log, take_entry, &reading, err))
        return false;
    vault->state->head = hf_vault_log_head(vault->log, vault->state->head_hash);
    if (!check_generation(vault, err))
        return false;
    *ret = vault->state;
    return true;
}

bool
hf_vault_read_shut(struct hf_repository *repository, const struct hf_id *vault, struct hf_vault_state **ret,
                   struct hf_error *err)
{
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = NULL;
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    const struct hf_vault_log_options options = {.backend = hf_repository_backend(repository),
                                                 .repository = hf_repository_id(repository),
                                                 .vault = *vault,
                                                 .signers = hf_repository_signers(repository)};
    if (!vault_state_new(&state, err) || !hf_vault_log_open(&options, &log, err))
        return false;
    struct reading reading = {state, NULL, NULL};
    if (!hf_vault_log_read(log, take_entry, &reading, err))
        return false;
    state->head = hf_vault_log_head(log, state->head_hash);
    *ret = HF_TAKE(state);
    return true;
}

bool
hf_vault_append(struct hf_vault *vault, const struct hf_log_append *append, const struct hf_signing *signing,
                hf_vault_append_check *check, void *context, struct hf_error *err)
{
    for (int tries = 0; tries < APPEND_TRIES; tries++) {
        const struct hf_vault_state *state;
        struct hf_error failure = {0};
        if (!hf_vault_read(vault, NULL, NULL, &state, err) ||
            !hf_vault_may_append(state, append, &signing->appliance, err) ||
            (check != NULL && !check(context, state, err)))
            return false;
        struct hf_log_append entry = *append;
        if (entry.epoch == HF_LOG_EPOCH_NOW)
            entry.epoch = state->epoch;
        if (hf_vault_log_append(vault->log, &entry, signing, &failure))
            return hf_vault_read(vault, NULL, NULL, &state, err);
        if (failure.kind != HF_ERR_CONFLICT) {
            *err = failure;
            return false;
        }
    }
    return hf_fail(err, HF_ERR_CONFLICT, "could not write %s into the log: others were faster %d times",
                   hf_log_kind_name(append->kind), APPEND_TRIES);
}

bool
hf_vault_may_append(const struct hf_vault_state *state, const struct hf_log_append *append,
                    const struct hf_id *appliance, struct hf_error *err)
{
    struct log_ruling ruling;
    struct hf_log_entry entry = {.kind = append->kind,
                                 .sequence = state->head + 1,
                                 .time = append->time,
                                 .epoch = append->epoch == HF_LOG_EPOCH_NOW ? state->epoch : append->epoch,
                                 .appliance = *appliance,
                                 .public_part = (json_t *)(uintptr_t)append->public_part};
    if (!log_rules_judge(state, &entry, &ruling, err))
        return false;
    if (ruling.counts)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "%s would not count: %s", hf_log_kind_name(append->kind), ruling.why);
    if (entry.epoch < state->epoch || (!hf_id_is_none(&state->holder) && !hf_id_equal(&state->holder, appliance)))
        return hf_fail_hint(err,
                            "Another appliance took this vault over.  To write from this one again: holdfast vault "
                            "takeover.");
    return false;
}

const char *
hf_vault_state_place(const struct hf_vault_state *state, const struct hf_id *vault, const struct hf_vault_pack *pack,
                     char name[static HF_PLACE_BYTES], uint64_t *ret_bytes, const uint8_t **ret_sha256)
{
    const struct hf_vault_object *object =
        hf_id_equal(&pack->object, &pack->pack) ? NULL : hf_vault_state_object(state, &pack->object);
    *ret_bytes = object != NULL ? object->bytes : pack->bytes;
    if (ret_sha256 != NULL)
        *ret_sha256 = object != NULL ? object->sha256 : pack->sha256;
    return hf_pack_name(vault, &pack->object, name);
}

bool
hf_vault_pack_reader(struct hf_vault *vault, struct hf_pack_reader **ret, struct hf_error *err)
{
    size_t count;
    struct hf_pack_move *known;
    return list_moves(vault->state, &known, &count, err) &&
           hf_pack_reader_new(vault->backend, vault->keys, known, count, read_moves, vault, ret, err);
}

/* With a log of its own, so that it may be any thread that asks: the vault's is its owner's alone. */
static bool
read_moves(void *context, struct hf_pack_move **ret, size_t *ret_count, struct hf_error *err)
{
    const struct hf_vault *vault = context;
    _cleanup_(hf_vault_log_freep) struct hf_vault_log *log = NULL;
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    struct hf_vault_log_options options = vault->log_options;
    options.record_key = NULL;
    if (!vault_state_new(&state, err) || !hf_vault_log_open(&options, &log, err))
        return false;
    struct reading reading = {state, NULL, NULL};
    return hf_vault_log_read(log, take_entry, &reading, err) && list_moves(state, ret, ret_count, err);
}

static bool
list_moves(const struct hf_vault_state *state, struct hf_pack_move **ret, size_t *ret_count, struct hf_error *err)
{
    size_t count = 0;
    struct hf_pack_move *moves = calloc(state->pack_count + 1, sizeof *moves);
    if (moves == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of packs");
    for (size_t i = 0; i < state->pack_count; i++)
        if (state->packs[i].moved != 0)
            moves[count++] = (struct hf_pack_move){state->packs[i].pack, state->packs[i].object};
    *ret = moves;
    *ret_count = count;
    return true;
}

static bool
open_log(struct hf_vault *vault, const struct hf_root_bundle *signers, struct hf_error *err)
{
    if (vault->keys != NULL) {
        vault->repository = vault->keys->repository;
        vault->id = vault->keys->vault;
    }
    vault->log_options =
        (struct hf_vault_log_options){.backend = vault->backend,
                                      .repository = vault->repository,
                                      .vault = vault->id,
                                      .record_key = vault->keys != NULL ? &vault->keys->record_key : NULL,
                                      .signers = signers};
    return vault_state_new(&vault->state, err) && hf_vault_log_open(&vault->log_options, &vault->log, err);
}

static bool
write_lineage(struct hf_vault *vault, const struct hf_vault_new *how, struct hf_error *err)
{
    char hash[2 * HF_SHA256_BYTES + 1];
    _cleanup_(hf_json_freep) json_t *open_part = json_object();
    _cleanup_(hf_json_freep) json_t *sealed_part = json_object();
    const struct hf_log_append entry = {HF_LOG_LINEAGE, how->now, 0, open_part, sealed_part};
    const struct hf_vault_state *state;
    if (open_part == NULL || sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    return vault_lineage_hash(how->engine, how->identity, hash, err) &&
           hf_json_set(open_part, "engine", json_string(how->engine), err) &&
           hf_json_set(open_part, "lineage", json_string(hash), err) &&
           hf_json_set(sealed_part, "identity", json_string(how->identity), err) &&
           hf_json_set(sealed_part, "name", json_string(how->name), err) &&
           hf_vault_log_read(vault->log, NULL, NULL, err) &&
           hf_vault_log_append(vault->log, &entry, how->signer, err) && hf_vault_read(vault, NULL, NULL, &state, err);
}

static bool
match_lineage(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct lineage_search *search = context;
    const char *hash;
    if (entry->kind == HF_LOG_LINEAGE && hf_json_string(entry->public_part, "lineage", "LINEAGE", &hash, NULL))
        search->matches = strcmp(hash, search->hash) == 0;
    return hf_fail(err, HF_ERR_CANCELLED, "the first entry was enough");
}

/* A vault without keys whose log ends with its shredding is none that backups could go on in. */
static bool
is_alive(struct hf_repository *repository, const struct hf_id *vault, bool *ret, struct hf_error *err)
{
    char prefix[HF_GENERATION_NAME_BYTES];
    uint32_t newest;
    _cleanup_(hf_vault_state_freep) struct hf_vault_state *state = NULL;
    hf_vault_bundle_prefix(vault, prefix);
    if (!hf_generation_newest(hf_repository_backend(repository), prefix, UINT64_MAX, &newest, err))
        return false;
    *ret = true;
    if (newest > 0)
        return true;
    if (!hf_vault_read_shut(repository, vault, &state, err))
        return false;
    *ret = !state->shredded;
    return true;
}

/*
 * The log says how far the keys had come.  Ours may be older, since they were read before the last rotation; then the
 * newer ones are in the store.  After a SHRED there are none, and that is right.
 */
static bool
check_generation(struct hf_vault *vault, struct hf_error *err)
{
    char prefix[HF_GENERATION_NAME_BYTES], text[HF_ID_TEXT_BYTES];
    uint32_t newest;
    const struct hf_vault_state *state = vault->state;
    if (vault->keys == NULL || state->key_generation <= vault->keys->generation || state->shredded)
        return true;
    hf_vault_bundle_prefix(&vault->id, prefix);
    if (!hf_generation_newest(vault->backend, prefix, UINT64_MAX, &newest, err))
        return false;
    if (newest >= state->key_generation)
        return true;
    return hf_fail(err, HF_ERR_CORRUPT,
                   "key bundle \"%s%08x\" is older than generation %u, which the log of vault \"%s\" knows: an older "
                   "copy was put back",
                   prefix, vault->keys->generation, state->key_generation, hf_id_format(&vault->id, text));
}

static bool
take_entry(void *context, const struct hf_log_entry *entry, struct hf_error *err)
{
    struct reading *reading = context;
    struct hf_log_entry judged = *entry;
    if (!vault_state_apply(reading->state, entry, &judged.counts, err))
        return false;
    reading->state->head = entry->sequence;
    return reading->visit == NULL || reading->visit(reading->context, &judged, err);
}
