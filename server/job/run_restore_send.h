/*
 * run_restore_send.h - a restore to another host: written here first, into a scratch, then sent (send_copy.h)
 *
 * So the copy is proven against its digests before a byte leaves, and the target needs nothing but sshd.  The scratch
 * is gone afterwards.
 */
#pragma once
#include "server/job/worker.h"

bool hf_restore_is_elsewhere(const char *target); // "ssh://..."
HF_MUST_CHECK bool hf_restore_send_run(struct hf_worker *worker, const json_t *request, const char *place,
                                       json_t **ret_result, struct hf_error *err);
