#include "server/repository/check.h"

#include <string.h>

#include "server/repository/pack.h"

struct collection {
    struct hf_repository *repository;
    struct hf_collect_report *report;
    struct hf_id vault;
    struct hf_vault_state *state; // of that vault; NULL before the first
};

static bool visit_object(void *context, const struct hf_object_info *object, struct hf_error *err);
static bool enter_vault(struct collection *collection, const struct hf_id *vault, struct hf_error *err);
static bool judge_orphan(struct collection *collection, const struct hf_object_info *object, struct hf_error *err);

/* vaults/<32>/packs/<2>/<32> */
static bool
parse_pack_name(const char *name, struct hf_id *ret_vault, struct hf_id *ret_pack)
{
    char vault[HF_ID_TEXT_BYTES] = {0};
    if (strlen(name) != 7 + 32 + 7 + 2 + 1 + 32 || strncmp(name, "vaults/", 7) != 0 ||
        strncmp(name + 39, "/packs/", 7) != 0)
        return false;
    memcpy(vault, name + 7, 32);
    return hf_id_parse(vault, ret_vault, NULL) && hf_id_parse(name + 49, ret_pack, NULL);
}

bool
hf_repository_collect(struct hf_repository *repository, struct hf_collect_report *ret, struct hf_error *err)
{
    *ret = (struct hf_collect_report){0};
    struct collection collection = {.repository = repository, .report = ret};
    const bool ok = hf_backend_sweep(hf_repository_backend(repository), &ret->uploads, &ret->upload_bytes, err) &&
                    hf_backend_list(hf_repository_backend(repository), "vaults/", visit_object, &collection, err);
    hf_vault_state_freep(&collection.state);
    return ok;
}

static bool
visit_object(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct collection *collection = context;
    struct hf_id vault, pack;
    if (!parse_pack_name(object->name, &vault, &pack))
        return true;
    if (!enter_vault(collection, &vault, err))
        return false;
    if (hf_vault_state_pack(collection->state, &pack) != NULL)
        return true;
    return judge_orphan(collection, object, err);
}

/*
 * The log is read after the listing began: a COMMIT that comes later belongs to a session that is
 * still open in this state, and its packs stay.
 */
static bool
enter_vault(struct collection *collection, const struct hf_id *vault, struct hf_error *err)
{
    if (collection->state != NULL && hf_id_equal(&collection->vault, vault))
        return true;
    hf_vault_state_freep(&collection->state);
    collection->vault = *vault;
    return hf_vault_read_shut(collection->repository, vault, &collection->state, err);
}

/* Whose pack it is says its header.  A pack whose session the log does not know stays: better garbage than loss. */
static bool
judge_orphan(struct collection *collection, const struct hf_object_info *object, struct hf_error *err)
{
    uint8_t header[HF_PACK_HEADER];
    struct hf_id session;
    struct hf_backend *backend = hf_repository_backend(collection->repository);
    if (object->size < HF_PACK_HEADER)
        return true;
    if (!hf_backend_get_range(backend, object->name, 0, header, sizeof header, err))
        return false;
    memcpy(session.bytes, header + 64, HF_ID_BYTES);
    for (size_t i = 0; i < collection->state->session_count; i++) {
        const struct hf_vault_session *known = &collection->state->sessions[i];
        if (!hf_id_equal(&known->session, &session))
            continue;
        if (known->state == HF_SESSION_OPEN) {
            collection->report->kept_open++;
            return true;
        }
        collection->report->packs++;
        collection->report->pack_bytes += object->size;
        return hf_backend_delete(backend, object->name, err);
    }
    return true;
}
