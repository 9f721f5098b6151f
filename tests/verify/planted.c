#include "tests/verify/planted.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "server/job/session_sink.h"

#define SANDBOX_UID 1879100000

static void copy_folder(const struct hf_test_cluster *cluster, const char *from, const char *to);
static struct hf_id back_up(struct planted *planted, const struct hf_heal *heal, size_t heal_count);
static bool find(const struct hf_verify_check *check, const char *what, const char *object, int64_t block);

void
planted_begin(struct planted *planted, const struct hf_test_cluster_options *options, planted_fill *fill)
{
    *planted = (struct planted){.cluster = hf_test_cluster_start(options)};
    hf_test_cluster_set(planted->cluster, "autovacuum = off");
    hf_test_cluster_reload(planted->cluster);
    PGconn *conn = hf_test_cluster_connect(planted->cluster, NULL);
    fill(conn);
    hf_test_sql(conn, "CHECKPOINT");
    planted_stop(planted, conn);
    snprintf(planted->pristine, sizeof planted->pristine, "%s.pristine", planted->cluster->data);
    copy_folder(planted->cluster, planted->cluster->data, planted->pristine);
    test_vault_make(&planted->vault, hf_test_folder());
}

void
planted_done(struct planted *planted)
{
    test_vault_done(&planted->vault);
}

void
planted_reset(struct planted *planted)
{
    const char *const argv[] = {"/bin/rm", "-rf", planted->cluster->data, NULL};
    hf_test_cluster_stop(planted->cluster, SIGINT);
    assert_int_equal(hf_test_cluster_run(planted->cluster, argv, NULL, NULL), 0);
    copy_folder(planted->cluster, planted->pristine, planted->cluster->data);
}

void
planted_page(struct planted *planted, const char *path, uint64_t page, planted_change *change, uint64_t number)
{
    uint8_t bytes[PLANTED_PAGE];
    char full[512];
    snprintf(full, sizeof full, "%s/%s", planted->cluster->data, path);
    _cleanup_(hf_closep) int fd = open(full, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail_msg("could not open %s", full);
    assert_int_equal(pread(fd, bytes, sizeof bytes, (off_t)(page * PLANTED_PAGE)), PLANTED_PAGE);
    change(bytes, number);
    assert_int_equal(pwrite(fd, bytes, sizeof bytes, (off_t)(page * PLANTED_PAGE)), PLANTED_PAGE);
}

void
planted_zero_page(uint8_t *page, uint64_t ignored)
{
    (void)ignored;
    memset(page, 0, PLANTED_PAGE);
}

void
planted_flip_byte(uint8_t *page, uint64_t offset)
{
    page[offset] ^= 0x10;
}

void
planted_unlink_item(uint8_t *page, uint64_t number)
{
    assert_true(24 + 4 * number <= hf_get_u16(page + 12));
    hf_put_u32(page + 24 + 4 * (number - 1), 0);
}

void
planted_remove_entry(uint8_t *page, uint64_t number)
{
    const uint16_t lower = hf_get_u16(page + 12);
    uint8_t *at = page + 24 + 4 * (number - 1);
    assert_true(at + 4 <= page + lower);
    memmove(at, at + 4, (size_t)(page + lower - at) - 4);
    hf_put_u16(page + 12, (uint16_t)(lower - 4));
}

void
planted_truncate(struct planted *planted, const char *path, uint64_t pages)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", planted->cluster->data, path);
    assert_int_equal(truncate(full, (off_t)(pages * PLANTED_PAGE)), 0);
}

void
planted_copy_file(struct planted *planted, const char *from, const char *to)
{
    char source[512], target[512];
    snprintf(source, sizeof source, "%s/%s", planted->cluster->data, from);
    snprintf(target, sizeof target, "%s/%s", planted->cluster->data, to);
    const char *const argv[] = {"/bin/cp", "-a", source, target, NULL};
    assert_int_equal(hf_test_cluster_run(planted->cluster, argv, NULL, NULL), 0);
}

uint64_t
planted_pages(struct planted *planted, const char *path)
{
    char full[512];
    struct stat status;
    snprintf(full, sizeof full, "%s/%s", planted->cluster->data, path);
    assert_int_equal(stat(full, &status), 0);
    return (uint64_t)status.st_size / PLANTED_PAGE;
}

PGconn *
planted_start(struct planted *planted)
{
    hf_test_cluster_resume(planted->cluster);
    return hf_test_cluster_connect(planted->cluster, NULL);
}

void
planted_stop(struct planted *planted, PGconn *conn)
{
    PQfinish(conn);
    hf_test_cluster_stop(planted->cluster, SIGINT);
}

struct hf_id
planted_backup(struct planted *planted)
{
    return back_up(planted, NULL, 0);
}

struct hf_id
planted_backup_heal(struct planted *planted, const struct hf_verify_outcome *damages)
{
    struct hf_heal heal[HF_VERIFY_DAMAGES_MOST];
    assert_true(damages->damage_count > 0);
    for (size_t i = 0; i < damages->damage_count; i++)
        heal[i] = (struct hf_heal){damages->damages[i].pack, damages->damages[i].slab};
    return back_up(planted, heal, damages->damage_count);
}

struct hf_verify_options
planted_options(struct planted *planted)
{
    static char launcher[512];
    snprintf(launcher, sizeof launcher, "%s/sandbox/holdfast-sandbox", getenv("HOLDFAST_BUILD"));
    return (struct hf_verify_options){.scratch_folder = planted->vault.cache,
                                      .scratch_memory_bytes = HF_GIB,
                                      .lowest = HF_SANDBOX_L2,
                                      .launcher = launcher,
                                      .host_uid = SANDBOX_UID,
                                      .host_gid = SANDBOX_UID,
                                      .jobs = 2};
}

void
planted_verify(struct planted *planted, const struct hf_id *backup, const struct hf_verify_options *options,
               struct hf_verify_outcome *ret)
{
    struct hf_error err;
    const struct hf_verify_options usual = planted_options(planted);
    hf_assert_ok(hf_verify_run(planted->vault.vault, backup, options != NULL ? options : &usual, ret, &err), &err);
    print_message("# %s: %s\n", hf_attempt_result_name(ret->result), ret->reason);
}

void
planted_expect(const struct hf_verify_outcome *outcome, const char *check, const char *what, const char *object,
               int64_t block)
{
    const struct hf_verify_check *found = hf_report_find((struct hf_verify_report *)(uintptr_t)&outcome->report, check);
    if (outcome->result == HF_ATTEMPT_FAILED && found->verdict == HF_VERDICT_FAILED && find(found, what, object, block))
        return;
    planted_print(outcome);
    fail_msg("%s is not failed with %s of \"%s\", block %lld", check, what, object, (long long)block);
}

bool
planted_named(const struct hf_verify_outcome *outcome, const char *object)
{
    for (size_t i = 0; i < outcome->report.count; i++) {
        const struct hf_verify_check *check = &outcome->report.checks[i];
        if (strstr(check->reason, object) != NULL)
            return true;
        for (size_t n = 0; n < check->finding_count; n++)
            if (strstr(check->findings[n].object, object) != NULL)
                return true;
    }
    return false;
}

void
planted_print(const struct hf_verify_outcome *outcome)
{
    for (size_t i = 0; i < outcome->report.count; i++) {
        const struct hf_verify_check *check = &outcome->report.checks[i];
        print_message("# %-20s %-16s %s\n", check->id, hf_verdict_name(check->verdict), check->reason);
        for (size_t n = 0; n < check->finding_count; n++)
            print_message("#     %s: %s, block %lld\n", check->findings[n].what, check->findings[n].object,
                          (long long)check->findings[n].block);
    }
    print_message("# %s: %s\n", hf_attempt_result_name(outcome->result), outcome->reason);
}

static bool
find(const struct hf_verify_check *check, const char *what, const char *object, int64_t block)
{
    for (size_t n = 0; n < check->finding_count; n++)
        if (strcmp(check->findings[n].what, what) == 0 && strstr(check->findings[n].object, object) != NULL &&
            (block < 0 || check->findings[n].block == block))
            return true;
    return false;
}

static void
copy_folder(const struct hf_test_cluster *cluster, const char *from, const char *to)
{
    const char *const argv[] = {"/bin/cp", "-a", from, to, NULL};
    assert_int_equal(hf_test_cluster_run(cluster, argv, NULL, NULL), 0);
}

static struct hf_id
back_up(struct planted *planted, const struct hf_heal *heal, size_t heal_count)
{
    struct hf_error err;
    struct hf_page_faults faults;
    struct hf_session *session;
    struct hf_session_sink *sink;
    struct hf_backup_facts facts;
    struct hf_session_outcome outcome;
    struct hf_source_progress progress = {0};
    struct test_vault *vault = &planted->vault;
    if (planted->cluster->server.pid == -1)
        hf_test_cluster_resume(planted->cluster);
    hf_page_faults_init(&faults);
    hf_assert_ok(hf_session_sink_new(&hf_source_postgres, &faults, &sink, &err), &err);
    struct hf_session_options options = {.source = "clinic",
                                         .operation = "backup",
                                         .signing = &vault->signing,
                                         .cache_folder = vault->cache,
                                         .heal = heal,
                                         .heal_count = heal_count};
    hf_session_sink_options(sink, &options);
    hf_assert_ok(hf_session_begin(vault->vault, &options, &session, &err), &err);
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = hf_test_cluster_conninfo(planted->cluster, NULL), .slot_tag = "test"};
    const struct hf_backup_request request = {.target = &target,
                                              .sink = hf_session_sink_of(sink, session),
                                              .faults = &faults,
                                              .progress = &progress,
                                              .label = "holdfast",
                                              .fast_checkpoint = true};
    hf_assert_ok(hf_source_postgres.backup(&request, &facts, &err), &err);
    if (planted->server_version != 0)
        facts.server_version = planted->server_version;
    _cleanup_(hf_json_freep) json_t *json = NULL;
    hf_assert_ok(hf_facts_to_json(&facts, &faults,
                                  &(struct hf_facts_extra){.engine = "postgresql", .superuser = "postgres"}, &json,
                                  &err),
                 &err);
    hf_assert_ok(hf_session_commit(&session, json, &outcome, &err), &err);
    hf_backup_facts_done(&facts);
    hf_session_sink_freep(&sink);
    hf_page_faults_done(&faults);
    hf_test_cluster_stop(planted->cluster, SIGINT);
    return outcome.backup;
}
