/*
 * ask.h - one statement of the owner's, put to the copy: read-only, for a minute, one value
 */
#pragma once
#include "server/verify/engine.h"

/* To the server behind a socket.  Times are told in UTC. */
HF_MUST_CHECK bool hf_mariadb_ask_copy(const char *socket, const struct hf_assertion *assertion, struct hf_answer *ret);
