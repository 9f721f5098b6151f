/*
 * infos.h - the small text files in which a backup tool says what it made
 *
 *     xtrabackup_info         lines "key = value": server_version, tool_version, innodb_from_lsn, innodb_to_lsn,
 *                             binlog_pos, incremental, partial, compressed...
 *     xtrabackup_checkpoints  the same: backup_type ("full-backuped"), from_lsn, to_lsn, last_lsn
 *     xtrabackup_binlog_info  "file <tab> position <tab> GTIDs"; GTIDs of MySQL go on over several lines
 *
 * Newer releases of MariaDB say mariadb_backup_ for xtrabackup_.  They come from the source: each has a limit, numbers
 * are read as numbers, texts must be plain.
 */
#pragma once
#include "base/buf.h"

#define HF_INFOS_FILE_MOST (64 * HF_KIB)
#define HF_INFOS_GTID_MOST (32 * HF_KIB)

enum hf_info { HF_INFO_INFO, HF_INFO_CHECKPOINTS, HF_INFO_BINLOG, HF_INFO_NONE };

/* Which of them a file of that name is. */
enum hf_info hf_info_of(const char *path);
const char *hf_info_name(enum hf_info info); // as xtrabackup says it, for messages

struct hf_infos {
    char tool_version[64], server_version[64];
    uint64_t from_lsn; // redo begins here
    uint64_t last_lsn; // and ends here
    char binlog_file[256];
    uint64_t binlog_position; // 0: no binary log
    struct hf_buf gtid;       // text, "" for none
};
void hf_infos_init(struct hf_infos *infos);
void hf_infos_done(struct hf_infos *infos);

/* CORRUPT names the file and the line.  Refused: what is not a full, uncompressed backup. */
HF_MUST_CHECK bool hf_infos_read(struct hf_infos *infos, enum hf_info which, const char *text, size_t length,
                                 struct hf_error *err);
