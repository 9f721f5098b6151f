/*
 * connection.h - connection texts that may be written down
 *
 * Settings and records are read by more people than may know a password, so a text that holds one is
 * refused.  The grammar is libpq's "key = value" form (PostgreSQL 15 documentation, 34.1.1.1): values with
 * spaces stand in single quotes, \ escapes one character.
 */
#pragma once
#include "base/error.h"

/* Errors: USAGE for a password (with a hint to password_file), for the URI form, and for broken grammar. */
HF_MUST_CHECK bool hf_connection_check(const char *text, struct hf_error *err);
