/*
 * restore_choice.h - which backup a restore starts from
 *
 * A named one, or the newest proven one; when none is proven, the newest, and its state is said.  With a moment: the
 * proven ones that may be its start, of which the worker takes the newest that is (restore_start.h).
 */
#pragma once
#include "server/job/daemon.h"
#include "server/job/restore_target.h"

/*
 * The part of a worker's request that all restores share: starts (ids of backups), vault (id), state, target
 * (restore_target.h).  The backups are pinned for the job.  Errors: USAGE, NOT_FOUND with what there is instead.
 */
HF_MUST_CHECK bool hf_restore_choose(struct hf_daemon *daemon, struct hf_job *job, struct hf_restore_target *ret_moment,
                                     json_t **ret_request, struct hf_error *err);
