/*
 * facts.h - what is known of a finished backup of MariaDB or MySQL alone
 *
 * The stored facts (server/source/facts.h) have these members beside those of every engine; start_lsn and stop_lsn are
 * InnoDB's, in decimal digits: the redo log kept with the backup begins and ends there.
 *   binlog_file, binlog_position (null without a binary log), gtid (text; "" without; MariaDB: domain-server-sequence,
 *   by commas; MySQL: a set): all that the copy has, and where its binary log goes on,
 *   tool_version ("10.11.19-MariaDB"), page_bytes (InnoDB's default page), changed_files (renamed, removed or sent anew
 *   while the backup ran: corrections.h), ddl_files (InnoDB's tables made, renamed or dropped meanwhile), aria_id (hex:
 *   made with the data directory, and the same in all its copies; null when there is none),
 *   tool_found_damage (the tool wrote innodb_corrupted_pages)
 */
#pragma once
#include "server/source/facts.h"
#include "server/source/mariadb/infos.h"

#define HF_ARIA_ID_BYTES 16

struct hf_mariadb_facts {
    const struct hf_infos *infos; // borrowed
    bool has_binlog;
    uint32_t page_bytes;
    uint64_t changed_files, ddl_files;
    bool has_aria_id;
    uint8_t aria_id[HF_ARIA_ID_BYTES];
    bool tool_found_damage;
};
/* The members above.  Owner of *ret: the caller. */
HF_MUST_CHECK bool hf_mariadb_facts_to_json(const struct hf_mariadb_facts *facts, json_t **ret, struct hf_error *err);

/* Where a stored backup stands in the binary log; texts borrowed from `json`. */
struct hf_mariadb_position {
    const char *binlog_file; // NULL: there is no binary log
    uint64_t binlog_position;
    const char *gtid; // "" for none
};
HF_MUST_CHECK bool hf_mariadb_facts_position(const json_t *json, struct hf_mariadb_position *ret, struct hf_error *err);
