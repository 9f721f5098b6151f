/*
 * environment.h - what a restore must know and the data directory does not hold
 *
 * A JSON object:
 *   server {version, comment, compiled_for}, variables {name: value} (all global ones but those that can hold a
 *   secret), plugins [{name, version, status, type, library, license}], character_sets [{database, character_set,
 *   collation}], users {count} (MariaDB and MySQL: of mysql.user; null when the account may not read it), engines
 *   [{engine, tables, bytes}], encryption {plugin, encrypted_tablespaces}, option_files [path], denied [what could not
 *   be asked]
 *
 * Option files are taken only where the backup tool's host is this one, and where they are readable: they go to the
 * sink as holdfast_config/<number>-<name>, without the lines that give a password.
 */
#pragma once
#include "server/source/mariadb/client.h"

/* Of struct hf_source_engine. */
HF_MUST_CHECK bool hf_mariadb_capture_environment(const struct hf_flavour *flavour,
                                                  const struct hf_source_target *target,
                                                  const struct hf_backup_sink *sink, json_t **ret,
                                                  struct hf_error *err);
