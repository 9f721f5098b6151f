#include "server/source/postgres/stream_slot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/source/postgres/stream_receive.h"

#define SILENCE_MS 30000

static bool run(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, const char *command,
                struct hf_error *err);

bool
hf_stream_slot_look(const struct hf_source_target *target, const char *slot,
                    const struct hf_postgres_patience *patience, struct hf_slot_state *ret, struct hf_error *err)
{
    static const char doing[] = "look at the replication slot";
    static const char sql[] =
        "SELECT pg_is_in_recovery(), s.slot_type, s.temporary, s.active, s.wal_status, s.restart_lsn, "
        "pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, "
        "s.restart_lsn)::int8, s.safe_wal_size FROM (SELECT 1) o "
        "LEFT JOIN pg_replication_slots s ON s.slot_name = $1";
    const char *const values[] = {slot};
    struct hf_slot_state state = {0};
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    if (!hf_postgres_check_slot_tag(target->slot_tag, err) ||
        !hf_postgres_connect(target, HF_POSTGRES_SQL, patience, &conn, err) ||
        !hf_postgres_query(conn, patience, doing, sql, values, 1, &row, err))
        return false;
    if (PQntuples(row) != 1 || PQnfields(row) != 8)
        return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the server answered %d rows", doing, PQntuples(row));
    state.in_recovery = PQgetvalue(row, 0, 0)[0] == 't';
    state.exists = !PQgetisnull(row, 0, 1);
    if (state.exists && (strcmp(PQgetvalue(row, 0, 1), "physical") != 0 || PQgetvalue(row, 0, 2)[0] == 't'))
        return hf_fail(err, HF_ERR_CONFLICT, "replication slot \"%s\" is not a permanent physical one", slot) ||
               hf_fail_hint(err, "It belongs to somebody else: name another with stream_slot.");
    state.active = PQgetvalue(row, 0, 3)[0] == 't';
    state.lost = strcmp(PQgetvalue(row, 0, 4), "lost") == 0;
    if (!PQgetisnull(row, 0, 5) && !hf_lsn_parse(PQgetvalue(row, 0, 5), &state.restart_lsn, err))
        return false;
    state.kept_bytes = PQgetisnull(row, 0, 6) ? 0 : strtoll(PQgetvalue(row, 0, 6), NULL, 10);
    state.left_bytes = PQgetisnull(row, 0, 7) ? -1 : strtoll(PQgetvalue(row, 0, 7), NULL, 10);
    *ret = state;
    return true;
}

bool
hf_stream_slot_make(PGconn *conn, const char *slot, bool replace, const struct hf_postgres_patience *patience,
                    struct hf_error *err)
{
    char command[160];
    snprintf(command, sizeof command, "DROP_REPLICATION_SLOT \"%s\"", slot);
    if (replace && !run(conn, patience, "drop the slot that was lost", command, err))
        return false;
    snprintf(command, sizeof command, "CREATE_REPLICATION_SLOT \"%s\" PHYSICAL RESERVE_WAL", slot);
    return run(conn, patience, "make the slot of the stream", command, err);
}

bool
hf_stream_slot_release(const struct hf_source_target *target, bool *ret_dropped, struct hf_error *err)
{
    const char *slot = target->stream_slot;
    const struct hf_postgres_patience patience = {.silence_ms = SILENCE_MS};
    const char *const values[] = {slot};
    struct hf_slot_state state;
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    if (!hf_stream_slot_look(target, slot, &patience, &state, err))
        return false;
    if (state.active)
        return hf_fail(err, HF_ERR_CONFLICT, "replication slot \"%s\" is in use", slot);
    if (state.exists && (!hf_postgres_connect(target, HF_POSTGRES_SQL, &patience, &conn, err) ||
                         !hf_postgres_query(conn, &patience, "drop the slot of the stream",
                                            "SELECT pg_drop_replication_slot($1)", values, 1, &row, err)))
        return false;
    *ret_dropped = state.exists;
    return true;
}

static bool
run(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, const char *command,
    struct hf_error *err)
{
    return hf_postgres_send(conn, doing, command, err) && hf_postgres_finish(conn, patience, doing, err);
}
