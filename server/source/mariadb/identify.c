#include "server/source/mariadb/identify.h"

#include <stdio.h>
#include <string.h>

#include "base/id.h"

#define MADE_UP "made-up-" // begins the ids that are ours

static bool ask_the_server(MYSQL *conn, const struct hf_flavour *flavour, char ret[static HF_SOURCE_IDENTITY_BYTES],
                           struct hf_error *err);

bool
hf_mariadb_identify(const struct hf_flavour *flavour, const struct hf_source_target *target,
                    struct hf_source_identity *ret, struct hf_error *err)
{
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = NULL;
    return hf_mariadb_client_connect(flavour, target, &conn, err) &&
           hf_mariadb_ask_identity(conn, flavour, target, ret, err);
}

bool
hf_mariadb_ask_identity(MYSQL *conn, const struct hf_flavour *flavour, const struct hf_source_target *target,
                        struct hf_source_identity *ret, struct hf_error *err)
{
    struct hf_source_identity identity = {.server_version = hf_mariadb_version(conn)};
    const bool is_ours = target->identity != NULL && strncmp(target->identity, MADE_UP, strlen(MADE_UP)) == 0;
    char text[HF_ID_TEXT_BYTES];
    if (!ask_the_server(conn, flavour, identity.text, err))
        return false;
    if (is_ours)
        snprintf(identity.text, sizeof identity.text, "%s", target->identity);
    else if (target->identity != NULL && strcmp(target->identity, identity.text) != 0) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is now another database: its id is %s, it was %s", target->name,
                identity.text[0] == '\0' ? "not known" : identity.text, target->identity);
        return hf_fail_hint(err, "If the server was replaced or moved to other hardware, add it as a new source under "
                                 "another name: \"holdfast source add\". Nothing was stored.");
    }
    if (identity.text[0] == '\0') {
        const struct hf_id id = hf_id_new();
        snprintf(identity.text, sizeof identity.text, MADE_UP "%s", hf_id_format(&id, text));
    }
    *ret = identity;
    return true;
}

/* "" when it has none that would tell it from another server of its host. */
static bool
ask_the_server(MYSQL *conn, const struct hf_flavour *flavour, char ret[static HF_SOURCE_IDENTITY_BYTES],
               struct hf_error *err)
{
    char port[16], id[128];
    bool known;
    ret[0] = '\0';
    if (!hf_mariadb_variable(conn, flavour->identity, id, sizeof id, &known, err))
        return false;
    if (!known || id[0] == '\0')
        return true;
    if (!flavour->identity_is_kept) {
        if (!hf_mariadb_variable(conn, "port", port, sizeof port, &known, err))
            return false;
        if (!known || strcmp(port, "0") == 0)
            return true;
    }
    if (strlen(id) >= HF_SOURCE_IDENTITY_BYTES)
        return hf_fail(err, HF_ERR_CORRUPT, "the server's id has more than %d bytes", HF_SOURCE_IDENTITY_BYTES - 1);
    memcpy(ret, id, strlen(id) + 1);
    return true;
}
