#include "catalog/catalog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "catalog/statements.h"

#define APPLICATION_ID 0x48464341 // "HFCA", in the file's header: no other program's database passes for a catalog
#define BUSY_MS        10000      // a reader's look at the WAL may hold a checkpoint up

static const char *const companions[] = {"", "-wal", "-shm"};

static bool open_database(struct hf_catalog *catalog, enum hf_catalog_how how, struct hf_error *err);
static bool create_private(const char *path, struct hf_error *err);
static bool set_up(struct hf_catalog *catalog, enum hf_catalog_how how, struct hf_error *err);
static bool check_identity(struct hf_catalog *catalog, int64_t *ret_version, struct hf_error *err);
static bool check_whole(struct hf_catalog *catalog, struct hf_error *err);
static bool migrate(struct hf_catalog *catalog, int64_t version, struct hf_error *err);
static bool read_number(struct hf_catalog *catalog, const char *fixed_sql, int64_t *ret, struct hf_error *err);
static bool rename_all(const char *from, const char *to, struct hf_error *err);
static bool sync_folder_of(const char *path, struct hf_error *err);

bool
hf_catalog_open(const char *path, enum hf_catalog_how how, struct hf_catalog **ret, struct hf_error *err)
{
    _cleanup_(hf_catalog_freep) struct hf_catalog *catalog = calloc(1, sizeof *catalog);
    if (catalog == NULL || (catalog->path = strdup(path)) == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    catalog->writer = how != HF_CATALOG_READ;

    if (!open_database(catalog, how, err) || !set_up(catalog, how, err))
        return false;
    *ret = HF_TAKE(catalog);
    return true;
}

void
hf_catalog_freep(struct hf_catalog **catalog)
{
    struct hf_catalog *it = *catalog;
    if (it == NULL)
        return;
    for (size_t i = 0; i < HF_SQL_COUNT; i++)
        sqlite3_finalize(it->statements[i]);
    sqlite3_close(it->db);
    free(it->path);
    free(it);
    *catalog = NULL;
}

bool
hf_catalog_snapshot(struct hf_catalog *catalog, struct hf_error *err)
{
    int64_t version; // the first reading is what takes the snapshot
    return hf_catalog_execute(catalog, "BEGIN", err) && read_number(catalog, "PRAGMA user_version", &version, err);
}

bool
hf_catalog_set_aside(const char *path, int64_t now, char **ret_name, struct hf_error *err)
{
    char moment[HF_TIME_TEXT_BYTES], *name;
    if (asprintf(&name, "%s.damaged-%s", path, hf_time_format(now, moment)) < 0)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the catalog");
    if (!rename_all(path, name, err) || !sync_folder_of(path, err)) {
        free(name);
        return false;
    }
    *ret_name = name;
    return true;
}

bool
hf_catalog_head(struct hf_catalog *catalog, const struct hf_id *vault, uint64_t *ret_sequence,
                uint8_t ret_hash[static HF_SHA256_BYTES], struct hf_error *err)
{
    bool row;
    _cleanup_(hf_statement_done) struct hf_statement get = hf_statement(catalog, HF_SQL_HEAD_GET);
    hf_bind_id(&get, ":vault_id", vault);
    if (!hf_statement_step(&get, &row, err))
        return false;
    if (!row) {
        *ret_sequence = 0;
        memset(ret_hash, 0, HF_SHA256_BYTES);
        return true;
    }
    *ret_sequence = (uint64_t)hf_column_int(&get, 0, 0);
    return hf_hex_parse(hf_column_text(&get, 1), ret_hash, HF_SHA256_BYTES, err);
}

bool
hf_catalog_copy_local(struct hf_catalog *catalog, const char *from_path, struct hf_error *err)
{
    sqlite3_stmt *attach = NULL;
    int code = sqlite3_prepare_v2(catalog->db, "ATTACH DATABASE ? AS old", -1, &attach, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(attach, 1, from_path, -1, SQLITE_STATIC);
    if (code == SQLITE_OK && (code = sqlite3_step(attach)) == SQLITE_DONE)
        code = SQLITE_OK;
    sqlite3_finalize(attach);
    if (code != SQLITE_OK)
        return hf_catalog_fail(catalog, code, "could not open the older one beside", err);

    bool done = hf_catalog_execute(catalog, "BEGIN IMMEDIATE", err);
    for (size_t i = 0; done && i < hf_catalog_table_count; i++)
        if (hf_catalog_tables[i].mark == HF_CATALOG_LOCAL)
            done = hf_catalog_execute(catalog, hf_catalog_tables[i].copy, err);
    done = done && hf_catalog_execute(catalog, "COMMIT", err);
    if (!done && sqlite3_get_autocommit(catalog->db) == 0)
        (void)!hf_catalog_execute(catalog, "ROLLBACK", NULL);
    return hf_catalog_execute(catalog, "DETACH DATABASE old", done ? err : NULL) && done;
}

bool
hf_catalog_replace(const char *path, const char *scratch_path, struct hf_error *err)
{
    // Its last connection has folded the WAL into it; nothing of it has been synced yet.
    _cleanup_(hf_closep) int fd = open(scratch_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 || fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not sync the rebuilt catalog \"%s\"", scratch_path);

    // The old WAL must not be taken for the new file's.
    for (size_t i = 1; i < HF_LENGTH(companions); i++) {
        char name[PATH_MAX];
        if (snprintf(name, sizeof name, "%s%s", path, companions[i]) >= (int)sizeof name)
            return hf_fail(err, HF_ERR_USAGE, "the path of the catalog is too long: \"%s\"", path);
        if (unlink(name) != 0 && errno != ENOENT)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", name);
    }
    if (rename(scratch_path, path) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not put the rebuilt catalog in the place of \"%s\"", path);
    return sync_folder_of(path, err);
}

bool
hf_catalog_remove(const char *path, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(companions); i++) {
        char name[PATH_MAX];
        if (snprintf(name, sizeof name, "%s%s", path, companions[i]) >= (int)sizeof name)
            return hf_fail(err, HF_ERR_USAGE, "the path of the catalog is too long: \"%s\"", path);
        if (unlink(name) != 0 && errno != ENOENT)
            return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", name);
    }
    return true;
}

static bool
open_database(struct hf_catalog *catalog, enum hf_catalog_how how, struct hf_error *err)
{
    int flags = SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
    flags |= how == HF_CATALOG_READ ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;

    if (how == HF_CATALOG_READ && access(catalog->path, F_OK) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the catalog \"%s\"", catalog->path);
    if (how != HF_CATALOG_READ && !create_private(catalog->path, err))
        return false;
    int code = sqlite3_open_v2(catalog->path, &catalog->db, flags, NULL);
    if (code != SQLITE_OK)
        return hf_catalog_fail(catalog, code, "could not open", err);
    sqlite3_busy_timeout(catalog->db, BUSY_MS);
    return true;
}

/* SQLite would make it readable for everybody; its WAL takes the mode over. */
static bool
create_private(const char *path, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the catalog \"%s\"", path);
    return true;
}

static bool
set_up(struct hf_catalog *catalog, enum hf_catalog_how how, struct hf_error *err)
{
    static const char common[] = "PRAGMA mmap_size = 0;" // a failing disk must be an error, not a signal
                                 "PRAGMA foreign_keys = ON;"
                                 "PRAGMA trusted_schema = OFF;"
                                 "PRAGMA cell_size_check = ON;";
    int64_t version = 0;
    sqlite3_db_config(catalog->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    if (!hf_catalog_execute(catalog, common, err) || !check_whole(catalog, err) ||
        !check_identity(catalog, &version, err))
        return false;
    if (how == HF_CATALOG_READ)
        return hf_catalog_execute(catalog, "PRAGMA query_only = ON", err);

    if (!hf_catalog_execute(catalog, "PRAGMA journal_mode = WAL", err) ||
        !hf_catalog_execute(catalog,
                            how == HF_CATALOG_SCRATCH ? "PRAGMA synchronous = OFF" : "PRAGMA synchronous = FULL", err))
        return false;
    return migrate(catalog, version, err);
}

static bool
check_identity(struct hf_catalog *catalog, int64_t *ret_version, struct hf_error *err)
{
    int64_t application = 0, version = 0, objects = 0;
    if (!read_number(catalog, "PRAGMA application_id", &application, err) ||
        !read_number(catalog, "PRAGMA user_version", &version, err) ||
        !read_number(catalog, "SELECT count(*) FROM sqlite_schema", &objects, err))
        return false;

    bool empty = application == 0 && version == 0 && objects == 0;
    if (!empty && application != APPLICATION_ID)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" is a database and no catalog", catalog->path);
    if (version > (int64_t)hf_catalog_migration_count) {
        hf_fail(err, HF_ERR_CONFLICT, "the catalog \"%s\" has version %" PRId64 "; this program knows %zu",
                catalog->path, version, hf_catalog_migration_count);
        return hf_fail_hint(err,
                            "Use the newer program, or move the catalog away: it is made again from the repository.");
    }
    if (!catalog->writer && version < (int64_t)hf_catalog_migration_count)
        return hf_fail(err, HF_ERR_CONFLICT, "the catalog \"%s\" has not been brought to version %zu yet",
                       catalog->path, hf_catalog_migration_count);
    *ret_version = version;
    return true;
}

static bool
check_whole(struct hf_catalog *catalog, struct hf_error *err)
{
    sqlite3_stmt *check = NULL;
    int code = sqlite3_prepare_v2(catalog->db, "PRAGMA quick_check(1)", -1, &check, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(check);
    const char *answer = code == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    bool whole = answer != NULL && strcmp(answer, "ok") == 0;
    if (!whole && answer != NULL)
        hf_fail(err, HF_ERR_CORRUPT, "the catalog \"%s\" is damaged: %.200s", catalog->path, answer);
    else if (!whole)
        hf_catalog_fail(catalog, code, "could not look over", err);
    sqlite3_finalize(check);
    return whole;
}

static bool
migrate(struct hf_catalog *catalog, int64_t version, struct hf_error *err)
{
    for (size_t i = (size_t)version; i < hf_catalog_migration_count; i++) {
        char head[128];
        snprintf(head, sizeof head, "PRAGMA application_id = %d; PRAGMA user_version = %zu;", APPLICATION_ID, i + 1);
        if (hf_catalog_execute(catalog, "BEGIN IMMEDIATE", err) &&
            hf_catalog_execute(catalog, hf_catalog_migrations[i], err) && hf_catalog_execute(catalog, head, err) &&
            hf_catalog_execute(catalog, "COMMIT", err))
            continue;
        if (sqlite3_get_autocommit(catalog->db) == 0)
            (void)!hf_catalog_execute(catalog, "ROLLBACK", NULL);
        return hf_fail_within(err, "migration %04zu of the catalog", i + 1);
    }
    return true;
}

static bool
read_number(struct hf_catalog *catalog, const char *fixed_sql, int64_t *ret, struct hf_error *err)
{
    sqlite3_stmt *read = NULL;
    int code = sqlite3_prepare_v2(catalog->db, fixed_sql, -1, &read, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(read);
    if (code == SQLITE_ROW)
        *ret = sqlite3_column_int64(read, 0);
    sqlite3_finalize(read);
    return code == SQLITE_ROW || hf_catalog_fail(catalog, code, "could not read", err);
}

static bool
rename_all(const char *from, const char *to, struct hf_error *err)
{
    for (size_t i = 0; i < HF_LENGTH(companions); i++) {
        char old[PATH_MAX], new[PATH_MAX];
        if (snprintf(old, sizeof old, "%s%s", from, companions[i]) >= (int)sizeof old ||
            snprintf(new, sizeof new, "%s%s", to, companions[i]) >= (int)sizeof new)
            return hf_fail(err, HF_ERR_USAGE, "the path of the catalog is too long: \"%s\"", from);
        if (rename(old, new) != 0 && (i == 0 || errno != ENOENT))
            return hf_fail_errno(err, HF_ERR_NONE, "could not move \"%s\" out of the way", old);
    }
    return true;
}

static bool
sync_folder_of(const char *path, struct hf_error *err)
{
    char folder[PATH_MAX];
    if (snprintf(folder, sizeof folder, "%s", path) >= (int)sizeof folder)
        return hf_fail(err, HF_ERR_USAGE, "the path of the catalog is too long: \"%s\"", path);
    return hf_dir_sync(dirname(folder), err);
}
