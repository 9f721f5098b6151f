#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/care/rotation.h"
#include "server/job/daemon_internal.h"
#include "server/job/key_records.h"
#include "server/job/sealed_signer.h"

/* The slots in force, and which of them is ours. */
struct slots {
    struct hf_slot_info list[HF_SLOTS_MOST];
    size_t count;
};

static bool list_slots(struct hf_daemon *daemon, struct slots *ret, struct hf_error *err);
static const struct hf_slot_info *find_slot(const struct slots *slots, const char *name);
static bool fail_no_slot(const char *name, struct hf_error *err);
static bool check_removable(struct hf_daemon *daemon, const struct slots *slots, const struct hf_slot_info *slot,
                            struct hf_error *err);
static bool record_removed(struct hf_daemon *daemon, const struct hf_slot_info *slot, const char *by,
                           struct hf_error *err);
static bool judge_kits(struct hf_daemon *daemon, const struct slots *slots, const struct hf_slot_info *gone,
                       json_t **ret, struct hf_error *err);
static bool rotate_data_keys(struct hf_daemon *daemon, json_t **ret_result, struct hf_error *err);
static bool rotate_root_key(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result,
                            struct hf_error *err);
static bool read_dropped(const json_t *arguments, struct hf_id ret[static HF_SLOTS_MOST], size_t *ret_count,
                         struct hf_error *err);
static bool record_turn(struct hf_daemon *daemon, const struct slots *before, const char *by, struct hf_error *err);
static bool add_head(void *context, const struct hf_vault_row *row, struct hf_error *err);
static json_t *time_text(int64_t ms);
static json_t *time_member(const json_t *record, const char *member);

bool
hf_keys_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
             struct hf_error *err)
{
    (void)ret_exit;
    struct hf_records *records = daemon->records;
    struct slots slots;
    struct hf_rotation_state rotation;
    _cleanup_(hf_json_freep) json_t *known = NULL, *list = json_array(), *removed = json_array();
    const char *text;
    json_t *record;
    if (!hf_arguments_check(arguments, NULL, 0, err) || !list_slots(daemon, &slots, err) ||
        !hf_rotation_look(hf_records_repository(records), &rotation, err) ||
        !hf_key_records_load(daemon, HF_RECORD_KEY, &known, err))
        return false;
    for (size_t i = 0; i < slots.count; i++) {
        const struct hf_slot_info *slot = &slots.list[i];
        char id[HF_ID_TEXT_BYTES];
        const bool own = hf_id_equal(&slot->id, &hf_records_slot(records)->id);
        record = json_object_get(known, hf_id_format(&slot->id, id));
        const json_t *drill = json_object_get(record, "drill");
        if (json_array_append_new(
                list, json_pack("{s:s, s:s, s:s, s:o, s:I, s:b, s:b, s:o, s:O}", "slot", id, "name", slot->name, "kind",
                                hf_slot_kind_name(slot->kind), "created_at", time_text(slot->created_at),
                                "root_generation", (json_int_t)slot->generation, "own", (int)own, "unattended",
                                (int)(own || hf_keys_open_unattended(daemon, slot)), "drilled_at",
                                time_member(record, "drilled_at"), "drill", drill == NULL ? json_null() : drill)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the key slots");
        (void)json_object_del(known, id);
    }
    json_object_foreach(known, text, record)
    {
        if (!json_is_null(json_object_get(record, "removed_at")) &&
            json_array_append_new(removed,
                                  json_pack("{s:s, s:O?, s:O?, s:o, s:o}", "slot", text, "name",
                                            json_object_get(record, "name"), "kind", json_object_get(record, "kind"),
                                            "created_at", time_member(record, "created_at"), "removed_at",
                                            time_member(record, "removed_at"))) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the key slots");
    }
    *ret_result = json_pack("{s:O, s:O, s:I, s:b}", "slots", list, "removed", removed, "root_generation",
                            (json_int_t)rotation.in_force, "unfinished",
                            (int)(rotation.pending > 0 || rotation.left_over > 0 || rotation.old_bundles > 0));
    return true;
}

/* After `holdfast key add` has made the slot: puts it on record. */
bool
hf_keys_added(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
              struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    (void)ret_exit;
    static const struct hf_argument known[] = {{"name", 's', true}};
    struct slots slots;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !list_slots(daemon, &slots, err))
        return false;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    const struct hf_slot_info *slot = find_slot(&slots, name);
    if (slot == NULL)
        return fail_no_slot(name, err);
    _cleanup_(hf_json_freep) json_t *record = hf_key_record_new(slot, "added", hf_person_name(daemon->asker, person));
    if (record == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a key slot");
    if (!hf_key_record_put(daemon, HF_RECORD_KEY, &slot->id, record, err) || !hf_key_records_follow(daemon, err))
        return false;
    *ret_result = json_pack("{s:o, s:s, s:s, s:o, s:b}", "slot", hf_json_id_text(&slot->id), "name", slot->name, "kind",
                            hf_slot_kind_name(slot->kind), "created_at", time_text(slot->created_at), "unattended",
                            (int)hf_keys_open_unattended(daemon, slot));
    return true;
}

bool
hf_keys_remove(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    (void)ret_exit;
    static const struct hf_argument known[] = {{"name", 's', true}};
    struct slots slots;
    struct hf_slot_info gone;
    _cleanup_(hf_json_freep) json_t *kits = NULL;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !hf_key_records_follow(daemon, err) ||
        !list_slots(daemon, &slots, err))
        return false;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    const struct hf_slot_info *slot = find_slot(&slots, name);
    if (slot == NULL)
        return fail_no_slot(name, err);
    gone = *slot;
    if (!check_removable(daemon, &slots, &gone, err) || !judge_kits(daemon, &slots, &gone, &kits, err) ||
        !hf_slot_remove(hf_repository_backend(hf_records_repository(daemon->records)), &gone.id, err) ||
        !record_removed(daemon, &gone, hf_person_name(daemon->asker, person), err) ||
        !hf_records_reopen(daemon->records, err))
        return false;
    hf_log_info("key slot \"%s\" was removed", gone.name);
    *ret_result = json_pack("{s:o, s:s, s:s, s:O}", "slot", hf_json_id_text(&gone.id), "name", gone.name, "kind",
                            hf_slot_kind_name(gone.kind), "kits", kits);
    return true;
}

/* What `holdfast key drill` found, put on record. */
bool
hf_keys_drilled(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    static const struct hf_argument known[] = {{"name", 's', true},
                                               {"result", 's', true},
                                               {"reason", 's', false},
                                               {"backups", 'i', true},
                                               {"vaults", 'i', true}};
    struct slots slots;
    char id[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *records = NULL;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !hf_key_records_follow(daemon, err) ||
        !list_slots(daemon, &slots, err) || !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    const char *name = json_string_value(json_object_get(arguments, "name"));
    const char *result = json_string_value(json_object_get(arguments, "result"));
    const struct hf_slot_info *slot = find_slot(&slots, name);
    const bool passed = strcmp(result, "passed") == 0;
    if (slot == NULL)
        return fail_no_slot(name, err);
    if (!passed && strcmp(result, "failed") != 0)
        return hf_fail(err, HF_ERR_USAGE, "a drill has passed or failed, it is not \"%.32s\"", result);

    json_t *record = json_object_get(records, hf_id_format(&slot->id, id));
    const int64_t now = hf_daemon_now(daemon);
    json_t *drill =
        json_pack("{s:I, s:s, s:O?, s:O, s:O, s:s}", "at", (json_int_t)now, "result", result, "reason",
                  json_object_get(arguments, "reason"), "backups", json_object_get(arguments, "backups"), "vaults",
                  json_object_get(arguments, "vaults"), "by", hf_person_name(daemon->asker, person));
    if (record == NULL) {
        json_decref(drill);
        return fail_no_slot(name, err);
    }
    if (!hf_json_set(record, "drill", drill, err) || !hf_json_set(record, "change", json_string("drilled"), err) ||
        (passed && !hf_json_set(record, "drilled_at", json_integer(now), err)) ||
        !hf_key_record_put(daemon, HF_RECORD_KEY, &slot->id, record, err))
        return false;
    if (!passed)
        *ret_exit = HF_EXIT_BAD_NEWS;
    *ret_result = json_pack("{s:s, s:s, s:s, s:s, s:O?, s:O, s:O, s:o}", "slot", id, "name", slot->name, "kind",
                            hf_slot_kind_name(slot->kind), "result", result, "reason",
                            json_object_get(arguments, "reason"), "vaults", json_object_get(arguments, "vaults"),
                            "backups", json_object_get(arguments, "backups"), "drilled_at", time_text(now));
    return true;
}

bool
hf_keys_rotate(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    (void)ret_exit;
    static const struct hf_argument known[] = {{"root", 'b', false}, {"drop", 's', false}};
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) || !hf_key_records_follow(daemon, err))
        return false;
    return json_is_true(json_object_get(arguments, "root")) ? rotate_root_key(daemon, arguments, ret_result, err)
                                                            : rotate_data_keys(daemon, ret_result, err);
}

/* What a rotation that was cut off left is brought to its end; `holdfast key rotate --root` asks for it first. */
bool
hf_keys_settle(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    (void)ret_exit;
    struct hf_records *records = daemon->records;
    if (!hf_arguments_check(arguments, NULL, 0, err) ||
        !hf_rotation_settle(hf_records_repository(records), hf_records_signing(records), hf_daemon_now(daemon), err) ||
        !hf_records_reopen(records, err))
        return false;
    *ret_result = json_object();
    return true;
}

bool
hf_keys_recovery_kit(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                     struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    (void)ret_exit;
    struct hf_records *records = daemon->records;
    const struct hf_id repository = hf_repository_id(hf_records_repository(records)), kit = hf_id_new();
    char public_key[HF_PUBLIC_KEY_TEXT_BYTES];
    struct slots slots;
    _cleanup_(hf_json_freep) json_t *heads = json_array(), *record = NULL, *list = json_array();
    _cleanup_(hf_buf_done) struct hf_buf signing_key = HF_BUF_INIT(HF_KIT_MOST);
    _cleanup_(hf_freep) char *signing_key_file = hf_path_join(daemon->settings->state, HF_STATE_SIGNING_KEY);
    if (!hf_arguments_check(arguments, NULL, 0, err))
        return false;
    if (signing_key_file == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the recovery kit");
    if (!hf_records_can_sign(records))
        return hf_fail(err, HF_ERR_DENIED, "this machine has no signing key of the repository, and can record nothing");
    if (!hf_key_records_follow(daemon, err) || !list_slots(daemon, &slots, err) ||
        !hf_sealed_signer_add(hf_records_repository(records), signing_key_file, &signing_key, err))
        return false;
    const int64_t now = hf_daemon_now(daemon);
    record = hf_kit_record_new(slots.list, slots.count, hf_person_name(daemon->asker, person), now);
    if (record == NULL || heads == NULL || list == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the recovery kit");
    // On record before it is printed: no kit is about that nobody knows of.  The heads are those after that entry.
    if (!hf_key_record_put(daemon, HF_RECORD_KIT, &kit, record, err) ||
        !hf_catalog_vaults(hf_daemon_catalog(daemon), add_head, heads, err))
        return false;
    for (size_t i = 0; i < slots.count; i++)
        if (json_array_append_new(list,
                                  json_pack("{s:o, s:s, s:s, s:o, s:b}", "slot", hf_json_id_text(&slots.list[i].id),
                                            "name", slots.list[i].name, "kind", hf_slot_kind_name(slots.list[i].kind),
                                            "created_at", time_text(slots.list[i].created_at), "own",
                                            (int)hf_id_equal(&slots.list[i].id, &hf_records_slot(records)->id))) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the recovery kit");
    const char *key_file = daemon->settings->unlock.key_file;
    *ret_result =
        json_pack("{s:o, s:o, s:s, s:o, s:I, s:O, s:O, s:s, s:s, s:s?, s:s}", "kit", hf_json_id_text(&kit), "issued_at",
                  time_text(now), "place", daemon->settings->repository, "repository", hf_json_id_text(&repository),
                  "root_generation", (json_int_t)hf_repository_root_generation(hf_records_repository(records)), "slots",
                  list, "heads", heads, "public_key",
                  hf_public_key_format(hf_signer_public_key(hf_records_signer(records)), public_key), "settings",
                  daemon->settings->file, "key_file", key_file, "signing_key", hf_buf_text(&signing_key));
    return true;
}

static bool
list_slots(struct hf_daemon *daemon, struct slots *ret, struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(daemon->records);
    const struct hf_id id = hf_repository_id(repository);
    return hf_slot_list(hf_repository_backend(repository), &id, ret->list, &ret->count, err);
}

/* By name, or by id where names are not unique. */
static const struct hf_slot_info *
find_slot(const struct slots *slots, const char *name)
{
    struct hf_id id;
    const bool is_id = hf_id_parse(name, &id, NULL);
    for (size_t i = 0; i < slots->count; i++)
        if (strcmp(slots->list[i].name, name) == 0 || (is_id && hf_id_equal(&slots->list[i].id, &id)))
            return &slots->list[i];
    return NULL;
}

static bool
fail_no_slot(const char *name, struct hf_error *err)
{
    hf_fail(err, HF_ERR_NOT_FOUND, "there is no key slot \"%.64s\"", name);
    return hf_fail_hint(err, "\"holdfast key list\" shows those there are.");
}

bool
hf_keys_open_unattended(const struct hf_daemon *daemon, const struct hf_slot_info *slot)
{
    return hf_id_equal(&slot->id, &hf_records_slot(daemon->records)->id) ||
           (slot->kind == HF_SLOT_COMMAND && hf_settings_key_command(daemon->settings, slot->name) != NULL);
}

/* Never the last one, and ours only when our key opens another: it is tried, not assumed. */
static bool
check_removable(struct hf_daemon *daemon, const struct slots *slots, const struct hf_slot_info *slot,
                struct hf_error *err)
{
    struct hf_repository *repository = hf_records_repository(daemon->records);
    const struct hf_id id = hf_repository_id(repository);
    if (slots->count == 1) {
        hf_fail(err, HF_ERR_CONFLICT, "key slot \"%s\" is the last one: without it nobody could open the repository",
                slot->name);
        return hf_fail_hint(err, "Add another one first: holdfast key add.");
    }
    if (!hf_id_equal(&slot->id, &hf_records_slot(daemon->records)->id))
        return true;
    for (size_t i = 0; i < slots->count; i++) {
        struct hf_secret root_key = {0};
        struct hf_slot_info opened;
        struct hf_credential credential = *hf_records_credential(daemon->records); // its secrets stay theirs
        credential.slot = slots->list[i].name;
        if (strcmp(slots->list[i].name, slot->name) == 0 || slots->list[i].kind != credential.kind)
            continue;
        if (hf_slot_open(hf_repository_backend(repository), &id, &credential, &root_key, &opened, NULL)) {
            hf_secret_done(&root_key);
            return true;
        }
    }
    hf_fail(err, HF_ERR_CONFLICT, "key slot \"%s\" is the one that this appliance opens the repository with",
            slot->name);
    return hf_fail_hint(err, "Name another key under \"unlock\" in \"%s\", start holdfastd again, and then remove it.",
                        daemon->settings->file);
}

static bool
record_removed(struct hf_daemon *daemon, const struct hf_slot_info *slot, const char *by, struct hf_error *err)
{
    char id[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *records = NULL;
    if (!hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    json_t *record = json_object_get(records, hf_id_format(&slot->id, id));
    if (record == NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "key slot \"%s\" was removed, and there is no record of it", slot->name);
    return hf_json_set(record, "change", json_string("removed"), err) &&
           hf_json_set(record, "by", json_string(by), err) &&
           hf_json_set(record, "removed_at", json_integer(hf_daemon_now(daemon)), err) &&
           hf_key_record_put(daemon, HF_RECORD_KEY, &slot->id, record, err);
}

/* The kits that name the slot, and through which others they still open. */
static bool
judge_kits(struct hf_daemon *daemon, const struct slots *slots, const struct hf_slot_info *gone, json_t **ret,
           struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *kits = NULL, *list = json_array();
    char gone_id[HF_ID_TEXT_BYTES];
    const char *kit_id;
    json_t *kit, *slot;
    size_t at;
    hf_id_format(&gone->id, gone_id);
    if (!hf_key_records_load(daemon, HF_RECORD_KIT, &kits, err))
        return false;
    json_object_foreach(kits, kit_id, kit)
    {
        bool names_it = false;
        _cleanup_(hf_json_freep) json_t *left = json_array();
        json_array_foreach(json_object_get(kit, "slots"), at, slot)
        {
            struct hf_id id;
            const char *text = json_string_value(json_object_get(slot, "slot"));
            names_it = names_it || strcmp(text, gone_id) == 0;
            for (size_t i = 0; i < slots->count && hf_id_parse(text, &id, NULL); i++)
                if (hf_id_equal(&slots->list[i].id, &id) && strcmp(text, gone_id) != 0 &&
                    json_array_append_new(left, json_string(slots->list[i].name)) != 0)
                    return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the recovery kits");
        }
        if (names_it &&
            json_array_append_new(list, json_pack("{s:s, s:o, s:b, s:O}", "kit", kit_id, "issued_at",
                                                  time_member(kit, "issued_at"), "useless",
                                                  (int)(json_array_size(left) == 0), "opens_with", left)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the recovery kits");
    }
    *ret = HF_TAKE(list);
    return true;
}

static bool
rotate_data_keys(struct hf_daemon *daemon, json_t **ret_result, struct hf_error *err)
{
    struct hf_records *records = daemon->records;
    struct hf_repository *repository = hf_records_repository(records);
    _cleanup_(hf_json_freep) json_t *list = json_array();
    _cleanup_(hf_freep) struct hf_id *ids = NULL;
    size_t count;
    const int64_t now = hf_daemon_now(daemon);
    if (!hf_rotation_settle(repository, hf_records_signing(records), now, err) ||
        !hf_repository_vaults(repository, &ids, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        uint32_t epoch;
        struct hf_vault *vault;
        struct hf_error shredded;
        if (!hf_records_vault(records, &ids[i], &vault, &shredded)) {
            if (shredded.kind == HF_ERR_DENIED)
                continue; // it has no keys to replace
            *err = shredded;
            return false;
        }
        if (!hf_rotation_add_epoch(repository, &ids[i], hf_records_signing(records), now, &epoch, err))
            return false;
        if (json_array_append_new(
                list, json_pack("{s:o, s:I}", "vault", hf_json_id_text(&ids[i]), "epoch", (json_int_t)epoch)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    }
    if (!hf_records_reopen(records, err))
        return false;
    hf_log_info("new packs are sealed under new data keys from now on");
    *ret_result = json_pack("{s:b, s:O}", "root", 0, "vaults", list);
    return true;
}

static bool
rotate_root_key(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    struct hf_records *records = daemon->records;
    struct hf_repository *repository = hf_records_repository(records);
    struct hf_id dropped[HF_SLOTS_MOST];
    struct slots before, after;
    bool turned;
    struct hf_error problem = {0};
    struct hf_rotation_turn how = {.credential = hf_records_credential(records),
                                   .signing = hf_records_signing(records),
                                   .dropped = dropped,
                                   .now = hf_daemon_now(daemon)};
    _cleanup_(hf_json_freep) json_t *list = json_array();
    if (!list_slots(daemon, &before, err) || !read_dropped(arguments, dropped, &how.dropped_count, err))
        return false;
    const bool done = hf_rotation_make_turn(repository, &how, &turned, &problem);
    // Whatever is left to do: from the turn on only the new key opens anything.
    if (turned &&
        (!hf_records_reopen(records, err) ||
         !record_turn(daemon, &before, hf_person_name(daemon->asker, person), err) || !list_slots(daemon, &after, err)))
        return false;
    if (!done) {
        *err = problem;
        return false;
    }
    for (size_t i = 0; i < after.count; i++)
        if (json_array_append_new(list, json_string(after.list[i].name)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    hf_log_info("root key %u is in force", hf_repository_root_generation(repository));
    *ret_result = json_pack("{s:b, s:I, s:O}", "root", 1, "root_generation",
                            (json_int_t)hf_repository_root_generation(repository), "slots", list);
    return true;
}

/* Ids, separated by commas. */
static bool
read_dropped(const json_t *arguments, struct hf_id ret[static HF_SLOTS_MOST], size_t *ret_count, struct hf_error *err)
{
    const char *text = json_string_value(json_object_get(arguments, "drop"));
    *ret_count = 0;
    while (text != NULL && *text != '\0') {
        char one[HF_ID_TEXT_BYTES] = "";
        size_t length = strcspn(text, ",");
        if (*ret_count == HF_SLOTS_MOST || length >= sizeof one)
            return hf_fail(err, HF_ERR_USAGE, "\"drop\" is not a list of ids of key slots");
        memcpy(one, text, length);
        if (!hf_id_parse(one, &ret[(*ret_count)++], err))
            return false;
        text += length + (text[length] == ',');
    }
    return true;
}

/* The slots of before are gone, those of now are new: both under the names they had. */
static bool
record_turn(struct hf_daemon *daemon, const struct slots *before, const char *by, struct hf_error *err)
{
    struct slots after;
    char id[HF_ID_TEXT_BYTES];
    _cleanup_(hf_json_freep) json_t *records = NULL;
    if (!list_slots(daemon, &after, err) || !hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    for (size_t i = 0; i < after.count; i++) {
        if (json_object_get(records, hf_id_format(&after.list[i].id, id)) != NULL)
            continue;
        _cleanup_(hf_json_freep) json_t *record = hf_key_record_new(&after.list[i], "added", by);
        if (record == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the record of a key slot");
        if (!hf_key_record_put(daemon, HF_RECORD_KEY, &after.list[i].id, record, err))
            return false;
    }
    for (size_t i = 0; i < before->count; i++) {
        json_t *record = json_object_get(records, hf_id_format(&before->list[i].id, id));
        if (record == NULL)
            continue;
        if (!hf_json_set(record, "change", json_string("replaced"), err) ||
            !hf_json_set(record, "by", json_string(by), err) ||
            !hf_json_set(record, "removed_at", json_integer(hf_daemon_now(daemon)), err) ||
            !hf_key_record_put(daemon, HF_RECORD_KEY, &before->list[i].id, record, err))
            return false;
    }
    return true;
}

static bool
add_head(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    return json_array_append_new(context,
                                 json_pack("{s:o, s:s, s:s?, s:I, s:s?, s:b}", "vault", hf_json_id_text(&row->vault),
                                           "engine", row->engine, "name", row->name, "sequence", (json_int_t)row->head,
                                           "hash", row->head_hash, "shredded", (int)(row->shredded_at >= 0))) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the vaults");
}

static json_t *
time_text(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_string(hf_time_format(ms, text));
}

static json_t *
time_member(const json_t *record, const char *member)
{
    const json_t *value = json_object_get(record, member);
    return json_is_integer(value) ? time_text(json_integer_value(value)) : json_null();
}
