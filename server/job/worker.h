/*
 * worker.h - the process that does one job, as its run function sees it
 *
 * A worker is holdfastd executed again with the hidden argument --worker, in a process group of its own that dies with
 * the daemon.  It meets the bytes of strangers, so it gets only what its kind needs: the request, the settings
 * as the daemon read them, keys over a pipe, and signatures one by one (oracle.h).  SIGTERM asks it to stop;
 * killing it at any moment leaves nothing that the next job would believe.
 *
 * Descriptors it is born with: 3 the request (JSON), 4 events to the daemon, 5 secrets, 6 the oracle.
 *   secrets: u8 what, u32 length, bytes; until the end of the pipe.  what: 1 keys of a vault (hf_vault_keys_export),
 *   2 struct hf_root_bundle (public, same program on both sides), 3 a credential: u8 slot kind, then its key or
 *   passphrase
 */
#pragma once
#include <stdatomic.h>
#include "base/log.h"
#include "server/job/wire.h"
#include "server/repository/repository.h"
#include "server/settings/settings.h"
#include "server/source/stream.h"

#define HF_WORKER_REQUEST_FD 3
#define HF_WORKER_EVENTS_FD  4
#define HF_WORKER_SECRETS_FD 5
#define HF_WORKER_ORACLE_FD  6

enum hf_worker_secret { HF_WORKER_VAULT_KEYS = 1, HF_WORKER_SIGNERS = 2, HF_WORKER_CREDENTIAL = 3 };

struct hf_job_kind;
struct hf_worker;

const struct hf_settings *hf_worker_settings(const struct hf_worker *worker);
/* Set by SIGTERM; look at it before every piece of work, hand it to what takes it, and fail with CANCELLED. */
const atomic_bool *hf_worker_cancel(const struct hf_worker *worker);
/* True, or CANCELLED once somebody asked us to stop. */
HF_MUST_CHECK bool hf_worker_go_on(const struct hf_worker *worker, struct hf_error *err);

/*
 * Where the job is.  Phase: [a-z_], below HF_WIRE_PHASE_BYTES.  Counts never fall within a phase; total 0 while it is
 * unknown.  At most some messages a second go out, but the first of each phase always does.  Any thread, as with notes.
 */
void hf_worker_progress(struct hf_worker *worker, const char *phase, uint64_t done, uint64_t total);
/* A sentence for whoever watches: nothing of restored data. */
void hf_worker_note(struct hf_worker *worker, enum hf_log_level level, const char *format, ...) HF_PRINTF(3, 4);
/* Has the kind's keep() called in the daemon.  Takes the object; NULL is no memory for it, and ends the worker. */
void hf_worker_keep(struct hf_worker *worker, json_t *kept);
/* How things stand, for the daemon's status; takes the object, which may be NULL (no memory: it is lost). */
void hf_worker_report(struct hf_worker *worker, json_t *state);
/* The answer, given with the result, is bad news: exit 3. */
void hf_worker_bad_news(struct hf_worker *worker);

/* The vault whose keys the worker was handed (HF_JOB_NEEDS_VAULT), opened.  Owner: the worker.  NOT_FOUND. */
HF_MUST_CHECK bool hf_worker_vault(struct hf_worker *worker, struct hf_vault **ret, struct hf_error *err);
/*
 * The vault of the database that was reached (HF_JOB_NEEDS_LINEAGE), made at first contact.  Owner: the worker.
 * CONFLICT: the source has a vault, and it is another database's.
 */
HF_MUST_CHECK bool hf_worker_vault_of(struct hf_worker *worker, const char *engine, const char *identity,
                                      struct hf_vault **ret, struct hf_error *err);
/* What opens a key slot (HF_JOB_NEEDS_CREDENTIAL); NULL when it was not handed over. */
const struct hf_credential *hf_worker_credential(const struct hf_worker *worker);
/* Signs this job's log entries, by asking the daemon. */
const struct hf_signing *hf_worker_signing(const struct hf_worker *worker);

/* A source of the request (hf_daemon_describe_source), ready to be reached. */
struct hf_worker_source {
    struct hf_source_settings *settings;
    const struct hf_source_engine *engine;
    struct hf_secret password; // empty without a password file
    char slot_tag[HF_SOURCE_SLOT_TAG_BYTES];
    char stream_slot[HF_STREAM_SLOT_BYTES];
    char identity[HF_SOURCE_IDENTITY_BYTES]; // "" at first contact
    struct hf_source_target target;          // borrows from all the above
};
/* Reads its password file.  Owner: the caller, hf_worker_source_done(). */
HF_MUST_CHECK bool hf_worker_source_open(const json_t *described, struct hf_worker_source *ret, struct hf_error *err);
void hf_worker_source_done(struct hf_worker_source *source);

/* The whole life of a worker that knows these kinds: returns the exit status of the process. */
int hf_worker_main(const struct hf_job_kind *kinds, size_t kind_count);
