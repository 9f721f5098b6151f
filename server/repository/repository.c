#include "server/repository/repository.h"

#include <string.h>

#include "base/file.h"
#include "server/keys/in_force.h"

#define VAULTS_MOST 65536

struct hf_repository {
    struct hf_backend *backend;
    struct hf_superblock superblock;
    struct hf_secret root_key;      // empty while locked
    uint32_t root_generation;       // of that key
    struct hf_root_bundle *signers; // NULL while locked
};

static bool make_objects(struct hf_repository *repository, const struct hf_repository_new *how, struct hf_error *err);
static bool load_signers(struct hf_repository *repository, struct hf_error *err);
static bool collect_vault(void *context, const struct hf_object_info *object, struct hf_error *err);

struct vault_list {
    struct hf_id *ids;
    size_t count;
};

bool
hf_repository_create(const char *place, const struct hf_repository_new *how, struct hf_repository **ret,
                     struct hf_error *err)
{
    bool empty;
    if (!hf_dir_make(place, 0700, err) || !hf_dir_is_empty(place, &empty, err))
        return hf_fail_within(err, "repository \"%s\"", place);
    if (!empty) {
        hf_fail(err, HF_ERR_CONFLICT, "folder \"%s\" is not empty", place);
        return hf_fail_hint(err, "Choose an empty folder for a new repository.");
    }
    _cleanup_(hf_repository_freep) struct hf_repository *repository = calloc(1, sizeof *repository);
    if (repository == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a repository");
    if (!hf_backend_open_local(place, &repository->backend, err) ||
        !hf_secret_random(&repository->root_key, HF_KEY_BYTES, err) || !make_objects(repository, how, err) ||
        !hf_superblock_read(repository->backend, HF_ACCESS_WRITE, &repository->superblock, err))
        return hf_fail_within(err, "repository \"%s\"", place);
    *ret = HF_TAKE(repository);
    return true;
}

bool
hf_repository_open(const char *place, enum hf_access access, struct hf_repository **ret, struct hf_error *err)
{
    _cleanup_(hf_repository_freep) struct hf_repository *repository = calloc(1, sizeof *repository);
    if (repository == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a repository");
    if (!hf_backend_open(place, &repository->backend, err) ||
        !hf_superblock_read(repository->backend, access, &repository->superblock, err))
        return hf_fail_within(err, "repository \"%s\"", place);
    *ret = HF_TAKE(repository);
    return true;
}

bool
hf_repository_unlock(struct hf_repository *repository, const struct hf_credential *credential,
                     struct hf_slot_info *ret_slot, struct hf_error *err)
{
    struct hf_secret root_key = {0};
    struct hf_slot_info slot;
    if (!hf_slot_open(repository->backend, &repository->superblock.repository, credential, &root_key, &slot, err))
        return false;
    if (!hf_in_force_check(repository->backend, &repository->superblock, slot.generation, &root_key, err)) {
        hf_secret_done(&root_key);
        return false;
    }
    hf_repository_adopt_root_key(repository, slot.generation, &root_key);
    *ret_slot = slot;
    return load_signers(repository, err);
}

void
hf_repository_freep(struct hf_repository **repository)
{
    if (*repository == NULL)
        return;
    hf_secret_done(&(*repository)->root_key);
    free((*repository)->signers);
    hf_backend_freep(&(*repository)->backend);
    free(*repository);
    *repository = NULL;
}

struct hf_backend *
hf_repository_backend(struct hf_repository *repository)
{
    return repository->backend;
}

struct hf_id
hf_repository_id(const struct hf_repository *repository)
{
    return repository->superblock.repository;
}

const struct hf_secret *
hf_repository_root_key(const struct hf_repository *repository)
{
    return repository->root_key.length > 0 ? &repository->root_key : NULL;
}

uint32_t
hf_repository_root_generation(const struct hf_repository *repository)
{
    return repository->root_generation;
}

const struct hf_superblock *
hf_repository_superblock(const struct hf_repository *repository)
{
    return &repository->superblock;
}

void
hf_repository_adopt_root_key(struct hf_repository *repository, uint32_t generation, struct hf_secret *root_key)
{
    hf_secret_done(&repository->root_key);
    repository->root_key = *root_key;
    *root_key = (struct hf_secret){0};
    repository->root_generation = generation;
}

const struct hf_root_bundle *
hf_repository_signers(const struct hf_repository *repository)
{
    return repository->signers;
}

bool
hf_repository_reload_signers(struct hf_repository *repository, struct hf_error *err)
{
    if (repository->root_key.length == 0)
        return hf_fail(err, HF_ERR_DENIED, "the repository is locked");
    return load_signers(repository, err);
}

bool
hf_repository_vaults(struct hf_repository *repository, struct hf_id **ret, size_t *ret_count, struct hf_error *err)
{
    struct vault_list list = {.ids = calloc(VAULTS_MOST, sizeof *list.ids)};
    if (list.ids == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of vaults");
    if (!hf_backend_list(repository->backend, "vaults/", collect_vault, &list, err)) {
        free(list.ids);
        return false;
    }
    *ret = list.ids;
    *ret_count = list.count;
    return true;
}

/* The superblock comes last: a repository that was not finished is none. */
static bool
make_objects(struct hf_repository *repository, const struct hf_repository_new *how, struct hf_error *err)
{
    struct hf_slot_info slot;
    const struct hf_id id = hf_id_new();
    struct hf_root_bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of signers");
    repository->signers = bundle;
    repository->root_generation = 1;
    return hf_slot_add(repository->backend, &id, how->credential, &how->slot, &repository->root_key, how->now, &slot,
                       err) &&
           hf_root_bundle_add_signer(repository->backend, &id, &repository->root_key, bundle, how->signer, how->signer,
                                     how->signer_name, how->now, err) &&
           hf_superblock_create(repository->backend, &id, how->now, &repository->root_key, err);
}

static bool
load_signers(struct hf_repository *repository, struct hf_error *err)
{
    struct hf_root_bundle *bundle = calloc(1, sizeof *bundle);
    if (bundle == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of signers");
    if (!hf_root_bundle_read(repository->backend, &repository->superblock.repository, &repository->root_key, bundle,
                             err)) {
        free(bundle);
        return false;
    }
    if (repository->signers == NULL) {
        repository->signers = bundle;
        return true;
    }
    *repository->signers = *bundle; // in its place: open vaults have borrowed it
    free(bundle);
    return true;
}

/* Names come sorted: each vault's log entries stand together. */
static bool
collect_vault(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct vault_list *list = context;
    char text[HF_ID_TEXT_BYTES];
    struct hf_id id;
    const char *name = object->name + strlen("vaults/");
    if (strlen(name) < 2 * HF_ID_BYTES + 5 || strncmp(name + 2 * HF_ID_BYTES, "/log/", 5) != 0)
        return true;
    memcpy(text, name, 2 * HF_ID_BYTES);
    text[2 * HF_ID_BYTES] = 0;
    if (!hf_id_parse(text, &id, NULL) || (list->count > 0 && hf_id_equal(&list->ids[list->count - 1], &id)))
        return true;
    if (list->count == VAULTS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "the repository has more than %u vaults", VAULTS_MOST);
    list->ids[list->count++] = id;
    return true;
}
