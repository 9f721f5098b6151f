/*
 * check_internal.h - what the files behind check.h share
 *
 *   check.c          the vault: its log, then every pack (hash, seals, page lists, tags)
 *   check_container.c  what was moved: containers as a whole
 *   check_keys.c     what opens everything else
 *   check_backup.c   level 2 of a backup: manifest and maps against what the packs hold
 *
 * Packs come first.  What was found broken there is remembered by slab, one bit each and only in packs that
 * have any; the backups' files are then compared with the pack directories, whose tags and CRCs the first
 * round has proven against the pages.  So no tag is kept from one round to the next: memory is the list of
 * one backup's files and their leaves, and the directories that were needed last (hf_check_options.memory_bytes),
 * whatever the size of the vault.
 */
#pragma once
#include <pthread.h>
#include "server/care/check.h"
#include "server/repository/reader.h"

struct checked_pack {
    const struct hf_vault_pack *pack;
    bool broken;             // as a whole: missing, or without a directory
    bool told;               // something was told of it
    size_t slab_count;       // known once its directory was read
    uint8_t *broken_slabs;   // a bit each; NULL: none
    _Atomic uint64_t in_use; // by the backup that is being checked: pages, or leaves and manifest pages
};

/* A container's hash, once somebody has read it. */
struct checked_object {
    bool known, same;
};

struct checked_file {
    char *path;
    struct hf_manifest_file file; // name NULL; leaves in own memory
};

/* One check of one vault.  Workers share it; the damage visitor is called under the lock. */
struct check {
    const struct hf_check_options *options;
    struct hf_repository *repository; // NULL when the vault was handed in
    struct hf_backend *backend;
    struct hf_id vault_id;
    struct hf_vault *vault, *own_vault; // level 2, or handed in
    const struct hf_vault_state *state; // of this vault
    struct hf_vault_state *own_state;   // when there is no vault
    struct hf_check_report *report;
    struct hf_pack_reader *packs; // level 2

    pthread_mutex_t lock;
    size_t next; // pack, then file, to be taken by a worker
    bool failed;
    struct hf_error failure;
    size_t wanted_count; // packs to look at, sorted by id
    struct checked_pack *wanted;
    struct hf_id *used;                // objects in which packs lie, sorted; NULL: not listed yet
    struct checked_object *containers; // beside state->objects; NULL: none was looked at yet

    struct hf_backup *backup; // whose files are being checked
    size_t file_count, file_room;
    struct checked_file *files;
    atomic_bool maps_read; // all leaves of it so far: what is in use can be counted
    struct kept_directories *directories;
};

void check_tell(struct check *check, enum hf_damage_kind kind, const struct hf_id *pack, uint32_t slab,
                const struct hf_id *backup, const char *file, const char *message);
/* What the stored bytes are to blame for; the rest (memory, cancelled) ends the check. */
bool check_is_damage(const struct hf_error *err);
bool check_cancelled(const struct check *check);
void check_fail(struct check *check, const struct hf_error *err); // the first one stays
/* False (UNAVAILABLE) when the whole storage is gone: a disk that was pulled out has lost nothing. */
HF_MUST_CHECK bool check_storage(struct check *check, const struct hf_error *why, struct hf_error *err);
HF_MUST_CHECK bool check_run_workers(struct check *check, void *(*work)(void *), struct hf_error *err);
/* Of a pack: nothing more is looked for where something was told. */
void check_tell_pack(struct check *check, struct checked_pack *checked, enum hf_damage_kind kind, uint32_t slab,
                     const char *message);
/* NULL: not one of those that were looked at. */
struct checked_pack *check_find_pack(const struct check *check, const struct hf_id *pack);

/* check_keys.c: superblock, slots and bundles as they lie there; wants check->repository */
HF_MUST_CHECK bool check_keys_of_repository(struct check *check, struct hf_error *err);
HF_MUST_CHECK bool check_keys_of_vault(struct check *check, struct hf_error *err);
/* check_container.c */
/* Level 1 of a pack that was moved: the hash of its container, which is read once. */
HF_MUST_CHECK bool check_container(struct check *check, struct checked_pack *checked, struct hf_error *err);
/* Level 2, after all packs: the containers in which nothing was found. */
HF_MUST_CHECK bool check_containers(struct check *check, struct hf_error *err);
/* Whether a pack lies in the object of that name. */
bool check_is_used(struct check *check, const struct hf_id *object);

/* check_backup.c */
HF_MUST_CHECK bool check_backup(struct check *check, const struct hf_vault_backup *backup, struct hf_error *err);
void check_backup_done(struct check *check);
