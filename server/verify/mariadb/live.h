/*
 * live.h - questions to the source itself, as our account on it
 */
#pragma once
#include "server/source/mariadb/gtid.h"
#include "server/verify/engine.h"

/* The GTIDs of its binary log, now.  The errors of a connection; USAGE when it keeps no log. */
HF_MUST_CHECK bool hf_mariadb_live_gtids(const struct hf_source_target *live, struct hf_gtid_set *ret,
                                         struct hf_error *err);

/* One statement of the owner's: read-only, for a minute.  False only for what is fatal. */
HF_MUST_CHECK bool hf_mariadb_ask_live(const struct hf_source_target *live, const struct hf_assertion *assertion,
                                       struct hf_answer *ret, struct hf_error *err);
