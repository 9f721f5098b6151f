#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "server/cli/command.h"
#include "server/settings/table.h"

#define NUMBER_MOST 1000000000

/* What stands in argv, from left to right. */
struct line {
    int count;
    char **words;
    int at;
};

static bool take_global(struct line *line, struct hf_cli *cli, bool *ret_taken, struct hf_error *err);
static bool find_command(struct line *line, struct hf_cli *cli, struct hf_error *err);
static const struct hf_cli_command *match(const char *first, const char *second, bool *ret_second);
static bool is_group(const char *word);
static bool take_option(struct line *line, struct hf_cli *cli, struct hf_error *err);
static bool find_option(const struct hf_cli *cli, const char *word, struct hf_cli_option *ret, struct hf_error *err);
static bool take_value(struct line *line, const char *value_name, const char **ret, struct hf_error *err);
static bool take_argument(struct hf_cli *cli, size_t index, const char *text, struct hf_error *err);
static bool check_required(const struct hf_cli *cli, size_t count, struct hf_error *err);
static bool put(struct hf_cli *cli, const char *member, enum hf_cli_type type, const char *text, struct hf_error *err);
static bool append(struct hf_cli *cli, const char *member, json_t *value, struct hf_error *err);
static bool put_number(struct hf_cli *cli, const char *member, const char *text, struct hf_error *err);
static json_t *absolute(const char *path);
static bool add_setting_options(struct hf_cli_option *options, size_t *count, struct hf_error *err);
static char *option_name(const char *setting);

bool
hf_cli_parse(int argc, char **argv, struct hf_cli *ret, struct hf_error *err)
{
    struct line line = {.count = argc, .words = argv, .at = 1};
    struct hf_cli cli = {.arguments = json_object(), .exit = HF_EXIT_DONE};
    size_t positional = 0;
    bool options_over = false, parsed = find_command(&line, &cli, err);

    while (parsed && cli.command != NULL && line.at < line.count) {
        const char *word = line.words[line.at];
        bool taken = false;
        if (!options_over && strcmp(word, "--") == 0) {
            options_over = true;
            line.at++;
        } else if (!options_over && word[0] == '-' && word[1] != '\0') {
            parsed = take_global(&line, &cli, &taken, err) && (taken || take_option(&line, &cli, err));
        } else {
            parsed = take_argument(&cli, positional++, word, err);
            line.at++;
        }
    }
    parsed = parsed && (cli.help || cli.command == NULL || check_required(&cli, positional, err));
    if (!parsed) {
        if (cli.command != NULL)
            hf_fail_hint(err, "\"holdfast %s --help\" says more.", cli.command->words);
        json_decref(cli.arguments);
        return false;
    }
    *ret = cli;
    return true;
}

bool
hf_cli_options_of(const struct hf_cli_command *command, struct hf_cli_option **ret, size_t *ret_count,
                  struct hf_error *err)
{
    size_t count = 0;
    _cleanup_(hf_freep) struct hf_cli_option *options = calloc(HF_CLI_OPTIONS_MOST, sizeof *options);
    if (options == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for options");
    while (count < HF_LENGTH(command->options) && command->options[count].type != HF_CLI_NONE) {
        options[count] = command->options[count];
        count++;
    }
    if (command->setting_options && !add_setting_options(options, &count, err))
        return false;
    *ret = HF_TAKE(options);
    *ret_count = count;
    return true;
}

bool
hf_cli_load_settings(const struct hf_cli *cli, struct hf_settings **ret, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = NULL;
    return hf_settings_path(cli->settings_option, &path, err) && hf_settings_load(path, ret, err);
}

/* --json, --settings and --help stand anywhere. */
static bool
take_global(struct line *line, struct hf_cli *cli, bool *ret_taken, struct hf_error *err)
{
    const char *word = line->words[line->at];
    *ret_taken = true;
    if (strcmp(word, "--json") == 0) {
        cli->json = true;
        line->at++;
        return true;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        cli->help = true;
        line->at++;
        return true;
    }
    if (strcmp(word, "--settings") == 0 || strncmp(word, "--settings=", 11) == 0)
        return take_value(line, "FILE", &cli->settings_option, err);
    *ret_taken = false;
    return true;
}

static bool
find_command(struct line *line, struct hf_cli *cli, struct hf_error *err)
{
    while (line->at < line->count && line->words[line->at][0] == '-') {
        bool taken;
        if (strcmp(line->words[line->at], "--version") == 0) {
            line->words[line->at] = (char *)(uintptr_t) "version";
            break;
        }
        if (!take_global(line, cli, &taken, err))
            return false;
        if (!taken) {
            hf_fail(err, HF_ERR_USAGE, "there is no option \"%.64s\" before a command", line->words[line->at]);
            return hf_fail_hint(err, "\"holdfast --help\" shows the commands.");
        }
    }
    if (line->at == line->count) {
        if (cli->help)
            return true;
        hf_fail(err, HF_ERR_USAGE, "a command is missing");
        return hf_fail_hint(err, "\"holdfast --help\" shows the commands.");
    }

    const char *first = line->words[line->at], *second = line->at + 1 < line->count ? line->words[line->at + 1] : NULL;
    bool both;
    cli->command = match(first, second, &both);
    if (cli->command != NULL) {
        line->at += both ? 2 : 1;
        return true;
    }
    if (is_group(first)) {
        bool asks = cli->help || (second != NULL && (strcmp(second, "--help") == 0 || strcmp(second, "-h") == 0));
        cli->group = first;
        if (asks) {
            cli->help = true;
            line->at = line->count;
            return true;
        }
        hf_fail(err, HF_ERR_USAGE, "\"holdfast %s\" needs another word behind it", first);
        return hf_fail_hint(err, "\"holdfast %s --help\" shows which.", first);
    }
    hf_fail(err, HF_ERR_USAGE, "there is no command \"%.64s\"", first);
    return hf_fail_hint(err, "\"holdfast --help\" shows the commands.");
}

static const struct hf_cli_command *
match(const char *first, const char *second, bool *ret_second)
{
    size_t length = strlen(first);
    for (size_t i = 0; i < hf_cli_command_count; i++) {
        const char *words = hf_cli_commands[i].words;
        if (strncmp(words, first, length) != 0)
            continue; // and it may be shorter than `first`
        *ret_second = words[length] == ' ';
        if (words[length] == '\0' || (*ret_second && second != NULL && strcmp(words + length + 1, second) == 0))
            return &hf_cli_commands[i];
    }
    return NULL;
}

static bool
is_group(const char *word)
{
    size_t length = strlen(word);
    for (size_t i = 0; i < hf_cli_command_count; i++)
        if (strncmp(hf_cli_commands[i].words, word, length) == 0 && hf_cli_commands[i].words[length] == ' ')
            return true;
    return false;
}

static bool
take_option(struct line *line, struct hf_cli *cli, struct hf_error *err)
{
    const char *word = line->words[line->at], *value = NULL;
    struct hf_cli_option option;
    if (!find_option(cli, word, &option, err))
        return false;
    if (option.type == HF_CLI_FLAG) {
        if (strchr(word, '=') != NULL)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" takes no value", option.name);
        line->at++;
        if (option.member == NULL) {
            cli->detach = true; // the one flag that is about the conversation, not about the command
            return true;
        }
        return hf_json_set(cli->arguments, option.member, json_true(), err);
    }
    return take_value(line, option.value, &value, err) && put(cli, option.member, option.type, value, err);
}

/* Copies the option, whose name may be made of a setting's: it is found again by that. */
static bool
find_option(const struct hf_cli *cli, const char *word, struct hf_cli_option *ret, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_cli_option *options = NULL;
    size_t count, length = strcspn(word, "=");
    bool found = false;
    if (!hf_cli_options_of(cli->command, &options, &count, err))
        return false;
    for (size_t i = 0; i < count && !found; i++) {
        if (strlen(options[i].name) == length && strncmp(options[i].name, word, length) == 0) {
            *ret = options[i];
            found = true;
        }
    }
    return found || hf_fail(err, HF_ERR_USAGE, "\"holdfast %s\" has no option \"%.64s\"", cli->command->words, word);
}

/* "--name value" or "--name=value". */
static bool
take_value(struct line *line, const char *value_name, const char **ret, struct hf_error *err)
{
    const char *word = line->words[line->at++], *equals = strchr(word, '=');
    if (equals != NULL) {
        *ret = equals + 1;
        return true;
    }
    if (line->at == line->count)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" needs a value (%s)", word, value_name);
    *ret = line->words[line->at++];
    return true;
}

static bool
take_argument(struct hf_cli *cli, size_t index, const char *text, struct hf_error *err)
{
    if (index >= HF_CLI_ARGUMENTS_MOST || cli->command->arguments[index].type == HF_CLI_NONE)
        return hf_fail(err, HF_ERR_USAGE, "\"holdfast %s\" does not know what to do with \"%.64s\"",
                       cli->command->words, text);
    const struct hf_cli_argument *argument = &cli->command->arguments[index];
    return put(cli, argument->member, argument->type, text, err);
}

static bool
check_required(const struct hf_cli *cli, size_t count, struct hf_error *err)
{
    for (size_t i = count; i < HF_CLI_ARGUMENTS_MOST; i++)
        if (cli->command->arguments[i].required)
            return hf_fail(err, HF_ERR_USAGE, "\"holdfast %s\" needs %s", cli->command->words,
                           cli->command->arguments[i].name);
    return true;
}

static bool
put(struct hf_cli *cli, const char *member, enum hf_cli_type type, const char *text, struct hf_error *err)
{
    if (type == HF_CLI_NUMBER)
        return put_number(cli, member, text, err);
    const bool path =
        type == HF_CLI_PATH || type == HF_CLI_PATHS || (type == HF_CLI_PLACE && strncmp(text, "ssh://", 6) != 0);
    json_t *value = path ? absolute(text) : json_string(text);
    if (value == NULL)
        return hf_fail(err, HF_ERR_USAGE, "a value is not valid UTF-8");
    if (type == HF_CLI_PATHS || type == HF_CLI_TEXTS)
        return append(cli, member, value, err);
    if (type != HF_CLI_SETTING)
        return hf_json_set(cli->arguments, member, value, err);

    json_t *settings = json_object_get(cli->arguments, "settings");
    if (settings == NULL && hf_json_set(cli->arguments, "settings", json_object(), err))
        settings = json_object_get(cli->arguments, "settings");
    return hf_json_set(settings, member, value, err);
}

static bool
append(struct hf_cli *cli, const char *member, json_t *value, struct hf_error *err)
{
    json_t *list = json_object_get(cli->arguments, member);
    if (list == NULL && hf_json_set(cli->arguments, member, json_array(), err))
        list = json_object_get(cli->arguments, member);
    return json_array_append_new(list, value) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for options");
}

static bool
put_number(struct hf_cli *cli, const char *member, const char *text, struct hf_error *err)
{
    char *end;
    errno = 0;
    long number = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < 0 || number > NUMBER_MOST)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is not a whole number", text);
    return hf_json_set(cli->arguments, member, json_integer(number), err);
}

static json_t *
absolute(const char *path)
{
    _cleanup_(hf_freep) char *here = NULL;
    _cleanup_(hf_freep) char *whole = NULL;
    if (path[0] == '/')
        return json_string(path);
    if ((here = getcwd(NULL, 0)) == NULL || (whole = hf_path_join(here, path)) == NULL)
        return NULL;
    return json_string(whole);
}

/* "backup_every" becomes "--backup-every", "retention.daily" becomes "--retention-daily". */
static bool
add_setting_options(struct hf_cli_option *options, size_t *count, struct hf_error *err)
{
    size_t rows;
    const struct hf_setting *table = hf_settings_table(&rows);
    for (size_t i = 0; i < rows; i++) {
        if (table[i].of != HF_SETTING_OF_SOURCE)
            continue;
        const char *name = option_name(table[i].name);
        if (*count == HF_CLI_OPTIONS_MOST || name == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for options");
        bool path = table[i].type == HF_SETTING_PATH;
        options[(*count)++] = (struct hf_cli_option){.name = name,
                                                     .value = path                                   ? "FILE"
                                                              : table[i].type == HF_SETTING_WORD     ? "WORD"
                                                              : table[i].type == HF_SETTING_BOOLEAN  ? "YES|NO"
                                                              : table[i].type == HF_SETTING_SIZE     ? "SIZE"
                                                              : table[i].type == HF_SETTING_DURATION ? "DURATION"
                                                                                                     : "TEXT",
                                                     .member = table[i].name,
                                                     .type = HF_CLI_SETTING,
                                                     .sentence = table[i].sentence};
    }
    return true;
}

/* Made once for each setting and kept: there are as many as rows in the table. */
static char *
option_name(const char *setting)
{
    static char names[HF_CLI_OPTIONS_MOST][64];
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        char name[64];
        snprintf(name, sizeof name, "--%s", setting);
        for (char *at = name; *at != '\0'; at++)
            *at = *at == '_' || *at == '.' ? '-' : *at;
        if (names[i][0] == '\0')
            memcpy(names[i], name, sizeof name);
        if (strcmp(names[i], name) == 0)
            return names[i];
    }
    return NULL;
}
