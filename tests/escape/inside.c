/*
 * inside - the prisoner: tries to get out, or to harm the host, and says what happened
 *
 * `inside attempts` makes every attempt of the table and writes one line each: `refused <name>: <why>` or
 * `ALLOWED <name>`; `inside harmless` only those that change nothing where they succeed, to show on a bare host that
 * they do succeed there.  The other words each misbehave in one way until they are stopped.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define LENGTH(array) (sizeof(array) / sizeof((array)[0]))
#define MIB           ((size_t)1024 * 1024)

static const char *host_file = "";   // something the host can read, by path
static const char *host_socket = ""; // an abstract socket that someone on the host listens on
static int host_pid = 1;             // of the test itself

/* 1.13, numbers 1 to 3: files of the host. */
static bool
read_host_file(void)
{
    return open(host_file, O_RDONLY | O_CLOEXEC) < 0;
}

static bool
read_shadow(void)
{
    return open("/etc/shadow", O_RDONLY | O_CLOEXEC) < 0;
}

static bool
walk_up(void)
{
    char path[1024];
    snprintf(path, sizeof path, "../../../../../../../..%s", host_file);
    return open(path, O_RDONLY | O_CLOEXEC) < 0;
}

static bool
follow_own_link(void)
{
    (void)unlink("/tmp/link");
    if (symlink(host_file, "/tmp/link") != 0)
        return false;
    return open("/tmp/link", O_RDONLY | O_CLOEXEC) < 0;
}

static bool
use_leaked_descriptor(void)
{
    for (int fd = 3; fd < 70000; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            return false;
    }
    for (int fd = 0; fd < 3; fd++) {
        if (fchdir(fd) == 0)
            return false;
    }
    return true;
}

static bool
break_chroot(void)
{
    (void)mkdir("/tmp/cell", 0700);
    int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool refused = chroot("/tmp/cell") != 0;
    if (top >= 0)
        close(top);
    return refused;
}

static bool
pivot_back(void)
{
    return syscall(SYS_pivot_root, "/tmp", "/tmp") != 0;
}

/* 6 and 7: mounts. */
static bool
mount_proc(void)
{
    return syscall(SYS_mount, "proc", "/tmp", "proc", 0, NULL) != 0;
}

static bool
mount_overlay(void)
{
    return syscall(SYS_mount, "overlay", "/tmp", "overlay", 0, "lowerdir=/lib,upperdir=/data,workdir=/data") != 0;
}

static bool
mount_bind(void)
{
    return syscall(SYS_mount, "/lib", "/tmp", NULL, 4096 /* MS_BIND */, NULL) != 0;
}

static bool
mount_by_descriptor(void)
{
    return syscall(SYS_fsopen, "tmpfs", 0) < 0 && syscall(SYS_open_tree, AT_FDCWD, "/lib", 1) < 0;
}

static bool
remount_writable(void)
{
    return syscall(SYS_mount, NULL, "/", NULL, 32 | 4096 /* MS_REMOUNT | MS_BIND */, NULL) != 0;
}

static bool
write_root(void)
{
    return open("/owned", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0;
}

static bool
write_program(void)
{
    return open("/bin/inside", O_WRONLY | O_CLOEXEC) < 0 && open("/lib/libc.so.6", O_WRONLY | O_CLOEXEC) < 0;
}

/* 8 to 10: devices and handles. */
static bool
make_block_device(void)
{
    return mknod("/tmp/disk", S_IFBLK | 0600, 0xfe00) != 0 && mknod("/data/disk", S_IFBLK | 0600, 0xfe00) != 0;
}

static bool
make_char_device(void)
{
    return mknod("/tmp/mem", S_IFCHR | 0600, 0x101) != 0;
}

static bool
open_host_disk(void)
{
    static const char *const disks[] = {"/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/mem", "/dev/kmsg", "/dev/fuse"};
    for (size_t i = 0; i < LENGTH(disks); i++) {
        if (open(disks[i], O_RDONLY | O_CLOEXEC) >= 0)
            return false;
    }
    return true;
}

static bool
open_by_handle(void)
{
    char handle[64] = {0};
    int mount_id;
    bool named = syscall(SYS_name_to_handle_at, AT_FDCWD, "/", handle, &mount_id, 0) == 0;
    return !named && syscall(SYS_open_by_handle_at, AT_FDCWD, handle, O_RDONLY) < 0 && errno == EPERM;
}

/* 11 to 13: namespaces and other processes. */
static bool
enter_namespace(void)
{
    for (int fd = 0; fd < 3; fd++) {
        if (syscall(SYS_setns, fd, 0) == 0 || errno != EPERM)
            return false;
    }
    return true;
}

static bool
new_user_namespace(void)
{
    return unshare(CLONE_NEWUSER) != 0;
}

static bool
clone_user_namespace(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0)
        _exit(0);
    return pid < 0;
}

static bool
clone3_user_namespace(void)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    return pid < 0;
}

static bool
other_namespaces(void)
{
    static const int kinds[] = {CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
    for (size_t i = 0; i < LENGTH(kinds); i++) {
        if (unshare(kinds[i]) == 0)
            return false;
    }
    return true;
}

static bool
trace_parent(void)
{
    return ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) != 0 && ptrace(PTRACE_SEIZE, 1, NULL, NULL) != 0;
}

static bool
trace_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        pause();
        _exit(0);
    }
    bool refused = ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return refused;
}

static bool
read_parent_memory(void)
{
    char byte;
    struct {
        void *base;
        size_t length;
    } mine = {&byte, 1}, theirs = {(void *)(uintptr_t)read_parent_memory, 1};
    return syscall(SYS_process_vm_readv, getppid(), &mine, 1, &theirs, 1, 0) < 0;
}

/* 14 to 16: signals, pids, maps. */
static bool
signal_init(void)
{
    return kill(1, SIGKILL) != 0 || kill(1, 0) == 0; // a signal that is dropped is as good as one refused
}

static bool
signal_host_process(void)
{
    return kill(host_pid, 0) != 0;
}

static bool
see_processes(void)
{
    return open("/proc", O_RDONLY | O_CLOEXEC) < 0 && open("/proc/1/status", O_RDONLY | O_CLOEXEC) < 0;
}

static bool
write_uid_map(void)
{
    return open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC) < 0;
}

/* 17 to 22: privileges and code. */
static bool
become_root(void)
{
    return setuid(0) != 0 && setresuid(0, 0, 0) != 0 && setgid(0) != 0 && setresgid(0, 0, 0) != 0;
}

static bool
regain_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct all[2] = {{UINT32_MAX, UINT32_MAX, 0}, {UINT32_MAX, UINT32_MAX, 0}};
    return syscall(SYS_capset, &header, all) != 0;
}

static bool
hold_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[2] = {{0}};
    if (syscall(SYS_capget, &header, held) != 0)
        return false;
    for (unsigned long cap = 0; cap < 64; cap++) {
        if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) == 1)
            return false;
    }
    return (held[0].permitted | held[1].permitted | held[0].effective | held[1].effective) == 0;
}

static bool
exec_suid(void)
{
    char *const argv[] = {(char *)(uintptr_t) "su", NULL};
    static const char *const programs[] = {"/usr/bin/su", "/bin/su", "/usr/bin/sudo", "/bin/sh", "/bin/inside"};
    for (size_t i = 0; i < LENGTH(programs); i++) {
        if (execve(programs[i], argv, argv + 1) == 0 || errno != EPERM)
            return false;
    }
    return true;
}

static bool
exec_by_descriptor(void)
{
    char *const none[] = {NULL};
    for (int fd = 0; fd < 8; fd++) {
        if (syscall(SYS_execveat, fd, "", none, none, AT_EMPTY_PATH) == 0 || errno != EPERM)
            return false;
    }
    return syscall(SYS_execveat, AT_FDCWD, "/bin/inside", none, none, 0) != 0 && errno == EPERM;
}

static bool
reuse_exec_descriptor(void)
{
    struct rlimit files;
    char *const none[] = {NULL};
    int fd = open("/bin/inside", O_PATH | O_CLOEXEC);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || fd < 0)
        return false;
    // The number that the filter lets through is the first one that the limit forbids.
    bool refused = dup2(fd, (int)files.rlim_max) < 0;
    refused = refused && syscall(SYS_execveat, (int)files.rlim_max, "", none, none, AT_EMPTY_PATH) != 0;
    // Nor may that number stand before a path, which makes the descriptor meaningless.
    refused =
        refused && syscall(SYS_execveat, (int)files.rlim_max, "/bin/inside", none, none, 0) != 0 && errno == EPERM;
    close(fd);
    return refused;
}

static bool
set_file_capability(void)
{
    static const uint8_t all[20] = {1, 0, 0, 2, 255, 255, 255, 255};
    int fd = open("/tmp/program", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    bool refused = fd < 0 || fsetxattr(fd, "security.capability", all, sizeof all, 0) != 0;
    if (fd >= 0)
        close(fd);
    return refused;
}

/* On the host it would make whoever finds it there the sandbox's uid. */
static bool
make_setuid_file(void)
{
    struct {
        uint64_t flags, mode, resolve;
    } how = {O_WRONLY | O_CREAT, 04700, 0};
    int fd = open("/data/plain", O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    bool refused = fd >= 0 && fchmod(fd, 04700) != 0 && fchmod(fd, 02700) != 0 && chmod("/data/plain", 06700) != 0 &&
                   fchmodat(AT_FDCWD, "/data/plain", 04700, 0) != 0 &&
                   syscall(452 /* fchmodat2 */, AT_FDCWD, "/data/plain", 04700, 0) != 0 &&
                   syscall(SYS_openat, AT_FDCWD, "/data/s1", O_WRONLY | O_CREAT, 04700) < 0 &&
                   syscall(SYS_openat2, AT_FDCWD, "/data/s2", &how, sizeof how) < 0;
#ifdef SYS_open
    refused = refused && syscall(SYS_open, "/data/s3", O_WRONLY | O_CREAT, 04700) < 0 &&
              syscall(SYS_creat, "/data/s4", 02700) < 0;
#endif
    if (fd >= 0)
        close(fd);
    (void)unlink("/data/plain");
    return refused;
}

static bool
memory_file(void)
{
    return syscall(SYS_memfd_create, "program", 0) < 0;
}

static bool
map_executable(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (fd < 0)
        return false;
    void *code = MAP_FAILED;
    if (ftruncate(fd, 4096) == 0)
        code = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
    void *data = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
    bool refused = code == MAP_FAILED && data != MAP_FAILED && mprotect(data, 4096, PROT_READ | PROT_EXEC) != 0;
    close(fd);
    return refused;
}

static bool
run_from_data(void)
{
    return map_executable("/data/code");
}

static bool
run_from_tmp(void)
{
    return map_executable("/tmp/code");
}

static bool
run_from_shm(void)
{
    return map_executable("/dev/shm/code");
}

static bool
load_library(void)
{
    char bytes[65536];
    int from = open("/lib/libc.so.6", O_RDONLY | O_CLOEXEC),
        to = open("/data/lib.so", O_RDWR | O_CREAT | O_CLOEXEC, 0700);
    for (ssize_t got; from >= 0 && to >= 0 && (got = read(from, bytes, sizeof bytes)) > 0;)
        (void)!write(to, bytes, (size_t)got);
    if (from < 0 || to < 0)
        return false;
    close(from);
    close(to);
    return dlopen("/data/lib.so", RTLD_NOW) == NULL;
}

static bool
write_and_run(void)
{
    void *both = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return both == MAP_FAILED;
}

/* 23 to 26: parts of the kernel that engines do not need. */
static bool
io_uring(void)
{
    char room[256] = {0};
    return syscall(SYS_io_uring_setup, 4, room) < 0;
}

static bool
bpf_program(void)
{
    return syscall(SYS_bpf, 5, NULL, 0) < 0 && errno == EPERM;
}

static bool
perf_events(void)
{
    return syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0) < 0 && errno == EPERM;
}

static bool
page_faults(void)
{
    return syscall(SYS_userfaultfd, 1) < 0;
}

static bool
session_keyring(void)
{
    return syscall(SYS_keyctl, 0, -3, 1) < 0 && syscall(SYS_add_key, "user", "x", "y", 1, -3) < 0;
}

static bool
type_into_terminal(void)
{
    return ioctl(0, TIOCSTI, "x") != 0 && errno == EPERM && ioctl(0, TIOCSTI | UINT64_C(1) << 32, "x") != 0 &&
           errno == EPERM;
}

static bool
load_module(void)
{
    return syscall(SYS_finit_module, 0, "", 0) != 0 && syscall(SYS_init_module, NULL, 0, "") != 0 && errno == EPERM;
}

/* 27 to 30: files through which the kernel is steered. */
static bool
open_terminal(void)
{
    return open("/dev/tty", O_RDWR | O_CLOEXEC) < 0 && open("/dev/console", O_RDWR | O_CLOEXEC) < 0 &&
           open("/dev/ptmx", O_RDWR | O_CLOEXEC) < 0;
}

static bool
core_pattern(void)
{
    return open("/proc/sys/kernel/core_pattern", O_WRONLY | O_CLOEXEC) < 0;
}

static bool
sysrq(void)
{
    return open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC) < 0;
}

static bool
control_groups(void)
{
    return open("/sys/fs/cgroup", O_RDONLY | O_CLOEXEC) < 0 && open("/sys", O_RDONLY | O_CLOEXEC) < 0;
}

/* 40 to 43 and 47: networks and sockets. */
static bool
no_socket(int family, int type, int protocol)
{
    int fd = socket(family, type | SOCK_CLOEXEC, protocol);
    if (fd >= 0)
        close(fd);
    return fd < 0 && errno == EAFNOSUPPORT;
}

static bool
tcp(void)
{
    return no_socket(AF_INET, SOCK_STREAM, 0) && no_socket(AF_INET6, SOCK_STREAM, 0);
}

static bool
udp(void)
{
    return no_socket(AF_INET, SOCK_DGRAM, 0) && no_socket(AF_INET6, SOCK_DGRAM, 0);
}

static bool
icmp(void)
{
    return no_socket(AF_INET, SOCK_RAW, 1) && no_socket(AF_INET, SOCK_DGRAM, 1);
}

static bool
netlink(void)
{
    return no_socket(AF_NETLINK, SOCK_RAW, 0);
}

static bool
packet(void)
{
    return no_socket(AF_PACKET, SOCK_RAW, 0);
}

static bool
vsock(void)
{
    return no_socket(AF_VSOCK, SOCK_STREAM, 0);
}

static bool
alg(void)
{
    return no_socket(AF_ALG, SOCK_SEQPACKET, 0);
}

static bool
family_with_high_bits(void)
{
    long fd = syscall(SYS_socket, AF_INET | INT64_C(1) << 32, SOCK_STREAM, 0);
    return fd < 0;
}

static bool
abstract_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(host_socket);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memcpy(address.sun_path + 1, host_socket, length);
    bool refused =
        connect(fd, (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) != 0;
    close(fd);
    return refused;
}

static bool
false_credentials(void)
{
    struct ucred claim = {.pid = getpid(), .uid = 0, .gid = 0};
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof claim)];
    } control = {
        .header = {.cmsg_len = CMSG_LEN(sizeof claim), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_CREDENTIALS}};
    char byte = 0;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    int pair[2];
    memcpy(CMSG_DATA(&control.header), &claim, sizeof claim);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return false;
    bool refused = sendmsg(pair[0], &message, 0) < 0;
    close(pair[0]);
    close(pair[1]);
    return refused;
}

/* 48 to 50: clocks and names. */
static bool
set_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return clock_settime(CLOCK_REALTIME, &now) != 0;
}

static bool
adjust_clock(void)
{
    struct timex nothing = {.modes = ADJ_TICK, .tick = 10000};
    return clock_adjtime(CLOCK_REALTIME, &nothing) < 0 && adjtimex(&nothing) < 0;
}

static bool
host_name(void)
{
    return sethostname("owned", 5) != 0 && setdomainname("owned", 5) != 0;
}

static bool
raise_limits(void)
{
    struct rlimit limit;
    static const int resources[] = {RLIMIT_NOFILE, RLIMIT_NPROC, RLIMIT_DATA, RLIMIT_CORE, RLIMIT_MEMLOCK};
    for (size_t i = 0; i < LENGTH(resources); i++) {
        limit = (struct rlimit){RLIM_INFINITY, RLIM_INFINITY};
        if (setrlimit(resources[i], &limit) == 0)
            return false;
    }
    return true;
}

static bool
become_urgent(void)
{
    struct sched_param urgent = {.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO, &urgent) != 0 && setpriority(PRIO_PROCESS, 0, -5) != 0;
}

static const struct {
    const char *name;
    bool (*attempt)(void);
    bool harmless; // and possible for an ordinary user of a bare host
} attempts[] = {
    {"read a file of the host", read_host_file, true},
    {"read /etc/shadow", read_shadow, false},
    {"walk up with ..", walk_up, true},
    {"follow a link of its own", follow_own_link, false},
    {"use a leaked descriptor", use_leaked_descriptor, false},
    {"break out of a chroot", break_chroot, false},
    {"pivot back", pivot_back, false},
    {"mount proc", mount_proc, false},
    {"mount overlay", mount_overlay, false},
    {"mount bind", mount_bind, false},
    {"mount by descriptor", mount_by_descriptor, false},
    {"remount writable", remount_writable, false},
    {"write into the root", write_root, false},
    {"write into a program", write_program, false},
    {"make a block device", make_block_device, false},
    {"make a character device", make_char_device, false},
    {"open a disk of the host", open_host_disk, false},
    {"open by handle", open_by_handle, false},
    {"enter a namespace", enter_namespace, false},
    {"unshare a user namespace", new_user_namespace, false},
    {"clone a user namespace", clone_user_namespace, true},
    {"clone3 a user namespace", clone3_user_namespace, true},
    {"unshare other namespaces", other_namespaces, false},
    {"trace the parent", trace_parent, false},
    {"trace a child", trace_child, true},
    {"read the parent's memory", read_parent_memory, false},
    {"signal init", signal_init, false},
    {"signal a process of the host", signal_host_process, false},
    {"see processes", see_processes, true},
    {"write the uid map", write_uid_map, false},
    {"become root", become_root, false},
    {"regain capabilities", regain_capabilities, false},
    {"hold a capability", hold_capability, false},
    {"execute a setuid program", exec_suid, false},
    {"execute by descriptor", exec_by_descriptor, false},
    {"reuse the descriptor of the program", reuse_exec_descriptor, false},
    {"give a file capabilities", set_file_capability, false},
    {"make a setuid file", make_setuid_file, false},
    {"make a file in memory", memory_file, true},
    {"run code from /data", run_from_data, false},
    {"run code from /tmp", run_from_tmp, false},
    {"run code from /dev/shm", run_from_shm, false},
    {"load a library from /data", load_library, false},
    {"map memory writable and executable", write_and_run, true},
    {"use io_uring", io_uring, true},
    {"load a bpf program", bpf_program, false},
    {"open perf events", perf_events, false},
    {"handle page faults", page_faults, true},
    {"read the session keyring", session_keyring, false},
    {"type into a terminal", type_into_terminal, false},
    {"load a kernel module", load_module, false},
    {"open a terminal", open_terminal, false},
    {"write core_pattern", core_pattern, false},
    {"trigger sysrq", sysrq, false},
    {"reach control groups", control_groups, true},
    {"open a TCP socket", tcp, true},
    {"open a UDP socket", udp, true},
    {"open an ICMP socket", icmp, false},
    {"open a netlink socket", netlink, true},
    {"open a packet socket", packet, false},
    {"open a vsock socket", vsock, false},
    {"open a crypto socket", alg, false},
    {"name a family with high bits", family_with_high_bits, true},
    {"connect to an abstract socket of the host", abstract_socket, true},
    {"claim another uid over a socket", false_credentials, false},
    {"set the time", set_time, false},
    {"adjust the clock", adjust_clock, false},
    {"rename the host", host_name, false},
    {"raise its limits", raise_limits, false},
    {"become urgent", become_urgent, false},
};

static int
make_attempts(bool only_harmless)
{
    size_t made = 0;
    for (size_t i = 0; i < LENGTH(attempts); i++) {
        if (only_harmless && !attempts[i].harmless)
            continue;
        errno = 0;
        bool refused = attempts[i].attempt();
        printf("%s %s%s%s\n", refused ? "refused" : "ALLOWED", attempts[i].name, refused ? ": " : "",
               refused ? strerror(errno) : "");
        made++;
    }
    printf("done %zu\n", made);
    return 0;
}

static void
fork_bomb(void)
{
    unsigned born = 0;
    for (int failures = 0; failures < 1000;) {
        pid_t pid = fork();
        if (pid == 0) {
            pause();
            _exit(0);
        }
        born += pid > 0;
        failures += pid < 0;
    }
    printf("born %u\n", born);
    fflush(stdout);
    pause();
}

/* A real shortage: touched, so that it is counted. */
static void
memory_bomb(const char *kind)
{
    for (size_t i = 0; i < 4096; i++) {
        void *piece = MAP_FAILED;
        if (strcmp(kind, "private") == 0) {
            if (fork() == 0) // RLIMIT_DATA holds one process: use many
                continue;
            piece = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (piece != MAP_FAILED)
                memset(piece, 1, 32 * MIB);
            pause();
        } else if (strcmp(kind, "shared") == 0) {
            piece = mmap(NULL, 32 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        } else {
            int id = shmget(IPC_PRIVATE, 32 * MIB, IPC_CREAT | 0600);
            piece = id < 0 ? MAP_FAILED : shmat(id, NULL, 0);
        }
        if (piece != MAP_FAILED)
            memset(piece, 1, 32 * MIB);
    }
    pause();
}

static void
descriptor_bomb(void)
{
    unsigned opened = 0;
    while (open("/tmp", O_RDONLY | O_DIRECTORY) >= 0)
        opened++;
    printf("opened %u: %s\n", opened, strerror(errno));
}

static void
fill(const char *folder)
{
    static char block[MIB];
    char path[256];
    unsigned long long written = 0, files = 0;
    snprintf(path, sizeof path, "%s/big", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (ssize_t put; (put = write(fd, block, sizeof block)) > 0;)
        written += (unsigned long long)put;
    printf("wrote %llu: %s\n", written, strerror(errno));
    fflush(stdout);
    close(fd);
    unlink(path);
    for (; files < 1000000; files++) {
        snprintf(path, sizeof path, "%s/f%llu", folder, files);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    printf("made %llu files: %s\n", files, strerror(errno));
}

static void
write_slowly(const char *folder)
{
    static char block[MIB];
    char path[256];
    snprintf(path, sizeof path, "%s/grows", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while (write(fd, block, sizeof block) > 0)
        usleep(2000);
    pause();
}

static void
sparse_file(const char *folder)
{
    char path[256];
    snprintf(path, sizeof path, "%s/sparse", folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    off_t most = 0;
    for (int bit = 62; bit > 20 && most == 0; bit--) {
        if (ftruncate(fd, (off_t)1 << bit) == 0)
            most = (off_t)1 << bit;
    }
    printf("sparse %lld\n", (long long)most);
}

static void
flood(void)
{
    static char line[4096];
    memset(line, 'x', sizeof line);
    line[sizeof line - 1] = '\n';
    for (;;)
        (void)!write(2, line, sizeof line);
}

/* Twice forked, in sessions of their own, deaf to every signal that can be ignored. */
static void
daemons(void)
{
    for (int signal = 1; signal < 32; signal++) {
        if (signal != SIGCHLD)
            (void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    }
    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            setsid();
            if (fork() == 0) {
                for (;;)
                    pause();
            }
            _exit(0);
        }
    }
    while (waitpid(-1, NULL, 0) > 0)
        ;
    printf("running\n");
    fflush(stdout);
    for (;;)
        pause();
}

/* Folders in folders, the outer ones closed to everybody. */
static void
go_deep(void)
{
    int at = open("/data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (unsigned depth = 0; depth < 500; depth++) {
        const char *name = depth == 0 ? "deep" : "d";
        if (mkdirat(at, name, 0700) != 0)
            exit(1);
        int next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (next < 0)
            exit(1);
        if (depth > 0 && fchmod(at, depth % 2 == 0 ? 0 : 0500) != 0) // nothing more is made in it
            exit(1);
        close(at);
        at = next;
    }
}

/* A call of another architecture: 32-bit getpid, or x32's. */
static void
foreign_call(bool x32)
{
#ifdef __x86_64__
    long result = 0;
    if (x32)
        result = syscall(0x40000000 | SYS_getpid);
    else
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory");
    printf("ALLOWED %ld\n", result);
#else
    (void)x32;
#endif
}

static void
misbehave(const char *how, const char *where)
{
    if (strcmp(how, "fork-bomb") == 0)
        fork_bomb();
    else if (strcmp(how, "memory-bomb") == 0)
        memory_bomb(where);
    else if (strcmp(how, "descriptor-bomb") == 0)
        descriptor_bomb();
    else if (strcmp(how, "fill") == 0)
        fill(where);
    else if (strcmp(how, "grow") == 0)
        write_slowly(where);
    else if (strcmp(how, "sparse") == 0)
        sparse_file(where);
    else if (strcmp(how, "flood") == 0)
        flood();
    else if (strcmp(how, "daemons") == 0)
        daemons();
    else if (strcmp(how, "deep") == 0)
        go_deep();
    else if (strcmp(how, "stop-itself") == 0)
        kill(getpid(), SIGSTOP);
    else if (strcmp(how, "int80") == 0 || strcmp(how, "x32") == 0)
        foreign_call(strcmp(how, "x32") == 0);
    else if (strcmp(how, "say") == 0)
        printf("%s\n", where);
    else if (strcmp(how, "exit") == 0)
        exit(atoi(where));
    else if (strcmp(how, "crash") == 0)
        abort();
}

int
main(int argc, char **argv)
{
    if (argc == 5 && (strcmp(argv[1], "attempts") == 0 || strcmp(argv[1], "harmless") == 0)) {
        host_file = argv[2];
        host_socket = argv[3];
        host_pid = atoi(argv[4]);
        return make_attempts(strcmp(argv[1], "harmless") == 0);
    }
    if (argc == 3)
        misbehave(argv[1], argv[2]);
    fflush(stdout);
    return argc == 3 ? 0 : 2;
}
