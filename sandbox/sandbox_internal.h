/*
 * sandbox_internal.h - a running sandbox, as the caller's threads (sandbox.c) see it and the one that reads
 * (sandbox_reader.c)
 */
#pragma once
#include <limits.h>
#include <pthread.h>
#include "sandbox/sandbox.h"
#include "base/process.h"

struct hf_sandbox {
    const struct hf_sandbox_engine *engine; // borrowed: a table that lives as long as the program
    void (*on_line)(void *context, const char *line);
    void *context;
    struct hf_sandbox_limits limits;
    struct hf_process launcher;
    char folder[PATH_MAX]; // ours: socket/, settings/ and, at level L1, memory/
    char socket[PATH_MAX];
    uint64_t began_ns;
    pthread_t reader;
    bool reading; // the thread exists

    pthread_mutex_t lock; // guards all below
    pthread_cond_t news;
    int control; // closing it ends everything
    int events, outputs;
    struct hf_buf log;
    size_t line_begin; // where the line that is still being written begins
    struct hf_buf event;
    uint64_t started_ns;
    json_t *started, *ended;
    struct hf_error failure; // kind NONE while nothing failed
    bool ready, over_log;
    bool gone;                // the launcher has closed everything
    struct hf_runner *runner; // while it holds what was given away; borrowed from the spec
    char *given_data;         // the data folder, then
};

/* The thread: takes what comes until both pipes have ended, which is when the launcher and all below it are gone. */
void *sandbox_read_everything(void *sandbox);
