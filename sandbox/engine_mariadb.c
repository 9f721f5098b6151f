#include "sandbox/engine_mariadb.h"

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "sandbox/build.h"

#define EMPTY              "/empty"   // inside: where plugins would lie
#define PLUGINS            "/plugins" // inside: where the one for keys lies
#define KEY_PLUGIN         "file_key_management.so"
#define KEY_FILE           "keys"
#define KEY_PASSWORD       "key-password"
#define KEY_OPTIONS        "prepare.cnf"      // what the prepare step takes from an option file alone
#define KEY_OPTIONS_FLAT   "prepare-flat.cnf" // the same at L1
#define VERSION_TIMEOUT_MS 10000
#define SERVER_ID_OPTION   "--server-id=4294967295"
#define COMPLETED          "completed OK!"
#define USUAL_BUFFERS      (64 * HF_MIB)

/* How distributors lay it out. */
static const struct layout {
    const char *server, *backup, *plugins;
} layouts[] = {
    {"/usr/sbin/mariadbd", "/usr/bin/mariadb-backup", "/usr/lib/mysql/plugin"},        // Debian, mariadb.org
    {"/usr/libexec/mariadbd", "/usr/bin/mariadb-backup", "/usr/lib64/mariadb/plugin"}, // Red Hat
    {"/usr/sbin/mariadbd", "/usr/bin/mariadb-backup", "/usr/lib64/mysql/plugin"},      // mariadb.org for Red Hat
    {"/bin/mariadbd", "/bin/mariadb-backup", "/lib/plugin"},                           // the tarball
};

/* What every start of the server forces. */
static const char *const forced[] = {
    // Code: nothing that the copy names is loaded or run.
    "--skip-grant-tables", // leaves mysql.plugin, mysql.func and mysql.event alone, too
    "--init-file=",
    "--init-connect=",
    "--init-slave=",
    "--event-scheduler=DISABLED",
    "--plugin-maturity=stable",
    "--feedback=OFF",
    "--performance-schema=OFF",
    // Network and files: nobody is called, nobody calls but through our socket, nothing outside is read.
    "--skip-networking",
    "--skip-name-resolve",
    "--skip-slave-start",
    SERVER_ID_OPTION,
    "--wsrep-on=OFF",
    "--wsrep-provider=none",
    "--local-infile=OFF",
    "--symbolic-links=OFF",
    "--skip-log-bin",
    // Truth: damage is reported, not mended and not passed over.
    "--innodb-force-recovery=0",
    "--myisam-recover-options=OFF",
    "--aria-recover-options=OFF",
    "--innodb-read-only-compressed=OFF",
    // Quiet: what runs is what we asked for.
    "--general-log=OFF",
    "--slow-query-log=OFF",
    "--userstat=OFF",
    "--innodb-buffer-pool-load-at-startup=OFF",
    "--innodb-buffer-pool-dump-at-shutdown=OFF",
    "--innodb-stats-auto-recalc=OFF",
    "--innodb-defragment=OFF",
    // Memory and processes: our sizes and not those of the machine it came from.
    "--innodb-use-native-aio=OFF",
    "--innodb-log-buffer-size=8M",
    "--key-buffer-size=16M",
    "--aria-pagecache-buffer-size=32M",
    "--query-cache-size=0",
    "--max-connections=32",
    "--table-open-cache=300",
    "--open-files-limit=1000",
    "--max-allowed-packet=1G",
    "--thread-handling=one-thread-per-connection",
    "--large-pages=OFF",
};

static bool list_prepare(const void *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool list_server(const void *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool list(const struct hf_mariadb_settings *settings, bool server, struct hf_sandbox_root *root,
                 struct hf_error *err);
static bool list_keys(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
                      struct hf_sandbox_root *root, struct hf_error *err);
static bool put_key_options(const struct hf_mariadb_settings *settings, const char *places_settings, const char *name,
                            struct hf_sandbox_root *root, struct hf_error *err);
static bool command_prepare(const void *settings, const struct hf_sandbox_places *places,
                            struct hf_sandbox_command *command, struct hf_error *err);
static bool command_server(const void *settings, const struct hf_sandbox_places *places,
                           struct hf_sandbox_command *command, struct hf_error *err);
static bool add_program(const char *program, const char *options, const struct hf_sandbox_places *places,
                        struct hf_sandbox_command *command, struct hf_error *err);
static bool add_layout(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command,
                       struct hf_error *err);
static bool add_plugin_folder(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
                              const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                              struct hf_error *err);
static bool add_plugins(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
                        const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                        struct hf_error *err);
static bool add_places(const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                       struct hf_error *err);
static bool add_sizes(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command,
                      struct hf_error *err);
static bool add_relay_log(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command,
                          struct hf_error *err);
static enum hf_sandbox_news judge_prepare(const char *line);
static enum hf_sandbox_news judge_server(const char *line);
static bool ask_version(const char *program, const char *packages, const char *before,
                        char ret[static HF_MARIADB_VERSION_BYTES]);

const struct hf_sandbox_engine hf_engine_mariadb_prepare = {.name = "mariadb-prepare",
                                                            .list = list_prepare,
                                                            .command = command_prepare,
                                                            .judge = judge_prepare,
                                                            .socket_name = NULL};
const struct hf_sandbox_engine hf_engine_mariadb = {.name = "mariadb",
                                                    .list = list_server,
                                                    .command = command_server,
                                                    .judge = judge_server,
                                                    .socket_name = "/" HF_MARIADB_SOCKET};

bool
hf_mariadb_find(const char *series, const char *packages, struct hf_mariadb_programs *ret, struct hf_error *err)
{
    char tool[HF_MARIADB_VERSION_BYTES], found[16], other[16];
    const char *root = packages == NULL ? "" : packages;
    bool silent = false; // a program is there, and does not say what it is
    for (size_t i = 0; i < HF_LENGTH(layouts); i++) {
        struct hf_mariadb_programs programs = {0};
        snprintf(programs.server, sizeof programs.server, "%.300s%s", root, layouts[i].server);
        snprintf(programs.backup, sizeof programs.backup, "%.300s%s", root, layouts[i].backup);
        snprintf(programs.plugins, sizeof programs.plugins, "%.300s%s", root, layouts[i].plugins);
        if (access(programs.server, X_OK) != 0 || (i + 1 < HF_LENGTH(layouts) && access(programs.plugins, F_OK) != 0))
            continue;
        if (!ask_version(programs.server, packages, "Ver ", programs.version) ||
            !hf_mariadb_series(programs.version, found)) {
            silent = true;
            continue;
        }
        if (strcmp(found, series) != 0) {
            hf_fail(err, HF_ERR_NOT_FOUND, "MariaDB %s is not on this host: \"%s\" is of version %s", series,
                    programs.server, programs.version);
            return hf_fail_hint(err, "Install the package mariadb-server of MariaDB %s; it need not be running.",
                                series);
        }
        if (access(programs.backup, X_OK) != 0 || !ask_version(programs.backup, packages, "MariaDB server ", tool) ||
            !hf_mariadb_series(tool, other) || strcmp(other, series) != 0) {
            hf_fail(err, HF_ERR_NOT_FOUND,
                    "mariadb-backup %s is not on this host: \"%s\" is missing or of another series", series,
                    programs.backup);
            return hf_fail_hint(err, "Install the package mariadb-backup of MariaDB %s.", series);
        }
        *ret = programs;
        return true;
    }
    if (silent)
        return hf_fail(err, HF_ERR_NOT_FOUND, "could not find MariaDB %s: \"%s%s\" does not say which version it is",
                       series, root, layouts[0].server);
    hf_fail(err, HF_ERR_NOT_FOUND, "MariaDB %s is not on this host: there is no \"%s%s\"", series, root,
            layouts[0].server);
    return hf_fail_hint(err,
                        "Install the packages mariadb-server and mariadb-backup of MariaDB %s; the server need "
                        "not be running.",
                        series);
}

bool
hf_mariadb_find_among(const char *series, const char *const *prefixes, const char **ret_packages, struct hf_error *err)
{
    struct hf_mariadb_programs programs;
    *ret_packages = NULL;
    if (hf_mariadb_find(series, NULL, &programs, err))
        return true;
    for (size_t i = 0; prefixes != NULL && prefixes[i] != NULL; i++) {
        struct hf_error ignored;
        if (hf_mariadb_find(series, prefixes[i], &programs, &ignored)) {
            *ret_packages = prefixes[i];
            return true;
        }
    }
    return false;
}

bool
hf_mariadb_series(const char *version, char ret[static 16])
{
    unsigned major, minor, patch;
    int used = 0;
    if (sscanf(version, "%3u.%3u.%3u%n", &major, &minor, &patch, &used) != 3 || major < 5 ||
        (version[used] != '\0' && version[used] != '-'))
        return false;
    snprintf(ret, 16, "%u.%u", major, minor);
    return true;
}

bool
hf_mariadb_prepare_succeeded(const char *log)
{
    size_t length = strlen(log);
    while (length > 0 && log[length - 1] == '\n')
        length--;
    return length >= sizeof COMPLETED - 1 &&
           memcmp(log + length - (sizeof COMPLETED - 1), COMPLETED, sizeof COMPLETED - 1) == 0;
}

static bool
list_prepare(const void *settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    return list(settings, false, root, err);
}

static bool
list_server(const void *settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    return list(settings, true, root, err);
}

/* Inside, the program stands where the distributor put it; messages and character sets are compiled in. */
static bool
list(const struct hf_mariadb_settings *settings, bool server, struct hf_sandbox_root *root, struct hf_error *err)
{
    struct hf_mariadb_programs programs;
    char libraries[HF_MARIADB_PATHS_BYTES], more_libraries[HF_MARIADB_PATHS_BYTES], module[HF_MARIADB_PATHS_BYTES + 32];
    if (!hf_mariadb_find(settings->series, settings->packages, &programs, err))
        return false;
    const char *packages = settings->packages == NULL ? "" : settings->packages;
    const char *program = server ? programs.server : programs.backup;
    snprintf(libraries, sizeof libraries, "%.300s/usr/lib/" HF_SANDBOX_TRIPLET, packages);
    snprintf(more_libraries, sizeof more_libraries, "%.300s/usr/lib", packages);
    snprintf(module, sizeof module, "%s/" KEY_PLUGIN, programs.plugins);
    const char *const folders[] = {libraries, more_libraries, NULL};
    const char *const modules[] = {settings->keys == NULL ? NULL : module, NULL};
    if (settings->keys != NULL && access(module, R_OK) != 0)
        return hf_fail(err, HF_ERR_NOT_FOUND, "the plugin for encrypted tables is not on this host: there is no \"%s\"",
                       module);
    return hf_sandbox_root_add_program(root, program, program + strlen(packages), modules,
                                       settings->packages == NULL ? NULL : folders, err) &&
           hf_sandbox_root_add(root, HF_LAUNCH_EMPTY, "", EMPTY, err) &&
           (settings->keys == NULL || list_keys(settings, &programs, root, err));
}

static bool
list_keys(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
          struct hf_sandbox_root *root, struct hf_error *err)
{
    char module[HF_MARIADB_PATHS_BYTES + 32];
    snprintf(module, sizeof module, "%s/" KEY_PLUGIN, programs->plugins);
    return hf_sandbox_root_add(root, HF_LAUNCH_RUN, module, PLUGINS "/" KEY_PLUGIN, err) &&
           hf_sandbox_root_add_setting(root, KEY_FILE, settings->keys->file, err) &&
           (settings->keys->password == NULL ||
            hf_sandbox_root_add_setting(root, KEY_PASSWORD, settings->keys->password, err)) &&
           put_key_options(settings, HF_SANDBOX_SETTINGS, KEY_OPTIONS, root, err) &&
           put_key_options(settings, root->settings_folder, KEY_OPTIONS_FLAT, root, err);
}

/*
 * mariadb-backup knows no options of plugins on its command line.  Which plugin to load it takes from the copy's
 * backup-my.cnf (hf_mariadb_make_ready), and that only without --no-defaults; what the plugin is told, from here.
 */
static bool
put_key_options(const struct hf_mariadb_settings *settings, const char *places_settings, const char *name,
                struct hf_sandbox_root *root, struct hf_error *err)
{
    const struct hf_mariadb_keys *keys = settings->keys;
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(16 * HF_KIB);
    return hf_buf_printf(&text, err,
                         "[mysqld]\n"
                         "file_key_management_filename=%s/" KEY_FILE "\n",
                         places_settings) &&
           (keys->password == NULL ||
            hf_buf_printf(&text, err, "file_key_management_filekey=FILE:%s/" KEY_PASSWORD "\n", places_settings)) &&
           (keys->algorithm == NULL ||
            hf_buf_printf(&text, err, "file_key_management_encryption_algorithm=%s\n", keys->algorithm)) &&
           hf_sandbox_root_add_setting(root, name, hf_buf_text(&text), err);
}

static bool
command_prepare(const void *engine_settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                struct hf_error *err)
{
    const struct hf_mariadb_settings *settings = engine_settings;
    struct hf_mariadb_programs programs;
    if (places->data == NULL)
        return hf_fail(err, HF_ERR_USAGE, "mariadb-backup needs a folder to prepare");
    const uint64_t memory = settings->buffer_pool_bytes == 0 ? USUAL_BUFFERS : settings->buffer_pool_bytes;
    return hf_mariadb_find(settings->series, settings->packages, &programs, err) &&
           add_program(programs.backup + (places->flat || settings->packages == NULL ? 0 : strlen(settings->packages)),
                       settings->keys == NULL ? NULL
                       : places->flat         ? KEY_OPTIONS_FLAT
                                              : KEY_OPTIONS,
                       places, command, err) &&
           hf_sandbox_command_argument(command, err, "--prepare") &&
           hf_sandbox_command_argument(command, err, "--target-dir=%s", places->data) &&
           hf_sandbox_command_argument(command, err, "--tmpdir=%s", places->memory) &&
           hf_sandbox_command_argument(command, err, "--use-memory=%llu", (unsigned long long)memory) &&
           hf_sandbox_command_argument(command, err, "--innodb-use-native-aio=0") &&
           hf_sandbox_command_argument(command, err, "--innodb-flush-method=%s",
                                       settings->durable ? "fsync" : "nosync") &&
           hf_sandbox_command_argument(command, err, "--open-files-limit=1000") && add_layout(settings, command, err) &&
           add_plugin_folder(settings, &programs, places, command, err) &&
           hf_sandbox_command_variable(command, err, "TZ=UTC");
}

static bool
command_server(const void *engine_settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
               struct hf_error *err)
{
    const struct hf_mariadb_settings *settings = engine_settings;
    struct hf_mariadb_programs programs;
    if (places->data == NULL)
        return hf_fail(err, HF_ERR_USAGE, "MariaDB needs a data directory");
    if (!hf_mariadb_find(settings->series, settings->packages, &programs, err) ||
        !add_program(programs.server + (places->flat || settings->packages == NULL ? 0 : strlen(settings->packages)),
                     NULL, places, command, err) ||
        !add_places(places, command, err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(forced); i++) {
        if (!hf_sandbox_command_argument(command, err, "%s", forced[i]))
            return false;
    }
    if (!add_layout(settings, command, err) || !add_plugins(settings, &programs, places, command, err) ||
        !add_sizes(settings, command, err) || !add_relay_log(settings, command, err))
        return false;
    for (size_t i = 0; settings->more != NULL && settings->more[i] != NULL; i++) {
        if (!hf_sandbox_command_argument(command, err, "%s", settings->more[i]))
            return false;
    }
    return hf_sandbox_command_variable(command, err, "TZ=UTC");
}

/*
 * Where options come from counts as the first argument only; `options`: a file of our settings, NULL: no file at all.
 */
static bool
add_program(const char *program, const char *options, const struct hf_sandbox_places *places,
            struct hf_sandbox_command *command, struct hf_error *err)
{
    return hf_sandbox_command_program(command, program, err) &&
           hf_sandbox_command_argument(command, err, "%s", program) &&
           (options == NULL
                ? hf_sandbox_command_argument(command, err, "--no-defaults")
                : hf_sandbox_command_argument(command, err, "--defaults-file=%s/%s", places->settings, options));
}

/* Another size of the log would make the server write a new one, as large as that. */
static bool
add_layout(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command, struct hf_error *err)
{
    struct hf_mariadb_layout layout = settings->layout;
    if (layout.page_bytes == 0 && !hf_mariadb_parse_layout("", 0, &layout, err))
        return false;
    return hf_sandbox_command_argument(command, err, "--innodb-page-size=%u", layout.page_bytes) &&
           hf_sandbox_command_argument(command, err, "--innodb-data-file-path=%s", layout.data_file_path) &&
           hf_sandbox_command_argument(command, err, "--innodb-undo-tablespaces=%u", layout.undo_tablespaces) &&
           hf_sandbox_command_argument(command, err, "--innodb-undo-directory=./") &&
           hf_sandbox_command_argument(command, err, "--innodb-checksum-algorithm=%s", layout.checksum_algorithm) &&
           hf_sandbox_command_argument(command, err, "--innodb-log-file-size=%llu",
                                       (unsigned long long)layout.log_file_bytes);
}

/* At L1 there is no folder that holds nothing: ours with the settings holds no library. */
static bool
add_plugin_folder(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
                  const struct hf_sandbox_places *places, struct hf_sandbox_command *command, struct hf_error *err)
{
    if (settings->keys == NULL)
        return hf_sandbox_command_argument(command, err, "--plugin-dir=%s", places->flat ? places->settings : EMPTY);
    return hf_sandbox_command_argument(command, err, "--plugin-dir=%s", places->flat ? programs->plugins : PLUGINS);
}

static bool
add_plugins(const struct hf_mariadb_settings *settings, const struct hf_mariadb_programs *programs,
            const struct hf_sandbox_places *places, struct hf_sandbox_command *command, struct hf_error *err)
{
    const struct hf_mariadb_keys *keys = settings->keys;
    if (!add_plugin_folder(settings, programs, places, command, err))
        return false;
    if (keys == NULL)
        return true;
    return hf_sandbox_command_argument(command, err, "--plugin-load-add=" KEY_PLUGIN) &&
           hf_sandbox_command_argument(command, err, "--file-key-management-filename=%s/" KEY_FILE, places->settings) &&
           (keys->password == NULL ||
            hf_sandbox_command_argument(command, err, "--file-key-management-filekey=FILE:%s/" KEY_PASSWORD,
                                        places->settings)) &&
           (keys->algorithm == NULL ||
            hf_sandbox_command_argument(command, err, "--file-key-management-encryption-algorithm=%s",
                                        keys->algorithm));
}

static bool
add_places(const struct hf_sandbox_places *places, struct hf_sandbox_command *command, struct hf_error *err)
{
    const char *empty = places->flat ? places->settings : EMPTY;
    return hf_sandbox_command_argument(command, err, "--datadir=%s", places->data) &&
           hf_sandbox_command_argument(command, err, "--socket=%s/" HF_MARIADB_SOCKET, places->socket) &&
           hf_sandbox_command_argument(command, err, "--pid-file=%s/mariadb.pid", places->memory) &&
           hf_sandbox_command_argument(command, err, "--tmpdir=%s", places->memory) &&
           hf_sandbox_command_argument(command, err, "--slave-load-tmpdir=%s", places->memory) &&
           hf_sandbox_command_argument(command, err, "--secure-file-priv=%s", empty) &&
           hf_sandbox_command_argument(command, err, "--innodb-data-home-dir=%s", places->data) &&
           hf_sandbox_command_argument(command, err, "--innodb-log-group-home-dir=%s", places->data) &&
           hf_sandbox_command_argument(command, err, "--aria-log-dir-path=%s", places->data);
}

static bool
add_sizes(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command, struct hf_error *err)
{
    const unsigned long long pool = settings->buffer_pool_bytes == 0 ? USUAL_BUFFERS : settings->buffer_pool_bytes;
    return hf_sandbox_command_argument(command, err, "--innodb-buffer-pool-size=%llu", pool) &&
           // A server that knows this one would reserve 8 TiB of addresses otherwise.
           hf_sandbox_command_argument(command, err, "--loose-innodb-buffer-pool-size-max=%llu", pool) &&
           hf_sandbox_command_argument(command, err, "--innodb-flush-method=%s",
                                       settings->durable ? "fsync" : "nosync") &&
           hf_sandbox_command_argument(command, err, "--innodb-doublewrite=%s", settings->durable ? "ON" : "OFF") &&
           hf_sandbox_command_argument(command, err, "--innodb-flush-log-at-trx-commit=%d",
                                       settings->durable ? 1 : 2) &&
           hf_sandbox_command_argument(command, err, "--lower-case-table-names=%d", settings->lower_case_table_names);
}

static bool
add_relay_log(const struct hf_mariadb_settings *settings, struct hf_sandbox_command *command, struct hf_error *err)
{
    static const char *const arguments[] = {"--relay-log=holdfast-relay",
                                            "--relay-log-index=holdfast-relay.index",
                                            "--relay-log-info-file=holdfast-relay.info",
                                            "--master-info-file=holdfast-source.info",
                                            "--relay-log-purge=OFF",
                                            "--relay-log-recovery=OFF",
                                            "--slave-skip-errors=OFF",
                                            "--slave-parallel-threads=0",
                                            "--slave-transaction-retries=10",
                                            "--sync-relay-log=0",
                                            "--sync-relay-log-info=0"};
    for (size_t i = 0; settings->applies_relay_log && i < HF_LENGTH(arguments); i++) {
        if (!hf_sandbox_command_argument(command, err, "%s", arguments[i]))
            return false;
    }
    return true;
}

static enum hf_sandbox_news
judge_prepare(const char *line)
{
    (void)line; // it serves nobody: its end is what counts
    return HF_SANDBOX_NO_NEWS;
}

/* "2026-11-23 20:08:20 0 [Note] /usr/sbin/mariadbd: ready for connections." */
static enum hf_sandbox_news
judge_server(const char *line)
{
    static const char words[] = "mariadbd: ready for connections.";
    const size_t length = strlen(line);
    if (length < sizeof words - 1 || strstr(line, " 0 [Note] ") == NULL)
        return HF_SANDBOX_NO_NEWS;
    return strcmp(line + length - (sizeof words - 1), words) == 0 ? HF_SANDBOX_READY : HF_SANDBOX_NO_NEWS;
}

/* The version behind the words `before`, up to a space; of a program of the host's, not of the copy's. */
static bool
ask_version(const char *program, const char *packages, const char *before, char ret[static HF_MARIADB_VERSION_BYTES])
{
    char path[HF_MARIADB_PATHS_BYTES];
    struct hf_error ignored;
    int status;
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(4 * HF_KIB);
    _cleanup_(hf_buf_done) struct hf_buf errors = HF_BUF_INIT(4 * HF_KIB);
    snprintf(path, sizeof path, "LD_LIBRARY_PATH=%.300s/usr/lib/" HF_SANDBOX_TRIPLET, packages == NULL ? "" : packages);
    const char *const argv[] = {program, "--no-defaults", "--version", NULL};
    const char *const environment[] = {"LANG=C.UTF-8", packages == NULL ? NULL : path, NULL};
    const struct hf_process_options options = {
        .argv = argv, .environment = environment, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    if (!hf_process_run(&options, NULL, 0, VERSION_TIMEOUT_MS, &output, &errors, &status, &ignored) ||
        !WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return false;
    const char *found = strstr(hf_buf_text(&output), before); // the tool says it on the other stream
    if (found == NULL)
        found = strstr(hf_buf_text(&errors), before);
    if (found == NULL)
        return false;
    found += strlen(before);
    const size_t length = strcspn(found, " \n");
    snprintf(ret, HF_MARIADB_VERSION_BYTES, "%.*s", (int)(length < 60 ? length : 60), found);
    return strstr(ret, "MariaDB") != NULL;
}
