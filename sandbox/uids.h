/*
 * uids.h - a uid of its own on the host for each sandbox, from a range that nobody else has
 *
 * What limits a uid (processes, signals, files it owns) then limits one sandbox, and two that run at once cannot touch
 * each other even where a wall fails.  Only root can give processes away, so only root claims.
 *
 * A claim is a lock on the file <HF_UIDS_FOLDER>/<uid>.  The kernel lets go of it with the last process that holds the
 * descriptor, so no claim outlives its owner, however that ends.
 */
#pragma once
#include <sys/types.h>
#include "base/error.h"

#define HF_UIDS_FOLDER "/run/holdfast-uids"
#define HF_UIDS_FIRST  1879100000u // far above those of people, of services and of containers' usual ranges
#define HF_UIDS_COUNT  4096u

/*
 * One that nobody has claimed; its group has the same number.  *ret_lock is closed to let go of it, after the last
 * process and file of that uid are gone.  Not root: its own uid, and *ret_lock -1.
 * Errors: NO_SPACE when all are taken.
 */
HF_MUST_CHECK bool hf_uid_claim(uid_t *ret_uid, int *ret_lock, struct hf_error *err);
