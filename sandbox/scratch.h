/*
 * scratch.h - room for the copy that is about to be proven, and gone afterwards
 *
 * The one place where data lies unsealed (promise 6), so its protection has a name that goes into the evidence:
 * "memory" (never on a disk), "encrypted" (the disk below is dm-crypt) or "plain".  Space is checked before the first
 * byte is written.  The writer fills it from outside, then the sandbox gets it; both see the same path.
 *
 * Each scratch has a lock file beside it.  Who holds no lock is dead, and what it left is swept away.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>
#include "base/error.h"

struct hf_scratch;

struct hf_scratch_options {
    const char *folder; // on disk, existing: where it is made unless it lies in memory
    uint64_t bytes;     // what will be written, growth while the copy runs included
    bool prefer_memory; // a tmpfs, when it fits into free memory with a headroom and would never be swapped out
};

/*
 * Lets this process keep mounts to itself, so that a scratch in memory can be a tmpfs of its own with an exact size,
 * which the kernel takes away with the last process that sees it.  Root only; call it first in main(), before there
 * are threads.  Without it, or when it fails, a scratch in memory is a folder in /dev/shm, without a ceiling.
 */
HF_MUST_CHECK bool hf_scratch_keep_mounts(struct hf_error *err);

/*
 * Makes an empty folder, mode 0700, ours.
 * Owner: the caller, until hf_scratch_freep(), which removes it and all in it.
 * Errors: NO_SPACE names what is free and what is needed, NOT_FOUND, DENIED, NO_MEMORY.
 */
HF_MUST_CHECK bool hf_scratch_open(const struct hf_scratch_options *options, struct hf_scratch **ret,
                                   struct hf_error *err);
void hf_scratch_freep(struct hf_scratch **scratch);

const char *hf_scratch_path(const struct hf_scratch *scratch);
const char *hf_scratch_protection(const struct hf_scratch *scratch); // "memory", "encrypted", "plain"
bool hf_scratch_is_capped(const struct hf_scratch *scratch);         // it cannot grow beyond the bytes asked for

/* Removes what dead processes left in the folder and in /dev/shm. */
HF_MUST_CHECK bool hf_scratch_sweep(const char *folder, size_t *ret_removed, struct hf_error *err);
