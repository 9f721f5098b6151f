/*
 * moments.h - what an engine knows of moments behind a backup: one row each
 *
 * Which backups may be the start of a restore to a moment, whether the archived log leads there, and how the copy comes
 * there in the end.  For PostgreSQL the log and the target go into the folder, and the server that is started on it
 * replays (server/source/postgres/replay.h).  For MariaDB it is replayed here, by a server in a sandbox, before the
 * folder is handed over (server/verify/mariadb/apply.h): what is handed over starts where it was told to stop.
 *
 *     takes -> ended_before (in the daemon) -> read -> prove, from one backup after the other (in the worker)
 *           -> write, or replay, whichever there is -> describe
 */
#pragma once
#include "server/job/restore_work.h"

struct hf_moments {
    const char *engine;  // as the facts of backups have it
    const char *options; // that it knows: "--at, --lsn, ... or --latest"

    /* False: this target, or what goes with it, means nothing to the engine. */
    bool (*takes)(const struct hf_restore_target *target);
    /* Whether the facts tell where the target lies; else only the log does. */
    bool (*is_told)(const struct hf_restore_target *target);
    /*
     * Whether the backup with these facts ended before the target, as far as they tell; and when, by the server's
     * clock.
     */
    bool (*ended_before)(const struct hf_restore_target *target, const json_t *facts, bool *ret, int64_t *ret_ended_at,
                         struct hf_error *err);

    /* What a restore needs to know of a backup: into the work.  Also without a moment. */
    bool (*read)(struct hf_restore_work *work, const json_t *facts, struct hf_error *err);
    /*
     * Proves the way from the backup that was read to work->moment, in work->archive.  Called again for an older backup
     * when it failed.  Errors: USAGE: the target lies before the backup's end; CONFLICT: the backup does not lie on the
     * way; NOT_FOUND: the target is not in the archive; CORRUPT: the way is not whole.
     */
    bool (*prove)(struct hf_restore_work *work, const struct hf_restore_options *options, struct hf_error *err);
    void (*done)(struct hf_restore_work *work);

    /*
     * Files for the server that will replay; NULL: the engine has replay().  Called while nothing can start on the
     * folder.
     */
    bool (*write)(struct hf_restore_work *work, const char *folder, struct hf_error *err);
    /* hf_restore_completion.replay, of which the context is the work. */
    bool (*replay)(void *work, const struct hf_restore_completion *completion, const struct hf_sandbox_spec *spec,
                   const void *settings, struct hf_error *err);

    /* Bytes of log that the folder gets besides the backup. */
    uint64_t (*log_bytes)(const struct hf_restore_work *work);
    /* Adds to the target what was proven: from, to, log_bytes, newest_commit_at. */
    bool (*describe)(const struct hf_restore_work *work, json_t *recovery, struct hf_error *err);
};

/* USAGE, with the moments that it knows, when the engine does not take the target; or when nobody has its name. */
HF_MUST_CHECK bool hf_moments_find(const char *engine, const struct hf_restore_target *target,
                                   const struct hf_moments **ret, struct hf_error *err);

/* moments_postgres.c, moments_mariadb.c */
extern const struct hf_moments hf_moments_postgres, hf_moments_mariadb;
