#include "server/cli/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"
#include "server/cli/table.h"

#define GREEN  "32"
#define YELLOW "33"
#define RED    "31"

#define LABEL_WIDTH 14
#define TEXT_BYTES  64

/* A word of ours, and how it is coloured. */
static const struct {
    const char *word, *colour;
} colours[] = {
    {"proven", GREEN}, {"passed", GREEN},     {"ok", GREEN},         {"finished", GREEN}, {"unproven", YELLOW},
    {"none", YELLOW},  {"warning", YELLOW},   {"inconclusive", RED}, {"failed", RED},     {"damaged", RED},
    {"lost", RED},     {"cancelled", YELLOW}, {"shredded", YELLOW},  {"not_run", YELLOW}, {"not_determinable", YELLOW},
};

static const char *text_of(const json_t *object, const char *member);
static const char *word_of(const json_t *object, const char *member);
static const char *or_dash(const char *text);
static const char *time_of(const json_t *object, const char *member, char text[static TEXT_BYTES]);
static const char *bytes_of(const json_t *object, const char *member, char text[static TEXT_BYTES]);
static const char *count_of(const json_t *object, const char *member, char text[static TEXT_BYTES]);
static const char *duration_of(const json_t *object, const char *member, char text[static TEXT_BYTES]);
static const char *colour_of(const char *word);
static bool add_word(struct hf_cli *cli, const char *word, struct hf_buf *out, struct hf_error *err);
static bool add_line(struct hf_buf *out, const char *label, const char *value, struct hf_error *err);
static bool show_check_row(struct hf_cli *cli, const json_t *check, struct hf_buf *out, struct hf_error *err);
static bool add_indented(struct hf_buf *out, const char *text, struct hf_error *err);
static bool add_backup_row(struct hf_table *table, const json_t *backup, struct hf_error *err);
static bool add_status_row(struct hf_table *table, const json_t *source, struct hf_error *err);
static bool show_next(const json_t *result, struct hf_buf *out, struct hf_error *err);
static bool show_part(const json_t *result, struct hf_buf *out, struct hf_error *err);
static bool show_moment(const json_t *recovery, struct hf_buf *out, struct hf_error *err);
static bool show_streams(struct hf_cli *cli, const json_t *sources, struct hf_buf *out, struct hf_error *err);
static bool list_windows(const json_t *windows, struct hf_buf *out, struct hf_error *err);
static bool show_semi_sync(const json_t *source, struct hf_buf *out, struct hf_error *err);
static bool show_warnings(const json_t *result, struct hf_buf *out, struct hf_error *err);
static bool show_damage_rows(const json_t *damages, struct hf_buf *out, struct hf_error *err);

bool
hf_show_nothing(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli, (void)result, (void)out, (void)err;
    return true;
}

bool
hf_show_any(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *name;
    json_t *value;
    (void)cli;
    json_object_foreach((json_t *)result, name, value)
    {
        _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_WIRE_EVENT_MOST);
        if (!json_is_string(value) && !hf_json_canonical(value, &text, err))
            return false;
        if (!add_line(out, name, json_is_string(value) ? json_string_value(value) : hf_buf_text(&text), err))
            return false;
    }
    return true;
}

bool
hf_show_init(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *key_file = text_of(result, "key_file"), *safe = text_of(result, "safe_slot");
    (void)cli;
    if (!add_line(out, "repository", text_of(result, "place"), err) ||
        !add_line(out, "id", text_of(result, "repository"), err) ||
        !add_line(out, "appliance", text_of(result, "name"), err) ||
        !add_line(out, "id", text_of(result, "appliance"), err) || !add_line(out, "key file", key_file, err) ||
        !add_line(out, "slot server", text_of(result, "server_slot"), err) ||
        !add_line(out, "slot safe", safe == NULL ? "none: there is no passphrase" : safe, err) ||
        !add_line(out, "log", text_of(result, "log_head"), err) ||
        !add_line(out, "settings", text_of(result, "settings"), err) ||
        !hf_buf_printf(out, err,
                       "\nThe recovery kit: keep this outside of this machine, on paper or in a safe.\n\n"
                       "  1. The key.  Whoever has it can read every backup; without it nobody can.\n"))
        return false;
    if (safe != NULL &&
        !hf_buf_printf(out, err, "     The passphrase of the slot \"safe\", written down; or a copy of\n"))
        return false;
    if (!hf_buf_printf(out, err,
                       "     %s\n"
                       "     It must not lie beside the repository alone: a lost disk would take both.\n\n"
                       "  2. The public key, with which anyone can check the evidence:\n\n       ",
                       key_file) ||
        !hf_add_plain(out, word_of(result, "public_key"), err) ||
        !hf_buf_printf(
            out, err,
            "\n\n  3. The repository's id and the line \"log\" above: they tell an older copy from this one.\n\n"
            "Next:\n"
            "  holdfast source add NAME --engine postgresql --connection \"host=... user=...\"\n"
            "  holdfast doctor\n"
            "  holdfast backup NAME\n"))
        return false;
    return true;
}

bool
hf_show_source_added(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    const char *name = word_of(result, "name");
    return hf_buf_printf(out, err,
                         "Source \"%s\" is recorded.  Next:\n"
                         "  holdfast doctor %s   looks whether a backup can be taken\n"
                         "  holdfast backup %s   takes one\n",
                         name, name, name);
}

bool
hf_show_source_removed(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "Source \"%s\" is removed.  Its backups stay.\n", word_of(result, "name")) &&
           (!json_is_true(json_object_get(result, "releases_slot")) ||
            hf_buf_printf(out, err, "Its replication slot is being dropped: \"holdfast job list\" says when it is.\n"));
}

bool
hf_show_sources(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"SOURCE",       "ENGINE",     "FROM", "BACKUP EVERY",
                                           "VERIFY EVERY", "CONNECTION", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *sources = json_object_get(result, "sources");
    size_t index;
    if (json_array_size(sources) == 0)
        return hf_buf_printf(out, err, "There are no sources.  \"holdfast source add --help\" says how to add one.\n");
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(sources, index, row)
    {
        const json_t *settings = json_object_get(row, "settings");
        if (!hf_table_add(&table, text_of(row, "name"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "engine"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "origin"), NULL, err) ||
            !hf_table_add(&table, text_of(settings, "backup_every"), NULL, err) ||
            !hf_table_add(&table, text_of(settings, "verify_every"), NULL, err) ||
            !hf_table_add(&table, text_of(settings, "connection"), NULL, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_doctor(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *source, *check, *sources = json_object_get(result, "sources");
    size_t index, at;
    if (json_array_size(sources) == 0)
        return hf_buf_printf(out, err, "There are no sources to look at.\n");
    json_array_foreach(sources, index, source)
    {
        if (!hf_buf_printf(out, err, "%s: ", word_of(source, "name")) ||
            !add_word(cli, text_of(source, "worst"), out, err) || !hf_buf_add_text(out, "\n", err))
            return false;
        json_array_foreach(json_object_get(source, "checks"), at, check)
        {
            if (!show_check_row(cli, check, out, err))
                return false;
        }
    }
    return true;
}

bool
hf_show_backup(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    int64_t bad = json_integer_value(json_object_get(result, "bad_pages"));
    const char *id = text_of(result, "backup"), *job = text_of(result, "job");
    (void)cli;
    if (job != NULL) // --detach
        return hf_buf_printf(out, err, "Job %s is waiting or running.  \"holdfast job watch %s\" shows where it is.\n",
                             job, job);
    if (!add_line(out, "backup", id, err) || !add_line(out, "read", bytes_of(result, "logical_bytes", text), err) ||
        !add_line(out, "stored", bytes_of(result, "stored_bytes", text), err) ||
        !add_line(out, "files", count_of(result, "files", text), err) ||
        !add_line(out, "took", duration_of(result, "duration_ms", text), err) ||
        !add_line(out, "state", text_of(result, "state"), err))
        return false;
    if (bad > 0 && !hf_buf_printf(out, err,
                                  "\n%" PRId64 " pages are damaged on the source itself.  The backup is kept; "
                                  "mend the database.\n",
                                  bad))
        return false;
    return hf_buf_printf(out, err, "\nIt is unproven until it was started in the sandbox: \"holdfast verify %s\".\n",
                         word_of(result, "source"));
}

bool
hf_show_backups(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"BACKUP",  "SOURCE",  "TAKEN",   "STATE", ">SIZE",
                                           ">STORED", ">SERVER", "END LSN", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *backups = json_object_get(result, "backups");
    size_t index;
    if (json_array_size(backups) == 0)
        return hf_buf_printf(out, err, "There are no backups.\n");
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(backups, index, row)
    {
        if (!add_backup_row(&table, row, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_verify(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    const json_t *check;
    size_t index;
    if (text_of(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    if (!hf_buf_printf(out, err, "%-*s", LABEL_WIDTH, "verdict") ||
        !add_word(cli, text_of(result, "result"), out, err) || !hf_buf_add_text(out, "\n", err) ||
        !add_line(out, "backup", text_of(result, "backup"), err) ||
        !add_line(out, "state", text_of(result, "state"), err) ||
        !add_line(out, "reason", text_of(result, "reason"), err) ||
        !add_line(out, "recovery", duration_of(result, "recovery_ms", text), err) ||
        !add_line(out, "took", duration_of(result, "duration_ms", text), err) ||
        !add_line(out, "isolation", text_of(result, "level"), err) ||
        !add_line(out, "scratch", text_of(result, "scratch"), err) ||
        !add_line(out, "key slot", text_of(result, "slot"), err) ||
        !add_line(out, "evidence", text_of(result, "evidence"), err) || !hf_buf_add_text(out, "\n", err))
        return false;
    json_array_foreach(json_object_get(result, "checks"), index, check)
    {
        if (!show_check_row(cli, check, out, err))
            return false;
    }
    return true;
}

bool
hf_show_restore(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    if (text_of(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    if (text_of(result, "ended") != NULL || text_of(result, "database") != NULL)
        return show_part(result, out, err);
    return add_line(out, "restored to", text_of(result, "to"), err) &&
           add_line(out, "backup", text_of(result, "backup"), err) &&
           add_line(out, "state", text_of(result, "state"), err) &&
           add_line(out, "written", bytes_of(result, "bytes", text), err) &&
           add_line(out, "files", count_of(result, "files", text), err) &&
           add_line(out, "pages kept", count_of(json_object_get(result, "delta"), "pages_kept", text), err) &&
           add_line(out, "pages written", count_of(json_object_get(result, "delta"), "pages_written", text), err) &&
           add_line(out, "removed", count_of(json_object_get(result, "delta"), "removed", text), err) &&
           add_line(out, "took", duration_of(result, "duration_ms", text), err) &&
           show_moment(json_object_get(result, "recovery"), out, err) &&
           hf_show_lost(json_object_get(result, "lost"), out, err) &&
           add_line(out, "all of it in", text_of(result, "lost_pages_file"), err) && show_next(result, out, err);
}

/* Settings lie in the folder, or, where the server would take them for data, beside it. */
static bool
show_next(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const char *beside = text_of(result, "configuration");
    if (!hf_buf_printf(out, err,
                       "\nThe folder is not encrypted.  Start %s %s on it; the settings that the server had lie in ",
                       word_of(result, "product"), word_of(result, "server_version")))
        return false;
    return beside == NULL ? hf_buf_add_text(out, "holdfast_config/.\n", err)
                          : hf_add_plain(out, beside, err) && hf_buf_add_text(out, "/.\n", err);
}

/* What was looked into, or handed out as a dump. */
static bool
show_part(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    return add_line(out, "dumped to", text_of(result, "to"), err) &&
           add_line(out, "database", text_of(result, "database"), err) &&
           add_line(out, "backup", text_of(result, "backup"), err) &&
           add_line(out, "state", text_of(result, "state"), err) &&
           add_line(out, "written", bytes_of(result, "bytes", text), err) &&
           show_moment(json_object_get(result, "recovery"), out, err) &&
           (text_of(result, "ended") == NULL ||
            hf_buf_add_text(out, "\nThe copy is gone, with its sandbox and its scratch.\n", err)) &&
           (text_of(result, "database") == NULL ||
            hf_buf_add_text(out, "\nThe file is not encrypted.  pg_restore reads it.\n", err));
}

/* Which moment it comes to when it is started. */
static bool
show_moment(const json_t *recovery, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    return recovery == NULL || (add_line(out, "up to", text_of(recovery, "kind"), err) &&
                                add_line(out, "that is", text_of(recovery, "value"), err) &&
                                add_line(out, "timeline", count_of(recovery, "timeline", text), err) &&
                                add_line(out, "log", bytes_of(recovery, "log_bytes", text), err) &&
                                add_line(out, "newest commit", time_of(recovery, "newest_commit_at", text), err));
}

bool
hf_show_status(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {
        "SOURCE", "NEWEST", "TAKEN", "NEWEST PROVEN", "LAST ATTEMPT", ">BACKUPS", ">STORED", "NEXT BACKUP", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *repository = json_object_get(result, "repository"), *sources = json_object_get(result, "sources"),
                 *row;
    char stored[TEXT_BYTES], left[TEXT_BYTES];
    size_t index;
    if (!hf_buf_printf(out, err, "repository  ") || !hf_add_plain(out, word_of(repository, "place"), err) ||
        !hf_buf_printf(out, err, "  %s stored, %s free\n", or_dash(bytes_of(repository, "stored_bytes", stored)),
                       or_dash(bytes_of(repository, "free_bytes", left))) ||
        !hf_show_scrub_line(json_object_get(result, "scrub"), out, err) ||
        !hf_show_second_places(json_object_get(result, "second_places"), out, err) ||
        (json_is_true(json_object_get(repository, "copy")) &&
         !hf_buf_printf(out, err, "            a copy: it is only read until \"holdfast repo promote\"\n")) ||
        !hf_buf_add_text(out, "\n", err))
        return false;
    if (json_array_size(sources) == 0)
        return hf_buf_printf(out, err, "There are no sources.  \"holdfast source add --help\" says how to add one.\n");
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(sources, index, row)
    {
        if (!add_status_row(&table, row, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err) && show_streams(cli, sources, out, err) &&
           show_warnings(result, out, err) && hf_show_accepted(sources, out, err) && hf_show_alarms(result, out, err);
}

bool
hf_show_evidence_verify(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "The evidence is genuine.\n\n") &&
           add_line(out, "document", text_of(result, "evidence"), err) &&
           add_line(out, "kind", text_of(result, "kind"), err) &&
           add_line(out, "made", text_of(result, "created_at"), err) &&
           add_line(out, "result", text_of(result, "result"), err) &&
           add_line(out, "backup", text_of(result, "backup"), err) &&
           add_line(out, "state", text_of(result, "state"), err) &&
           add_line(out, "ledger", text_of(result, "origin"), err) &&
           add_line(out, "key", text_of(result, "key_id"), err);
}

bool
hf_show_evidence(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"EVIDENCE", "SOURCE",    "WHEN",   "RESULT",
                                           "LEVEL",    ">RECOVERY", "REASON", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *attempts = json_object_get(result, "attempts");
    char when[TEXT_BYTES], recovery[TEXT_BYTES];
    size_t index;
    if (json_array_size(attempts) == 0)
        return hf_buf_printf(out, err, "Nothing was verified yet.\n");
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(attempts, index, row)
    {
        const char *verdict = text_of(row, "result");
        if (!hf_table_add(&table, text_of(row, "evidence"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "source"), NULL, err) ||
            !hf_table_add(&table, time_of(row, "recorded_at", when), NULL, err) ||
            !hf_table_add(&table, verdict, colour_of(verdict), err) ||
            !hf_table_add(&table, text_of(row, "level"), NULL, err) ||
            !hf_table_add(&table, duration_of(row, "recovery_ms", recovery), NULL, err) ||
            !hf_table_add(&table, text_of(row, "reason"), NULL, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err) && hf_buf_printf(out, err, "\nThe documents lie in \"") &&
           hf_add_plain(out, word_of(result, "repository"), err) &&
           hf_buf_printf(out, err, "/evidence\"; \"holdfast evidence verify\" checks one.\n");
}

bool
hf_show_check(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    int64_t damages = json_integer_value(json_object_get(result, "damage_count"));
    if (text_of(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    if (!add_line(out, "level", count_of(result, "level", text), err) ||
        !add_line(out, "vaults", count_of(result, "vaults", text), err) ||
        !add_line(out, "log entries", count_of(result, "log_entries", text), err) ||
        !add_line(out, "backups", count_of(result, "backups", text), err) ||
        !add_line(out, "packs", count_of(result, "packs", text), err) ||
        !add_line(out, "bytes", bytes_of(result, "pack_bytes", text), err) ||
        !add_line(out, "nobody's", count_of(result, "orphans", text), err) ||
        !add_line(out, "damages", count_of(result, "damage_count", text), err))
        return false;
    return damages == 0 || (show_damage_rows(json_object_get(result, "damages"), out, err) &&
                            hf_show_affected(json_object_get(result, "affected"), out, err));
}

bool
hf_show_scrub(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    int64_t damages = json_integer_value(json_object_get(result, "damage_count"));
    if (text_of(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    if (!add_line(out, "packs read", count_of(result, "packs", text), err) ||
        !add_line(out, "bytes", bytes_of(result, "pack_bytes", text), err) ||
        !add_line(out, "of packs", count_of(result, "packs_kept", text), err) ||
        !add_line(out, "log entries", count_of(result, "log_entries", text), err) ||
        !add_line(out, "nobody's", count_of(result, "orphans", text), err) ||
        !add_line(out, "took", duration_of(result, "duration_ms", text), err) ||
        !add_line(out, "damages", count_of(result, "damage_count", text), err) ||
        !add_line(out, "pass", json_is_true(json_object_get(result, "pass_complete")) ? "complete" : "goes on", err))
        return false;
    return damages == 0 || (show_damage_rows(json_object_get(result, "damages"), out, err) &&
                            hf_show_affected(json_object_get(result, "affected"), out, err));
}

bool
hf_show_takeover(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    (void)cli;
    return hf_buf_printf(out, err, "This appliance writes the backups of \"%s\" from now on.\n",
                         or_dash(word_of(result, "source"))) &&
           add_line(out, "epoch", count_of(result, "epoch", text), err) &&
           add_line(out, "ended sessions", count_of(result, "sessions_ended", text), err) &&
           add_line(out, "ended readers", count_of(result, "pins_ended", text), err);
}

/* Vaults in which nothing was given up, and why. */
static bool
show_unread(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    size_t index;
    const json_t *row;
    json_array_foreach(json_object_get(result, "left_alone"), index, row)
    {
        if (!hf_buf_add_text(out, "A vault was left alone: ", err) ||
            !hf_add_plain(out, word_of(row, "message"), err) || !hf_buf_add_text(out, ".\n", err))
            return false;
    }
    return true;
}

bool
hf_show_gc(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char text[TEXT_BYTES];
    if (text_of(result, "job") != NULL)
        return hf_show_backup(cli, result, out, err);
    return add_line(out, "packs removed", count_of(result, "packs_removed", text), err) &&
           add_line(out, "leftovers", count_of(result, "uploads_removed", text), err) &&
           add_line(out, "packs moved", count_of(result, "packs_moved", text), err) &&
           add_line(out, "bytes freed", bytes_of(result, "bytes_removed", text), err) &&
           add_line(out, "bytes written", bytes_of(result, "bytes_written", text), err) &&
           add_line(out, "kept, open", count_of(result, "packs_of_open_sessions", text), err) &&
           add_line(out, "kept, in use", count_of(result, "objects_waiting", text), err) &&
           add_line(out, "kept, locked", count_of(result, "objects_locked", text), err) &&
           add_line(out, "kept, damaged", count_of(result, "objects_damaged", text), err) &&
           show_unread(result, out, err);
}

bool
hf_show_rebuild(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    char vaults[TEXT_BYTES], entries[TEXT_BYTES];
    int64_t differences = json_integer_value(json_object_get(result, "differences"));
    (void)cli;
    if (!hf_buf_printf(out, err, "Made the catalog again from %s log entries of %s vaults.\n",
                       or_dash(count_of(result, "entries", entries)), or_dash(count_of(result, "vaults", vaults))))
        return false;
    if (differences == 0)
        return hf_buf_printf(out, err, "It is equal to the one in use, row for row.\n");
    return hf_buf_printf(out, err, "The one in use differed in %" PRId64 " rows and was replaced.  One of them:\n  ",
                         differences) &&
           hf_add_plain(out, word_of(result, "first"), err) && hf_buf_add_text(out, "\n", err);
}

bool
hf_show_jobs(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"JOB", "KIND", "SOURCE", "STATE", "ASKED", "BY", "PHASE", "MESSAGE", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *row, *jobs = json_object_get(result, "jobs");
    char when[TEXT_BYTES];
    size_t index;
    if (json_array_size(jobs) == 0)
        return hf_buf_printf(out, err, "There are no jobs.\n");
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(jobs, index, row)
    {
        const char *state = text_of(row, "state");
        if (!hf_table_add(&table, text_of(row, "job"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "kind"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "subject"), NULL, err) ||
            !hf_table_add(&table, state, colour_of(state), err) ||
            !hf_table_add(&table, time_of(row, "queued_at", when), NULL, err) ||
            !hf_table_add(&table, text_of(row, "requested_by"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "phase"), NULL, err) ||
            !hf_table_add(&table, text_of(row, "message"), NULL, err))
            return false;
    }
    return hf_table_print(&table, cli->colour, out, err);
}

bool
hf_show_job_cancelled(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "Job %s was asked to stop.\n", word_of(result, "job"));
}

bool
hf_show_settings(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_add_text(out, word_of(result, "reference"), err);
}

bool
hf_show_version(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    (void)cli;
    return hf_buf_printf(out, err, "holdfast %s\n", word_of(result, "version"));
}

static const char *
text_of(const json_t *object, const char *member)
{
    return json_string_value(json_object_get(object, member));
}

/* For a sentence, where nothing would leave a hole. */
static const char *
word_of(const json_t *object, const char *member)
{
    return or_dash(text_of(object, member));
}

static const char *
or_dash(const char *text)
{
    return text == NULL ? "-" : text;
}

/* "2026-11-22 14:03:07Z" of "2026-11-22T14:03:07.123Z"; NULL when there is none. */
static const char *
time_of(const json_t *object, const char *member, char text[static TEXT_BYTES])
{
    const char *moment = text_of(object, member);
    if (moment == NULL || strlen(moment) < 19)
        return NULL;
    snprintf(text, TEXT_BYTES, "%.10s %.8sZ", moment, moment + 11);
    return text;
}

static const char *
bytes_of(const json_t *object, const char *member, char text[static TEXT_BYTES])
{
    const json_t *number = json_object_get(object, member);
    return json_is_integer(number) ? hf_bytes_format((uint64_t)json_integer_value(number), text) : NULL;
}

static const char *
count_of(const json_t *object, const char *member, char text[static TEXT_BYTES])
{
    const json_t *number = json_object_get(object, member);
    if (!json_is_integer(number))
        return NULL;
    snprintf(text, TEXT_BYTES, "%" JSON_INTEGER_FORMAT, json_integer_value(number));
    return text;
}

static const char *
duration_of(const json_t *object, const char *member, char text[static TEXT_BYTES])
{
    const json_t *number = json_object_get(object, member);
    return json_is_integer(number) ? hf_duration_format((uint64_t)json_integer_value(number), text) : NULL;
}

static const char *
colour_of(const char *word)
{
    for (size_t i = 0; word != NULL && i < HF_LENGTH(colours); i++)
        if (strcmp(colours[i].word, word) == 0)
            return colours[i].colour;
    return NULL;
}

static bool
add_word(struct hf_cli *cli, const char *word, struct hf_buf *out, struct hf_error *err)
{
    const char *colour = cli->colour ? colour_of(word) : NULL;
    if (colour == NULL)
        return hf_add_plain(out, word == NULL ? "-" : word, err);
    return hf_buf_printf(out, err, "\033[%sm%s\033[0m", colour, word);
}

/* Nothing for what is not known. */
static bool
add_line(struct hf_buf *out, const char *label, const char *value, struct hf_error *err)
{
    return value == NULL || (hf_buf_printf(out, err, "%-*s", LABEL_WIDTH, label) && hf_add_plain(out, value, err) &&
                             hf_buf_add_text(out, "\n", err));
}

/* A check of the doctor or of a verification; what is not well is followed by why, and by what to do. */
static bool
show_check_row(struct hf_cli *cli, const json_t *check, struct hf_buf *out, struct hf_error *err)
{
    static const char *const more[] = {"detail", "reason", "remedy"};
    const char *verdict = text_of(check, "verdict");
    int width = 18 - (verdict == NULL ? 1 : (int)strlen(verdict));
    if (!hf_buf_add_text(out, "  ", err) || !add_word(cli, verdict, out, err) ||
        !hf_buf_printf(out, err, "%*s", width, "") || !hf_add_plain(out, word_of(check, "title"), err) ||
        !hf_buf_add_text(out, "\n", err))
        return false;
    if (verdict != NULL && (strcmp(verdict, "ok") == 0 || strcmp(verdict, "passed") == 0))
        return true;
    for (size_t i = 0; i < HF_LENGTH(more); i++)
        if (!add_indented(out, text_of(check, more[i]), err))
            return false;
    return true;
}

/* Remedies have lines of their own. */
static bool
add_indented(struct hf_buf *out, const char *text, struct hf_error *err)
{
    while (text != NULL && *text != '\0') {
        size_t length = strcspn(text, "\n");
        _cleanup_(hf_freep) char *line = strndup(text, length);
        if (line == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a line");
        if (!hf_buf_printf(out, err, "%20s", "") || !hf_add_plain(out, line, err) || !hf_buf_add_text(out, "\n", err))
            return false;
        text += length + (text[length] == '\n' ? 1 : 0);
    }
    return true;
}

static bool
add_backup_row(struct hf_table *table, const json_t *backup, struct hf_error *err)
{
    char taken[TEXT_BYTES], size[TEXT_BYTES], stored[TEXT_BYTES], gone[TEXT_BYTES];
    const char *state = text_of(backup, "state"), *reason = text_of(backup, "prune_reason");
    if (text_of(backup, "pruned_at") != NULL) {
        snprintf(gone, sizeof gone, "pruned: %s", or_dash(reason));
        state = gone;
    }
    return hf_table_add(table, text_of(backup, "backup"), NULL, err) &&
           hf_table_add(table, text_of(backup, "source"), NULL, err) &&
           hf_table_add(table, time_of(backup, "committed_at", taken), NULL, err) &&
           hf_table_add(table, state, colour_of(state), err) &&
           hf_table_add(table, bytes_of(backup, "logical_bytes", size), NULL, err) &&
           hf_table_add(table, bytes_of(backup, "stored_bytes", stored), NULL, err) &&
           hf_table_add(table, text_of(backup, "server_version"), NULL, err) &&
           hf_table_add(table, text_of(backup, "stop_lsn"), NULL, err);
}

static bool
add_status_row(struct hf_table *table, const json_t *source, struct hf_error *err)
{
    char taken[TEXT_BYTES], proven[TEXT_BYTES], count[TEXT_BYTES], stored[TEXT_BYTES], next[TEXT_BYTES];
    const json_t *attempt = json_object_get(source, "last_attempt");
    const char *health = word_of(source, "health"), *tried = text_of(attempt, "result");
    return hf_table_add(table, text_of(source, "name"), NULL, err) &&
           hf_table_add(table, strcmp(health, "none") == 0 ? "no backup" : health, colour_of(health), err) &&
           hf_table_add(table, time_of(json_object_get(source, "newest_backup"), "committed_at", taken), NULL, err) &&
           hf_table_add(table, time_of(json_object_get(source, "newest_proven"), "committed_at", proven), NULL, err) &&
           hf_table_add(table, tried, colour_of(tried), err) &&
           hf_table_add(table, count_of(source, "backups", count), NULL, err) &&
           hf_table_add(table, bytes_of(source, "stored_bytes", stored), NULL, err) &&
           hf_table_add(table, time_of(source, "next_backup_at", next), NULL, err);
}

/* What must not be overlooked below a table. */
/* Sources whose log is received, or was: where it stands, and what can be replayed of it. */
static bool
show_streams(struct hf_cli *cli, const json_t *sources, struct hf_buf *out, struct hf_error *err)
{
    static const char *const headings[] = {"STREAM OF", "STATE",    ">LAG",    ">BEHIND", "RECEIVED",
                                           "DURABLE",   "IN PACKS", "WINDOWS", NULL};
    _cleanup_(hf_table_done) struct hf_table table = {0};
    const json_t *source;
    char lag[TEXT_BYTES], behind[TEXT_BYTES];
    bool any = false;
    size_t index;
    if (!hf_table_begin(&table, headings, err))
        return false;
    json_array_foreach(sources, index, source)
    {
        const json_t *stream = json_object_get(source, "stream"), *now = json_object_get(stream, "now");
        const char *state = text_of(stream, "state");
        if (state == NULL)
            continue;
        _cleanup_(hf_buf_done) struct hf_buf windows = HF_BUF_INIT(HF_MIB);
        any = true;
        if (!list_windows(json_object_get(stream, "windows"), &windows, err) ||
            !hf_table_add(&table, text_of(source, "name"), NULL, err) ||
            !hf_table_add(&table, state,
                          strcmp(state, "receiving") == 0      ? GREEN
                          : strcmp(state, "asynchronous") == 0 ? YELLOW
                                                               : RED,
                          err) ||
            !hf_table_add(&table, duration_of(stream, "lag_ms", lag), NULL, err) ||
            !hf_table_add(&table, bytes_of(now, "lag_bytes", behind), NULL, err) ||
            !hf_table_add(&table, text_of(now, "received"), NULL, err) ||
            !hf_table_add(&table, text_of(now, "durable"), NULL, err) ||
            !hf_table_add(&table, text_of(now, "sealed"), NULL, err) ||
            !hf_table_add(&table, hf_buf_text(&windows), NULL, err))
            return false;
    }
    return !any || (hf_buf_add_text(out, "\n", err) && hf_table_print(&table, cli->colour, out, err));
}

static bool
list_windows(const json_t *windows, struct hf_buf *out, struct hf_error *err)
{
    const json_t *window;
    size_t index;
    json_array_foreach(windows, index, window)
    {
        if (!hf_buf_printf(out, err, "%s%s to %s", index == 0 ? "" : ", ", word_of(window, "start"),
                           word_of(window, "end")))
            return false;
    }
    return true;
}

/* A source that waited in vain for an acknowledgement goes on without, until it is answered again. */
static bool
show_semi_sync(const json_t *source, struct hf_buf *out, struct hf_error *err)
{
    const json_t *now = json_object_get(json_object_get(source, "stream"), "now");
    char when[TEXT_BYTES];
    return json_integer_value(json_object_get(now, "semi_sync_lost_at")) == 0 ||
           hf_buf_printf(
               out, err,
               "\nCommits of source %s have not waited for this archive since %s: semi-synchronous replication "
               "has given up.\n",
               word_of(source, "name"), or_dash(time_of(now, "semi_sync_lost_at", when)));
}

static bool
show_warnings(const json_t *result, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    char when[TEXT_BYTES];
    size_t index;
    json_array_foreach(json_object_get(result, "damages"), index, row)
    {
        if (!hf_buf_printf(out, err, "\nDamaged: backup %s of source %s, found %s: ", word_of(row, "backup"),
                           word_of(row, "source"), or_dash(time_of(row, "found_at", when))) ||
            !hf_add_plain(out, word_of(row, "reason"), err) || !hf_buf_add_text(out, "\n", err) ||
            !hf_show_lost(json_object_get(row, "lost"), out, err))
            return false;
    }
    json_array_foreach(json_object_get(result, "sources"), index, row)
    {
        if (!hf_show_stream_warnings(row, out, err) || !show_semi_sync(row, out, err))
            return false;
    }
    json_array_foreach(json_object_get(result, "gaps"), index, row)
    {
        if (!hf_buf_printf(out, err, "\nGap: %s to %s, noticed %s: ", word_of(row, "from"), word_of(row, "to"),
                           or_dash(time_of(row, "noticed_at", when))) ||
            !hf_add_plain(out, word_of(row, "cause"), err) || !hf_buf_add_text(out, "\n", err))
            return false;
    }
    json_array_foreach(json_object_get(result, "shredded"), index, row)
    {
        if (!hf_buf_printf(out, err, "%sVault %s was shredded %s.\n", index == 0 ? "\n" : "", word_of(row, "vault"),
                           or_dash(time_of(row, "shredded_at", when))))
            return false;
    }
    json_array_foreach(json_object_get(result, "jobs"), index, row)
    {
        const char *phase = text_of(row, "phase");
        if (!hf_buf_printf(out, err, "%s%s %s: %s%s%s\n", index == 0 ? "\n" : "", word_of(row, "kind"),
                           word_of(row, "subject"), word_of(row, "state"), phase == NULL ? "" : ", ",
                           phase == NULL ? "" : phase))
            return false;
    }
    return true;
}

static bool
show_damage_rows(const json_t *damages, struct hf_buf *out, struct hf_error *err)
{
    const json_t *row;
    size_t index;
    if (!hf_buf_add_text(out, "\n", err))
        return false;
    json_array_foreach(damages, index, row)
    {
        const char *pack = text_of(row, "pack"), *file = text_of(row, "file");
        if (!hf_buf_printf(out, err, "  %s%s%s: ", word_of(row, "kind"), pack == NULL ? "" : " pack ",
                           pack == NULL ? "" : pack) ||
            !hf_add_plain(out, word_of(row, "message"), err) ||
            (file != NULL && (!hf_buf_add_text(out, " in ", err) || !hf_add_plain(out, file, err))) ||
            !hf_buf_add_text(out, "\n", err))
            return false;
    }
    return true;
}
