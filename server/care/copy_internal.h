/*
 * copy_internal.h - what the files behind copy.h share
 *
 *   copy.c         the run: which place it is, the order of the steps, the mark, promotion
 *   copy_log.c     a vault's two logs side by side, and what their entries need
 *   copy_vault.c   a vault's packs and entries in order, and what is removed
 *   copy_keys.c    slots and bundles, and the end of those that are out of use
 *   copy_object.c  one object: read, checked, written, read back; small ones compared
 *   heal.c         the way back
 */
#pragma once
#include "server/care/copy.h"
#include "server/repository/log_entry.h"

#define COPY_PIECE_BYTES (4 * HF_MIB)
#define COPY_SMALL_MOST  HF_LOG_ENTRY_MOST // of an object that is held in memory

/* An object as a list shows it. */
struct copy_object {
    char *name;
    uint64_t size;
};
struct copy_listing {
    size_t count, room;
    struct copy_object *objects; // sorted by name
};
HF_MUST_CHECK bool copy_list(struct hf_backend *backend, const char *prefix, struct copy_listing *ret,
                             struct hf_error *err);
const struct copy_object *copy_find(const struct copy_listing *listing, const char *name); // NULL: not there
void copy_listing_done(struct copy_listing *listing);

/* One run of hf_repository_copy(), or of hf_repository_heal(). */
struct copy {
    const struct hf_copy_options *options;
    struct hf_repository *source; // borrowed
    struct hf_backend *from, *to; // borrowed
    struct hf_id repository;
    struct hf_copy_report *report;
    uint64_t started_ns, throttled; // bytes written since: the rate
    uint8_t *piece;                 // COPY_PIECE_BYTES
    bool unsynced;                  // something was finished since the last barrier
    bool collected;                 // the original's packs were moved or deleted under our hands
};
HF_MUST_CHECK bool copy_go_on(const struct copy *copy, struct hf_error *err);
/* Whether what lies there under that name is to be read, and not only looked at. */
bool copy_is_due(const struct copy *copy, const char *name);
void copy_tell(struct copy *copy, enum hf_copy_problem_kind kind, const char *object, const char *message);

/* copy_object.c */

/* A pack, or whatever else the log gives size and hash of. */
struct copy_wanted {
    const char *name;
    uint64_t size;
    const uint8_t *sha256;
};
enum copy_outcome { COPY_WRITTEN, COPY_SOURCE_MISSING, COPY_SOURCE_DAMAGED };
/* Reads it whole, writes it, and, where `over` is set, takes away what has its name just before. */
HF_MUST_CHECK bool copy_transfer(struct copy *copy, const struct copy_wanted *wanted, bool over, enum copy_outcome *ret,
                                 char why[static HF_ERROR_MESSAGE_BYTES], struct hf_error *err);
/* Whether a stored object has that hash; *ret_same false also when it cannot be read to its end. */
HF_MUST_CHECK bool copy_is_same(struct copy *copy, struct hf_backend *at, const struct copy_wanted *wanted,
                                bool *ret_same, struct hf_error *err);
/* *ret_found false: it is not there. */
HF_MUST_CHECK bool copy_read_small(struct hf_backend *at, const char *name, struct hf_buf *bytes, bool *ret_found,
                                   struct hf_error *err);
enum copy_small_kind {
    COPY_PROVES_ITSELF, // superblock, slots: a damaged one is known as such
    COPY_FIXED,         // never changes, and says nothing of its own damage
    COPY_GROWS,         // the older one is the beginning of the newer one
};
/* `there`: what a list says lies at the target, or NULL. */
HF_MUST_CHECK bool copy_small(struct copy *copy, const char *name, enum copy_small_kind kind,
                              const struct copy_object *there, struct hf_error *err);
bool copy_small_sound(const struct copy *copy, const char *name, const struct hf_buf *bytes);

/* copy_log.c */

/* An object that holds packs which count: a pack as it was written, or a container. */
struct copy_stored {
    struct hf_id object;
    uint64_t bytes;
    const uint8_t *sha256; // borrowed from the state
    uint64_t sequence;     // of the entry that names it
};
/* A vault's logs at both places, compared. */
struct copy_vault {
    struct hf_id id;
    struct hf_vault_log_options options; // of the source's log, without keys
    struct hf_vault_state *state;        // what the source's log adds up to
    uint64_t head, there;                // last entry of the source, and of the target
    size_t room;                         // of the four below
    struct hf_log_position *positions;   // [0..head]: the source's log after each entry
    bool *present;                       // [1..head]: the target has that very entry
    bool *damaged;                       // [1..head]: the target has something else under that name
    uint64_t *until;                     // [1..head]: comes together with all entries up to this one
    size_t stored_count;
    struct copy_stored *stored; // by sequence
    size_t past_count;
    struct hf_id *past;     // objects that held packs once, and hold none any more; sorted
    json_t *slots_in_force; // of the last KEY; NULL: none
};
/* Reads both; writes nothing.  CONFLICT: the target is ahead, or continues otherwise. */
HF_MUST_CHECK bool copy_vault_compare(struct copy *copy, const struct hf_id *id, struct copy_vault *ret,
                                      struct hf_error *err);
void copy_vault_done(struct copy_vault *vault);
/* What must be there, by sequence; free() it.  Borrows from the state. */
HF_MUST_CHECK bool copy_stored_objects(const struct hf_vault_state *state, struct copy_stored **ret, size_t *ret_count,
                                       struct hf_error *err);
const char *copy_entry_name(const struct hf_id *vault, uint64_t sequence, char name[static 128]);

/* copy_vault.c */
HF_MUST_CHECK bool copy_vault_packs_and_log(struct copy *copy, const struct copy_vault *vault, struct hf_error *err);
HF_MUST_CHECK bool copy_vault_remove(struct copy *copy, const struct copy_vault *vault, struct hf_error *err);

/* copy_keys.c: slots, all bundles and what is in force; and the end of those the logs put out of use. */
HF_MUST_CHECK bool copy_keys(struct copy *copy, const struct copy_vault *vaults, size_t count, struct hf_error *err);
HF_MUST_CHECK bool copy_keys_remove(struct copy *copy, const struct copy_vault *vaults, size_t count,
                                    struct hf_error *err);
