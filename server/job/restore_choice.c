#include "server/job/restore_choice.h"

#include "base/time.h"
#include "catalog/view.h"

struct wanted {
    struct hf_id backup, vault;
    enum hf_backup_state state;
};

/* Looks for the newest backup from which a target can be reached. */
struct choice {
    const struct hf_restore_target *target;
    struct wanted wanted;
    bool found;
    int64_t later; // when the nearest proven backup ended that is too new; -1: none
};

static bool choose_backup(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target,
                          struct wanted *ret, struct hf_error *err);
static bool choose_start(struct hf_catalog *catalog, const char *source, const struct hf_restore_target *target,
                         struct wanted *ret, struct hf_error *err);
static bool consider(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err);

bool
hf_restore_choose(struct hf_daemon *daemon, struct hf_job *job, struct hf_restore_target *ret_moment,
                  json_t **ret_request, struct hf_error *err)
{
    struct wanted wanted;
    _cleanup_(hf_json_freep) json_t *request = json_object(), *to_reach = NULL;
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (!hf_restore_target_parse(hf_job_arguments(job), ret_moment, err) ||
        !choose_backup(daemon, job, ret_moment, &wanted, err) ||
        !hf_restore_target_to_json(ret_moment, &to_reach, err) ||
        !hf_json_set(request, "target", HF_TAKE(to_reach), err) ||
        !hf_json_set(request, "backup", hf_json_id_text(&wanted.backup), err) ||
        !hf_json_set(request, "vault", hf_json_id_text(&wanted.vault), err) ||
        !hf_json_set(request, "state", json_string(hf_backup_state_name(wanted.state)), err) ||
        !hf_job_pin(daemon, job, &wanted.vault, &wanted.backup, err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

static bool
choose_backup(struct hf_daemon *daemon, struct hf_job *job, const struct hf_restore_target *target, struct wanted *ret,
              struct hf_error *err)
{
    static const enum hf_backup_state proven = HF_BACKUP_PROVEN;
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    const char *named = json_string_value(json_object_get(hf_job_arguments(job), "backup"));
    bool found;
    if (named != NULL) {
        struct hf_id id;
        if (!hf_id_parse(named, &id, err) || !hf_catalog_backup(catalog, &id, &found, take_backup, ret, err))
            return false;
    } else if (target->wanted) {
        return choose_start(catalog, hf_job_subject(job), target, ret, err);
    } else if (!hf_catalog_newest_backup(catalog, hf_job_subject(job), &proven, &found, take_backup, ret, err) ||
               (!found &&
                !hf_catalog_newest_backup(catalog, hf_job_subject(job), NULL, &found, take_backup, ret, err))) {
        return false;
    }
    if (found)
        return true;
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no such backup", hf_job_subject(job));
    return hf_fail_hint(err, "List them: holdfast backups %s.", hf_job_subject(job));
}

static bool
choose_start(struct hf_catalog *catalog, const char *source, const struct hf_restore_target *target, struct wanted *ret,
             struct hf_error *err)
{
    struct choice choice = {.target = target, .later = -1};
    char text[HF_TIME_TEXT_BYTES];
    if (!hf_catalog_backups(catalog, source, false, consider, &choice, err))
        return false;
    *ret = choice.wanted;
    if (choice.found)
        return true;
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no proven backup that ended before that moment", source);
    if (choice.later < 0)
        return hf_fail_hint(err, "Prove one: holdfast verify %s.", source);
    return hf_fail_hint(err, "The nearest moment: %s, when the earliest proven backup ended.",
                        hf_time_format(choice.later, text));
}

/* They come newest first. */
static bool
consider(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct choice *choice = context;
    if (choice->found)
        return true;
    if (hf_restore_target_suits(choice->target, row)) {
        choice->found = true;
        return take_backup(&choice->wanted, row, err);
    }
    if (row->state == HF_BACKUP_PROVEN)
        choice->later = row->finished_at;
    return true;
}

static bool
take_backup(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    struct wanted *wanted = context;
    *wanted = (struct wanted){row->backup, row->vault, row->state};
    return true;
}
