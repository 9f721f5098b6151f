#include "server/source/postgres/doctor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

#include "server/source/postgres/doctor_internal.h"

#define SENDERS_NEEDED 2 // BASE_BACKUP, and the log beside it
#define SLOTS_NEEDED   1

static const struct hf_postgres_patience patience = {.silence_ms = DOCTOR_ANSWER_MS};

static bool check_connection(struct doctor *doctor, struct hf_error *err);
static void check_password_place(struct doctor *doctor);
static void check_direct_connection(struct doctor *doctor);
static void check_replication_right(struct doctor *doctor);
static void check_wal_level(struct doctor *doctor);
static void check_wal_senders(struct doctor *doctor);
static void check_replication_slots(struct doctor *doctor);
static void check_full_page_writes(struct doctor *doctor);
static void check_fsync(struct doctor *doctor);
static void check_data_checksums(struct doctor *doctor);
static void check_block_size(struct doctor *doctor);
static void check_standby(struct doctor *doctor);
static void check_tls(struct doctor *doctor);
static void check_settings_visible(struct doctor *doctor);
static void check_access_rules_visible(struct doctor *doctor);
static void check_config_files_readable(struct doctor *doctor);
static void check_tablespaces(struct doctor *doctor);
static void check_extensions(struct doctor *doctor);
static bool list_missing_extensions(struct doctor *doctor, const char *database, struct hf_buf *missing,
                                    struct hf_error *err);
static void check_locales(struct doctor *doctor);
static void check_replication_connection(struct doctor *doctor);
static void check_system_identifier(struct doctor *doctor, const struct hf_postgres_identity *identity);

static bool ask_switch(struct doctor *doctor, struct hf_check *check, const char *setting, bool *ret_on);
static const char *connection_setting(PGconn *conn, const char *keyword, char *text, size_t size);

bool
hf_postgres_doctor(const struct hf_source_target *target, const struct hf_appliance_abilities *abilities,
                   struct hf_checks *ret, struct hf_error *err)
{
    static void (*const checks[])(struct doctor *) = {
        check_password_place,
        check_direct_connection,
        check_replication_right,
        check_wal_level,
        check_wal_senders,
        check_replication_slots,
        doctor_check_slot_wal_limit,
        doctor_check_leftover_slots,
        doctor_check_stream_slot,
        doctor_check_synchronous,
        doctor_check_clock,
        check_full_page_writes,
        check_fsync,
        check_data_checksums,
        check_block_size,
        check_standby,
        check_tls,
        check_settings_visible,
        check_access_rules_visible,
        check_config_files_readable,
        check_tablespaces,
        check_extensions,
        check_locales,
        check_replication_connection,
    };
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    struct doctor doctor = {.target = target, .abilities = abilities, .checks = ret};

    ret->count = 0;
    if (!hf_postgres_check_slot_tag(target->slot_tag, err))
        return false;
    if (!check_connection(&doctor, err))
        return false;
    conn = doctor.conn;
    for (size_t i = 0; conn != NULL && i < HF_LENGTH(checks); i++)
        checks[i](&doctor);
    return true;
}

/* Without it nothing else can be found out.  False only for errors that are no finding. */
static bool
check_connection(struct doctor *doctor, struct hf_error *err)
{
    struct hf_check *check =
        doctor_add(doctor, "connection", "The server can be reached, and its release is supported");
    struct hf_error why;

    PQconninfoOption *options = PQconninfoParse(doctor->target->conninfo, NULL);
    if (options == NULL)
        return hf_fail(err, HF_ERR_USAGE, "the connection string of \"%s\" cannot be read", doctor->target->name);
    PQconninfoFree(options);
    if (!hf_postgres_connect(doctor->target, HF_POSTGRES_SQL, &patience, &doctor->conn, &why)) {
        doctor_find_error(check, HF_CHECK_FAILED, &why);
        return true;
    }
    hf_postgres_quote_name(PQuser(doctor->conn), doctor->role, sizeof doctor->role);
    doctor_find(check, HF_CHECK_OK, "PostgreSQL %s, as %s, on %s", PQparameterStatus(doctor->conn, "server_version"),
                doctor->role, PQhost(doctor->conn) == NULL ? "the default host" : PQhost(doctor->conn));
    return true;
}

static void
check_password_place(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "password_place", "No password stands in the connection string");
    PQconninfoOption *options = PQconninfoParse(doctor->target->conninfo, NULL);
    bool found = false;

    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        found = found || (strcmp(option->keyword, "password") == 0 && option->val != NULL);
    PQconninfoFree(options);
    if (found) {
        doctor_find(check, HF_CHECK_WARNING, "the connection string holds the password");
        doctor_mend(check,
                    "Put it into a file of mode 0600 with the line host:port:*:%s:password and name that file with "
                    "passfile=... in the connection string.",
                    doctor->role);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "there is none");
}

/* A pooler between us and the server hands statements to sessions as it likes: no backup goes through one. */
static void
check_direct_connection(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "direct_connection", "There is no connection pooler in between");
    int64_t pid;

    if (!doctor_ask_numbers(doctor, check, "SELECT pg_backend_pid()", &pid, 1))
        return;
    if (pid != PQbackendPID(doctor->conn)) {
        doctor_find(check, HF_CHECK_FAILED, "the session that answers is not the one that was opened");
        doctor_mend(check, "Name the database server itself in the connection string, not the pooler.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the server answers itself");
}

static void
check_replication_right(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "replication_right", "The role may take backups");
    char text[8];

    if (!doctor_ask_text(doctor, check, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user",
                         text, sizeof text))
        return;
    if (text[0] != 't') {
        doctor_find(check, HF_CHECK_FAILED, "the role %s has no REPLICATION attribute", doctor->role);
        doctor_mend(check, "Run on the source: ALTER ROLE %s REPLICATION;", doctor->role);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the role %s has REPLICATION", doctor->role);
}

static void
check_wal_level(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "wal_level", "The log holds what a backup needs");
    char level[32];

    if (!doctor_ask_text(doctor, check, "SHOW wal_level", level, sizeof level))
        return;
    if (strcmp(level, "minimal") == 0) {
        doctor_find(check, HF_CHECK_FAILED, "wal_level is minimal");
        doctor_mend(
            check, "Set wal_level = replica and max_wal_senders = 10 in postgresql.conf on the source and restart it.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "wal_level is %s", level);
}

static void
check_wal_senders(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "wal_senders", "Two WAL senders are free");
    int64_t numbers[2];

    if (!doctor_ask_numbers(
            doctor, check,
            "SELECT current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_stat_replication)", numbers, 2))
        return;
    int64_t most = numbers[0], used = numbers[1];
    if (most - used < SENDERS_NEEDED) {
        doctor_find(check, HF_CHECK_FAILED, "%" PRId64 " of %" PRId64 " WAL senders are taken, a backup needs %d", used,
                    most, SENDERS_NEEDED);
        doctor_mend(check, "Set max_wal_senders = %" PRId64 " in postgresql.conf on the source and restart it.",
                    used + SENDERS_NEEDED + 2);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "%" PRId64 " of %" PRId64 " are taken", used, most);
}

static void
check_replication_slots(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "replication_slots", "A replication slot is free");
    int64_t numbers[2];

    if (!doctor_ask_numbers(
            doctor, check,
            "SELECT current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_replication_slots)",
            numbers, 2))
        return;
    int64_t most = numbers[0], used = numbers[1];
    if (most - used < SLOTS_NEEDED) {
        doctor_find(check, HF_CHECK_FAILED,
                    "%" PRId64 " of %" PRId64 " replication slots exist, a backup needs %d more", used, most,
                    SLOTS_NEEDED);
        doctor_mend(check,
                    "Set max_replication_slots = %" PRId64 " in postgresql.conf on the source and restart it, or drop "
                    "a slot nobody uses: SELECT slot_name FROM pg_replication_slots WHERE NOT active;",
                    used + SLOTS_NEEDED + 2);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "%" PRId64 " of %" PRId64 " exist", used, most);
}

static void
check_full_page_writes(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "full_page_writes", "Torn pages can be repaired from the log");
    bool on;

    if (!ask_switch(doctor, check, "full_page_writes", &on))
        return;
    if (!on) {
        doctor_find(check, HF_CHECK_WARNING,
                    "full_page_writes is off: a crash of the source can damage it for good, and a "
                    "backup of a standby is not possible");
        doctor_mend(check,
                    "Set full_page_writes = on in postgresql.conf on the source and run SELECT pg_reload_conf();");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "full_page_writes is on");
}

static void
check_fsync(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "fsync", "The source waits for its disk");
    bool on;

    if (!ask_switch(doctor, check, "fsync", &on))
        return;
    if (!on) {
        doctor_find(check, HF_CHECK_WARNING,
                    "fsync is off: a power failure of the source loses committed data, which no "
                    "backup can bring back");
        doctor_mend(check, "Set fsync = on in postgresql.conf on the source and run SELECT pg_reload_conf();");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "fsync is on");
}

static void
check_data_checksums(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "data_checksums", "Pages carry checksums");
    bool on;

    if (!ask_switch(doctor, check, "data_checksums", &on))
        return;
    if (!on) {
        doctor_find(check, HF_CHECK_WARNING,
                    "data_checksums is off: a page the disk has altered is noticed only when its "
                    "header is hit, or in the sandbox");
        doctor_mend(check,
                    "Stop the source and run pg_checksums --enable -D on its data directory (it reads everything).");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "data_checksums is on");
}

static void
check_block_size(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "block_size", "The page size is supported");
    char size[16];

    if (!doctor_ask_text(doctor, check, "SHOW block_size", size, sizeof size))
        return;
    if (strcmp(size, "8192") != 0) {
        doctor_find(check, HF_CHECK_FAILED, "the server was built with pages of %s bytes, only 8192 is supported",
                    size);
        doctor_mend(check, "There is none but to move the data to a server built with pages of 8192 bytes.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "8192 bytes");
}

static void
check_standby(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "standby", "The source is the primary");
    char text[8];

    if (!doctor_ask_text(doctor, check, "SELECT pg_is_in_recovery()", text, sizeof text))
        return;
    if (text[0] == 't') {
        doctor_find(check, HF_CHECK_WARNING,
                    "it is a standby: a backup waits for log from the primary to end, and fails when "
                    "the standby is promoted");
        doctor_mend(
            check,
            "That is fine when it is meant.  On a quiet primary run SELECT pg_switch_wal(); while a backup waits.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "it is no standby");
}

static void
check_tls(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "tls", "The way to the source is encrypted and its name is checked");
    const char *host = PQhost(doctor->conn);
    char mode[32];

    if (host != NULL && host[0] == '/') {
        doctor_find(check, HF_CHECK_OK, "a Unix socket: it leaves no host");
        return;
    }
    connection_setting(doctor->conn, "sslmode", mode, sizeof mode);
    if (!PQsslInUse(doctor->conn)) {
        doctor_find(check, HF_CHECK_WARNING,
                    "the connection is not encrypted: whoever is on the way reads all data (sslmode is %s)", mode);
        doctor_mend(check,
                    "Set ssl = on with a certificate on the source, and sslmode=verify-full with sslrootcert=... in "
                    "the connection string.");
        return;
    }
    if (strcmp(mode, "verify-full") != 0) {
        doctor_find(check, HF_CHECK_WARNING,
                    "it is encrypted (%s), but the server's name is not checked: sslmode is %s",
                    PQsslAttribute(doctor->conn, "protocol"), mode);
        doctor_mend(check, "Put sslmode=verify-full and sslrootcert=... into the connection string.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "%s, and the certificate names the host", PQsslAttribute(doctor->conn, "protocol"));
}

static void
check_settings_visible(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "settings_visible", "All settings can be captured");
    char text[8];

    if (!doctor_ask_text(doctor, check, "SELECT pg_has_role(current_user, 'pg_read_all_settings', 'USAGE')", text,
                         sizeof text))
        return;
    if (text[0] != 't') {
        doctor_find(check, HF_CHECK_WARNING, "some settings are hidden from the role %s: a restore lacks them",
                    doctor->role);
        doctor_mend(check, "Run on the source: GRANT pg_read_all_settings TO %s;", doctor->role);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the role %s may read them all", doctor->role);
}

static void
check_access_rules_visible(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "access_rules_visible", "The access rules can be captured");
    char text[8];

    if (!doctor_ask_text(doctor, check,
                         "SELECT has_function_privilege('pg_hba_file_rules()', 'EXECUTE') AND "
                         "has_table_privilege('pg_hba_file_rules', 'SELECT') AND "
                         "has_function_privilege('pg_show_all_file_settings()', 'EXECUTE') AND "
                         "has_table_privilege('pg_file_settings', 'SELECT')",
                         text, sizeof text))
        return;
    if (text[0] != 't') {
        doctor_find(check, HF_CHECK_WARNING, "pg_hba_file_rules or pg_file_settings is hidden from the role %s",
                    doctor->role);
        doctor_mend(check,
                    "Run in the database \"%s\": GRANT EXECUTE ON FUNCTION pg_hba_file_rules(), "
                    "pg_show_all_file_settings() TO %s; GRANT SELECT ON pg_hba_file_rules, pg_file_settings TO %s;",
                    PQdb(doctor->conn), doctor->role, doctor->role);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the role %s may read them", doctor->role);
}

static void
check_config_files_readable(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "config_files_readable", "The configuration files can be captured");
    char text[8];

    if (!doctor_ask_text(doctor, check,
                         "SELECT pg_has_role(current_user, 'pg_read_server_files', 'USAGE') AND "
                         "has_function_privilege('pg_read_binary_file(text, bigint, bigint)', 'EXECUTE')",
                         text, sizeof text))
        return;
    if (text[0] != 't') {
        doctor_find(check, HF_CHECK_WARNING,
                    "the role %s may not read them: only the settings are captured, without comments", doctor->role);
        doctor_mend(check,
                    "If the files shall be kept, run in the database \"%s\": GRANT pg_read_server_files TO %s; GRANT "
                    "EXECUTE ON FUNCTION pg_read_binary_file(text, bigint, bigint) TO %s; (it may then read every file "
                    "the server can).",
                    PQdb(doctor->conn), doctor->role, doctor->role);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the role %s may read them", doctor->role);
}

static void
check_tablespaces(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "tablespaces", "Tablespaces can be restored");
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;

    if (!doctor_ask(doctor, check,
                    "SELECT spcname, pg_tablespace_location(oid) AS location FROM pg_tablespace WHERE spcname NOT IN "
                    "('pg_default', 'pg_global') ORDER BY spcname",
                    &rows))
        return;
    int outside = 0;
    for (int row = 0; row < PQntuples(rows); row++)
        if (PQgetvalue(rows, row, 1)[0] == '/')
            outside++;
    doctor_find(check, HF_CHECK_OK, "%d outside the data directory; a restore puts each where it is told", outside);
}

static void
check_extensions(struct doctor *doctor)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    _cleanup_(hf_buf_done) struct hf_buf missing = HF_BUF_INIT(300);
    struct hf_error why;

    if (doctor->abilities == NULL || doctor->abilities->has_extension == NULL)
        return;
    struct hf_check *check = doctor_add(doctor, "extensions", "This appliance has the source's extensions");
    if (!doctor_ask(doctor, check, "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname", &rows))
        return;
    for (int row = 0; row < PQntuples(rows); row++)
        if (!list_missing_extensions(doctor, PQgetvalue(rows, row, 0), &missing, &why)) {
            doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
            return;
        }
    if (missing.length > 0) {
        doctor_find(check, HF_CHECK_WARNING, "missing here: %s", hf_buf_text(&missing));
        doctor_mend(
            check,
            "Install the packages that hold them on this appliance; until then what needs them cannot be verified.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "all are here");
}

/* Adds "name (database)"; what does not fit is left out, the first name is enough to act on. */
static bool
list_missing_extensions(struct doctor *doctor, const char *database, struct hf_buf *missing, struct hf_error *err)
{
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    struct hf_error unheard;

    if (!hf_postgres_connect_database(doctor->target, database, &patience, &conn, err) ||
        !hf_postgres_query(conn, &patience, "list the extensions", "SELECT extname FROM pg_extension ORDER BY extname",
                           NULL, 0, &rows, err))
        return false;
    for (int row = 0; row < PQntuples(rows); row++) {
        const char *name = PQgetvalue(rows, row, 0);
        if (!doctor->abilities->has_extension(doctor->abilities->context, hf_postgres_major(conn), name))
            (void)!hf_buf_printf(missing, &unheard, "%s%s (%s)", missing->length == 0 ? "" : ", ", name, database);
    }
    return true;
}

static void
check_locales(struct doctor *doctor)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    _cleanup_(hf_buf_done) struct hf_buf missing = HF_BUF_INIT(300);
    struct hf_error unheard;

    if (doctor->abilities == NULL || doctor->abilities->has_locale == NULL)
        return;
    struct hf_check *check = doctor_add(doctor, "locales", "This appliance has the source's locales");
    bool providers = hf_postgres_major(doctor->conn) >= 15;
    if (!doctor_ask(doctor, check,
                    providers
                        ? "SELECT DISTINCT datlocprovider::text, datcollate FROM pg_database UNION SELECT DISTINCT "
                          "datlocprovider::text, datctype FROM pg_database ORDER BY 1, 2"
                        : "SELECT DISTINCT 'c', datcollate FROM pg_database UNION SELECT DISTINCT 'c', datctype FROM "
                          "pg_database ORDER BY 1, 2",
                    &rows))
        return;
    for (int row = 0; row < PQntuples(rows); row++) {
        const char *provider = PQgetvalue(rows, row, 0), *locale = PQgetvalue(rows, row, 1);
        if (!doctor->abilities->has_locale(doctor->abilities->context, provider, locale))
            (void)!hf_buf_printf(&missing, &unheard, "%s%s", missing.length == 0 ? "" : ", ", locale);
    }
    if (missing.length > 0) {
        doctor_find(check, HF_CHECK_WARNING, "missing here: %s", hf_buf_text(&missing));
        doctor_mend(check, "Generate these locales on this appliance; until then text indexes cannot be verified.");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "all are here");
}

/* As a backup will connect: only this tells whether pg_hba.conf lets replication in. */
static void
check_replication_connection(struct doctor *doctor)
{
    struct hf_check *check = doctor_add(doctor, "replication_connection", "A backup can connect");
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    struct hf_source_target anyone = *doctor->target;
    struct hf_postgres_identity identity;
    struct hf_error why;

    anyone.identity = NULL; // judged in its own check
    if (!hf_postgres_connect(&anyone, HF_POSTGRES_BACKUP, &patience, &conn, &why) ||
        !hf_postgres_identify(conn, &anyone, &patience, &identity, &why)) {
        doctor_find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    doctor_find(check, HF_CHECK_OK, "the replication protocol answers, on timeline %u", identity.timeline);
    check_system_identifier(doctor, &identity);
}

static void
check_system_identifier(struct doctor *doctor, const struct hf_postgres_identity *identity)
{
    struct hf_check *check = doctor_add(doctor, "system_identifier", "It is the database we know");
    const char *known = doctor->target->identity;
    char text[HF_SOURCE_IDENTITY_BYTES];

    snprintf(text, sizeof text, "%" PRIu64, identity->system_identifier);
    if (known != NULL && strcmp(known, text) != 0) {
        doctor_find(check, HF_CHECK_FAILED, "its system identifier is %s, it was %s", text, known);
        doctor_mend(check, "If the server was replaced, upgraded or made anew, add it as a new source under another "
                           "name: \"holdfast source add\".");
        return;
    }
    doctor_find(check, HF_CHECK_OK, "its system identifier is %s", text);
}

struct hf_check *
doctor_add(struct doctor *doctor, const char *id, const char *title)
{
    assert(doctor->checks->count < HF_CHECKS_MOST);
    struct hf_check *check = &doctor->checks->items[doctor->checks->count++];
    *check = (struct hf_check){.id = id, .title = title, .verdict = HF_CHECK_NOT_DETERMINABLE};
    return check;
}

void
doctor_find(struct hf_check *check, enum hf_check_verdict verdict, const char *format, ...)
{
    va_list arguments;

    check->verdict = verdict;
    va_start(arguments, format);
    vsnprintf(check->detail, sizeof check->detail, format, arguments);
    va_end(arguments);
}

void
doctor_mend(struct hf_check *check, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(check->remedy, sizeof check->remedy, format, arguments);
    va_end(arguments);
}

void
doctor_find_error(struct hf_check *check, enum hf_check_verdict verdict, const struct hf_error *why)
{
    doctor_find(check, verdict, "%s", why->message);
    doctor_mend(check, "%s", why->hint);
}

/* False: the check says why it could not be made. */
bool
doctor_ask(struct doctor *doctor, struct hf_check *check, const char *sql, PGresult **ret)
{
    struct hf_error why;

    if (hf_postgres_query(doctor->conn, &patience, "find this out", sql, NULL, 0, ret, &why))
        return true;
    doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
    return false;
}

bool
doctor_ask_text(struct doctor *doctor, struct hf_check *check, const char *sql, char *ret, size_t size)
{
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    struct hf_error why;
    const char *value;

    if (!doctor_ask(doctor, check, sql, &row))
        return false;
    if (!hf_postgres_field(row, 0, 0, "value", &value, &why)) {
        doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return false;
    }
    snprintf(ret, size, "%s", value);
    return true;
}

bool
doctor_ask_numbers(struct doctor *doctor, struct hf_check *check, const char *sql, int64_t *ret, int count)
{
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    struct hf_error why;

    if (!doctor_ask(doctor, check, sql, &row))
        return false;
    for (int i = 0; i < count; i++) {
        uint64_t value;
        if (!hf_postgres_field_number(row, 0, i, "number", INT64_MAX, &value, &why)) {
            doctor_find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
            return false;
        }
        ret[i] = (int64_t)value;
    }
    return true;
}

static bool
ask_switch(struct doctor *doctor, struct hf_check *check, const char *setting, bool *ret_on)
{
    char sql[64], value[16];

    snprintf(sql, sizeof sql, "SHOW %s", setting); // a name of ours
    if (!doctor_ask_text(doctor, check, sql, value, sizeof value))
        return false;
    *ret_on = strcmp(value, "on") == 0;
    return true;
}

static const char *
connection_setting(PGconn *conn, const char *keyword, char *text, size_t size)
{
    PQconninfoOption *options = PQconninfo(conn);

    snprintf(text, size, "not set");
    for (const PQconninfoOption *option = options; option != NULL && option->keyword != NULL; option++)
        if (strcmp(option->keyword, keyword) == 0 && option->val != NULL)
            snprintf(text, size, "%s", option->val);
    PQconninfoFree(options);
    return text;
}
