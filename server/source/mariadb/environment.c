#include "server/source/mariadb/environment.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/text.h"

#define TEXT_MOST        4096
#define OPTION_FILE_MOST (256 * HF_KIB)
#define OPTION_FILES     64
#define OPTION_FOLDERS   3

/* One question whose rows become a list of objects, a member a column. */
struct question {
    const char *member;
    const char *doing;
    const char *sql;
};

static const struct question questions[] = {
    {"plugins", "ask for plugins",
     "SELECT PLUGIN_NAME AS name, PLUGIN_VERSION AS version, PLUGIN_STATUS AS status, PLUGIN_TYPE AS type, "
     "PLUGIN_LIBRARY AS library, PLUGIN_LICENSE AS license FROM information_schema.PLUGINS ORDER BY PLUGIN_NAME"},
    {"character_sets", "ask for character sets",
     "SELECT SCHEMA_NAME AS `database`, DEFAULT_CHARACTER_SET_NAME AS character_set, DEFAULT_COLLATION_NAME AS "
     "`collation` FROM information_schema.SCHEMATA ORDER BY SCHEMA_NAME"},
    {"engines", "ask for storage engines",
     "SELECT ENGINE AS engine, COUNT(*) AS tables, SUM(DATA_LENGTH + INDEX_LENGTH) AS bytes FROM "
     "information_schema.TABLES WHERE ENGINE IS NOT NULL GROUP BY ENGINE ORDER BY ENGINE"},
};

/* Variables whose value is, or can hold, a secret. */
static const char *const secret_words[] = {"password", "passphrase", "secret", "_key_file", "filekey", "token"};

static bool add_server(MYSQL *conn, json_t *json, struct hf_error *err);
static bool add_variables(MYSQL *conn, json_t *json, struct hf_error *err);
static bool is_secret(const char *name);
static bool add_answers(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err);
static bool add_rows(MYSQL_RES *rows, json_t *list, struct hf_error *err);
static bool add_users(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err);
static bool add_encryption(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err);
static bool add_option_files(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t *json,
                             struct hf_error *err);
static bool take_option_folder(const char *folder, const struct hf_backup_sink *sink, json_t *list,
                               struct hf_error *err);
static bool take_option_file(const char *path, const struct hf_backup_sink *sink, json_t *list, struct hf_error *err);
static bool drop_secrets(struct hf_buf *text, struct hf_buf *ret, struct hf_error *err);
static json_t *text_of(const char *text);

bool
hf_mariadb_capture_environment(const struct hf_flavour *flavour, const struct hf_source_target *target,
                               const struct hf_backup_sink *sink, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = NULL;
    _cleanup_(hf_json_freep) json_t *json = json_object();
    json_t *denied = json_array();
    if (json == NULL || !hf_json_set(json, "denied", denied, err) ||
        !hf_mariadb_client_connect(flavour, target, &conn, err) || !add_server(conn, json, err) ||
        !add_variables(conn, json, err) || !add_answers(conn, json, denied, err) ||
        !add_users(conn, json, denied, err) || !add_encryption(conn, json, denied, err) ||
        !add_option_files(target, sink, json, err))
        return false;
    *ret = HF_TAKE(json);
    return true;
}

static bool
add_server(MYSQL *conn, json_t *json, struct hf_error *err)
{
    char comment[256], machine[128];
    bool known;
    if (!hf_mariadb_variable(conn, "version_comment", comment, sizeof comment, &known, err) ||
        !hf_mariadb_variable(conn, "version_compile_machine", machine, sizeof machine, &known, err))
        return false;
    json_t *server = json_object();
    return hf_json_set(json, "server", server, err) &&
           hf_json_set(server, "version", text_of(mysql_get_server_info(conn)), err) &&
           hf_json_set(server, "comment", text_of(comment), err) &&
           hf_json_set(server, "compiled_for", text_of(machine), err);
}

static bool
add_variables(MYSQL *conn, json_t *json, struct hf_error *err)
{
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *rows = NULL;
    json_t *variables = json_object();
    if (!hf_json_set(json, "variables", variables, err) ||
        !hf_mariadb_query(conn, "ask for settings", "SHOW GLOBAL VARIABLES", &rows, err))
        return false;
    MYSQL_ROW row;
    while ((row = mysql_fetch_row(rows)) != NULL)
        if (mysql_num_fields(rows) == 2 && row[0] != NULL && row[1] != NULL && !is_secret(row[0]) &&
            hf_utf8_length((const uint8_t *)row[0], strlen(row[0])) > 0 &&
            !hf_json_set(variables, row[0], text_of(row[1]), err))
            return false;
    return true;
}

static bool
is_secret(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(secret_words); i++)
        if (strcasestr(name, secret_words[i]) != NULL)
            return true;
    return false;
}

/* What the account may not ask is noted, and no error. */
static bool
add_answers(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(questions); i++) {
        _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *rows = NULL;
        struct hf_error why;
        json_t *list = json_array();
        if (!hf_json_set(json, questions[i].member, list, err))
            return false;
        if (!hf_mariadb_query(conn, questions[i].doing, questions[i].sql, &rows, &why)) {
            if (why.kind != HF_ERR_DENIED) {
                *err = why;
                return false;
            }
            if (json_array_append_new(denied, json_string(questions[i].member)) != 0)
                return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for settings");
            continue;
        }
        if (!add_rows(rows, list, err))
            return false;
    }
    return true;
}

static bool
add_rows(MYSQL_RES *rows, json_t *list, struct hf_error *err)
{
    const unsigned columns = mysql_num_fields(rows);
    const MYSQL_FIELD *fields = mysql_fetch_fields(rows);
    MYSQL_ROW row;
    while ((row = mysql_fetch_row(rows)) != NULL) {
        _cleanup_(hf_json_freep) json_t *object = json_object();
        for (unsigned i = 0; i < columns; i++)
            if (!hf_json_set(object, fields[i].name, row[i] == NULL ? json_null() : text_of(row[i]), err))
                return false;
        if (json_array_append(list, object) != 0)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for settings");
    }
    return true;
}

static bool
add_users(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err)
{
    char count[32];
    struct hf_error why;
    json_t *users = json_object();
    if (!hf_json_set(json, "users", users, err))
        return false;
    if (hf_mariadb_ask(conn, "count accounts", "SELECT COUNT(*) FROM mysql.user", count, sizeof count, &why))
        return hf_json_set(users, "count", json_integer(strtoll(count, NULL, 10)), err);
    if (why.kind != HF_ERR_DENIED) {
        *err = why;
        return false;
    }
    return hf_json_set(users, "count", json_null(), err) &&
           (json_array_append_new(denied, json_string("users")) == 0 ||
            hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for settings"));
}

/* Which plugin has the keys and how much is encrypted; never where the key itself is said. */
static bool
add_encryption(MYSQL *conn, json_t *json, json_t *denied, struct hf_error *err)
{
    static const char plugin[] = "SELECT PLUGIN_NAME FROM information_schema.PLUGINS WHERE PLUGIN_TYPE = 'ENCRYPTION' "
                                 "AND PLUGIN_STATUS = 'ACTIVE' LIMIT 1";
    static const char spaces[] = "SELECT COUNT(*) FROM information_schema.INNODB_TABLESPACES_ENCRYPTION "
                                 "WHERE CURRENT_KEY_VERSION > 0";
    char name[128], count[32];
    struct hf_error why;
    json_t *encryption = json_object();
    if (!hf_json_set(json, "encryption", encryption, err) ||
        !hf_mariadb_ask(conn, "ask for plugins", plugin, name, sizeof name, err) ||
        !hf_json_set(encryption, "plugin", name[0] == '\0' ? json_null() : text_of(name), err))
        return false;
    if (hf_mariadb_ask(conn, "count encrypted tablespaces", spaces, count, sizeof count, &why))
        return hf_json_set(encryption, "encrypted_tablespaces", json_integer(strtoll(count, NULL, 10)), err);
    return hf_json_set(encryption, "encrypted_tablespaces", json_null(), err) &&
           (json_array_append_new(denied, json_string("encryption")) == 0 ||
            hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for settings"));
}

static bool
add_option_files(const struct hf_source_target *target, const struct hf_backup_sink *sink, json_t *json,
                 struct hf_error *err)
{
    static const char *const folders[OPTION_FOLDERS] = {"/etc/mysql", "/etc/mysql/mariadb.conf.d", "/etc/mysql/conf.d"};
    struct hf_mariadb_words words;
    json_t *list = json_array();
    if (!hf_json_set(json, "option_files", list, err) ||
        !hf_mariadb_words_read("connection", target->conninfo, &words, err))
        return false;
    // Only of a server on this host: the files here are another one's else.
    if (target->tool_host != NULL || words.socket[0] == '\0')
        return true;
    for (size_t i = 0; i < OPTION_FOLDERS; i++)
        if (!take_option_folder(folders[i], sink, list, err))
            return false;
    return true;
}

static bool
take_option_folder(const char *folder, const struct hf_backup_sink *sink, json_t *list, struct hf_error *err)
{
    struct dirent **names = NULL;
    const int count = scandir(folder, &names, NULL, alphasort);
    bool ok = true;
    for (int i = 0; i < count; i++) {
        const size_t length = strlen(names[i]->d_name);
        char path[512];
        if (ok && length > 4 && strcmp(names[i]->d_name + length - 4, ".cnf") == 0 &&
            json_array_size(list) < OPTION_FILES) {
            snprintf(path, sizeof path, "%s/%.250s", folder, names[i]->d_name);
            ok = take_option_file(path, sink, list, err);
        }
        free(names[i]);
    }
    free(names);
    return ok;
}

/* What cannot be read, or is a link to somewhere, is passed over: it is not in the list then. */
static bool
take_option_file(const char *path, const struct hf_backup_sink *sink, json_t *list, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(OPTION_FILE_MOST), kept = HF_BUF_INIT(OPTION_FILE_MOST);
    struct hf_error unheard;
    struct stat about;
    char stored[HF_BACKUP_PATH_BYTES];
    if (lstat(path, &about) != 0 || !S_ISREG(about.st_mode) || !hf_file_read(path, &text, &unheard))
        return true;
    if (!drop_secrets(&text, &kept, err))
        return false;
    if (sink != NULL) {
        snprintf(stored, sizeof stored, "holdfast_config/%02zu-%s", json_array_size(list) + 1, strrchr(path, '/') + 1);
        const struct hf_backup_file file = {.path = stored,
                                            .kind = HF_BACKUP_FILE_CAPTURED,
                                            .mode = 0600,
                                            .modified_at = (int64_t)about.st_mtime * 1000,
                                            .size = kept.length,
                                            .page_bytes = HF_BACKUP_OTHER_PAGE};
        if (!hf_backup_sink_put(sink, &file, kept.data, kept.length, err))
            return false;
    }
    return json_array_append_new(list, text_of(path)) == 0 ||
           hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for settings");
}

static bool
drop_secrets(struct hf_buf *text, struct hf_buf *ret, struct hf_error *err)
{
    const char *at = hf_buf_text(text);
    while (*at != '\0') {
        const size_t length = strcspn(at, "\n");
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), at);
        name[strcspn(name, "=")] = '\0';
        if (!is_secret(name) && (!hf_buf_add(ret, at, length, err) || !hf_buf_add(ret, "\n", 1, err)))
            return false;
        at += length + (at[length] == '\n' ? 1 : 0);
    }
    return true;
}

static json_t *
text_of(const char *text)
{
    return hf_json_foreign_text(text, strlen(text), TEXT_MOST);
}
