/*
 * job_state.h - where a job is, and every way it gets elsewhere
 *
 *                start                 its worker said how it went, and its records are written
 *     queued ------------> running --------------> finished   it was done (exit 0, or 3 when the answer is bad news)
 *        |                    |----------------->  failed     it could not be done, or its worker was killed
 *        | cancel             |-- cancel ------->  cancelled  a person asked, or who waited for it went away
 *        +------------------------------------->  cancelled
 *     queued, running ---- the daemon was killed ----> lost   found at the next start; nobody knows how far it came
 *
 * Who makes the transitions: hf_jobs_add (queued), start_job and end_job in jobs.c (the others), hf_catalog_jobs_lost
 * at start (lost).  The table `job` of the catalog follows each at once.  A job that has ended stays as it is.
 * A cancelled job that committed before it heard of it is finished, not cancelled: what was done counts.
 */
#pragma once
#include "base/error.h"

enum hf_job_state {
    HF_JOB_QUEUED,
    HF_JOB_RUNNING,
    HF_JOB_FINISHED,
    HF_JOB_FAILED,
    HF_JOB_CANCELLED,
    HF_JOB_LOST,
};

const char *hf_job_state_name(enum hf_job_state state); // "queued", in catalog and API
/* Whether the drawing has that arrow. */
bool hf_job_state_may(enum hf_job_state from, enum hf_job_state to);
bool hf_job_state_has_ended(enum hf_job_state state);
