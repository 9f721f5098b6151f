/*
 * queue.h - a bounded queue of pointers between threads
 *
 * Push waits while it is full, pop while it is empty.  Closing lets what is inside be popped and then
 * ends every pop; breaking ends both at once, for when the work has failed.
 */
#pragma once
#include "base/error.h"

struct hf_queue;

HF_MUST_CHECK bool hf_queue_new(size_t capacity, struct hf_queue **ret, struct hf_error *err);
void hf_queue_freep(struct hf_queue **queue);           // the pointers inside are not its own
bool hf_queue_push(struct hf_queue *queue, void *item); // false: closed or broken, the item stays the caller's
bool hf_queue_pop(struct hf_queue *queue, void **ret);  // false: closed and empty, or broken
void hf_queue_close(struct hf_queue *queue);
void hf_queue_break(struct hf_queue *queue);
