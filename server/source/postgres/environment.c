#include "server/source/postgres/environment.h"

#include <inttypes.h>
#include <string.h>

#include "base/time.h"
#include "server/source/postgres/connection.h"

#define SQL_MS   (2 * 60 * 1000)
#define WHY_MOST 300

/* Types that become JSON numbers and booleans: they never change. */
#define TYPE_BOOL 16
#define TYPE_INT8 20
#define TYPE_INT2 21
#define TYPE_INT4 23
#define TYPE_OID  26

/* One member of the document: the rows of one statement. */
struct part {
    const char *member;
    uint32_t since, until; // major versions; 0: no bound
    bool single;           // one row: an object and not an array
    const char *sql;
};

static const struct part server_parts[] = {
    {"server", 0, 0, true,
     "SELECT pg_catalog.version() AS version, current_setting('server_version_num')::int4 AS server_version_num, "
     "pg_is_in_recovery() AS in_recovery, current_user AS role, "
     "(SELECT system_identifier::text FROM pg_control_system()) AS system_identifier, "
     "pg_postmaster_start_time()::text AS started_at, inet_server_addr()::text AS address"},
    {"settings", 0, 0, false,
     "SELECT name, setting, unit, source, sourcefile, sourceline, context, boot_val, pending_restart FROM pg_settings "
     "ORDER BY name"},
    {"file_settings", 0, 0, false,
     "SELECT sourcefile, sourceline, seqno, name, setting, applied, error FROM pg_file_settings ORDER BY seqno"},
    {"hba_rules", 0, 15, false,
     "SELECT line_number, type, database::text, user_name::text, address, netmask, auth_method, options::text, error "
     "FROM pg_hba_file_rules ORDER BY line_number"},
    {"hba_rules", 16, 0, false,
     "SELECT rule_number, file_name, line_number, type, database::text, user_name::text, address, netmask, "
     "auth_method, options::text, error FROM pg_hba_file_rules ORDER BY rule_number, line_number"},
    {"ident_mappings", 15, 15, false,
     "SELECT line_number, map_name, sys_name, pg_username, error FROM pg_ident_file_mappings ORDER BY line_number"},
    {"ident_mappings", 16, 0, false,
     "SELECT map_number, file_name, line_number, map_name, sys_name, pg_username, error FROM pg_ident_file_mappings "
     "ORDER BY map_number, line_number"},
    {"roles", 0, 0, true,
     "SELECT count(*) AS roles, count(*) FILTER (WHERE rolsuper) AS superusers, count(*) FILTER (WHERE rolreplication) "
     "AS replication, count(*) FILTER (WHERE rolcanlogin) AS can_login FROM pg_roles"},
    {"databases", 0, 14, false,
     "SELECT oid, datname, pg_encoding_to_char(encoding) AS encoding, datcollate, datctype, datistemplate, "
     "datallowconn, dattablespace, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END AS "
     "size FROM pg_database ORDER BY datname"},
    {"databases", 15, 16, false,
     "SELECT oid, datname, pg_encoding_to_char(encoding) AS encoding, datlocprovider::text, datcollate, datctype, "
     "daticulocale AS datlocale, datcollversion, pg_database_collation_actual_version(oid) AS actual_collversion, "
     "datistemplate, datallowconn, dattablespace, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN "
     "pg_database_size(oid) END AS size FROM pg_database ORDER BY datname"},
    {"databases", 17, 0, false,
     "SELECT oid, datname, pg_encoding_to_char(encoding) AS encoding, datlocprovider::text, datcollate, datctype, "
     "datlocale, datcollversion, pg_database_collation_actual_version(oid) AS actual_collversion, datistemplate, "
     "datallowconn, dattablespace, CASE WHEN has_database_privilege(oid, 'CONNECT') THEN pg_database_size(oid) END AS "
     "size FROM pg_database ORDER BY datname"},
    {"tablespaces", 0, 0, false,
     "SELECT oid, spcname, pg_tablespace_location(oid) AS location FROM pg_tablespace ORDER BY spcname"},
    {"slots", 0, 0, false,
     "SELECT slot_name, plugin, slot_type, database, temporary, active, restart_lsn::text, wal_status, safe_wal_size "
     "FROM pg_replication_slots ORDER BY slot_name"},
    // A collation of each library tells which version of the library the server runs with.
    {"libraries", 0, 0, false,
     "SELECT CASE provider WHEN 'c' THEN 'libc' ELSE 'icu' END AS library, collname, pg_collation_actual_version(oid) "
     "AS version FROM (SELECT DISTINCT ON (collprovider) collprovider AS provider, collname, oid FROM pg_collation "
     "WHERE collprovider IN ('c', 'i') AND collname NOT IN ('C', 'POSIX', 'ucs_basic') AND collencoding IN (-1, "
     "(SELECT encoding FROM pg_database WHERE datname = current_database())) ORDER BY collprovider, collname DESC) "
     "one"},
    {"build", 0, 0, false,
     "SELECT name, setting FROM pg_config WHERE name IN ('CONFIGURE', 'CC', 'LIBS', 'VERSION', 'PKGLIBDIR')"},
};

static const struct part database_parts[] = {
    {"extensions", 0, 0, false,
     "SELECT e.extname, e.extversion, n.nspname AS schema, (SELECT array_agg(DISTINCT p.probin ORDER BY "
     "p.probin)::text "
     "FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid "
     "= e.oid AND d.classid = 'pg_proc'::regclass AND p.probin IS NOT NULL) AS libraries FROM pg_extension e JOIN "
     "pg_namespace n ON n.oid = e.extnamespace ORDER BY e.extname"},
    {"collations", 0, 0, false,
     "SELECT c.oid, n.nspname AS schema, c.collname, c.collprovider::text, c.collcollate, c.collversion, "
     "pg_collation_actual_version(c.oid) AS actual_version FROM pg_collation c JOIN pg_namespace n ON n.oid = "
     "c.collnamespace WHERE c.oid IN (SELECT attcollation FROM pg_attribute WHERE attcollation <> 0 UNION SELECT "
     "unnest(indcollation) FROM pg_index) AND c.collprovider <> 'd' ORDER BY c.collname"},
};

/* The main files by the settings that name them, then what they include. */
static const char files_sql[] =
    "SELECT path, stored_as FROM (SELECT setting AS path, CASE name WHEN 'config_file' THEN 'postgresql.conf' WHEN "
    "'hba_file' THEN 'pg_hba.conf' ELSE 'pg_ident.conf' END AS stored_as FROM pg_settings WHERE name IN "
    "('config_file', 'hba_file', 'ident_file') AND setting IS NOT NULL) main ORDER BY stored_as";
static const char included_sql[] =
    "SELECT DISTINCT sourcefile FROM pg_file_settings WHERE sourcefile <> current_setting('config_file') AND "
    "sourcefile NOT LIKE '%/postgresql.auto.conf' ORDER BY sourcefile";
static const char read_sql[] = "SELECT pg_read_binary_file($1, 0, $2::bigint)";

struct capture {
    const struct hf_source_target *target; // borrowed from the caller
    const struct hf_backup_sink *sink;     // or NULL
    PGconn *conn;
    json_t *document;
    json_t *denied, *files; // borrowed from the document
};

static const struct hf_postgres_patience patience = {.silence_ms = SQL_MS};

static bool add_part(struct capture *capture, PGconn *conn, const struct part *part, json_t *object,
                     struct hf_error *err);
static bool deny(struct capture *capture, const char *what, const struct hf_error *why, struct hf_error *err);
static json_t *rows_to_json(const PGresult *rows, bool single);
static json_t *row_to_json(const PGresult *rows, int row);
static json_t *cell_to_json(const PGresult *rows, int row, int column);
static bool add_databases(struct capture *capture, struct hf_error *err);
static bool add_database(struct capture *capture, const char *name, json_t *list, struct hf_error *err);
static bool add_files(struct capture *capture, struct hf_error *err);
static bool add_included(struct capture *capture, struct hf_error *err);
static bool add_file(struct capture *capture, const char *path, const char *stored_as, struct hf_error *err);
static bool store_file(struct capture *capture, const char *path, const char *stored_as, const uint8_t *data,
                       size_t length, struct hf_error *err);
static void done(struct capture *capture);

bool
hf_postgres_capture_environment(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t **ret,
                                struct hf_error *err)
{
    _cleanup_(done) struct capture capture = {.target = target, .sink = sink, .document = json_object()};
    char now[HF_TIME_TEXT_BYTES];

    capture.denied = json_array();
    capture.files = json_array();
    if (!hf_json_set(capture.document, "denied", capture.denied, err) ||
        !hf_json_set(capture.document, "files", capture.files, err) ||
        !hf_json_set(capture.document, "captured_at", json_string(hf_time_format(hf_time_now_ms(), now)), err) ||
        !hf_postgres_connect(target, HF_POSTGRES_SQL, &patience, &capture.conn, err))
        return false;

    for (size_t i = 0; i < HF_LENGTH(server_parts); i++)
        if (!add_part(&capture, capture.conn, &server_parts[i], capture.document, err))
            return false;
    if (!add_databases(&capture, err) || !add_files(&capture, err) || !add_included(&capture, err))
        return false;
    *ret = HF_TAKE(capture.document);
    return true;
}

static bool
add_part(struct capture *capture, PGconn *conn, const struct part *part, json_t *object, struct hf_error *err)
{
    uint32_t major = hf_postgres_major(conn);
    _cleanup_(hf_buf_done) struct hf_buf sql = HF_BUF_INIT(8 * HF_KIB);
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    struct hf_error why;
    char doing[64];

    if (major < part->since || (part->until != 0 && major > part->until))
        return true;
    if (!hf_buf_printf(&sql, err, "SELECT * FROM (%s) part LIMIT %d", part->sql, HF_ENVIRONMENT_ROWS_MOST + 1))
        return false;
    snprintf(doing, sizeof doing, "read %s", part->member);
    if (!hf_postgres_query(conn, &patience, doing, hf_buf_text(&sql), NULL, 0, &rows, &why)) {
        if (PQstatus(conn) == CONNECTION_BAD) {
            *err = why;
            return false;
        }
        return deny(capture, part->member, &why, err);
    }
    if (PQntuples(rows) > HF_ENVIRONMENT_ROWS_MOST) {
        hf_fail(&why, HF_ERR_NO_SPACE, "more than %d rows: the first are kept", HF_ENVIRONMENT_ROWS_MOST);
        if (!deny(capture, part->member, &why, err))
            return false;
    }
    return hf_json_set(object, part->member, rows_to_json(rows, part->single), err);
}

static bool
deny(struct capture *capture, const char *what, const struct hf_error *why, struct hf_error *err)
{
    json_t *entry = json_object();
    bool ok = hf_json_set(entry, "what", hf_json_foreign_text(what, strlen(what), WHY_MOST), err) &&
              hf_json_set(entry, "why", hf_json_foreign_text(why->message, strlen(why->message), WHY_MOST), err);
    if (json_array_append_new(capture->denied, ok ? entry : NULL) == 0)
        return true;
    if (!ok)
        json_decref(entry);
    return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the environment");
}

/* NULL only when out of memory. */
static json_t *
rows_to_json(const PGresult *rows, bool single)
{
    if (single)
        return PQntuples(rows) > 0 ? row_to_json(rows, 0) : json_object();

    _cleanup_(hf_json_freep) json_t *list = json_array();
    for (int row = 0; row < PQntuples(rows) && row < HF_ENVIRONMENT_ROWS_MOST; row++)
        if (json_array_append_new(list, row_to_json(rows, row)) != 0)
            return NULL;
    return HF_TAKE(list);
}

static json_t *
row_to_json(const PGresult *rows, int row)
{
    _cleanup_(hf_json_freep) json_t *object = json_object();
    for (int column = 0; column < PQnfields(rows); column++)
        if (json_object_set_new(object, PQfname(rows, column), cell_to_json(rows, row, column)) != 0)
            return NULL;
    return HF_TAKE(object);
}

static json_t *
cell_to_json(const PGresult *rows, int row, int column)
{
    const char *text = PQgetvalue(rows, row, column);

    if (PQgetisnull(rows, row, column))
        return json_null();
    switch (PQftype(rows, column)) {
    case TYPE_BOOL:
        return json_boolean(text[0] == 't');
    case TYPE_INT8:
    case TYPE_INT4:
    case TYPE_INT2:
    case TYPE_OID:
        return json_integer(strtoll(text, NULL, 10));
    default:
        return hf_json_foreign_text(text, (size_t)PQgetlength(rows, row, column), HF_ENVIRONMENT_TEXT_MOST);
    }
}

/* Extensions and collations belong to databases, so each is asked for its own. */
static bool
add_databases(struct capture *capture, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    json_t *list = json_array();

    if (!hf_json_set(capture->document, "per_database", list, err) ||
        !hf_postgres_query(capture->conn, &patience, "list the databases",
                           "SELECT datname FROM pg_database WHERE datallowconn ORDER BY datname", NULL, 0, &rows, err))
        return false;
    for (int row = 0; row < PQntuples(rows); row++) {
        struct hf_error why;
        if (row == HF_ENVIRONMENT_DATABASES_MOST) {
            hf_fail(&why, HF_ERR_NO_SPACE, "only the first %d databases were looked into",
                    HF_ENVIRONMENT_DATABASES_MOST);
            return deny(capture, "per_database", &why, err);
        }
        if (!add_database(capture, PQgetvalue(rows, row, 0), list, err))
            return false;
    }
    return true;
}

static bool
add_database(struct capture *capture, const char *name, json_t *list, struct hf_error *err)
{
    _cleanup_(hf_postgres_closep) PGconn *conn = NULL;
    struct hf_error why;

    if (!hf_postgres_connect_database(capture->target, name, &patience, &conn, &why))
        return deny(capture, name, &why, err);

    json_t *database = json_object();
    if (json_array_append_new(list, database) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the environment");
    if (!hf_json_set(database, "database", hf_json_foreign_text(name, strlen(name), HF_ENVIRONMENT_TEXT_MOST), err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(database_parts); i++)
        if (!add_part(capture, conn, &database_parts[i], database, err))
            return false;
    return true;
}

static bool
add_files(struct capture *capture, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    struct hf_error why;

    if (!hf_postgres_query(capture->conn, &patience, "find the configuration files", files_sql, NULL, 0, &rows, err))
        return false;
    // Without pg_read_all_settings the settings that hold their names are not even listed.
    if (PQntuples(rows) == 0) {
        hf_fail(&why, HF_ERR_DENIED, "their names are hidden: grant pg_read_all_settings");
        return deny(capture, "files", &why, err);
    }
    for (int row = 0; row < PQntuples(rows); row++)
        if (!add_file(capture, PQgetvalue(rows, row, 0), PQgetvalue(rows, row, 1), err))
            return false;
    return true;
}

/* That pg_file_settings is hidden was noted as its own part. */
static bool
add_included(struct capture *capture, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *rows = NULL;
    struct hf_error why;

    if (!hf_postgres_query(capture->conn, &patience, "find the included files", included_sql, NULL, 0, &rows, &why))
        return true;
    for (int row = 0; row < PQntuples(rows); row++) {
        char stored_as[32];
        if (row == HF_ENVIRONMENT_FILES_MOST) {
            hf_fail(&why, HF_ERR_NO_SPACE, "only the first %d included files were kept", HF_ENVIRONMENT_FILES_MOST);
            return deny(capture, "files", &why, err);
        }
        snprintf(stored_as, sizeof stored_as, "included-%d.conf", row + 1);
        if (!add_file(capture, PQgetvalue(rows, row, 0), stored_as, err))
            return false;
    }
    return true;
}

static bool
add_file(struct capture *capture, const char *path, const char *stored_as, struct hf_error *err)
{
    _cleanup_(hf_postgres_clearp) PGresult *row = NULL;
    struct hf_error why;
    char most[24];
    const char *const values[] = {path, most};

    snprintf(most, sizeof most, "%zu", HF_ENVIRONMENT_FILE_MOST + 1);
    if (!hf_postgres_query(capture->conn, &patience, "read a configuration file", read_sql, values, 2, &row, &why))
        return deny(capture, path, &why, err);

    size_t length = 0;
    unsigned char *data =
        PQntuples(row) == 1 ? PQunescapeBytea((const unsigned char *)PQgetvalue(row, 0, 0), &length) : NULL;
    if (data == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for \"%s\"", path);
    bool ok;
    if (length > HF_ENVIRONMENT_FILE_MOST) {
        hf_fail(&why, HF_ERR_NO_SPACE, "it has more than %zu bytes", HF_ENVIRONMENT_FILE_MOST);
        ok = deny(capture, path, &why, err);
    } else {
        ok = store_file(capture, path, stored_as, data, length, err);
    }
    PQfreemem(data);
    return ok;
}

static bool
store_file(struct capture *capture, const char *path, const char *stored_as, const uint8_t *data, size_t length,
           struct hf_error *err)
{
    char stored_path[64];
    snprintf(stored_path, sizeof stored_path, "holdfast_config/%s", stored_as);
    const struct hf_backup_file file = {.path = stored_path,
                                        .kind = HF_BACKUP_FILE_CAPTURED,
                                        .mode = 0600,
                                        .modified_at = hf_time_now_ms(),
                                        .size = length,
                                        .page_bytes = HF_BACKUP_OTHER_PAGE};
    if (capture->sink == NULL)
        return true;
    if (!hf_backup_sink_put(capture->sink, &file, data, length, err))
        return false;

    json_t *entry = json_object();
    if (json_array_append_new(capture->files, entry) != 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the environment");
    return hf_json_set(entry, "path", hf_json_foreign_text(path, strlen(path), HF_ENVIRONMENT_TEXT_MOST), err) &&
           hf_json_set(entry, "stored_as", json_string(stored_path), err) &&
           hf_json_set(entry, "bytes", json_integer((json_int_t)length), err);
}

static void
done(struct capture *capture)
{
    hf_postgres_closep(&capture->conn);
    hf_json_freep(&capture->document);
}
