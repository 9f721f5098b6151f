/*
 * bench.h - a whole appliance in a folder, for tests of the daemon: repository, keys, settings, and holdfastd running
 *
 * Two sources stand in the settings, "clinic" and "lab"; nobody listens where they point.  The daemon is the test's
 * own executable (fake_holdfastd.c) with kinds of jobs that do what a test needs.
 */
#pragma once
#include <sys/types.h>
#include "base/process.h"
#include "server/job/wire.h"
#include "server/settings/settings.h"

struct job_bench {
    char folder[128];
    char settings_path[192], socket[192], state[192], repository[192];
    struct hf_process daemon; // NONE while it does not run
};

/* Makes everything; no daemon runs yet.  `more` is put into the settings and may be NULL. */
void job_bench_make(struct job_bench *bench, const char *more);
/* Starts the daemon and waits until it is ready.  With `extra` NULL as the service. */
void job_bench_start(struct job_bench *bench);
/* Ends it with that signal and waits; its exit status as from waitpid(). */
int job_bench_stop(struct job_bench *bench, int signal);
/* Starts it and expects it to end by itself; adds what it wrote to stderr. */
int job_bench_try(struct job_bench *bench, struct hf_buf *errors);
void job_bench_done(struct job_bench *bench);

struct hf_settings *job_bench_settings(const struct job_bench *bench);

/* One connection. */
struct job_client {
    struct hf_wire wire;
};
void job_client_connect(struct job_client *client, const struct job_bench *bench);
void job_client_close(struct job_client *client);
/* Sends one request; the arguments are taken, NULL for none. */
void job_client_send(struct job_client *client, const char *command, json_t *arguments, bool detach);
void job_client_send_text(struct job_client *client, const char *text);
/* The next event, or NULL when the daemon has closed the connection; json_decref() it. */
json_t *job_client_next(struct job_client *client);
/* Skips events until one of that name. */
json_t *job_client_until(struct job_client *client, const char *name);
/* Sends a request on a connection of its own and returns its last event. */
json_t *job_bench_ask(const struct job_bench *bench, const char *command, json_t *arguments);

/* The row of `job list` that is about this job; json_decref() it. */
json_t *job_bench_row(const struct job_bench *bench, const char *job);

/* Waits until the file is there, or fails the test after ten seconds. */
void job_bench_await_file(const char *path);
