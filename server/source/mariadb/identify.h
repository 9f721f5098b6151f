/*
 * identify.h - which database is it? asked before anything is taken from it
 *
 * MySQL keeps an id of its own with the data (@@server_uuid).  MariaDB's @@server_uid is made of the machine's network
 * address and the server's port at each start: it names the place, not the data.  It is taken where the server has a
 * port; a server without one would share it with every other on that host.  Such a server, and one too old to have the
 * variable, gets an id that we make up at first contact and know it by from then on.
 */
#pragma once
#include "server/source/mariadb/client.h"

/* Of the engine table.  CONFLICT, with both ids, when it is not the one that the target names. */
HF_MUST_CHECK bool hf_mariadb_identify(const struct hf_flavour *flavour, const struct hf_source_target *target,
                                       struct hf_source_identity *ret, struct hf_error *err);
/* The same over a connection that is there. */
HF_MUST_CHECK bool hf_mariadb_ask_identity(MYSQL *conn, const struct hf_flavour *flavour,
                                           const struct hf_source_target *target, struct hf_source_identity *ret,
                                           struct hf_error *err);
