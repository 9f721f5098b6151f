/*
 * records.h - the daemon's own hold on the repository: keys, signature, logs, and the catalog in step with them
 *
 * Only the daemon has this: the repository opened through a key slot, the appliance's signing key, every vault's
 * log, and the one writing connection to the catalog.  Workers get less (worker.h).
 *
 * Whatever becomes a record (promise 10) goes through hf_records_append(): first the sealed, signed entry, durable
 * in the log, then the catalog, which reads it from there like everybody's entries.
 *
 * In the state folder: catalog.db, signing.key (server/evidence/sign.h), cache/ (tag caches, session.h).
 */
#pragma once
#include "catalog/catalog.h"
#include "server/evidence/sign.h"
#include "server/repository/repository.h"
#include "server/settings/settings.h"

#define HF_STATE_CATALOG     "catalog.db"
#define HF_STATE_SIGNING_KEY "signing.key"
#define HF_STATE_CACHE       "cache"

/* Local facts: {"at", "name"} of a damaged catalog; {"at", "differences", "first"} of the last look that found some. */
#define HF_FACT_CATALOG_DAMAGED     "catalog_damaged"
#define HF_FACT_CATALOG_DIFFERENCES "catalog_differences"
#define HF_FACT_REPOSITORY          "repository" // id of the one that the catalog is of

struct hf_records;

/*
 * Opens repository, signing key and catalog, and reads every log.  A damaged catalog is set aside and made again.
 * Errors: those of the repository and the key; CORRUPT when a log is older than what the catalog has seen of it
 * (rollback), naming the vault; DENIED when this appliance's key is not among the repository's signers; CONFLICT when
 * the catalog in the state folder is of another repository.
 * Without a signing key the machine can list, check and restore; records it writes none (DENIED).
 */
HF_MUST_CHECK bool hf_records_open(const struct hf_settings *settings, int64_t now, struct hf_records **ret,
                                   struct hf_error *err);
void hf_records_freep(struct hf_records **records);

struct hf_catalog *hf_records_catalog(struct hf_records *records);
struct hf_repository *hf_records_repository(struct hf_records *records);
const struct hf_signing *hf_records_signing(const struct hf_records *records);
struct hf_signer *hf_records_signer(struct hf_records *records); // for evidence
/* False: there is no signing key here, and hf_records_signer() is NULL. */
bool hf_records_can_sign(const struct hf_records *records);
/* After keys were replaced: which slot opens, and every vault with its newest keys. */
HF_MUST_CHECK bool hf_records_reopen(struct hf_records *records, struct hf_error *err);
/* The slot that the settings' key opened. */
const struct hf_slot_info *hf_records_slot(const struct hf_records *records);
/* The key that opened it: for workers that unwrap by themselves (promise 7). */
const struct hf_credential *hf_records_credential(const struct hf_records *records);
/*
 * The repository is a copy (server/care/copy.h): it is read, and no record is written; there may be no signing key.
 * Promoting it ends that.
 */
bool hf_records_read_only(const struct hf_records *records);
/* False, and CONFLICT with the way on, when it is. */
HF_MUST_CHECK bool hf_records_may_write(const struct hf_records *records, struct hf_error *err);
/* kit: the text of a recovery kit, out of which the signing key is taken when there is none here; or NULL. */
HF_MUST_CHECK bool hf_records_promote(struct hf_records *records, const char *kit, int64_t now, struct hf_error *err);
/* NULL when the catalog was whole; else the name that the damaged one has now. */
const char *hf_records_set_aside(const struct hf_records *records);
/*
 * The catalog in use was found damaged: it is set aside and made again from the logs, and the fact
 * HF_FACT_CATALOG_DAMAGED says so.  What was local is lost.
 */
HF_MUST_CHECK bool hf_records_remake_catalog(struct hf_records *records, const struct hf_error *damage, int64_t now,
                                             struct hf_error *err);

/* A vault by id.  Borrowed until the next call to any function here.  NOT_FOUND; DENIED: it was shredded. */
HF_MUST_CHECK bool hf_records_vault(struct hf_records *records, const struct hf_id *id, struct hf_vault **ret,
                                    struct hf_error *err);
/* What its log adds up to, as far as it was read.  Borrowed likewise. */
HF_MUST_CHECK bool hf_records_state(struct hf_records *records, const struct hf_id *id,
                                    const struct hf_vault_state **ret, struct hf_error *err);
/* The vault of a lineage, made at first contact; *ret_made says so.  Borrowed likewise. */
HF_MUST_CHECK bool hf_records_vault_of(struct hf_records *records, const char *engine, const char *identity,
                                       const char *name, int64_t now, bool *ret_made, struct hf_vault **ret,
                                       struct hf_error *err);

/* What its log added up to when it was read last.  Borrowed likewise.  NOT_FOUND. */
HF_MUST_CHECK bool hf_records_state(struct hf_records *records, const struct hf_id *id,
                                    const struct hf_vault_state **ret, struct hf_error *err);

/* Brings the catalog up to the logs: new entries of every vault, new vaults too; or of one vault. */
HF_MUST_CHECK bool hf_records_read(struct hf_records *records, struct hf_error *err);
HF_MUST_CHECK bool hf_records_read_vault(struct hf_records *records, const struct hf_id *id, struct hf_error *err);

struct hf_record {
    struct hf_id vault; // the repository's id: the house vault
    enum hf_log_kind kind;
    int64_t time;
    const json_t *public_part; // borrowed
    const json_t *sealed_part; // borrowed, or NULL
    uint64_t after;            // not 0: only as the next entry after that one; CONFLICT when there are others already
};
/*
 * Appends an entry that counts, at whatever place is free, and applies it to the catalog.  CONFLICT: the rules
 * (server/repository/log_rules.h) stand against it, and nothing was written.  On another failure the entry may be in
 * the log all the same; the next reading tells.
 */
HF_MUST_CHECK bool hf_records_append(struct hf_records *records, const struct hf_record *record, struct hf_error *err);

struct hf_rebuild_report {
    uint64_t vaults, entries;
    uint64_t differences; // rows of derived and recorded tables that were not as the logs say
    char first[HF_KIB];   // one of them
};
/*
 * Makes the catalog again from the logs alone, beside the live one; compares; takes its place when they differ.
 * Local tables are kept.  Statements of other connections go on reading the older file until they open again.
 */
HF_MUST_CHECK bool hf_records_rebuild(struct hf_records *records, struct hf_rebuild_report *ret, struct hf_error *err);

/*
 * Fills an empty catalog from the logs of an unlocked repository: as far as the catalog `upto` has read them, or to
 * their ends when it is NULL.  Sets vaults and entries of the report.
 */
HF_MUST_CHECK bool hf_records_fill_catalog(struct hf_repository *repository, struct hf_catalog *upto,
                                           struct hf_catalog *catalog, struct hf_rebuild_report *report,
                                           struct hf_error *err);
