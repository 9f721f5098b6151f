/*
 * repository.h - opening a repository and its vaults
 *
 * A repository is opened in three steps, each of which can do more: by place (levels 0 and 1 of check, no
 * key), unlocked with the root key (everything), and a vault of it (backups of one lineage).
 * This header is what the rest of the server starts from; then session.h writes a backup, reader.h
 * reads one, check.h judges the store.
 */
#pragma once
#include "server/keys/superblock.h"
#include "server/repository/vault_log.h"

struct hf_repository;

struct hf_repository_new {
    const struct hf_credential *credential; // the first slot
    struct hf_slot_options slot;
    const struct hf_signing *signer; // becomes the first signer
    const char *signer_name;
    int64_t now;
};

/*
 * Makes a repository in an empty folder (made when missing): superblock last, so that a half-made one
 * is no repository.  The root key comes back for more slots.  CONFLICT: the folder is not empty.
 */
HF_MUST_CHECK bool hf_repository_create(const char *place, const struct hf_repository_new *how,
                                        struct hf_repository **ret, struct hf_error *err);
/* Without keys.  NOT_FOUND, CONFLICT (a newer format). */
HF_MUST_CHECK bool hf_repository_open(const char *place, enum hf_access access, struct hf_repository **ret,
                                      struct hf_error *err);
/* With a slot; *ret_slot says which opened. */
HF_MUST_CHECK bool hf_repository_unlock(struct hf_repository *repository, const struct hf_credential *credential,
                                        struct hf_slot_info *ret_slot, struct hf_error *err);
void hf_repository_freep(struct hf_repository **repository);

struct hf_backend *hf_repository_backend(struct hf_repository *repository);
struct hf_id hf_repository_id(const struct hf_repository *repository);
/* NULL while locked. */
const struct hf_secret *hf_repository_root_key(const struct hf_repository *repository);
uint32_t hf_repository_root_generation(const struct hf_repository *repository); // of that key: in_force.h
/* For rotation (server/care/rotation.h): whose folder it is, borrowed from the repository. */
const struct hf_superblock *hf_repository_superblock(const struct hf_repository *repository);
/* For rotation too: the root key that is in force from now on; takes it. */
void hf_repository_adopt_root_key(struct hf_repository *repository, uint32_t generation, struct hf_secret *root_key);
const struct hf_root_bundle *hf_repository_signers(const struct hf_repository *repository);
/* Reads the root bundle again (after a signer was added); vaults that are open know the new signers too. */
HF_MUST_CHECK bool hf_repository_reload_signers(struct hf_repository *repository, struct hf_error *err);

/* Ids of the vaults that have a log, the house vault included; free() the array. */
HF_MUST_CHECK bool hf_repository_vaults(struct hf_repository *repository, struct hf_id **ret, size_t *ret_count,
                                        struct hf_error *err);

struct hf_vault;

struct hf_vault_new {
    const char *engine;   // "postgres", "mariadb", "house"
    const char *identity; // system identifier as decimal text; for the house: the repository id
    const char *name;     // of the source at first contact
    const struct hf_signing *signer;
    int64_t now;
};
/* Makes keys and the LINEAGE entry of a new vault; the id is drawn (the house: the repository's id). */
HF_MUST_CHECK bool hf_vault_create(struct hf_repository *repository, const struct hf_vault_new *how,
                                   struct hf_vault **ret, struct hf_error *err);
/*
 * The vault of a lineage, by the keyless hash in its LINEAGE entry.  *ret_found false: there is none yet, or only
 * shredded ones: the lineage then begins anew in another vault.
 */
HF_MUST_CHECK bool hf_vault_find(struct hf_repository *repository, const char *engine, const char *identity,
                                 bool *ret_found, struct hf_id *ret_vault, struct hf_error *err);
/* With keys from the root key.  The log is opened, not read.  NOT_FOUND: it has no keys, as after a SHRED. */
HF_MUST_CHECK bool hf_vault_open(struct hf_repository *repository, const struct hf_id *vault, struct hf_vault **ret,
                                 struct hf_error *err);
/* Without keys: sealed parts stay shut, hf_vault_keys() is NULL.  How a shredded vault is read. */
HF_MUST_CHECK bool hf_vault_open_shut(struct hf_repository *repository, const struct hf_id *vault,
                                      struct hf_vault **ret, struct hf_error *err);
/* Either of the two: shut when it was shredded.  Keys that are missing without a SHRED are an error as ever. */
HF_MUST_CHECK bool hf_vault_open_any(struct hf_repository *repository, const struct hf_id *vault, struct hf_vault **ret,
                                     struct hf_error *err);
/* For a child that was handed only this vault's keys: place, keys, signers. */
HF_MUST_CHECK bool hf_vault_open_with_keys(const char *place, struct hf_vault_keys *keys, // takes the keys
                                           const struct hf_root_bundle *signers, struct hf_vault **ret,
                                           struct hf_error *err);
void hf_vault_freep(struct hf_vault **vault);

struct hf_id hf_vault_id(const struct hf_vault *vault);
struct hf_backend *hf_vault_backend(struct hf_vault *vault);
const struct hf_vault_keys *hf_vault_keys(const struct hf_vault *vault);
struct hf_vault_log *hf_vault_get_log(struct hf_vault *vault);

/* The state that the log adds up to, in memory: small, counts only. */
enum hf_session_state { HF_SESSION_OPEN, HF_SESSION_COMMITTED, HF_SESSION_ENDED, HF_SESSION_ABORTED };

struct hf_vault_session {
    struct hf_id session, builds_on; // the latter none: it started afresh
    enum hf_session_state state;
    bool collects;     // operation "collect"
    bool is_stream;    // its COMMITs bring stretches, and leave it open
    uint64_t sequence; // of its INTENT
    int64_t started_at;
    struct hf_id appliance;
    size_t parent_count;
    struct hf_id *parents; // what it may build on, and therefore stays
};
struct hf_vault_pack {
    struct hf_id pack;
    uint8_t kind;
    uint64_t bytes; // of the pack as it was written, as is the hash
    uint8_t sha256[HF_SHA256_BYTES];
    uint64_t sequence;    // of the COMMIT that brought it
    struct hf_id session; // of that COMMIT
    struct hf_id object;  // where it lies: its own id, or that of a container
    uint64_t moved;       // sequence of the last RELOCATE; 0: none
    uint64_t condemned;   // sequence of the CONDEMN; 0: none
};
struct hf_vault_object { // a container
    struct hf_id object;
    uint64_t bytes;
    uint8_t sha256[HF_SHA256_BYTES];
    uint64_t sequence; // of the RELOCATE that brought it
    uint64_t left;     // sequence of the last RELOCATE that took a pack out of it; 0: none
};
struct hf_vault_backup {
    struct hf_id backup, parent, session;
    int64_t committed_at;
    uint64_t sequence;
    struct hf_id root_pack;
    uint32_t root_slab, root_index;
    uint64_t stored_bytes; // of the packs it brought
    bool pruned;
    int64_t locked_until; // INT64_MIN: never was
    char *source;         // NULL while the vault is shut
    char *facts;          // canonical JSON; NULL while the vault is shut
};
struct hf_vault_pin {
    struct hf_id reader, backup, appliance;
    uint64_t sequence;
    int64_t since;
};
struct hf_vault_hold { // one that was not released
    struct hf_id backup;
    uint64_t sequence;
    int64_t until; // INT64_MAX: until it is released
};
/*
 * A part of a stream, in one pack.  All from `source` on is of no use while the vault is shut: `source` is NULL then.
 */
/* What the engine knew of a position of its stream (server/stream/journal.h). */
struct hf_vault_mark {
    uint64_t position;
    char *text;
};
struct hf_vault_stretch {
    struct hf_id stretch, session, pack;
    int64_t committed_at;
    uint64_t sequence, stored_bytes;
    bool pruned;
    char *source;
    uint32_t timeline;
    uint64_t start, end;           // [start, end)
    uint64_t whole;                // just behind the last whole record
    int64_t first_time, last_time; // of commits in it; 0: none
    uint64_t commits;
    uint8_t sha256[HF_SHA256_BYTES], previous[HF_SHA256_BYTES]; // of its pack; of that of the stretch before
    size_t history_count;
    uint32_t *histories; // timelines whose history file it holds
    size_t mark_count;
    struct hf_vault_mark marks[2]; // one for its beginning, one for its end; or none
};
/* What a stream does not have and never will: from `from` on, up to `to` where it goes on. */
struct hf_vault_gap {
    uint64_t sequence;
    int64_t noticed_at;
    uint32_t from_timeline, timeline;
    uint64_t from, to;
};
struct hf_vault_state {
    char *engine, *identity, *name; // the latter two NULL while the vault is shut
    uint64_t head;                  // last sequence read
    uint8_t head_hash[HF_SHA256_BYTES];
    uint64_t epoch;
    struct hf_id holder;     // whose epoch it is; none before the first EPOCH: every appliance may write
    uint32_t key_generation; // of the last KEY; 0: none
    bool shredded;
    size_t session_count;
    struct hf_vault_session *sessions; // in the order of their INTENTs
    size_t backup_count;
    struct hf_vault_backup *backups; // in the order of their commits, void ones left out
    size_t pack_count, pack_room;
    struct hf_vault_pack *packs; // of counting commits, sorted by id; deleted ones left out
    size_t object_count;
    struct hf_vault_object *objects; // sorted by id; one that holds nothing any more stays in the list
    size_t pin_count;
    struct hf_vault_pin *pins; // open ones
    size_t hold_count;
    struct hf_vault_hold *holds;
    size_t stretch_count;
    struct hf_vault_stretch *stretches; // in the order of their commits, void ones left out
    size_t gap_count;
    struct hf_vault_gap *gaps; // in the order of their entries; none while the vault is shut
};
void hf_vault_state_freep(struct hf_vault_state **state);

/*
 * Reads what is new in the log and returns the sum of all of it.  `visit` (may be NULL) sees each new
 * entry, in order: what the catalog is rebuilt from.  CORRUPT when the log knows newer keys than there are in the
 * store: an older copy of them was put back.
 */
HF_MUST_CHECK bool hf_vault_read(struct hf_vault *vault, hf_log_visitor *visit, void *context,
                                 const struct hf_vault_state **ret, struct hf_error *err);
/* The same without keys, for check levels 0 and 1. */
HF_MUST_CHECK bool hf_vault_read_shut(struct hf_repository *repository, const struct hf_id *vault,
                                      struct hf_vault_state **ret, struct hf_error *err);
const struct hf_vault_backup *hf_vault_state_backup(const struct hf_vault_state *state, const struct hf_id *backup);
const struct hf_vault_pack *hf_vault_state_pack(const struct hf_vault_state *state, const struct hf_id *pack);
/* The stretch that this COMMIT brought, or NULL. */
const struct hf_vault_stretch *hf_vault_state_stretch(const struct hf_vault_state *state, uint64_t sequence);
const struct hf_vault_session *hf_vault_state_session(const struct hf_vault_state *state, const struct hf_id *session);
const struct hf_vault_object *hf_vault_state_object(const struct hf_vault_state *state, const struct hf_id *object);
/* Whether a hold or a lock keeps the backup at that time. */
bool hf_vault_state_held(const struct hf_vault_state *state, const struct hf_id *backup, int64_t at);

/*
 * Writes one entry so that it counts: reads the log, asks the rules (log_rules.h) and then `check` (may be NULL: for
 * what the log alone cannot tell), appends, and starts over when somebody else was faster.  The entry has been read
 * when it returns true.
 * Errors: CONFLICT says which rule stands against it, and nothing was written; what `check` says likewise.  After any
 * other failure the entry may be there or not: reading tells.
 */
typedef bool hf_vault_append_check(void *context, const struct hf_vault_state *state, struct hf_error *err);
HF_MUST_CHECK bool hf_vault_append(struct hf_vault *vault, const struct hf_log_append *append,
                                   const struct hf_signing *signing, hf_vault_append_check *check, void *context,
                                   struct hf_error *err);
/*
 * Whether an entry would count, appended to the log as it was read last.  False with CONFLICT and the reason when not.
 */
HF_MUST_CHECK bool hf_vault_may_append(const struct hf_vault_state *state, const struct hf_log_append *append,
                                       const struct hf_id *appliance, struct hf_error *err);

/*
 * The name of the object in which a pack of the state lies, and what the log says of that object: its size and, where
 * asked for, its SHA-256.
 */
#define HF_PLACE_BYTES 128
const char *hf_vault_state_place(const struct hf_vault_state *state, const struct hf_id *vault,
                                 const struct hf_vault_pack *pack, char name[static HF_PLACE_BYTES],
                                 uint64_t *ret_bytes, const uint8_t **ret_sha256);
/* A pack reader (pack.h) that follows the vault's RELOCATEs.  Borrows the vault; call it after reading the log. */
struct hf_pack_reader;
HF_MUST_CHECK bool hf_vault_pack_reader(struct hf_vault *vault, struct hf_pack_reader **ret, struct hf_error *err);
