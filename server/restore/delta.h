/*
 * delta.h - a restore onto a copy that is there already: what is equal stays, what differs is written, the rest goes
 *
 *     examine -> mark unfinished -> take global/pg_control away -> remove what the backup has not
 *             -> per leaf: tags of what lies there against the backup's -> (restore.c writes what differs)
 *             -> ... -> global/pg_control -> the mark goes
 *
 * Between the second and the last step no server starts on the folder, whatever happens to us.  The mark is a file at
 * its top, HF_DELTA_MARK, which holds these bytes and nothing else:
 *
 *     A restore onto this folder by Holdfast was not finished: no server starts on it.  Run the restore again.
 *     identity <the database's, as its vault has it>
 *
 * so that a restore that was cut off can be repeated although the folder cannot tell any more which database it is.  It
 * is locked (flock) while a restore is at work.
 *
 * The backup's tags come from the pack directories: no page is opened that is not needed.  A page whose tag is equal is
 * the backup's: the tag is keyed.
 */
#pragma once
#include "server/restore/restore.h"

#define HF_DELTA_MARK "holdfast_restore_unfinished"

struct hf_delta;

/*
 * `target` is the folder, open as `folder`.  Refuses it unless it holds the database it should (CONFLICT), nothing
 * changed; then marks it.  Backup and descriptor are borrowed until hf_delta_freep().
 */
HF_MUST_CHECK bool hf_delta_begin(const struct hf_restore_existing *existing, struct hf_backup *backup,
                                  const char *target, int folder, struct hf_delta **ret, struct hf_error *err);
void hf_delta_freep(struct hf_delta **delta); // the mark stays
/* Removes what the backup has not, and what has another kind there: a link where it has a folder, and so on. */
HF_MUST_CHECK bool hf_delta_sweep(struct hf_delta *delta, const struct hf_restore_plan *plan, uint64_t *ret_removed,
                                  struct hf_error *err);
/* Opens the file that is there for reading and writing: *ret -1 when there is none that can be built on. */
HF_MUST_CHECK bool hf_delta_open_file(struct hf_delta *delta, const char *path, int *ret, struct hf_error *err);
/*
 * Which pages of a leaf lie in the file already: same[i] for leaf->pages of them, `file_bytes` being the file's right
 * length, which it has.  Any threads, each with its worker and its own scratch of HF_DELTA_SCRATCH bytes.
 */
#define HF_DELTA_SCRATCH (1 * HF_MIB + HF_LEAF_PAGES * (HF_TAG_BYTES + sizeof(struct hf_page_check)))
HF_MUST_CHECK bool hf_delta_compare(struct hf_delta *delta, struct hf_slab_worker *worker, const struct hf_leaf *leaf,
                                    int fd, uint64_t first_page, uint64_t file_bytes, uint8_t *scratch, bool *same,
                                    struct hf_error *err);
/* After everything is there and on the disk: the mark goes. */
HF_MUST_CHECK bool hf_delta_end(struct hf_delta *delta, struct hf_error *err);
