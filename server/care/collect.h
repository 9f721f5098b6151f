/*
 * collect.h - making room: removes what nobody needs, and rewrites what is mostly garbage
 *
 * What counts is decided in the log and nowhere else; collection follows it, a step at a time, and every step can be
 * the last one before a crash: what is left is garbage that the next run finds.
 *
 *   sessions of this appliance that have no living writer ─▶ ABORT
 *   packs that no backup needs (the manifests' summaries say) ─▶ CONDEMN ─▶ DELETE ─▶ unlinked
 *   objects of which less than 60 % is live ─▶ INTENT, a container (container.h), RELOCATE, END ─▶ unlinked
 *   (one that the storage has locked waits until that is over; a lock that comes meanwhile goes along to the container)
 *
 * CONDEMN and DELETE stand apart so that a session or a reader from before the CONDEMN can come to its end: what it
 * may still use is deleted by a later run.  An object whose packs were moved waits in the same way.  None of it
 * needs the secret that opens pages: the map key is enough.
 *
 * A backup whose manifest or maps cannot be read could need anything: then nothing of that vault is condemned or
 * moved, and the report says so.
 */
#pragma once
#include <stdatomic.h>
#include "server/repository/repository.h"

struct hf_collect_options {
    const struct hf_signing *signing; // borrowed
    const char *cache_folder;         // where sessions have their locks and notes (session.h); NULL: none is ended here
    int64_t now;
    unsigned live_percent;      // objects below are rewritten; 0: 60
    uint64_t container_bytes;   // about how long a container becomes; 0: HF_CONTAINER_TARGET
    const atomic_bool *cancel;  // borrowed; or NULL
    _Atomic uint64_t *done;     // bytes read and written while moving, for progress; or NULL
    _Atomic uint64_t *total;    // likewise
    const char *_Atomic *phase; // "mark", "move", "remove"; or NULL
};

struct hf_collect_report {
    uint64_t packs, pack_bytes;     // objects removed
    uint64_t uploads, upload_bytes; // staging leftovers removed
    uint64_t kept_open;             // packs of sessions that are still open
    uint64_t sessions_aborted;
    uint64_t condemned, deleted;             // packs, in the log
    uint64_t moved, moved_bytes;             // packs, and the bytes of what they lay in
    uint64_t containers, container_bytes;    // written
    uint64_t waiting, waiting_bytes;         // objects that a session or a reader from before may still use
    uint64_t locked, locked_bytes;           // objects whose removal the storage refused
    uint64_t damaged;                        // objects that were to be moved and are not what the log says: left alone
    char unreadable[HF_ERROR_MESSAGE_BYTES]; // why a vault was left as it is: the last such; "" when none was
};

/*
 * The whole of it, for one vault.  Adds to the report.  A vault that another appliance has taken over is left alone.
 * CONFLICT: another collection of this host is at work on it.
 */
HF_MUST_CHECK bool hf_vault_collect(struct hf_vault *vault, const struct hf_collect_options *options,
                                    struct hf_collect_report *report, struct hf_error *err);
/* Only removes what the log says is deleted, in a vault whose manifests cannot be read any more: a shredded one. */
HF_MUST_CHECK bool hf_vault_collect_shredded(struct hf_repository *repository, const struct hf_id *vault,
                                             struct hf_collect_report *report, struct hf_error *err);
/*
 * The part that needs neither keys nor a log entry, for all vaults: removes staging leftovers of dead writers and
 * objects that the log says nobody needs.  Packs of open sessions stay.
 */
HF_MUST_CHECK bool hf_repository_collect(struct hf_repository *repository, struct hf_collect_report *ret,
                                         struct hf_error *err);
