/*
 * copy.h - a second place for a repository: sealed objects, verbatim, in the order of the log, without any key
 *
 * A copy holds the same objects under the same names, so that with it alone everything can be listed, checked, restored
 * and rebuilt.  It is read-only (superblock.h: its mark) until it is promoted.
 *
 * Order, for every vault: what an entry names is there, whole and durable, before the entry is.  A run that is killed
 * anywhere leaves an older state of the repository; the next goes on from there.
 *
 *   mark, superblock -> slots, then bundles, then which root key is in force -> evidence
 *     -> for each vault, for each log entry: packs, barrier, entry
 *     -> what the log deleted, or an end of keys, is removed -> mark: synced now
 *
 * Entries whose packs have been deleted or moved since come in one go with the entry that says so, after everything
 * else up to there: in between, for as long as writing some entries takes, backups are listed that lack packs.
 *
 * What is checked.  Log entries: place, chain and signature, before they are written.  Packs: the log's SHA-256 and
 * size, while they are read; with `read_back` again from there.  What lies there already: by content; with `fast` by
 * size, but for the last entry of each log and, of everything, a share that is due: each object has its moment in the
 * window `reread_window_ms`, by its name, and runs that each begin where the one before ended read all within it.  A
 * pack, entry or key slot there that is not what it should be is replaced, once its successor has been read whole, and
 * told of.  Objects that prove nothing by themselves (bundles, evidence) and
 * differ are told of and left: which of the two is wrong is not ours to guess.
 *
 * Refused before anything is written, as CONFLICT: a place that holds something else, another repository, or a
 * repository of its own; a copy whose log is longer than the original's (the original was rolled back) or continues
 * otherwise (both were written to).  A pack that the original lacks or has damaged is told of and left out; everything
 * else goes on.
 *
 * Removal follows the original's log alone, after its last entry is there: objects in which a pack lay once and in
 * which, by that log, none lies any more.  The log's rules keep what counts (log_rules.h): a pack is deleted only when
 * its backup is pruned.  Keys go when the log has put them out of use (KEY, SHRED), or a newer root bundle has, and the
 * original does not have them any more.  Whatever else is missing in the original is not missed here.
 *
 * Known limits.  A key slot that was removed stays in the copy, and opens it, until the next rotation writes a KEY.
 * That the original was rolled back to an entry the copy has, too, cannot be seen here (DESIGN, rollback: heads are
 * witnessed elsewhere).  Two copies into one place at the same time do not harm each other, and waste time.
 */
#pragma once
#include <stdatomic.h>
#include "server/repository/repository.h"

enum hf_copy_problem_kind {
    HF_COPY_SOURCE_DAMAGED, // the original's object is lost or altered: left out
    HF_COPY_REPAIRED,       // the copy's was lost or altered: replaced
    HF_COPY_DIFFERS,        // both are there and differ: left
};
const char *hf_copy_problem_name(enum hf_copy_problem_kind kind); // "source_damaged", "repaired", "differs"

struct hf_copy_problem {
    enum hf_copy_problem_kind kind;
    const char *object;  // its name; borrowed for the call
    const char *message; // a sentence; borrowed for the call
};
typedef void hf_copy_visitor(void *context, const struct hf_copy_problem *problem);

struct hf_copy_options {
    bool make;                 // the place may be an empty or missing folder
    bool fast;                 // what is there already is judged by its size, unless it is due
    int64_t reread_window_ms;  // fast: 0: nothing is due
    int64_t reread_since;      // fast: `now` of the run before; -1: everything is due
    bool read_back;            // what was written is read again and compared
    uint64_t bytes_per_second; // most that is written; 0: as fast as it goes
    int64_t now;
    const atomic_bool *cancel; // or NULL
    hf_copy_visitor *problem;  // or NULL
    void *context;
    _Atomic uint64_t *done, *total; // bytes of packs, for progress; or NULL
};

/* How far a vault's log was copied. */
struct hf_copy_head {
    struct hf_id vault;
    uint64_t sequence;
    uint8_t hash[HF_SHA256_BYTES];
};

struct hf_copy_report {
    bool made;                          // the place was empty
    uint64_t entries, objects, bytes;   // written: log entries; other objects, and the bytes of all
    uint64_t kept, kept_bytes;          // packs that were there already
    uint64_t compared, compared_bytes;  // of those: read there, and found to be what the log says
    uint64_t elapsed_ms;                // the whole run
    uint64_t removed, removed_bytes;    // objects in which no pack lies any more, keys out of use
    uint64_t repaired, damaged, differ; // by enum hf_copy_problem_kind
    enum hf_durability durability;
    size_t head_count;
    struct hf_copy_head *heads; // owned; hf_copy_report_done()
};
void hf_copy_report_done(struct hf_copy_report *report);

/*
 * Copies what `from` (opened for reading, locked or not) has now.  True also when problems were told of; complete when
 * damaged and differ are 0, and then the copy's mark says so.
 */
HF_MUST_CHECK bool hf_repository_copy(struct hf_repository *from, const char *to, const struct hf_copy_options *options,
                                      struct hf_copy_report *ret, struct hf_error *err);

/*
 * Makes a repository of a copy that was opened for reading and unlocked: an EPOCH in every vault, so that whatever the
 * old appliance still writes into its original counts nowhere else, and then the mark goes.  The signer must be known.
 * Open it again for writing.  CONFLICT: it is no copy.
 */
HF_MUST_CHECK bool hf_copy_promote(struct hf_repository *copy, const struct hf_signing *signing, int64_t now,
                                   struct hf_error *err);

struct hf_heal_options {
    bool dry_run;
    const atomic_bool *cancel;
    hf_copy_visitor *problem; // told of each object that was (dry_run: can be) fetched, as REPAIRED, or that cannot
    void *context;
    _Atomic uint64_t *done, *total; // bytes of packs looked at; or NULL
};
struct hf_heal_report {
    uint64_t damaged, healed, healed_bytes; // objects here; of these, those fetched or, in a dry run, whole there
};
/*
 * Looks at every log entry, pack, slot and superblock here (check level 1), and fetches what is missing or altered from
 * `from`, when it is there what the log says.  `to` may be locked.  CONFLICT: another repository, or its log is not
 * the same.  A damaged object is replaced once its successor has been read whole.
 */
HF_MUST_CHECK bool hf_repository_heal(struct hf_repository *to, struct hf_repository *from,
                                      const struct hf_heal_options *options, struct hf_heal_report *ret,
                                      struct hf_error *err);
