#include "server/job/kinds.h"

/* What `holdfast <name>` can ask for that takes time. */
const struct hf_job_kind hf_job_kinds[] = {
    {.name = "backup",
     .of_source = true,
     .needs = HF_JOB_NEEDS_LINEAGE,
     .signs = {HF_LOG_INTENT, HF_LOG_COMMIT, HF_LOG_END, HF_LOG_ABORT},
     .prepare = hf_backup_prepare,
     .run = hf_backup_run,
     .conclude = hf_backup_conclude},
    {.name = "verify",
     .of_source = true,
     .needs = HF_JOB_NEEDS_CREDENTIAL,
     .prepare = hf_verify_prepare,
     .run = hf_verify_job_run,
     .conclude = hf_verify_conclude},
    {.name = "restore",
     .of_source = true,
     .needs = HF_JOB_NEEDS_CREDENTIAL,
     .prepare = hf_restore_prepare,
     .run = hf_restore_run},
    {.name = "repo check", .needs = HF_JOB_NEEDS_CREDENTIAL, .run = hf_check_run, .conclude = hf_check_conclude},
    {.name = "repo scrub",
     .needs = HF_JOB_NEEDS_CREDENTIAL,
     .background = true,
     .prepare = hf_scrub_prepare,
     .run = hf_scrub_run,
     .keep = hf_scrub_keep,
     .conclude = hf_scrub_conclude},
    {.name = "repo gc", .needs = HF_JOB_NEEDS_CREDENTIAL, .run = hf_gc_run},
    {.name = "doctor", .of_source = true, .source_optional = true, .prepare = hf_doctor_prepare, .run = hf_doctor_run},
};
const size_t hf_job_kind_count = HF_LENGTH(hf_job_kinds);
