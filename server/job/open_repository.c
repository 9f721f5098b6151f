#include "server/job/open_repository.h"

#define REPORT_EVERY_MS 200

static void *relay_main(void *context);

bool
hf_open_repository(struct hf_worker *worker, const struct hf_id *vault, struct hf_open_repository *ret,
                   struct hf_error *err)
{
    return hf_open_repository_shut(worker, NULL, ret, err) &&
           (vault == NULL || hf_vault_open(ret->repository, vault, &ret->vault, err));
}

bool
hf_open_repository_shut(struct hf_worker *worker, const struct hf_credential *credential,
                        struct hf_open_repository *ret, struct hf_error *err)
{
    const struct hf_credential *with = credential != NULL ? credential : hf_worker_credential(worker);
    if (with == NULL)
        return hf_fail(err, HF_ERR_DENIED, "no key was handed to this job");
    return hf_repository_open(hf_worker_settings(worker)->repository, HF_ACCESS_READ, &ret->repository, err) &&
           hf_repository_unlock(ret->repository, with, &ret->slot, err);
}

void
hf_open_repository_done(struct hf_open_repository *opened)
{
    hf_vault_freep(&opened->vault);
    hf_repository_freep(&opened->repository);
}

void
hf_progress_relay_start(struct hf_progress_relay *relay, struct hf_worker *worker)
{
    relay->worker = worker;
    atomic_init(&relay->phase, NULL);
    atomic_init(&relay->done, 0);
    atomic_init(&relay->total, 0);
    struct hf_error ignored; // without a bell there are no reports, and the work goes on
    relay->running =
        hf_bell_init(&relay->over, &ignored) && pthread_create(&relay->thread, NULL, relay_main, relay) == 0;
}

void
hf_progress_relay_stop(struct hf_progress_relay *relay)
{
    if (relay->running) {
        hf_bell_ring(&relay->over);
        pthread_join(relay->thread, NULL);
    }
    hf_bell_done(&relay->over);
    relay->running = false;
}

static void *
relay_main(void *context)
{
    struct hf_progress_relay *relay = context;
    do {
        const char *phase = atomic_load(&relay->phase);
        if (phase != NULL)
            hf_worker_progress(relay->worker, phase, atomic_load(&relay->done), atomic_load(&relay->total));
    } while (!hf_bell_wait(&relay->over, REPORT_EVERY_MS));
    return NULL;
}
