#include "server/cli/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/cli/ask.h"
#include "server/cli/client.h"
#include "server/cli/show.h"
#include "server/job/sealed_signer.h"
#include "server/job/unlock.h"
#include "server/keys/derive.h"

#define LOCK_NAME "keys.lock"
#define KIT_MOST  HF_MIB

static bool take_lock(struct hf_keyring *keyring, struct hf_error *err);
static bool open_repository(struct hf_keyring *keyring, struct hf_error *err);
static bool find_key_file(struct hf_cli *cli, const struct hf_slot_info *slot, bool *ret_found,
                          struct hf_credential *ret, struct hf_error *err);
static bool fits(const struct hf_credential *credential, const struct hf_slot_info *slot);
static bool find_passphrase(struct hf_cli *cli, const struct hf_slot_info *slot, bool *ret_found,
                            struct hf_credential *ret, struct hf_error *err);
static bool copy_credential(const struct hf_credential *from, struct hf_credential *ret, struct hf_error *err);

static const char *argument(const struct hf_cli *cli, const char *member);
static bool make_credential(struct hf_cli *cli, const struct hf_keyring *keyring, enum hf_slot_kind kind,
                            const char *name, struct hf_credential *ret, struct hf_error *err);
static bool make_passphrase(struct hf_cli *cli, struct hf_credential *ret, struct hf_error *err);
static bool make_recipient(struct hf_cli *cli, struct hf_credential *ret, struct hf_error *err);
static bool prove(struct hf_keyring *keyring, struct hf_credential *credential, const char *name, struct hf_error *err);
static void ignore_event(void *context, const json_t *event);
static bool never_ends(void *context);

bool
hf_cli_key_add(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_keyring_done) struct hf_keyring keyring = HF_KEYRING_NONE;
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_PASSPHRASE};
    const char *name = argument(cli, "name"), *kind_name = argument(cli, "kind");
    enum hf_slot_kind kind;
    struct hf_slot_info made;
    if (kind_name == NULL || name == NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"--%s\" is missing", kind_name == NULL ? "kind" : "name");
    if (!hf_slot_kind_parse(kind_name, &kind, err) || !hf_keyring_open(cli, &keyring, err))
        return false;
    if (hf_keyring_slot(&keyring, name) != NULL)
        return hf_fail(err, HF_ERR_CONFLICT, "there is a key slot \"%s\" already", name);

    struct hf_backend *backend = hf_repository_backend(keyring.repository);
    const struct hf_id id = hf_repository_id(keyring.repository);
    const struct hf_slot_options options = {.name = name};
    if (!make_credential(cli, &keyring, kind, name, &credential, err) ||
        !hf_slot_add(backend, &id, &credential, &options, hf_repository_root_key(keyring.repository), hf_time_now_ms(),
                     &made, err))
        return false;
    if (!prove(&keyring, &credential, name, err)) {
        (void)!hf_slot_remove(backend, &made.id, NULL);
        return hf_fail_within(err, "the new slot does not open, and was removed again");
    }
    if (!hf_keyring_ask(keyring.settings, "key added", json_pack("{s:s}", "name", name), ret, &cli->exit, err))
        return hf_fail_within(err, "the slot was made, but could not be recorded");
    char recipient[HF_RECIPIENT_TEXT_BYTES];
    return kind != HF_SLOT_RECIPIENT ||
           hf_json_set(*ret, "recipient", json_string(hf_recipient_format(credential.recipient, recipient)), err);
}

bool
hf_cli_key_remove(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_keyring_done) struct hf_keyring keyring = HF_KEYRING_NONE;
    return hf_keyring_open(cli, &keyring, err) &&
           hf_keyring_ask(keyring.settings, "key remove", json_pack("{s:s}", "name", argument(cli, "name")), ret,
                          &cli->exit, err);
}

bool
hf_cli_recovery_kit(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    const char *output = argument(cli, "output");
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(KIT_MOST);
    if (!hf_cli_load_settings(cli, &settings, err))
        return false;
    // Seen before it is on record: a kit that cannot be written is none.
    if (output != NULL && access(output, F_OK) == 0)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" exists already", output);
    if (!hf_keyring_ask(settings, "key recovery-kit", json_object(), ret, &cli->exit, err))
        return false;
    if (output == NULL)
        return true;
    return hf_show_kit_text(*ret, &text, err) &&
           hf_file_publish(output, text.data, text.length, 0600, HF_PUBLISH_EXCLUSIVE, err) &&
           hf_json_set(*ret, "output", json_string(output), err);
}

/* The kit is read here: it is the person's file, and holdfastd may not see it. */
bool
hf_cli_repo_promote(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    const char *kit = argument(cli, "kit");
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_KIT_MOST);
    if (!hf_cli_load_settings(cli, &settings, err) || (kit != NULL && !hf_file_read(kit, &text, err)))
        return false;
    const char *key = NULL;
    size_t length = 0;
    if (kit != NULL && !hf_sealed_signer_find(hf_buf_text(&text), &key, &length, err))
        return hf_fail_within(err, "\"%s\"", kit);
    json_t *asked = kit == NULL ? json_object() : json_pack("{s:s%}", "kit", key, length);
    return hf_keyring_ask(settings, "repo promote", asked, ret, &cli->exit, err);
}

/* The vault's id is typed by the person, or given by the program: what is asked for twice is meant. */
bool
hf_cli_vault_shred(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    _cleanup_(hf_freep) char *typed = NULL;
    const char *vault = argument(cli, "vault"), *confirm = argument(cli, "confirm"), *reason = argument(cli, "reason");
    struct hf_error refused;
    if (!hf_cli_load_settings(cli, &settings, err))
        return false;
    if (confirm == NULL && isatty(STDIN_FILENO) && !cli->json) {
        // Asked without: the refusal names the vault and what is lost.
        if (hf_keyring_ask(settings, "vault shred", json_pack("{s:s}", "vault", vault), ret, &cli->exit, &refused))
            return true;
        if (refused.kind != HF_ERR_USAGE) {
            *err = refused;
            return false;
        }
        fprintf(stderr, "%s\nAll its backups are lost then, for ever and for everybody.\n", refused.message);
        if (!hf_ask_line("Type the vault's id to shred it", "--confirm", &typed, err))
            return false;
        confirm = typed;
    }
    return hf_keyring_ask(settings, "vault shred",
                          json_pack("{s:s, s:s*, s:s*}", "vault", vault, "confirm", confirm, "reason", reason), ret,
                          &cli->exit, err);
}

bool
hf_keyring_open(struct hf_cli *cli, struct hf_keyring *ret, struct hf_error *err)
{
    return hf_cli_load_settings(cli, &ret->settings, err) && take_lock(ret, err) && open_repository(ret, err);
}

void
hf_keyring_done(struct hf_keyring *keyring)
{
    hf_repository_freep(&keyring->repository);
    hf_credential_done(&keyring->own);
    hf_settings_freep(&keyring->settings);
    hf_closep(&keyring->lock);
}

const struct hf_slot_info *
hf_keyring_slot(const struct hf_keyring *keyring, const char *name)
{
    for (size_t i = 0; i < keyring->slot_count; i++)
        if (strcmp(keyring->slots[i].name, name) == 0)
            return &keyring->slots[i];
    return NULL;
}

bool
hf_keyring_credential(struct hf_cli *cli, struct hf_keyring *keyring, const struct hf_slot_info *slot,
                      bool public_is_enough, bool *ret_found, struct hf_credential *ret, struct hf_error *err)
{
    const struct hf_key_command *command = hf_settings_key_command(keyring->settings, slot->name);
    *ret_found = true;
    if (hf_id_equal(&slot->id, &keyring->own_slot.id))
        return copy_credential(&keyring->own, ret, err);
    switch (slot->kind) {
    case HF_SLOT_COMMAND:
        *ret_found = command != NULL;
        return command == NULL || hf_unlock_run_command(command, ret, err);
    case HF_SLOT_RECIPIENT:
        if (public_is_enough) {
            *ret = (struct hf_credential){.kind = HF_SLOT_RECIPIENT};
            memcpy(ret->recipient, slot->public_key, sizeof ret->recipient);
            return true;
        }
        return find_key_file(cli, slot, ret_found, ret, err);
    case HF_SLOT_KEY_FILE:
        return find_key_file(cli, slot, ret_found, ret, err);
    case HF_SLOT_PASSPHRASE:
        return find_passphrase(cli, slot, ret_found, ret, err);
    }
    abort();
}

bool
hf_keyring_ask(const struct hf_settings *settings, const char *command, json_t *arguments, json_t **ret,
               enum hf_exit *ret_exit, struct hf_error *err)
{
    static const struct hf_client_watch watch = {.event = ignore_event, .wants_end = never_ends};
    _cleanup_(hf_json_freep) json_t *asked = arguments;
    if (asked == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    return hf_client_ask(settings, command, asked, false, &watch, ret, ret_exit, err);
}

static bool
take_lock(struct hf_keyring *keyring, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(keyring->settings->state, LOCK_NAME);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_make(keyring->settings->state, 0711, err))
        return false;
    keyring->lock = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (keyring->lock < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    if (flock(keyring->lock, LOCK_EX | LOCK_NB) == 0)
        return true;
    if (errno == EWOULDBLOCK)
        return hf_fail(err, HF_ERR_CONFLICT, "another command about keys is running");
    return hf_fail_errno(err, HF_ERR_NONE, "could not lock \"%s\"", path);
}

static bool
open_repository(struct hf_keyring *keyring, struct hf_error *err)
{
    if (!hf_unlock_read(keyring->settings, &keyring->own, err) ||
        !hf_repository_open(keyring->settings->repository, HF_ACCESS_WRITE, &keyring->repository, err) ||
        !hf_repository_unlock(keyring->repository, &keyring->own, &keyring->own_slot, err))
        return false;
    const struct hf_id id = hf_repository_id(keyring->repository);
    return hf_slot_list(hf_repository_backend(keyring->repository), &id, keyring->slots, &keyring->slot_count, err);
}

/* Among those that were named: a slot shows which key file or recipient it was made for. */
static bool
find_key_file(struct hf_cli *cli, const struct hf_slot_info *slot, bool *ret_found, struct hf_credential *ret,
              struct hf_error *err)
{
    const json_t *path;
    size_t at;
    *ret_found = false;
    json_array_foreach(json_object_get(cli->arguments, "key_file"), at, path)
    {
        _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_KEY_FILE};
        if (!hf_key_file_read(json_string_value(path), &credential, err))
            return false;
        if (!fits(&credential, slot))
            continue;
        *ret = credential;
        credential = (struct hf_credential){.kind = HF_SLOT_KEY_FILE};
        *ret_found = true;
        return true;
    }
    return true;
}

static bool
fits(const struct hf_credential *credential, const struct hf_slot_info *slot)
{
    uint8_t fingerprint[HF_KEY_BYTES];
    if (credential->kind != slot->kind)
        return false;
    if (credential->kind == HF_SLOT_RECIPIENT)
        return memcmp(credential->recipient, slot->public_key, sizeof credential->recipient) == 0;
    hf_derive(credential->key.bytes, "holdfast key file", NULL, 0, fingerprint);
    return memcmp(fingerprint, slot->public_key, sizeof fingerprint) == 0;
}

static bool
find_passphrase(struct hf_cli *cli, const struct hf_slot_info *slot, bool *ret_found, struct hf_credential *ret,
                struct hf_error *err)
{
    const char *file = argument(cli, "passphrase_file");
    char question[HF_SLOT_NAME_BYTES + 32];
    struct hf_credential credential = {.kind = HF_SLOT_PASSPHRASE};
    *ret_found = file != NULL || (isatty(STDIN_FILENO) && !cli->json);
    if (file != NULL)
        return hf_unlock_read_passphrase(file, ret, err);
    if (!*ret_found)
        return true;
    snprintf(question, sizeof question, "Passphrase of the slot \"%s\"", slot->name);
    if (!hf_ask_secret(question, "--passphrase-file", &credential.passphrase, HF_PASSPHRASE_MOST, err))
        return false;
    *ret = credential;
    return true;
}

static bool
copy_credential(const struct hf_credential *from, struct hf_credential *ret, struct hf_error *err)
{
    struct hf_credential copy = {.kind = from->kind, .slot = from->slot};
    memcpy(copy.recipient, from->recipient, sizeof copy.recipient);
    const struct hf_secret *secret = from->kind == HF_SLOT_PASSPHRASE ? &from->passphrase : &from->key;
    if (!hf_secret_copy(from->kind == HF_SLOT_PASSPHRASE ? &copy.passphrase : &copy.key, secret->bytes, secret->length,
                        err))
        return false;
    *ret = copy;
    return true;
}

static const char *
argument(const struct hf_cli *cli, const char *member)
{
    return json_string_value(json_object_get(cli->arguments, member));
}

static bool
make_credential(struct hf_cli *cli, const struct hf_keyring *keyring, enum hf_slot_kind kind, const char *name,
                struct hf_credential *ret, struct hf_error *err)
{
    const char *file = argument(cli, "file");
    const struct hf_key_command *command = hf_settings_key_command(keyring->settings, name);
    switch (kind) {
    case HF_SLOT_PASSPHRASE:
        return make_passphrase(cli, ret, err);
    case HF_SLOT_KEY_FILE:
        if (file == NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"--file\" is missing: where the new key file is written");
        return hf_key_file_create(file, ret, err);
    case HF_SLOT_RECIPIENT:
        return make_recipient(cli, ret, err);
    case HF_SLOT_COMMAND:
        if (command == NULL) {
            hf_fail(err, HF_ERR_NOT_FOUND, "there is no key command \"%s\" in \"%s\"", name, keyring->settings->file);
            return hf_fail_hint(err, "A slot of this kind has the name of an entry below \"key_commands\".");
        }
        return hf_unlock_run_command(command, ret, err);
    }
    abort();
}

static bool
make_passphrase(struct hf_cli *cli, struct hf_credential *ret, struct hf_error *err)
{
    const char *file = argument(cli, "passphrase_file");
    ret->kind = HF_SLOT_PASSPHRASE;
    if (file != NULL && !hf_unlock_read_passphrase(file, ret, err))
        return false;
    if (file == NULL && !hf_ask_passphrase("Passphrase of the new slot", &ret->passphrase, HF_PASSPHRASE_MOST, err))
        return false;
    if (ret->passphrase.length == 0)
        return hf_fail(err, HF_ERR_USAGE, "a passphrase is missing: \"--passphrase-file\", or a terminal to type it");
    if (ret->passphrase.length < HF_PASSPHRASE_LEAST)
        return hf_fail(err, HF_ERR_USAGE, "the passphrase is shorter than %d bytes", HF_PASSPHRASE_LEAST);
    return true;
}

/* By its public text, which is no secret; or a new pair, whose secret goes into a file to be kept elsewhere. */
static bool
make_recipient(struct hf_cli *cli, struct hf_credential *ret, struct hf_error *err)
{
    const char *text = argument(cli, "recipient"), *file = argument(cli, "file");
    ret->kind = HF_SLOT_RECIPIENT;
    if ((text == NULL) == (file == NULL))
        return hf_fail(err, HF_ERR_USAGE,
                       "give either \"--recipient\", the public text, or \"--file\", where the "
                       "secret of a new recipient is written");
    return text != NULL ? hf_recipient_parse(text, ret->recipient, err) : hf_recipient_create(file, ret, err);
}

/* Only the secret of a recipient could show that its slot opens; `key drill` does when it is at hand. */
static bool
prove(struct hf_keyring *keyring, struct hf_credential *credential, const char *name, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    struct hf_slot_info opened;
    const struct hf_id id = hf_repository_id(keyring->repository);
    if (credential->kind == HF_SLOT_RECIPIENT && credential->key.length == 0)
        return true;
    const struct hf_secret *expected = hf_repository_root_key(keyring->repository);
    credential->slot = name;
    return hf_slot_open(hf_repository_backend(keyring->repository), &id, credential, &root_key, &opened, err) &&
           (sodium_memcmp(root_key.bytes, expected->bytes, expected->length) == 0 ||
            hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" holds another key", name));
}

static void
ignore_event(void *context, const json_t *event)
{
    (void)context;
    (void)event;
}

static bool
never_ends(void *context)
{
    (void)context;
    return false;
}
