#include "tests/support/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "tests/support/test.h"

#define EXT4_IOC_SHUTDOWN        _IOR('X', 125, unsigned)
#define EXT4_SHUTDOWN_NOLOGFLUSH 2u
#define MKFS_TIMEOUT_MS          60000

static bool enter_namespace(void);
static bool put_text(const char *path, const char *text);
static int attach_loop(const char *image, char device[static 32]);

bool
test_disk_mount_small(const char *folder, size_t bytes)
{
    char options[64];
    snprintf(options, sizeof options, "size=%zu,mode=0755", bytes);
    return enter_namespace() && mount("none", folder, "tmpfs", 0, options) == 0;
}

void
test_disk_resize(const char *folder, size_t bytes)
{
    char options[64];
    snprintf(options, sizeof options, "size=%zu", bytes);
    assert_int_equal(mount(NULL, folder, NULL, MS_REMOUNT, options), 0);
}

bool
test_disk_make_ext4(const char *image, size_t bytes, const char **why)
{
    struct hf_error err;
    int status;
    _cleanup_(hf_closep) int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
    const struct hf_process_options mkfs = {
        .argv = (const char *const[]){"/sbin/mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0", image, NULL},
        .stdin_fd = -1,
        .stdout_fd = -1,
        .stderr_fd = -1};
    *why = "mkfs.ext4 is missing";
    return hf_process_run(&mkfs, NULL, 0, MKFS_TIMEOUT_MS, NULL, NULL, &status, &err) && status == 0;
}

bool
test_disk_mount_ext4(const char *image, const char *folder, const char **why)
{
    char device[32];
    *why = "this host lets us mount nothing";
    if (!enter_namespace())
        return false;
    _cleanup_(hf_closep) int loop = attach_loop(image, device);
    *why = "this host has no loop devices";
    if (loop < 0)
        return false;
    *why = "this host does not mount ext4";
    return mount(device, folder, "ext4", 0, NULL) == 0;
}

bool
test_disk_cut_power(const char *folder)
{
    const unsigned how = EXT4_SHUTDOWN_NOLOGFLUSH;
    _cleanup_(hf_closep) int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && ioctl(fd, EXT4_IOC_SHUTDOWN, &how) == 0;
}

void
test_disk_unmount(const char *folder)
{
    if (umount2(folder, 0) != 0)
        fail_msg("could not unmount \"%s\": %s", folder, strerror(errno));
}

/* Root needs only mounts of its own; others are root in a user namespace where the host allows that. */
static bool
enter_namespace(void)
{
    static bool entered;
    if (entered)
        return true;
    char map[64];
    const uid_t uid = geteuid();
    const gid_t gid = getegid();
    if (unshare(uid == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0)
        return false;
    if (uid != 0) {
        snprintf(map, sizeof map, "0 %u 1", uid);
        if (!put_text("/proc/self/uid_map", map) || !put_text("/proc/self/setgroups", "deny"))
            return false;
        snprintf(map, sizeof map, "0 %u 1", gid);
        if (!put_text("/proc/self/gid_map", map))
            return false;
    }
    entered = mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    return entered;
}

static bool
put_text(const char *path, const char *text)
{
    _cleanup_(hf_closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
}

/* The device lets go of the image with its last user: the mount, when our descriptor is closed. */
static int
attach_loop(const char *image, char device[static 32])
{
    _cleanup_(hf_closep) int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    _cleanup_(hf_closep) int file = open(image, O_RDWR | O_CLOEXEC);
    for (int tries = 0; control >= 0 && file >= 0 && tries < 16; tries++) {
        const int number = ioctl(control, LOOP_CTL_GET_FREE);
        if (number < 0)
            return -1;
        snprintf(device, 32, "/dev/loop%d", number);
        _cleanup_(hf_closep) int loop = open(device, O_RDWR | O_CLOEXEC);
        const struct loop_config config = {.fd = (uint32_t)file, .info = {.lo_flags = LO_FLAGS_AUTOCLEAR}};
        if (loop >= 0 && ioctl(loop, LOOP_CONFIGURE, &config) == 0)
            return HF_TAKE_FD(loop);
        if (errno != EBUSY) // another test was quicker
            return -1;
    }
    return -1;
}
