/*
 * show.h - answers as a person reads them: one function a command
 *
 * Each adds to `out` what stands on stdout.  Members that a newer daemon leaves out show as "-".
 */
#pragma once
#include "server/cli/command.h"

typedef bool hf_show_function(struct hf_cli *cli, const json_t *result, struct hf_buf *out, struct hf_error *err);

hf_show_function hf_show_any, hf_show_nothing, hf_show_init, hf_show_source_added, hf_show_source_removed,
    hf_show_sources, hf_show_doctor, hf_show_backup, hf_show_backups, hf_show_verify, hf_show_restore, hf_show_status,
    hf_show_evidence_verify, hf_show_evidence, hf_show_check, hf_show_scrub, hf_show_gc, hf_show_takeover,
    hf_show_rebuild, hf_show_jobs, hf_show_job_cancelled, hf_show_settings, hf_show_version, hf_show_copy, hf_show_heal,
    hf_show_promoted, hf_show_keys, hf_show_key_added, hf_show_key_removed, hf_show_drills, hf_show_rotated,
    hf_show_recovery_kit, hf_show_vaults, hf_show_shredded, hf_show_report, hf_show_export;

/* The recovery kit as it is printed. */
HF_MUST_CHECK bool hf_show_kit_text(const json_t *result, struct hf_buf *out, struct hf_error *err);
/* The lines of the status on the copies of the repository. */
HF_MUST_CHECK bool hf_show_second_places(const json_t *places, struct hf_buf *out, struct hf_error *err);

/* The scrub's line of the status: "scrub       complete 2026-11-20 ..., 40 % of this pass, oldest pack ...". */
HF_MUST_CHECK bool hf_show_scrub_line(const json_t *scrub, struct hf_buf *out, struct hf_error *err);
/* Parts of several answers: the object "lost" of server/job/damage.h (nothing for NULL), and the rows "affected". */
HF_MUST_CHECK bool hf_show_lost(const json_t *lost, struct hf_buf *out, struct hf_error *err);
HF_MUST_CHECK bool hf_show_affected(const json_t *affected, struct hf_buf *out, struct hf_error *err);
/* show_exceptions.c */
hf_show_function hf_show_exception, hf_show_exceptions;
/* Of the status: sources whose newest attempt did not pass, and who bears with that. */
HF_MUST_CHECK bool hf_show_accepted(const json_t *sources, struct hf_buf *out, struct hf_error *err);
/* show_retention.c */
hf_show_function hf_show_retention_plan, hf_show_retention_apply, hf_show_hold_added, hf_show_hold_released,
    hf_show_holds, hf_show_lock, hf_show_catalog_check, hf_show_catalog_acknowledged;
/* Below a status: what nobody would look for, and the commands that mend what is wrong. */
HF_MUST_CHECK bool hf_show_alarms(const json_t *status, struct hf_buf *out, struct hf_error *err);

/* What must not be overlooked of a source's stream: its clock, its slot. */
HF_MUST_CHECK bool hf_show_stream_warnings(const json_t *source, struct hf_buf *out, struct hf_error *err);
