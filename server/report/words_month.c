#include "server/report/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/time.h"

#define ROWS_MOST 8 // of each list; the JSON form has them all

static bool add_head(json_t *blocks, const json_t *model, char title[static 160], struct hf_error *err);
static bool add_verdict(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_figures(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_coverage(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_recovery(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_attempts(json_t *blocks, const json_t *model, const char *member, const char *heading, const char *none,
                         struct hf_error *err);
static bool add_gaps(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_process(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_keys(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_controls(json_t *blocks, const json_t *model, struct hf_error *err);
static int64_t sum(const json_t *model, const char *member);
static int64_t sum_lists(const json_t *model, const char *member);
static bool is_overdue(const json_t *source, const json_t *model);
static const char *month_words(const json_t *model, char text[static HF_WORDS_BYTES]);
static const char *against(const json_t *times, char text[static 2 * HF_WORDS_BYTES]);

bool
hf_words_month(const json_t *model, json_t **ret_sheet, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *blocks = json_array();
    char title[160];
    if (blocks == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    if (!add_head(blocks, model, title, err) || !hf_words_ledger_first(blocks, model, err) ||
        !add_verdict(blocks, model, err) || !add_figures(blocks, model, err) || !add_coverage(blocks, model, err) ||
        !add_recovery(blocks, model, err) ||
        !add_attempts(blocks, model, "failed", "Failures and their cause", "No attempt failed.", err) ||
        !add_attempts(blocks, model, "inconclusive", "Attempts that could not tell", "Every attempt came to a verdict.",
                      err) ||
        !add_gaps(blocks, model, err) || !add_process(blocks, model, err) || !add_keys(blocks, model, err) ||
        !add_controls(blocks, model, err) || !hf_words_sign_off(blocks, err))
        return false;
    *ret_sheet = json_pack("{s:s, s:s, s:s, s:o, s:i, s:O}", "title", title, "subject",
                           "Coverage, failures and recovery times of a month, as far as signed evidence shows them",
                           "keywords", "backup, restore test, evidence, monthly report, Holdfast", "footer",
                           hf_words_footer(model), "pages", 2, "blocks", blocks);
    return *ret_sheet != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
}

bool
hf_words_source_is_bad(const json_t *source)
{
    size_t index;
    json_t *row;
    json_array_foreach(hf_at(source, "failed"), index, row)
    {
        if (!json_is_object(hf_at(row, "closed_by")))
            return true;
    }
    json_array_foreach(hf_at(source, "inconclusive"), index, row)
    {
        if (!json_is_object(hf_at(row, "closed_by")))
            return true;
    }
    json_array_foreach(hf_at(source, "gaps"), index, row)
    {
        if (!json_is_true(hf_at(row, "bounded")))
            return true;
    }
    return hf_number_at(source, "covered_days", 0) < hf_number_at(source, "past_days", 0) ||
           hf_number_at(source, "unsupported", 0) > 0 || hf_number_at(source, "recover.over", 0) > 0 ||
           hf_number_at(source, "loss.over", 0) > 0 || hf_number_at(source, "passed", 0) == 0 ||
           json_is_string(hf_at(source, "known.process.unproven_since"));
}

static bool
add_head(json_t *blocks, const json_t *model, char title[static 160], struct hf_error *err)
{
    char month[HF_WORDS_BYTES], when[HF_WORDS_BYTES], below[640];
    const char *source = hf_text_at(model, "source"), *site = hf_text_at(model, "appliance.site");
    snprintf(title, 160, "%s: backups of %s", month_words(model, month), source[0] == '\0' ? "all sources" : source);
    snprintf(below, sizeof below, "As of %s%s. Days and times are UTC.%s%s%s",
             hf_words_time(hf_at(model, "as_of"), when),
             json_is_true(hf_at(model, "in_progress")) ? "; the month is not over" : "",
             site[0] == '\0' ? "" : " Site: ", site, site[0] == '\0' ? "" : ".");
    return hf_words_add(blocks, json_pack("{s:s, s:s, s:s}", "type", "title", "text", title, "below", below), err);
}

static bool
add_verdict(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const json_t *sources = hf_at(model, "sources");
    size_t bad = 0, overdue = 0, index;
    char text[1024];
    json_t *row;
    json_array_foreach(sources, index, row) bad += hf_words_source_is_bad(row);
    json_array_foreach(hf_at(model, "keys"), index, row) overdue += json_is_true(hf_at(row, "overdue"));
    const size_t count = json_array_size(sources);
    const bool good = count > 0 && bad == 0 && overdue == 0 && strcmp(hf_text_at(model, "ledger.state"), "whole") == 0;
    if (count == 0)
        snprintf(text, sizeof text, "No source was backed up in this month, so nothing can be said.");
    else if (good)
        snprintf(text, sizeof text,
                 "Every source has a proven backup for every day that has passed, every failure was followed by a "
                 "success, no objective was missed, and no key drill is overdue.");
    else
        snprintf(text, sizeof text,
                 "%zu of %zu source%s need%s attention%s. What it is stands below: days without a proven backup, "
                 "failures that are still open, objectives that were missed, drills that are overdue.",
                 bad, count, count == 1 ? "" : "s", count == 1 || bad == 1 ? "s" : "",
                 overdue > 0 ? ", and key drills are overdue" : "");
    return hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:s, s:s}", "type", "band", "tone", good ? "good" : "bad", "word",
                                  good ? "IN ORDER" : "NEEDS ATTENTION", "text", text),
                        err);
}

static bool
add_figures(json_t *blocks, const json_t *model, struct hf_error *err)
{
    char covered[HF_WORDS_BYTES], proven[HF_WORDS_BYTES], passed[HF_WORDS_BYTES], missed[HF_WORDS_BYTES], note[128];
    const int64_t open = sum_lists(model, "failed"), inconclusive = sum_lists(model, "inconclusive");
    snprintf(covered, sizeof covered, "%" PRId64 " of %" PRId64, sum(model, "covered_days"), sum(model, "past_days"));
    snprintf(proven, sizeof proven, "%" PRId64 " of %" PRId64, sum(model, "proven"), sum(model, "backups"));
    snprintf(passed, sizeof passed, "%" PRId64 " of %" PRId64, sum(model, "passed"), sum(model, "attempts"));
    snprintf(missed, sizeof missed, "%" PRId64, sum(model, "recover.over") + sum(model, "loss.over"));
    snprintf(note, sizeof note, "%" PRId64 " failed, %" PRId64 " could not tell", open, inconclusive);
    return hf_words_add(blocks,
                        json_pack("{s:s, s:[{s:s, s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}, {s:s, "
                                  "s:s, s:s, s:s}]}",
                                  "type", "figures", "items", "label", "Days with a proven backup", "value", covered,
                                  "note", "days of all sources together", "tone",
                                  sum(model, "covered_days") < sum(model, "past_days") ? "bad" : "plain", "label",
                                  "Backups proven", "value", proven, "note", "restored, started and checked", "tone",
                                  sum(model, "proven") < sum(model, "backups") ? "warn" : "plain", "label",
                                  "Attempts that passed", "value", passed, "note", note, "tone",
                                  open > 0           ? "bad"
                                  : inconclusive > 0 ? "warn"
                                                     : "plain",
                                  "label", "Objectives missed", "value", missed, "note", "recovery time and data loss",
                                  "tone", strcmp(missed, "0") == 0 ? "plain" : "bad"),
                        err);
}

static bool
add_coverage(json_t *blocks, const json_t *model, struct hf_error *err)
{
    static const struct {
        const char *state, *mark, *tone, *text;
    } marks[] = {{"proven", "P", "good", "proven"},
                 {"failed", "F", "bad", "failed or damaged"},
                 {"inconclusive", "?", "warn", "tried, could not tell"},
                 {"backup", "b", "warn", "backup only, not tried"},
                 {"none", "\xC2\xB7", "bad", "no backup"},
                 {"future", "", "quiet", "still to come"}};
    _cleanup_(hf_json_freep) json_t *rows = json_array(), *columns = json_array(), *legend = json_array();
    size_t index, at;
    json_t *source, *day;
    char number[16];
    json_array_foreach(hf_at(model, "days"), index, day)
    {
        snprintf(number, sizeof number, "%" JSON_INTEGER_FORMAT, json_integer_value(day));
        if (!hf_words_add(columns, json_string(number), err))
            return false;
    }
    for (size_t i = 0; i + 1 < HF_LENGTH(marks); i++)
        if (!hf_words_add(legend, json_pack("{s:s, s:s}", "mark", marks[i].mark, "text", marks[i].text), err))
            return false;
    json_array_foreach(hf_at(model, "sources"), index, source)
    {
        json_t *cells = json_array();
        if (!hf_words_add(rows, json_pack("{s:s, s:o}", "label", hf_text_at(source, "name"), "cells", cells), err))
            return false;
        json_array_foreach(hf_at(source, "days"), at, day)
        {
            size_t i = 0;
            while (i + 1 < HF_LENGTH(marks) && strcmp(marks[i].state, json_string_value(day)) != 0)
                i++;
            if (!hf_words_add(cells, json_pack("{s:s, s:s}", "mark", marks[i].mark, "tone", marks[i].tone), err))
                return false;
        }
    }
    return json_array_size(rows) == 0 || (hf_words_heading(blocks, "Coverage, day by day", err) &&
                                          hf_words_add(blocks,
                                                       json_pack("{s:s, s:s, s:O, s:O, s:O}", "type", "days", "caption",
                                                                 "The best that a backup of each day has come to",
                                                                 "columns", columns, "rows", rows, "legend", legend),
                                                       err));
}

static bool
add_recovery(json_t *blocks, const json_t *model, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    size_t index;
    json_t *source;
    json_array_foreach(hf_at(model, "sources"), index, source)
    {
        char recover[2 * HF_WORDS_BYTES], loss[2 * HF_WORDS_BYTES], next[HF_WORDS_BYTES], forecast[3 * HF_WORDS_BYTES],
            newest[HF_WORDS_BYTES];
        const int64_t error = hf_number_at(source, "forecast.error_ppm", -1);
        const int64_t aim = hf_number_at(source, "recover.objective_ms", -1);
        if (!json_is_object(hf_at(source, "forecast")))
            snprintf(forecast, sizeof forecast, "no recovery to go by");
        else
            snprintf(forecast, sizeof forecast, "%s%s%s", // the tone first
                     aim >= 0 && hf_number_at(source, "forecast.recovery_ms", 0) > aim ? "\1bad\1" : "",
                     hf_words_span(hf_at(source, "forecast.recovery_ms"), next),
                     aim >= 0 && hf_number_at(source, "forecast.recovery_ms", 0) > aim ? ", OVER the objective" : "");
        if (error >= 0)
            snprintf(forecast + strlen(forecast), sizeof forecast - strlen(forecast), " (so far off by %" PRId64 " %%)",
                     (error + 5000) / 10000);
        const bool late = is_overdue(source, model);
        char proven[2 * HF_WORDS_BYTES];
        snprintf(proven, sizeof proven, "%s%s%s", late ? "\1bad\1" : "",
                 hf_words_moment(hf_at(source, "newest_proven_at"), newest), late ? ", OVERDUE" : "");
        if (!hf_words_row(rows, err, hf_text_at(source, "name"), proven, against(hf_at(source, "recover"), recover),
                          forecast, against(hf_at(source, "loss"), loss), NULL))
            return false;
    }
    return json_array_size(rows) == 0 ||
           (hf_words_heading(blocks, "Recovery, measured against the objectives", err) &&
            hf_words_add(blocks,
                         json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}], s:O}",
                                   "type", "table", "caption", "Recovery times and data loss", "columns", "title",
                                   "Source", "share", 14, "title", "Newest proven", "share", 16, "title",
                                   "Time to recover (middle, longest)", "share", 26, "title", "Next restore, forecast",
                                   "share", 20, "title", "Data loss (middle, longest)", "share", 24, "rows", rows),
                         err));
}

static bool
add_attempts(json_t *blocks, const json_t *model, const char *member, const char *heading, const char *none,
             struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    size_t index, at, count = 0;
    json_t *source, *attempt;
    json_array_foreach(hf_at(model, "sources"), index, source)
    {
        json_array_foreach(hf_at(source, member), at, attempt)
        {
            char when[HF_WORDS_BYTES], closed[HF_WORDS_BYTES], backup[HF_WORDS_BYTES], what[1024],
                state[HF_WORDS_EXCEPTION_BYTES + 32], accepted[HF_WORDS_EXCEPTION_BYTES];
            const json_t *check = json_array_get(hf_at(attempt, "failed"), 0);
            const char *place = hf_text_at(check, "finding");
            const bool is_closed = json_is_object(hf_at(attempt, "closed_by"));
            if (count++ >= ROWS_MOST)
                continue;
            const char *why = check == NULL ? hf_text_at(attempt, "reason") : hf_text_at(check, "reason");
            snprintf(what, sizeof what, "%.400s%s%.200s%s", why, place[0] == '\0' ? "" : " (", place,
                     place[0] == '\0' ? "" : ")");
            const json_t *exception = json_array_get(hf_at(attempt, "exceptions"), 0);
            if (is_closed)
                snprintf(state, sizeof state, "passed again, %s",
                         hf_words_moment(hf_at(attempt, "closed_by.at"), closed));
            else
                snprintf(state, sizeof state, "\1bad\1OPEN%s%s", exception != NULL ? ". " : "",
                         exception != NULL ? hf_words_exception(exception, accepted) : "");
            if (!hf_words_row(rows, err, hf_words_moment(hf_at(attempt, "created_at"), when),
                              hf_text_at(source, "name"), hf_words_short(hf_text_at(attempt, "backup"), backup), what,
                              state, NULL))
                return false;
        }
    }
    if (!hf_words_heading(blocks, heading, err))
        return false;
    if (count == 0)
        return hf_words_text(blocks, "plain", err, "%s", none);
    return hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}], s:O}",
                                  "type", "table", "caption", heading, "columns", "title", "When", "share", 13, "title",
                                  "Source", "share", 14, "title", "Backup", "share", 11, "title", "Cause", "share", 42,
                                  "title", "Since then", "share", 20, "rows", rows),
                        err) &&
           (count <= ROWS_MOST ||
            hf_words_text(blocks, "quiet", err, "And %zu more; the JSON form of this report lists all of them.",
                          count - ROWS_MOST));
}

static bool
add_gaps(json_t *blocks, const json_t *model, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    size_t index, at, count = 0;
    json_t *source, *gap;
    bool streams = false;
    json_array_foreach(hf_at(model, "sources"), index, source)
    {
        streams = streams || json_is_true(hf_at(source, "known.stream"));
        json_array_foreach(hf_at(source, "gaps"), at, gap)
        {
            char when[HF_WORDS_BYTES], span[512];
            const char *to = hf_text_at(gap, "to");
            if (count++ >= ROWS_MOST)
                continue;
            snprintf(span, sizeof span, "%.120s to %.120s", hf_text_at(gap, "from"), to[0] == '\0' ? "?" : to);
            if (!hf_words_row(rows, err, hf_words_moment(hf_at(gap, "noticed_at"), when), hf_text_at(source, "name"),
                              span, hf_text_at(gap, "cause"),
                              json_is_true(hf_at(gap, "bounded")) ? "a proven backup lies behind it" : "\1bad\1OPEN",
                              NULL))
                return false;
        }
    }
    if (!hf_words_heading(blocks, "Gaps of the stream", err))
        return false;
    if (count == 0)
        return hf_words_text(blocks, "plain", err, "%s",
                             streams ? "No part of a stream was missed."
                                     : "No stream is received from these sources: what is written between two backups "
                                       "is in neither of them.");
    return hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}], s:O}",
                                  "type", "table", "caption", "Gaps of the stream", "columns", "title", "Noticed",
                                  "share", 13, "title", "Source", "share", 14, "title", "Positions", "share", 25,
                                  "title", "Cause", "share", 28, "title", "Since then", "share", 20, "rows", rows),
                        err) &&
           (count <= ROWS_MOST || hf_words_text(blocks, "quiet", err, "And %zu more.", count - ROWS_MOST));
}

/* What changed in the way backups are made, and was not yet shown to work. */
static bool
add_process(json_t *blocks, const json_t *model, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *items = json_array();
    size_t index, at;
    json_t *source, *word;
    json_array_foreach(hf_at(model, "sources"), index, source)
    {
        char since[HF_WORDS_BYTES], changed[256] = "", text[640];
        if (!json_is_string(hf_at(source, "known.process.unproven_since")))
            continue;
        json_array_foreach(hf_at(source, "known.process.changed"), at, word)
            snprintf(changed + strlen(changed), sizeof changed - strlen(changed), "%s%s", at > 0 ? ", " : "",
                     hf_cell_text(word));
        snprintf(text, sizeof text,
                 "%s is unproven since the change of %s (%s): %" PRId64 " of 2 backups made after it are proven.",
                 hf_text_at(source, "name"), hf_words_time(hf_at(source, "known.process.unproven_since"), since),
                 changed[0] == '\0' ? "not named" : changed, hf_number_at(source, "known.process.proven_since", 0));
        if (!hf_words_add(items, json_pack("{s:s, s:s}", "text", text, "tone", "warn"), err))
            return false;
    }
    return hf_words_heading(blocks, "Changes not yet proven", err) &&
           (json_array_size(items) == 0
                ? hf_words_text(blocks, "plain", err,
                                "None: since the last change of settings, versions or keys two backups of each source "
                                "were proven.")
                : hf_words_add(blocks, json_pack("{s:s, s:O}", "type", "list", "items", items), err));
}

static bool
add_keys(json_t *blocks, const json_t *model, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    size_t index;
    json_t *key;
    json_array_foreach(hf_at(model, "keys"), index, key)
    {
        char opened[HF_WORDS_BYTES], due[HF_WORDS_BYTES], state[128];
        if (index == ROWS_MOST)
            break;
        snprintf(state, sizeof state, json_is_true(hf_at(key, "overdue")) ? "\1bad\1OVERDUE since %s" : "%s",
                 hf_words_day(hf_at(key, "due_at"), due));
        if (!hf_words_row(rows, err, hf_text_at(key, "name"), hf_text_at(key, "kind"),
                          json_is_true(hf_at(key, "unattended")) ? "by itself, with verifications" : "by a person",
                          json_is_string(hf_at(key, "opened_at")) ? hf_words_day(hf_at(key, "opened_at"), opened)
                                                                  : "never on record",
                          state, NULL))
            return false;
    }
    if (!hf_words_heading(blocks, "Key drills", err))
        return false;
    if (json_array_size(rows) == 0)
        return hf_words_text(blocks, "warn", err, "Nothing is on record about key slots.");
    return hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}], s:O}",
                                  "type", "table", "caption", "Key slots", "columns", "title", "Key slot", "share", 22,
                                  "title", "Kind", "share", 15, "title", "Tried", "share", 25, "title", "Last opened",
                                  "share", 18, "title", "Next due", "share", 20, "rows", rows),
                        err);
}

static bool
add_controls(json_t *blocks, const json_t *model, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    size_t index;
    json_t *control;
    json_array_foreach(hf_at(model, "controls"), index, control)
    {
        char name[256];
        const char *verdict = hf_text_at(control, "verdict");
        snprintf(name, sizeof name, "%s %s", hf_text_at(control, "framework"), hf_text_at(control, "ref"));
        if (!hf_words_row(rows, err, name, hf_text_at(control, "title"), hf_text_at(control, "says"),
                          hf_text_at(control, "silent"),
                          strcmp(verdict, "shown") == 0    ? "\1good\1shown"
                          : strcmp(verdict, "partly") == 0 ? "\1warn\1partly"
                                                           : "\1bad\1not shown",
                          NULL))
            return false;
    }
    return hf_words_heading(blocks, "Controls", err) &&
           hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}, {s:s, s:i}], s:O}",
                                  "type", "table", "caption", "Controls and what this report shows of them", "columns",
                                  "title", "Control", "share", 27, "title", "It asks for", "share", 19, "title",
                                  "This report speaks to it with", "share", 28, "title", "It does not show", "share",
                                  21, "title", "Verdict", "share", 10, "rows", rows),
                        err);
}

static int64_t
sum(const json_t *model, const char *member)
{
    int64_t total = 0;
    size_t index;
    json_t *source;
    json_array_foreach(hf_at(model, "sources"), index, source) total += hf_number_at(source, member, 0);
    return total;
}

static int64_t
sum_lists(const json_t *model, const char *member)
{
    int64_t total = 0;
    size_t index;
    json_t *source;
    json_array_foreach(hf_at(model, "sources"), index, source) total += (int64_t)json_array_size(hf_at(source, member));
    return total;
}

/* The owner wants to see one proven so often, and it is longer ago; a schedule may be a quarter late. */
static bool
is_overdue(const json_t *source, const json_t *model)
{
    const int64_t every = hf_number_at(source, "known.verify_every_ms", 0);
    int64_t newest, as_of;
    if (every <= 0 || !json_is_true(hf_at(model, "in_progress")))
        return false;
    if (!json_is_string(hf_at(source, "newest_proven_at")))
        return true;
    return hf_time_parse(hf_text_at(source, "newest_proven_at"), &newest, NULL) &&
           hf_time_parse(hf_text_at(model, "as_of"), &as_of, NULL) && as_of - newest > every + every / 4;
}

static const char *
month_words(const json_t *model, char text[static HF_WORDS_BYTES])
{
    char day[HF_WORDS_BYTES];
    static const char *const names[] = {"January", "February", "March",     "April",   "May",      "June",
                                        "July",    "August",   "September", "October", "November", "December"};
    const char *month = hf_text_at(model, "month");
    const int number = strlen(month) == 7 ? (month[5] - '0') * 10 + month[6] - '0' : 0;
    if (number < 1 || number > 12)
        return strcpy(text, hf_words_day(hf_at(model, "from"), day));
    snprintf(text, HF_WORDS_BYTES, "%s %.4s", names[number - 1], month);
    return text;
}

static const char *
against(const json_t *times, char text[static 2 * HF_WORDS_BYTES])
{
    char middle[HF_WORDS_BYTES], most[HF_WORDS_BYTES], aim[HF_WORDS_BYTES];
    const int64_t over = hf_number_at(times, "over", 0);
    if (hf_number_at(times, "count", 0) == 0)
        return strcpy(text, "not measured");
    snprintf(text, 2 * HF_WORDS_BYTES, "%s%.24s, %.24s", over > 0 ? "\1bad\1" : "",
             hf_words_span(hf_at(times, "middle_ms"), middle), hf_words_span(hf_at(times, "most_ms"), most));
    const size_t used = strlen(text);
    if (!json_is_integer(hf_at(times, "objective_ms")))
        snprintf(text + used, 2 * HF_WORDS_BYTES - used, "; no objective");
    else
        snprintf(text + used, 2 * HF_WORDS_BYTES - used, "; objective %.20s%s",
                 hf_words_span(hf_at(times, "objective_ms"), aim), over > 0 ? ", MISSED" : ", met");
    return text;
}
