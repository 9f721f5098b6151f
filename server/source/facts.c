#include "server/source/facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "server/source/postgres/wal_format.h"

static bool add_damaged(json_t *json, const struct hf_page_faults *faults, struct hf_error *err);
static bool add_tablespaces(json_t *json, const struct hf_backup_facts *facts, struct hf_error *err);
static bool set_integer(json_t *json, const char *member, uint64_t value, struct hf_error *err);
static bool set_lsn(json_t *json, const char *member, uint64_t lsn, struct hf_error *err);
static bool get_u32(const json_t *json, const char *member, uint32_t *ret, struct hf_error *err);
static bool get_lsn(const json_t *json, const char *member, uint64_t *ret, struct hf_error *err);

bool
hf_facts_to_json(const struct hf_backup_facts *facts, const struct hf_page_faults *faults,
                 const struct hf_facts_extra *extra, json_t **ret, struct hf_error *err)
{
    char identifier[24], version[16];
    snprintf(identifier, sizeof identifier, "%" PRIu64, facts->system_identifier);
    snprintf(version, sizeof version, "%u.%u", facts->server_version / 10000, facts->server_version % 10000);
    _cleanup_(hf_json_freep) json_t *json = json_object();
    if (json == NULL || !hf_json_set(json, "engine", json_string("postgresql"), err) ||
        !hf_json_set(json, "system_identifier", json_string(identifier), err) ||
        !hf_json_set(json, "server_version", json_string(version), err) ||
        !set_integer(json, "server_version_num", facts->server_version, err) ||
        !set_lsn(json, "start_lsn", facts->start_lsn, err) || !set_lsn(json, "stop_lsn", facts->stop_lsn, err) ||
        !set_lsn(json, "wal_first_lsn", facts->wal_first_lsn, err) ||
        !set_lsn(json, "wal_end_lsn", facts->wal_end_lsn, err) ||
        !set_integer(json, "timeline", facts->start_timeline, err) ||
        !set_integer(json, "stop_timeline", facts->stop_timeline, err) ||
        !set_integer(json, "wal_segment_bytes", facts->wal_segment_bytes, err) ||
        !set_integer(json, "block_bytes", facts->block_bytes, err) ||
        !set_integer(json, "segment_blocks", facts->segment_blocks, err) ||
        !hf_json_set(json, "data_checksums", json_boolean(facts->data_checksums), err) ||
        !hf_json_set(json, "from_standby", json_boolean(facts->from_standby), err) ||
        !set_integer(json, "wal_commits", facts->wal_commits, err) ||
        !set_integer(json, "wal_last_commit_at", (uint64_t)facts->wal_last_commit_at, err) ||
        !set_integer(json, "max_connections", facts->max_connections, err) ||
        !set_integer(json, "max_worker_processes", facts->max_worker_processes, err) ||
        !set_integer(json, "max_wal_senders", facts->max_wal_senders, err) ||
        !set_integer(json, "max_prepared_xacts", facts->max_prepared_xacts, err) ||
        !set_integer(json, "max_locks_per_xact", facts->max_locks_per_xact, err) ||
        !set_integer(json, "started_at", (uint64_t)facts->started_at, err) ||
        !set_integer(json, "finished_at", (uint64_t)facts->stopped_at, err) ||
        !set_integer(json, "files", facts->files, err) ||
        !set_integer(json, "logical_bytes", extra->logical_bytes, err) ||
        !hf_json_set(json, "superuser", extra->superuser != NULL ? json_string(extra->superuser) : json_null(), err) ||
        !hf_json_set(json, "notices",
                     hf_json_foreign_text(facts->notices != NULL ? facts->notices : "",
                                          facts->notices != NULL ? strlen(facts->notices) : 0, 8192),
                     err) ||
        !add_damaged(json, faults, err) || !add_tablespaces(json, facts, err))
        return hf_fail_within(err, "the backup's facts");
    *ret = HF_TAKE(json);
    return true;
}

bool
hf_facts_from_json(const json_t *json, struct hf_recovery_facts *ret, struct hf_error *err)
{
    struct hf_recovery_facts facts = {0};
    const char *identifier, *version;
    int64_t bad_pages;
    char *end;
    if (!hf_json_string(json, "system_identifier", "facts", &identifier, err) ||
        !hf_json_string(json, "server_version", "facts", &version, err) ||
        !get_u32(json, "server_version_num", &facts.server_version_num, err) ||
        !get_lsn(json, "start_lsn", &facts.start_lsn, err) || !get_lsn(json, "stop_lsn", &facts.stop_lsn, err) ||
        !get_lsn(json, "wal_end_lsn", &facts.wal_end_lsn, err) || !get_u32(json, "timeline", &facts.timeline, err) ||
        !get_u32(json, "stop_timeline", &facts.stop_timeline, err) ||
        !get_u32(json, "wal_segment_bytes", &facts.wal_segment_bytes, err) ||
        !get_u32(json, "block_bytes", &facts.block_bytes, err) ||
        !get_u32(json, "segment_blocks", &facts.segment_blocks, err) ||
        !hf_json_boolean(json, "data_checksums", "facts", &facts.data_checksums, err) ||
        !get_u32(json, "max_connections", &facts.max_connections, err) ||
        !get_u32(json, "max_worker_processes", &facts.max_worker_processes, err) ||
        !get_u32(json, "max_wal_senders", &facts.max_wal_senders, err) ||
        !get_u32(json, "max_prepared_xacts", &facts.max_prepared_xacts, err) ||
        !get_u32(json, "max_locks_per_xact", &facts.max_locks_per_xact, err) ||
        !hf_json_integer(json, "started_at", "facts", 0, INT64_MAX, &facts.started_at, err) ||
        !hf_json_integer(json, "finished_at", "facts", 0, INT64_MAX, &facts.finished_at, err) ||
        !hf_json_integer(json, "wal_last_commit_at", "facts", 0, INT64_MAX, &facts.wal_last_commit_at, err) ||
        !hf_json_integer(json, "bad_pages", "facts", 0, INT64_MAX, &bad_pages, err))
        return false;
    facts.bad_pages = (uint64_t)bad_pages;
    facts.system_identifier = strtoull(identifier, &end, 10);
    if (*identifier == 0 || *end != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "facts: system identifier \"%.32s\" is no number", identifier);
    snprintf(facts.server_version, sizeof facts.server_version, "%s", version);
    const char *superuser = json_string_value(json_object_get(json, "superuser"));
    if (superuser != NULL)
        snprintf(facts.superuser, sizeof facts.superuser, "%s", superuser);
    *ret = facts;
    return true;
}

static bool
add_damaged(json_t *json, const struct hf_page_faults *faults, struct hf_error *err)
{
    json_t *damaged = json_array();
    if (!set_integer(json, "bad_pages", faults->bad, err) ||
        !set_integer(json, "pending_pages", faults->pending, err) || !hf_json_set(json, "damaged", damaged, err))
        return false;
    for (size_t i = 0; i < faults->count && json_array_size(damaged) < HF_FACTS_DAMAGED_MOST; i++) {
        const struct hf_page_fault *fault = &faults->items[i];
        _cleanup_(hf_json_freep) json_t *row = json_object();
        if (row == NULL ||
            !hf_json_set(row, "path", hf_json_foreign_text(fault->path, strlen(fault->path), 1024), err) ||
            !set_integer(row, "block", fault->block, err) ||
            !hf_json_set(row, "verdict", json_string(fault->verdict == HF_PAGE_BAD ? "bad" : "pending"), err) ||
            json_array_append(damaged, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    }
    return true;
}

static bool
add_tablespaces(json_t *json, const struct hf_backup_facts *facts, struct hf_error *err)
{
    json_t *list = json_array();
    if (!hf_json_set(json, "tablespaces", list, err))
        return false;
    for (size_t i = 0; i < facts->tablespace_count; i++) {
        const struct hf_backup_tablespace *tablespace = &facts->tablespaces[i];
        _cleanup_(hf_json_freep) json_t *row = json_object();
        if (row == NULL || !set_integer(row, "oid", tablespace->oid, err) ||
            !hf_json_set(row, "location",
                         hf_json_foreign_text(tablespace->location, strlen(tablespace->location), 4096), err) ||
            json_array_append(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory");
    }
    return true;
}

static bool
set_integer(json_t *json, const char *member, uint64_t value, struct hf_error *err)
{
    return hf_json_set(json, member, json_integer((json_int_t)value), err);
}

static bool
set_lsn(json_t *json, const char *member, uint64_t lsn, struct hf_error *err)
{
    char text[HF_LSN_TEXT_BYTES];
    return hf_json_set(json, member, json_string(hf_lsn_format(lsn, text)), err);
}

static bool
get_u32(const json_t *json, const char *member, uint32_t *ret, struct hf_error *err)
{
    int64_t value;
    if (!hf_json_integer(json, member, "facts", 0, UINT32_MAX, &value, err))
        return false;
    *ret = (uint32_t)value;
    return true;
}

static bool
get_lsn(const json_t *json, const char *member, uint64_t *ret, struct hf_error *err)
{
    const char *text;
    return hf_json_string(json, member, "facts", &text, err) && hf_lsn_parse(text, ret, err);
}
