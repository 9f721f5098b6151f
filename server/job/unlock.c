#include "server/job/unlock.h"

#include <string.h>
#include <sys/wait.h>

#include "base/digest.h"
#include "base/process.h"

#define HEX_DIGITS  (2 * HF_KEY_BYTES)
#define OUTPUT_MOST (HEX_DIGITS + 16) // more than any key: that there was too much can be told

static bool take_key(const struct hf_key_command *command, const struct hf_buf *output, struct hf_secret *ret,
                     struct hf_error *err);

bool
hf_unlock_read(const struct hf_settings *settings, struct hf_credential *ret, struct hf_error *err)
{
    if (settings->unlock.key_file != NULL)
        return hf_key_file_read(settings->unlock.key_file, ret, err);
    if (settings->unlock.command != NULL)
        return hf_unlock_run_command(hf_settings_key_command(settings, settings->unlock.command), ret, err);
    return hf_unlock_read_passphrase(settings->unlock.passphrase_file, ret, err);
}

bool
hf_unlock_read_passphrase(const char *path, struct hf_credential *ret, struct hf_error *err)
{
    struct hf_credential credential = {.kind = HF_SLOT_PASSPHRASE};
    if (!hf_secret_read_file(&credential.passphrase, path, HF_PASSPHRASE_MOST, true, err))
        return hf_fail_within(err, "could not read the passphrase");
    *ret = credential;
    return true;
}

bool
hf_unlock_run_command(const struct hf_key_command *command, struct hf_credential *ret, struct hf_error *err)
{
    const struct hf_process_options options = {
        .argv = (const char *const *)command->run, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT_SECRET(OUTPUT_MOST);
    _cleanup_(hf_secret_done) struct hf_secret key = {0};
    int status;
    struct hf_error why;
    if (!hf_process_run(&options, NULL, 0, (int)command->timeout_ms, &output, NULL, &status, &why)) {
        hf_fail(err, why.kind == HF_ERR_NO_MEMORY ? HF_ERR_NO_MEMORY : HF_ERR_UNAVAILABLE, "key command \"%s\": %s",
                command->name, why.message);
        return hf_fail_hint(err, "Run \"%s\" by hand as the user of holdfastd.", command->run[0]);
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        if (WIFEXITED(status))
            hf_fail(err, HF_ERR_UNAVAILABLE, "key command \"%s\" ended with status %d", command->name,
                    WEXITSTATUS(status));
        else
            hf_fail(err, HF_ERR_UNAVAILABLE, "key command \"%s\" was ended by signal %d", command->name,
                    WTERMSIG(status));
        return hf_fail_hint(err, "Run \"%s\" by hand as the user of holdfastd.", command->run[0]);
    }
    if (!take_key(command, &output, &key, err))
        return false;
    *ret = (struct hf_credential){.kind = HF_SLOT_COMMAND, .key = key, .slot = command->name};
    key = (struct hf_secret){0};
    return true;
}

/* 32 bytes as they are, or their hex with one line end behind it or none. */
static bool
take_key(const struct hf_key_command *command, const struct hf_buf *output, struct hf_secret *ret, struct hf_error *err)
{
    if (output->length == HF_KEY_BYTES)
        return hf_secret_copy(ret, output->data, HF_KEY_BYTES, err);

    _cleanup_(hf_secret_done) struct hf_secret digits = {0};
    bool whole = output->length == HEX_DIGITS || (output->length == HEX_DIGITS + 1 && output->data[HEX_DIGITS] == '\n');
    if (!hf_secret_init(&digits, HEX_DIGITS + 1, err) || !hf_secret_init(ret, HF_KEY_BYTES, err))
        return false;
    if (whole)
        memcpy(digits.bytes, output->data, HEX_DIGITS);
    if (whole && hf_hex_parse((const char *)digits.bytes, ret->bytes, HF_KEY_BYTES, NULL))
        return true;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "key command \"%s\" printed neither %d bytes nor %d hex digits",
                   command->name, HF_KEY_BYTES, HEX_DIGITS);
}
