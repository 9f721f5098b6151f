/*
 * restore_target.h - the moment a restore is to reach: from the words of a command to the request of a worker
 *
 * The command's arguments, of which at most one of the first nine is there:
 *   at (RFC 3339 with a zone), lsn, xid, before_xid, restore_point, gtid, before_gtid, binlog_position (texts), latest
 *   (true); timeline (number), action (text)
 * Which of them a source's engine knows is for moments.h to say.
 *
 * The request's member "target": null, or {kind ("time", "lsn", "xid", "before xid", "restore point", "gtid", "before
 * gtid", "binlog position", "latest"), value (text: times in UTC), timeline (0: the newest of the archive), action
 * ("promote", "pause", "shutdown"; "" when none was named)}.
 */
#pragma once
#include "server/source/mariadb/binlog_serve.h"
#include "server/source/postgres/replay.h"

/* The members of an engine count when it knows this kind of moment. */
struct hf_restore_target {
    bool wanted;              // false: the backup's own end
    const char *option;       // that named it; borrowed from the program
    bool in_wal, in_binlog;   // who knows it
    struct hf_wal_target log; // PostgreSQL's
    enum hf_binlog_stop stop; // MariaDB's
    struct hf_gtid gtid;
    char file[HF_BINLOG_NAME_BYTES];
    uint64_t file_position;
    int64_t time_ms; // of "time"
    uint32_t timeline;
    const char *action; // borrowed from the program; NULL: none was named
};

/* Errors: USAGE, in the words of the command's options. */
HF_MUST_CHECK bool hf_restore_target_parse(const json_t *arguments, struct hf_restore_target *ret,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_restore_target_to_json(const struct hf_restore_target *target, json_t **ret,
                                             struct hf_error *err);
HF_MUST_CHECK bool hf_restore_target_from_json(const json_t *json, struct hf_restore_target *ret, struct hf_error *err);
