/*
 * live_copy.h - a backup, or a moment, that runs in a sandbox and answers questions
 *
 *     scratch -> restore and log into it -> sandbox: start as a standby -> replay to the target -> paused, read-only
 *
 * It is a standby that nobody promotes: it cannot be written to, whatever its roles and databases say.  Its folder and
 * its socket are gone when it is freed or when the worker dies.  Call everything from the worker's first thread: the
 * sandbox ends with the thread that started it.
 */
#pragma once
#include "sandbox/engine_postgres.h"
#include "server/job/restore_work.h"
#include "server/verify/postgres/query.h"

struct hf_live_copy;

struct hf_live_copy_options {
    uint64_t lives_ms;   // at most, once it is there
    uint64_t more_bytes; // room in the scratch besides the copy, as parts of the copy's size: 1 doubles it
};

/*
 * request: what hf_restore_choose() made, and "source" (hf_daemon_describe_source).
 * Errors: those of a restore, of the scratch and the sandbox; NOT_FOUND names the package that is missing; CORRUPT when
 * the copy does not reach its target.
 */
HF_MUST_CHECK bool hf_live_copy_open(struct hf_worker *worker, const json_t *request,
                                     const struct hf_live_copy_options *options, struct hf_live_copy **ret,
                                     struct hf_error *err);
void hf_live_copy_freep(struct hf_live_copy **copy);

const struct hf_restore_work *hf_live_copy_work(const struct hf_live_copy *copy);
unsigned hf_live_copy_major(const struct hf_live_copy *copy);
const char *hf_live_copy_scratch(const struct hf_live_copy *copy); // a folder for what belongs to it
/* How it is reached; the texts are borrowed from the copy. */
struct hf_query_target hf_live_copy_target(const struct hf_live_copy *copy);
/* A spec for another sandbox with the same uid, limits and lowest level: without engine, settings and data. */
struct hf_sandbox_spec hf_live_copy_sandbox(const struct hf_live_copy *copy);
/* UNAVAILABLE once it has ended by itself, and why. */
HF_MUST_CHECK bool hf_live_copy_lives(struct hf_live_copy *copy, struct hf_error *err);
