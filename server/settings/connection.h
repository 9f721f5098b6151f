/*
 * connection.h - connection texts that may be written down
 *
 * Settings and records are read by more people than may know a password, so a text that holds one is
 * refused.  Pairs are those of base/words.h; what keys there are, the engine says.
 */
#pragma once
#include "base/error.h"

/*
 * Errors: USAGE for a password (with a hint to password_file), for the URI form, and for broken grammar; all name
 * `setting`.
 */
HF_MUST_CHECK bool hf_connection_check(const char *setting, const char *text, struct hf_error *err);
