/*
 * facts.h - what a backup's COMMIT and manifest keep of it, as JSON
 *
 * One object.  Times are milliseconds since 1970.  Of every engine:
 *   engine ("postgresql", "mariadb", "mysql"), identity (what the vault's lineage hangs on), server_version ("15.20",
 *   "10.11.19-MariaDB-..."), server_version_num (as the engine counts: 150020, 101119), start_lsn and stop_lsn (texts:
 *   the engine's word for a position), from_standby, started_at, finished_at, files, logical_bytes, bad_pages,
 *   pending_pages, unjudged_pages, damaged [{path, block, verdict}] (the first 100 of them), superuser (of the role or
 *   account that may do everything, or null), notices
 * scan (whether every page was seen: server/job/backup_base.h)
 * and the engine's own members, which postgres/facts.h and mariadb/facts.h list.  Backups from before there were two
 * engines lack identity and unjudged_pages.
 */
#pragma once
#include "server/source/source.h"

#define HF_FACTS_DAMAGED_MOST 100

struct hf_facts_extra {
    const char *engine;    // borrowed: its name
    const char *superuser; // borrowed; NULL: not known
    uint64_t logical_bytes;
};

HF_MUST_CHECK bool hf_facts_to_json(const struct hf_backup_facts *facts, const struct hf_page_faults *faults,
                                    const struct hf_facts_extra *extra, json_t **ret, struct hf_error *err);

/* What can be asked of any backup, whatever its engine. */
struct hf_shared_facts {
    char engine[16];
    char identity[HF_SOURCE_IDENTITY_BYTES]; // "" in old backups
    char server_version[64];
    uint32_t server_version_num;
    char start_position[HF_SOURCE_POSITION_BYTES], stop_position[HF_SOURCE_POSITION_BYTES];
    bool from_standby;
    int64_t started_at, finished_at;
    uint64_t files, logical_bytes, bad_pages, pending_pages, unjudged_pages;
};
HF_MUST_CHECK bool hf_facts_read_shared(const json_t *json, struct hf_shared_facts *ret, struct hf_error *err);
