/*
 * command.h - the commands of `holdfast`: one table, from which parsing, --help and completion come
 *
 * A command is words, what stands behind them, and two functions: one that fills the request for holdfastd (or does
 * the work itself, for the few that need no daemon), and one that shows the answer to a person.  With --json
 * the answer goes out as it came.
 */
#pragma once
#include "server/job/wire.h"
#include "server/settings/settings.h"

#define HF_CLI_ARGUMENTS_MOST 3
#define HF_CLI_OPTIONS_MOST   64

/* How a value goes into the request. */
enum hf_cli_type {
    HF_CLI_NONE,    // ends a list
    HF_CLI_TEXT,    //
    HF_CLI_PATH,    // made absolute: the daemon stands in another folder
    HF_CLI_PLACE,   // a path likewise, or ssh://... as it stands
    HF_CLI_PATHS,   // a PATH that may be given several times: a list
    HF_CLI_TEXTS,   // likewise TEXT
    HF_CLI_NUMBER,  // a whole number
    HF_CLI_FLAG,    // an option without a value
    HF_CLI_SETTING, // text, into the member "settings" under the name of the setting
};

struct hf_cli_argument {
    const char *name;   // "SOURCE"
    const char *member; // of the request
    enum hf_cli_type type;
    bool required;
};

struct hf_cli_option {
    const char *name;   // "--backup"
    const char *value;  // "ID"; NULL for a flag
    const char *member; // of the request
    enum hf_cli_type type;
    const char *sentence;
};

struct hf_cli;

struct hf_cli_command {
    const char *words; // "source add"
    const char *sentence;
    struct hf_cli_argument arguments[HF_CLI_ARGUMENTS_MOST];
    struct hf_cli_option options[24];
    bool setting_options;                                                  // and one for each setting of a source
    const char *request;                                                   // the daemon's command; NULL: done here
    bool (*local)(struct hf_cli *cli, json_t **ret, struct hf_error *err); // when request is NULL
    /* Adds what a person reads. */
    bool (*show)(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err);
};

extern const struct hf_cli_command hf_cli_commands[];
extern const size_t hf_cli_command_count;

/* One run of `holdfast`. */
struct hf_cli {
    const struct hf_cli_command *command; // NULL: help was asked for, or nothing
    const char *group;                    // help about the commands that begin so; NULL: all
    json_t *arguments;                    // of the request, by member
    const char *settings_option;          // --settings
    bool json, help, detach;
    bool colour;       // of the output
    enum hf_exit exit; // of a command that was done: done or bad news
};

/*
 * Reads argv by the table.  Errors: USAGE, with a hint where to look.  Owner of cli->arguments: the caller.
 */
HF_MUST_CHECK bool hf_cli_parse(int argc, char **argv, struct hf_cli *ret, struct hf_error *err);

/* Asks the daemon, showing on stderr where it is.  Also sets cli->exit. */
HF_MUST_CHECK bool hf_cli_ask(struct hf_cli *cli, const char *request, const json_t *arguments, json_t **ret,
                              struct hf_error *err);

/* What --help prints: all commands, a group of them, or one. */
HF_MUST_CHECK bool hf_cli_help(const struct hf_cli *cli, struct hf_buf *out, struct hf_error *err);

/* The options of one command, those made of settings too; *ret_count of them, free() the array. */
HF_MUST_CHECK bool hf_cli_options_of(const struct hf_cli_command *command, struct hf_cli_option **ret,
                                     size_t *ret_count, struct hf_error *err);

/* Loads the settings that --settings, the environment or the default names. */
HF_MUST_CHECK bool hf_cli_load_settings(const struct hf_cli *cli, struct hf_settings **ret, struct hf_error *err);

/* The whole program. */
int hf_cli_main(int argc, char **argv);
