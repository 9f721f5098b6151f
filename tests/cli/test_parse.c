#include "tests/support/test.h"

#include <unistd.h>

#include "server/cli/command.h"
#include "server/settings/table.h"

#define WORDS_MOST 32

/* Cuts a line at its spaces, as a shell would, and parses it. */
static bool
parse(const char *line, struct hf_cli *ret, struct hf_error *err)
{
    static char copy[1024];
    char *words[WORDS_MOST] = {"holdfast"};
    int count = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " ")) {
        assert_true(count < WORDS_MOST - 1);
        words[count++] = word;
    }
    return hf_cli_parse(count, words, ret, err);
}

/* The request's arguments as canonical JSON; good until the next call. */
static const char *
arguments_of(const char *line)
{
    static struct hf_buf text;
    struct hf_cli cli;
    struct hf_error err;
    hf_assert_ok(parse(line, &cli, &err), &err);
    hf_buf_done(&text);
    text = HF_BUF_INIT(64 * HF_KIB);
    hf_assert_ok(hf_json_canonical(cli.arguments, &text, &err), &err);
    json_decref(cli.arguments);
    return hf_buf_text(&text);
}

static void
must_refuse(const char *line, const char *message)
{
    struct hf_cli cli;
    struct hf_error err;
    if (parse(line, &cli, &err))
        fail_msg("was taken: %s", line);
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_string_equal(err.message, message);
    assert_non_null(strstr(err.hint, "--help\""));
}

HF_TEST(words_arguments_and_options_become_the_request)
{
    assert_string_equal(arguments_of("backup clinic"), "{\"source\":\"clinic\"}");
    assert_string_equal(arguments_of("verify clinic --backup 7f3a"), "{\"backup\":\"7f3a\",\"source\":\"clinic\"}");
    assert_string_equal(arguments_of("verify --backup=7f3a clinic"), "{\"backup\":\"7f3a\",\"source\":\"clinic\"}");
    assert_string_equal(arguments_of("repo check --level 2"), "{\"level\":2}");
    assert_string_equal(arguments_of("backups --all"), "{\"all\":true}");
    assert_string_equal(arguments_of("status"), "{}");
    assert_string_equal(arguments_of("restore clinic --to /srv/out"), "{\"source\":\"clinic\",\"to\":\"/srv/out\"}");
    assert_string_equal(arguments_of("backup -- --odd"), "{\"source\":\"--odd\"}");
}

HF_TEST(settings_of_a_source_are_options_under_their_own_names)
{
    assert_string_equal(arguments_of("source add clinic --engine postgresql --connection host=a --backup-every 6h"),
                        "{\"name\":\"clinic\",\"settings\":{\"backup_every\":\"6h\",\"connection\":\"host=a\","
                        "\"engine\":\"postgresql\"}}");

    size_t rows, count;
    const struct hf_setting *table = hf_settings_table(&rows);
    struct hf_cli_option *options;
    struct hf_error err;
    struct hf_cli cli;
    hf_assert_ok(parse("source add x", &cli, &err), &err);
    hf_assert_ok(hf_cli_options_of(cli.command, &options, &count, &err), &err);
    for (size_t i = 0; i < rows; i++) {
        bool found = table[i].of != HF_SETTING_OF_SOURCE;
        for (size_t k = 0; k < count; k++)
            found = found || strcmp(options[k].member, table[i].name) == 0;
        if (!found)
            fail_msg("setting %s has no option", table[i].name);
    }
    free(options);
    json_decref(cli.arguments);
}

HF_TEST(a_relative_path_is_made_absolute_before_it_leaves)
{
    assert_int_equal(chdir("/usr"), 0);
    assert_string_equal(arguments_of("restore clinic --to out"), "{\"source\":\"clinic\",\"to\":\"/usr/out\"}");
    assert_int_equal(chdir("/"), 0);
}

HF_TEST(json_settings_and_help_stand_anywhere)
{
    static const char *const lines[] = {"--json --settings F status", "status --settings=F --json",
                                        "--settings F status --json"};
    for (size_t i = 0; i < HF_LENGTH(lines); i++) {
        struct hf_cli cli;
        struct hf_error err;
        hf_assert_ok(parse(lines[i], &cli, &err), &err);
        assert_true(cli.json);
        assert_string_equal(cli.settings_option, "F");
        assert_string_equal(cli.command->words, "status");
        json_decref(cli.arguments);
    }
    struct hf_cli cli;
    struct hf_error err;
    hf_assert_ok(parse("backup --help", &cli, &err), &err); // although the source is missing
    assert_true(cli.help);
    json_decref(cli.arguments);
    hf_assert_ok(parse("--version", &cli, &err), &err);
    assert_string_equal(cli.command->words, "version");
    json_decref(cli.arguments);
}

HF_TEST(only_commands_with_that_option_can_be_detached)
{
    struct hf_cli cli;
    struct hf_error err;
    hf_assert_ok(parse("backup clinic --detach", &cli, &err), &err);
    assert_true(cli.detach);
    assert_int_equal(json_object_size(cli.arguments), 1);
    json_decref(cli.arguments);
    must_refuse("status --detach", "\"holdfast status\" has no option \"--detach\"");
}

HF_TEST(wrong_usage_is_named_with_a_way_on)
{
    static const struct {
        const char *line, *message;
    } cases[] = {
        {"", "a command is missing"},
        {"dance", "there is no command \"dance\""},
        {"source", "\"holdfast source\" needs another word behind it"},
        {"source dance", "\"holdfast source\" needs another word behind it"},
        {"--loud status", "there is no option \"--loud\" before a command"},
        {"backup", "\"holdfast backup\" needs SOURCE"},
        {"backup a b", "\"holdfast backup\" does not know what to do with \"b\""},
        {"status now", "\"holdfast status\" does not know what to do with \"now\""},
        {"status --loud", "\"holdfast status\" has no option \"--loud\""},
        {"verify a --backup", "\"--backup\" needs a value (ID)"},
        {"backups --all=yes", "\"--all\" takes no value"},
        {"repo check --level two", "\"two\" is not a whole number"},
        {"repo check --level -1", "\"-1\" is not a whole number"},
        {"status --settings", "\"--settings\" needs a value (FILE)"},
    };
    for (size_t i = 0; i < HF_LENGTH(cases); i++)
        must_refuse(cases[i].line, cases[i].message);
}

HF_TEST(every_command_has_a_help_that_shows_its_words_sentence_and_options)
{
    for (size_t i = 0; i < hf_cli_command_count; i++) {
        const struct hf_cli_command *command = &hf_cli_commands[i];
        char line[128];
        struct hf_cli cli;
        struct hf_error err;
        size_t count;
        struct hf_cli_option *options;
        _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(64 * HF_KIB);
        snprintf(line, sizeof line, "%s --help", command->words);
        hf_assert_ok(parse(line, &cli, &err), &err);
        assert_ptr_equal(cli.command, command);
        hf_assert_ok(hf_cli_help(&cli, &text, &err), &err);
        assert_non_null(strstr(hf_buf_text(&text), command->words));
        assert_non_null(strstr(hf_buf_text(&text), command->sentence));
        hf_assert_ok(hf_cli_options_of(command, &options, &count, &err), &err);
        for (size_t k = 0; k < count; k++)
            assert_non_null(strstr(hf_buf_text(&text), options[k].name));
        free(options);
        json_decref(cli.arguments);
    }
}

HF_TEST(the_whole_help_lists_every_command_and_a_groups_help_only_its_own)
{
    struct hf_cli cli;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf all = HF_BUF_INIT(64 * HF_KIB), some = HF_BUF_INIT(64 * HF_KIB);
    hf_assert_ok(parse("--help", &cli, &err), &err);
    hf_assert_ok(hf_cli_help(&cli, &all, &err), &err);
    json_decref(cli.arguments);
    for (size_t i = 0; i < hf_cli_command_count; i++)
        assert_non_null(strstr(hf_buf_text(&all), hf_cli_commands[i].sentence));

    hf_assert_ok(parse("repo --help", &cli, &err), &err);
    hf_assert_ok(hf_cli_help(&cli, &some, &err), &err);
    json_decref(cli.arguments);
    assert_non_null(strstr(hf_buf_text(&some), "repo check"));
    assert_non_null(strstr(hf_buf_text(&some), "repo gc"));
    assert_null(strstr(hf_buf_text(&some), "evidence"));
}

HF_TEST(every_command_is_done_here_or_asked_of_the_daemon_and_is_shown)
{
    for (size_t i = 0; i < hf_cli_command_count; i++) {
        const struct hf_cli_command *command = &hf_cli_commands[i];
        assert_true((command->request == NULL) == (command->local != NULL));
        assert_non_null(command->show);
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(command->words, hf_cli_commands[k].words);
    }
}
