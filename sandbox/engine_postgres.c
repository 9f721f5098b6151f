#include "sandbox/engine_postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define IN_PLACE       "allow_in_place_tablespaces"
#define IN_PLACE_SINCE 15 // from its first release on; 13.8 and 14.5 learned it later
#define MOST_MODULES   512
#define ZONES          "/usr/share/zoneinfo"
#define LOCALES        "/usr/lib/locale"
#define OWN_LOCALES    "/locales"
#define UPSTREAM       "/run/upstream"
#define PATH_BYTES     512

/* How distributors lay it out; %u is the major version.  own_libraries: of a tree that brings its own. */
static const struct layout {
    const char *program, *modules, *share, *own_libraries;
} layouts[] = {
    {"/usr/lib/postgresql/%u/bin/postgres", "/usr/lib/postgresql/%u/lib", "/usr/share/postgresql/%u", NULL}, // Debian
    {"/usr/pgsql-%u/bin/postgres", "/usr/pgsql-%u/lib", "/usr/pgsql-%u/share", NULL},                        // PGDG
    {"/%u/bin/postgres", "/%u/lib/postgresql", "/%u/share/postgresql", "/%u/lib"}, // built with a prefix, moved here
};

/*
 * Modules whose libraries stay outside: languages that may do anything, and the compiler behind jit.  A function in one
 * of them fails to load, which makes its checks not determinable, by name.
 */
static const char *const left_out[] = {"llvmjit", "plpython", "plperl", "pltcl", "libplpython", "hstore_pl", "jsonb_pl",
                                       "bool_pl", "ltree_pl", "pljava", "plv8",  "plr",         "plsh"};

/* What every start forces.  `from` and `until` are major versions that know the setting; 0: all. */
static const struct forced {
    const char *setting;
    unsigned from, until;
} forced[] = {
    // Code: nothing that the copy names is loaded.
    {"session_preload_libraries=", 0, 0},
    {"local_preload_libraries=", 0, 0},
    {"dynamic_library_path=$libdir", 0, 0},
    {"extension_control_path=$system", 18, 0},
    {"oauth_validator_libraries=", 18, 0},
    {"jit=off", 0, 0},
    {"event_triggers=off", 17, 0},
    // Commands: nothing that the copy names is run.
    {"archive_mode=off", 0, 0},
    {"archive_command=", 0, 0},
    {"archive_library=", 15, 0},
    {"restore_command=", 0, 0},
    {"archive_cleanup_command=", 0, 0},
    {"recovery_end_command=", 0, 0},
    {"ssl=off", 0, 0},
    {"ssl_passphrase_command=", 0, 0},
    // Network: nobody is called, nobody calls but through our socket.
    {"listen_addresses=", 0, 0},
    {"unix_socket_group=", 0, 0},
    {"unix_socket_permissions=0777", 0, 0}, // its folder is closed, and who asks may have another uid
    {"bonjour=off", 0, 0},
    {"primary_slot_name=", 0, 0},
    {"sync_replication_slots=off", 17, 0},
    {"synchronized_standby_slots=", 17, 0},
    {"max_logical_replication_workers=0", 0, 0},
    {"hot_standby_feedback=off", 0, 0},
    {"wal_receiver_create_temp_slot=off", 0, 0},
    {"db_user_namespace=off", 0, 16},
    {"pre_auth_delay=0", 0, 0},
    {"post_auth_delay=0", 0, 0},
    {"client_connection_check_interval=0", 14, 0},
    {"reserved_connections=0", 16, 0},
    // Truth: damage is reported and not passed over.
    {"zero_damaged_pages=off", 0, 0},
    {"ignore_checksum_failure=off", 0, 0},
    {"ignore_invalid_pages=off", 0, 0},
    {"ignore_system_indexes=off", 0, 0},
    {"data_sync_retry=off", 0, 0},
    {"restart_after_crash=off", 0, 0},
    {"exit_on_error=off", 0, 0},
    {"default_transaction_read_only=off", 0, 0},
    // Memory and processes: our sizes and not those of the machine it came from.
    {"huge_pages=off", 0, 0},
    {"shared_memory_type=mmap", 0, 0},
    {"min_dynamic_shared_memory=0", 14, 0},
    {"io_method=worker", 18, 0},
    {"debug_io_direct=", 16, 0},
    {"work_mem=16MB", 0, 0},
    {"maintenance_work_mem=64MB", 0, 0},
    {"temp_buffers=8MB", 0, 0},
    {"wal_buffers=-1", 0, 0},
    {"max_parallel_workers=2", 0, 0},
    {"max_parallel_workers_per_gather=2", 0, 0},
    {"max_parallel_maintenance_workers=0", 0, 0},
    {"max_files_per_process=900", 0, 0},
    {"superuser_reserved_connections=3", 0, 0},
    {"temp_tablespaces=", 0, 0},
    {"stats_temp_directory=pg_stat_tmp", 0, 14},
    // Quiet: what runs is what we asked for.
    {"autovacuum=off", 0, 0},
    {"summarize_wal=off", 17, 0},
    {"synchronous_standby_names=", 0, 0},
    {"wal_level=replica", 0, 0},
    {"max_replication_slots=10", 0, 0},
    {"checkpoint_timeout=30min", 0, 0},
    {"statement_timeout=0", 0, 0},
    {"lock_timeout=0", 0, 0},
    {"idle_in_transaction_session_timeout=0", 0, 0},
    {"idle_session_timeout=0", 14, 0},
    {"transaction_timeout=0", 17, 0},
    // Recovery: ours alone.
    {"hot_standby=on", 0, 0},
    {"recovery_min_apply_delay=0", 0, 0},
    {"promote_trigger_file=", 0, 15},
    {"recovery_init_sync_method=fsync", 14, 0},
    {"wal_retrieve_retry_interval=200ms", 0, 0},
    // Log: English, on stderr, without the rows that failing statements carry.
    {"logging_collector=off", 0, 0},
    {"log_destination=stderr", 0, 0},
    {"log_line_prefix=%m [%p] ", 0, 0},
    {"log_min_messages=warning", 0, 0},
    {"log_min_error_statement=panic", 0, 0},
    {"log_error_verbosity=default", 0, 0},
    {"log_statement=none", 0, 0},
    {"log_min_duration_statement=-1", 0, 0},
    {"log_min_duration_sample=-1", 0, 0},
    {"log_parser_stats=off", 0, 0},
    {"log_planner_stats=off", 0, 0},
    {"log_executor_stats=off", 0, 0},
    {"log_statement_stats=off", 0, 0},
    {"debug_print_parse=off", 0, 0},
    {"debug_print_rewritten=off", 0, 0},
    {"debug_print_plan=off", 0, 0},
    {"backtrace_functions=", 0, 0},
    {"lc_messages=C", 0, 0},
    {"log_timezone=UTC", 0, 0},
    {"timezone=UTC", 0, 0},
};

/* The names of recovery_target_*; all are emptied, since two at once are fatal, then at most one is set. */
static const char *const target_names[] = {
    [HF_POSTGRES_TO_IMMEDIATE] = "recovery_target", [HF_POSTGRES_TO_TIME] = "recovery_target_time",
    [HF_POSTGRES_TO_LSN] = "recovery_target_lsn",   [HF_POSTGRES_TO_XID] = "recovery_target_xid",
    [HF_POSTGRES_TO_NAME] = "recovery_target_name",
};

static const char *const action_names[] = {
    [HF_POSTGRES_PAUSE] = "pause", [HF_POSTGRES_PROMOTE] = "promote", [HF_POSTGRES_SHUTDOWN] = "shutdown"};

#define CONNECTION_OPTIONS                                                                                             \
    "-c session_preload_libraries= -c local_preload_libraries= -c dynamic_library_path=$libdir -c jit=off "            \
    "-c row_security=off -c search_path=pg_catalog -c session_replication_role=replica "                               \
    "-c zero_damaged_pages=off -c ignore_checksum_failure=off -c default_transaction_read_only=off "                   \
    "-c statement_timeout=3600000 -c idle_in_transaction_session_timeout=3600000 -c lock_timeout=0 "                   \
    "-c client_min_messages=warning -c datestyle=ISO -c intervalstyle=iso_8601 -c timezone=UTC -c bytea_output=hex"

static bool list(const void *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool add_server(const struct hf_postgres_settings *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool list_modules(const char *folder, char ***ret, struct hf_error *err);
static bool is_left_out(const char *name);
static bool add_shared(const struct hf_postgres_settings *settings, struct hf_sandbox_root *root, struct hf_error *err);
static bool add_if_there(struct hf_sandbox_root *root, const char *from, const char *to, struct hf_error *err);
static bool add_settings(struct hf_sandbox_root *root, struct hf_error *err);
static bool command(const void *settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                    struct hf_error *err);
static bool add_places(const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
                       struct hf_error *err);
static bool add_forced(unsigned major, struct hf_sandbox_command *command, struct hf_error *err);
static bool add_tablespaces(const struct hf_postgres_settings *settings, const struct layout *layout,
                            struct hf_sandbox_command *command, struct hf_error *err);
static bool holds_word(const char *program, const char *word);
static bool add_sizes(const struct hf_postgres_settings *settings, struct hf_sandbox_command *command,
                      struct hf_error *err);
static bool add_recovery(const struct hf_postgres_settings *settings, const struct hf_sandbox_places *places,
                         struct hf_sandbox_command *command, struct hf_error *err);
static bool add_upstream(const struct hf_postgres_settings *settings, const struct hf_sandbox_places *places,
                         struct hf_sandbox_command *command, struct hf_error *err);
static void quote_conninfo(const char *value, char *quoted, size_t size);
static bool force(struct hf_sandbox_command *command, struct hf_error *err, const char *format, ...) HF_PRINTF(3, 4);
static enum hf_sandbox_news judge(const char *line);
static bool find_layout(unsigned major, const char *packages, const struct layout **ret, struct hf_error *err);
static void fill_path(char path[static PATH_BYTES], const char *packages, const char *pattern, unsigned major);
static bool remove_whatever(const char *path, struct hf_error *err);
static bool empty_folder(const char *data, const char *name, struct hf_error *err);
static bool write_empty(const char *data, const char *name, struct hf_error *err);
static uint64_t or_default(uint64_t value, uint64_t usual);

const struct hf_sandbox_engine hf_engine_postgres = {
    .name = "postgres", .list = list, .command = command, .judge = judge, .socket_name = "/.s.PGSQL.5432"};

bool
hf_postgres_prepare(const char *data, bool standby, struct hf_error *err)
{
    static const char *const stale[] = {"recovery.signal", "standby.signal",       "postmaster.pid",
                                        "postmaster.opts", "postgresql.auto.conf", "postgresql.auto.conf.tmp"};
    static const char *const emptied[] = {"pg_replslot", "pg_stat_tmp", "pg_dynshmem"};
    for (size_t i = 0; i < HF_LENGTH(stale); i++) {
        _cleanup_(hf_freep) char *path = hf_path_join(data, stale[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (!remove_whatever(path, err))
            return false;
    }
    for (size_t i = 0; i < HF_LENGTH(emptied); i++) {
        if (!empty_folder(data, emptied[i], err))
            return false;
    }
    return write_empty(data, "postgresql.auto.conf", err) && (!standby || write_empty(data, "standby.signal", err));
}

bool
hf_postgres_find(unsigned major, const char *packages, char **ret_program, struct hf_error *err)
{
    const struct layout *layout;
    char path[PATH_BYTES];
    if (!find_layout(major, packages, &layout, err))
        return false;
    fill_path(path, packages, layout->program, major);
    if (ret_program == NULL)
        return true;
    *ret_program = strdup(path);
    if (*ret_program == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return true;
}

bool
hf_postgres_find_among(unsigned major, const char *const *prefixes, const char **ret_packages, struct hf_error *err)
{
    *ret_packages = NULL;
    if (hf_postgres_find(major, NULL, NULL, err))
        return true;
    for (size_t i = 0; prefixes != NULL && prefixes[i] != NULL; i++) {
        struct hf_error ignored;
        if (hf_postgres_find(major, prefixes[i], NULL, &ignored)) {
            *ret_packages = prefixes[i];
            return true;
        }
    }
    return false;
}

const char *
hf_postgres_connection_options(unsigned major)
{
    return major >= 17 ? CONNECTION_OPTIONS " -c event_triggers=off -c transaction_timeout=0" : CONNECTION_OPTIONS;
}

static bool
list(const void *engine_settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    const struct hf_postgres_settings *settings = engine_settings;
    if (!add_server(settings, root, err) || !add_shared(settings, root, err) || !add_settings(root, err))
        return false;
    for (size_t i = 0; i < settings->folder_count; i++) {
        const struct hf_postgres_folder *folder = &settings->folders[i];
        if (!hf_sandbox_root_add(root, HF_LAUNCH_WRITE, folder->outside, folder->inside, err))
            return false;
    }
    return settings->upstream == NULL || hf_sandbox_root_add(root, HF_LAUNCH_READ, settings->upstream, UPSTREAM, err);
}

/* Inside, everything stands where the distributor built it for: the server finds its files from its own path. */
static bool
add_server(const struct hf_postgres_settings *settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    const struct layout *layout;
    char program[PATH_BYTES], folder[PATH_BYTES], share[PATH_BYTES], to[PATH_BYTES];
    char libraries[PATH_BYTES], more_libraries[PATH_BYTES], own_libraries[PATH_BYTES];
    _cleanup_(hf_strv_freep) char **modules = NULL;
    if (!find_layout(settings->major, settings->packages, &layout, err))
        return false;
    fill_path(program, settings->packages, layout->program, settings->major);
    fill_path(folder, settings->packages, layout->modules, settings->major);
    fill_path(share, settings->packages, layout->share, settings->major);
    fill_path(libraries, settings->packages, "/usr/lib/" HF_SANDBOX_TRIPLET, 0);
    fill_path(more_libraries, settings->packages, "/usr/lib", 0);
    fill_path(own_libraries, settings->packages, layout->own_libraries != NULL ? layout->own_libraries : "/lib",
              settings->major);
    const char *const library_folders[] = {own_libraries, libraries, more_libraries, NULL};
    if (!list_modules(folder, &modules, err))
        return false;

    fill_path(to, NULL, layout->program, settings->major);
    if (!hf_sandbox_root_add_program(root, program, to, (const char *const *)modules,
                                     settings->packages == NULL ? NULL : library_folders, err))
        return false;
    fill_path(to, NULL, layout->modules, settings->major);
    if (!hf_sandbox_root_add(root, HF_LAUNCH_RUN, folder, to, err))
        return false;
    fill_path(to, NULL, layout->share, settings->major);
    return hf_sandbox_root_add(root, HF_LAUNCH_READ, share, to, err);
}

static bool
list_modules(const char *folder, char ***ret, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count, kept = 0;
    if (!hf_dir_list(folder, MOST_MODULES, &names, &count, err))
        return false;
    _cleanup_(hf_strv_freep) char **paths = calloc(count + 1, sizeof *paths);
    if (paths == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the modules of PostgreSQL");
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(names[i]);
        if (length < 4 || strcmp(names[i] + length - 3, ".so") != 0 || is_left_out(names[i]))
            continue;
        paths[kept] = hf_path_join(folder, names[i]);
        if (paths[kept++] == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the modules of PostgreSQL");
    }
    *ret = HF_TAKE(paths);
    return true;
}

static bool
is_left_out(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(left_out); i++) {
        if (strncmp(name, left_out[i], strlen(left_out[i])) == 0)
            return true;
    }
    return false;
}

/* Debian's zoneinfo/localtime is a link to /etc/localtime; without that, pg_timezone_names fails. */
static bool
add_shared(const struct hf_postgres_settings *settings, struct hf_sandbox_root *root, struct hf_error *err)
{
    if (!add_if_there(root, ZONES, ZONES, err) || !add_if_there(root, ZONES "/UTC", "/etc/localtime", err) ||
        !add_if_there(root, LOCALES, LOCALES, err))
        return false;
    return settings->locales == NULL || hf_sandbox_root_add(root, HF_LAUNCH_READ, settings->locales, OWN_LOCALES, err);
}

static bool
add_if_there(struct hf_sandbox_root *root, const char *from, const char *to, struct hf_error *err)
{
    return access(from, F_OK) != 0 || hf_sandbox_root_add(root, HF_LAUNCH_READ, from, to, err);
}

/* Whoever reaches the socket may come in: the folder it lies in is closed to everyone else. */
static bool
add_settings(struct hf_sandbox_root *root, struct hf_error *err)
{
    return hf_sandbox_root_add_setting(root, "postgresql.conf", "# Everything is on the command line.\n", err) &&
           hf_sandbox_root_add_setting(root, "pg_hba.conf", "local all all trust\n", err) &&
           hf_sandbox_root_add_setting(root, "pg_ident.conf", "# Nobody is anybody else.\n", err);
}

static bool
command(const void *engine_settings, const struct hf_sandbox_places *places, struct hf_sandbox_command *command,
        struct hf_error *err)
{
    const struct hf_postgres_settings *settings = engine_settings;
    const struct layout *layout;
    char program[PATH_BYTES];
    if (places->data == NULL)
        return hf_fail(err, HF_ERR_USAGE, "PostgreSQL needs a data directory");
    if (!find_layout(settings->major, settings->packages, &layout, err))
        return false;
    fill_path(program, places->flat ? settings->packages : NULL, layout->program, settings->major);
    if (!hf_sandbox_command_program(command, program, err) ||
        !hf_sandbox_command_argument(command, err, "%s", program) || !hf_sandbox_command_argument(command, err, "-D") ||
        !hf_sandbox_command_argument(command, err, "%s", places->data) || !add_places(places, command, err) ||
        !add_forced(settings->major, command, err) || !add_tablespaces(settings, layout, command, err) ||
        !add_sizes(settings, command, err) || !add_recovery(settings, places, command, err))
        return false;
    for (size_t i = 0; settings->more != NULL && settings->more[i] != NULL; i++) {
        if (!force(command, err, "%s", settings->more[i]))
            return false;
    }
    const char *locales = places->flat ? settings->locales : OWN_LOCALES;
    return hf_sandbox_command_variable(command, err, "LC_ALL=C") &&
           hf_sandbox_command_variable(command, err, "TZ=UTC") &&
           (settings->locales == NULL || hf_sandbox_command_variable(command, err, "LOCPATH=%s:" LOCALES, locales));
}

static bool
add_places(const struct hf_sandbox_places *places, struct hf_sandbox_command *command, struct hf_error *err)
{
    return force(command, err, "config_file=%s/postgresql.conf", places->settings) &&
           force(command, err, "hba_file=%s/pg_hba.conf", places->settings) &&
           force(command, err, "ident_file=%s/pg_ident.conf", places->settings) &&
           force(command, err, "external_pid_file=%s/postgres.pid", places->memory) &&
           force(command, err, "unix_socket_directories=%s", places->socket) &&
           force(command, err, "port=%d", HF_POSTGRES_PORT) &&
           // The host's /dev/shm belongs to everyone; ours is there only in a root of our own.
           force(command, err, "dynamic_shared_memory_type=%s", places->flat ? "mmap" : "posix");
}

static bool
add_forced(unsigned major, struct hf_sandbox_command *command, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(forced); i++) {
        bool known = major >= forced[i].from && (forced[i].until == 0 || major <= forced[i].until);
        if (known && !force(command, err, "%s", forced[i].setting))
            return false;
    }
    return true;
}

/*
 * The copy's tablespaces are folders in pg_tblspc.  Since August 2022 a server that recovers takes folders there for
 * damage, unless this setting, of the same day, allows them: so a server that does not know it does not need it.
 */
static bool
add_tablespaces(const struct hf_postgres_settings *settings, const struct layout *layout,
                struct hf_sandbox_command *command, struct hf_error *err)
{
    char program[PATH_BYTES];
    fill_path(program, settings->packages, layout->program, settings->major);
    return (settings->major < IN_PLACE_SINCE && !holds_word(program, IN_PLACE)) || force(command, err, IN_PLACE "=on");
}

/* False for a program that cannot be read, too: starting it will tell. */
static bool
holds_word(const char *program, const char *word)
{
    struct stat status;
    _cleanup_(hf_closep) int fd = open(program, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0 || status.st_size <= 0)
        return false;
    const size_t length = (size_t)status.st_size;
    void *bytes = mmap(NULL, length, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        return false;
    const bool found = memmem(bytes, length, word, strlen(word)) != NULL;
    munmap(bytes, length);
    return found;
}

static bool
add_sizes(const struct hf_postgres_settings *settings, struct hf_sandbox_command *command, struct hf_error *err)
{
    // Both WAL sizes must be at least two segments, or it does not start.
    uint64_t segment_mb = or_default(settings->wal_segment_bytes, 16 * HF_MIB) / HF_MIB;
    uint64_t least_mb = 2 * segment_mb > 80 ? 2 * segment_mb : 80;
    uint64_t buffers_kb = or_default(settings->shared_buffers_bytes, 64 * HF_MIB) / HF_KIB;
    const char *wait = settings->durable ? "on" : "off";
    return force(command, err, "max_connections=%u", (unsigned)or_default(settings->max_connections, 100)) &&
           force(command, err, "max_worker_processes=%u", (unsigned)or_default(settings->max_worker_processes, 8)) &&
           force(command, err, "max_wal_senders=%u", (unsigned)or_default(settings->max_wal_senders, 10)) &&
           force(command, err, "max_prepared_transactions=%u", settings->max_prepared_transactions) &&
           force(command, err, "max_locks_per_transaction=%u",
                 (unsigned)or_default(settings->max_locks_per_transaction, 64)) &&
           force(command, err, "shared_buffers=%llukB", (unsigned long long)buffers_kb) &&
           force(command, err, "min_wal_size=%lluMB", (unsigned long long)least_mb) &&
           force(command, err, "max_wal_size=%lluMB", (unsigned long long)(least_mb > 1024 ? 2 * least_mb : 1024)) &&
           force(command, err, "fsync=%s", wait) && force(command, err, "full_page_writes=%s", wait) &&
           force(command, err, "synchronous_commit=%s", settings->durable ? "local" : "off") &&
           force(command, err, "shared_preload_libraries=%s", settings->preload == NULL ? "" : settings->preload);
}

static bool
add_recovery(const struct hf_postgres_settings *settings, const struct hf_sandbox_places *places,
             struct hf_sandbox_command *command, struct hf_error *err)
{
    bool wants_value = settings->target > HF_POSTGRES_TO_IMMEDIATE;
    if (wants_value != (settings->target_value != NULL))
        return hf_fail(err, HF_ERR_USAGE, "a recovery target needs its value, and only then there is one");
    for (size_t i = HF_POSTGRES_TO_IMMEDIATE; i < HF_LENGTH(target_names); i++) {
        if (!force(command, err, "%s=", target_names[i]))
            return false;
    }
    const char *value = wants_value ? settings->target_value : "immediate";
    if (settings->target != HF_POSTGRES_TO_END && !force(command, err, "%s=%s", target_names[settings->target], value))
        return false;
    return force(command, err, "recovery_target_inclusive=%s", settings->target_exclusive ? "off" : "on") &&
           force(command, err, "recovery_target_timeline=%s",
                 settings->timeline == NULL ? "latest" : settings->timeline) &&
           force(command, err, "recovery_target_action=%s", action_names[settings->action]) &&
           add_upstream(settings, places, command, err);
}

static bool
add_upstream(const struct hf_postgres_settings *settings, const struct hf_sandbox_places *places,
             struct hf_sandbox_command *command, struct hf_error *err)
{
    char user[256];
    if (settings->upstream == NULL)
        return force(command, err, "primary_conninfo=");
    quote_conninfo(settings->upstream_user == NULL ? "holdfast" : settings->upstream_user, user, sizeof user);
    return force(command, err, "primary_conninfo=host=%s port=%u user=%s sslmode=disable gssencmode=disable",
                 places->flat ? settings->upstream : UPSTREAM,
                 (unsigned)or_default(settings->upstream_port, HF_POSTGRES_PORT), user);
}

/*
 * libpq's quoting: a backslash before backslash and quote.  A name that is too long is cut, and refused by the server.
 */
static void
quote_conninfo(const char *value, char *quoted, size_t size)
{
    size_t used = 0;
    quoted[used++] = '\'';
    for (; *value != '\0' && used + 4 < size; value++) {
        if (*value == '\'' || *value == '\\')
            quoted[used++] = '\\';
        quoted[used++] = *value;
    }
    quoted[used++] = '\'';
    quoted[used] = '\0';
}

static bool
force(struct hf_sandbox_command *command, struct hf_error *err, const char *format, ...)
{
    _cleanup_(hf_freep) char *setting = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&setting, format, arguments);
    va_end(arguments);
    if (length < 0) {
        setting = NULL;
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a setting");
    }
    return hf_sandbox_command_argument(command, err, "-c") && hf_sandbox_command_argument(command, err, "%s", setting);
}

/* "... connections" and "... read-only connections" (13: "read only"); lc_messages is ours. */
static enum hf_sandbox_news
judge(const char *line)
{
    return strstr(line, "LOG:  database system is ready to accept ") != NULL ? HF_SANDBOX_READY : HF_SANDBOX_NO_NEWS;
}

static bool
find_layout(unsigned major, const char *packages, const struct layout **ret, struct hf_error *err)
{
    char path[PATH_BYTES];
    if (major < HF_POSTGRES_LEAST || major > HF_POSTGRES_MOST)
        return hf_fail(err, HF_ERR_USAGE, "PostgreSQL %u cannot be started: versions %d to %d can", major,
                       HF_POSTGRES_LEAST, HF_POSTGRES_MOST);
    for (size_t i = 0; i < HF_LENGTH(layouts); i++) {
        fill_path(path, packages, layouts[i].program, major);
        if (access(path, X_OK) == 0) {
            *ret = &layouts[i];
            return true;
        }
    }
    fill_path(path, packages, layouts[0].program, major);
    hf_fail(err, HF_ERR_NOT_FOUND, "PostgreSQL %u is not on this host: there is no \"%s\"", major, path);
    return hf_fail_hint(err, "Install the package postgresql-%u; its server need not be running.", major);
}

/* The pattern is one of our own table. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
static void
fill_path(char path[static PATH_BYTES], const char *packages, const char *pattern, unsigned major)
{
    int used = snprintf(path, PATH_BYTES, "%.300s", packages == NULL ? "" : packages);
    snprintf(path + used, PATH_BYTES - (size_t)used, pattern, major);
}
#pragma GCC diagnostic pop

/* A file, a link, a folder: the copy decides what bears that name. */
static bool
remove_whatever(const char *path, struct hf_error *err)
{
    if (unlink(path) == 0 || errno == ENOENT)
        return true;
    return hf_dir_remove_tree(path, err);
}

static bool
empty_folder(const char *data, const char *name, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(data, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!remove_whatever(path, err))
        return false;
    if (mkdir(path, 0700) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", path);
    return true;
}

static bool
write_empty(const char *data, const char *name, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(data, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", path);
    return true;
}

static uint64_t
or_default(uint64_t value, uint64_t usual)
{
    return value == 0 ? usual : value;
}
