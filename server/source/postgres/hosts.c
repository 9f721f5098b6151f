#include "server/source/postgres/hosts.h"

#include <stdlib.h>
#include <string.h>

#include "server/source/postgres/stream_receive.h"

#define CONNINFO_MOST (64 * HF_KIB)
#define SILENCE_MS    30000

static size_t find_host(const struct hf_postgres_hosts *hosts, PGconn *conn);
static size_t count_parts(const PQconninfoOption *options, const char *keyword);
static const char *value_of(const PQconninfoOption *options, const char *keyword);
static bool add_setting(struct hf_buf *out, const PQconninfoOption *option, size_t at, struct hf_error *err);
static bool is_list(const char *keyword);
static void part_of(const char *list, size_t at, const char **ret, size_t *ret_length);
static void look(const struct hf_source_target *node, const struct hf_postgres_patience *patience,
                 struct hf_postgres_node *ret);
static int by_worth(const void *a, const void *b);

bool
hf_postgres_hosts_of(const struct hf_source_target *target, struct hf_postgres_hosts *ret, struct hf_error *err)
{
    PQconninfoOption *options = PQconninfoParse(target->conninfo, NULL);
    struct hf_postgres_hosts hosts = {0};
    if (options == NULL)
        return hf_fail(err, HF_ERR_USAGE, "the connection string of \"%s\" cannot be read", target->name);
    const size_t names = count_parts(options, "host"), addresses = count_parts(options, "hostaddr");
    const size_t count = names > addresses ? names : addresses > 0 ? addresses : 1;
    bool ok = count <= HF_POSTGRES_HOSTS_MOST ||
              hf_fail(err, HF_ERR_USAGE, "the connection string of \"%s\" names %zu hosts, at most %d are supported",
                      target->name, count, HF_POSTGRES_HOSTS_MOST);
    for (size_t at = 0; ok && at < count; at++) {
        _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(CONNINFO_MOST);
        for (const PQconninfoOption *option = options; ok && option->keyword != NULL; option++)
            ok = option->val == NULL || add_setting(&text, option, at, err);
        hosts.conninfo[at] = ok ? strdup(hf_buf_text(&text)) : NULL;
        if (ok && hosts.conninfo[at] == NULL)
            ok = hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the hosts of \"%s\"", target->name);
        hosts.count = at + 1;
    }
    PQconninfoFree(options);
    if (!ok) {
        hf_postgres_hosts_done(&hosts);
        return false;
    }
    *ret = hosts;
    return true;
}

void
hf_postgres_hosts_done(struct hf_postgres_hosts *hosts)
{
    for (size_t i = 0; i < hosts->count; i++)
        free(hosts->conninfo[i]);
    *hosts = (struct hf_postgres_hosts){0};
}

bool
hf_postgres_connect_node(const struct hf_postgres_hosts *hosts, struct hf_source_target *target,
                         const struct hf_postgres_patience *patience, PGconn **ret,
                         struct hf_postgres_identity *ret_identity, struct hf_error *err)
{
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    if (!hf_postgres_connect(target, HF_POSTGRES_BACKUP, patience, &conn, err))
        return false;
    const size_t first = find_host(hosts, conn);
    for (size_t i = 0; i < hosts->count; i++) {
        struct hf_error why = {0};
        target->conninfo = hosts->conninfo[(first + i) % hosts->count];
        if (i > 0)
            hf_postgres_closep(&conn);
        if ((i == 0 || hf_postgres_connect(target, HF_POSTGRES_BACKUP, patience, &conn, &why)) &&
            hf_postgres_identify(conn, target, patience, ret_identity, &why)) {
            *ret = HF_TAKE(conn);
            return true;
        }
        if ((i == 0 || why.kind == HF_ERR_CONFLICT) && err != NULL)
            *err = why;
    }
    return false;
}

/* The node of a connection; 0 when it is none of them. */
static size_t
find_host(const struct hf_postgres_hosts *hosts, PGconn *conn)
{
    for (size_t i = 0; i < hosts->count; i++) {
        PQconninfoOption *options = PQconninfoParse(hosts->conninfo[i], NULL);
        const char *host = value_of(options, "host"), *port = value_of(options, "port");
        const bool same = host != NULL && PQhost(conn) != NULL && strcmp(host, PQhost(conn)) == 0 &&
                          (port == NULL || strcmp(port, PQport(conn)) == 0);
        PQconninfoFree(options);
        if (same)
            return i;
    }
    return 0;
}

void
hf_postgres_hosts_look(const struct hf_postgres_hosts *hosts, const struct hf_source_target *target,
                       const struct hf_postgres_patience *patience, struct hf_postgres_node *ret)
{
    for (size_t i = 0; i < hosts->count; i++) {
        struct hf_source_target node = *target;
        node.conninfo = hosts->conninfo[i];
        ret[i] = (struct hf_postgres_node){.host = i};
        look(&node, patience, &ret[i]);
    }
    qsort(ret, hosts->count, sizeof *ret, by_worth);
}

/* Of the node on which it keeps most: a node that served before may have one as well. */
bool
hf_postgres_stream_kept(const struct hf_source_target *target, struct hf_stream_kept *ret, struct hf_error *err)
{
    const struct hf_postgres_patience patience = {.silence_ms = SILENCE_MS};
    _cleanup_(hf_postgres_hosts_done) struct hf_postgres_hosts hosts = {0};
    struct hf_stream_kept most = {.left = -1};
    struct hf_error why;
    bool any = false;
    if (!hf_postgres_hosts_of(target, &hosts, err))
        return false;
    for (size_t i = 0; i < hosts.count; i++) {
        struct hf_source_target node = *target;
        struct hf_slot_state slot;
        node.conninfo = hosts.conninfo[i];
        if (!hf_stream_slot_look(&node, node.stream_slot, &patience, &slot, &why))
            continue;
        any = true;
        if (slot.exists && (!most.exists || slot.kept_bytes > most.bytes))
            most = (struct hf_stream_kept){true, slot.kept_bytes > 0 ? slot.kept_bytes : 0, slot.left_bytes};
    }
    if (!any) {
        if (err != NULL)
            *err = why;
        return false;
    }
    *ret = most;
    return true;
}

/* On every node that can be reached. */
bool
hf_postgres_stream_release(const struct hf_source_target *target, bool *ret_dropped, struct hf_error *err)
{
    _cleanup_(hf_postgres_hosts_done) struct hf_postgres_hosts hosts = {0};
    struct hf_error why = {0};
    bool any = false, dropped_any = false;
    if (!hf_postgres_hosts_of(target, &hosts, err))
        return false;
    for (size_t i = 0; i < hosts.count; i++) {
        struct hf_source_target node = *target;
        struct hf_error failure;
        bool dropped;
        node.conninfo = hosts.conninfo[i];
        if (hf_stream_slot_release(&node, &dropped, &failure)) {
            any = true;
            dropped_any = dropped_any || dropped;
        } else if (why.kind == HF_ERR_NONE || failure.kind == HF_ERR_CONFLICT) {
            why = failure;
        }
    }
    if (!any || why.kind == HF_ERR_CONFLICT) {
        if (err != NULL)
            *err = why;
        return false;
    }
    *ret_dropped = dropped_any;
    return true;
}

static size_t
count_parts(const PQconninfoOption *options, const char *keyword)
{
    const char *value = value_of(options, keyword);
    size_t count = value == NULL ? 0 : 1;
    for (const char *at = value; at != NULL && (at = strchr(at, ',')) != NULL; at++)
        count++;
    return count;
}

/* NULL when it is not set, or empty. */
static const char *
value_of(const PQconninfoOption *options, const char *keyword)
{
    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        if (strcmp(option->keyword, keyword) == 0 && option->val != NULL && option->val[0] != '\0')
            return option->val;
    return NULL;
}

/* Of a list its part for this host; quoted as libpq reads it back. */
static bool
add_setting(struct hf_buf *out, const PQconninfoOption *option, size_t at, struct hf_error *err)
{
    const char *value = option->val;
    size_t length = strlen(value);
    if (is_list(option->keyword))
        part_of(option->val, at, &value, &length);
    if (!hf_buf_printf(out, err, "%s%s='", out->length > 0 ? " " : "", option->keyword))
        return false;
    for (size_t i = 0; i < length; i++)
        if (((value[i] == '\'' || value[i] == '\\') && !hf_buf_put_u8(out, '\\', err)) ||
            !hf_buf_put_u8(out, (uint8_t)value[i], err))
            return false;
    return hf_buf_put_u8(out, '\'', err);
}

static bool
is_list(const char *keyword)
{
    return strcmp(keyword, "host") == 0 || strcmp(keyword, "hostaddr") == 0 || strcmp(keyword, "port") == 0;
}

/* A list of one counts for all hosts, as libpq has it for ports. */
static void
part_of(const char *list, size_t at, const char **ret, size_t *ret_length)
{
    const char *part = list;
    for (size_t i = 0; i < at; i++) {
        const char *comma = strchr(part, ',');
        if (comma == NULL) {
            part = strchr(list, ',') == NULL ? list : part;
            break;
        }
        part = comma + 1;
    }
    *ret = part;
    *ret_length = strcspn(part, ",");
}

static void
look(const struct hf_source_target *node, const struct hf_postgres_patience *patience, struct hf_postgres_node *ret)
{
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    struct hf_postgres_identity identity;
    struct hf_slot_state slot;
    if (!hf_postgres_connect(node, HF_POSTGRES_BACKUP, patience, &conn, &ret->why) ||
        !hf_postgres_identify(conn, node, patience, &identity, &ret->why) ||
        !hf_stream_slot_look(node, node->stream_slot, patience, &slot, &ret->why))
        return;
    ret->reached = true;
    ret->timeline = identity.timeline;
    ret->in_recovery = slot.in_recovery;
    ret->has_slot = slot.exists;
    ret->slot_active = slot.active;
}

static int
by_worth(const void *a, const void *b)
{
    const struct hf_postgres_node *x = a, *y = b;
    if (x->reached != y->reached)
        return x->reached ? -1 : 1;
    if (x->in_recovery != y->in_recovery)
        return x->in_recovery ? 1 : -1;
    if (x->timeline != y->timeline)
        return x->timeline > y->timeline ? -1 : 1;
    return x->host < y->host ? -1 : 1;
}
