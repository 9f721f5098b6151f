#include "server/source/postgres/identify.h"

#include <inttypes.h>
#include <stdio.h>

#include "server/source/postgres/hosts.h"

#define SILENCE_MS 30000

static const struct hf_postgres_patience patience = {.silence_ms = SILENCE_MS};

static bool ask_superuser(const struct hf_source_target *target, struct hf_source_identity *ret);

bool
hf_postgres_ask_identity(const struct hf_source_target *target, struct hf_source_identity *ret, struct hf_error *err)
{
    struct hf_postgres_identity server;
    struct hf_source_identity identity = {0};
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_hosts_done) struct hf_postgres_hosts hosts = {0};
    struct hf_source_target node = *target;
    if (!hf_postgres_hosts_of(target, &hosts, err) ||
        !hf_postgres_connect_node(&hosts, &node, &patience, &conn, &server, err))
        return false;
    snprintf(identity.text, sizeof identity.text, "%" PRIu64, server.system_identifier);
    identity.server_version = (uint32_t)PQserverVersion(conn);
    if (!ask_superuser(&node, &identity))
        identity.superuser[0] = 0; // a restore then tries the usual name
    *ret = identity;
    return true;
}

/* The role with oid 10 was made by initdb and is always there: as it we look into the copy. */
static bool
ask_superuser(const struct hf_source_target *target, struct hf_source_identity *ret)
{
    struct hf_error ignored;
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    if (!hf_postgres_connect(target, HF_POSTGRES_SQL, &patience, &conn, &ignored) ||
        !hf_postgres_query(conn, &patience, "ask for the first role",
                           "SELECT rolname FROM pg_catalog.pg_roles WHERE oid = 10", NULL, 0, &row, &ignored) ||
        PQntuples(row) != 1)
        return false;
    snprintf(ret->superuser, sizeof ret->superuser, "%s", PQgetvalue(row, 0, 0));
    return true;
}
