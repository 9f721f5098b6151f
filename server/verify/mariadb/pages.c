#include "server/verify/mariadb/pages.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/mariadb/innodb.h"

#define NAMES_MOST 1000000 // in one folder
#define READ_BYTES (1 * HF_MIB)

struct walk {
    struct hf_attempt *attempt;
    struct hf_verify_check *check;
    uint8_t *buffer; // READ_BYTES
    int64_t pages, unjudged;
};

static bool check_system(struct walk *walk, const struct hf_mariadb_layout *layout, struct hf_error *err);
static bool walk_folder(struct walk *walk, const char *folder, const char *database, struct hf_error *err);
static bool holds_pages(const char *name, bool in_database);
static bool check_space(struct walk *walk, const char *path, const char *name, struct hf_error *err);
static bool check_file(struct walk *walk, const struct hf_innodb_space *space, int fd, uint64_t size, const char *name,
                       uint64_t first, struct hf_error *err);

bool
hf_mariadb_check_pages(struct hf_attempt *attempt, const struct hf_mariadb_layout *layout,
                       struct hf_verify_check *check, struct hf_error *err)
{
    _cleanup_(hf_freep) uint8_t *buffer = malloc(READ_BYTES);
    struct walk walk = {.attempt = attempt, .check = check, .buffer = buffer};
    struct hf_error failure;
    if (buffer == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for pages");
    hf_check_begin(check);
    if (!check_system(&walk, layout, &failure) || !walk_folder(&walk, attempt->data, NULL, &failure)) {
        if (hf_attempt_is_fatal(&failure)) {
            *err = failure;
            return false;
        }
        hf_check_cannot_tell(check, "%s", failure.message);
        return true;
    }
    if (walk.pages == 0)
        hf_check_fail(check, "there is no page of InnoDB at all");
    else if (walk.unjudged == walk.pages)
        hf_check_cannot_tell(check, "no page carries a checksum");
    else
        hf_check_pass(check, walk.pages - walk.unjudged); // what carries none is left to CHECK TABLE
    return true;
}

/* Its files follow each other, and only the first says how pages are made. */
static bool
check_system(struct walk *walk, const struct hf_mariadb_layout *layout, struct hf_error *err)
{
    uint64_t first = 0;
    struct hf_innodb_space space = {0};
    char names[HF_MARIADB_PATHS_BYTES], *rest = names;
    snprintf(names, sizeof names, "%s", layout->data_file_path);
    for (const char *item; (item = strsep(&rest, ";")) != NULL;) {
        char name[HF_MARIADB_PATHS_BYTES];
        uint8_t start[HF_INNODB_HEADER_BYTES];
        struct stat info;
        struct hf_error failure;
        _cleanup_(hf_closep) int fd = -1;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(item, ":"), item);
        _cleanup_(hf_freep) char *path = hf_path_join(walk->attempt->data, name);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (!hf_file_open(path, &fd, &info, &failure) ||
            (first == 0 && (!hf_pread_all(fd, start, sizeof start, 0, name, &failure) ||
                            !hf_innodb_space_read(start, sizeof start, &space)))) {
            hf_check_found(walk->check, "file_missing", -1, "%s", name);
            return true;
        }
        if (!check_file(walk, &space, fd, (uint64_t)info.st_size, name, first, err))
            return false;
        first += (uint64_t)info.st_size / space.page_bytes;
    }
    return true;
}

/* Two levels: the data directory, and one folder for each database. */
static bool
walk_folder(struct walk *walk, const char *folder, const char *database, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (!hf_dir_list(folder, NAMES_MOST, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        char shown[600];
        _cleanup_(hf_freep) char *path = hf_path_join(folder, names[i]);
        if (path == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
        if (lstat(path, &info) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
        if (database == NULL && S_ISDIR(info.st_mode) && !walk_folder(walk, path, names[i], err))
            return false;
        if (!S_ISREG(info.st_mode) || !holds_pages(names[i], database != NULL))
            continue;
        snprintf(shown, sizeof shown, "%s%s%s", database == NULL ? "" : database, database == NULL ? "" : "/",
                 names[i]);
        if (!check_space(walk, path, shown, err))
            return false;
    }
    return true;
}

/*
 * "undo001", or a table's.  Not the .new files of tables that were made during the backup: the tool copies what is
 * there by then, which may be nothing yet, and the log has all of them.
 */
static bool
holds_pages(const char *name, bool in_database)
{
    const size_t length = strlen(name);
    if (!in_database)
        return length == 7 && strncmp(name, "undo", 4) == 0 && strspn(name + 4, "0123456789") == 3;
    return length > 4 && strcmp(name + length - 4, ".ibd") == 0;
}

static bool
check_space(struct walk *walk, const char *path, const char *name, struct hf_error *err)
{
    struct hf_innodb_space space;
    struct stat info;
    uint8_t start[HF_INNODB_HEADER_BYTES];
    _cleanup_(hf_closep) int fd = -1;
    if (!hf_file_open(path, &fd, &info, err))
        return false;
    if ((uint64_t)info.st_size < sizeof start) {
        hf_check_found(walk->check, "file_cut", 0, "%s", name);
        return true;
    }
    if (!hf_pread_all(fd, start, sizeof start, 0, name, err))
        return false;
    if (!hf_innodb_space_read(start, sizeof start, &space)) {
        hf_check_found(walk->check, "damaged_page", 0, "%s", name);
        return true;
    }
    return check_file(walk, &space, fd, (uint64_t)info.st_size, name, 0, err);
}

static bool
check_file(struct walk *walk, const struct hf_innodb_space *space, int fd, uint64_t size, const char *name,
           uint64_t first, struct hf_error *err)
{
    const uint64_t whole = size - size % space->page_bytes;
    if (size != whole)
        hf_check_found(walk->check, "file_cut", (int64_t)(size / space->page_bytes), "%s", name);
    for (uint64_t at = 0; at < whole;) {
        const size_t length = whole - at < READ_BYTES ? (size_t)(whole - at) : READ_BYTES;
        if (!hf_attempt_goes_on(walk->attempt, err) || !hf_pread_all(fd, walk->buffer, length, at, name, err))
            return false;
        for (size_t within = 0; within < length; within += space->page_bytes, at += space->page_bytes) {
            const uint64_t number = first + at / space->page_bytes;
            const enum hf_page_verdict verdict = hf_innodb_page_verdict(space, (uint32_t)number, walk->buffer + within);
            walk->pages++;
            walk->unjudged += verdict == HF_PAGE_UNJUDGED;
            if (verdict == HF_PAGE_BAD)
                hf_check_found(walk->check, "damaged_page", (int64_t)number, "%s", name);
        }
    }
    return true;
}
