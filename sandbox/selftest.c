#include "sandbox/selftest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/attributes.h"

/* Each returns true when it was refused, with errno saying how. */
typedef bool attempt_function(void);

static bool try_mount(void);
static bool try_umount(void);
static bool try_pivot_root(void);
static bool try_open_tree(void);
static bool try_fsopen(void);
static bool try_move_mount(void);
static bool try_chroot(void);
static bool try_unshare_user(void);
static bool try_unshare_mount(void);
static bool try_clone_user(void);
static bool try_clone3(void);
static bool try_setns(void);
static bool try_ptrace(void);
static bool try_read_process(void);
static bool try_bpf(void);
static bool try_perf(void);
static bool try_userfaultfd(void);
static bool try_keyctl(void);
static bool try_add_key(void);
static bool try_io_uring(void);
static bool try_handle(void);
static bool try_inet(void);
static bool try_inet6(void);
static bool try_netlink(void);
static bool try_packet(void);
static bool try_vsock(void);
static bool try_alg(void);
static bool try_execve(void);
static bool try_execveat(void);
static bool try_memfd(void);
static bool try_mknod(void);
static bool try_setuid(void);
static bool try_setgid(void);
static bool try_setgroups(void);
static bool try_capset(void);
static bool try_personality(void);
static bool try_module(void);
static bool try_kexec(void);
static bool try_swapon(void);
static bool try_reboot(void);
static bool try_kernel_log(void);
static bool try_clock(void);
static bool try_hostname(void);
static bool try_tiocsti(void);
static bool try_write_exec(void);
static bool try_exec_mapping(void);
static bool try_proc(void);
static bool try_accounts(void);
static bool try_write_root(void);
static bool try_more_files(void);
static bool has_no_capability(void);
static bool has_no_new_privileges(void);
static bool has_no_extra_descriptor(void);
static bool try_socket(int family, int type);
static bool refused_with(long result);

static const struct {
    const char *name;
    attempt_function *attempt;
} attempts[] = {
    {"mount", try_mount},
    {"umount", try_umount},
    {"pivot_root", try_pivot_root},
    {"open_tree", try_open_tree},
    {"fsopen", try_fsopen},
    {"move_mount", try_move_mount},
    {"chroot", try_chroot},
    {"unshare user namespace", try_unshare_user},
    {"unshare mount namespace", try_unshare_mount},
    {"clone into a user namespace", try_clone_user},
    {"clone3", try_clone3},
    {"setns", try_setns},
    {"ptrace", try_ptrace},
    {"read another process's memory", try_read_process},
    {"bpf", try_bpf},
    {"perf_event_open", try_perf},
    {"userfaultfd", try_userfaultfd},
    {"keyctl", try_keyctl},
    {"add_key", try_add_key},
    {"io_uring", try_io_uring},
    {"open_by_handle_at", try_handle},
    {"socket AF_INET", try_inet},
    {"socket AF_INET6", try_inet6},
    {"socket AF_NETLINK", try_netlink},
    {"socket AF_PACKET", try_packet},
    {"socket AF_VSOCK", try_vsock},
    {"socket AF_ALG", try_alg},
    {"execve", try_execve},
    {"execveat", try_execveat},
    {"memfd_create", try_memfd},
    {"mknod", try_mknod},
    {"setuid", try_setuid},
    {"setgid", try_setgid},
    {"setgroups", try_setgroups},
    {"capset", try_capset},
    {"personality", try_personality},
    {"load a kernel module", try_module},
    {"kexec_load", try_kexec},
    {"swapon", try_swapon},
    {"reboot", try_reboot},
    {"read the kernel's log", try_kernel_log},
    {"set the clock", try_clock},
    {"sethostname", try_hostname},
    {"TIOCSTI", try_tiocsti},
    {"map memory writable and executable", try_write_exec},
    {"execute a file written here", try_exec_mapping},
    {"open /proc", try_proc},
    {"open /etc/passwd", try_accounts},
    {"write into the root", try_write_root},
    {"raise the limit of open files", try_more_files},
    {"hold a capability", has_no_capability},
    {"gain privileges by exec", has_no_new_privileges},
    {"inherit a descriptor", has_no_extra_descriptor},
};

int
hf_self_test(void)
{
    int allowed = 0;
    for (size_t i = 0; i < HF_LENGTH(attempts); i++) {
        errno = 0;
        if (attempts[i].attempt()) {
            printf("refused %s: %s\n", attempts[i].name, strerror(errno));
        } else {
            printf("ALLOWED %s\n", attempts[i].name);
            allowed++;
        }
    }
    printf("done %zu\n", HF_LENGTH(attempts));
    fflush(stdout);
    return allowed > 100 ? 100 : allowed;
}

static bool
try_mount(void)
{
    return refused_with(syscall(SYS_mount, "probe", "/tmp", "tmpfs", 0, NULL));
}

static bool
try_umount(void)
{
    return refused_with(syscall(SYS_umount2, "/tmp", 0));
}

static bool
try_pivot_root(void)
{
    return refused_with(syscall(SYS_pivot_root, ".", "."));
}

static bool
try_open_tree(void)
{
    return refused_with(syscall(SYS_open_tree, -100, "/", 1));
}

static bool
try_fsopen(void)
{
    return refused_with(syscall(SYS_fsopen, "tmpfs", 0));
}

static bool
try_move_mount(void)
{
    return refused_with(syscall(SYS_move_mount, -100, "/tmp", -100, "/", 0)) && errno != EINVAL;
}

static bool
try_chroot(void)
{
    return refused_with(syscall(SYS_chroot, "/"));
}

static bool
try_unshare_user(void)
{
    return refused_with(syscall(SYS_unshare, CLONE_NEWUSER));
}

static bool
try_unshare_mount(void)
{
    return refused_with(syscall(SYS_unshare, CLONE_NEWNS));
}

static bool
try_clone_user(void)
{
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);
    if (pid == 0)
        _exit(0);
    return refused_with(pid);
}

static bool
try_clone3(void)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
    } arguments = {.exit_signal = SIGCHLD};
    long pid = syscall(SYS_clone3, &arguments, sizeof arguments);
    if (pid == 0)
        _exit(0);
    return refused_with(pid);
}

static bool
try_setns(void)
{
    return refused_with(syscall(SYS_setns, 0, 0)) && errno == EPERM;
}

static bool
try_ptrace(void)
{
    return refused_with(syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL));
}

static bool
try_read_process(void)
{
    return refused_with(syscall(SYS_process_vm_readv, getppid(), NULL, 0, NULL, 0, 0));
}

static bool
try_bpf(void)
{
    return refused_with(syscall(SYS_bpf, 0, NULL, 0)) && errno == EPERM;
}

static bool
try_perf(void)
{
    return refused_with(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0)) && errno == EPERM;
}

static bool
try_userfaultfd(void)
{
    return refused_with(syscall(SYS_userfaultfd, 1 /* for user mode only: needs no privilege */));
}

static bool
try_keyctl(void)
{
    return refused_with(syscall(SYS_keyctl, 0, -3, 1));
}

static bool
try_add_key(void)
{
    return refused_with(syscall(SYS_add_key, "user", "probe", "x", 1, -3));
}

static bool
try_io_uring(void)
{
    char room[256] = {0};
    return refused_with(syscall(SYS_io_uring_setup, 4, room));
}

static bool
try_handle(void)
{
    return refused_with(syscall(SYS_open_by_handle_at, -100, NULL, 0)) && errno == EPERM;
}

static bool
try_inet(void)
{
    return try_socket(AF_INET, SOCK_STREAM);
}

static bool
try_inet6(void)
{
    return try_socket(AF_INET6, SOCK_STREAM);
}

static bool
try_netlink(void)
{
    return try_socket(AF_NETLINK, SOCK_RAW);
}

static bool
try_packet(void)
{
    return try_socket(AF_PACKET, SOCK_RAW);
}

static bool
try_vsock(void)
{
    return try_socket(AF_VSOCK, SOCK_STREAM);
}

static bool
try_alg(void)
{
    return try_socket(AF_ALG, SOCK_SEQPACKET);
}

static bool
try_execve(void)
{
    char *const none[] = {NULL};
    return refused_with(syscall(SYS_execve, "/lib/libc.so.6", none, none)) && errno == EPERM;
}

static bool
try_execveat(void)
{
    char *const none[] = {NULL};
    return refused_with(syscall(SYS_execveat, 0, "", none, none, AT_EMPTY_PATH)) && errno == EPERM;
}

static bool
try_memfd(void)
{
    return refused_with(syscall(SYS_memfd_create, "probe", 0));
}

static bool
try_mknod(void)
{
    return refused_with(syscall(SYS_mknodat, -100, "/tmp/device", S_IFBLK | 0600, 0x700));
}

static bool
try_setuid(void)
{
    return refused_with(syscall(SYS_setuid, getuid()));
}

static bool
try_setgid(void)
{
    return refused_with(syscall(SYS_setgid, getgid()));
}

static bool
try_setgroups(void)
{
    return refused_with(syscall(SYS_setgroups, 0, NULL));
}

static bool
try_capset(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    return refused_with(syscall(SYS_capset, &header, none));
}

static bool
try_personality(void)
{
    return refused_with(syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */));
}

static bool
try_module(void)
{
    return refused_with(syscall(SYS_finit_module, 0, "", 0));
}

static bool
try_kexec(void)
{
    return refused_with(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static bool
try_swapon(void)
{
    return refused_with(syscall(SYS_swapon, "/tmp/swap", 0)) && errno == EPERM;
}

static bool
try_reboot(void)
{
    return refused_with(syscall(SYS_reboot, 0, 0, 0, NULL)); // without its magic numbers it can do no harm
}

static bool
try_kernel_log(void)
{
    return refused_with(syscall(SYS_syslog, 10 /* size of the log */, NULL, 0));
}

static bool
try_clock(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    return refused_with(syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
}

static bool
try_hostname(void)
{
    return refused_with(syscall(SYS_sethostname, "probe", 5));
}

static bool
try_tiocsti(void)
{
    return refused_with(ioctl(0, TIOCSTI, "x")) && errno == EPERM;
}

static bool
try_write_exec(void)
{
    return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
}

static bool
try_exec_mapping(void)
{
    int fd = open("/tmp/code", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700);
    if (fd < 0)
        return errno == EACCES || errno == EROFS; // nothing can be written there at all
    bool refused =
        ftruncate(fd, 4096) == 0 && mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED;
    close(fd);
    return refused;
}

static bool
try_proc(void)
{
    return refused_with(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
}

static bool
try_accounts(void)
{
    return refused_with(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static bool
try_write_root(void)
{
    return refused_with(open("/probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static bool
try_more_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return false;
    files.rlim_cur = files.rlim_max = files.rlim_max + 1;
    return refused_with(setrlimit(RLIMIT_NOFILE, &files));
}

static bool
has_no_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct held[2] = {{0}};
    if (syscall(SYS_capget, &header, held) != 0)
        return false;
    for (int i = 0; i < 2; i++) {
        if (held[i].effective != 0 || held[i].permitted != 0 || held[i].inheritable != 0)
            return false;
    }
    return true;
}

static bool
has_no_new_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

static bool
has_no_extra_descriptor(void)
{
    for (int fd = 3; fd < 70000; fd++) {
        if (fcntl(fd, F_GETFD) >= 0)
            return false;
    }
    errno = 0;
    return true;
}

static bool
try_socket(int family, int type)
{
    return refused_with(socket(family, type | SOCK_CLOEXEC, 0)) && errno == EAFNOSUPPORT;
}

static bool
refused_with(long result)
{
    return result < 0;
}
