#include "server/report/words.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROWS_OF_CHECKS 14 // of the one page; what failed always stands there
#define BARS_MOST      8
#define TITLES_BYTES   512

/* What a verdict means, for a reader who has to decide something. */
static const struct {
    const char *verdict, *tone, *word, *meaning;
} verdicts[] = {
    {"recoverable", "good", "RECOVERABLE",
     "This backup was restored into an isolated sandbox, the database was started from it, and every required check "
     "passed. What it holds can be brought back."},
    {"not_recoverable", "bad", "NOT RECOVERABLE",
     "This backup was restored and did not pass. Do not count on it: the table below says what failed."},
    {"damaged", "bad", "DAMAGED",
     "Stored parts of this backup are lost or altered. What they held cannot be brought back from it."},
    {"not_determined", "warn", "NOT DETERMINED",
     "An attempt was made and could not come to a verdict: what it met proves neither that the backup is sound nor "
     "that "
     "it is not. Until another attempt passes, nobody knows whether it can be restored."},
    {"not_supported", "bad", "NOT SUPPORTED",
     "The newest attempt on this backup is on record, and its signed document is missing or not sound. What an older "
     "document says stands below, and may no longer hold."},
    {"not_tested", "bad", "NOT TESTED",
     "There is no sound evidence of any attempt to restore this backup. Whether it can be restored is not known."},
};

static bool add_head(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_verdict(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_figures(json_t *blocks, const json_t *model, struct hf_error *err);
static json_t *figure(const char *label, const json_t *ms, const char *missing, const json_t *objective_ms,
                      const char *of_what);
static bool add_steps(json_t *blocks, const json_t *document, struct hf_error *err);
static bool add_checks(json_t *blocks, const json_t *document, struct hf_error *err);
static bool add_check(json_t *rows, const json_t *check, struct hf_error *err);
static bool add_not_proven(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_exceptions(json_t *blocks, const json_t *model, struct hf_error *err);
static const char *titles_of(const json_t *exception, const json_t *model, char text[static TITLES_BYTES]);
static bool add_controls(json_t *blocks, const json_t *document, struct hf_error *err);
static bool add_custody(json_t *blocks, const json_t *model, struct hf_error *err);
static bool add_seal(json_t *blocks, const json_t *attempt, struct hf_error *err);
static const char *plain_step(const char *phase);

bool
hf_words_backup(const json_t *model, json_t **ret_sheet, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *blocks = json_array();
    const json_t *attempt = hf_at(model, "attempt"), *document = hf_at(attempt, "document");
    const bool tried = json_is_object(document);
    char title[256], when[HF_WORDS_BYTES];
    if (blocks == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
    if (!add_head(blocks, model, err) || !hf_words_ledger_first(blocks, model, err) || !add_verdict(blocks, model, err))
        return false;
    if (tried &&
        (!add_figures(blocks, model, err) || !add_steps(blocks, document, err) || !add_checks(blocks, document, err)))
        return false;
    if (!add_not_proven(blocks, model, err) || !add_exceptions(blocks, model, err) ||
        (tried && (!add_controls(blocks, document, err) || !add_custody(blocks, model, err) ||
                   !add_seal(blocks, attempt, err))) ||
        !hf_words_sign_off(blocks, err))
        return false;
    snprintf(title, sizeof title, "Backup of %s, %s", hf_text_at(model, "backup.source"),
             hf_words_time(hf_at(model, "backup.ended_at"), when));
    *ret_sheet = json_pack("{s:s, s:s, s:s, s:o, s:i, s:O}", "title", title, "subject",
                           "Whether one backup can be restored, as far as signed evidence shows it", "keywords",
                           "backup, restore test, evidence, Holdfast", "footer", hf_words_footer(model), "pages", 1,
                           "blocks", blocks);
    return *ret_sheet != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the report");
}

static bool
add_head(json_t *blocks, const json_t *model, struct hf_error *err)
{
    char title[256], below[1024], when[HF_WORDS_BYTES], bytes[HF_WORDS_BYTES];
    const char *engine = hf_text_at(model, "backup.engine"), *version = hf_text_at(model, "backup.version");
    const char *site = hf_text_at(model, "appliance.site"), *tier = hf_text_at(model, "source.tier");
    snprintf(title, sizeof title, "Backup of %s", hf_text_at(model, "backup.source"));
    snprintf(below, sizeof below, "Taken %s. %s %s, %s. Backup %s.%s%s%s%s%s%s",
             hf_words_time(hf_at(model, "backup.ended_at"), when),
             strcmp(engine, "postgresql") == 0 ? "PostgreSQL"
             : strcmp(engine, "mariadb") == 0  ? "MariaDB"
                                               : engine,
             version, hf_words_bytes(hf_at(model, "backup.logical_bytes"), bytes), hf_text_at(model, "backup.backup"),
             tier[0] != '\0' ? " Criticality: " : "", tier, tier[0] != '\0' ? "." : "",
             site[0] != '\0' ? " Site: " : "", site, site[0] != '\0' ? "." : "");
    return hf_words_add(blocks, json_pack("{s:s, s:s, s:s}", "type", "title", "text", title, "below", below), err);
}

static bool
add_verdict(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const char *verdict = hf_text_at(model, "verdict"), *reason = hf_text_at(model, "attempt.reason");
    const json_t *damage = json_array_get(hf_at(model, "backup.damages"), 0);
    char text[3 * HF_KIB], when[HF_WORDS_BYTES];
    size_t i = 0;
    while (i + 1 < HF_LENGTH(verdicts) && strcmp(verdicts[i].verdict, verdict) != 0)
        i++;
    size_t used = (size_t)snprintf(text, sizeof text, "%s", verdicts[i].meaning);
    if (reason[0] != '\0')
        used += (size_t)snprintf(text + used, sizeof text - used, " Reason: %s.", reason);
    if (damage != NULL)
        used += (size_t)snprintf(text + used, sizeof text - used, " Damage found %s: %s.",
                                 hf_words_time(hf_at(damage, "found_at"), when), hf_text_at(damage, "reason"));
    if (json_is_string(hf_at(model, "backup.pruned_at")))
        used += (size_t)snprintf(
            text + used, sizeof text - used, " It was removed %s (%s); this is what was known of it.",
            hf_words_time(hf_at(model, "backup.pruned_at"), when), hf_text_at(model, "backup.prune_reason"));
    if (hf_number_at(model, "unsupported", 0) > 0)
        snprintf(text + used, sizeof text - used,
                 " %" PRId64 " further attempt(s) are on record without a sound document and are not counted.",
                 hf_number_at(model, "unsupported", 0));
    return hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:s, s:s}", "type", "band", "tone", verdicts[i].tone, "word",
                                  verdicts[i].word, "text", text),
                        err);
}

static bool
add_figures(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const json_t *attempt = hf_at(model, "attempt"), *document = hf_at(attempt, "document"), *database;
    char bytes[HF_WORDS_BYTES], checks[HF_WORDS_BYTES], tables_text[HF_WORDS_BYTES], note[128], check_note[128];
    int64_t tables = 0;
    size_t index;
    json_array_foreach(hf_at(document, "subject.databases"), index, database) tables +=
        hf_number_at(database, "tables", 0);
    _cleanup_(hf_json_freep) json_t *table_count = json_integer(tables);
    snprintf(note, sizeof note, "%zu database%s, %s tables", json_array_size(hf_at(document, "subject.databases")),
             json_array_size(hf_at(document, "subject.databases")) == 1 ? "" : "s",
             hf_words_number(table_count, tables_text));
    snprintf(checks, sizeof checks, "%" PRId64 " of %" PRId64, hf_number_at(attempt, "passed", 0),
             hf_number_at(attempt, "checks", 0));
    const size_t failed = json_array_size(hf_at(attempt, "failed"));
    snprintf(check_note, sizeof check_note, "%zu failed, %" PRId64 " without a verdict", failed,
             hf_number_at(attempt, "checks", 0) - hf_number_at(attempt, "passed", 0) - (int64_t)failed);
    const bool none_failed = failed == 0;
    return hf_words_add(blocks,
                        json_pack("{s:s, s:[o, o, {s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}]}", "type", "figures", "items",
                                  figure("Time to recover", hf_at(attempt, "recover_ms"), "it never opened",
                                         hf_at(model, "source.objective_recovery_ms"), "objective"),
                                  figure("Data that would be lost", hf_at(attempt, "loss_ms"), "not measured",
                                         hf_at(model, "source.objective_loss_ms"), "objective"),
                                  "label", "Data restored", "value",
                                  hf_words_bytes(hf_at(attempt, "restored_bytes"), bytes), "note", note, "label",
                                  "Checks passed", "value", checks, "note", check_note, "tone",
                                  none_failed ? "plain" : "bad"),
                        err);
}

/* A time with the objective it is compared with. */
static json_t *
figure(const char *label, const json_t *ms, const char *missing, const json_t *objective_ms, const char *of_what)
{
    char value[HF_WORDS_BYTES], against[HF_WORDS_BYTES], note[160];
    const bool known = json_is_integer(ms), aimed = json_is_integer(objective_ms);
    const bool met = known && aimed && json_integer_value(ms) <= json_integer_value(objective_ms);
    hf_words_span(objective_ms, against);
    if (!aimed)
        snprintf(note, sizeof note, "no %s is set", of_what);
    else
        snprintf(note, sizeof note, "%s %s: %s", of_what, against,
                 !known ? "cannot be judged"
                 : met  ? "met"
                        : "NOT MET");
    return json_pack("{s:s, s:s, s:s, s:s}", "label", label, "value", known ? hf_words_span(ms, value) : missing,
                     "note", note, "tone", known && aimed && !met ? "bad" : "plain");
}

static bool
add_steps(json_t *blocks, const json_t *document, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *items = json_array();
    const json_t *phases = hf_at(document, "restore.phases"), *phase;
    char span[HF_WORDS_BYTES];
    size_t index;
    json_array_foreach(phases, index, phase)
    {
        if (index == BARS_MOST)
            break;
        if (!hf_words_add(items,
                          json_pack("{s:s, s:I, s:s}", "label", plain_step(hf_text_at(phase, "phase")), "ms",
                                    (json_int_t)hf_number_at(phase, "duration_ms", 0), "text",
                                    hf_words_span(hf_at(phase, "duration_ms"), span)),
                          err))
            return false;
    }
    if (json_array_size(items) == 0)
        return true;
    return hf_words_heading(blocks, "What was done", err) &&
           hf_words_add(blocks, json_pack("{s:s, s:O}", "type", "bars", "items", items), err);
}

/* Failures first, then what could not be told, then what passed, as far as there is room. */
static bool
add_checks(json_t *blocks, const json_t *document, struct hf_error *err)
{
    static const char *const order[] = {"failed", "not_determinable", "passed"}; // the others stand further down
    const json_t *checks = hf_at(document, "checks"), *check;
    _cleanup_(hf_json_freep) json_t *rows = json_array();
    _cleanup_(hf_buf_done) struct hf_buf more = HF_BUF_INIT(16 * HF_KIB);
    size_t index, left_out = 0, of_kind = 0;
    for (size_t i = 0; i < HF_LENGTH(order); i++, of_kind = 0)
        json_array_foreach(checks, index, check)
        {
            if (strcmp(hf_text_at(check, "verdict"), order[i]) != 0)
                continue;
            if (i == 0 || json_array_size(rows) < ROWS_OF_CHECKS) {
                if (!add_check(rows, check, err))
                    return false;
                continue;
            }
            const char *before = of_kind++ > 0 ? "; " : i == 1 ? "Not determined too: " : "Passed too: ";
            if (!hf_buf_printf(&more, err, "%s%s%s", left_out++ > 0 && of_kind == 1 ? ". " : "", before,
                               hf_text_at(check, "title")))
                return false;
        }
    return hf_words_heading(blocks, "What was checked", err) &&
           hf_words_add(blocks,
                        json_pack("{s:s, s:s, s:[{s:s, s:i}, {s:s, s:i, s:b}, {s:s, s:i, s:b}, {s:s, s:i, s:b}, {s:s, "
                                  "s:i}], s:O}",
                                  "type", "table", "caption", "Checks of this attempt", "columns", "title", "Check",
                                  "share", 40, "title", "Looked at", "share", 13, "right", 1, "title", "Bad", "share",
                                  8, "right", 1, "title", "Took", "share", 12, "right", 1, "title", "Verdict", "share",
                                  27, "rows", rows),
                        err) &&
           (left_out == 0 || hf_words_text(blocks, "quiet", err, "%s.", hf_buf_text(&more)));
}

static bool
add_check(json_t *rows, const json_t *check, struct hf_error *err)
{
    char examined[HF_WORDS_BYTES], bad[HF_WORDS_BYTES], took[HF_WORDS_BYTES], verdict[2 * HF_KIB],
        looked_at[2 * HF_WORDS_BYTES];
    const char *said = hf_text_at(check, "verdict"), *reason = hf_text_at(check, "reason");
    const char *place = hf_text_at(json_array_get(hf_at(check, "findings"), 0), "object");
    if (strcmp(said, "failed") == 0)
        snprintf(verdict, sizeof verdict, "\1bad\1FAILED: %.400s%s%.200s", reason, place[0] == '\0' ? "" : " at ",
                 place);
    else if (strcmp(said, "not_determinable") == 0)
        snprintf(verdict, sizeof verdict,
                 "\1warn\1not determined, see below"); // among what is not proven, with its reason
    else
        snprintf(verdict, sizeof verdict, "%s", strcmp(said, "passed") == 0 ? "\1good\1passed" : "\1warn\1not reached");
    const char *number = hf_words_number(hf_at(check, "examined"), examined);
    const int64_t ppm = hf_number_at(check, "coverage_ppm", 1000000);
    if (ppm < 1000000)
        snprintf(looked_at, sizeof looked_at, "%s (%" PRId64 " %%)", number, ppm / 10000);
    else
        snprintf(looked_at, sizeof looked_at, "%s", number);
    return hf_words_row(rows, err, hf_text_at(check, "title"), looked_at, hf_words_number(hf_at(check, "bad"), bad),
                        hf_words_span(hf_at(check, "duration_ms"), took), verdict, NULL);
}

static bool
add_not_proven(json_t *blocks, const json_t *model, struct hf_error *err)
{
    return hf_words_heading(blocks, "What this does not prove", err) &&
           hf_words_add(blocks, json_pack("{s:s, s:O}", "type", "list", "items", hf_at(model, "not_proven")), err);
}

static bool
add_exceptions(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const char *since = hf_text_at(model, "attempt.document.process.unproven_since");
    const json_t *exceptions = hf_at(model, "exceptions"), *exception;
    char when[HF_WORDS_BYTES], text[HF_WORDS_EXCEPTION_BYTES], titles[TITLES_BYTES];
    size_t index;
    if (!hf_words_heading(blocks, "Exceptions", err) ||
        (json_array_size(exceptions) == 0 &&
         !hf_words_text(blocks, "plain", err,
                        "None is accepted: whatever did not pass stands above as it is, and nobody's word makes it "
                        "pass.")))
        return false;
    json_array_foreach(exceptions, index, exception)
    {
        if (!hf_words_text(blocks, strcmp(hf_text_at(exception, "state"), "in_force") == 0 ? "plain" : "warn", err,
                           "%s. It is about: %s. The verdict stays as it is.", hf_words_exception(exception, text),
                           titles_of(exception, model, titles)))
            return false;
    }
    return since[0] == '\0' ||
           hf_words_text(
               blocks, "warn", err,
               "When this was verified, the way this source is backed up had been unproven since the change of "
               "%s (%" PRId64 " of 2 backups made after it were proven by then).",
               hf_words_time(hf_at(model, "attempt.document.process.unproven_since"), when),
               hf_number_at(model, "attempt.document.process.proven_since", 0));
}

/* The titles of the checks it names, as far as there is room. */
static const char *
titles_of(const json_t *exception, const json_t *model, char text[static TITLES_BYTES])
{
    size_t index, at, used = 0;
    json_t *id, *check;
    text[0] = '\0';
    json_array_foreach(hf_at(exception, "checks"), index, id)
    {
        json_array_foreach(hf_at(model, "attempt.document.checks"), at, check)
        {
            if (strcmp(hf_text_at(check, "id"), json_string_value(id)) == 0 && used < TITLES_BYTES)
                used += (size_t)snprintf(text + used, TITLES_BYTES - used, "%s%s", used > 0 ? "; " : "",
                                         hf_text_at(check, "title"));
        }
    }
    return text;
}

static bool
add_controls(json_t *blocks, const json_t *document, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(8 * HF_KIB);
    const json_t *control;
    const char *framework = "";
    size_t index;
    json_array_foreach(hf_at(document, "controls"), index, control)
    {
        const char *verdict = hf_text_at(control, "verdict"), *own = hf_text_at(control, "framework");
        const bool again = strcmp(own, framework) == 0;
        if (!hf_buf_printf(&text, err, "%s%s%s%s",
                           index == 0 ? ""
                           : again    ? ", "
                                      : "; ",
                           again ? "" : own, again ? "" : ": ", hf_text_at(control, "ref")))
            return false;
        if (strcmp(verdict, "passed") != 0 &&
            !hf_buf_printf(&text, err, " (%s)", strcmp(verdict, "failed") == 0 ? "FAILED" : "not shown"))
            return false;
        framework = own;
    }
    return text.length == 0 ||
           (hf_words_heading(blocks, "Controls that this attempt speaks to", err) &&
            hf_words_text(blocks, "plain", err,
                          "%s.%s One attempt is one piece of evidence; the monthly report says what the pieces show "
                          "together.",
                          hf_buf_text(&text),
                          strcmp(hf_text_at(document, "attempt.result"), "passed") == 0
                              ? ""
                              : " The attempt did not pass: single checks speak to these controls, and none is met by "
                                "it."));
}

static bool
add_custody(json_t *blocks, const json_t *model, struct hf_error *err)
{
    const json_t *document = hf_at(model, "attempt.document");
    const char *slot = hf_text_at(document, "restore.key_slot"), *host = hf_text_at(document, "host.name"),
               *chosen = hf_text_at(document, "key.chosen");
    char when[HF_WORDS_BYTES];
    return hf_words_heading(blocks, "Who, where, with what", err) &&
           hf_words_text(
               blocks, "plain", err,
               "Asked for by %s, %s. Unwrapped through key slot %s%s. Sandbox level %s (at least %s is asked "
               "for), network %s, copy kept in %s scratch. Stored data sealed with %s. Holdfast %s%s%s; server "
               "in the sandbox %s.",
               hf_text_at(document, "people.requested_by"), hf_words_time(hf_at(document, "attempt.started_at"), when),
               slot[0] == '\0' ? "(none)" : slot, strcmp(chosen, "round_robin") == 0 ? ", by turns" : "",
               hf_text_at(document, "sandbox.level")[0] == '\0' ? "none" : hf_text_at(document, "sandbox.level"),
               hf_text_at(document, "sandbox.minimum_level")[0] == '\0' ? "none"
                                                                        : hf_text_at(document, "sandbox.minimum_level"),
               hf_text_at(document, "sandbox.network")[0] == '\0' ? "none" : hf_text_at(document, "sandbox.network"),
               hf_text_at(document, "sandbox.scratch.kind")[0] == '\0' ? "no"
                                                                       : hf_text_at(document, "sandbox.scratch.kind"),
               hf_text_at(document, "backup.cipher"), hf_text_at(document, "head.software.version"),
               host[0] == '\0' ? "" : " on ", host,
               hf_text_at(document, "restore.engine_version")[0] == '\0'
                   ? "did not answer"
                   : hf_text_at(document, "restore.engine_version"));
}

static bool
add_seal(json_t *blocks, const json_t *attempt, struct hf_error *err)
{
    return hf_words_heading(blocks, "Seal", err) &&
           hf_words_text(
               blocks, "plain", err,
               "Evidence %s, entry %" PRId64 " of the ledger, SHA-256 of its content %s. Check it without this "
               "appliance: holdfast evidence verify %.8s\xE2\x80\xA6.json --public-key FILE, with the public key "
               "that was kept since the appliance was set up.",
               hf_text_at(attempt, "evidence"), hf_number_at(attempt, "index", 0),
               hf_text_at(attempt, "content_sha256"), hf_text_at(attempt, "evidence"));
}

static const char *
plain_step(const char *phase)
{
    static const char *const words[][2] = {{"unlock", "Opening the repository"},
                                           {"store", "Looking over the stored objects"},
                                           {"restore", "Restoring the files"},
                                           {"prepare", "Preparing the copy"},
                                           {"recover", "Starting and recovering"},
                                           {"replay", "Replaying the log"},
                                           {"replay_log", "Replaying the stream"},
                                           {"apply_log", "Replaying the binary log"},
                                           {"start", "Starting the server"},
                                           {"prove_log", "Looking over the stored stream"},
                                           {"wait_log", "Waiting for the stream (not counted)"},
                                           {"catch_up", "Catching up (not counted)"},
                                           {"assert", "Asking the owner's questions"},
                                           {"check", "Reading and checking all data"},
                                           {"check_files", "Checking the files at rest"}};
    for (size_t i = 0; i < HF_LENGTH(words); i++)
        if (strcmp(words[i][0], phase) == 0)
            return words[i][1];
    return phase;
}
