/*
 * generations.h - objects that are replaced by a further one of a higher number: "<prefix><8 hex digits>"
 *
 * Shared by keys.c (bundles), in_force.c and rotation.c.  An object is never rewritten: a newer one is created beside
 * it, exclusively, and the older ones are removed when nothing needs them any more.
 */
#pragma once
#include "server/storage/backend.h"

#define HF_GENERATION_NAME_BYTES 96

const char *hf_generation_name(const char *prefix, uint32_t generation,
                               char name[static HF_GENERATION_NAME_BYTES]); // returns name
/* The highest that is below `below`; 0: there is none. */
HF_MUST_CHECK bool hf_generation_newest(struct hf_backend *backend, const char *prefix, uint64_t below,
                                        uint32_t *ret_generation, struct hf_error *err);
/* The lowest; 0: there is none. */
HF_MUST_CHECK bool hf_generation_oldest(struct hf_backend *backend, const char *prefix, uint32_t *ret_generation,
                                        struct hf_error *err);
/* Deletes all below `below`, oldest first; or all above `above`, newest first. */
HF_MUST_CHECK bool hf_generation_remove_below(struct hf_backend *backend, const char *prefix, uint32_t below,
                                              struct hf_error *err);
HF_MUST_CHECK bool hf_generation_remove_above(struct hf_backend *backend, const char *prefix, uint32_t above,
                                              struct hf_error *err);
