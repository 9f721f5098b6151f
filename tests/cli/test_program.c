#include "tests/support/test.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/cli/command.h"
#include "server/job/lock.h"

/* One run of the program. */
struct outcome {
    int exit;
    struct hf_buf out, errors;
};

static void
outcome_done(struct outcome *outcome)
{
    hf_buf_done(&outcome->out);
    hf_buf_done(&outcome->errors);
}

/* In a folder, where the settings are "holdfast.yaml"; words are cut at spaces. */
static struct outcome
run(const char *folder, const char *line)
{
    char own[PATH_MAX - 32], program[PATH_MAX], settings[256], copy[1024];
    const char *words[32];
    size_t count = 0;
    ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
    own[length] = '\0';
    snprintf(program, sizeof program, "%s/../holdfast", dirname(own));
    snprintf(settings, sizeof settings, "HOLDFAST_SETTINGS=%s/holdfast.yaml", folder);
    snprintf(copy, sizeof copy, "%s", line);
    words[count++] = program;
    for (char *word = strtok(copy, " "); word != NULL; word = strtok(NULL, " "))
        words[count++] = word;
    words[count] = NULL;

    struct outcome outcome = {.out = HF_BUF_INIT(HF_MIB), .errors = HF_BUF_INIT(HF_MIB)};
    const char *const environment[] = {settings, "PATH=/usr/bin:/bin", "TERM=xterm", NULL};
    const struct hf_process_options options = {.argv = words,
                                               .environment = environment,
                                               .directory = folder,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1};
    struct hf_error err;
    int status = -1;
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, &outcome.out, &outcome.errors, &status, &err), &err);
    outcome.exit = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return outcome;
}

/* Ends an embedded daemon that a command left behind. */
static void
end_daemon(const char *folder)
{
    struct hf_lock_holder holder;
    char state[256];
    bool held = false;
    snprintf(state, sizeof state, "%s/state", folder);
    if (!hf_lock_look(state, &held, &holder, NULL) || !held)
        return;
    kill(holder.pid, SIGTERM);
    for (int waited = 0; held && waited < 1000; waited++) {
        usleep(10000);
        (void)!hf_lock_look(state, &held, &holder, NULL);
    }
}

static const char *
made_appliance(void)
{
    const char *folder = hf_test_folder();
    char path[256];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/passphrase", folder);
    hf_assert_ok(hf_file_publish(path, "correct horse\n", 14, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
    _cleanup_(outcome_done) struct outcome made =
        run(folder, "init --repository repo --state state --passphrase-file passphrase --name clinic");
    if (made.exit != 0)
        fail_msg("%s", hf_buf_text(&made.errors));
    return folder;
}

static json_t *
json_of(const struct outcome *outcome)
{
    json_t *object = NULL;
    struct hf_error err;
    hf_assert_ok(hf_json_parse(outcome->out.data, outcome->out.length, "the output", &object, &err), &err);
    return object;
}

HF_TEST(help_goes_to_stdout_and_wrong_usage_to_stderr_with_exit_2)
{
    const char *folder = hf_test_folder();
    _cleanup_(outcome_done) struct outcome help = run(folder, "--help"), wrong = run(folder, "backup");
    assert_int_equal(help.exit, 0);
    assert_non_null(strstr(hf_buf_text(&help.out), "Usage: holdfast COMMAND"));
    assert_int_equal(help.errors.length, 0);
    assert_int_equal(wrong.exit, 2);
    assert_int_equal(wrong.out.length, 0);
    assert_string_equal(hf_buf_text(&wrong.errors), "holdfast: \"holdfast backup\" needs SOURCE\n"
                                                    "\"holdfast backup --help\" says more.\n");
}

HF_TEST(the_help_of_every_command_needs_no_settings)
{
    const char *folder = hf_test_folder();
    for (size_t i = 0; i < hf_cli_command_count; i++) {
        char line[128];
        snprintf(line, sizeof line, "%s --help", hf_cli_commands[i].words);
        _cleanup_(outcome_done) struct outcome help = run(folder, line);
        assert_int_equal(help.exit, 0);
        assert_non_null(strstr(hf_buf_text(&help.out), hf_cli_commands[i].sentence));
    }
}

HF_TEST(without_settings_a_command_says_how_to_begin)
{
    _cleanup_(outcome_done) struct outcome status = run(hf_test_folder(), "status");
    assert_int_equal(status.exit, 1);
    assert_non_null(strstr(hf_buf_text(&status.errors), "holdfast: could not read the settings: "));
    assert_non_null(strstr(hf_buf_text(&status.errors), "\"holdfast init\" makes a repository"));
}

HF_TEST(settings_that_cannot_be_read_are_wrong_usage_with_file_and_line)
{
    const char *folder = hf_test_folder();
    char path[256];
    struct hf_error err;
    snprintf(path, sizeof path, "%s/holdfast.yaml", folder);
    hf_assert_ok(hf_file_publish(path, "repository: /r\nsate: /s\n", 24, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
    _cleanup_(outcome_done) struct outcome status = run(folder, "status");
    assert_int_equal(status.exit, 2);
    assert_non_null(strstr(hf_buf_text(&status.errors), "/holdfast.yaml:2: there is no setting \"sate\"\n"));
}

HF_TEST(init_makes_everything_that_a_first_status_needs)
{
    const char *folder = made_appliance();
    static const struct {
        const char *path;
        mode_t mode;
    } files[] = {{"holdfast.yaml", 0600},
                 {"server.key", 0600},
                 {"state/signing.key", 0600},
                 {"state/signing.pub", 0644},
                 {"repo/holdfast-repository", 0400},
                 {"repo/evidence/checkpoint", 0640}};
    for (size_t i = 0; i < HF_LENGTH(files); i++) {
        char path[256];
        struct stat status;
        snprintf(path, sizeof path, "%s/%s", folder, files[i].path);
        if (stat(path, &status) != 0)
            fail_msg("%s is missing", path);
        if ((status.st_mode & 077 & ~files[i].mode) != 0)
            fail_msg("%s has mode %o", path, status.st_mode & 0777);
    }
    _cleanup_(outcome_done) struct outcome status = run(folder, "status --json");
    assert_int_equal(status.exit, 0); // no source, no bad news
    _cleanup_(hf_json_freep) json_t *answer = json_of(&status);
    assert_true(json_is_true(json_object_get(answer, "embedded")));
    end_daemon(folder);
}

HF_TEST(the_recovery_kit_names_what_to_keep)
{
    const char *folder = hf_test_folder();
    _cleanup_(outcome_done) struct outcome made = run(folder, "init --repository repo --state state --name clinic");
    assert_int_equal(made.exit, 0);
    const char *text = hf_buf_text(&made.out);
    assert_non_null(strstr(text, "slot safe     none: there is no passphrase\n"));
    assert_non_null(strstr(text, "/server.key\n"));
    assert_non_null(strstr(text, "       clinic+"));
    assert_non_null(strstr(text, "house vault, entry 3, "));
}

HF_TEST(init_never_touches_a_repository_that_is_there)
{
    const char *folder = made_appliance();
    _cleanup_(outcome_done) struct outcome again = run(folder, "init");
    assert_int_equal(again.exit, 1);
    assert_non_null(strstr(hf_buf_text(&again.errors), "could not make a repository in "));
    _cleanup_(outcome_done) struct outcome other = run(folder, "init --repository elsewhere");
    assert_int_equal(other.exit, 1);
    assert_non_null(strstr(hf_buf_text(&other.errors), "the settings say "));
    _cleanup_(outcome_done) struct outcome status = run(folder, "status");
    assert_int_equal(status.exit, 0);
    end_daemon(folder);
}

HF_TEST(init_refuses_a_state_folder_that_is_in_use)
{
    const char *folder = made_appliance();
    _cleanup_(outcome_done) struct outcome status = run(folder, "status"); // makes the catalog
    assert_int_equal(status.exit, 0);
    _cleanup_(outcome_done) struct outcome other =
        run(folder, "init --settings second.yaml --repository second --state state --passphrase-file passphrase");
    assert_int_equal(other.exit, 1);
    assert_non_null(strstr(hf_buf_text(&other.errors), "is in use for another repository"));
    char path[256];
    snprintf(path, sizeof path, "%s/second", folder);
    assert_int_not_equal(access(path, F_OK), 0);
    end_daemon(folder);
}

HF_TEST(init_without_a_terminal_asks_nobody)
{
    _cleanup_(outcome_done) struct outcome made = run(hf_test_folder(), "init --state state");
    assert_int_equal(made.exit, 2);
    assert_non_null(strstr(hf_buf_text(&made.errors), "\"--repository\" is missing"));
}

HF_TEST(sources_are_added_shown_and_removed)
{
    const char *folder = made_appliance();
    _cleanup_(outcome_done) struct outcome added =
        run(folder, "source add clinic --engine postgresql --connection host=/nowhere --backup-every 6h");
    _cleanup_(outcome_done) struct outcome list = run(folder, "source list"), status = run(folder, "status");
    _cleanup_(outcome_done) struct outcome wrong =
        run(folder, "source add lab --engine postgresql --connection password=x");
    _cleanup_(outcome_done) struct outcome removed = run(folder, "source remove clinic");
    _cleanup_(outcome_done) struct outcome gone = run(folder, "source remove clinic --json");
    assert_int_equal(added.exit, 0);
    assert_string_equal(hf_buf_text(&list.out),
                        "SOURCE  ENGINE      FROM     BACKUP EVERY  VERIFY EVERY  CONNECTION\n"
                        "clinic  postgresql  command  6h            off           host=/nowhere\n");
    assert_int_equal(status.exit, 3); // nothing proves it
    assert_int_equal(wrong.exit, 2);
    assert_non_null(strstr(hf_buf_text(&wrong.errors), "\"connection\" holds a password"));
    assert_int_equal(removed.exit, 0);
    assert_int_equal(gone.exit, 1);
    _cleanup_(hf_json_freep) json_t *error = json_of(&gone);
    assert_string_equal(json_string_value(json_object_get(error, "kind")), "not_found");
    end_daemon(folder);
}

HF_TEST(an_embedded_daemon_serves_several_commands_and_leaves_when_idle)
{
    const char *folder = made_appliance();
    char place[256];
    bool held = true;
    struct hf_lock_holder holder;
    struct hf_error err;
    _cleanup_(outcome_done) struct outcome first = run(folder, "status --json"), second = run(folder, "job list");
    assert_int_equal(first.exit + second.exit, 0);
    snprintf(place, sizeof place, "%s/state", folder);
    hf_assert_ok(hf_lock_look(place, &held, &holder, &err), &err);
    assert_true(held && holder.embedded);
    for (int waited = 0; held && waited < 800; waited++) {
        usleep(10000);
        hf_assert_ok(hf_lock_look(place, &held, &holder, &err), &err);
    }
    assert_false(held);
    assert_int_equal(access(holder.socket, F_OK), -1);
}

HF_TEST(many_commands_at_once_share_one_daemon)
{
    const char *folder = made_appliance();
    pid_t children[8];
    for (size_t i = 0; i < HF_LENGTH(children); i++) {
        if ((children[i] = fork()) == 0) {
            struct outcome outcome = run(folder, "status");
            _exit(outcome.exit);
        }
    }
    for (size_t i = 0; i < HF_LENGTH(children); i++) {
        int status;
        assert_int_equal(waitpid(children[i], &status, 0), children[i]);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
    }
    end_daemon(folder);
}

HF_TEST(a_catalog_rebuild_reports_that_nothing_differs)
{
    const char *folder = made_appliance();
    _cleanup_(outcome_done) struct outcome rebuilt = run(folder, "catalog rebuild");
    assert_int_equal(rebuilt.exit, 0);
    assert_string_equal(hf_buf_text(&rebuilt.out), "Made the catalog again from 4 log entries of 1 vaults.\n"
                                                   "It is equal to the one in use, row for row.\n");
    end_daemon(folder);
}

HF_TEST(everything_works_as_an_ordinary_user_too)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can become somebody else; the other tests ran as an ordinary user already");
    const char *folder = hf_test_folder();
    assert_int_equal(chown(folder, 65534, 65534), 0);
    pid_t child = fork();
    if (child == 0) {
        if (setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0)
            _exit(9);
        struct outcome made = run(folder, "init --repository repo --state state --name own");
        struct outcome status = run(folder, "status");
        fprintf(stderr, "%s%s", hf_buf_text(&made.errors), hf_buf_text(&status.errors));
        end_daemon(folder);
        _exit(made.exit * 10 + status.exit);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_true(WIFEXITED(ended));
    assert_int_equal(WEXITSTATUS(ended), 0);
}
