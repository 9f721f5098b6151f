/*
 * open_repository.h - what the workers that read backups share
 *
 * They open the repository by themselves, through a key slot, as a restore on an empty machine would
 * (promise 7), and pass their progress on from a thread of its own.
 */
#pragma once
#include <pthread.h>
#include "base/bell.h"
#include "server/job/daemon.h"
#include "server/job/worker.h"

struct hf_open_repository {
    struct hf_repository *repository;
    struct hf_vault *vault; // NULL when none was asked for
    struct hf_slot_info slot;
};
/* vault may be NULL.  Owner: the caller, hf_open_repository_done(). */
HF_MUST_CHECK bool hf_open_repository(struct hf_worker *worker, const struct hf_id *vault,
                                      struct hf_open_repository *ret, struct hf_error *err);
/* The same in two steps, with another key than the one that was handed over (NULL: with that one). */
HF_MUST_CHECK bool hf_open_repository_shut(struct hf_worker *worker, const struct hf_credential *credential,
                                           struct hf_open_repository *ret, struct hf_error *err);
void hf_open_repository_done(struct hf_open_repository *opened);

/* Reports phase and counts, which others write, a few times a second until it is stopped. */
struct hf_progress_relay {
    struct hf_worker *worker; // borrowed
    const char *_Atomic phase;
    _Atomic uint64_t done, total;
    struct hf_bell over;
    bool running;
    pthread_t thread;
};
void hf_progress_relay_start(struct hf_progress_relay *relay, struct hf_worker *worker);
void hf_progress_relay_stop(struct hf_progress_relay *relay);
