#include "server/job/key_records.h"

#include <string.h>

#include "catalog/view.h"

static bool keep_record(void *context, const struct hf_policy_row *row, struct hf_error *err);
static bool record_parts(const char *subject, const struct hf_id *id, json_t **ret, struct hf_error *err);
static bool mark_lost(struct hf_daemon *daemon, const char *id_text, json_t *record, struct hf_error *err);

json_t *
hf_key_record_new(const struct hf_slot_info *slot, const char *change, const char *by)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:s, s:n, s:n, s:n}", "change", change, "name", slot->name, "kind",
                     hf_slot_kind_name(slot->kind), "created_at", (json_int_t)slot->created_at, "root",
                     (json_int_t)slot->generation, "by", by, "removed_at", "drilled_at", "drill");
}

json_t *
hf_kit_record_new(const struct hf_slot_info *slots, size_t count, const char *by, int64_t now)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        if (list != NULL &&
            json_array_append_new(list, json_pack("{s:o, s:s, s:s}", "slot", hf_json_id_text(&slots[i].id), "name",
                                                  slots[i].name, "kind", hf_slot_kind_name(slots[i].kind))) != 0) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:I, s:s, s:I, s:o}", "issued_at", (json_int_t)now, "by", by, "root",
                     (json_int_t)(count > 0 ? slots[0].generation : 0), "slots", list);
}

bool
hf_key_record_put(struct hf_daemon *daemon, const char *subject, const struct hf_id *id, const json_t *record,
                  struct hf_error *err)
{
    struct hf_records *records = hf_daemon_records(daemon);
    _cleanup_(hf_json_freep) json_t *said = NULL;
    if (!record_parts(subject, id, &said, err))
        return false;
    const struct hf_record entry = {.vault = hf_repository_id(hf_records_repository(records)),
                                    .kind = HF_LOG_POLICY,
                                    .time = hf_daemon_now(daemon),
                                    .public_part = said,
                                    .sealed_part = record};
    return hf_records_append(records, &entry, err);
}

bool
hf_key_record_append(struct hf_vault *house, const struct hf_signing *signing, const char *subject,
                     const struct hf_id *id, const json_t *record, int64_t now, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *said = NULL;
    if (!record_parts(subject, id, &said, err))
        return false;
    const struct hf_log_append entry = {
        .kind = HF_LOG_POLICY, .time = now, .epoch = HF_LOG_EPOCH_NOW, .public_part = said, .sealed_part = record};
    return hf_vault_append(house, &entry, signing, NULL, NULL, err);
}

bool
hf_key_records_load(struct hf_daemon *daemon, const char *subject, json_t **ret, struct hf_error *err)
{
    const struct hf_id house = hf_repository_id(hf_records_repository(hf_daemon_records(daemon)));
    _cleanup_(hf_json_freep) json_t *all = json_object();
    if (all == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the records of keys");
    if (!hf_catalog_policies(hf_daemon_catalog(daemon), &house, subject, keep_record, all, err))
        return false;
    *ret = HF_TAKE(all);
    return true;
}

bool
hf_key_records_follow(struct hf_daemon *daemon, struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(hf_daemon_records(daemon));
    const struct hf_id id = hf_repository_id(repository);
    struct hf_slot_info slots[HF_SLOTS_MOST];
    size_t count;
    _cleanup_(hf_json_freep) json_t *records = NULL;
    const char *text;
    json_t *record;
    if (!hf_records_can_sign(hf_daemon_records(daemon)))
        return true;
    if (!hf_slot_list(hf_repository_backend(repository), &id, slots, &count, err) ||
        !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;

    for (size_t i = 0; i < count; i++) {
        char own[HF_ID_TEXT_BYTES];
        record = json_object_get(records, hf_id_format(&slots[i].id, own));
        if (record != NULL && json_is_null(json_object_get(record, "removed_at"))) {
            (void)json_object_del(records, own);
            continue;
        }
        _cleanup_(hf_json_freep) json_t *found = hf_key_record_new(&slots[i], "found", "nobody on record");
        if (found == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a key slot");
        if (!hf_key_record_put(daemon, HF_RECORD_KEY, &slots[i].id, found, err))
            return false;
        (void)json_object_del(records, own);
    }
    json_object_foreach(records, text, record) // what is left has no slot
    {
        if (json_is_null(json_object_get(record, "removed_at")) && !mark_lost(daemon, text, record, err))
            return false;
    }
    return true;
}

static bool
keep_record(void *context, const struct hf_policy_row *row, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    json_t *record = NULL;
    if (row->record == NULL)
        return true;
    return hf_json_parse(row->record, strlen(row->record), "the record of a key", &record, err) &&
           hf_json_set(context, hf_id_format(&row->policy, text), record, err);
}

static bool
record_parts(const char *subject, const struct hf_id *id, json_t **ret, struct hf_error *err)
{
    *ret = json_pack("{s:s, s:o}", "subject", subject, "id", hf_json_id_text(id));
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
}

static bool
mark_lost(struct hf_daemon *daemon, const char *id_text, json_t *record, struct hf_error *err)
{
    struct hf_id id;
    return hf_id_parse(id_text, &id, err) && hf_json_set(record, "change", json_string("removed"), err) &&
           hf_json_set(record, "by", json_string("nobody on record"), err) &&
           hf_json_set(record, "removed_at", json_integer(hf_daemon_now(daemon)), err) &&
           hf_key_record_put(daemon, HF_RECORD_KEY, &id, record, err);
}
