/*
 * Every attempt of tests/escape/inside.c as a test of its own.  They are made once, in one sandbox; the last tests
 * make the harmless ones on the bare host, where they succeed: what is refused inside is refused by us.
 */
#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/escape/prisoner.h"
#include "tests/sandbox/restored.h"
#include "base/file.h"

static struct hf_buf answers = {.limit = HF_MIB};

static const char *host_secret(void);
static const char *host_socket(void);
static void make_attempts(void);
static void assert_refused(const char *name);
static const char *answer_to(const char *answers_text, const char *name);

/* The number is that of the list in README.md. */
#define REFUSED(number, sentence, name)                                                                                \
    HF_TEST(case_##number##_##sentence)                                                                                \
    {                                                                                                                  \
        assert_refused(name);                                                                                          \
    }

REFUSED(01a, a_file_of_the_host_cannot_be_read, "read a file of the host")
REFUSED(01b, the_shadow_file_cannot_be_read, "read /etc/shadow")
REFUSED(02a, dots_do_not_lead_out, "walk up with ..")
REFUSED(02b, a_link_does_not_lead_out, "follow a link of its own")
REFUSED(03, no_descriptor_leaks_in, "use a leaked descriptor")
REFUSED(04, a_chroot_cannot_be_broken, "break out of a chroot")
REFUSED(05, the_old_root_cannot_be_pivoted_back, "pivot back")
REFUSED(06a, proc_cannot_be_mounted, "mount proc")
REFUSED(06b, an_overlay_cannot_be_mounted, "mount overlay")
REFUSED(06c, a_folder_cannot_be_bound, "mount bind")
REFUSED(06d, nothing_can_be_mounted_by_descriptor, "mount by descriptor")
REFUSED(07a, the_root_cannot_be_made_writable, "remount writable")
REFUSED(07b, the_root_cannot_be_written, "write into the root")
REFUSED(07c, programs_and_libraries_cannot_be_written, "write into a program")
REFUSED(08a, no_block_device_can_be_made, "make a block device")
REFUSED(08b, no_character_device_can_be_made, "make a character device")
REFUSED(09, no_disk_of_the_host_can_be_opened, "open a disk of the host")
REFUSED(10, no_file_can_be_opened_by_handle, "open by handle")
REFUSED(11, no_namespace_can_be_entered, "enter a namespace")
REFUSED(12a, no_user_namespace_can_be_unshared, "unshare a user namespace")
REFUSED(12b, no_user_namespace_can_be_cloned, "clone a user namespace")
REFUSED(12c, clone3_does_not_exist, "clone3 a user namespace")
REFUSED(12d, no_other_namespace_can_be_made, "unshare other namespaces")
REFUSED(13a, the_parent_cannot_be_traced, "trace the parent")
REFUSED(13b, not_even_a_child_can_be_traced, "trace a child")
REFUSED(13c, memory_of_the_parent_cannot_be_read, "read the parent's memory")
REFUSED(14a, init_survives_its_signals, "signal init")
REFUSED(14b, processes_of_the_host_cannot_be_signalled, "signal a process of the host")
REFUSED(15, processes_of_the_host_cannot_be_seen, "see processes")
REFUSED(16, the_uid_map_cannot_be_written_again, "write the uid map")
REFUSED(17a, it_cannot_become_root, "become root")
REFUSED(17b, it_cannot_regain_capabilities, "regain capabilities")
REFUSED(17c, it_holds_no_capability, "hold a capability")
REFUSED(18a, no_setuid_program_can_be_executed, "execute a setuid program")
REFUSED(18b, nothing_can_be_executed_by_descriptor, "execute by descriptor")
REFUSED(18c, the_descriptor_of_the_program_cannot_be_made_again, "reuse the descriptor of the program")
REFUSED(19, a_file_cannot_be_given_capabilities, "give a file capabilities")
REFUSED(18d, no_file_can_be_made_that_runs_as_its_owner, "make a setuid file")
REFUSED(20, no_file_in_memory_can_be_made, "make a file in memory")
REFUSED(21a, no_code_runs_from_the_data, "run code from /data")
REFUSED(21b, no_code_runs_from_tmp, "run code from /tmp")
REFUSED(21c, no_code_runs_from_shared_memory, "run code from /dev/shm")
REFUSED(21d, no_library_is_loaded_from_the_data, "load a library from /data")
REFUSED(22, memory_is_never_writable_and_executable, "map memory writable and executable")
REFUSED(23, there_is_no_io_uring, "use io_uring")
REFUSED(24a, no_bpf_program_can_be_loaded, "load a bpf program")
REFUSED(24b, no_perf_events_can_be_opened, "open perf events")
REFUSED(24c, no_page_faults_can_be_handled, "handle page faults")
REFUSED(25, the_session_keyring_is_closed, "read the session keyring")
REFUSED(26, nothing_can_be_typed_into_a_terminal, "type into a terminal")
REFUSED(27, there_is_no_terminal, "open a terminal")
REFUSED(28, core_pattern_cannot_be_written, "write core_pattern")
REFUSED(29, sysrq_cannot_be_triggered, "trigger sysrq")
REFUSED(30, control_groups_are_out_of_reach, "reach control groups")
REFUSED(40, there_is_no_tcp, "open a TCP socket")
REFUSED(41a, there_is_no_udp, "open a UDP socket")
REFUSED(41b, there_is_no_icmp, "open an ICMP socket")
REFUSED(42a, there_is_no_netlink, "open a netlink socket")
REFUSED(42b, there_are_no_packet_sockets, "open a packet socket")
REFUSED(42c, there_is_no_vsock, "open a vsock socket")
REFUSED(42d, there_is_no_crypto_socket, "open a crypto socket")
REFUSED(42e, high_bits_of_a_family_do_not_help, "name a family with high bits")
REFUSED(43, an_abstract_socket_of_the_host_is_out_of_reach, "connect to an abstract socket of the host")
REFUSED(47, another_uid_cannot_be_claimed, "claim another uid over a socket")
REFUSED(48, the_time_cannot_be_set, "set the time")
REFUSED(49, the_host_cannot_be_renamed, "rename the host")
REFUSED(50, the_clock_cannot_be_adjusted, "adjust the clock")
REFUSED(x1, kernel_modules_cannot_be_loaded, "load a kernel module")
REFUSED(x2, its_limits_cannot_be_raised, "raise its limits")
REFUSED(x3, it_cannot_become_urgent, "become urgent")

HF_TEST(every_attempt_was_made_and_none_is_without_a_test)
{
    make_attempts();
    unsigned refused = 0, done = 0;
    for (const char *line = hf_buf_text(&answers); line != NULL && *line != '\0';) {
        refused += strncmp(line, "refused ", 8) == 0;
        (void)sscanf(line, "done %u", &done);
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    assert_int_equal(done, 70);
    assert_int_equal(refused, done);
}

HF_TEST(the_harmless_attempts_succeed_on_the_bare_host)
{
    static const char *const possible[] = {"read a file of the host",
                                           "walk up with ..",
                                           "trace a child",
                                           "see processes",
                                           "make a file in memory",
                                           "map memory writable and executable",
                                           "open a TCP socket",
                                           "open a UDP socket",
                                           "open a netlink socket",
                                           "name a family with high bits",
                                           "connect to an abstract socket of the host"};
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    const char *const argv[] = {hf_test_prisoner_program(), "harmless", host_secret(), host_socket(), pid, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&options, NULL, 0, 20000, &output, NULL, &status, &err), &err);
    for (size_t i = 0; i < HF_LENGTH(possible); i++) {
        const char *answer = answer_to(hf_buf_text(&output), possible[i]);
        if (strncmp(answer, "ALLOWED", 7) != 0)
            fail_msg("on the bare host as well: %.100s", answer);
    }
}

/* Readable by everyone, at the end of a path that everyone can walk: only the sandbox keeps it away. */
static const char *
host_secret(void)
{
    static char path[128];
    if (path[0] != '\0')
        return path;
    struct hf_error err;
    snprintf(path, sizeof path, "%s/secret", hf_test_folder());
    hf_assert_ok(hf_file_publish(path, "key", 3, 0644, HF_PUBLISH_EXCLUSIVE, &err), &err);
    return path;
}

static const char *
host_socket(void)
{
    static char name[64];
    if (name[0] != '\0')
        return name;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(name, sizeof name, "holdfast-test-%d", (int)getpid());
    memcpy(address.sun_path + 1, name, strlen(name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); // open as long as the tests run
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) != 0 || listen(fd, 8) != 0)
        fail_msg("no socket for the prisoner to look for: %s", strerror(errno));
    return name;
}

static void
make_attempts(void)
{
    if (answers.length > 0)
        return;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    const char *const arguments[] = {"attempts", host_secret(), host_socket(), pid, NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_start(&spec, &sandbox, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_copy(sandbox, &answers, &err), &err);
}

static void
assert_refused(const char *name)
{
    make_attempts();
    const char *answer = answer_to(hf_buf_text(&answers), name);
    if (strncmp(answer, "refused", 7) != 0)
        fail_msg("%.100s", answer);
}

static const char *
answer_to(const char *answers_text, const char *name)
{
    for (const char *line = answers_text; line != NULL && *line != '\0';) {
        size_t length = strlen(name);
        bool answers_us = strncmp(line, "refused ", 8) == 0 || strncmp(line, "ALLOWED ", 8) == 0;
        if (answers_us && strncmp(line + 8, name, length) == 0 && (line[8 + length] == ':' || line[8 + length] == '\n'))
            return line;
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    return "the attempt was not made";
}
