#include <stdio.h>
#include <string.h>

#include "server/care/copy_internal.h"
#include "server/keys/generations.h"
#include "server/keys/in_force.h"
#include "server/keys/stored_keys.h"

#define SLOT_PREFIX "keys/slot-"
#define TURNS_MOST  3 // rotations that one run waits for

static bool copy_one_state(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err);
static bool copy_slots(struct copy *copy, struct hf_error *err);
static bool copy_bundles(struct copy *copy, const struct copy_listing *here, struct hf_error *err);
static bool copy_in_force(struct copy *copy, uint32_t generation, struct hf_error *err);
static bool copy_if_new(struct copy *copy, const char *name, struct hf_error *err);
static bool remove_slots(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err);
static bool is_in_force(const struct copy_vault *vaults, size_t count, const char *slot, bool *known);
static bool remove_root_bundles(struct copy *copy, struct hf_error *err);
static bool remove_bundles(struct copy *copy, const struct copy_vault *vault, struct hf_error *err);
static bool remove_unless_there(struct copy *copy, const struct copy_listing *here, const struct copy_object *object,
                                struct hf_error *err);

/*
 * Keys may be rotated in the original meanwhile (rotation.h), and whatever of that is seen, the copy must open.  So
 * bundles are named before slots are listed: the slots that open one were made before it.  And which root key is in
 * force is copied after everything that it opens, and only if it was the same before the bundles were named.
 */
bool
copy_keys(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    for (int tries = 0; tries < TURNS_MOST; tries++) {
        uint32_t before, after;
        if (!hf_in_force_find(copy->from, &before, err) || !copy_one_state(copy, vaults, count, err) ||
            !hf_in_force_find(copy->from, &after, err))
            return false;
        if (before == after)
            return copy_in_force(copy, before, err);
    }
    return hf_fail(err, HF_ERR_UNAVAILABLE, "the root key was replaced %d times while it was copied", TURNS_MOST);
}

static bool
copy_one_state(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    struct copy_listing *bundles = calloc(count + 1, sizeof *bundles);
    if (bundles == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the keys of %zu vaults", count);
    char prefix[HF_GENERATION_NAME_BYTES];
    bool ok = copy_list(copy->from, HF_ROOT_BUNDLE_PREFIX, &bundles[count], err);
    for (size_t i = 0; ok && i < count; i++) {
        hf_vault_bundle_prefix(&vaults[i].id, prefix);
        ok = copy_list(copy->from, prefix, &bundles[i], err);
    }
    ok = ok && copy_slots(copy, err);
    for (size_t i = 0; ok && i <= count; i++)
        ok = copy_bundles(copy, &bundles[i], err);
    for (size_t i = 0; i <= count; i++)
        copy_listing_done(&bundles[i]);
    free(bundles);
    return ok;
}

static bool
copy_slots(struct copy *copy, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    if (!copy_list(copy->from, SLOT_PREFIX, &here, err) || !copy_list(copy->to, SLOT_PREFIX, &there, err))
        return false;
    for (size_t i = 0; i < here.count; i++) {
        const char *name = here.objects[i].name;
        if (!copy_small(copy, name, COPY_PROVES_ITSELF, copy_find(&there, name), err))
            return false;
    }
    return true;
}

static bool
copy_bundles(struct copy *copy, const struct copy_listing *here, struct hf_error *err)
{
    for (size_t i = 0; i < here->count; i++)
        if (!copy_if_new(copy, here->objects[i].name, err))
            return false;
    return true;
}

/* Of generation 1 there is none. */
static bool
copy_in_force(struct copy *copy, uint32_t generation, struct hf_error *err)
{
    char name[HF_GENERATION_NAME_BYTES];
    return generation == 1 || copy_if_new(copy, hf_generation_name(HF_IN_FORCE_PREFIX, generation, name), err);
}

static bool
copy_if_new(struct copy *copy, const char *name, struct hf_error *err)
{
    bool found;
    uint64_t size;
    if (!hf_backend_stat(copy->to, name, &found, &size, err))
        return false;
    const struct copy_object there = {.name = (char *)(uintptr_t)name, .size = size};
    return copy_small(copy, name, COPY_FIXED, found ? &there : NULL, err);
}

/*
 * A key that was given up must not go on opening the copy.  Two must agree before one is taken away there: the log,
 * that it is out of use, and the original, that does not have it any more.
 */
bool
copy_keys_remove(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!remove_bundles(copy, &vaults[i], err))
            return false;
    uint32_t in_force;
    return remove_slots(copy, vaults, count, err) && remove_root_bundles(copy, err) &&
           hf_in_force_find(copy->to, &in_force, err) && hf_in_force_remove_older(copy->to, in_force, err);
}

static bool
remove_slots(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    if (!copy_list(copy->from, SLOT_PREFIX, &here, err) || !copy_list(copy->to, SLOT_PREFIX, &there, err))
        return false;
    for (size_t i = 0; i < there.count; i++) {
        bool known = false;
        if (is_in_force(vaults, count, there.objects[i].name + strlen(SLOT_PREFIX), &known) || !known)
            continue;
        if (!remove_unless_there(copy, &here, &there.objects[i], err))
            return false;
    }
    return true;
}

/* By the last KEY of any vault; *known: at least one vault has one. */
static bool
is_in_force(const struct copy_vault *vaults, size_t count, const char *slot, bool *known)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *row;
        size_t index;
        json_array_foreach(vaults[i].slots_in_force, index, row)
        {
            *known = true;
            if (json_is_string(row) && strcmp(json_string_value(row), slot) == 0)
                return true;
        }
    }
    return false;
}

/* Of a vault that was shredded all; else the generations before that of the last KEY. */
static bool
remove_bundles(struct copy *copy, const struct copy_vault *vault, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    char prefix[128], newest[160], text[HF_ID_TEXT_BYTES];
    if (!vault->state->shredded && vault->state->key_generation == 0)
        return true;
    snprintf(prefix, sizeof prefix, "vaults/%s/keys-", hf_id_format(&vault->id, text));
    snprintf(newest, sizeof newest, "%s%08x", prefix, vault->state->key_generation);
    if (!copy_list(copy->from, prefix, &here, err) || !copy_list(copy->to, prefix, &there, err))
        return false;
    for (size_t i = 0; i < there.count; i++) {
        if (!vault->state->shredded && strcmp(there.objects[i].name, newest) >= 0)
            continue;
        if (!remove_unless_there(copy, &here, &there.objects[i], err))
            return false;
    }
    return true;
}

/*
 * No log names them.  Those before the newest nobody reads, and after a rotation nobody can: they would pass for
 * damage.
 */
static bool
remove_root_bundles(struct copy *copy, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    if (!copy_list(copy->from, HF_ROOT_BUNDLE_PREFIX, &here, err) ||
        !copy_list(copy->to, HF_ROOT_BUNDLE_PREFIX, &there, err))
        return false;
    for (size_t i = 0; i + 1 < there.count; i++)
        if (!remove_unless_there(copy, &here, &there.objects[i], err))
            return false;
    return true;
}

static bool
remove_unless_there(struct copy *copy, const struct copy_listing *here, const struct copy_object *object,
                    struct hf_error *err)
{
    if (copy_find(here, object->name) != NULL)
        return true;
    if (!copy_go_on(copy, err) || !hf_backend_delete(copy->to, object->name, err))
        return false;
    copy->report->removed++;
    copy->report->removed_bytes += object->size;
    return true;
}
