/*
 * parse.h - from the text of holdfast.yaml to rows of the table
 *
 * Reads libyaml's events with a stack of four frames: nothing nests deeper.
 */
#pragma once
#include "server/settings/settings.h"

/*
 * Sets the members that the text names; defaults, required rows and what ties settings together are the
 * caller's.  Errors: USAGE "file:line: ...".
 */
HF_MUST_CHECK bool hf_settings_read_yaml(const char *file, const void *text, size_t length,
                                         struct hf_settings *settings, struct hf_error *err);
