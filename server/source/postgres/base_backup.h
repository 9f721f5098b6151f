/*
 * base_backup.h - one physical backup over the replication protocol, from the first byte to the proof
 *
 *     connect, identify, read sizes       two connections to one system, or no backup
 *     temporary slot                      the log is kept from here on (wal_receive.h)
 *     BASE_BACKUP                         answers: start row, tablespaces, tars, manifest, stop row, done
 *     wait for the log to the stop row
 *     compare                             label, pg_control, manifest, sizes and checksums of every file
 *
 * PostgreSQL 15 and later send one COPY of typed messages: 'n' a tar begins, 'd' its bytes, 'p' progress,
 * 'm' the manifest begins.  13 and 14 send one COPY a tar and one for the manifest, and leave out the zero
 * blocks at a tar's end.  Behind the receiving of bytes both are the same.
 *
 */
#pragma once
#include "server/source/postgres/facts.h"

/* As struct hf_source_engine says of backup(), but tells all.  Owner of *ret: the caller, hf_postgres_facts_done(). */
HF_MUST_CHECK bool hf_postgres_take_backup(const struct hf_backup_request *request, struct hf_postgres_facts *ret,
                                           struct hf_error *err);
/* Of struct hf_source_engine. */

HF_MUST_CHECK bool hf_postgres_backup(const struct hf_backup_request *request, struct hf_backup_facts *ret,
                                      struct hf_error *err);
