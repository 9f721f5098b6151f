#include "server/report/controls.h"

#include <string.h>

/* What speaks to a control; each is true or false of a month. */
enum fact {
    COVERED = 1 << 0,    // every day that has passed has a proven backup of every source
    TESTED = 1 << 1,     // of every source at least one attempt passed
    CLOSED = 1 << 2,     // after every failure and every inconclusive attempt a later one passed
    TIERED = 1 << 3,     // every source has its criticality
    SEALED = 1 << 4,     // every backup that was looked at was sealed
    WHOLE = 1 << 5,      // the ledger holds together, and nothing is on record without it
    KEYS = 1 << 6,       // no key drill is overdue
    OBJECTIVES = 1 << 7, // every source has objectives, and none was missed
    GAPLESS = 1 << 8,    // no part of a stream is missing but behind a proven backup
    NEVER = 1 << 9,      // not for us to show
};

static const struct {
    const char *framework, *ref, *title;
    unsigned needs;
    const char *says, *silent;
} controls[] = {
    {"HIPAA", "164.308(a)(7)(ii)(A)", "Data backup plan", COVERED | GAPLESS,
     "Retrievable exact copies: days with a proven backup, gaps of the stream.", "The plan itself, as a document."},
    {"HIPAA", "164.308(a)(7)(ii)(B)", "Disaster recovery plan", TESTED | OBJECTIVES,
     "Full restores that were carried out, with the times they took.", "Who does what, where, on which machines."},
    {"HIPAA", "164.308(a)(7)(ii)(C)", "Emergency mode operation", NEVER, "Nothing.",
     "All of it: how work goes on without the system."},
    {"HIPAA", "164.308(a)(7)(ii)(D)", "Testing and revision", TESTED | CLOSED,
     "Tests with dates, methods, failures, and what passed afterwards.", "That plans were revised; the signed review."},
    {"HIPAA", "164.308(a)(7)(ii)(E)", "Criticality analysis", TIERED,
     "The criticality that the owner gave each source.", "How it was found, and who approved it."},
    {"HIPAA", "164.312(a)(2)(iv), (b), (c)", "Encryption, audit controls, integrity", SEALED | WHOLE,
     "Sealed copies; a ledger that shows any change; checks of every page and index.",
     "Encryption and logging on the database servers."},
    {"SOC 2", "A1.2", "Backup and recovery infrastructure", COVERED | WHOLE,
     "That backups were taken and watched, with every failure.", "Capacity, power, buildings."},
    {"SOC 2", "A1.3", "Recovery plan testing", TESTED | CLOSED | OBJECTIVES,
     "Recovery tests, completeness and integrity of what came back.", "The continuity plan around them."},
    {"ISO 27001", "A.8.13", "Information backup", COVERED | TESTED | KEYS,
     "Copies kept, encrypted and tested regularly; keys that were tried.", "The backup policy; the second place."},
    {"NIST 800-53", "CP-4", "Contingency plan testing", TESTED | CLOSED, "Tests, results, corrective order of events.",
     "The test of the whole plan with its people."},
    {"NIST 800-53", "CP-9, CP-9(1)", "System backup, testing for reliability", COVERED | TESTED | SEALED,
     "Backups, their protection, and the test of each one.", "Backups of software and documents."},
    {"NIST 800-53", "CP-10", "Recovery and reconstitution", TESTED | OBJECTIVES,
     "Recovery to a known state, with its time and the data it would lose.",
     "Reconstitution of the systems around it."},
    {"PCI DSS 4.0.1", "9.4.1.1, 12.10.1", "Backups in secure places; backup in incident plans", SEALED | TESTED,
     "That backups are sealed and can be restored when an incident asks for it.",
     "Where media lie; the incident response plan."},
};

static unsigned gather_facts(const json_t *model);
static unsigned facts_of_source(const json_t *source);
static bool is_closed(const json_t *attempts);

bool
hf_controls_judge(json_t *model, struct hf_error *err)
{
    json_t *list = json_array();
    const unsigned facts = gather_facts(model);
    if (!hf_json_set(model, "controls", list, err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(controls); i++) {
        const unsigned there = controls[i].needs & facts;
        const char *verdict = there == controls[i].needs ? "shown" : there != 0 ? "partly" : "not_shown";
        if (!hf_words_add(list,
                          json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "framework", controls[i].framework, "ref",
                                    controls[i].ref, "title", controls[i].title, "verdict", verdict, "says",
                                    controls[i].says, "silent", controls[i].silent),
                          err))
            return false;
    }
    return true;
}

/* Without sources nothing is shown. */
static unsigned
gather_facts(const json_t *model)
{
    const json_t *sources = hf_at(model, "sources");
    unsigned facts = COVERED | TESTED | CLOSED | TIERED | SEALED | WHOLE | KEYS | OBJECTIVES | GAPLESS;
    size_t index;
    json_t *row;
    if (json_array_size(sources) == 0)
        return 0;
    json_array_foreach(sources, index, row) facts &= facts_of_source(row);
    json_array_foreach(hf_at(model, "keys"), index, row)
    {
        if (json_is_true(hf_at(row, "overdue")))
            facts &= ~(unsigned)KEYS;
    }
    if (json_array_size(hf_at(model, "keys")) == 0)
        facts &= ~(unsigned)KEYS;
    if (strcmp(hf_text_at(model, "ledger.state"), "whole") != 0)
        facts &= ~(unsigned)(WHOLE | TESTED | COVERED);
    return facts;
}

static unsigned
facts_of_source(const json_t *source)
{
    unsigned facts = NEVER - 1;
    size_t index;
    json_t *gap;
    if (hf_number_at(source, "covered_days", 0) < hf_number_at(source, "past_days", 0) ||
        hf_number_at(source, "past_days", 0) == 0)
        facts &= ~(unsigned)COVERED;
    if (hf_number_at(source, "passed", 0) == 0)
        facts &= ~(unsigned)(TESTED | SEALED);
    if (!is_closed(hf_at(source, "failed")) || !is_closed(hf_at(source, "inconclusive")))
        facts &= ~(unsigned)CLOSED;
    if (hf_text_at(source, "known.tier")[0] == '\0')
        facts &= ~(unsigned)TIERED;
    if (hf_number_at(source, "unsupported", 0) > 0)
        facts &= ~(unsigned)WHOLE;
    if (!json_is_integer(hf_at(source, "recover.objective_ms")) ||
        !json_is_integer(hf_at(source, "loss.objective_ms")) || hf_number_at(source, "recover.over", 0) > 0 ||
        hf_number_at(source, "loss.over", 0) > 0 || hf_number_at(source, "recover.count", 0) == 0)
        facts &= ~(unsigned)OBJECTIVES;
    json_array_foreach(hf_at(source, "gaps"), index, gap)
    {
        if (!json_is_true(hf_at(gap, "bounded")))
            facts &= ~(unsigned)GAPLESS;
    }
    return facts;
}

static bool
is_closed(const json_t *attempts)
{
    size_t index;
    json_t *attempt;
    json_array_foreach(attempts, index, attempt)
    {
        if (!json_is_object(hf_at(attempt, "closed_by")))
            return false;
    }
    return true;
}
