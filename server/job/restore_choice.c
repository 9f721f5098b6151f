#include "server/job/restore_choice.h"

#include "catalog/view.h"
#include "server/job/restore_start.h"

struct wanted {
    struct hf_id backup, vault;
    enum hf_backup_state state;
};

static bool choose_backups(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target,
                           enum hf_backup_state *ret_state, struct hf_restore_starts *ret, struct hf_error *err);
static bool take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);

bool
hf_restore_choose(struct hf_daemon *daemon, struct hf_job *job, struct hf_restore_target *ret_moment,
                  json_t **ret_request, struct hf_error *err)
{
    struct hf_restore_starts starts;
    enum hf_backup_state state;
    _cleanup_(hf_json_freep) json_t *request = json_object(), *to_reach = NULL, *from = NULL, *source = NULL;
    struct hf_error unknown;
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (!hf_restore_target_parse(hf_job_arguments(job), ret_moment, err) ||
        !choose_backups(daemon, job, ret_moment, &state, &starts, err) ||
        !hf_restore_starts_to_json(&starts, &from, err) || !hf_restore_target_to_json(ret_moment, &to_reach, err) ||
        !hf_json_set(request, "target", HF_TAKE(to_reach), err) ||
        !hf_json_set(request, "starts", HF_TAKE(from), err) ||
        // Of a source that was removed nothing is known but its backups.
        !hf_json_set(request, "source",
                     hf_daemon_describe_source(daemon, hf_job_subject(job), &source, &unknown) ? HF_TAKE(source)
                                                                                               : json_null(),
                     err) ||
        !hf_json_set(request, "vault", hf_json_id_text(&starts.vault), err) ||
        !hf_json_set(request, "state", json_string(hf_backup_state_name(state)), err))
        return false;
    for (size_t i = 0; i < starts.count; i++)
        if (!hf_job_pin(daemon, job, &starts.vault, &starts.backups[i], err))
            return false;
    *ret_request = HF_TAKE(request);
    return true;
}

static bool
choose_backups(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target,
               enum hf_backup_state *ret_state, struct hf_restore_starts *ret, struct hf_error *err)
{
    static const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const char *named = json_string_value(json_object_get(hf_job_arguments(job), "backup"));
    struct wanted wanted;
    bool found;
    *ret_state = HF_BACKUP_PROVEN;
    if (named != NULL) {
        struct hf_id id;
        if (!hf_id_parse(named, &id, err) || !hf_catalog_backup(catalog, &id, &found, take_backup, &wanted, err))
            return false;
    } else if (target->wanted) {
        return hf_restore_starts_find(daemon, hf_job_subject(job), target, ret, err);
    } else if (!hf_catalog_newest_backup(catalog, hf_job_subject(job), &proven, &found, take_backup, &wanted, err) ||
               (!found &&
                !hf_catalog_newest_backup(catalog, hf_job_subject(job), NULL, &found, take_backup, &wanted, err))) {
        return false;
    }
    if (found) {
        *ret_state = wanted.state;
        *ret = (struct hf_restore_starts){.vault = wanted.vault, .count = 1, .backups = {wanted.backup}};
        return true;
    }
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no such backup", hf_job_subject(job));
    return hf_fail_hint(err, "List them: holdfast backups %s.", hf_job_subject(job));
}

static bool
take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    struct wanted *wanted = context;
    *wanted = (struct wanted){row->backup, row->vault, row->state};
    return true;
}
