/*
 * process.h - how the backups of a source are made and proven, and since when that is unproven
 *
 * A backup that was proven says little about the next one when something changed in between: a setting, the database's
 * version, a key slot, this program.  So all of that goes into one fingerprint.  When it changes, a record says what
 * and when, and the source is "unproven since the change of ..." until HF_PROCESS_PROOFS backups that were begun after
 * it are proven.
 *
 * The parts, a JSON object of texts (null while it is not known), and the fingerprint is SHA-256 of its canonical text:
 *
 *   settings   SHA-256 of the source's settings (hf_source_settings_to_json), without what only says what is wanted and
 *              when: objective.*, retention*, tier, backup_every, verify_every, verify_after_backup
 *   engine     the version of the server that the newest backup was taken from
 *   software   of this program
 *   key_slots  SHA-256 of the ids of the key slots in force, in order
 *
 * The record: a POLICY entry of the house vault, subject "process", id: of the source; sealed: the record as it is now
 *
 *   source, parts {...}, changed_at (ms; the newest change), since (ms; the oldest change that was not proven when the
 *   next one came), changed [names of parts, since then].  since and changed are null and empty in a source's first
 *   record.
 *
 * How many backups are proven since follows from the catalog.  So a rebuild knows all of it.
 */
#pragma once
#include "server/job/daemon.h"

#define HF_RECORD_PROCESS "process"
#define HF_PROCESS_PROOFS 2

struct hf_process_state {
    json_t *parts; // owned by whoever asked: hf_process_state_done()
    json_t *changed;
    uint8_t fingerprint[HF_SHA256_BYTES];
    int64_t unproven_since; // -1: it is proven, or nothing ever changed
    int64_t proven_since;   // backups made and proven after the newest change; -1: nothing ever changed
    int64_t key_slots;
};
void hf_process_state_done(struct hf_process_state *state);

/* Puts a change on record when there is one, unless this machine only reads, and says how the source stands. */
HF_MUST_CHECK bool hf_process_look(struct hf_daemon *daemon, const char *source, struct hf_process_state *ret,
                                   struct hf_error *err);
/* {"fingerprint", "parts", "unproven_since": text or null, "changed", "proven_since", "needed"}; new. */
HF_MUST_CHECK bool hf_process_json(const struct hf_process_state *state, json_t **ret, struct hf_error *err);
