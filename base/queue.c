#include "base/queue.h"

#include <pthread.h>

struct hf_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_full, not_empty;
    bool closed, broken;
    size_t first, count, capacity;
    void *items[]; // a ring: `count` of them from `first`
};

static void finish(struct hf_queue *queue, bool *reason);

bool
hf_queue_new(size_t capacity, struct hf_queue **ret, struct hf_error *err)
{
    if (capacity == 0)
        return hf_fail(err, HF_ERR_USAGE, "a queue of 0 places cannot pass anything on");

    struct hf_queue *queue = calloc(1, sizeof *queue + capacity * sizeof queue->items[0]);
    if (queue == NULL)
        return hf_fail(err, HF_ERR_NO_MEMORY, "out of memory for a queue of %zu places", capacity);

    // On Linux these three cannot fail with default attributes.
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->not_full, NULL);
    pthread_cond_init(&queue->not_empty, NULL);
    queue->capacity = capacity;
    *ret = queue;
    return true;
}

void
hf_queue_freep(struct hf_queue **queue)
{
    if (*queue == NULL)
        return;
    pthread_cond_destroy(&(*queue)->not_empty);
    pthread_cond_destroy(&(*queue)->not_full);
    pthread_mutex_destroy(&(*queue)->lock);
    free(*queue);
    *queue = NULL;
}

bool
hf_queue_push(struct hf_queue *queue, void *item)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == queue->capacity && !queue->closed && !queue->broken)
        pthread_cond_wait(&queue->not_full, &queue->lock);

    bool taken = !queue->closed && !queue->broken;
    if (taken) {
        queue->items[(queue->first + queue->count) % queue->capacity] = item;
        queue->count++;
        pthread_cond_signal(&queue->not_empty);
    }
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

bool
hf_queue_pop(struct hf_queue *queue, void **ret)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed && !queue->broken)
        pthread_cond_wait(&queue->not_empty, &queue->lock);

    bool found = queue->count > 0 && !queue->broken;
    if (found) {
        *ret = queue->items[queue->first];
        queue->first = (queue->first + 1) % queue->capacity;
        queue->count--;
        pthread_cond_signal(&queue->not_full);
    }
    pthread_mutex_unlock(&queue->lock);
    return found;
}

void
hf_queue_close(struct hf_queue *queue)
{
    finish(queue, &queue->closed);
}

void
hf_queue_break(struct hf_queue *queue)
{
    finish(queue, &queue->broken);
}

static void
finish(struct hf_queue *queue, bool *reason)
{
    pthread_mutex_lock(&queue->lock);
    *reason = true;
    pthread_cond_broadcast(&queue->not_full);
    pthread_cond_broadcast(&queue->not_empty);
    pthread_mutex_unlock(&queue->lock);
}
