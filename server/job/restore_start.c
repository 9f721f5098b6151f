#include "server/job/restore_start.h"

#include <string.h>

#include "base/lsn.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/restore/engine.h"

/* What is gathered of the rows of a source. */
struct search {
    struct hf_daemon *daemon;
    const struct hf_restore_target *target;
    struct hf_restore_starts starts;
    int64_t later; // when the nearest proven backup ended that is too new, by the server's clock; -1: none
};

static bool consider(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool knows_moments(const struct hf_vault_state *state, const struct hf_id *backup, struct hf_error *err);
static bool ended_before(const struct hf_restore_target *target, const struct hf_recovery_facts *facts);
static bool may_be_another(const struct hf_restore_target *target, const struct hf_error *why);
static bool only_the_log_tells(const struct hf_restore_target *target);

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
hf_restore_starts_prove(const struct hf_restore_starts *starts, const struct hf_vault_state *state,
                        struct hf_replay_options *replaying, struct hf_recovery_facts *facts, struct hf_id *ret_backup,
                        struct hf_replay **ret, struct hf_error *err)
{
    const struct hf_restore_target target = {.wanted = true, .log = replaying->target};
    struct hf_error newest = {0};
    uint64_t searched_from = 0;
    for (size_t i = 0; i < starts->count; i++) {
        struct hf_error why = {0};
        if (!hf_restore_start_facts(state, &starts->backups[i], facts, err))
            return false;
        replaying->search_end = searched_from; // behind it the newer ones have looked in vain
        if (hf_replay_prove(replaying, ret, &why)) {
            *ret_backup = starts->backups[i];
            return true;
        }
        if (i == 0)
            newest = why;
        if (!may_be_another(&target, &why)) {
            if (why.kind == HF_ERR_CANCELLED || why.kind == HF_ERR_NO_MEMORY)
                newest = why;
            break;
        }
        if (why.kind != HF_ERR_CONFLICT && only_the_log_tells(&target))
            searched_from = facts->stop_lsn;
    }
    if (err != NULL)
        *err = newest;
    return false;
}

bool
hf_restore_start_facts(const struct hf_vault_state *state, const struct hf_id *backup, struct hf_recovery_facts *ret,
                       struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    const struct hf_vault_backup *found = hf_vault_state_backup(state, backup);
    if (found == NULL || found->facts == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(backup, text));
    return hf_json_parse(found->facts, strlen(found->facts), "the backup's facts", &facts, err) &&
           hf_facts_from_json(facts, ret, err);
}

/* They come newest first.  A source that was replaced has backups in several vaults: those of the newest count. */
static bool
consider(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    struct search *search = context;
    struct hf_restore_starts *starts = &search->starts;
    const struct hf_vault_state *state;
    struct hf_recovery_facts facts;
    if (row->state != HF_BACKUP_PROVEN || row->pruned_at >= 0 || row->shredded_at >= 0 ||
        starts->count == HF_RESTORE_STARTS_MOST)
        return true;
    if (search->target->timeline != 0 && row->timeline > (int64_t)search->target->timeline)
        return true;
    if (starts->count > 0 && !hf_id_equal(&row->vault, &starts->vault))
        return true;
    if (!hf_records_state(search->daemon->records, &row->vault, &state, err) ||
        !knows_moments(state, &row->backup, err) || !hf_restore_start_facts(state, &row->backup, &facts, err))
        return false;
    if (!ended_before(search->target, &facts)) {
        search->later = hf_facts_server_time(&facts, facts.finished_at);
        return true;
    }
    starts->vault = row->vault;
    starts->backups[starts->count++] = row->backup;
    return true;
}

/* The log of an engine whose files are completed in a sandbox is replayed there, which no command asks for. */
static bool
knows_moments(const struct hf_vault_state *state, const struct hf_id *backup, struct hf_error *err)
{
    struct hf_shared_facts facts;
    _cleanup_(hf_json_freep) json_t *json = NULL;
    const struct hf_vault_backup *found = hf_vault_state_backup(state, backup);
    if (found == NULL || found->facts == NULL)
        return true;
    if (!hf_json_parse(found->facts, strlen(found->facts), "the backup's facts", &json, err) ||
        !hf_facts_read_shared(json, &facts, err))
        return false;
    const struct hf_restore_engine *engine = hf_restore_engine_find(facts.engine);
    return engine == NULL || engine->complete == NULL ||
           hf_fail(err, HF_ERR_USAGE, "a backup of %s is restored as it is: moments behind it are not reached",
                   engine->product);
}

static bool
ended_before(const struct hf_restore_target *target, const struct hf_recovery_facts *facts)
{
    if (target->log.kind == HF_WAL_TO_TIME)
        return hf_facts_server_time(facts, facts->finished_at) <= target->log.time;
    if (target->log.kind == HF_WAL_TO_POSITION)
        return facts->stop_lsn <= target->log.position;
    return true;
}

/* An older one may lie on the path when a newer one does not, or end before the target when a newer one did not. */
static bool
may_be_another(const struct hf_restore_target *target, const struct hf_error *why)
{
    return why->kind == HF_ERR_CONFLICT || why->kind == HF_ERR_USAGE ||
           (only_the_log_tells(target) && why->kind == HF_ERR_NOT_FOUND);
}

/* Where the target lies: no backup's facts say it. */
static bool
only_the_log_tells(const struct hf_restore_target *target)
{
    return target->log.kind != HF_WAL_TO_TIME && target->log.kind != HF_WAL_TO_POSITION &&
           target->log.kind != HF_WAL_TO_THE_END;
}
