/*
 * Entering a document is cut short before and after every single call that changes something on disk: by kill -9, by
 * a write that stops half way, and by errors.  Whatever happened, the next writer opens the ledger, it verifies, what
 * was acknowledged is there, and what was not is there whole or not at all.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/evidence/contents.h"

enum damage { NONE, KILL_BEFORE, KILL_AFTER, KILL_HALF_WAY, FAIL_ONCE, FAIL_ON };

static enum damage damage; // to whom, of the calls below: the one of this number
static unsigned damaged_call, calls;
static bool leaf_written, leaf_durable;

static bool
comes_to_harm(void)
{
    calls++;
    if (damage == KILL_BEFORE && calls == damaged_call)
        raise(SIGKILL);
    if ((damage == FAIL_ONCE && calls == damaged_call) || (damage == FAIL_ON && calls >= damaged_call)) {
        errno = EIO;
        return true;
    }
    return false;
}

static void
has_come_through(void)
{
    if ((damage == KILL_AFTER || damage == KILL_HALF_WAY) && calls == damaged_call)
        raise(SIGKILL);
}

#define WRAP(result, name, parameters, arguments)                                                                      \
    result __real_##name parameters;                                                                                   \
    result __wrap_##name parameters;                                                                                   \
    result __wrap_##name parameters                                                                                    \
    {                                                                                                                  \
        if (comes_to_harm())                                                                                           \
            return -1;                                                                                                 \
        result done = __real_##name arguments;                                                                         \
        has_come_through();                                                                                            \
        return done;                                                                                                   \
    }

WRAP(int, fsync, (int fd), (fd))
WRAP(int, linkat, (int a, const char *from, int b, const char *to, int flags), (a, from, b, to, flags))
WRAP(int, unlinkat, (int folder, const char *name, int flags), (folder, name, flags))
WRAP(int, unlink, (const char *name), (name))
WRAP(int, ftruncate64, (int fd, off_t length), (fd, length))

int __real_rename(const char *from, const char *to);
int __wrap_rename(const char *from, const char *to);
int __real_renameat(int a, const char *from, int b, const char *to);
int __wrap_renameat(int a, const char *from, int b, const char *to);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t __real_pwrite64(int fd, const void *data, size_t length, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *data, size_t length, off_t offset);

int
__wrap_rename(const char *from, const char *to)
{
    if (comes_to_harm())
        return -1;
    assert_true(leaf_durable); // only then is a document named
    int done = __real_rename(from, to);
    has_come_through();
    return done;
}

int
__wrap_renameat(int a, const char *from, int b, const char *to)
{
    if (comes_to_harm())
        return -1;
    if (strcmp(to, "checkpoint") == 0 || strstr(to, ".proof") != NULL)
        assert_true(leaf_durable); // only then is the entry counted under a signature
    int done = __real_renameat(a, from, b, to);
    has_come_through();
    return done;
}

int
__wrap_fdatasync(int fd)
{
    if (comes_to_harm())
        return -1;
    int done = __real_fdatasync(fd);
    leaf_durable = leaf_written && done == 0;
    has_come_through();
    return done;
}

ssize_t
__wrap_write(int fd, const void *data, size_t length)
{
    if (fd <= STDERR_FILENO) // what the test prints
        return __real_write(fd, data, length);
    if (comes_to_harm())
        return -1;
    bool half = damage == KILL_HALF_WAY && calls == damaged_call;
    ssize_t done = __real_write(fd, data, half ? length / 2 : length);
    has_come_through();
    return done;
}

ssize_t
__wrap_pwrite64(int fd, const void *data, size_t length, off_t offset)
{
    if (comes_to_harm())
        return -1;
    leaf_written = true;
    leaf_durable = false;
    bool half = damage == KILL_HALF_WAY && calls == damaged_call;
    ssize_t done = __real_pwrite64(fd, data, half ? length / 2 : length, offset);
    has_come_through();
    return done;
}

static void
come_to_harm(enum damage kind, unsigned call)
{
    damage = kind;
    damaged_call = call;
    calls = 0;
    leaf_written = leaf_durable = false;
}

static struct hf_ledger *
open_ledger(const char *folder, struct hf_signer *signer, struct hf_error *err)
{
    const struct hf_ledger_options options = {.folder = folder, .signer = signer};
    struct hf_ledger *ledger = NULL;
    return hf_ledger_open(&options, &ledger, err) ? ledger : NULL;
}

static bool
append(struct hf_ledger *ledger, unsigned number, struct hf_error *err)
{
    json_t *content = test_content_numbered(number);
    struct hf_receipt receipt;
    bool done = hf_ledger_append(ledger, content, &receipt, err);
    json_decref(content);
    return done;
}

/* A ledger of two entries, 1 and 2. */
static const char *
two_entries(const char *folder, struct hf_signer *signer)
{
    const char *path = test_path(folder, "evidence");
    struct hf_error err;
    struct hf_ledger *ledger;

    come_to_harm(NONE, 0);
    hf_assert_ok(hf_dir_remove_tree(path, &err), &err);
    hf_assert_ok(hf_ledger_create(path, signer, &err), &err);
    hf_assert_ok((ledger = open_ledger(path, signer, &err)) != NULL, &err);
    hf_assert_ok(append(ledger, 1, &err), &err);
    hf_assert_ok(append(ledger, 2, &err), &err);
    hf_ledger_close(ledger);
    return path;
}

/* Opens the ledger as the next writer does, and returns its size; it is whole, and can be gone on with. */
static uint64_t
recover(const char *path, struct hf_signer *signer, const char *situation)
{
    const struct hf_ledger_options options = {.folder = path, .signer = signer};
    const struct hf_public_key key = *hf_signer_public_key(signer);
    const struct hf_ledger_options reading = {.folder = path, .trust = {.keys = &key, .count = 1}};
    struct hf_ledger *ledger = NULL;
    struct hf_ledger_report report;
    struct hf_error err;

    come_to_harm(NONE, 0);
    // A reader comes first: it neither fails nor counts what is not finished.
    if (!hf_ledger_open(&reading, &ledger, &err))
        fail_msg("%s: a reader could not open the ledger: %s", situation, err.message);
    assert_in_range(hf_ledger_checkpoint(ledger)->size, 2, 3);
    hf_ledger_close(ledger);
    if (!hf_ledger_verify_all(&reading, NULL, NULL, &report, &err))
        fail_msg("%s: the ledger does not verify before it is recovered: %s", situation, err.message);

    ledger = open_ledger(path, signer, &err);
    if (ledger == NULL)
        fail_msg("%s: could not open the ledger: %s", situation, err.message);
    uint64_t size = hf_ledger_checkpoint(ledger)->size;
    if (!hf_ledger_verify_all(&options, NULL, NULL, &report, &err))
        fail_msg("%s: the ledger does not verify: %s", situation, err.message);
    assert_false(report.unfinished);

    // The caller asks again, not knowing; then goes on.
    if (!append(ledger, 3, &err) || !append(ledger, 4, &err))
        fail_msg("%s: could not go on: %s", situation, err.message);
    if (hf_ledger_checkpoint(ledger)->size != 4)
        fail_msg("%s: the ledger has %llu entries, not 4", situation,
                 (unsigned long long)hf_ledger_checkpoint(ledger)->size);
    hf_ledger_close(ledger);
    if (!hf_ledger_verify_all(&options, NULL, NULL, &report, &err))
        fail_msg("%s: the ledger does not verify after going on: %s", situation, err.message);
    return size;
}

/* Enters document 3 in a child that is killed at that call.  False when it was not: all calls have had their turn. */
static bool
kill_at(const char *path, struct hf_signer *signer, enum damage kind, unsigned call, bool *ret_acknowledged)
{
    int pipes[2], status;
    char byte;

    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct hf_error err;
        come_to_harm(kind, call);
        struct hf_ledger *ledger = open_ledger(path, signer, &err);
        bool done = ledger != NULL && append(ledger, 3, &err);
        damage = NONE;
        if (done)
            (void)!__real_write(pipes[1], "a", 1);
        _exit(done ? 0 : 1);
    }
    close(pipes[1]);
    *ret_acknowledged = read(pipes[0], &byte, 1) == 1;
    close(pipes[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status))
        assert_int_equal(WEXITSTATUS(status), 0);
    else
        assert_int_equal(WTERMSIG(status), SIGKILL);
    return WIFSIGNALED(status);
}

static void
kill_everywhere(enum damage kind, const char *how)
{
    const char *folder = hf_test_folder();
    struct hf_signer *signer = test_signer(folder);
    unsigned dropped = 0, completed = 0, call = 1;
    char situation[64];
    bool acknowledged;

    for (;; call++) {
        const char *path = two_entries(folder, signer);
        if (!kill_at(path, signer, kind, call, &acknowledged))
            break;
        snprintf(situation, sizeof situation, "killed %s call %u", how, call);
        assert_false(acknowledged); // the last call comes before
        if (recover(path, signer, situation) == 3)
            completed++;
        else
            dropped++;
    }
    assert_true(acknowledged);
    assert_true(call > 15);     // the walk has really been through all the steps
    assert_true(dropped > 0);   // before the leaf was there
    assert_true(completed > 0); // and after it
    hf_signer_close(signer);
}

HF_TEST(killed_before_any_call_the_entry_is_completed_or_dropped)
{
    kill_everywhere(KILL_BEFORE, "before");
}

HF_TEST(killed_after_any_call_the_entry_is_completed_or_dropped)
{
    kill_everywhere(KILL_AFTER, "after");
}

HF_TEST(killed_in_the_middle_of_any_write_the_entry_is_completed_or_dropped)
{
    kill_everywhere(KILL_HALF_WAY, "half way through");
}

/* The recovery from a kill is itself killed, at each of its calls. */
HF_TEST(killed_while_recovering_the_ledger_still_recovers)
{
    const char *folder = hf_test_folder();
    struct hf_signer *signer = test_signer(folder);
    char situation[64];
    bool acknowledged;

    for (unsigned first = 1;; first++) {
        unsigned second = 1;
        for (;; second++) {
            const char *path = two_entries(folder, signer);
            if (!kill_at(path, signer, KILL_AFTER, first, &acknowledged)) {
                hf_signer_close(signer);
                return;
            }
            if (!kill_at(path, signer, KILL_BEFORE, second, &acknowledged))
                break;
            snprintf(situation, sizeof situation, "killed after call %u, then before call %u", first, second);
            recover(path, signer, situation);
        }
    }
}

static void
fail_everywhere(enum damage kind)
{
    const char *folder = hf_test_folder();
    struct hf_signer *signer = test_signer(folder);
    unsigned failures = 0;
    char situation[64];

    for (unsigned call = 1;; call++) {
        const char *path = two_entries(folder, signer);
        struct hf_error err;
        struct hf_ledger *ledger = open_ledger(path, signer, &err);
        assert_non_null(ledger);
        come_to_harm(kind, call);
        bool done = append(ledger, 3, &err);
        bool reached = calls >= call;
        come_to_harm(NONE, 0);
        if (!done) {
            failures++;
            assert_int_equal(err.kind, HF_ERR_UNAVAILABLE);
            assert_int_equal(err.system, EIO);
            // The same handle goes on when the disk is well again.
            if (!append(ledger, 3, &err))
                fail_msg("failed at call %u: could not repeat: %s", call, err.message);
            assert_int_equal(hf_ledger_checkpoint(ledger)->size, 3);
        }
        hf_ledger_close(ledger);
        snprintf(situation, sizeof situation, "failed at call %u", call);
        assert_int_equal(recover(path, signer, situation), 3);
        if (!reached)
            break;
    }
    assert_true(failures > 10);
    hf_signer_close(signer);
}

HF_TEST(after_any_single_failure_the_same_content_can_be_entered_again)
{
    fail_everywhere(FAIL_ONCE);
}

HF_TEST(after_a_disk_that_failed_for_good_at_any_call_the_same_content_can_be_entered_again)
{
    fail_everywhere(FAIL_ON);
}

HF_TEST(a_document_without_leaf_is_not_evidence_and_a_leaf_of_other_bytes_is_dropped)
{
    const char *folder = hf_test_folder();
    struct hf_signer *signer = test_signer(folder);
    const char *path = two_entries(folder, signer), *pending = test_path(path, "pending");
    struct hf_buf bytes = HF_BUF_INIT(HF_EVIDENCE_MOST_BYTES);
    uint8_t zeros[HF_LEDGER_RECORD_BYTES] = {0};
    json_t *content = test_content_numbered(3);
    struct hf_id id;
    struct hf_error err;

    hf_assert_ok(hf_evidence_seal(content, signer, 2, &bytes, &id, &err), &err);
    json_decref(content);
    test_write(pending, hf_buf_text(&bytes), 0640);
    assert_int_equal(recover(path, signer, "a document without leaf"), 2);

    // What a disk may show after power was lost: the file has grown, its bytes were not written.
    path = two_entries(folder, signer);
    test_write(pending, hf_buf_text(&bytes), 0640);
    int leaves = open(test_path(path, "leaves"), O_WRONLY | O_APPEND);
    assert_int_equal(__real_write(leaves, zeros, sizeof zeros), sizeof zeros);
    close(leaves);
    assert_int_equal(recover(path, signer, "a leaf of zeros"), 2);
    assert_int_equal(access(pending, F_OK), -1);
    hf_buf_done(&bytes);
    hf_signer_close(signer);
}
