/*
 * rotation.h - keys that are replaced while the repository is in use, and keys that are destroyed
 *
 * Data keys.  A vault gets one more key epoch: a further generation of its bundle, created exclusively and read back,
 * then a KEY entry in its log, then the older generations of the bundle go.  New packs are sealed under the new
 * epoch; the old ones open as before, since a bundle holds all epochs.
 *
 * Root key, from generation g to g + 1:
 *
 *   1 slots      keys/slot-<id> of generation g + 1 around a new root key (hf_slot_add): they open nothing yet
 *   2 bundles    the root bundle and every vault's, sealed under the new key as further generations, each read back
 *   3 in force   keys/in-force-<g + 1> is created exclusively (in_force.h): the new slots open everything, the old ones
 *                nothing
 *   4 logs       a KEY entry in each vault's log
 *   5 clearing   older generations of bundles, then older slots, then older in-force objects
 *
 * Whoever is killed before 3 leaves a repository that the old slots open, from 3 on one that the new slots open.
 * hf_rotation_settle() takes away what was left before 3 and finishes what was left after it; each rotation begins with
 * it.  The objects lie outside write-once storage.
 *
 * The end of a vault.  A SHRED entry first, durable; then every generation of its bundle is destroyed, and what this
 * host keeps to speed up its backups, and the journals of its stream.  A SHRED in the log with a bundle beside it is a
 * shredding that was cut off.
 */
#pragma once
#include "server/repository/repository.h"

struct hf_rotation_state {
    uint32_t in_force;  // generation of the root key that opens the repository
    size_t pending;     // slots of a root key that is not in force yet
    size_t left_over;   // slots of one that is not in force any more
    size_t old_bundles; // vaults that still have older generations of their keys
};
HF_MUST_CHECK bool hf_rotation_look(struct hf_repository *repository, struct hf_rotation_state *ret,
                                    struct hf_error *err);

/* Brings a rotation that was cut off to its end.  The repository is unlocked.  Does nothing when there is nothing. */
HF_MUST_CHECK bool hf_rotation_settle(struct hf_repository *repository, const struct hf_signing *signing, int64_t now,
                                      struct hf_error *err);

/*
 * One more key epoch for a vault.  A vault that is open keeps the keys it has, which stay good: open it again for the
 * new one.
 */
HF_MUST_CHECK bool hf_rotation_add_epoch(struct hf_repository *repository, const struct hf_id *vault,
                                         const struct hf_signing *signing, int64_t now, uint32_t *ret_epoch,
                                         struct hf_error *err);

struct hf_rotation_turn {
    const struct hf_credential *credential; // opens one of the slots of the next generation
    const struct hf_signing *signing;
    const struct hf_id *dropped; // slots in force that need no counterpart of kind and name in the next generation
    size_t dropped_count;
    int64_t now;
};
/*
 * Steps 2 to 5.  *ret_turned true: the new root key is in force and `repository` holds it, whatever the function
 * returns; hf_rotation_settle() then does what is left.
 * Errors: NOT_FOUND, DENIED: no slot of the next generation opens; CONFLICT names a slot without counterpart.
 */
HF_MUST_CHECK bool hf_rotation_make_turn(struct hf_repository *repository, const struct hf_rotation_turn *how,
                                         bool *ret_turned, struct hf_error *err);

struct hf_shred_report {
    uint32_t bundles;     // generations of the vault's keys that were destroyed
    uint32_t cache_files; // tag caches and notes of suspended sessions
    uint32_t journals;    // of its stream: what was received and lay in no pack yet
};
/* After the SHRED entry; cache_folder may be NULL.  A second time finds nothing and is fine. */
HF_MUST_CHECK bool hf_shred_keys(struct hf_backend *backend, const struct hf_id *vault, const char *cache_folder,
                                 struct hf_shred_report *ret, struct hf_error *err);
