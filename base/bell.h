/*
 * bell.h - one thread pauses, another ends the pause
 *
 * For a thread that does something every now and then until it is told to leave: sleeping would make whoever joins
 * it wait for the rest of its nap.
 */
#pragma once
#include "base/error.h"

struct hf_bell {
    int fd; // an eventfd
};

HF_MUST_CHECK bool hf_bell_init(struct hf_bell *bell, struct hf_error *err);
void hf_bell_done(struct hf_bell *bell);
void hf_bell_ring(struct hf_bell *bell); // for good: every wait from now on ends at once
/* True when it rang within that time. */
bool hf_bell_wait(const struct hf_bell *bell, int timeout_ms);
