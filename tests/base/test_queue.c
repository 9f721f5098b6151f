#include "tests/support/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/queue.h"

#define ITEMS 20000

static char items[ITEMS];

HF_TEST(what_goes_in_first_comes_out_first)
{
    _cleanup_(hf_queue_freep) struct hf_queue *queue = NULL;
    struct hf_error err;
    void *item;
    hf_assert_ok(hf_queue_new(3, &queue, &err), &err);
    for (int round = 0; round < 5; round++) {
        assert_true(hf_queue_push(queue, &items[0]) && hf_queue_push(queue, &items[1]));
        assert_true(hf_queue_pop(queue, &item) && item == &items[0]);
        assert_true(hf_queue_pop(queue, &item) && item == &items[1]);
    }
}

HF_TEST(a_closed_queue_gives_out_the_rest_and_takes_no_more)
{
    _cleanup_(hf_queue_freep) struct hf_queue *queue = NULL;
    struct hf_error err;
    void *item;
    hf_assert_ok(hf_queue_new(3, &queue, &err), &err);
    hf_queue_push(queue, &items[0]);
    hf_queue_push(queue, &items[1]);
    hf_queue_close(queue);
    assert_false(hf_queue_push(queue, &items[2]));
    assert_true(hf_queue_pop(queue, &item) && hf_queue_pop(queue, &item));
    assert_ptr_equal(item, &items[1]);
    assert_false(hf_queue_pop(queue, &item));
}

HF_TEST(a_broken_queue_ends_both_sides_at_once)
{
    _cleanup_(hf_queue_freep) struct hf_queue *queue = NULL;
    struct hf_error err;
    void *item;
    hf_assert_ok(hf_queue_new(3, &queue, &err), &err);
    hf_queue_push(queue, &items[0]);
    hf_queue_break(queue);
    assert_false(hf_queue_pop(queue, &item));
    assert_false(hf_queue_push(queue, &items[1]));
}

HF_TEST(a_queue_needs_a_place)
{
    struct hf_queue *queue = NULL;
    struct hf_error err;
    assert_false(hf_queue_new(0, &queue, &err));
    assert_int_equal(err.kind, HF_ERR_USAGE);
    assert_null(queue);
    hf_queue_freep(&queue);
}

static atomic_size_t seen[ITEMS], popped;

static void *
push_half(void *argument)
{
    struct hf_queue *queue = *(struct hf_queue **)argument;
    static atomic_int halves;
    size_t first = (size_t)atomic_fetch_add(&halves, 1) * (ITEMS / 2);
    for (size_t i = first; i < first + ITEMS / 2; i++)
        if (!hf_queue_push(queue, &items[i]))
            return argument;
    return NULL;
}

static void *
pop_all(void *argument)
{
    struct hf_queue *queue = *(struct hf_queue **)argument;
    void *item;
    while (hf_queue_pop(queue, &item)) {
        atomic_fetch_add(&seen[(char *)item - items], 1);
        atomic_fetch_add(&popped, 1);
    }
    return NULL;
}

HF_TEST(between_many_threads_every_item_arrives_exactly_once)
{
    _cleanup_(hf_queue_freep) struct hf_queue *queue = NULL;
    struct hf_error err;
    pthread_t pushers[2], poppers[3];
    hf_assert_ok(hf_queue_new(7, &queue, &err), &err);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&poppers[i], NULL, pop_all, &queue), 0);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&pushers[i], NULL, push_half, &queue), 0);

    for (size_t i = 0; i < 2; i++) {
        void *failed;
        pthread_join(pushers[i], &failed);
        assert_null(failed);
    }
    hf_queue_close(queue);
    for (size_t i = 0; i < 3; i++)
        pthread_join(poppers[i], NULL);
    assert_int_equal(popped, ITEMS);
    for (size_t i = 0; i < ITEMS; i++)
        assert_int_equal(seen[i], 1);
}

static atomic_int waiting_ended;

static void *
push_to_full(void *argument)
{
    if (!hf_queue_push(*(struct hf_queue **)argument, &items[1]))
        atomic_fetch_add(&waiting_ended, 1);
    return NULL;
}

static void *
pop_from_empty(void *argument)
{
    void *item;
    if (!hf_queue_pop(*(struct hf_queue **)argument, &item))
        atomic_fetch_add(&waiting_ended, 1);
    return NULL;
}

HF_TEST(closing_and_breaking_wake_those_who_wait)
{
    void (*const ends[])(struct hf_queue *) = {hf_queue_close, hf_queue_break};
    for (size_t i = 0; i < HF_LENGTH(ends); i++) {
        _cleanup_(hf_queue_freep) struct hf_queue *full = NULL, *empty = NULL;
        struct hf_error err;
        pthread_t threads[4];
        hf_assert_ok(hf_queue_new(1, &full, &err) && hf_queue_new(1, &empty, &err), &err);
        hf_queue_push(full, &items[0]);
        waiting_ended = 0;
        for (size_t j = 0; j < 2; j++) {
            pthread_create(&threads[j], NULL, push_to_full, &full);
            pthread_create(&threads[2 + j], NULL, pop_from_empty, &empty);
        }
        usleep(20000);
        assert_int_equal(waiting_ended, 0);
        ends[i](full);
        ends[i](empty);
        for (size_t j = 0; j < 4; j++)
            pthread_join(threads[j], NULL);
        assert_int_equal(waiting_ended, 4);
    }
}
