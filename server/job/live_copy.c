#include "server/job/live_copy.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/scratch.h"
#include "sandbox/tree.h"
#include "sandbox/uids.h"
#include "server/job/moments.h"

#define SCRATCH_EXTRA (512 * HF_MIB) // temporary files and the server's own growth
#define LOOK_EVERY_US 50000
#define STANDSTILL_MS 30000
#define READ_ONLY     " -c default_transaction_read_only=on"

struct hf_live_copy {
    struct hf_worker *worker; // borrowed
    struct hf_restore_work work;
    struct hf_progress_relay relay;
    enum hf_sandbox_level lowest;
    uint64_t phase_ms, scratch_bytes, lives_ms;
    uid_t uid;
    int uid_lock; // let go after the sandbox and its files are gone
    struct hf_scratch *scratch;
    char *data;
    char options[1024];
    char value[HF_WAL_POINT_BYTES + 64]; // of the target
    char timeline[16];
    struct hf_sandbox *sandbox;
    struct hf_asker *asker;
};

static bool open_scratch(struct hf_live_copy *copy, const struct hf_live_copy_options *options, struct hf_error *err);
static bool start(struct hf_live_copy *copy, struct hf_error *err);
static bool aim(struct hf_live_copy *copy, struct hf_postgres_settings *settings, struct hf_error *err);
static bool find_server(struct hf_live_copy *copy, struct hf_postgres_settings *settings, struct hf_error *err);
static bool become_ready(struct hf_live_copy *copy, struct hf_error *err);
static bool reach_target(struct hf_live_copy *copy, struct hf_asker_conn *conn, struct hf_error *err);
static bool is_there(const struct hf_live_copy *copy, struct hf_asker_conn *conn, uint64_t *ret_position, bool *ret,
                     struct hf_query_refusal *refusal);
static bool stops_at_a_target(const struct hf_live_copy *copy);

bool
hf_live_copy_open(struct hf_worker *worker, const json_t *request, const struct hf_live_copy_options *options,
                  struct hf_live_copy **ret, struct hf_error *err)
{
    _cleanup_(hf_live_copy_freep) struct hf_live_copy *copy = calloc(1, sizeof *copy);
    const struct hf_settings *settings = hf_worker_settings(worker);
    const json_t *source = json_object_get(json_object_get(request, "source"), "settings");
    const char *level = json_string_value(json_object_get(source, "lowest_level"));
    struct hf_restore_outcome written;
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a copy");
    copy->worker = worker;
    copy->uid_lock = -1;
    copy->phase_ms = (uint64_t)settings->sandbox.phase_ms;
    copy->lives_ms = options->lives_ms;
    hf_worker_progress(worker, "plan", 0, 0);
    hf_progress_relay_start(&copy->relay, worker);
    struct hf_restore_options restoring = {.workers = (unsigned)settings->workers,
                                           .cancel = hf_worker_cancel(worker),
                                           .done = &copy->relay.done,
                                           .total = &copy->relay.total};
    if (!hf_uid_claim(&copy->uid, &copy->uid_lock, err) ||
        !hf_sandbox_level_parse(level != NULL ? level : settings->sandbox.lowest_level, &copy->lowest, err) ||
        !hf_restore_work_begin(worker, request, &restoring, &copy->relay, &copy->work, err))
        return false;
    if (copy->work.engine->complete != NULL)
        return hf_fail(err, HF_ERR_USAGE, "copies of %s cannot be looked into: restore to a folder",
                       copy->work.engine->product);
    if (!open_scratch(copy, options, err))
        return false;
    atomic_store(&copy->relay.phase, "write");
    if (!hf_restore_write(copy->work.plan, copy->data, &written, err))
        return false;
    atomic_store(&copy->relay.phase, "start");
    if (!start(copy, err) || !become_ready(copy, err))
        return false;
    *ret = HF_TAKE(copy);
    return true;
}

void
hf_live_copy_freep(struct hf_live_copy **copy)
{
    struct hf_live_copy *gone = *copy;
    if (gone == NULL)
        return;
    hf_progress_relay_stop(&gone->relay);
    hf_asker_freep(&gone->asker);
    hf_sandbox_freep(&gone->sandbox);
    hf_restore_work_done(&gone->work);
    hf_scratch_freep(&gone->scratch);
    hf_closep(&gone->uid_lock);
    free(gone->data);
    free(gone);
    *copy = NULL;
}

const struct hf_restore_work *
hf_live_copy_work(const struct hf_live_copy *copy)
{
    return &copy->work;
}

unsigned
hf_live_copy_major(const struct hf_live_copy *copy)
{
    return copy->work.facts.server_version_num / 10000;
}

const char *
hf_live_copy_scratch(const struct hf_live_copy *copy)
{
    return hf_scratch_path(copy->scratch);
}

struct hf_query_target
hf_live_copy_target(const struct hf_live_copy *copy)
{
    const struct hf_recovery_facts *facts = &copy->work.facts;
    return (struct hf_query_target){.asker = copy->asker,
                                    .folder = hf_sandbox_socket_path(copy->sandbox),
                                    .port = HF_POSTGRES_PORT,
                                    .user = facts->superuser[0] != 0 ? facts->superuser : "postgres",
                                    .options = copy->options};
}

struct hf_sandbox_spec
hf_live_copy_sandbox(const struct hf_live_copy *copy)
{
    return (struct hf_sandbox_spec){
        .limits = {.memory_bytes = (uint64_t)hf_worker_settings(copy->worker)->sandbox.memory,
                   .disk_bytes = hf_scratch_is_capped(copy->scratch) ? 0 : copy->scratch_bytes,
                   .processes = 512,
                   .wall_ms = 2 * copy->phase_ms + copy->lives_ms},
        .lowest = copy->lowest,
        .host_uid = copy->uid,
        .host_gid = copy->uid,
    };
}

bool
hf_live_copy_lives(struct hf_live_copy *copy, struct hf_error *err)
{
    struct hf_sandbox_exit end;
    if (!hf_sandbox_wait_exit(copy->sandbox, 0, &end, err))
        return false;
    if (end.end == HF_SANDBOX_RUNNING)
        return true;
    return hf_fail(err, HF_ERR_UNAVAILABLE, "the server of the copy has ended (%s)", hf_sandbox_end_name(end.end));
}

static bool
open_scratch(struct hf_live_copy *copy, const struct hf_live_copy_options *options, struct hf_error *err)
{
    const struct hf_settings *settings = hf_worker_settings(copy->worker);
    const uint64_t copied = (1 + options->more_bytes) * copy->work.size.bytes + copy->work.size.bytes / 10;
    const uint64_t wanted = copied + copy->work.moments->log_bytes(&copy->work) + SCRATCH_EXTRA;
    const struct hf_scratch_options scratch = {.folder = settings->scratch.folder,
                                               .bytes = wanted,
                                               .prefer_memory = wanted <= (uint64_t)settings->scratch.memory};
    copy->scratch_bytes = wanted;
    if (!hf_dir_make(settings->scratch.folder, 0711, err) || !hf_scratch_open(&scratch, &copy->scratch, err))
        return false;
    if (geteuid() == 0 && chmod(hf_scratch_path(copy->scratch), 0711) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the scratch to the sandbox");
    copy->data = hf_path_join(hf_scratch_path(copy->scratch), "data");
    return copy->data != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
}

static bool
start(struct hf_live_copy *copy, struct hf_error *err)
{
    const struct hf_recovery_facts *facts = &copy->work.facts;
    struct hf_postgres_settings settings = {
        .major = hf_live_copy_major(copy),
        .max_connections = facts->max_connections > 100 ? facts->max_connections : 100,
        .max_worker_processes = facts->max_worker_processes,
        .max_wal_senders = facts->max_wal_senders,
        .max_prepared_transactions = facts->max_prepared_xacts,
        .max_locks_per_transaction = facts->max_locks_per_xact,
        .wal_segment_bytes = facts->wal_segment_bytes,
        .shared_buffers_bytes = 128 * HF_MIB,
        .action = HF_POSTGRES_PAUSE,
    };
    snprintf(copy->options, sizeof copy->options, "%s" READ_ONLY, hf_postgres_connection_options(settings.major));
    if (!find_server(copy, &settings, err) || !aim(copy, &settings, err) ||
        !hf_postgres_prepare(copy->data, true, err) ||
        (geteuid() == 0 && !hf_tree_give(copy->data, copy->uid, copy->uid, err)))
        return false;
    struct hf_sandbox_spec spec = hf_live_copy_sandbox(copy);
    spec.engine = &hf_engine_postgres;
    spec.settings = &settings;
    spec.data = copy->data;
    return hf_sandbox_start(&spec, &copy->sandbox, err) &&
           hf_asker_start(&spec, hf_sandbox_socket_path(copy->sandbox), &copy->asker, err);
}

static bool
find_server(struct hf_live_copy *copy, struct hf_postgres_settings *settings, struct hf_error *err)
{
    const char *const *prefixes = (const char *const *)hf_worker_settings(copy->worker)->sandbox.postgres_prefixes;
    return hf_postgres_find_among(settings->major, prefixes, &settings->packages, err);
}

/* The target once more, for the command line: what lies in the folder is the copy's word, and goes. */
static bool
aim(struct hf_live_copy *copy, struct hf_postgres_settings *settings, struct hf_error *err)
{
    const struct hf_wal_target *target = &copy->work.moment.log;
    if (copy->work.replay == NULL)
        return true;
    snprintf(copy->timeline, sizeof copy->timeline, "%" PRIu32, hf_replay_proven(copy->work.replay).timeline);
    settings->timeline = copy->timeline;
    if (!stops_at_a_target(copy))
        return true;
    settings->target_value = copy->value;
    switch (target->kind) {
    case HF_WAL_TO_THE_END:
        break;
    case HF_WAL_TO_TIME:
        settings->target = HF_POSTGRES_TO_TIME;
        hf_time_format(target->time, copy->value);
        copy->value[strlen(copy->value) - 1] = '\0'; // "Z", which a server that starts does not know yet
        strcat(copy->value, "+00");
        return true;
    case HF_WAL_TO_POSITION:
        settings->target = HF_POSTGRES_TO_LSN;
        settings->target_exclusive = true;
        hf_lsn_format(target->position, copy->value);
        return true;
    case HF_WAL_TO_TRANSACTION:
    case HF_WAL_BEFORE_TRANSACTION:
        settings->target = HF_POSTGRES_TO_XID;
        settings->target_exclusive = target->kind == HF_WAL_BEFORE_TRANSACTION;
        snprintf(copy->value, sizeof copy->value, "%" PRIu32, target->transaction);
        return true;
    case HF_WAL_TO_RESTORE_POINT:
        settings->target = HF_POSTGRES_TO_NAME;
        snprintf(copy->value, sizeof copy->value, "%s", target->point);
        return true;
    }
    return hf_fail(err, HF_ERR_USAGE, "a target of no known kind");
}

static bool
stops_at_a_target(const struct hf_live_copy *copy)
{
    return copy->work.replay != NULL && !hf_replay_proven(copy->work.replay).to_the_end &&
           copy->work.moment.log.kind != HF_WAL_TO_THE_END;
}

static bool
become_ready(struct hf_live_copy *copy, struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + copy->phase_ms * 1000000;
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    while (!hf_sandbox_wait_ready(copy->sandbox, 200)) {
        if (!hf_worker_go_on(copy->worker, err) || !hf_live_copy_lives(copy, err))
            return false;
        if (hf_monotonic_ns() > until)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy did not become consistent within %" PRIu64 " minutes",
                           copy->phase_ms / 60000);
    }
    const struct hf_query_target target = hf_live_copy_target(copy);
    if (!hf_query_connect(&target, "postgres", 30, &conn, err) &&
        !hf_query_connect(&target, "template1", 30, &conn, err))
        return false;
    return reach_target(copy, conn, err);
}

static bool
reach_target(struct hf_live_copy *copy, struct hf_asker_conn *conn, struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + copy->phase_ms * 1000000;
    uint64_t reached = 0, moved_ns = hf_monotonic_ns();
    char text[HF_LSN_TEXT_BYTES];
    for (;;) {
        uint64_t position;
        bool there;
        struct hf_query_refusal refusal;
        if (!hf_worker_go_on(copy->worker, err))
            return false;
        if (!is_there(copy, conn, &position, &there, &refusal))
            return hf_live_copy_lives(copy, err) &&
                   hf_fail(err, HF_ERR_UNAVAILABLE, "the copy does not say how far it is: %s", refusal.message);
        if (there)
            return true;
        if (position > reached) {
            reached = position;
            moved_ns = hf_monotonic_ns();
        }
        if (hf_monotonic_ns() - moved_ns > STANDSTILL_MS * UINT64_C(1000000))
            return hf_fail(err, HF_ERR_CORRUPT, "the copy stopped at %s, before its target",
                           hf_lsn_format(reached, text));
        if (hf_monotonic_ns() > until)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy did not reach its target within %" PRIu64 " minutes",
                           copy->phase_ms / 60000);
        usleep(LOOK_EVERY_US);
    }
}

/* Paused, where there is a target to pause at; else at the end of all the log it has. */
static bool
is_there(const struct hf_live_copy *copy, struct hf_asker_conn *conn, uint64_t *ret_position, bool *ret,
         struct hf_query_refusal *refusal)
{
    char position[32], paused[32];
    const char *question = hf_live_copy_major(copy) >= 14 ? "SELECT pg_get_wal_replay_pause_state()"
                                                          : "SELECT CASE WHEN pg_is_wal_replay_paused() THEN 'paused' "
                                                            "ELSE 'not paused' END";
    if (!hf_query_text(conn, "SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')::text", NULL, 0, position,
                       sizeof position, refusal) ||
        !hf_lsn_parse(position, ret_position, NULL))
        return false;
    if (!stops_at_a_target(copy)) {
        *ret = *ret_position >=
               (copy->work.replay != NULL ? hf_replay_proven(copy->work.replay).to : copy->work.facts.wal_end_lsn);
        return true;
    }
    if (!hf_query_text(conn, question, NULL, 0, paused, sizeof paused, refusal))
        return false;
    *ret = strcmp(paused, "paused") == 0;
    return true;
}
