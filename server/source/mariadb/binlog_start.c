#include "server/source/mariadb/binlog_archive.h"

#include <stdlib.h>

/* A window in which nothing behind `start` was logged at first. */
struct candidate {
    struct hf_window window;
    bool marked;                 // `best` is known
    struct hf_binlog_place best; // the newest mark that has nothing which `start` lacks
    bool reached;                // somewhere behind it all of `start` is there
    int64_t reached_ms;          // commit time of the transaction with which it was; 0: the mark itself has all of it
};

struct search {
    const struct hf_gtid_set *start;
    struct candidate *candidates; // one a window
    size_t count;
    bool seen;
    struct hf_binlog_place oldest; // mark there is
};

/* Looks for the place where a copy's transactions are all there. */
struct reaching {
    const struct hf_gtid_set *start;
    struct candidate *candidate;
    struct hf_gtid_set gtids;
};

static bool look_at_mark(void *context, uint64_t position, const char *text, struct hf_error *err);
static bool look_at_windows(struct hf_archive *archive, const struct hf_timeline_path *path, struct search *search,
                            struct hf_error *err);
static bool visit(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err);
static bool has_all_it_can(const struct hf_gtid_set *logged, const struct hf_gtid_set *start);
static bool choose(const struct search *search, int64_t known_at_ms, const struct candidate **ret,
                   struct hf_error *err);
static bool fail_behind(const struct search *search, struct hf_error *err);
static bool fail_before(const struct search *search, struct hf_error *err);
static void search_done(struct search *search);

bool
hf_binlog_find_start(struct hf_archive *archive, const struct hf_timeline_path *path, const struct hf_gtid_set *start,
                     int64_t known_at_ms, struct hf_binlog_place *ret, struct hf_window *ret_window,
                     struct hf_window *ret_next, struct hf_error *err)
{
    _cleanup_(search_done) struct search search = {.start = start};
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    const struct candidate *chosen;
    if (!hf_archive_windows(archive, path, &windows, &search.count, err))
        return false;
    search.candidates = calloc(search.count + 1, sizeof *search.candidates);
    if (search.candidates == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the windows of a binary log");
    for (size_t i = 0; i < search.count; i++)
        search.candidates[i].window = windows[i];
    if (!hf_archive_marks(archive, path, look_at_mark, &search, err) || !look_at_windows(archive, path, &search, err) ||
        !choose(&search, known_at_ms, &chosen, err) || !hf_binlog_place_copy(&chosen->best, ret, err))
        return false;
    *ret_window = chosen->window;
    *ret_next = (struct hf_window){0};
    if (chosen + 1 < search.candidates + search.count)
        *ret_next = chosen[1].window;
    return true;
}

static bool
look_at_mark(void *context, uint64_t position, const char *text, struct hf_error *err)
{
    struct search *search = context;
    _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
    if (!hf_binlog_place_parse(position, text, &place, err))
        return false;
    if ((!search->seen || position < search->oldest.position) && !hf_binlog_place_copy(&place, &search->oldest, err))
        return false;
    search->seen = true;
    if (!hf_gtid_set_contains_all(search->start, &place.gtids))
        return true;
    for (size_t i = 0; i < search->count; i++) {
        struct candidate *candidate = &search->candidates[i];
        if (position < candidate->window.start || position > candidate->window.whole ||
            (candidate->marked && position <= candidate->best.position))
            continue;
        candidate->marked = true;
        if (!hf_binlog_place_copy(&place, &candidate->best, err))
            return false;
    }
    return true;
}

static bool
look_at_windows(struct hf_archive *archive, const struct hf_timeline_path *path, struct search *search,
                struct hf_error *err)
{
    for (size_t i = 0; i < search->count; i++) {
        struct candidate *candidate = &search->candidates[i];
        _cleanup_(hf_binlog_place_done) struct hf_binlog_place place = {0};
        struct reaching reaching = {.start = search->start, .candidate = candidate};
        if (!candidate->marked)
            continue;
        candidate->reached = hf_gtid_set_contains_all(&candidate->best.gtids, search->start);
        if (candidate->reached)
            continue;
        const bool fine = hf_binlog_place_copy(&candidate->best, &place, err) &&
                          hf_gtid_set_copy(&candidate->best.gtids, &reaching.gtids, err) &&
                          hf_binlog_scan(archive, path, &place, candidate->window.whole, visit, &reaching, err);
        candidate->reached = candidate->reached || has_all_it_can(&reaching.gtids, search->start);
        hf_gtid_set_done(&reaching.gtids);
        if (!fine)
            return false;
    }
    return true;
}

static bool
visit(void *context, const struct hf_binlog_record *record, bool *ret_go_on, struct hf_error *err)
{
    struct reaching *reaching = context;
    if (!record->step->ends || !record->walk->has_gtid)
        return true;
    if (!hf_gtid_set_add(&reaching->gtids, &record->walk->gtid, err))
        return false;
    if (hf_gtid_set_contains(reaching->start, &record->walk->gtid))
        reaching->candidate->reached_ms = record->step->commit_ms;
    reaching->candidate->reached = hf_gtid_set_contains_all(&reaching->gtids, reaching->start);
    *ret_go_on = !reaching->candidate->reached;
    return true;
}

/* Transactions that a server got as a replica and did not log are in its position, and in no domain of its log. */
static bool
has_all_it_can(const struct hf_gtid_set *logged, const struct hf_gtid_set *start)
{
    bool any = false;
    for (size_t i = 0; i < start->count; i++) {
        const struct hf_gtid *one = &start->parts[i].last;
        if (one->flavor == HF_GTID_MARIADB && hf_gtid_set_domain(logged, one->domain) == NULL)
            continue;
        any = true;
        if (!hf_gtid_set_contains(logged, one))
            return false;
    }
    return any;
}

static bool
choose(const struct search *search, int64_t known_at_ms, const struct candidate **ret, struct hf_error *err)
{
    size_t marked = 0, reached = 0;
    const struct candidate *newest = NULL, *in_time = NULL;
    for (size_t i = 0; i < search->count; i++) {
        const struct candidate *candidate = &search->candidates[i];
        marked += candidate->marked;
        reached += candidate->reached;
        if (candidate->reached)
            newest = candidate;
        if (candidate->reached && candidate->reached_ms != 0 && candidate->reached_ms <= known_at_ms)
            in_time = candidate;
    }
    *ret = reached == 1 ? newest : in_time;
    if (*ret != NULL)
        return true;
    if (marked == 0)
        return fail_behind(search, err);
    if (reached == 0)
        return fail_before(search, err);
    return hf_fail(err, HF_ERR_CONFLICT,
                   "the numbers of its last transactions came again in the archived binary log, after a reset") ||
           hf_fail_hint(err, "Name an earlier timeline, or a newer backup.");
}

static bool
fail_behind(const struct search *search, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf ours = HF_BUF_INIT(HF_JOURNAL_MARK_MOST),
                                         theirs = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    if (!search->seen)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive has no binary log");
    if (!hf_gtid_set_format(&search->oldest.gtids, &ours, err) || !hf_gtid_set_format(search->start, &theirs, err))
        return false;
    return hf_fail(err, HF_ERR_NOT_FOUND, "the archived binary log begins at \"%.160s\", behind \"%.160s\"",
                   hf_buf_text(&ours), hf_buf_text(&theirs));
}

static bool
fail_before(const struct search *search, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf theirs = HF_BUF_INIT(HF_JOURNAL_MARK_MOST);
    return hf_gtid_set_format(search->start, &theirs, err) &&
           hf_fail(err, HF_ERR_NOT_FOUND, "the archived binary log ends before \"%.160s\"", hf_buf_text(&theirs));
}

static void
search_done(struct search *search)
{
    for (size_t i = 0; search->candidates != NULL && i < search->count; i++)
        hf_binlog_place_done(&search->candidates[i].best);
    free(search->candidates);
    hf_binlog_place_done(&search->oldest);
}
