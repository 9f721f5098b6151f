/*
 * doctor.h - every precondition of a backup, looked at before the first one fails
 *
 * Each check has an id that never changes, a verdict, what was found, and the exact statement, line or
 * setting that mends it.  Last comes the real thing: a connection as a backup opens it.  When the first
 * check fails there are no others.  Ids, in order:
 *
 *     connection password_place direct_connection replication_right wal_level wal_senders
 *     replication_slots slot_wal_limit leftover_slots full_page_writes fsync data_checksums block_size
 *     standby tls settings_visible access_rules_visible config_files_readable tablespaces
 *     extensions locales replication_connection system_identifier
 */
#pragma once
#include "server/source/source.h"

HF_MUST_CHECK bool hf_postgres_doctor(const struct hf_source_target *target,
                                      const struct hf_appliance_abilities *abilities, struct hf_checks *ret,
                                      struct hf_error *err);
