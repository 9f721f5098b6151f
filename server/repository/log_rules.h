/*
 * log_rules.h - which entries of a vault's log count
 *
 * One judge for everybody: who appends an entry asks it first (hf_vault_append), who reads the log asks it again and
 * takes no notice of what is void, and the catalog is told its answer.  It looks at the entries before, at the
 * entry's public part and at its own time, never at a reader's clock nor at the store; so each reader comes to the
 * same answer, with or without keys, for ever.
 *
 * For every kind but EPOCH: the entry's writer epoch is the vault's, that is the one of the last EPOCH that counts (0
 * before the first).  Kinds marked * may, once there was an EPOCH, only come from the appliance that wrote it.
 *
 *   LINEAGE      nothing more (a second one is CORRUPT)
 *   INTENT   *   every parent is a backup that counts and is not pruned; builds_on is an open session of the same
 *                appliance; the vault is not shredded
 *   COMMIT   *   its session is open, of the same appliance, and not a collection; it has a stretch if the session is a
 *                stream's (operation "stream"), and a backup if it is not, whose parent, if any, is one that the
 *                INTENT named; the vault is not shredded
 *   END, ABORT   the session is open, and no open session builds on it; by the appliance of the session or, once there
 *                was an EPOCH, the one that wrote it
 *   EPOCH        its epoch is higher than the vault's, and is the writer epoch of the entry itself
 *   PIN          the backup counts, is not pruned, and this reader has no pin on it; the vault is not shredded
 *   UNPIN        there is such a pin; by the appliance of the pin or, once there was an EPOCH, the one that wrote it
 *   PRUNE    *   each backup counts and is not pruned; no open INTENT names it as a parent; it has no pin; no hold and
 *            no
 *                lock keeps it at the time of the entry.  Or: each stretch counts and is not pruned
 *   CONDEMN  *   each pack is one of a COMMIT that counts, not condemned, not deleted, and the backup or the stretch of
 *                that COMMIT is pruned.  That no other backup needs it the manifests tell: whoever appends it looks
 *                there
 *   DELETE   *   each pack is condemned, and no INTENT but a stream's, and no PIN, from before its CONDEMN is still
 *            open
 *   RELOCATE *   its session is open, of the same appliance, and a collection; each pack is one of a COMMIT that
 *                counts, not condemned, not deleted; each object is new, and holds a pack; each pack goes to an object
 *                listed
 *   HOLD, LOCK   the backup counts and is not pruned; the vault is not shredded
 *   RELEASE  *   the backup has a hold; the one that is named, if one is
 *   KEY      *   its generation is higher than the last one
 *   SHRED    *   no session is open; no backup that is not pruned has a pin, or a hold or lock at the time of the entry
 *   POLICY, VERDICT, GAP, CHECKPOINT   nothing more
 *
 * Lists are not empty and name nothing twice.
 *
 * Why that is enough.  A session takes over bytes only from the backups its INTENT names, and those cannot be
 * pruned while it is open; a reader reads only what it has pinned, likewise.  So what either of them needs is needed by
 * a backup that counts, and stays.  The set of packs that backups need, apart from packs a COMMIT brings, only shrinks:
 * what was not needed when CONDEMN was decided is not needed later.  Whoever was asleep and wakes up finds its
 * session closed or its epoch over: what it writes is void.
 */
#pragma once
#include "server/repository/repository.h"

struct log_ruling {
    bool counts;
    char why[192]; // it does not: backup "..." is pinned by a reader
};

/*
 * Judges the entry that comes after what `state` was read from.  Errors: CORRUPT when its parts do not have the shape
 * of their kind; a void entry of an older epoch is not even looked at.
 */
HF_MUST_CHECK bool log_rules_judge(const struct hf_vault_state *state, const struct hf_log_entry *entry,
                                   struct log_ruling *ret, struct hf_error *err);

/* The ids of a list, sorted; free() them.  CORRUPT when a row is no id (`column` >= 0: a list of lists, its column). */
HF_MUST_CHECK bool log_rules_ids(const json_t *object, const char *member, const char *what, int column,
                                 struct hf_id **ret, size_t *ret_count, struct hf_error *err);

/*
 * What a RELEASE says: *ret_hold is the sequence of one HOLD, 0 for all of the backup's.  CORRUPT: it is not of that
 * shape.
 */
HF_MUST_CHECK bool log_rules_release(const json_t *said, struct hf_id *ret_backup, uint64_t *ret_hold,
                                     struct hf_error *err);
/* Whether it ends that hold. */
bool log_rules_releases(const struct hf_id *backup, uint64_t hold, const struct hf_vault_hold *of);
