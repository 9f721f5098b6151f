/*
 * log_serve.h - the daemon's side of the workers that serve log (log_socket.h): when one begins, and when all end
 */
#pragma once
#include "server/job/daemon.h"

#define HF_LOG_GET_AHEAD 8 // segments fetched in advance, unless somebody says otherwise

/* Starts the one of a source, unless there is one. */
HF_MUST_CHECK bool hf_log_serve_begin(struct hf_daemon *daemon, const char *source, struct hf_error *err);
/* Sources or keys have changed: all end, and come back when they are asked for. */
void hf_log_serve_end_all(struct hf_daemon *daemon);
/* The name of the only source that is streamed; USAGE when there is none, or more than one. */
HF_MUST_CHECK bool hf_log_serve_only(struct hf_daemon *daemon, char name[static HF_JOB_SUBJECT_BYTES],
                                     struct hf_error *err);
