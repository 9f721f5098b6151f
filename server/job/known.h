/*
 * known.h - what the daemon knows beside the evidence: objectives, changes, forecasts and key drills
 *
 * One place for the status, the reports and the evidence itself, so that they say the same.
 */
#pragma once
#include "server/job/daemon.h"
#include "server/report/forecast.h"

/*
 * Of every source: [{name, engine, tier, objective_recovery_ms, objective_loss_ms, verify_every_ms, stream,
 * process (process.h)}]; members are null where nothing is set.
 */
HF_MUST_CHECK bool hf_known_sources(struct hf_daemon *daemon, json_t **ret, struct hf_error *err);
/*
 * Of every key slot in force: [{name, kind, unattended, opened_at, due_at, overdue, failed (why it
 * did not open when it was last tried, or null)}].  A slot was opened by a drill
 * (`holdfast key drill`) or by a verification that went through it; it is due again key_drill_every later.
 */
HF_MUST_CHECK bool hf_known_keys(struct hf_daemon *daemon, json_t **ret, struct hf_error *err);
/* {"appliance", "site", "sources", "keys"}: server/report/report.h. */
HF_MUST_CHECK bool hf_known_all(struct hf_daemon *daemon, json_t **ret, struct hf_error *err);

/* How long the next restore of its newest backup will take; false in *ret_known when nothing was ever recovered. */
HF_MUST_CHECK bool hf_known_forecast(struct hf_daemon *daemon, const char *source, int64_t bytes, bool *ret_known,
                                     struct hf_forecast *ret, struct hf_error *err);
