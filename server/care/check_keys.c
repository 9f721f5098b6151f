#include <stdio.h>
#include <string.h>

#include "server/care/check_internal.h"
#include "server/care/rotation.h"
#include "server/keys/envelope.h"
#include "server/keys/in_force.h"
#include "server/keys/stored_keys.h"

#define BUNDLE_MOST (256 * HF_KIB)

static bool check_superblock(struct check *check, struct hf_error *err);
static bool check_object(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool check_slot(struct check *check, const char *name, const char *id, struct hf_error *err);
static bool check_bundle(struct check *check, const char *name, const char *digits, enum hf_envelope_kind kind,
                         struct hf_error *err);
static bool check_vault_object(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool is_of_a_rotation(struct check *check);
static bool judge(struct check *check, bool ok, struct hf_error *err);

bool
check_keys_of_repository(struct check *check, struct hf_error *err)
{
    return check_superblock(check, err) && hf_backend_list(check->backend, "keys/", check_object, check, err);
}

bool
check_keys_of_vault(struct check *check, struct hf_error *err)
{
    char prefix[64], text[HF_ID_TEXT_BYTES];
    snprintf(prefix, sizeof prefix, "vaults/%s/keys-", hf_id_format(&check->vault_id, text));
    return hf_backend_list(check->backend, prefix, check_vault_object, check, err);
}

/* As it lies there now: what was read when the repository was opened is long ago. */
static bool
check_superblock(struct check *check, struct hf_error *err)
{
    struct hf_superblock superblock;
    const struct hf_secret *root_key = hf_repository_root_key(check->repository);
    const struct hf_id id = hf_repository_id(check->repository);
    bool ok = hf_superblock_read(check->backend, HF_ACCESS_READ, &superblock, err);
    if (!ok && err->kind == HF_ERR_NOT_FOUND)
        return check_storage(check, NULL, err);
    if (ok && !hf_id_equal(&superblock.repository, &id))
        ok = hf_fail(err, HF_ERR_CORRUPT, "superblock of \"%s\" is that of another repository",
                     hf_backend_place(check->backend));
    // Once the root key was replaced, the object that says so also vouches for the superblock (in_force.h).
    return judge(
        check,
        ok && (root_key == NULL || hf_in_force_check(check->backend, &superblock,
                                                     hf_repository_root_generation(check->repository), root_key, err)),
        err);
}

static bool
check_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct check *check = context;
    static const char slot[] = "keys/slot-", root[] = "keys/root-";
    if (strncmp(object->name, slot, strlen(slot)) == 0)
        return check_slot(check, object->name, object->name + strlen(slot), err);
    if (strncmp(object->name, root, strlen(root)) == 0)
        return check_bundle(check, object->name, object->name + strlen(root), HF_ENVELOPE_ROOT_BUNDLE, err);
    if (strncmp(object->name, HF_IN_FORCE_PREFIX, strlen(HF_IN_FORCE_PREFIX)) == 0) { // judged with the superblock
        check->report->keys++;
        return true;
    }
    check->report->orphans++;
    check->report->orphan_bytes += object->size;
    return true;
}

static bool
check_vault_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct check *check = context;
    return check_bundle(check, object->name, strrchr(object->name, '-') + 1, HF_ENVELOPE_VAULT_BUNDLE, err);
}

/* All that can be seen without what opens it; that it opens is proven by every restore that uses it. */
static bool
check_slot(struct check *check, const char *name, const char *id_text, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf raw = HF_BUF_INIT(4 * HF_KIB);
    const struct hf_id repository = hf_repository_id(check->repository);
    struct hf_slot slot;
    struct hf_id id;
    if (!hf_id_parse(id_text, &id, NULL)) {
        check->report->orphans++;
        return true;
    }
    check->report->keys++;
    bool ok = hf_backend_get(check->backend, name, &raw, err);
    if (!ok && err->kind == HF_ERR_NO_SPACE)
        hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" is damaged: it is longer than %d bytes", name, HF_SLOT_BYTES);
    ok = ok && hf_slot_parse(raw.data, raw.length, &repository, &id, name, &slot, err);
    return judge(check, ok, err);
}

/* Every generation: the newest counts, and the older ones tell how it came to be. */
static bool
check_bundle(struct check *check, const char *name, const char *digits, enum hf_envelope_kind kind,
             struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf sealed = HF_BUF_INIT(BUNDLE_MOST);
    _cleanup_(hf_buf_done) struct hf_buf plain = HF_BUF_INIT_SECRET(BUNDLE_MOST);
    const struct hf_secret *root_key = hf_repository_root_key(check->repository);
    const struct hf_id repository = hf_repository_id(check->repository);
    struct hf_envelope expected = {.kind = kind,
                                   .repository = repository,
                                   .object = kind == HF_ENVELOPE_VAULT_BUNDLE ? check->vault_id : repository};
    char what[HF_ERROR_MESSAGE_BYTES];
    uint8_t generation[4];
    if (strlen(digits) != 8 || !hf_hex_parse(digits, generation, sizeof generation, NULL)) {
        check->report->orphans++;
        return true;
    }
    check->report->keys++;
    if (root_key == NULL)
        return true; // nothing but the key can tell
    expected.generation =
        (uint32_t)generation[0] << 24 | (uint32_t)generation[1] << 16 | (uint32_t)generation[2] << 8 | generation[3];
    snprintf(what, sizeof what, "\"%s\"", name);
    bool ok = hf_backend_get(check->backend, name, &sealed, err);
    if (!ok && err->kind == HF_ERR_NO_SPACE)
        hf_fail(err, HF_ERR_CORRUPT, "%s is damaged: it is longer than %zu bytes", what, sealed.limit);
    ok = ok && hf_envelope_open(&expected, root_key, sealed.data, sealed.length, what, &plain, err);
    return (!ok && err->kind == HF_ERR_DENIED && is_of_a_rotation(check)) || judge(check, ok, err);
}

/* While a root key waits to come into force, or leaves, there are bundles that another key sealed. */
static bool
is_of_a_rotation(struct check *check)
{
    struct hf_rotation_state state;
    return hf_rotation_look(check->repository, &state, NULL) && (state.pending > 0 || state.left_over > 0);
}

static bool
judge(struct check *check, bool ok, struct hf_error *err)
{
    if (ok)
        return true;
    if (!check_is_damage(err))
        return false;
    check_tell(check, HF_DAMAGE_KEYS, NULL, HF_DAMAGE_NO_SLAB, NULL, NULL, err->message);
    return true;
}
