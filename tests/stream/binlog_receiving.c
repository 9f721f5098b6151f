#include "tests/stream/binlog_receiving.h"

#include <unistd.h>

#include "base/time.h"
#include "tests/support/test.h"

#define WAIT_MS 60000

static void
report(void *context, const struct hf_stream_report *now)
{
    struct binlog_receiving *receiving = context;
    pthread_mutex_lock(&receiving->lock);
    snprintf(receiving->durable, sizeof receiving->durable, "%s", now->durable_text);
    receiving->semi_sync = now->semi_sync;
    receiving->semi_sync_lost_at = now->semi_sync_lost_at;
    receiving->caught_up_at = now->caught_up_at;
    pthread_mutex_unlock(&receiving->lock);
}

static void
tell(void *context, bool gap, const char *sentence)
{
    struct binlog_receiving *receiving = context;
    pthread_mutex_lock(&receiving->lock);
    const size_t length = strlen(receiving->said);
    snprintf(receiving->said + length, sizeof receiving->said - length, "%s\n", sentence);
    receiving->gaps += gap;
    pthread_mutex_unlock(&receiving->lock);
}

void
binlog_receiving_init(struct binlog_receiving *receiving, struct test_vault *vault, const struct mariadb_server *server)
{
    *receiving = (struct binlog_receiving){.vault = vault, .lock = PTHREAD_MUTEX_INITIALIZER};
    snprintf(receiving->socket, sizeof receiving->socket, "%s", server->socket);
}

void
binlog_receiving_run(struct binlog_receiving *receiving)
{
    const struct hf_source_target target = {
        .name = "clinic", .conninfo = receiving->socket, .slot_tag = "test", .stream_slot = "holdfast_test_stream"};
    const struct hf_stream_options options = {.vault = receiving->vault->vault,
                                              .source = "clinic",
                                              .signing = &receiving->vault->signing,
                                              .seal_bytes = HF_MIB,
                                              .seal_ms = 1000};
    struct hf_stream_writer *writer;
    if (!hf_stream_writer_open(&options, &writer, &receiving->why))
        return;
    const struct hf_stream_receive request = {.target = &target,
                                              .writer = writer,
                                              .cancel = &receiving->cancel,
                                              .context = receiving,
                                              .report = report,
                                              .tell = tell};
    while (!hf_binlog_receive(&request, HF_GTID_MARIADB, mariadb_connector, &receiving->why) &&
           receiving->why.kind == HF_ERR_UNAVAILABLE && !atomic_load(&receiving->cancel))
        usleep(50000);
    struct hf_error closing;
    if (!hf_stream_writer_close(&writer, &closing) && receiving->why.kind == HF_ERR_CANCELLED)
        receiving->why = closing;
}

static void *
run(void *context)
{
    binlog_receiving_run(context);
    return NULL;
}

void
binlog_receiving_start(struct binlog_receiving *receiving)
{
    atomic_store(&receiving->cancel, false);
    receiving->durable[0] = 0;
    receiving->said[0] = 0;
    assert_int_equal(pthread_create(&receiving->thread, NULL, run, receiving), 0);
    receiving->running = true;
}

void
binlog_receiving_stop(struct binlog_receiving *receiving)
{
    atomic_store(&receiving->cancel, true);
    binlog_receiving_wait(receiving);
}

void
binlog_receiving_wait(struct binlog_receiving *receiving)
{
    if (receiving->running)
        pthread_join(receiving->thread, NULL);
    receiving->running = false;
}

void
binlog_receiving_catch_up(struct binlog_receiving *receiving, MYSQL *conn)
{
    const int64_t since = hf_time_now_ms();
    char wanted[HF_STREAM_POSITION_BYTES], have[HF_STREAM_POSITION_BYTES];
    snprintf(wanted, sizeof wanted, "%s", mariadb_text(conn, "SELECT @@global.gtid_binlog_pos"));
    do {
        pthread_mutex_lock(&receiving->lock);
        memcpy(have, receiving->durable, sizeof have);
        pthread_mutex_unlock(&receiving->lock);
        if (strcmp(have, wanted) == 0)
            return;
        usleep(10000);
    } while (hf_time_now_ms() - since < WAIT_MS);
    fail_msg("the archive is at \"%s\", not at \"%s\": %s", have, wanted, receiving->why.message);
}

bool
binlog_receiving_said(struct binlog_receiving *receiving, const char *words)
{
    pthread_mutex_lock(&receiving->lock);
    const bool said = strstr(receiving->said, words) != NULL;
    pthread_mutex_unlock(&receiving->lock);
    return said;
}

struct hf_archive *
binlog_archive(struct binlog_receiving *receiving, struct hf_timeline_path *path)
{
    struct hf_archive *archive;
    struct hf_error err;
    hf_assert_ok(hf_archive_open(receiving->vault->vault, NULL, &archive, &err), &err);
    const uint32_t newest = hf_archive_newest_timeline(archive);
    assert_true(newest > 0);
    hf_assert_ok(hf_archive_path(archive, newest, path, &err), &err);
    return archive;
}

struct serving_thread {
    struct hf_binlog_serving serving;
    struct hf_error why;
    bool ok;
};

static void *
serve(void *context)
{
    struct serving_thread *thread = context;
    thread->ok = hf_binlog_serve(&thread->serving, &thread->why);
    return NULL;
}

void
binlog_replay(struct binlog_receiving *receiving, const struct mariadb_server *copy,
              const struct hf_binlog_target *target, struct hf_binlog_plan *ret_plan)
{
    static struct hf_timeline_path path;
    static const char word[] = "open sesame";
    struct hf_error err;
    struct hf_gtid_set start = {0};
    struct hf_secret password = {0};
    atomic_bool cancel = false;
    char sql[512];
    uint16_t port;
    int fd;
    MYSQL *conn = mariadb_open(copy);
    struct hf_archive *archive = binlog_archive(receiving, &path);
    const char *has = mariadb_text(conn, "SELECT @@global.gtid_slave_pos");
    hf_assert_ok(hf_gtid_set_parse(HF_GTID_MARIADB, has, strlen(has), &start, &err), &err);
    hf_assert_ok(hf_binlog_plan_make(archive, &path, &start, target, ret_plan, &err), &err);
    hf_assert_ok(hf_binlog_listen(&fd, &port, &err), &err);
    hf_assert_ok(hf_secret_copy(&password, word, strlen(word), &err), &err);
    struct serving_thread thread = {.serving = {.archive = archive,
                                                .path = &path,
                                                .plan = ret_plan,
                                                .password = &password,
                                                .listen_fd = fd,
                                                .server_id = 4000000000U,
                                                .cancel = &cancel}};
    pthread_t id;
    assert_int_equal(pthread_create(&id, NULL, serve, &thread), 0);

    snprintf(sql, sizeof sql,
             "CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%u, MASTER_USER='holdfast', "
             "MASTER_PASSWORD='%s', MASTER_USE_GTID=slave_pos, MASTER_HEARTBEAT_PERIOD=1",
             port, word);
    mariadb_sql(conn, sql);
    mariadb_sql(conn, "START SLAVE");
    const int64_t since = hf_time_now_ms();
    for (;;) {
        struct hf_gtid_set now = {0};
        const char *text = mariadb_text(conn, "SELECT @@global.gtid_slave_pos");
        hf_assert_ok(hf_gtid_set_parse(HF_GTID_MARIADB, text, strlen(text), &now, &err), &err);
        const bool done = hf_gtid_set_contains_all(&now, &ret_plan->gtids);
        hf_gtid_set_done(&now);
        if (done)
            break;
        if (hf_time_now_ms() - since > WAIT_MS) {
            mysql_query(conn, "SHOW SLAVE STATUS");
            MYSQL_RES *result = mysql_store_result(conn);
            MYSQL_ROW row = mysql_fetch_row(result);
            const MYSQL_FIELD *fields = mysql_fetch_fields(result);
            for (unsigned i = 0; row != NULL && i < mysql_num_fields(result); i++)
                if (strstr(fields[i].name, "Error") != NULL || strstr(fields[i].name, "State") != NULL)
                    print_message("# %s: %s\n", fields[i].name, row[i]);
            fail_msg("the copy stays at \"%s\"", text);
        }
        usleep(20000);
    }
    mariadb_sql(conn, "STOP SLAVE");
    mariadb_sql(conn, "RESET SLAVE ALL");
    atomic_store(&cancel, true);
    pthread_join(id, NULL);
    close(fd);
    if (!thread.ok)
        fail_msg("%s", thread.why.message);
    hf_secret_done(&password);
    hf_gtid_set_done(&start);
    hf_archive_freep(&archive);
    mysql_close(conn);
}
