/*
 * restore_target.h - the moment a restore is to reach: from the words of a command to the request of a worker
 *
 * The command's arguments, of which at most one of the first six is there:
 *   at (RFC 3339 with a zone), lsn, xid, before_xid, restore_point (texts), latest (true); timeline (number), action (text)
 *
 * The request's member "target": null, or {kind ("time", "lsn", "xid", "before xid", "restore point", "latest"), value (text: times
 * in UTC), timeline (0: the newest of the archive), action ("promote", "pause", "shutdown")}.
 */
#pragma once
#include "server/source/postgres/replay.h"

struct hf_restore_target {
    bool wanted; // false: the backup's own end
    struct hf_wal_target log;
    uint32_t timeline;
    const char *action; // borrowed from the program
};

/* Errors: USAGE, in the words of the command's options. */
HF_MUST_CHECK bool hf_restore_target_parse(const json_t *arguments, struct hf_restore_target *ret,
                                           struct hf_error *err);
HF_MUST_CHECK bool hf_restore_target_to_json(const struct hf_restore_target *target, json_t **ret,
                                             struct hf_error *err);
HF_MUST_CHECK bool hf_restore_target_from_json(const json_t *json, struct hf_restore_target *ret, struct hf_error *err);
