#include "sandbox/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/file.h"
#include "base/id.h"
#include "base/time.h"

#define NAME_PREFIX    "holdfast-scratch-"
#define LOCK_SUFFIX    ".lock"
#define NAME_BYTES     64
#define MEMORY_FOLDER  "/dev/shm"
#define DISK_HEADROOM  (64 * HF_MIB)  // left free for everyone else
#define LEAST_HEADROOM (256 * HF_MIB) // of memory; or an eighth of all, when that is more
#define MOST_NAMES     100000
#define MOST_DEVICES   32 // below one file system: volumes on volumes
#define CREATE_TRIES   8  // a sweeper may take a lock file for a dead one's before we hold it

struct hf_scratch {
    char path[PATH_MAX];
    char lock_path[PATH_MAX];
    int lock;
    const char *protection;
    bool mounted; // a tmpfs of our own
};

static bool mounts_are_ours;

static bool choose_memory(uint64_t bytes);
static bool read_memory(uint64_t *ret_available, uint64_t *ret_total, uint64_t *ret_swap);
static bool fits_into_shm(uint64_t bytes);
static bool check_disk(const char *folder, uint64_t bytes, struct hf_error *err);
static bool make(struct hf_scratch *scratch, const char *folder, struct hf_error *err);
static bool take_lock(const char *path, int flags, int *ret_fd, struct hf_error *err);
static bool mount_memory(struct hf_scratch *scratch, uint64_t bytes, struct hf_error *err);
static const char *disk_protection(const char *folder);
static bool device_is_encrypted(const char *device);
static bool sweep_folder(const char *folder, size_t *removed, struct hf_error *err);
static bool sweep_one(const char *folder, const char *lock_name, bool *ret_removed, struct hf_error *err);

bool
hf_scratch_keep_mounts(struct hf_error *err)
{
    if (mounts_are_ours)
        return true;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep mounts to ourselves");
    mounts_are_ours = true;
    return true;
}

bool
hf_scratch_open(const struct hf_scratch_options *options, struct hf_scratch **ret, struct hf_error *err)
{
    _cleanup_(hf_scratch_freep) struct hf_scratch *scratch = calloc(1, sizeof *scratch);
    if (scratch == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a scratch folder");
    scratch->lock = -1;

    bool memory = options->prefer_memory && choose_memory(options->bytes);
    if (memory && mounts_are_ours) {
        if (!make(scratch, options->folder, err) || !mount_memory(scratch, options->bytes, err))
            return false;
    } else if (memory) {
        if (!make(scratch, MEMORY_FOLDER, err))
            return false;
        scratch->protection = "memory";
    } else {
        if (!check_disk(options->folder, options->bytes, err) || !make(scratch, options->folder, err))
            return false;
        scratch->protection = disk_protection(options->folder);
    }
    *ret = HF_TAKE(scratch);
    return true;
}

void
hf_scratch_freep(struct hf_scratch **scratch)
{
    struct hf_scratch *gone = *scratch;
    if (gone == NULL)
        return;
    if (gone->mounted)
        (void)umount2(gone->path, MNT_DETACH);
    if (gone->path[0] != '\0')
        (void)!hf_dir_remove_tree(gone->path, NULL); // what cannot be removed now is swept later
    if (gone->lock >= 0) {
        (void)unlink(gone->lock_path);
        close(gone->lock);
    }
    free(gone);
    *scratch = NULL;
}

const char *
hf_scratch_path(const struct hf_scratch *scratch)
{
    return scratch->path;
}

const char *
hf_scratch_protection(const struct hf_scratch *scratch)
{
    return scratch->protection;
}

bool
hf_scratch_is_capped(const struct hf_scratch *scratch)
{
    return scratch->mounted;
}

bool
hf_scratch_sweep(const char *folder, size_t *ret_removed, struct hf_error *err)
{
    size_t removed = 0;
    if (!sweep_folder(folder, &removed, err))
        return false;
    if (access(MEMORY_FOLDER, W_OK) == 0 && !sweep_folder(MEMORY_FOLDER, &removed, err))
        return false;
    *ret_removed = removed;
    return true;
}

/* Swap would put on a disk what was promised to stay in memory; a mount of our own can forbid that (Linux 6.4). */
static bool
choose_memory(uint64_t bytes)
{
    uint64_t available, total, swap;
    if (!read_memory(&available, &total, &swap))
        return false;
    uint64_t headroom = total / 8 > LEAST_HEADROOM ? total / 8 : LEAST_HEADROOM;
    if (bytes > available || available - bytes < headroom || (swap != 0 && !mounts_are_ours))
        return false;
    return mounts_are_ours || fits_into_shm(bytes);
}

static bool
read_memory(uint64_t *ret_available, uint64_t *ret_total, uint64_t *ret_swap)
{
    FILE *file = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned found = 0;
    unsigned long long kib;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1) {
            *ret_available = kib * HF_KIB;
            found |= 1;
        } else if (sscanf(line, "MemTotal: %llu kB", &kib) == 1) {
            *ret_total = kib * HF_KIB;
            found |= 2;
        } else if (sscanf(line, "SwapTotal: %llu kB", &kib) == 1) {
            *ret_swap = kib * HF_KIB;
            found |= 4;
        }
    }
    if (file != NULL)
        fclose(file);
    return found == 7;
}

static bool
fits_into_shm(uint64_t bytes)
{
    struct statfs info;
    uint64_t free_bytes;
    return statfs(MEMORY_FOLDER, &info) == 0 && info.f_type == TMPFS_MAGIC && access(MEMORY_FOLDER, W_OK) == 0 &&
           hf_disk_free(MEMORY_FOLDER, &free_bytes, NULL) && free_bytes > bytes;
}

static bool
check_disk(const char *folder, uint64_t bytes, struct hf_error *err)
{
    char needed[HF_TIME_TEXT_BYTES], left[HF_TIME_TEXT_BYTES];
    uint64_t free_bytes;
    if (!hf_disk_free(folder, &free_bytes, err))
        return false;
    if (free_bytes >= DISK_HEADROOM && free_bytes - DISK_HEADROOM >= bytes)
        return true;
    hf_fail(err, HF_ERR_NO_SPACE, "no room for a copy in \"%s\": %s are free, %s are needed", folder,
            hf_bytes_format(free_bytes, left), hf_bytes_format(bytes + DISK_HEADROOM, needed));
    return hf_fail_hint(err, "Make room there, or choose another scratch folder.");
}

static bool
make(struct hf_scratch *scratch, const char *folder, struct hf_error *err)
{
    for (int i = 0; i < CREATE_TRIES; i++) {
        struct hf_id id = hf_id_new();
        char text[HF_ID_TEXT_BYTES], path[PATH_MAX];
        if ((size_t)snprintf(path, sizeof path, "%s/" NAME_PREFIX "%s", folder, hf_id_format(&id, text)) >=
            sizeof path - sizeof LOCK_SUFFIX)
            return hf_fail(err, HF_ERR_USAGE, "\"%s\" is too long a name for a scratch folder", folder);
        snprintf(scratch->lock_path, sizeof scratch->lock_path, "%.*s" LOCK_SUFFIX,
                 (int)(PATH_MAX - sizeof LOCK_SUFFIX), path);
        if (!take_lock(scratch->lock_path, O_CREAT | O_EXCL, &scratch->lock, err))
            return false;
        if (scratch->lock < 0)
            continue; // swept away between the two calls
        if (mkdir(path, 0700) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not make the scratch folder \"%s\"", path);
        memcpy(scratch->path, path, sizeof path);
        return true;
    }
    return hf_fail(err, HF_ERR_CONFLICT, "someone keeps removing new scratch folders in \"%s\"", folder);
}

/* -1 in *ret_fd when someone else holds it, or has removed it meanwhile. */
static bool
take_lock(const char *path, int flags, int *ret_fd, struct hf_error *err)
{
    struct stat opened, named;
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC | flags, 0600);
    *ret_fd = -1;
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the lock \"%s\"", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return errno == EWOULDBLOCK || hf_fail_errno(err, HF_ERR_NONE, "could not take the lock \"%s\"", path);
    if (fstat(fd, &opened) == 0 && lstat(path, &named) == 0 && opened.st_ino == named.st_ino &&
        opened.st_dev == named.st_dev)
        *ret_fd = HF_TAKE_FD(fd);
    return true;
}

static bool
mount_memory(struct hf_scratch *scratch, uint64_t bytes, struct hf_error *err)
{
    char options[96];
    uint64_t available, total, swap;
    snprintf(options, sizeof options, "size=%llu,mode=0700,noswap", (unsigned long long)bytes);
    scratch->mounted =
        mount("holdfast-scratch", scratch->path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0;
    if (!scratch->mounted && errno == EINVAL && read_memory(&available, &total, &swap) && swap == 0) {
        *strrchr(options, ',') = '\0'; // before Linux 6.4, and there is no swap to forbid
        scratch->mounted =
            mount("holdfast-scratch", scratch->path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0;
    }
    if (!scratch->mounted)
        return hf_fail_errno(err, HF_ERR_NONE, "could not mount a scratch folder in memory");
    scratch->protection = "memory";
    return true;
}

/* "encrypted" only when every disk below the folder is: one plain mirror half tells everything. */
static const char *
disk_protection(const char *folder)
{
    struct stat info;
    char waiting[MOST_DEVICES][64];
    size_t count = 0;
    if (stat(folder, &info) != 0)
        return "plain";
    snprintf(waiting[count++], sizeof waiting[0], "/sys/dev/block/%u:%u", major(info.st_dev), minor(info.st_dev));
    while (count > 0) {
        char device[64], slaves[96];
        memcpy(device, waiting[--count], sizeof device);
        if (device_is_encrypted(device))
            continue;
        snprintf(slaves, sizeof slaves, "%s/slaves", device);
        DIR *dir = opendir(slaves);
        size_t before = count;
        for (const struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
            if (entry->d_name[0] == '.' || strlen(entry->d_name) > 32)
                continue;
            if (count < MOST_DEVICES)
                snprintf(waiting[count++], sizeof waiting[0], "/sys/class/block/%.32s", entry->d_name);
        }
        if (dir != NULL)
            closedir(dir);
        if (count == before || count == MOST_DEVICES)
            return "plain"; // a disk itself, or more layers than we look through
    }
    return "encrypted";
}

static bool
device_is_encrypted(const char *device)
{
    char path[96], uuid[8] = "";
    snprintf(path, sizeof path, "%s/dm/uuid", device);
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd >= 0 && read(fd, uuid, 6) == 6 && memcmp(uuid, "CRYPT-", 6) == 0;
}

static bool
sweep_folder(const char *folder, size_t *removed, struct hf_error *err)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    if (!hf_dir_list(folder, MOST_NAMES, &names, &count, err))
        return false;
    for (size_t i = 0; i < count; i++) {
        size_t length = strlen(names[i]);
        bool gone = false;
        if (strncmp(names[i], NAME_PREFIX, strlen(NAME_PREFIX)) != 0 || length < sizeof LOCK_SUFFIX ||
            length >= NAME_BYTES || strcmp(names[i] + length - strlen(LOCK_SUFFIX), LOCK_SUFFIX) != 0)
            continue;
        if (!sweep_one(folder, names[i], &gone, err))
            return false;
        *removed += gone;
    }
    return true;
}

static bool
sweep_one(const char *folder, const char *lock_name, bool *ret_removed, struct hf_error *err)
{
    _cleanup_(hf_freep) char *lock_path = hf_path_join(folder, lock_name);
    _cleanup_(hf_freep) char *path = lock_path == NULL ? NULL : strdup(lock_path);
    _cleanup_(hf_closep) int lock = -1;
    struct hf_error ignored;
    if (path == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a sweep");
    path[strlen(path) - strlen(LOCK_SUFFIX)] = '\0';
    if (!take_lock(lock_path, 0, &lock, &ignored)) {
        if (ignored.kind == HF_ERR_NOT_FOUND || ignored.kind == HF_ERR_DENIED)
            return true; // its owner was faster, or it is another user's
        if (err != NULL)
            *err = ignored;
        return false;
    }
    if (lock < 0)
        return true; // alive
    (void)umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (!hf_dir_remove_tree(path, err))
        return hf_fail_within(err, "sweeping scratch folders");
    (void)unlink(lock_path);
    *ret_removed = true;
    return true;
}
