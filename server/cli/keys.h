/*
 * keys.h - the commands about keys that hold a secret themselves: it goes neither to holdfastd nor into an argument
 *
 * `holdfast` opens the repository as the settings say, makes or opens slots by itself, and then asks holdfastd for what
 * only that can do: the records, and the turn from one root key to the next.  One such command runs at a time
 * (keys.lock in the state folder).
 */
#pragma once
#include "server/cli/command.h"
#include "server/repository/repository.h"

HF_MUST_CHECK bool hf_cli_key_add(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_key_remove(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_key_drill(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_key_rotate(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_recovery_kit(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_vault_shred(struct hf_cli *cli, json_t **ret, struct hf_error *err);
HF_MUST_CHECK bool hf_cli_repo_promote(struct hf_cli *cli, json_t **ret, struct hf_error *err);

/* Shared with rotate.c and drill.c. */
struct hf_keyring {
    struct hf_settings *settings;
    struct hf_credential own; // what the settings say
    struct hf_repository *repository;
    struct hf_slot_info own_slot;
    struct hf_slot_info slots[HF_SLOTS_MOST]; // in force
    size_t slot_count;
    int lock;
};
#define HF_KEYRING_NONE ((struct hf_keyring){.lock = -1})

/* Takes the lock, opens the repository and lists its slots.  CONFLICT: another command about keys runs. */
HF_MUST_CHECK bool hf_keyring_open(struct hf_cli *cli, struct hf_keyring *ret, struct hf_error *err);
void hf_keyring_done(struct hf_keyring *keyring);
/* By name; NULL when there is none. */
const struct hf_slot_info *hf_keyring_slot(const struct hf_keyring *keyring, const char *name);
/*
 * What opens this slot, as far as it is at hand: our own key, a key command of the settings, one of the files of the
 * option "key_file", the passphrase of the option "passphrase_file" or of the person at the terminal.  *ret_found
 * false: nothing is.  A recipient's slot needs its secret, unless `public_is_enough`.
 */
HF_MUST_CHECK bool hf_keyring_credential(struct hf_cli *cli, struct hf_keyring *keyring,
                                         const struct hf_slot_info *slot, bool public_is_enough, bool *ret_found,
                                         struct hf_credential *ret, struct hf_error *err);
/* Asks holdfastd; takes the arguments. */
HF_MUST_CHECK bool hf_keyring_ask(const struct hf_settings *settings, const char *command, json_t *arguments,
                                  json_t **ret, enum hf_exit *ret_exit, struct hf_error *err);
