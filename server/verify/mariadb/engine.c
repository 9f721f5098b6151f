#include "server/verify/engine.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/id.h"
#include "base/time.h"
#include "sandbox/engine_mariadb.h"
#include "server/source/mariadb/corrections.h"
#include "server/source/mariadb/facts.h"
#include "server/source/mariadb/table_keys.h"
#include "server/verify/mariadb/archive.h"
#include "server/verify/mariadb/ask.h"
#include "server/verify/mariadb/files.h"
#include "server/verify/mariadb/keys.h"
#include "server/verify/mariadb/live.h"
#include "server/verify/mariadb/pages.h"
#include "server/verify/mariadb/query.h"
#include "server/verify/mariadb/tables.h"

#define SCRATCH_EXTRA (512 * HF_MIB) // logs of the server's own, temporary tables, undo
#define BUFFER_POOL   (256 * HF_MIB)
#define LOG_MOST      (32 * HF_MIB)
#define LOOK_EVERY_MS 100
#define SHUTDOWN_MS   60000
#define BINLOG_BYTES  256
#define INFO_BYTES    (64 * HF_KIB)
#define NO_VERSION    "\"server_version\" of the backup's facts is no version of MariaDB"
#define OWN_CONFIG    "holdfast_config" // what the source's configuration is kept under; no part of the copy

/* MariaDB's part of an attempt. */
struct mariadb {
    char series[16];
    struct hf_mariadb_layout layout;
    uint64_t last_lsn;              // to which the backup's redo log reaches
    char prepared_to[BINLOG_BYTES]; // the binary log position of InnoDB's last commit, "bin.000007 12765"; "" for none
    struct hf_asker_conn *conn;
    struct hf_mariadb_keys keys;         // of encrypted tables
    struct hf_mariadb_settings settings; // of the server; its texts are those of this struct or of the options
    struct hf_binlog_copy *log;          // NULL: there is none
};

static bool read_facts(const json_t *json, struct hf_verify_facts *ret, struct hf_error *err);
static bool begin(struct hf_attempt *attempt, const json_t *facts, struct hf_error *err);
static void end(struct hf_attempt *attempt);
static uint64_t room(const struct hf_attempt *attempt, uint64_t bytes);
static bool check_restored(struct hf_attempt *attempt, struct hf_error *err);
static bool correct(struct hf_attempt *attempt, struct hf_error *err);
static bool judge_renamed(struct hf_attempt *attempt, struct hf_error *err);
static bool read_backup(struct hf_attempt *attempt, struct hf_error *err);
static bool prepare(struct hf_attempt *attempt, struct hf_error *err);
static bool start(struct hf_attempt *attempt, struct hf_error *err);
static bool find_programs(struct hf_attempt *attempt, struct hf_mariadb_settings *settings);
static bool apply_redo(struct hf_attempt *attempt, const struct hf_mariadb_settings *settings, struct hf_error *err);
static bool wait_for_end(struct hf_attempt *attempt, struct hf_verify_check *check, struct hf_error *err);
static void judge_redo(struct hf_attempt *attempt, const struct hf_sandbox_exit *end, const char *log);
static void note_prepared(struct mariadb *mariadb, const char *log);
static bool connect_to_copy(struct hf_attempt *attempt, struct hf_error *err);
static void connect_or_say(struct hf_attempt *attempt, struct hf_verify_check *check);
static bool reach_end(struct hf_attempt *attempt, struct hf_error *err);
static bool replay_archive(struct hf_attempt *attempt, struct hf_error *err);
static bool stop_server(struct hf_attempt *attempt, struct hf_error *err);
static bool start_again(struct hf_attempt *attempt, struct hf_error *err);
static bool split_position(const char *text, char file[static BINLOG_BYTES], uint64_t *ret_number,
                           uint64_t *ret_offset);
static bool open_for_writing(struct hf_attempt *attempt, struct hf_error *err);
static bool check_relations(struct hf_attempt *attempt, struct hf_error *err);
static bool ask(struct hf_attempt *attempt, const struct hf_assertion *assertion, bool live, struct hf_answer *ret,
                struct hf_error *err);
static bool check_stopped(struct hf_attempt *attempt, struct hf_error *err);
static void disconnect(struct hf_attempt *attempt);
static void last_words(const char *log, struct hf_last_words *ret);

static const struct hf_verify_check_row checks[] = {
    {"files_complete", "Every table has all of its files", true, "names_and_definitions"},
    {"renamed_tables", "No table of Aria was renamed while the backup was taken", true, "names_taken_back_by_the_tool"},
    {"table_keys", "The keys of encrypted tables open them", true, "first_page_of_an_index_deciphered"},
    {"page_checksums", "No stored page is damaged", true, "page_checksum"},
    {"replay", "The redo log is applied, to its last record", true, "mariadb_backup_prepare_to_last_lsn"},
    {"start", "The copy starts", true, "start_in_sandbox"},
    {"consistency", "The server takes connections", true, "start_in_sandbox"},
    {"binlog_position", "The copy is not past the backup's place in the binary log", false, "innodb_last_commit"},
    {"archive", "All archived log behind the backup is replayed", false, "replay_to_gtids_of_archive"},
    {"caught_up", "The copy reaches the place where the source stood", false, "replay_to_sampled_gtids"},
    {"promote", "The copy opens for writing", true, "write_read_drop"},
    {"dictionary", "InnoDB's tables have their definitions", true, "innodb_sys_tables"},
    {"tables_read", "Every row of every table can be read", true, "checksum_table_extended"},
    {"indexes", "Every index holds every row", true, "check_table_extended_and_counts"},
    {"references", "Foreign keys lead to rows", true, "count_orphans"},
    {"objects", "Accounts, routines, triggers, events, views, sequences", true, "count"},
    {"page_checksums_after", "No page is damaged after recovery", true, "page_checksum"},
};

const struct hf_verify_engine hf_verify_mariadb = {
    .name = "mariadb",
    .checks = checks,
    .check_count = HF_LENGTH(checks),
    .read_facts = read_facts,
    .begin = begin,
    .end = end,
    .room = room,
    .check_restored = check_restored,
    .prepare = prepare,
    .start = start,
    .connect = connect_to_copy,
    .reach_end = reach_end,
    .open = open_for_writing,
    .check_relations = check_relations,
    .ask = ask,
    .check_stopped = check_stopped,
    .disconnect = disconnect,
    .stop_signal = SIGTERM,
    .last_words = last_words,
};

static bool
read_facts(const json_t *json, struct hf_verify_facts *ret, struct hf_error *err)
{
    struct hf_shared_facts facts;
    struct hf_mariadb_position position;
    char series[16];
    if (!hf_facts_read_shared(json, &facts, err) || !hf_mariadb_facts_position(json, &position, err))
        return false;
    if (!hf_mariadb_series(facts.server_version, series))
        return hf_fail(err, HF_ERR_CORRUPT, NO_VERSION);
    ret->timeline = 0;
    return true;
}

static bool
begin(struct hf_attempt *attempt, const json_t *facts, struct hf_error *err)
{
    struct hf_shared_facts shared;
    _cleanup_(hf_freep) struct mariadb *mariadb = calloc(1, sizeof *mariadb);
    if (mariadb == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a verification");
    if (!hf_facts_read_shared(facts, &shared, err))
        return false;
    if (!hf_mariadb_series(shared.server_version, mariadb->series))
        return hf_fail(err, HF_ERR_CORRUPT, NO_VERSION);
    if (!hf_binlog_copy_begin(attempt, facts, &mariadb->log, err))
        return false;
    attempt->own = HF_TAKE(mariadb);
    return true;
}

static void
end(struct hf_attempt *attempt)
{
    struct mariadb *mariadb = attempt->own;
    disconnect(attempt);
    hf_binlog_copy_freep(&mariadb->log);
    free(mariadb);
    attempt->own = NULL;
}

/* The redo log is written anew, undo and temporary tables grow while everything is read. */
static uint64_t
room(const struct hf_attempt *attempt, uint64_t bytes)
{
    const struct mariadb *mariadb = attempt->own;
    const uint64_t log = mariadb->log != NULL ? hf_binlog_copy_room(mariadb->log, bytes) : 0;
    return bytes + bytes / 4 + log + SCRATCH_EXTRA;
}

static bool
check_restored(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct mariadb *mariadb = attempt->own;
    if (!correct(attempt, err))
        return false;
    if (attempt->over)
        return true;
    if (!hf_mariadb_check_files(attempt, err) || !read_backup(attempt, err))
        return false;
    // Without keys the attempt ends, but pages can be judged: checksums are of what lies on the disk.
    if (!attempt->over &&
        (!hf_mariadb_check_keys(attempt, &mariadb->layout, err) ||
         !hf_mariadb_check_pages(attempt, &mariadb->layout, hf_attempt_check(attempt, "page_checksums"), err)))
        return false;
    if (hf_attempt_check(attempt, "files_complete")->verdict == HF_VERDICT_NOT_DETERMINABLE)
        attempt->over = true;
    return true;
}

/* What the tool took back of files that it had sent already. */
static bool
correct(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_error failure;
    if (hf_corrections_apply(attempt->data, &failure))
        return judge_renamed(attempt, err);
    return hf_attempt_judge_failure(attempt, hf_attempt_check(attempt, "files_complete"), &failure, err);
}

/* Their rows may be gone, and nothing in the copy would tell (corrections.h). */
static bool
judge_renamed(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *check = hf_attempt_check(attempt, "renamed_tables");
    _cleanup_(hf_json_freep) json_t *renamed = NULL;
    hf_check_begin(check);
    if (!hf_corrections_renamed(attempt->data, ".MAD", &renamed, err))
        return false;
    if (json_object_size(renamed) == 0) {
        hf_check_pass(check, 0);
        return true;
    }
    const char *first = json_object_iter_key(json_object_iter(renamed));
    hf_check_cannot_tell(
        check,
        "\"%.200s\" was renamed while the backup was taken%s: the backup tool can lose rows of it that "
        "stood in Aria's log alone, and what is left says nothing of them",
        first, json_object_size(renamed) > 1 ? ", and others were" : "");
    return true;
}

/* What the tool wrote beside the tables is input like them: when it is none, there is nothing to prepare. */
static bool
read_backup(struct hf_attempt *attempt, struct hf_error *err)
{
    struct mariadb *mariadb = attempt->own;
    struct hf_error failure;
    if (hf_mariadb_read_layout(attempt->data, &mariadb->layout, &failure) &&
        hf_mariadb_read_last_lsn(attempt->data, &mariadb->last_lsn, &failure))
        return true;
    return hf_attempt_judge_failure(attempt, hf_attempt_check(attempt, "replay"), &failure, err);
}

/* A folder in the data directory is a database to the server: what is none goes. */
static bool
prepare(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct mariadb *mariadb = attempt->own;
    _cleanup_(hf_freep) char *config = hf_path_join(attempt->data, OWN_CONFIG);
    if (config == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return hf_dir_remove_tree(config, err) && hf_mariadb_make_ready(attempt->data, &mariadb->layout, err) &&
           (mariadb->log == NULL || hf_binlog_copy_place(mariadb->log, err));
}

static bool
start(struct hf_attempt *attempt, struct hf_error *err)
{
    struct mariadb *mariadb = attempt->own;
    struct hf_mariadb_settings *settings = &mariadb->settings;
    *settings = (struct hf_mariadb_settings){
        .series = mariadb->series, .layout = mariadb->layout, .buffer_pool_bytes = BUFFER_POOL};
    if (!find_programs(attempt, settings))
        return true;
    const struct hf_table_keys *table_keys = attempt->options->table_keys;
    if (mariadb->layout.key_plugin[0] != '\0' && table_keys != NULL) {
        mariadb->keys = (struct hf_mariadb_keys){.file = hf_table_keys_text(table_keys),
                                                 .algorithm = mariadb->layout.key_counter ? "aes_ctr" : "aes_cbc"};
        settings->keys = &mariadb->keys;
    }
    hf_attempt_phase(attempt, "apply_log");
    if (!apply_redo(attempt, settings, err))
        return false;
    if (attempt->over)
        return true;
    hf_sandbox_freep(&attempt->sandbox);
    hf_attempt_phase(attempt, "start");
    settings->applies_relay_log = mariadb->log != NULL && hf_binlog_copy_is_placed(mariadb->log);
    return hf_attempt_start_sandbox(attempt, &hf_engine_mariadb, settings, err);
}

static bool
find_programs(struct hf_attempt *attempt, struct hf_mariadb_settings *settings)
{
    struct hf_error failure;
    struct hf_mariadb_programs programs;
    if (hf_mariadb_find_among(settings->series, attempt->options->packages, &settings->packages, &failure) &&
        hf_mariadb_find(settings->series, settings->packages, &programs, &failure)) {
        hf_attempt_note_program(attempt, programs.server);
        return true;
    }
    attempt->over = true;
    hf_check_cannot_tell(hf_attempt_check(attempt, "start"), "%s", failure.message);
    return false;
}

static bool
apply_redo(struct hf_attempt *attempt, const struct hf_mariadb_settings *settings, struct hf_error *err)
{
    struct hf_verify_check *replay = hf_attempt_check(attempt, "replay");
    hf_check_begin(replay);
    return hf_attempt_start_sandbox(attempt, &hf_engine_mariadb_prepare, settings, err) &&
           (attempt->over || wait_for_end(attempt, replay, err));
}

static bool
wait_for_end(struct hf_attempt *attempt, struct hf_verify_check *check, struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    struct hf_sandbox_exit end = {.end = HF_SANDBOX_RUNNING};
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(LOG_MOST);
    while (end.end == HF_SANDBOX_RUNNING) {
        if (!hf_attempt_goes_on(attempt, err) || !hf_sandbox_wait_exit(attempt->sandbox, LOOK_EVERY_MS, &end, err))
            return false;
        if (end.end == HF_SANDBOX_RUNNING && hf_monotonic_ns() > until) {
            attempt->over = true;
            hf_check_cannot_tell(check, "the redo log was not applied within %llu minutes",
                                 (unsigned long long)attempt->phase_ms / 60000);
            return true;
        }
    }
    if (!hf_sandbox_log_copy(attempt->sandbox, &log, err))
        return false;
    judge_redo(attempt, &end, hf_buf_text(&log));
    return true;
}

/* The tool takes a log that ends early for a log that ends there. */
static void
judge_redo(struct hf_attempt *attempt, const struct hf_sandbox_exit *end, const char *log)
{
    struct mariadb *mariadb = attempt->own;
    struct hf_verify_check *check = hf_attempt_check(attempt, "replay");
    uint64_t reached = 0;
    attempt->over = true;
    if (end->end != HF_SANDBOX_EXITED || end->exit_code != 0 || !hf_mariadb_prepare_succeeded(log)) {
        hf_attempt_judge_end(attempt, check);
    } else if (!hf_mariadb_prepare_reached(log, &reached)) {
        hf_check_fail(check, "the redo log was not applied: it is no log of this backup");
    } else if (reached < mariadb->last_lsn) {
        hf_check_found(check, "log_ends_early", -1, "ib_logfile0");
        hf_check_fail(check, "the redo log ends at %llu, the backup reaches to %llu", (unsigned long long)reached,
                      (unsigned long long)mariadb->last_lsn);
    } else {
        attempt->over = false;
        note_prepared(mariadb, log);
        hf_check_pass(check, -1);
    }
}

/* "InnoDB: Last binlog file '/var/lib/mysql/bin.000001', position 10850" */
static void
note_prepared(struct mariadb *mariadb, const char *log)
{
    static const char before[] = "Last binlog file '", between[] = "', position ";
    const char *file = strstr(log, before);
    if (file == NULL)
        return;
    file += sizeof before - 1;
    const size_t line = strcspn(file, "\n");
    const char *position = memmem(file, line, between, sizeof between - 1);
    if (position == NULL)
        return;
    const char *name = memrchr(file, '/', (size_t)(position - file));
    name = name == NULL ? file : name + 1;
    const char *digits = position + sizeof between - 1;
    snprintf(mariadb->prepared_to, sizeof mariadb->prepared_to, "%.*s %.*s", (int)(position - name), name,
             (int)strspn(digits, "0123456789"), digits);
}

static bool
connect_to_copy(struct hf_attempt *attempt, struct hf_error *err)
{
    (void)err;
    connect_or_say(attempt, hf_attempt_check(attempt, "consistency"));
    return true;
}

static void
connect_or_say(struct hf_attempt *attempt, struct hf_verify_check *check)
{
    struct mariadb *mariadb = attempt->own;
    struct hf_mariadb_refusal refusal;
    if (hf_mariadb_connect(attempt->asker, attempt->phase_ms, &mariadb->conn, &refusal) &&
        hf_mariadb_text(mariadb->conn, "SELECT VERSION()", attempt->outcome->engine_version,
                        sizeof attempt->outcome->engine_version, &refusal))
        return;
    attempt->over = true;
    if (refusal.broken)
        hf_attempt_judge_end(attempt, check);
    else
        hf_check_fail(check, "the copy refuses connections: error %u", refusal.code);
}

/* What InnoDB's last commit says of the binary log, against what the server said when the backup ended. */
static bool
reach_end(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct mariadb *mariadb = attempt->own;
    struct hf_verify_check *check = hf_attempt_check(attempt, "binlog_position");
    _cleanup_(hf_buf_done) struct hf_buf info = HF_BUF_INIT(INFO_BYTES);
    _cleanup_(hf_freep) char *path = hf_path_join(attempt->data, "xtrabackup_binlog_info");
    char last[BINLOG_BYTES], backup[BINLOG_BYTES];
    uint64_t last_number, backup_number, last_offset, backup_offset;
    struct hf_error failure;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    hf_check_begin(check);
    if (!hf_file_read(path, &info, &failure) ||
        !split_position(hf_buf_text(&info), backup, &backup_number, &backup_offset)) {
        hf_check_cannot_tell(check, "the source kept no binary log when the backup was taken");
    } else if (!split_position(mariadb->prepared_to, last, &last_number, &last_offset)) {
        hf_check_cannot_tell(check, "InnoDB has no commit that stands in a binary log");
    } else if (strcmp(last, backup) != 0) {
        hf_check_cannot_tell(check, "the binary log had another name when InnoDB last wrote to it");
    } else if (last_number > backup_number || (last_number == backup_number && last_offset > backup_offset)) {
        hf_check_fail(check, "the tables are at %.128s, the backup ended before that", mariadb->prepared_to);
    } else {
        hf_check_pass(check, -1);
    }
    return mariadb->log == NULL || replay_archive(attempt, err);
}

/*
 * Accounts are in force after a replay, ours is none of them, and only a server that nobody talks to may get more log:
 * so it is started anew behind each piece.
 */
static bool
replay_archive(struct hf_attempt *attempt, struct hf_error *err)
{
    struct mariadb *mariadb = attempt->own;
    bool more = false;
    if (!hf_binlog_copy_replay(mariadb->log, mariadb->conn, err))
        return false;
    if (attempt->over)
        return true;
    if (!hf_binlog_copy_sample(mariadb->log, &more, err))
        return false;
    if (more) {
        if (!stop_server(attempt, err) || !hf_binlog_copy_place_more(mariadb->log, err))
            return false;
        if (hf_binlog_copy_is_placed(mariadb->log) &&
            (!start_again(attempt, err) ||
             (!attempt->over && !hf_binlog_copy_replay_more(mariadb->log, mariadb->conn, err))))
            return false;
    }
    if (attempt->over || !mariadb->settings.applies_relay_log)
        return true;
    mariadb->settings.applies_relay_log = false;
    return stop_server(attempt, err) && start_again(attempt, err);
}

/* In order, as far as it goes: what it leaves undone its next start finds. */
static bool
stop_server(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_sandbox_exit end;
    disconnect(attempt);
    hf_asker_freep(&attempt->asker);
    if (attempt->sandbox == NULL)
        return true;
    if (!hf_sandbox_signal(attempt->sandbox, SIGTERM, err) ||
        !hf_sandbox_wait_exit(attempt->sandbox, SHUTDOWN_MS, &end, err) ||
        !hf_sandbox_stop(attempt->sandbox, &end, err))
        return false;
    hf_sandbox_freep(&attempt->sandbox);
    return true;
}

static bool
start_again(struct hf_attempt *attempt, struct hf_error *err)
{
    struct mariadb *mariadb = attempt->own;
    struct hf_verify_check *check = hf_attempt_check(attempt, "archive");
    const uint64_t until = hf_monotonic_ns() + attempt->phase_ms * 1000000;
    struct hf_sandbox_exit end;
    hf_attempt_phase(attempt, "start_again");
    if (!hf_attempt_start_sandbox(attempt, &hf_engine_mariadb, &mariadb->settings, err))
        return false;
    while (!attempt->over && !hf_sandbox_wait_ready(attempt->sandbox, LOOK_EVERY_MS)) {
        if (!hf_attempt_goes_on(attempt, err) || !hf_sandbox_wait_exit(attempt->sandbox, 0, &end, err))
            return false;
        attempt->over = end.end != HF_SANDBOX_RUNNING || hf_monotonic_ns() > until;
        if (end.end != HF_SANDBOX_RUNNING)
            hf_attempt_judge_end(attempt, check);
        else if (attempt->over)
            hf_check_cannot_tell(check, "behind the replay it did not start again within %llu minutes",
                                 (unsigned long long)attempt->phase_ms / 60000);
    }
    if (!attempt->over)
        connect_or_say(attempt, check);
    return true;
}

/* "bin.000007 12765", with a space or a tab, and perhaps more behind: name, number and offset. */
static bool
split_position(const char *text, char file[static BINLOG_BYTES], uint64_t *ret_number, uint64_t *ret_offset)
{
    const size_t length = strcspn(text, " \t\n");
    size_t digits = 0;
    unsigned long long number, offset;
    while (digits < length && text[length - 1 - digits] >= '0' && text[length - 1 - digits] <= '9')
        digits++;
    if (digits == 0 || digits > 18 || digits + 1 >= length || length >= BINLOG_BYTES ||
        sscanf(text + length - digits, "%18llu%*1[ \t]%18llu", &number, &offset) != 2)
        return false;
    snprintf(file, BINLOG_BYTES, "%.*s", (int)(length - digits), text);
    *ret_number = number;
    *ret_offset = offset;
    return true;
}

/* A name nobody has, in a database of its own: what the copy holds is not touched. */
static bool
open_for_writing(struct hf_attempt *attempt, struct hf_error *err)
{
    static const char *const statements[] = {"CREATE DATABASE `%s`",
                                             "CREATE TABLE `%s`.t (a INT PRIMARY KEY) ENGINE=InnoDB",
                                             "INSERT INTO `%s`.t VALUES (1), (2)", "DROP DATABASE `%s`"};
    const struct mariadb *mariadb = attempt->own;
    struct hf_verify_check *check = hf_attempt_check(attempt, "promote");
    struct hf_mariadb_refusal refusal;
    const struct hf_id id = hf_id_new();
    char text[HF_ID_TEXT_BYTES], name[HF_ID_TEXT_BYTES + 16];
    hf_check_begin(check);
    snprintf(name, sizeof name, "holdfast_%s", hf_id_format(&id, text));
    for (size_t i = 0; i < HF_LENGTH(statements); i++) {
        _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(HF_KIB);
        const char *at = strstr(statements[i], "%s");
        if (!hf_buf_add(&sql, statements[i], (size_t)(at - statements[i]), err) || !hf_buf_add_text(&sql, name, err) ||
            !hf_buf_add_text(&sql, at + 2, err))
            return false;
        if (hf_mariadb_run(mariadb->conn, hf_buf_text(&sql), NULL, NULL, &refusal))
            continue;
        attempt->over = true;
        if (refusal.broken)
            hf_attempt_judge_end(attempt, check);
        else
            hf_check_fail(check, "it does not take a new table: error %u", refusal.code);
        return true;
    }
    hf_check_pass(check, -1);
    return true;
}

static bool
check_relations(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct mariadb *mariadb = attempt->own;
    const struct hf_mariadb_look look = {.attempt = attempt, .conn = mariadb->conn};
    return hf_mariadb_check_tables(&look, err);
}

static bool
ask(struct hf_attempt *attempt, const struct hf_assertion *assertion, bool live, struct hf_answer *ret,
    struct hf_error *err)
{
    return live ? hf_mariadb_ask_live(attempt->options->live, assertion, ret, err)
                : hf_mariadb_ask_copy(attempt->asker, assertion, ret);
}

static bool
check_stopped(struct hf_attempt *attempt, struct hf_error *err)
{
    const struct mariadb *mariadb = attempt->own;
    return hf_mariadb_check_pages(attempt, &mariadb->layout, hf_attempt_check(attempt, "page_checksums_after"), err);
}

static void
disconnect(struct hf_attempt *attempt)
{
    struct mariadb *mariadb = attempt->own;
    hf_asker_conn_freep(&mariadb->conn);
}

/*
 * Lines of the server's own parts; what the applier or a statement complains of may carry values of rows.  The first
 * error is the cause, the later ones are what came of it.
 */
static void
last_words(const char *log, struct hf_last_words *ret)
{
    static const char *const words[] = {"[ERROR] InnoDB: ",   "[FATAL] InnoDB: ",       "InnoDB: Assertion failure",
                                        "[ERROR] mariadbd: ", "[ERROR] mariadb-backup", "[ERROR] Aria",
                                        "[ERROR] Plugin ",    "[ERROR] Fatal error: ",  "[ERROR] Can't ",
                                        "mariadb-backup: ",   "[ERROR] Could not "};
    static const char *const of_host[] = {"No space left",
                                          "Cannot allocate memory",
                                          "Unable to create temporary file",
                                          "error while loading shared libraries",
                                          "Operation not permitted",
                                          "Too many open files",
                                          "unknown variable",
                                          "unknown option"};
    for (const char *at = log, *next; *at != '\0' && ret->line[0] == '\0'; at = next) {
        const size_t length = strcspn(at, "\n");
        next = at + length + (at[length] != '\0');
        for (size_t i = 0; i < HF_LENGTH(words) && ret->line[0] == '\0'; i++) {
            const char *found = memmem(at, length, words[i], strlen(words[i]));
            if (found != NULL)
                snprintf(ret->line, sizeof ret->line, "%.*s", (int)(length - (size_t)(found - at)), found);
        }
    }
    for (size_t i = 0; i < HF_LENGTH(of_host); i++)
        ret->is_of_host = ret->is_of_host || strstr(log, of_host[i]) != NULL;
}
