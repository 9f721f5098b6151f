#include "tests/stream/receiving.h"

#include <unistd.h>

#include "base/time.h"

#define WAIT_MS 30000

static void
report(void *context, const struct hf_stream_report *now)
{
    struct receiving *receiving = context;
    atomic_store(&receiving->durable_whole, now->positions.durable_whole);
    atomic_store(&receiving->server_end, now->server_end);
}

static void
tell(void *context, bool gap, const char *sentence)
{
    struct receiving *receiving = context;
    const int number = atomic_fetch_add(&receiving->sentences, 1);
    if (number < (int)HF_LENGTH(receiving->said))
        snprintf(receiving->said[number], sizeof receiving->said[number], "%s", sentence);
    if (gap)
        atomic_fetch_add(&receiving->gaps, 1);
}

void
receiving_init(struct receiving *receiving, struct test_vault *vault, const struct hf_test_cluster *cluster)
{
    *receiving = (struct receiving){.vault = vault};
    receiving_point(receiving, cluster);
    PGconn *conn = hf_test_cluster_connect(cluster, NULL);
    snprintf(receiving->identity, sizeof receiving->identity, "%s",
             hf_test_sql_text(conn, "SELECT system_identifier FROM pg_control_system()"));
    PQfinish(conn);
}

void
receiving_point(struct receiving *receiving, const struct hf_test_cluster *cluster)
{
    snprintf(receiving->conninfo, sizeof receiving->conninfo, "%s", hf_test_cluster_conninfo(cluster, NULL));
}

void
receiving_run(struct receiving *receiving)
{
    const struct hf_source_target target = {.name = "clinic",
                                            .conninfo = receiving->conninfo,
                                            .slot_tag = "test",
                                            .stream_slot = "holdfast_test_stream",
                                            .identity = receiving->identity};
    const struct hf_stream_options options = {.vault = receiving->vault->vault,
                                              .source = "clinic",
                                              .signing = &receiving->vault->signing,
                                              .seal_bytes = receiving->seal_bytes != 0 ? receiving->seal_bytes : HF_MIB,
                                              .seal_ms = receiving->seal_ms != 0 ? receiving->seal_ms : 1000};
    struct hf_stream_writer *writer;
    if (!hf_stream_writer_open(&options, &writer, &receiving->why))
        return;
    const struct hf_stream_receive request = {.target = &target,
                                              .writer = writer,
                                              .cancel = &receiving->cancel,
                                              .context = receiving,
                                              .report = report,
                                              .tell = tell};
    while (!hf_source_postgres.stream(&request, &receiving->why) && receiving->why.kind == HF_ERR_UNAVAILABLE &&
           !atomic_load(&receiving->cancel))
        usleep(50000);
    struct hf_error closing;
    if (!hf_stream_writer_close(&writer, &closing) && receiving->why.kind == HF_ERR_CANCELLED)
        receiving->why = closing;
}

static void *
run(void *context)
{
    receiving_run(context);
    return NULL;
}

void
receiving_start(struct receiving *receiving)
{
    atomic_store(&receiving->cancel, false);
    atomic_store(&receiving->durable_whole, 0);
    test_vault_reopen(receiving->vault);
    assert_int_equal(pthread_create(&receiving->thread, NULL, run, receiving), 0);
    receiving->running = true;
}

void
receiving_stop(struct receiving *receiving)
{
    if (!receiving->running)
        return;
    atomic_store(&receiving->cancel, true);
    pthread_join(receiving->thread, NULL);
    receiving->running = false;
}

void
receiving_catch_up(struct receiving *receiving, PGconn *conn)
{
    struct hf_error err;
    uint64_t wanted;
    hf_assert_ok(hf_lsn_parse(hf_test_sql_text(conn, "SELECT pg_current_wal_flush_lsn()"), &wanted, &err), &err);
    for (uint64_t since = hf_monotonic_ns(); atomic_load(&receiving->durable_whole) < wanted; usleep(10000))
        if (hf_monotonic_ns() - since > WAIT_MS * UINT64_C(1000000))
            fail_msg("the receiver is not there after %d s: %s", WAIT_MS / 1000, receiving->why.message);
}

struct hf_archive *
receiving_archive(struct receiving *receiving)
{
    struct hf_error err;
    struct hf_archive *archive;
    test_vault_reopen(receiving->vault);
    hf_assert_ok(hf_archive_open(receiving->vault->vault, NULL, &archive, &err), &err);
    return archive;
}
