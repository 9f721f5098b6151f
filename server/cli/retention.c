#include "server/cli/retention.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/cli/ask.h"
#include "server/cli/show.h"

#define PLAN_MOST (16 * HF_MIB)

static bool apply_one(struct hf_cli *cli, const char *source, const json_t *plan, json_t *applied,
                      struct hf_error *err);
static bool apply_shown(struct hf_cli *cli, const json_t *plan, json_t *applied, struct hf_error *err);
static bool confirm(struct hf_cli *cli, const json_t *plan, bool *ret_yes, struct hf_error *err);

bool
hf_cli_retention_apply(struct hf_cli *cli, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *asked = json_object(), *plans = NULL, *applied = json_array();
    const json_t *source = json_object_get(cli->arguments, "source"), *plan = json_object_get(cli->arguments, "plan");
    const json_t *replaced = json_object_get(cli->arguments, "replaced"), *row;
    size_t index;
    if (asked == NULL || applied == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the request");
    if ((plan != NULL || json_object_get(cli->arguments, "removing") != NULL) && source == NULL)
        return hf_fail(err, HF_ERR_USAGE, "--plan and --removing are about one source: name it");
    if (plan != NULL) {
        if (!apply_one(cli, json_string_value(source), plan, applied, err))
            return false;
    } else {
        if ((source != NULL && !hf_json_set(asked, "source", json_deep_copy(source), err)) ||
            (replaced != NULL && !hf_json_set(asked, "replaced", json_deep_copy(replaced), err)) ||
            !hf_cli_ask(cli, "retention plan", asked, &plans, err))
            return false;
        json_array_foreach(json_object_get(plans, "plans"), index, row)
        {
            if (!apply_shown(cli, row, applied, err))
                return false;
        }
    }
    *ret = json_pack("{s:O}", "applied", applied);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static bool
apply_shown(struct hf_cli *cli, const json_t *plan, json_t *applied, struct hf_error *err)
{
    const char *source = json_string_value(json_object_get(plan, "source"));
    bool yes = json_is_true(json_object_get(cli->arguments, "yes"));
    if (json_integer_value(json_object_get(plan, "go")) == 0 &&
        json_integer_value(json_object_get(json_object_get(plan, "stream"), "go")) == 0) {
        json_t *nothing = json_pack("{s:s?, s:O?, s:[], s:O?}", "source", source, "plan", json_object_get(plan, "plan"),
                                    "removed", "stay", json_object_get(plan, "stay"));
        return json_array_append_new(applied, nothing) == 0 ||
               hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    }
    if (!yes && !confirm(cli, plan, &yes, err))
        return false;
    if (!yes)
        return hf_fail(err, HF_ERR_CANCELLED, "nothing of source \"%s\" was removed", source);
    return apply_one(cli, source, json_object_get(plan, "plan"), applied, err);
}

static bool
confirm(struct hf_cli *cli, const json_t *plan, bool *ret_yes, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf shown = HF_BUF_INIT(PLAN_MOST);
    _cleanup_(hf_json_freep) json_t *one = json_pack("{s:[O]}", "plans", plan);
    _cleanup_(hf_freep) char *line = NULL;
    char question[192];
    const char *source = json_string_value(json_object_get(plan, "source"));
    if (cli->json || isatty(STDIN_FILENO) != 1) {
        hf_fail(err, HF_ERR_USAGE, "nobody is there to be asked whether backups of source \"%s\" may go", source);
        return hf_fail_hint(err,
                            "Look at \"holdfast retention plan %s\" and give the plan's name with --plan, or say "
                            "--yes.",
                            source);
    }
    if (one == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the plan");
    if (!hf_show_retention_plan(cli, one, &shown, err))
        return false;
    fputs(hf_buf_text(&shown), stderr);
    const long long stretches = json_integer_value(json_object_get(json_object_get(plan, "stream"), "go"));
    char stream[64] = "";
    if (stretches > 0)
        snprintf(stream, sizeof stream, " and %lld parts of the stream", stretches);
    snprintf(question, sizeof question, "\nRemove %lld backups%s of source \"%.63s\"? Type \"yes\"",
             (long long)json_integer_value(json_object_get(plan, "go")), stream, source);
    if (!hf_ask_line(question, "--yes", &line, err))
        return false;
    *ret_yes = strcmp(line, "yes") == 0;
    return true;
}

static bool
apply_one(struct hf_cli *cli, const char *source, const json_t *plan, json_t *applied, struct hf_error *err)
{
    static const char *const passed_on[] = {"removing", "replaced", "clock_is_right"};
    _cleanup_(hf_json_freep) json_t *asked = json_pack("{s:s, s:O}", "source", source, "plan", plan);
    json_t *answer;
    if (asked == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the request");
    for (size_t i = 0; i < HF_LENGTH(passed_on); i++) {
        json_t *value = json_object_get(cli->arguments, passed_on[i]);
        if (value != NULL && !hf_json_set(asked, passed_on[i], json_incref(value), err))
            return false;
    }
    if (!hf_cli_ask(cli, "retention apply", asked, &answer, err))
        return false;
    return json_array_append_new(applied, answer) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}
