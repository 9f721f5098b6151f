/*
 * ask.h - one statement of the owner's, put to the copy: read-only, for a minute, one value
 */
#pragma once
#include "server/verify/engine.h"

/* Times are told in UTC. */
HF_MUST_CHECK bool hf_mariadb_ask_copy(struct hf_asker *asker, const struct hf_assertion *assertion,
                                       struct hf_answer *ret);
