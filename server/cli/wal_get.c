#include "server/cli/wal_get.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "server/cli/client.h"

#define PATIENCE_S 60
#define AGAIN_MS   1000 // between two attempts

static bool ask(struct hf_cli *cli, const struct hf_settings *settings, json_t **ret, struct hf_error *err);
static bool is_worth_trying(const struct hf_error *err);

bool
hf_wal_get_is_meant(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], HF_WAL_GET_WORDS) == 0)
            return true;
    return false;
}

/* A server that is away for a moment, or a daemon that is restarted, must not end a standby. */
bool
hf_cli_wal_get(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_settings_freep) struct hf_settings *settings = NULL;
    const json_t *patience = json_object_get(cli->arguments, "patience");
    const uint64_t patience_s = patience == NULL ? PATIENCE_S : (uint64_t)json_integer_value(patience);
    const uint64_t since = hf_monotonic_ns();
    (void)signal(SIGTERM, SIG_DFL);
    if (patience != NULL)
        json_object_del(cli->arguments, "patience");
    if (!hf_cli_load_settings(cli, &settings, err))
        return false;
    while (!ask(cli, settings, ret, err)) {
        if (!is_worth_trying(err) || hf_monotonic_ns() - since >= patience_s * UINT64_C(1000000000))
            return false;
        usleep(AGAIN_MS * 1000);
    }
    const json_t *found = json_object_get(*ret, "found");
    if (!json_is_boolean(found))
        return hf_fail(err, HF_ERR_CORRUPT, "the answer does not say whether the file was found");
    if (json_is_false(found))
        cli->exit = HF_WAL_GET_BEYOND;
    return true;
}

/* Who serves the log now; else the daemon, which starts somebody who does. */
static bool
ask(struct hf_cli *cli, const struct hf_settings *settings, json_t **ret, struct hf_error *err)
{
    bool answered;
    return hf_client_ask_log(settings, cli->arguments, &answered, ret, err) &&
           (answered || hf_cli_ask(cli, "log get", cli->arguments, ret, err));
}

static bool
is_worth_trying(const struct hf_error *err)
{
    return err->kind == HF_ERR_UNAVAILABLE || err->kind == HF_ERR_CONFLICT || err->kind == HF_ERR_NO_MEMORY;
}
