#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/log_serve.h"
#include "server/job/source_names.h"

#define SETTINGS_MOST (64 * HF_KIB)
#define SLOT_TAG_HEX  12 // digits of the appliance id in the names of replication slots

/* A source as the catalog has it. */
struct known {
    bool found;
    struct hf_id id;
    bool from_file;
    struct hf_source_settings *settings;
    json_t *text; // its settings, an object of texts
};

static bool release_stream(struct hf_daemon *daemon, const char *name, json_t *described, struct hf_error *err);
static bool look_up(struct hf_daemon *daemon, const char *name, struct known *ret, struct hf_error *err);
static void known_done(struct known *known);
static bool keep_known(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool follow_one(struct hf_daemon *daemon, const struct hf_source_settings *source, struct hf_error *err);
static bool record_set(struct hf_daemon *daemon, const struct hf_id *id, const struct hf_source_settings *source,
                       const char *origin, struct hf_error *err);
static bool record_remove(struct hf_daemon *daemon, const struct hf_id *id, const char *name, struct hf_error *err);
static bool record(struct hf_daemon *daemon, const struct hf_id *id, json_t *sealed, struct hf_error *err);
static bool add_row(void *context, const struct hf_source_row *row, struct hf_error *err);
static bool find_identity(void *context, const struct hf_vault_row *row, struct hf_error *err);

bool
hf_daemon_source(struct hf_daemon *daemon, const char *name, struct hf_source_settings **ret, struct hf_error *err)
{
    _cleanup_(known_done) struct known known = {0};
    if (!look_up(daemon, name, &known, err))
        return false;
    if (!known.found) {
        hf_fail(err, HF_ERR_NOT_FOUND, "there is no source \"%.100s\"", name);
        return hf_fail_hint(err, "\"holdfast source list\" shows those there are.");
    }
    *ret = HF_TAKE(known.settings);
    return true;
}

/* The vault that a walk is looking for, and what it found. */
struct identity {
    struct hf_id vault;
    json_t *text;
};

bool
hf_daemon_describe_source(struct hf_daemon *daemon, const char *name, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
    _cleanup_(hf_json_freep) json_t *settings = NULL;
    char appliance[HF_ID_TEXT_BYTES], slot_tag[SLOT_TAG_HEX + 1];
    struct identity identity = {0};
    if (!hf_daemon_source(daemon, name, &source, err) || !hf_source_settings_to_json(source, &settings, err) ||
        !hf_catalog_source_vault(hf_daemon_catalog(daemon), name, &identity.vault, err) ||
        !hf_catalog_vaults(hf_daemon_catalog(daemon), find_identity, &identity, err)) {
        json_decref(identity.text);
        return false;
    }

    hf_id_format(&hf_records_signing(daemon->records)->appliance, appliance);
    snprintf(slot_tag, sizeof slot_tag, "%.*s", SLOT_TAG_HEX, appliance);
    json_t *described =
        json_pack("{s:s, s:O, s:s, s:o, s:o}", "name", name, "settings", settings, "slot_tag", slot_tag, "vault",
                  hf_id_is_none(&identity.vault) ? json_null() : hf_json_id_text(&identity.vault), "identity",
                  identity.text == NULL ? json_null() : identity.text);
    if (described == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for source \"%s\"", name);
    *ret = described;
    return true;
}

bool
hf_sources_follow_file(struct hf_daemon *daemon, struct hf_error *err)
{
    const struct hf_settings *settings = daemon->settings;
    for (size_t i = 0; i < settings->source_count; i++)
        if (!follow_one(daemon, settings->sources[i], err))
            return hf_fail_within(err, "could not record source \"%s\"", settings->sources[i]->name);

    _cleanup_(hf_source_names_done) struct hf_source_names names = {.origin = "file"};
    if (!hf_catalog_sources(hf_daemon_catalog(daemon), hf_source_names_keep, &names, err))
        return false;
    for (size_t i = 0; i < names.count; i++) {
        _cleanup_(known_done) struct known known = {0};
        if (hf_settings_source(settings, names.list[i]) != NULL)
            continue;
        if (!look_up(daemon, names.list[i], &known, err) || !record_remove(daemon, &known.id, names.list[i], err))
            return hf_fail_within(err, "could not record that source \"%s\" is gone", names.list[i]);
    }
    return true;
}

bool
hf_sources_add(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, struct hf_error *err)
{
    static const struct hf_argument known_arguments[] = {
        {"name", 's', true}, {"settings", 'o', true}, {"replace", 'b', false}};
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *source = NULL;
    _cleanup_(known_done) struct known known = {0};
    if (!hf_arguments_check(arguments, known_arguments, HF_LENGTH(known_arguments), err))
        return false;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    if (!hf_source_settings_from_json(name, json_object_get(arguments, "settings"), &source, err) ||
        !look_up(daemon, name, &known, err))
        return false;
    if (known.found && known.from_file)
        return hf_fail(err, HF_ERR_CONFLICT, "source \"%s\" stands in \"%s\": change it there", name,
                       daemon->settings->file);
    if (known.found && !json_is_true(json_object_get(arguments, "replace"))) {
        hf_fail(err, HF_ERR_CONFLICT, "there is a source \"%s\" already", name);
        return hf_fail_hint(err, "Use --replace to change it.");
    }
    const struct hf_id id = known.found ? known.id : hf_id_new();
    if (!record_set(daemon, &id, source, "command", err))
        return false;
    hf_log_serve_end_all(daemon); // which one is the only one may have changed
    struct hf_job *stream = hf_stream_job(daemon, name);
    if (stream != NULL && known.found) // it is begun anew, with what was changed
        hf_jobs_cancel(daemon, stream);
    daemon->look_at = 0;
    *ret_result = json_pack("{s:s, s:o}", "name", name, "source", hf_json_id_text(&id));
    return true;
}

bool
hf_sources_remove(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, struct hf_error *err)
{
    static const struct hf_argument known_arguments[] = {{"name", 's', true}};
    _cleanup_(known_done) struct known known = {0};
    if (!hf_arguments_check(arguments, known_arguments, HF_LENGTH(known_arguments), err))
        return false;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    if (!look_up(daemon, name, &known, err))
        return false;
    if (!known.found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no source \"%.100s\"", name);
    if (known.from_file)
        return hf_fail(err, HF_ERR_CONFLICT, "source \"%s\" stands in \"%s\": remove it there", name,
                       daemon->settings->file);
    _cleanup_(hf_json_freep) json_t *described = NULL;
    if (known.settings->stream && !hf_daemon_describe_source(daemon, name, &described, err))
        return false;
    if (!record_remove(daemon, &known.id, name, err) ||
        (described != NULL && !release_stream(daemon, name, described, err)))
        return false;
    hf_log_serve_end_all(daemon);
    *ret_result = json_pack("{s:s, s:b}", "name", name, "releases_slot", (int)(described != NULL));
    return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for an answer");
}

bool
hf_sources_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, struct hf_error *err)
{
    if (!hf_arguments_check(arguments, NULL, 0, err))
        return false;
    _cleanup_(hf_json_freep) json_t *list = json_array();
    if (!hf_catalog_sources(hf_daemon_catalog(daemon), add_row, list, err))
        return false;
    *ret_result = json_pack("{s:O}", "sources", list);
    return true;
}

/* The receiver stops, and its slot on the server goes: that takes time, and can fail. */
static bool
release_stream(struct hf_daemon *daemon, const char *name, json_t *described, struct hf_error *err)
{
    struct hf_job *job = hf_stream_job(daemon, name);
    _cleanup_(hf_json_freep) json_t *arguments = json_pack("{s:O}", "described", described);
    if (arguments == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a job");
    if (job != NULL)
        hf_jobs_cancel(daemon, job);
    return hf_daemon_add_job(daemon, "stream release", arguments, "source remove", NULL, err);
}

static bool
look_up(struct hf_daemon *daemon, const char *name, struct known *ret, struct hf_error *err)
{
    bool found;
    if (!hf_source_name_check(name, err))
        return false;
    return hf_catalog_source(hf_daemon_catalog(daemon), name, &found, keep_known, ret, err);
}

static void
known_done(struct known *known)
{
    hf_source_settings_freep(&known->settings);
    hf_json_freep(&known->text);
}

static bool
keep_known(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    struct known *known = context;
    known->found = true;
    known->id = row->source;
    known->from_file = strcmp(row->origin, "file") == 0;
    return hf_json_parse(row->settings, strlen(row->settings), "the recorded source", &known->text, err) &&
           hf_source_settings_from_json(row->name, known->text, &known->settings, err);
}

static bool
follow_one(struct hf_daemon *daemon, const struct hf_source_settings *source, struct hf_error *err)
{
    _cleanup_(known_done) struct known known = {0};
    _cleanup_(hf_json_freep) json_t *text = NULL;
    if (!look_up(daemon, source->name, &known, err) || !hf_source_settings_to_json(source, &text, err))
        return false;
    if (known.found && known.from_file && json_equal(known.text, text))
        return true;
    const struct hf_id id = known.found ? known.id : hf_id_new();
    return record_set(daemon, &id, source, "file", err);
}

static bool
record_set(struct hf_daemon *daemon, const struct hf_id *id, const struct hf_source_settings *source,
           const char *origin, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *settings = NULL;
    if (!hf_source_settings_to_json(source, &settings, err) ||
        !record(daemon, id,
                json_pack("{s:s, s:s, s:s, s:O}", "change", "set", "name", source->name, "origin", origin, "settings",
                          settings),
                err))
        return false;
    hf_log_info("source \"%s\" is recorded", source->name);
    return true;
}

static bool
record_remove(struct hf_daemon *daemon, const struct hf_id *id, const char *name, struct hf_error *err)
{
    if (!record(daemon, id, json_pack("{s:s, s:s}", "change", "remove", "name", name), err))
        return false;
    hf_log_info("source \"%s\" is removed; its backups stay", name);
    return true;
}

/* A POLICY entry of the house vault; takes the sealed part. */
static bool
record(struct hf_daemon *daemon, const struct hf_id *id, json_t *sealed, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *sealed_part = sealed;
    _cleanup_(hf_json_freep) json_t *public_part =
        json_pack("{s:s, s:o}", "subject", "source", "id", hf_json_id_text(id));
    if (sealed_part == NULL || public_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    const struct hf_record entry = {
        .vault = hf_repository_id(hf_records_repository(daemon->records)),
        .kind = HF_LOG_POLICY,
        .time = hf_daemon_now(daemon),
        .public_part = public_part,
        .sealed_part = sealed_part,
    };
    return hf_records_append(daemon->records, &entry, err);
}

static bool
add_row(void *context, const struct hf_source_row *row, struct hf_error *err)
{
    json_t *settings = NULL;
    if (!hf_json_parse(row->settings, strlen(row->settings), "the recorded source", &settings, err))
        return false;
    json_t *entry = json_pack("{s:o, s:s, s:s, s:s, s:o}", "source", hf_json_id_text(&row->source), "name", row->name,
                              "engine", row->engine, "origin", row->origin, "settings", settings);
    return json_array_append_new(context, entry) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the sources");
}

static bool
find_identity(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    struct identity *identity = context;
    (void)err;
    if (row->identity != NULL && hf_id_equal(&row->vault, &identity->vault))
        identity->text = json_string(row->identity);
    return true;
}
