/*
 * What the prisoner does to itself and to the host's patience: each in a sandbox of its own, which must end it, bound
 * it or not care, and leave nothing behind.
 */
#include <signal.h>
#include <unistd.h>

#include "tests/escape/prisoner.h"
#include "tests/sandbox/restored.h"
#include "sandbox/tree.h"
#include "base/file.h"
#include "base/time.h"

static struct hf_sandbox *start(const struct hf_sandbox_spec *spec);
static struct hf_sandbox_exit run(const struct hf_sandbox_spec *spec, struct hf_buf *log);
static bool has_layer(struct hf_sandbox *sandbox, const char *layer);
static bool enforces(const char *layer);
static unsigned long long number_behind(const struct hf_buf *log, const char *word);
static void assert_memory_bomb_is_ended(const char *kind);

HF_TEST(case_31_a_fork_bomb_stays_within_its_number_of_processes)
{
    const char *const arguments[] = {"fork-bomb", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = start(&spec);
    struct hf_error err;
    uint64_t position = 0;
    bool found;
    _cleanup_(hf_buf_done) struct hf_buf line = HF_BUF_INIT(HF_KIB);
    hf_assert_ok(hf_sandbox_log_wait(sandbox, "born ", &position, 20000, &line, &found, &err), &err);
    assert_true(found);
    unsigned long long born = number_behind(&line, "born ");
    assert_in_range(born, 1, 32);
    hf_sandbox_freep(&sandbox);
    hf_test_nothing_is_left();
}

HF_TEST(case_32a_private_memory_is_limited)
{
    assert_memory_bomb_is_ended("private");
}

HF_TEST(case_32b_shared_memory_is_limited)
{
    assert_memory_bomb_is_ended("shared");
}

HF_TEST(case_32c_system_v_memory_is_limited)
{
    assert_memory_bomb_is_ended("sysv");
}

HF_TEST(case_33_open_files_are_limited)
{
    const char *const arguments[] = {"descriptor-bomb", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_EXITED);
    assert_in_range(number_behind(&log, "opened "), 32, 64);
}

HF_TEST(case_34a_folders_in_memory_are_limited_in_bytes_and_in_files)
{
    static const char *const folders[] = {"/tmp", "/dev/shm"};
    for (size_t i = 0; i < HF_LENGTH(folders); i++) {
        const char *const arguments[] = {"fill", folders[i], NULL};
        const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
        _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
        assert_int_equal(run(&spec, &log).end, HF_SANDBOX_EXITED);
        assert_in_range(number_behind(&log, "wrote "), 15 * HF_MIB, 16 * HF_MIB);
        assert_in_range(number_behind(&log, "made "), 1000, 65536);
    }
}

HF_TEST(case_34b_a_copy_that_outgrows_its_disk_limit_is_ended)
{
    const char *const arguments[] = {"grow", "/data", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    uint64_t bytes;
    spec.limits.disk_bytes = 32 * HF_MIB;
    spec.limits.memory_bytes = 2 * HF_GIB; // its files lie in memory in this test
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_OVER_DISK);
    hf_assert_ok(hf_tree_measure(spec.data, &bytes, &err), &err);
    assert_in_range(bytes, 32 * HF_MIB, 1024 * HF_MIB);
}

HF_TEST(case_35_a_sparse_file_costs_nothing)
{
    const char *const arguments[] = {"sparse", "/data", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    struct hf_error err;
    uint64_t bytes;
    spec.limits.disk_bytes = 32 * HF_MIB;
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_EXITED);
    assert_true(number_behind(&log, "sparse ") >= UINT64_C(1) << 40);
    hf_assert_ok(hf_tree_measure(spec.data, &bytes, &err), &err);
    assert_true(bytes < HF_MIB);
}

HF_TEST(case_36_a_flood_of_log_lines_is_ended_at_the_limit)
{
    const char *const arguments[] = {"flood", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(4 * HF_MIB);
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_OVER_LOG);
    assert_int_equal(log.length, HF_MIB);
}

HF_TEST(case_38_daemons_that_ignore_every_signal_are_ended)
{
    const char *const arguments[] = {"daemons", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    struct hf_sandbox *sandbox = start(&spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    assert_true(hf_sandbox_wait_ready(sandbox, 10000));
    hf_assert_ok(hf_sandbox_signal(sandbox, SIGTERM, &err), &err);
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 200, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_RUNNING);
    uint64_t began = hf_monotonic_ns();
    hf_assert_ok(hf_sandbox_stop(sandbox, &end, &err), &err);
    assert_int_equal(end.end, HF_SANDBOX_STOPPED);
    assert_true(hf_monotonic_ns() - began < 1000000000);
    hf_sandbox_freep(&sandbox);
    hf_test_nothing_is_left();
}

HF_TEST(case_39_one_that_stops_itself_is_ended_at_the_wall_limit)
{
    const char *const arguments[] = {"stop-itself", "", NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    spec.limits.wall_ms = 300;
    uint64_t began = hf_monotonic_ns();
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_OVER_WALL);
    assert_true(hf_monotonic_ns() - began < UINT64_C(5000000000));
    hf_test_nothing_is_left();
}

HF_TEST(calls_of_another_architecture_kill)
{
    static const char *const kinds[] = {"int80", "x32"};
    for (size_t i = 0; i < HF_LENGTH(kinds); i++) {
        const char *const arguments[] = {kinds[i], "", NULL};
        const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
        _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
        struct hf_sandbox_exit end = run(&spec, &log);
        assert_int_equal(end.end, HF_SANDBOX_EXITED);
        assert_int_equal(end.signal, SIGSYS);
        assert_int_equal(log.length, 0);
    }
}

static struct hf_sandbox *
start(const struct hf_sandbox_spec *spec)
{
    struct hf_sandbox *sandbox = NULL;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_start(spec, &sandbox, &err), &err);
    return sandbox;
}

static struct hf_sandbox_exit
run(const struct hf_sandbox_spec *spec, struct hf_buf *log)
{
    struct hf_sandbox *sandbox = start(spec);
    struct hf_sandbox_exit end;
    struct hf_error err;
    hf_assert_ok(hf_sandbox_wait_exit(sandbox, 60000, &end, &err), &err);
    hf_assert_ok(hf_sandbox_log_copy(sandbox, log, &err), &err);
    hf_sandbox_freep(&sandbox);
    return end;
}

/* The word's line in its log. */
static unsigned long long
number_behind(const struct hf_buf *log, const char *word)
{
    const char *at = strstr(hf_buf_text(log), word);
    if (at == NULL)
        fail_msg("it said: %.200s", hf_buf_text(log));
    return strtoull(at + strlen(word), NULL, 10);
}

static void
assert_memory_bomb_is_ended(const char *kind)
{
    const char *const arguments[] = {"memory-bomb", kind, NULL};
    struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_buf_done) struct hf_buf log = HF_BUF_INIT(HF_MIB);
    if (!enforces("memory_limit"))
        HF_TEST_SKIP("no memory limit can be held here");
    spec.limits.memory_bytes = 128 * HF_MIB;
    assert_int_equal(run(&spec, &log).end, HF_SANDBOX_OVER_MEMORY);
    hf_test_nothing_is_left();
}

static bool
enforces(const char *layer)
{
    const char *const arguments[] = {"say", "", NULL};
    const struct hf_sandbox_spec spec = hf_test_prisoner_spec(arguments);
    _cleanup_(hf_sandbox_freep) struct hf_sandbox *sandbox = start(&spec);
    return has_layer(sandbox, layer);
}

static bool
has_layer(struct hf_sandbox *sandbox, const char *layer)
{
    _cleanup_(hf_json_freep) json_t *report = NULL;
    struct hf_error err;
    size_t at;
    const json_t *name;
    hf_assert_ok(hf_sandbox_report(sandbox, &report, &err), &err);
    json_array_foreach(json_object_get(report, "layers"), at, name)
    {
        if (strcmp(json_string_value(name), layer) == 0)
            return true;
    }
    return false;
}
