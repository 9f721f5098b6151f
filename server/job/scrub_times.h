/*
 * scrub_times.h - how far the scrub is: facts of the catalog and what they add up to
 *
 * Facts: "scrub pass began", "scrub pass completed", each a moment in milliseconds.
 */
#pragma once
#include "catalog/local.h"
#include "server/settings/settings.h"

struct hf_scrub_times {
    int64_t pass_began_at, completed_at; // -1: never
};
HF_MUST_CHECK bool hf_scrub_times_read(struct hf_catalog *catalog, struct hf_scrub_times *ret, struct hf_error *err);
HF_MUST_CHECK bool hf_scrub_times_begin_pass(struct hf_catalog *catalog, int64_t now, struct hf_error *err);
/* When every pack was looked at since the pass began, it is complete and the next one begins. */
HF_MUST_CHECK bool hf_scrub_times_end_pass(struct hf_catalog *catalog, int64_t now, bool *ret_complete,
                                           struct hf_error *err);
/*
 * What `status` says of it: {"completed_at", "pass_began_at", "packs", "bytes", "bytes_done", "never_checked",
 * "oldest_checked_at", "unsound", "late"}; late: the pass takes longer than the window.
 */
HF_MUST_CHECK bool hf_scrub_status(struct hf_catalog *catalog, const struct hf_settings *settings, int64_t now,
                                   json_t **ret, struct hf_error *err);
