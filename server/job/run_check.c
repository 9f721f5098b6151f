#include "server/job/kinds.h"

#include <stdio.h>
#include <string.h>

#include "server/job/open_repository.h"
#include "server/repository/check.h"
#include "server/repository/reader.h"

#define DAMAGES_MOST 1000 // listed; the count goes on

struct gathering {
    json_t *damages; // what people read: [{kind, vault, pack, slab, backup, file, message}]
    bool out_of_memory;
};

static void take_damage(void *context, const struct hf_damage *damage);
static bool affected_backups(struct hf_repository *repository, const json_t *damages, json_t **ret,
                             struct hf_error *err);
static bool affected_in_vault(struct hf_repository *repository, const struct hf_id *vault, const json_t *damages,
                              json_t *list, struct hf_error *err);
static bool needs(const struct hf_manifest_root *root, const struct hf_vault_backup *backup, const json_t *damage);
static json_t *pack_row(const json_t *damage);

bool
hf_check_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    struct gathering gathering = {.damages = json_array()};
    struct hf_check_report report;
    int64_t level = 1;
    json_t *affected;
    if (result == NULL || !hf_json_set(result, "damages", gathering.damages, err))
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (json_object_get(request, "level") != NULL &&
        !hf_json_integer(request, "level", "the request", 0, 2, &level, err))
        return hf_fail(err, HF_ERR_USAGE, "the check level is 0, 1 or 2");

    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    atomic_store(&relay.phase, "check");
    const struct hf_check_options options = {.level = (int)level,
                                             .workers = (unsigned)hf_worker_settings(worker)->workers,
                                             .cancel = hf_worker_cancel(worker),
                                             .damage = take_damage,
                                             .context = &gathering,
                                             .done = &relay.done,
                                             .total = &relay.total};
    if (!hf_open_repository(worker, NULL, &opened, err) ||
        !hf_repository_check(opened.repository, &options, &report, err) ||
        !affected_backups(opened.repository, gathering.damages, &affected, err) ||
        !hf_json_set(result, "affected", affected, err) || !hf_json_set(result, "level", json_integer(level), err) ||
        !hf_json_set(result, "vaults", json_integer((json_int_t)report.vaults), err) ||
        !hf_json_set(result, "log_entries", json_integer((json_int_t)report.log_entries), err) ||
        !hf_json_set(result, "backups", json_integer((json_int_t)report.backups), err) ||
        !hf_json_set(result, "packs", json_integer((json_int_t)report.packs), err) ||
        !hf_json_set(result, "pack_bytes", json_integer((json_int_t)report.pack_bytes), err) ||
        !hf_json_set(result, "slabs", json_integer((json_int_t)report.slabs), err) ||
        !hf_json_set(result, "pages", json_integer((json_int_t)report.pages), err) ||
        !hf_json_set(result, "files", json_integer((json_int_t)report.files), err) ||
        !hf_json_set(result, "orphans", json_integer((json_int_t)report.orphans), err) ||
        !hf_json_set(result, "orphan_bytes", json_integer((json_int_t)report.orphan_bytes), err) ||
        !hf_json_set(result, "damage_count", json_integer((json_int_t)report.damages), err))
        return false;
    if (gathering.out_of_memory)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    if (report.damages > 0)
        hf_worker_bad_news(worker);
    *ret_result = HF_TAKE(result);
    return true;
}

/* Each backup that needs a damaged object becomes "damaged": from now on, wherever it is shown. */
bool
hf_check_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                  struct hf_error *err)
{
    (void)job;
    (void)why;
    if (*result == NULL)
        return true;
    json_t *affected, *row;
    size_t index;
    if (!hf_json_array(*result, "affected", "the result", &affected, err))
        return false;
    json_array_foreach(affected, index, row)
    {
        struct hf_id vault, backup;
        if (!hf_json_id(row, "vault", "the result", &vault, err) ||
            !hf_json_id(row, "backup", "the result", &backup, err) ||
            !hf_record_damage(daemon, &vault, &backup, json_object_get(row, "packs"), "found by repo check", err))
            return false;
    }
    return true;
}

bool
hf_gc_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    struct hf_collect_report report;
    (void)request;
    hf_worker_progress(worker, "collect", 0, 0);
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_open_repository(worker, NULL, &opened, err) || !hf_repository_collect(opened.repository, &report, err) ||
        !hf_json_set(result, "packs_removed", json_integer((json_int_t)report.packs), err) ||
        !hf_json_set(result, "bytes_removed", json_integer((json_int_t)(report.pack_bytes + report.upload_bytes)),
                     err) ||
        !hf_json_set(result, "uploads_removed", json_integer((json_int_t)report.uploads), err) ||
        !hf_json_set(result, "packs_of_open_sessions", json_integer((json_int_t)report.kept_open), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

static void
take_damage(void *context, const struct hf_damage *damage)
{
    struct gathering *gathering = context;
    struct hf_error ignored;
    if (json_array_size(gathering->damages) >= DAMAGES_MOST)
        return;
    _cleanup_(hf_json_freep) json_t *row = json_object();
    const bool ok =
        row != NULL && hf_json_set(row, "kind", json_string(hf_damage_kind_name(damage->kind)), &ignored) &&
        hf_json_set(row, "vault", hf_json_id_text(&damage->vault), &ignored) &&
        hf_json_set(row, "pack", hf_id_is_none(&damage->pack) ? json_null() : hf_json_id_text(&damage->pack),
                    &ignored) &&
        hf_json_set(row, "slab", damage->slab != HF_DAMAGE_NO_SLAB ? json_integer(damage->slab) : json_null(),
                    &ignored) &&
        hf_json_set(row, "backup", hf_id_is_none(&damage->backup) ? json_null() : hf_json_id_text(&damage->backup),
                    &ignored) &&
        hf_json_set(row, "file",
                    damage->file != NULL ? hf_json_foreign_text(damage->file, strlen(damage->file), 1024) : json_null(),
                    &ignored) &&
        hf_json_set(row, "message", hf_json_foreign_text(damage->message, strlen(damage->message), 512), &ignored) &&
        json_array_append(gathering->damages, row) == 0;
    gathering->out_of_memory = gathering->out_of_memory || !ok;
}

/* [{vault, backup, packs [[pack, slab], ...]}]: which backups need what was found damaged. */
static bool
affected_backups(struct hf_repository *repository, const json_t *damages, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    _cleanup_(hf_freep) struct hf_id *vaults = NULL;
    size_t count;
    if (json_array_size(damages) == 0) {
        *ret = HF_TAKE(list);
        return true;
    }
    if (!hf_repository_vaults(repository, &vaults, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (!affected_in_vault(repository, &vaults[i], damages, list, err))
            return false;
    *ret = HF_TAKE(list);
    return true;
}

static bool
affected_in_vault(struct hf_repository *repository, const struct hf_id *id, const json_t *damages, json_t *list,
                  struct hf_error *err)
{
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    const struct hf_vault_state *state;
    struct hf_error ignored;
    if (!hf_vault_open(repository, id, &vault, &ignored) || !hf_vault_read(vault, NULL, NULL, &state, &ignored))
        return true; // its log is among the damages
    for (size_t i = 0; i < state->backup_count; i++) {
        const struct hf_vault_backup *backup = &state->backups[i];
        _cleanup_(hf_backup_freep) struct hf_backup *opened = NULL;
        _cleanup_(hf_json_freep) json_t *row = json_object();
        json_t *packs = json_array();
        size_t index;
        const json_t *damage;
        bool any = false;
        if (row == NULL || !hf_json_set(row, "packs", packs, err) ||
            !hf_json_set(row, "vault", hf_json_id_text(id), err) ||
            !hf_json_set(row, "backup", hf_json_id_text(&backup->backup), err))
            return false;
        if (backup->pruned)
            continue;
        const bool readable = hf_backup_open(vault, &backup->backup, &opened, &ignored);
        json_array_foreach(damages, index, damage)
        {
            if (!needs(readable ? hf_backup_root(opened) : NULL, backup, damage))
                continue;
            any = true;
            if (json_is_string(json_object_get(damage, "pack")) && json_array_append_new(packs, pack_row(damage)) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
        }
        if ((any || !readable) && json_array_append(list, row) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the damages");
    }
    return true;
}

/* By name, or because its manifest lists the pack. */
static bool
needs(const struct hf_manifest_root *root, const struct hf_vault_backup *backup, const json_t *damage)
{
    struct hf_id id;
    const char *named = json_string_value(json_object_get(damage, "backup"));
    const char *pack = json_string_value(json_object_get(damage, "pack"));
    if (named != NULL && hf_id_parse(named, &id, NULL) && hf_id_equal(&id, &backup->backup))
        return true;
    if (pack == NULL || !hf_id_parse(pack, &id, NULL))
        return false;
    if (root == NULL || hf_id_equal(&id, &backup->root_pack))
        return hf_id_equal(&id, &backup->root_pack);
    for (size_t i = 0; i < root->summary_count; i++)
        if (hf_id_equal(&root->summary[i].pack, &id))
            return true;
    return false;
}

static json_t *
pack_row(const json_t *damage)
{
    json_t *row = json_array();
    if (row == NULL || json_array_append(row, json_object_get(damage, "pack")) != 0 ||
        json_array_append(row, json_object_get(damage, "slab")) != 0) {
        json_decref(row);
        return NULL;
    }
    return row;
}
