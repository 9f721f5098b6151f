/*
 * progress.h - showing where a job is
 *
 * On a terminal one line that is written over: phase, bytes, share, rate.  Elsewhere a plain line when a phase
 * begins and every ten seconds.  All of it on stderr; the answer is on stdout.
 */
#pragma once
#include <stdio.h>
#include "base/json.h"

struct hf_progress_line {
    FILE *out;     // stderr
    bool terminal; // whether it can be written over
    bool silent;   // shows nothing
    bool open;     // a line stands there that is not ended
    char phase[64];
    uint64_t phase_done, phase_ns; // where and when the phase began
    uint64_t shown_ns;             // when a plain line was last written
};

/* `silent` for programs that read our answer. */
void hf_progress_begin(struct hf_progress_line *line, FILE *out, bool terminal, bool silent);
/* A job, progress or note event; now_ns is the monotonic clock. */
void hf_progress_event(struct hf_progress_line *line, const json_t *event, uint64_t now_ns);
/* Clears what stands there. */
void hf_progress_end(struct hf_progress_line *line);
