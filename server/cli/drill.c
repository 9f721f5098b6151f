#include <stdio.h>
#include <string.h>

#include "server/cli/keys.h"
#include "server/repository/reader.h"

#define SMALL_FILE (64 * HF_KIB) // read to see a slab open

/* What a drill opened, or why it could not. */
struct drill {
    json_int_t vaults, backups;
    struct hf_error why;
    bool passed;
};

/* The first small file of a backup. */
struct sample {
    char path[HF_PATH_MOST + 1];
};

static bool drill_one(struct hf_cli *cli, struct hf_keyring *keyring, const struct hf_slot_info *slot, bool named,
                      json_t *list, struct hf_error *err);
static void open_through(struct hf_keyring *keyring, struct hf_credential *credential, const struct hf_slot_info *slot,
                         struct drill *drill);
static bool open_vaults(struct hf_repository *repository, struct drill *drill, struct hf_error *err);
static bool read_sample(struct hf_vault *vault, const struct hf_id *backup, struct hf_error *err);
static bool choose_sample(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err);

/* One slot, or all that open without a person. */
bool
hf_cli_key_drill(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_keyring_done) struct hf_keyring keyring = HF_KEYRING_NONE;
    _cleanup_(hf_json_freep) json_t *list = json_array();
    const char *name = json_string_value(json_object_get(cli->arguments, "name"));
    if (!hf_keyring_open(cli, &keyring, err))
        return false;
    if (name != NULL && hf_keyring_slot(&keyring, name) == NULL) {
        hf_fail(err, HF_ERR_NOT_FOUND, "there is no key slot \"%.64s\"", name);
        return hf_fail_hint(err, "\"holdfast key list\" shows those there are.");
    }
    for (size_t i = 0; i < keyring.slot_count; i++) {
        const struct hf_slot_info *slot = &keyring.slots[i];
        const bool unattended =
            hf_id_equal(&slot->id, &keyring.own_slot.id) ||
            (slot->kind == HF_SLOT_COMMAND && hf_settings_key_command(keyring.settings, slot->name) != NULL);
        if ((name == NULL ? unattended : strcmp(slot->name, name) == 0) &&
            !drill_one(cli, &keyring, slot, name != NULL, list, err))
            return false;
    }
    *ret = json_pack("{s:O}", "drills", list);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

/* Wrong or missing keys are what a drill is for: they are put on record as well, and are bad news. */
static bool
drill_one(struct hf_cli *cli, struct hf_keyring *keyring, const struct hf_slot_info *slot, bool named, json_t *list,
          struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = slot->kind};
    struct drill drill = {.passed = false};
    bool found;
    json_t *row = NULL;
    enum hf_exit code = HF_EXIT_DONE;
    bool have = hf_keyring_credential(cli, keyring, slot, false, &found, &credential, &drill.why);
    if (have && !found && named) {
        hf_fail(err, HF_ERR_USAGE, "what opens key slot \"%s\" is not at hand", slot->name);
        return hf_fail_hint(err, "Name its key file with --key-file, or the passphrase with --passphrase-file.");
    }
    if (have)
        open_through(keyring, &credential, slot, &drill);
    if (!hf_keyring_ask(keyring->settings, "key drilled",
                        json_pack("{s:s, s:s, s:s*, s:I, s:I}", "name", slot->name, "result",
                                  drill.passed ? "passed" : "failed", "reason", drill.passed ? NULL : drill.why.message,
                                  "backups", drill.backups, "vaults", drill.vaults),
                        &row, &code, err))
        return false;
    if (code == HF_EXIT_BAD_NEWS)
        cli->exit = HF_EXIT_BAD_NEWS;
    return json_array_append_new(list, row) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

/* As a restore on an empty machine would: a repository that is opened anew, through this slot and no other. */
static void
open_through(struct hf_keyring *keyring, struct hf_credential *credential, const struct hf_slot_info *slot,
             struct drill *drill)
{
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    struct hf_slot_info opened;
    credential->slot = slot->name;
    drill->passed = hf_repository_open(keyring->settings->repository, HF_ACCESS_READ, &repository, &drill->why) &&
                    hf_repository_unlock(repository, credential, &opened, &drill->why) &&
                    open_vaults(repository, drill, &drill->why);
}

static bool
open_vaults(struct hf_repository *repository, struct drill *drill, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    if (!hf_repository_vaults(repository, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
        const struct hf_vault_state *state;
        if (!hf_vault_open_any(repository, &ids[i], &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err))
            return false;
        if (state->shredded)
            continue;
        drill->vaults++;
        size_t newest = state->backup_count;
        while (newest > 0 && state->backups[newest - 1].pruned)
            newest--;
        if (newest == 0)
            continue;
        if (!read_sample(vault, &state->backups[newest - 1].backup, err))
            return false;
        drill->backups++;
    }
    return true;
}

/* Manifest, map, a slab, and the file's digest: every key of the vault has a part in it. */
static bool
read_sample(struct hf_vault *vault, const struct hf_id *backup, struct hf_error *err)
{
    _cleanup_(hf_backup_freep) struct hf_backup *opened = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf content = HF_BUF_INIT(SMALL_FILE);
    struct sample sample = {.path = ""};
    struct hf_error stop = {0};
    if (!hf_slab_worker_new(0, &worker, err) || !hf_backup_open(vault, backup, &opened, err))
        return false;
    if (!hf_backup_files(opened, worker, choose_sample, &sample, &stop) && sample.path[0] == '\0') {
        *err = stop;
        return false;
    }
    return sample.path[0] == '\0' || hf_backup_read_file(opened, worker, sample.path, &content, err);
}

static bool
choose_sample(void *context, const char *path, const struct hf_manifest_file *file, struct hf_error *err)
{
    struct sample *sample = context;
    if (file->size == 0 || file->size > SMALL_FILE || strlen(path) >= sizeof sample->path)
        return true;
    strcpy(sample->path, path);
    return hf_fail(err, HF_ERR_CANCELLED, "one file is enough");
}
