#include "server/restore/engine.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "sandbox/tree.h"

#define ENTRIES_MOST 100000

static const struct hf_restore_engine *const engines[] = {&hf_restore_postgres, &hf_restore_mariadb};

const struct hf_restore_engine hf_restore_postgres = {
    .name = "postgresql", .product = "PostgreSQL", .owner = "postgres", .last = "global/pg_control"};

static bool move_up(const char *folder, const char *target, const char *name, struct hf_error *err);
static bool sync_all(const char *path, struct hf_error *err);

const struct hf_restore_engine *
hf_restore_engine_find(const char *name)
{
    for (size_t i = 0; i < HF_LENGTH(engines); i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

bool
hf_restore_stage(const char *target, char **ret, struct hf_error *err)
{
    bool empty = true;
    if (access(target, F_OK) == 0 && !hf_dir_is_empty(target, &empty, err))
        return false;
    if (!empty) {
        hf_fail(err, HF_ERR_CONFLICT, "\"%s\" is not empty", target);
        return hf_fail_hint(err, "Restore into a folder that is empty or does not exist yet.");
    }
    _cleanup_(hf_freep) char *folder = hf_path_join(target, HF_RESTORE_UNFINISHED);
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_make(target, 0700, err))
        return false;
    *ret = HF_TAKE(folder);
    return true;
}

bool
hf_restore_finish_staged(const struct hf_restore_engine *engine, const struct hf_restore_completion *completion,
                         struct hf_error *err)
{
    const char *folder = completion->folder, *target = completion->target;
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    bool last = false;
    if (!engine->complete(completion, err) ||
        !hf_tree_give(folder, completion->owner_uid, completion->owner_gid, err) || !sync_all(folder, err) ||
        !hf_dir_list(folder, ENTRIES_MOST, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(names[i], engine->last) == 0)
            last = true;
        else if (!move_up(folder, target, names[i], err))
            return false;
    }
    if (!last)
        return hf_fail(err, HF_ERR_CORRUPT, "the restored files lack \"%s\"", engine->last);
    if (!hf_dir_sync(target, err) || !move_up(folder, target, engine->last, err))
        return false;
    if (rmdir(folder) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", folder);
    if (chown(target, completion->owner_uid, completion->owner_gid) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give \"%s\" to its owner", target);
    return hf_dir_sync(target, err);
}

static bool
move_up(const char *folder, const char *target, const char *name, struct hf_error *err)
{
    _cleanup_(hf_freep) char *from = hf_path_join(folder, name), *to = hf_path_join(target, name);
    if (from == NULL || to == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    return rename(from, to) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not move \"%s\"", from);
}

/* The tool wrote files that only it knows. */
static bool
sync_all(const char *path, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\" through to the disk", path);
    return true;
}
