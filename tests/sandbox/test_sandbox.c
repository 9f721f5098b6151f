#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/escape/prisoner.h"
#include "tests/sandbox/restored.h"
#include "base/file.h"

struct heard {
    char lines[4][64];
    size_t count;
};

static struct hf_sandbox *start(const struct hf_sandbox_spec *spec);
static void hear(void *context, const char *line);
static json_t *report_of(struct hf_sandbox *sandbox);
static bool names(const json_t *report, const char *list, const char *layer);
static json_t *probe(unsigned without, enum hf_sandbox_level lowest, bool *ret_holds);
static pid_t fork_caller(const struct hf_sandbox_spec *spec);
static void assert_dies_with_its_caller(const struct hf_sandbox_spec *spec);
static pid_t only_child(void);

HF_TEST(its_exit_status_comes_back)
{
    const char *const arguments[] = {"exit", "7", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start(&spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 10000, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_EXITED);
    assert_int_equal(end.exit_code, 7);
    assert_int_equal(end.signal, 0);
}

HF_TEST(a_crash_comes_back_as_its_signal)
{
    const char *const arguments[] = {"crash", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start(&spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 10000, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_EXITED);
    assert_int_equal(end.exit_code, -1);
    assert_int_equal(end.signal, SIGABRT);
}

HF_TEST(each_log_line_is_heard_and_can_be_found_afterwards)
{
    const char *const arguments[] = {"say", "first\nsecond one\nthird", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct heard heard = {.count = 0};
    struct hf_error err;
    uint64_t position = 0;
    bool found;
    _cleanup_(hf_buf_done) struct hf_buf line = HF_BUF_INIT(HF_KIB);
    spec.on_line = hear;
    spec.context = &heard;
    struct hf_sandbox *sandbox = start(&spec);
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "one", &position, 10000, &line, &found, &err), &err);
    assert_true(found);
    assert_string_equal(hf_buf_text(&line), "second one");
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "first", &position, 100, NULL, &found, &err), &err);
    assert_false(found);
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "third", &position, 10000, NULL, &found, &err), &err);
    assert_true(found);
    hf_sandbox_freep(&sandbox);
    assert_int_equal(heard.count, 3);
    assert_string_equal(heard.lines[0], "first");
    assert_string_equal(heard.lines[2], "third");
}

HF_TEST(the_report_names_the_level_the_layers_and_the_cost)
{
    const char *const arguments[] = {"daemons", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start(&spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    _cleanup_(hf_json_freep) json_t *early = report_of(sandbox);
    assert_string_equal(json_string_value(json_object_get(early, "level")), geteuid() == 0 ? "L3" : "L2");
    assert_string_equal(json_string_value(json_object_get(early, "end")), "running");
    assert_true(json_integer_value(json_object_get(early, "create_us")) > 0);
    assert_true(names(early, "layers", "seccomp"));
    assert_true(names(early, "layers", "private_root"));
    assert_int_equal(json_string_length(json_object_get(early, "seccomp_sha256")), 64);
    assert_true(names(early, "missing", "disk_limit"));

    hf_assert_ok(hf_sandbox_stop(sandbox, &end, &err), &err);
    _cleanup_(hf_json_freep) json_t *late = report_of(sandbox);
    assert_string_equal(json_string_value(json_object_get(late, "end")), "stopped");
    assert_true(json_integer_value(json_object_get(late, "teardown_us")) > 0);
}

HF_TEST(a_probe_holds_at_the_best_level_of_this_host)
{
    bool holds = false;
    _cleanup_(hf_json_freep) json_t *report = probe(0, HF_SANDBOX_L0, &holds);
    assert_true(holds);
    assert_string_equal(json_string_value(json_object_get(report, "level")), geteuid() == 0 ? "L3" : "L2");
    assert_int_equal(json_array_size(json_object_get(report, "attempts")), 53);
}

HF_TEST(a_probe_by_an_ordinary_user_reaches_L2)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("we are an ordinary user: the test before this one was that");
    const struct passwd *nobody = getpwnam("nobody");
    const char *const argv[] = {"/proc/self/exe", "a_probe_holds_at_the_best_level_of_this_host", NULL};
    char program[512];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    assert_true(length > 0 && nobody != NULL);
    program[length] = '\0';
    const char *const arguments[] = {program, argv[1], NULL};
    const struct hf_process_options options = {.argv = arguments,
                                               .stdin_fd = -1,
                                               .stdout_fd = -1,
                                               .stderr_fd = -1,
                                               .uid = nobody->pw_uid,
                                               .gid = nobody->pw_gid,
                                               .become = true};
    _cleanup_(hf_buf_done) struct hf_buf output = HF_BUF_INIT(HF_MIB), errors = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    int status;
    hf_assert_ok(hf_process_run(&options, NULL, 0, 60000, &output, &errors, &status, &err), &err);
    if (status != 0)
        fail_msg("%s%s", hf_buf_text(&output), hf_buf_text(&errors));
}

HF_TEST(a_host_without_the_newer_mount_calls_gets_the_same_walls)
{
    bool holds = false;
    _cleanup_(hf_json_freep) json_t *report = probe(HF_WITHOUT_MOUNT_CALLS, HF_SANDBOX_L0, &holds);
    assert_true(holds);
    assert_string_equal(json_string_value(json_object_get(report, "level")), geteuid() == 0 ? "L3" : "L2");
}

HF_TEST(root_without_user_namespaces_gets_L3r)
{
    bool holds = false;
    if (geteuid() != 0)
        HF_TEST_SKIP("only root gets there");
    _cleanup_(hf_json_freep) json_t *report = probe(HF_WITHOUT_USER_NAMESPACE, HF_SANDBOX_L0, &holds);
    assert_true(holds);
    assert_string_equal(json_string_value(json_object_get(report, "level")), "L3r");
    assert_true(names(report, "missing", "user_namespace"));
}

HF_TEST(missing_layers_are_named)
{
    bool holds = false;
    _cleanup_(hf_json_freep) json_t *report = probe(HF_WITHOUT_LANDLOCK | HF_WITHOUT_CGROUP, HF_SANDBOX_L0, &holds);
    assert_true(holds);
    assert_true(names(report, "missing", "landlock"));
    assert_true(names(report, "missing", "memory_limit"));
    assert_false(names(report, "layers", "landlock"));
}

HF_TEST(without_namespaces_it_refuses_unless_the_caller_allows_L1)
{
    bool holds = false;
    const struct hf_sandbox_spec spec = {.host_uid = hf_test_sandbox_uid(),
                                         .host_gid = hf_test_sandbox_gid(),
                                         .folder = hf_test_run_folder(),
                                         .without = HF_WITHOUT_NAMESPACES};
    json_t *report = NULL;
    struct hf_error err;
    assert_false(hf_sandbox_probe(&spec, &report, &holds, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_non_null(strstr(err.message, "no sandbox of level L2 or better on this host"));
    assert_non_null(strstr(err.hint, "user.max_user_namespaces"));

    report = probe(HF_WITHOUT_NAMESPACES, HF_SANDBOX_L1, &holds);
    assert_true(holds);
    assert_string_equal(json_string_value(json_object_get(report, "level")), "L1");
    assert_true(names(report, "missing", "private_root"));
    json_decref(report);
}

HF_TEST(without_namespaces_and_landlock_it_refuses_always)
{
    const struct hf_sandbox_spec spec = {.host_uid = hf_test_sandbox_uid(),
                                         .host_gid = hf_test_sandbox_gid(),
                                         .folder = hf_test_run_folder(),
                                         .lowest = HF_SANDBOX_L1,
                                         .without = HF_WITHOUT_NAMESPACES | HF_WITHOUT_LANDLOCK};
    json_t *report = NULL;
    bool holds;
    struct hf_error err;
    assert_false(hf_sandbox_probe(&spec, &report, &holds, &err));
    assert_int_equal(err.kind, HF_ERR_DENIED);
    assert_string_equal(err.message, "this host has neither namespaces nor Landlock: that is no sandbox");
    hf_test_nothing_is_left();
}

HF_TEST(root_inside_is_refused)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root could ask for it");
    const char *const arguments[] = {"exit", "0", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    spec.host_uid = 0;
    assert_false(hf_sandbox_start(&spec, &sandbox, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_null(sandbox);
}

HF_TEST(data_of_another_owner_is_refused_by_name)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root has folders of others");
    const char *const arguments[] = {"exit", "0", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    spec.host_uid++;
    assert_false(hf_sandbox_start(&spec, &sandbox, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_non_null(strstr(err.message, spec.data));
    assert_non_null(strstr(err.message, "belongs to uid"));
    hf_test_nothing_is_left();
}

HF_TEST(a_missing_launcher_is_named)
{
    const char *const arguments[] = {"exit", "0", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    spec.launcher = "/nowhere/holdfast-sandbox";
    assert_false(hf_sandbox_start(&spec, &sandbox, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "/nowhere/holdfast-sandbox"));
    hf_test_nothing_is_left();
}

HF_TEST(loopback_and_internet_sockets_are_there_only_when_asked_for)
{
    const char *const arguments[] = {"attempts", "/etc/passwd", "x", "1", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox_exit end;
    struct hf_error err;
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    spec.inet = true;
    spec.loopback = true;
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start(&spec);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_copy(sandbox, &log, &err), &err);
    assert_non_null(strstr(hf_buf_text(&log), "ALLOWED open a TCP socket"));
    assert_non_null(strstr(hf_buf_text(&log), "ALLOWED open a UDP socket"));
    assert_non_null(strstr(hf_buf_text(&log), "refused open a netlink socket"));
    assert_non_null(strstr(hf_buf_text(&log), "refused open a packet socket"));
    assert_non_null(strstr(hf_buf_text(&log), "refused open a vsock socket"));
}

HF_TEST(killing_the_caller_leaves_no_process_mount_folder_or_control_group)
{
    const char *const arguments[] = {"daemons", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    assert_dies_with_its_caller(&spec);
}

HF_TEST(killing_the_caller_leaves_nothing_at_L1_either)
{
    const char *const arguments[] = {"daemons", "", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    spec.without = HF_WITHOUT_NAMESPACES;
    spec.lowest = HF_SANDBOX_L1;
    assert_dies_with_its_caller(&spec);
}

HF_TEST(killing_the_launcher_ends_everything_and_the_next_start_sweeps_its_groups)
{
    const char *const arguments[] = {"daemons", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = start(&spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    assert_true(hf_sandbox_wait_ready(sandbox, 10000));
    kill(only_child(), SIGKILL);
    assert_false(hf_sandbox_wait_exit(sandbox, 10000, &end, &err) && end.end != HF_SANDBOX_BROKEN);
    hf_sandbox_freep(&sandbox);

    const char *const next[] = {"exit", "0", NULL};
    const struct hf_sandbox_spec after = hf_test_prisoner_spec(next);
    sandbox = start(&after);
    hf_sandbox_freep(&sandbox);
    hf_test_nothing_is_left();
}

static struct hf_sandbox *
start(const struct hf_sandbox_spec *spec)
{
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_start(spec, &sandbox, &err), &err);
    return sandbox;
}

static void
hear(void *context, const char *line)
{
    struct heard *heard = context;
    if (heard->count < HF_LENGTH(heard->lines))
        snprintf(heard->lines[heard->count++], sizeof heard->lines[0], "%s", line);
}

static json_t *
report_of(struct hf_sandbox *sandbox)
{
    json_t *report = NULL;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_report(sandbox, &report, &err), &err);
    return report;
}

/* "layers" holds names, "missing" holds objects. */
static bool
names(const json_t *report, const char *list, const char *layer)
{
    size_t at;
    const json_t *entry;
    json_array_foreach(json_object_get(report, list), at, entry)
    {
        const json_t *name = json_is_object(entry) ? json_object_get(entry, "layer") : entry;
        if (strcmp(json_string_value(name), layer) == 0)
            return true;
    }
    return false;
}

static json_t *
probe(unsigned without, enum hf_sandbox_level lowest, bool *ret_holds)
{
    const struct hf_sandbox_spec spec = {.host_uid = hf_test_sandbox_uid(),
                                         .host_gid = hf_test_sandbox_gid(),
                                         .folder = hf_test_run_folder(),
                                         .without = without,
                                         .lowest = lowest};
    json_t *report = NULL, *attempt;
    struct hf_error err;
    size_t at;
    hf_assert_ok(hf_sandbox_probe(&spec, &report, ret_holds, &err), &err);
    json_array_foreach(json_object_get(report, "attempts"), at, attempt)
    {
        if (!json_is_true(json_object_get(attempt, "refused")))
            print_message("# it could %s\n", json_string_value(json_object_get(attempt, "name")));
    }
    return report;
}

/* A process that starts a sandbox, says when it runs, and then only lives. */
static pid_t
fork_caller(const struct hf_sandbox_spec *spec)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct hf_sandbox *sandbox = NULL;
        if (!hf_sandbox_start(spec, &sandbox, NULL) || !hf_sandbox_wait_ready(sandbox, 10000))
            _exit(1);
        (void)!write(ready[1], "r", 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    if (read(ready[0], &byte, 1) != 1)
        fail_msg("the sandbox of the other process did not start");
    close(ready[0]);
    return pid;
}

static void
assert_dies_with_its_caller(const struct hf_sandbox_spec *spec)
{
    pid_t pid = fork_caller(spec);
    if (geteuid() == 0)
        assert_true(hf_test_processes_of(hf_test_sandbox_uid()) > 4);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    hf_test_nothing_is_left();
}

/* The launcher: this program has no other. */
static pid_t
only_child(void)
{
    char path[64], list[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    _cleanup_(hf_closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : read(fd, list, sizeof list - 1);
    int pid = 0, more = 0;
    if (got <= 0 || sscanf(list, "%d %d", &pid, &more) != 1)
        fail_msg("not one child: %s", list);
    return pid;
}
