/*
 * environment.h - what a restored copy needs to know of the server it came from
 *
 * Configuration often lies outside the data directory, locales and libraries always do.  They are read
 * with SQL, each part by itself: what the role may not see, or the release does not have, is named under
 * "denied" with the server's own words and stops nothing.
 *
 *     { "captured_at", "server": {...}, "settings": [...], "file_settings": [...], "hba_rules": [...],
 *       "ident_mappings": [...], "roles": {...}, "databases": [...], "tablespaces": [...], "slots": [...],
 *       "libraries": [...], "build": [...],
 *       "per_database": [{"database", "extensions": [...], "collations": [...]}],
 *       "files": [{"path", "stored_as", "bytes"}], "denied": [{"what", "why"}] }
 *
 * Members of a row are named after the columns of PostgreSQL's own views.
 */
#pragma once
#include "server/source/source.h"

#define HF_ENVIRONMENT_ROWS_MOST      20000 // of one part
#define HF_ENVIRONMENT_TEXT_MOST      65536 // bytes of one value
#define HF_ENVIRONMENT_FILE_MOST      (1 * HF_MIB)
#define HF_ENVIRONMENT_FILES_MOST     64
#define HF_ENVIRONMENT_DATABASES_MOST 2000 // connected to, one after the other

HF_MUST_CHECK bool hf_postgres_capture_environment(const struct hf_source_target *target,
                                                   const struct hf_backup_sink *sink, json_t **ret,
                                                   struct hf_error *err);
