#include "server/job/backup_base.h"

#include <stdio.h>
#include <string.h>

#include "server/repository/reader.h"

#define SERVER_MANIFEST "holdfast_config/server_manifest" // server/source/postgres/fold.h
#define MANIFEST        "backup_manifest"

static bool look(struct hf_vault *vault, const struct hf_session *session, const struct hf_source_settings *settings,
                 struct hf_backup_build *build, struct hf_error *why);
static bool read_facts(struct hf_vault *vault, const struct hf_id *parent, struct hf_backup_build *build,
                       struct hf_error *why);
static bool read_manifest(struct hf_vault *vault, const struct hf_id *parent, struct hf_backup_build *build,
                          struct hf_error *why);

bool
hf_backup_build_begin(struct hf_vault *vault, const struct hf_session *session, const struct hf_source_engine *engine,
                      const struct hf_source_settings *settings, struct hf_backup_build *ret, struct hf_error *err)
{
    struct hf_error why = {0};
    *ret = (struct hf_backup_build){.manifest = HF_BUF_INIT(HF_GIB)};
    if (strcmp(engine->name, hf_source_postgres.name) != 0) {
        snprintf(ret->why, sizeof ret->why, "this kind of server always sends everything");
        return true;
    }
    ret->possible = look(vault, session, settings, ret, &why);
    if (why.kind == HF_ERR_NO_MEMORY || why.kind == HF_ERR_CANCELLED) {
        *err = why;
        return false;
    }
    snprintf(ret->why, sizeof ret->why, "%.190s", why.message);
    return true;
}

void
hf_backup_build_done(struct hf_backup_build *build)
{
    hf_buf_done(&build->manifest);
}

bool
hf_backup_build_describe(const struct hf_backup_build *build, uint64_t pages_kept, json_t *facts, struct hf_error *err)
{
    const bool used = build->possible && build->base.used;
    const char *why = !build->possible ? build->why : used ? NULL : build->base.why;
    json_t *scan =
        json_pack("{s:s, s:s?, s:I, s:I}", "kind", used ? "incremental" : "full", "reason", why, "since_full",
                  (json_int_t)(used ? build->since_full + 1 : 0), "pages_kept", (json_int_t)pages_kept);
    return hf_json_set(facts, "scan", scan, err);
}

static bool
look(struct hf_vault *vault, const struct hf_session *session, const struct hf_source_settings *settings,
     struct hf_backup_build *build, struct hf_error *why)
{
    const char *words;
    const struct hf_id parent = hf_session_parent(session, NULL);
    if (!hf_session_can_keep(session, &words))
        return hf_fail(why, HF_ERR_CONFLICT, "%s", words);
    if (settings->full_scan_every == 1)
        return hf_fail(why, HF_ERR_CONFLICT, "full_scan_every is 1");
    if (!read_facts(vault, &parent, build, why))
        return false;
    if (settings->full_scan_every > 0 && build->since_full + 1 >= settings->full_scan_every)
        return hf_fail(why, HF_ERR_CONFLICT, "one backup of %lld sees every page",
                       (long long)settings->full_scan_every);
    return read_manifest(vault, &parent, build, why);
}

static bool
read_facts(struct hf_vault *vault, const struct hf_id *parent, struct hf_backup_build *build, struct hf_error *why)
{
    const struct hf_vault_state *state;
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    if (!hf_vault_read(vault, NULL, NULL, &state, why))
        return false;
    const struct hf_vault_backup *backup = hf_vault_state_backup(state, parent);
    if (backup == NULL || backup->facts == NULL)
        return hf_fail(why, HF_ERR_NOT_FOUND, "the backup before has no facts");
    if (!hf_json_parse(backup->facts, strlen(backup->facts), "the facts of the backup before", &facts, why) ||
        !hf_json_boolean(facts, "data_checksums", "the facts of the backup before", &build->base.checksums, why))
        return false;
    build->since_full = json_integer_value(json_object_get(json_object_get(facts, "scan"), "since_full"));
    return true;
}

/* The server's own words: of a backup that was put together here they lie beside the manifest that describes it. */
static bool
read_manifest(struct hf_vault *vault, const struct hf_id *parent, struct hf_backup_build *build, struct hf_error *why)
{
    _cleanup_(hf_backup_freep) struct hf_backup *backup = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    if (!hf_backup_open(vault, parent, &backup, why) || !hf_slab_worker_new(1, &worker, why))
        return false;
    if (!hf_backup_read_file(backup, worker, SERVER_MANIFEST, &build->manifest, why)) {
        if (why->kind != HF_ERR_NOT_FOUND)
            return false;
        hf_buf_clear(&build->manifest);
        if (!hf_backup_read_file(backup, worker, MANIFEST, &build->manifest, why))
            return false;
    }
    *why = (struct hf_error){0};
    build->base.manifest = hf_buf_text(&build->manifest);
    build->base.manifest_bytes = build->manifest.length;
    return true;
}
