#include "server/job/send_copy.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define LAST_FILE    "global/pg_control"
#define ENTRIES_MOST (8 * 1000 * 1000) // of one folder
#define PIECE_BYTES  (1 * HF_MIB)
#define PATH_BYTES   4096

struct sending {
    struct hf_sftp *client;           // borrowed
    const struct hf_ssh_place *place; // borrowed
    const char *folder;               // borrowed
    const struct hf_send_options *options;
    struct hf_send_outcome outcome;
    uint8_t *piece;
    size_t count, room; // folders still to be sent, relative
    char **folders;
};

static bool make_target(struct hf_sftp *client, const struct hf_ssh_place *place, struct hf_error *err);
static bool refuse_any(void *context, const struct hf_sftp_name *name, struct hf_error *err);
static bool send_next_folder(struct sending *sending, struct hf_error *err);
static bool send_entry(struct sending *sending, const char *path, struct hf_error *err);
static bool make_folder(struct sending *sending, const char *path, struct hf_error *err);
static bool send_file(struct sending *sending, const char *path, struct hf_error *err);
static bool send_bytes(struct sending *sending, int fd, const struct hf_sftp_handle *handle, const char *path,
                       uint64_t size, struct hf_error *err);
static bool push(struct sending *sending, const char *path, struct hf_error *err);
static bool name_there(const struct sending *sending, const char *path, char there[static PATH_BYTES],
                       struct hf_error *err);
static bool refused(const char *doing, const char *path, enum hf_sftp_code code, struct hf_error *err);

bool
hf_send_begin(const char *place, uint64_t bytes, struct hf_sftp **ret, struct hf_ssh_place *ret_place,
              struct hf_error *err)
{
    _cleanup_(hf_sftp_freep) struct hf_sftp *client = NULL;
    enum hf_sftp_code code;
    uint64_t left;
    if (!hf_ssh_place_parse(place, ret_place, err) || !hf_sftp_connect(ret_place, place, &client, err) ||
        !make_target(client, ret_place, err))
        return false;
    if ((hf_sftp_extensions(client) & HF_SFTP_STATVFS) != 0) {
        if (!hf_sftp_statvfs(client, ret_place->path, &left, &code, err))
            return false;
        if (code == HF_SFTP_OK && left < bytes)
            return hf_fail(err, HF_ERR_NO_SPACE, "\"%s\" has %llu MiB free, the copy needs %llu", place,
                           (unsigned long long)(left / HF_MIB), (unsigned long long)(bytes / HF_MIB + 1));
    }
    *ret = HF_TAKE(client);
    return true;
}

bool
hf_send_folder(struct hf_sftp *client, const struct hf_ssh_place *place, const char *folder,
               const struct hf_send_options *options, struct hf_send_outcome *ret, struct hf_error *err)
{
    struct sending sending = {.client = client, .place = place, .folder = folder, .options = options};
    _cleanup_(hf_freep) char *last = hf_path_join(folder, LAST_FILE);
    sending.outcome.synced = (hf_sftp_extensions(client) & HF_SFTP_FSYNC) != 0;
    sending.piece = malloc(PIECE_BYTES);
    bool ok = (sending.piece != NULL && last != NULL) || hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for sending");
    ok = ok && push(&sending, "", err);
    while (ok && sending.count > 0)
        ok = send_next_folder(&sending, err);
    ok = ok && (access(last, F_OK) != 0 || send_file(&sending, LAST_FILE, err));
    for (size_t i = 0; i < sending.count; i++)
        free(sending.folders[i]);
    free(sending.folders);
    free(sending.piece);
    if (ok)
        *ret = sending.outcome;
    return ok;
}

static bool
make_target(struct hf_sftp *client, const struct hf_ssh_place *place, struct hf_error *err)
{
    struct hf_sftp_attributes there;
    struct hf_sftp_handle handle;
    enum hf_sftp_code code, closed;
    if (!hf_sftp_stat(client, place->path, &there, &code, err))
        return false;
    if (code == HF_SFTP_NO_SUCH_FILE)
        return hf_sftp_mkdir(client, place->path, &code, err) &&
               (code == HF_SFTP_OK || refused("make the folder", place->path, code, err));
    if (code != HF_SFTP_OK)
        return refused("look at", place->path, code, err);
    if (!hf_sftp_open_folder(client, place->path, &handle, &code, err))
        return false;
    if (code != HF_SFTP_OK)
        return hf_fail(err, HF_ERR_CONFLICT, "\"%s\" there is no folder that could be looked through", place->path);
    return hf_sftp_read_folder(client, &handle, refuse_any, (void *)(uintptr_t)place, &code, err) &&
           (code == HF_SFTP_OK || refused("look through", place->path, code, err)) &&
           hf_sftp_close(client, &handle, &closed, err);
}

static bool
refuse_any(void *context, const struct hf_sftp_name *name, struct hf_error *err)
{
    (void)name;
    const struct hf_ssh_place *place = context;
    hf_fail(err, HF_ERR_CONFLICT, "folder \"%s\" on \"%s\" is not empty", place->path, place->host);
    return hf_fail_hint(err, "Choose an empty folder, or one that does not exist yet.");
}

static bool
send_next_folder(struct sending *sending, struct hf_error *err)
{
    _cleanup_(hf_freep) char *folder = sending->folders[--sending->count];
    _cleanup_(hf_freep) char *full = hf_path_join(sending->folder, folder[0] != '\0' ? folder : ".");
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (full == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!hf_dir_list(full, ENTRIES_MOST, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        char path[PATH_BYTES];
        const int length = snprintf(path, sizeof path, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", names[i]);
        if (length < 0 || (size_t)length >= sizeof path)
            return hf_fail(err, HF_ERR_USAGE, "a path in the copy is longer than %d bytes", PATH_BYTES - 1);
        if (strcmp(path, LAST_FILE) != 0 && !send_entry(sending, path, err))
            return false;
    }
    return true;
}

static bool
send_entry(struct sending *sending, const char *path, struct hf_error *err)
{
    struct stat status;
    _cleanup_(hf_freep) char *full = hf_path_join(sending->folder, path);
    if (full == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (lstat(full, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not look at \"%s\"", path);
    return S_ISDIR(status.st_mode) ? make_folder(sending, path, err) && push(sending, path, err)
                                   : send_file(sending, path, err);
}

static bool
make_folder(struct sending *sending, const char *path, struct hf_error *err)
{
    char there[PATH_BYTES];
    enum hf_sftp_code code;
    return name_there(sending, path, there, err) && hf_sftp_mkdir(sending->client, there, &code, err) &&
           (code == HF_SFTP_OK || refused("make the folder", there, code, err));
}

static bool
send_file(struct sending *sending, const char *path, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = -1;
    _cleanup_(hf_freep) char *full = hf_path_join(sending->folder, path);
    struct stat status;
    struct hf_sftp_handle handle;
    struct hf_sftp_attributes stored;
    enum hf_sftp_code code;
    char there[PATH_BYTES];
    if (full == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    if (!name_there(sending, path, there, err) || !hf_file_open(full, &fd, &status, err) ||
        !hf_sftp_open(sending->client, there, HF_SFTP_CREATE, &handle, &code, err))
        return false;
    if (code != HF_SFTP_OK)
        return refused("make", there, code, err);
    if (!send_bytes(sending, fd, &handle, there, (uint64_t)status.st_size, err))
        return false;
    if (sending->outcome.synced && (!hf_sftp_sync(sending->client, &handle, &code, err) ||
                                    (code != HF_SFTP_OK && !refused("sync", there, code, err))))
        return false;
    if (!hf_sftp_close(sending->client, &handle, &code, err) ||
        (code != HF_SFTP_OK && !refused("close", there, code, err)) ||
        !hf_sftp_stat(sending->client, there, &stored, &code, err))
        return false;
    if (code != HF_SFTP_OK || stored.size != (uint64_t)status.st_size)
        return hf_fail(err, HF_ERR_CORRUPT, "\"%s\" has not the length there that was sent", there);
    sending->outcome.files++;
    return true;
}

static bool
send_bytes(struct sending *sending, int fd, const struct hf_sftp_handle *handle, const char *path, uint64_t size,
           struct hf_error *err)
{
    const struct hf_send_options *options = sending->options;
    enum hf_sftp_code code = HF_SFTP_OK;
    for (uint64_t at = 0; at < size; at += PIECE_BYTES) {
        const size_t part = size - at < PIECE_BYTES ? (size_t)(size - at) : PIECE_BYTES;
        if (options->cancel != NULL && atomic_load(options->cancel))
            return hf_fail(err, HF_ERR_CANCELLED, "the restore was cancelled");
        if (!hf_pread_all(fd, sending->piece, part, at, path, err) ||
            !hf_sftp_write(sending->client, handle, at, sending->piece, part, &code, err))
            return false;
        if (code != HF_SFTP_OK)
            return refused("write", path, code, err);
        sending->outcome.bytes += part;
        if (options->done != NULL)
            atomic_fetch_add(options->done, part);
    }
    return true;
}

static bool
push(struct sending *sending, const char *path, struct hf_error *err)
{
    if (sending->count == sending->room) {
        const size_t room = sending->room > 0 ? 2 * sending->room : 64;
        char **grown = reallocarray(sending->folders, room, sizeof *grown);
        if (grown == NULL)
            return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of folders");
        sending->folders = grown;
        sending->room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the list of folders");
    sending->folders[sending->count++] = copy;
    return true;
}

static bool
name_there(const struct sending *sending, const char *path, char there[static PATH_BYTES], struct hf_error *err)
{
    const int length = snprintf(there, PATH_BYTES, "%s/%s", sending->place->path, path);
    return (length > 0 && length < HF_SFTP_PATH_MOST) ||
           hf_fail(err, HF_ERR_USAGE, "a path there is longer than %d bytes", HF_SFTP_PATH_MOST - 1);
}

static bool
refused(const char *doing, const char *path, enum hf_sftp_code code, struct hf_error *err)
{
    const enum hf_error_kind kind = code == HF_SFTP_PERMISSION_DENIED ? HF_ERR_DENIED
                                    : code == HF_SFTP_NO_SUCH_FILE    ? HF_ERR_NOT_FOUND
                                                                      : HF_ERR_UNAVAILABLE;
    return hf_fail(err, kind, "could not %s \"%s\" there: %s", doing, path,
                   code == HF_SFTP_PERMISSION_DENIED ? "it is not allowed"
                   : code == HF_SFTP_NO_SUCH_FILE    ? "its parent is missing"
                                                     : "the server says no more than that it failed");
}
