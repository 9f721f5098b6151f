#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/care/rotation.h"
#include "server/cli/keys.h"

#define LIST_MOST HF_ERROR_MESSAGE_BYTES

/* The new slots: what each is made with, before any is made. */
struct plan {
    struct hf_credential credentials[HF_SLOTS_MOST];
    bool planned[HF_SLOTS_MOST];
    char missing[LIST_MOST]; // names of slots whose credential is not at hand
    struct hf_buf dropped;   // ids, separated by commas
};

static void plan_done(struct plan *plan);
static bool gather(struct hf_cli *cli, struct hf_keyring *keyring, struct plan *plan, struct hf_error *err);
static bool is_dropped(const struct hf_cli *cli, const char *name);
static bool check_drops(const struct hf_cli *cli, const struct hf_keyring *keyring, struct hf_error *err);
static bool drop(struct plan *plan, const struct hf_id *id, struct hf_error *err);
static void note_missing(struct plan *plan, const char *name);
static bool check_opens(struct hf_keyring *keyring, struct hf_credential *credential, const struct hf_slot_info *slot,
                        uint32_t generation, const struct hf_secret *expected, struct hf_error *err);
static bool make_slots(struct hf_keyring *keyring, struct plan *plan, struct hf_error *err);

bool
hf_cli_key_rotate(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_keyring_done) struct hf_keyring keyring = HF_KEYRING_NONE;
    _cleanup_(plan_done) struct plan plan = {.dropped = HF_BUF_INIT(HF_SLOTS_MOST * HF_ID_TEXT_BYTES)};
    _cleanup_(hf_json_freep) json_t *settled = NULL;
    enum hf_exit exit_code;
    if (!hf_keyring_open(cli, &keyring, err))
        return false;
    if (!json_is_true(json_object_get(cli->arguments, "root"))) {
        if (json_object_get(cli->arguments, "drop") != NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"--drop\" goes with \"--root\"");
        return hf_keyring_ask(keyring.settings, "key rotate", json_object(), ret, &cli->exit, err);
    }
    // Whatever is missing is known before the first slot is made.
    if (!check_drops(cli, &keyring, err) || !gather(cli, &keyring, &plan, err) ||
        !hf_keyring_ask(keyring.settings, "key settle", json_object(), &settled, &exit_code, err) ||
        !make_slots(&keyring, &plan, err))
        return false;
    return hf_keyring_ask(keyring.settings, "key rotate",
                          json_pack("{s:b, s:s}", "root", 1, "drop", hf_buf_text(&plan.dropped)), ret, &cli->exit, err);
}

static void
plan_done(struct plan *plan)
{
    for (size_t i = 0; i < HF_SLOTS_MOST; i++)
        if (plan->planned[i])
            hf_credential_done(&plan->credentials[i]);
    hf_buf_done(&plan->dropped);
}

/* A credential that does not open its old slot would make a new one that its owner cannot open. */
static bool
gather(struct hf_cli *cli, struct hf_keyring *keyring, struct plan *plan, struct hf_error *err)
{
    const uint32_t generation = hf_repository_root_generation(keyring->repository);
    for (size_t i = 0; i < keyring->slot_count; i++) {
        const struct hf_slot_info *slot = &keyring->slots[i];
        bool found;
        if (is_dropped(cli, slot->name)) {
            if (hf_id_equal(&slot->id, &keyring->own_slot.id))
                return hf_fail(err, HF_ERR_USAGE,
                               "key slot \"%s\" is the one that this appliance opens the repository "
                               "with: it cannot be dropped",
                               slot->name);
            if (!drop(plan, &slot->id, err))
                return false;
            continue;
        }
        if (!hf_keyring_credential(cli, keyring, slot, true, &found, &plan->credentials[i], err))
            return hf_fail_within(err, "key slot \"%s\"", slot->name);
        plan->planned[i] = found;
        if (!found)
            note_missing(plan, slot->name);
        else if (!check_opens(keyring, &plan->credentials[i], slot, generation,
                              hf_repository_root_key(keyring->repository), err))
            return false;
    }
    if (plan->missing[0] == '\0')
        return true;
    hf_fail(err, HF_ERR_USAGE, "what opens these key slots is not at hand: %s", plan->missing);
    return hf_fail_hint(err,
                        "Name their key files with --key-file, the passphrase with --passphrase-file or type it at "
                        "a terminal; or give a slot up with --drop NAME.");
}

static bool
is_dropped(const struct hf_cli *cli, const char *name)
{
    const json_t *dropped;
    size_t at;
    json_array_foreach(json_object_get(cli->arguments, "drop"), at, dropped)
    {
        if (strcmp(json_string_value(dropped), name) == 0)
            return true;
    }
    return false;
}

static bool
check_drops(const struct hf_cli *cli, const struct hf_keyring *keyring, struct hf_error *err)
{
    const json_t *dropped;
    size_t at;
    json_array_foreach(json_object_get(cli->arguments, "drop"), at, dropped)
    {
        if (hf_keyring_slot(keyring, json_string_value(dropped)) == NULL)
            return hf_fail(err, HF_ERR_NOT_FOUND, "there is no key slot \"%.64s\" to drop", json_string_value(dropped));
    }
    return true;
}

static bool
drop(struct plan *plan, const struct hf_id *id, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    return (plan->dropped.length == 0 || hf_buf_add_text(&plan->dropped, ",", err)) &&
           hf_buf_add_text(&plan->dropped, hf_id_format(id, text), err);
}

static void
note_missing(struct plan *plan, const char *name)
{
    size_t used = strlen(plan->missing);
    snprintf(plan->missing + used, sizeof plan->missing - used, "%s\"%s\"", used > 0 ? ", " : "", name);
}

/* A recipient's public half says enough: only the owner of the secret can open either of the two. */
static bool
check_opens(struct hf_keyring *keyring, struct hf_credential *credential, const struct hf_slot_info *slot,
            uint32_t generation, const struct hf_secret *expected, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    const struct hf_id id = hf_repository_id(keyring->repository);
    struct hf_slot_info opened;
    if (credential->kind == HF_SLOT_RECIPIENT && credential->key.length == 0)
        return true;
    credential->slot = slot->name;
    if (!hf_slot_open_generation(hf_repository_backend(keyring->repository), &id, credential, generation, &root_key,
                                 &opened, err))
        return hf_fail_within(err, "key slot \"%s\" does not open", slot->name);
    return sodium_memcmp(root_key.bytes, expected->bytes, expected->length) == 0 ||
           hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" holds another key", slot->name);
}

/* They open nothing until holdfastd has sealed everything anew and makes the turn (rotation.h). */
static bool
make_slots(struct hf_keyring *keyring, struct plan *plan, struct hf_error *err)
{
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    struct hf_backend *backend = hf_repository_backend(keyring->repository);
    const struct hf_id id = hf_repository_id(keyring->repository);
    const uint32_t next = hf_repository_root_generation(keyring->repository) + 1;
    if (!hf_secret_random(&root_key, HF_KEY_BYTES, err))
        return false;
    for (size_t i = 0; i < keyring->slot_count; i++) {
        const struct hf_slot_options options = {.name = keyring->slots[i].name, .generation = next};
        struct hf_slot_info made;
        if (!plan->planned[i])
            continue;
        if (!hf_slot_add(backend, &id, &plan->credentials[i], &options, &root_key, hf_time_now_ms(), &made, err) ||
            !check_opens(keyring, &plan->credentials[i], &made, next, &root_key, err))
            return hf_fail_within(err, "nothing has changed");
    }
    return true;
}
