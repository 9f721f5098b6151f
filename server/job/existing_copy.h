/*
 * existing_copy.h - may a PostgreSQL folder be restored onto?
 *
 * The hf_restore_examine of a PostgreSQL copy (server/restore/restore.h).
 */
#pragma once
#include "server/restore/restore.h"

/*
 * CONFLICT: a server runs on it (postmaster.pid names a process that lives), or global/pg_control is of another system.
 * NOT_FOUND: there is no copy, or it has no pg_control and does not say either that a restore onto it was cut off.
 */
HF_MUST_CHECK bool hf_existing_copy_examine(void *context, const char *target, bool unfinished, const char *identity,
                                            struct hf_error *err);
