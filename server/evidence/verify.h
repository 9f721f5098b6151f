/*
 * verify.h - checks a piece of evidence with nothing but three files and this program
 *
 * For the auditor: the document, its proof, and the public key as it was printed long before.  No appliance, network
 * or repository is asked, and nothing in document or proof is believed because it says so: the key comes from
 * elsewhere or the answer means nothing.
 *
 * What a verified document means: the holder of the key sealed exactly these bytes, and they are entry `index` of a
 * ledger it signed at `checkpoint_size` entries.  What it does not mean: that the ledger was not forked or rolled back
 * since; for that, compare checkpoints of different times: hold one that was received elsewhere against it.
 *
 * `X.json` is accompanied by `X.proof`.
 */
#pragma once
#include "server/evidence/document.h"

struct hf_evidence_report {
    struct hf_id evidence_id;
    char kind[HF_EVIDENCE_MOST_WORD + 1]; // verify, act or shred
    char created_at[HF_EVIDENCE_MOST_WORD + 1];
    char result[HF_EVIDENCE_MOST_WORD + 1]; // of the attempt; of an act its outcome; "done" of a shredding
    struct hf_id backup_id;                 // none for an act or a shredding
    struct hf_id vault_id;                  // of a shredding
    char state[HF_EVIDENCE_MOST_WORD + 1];  // of the backup after the attempt; else empty
    char origin[HF_KEY_NAME_BYTES];         // whose ledger
    uint8_t key_id[HF_KEY_ID_BYTES];
    uint8_t content_sha256[HF_SHA256_BYTES];
    uint64_t index;            // of the entry, from 0
    uint64_t checkpoint_size;  // entries in the ledger when the proof was made
    uint64_t held_size;        // of the checkpoint that the caller held against it; 0: none
    size_t foreign_signatures; // on the checkpoint, by keys that were not given; not checked
};

/*
 * Checks form, rules, content hash and signature of the document, the signature of the proof's checkpoint, and that
 * the proof leads from the document to it.  Each piece has one valid encoding, so any changed byte is noticed.
 * Errors: CORRUPT says what does not hold; *ret is then left alone.
 */
HF_MUST_CHECK bool hf_evidence_verify(const void *document, size_t document_length, const void *proof,
                                      size_t proof_length, const struct hf_trust *trust, struct hf_evidence_report *ret,
                                      struct hf_error *err);

/* Paths; NULL where there is none. */
struct hf_evidence_files {
    const char *document;
    const char *proof;      // NULL: `document` with ".proof" in place of ".json"
    const char *public_key; // NULL, for a caller that found none: USAGE explains where a key has to come from
    const char *checkpoint; // or NULL: as received at another time or from a witness
};

/*
 * The same for files.  A `checkpoint` is one as it was signed, a witness file (ledger.h), whose newest one counts, or a
 * proof, which then is the proof.  The proof has to lead to the very state that it names.
 * Errors: also NOT_FOUND, those of reading, and USAGE for a checkpoint of a ledger that has the document, but at
 * another size than the proof's.
 */
HF_MUST_CHECK bool hf_evidence_verify_files(const struct hf_evidence_files *files, struct hf_evidence_report *ret,
                                            struct hf_error *err);
