/*
 * secret.h - keys and passwords: locked in memory, wiped, never printed
 *
 * Memory comes from libsodium's guarded heap: not swapped, not in core dumps, with guard pages.
 */
#pragma once
#include "base/buf.h"

struct hf_secret {
    uint8_t *bytes; // NULL when empty
    size_t length;
};

HF_MUST_CHECK bool hf_secret_init(struct hf_secret *secret, size_t length, struct hf_error *err);   // zeros
HF_MUST_CHECK bool hf_secret_random(struct hf_secret *secret, size_t length, struct hf_error *err); // from the system
HF_MUST_CHECK bool hf_secret_copy(struct hf_secret *secret, const void *bytes, size_t length, struct hf_error *err);
void hf_secret_done(struct hf_secret *secret); // wipes and frees; empty is fine

/*
 * Reads a secret file: regular, at most `most` bytes, owned by us or root, not readable by group or
 * others.  One trailing line end is dropped when `text`.
 * Errors: DENIED names owner or mode and the chmod that mends it; NOT_FOUND; NO_SPACE.
 */
HF_MUST_CHECK bool hf_secret_read_file(struct hf_secret *secret, const char *path, size_t most, bool text,
                                       struct hf_error *err);

/* Once, first thing in main(): starts libsodium, turns core dumps and ptrace off. */
HF_MUST_CHECK bool hf_secrets_setup(struct hf_error *err);
