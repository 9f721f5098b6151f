#include "server/source/postgres/facts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/lsn.h"

#define CLOCK_MOST_MS (INT64_C(200) * 366 * 24 * 3600 * 1000) // farther apart than any two clocks

static bool make_own(const struct hf_postgres_facts *facts, json_t **ret, struct hf_error *err);
static bool add_tablespaces(json_t *json, const struct hf_postgres_facts *facts, struct hf_error *err);
static bool set_integer(json_t *json, const char *member, uint64_t value, struct hf_error *err);
static bool set_lsn(json_t *json, const char *member, uint64_t lsn, struct hf_error *err);
static bool get_u32(const json_t *json, const char *member, uint32_t *ret, struct hf_error *err);
static bool get_lsn(const json_t *json, const char *member, uint64_t *ret, struct hf_error *err);

void
hf_postgres_facts_done(struct hf_postgres_facts *facts)
{
    for (size_t i = 0; i < facts->tablespace_count; i++)
        free(facts->tablespaces[i].location);
    free(facts->tablespaces);
    free(facts->backup_label);
    free(facts->notices);
    *facts = (struct hf_postgres_facts){0};
}

bool
hf_postgres_facts_share(const struct hf_postgres_facts *facts, struct hf_backup_facts *ret, struct hf_error *err)
{
    char lsn[HF_LSN_TEXT_BYTES];
    struct hf_backup_facts shared = {
        .server_version = facts->server_version,
        .from_standby = facts->from_standby,
        .started_at = facts->started_at,
        .stopped_at = facts->stopped_at,
        .files = facts->files,
        .bytes_received = facts->bytes_received,
    };
    snprintf(shared.identity, sizeof shared.identity, "%" PRIu64, facts->system_identifier);
    snprintf(shared.server_version_text, sizeof shared.server_version_text, "%u.%u", facts->server_version / 10000,
             facts->server_version % 10000);
    snprintf(shared.start_position, sizeof shared.start_position, "%s", hf_lsn_format(facts->start_lsn, lsn));
    snprintf(shared.stop_position, sizeof shared.stop_position, "%s", hf_lsn_format(facts->stop_lsn, lsn));
    shared.notices = strdup(facts->notices != NULL ? facts->notices : "");
    if (shared.notices == NULL || !make_own(facts, &shared.own, err)) {
        hf_backup_facts_done(&shared);
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the backup's facts");
    }
    *ret = shared;
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
    const json_t *ahead = json_object_get(json, "server_clock_ahead_ms");
    if (ahead != NULL && !hf_json_integer(json, "server_clock_ahead_ms", "facts", -CLOCK_MOST_MS, CLOCK_MOST_MS,
                                          &facts.server_clock_ahead_ms, err))
        return false;
    *ret = facts;
    return true;
}

int64_t
hf_facts_server_time(const struct hf_recovery_facts *facts, int64_t at)
{
    return at + facts->server_clock_ahead_ms;
}

static bool
make_own(const struct hf_postgres_facts *facts, json_t **ret, struct hf_error *err)
{
    char identifier[24];
    snprintf(identifier, sizeof identifier, "%" PRIu64, facts->system_identifier);
    _cleanup_(hf_json_freep) json_t *own = json_object();
    if (own == NULL || !hf_json_set(own, "system_identifier", json_string(identifier), err) ||
        !set_lsn(own, "wal_first_lsn", facts->wal_first_lsn, err) ||
        !set_lsn(own, "wal_end_lsn", facts->wal_end_lsn, err) ||
        !set_integer(own, "timeline", facts->start_timeline, err) ||
        !set_integer(own, "stop_timeline", facts->stop_timeline, err) ||
        !set_integer(own, "wal_segment_bytes", facts->wal_segment_bytes, err) ||
        !set_integer(own, "block_bytes", facts->block_bytes, err) ||
        !set_integer(own, "segment_blocks", facts->segment_blocks, err) ||
        !hf_json_set(own, "data_checksums", json_boolean(facts->data_checksums), err) ||
        !set_integer(own, "wal_commits", facts->wal_commits, err) ||
        !set_integer(own, "wal_last_commit_at", (uint64_t)facts->wal_last_commit_at, err) ||
        (facts->clock.known && !hf_json_set(own, "server_clock_ahead_ms", json_integer(facts->clock.ahead_ms), err)) ||
        !set_integer(own, "max_connections", facts->max_connections, err) ||
        !set_integer(own, "max_worker_processes", facts->max_worker_processes, err) ||
        !set_integer(own, "max_wal_senders", facts->max_wal_senders, err) ||
        !set_integer(own, "max_prepared_xacts", facts->max_prepared_xacts, err) ||
        !set_integer(own, "max_locks_per_xact", facts->max_locks_per_xact, err) || !add_tablespaces(own, facts, err))
        return false;
    *ret = HF_TAKE(own);
    return true;
}

static bool
add_tablespaces(json_t *json, const struct hf_postgres_facts *facts, struct hf_error *err)
{
    json_t *list = json_array();
    if (!hf_json_set(json, "tablespaces", list, err))
        return false;
    for (size_t i = 0; i < facts->tablespace_count; i++) {
        const struct hf_postgres_tablespace *tablespace = &facts->tablespaces[i];
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
