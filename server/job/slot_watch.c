#include "server/job/slot_watch.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "base/time.h"

#define LOOK_MS  5000
#define AGAIN_MS 30000 // after a slot was let go: the new one begins at the last checkpoint, and may keep much as well

struct hf_slot_watch {
    const struct hf_worker_source *source; // borrowed
    struct hf_stream_let_go let_go;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over; // under the lock, as is the next
    struct hf_slot_measure measure;
    int64_t asked_at; // the thread's own: when it last wanted the slot let go
};

static void *look(void *argument);
static bool measure(struct hf_slot_watch *watch, char why[static HF_STREAM_WHY_BYTES]);

bool
hf_slot_watch_start(const struct hf_worker_source *source, struct hf_slot_watch **ret, struct hf_error *err)
{
    *ret = NULL;
    if (source->engine->stream_kept == NULL)
        return true;
    struct hf_slot_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for watching a slot");
    watch->source = source;
    pthread_mutex_init(&watch->lock, NULL);
    pthread_cond_init(&watch->changed, NULL);
    if (pthread_create(&watch->thread, NULL, look, watch) != 0) {
        free(watch);
        return hf_fail(err, HF_ERR_UNAVAILABLE, "could not start a thread that watches the slot");
    }
    *ret = watch;
    return true;
}

void
hf_slot_watch_stopp(struct hf_slot_watch **pointer)
{
    struct hf_slot_watch *watch = *pointer;
    if (watch == NULL)
        return;
    pthread_mutex_lock(&watch->lock);
    watch->over = true;
    pthread_cond_signal(&watch->changed);
    pthread_mutex_unlock(&watch->lock);
    pthread_join(watch->thread, NULL);
    pthread_cond_destroy(&watch->changed);
    pthread_mutex_destroy(&watch->lock);
    free(watch);
    *pointer = NULL;
}

struct hf_slot_measure
hf_slot_watch_measure(struct hf_slot_watch *watch)
{
    struct hf_slot_measure last = {0};
    if (watch == NULL)
        return last;
    pthread_mutex_lock(&watch->lock);
    last = watch->measure;
    pthread_mutex_unlock(&watch->lock);
    return last;
}

struct hf_stream_let_go *
hf_slot_watch_let_go(struct hf_slot_watch *watch)
{
    return watch == NULL ? NULL : &watch->let_go;
}

bool
hf_slot_watch_is_over(struct hf_slot_watch *watch, char why[static HF_STREAM_WHY_BYTES])
{
    return watch != NULL && measure(watch, why);
}

static void *
look(void *argument)
{
    struct hf_slot_watch *watch = argument;
    char why[HF_STREAM_WHY_BYTES];
    pthread_mutex_lock(&watch->lock);
    while (!watch->over) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += LOOK_MS / 1000;
        pthread_mutex_unlock(&watch->lock);
        const int64_t now = hf_time_now_ms();
        if (measure(watch, why) && !atomic_load(&watch->let_go.asked) && now - watch->asked_at > AGAIN_MS) {
            watch->asked_at = now;
            snprintf(watch->let_go.why, sizeof watch->let_go.why, "%s", why);
            atomic_store(&watch->let_go.asked, true);
        }
        pthread_mutex_lock(&watch->lock);
        if (!watch->over)
            pthread_cond_clockwait(&watch->changed, &watch->lock, CLOCK_MONOTONIC, &until);
    }
    pthread_mutex_unlock(&watch->lock);
    return NULL;
}

/* A server that does not answer now is asked again: what it keeps meanwhile is limited by its own setting alone. */
static bool
measure(struct hf_slot_watch *watch, char why[static HF_STREAM_WHY_BYTES])
{
    const struct hf_source_settings *settings = watch->source->settings;
    const struct hf_source_engine *engine = watch->source->engine;
    struct hf_slot_measure now = {.known = true, .measured_at = hf_time_now_ms()};
    struct hf_error unheard;
    if (!engine->stream_kept(&watch->source->target, &now.kept, &unheard))
        return false;
    now.alarm = settings->slot_alarm > 0 && now.kept.bytes > settings->slot_alarm;
    pthread_mutex_lock(&watch->lock);
    watch->measure = now;
    pthread_mutex_unlock(&watch->lock);
    if (!now.kept.exists)
        return false;
    if (settings->slot_most > 0 && now.kept.bytes > settings->slot_most) {
        snprintf(why, HF_STREAM_WHY_BYTES,
                 "the slot was released by us: it kept %" PRId64 " bytes of log on the server, slot_most is %" PRId64,
                 now.kept.bytes, settings->slot_most);
        return true;
    }
    if (settings->slot_floor > 0 && now.kept.left >= 0 && now.kept.left < settings->slot_floor) {
        snprintf(why, HF_STREAM_WHY_BYTES,
                 "the slot was released by us: the server had room for %" PRId64 " bytes more, slot_floor is %" PRId64,
                 now.kept.left, settings->slot_floor);
        return true;
    }
    return false;
}
