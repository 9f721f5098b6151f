/*
 * staging.h - files on their way into a local repository (private to backend_local.c and its helpers)
 *
 * A file is written in a staging folder of the same file system and moved to its name when it is whole
 * and durable: vaults/<vault id>/staging for names in a vault, staging/ at the root for all others.  Its
 * writer holds an exclusive flock() on it, which ends with the process, however that ends: so the sweeper
 * can tell what is still being written from what was left behind.
 *
 *   open -> write..., seal -> publish or replace -> done
 *              \----------------------------------> done, which leaves nothing behind
 */
#pragma once
#include "server/storage/local_tree.h"

struct hf_staged {
    int fd;                          // open for writing, locked; -1: none
    int folder;                      // the staging folder
    char name[HF_OBJECT_NAME_BYTES]; // its name there, "" once it was moved
};
#define HF_STAGED_NONE ((struct hf_staged){.fd = -1, .folder = -1})

/*
 * Makes a file for object `object` ("" for none).  Its name in the staging folder is `name`, or a fresh id
 * for NULL.  CONFLICT: a file of that name is being written, or was left behind.
 */
HF_MUST_CHECK bool hf_staged_open(const struct hf_tree *tree, const char *object, const char *name,
                                  struct hf_staged *ret, struct hf_error *err);
/* No more writing: read-only, and its bytes on the disk. */
HF_MUST_CHECK bool hf_staged_seal(struct hf_staged *staged, const char *object, struct hf_error *err);

enum hf_staged_outcome { HF_STAGED_PUBLISHED, HF_STAGED_TAKEN, HF_STAGED_FAILED };

/*
 * Moves the file to `name` in folder `target`, unless that exists (TAKEN); of any number that try, one
 * succeeds.  FAILED leaves errno.  The lock is kept until done.  Syncs nothing.
 */
enum hf_staged_outcome hf_staged_publish(struct hf_staged *staged, int target, const char *name);
/* The same, but an older file of that name gives way.  False leaves errno. */
HF_MUST_CHECK bool hf_staged_replace(struct hf_staged *staged, int target, const char *name);

/* Closes, and removes what was not moved: what _cleanup_() calls. */
void hf_staged_done(struct hf_staged *staged);

/* Removes from all staging folders what no living process holds. */
HF_MUST_CHECK bool hf_staged_sweep(const struct hf_tree *tree, uint64_t *ret_objects, uint64_t *ret_bytes,
                                   struct hf_error *err);

/* hf_backend_probe() of backend.h, but for the locks: races for a name, tries the sync calls, names the file system. */
HF_MUST_CHECK bool hf_staging_probe(const struct hf_tree *tree, struct hf_backend_report *ret, struct hf_error *err);
