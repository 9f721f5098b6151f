#include "server/restore/configure.h"

#include <stdio.h>
#include <unistd.h>

#include "base/file.h"

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
           put_missing(plan, target, "pg_ident.conf", &none, err);
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
    return hf_file_publish(path, hf_buf_text(text), text->length, 0600, HF_PUBLISH_EXCLUSIVE, err);
}
