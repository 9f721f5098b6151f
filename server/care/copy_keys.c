#include <stdio.h>
#include <string.h>

#include "server/care/copy_internal.h"
#include "server/keys/in_force.h"

#define SLOT_PREFIX "keys/slot-"

static bool remove_slots(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err);
static bool is_in_force(const struct copy_vault *vaults, size_t count, const char *slot, bool *known);
static bool remove_bundles(struct copy *copy, const struct copy_vault *vault, struct hf_error *err);
static bool remove_unless_there(struct copy *copy, const struct copy_listing *here, const struct copy_object *object,
                                struct hf_error *err);

/*
 * Which root key is in force is copied by itself, after everything that it opens: until then the older one opens what lies
 * there, as in a rotation (rotation.h).
 */
bool
copy_keys(struct copy *copy, const char *prefix, struct hf_error *err)
{
    _cleanup_(copy_listing_done) struct copy_listing here = {0}, there = {0};
    if (!copy_list(copy->from, prefix, &here, err) || !copy_list(copy->to, prefix, &there, err))
        return false;
    for (size_t i = 0; i < here.count; i++) {
        const char *name = here.objects[i].name;
        const bool slot = strncmp(name, SLOT_PREFIX, strlen(SLOT_PREFIX)) == 0;
        const bool turn = strncmp(name, HF_IN_FORCE_PREFIX, strlen(HF_IN_FORCE_PREFIX)) == 0;
        if (turn && strcmp(prefix, HF_IN_FORCE_PREFIX) != 0)
            continue;
        if (!copy_small(copy, name, slot ? COPY_PROVES_ITSELF : COPY_FIXED, copy_find(&there, name), err))
            return false;
    }
    return true;
}

/*
 * A key that was given up must not go on opening the copy.  Two must agree before one is taken away there: the log, that it
 * is out of use, and the original, that does not have it any more.
 */
bool
copy_keys_remove(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!remove_bundles(copy, &vaults[i], err))
            return false;
    uint32_t in_force;
    return remove_slots(copy, vaults, count, err) && hf_in_force_find(copy->to, &in_force, err) &&
           hf_in_force_remove_older(copy->to, in_force, err);
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
