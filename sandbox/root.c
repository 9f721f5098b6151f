#include "sandbox/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

/* Always there and always searchable; what lies below it stays visible to everyone but us. */
#define WORKPLACE "/tmp"

/* The root itself holds folders and the empty files that mounts are put on. */
#define ROOT_OPTIONS       "size=4m,nr_inodes=8k,mode=0755"
#define MEMORY_MOST_INODES "64k"

static bool open_sources(struct hf_root *root, struct hf_error *err);
static bool borrow_rights(uid_t uid, gid_t gid, struct hf_error *err);
static bool open_source(struct hf_root *root, size_t at, struct hf_error *err);
static uint64_t attributes_of(enum hf_launch_kind kind);
static bool mount_root(int *ret_fd, struct hf_error *err);
static bool fill(struct hf_root *root, size_t at, int top, uid_t uid, gid_t gid, struct hf_error *err);
static bool make_place(int top, const char *path, bool folder, struct hf_error *err);
static bool attach_detached(int source, int top, const char *to, struct hf_error *err);
static bool attach_by_path(int source, const char *to, enum hf_launch_kind kind, struct hf_error *err);
static bool mount_memory(const struct hf_launch_entry *entry, uid_t uid, gid_t gid, struct hf_error *err);
static bool leave_host(struct hf_error *err);

bool
hf_root_open(const struct hf_launch *launch, struct hf_root *ret, struct hf_error *err)
{
    *ret = (struct hf_root){
        .launch = launch,
        .sources = calloc(launch->entry_count + 1, sizeof *ret->sources),
        .folders = calloc(launch->entry_count + 1, sizeof *ret->folders),
        .detached = (launch->without & HF_WITHOUT_MOUNT_CALLS) == 0,
    };
    if (ret->sources == NULL || ret->folders == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the root of a sandbox");
    for (size_t i = 0; i < launch->entry_count; i++)
        ret->sources[i] = -1;
    if (launch->client_uid == 0)
        return open_sources(ret, err);
    bool fine = borrow_rights(launch->client_uid, launch->client_gid, err) && open_sources(ret, err);
    fine = borrow_rights(0, 0, fine ? err : NULL) && fine;
    if (fine && !ret->detached) // init would open them again, with root's rights
        return hf_fail(err, HF_ERR_UNAVAILABLE, "this kernel cannot bring files into a sandbox for another user");
    return fine;
}

static bool
open_sources(struct hf_root *root, struct hf_error *err)
{
    for (size_t i = 0; i < root->launch->entry_count; i++) {
        if (root->launch->entries[i].from[0] == '\0')
            root->folders[i] = true;
        else if (!open_source(root, i, err))
            return false;
    }
    return true;
}

/* Of the file system alone: mounting still needs root.  The kernel forgets the death signal at each such change. */
static bool
borrow_rights(uid_t uid, gid_t gid, struct hf_error *err)
{
    (void)setfsgid(gid);
    (void)setfsuid(uid);
    if (setfsuid((uid_t)-1) != (int)uid || setfsgid((gid_t)-1) != (int)gid)
        return hf_fail(err, HF_ERR_DENIED, "could not look at files as uid %u", uid);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not set the launcher up");
    return true;
}

bool
hf_root_enter(struct hf_root *root, uid_t uid, gid_t gid, struct hf_error *err)
{
    _cleanup_(hf_closep) int top = -1;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep mounts to ourselves");
    if (!mount_root(&top, err))
        return false;
    for (size_t i = 0; i < root->launch->entry_count; i++) {
        if (!fill(root, i, top, uid, gid, err))
            return false;
    }
    if (mount(NULL, WORKPLACE, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make the sandbox's root read-only");
    return leave_host(err);
}

void
hf_root_done(struct hf_root *root)
{
    for (size_t i = 0; root->sources != NULL && i < root->launch->entry_count; i++)
        hf_closep(&root->sources[i]);
    free(root->sources);
    free(root->folders);
    *root = (struct hf_root){0};
}

static bool
open_source(struct hf_root *root, size_t at, struct hf_error *err)
{
    const struct hf_launch_entry *entry = &root->launch->entries[at];
    struct stat info;
    int fd = -1;
    if (root->detached) {
        // Private: what the host mounts there later must not appear inside.
        struct mount_attr attributes = {.attr_set = attributes_of(entry->kind), .propagation = MS_PRIVATE};
        fd = (int)syscall(SYS_open_tree, AT_FDCWD, entry->from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
        if (fd >= 0 &&
            syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attributes, sizeof attributes) != 0)
            hf_closep(&fd);
        if (fd < 0 && errno == ENOSYS && at == 0)
            root->detached = false; // before Linux 5.12
    }
    if (!root->detached)
        fd = open(entry->from, O_PATH | O_CLOEXEC);
    root->sources[at] = fd;
    if (fd < 0 || fstat(fd, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not bring \"%s\" into the sandbox", entry->from);

    root->folders[at] = S_ISDIR(info.st_mode);
    if (!S_ISDIR(info.st_mode) && !S_ISREG(info.st_mode))
        return hf_fail(err, HF_ERR_DENIED, "\"%s\" is neither a file nor a folder: it cannot enter a sandbox",
                       entry->from);
    if (entry->kind == HF_LAUNCH_WRITE && !S_ISDIR(info.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "\"%s\" is no folder: only folders are writable in a sandbox", entry->from);
    return true;
}

static uint64_t
attributes_of(enum hf_launch_kind kind)
{
    uint64_t both = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if (kind == HF_LAUNCH_RUN)
        return both | MOUNT_ATTR_RDONLY;
    return both | MOUNT_ATTR_NOEXEC | (kind == HF_LAUNCH_WRITE ? 0 : MOUNT_ATTR_RDONLY);
}

static bool
mount_root(int *ret_fd, struct hf_error *err)
{
    if (mount("sandbox", WORKPLACE, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, ROOT_OPTIONS) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not mount the sandbox's root");
    *ret_fd = open(WORKPLACE, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*ret_fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the sandbox's root");
    return true;
}

static bool
fill(struct hf_root *root, size_t at, int top, uid_t uid, gid_t gid, struct hf_error *err)
{
    const struct hf_launch_entry *entry = &root->launch->entries[at];
    if (!make_place(top, entry->to, root->folders[at], err))
        return false;
    switch (entry->kind) {
    case HF_LAUNCH_EMPTY:
        return true;
    case HF_LAUNCH_MEMORY:
        return mount_memory(entry, uid, gid, err);
    case HF_LAUNCH_RUN:
    case HF_LAUNCH_READ:
    case HF_LAUNCH_WRITE:
        break;
    }
    if (root->detached)
        return attach_detached(root->sources[at], top, entry->to, err);
    return attach_by_path(root->sources[at], entry->to, entry->kind, err);
}

/* The path is ours alone to write in: nobody can put a link there between two steps. */
static bool
make_place(int top, const char *path, bool folder, struct hf_error *err)
{
    char place[HF_LAUNCH_PATH_BYTES];
    snprintf(place, sizeof place, "%s", path + 1);
    for (char *slash = place; (slash = strchr(slash, '/')) != NULL; *slash++ = '/') {
        *slash = '\0';
        if (mkdirat(top, place, 0755) != 0 && errno != EEXIST)
            return hf_fail_errno(err, HF_ERR_NONE, "could not make \"/%s\" in the sandbox's root", place);
    }
    if (folder && (mkdirat(top, place, 0755) == 0 || errno == EEXIST))
        return true;
    _cleanup_(hf_closep) int fd = folder ? -1 : openat(top, place, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
    if (fd < 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not make \"%s\" in the sandbox's root", path);
    return true;
}

static bool
attach_detached(int source, int top, const char *to, struct hf_error *err)
{
    if (syscall(SYS_move_mount, source, "", top, to + 1, MOVE_MOUNT_F_EMPTY_PATH) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not mount \"%s\" in the sandbox", to);
    return true;
}

/* mount(MS_BIND) takes no attributes: a second call sets them, keeping those that may not be taken away. */
static bool
attach_by_path(int source, const char *to, enum hf_launch_kind kind, struct hf_error *err)
{
    char from[32], place[HF_LAUNCH_PATH_BYTES + sizeof WORKPLACE];
    struct statvfs now;
    snprintf(from, sizeof from, "/proc/self/fd/%d", source);
    snprintf(place, sizeof place, WORKPLACE "%s", to);
    unsigned long flags =
        MS_NOSUID | MS_NODEV | (kind == HF_LAUNCH_RUN ? 0 : MS_NOEXEC) | (kind == HF_LAUNCH_WRITE ? 0 : MS_RDONLY);
    if (mount(from, place, NULL, MS_BIND | MS_REC, NULL) != 0 || statvfs(place, &now) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not mount \"%s\" in the sandbox", to);
    flags |= (now.f_flag & ST_RDONLY ? MS_RDONLY : 0) | (now.f_flag & ST_NOEXEC ? MS_NOEXEC : 0) |
             (now.f_flag & ST_NOATIME ? MS_NOATIME : 0) | (now.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0) |
             (now.f_flag & ST_RELATIME ? MS_RELATIME : 0);
    if (mount(NULL, place, NULL, MS_REMOUNT | MS_BIND | flags, NULL) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not restrict \"%s\" in the sandbox", to);
    return true;
}

static bool
mount_memory(const struct hf_launch_entry *entry, uid_t uid, gid_t gid, struct hf_error *err)
{
    char options[160], place[HF_LAUNCH_PATH_BYTES + sizeof WORKPLACE];
    snprintf(place, sizeof place, WORKPLACE "%s", entry->to);
    snprintf(options, sizeof options, "size=%llu,nr_inodes=" MEMORY_MOST_INODES ",mode=0700,uid=%u,gid=%u",
             (unsigned long long)entry->bytes, uid, gid);
    if (mount("sandbox", place, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not mount memory at \"%s\" in the sandbox", entry->to);
    return true;
}

/* pivot_root(".", ".") stacks the old root under the new one, where it is detached: no place for it is needed. */
static bool
leave_host(struct hf_error *err)
{
    struct stat top, above;
    if (chdir(WORKPLACE) != 0 || syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 ||
        chdir("/") != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not leave the host's file tree");
    if (stat("/", &top) != 0 || stat("/..", &above) != 0 || top.st_dev != above.st_dev || top.st_ino != above.st_ino)
        return hf_fail(err, HF_ERR_DENIED, "the sandbox's root has something above it");
    return true;
}
