#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/time.h"
#include "catalog/view.h"
#include "server/job/daemon_internal.h"
#include "server/job/log_serve.h"
#include "server/job/evidence.h"
#include "server/job/key_records.h"
#include "server/job/peer.h"

#define NAMES_MOST      (HF_EVIDENCE_MOST_TEXT - 1)
#define KITS_MOST       400 // each also needs a sentence
#define SHREDDED_REASON "shredded"
#define ASKED_LASTS_MS  (7 * INT64_C(86400000)) // then the first person has to ask again

/* A vault as the catalog has it, while it is looked for. */
struct wanted {
    struct hf_id id;
    bool found, house, shredded;
    char name[256];
    uint64_t head;
    char head_hash[2 * HF_SHA256_BYTES + 1];
};

static bool add_vault(void *context, const struct hf_vault_row *row, struct hf_error *err);
static bool find_vault(struct hf_daemon *daemon, const char *text, struct wanted *ret, struct hf_error *err);
static bool match_vault(void *context, const struct hf_vault_row *row, struct hf_error *err);
static bool check_shredding(struct hf_daemon *daemon, const struct wanted *vault, const char *confirm,
                            struct hf_error *err);
static bool find_second_person(struct hf_daemon *daemon, const struct wanted *vault, const json_t *arguments,
                               bool *ret_waits, json_t **ret_asked, struct hf_error *err);
static bool begin_record(struct hf_daemon *daemon, const struct wanted *vault, const json_t *arguments,
                         const json_t *asked, struct hf_error *err);
static bool end_sessions(struct hf_daemon *daemon, const struct hf_id *vault, struct hf_error *err);
static bool append_shred(struct hf_daemon *daemon, const struct hf_id *vault, const json_t *record,
                         struct hf_error *err);
static bool certify(struct hf_daemon *daemon, const struct hf_id *vault, json_t *record, struct hf_error *err);
static json_t *list_backups(const struct hf_vault_state *state);
static json_t *list_stretches(const struct hf_vault_state *state);
static json_t *list_packs(const struct hf_vault_state *state, bool condemned);
static bool give_up_packs(struct hf_daemon *daemon, const struct hf_id *vault, struct hf_error *err);
static bool enter_certificate(struct hf_daemon *daemon, const struct hf_id *vault, const json_t *record,
                              struct hf_error *err);
static bool write_certificate(struct hf_daemon *daemon, const struct wanted *vault, const json_t *record, json_t **ret,
                              struct hf_error *err);
static bool list_wraps(struct hf_daemon *daemon, json_t *shred, json_t *reach, struct hf_error *err);
static bool list_kits(struct hf_daemon *daemon, json_t *shred, json_t *reach, struct hf_error *err);
static bool list_beyond_reach(const char *shredded_at, size_t wraps, json_t *reach, struct hf_error *err);
static bool add_sentence(json_t *reach, const char *what, struct hf_error *err, const char *format, ...)
    HF_PRINTF(4, 5);
static json_t *time_text(int64_t ms);
static int64_t number_of(const json_t *record, const char *member);
static const char *text_of(const json_t *record, const char *member);

bool
hf_vaults_list(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
               struct hf_error *err)
{
    (void)ret_exit;
    _cleanup_(hf_json_freep) json_t *list = json_array(), *shredded = NULL;
    json_t *row;
    size_t at;
    if (!hf_arguments_check(arguments, NULL, 0, err) ||
        !hf_catalog_vaults(hf_daemon_catalog(daemon), add_vault, list, err) ||
        !hf_key_records_load(daemon, HF_RECORD_SHRED, &shredded, err))
        return false;
    // What a shredded vault was called, only the record knows.
    json_array_foreach(list, at, row)
    {
        const json_t *record = json_object_get(shredded, text_of(row, "vault"));
        if (record != NULL && !json_is_null(json_object_get(row, "shredded_at")) &&
            (!hf_json_set(row, "name", json_incref(json_object_get(record, "name")), err) ||
             !hf_json_set(row, "evidence", json_incref(json_object_get(record, "evidence")), err)))
            return false;
    }
    *ret_result = json_pack("{s:O}", "vaults", list);
    return true;
}

bool
hf_vaults_shred(struct hf_daemon *daemon, const json_t *arguments, json_t **ret_result, enum hf_exit *ret_exit,
                struct hf_error *err)
{
    (void)ret_exit;
    static const struct hf_argument known[] = {{"vault", 's', true}, {"confirm", 's', false}, {"reason", 's', false}};
    struct wanted vault = {.found = false};
    char id[HF_ID_TEXT_BYTES], path[4096];
    _cleanup_(hf_json_freep) json_t *records = NULL, *asked = NULL;
    bool waits;
    if (!hf_arguments_check(arguments, known, HF_LENGTH(known), err) ||
        !find_vault(daemon, json_string_value(json_object_get(arguments, "vault")), &vault, err) ||
        !check_shredding(daemon, &vault, json_string_value(json_object_get(arguments, "confirm")), err) ||
        !find_second_person(daemon, &vault, arguments, &waits, &asked, err))
        return false;
    if (waits) {
        *ret_exit = HF_EXIT_BAD_NEWS;
        *ret_result =
            json_pack("{s:s, s:s, s:b, s:O, s:s}", "vault", hf_id_format(&vault.id, id), "name", vault.name, "waits", 1,
                      "by", json_object_get(asked, "by"), "confirmers", daemon->settings->shred_confirmers);
        return *ret_result != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    }
    if (!hf_key_records_follow(daemon, err) || !hf_pins_tidy(daemon, err) || !end_sessions(daemon, &vault.id, err) ||
        !begin_record(daemon, &vault, arguments, asked, err) ||
        !hf_key_records_load(daemon, HF_RECORD_SHRED, &records, err))
        return false;
    json_t *record = json_object_get(records, hf_id_format(&vault.id, id));
    // The entry; then, as soon as the log is read, its keys are destroyed (records.c); then the certificate.
    if (!append_shred(daemon, &vault.id, record, err) || !certify(daemon, &vault.id, record, err))
        return false;
    hf_log_info("vault \"%s\" was shredded", id);
    snprintf(path, sizeof path, "%s/evidence/%s.json", daemon->settings->repository, text_of(record, "evidence"));
    *ret_result = json_pack("{s:s, s:O, s:O, s:s, s:O}", "vault", id, "name", json_object_get(record, "name"),
                            "evidence", json_object_get(record, "evidence"), "evidence_path", path, "backups",
                            json_object_get(record, "backups"));
    return true;
}

/* A daemon that was killed after the SHRED entry left a vault without certificate. */
bool
hf_vaults_finish(struct hf_daemon *daemon, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *records = NULL;
    const char *id;
    json_t *record;
    if (!hf_records_can_sign(daemon->records))
        return true;
    if (!hf_key_records_load(daemon, HF_RECORD_SHRED, &records, err))
        return false;
    json_object_foreach(records, id, record)
    {
        struct wanted vault = {.found = false};
        if (strcmp(text_of(record, "state"), "done") == 0)
            continue;
        if (!hf_id_parse(id, &vault.id, err) || !hf_catalog_vaults(hf_daemon_catalog(daemon), match_vault, &vault, err))
            return false;
        if (vault.shredded && !certify(daemon, &vault.id, record, err))
            return hf_fail_within(err, "could not write the certificate of shredded vault \"%s\"", id);
    }
    return true;
}

static bool
add_vault(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    json_t *vault = json_pack(
        "{s:o, s:s, s:s?, s:s?, s:o, s:I, s:s?, s:I, s:I, s:o, s:n}", "vault", hf_json_id_text(&row->vault), "engine",
        row->engine, "name", row->name, "identity", row->identity, "created_at", time_text(row->created_at), "sequence",
        (json_int_t)row->head, "head", row->head_hash, "packs", (json_int_t)row->packs, "bytes", (json_int_t)row->bytes,
        "shredded_at", row->shredded_at < 0 ? json_null() : time_text(row->shredded_at), "evidence");
    return json_array_append_new(context, vault) == 0 || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the vaults");
}

/* By id, or by the name of a source. */
static bool
find_vault(struct hf_daemon *daemon, const char *text, struct wanted *ret, struct hf_error *err)
{
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    if (!hf_id_parse(text, &ret->id, NULL) && !hf_catalog_source_vault(catalog, text, &ret->id, err))
        return false;
    if (!hf_catalog_vaults(catalog, match_vault, ret, err))
        return false;
    if (!ret->found) {
        hf_fail(err, HF_ERR_NOT_FOUND, "there is no vault \"%.64s\", and no source of that name with backups", text);
        return hf_fail_hint(err, "\"holdfast vault list\" shows the vaults.");
    }
    return true;
}

static bool
match_vault(void *context, const struct hf_vault_row *row, struct hf_error *err)
{
    (void)err;
    struct wanted *vault = context;
    if (!hf_id_equal(&row->vault, &vault->id))
        return true;
    vault->found = true;
    vault->house = strcmp(row->engine, "house") == 0;
    vault->shredded = row->shredded_at >= 0;
    vault->head = row->head;
    snprintf(vault->name, sizeof vault->name, "%s", row->name == NULL ? "" : row->name);
    snprintf(vault->head_hash, sizeof vault->head_hash, "%s", row->head_hash == NULL ? "" : row->head_hash);
    return true;
}

static bool
check_shredding(struct hf_daemon *daemon, const struct wanted *vault, const char *confirm, struct hf_error *err)
{
    char id[HF_ID_TEXT_BYTES];
    hf_id_format(&vault->id, id);
    if (vault->house)
        return hf_fail(err, HF_ERR_USAGE, "vault \"%s\" is the house vault: the records of the appliance itself", id);
    if (vault->shredded)
        return hf_fail(err, HF_ERR_CONFLICT, "vault \"%s\" was shredded already", id);
    if (!hf_records_can_sign(daemon->records))
        return hf_fail(err, HF_ERR_DENIED, "this machine has no signing key of the repository, and can record nothing");
    if (confirm == NULL || strcmp(confirm, id) != 0) {
        hf_fail(err, HF_ERR_USAGE, "to shred vault \"%s\" (\"%s\"), its id must be confirmed", id, vault->name);
        return hf_fail_hint(err,
                            "All its backups are lost then, for ever and for everybody.  Repeat the command with "
                            "--confirm %s.",
                            id);
    }
    hf_log_serve_end_all(daemon); // they come back by themselves, and would keep us waiting
    if (hf_jobs_running(daemon) > 0)
        return hf_fail(err, HF_ERR_CONFLICT, "%zu jobs are running: wait for them, or cancel them",
                       hf_jobs_running(daemon));
    return true;
}

/*
 * With shred_confirmers the first who asks is only noted.  Whoever of the confirmers asks after him, and is somebody
 * else, is the second; *ret_asked is then what the first one said.
 */
static bool
find_second_person(struct hf_daemon *daemon, const struct wanted *vault, const json_t *arguments, bool *ret_waits,
                   json_t **ret_asked, struct hf_error *err)
{
    char id[HF_ID_TEXT_BYTES], person[HF_PERSON_BYTES];
    unsigned uid;
    _cleanup_(hf_json_freep) json_t *records = NULL;
    *ret_waits = false;
    if (daemon->settings->shred_confirmers == NULL)
        return true;
    if (sscanf(daemon->asker, "uid %u", &uid) != 1)
        return hf_fail(err, HF_ERR_DENIED, "only a person may ask for that");
    if (!hf_key_records_load(daemon, HF_RECORD_SHRED, &records, err))
        return false;
    json_t *before = json_object_get(records, hf_id_format(&vault->id, id));
    const int64_t now = hf_daemon_now(daemon), age = now - number_of(before, "asked_at");
    const bool asked = before != NULL && strcmp(text_of(before, "state"), "asked") == 0 && age >= 0 &&
                       age <= ASKED_LASTS_MS && number_of(before, "uid") != (int64_t)uid;
    if (asked && hf_peer_listed(daemon->settings->shred_confirmers, uid)) {
        *ret_asked = json_incref(before);
        return true;
    }
    _cleanup_(hf_json_freep) json_t *record =
        json_pack("{s:s, s:s, s:s, s:I, s:O?, s:I, s:n}", "state", "asked", "name", vault->name, "by",
                  hf_person_name(daemon->asker, person), "uid", (json_int_t)uid, "reason",
                  json_object_get(arguments, "reason"), "asked_at", (json_int_t)now, "evidence");
    if (record == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    if (!hf_key_record_put(daemon, HF_RECORD_SHRED, &vault->id, record, err))
        return false;
    *ret_waits = true;
    *ret_asked = HF_TAKE(record);
    return true;
}

/* Sealed for the appliance: who did it and why is known after the vault's own records are noise. */
static bool
begin_record(struct hf_daemon *daemon, const struct wanted *vault, const json_t *arguments, const json_t *asked,
             struct hf_error *err)
{
    char person[HF_PERSON_BYTES];
    struct hf_vault *opened;
    const struct hf_vault_state *state;
    const struct hf_id evidence = hf_id_new();
    uint64_t bytes = 0, backups = 0;
    const json_t *reason = json_object_get(asked, "reason");
    if (!json_is_string(reason))
        reason = json_object_get(arguments, "reason");
    hf_person_name(daemon->asker, person);
    if (!hf_records_vault(daemon->records, &vault->id, &opened, err) || !hf_vault_read(opened, NULL, NULL, &state, err))
        return false;
    for (size_t i = 0; i < state->backup_count; i++)
        backups += !state->backups[i].pruned;
    for (size_t i = 0; i < state->pack_count; i++)
        bytes += state->packs[i].bytes;
    _cleanup_(hf_json_freep) json_t *record = json_pack(
        "{s:s, s:s?, s:s?, s:s?, s:I, s:I, s:s, s:s?, s:O?, s:I, s:n, s:o, s:I}", "state", "begun", "name", state->name,
        "engine", state->engine, "lineage", state->identity, "backups", (json_int_t)backups, "bytes", (json_int_t)bytes,
        "by", asked == NULL ? person : text_of(asked, "by"), "confirmed_by", asked == NULL ? NULL : person, "reason",
        reason, "begun_at", (json_int_t)hf_daemon_now(daemon), "shredded_at", "evidence", hf_json_id_text(&evidence),
        "generation", (json_int_t)hf_vault_keys(opened)->generation);
    if (record == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a record");
    return hf_key_record_put(daemon, HF_RECORD_SHRED, &vault->id, record, err);
}

/* Suspended sessions wait for a next backup that will not come; no job of ours runs any more. */
static bool
end_sessions(struct hf_daemon *daemon, const struct hf_id *id, struct hf_error *err)
{
    struct hf_vault *vault;
    const struct hf_vault_state *state;
    if (!hf_records_vault(daemon->records, id, &vault, err) || !hf_vault_read(vault, NULL, NULL, &state, err))
        return false;
    for (size_t i = state->session_count; i-- > 0;) { // those that build on others first
        if (state->sessions[i].state != HF_SESSION_OPEN)
            continue;
        _cleanup_(hf_json_freep) json_t *said =
            json_pack("{s:o, s:s}", "session", hf_json_id_text(&state->sessions[i].session), "reason", SHREDDED_REASON);
        if (said == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
        const struct hf_record entry = {
            .vault = *id, .kind = HF_LOG_ABORT, .time = hf_daemon_now(daemon), .public_part = said};
        if (!hf_records_append(daemon->records, &entry, err) || !hf_records_vault(daemon->records, id, &vault, err) ||
            !hf_vault_read(vault, NULL, NULL, &state, err))
            return false;
    }
    return true;
}

static bool
append_shred(struct hf_daemon *daemon, const struct hf_id *vault, const json_t *record, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *said = json_pack("{s:O}", "generation", json_object_get(record, "generation"));
    _cleanup_(hf_json_freep) json_t *sealed =
        json_pack("{s:O, s:O}", "person", json_object_get(record, "by"), "reason", json_object_get(record, "reason"));
    if (said == NULL || sealed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
    const struct hf_record entry = {.vault = *vault,
                                    .kind = HF_LOG_SHRED,
                                    .time = hf_daemon_now(daemon),
                                    .public_part = said,
                                    .sealed_part = sealed};
    return hf_records_append(daemon->records, &entry, err);
}

static bool
certify(struct hf_daemon *daemon, const struct hf_id *vault, json_t *record, struct hf_error *err)
{
    return give_up_packs(daemon, vault, err) && enter_certificate(daemon, vault, record, err) &&
           hf_json_set(record, "state", json_string("done"), err) &&
           hf_json_set(record, "shredded_at", json_integer(hf_daemon_now(daemon)), err) &&
           hf_key_record_put(daemon, HF_RECORD_SHRED, vault, record, err);
}

/* By the log's rules, one after the other: pruned, condemned, deleted.  The next collection then removes the bytes. */
static bool
give_up_packs(struct hf_daemon *daemon, const struct hf_id *vault, struct hf_error *err)
{
    static const struct {
        enum hf_log_kind kind;
        const char *member;
    } steps[] = {
        {HF_LOG_PRUNE, "backups"}, {HF_LOG_PRUNE, "stretches"}, {HF_LOG_CONDEMN, "packs"}, {HF_LOG_DELETE, "packs"}};
    for (size_t step = 0; step < HF_LENGTH(steps); step++) {
        const struct hf_vault_state *state;
        _cleanup_(hf_json_freep) json_t *list = NULL;
        if (!hf_records_state(daemon->records, vault, &state, err))
            return false;
        list = step == 0 ? list_backups(state) : step == 1 ? list_stretches(state) : list_packs(state, step == 3);
        if (list == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
        if (json_array_size(list) == 0)
            continue;
        _cleanup_(hf_json_freep) json_t *said =
            json_pack("{s:O, s:s}", steps[step].member, list, "reason", SHREDDED_REASON);
        if (said == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a log entry");
        const struct hf_record entry = {
            .vault = *vault, .kind = steps[step].kind, .time = hf_daemon_now(daemon), .public_part = said};
        if (!hf_records_append(daemon->records, &entry, err))
            return false;
    }
    return true;
}

static json_t *
list_backups(const struct hf_vault_state *state)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < state->backup_count; i++)
        if (!state->backups[i].pruned && json_array_append_new(list, hf_json_id_text(&state->backups[i].backup)) != 0)
            return NULL;
    return HF_TAKE(list);
}

static json_t *
list_stretches(const struct hf_vault_state *state)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < state->stretch_count; i++)
        if (!state->stretches[i].pruned &&
            json_array_append_new(list, hf_json_id_text(&state->stretches[i].stretch)) != 0)
            return NULL;
    return HF_TAKE(list);
}

static json_t *
list_packs(const struct hf_vault_state *state, bool condemned)
{
    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (size_t i = 0; i < state->pack_count; i++)
        if ((state->packs[i].condemned != 0) == condemned &&
            json_array_append_new(list, hf_json_id_text(&state->packs[i].pack)) != 0)
            return NULL;
    return HF_TAKE(list);
}

/* Its id was drawn before: one that is there already was entered by whoever was killed after it. */
static bool
enter_certificate(struct hf_daemon *daemon, const struct hf_id *id, const json_t *record, struct hf_error *err)
{
    _cleanup_(hf_freep) char *folder = NULL;
    _cleanup_(hf_json_freep) json_t *content = NULL;
    struct wanted vault = {.id = *id};
    struct hf_receipt receipt;
    char path[4096];
    if (!hf_evidence_folder(daemon->settings, &folder, err))
        return false;
    {
        _cleanup_(hf_ledger_closep) struct hf_ledger *ledger = NULL;
        if (!hf_evidence_open_ledger(daemon, true, &ledger, err)) // finishes an entry that was cut off
            return false;
    }
    snprintf(path, sizeof path, "%s/%s.json", folder, text_of(record, "evidence"));
    if (access(path, F_OK) == 0)
        return true;
    return hf_catalog_vaults(hf_daemon_catalog(daemon), match_vault, &vault, err) &&
           write_certificate(daemon, &vault, record, &content, err) &&
           hf_evidence_enter(daemon, content, &receipt, err);
}

static bool
write_certificate(struct hf_daemon *daemon, const struct wanted *vault, const json_t *record, json_t **ret,
                  struct hf_error *err)
{
    char now[HF_TIME_TEXT_BYTES];
    const struct hf_records *records = daemon->records;
    const char *name = text_of(record, "name"), *lineage = text_of(record, "lineage"),
               *reason = text_of(record, "reason"), *second = text_of(record, "confirmed_by");
    hf_time_format(hf_daemon_now(daemon), now);
    json_t *head = json_pack("{s:O, s:s, s:o, s:{s:s}, s:s, s:{}}", "evidence_id", json_object_get(record, "evidence"),
                             "kind", "shred", "appliance_id", hf_json_id_text(&hf_records_signing(records)->appliance),
                             "software", "version", HF_VERSION, "created_at", now, "clock");
    json_t *shred =
        json_pack("{s:o, s:s, s:s, s:I, s:s, s:I, s:I, s:I, s:[], s:[], s:[]}", "vault_id", hf_json_id_text(&vault->id),
                  "engine", text_of(record, "engine"), "shredded_at", now, "log_sequence", (json_int_t)vault->head,
                  "log_head", vault->head_hash, "backups", (json_int_t)number_of(record, "backups"), "bytes_stored",
                  (json_int_t)number_of(record, "bytes"), "root_generation",
                  (json_int_t)hf_repository_root_generation(hf_records_repository(daemon->records)), "wraps", "kits",
                  "beyond_reach");
    json_t *people = json_pack("{s:s}", "requested_by", text_of(record, "by"));
    _cleanup_(hf_json_freep) json_t *content =
        json_pack("{s:s, s:o, s:o, s:o}", "schema", HF_EVIDENCE_SCHEMA, "head", head, "people", people, "shred", shred);
    if (content == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the certificate");
    json_t *reach = json_object_get(shred, "beyond_reach");
    bool ok = hf_evidence_set_unknown(head, "site", "no site is named in the settings", err) &&
              hf_evidence_set_unknown(json_object_get(head, "software"), "build", "not recorded", err) &&
              hf_evidence_set_unknown(json_object_get(head, "clock"), "source", "not asked", err) &&
              hf_evidence_set_unknown(json_object_get(head, "clock"), "offset_ns", "not asked", err) &&
              hf_evidence_set_unknown(people, "ticket", "not asked for", err) &&
              (second[0] != '\0'
                   ? hf_json_set(people, "approved_by", json_string(second), err)
                   : hf_evidence_set_unknown(people, "approved_by", "the settings ask for one person's word", err));
    ok = ok && (reason[0] != '\0' ? hf_json_set(people, "reason", json_string(reason), err)
                                  : hf_evidence_set_unknown(people, "reason", "none was given", err));
    ok = ok && (name[0] != '\0' ? hf_json_set(shred, "vault_name", json_string(name), err)
                                : hf_evidence_set_unknown(shred, "vault_name", "not recorded", err));
    ok = ok && (lineage[0] != '\0' ? hf_json_set(shred, "lineage", json_string(lineage), err)
                                   : hf_evidence_set_unknown(shred, "lineage", "not recorded", err));
    if (!ok || !list_wraps(daemon, shred, reach, err) ||
        !list_beyond_reach(now, json_array_size(json_object_get(shred, "wraps")), reach, err) ||
        !list_kits(daemon, shred, reach, err))
        return false;
    *ret = HF_TAKE(content);
    return true;
}

/* Every slot there ever was: each of them opens the root key that wrapped this vault's keys at some time. */
static bool
list_wraps(struct hf_daemon *daemon, json_t *shred, json_t *reach, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *records = NULL;
    json_t *wraps = json_object_get(shred, "wraps"), *record;
    const char *id;
    if (!hf_key_records_load(daemon, HF_RECORD_KEY, &records, err))
        return false;
    json_object_foreach(records, id, record)
    {
        const int64_t removed = number_of(record, "removed_at");
        if (json_array_size(wraps) == HF_EVIDENCE_MOST_LIST)
            return add_sentence(reach, "more_wraps", err, "There were %zu wraps; not all of them are listed.",
                                json_object_size(records));
        json_t *wrap =
            json_pack("{s:s, s:O, s:O, s:O, s:o}", "slot_id", id, "name", json_object_get(record, "name"), "kind",
                      json_object_get(record, "kind"), "root_generation", json_object_get(record, "root"), "created_at",
                      time_text(number_of(record, "created_at")));
        if (wrap == NULL || json_array_append_new(wraps, wrap) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the certificate");
        if (!(removed >= 0 ? hf_json_set(wrap, "removed_at", time_text(removed), err)
                           : hf_evidence_set_unknown(wrap, "removed_at", "it still opens the repository", err)))
            return false;
    }
    return true;
}

static bool
list_kits(struct hf_daemon *daemon, json_t *shred, json_t *reach, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *records = NULL;
    json_t *kits = json_object_get(shred, "kits"), *record, *slot;
    const char *id;
    size_t at;
    if (!hf_key_records_load(daemon, HF_RECORD_KIT, &records, err))
        return false;
    json_object_foreach(records, id, record)
    {
        char names[NAMES_MOST + 1] = "";
        char issued[HF_TIME_TEXT_BYTES];
        if (json_array_size(kits) == KITS_MOST)
            return add_sentence(reach, "more_kits", err, "There were %zu recovery kits; not all of them are listed.",
                                json_object_size(records));
        json_array_foreach(json_object_get(record, "slots"), at, slot)
        {
            size_t used = strlen(names);
            snprintf(names + used, sizeof names - used, "%s%s", used > 0 ? ", " : "", text_of(slot, "name"));
        }
        hf_time_format(number_of(record, "issued_at"), issued);
        if (json_array_append_new(kits, json_pack("{s:s, s:s, s:O, s:s}", "kit_id", id, "issued_at", issued,
                                                  "root_generation", json_object_get(record, "root"), "slots",
                                                  names[0] == '\0' ? "none" : names)) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the certificate");
        if (!add_sentence(reach, "kit", err,
                          "The recovery kit issued on %s (slots: %.500s) together with an old copy of the repository "
                          "still opens this vault.",
                          issued, names))
            return false;
    }
    return true;
}

static bool
list_beyond_reach(const char *shredded_at, size_t wraps, json_t *reach, struct hf_error *err)
{
    return add_sentence(reach, "repository_copies", err,
                        "Every copy of this repository made before %s still holds the vault's keys: backups and "
                        "snapshots of its disk, second places, disks that were replaced. Each of the %zu wraps listed "
                        "opens such a copy. Destroy the copies. A second place forgets the keys when it is synced "
                        "next, but not before.",
                        shredded_at, wraps) &&
           add_sentence(reach, "root_key", err,
                        "The root key and its slots go on, since other vaults need them. Replacing the root key does "
                        "not change copies that were made before.") &&
           add_sentence(reach, "storage", err,
                        "The keys were deleted and overwritten where they lay. Journals, file systems that copy on "
                        "write and worn flash cells may hold the old bytes.") &&
           add_sentence(reach, "restored_data", err,
                        "Restores, replicas and staging copies made from this vault are not sealed with its keys and "
                        "are not touched.");
}

static bool
add_sentence(json_t *reach, const char *what, struct hf_error *err, const char *format, ...)
{
    char sentence[HF_EVIDENCE_MOST_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(sentence, sizeof sentence, format, arguments);
    va_end(arguments);
    return json_array_append_new(reach, json_pack("{s:s, s:s}", "what", what, "sentence", sentence)) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the certificate");
}

static json_t *
time_text(int64_t ms)
{
    char text[HF_TIME_TEXT_BYTES];
    return json_string(hf_time_format(ms, text));
}

static int64_t
number_of(const json_t *record, const char *member)
{
    const json_t *value = json_object_get(record, member);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

/* Empty when there is none. */
static const char *
text_of(const json_t *record, const char *member)
{
    const char *text = json_string_value(json_object_get(record, member));
    return text == NULL ? "" : text;
}
