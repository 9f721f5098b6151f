/*
 * key_records.h - what is on record about key slots, recovery kits and shredded vaults
 *
 * POLICY entries of the house vault (server/repository/vault_log.h); the sealed part is the whole record as it is now.
 * Times are milliseconds since 1970.
 *
 *   subject "key", id: of the slot
 *     change ("added", "found", "drilled", "removed", "replaced"), name, kind, created_at, root (generation of the root
 *     key inside), by; removed_at, or null; drilled_at (the last drill that passed), or null; drill {at, result
 *     "passed" or "failed", reason, backups (opened)}, or null
 *   subject "kit", id: drawn
 *     issued_at, by, root, slots [{slot, name, kind}, ...]
 *   subject "shred", id: of the vault
 *     state ("asked": another person has to confirm, "begun", "done"), name, engine, lineage, backups, bytes, by,
 *     confirmed_by (or null), reason, begun_at, shredded_at, evidence (id of the certificate); while it is asked: name,
 *     by, uid (his), reason, asked_at, evidence (null)
 *
 * A slot is what lies in the store; its record says what the store cannot: that it was there, and when it was last seen
 * to open.  Slots that somebody made or removed without a record are found and recorded as such.
 */
#pragma once
#include "base/json.h"
#include "server/job/daemon.h"
#include "server/repository/repository.h"

#define HF_RECORD_KEY   "key"
#define HF_RECORD_KIT   "kit"
#define HF_RECORD_SHRED "shred"

/* New records; NULL only without memory. */
json_t *hf_key_record_new(const struct hf_slot_info *slot, const char *change, const char *by);
json_t *hf_kit_record_new(const struct hf_slot_info *slots, size_t count, const char *by, int64_t now);

/* Appends a record to the house vault: by the daemon, or by init, which has no daemon. */
HF_MUST_CHECK bool hf_key_record_put(struct hf_daemon *daemon, const char *subject, const struct hf_id *id,
                                     const json_t *record, struct hf_error *err);
HF_MUST_CHECK bool hf_key_record_append(struct hf_vault *house, const struct hf_signing *signing, const char *subject,
                                        const struct hf_id *id, const json_t *record, int64_t now,
                                        struct hf_error *err);

/* All records of a subject: an object, by id in hex.  Owner: the caller. */
HF_MUST_CHECK bool hf_key_records_load(struct hf_daemon *daemon, const char *subject, json_t **ret,
                                       struct hf_error *err);
/* Brings the records of slots in step with the store.  Does nothing on a machine that cannot sign. */
HF_MUST_CHECK bool hf_key_records_follow(struct hf_daemon *daemon, struct hf_error *err);
