/*
 * check.h - judging the store itself, without a database
 *
 * Level 0 looks at names and sizes, level 1 at the hash of every pack (neither needs a key), level 2
 * opens every slab and checks page lists, tags, CRCs, maps, manifests and file digests.  Both ways
 * round: from the log to the store (what is missing?) and from the store to the log (what is nobody's?).
 * Check never deletes, and one damage never hides the next.
 *
 * Level 2 also notices what is well sealed and signed and yet untrue, so that what later work counts with has been
 * seen to be so: a pack that is not of the kind or session its COMMIT means, bytes between slabs, a manifest whose
 * sums, facts or summary (what collection counts with) are not those of its files and maps, pages that are
 * shorter than the file asks for.
 *
 * Memory does not grow with the bytes of the vault (check_internal.h): a list of its packs, of one backup's files,
 * and a bounded number of pack directories.
 */
#pragma once
#include <stdatomic.h>
#include "server/repository/repository.h"

enum hf_damage_kind {
    HF_DAMAGE_MISSING,    // a committed pack is not there
    HF_DAMAGE_SIZE,       // it has another size than the log says
    HF_DAMAGE_ALTERED,    // its hash, a seal, a tag or a digest does not hold
    HF_DAMAGE_LOG,        // the log itself does not read
    HF_DAMAGE_KEYS,       // the superblock, a key slot or a bundle of keys
    HF_DAMAGE_MAP,        // a manifest or map does not read or does not add up
    HF_DAMAGE_UNREADABLE, // the storage gives an error
};
const char *hf_damage_kind_name(enum hf_damage_kind kind);

#define HF_DAMAGE_NO_SLAB 0xffffffffu
struct hf_damage {
    enum hf_damage_kind kind;
    struct hf_id vault;
    struct hf_id pack;   // none when no pack is meant
    uint32_t slab;       // HF_DAMAGE_NO_SLAB: the whole pack
    struct hf_id backup; // none, or the backup whose file is affected
    const char *file;    // NULL, or that file; borrowed for the call
    const char *message; // borrowed for the call
};
typedef void hf_damage_visitor(void *context, const struct hf_damage *damage);

struct hf_check_options {
    int level;                  // 0 to 2
    const struct hf_id *vault;  // NULL: all
    const struct hf_id *backup; // level 2: only what this backup needs; NULL: everything
    const struct hf_id *packs;  // only these, in this order, and no backup's maps; NULL: all
    size_t pack_count;
    bool no_walk;              // leaves out the way from the store to the log
    unsigned workers;          // 0: one for each processor
    size_t memory_bytes;       // level 2: for pack directories that are kept; 0: 96 MiB
    const atomic_bool *cancel; // or NULL
    hf_damage_visitor *damage; // told of each damage, from one thread at a time
    void *context;
    /*
     * Called before each piece of a pack is read, and once a pack was judged (not when it was cancelled in between),
     * from one thread at a time where one worker is asked for; or NULL.  What `pace` waits for everybody waits for.
     */
    void (*pace)(void *context, uint64_t bytes);
    void (*judged)(void *context, const struct hf_id *vault, const struct hf_id *pack, bool sound);
    _Atomic uint64_t *done, *total; // bytes of packs, for progress; or NULL
};

struct hf_check_report {
    uint64_t keys; // slots and bundles
    uint64_t vaults, log_entries, backups, packs, pack_bytes;
    uint64_t slabs, pages, files;   // level 2
    uint64_t orphans, orphan_bytes; // packs that no counting COMMIT names: garbage, or a session under way
    uint64_t damages;
};

/*
 * Also looks at the superblock, every key slot, and (unlocked) every bundle of keys: of the repository with the house
 * vault, or when all vaults are meant, and of each vault with that vault.
 *
 * A pack that is not there while the superblock is not there either is no damage: the storage has gone away, and the
 * check ends with UNAVAILABLE before it takes every pack for lost.
 *
 * True when the check could be carried through; what it found is in the report.  Level 2 wants an
 * unlocked repository (DENIED).
 */
HF_MUST_CHECK bool hf_repository_check(struct hf_repository *repository, const struct hf_check_options *options,
                                       struct hf_check_report *ret, struct hf_error *err);

/* The same for a vault that is open, in a process that holds no other keys.  options->vault is not looked at. */
HF_MUST_CHECK bool hf_vault_check(struct hf_vault *vault, const struct hf_check_options *options,
                                  struct hf_check_report *ret, struct hf_error *err);
