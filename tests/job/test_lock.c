#include "tests/support/test.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/lock.h"

HF_TEST(the_lock_is_held_by_one_who_is_named)
{
    const char *folder = hf_test_folder();
    const struct hf_lock_holder me = {.embedded = true, .pid = 4711, .socket = "/run/x.sock"};
    struct hf_lock_holder seen;
    struct hf_error err;
    int first = -1, second = -1;
    bool held;

    hf_assert_ok(hf_lock_look(folder, &held, &seen, &err), &err);
    assert_false(held); // no file yet
    hf_assert_ok(hf_lock_take(folder, &me, &first, &err), &err);
    hf_assert_ok(hf_lock_look(folder, &held, &seen, &err), &err);
    assert_true(held && seen.embedded && seen.pid == 4711);
    assert_string_equal(seen.socket, "/run/x.sock");
    assert_false(hf_lock_take(folder, &me, &second, &err));
    assert_int_equal(err.kind, HF_ERR_CONFLICT);
    assert_non_null(strstr(err.message, "(process 4711, socket \"/run/x.sock\")"));
    assert_int_equal(second, -1);

    close(first);
    hf_assert_ok(hf_lock_look(folder, &held, &seen, &err), &err);
    assert_false(held);
    hf_assert_ok(hf_lock_take(folder, &me, &second, &err), &err);
    close(second);
}

HF_TEST(looking_never_takes_the_lock_away)
{
    const char *folder = hf_test_folder();
    const struct hf_lock_holder me = {.pid = 1, .socket = "/s"};
    struct hf_error err;
    int fd;
    pid_t looker = fork();
    if (looker == 0) {
        while (true) {
            bool held;
            struct hf_lock_holder seen;
            (void)!hf_lock_look(folder, &held, &seen, NULL);
        }
    }
    for (int i = 0; i < 500; i++) {
        hf_assert_ok(hf_lock_take(folder, &me, &fd, &err), &err);
        close(fd);
    }
    kill(looker, SIGKILL);
    waitpid(looker, NULL, 0);
}

HF_TEST(a_killed_holder_holds_no_longer)
{
    const char *folder = hf_test_folder();
    const struct hf_lock_holder me = {.pid = 1, .socket = "/s"};
    struct hf_error err;
    int ends[2], fd;
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t holder = fork();
    if (holder == 0) {
        if (!hf_lock_take(folder, &me, &fd, NULL) || write(ends[1], "x", 1) != 1)
            _exit(1);
        pause();
    }
    assert_int_equal(read(ends[0], &byte, 1), 1);
    assert_false(hf_lock_take(folder, &me, &fd, &err));
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    hf_assert_ok(hf_lock_take(folder, &me, &fd, &err), &err);
    close(fd);
}

HF_TEST(a_holder_who_has_not_said_who_it_is_is_corrupt_and_not_absent)
{
    const char *folder = hf_test_folder();
    const struct hf_lock_holder me = {.pid = 1, .socket = "/s"};
    struct hf_lock_holder seen;
    struct hf_error err;
    char path[128];
    bool held;
    int fd;
    hf_assert_ok(hf_lock_take(folder, &me, &fd, &err), &err);
    snprintf(path, sizeof path, "%s/%s", folder, HF_LOCK_NAME);
    assert_int_equal(truncate(path, 0), 0);
    assert_false(hf_lock_look(folder, &held, &seen, &err));
    assert_int_equal(err.kind, HF_ERR_CORRUPT);
    close(fd);
}
