#include "tests/support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/uids.h"

HF_TEST(claims_at_the_same_time_never_share_a_uid)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root has uids to give");
    uid_t uids[64];
    int locks[64];
    struct hf_error err;
    for (size_t i = 0; i < HF_LENGTH(uids); i++) {
        hf_assert_ok(hf_uid_claim(&uids[i], &locks[i], &err), &err);
        assert_in_range(uids[i], HF_UIDS_FIRST, HF_UIDS_FIRST + HF_UIDS_COUNT - 1);
        assert_true((fcntl(locks[i], F_GETFD) & FD_CLOEXEC) != 0);
        for (size_t j = 0; j < i; j++)
            assert_int_not_equal(uids[i], uids[j]);
    }
    for (size_t i = 0; i < HF_LENGTH(uids); i++)
        close(locks[i]);
}

HF_TEST(a_claim_ends_with_its_owner_even_when_that_is_killed)
{
    if (geteuid() != 0)
        HF_TEST_SKIP("only root has uids to give");
    int told[2], lock;
    uid_t of_child, again;
    struct hf_error err;
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    const pid_t child = fork();
    if (child == 0) {
        uid_t uid;
        if (!hf_uid_claim(&uid, &lock, NULL) || write(told[1], &uid, sizeof uid) != sizeof uid)
            _exit(1);
        for (;;)
            pause();
    }
    assert_int_equal(read(told[0], &of_child, sizeof of_child), sizeof of_child);
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    /* It was claimed from a place near ours, so it is among the next that we get. */
    static int held[HF_UIDS_COUNT];
    unsigned count = 0;
    bool seen = false;
    while (!seen && count < HF_UIDS_COUNT / 4 && hf_uid_claim(&again, &held[count], &err)) {
        seen = again == of_child;
        count++;
    }
    assert_true(seen);
    for (unsigned i = 0; i < count; i++)
        close(held[i]);
    close(told[0]);
    close(told[1]);
}

HF_TEST(who_is_not_root_keeps_its_own_uid)
{
    const pid_t child = fork();
    if (child == 0) {
        uid_t uid;
        int lock;
        if (geteuid() == 0 && setresuid(12345, 12345, 12345) != 0)
            _exit(1);
        _exit(hf_uid_claim(&uid, &lock, NULL) && uid == geteuid() && lock == -1 ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}
