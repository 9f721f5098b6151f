#include "server/source/postgres/connection.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>

#include "base/time.h"
#include "server/source/postgres/wal_format.h"

#define CONNECT_MS    30000
#define STEP_MS       100 // how soon a cancelled wait ends
#define SETTINGS_MOST 64  // options in a connection string: libpq knows about 40
#define STATEMENT_MS  "60000"
#define OPTIONS_BYTES 2048
#define SERVER_WORDS  300 // bytes of the server's message that ours quotes

/* Ours win over those of the role and the database, which the source's owner may have chosen oddly. */
#define SQL_OPTIONS                                                                                                    \
    "-c statement_timeout=" STATEMENT_MS " -c lock_timeout=10000 -c search_path=pg_catalog -c datestyle=iso "          \
    "-c timezone=utc -c standard_conforming_strings=on"

/* A link that went silent is noticed within a minute, also where nobody reads or writes. */
static const char *const link_checks[][2] = {
    {"keepalives_idle", "20"}, {"keepalives_interval", "10"}, {"keepalives_count", "4"}, {"tcp_user_timeout", "60000"}};

/* What a server's refusal means.  The first row that fits counts; words are those that no translation changes. */
struct meaning {
    const char *state; // SQLSTATE, its first two characters, or "" for any
    const char *word;  // in the message or its hint, or NULL
    enum hf_error_kind kind;
    const char *hint; // %U the role, %R what stands as database in pg_hba.conf, %A our address
};

static const struct meaning meanings[] = {
    {"", "certificate", HF_ERR_DENIED,
     "Compare the certificate of the source with sslrootcert=... and host=... in the connection string."},
    {"", "does not support SSL", HF_ERR_DENIED,
     "Set ssl = on with a certificate on the source, or name another sslmode in the connection string if the way to it "
     "cannot be listened to."},
    {"28P01", NULL, HF_ERR_DENIED,
     "Check the password in the source's password_file or passfile, and that it has not expired: SELECT rolvaliduntil "
     "FROM pg_roles WHERE "
     "rolname "
     "= '%U'; a new one is set with ALTER ROLE %U PASSWORD '...';"},
    {"28000", "pg_hba.conf", HF_ERR_DENIED,
     "Add this line to pg_hba.conf on the source and run SELECT pg_reload_conf(): %L"},
    {"28000", NULL, HF_ERR_DENIED,
     "Make the role with CREATE ROLE %U LOGIN REPLICATION PASSWORD '...'; and let it in with this line in pg_hba.conf: "
     "%L"},
    {"42501", "REPLICATION", HF_ERR_DENIED, "Run on the source: ALTER ROLE %U REPLICATION;"},
    {"42501", "replication", HF_ERR_DENIED, "Run on the source: ALTER ROLE %U REPLICATION;"},
    {"42501", "WAL sender", HF_ERR_DENIED, "Run on the source: ALTER ROLE %U REPLICATION;"},
    {"42501", "walsender", HF_ERR_DENIED, "Run on the source: ALTER ROLE %U REPLICATION;"},
    {"42501", NULL, HF_ERR_DENIED, ""},
    {"53300", "(currently 0)", HF_ERR_DENIED,
     "Set wal_level = replica and max_wal_senders = 10 in postgresql.conf on the source and restart it."},
    {"53300", "max_wal_senders", HF_ERR_CONFLICT,
     "Raise max_wal_senders by 2 in postgresql.conf on the source and restart it, or end another backup or standby. "
     "SELECT * FROM pg_stat_replication shows who is connected."},
    {"53300", NULL, HF_ERR_CONFLICT,
     "Raise max_connections (or the role's CONNECTION LIMIT) on the source, or close connections."},
    {"53400", "max_replication_slots", HF_ERR_CONFLICT,
     "Raise max_replication_slots in postgresql.conf on the source and restart it, or drop a slot nobody uses: SELECT "
     "slot_name FROM pg_replication_slots WHERE NOT active;"},
    {"55000", "max_replication_slots", HF_ERR_DENIED,
     "Set max_replication_slots = 10 in postgresql.conf on the source and restart it."},
    {"55000", "wal_level", HF_ERR_DENIED, "Set wal_level = replica in postgresql.conf on the source and restart it."},
    {"55000", "full_page_writes", HF_ERR_DENIED,
     "Set full_page_writes = on in postgresql.conf on the primary and reload it, then run CHECKPOINT there."},
    {"57P03", NULL, HF_ERR_UNAVAILABLE, "The server is starting, stopping or recovering: try again when it is up."},
    {"57", NULL, HF_ERR_UNAVAILABLE, ""},
    {"53", NULL, HF_ERR_UNAVAILABLE, ""},
    {"08", NULL, HF_ERR_UNAVAILABLE, ""},
    {"58", NULL, HF_ERR_UNAVAILABLE, "The source could not read one of its own files: its log and disk tell more."},
    {"XX", NULL, HF_ERR_CORRUPT, "The source found damage in its own data: its log tells more."},
    {"3D000", NULL, HF_ERR_USAGE, "Name an existing database with dbname=... in the connection string."},
    {"42", NULL, HF_ERR_USAGE, ""},
    {"22", NULL, HF_ERR_USAGE, ""},
};

/* One refusal, as far as it was understood. */
struct refusal {
    char state[6];   // SQLSTATE, or ""
    char words[512]; // the primary message
    char more[512];  // the server's own hint
};

/* Keywords for libpq, and the strings they point to. */
struct settings {
    const char *keywords[SETTINGS_MOST + 1];
    const char *values[SETTINGS_MOST + 1];
    size_t count;
    char options[OPTIONS_BYTES]; // theirs, then ours
};

static bool connect_as(const struct hf_source_target *target, enum hf_postgres_use use, const char *database,
                       const struct hf_postgres_patience *patience, PGconn **ret, struct hf_error *err);
static bool collect_settings(const struct hf_source_target *target, enum hf_postgres_use use, const char *database,
                             const PQconninfoOption *options, char *password, struct settings *ret,
                             struct hf_error *err);
static void set(struct settings *settings, const char *keyword, const char *value);
static const char *value_of(const struct settings *settings, const char *keyword);
static bool wait_until_connected(PGconn *conn, uint64_t timeout_ms, const struct hf_postgres_patience *patience,
                                 bool *ret_connected, struct hf_error *err);
static uint64_t connect_timeout_ms(PGconn *conn);
static bool fail_connect(const struct hf_source_target *target, PGconn *conn, enum hf_postgres_use use,
                         struct hf_error *err);
static void read_connect_refusal(const char *message, struct refusal *ret);
static void ignore_notice(void *context, const PGresult *result);
static bool check_release(const struct hf_source_target *target, PGconn *conn, struct hf_error *err);
static bool wait_for_bytes(PGconn *conn, short events, int timeout_ms, bool *ret_ready, struct hf_error *err);
static bool wait_for_answer(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing,
                            struct hf_error *err);
static bool fail_lost(PGconn *conn, const char *doing, struct hf_error *err);
static void explain(const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use, struct hf_error *err);
static void add_hint(const char *hint, const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use,
                     struct hf_error *err);
static void format_access_line(const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use, char *line,
                               size_t size);
static bool find_address(const char *words, char *address, size_t size, bool *ret_v6);
static void copy_line(char *to, size_t size, const char *from);

bool
hf_postgres_go_on(const struct hf_postgres_patience *patience, uint64_t silent_since_ns, const char *doing,
                  struct hf_error *err)
{
    if (patience->cancel != NULL && atomic_load_explicit(patience->cancel, memory_order_relaxed))
        return hf_fail(err, HF_ERR_CANCELLED, "cancelled while trying to %s", doing);
    if (patience->other_ended != NULL && atomic_load_explicit(patience->other_ended, memory_order_relaxed))
        return hf_fail(err, HF_ERR_CANCELLED, "could not %s: the other connection of this backup has ended", doing);
    uint64_t silent_ms = (hf_monotonic_ns() - silent_since_ns) / 1000000;
    if (patience->silence_ms > 0 && silent_ms > patience->silence_ms)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: no answer for %" PRIu64 " ms", doing, silent_ms);
    return true;
}

bool
hf_postgres_wait(int socket, short events, const struct hf_postgres_patience *patience, uint64_t silent_since_ns,
                 const char *doing, struct hf_error *err)
{
    struct pollfd waiting = {.fd = socket, .events = events};
    if (!hf_postgres_go_on(patience, silent_since_ns, doing, err))
        return false;
    return poll(&waiting, 1, STEP_MS) >= 0 || errno == EINTR ||
           hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not %s: could not wait for the server", doing);
}

bool
hf_postgres_connect(const struct hf_source_target *target, enum hf_postgres_use use,
                    const struct hf_postgres_patience *patience, PGconn **ret, struct hf_error *err)
{
    return connect_as(target, use, NULL, patience, ret, err);
}

bool
hf_postgres_connect_database(const struct hf_source_target *target, const char *database,
                             const struct hf_postgres_patience *patience, PGconn **ret, struct hf_error *err)
{
    return connect_as(target, HF_POSTGRES_SQL, database, patience, ret, err);
}

void
hf_postgres_closep(PGconn **conn)
{
    PQfinish(*conn);
    *conn = NULL;
}

void
hf_postgres_clearp(PGresult **result)
{
    PQclear(*result);
    *result = NULL;
}

uint32_t
hf_postgres_major(const PGconn *conn)
{
    return (uint32_t)PQserverVersion(conn) / 10000;
}

bool
hf_postgres_query(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, const char *sql,
                  const char *const *values, int value_count, PGresult **ret, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;

    if (!PQsendQueryParams(conn, sql, value_count, NULL, values, NULL, NULL, 0))
        return fail_lost(conn, doing, err);
    if (!hf_postgres_next(conn, patience, doing, PGRES_TUPLES_OK, &rows, err)) {
        struct hf_error unheard;
        (void)!hf_postgres_finish(conn, patience, doing, &unheard); // so that the connection can be used again
        return false;
    }
    if (!hf_postgres_finish(conn, patience, doing, err))
        return false;
    *ret = HF_TAKE(rows);
    return true;
}

bool
hf_postgres_send(PGconn *conn, const char *doing, const char *command, struct hf_error *err)
{
    return PQsendQuery(conn, command) ? true : fail_lost(conn, doing, err);
}

bool
hf_postgres_next(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, ExecStatusType wanted,
                 PGresult **ret, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *result = NULL;

    if (!hf_postgres_next_any(conn, patience, doing, &result, err))
        return false;
    if (PQresultStatus(result) != wanted)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server answered %s instead of %s", doing,
                       PQresStatus(PQresultStatus(result)), PQresStatus(wanted));
    *ret = HF_TAKE(result);
    return true;
}

bool
hf_postgres_next_any(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, PGresult **ret,
                     struct hf_error *err)
{
    if (!wait_for_answer(conn, patience, doing, err))
        return false;

    _cleanup_(hf_postgres_clearp) PGresult *result = PQgetResult(conn);
    if (result == NULL) {
        if (PQstatus(conn) == CONNECTION_BAD)
            return fail_lost(conn, doing, err);
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server's answer ended too early", doing);
    }
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_FATAL_ERROR || status == PGRES_NONFATAL_ERROR || status == PGRES_BAD_RESPONSE)
        return hf_postgres_fail_result(conn, result, doing, err);
    *ret = HF_TAKE(result);
    return true;
}

bool
hf_postgres_finish(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, struct hf_error *err)
{
    bool ok = true;

    for (;;) {
        if (!wait_for_answer(conn, patience, doing, ok ? err : NULL))
            return false;
        _cleanup_(hf_postgres_clearp) PGresult *result = PQgetResult(conn);
        if (result == NULL)
            break;
        ExecStatusType status = PQresultStatus(result);
        if (ok && status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
            ok = hf_postgres_fail_result(conn, result, doing, err);
        if (status == PGRES_COPY_OUT || status == PGRES_COPY_BOTH || status == PGRES_COPY_IN) // would never end
            return ok ? hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the server began another copy", doing) : false;
    }
    if (ok && PQstatus(conn) == CONNECTION_BAD)
        return fail_lost(conn, doing, err);
    return ok;
}

bool
hf_postgres_copy_next(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, int wait_ms,
                      char **ret, int *ret_length, struct hf_error *err)
{
    uint64_t since = hf_monotonic_ns();

    bool looked = false;

    for (;;) {
        if (!hf_postgres_go_on(patience, since, doing, err))
            return false;

        char *data = NULL;
        int length = PQgetCopyData(conn, &data, 1);
        if (length > 0 || length == -1) {
            *ret = data;
            *ret_length = length;
            return true;
        }
        if (length == -2)
            return fail_lost(conn, doing, err);

        // At full speed the next bytes are here already: to ask first would double the calls to the kernel.
        if (!looked) {
            if (!PQconsumeInput(conn))
                return fail_lost(conn, doing, err);
            looked = true;
            continue;
        }
        int waited_ms = (int)((hf_monotonic_ns() - since) / 1000000);
        if (wait_ms >= 0 && waited_ms >= wait_ms) {
            *ret = NULL;
            *ret_length = 0;
            return true;
        }
        int step_ms = wait_ms >= 0 && wait_ms - waited_ms < STEP_MS ? wait_ms - waited_ms : STEP_MS;
        bool ready;
        if (!wait_for_bytes(conn, POLLIN, step_ms, &ready, err))
            return hf_fail_within(err, "could not %s", doing);
        if (ready && !PQconsumeInput(conn))
            return fail_lost(conn, doing, err);
    }
}

bool
hf_postgres_fail_result(PGconn *conn, const PGresult *result, const char *doing, struct hf_error *err)
{
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    const char *words = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    const char *more = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);

    if (state == NULL || words == NULL)
        return fail_lost(conn, doing, err);
    return hf_postgres_fail_refused(conn, state, words, more, doing, err);
}

bool
hf_postgres_fail_refused(PGconn *conn, const char *state, const char *words, const char *more, const char *doing,
                         struct hf_error *err)
{
    struct refusal refusal = {0};
    char cut[SERVER_WORDS];

    copy_line(refusal.state, sizeof refusal.state, state);
    copy_line(refusal.words, sizeof refusal.words, words);
    copy_line(refusal.more, sizeof refusal.more, more == NULL ? "" : more);
    copy_line(cut, sizeof cut, words);
    hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: %s (%s)", doing, cut, refusal.state);
    explain(&refusal, conn, HF_POSTGRES_BACKUP, err);
    return false;
}

bool
hf_postgres_identify(PGconn *conn, const struct hf_source_target *target, const struct hf_postgres_patience *patience,
                     struct hf_postgres_identity *ret, struct hf_error *err)
{
    static const char doing[] = "identify the server";
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    struct hf_postgres_identity identity;
    uint64_t timeline;
    const char *lsn;

    if (!hf_postgres_send(conn, doing, "IDENTIFY_SYSTEM", err) ||
        !hf_postgres_next(conn, patience, doing, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_finish(conn, patience, doing, err) ||
        !hf_postgres_field_number(row, 0, 0, "system identifier", UINT64_MAX, &identity.system_identifier, err) ||
        !hf_postgres_field_number(row, 0, 1, "timeline", UINT32_MAX, &timeline, err) ||
        !hf_postgres_field(row, 0, 2, "position", &lsn, err) || !hf_lsn_parse(lsn, &identity.flushed_lsn, err))
        return false;
    if (timeline == 0)
        return hf_fail(err, HF_ERR_CORRUPT, "the server says it is on timeline 0");

    char text[HF_SOURCE_IDENTITY_BYTES];
    snprintf(text, sizeof text, "%" PRIu64, identity.system_identifier);
    if (target->identity != NULL && strcmp(target->identity, text) != 0)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is now another database: its system identifier is %s, it was %s",
                       target->name, text, target->identity) ||
               hf_fail_hint(err,
                            "If the server was replaced, upgraded or made anew, add it as a new source under another "
                            "name: \"holdfast source add\". Nothing was stored.");
    identity.timeline = (uint32_t)timeline;
    if (identity.timeline < target->newest_timeline)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is on timeline %u, and its log is known up to timeline %u",
                       target->name, identity.timeline, target->newest_timeline) ||
               hf_fail_hint(err, "It was the primary before another was promoted, or follows one that was. Name the "
                                 "present primary, or all nodes of the cluster, in the connection string.");
    *ret = identity;
    return true;
}

bool
hf_postgres_show(PGconn *conn, const struct hf_postgres_patience *patience, const char *setting, char *ret, size_t size,
                 struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    char command[80], doing[80];
    const char *value;

    snprintf(command, sizeof command, "SHOW %s", setting); // a name of ours, never of a stranger
    snprintf(doing, sizeof doing, "read the setting \"%s\"", setting);
    if (!hf_postgres_send(conn, doing, command, err) ||
        !hf_postgres_next(conn, patience, doing, PGRES_TUPLES_OK, &row, err) ||
        !hf_postgres_finish(conn, patience, doing, err) || !hf_postgres_field(row, 0, 0, setting, &value, err))
        return false;
    if (strlen(value) >= size)
        return hf_fail(err, HF_ERR_CORRUPT, "the setting \"%s\" is longer than %zu bytes", setting, size - 1);
    strcpy(ret, value);
    return true;
}

bool
hf_postgres_show_bytes(PGconn *conn, const struct hf_postgres_patience *patience, const char *setting, uint64_t *ret,
                       struct hf_error *err)
{
    static const struct {
        const char *name;
        unsigned shift;
    } units[] = {{"", 0}, {"B", 0}, {"kB", 10}, {"MB", 20}, {"GB", 30}, {"TB", 40}};
    char text[32];

    if (!hf_postgres_show(conn, patience, setting, text, sizeof text, err))
        return false;
    size_t digits = strspn(text, "0123456789");
    char number[32];
    snprintf(number, sizeof number, "%.*s", (int)digits, text);
    uint64_t value;
    if (hf_postgres_parse_number(number, UINT32_MAX, &value))
        for (size_t i = 0; i < HF_LENGTH(units); i++)
            if (strcmp(text + digits, units[i].name) == 0) {
                *ret = value << units[i].shift;
                return true;
            }
    return hf_fail(err, HF_ERR_CORRUPT, "the setting \"%s\" is \"%s\", which is no size", setting, text);
}

bool
hf_postgres_field(const PGresult *result, int row, int column, const char *what, const char **ret, struct hf_error *err)
{
    if (row >= PQntuples(result) || column >= PQnfields(result) || PQgetisnull(result, row, column))
        return hf_fail(err, HF_ERR_CORRUPT, "the server's answer has no %s", what);
    *ret = PQgetvalue(result, row, column);
    return true;
}

bool
hf_postgres_field_number(const PGresult *result, int row, int column, const char *what, uint64_t most, uint64_t *ret,
                         struct hf_error *err)
{
    const char *text;
    if (!hf_postgres_field(result, row, column, what, &text, err))
        return false;
    if (!hf_postgres_parse_number(text, most, ret))
        return hf_fail(err, HF_ERR_CORRUPT, "the server's %s is \"%.64s\", which is no number up to %" PRIu64, what,
                       text, most);
    return true;
}

bool
hf_postgres_parse_number(const char *text, uint64_t most, uint64_t *ret)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 20 || text[digits] != '\0')
        return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno != 0 || value > most)
        return false;
    *ret = value;
    return true;
}

const char *
hf_postgres_quote_name(const char *name, char *text, size_t size)
{
    size_t plain = strspn(name, "abcdefghijklmnopqrstuvwxyz_0123456789");
    if (name[0] != '\0' && name[plain] == '\0' && !isdigit((unsigned char)name[0])) {
        snprintf(text, size, "%s", name);
        return text;
    }

    size_t at = 0;
    text[at++] = '"';
    for (const char *c = name; *c != '\0' && at + 4 < size; c++) {
        if (*c == '"')
            text[at++] = '"';
        text[at++] = *c;
    }
    text[at++] = '"';
    text[at] = '\0';
    return text;
}

bool
hf_postgres_check_label(const char *label, size_t most, struct hf_error *err)
{
    size_t length = strlen(label);
    if (length == 0 || length > most ||
        strspn(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 ._:-") != length)
        return hf_fail(err, HF_ERR_USAGE, "the label \"%.100s\" is not 1 to %zu letters, digits, spaces and . _ : -",
                       label, most);
    return true;
}

bool
hf_postgres_check_slot_tag(const char *tag, struct hf_error *err)
{
    size_t length = strlen(tag);
    if (length == 0 || length >= HF_SOURCE_SLOT_TAG_BYTES ||
        strspn(tag, "abcdefghijklmnopqrstuvwxyz0123456789_") != length)
        return hf_fail(err, HF_ERR_USAGE, "the slot tag \"%.100s\" is not 1 to %d of a-z, 0-9 and _", tag,
                       HF_SOURCE_SLOT_TAG_BYTES - 1);
    return true;
}

static bool
connect_as(const struct hf_source_target *target, enum hf_postgres_use use, const char *database,
           const struct hf_postgres_patience *patience, PGconn **ret, struct hf_error *err)
{
    char *problem = NULL;
    PQconninfoOption *options = PQconninfoParse(target->conninfo, &problem);
    if (options == NULL) {
        hf_fail(err, HF_ERR_USAGE, "the connection string of \"%s\" cannot be read: %.200s", target->name,
                problem == NULL ? "out of memory" : problem);
        PQfreemem(problem);
        return false;
    }

    struct hf_secret password = {0}; // with the NUL that libpq wants
    struct settings settings = {0};
    PGconn *started = NULL;
    bool ok = target->password == NULL || hf_secret_init(&password, target->password->length + 1, err);
    if (ok && target->password != NULL)
        memcpy(password.bytes, target->password->bytes, target->password->length);
    ok = ok && collect_settings(target, use, database, options, (char *)password.bytes, &settings, err);
    if (ok)
        started = PQconnectStartParams(settings.keywords, settings.values, 0);
    PQconninfoFree(options);
    hf_secret_done(&password);
    if (!ok)
        return false;

    _cleanup_(hf_postgres_closep) PGconn *conn = started;
    if (conn == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a connection to \"%s\"", target->name);
    PQsetErrorVerbosity(conn, PQERRORS_VERBOSE); // so that a refusal carries its SQLSTATE, whatever its language
    PQsetNoticeReceiver(conn, ignore_notice, NULL);

    bool connected;
    if (!wait_until_connected(conn, connect_timeout_ms(conn), patience, &connected, err))
        return hf_fail_within(err, "could not connect to \"%s\"", target->name);
    if (!connected)
        return fail_connect(target, conn, use, err);
    PQsetErrorVerbosity(conn, PQERRORS_DEFAULT);
    if (!check_release(target, conn, err))
        return false;
    *ret = HF_TAKE(conn);
    return true;
}

/* What the connection string says, and what we need on top of it. */
static bool
collect_settings(const struct hf_source_target *target, enum hf_postgres_use use, const char *database,
                 const PQconninfoOption *options, char *password, struct settings *ret, struct hf_error *err)
{
    for (const PQconninfoOption *option = options; option->keyword != NULL; option++) {
        if (option->val == NULL)
            continue;
        if (ret->count + 16 > SETTINGS_MOST)
            return hf_fail(err, HF_ERR_USAGE, "the connection string of \"%s\" has more than %d settings", target->name,
                           SETTINGS_MOST - 16);
        set(ret, option->keyword, option->val);
    }

    if (password != NULL)
        set(ret, "password", password);
    if (use == HF_POSTGRES_SQL) {
        const char *theirs = value_of(ret, "options");
        int length = snprintf(ret->options, sizeof ret->options, "%s " SQL_OPTIONS, theirs == NULL ? "" : theirs);
        if (length < 0 || (size_t)length >= sizeof ret->options)
            return hf_fail(err, HF_ERR_USAGE,
                           "the options in the connection string of \"%s\" are longer than %zu bytes", target->name,
                           sizeof ret->options - sizeof SQL_OPTIONS);
        set(ret, "options", ret->options);
        set(ret, "application_name", "holdfast");
    } else {
        set(ret, "replication", "true");
        // Of another name than the archive's stream: a backup must never be taken for a synchronous standby.
        // The stream's name stands in synchronous_standby_names, so its owner may choose it.
        if (use != HF_POSTGRES_STREAM || value_of(ret, "application_name") == NULL)
            set(ret, "application_name",
                use == HF_POSTGRES_BACKUP   ? "holdfast"
                : use == HF_POSTGRES_STREAM ? HF_POSTGRES_STREAM_NAME
                                            : "holdfast_backup_wal");
    }
    set(ret, "client_encoding", "UTF8");
    if (database != NULL)
        set(ret, "dbname", database);
    else if (use == HF_POSTGRES_SQL && value_of(ret, "dbname") == NULL && value_of(ret, "service") == NULL)
        set(ret, "dbname", "postgres");
    for (size_t i = 0; i < HF_LENGTH(link_checks); i++)
        if (value_of(ret, link_checks[i][0]) == NULL)
            set(ret, link_checks[i][0], link_checks[i][1]);
    return true;
}

/* Replaces an earlier value. */
static void
set(struct settings *settings, const char *keyword, const char *value)
{
    for (size_t i = 0; i < settings->count; i++)
        if (strcmp(settings->keywords[i], keyword) == 0) {
            settings->values[i] = value;
            return;
        }
    settings->keywords[settings->count] = keyword;
    settings->values[settings->count++] = value;
}

/* NULL when it is not set, or empty, which libpq takes for the same. */
static const char *
value_of(const struct settings *settings, const char *keyword)
{
    for (size_t i = 0; i < settings->count; i++)
        if (strcmp(settings->keywords[i], keyword) == 0 && settings->values[i][0] != '\0')
            return settings->values[i];
    return NULL;
}

static bool
wait_until_connected(PGconn *conn, uint64_t timeout_ms, const struct hf_postgres_patience *patience,
                     bool *ret_connected, struct hf_error *err)
{
    uint64_t since = hf_monotonic_ns();
    PostgresPollingStatusType state = PGRES_POLLING_WRITING; // as libpq says: as if it had asked to write
    const struct hf_postgres_patience connecting = {patience->cancel, patience->other_ended, (uint32_t)timeout_ms};

    if (PQstatus(conn) == CONNECTION_BAD)
        state = PGRES_POLLING_FAILED;
    while (state != PGRES_POLLING_OK && state != PGRES_POLLING_FAILED) {
        bool ready;
        if (!hf_postgres_go_on(&connecting, since, "connect", err) ||
            !wait_for_bytes(conn, state == PGRES_POLLING_READING ? POLLIN : POLLOUT, STEP_MS, &ready, err))
            return false;
        if (ready)
            state = PQconnectPoll(conn);
    }
    *ret_connected = state == PGRES_POLLING_OK;
    return true;
}

static uint64_t
connect_timeout_ms(PGconn *conn)
{
    uint64_t seconds = 0;
    PQconninfoOption *options = PQconninfo(conn);

    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        if (strcmp(option->keyword, "connect_timeout") == 0 && option->val != NULL &&
            !hf_postgres_parse_number(option->val, 3600, &seconds))
            seconds = 0;
    PQconninfoFree(options);
    return seconds == 0 ? CONNECT_MS : seconds * 1000;
}

static bool
fail_connect(const struct hf_source_target *target, PGconn *conn, enum hf_postgres_use use, struct hf_error *err)
{
    struct refusal refusal;
    char words[SERVER_WORDS];

    read_connect_refusal(PQerrorMessage(conn), &refusal);
    copy_line(words, sizeof words, refusal.words);
    if (PQconnectionNeedsPassword(conn))
        return hf_fail(err, HF_ERR_DENIED,
                       "could not connect to \"%s\": the server asks for a password and none was given",
                       target->name) ||
               hf_fail_hint(err,
                            "Put it alone into a file of mode 0600 and name that file in the source's password_file; "
                            "libpq's passfile=... in the connection string works as well.");

    hf_fail(err, HF_ERR_UNAVAILABLE, "could not connect to \"%s\": %s", target->name, words);
    explain(&refusal, conn, use, err);
    return false;
}

/* "connection to server at ... failed: FATAL:  28P01: password authentication failed ...": the state and the rest. */
static void
read_connect_refusal(const char *message, struct refusal *ret)
{
    *ret = (struct refusal){0};
    for (const char *at = strstr(message, ":  "); at != NULL; at = strstr(at + 1, ":  ")) {
        const char *state = at + 3;
        if (strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 || state[5] != ':' || state[6] != ' ')
            continue;
        memcpy(ret->state, state, 5);
        copy_line(ret->words, sizeof ret->words, state + 7);
        return;
    }
    copy_line(ret->words, sizeof ret->words, message);
}

static void
ignore_notice(__attribute__((unused)) void *context, __attribute__((unused)) const PGresult *result)
{
}

static bool
check_release(const struct hf_source_target *target, PGconn *conn, struct hf_error *err)
{
    uint32_t major = hf_postgres_major(conn);
    const char *text = PQparameterStatus(conn, "server_version");

    if (major < HF_POSTGRES_OLDEST)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" runs PostgreSQL %.32s, which is too old: %d is the oldest supported",
                       target->name, text == NULL ? "of no version" : text, HF_POSTGRES_OLDEST);
    if (major > HF_POSTGRES_NEWEST)
        return hf_fail(err, HF_ERR_USAGE,
                       "\"%s\" runs PostgreSQL %.32s, which is newer than this Holdfast: it knows up to %d",
                       target->name, text == NULL ? "of no version" : text, HF_POSTGRES_NEWEST);
    return true;
}

static bool
wait_for_bytes(PGconn *conn, short events, int timeout_ms, bool *ret_ready, struct hf_error *err)
{
    struct pollfd waiting = {.fd = PQsocket(conn), .events = events};
    int count = poll(&waiting, 1, timeout_ms);
    if (count < 0 && errno != EINTR)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not wait for the server");
    *ret_ready = count > 0;
    return true;
}

/* Until PQgetResult would not block. */
static bool
wait_for_answer(PGconn *conn, const struct hf_postgres_patience *patience, const char *doing, struct hf_error *err)
{
    uint64_t since = hf_monotonic_ns();

    while (PQisBusy(conn)) {
        bool ready;
        if (!hf_postgres_go_on(patience, since, doing, err))
            return false;
        if (!wait_for_bytes(conn, POLLIN, STEP_MS, &ready, err))
            return hf_fail_within(err, "could not %s", doing);
        if (ready && !PQconsumeInput(conn))
            return fail_lost(conn, doing, err);
        if (ready)
            since = hf_monotonic_ns();
    }
    return true;
}

static bool
fail_lost(PGconn *conn, const char *doing, struct hf_error *err)
{
    char words[SERVER_WORDS];
    copy_line(words, sizeof words, PQerrorMessage(conn));
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: the connection was lost: %s", doing, words);
}

/* Sets the kind and the hint of an error whose message stands already. */
static void
explain(const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use, struct hf_error *err)
{
    if (err == NULL)
        return;
    for (size_t i = 0; i < HF_LENGTH(meanings); i++) {
        const struct meaning *meaning = &meanings[i];
        if (strncmp(refusal->state, meaning->state, strlen(meaning->state)) != 0)
            continue;
        if (meaning->word != NULL && strstr(refusal->words, meaning->word) == NULL &&
            strstr(refusal->more, meaning->word) == NULL)
            continue;
        err->kind = meaning->kind;
        add_hint(meaning->hint, refusal, conn, use, err);
        return;
    }
}

static void
add_hint(const char *hint, const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use, struct hf_error *err)
{
    char text[HF_ERROR_HINT_BYTES], role[140], line[512];
    size_t at = 0;

    hf_postgres_quote_name(PQuser(conn) == NULL ? "" : PQuser(conn), role, sizeof role);
    format_access_line(refusal, conn, use, line, sizeof line);
    for (const char *c = hint; *c != '\0' && at + 1 < sizeof text; c++) {
        const char *insert = c[0] != '%' ? NULL : c[1] == 'U' ? role : c[1] == 'L' ? line : NULL;
        if (insert == NULL) {
            text[at++] = *c;
            continue;
        }
        at += (size_t)snprintf(text + at, sizeof text - at, "%s", insert);
        at = at < sizeof text ? at : sizeof text - 1;
        c++;
    }
    text[at] = '\0';
    if (at > 0)
        hf_fail_hint(err, "%s", text);
}

/* The line of pg_hba.conf that would have let us in. */
static void
format_access_line(const struct refusal *refusal, PGconn *conn, enum hf_postgres_use use, char *line, size_t size)
{
    char role[140], database[140], address[INET6_ADDRSTRLEN];
    bool v6;

    hf_postgres_quote_name(PQuser(conn) == NULL ? "" : PQuser(conn), role, sizeof role);
    hf_postgres_quote_name(PQdb(conn) == NULL ? "" : PQdb(conn), database, sizeof database);
    const char *what = use == HF_POSTGRES_SQL ? database : "replication";
    if (find_address(refusal->words, address, sizeof address, &v6))
        snprintf(line, size, "host %s %s %s/%d scram-sha-256", what, role, address, v6 ? 128 : 32);
    else if (PQhost(conn) != NULL && PQhost(conn)[0] == '/')
        snprintf(line, size, "local %s %s scram-sha-256", what, role);
    else
        snprintf(line, size, "host %s %s <address of this appliance>/32 scram-sha-256", what, role);
}

/* The first quoted word that is an address: the server names where it saw us come from. */
static bool
find_address(const char *words, char *address, size_t size, bool *ret_v6)
{
    for (const char *open = strchr(words, '"'); open != NULL; open = strchr(open + 1, '"')) {
        size_t length = strcspn(open + 1, "\"");
        uint8_t parsed[sizeof(struct in6_addr)];
        if (length == 0 || length >= size)
            continue;
        memcpy(address, open + 1, length);
        address[length] = '\0';
        *ret_v6 = inet_pton(AF_INET6, address, parsed) == 1;
        if (*ret_v6 || inet_pton(AF_INET, address, parsed) == 1)
            return true;
    }
    return false;
}

/* The first line, without trailing space, cut to fit. */
static void
copy_line(char *to, size_t size, const char *from)
{
    size_t length = strcspn(from, "\n");
    while (length > 0 && isspace((unsigned char)from[length - 1]))
        length--;
    length = length < size ? length : size - 1;
    memcpy(to, from, length);
    to[length] = '\0';
}
