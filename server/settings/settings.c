#include "server/settings/settings.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/settings/connection.h"
#include "server/settings/assertion.h"
#include "server/settings/table.h"
#include "server/settings/parse.h"

#define SYSTEM_FILE  "/etc/holdfast/holdfast.yaml"
#define SYSTEM_STATE "/var/lib/holdfast"
#define HOME_FILE    ".config/holdfast/holdfast.yaml"
#define HOME_STATE   ".local/state/holdfast"

static char *in_home(const char *name);
static bool make_absolute(const char *path, char **ret, struct hf_error *err);
static bool check_owner(const char *path, struct hf_error *err);
static bool finish(struct hf_settings *settings, struct hf_error *err);
static bool finish_unlock(const struct hf_settings *settings, struct hf_error *err);
static bool compute(char **member, const char *folder, const char *name, struct hf_error *err);
static bool finish_source(const struct hf_source_settings *source, struct hf_error *err);

bool
hf_settings_path(const char *option, char **ret, struct hf_error *err)
{
    const char *variable = getenv("HOLDFAST_SETTINGS");
    if (option == NULL && variable != NULL && variable[0] != '\0')
        option = variable;
    if (option != NULL)
        return make_absolute(option, ret, err);

    // An ordinary user without a system-wide file works with one of their own.
    _cleanup_(hf_freep) char *own = NULL;
    if (geteuid() != 0 && access(SYSTEM_FILE, F_OK) != 0)
        own = in_home(HOME_FILE);
    char *path = own != NULL ? HF_TAKE(own) : strdup(SYSTEM_FILE);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the path of the settings");
    *ret = path;
    return true;
}

bool
hf_settings_load(const char *path, struct hf_settings **ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_SETTINGS_FILE_MOST);
    if (!check_owner(path, err) || !hf_file_read(path, &text, err))
        return hf_fail_within(err, "could not read the settings");
    return hf_settings_parse(path, text.data, text.length, ret, err);
}

bool
hf_settings_parse(const char *file, const void *text, size_t length, struct hf_settings **ret, struct hf_error *err)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = calloc(1, sizeof *settings);
    if (settings == NULL || (settings->file = strdup(file)) == NULL ||
        (settings->text = strndup(length == 0 ? "" : text, length)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the settings");

    if (!hf_setting_set_defaults(HF_SETTING_OF_APPLIANCE, settings, err) ||
        !hf_settings_read_yaml(file, length == 0 ? "" : text, length, settings, err))
        return false;
    if (!finish(settings, err))
        return hf_fail_within(err, "%s", file);
    for (size_t i = 0; i < settings->source_count; i++) {
        if (!finish_source(settings->sources[i], err))
            return hf_fail_within(err, "%s:%u", file, settings->sources[i]->line);
    }
    *ret = HF_TAKE(settings);
    return true;
}

void
hf_settings_freep(struct hf_settings **settings)
{
    struct hf_settings *it = *settings;
    if (it == NULL)
        return;
    for (size_t i = 0; i < it->source_count; i++)
        hf_source_settings_freep(&it->sources[i]);
    free(it->sources);
    for (size_t i = 0; i < it->key_command_count; i++)
        hf_key_command_freep(&it->key_commands[i]);
    free(it->key_commands);
    hf_setting_release(HF_SETTING_OF_APPLIANCE, it);
    free(it->file);
    free(it->text);
    free(it);
    *settings = NULL;
}

const struct hf_source_settings *
hf_settings_source(const struct hf_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->source_count; i++)
        if (strcmp(settings->sources[i]->name, name) == 0)
            return settings->sources[i];
    return NULL;
}

const struct hf_key_command *
hf_settings_key_command(const struct hf_settings *settings, const char *name)
{
    for (size_t i = 0; i < settings->key_command_count; i++)
        if (strcmp(settings->key_commands[i]->name, name) == 0)
            return settings->key_commands[i];
    return NULL;
}

void
hf_key_command_freep(struct hf_key_command **command)
{
    if (*command == NULL)
        return;
    hf_setting_release(HF_SETTING_OF_KEY_COMMAND, *command);
    free((*command)->name);
    free(*command);
    *command = NULL;
}

bool
hf_source_name_check(const char *name, struct hf_error *err)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    size_t length = strlen(name);
    if (length == 0 || length >= HF_SOURCE_NAME_BYTES || strspn(name, allowed) != length || name[0] == '_' ||
        name[0] == '-') {
        hf_fail(err, HF_ERR_USAGE, "\"%.100s\" cannot be the name of a source", name);
        return hf_fail_hint(err, "A name has 1 to %d of a-z, 0-9, _ and -, and begins with a letter or a digit.",
                            HF_SOURCE_NAME_BYTES - 1);
    }
    return true;
}

bool
hf_source_settings_to_json(const struct hf_source_settings *source, json_t **ret, struct hf_error *err)
{
    size_t count;
    const struct hf_setting *table = hf_settings_table(&count);
    _cleanup_(hf_json_freep) json_t *object = json_object();
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_SETTINGS_TEXT_MOST + 1);

    for (size_t i = 0; i < count; i++) {
        if (table[i].of != HF_SETTING_OF_SOURCE)
            continue;
        hf_buf_clear(&text);
        if (!hf_setting_print(&table[i], source, &text, err))
            return false;
        if (text.length > 0 && !hf_json_set(object, table[i].name, json_string(hf_buf_text(&text)), err))
            return false;
    }
    *ret = HF_TAKE(object);
    return true;
}

bool
hf_source_settings_from_json(const char *name, const json_t *object, struct hf_source_settings **ret,
                             struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = calloc(1, sizeof *source);
    if (source == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a source");
    if (!hf_source_name_check(name, err))
        return false;
    if ((source->name = strdup(name)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for source \"%s\"", name);
    if (!hf_setting_set_defaults(HF_SETTING_OF_SOURCE, source, err))
        return false;

    const char *member;
    json_t *value;
    json_object_foreach((json_t *)object, member, value)
    {
        const struct hf_setting *setting = hf_setting_find(HF_SETTING_OF_SOURCE, member);
        if (setting == NULL)
            return hf_fail(err, HF_ERR_USAGE, "source \"%s\": there is no setting \"%.100s\"", name, member);
        if (!json_is_string(value))
            return hf_fail(err, HF_ERR_USAGE, "source \"%s\": \"%s\" is not text", name, member);
        if (!hf_setting_set(setting, source, json_string_value(value), err))
            return hf_fail_within(err, "source \"%s\"", name);
    }
    if (!hf_setting_check_required(HF_SETTING_OF_SOURCE, source, err))
        return hf_fail_within(err, "source \"%s\"", name);
    if (!finish_source(source, err))
        return false;
    *ret = HF_TAKE(source);
    return true;
}

void
hf_source_settings_freep(struct hf_source_settings **source)
{
    if (*source == NULL)
        return;
    hf_setting_release(HF_SETTING_OF_SOURCE, *source);
    free((*source)->name);
    free(*source);
    *source = NULL;
}

/* NULL without $HOME or without memory: the caller then takes the system's place. */
static char *
in_home(const char *name)
{
    const char *home = getenv("HOME");
    return home == NULL || home[0] != '/' ? NULL : hf_path_join(home, name);
}

static bool
make_absolute(const char *path, char **ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *here = NULL;
    if (path[0] != '/' && (here = getcwd(NULL, 0)) == NULL)
        return hf_fail_errno(err, HF_ERR_NONE, "could not find the folder that \"%s\" is relative to", path);
    char *whole = here == NULL ? strdup(path) : hf_path_join(here, path);
    if (whole == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the path of the settings");
    *ret = whole;
    return true;
}

/* Whoever can write this file decides what is connected to and which files are read as keys. */
static bool
check_owner(const char *path, struct hf_error *err)
{
    struct stat status;
    if (lstat(path, &status) != 0) {
        int system = errno;
        hf_fail_errno(err, HF_ERR_NONE, "\"%s\"", path);
        if (system == ENOENT)
            hf_fail_hint(err, "\"holdfast init\" makes a repository and its settings; --settings or "
                              "HOLDFAST_SETTINGS name another file.");
        return false;
    }
    if (status.st_uid != geteuid() && status.st_uid != 0) {
        hf_fail(err, HF_ERR_DENIED, "\"%s\" belongs to user %u", path, (unsigned)status.st_uid);
        return hf_fail_hint(err, "It must belong to root or to the user who runs Holdfast.");
    }
    if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        hf_fail(err, HF_ERR_DENIED, "\"%s\" can be changed by others (mode %04o)", path,
                (unsigned)status.st_mode & 07777);
        return hf_fail_hint(err, "Run \"chmod go-w %s\".", path);
    }
    return true;
}

/* What one row cannot say: values worked out from others, and rules between rows. */
static bool
finish(struct hf_settings *settings, struct hf_error *err)
{
    if (!hf_setting_check_required(HF_SETTING_OF_APPLIANCE, settings, err))
        return false;
    if (!finish_unlock(settings, err))
        return false;
    for (size_t i = 0; i < settings->key_command_count; i++) {
        const struct hf_key_command *command = settings->key_commands[i];
        if (command->run[0][0] != '/')
            return hf_fail(err, HF_ERR_USAGE,
                           "key command \"%s\": \"run\" begins with \"%s\", which is not an absolute path",
                           command->name, command->run[0]);
    }

    if (settings->state == NULL && geteuid() != 0)
        settings->state = in_home(HOME_STATE);
    if (settings->state == NULL && (settings->state = strdup(SYSTEM_STATE)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the settings");
    return compute(&settings->socket, settings->state, "holdfastd.sock", err) &&
           compute(&settings->scratch.folder, settings->state, "scratch", err);
}

static bool
finish_unlock(const struct hf_settings *settings, struct hf_error *err)
{
    const char *command = settings->unlock.command;
    const int ways =
        (settings->unlock.key_file != NULL) + (settings->unlock.passphrase_file != NULL) + (command != NULL);
    if (ways == 0)
        hf_fail(err, HF_ERR_USAGE, "\"unlock\" has neither \"key_file\" nor \"passphrase_file\" nor \"command\"");
    else if (ways > 1)
        hf_fail(err, HF_ERR_USAGE, "\"unlock\" has more than one of \"key_file\", \"passphrase_file\" and \"command\"");
    if (ways != 1)
        return hf_fail_hint(err, "Give exactly one way to open the repository without a person.");
    if (command != NULL && hf_settings_key_command(settings, command) == NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"unlock.command\" is \"%s\", which \"key_commands\" does not have",
                       command);
    return true;
}

static bool
compute(char **member, const char *folder, const char *name, struct hf_error *err)
{
    if (*member == NULL && (*member = hf_path_join(folder, name)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the settings");
    return true;
}

static bool
finish_source(const struct hf_source_settings *source, struct hf_error *err)
{
    struct hf_assertions assertions;
    return (hf_assertions_parse(source->assertions, &assertions, err) &&
            hf_connection_check("connection", source->connection, err) &&
            (source->tool_connection == NULL ||
             hf_connection_check("tool_connection", source->tool_connection, err))) ||
           hf_fail_within(err, "source \"%s\"", source->name);
}
