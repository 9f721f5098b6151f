/*
 * codec.h - what the encoders of this room share and nobody else needs
 */
#pragma once
#include "server/storage/format.h"

/* Signed numbers as unsigned ones, small for small: 0, -1, 1, -2, ... become 0, 1, 2, 3, ... */
static inline uint64_t
hf_zigzag(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}

static inline int64_t
hf_unzigzag(uint64_t value)
{
    return (int64_t)((value >> 1) ^ (0 - (value & 1)));
}

/* Pages that a file of `size` bytes has, the short one at its end included, and the map leaves for them. */
static inline uint64_t
hf_pages_of(uint64_t size, uint8_t page_log2)
{
    return (size >> page_log2) + ((size & ((UINT64_C(1) << page_log2) - 1)) != 0);
}

static inline uint64_t
hf_leaves_of(uint64_t size, uint8_t page_log2)
{
    const uint64_t pages = hf_pages_of(size, page_log2);
    return pages / HF_LEAF_PAGES + (pages % HF_LEAF_PAGES != 0);
}
