/*
 * binlog_receiving.h - a real MariaDB server, a throw-away vault and a receiver between them, in a thread
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "server/source/mariadb/binlog_receive.h"
#include "server/source/mariadb/binlog_serve.h"
#include "tests/stream/mariadb_server.h"
#include "tests/support/vault.h"

struct binlog_receiving {
    struct test_vault *vault; // borrowed
    char socket[256];
    pthread_t thread;
    bool running;
    atomic_bool cancel;
    struct hf_error why; // of the last end
    pthread_mutex_t lock;
    char durable[HF_STREAM_POSITION_BYTES];
    enum hf_semi_sync semi_sync;
    int64_t semi_sync_lost_at, caught_up_at;
    int gaps;
    char said[4096]; // every sentence, a line each
};

void binlog_receiving_init(struct binlog_receiving *receiving, struct test_vault *vault,
                           const struct mariadb_server *server);
void binlog_receiving_start(struct binlog_receiving *receiving); // in a thread; tries again after UNAVAILABLE
void binlog_receiving_stop(struct binlog_receiving *receiving);  // cancels, seals and joins
void binlog_receiving_wait(struct binlog_receiving *receiving);  // joins when it ends by itself
void binlog_receiving_run(struct binlog_receiving *receiving);   // in this process, until killed: for a child
/* Waits until everything that the server has logged by now is durable here. */
void binlog_receiving_catch_up(struct binlog_receiving *receiving, MYSQL *conn);
bool binlog_receiving_said(struct binlog_receiving *receiving, const char *words);

/* The archive as a new process sees it, and the newest timeline's path. */
struct hf_archive *binlog_archive(struct binlog_receiving *receiving, struct hf_timeline_path *path);

/* A server of its own to which the archive is replayed up to `target`, from what it has; until it has all of it. */
void binlog_replay(struct binlog_receiving *receiving, const struct mariadb_server *copy,
                   const struct hf_binlog_target *target, struct hf_binlog_plan *ret_plan);
