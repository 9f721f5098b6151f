/*
 * document.h - holdfast.evidence/v1: what was found out about a backup, in one sealed document
 *
 * One document an attempt to prove a backup (kind "verify"), one for every act of a person (kind "act"), and one for
 * each vault whose keys were destroyed (kind "shred": the certificate).  It is
 * canonical JSON (RFC 8785: UTF-8, members sorted, no blanks, integers only), so that one content has one text, and a
 * reader refuses any other.  It holds names of objects and texts of ours, never a row's values, a password or a line
 * of an engine's log: those lie sealed in the repository, and here stands their SHA-256.
 *
 * Words of the table: id = 32 hex digits; hash = 64 hex digits; hex is lower-case; time = "2026-11-22T14:03:07.123Z",
 * UTC, read from a clock that may have been set in between, so ends are not checked to follow beginnings, and
 * durations come from elsewhere; text = 1 to 1024 bytes, printable (no control characters, no direction marks);
 * word = 1 to 64 of a-z 0-9 _ . -; number = 0 to 2^53 - 1; a|b = one of these words; [] = a list, at most 512 long.
 * A "?" marks what may be unknown: the member is then null, and its object has a member "unknown" that gives for just
 * each null member the reason, a text.  A "+" marks a group that was thought of later: documents written before have
 * none, and those written now have it.  All other members are required, and no others are allowed.
 *
 * kind "verify"                    every group is an object but checks and controls; "?" groups may be null with reason
 *   schema                         "holdfast.evidence/v1"
 *   head                           evidence_id id; kind verify; appliance_id id; site text?; software {version text,
 *                                  build text?}; created_at time; clock {source text?, offset_ns number or negative?}
 *   policy?                        policy_id id; policy_sha256 hash; tier text?; rpo_target_s number?; rto_target_s
 *                                  number?; retention text?; approved_by text?; approved_at time?
 *   subject                        source_id id; source_name text; engine postgresql|mariadb|mysql; version text;
 *                                  lineage text (the system identifier or the vault's own); databases? [] {name text,
 *                                  bytes number?, tables number?, rows number? (estimated)}
 *   backup                         backup_id id; vault_id id; log_sequence number and log_head hash (the vault log
 *                                  entry this attempt saw last); manifest_hash hash?; started_at time; ended_at time;
 *                                  start_position text?; stop_position text?; timeline number?; bytes_logical number?;
 *                                  bytes_stored number?; cipher text; state_before and state_after
 *                                  unproven|proven|failed|damaged
 *   stream?                        from_position text; to_position text; bytes number?; newest_commit_at time?;
 *                                  gaps [] {from_position text, to_position text?, cause text}
 *   attempt                        attempt_id id; level word; started_at time; ended_at time; duration_ms number;
 *                                  result passed|failed|inconclusive; reason text? (only a passed one may have none)
 *   restore?                       target {kind latest|time|lsn|xid|name|gtid|transaction|backup, value text?};
 *                                  key_slot text?; requested_at time; bytes_restored number?; bytes_replayed number?;
 *                                  engine_version text?; engine_sha256 hash?; engine_log_sha256 hash?;
 *                                  phases [] {phase word, started_at time, duration_ms number}
 *   rto_rpo?                       time_to_recover_ms number? (request until the copy was open for writing, less the
 *                                  time it followed the live source); time_to_validate_ms
 *                                  number? (until the last check ended); data_loss_window_ms number?;
 *                                  recovered_commit_at time?; rto_target_met bool?; rpo_target_met bool?;
 *                                  caught_up? {sampled_at time, source_position text, bound_ms number, waited_ms
 *                                  number, reached bool}
 *   checks []                      id word; title text; verdict passed|failed|not_determinable|not_run; required bool
 *                                  (the attempt cannot pass without it); reason text?; examined number?; bad number?;
 *                                  duration_ms number?; method text?; coverage_ppm 0 to 1000000?; detail_sha256 hash?;
 *                                  findings [] {what word, object text, block number?}
 *   sandbox?                       level text; minimum_level text; isolation [] word; network none|relay; scratch
 *                                  {kind memory|encrypted|plain, limit_bytes number?}; memory_limit_bytes number?;
 *                                  process_limit number?; time_limit_ms number?
 *   people                         requested_by text; reason text?; ticket text?; approved_by text?
 *   controls []                    framework text; ref text; verdict as of checks; because [] word (ids of checks)
 *   storage+                       type full|incremental; parent_id id?; files number?; bad_pages number? (damaged on
 *                                  the source already, by its own checksums); key_generation number? (of the vault's
 *                                  keys)
 *   key+                           slot_id id?, slot_name text?, slot_kind word? (what the copy was unwrapped through);
 *                                  chosen round_robin|settings|named|none; reachable number (slots that open
 *                                  unattended)
 *   host+                          name text?; system text?; machine text?; processors number?; memory_bytes number?
 *   process+                       how backups of this source are made and proven, in one hash (server/job/process.h):
 *                                  fingerprint hash; settings_sha256 hash; software text; engine text?; sandbox_engine
 *                                  text?; key_slots number; key_slots_sha256 hash; unproven_since time? (before this
 *                                  attempt; null: nothing has changed since two backups were proven); changed [] word;
 *                                  proven_since number? (backups made and proven after it, before this attempt)
 *   forecast+?                     made before the attempt: recovery_ms number; attempts number (that it was made
 *                                  from); error_ppm number? (of the forecasts for those, the middle one); objective_ms
 *                                  number?
 * kind "act"
 *   schema, head (kind act), people as above
 *   act                            act word; object_kind word; object text; outcome done|refused|failed;
 *                                  refers_to id? (another document); detail text?
 *   acceptance+                    of the acts "accept_exception", which refers to an attempt's document, and
 *                                  "withdraw_exception", which refers to the acceptance; no other act has it:
 *                                  source_name text; attempt id (its document); checks [] word (that are accepted);
 *                                  until time.  people.reason says why
 *
 * kind "shred"
 *   schema, head (kind shred), people as above
 *   shred                          vault_id id; vault_name text?; engine text; lineage text?; shredded_at time;
 *                                  log_sequence number and log_head hash (the newest entry, after SHRED); backups
 *                                  number; bytes_stored number; root_generation number (in force then);
 *                                  wraps [] {slot_id id, name text, kind word, root_generation number, created_at time,
 *                                  removed_at time?} (every key slot there ever was);
 *                                  kits [] {kit_id id, issued_at time, root_generation number, slots text};
 *                                  beyond_reach [] {what word, sentence text} (what the certificate cannot promise)
 *
 * Numbered, and held when a document is issued and when one is read:
 *   1. A check that is not passed has a reason.  Ids of checks are unique.
 *   2. An attempt passed only if a required check is there, all required ones are passed, none is failed, and restore
 *      and sandbox are not null: what did not run proves nothing.
 *   3. An attempt failed only if a check is failed.  An attempt that did not pass has a reason.
 *   4. passed makes the state proven; failed makes it failed or damaged; inconclusive leaves it.
 *   5. A control is passed only because of checks that are all passed, at least one; it names only checks there are.
 *   6. rto_target_met and rpo_target_met agree with the policy's targets where both sides are known.
 *   8. An acceptance has a reason and names at least one check; it is there just when the act is one of those two.
 *   7. A certificate lists at least one wrap, and says at least one thing that is beyond reach.
 *
 * The seal, member "seal" of every document:
 *   content_sha256 hash     SHA-256 of the canonical text of the document without its member "seal"
 *   key_id                  8 hex digits (sign.h)
 *   log                     {origin: the ledger's name, which is the key's; index: the entry's number from 0; size:
 *                           index + 1}
 *   signature               128 hex digits: Ed25519 over exactly these bytes: the 20 characters "holdfast.evidence/v1",
 *                           a 0 byte, and the canonical text of the document without the member "signature" of "seal".
 * So everything but the signature itself is signed.  The file is the canonical text and nothing after it.
 */
#pragma once
#include "base/json.h"
#include "server/evidence/checkpoint.h"

#define HF_EVIDENCE_SCHEMA     "holdfast.evidence/v1"
#define HF_EVIDENCE_MOST_BYTES (4 * HF_MIB) // of a sealed document
#define HF_EVIDENCE_MOST_LIST  512
#define HF_EVIDENCE_MOST_TEXT  1024 // bytes
#define HF_EVIDENCE_MOST_WORD  64

/* A document that was read. */
struct hf_evidence {
    json_t *content; // without its seal
    struct hf_id evidence_id;
    uint8_t content_sha256[HF_SHA256_BYTES];
    uint8_t key_id[HF_KEY_ID_BYTES];
    char origin[HF_KEY_NAME_BYTES];
    uint64_t index;
    uint8_t signature[HF_SIGNATURE_BYTES];
};

void hf_evidence_done(struct hf_evidence *evidence); // what _cleanup_() calls; an empty one is fine

/*
 * Whether a content (a document without seal) keeps all the rules above.
 * Errors: USAGE names the member by its path, as in "checks[3].verdict".
 */
HF_MUST_CHECK bool hf_evidence_check_content(const json_t *content, struct hf_error *err);

/*
 * Checks a content, seals it as entry `index` of the signer's ledger and adds the document's bytes to `out`.
 * The document is read and verified once before it is handed out.
 * Errors: USAGE as above; NO_SPACE when the document would have more than HF_EVIDENCE_MOST_BYTES; UNAVAILABLE when
 * what was written does not verify.
 */
HF_MUST_CHECK bool hf_evidence_seal(json_t *content, struct hf_signer *signer, uint64_t index, struct hf_buf *out,
                                    struct hf_id *ret_evidence_id, struct hf_error *err);

/*
 * Reads a document's bytes: form, rules and content hash are checked, its signature is not: nothing may be believed
 * before hf_evidence_check_seal().  `what` names the document in errors.  Owner: the caller, hf_evidence_done().
 * Errors: CORRUPT.
 */
HF_MUST_CHECK bool hf_evidence_parse(const void *bytes, size_t length, const char *what, struct hf_evidence *ret,
                                     struct hf_error *err);

/* Whether one of the trusted keys sealed it.  Errors: CORRUPT, for an unknown key too. */
HF_MUST_CHECK bool hf_evidence_check_seal(const struct hf_evidence *evidence, const char *what,
                                          const struct hf_trust *trust, struct hf_error *err);

/*
 * For building contents.  New values, or NULL when out of memory.  Names come from restored databases, so nobody may
 * trust them: what is not printable is written as "\u{202e}", and what is too long ends in "...".
 */
json_t *hf_evidence_time(int64_t ms);
json_t *hf_evidence_name(const char *text, size_t length);
/* Makes a member null and notes why in the object's "unknown". */
HF_MUST_CHECK bool hf_evidence_set_unknown(json_t *object, const char *member, const char *reason,
                                           struct hf_error *err);
