#include "server/source/postgres/leftovers.h"

#include <string.h>

#include "server/source/postgres/connection.h"

#define SQL_MS (60 * 1000)

static const struct hf_postgres_patience patience = {.silence_ms = SQL_MS};

static bool read_slot(const PGresult *rows, int row, const char *prefix, struct hf_leftover *ret, struct hf_error *err);
static bool drop_slot(PGconn *conn, struct hf_leftover *slot, struct hf_error *err);

bool
hf_postgres_leftovers(const struct hf_source_target *target, bool drop, struct hf_leftovers *ret, struct hf_error *err)
{
    static const char sql[] =
        "SELECT slot_name, active, temporary, CASE WHEN restart_lsn IS NULL THEN -1 ELSE greatest(0, pg_wal_lsn_diff("
        "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)) END "
        "::bigint FROM pg_replication_slots WHERE slot_name LIKE 'holdfast\\_%' ORDER BY slot_name LIMIT 64";
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    struct hf_leftovers found = {0};
    char prefix[64];

    if (!hf_postgres_check_slot_tag(target->slot_tag, err) ||
        !hf_postgres_connect(target, HF_POSTGRES_SQL, &patience, &conn, err) ||
        !hf_postgres_query(conn, &patience, "list the replication slots", sql, NULL, 0, &rows, err))
        return false;

    snprintf(prefix, sizeof prefix, "holdfast_%s_", target->slot_tag);
    for (int row = 0; row < PQntuples(rows) && found.count < HF_LEFTOVERS_MOST; row++) {
        struct hf_leftover *slot = &found.items[found.count++];
        if (!read_slot(rows, row, prefix, slot, err))
            return false;
        if (drop && slot->ours && !slot->active && !drop_slot(conn, slot, err))
            return false;
        found.ours += slot->ours && !slot->dropped;
    }
    *ret = found;
    return true;
}

static bool
read_slot(const PGresult *rows, int row, const char *prefix, struct hf_leftover *ret, struct hf_error *err)
{
    const char *name, *active, *temporary;

    if (!hf_postgres_field(rows, row, 0, "slot's name", &name, err) ||
        !hf_postgres_field(rows, row, 1, "slot's state", &active, err) ||
        !hf_postgres_field(rows, row, 2, "slot's kind", &temporary, err))
        return false;
    *ret = (struct hf_leftover){.ours = strncmp(name, prefix, strlen(prefix)) == 0,
                                .active = active[0] == 't',
                                .temporary = temporary[0] == 't',
                                .kept_bytes = PQgetisnull(rows, row, 3) ? -1 : atoll(PQgetvalue(rows, row, 3))};
    snprintf(ret->name, sizeof ret->name, "%s", name);
    return true;
}

static bool
drop_slot(PGconn *conn, struct hf_leftover *slot, struct hf_error *err)
{
    const char *const values[] = {slot->name};
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;

    if (!hf_postgres_query(conn, &patience, "drop a replication slot", "SELECT pg_drop_replication_slot($1)", values, 1,
                           &row, err))
        return hf_fail_within(err, "slot \"%s\"", slot->name);
    slot->dropped = true;
    return true;
}
