/*
 * order.h - how many copies run in sandboxes at once, and which of those that wait is next
 *
 * A copy in a sandbox takes no place of jobs_at_once: it takes memory and a processor of a budget of its own, so that
 * proofs neither hold up backups nor take the machine from whoever else lives on it.
 *
 *   places = the lesser of  sandbox.budget_memory / (sandbox.memory + scratch.memory)  and  sandbox.budget_processors,
 *            at least 1
 *
 * Of those that wait, the first of this list is next; what is equal goes in the order it came:
 *
 *   1  what a person asked for
 *   2  a source that is unproven since a change of how it is backed up (process.h)
 *   3  a source of which nothing is proven
 *   4  a source whose newest backup is unproven
 *   5  the others; in 2 to 5 the source with the newest backup first
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "server/settings/settings.h"

struct hf_job_order {
    bool asked;        // by a person
    bool changed;      // its source is unproven since a change
    bool never_proven; // its source
    bool newest_open;  // the newest backup is neither proven nor found bad
    int64_t newest_at; // when that began, ms since 1970; -1: there is none
};

/* Whether `a` goes before `b`; false when they are equal. */
bool hf_job_goes_before(const struct hf_job_order *a, const struct hf_job_order *b);

struct hf_sandbox_budget {
    unsigned places;     // copies at once
    unsigned processors; // of all of them together
};

/* From the settings, or what this machine has: half of its memory, all of its processors. */
struct hf_sandbox_budget hf_sandbox_budget_of(const struct hf_settings *settings);
/* How many processors each of `copies` may use. */
unsigned hf_sandbox_budget_share(const struct hf_sandbox_budget *budget, unsigned copies);
