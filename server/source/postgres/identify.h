/*
 * identify.h - which database is it? asked before anything is taken from it
 */
#pragma once
#include "server/source/source.h"

/* The identify() of the engine table.  CONFLICT, with both identifiers, when it is not the one the target names. */
HF_MUST_CHECK bool hf_postgres_ask_identity(const struct hf_source_target *target, struct hf_source_identity *ret,
                                            struct hf_error *err);
