#include "server/restore/configure.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static bool allow_tablespaces(struct hf_restore_plan *plan, const char *target, const struct hf_restore_needs *needs,
                              struct hf_error *err);
static bool has_tablespaces(struct hf_restore_plan *plan);
static bool knows_in_place(uint32_t version_num);
static bool put_missing(struct hf_restore_plan *plan, const char *target, const char *name, const struct hf_buf *text,
                        struct hf_error *err);

bool
hf_restore_configure(struct hf_restore_plan *plan, const char *target, const struct hf_restore_needs *needs,
                     struct hf_error *err)
{
    _cleanup_(hf_buf_done) struct hf_buf settings = HF_BUF_INIT(16 * HF_KIB);
    _cleanup_(hf_buf_done) struct hf_buf access = HF_BUF_INIT(4 * HF_KIB);
    _cleanup_(hf_buf_done) struct hf_buf none = HF_BUF_INIT(1);
    char path[4096];
    const struct hf_manifest_file *map = hf_restore_plan_file(plan, "tablespace_map");
    snprintf(path, sizeof path, "%s/tablespace_map", target);
    if (map != NULL && map->size > 0 && unlink(path) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    // Of a standby's backup: the copy would follow production's primary, and never be one itself.
    snprintf(path, sizeof path, "%s/standby.signal", target);
    if (hf_restore_plan_file(plan, "standby.signal") != NULL && unlink(path) != 0 && errno != ENOENT)
        return hf_fail_errno(err, HF_ERR_NONE, "could not remove \"%s\"", path);
    return hf_buf_printf(
               &settings, err,
               "# Written by Holdfast: the backup held no postgresql.conf.  The source's own settings are in\n"
               "# holdfast_config/.  These are what recovery of this copy needs.\n"
               "listen_addresses = ''\n"
               "archive_mode = off\n"
               "max_connections = %u\n"
               "max_worker_processes = %u\n"
               "max_wal_senders = %u\n"
               "max_prepared_transactions = %u\n"
               "max_locks_per_transaction = %u\n",
               needs->max_connections, needs->max_worker_processes, needs->max_wal_senders, needs->max_prepared_xacts,
               needs->max_locks_per_xact) &&
           hf_buf_add_text(&access,
                           "# Written by Holdfast: the backup held no pg_hba.conf.\n"
                           "local all all peer\n",
                           err) &&
           put_missing(plan, target, "postgresql.conf", &settings, err) &&
           put_missing(plan, target, "pg_hba.conf", &access, err) &&
           put_missing(plan, target, "pg_ident.conf", &none, err) && allow_tablespaces(plan, target, needs, err);
}

static bool
allow_tablespaces(struct hf_restore_plan *plan, const char *target, const struct hf_restore_needs *needs,
                  struct hf_error *err)
{
    static const char text[] = "\n# Written by Holdfast: the tablespaces are folders in pg_tblspc.\n"
                               "allow_in_place_tablespaces = on\n";
    if (!has_tablespaces(plan) || !knows_in_place(needs->server_version_num))
        return true;
    _cleanup_(hf_freep) char *path = hf_path_join(target, "postgresql.auto.conf");
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    return hf_write_all(fd, text, sizeof text - 1, path, err) && hf_restore_give(plan, fd, path, err) &&
           (fsync(fd) == 0 || hf_fail_errno(err, HF_ERR_NONE, "could not write \"%s\"", path));
}

static bool
has_tablespaces(struct hf_restore_plan *plan)
{
    static const char below[] = "pg_tblspc/";
    const struct hf_manifest_root *root = hf_backup_root(hf_restore_plan_backup(plan));
    for (size_t i = 0; i < root->link_count; i++)
        if (strncmp(root->links[i].path, below, sizeof below - 1) == 0 &&
            !hf_restore_plan_is_moved(plan, root->links[i].path))
            return true;
    for (size_t i = 0; i < root->folder_count; i++) // perhaps in place at the source too
        if (strncmp(root->folders[i].path, below, sizeof below - 1) == 0 &&
            strchr(root->folders[i].path + sizeof below - 1, '/') == NULL &&
            !hf_restore_plan_is_moved(plan, root->folders[i].path))
            return true;
    return false;
}

static bool
knows_in_place(uint32_t version_num)
{
    return version_num >= 150000 || (version_num >= 140005 && version_num < 150000) ||
           (version_num >= 130008 && version_num < 140000);
}

static bool
put_missing(struct hf_restore_plan *plan, const char *target, const char *name, const struct hf_buf *text,
            struct hf_error *err)
{
    if (hf_restore_plan_file(plan, name) != NULL)
        return true;
    _cleanup_(hf_freep) char *path = hf_path_join(target, name);
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_file_publish(path, hf_buf_text(text), text->length, 0600, HF_PUBLISH_EXCLUSIVE, err))
        return false;
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", path);
    return hf_restore_give(plan, fd, path, err);
}
