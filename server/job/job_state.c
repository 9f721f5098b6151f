#include "server/job/job_state.h"

static const char *const names[] = {
    [HF_JOB_QUEUED] = "queued", [HF_JOB_RUNNING] = "running",     [HF_JOB_FINISHED] = "finished",
    [HF_JOB_FAILED] = "failed", [HF_JOB_CANCELLED] = "cancelled", [HF_JOB_LOST] = "lost",
};

const char *
hf_job_state_name(enum hf_job_state state)
{
    return names[state];
}

bool
hf_job_state_may(enum hf_job_state from, enum hf_job_state to)
{
    switch (from) {
    case HF_JOB_QUEUED:
        return to == HF_JOB_RUNNING || to == HF_JOB_CANCELLED || to == HF_JOB_LOST;
    case HF_JOB_RUNNING:
        return to == HF_JOB_FINISHED || to == HF_JOB_FAILED || to == HF_JOB_CANCELLED || to == HF_JOB_LOST;
    case HF_JOB_FINISHED:
    case HF_JOB_FAILED:
    case HF_JOB_CANCELLED:
    case HF_JOB_LOST:
        return false;
    }
    return false;
}

bool
hf_job_state_has_ended(enum hf_job_state state)
{
    return state != HF_JOB_QUEUED && state != HF_JOB_RUNNING;
}
