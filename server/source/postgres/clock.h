/*
 * clock.h - how far the server's clock and this host's are apart
 *
 * Times of commits, and so the targets of a restore, are of the server's clock; when a backup ended is known by ours.
 * Every message of a log stream says when it was sent (microseconds since 2000, big endian).  The way takes time too,
 * so each message tells the least that the server's clock can be ahead; the quickest of many comes close to the truth.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>

#define HF_POSTGRES_EPOCH_MS INT64_C(946684800000) // 2000-01-01 in ms since 1970

struct hf_server_clock {
    bool known;
    int64_t ahead_ms; // negative: behind
};

/* `sent`: the message's own field, as it came. */
void hf_server_clock_note(struct hf_server_clock *clock, uint64_t sent);
