/*
 * The runner serves an ordinary user, here by a child that gives up root for good: with it his sandboxes are as strong
 * as root's, and whatever he asks for besides is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/escape/prisoner.h"
#include "tests/support/test.h"
#include "base/file.h"
#include "base/process.h"
#include "sandbox/runner.h"
#include "sandbox/uids.h"

#define USER     12345 // nobody has it
#define STRANGER 12346

/* What the user does; its exit code 0 when all is as it should be, else what it wrote to stderr tells. */
typedef void act(void);

static struct hf_process runner = HF_PROCESS_NONE;
static int stop_it[2];
static char place[128], socket_path[160], data[160], sockets[160], programs[160], closed[160];

static bool start_runner(void);
static void as_user(uid_t uid, act *what);
static void must(bool fine, const char *what, const struct hf_error *err);
static void must_be(bool fine, const char *what);
static struct hf_runner *open_runner(void);
static struct hf_sandbox_spec spec_with(struct hf_runner *opened, const char *const *arguments);
static uid_t owner_of(const char *path);
static enum hf_error_kind launch_changed(struct hf_runner *opened, const char *from, const char *to, char *event,
                                         size_t event_bytes);
static bool write_spec(struct hf_runner *opened, struct hf_buf *out);

static void
run_a_sandbox(void)
{
    static const char *const arguments[] = {"say", "", NULL};
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    _cleanup_(hf_json_freep) json_t *report = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    const struct hf_sandbox_spec spec = spec_with(opened, arguments);
    must_be(hf_runner_uid(opened) >= HF_UIDS_FIRST && hf_runner_uid(opened) < HF_UIDS_FIRST + HF_UIDS_COUNT, "the uid");
    for (int i = 0; i < 2; i++) { // one connection serves one after the other
        must(hf_sandbox_start(&spec, &sandbox, &err), "start", &err);
        must(hf_sandbox_wait_exit(sandbox, 20000, &end, &err), "wait", &err);
        must_be(end.end == HF_SANDBOX_EXITED, hf_sandbox_end_name(end.end));
        hf_json_freep(&report);
        must(hf_sandbox_report(sandbox, &report, &err), "report", &err);
        must_be(strcmp(json_string_value(json_object_get(report, "level")), "L3") == 0, "the level");
        hf_sandbox_freep(&sandbox);
        must_be(owner_of(data) == USER, "the owner of the data afterwards");
    }
}

HF_TEST(a_sandbox_of_an_ordinary_user_has_a_uid_of_its_own_and_level_L3)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, run_a_sandbox);
    bool empty;
    struct hf_error err;
    hf_assert_ok(hf_dir_is_empty(sockets, &empty, &err), &err);
    assert_true(empty);
}

static void
break_out(void)
{
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    _cleanup_(hf_json_freep) json_t *report = NULL;
    struct hf_error err;
    bool holds;
    struct hf_sandbox_spec spec = spec_with(opened, NULL);
    spec.data = NULL;
    must(hf_sandbox_probe(&spec, &report, &holds, &err), "probe", &err);
    must_be(holds, "an attempt to break out succeeded");
    must_be(strcmp(json_string_value(json_object_get(report, "level")), "L3") == 0, "the runner was not used");
}

HF_TEST(its_self_test_holds)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, break_out);
}

static void
compare_two(void)
{
    _cleanup_(hf_runner_freep) struct hf_runner *one = open_runner(), *other = open_runner();
    must_be(hf_runner_uid(one) != hf_runner_uid(other), "two at once share a uid");
}

HF_TEST(two_connections_never_share_a_uid)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, compare_two);
}

static void
give_what_is_not_his(void)
{
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    struct hf_error err;
    char path[256];
    must_be(!hf_runner_give(opened, "/etc", &err) && err.kind == HF_ERR_DENIED, "a folder of root was given away");
    must_be(!hf_runner_take(opened, "/etc", &err) && err.kind == HF_ERR_DENIED, "a folder of root was taken");
    must_be(!hf_runner_take(opened, data, &err) && err.kind == HF_ERR_DENIED, "a folder was taken that was not given");
    must(hf_runner_give(opened, data, &err), "give", &err);
    snprintf(path, sizeof path, "%s/his", data);
    must_be(owner_of(path) == hf_runner_uid(opened), "his file was not given");
    snprintf(path, sizeof path, "%s/roots", data);
    must_be(owner_of(path) == 0, "a file of root changed hands");
    snprintf(path, sizeof path, "%s/link", data);
    must_be(owner_of(path) == 0 && owner_of("/etc/passwd") == 0, "a link of root, or what it points at, changed hands");
    must(hf_runner_take(opened, data, &err), "take", &err);
    snprintf(path, sizeof path, "%s/his", data);
    must_be(owner_of(path) == USER, "his file did not come back");
    snprintf(path, sizeof path, "%s/roots", data);
    must_be(owner_of(path) == 0, "a file of root was handed to him");
}

HF_TEST(only_what_is_his_changes_hands_and_it_comes_back)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    struct hf_error err;
    char path[256];
    snprintf(path, sizeof path, "%s/roots", data);
    hf_assert_ok(hf_file_publish(path, "x", 1, 0600, HF_PUBLISH_REPLACE, &err), &err);
    snprintf(path, sizeof path, "%s/his", data);
    hf_assert_ok(hf_file_publish(path, "x", 1, 0600, HF_PUBLISH_REPLACE, &err), &err);
    assert_int_equal(chown(path, USER, USER), 0);
    snprintf(path, sizeof path, "%s/link", data);
    assert_int_equal(symlink("/etc/passwd", path), 0);
    assert_int_equal(chmod(data, 0755), 0); // so that he still sees what has become of them
    as_user(USER, give_what_is_not_his);
}

static void
ask_for_more(void)
{
    static const struct {
        const char *from, *to;
    } rows[] = {{"\"lowest\":\"L3\"", "\"lowest\":\"L2\""},
                {"\"lowest\":\"L3\"", "\"lowest\":\"L3r\""},
                {"\"without\":[]", "\"without\":[\"landlock\"]"},
                {"\"remove\":\"\"", "\"remove\":\"/etc\""},
                {"\"cgroup\":\"\"", "\"cgroup\":\"/elsewhere\""},
                {"\"memory_bytes\":1048576", "\"memory_bytes\":0"},
                {"\"processes\":8", "\"processes\":0"},
                {"\"wall_ms\":5000", "\"wall_ms\":0"},
                {"\"host_uid\":", "\"host_uid\":1"},
                {"\"host_gid\":", "\"host_gid\":1"}};
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    char event[4096];
    for (size_t i = 0; i < HF_LENGTH(rows); i++) {
        const enum hf_error_kind kind = launch_changed(opened, rows[i].from, rows[i].to, event, sizeof event);
        must_be(kind != HF_ERR_NONE, rows[i].to);
    }
    must_be(launch_changed(opened, "", "", event, sizeof event) == HF_ERR_NONE, "an honest spec was refused");
}

HF_TEST(a_spec_that_asks_for_more_or_for_fewer_walls_is_refused)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, ask_for_more);
}

static void
reach_into_a_closed_folder(void)
{
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    char event[4096], entry[512];
    snprintf(entry, sizeof entry, "\"entries\":[{\"bytes\":0,\"from\":\"%s/secret\",\"kind\":\"read\",\"to\":\"/x\"},",
             closed);
    must_be(launch_changed(opened, "\"entries\":[", entry, event, sizeof event) == HF_ERR_NONE, "the spec");
    must_be(strstr(event, "\"event\":\"failed\"") != NULL && strstr(event, "could not bring") != NULL, event);
}

HF_TEST(what_he_cannot_reach_himself_cannot_be_brought_into_his_sandbox)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, reach_into_a_closed_folder);
}

/* A folder's size would show by whether its limit ends the sandbox. */
static void
have_another_folder_measured(void)
{
    const char *const folders[] = {closed, "/root", "/nowhere", sockets};
    char event[4096], watched[512];
    for (size_t i = 0; i < HF_LENGTH(folders); i++) {
        _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
        snprintf(watched, sizeof watched, "\"watched\":\"%s\"", folders[i]);
        must_be(launch_changed(opened, "\"watched\":\"\"", watched, event, sizeof event) == HF_ERR_NONE, "the spec");
        must_be(strstr(event, "is no folder of this sandbox") != NULL, event);
    }
}

HF_TEST(no_folder_but_the_sandboxs_own_is_measured_for_him)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, have_another_folder_measured);
}

/* Root would write to them, and read from it, with root's rights. */
static void
hand_over_other_descriptors(void)
{
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    struct hf_error err;
    int ends[2];
    char path[256];
    snprintf(path, sizeof path, "%s/file", data);
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600),
              kernel = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    must_be(file >= 0 && kernel >= 0 && write(file, "{}", 2) == 2 && pipe2(ends, O_CLOEXEC) == 0, "descriptors");
    for (int other = 0; other < 3; other++) {
        must_be(!hf_runner_launch(opened, file, other == 0 ? file : ends[1], other == 1 ? file : ends[1],
                                  other == 2 ? file : ends[1], &err) &&
                    err.kind == HF_ERR_DENIED,
                "a file was written to for him");
    }
    must_be(!hf_runner_launch(opened, kernel, ends[1], ends[1], ends[1], &err) && err.kind == HF_ERR_DENIED,
            "a file of the kernel was read for him");
    must_be(!hf_runner_launch(opened, ends[0], ends[1], ends[1], ends[1], &err) && err.kind == HF_ERR_DENIED,
            "a pipe was waited for");
    must_be(unlink(path) == 0, "unlink");
}

HF_TEST(it_reads_plain_files_and_writes_to_pipes_and_sockets_only)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, hand_over_other_descriptors);
}

/* A tree that its owner made to be lost in. */
static void
make_a_deep_tree(void)
{
    static const char *const arguments[] = {"deep", "", NULL};
    _cleanup_(hf_runner_freep) struct hf_runner *opened = open_runner();
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    char path[256];
    const struct hf_sandbox_spec spec = spec_with(opened, arguments);
    must(hf_sandbox_start(&spec, &sandbox, &err), "start", &err);
    must(hf_sandbox_wait_exit(sandbox, 20000, &end, &err), "wait", &err);
    must_be(end.end == HF_SANDBOX_EXITED && end.exit_code == 0, hf_sandbox_end_name(end.end));
    hf_sandbox_freep(&sandbox);
    snprintf(path, sizeof path, "%s/deep", data);
    must_be(owner_of(path) == USER, "the tree did not come back");
    must(hf_dir_remove_tree(path, &err), "remove", &err);
    char **names = NULL;
    size_t count;
    must(hf_dir_list(data, 1000, &names, &count, &err), "list", &err);
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], "lifted-", 7) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", data, names[i]);
        must(hf_dir_remove_tree(path, &err), "remove", &err);
    }
    hf_strv_freep(&names);
}

HF_TEST(a_tree_of_any_depth_and_without_rights_comes_back)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, make_a_deep_tree);
}

static void
die_in_the_middle(void)
{
    static const char *const arguments[] = {"daemons", "", NULL};
    struct hf_runner *opened = open_runner();
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    const struct hf_sandbox_spec spec = spec_with(opened, arguments);
    must(hf_sandbox_start(&spec, &sandbox, &err), "start", &err);
    must_be(hf_sandbox_wait_ready(sandbox, 10000), "ready");
    must_be(owner_of(data) == hf_runner_uid(opened), "the data was not given");
    _exit(0); // without a word
}

HF_TEST(when_its_user_dies_the_sandbox_ends_and_the_data_comes_back)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(USER, die_in_the_middle);
    for (int waited_ms = 0; owner_of(data) != USER; waited_ms += 10) {
        if (waited_ms > 20000)
            fail_msg("the data still belongs to uid %u", owner_of(data));
        poll(NULL, 0, 10);
    }
}

static void
call_as_a_stranger(void)
{
    struct hf_runner *opened = NULL;
    struct hf_error err;
    must_be(!hf_runner_open(socket_path, &opened, &err), "a stranger was served");
}

static void
talk_nonsense(void)
{
    static const char *const words[] = {"", "X", "L", "G", "UU", "a longer packet than any request"};
    for (size_t i = 0; i < HF_LENGTH(words); i++) {
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        struct hf_runner_reply reply = {0};
        snprintf(address.sun_path, sizeof address.sun_path, "%.100s", socket_path);
        const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        must_be(connect(fd, (struct sockaddr *)&address, sizeof address) == 0, "connect");
        must_be(send(fd, words[i], strlen(words[i]), MSG_NOSIGNAL) == (ssize_t)strlen(words[i]), "send");
        const ssize_t got = recv(fd, &reply, sizeof reply, 0);
        must_be(got <= 0 || reply.kind == HF_ERR_USAGE, words[i]);
        close(fd);
    }
}

HF_TEST(strangers_and_nonsense_are_not_served)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    as_user(STRANGER, call_as_a_stranger);
    as_user(USER, talk_nonsense);
    as_user(USER, compare_two); // it still serves
}

static void
wait_to_be_stopped(void)
{
    static const char *const arguments[] = {"daemons", "", NULL};
    struct hf_runner *opened = open_runner();
    struct hf_sandbox *sandbox = NULL;
    struct hf_sandbox_exit end;
    struct hf_error err;
    const struct hf_sandbox_spec spec = spec_with(opened, arguments);
    must(hf_sandbox_start(&spec, &sandbox, &err), "start", &err);
    must_be(hf_sandbox_wait_ready(sandbox, 10000), "ready");
    must_be(owner_of(data) == hf_runner_uid(opened), "the data was not given");
    must_be(write(stop_it[1], "!", 1) == 1, "write"); // root does, not he
    must(hf_sandbox_wait_exit(sandbox, 30000, &end, &err), "wait", &err);
    must_be(end.end != HF_SANDBOX_RUNNING, "the sandbox outlived the service");
    _exit(0);
}

/* The last test: the service is not there any more afterwards. */
HF_TEST(when_the_service_is_stopped_the_sandbox_ends_and_the_data_comes_back)
{
    if (!start_runner())
        HF_TEST_SKIP("only root can be a runner");
    assert_int_equal(pipe2(stop_it, O_CLOEXEC), 0);
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (setresgid(USER, USER, USER) != 0 || setresuid(USER, USER, USER) != 0)
            _exit(2);
        wait_to_be_stopped();
    }
    char ready;
    close(stop_it[1]);
    assert_int_equal(read(stop_it[0], &ready, 1), 1);
    close(stop_it[0]);
    assert_true(hf_process_signal(&runner, SIGTERM));
    int status;
    bool ended;
    struct hf_error err;
    hf_assert_ok(hf_process_wait(&runner, 40000, &ended, &status, &err), &err);
    assert_true(ended);
    assert_int_equal(status, 0);
    assert_int_equal(owner_of(data), USER);
    assert_int_equal(access(socket_path, F_OK), -1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    runner = HF_PROCESS_NONE;
}

static void
stop_runner(void)
{
    hf_process_kill(&runner);
}

/* Places that the user reaches: the build folder may be closed to him. */
static bool
start_runner(void)
{
    if (geteuid() != 0)
        return false;
    if (runner.pid != -1)
        return true;
    struct hf_error err;
    char from[4096], to[256], user[16], launcher[256];
    bool found = false;
    snprintf(place, sizeof place, "%s", hf_test_folder());
    assert_int_equal(chmod(place, 0755), 0);
    snprintf(socket_path, sizeof socket_path, "%s/runner", place);
    snprintf(data, sizeof data, "%s/data", place);
    snprintf(sockets, sizeof sockets, "%s/sockets", place);
    snprintf(programs, sizeof programs, "%s/programs", place);
    snprintf(closed, sizeof closed, "%s/closed", place);
    const struct {
        const char *path;
        mode_t mode;
        uid_t uid;
    } folders[] = {{data, 0700, USER}, {sockets, 0700, USER}, {programs, 0755, 0}, {closed, 0700, 0}};
    for (size_t i = 0; i < HF_LENGTH(folders); i++) {
        assert_int_equal(mkdir(folders[i].path, folders[i].mode), 0);
        assert_int_equal(chown(folders[i].path, folders[i].uid, folders[i].uid), 0);
    }
    snprintf(to, sizeof to, "%s/secret", closed);
    hf_assert_ok(hf_file_publish(to, "key", 3, 0644, HF_PUBLISH_EXCLUSIVE, &err), &err);
    snprintf(to, sizeof to, "%s/tests", programs);
    assert_int_equal(mkdir(to, 0755), 0);
    static const char *const copied[][2] = {{"tests/escape-inside", "tests/escape-inside"},
                                            {"sandbox/holdfast-sandbox", "holdfast-sandbox"},
                                            {"sandbox/holdfast-runner", "holdfast-runner"}};
    for (size_t i = 0; i < HF_LENGTH(copied); i++) {
        int status;
        snprintf(from, sizeof from, "%s/%s", getenv("HOLDFAST_BUILD"), copied[i][0]);
        snprintf(to, sizeof to, "%s/%s", programs, copied[i][1]);
        const char *const argv[] = {"/bin/cp", from, to, NULL};
        const struct hf_process_options copy = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1};
        hf_assert_ok(hf_process_run(&copy, NULL, 0, 10000, NULL, NULL, &status, &err), &err);
        assert_int_equal(status, 0);
    }
    assert_int_equal(setenv("HOLDFAST_BUILD", programs, 1), 0);
    snprintf(user, sizeof user, "%d", USER);
    snprintf(launcher, sizeof launcher, "%s/holdfast-sandbox", programs);
    const char *const argv[] = {to, socket_path, user, launcher, NULL};
    const struct hf_process_options options = {.argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = 2};
    hf_assert_ok(hf_process_start(&options, &runner, &err), &err);
    atexit(stop_runner);
    for (int waited = 0; !found && waited < 1000; waited++) {
        struct stat info;
        found = stat(socket_path, &info) == 0 && info.st_uid == USER;
        poll(NULL, 0, 10);
    }
    return found;
}

static void
as_user(uid_t uid, act *what)
{
    int status;
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
            _exit(2);
        what();
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void
must(bool fine, const char *what, const struct hf_error *err)
{
    if (fine)
        return;
    fprintf(stderr, "# %s: %s\n", what, err->message);
    _exit(1);
}

static void
must_be(bool fine, const char *what)
{
    must(fine, what, &(struct hf_error){.message = "it is not so"});
}

static struct hf_runner *
open_runner(void)
{
    struct hf_runner *opened = NULL;
    struct hf_error err;
    must(hf_runner_open(socket_path, &opened, &err), "runner", &err);
    return opened;
}

static struct hf_sandbox_spec
spec_with(struct hf_runner *opened, const char *const *arguments)
{
    return (struct hf_sandbox_spec){.engine = &hf_engine_prisoner,
                                    .settings = arguments,
                                    .data = data,
                                    .folder = sockets,
                                    .launcher = NULL,
                                    .limits = {.memory_bytes = 256 * HF_MIB, .processes = 32, .wall_ms = 60000},
                                    .runner = opened};
}

static uid_t
owner_of(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0 ? info.st_uid : (uid_t)-1;
}

/* Launches a plain spec in which one text is replaced; `event` gets the launcher's first words. */
static enum hf_error_kind
launch_changed(struct hf_runner *opened, const char *from, const char *to, char *event, size_t event_bytes)
{
    _cleanup_(hf_buf_done) struct hf_buf text = HF_BUF_INIT(HF_MIB), changed = HF_BUF_INIT(HF_MIB);
    struct hf_error err = {0};
    int events[2], control[2];
    must_be(write_spec(opened, &text), "the spec");
    const char *at = strstr(hf_buf_text(&text), from);
    must_be(at != NULL, from);
    must_be(hf_buf_add(&changed, text.data, (size_t)(at - hf_buf_text(&text)), NULL) &&
                hf_buf_add_text(&changed, to, NULL) && hf_buf_add_text(&changed, at + strlen(from), NULL),
            "memory");
    const int spec = memfd_create("spec", MFD_CLOEXEC);
    must_be(spec >= 0 && write(spec, changed.data, changed.length) == (ssize_t)changed.length &&
                pipe2(events, O_CLOEXEC) == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control) == 0,
            "descriptors");
    int errors[2];
    must_be(pipe2(errors, O_CLOEXEC) == 0, "a pipe");
    const bool fine = hf_runner_launch(opened, spec, events[1], control[1], errors[1], &err);
    close(errors[0]);
    close(errors[1]);
    close(events[1]);
    close(control[1]);
    const ssize_t got = fine ? read(events[0], event, event_bytes - 1) : 0;
    event[got > 0 ? got : 0] = '\0';
    close(control[0]);
    char rest[4096];
    while (read(events[0], rest, sizeof rest) > 0) // until it has ended
        ;
    close(events[0]);
    close(spec);
    return fine ? HF_ERR_NONE : err.kind;
}

static bool
write_spec(struct hf_runner *opened, struct hf_buf *out)
{
    char program[] = "/bin/inside", directory[] = "/tmp", none[] = "", library[] = "/lib", temporary[] = "/tmp";
    char *arguments[] = {program, NULL}, *environment[] = {NULL};
    struct hf_launch_entry entries[] = {{.kind = HF_LAUNCH_EMPTY, .from = none, .to = library},
                                        {.kind = HF_LAUNCH_MEMORY, .from = none, .to = temporary, .bytes = HF_MIB}};
    const struct hf_launch launch = {
        .lowest = HF_SANDBOX_L3,
        .host_uid = hf_runner_uid(opened),
        .host_gid = hf_runner_uid(opened),
        .entries = entries,
        .entry_count = HF_LENGTH(entries),
        .command = {.program = program, .directory = directory, .arguments = arguments, .environment = environment},
        .limits = {.memory_bytes = HF_MIB, .processes = 8, .open_files = 64, .wall_ms = 5000},
        .cgroup = none,
        .watched = none,
        .remove = none};
    return hf_launch_write(&launch, out, NULL);
}
