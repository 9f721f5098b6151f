#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/secret.h"
#include "base/time.h"
#include "server/cli/client.h"
#include "server/cli/command.h"
#include "server/cli/progress.h"
#include "server/cli/table.h"
#include "server/cli/wal_get.h"

#define OUTPUT_MOST (64 * HF_MIB)

static volatile sig_atomic_t interrupts; // how often Ctrl-C was pressed

static void cli_done(struct hf_cli *cli);
static bool wants_colour(void);
static void set_signals(void);
static void on_interrupt(int signal);
static bool run(struct hf_cli *cli, struct hf_buf *out, struct hf_error *err);
static void hear_event(void *context, const json_t *event);
static bool wants_end(void *context);
static enum hf_exit report_failure(struct hf_cli *cli, const struct hf_error *err);
static void print_error(const struct hf_error *err);
static enum hf_exit finish_output(const struct hf_buf *out, enum hf_exit code);

int
hf_cli_main(int argc, char **argv)
{
    _cleanup_(cli_done) struct hf_cli cli = {0};
    _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(OUTPUT_MOST);
    const bool meant = hf_wal_get_is_meant(argc, argv);
    struct hf_error err;

    hf_log_setup("holdfast", HF_LOG_WARNING);
    set_signals();
    if (!hf_secrets_setup(&err) || !hf_cli_parse(argc, argv, &cli, &err)) {
        print_error(&err);
        return meant ? HF_WAL_GET_FAILED : hf_exit_of(&err);
    }
    cli.colour = wants_colour();
    bool done = cli.help ? hf_cli_help(&cli, &out, &err) : run(&cli, &out, &err);
    const enum hf_exit code = done ? finish_output(&out, cli.exit) : report_failure(&cli, &err);
    if (!meant || cli.help)
        return code;
    // For a server in recovery 1 means one thing only.
    return done && code == cli.exit && (code == HF_EXIT_DONE || code == HF_WAL_GET_BEYOND) ? (int)code
                                                                                           : HF_WAL_GET_FAILED;
}

bool
hf_cli_ask(struct hf_cli *cli, const char *request, const json_t *arguments, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    struct hf_progress_line line;
    if (!hf_cli_load_settings(cli, &settings, err))
        return false;
    hf_progress_begin(&line, stderr, isatty(STDERR_FILENO) == 1, cli->json);
    const struct hf_client_watch watch = {.context = &line, .event = hear_event, .wants_end = wants_end};
    bool answered = hf_client_ask(settings, request, arguments, cli->detach, &watch, ret, &cli->exit, err);
    hf_progress_end(&line);
    return answered;
}

static void
cli_done(struct hf_cli *cli)
{
    hf_json_freep(&cli->arguments);
}

/* https://no-color.org: any value but the empty one. */
static bool
wants_colour(void)
{
    const char *none = getenv("NO_COLOR"), *terminal = getenv("TERM");
    if (none != NULL && none[0] != '\0')
        return false;
    return isatty(STDOUT_FILENO) && terminal != NULL && strcmp(terminal, "dumb") != 0;
}

static void
set_signals(void)
{
    const struct sigaction interrupt = {.sa_handler = on_interrupt}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &interrupt, NULL);
    sigaction(SIGTERM, &interrupt, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* Once: the job is cancelled, and we wait for its end.  Twice: we go; the daemon notices. */
static void
on_interrupt(int signal)
{
    if (interrupts++ > 0)
        _exit(128 + signal);
}

static bool
run(struct hf_cli *cli, struct hf_buf *out, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *result = NULL;
    bool done = cli->command->request == NULL ? cli->command->local(cli, &result, err)
                                              : hf_cli_ask(cli, cli->command->request, cli->arguments, &result, err);
    if (!done)
        return false;
    if (cli->json)
        return hf_json_canonical(result, out, err) && hf_buf_add_text(out, "\n", err);
    return cli->command->show(cli, result, out, err);
}

static void
hear_event(void *context, const json_t *event)
{
    hf_progress_event(context, event, hf_monotonic_ns());
}

static bool
wants_end(void *context)
{
    (void)context;
    return interrupts > 0;
}

/* With --json programs get the error on stdout as well. */
static enum hf_exit
report_failure(struct hf_cli *cli, const struct hf_error *err)
{
    enum hf_exit code = cli->exit == HF_EXIT_BAD_NEWS ? HF_EXIT_BAD_NEWS : hf_exit_of(err);
    print_error(err);
    if (cli->json) {
        _cleanup_(hf_buf_done) struct hf_buf out = HF_BUF_INIT(OUTPUT_MOST);
        _cleanup_(hf_json_freep) json_t *event = hf_event_error(err);
        if (event != NULL && hf_json_canonical(event, &out, NULL) && hf_buf_add_text(&out, "\n", NULL))
            return finish_output(&out, code);
    }
    return code;
}

static void
print_error(const struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB);
    if (hf_buf_add_text(&text, "holdfast: ", NULL) && hf_add_plain(&text, err->message, NULL) &&
        hf_buf_add_text(&text, "\n", NULL) &&
        (err->hint[0] == '\0' || (hf_add_plain(&text, err->hint, NULL) && hf_buf_add_text(&text, "\n", NULL))))
        fputs(hf_buf_text(&text), stderr);
}

/* An answer that did not arrive is not given. */
static enum hf_exit
finish_output(const struct hf_buf *out, enum hf_exit code)
{
    if (fwrite(hf_buf_text(out), 1, out->length, stdout) == out->length && fflush(stdout) == 0)
        return code;
    fprintf(stderr, "holdfast: could not write the answer: %s\n", strerror(errno));
    return HF_EXIT_FAILED;
}
