/*
 * restore.h - from a backup to a folder: plan, prove, write each page once
 *
 * The plan reads the whole manifest and every map leaf and looks for every pack before the target is
 * touched (promise 4): what is missing is an error that names it and the files it takes with it.
 * Writing goes leaf by leaf in the order of files; backups store pages in that order, so each slab is
 * opened about once although only a bounded number is kept.  The file digests are checked on the way.
 *
 * A backup of which something is lost is not restored, unless the caller takes it so (`lost`): then everything that is
 * left is written, every page that is not is filled with HF_RESTORE_LOST_MARK, and each is told.  The mark is no valid
 * page for any engine, checksums or not, so that a query meets an error there and never an empty table; zeros would be
 * taken for pages that nobody has used yet.
 *
 * What is written is bytes from a database that may be hostile: names pass hf_path_check, files are
 * made O_EXCL | O_NOFOLLOW below the target's descriptor, permissions lose set-id bits, and tablespaces
 * become folders inside the target (pg_tblspc/<oid>), never links to where they once lay: links only to folders that
 * the caller names (tablespaces.h).
 */
#pragma once
#include <stdatomic.h>
#include "server/care/lost.h"
#include "server/restore/tablespaces.h"

/* Looks at whole pages on their way to the disk, on worker threads; first_page counts from the file's start. */
typedef void hf_restore_page_check(void *context, const char *path, uint64_t file_size, uint64_t first_page,
                                   const uint8_t *pages, size_t length);

/* Adds what the folder needs besides the backup, durably. */
typedef bool hf_restore_finish(void *context, const char *target, struct hf_error *err);

/*
 * A copy that is there already and is to become the backup (delta.h).  `examine` says whether it may: CONFLICT while a
 * server runs on it, or when it is another database than `identity`; NOT_FOUND when there is none.  `unfinished`: an
 * earlier restore onto it was cut off, which the folder says of itself, with its identity.
 */
typedef bool hf_restore_examine(void *context, const char *target, bool unfinished, const char *identity,
                                struct hf_error *err);
struct hf_restore_existing {
    const char *identity;
    hf_restore_examine *examine;
    void *context;
};

#define HF_RESTORE_LOST_MARK                                                                                           \
    "lost: this page could not be read from the repository\n" // again and again, cut at its end

struct hf_restore_options {
    unsigned workers;   // 0: one for each processor
    size_t cache_bytes; // opened slabs kept; 0: 64 MiB
    bool sync;          // fsync files and folders: false only for the scratch of a sandbox
    bool owner;         // give everything to uid and gid
    uid_t uid;
    gid_t gid;
    hf_restore_page_check *page_check; // or NULL
    void *context;
    hf_lost_visitor *lost; // NULL: a loss fails the restore; else it is told, after writing and in order
    void *lost_context;
    const struct hf_tablespace_move *moves; // borrowed; not together with `existing`
    size_t move_count;
    const struct hf_restore_existing *existing; // NULL: the target is empty; not together with `lost`; borrowed
    hf_restore_finish *finish; // called before global/pg_control is there: a server starts on all of it or not at all
    void *finish_context;
    const atomic_bool *cancel;      // or NULL
    _Atomic uint64_t *done, *total; // bytes written, for progress; or NULL
};

struct hf_restore_plan;

struct hf_restore_size {
    uint64_t files, folders;
    uint64_t bytes;        // of all files
    uint64_t stored_pages; // that have to be read
    uint64_t packs;
};

/*
 * Reads manifest and maps; every pack that is needed is there and has the size the log says.
 * Errors: CORRUPT or NOT_FOUND name what is missing and a file that needs it.  With options->lost nothing but the
 * manifest's root has to be there; lists of files that do not read are told here.
 */
HF_MUST_CHECK bool hf_restore_plan(struct hf_vault *vault, const struct hf_id *backup,
                                   const struct hf_restore_options *options, struct hf_restore_plan **ret,
                                   struct hf_restore_size *ret_size, struct hf_error *err);
void hf_restore_plan_freep(struct hf_restore_plan **plan);
struct hf_backup *hf_restore_plan_backup(struct hf_restore_plan *plan);
/* What the manifest says of a file; NULL when the backup has none of that path.  Its name is NULL. */
const struct hf_manifest_file *hf_restore_plan_file(const struct hf_restore_plan *plan, const char *path);

/* Whether the tablespace of this path is restored elsewhere. */
bool hf_restore_plan_is_moved(const struct hf_restore_plan *plan, const char *path);

/* Gives a file beside those of the backup to the owner that the options name, if they name one. */
HF_MUST_CHECK bool hf_restore_give(const struct hf_restore_plan *plan, int fd, const char *path, struct hf_error *err);

struct hf_restore_outcome {
    uint64_t bytes, pages, slabs_opened;
    uint64_t bytes_opened; // plaintext of the slabs that were opened: over bytes, the read amplification
    uint64_t duration_ms;
    uint64_t pages_lost; // filled with the mark
    uint64_t pages_kept,
        removed; // onto an existing copy: pages that lay there already, and entries that the backup has not
};
/*
 * Writes into `target`, which must be missing or an empty folder (CONFLICT otherwise, nothing changed), or the copy
 * that options->existing tells of.
 * After a failure what was written is left for inspection, with no file that makes it look complete:
 * global/pg_control is written last.
 */
HF_MUST_CHECK bool hf_restore_write(struct hf_restore_plan *plan, const char *target, struct hf_restore_outcome *ret,
                                    struct hf_error *err);
