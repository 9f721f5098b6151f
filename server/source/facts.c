#include "server/source/facts.h"

#include <stdio.h>
#include <string.h>

static const char what[] = "facts";

static bool add_damaged(json_t *json, const struct hf_page_faults *faults, struct hf_error *err);
static bool set_integer(json_t *json, const char *member, uint64_t value, struct hf_error *err);
static bool get_text(const json_t *json, const char *member, char *ret, size_t size, struct hf_error *err);
static bool get_u64(const json_t *json, const char *member, uint64_t *ret, struct hf_error *err);

bool
hf_facts_to_json(const struct hf_backup_facts *facts, const struct hf_page_faults *faults,
                 const struct hf_facts_extra *extra, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = json_object();
    if (json == NULL || !hf_json_set(json, "engine", json_string(extra->engine), err) ||
        !hf_json_set(json, "identity", json_string(facts->identity), err) ||
        !hf_json_set(json, "server_version", json_string(facts->server_version_text), err) ||
        !set_integer(json, "server_version_num", facts->server_version, err) ||
        !hf_json_set(json, "start_lsn", json_string(facts->start_position), err) ||
        !hf_json_set(json, "stop_lsn", json_string(facts->stop_position), err) ||
        !hf_json_set(json, "from_standby", json_boolean(facts->from_standby), err) ||
        !set_integer(json, "started_at", (uint64_t)facts->started_at, err) ||
        !set_integer(json, "finished_at", (uint64_t)facts->stopped_at, err) ||
        !set_integer(json, "files", facts->files, err) ||
        !set_integer(json, "logical_bytes", extra->logical_bytes, err) ||
        !hf_json_set(json, "superuser", extra->superuser != NULL ? json_string(extra->superuser) : json_null(), err) ||
        !hf_json_set(json, "notices",
                     hf_json_foreign_text(facts->notices != NULL ? facts->notices : "",
                                          facts->notices != NULL ? strlen(facts->notices) : 0, 8192),
                     err) ||
        !add_damaged(json, faults, err))
        return hf_fail_within(err, "the backup's facts");
    if (facts->own != NULL && json_object_update_missing(json, facts->own) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the backup's facts");
    *ret = HF_TAKE(json);
    return true;
}

bool
hf_facts_read_shared(const json_t *json, struct hf_shared_facts *ret, struct hf_error *err)
{
    struct hf_shared_facts facts = {0};
    uint64_t number;
    if (!get_text(json, "engine", facts.engine, sizeof facts.engine, err) ||
        (json_object_get(json, "identity") != NULL &&
         !get_text(json, "identity", facts.identity, sizeof facts.identity, err)) ||
        !get_text(json, "server_version", facts.server_version, sizeof facts.server_version, err) ||
        !get_u64(json, "server_version_num", &number, err) ||
        !get_text(json, "start_lsn", facts.start_position, sizeof facts.start_position, err) ||
        !get_text(json, "stop_lsn", facts.stop_position, sizeof facts.stop_position, err) ||
        !hf_json_boolean(json, "from_standby", what, &facts.from_standby, err) ||
        !hf_json_integer(json, "started_at", what, 0, INT64_MAX, &facts.started_at, err) ||
        !hf_json_integer(json, "finished_at", what, 0, INT64_MAX, &facts.finished_at, err) ||
        !get_u64(json, "files", &facts.files, err) || !get_u64(json, "logical_bytes", &facts.logical_bytes, err) ||
        !get_u64(json, "bad_pages", &facts.bad_pages, err) ||
        !get_u64(json, "pending_pages", &facts.pending_pages, err) ||
        (json_object_get(json, "unjudged_pages") != NULL &&
         !get_u64(json, "unjudged_pages", &facts.unjudged_pages, err)))
        return false;
    if (number > UINT32_MAX)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: the server's version is no version", what);
    facts.server_version_num = (uint32_t)number;
    *ret = facts;
    return true;
}

static bool
add_damaged(json_t *json, const struct hf_page_faults *faults, struct hf_error *err)
{
    json_t *damaged = json_array();
    if (!set_integer(json, "bad_pages", faults->bad, err) ||
        !set_integer(json, "pending_pages", faults->pending, err) ||
        !set_integer(json, "unjudged_pages", atomic_load(&faults->unjudged), err) ||
        !hf_json_set(json, "damaged", damaged, err))
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
set_integer(json_t *json, const char *member, uint64_t value, struct hf_error *err)
{
    return hf_json_set(json, member, json_integer((json_int_t)value), err);
}

static bool
get_text(const json_t *json, const char *member, char *ret, size_t size, struct hf_error *err)
{
    const char *text;
    if (!hf_json_string(json, member, what, &text, err))
        return false;
    if (strlen(text) >= size)
        return hf_fail(err, HF_ERR_CORRUPT, "%s: \"%s\" is longer than %zu bytes", what, member, size - 1);
    snprintf(ret, size, "%s", text);
    return true;
}

static bool
get_u64(const json_t *json, const char *member, uint64_t *ret, struct hf_error *err)
{
    int64_t value;
    if (!hf_json_integer(json, member, what, 0, INT64_MAX, &value, err))
        return false;
    *ret = (uint64_t)value;
    return true;
}
