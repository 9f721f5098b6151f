/*
 * stream_status.h - how a source's stream stands, for `holdfast status`
 */
#pragma once
#include "server/job/daemon_internal.h"

/*
 * *ret is null when there is no stream and never was one; else {state, lag_ms, now, windows}:
 *   state    receiving; asynchronous: receiving, but the server has stopped waiting for acknowledgements; behind, for
 *            more than a minute; disconnected; starting; stopped: nobody receives it; off: it is not
 *            wanted any more, and what there is stays
 *   lag_ms   the age of the newest moment of which we have everything; null while not known
 *   now      what the receiver said last (run_stream.c), or null
 *   windows  what is in packs: [{start, end, timeline, first_commit_at, last_commit_at, commits, stored_bytes}]
 * Bad news is everything but "receiving" and "off".  Owner of *ret: the caller.
 */
HF_MUST_CHECK bool hf_stream_status(struct hf_daemon *daemon, const char *source, json_t **ret, bool *ret_bad_news,
                                    struct hf_error *err);
