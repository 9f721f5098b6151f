#include "server/cli/local.h"

#include <string.h>

/* The words that mean something for one of the three only. */
static const struct only_for {
    const char *member, *option, *request;
} only_for[] = {
    {"minutes", "--minutes", "inspect"},           {"table", "--table", "dump"},      {"owner", "--owner", "restore"},
    {"allow_damage", "--allow-damage", "restore"}, {"action", "--action", "restore"}, {"delta", "--delta", "restore"},
    {"tablespaces", "--tablespace", "restore"},
};

bool
hf_cli_restore(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    const bool inspect = json_is_true(json_object_get(cli->arguments, "inspect"));
    const bool dump = json_object_get(cli->arguments, "database") != NULL;
    const char *request = inspect ? "inspect" : dump ? "dump" : "restore";
    if (inspect && (dump || json_object_get(cli->arguments, "to") != NULL))
        return hf_fail(err, HF_ERR_USAGE, "\"--inspect\" writes nothing: it goes without --to and --database");
    if (!inspect && json_object_get(cli->arguments, "to") == NULL) {
        hf_fail(err, HF_ERR_USAGE, "\"--to\" is missing");
        return hf_fail_hint(err, "Name a folder; or a file, with --database; or look first: --inspect.");
    }
    for (size_t i = 0; i < HF_LENGTH(only_for); i++)
        if (json_object_get(cli->arguments, only_for[i].member) != NULL && strcmp(only_for[i].request, request) != 0)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" does not go with this kind of restore", only_for[i].option);
    return hf_cli_ask(cli, request, cli->arguments, ret, err);
}
