/*
 * Every call that a change of keys makes to the disk fails once, then from there on, and then the process is killed
 * there instead: the first call, the second, until the change no longer meets it.  Each time every credential opens the
 * repository as before or as after, the same change made again finishes, and what was backed up restores.
 */
#include "tests/support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/care/check.h"
#include "server/care/rotation.h"
#include "tests/support/disk.h"
#include "tests/support/model.h"

#define MODEL_BYTES   HF_MIB
#define DISK_BYTES    (64 * HF_MIB)
#define CUTS          4
#define ALIVE_MOST_US 250000
#define RESTORE_EACH  16 // rounds; the others open vault and log

/* ONCE: call number `at` fails; FOR_GOOD: and all after it; KILL: the process ends there. */
enum how { ONCE, FOR_GOOD, KILL };
static struct {
    bool armed;
    enum how how;
    unsigned at, calls, failures;
} fault;

static bool
fails(void)
{
    if (!fault.armed)
        return false;
    fault.calls++;
    if (fault.calls != fault.at && !(fault.how == FOR_GOOD && fault.calls > fault.at))
        return false;
    if (fault.how == KILL)
        kill(getpid(), SIGKILL);
    fault.failures++;
    errno = EIO;
    return true;
}

#define WRAP(type, name, parameters, arguments)                                                                        \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails() ? -1 : __real_##name arguments;                                                                 \
    }
WRAP(int, fsync, (int fd), (fd))
WRAP(int, fdatasync, (int fd), (fd))
WRAP(int, ftruncate64, (int fd, off_t length), (fd, length))
WRAP(int, fallocate64, (int fd, int mode, off_t at, off_t length), (fd, mode, at, length))
WRAP(int, flock, (int fd, int how), (fd, how))
WRAP(int, mkdirat, (int at, const char *name, mode_t mode), (at, name, mode))
WRAP(int, unlinkat, (int at, const char *name, int flags), (at, name, flags))
WRAP(int, renameat, (int from, const char *old, int to, const char *new), (from, old, to, new))
WRAP(int, renameat2, (int from, const char *old, int to, const char *new, unsigned how), (from, old, to, new, how))
WRAP(int, linkat, (int from, const char *old, int to, const char *new, int how), (from, old, to, new, how))
WRAP(ssize_t, pread64, (int fd, void *data, size_t length, off_t at), (fd, data, length, at))
WRAP(ssize_t, pwrite64, (int fd, const void *data, size_t length, off_t at), (fd, data, length, at))

/* What the test prints goes through. */
ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t
__wrap_write(int fd, const void *data, size_t length)
{
    return fd > STDERR_FILENO && fails() ? -1 : __real_write(fd, data, length);
}

/* A repository with a backup and two slots, of which every round gets a copy. */
static struct {
    const char *folder;
    char template[64], round[64];
    struct test_vault vault; // its credential opens the slot "test"
    struct hf_credential spare;
    struct hf_slot_info spare_slot;
    struct model model;
    struct hf_id backup;
} stage;

static void
set_stage(void)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_slot_options options = {.name = "spare"};
    stage.folder = hf_test_folder();
    snprintf(stage.template, sizeof stage.template, "%s/template", stage.folder);
    snprintf(stage.round, sizeof stage.round, "%s/round", stage.folder);
    assert_int_equal(mkdir(stage.template, 0700), 0);
    test_vault_make(&stage.vault, stage.template);
    stage.spare = (struct hf_credential){.kind = HF_SLOT_KEY_FILE};
    hf_assert_ok(hf_secret_random(&stage.spare.key, HF_KEY_BYTES, &err), &err);
    const struct hf_id id = hf_repository_id(stage.vault.repository);
    hf_assert_ok(hf_slot_add(hf_repository_backend(stage.vault.repository), &id, &stage.spare, &options,
                             hf_repository_root_key(stage.vault.repository), 1, &stage.spare_slot, &err),
                 &err);
    model_make(&stage.model, MODEL_BYTES, 0);
    const struct hf_session_options session = model_options(&stage.vault);
    hf_assert_ok(model_back_up(&stage.model, stage.vault.vault, &session, &outcome, &err), &err);
    stage.backup = outcome.backup;
    test_vault_close(&stage.vault);
}

static void
clear_stage(void)
{
    model_done(&stage.model);
    hf_credential_done(&stage.spare);
    test_vault_done(&stage.vault);
}

/* The changes.  Each begins as its command does, with whatever an earlier one left. */
typedef bool change(struct hf_error *err);

static bool
add_slot(struct hf_error *err)
{
    struct hf_backend *backend = hf_repository_backend(stage.vault.repository);
    const struct hf_id id = hf_repository_id(stage.vault.repository);
    const struct hf_slot_options options = {.name = "third"};
    struct hf_slot_info slots[HF_SLOTS_MOST], made;
    size_t count;
    if (!hf_slot_list(backend, &id, slots, &count, err))
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(slots[i].name, "third") == 0)
            return true;
    return hf_slot_add(backend, &id, &stage.spare, &options, hf_repository_root_key(stage.vault.repository), 2, &made,
                       err);
}

static bool
remove_slot(struct hf_error *err)
{
    return hf_slot_remove(hf_repository_backend(stage.vault.repository), &stage.spare_slot.id, err);
}

static bool
rotate_data_key(struct hf_error *err)
{
    uint32_t epoch;
    return hf_rotation_settle(stage.vault.repository, &stage.vault.signing, 3, err) &&
           hf_rotation_add_epoch(stage.vault.repository, &stage.vault.id, &stage.vault.signing, 3, &epoch, err);
}

static bool
rotate_root_key(struct hf_error *err)
{
    struct hf_repository *repository = stage.vault.repository;
    struct hf_backend *backend = hf_repository_backend(repository);
    const struct hf_id id = hf_repository_id(repository);
    const uint32_t next = hf_repository_root_generation(repository) + 1;
    const struct hf_slot_options first = {.name = "test", .generation = next};
    const struct hf_slot_options second = {.name = "spare", .generation = next};
    const struct hf_rotation_turn turn = {
        .credential = &stage.vault.credential, .signing = &stage.vault.signing, .now = 4};
    _cleanup_(hf_secret_done) struct hf_secret root_key = {0};
    struct hf_slot_info made;
    bool turned;
    return hf_rotation_settle(repository, &stage.vault.signing, 4, err) &&
           hf_secret_random(&root_key, HF_KEY_BYTES, err) &&
           hf_slot_add(backend, &id, &stage.vault.credential, &first, &root_key, 4, &made, err) &&
           hf_slot_add(backend, &id, &stage.spare, &second, &root_key, 4, &made, err) &&
           hf_rotation_make_turn(repository, &turn, &turned, err);
}

/* In a process of its own when it is to be killed.  Returns whether the fault was met. */
static bool
make_change(change *make, enum how how, unsigned at)
{
    struct hf_error err = {0};
    int status;
    fault.how = how;
    fault.at = at;
    fault.calls = fault.failures = 0;
    if (how == KILL) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            fault.armed = true;
            _exit(make(&err) ? 0 : 1);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
        return WIFSIGNALED(status);
    }
    fault.armed = true;
    bool done = make(&err);
    fault.armed = false;
    if (!done) {
        assert_true(fault.failures > 0);
        assert_int_not_equal(err.kind, HF_ERR_NONE);
        assert_non_null(strstr(err.message, strerror(EIO)));
    }
    return fault.failures > 0;
}

static void
assert_opens(const struct hf_credential *credential)
{
    struct hf_error err;
    struct hf_slot_info slot;
    const struct hf_vault_state *state;
    _cleanup_(hf_repository_freep) struct hf_repository *repository = NULL;
    _cleanup_(hf_vault_freep) struct hf_vault *vault = NULL;
    hf_assert_ok(hf_repository_open(stage.vault.place, HF_ACCESS_WRITE, &repository, &err), &err);
    hf_assert_ok(hf_repository_unlock(repository, credential, &slot, &err), &err);
    hf_assert_ok(hf_vault_open(repository, &stage.vault.id, &vault, &err), &err);
    hf_assert_ok(hf_vault_read(vault, NULL, NULL, &state, &err), &err);
    assert_int_equal(state->backup_count, 1);
}

/* Level 0 looks at every key; a rotation that was cut off is no damage. */
static void
assert_no_damage(void)
{
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_check_options check = {.level = 0, .workers = 1};
    test_vault_reopen(&stage.vault);
    hf_assert_ok(hf_repository_check(stage.vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
}

static void
assert_settled(void)
{
    struct hf_error err;
    struct hf_rotation_state state;
    hf_assert_ok(hf_rotation_look(stage.vault.repository, &state, &err), &err);
    assert_int_equal(state.pending, 0);
    assert_int_equal(state.left_over, 0);
    assert_int_equal(state.old_bundles, 0);
}

static void
survive_all(change *make, bool spare_stays)
{
    static const char *const words[] = {"fails", "fails, and all after it", "is the last"};
    unsigned rounds = 0;
    set_stage();
    for (enum how how = ONCE; how <= KILL; how++) {
        bool met = true;
        for (unsigned at = 1; met; at++) {
            struct hf_error err;
            test_vault_begin_round(&stage.vault, stage.template, stage.round);
            print_message("# call %u %s\n", at, words[how]);
            met = make_change(make, how, at);
            assert_opens(&stage.vault.credential);
            if (spare_stays)
                assert_opens(&stage.spare);

            assert_no_damage();
            hf_assert_ok(make(&err), &err);
            assert_no_damage();
            assert_settled();
            if (rounds++ % RESTORE_EACH == 0 || !met)
                model_assert_restores(&stage.model, stage.vault.vault, &stage.backup, stage.folder);
        }
    }
    print_message("# %u rounds\n", rounds);
    assert_true(rounds > 6);
    clear_stage();
}

HF_TEST(a_slot_is_added_whatever_fails)
{
    survive_all(add_slot, true);
}

HF_TEST(a_slot_is_removed_whatever_fails)
{
    survive_all(remove_slot, false);
}

HF_TEST(a_data_key_is_replaced_whatever_fails)
{
    survive_all(rotate_data_key, true);
}

HF_TEST(the_root_key_is_replaced_whatever_fails)
{
    survive_all(rotate_root_key, true);
}

/* A child that replaces keys for as long as it lives. */
static pid_t
start_rotating(void)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child > 0)
        return child;
    for (;;) {
        struct hf_error err;
        if (!rotate_root_key(&err) || !rotate_data_key(&err))
            _exit(0); // the disk is gone
    }
}

HF_TEST(power_may_go_while_keys_are_replaced)
{
    struct hf_error err;
    char image[128], disk[128], text[512];
    const char *why;
    set_stage();
    snprintf(image, sizeof image, "%s/image", stage.folder);
    snprintf(disk, sizeof disk, "%s/disk", stage.folder);
    assert_int_equal(mkdir(disk, 0700), 0);
    if (!test_disk_make_ext4(image, DISK_BYTES, &why) || !test_disk_mount_ext4(image, disk, &why)) {
        clear_stage();
        HF_TEST_SKIP(why);
    }
    snprintf(stage.round, sizeof stage.round, "%.50s/round", disk);
    snprintf(stage.vault.place, sizeof stage.vault.place, "%s/repository", stage.round);
    snprintf(stage.vault.cache, sizeof stage.vault.cache, "%s/cache", stage.round);
    test_vault_begin_round(&stage.vault, stage.template, stage.round);
    sync();
    for (unsigned cut = 0; cut < CUTS; cut++) {
        test_vault_reopen(&stage.vault);
        snprintf(text, sizeof text, "root key %u", hf_repository_root_generation(stage.vault.repository));
        pid_t child = start_rotating();
        usleep((useconds_t)(20000 + random() % ALIVE_MOST_US));
        const bool possible = test_disk_cut_power(disk);
        kill(child, SIGKILL);
        assert_int_equal(waitpid(child, NULL, 0), child);
        test_vault_close(&stage.vault);
        if (!possible) {
            test_disk_unmount(disk);
            clear_stage();
            HF_TEST_SKIP("this kernel does not cut the power of ext4");
        }
        test_disk_unmount(disk);
        if (!test_disk_mount_ext4(image, disk, &why))
            fail_msg("after the power cut: %s", why);

        assert_opens(&stage.vault.credential);
        assert_opens(&stage.spare);
        test_vault_reopen(&stage.vault);
        print_message("# from %s to %u\n", text, hf_repository_root_generation(stage.vault.repository));
        hf_assert_ok(rotate_root_key(&err), &err);
        test_vault_reopen(&stage.vault);
        assert_settled();
        model_assert_restores(&stage.model, stage.vault.vault, &stage.backup, stage.folder);
    }
    test_vault_close(&stage.vault);
    test_disk_unmount(disk);
    clear_stage();
}
