#include "server/source/mariadb/doctor.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "server/source/mariadb/identify.h"
#include "server/source/mariadb/table_keys.h"
#include "server/source/mariadb/tool.h"

#define RIGHTS_MOST (64 * HF_KIB)

struct doctor {
    const struct hf_flavour *flavour;      // borrowed from the caller
    const struct hf_source_target *target; // likewise
    struct hf_checks *checks;              // likewise
    MYSQL *conn;                           // NULL: the server cannot be reached
    char account[300];                     // 'holdfast'@'%'
    char version[64];
};

static void check_connection(struct doctor *doctor);
static void check_transport(struct doctor *doctor);
static void check_rights(struct doctor *doctor);
static bool has_right(const char *grants, const char *right);
static void check_binary_log(struct doctor *doctor);
static void check_server_id(struct doctor *doctor);
static void check_binlog_format(struct doctor *doctor);
static void check_binlog_kept(struct doctor *doctor);
static void check_row_image(struct doctor *doctor);
static void check_gtid_strict(struct doctor *doctor);
static void check_identity(struct doctor *doctor);
static void check_engines(struct doctor *doctor);
static void check_encryption(struct doctor *doctor);
static void check_tool(struct doctor *doctor);
static bool ask(struct doctor *doctor, struct hf_check *check, const char *name, char *ret, size_t size,
                bool *ret_known);
static struct hf_check *add(struct doctor *doctor, const char *id, const char *title);
static void find(struct hf_check *check, enum hf_check_verdict verdict, const char *format, ...) HF_PRINTF(3, 4);
static void mend(struct hf_check *check, const char *format, ...) HF_PRINTF(2, 3);
static void find_error(struct hf_check *check, enum hf_check_verdict verdict, const struct hf_error *why);

bool
hf_mariadb_doctor(const struct hf_flavour *flavour, const struct hf_source_target *target, struct hf_checks *ret,
                  struct hf_error *err)
{
    static void (*const checks[])(struct doctor * doctor) = {
        check_transport, check_rights,      check_binary_log, check_server_id, check_binlog_format, check_binlog_kept,
        check_row_image, check_gtid_strict, check_identity,   check_engines,   check_encryption,
    };
    struct hf_mariadb_words words;
    struct doctor doctor = {.flavour = flavour, .target = target, .checks = ret};
    ret->count = 0;
    if (!hf_mariadb_words_read("connection", target->conninfo, &words, err) ||
        (target->tool_conninfo != NULL &&
         !hf_mariadb_words_read("tool_connection", target->tool_conninfo, &words, err)))
        return false;
    check_connection(&doctor);
    for (size_t i = 0; doctor.conn != NULL && i < HF_LENGTH(checks); i++)
        checks[i](&doctor);
    hf_mariadb_client_closep(&doctor.conn);
    check_tool(&doctor);
    return true;
}

static void
check_connection(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "connection", "The server can be reached, and its release is supported");
    struct hf_error why;
    if (!hf_mariadb_client_connect(doctor->flavour, doctor->target, &doctor->conn, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    snprintf(doctor->version, sizeof doctor->version, "%s", mysql_get_server_info(doctor->conn));
    if (!hf_mariadb_account(doctor->conn, doctor->account, sizeof doctor->account, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        hf_mariadb_client_closep(&doctor->conn);
        return;
    }
    find(check, HF_CHECK_OK, "%s %s, as %s", doctor->flavour->people, doctor->version, doctor->account);
}

static void
check_transport(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "transport", "What the server sends cannot be read or changed on its way");
    struct hf_mariadb_words words;
    struct hf_error why;
    if (!hf_mariadb_words_read("connection", doctor->target->conninfo, &words, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    const char *cipher = mysql_get_ssl_cipher(doctor->conn);
    if (words.socket[0] != '\0')
        find(check, HF_CHECK_OK, "through a socket of this host");
    else if (words.tls == HF_MARIADB_TLS_VERIFY && cipher != NULL)
        find(check, HF_CHECK_OK, "TLS, the server's certificate is verified");
    else {
        find(check, HF_CHECK_WARNING, cipher == NULL ? "no TLS" : "TLS, but anybody's certificate is taken");
        mend(check, "Give the server a certificate of its name, and set tls=verify and tls_ca=<file> in connection.");
    }
}

static void
check_rights(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "rights", "The account has the rights that a backup needs");
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *rows = NULL;
    _cleanup_(hf_buf_done) struct hf_buf grants = HF_BUF_INIT(RIGHTS_MOST), missing = HF_BUF_INIT(HF_KIB);
    const uint32_t version = hf_mariadb_version(doctor->conn);
    struct hf_error why;
    if (!hf_mariadb_query(doctor->conn, "ask for rights", "SHOW GRANTS", &rows, &why)) {
        find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    MYSQL_ROW row;
    while ((row = mysql_fetch_row(rows)) != NULL) // those on *.* alone
        if (row[0] != NULL && strstr(row[0], " ON *.* TO ") != NULL)
            (void)!hf_buf_printf(&grants, &why, ", %.*s,", (int)(strstr(row[0], " ON *.* TO ") - row[0]), row[0]);
    for (unsigned i = 0; i < doctor->flavour->grant_count; i++) {
        const struct hf_flavour_grant *grant = &doctor->flavour->grants[i];
        const char *name = version < grant->since ? grant->before : grant->right;
        if (grant->for_stream && doctor->target->stream_slot == NULL)
            continue;
        if (!has_right(hf_buf_text(&grants), name))
            (void)!hf_buf_printf(&missing, &why, "%s%s", missing.length == 0 ? "" : ", ", name);
    }
    if (missing.length == 0) {
        find(check, HF_CHECK_OK, "all are there");
        return;
    }
    find(check, HF_CHECK_FAILED, "missing: %s", hf_buf_text(&missing));
    mend(check, "GRANT %s ON *.* TO %s;", hf_buf_text(&missing), doctor->account);
}

/* `grants` is ", GRANT A, B,"... : each right stands between a space and a comma. */
static bool
has_right(const char *grants, const char *right)
{
    static const char all[] = "ALL PRIVILEGES";
    char text[80];
    for (int i = 0; i < 2; i++) {
        snprintf(text, sizeof text, " %s,", i == 0 ? right : all);
        if (strstr(grants, text) != NULL)
            return true;
    }
    return false;
}

static void
check_binary_log(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "binary_log", "The server writes a binary log");
    char value[32];
    bool known;
    if (!ask(doctor, check, "log_bin", value, sizeof value, &known))
        return;
    if (strcmp(value, "ON") == 0) {
        find(check, HF_CHECK_OK, "log_bin is on");
        return;
    }
    find(check, doctor->target->stream_slot != NULL ? HF_CHECK_FAILED : HF_CHECK_WARNING,
         "log_bin is off: a restore can only reach the moments of backups");
    mend(check, "Set log_bin=<name> and server_id in the server's option file, and restart it.");
}

static void
check_server_id(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "server_id", "The server has an id of its own");
    char value[32];
    bool known;
    if (!ask(doctor, check, "server_id", value, sizeof value, &known))
        return;
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0) {
        find(check, HF_CHECK_OK, "server_id is %s", value);
        return;
    }
    find(check, HF_CHECK_WARNING, "server_id is %s, which every server has until it is set", value);
    mend(check, "SET GLOBAL server_id = <a number no other server of yours has>; and the same in its option file.");
}

static void
check_binlog_format(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "binlog_format", "The binary log says what was changed, and not how");
    char value[32];
    bool known;
    if (!ask(doctor, check, "binlog_format", value, sizeof value, &known))
        return;
    if (strcmp(value, "STATEMENT") != 0) {
        find(check, HF_CHECK_OK, "binlog_format is %s", value);
        return;
    }
    find(check, HF_CHECK_WARNING,
         "binlog_format is STATEMENT: some statements give other rows when they are run again, so a copy that was "
         "brought on by the log can be verified, but is not safe for staging");
    mend(check, "SET GLOBAL binlog_format = 'MIXED'; or 'ROW', and the same in the server's option file.");
}

static void
check_binlog_kept(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "binlog_kept", "The binary log waits for the longest outage that is allowed");
    char value[32];
    bool known;
    const int64_t wanted_s = doctor->target->longest_outage_ms / 1000;
    if (!ask(doctor, check, "binlog_expire_logs_seconds", value, sizeof value, &known))
        return;
    const int64_t kept_s = strtoll(value, NULL, 10);
    if (!known) {
        find(check, HF_CHECK_NOT_DETERMINABLE, "the server has no binlog_expire_logs_seconds");
        return;
    }
    if (kept_s == 0 || wanted_s == 0 || kept_s >= wanted_s) {
        find(check, HF_CHECK_OK, "%s", kept_s == 0 ? "it is kept until someone removes it" : value);
        return;
    }
    find(check, HF_CHECK_WARNING,
         "binlog_expire_logs_seconds is %" PRId64 ", longest_outage is %" PRId64 " s: a longer outage than the first "
         "leaves a gap",
         kept_s, wanted_s);
    mend(check, "SET GLOBAL binlog_expire_logs_seconds = %" PRId64 "; and the same in the server's option file.",
         wanted_s);
}

static void
check_row_image(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "row_image", "Rows stand in the binary log whole");
    char value[32];
    bool known;
    if (!ask(doctor, check, "binlog_row_image", value, sizeof value, &known))
        return;
    if (!known || strncmp(value, "FULL", 4) == 0) {
        find(check, HF_CHECK_OK, "binlog_row_image is %s", known ? value : "always full");
        return;
    }
    find(check, HF_CHECK_WARNING, "binlog_row_image is %s: what a row was before cannot be seen in the log", value);
    mend(check, "SET GLOBAL binlog_row_image = 'FULL'; and the same in the server's option file.");
}

static void
check_gtid_strict(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "gtid_strict", "GTIDs come in order");
    const char *name = doctor->flavour->server_is_mariadb ? "gtid_strict_mode" : "gtid_mode";
    char value[32];
    bool known;
    if (!ask(doctor, check, name, value, sizeof value, &known))
        return;
    if (strcmp(value, "ON") == 0) {
        find(check, HF_CHECK_OK, "%s is on", name);
        return;
    }
    find(check, HF_CHECK_WARNING, "%s is %s: a missing transaction cannot be told by its number", name,
         known ? value : "not known");
    if (doctor->flavour->server_is_mariadb)
        mend(check, "SET GLOBAL gtid_strict_mode = ON; and the same in the server's option file.");
    else
        mend(check, "Set gtid_mode=ON and enforce_gtid_consistency=ON in the server's option file, step by step as its "
                    "manual says.");
}

static void
check_identity(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "identity", "It is the database we know");
    struct hf_source_identity identity;
    struct hf_error why;
    if (!hf_mariadb_ask_identity(doctor->conn, doctor->flavour, doctor->target, &identity, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    find(check, HF_CHECK_OK, doctor->target->identity == NULL ? "its id is not recorded yet" : "its id is %s",
         identity.text);
}

static void
check_engines(struct doctor *doctor)
{
    static const char sql[] =
        "SELECT GROUP_CONCAT(DISTINCT ENGINE ORDER BY ENGINE SEPARATOR ', ') FROM information_schema.TABLES WHERE "
        "ENGINE NOT IN ('InnoDB', 'Aria', 'MyISAM', 'CSV', 'MEMORY', 'MRG_MyISAM', 'ARCHIVE', 'SEQUENCE', "
        "'PERFORMANCE_SCHEMA', 'BLACKHOLE')";
    struct hf_check *check = add(doctor, "engines", "All tables are of engines that the backup tool copies");
    char others[256];
    struct hf_error why;
    if (!hf_mariadb_ask(doctor->conn, "ask for storage engines", sql, others, sizeof others, &why)) {
        find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    if (others[0] == '\0') {
        find(check, HF_CHECK_OK, "of the tables that this account sees, all are");
        return;
    }
    find(check, HF_CHECK_WARNING, "there are tables of: %s", others);
    mend(check, "Look in the backup tool's manual whether it copies them, and at the verification of the next backup.");
}

static void
check_encryption(struct doctor *doctor)
{
    static const char plugins[] = "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'ENCRYPTION' "
                                  "AND PLUGIN_STATUS = 'ACTIVE' LIMIT 1";
    static const char spaces[] = "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION "
                                 "WHERE CURRENT_KEY_VERSION > 0";
    struct hf_check *check = add(doctor, "encryption", "Encrypted tables can be opened after a restore");
    char plugin[128], count[32];
    struct hf_error why;
    if (!doctor->flavour->server_is_mariadb) {
        find(check, HF_CHECK_NOT_DETERMINABLE, "not asked of this engine");
        return;
    }
    if (!hf_mariadb_ask(doctor->conn, "ask for plugins", plugins, plugin, sizeof plugin, &why) ||
        !hf_mariadb_ask(doctor->conn, "count encrypted tablespaces", spaces, count, sizeof count, &why)) {
        find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
        return;
    }
    if ((strcmp(count, "0") == 0 || count[0] == '\0') && plugin[0] == '\0') {
        find(check, HF_CHECK_OK, "no tablespace is encrypted");
        return;
    }
    if (strcmp(plugin, HF_TABLE_KEYS_PLUGIN) != 0) {
        find(check, HF_CHECK_FAILED, "%s tablespaces are encrypted, with the keys of %s", count,
             plugin[0] == '\0' ? "no plugin that runs" : plugin);
        mend(check, "Backups of them can be taken, and cannot be proven here: only the plugin file_key_management is "
                    "known.");
        return;
    }
    _cleanup_(hf_table_keys_freep) struct hf_table_keys *keys = NULL;
    if (doctor->target->table_keys == NULL) {
        find(check, HF_CHECK_FAILED,
             "%s tablespaces are encrypted, and no file with their keys is known here: no backup of them can be proven "
             "or restored",
             count);
        mend(check,
             "Copy the file that file_key_management_filename names on the server, readable only by the user who "
             "runs holdfastd, and set table_keys to it; it is in no backup.");
        return;
    }
    if (!hf_table_keys_read(doctor->target->table_keys, doctor->target->table_keys_password, &keys, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    find(check, HF_CHECK_OK, "%s tablespaces are encrypted; table_keys is there, and each proof tries it", count);
}

static void
check_tool(struct doctor *doctor)
{
    struct hf_check *check = add(doctor, "backup_tool", "The backup tool can be run where the files are");
    char version[HF_TOOL_VERSION_BYTES];
    struct hf_error why;
    if (!hf_backup_tool_version(doctor->flavour, doctor->target, version, &why)) {
        find_error(check, HF_CHECK_FAILED, &why);
        return;
    }
    find(check, HF_CHECK_OK, "%s %s%s%s", doctor->target->tool != NULL ? doctor->target->tool : doctor->flavour->tool,
         version, doctor->target->tool_host == NULL ? ", on this host" : ", on ",
         doctor->target->tool_host == NULL ? "" : doctor->target->tool_host);
    if (doctor->version[0] == '\0')
        return;
    struct hf_check *series = add(doctor, "tool_series", "The backup tool is of the server's series");
    if (hf_backup_tool_fits(version, doctor->version)) {
        find(series, HF_CHECK_OK, "both are");
        return;
    }
    find(series, HF_CHECK_FAILED, "the tool is %s, the server \"%s\"", version, doctor->version);
    mend(series, "Install the package %s of the server's own release there, or set backup_tool to its path.",
         doctor->flavour->package);
}

static bool
ask(struct doctor *doctor, struct hf_check *check, const char *name, char *ret, size_t size, bool *ret_known)
{
    struct hf_error why;
    if (hf_mariadb_variable(doctor->conn, name, ret, size, ret_known, &why))
        return true;
    find_error(check, HF_CHECK_NOT_DETERMINABLE, &why);
    return false;
}

static struct hf_check *
add(struct doctor *doctor, const char *id, const char *title)
{
    assert(doctor->checks->count < HF_CHECKS_MOST);
    struct hf_check *check = &doctor->checks->items[doctor->checks->count++];
    *check = (struct hf_check){.id = id, .title = title, .verdict = HF_CHECK_NOT_DETERMINABLE};
    return check;
}

static void
find(struct hf_check *check, enum hf_check_verdict verdict, const char *format, ...)
{
    va_list arguments;
    check->verdict = verdict;
    va_start(arguments, format);
    vsnprintf(check->detail, sizeof check->detail, format, arguments);
    va_end(arguments);
}

static void
mend(struct hf_check *check, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(check->remedy, sizeof check->remedy, format, arguments);
    va_end(arguments);
}

static void
find_error(struct hf_check *check, enum hf_check_verdict verdict, const struct hf_error *why)
{
    find(check, verdict, "%s", why->message);
    mend(check, "%s", why->hint);
}
