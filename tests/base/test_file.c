#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"

/*
 * The calls that hf_file_publish() makes, each of which can be told to fail.  fault_at counts down to the call that
 * fails; the names of all calls are kept, so that a walk can show that it met every one of them.
 */
static int fault_at;
static const char *fault_call;
static const char *calls[64];
static size_t call_count;

static bool
fails(const char *call)
{
    if (call_count < HF_LENGTH(calls))
        calls[call_count++] = call;
    if (fault_at == 0 || --fault_at != 0)
        return false;
    fault_call = call;
    errno = EIO;
    return true;
}

#define WRAP(type, name, parameters, arguments)                                                                        \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails(#name) ? -1 : __real_##name arguments;                                                            \
    }

WRAP(ssize_t, write, (int fd, const void *data, size_t length), (fd, data, length))
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode))
WRAP(int, linkat, (int from, const char *old, int to, const char *new, int flags), (from, old, to, new, flags))
WRAP(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new))

static char path[128];
static const char *folder;

/* path = a name in a fresh folder. */
static void
fresh_path(void)
{
    folder = hf_test_folder();
    snprintf(path, sizeof path, "%s/name", folder);
}

static void
publish(const char *text, enum hf_publish_how how)
{
    struct hf_error err;
    hf_assert_ok(hf_file_publish(path, text, strlen(text), 0644, how, &err), &err);
}

static void
assert_content(const char *text)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    hf_assert_ok(hf_file_read(path, &buf, &err), &err);
    assert_string_equal(hf_buf_text(&buf), text);
}

static void
assert_names(size_t expected)
{
    _cleanup_(hf_strv_freep) char **names = NULL;
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_dir_list(folder, 100, &names, &count, &err), &err);
    assert_int_equal(count, expected);
}

HF_TEST(a_published_file_has_its_bytes_and_exactly_its_mode)
{
    fresh_path();
    mode_t before = umask(077);
    publish("first", HF_PUBLISH_EXCLUSIVE);
    umask(before);
    assert_content("first");

    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0644);
    assert_int_equal(status.st_nlink, 1);

    publish("second", HF_PUBLISH_REPLACE);
    assert_content("second");
    assert_names(1);
}

HF_TEST(publishing_exclusively_leaves_an_existing_file_alone)
{
    struct hf_error err;
    char expected[256];
    fresh_path();
    publish("old", HF_PUBLISH_EXCLUSIVE);
    assert_false(hf_file_publish(path, "new", 3, 0644, HF_PUBLISH_EXCLUSIVE, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    snprintf(expected, sizeof expected, "cannot create \"%s\": File exists", path);
    assert_string_equal(err.message, expected);
    assert_content("old");
    assert_names(1);
}

/* What the message says when this call fails for the n-th time it is made. */
static const char *
expected_message(const char *call, size_t times_before)
{
    if (strcmp(call, "write") == 0)
        return "could not write \"";
    if (strcmp(call, "fchmod") == 0)
        return "could not set the mode of \"";
    if (strcmp(call, "fsync") == 0)
        return times_before == 0 ? "could not make \"" : "could not make the name of \"";
    return NULL; // linkat and renameat mean different things in the two ways
}

/* Publishes with the first call failing, then the second, until it succeeds; `old` NULL: there was no file. */
static void
walk_faults(const char *old, enum hf_publish_how how, const char *const *expected_calls)
{
    struct hf_error err;
    size_t faults = 0;
    for (;; faults++) {
        fresh_path();
        if (old != NULL)
            publish(old, HF_PUBLISH_EXCLUSIVE);

        call_count = 0;
        fault_call = NULL;
        fault_at = (int)faults + 1;
        bool published = hf_file_publish(path, "new", 3, 0644, how, &err);
        fault_at = 0;
        if (fault_call == NULL) {
            assert_true(published);
            break;
        }

        assert_false(published);
        assert_string_equal(fault_call, expected_calls[faults]);
        assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
        assert_int_equal(err.system, EIO);
        assert_non_null(strstr(err.message, path));
        assert_non_null(strstr(err.message, ": Input/output error"));

        size_t before = 0, syncs = 0;
        for (size_t i = 0; i < faults; i++)
            before += strcmp(expected_calls[i], fault_call) == 0;
        for (size_t i = 0; i < call_count; i++)
            syncs += strcmp(calls[i], "fsync") == 0;
        const char *words = expected_message(fault_call, before);
        if (words != NULL)
            assert_memory_equal(err.message, words, strlen(words));
        if (strcmp(fault_call, "fsync") == 0)
            assert_int_equal(syncs, before + 1); // never tried again

        assert_names(old != NULL ? 1 : 0);
        if (old != NULL)
            assert_content(old);
    }

    for (size_t i = 0; i < call_count; i++)
        assert_string_equal(calls[i], expected_calls[i]);
    assert_null(expected_calls[call_count]);
    assert_int_equal(faults, call_count);
    assert_content("new");
    assert_names(1);
}

HF_TEST(whichever_call_fails_a_new_name_stays_absent)
{
    static const char *const exclusive[] = {"write", "fchmod", "fsync", "linkat", "fsync", NULL};
    static const char *const replacing[] = {"write", "fchmod", "fsync", "renameat", "fsync", NULL};
    walk_faults(NULL, HF_PUBLISH_EXCLUSIVE, exclusive);
    walk_faults(NULL, HF_PUBLISH_REPLACE, replacing);
}

HF_TEST(whichever_call_fails_the_old_file_stays)
{
    static const char *const replacing[] = {"write", "fchmod", "fsync", "linkat", "renameat", "fsync", NULL};
    walk_faults("old", HF_PUBLISH_REPLACE, replacing);
}

HF_TEST(nothing_is_published_where_no_file_can_be)
{
    struct hf_error err;
    char odd[160];
    fresh_path();
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(hf_file_publish(path, "x", 1, 0644, HF_PUBLISH_REPLACE, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_false(hf_file_publish(path, "x", 1, 0644, HF_PUBLISH_EXCLUSIVE, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_names(1);

    const char *const endings[] = {"/", "/.", "/.."};
    for (size_t i = 0; i < HF_LENGTH(endings); i++) {
        snprintf(odd, sizeof odd, "%s%s", folder, endings[i]);
        assert_false(hf_file_publish(odd, "x", 1, 0644, HF_PUBLISH_REPLACE, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
    }
    snprintf(odd, sizeof odd, "%s/none/name", folder);
    assert_false(hf_file_publish(odd, "x", 1, 0644, HF_PUBLISH_REPLACE, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

static atomic_int winners, losers;

static void *
race(void *argument)
{
    struct hf_error err;
    if (hf_file_publish(argument, "mine", 4, 0644, HF_PUBLISH_EXCLUSIVE, &err))
        atomic_fetch_add(&winners, 1);
    else if (err.kind == HF_ERR_CONFLICT)
        atomic_fetch_add(&losers, 1);
    return NULL;
}

HF_TEST(of_several_that_publish_one_name_exactly_one_wins)
{
    fresh_path();
    for (int round = 0; round < 50; round++) {
        pthread_t threads[4];
        winners = losers = 0;
        snprintf(path, sizeof path, "%s/round-%d", folder, round);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, race, path), 0);
        for (size_t i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        assert_int_equal(winners, 1);
        assert_int_equal(losers, 3);
    }
    assert_names(50);
}

HF_TEST(a_kill_at_any_moment_leaves_the_old_file_or_the_new_one_whole)
{
    static char a[100000], b[100000];
    memset(a, 'a', sizeof a - 1);
    memset(b, 'b', sizeof b - 1);
    fresh_path();
    publish(a, HF_PUBLISH_EXCLUSIVE);
    for (int round = 0; round < 30; round++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                if (!hf_file_publish(path, b, sizeof b - 1, 0644, HF_PUBLISH_REPLACE, NULL) ||
                    !hf_file_publish(path, a, sizeof a - 1, 0644, HF_PUBLISH_REPLACE, NULL))
                    _exit(1);
        usleep((useconds_t)(500 + round * 137));
        kill(child, SIGKILL);
        int status;
        waitpid(child, &status, 0);
        assert_true(WIFSIGNALED(status));

        _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(HF_MIB);
        struct hf_error err;
        hf_assert_ok(hf_file_read(path, &buf, &err), &err);
        assert_true(strcmp(hf_buf_text(&buf), a) == 0 || strcmp(hf_buf_text(&buf), b) == 0);
    }

    _cleanup_(hf_strv_freep) char **names = NULL;
    struct hf_error err;
    size_t count;
    hf_assert_ok(hf_dir_list(folder, 100, &names, &count, &err), &err);
    for (size_t i = 0; i < count; i++)
        assert_true(strcmp(names[i], "name") == 0 ||
                    strncmp(names[i], HF_UNFINISHED_PREFIX, strlen(HF_UNFINISHED_PREFIX)) == 0);
}

HF_TEST(a_file_over_the_limit_is_refused_and_adds_nothing)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(10);
    struct hf_error err;
    char expected[256];
    fresh_path();
    publish("0123456", HF_PUBLISH_EXCLUSIVE);
    hf_assert_ok(hf_buf_add_text(&buf, "abcd", &err), &err);

    snprintf(expected, sizeof expected, "\"%s\" is longer than 6 bytes", path);
    assert_false(hf_file_read(path, &buf, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_string_equal(err.message, expected);
    assert_string_equal(hf_buf_text(&buf), "abcd");

    hf_buf_truncate(&buf, 3);
    hf_assert_ok(hf_file_read(path, &buf, &err), &err);
    assert_string_equal(hf_buf_text(&buf), "abc0123456");
}

HF_TEST(a_file_that_hides_its_size_still_meets_the_limit)
{
    _cleanup_(hf_buf_done) struct hf_buf small = HF_BUF_INIT(10);
    _cleanup_(hf_buf_done) struct hf_buf large = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    assert_false(hf_file_read("/proc/self/maps", &small, &err)); // its size is 0
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_int_equal(small.length, 0);
    hf_assert_ok(hf_file_read("/proc/self/maps", &large, &err), &err);
    assert_true(large.length > 10);

    _cleanup_(hf_buf_done) struct hf_buf middle = HF_BUF_INIT(5000); // its first piece fits, its second does not
    assert_false(hf_file_read("/proc/self/smaps", &middle, &err));
    assert_string_equal(err.message, "\"/proc/self/smaps\" is longer than 5000 bytes");
    assert_int_equal(middle.length, 0);
}

HF_TEST(an_empty_file_is_empty_text)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(0);
    struct hf_error err;
    fresh_path();
    publish("", HF_PUBLISH_EXCLUSIVE);
    hf_assert_ok(hf_file_read(path, &buf, &err), &err);
    assert_string_equal(hf_buf_text(&buf), "");
}

HF_TEST(only_regular_files_are_read_and_a_fifo_does_not_block)
{
    _cleanup_(hf_buf_done) struct hf_buf buf = HF_BUF_INIT(100);
    struct hf_error err;
    char link[160], fifo[160];
    fresh_path();
    publish("secret", HF_PUBLISH_EXCLUSIVE);
    snprintf(link, sizeof link, "%s/link", folder);
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    assert_int_equal(symlink(path, link), 0);
    assert_int_equal(mkfifo(fifo, 0600), 0);

    const char *const refused[] = {link, fifo, folder, "/dev/null"};
    for (size_t i = 0; i < HF_LENGTH(refused); i++) {
        char expected[256];
        snprintf(expected, sizeof expected, "\"%s\" is not a regular file", refused[i]);
        assert_false(hf_file_read(refused[i], &buf, &err));
        assert_int_equal(err.kind, HF_ERR_USAGE);
        assert_string_equal(err.message, expected);
    }
    assert_int_equal(buf.length, 0);
    snprintf(link, sizeof link, "%s/none", folder);
    assert_false(hf_file_read(link, &buf, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

HF_TEST(a_read_past_the_end_names_both_positions)
{
    struct hf_error err;
    uint8_t bytes[10];
    fresh_path();
    publish("0123456789", HF_PUBLISH_EXCLUSIVE);
    _cleanup_(hf_closep) int fd = open(path, O_RDWR | O_CLOEXEC);
    hf_assert_ok(hf_pread_all(fd, bytes, 4, 6, "pack", &err), &err);
    assert_memory_equal(bytes, "6789", 4);
    assert_false(hf_pread_all(fd, bytes, 8, 6, "pack", &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    assert_string_equal(err.message, "\"pack\" ends at byte 10, 14 were expected");

    hf_assert_ok(hf_pwrite_all(fd, "XY", 2, 1, "pack", &err), &err);
    assert_content("0XY3456789");
}

HF_TEST(writing_to_a_full_device_is_no_space)
{
    struct hf_error err;
    _cleanup_(hf_closep) int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_false(hf_write_all(fd, "x", 1, "pack", &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_string_equal(err.message, "could not write \"pack\": No space left on device");
    assert_false(hf_pwrite_all(fd, "x", 1, 0, "pack", &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
}

HF_TEST(folders_are_made_with_their_parents_and_may_exist)
{
    struct hf_error err;
    char deep[200];
    fresh_path();
    snprintf(deep, sizeof deep, "%s/a//b/c/", folder);
    hf_assert_ok(hf_dir_make(deep, 0700, &err), &err);
    hf_assert_ok(hf_dir_make(deep, 0700, &err), &err);
    hf_assert_ok(hf_dir_sync(deep, &err), &err);

    publish("file", HF_PUBLISH_EXCLUSIVE);
    char expected[256];
    snprintf(expected, sizeof expected, "cannot make folder \"%s\": a file of that name exists", path);
    assert_false(hf_dir_make(path, 0700, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_string_equal(err.message, expected);
    assert_false(hf_dir_make("", 0700, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
}

HF_TEST(a_new_folder_is_synced_into_its_parent)
{
    struct hf_error err;
    char deep[200];
    fresh_path();
    snprintf(deep, sizeof deep, "%s/a/b", folder);
    call_count = 0;
    hf_assert_ok(hf_dir_make(deep, 0700, &err), &err);
    assert_int_equal(call_count, 2);
    assert_string_equal(calls[0], "fsync");

    call_count = 0;
    fault_at = 1;
    snprintf(deep, sizeof deep, "%s/c", folder);
    assert_false(hf_dir_make(deep, 0700, &err));
    assert_int_equal(err.system, EIO);
}

HF_TEST(names_come_sorted_and_not_more_than_asked_for)
{
    struct hf_error err;
    bool empty;
    fresh_path();
    hf_assert_ok(hf_dir_is_empty(folder, &empty, &err), &err);
    assert_true(empty);

    static const char *const made[] = {"b", "a", ".hidden", "c"}, *const sorted[] = {".hidden", "a", "b", "c"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, made[i]);
        publish("", HF_PUBLISH_EXCLUSIVE);
    }
    hf_assert_ok(hf_dir_is_empty(folder, &empty, &err), &err);
    assert_false(empty);

    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count;
    hf_assert_ok(hf_dir_list(folder, 4, &names, &count, &err), &err);
    assert_int_equal(count, 4);
    for (size_t i = 0; i < 4; i++)
        assert_string_equal(names[i], sorted[i]);
    assert_null(names[4]);

    _cleanup_(hf_strv_freep) char **more = NULL;
    assert_false(hf_dir_list(folder, 3, &more, &count, &err));
    assert_int_equal(err.kind, HF_ERR_NO_SPACE);
    assert_non_null(strstr(err.message, "holds more than 3 names"));
    assert_null(more);

    snprintf(path, sizeof path, "%s/none", folder);
    assert_false(hf_dir_list(path, 3, &more, &count, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
    assert_false(hf_dir_is_empty(path, &empty, &err));
}

HF_TEST(a_tree_is_removed_with_all_below_but_nothing_behind_a_link)
{
    struct hf_error err;
    char tree[160], inside[200];
    fresh_path();
    publish("kept", HF_PUBLISH_EXCLUSIVE);
    snprintf(tree, sizeof tree, "%s/tree", folder);
    for (int i = 0; i < 5; i++) {
        snprintf(inside, sizeof inside, "%s/%d/x/y", tree, i);
        hf_assert_ok(hf_dir_make(inside, 0700, &err), &err);
        snprintf(inside, sizeof inside, "%s/%d/x/file", tree, i);
        hf_assert_ok(hf_file_publish(inside, "x", 1, 0400, HF_PUBLISH_EXCLUSIVE, &err), &err);
        snprintf(inside, sizeof inside, "%s/%d/link", tree, i);
        assert_int_equal(symlink(folder, inside), 0);
    }
    hf_assert_ok(hf_dir_remove_tree(tree, &err), &err);
    assert_int_equal(access(tree, F_OK), -1);
    assert_content("kept");
    hf_assert_ok(hf_dir_remove_tree(tree, &err), &err); // a missing one is fine

    assert_int_equal(symlink(folder, tree), 0);
    assert_false(hf_dir_remove_tree(tree, &err));
    assert_content("kept");
    assert_false(hf_dir_remove_tree(path, &err)); // a file is not a folder
    assert_content("kept");
}

HF_TEST(a_tree_deeper_than_any_path_is_removed)
{
    struct hf_error err;
    char tree[160];
    fresh_path();
    snprintf(tree, sizeof tree, "%s/tree", folder);
    assert_int_equal(mkdir(tree, 0700), 0);
    int at = open(tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int depth = 0; depth < 3000; depth++) {
        assert_int_equal(mkdirat(at, "folder", 0700), 0);
        int next = openat(at, "folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(at);
        at = next;
    }
    close(at);
    hf_assert_ok(hf_dir_remove_tree(tree, &err), &err);
    assert_names(0);
}

/* In a child that is nobody in particular: root needs no rights. */
HF_TEST(a_tree_whose_rights_were_taken_away_is_removed_by_its_owner)
{
    fresh_path();
    assert_int_equal(chmod(folder, 0777), 0);
    const pid_t child = fork();
    if (child == 0) {
        char tree[160], inner[200];
        struct hf_error err;
        if (geteuid() == 0 && (setresgid(12345, 12345, 12345) != 0 || setresuid(12345, 12345, 12345) != 0))
            _exit(2);
        snprintf(tree, sizeof tree, "%s/tree", folder);
        snprintf(inner, sizeof inner, "%s/a/b/c", tree);
        if (!hf_dir_make(inner, 0700, &err) || chmod(inner, 0) != 0)
            _exit(3);
        *strrchr(inner, '/') = '\0';
        if (chmod(inner, 0500) != 0 || chmod(tree, 0) != 0)
            _exit(4);
        _exit(hf_dir_remove_tree(tree, &err) && access(tree, F_OK) != 0 ? 0 : 5);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_names(0);
}

HF_TEST(a_mount_inside_a_tree_is_not_crossed)
{
    struct hf_error err;
    char tree[160], mounted[160];
    fresh_path();
    publish("kept", HF_PUBLISH_EXCLUSIVE);
    snprintf(tree, sizeof tree, "%s/tree", folder);
    snprintf(mounted, sizeof mounted, "%s/tree/mounted", folder);
    hf_assert_ok(hf_dir_make(mounted, 0700, &err), &err);
    if (mount(folder, mounted, NULL, MS_BIND, NULL) != 0)
        HF_TEST_SKIP("this host lets nobody mount");

    bool removed = hf_dir_remove_tree(tree, &err);
    umount2(mounted, MNT_DETACH);
    assert_false(removed);
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "cannot remove \"mounted\""));
    assert_content("kept");
}

HF_TEST(the_free_space_of_a_disk_is_known)
{
    struct hf_error err;
    uint64_t bytes = 0;
    hf_assert_ok(hf_disk_free("/", &bytes, &err), &err);
    assert_true(bytes > 0);
    assert_false(hf_disk_free("/no/such/folder", &bytes, &err));
    assert_int_equal(err.kind, HF_ERR_NOT_FOUND);
}

HF_TEST(paths_join_with_one_slash)
{
    const char *const folders[] = {"a", "a/", "/"}, *const joined[] = {"a/b", "a/b", "/b"};
    for (size_t i = 0; i < 3; i++) {
        _cleanup_(hf_freep) char *made = hf_path_join(folders[i], "b");
        assert_string_equal(made, joined[i]);
    }
}
