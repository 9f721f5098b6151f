/*
 * doctor.h - every precondition of a backup, looked at before the first one fails
 *
 * Each check has an id that never changes, a verdict, what was found, and the exact statement or setting that mends it.
 * When the first one fails there are no others but those of the tool.  Ids, in order:
 *
 *     connection transport rights binary_log server_id binlog_format binlog_kept row_image gtid_strict
 *     identity engines encryption backup_tool tool_series
 */
#pragma once
#include "server/source/mariadb/client.h"

HF_MUST_CHECK bool hf_mariadb_doctor(const struct hf_flavour *flavour, const struct hf_source_target *target,
                                     struct hf_checks *ret, struct hf_error *err);
