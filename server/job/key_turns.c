#include "server/job/key_turns.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/key_records.h"
#include "server/job/unlock.h"

#define ATTEMPTS_LOOKED_AT 1000

/* When each slot was last gone through, or tried in vain. */
struct turns {
    const struct hf_slot_info *slots;
    size_t count;
    int64_t tried_at[HF_SLOTS_MOST];
};

static bool note_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err);
static bool open_by_command(struct hf_worker *worker, const char *slot, struct hf_open_repository *ret,
                            struct hf_error *err);

bool
hf_key_turn_choose(struct hf_daemon *daemon, bool named, json_t **ret, struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(hf_daemon_records(daemon));
    const struct hf_id id = hf_repository_id(repository), *own = &hf_records_slot(hf_daemon_records(daemon))->id;
    struct hf_slot_info slots[HF_SLOTS_MOST];
    struct turns turns = {.slots = slots};
    _cleanup_(hf_json_freep) json_t *records = NULL;
    const struct hf_slot_info *next = hf_records_slot(hf_daemon_records(daemon));
    int64_t oldest = INT64_MAX;
    json_int_t reachable = 0;
    if (!hf_slot_list(hf_repository_backend(repository), &id, slots, &turns.count, err) ||
        !hf_catalog_attempts(hf_daemon_catalog(daemon), NULL, NULL, ATTEMPTS_LOOKED_AT, note_attempt, &turns, err) ||
        !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    for (size_t i = 0; i < turns.count; i++) {
        char text[HF_ID_TEXT_BYTES];
        const json_t *drill = json_object_get(json_object_get(records, hf_id_format(&slots[i].id, text)), "drill");
        const int64_t drilled = json_integer_value(json_object_get(drill, "at"));
        if (!hf_keys_open_unattended(daemon, &slots[i]))
            continue;
        reachable++;
        if (drilled > turns.tried_at[i])
            turns.tried_at[i] = drilled;
        if (turns.tried_at[i] < oldest) {
            oldest = turns.tried_at[i];
            next = &slots[i];
        }
    }
    *ret = json_pack("{s:s, s:b, s:s, s:I}", "slot", next->name, "own", (int)hf_id_equal(&next->id, own), "chosen",
                     named           ? "named"
                     : reachable > 1 ? "round_robin"
                                     : "settings",
                     "reachable", reachable);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
}

bool
hf_key_turn_open(struct hf_worker *worker, const json_t *turn, struct hf_open_repository *ret, json_t **ret_failed,
                 struct hf_error *err)
{
    const char *slot = json_string_value(json_object_get(turn, "slot"));
    struct hf_error why;
    *ret_failed = NULL;
    if (slot == NULL || json_is_true(json_object_get(turn, "own")))
        return hf_open_repository_shut(worker, NULL, ret, err);
    if (open_by_command(worker, slot, ret, &why))
        return true;
    hf_open_repository_done(ret);
    *ret = (struct hf_open_repository){0};
    *ret_failed = json_pack("{s:s, s:s}", "slot", slot, "reason", why.message);
    if (*ret_failed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    return hf_open_repository_shut(worker, NULL, ret, err);
}

bool
hf_key_turn_tell(const json_t *turn, const struct hf_slot_info *opened, json_t *failed, json_t *result,
                 struct hf_error *err)
{
    const json_t *chosen = json_object_get(turn, "chosen"), *reachable = json_object_get(turn, "reachable");
    return hf_json_set(result, "key",
                       json_pack("{s:o, s:s, s:s, s:s, s:O}", "slot_id", hf_json_id_text(&opened->id), "slot_name",
                                 opened->name, "slot_kind", hf_slot_kind_name(opened->kind), "chosen",
                                 failed != NULL ? "settings" : json_string_value(chosen), "reachable", reachable),
                       err) &&
           (failed == NULL || hf_json_set(result, "turn_failed", json_incref(failed), err));
}

bool
hf_key_turn_record(struct hf_daemon *daemon, const json_t *result, struct hf_error *err)
{
    const json_t *failed = json_object_get(result, "turn_failed");
    const char *name = json_string_value(json_object_get(failed, "slot"));
    _cleanup_(hf_json_freep) json_t *records = NULL;
    const char *text;
    json_t *record;
    struct hf_id id;
    if (name == NULL)
        return true;
    hf_log_warning(NULL, "key slot \"%s\" did not open; the verification went on with the key of the settings", name);
    if (!hf_key_records_follow(daemon, err) || !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    json_object_foreach(records, text, record)
    {
        const char *own = json_string_value(json_object_get(record, "name"));
        if (own == NULL || strcmp(own, name) != 0 || !json_is_null(json_object_get(record, "removed_at")))
            continue;
        return hf_id_parse(text, &id, err) &&
               hf_json_set(record, "drill",
                           json_pack("{s:I, s:s, s:O, s:i, s:i, s:s}", "at", (json_int_t)hf_daemon_now(daemon),
                                     "result", "failed", "reason", json_object_get(failed, "reason"), "backups", 0,
                                     "vaults", 0, "by", "verification"),
                           err) &&
               hf_json_set(record, "change", json_string("drilled"), err) &&
               hf_key_record_put(daemon, HF_RECORD_KEY, &id, record, err);
    }
    return true; // it was removed meanwhile
}

/* Newest first: the first of a slot is its newest. */
static bool
note_attempt(void *context, const struct hf_attempt_row *row, struct hf_error *err)
{
    struct turns *turns = context;
    (void)err;
    for (size_t i = 0; i < turns->count && row->slot != NULL; i++)
        if (turns->tried_at[i] == 0 && strcmp(turns->slots[i].name, row->slot) == 0)
            turns->tried_at[i] = row->recorded_at;
    return true;
}

static bool
open_by_command(struct hf_worker *worker, const char *slot, struct hf_open_repository *ret, struct hf_error *err)
{
    const struct hf_key_command *command = hf_settings_key_command(hf_worker_settings(worker), slot);
    _cleanup_(hf_credential_done) struct hf_credential credential = {.kind = HF_SLOT_COMMAND};
    if (command == NULL)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no key command \"%s\"", slot);
    return hf_unlock_run_command(command, &credential, err) && hf_open_repository_shut(worker, &credential, ret, err);
}
