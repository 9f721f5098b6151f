#include "server/verify/verify.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/engine_postgres.h"
#include "sandbox/tree.h"
#include "server/repository/check.h"
#include "server/source/postgres/manifest.h"
#include "server/source/postgres/wal_format.h"
#include "server/verify/pages.h"

#define PHASE_DEFAULT_MS (60 * 60 * 1000)
#define SCRATCH_EXTRA    (512 * HF_MIB) // WAL of our own checks, temporary files, the server's own growth
#define STANDSTILL_MS    30000          // replay that does not move for so long has stopped
#define LOOK_EVERY_US    50000
#define PROMOTE_SECONDS  120
#define LOG_LINE_MOST    300
#define SHUTDOWN_MS      60000

/* What an attempt has in hand; each step leaves it so that the next can go on, or ends the attempt. */
struct attempt {
    struct hf_vault *vault;
    struct hf_id backup;
    const struct hf_verify_options *options;
    struct hf_verify_outcome *outcome;
    uint64_t began_ns, phase_began_ns;
    uint64_t phase_ms;
    uint64_t logical_bytes;
    struct hf_pages_watch *pages;
    struct hf_restore_plan *plan;
    struct hf_restore_size size;
    struct hf_scratch *scratch;
    char *data; // the data directory in the scratch
    char *library_folder;
    struct hf_sandbox *sandbox;
    uint32_t oldest_xid, next_xid;
};

/* Where the damages of the store are noted. */
struct noting {
    struct attempt *attempt;
    struct hf_verify_check *check;
};

static void declare_checks(struct hf_verify_report *report);
static void begin_phase(struct attempt *attempt, const char *name);
static void end_phase(struct attempt *attempt);
static bool read_facts(struct attempt *attempt, struct hf_error *err);
static bool settle_log(struct attempt *attempt, const struct hf_error *failure, struct hf_error *err);
static bool restore_copy(struct attempt *attempt, struct hf_error *err);
static bool plan_copy(struct attempt *attempt, struct hf_error *err);
static bool open_scratch(struct attempt *attempt, struct hf_error *err);
static bool write_copy(struct attempt *attempt, struct hf_error *err);
static bool settle_store(struct attempt *attempt, struct hf_verify_check *check, const struct hf_error *failure,
                         struct hf_error *err);
static void note_damage(void *context, const struct hf_damage *damage);
static bool check_manifest(struct attempt *attempt, struct hf_error *err);
static bool run_copy(struct attempt *attempt, struct hf_error *err);
static bool start_copy(struct attempt *attempt, struct hf_error *err);
static bool become_consistent(struct attempt *attempt, struct hf_error *err);
static void judge_end(struct attempt *attempt, struct hf_verify_check *check);
static bool replay(struct attempt *attempt, PGconn *conn, struct hf_error *err);
static void ask_transactions(struct attempt *attempt, PGconn *conn);
static bool promote(struct attempt *attempt, PGconn *conn, struct hf_error *err);
static bool check_relations(struct attempt *attempt, struct hf_error *err);
static bool stop_copy(struct attempt *attempt, struct hf_error *err);
static bool check_offline(struct attempt *attempt, struct hf_error *err);
static void finish(struct attempt *attempt);
static struct hf_query_target target_of(const struct attempt *attempt);
static bool goes_on(const struct attempt *attempt, struct hf_error *err);
static bool fatal(const struct hf_error *err);
static struct hf_verify_check *check_of(const struct attempt *attempt, const char *id);

bool
hf_verify_run(struct hf_vault *vault, const struct hf_id *backup, const struct hf_verify_options *options,
              struct hf_verify_outcome *ret, struct hf_error *err)
{
    *ret = (struct hf_verify_outcome){.requested_at = hf_time_now_ms(), .recovery_ms = -1};
    ret->started_at = ret->requested_at;
    declare_checks(&ret->report);
    struct attempt attempt = {.vault = vault,
                              .backup = *backup,
                              .options = options,
                              .outcome = ret,
                              .began_ns = hf_monotonic_ns(),
                              .phase_ms = options->phase_ms > 0 ? options->phase_ms : PHASE_DEFAULT_MS};

    struct hf_verify_check *key = check_of(&attempt, "key");
    hf_check_begin(key);
    hf_check_pass(key, 1); // the caller holds an open vault: the slot it names unwrapped the root key

    const bool ok =
        read_facts(&attempt, err) && (!ret->facts_known || (restore_copy(&attempt, err) && run_copy(&attempt, err)));
    hf_sandbox_freep(&attempt.sandbox);
    hf_restore_plan_freep(&attempt.plan);
    hf_pages_watch_freep(&attempt.pages);
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
    declare_checks(&ret->report);
    snprintf(ret->reason, sizeof ret->reason, "%s", reason);
    if (ret->finished_at > started_at)
        ret->duration_ms = (uint64_t)(ret->finished_at - started_at);
    ret->facts_known = hf_json_parse(facts, strlen(facts), "the backup's facts", &json, err) &&
                       hf_facts_from_json(json, &ret->facts, err);
    return ret->facts_known;
}

static void
declare_checks(struct hf_verify_report *report)
{
    hf_report_declare(report, "key", "The key in the safe opens the repository", true, "unwrap_slot");
    hf_report_declare(report, "packs", "Every stored object is there", true, "log_against_store");
    hf_report_declare(report, "room", "There is room for the copy", true, "free_space");
    hf_report_declare(report, "slabs", "Every stored piece is unaltered and complete", true, "aead_and_digests");
    hf_report_declare(report, "manifest", "The files are those the server listed", true, "backup_manifest_crc32c");
    hf_report_declare(report, "page_checksums", "No stored page is damaged", true, "page_checksum");
    hf_report_declare(report, "start", "The copy starts", true, "start_in_sandbox");
    hf_report_declare(report, "consistency", "Recovery reaches consistency", true, "start_in_sandbox");
    hf_report_declare(report, "replay", "All stored log is replayed", true, "replay_to_last_record");
    hf_report_declare(report, "promote", "The copy opens for writing", true, "pg_promote");
    hf_report_declare(report, "environment", "This host sorts as the source does", true, "collation_versions");
    hf_report_declare(report, "tables_read", "Every row of every table can be read", true, "sequential_count");
    hf_report_declare(report, "heap", "Rows and their transactions are sound", true, "verify_heapam");
    hf_report_declare(report, "indexes", "Every index holds every row", true, "bt_index_check_heapallindexed");
    hf_report_declare(report, "index_to_table", "Every index entry has its row", true, "count_through_index");
    hf_report_declare(report, "zero_blocks", "No used block is empty", true, "index_into_zero_blocks");
    hf_report_declare(report, "page_checksums_after", "No page is damaged after recovery", true, "page_checksum");
    hf_report_declare(report, "visible_blocks", "No block is lost that held rows", true,
                      "visibility_map_against_blocks");
    hf_report_declare(report, "commit_log", "The commit log agrees with the rows", true, "hint_bits_against_pg_xact");
}

static void
begin_phase(struct attempt *attempt, const char *name)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    if (attempt->options->phase != NULL)
        atomic_store(attempt->options->phase, name);
    if (attempt->options->done != NULL) {
        atomic_store(attempt->options->total, 0);
        atomic_store(attempt->options->done, 0);
    }
    outcome->phases[outcome->phase_count] = (struct hf_verify_phase){.name = name, .started_at = hf_time_now_ms()};
    attempt->phase_began_ns = hf_monotonic_ns();
    outcome->phase_count++;
}

static void
end_phase(struct attempt *attempt)
{
    attempt->outcome->phases[attempt->outcome->phase_count - 1].duration_ms =
        (hf_monotonic_ns() - attempt->phase_began_ns) / 1000000;
}

/* A log or facts that do not read are a damage of the store, and all that can be said. */
static bool
read_facts(struct attempt *attempt, struct hf_error *err)
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
    if (!hf_json_parse(backup->facts, strlen(backup->facts), "the backup's facts", &facts, &failure) ||
        !hf_facts_from_json(facts, &attempt->outcome->facts, &failure)) {
        hf_fail_within(&failure, "backup \"%s\"", hf_id_format(&attempt->backup, text));
        return settle_log(attempt, &failure, err);
    }
    attempt->outcome->facts_known = true;
    return true;
}

static bool
settle_log(struct attempt *attempt, const struct hf_error *failure, struct hf_error *err)
{
    struct hf_verify_check *packs = check_of(attempt, "packs");
    if (failure->kind != HF_ERR_CORRUPT) {
        *err = *failure;
        return false;
    }
    hf_check_begin(packs);
    attempt->outcome->store_damaged = true;
    hf_check_found(packs, hf_damage_kind_name(HF_DAMAGE_LOG), -1, "%.250s", failure->message);
    hf_check_fail(packs, "%s", failure->message);
    return true;
}

/* From the store to files.  True without a copy means: the attempt is over, the checks say why. */
static bool
restore_copy(struct attempt *attempt, struct hf_error *err)
{
    begin_phase(attempt, "restore");
    const bool ok = plan_copy(attempt, err) && (attempt->plan == NULL || open_scratch(attempt, err)) &&
                    (attempt->scratch == NULL || write_copy(attempt, err));
    end_phase(attempt);
    return ok;
}

static bool
plan_copy(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *packs = check_of(attempt, "packs");
    struct hf_error failure;
    hf_check_begin(packs);
    if (!hf_pages_watch_new(&attempt->outcome->facts, &attempt->pages, err))
        return false;
    const struct hf_restore_options options = {.cache_bytes = 0,
                                               .page_check = hf_pages_watch_check,
                                               .context = attempt->pages,
                                               .cancel = attempt->options->cancel,
                                               .done = attempt->options->done,
                                               .total = attempt->options->total};
    if (!hf_restore_plan(attempt->vault, &attempt->backup, &options, &attempt->plan, &attempt->size, &failure))
        return settle_store(attempt, packs, &failure, err);
    hf_check_pass(packs, (int64_t)attempt->size.packs);
    return true;
}

static bool
open_scratch(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *room = check_of(attempt, "room");
    const uint64_t wanted = attempt->size.bytes + attempt->size.bytes / 10 + SCRATCH_EXTRA;
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
write_copy(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *slabs = check_of(attempt, "slabs"), *pages = check_of(attempt, "page_checksums");
    struct hf_restore_outcome outcome;
    struct hf_error failure;
    hf_check_begin(slabs);
    hf_check_begin(pages);
    if (!hf_restore_write(attempt->plan, attempt->data, &outcome, &failure)) {
        free(attempt->data);
        attempt->data = NULL;
        if (failure.kind == HF_ERR_NO_SPACE) {
            hf_check_cannot_tell(slabs, "%s", failure.message);
            return true;
        }
        return settle_store(attempt, slabs, &failure, err);
    }
    attempt->outcome->bytes_restored = outcome.bytes;
    hf_check_pass(slabs, (int64_t)outcome.slabs_opened);
    hf_pages_watch_settle(attempt->pages, pages);
    return check_manifest(attempt, err);
}

/*
 * Bytes that are missing or do not hold are the store's fault; a disk that gives errors proves nothing.  A restore
 * stops at the first fault, so the store is asked once more for all of them, and a second opinion it is too: when
 * it finds nothing, the fault lay here.
 */
static bool
settle_store(struct attempt *attempt, struct hf_verify_check *check, const struct hf_error *failure,
             struct hf_error *err)
{
    struct hf_check_report report;
    struct hf_error other;
    const struct hf_check_options options = {.level = 2,
                                             .backup = &attempt->backup,
                                             .cancel = attempt->options->cancel,
                                             .damage = note_damage,
                                             .context = &(struct noting){attempt, check}};
    if (fatal(failure)) {
        *err = *failure;
        return false;
    }
    if (failure->kind != HF_ERR_CORRUPT && failure->kind != HF_ERR_NOT_FOUND) {
        hf_check_cannot_tell(check, "%s", failure->message);
        return true;
    }
    if (!hf_vault_check(attempt->vault, &options, &report, &other)) {
        if (fatal(&other)) {
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

struct manifest_walk {
    struct attempt *attempt;
    struct hf_verify_check *check;
    int64_t files;
};

static bool
compare_promised(void *context, const struct hf_backup_manifest_file *wanted, struct hf_error *err)
{
    (void)err;
    struct manifest_walk *walk = context;
    const struct hf_manifest_file *file = hf_restore_plan_file(walk->attempt->plan, wanted->path);
    walk->files++;
    if (file == NULL)
        hf_check_found(walk->check, "file_missing", -1, "%s", wanted->path);
    else if (file->size != wanted->size || file->crc32c != wanted->crc32c)
        hf_check_found(walk->check, "file_differs", -1, "%s", wanted->path);
    return true;
}

/* The CRC-32C of each file was taken while it came in and is sealed; the restore proved the bytes are the same. */
static bool
check_manifest(struct attempt *attempt, struct hf_error *err)
{
    struct manifest_walk walk = {.attempt = attempt, .check = check_of(attempt, "manifest")};
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_GIB);
    struct hf_backup_manifest_summary summary;
    struct hf_error failure;
    hf_check_begin(walk.check);
    if (!hf_slab_worker_new(1, &worker, err))
        return false;
    if (!hf_backup_read_file(hf_restore_plan_backup(attempt->plan), worker, "backup_manifest", &text, &failure) ||
        !hf_backup_manifest_new(compare_promised, &walk, &manifest, &failure) ||
        !hf_backup_manifest_feed(manifest, text.data, text.length, &failure) ||
        !hf_backup_manifest_finish(manifest, &summary, &failure)) {
        if (fatal(&failure)) {
            *err = failure;
            return false;
        }
        hf_check_fail(walk.check, "%s", failure.message);
        return true;
    }
    hf_check_pass(walk.check, walk.files);
    return true;
}

/* From files to a judged server. */
static bool
run_copy(struct attempt *attempt, struct hf_error *err)
{
    if (attempt->data == NULL)
        return true;
    begin_phase(attempt, "recover");
    const bool ok = start_copy(attempt, err) && (attempt->sandbox == NULL || become_consistent(attempt, err));
    end_phase(attempt);
    if (!ok)
        return false;
    if (attempt->sandbox == NULL)
        return true;
    if (check_of(attempt, "promote")->verdict == HF_VERDICT_PASSED) {
        begin_phase(attempt, "check");
        const bool checked = check_relations(attempt, err);
        end_phase(attempt);
        if (!checked)
            return false;
    }
    const bool clean = check_of(attempt, "promote")->verdict == HF_VERDICT_PASSED;
    if (!stop_copy(attempt, err))
        return false;
    if (!clean)
        return true;
    begin_phase(attempt, "check_files");
    const bool offline = check_offline(attempt, err);
    end_phase(attempt);
    return offline;
}

static bool
start_copy(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *start = check_of(attempt, "start");
    const struct hf_recovery_facts *facts = &attempt->outcome->facts;
    char path[4096];
    struct hf_error failure;
    hf_check_begin(start);
    hf_check_begin(check_of(attempt, "consistency"));

    /* Tablespaces are folders of the copy, so the map that would make links out of them goes. */
    snprintf(path, sizeof path, "%s/tablespace_map", attempt->data);
    if (unlink(path) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    if (!hf_postgres_prepare(attempt->data, true, err) ||
        (geteuid() == 0 && !hf_tree_give(attempt->data, attempt->options->host_uid, attempt->options->host_gid, err)))
        return false;

    struct hf_postgres_settings settings = {
        .major = facts->server_version_num / 10000,
        .max_connections = facts->max_connections > 100 ? facts->max_connections : 100,
        .max_worker_processes = facts->max_worker_processes,
        .max_wal_senders = facts->max_wal_senders,
        .max_prepared_transactions = facts->max_prepared_xacts,
        .max_locks_per_transaction = facts->max_locks_per_xact,
        .wal_segment_bytes = facts->wal_segment_bytes,
        .shared_buffers_bytes = 256 * HF_MIB,
    };
    if (!hf_postgres_find(settings.major, NULL, NULL, &failure)) {
        bool found = false;
        for (size_t i = 0; attempt->options->packages != NULL && attempt->options->packages[i] != NULL && !found; i++) {
            found = hf_postgres_find(settings.major, attempt->options->packages[i], NULL, NULL);
            settings.packages = found ? attempt->options->packages[i] : NULL;
        }
        if (!found) {
            hf_check_cannot_tell(start, "%s", failure.message);
            return true;
        }
    }

    const struct hf_sandbox_spec spec = {
        .engine = &hf_engine_postgres,
        .settings = &settings,
        .data = attempt->data,
        .launcher = attempt->options->launcher,
        .limits = {.memory_bytes = attempt->options->sandbox_memory_bytes,
                   .disk_bytes = hf_scratch_is_capped(attempt->scratch) ? 0 : attempt->outcome->scratch_bytes,
                   .processes = 512,
                   .wall_ms = 4 * attempt->phase_ms},
        .lowest = attempt->options->lowest,
        .host_uid = attempt->options->host_uid,
        .host_gid = attempt->options->host_gid,
    };
    if (!hf_sandbox_start(&spec, &attempt->sandbox, &failure)) {
        if (fatal(&failure)) {
            *err = failure;
            return false;
        }
        hf_check_cannot_tell(start, "%s%s%s", failure.message, failure.hint[0] != 0 ? ". " : "", failure.hint);
    }
    return true;
}

static bool
become_consistent(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *start = check_of(attempt, "start"), *consistency = check_of(attempt, "consistency");
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    struct hf_sandbox_exit end;
    while (!hf_sandbox_wait_ready(attempt->sandbox, 200)) {
        if (!goes_on(attempt, err) || !hf_sandbox_wait_exit(attempt->sandbox, 0, &end, err))
            return false;
        if (end.end != HF_SANDBOX_RUNNING) {
            judge_end(attempt, start);
            return true;
        }
        if (hf_monotonic_ns() > until) {
            hf_check_pass(start, -1);
            hf_check_cannot_tell(consistency, "recovery did not become consistent within %llu minutes",
                                 (unsigned long long)attempt->phase_ms / 60000);
            return true;
        }
    }
    hf_check_pass(start, -1);
    hf_check_pass(consistency, -1);

    const struct hf_query_target target = target_of(attempt);
    _cleanup_(hf_query_closep) PGconn *conn = NULL;
    struct hf_error failure;
    struct hf_verify_check *replayed = check_of(attempt, "replay");
    hf_check_begin(replayed);
    if (!hf_query_connect(&target, "postgres", 30, &conn, &failure) &&
        !hf_query_connect(&target, "template1", 30, &conn, &failure)) {
        if (!hf_query_was_answered(failure.message))
            judge_end(attempt, replayed);
        else if (hf_query_is_of_host(failure.message))
            hf_check_cannot_tell(replayed, "%s", failure.message);
        else
            hf_check_fail(replayed, "%s", failure.message);
        return true;
    }
    attempt->outcome->recovery_ms = (int64_t)((hf_monotonic_ns() - attempt->began_ns) / 1000000);
    snprintf(attempt->outcome->engine_version, sizeof attempt->outcome->engine_version, "%d.%d",
             PQserverVersion(conn) / 10000, PQserverVersion(conn) % 10000);

    if (!replay(attempt, conn, err))
        return false;
    if (replayed->verdict != HF_VERDICT_PASSED)
        return true;
    ask_transactions(attempt, conn);
    return promote(attempt, conn, err);
}

/*
 * Which transactions the commit log must know: those before the checkpoint that the backup began with, as far back as
 * a database still has rows that are not frozen.  Asked after replay, which may have cut the log off behind those.
 */
static void
ask_transactions(struct attempt *attempt, PGconn *conn)
{
    int64_t oldest, next;
    struct hf_query_refusal refusal;
    if (hf_query_number(conn,
                        "SELECT datfrozenxid::text::int8 FROM pg_database ORDER BY age(datfrozenxid) DESC, 1 LIMIT 1",
                        NULL, 0, &oldest, &refusal) &&
        hf_query_number(conn, "SELECT split_part(next_xid, ':', 2)::int8 FROM pg_control_checkpoint()", NULL, 0, &next,
                        &refusal)) {
        attempt->oldest_xid = (uint32_t)oldest;
        attempt->next_xid = (uint32_t)next;
    }
}

/* Why it ended: by the host's doing nothing is proven; else the server's own last words are the finding. */
static void
judge_end(struct attempt *attempt, struct hf_verify_check *check)
{
    struct hf_sandbox_exit end;
    struct hf_error ignored;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(32 * HF_MIB);
    char line[LOG_LINE_MOST] = "";
    bool killed = false; // one of its processes, from outside: the kernel had no more memory for it
    if (!hf_sandbox_wait_exit(attempt->sandbox, 1000, &end, &ignored))
        end.end = HF_SANDBOX_BROKEN;
    if (hf_sandbox_log_copy(attempt->sandbox, &log, &ignored)) {
        killed = strstr(hf_buf_text(&log), "was terminated by signal 9") != NULL;
        for (const char *at = hf_buf_text(&log), *next; *at != 0; at = next) {
            const size_t length = strcspn(at, "\n");
            next = at + length + (at[length] != 0);
            for (const char *word = at; word < at + length; word++)
                if (strncmp(word, "FATAL: ", 7) == 0 || strncmp(word, "PANIC: ", 7) == 0) {
                    snprintf(line, sizeof line, "%.*s", (int)(length - (size_t)(word - at)), word);
                    break;
                }
        }
    }
    if (end.end == HF_SANDBOX_RUNNING) {
        hf_check_cannot_tell(check, "the connection to the copy was lost: %s", line);
        return;
    }
    if (end.end != HF_SANDBOX_EXITED || killed) {
        hf_check_cannot_tell(check, "the copy was ended at a limit of its sandbox: %s",
                             hf_sandbox_end_name(killed ? HF_SANDBOX_OVER_MEMORY : end.end));
        return;
    }
    if (hf_query_is_of_host(line)) {
        hf_check_cannot_tell(check, "this host cannot run it: %s", line);
        return;
    }
    hf_check_fail(check, "the server ended: %s", line[0] != 0 ? line : "it left without a word");
}

/* The end is known from the log that was stored, not from what the server believes. */
static bool
replay(struct attempt *attempt, PGconn *conn, struct hf_error *err)
{
    struct hf_verify_check *check = check_of(attempt, "replay");
    const uint64_t wanted = attempt->outcome->facts.wal_end_lsn;
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    uint64_t reached = 0, moved_ns = hf_monotonic_ns();
    char text[32], wanted_text[HF_LSN_TEXT_BYTES], reached_text[HF_LSN_TEXT_BYTES];
    for (;;) {
        uint64_t now_at;
        struct hf_query_refusal refusal;
        if (!goes_on(attempt, err))
            return false;
        if (!hf_query_text(conn, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text", NULL, 0, text, sizeof text,
                           &refusal) ||
            !hf_lsn_parse(text, &now_at, NULL)) {
            judge_end(attempt, check);
            return true;
        }
        if (now_at >= wanted) {
            hf_check_pass(check, -1);
            return true;
        }
        if (now_at > reached) {
            reached = now_at;
            moved_ns = hf_monotonic_ns();
        }
        const bool stands_still = hf_monotonic_ns() - moved_ns > STANDSTILL_MS * UINT64_C(1000000);
        if (stands_still || hf_monotonic_ns() > until) {
            hf_lsn_format(wanted, wanted_text);
            hf_lsn_format(reached, reached_text);
            if (stands_still) {
                hf_check_found(check, "log_ends_early", -1, "%s", reached_text);
                hf_check_fail(check, "replay stopped at %s, the stored log reaches to %s", reached_text, wanted_text);
            } else {
                hf_check_cannot_tell(check, "replay was at %s of %s when the time was up", reached_text, wanted_text);
            }
            return true;
        }
        usleep(LOOK_EVERY_US);
    }
}

static bool
promote(struct attempt *attempt, PGconn *conn, struct hf_error *err)
{
    struct hf_verify_check *check = check_of(attempt, "promote");
    char text[16], sql[64];
    struct hf_query_refusal refusal;
    (void)err;
    hf_check_begin(check);
    snprintf(sql, sizeof sql, "SELECT pg_promote(true, %d)::text", PROMOTE_SECONDS);
    if (!hf_query_text(conn, sql, NULL, 0, text, sizeof text, &refusal)) {
        if (refusal.state[0] == 0)
            judge_end(attempt, check);
        else
            hf_check_fail(check, "%s", refusal.message);
    } else if (strcmp(text, "true") != 0) {
        hf_check_cannot_tell(check, "it did not open for writing within %d s", PROMOTE_SECONDS);
    } else if (!hf_query_text(conn, "SELECT pg_is_in_recovery()::text", NULL, 0, text, sizeof text, &refusal) ||
               strcmp(text, "false") != 0) {
        hf_check_fail(check, "it still says that it is in recovery");
    } else {
        hf_check_pass(check, -1);
    }
    return true;
}

static bool
check_relations(struct attempt *attempt, struct hf_error *err)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    struct hf_relations_options options = {
        .target = target_of(attempt),
        .jobs = attempt->options->jobs > 0 ? attempt->options->jobs : (unsigned)(processors > 0 ? processors : 1),
        .cancel = attempt->options->cancel,
        .done = attempt->options->done,
        .total = attempt->options->total};
    options.zero_blocks = hf_pages_watch_zeros(attempt->pages, &options.zero_block_count, &options.zero_blocks_cut);
    return hf_relations_check(&options, &attempt->outcome->report, &attempt->outcome->relations, err);
}

static bool
stop_copy(struct attempt *attempt, struct hf_error *err)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    struct hf_sandbox_exit end;
    struct hf_error ignored;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(32 * HF_MIB);
    if (hf_sandbox_signal(attempt->sandbox, SIGINT, &ignored))
        (void)!hf_sandbox_wait_exit(attempt->sandbox, SHUTDOWN_MS, &end, &ignored);
    if (!hf_sandbox_stop(attempt->sandbox, &end, err))
        return false;
    if (hf_sandbox_log_copy(attempt->sandbox, &log, &ignored)) {
        hf_sha256(hf_buf_text(&log), log.length, outcome->log_sha256);
        outcome->log_known = true;
    }
    return hf_sandbox_report(attempt->sandbox, &outcome->sandbox, err);
}

static bool
check_offline(struct attempt *attempt, struct hf_error *err)
{
    const struct hf_offline_options options = {.data = attempt->data,
                                               .facts = &attempt->outcome->facts,
                                               .oldest_xid = attempt->oldest_xid,
                                               .next_xid = attempt->next_xid,
                                               .cancel = attempt->options->cancel};
    return hf_pages_check_offline(&options, check_of(attempt, "page_checksums_after"),
                                  check_of(attempt, "visible_blocks"), check_of(attempt, "commit_log"), err);
}

static void
finish(struct attempt *attempt)
{
    struct hf_verify_outcome *outcome = attempt->outcome;
    outcome->finished_at = hf_time_now_ms();
    outcome->duration_ms = (hf_monotonic_ns() - attempt->began_ns) / 1000000;
    outcome->result = hf_report_result(&outcome->report, outcome->reason, sizeof outcome->reason);
}

static struct hf_query_target
target_of(const struct attempt *attempt)
{
    const struct hf_recovery_facts *facts = &attempt->outcome->facts;
    return (struct hf_query_target){.folder = hf_sandbox_socket_path(attempt->sandbox),
                                    .port = HF_POSTGRES_PORT,
                                    .user = facts->superuser[0] != 0 ? facts->superuser : "postgres",
                                    .options = hf_postgres_connection_options(facts->server_version_num / 10000)};
}

static bool
goes_on(const struct attempt *attempt, struct hf_error *err)
{
    if (attempt->options->cancel == NULL || !atomic_load(attempt->options->cancel))
        return true;
    return hf_fail(err, HF_ERR_CANCELLED, "the verification was cancelled");
}

/* What says nothing about the backup and leaves no sensible outcome. */
static bool
fatal(const struct hf_error *err)
{
    return err->kind == HF_ERR_NO_MEMORY || err->kind == HF_ERR_CANCELLED;
}

static struct hf_verify_check *
check_of(const struct attempt *attempt, const char *id)
{
    return hf_report_find(&attempt->outcome->report, id);
}
