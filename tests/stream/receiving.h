/*
 * receiving.h - a real server, a throw-away vault and a receiver between them, in a thread or a process of its own
 */
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include "server/source/postgres/stream_receive.h"
#include "tests/support/cluster.h"
#include "tests/support/vault.h"

struct receiving {
    struct test_vault *vault; // borrowed
    char conninfo[512];
    char identity[HF_SOURCE_IDENTITY_BYTES];
    uint64_t seal_bytes; // 0: 1 MiB
    int64_t seal_ms;     // 0: 1 s

    pthread_t thread;
    bool running;
    atomic_bool cancel;
    struct hf_error why; // of the last end
    _Atomic uint64_t durable_whole, server_end;
    atomic_int gaps, sentences;
    char said[8][300]; // the first sentences, in order
};

void receiving_init(struct receiving *receiving, struct test_vault *vault, const struct hf_test_cluster *cluster);
/* Another server of the same cluster. */
void receiving_point(struct receiving *receiving, const struct hf_test_cluster *cluster);
/* Begins in a thread.  It tries again after UNAVAILABLE, as a job would. */
void receiving_start(struct receiving *receiving);
/* Cancels, seals and joins; `why` is what ended it. */
void receiving_stop(struct receiving *receiving);
/* Waits until everything up to the server's present position is durable here. */
void receiving_catch_up(struct receiving *receiving, PGconn *conn);
/* The same loop in this process, until killed: for a child. */
void receiving_run(struct receiving *receiving);

/* The archive as a new process sees it. */
struct hf_archive *receiving_archive(struct receiving *receiving);
