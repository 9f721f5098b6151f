/*
 * census_internal.h - the bytes of a census in a tag cache (tag_cache.h has the format)
 */
#pragma once
#include "server/repository/tag_cache.h"

/* Takes the next bytes of the encoded census; borrowed until it returns. */
typedef bool hf_census_sink(void *context, const uint8_t *bytes, size_t length, struct hf_error *err);

/* Hands the census over in pieces, pack by pack, so that it is never in memory twice. */
HF_MUST_CHECK bool hf_census_encode(const struct hf_census *census, hf_census_sink *sink, void *context,
                                    struct hf_error *err);
/* Reads a census off the front.  CORRUPT when it is none; the reader is then somewhere in it. */
HF_MUST_CHECK bool hf_census_decode(struct hf_reader *reader, struct hf_census **ret, struct hf_error *err);
