/*
 * sealed_signer.h - the appliance's signing key in the recovery kit, so that a promoted copy can go on with it
 *
 * A key slot alone reads everything and states nothing.  The kit carries the signing key sealed under the root key: who
 * has the kit, one of the keys and the repository (or a copy) is the appliance again; the kit alone gives nothing away.
 *
 *   -----BEGIN HOLDFAST SIGNING KEY-----
 *   lower-case hex, 64 digits a line: an envelope (server/keys/envelope.h, kind 5, generation: of the root key, object:
 *   the repository's id, wrapping key: the root key) around the signing key's file (server/evidence/sign.h)
 *   -----END HOLDFAST SIGNING KEY-----
 *
 * Blanks before and after a line do not count: kits are indented, typed and scanned.
 */
#pragma once
#include "server/repository/repository.h"

#define HF_KIT_MOST (16 * HF_MIB) // bytes of a kit's text

/* The lines above, each ended by a newline.  `path`: the signing key's file.  The repository is unlocked. */
HF_MUST_CHECK bool hf_sealed_signer_add(struct hf_repository *repository, const char *path, struct hf_buf *out,
                                        struct hf_error *err);
/* Where they are in a kit: without the rest of it, which may be long.  USAGE: nowhere, or cut off. */
HF_MUST_CHECK bool hf_sealed_signer_find(const char *kit, const char **ret_at, size_t *ret_length,
                                         struct hf_error *err);
/*
 * Finds them in a kit and writes the signing key's file; an existing one is never replaced.
 * Errors: USAGE: the text has no such lines, or they are no hex; CONFLICT: the root key was replaced since, or it is
 * another repository's; CORRUPT; those of writing.
 */
HF_MUST_CHECK bool hf_sealed_signer_restore(struct hf_repository *repository, const char *kit, const char *path,
                                            struct hf_error *err);
