/*
 * lock.h - one daemon for a state folder, and where to find it
 *
 * The file <state>/holdfastd.lock is locked (fcntl, F_OFD_SETLK) for as long as the daemon lives, so the kernel
 * releases it however the daemon ends.  What it says is only believed while it is locked:
 *
 *     {"embedded": true, "pid": 4711, "socket": "/..."}
 */
#pragma once
#include <sys/types.h>
#include "base/error.h"

#define HF_LOCK_NAME    "holdfastd.lock"
#define HF_SOCKET_BYTES 108 // of a Unix socket's path, with its NUL: the kernel's limit

struct hf_lock_holder {
    bool embedded;
    pid_t pid;
    char socket[HF_SOCKET_BYTES];
};

/* *ret_fd holds the lock until it is closed.  CONFLICT: another daemon has it, by pid and socket. */
HF_MUST_CHECK bool hf_lock_take(const char *state, const struct hf_lock_holder *holder, int *ret_fd,
                                struct hf_error *err);
/*
 * Who holds it; *ret_held false when nobody does.  CORRUPT when the holder has not finished writing who it is.
 */
HF_MUST_CHECK bool hf_lock_look(const char *state, bool *ret_held, struct hf_lock_holder *ret, struct hf_error *err);
