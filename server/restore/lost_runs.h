/*
 * lost_runs.h - the pages that a restore could not write, gathered by many threads, told in order
 *
 * 24 bytes a run, and at most HF_LOST_RUNS_MOST of them: who loses more than that restores another backup.
 */
#pragma once
#include "base/error.h"

#define HF_LOST_RUNS_MOST (4u << 20)

struct hf_lost_run {
    uint64_t file; // its number in the plan
    uint64_t first_page, pages;
};
struct hf_lost_runs {
    size_t count, room;
    struct hf_lost_run *runs;
};

/* Called under the caller's lock.  NO_SPACE: there are too many. */
HF_MUST_CHECK bool hf_lost_runs_add(struct hf_lost_runs *runs, uint64_t file, uint64_t first_page, uint64_t pages,
                                    struct hf_error *err);
/* Puts them into the order of files and pages; neighbours become one. */
void hf_lost_runs_settle(struct hf_lost_runs *runs);
void hf_lost_runs_done(struct hf_lost_runs *runs);
