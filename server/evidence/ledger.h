/*
 * ledger.h - every evidence document of an appliance, in one order that cannot be changed unseen
 *
 * A signature shows who made a document; it does not show that none was left out or put in later.  So each document
 * is a leaf of one Merkle tree (merkle.h), and after each the new root is signed.  Whoever holds an old checkpoint can
 * tell whether today's ledger still begins with what was there then.
 *
 * One folder (<repository>/evidence/), its files:
 *
 *     leaves              one record of 48 bytes an entry, only ever appended: bytes 0-15 the evidence id, 16-47 the
 *                         leaf, SHA-256(0x00 || the sealed document).  The id only finds the file; the leaf counts.
 *     checkpoint          the signed state (checkpoint.h); it alone says how many records count
 *     <evidence_id>.json  the sealed document (document.h), never changed
 *     <evidence_id>.proof its proof, as of the moment it was entered (checkpoint.h)
 *     pending             a document on its way in; see below
 *
 * Entering a document, under an exclusive flock() of `leaves`; each step is on the disk before the next (3 with 4,
 * by one fsync of the folder):
 *
 *     1 pending written   2 leaf appended   3 pending renamed to <id>.json   4 proof written   5 checkpoint replaced
 *
 *     crash or failure before 2 is done: the next writer drops leaf and pending; nothing was ever entered
 *     crash or failure after it:         the next writer takes steps 2 to 5 again, with the same bytes
 *
 * The first signed checkpoint that counts the entry is made in step 4, when the leaf can no longer get lost: the ledger
 * never signs two histories.  A document without leaf is not evidence.
 *
 * Rollback of the whole folder is consistent in itself.  It shows against a witness: the newest checkpoint, kept in
 * a file elsewhere.
 */
#pragma once
#include "server/evidence/document.h"

#define HF_LEDGER_RECORD_BYTES 48
#define HF_LEDGER_LOCK_WAIT_MS 10000 // an entry takes milliseconds

struct hf_ledger;

struct hf_ledger_options {
    const char *folder;
    struct hf_signer *signer; // borrowed until the ledger is closed; NULL: reads only
    struct hf_trust trust;    // keys besides the signer's, such as those used before it; copied
    const char *witness_path; // NULL: none.  A witness that is missing or knows more is an error; see below
};

struct hf_receipt {
    struct hf_id evidence_id;
    uint64_t index;
    struct hf_hash leaf;
};

/*
 * Makes the folder and an empty ledger in it.
 * Errors: CONFLICT when there is one; CORRUPT when there are leaves but no checkpoint; those of writing.
 */
HF_MUST_CHECK bool hf_ledger_create(const char *folder, struct hf_signer *signer, struct hf_error *err);

/*
 * Opens a ledger and checks that its leaves give the signed root; a writer also finishes what a crash left.
 * Owner: the caller, until hf_ledger_close(), which accepts NULL.  One thread at a time; several processes may.
 * Errors: USAGE when there is no key, or keys of different names; NOT_FOUND; CORRUPT, among others when the ledger is
 * older than its witness or has another history (both sizes are named); CONFLICT when another holds the lock for long.
 */
HF_MUST_CHECK bool hf_ledger_open(const struct hf_ledger_options *options, struct hf_ledger **ret,
                                  struct hf_error *err);
void hf_ledger_close(struct hf_ledger *ledger);
void hf_ledger_closep(struct hf_ledger **ledger); // what _cleanup_() calls

/* As of the last call that looked: open, append or witness. */
const struct hf_checkpoint *hf_ledger_checkpoint(const struct hf_ledger *ledger);

/*
 * Checks, seals and enters a content (document.h); true means that document, leaf, proof and checkpoint are on the
 * disk.  Entering the very same content again changes nothing and gives the receipt it had, so that a caller who does
 * not know how a call ended can repeat it.
 * Errors: USAGE for a content that breaks the rules or a ledger opened for reading; CONFLICT when that evidence id has
 * another content; CORRUPT when the ledger went back since it was opened; those of writing, after which the entry may
 * yet be completed by the next writer.
 */
HF_MUST_CHECK bool hf_ledger_append(struct hf_ledger *ledger, json_t *content, struct hf_receipt *ret,
                                    struct hf_error *err);

/* Entry `index` as the leaves file has it.  Errors: NOT_FOUND from the size on. */
HF_MUST_CHECK bool hf_ledger_entry(struct hf_ledger *ledger, uint64_t index, struct hf_receipt *ret,
                                   struct hf_error *err);

/* Adds a proof file's text for that entry against the newest checkpoint, newer than the one beside the document. */
HF_MUST_CHECK bool hf_ledger_prove(struct hf_ledger *ledger, uint64_t index, struct hf_buf *out, struct hf_error *err);

/* The proof that the ledger still begins with its first old_size entries.  Errors: USAGE when there are fewer. */
HF_MUST_CHECK bool hf_ledger_prove_consistency(struct hf_ledger *ledger, uint64_t old_size, struct hf_merkle_path *ret,
                                               struct hf_error *err);

/*
 * Shows the newest checkpoint to a witness: compares with what the file holds, then adds it at the end.  A missing file
 * is begun.  The file is only ever appended to, so that it can lie where nothing else is allowed (chattr +a, another
 * machine's share).  Its form, oldest first:
 *
 *     <a checkpoint as signed (checkpoint.h)>
 *     %%                                         ends it: what has no such line yet does not count
 *
 * What a crash cut off stays, and is closed by the line "--" in place of "%%": it never counts.  The newest checkpoint
 * that counts is all that is compared: each was compared with those before it when it was added.
 * Errors: CORRUPT when the witness knows more or another history, or is no witness file; those of writing.
 */
HF_MUST_CHECK bool hf_ledger_witness(struct hf_ledger *ledger, const char *path, struct hf_error *err);
/*
 * Adds to `out` the text of the newest checkpoint that counts in a witness file's bytes, or in the end of them.
 * Errors: CORRUPT when there is none.
 */
HF_MUST_CHECK bool hf_witness_newest(const void *bytes, size_t length, const char *what, struct hf_buf *out,
                                     struct hf_error *err);

/* Hears of each problem, in a sentence that names the document.  May be NULL. */
typedef void hf_ledger_found(void *context, const char *problem);

struct hf_ledger_report {
    uint64_t entries;  // that the checkpoint counts
    uint64_t problems; // documents missing, changed, misplaced, without a valid seal or proof, or not entered
    bool unfinished;   // a document was on its way in when someone crashed; the next writer deals with it
    struct hf_checkpoint checkpoint; // as it was signed; zeros when it could not be read
};

/*
 * Reads every document again and computes the root from them; works on a ledger that cannot be opened any more as long
 * as its checkpoint can be read.  *ret is filled either way.
 * Errors: CORRUPT with the first problem when there is any; those of hf_ledger_open().
 */
HF_MUST_CHECK bool hf_ledger_verify_all(const struct hf_ledger_options *options, hf_ledger_found *found, void *context,
                                        struct hf_ledger_report *ret, struct hf_error *err);

/*
 * Hears of each document that holds: form, rules, seal, place, leaf and proof were checked.  Whether the ledger as a
 * whole holds is known at the end only.  The evidence is borrowed.  False ends the walk with its error.
 */
typedef bool hf_ledger_document(void *context, const struct hf_evidence *evidence, struct hf_error *err);
/* The same reading, in the order of the ledger, for whoever needs what the documents say. */
HF_MUST_CHECK bool hf_ledger_walk(const struct hf_ledger_options *options, hf_ledger_document *document,
                                  hf_ledger_found *found, void *context, struct hf_ledger_report *ret,
                                  struct hf_error *err);
