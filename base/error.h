/*
 * error.h - failures that carry words
 *
 * A backup fails far from its author.  The error says what was being done, to which object, why it
 * failed and, when we know, what to do about it.  A function that can fail returns bool and takes
 * struct hf_error *err last; where finding nothing is a proper answer it returns true and says so
 * through a ret_ parameter.  Messages start in lower case, have no full stop, quote every name, and
 * say "could not" (it may work next time) or "cannot" (it never will).
 */
#pragma once
#include <stdbool.h>
#include "base/attributes.h"

/* What a caller can do about a failure. */
enum hf_error_kind {
    HF_ERR_NONE = 0,
    HF_ERR_USAGE,       // asked for something that cannot be: mend the request
    HF_ERR_NOT_FOUND,   // the named thing does not exist
    HF_ERR_CONFLICT,    // it exists already, or someone is using it
    HF_ERR_DENIED,      // the caller may not do this
    HF_ERR_CORRUPT,     // stored bytes fail their checksum or format: never retried
    HF_ERR_UNAVAILABLE, // network, database or disk is away: worth trying again
    HF_ERR_NO_SPACE,    // a disk or a limit is full: make room, then ask again
    HF_ERR_NO_MEMORY,
    HF_ERR_CANCELLED, // a person or a shutdown asked us to stop
};

#define HF_ERROR_MESSAGE_BYTES 512
#define HF_ERROR_HINT_BYTES    512

/* Lives on the caller's stack and never allocates, so that running out of memory can be reported too. */
struct hf_error {
    enum hf_error_kind kind;
    int system;                           // the errno behind it, or 0
    char message[HF_ERROR_MESSAGE_BYTES]; // could not write pack "7f3a": No space left on device
    char hint[HF_ERROR_HINT_BYTES];       // Free space in the repository.  (whole sentences, or empty)
};

/*
 * These fill *err (which may be NULL: the caller does not care) and return false, so that failing is
 * one line.  hf_fail_errno reads errno, appends ": " and its text, and, for kind NONE, chooses the
 * kind from errno (ENOSPC and EDQUOT: NO_SPACE; ENOENT: NOT_FOUND; EEXIST: CONFLICT; EACCES, EPERM:
 * DENIED; ENOMEM: NO_MEMORY; everything else UNAVAILABLE).  Both empty the hint.
 * hf_fail_within puts context and ": " in front of the message and keeps kind, errno and hint.
 */
bool hf_fail(struct hf_error *err, enum hf_error_kind kind, const char *format, ...) HF_PRINTF(3, 4);
bool hf_fail_errno(struct hf_error *err, enum hf_error_kind kind, const char *format, ...) HF_PRINTF(3, 4);
bool hf_fail_within(struct hf_error *err, const char *format, ...) HF_PRINTF(2, 3);

/* Adds what the reader can do: whole sentences.  Returns false, to end a chain of `return`. */
bool hf_fail_hint(struct hf_error *err, const char *format, ...) HF_PRINTF(2, 3);

/* The compiler is told that they return false, so that it knows which results were set when a call did not fail. */
#define HF_FALSE_AFTER(call)                                                                                           \
    __extension__({                                                                                                    \
        (void)call;                                                                                                    \
        false;                                                                                                         \
    })
#define hf_fail(...)        HF_FALSE_AFTER(hf_fail(__VA_ARGS__))
#define hf_fail_errno(...)  HF_FALSE_AFTER(hf_fail_errno(__VA_ARGS__))
#define hf_fail_within(...) HF_FALSE_AFTER(hf_fail_within(__VA_ARGS__))
#define hf_fail_hint(...)   HF_FALSE_AFTER(hf_fail_hint(__VA_ARGS__))

/* The kind's name in JSON and on pages ("no_space"), and back; unknown names give NONE. */
const char *hf_error_kind_name(enum hf_error_kind kind);
enum hf_error_kind hf_error_kind_from_name(const char *name);
