#include "server/restore/lost_runs.h"

#include <stdlib.h>

static int compare_runs(const void *a, const void *b);

bool
hf_lost_runs_add(struct hf_lost_runs *runs, uint64_t file, uint64_t first_page, uint64_t pages, struct hf_error *err)
{
    struct hf_lost_run *last = runs->count > 0 ? &runs->runs[runs->count - 1] : NULL;
    if (last != NULL && last->file == file && last->first_page + last->pages == first_page) {
        last->pages += pages;
        return true;
    }
    if (runs->count == HF_LOST_RUNS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %u stretches of pages are lost", HF_LOST_RUNS_MOST);
    if (runs->count == runs->room) {
        const size_t room = runs->room > 0 ? 2 * runs->room : 64;
        struct hf_lost_run *grown = reallocarray(runs->runs, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of lost pages");
        runs->runs = grown;
        runs->room = room;
    }
    runs->runs[runs->count++] = (struct hf_lost_run){file, first_page, pages};
    return true;
}

void
hf_lost_runs_settle(struct hf_lost_runs *runs)
{
    size_t kept = 0;
    if (runs->count > 0)
        qsort(runs->runs, runs->count, sizeof *runs->runs, compare_runs);
    for (size_t i = 0; i < runs->count; i++) {
        struct hf_lost_run *before = kept > 0 ? &runs->runs[kept - 1] : NULL;
        const struct hf_lost_run run = runs->runs[i];
        if (before != NULL && before->file == run.file && before->first_page + before->pages == run.first_page)
            before->pages += run.pages;
        else
            runs->runs[kept++] = run;
    }
    runs->count = kept;
}

void
hf_lost_runs_done(struct hf_lost_runs *runs)
{
    free(runs->runs);
    *runs = (struct hf_lost_runs){0};
}

static int
compare_runs(const void *a, const void *b)
{
    const struct hf_lost_run *left = a, *right = b;
    if (left->file != right->file)
        return left->file < right->file ? -1 : 1;
    return (left->first_page > right->first_page) - (left->first_page < right->first_page);
}
