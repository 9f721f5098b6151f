/*
 * unlock.h - what opens the repository on this machine, as the settings say
 *
 * One of three ways, without a person: a key file (or the secret of a recipient, the word in the file decides), a file
 * that holds a passphrase, or a program of the owner's that prints a key (an HSM, a key service).  The program is run
 * without a shell, with no input, in the environment of process.h (PATH, LANG, TZ and nothing else), as our own user.
 * It has the time its settings give, and prints 32 bytes or 64 hex digits; whatever else it prints is an error, and
 * nothing of its output is ever shown.
 */
#pragma once
#include "server/keys/keys.h"
#include "server/settings/settings.h"

#define HF_PASSPHRASE_LEAST 8
#define HF_PASSPHRASE_MOST  1024

/* Owner of *ret: the caller, hf_credential_done(); its `slot` is borrowed from the settings.  Also UNAVAILABLE. */
HF_MUST_CHECK bool hf_unlock_read(const struct hf_settings *settings, struct hf_credential *ret, struct hf_error *err);

/* A passphrase file: 1 to HF_PASSPHRASE_MOST bytes. */
HF_MUST_CHECK bool hf_unlock_read_passphrase(const char *path, struct hf_credential *ret, struct hf_error *err);

/*
 * Runs a key command, for the slot of its name.  UNAVAILABLE names the command and says how it failed: it could not be
 * started, ended with a status, took too long, or printed no key.
 */
HF_MUST_CHECK bool hf_unlock_run_command(const struct hf_key_command *command, struct hf_credential *ret,
                                         struct hf_error *err);
