/*
 * Every call that a backup session makes to the disk, to the allocator and for threads fails once: the first, then the
 * second, until the session no longer meets the failure.  Each time the error says what happened, no thread hangs,
 * nothing leaks, what was acknowledged before restores as it was, and the next session works with nobody's help.
 */
#include "tests/support/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"
#include "base/process.h"
#include "server/care/check.h"
#include "server/care/collect.h"
#include "tests/support/model.h"

#define MODEL_BYTES   HF_MIB
#define HANG_SECONDS  60
#define MEMORY_ROUNDS 60 // of the allocations of a session so many are tried, evenly spread

/*
 * What the wrapped calls do.  While armed, those of the chosen kind are counted, by whatever thread they are made;
 * number `at` fails, and with `for_good` every later one too.
 */
enum call_kind { DISK, MEMORY };
static struct {
    atomic_bool armed;
    enum call_kind kind;
    bool for_good;
    unsigned at;
    atomic_uint calls, failures;
    const char *first; // the call that failed first
    char round[160];   // told when a round hangs or fails
} fault;

static bool
fails(enum call_kind kind, const char *call)
{
    if (!atomic_load(&fault.armed) || kind != fault.kind)
        return false;
    const unsigned number = atomic_fetch_add(&fault.calls, 1) + 1;
    if (number != fault.at && !(fault.for_good && number > fault.at))
        return false;
    if (atomic_fetch_add(&fault.failures, 1) == 0)
        fault.first = call;
    errno = kind == DISK ? EIO : ENOMEM;
    return true;
}

#define WRAP(kind, type, failed, name, parameters, arguments)                                                          \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails(kind, #name) ? (failed) : __real_##name arguments;                                                \
    }
#define DISK_CALL(name, parameters, arguments)         WRAP(DISK, int, -1, name, parameters, arguments)
#define MEMORY_CALL(type, name, parameters, arguments) WRAP(MEMORY, type, NULL, name, parameters, arguments)

DISK_CALL(fsync, (int fd), (fd))
DISK_CALL(fdatasync, (int fd), (fd))
DISK_CALL(fchmod, (int fd, mode_t mode), (fd, mode))
DISK_CALL(ftruncate64, (int fd, off_t length), (fd, length))
DISK_CALL(fallocate64, (int fd, int mode, off_t offset, off_t length), (fd, mode, offset, length))
DISK_CALL(flock, (int fd, int how), (fd, how))
DISK_CALL(mkdirat, (int at, const char *name, mode_t mode), (at, name, mode))
DISK_CALL(unlinkat, (int at, const char *name, int flags), (at, name, flags))
DISK_CALL(unlink, (const char *name), (name))
DISK_CALL(rename, (const char *from, const char *to), (from, to))
DISK_CALL(renameat, (int from, const char *old, int to, const char *new), (from, old, to, new))
DISK_CALL(renameat2, (int from, const char *old, int to, const char *new, unsigned how), (from, old, to, new, how))
DISK_CALL(linkat, (int from, const char *old, int to, const char *new, int how), (from, old, to, new, how))
DISK_CALL(fstat64, (int fd, struct stat *status), (fd, status))
WRAP(DISK, ssize_t, -1, pread64, (int fd, void *data, size_t length, off_t at), (fd, data, length, at))
WRAP(DISK, ssize_t, -1, pwrite64, (int fd, const void *data, size_t length, off_t at), (fd, data, length, at))
WRAP(DISK, DIR *, NULL, fdopendir, (int fd), (fd))

MEMORY_CALL(void *, malloc, (size_t size), (size))
MEMORY_CALL(void *, calloc, (size_t count, size_t size), (count, size))
MEMORY_CALL(void *, realloc, (void *old, size_t size), (old, size))
MEMORY_CALL(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size))
MEMORY_CALL(char *, strdup, (const char *text), (text))
WRAP(MEMORY, int, EAGAIN, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes, void *(*body)(void *), void *context),
     (thread, attributes, body, context))

/* What the test prints goes through. */
ssize_t __real_write(int fd, const void *data, size_t length);
ssize_t __wrap_write(int fd, const void *data, size_t length);
ssize_t
__wrap_write(int fd, const void *data, size_t length)
{
    return fd > STDERR_FILENO && fails(DISK, "write") ? -1 : __real_write(fd, data, length);
}

int __real_open64(const char *path, int flags, mode_t mode);
int __wrap_open64(const char *path, int flags, mode_t mode);
int
__wrap_open64(const char *path, int flags, mode_t mode)
{
    return fails(DISK, "open") ? -1 : __real_open64(path, flags, mode);
}

int __real_openat64(int at, const char *path, int flags, mode_t mode);
int __wrap_openat64(int at, const char *path, int flags, mode_t mode);
int
__wrap_openat64(int at, const char *path, int flags, mode_t mode)
{
    return fails(DISK, "openat") ? -1 : __real_openat64(at, path, flags, mode);
}

/* openat2() has no function of its own. */
long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long
__wrap_syscall(long number, ...)
{
    va_list list;
    long arguments[6];
    va_start(list, number);
    for (size_t i = 0; i < HF_LENGTH(arguments); i++)
        arguments[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_openat2 && fails(DISK, "openat2"))
        return -1;
    return __real_syscall(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}

static void
arm(enum call_kind kind, unsigned at, bool for_good)
{
    fault.kind = kind;
    fault.at = at;
    fault.for_good = for_good;
    fault.calls = fault.failures = 0;
    fault.first = "nothing";
    snprintf(fault.round, sizeof fault.round, "# %s call %u fails%s\n", kind == DISK ? "disk" : "memory", at,
             for_good ? ", and all after it" : "");
    alarm(HANG_SECONDS);
    atomic_store(&fault.armed, true);
}

static void
disarm(void)
{
    atomic_store(&fault.armed, false);
    alarm(0);
}

static void
tell_hang(int signal)
{
    (void)signal;
    static const char text[] = "# a session hangs in this round:\n";
    (void)!__real_write(STDOUT_FILENO, text, sizeof text - 1);
    (void)!__real_write(STDOUT_FILENO, fault.round, strlen(fault.round));
    _exit(1);
}

/* A repository with one acknowledged backup, of which every round gets a copy. */
static struct {
    const char *folder;
    char template[64], round[64];
    struct test_vault vault;
    struct model before, during, after; // three generations
    struct hf_id first;                 // the backup of `before`
} stage;

static struct hf_session_options
options_here(void)
{
    struct hf_session_options options = model_options(&stage.vault);
    options.memory_bytes = HF_MIB; // the least there is
    options.prove_slabs = true;
    return options;
}

/* A session of `during` that hands over all but its last files. */
static struct hf_session *
begin_part(void)
{
    struct hf_error err;
    struct hf_session *session;
    struct hf_session_file *file;
    const struct hf_session_options options = options_here();
    hf_assert_ok(hf_session_begin(stage.vault.vault, &options, &session, &err), &err);
    for (size_t i = 0; i + 2 < MODEL_FILES; i++)
        hf_assert_ok(model_hand_over_file(&stage.during.files[i], stage.during.files[i].size, session, &file, &err),
                     &err);
    hf_assert_ok(hf_session_flush(session, &err), &err);
    return session;
}

/* suspended: the template also holds what a session of `during` left that was cut off. */
static void
set_stage(bool suspended)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    signal(SIGALRM, tell_hang);
    stage.folder = hf_test_folder();
    snprintf(stage.template, sizeof stage.template, "%s/template", stage.folder);
    snprintf(stage.round, sizeof stage.round, "%s/round", stage.folder);
    assert_int_equal(mkdir(stage.template, 0700), 0);
    test_vault_make(&stage.vault, stage.template);
    model_make(&stage.before, MODEL_BYTES, 0);
    model_make(&stage.during, MODEL_BYTES, 1);
    model_make(&stage.after, MODEL_BYTES, 2);
    const struct hf_session_options options = options_here();
    hf_assert_ok(model_back_up(&stage.before, stage.vault.vault, &options, &outcome, &err), &err);
    stage.first = outcome.backup;
    if (suspended) {
        struct hf_session *session = begin_part();
        assert_true(hf_session_suspend(&session, "source_failed"));
    }
    test_vault_close(&stage.vault);
}

static void
clear_stage(void)
{
    model_done(&stage.before);
    model_done(&stage.during);
    model_done(&stage.after);
    test_vault_done(&stage.vault);
}

static size_t
count_names(const char *folder)
{
    struct hf_error err;
    _cleanup_(hf_strv_freep) char **names = NULL;
    size_t count = 0;
    if (access(folder, F_OK) == 0)
        hf_assert_ok(hf_dir_list(folder, 1000, &names, &count, &err), &err);
    return count;
}

static void
print_damage(void *context, const struct hf_damage *damage)
{
    (void)context;
    print_message("# %s\n", damage->message);
}

/* What must be true after any round, as a new process sees it.  `backups`: how many count. */
static void
assert_repository_is_well(size_t *ret_backups)
{
    struct hf_error err;
    const struct hf_vault_state *state;
    const struct hf_check_options check = {.level = 2, .workers = 2, .damage = print_damage};
    struct hf_check_report report;
    struct hf_session_outcome outcome;
    char staging[700], text[HF_ID_TEXT_BYTES];

    test_vault_reopen(&stage.vault);
    hf_assert_ok(hf_vault_read(stage.vault.vault, NULL, NULL, &state, &err), &err);
    *ret_backups = state->backup_count;
    assert_true(hf_id_equal(&state->backups[0].backup, &stage.first));
    if (state->backup_count > 1)
        model_assert_restores(&stage.during, stage.vault.vault, &state->backups[1].backup, stage.folder);
    model_assert_restores(&stage.before, stage.vault.vault, &stage.first, stage.folder);

    const struct hf_session_options options = options_here();
    hf_assert_ok(model_back_up(&stage.after, stage.vault.vault, &options, &outcome, &err), &err);
    model_assert_restores(&stage.after, stage.vault.vault, &outcome.backup, stage.folder);
    hf_assert_ok(hf_repository_check(stage.vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);

    struct hf_collect_report collected;
    hf_assert_ok(hf_repository_collect(stage.vault.repository, &collected, &err), &err);
    assert_int_equal(collected.kept_open, 0);
    hf_assert_ok(hf_repository_check(stage.vault.repository, &check, &report, &err), &err);
    assert_int_equal(report.damages, 0);
    assert_int_equal(report.orphans, 0);
    snprintf(staging, sizeof staging, "%s/vaults/%s/staging", stage.vault.place, hf_id_format(&stage.vault.id, text));
    assert_int_equal(count_names(staging), 0);
}

static void
assert_clear(const struct hf_error *err)
{
    assert_int_not_equal(err->kind, HF_ERR_NONE);
    assert_int_not_equal(err->kind, HF_ERR_USAGE);
    assert_true(strlen(err->message) > 10);
    if (fault.kind == DISK) {
        assert_int_equal(err->kind, HF_ERR_UNAVAILABLE);
        assert_non_null(strstr(err->message, strerror(EIO)));
        assert_non_null(strchr(err->message, '"')); // some object is named
    } else if (strstr(err->message, "could not start a worker thread") == NULL) {
        assert_int_equal(err->kind, HF_ERR_NO_MEMORY);
        assert_true(strncmp(err->message, "out of memory", 13) == 0 || strstr(err->message, ": out of memory") != NULL);
        assert_null(strstr(err->message, "faulty")); // memory that is missing is not memory that lies
    }
}

/* One session of which one call fails.  Returns whether the call was still made. */
static bool
survive(enum call_kind kind, unsigned at, bool for_good)
{
    struct hf_error err = {0};
    struct hf_session_outcome outcome;
    size_t backups;
    test_vault_begin_round(&stage.vault, stage.template, stage.round);
    const size_t descriptors = count_names("/proc/self/fd");
    const struct hf_session_options options = options_here();
    arm(kind, at, for_good);
    const bool ok = model_back_up(&stage.during, stage.vault.vault, &options, &outcome, &err);
    disarm();
    const bool met = fault.failures > 0;
    print_message("# %s %u (%s)%s: %s\n", kind == DISK ? "disk" : "memory", at, fault.first, for_good ? " ..." : "",
                  ok ? "done" : err.message);

    assert_int_equal(count_names("/proc/self/fd"), descriptors);
    assert_int_equal(count_names("/proc/self/task"), 1);
    if (!ok)
        assert_clear(&err);
    assert_true(ok || met);
    const struct hf_vault_state *state; // what was being read when memory ended can be read again
    hf_assert_ok(hf_vault_read(stage.vault.vault, NULL, NULL, &state, &err), &err);
    assert_repository_is_well(&backups);
    assert_true(!ok || backups == 2);
    /* A COMMIT whose sync failed may stand in the log all the same: it says so, and it restores. */
    if (!ok && backups > 1)
        assert_non_null(strstr(err.hint, "in the log"));
    return met;
}

static void
walk(enum call_kind kind, bool for_good, unsigned from, unsigned step)
{
    unsigned at = from, rounds = 0;
    while (survive(kind, at, for_good)) {
        at += step;
        rounds++;
    }
    print_message("# %u rounds, the last at call %u\n", rounds, at);
    assert_true(rounds > 20);
}

HF_TEST(a_session_survives_the_failure_of_any_call_to_the_disk)
{
    set_stage(false);
    walk(DISK, false, 1, 1);
    clear_stage();
}

HF_TEST(a_session_survives_a_disk_that_fails_from_any_call_on)
{
    set_stage(false);
    walk(DISK, true, 1, 1);
    clear_stage();
}

/* How many allocations a session makes, and from where to try which. */
static unsigned
memory_step(unsigned *ret_first)
{
    struct hf_error err;
    struct hf_session_outcome outcome;
    test_vault_begin_round(&stage.vault, stage.template, stage.round);
    const struct hf_session_options options = options_here();
    arm(MEMORY, UINT32_MAX, false);
    hf_assert_ok(model_back_up(&stage.during, stage.vault.vault, &options, &outcome, &err), &err);
    disarm();
    const unsigned step = fault.calls / MEMORY_ROUNDS + 1;
    *ret_first = 1 + randombytes_uniform(step); // so that many runs try them all
    print_message("# %u allocations, of which every %u. fails, from the %u. on\n", fault.calls, step, *ret_first);
    return step;
}

HF_TEST(a_session_survives_the_failure_of_any_allocation)
{
    unsigned first;
    set_stage(false);
    const unsigned step = memory_step(&first);
    walk(MEMORY, false, first, step);
    clear_stage();
}

HF_TEST(a_session_survives_memory_that_is_gone_from_any_allocation_on)
{
    unsigned first;
    set_stage(false);
    const unsigned step = memory_step(&first);
    walk(MEMORY, true, first, step);
    clear_stage();
}

HF_TEST(a_session_that_builds_on_a_suspended_one_survives_the_failure_of_any_call_to_the_disk)
{
    set_stage(true);
    walk(DISK, false, 1, 1);
    clear_stage();
}

HF_TEST(a_session_that_builds_on_a_suspended_one_survives_the_failure_of_any_allocation)
{
    unsigned first;
    set_stage(true);
    const unsigned step = memory_step(&first);
    walk(MEMORY, false, first, step);
    clear_stage();
}

/*
 * An abort cannot fail: what it could not do the next session and collection do.  What cannot be suspended is aborted.
 */
static bool
end_survives(enum call_kind kind, unsigned at, bool for_good, bool suspend)
{
    size_t backups;
    test_vault_begin_round(&stage.vault, stage.template, stage.round);
    const size_t descriptors = count_names("/proc/self/fd");
    struct hf_session *session = begin_part();
    arm(kind, at, for_good);
    const bool kept = suspend && hf_session_suspend(&session, "tested");
    if (!suspend)
        hf_session_abort(&session, "tested");
    disarm();
    const bool met = fault.failures > 0;
    assert_null(session);
    assert_int_equal(count_names("/proc/self/fd"), descriptors);
    assert_int_equal(count_names("/proc/self/task"), 1);
    assert_true(kept || met || !suspend);
    assert_repository_is_well(&backups);
    assert_int_equal(backups, 1);
    return met;
}

static void
walk_end(bool suspend)
{
    set_stage(false);
    for (int kind = DISK; kind <= MEMORY; kind++)
        for (int for_good = 0; for_good <= 1; for_good++) {
            unsigned at = 1;
            while (end_survives(kind, at, for_good, suspend))
                at++;
            print_message("# %s%s: %u rounds\n", kind == DISK ? "disk" : "memory", for_good ? ", for good" : "", at);
            assert_true(at > 3);
        }
    clear_stage();
}

HF_TEST(an_abort_survives_the_failure_of_any_call)
{
    walk_end(false);
}

HF_TEST(a_suspension_survives_the_failure_of_any_call)
{
    walk_end(true);
}
