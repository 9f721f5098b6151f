/*
 * keys.h - whether the keys of encrypted tables that the appliance was given are those of the backup
 *
 * Settles "table_keys".  Without keys, with those of a plugin that we do not know, or with keys of an id that open no
 * table, nothing can be said about the backup: the check is not determinable, and the attempt is over.  A key that
 * opens one table is the right one, so that what another table of the same key lacks is damage and not the key.
 */
#pragma once
#include "sandbox/engine_mariadb.h"
#include "server/verify/engine.h"

HF_MUST_CHECK bool hf_mariadb_check_keys(struct hf_attempt *attempt, const struct hf_mariadb_layout *layout,
                                         struct hf_error *err);
