#include "sandbox/confine.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#include "base/file.h"
#include "base/id.h"

#define STACK_BYTES       (64 * HF_MIB) // PostgreSQL asks for more than the usual 8 MiB when max_stack_depth is raised
#define LOCKED_BYTES      (64 * HF_KIB)
#define MESSAGE_BYTES     (1 * HF_MIB) // of POSIX message queues
#define MOST_CAPABILITY   63
#define MOST_FILTER_BYTES (4096 * 8) // as many instructions as the kernel takes

/*
 * Refused with EPERM.  What an engine never needs, and what has let people out of containers: mounts, other
 * processes, namespaces, kernel keys, programs for the kernel, clocks, ids.  From systemd's and Docker's groups
 * of calls, checked against full loads of PostgreSQL and MariaDB.
 */
static const char *const refused[] = {
    // the file tree
    "mount umount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr chroot",
    "open_by_handle_at name_to_handle_at fanotify_init fanotify_mark lookup_dcookie mknod mknodat sysfs ustat uselib",
    "swapon swapoff quotactl quotactl_fd nfsservctl acct",
    // other processes, other namespaces
    "setns unshare ptrace process_vm_readv process_vm_writev process_madvise kcmp",
    "pidfd_open pidfd_getfd pidfd_send_signal",
    // the kernel itself
    "bpf perf_event_open userfaultfd keyctl add_key request_key syslog seccomp reboot kexec_load kexec_file_load",
    "init_module finit_module delete_module create_module get_kernel_syms query_module _sysctl vhangup",
    // the machine
    "iopl ioperm modify_ldt vm86 vm86old personality sethostname setdomainname",
    "settimeofday stime clock_settime clock_adjtime adjtimex",
    // who it is
    "setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups capset",
    "setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setfsuid32 setfsgid32 setgroups32",
    // code that did not come from the read-only mounts
    "execve memfd_create memfd_secret",
    // more than its share
    "mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "setpriority ioprio_set sched_setattr sched_setscheduler",
};

/*
 * Said not to exist, so that callers take an older road: clone3 and openat2 hide their flags from us in memory and
 * glibc falls back to clone and openat; what io_uring does is not seen by seccomp, and libraries that probe for it go
 * on without.
 */
static const char *const unknown[] = {"clone3", "openat2", "io_uring_setup io_uring_enter io_uring_register"};

/* Calls younger than libseccomp's list get ENOSYS by number: among them are new ways to mount. */
#define FIRST_YOUNG_CALL 451
#define LAST_YOUNG_CALL  600

/* CLONE_NEWTIME is none of clone's flags: only clone3 and unshare take it. */
static const unsigned long namespace_flags[] = {CLONE_NEWUSER, CLONE_NEWNS,  CLONE_NEWPID,   CLONE_NEWNET,
                                                CLONE_NEWIPC,  CLONE_NEWUTS, CLONE_NEWCGROUP};

/* Landlock's interface by hand: Debian 12's header ends at version 2. */
#define FS_EXECUTE     (UINT64_C(1) << 0)
#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_MAKE_CHAR   (UINT64_C(1) << 6)
#define FS_MAKE_BLOCK  (UINT64_C(1) << 11)
#define FS_VERSION_1   ((UINT64_C(1) << 13) - 1)
#define FS_REFER       (UINT64_C(1) << 13) // version 2
#define FS_TRUNCATE    (UINT64_C(1) << 14) // version 3
#define FS_IOCTL_DEV   (UINT64_C(1) << 15) // version 5
#define NET_BIND_TCP   (UINT64_C(1) << 0)  // version 4
#define NET_CONNECT    (UINT64_C(1) << 1)
#define SCOPE_ABSTRACT (UINT64_C(1) << 0) // version 6
#define SCOPE_SIGNAL   (UINT64_C(1) << 1)
#define FILE_RIGHTS    (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define RULE_BENEATH   1
#define ASK_VERSION    1u

struct ruleset {
    uint64_t fs, net, scoped;
};

struct beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static bool set_limit(int resource, const char *name, uint64_t most, struct hf_error *err);
static bool set_open_files(unsigned files, rlim_t hard, struct hf_error *err);
static bool hash_filter(scmp_filter_ctx filter, char sha256[static HF_CONFINE_HASH_BYTES]);
static bool add_refusals(scmp_filter_ctx filter);
static bool add_calls(scmp_filter_ctx filter, const char *names, uint32_t action);
static bool add_call(scmp_filter_ctx filter, const char *name, uint32_t action);
static bool add_sockets(scmp_filter_ctx filter, bool inet);
static bool add_arguments(scmp_filter_ctx filter, int program_fd);
static bool add_modes(scmp_filter_ctx filter);
static uint64_t rights_of(enum hf_launch_kind kind, uint64_t handled);
static bool allow_memory(int ruleset, const struct hf_launch *launch, uint64_t handled, struct hf_error *err);
static bool allow_beneath(int ruleset, const char *path, uint64_t rights, struct hf_error *err);

bool
hf_confine_limits(const struct hf_launch *launch, bool own_users, unsigned *ret_open_files, struct hf_error *err)
{
    const struct hf_launch_limits *limits = &launch->limits;
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not read the limit of open files");
    *ret_open_files = (unsigned)(limits->open_files < files.rlim_max ? limits->open_files : files.rlim_max - 1);

    // Without a user namespace the kernel would count every process of that uid, ours or not.
    uint64_t processes = own_users && limits->processes != 0 ? limits->processes + 2 : RLIM_INFINITY;
    return set_open_files(*ret_open_files + 1, files.rlim_max, err) && set_limit(RLIMIT_CORE, "core dumps", 0, err) &&
           set_limit(RLIMIT_MEMLOCK, "locked memory", LOCKED_BYTES, err) &&
           set_limit(RLIMIT_MSGQUEUE, "message queues", MESSAGE_BYTES, err) &&
           set_limit(RLIMIT_STACK, "stack", STACK_BYTES, err) && set_limit(RLIMIT_NICE, "priority", 0, err) &&
           set_limit(RLIMIT_RTPRIO, "real-time priority", 0, err) &&
           (limits->memory_bytes == 0 || set_limit(RLIMIT_DATA, "memory of a process", limits->memory_bytes, err)) &&
           set_limit(RLIMIT_NPROC, "processes", processes, err);
}

bool
hf_confine_open_program(const char *path, unsigned open_files, int *ret_fd, struct hf_error *err)
{
    _cleanup_(hf_closep) int fd = open(path, O_PATH | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open the program \"%s\"", path);
    if (!S_ISREG(info.st_mode))
        return hf_fail(err, HF_ERR_USAGE, "the program \"%s\" is no file", path);
    *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, (int)open_files);
    if (*ret_fd != (int)open_files)
        return hf_fail_errno(err, HF_ERR_NONE, "could not keep the program \"%s\" open", path);
    return set_open_files(open_files, open_files, err);
}

bool
hf_confine_bounding_set(struct hf_error *err)
{
    const unsigned long locked = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                 SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                                 SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
    for (unsigned long cap = 0; cap <= MOST_CAPABILITY; cap++) {
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1 && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0)
            return hf_fail_errno(err, HF_ERR_NONE, "could not drop capability %lu from the bounding set", cap);
    }
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0 || prctl(PR_SET_SECUREBITS, locked, 0, 0, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not lock the secure bits");
    return true;
}

bool
hf_confine_capabilities(struct hf_error *err)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not drop capabilities");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not give up new privileges");
    return true;
}

bool
hf_confine_seccomp(int program_fd, bool inet, char sha256[static HF_CONFINE_HASH_BYTES], struct hf_error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    if (filter == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for the call filter");
    // Another architecture's calls, x32 included, kill: their numbers mean other things.
    bool fine = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
                seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 && add_refusals(filter) &&
                add_sockets(filter, inet) && add_arguments(filter, program_fd) && add_modes(filter);
    int result = fine && hash_filter(filter, sha256) ? seccomp_load(filter) : -EINVAL;
    seccomp_release(filter);
    if (result != 0) {
        errno = -result;
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not install the call filter");
    }
    return true;
}

unsigned
hf_confine_landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, ASK_VERSION);
    return version > 0 ? (unsigned)version : 0;
}

bool
hf_confine_landlock(const struct hf_launch *launch, bool flat, unsigned version, struct hf_error *err)
{
    struct ruleset rules = {
        .fs = FS_VERSION_1 | (version >= 2 ? FS_REFER : 0) | (version >= 3 ? FS_TRUNCATE : 0) |
              (version >= 5 ? FS_IOCTL_DEV : 0),
        .net = version >= 4 && !launch->inet ? NET_BIND_TCP | NET_CONNECT : 0,
        .scoped = version >= 6 ? SCOPE_ABSTRACT | SCOPE_SIGNAL : 0,
    };
    size_t known = version >= 6 ? sizeof rules : version >= 4 ? 2 * sizeof(uint64_t) : sizeof(uint64_t);
    _cleanup_(hf_closep) int ruleset = (int)syscall(SYS_landlock_create_ruleset, &rules, known, 0);
    if (ruleset < 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not make Landlock rules");
    for (size_t i = 0; i < launch->entry_count; i++) {
        const struct hf_launch_entry *entry = &launch->entries[i];
        if (flat && entry->from[0] == '\0')
            continue;
        if (!allow_beneath(ruleset, flat ? entry->from : entry->to, rights_of(entry->kind, rules.fs), err))
            return false;
    }
    if (flat && !allow_memory(ruleset, launch, rules.fs, err))
        return false;
    if (syscall(SYS_landlock_restrict_self, ruleset, 0) != 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not apply Landlock rules");
    return true;
}

static bool
set_limit(int resource, const char *name, uint64_t most, struct hf_error *err)
{
    struct rlimit now;
    if (getrlimit((__rlimit_resource_t)resource, &now) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not read the limit of %s", name);
    rlim_t limit = most < now.rlim_max ? most : now.rlim_max;
    const struct rlimit wanted = {.rlim_cur = limit, .rlim_max = limit};
    if (setrlimit((__rlimit_resource_t)resource, &wanted) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not limit %s", name);
    return true;
}

static bool
set_open_files(unsigned files, rlim_t hard, struct hf_error *err)
{
    const struct rlimit wanted = {.rlim_cur = files, .rlim_max = hard};
    if (setrlimit(RLIMIT_NOFILE, &wanted) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not limit open files to %u", files);
    return true;
}

/* libseccomp writes the filter to a descriptor only. */
static bool
hash_filter(scmp_filter_ctx filter, char sha256[static HF_CONFINE_HASH_BYTES])
{
    uint8_t program[MOST_FILTER_BYTES], digest[HF_SHA256_BYTES];
    _cleanup_(hf_closep) int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0 || seccomp_export_bpf(filter, fd) != 0)
        return false;
    ssize_t length = pread(fd, program, sizeof program, 0);
    if (length <= 0)
        return false;
    hf_sha256(program, (size_t)length, digest);
    hf_hex_format(digest, sizeof digest, sha256);
    return true;
}

static bool
add_refusals(scmp_filter_ctx filter)
{
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        if (!add_calls(filter, refused[i], SCMP_ACT_ERRNO(EPERM)))
            return false;
    }
    for (size_t i = 0; i < HF_LENGTH(unknown); i++) {
        if (!add_calls(filter, unknown[i], SCMP_ACT_ERRNO(ENOSYS)))
            return false;
    }
    for (int call = FIRST_YOUNG_CALL; call <= LAST_YOUNG_CALL; call++) {
        if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), call, 0) != 0)
            return false;
    }
    return true;
}

static bool
add_calls(scmp_filter_ctx filter, const char *names, uint32_t action)
{
    char list[256], *rest = list;
    assert(strlen(names) < sizeof list);
    strcpy(list, names);
    for (const char *name; (name = strsep(&rest, " ")) != NULL;) {
        if (!add_call(filter, name, action))
            return false;
    }
    return true;
}

/* A name that this architecture or this libseccomp does not have cannot be called by name either. */
static bool
add_call(scmp_filter_ctx filter, const char *name, uint32_t action)
{
    int call = seccomp_syscall_resolve_name(name);
    return call < 0 || seccomp_rule_add(filter, action, call, 0) == 0;
}

/*
 * The kernel looks at 32 bits of a family, libseccomp compares 64: rules refuse ranges, so that high bits never help.
 */
static bool
add_sockets(scmp_filter_ctx filter, bool inet)
{
    const uint32_t no = SCMP_ACT_ERRNO(EAFNOSUPPORT);
    const int calls[] = {SCMP_SYS(socket), SCMP_SYS(socketpair)};
    for (size_t i = 0; i < HF_LENGTH(calls); i++) {
        if (!inet) {
            if (seccomp_rule_add(filter, no, calls[i], 1, SCMP_A0(SCMP_CMP_NE, AF_UNIX)) != 0)
                return false;
            continue;
        }
        for (uint64_t family = AF_INET + 1; family < AF_INET6; family++) {
            if (seccomp_rule_add(filter, no, calls[i], 1, SCMP_A0(SCMP_CMP_EQ, family)) != 0)
                return false;
        }
        if (seccomp_rule_add(filter, no, calls[i], 1, SCMP_A0(SCMP_CMP_LT, AF_UNIX)) != 0 ||
            seccomp_rule_add(filter, no, calls[i], 1, SCMP_A0(SCMP_CMP_GT, AF_INET6)) != 0)
            return false;
    }
    return true;
}

static bool
add_arguments(scmp_filter_ctx filter, int program_fd)
{
    const uint32_t no = SCMP_ACT_ERRNO(EPERM);
    const uint64_t low = UINT32_MAX, both = PROT_WRITE | PROT_EXEC;
    for (size_t i = 0; i < HF_LENGTH(namespace_flags); i++) {
        if (seccomp_rule_add(filter, no, SCMP_SYS(clone), 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, namespace_flags[i], namespace_flags[i])) != 0)
            return false;
    }
    // exec once: this descriptor closes on exec, and the limit of open files lets nobody make its number again.
    return seccomp_rule_add(filter, no, SCMP_SYS(execveat), 1, SCMP_A0(SCMP_CMP_NE, (scmp_datum_t)program_fd)) == 0 &&
           seccomp_rule_add(filter, no, SCMP_SYS(execveat), 1, SCMP_A4(SCMP_CMP_NE, AT_EMPTY_PATH)) == 0 &&
           // Pushing characters into a terminal's input.
           seccomp_rule_add(filter, no, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, low, TIOCSTI)) == 0 &&
           seccomp_rule_add(filter, no, SCMP_SYS(ioctl), 1, SCMP_A1(SCMP_CMP_MASKED_EQ, low, TIOCLINUX)) == 0 &&
           // Code that writes itself: neither engine has a JIT that we leave on.
           seccomp_rule_add(filter, no, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, both)) == 0 &&
           seccomp_rule_add(filter, no, SCMP_SYS(mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, both)) == 0 &&
           seccomp_rule_add(filter, no, SCMP_SYS(pkey_mprotect), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, both, both)) == 0;
}

/* A file that runs as its owner would still do so on the host, after us.  fchmodat2 is among the young calls. */
static bool
add_modes(scmp_filter_ctx filter)
{
    static const struct {
        int call;
        unsigned mode; // which argument it is
    } rows[] = {{SCMP_SYS(chmod), 1}, {SCMP_SYS(fchmod), 1}, {SCMP_SYS(fchmodat), 2},
                {SCMP_SYS(creat), 1}, {SCMP_SYS(open), 2},   {SCMP_SYS(openat), 3}};
    static const uint64_t bits[] = {S_ISUID, S_ISGID};
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        for (size_t bit = 0; bit < HF_LENGTH(bits); bit++) {
            const struct scmp_arg_cmp set = {
                .arg = rows[i].mode, .op = SCMP_CMP_MASKED_EQ, .datum_a = bits[bit], .datum_b = bits[bit]};
            // A call that this architecture does not have cannot be made either.
            if (rows[i].call >= 0 && seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(EPERM), rows[i].call, 1, &set) != 0)
                return false;
        }
    }
    return true;
}

static uint64_t
rights_of(enum hf_launch_kind kind, uint64_t handled)
{
    switch (kind) {
    case HF_LAUNCH_RUN:
        return FS_EXECUTE | FS_READ_FILE | FS_READ_DIR;
    case HF_LAUNCH_READ:
    case HF_LAUNCH_EMPTY:
        return FS_READ_FILE | FS_READ_DIR;
    case HF_LAUNCH_WRITE:
    case HF_LAUNCH_MEMORY:
        return handled & ~(FS_EXECUTE | FS_MAKE_CHAR | FS_MAKE_BLOCK | FS_IOCTL_DEV);
    }
    return 0;
}

/* At L1 no tmpfs is mounted: what stands for it is a folder beside the socket's, when the caller made one. */
static bool
allow_memory(int ruleset, const struct hf_launch *launch, uint64_t handled, struct hf_error *err)
{
    char path[PATH_MAX];
    if (launch->remove[0] == '\0')
        return true;
    if ((size_t)snprintf(path, sizeof path, "%s/memory", launch->remove) >= sizeof path)
        return hf_fail(err, HF_ERR_USAGE, "the path \"%.100s...\" is too long", launch->remove);
    return access(path, F_OK) != 0 || allow_beneath(ruleset, path, rights_of(HF_LAUNCH_MEMORY, handled), err);
}

/* A rule for a single file may only name what can be done to a file. */
static bool
allow_beneath(int ruleset, const char *path, uint64_t rights, struct hf_error *err)
{
    struct stat info;
    _cleanup_(hf_closep) int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0)
        return hf_fail_errno(err, HF_ERR_NONE, "could not open \"%s\" for Landlock", path);
    const struct beneath rule = {.allowed = S_ISDIR(info.st_mode) ? rights : rights & FILE_RIGHTS, .parent = fd};
    if (syscall(SYS_landlock_add_rule, ruleset, RULE_BENEATH, &rule, 0) != 0)
        return hf_fail_errno(err, HF_ERR_UNAVAILABLE, "could not add \"%s\" to Landlock's rules", path);
    return true;
}
