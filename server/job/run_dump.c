#include "server/job/kinds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/engine_pg_dump.h"
#include "server/job/live_copy.h"
#include "server/job/near_names.h"
#include "server/job/restore_choice.h"

#define NAME_MOST  63 // bytes of a name in PostgreSQL
#define COPY_BYTES (1 * HF_MIB)
#define LOOK_MS    200
#define UNFINISHED ".unfinished"

/* The tables as pg_dump takes them. */
struct tables {
    size_t count;
    char *quoted[HF_PG_DUMP_TABLES_MOST + 1]; // ends with NULL
};

static bool check_words(const json_t *arguments, struct hf_error *err);
static bool find_database(const struct hf_live_copy *copy, const char *database, struct hf_asker_conn **ret,
                          struct hf_error *err);
static bool find_tables(struct hf_asker_conn *conn, const json_t *names, struct tables *ret, struct hf_error *err);
static bool find_table(struct hf_asker_conn *conn, const char *name, char **ret, struct hf_error *err);
static bool refuse(struct hf_asker_conn *conn, const char *what, const char *name, const char *sql,
                   struct hf_error *err);
static bool dump(struct hf_worker *worker, struct hf_live_copy *copy, const char *database, const struct tables *tables,
                 const char *folder, unsigned *ret_major, struct hf_error *err);
static bool make_folder(const struct hf_sandbox_spec *spec, const char *folder, struct hf_error *err);
static bool wait_for(struct hf_worker *worker, struct hf_sandbox *sandbox, struct hf_error *err);
static bool hand_over(struct hf_worker *worker, const char *folder, const char *to, uint64_t *ret_bytes,
                      struct hf_error *err);
static bool copy_bytes(struct hf_worker *worker, int from, int to, const char *name, uint64_t *ret_bytes,
                       struct hf_error *err);
static void tables_done(struct tables *tables);

bool
hf_dump_prepare(struct hf_daemon *daemon, struct hf_job *job, json_t **ret_request, struct hf_error *err)
{
    const json_t *arguments = hf_job_arguments(job);
    json_t *tables = json_object_get(arguments, "table"), *source;
    struct hf_restore_target moment;
    _cleanup_(hf_json_freep) json_t *request = NULL;
    if (!check_words(arguments, err) || !hf_restore_choose(daemon, job, &moment, &request, err) ||
        !hf_daemon_describe_source(daemon, hf_job_subject(job), &source, err) ||
        !hf_json_set(request, "source", source, err) ||
        !hf_json_set(request, "database", json_copy(json_object_get(arguments, "database")), err) ||
        !hf_json_set(request, "tables", tables != NULL ? json_incref(tables) : json_array(), err) ||
        !hf_json_set(request, "to", json_copy(json_object_get(arguments, "to")), err))
        return false;
    *ret_request = HF_TAKE(request);
    return true;
}

bool
hf_dump_run(struct hf_worker *worker, const json_t *request, json_t **ret_result, struct hf_error *err)
{
    _cleanup_(hf_live_copy_freep) struct hf_live_copy *copy = NULL;
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    _cleanup_(tables_done) struct tables tables = {0};
    _cleanup_(hf_json_freep) json_t *result = json_object();
    const char *database, *to;
    json_t *names;
    unsigned major;
    uint64_t bytes;
    if (result == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the answer");
    if (!hf_json_string(request, "database", "the request", &database, err) ||
        !hf_json_string(request, "to", "the request", &to, err) ||
        !hf_json_array(request, "tables", "the request", &names, err))
        return false;
    const struct hf_live_copy_options options = {.more_bytes = 1};
    if (!hf_live_copy_open(worker, request, &options, &copy, err) || !find_database(copy, database, &conn, err) ||
        !find_tables(conn, names, &tables, err))
        return false;
    hf_asker_conn_freep(&conn);
    conn = NULL;
    _cleanup_(hf_freep) char *folder = hf_path_join(hf_live_copy_scratch(copy), "dump");
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!dump(worker, copy, database, &tables, folder, &major, err) || !hand_over(worker, folder, to, &bytes, err))
        return false;
    const struct hf_restore_work *work = hf_live_copy_work(copy);
    if (!hf_restore_work_describe(work, request, result, err) ||
        !hf_json_set(result, "backup", hf_json_id_text(&work->backup), err) ||
        !hf_json_set(result, "state", json_string(work->state), err) ||
        !hf_json_set(result, "to", json_string(to), err) ||
        !hf_json_set(result, "database", json_string(database), err) ||
        !hf_json_set(result, "tables", json_copy(names), err) ||
        !hf_json_set(result, "bytes", json_integer((json_int_t)bytes), err) ||
        !hf_json_set(result, "pg_dump_version", json_integer((json_int_t)major), err))
        return false;
    *ret_result = HF_TAKE(result);
    return true;
}

static bool
check_words(const json_t *arguments, struct hf_error *err)
{
    const char *to = json_string_value(json_object_get(arguments, "to"));
    const json_t *database = json_object_get(arguments, "database"), *tables = json_object_get(arguments, "table"),
                 *table;
    size_t index;
    if (to == NULL || to[0] != '/')
        return hf_fail(err, HF_ERR_USAGE, "a dump needs the absolute path of a file to write to");
    if (access(to, F_OK) == 0) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" exists already", to);
        return hf_fail_hint(err, "Name a file that does not exist yet.");
    }
    if (!json_is_string(database) || json_string_length(database) == 0 || json_string_length(database) > NAME_MOST)
        return hf_fail(err, HF_ERR_USAGE, "\"--database\" wants the name of a database, of 1 to %d bytes", NAME_MOST);
    if (tables != NULL && (!json_is_array(tables) || json_array_size(tables) > HF_PG_DUMP_TABLES_MOST))
        return hf_fail(err, HF_ERR_USAGE, "\"--table\" can be given %d times at most", HF_PG_DUMP_TABLES_MOST);
    json_array_foreach(tables, index, table)
    {
        const char *name = json_string_value(table), *dot = name != NULL ? strchr(name, '.') : NULL;
        if (dot == NULL || dot == name || dot[1] == '\0' || strlen(name) > 2 * NAME_MOST + 1)
            return hf_fail(err, HF_ERR_USAGE, "\"--table\" wants schema.table, such as public.patients");
    }
    return true;
}

static bool
find_database(const struct hf_live_copy *copy, const char *database, struct hf_asker_conn **ret, struct hf_error *err)
{
    static const char exists[] = "SELECT count(*) FROM pg_database WHERE datname = $1";
    const struct hf_query_target target = hf_live_copy_target(copy);
    _cleanup_(hf_asker_conn_freep) struct hf_asker_conn *conn = NULL;
    const char *const parameters[] = {database};
    struct hf_query_refusal refusal;
    int64_t count;
    if (!hf_query_connect(&target, "postgres", 30, &conn, err) &&
        !hf_query_connect(&target, "template1", 30, &conn, err))
        return false;
    if (!hf_query_number(conn, exists, parameters, 1, &count, &refusal))
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy does not list its databases: %s", refusal.message);
    if (count == 0)
        return refuse(conn, "database", database, "SELECT datname FROM pg_database WHERE NOT datistemplate LIMIT 10000",
                      err);
    return hf_query_connect(&target, database, 30, ret, err);
}

static bool
find_tables(struct hf_asker_conn *conn, const json_t *names, struct tables *ret, struct hf_error *err)
{
    const json_t *name;
    size_t index;
    json_array_foreach(names, index, name)
    {
        if (!find_table(conn, json_string_value(name), &ret->quoted[ret->count], err))
            return false;
        ret->count++;
    }
    return true;
}

/* The first dot parts schema and table, unless the copy has a table for a later one. */
static bool
find_table(struct hf_asker_conn *conn, const char *name, char **ret, struct hf_error *err)
{
    static const char find[] =
        "SELECT '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"'"
        "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname || '.' || c.relname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
        " ORDER BY length(n.nspname) LIMIT 1";
    static const char all[] = "SELECT n.nspname || '.' || c.relname"
                              "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                              " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
                              "   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') LIMIT 100000";
    const char *const parameters[] = {name};
    struct hf_query_refusal refusal;
    char quoted[4 * NAME_MOST + 16];
    if (!hf_query_text(conn, find, parameters, 1, quoted, sizeof quoted, &refusal)) {
        if (strcmp(refusal.state, "02000") == 0)
            return refuse(conn, "table", name, all, err);
        return hf_fail(err, HF_ERR_UNAVAILABLE, "the copy does not list its tables: %s", refusal.message);
    }
    *ret = strdup(quoted);
    return *ret != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of tables");
}

static bool
consider(void *context, char *const *values, int count)
{
    if (count > 0 && values[0] != NULL)
        hf_near_names_consider(context, values[0]);
    return true;
}

static bool
refuse(struct hf_asker_conn *conn, const char *what, const char *name, const char *sql, struct hf_error *err)
{
    struct hf_near_names near = {.wanted = name};
    struct hf_query_refusal ignored;
    char text[256];
    hf_fail(err, HF_ERR_NOT_FOUND, "the copy has no %s \"%s\"", what, name);
    if (!hf_query_run(conn, sql, NULL, 0, consider, &near, &ignored) || near.count == 0)
        return false;
    return hf_fail_hint(err, "It has %s.", hf_near_names_text(&near, text, sizeof text));
}

static bool
dump(struct hf_worker *worker, struct hf_live_copy *copy, const char *database, const struct tables *tables,
     const char *folder, unsigned *ret_major, struct hf_error *err)
{
    const char *const *prefixes = (const char *const *)hf_worker_settings(worker)->sandbox.postgres_prefixes;
    const struct hf_query_target target = hf_live_copy_target(copy);
    struct hf_pg_dump_found found;
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    hf_worker_progress(worker, "dump", 0, 0);
    if (!hf_pg_dump_find(hf_live_copy_major(copy), prefixes, &found, err))
        return false;
    _cleanup_(hf_freep) char *program = found.program;
    const struct hf_pg_dump_settings settings = {.program = program,
                                                 .packages = found.packages,
                                                 .major = found.major,
                                                 .socket = target.folder,
                                                 .port = target.port,
                                                 .user = target.user,
                                                 .database = database,
                                                 .options = target.options,
                                                 .tables = (const char *const *)tables->quoted};
    struct hf_sandbox_spec spec = hf_live_copy_sandbox(copy);
    spec.engine = &hf_engine_pg_dump;
    spec.settings = &settings;
    spec.data = folder;
    *ret_major = found.major;
    return make_folder(&spec, folder, err) && hf_sandbox_start(&spec, &sandbox, err) && wait_for(worker, sandbox, err);
}

static bool
make_folder(const struct hf_sandbox_spec *spec, const char *folder, struct hf_error *err)
{
    if (mkdir(folder, 0700) != 0 || (geteuid() == 0 && chown(folder, spec->host_uid, spec->host_gid) != 0))
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", folder);
    return true;
}

/* Its words are not passed on: they can hold what lies in the tables. */
static bool
wait_for(struct hf_worker *worker, struct hf_sandbox *sandbox, struct hf_error *err)
{
    struct hf_sandbox_exit end = {.end = HF_SANDBOX_RUNNING};
    while (end.end == HF_SANDBOX_RUNNING)
        if (!hf_worker_go_on(worker, err) || !hf_sandbox_wait_exit(sandbox, LOOK_MS, &end, err))
            return false;
    if (end.end == HF_SANDBOX_EXITED && end.exit_code == 0)
        return true;
    hf_fail(err, HF_ERR_UNAVAILABLE, "pg_dump did not get to its end (%s, status %d)", hf_sandbox_end_name(end.end),
            end.exit_code);
    return hf_fail_hint(err, "Look into the copy: holdfast restore SOURCE --inspect, and run pg_dump on its socket.");
}

/* Under another name until it is whole and on the disk. */
static bool
hand_over(struct hf_worker *worker, const char *folder, const char *to, uint64_t *ret_bytes, struct hf_error *err)
{
    _cleanup_(hf_freep) char *from = hf_path_join(folder, HF_PG_DUMP_FILE);
    _cleanup_(hf_closep) int source = -1;
    char unfinished[4200];
    const int printed = snprintf(unfinished, sizeof unfinished, "%s" UNFINISHED, to);
    if (from == NULL || printed < 0 || (size_t)printed >= sizeof unfinished)
        return hf_fail(err, HF_ERR_USAGE, "the path of the dump is too long");
    if (!hf_file_open(from, &source, NULL, err))
        return hf_fail_within(err, "pg_dump's file");
    _cleanup_(hf_closep) int target = open(unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (target < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", unfinished);
    bool ok = copy_bytes(worker, source, target, unfinished, ret_bytes, err) &&
              (fsync(target) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", unfinished)) &&
              (link(unfinished, to) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", to));
    (void)!unlink(unfinished);
    _cleanup_(hf_freep) char *parent = strndup(to, (size_t)(strrchr(to, '/') - to) + 1);
    return ok && (parent != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path")) &&
           hf_dir_sync(parent, err);
}

static bool
copy_bytes(struct hf_worker *worker, int from, int to, const char *name, uint64_t *ret_bytes, struct hf_error *err)
{
    _cleanup_(hf_freep) uint8_t *piece = malloc(COPY_BYTES);
    if (piece == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a dump");
    *ret_bytes = 0;
    for (;;) {
        const ssize_t got = read(from, piece, COPY_BYTES);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not read pg_dump's file");
        if (got == 0)
            return true;
        if (!hf_worker_go_on(worker, err) || !hf_write_all(to, piece, (size_t)got, name, err))
            return false;
        *ret_bytes += (uint64_t)got;
    }
}

static void
tables_done(struct tables *tables)
{
    for (size_t i = 0; i < tables->count; i++)
        free(tables->quoted[i]);
}
