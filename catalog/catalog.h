/*
 * catalog.h - opening the catalog, and the only way its derived and recorded tables change
 *
 * The repository is the truth (promise 10); the catalog is what can be asked quickly.  Everything in it
 * but the local tables (schema.sql) follows from the entries of the vault logs, so it can be thrown away
 * and made again, and hf_catalog_compare() shows that the result is the same.
 *
 * One process writes, over one connection in one thread (SQLite 3.40.1 has a race between writing connections
 * that reset the WAL); readers open read-only.  Every commit is on the disk when it returns.
 *
 * Asking: view.h.  Jobs, schedules and facts of this appliance: local.h.
 */
#pragma once
#include "base/digest.h"
#include "base/json.h"

struct hf_catalog;

enum hf_catalog_how {
    HF_CATALOG_READ,    // beside a writer; the file must exist
    HF_CATALOG_WRITE,   // the one writer; made when missing, brought to the newest shape
    HF_CATALOG_SCRATCH, // as WRITE without waiting for the disk: for a rebuild, see hf_catalog_replace()
};

/*
 * Looks the whole file over (quick_check) and takes a damaged one for no catalog at all.
 * Owner: the caller.  A connection is used by one thread.
 * Errors: CORRUPT, see hf_catalog_set_aside(); CONFLICT: made by a newer version; NOT_FOUND, DENIED, UNAVAILABLE.
 */
HF_MUST_CHECK bool hf_catalog_open(const char *path, enum hf_catalog_how how, struct hf_catalog **ret,
                                   struct hf_error *err);
void hf_catalog_freep(struct hf_catalog **catalog);

/* From here on a connection that reads sees the catalog as it is now, whatever is written meanwhile. */
HF_MUST_CHECK bool hf_catalog_snapshot(struct hf_catalog *catalog, struct hf_error *err);

/* Renames a damaged catalog (and its WAL) to "<path>.damaged-<time>"; *ret_name is free()d by the caller. */
HF_MUST_CHECK bool hf_catalog_set_aside(const char *path, int64_t now, char **ret_name, struct hf_error *err);

/* One entry of a vault log, as the repository's reader checked it.  Everything is borrowed. */
struct hf_catalog_entry {
    struct hf_id vault;
    uint64_t sequence;
    const char *kind; // "COMMIT"
    int64_t time;
    struct hf_id appliance;
    uint64_t epoch;
    uint8_t hash[HF_SHA256_BYTES];
    bool counts; // what the reader judged (server/repository/log_rules.h): void entries only move the head
    const json_t *public_part; // members: server/repository/vault_log.h
    const json_t *sealed_part; // NULL when the vault was read without keys
};

/*
 * Applies one entry and moves the vault's head, in one transaction that is on the disk when true returns.
 * An entry at or below the head changes nothing.
 *
 * Members of sealed parts that the catalog keeps, all of them may be missing:
 *   COMMIT   source; facts {started_at, finished_at, start_lsn, stop_lsn, timeline, server_version,
 *            logical_bytes, files, bad_pages}: times and counts are integers, positions and version are texts
 *   POLICY   with the public subject "source", in the house vault: change "set" or "remove"; name; origin "file" or
 *            "command"; settings {...}
 *            other subjects are kept as they are: those of keys and shredded vaults stand in server/job/key_records.h
 *   SHRED    whatever sealed parts of the vault said before it is forgotten: a reader without keys never knew it
 *   VERDICT  result passed, failed or inconclusive: started_at, finished_at, level, scratch, slot, reason,
 *            recovery_ms, validation_ms, data_loss_ms, evidence_id; result damaged or healed: packs, reason,
 *            lost (an object: server/job/damage.h)
 *   HOLD, LOCK: person, reason; GAP: from, to, cause; LINEAGE: identity, name
 * A VERDICT's public "state" is what its writer believed; the catalog works it out again, since entries of
 * others may have come in between.
 *
 * Errors: CONFLICT: entries are missing between the head and this one, the entry at the head has another hash,
 * or the kind is of a newer version; CORRUPT: members are missing or of a wrong type.  Nothing has changed then.
 */
HF_MUST_CHECK bool hf_catalog_apply(struct hf_catalog *catalog, const struct hf_catalog_entry *entry,
                                    struct hf_error *err);

/* The last entry applied; sequence 0 and zeros when there is none. */
HF_MUST_CHECK bool hf_catalog_head(struct hf_catalog *catalog, const struct hf_id *vault, uint64_t *ret_sequence,
                                   uint8_t ret_hash[static HF_SHA256_BYTES], struct hf_error *err);

/* Every row of every derived and recorded table, one line each: "<table> <canonical JSON>", in one order only. */
HF_MUST_CHECK bool hf_catalog_dump(struct hf_catalog *catalog, struct hf_buf *out, struct hf_error *err);

struct hf_catalog_difference {
    uint64_t rows;      // that only one of the two has, or that differ
    char first[HF_KIB]; // the first such line, "" when there is none; cut when long
};

/* Compares the dumps row by row, in bounded memory. */
HF_MUST_CHECK bool hf_catalog_compare(struct hf_catalog *a, struct hf_catalog *b, struct hf_catalog_difference *ret,
                                      struct hf_error *err);

/* Copies the local tables of another catalog of the same shape into this one, whose own are empty. */
HF_MUST_CHECK bool hf_catalog_copy_local(struct hf_catalog *catalog, const char *from_path, struct hf_error *err);

/* Puts a finished scratch catalog in the place of `path`; neither may be open.  Durable when it returns. */
HF_MUST_CHECK bool hf_catalog_replace(const char *path, const char *scratch_path, struct hf_error *err);
/* Removes a catalog that is not open, with its WAL; a missing one is fine. */
HF_MUST_CHECK bool hf_catalog_remove(const char *path, struct hf_error *err);
