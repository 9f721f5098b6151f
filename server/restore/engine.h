/*
 * engine.h - what a restored folder needs of its engine before a server can start on it: one row for each
 *
 * restore.h writes the files of a backup as they were stored.  For PostgreSQL that is a data directory but for its
 * configuration (configure.h), which goes in before the last file.  A backup of MariaDB is no data directory yet: its
 * log must be applied by a tool of its own that obeys what it finds, so that runs in a sandbox (promise 8), over files
 * that lie in a folder of their own below the target until all of it has been done:
 *
 *     <target>/holdfast_restore_unfinished/...   written by hf_restore_write()
 *        -> complete(): applied, cleaned; replayed to a moment, if one was asked for; given to its owner, synced
 *        -> every entry moved up, the one without which no server starts last; the folder goes
 *
 * What is cut off before that has nothing at its top that a server would start on.
 */
#pragma once
#include <stdatomic.h>
#include "sandbox/sandbox.h"

#define HF_RESTORE_UNFINISHED "holdfast_restore_unfinished"

struct hf_restore_completion;

/*
 * Brings the completed files, which are ours, to a moment behind the backup; afterwards they are ours again.  The spec
 * has limits, level, uid and launcher of the sandbox; settings are those of the engine's server there.
 */
typedef bool hf_restore_replay(void *context, const struct hf_restore_completion *completion,
                               const struct hf_sandbox_spec *spec, const void *settings, struct hf_error *err);

struct hf_restore_completion {
    const char *folder;         // with the files as they were stored, ours
    const char *configuration;  // a folder beside the target, for the source's configuration and an option file of ours
    const char *target;         // where the files will lie at last: for that option file
    const char *server_version; // as the backup's facts have it
    const char *const *packages; // more folders with server binaries, ends with NULL; NULL: the host's only
    const char *table_keys;      // of encrypted tables, as the engine's plugin takes them; or NULL
    const char *launcher;        // holdfast-sandbox; NULL: found
    enum hf_sandbox_level lowest;
    uint64_t memory_bytes; // of the sandbox; 0: its default
    uint64_t phase_ms;     // longest time of one step
    uid_t host_uid;        // of the sandbox, when we are root
    gid_t host_gid;
    uid_t owner_uid; // whom the files belong to at the end
    gid_t owner_gid;
    hf_restore_replay *replay; // NULL: the copy stays where its backup ended
    void *replay_context;
    const atomic_bool *cancel;
};

struct hf_restore_engine {
    const char *name;    // as the facts of backups have it
    const char *product; // as people call it
    const char *owner;   // the account that its packages run the server as
    const char *last;    // the file without which no server starts on the folder
    /*
     * With `complete`: whether this host can.  NOT_FOUND names the package that is missing.  Asked before anything is
     * written.
     */
    bool (*able)(const struct hf_restore_completion *completion, struct hf_error *err);
    /*
     * NULL: the files are complete as they are.  Errors: those of able(); CORRUPT: the tool
     * cannot make a database of these files, or the log does not reach to the backup's end; DENIED from the sandbox.
     */
    bool (*complete)(const struct hf_restore_completion *completion, struct hf_error *err);
};

extern const struct hf_restore_engine hf_restore_postgres, hf_restore_mariadb;

/* NULL for a name nobody has. */
const struct hf_restore_engine *hf_restore_engine_find(const char *name);

/*
 * Makes <target>/holdfast_restore_unfinished's parent: `target` must be missing or an empty folder (CONFLICT).  *ret is
 * the path of the folder to write into, to be freed.
 */
HF_MUST_CHECK bool hf_restore_stage(const char *target, char **ret, struct hf_error *err);
/* Completes what was written there and moves it up. */
HF_MUST_CHECK bool hf_restore_finish_staged(const struct hf_restore_engine *engine,
                                            const struct hf_restore_completion *completion, struct hf_error *err);
