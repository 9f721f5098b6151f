#include "server/job/kinds.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/view.h"
#include "sandbox/runner.h"
#include "sandbox/uids.h"
#include "server/job/attempt_facts.h"
#include "server/job/daemon_internal.h"
#include "server/job/damage.h"
#include "server/job/evidence.h"
#include "server/job/key_turns.h"
#include "server/job/open_repository.h"
#include "server/job/table_keys.h"
#include "server/verify/verify.h"

#define MEMORY_MOST (4 * HF_GIB) // of this process: whoever answers from the sandbox does not decide that

/* The backup that was asked for: named, or the newest. */
struct chosen {
    struct hf_id backup, vault;
    enum hf_backup_state state;
    int64_t logical_bytes, stored_bytes;
    bool found;
};

static bool choose(void *context, const struct hf_backup_row *row, struct hf_error *err);
static bool find_backup(struct hf_daemon *daemon, struct hf_job *job, struct chosen *ret, struct hf_error *err);
static bool limit_memory(struct hf_error *err);
static void open_runner(struct hf_worker *worker, struct hf_runner **ret);
static bool fill_options(struct hf_worker *worker, const json_t *source, uid_t uid, unsigned processors,
                         struct hf_verify_options *ret, struct hf_assertions *ret_assertions,
                         struct hf_table_keys **ret_keys, struct hf_error *err);
static bool unlock(struct hf_worker *worker, const json_t *request, struct hf_open_repository *ret, json_t **ret_failed,
                   struct hf_error *err);
static bool answer_unopened(struct hf_worker *worker, const struct hf_error *why, json_t **ret, struct hf_error *err);
static bool conclude_unfinished(struct hf_daemon *daemon, struct hf_job *job, const struct hf_error *why,
                                json_t **ret_result, struct hf_error *err);
static bool answer(const struct hf_verify_outcome *outcome, const struct hf_verify_subject *subject, json_t **ret,
                   struct hf_error *err);
static bool add_affected(struct hf_worker *worker, struct hf_open_repository *opened,
                         const struct hf_verify_outcome *outcome, const struct hf_id *backup, json_t *result,
                         struct hf_error *err);
static bool enter_evidence(struct hf_daemon *daemon, json_t *result, struct hf_id *ret_evidence, struct hf_error *err);
static bool record_verdict(struct hf_daemon *daemon, const struct hf_job *job, const json_t *result,
                           const struct hf_id *evidence, struct hf_error *err);
static bool record_damage(struct hf_daemon *daemon, const json_t *result, struct hf_error *err);

bool
hf_verify_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    struct chosen chosen = {.found = false};
    char person[HF_PERSON_BYTES];
    _cleanup_(hf_json_freep) json_t *request = json_object();
    json_t *source;
    if (request == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a request");
    if (!hf_daemon_describe_source(daemon, hf_job_subject(job), &source, err) ||
        !hf_json_set(request, "source", source, err) || !find_backup(daemon, job, &chosen, err) ||
        !hf_json_set(request, "backup", hf_json_id_text(&chosen.backup), err) ||
        !hf_json_set(request, "vault", hf_json_id_text(&chosen.vault), err) ||
        !hf_json_set(request, "state", json_string(hf_backup_state_name(chosen.state)), err) ||
        !hf_json_set(request, "logical_bytes", json_integer(chosen.logical_bytes), err) ||
        !hf_json_set(request, "stored_bytes", json_integer(chosen.stored_bytes), err) ||
        !hf_json_set(request, "requested_by", json_string(hf_person_name(hf_job_requested_by(job), person)), err) ||
        !hf_json_set(request, "processors", json_integer(hf_jobs_sandbox_share(daemon)), err) ||
        !hf_json_set(job->arguments, "backup", hf_json_id_text(&chosen.backup), err) ||
        !hf_job_note_arguments(daemon, job, err) || // for conclude, after a crash too: which it was
        !hf_job_pin(daemon, job, &chosen.vault, &chosen.backup, err))
        return false;
    json_t *key_file = json_object_get(hf_job_arguments(job), "key_file"), *turn;
    if (!hf_key_turn_choose(daemon, key_file != NULL, &turn, err) || !hf_json_set(request, "turn", turn, err))
        return false;
    if (key_file != NULL && !hf_json_set(request, "key_file", json_incref(key_file), err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

bool
hf_verify_job_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    struct hf_verify_options options;
    struct hf_verify_outcome outcome;
    struct hf_assertions assertions;
    _cleanup_(hf_table_keys_freep) struct hf_table_keys *table_keys = NULL;
    struct hf_error unopened;
    _cleanup_(hf_open_repository_done) struct hf_open_repository opened = {0};
    struct hf_id backup, vault;
    const char *state_before, *requested_by;
    int64_t logical_bytes, stored_bytes, processors;
    uid_t uid;
    _cleanup_(hf_runner_freep) struct hf_runner *runner = NULL;
    _cleanup_(hf_closep) int uid_lock = -1; // let go after the sandbox and its files are gone
    json_t *source, *settings;
    if (!hf_json_object(request, "source", "the request", &source, err) ||
        !hf_json_id(request, "backup", "the request", &backup, err) ||
        !hf_json_id(request, "vault", "the request", &vault, err) ||
        !hf_json_string(request, "state", "the request", &state_before, err) ||
        !hf_json_string(request, "requested_by", "the request", &requested_by, err) ||
        !hf_json_integer(request, "logical_bytes", "the request", -1, INT64_MAX, &logical_bytes, err) ||
        !hf_json_integer(request, "processors", "the request", 1, 1024, &processors, err) ||
        !hf_json_integer(request, "stored_bytes", "the request", -1, INT64_MAX, &stored_bytes, err))
        return false;

    hf_worker_progress(worker, "unlock", 0, 0);
    _cleanup_(hf_json_freep) json_t *failed = NULL;
    if (!unlock(worker, request, &opened, &failed, &unopened))
        return answer_unopened(worker, &unopened, ret_result, err);
    if (!hf_vault_open(opened.repository, &vault, &opened.vault, err) || !limit_memory(err) ||
        !hf_uid_claim(&uid, &uid_lock, err) ||
        !fill_options(worker, source, uid, (unsigned)processors, &options, &assertions, &table_keys, err))
        return false;
    _cleanup_(hf_progress_relay_stop) struct hf_progress_relay relay;
    hf_progress_relay_start(&relay, worker);
    open_runner(worker, &runner);
    options.runner = runner;
    options.phase = &relay.phase;
    options.done = &relay.done;
    options.total = &relay.total;
    options.assertions = &assertions;
    _cleanup_(hf_worker_source_done) struct hf_worker_source live = {0};
    struct hf_error unreachable;
    if (hf_worker_source_open(source, &live, &unreachable)) // else the check that needs it says that nobody was asked
        options.live = &live.target;
    if (!hf_verify_run(opened.vault, &backup, &options, &outcome, err))
        return false;

    enum hf_backup_state before;
    const struct hf_vault_state *log;
    struct hf_verify_subject subject = {.attempt = hf_id_new(),
                                        .appliance = hf_worker_signing(worker)->appliance,
                                        .vault = vault,
                                        .backup = backup,
                                        .version = HF_VERSION,
                                        .requested_by = requested_by,
                                        .key_slot = opened.slot.name,
                                        .logical_bytes = logical_bytes > 0 ? (uint64_t)logical_bytes : 0,
                                        .stored_bytes = stored_bytes > 0 ? (uint64_t)stored_bytes : 0,
                                        .lowest = options.lowest};
    bool ok = hf_backup_state_parse(state_before, &before, err) &&
              hf_json_string(source, "name", "the request", &subject.source_name, err) &&
              hf_json_object(source, "settings", "the request", &settings, err) &&
              hf_json_string(settings, "engine", "the request", &subject.engine, err) &&
              hf_vault_read(opened.vault, NULL, NULL, &log, err);
    if (ok) {
        static const enum hf_backup_event events[] = {[HF_ATTEMPT_PASSED] = HF_BACKUP_PASSED,
                                                      [HF_ATTEMPT_FAILED] = HF_BACKUP_DID_NOT_RECOVER,
                                                      [HF_ATTEMPT_INCONCLUSIVE] = HF_BACKUP_INCONCLUSIVE};
        enum hf_backup_state after = hf_backup_state_after(before, events[outcome.result]);
        if (outcome.store_damaged)
            after = hf_backup_state_after(after, HF_BACKUP_DAMAGE_FOUND);
        subject.state_before = state_before;
        subject.state_after = hf_backup_state_name(after);
        subject.identity = log->identity;
        subject.source_id = vault; // a source has no id of its own in the log: its lineage is what it is
        subject.log_sequence = log->head;
        memcpy(subject.log_head, log->head_hash, sizeof subject.log_head);
        if (outcome.result != HF_ATTEMPT_PASSED)
            hf_worker_bad_news(worker);
        ok = answer(&outcome, &subject, ret_result, err) &&
             hf_key_turn_tell(json_object_get(request, "turn"), &opened.slot, failed, *ret_result, err) &&
             (!outcome.store_damaged || add_affected(worker, &opened, &outcome, &backup, *ret_result, err));
    }
    hf_verify_outcome_done(&outcome);
    return ok;
}

/* First the signed evidence, then the entry that refers to it. */
bool
hf_verify_conclude(struct hf_daemon *daemon, struct hf_job *job, json_t **result, const struct hf_error *why,
                   struct hf_error *err)
{
    struct hf_id evidence;
    const char *unopened = json_string_value(json_object_get(*result, "unopened"));
    struct hf_error key;
    if (unopened != NULL) { // that its key opens nothing says nothing about the backup
        hf_fail(&key, HF_ERR_DENIED, "%s", unopened);
        why = &key;
        hf_json_freep(result);
    }
    /* An attempt that was cut off is an attempt all the same: inconclusive, never silence (promise 1). */
    if (*result == NULL && !conclude_unfinished(daemon, job, why, result, err))
        return false;
    if (*result == NULL)
        return true;                                                    // it ended before a backup was chosen
    if (why == &key && !hf_json_set(*result, "slot", json_null(), err)) // none opened
        return false;
    if (hf_records_read_only(hf_daemon_records(daemon))) {
        // A copy keeps no records.  What was seen is told, and the original's ledger stays as it was.
        (void)json_object_del(*result, "content");
        return hf_json_set(*result, "evidence", json_null(), err) &&
               hf_json_set(*result, "recorded", json_false(), err);
    }
    if (!hf_attempt_complete(daemon, hf_job_subject(job), json_object_get(*result, "content"), *result, err) ||
        !hf_key_turn_record(daemon, *result, err) || !enter_evidence(daemon, *result, &evidence, err) ||
        !record_verdict(daemon, job, *result, &evidence, err))
        return false;
    return !json_is_true(json_object_get(*result, "store_damaged")) || record_damage(daemon, *result, err);
}

/* Through the slot of the key file that was named, else through the one whose turn it is. */
static bool
unlock(struct hf_worker *worker, const json_t *request, struct hf_open_repository *ret, json_t **ret_failed,
       struct hf_error *err)
{
    _cleanup_(hf_credential_done) struct hf_credential named = {.kind = HF_SLOT_KEY_FILE};
    const char *path = json_string_value(json_object_get(request, "key_file"));
    if (path == NULL)
        return hf_key_turn_open(worker, json_object_get(request, "turn"), ret, ret_failed, err);
    return hf_key_file_read(path, &named, err) && hf_open_repository_shut(worker, &named, ret, err);
}

/* For conclude(), which has a key that opens: there the attempt is put on record. */
static bool
answer_unopened(struct hf_worker *worker, const struct hf_error *why, json_t **ret, struct hf_error *err)
{
    hf_worker_bad_news(worker);
    *ret = json_pack("{s:s}", "unopened", why->message);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
}

static bool
choose(void *context, const struct hf_backup_row *row, struct hf_error *err)
{
    (void)err;
    struct chosen *chosen = context;
    *chosen = (struct chosen){.backup = row->backup,
                              .vault = row->vault,
                              .state = row->state,
                              .logical_bytes = row->logical_bytes,
                              .stored_bytes = row->stored_bytes,
                              .found = true};
    return true;
}

static bool
find_backup(struct hf_daemon *daemon, struct hf_job *job, struct chosen *ret, struct hf_error *err)
{
    const char *named = json_string_value(json_object_get(hf_job_arguments(job), "backup"));
    struct hf_catalog *catalog = hf_daemon_catalog(daemon);
    bool found;
    struct hf_id id;
    if (named == NULL) {
        /* Of itself it takes the newest that is still to be proven; a person without a name means the newest. */
        const enum hf_backup_state open = HF_BACKUP_UNPROVEN;
        found = false;
        if (strcmp(hf_job_requested_by(job), HF_BY_SCHEDULE) == 0 &&
            !hf_catalog_newest_backup(catalog, hf_job_subject(job), &open, &found, choose, ret, err))
            return false;
        if (!found && !hf_catalog_newest_backup(catalog, hf_job_subject(job), NULL, &found, choose, ret, err))
            return false;
        if (!found) {
            hf_fail(err, HF_ERR_NOT_FOUND, "source \"%s\" has no backup", hf_job_subject(job));
            return hf_fail_hint(err, "Take one first: holdfast backup %s.", hf_job_subject(job));
        }
        return true;
    }
    if (!hf_id_parse(named, &id, err) || !hf_catalog_backup(catalog, &id, &found, choose, ret, err))
        return false;
    if (!found) {
        hf_fail(err, HF_ERR_NOT_FOUND, "there is no backup \"%s\"", named);
        return hf_fail_hint(err, "List them: holdfast backups %s.", hf_job_subject(job));
    }
    return true;
}

/* libpq keeps a message of any length, several times: an error of a gigabyte is to end the question, not the host. */
static bool
limit_memory(struct hf_error *err)
{
    const struct rlimit limit = {.rlim_cur = MEMORY_MOST, .rlim_max = MEMORY_MOST};
    return setrlimit(RLIMIT_DATA, &limit) == 0 ||
           hf_fail_errno(err, HF_ERR_NONE, "could not limit the memory of a verification");
}

/* Without one the sandbox is weaker, and its report says so; whether that is enough is for lowest_level to say. */
static void
open_runner(struct hf_worker *worker, struct hf_runner **ret)
{
    const char *path = hf_worker_settings(worker)->sandbox.runner;
    struct hf_error failure;
    if (geteuid() == 0 || access(path, F_OK) != 0 || hf_runner_open(path, ret, &failure))
        return;
    hf_worker_note(worker, HF_LOG_WARNING, "the sandbox gets no uid of its own: %s", failure.message);
}

static bool
fill_options(struct hf_worker *worker, const json_t *source, uid_t uid, unsigned processors,
             struct hf_verify_options *ret, struct hf_assertions *ret_assertions, struct hf_table_keys **ret_keys,
             struct hf_error *err)
{
    const struct hf_settings *settings = hf_worker_settings(worker);
    const json_t *of_source = json_object_get(source, "settings");
    const char *level = json_string_value(json_object_get(of_source, "lowest_level"));
    _cleanup_(hf_source_settings_freep) struct hf_source_settings *own = NULL;
    const char *name;
    if (!hf_json_string(source, "name", "the request", &name, err) ||
        !hf_source_settings_from_json(name, of_source, &own, err) ||
        !hf_assertions_parse(own->assertions, ret_assertions, err) || !hf_job_table_keys(source, ret_keys, err))
        return false;
    *ret = (struct hf_verify_options){
        .table_keys = *ret_keys,
        .streamed = own->stream,
        .catch_up_ms = (uint64_t)own->catch_up_ms,
        .scratch_folder = settings->scratch.folder,
        .scratch_memory_bytes = (uint64_t)settings->scratch.memory,
        .packages = (const char *const *)settings->sandbox.postgres_prefixes,
        .sandbox_memory_bytes = (uint64_t)settings->sandbox.memory,
        .phase_ms = (uint64_t)settings->sandbox.phase_ms,
        .host_uid = uid,
        .host_gid = uid,
        .jobs = processors,
        .cancel = hf_worker_cancel(worker),
    };
    return hf_dir_make(settings->scratch.folder, 0711, err) &&
           hf_sandbox_level_parse(level != NULL ? level : settings->sandbox.lowest_level, &ret->lowest, err);
}

static bool
conclude_unfinished(struct hf_daemon *daemon, struct hf_job *job, const struct hf_error *why, json_t **ret_result,
                    struct hf_error *err)
{
    struct hf_records *records = hf_daemon_records(daemon);
    const char *named = json_string_value(json_object_get(hf_job_arguments(job), "backup"));
    struct chosen chosen = {.found = false};
    struct hf_verify_outcome outcome;
    char person[HF_PERSON_BYTES];
    struct hf_vault *vault;
    const struct hf_vault_state *log;
    struct hf_id id;
    bool found;
    if (hf_job_started_at(job) <= 0 || named == NULL || !hf_id_parse(named, &id, NULL))
        return true;
    if (!hf_catalog_backup(hf_daemon_catalog(daemon), &id, &found, choose, &chosen, err))
        return false;
    if (!found)
        return true;
    if (!hf_records_vault(records, &chosen.vault, &vault, err) || !hf_vault_read(vault, NULL, NULL, &log, err))
        return false;
    const struct hf_vault_backup *backup = hf_vault_state_backup(log, &id);
    if (backup == NULL || backup->facts == NULL)
        return true;
    const char *reason = why != NULL && why->message[0] != 0 ? why->message : "the attempt ended without an outcome";
    if (!hf_verify_unfinished(backup->facts, hf_job_started_at(job), reason, &outcome, err))
        return false;
    struct hf_verify_subject subject = {.attempt = hf_id_new(),
                                        .appliance = hf_records_signing(records)->appliance,
                                        .source_id = chosen.vault,
                                        .vault = chosen.vault,
                                        .backup = id,
                                        .source_name = hf_job_subject(job),
                                        .identity = log->identity,
                                        .version = HF_VERSION,
                                        .requested_by = hf_person_name(hf_job_requested_by(job), person),
                                        .key_slot = hf_records_slot(records)->name,
                                        .state_before = hf_backup_state_name(chosen.state),
                                        .state_after = hf_backup_state_name(chosen.state),
                                        .log_sequence = log->head,
                                        .logical_bytes =
                                            (uint64_t)(chosen.logical_bytes > 0 ? chosen.logical_bytes : 0),
                                        .stored_bytes = (uint64_t)(chosen.stored_bytes > 0 ? chosen.stored_bytes : 0),
                                        .lowest = HF_SANDBOX_L0};
    memcpy(subject.log_head, log->head_hash, sizeof subject.log_head);
    const bool ok = answer(&outcome, &subject, ret_result, err);
    hf_verify_outcome_done(&outcome);
    return ok;
}

static bool
answer(const struct hf_verify_outcome *outcome, const struct hf_verify_subject *subject, json_t **ret,
       struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *result = json_object();
    json_t *content;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    const char *level = json_string_value(json_object_get(outcome->sandbox, "level"));
    if (!hf_verify_evidence(outcome, subject, &content, err) || !hf_json_set(result, "content", content, err) ||
        !hf_json_set(result, "attempt", hf_json_id_text(&subject->attempt), err) ||
        !hf_json_set(result, "backup", hf_json_id_text(&subject->backup), err) ||
        !hf_json_set(result, "vault", hf_json_id_text(&subject->vault), err) ||
        !hf_json_set(result, "source", json_string(subject->source_name), err) ||
        !hf_json_set(result, "result", json_string(hf_attempt_result_name(outcome->result)), err) ||
        !hf_json_set(result, "state", json_string(subject->state_after), err) ||
        !hf_json_set(result, "reason",
                     outcome->reason[0] != 0 ? hf_json_foreign_text(outcome->reason, strlen(outcome->reason), 500)
                                             : json_null(),
                     err) ||
        !hf_json_set(result, "store_damaged", json_boolean(outcome->store_damaged), err) ||
        !hf_json_set(result, "checks", json_deep_copy(json_object_get(content, "checks")), err) ||
        !hf_json_set(result, "phases",
                     json_deep_copy(json_object_get(json_object_get(content, "restore"), "phases")) ?: json_array(),
                     err) ||
        !hf_json_set(result, "slot", json_string(subject->key_slot), err) ||
        !hf_json_set(result, "level", level != NULL ? json_string(level) : json_null(), err) ||
        !hf_json_set(result, "scratch", outcome->scratch[0] != 0 ? json_string(outcome->scratch) : json_null(), err) ||
        !hf_json_set(result, "sandbox", outcome->sandbox != NULL ? json_incref(outcome->sandbox) : json_null(), err) ||
        !hf_json_set(result, "started_at", json_integer(outcome->started_at), err) ||
        !hf_json_set(result, "finished_at", json_integer(outcome->finished_at), err) ||
        !hf_json_set(result, "duration_ms", json_integer((json_int_t)outcome->duration_ms), err) ||
        !hf_json_set(result, "recovery_ms",
                     outcome->recovery_ms >= 0 ? json_integer(outcome->recovery_ms) : json_null(), err))
        return false;
    *ret = HF_TAKE(result);
    return true;
}

/* What was found damaged is followed to every backup that needs it, this one first. */
static bool
add_affected(struct hf_worker *worker, struct hf_open_repository *opened, const struct hf_verify_outcome *outcome,
             const struct hf_id *backup, json_t *result, struct hf_error *err)
{
    _cleanup_(hf_damages_done) struct hf_damages damages = {0};
    json_t *affected;
    struct hf_damage damage = {.kind = HF_DAMAGE_ALTERED,
                               .vault = hf_vault_id(opened->vault),
                               .slab = HF_DAMAGE_NO_SLAB,
                               .backup = *backup,
                               .message = outcome->reason};
    if (!hf_damages_init(&damages, err))
        return false;
    hf_damages_take(&damages, &damage);
    for (size_t i = 0; i < outcome->damage_count; i++) {
        damage.pack = outcome->damages[i].pack;
        damage.slab = outcome->damages[i].slab;
        hf_damages_take(&damages, &damage);
    }
    return hf_damages_affected(&damages, opened->repository, hf_worker_cancel(worker), &affected, err) &&
           hf_json_set(result, "affected", affected, err);
}

/* The result loses the content and gains the document's place. */
static bool
enter_evidence(struct hf_daemon *daemon, json_t *result, struct hf_id *ret_evidence, struct hf_error *err)
{
    _cleanup_(hf_freep) char *folder = NULL;
    char id[HF_ID_TEXT_BYTES], path[4096];
    struct hf_receipt receipt;
    if (!hf_evidence_folder(hf_daemon_settings(daemon), &folder, err) ||
        !hf_evidence_enter(daemon, json_object_get(result, "content"), &receipt, err))
        return false;
    *ret_evidence = receipt.evidence_id;
    hf_id_format(&receipt.evidence_id, id);
    snprintf(path, sizeof path, "%s/%s.json", folder, id);
    (void)json_object_del(result, "content");
    return hf_json_set(result, "evidence", json_string(id), err) &&
           hf_json_set(result, "evidence_path", json_string(path), err) &&
           hf_json_set(result, "evidence_index", json_integer((json_int_t)receipt.index), err);
}

static bool
record_verdict(struct hf_daemon *daemon, const struct hf_job *job, const json_t *result, const struct hf_id *evidence,
               struct hf_error *err)
{
    static const char *const kept[] = {"started_at", "finished_at", "level",       "scratch",
                                       "slot",       "reason",      "recovery_ms", "data_loss_ms"};
    _cleanup_(hf_json_freep) json_t *open_part = json_object();
    _cleanup_(hf_json_freep) json_t *sealed_part = json_object();
    struct hf_record record = {.kind = HF_LOG_VERDICT, .time = hf_daemon_now(daemon)};
    (void)job;
    if (open_part == NULL || sealed_part == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a verdict");
    for (size_t i = 0; i < HF_LENGTH(kept); i++) {
        json_t *value = json_object_get(result, kept[i]);
        if (value != NULL && !json_is_null(value) && !hf_json_set(sealed_part, kept[i], json_incref(value), err))
            return false;
    }
    if (!hf_json_set(sealed_part, "validation_ms", json_incref(json_object_get(result, "duration_ms")), err) ||
        !hf_json_set(sealed_part, "evidence_id", hf_json_id_text(evidence), err) ||
        !hf_json_set(open_part, "backup", json_incref(json_object_get(result, "backup")), err) ||
        !hf_json_set(open_part, "attempt", json_incref(json_object_get(result, "attempt")), err) ||
        !hf_json_set(open_part, "result", json_incref(json_object_get(result, "result")), err) ||
        !hf_json_set(open_part, "state", json_incref(json_object_get(result, "state")), err) ||
        !hf_json_id(result, "vault", "the result", &record.vault, err))
        return false;
    record.public_part = open_part;
    record.sealed_part = sealed_part;
    return hf_records_append(hf_daemon_records(daemon), &record, err);
}

static bool
record_damage(struct hf_daemon *daemon, const json_t *result, struct hf_error *err)
{
    const char *reason = json_string_value(json_object_get(result, "reason"));
    json_t *affected, *row;
    size_t index;
    if (!hf_json_array(result, "affected", "the result", &affected, err))
        return false;
    json_array_foreach(affected, index, row)
    {
        if (!hf_damage_record(daemon, row, reason != NULL ? reason : "found by a verification", err))
            return false;
    }
    return true;
}
