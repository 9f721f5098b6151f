#include "server/source/mariadb/corrections.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "server/source/mariadb/mbstream.h"

#define REPLACED "holdfast_config/replaced/"

static const char what[] = "a change of the backup";

/* A path below the folder: the folder it lies in, open, and its last part. */
struct place {
    int folder;
    const char *name;
};

static bool add(struct hf_corrections *corrections, json_t *change, struct hf_error *err);
static bool read_changes(const char *folder, json_t **ret_json, json_t **ret_changes, struct hf_error *err);
static bool apply_one(int folder, const json_t *change, struct hf_error *err);
static bool check_path(const char *path, bool may_be_ours, struct hf_error *err);
static bool open_place(int folder, const char *path, struct place *ret, struct hf_error *err);
static void place_done(struct place *place);

bool
hf_corrections_init(struct hf_corrections *corrections, struct hf_error *err)
{
    *corrections = (struct hf_corrections){.changes = json_array()};
    return corrections->changes != NULL || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of changes");
}

void
hf_corrections_done(struct hf_corrections *corrections)
{
    hf_json_freep(&corrections->changes);
}

bool
hf_corrections_rename(struct hf_corrections *corrections, const char *path, const char *to, struct hf_error *err)
{
    return add(corrections, json_pack("{s:s, s:s, s:s}", "do", "rename", "path", path, "to", to), err);
}

bool
hf_corrections_remove(struct hf_corrections *corrections, const char *path, struct hf_error *err)
{
    return add(corrections, json_pack("{s:s, s:s}", "do", "remove", "path", path), err);
}

bool
hf_corrections_replace(struct hf_corrections *corrections, const char *path, char by[static HF_CORRECTIONS_BY_BYTES],
                       struct hf_error *err)
{
    snprintf(by, HF_CORRECTIONS_BY_BYTES, REPLACED "%06u", ++corrections->replaced);
    return add(corrections, json_pack("{s:s, s:s, s:s}", "do", "replace", "path", path, "by", by), err);
}

size_t
hf_corrections_count(const struct hf_corrections *corrections)
{
    return json_array_size(corrections->changes);
}

bool
hf_corrections_format(const struct hf_corrections *corrections, struct hf_buf *ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = json_pack("{s:i, s:O}", "version", 1, "changes", corrections->changes);
    return json == NULL ? hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of changes")
                        : hf_json_canonical(json, ret, err);
}

bool
hf_corrections_apply(const char *folder, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = NULL;
    _cleanup_(hf_closep) int top = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    json_t *changes;
    if (top < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open folder \"%s\"", folder);
    if (!read_changes(folder, &json, &changes, err))
        return false;
    for (size_t i = 0; i < json_array_size(changes); i++)
        if (!apply_one(top, json_array_get(changes, i), err))
            return false;
    return true;
}

bool
hf_corrections_renamed(const char *folder, const char *ending, json_t **ret, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *json = NULL;
    _cleanup_(hf_json_freep) json_t *renamed = json_object();
    json_t *changes;
    if (renamed == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a list of changes");
    if (!read_changes(folder, &json, &changes, err))
        return false;
    for (size_t i = 0; i < json_array_size(changes); i++) {
        const json_t *change = json_array_get(changes, i);
        const char *action, *path, *to;
        if (!hf_json_string(change, "do", what, &action, err) || !hf_json_string(change, "path", what, &path, err))
            return false;
        (void)json_object_del(renamed, path); // what it had is gone, or has yet another name
        if (strcmp(action, "rename") != 0)
            continue;
        if (!hf_json_string(change, "to", what, &to, err))
            return false;
        const size_t length = strlen(to), tail = strlen(ending);
        if (length > tail && strcmp(to + length - tail, ending) == 0 && !hf_json_set(renamed, to, json_true(), err))
            return false;
    }
    *ret = HF_TAKE(renamed);
    return true;
}

static bool
add(struct hf_corrections *corrections, json_t *change, struct hf_error *err)
{
    _cleanup_(hf_json_freep) json_t *taken = change;
    if (hf_corrections_count(corrections) == HF_CORRECTIONS_MOST)
        return hf_fail(err, HF_ERR_NO_SPACE, "more than %d files changed their names while the backup ran",
                       HF_CORRECTIONS_MOST);
    // NULL also for a path that is no UTF-8: names of tables are, in the server's own coding.
    if (taken == NULL || json_array_append(corrections->changes, taken) != 0)
        return hf_fail(err, HF_ERR_CORRUPT,
                       "a file that was renamed or removed has a name that cannot be written down");
    return true;
}

/* *ret_changes is a part of *ret_json; NULL, which jansson takes for an empty array, where the backup
 * has no such file. */
static bool
read_changes(const char *folder, json_t **ret_json, json_t **ret_changes, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_CORRECTIONS_FILE_MOST);
    _cleanup_(hf_freep) char *path = hf_path_join(folder, HF_CORRECTIONS_PATH);
    int64_t version;
    struct hf_error why;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_read(path, &text, &why)) {
        *err = why;
        *ret_changes = NULL;
        return why.kind == HF_ERR_NOT_FOUND;
    }
    return hf_json_parse(text.data, text.length, "the backup's changes", ret_json, err) &&
           hf_json_integer(*ret_json, "version", "the backup's changes", 1, 1, &version, err) &&
           hf_json_array(*ret_json, "changes", "the backup's changes", ret_changes, err);
}

static bool
apply_one(int folder, const json_t *change, struct hf_error *err)
{
    const char *action, *path, *other = NULL;
    if (!hf_json_string(change, "do", what, &action, err) || !hf_json_string(change, "path", what, &path, err) ||
        !check_path(path, false, err))
        return false;
    const bool removes = strcmp(action, "remove") == 0, renames = strcmp(action, "rename") == 0;
    if (!removes && !renames && strcmp(action, "replace") != 0)
        return hf_fail(err, HF_ERR_CORRUPT, "%s is none: \"%.32s\"", what, action);
    if (!removes &&
        (!hf_json_string(change, renames ? "to" : "by", what, &other, err) || !check_path(other, !renames, err)))
        return false;

    _cleanup_(place_done) struct place from = {.folder = -1}, to = {.folder = -1};
    if (!open_place(folder, removes || renames ? path : other, &from, err) ||
        (!removes && !open_place(folder, renames ? other : path, &to, err)))
        return false;
    const int failed = removes ? unlinkat(from.folder, from.name, 0)
                               : renameat2(from.folder, from.name, to.folder, to.name, renames ? RENAME_NOREPLACE : 0);
    return failed == 0 || hf_fail_errno(err, HF_ERR_CORRUPT, "could not %s \"%s\", as the backup says", action, path);
}

static bool
check_path(const char *path, bool may_be_ours, struct hf_error *err)
{
    char clean[HF_MBSTREAM_PATH_MOST + 1];
    char digits[7];
    int length = 0;
    if (may_be_ours && sscanf(path, REPLACED "%6[0-9]%n", digits, &length) == 1 && length > 0 && path[length] == '\0')
        return true;
    return hf_mbstream_clean(path, strlen(path), clean, err) &&
           (strcmp(clean, path) == 0 ||
            hf_fail(err, HF_ERR_CORRUPT, "a change of the backup names \"%.100s\", which is no clean path", path));
}

/* No part of the way may be a link. */
static bool
open_place(int folder, const char *path, struct place *ret, struct hf_error *err)
{
    const char *slash = strrchr(path, '/');
    char parent[HF_MBSTREAM_PATH_MOST + 1] = ".";
    if (slash != NULL)
        snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
    const struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    ret->folder = (int)syscall(SYS_openat2, folder, parent, &how, sizeof how);
    ret->name = slash == NULL ? path : slash + 1;
    return ret->folder >= 0 ||
           hf_fail_errno(err, HF_ERR_CORRUPT, "could not open the folder of \"%s\", which the backup changed", path);
}

static void
place_done(struct place *place)
{
    hf_closep(&place->folder);
}
