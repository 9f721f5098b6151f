#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "sandbox/engine_mariadb.h"
#include "sandbox/tree.h"
#include "server/restore/engine.h"

#define CAPTURED      "holdfast_config" // in the backup: the source's configuration
#define BUFFER_POOL   (256 * HF_MIB)
#define LOG_MOST      (32 * HF_MIB)
#define LOOK_EVERY_MS 100
#define WORDS_BYTES   200
#define KEY_PLUGIN    "file_key_management"

static bool able(const struct hf_restore_completion *completion, struct hf_error *err);
static bool complete(const struct hf_restore_completion *completion, struct hf_error *err);
static bool check_keys(const struct hf_restore_completion *completion, const struct hf_mariadb_layout *layout,
                       struct hf_error *err);
static bool put_configuration(const struct hf_restore_completion *completion, const struct hf_mariadb_layout *layout,
                              struct hf_error *err);
static bool apply_log(const struct hf_restore_completion *completion, const struct hf_mariadb_settings *settings,
                      uint64_t last_lsn, struct hf_error *err);
static bool wait_for_end(const struct hf_restore_completion *completion, struct hf_sandbox *sandbox,
                         struct hf_sandbox_exit *ret, struct hf_error *err);
static bool judge(const struct hf_sandbox_exit *end, const char *log, uint64_t last_lsn, struct hf_error *err);
static bool clean(const char *folder, struct hf_error *err);
static bool remove_file(const char *folder, const char *name, struct hf_error *err);
static bool replay(const struct hf_restore_completion *completion, const struct hf_mariadb_settings *settings,
                   struct hf_error *err);
static struct hf_sandbox_spec spec_of(const struct hf_restore_completion *completion);

const struct hf_restore_engine hf_restore_mariadb = {.name = "mariadb",
                                                     .product = "MariaDB",
                                                     .owner = "mysql",
                                                     .last = "ib_logfile0",
                                                     .able = able,
                                                     .complete = complete};

static bool
able(const struct hf_restore_completion *completion, struct hf_error *err)
{
    char series[16];
    struct hf_mariadb_settings settings = {.series = series};
    if (!hf_mariadb_series(completion->server_version, series))
        return hf_fail(err, HF_ERR_CORRUPT, "the backup is of no version of MariaDB");
    return hf_mariadb_find_among(series, completion->packages, &settings.packages, err);
}

static bool
complete(const struct hf_restore_completion *completion, struct hf_error *err)
{
    char series[16];
    uint64_t last_lsn;
    struct hf_mariadb_settings settings = {.series = series, .buffer_pool_bytes = BUFFER_POOL, .durable = true};
    if (!hf_mariadb_series(completion->server_version, series))
        return hf_fail(err, HF_ERR_CORRUPT, "the backup is of no version of MariaDB");
    const struct hf_mariadb_keys keys = {.file = completion->table_keys, .algorithm = "aes_ctr"};
    const struct hf_mariadb_keys block_keys = {.file = completion->table_keys, .algorithm = "aes_cbc"};
    if (!hf_mariadb_find_among(series, completion->packages, &settings.packages, err) ||
        !hf_mariadb_read_layout(completion->folder, &settings.layout, err) ||
        !check_keys(completion, &settings.layout, err))
        return false;
    if (settings.layout.key_plugin[0] != '\0')
        settings.keys = settings.layout.key_counter ? &keys : &block_keys;
    return hf_mariadb_read_last_lsn(completion->folder, &last_lsn, err) &&
           put_configuration(completion, &settings.layout, err) &&
           hf_mariadb_make_ready(completion->folder, &settings.layout, err) &&
           apply_log(completion, &settings, last_lsn, err) && clean(completion->folder, err) &&
           (completion->replay == NULL || replay(completion, &settings, err));
}

/* Wrong ones are found out by the tool, which cannot apply the log then. */
static bool
check_keys(const struct hf_restore_completion *completion, const struct hf_mariadb_layout *layout, struct hf_error *err)
{
    if (layout->key_plugin[0] == '\0' ||
        (strcmp(layout->key_plugin, KEY_PLUGIN) == 0 && completion->table_keys != NULL))
        return true;
    if (strcmp(layout->key_plugin, KEY_PLUGIN) != 0)
        return hf_fail(err, HF_ERR_USAGE,
                       "the source had the keys of its tables from the plugin \"%s\": only \"" KEY_PLUGIN "\" is known",
                       layout->key_plugin);
    hf_fail(err, HF_ERR_USAGE, "the source had keys of encrypted tables, and its settings name no file with them");
    return hf_fail_hint(err, "Set table_keys of the source to the file that file_key_management_filename named there.");
}

/*
 * A folder in the data directory is a database to the server, so the source's configuration goes beside it, with an
 * option file that fits this copy: where it is, how it is laid out, and that it calls nobody.
 */
static bool
put_configuration(const struct hf_restore_completion *completion, const struct hf_mariadb_layout *layout,
                  struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(16 * HF_KIB);
    _cleanup_(hf_freep) char *captured = hf_path_join(completion->folder, CAPTURED);
    _cleanup_(hf_freep) char *kept = hf_path_join(completion->configuration, CAPTURED);
    _cleanup_(hf_freep) char *options = hf_path_join(completion->configuration, "my.cnf");
    if (captured == NULL || kept == NULL || options == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (mkdir(completion->configuration, 0700) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", completion->configuration);
    if (rename(captured, kept) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep the source's configuration in \"%s\"", kept);
    return hf_buf_printf(&text, err,
                         "# Written by Holdfast for the restored copy.  What the source had is in " CAPTURED "/.\n"
                         "# mariadbd --defaults-file=%s/my.cnf\n"
                         "[mariadbd]\n"
                         "datadir=%s\n"
                         "innodb_page_size=%u\n"
                         "innodb_data_file_path=%s\n"
                         "innodb_undo_tablespaces=%u\n"
                         "skip-networking\n"
                         "skip-slave-start\n"
                         "event-scheduler=OFF\n",
                         completion->configuration, completion->target, layout->page_bytes, layout->data_file_path,
                         layout->undo_tablespaces) &&
           (layout->key_plugin[0] == '\0' ||
            hf_buf_printf(
                &text, err,
                "plugin_load_add=" KEY_PLUGIN "\n"
                "file_key_management_encryption_algorithm=%s\n"
                "# The keys are not in the backup: set this to their file, which the server's user can read.\n"
                "#file_key_management_filename=\n",
                layout->key_counter ? "aes_ctr" : "aes_cbc")) &&
           hf_file_publish(options, hf_buf_text(&text), text.length, 0644, HF_PUBLISH_EXCLUSIVE, err) &&
           (geteuid() != 0 ||
            hf_tree_give(completion->configuration, completion->owner_uid, completion->owner_gid, err));
}

static struct hf_sandbox_spec
spec_of(const struct hf_restore_completion *completion)
{
    return (struct hf_sandbox_spec){
        .launcher = completion->launcher,
        .limits = {.memory_bytes = completion->memory_bytes, .wall_ms = 2 * completion->phase_ms},
        .lowest = completion->lowest,
        .host_uid = completion->host_uid,
        .host_gid = completion->host_gid};
}

static bool
apply_log(const struct hf_restore_completion *completion, const struct hf_mariadb_settings *settings, uint64_t last_lsn,
          struct hf_error *err)
{
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(LOG_MOST);
    struct hf_sandbox_exit end;
    struct hf_sandbox_spec spec = spec_of(completion);
    spec.engine = &hf_engine_mariadb_prepare;
    spec.settings = settings;
    spec.data = completion->folder;
    return (geteuid() != 0 || hf_tree_give(completion->folder, completion->host_uid, completion->host_gid, err)) &&
           hf_sandbox_start(&spec, &sandbox, err) && wait_for_end(completion, sandbox, &end, err) &&
           hf_sandbox_log_copy(sandbox, &log, err) && judge(&end, hf_buf_text(&log), last_lsn, err) &&
           (geteuid() != 0 || hf_tree_give(completion->folder, 0, 0, err));
}

static bool
wait_for_end(const struct hf_restore_completion *completion, struct hf_sandbox *sandbox, struct hf_sandbox_exit *ret,
             struct hf_error *err)
{
    const uint64_t until = hf_monotonic_ns() + completion->phase_ms * 1000000;
    do {
        if (completion->cancel != NULL && atomic_load(completion->cancel))
            return hf_fail(err, HF_ERR_CANCELLED, "the restore was cancelled");
        if (hf_monotonic_ns() > until)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "the log of the backup was not applied within %llu minutes",
                           (unsigned long long)completion->phase_ms / 60000);
        if (!hf_sandbox_wait_exit(sandbox, LOOK_EVERY_MS, ret, err))
            return false;
    } while (ret->end == HF_SANDBOX_RUNNING);
    return true;
}

/* The tool takes a log that ends early for a log that ends there. */
static bool
judge(const struct hf_sandbox_exit *end, const char *log, uint64_t last_lsn, struct hf_error *err)
{
    char words[WORDS_BYTES] = "it left without a word";
    uint64_t reached;
    const char *error = strstr(log, "[ERROR] ");
    if (error != NULL)
        snprintf(words, sizeof words, "%.*s", (int)strcspn(error, "\n"), error);
    if (end->end != HF_SANDBOX_EXITED)
        return hf_fail(err, HF_ERR_UNAVAILABLE,
                       "the log of the backup could not be applied: the tool ended at a limit "
                       "of its sandbox, %s",
                       hf_sandbox_end_name(end->end));
    if (end->exit_code != 0 || !hf_mariadb_prepare_succeeded(log))
        return hf_fail(err, HF_ERR_CORRUPT, "the log of the backup cannot be applied: %s", words);
    if (!hf_mariadb_prepare_reached(log, &reached) || reached < last_lsn)
        return hf_fail(err, HF_ERR_CORRUPT, "the log of the backup ends before the backup does");
    return true;
}

/* What only the tool needs.  xtrabackup_info and xtrabackup_binlog_info stay: they say where a replica goes on. */
static bool
clean(const char *folder, struct hf_error *err)
{
    static const char *const names[] = {"backup-my.cnf", "xtrabackup_checkpoints", "xtrabackup_binlog_pos_innodb"};
    for (size_t i = 0; i < HF_LENGTH(names); i++)
        if (!remove_file(folder, names[i], err))
            return false;
    return true;
}

static bool
remove_file(const char *folder, const char *name, struct hf_error *err)
{
    _cleanup_(hf_freep) char *path = hf_path_join(folder, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return unlink(path) == 0 || errno == ENOENT || hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
}

/*
 * Who replays waits for no disk: what is cut off is thrown away, and what is whole is synced at the end.  Where the
 * backup stood in the binary log is not where this copy stands; its own tables say that.
 */
static bool
replay(const struct hf_restore_completion *completion, const struct hf_mariadb_settings *settings, struct hf_error *err)
{
    static const char *const names[] = {"xtrabackup_info", "xtrabackup_binlog_info"};
    struct hf_mariadb_settings quick = *settings;
    const struct hf_sandbox_spec spec = spec_of(completion);
    quick.durable = false;
    if (!completion->replay(completion->replay_context, completion, &spec, &quick, err))
        return false;
    for (size_t i = 0; i < HF_LENGTH(names); i++)
        if (!remove_file(completion->folder, names[i], err))
            return false;
    return true;
}
