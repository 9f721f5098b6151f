#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/time.h"

#define OPTIONS(...)                                                                                                   \
    (struct hf_process_options)                                                                                        \
    {                                                                                                                  \
        .argv = (const char *const[]){__VA_ARGS__, NULL}, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1             \
    }

/* What a shell script prints; the script is ours, and the shell is only here in the tests. */
static const char *
printed(const struct hf_process_options *options)
{
    static char text[HF_KIB];
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(sizeof text - 1);
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(options, NULL, 0, 10000, &output, NULL, &status, &err), &err);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    snprintf(text, sizeof text, "%s", hf_buf_text(&output));
    return text;
}

static bool
is_gone(pid_t pid)
{
    for (int i = 0; i < 500; i++) {
        if (kill(pid, 0) != 0 && errno == ESRCH)
            return true;
        usleep(10000);
    }
    return false;
}

HF_TEST(a_program_runs_and_its_status_is_the_callers)
{
    struct hf_process_options options = OPTIONS("sh", "-c", "exit 7");
    struct hf_process process = HF_PROCESS_NONE;
    struct hf_error err;
    bool ended;
    int status;
    hf_assert_ok(hf_process_start(&options, &process, &err), &err);
    hf_assert_ok(hf_process_wait(&process, -1, &ended, &status, &err), &err);
    assert_true(ended);
    assert_int_equal(WEXITSTATUS(status), 7);
    assert_int_equal(process.pid, -1);
    assert_false(hf_process_wait(&process, 0, &ended, &status, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_false(hf_process_signal(&process, SIGTERM));
}

HF_TEST(a_program_that_cannot_be_executed_fails_in_the_parent_by_name)
{
    struct hf_process process = HF_PROCESS_NONE;
    struct hf_error err;
    struct hf_process_options missing = OPTIONS("/no/such/program");
    assert_false(hf_process_start(&missing, &process, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_string_equal(err.message, "could not start \"/no/such/program\": No such file or directory");

    struct hf_process_options unknown = OPTIONS("no-such-program-in-path");
    assert_false(hf_process_start(&unknown, &process, &err));
    assert_string_equal(err.message, "could not find the program \"no-such-program-in-path\" in PATH");

    struct hf_process_options no_program = OPTIONS("/etc/passwd");
    assert_false(hf_process_start(&no_program, &process, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);

    struct hf_process_options nowhere = OPTIONS("true");
    nowhere.directory = "/no/such/folder";
    assert_false(hf_process_start(&nowhere, &process, &err));
    assert_string_equal(err.message,
                        "could not start \"true\" in folder \"/no/such/folder\": No such file or directory");
    assert_int_equal(process.pid, -1);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); // and no child is left
    assert_int_equal(errno, ECHILD);
}

HF_TEST(waiting_ends_at_the_timeout_and_killing_reaps)
{
    struct hf_process_options options = OPTIONS("sleep", "60");
    struct hf_process process = HF_PROCESS_NONE;
    struct hf_error err;
    bool ended = true;
    int status;
    hf_assert_ok(hf_process_start(&options, &process, &err), &err);
    uint64_t before = hf_monotonic_ns();
    hf_assert_ok(hf_process_wait(&process, 50, &ended, &status, &err), &err);
    assert_false(ended);
    assert_in_range((hf_monotonic_ns() - before) / 1000000, 49, 5000);

    pid_t pid = process.pid;
    hf_process_kill(&process);
    assert_int_equal(process.pid, -1);
    assert_int_equal(kill(pid, 0), -1);
    hf_process_kill(&process); // NONE is fine
}

HF_TEST(a_signal_reaches_the_program_and_shows_in_the_status)
{
    struct hf_process_options options = OPTIONS("sleep", "60");
    _cleanup_(hf_process_kill) struct hf_process process = HF_PROCESS_NONE;
    struct hf_error err;
    bool ended;
    int status;
    hf_assert_ok(hf_process_start(&options, &process, &err), &err);
    assert_true(hf_process_signal(&process, SIGTERM));
    hf_assert_ok(hf_process_wait(&process, 10000, &ended, &status, &err), &err);
    assert_true(ended && WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
}

HF_TEST(the_environment_is_ours_and_nothing_of_the_parents)
{
    setenv("HF_TEST_SECRET", "do not pass on", 1);
    struct hf_process_options usual = OPTIONS("env");
    char expected[8 * HF_KIB];
    snprintf(expected, sizeof expected, "PATH=%s\nLANG=C.UTF-8\nTZ=UTC\n", getenv("PATH"));
    assert_string_equal(printed(&usual), expected);

    struct hf_process_options chosen = OPTIONS("env");
    chosen.environment = (const char *const[]){"A=1", "B=two words", NULL};
    assert_string_equal(printed(&chosen), "A=1\nB=two words\n");
    unsetenv("HF_TEST_SECRET");
}

HF_TEST(arguments_reach_the_program_as_they_are)
{
    struct hf_process_options options = OPTIONS("printf", "[%s]", "a b", "$HOME", "; rm x", "*", "");
    assert_string_equal(printed(&options), "[a b][$HOME][; rm x][*][]");
}

HF_TEST(the_program_starts_in_its_folder)
{
    struct hf_process_options options = OPTIONS("pwd");
    options.directory = "/usr/bin";
    assert_string_equal(printed(&options), "/usr/bin\n");
}

HF_TEST(no_descriptor_passes_but_those_named)
{
    // Without O_CLOEXEC, as a careless library would open them.
    int careless[3];
    for (size_t i = 0; i < 3; i++)
        careless[i] = open("/dev/null", O_RDONLY);
    struct hf_process_options options = OPTIONS("ls", "/proc/self/fd");
    assert_string_equal(printed(&options), "0\n1\n2\n3\n"); // 3 is ls reading the folder

    int high = fcntl(careless[0], F_DUPFD, 700);
    const int passed[][2] = {{high, 5}};
    options.pass_fds = passed;
    options.pass_fd_count = 1;
    assert_string_equal(printed(&options), "0\n1\n2\n3\n5\n");
    close(high);
    for (size_t i = 0; i < 3; i++)
        close(careless[i]);
}

HF_TEST(descriptors_that_trade_places_arrive_right)
{
    int one[2], two[2];
    assert_int_equal(pipe2(one, O_CLOEXEC), 0);
    assert_int_equal(pipe2(two, O_CLOEXEC), 0);
    int first = fcntl(one[1], F_DUPFD_CLOEXEC, 8), second = fcntl(two[1], F_DUPFD_CLOEXEC, 9);
    const int crossed[][2] = {{first, second}, {second, first}};

    char script[128];
    snprintf(script, sizeof script, "printf one >/dev/fd/%d; printf two >/dev/fd/%d", second, first);
    struct hf_process_options options = OPTIONS("sh", "-c", script);
    options.pass_fds = crossed;
    options.pass_fd_count = 2;
    assert_string_equal(printed(&options), "");

    char text[8] = "";
    assert_int_equal(read(one[0], text, sizeof text), 3);
    assert_memory_equal(text, "one", 3);
    assert_int_equal(read(two[0], text, sizeof text), 3);
    assert_memory_equal(text, "two", 3);
    const int all[] = {one[0], one[1], two[0], two[1], first, second};
    for (size_t i = 0; i < HF_LENGTH(all); i++)
        close(all[i]);
}

HF_TEST(descriptors_arrive_right_on_numbers_that_are_free_with_us)
{
    int pipes[6][2], passed[6][2];
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
        passed[i][0] = fcntl(pipes[i][1], F_DUPFD_CLOEXEC, 40);
        passed[i][1] = 16 - i;
    }
    for (int i = 0; i < 6; i++) {
        int kept = fcntl(pipes[i][0], F_DUPFD_CLOEXEC, 40);
        close(pipes[i][0]);
        close(pipes[i][1]);
        pipes[i][0] = kept;
    }

    struct hf_process_options options =
        OPTIONS("sh", "-c", "for i in 0 1 2 3 4 5; do printf $i >/dev/fd/$((16 - i)); done");
    options.pass_fds = (const int(*)[2])passed;
    options.pass_fd_count = 6;
    assert_string_equal(printed(&options), "");
    for (int i = 0; i < 6; i++) {
        char digit = 0;
        close(passed[i][0]);
        assert_int_equal(read(pipes[i][0], &digit, 1), 1);
        assert_int_equal(digit, '0' + i);
        close(pipes[i][0]);
    }
}

HF_TEST(more_descriptors_than_fit_are_refused)
{
    struct hf_process_options options = OPTIONS("true");
    struct hf_process process = HF_PROCESS_NONE;
    struct hf_error err;
    const int passed[HF_PROCESS_MOST_FDS + 1][2] = {{0, 3}};
    options.pass_fds = passed;
    options.pass_fd_count = HF_LENGTH(passed);
    assert_false(hf_process_start(&options, &process, &err));
    assert_string_equal(err.message, "cannot pass 17 descriptors to \"true\": at most 16");
}

HF_TEST(signals_start_unblocked_and_with_their_default)
{
    sigset_t term, before;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &term, &before);
    signal(SIGPIPE, SIG_IGN);

    struct hf_process_options options = OPTIONS("grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status");
    assert_string_equal(printed(&options), "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");

    sigset_t now;
    pthread_sigmask(SIG_SETMASK, &before, &now);
    assert_true(sigismember(&now, SIGTERM)); // ours were put back
    assert_false(sigismember(&now, SIGUSR1));
    signal(SIGPIPE, SIG_DFL);
}

/* A parent that starts a child, tells its pid through a pipe and is killed; the answer is the grandchild's pid. */
static pid_t
orphan(bool outlives)
{
    int tell[2];
    assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct hf_process_options options = OPTIONS("sleep", "60");
        struct hf_process process;
        options.outlives_us = outlives;
        if (!hf_process_start(&options, &process, NULL) ||
            write(tell[1], &process.pid, sizeof process.pid) != sizeof process.pid)
            _exit(1);
        pause();
    }
    pid_t child = -1;
    assert_int_equal(read(tell[0], &child, sizeof child), sizeof child);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    close(tell[0]);
    close(tell[1]);
    return child;
}

HF_TEST(a_child_dies_with_us_unless_it_is_to_outlive_us)
{
    // Orphans come to us, so that they can be reaped and seen to be gone.
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = orphan(false);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);

    child = orphan(true);
    usleep(50000);
    assert_int_equal(waitpid(child, &status, WNOHANG), 0);
    assert_int_equal(getsid(child), child);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(is_gone(child));
}

HF_TEST(a_child_becomes_another_user_without_extra_groups)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can become another user");
    gid_t before[64];
    const gid_t extra[] = {1, 2};
    int count = getgroups(64, before);
    assert_int_equal(setgroups(2, extra), 0);
    struct hf_process_options options = OPTIONS("sh", "-c", "id -u; id -g; id -G");
    options.become = true;
    options.uid = 65534;
    options.gid = 65533;
    assert_string_equal(printed(&options), "65534\n65533\n65533\n");
    assert_int_equal(setgroups((size_t)count, before), 0);
}

HF_TEST(the_death_signal_survives_the_change_of_user)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can become another user");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    int tell[2];
    assert_int_equal(pipe2(tell, O_CLOEXEC), 0);
    pid_t parent = fork();
    if (parent == 0) {
        struct hf_process_options options = OPTIONS("sleep", "60");
        struct hf_process process;
        options.become = true;
        options.uid = options.gid = 65534;
        if (!hf_process_start(&options, &process, NULL) ||
            write(tell[1], &process.pid, sizeof process.pid) != sizeof process.pid)
            _exit(1);
        pause();
    }
    pid_t child = -1;
    assert_int_equal(read(tell[0], &child, sizeof child), sizeof child);
    kill(parent, SIGKILL);
    waitpid(parent, NULL, 0);
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    close(tell[0]);
    close(tell[1]);
}

HF_TEST(input_is_fed_and_both_outputs_are_collected)
{
    struct hf_process_options options = OPTIONS("sh", "-c", "cat; echo problem >&2; exit 3");
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(4 * HF_MIB), errors = HF_BUF_INIT(HF_KIB);
    static char input[3 * 1024 * 1024];
    struct hf_error err;
    int status;
    memset(input, 'i', sizeof input);
    hf_assert_ok(hf_process_run(&options, input, sizeof input, 20000, &output, &errors, &status, &err), &err);
    assert_int_equal(WEXITSTATUS(status), 3);
    assert_int_equal(output.length, sizeof input);
    assert_memory_equal(output.data, input, sizeof input);
    assert_string_equal(hf_buf_text(&errors), "problem\n");
}

HF_TEST(output_over_its_limit_is_dropped_and_the_program_goes_on)
{
    struct hf_process_options options = OPTIONS("sh", "-c", "head -c 1000000 /dev/zero | tr '\\0' x; exit 4");
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(1000);
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&options, NULL, 0, 20000, &output, NULL, &status, &err), &err);
    assert_int_equal(WEXITSTATUS(status), 4);
    assert_int_equal(output.length, 1000);
}

HF_TEST(a_program_that_does_not_read_its_input_does_no_harm)
{
    struct hf_process_options options = OPTIONS("true");
    static char input[1024 * 1024];
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&options, input, sizeof input, 20000, NULL, NULL, &status, &err), &err);
    assert_int_equal(status, 0);
}

HF_TEST(a_program_over_its_time_is_killed_and_named)
{
    struct hf_process_options options = OPTIONS("sleep", "60");
    struct hf_process_options endless = OPTIONS("cat", "/dev/zero");
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(1000);
    struct hf_error err;
    int status;
    assert_false(hf_process_run(&options, NULL, 0, 100, NULL, NULL, &status, &err));
    assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
    assert_string_equal(err.message, "\"sleep\" did not end within 100 ms and was killed");
    assert_false(hf_process_run(&endless, NULL, 0, 100, &output, NULL, &status, &err));
    assert_string_equal(err.message, "\"cat\" did not end within 100 ms and was killed");
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

HF_TEST(a_grandchild_that_keeps_the_pipe_does_not_keep_us)
{
    struct hf_process_options options = OPTIONS("sh", "-c", "sleep 30 & echo $!");
    uint64_t before = hf_monotonic_ns();
    pid_t grandchild = (pid_t)atoi(printed(&options));
    assert_true((hf_monotonic_ns() - before) / 1000000 < 9000);
    assert_true(grandchild > 1);
    kill(grandchild, SIGKILL);
    waitpid(grandchild, NULL, 0); // we are its subreaper by now
}
