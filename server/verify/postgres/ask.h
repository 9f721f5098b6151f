/*
 * ask.h - one statement of the owner's, put to the copy or to the source: read-only, for a minute, one value
 */
#pragma once
#include "server/verify/engine.h"
#include "server/verify/postgres/query.h"

HF_MUST_CHECK bool hf_postgres_ask_copy(const struct hf_query_target *target, const struct hf_assertion *assertion,
                                        struct hf_answer *ret);
HF_MUST_CHECK bool hf_postgres_ask_source(const struct hf_source_target *live, const atomic_bool *cancel,
                                          const struct hf_assertion *assertion, struct hf_answer *ret,
                                          struct hf_error *err);
