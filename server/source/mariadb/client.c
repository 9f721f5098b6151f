#include "server/source/mariadb/client.h"

#include <errmsg.h>
#include <inttypes.h>
#include <mysqld_error.h>
#include <stdio.h>
#include <string.h>

#define CONNECT_SECONDS 15u
#define ANSWER_SECONDS  60u
#define PASSWORD_MOST   1024

/* Ways to log in that never show the password itself to whoever answers. */
#define AUTHENTICATION "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password"

/* What a server's refusal means. */
struct refusal {
    unsigned code;
    enum hf_error_kind kind;
    const char *hint;
};

static bool set_options(MYSQL *conn, const struct hf_mariadb_words *words, struct hf_error *err);
static bool log_in(MYSQL *conn, const struct hf_source_target *target, const struct hf_mariadb_words *words,
                   struct hf_error *err);
static bool check_server(MYSQL *conn, const struct hf_flavour *flavour, const struct hf_source_target *target,
                         struct hf_error *err);

bool
hf_mariadb_client_connect(const struct hf_flavour *flavour, const struct hf_source_target *target, MYSQL **ret,
                          struct hf_error *err)
{
    struct hf_mariadb_words words;
    if (!hf_mariadb_words_read("connection", target->conninfo, &words, err))
        return hf_fail_within(err, "source \"%s\"", target->name);
    _cleanup_(hf_mariadb_client_closep) MYSQL *conn = mysql_init(NULL);
    if (conn == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a connection");
    if (!set_options(conn, &words, err) || !log_in(conn, target, &words, err) ||
        !check_server(conn, flavour, target, err))
        return false;
    *ret = HF_TAKE(conn);
    return true;
}

void
hf_mariadb_client_closep(MYSQL **conn)
{
    if (*conn != NULL)
        mysql_close(*conn);
    *conn = NULL;
}

void
hf_mariadb_rows_freep(MYSQL_RES **result)
{
    mysql_free_result(*result);
    *result = NULL;
}

uint32_t
hf_mariadb_version(MYSQL *conn)
{
    return (uint32_t)mysql_get_server_version(conn);
}

bool
hf_mariadb_query(MYSQL *conn, const char *doing, const char *sql, MYSQL_RES **ret, struct hf_error *err)
{
    if (mysql_real_query(conn, sql, strlen(sql)) != 0)
        return hf_mariadb_fail(conn, doing, err);
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *result = mysql_store_result(conn);
    if (result == NULL && mysql_errno(conn) != 0)
        return hf_mariadb_fail(conn, doing, err);
    if (result == NULL || mysql_num_rows(result) > HF_MARIADB_ROWS_MOST)
        return hf_fail(err, HF_ERR_CORRUPT, "could not %s: the server's answer has %s", doing,
                       result == NULL ? "no rows" : "too many rows");
    *ret = HF_TAKE(result);
    return true;
}

bool
hf_mariadb_ask(MYSQL *conn, const char *doing, const char *sql, char *ret, size_t size, struct hf_error *err)
{
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *result = NULL;
    if (!hf_mariadb_query(conn, doing, sql, &result, err))
        return false;
    const MYSQL_ROW row = mysql_fetch_row(result);
    snprintf(ret, size, "%s", row == NULL || row[0] == NULL ? "" : row[0]);
    return true;
}

bool
hf_mariadb_variable(MYSQL *conn, const char *name, char *ret, size_t size, bool *ret_known, struct hf_error *err)
{
    _cleanup_(hf_mariadb_rows_freep) MYSQL_RES *result = NULL;
    char sql[160];
    if (strspn(name, "abcdefghijklmnopqrstuvwxyz_") != strlen(name) || strlen(name) > 64)
        return hf_fail(err, HF_ERR_USAGE, "\"%.64s\" is no name of a variable", name);
    snprintf(sql, sizeof sql, "SHOW GLOBAL VARIABLES WHERE Variable_name = '%s'", name);
    if (!hf_mariadb_query(conn, "ask for a setting", sql, &result, err))
        return false;
    const MYSQL_ROW row = mysql_fetch_row(result);
    *ret_known = row != NULL && mysql_num_fields(result) == 2;
    snprintf(ret, size, "%s", !*ret_known || row[1] == NULL ? "" : row[1]);
    return true;
}

bool
hf_mariadb_fail(MYSQL *conn, const char *doing, struct hf_error *err)
{
    static const struct refusal refusals[] = {
        {ER_ACCESS_DENIED_ERROR, HF_ERR_DENIED,
         "Look at the account and at the password in password_file; \"holdfast doctor\" prints the statements that "
         "make the account."},
        {ER_ACCESS_DENIED_NO_PASSWORD_ERROR, HF_ERR_DENIED,
         "This account may log in through the socket only, as the system's user of the same name."},
        {ER_HOST_NOT_PRIVILEGED, HF_ERR_DENIED,
         "Make the account for this host: CREATE USER 'holdfast'@'<address of this appliance>'."},
        {ER_HOST_IS_BLOCKED, HF_ERR_DENIED, "Run FLUSH HOSTS on the server."},
        {ER_SPECIFIC_ACCESS_DENIED_ERROR, HF_ERR_DENIED, "\"holdfast doctor\" prints the exact GRANT that is missing."},
        {ER_TABLEACCESS_DENIED_ERROR, HF_ERR_DENIED, "\"holdfast doctor\" prints the exact GRANT that is missing."},
        {ER_DBACCESS_DENIED_ERROR, HF_ERR_DENIED, "\"holdfast doctor\" prints the exact GRANT that is missing."},
        {ER_MUST_CHANGE_PASSWORD, HF_ERR_DENIED, "The password has expired: give the account a new one."},
        {ER_CON_COUNT_ERROR, HF_ERR_CONFLICT, "Raise max_connections, or close connections."},
        {ER_TOO_MANY_USER_CONNECTIONS, HF_ERR_CONFLICT, "Raise max_user_connections of the account."},
        {ER_SERVER_SHUTDOWN, HF_ERR_UNAVAILABLE, ""},
        {CR_CONNECTION_ERROR, HF_ERR_UNAVAILABLE, "Look whether the server runs, and at the path of the socket."},
        {CR_CONN_HOST_ERROR, HF_ERR_UNAVAILABLE,
         "Look whether the server runs and listens on that address (bind_address, skip_networking), and at firewalls."},
        {CR_UNKNOWN_HOST, HF_ERR_UNAVAILABLE, "Mend the name of the host, or the name service."},
        {CR_SSL_CONNECTION_ERROR, HF_ERR_DENIED,
         "The server must offer TLS with a certificate of its name: set tls_ca in \"connection\" to the certificate "
         "that signed it, or tls=required to take any."},
        {CR_AUTH_PLUGIN_CANNOT_LOAD, HF_ERR_DENIED,
         "The account logs in in a way that this appliance does not know, or that would show the password: use "
         "mysql_native_password, ed25519 or caching_sha2_password."},
        {CR_SERVER_GONE_ERROR, HF_ERR_UNAVAILABLE, ""},
        {CR_SERVER_LOST, HF_ERR_UNAVAILABLE, ""},
        {CR_OUT_OF_MEMORY, HF_ERR_NO_MEMORY, ""},
    };
    const unsigned code = mysql_errno(conn);
    char words[300];
    snprintf(words, sizeof words, "%s", mysql_error(conn));
    for (char *at = words; *at != '\0'; at++)
        if ((uint8_t)*at < 0x20 || *at == 0x7F)
            *at = ' ';
    for (size_t i = 0; i < HF_LENGTH(refusals); i++) {
        if (refusals[i].code != code)
            continue;
        hf_fail(err, refusals[i].kind, "could not %s: %s (%u)", doing, words, code);
        return refusals[i].hint[0] == '\0' ? false : hf_fail_hint(err, "%s", refusals[i].hint);
    }
    return hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s: %s (%u)", doing, words, code);
}

bool
hf_mariadb_account(MYSQL *conn, char *ret, size_t size, struct hf_error *err)
{
    char text[256];
    if (!hf_mariadb_ask(conn, "ask for the account", "SELECT CURRENT_USER()", text, sizeof text, err))
        return false;
    const char *at = strrchr(text, '@');
    if (at == NULL || strchr(text, '\'') != NULL || strchr(text, '\\') != NULL)
        return hf_fail(err, HF_ERR_CORRUPT, "the server says the account is \"%.100s\"", text);
    snprintf(ret, size, "'%.*s'@'%s'", (int)(at - text), text, at + 1);
    return true;
}

static bool
set_options(MYSQL *conn, const struct hf_mariadb_words *words, struct hf_error *err)
{
    const unsigned connect_seconds = CONNECT_SECONDS, answer_seconds = ANSWER_SECONDS, off = 0;
    const my_bool enforced = words->socket[0] == '\0' && words->tls != HF_MARIADB_TLS_NO;
    const my_bool verified = words->socket[0] == '\0' && words->tls == HF_MARIADB_TLS_VERIFY;
    const my_bool no = 0;
    const size_t most = 64 * HF_MIB;
    bool ok = mysql_options(conn, MYSQL_OPT_CONNECT_TIMEOUT, &connect_seconds) == 0 &&
              mysql_options(conn, MYSQL_OPT_READ_TIMEOUT, &answer_seconds) == 0 &&
              mysql_options(conn, MYSQL_OPT_WRITE_TIMEOUT, &answer_seconds) == 0 &&
              mysql_options(conn, MYSQL_OPT_LOCAL_INFILE, &off) == 0 &&
              mysql_options(conn, MYSQL_OPT_RECONNECT, &no) == 0 &&
              mysql_options(conn, MYSQL_OPT_MAX_ALLOWED_PACKET, &most) == 0 &&
              mysql_options(conn, MYSQL_SET_CHARSET_NAME, "utf8mb4") == 0 &&
              mysql_optionsv(conn, MARIADB_OPT_RESTRICTED_AUTH, AUTHENTICATION) == 0;
    if (ok && enforced)
        ok = mysql_options(conn, MYSQL_OPT_SSL_ENFORCE, &enforced) == 0 &&
             mysql_options(conn, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &verified) == 0 &&
             (words->tls_ca[0] == '\0' || mysql_options(conn, MYSQL_OPT_SSL_CA, words->tls_ca) == 0) &&
             (words->tls_cert[0] == '\0' || (mysql_options(conn, MYSQL_OPT_SSL_CERT, words->tls_cert) == 0 &&
                                             mysql_options(conn, MYSQL_OPT_SSL_KEY, words->tls_key) == 0));
    return ok || hf_fail(err, HF_ERR_NO_MEMORY, "could not set a connection up: %s", mysql_error(conn));
}

static bool
log_in(MYSQL *conn, const struct hf_source_target *target, const struct hf_mariadb_words *words, struct hf_error *err)
{
    char password[PASSWORD_MOST + 1] = "", doing[160];
    if (target->password != NULL) {
        if (target->password->length > PASSWORD_MOST)
            return hf_fail(err, HF_ERR_USAGE, "the password of \"%s\" has more than %d bytes", target->name,
                           PASSWORD_MOST);
        memcpy(password, target->password->bytes, target->password->length);
        password[target->password->length] = '\0';
    }
    snprintf(doing, sizeof doing, "connect to \"%.100s\"", target->name);
    const bool ok = mysql_real_connect(conn, words->socket[0] != '\0' ? NULL : words->host,
                                       words->user[0] == '\0' ? NULL : words->user, password, NULL,
                                       words->socket[0] != '\0' ? 0 : words->port,
                                       words->socket[0] != '\0' ? words->socket : NULL, 0) != NULL;
    explicit_bzero(password, sizeof password);
    return ok || hf_mariadb_fail(conn, doing, err);
}

static bool
check_server(MYSQL *conn, const struct hf_flavour *flavour, const struct hf_source_target *target, struct hf_error *err)
{
    const bool is_mariadb = mariadb_connection(conn) != 0;
    const uint32_t version = hf_mariadb_version(conn);
    if (is_mariadb != flavour->server_is_mariadb) {
        hf_fail(err, HF_ERR_USAGE, "\"%s\" is a server of %s, not of %s", target->name,
                is_mariadb ? "MariaDB" : "MySQL", flavour->people);
        return hf_fail_hint(err, "Set \"engine\" of the source to \"%s\".", is_mariadb ? "mariadb" : "mysql");
    }
    if (version < flavour->oldest)
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is %s %u.%u, which is older than %u.%u", target->name,
                       flavour->people, version / 10000, version / 100 % 100, flavour->oldest / 10000,
                       flavour->oldest / 100 % 100);
    return true;
}
