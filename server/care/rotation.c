#include "server/care/rotation.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/keys/in_force.h"
#include "server/keys/stored_keys.h"

#define FILES_MOST  65536 // of a vault in a folder
#define VAULTS_MOST 65536

/* Vaults that have a bundle, whether they have a log or not. */
struct keyed_vaults {
    struct hf_id *ids;
    size_t count;
};

static bool remove_journals(struct hf_backend *backend, const char *vault, uint32_t *ret_count, struct hf_error *err);
static bool remove_files(const char *folder, const char *beginning, uint32_t *ret_count, struct hf_error *err);
static void keyed_vaults_done(struct keyed_vaults *vaults);
static bool list_keyed_vaults(struct hf_repository *repository, struct keyed_vaults *ret, struct hf_error *err);
static bool note_keyed_vault(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool has_old_bundles(struct hf_backend *backend, const char *prefix, bool *ret, struct hf_error *err);

static bool drop_pending(struct hf_repository *repository, const struct keyed_vaults *vaults, struct hf_error *err);
static bool drop_pending_bundles(struct hf_repository *repository, const struct keyed_vaults *vaults,
                                 struct hf_error *err);
static bool drop_above(struct hf_repository *repository, const char *prefix, const struct hf_envelope *envelope,
                       struct hf_error *err);
static bool remove_slots(struct hf_repository *repository, bool pending, struct hf_error *err);
static bool settle_root(struct hf_repository *repository, struct hf_error *err);
static bool settle_vault(struct hf_repository *repository, const struct hf_id *id, const struct hf_signing *signing,
                         int64_t now, struct hf_error *err);
static bool write_key_entry(struct hf_repository *repository, struct hf_vault *vault, const struct hf_signing *signing,
                            int64_t now, struct hf_error *err);

static bool open_next_root_key(struct hf_repository *repository, const struct hf_rotation_turn *how, uint32_t next,
                               struct hf_secret *ret, struct hf_error *err);
static bool check_counterparts(struct hf_repository *repository, const struct hf_rotation_turn *how, uint32_t next,
                               struct hf_error *err);
static bool has_counterpart(const struct hf_slot_info *slots, size_t count, const struct hf_slot_info *of,
                            uint32_t next);
static bool rewrap_all(struct hf_repository *repository, const struct keyed_vaults *vaults,
                       const struct hf_secret *new_key, struct hf_error *err);
static bool bring_into_force(struct hf_repository *repository, uint32_t next, struct hf_secret *new_key, int64_t now,
                             bool *ret_turned, struct hf_error *err);

static bool fail_after_turn(struct hf_error *err);
static struct hf_envelope root_envelope(const struct hf_repository *repository);
static struct hf_envelope vault_envelope(const struct hf_repository *repository, const struct hf_id *vault);

bool
hf_rotation_look(struct hf_repository *repository, struct hf_rotation_state *ret, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_STORED_MOST];
    size_t count;
    _cleanup_(keyed_vaults_done) struct keyed_vaults vaults = {0};
    struct hf_rotation_state state = {0};
    bool old;
    if (!hf_in_force_find(backend, &state.in_force, err) || !hf_slot_list_all(backend, &id, slots, &count, err) ||
        !list_keyed_vaults(repository, &vaults, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        state.pending += slots[i].generation > state.in_force;
        state.left_over += slots[i].generation < state.in_force;
    }
    for (size_t i = 0; i < vaults.count; i++) {
        char prefix[HF_GENERATION_NAME_BYTES];
        hf_vault_bundle_prefix(&vaults.ids[i], prefix);
        if (!has_old_bundles(backend, prefix, &old, err))
            return false;
        state.old_bundles += old;
    }
    *ret = state;
    return true;
}

bool
hf_rotation_settle(struct hf_repository *repository, const struct hf_signing *signing, int64_t now,
                   struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    struct hf_rotation_state state;
    _cleanup_(keyed_vaults_done) struct keyed_vaults vaults = {0};
    if (hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    if (!hf_rotation_look(repository, &state, err) || !list_keyed_vaults(repository, &vaults, err))
        return false;
    if (state.in_force != hf_repository_root_generation(repository))
        return hf_fail(err, HF_ERR_CONFLICT, "the root key was replaced since the repository was opened");

    // First what never came into force: it must not be taken for newer keys below.
    if (state.pending > 0 && !drop_pending(repository, &vaults, err))
        return hf_fail_within(err, "could not take a rotation back that was cut off");
    if (!settle_root(repository, err))
        return false;
    for (size_t i = 0; i < vaults.count; i++)
        if (!settle_vault(repository, &vaults.ids[i], signing, now, err))
            return hf_fail_within(err, "could not finish a rotation that was cut off");
    return remove_slots(repository, false, err) && hf_in_force_remove_older(backend, state.in_force, err);
}

bool
hf_rotation_add_epoch(struct hf_repository *repository, const struct hf_id *id, const struct hf_signing *signing,
                      int64_t now, uint32_t *ret_epoch, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_vault_freep) struct hf_vault *before = NULL;
    const struct hf_vault_state *state;
    if (!hf_vault_open(repository, id, &before, err) || !hf_vault_read(before, NULL, NULL, &state, err))
        return false;
    if (state->shredded)
        return hf_fail(err, HF_ERR_CONFLICT, "vault \"%s\" was shredded", hf_id_format(id, text));
    if (!hf_vault_keys_add_epoch(backend, hf_vault_keys(before), hf_repository_root_key(repository), now, err) ||
        !settle_vault(repository, id, signing, now, err))
        return hf_fail_within(err, "could not replace the data key of vault \"%s\"", hf_id_format(id, text));
    *ret_epoch = (uint32_t)hf_vault_keys(before)->epoch_count + 1;
    return true;
}

bool
hf_rotation_make_turn(struct hf_repository *repository, const struct hf_rotation_turn *how, bool *ret_turned,
                      struct hf_error *err)
{
    const uint32_t next = hf_repository_root_generation(repository) + 1;
    _cleanup_(keyed_vaults_done) struct keyed_vaults vaults = {0};
    _cleanup_(hf_secret_done) struct hf_secret new_key = {0};
    *ret_turned = false;
    if (hf_repository_root_key(repository) == NULL)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    if (!open_next_root_key(repository, how, next, &new_key, err) || !check_counterparts(repository, how, next, err) ||
        !list_keyed_vaults(repository, &vaults, err) || !drop_pending_bundles(repository, &vaults, err) ||
        !rewrap_all(repository, &vaults, &new_key, err) || !check_counterparts(repository, how, next, err) ||
        !bring_into_force(repository, next, &new_key, how->now, ret_turned, err))
        return *ret_turned ? fail_after_turn(err) : hf_fail_within(err, "could not replace the root key");
    if (hf_rotation_settle(repository, how->signing, how->now, err))
        return true;
    return fail_after_turn(err);
}

bool
hf_shred_keys(struct hf_backend *backend, const struct hf_id *vault, const char *cache_folder,
              struct hf_shred_report *ret, struct hf_error *err)
{
    char prefix[HF_GENERATION_NAME_BYTES], name[HF_GENERATION_NAME_BYTES], text[HF_ID_TEXT_BYTES];
    struct hf_shred_report report = {0};
    uint32_t newest;
    hf_vault_bundle_prefix(vault, prefix);
    for (;;) {
        if (!hf_generation_newest(backend, prefix, UINT64_MAX, &newest, err))
            return false;
        if (newest == 0)
            break;
        if (!hf_backend_destroy(backend, hf_generation_name(prefix, newest, name), err))
            return hf_fail_within(err, "could not destroy the keys of vault \"%s\"", hf_id_format(vault, text));
        report.bundles++;
    }

    hf_id_format(vault, text);
    if ((cache_folder != NULL && !remove_files(cache_folder, text, &report.cache_files, err)) ||
        !remove_journals(backend, text, &report.journals, err))
        return false;
    *ret = report;
    return true;
}

/* The newest part of a stream, which no pack holds yet: <repository>/journal/<vault id>/ (server/storage/format.h). */
static bool
remove_journals(struct hf_backend *backend, const char *vault, uint32_t *ret_count, struct hf_error *err)
{
    char folder[PATH_MAX];
    if (!hf_place_is_local(hf_backend_place(backend)))
        return true; // a receiver needs a repository on this host
    if (snprintf(folder, sizeof folder, "%s/journal/%s", hf_backend_place(backend), vault) >= (int)sizeof folder)
        return hf_fail(err, HF_ERR_USAGE, "the path \"%s\" is too long", hf_backend_place(backend));
    if (!remove_files(folder, "", ret_count, err))
        return false;
    if (rmdir(folder) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", folder);
    return true;
}

/* Those whose names begin so; a folder that is not there has none. */
static bool
remove_files(const char *folder, const char *beginning, uint32_t *ret_count, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count = 0;
    struct hf_error missing;
    if (!hf_dir_list(folder, FILES_MOST, &names, &count, &missing)) {
        if (missing.kind == HF_ERR_NOT_FOUND)
            return true;
        if (err != NULL)
            *err = missing;
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], beginning, strlen(beginning)) != 0)
            continue;
        _cleanup_(hf_freep) char *path = hf_path_join(folder, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (unlink(path) != 0 && errno != ENOENT)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
        ++*ret_count;
    }
    return count == 0 || hf_dir_sync(folder, err);
}

static void
keyed_vaults_done(struct keyed_vaults *vaults)
{
    free(vaults->ids);
}

static bool
list_keyed_vaults(struct hf_repository *repository, struct keyed_vaults *ret, struct hf_error *err)
{
    return hf_backend_list(hf_repository_backend(repository), "vaults/", note_keyed_vault, ret, err) ||
           hf_fail_within(err, "could not list the vaults of \"%s\"",
                          hf_backend_place(hf_repository_backend(repository)));
}

/* "vaults/<id>/keys-<generation>"; names come sorted. */
static bool
note_keyed_vault(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct keyed_vaults *vaults = context;
    char text[HF_ID_TEXT_BYTES] = "";
    struct hf_id id;
    const char *name = object->name + strlen("vaults/");
    if (strlen(name) < HF_ID_TEXT_BYTES || strncmp(name + HF_ID_TEXT_BYTES - 1, "/keys-", 6) != 0)
        return true;
    memcpy(text, name, HF_ID_TEXT_BYTES - 1);
    if (!hf_id_parse(text, &id, NULL) || (vaults->count > 0 && hf_id_equal(&vaults->ids[vaults->count - 1], &id)))
        return true;
    if (vaults->count == VAULTS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "there are more than %d", VAULTS_MOST);
    struct hf_id *longer = reallocarray(vaults->ids, vaults->count + 1, sizeof *longer);
    if (longer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of vaults");
    vaults->ids = longer;
    vaults->ids[vaults->count++] = id;
    return true;
}

static bool
has_old_bundles(struct hf_backend *backend, const char *prefix, bool *ret, struct hf_error *err)
{
    uint32_t newest, oldest;
    if (!hf_generation_newest(backend, prefix, UINT64_MAX, &newest, err) ||
        !hf_generation_oldest(backend, prefix, &oldest, err))
        return false;
    *ret = oldest != newest;
    return true;
}

/* Bundles before slots: while there are slots that wait, readers pass the bundles over. */
static bool
drop_pending(struct hf_repository *repository, const struct keyed_vaults *vaults, struct hf_error *err)
{
    return drop_pending_bundles(repository, vaults, err) && remove_slots(repository, true, err);
}

static bool
drop_pending_bundles(struct hf_repository *repository, const struct keyed_vaults *vaults, struct hf_error *err)
{
    const struct hf_envelope root = root_envelope(repository);
    if (!drop_above(repository, HF_ROOT_BUNDLE_PREFIX, &root, err))
        return false;
    for (size_t i = 0; i < vaults->count; i++) {
        const struct hf_envelope envelope = vault_envelope(repository, &vaults->ids[i]);
        char prefix[HF_GENERATION_NAME_BYTES];
        hf_vault_bundle_prefix(&vaults->ids[i], prefix);
        if (!drop_above(repository, prefix, &envelope, err))
            return false;
    }
    return true;
}

/* Keeps the newest that our root key opens: it was opened a moment ago, so what lies above it is not ours. */
static bool
drop_above(struct hf_repository *repository, const char *prefix, const struct hf_envelope *envelope,
           struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    uint32_t newest;
    return hf_bundle_newest(backend, prefix, envelope, hf_repository_root_key(repository), &newest, err) &&
           hf_generation_remove_above(backend, prefix, newest, err);
}

static bool
remove_slots(struct hf_repository *repository, bool pending, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_id id = hf_repository_id(repository);
    const uint32_t in_force = hf_repository_root_generation(repository);
    struct hf_slot_info slots[HF_SLOTS_STORED_MOST];
    size_t count;
    if (!hf_slot_list_all(backend, &id, slots, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        bool goes = pending ? slots[i].generation > in_force : slots[i].generation < in_force;
        if (goes && !hf_slot_remove(backend, &slots[i].id, err))
            return hf_fail_within(err, "could not remove key slot \"%s\"", slots[i].name);
    }
    return true;
}

static bool
settle_root(struct hf_repository *repository, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_envelope envelope = root_envelope(repository);
    uint32_t newest;
    return hf_bundle_newest(backend, HF_ROOT_BUNDLE_PREFIX, &envelope, hf_repository_root_key(repository), &newest,
                            err) &&
           hf_generation_remove_below(backend, HF_ROOT_BUNDLE_PREFIX, newest, err);
}

/* The log hears of the newest keys before any older ones go: until then it would not miss them. */
static bool
settle_vault(struct hf_repository *repository, const struct hf_id *id, const struct hf_signing *signing, int64_t now,
             struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    const struct hf_vault_state *state;
    char prefix[HF_GENERATION_NAME_BYTES];
    bool old;
    hf_vault_bundle_prefix(id, prefix);
    if (!has_old_bundles(backend, prefix, &old, err))
        return false;
    if (!old)
        return true;
    if (!hf_vault_open(repository, id, &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    const uint32_t generation = hf_vault_keys(vault)->generation;
    // A vault without log was never finished: nothing could miss its keys.
    if (state->engine != NULL && state->key_generation < generation &&
        !write_key_entry(repository, vault, signing, now, err))
        return false;
    return hf_generation_remove_below(backend, prefix, generation, err);
}

static bool
write_key_entry(struct hf_repository *repository, struct hf_vault *vault, const struct hf_signing *signing, int64_t now,
                struct hf_error *err)
{
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_MOST];
    size_t count;
    _cleanup_(hf_json_freep) json_t *said = json_object();
    json_t *ids = json_array();
    if (!hf_slot_list(hf_repository_backend(repository), &id, slots, &count, err)) {
        json_decref(ids);
        return false;
    }
    for (size_t i = 0; i < count; i++)
        if (ids != NULL && json_array_append_new(ids, hf_json_id_text(&slots[i].id)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    if (said == NULL || !hf_json_set(said, "slots", ids, err) ||
        !hf_json_set(said, "generation", json_integer(hf_vault_keys(vault)->generation), err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_log_append entry = {
        .kind = HF_LOG_KEY, .time = now, .epoch = HF_LOG_EPOCH_NOW, .public_part = said};
    return hf_vault_append(vault, &entry, signing, NULL, NULL, err);
}

static bool
open_next_root_key(struct hf_repository *repository, const struct hf_rotation_turn *how, uint32_t next,
                   struct hf_secret *ret, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slot;
    uint32_t in_force;
    if (!hf_in_force_find(backend, &in_force, err))
        return false;
    if (in_force + 1 != next)
        return hf_fail(err, HF_ERR_CONFLICT, "the root key was replaced since the repository was opened");
    return hf_slot_open_generation(backend, &id, how->credential, next, ret, &slot, err);
}

static bool
check_counterparts(struct hf_repository *repository, const struct hf_rotation_turn *how, uint32_t next,
                   struct hf_error *err)
{
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_STORED_MOST];
    size_t count;
    if (!hf_slot_list_all(hf_repository_backend(repository), &id, slots, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        bool dropped = slots[i].generation + 1 != next || has_counterpart(slots, count, &slots[i], next);
        for (size_t d = 0; d < how->dropped_count; d++)
            dropped = dropped || hf_id_equal(&how->dropped[d], &slots[i].id);
        if (dropped)
            continue;
        hf_fail(err, HF_ERR_CONFLICT, "key slot \"%s\" would no longer open the repository", slots[i].name);
        return hf_fail_hint(err, "Give what opens it, so that it can be made again, or give it up with --drop %s.",
                            slots[i].name);
    }
    return true;
}

static bool
has_counterpart(const struct hf_slot_info *slots, size_t count, const struct hf_slot_info *of, uint32_t next)
{
    for (size_t i = 0; i < count; i++)
        if (slots[i].generation == next && slots[i].kind == of->kind && strcmp(slots[i].name, of->name) == 0)
            return true;
    return false;
}

static bool
rewrap_all(struct hf_repository *repository, const struct keyed_vaults *vaults, const struct hf_secret *new_key,
           struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_secret *old_key = hf_repository_root_key(repository);
    const struct hf_envelope root = root_envelope(repository);
    if (!hf_bundle_rewrap(backend, HF_ROOT_BUNDLE_PREFIX, &root, old_key, new_key, err))
        return false;
    for (size_t i = 0; i < vaults->count; i++) {
        const struct hf_envelope envelope = vault_envelope(repository, &vaults->ids[i]);
        char prefix[HF_GENERATION_NAME_BYTES];
        hf_vault_bundle_prefix(&vaults->ids[i], prefix);
        if (!hf_bundle_rewrap(backend, prefix, &envelope, old_key, new_key, err))
            return false;
    }
    return true;
}

/* A failed creation may have created it: the name tells. */
static bool
bring_into_force(struct hf_repository *repository, uint32_t next, struct hf_secret *new_key, int64_t now,
                 bool *ret_turned, struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_superblock *superblock = hf_repository_superblock(repository);
    struct hf_error problem;
    uint32_t in_force;
    bool created = hf_in_force_create(backend, superblock, next, new_key, now, &problem);
    if (!created && (!hf_in_force_find(backend, &in_force, NULL) || in_force != next)) {
        if (err != NULL)
            *err = problem;
        return false;
    }
    if (!hf_in_force_check(backend, superblock, next, new_key, err))
        return false;
    hf_repository_adopt_root_key(repository, next, new_key);
    *ret_turned = true;
    if (!created && err != NULL)
        *err = problem; // it is there, but perhaps not durably
    return created;
}

static bool
fail_after_turn(struct hf_error *err)
{
    hf_fail_within(err, "the new root key is in force, but the old one could not be cleared away");
    return hf_fail_hint(err, "Everything opens with the new slots.  The next \"holdfast key rotate\" does the rest.");
}

static struct hf_envelope
root_envelope(const struct hf_repository *repository)
{
    const struct hf_id id = hf_repository_id(repository);
    return (struct hf_envelope){.kind = HF_ENVELOPE_ROOT_BUNDLE, .repository = id, .object = id};
}

static struct hf_envelope
vault_envelope(const struct hf_repository *repository, const struct hf_id *vault)
{
    return (struct hf_envelope){
        .kind = HF_ENVELOPE_VAULT_BUNDLE, .repository = hf_repository_id(repository), .object = *vault};
}
