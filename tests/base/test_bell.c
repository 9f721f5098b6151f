#include "tests/support/test.h"

#include <pthread.h>

#include "base/bell.h"
#include "base/time.h"

#define LONG_MS 60000

static void *
wait_long(void *context)
{
    return hf_bell_wait(context, LONG_MS) ? context : NULL;
}

HF_TEST(a_pause_ends_when_the_bell_rings_and_no_later_one_begins)
{
    struct hf_bell bell;
    struct hf_error err;
    pthread_t thread;
    void *rang;
    hf_assert_ok(hf_bell_init(&bell, &err), &err);
    const uint64_t since = hf_monotonic_ns();
    assert_int_equal(pthread_create(&thread, NULL, wait_long, &bell), 0);
    hf_bell_ring(&bell);
    pthread_join(thread, &rang);
    assert_ptr_equal(rang, &bell);
    assert_true(hf_bell_wait(&bell, LONG_MS));
    assert_true(hf_monotonic_ns() - since < LONG_MS * UINT64_C(1000000) / 2);
    hf_bell_done(&bell);
}

HF_TEST(a_pause_without_a_ring_takes_its_time)
{
    struct hf_bell bell;
    struct hf_error err;
    hf_assert_ok(hf_bell_init(&bell, &err), &err);
    const uint64_t since = hf_monotonic_ns();
    assert_false(hf_bell_wait(&bell, 20));
    assert_true(hf_monotonic_ns() - since >= UINT64_C(20000000));
    assert_false(hf_bell_wait(&bell, 0));
    hf_bell_done(&bell);
}
