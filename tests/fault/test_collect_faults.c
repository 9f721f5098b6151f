/*
 * Pruning and collection meet a disk that fails, is full, or goes away with the whole machine: at each call in turn the
 * call fails, or it and all after it, or there is no space any more, or the process dies there.  Every backup that was
 * kept restores byte for byte, and the next collection tidies up with nobody's help.
 *
 * A run of the tests tries some of the calls, spread evenly; CAMPAIGN_SECONDS makes it try all of them, and cut the
 * power more often (tests/campaign collect-faults).
 */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "base/time.h"
#include "server/care/check.h"
#include "tests/support/collecting.h"
#include "tests/support/disk.h"
#include "tests/support/model.h"

#define MODEL_BYTES   (1 * HF_MIB)
#define BACKUPS       4
#define KEPT          2
#define TRIES         24 // of the calls, for each way to fail, in an ordinary run
#define CUTS          3
#define CUTS_CAMPAIGN 50
#define DISK_BYTES    (192 * HF_MIB)
#define ALIVE_MOST_US 600000

enum way { COUNT, FAIL_ONCE, FAIL_ON, FULL, DIE };
static const char *const way_names[] = {"counts", "fails", "and all after it fail", "finds no space", "is the last"};

/* In the child that collects: what the wrapped calls do. */
static struct {
    bool armed;
    enum way way;
    unsigned at, calls;
} fault;

static bool
fails(bool takes_space)
{
    if (!fault.armed || (fault.way == FULL && !takes_space))
        return false;
    const unsigned number = ++fault.calls;
    if (fault.way == COUNT || number < fault.at || (fault.way == FAIL_ONCE && number > fault.at))
        return false;
    if (fault.way == DIE)
        _exit(99);
    errno = fault.way == FULL ? ENOSPC : EIO;
    return true;
}

#define CALL(type, takes_space, name, parameters, arguments)                                                           \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails(takes_space) ? -1 : __real_##name arguments;                                                      \
    }

CALL(int, false, fsync, (int fd), (fd))
CALL(int, false, fdatasync, (int fd), (fd))
CALL(int, false, fchmod, (int fd, mode_t mode), (fd, mode))
CALL(int, true, mkdirat, (int at, const char *name, mode_t mode), (at, name, mode))
CALL(int, false, unlinkat, (int at, const char *name, int flags), (at, name, flags))
CALL(int, true, renameat2, (int from, const char *old, int to, const char *new, unsigned how),
     (from, old, to, new, how))
CALL(int, true, linkat, (int from, const char *old, int to, const char *new, int how), (from, old, to, new, how))
CALL(int, true, fallocate64, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length))

ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t
__wrap_write(int fd, const void *data, size_t length)
{
    return fd > STDERR_FILENO && fails(true) ? -1 : __real_write(fd, data, length);
}

/* A vault with a row of backups, of which every round gets a copy. */
static struct {
    const char *folder;
    char template[64], round[64];
    struct test_vault vault;
    struct model models[BACKUPS];
    struct hf_id backups[BACKUPS];
} stage;

static void
set_stage(void)
{
    struct hf_error err;
    stage.folder = hf_test_folder();
    snprintf(stage.template, sizeof stage.template, "%s/template", stage.folder);
    snprintf(stage.round, sizeof stage.round, "%s/round", stage.folder);
    assert_int_equal(mkdir(stage.template, 0700), 0);
    test_vault_make(&stage.vault, stage.template);
    for (unsigned i = 0; i < BACKUPS; i++) {
        struct hf_session_outcome outcome;
        struct hf_session_options options = model_options(&stage.vault);
        options.ageing_percent = 1;
        model_make(&stage.models[i], MODEL_BYTES, i == 0 ? 0 : 40 + i);
        if (i > 0)
            memcpy(stage.models[i].files[0].bytes, stage.models[0].files[0].bytes, stage.models[0].files[0].size / 2);
        hf_assert_ok(model_back_up(&stage.models[i], stage.vault.vault, &options, &outcome, &err), &err);
        stage.backups[i] = outcome.backup;
    }
    test_vault_close(&stage.vault);
}

/* Gives up the older backups and collects; what fails is told by the caller. */
static bool
prune_and_collect(struct hf_error *err)
{
    struct hf_collect_report report;
    struct hf_collect_options options = collecting_options(&stage.vault);
    options.live_percent = 100;
    for (size_t i = 0; i < BACKUPS - KEPT; i++)
        if (!collecting_prune(&stage.vault, &stage.backups[i], err))
            return false;
    return collecting_run(&stage.vault, &options, &report, err);
}

/* In a process of its own, of which one call goes wrong.  Returns how many calls it made when nothing does. */
static unsigned
run_child(enum way way, unsigned at)
{
    int told[2], status;
    unsigned calls = 0;
    assert_int_equal(pipe2(told, O_CLOEXEC), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct hf_error err = {0};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fault.way = way;
        fault.at = at;
        fault.armed = true;
        const bool ok = prune_and_collect(&err);
        fault.armed = false;
        if (!ok &&
            (err.kind == HF_ERR_NONE || strlen(err.message) < 10 || (way == FULL && err.kind != HF_ERR_NO_SPACE)))
            _exit(1); // an error that says nothing
        (void)!__real_write(told[1], &fault.calls, sizeof fault.calls);
        _exit(ok ? 0 : 98);
    }
    close(told[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    (void)!read(told[0], &calls, sizeof calls);
    close(told[0]);
    if (!WIFEXITED(status) || WEXITSTATUS(status) == 1)
        fail_msg("call %u %s: the process ended badly (status %d)", at, way_names[way], status);
    return calls;
}

/* As a new process sees it: what is kept restores, the next collection tidies, and the next backup works. */
static void
assert_well(bool whole)
{
    struct hf_error err;
    struct hf_collect_report report;
    struct hf_collect_options options = collecting_options(&stage.vault);
    test_vault_reopen(&stage.vault);
    for (size_t i = whole ? BACKUPS - KEPT : BACKUPS - 1; i < BACKUPS; i++)
        model_assert_restores(&stage.models[i], stage.vault.vault, &stage.backups[i], stage.folder);
    options.live_percent = 100;
    hf_assert_ok(collecting_run(&stage.vault, &options, &report, &err), &err);
    assert_int_equal(report.damaged, 0);
    assert_int_equal(report.kept_open, 0);
    assert_string_equal(report.unreadable, "");
    collecting_assert_whole(&stage.vault, 0);
    if (whole)
        model_assert_restores(&stage.models[BACKUPS - 1], stage.vault.vault, &stage.backups[BACKUPS - 1], stage.folder);
}

static bool
in_campaign(void)
{
    return getenv("CAMPAIGN_SECONDS") != NULL;
}

HF_TEST(a_collection_may_meet_a_failure_a_full_disk_or_its_end_at_any_call)
{
    unsigned rounds = 0;
    set_stage();
    test_vault_begin_round(&stage.vault, stage.template, stage.round);
    const unsigned calls = run_child(COUNT, 0);
    assert_true(calls > 50);
    assert_well(true);
    for (enum way way = FAIL_ONCE; way <= DIE; way++)
        for (unsigned at = 1; at <= calls; at += in_campaign() || calls < TRIES ? 1 : calls / TRIES, rounds++) {
            test_vault_begin_round(&stage.vault, stage.template, stage.round);
            (void)run_child(way, at);
            assert_well(rounds % 8 == 0);
        }
    print_message("# %u calls, %u rounds\n", calls, rounds);
    for (unsigned i = 0; i < BACKUPS; i++)
        model_done(&stage.models[i]);
    test_vault_done(&stage.vault);
}

/* ----------------------------------------------------------------------------------------------------- power cuts */

struct told {
    struct hf_id backup;
    unsigned generation;
};

/* Backs up, gives up all but the newest two, collects, and so on until it is killed. */
static _Noreturn void
live(struct test_vault *vault, unsigned generation, int tell)
{
    struct hf_id before = HF_ID_NONE;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    test_vault_reopen(vault);
    for (;; generation++) {
        struct hf_error err;
        struct model model;
        struct hf_session_outcome outcome;
        struct hf_collect_report report;
        const struct hf_vault_state *log;
        const struct hf_session_options options = model_options(vault);
        struct hf_collect_options collecting = collecting_options(vault);
        collecting.live_percent = 95;
        model_make(&model, MODEL_BYTES, generation);
        if (!model_back_up(&model, vault->vault, &options, &outcome, &err))
            pause(); // the disk is gone
        const struct told told = {outcome.backup, generation};
        (void)!write(tell, &told, sizeof told);
        if (!hf_vault_read(vault->vault, NULL, NULL, &log, &err))
            pause();
        for (size_t i = 0; i + 2 < log->backup_count; i++) {
            const struct hf_id old = log->backups[i].backup;
            if (!log->backups[i].pruned && !hf_id_equal(&old, &before) && !collecting_prune(vault, &old, &err))
                pause();
        }
        if (!collecting_run(vault, &collecting, &report, &err))
            pause();
        before = outcome.backup;
        model_done(&model);
    }
}

/* Every backup that counts is whole, the newest that was acknowledged among them. */
static void
assert_after_cut(struct test_vault *vault, const struct told *newest, const char *scratch)
{
    struct hf_error err;
    struct hf_collect_report report;
    const struct hf_vault_state *log;
    const struct hf_collect_options options = collecting_options(vault);
    test_vault_reopen(vault);
    collecting_assert_whole(vault, UINT64_MAX);
    if (!hf_id_is_none(&newest->backup)) {
        struct model model;
        hf_assert_ok(hf_vault_read(vault->vault, NULL, NULL, &log, &err), &err);
        const struct hf_vault_backup *found = hf_vault_state_backup(log, &newest->backup);
        assert_true(found != NULL && !found->pruned);
        model_make(&model, MODEL_BYTES, newest->generation);
        model_assert_restores(&model, vault->vault, &newest->backup, scratch);
        model_done(&model);
    }
    hf_assert_ok(collecting_run(vault, &options, &report, &err), &err);
    assert_int_equal(report.damaged, 0);
    assert_string_equal(report.unreadable, "");
    collecting_assert_whole(vault, 0);
}

HF_TEST(the_power_may_go_while_backups_are_given_up_and_collected)
{
    struct test_vault vault;
    char image[128], disk[128];
    const char *folder = hf_test_folder(), *why;
    struct told newest = {.generation = 0};
    unsigned cuts = 0, acknowledged = 0;
    const unsigned wanted = in_campaign() ? CUTS_CAMPAIGN : CUTS;
    snprintf(image, sizeof image, "%s/image", folder);
    snprintf(disk, sizeof disk, "%s/disk", folder);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (!test_disk_make_ext4(image, DISK_BYTES, &why) || !test_disk_mount_ext4(image, disk, &why))
        HF_TEST_SKIP(why);
    test_vault_make(&vault, disk);
    srandom((unsigned)hf_monotonic_ns());
    for (; cuts < wanted; cuts++) {
        int told[2];
        struct told word;
        test_vault_close(&vault);
        assert_int_equal(pipe2(told, O_CLOEXEC), 0);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            live(&vault, newest.generation + 1, told[1]);
        close(told[1]);
        usleep(50000 + (useconds_t)(random() % ALIVE_MOST_US));
        const bool cut = test_disk_cut_power(disk);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        if (!cut) {
            close(told[0]);
            HF_TEST_SKIP("this kernel does not cut the power of ext4");
        }
        for (; read(told[0], &word, sizeof word) == (ssize_t)sizeof word; acknowledged++)
            newest = word;
        close(told[0]);
        test_disk_unmount(disk);
        if (!test_disk_mount_ext4(image, disk, &why))
            fail_msg("after the power cut: %s", why);
        assert_after_cut(&vault, &newest, folder);
    }
    print_message("# %u cuts, %u backups acknowledged before\n", cuts, acknowledged);
    test_vault_done(&vault);
    test_disk_unmount(disk);
    unlink(image);
}
