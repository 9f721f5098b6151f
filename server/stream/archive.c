#include "server/stream/archive.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"

#define REFRESH_TRIES 100

#define ENTRY_EACH (4 * (uint64_t)HF_MIB) // of a journal's log

/* Log bytes of one timeline without a hole, in one place. */
struct run {
    uint32_t timeline;
    uint64_t start, end, whole;
    int64_t first_time, last_time;
    uint64_t commits;
    bool pruned;                     // it was there, and had its time
    struct hf_id pack;               // none: in a journal
    const char *journal;             // borrowed from archive->journals
    size_t first_entry, entry_count; // in archive->entries, in order
};

/* A frame of a journal, one in every few megabytes: reading begins there. */
struct entry {
    uint64_t position, at;
    uint32_t number;
};

/* Where a history file lies. */
struct history {
    uint32_t timeline;
    struct hf_id pack; // none: here
    struct hf_buf text;
};

struct hf_archive {
    struct hf_vault *vault; // borrowed
    char *journal_folder;
    struct hf_pack_reader *packs;
    struct hf_slab_worker *worker;
    const struct hf_vault_state *state; // borrowed from the vault, as of the last refresh
    char **journals;                    // paths, ends with NULL
    struct run *runs;                   // by timeline and start
    size_t run_count;
    struct entry *entries; // those of a run follow each other
    size_t entry_count;
    struct history *histories;
    size_t history_count;
    bool doubtful;
    struct mark *marks; // of journals: those of stretches are in the state
    size_t mark_count;
};

struct mark {
    uint32_t timeline;
    uint64_t position;
    char *text;
};

/* The best mark so far. */
struct mark_search {
    uint64_t most;
    bool found;
    uint64_t position;
    struct hf_buf *out;
};

/* Collects what one journal holds. */
struct gathering {
    struct hf_archive *archive;
    const char *journal;
};

/* Hands the part of a journal's frames that was asked for on. */
struct reading {
    uint32_t timeline;
    uint64_t from, to;
    hf_log_bytes_visitor *visit;
    void *context;
    bool enough;
};

static uint64_t behind_pruned(const struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position);
static uint64_t behind_gap(const struct hf_timeline_path *path, const struct hf_vault_gap *gap, uint64_t position);
static void forget(struct hf_archive *archive);
static bool list_journals(struct hf_archive *archive, struct hf_error *err);
static bool add_stretches(struct hf_archive *archive, struct hf_error *err);
static bool add_journals(struct hf_archive *archive, bool *ret_vanished, struct hf_error *err);
static bool gather_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length,
                         struct hf_error *err);
static struct run *add_run(struct hf_archive *archive, struct hf_error *err);
static bool note_entry(struct hf_archive *archive, struct run *run, const struct hf_frame *frame, struct hf_error *err);
static struct hf_journal_part part_from(const struct hf_archive *archive, const struct run *run, uint64_t position);
static bool add_history(struct hf_archive *archive, uint32_t timeline, const struct hf_id *pack, const void *data,
                        size_t length, struct hf_error *err);
static const struct history *find_history(const struct hf_archive *archive, uint32_t timeline);
static bool add_mark(struct hf_archive *archive, const struct hf_frame *frame, const uint8_t *data, size_t length,
                     struct hf_error *err);
static bool keep_nearest(void *context, uint64_t position, const char *text, struct hf_error *err);
static int by_place(const void *a, const void *b);
static const struct run *run_at(const struct hf_archive *archive, uint32_t timeline, uint64_t position);
static bool grow_window(struct hf_window *window, const struct run *run, const struct hf_timeline_step *step);
static bool read_piece(struct hf_archive *archive, const struct run *run, uint64_t *from, uint64_t to,
                       hf_log_bytes_visitor *visit, void *context, struct hf_error *err);
static bool hand_over_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length,
                            struct hf_error *err);
static bool fail_missing(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t at,
                         struct hf_error *err);

bool
hf_journal_folder(struct hf_vault *vault, char **ret, struct hf_error *err)
{
    const struct hf_id id = hf_vault_id(vault);
    char text[HF_ID_TEXT_BYTES];
    if (asprintf(ret, "%s/journal/%s", hf_backend_place(hf_vault_backend(vault)), hf_id_format(&id, text)) >= 0)
        return true;
    *ret = NULL;
    return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

bool
hf_archive_open(struct hf_vault *vault, const char *journal_folder, struct hf_archive **ret, struct hf_error *err)
{
    _cleanup_(hf_archive_freep) struct hf_archive *archive = calloc(1, sizeof *archive);
    if (archive == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an archive");
    archive->vault = vault;
    if (journal_folder == NULL ? !hf_journal_folder(vault, &archive->journal_folder, err)
                               : (archive->journal_folder = strdup(journal_folder)) == NULL)
        return archive->journal_folder != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an archive");
    if (!hf_vault_pack_reader(vault, &archive->packs, err) || !hf_slab_worker_new(1, &archive->worker, err) ||
        !hf_archive_refresh(archive, err))
        return false;
    *ret = HF_TAKE(archive);
    return true;
}

/* A journal that is gone by the time we read it is in the log by then, but need not be in what we have read of it. */
bool
hf_archive_refresh(struct hf_archive *archive, struct hf_error *err)
{
    bool vanished = true;
    for (int tries = 0; vanished; tries++) {
        if (tries == REFRESH_TRIES)
            return hf_fail(err, HF_ERR_UNAVAILABLE,
                           "could not read the archive: %d times a journal became a pack meanwhile", tries);
        forget(archive);
        if (!list_journals(archive, err) || !hf_vault_read(archive->vault, NULL, NULL, &archive->state, err) ||
            !add_stretches(archive, err) || !add_journals(archive, &vanished, err))
            return hf_fail_within(err, "could not read the archive");
    }
    if (archive->run_count > 0)
        qsort(archive->runs, archive->run_count, sizeof *archive->runs, by_place);
    return true;
}

void
hf_archive_freep(struct hf_archive **archive)
{
    if (*archive == NULL)
        return;
    forget(*archive);
    hf_slab_worker_freep(&(*archive)->worker);
    hf_pack_reader_freep(&(*archive)->packs);
    free((*archive)->journal_folder);
    free(*archive);
    *archive = NULL;
}

bool
hf_archive_doubtful(const struct hf_archive *archive)
{
    return archive->doubtful;
}

uint32_t
hf_archive_newest_timeline(const struct hf_archive *archive)
{
    uint32_t newest = 0;
    for (size_t i = 0; i < archive->run_count; i++)
        newest = archive->runs[i].timeline > newest ? archive->runs[i].timeline : newest;
    for (size_t i = 0; i < archive->history_count; i++)
        newest = archive->histories[i].timeline > newest ? archive->histories[i].timeline : newest;
    return newest;
}

bool
hf_archive_has_history(const struct hf_archive *archive, uint32_t timeline)
{
    return find_history(archive, timeline) != NULL;
}

bool
hf_archive_history(struct hf_archive *archive, uint32_t timeline, struct hf_buf *out, struct hf_error *err)
{
    const struct history *history = find_history(archive, timeline);
    if (history == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive has no history file of timeline %u", timeline);
    if (hf_id_is_none(&history->pack))
        return hf_buf_add(out, history->text.data, history->text.length, err);
    return hf_stretch_history(archive->packs, archive->worker, &history->pack, timeline, out, err);
}

bool
hf_archive_path(struct hf_archive *archive, uint32_t timeline, struct hf_timeline_path *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_TIMELINE_FILE_MOST);
    if (timeline == 1) {
        hf_timeline_path_of_first(ret);
        return true;
    }
    return hf_archive_history(archive, timeline, &text, err) &&
           hf_timeline_path_parse(timeline, text.data, text.length, ret, err);
}

bool
hf_archive_mark(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position, bool *ret_found,
                uint64_t *ret_position, struct hf_buf *out, struct hf_error *err)
{
    struct mark_search search = {.most = position, .out = out};
    if (!hf_archive_marks(archive, path, keep_nearest, &search, err))
        return false;
    *ret_found = search.found;
    if (search.found)
        *ret_position = search.position;
    return true;
}

bool
hf_archive_marks(struct hf_archive *archive, const struct hf_timeline_path *path, hf_mark_visitor *visit, void *context,
                 struct hf_error *err)
{
    const struct hf_vault_state *state = archive->state;
    for (size_t i = 0; i < state->stretch_count; i++) {
        const struct hf_vault_stretch *stretch = &state->stretches[i];
        const struct hf_timeline_step *step = hf_timeline_path_find(path, stretch->timeline);
        for (size_t j = 0; step != NULL && j < stretch->mark_count; j++)
            if (stretch->marks[j].position <= step->end && stretch->marks[j].position >= step->start &&
                hf_vault_state_pack(state, &stretch->pack) != NULL &&
                !visit(context, stretch->marks[j].position, stretch->marks[j].text, err))
                return false;
    }
    for (size_t i = 0; i < archive->mark_count; i++) {
        const struct mark *mark = &archive->marks[i];
        const struct hf_timeline_step *step = hf_timeline_path_find(path, mark->timeline);
        if (step != NULL && mark->position <= step->end && mark->position >= step->start &&
            !visit(context, mark->position, mark->text, err))
            return false;
    }
    return true;
}

bool
hf_archive_windows(struct hf_archive *archive, const struct hf_timeline_path *path, struct hf_window **ret,
                   size_t *ret_count, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = calloc(archive->run_count + 1, sizeof *windows);
    size_t count = 0;
    if (windows == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the windows of an archive");
    for (size_t i = 0; i < archive->run_count; i++) {
        const struct run *run = &archive->runs[i];
        const struct hf_timeline_step *step = hf_timeline_path_find(path, run->timeline);
        if (step == NULL || run->end <= step->start || run->start >= step->end || run->start == run->end || run->pruned)
            continue;
        if (count > 0 && grow_window(&windows[count - 1], run, step))
            continue;
        windows[count] = (struct hf_window){.start = run->start > step->start ? run->start : step->start};
        windows[count].end = windows[count].start;
        (void)!grow_window(&windows[count++], run, step);
    }
    *ret = HF_TAKE(windows);
    *ret_count = count;
    return true;
}

bool
hf_archive_resume(struct hf_archive *archive, const struct hf_timeline_path *path, bool *ret_found,
                  uint64_t *ret_position, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    if (!hf_archive_windows(archive, path, &windows, &count, err))
        return false;
    *ret_found = count > 0;
    for (size_t i = 0; i < count; i++) {
        *ret_position = hf_archive_given_up(archive, path, windows[i].end);
        if (i + 1 < count && *ret_position < windows[i + 1].start)
            break;
    }
    return true;
}

/* One may begin where another ends, in any order. */
uint64_t
hf_archive_given_up(const struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position)
{
    for (;;) {
        uint64_t behind = behind_pruned(archive, path, position);
        for (size_t i = 0; i < archive->state->gap_count; i++)
            behind = behind_gap(path, &archive->state->gaps[i], behind);
        if (behind == position)
            return position;
        position = behind;
    }
}

bool
hf_stream_read(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t from, uint64_t to,
               hf_log_bytes_visitor *visit, void *context, struct hf_error *err)
{
    while (from < to) {
        const struct hf_timeline_step *step = hf_timeline_path_at(path, from);
        const struct run *run = run_at(archive, step->timeline, from);
        if (run == NULL)
            return fail_missing(archive, path, from, err);
        uint64_t until = run->end < step->end ? run->end : step->end;
        until = until < to ? until : to;
        if (!read_piece(archive, run, &from, until, visit, context, err))
            return false;
    }
    return true;
}

/* Log that was there and had its time is no hole.  Runs are in the order of their timelines and positions. */
static uint64_t
behind_pruned(const struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position)
{
    for (size_t i = 0; i < archive->run_count; i++) {
        const struct run *run = &archive->runs[i];
        const struct hf_timeline_step *step = run->pruned ? hf_timeline_path_find(path, run->timeline) : NULL;
        if (step != NULL && run->start <= position && position < run->end && position < step->end)
            position = run->end < step->end ? run->end : step->end;
    }
    return position;
}

/* What a gap says of a branch that the path has left, or never took, is nothing to the path. */
static uint64_t
behind_gap(const struct hf_timeline_path *path, const struct hf_vault_gap *gap, uint64_t position)
{
    const struct hf_timeline_step *first = hf_timeline_path_find(path, gap->from_timeline);
    const struct hf_timeline_step *last = hf_timeline_path_find(path, gap->timeline);
    if (first == NULL || last == NULL || gap->from > first->end || gap->from > position)
        return position;
    const uint64_t to = gap->to < last->end ? gap->to : last->end;
    return to > position ? to : position;
}

static void
forget(struct hf_archive *archive)
{
    for (size_t i = 0; i < archive->history_count; i++)
        hf_buf_done(&archive->histories[i].text);
    for (size_t i = 0; i < archive->mark_count; i++)
        free(archive->marks[i].text);
    free(archive->marks);
    free(archive->histories);
    free(archive->runs);
    free(archive->entries);
    hf_strv_freep(&archive->journals);
    archive->histories = NULL;
    archive->runs = NULL;
    archive->entries = NULL;
    archive->entry_count = 0;
    archive->doubtful = false;
    archive->marks = NULL;
    archive->history_count = archive->run_count = archive->mark_count = 0;
}

static bool
list_journals(struct hf_archive *archive, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (!hf_journal_list(archive->journal_folder, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char *path = hf_path_join(archive->journal_folder, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        free(names[i]);
        names[i] = path;
    }
    archive->journals = HF_TAKE(names);
    return true;
}

static bool
add_stretches(struct hf_archive *archive, struct hf_error *err)
{
    const struct hf_vault_state *state = archive->state;
    for (size_t i = 0; i < state->stretch_count; i++) {
        const struct hf_vault_stretch *stretch = &state->stretches[i];
        if (stretch->source == NULL || (!stretch->pruned && hf_vault_state_pack(state, &stretch->pack) == NULL))
            continue;
        struct run *run = add_run(archive, err);
        if (run == NULL)
            return false;
        *run = (struct run){.timeline = stretch->timeline,
                            .start = stretch->start,
                            .end = stretch->end,
                            .whole = stretch->whole,
                            .first_time = stretch->first_time,
                            .last_time = stretch->last_time,
                            .commits = stretch->commits,
                            .pruned = stretch->pruned,
                            .pack = stretch->pack};
        for (size_t history = 0; !stretch->pruned && history < stretch->history_count; history++)
            if (!add_history(archive, stretch->histories[history], &stretch->pack, NULL, 0, err))
                return false;
    }
    return true;
}

static bool
add_journals(struct hf_archive *archive, bool *ret_vanished, struct hf_error *err)
{
    *ret_vanished = false;
    for (size_t i = 0; archive->journals[i] != NULL; i++) {
        struct gathering gathering = {archive, archive->journals[i]};
        struct hf_journal_ending ending;
        struct hf_error why = {0};
        if (hf_journal_read(archive->journals[i], hf_vault_keys(archive->vault), gather_frame, &gathering, &ending,
                            &why)) {
            archive->doubtful = archive->doubtful || ending.damaged > 0;
            if (ending.damaged > 0)
                hf_log_warning(NULL, "journal \"%s\" has lost %u frames from frame %u on", archive->journals[i],
                               ending.damaged, ending.first_damaged);
            continue;
        }
        *ret_vanished = why.kind == HF_ERR_NOT_FOUND; // sealed and removed since we listed it
        if (*ret_vanished)
            return true;
        if (why.kind != HF_ERR_CORRUPT) {
            if (err != NULL)
                *err = why;
            return false;
        }
        archive->doubtful = true;
        hf_log_warning(&why, "a journal cannot be read; what it held counts as missing");
    }
    return true;
}

static bool
gather_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    const struct gathering *gathering = context;
    struct hf_archive *archive = gathering->archive;
    if (frame->kind == HF_FRAME_HISTORY)
        return add_history(archive, frame->timeline, &HF_ID_NONE, data, length, err);
    if (frame->kind == HF_FRAME_MARK)
        return add_mark(archive, frame, data, length, err);

    struct run *run = archive->run_count > 0 ? &archive->runs[archive->run_count - 1] : NULL;
    if (run == NULL || run->journal != gathering->journal || run->timeline != frame->timeline ||
        run->end != frame->position) {
        if ((run = add_run(archive, err)) == NULL)
            return false;
        *run = (struct run){.timeline = frame->timeline,
                            .start = frame->position,
                            .end = frame->position,
                            .whole = frame->whole,
                            .journal = gathering->journal};
    }
    if (!note_entry(archive, run, frame, err))
        return false;
    run->end += length;
    run->whole = frame->whole > run->whole ? frame->whole : run->whole;
    run->commits += frame->commits;
    if (frame->first_time != 0 && (run->first_time == 0 || frame->first_time < run->first_time))
        run->first_time = frame->first_time;
    if (frame->last_time != 0 && (run->last_time == 0 || frame->last_time > run->last_time))
        run->last_time = frame->last_time;
    return true;
}

/* Room doubles at powers of two. */
static struct run *
add_run(struct hf_archive *archive, struct hf_error *err)
{
    const size_t count = archive->run_count;
    if ((count & (count - 1)) == 0) {
        struct run *grown = reallocarray(archive->runs, count > 0 ? 2 * count : 1, sizeof *grown);
        if (grown == NULL) {
            hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the archive's table");
            return NULL;
        }
        archive->runs = grown;
    }
    return &archive->runs[archive->run_count++];
}

static bool
note_entry(struct hf_archive *archive, struct run *run, const struct hf_frame *frame, struct hf_error *err)
{
    if (run->entry_count > 0 && frame->position - archive->entries[archive->entry_count - 1].position < ENTRY_EACH)
        return true;
    struct entry *grown = reallocarray(archive->entries, archive->entry_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the archive's table");
    archive->entries = grown;
    if (run->entry_count++ == 0)
        run->first_entry = archive->entry_count;
    grown[archive->entry_count++] = (struct entry){frame->position, frame->at, frame->number};
    return true;
}

/* The last frame at or before the position that we know the place of. */
static struct hf_journal_part
part_from(const struct hf_archive *archive, const struct run *run, uint64_t position)
{
    struct hf_journal_part part = {0};
    for (size_t i = run->first_entry; i < run->first_entry + run->entry_count; i++)
        if (archive->entries[i].position <= position)
            part = (struct hf_journal_part){.at = archive->entries[i].at, .number = archive->entries[i].number};
    return part;
}

static bool
add_history(struct hf_archive *archive, uint32_t timeline, const struct hf_id *pack, const void *data, size_t length,
            struct hf_error *err)
{
    if (find_history(archive, timeline) != NULL)
        return true;
    struct history *grown = reallocarray(archive->histories, archive->history_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the archive's timelines");
    archive->histories = grown;
    struct history *history = &grown[archive->history_count];
    *history = (struct history){.timeline = timeline, .pack = *pack, .text = HF_BUF_INIT(HF_TIMELINE_FILE_MOST)};
    if (length > 0 && !hf_buf_add(&history->text, data, length, err))
        return false;
    archive->history_count++;
    return true;
}

static const struct history *
find_history(const struct hf_archive *archive, uint32_t timeline)
{
    for (size_t i = 0; i < archive->history_count; i++)
        if (archive->histories[i].timeline == timeline)
            return &archive->histories[i];
    return NULL;
}

static bool
add_mark(struct hf_archive *archive, const struct hf_frame *frame, const uint8_t *data, size_t length,
         struct hf_error *err)
{
    struct mark *grown = reallocarray(archive->marks, archive->mark_count + 1, sizeof *grown);
    if (grown == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the archive's marks");
    archive->marks = grown;
    char *text = strndup((const char *)data, length);
    if (text == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the archive's marks");
    grown[archive->mark_count++] = (struct mark){frame->timeline, frame->position, text};
    return true;
}

static bool
keep_nearest(void *context, uint64_t position, const char *text, struct hf_error *err)
{
    struct mark_search *search = context;
    if (position > search->most || (search->found && position < search->position))
        return true;
    search->found = true;
    search->position = position;
    hf_buf_clear(search->out);
    return hf_buf_add_text(search->out, text, err);
}

static int
by_place(const void *a, const void *b)
{
    const struct run *left = a, *right = b;
    if (left->timeline != right->timeline)
        return left->timeline < right->timeline ? -1 : 1;
    return (left->start > right->start) - (left->start < right->start);
}

/* Of those that hold the byte the one that reaches farthest. */
static const struct run *
run_at(const struct hf_archive *archive, uint32_t timeline, uint64_t position)
{
    const struct run *best = NULL;
    for (size_t i = 0; i < archive->run_count; i++) {
        const struct run *run = &archive->runs[i];
        if (run->timeline == timeline && run->start <= position && position < run->end && !run->pruned &&
            (best == NULL || run->end > best->end))
            best = run;
    }
    return best;
}

/* Adds a run that begins inside the window or right behind it; false when there is a hole between. */
static bool
grow_window(struct hf_window *window, const struct run *run, const struct hf_timeline_step *step)
{
    const uint64_t start = run->start > step->start ? run->start : step->start;
    const uint64_t end = run->end < step->end ? run->end : step->end;
    if (start > window->end)
        return false;
    if (end > window->end) {
        window->end = end;
        window->timeline = run->timeline;
    }
    const uint64_t whole = run->whole < end ? run->whole : end;
    window->whole = whole > window->whole ? whole : window->whole;
    window->commits += run->commits;
    if (run->first_time != 0 && (window->first_time == 0 || run->first_time < window->first_time))
        window->first_time = run->first_time;
    if (run->last_time != 0 && (window->last_time == 0 || run->last_time > window->last_time))
        window->last_time = run->last_time;
    return true;
}

/* *from moves on; it stops short when the journal became a pack meanwhile: the archive is then read anew. */
static bool
read_piece(struct hf_archive *archive, const struct run *run, uint64_t *from, uint64_t to, hf_log_bytes_visitor *visit,
           void *context, struct hf_error *err)
{
    struct reading reading = {run->timeline, *from, to, visit, context, false};
    struct hf_journal_part part = part_from(archive, run, *from);
    struct hf_journal_ending ending;
    struct hf_error why = {0};
    _cleanup_(hf_closep) int fd = -1;
    if (run->journal == NULL) {
        *from = to;
        return hf_stretch_read(archive->packs, archive->worker, &run->pack, reading.from, to, visit, context, err);
    }
    if (!hf_file_open(run->journal, &fd, NULL, &why)) {
        if (why.kind == HF_ERR_NOT_FOUND)
            return hf_archive_refresh(archive, err);
        if (err != NULL)
            *err = why;
        return false;
    }
    part.enough = &reading.enough;
    if (!hf_journal_read_fd(fd, run->journal, hf_vault_keys(archive->vault), &part, hand_over_frame, &reading, &ending,
                            err))
        return false;
    *from = reading.from;
    return reading.from == to || hf_fail(err, HF_ERR_CORRUPT, "journal \"%s\" has changed", run->journal);
}

static bool
hand_over_frame(void *context, const struct hf_frame *frame, const uint8_t *data, size_t length, struct hf_error *err)
{
    struct reading *reading = context;
    const uint64_t end = frame->position + length;
    if (frame->kind != HF_FRAME_LOG || frame->timeline != reading->timeline || frame->position > reading->from ||
        end <= reading->from || reading->from >= reading->to)
        return true;
    const uint64_t until = end < reading->to ? end : reading->to, from = reading->from;
    reading->from = until;
    reading->enough = until == reading->to;
    return reading->visit(reading->context, frame->timeline, from, data + (from - frame->position),
                          (size_t)(until - from), err);
}

/* Why the byte at `at` is not there, and where the archive goes on. */
static bool
fail_missing(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t at, struct hf_error *err)
{
    _cleanup_(hf_freep) struct hf_window *windows = NULL;
    size_t count;
    char from[HF_LSN_TEXT_BYTES], to[HF_LSN_TEXT_BYTES];
    const uint32_t timeline = path->steps[path->count - 1].timeline;
    if (behind_pruned(archive, path, at) > at)
        return hf_fail(err, HF_ERR_NOT_FOUND,
                       "the log at %s of timeline %u was removed by the source's rules of retention",
                       hf_lsn_format(at, from), timeline);
    if (!hf_archive_windows(archive, path, &windows, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (windows[i].start <= at)
            continue;
        if (i == 0)
            return hf_fail(err, HF_ERR_CORRUPT, "the archive of timeline %u begins at %s, behind %s", timeline,
                           hf_lsn_format(windows[i].start, to), hf_lsn_format(at, from));
        return hf_fail(err, HF_ERR_CORRUPT, "the archive of timeline %u has a gap from %s to %s", timeline,
                       hf_lsn_format(windows[i - 1].end, from), hf_lsn_format(windows[i].start, to));
    }
    if (count == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the archive has no log of timeline %u", timeline);
    return hf_fail(err, HF_ERR_NOT_FOUND, "the archive of timeline %u ends at %s", timeline,
                   hf_lsn_format(windows[count - 1].end, to));
}
