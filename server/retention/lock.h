/*
 * lock.h - when a lock on a backup may change: it only ever grows, and not by crumbs
 *
 * A lock forbids that a backup is pruned and that its packs are deleted before a moment.  It cannot be shortened or
 * taken back.  An extension that adds less than a day, or less than a tenth of what the lock has still to run, changes
 * nothing: a program that renews its locks every minute must not write a log entry and touch every pack each time.
 */
#pragma once
#include <stdint.h>
#include "base/error.h"

#define HF_LOCK_LEAST_MS   INT64_C(86400000)
#define HF_LOCK_LEAST_PART 10

enum hf_lock_change {
    HF_LOCK_NEW,
    HF_LOCK_EXTENDED,
    HF_LOCK_TOO_LITTLE, // stays as it is
};

/*
 * current: when the lock there ends, INT64_MIN for none; one that has ended is none.  Errors: USAGE when `wanted` is
 * past; CONFLICT when it is before the end of the lock there.
 */
HF_MUST_CHECK bool hf_lock_judge(int64_t current, int64_t wanted, int64_t now, enum hf_lock_change *ret,
                                 struct hf_error *err);
