#include "server/cli/init.h"

#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "server/cli/ask.h"
#include "server/evidence/ledger.h"
#include "server/job/key_records.h"
#include "server/job/records.h"
#include "server/job/unlock.h"

#define PUBLIC_KEY_NAME  "signing.pub"
#define SIGNER_NAME_MOST 63 // of the repository's list of signers

/* What is being made. */
struct making {
    char *settings_path;
    struct hf_buf settings_text; // empty when the file is there already
    struct hf_settings *settings;
    struct hf_credential server, safe;
    bool has_safe;
    char name[SIGNER_NAME_MOST + 1];
    struct hf_signer *signer;
    struct hf_signing signing;
    struct hf_repository *repository;
    struct hf_slot_info server_slot, safe_slot;
    struct hf_vault *house;
};

static void making_done(struct making *making);
static bool decide(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool use_settings(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool same_as_asked(struct hf_cli *cli, const char *member, const char *value, struct hf_error *err);
static bool write_settings_text(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool add_setting(struct hf_buf *text, const char *name, const char *value, struct hf_error *err);
static bool choose_name(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool check_state_is_free(const struct hf_settings *settings, struct hf_error *err);
static bool make_folders(const struct making *making, struct hf_error *err);
static bool folder_of(const char *path, char folder[static PATH_MAX], struct hf_error *err);
static bool make_keys(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool take_server_key(struct making *making, struct hf_error *err);
static bool take_passphrase(struct hf_cli *cli, struct making *making, struct hf_error *err);
static bool make_signer(struct making *making, struct hf_error *err);
static bool make_repository(struct making *making, struct hf_error *err);
static bool record_keys(struct making *making, int64_t now, struct hf_error *err);
static bool make_ledger(const struct making *making, struct hf_error *err);
static bool publish_settings(const struct making *making, struct hf_error *err);
static bool describe(const struct making *making, json_t **ret, struct hf_error *err);

bool
hf_cli_init(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(making_done) struct making making = {.settings_text = HF_BUF_INIT(HF_SETTINGS_FILE_MOST)};
    return decide(cli, &making, err) && make_folders(&making, err) && make_keys(cli, &making, err) &&
           make_repository(&making, err) && make_ledger(&making, err) && publish_settings(&making, err) &&
           describe(&making, ret, err);
}

static void
making_done(struct making *making)
{
    hf_vault_freep(&making->house);
    hf_repository_freep(&making->repository);
    hf_signer_closep(&making->signer);
    hf_credential_done(&making->server);
    hf_credential_done(&making->safe);
    hf_settings_freep(&making->settings);
    hf_buf_done(&making->settings_text);
    free(making->settings_path);
}

/* Where everything will lie: settings that are there win; else they are written from what was asked for. */
static bool
decide(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    if (!hf_settings_path(cli->settings_option, &making->settings_path, err))
        return false;
    bool exists = access(making->settings_path, F_OK) == 0;
    return (exists ? use_settings(cli, making, err) : write_settings_text(cli, making, err)) &&
           choose_name(cli, making, err);
}

static bool
use_settings(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    if (!hf_settings_load(making->settings_path, &making->settings, err))
        return false;
    const struct hf_settings *settings = making->settings;
    return same_as_asked(cli, "repository", settings->repository, err) &&
           same_as_asked(cli, "state", settings->state, err) &&
           same_as_asked(cli, "key_file", settings->unlock.key_file, err);
}

static bool
same_as_asked(struct hf_cli *cli, const char *member, const char *value, struct hf_error *err)
{
    const char *asked = json_string_value(json_object_get(cli->arguments, member));
    if (asked == NULL || (value != NULL && strcmp(asked, value) == 0))
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "the settings say \"%s\" for \"%s\", and \"%s\" was asked for",
            value == NULL ? "" : value, member, asked);
    return hf_fail_hint(err, "Leave the option out, or change the settings.");
}

/* The text is parsed at once: what it leaves out is worked out by the same rules as ever. */
static bool
write_settings_text(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    static const char head[] = "# The settings of Holdfast.  \"holdfast settings\" explains every one of them.\n\n";
    static const char tail[] = "\n# Database servers can stand here or be added with \"holdfast source add\".\n"
                               "# sources:\n"
                               "#   clinic:\n"
                               "#     engine: postgresql\n"
                               "#     connection: host=db.example user=holdfast\n"
                               "#     password_file: /etc/holdfast/clinic.password\n"
                               "#     backup_every: 6h\n";
    struct hf_buf *text = &making->settings_text;
    _cleanup_(hf_freep) char *asked = NULL;
    char key_file[PATH_MAX + 16], folder[PATH_MAX];
    const char *repository = json_string_value(json_object_get(cli->arguments, "repository"));
    const char *state = json_string_value(json_object_get(cli->arguments, "state"));
    const char *key = json_string_value(json_object_get(cli->arguments, "key_file"));

    if (repository == NULL) {
        if (!hf_ask_line("Folder for the backups (absolute path)", "--repository", &asked, err))
            return false;
        repository = asked;
    }
    if (!folder_of(making->settings_path, folder, err))
        return false;
    snprintf(key_file, sizeof key_file, "%s/server.key", folder);
    return hf_buf_add_text(text, head, err) && add_setting(text, "repository", repository, err) &&
           (state == NULL || add_setting(text, "state", state, err)) && hf_buf_add_text(text, "unlock:\n", err) &&
           add_setting(text, "  key_file", key == NULL ? key_file : key, err) && hf_buf_add_text(text, tail, err) &&
           hf_settings_parse(making->settings_path, text->data, text->length, &making->settings, err);
}

/* A JSON string is a YAML string. */
static bool
add_setting(struct hf_buf *text, const char *name, const char *value, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *quoted = json_string(value);
    if (quoted == NULL)
        return hf_fail(err, HF_ERR_USAGE, "the path for \"%s\" is not valid UTF-8", name);
    return hf_buf_printf(text, err, "%s: ", name) && hf_json_canonical(quoted, text, err) &&
           hf_buf_add_text(text, "\n", err);
}

/* The name stands in every evidence document: server/evidence/sign.h says what it may be. */
static bool
choose_name(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    const char *asked = json_string_value(json_object_get(cli->arguments, "name"));
    char host[SIGNER_NAME_MOST + 1] = "holdfast";
    if (asked == NULL && gethostname(host, sizeof host - 1) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not find the host's name");
    if (asked != NULL && strlen(asked) > SIGNER_NAME_MOST)
        return hf_fail(err, HF_ERR_USAGE, "the name is longer than %d bytes", SIGNER_NAME_MOST);
    snprintf(making->name, sizeof making->name, "%s", asked == NULL ? host : asked);
    return true;
}

/* A catalog there belongs to a repository that is in use.  A signing key may lie there: its owner brought it. */
static bool
check_state_is_free(const struct hf_settings *settings, struct hf_error *err)
{
    _cleanup_(hf_freep) char *catalog = hf_path_join(settings->state, HF_STATE_CATALOG);
    if (catalog == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the state folder");
    if (access(catalog, F_OK) != 0)
        return true;
    hf_fail(err, HF_ERR_CONFLICT, "the state folder \"%s\" is in use for another repository", settings->state);
    return hf_fail_hint(err, "Name a folder of its own with --state.");
}

static bool
make_folders(const struct making *making, struct hf_error *err)
{
    const struct hf_settings *settings = making->settings;
    char folder[PATH_MAX];
    const bool first =
        making->settings_text.length > 0; // else the settings were there, and what is there is told below
    if ((first && !check_state_is_free(settings, err)) || !hf_dir_make(settings->state, 0711, err) ||
        !folder_of(making->settings_path, folder, err) || !hf_dir_make(folder, 0755, err))
        return false;
    if (settings->unlock.key_file == NULL)
        return true;
    return folder_of(settings->unlock.key_file, folder, err) && hf_dir_make(folder, 0700, err);
}

static bool
folder_of(const char *path, char folder[static PATH_MAX], struct hf_error *err)
{
    char copy[PATH_MAX];
    if (snprintf(copy, sizeof copy, "%s", path) >= (int)sizeof copy)
        return hf_fail(err, HF_ERR_USAGE, "the path is too long: \"%.100s...\"", path);
    snprintf(folder, PATH_MAX, "%s", dirname(copy));
    return true;
}

static bool
make_keys(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    return take_server_key(making, err) && take_passphrase(cli, making, err) && make_signer(making, err);
}

static bool
take_server_key(struct making *making, struct hf_error *err)
{
    const char *key_file = making->settings->unlock.key_file;
    if (key_file == NULL)
        return hf_unlock_read(making->settings, &making->server, err);
    if (access(key_file, F_OK) == 0)
        return hf_key_file_read(key_file, &making->server, err);
    return hf_key_file_create(key_file, &making->server, err);
}

/* None is allowed: the key file then is the only way in, and the recovery kit says so. */
static bool
take_passphrase(struct hf_cli *cli, struct making *making, struct hf_error *err)
{
    const char *file = json_string_value(json_object_get(cli->arguments, "passphrase_file"));
    struct hf_secret *passphrase = &making->safe.passphrase;
    making->safe.kind = HF_SLOT_PASSPHRASE;
    if (file != NULL && !hf_secret_read_file(passphrase, file, HF_PASSPHRASE_MOST, true, err))
        return hf_fail_within(err, "could not read the passphrase");
    if (file == NULL && !cli->json &&
        !hf_ask_passphrase("Passphrase for the safe (Enter for none)", passphrase, HF_PASSPHRASE_MOST, err))
        return false;
    making->has_safe = passphrase->length > 0;
    if (making->has_safe && passphrase->length < HF_PASSPHRASE_LEAST)
        return hf_fail(err, HF_ERR_USAGE, "the passphrase is shorter than %d bytes", HF_PASSPHRASE_LEAST);
    return true;
}

static bool
make_signer(struct making *making, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(making->settings->state, HF_STATE_SIGNING_KEY);
    _cleanup_(hf_freep) char *public_path = hf_path_join(making->settings->state, PUBLIC_KEY_NAME);
    if (path == NULL || public_path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the signing key");
    if (access(path, F_OK) != 0 && !hf_signer_create(path, making->name, err))
        return hf_fail_within(err, "could not make the signing key");
    if (!hf_signer_open(path, &making->signer, err))
        return false;
    const struct hf_public_key *key = hf_signer_public_key(making->signer);
    making->signing = (struct hf_signing){.context = making->signer, .appliance = hf_id_new(), .sign = hf_signer_sign};
    memcpy(making->signing.public_key, key->bytes, sizeof key->bytes);
    return hf_public_key_write_file(key, public_path, err);
}

static bool
make_repository(struct making *making, struct hf_error *err)
{
    const char *place = making->settings->repository;
    const int64_t now = hf_time_now_ms();
    const struct hf_repository_new how = {
        .credential = &making->server,
        .slot = {.name = making->server.slot != NULL ? making->server.slot : "server"}, // a command's is its own
        .signer = &making->signing,
        .signer_name = making->name,
        .now = now,
    };
    if (!hf_repository_create(place, &how, &making->repository, err))
        return hf_fail_within(err, "could not make a repository in \"%s\"", place);

    struct hf_backend *backend = hf_repository_backend(making->repository);
    const struct hf_id id = hf_repository_id(making->repository);
    const struct hf_slot_options safe = {.name = "safe"};
    char identity[HF_ID_TEXT_BYTES];
    const struct hf_vault_new house = {.engine = "house",
                                       .identity = hf_id_format(&id, identity),
                                       .name = making->name,
                                       .signer = &making->signing,
                                       .now = now};
    size_t count;
    struct hf_slot_info slots[HF_SLOTS_MOST];
    if (!hf_slot_list(backend, &id, slots, &count, err))
        return false;
    making->server_slot = slots[0];
    if (making->has_safe && !hf_slot_add(backend, &id, &making->safe, &safe, hf_repository_root_key(making->repository),
                                         now, &making->safe_slot, err))
        return hf_fail_within(err, "could not make the slot for the passphrase");
    return hf_vault_create(making->repository, &house, &making->house, err) && record_keys(making, now, err);
}

/* From the first day on it is known which slots and kits there were: what `vault shred` has to tell one day. */
static bool
record_keys(struct making *making, int64_t now, struct hf_error *err)
{
    const struct hf_id kit = hf_id_new(), repository = hf_repository_id(making->repository);
    struct hf_slot_info slots[HF_SLOTS_MOST];
    size_t count;
    if (!hf_slot_list(hf_repository_backend(making->repository), &repository, slots, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        _cleanup_(hf_json_freep) json_t *record = hf_key_record_new(&slots[i], "added", "holdfast init");
        if (record == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a key slot");
        if (!hf_key_record_append(making->house, &making->signing, HF_RECORD_KEY, &slots[i].id, record, now, err))
            return false;
    }
    _cleanup_(hf_json_freep) json_t *record = hf_kit_record_new(slots, count, "holdfast init", now);
    if (record == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of the recovery kit");
    return hf_key_record_append(making->house, &making->signing, HF_RECORD_KIT, &kit, record, now, err);
}

static bool
make_ledger(const struct making *making, struct hf_error *err)
{
    _cleanup_(hf_freep) char *folder = hf_path_join(making->settings->repository, "evidence");
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the ledger");
    return hf_ledger_create(folder, making->signer, err);
}

/* Last: with settings in place everything else is there. */
static bool
publish_settings(const struct making *making, struct hf_error *err)
{
    return making->settings_text.length == 0 ||
           hf_file_publish(making->settings_path, making->settings_text.data, making->settings_text.length, 0600,
                           HF_PUBLISH_EXCLUSIVE, err);
}

static bool
describe(const struct making *making, json_t **ret, struct hf_error *err)
{
    const struct hf_settings *settings = making->settings;
    const struct hf_id repository = hf_repository_id(making->repository);
    const struct hf_vault_state *state;
    char public_key[HF_PUBLIC_KEY_TEXT_BYTES], hash[2 * HF_SHA256_BYTES + 1], head[160];
    if (!hf_vault_read(making->house, NULL, NULL, &state, err))
        return false;
    hf_hex_format(state->head_hash, sizeof state->head_hash, hash);
    snprintf(head, sizeof head, "house vault, entry %" PRIu64 ", %s", state->head, hash);
    *ret = json_pack("{s:s, s:o, s:s, s:o, s:s, s:o, s:o, s:s, s:s, s:s, s:s}", "place", settings->repository,
                     "repository", hf_json_id_text(&repository), "name", making->name, "appliance",
                     hf_json_id_text(&making->signing.appliance), "state", settings->state, "server_slot",
                     hf_json_id_text(&making->server_slot.id), "safe_slot",
                     making->has_safe ? hf_json_id_text(&making->safe_slot.id) : json_null(), "key_file",
                     settings->unlock.key_file != NULL          ? settings->unlock.key_file
                     : settings->unlock.passphrase_file != NULL ? settings->unlock.passphrase_file
                                                                : settings->unlock.command,
                     "public_key", hf_public_key_format(hf_signer_public_key(making->signer), public_key), "log_head",
                     head, "settings", making->settings_path);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}
