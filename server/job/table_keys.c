#include "server/job/table_keys.h"

#include "server/settings/settings.h"

bool
hf_job_table_keys(const json_t *described, struct hf_table_keys **ret, struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *settings = NULL;
    const char *name;
    *ret = NULL;
    if (!json_is_object(described))
        return true;
    if (!hf_json_string(described, "name", "the source", &name, err) ||
        !hf_source_settings_from_json(name, json_object_get(described, "settings"), &settings, err))
        return false;
    return settings->table_keys == NULL ||
           hf_table_keys_read(settings->table_keys, settings->table_keys_password, ret, err) ||
           hf_fail_within(err, "could not read the keys of the tables of source \"%s\"", name);
}
