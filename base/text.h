/*
 * text.h - text that strangers wrote
 */
#pragma once
#include "base/attributes.h"

/* Bytes of the UTF-8 character at the front (1 to 4), or 0 when `left` bytes do not begin with a whole valid one. */
size_t hf_utf8_length(const uint8_t *at, size_t left);
