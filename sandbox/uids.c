#include "sandbox/uids.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static bool open_folder(int *ret, struct hf_error *err);
static bool try_claim(int folder, uid_t uid, int *ret_lock, struct hf_error *err);

bool
hf_uid_claim(uid_t *ret_uid, int *ret_lock, struct hf_error *err)
{
    if (geteuid() != 0) {
        *ret_uid = geteuid();
        *ret_lock = -1;
        return true;
    }
    _cleanup_(hf_closep) int folder = -1;
    if (!open_folder(&folder, err))
        return false;
    // From a place of its own, so that those who come together seldom try the same.
    const unsigned start = (unsigned)getpid() % HF_UIDS_COUNT;
    for (unsigned i = 0; i < HF_UIDS_COUNT; i++) {
        const uid_t uid = HF_UIDS_FIRST + (start + i) % HF_UIDS_COUNT;
        int lock = -1;
        if (!try_claim(folder, uid, &lock, err))
            return false;
        if (lock < 0)
            continue;
        *ret_uid = uid;
        *ret_lock = lock;
        return true;
    }
    return hf_fail(err, HF_ERR_NO_SPACE, "all %u uids for sandboxes are in use", HF_UIDS_COUNT);
}

/* Ours alone: whoever could put files there could keep us from every uid. */
static bool
open_folder(int *ret, struct hf_error *err)
{
    struct stat info;
    if (mkdir(HF_UIDS_FOLDER, 0700) != 0 && errno != EEXIST)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\"", HF_UIDS_FOLDER);
    *ret = open(HF_UIDS_FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (*ret < 0 || fstat(*ret, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\"", HF_UIDS_FOLDER);
    if (info.st_uid != 0 || (info.st_mode & 077) != 0)
        return hf_fail(err, HF_ERR_DENIED, "\"%s\" is not root's alone", HF_UIDS_FOLDER);
    return true;
}

/* *ret_lock stays -1 when somebody has it.  The files stay: whoever removed one would free a claim that is held. */
static bool
try_claim(int folder, uid_t uid, int *ret_lock, struct hf_error *err)
{
    char name[16];
    snprintf(name, sizeof name, "%u", uid);
    const int fd = openat(folder, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s/%s\"", HF_UIDS_FOLDER, name);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        *ret_lock = fd;
        return true;
    }
    const bool taken = errno == EWOULDBLOCK;
    if (!taken)
        hf_fail_errno(err, HF_ERR_NONE, "could not lock \"%s/%s\"", HF_UIDS_FOLDER, name);
    close(fd);
    return taken;
}
