/*
 * ledger_internal.h - what entering documents (ledger.c), inspecting them (inspect.c) and the witness (witness.c) share
 */
#pragma once
#include "server/evidence/ledger.h"

#define HF_LEDGER_LEAVES           "leaves"
#define HF_LEDGER_CHECKPOINT       "checkpoint"
#define HF_LEDGER_PENDING          "pending"
#define HF_LEDGER_RECORDS_AT_ONCE  256
#define HF_LEDGER_ENTRY_NAME_BYTES 64 // <evidence_id>.proof

struct hf_ledger {
    char *folder;
    int leaves;               // the file; its flock() is the ledger's lock
    struct hf_signer *signer; // borrowed from the caller, or NULL
    struct hf_public_key keys[HF_TRUST_MOST_KEYS];
    struct hf_trust trust; // of keys
    struct hf_merkle tree; // of the entries the checkpoint counts
    struct hf_checkpoint checkpoint;
    struct hf_buf checkpoint_text;
};

/* A ledger with its keys, before any file is looked at; then with `leaves` open, to be locked. */
HF_MUST_CHECK bool hf_ledger_prepare(const struct hf_ledger_options *options, struct hf_ledger **ret,
                                     struct hf_error *err);
HF_MUST_CHECK bool hf_ledger_open_leaves(struct hf_ledger *ledger, struct hf_error *err);
HF_MUST_CHECK bool hf_ledger_lock(struct hf_ledger *ledger, int how, struct hf_error *err); // LOCK_SH or LOCK_EX
void hf_ledger_unlock(struct hf_ledger **ledger);                                           // what _cleanup_() calls

HF_MUST_CHECK bool hf_ledger_read_checkpoint(struct hf_ledger *ledger, struct hf_checkpoint *ret, struct hf_buf *text,
                                             struct hf_error *err);
/* At most HF_LEDGER_RECORDS_AT_ONCE, which must be there. */
HF_MUST_CHECK bool hf_ledger_read_records(struct hf_ledger *ledger, uint64_t first, size_t count,
                                          struct hf_receipt *records, struct hf_error *err);
/* Adds a file of the ledger's folder to `out`, whose limit is `most`. */
HF_MUST_CHECK bool hf_ledger_read_file(struct hf_ledger *ledger, const char *name, size_t most, struct hf_buf *out,
                                       struct hf_error *err);
/* Brings the tree up to the checkpoint on disk; under the lock. */
HF_MUST_CHECK bool hf_ledger_load(struct hf_ledger *ledger, struct hf_error *err);
/* The root of some of the leaves as they are in the file: hf_merkle_range. */
HF_MUST_CHECK bool hf_ledger_range_root(void *context, uint64_t first, uint64_t count, struct hf_hash *ret,
                                        struct hf_error *err);
/* Compares the ledger's leaves with what the witness has seen; NOT_FOUND when there is no such file. */
HF_MUST_CHECK bool hf_ledger_compare_witness(struct hf_ledger *ledger, const char *path, struct hf_error *err);

/* Whether a file is wrong, as opposed to: it could not be looked at. */
bool hf_ledger_is_only_damage(const struct hf_error *err);
const char *hf_ledger_entry_name(const struct hf_id *id, const char *suffix,
                                 char name[static HF_LEDGER_ENTRY_NAME_BYTES]); // returns name
