#include "server/job/restore_start.h"

#include <string.h>

#include "base/time.h"
#include "catalog/view.h"
#include "server/job/moments.h"

/* What is gathered of the rows of a source. */
struct search {
    struct hf_daemon *daemon;
    const struct hf_restore_target *target;
    struct hf_restore_starts starts;
    int64_t later; // when the nearest proven backup ended that is too new, by the server's clock; -1: none
};

static bool consider(void *context, const struct hf_backup_row *row, struct hf_error *err);

bool
hf_restore_starts_find(struct hf_daemon *daemon, const char *source, const struct hf_restore_target *target,
                       struct hf_restore_starts *ret, struct hf_error *err)
{
    struct search search = {.daemon = daemon, .target = target, .later = -1};
    char text[HF_TIME_TEXT_BYTES];
    if (!hf_catalog_backups(hf_daemon_catalog(daemon), source, false, consider, &search, err))
        return false;
    *ret = search.starts;
    if (search.starts.count > 0)
        return true;
    hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no proven backup that ended before that moment", source);
    if (search.later < 0)
        return hf_fail_hint(err, "Prove one: holdfast verify %s.", source);
    return hf_fail_hint(err, "The nearest moment: %s, when the earliest proven backup ended.",
                        hf_time_format(search.later, text));
}

bool
hf_restore_starts_to_json(const struct hf_restore_starts *starts, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < starts->count; i++)
        if (json_array_append_new(list, hf_json_id_text(&starts->backups[i])) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    *ret = HF_TAKE(list);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_restore_starts_from_json(const json_t *json, struct hf_restore_starts *ret, struct hf_error *err)
{
    const size_t count = json_array_size(json);
    if (count == 0 || count > HF_RESTORE_STARTS_MOST)
        return hf_fail(err, HF_ERR_USAGE, "the request names %zu backups to start from", count);
    *ret = (struct hf_restore_starts){0};
    for (size_t i = 0; i < count; i++) {
        const char *text = json_string_value(json_array_get(json, i));
        if (!hf_id_parse(text != NULL ? text : "", &ret->backups[ret->count++], err))
            return false;
    }
    return true;
}

bool
hf_restore_start_facts(const struct hf_vault_state *state, const struct hf_id *backup, json_t **ret,
                       struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_backup *found = hf_vault_state_backup(state, backup);
    if (found == NULL || found->facts == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(backup, text));
    return hf_json_parse(found->facts, strlen(found->facts), "the backup's facts", ret, err);
}

/* They come newest first.  A source that was replaced has backups in several vaults: those of the newest count. */
static bool
consider(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct search *search = context;
    struct hf_restore_starts *starts = &search->starts;
    const struct hf_vault_state *state;
    struct hf_shared_facts shared;
    const struct hf_moments *moments;
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    int64_t ended_at;
    bool before;
    if (row->state != HF_BACKUP_PROVEN || row->pruned_at >= 0 || row->shredded_at >= 0 ||
        starts->count == HF_RESTORE_STARTS_MOST)
        return true;
    if (search->target->timeline != 0 && row->timeline > (int64_t)search->target->timeline)
        return true;
    if (starts->count > 0 && !hf_id_equal(&row->vault, &starts->vault))
        return true;
    if (!hf_records_state(search->daemon->records, &row->vault, &state, err) ||
        !hf_restore_start_facts(state, &row->backup, &facts, err) || !hf_facts_read_shared(facts, &shared, err))
        return false;
    if (!hf_moments_find(shared.engine, search->target, &moments, err) ||
        !moments->ended_before(search->target, facts, &before, &ended_at, err))
        return false;
    if (!before) {
        search->later = ended_at;
        return true;
    }
    starts->vault = row->vault;
    starts->backups[starts->count++] = row->backup;
    return true;
}
