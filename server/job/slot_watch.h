/*
 * slot_watch.h - what a stream's slot keeps on the source, measured beside the receiver, and when that is too much
 *
 * A receiver that is slow, or that the server lets in no more, must not fill the server's disk (promise 12).  A thread
 * asks over a connection of its own, every few seconds: above the owner's alarm status says so; beyond the owner's
 * limit the stream is told to let the slot go, and what it has not got becomes a gap.
 */
#pragma once
#include "server/job/worker.h"

struct hf_slot_watch;

struct hf_slot_measure {
    bool known;
    struct hf_stream_kept kept;
    bool alarm;          // more than the owner wants to see
    int64_t measured_at; // ms since 1970
};

/* The source is borrowed until _stopp.  *ret is NULL for an engine whose streams keep nothing on the server. */
HF_MUST_CHECK bool hf_slot_watch_start(const struct hf_worker_source *source, struct hf_slot_watch **ret,
                                       struct hf_error *err);
void hf_slot_watch_stopp(struct hf_slot_watch **watch);
/* The last one; nothing is known of NULL. */
struct hf_slot_measure hf_slot_watch_measure(struct hf_slot_watch *watch);
/* What the receiver looks at; NULL for NULL. */
struct hf_stream_let_go *hf_slot_watch_let_go(struct hf_slot_watch *watch);
/* Measures now: true, with the reason, when the slot keeps too much.  For when nothing is received. */
bool hf_slot_watch_is_over(struct hf_slot_watch *watch, char why[static HF_STREAM_WHY_BYTES]);
