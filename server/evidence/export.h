/*
 * export.h - a bundle for an auditor: documents, proofs, checkpoint, key, and a verifier that runs without us
 *
 * A new folder (bundle/README.txt says the same to its reader):
 *
 *   README.txt, verify.py   bundle/
 *   public-key              the public line (sign.h) and a newline
 *   checkpoint              as signed (checkpoint.h), the newest when the export began
 *   leaves                  a line an entry of the whole ledger, in its order: evidence id, a blank, the leaf, both in
 *                           hex
 *   documents/<id>.json     as sealed; all entries from the first to the last that was made within the time asked for,
 *                           so that none in between can be left out
 *   proofs/<id>.proof       of each, all leading to that checkpoint
 *   manifest.json           canonical JSON: schema "holdfast.export/v1", from, to, origin, first (index), count,
 *                           files {name: SHA-256 in hex of every file but the manifest's two}
 *   manifest.sig            128 hex digits and a newline: Ed25519 over "holdfast.export/v1", a 0 byte, and
 *                           manifest.json
 *
 * hf_evidence_export() writes all but the last: the signing key is not where foreign bytes are read.
 */
#pragma once
#include "server/evidence/ledger.h"

#define HF_EXPORT_SCHEMA        "holdfast.export/v1"
#define HF_EXPORT_MANIFEST_MOST (16 * HF_MIB) // some 80,000 documents

struct hf_export_report {
    uint64_t entries, first, count; // of the ledger; of the bundle
};

/*
 * `output`: a folder that is missing or empty.  The times are UTC in ms, [from, to).
 * Errors: CONFLICT when there is something in it; NOT_FOUND when nothing was made in that time; CORRUPT when a document
 * that belongs there is missing or does not hold.
 */
HF_MUST_CHECK bool hf_evidence_export(const struct hf_ledger_options *options, int64_t from, int64_t to,
                                      const char *output, struct hf_export_report *ret, struct hf_error *err);
/* Signs the manifest of a bundle. */
HF_MUST_CHECK bool hf_evidence_export_sign(const char *output, struct hf_signer *signer, struct hf_error *err);
