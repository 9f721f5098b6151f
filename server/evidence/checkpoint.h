/*
 * checkpoint.h - what travels with a document: the ledger's signed state, and the proof that leads to it
 *
 * Checkpoint (C2SP tlog-checkpoint in a signed note): text, every line ended by one newline:
 *
 *     <origin>                                  the ledger's name: the name of the appliance's signing key
 *     <size>                                    entries in the ledger, decimal without leading zeros
 *     <base64 of the 32-byte root>              the root of RFC 6962 over them (merkle.h)
 *                                               an empty line
 *     — <name> <base64 of key id || signature>  em dash U+2014; the Ed25519 signature over the first three lines
 *                                               with their newlines
 *
 * Up to 16 more signature lines may follow (or stand before it) by keys the reader does not know, such as witnesses:
 * they must be well formed, are counted and not checked, as C2SP asks.  A line by a known key must hold, may stand
 * only once, and one at least there must be.
 *
 * Proof (C2SP tlog-proof), kept next to a document as `<evidence_id>.proof`; without the optional "extra" line:
 *
 *     c2sp.org/tlog-proof@v1
 *     index <number of the entry, from 0>
 *     <base64 of 32 bytes>                      zero or more: the inclusion path, from the leaf's sibling to the root
 *                                               an empty line
 *     <checkpoint, as above>
 *
 * There is one text for one meaning: base64 is the standard alphabet, padded, its spare bits zero; nothing is
 * skipped, trimmed or folded.  Whatever a reader accepts, writing it again gives the same bytes but for the
 * signatures of keys unknown to it.
 */
#pragma once
#include "base/buf.h"
#include "server/evidence/merkle.h"
#include "server/evidence/sign.h"

#define HF_CHECKPOINT_MOST_FOREIGN 16 // signatures by keys we do not know
#define HF_CHECKPOINT_MOST_BYTES   (128 * HF_KIB)
#define HF_PROOF_MOST_BYTES        (HF_CHECKPOINT_MOST_BYTES + 8 * HF_KIB)

/* Keys a reader trusts; the array is borrowed.  A ledger's keys all have its origin as their name. */
struct hf_trust {
    const struct hf_public_key *keys;
    size_t count; // at most HF_TRUST_MOST_KEYS
};

#define HF_TRUST_MOST_KEYS 16

struct hf_checkpoint {
    char origin[HF_KEY_NAME_BYTES];
    uint64_t size;
    struct hf_hash root;
};

struct hf_proof {
    uint64_t index;
    struct hf_merkle_path path;
    struct hf_checkpoint checkpoint;
    size_t foreign_signatures; // counted, not checked
};

/* Adds the signed text to `out`.  The origin must be the signer's name. */
HF_MUST_CHECK bool hf_checkpoint_sign(const struct hf_checkpoint *checkpoint, struct hf_signer *signer,
                                      struct hf_buf *out, struct hf_error *err);

/*
 * Reads a checkpoint and checks its signature.  `what` names it in errors.
 * Errors: CORRUPT for any other form, for a signature that does not hold, and when no key in `trust` signed it.
 */
HF_MUST_CHECK bool hf_checkpoint_open(const void *text, size_t length, const char *what, const struct hf_trust *trust,
                                      struct hf_checkpoint *ret, size_t *ret_foreign, struct hf_error *err);

/* Adds a proof file's text to `out`; the checkpoint is its signed text. */
HF_MUST_CHECK bool hf_proof_format(uint64_t index, const struct hf_merkle_path *path, const void *checkpoint,
                                   size_t checkpoint_length, struct hf_buf *out, struct hf_error *err);

/*
 * Reads a proof file's text and checks the checkpoint in it; whether the path holds is hf_merkle_check_inclusion()'s.
 */
HF_MUST_CHECK bool hf_proof_open(const void *text, size_t length, const char *what, const struct hf_trust *trust,
                                 struct hf_proof *ret, struct hf_error *err);

/* The key of that name and id, or NULL. */
const struct hf_public_key *hf_trust_find(const struct hf_trust *trust, const char *name,
                                          const uint8_t id[static HF_KEY_ID_BYTES]);
