#include "server/verify/mariadb/files.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define DATABASES_MOST 20000
#define FILES_MOST     1000000 // in one folder

/* Bytes 0 and 1 of a definition, and in byte 3 the number of its engine (handler.h: enum legacy_db_type). */
#define FRM_MAGIC_0   0xfe
#define FRM_MAGIC_1   0x01
#define FRM_BYTES     4
#define ENGINE_MYISAM 9
#define ENGINE_INNODB 12
#define ENGINE_ARIA   42

static const char *const always[] = {"backup-my.cnf", "xtrabackup_checkpoints", "xtrabackup_info", "ib_logfile0",
                                     "aria_log_control"};

/* What must lie beside a definition of an engine; any of two names will do. */
static const struct part {
    uint8_t engine;
    const char *ending, *or_ending;
} parts[] = {
    {ENGINE_INNODB, ".ibd", ".new"}, {ENGINE_MYISAM, ".MYI", NULL}, {ENGINE_MYISAM, ".MYD", NULL},
    {ENGINE_ARIA, ".MAI", NULL},     {ENGINE_ARIA, ".MAD", NULL},
};

static bool check_folder(struct hf_verify_check *check, const char *data, const char *database, int64_t *files,
                         struct hf_error *err);
static bool check_name(struct hf_verify_check *check, const char *folder, const char *database, char *const *names,
                       size_t count, const char *name, struct hf_error *err);
static bool check_definition(struct hf_verify_check *check, const char *folder, const char *database,
                             char *const *names, size_t count, const char *name, struct hf_error *err);
static bool has_name(char *const *names, size_t count, const char *base, size_t length, const char *ending);
static bool ends_with(const char *name, const char *ending, size_t *ret_length);
static int compare_names(const void *a, const void *b);

bool
hf_mariadb_check_files(struct hf_attempt *attempt, struct hf_error *err)
{
    struct hf_verify_check *check = hf_attempt_check(attempt, "files_complete");
    _cleanup_(hf_strv_freep) char **names = NULL;
    int64_t files = 0;
    size_t count;
    hf_check_begin(check);
    if (!hf_dir_list(attempt->data, DATABASES_MOST, &names, &count, err)) {
        if (hf_attempt_is_fatal(err))
            return false;
        hf_check_cannot_tell(check, "%s", err->message);
        return true;
    }
    for (size_t i = 0; i < HF_LENGTH(always); i++, files++) {
        if (!has_name(names, count, always[i], strlen(always[i]), ""))
            hf_check_found(check, "file_missing", -1, "%s", always[i]);
    }
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        _cleanup_(hf_freep) char *path = hf_path_join(attempt->data, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (lstat(path, &info) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
        if (!hf_attempt_goes_on(attempt, err))
            return false;
        if (S_ISDIR(info.st_mode) && !check_folder(check, attempt->data, names[i], &files, err)) {
            if (hf_attempt_is_fatal(err))
                return false;
            hf_check_cannot_tell(check, "%s", err->message);
            return true;
        }
    }
    hf_check_pass(check, files);
    return true;
}

static bool
check_folder(struct hf_verify_check *check, const char *data, const char *database, int64_t *files,
             struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    _cleanup_(hf_freep) char *folder = hf_path_join(data, database);
    size_t count;
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_list(folder, FILES_MOST, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++, ++*files) {
        if (!check_name(check, folder, database, names, count, names[i], err))
            return false;
    }
    return true;
}

/* Tables that a full-text index keeps for itself, and those of an unfinished ALTER, have no definition. */
static bool
check_name(struct hf_verify_check *check, const char *folder, const char *database, char *const *names, size_t count,
           const char *name, struct hf_error *err)
{
    static const char *const of_tables[] = {".ibd", ".new", ".MYI", ".MYD", ".MAI", ".MAD"};
    size_t length;
    if (strncmp(name, "FTS_", 4) == 0 || strncmp(name, "#sql", 4) == 0)
        return true;
    if (ends_with(name, ".frm", &length))
        return check_definition(check, folder, database, names, count, name, err);
    for (size_t i = 0; i < HF_LENGTH(of_tables); i++) {
        if (!ends_with(name, of_tables[i], &length))
            continue;
        const char *part = strstr(name, "#P#");
        const size_t base = part != NULL ? (size_t)(part - name) : length;
        if (!has_name(names, count, name, base, ".frm"))
            hf_check_found(check, "definition_missing", -1, "%s/%s", database, name);
    }
    return true;
}

static bool
check_definition(struct hf_verify_check *check, const char *folder, const char *database, char *const *names,
                 size_t count, const char *name, struct hf_error *err)
{
    uint8_t start[FRM_BYTES];
    struct hf_error failure;
    struct stat info;
    size_t length = strlen(name) - strlen(".frm");
    _cleanup_(hf_freep) char *path = hf_path_join(folder, name);
    _cleanup_(hf_closep) int fd = -1;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_open(path, &fd, &info, &failure) || !hf_pread_all(fd, start, sizeof start, 0, name, &failure)) {
        hf_check_found(check, "definition_damaged", -1, "%s/%s", database, name);
        return true;
    }
    if (start[0] != FRM_MAGIC_0 || start[1] != FRM_MAGIC_1)
        return true; // a view; or damage, which the server will meet
    for (size_t i = 0; i < HF_LENGTH(parts); i++) {
        if (parts[i].engine == start[3] && !has_name(names, count, name, length, parts[i].ending) &&
            (parts[i].or_ending == NULL || !has_name(names, count, name, length, parts[i].or_ending)))
            hf_check_found(check, "data_missing", -1, "%s/%.*s%s", database, (int)length, name, parts[i].ending);
    }
    return true;
}

/* The names are sorted. */
static bool
has_name(char *const *names, size_t count, const char *base, size_t length, const char *ending)
{
    char wanted[512];
    const char *key = wanted;
    if ((size_t)snprintf(wanted, sizeof wanted, "%.*s%s", (int)length, base, ending) >= sizeof wanted)
        return false;
    return bsearch(&key, names, count, sizeof *names, compare_names) != NULL;
}

static bool
ends_with(const char *name, const char *ending, size_t *ret_length)
{
    const size_t length = strlen(name), tail = strlen(ending);
    if (length <= tail || strcmp(name + length - tail, ending) != 0)
        return false;
    *ret_length = length - tail;
    return true;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}
