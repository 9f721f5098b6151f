#include "server/source/mariadb/facts.h"

#include <stdio.h>

static const char what[] = "facts";

bool
hf_mariadb_facts_to_json(const struct hf_mariadb_facts *facts, json_t **ret, struct hf_error *err)
{
    char id[2 * HF_ARIA_ID_BYTES + 1] = "";
    for (size_t i = 0; i < HF_ARIA_ID_BYTES; i++)
        snprintf(id + 2 * i, 3, "%02x", facts->aria_id[i]);
    const struct hf_infos *infos = facts->infos;
    _cleanup_(hf_json_freep) json_t *own = json_object();
    if (own == NULL ||
        !hf_json_set(own, "binlog_file", facts->has_binlog ? json_string(infos->binlog_file) : json_null(), err) ||
        !hf_json_set(own, "binlog_position",
                     facts->has_binlog ? json_integer((json_int_t)infos->binlog_position) : json_null(), err) ||
        !hf_json_set(own, "gtid", json_string(hf_buf_text(&infos->gtid)), err) ||
        !hf_json_set(own, "tool_version", json_string(infos->tool_version), err) ||
        !hf_json_set(own, "page_bytes", json_integer(facts->page_bytes), err) ||
        !hf_json_set(own, "changed_files", json_integer((json_int_t)facts->changed_files), err) ||
        !hf_json_set(own, "ddl_files", json_integer((json_int_t)facts->ddl_files), err) ||
        !hf_json_set(own, "aria_id", facts->has_aria_id ? json_string(id) : json_null(), err) ||
        !hf_json_set(own, "tool_found_damage", json_boolean(facts->tool_found_damage), err))
        return hf_fail_within(err, "the backup's facts");
    *ret = HF_TAKE(own);
    return true;
}

bool
hf_mariadb_facts_position(const json_t *json, struct hf_mariadb_position *ret, struct hf_error *err)
{
    struct hf_mariadb_position position = {0};
    int64_t number;
    if (!hf_json_string(json, "gtid", what, &position.gtid, err))
        return false;
    if (!json_is_null(json_object_get(json, "binlog_file"))) {
        if (!hf_json_string(json, "binlog_file", what, &position.binlog_file, err) ||
            !hf_json_integer(json, "binlog_position", what, 0, INT64_MAX, &number, err))
            return false;
        position.binlog_position = (uint64_t)number;
    }
    *ret = position;
    return true;
}
