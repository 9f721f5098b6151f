#include "server/job/log_place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define UNFINISHED ".holdfast-%d" // by the process that writes it

bool
hf_log_place_open(const char *path, int64_t asker, struct hf_log_place *ret, const char **ret_name,
                  struct hf_error *err)
{
    const char *slash = strrchr(path, '/');
    struct stat status;
    if (path[0] != '/' || slash[1] == '\0' || slash[1] == '.')
        return hf_fail(err, HF_ERR_USAGE, "\"%.200s\" is no absolute path of a file", path);
    _cleanup_(hf_freep) char *folder = slash == path ? strdup("/") : strndup(path, (size_t)(slash - path));
    if (folder == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a path");
    _cleanup_(hf_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%.200s\"", folder);
    if (asker != 0 && asker != (int64_t)status.st_uid)
        return hf_fail(err, HF_ERR_DENIED, "\"%.200s\" does not belong to user %lld", folder, (long long)asker);
    *ret = (struct hf_log_place){HF_TAKE_FD(fd), status.st_uid, status.st_gid, status.st_dev, status.st_ino};
    *ret_name = slash + 1;
    return true;
}

bool
hf_log_place_beside(const struct hf_log_place *place, struct hf_log_place *ret, struct hf_error *err)
{
    struct stat status;
    if (mkdirat(place->folder, HF_LOG_PREFETCH, 0700) == 0 && geteuid() == 0 &&
        fchownat(place->folder, HF_LOG_PREFETCH, place->uid, place->gid, AT_SYMLINK_NOFOLLOW) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give away \"" HF_LOG_PREFETCH "\"");
    _cleanup_(hf_closep) int fd =
        openat(place->folder, HF_LOG_PREFETCH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"" HF_LOG_PREFETCH "\"");
    if (status.st_uid != place->uid)
        return hf_fail(err, HF_ERR_DENIED, "\"" HF_LOG_PREFETCH "\" belongs to somebody else");
    *ret = (struct hf_log_place){HF_TAKE_FD(fd), place->uid, place->gid, status.st_dev, status.st_ino};
    return true;
}

void
hf_log_place_done(struct hf_log_place *place)
{
    hf_closep(&place->folder);
}

bool
hf_log_place_put(const struct hf_log_place *place, struct hf_archive *archive, const struct hf_archive_file *file,
                 uint32_t segment_bytes, const char *name, const struct hf_log_put *how, enum hf_archive_answer *ret,
                 struct hf_error *err)
{
    char unfinished[64];
    snprintf(unfinished, sizeof unfinished, UNFINISHED, (int)getpid());
    (void)unlinkat(place->folder, unfinished, 0);
    _cleanup_(hf_closep) int fd =
        openat(place->folder, unfinished, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make a file for \"%.64s\"", name);
    bool put = hf_archive_file_write(archive, file, segment_bytes, fd, ret, err);
    const bool wanted = put && *ret != HF_ARCHIVE_BEYOND && (!how->whole_only || *ret == HF_ARCHIVE_WHOLE);
    if (wanted &&
        ((geteuid() == 0 && fchown(fd, place->uid, place->gid) != 0) || (how->durable && fdatasync(fd) != 0) ||
         renameat(place->folder, unfinished, place->folder, name) != 0))
        put = hf_fail_errno(err, HF_ERR_NONE, "could not write \"%.64s\"", name);
    if (!put || !wanted)
        (void)unlinkat(place->folder, unfinished, 0);
    return put;
}
