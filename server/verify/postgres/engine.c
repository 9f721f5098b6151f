#include "server/verify/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/engine_postgres.h"
#include "server/source/postgres/facts.h"
#include "server/source/postgres/manifest.h"
#include "server/source/postgres/wal_format.h"
#include "server/verify/postgres/archive.h"
#include "server/verify/postgres/ask.h"
#include "server/verify/postgres/pages.h"
#include "server/verify/postgres/relations.h"

#define SCRATCH_EXTRA   (512 * HF_MIB) // WAL of our own checks, temporary files, the server's own growth
#define STANDSTILL_MS   30000          // replay that does not move for so long has stopped
#define LOOK_EVERY_US   50000
#define PROMOTE_SECONDS 120

/* PostgreSQL's part of an attempt. */
struct postgres {
    struct hf_recovery_facts facts;
    struct hf_pages_watch *pages;
    struct hf_copy_log *log;    // NULL: there is none
    struct hf_asker_conn *conn; // from connect to open
    uint32_t oldest_xid, next_xid, oldest_multi, next_multi;
};

struct manifest_walk {
    struct hf_attempt *attempt;
    struct hf_verify_check *check;
    int64_t files;
};

static bool read_facts(const json_t *json, struct hf_verify_facts *ret, struct hf_error *err);
static bool begin(struct hf_attempt *attempt, const json_t *facts, struct hf_error *err);
static void end(struct hf_attempt *attempt);
static uint64_t room(const struct hf_attempt *attempt, uint64_t bytes);
static void watch(void *context, const char *path, uint64_t file_size, uint64_t first_page, const uint8_t *pages,
                  size_t length);
static bool check_restored(struct hf_attempt *attempt, struct hf_error *err);
static void tell_of_headers_only(struct hf_attempt *attempt);
static bool compare_promised(void *context, const struct hf_backup_manifest_file *wanted, struct hf_error *err);
static bool prepare(struct hf_attempt *attempt, struct hf_error *err);
static bool start(struct hf_attempt *attempt, struct hf_error *err);
static bool connect_to_copy(struct hf_attempt *attempt, struct hf_error *err);
static bool reach_end(struct hf_attempt *attempt, struct hf_error *err);
static bool replay_archive(struct hf_attempt *attempt, struct hf_error *err);
static bool replay(struct hf_attempt *attempt, struct hf_asker_conn *conn, struct hf_error *err);
static void ask_transactions(struct postgres *postgres);
static bool promote(struct hf_attempt *attempt, struct hf_error *err);
static bool check_relations(struct hf_attempt *attempt, struct hf_error *err);
static bool ask(struct hf_attempt *attempt, const struct hf_assertion *assertion, bool live, struct hf_answer *ret,
                struct hf_error *err);
static bool check_stopped(struct hf_attempt *attempt, struct hf_error *err);
static void disconnect(struct hf_attempt *attempt);
static void last_words(const char *log, struct hf_last_words *ret);
static struct hf_query_target target_of(const struct hf_attempt *attempt);

static const struct hf_verify_check_row checks[] = {
    {"manifest", "The files are those the server listed", true, "backup_manifest_crc32c"},
    {"page_checksums", "No stored page is damaged", true, "page_checksum"},
    {"start", "The copy starts", true, "start_in_sandbox"},
    {"consistency", "Recovery reaches consistency", true, "start_in_sandbox"},
    {"replay", "All stored log is replayed", true, "replay_to_last_record"},
    {"archive", "All archived log behind the backup is replayed", false, "replay_to_end_of_archive"},
    {"caught_up", "The copy reaches the place where the source stood", false, "follow_stream_to_sampled_position"},
    {"promote", "The copy opens for writing", true, "pg_promote"},
    {"environment", "This host sorts as the source does", true, "collation_versions"},
    {"catalog", "The catalog agrees with itself and with the files", true, "catalog_rows_against_each_other"},
    {"tables_read", "Every row of every table can be read", true, "sequential_count"},
    {"heap", "Rows and their transactions are sound", true, "verify_heapam"},
    {"indexes", "Every B-tree index holds every row", true, "bt_index_check_heapallindexed"},
    {"other_indexes", "Indexes of other kinds", false, "none"},
    {"index_to_table", "Every index entry has its row", true, "count_through_index"},
    {"unique_keys", "No primary key is there twice", true, "count_by_key_through_index"},
    {"zero_blocks", "No used block is empty", true, "index_into_zero_blocks"},
    {"page_checksums_after", "No page is damaged after recovery", true, "page_checksum"},
    {"visible_blocks", "No block is lost that held rows", true, "visibility_map_against_blocks"},
    {"commit_log", "The commit log agrees with the rows", true, "hint_bits_against_pg_xact"},
    {"multixacts", "Shared row locks lead to their transactions", true, "rows_against_pg_multixact"},
    {"references", "Foreign keys lead to rows", true, "count_orphans"},
    {"sequences", "Sequences stand ahead of their columns", false, "last_value_against_largest"},
};

const struct hf_verify_engine hf_verify_postgres = {
    .name = "postgresql",
    .checks = checks,
    .check_count = HF_LENGTH(checks),
    .read_facts = read_facts,
    .begin = begin,
    .end = end,
    .room = room,
    .watch = watch,
    .check_restored = check_restored,
    .prepare = prepare,
    .start = start,
    .connect = connect_to_copy,
    .reach_end = reach_end,
    .open = promote,
    .check_relations = check_relations,
    .ask = ask,
    .check_stopped = check_stopped,
    .disconnect = disconnect,
    .stop_signal = SIGINT, // its fast shutdown
    .last_words = last_words,
};

static bool
read_facts(const json_t *json, struct hf_verify_facts *ret, struct hf_error *err)
{
    struct hf_recovery_facts facts;
    if (!hf_facts_from_json(json, &facts, err))
        return false;
    ret->timeline = facts.timeline;
    ret->log_bytes = facts.wal_end_lsn - facts.start_lsn;
    ret->last_commit_at = facts.wal_last_commit_at;
    return true;
}

static bool
begin(struct hf_attempt *attempt, const json_t *facts, struct hf_error *err)
{
    _cleanup_(hf_freep) struct postgres *postgres = calloc(1, sizeof *postgres);
    if (postgres == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a verification");
    if (!hf_facts_from_json(facts, &postgres->facts, err) ||
        !hf_copy_log_begin(attempt, &postgres->facts, &postgres->log, err))
        return false;
    if (!hf_pages_watch_new(&postgres->facts, &postgres->pages, err)) {
        hf_copy_log_freep(&postgres->log);
        return false;
    }
    attempt->own = HF_TAKE(postgres);
    return true;
}

static void
end(struct hf_attempt *attempt)
{
    struct postgres *postgres = attempt->own;
    disconnect(attempt);
    hf_copy_log_freep(&postgres->log);
    hf_pages_watch_freep(&postgres->pages);
    free(postgres);
    attempt->own = NULL;
}

static uint64_t
room(const struct hf_attempt *attempt, uint64_t bytes)
{
    const struct postgres *postgres = attempt->own;
    const uint64_t log = postgres->log != NULL ? hf_copy_log_room(postgres->log, bytes) : 0;
    return bytes + bytes / 10 + log + SCRATCH_EXTRA;
}

static void
watch(void *context, const char *path, uint64_t file_size, uint64_t first_page, const uint8_t *pages, size_t length)
{
    const struct hf_attempt *attempt = context;
    const struct postgres *postgres = attempt->own;
    hf_pages_watch_check(postgres->pages, path, file_size, first_page, pages, length);
}

/* The CRC-32C of each file was taken while it came in and is sealed; the restore proved the bytes are the same. */
static bool
check_restored(struct hf_attempt *attempt, struct hf_error *err)
{
    struct manifest_walk walk = {.attempt = attempt, .check = hf_attempt_check(attempt, "manifest")};
    _cleanup_(hf_backup_manifest_freep) struct hf_backup_manifest *manifest = NULL;
    _cleanup_(hf_slab_worker_freep) struct hf_slab_worker *worker = NULL;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_GIB);
    struct hf_backup_manifest_summary summary;
    struct hf_error failure;
    struct hf_verify_check *pages = hf_attempt_check(attempt, "page_checksums");
    hf_check_begin(pages);
    tell_of_headers_only(attempt);
    hf_pages_watch_settle(((struct postgres *)attempt->own)->pages, pages);
    hf_check_begin(walk.check);
    if (!hf_slab_worker_new(1, &worker, err))
        return false;
    if (!hf_backup_read_file(hf_restore_plan_backup(attempt->plan), worker, "backup_manifest", &text, &failure) ||
        !hf_backup_manifest_new(compare_promised, &walk, &manifest, &failure) ||
        !hf_backup_manifest_feed(manifest, text.data, text.length, &failure) ||
        !hf_backup_manifest_finish(manifest, &summary, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        hf_check_fail(walk.check, "%s", failure.message);
        return true;
    }
    hf_check_covers(walk.check, (int64_t)summary.files);
    hf_check_pass(walk.check, walk.files);
    return true;
}

/* Without data checksums a page tells of itself by its header alone: the evidence must not say more. */
static void
tell_of_headers_only(struct hf_attempt *attempt)
{
    static const char *const checks_of_pages[] = {"page_checksums", "page_checksums_after"};
    static const char *const titles[] = {"Headers of stored pages are sane (it keeps no checksums)",
                                         "Headers are sane after recovery (it keeps no checksums)"};
    if (((const struct postgres *)attempt->own)->facts.data_checksums)
        return;
    for (size_t i = 0; i < HF_LENGTH(checks_of_pages); i++) {
        struct hf_verify_check *check = hf_attempt_check(attempt, checks_of_pages[i]);
        check->title = titles[i];
        check->method = "page_header";
    }
}

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

/* Tablespaces are folders of the copy, so the map that would make links out of them goes. */
static bool
prepare(struct hf_attempt *attempt, struct hf_error *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tablespace_map", attempt->data);
    if (unlink(path) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    struct postgres *postgres = attempt->own;
    return hf_postgres_prepare(attempt->data, true, err) &&
           (postgres->log == NULL || hf_copy_log_place(postgres->log, err));
}

static bool
start(struct hf_attempt *attempt, struct hf_error *err)
{
    static const char *const more[] = {"wal_recycle=off", NULL}; // of the log that it was given nothing is kept
    const struct postgres *postgres = attempt->own;
    const struct hf_recovery_facts *facts = &postgres->facts;
    struct hf_error failure;
    struct hf_postgres_settings settings = {
        .major = facts->server_version_num / 10000,
        .max_connections = facts->max_connections > 100 ? facts->max_connections : 100,
        .max_worker_processes = facts->max_worker_processes,
        .max_wal_senders = facts->max_wal_senders,
        .max_prepared_transactions = facts->max_prepared_xacts,
        .max_locks_per_transaction = facts->max_locks_per_xact,
        .wal_segment_bytes = facts->wal_segment_bytes,
        .shared_buffers_bytes = 256 * HF_MIB,
        .timeline = postgres->log != NULL ? hf_copy_log_timeline(postgres->log) : NULL,
        .more = more,
    };
    _cleanup_(hf_freep) char *program = NULL;
    if (!hf_postgres_find_among(settings.major, attempt->options->packages, &settings.packages, &failure) ||
        !hf_postgres_find(settings.major, settings.packages, &program, &failure)) {
        attempt->over = true;
        hf_check_cannot_tell(hf_attempt_check(attempt, "start"), "%s", failure.message);
        return true;
    }
    hf_attempt_note_program(attempt, program);
    return hf_attempt_start_sandbox(attempt, &hf_engine_postgres, &settings, err);
}

static bool
connect_to_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    struct postgres *postgres = attempt->own;
    struct hf_verify_check *replayed = hf_attempt_check(attempt, "replay");
    const struct hf_query_target target = target_of(attempt);
    struct hf_error failure;
    (void)err;
    hf_check_begin(replayed);
    if (!hf_query_connect(&target, "postgres", 30, &postgres->conn, &failure) &&
        !hf_query_connect(&target, "template1", 30, &postgres->conn, &failure)) {
        attempt->over = true;
        if (!hf_query_was_answered(failure.message))
            hf_attempt_judge_end(attempt, replayed);
        else if (hf_query_is_of_host(failure.message))
            hf_check_cannot_tell(replayed, "%s", failure.message);
        else
            hf_check_fail(replayed, "%s", failure.message);
        return true;
    }
    const int version = (int)hf_asker_conn_version(postgres->conn);
    snprintf(attempt->outcome->engine_version, sizeof attempt->outcome->engine_version, "%d.%d", version / 10000,
             version % 10000);
    return true;
}

static bool
reach_end(struct hf_attempt *attempt, struct hf_error *err)
{
    struct postgres *postgres = attempt->own;
    if (!replay(attempt, postgres->conn, err))
        return false;
    attempt->over = hf_attempt_check(attempt, "replay")->verdict != HF_VERDICT_PASSED;
    if (!attempt->over && postgres->log != NULL && !replay_archive(attempt, err))
        return false;
    if (!attempt->over)
        ask_transactions(postgres);
    return true;
}

static bool
replay_archive(struct hf_attempt *attempt, struct hf_error *err)
{
    struct postgres *postgres = attempt->own;
    hf_attempt_phase(attempt, "replay_log");
    return hf_copy_log_replay(postgres->log, postgres->conn, err) &&
           (attempt->over || hf_copy_log_follow(postgres->log, postgres->conn, err));
}

/* The end is known from the log that was stored, not from what the server believes. */
static bool
replay(struct hf_attempt *attempt, struct hf_asker_conn *conn, struct hf_error *err)
{
    struct hf_verify_check *check = hf_attempt_check(attempt, "replay");
    const struct postgres *postgres = attempt->own;
    const uint64_t wanted = postgres->log != NULL ? hf_copy_log_own_end(postgres->log) : postgres->facts.wal_end_lsn;
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    uint64_t reached = 0, moved_ns = hf_monotonic_ns();
    char text[32], wanted_text[HF_LSN_TEXT_BYTES], reached_text[HF_LSN_TEXT_BYTES];
    for (;;) {
        uint64_t now_at;
        struct hf_query_refusal refusal;
        if (!hf_attempt_goes_on(attempt, err))
            return false;
        if (!hf_query_text(conn, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text", NULL, 0, text, sizeof text,
                           &refusal) ||
            !hf_lsn_parse(text, &now_at, NULL)) {
            hf_attempt_judge_end(attempt, check);
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

/*
 * Which transactions the commit log must know: those before the checkpoint that the backup began with, as far back as
 * a database still has rows that are not frozen.  Asked after replay, which may have cut the log off behind those.
 */
static void
ask_transactions(struct postgres *postgres)
{
    int64_t oldest, next, oldest_multi, next_multi;
    struct hf_query_refusal refusal;
    if (hf_query_number(postgres->conn,
                        "SELECT datfrozenxid::text::int8 FROM pg_database ORDER BY age(datfrozenxid) DESC, 1 LIMIT 1",
                        NULL, 0, &oldest, &refusal) &&
        hf_query_number(postgres->conn, "SELECT split_part(next_xid, ':', 2)::int8 FROM pg_control_checkpoint()", NULL,
                        0, &next, &refusal)) {
        postgres->oldest_xid = (uint32_t)oldest;
        postgres->next_xid = (uint32_t)next;
    }
    if (hf_query_number(postgres->conn,
                        "SELECT datminmxid::text::int8 FROM pg_database ORDER BY mxid_age(datminmxid) DESC, 1 LIMIT 1",
                        NULL, 0, &oldest_multi, &refusal) &&
        hf_query_number(postgres->conn, "SELECT next_multixact_id::text::int8 FROM pg_control_checkpoint()", NULL, 0,
                        &next_multi, &refusal)) {
        postgres->oldest_multi = (uint32_t)oldest_multi;
        postgres->next_multi = (uint32_t)next_multi;
    }
}

static bool
promote(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *check = hf_attempt_check(attempt, "promote");
    struct hf_asker_conn *conn = ((struct postgres *)attempt->own)->conn;
    char text[16], sql[64];
    struct hf_query_refusal refusal;
    (void)err;
    hf_check_begin(check);
    snprintf(sql, sizeof sql, "SELECT pg_promote(true, %d)::text", PROMOTE_SECONDS);
    if (!hf_query_text(conn, sql, NULL, 0, text, sizeof text, &refusal)) {
        if (refusal.state[0] == 0)
            hf_attempt_judge_end(attempt, check);
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
    attempt->over = check->verdict != HF_VERDICT_PASSED;
    disconnect(attempt);
    return true;
}

static bool
check_relations(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct postgres *postgres = attempt->own;
    struct hf_relations_options options = {.target = target_of(attempt),
                                           .jobs = hf_attempt_jobs(attempt),
                                           .cancel = attempt->options->cancel,
                                           .done = attempt->options->done,
                                           .total = attempt->options->total};
    options.zero_blocks = hf_pages_watch_zeros(postgres->pages, &options.zero_block_count, &options.zero_blocks_cut);
    return hf_relations_check(&options, &attempt->outcome->report, &attempt->outcome->relations, err);
}

static bool
ask(struct hf_attempt *attempt, const struct hf_assertion *assertion, bool live, struct hf_answer *ret,
    struct hf_error *err)
{
    const struct hf_query_target target = target_of(attempt);
    return live ? hf_postgres_ask_source(attempt->options->live, attempt->options->cancel, assertion, ret, err)
                : hf_postgres_ask_copy(&target, assertion, ret);
}

static bool
check_stopped(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct postgres *postgres = attempt->own;
    const struct hf_offline_options options = {.data = attempt->data,
                                               .facts = &postgres->facts,
                                               .oldest_xid = postgres->oldest_xid,
                                               .next_xid = postgres->next_xid,
                                               .oldest_multi = postgres->oldest_multi,
                                               .next_multi = postgres->next_multi,
                                               .cancel = attempt->options->cancel};
    const struct hf_offline_checks offline = {.pages = hf_attempt_check(attempt, "page_checksums_after"),
                                              .blocks = hf_attempt_check(attempt, "visible_blocks"),
                                              .commit_log = hf_attempt_check(attempt, "commit_log"),
                                              .multixacts = hf_attempt_check(attempt, "multixacts")};
    return hf_pages_check_offline(&options, &offline, err);
}

static void
disconnect(struct hf_attempt *attempt)
{
    struct postgres *postgres = attempt->own;
    hf_asker_conn_freep(&postgres->conn);
}

static void
last_words(const char *log, struct hf_last_words *ret)
{
    ret->killed = strstr(log, "was terminated by signal 9") != NULL;
    for (const char *at = log, *next; *at != 0; at = next) {
        const size_t length = strcspn(at, "\n");
        next = at + length + (at[length] != 0);
        for (const char *word = at; word < at + length; word++)
            if (strncmp(word, "FATAL: ", 7) == 0 || strncmp(word, "PANIC: ", 7) == 0) {
                snprintf(ret->line, sizeof ret->line, "%.*s", (int)(length - (size_t)(word - at)), word);
                break;
            }
    }
    ret->is_of_host = hf_query_is_of_host(ret->line);
}

static struct hf_query_target
target_of(const struct hf_attempt *attempt)
{
    const struct hf_recovery_facts *facts = &((struct postgres *)attempt->own)->facts;
    return (struct hf_query_target){.asker = attempt->asker,
                                    .folder = hf_sandbox_socket_path(attempt->sandbox),
                                    .port = HF_POSTGRES_PORT,
                                    .user = facts->superuser[0] != 0 ? facts->superuser : "postgres",
                                    .options = hf_postgres_connection_options(facts->server_version_num / 10000)};
}
