#include "server/verify/mariadb/apply.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"

#define LOOK_EVERY_US  20000
#define READY_EVERY_MS 200
#define SHUTDOWN_MS    120000
#define INFO_BYTES     (64 * HF_KIB)

/* Columns of SHOW SLAVE STATUS. */
#define SQL_RUNNING 11
#define LAST_ERROR  18

struct state {
    bool known, running;
    unsigned error;
};

static bool set_position(const struct hf_mariadb_apply *apply, struct hf_error *err);
static bool begin(const struct hf_mariadb_apply *apply, struct hf_error *err);
static bool say(const struct hf_mariadb_apply *apply, const char *sql, struct hf_error *err);
static bool is_done(const struct hf_mariadb_apply *apply, bool *ret, struct hf_error *err);
static bool read_position(const struct hf_mariadb_apply *apply, struct hf_gtid_set *ret, struct hf_error *err);
static bool take_state(void *context, char *const *values, const unsigned long *lengths, unsigned count);
static bool goes_on(const struct hf_mariadb_apply *apply, uint64_t until, struct hf_error *err);
static bool wait_ready(struct hf_sandbox *sandbox, const struct hf_mariadb_apply *apply, struct hf_error *err);
static bool shut_down(struct hf_sandbox *sandbox, struct hf_error *err);

bool
hf_mariadb_apply(const struct hf_mariadb_apply *apply, struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + apply->phase_ms * 1000000;
    bool done = false;
    if (!set_position(apply, err))
        return false;
    if (hf_gtid_set_equal(apply->start, apply->wanted))
        return true;
    if (!begin(apply, err))
        return false;
    while (!done) {
        struct state state = {0};
        struct hf_mariadb_refusal refusal;
        if (!goes_on(apply, until, err) || !is_done(apply, &done, err))
            return false;
        if (done)
            break;
        if (!hf_mariadb_run(apply->conn, "SHOW SLAVE STATUS", take_state, &state, &refusal) || !state.known)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy does not say how far it has replayed");
        if (!state.running) // by itself it only stops at an error
            return hf_fail(err, HF_ERR_CORRUPT, "the copy could not replay the binary log: error %u", state.error);
        usleep(LOOK_EVERY_US);
    }
    struct hf_gtid_set reached = {0};
    const bool ok = say(apply, "STOP SLAVE", err) && say(apply, "RESET SLAVE ALL", err) &&
                    read_position(apply, &reached, err) &&
                    (hf_gtid_set_equal(&reached, apply->wanted) ||
                     hf_fail(err, HF_ERR_CORRUPT, "the copy replayed more than it was given"));
    hf_gtid_set_done(&reached);
    return ok;
}

bool
hf_mariadb_apply_clean(const char *data, struct hf_error *err)
{
    static const char *const names[] = {
        HF_BINLOG_RELAY_FIRST,   HF_BINLOG_RELAY ".000002", HF_BINLOG_RELAY ".000003",   HF_BINLOG_RELAY_INDEX,
        HF_BINLOG_RELAY ".info", "holdfast-source.info",    "multi-holdfast-source.info"};
    for (size_t i = 0; i < HF_LENGTH(names); i++) {
        _cleanup_(hf_freep) char *path = hf_path_join(data, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (unlink(path) != 0 && errno != ENOENT)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    }
    return true;
}

bool
hf_mariadb_backup_gtids(const char *data, struct hf_gtid_set *ret, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(INFO_BYTES);
    _cleanup_(hf_freep) char *path = hf_path_join(data, "xtrabackup_binlog_info");
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_read(path, &text, err))
        return false;
    const char *gtids = strchr(hf_buf_text(&text), '\t');
    gtids = gtids == NULL ? NULL : strchr(gtids + 1, '\t');
    const size_t length = gtids == NULL ? 0 : strcspn(gtids + 1, "\t\n");
    if (length == 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the backup has no GTID position: the source kept no binary log");
    return hf_gtid_set_parse(HF_GTID_MARIADB, gtids + 1, length, ret, err);
}

bool
hf_mariadb_replay(const char *data, const struct hf_sandbox_spec *spec, const struct hf_mariadb_settings *settings,
                  struct hf_mariadb_apply *apply, struct hf_error *err)
{
    struct hf_mariadb_settings replaying = *settings;
    struct hf_sandbox_spec started = *spec;
    struct hf_mariadb_refusal refusal;
    replaying.applies_relay_log = true;
    started.engine = &hf_engine_mariadb;
    started.settings = &replaying;
    started.data = data;
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    if (!hf_sandbox_start(&started, &sandbox, err) || !wait_ready(sandbox, apply, err))
        return false;
    _cleanup_(hf_asker_freep) struct hf_asker *asker = NULL;
    if (!hf_asker_start(&started, hf_sandbox_socket_path(sandbox), &asker, err))
        return false;
    if (!hf_mariadb_connect(asker, apply->phase_ms, &apply->conn, &refusal))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy refuses connections: error %u", refusal.code);
    const bool applied = hf_mariadb_apply(apply, err);
    hf_asker_conn_freep(&apply->conn);
    return applied && shut_down(sandbox, err) && hf_mariadb_apply_clean(data, err);
}

/* Before anything is written. */
static bool
set_position(const struct hf_mariadb_apply *apply, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(HF_GTID_TEXT_MOST + HF_KIB);
    return hf_buf_add_text(&sql, "SET GLOBAL gtid_slave_pos='", err) && hf_gtid_set_format(apply->start, &sql, err) &&
           hf_buf_add_text(&sql, "'", err) && say(apply, hf_buf_text(&sql), err);
}

/*
 * Without grant tables the server takes no CREATE USER and no GRANT from the log, either; they come into force here,
 * and this connection, made before, keeps its rights.
 */
static bool
begin(const struct hf_mariadb_apply *apply, struct hf_error *err)
{
    return say(apply, "FLUSH PRIVILEGES", err) &&
           say(apply,
               "CHANGE MASTER TO MASTER_HOST='archive', MASTER_USE_GTID=no, RELAY_LOG_FILE='" HF_BINLOG_RELAY_FIRST
               "', RELAY_LOG_POS=4",
               err) &&
           say(apply, "START SLAVE SQL_THREAD", err);
}

static bool
say(const struct hf_mariadb_apply *apply, const char *sql, struct hf_error *err)
{
    struct hf_mariadb_refusal refusal;
    return hf_mariadb_run(apply->conn, sql, NULL, NULL, &refusal) ||
           hf_fail(err, refusal.broken ? HF_ERR_UNAVAILABLE : HF_ERR_CORRUPT,
                   "the copy could not be told to replay the binary log: error %u", refusal.code);
}

static bool
is_done(const struct hf_mariadb_apply *apply, bool *ret, struct hf_error *err)
{
    struct hf_gtid_set reached = {0};
    if (!read_position(apply, &reached, err))
        return false;
    *ret = hf_gtid_set_contains_all(&reached, apply->wanted);
    hf_gtid_set_done(&reached);
    return true;
}

static bool
read_position(const struct hf_mariadb_apply *apply, struct hf_gtid_set *ret, struct hf_error *err)
{
    struct hf_mariadb_refusal refusal;
    _cleanup_(hf_freep) char *text = malloc(HF_GTID_TEXT_MOST);
    if (text == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a GTID position");
    if (!hf_mariadb_text(apply->conn, "SELECT @@global.gtid_slave_pos", text, HF_GTID_TEXT_MOST, &refusal))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy does not say how far it has replayed: error %u",
                       refusal.code);
    return hf_gtid_set_parse(HF_GTID_MARIADB, text, strlen(text), ret, err);
}

static bool
take_state(void *context, char *const *values, const unsigned long *lengths, unsigned count)
{
    struct state *state = context;
    (void)lengths;
    if (count <= LAST_ERROR || values[SQL_RUNNING] == NULL || values[LAST_ERROR] == NULL)
        return false;
    *state = (struct state){.known = true,
                            .running = strcmp(values[SQL_RUNNING], "Yes") == 0,
                            .error = (unsigned)strtoul(values[LAST_ERROR], NULL, 10)};
    return true;
}

static bool
goes_on(const struct hf_mariadb_apply *apply, uint64_t until, struct hf_error *err)
{
    if (apply->cancel != NULL && atomic_load(apply->cancel))
        return hf_fail(err, HF_ERR_CANCELLED, "the replay was cancelled");
    return hf_monotonic_ns() < until ||
           hf_fail(err, HF_ERR_UNAVAILABLE, "the binary log was not replayed when the time was up");
}

static bool
wait_ready(struct hf_sandbox *sandbox, const struct hf_mariadb_apply *apply, struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + apply->phase_ms * 1000000;
    struct hf_sandbox_exit end;
    while (!hf_sandbox_wait_ready(sandbox, READY_EVERY_MS)) {
        if (!goes_on(apply, until, err) || !hf_sandbox_wait_exit(sandbox, 0, &end, err))
            return false;
        if (end.end != HF_SANDBOX_RUNNING)
            return hf_fail(err, end.end == HF_SANDBOX_EXITED ? HF_ERR_CORRUPT : HF_ERR_UNAVAILABLE,
                           "the copy does not start: %s", hf_sandbox_end_name(end.end));
    }
    return true;
}

static bool
shut_down(struct hf_sandbox *sandbox, struct hf_error *err)
{
    struct hf_sandbox_exit end;
    if (!hf_sandbox_signal(sandbox, SIGTERM, err) || !hf_sandbox_wait_exit(sandbox, SHUTDOWN_MS, &end, err))
        return false;
    return (end.end == HF_SANDBOX_EXITED && end.exit_code == 0) ||
           hf_fail(err, HF_ERR_UNAVAILABLE, "the copy could not be shut down in order: %s",
                   hf_sandbox_end_name(end.end));
}
