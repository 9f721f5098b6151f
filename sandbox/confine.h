/*
 * confine.h - what a process gives up before it runs the engine
 *
 * In this order: resource limits, capabilities, no_new_privileges, seccomp (all in the sandbox's init), then
 * Landlock (in the engine's own process, so that it cannot signal the init either).  None can be taken back.
 */
#pragma once
#include "base/digest.h"
#include "sandbox/launch.h"

#define HF_CONFINE_HASH_BYTES (2 * HF_SHA256_BYTES + 1)

/*
 * The most descriptors a process may hold: as asked, or what the host's hard limit leaves.  The descriptor of
 * the program has exactly this number: one above what the limit lets anyone make afterwards.
 */
HF_MUST_CHECK bool hf_confine_limits(const struct hf_launch *launch, bool own_users, unsigned *ret_open_files,
                                     struct hf_error *err);
/* Opens the program where it may stay until exec, then lowers the limit beneath it. */
HF_MUST_CHECK bool hf_confine_open_program(const char *path, unsigned open_files, int *ret_fd, struct hf_error *err);

/*
 * Bounding and ambient sets emptied, securebits locked; needs CAP_SETPCAP.  From then on a change of uid keeps the
 * capabilities held, so hf_confine_capabilities() has to follow, which drops them and any hope of new ones.
 */
HF_MUST_CHECK bool hf_confine_bounding_set(struct hf_error *err);
HF_MUST_CHECK bool hf_confine_capabilities(struct hf_error *err);

/*
 * A list of calls that are refused; everything else is allowed, since engines differ from version to version.
 * exec is left for one descriptor.  `sha256` gets the digest of the filter as the kernel has it, in hex: what
 * evidence records.  Errors: UNAVAILABLE.  There is no sandbox without it.
 */
HF_MUST_CHECK bool hf_confine_seccomp(int program_fd, bool inet, char sha256[static HF_CONFINE_HASH_BYTES],
                                      struct hf_error *err);

/* The version of the host's Landlock, 0 where it has none. */
unsigned hf_confine_landlock_version(void);
/* `flat`: the entries are reached where they lie on the host. */
HF_MUST_CHECK bool hf_confine_landlock(const struct hf_launch *launch, bool flat, unsigned version,
                                       struct hf_error *err);
