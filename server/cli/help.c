#include <stdio.h>
#include <string.h>

#include "server/cli/command.h"

static bool list_commands(const char *group, struct hf_buf *out, struct hf_error *err);
static bool add_usage(const struct hf_cli_command *command, struct hf_buf *out, struct hf_error *err);
static bool describe_command(const struct hf_cli_command *command, struct hf_buf *out, struct hf_error *err);

static const char everywhere[] = "Everywhere:\n"
                                 "  --settings FILE   The settings; without it $HOLDFAST_SETTINGS, then\n"
                                 "                    /etc/holdfast/holdfast.yaml.\n"
                                 "  --json            The answer as JSON, for programs.\n"
                                 "  --help            This text.\n";

static const char exits[] =
    "\nExit: 0 done, 1 failed, 2 wrong usage, 3 the answer is bad news (not proven, damage, a gap).\n";

bool
hf_cli_help(const struct hf_cli *cli, struct hf_buf *out, struct hf_error *err)
{
    if (cli->command != NULL)
        return describe_command(cli->command, out, err) && hf_buf_add_text(out, everywhere, err);
    return hf_buf_add_text(out,
                           "Holdfast backs databases up, and proves that the backups work.\n\n"
                           "Usage: holdfast COMMAND ...\n\n",
                           err) &&
           list_commands(cli->group, out, err) && hf_buf_add_text(out, "\n", err) &&
           hf_buf_add_text(out, everywhere, err) && hf_buf_add_text(out, exits, err);
}

static bool
list_commands(const char *group, struct hf_buf *out, struct hf_error *err)
{
    size_t length = group == NULL ? 0 : strlen(group);
    for (size_t i = 0; i < hf_cli_command_count; i++) {
        const struct hf_cli_command *command = &hf_cli_commands[i];
        if (group != NULL && (strncmp(command->words, group, length) != 0 || command->words[length] != ' '))
            continue;
        if (!hf_buf_printf(out, err, "  %-19s  %s\n", command->words, command->sentence))
            return false;
    }
    return true;
}

static bool
add_usage(const struct hf_cli_command *command, struct hf_buf *out, struct hf_error *err)
{
    if (!hf_buf_printf(out, err, "Usage: holdfast %s", command->words))
        return false;
    for (size_t i = 0; i < HF_CLI_ARGUMENTS_MOST && command->arguments[i].type != HF_CLI_NONE; i++) {
        const struct hf_cli_argument *argument = &command->arguments[i];
        if (!(argument->required ? hf_buf_printf(out, err, " %s", argument->name)
                                 : hf_buf_printf(out, err, " [%s]", argument->name)))
            return false;
    }
    bool options = command->options[0].type != HF_CLI_NONE || command->setting_options;
    return hf_buf_add_text(out, options ? " [OPTION ...]\n" : "\n", err);
}

static bool
describe_command(const struct hf_cli_command *command, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_cli_option *options = NULL;
    size_t count;
    if (!add_usage(command, out, err) || !hf_buf_printf(out, err, "\n%s\n\n", command->sentence) ||
        !hf_cli_options_of(command, &options, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char form[96];
        snprintf(form, sizeof form, "%s %s", options[i].name, options[i].value == NULL ? "" : options[i].value);
        if (!hf_buf_printf(out, err, "  %-28s  %s\n", form, options[i].sentence))
            return false;
    }
    return count == 0 || hf_buf_add_text(out, "\n", err);
}
