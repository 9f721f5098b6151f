#include "server/storage/backend_sftp.h"

#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "server/storage/backend_internal.h"
#include "server/storage/sftp_client.h"
#include "server/storage/sftp_folders.h"

#define PATH_BYTES (HF_SSH_PATH_BYTES + HF_OBJECT_NAME_BYTES + 64)

struct sftp {
    struct hf_backend base;
    struct hf_ssh_place where;
    pthread_mutex_t lock; // of all that follows: one thread at a time speaks
    struct hf_sftp *client;
    uint64_t connections; // made so far: an upload belongs to one
    bool syncs_folders;
    bool has_locks;    // a local repository left locks here
    struct hf_id self; // of this handle, in the names of what it stages
    struct hf_sftp_folders folders;
};

struct sftp_upload {
    struct hf_upload base;
    uint64_t connection;
    struct hf_sftp_handle handle;
    char staged[PATH_BYTES]; // "" once it is gone
    uint64_t written;
};

static void sftp_close(struct hf_backend *backend);
static enum hf_durability sftp_durability(const struct hf_backend *backend);
static bool sftp_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err);
static bool sftp_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                              struct hf_error *err);
static bool sftp_upload_append(struct hf_upload *upload, const void *data, size_t length, struct hf_error *err);
static void sftp_upload_push(struct hf_upload *upload);
static bool sftp_upload_finish(struct hf_upload *upload, struct hf_error *err);
static void sftp_upload_abort(struct hf_upload *upload);
static bool sftp_barrier(struct hf_backend *backend, struct hf_error *err);
static bool sftp_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                               struct hf_error *err);
static bool sftp_replace(struct hf_backend *backend, const char *name, const void *data, size_t length,
                         struct hf_error *err);
static bool sftp_get(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err);
static bool sftp_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                           struct hf_error *err);
static bool sftp_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size,
                      struct hf_error *err);
static bool sftp_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context,
                      struct hf_error *err);
static bool sftp_remove(struct hf_backend *backend, const char *name, struct hf_error *err);
static bool sftp_retain_until(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err);
static bool sftp_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until, struct hf_error *err);
static bool sftp_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err);
static bool sftp_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err);

static const struct hf_backend_kind sftp_kind = {
    .close = sftp_close,
    .durability = sftp_durability,
    .probe = sftp_probe,
    .upload_begin = sftp_upload_begin,
    .upload_append = sftp_upload_append,
    .upload_push = sftp_upload_push,
    .upload_finish = sftp_upload_finish,
    .upload_abort = sftp_upload_abort,
    .barrier = sftp_barrier,
    .put_exclusive = sftp_put_exclusive,
    .replace = sftp_replace,
    .get = sftp_get,
    .get_range = sftp_get_range,
    .stat = sftp_stat,
    .list = sftp_list,
    .remove = sftp_remove,
    .destroy = sftp_remove, // overwriting is not in the protocol
    .retain_until = sftp_retain_until,
    .retained_until = sftp_retained_until,
    .sweep = sftp_sweep,
    .free_space = sftp_free_space,
};

static struct sftp *sftp_of(const struct hf_backend *backend);
static void sftp_freep(struct sftp **sftp);
static bool connect_again(struct sftp *sftp, struct hf_error *err);
static bool look_at_root(struct sftp *sftp, bool make, struct hf_error *err);
static bool enter(struct sftp *sftp, struct hf_error *err);
static void leave(struct sftp **sftp);
static bool fail_code(struct sftp *sftp, enum hf_sftp_code code, const char *doing, const char *name,
                      struct hf_error *err);
static void path_of(const struct sftp *sftp, const char *name, char path[static PATH_BYTES]);
static bool make_above(struct sftp *sftp, const char *name, struct hf_error *err);
static bool begin_staged(struct sftp *sftp, const char *name, struct sftp_upload *upload, struct hf_error *err);
static bool write_staged(struct sftp *sftp, struct sftp_upload *upload, const void *data, size_t length,
                         struct hf_error *err);
static bool seal_staged(struct sftp *sftp, struct sftp_upload *upload, struct hf_error *err);
static bool link_staged(struct sftp *sftp, struct sftp_upload *upload, struct hf_error *err);
static void drop_staged(struct sftp *sftp, struct sftp_upload *upload);
static bool sync_above(struct sftp *sftp, const char *name, struct hf_error *err);
static bool sync_marked(struct sftp *sftp, struct hf_error *err);
static bool sync_folder(struct sftp *sftp, const char *folder, bool *ret_can, struct hf_error *err);
static bool open_object(struct sftp *sftp, const char *name, struct hf_sftp_handle *ret, uint64_t *ret_size,
                        struct hf_error *err);
static bool stat_object(struct sftp *sftp, const char *name, bool *ret_found, struct hf_sftp_attributes *ret,
                        struct hf_error *err);
static bool close_object(struct sftp *sftp, const struct hf_sftp_handle *handle, struct hf_error *err);

struct sweeping {
    struct sftp *sftp;
    uint64_t objects, bytes;
};
static bool sweep_one(void *context, const struct hf_object_info *object, struct hf_error *err);

bool
hf_backend_open_sftp(const char *place, bool make, struct hf_backend **ret, struct hf_error *err)
{
    _cleanup_(sftp_freep) struct sftp *sftp = calloc(1, sizeof *sftp);
    if (sftp == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for repository \"%s\"", place);
    pthread_mutex_init(&sftp->lock, NULL);
    sftp->base.kind = &sftp_kind;
    sftp->self = hf_id_new();
    if (!hf_ssh_place_parse(place, &sftp->where, err))
        return false;
    sftp->base.place = strdup(place);
    if (sftp->base.place == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for repository \"%s\"", place);
    if (!connect_again(sftp, err) || !look_at_root(sftp, make, err))
        return false;
    *ret = &HF_TAKE(sftp)->base;
    return true;
}

static void
sftp_close(struct hf_backend *backend)
{
    struct sftp *sftp = sftp_of(backend);
    sftp_freep(&sftp);
}

static enum hf_durability
sftp_durability(const struct hf_backend *backend)
{
    return sftp_of(backend)->syncs_folders ? HF_DURABLE_SYNCED : HF_DURABLE_CONTENTS;
}

/* One name, linked twice: the second must fail. */
static bool
sftp_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct sftp_upload upload = {0};
    char name[HF_OBJECT_NAME_BYTES], path[PATH_BYTES], text[HF_ID_TEXT_BYTES];
    const struct hf_id id = hf_id_new();
    enum hf_sftp_code first, second, removed;
    snprintf(name, sizeof name, "staging/probe-%s", hf_id_format(&id, text));
    if (!enter(sftp, err) || !begin_staged(sftp, "probe", &upload, err))
        return false;
    path_of(sftp, name, path);
    bool ok = seal_staged(sftp, &upload, err) &&
              hf_sftp_move(sftp->client, HF_SFTP_HARDLINK, upload.staged, path, &first, err) &&
              hf_sftp_move(sftp->client, HF_SFTP_HARDLINK, upload.staged, path, &second, err) &&
              hf_sftp_remove(sftp->client, path, &removed, err);
    drop_staged(sftp, &upload);
    if (!ok)
        return hf_fail_within(err, "could not try what repository \"%s\" can do", backend->place);
    *ret = (struct hf_backend_report){.exclusive_create = first == HF_SFTP_OK && second != HF_SFTP_OK,
                                      .durable_sync = sftp->syncs_folders,
                                      .locks = HF_IMMUTABLE_NONE};
    snprintf(ret->description, sizeof ret->description, "SFTP, %s",
             sftp->syncs_folders ? "files and folders are synced" : "files are synced, folders are not");
    return true;
}

static bool
sftp_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                  struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    _cleanup_(hf_freep) struct sftp_upload *upload = calloc(1, sizeof *upload);
    if (!enter(sftp, err))
        return false;
    if (upload == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for writing \"%s\"", name);
    upload->base.backend = backend;
    snprintf(upload->base.name, sizeof upload->base.name, "%s", name);

    uint64_t left = UINT64_MAX;
    enum hf_sftp_code code = HF_SFTP_OK;
    if (expected > 0 && (hf_sftp_extensions(sftp->client) & HF_SFTP_STATVFS) &&
        !hf_sftp_statvfs(sftp->client, sftp->where.path, &left, &code, err))
        return false;
    if (code == HF_SFTP_OK && left < expected)
        return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" needs %" PRIu64 " bytes, and \"%s\" has %" PRIu64 " left", name,
                       expected, backend->place, left);
    if (!make_above(sftp, name, err) || !begin_staged(sftp, name, upload, err))
        return false;
    *ret = &HF_TAKE(upload)->base;
    return true;
}

static bool
sftp_upload_append(struct hf_upload *base, const void *data, size_t length, struct hf_error *err)
{
    struct sftp_upload *upload = (struct sftp_upload *)base;
    _cleanup_(leave) struct sftp *sftp = sftp_of(base->backend);
    return enter(sftp, err) && write_staged(sftp, upload, data, length, err);
}

static void
sftp_upload_push(struct hf_upload *upload)
{
    (void)upload; // the server writes as it likes; fsync waits for it
}

static bool
sftp_upload_finish(struct hf_upload *base, struct hf_error *err)
{
    struct sftp_upload *upload = (struct sftp_upload *)base;
    _cleanup_(leave) struct sftp *sftp = sftp_of(base->backend);
    bool finished = enter(sftp, err) && seal_staged(sftp, upload, err) && link_staged(sftp, upload, err) &&
                    (hf_sftp_folders_mark(&sftp->folders, base->name, err));
    drop_staged(sftp, upload);
    free(upload);
    return finished;
}

static void
sftp_upload_abort(struct hf_upload *base)
{
    struct sftp_upload *upload = (struct sftp_upload *)base;
    struct hf_error ignored;
    _cleanup_(leave) struct sftp *sftp = sftp_of(base->backend);
    if (enter(sftp, &ignored))
        drop_staged(sftp, upload);
    free(upload);
}

/* Every folder that got a name since the last time. */
static bool
sftp_barrier(struct hf_backend *backend, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    return enter(sftp, err) && sync_marked(sftp, err);
}

static bool
sftp_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct sftp_upload upload = {.base = {.backend = backend}};
    snprintf(upload.base.name, sizeof upload.base.name, "%s", name);
    if (!enter(sftp, err) || !make_above(sftp, name, err) || !begin_staged(sftp, name, &upload, err))
        return false;
    bool put = write_staged(sftp, &upload, data, length, err) && seal_staged(sftp, &upload, err) &&
               link_staged(sftp, &upload, err);
    drop_staged(sftp, &upload);
    // It has its name, and others may have read it: it stays, whatever the sync says.
    return put && (sync_above(sftp, name, err) || hf_fail_within(err, "\"%s\" was written, but may not last", name));
}

static bool
sftp_replace(struct hf_backend *backend, const char *name, const void *data, size_t length, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct sftp_upload upload = {.base = {.backend = backend}};
    enum hf_sftp_code code;
    char path[PATH_BYTES];
    snprintf(upload.base.name, sizeof upload.base.name, "%s", name);
    if (!enter(sftp, err) || !make_above(sftp, name, err) || !begin_staged(sftp, name, &upload, err))
        return false;
    path_of(sftp, name, path);
    bool put = write_staged(sftp, &upload, data, length, err) && seal_staged(sftp, &upload, err) &&
               hf_sftp_move(sftp->client, HF_SFTP_POSIX_RENAME, upload.staged, path, &code, err) &&
               (code == HF_SFTP_OK || fail_code(sftp, code, "move to its place", name, err));
    if (put)
        upload.staged[0] = '\0';
    drop_staged(sftp, &upload);
    return put && sync_above(sftp, name, err);
}

static bool
sftp_get(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct hf_sftp_handle handle;
    enum hf_sftp_code code;
    uint64_t size;
    if (!enter(sftp, err) || !open_object(sftp, name, &handle, &size, err))
        return false;
    const size_t room = buf->limit - buf->length;
    bool ok = size <= room || hf_fail(err, HF_ERR_NO_SPACE,
                                      "\"%s\" has %" PRIu64 " bytes, more than the %zu it may have", name, size, room);
    ok = ok && (hf_buf_reserve(buf, (size_t)size, err) || hf_fail_within(err, "could not read \"%s\"", name)) &&
         hf_sftp_read(sftp->client, &handle, 0, buf->data + buf->length, (size_t)size, &code, err) &&
         (code == HF_SFTP_OK || fail_code(sftp, code, "read", name, err));
    struct hf_error ignored;
    if (!close_object(sftp, &handle, ok ? err : &ignored) || !ok)
        return false;
    buf->length += (size_t)size;
    buf->data[buf->length] = 0;
    return true;
}

static bool
sftp_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
               struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct hf_sftp_handle handle;
    enum hf_sftp_code code;
    uint64_t size;
    if (!enter(sftp, err) || !open_object(sftp, name, &handle, &size, err))
        return false;
    bool ok = (offset <= size && length <= size - offset) ||
              hf_fail(err, HF_ERR_CORRUPT,
                      "\"%s\" ends at byte %" PRIu64 ", and %zu bytes from byte %" PRIu64 " were asked for", name, size,
                      length, offset);
    ok = ok && hf_sftp_read(sftp->client, &handle, offset, data, length, &code, err) &&
         (code == HF_SFTP_OK || fail_code(sftp, code, "read", name, err));
    struct hf_error ignored;
    return close_object(sftp, &handle, ok ? err : &ignored) && ok;
}

static bool
sftp_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct hf_sftp_attributes attributes;
    if (!enter(sftp, err) || !stat_object(sftp, name, ret_found, &attributes, err))
        return false;
    *ret_size = *ret_found ? attributes.size : 0;
    return true;
}

static bool
sftp_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context, struct hf_error *err)
{
    // The whole list first, so that the visitor may call us.
    _cleanup_(hf_sftp_listing_done) struct hf_sftp_listing listing = {0};
    {
        _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
        if (!enter(sftp, err) || !hf_sftp_list(sftp->client, sftp->where.path, prefix, false, &listing, err))
            return hf_fail_within(err, "could not list \"%s\"", backend->place);
    }
    for (size_t i = 0; i < listing.count; i++)
        if (!visit(context, &listing.objects[i], err))
            return false;
    return true;
}

static bool
sftp_remove(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    char path[PATH_BYTES], lock[HF_OBJECT_NAME_BYTES + 8];
    enum hf_sftp_code code;
    if (!enter(sftp, err))
        return false;
    if (sftp->has_locks) {
        bool locked;
        struct hf_sftp_attributes attributes;
        snprintf(lock, sizeof lock, "locks/%s", name);
        if (!stat_object(sftp, lock, &locked, &attributes, err))
            return false;
        if (locked)
            return hf_fail(err, HF_ERR_DENIED, "\"%s\" has a lock in \"%s\"", name, backend->place);
    }
    path_of(sftp, name, path);
    if (!hf_sftp_remove(sftp->client, path, &code, err))
        return false;
    if (code != HF_SFTP_OK && code != HF_SFTP_NO_SUCH_FILE)
        return fail_code(sftp, code, "delete", name, err);
    return code == HF_SFTP_NO_SUCH_FILE || sync_above(sftp, name, err);
}

static bool
sftp_retain_until(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err)
{
    (void)until;
    return hf_fail(err, HF_ERR_USAGE, "\"%s\" cannot be locked: \"%s\" is reached by SFTP, which keeps no locks", name,
                   backend->place);
}

/* Of a local repository that is reached this way; until when is not ours to read. */
static bool
sftp_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    char lock[HF_OBJECT_NAME_BYTES + 8];
    struct hf_sftp_attributes attributes;
    bool locked;
    snprintf(lock, sizeof lock, "locks/%s", name);
    if (!enter(sftp, err) || !stat_object(sftp, lock, &locked, &attributes, err))
        return false;
    *ret_until = locked ? HF_RETAINED_LONG : HF_RETAINED_NEVER;
    return true;
}

static bool
sftp_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err)
{
    _cleanup_(hf_sftp_listing_done) struct hf_sftp_listing listing = {0};
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    struct sweeping sweeping = {.sftp = sftp};
    if (!enter(sftp, err) || !hf_sftp_list(sftp->client, sftp->where.path, "", true, &listing, err))
        return hf_fail_within(err, "could not sweep \"%s\"", backend->place);
    for (size_t i = 0; i < listing.count; i++)
        if (!sweep_one(&sweeping, &listing.objects[i], err))
            return false;
    *ret_objects = sweeping.objects;
    *ret_bytes = sweeping.bytes;
    return true;
}

static bool
sftp_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err)
{
    _cleanup_(leave) struct sftp *sftp = sftp_of(backend);
    enum hf_sftp_code code = HF_SFTP_OK;
    uint64_t left = UINT64_MAX;
    if (!enter(sftp, err))
        return false;
    if ((hf_sftp_extensions(sftp->client) & HF_SFTP_STATVFS) &&
        !hf_sftp_statvfs(sftp->client, sftp->where.path, &left, &code, err))
        return false;
    *ret_bytes = code == HF_SFTP_OK ? left : UINT64_MAX;
    return true;
}

static struct sftp *
sftp_of(const struct hf_backend *backend)
{
    assert(backend->kind == &sftp_kind);
    struct sftp *sftp = (struct sftp *)(uintptr_t)backend;
    return sftp;
}

static void
sftp_freep(struct sftp **sftp)
{
    if (*sftp == NULL)
        return;
    hf_sftp_freep(&(*sftp)->client);
    hf_sftp_folders_done(&(*sftp)->folders);
    pthread_mutex_destroy(&(*sftp)->lock);
    free((*sftp)->base.place);
    free(*sftp);
    *sftp = NULL;
}

static bool
connect_again(struct sftp *sftp, struct hf_error *err)
{
    hf_sftp_freep(&sftp->client);
    sftp->connections++;
    return hf_sftp_connect(&sftp->where, sftp->base.place, &sftp->client, err);
}

static bool
look_at_root(struct sftp *sftp, bool make, struct hf_error *err)
{
    struct hf_sftp_attributes attributes;
    enum hf_sftp_code code;
    const char *path = sftp->where.path;
    if (!hf_sftp_stat(sftp->client, path, &attributes, &code, err))
        return false;
    if (code == HF_SFTP_NO_SUCH_FILE && make) {
        if (!hf_sftp_mkdir(sftp->client, path, &code, err))
            return false;
        if (code != HF_SFTP_OK) {
            fail_code(sftp, code, "make", path, err);
            return hf_fail_hint(err, "Only the last folder of the path is made: the one above it must be there.");
        }
        if (!hf_sftp_stat(sftp->client, path, &attributes, &code, err))
            return false;
    }
    if (code != HF_SFTP_OK)
        return fail_code(sftp, code, "open", path, err);
    if (!S_ISDIR(attributes.mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is no folder", sftp->base.place);

    bool found;
    return sync_folder(sftp, "", &sftp->syncs_folders, err) && stat_object(sftp, "locks", &found, &attributes, err) &&
           (sftp->has_locks = found, true);
}

/* Leaves with leave(), also after a failure. */
static bool
enter(struct sftp *sftp, struct hf_error *err)
{
    pthread_mutex_lock(&sftp->lock);
    return !hf_sftp_broken(sftp->client) || connect_again(sftp, err);
}

static void
leave(struct sftp **sftp)
{
    pthread_mutex_unlock(&(*sftp)->lock);
}

static bool
fail_code(struct sftp *sftp, enum hf_sftp_code code, const char *doing, const char *name, struct hf_error *err)
{
    const char *place = sftp->base.place;
    uint64_t left = UINT64_MAX;
    enum hf_sftp_code asked = HF_SFTP_FAILURE;
    switch (code) {
    case HF_SFTP_NO_SUCH_FILE:
        return hf_fail(err, HF_ERR_NOT_FOUND, "could not %s \"%s\": there is none in \"%s\"", doing, name, place);
    case HF_SFTP_PERMISSION_DENIED:
        hf_fail(err, HF_ERR_DENIED, "could not %s \"%s\" in \"%s\": permission denied", doing, name, place);
        return hf_fail_hint(err, "The folder must belong to the user that we log in as.");
    case HF_SFTP_END_OF_FILE:
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in \"%s\" ended while it was read", name, place);
    case HF_SFTP_UNSUPPORTED:
        return hf_fail(err, HF_ERR_USAGE, "could not %s \"%s\": the SFTP server of \"%s\" cannot do that", doing, name,
                       place);
    case HF_SFTP_OK:
    case HF_SFTP_FAILURE:
        break;
    }
    // The protocol has no word for a full disk: the disk has to be asked.
    struct hf_error ignored;
    if ((hf_sftp_extensions(sftp->client) & HF_SFTP_STATVFS) &&
        (!hf_sftp_statvfs(sftp->client, sftp->where.path, &left, &asked, &ignored) || asked != HF_SFTP_OK))
        left = UINT64_MAX;
    if (left < HF_MIB) {
        hf_fail(err, HF_ERR_NO_SPACE, "could not %s \"%s\": the disk of \"%s\" is full", doing, name, place);
        return hf_fail_hint(err, "Make room there. What was finished is kept; the next run goes on from there.");
    }
    hf_fail(err, HF_ERR_UNAVAILABLE, "could not %s \"%s\": the SFTP server of \"%s\" says no more than failure", doing,
            name, place);
    return hf_fail_hint(err,
                        "Look there for a quota of the user, a limit on the size of files, or errors of the disk.");
}

static void
path_of(const struct sftp *sftp, const char *name, char path[static PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s%s%s", sftp->where.path, name[0] == '\0' ? "" : "/", name);
}

/* The folders that a name lies in, from the top; those seen before are not asked for again. */
static bool
make_above(struct sftp *sftp, const char *name, struct hf_error *err)
{
    for (const char *slash = strchr(name, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        char folder[HF_OBJECT_NAME_BYTES], path[PATH_BYTES];
        enum hf_sftp_code code;
        struct hf_sftp_attributes attributes;
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - name), name);
        if (hf_sftp_folders_known(&sftp->folders, folder))
            continue;
        path_of(sftp, folder, path);
        if (!hf_sftp_mkdir(sftp->client, path, &code, err))
            return false;
        if (code != HF_SFTP_OK) {
            enum hf_sftp_code there;
            if (!hf_sftp_stat(sftp->client, path, &attributes, &there, err))
                return false;
            if (there != HF_SFTP_OK)
                return fail_code(sftp, code, "make folder", folder, err);
            if (!S_ISDIR(attributes.mode))
                return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in \"%s\" is no folder", folder, sftp->base.place);
        }
        // It may be new, or made by one who died before it was synced: the folder above is synced either way.
        if (!hf_sftp_folders_add(&sftp->folders, folder, err) || !hf_sftp_folders_mark(&sftp->folders, folder, err))
            return false;
    }
    return true;
}

static bool
begin_staged(struct sftp *sftp, const char *name, struct sftp_upload *upload, struct hf_error *err)
{
    char staged[HF_OBJECT_NAME_BYTES + 64], own[HF_ID_TEXT_BYTES], fresh[HF_ID_TEXT_BYTES];
    const struct hf_id id = hf_id_new();
    const bool in_vault = strncmp(name, "vaults/", 7) == 0 && strlen(name) > 7 + 2 * HF_ID_BYTES;
    enum hf_sftp_code code;
    snprintf(staged, sizeof staged, "%.*sstaging/%s-%s", in_vault ? 7 + 2 * HF_ID_BYTES + 1 : 0, name,
             hf_id_format(&sftp->self, own), hf_id_format(&id, fresh));
    if (!make_above(sftp, staged, err))
        return false;
    path_of(sftp, staged, upload->staged);
    upload->connection = sftp->connections;
    if (!hf_sftp_open(sftp->client, upload->staged, HF_SFTP_CREATE, &upload->handle, &code, err))
        return false;
    if (code != HF_SFTP_OK)
        upload->staged[0] = '\0';
    return code == HF_SFTP_OK || fail_code(sftp, code, "begin", name, err);
}

static bool
write_staged(struct sftp *sftp, struct sftp_upload *upload, const void *data, size_t length, struct hf_error *err)
{
    enum hf_sftp_code code;
    if (upload->connection != sftp->connections)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not go on writing \"%s\": the connection to \"%s\" broke",
                       upload->base.name, sftp->base.place);
    if (!hf_sftp_write(sftp->client, &upload->handle, upload->written, data, length, &code, err))
        return false;
    upload->written += length;
    return code == HF_SFTP_OK || fail_code(sftp, code, "write", upload->base.name, err);
}

/* Its bytes are on the disk there, and nothing can be written to it any more. */
static bool
seal_staged(struct sftp *sftp, struct sftp_upload *upload, struct hf_error *err)
{
    enum hf_sftp_code synced, closed;
    if (upload->connection != sftp->connections)
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not finish \"%s\": the connection to \"%s\" broke",
                       upload->base.name, sftp->base.place);
    if (!hf_sftp_sync(sftp->client, &upload->handle, &synced, err) ||
        !hf_sftp_close(sftp->client, &upload->handle, &closed, err))
        return false;
    upload->handle.length = 0;
    if (synced != HF_SFTP_OK)
        return fail_code(sftp, synced, "sync", upload->base.name, err);
    return closed == HF_SFTP_OK || fail_code(sftp, closed, "close", upload->base.name, err);
}

static bool
link_staged(struct sftp *sftp, struct sftp_upload *upload, struct hf_error *err)
{
    char path[PATH_BYTES];
    enum hf_sftp_code code;
    bool exists;
    struct hf_sftp_attributes attributes;
    path_of(sftp, upload->base.name, path);
    if (!hf_sftp_move(sftp->client, HF_SFTP_HARDLINK, upload->staged, path, &code, err))
        return false;
    if (code == HF_SFTP_OK)
        return true;
    // "Failure" stands for everything: whether the name is taken has to be looked at.
    if (!stat_object(sftp, upload->base.name, &exists, &attributes, err))
        return false;
    if (exists)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" exists already in repository \"%s\"", upload->base.name,
                       sftp->base.place);
    return fail_code(sftp, code, "move to its place", upload->base.name, err);
}

/* What is left of it goes; if the connection is gone, with the next sweep. */
static void
drop_staged(struct sftp *sftp, struct sftp_upload *upload)
{
    enum hf_sftp_code code;
    struct hf_error ignored;
    if (upload->staged[0] == '\0' || hf_sftp_broken(sftp->client))
        return;
    if (upload->handle.length > 0 && upload->connection == sftp->connections)
        (void)!hf_sftp_close(sftp->client, &upload->handle, &code, &ignored);
    (void)!hf_sftp_remove(sftp->client, upload->staged, &code, &ignored);
    upload->staged[0] = '\0';
}

/* The folder that a name lies in, and all others that are still to be synced. */
static bool
sync_above(struct sftp *sftp, const char *name, struct hf_error *err)
{
    return hf_sftp_folders_mark(&sftp->folders, name, err) && sync_marked(sftp, err);
}

static bool
sync_marked(struct sftp *sftp, struct hf_error *err)
{
    const char *folder;
    if (sftp->folders.lost)
        return hf_fail(err, HF_ERR_UNAVAILABLE,
                       "an earlier sync of \"%s\" failed: what was named before it may not last", sftp->base.place);
    while (hf_sftp_folders_take(&sftp->folders, &folder)) {
        bool synced = true;
        sftp->folders.lost = true; // unless this succeeds
        if (sftp->syncs_folders && !sync_folder(sftp, folder, &synced, err))
            return false;
        if (!synced)
            return hf_fail(err, HF_ERR_UNAVAILABLE, "could not sync folder \"%s\" of \"%s\"", folder, sftp->base.place);
        sftp->folders.lost = false;
    }
    return true;
}

/*
 * The server of OpenSSH opens a folder for reading like a file, and then syncs it.  *ret_can false: this one does not.
 */
static bool
sync_folder(struct sftp *sftp, const char *folder, bool *ret_can, struct hf_error *err)
{
    char path[PATH_BYTES];
    struct hf_sftp_handle handle;
    enum hf_sftp_code code, closed;
    path_of(sftp, folder, path);
    *ret_can = false;
    if (!hf_sftp_open(sftp->client, path, HF_SFTP_READ_ONLY, &handle, &code, err))
        return false;
    if (code != HF_SFTP_OK)
        return true;
    if (!hf_sftp_sync(sftp->client, &handle, &code, err) || !hf_sftp_close(sftp->client, &handle, &closed, err))
        return false;
    *ret_can = code == HF_SFTP_OK;
    return true;
}

/* Regular files only: looked at before they are opened, as a FIFO would make the server wait. */
static bool
open_object(struct sftp *sftp, const char *name, struct hf_sftp_handle *ret, uint64_t *ret_size, struct hf_error *err)
{
    char path[PATH_BYTES];
    enum hf_sftp_code code;
    bool found;
    struct hf_sftp_attributes attributes;
    if (!stat_object(sftp, name, &found, &attributes, err))
        return false;
    if (!found)
        return hf_fail(err, HF_ERR_NOT_FOUND, "there is no \"%s\" in repository \"%s\"", name, sftp->base.place);
    if (!S_ISREG(attributes.mode))
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" in repository \"%s\" is not a regular file", name,
                       sftp->base.place);
    path_of(sftp, name, path);
    *ret_size = attributes.size;
    return hf_sftp_open(sftp->client, path, HF_SFTP_READ_ONLY, ret, &code, err) &&
           (code == HF_SFTP_OK || fail_code(sftp, code, "open", name, err));
}

static bool
stat_object(struct sftp *sftp, const char *name, bool *ret_found, struct hf_sftp_attributes *ret, struct hf_error *err)
{
    char path[PATH_BYTES];
    enum hf_sftp_code code;
    path_of(sftp, name, path);
    if (!hf_sftp_stat(sftp->client, path, ret, &code, err))
        return false;
    *ret_found = code == HF_SFTP_OK;
    return *ret_found || code == HF_SFTP_NO_SUCH_FILE || fail_code(sftp, code, "look at", name, err);
}

static bool
close_object(struct sftp *sftp, const struct hf_sftp_handle *handle, struct hf_error *err)
{
    enum hf_sftp_code code;
    return hf_sftp_broken(sftp->client) || hf_sftp_close(sftp->client, handle, &code, err);
}

static bool
sweep_one(void *context, const struct hf_object_info *object, struct hf_error *err)
{
    struct sweeping *sweeping = context;
    char path[PATH_BYTES], own[HF_ID_TEXT_BYTES];
    enum hf_sftp_code code;
    const char *slash = strrchr(object->name, '/');
    if (slash == NULL || strncmp(slash + 1, hf_id_format(&sweeping->sftp->self, own), 2 * HF_ID_BYTES) == 0)
        return true;
    path_of(sweeping->sftp, object->name, path);
    if (!hf_sftp_remove(sweeping->sftp->client, path, &code, err))
        return false;
    if (code == HF_SFTP_OK) {
        sweeping->objects++;
        sweeping->bytes += object->size;
    }
    return code == HF_SFTP_OK || code == HF_SFTP_NO_SUCH_FILE ||
           fail_code(sweeping->sftp, code, "delete", object->name, err);
}
