#include "server/storage/backend.h"

#include <assert.h>
#include <string.h>

#include "base/file.h"
#include "server/storage/backend_internal.h"
#include "server/storage/backend_sftp.h"

#define FOLDER_MODE 0700

static bool check_name(const char *name, struct hf_error *err);
static bool check_prefix(const char *prefix, struct hf_error *err);
static bool parts_valid(const char *name, size_t length);
static bool fail_earlier(const struct hf_upload *upload, struct hf_error *err);

const char *
hf_durability_name(enum hf_durability durability)
{
    return durability == HF_DURABLE_SYNCED ? "synced" : "contents";
}

bool
hf_place_is_local(const char *place)
{
    return place[0] == '/';
}

bool
hf_backend_open(const char *place, struct hf_backend **ret, struct hf_error *err)
{
    return hf_place_is_local(place) ? hf_backend_open_local(place, ret, err)
                                    : hf_backend_open_sftp(place, false, ret, err);
}

bool
hf_backend_make(const char *place, struct hf_backend **ret, struct hf_error *err)
{
    if (!hf_place_is_local(place))
        return hf_backend_open_sftp(place, true, ret, err);
    return hf_dir_make(place, FOLDER_MODE, err) && hf_backend_open_local(place, ret, err);
}

void
hf_backend_freep(struct hf_backend **backend)
{
    if (*backend != NULL)
        (*backend)->kind->close(*backend);
    *backend = NULL;
}

const char *
hf_backend_place(const struct hf_backend *backend)
{
    return backend->place;
}

enum hf_durability
hf_backend_durability(const struct hf_backend *backend)
{
    return backend->kind->durability(backend);
}

bool
hf_backend_probe(struct hf_backend *backend, struct hf_backend_report *ret, struct hf_error *err)
{
    return backend->kind->probe(backend, ret, err);
}

bool
hf_upload_begin(struct hf_backend *backend, const char *name, uint64_t expected, struct hf_upload **ret,
                struct hf_error *err)
{
    return check_name(name, err) && backend->kind->upload_begin(backend, name, expected, ret, err);
}

bool
hf_upload_append(struct hf_upload *upload, const void *data, size_t length, struct hf_error *err)
{
    if (upload->failed)
        return fail_earlier(upload, err);
    if (upload->backend->kind->upload_append(upload, data, length, err))
        return true;
    upload->failed = true;
    return false;
}

void
hf_upload_push(struct hf_upload *upload)
{
    if (!upload->failed)
        upload->backend->kind->upload_push(upload);
}

bool
hf_upload_finish(struct hf_upload **upload, struct hf_error *err)
{
    assert(*upload != NULL);
    if ((*upload)->failed) {
        fail_earlier(*upload, err);
        hf_upload_abortp(upload);
        return false;
    }
    struct hf_upload *finishing = HF_TAKE(*upload);
    return finishing->backend->kind->upload_finish(finishing, err);
}

void
hf_upload_abortp(struct hf_upload **upload)
{
    if (*upload != NULL)
        (*upload)->backend->kind->upload_abort(*upload);
    *upload = NULL;
}

bool
hf_backend_barrier(struct hf_backend *backend, struct hf_error *err)
{
    return backend->kind->barrier(backend, err);
}

bool
hf_backend_put_exclusive(struct hf_backend *backend, const char *name, const void *data, size_t length,
                         struct hf_error *err)
{
    return check_name(name, err) && backend->kind->put_exclusive(backend, name, data, length, err);
}

bool
hf_backend_replace(struct hf_backend *backend, const char *name, const void *data, size_t length, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->replace(backend, name, data, length, err);
}

bool
hf_backend_get(struct hf_backend *backend, const char *name, struct hf_buf *buf, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->get(backend, name, buf, err);
}

bool
hf_backend_get_range(struct hf_backend *backend, const char *name, uint64_t offset, void *data, size_t length,
                     struct hf_error *err)
{
    return check_name(name, err) && backend->kind->get_range(backend, name, offset, data, length, err);
}

bool
hf_backend_stat(struct hf_backend *backend, const char *name, bool *ret_found, uint64_t *ret_size, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->stat(backend, name, ret_found, ret_size, err);
}

bool
hf_backend_list(struct hf_backend *backend, const char *prefix, hf_object_visitor *visit, void *context,
                struct hf_error *err)
{
    return check_prefix(prefix, err) && backend->kind->list(backend, prefix, visit, context, err);
}

bool
hf_backend_delete(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->remove(backend, name, err);
}

bool
hf_backend_destroy(struct hf_backend *backend, const char *name, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->destroy(backend, name, err);
}

bool
hf_backend_retain_until(struct hf_backend *backend, const char *name, int64_t until, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->retain_until(backend, name, until, err);
}

bool
hf_backend_retained_until(struct hf_backend *backend, const char *name, int64_t *ret_until, struct hf_error *err)
{
    return check_name(name, err) && backend->kind->retained_until(backend, name, ret_until, err);
}

bool
hf_backend_sweep(struct hf_backend *backend, uint64_t *ret_objects, uint64_t *ret_bytes, struct hf_error *err)
{
    return backend->kind->sweep(backend, ret_objects, ret_bytes, err);
}

bool
hf_backend_free_space(struct hf_backend *backend, uint64_t *ret_bytes, struct hf_error *err)
{
    return backend->kind->free_space(backend, ret_bytes, err);
}

bool
hf_object_part_valid(const char *part, size_t length)
{
    if (length == 0 || length >= HF_OBJECT_NAME_BYTES || part[0] == '.')
        return false;
    return strspn(part, "abcdefghijklmnopqrstuvwxyz0123456789.-") >= length;
}

bool
hf_object_name_reserved(const char *name)
{
    return strncmp(name, "locks/", 6) == 0 || strncmp(name, "staging/", 8) == 0 || strncmp(name, "journal/", 8) == 0 ||
           strstr(name, "/staging/") != NULL;
}

static bool
check_name(const char *name, struct hf_error *err)
{
    size_t length = strlen(name);
    if (length >= HF_OBJECT_NAME_BYTES || !parts_valid(name, length))
        return hf_fail(err, HF_ERR_USAGE, "\"%.255s\" cannot be the name of an object", name);
    if (hf_object_name_reserved(name))
        return hf_fail(err, HF_ERR_USAGE, "object name \"%s\" is kept for the storage itself", name);
    return true;
}

static bool
check_prefix(const char *prefix, struct hf_error *err)
{
    // Either folders, as "keys/", or the beginning of a name in them, as "keys/root-".
    size_t length = strlen(prefix);
    size_t parts = length > 0 && prefix[length - 1] == '/' ? length - 1 : length;
    if (length >= HF_OBJECT_NAME_BYTES || (length > 0 && !parts_valid(prefix, parts)))
        return hf_fail(err, HF_ERR_USAGE, "\"%.255s\" cannot be the beginning of an object's name", prefix);
    return true;
}

static bool
parts_valid(const char *name, size_t length)
{
    for (size_t at = 0; at <= length;) {
        const char *slash = memchr(name + at, '/', length - at);
        size_t part = slash == NULL ? length - at : (size_t)(slash - name) - at;
        if (!hf_object_part_valid(name + at, part))
            return false;
        at += part + 1;
    }
    return true;
}

static bool
fail_earlier(const struct hf_upload *upload, struct hf_error *err)
{
    return hf_fail(err, HF_ERR_UNAVAILABLE, "cannot go on writing \"%s\": an earlier write of it failed", upload->name);
}
