/*
 * check_speed.c - how fast the store is judged: level 1 beside `openssl dgst -sha256` of the same bytes, level 2 a core
 *
 *     check_speed FOLDER MIB ROUNDS
 *
 * Makes a repository with a backup of so many MiB below FOLDER (as compressible as tables are), and runs in each round
 * one after the other: openssl over all packs, level 1 and level 2 with one worker each.  Prints medians, the ratio,
 * and one line of JSON.  Times are the processor's, so that a busy neighbour changes little; the packs are in the page
 * cache.
 */
#include "tests/support/test.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "server/care/check.h"
#include "server/repository/pack.h"
#include "tests/support/model.h"

#define ROUNDS_MOST  99
#define LEVEL_1_AIM  0.8
#define LEVEL_2_AIM  400.0 // MB of page data a second
#define SHARE_RANDOM 3     // one of so many bytes of a page: zstd then makes about 0.36 of it

struct measured {
    double cpu_s[ROUNDS_MOST], wall_s[ROUNDS_MOST];
};

/* Processor time of ourselves, or of the children that ended. */
static double
cpu_seconds(int who)
{
    struct rusage usage;
    assert_int_equal(getrusage(who, &usage), 0);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int
compare(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static double
median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return values[count / 2];
}

/* One third noise, spread over the page in short pieces, between text. */
static void
make_realistic(struct model *model)
{
    uint64_t state = 88172645463325252u;
    for (size_t i = 0; i < MODEL_FILES; i++)
        for (size_t at = 0; at < model->files[i].size; at++) {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            model->files[i].bytes[at] =
                at / 16 % SHARE_RANDOM == 0 ? (uint8_t)state : (uint8_t)("patient record "[at % 15]);
        }
}

static void
run_openssl(char **arguments, struct measured *measured, size_t round)
{
    const double cpu = cpu_seconds(RUSAGE_CHILDREN);
    const uint64_t wall = hf_monotonic_ns();
    int status;
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stdout) != NULL)
            execvp("openssl", arguments);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    measured->cpu_s[round] = cpu_seconds(RUSAGE_CHILDREN) - cpu;
    measured->wall_s[round] = (double)(hf_monotonic_ns() - wall) / 1e9;
}

static void
run_check(struct test_vault *vault, int level, struct measured *measured, size_t round)
{
    struct hf_error err;
    struct hf_check_report report;
    const struct hf_check_options options = {.level = level, .workers = 1};
    const double cpu = cpu_seconds(RUSAGE_SELF);
    const uint64_t wall = hf_monotonic_ns();
    hf_assert_ok(hf_repository_check(vault->repository, &options, &report, &err), &err);
    measured->cpu_s[round] = cpu_seconds(RUSAGE_SELF) - cpu;
    measured->wall_s[round] = (double)(hf_monotonic_ns() - wall) / 1e9;
    assert_int_equal(report.damages, 0);
}

HF_TEST(check_speed)
{
    const char *folder = getenv("FOLDER"), *mib = getenv("MIB"), *rounds_text = getenv("ROUNDS");
    if (folder == NULL || mib == NULL || rounds_text == NULL)
        HF_TEST_SKIP("FOLDER, MIB and ROUNDS say what to do: see tests/bench/check");
    const size_t rounds = strtoul(rounds_text, NULL, 10);
    assert_true(rounds > 0 && rounds <= ROUNDS_MOST);
    static struct measured openssl, level_1, level_2;
    struct test_vault vault;
    struct model model;
    struct hf_error err;
    struct hf_session_outcome outcome;
    const struct hf_vault_state *log;
    test_vault_make(&vault, folder);
    model_make(&model, strtoul(mib, NULL, 10) * HF_MIB, 0);
    make_realistic(&model);
    const struct hf_session_options session = model_options(&vault);
    hf_assert_ok(model_back_up(&model, vault.vault, &session, &outcome, &err), &err);
    const double page_bytes = (double)model_bytes(&model);
    model_done(&model);

    hf_assert_ok(hf_vault_read(vault.vault, NULL, NULL, &log, &err), &err);
    char **arguments = calloc(log->pack_count + 4, sizeof *arguments);
    assert_non_null(arguments);
    char words[][10] = {"openssl", "dgst", "-sha256"};
    double pack_bytes = 0;
    for (size_t i = 0; i < 3; i++)
        arguments[i] = words[i];
    for (size_t i = 0; i < log->pack_count; i++) {
        char name[HF_PACK_NAME_BYTES];
        pack_bytes += (double)log->packs[i].bytes;
        assert_true(
            asprintf(&arguments[3 + i], "%s/%s", vault.place, hf_pack_name(&vault.id, &log->packs[i].pack, name)) > 0);
    }
    for (size_t round = 0; round < rounds; round++) {
        run_openssl(arguments, &openssl, round);
        run_check(&vault, 1, &level_1, round);
        run_check(&vault, 2, &level_2, round);
    }

    const double by_openssl = pack_bytes / 1e6 / median(openssl.cpu_s, rounds);
    const double by_level_1 = pack_bytes / 1e6 / median(level_1.cpu_s, rounds);
    const double by_level_2 = page_bytes / 1e6 / median(level_2.cpu_s, rounds);
    const double ratio = by_level_1 / by_openssl;
    print_message("# %zu rounds, %.0f MB of pages in %.0f MB of packs, one core, processor time\n", rounds,
                  page_bytes / 1e6, pack_bytes / 1e6);
    print_message("# openssl dgst -sha256   %8.0f MB/s\n", by_openssl);
    print_message("# check level 1          %8.0f MB/s   %.2f x openssl, aim %.2f: %s\n", by_level_1, ratio,
                  LEVEL_1_AIM, ratio >= LEVEL_1_AIM ? "met" : "missed");
    print_message("# check level 2          %8.0f MB/s of pages, aim %.0f: %s\n", by_level_2, LEVEL_2_AIM,
                  by_level_2 >= LEVEL_2_AIM ? "met" : "missed");
    print_message("# wall clock, medians: openssl %.2f s, level 1 %.2f s, level 2 %.2f s\n",
                  median(openssl.wall_s, rounds), median(level_1.wall_s, rounds), median(level_2.wall_s, rounds));
    print_message("{\"check_level_1_ratio\":%.3f,\"check_level_2_mb_per_core\":%.0f,\"openssl_mb\":%.0f,"
                  "\"rounds\":%zu}\n",
                  ratio, by_level_2, by_openssl, rounds);
    for (size_t i = 0; i < log->pack_count; i++)
        free(arguments[3 + i]);
    free(arguments);
    test_vault_done(&vault);
}
