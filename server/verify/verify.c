#include "server/verify/engine.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/tree.h"
#include "server/care/check.h"

#define PROGRAM_MOST     (256 * HF_MIB)
#define PHASE_DEFAULT_MS (60 * 60 * 1000)
#define SHUTDOWN_MS      60000
#define END_IS_HEARD_MS  300 // from a broken connection until the sandbox has told why

/* Where the damages of the store are noted. */
struct noting {
    struct hf_attempt *attempt;
    struct hf_verify_check *check;
};

/* Of the phase in which questions are asked: then the copy is ended. */
struct deadline {
    struct hf_attempt *attempt;
    pthread_t thread;
    bool watched;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t change;
    bool stopped, passed;
};

static const struct hf_verify_check_row own_checks[] = {
    {"key", "The key in the safe opens the repository", true, "unwrap_slot"},
    {"packs", "Every stored object is there", true, "log_against_store"},
    {"room", "There is room for the copy", true, "free_space"},
    {"slabs", "Every stored piece is unaltered and complete", true, "aead_and_digests"},
};

static const struct hf_verify_engine *const engines[] = {&hf_verify_postgres, &hf_verify_mariadb};

static void declare_checks(struct hf_verify_report *report, const struct hf_verify_check_row *rows, size_t count);
static bool take_facts(struct hf_verify_outcome *outcome, const char *text, json_t **ret, struct hf_error *err);
static void end_phase(struct hf_attempt *attempt);
static bool read_facts(struct hf_attempt *attempt, struct hf_error *err);
static bool settle_log(struct hf_attempt *attempt, const struct hf_error *failure, struct hf_error *err);
static bool restore_copy(struct hf_attempt *attempt, struct hf_error *err);
static bool plan_copy(struct hf_attempt *attempt, struct hf_error *err);
static bool open_scratch(struct hf_attempt *attempt, struct hf_error *err);
static bool write_copy(struct hf_attempt *attempt, struct hf_error *err);
static bool settle_store(struct hf_attempt *attempt, struct hf_verify_check *check, const struct hf_error *failure,
                         struct hf_error *err);
static void note_damage(void *context, const struct hf_damage *damage);
static bool run_copy(struct hf_attempt *attempt, struct hf_error *err);
static void *watch_deadline(void *context);
static void deadline_start(struct deadline *deadline, struct hf_attempt *attempt);
static void deadline_stop(struct deadline *deadline);
static bool is_open(const struct hf_attempt *attempt, const struct hf_verify_check *check);
static void name_early_end(struct hf_attempt *attempt, bool too_late);
static bool start_copy(struct hf_attempt *attempt, struct hf_error *err);
static bool become_ready(struct hf_attempt *attempt, struct hf_error *err);
static int64_t time_to_recover(struct hf_attempt *attempt);
static bool stop_copy(struct hf_attempt *attempt, struct hf_error *err);
static void finish(struct hf_attempt *attempt);

bool
hf_verify_run(struct hf_vault *vault, const struct hf_id *backup, const struct hf_verify_options *options,
              struct hf_verify_outcome *ret, struct hf_error *err)
{
    *ret = (struct hf_verify_outcome){.requested_at = hf_time_now_ms(), .recovery_ms = -1};
    ret->started_at = ret->requested_at;
    declare_checks(&ret->report, own_checks, HF_LENGTH(own_checks));
    struct hf_attempt attempt = {.vault = vault,
                                 .backup = *backup,
                                 .options = options,
                                 .outcome = ret,
                                 .began_ns = hf_monotonic_ns(),
                                 .phase_ms = options->phase_ms > 0 ? options->phase_ms : PHASE_DEFAULT_MS};

    struct hf_verify_check *key = hf_attempt_check(&attempt, "key");
    hf_check_begin(key);
    hf_check_pass(key, 1); // the caller holds an open vault: the slot it names unwrapped the root key

    const bool ok = read_facts(&attempt, err) && (attempt.over || restore_copy(&attempt, err)) &&
                    (attempt.over || run_copy(&attempt, err));
    hf_asker_freep(&attempt.asker);
    hf_sandbox_freep(&attempt.sandbox);
    if (attempt.plan != NULL)
        ret->suites = hf_pack_reader_suites(hf_backup_packs(hf_restore_plan_backup(attempt.plan)));
    hf_restore_plan_freep(&attempt.plan);
    if (attempt.engine != NULL)
        attempt.engine->end(&attempt);
    hf_scratch_freep(&attempt.scratch);
    free(attempt.data);
    if (!ok) {
        hf_verify_outcome_done(ret);
        return false;
    }
    finish(&attempt);
    return true;
}

void
hf_verify_outcome_done(struct hf_verify_outcome *outcome)
{
    hf_json_freep(&outcome->sandbox);
    outcome->sandbox = NULL;
    free(outcome->relations.databases);
    outcome->relations.databases = NULL;
}

bool
hf_verify_unfinished(const char *facts, int64_t started_at, const char *reason, struct hf_verify_outcome *ret,
                     struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = NULL;
    *ret = (struct hf_verify_outcome){.requested_at = started_at,
                                      .started_at = started_at,
                                      .finished_at = hf_time_now_ms(),
                                      .result = HF_ATTEMPT_INCONCLUSIVE,
                                      .recovery_ms = -1};
    declare_checks(&ret->report, own_checks, HF_LENGTH(own_checks));
    snprintf(ret->reason, sizeof ret->reason, "%s", reason);
    if (ret->finished_at > started_at)
        ret->duration_ms = (uint64_t)(ret->finished_at - started_at);
    return take_facts(ret, facts, &json, err);
}

const struct hf_verify_engine *
hf_verify_engine_find(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(engines); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

struct hf_verify_check *
hf_attempt_check(const struct hf_attempt *attempt, const char *id)
{
    return hf_report_find(&attempt->outcome->report, id);
}

void
hf_attempt_phase(struct hf_attempt *attempt, const char *name)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    end_phase(attempt);
    if (attempt->options->phase != NULL)
        atomic_store(attempt->options->phase, name);
    if (attempt->options->done != NULL) {
        atomic_store(attempt->options->total, 0);
        atomic_store(attempt->options->done, 0);
    }
    assert(outcome->phase_count < HF_VERIFY_PHASES_MOST);
    outcome->phases[outcome->phase_count++] = (struct hf_verify_phase){.name = name, .started_at = hf_time_now_ms()};
    attempt->phase_began_ns = hf_monotonic_ns();
}

struct hf_sandbox_spec
hf_attempt_sandbox_spec(const struct hf_attempt *attempt)
{
    const struct hf_verify_options *options = attempt->options;
    return (struct hf_sandbox_spec){
        .data = attempt->data,
        .launcher = options->launcher,
        .limits = {.memory_bytes = options->sandbox_memory_bytes,
                   .disk_bytes = hf_scratch_is_capped(attempt->scratch) ? 0 : attempt->outcome->scratch_bytes,
                   .processes = 512,
                   .wall_ms = 4 * attempt->phase_ms},
        .lowest = options->lowest,
        .runner = options->runner,
        .host_uid = options->host_uid,
        .host_gid = options->host_gid,
    };
}

bool
hf_attempt_start_sandbox(struct hf_attempt *attempt, const struct hf_sandbox_engine *engine, const void *settings,
                         struct hf_error *err)
{
    struct hf_sandbox_spec spec = hf_attempt_sandbox_spec(attempt);
    struct hf_error failure;
    spec.engine = engine;
    spec.settings = settings;
    const bool takes_connections = engine->socket_name != NULL;
    hf_asker_freep(&attempt->asker); // of a server that was there before
    if (hf_sandbox_start(&spec, &attempt->sandbox, &failure) &&
        (!takes_connections ||
         hf_asker_start(&spec, hf_sandbox_socket_path(attempt->sandbox), &attempt->asker, &failure)))
        return true;
    if (hf_attempt_is_fatal(&failure)) {
        *err = failure;
        return false;
    }
    attempt->over = true;
    hf_check_cannot_tell(hf_attempt_check(attempt, "start"), "%s%s%s", failure.message,
                         failure.hint[0] != 0 ? ". " : "", failure.hint);
    return true;
}

void
hf_attempt_note_program(struct hf_attempt *attempt, const char *path)
{
    _cleanup_(hf_buf_done) struct hf_buf program = HF_BUF_INIT(PROGRAM_MOST);
    struct hf_verify_outcome *outcome = attempt->outcome;
    struct hf_error ignored; // the evidence then says that the hash is not known
    outcome->engine_known = hf_file_read(path, &program, &ignored);
    if (outcome->engine_known)
        hf_sha256(program.data, program.length, outcome->engine_sha256);
}

void
hf_attempt_judge_end(struct hf_attempt *attempt, struct hf_verify_check *check)
{
    struct hf_sandbox_exit end;
    struct hf_error ignored;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(32 * HF_MIB);
    struct hf_last_words words = {.line = ""};
    if (!hf_sandbox_wait_exit(attempt->sandbox, 1000, &end, &ignored))
        end.end = HF_SANDBOX_BROKEN;
    if (hf_sandbox_log_copy(attempt->sandbox, &log, &ignored))
        attempt->engine->last_words(hf_buf_text(&log), &words);
    const enum hf_sandbox_end asking = attempt->asker != NULL ? hf_asker_end(attempt->asker) : HF_SANDBOX_RUNNING;
    if (end.end == HF_SANDBOX_RUNNING && asking != HF_SANDBOX_RUNNING)
        hf_check_cannot_tell(check, "the process that asks the copy was ended: %s", hf_sandbox_end_name(asking));
    else if (end.end == HF_SANDBOX_RUNNING)
        hf_check_cannot_tell(check, "the connection to the copy was lost: %s", words.line);
    else if (end.end != HF_SANDBOX_EXITED || words.killed)
        hf_check_cannot_tell(check, "the copy was ended at a limit of its sandbox: %s",
                             hf_sandbox_end_name(words.killed ? HF_SANDBOX_OVER_MEMORY : end.end));
    else if (words.is_of_host)
        hf_check_cannot_tell(check, "this host cannot run it: %s", words.line);
    else
        hf_check_fail(check, "the server ended: %s", words.line[0] != 0 ? words.line : "it left without a word");
}

bool
hf_attempt_goes_on(const struct hf_attempt *attempt, struct hf_error *err)
{
    if (attempt->options->cancel == NULL || !atomic_load(attempt->options->cancel))
        return true;
    return hf_fail(err, HF_ERR_CANCELLED, "the verification was cancelled");
}

bool
hf_attempt_is_fatal(const struct hf_error *err)
{
    return err->kind == HF_ERR_NO_MEMORY || err->kind == HF_ERR_CANCELLED;
}

bool
hf_attempt_judge_failure(struct hf_attempt *attempt, struct hf_verify_check *check, const struct hf_error *failure,
                         struct hf_error *err)
{
    if (hf_attempt_is_fatal(failure)) {
        *err = *failure;
        return false;
    }
    attempt->over = true;
    if (failure->kind == HF_ERR_CORRUPT)
        hf_check_fail(check, "%s", failure->message);
    else
        hf_check_cannot_tell(check, "%s", failure->message);
    return true;
}

unsigned
hf_attempt_jobs(const struct hf_attempt *attempt)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return attempt->options->jobs > 0 ? attempt->options->jobs : (unsigned)(processors > 0 ? processors : 1);
}

static void
declare_checks(struct hf_verify_report *report, const struct hf_verify_check_row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        hf_report_declare(report, rows[i].id, rows[i].title, rows[i].required, rows[i].method);
}

/* Also the engine, which they name, and with it the checks that there will be. */
static bool
take_facts(struct hf_verify_outcome *outcome, const char *text, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    if (!hf_json_parse(text, strlen(text), "the backup's facts", &facts, err) ||
        !hf_facts_read_shared(facts, &outcome->facts.shared, err))
        return false;
    const char *name = outcome->facts.shared.engine;
    const struct hf_verify_engine *engine = hf_verify_engine_find(name);
    if (engine == NULL)
        return hf_fail(err, HF_ERR_USAGE, "this program cannot verify backups of \"%s\"", name);
    if (!engine->read_facts(facts, &outcome->facts, err))
        return false;
    outcome->engine = engine;
    declare_checks(&outcome->report, engine->checks, engine->check_count);
    *ret = HF_TAKE(facts);
    return true;
}

static void
end_phase(struct hf_attempt *attempt)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    if (outcome->phase_count > 0 && attempt->phase_began_ns > 0)
        outcome->phases[outcome->phase_count - 1].duration_ms = (hf_monotonic_ns() - attempt->phase_began_ns) / 1000000;
    attempt->phase_began_ns = 0;
}

static bool
read_facts(struct hf_attempt *attempt, struct hf_error *err)
{
    char text[HF_ID_TEXT_BYTES];
    const struct hf_vault_state *state;
    struct hf_error failure;
    if (!hf_vault_read(attempt->vault, NULL, NULL, &state, &failure))
        return settle_log(attempt, &failure, err);
    const struct hf_vault_backup *backup = hf_vault_state_backup(state, &attempt->backup);
    if (backup == NULL || backup->pruned)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the vault has no backup \"%s\"", hf_id_format(&attempt->backup, text));
    _cleanup_(hf_json_freep) json_t *facts = NULL;
    if (!take_facts(attempt->outcome, backup->facts, &facts, &failure)) {
        hf_fail_within(&failure, "backup \"%s\"", hf_id_format(&attempt->backup, text));
        return settle_log(attempt, &failure, err);
    }
    if (attempt->options->assertions != NULL)
        hf_assertions_declare(attempt->options->assertions, &attempt->outcome->report);
    if (!attempt->outcome->engine->begin(attempt, facts, err))
        return false;
    attempt->engine = attempt->outcome->engine;
    return true;
}

static bool
settle_log(struct hf_attempt *attempt, const struct hf_error *failure, struct hf_error *err)
{
    struct hf_verify_check *packs = hf_attempt_check(attempt, "packs");
    hf_check_begin(packs);
    attempt->over = true;
    if (failure->kind == HF_ERR_USAGE) {
        hf_check_cannot_tell(packs, "%s", failure->message);
        return true;
    }
    if (failure->kind != HF_ERR_CORRUPT) {
        *err = *failure;
        return false;
    }
    attempt->outcome->store_damaged = true;
    hf_check_found(packs, hf_damage_kind_name(HF_DAMAGE_LOG), -1, "%.250s", failure->message);
    hf_check_fail(packs, "%s", failure->message);
    return true;
}

/* From the store to files. */
static bool
restore_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    hf_attempt_phase(attempt, "restore");
    const bool ok = plan_copy(attempt, err) && (attempt->over || open_scratch(attempt, err)) &&
                    (attempt->over || write_copy(attempt, err));
    end_phase(attempt);
    return ok;
}

static bool
plan_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *packs = hf_attempt_check(attempt, "packs");
    struct hf_error failure;
    hf_check_begin(packs);
    const struct hf_restore_options options = {.cache_bytes = 0,
                                               .page_check = attempt->engine->watch,
                                               .context = attempt,
                                               .cancel = attempt->options->cancel,
                                               .done = attempt->options->done,
                                               .total = attempt->options->total};
    if (!hf_restore_plan(attempt->vault, &attempt->backup, &options, &attempt->plan, &attempt->size, &failure))
        return settle_store(attempt, packs, &failure, err);
    hf_check_covers(packs, (int64_t)attempt->size.packs); // the plan looked for each one the maps need, or failed
    hf_check_pass(packs, (int64_t)attempt->size.packs);
    return true;
}

static bool
open_scratch(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *room = hf_attempt_check(attempt, "room");
    const uint64_t wanted = attempt->engine->room(attempt, attempt->size.bytes);
    const struct hf_scratch_options options = {.folder = attempt->options->scratch_folder,
                                               .bytes = wanted,
                                               .prefer_memory = wanted <= attempt->options->scratch_memory_bytes};
    struct hf_error failure;
    hf_check_begin(room);
    if (!hf_scratch_open(&options, &attempt->scratch, &failure)) {
        if (failure.kind == HF_ERR_NO_MEMORY) {
            *err = failure;
            return false;
        }
        attempt->over = true;
        hf_check_cannot_tell(room, "%s", failure.message);
        return true;
    }
    attempt->outcome->scratch_bytes = wanted;
    snprintf(attempt->outcome->scratch, sizeof attempt->outcome->scratch, "%s",
             hf_scratch_protection(attempt->scratch));
    attempt->data = hf_path_join(hf_scratch_path(attempt->scratch), "data");
    if (attempt->data == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (geteuid() == 0 && chmod(hf_scratch_path(attempt->scratch), 0711) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the scratch to the sandbox");
    hf_check_pass(room, -1);
    return true;
}

static bool
write_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *slabs = hf_attempt_check(attempt, "slabs");
    struct hf_restore_outcome outcome;
    struct hf_error failure;
    hf_check_begin(slabs);
    if (!hf_restore_write(attempt->plan, attempt->data, &outcome, &failure)) {
        if (failure.kind == HF_ERR_NO_SPACE) {
            attempt->over = true;
            hf_check_cannot_tell(slabs, "%s", failure.message);
            return true;
        }
        return settle_store(attempt, slabs, &failure, err);
    }
    attempt->outcome->bytes_restored = outcome.bytes;
    hf_check_covers(slabs, (int64_t)outcome.slabs_opened); // every file was written whole, or the restore had failed
    hf_check_pass(slabs, (int64_t)outcome.slabs_opened);
    return attempt->engine->check_restored(attempt, err);
}

/*
 * Bytes that are missing or do not hold are the store's fault; a disk that gives errors proves nothing.  A restore
 * stops at the first fault, so the store is asked once more for all of them, and a second opinion it is too: when
 * it finds nothing, the fault lay here.
 */
static bool
settle_store(struct hf_attempt *attempt, struct hf_verify_check *check, const struct hf_error *failure,
             struct hf_error *err)
{
    struct hf_check_report report;
    struct hf_error other;
    const struct hf_check_options options = {.level = 2,
                                             .backup = &attempt->backup,
                                             .cancel = attempt->options->cancel,
                                             .damage = note_damage,
                                             .context = &(struct noting){attempt, check}};
    if (hf_attempt_is_fatal(failure)) {
        *err = *failure;
        return false;
    }
    attempt->over = true;
    if (failure->kind != HF_ERR_CORRUPT && failure->kind != HF_ERR_NOT_FOUND) {
        hf_check_cannot_tell(check, "%s", failure->message);
        return true;
    }
    if (!hf_vault_check(attempt->vault, &options, &report, &other)) {
        if (hf_attempt_is_fatal(&other)) {
            *err = other;
            return false;
        }
        hf_check_cannot_tell(check, "%s", other.message);
    } else if (report.damages == 0) {
        hf_check_cannot_tell(check, "the copy could not be made, although the store is sound: %s", failure->message);
    } else {
        attempt->outcome->store_damaged = true;
        hf_check_pass(check, (int64_t)report.packs); // fails: something was found
    }
    return true;
}

/* What the next backup is to store anew.  Past the limit of the list a damaged slab stands for its whole pack. */
static void
note_damage(void *context, const struct hf_damage *damage)
{
    const struct noting *noting = context;
    struct hf_verify_outcome *outcome = noting->attempt->outcome;
    hf_check_found(noting->check, hf_damage_kind_name(damage->kind), -1, "%.250s", damage->message);
    if (hf_id_is_none(&damage->pack))
        return;
    for (size_t i = 0; i < outcome->damage_count; i++)
        if (hf_id_equal(&outcome->damages[i].pack, &damage->pack) &&
            (outcome->damages[i].slab == HF_DAMAGE_NO_SLAB || outcome->damage_count == HF_VERIFY_DAMAGES_MOST)) {
            outcome->damages[i].slab = HF_DAMAGE_NO_SLAB;
            return;
        }
    if (outcome->damage_count == HF_VERIFY_DAMAGES_MOST)
        return; // the check's count goes on; these are found by the next verification
    outcome->damages[outcome->damage_count].pack = damage->pack;
    outcome->damages[outcome->damage_count++].slab = damage->slab;
}

/* From files to a judged server. */
static bool
run_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    hf_attempt_phase(attempt, "recover");
    bool ok = start_copy(attempt, err) && (attempt->over || become_ready(attempt, err));
    if (ok && !attempt->over) {
        hf_attempt_phase(attempt, "check");
        struct deadline deadline;
        deadline_start(&deadline, attempt);
        ok = attempt->engine->check_relations(attempt, err) && (attempt->over || hf_assertions_check(attempt, err));
        deadline_stop(&deadline);
        if (ok)
            name_early_end(attempt, deadline.passed);
    }
    end_phase(attempt);
    if (!ok || attempt->sandbox == NULL)
        return ok;
    if (!stop_copy(attempt, err))
        return false;
    if (!attempt->over) {
        hf_attempt_phase(attempt, "check_files");
        ok = attempt->engine->check_stopped(attempt, err);
        end_phase(attempt);
    }
    return ok;
}

/* Who asks may have been taken over, and then would wait for ever by itself. */
static void
end_everything(struct hf_attempt *attempt)
{
    (void)!hf_sandbox_signal(attempt->sandbox, SIGKILL, NULL);
    if (attempt->asker != NULL)
        hf_asker_kill(attempt->asker);
}

static void *
watch_deadline(void *context)
{
    struct deadline *deadline = context;
    struct timespec until;
    const uint64_t at = hf_monotonic_ns() + deadline->attempt->phase_ms * 1000000;
    until.tv_sec = (time_t)(at / 1000000000);
    until.tv_nsec = (long)(at % 1000000000);
    pthread_mutex_lock(&deadline->lock);
    while (!deadline->stopped && !deadline->passed)
        deadline->passed = pthread_cond_timedwait(&deadline->change, &deadline->lock, &until) == ETIMEDOUT;
    const bool passed = deadline->passed && !deadline->stopped;
    pthread_mutex_unlock(&deadline->lock);
    if (passed)
        end_everything(deadline->attempt); // those who wait for an answer hear of it
    return NULL;
}

/* A function in the copy may run for ever; what waits for its answer does not. */
static void
deadline_start(struct deadline *deadline, struct hf_attempt *attempt)
{
    pthread_condattr_t monotonic;
    *deadline = (struct deadline){.attempt = attempt};
    pthread_mutex_init(&deadline->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&deadline->change, &monotonic);
    pthread_condattr_destroy(&monotonic);
    // Without the thread the sandbox's own wall limit remains, which is some phases long.
    deadline->watched = pthread_create(&deadline->thread, NULL, watch_deadline, deadline) == 0;
}

static void
deadline_stop(struct deadline *deadline)
{
    pthread_mutex_lock(&deadline->lock);
    deadline->stopped = true;
    pthread_cond_signal(&deadline->change);
    pthread_mutex_unlock(&deadline->lock);
    if (deadline->watched)
        pthread_join(deadline->thread, NULL);
    pthread_cond_destroy(&deadline->change);
    pthread_mutex_destroy(&deadline->lock);
}

/* A check of this phase that could not be settled. */
static bool
is_open(const struct hf_attempt *attempt, const struct hf_verify_check *check)
{
    return check->verdict == HF_VERDICT_NOT_DETERMINABLE && check->began_ns >= attempt->phase_began_ns;
}

/* Those who were asking know only that the copy went away; why comes first in what they say. */
static void
name_early_end(struct hf_attempt *attempt, bool too_late)
{
    struct hf_verify_report *report = &attempt->outcome->report;
    struct hf_sandbox_exit end;
    char why[160] = "the copy ended by itself";
    size_t open = 0;
    for (size_t i = 0; i < report->count; i++)
        open += is_open(attempt, &report->checks[i]);
    if (open == 0)
        return;
    if (!hf_sandbox_wait_exit(attempt->sandbox, END_IS_HEARD_MS, &end, NULL))
        end.end = HF_SANDBOX_BROKEN;
    if (end.end == HF_SANDBOX_RUNNING)
        return;
    if (too_late)
        snprintf(why, sizeof why, "the checks took longer than the %.0f s that a phase may take",
                 (double)attempt->phase_ms / 1000);
    else if (end.end != HF_SANDBOX_EXITED)
        snprintf(why, sizeof why, "the copy was ended at a limit of its sandbox: %s", hf_sandbox_end_name(end.end));
    for (size_t i = 0; i < report->count; i++) {
        struct hf_verify_check *check = &report->checks[i];
        char before[sizeof check->reason];
        if (!is_open(attempt, check))
            continue;
        memcpy(before, check->reason, sizeof before);
        hf_check_cannot_tell(check, "%s; %.300s", why, before);
    }
}

static bool
start_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct hf_verify_options *options = attempt->options;
    hf_check_begin(hf_attempt_check(attempt, "start"));
    hf_check_begin(hf_attempt_check(attempt, "consistency"));
    if (!attempt->engine->prepare(attempt, err))
        return false;
    if (attempt->over)
        return true;
    if (geteuid() == 0 && !hf_tree_give(attempt->data, options->host_uid, options->host_gid, err))
        return false;
    return attempt->engine->start(attempt, err);
}

/* Until it serves as it would after a real restore. */
static bool
become_ready(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *start = hf_attempt_check(attempt, "start"),
                           *consistency = hf_attempt_check(attempt, "consistency");
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    struct hf_sandbox_exit end;
    while (!hf_sandbox_wait_ready(attempt->sandbox, 200)) {
        if (!hf_attempt_goes_on(attempt, err) || !hf_sandbox_wait_exit(attempt->sandbox, 0, &end, err))
            return false;
        attempt->over = end.end != HF_SANDBOX_RUNNING || hf_monotonic_ns() > until;
        if (end.end != HF_SANDBOX_RUNNING) {
            hf_attempt_judge_end(attempt, start);
            return true;
        }
        if (attempt->over) {
            hf_check_pass(start, -1);
            hf_check_cannot_tell(consistency, "recovery did not become consistent within %llu minutes",
                                 (unsigned long long)attempt->phase_ms / 60000);
            return true;
        }
    }
    hf_check_pass(start, -1);
    hf_check_pass(consistency, -1);

    if (!attempt->engine->connect(attempt, err))
        return false;
    if (attempt->over)
        return true;
    if (!attempt->engine->reach_end(attempt, err) || (!attempt->over && !attempt->engine->open(attempt, err)))
        return false;
    if (!attempt->over)
        attempt->outcome->recovery_ms = time_to_recover(attempt);
    return true;
}

/* A restore in earnest does all of this but one thing: it does not wait for what the source is writing meanwhile. */
static int64_t
time_to_recover(struct hf_attempt *attempt)
{
    const struct hf_verify_outcome *outcome = attempt->outcome;
    int64_t ms = (int64_t)((hf_monotonic_ns() - attempt->began_ns) / 1000000);
    end_phase(attempt);
    for (size_t i = 0; i < outcome->phase_count; i++)
        if (strcmp(outcome->phases[i].name, HF_VERIFY_CATCH_UP) == 0 ||
            strcmp(outcome->phases[i].name, HF_VERIFY_WAIT) == 0)
            ms -= (int64_t)outcome->phases[i].duration_ms;
    return ms;
}

static bool
stop_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    struct hf_sandbox_exit end;
    struct hf_error ignored;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(32 * HF_MIB);
    attempt->engine->disconnect(attempt);
    hf_asker_freep(&attempt->asker);
    if (hf_sandbox_signal(attempt->sandbox, attempt->engine->stop_signal, &ignored))
        (void)!hf_sandbox_wait_exit(attempt->sandbox, SHUTDOWN_MS, &end, &ignored);
    if (!hf_sandbox_stop(attempt->sandbox, &end, err))
        return false;
    if (hf_sandbox_log_copy(attempt->sandbox, &log, &ignored)) {
        hf_sha256(hf_buf_text(&log), log.length, outcome->log_sha256);
        outcome->log_known = true;
    }
    const bool ok = hf_sandbox_report(attempt->sandbox, &outcome->sandbox, err);
    hf_sandbox_freep(&attempt->sandbox);
    return ok;
}

static void
finish(struct hf_attempt *attempt)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    outcome->finished_at = hf_time_now_ms();
    outcome->duration_ms = (hf_monotonic_ns() - attempt->began_ns) / 1000000;
    outcome->result = hf_report_result(&outcome->report, outcome->reason, sizeof outcome->reason);
}
