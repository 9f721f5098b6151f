/*
 * stream_builder.h - chunks of mbstream, right ones and wrong ones
 */
#pragma once
#include "base/buf.h"

/* Add to the buffer; fail the test when there is no memory. */
void hf_test_chunk_payload(struct hf_buf *out, uint8_t flags, const char *path, uint64_t offset, const void *data,
                           size_t length);
void hf_test_chunk_end(struct hf_buf *out, const char *path);
void hf_test_chunk_named(struct hf_buf *out, char type, const char *path); // no more than a name: D, E, anything
void hf_test_chunk_rename(struct hf_buf *out, const char *path, const char *to);
/* xbstream's: nothing but holes, from byte 0 on; the checksum is left out. */
void hf_test_chunk_holes(struct hf_buf *out, const char *path, uint32_t pairs, uint32_t hole);
/* xbstream's: a hole before the bytes. */
void hf_test_chunk_sparse(struct hf_buf *out, const char *path, uint64_t offset, uint32_t hole, const void *data,
                          size_t length);
