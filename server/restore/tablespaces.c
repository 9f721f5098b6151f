#include "server/restore/tablespaces.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define BELOW "pg_tblspc/"

static bool is_tablespace(const struct hf_manifest_link *link);
static bool same_path(const char *a, const char *b);
static size_t length_of(const char *path);
static bool check_place(const char *target, const char *to, struct hf_error *err);
static bool fail_unknown(const struct hf_manifest_root *root, const char *from, struct hf_error *err);

bool
hf_tablespaces_check(const struct hf_manifest_root *root, const char *target, const struct hf_tablespace_move *moves,
                     size_t count, struct hf_error *err)
{
    for (size_t i = 0; i < count; i++) {
        bool known = false;
        for (size_t j = 0; j < root->link_count; j++)
            known = known || (is_tablespace(&root->links[j]) && same_path(root->links[j].target, moves[i].from));
        if (!known)
            return fail_unknown(root, moves[i].from, err);
        for (size_t j = 0; j < i; j++)
            if (same_path(moves[i].from, moves[j].from) || same_path(moves[i].to, moves[j].to))
                return hf_fail(err, HF_ERR_USAGE, "tablespace \"%.200s\" and \"%.200s\" cannot share a folder",
                               moves[j].from, moves[i].from);
        if (!check_place(target, moves[i].to, err))
            return false;
    }
    return true;
}

const struct hf_tablespace_move *
hf_tablespaces_find(const struct hf_manifest_root *root, const char *path, const struct hf_tablespace_move *moves,
                    size_t count)
{
    for (size_t i = 0; i < root->link_count && count > 0; i++) {
        if (!is_tablespace(&root->links[i]) || strcmp(root->links[i].path, path) != 0)
            continue;
        for (size_t j = 0; j < count; j++)
            if (same_path(root->links[i].target, moves[j].from))
                return &moves[j];
    }
    return NULL;
}

bool
hf_tablespaces_link(int target, const char *path, const struct hf_tablespace_move *move, uid_t uid, gid_t gid,
                    struct hf_error *err)
{
    if (!hf_dir_make(move->to, 0700, err))
        return false;
    _cleanup_(hf_closep) int fd = open(move->to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fchmod(fd, 0700) != 0 || (uid != (uid_t)-1 && fchown(fd, uid, gid) != 0) || fsync(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not prepare folder \"%.200s\"", move->to);
    if (symlinkat(move->to, target, path) != 0 ||
        (uid != (uid_t)-1 && fchownat(target, path, uid, gid, AT_SYMLINK_NOFOLLOW) != 0))
        return hf_fail_errno(err, HF_ERR_NONE, "could not make the link \"%s\"", path);
    return true;
}

/* Directly below pg_tblspc: nothing else that a manifest may call a link becomes one. */
static bool
is_tablespace(const struct hf_manifest_link *link)
{
    const size_t length = sizeof BELOW - 1;
    return strncmp(link->path, BELOW, length) == 0 && link->path[length] != '\0' &&
           strspn(link->path + length, "0123456789") == strlen(link->path + length);
}

/* But for slashes at their ends. */
static bool
same_path(const char *a, const char *b)
{
    const size_t length = length_of(a);
    return length == length_of(b) && strncmp(a, b, length) == 0;
}

static size_t
length_of(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    return length;
}

static bool
check_place(const char *target, const char *to, struct hf_error *err)
{
    const size_t length = length_of(target);
    bool empty = true;
    struct hf_error why = {0};
    if (to[0] != '/' || strstr(to, "/../") != NULL)
        return hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is no absolute path of a folder for a tablespace", to);
    if (strncmp(to, target, length) == 0 && (to[length] == '/' || to[length] == '\0'))
        return hf_fail(err, HF_ERR_USAGE, "the folder \"%.200s\" for a tablespace lies in the restored copy", to);
    if (!hf_dir_is_empty(to, &empty, &why) && why.kind != HF_ERR_NOT_FOUND) {
        if (err != NULL)
            *err = why;
        return false;
    }
    return empty || hf_fail(err, HF_ERR_CONFLICT, "the folder \"%.200s\" for a tablespace is not empty", to);
}

static bool
fail_unknown(const struct hf_manifest_root *root, const char *from, struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf known = HF_BUF_INIT(200);
    for (size_t i = 0; i < root->link_count; i++) // as many as there is room for
        if (is_tablespace(&root->links[i]) &&
            !hf_buf_printf(&known, NULL, "%s\"%s\"", known.length > 0 ? ", " : "", root->links[i].target))
            break;
    hf_fail(err, HF_ERR_USAGE, "the backup has no tablespace at \"%.200s\"", from);
    return known.length == 0 ? hf_fail_hint(err, "It has none at all.")
                             : hf_fail_hint(err, "It has them at %s.", hf_buf_text(&known));
}
