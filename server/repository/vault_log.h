/*
 * vault_log.h - the numbered, chained, signed list of what counts in a vault
 *
 * Nothing exists until an entry names it.  Entry n + 1 is created exclusively after every entry up to
 * n was read and checked: of two writers one wins, the other reads the new entry and decides again.
 * No safety argument rests on a clock.
 *
 * Entry: vaults/<vault id>/log/<sequence>
 * offset  bytes  meaning
 *      0      8  magic "HFLOG001"
 *      8      2  version: 1
 *     10      2  kind, see enum hf_log_kind
 *     12      4  flags: 0
 *     16      8  sequence, from 1
 *     24      8  time
 *     32     16  repository id
 *     48     16  vault id
 *     64     16  appliance id of the writer
 *     80      8  writer epoch, see EPOCH
 *     88     32  SHA-256 of the whole entry before; zeros for the first
 *    120     32  public key of the signer (Ed25519)
 *    152      4  length p of the public part
 *    156      4  length s of the sealed part, 0 for none
 *    160      p  public part: canonical JSON, an object
 *  160+p      s  sealed part: an envelope (kind 3, object id: the vault id, wrapping key: the vault's record
 *                key, context: bytes 0..151) around canonical JSON, an object
 *  160+p+s   64  signature over everything before
 *
 * What each kind says (members of the public part; "sealed" lists those of the sealed part).  Ids are hex, times ms:
 *   LINEAGE    engine, lineage (hex of SHA-256 over engine name, NUL, identity: finds a vault without keys);
 *              sealed: identity (system identifier or server_uid as text), name
 *   INTENT     session, parents (ids of backups it may build on), builds_on (session it continues, or null),
 *              operation ("backup"; "collect": it moves packs and can never COMMIT)
 *   COMMIT     session, backup, parent (or null), root {pack, slab, index}, packs [[id, kind, bytes, sha256], ...],
 *              dropped [pack ids of the session that are not part of it]; sealed: source, facts
 *   COMMIT     of a stream's session (its INTENT's operation is "stream"): session, stretch (its id), packs (one row,
 *              kind 3), dropped (empty); sealed: source, and stream {timeline, start, end, whole (just behind the last
 *              whole record; texts as base/lsn.h has them), first_time, last_time (of commits in it, 0: none),
 *              commits, previous (SHA-256 of the pack of the stream's COMMIT before, in hex; zeros for the first),
 *              histories [timelines whose history file it holds]; and, of an engine that leaves marks, marks: one or
 *              two [position, text], ordered: what the engine knew of a position at the beginning and at the end}
 *   END        session: ended in order, without a backup
 *   ABORT      session, reason (a word); its packs are garbage
 *   EPOCH      epoch (as in the header); sealed: reason, person.  Its appliance takes the vault over
 *   PIN        reader (an id drawn for it), backup: somebody reads it
 *   UNPIN      reader, backup: not any more
 *   PRUNE      backups, reason: they are given up, and count no more
 *   PRUNE      stretches, reason: likewise, of a stream.  What they held is no gap: it was there as long as it had to
 *              be
 *   CONDEMN    packs, reason: nothing that counts needs them; DELETE packs, reason: they may be unlinked from here on
 *   RELOCATE   session, packs [[id, object], ...], objects [[id, bytes, sha256], ...]: from here on each pack is read
 *              from the container of that id (container.h); bytes and sha256 are those of the whole object
 *   HOLD       backup, until (a time, or null: until it is released); sealed: reason, person
 *   RELEASE    backup, hold (the sequence of its HOLD; null or missing: all of them): ends holds, and no locks; sealed:
 *              reason, person
 *   LOCK       backup, until (a time); sealed: reason, person
 *   KEY        generation (of the vault's keys), slots (ids of those in force): whoever finds only older generations of
 *              the keys from here on has an older copy of them
 *   SHRED      generation; sealed: person, reason.  The keys are destroyed after it, and with them every sealed part
 *   POLICY     subject, id; sealed: the record itself (a source, a policy, an account: what changed and how it is now)
 *   VERDICT    backup, attempt, result, state; sealed: what the catalog keeps of it
 *   GAP        sealed: from_timeline, from, timeline, to (the first byte there is again), cause (words of ours)
 *   CHECKPOINT sequence, head
 *
 * An entry counts when what stands before it in the log allows it (log_rules.h lists what each kind asks for).
 * Else it is void for every reader, for ever, and leaves no trace.  A session has one INTENT and a backup one counting
 * COMMIT; a log with a second one is CORRUPT.
 *
 * A stream's session brings any number of COMMITs, each a stretch, and stays open until END or ABORT; what it
 * committed before counts.  So a receiver writes one INTENT in its life and then one entry for each stretch, and none
 * while nothing comes.  A pack has one counting COMMIT; a log with a second one is CORRUPT.
 */
#pragma once
#include "base/json.h"
#include "server/keys/keys.h"

#define HF_LOG_HEADER 160

enum hf_log_kind {
    HF_LOG_LINEAGE = 1,
    HF_LOG_INTENT = 2,
    HF_LOG_COMMIT = 3,
    HF_LOG_END = 4,
    HF_LOG_ABORT = 5,
    HF_LOG_EPOCH = 6,
    HF_LOG_PIN = 7,
    HF_LOG_UNPIN = 8,
    HF_LOG_PRUNE = 9,
    HF_LOG_CONDEMN = 10,
    HF_LOG_DELETE = 11,
    HF_LOG_RELOCATE = 12,
    HF_LOG_HOLD = 13,
    HF_LOG_RELEASE = 14,
    HF_LOG_LOCK = 15,
    HF_LOG_KEY = 16,
    HF_LOG_SHRED = 17,
    HF_LOG_POLICY = 18,
    HF_LOG_VERDICT = 19,
    HF_LOG_GAP = 20,
    HF_LOG_CHECKPOINT = 21,
};

const char *hf_log_kind_name(enum hf_log_kind kind); // "COMMIT"

/* One entry, checked.  The JSON values are borrowed from the entry and live as long as it does. */
struct hf_log_entry {
    enum hf_log_kind kind;
    uint64_t sequence;
    int64_t time;
    struct hf_id appliance;
    uint64_t epoch;
    uint8_t signer[HF_PUBLIC_BYTES];
    uint8_t hash[HF_SHA256_BYTES]; // of the whole entry
    json_t *public_part;
    json_t *sealed_part; // NULL when there is none, or no record key was given
    bool counts;         // set where the log is read through hf_vault_read(): see log_rules.h
};
void hf_log_entry_done(struct hf_log_entry *entry);

struct hf_vault_log;

struct hf_vault_log_options {
    struct hf_backend *backend; // borrowed
    struct hf_id repository, vault;
    const struct hf_secret *record_key;   // borrowed; NULL: sealed parts stay shut
    const struct hf_root_bundle *signers; // borrowed; NULL: signatures are checked, signers are not
};

/* Opens without reading.  A vault without entries is new. */
HF_MUST_CHECK bool hf_vault_log_open(const struct hf_vault_log_options *options, struct hf_vault_log **ret,
                                     struct hf_error *err);
void hf_vault_log_freep(struct hf_vault_log **log);

typedef bool hf_log_visitor(void *context, const struct hf_log_entry *entry, struct hf_error *err);

/*
 * Reads the entries after the last one read, in order, checks place, chain, signature and signer, and
 * hands each to `visit` (which may be NULL).  The list of names is only used to notice a hole: an
 * entry beyond the one that is missing makes it CORRUPT ("log entry 7 of vault "..." is missing").
 */
HF_MUST_CHECK bool hf_vault_log_read(struct hf_vault_log *log, hf_log_visitor *visit, void *context,
                                     struct hf_error *err);
/* Of the last entry read or appended: 0 and zeros before the first. */
uint64_t hf_vault_log_head(const struct hf_vault_log *log, uint8_t hash[static HF_SHA256_BYTES]);

/*
 * Refuses a log that is older than what was seen before: CORRUPT when it holds fewer entries than
 * `sequence`, or another entry there.  Call after reading.
 */
HF_MUST_CHECK bool hf_vault_log_check_head(struct hf_vault_log *log, uint64_t sequence,
                                           const uint8_t hash[static HF_SHA256_BYTES], struct hf_error *err);

#define HF_LOG_EPOCH_NOW UINT64_MAX // hf_vault_append() only: whichever the vault has

struct hf_log_append {
    enum hf_log_kind kind;
    int64_t time;
    uint64_t epoch;
    const json_t *public_part; // borrowed
    const json_t *sealed_part; // borrowed, or NULL
};

/*
 * Writes entry head + 1; durable when it returns true.  The next read hands it to its visitor like any other;
 * appending again needs no read between.  CONFLICT: another writer made that entry first; read on, decide
 * again.  After any other failure the entry may be there or not: reading tells.
 */
HF_MUST_CHECK bool hf_vault_log_append(struct hf_vault_log *log, const struct hf_log_append *append,
                                       const struct hf_signing *signing, struct hf_error *err);
