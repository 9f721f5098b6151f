/*
 * view.h - what can be asked of the catalog
 *
 * A visitor sees one row a call; the row and its texts are borrowed for the call.  A visitor that returns false
 * ends the walk with its error.  Texts are NULL, ids none and numbers -1 where the column is NULL.  Backups that
 * were pruned are left out unless asked for.
 */
#pragma once
#include "catalog/backup_state.h"
#include "catalog/catalog.h"

struct hf_vault_row {
    struct hf_id vault;
    const char *engine, *identity, *name;
    int64_t created_at, epoch, shredded_at;
    uint64_t head; // 0: nothing applied
    const char *head_hash;
    int64_t head_time;
    int64_t packs, bytes; // that it keeps
};
typedef bool hf_vault_row_visitor(void *context, const struct hf_vault_row *row, struct hf_error *err);
HF_MUST_CHECK bool hf_catalog_vaults(struct hf_catalog *catalog, hf_vault_row_visitor *visit, void *context,
                                     struct hf_error *err);

struct hf_policy_row {
    struct hf_id policy;
    const char *record; // canonical JSON; NULL when it was read without keys
    uint64_t sequence;
    int64_t changed_at;
};
typedef bool hf_policy_row_visitor(void *context, const struct hf_policy_row *row, struct hf_error *err);
/* Of one subject in one vault, in the order of their last change. */
HF_MUST_CHECK bool hf_catalog_policies(struct hf_catalog *catalog, const struct hf_id *vault, const char *subject,
                                       hf_policy_row_visitor *visit, void *context, struct hf_error *err);

struct hf_source_row {
    struct hf_id source;
    const char *name, *engine;
    const char *settings; // canonical JSON: hf_source_settings_from_json() reads it
    const char *origin;   // "file" or "command"
    int64_t added_at, changed_at;
};
typedef bool hf_source_row_visitor(void *context, const struct hf_source_row *row, struct hf_error *err);
/* By name. */
HF_MUST_CHECK bool hf_catalog_sources(struct hf_catalog *catalog, hf_source_row_visitor *visit, void *context,
                                      struct hf_error *err);
/* Visits one, or says that there is none. */
HF_MUST_CHECK bool hf_catalog_source(struct hf_catalog *catalog, const char *name, bool *ret_found,
                                     hf_source_row_visitor *visit, void *context, struct hf_error *err);
/* The vault of its newest backup, or without one of its stream; none before the first of both. */
HF_MUST_CHECK bool hf_catalog_source_vault(struct hf_catalog *catalog, const char *name, struct hf_id *ret,
                                           struct hf_error *err);

struct hf_source_counts {
    int64_t backups, by_state[4]; // by enum hf_backup_state
    int64_t stored_bytes;
};
HF_MUST_CHECK bool hf_catalog_source_counts(struct hf_catalog *catalog, const char *name, struct hf_source_counts *ret,
                                            struct hf_error *err);

struct hf_backup_row {
    struct hf_id backup, vault, parent;
    const char *source;
    uint64_t sequence;
    int64_t started_at, finished_at, committed_at;
    const char *start_lsn, *stop_lsn;
    int64_t timeline;
    const char *server_version;
    int64_t logical_bytes, stored_bytes, files, bad_pages;
    enum hf_backup_state state;
    int64_t state_since;
    int64_t pruned_at;
    const char *prune_reason;
    int64_t shredded_at; // of its vault: nothing of it can be read any more
};
typedef bool hf_backup_row_visitor(void *context, const struct hf_backup_row *row, struct hf_error *err);
/* Newest first; of one source, or of all when NULL. */
HF_MUST_CHECK bool hf_catalog_backups(struct hf_catalog *catalog, const char *source, bool with_pruned,
                                      hf_backup_row_visitor *visit, void *context, struct hf_error *err);
/* Also a pruned one. */
HF_MUST_CHECK bool hf_catalog_backup(struct hf_catalog *catalog, const struct hf_id *backup, bool *ret_found,
                                     hf_backup_row_visitor *visit, void *context, struct hf_error *err);
/* Of a source; in one state, or in any when `state` is NULL. */
HF_MUST_CHECK bool hf_catalog_newest_backup(struct hf_catalog *catalog, const char *source,
                                            const enum hf_backup_state *state, bool *ret_found,
                                            hf_backup_row_visitor *visit, void *context, struct hf_error *err);

struct hf_attempt_row {
    struct hf_id attempt, backup, evidence;
    const char *source; // NULL when the backup does not count
    const char *result, *state, *level, *scratch, *slot, *reason;
    int64_t recorded_at, started_at, finished_at;
    int64_t recovery_ms, validation_ms, data_loss_ms;
};
typedef bool hf_attempt_row_visitor(void *context, const struct hf_attempt_row *row, struct hf_error *err);
/* Newest first, at most `most`; of one backup and of one source, when not NULL. */
HF_MUST_CHECK bool hf_catalog_attempts(struct hf_catalog *catalog, const struct hf_id *backup, const char *source,
                                       int64_t most, hf_attempt_row_visitor *visit, void *context,
                                       struct hf_error *err);

struct hf_damage_row {
    struct hf_id damage, vault, backup;
    const char *source, *reason;
    const char *packs, *lost; // canonical JSON, see schema.sql
    int64_t found_at;
};
typedef bool hf_damage_row_visitor(void *context, const struct hf_damage_row *row, struct hf_error *err);
/* Those that last. */
HF_MUST_CHECK bool hf_catalog_damages(struct hf_catalog *catalog, hf_damage_row_visitor *visit, void *context,
                                      struct hf_error *err);

struct hf_gap_row {
    struct hf_id vault;
    const char *from, *to, *cause;
    int64_t noticed_at, timeline; // of its end; -1: not known
    bool anchored; // a backup that was begun behind it is proven: it bounds what can be restored, no more
};
typedef bool hf_gap_row_visitor(void *context, const struct hf_gap_row *row, struct hf_error *err);
/* Of one vault, or of all when NULL. */
HF_MUST_CHECK bool hf_catalog_gaps(struct hf_catalog *catalog, const struct hf_id *vault, hf_gap_row_visitor *visit,
                                   void *context, struct hf_error *err);

/* What is in packs of a stream, without a hole: the log that can be replayed. */
struct hf_window_row {
    uint64_t start, end;
    int64_t timeline;
    int64_t first_time, last_time; // of commits in it; 0: none
    int64_t commits, stored_bytes;
};
typedef bool hf_window_row_visitor(void *context, const struct hf_window_row *row, struct hf_error *err);
/* In order of position. */
HF_MUST_CHECK bool hf_catalog_windows(struct hf_catalog *catalog, const struct hf_id *vault,
                                      hf_window_row_visitor *visit, void *context, struct hf_error *err);

struct hf_hold_row {
    struct hf_id backup;
    const char *kind, *person, *reason; // kind: "hold" or "lock"
    uint64_t sequence;                  // of its entry: what a RELEASE names
    int64_t since, until;
};
typedef bool hf_hold_row_visitor(void *context, const struct hf_hold_row *row, struct hf_error *err);
/* Those that hold. */
HF_MUST_CHECK bool hf_catalog_holds(struct hf_catalog *catalog, hf_hold_row_visitor *visit, void *context,
                                    struct hf_error *err);
