/*
 * backup_base.h - does a backup see every page of its source, or only those that changed since the one before?
 *
 * The session stores what changed in either case.  But a server that summarises its log (PostgreSQL 17) need not even
 * read the rest: then pages are taken from the backup before unread, on the server's word.  So every n-th backup sees
 * them all (the setting full_scan_every), and whatever is not as it should be makes a backup that sees them all.
 *
 * The stored facts have of it, beside those of the engine:
 *   scan {kind ("full", "incremental"), reason (why it was full; null), since_full (backups since the last full one; 0:
 *   this is one), pages_kept (taken unread)}
 */
#pragma once
#include "server/job/worker.h"
#include "server/repository/session.h"
#include "server/source/source.h"

struct hf_backup_build {
    struct hf_backup_base base; // when `possible`
    bool possible;
    int64_t since_full; // of the backup before
    char why[200];      // not possible
    struct hf_buf manifest;
};

/* Looks at the parent that the session has chosen.  What cannot be read is a reason and no error.  NO_MEMORY. */
HF_MUST_CHECK bool hf_backup_build_begin(struct hf_vault *vault, const struct hf_session *session,
                                         const struct hf_source_engine *engine,
                                         const struct hf_source_settings *settings, struct hf_backup_build *ret,
                                         struct hf_error *err);
void hf_backup_build_done(struct hf_backup_build *build);
/* Adds "scan" to the facts. */
HF_MUST_CHECK bool hf_backup_build_describe(const struct hf_backup_build *build, uint64_t pages_kept, json_t *facts,
                                            struct hf_error *err);
