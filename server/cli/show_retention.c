#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/cli/show.h"
#include "server/cli/table.h"

#define GREEN      "32"
#define RED        "31"
#define WHEN_BYTES 32

static bool show_plan(struct hf_cli *cli, const json_t *plan, struct hf_buf *out, struct hf_error *err);
static bool show_stream(struct hf_cli *cli, const json_t *stream, struct hf_buf *out, struct hf_error *err);
static bool show_decisions(struct hf_cli *cli, const json_t *plan, struct hf_buf *out, struct hf_error *err);
static const char *text_of(const json_t *object, const char *member);
static long long number_of(const json_t *object, const char *member);
static const char *when_of(const json_t *object, const char *member, char text[static WHEN_BYTES]);

bool
hf_show_retention_plan(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *plan;
    size_t index;
    if (json_array_size(json_object_get(result, "plans")) == 0)
        return hf_buf_add_text(out, "There are no sources.\n", err);
    json_array_foreach(json_object_get(result, "plans"), index, plan)
    {
        if ((index > 0 && !hf_buf_add_text(out, "\n", err)) || !show_plan(cli, plan, out, err))
            return false;
    }
    return true;
}

bool
hf_show_retention_apply(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *applied, *removed;
    size_t index, at;
    long long sum = 0;
    (void)cli;
    json_array_foreach(json_object_get(result, "applied"), index, applied)
    {
        const json_t *rows = json_object_get(applied, "removed");
        sum += (long long)json_array_size(rows);
        const long long stretches = number_of(applied, "stretches_removed");
        sum += stretches;
        if (!hf_buf_printf(out, err, "%s: %zu removed, %lld stay\n", text_of(applied, "source"), json_array_size(rows),
                           number_of(applied, "stay")))
            return false;
        if (stretches > 0 && !hf_buf_printf(out, err, "  %lld parts of the stream\n", stretches))
            return false;
        json_array_foreach(rows, at, removed)
        {
            if (!hf_buf_printf(out, err, "  %s  %s\n", text_of(removed, "backup"), text_of(removed, "reason")))
                return false;
        }
    }
    return sum == 0 || hf_buf_add_text(out, "\nTheir space is freed by \"holdfast repo gc\".\n", err);
}

bool
hf_show_hold_added(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char when[WHEN_BYTES];
    const char *until = when_of(result, "until", when);
    (void)cli;
    return hf_buf_printf(out, err, "Backup %s of source %s is held by ", text_of(result, "backup"),
                         text_of(result, "source")) &&
           hf_add_plain(out, text_of(result, "person"), err) &&
           hf_buf_printf(out, err, "%s%s.\n", until == NULL ? " until it is released" : " until ",
                         until == NULL ? "" : until);
}

bool
hf_show_hold_released(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    const long long left = number_of(result, "left");
    if (left > 0)
        return hf_buf_printf(out, err, "A hold on backup %s of source %s has ended; %lld still %s it.\n",
                             text_of(result, "backup"), text_of(result, "source"), left, left == 1 ? "holds" : "hold");
    return hf_buf_printf(out, err, "Backup %s of source %s is not held any more.\n", text_of(result, "backup"),
                         text_of(result, "source"));
}

bool
hf_show_holds(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"NO",    "BACKUP", "SOURCE", "KIND", "SINCE",
                                           "UNTIL", "PERSON", "REASON", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *holds = json_object_get(result, "holds");
    char since[WHEN_BYTES], until[WHEN_BYTES];
    size_t index;
    if (json_array_size(holds) == 0)
        return hf_buf_add_text(out, "No backup is held or locked.\n", err);
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(holds, index, row)
    {
        const char *end = when_of(row, "until", until);
        char number[24];
        snprintf(number, sizeof number, "%lld", number_of(row, "number"));
        if (!hf_table_add(&table, number, NULL, err) || !hf_table_add(&table, text_of(row, "backup"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "source"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "kind"), NULL, err) ||
            !hf_table_add(&table, when_of(row, "since", since), NULL, err) ||
            !hf_table_add(&table, end == NULL ? "released" : end, NULL, err) ||
            !hf_table_add(&table, text_of(row, "person"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "reason"), NULL, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_lock(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char when[WHEN_BYTES];
    const char *change = text_of(result, "change"), *until = when_of(result, "until", when);
    (void)cli;
    if (strcmp(change, "-") == 0) // --detach
        return hf_show_backup(cli, result, out, err);
    if (strcmp(change, "too_little") == 0)
        return hf_buf_printf(
            out, err,
            "Nothing was changed: backup %s is locked until %s already, and what is asked for adds less "
            "than a day or less than a tenth of what is left.\n",
            text_of(result, "backup"), until);
    return hf_buf_printf(out, err,
                         "Backup %s of source %s is locked until %s, with the %lld packs it needs.\n"
                         "The lock is %s: Holdfast keeps it; who owns the disk can still delete.\n",
                         text_of(result, "backup"), text_of(result, "source"), until, number_of(result, "packs"),
                         text_of(result, "storage"));
}

bool
hf_show_catalog_check(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *damage = json_string_value(json_object_get(result, "damaged"));
    const long long differences = number_of(result, "differences");
    if (json_object_get(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    if (damage != NULL)
        return hf_add_plain(out, damage, err) &&
               hf_buf_add_text(out, "\nIt was set aside and made again from the repository.\n", err);
    if (!hf_buf_printf(out, err, "Made a second catalog from %lld log entries of %lld vaults.\n",
                       number_of(result, "entries"), number_of(result, "vaults")))
        return false;
    if (differences == 0)
        return hf_buf_add_text(out, "The one in use is equal to it, row for row.\n", err);
    return hf_buf_printf(out, err, "The one in use differs in %lld rows.  One of them:\n  ", differences) &&
           hf_add_plain(out, text_of(result, "first"), err) &&
           hf_buf_add_text(out, "\n\"holdfast catalog rebuild\" makes it again.\n", err);
}

bool
hf_show_catalog_acknowledged(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_add_text(out, "It is not told any more.  The damaged catalog is still \"", err) &&
           hf_add_plain(out, text_of(result, "name"), err) && hf_buf_add_text(out, "\".\n", err);
}

bool
hf_show_alarms(const json_t *status, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    size_t index;
    json_array_foreach(json_object_get(status, "alarms"), index, row)
    {
        const char *source = json_string_value(json_object_get(row, "source"));
        if (!hf_buf_printf(out, err, "\nAlarm, %s%s%s: ", text_of(row, "what"), source == NULL ? "" : " of source ",
                           source == NULL ? "" : source) ||
            !hf_add_plain(out, text_of(row, "message"), err) || !hf_buf_add_text(out, "\n  ", err) ||
            !hf_add_plain(out, text_of(row, "remedy"), err) || !hf_buf_add_text(out, "\n", err))
            return false;
    }
    bool first = true;
    json_array_foreach(json_object_get(status, "sources"), index, row)
    {
        const char *remedy = json_string_value(json_object_get(row, "remedy"));
        if (remedy == NULL)
            continue;
        if (!hf_buf_printf(out, err, "%s  %s is %s: ", first ? "\nTo mend it:\n" : "", text_of(row, "name"),
                           text_of(row, "health")) ||
            !hf_add_plain(out, remedy, err) || !hf_buf_add_text(out, "\n", err))
            return false;
        first = false;
    }
    json_array_foreach(json_object_get(status, "damages"), index, row)
    {
        const char *remedy = json_string_value(json_object_get(row, "remedy"));
        if (remedy == NULL)
            continue;
        if (!hf_buf_printf(out, err, "%s  backup %s is damaged: ", first ? "\nTo mend it:\n" : "",
                           text_of(row, "backup")) ||
            !hf_add_plain(out, remedy, err) || !hf_buf_add_text(out, "\n", err))
            return false;
        first = false;
    }
    return true;
}

static bool
show_plan(struct hf_cli *cli, const json_t *plan, struct hf_buf *out, struct hf_error *err)
{
    const char *source = text_of(plan, "source"), *refused = json_string_value(json_object_get(plan, "refused"));
    const long long go = number_of(plan, "go");
    const bool unusual = json_is_true(json_object_get(plan, "unusual"));
    char removing[48] = "";
    if (!hf_buf_printf(out, err, "%s: %lld stay, %lld go\n", source, number_of(plan, "stay"), go) ||
        !show_decisions(cli, plan, out, err) || !show_stream(cli, json_object_get(plan, "stream"), out, err))
        return false;
    if (go == 0 && number_of(json_object_get(plan, "stream"), "go") == 0)
        return true;
    if (unusual)
        snprintf(removing, sizeof removing, " --removing %lld", go);
    if (!hf_buf_printf(out, err, "\nTo remove what goes%s:\n  holdfast retention apply %s --plan %s%s%s\n",
                       unusual ? ", which is more than is usual" : "", source, text_of(plan, "plan"), removing,
                       json_is_true(json_object_get(json_object_get(plan, "rules"), "replaced")) ? " --replaced" : ""))
        return false;
    return refused == NULL || (hf_buf_add_text(out, "It would be refused now: ", err) &&
                               hf_add_plain(out, refused, err) && hf_buf_add_text(out, "\n", err));
}

/* A line for stretches that follow each other and are decided about alike. */
static bool
show_stream(struct hf_cli *cli, const json_t *stream, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"STREAM FROM", "TO", "STRETCHES", "STORED", "PLAN", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row;
    char first[WHEN_BYTES], last[WHEN_BYTES], number[32], stored[HF_TIME_TEXT_BYTES];
    size_t index;
    if (json_array_size(json_object_get(stream, "runs")) == 0)
        return true;
    if (!hf_buf_add_text(out, "\n", err) || !hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(json_object_get(stream, "runs"), index, row)
    {
        snprintf(number, sizeof number, "%lld", number_of(row, "stretches"));
        if (!hf_table_add(&table, when_of(row, "first_at", first), NULL, err) ||
            !hf_table_add(&table, when_of(row, "last_at", last), NULL, err) ||
            !hf_table_add(&table, number, NULL, err) ||
            !hf_table_add(&table, hf_bytes_format((uint64_t)number_of(row, "stored_bytes"), stored), NULL, err) ||
            !hf_table_add(&table, text_of(row, "sentence"), json_is_true(json_object_get(row, "keep")) ? GREEN : RED,
                          err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

static bool
show_decisions(struct hf_cli *cli, const json_t *plan, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"BACKUP", "TAKEN", "STATE", "PLAN", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row;
    char taken[WHEN_BYTES];
    size_t index;
    if (json_array_size(json_object_get(plan, "backups")) == 0)
        return hf_buf_add_text(out, "There are no backups.\n", err);
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(json_object_get(plan, "backups"), index, row)
    {
        if (!hf_table_add(&table, text_of(row, "backup"), NULL, err) ||
            !hf_table_add(&table, when_of(row, "taken_at", taken), NULL, err) ||
            !hf_table_add(&table, text_of(row, "state"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "sentence"), json_is_true(json_object_get(row, "keep")) ? GREEN : RED,
                          err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "-" : text;
}

static long long
number_of(const json_t *object, const char *member)
{
    return (long long)json_integer_value(json_object_get(object, member));
}

/* "2026-11-22 14:03:07Z"; NULL when there is none. */
static const char *
when_of(const json_t *object, const char *member, char text[static WHEN_BYTES])
{
    const char *moment = json_string_value(json_object_get(object, member));
    if (moment == NULL || strlen(moment) < 19)
        return NULL;
    snprintf(text, WHEN_BYTES, "%.10s %.8sZ", moment, moment + 11);
    return text;
}
