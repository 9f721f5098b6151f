/*
 * table_keys.h - the keys of a source's encrypted tables, for workers that open a copy of it
 */
#pragma once
#include "base/json.h"
#include "server/source/mariadb/table_keys.h"

/*
 * `described` is the source as hf_daemon_describe_source() has it; NULL or null: it is not known any more.  *ret is
 * NULL when its settings name no such file.  Errors: those of hf_table_keys_read().  Owner of *ret: the caller.
 */
HF_MUST_CHECK bool hf_job_table_keys(const json_t *described, struct hf_table_keys **ret, struct hf_error *err);
