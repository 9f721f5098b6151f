/*
 * session.h - writing one backup: from bytes in order to a COMMIT
 *
 * The caller (one or two threads) hands files over from front to back; the session cuts them into
 * pages, tags them on worker threads, compares the tags with the parent backup's, gathers what
 * changed into slabs, compresses, seals and writes packs, and builds complete maps.
 *
 *   caller ─ spans ─▶ workers: page check, tag, CRC ─▶ assembler, in order: compare, gather, map
 *                     workers: compress, seal       ─▶ writer: packs
 *
 * Nothing of it exists for anybody until hf_session_commit() returns true: then all packs and the log
 * entry are on stable storage (promise 2).  A session that is freed without a commit has ended with ABORT
 * when that was possible, and leaves packs that collection removes.
 *
 * Memory is bounded by hf_session_options.memory_bytes plus the parent's file index, whatever the
 * size of the backup.
 */
#pragma once
#include <stdatomic.h>
#include "server/repository/repository.h"
#include "server/repository/tag_cache.h"

struct hf_session;
struct hf_session_file; // a file being written

/*
 * Looks at whole pages of one file on a worker thread: the engine's own page checksums.  `first_page`
 * counts from the file's start; the last page may be short.  Must be thread safe; cannot fail.
 */
typedef void hf_session_page_check(void *context, void *file_context, uint64_t first_page, const uint8_t *pages,
                                   size_t length);

/* A stored slab (or a whole pack) that is not to be relied on: its pages count as changed and are stored anew. */
#define HF_HEAL_WHOLE_PACK 0xffffffffu
struct hf_heal {
    struct hf_id pack;
    uint32_t slab;
};

struct hf_session_options {
    const char *source;                // the source's name, for the COMMIT
    const char *operation;             // "backup"
    const struct hf_signing *signing;  // borrowed for the session's life
    const char *cache_folder;          // where tag caches lie, or NULL: none is read or written
    unsigned workers;                  // 0: one for each processor, at least 2
    int zstd_level;                    // 0: 1
    bool prove_slabs;                  // open each slab again before it counts
    size_t memory_bytes;               // for spans and slabs in flight; 0: 64 MiB
    uint64_t note_bytes;               // stored since the last note of what is there (session_partial.h); 0: 256 MiB
    unsigned ageing_percent;           // pages in slabs below this live share are stored again; 0: 40
    unsigned ageing_budget_percent;    // of the backup's pages at most; 0: 10
    hf_session_page_check *page_check; // or NULL
    void *page_check_context;
    const atomic_bool *cancel;  // borrowed; looked at before every span; or NULL
    const struct hf_heal *heal; // borrowed for the call: what is known to be lost or damaged
    size_t heal_count;
};

/*
 * Begins: reads the log, chooses the parent (the newest counting backup of the vault, NULL parent when
 * there is none), builds on what a suspended or killed session left, ends other sessions this appliance left open (ABORT),
 * writes INTENT.
 * CONFLICT: another process of this host writes to the vault.  The lock lies in the cache folder: without one
 * nobody is kept out, and what was left open stays open.
 */
HF_MUST_CHECK bool hf_session_begin(struct hf_vault *vault, const struct hf_session_options *options,
                                    struct hf_session **ret, struct hf_error *err);
struct hf_id hf_session_id(const struct hf_session *session);
struct hf_id hf_session_backup_id(const struct hf_session *session);
/* None when everything is stored anew; *ret_why then says why in a few words ("first backup", "no tag cache: ..."). */
struct hf_id hf_session_parent(const struct hf_session *session, const char **ret_why);

struct hf_session_file_info {
    const char *path; // hf_path_check
    enum hf_file_kind kind;
    uint8_t page_log2;
    uint32_t mode;
    int64_t modified_at;
    void *check_context; // NULL: the page check does not look at this file
};

/*
 * Several files may be open at once, each written by one thread.  Paths must not come twice.
 * NO_SPACE: so many are open that all spans could be half full, and everybody would wait for ever.
 */
HF_MUST_CHECK bool hf_session_file_begin(struct hf_session *session, const struct hf_session_file_info *info,
                                         struct hf_session_file **ret, struct hf_error *err);
/* Blocks only while too much is in flight.  An earlier failure of any thread is reported here. */
HF_MUST_CHECK bool hf_session_file_write(struct hf_session_file *file, const void *data, size_t length,
                                         struct hf_error *err);
/*
 * The next `pages` pages are those that the parent's file has at the same place, and are taken from there by reference,
 * unread.  Only when hf_session_can_keep(), at the border of a page, and within hf_session_file_parent_pages().
 */
HF_MUST_CHECK bool hf_session_file_keep(struct hf_session_file *file, uint64_t pages, struct hf_error *err);
/* Whole pages of the same size that the parent's file has; 0: there is none. */
uint64_t hf_session_file_parent_pages(const struct hf_session_file *file);
/* False, and why in a few words, when every page has to be seen: no parent, damage to be healed, a cut-off session. */
bool hf_session_can_keep(const struct hf_session *session, const char **ret_why);
HF_MUST_CHECK bool hf_session_file_end(struct hf_session_file **file, struct hf_error *err);
HF_MUST_CHECK bool hf_session_folder(struct hf_session *session, const char *path, uint32_t mode,
                                     struct hf_error *err); // "" is the top
HF_MUST_CHECK bool hf_session_link(struct hf_session *session, const char *path, const char *target,
                                   struct hf_error *err);

/* Waits until every file ended so far has been digested; then hf_session_file_find answers for them. */
HF_MUST_CHECK bool hf_session_flush(struct hf_session *session, struct hf_error *err);
struct hf_session_file_result {
    uint64_t size;
    uint32_t crc32c;
    uint8_t digest[HF_FILE_DIGEST_BYTES];
};
HF_MUST_CHECK bool hf_session_file_find(struct hf_session *session, const char *path,
                                        struct hf_session_file_result *ret, struct hf_error *err); // NOT_FOUND

struct hf_session_counts {        // any thread may look at any time
    _Atomic uint64_t bytes_taken; // handed over by the caller
    _Atomic uint64_t pages;
    _Atomic uint64_t pages_stored; // new or changed
    _Atomic uint64_t pages_aged;   // of those: stored again because their slab was thin
    _Atomic uint64_t pages_healed; // of those: stored again because their slab is lost
    _Atomic uint64_t pages_zero;
    _Atomic uint64_t pages_kept; // taken from the parent unread
    _Atomic uint64_t files;
    _Atomic uint64_t stored_bytes; // written to packs
};
const struct hf_session_counts *hf_session_counts(const struct hf_session *session);

struct hf_session_outcome {
    struct hf_id backup;
    uint64_t sequence;
    uint64_t files, logical_bytes, stored_bytes;
    uint64_t data_packs, map_packs;
    char no_tags[160]; // why the tag cache could not be written, so that the next backup has to make it anew; or ""
};
/*
 * Flushes, writes manifest and maps, syncs packs and folders, appends COMMIT, writes the tag cache.
 * facts: canonical JSON object kept in manifest and COMMIT (server/source/source.h says what is in it).
 * Frees the session in any case; after a failure nothing of the backup counts, unless the hint says otherwise: a
 * COMMIT whose sync failed may stand in the log.  NO_SPACE: the packs are gone again, and the hint says what to do.
 */
HF_MUST_CHECK bool hf_session_commit(struct hf_session **session, const json_t *facts, struct hf_session_outcome *ret,
                                     struct hf_error *err);
/* Stops everything, removes the packs, writes ABORT (a reason of [a-z_]). */
void hf_session_abort(struct hf_session **session, const char *reason);
/*
 * For a source that failed, while the store is well: keeps what is stored, so that the next session of this appliance
 * stores only what is missing (session_partial.h says what lies where).  The log hears nothing: the session stays
 * open.  False: it was aborted with that reason, since there is nothing worth keeping (an earlier session that was
 * cut off got as far or further and is kept instead), or no folder to note it in, or it could not be kept.
 */
bool hf_session_suspend(struct hf_session **session, const char *reason);
void hf_session_freep(struct hf_session **session); // aborts with reason "unfinished"
