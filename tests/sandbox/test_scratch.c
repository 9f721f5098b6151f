#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test.h"
#include "sandbox/scratch.h"
#include "sandbox/tree.h"
#include "base/file.h"

static size_t names_in(const char *folder);
static void write_file(const char *folder, const char *name, size_t bytes);

HF_TEST(a_scratch_on_disk_is_an_empty_folder_of_ours_and_goes_away)
{
    const char *folder = hf_test_folder();
    const struct hf_scratch_options options = {.folder = folder, .bytes = HF_MIB};
    struct hf_scratch *scratch = NULL;
    struct stat info;
    struct hf_error err;
    bool empty;
    hf_assert_ok(hf_scratch_open(&options, &scratch, &err), &err);
    assert_int_equal(strncmp(hf_scratch_path(scratch), folder, strlen(folder)), 0);
    hf_assert_ok(hf_dir_is_empty(hf_scratch_path(scratch), &empty, &err), &err);
    assert_true(empty);
    assert_int_equal(stat(hf_scratch_path(scratch), &info), 0);
    assert_int_equal(info.st_mode & 07777, 0700);
    assert_false(hf_scratch_is_capped(scratch));
    assert_true(strcmp(hf_scratch_protection(scratch), "plain") == 0 ||
                strcmp(hf_scratch_protection(scratch), "encrypted") == 0);
    write_file(hf_scratch_path(scratch), "page", 8192);
    hf_scratch_freep(&scratch);
    assert_null(scratch);
    assert_int_equal(names_in(folder), 0);
}

HF_TEST(too_little_room_is_said_before_anything_is_written)
{
    const char *folder = hf_test_folder();
    const struct hf_scratch_options options = {.folder = folder, .bytes = UINT64_C(1) << 60, .prefer_memory = true};
    struct hf_scratch *scratch = NULL;
    struct hf_error err;
    assert_false(hf_scratch_open(&options, &scratch, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, folder));
    assert_non_null(strstr(err.message, "are needed"));
    assert_null(scratch);
    assert_int_equal(names_in(folder), 0);
}

HF_TEST(a_folder_that_is_missing_is_named)
{
    const struct hf_scratch_options options = {.folder = "/nowhere/at/all", .bytes = 1};
    struct hf_scratch *scratch = NULL;
    struct hf_error err;
    assert_false(hf_scratch_open(&options, &scratch, &err));
    assert_non_null(strstr(err.message, "/nowhere/at/all"));
}

HF_TEST(what_a_dead_process_left_is_swept_and_what_a_living_one_uses_is_not)
{
    const char *folder = hf_test_folder();
    const struct hf_scratch_options options = {.folder = folder, .bytes = HF_MIB};
    struct hf_scratch *mine = NULL;
    struct hf_error err;
    size_t removed;
    hf_assert_ok(hf_scratch_open(&options, &mine, &err), &err);
    pid_t pid = fork();
    if (pid == 0) {
        struct hf_scratch *theirs = NULL;
        if (hf_scratch_open(&options, &theirs, NULL))
            write_file(hf_scratch_path(theirs), "page", 8192);
        _exit(theirs == NULL);
    }
    int status;
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(names_in(folder), 4); // two folders, two locks
    hf_assert_ok(hf_scratch_sweep(folder, &removed, &err), &err);
    assert_true(removed >= 1);
    assert_int_equal(names_in(folder), 2);
    assert_int_equal(access(hf_scratch_path(mine), F_OK), 0);
    hf_scratch_freep(&mine);
    assert_int_equal(names_in(folder), 0);
}

HF_TEST(sweeping_touches_nothing_that_is_not_ours)
{
    const char *folder = hf_test_folder();
    struct hf_error err;
    size_t removed;
    write_file(folder, "patients.csv", 10);
    write_file(folder, "holdfast-scratch-is-a-good-name", 10);
    write_file(folder, "x.lock", 10);
    hf_assert_ok(hf_scratch_sweep(folder, &removed, &err), &err);
    assert_int_equal(names_in(folder), 3);
}

/* In a process of its own: mounts are kept to oneself for good. */
HF_TEST(in_memory_it_is_capped_when_we_keep_our_mounts_and_dies_with_us)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root mounts");
    const char *folder = hf_test_folder();
    const struct hf_scratch_options options = {.folder = folder, .bytes = 8 * HF_MIB, .prefer_memory = true};
    pid_t pid = fork();
    if (pid == 0) {
        struct hf_scratch *scratch = NULL;
        char path[256], block[65536] = {0};
        uint64_t written = 0;
        if (!hf_scratch_keep_mounts(NULL) || !hf_scratch_open(&options, &scratch, NULL))
            _exit(1);
        if (strcmp(hf_scratch_protection(scratch), "memory") != 0 || !hf_scratch_is_capped(scratch))
            _exit(2);
        snprintf(path, sizeof path, "%s/big", hf_scratch_path(scratch));
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        for (ssize_t put; (put = write(fd, block, sizeof block)) > 0;)
            written += (uint64_t)put;
        if (errno != ENOSPC || written > options.bytes || written < options.bytes / 2)
            _exit(3);
        kill(getpid(), SIGKILL);
    }
    int status;
    size_t removed;
    struct hf_error err;
    waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    // The mount went with the process; the empty folder below it is what a sweep is for.
    hf_assert_ok(hf_scratch_sweep(folder, &removed, &err), &err);
    assert_int_equal(names_in(folder), 0);
}

HF_TEST(in_memory_without_mounts_it_is_a_folder_in_shared_memory)
{
    const struct hf_scratch_options options = {.folder = hf_test_folder(), .bytes = HF_MIB, .prefer_memory = true};
    struct hf_scratch *scratch = NULL;
    struct hf_error err;
    hf_assert_ok(hf_scratch_open(&options, &scratch, &err), &err);
    if (strcmp(hf_scratch_protection(scratch), "memory") == 0) {
        assert_int_equal(strncmp(hf_scratch_path(scratch), "/dev/shm/", 9), 0);
        assert_false(hf_scratch_is_capped(scratch));
    }
    _cleanup_(hf_freep) char *path = strdup(hf_scratch_path(scratch));
    hf_scratch_freep(&scratch);
    assert_int_equal(access(path, F_OK), -1);
}

HF_TEST(a_tree_is_measured_and_given_away_without_following_links)
{
    const char *folder = hf_test_folder(), *elsewhere = hf_test_folder();
    char path[256];
    struct stat info;
    struct hf_error err;
    uint64_t bytes;
    write_file(elsewhere, "big", 4 * HF_MIB);
    snprintf(path, sizeof path, "%s/link", folder);
    assert_int_equal(symlink(elsewhere, path), 0);
    snprintf(path, sizeof path, "%s/below", folder);
    assert_int_equal(mkdir(path, 0700), 0);
    write_file(path, "small", 65536);
    hf_assert_ok(hf_tree_measure(folder, &bytes, &err), &err);
    assert_in_range(bytes, 65536, HF_MIB);
    if (geteuid() != 0)
        return;
    hf_assert_ok(hf_tree_give(folder, 12345, 54321, &err), &err);
    snprintf(path, sizeof path, "%s/below/small", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_uid, 12345);
    assert_int_equal(info.st_gid, 54321);
    assert_int_equal(stat(folder, &info), 0);
    assert_int_equal(info.st_uid, 12345);
    snprintf(path, sizeof path, "%s/big", elsewhere);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_uid, 0);
}

HF_TEST(a_tree_that_is_too_deep_is_refused)
{
    char path[1024];
    struct hf_error err;
    uint64_t bytes;
    int used = snprintf(path, sizeof path, "%s", hf_test_folder());
    _cleanup_(hf_freep) char *top = strdup(path);
    for (int i = 0; i < HF_TREE_MOST_DEPTH; i++) {
        used += snprintf(path + used, sizeof path - (size_t)used, "/d");
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_false(hf_tree_measure(top, &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
}

HF_TEST(a_folder_that_hides_what_is_in_it_is_no_small_one)
{
    const char *top = hf_test_folder();
    char path[1024];
    snprintf(path, sizeof path, "%s/hidden", top);
    assert_int_equal(mkdir(path, 0), 0);
    assert_true(geteuid() != 0 || (chown(path, 12345, 12345) == 0 && chown(top, 12345, 12345) == 0));
    const pid_t child = fork();
    if (child == 0) {
        struct hf_error err;
        uint64_t bytes;
        if (geteuid() == 0 && setresuid(12345, 12345, 12345) != 0)
            _exit(2);
        _exit(!hf_tree_measure(top, &bytes, &err) && err.kind == HF_ERR_NO_SPACE ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

HF_TEST(of_a_tree_that_is_thrown_away_everything_changes_hands_however_deep)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root can give files away");
    const char *top = hf_test_folder();
    struct hf_error err;
    struct stat info;
    assert_int_equal(chown(top, 12345, 12345), 0);
    int at = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int depth = 0; depth < 40 * HF_TREE_MOST_DEPTH; depth++) {
        assert_int_equal(mkdirat(at, "d", 0), 0);
        assert_int_equal(fchownat(at, "d", 12345, 12345, 0), 0);
        const int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = next;
    }
    const int folder = open(top, O_PATH | O_DIRECTORY | O_CLOEXEC);
    assert_false(hf_tree_pass(folder, 12345, 54321, 54321, false, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_int_equal(fchown(at, 12345, 12345), 0);
    hf_assert_ok(hf_tree_pass(folder, 54321, 12345, 12345, true, &err), &err);
    hf_assert_ok(hf_tree_pass(folder, 12345, 54321, 54321, true, &err), &err);
    assert_int_equal(fstat(at, &info), 0);
    assert_int_equal(info.st_uid, 54321); // the deepest of all
    close(at);
    close(folder);
}

static size_t
names_in(const char *folder)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_dir_list(folder, 1000, &names, &count, &err), &err);
    return count;
}

static void
write_file(const char *folder, const char *name, size_t bytes)
{
    char path[512];
    struct hf_error err;
    _cleanup_(hf_freep) char *zeros = calloc(1, bytes);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    hf_assert_ok(hf_file_publish(path, zeros, bytes, 0600, HF_PUBLISH_EXCLUSIVE, &err), &err);
}
