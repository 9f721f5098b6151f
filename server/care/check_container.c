#include <stdio.h>
#include <string.h>

#include "server/care/check_internal.h"

#define READ_BYTES (1 * HF_MIB)

static bool look_at(struct check *check, const struct hf_vault_object *object, struct checked_object *ret,
                    struct hf_error *err);
static bool hash_object(struct check *check, const struct hf_vault_object *object, bool *ret_same,
                        struct hf_error *err);
static void tell_altered(struct check *check, struct checked_pack *checked);

bool
check_container(struct check *check, struct checked_pack *checked, struct hf_error *err)
{
    struct checked_object looked;
    const struct hf_vault_object *object = hf_vault_state_object(check->state, &checked->pack->object);
    if (!look_at(check, object, &looked, err)) {
        if (err->kind == HF_ERR_CANCELLED)
            return true; // said at the end
        if (!check_is_damage(err))
            return false;
        check_tell_pack(check, checked, HF_DAMAGE_UNREADABLE, HF_DAMAGE_NO_SLAB, err->message);
    } else if (!looked.same) {
        tell_altered(check, checked);
    }
    return true;
}

/* What the seals do not cover: bytes between the parts of a container, or of slabs that nobody needs. */
bool
check_containers(struct check *check, struct hf_error *err)
{
    for (size_t i = 0; i < check->state->object_count; i++) {
        const struct hf_vault_object *object = &check->state->objects[i];
        struct checked_pack *first = NULL;
        bool told = false;
        for (size_t pack = 0; pack < check->wanted_count; pack++) {
            if (!hf_id_equal(&check->wanted[pack].pack->object, &object->object))
                continue;
            first = first == NULL ? &check->wanted[pack] : first;
            told = told || check->wanted[pack].told;
        }
        if (first == NULL || told)
            continue; // nobody lies in it, or its damage is known in detail
        if (!check_container(check, first, err))
            return false;
        for (size_t pack = 0; first->told && pack < check->wanted_count; pack++)
            if (hf_id_equal(&check->wanted[pack].pack->object, &object->object) && !check->wanted[pack].told)
                tell_altered(check, &check->wanted[pack]);
    }
    return true;
}

bool
check_is_used(struct check *check, const struct hf_id *object)
{
    const size_t count = check->state->pack_count;
    if (count == 0)
        return false;
    if (check->used == NULL) {
        check->used = calloc(count, sizeof *check->used);
        if (check->used == NULL)
            return true; // not counted: the count is for people
        for (size_t i = 0; i < count; i++)
            check->used[i] = check->state->packs[i].object;
        qsort(check->used, count, sizeof *check->used, hf_id_compare);
    }
    return bsearch(object, check->used, count, sizeof *check->used, hf_id_compare) != NULL;
}

/* Two workers may read one container at the same time: both come to the same answer. */
static bool
look_at(struct check *check, const struct hf_vault_object *object, struct checked_object *ret, struct hf_error *err)
{
    const size_t at = (size_t)(object - check->state->objects);
    pthread_mutex_lock(&check->lock);
    if (check->containers == NULL)
        check->containers = calloc(check->state->object_count, sizeof *check->containers);
    const bool ok = check->containers != NULL;
    if (ok)
        *ret = check->containers[at];
    pthread_mutex_unlock(&check->lock);
    if (!ok)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of containers");
    if (ret->known)
        return true;
    if (!hash_object(check, object, &ret->same, err))
        return false;
    ret->known = true;
    pthread_mutex_lock(&check->lock);
    check->containers[at] = *ret;
    pthread_mutex_unlock(&check->lock);
    return true;
}

static bool
hash_object(struct check *check, const struct hf_vault_object *object, bool *ret_same, struct hf_error *err)
{
    char name[HF_PACK_NAME_BYTES];
    uint8_t digest[HF_SHA256_BYTES];
    _cleanup_(hf_sha256_freep) struct hf_sha256 *running = NULL;
    _cleanup_(hf_buf_done) struct hf_buf piece = HF_BUF_INIT(READ_BYTES + 1);
    hf_pack_name(&check->vault_id, &object->object, name);
    if (!hf_sha256_new(&running, err) || !hf_buf_reserve(&piece, READ_BYTES, err))
        return false;
    for (uint64_t at = 0; at < object->bytes; at += READ_BYTES) {
        const size_t length = object->bytes - at < READ_BYTES ? (size_t)(object->bytes - at) : READ_BYTES;
        if (check_cancelled(check))
            return hf_fail(err, HF_ERR_CANCELLED, "the check was cancelled");
        if (check->options->pace != NULL)
            check->options->pace(check->options->context, length);
        if (!hf_backend_get_range(check->backend, name, at, piece.data, length, err))
            return false;
        hf_sha256_add(running, piece.data, length);
    }
    hf_sha256_end(running, digest);
    *ret_same = memcmp(digest, object->sha256, sizeof digest) == 0;
    return true;
}

static void
tell_altered(struct check *check, struct checked_pack *checked)
{
    char message[HF_ERROR_MESSAGE_BYTES], pack[HF_ID_TEXT_BYTES], object[HF_ID_TEXT_BYTES];
    snprintf(message, sizeof message,
             "container \"%s\", in which pack \"%s\" lies, was altered: its hash is not the one in the log",
             hf_id_format(&checked->pack->object, object), hf_id_format(&checked->pack->pack, pack));
    check_tell_pack(check, checked, HF_DAMAGE_ALTERED, HF_DAMAGE_NO_SLAB, message);
}
