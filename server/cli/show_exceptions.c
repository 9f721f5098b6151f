#include <string.h>

#include "server/cli/show.h"
#include "server/cli/table.h"

#define GREEN      "32"
#define RED        "31"
#define WORDS_MOST HF_KIB

static const char *text_of(const json_t *object, const char *member);
static bool add_checks(const json_t *row, struct hf_buf *out, struct hf_error *err);

/* Accepted, or withdrawn: what it says of itself tells which. */
bool
hf_show_exception(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const bool withdrawn = json_is_string(json_object_get(result, "withdrawn_at"));
    (void)cli;
    if (withdrawn)
        return hf_buf_printf(out, err, "Exception %s of backup %s is withdrawn.\n", text_of(result, "exception"),
                             text_of(result, "backup"));
    return hf_buf_printf(out, err, "Exception %s: what kept backup %s of source %s from passing (",
                         text_of(result, "exception"), text_of(result, "backup"), text_of(result, "source")) &&
           add_checks(result, out, err) && hf_buf_add_text(out, ") is accepted by ", err) &&
           hf_add_plain(out, text_of(result, "person"), err) &&
           hf_buf_printf(out, err, " until %s.\nThe backup stays what it is; the ledger has your name and reason.\n",
                         text_of(result, "until"));
}

bool
hf_show_exceptions(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"EXCEPTION", "SOURCE", "BACKUP", "CHECKS", "STATE",
                                           "UNTIL",     "PERSON", "REASON", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *list = json_object_get(result, "exceptions");
    size_t index;
    if (json_array_size(list) == 0)
        return hf_buf_add_text(out, "No exception was ever accepted.\n", err);
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(list, index, row)
    {
        _cleanup_(hf_buf_done) struct hf_buf checks = HF_BUF_INIT(WORDS_MOST);
        const char *state = text_of(row, "state");
        if (!add_checks(row, &checks, err) || !hf_table_add(&table, text_of(row, "exception"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "source"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "backup"), NULL, err) ||
            !hf_table_add(&table, hf_buf_text(&checks), NULL, err) ||
            !hf_table_add(&table, state, strcmp(state, "in force") == 0 ? GREEN : RED, err) ||
            !hf_table_add(&table, text_of(row, "until"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "person"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "reason"), NULL, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_accepted(const json_t *sources, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    size_t index;
    json_array_foreach(sources, index, row)
    {
        const json_t *accepted = json_object_get(row, "accepted");
        if (json_is_object(accepted) &&
            (!hf_buf_printf(out, err, "\n%s is not proven; ", text_of(row, "name")) ||
             !hf_add_plain(out, text_of(accepted, "person"), err) ||
             !hf_buf_printf(out, err, " accepts that until %s: ", text_of(accepted, "until")) ||
             !hf_add_plain(out, text_of(accepted, "reason"), err) || !hf_buf_add_text(out, "\n", err)))
            return false;
    }
    return true;
}

/* As many as the buffer takes: an attempt that was cut off leaves all of them open. */
static bool
add_checks(const json_t *row, struct hf_buf *out, struct hf_error *err)
{
    const json_t *check, *checks = json_object_get(row, "checks");
    size_t index;
    json_array_foreach(checks, index, check)
    {
        if (index == 3)
            return hf_buf_printf(out, err, " and %zu more", json_array_size(checks) - index);
        if ((index > 0 && !hf_buf_add_text(out, ", ", err)) || !hf_add_plain(out, json_string_value(check), err))
            return false;
    }
    return true;
}

static const char *
text_of(const json_t *object, const char *member)
{
    const char *text = json_string_value(json_object_get(object, member));
    return text == NULL ? "-" : text;
}
