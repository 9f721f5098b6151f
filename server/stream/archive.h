/*
 * archive.h - all log of a stream that there is: what lies in packs, and what lies in the journal
 *
 * The vault log says which stretches are in packs; the folder of journals has what came after (journal.h).
 * Together they cover a timeline's path (timeline.h) in one or more windows.  Between windows there is a gap: it is
 * in the vault log when it is known to be for good.
 *
 * An archive is what it was when it was last read; it reads while a receiver writes.  One thread.
 */
#pragma once
#include "server/stream/stretch.h"
#include "server/stream/timeline.h"

struct hf_archive;

/* Where a vault's journals lie when nobody says otherwise: <repository>/journal/<vault id>.  free() it. */
HF_MUST_CHECK bool hf_journal_folder(struct hf_vault *vault, char **ret, struct hf_error *err);

/*
 * Reads log and journals.  journal_folder NULL: the usual one.  The vault is borrowed and must be one with keys.
 * A journal that cannot be read at all is named in a warning, and what it held counts as missing.
 */
HF_MUST_CHECK bool hf_archive_open(struct hf_vault *vault, const char *journal_folder, struct hf_archive **ret,
                                   struct hf_error *err);
HF_MUST_CHECK bool hf_archive_refresh(struct hf_archive *archive, struct hf_error *err);
void hf_archive_freep(struct hf_archive **archive);

/* A journal could not be read, or has lost frames: what seems to be the end of a timeline may not be its end. */
bool hf_archive_doubtful(const struct hf_archive *archive);

/* The highest timeline of which there is anything; 0: the archive is empty. */
uint32_t hf_archive_newest_timeline(const struct hf_archive *archive);
bool hf_archive_has_history(const struct hf_archive *archive, uint32_t timeline);
/* Adds the history file.  NOT_FOUND. */
HF_MUST_CHECK bool hf_archive_history(struct hf_archive *archive, uint32_t timeline, struct hf_buf *out,
                                      struct hf_error *err);
/* NOT_FOUND: the history file is missing. */
HF_MUST_CHECK bool hf_archive_path(struct hf_archive *archive, uint32_t timeline, struct hf_timeline_path *ret,
                                   struct hf_error *err);

/*
 * The newest mark (journal.h) on a path at or below a position that the archive holds log behind; its text is added to
 * *out.  *ret_found false: there is none.
 */
HF_MUST_CHECK bool hf_archive_mark(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position,
                                   bool *ret_found, uint64_t *ret_position, struct hf_buf *out, struct hf_error *err);
/* Every mark of a path, in no order; borrowed for the call. */
typedef bool hf_mark_visitor(void *context, uint64_t position, const char *text, struct hf_error *err);
HF_MUST_CHECK bool hf_archive_marks(struct hf_archive *archive, const struct hf_timeline_path *path,
                                    hf_mark_visitor *visit, void *context, struct hf_error *err);

/* A part of a path without a hole. */
struct hf_window {
    uint64_t start, end;
    uint64_t whole;                // just behind the last whole record
    uint32_t timeline;             // at its end
    int64_t first_time, last_time; // of commits in it, as far as known; 0: none
    uint64_t commits;
};
/* The windows of a path, in order.  free() the array. */
HF_MUST_CHECK bool hf_archive_windows(struct hf_archive *archive, const struct hf_timeline_path *path,
                                      struct hf_window **ret, size_t *ret_count, struct hf_error *err);
/*
 * Where receiving goes on along a path: at the first hole that the vault log does not say to be for good, else at the
 * end.  *ret_found false: there is nothing of this path.
 */
HF_MUST_CHECK bool hf_archive_resume(struct hf_archive *archive, const struct hf_timeline_path *path, bool *ret_found,
                                     uint64_t *ret_position, struct hf_error *err);

/*
 * Just behind what is not there at `position` of a path and never will be: since the vault log says that it is
 * missing for good, or since it had its time and was pruned.  `position` itself where the vault log says nothing.
 */
uint64_t hf_archive_given_up(const struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t position);

/*
 * Hands over the bytes [from, to) of the path, in order.  NOT_FOUND: `to` is beyond the end of the archive; CORRUPT:
 * there is a gap in between, which is named, or stored bytes are damaged; nothing behind it is handed over.
 */
HF_MUST_CHECK bool hf_stream_read(struct hf_archive *archive, const struct hf_timeline_path *path, uint64_t from,
                                  uint64_t to, hf_log_bytes_visitor *visit, void *context, struct hf_error *err);
